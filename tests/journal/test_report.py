"""What `mia-daemon journal` shows is what the executor did."""

import csv
import json

import numpy as np
import pytest

from mia_daemon import cli
from mia_daemon.cli.options import time_ns
from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.errors import UsageError
from mia_daemon.journal import formatting, order_history, report
from mia_daemon.journal.explanation import explanation
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import RequestKind
from mia_daemon.records import Alert, Fill, Priority, Side
from mia_daemon.risk.codes import Latch, RiskCode

SYMBOL = "ESZ26_FUT_CME"


@pytest.fixture
def told(capsys):
    """Run `mia-daemon journal …` here; its status, lines of output and sentence."""

    def run(*words):
        status = cli.main(["journal", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err.removeprefix("mia-daemon: ").rstrip("\n")

    return run


@pytest.fixture
async def traded(rig):
    """Two round trips, the second by an operator; a third position is open, and an entry waits."""
    rig.executor.checkpoint()
    rig.decide("buy", 2)
    rig.play((10, 100.0), (10, 100.0), (1000, 101.0))
    rig.journal.record_alert(Alert(rig.ts_ns, "wide_spread", Priority.WARNING, "the spread is wide", {"ticks": 9}))
    rig.decide("exit", 0, "faded")
    rig.play((10, 101.0), (10, 101.0), (1000, 101.0))
    rig.executor.checkpoint()
    rig.decide("sell", -1)
    rig.play((1000, 101.0), (10, 101.0))
    rig.operator.halt("uid 7")
    rig.operator.flatten("operator")
    rig.journal.record_command(rig.ts_ns, "flatten", "uid 7 pid 8", "closing the position")
    rig.play((10, 101.0), (10, 101.0))
    rig.operator.resume("uid 7")
    assert await rig.reconcile()
    rig.operator.halt("uid 7")
    rig.operator.resume("uid 7")
    assert await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 101.0), (10, 101.0), (1000, 101.0))
    rig.executor.checkpoint()
    assert rig.position == 1
    return rig


@pytest.fixture
def view(traded):
    with JournalView(traded.journal.path) as opened:
        yield opened


def test_the_summary_says_how_it_stands(traded, view):
    facts = report.summary(view)
    (run,) = facts["runs"]
    assert (run["run"], run["mode"], run["ended"], run["how"]) == (traded.run_id, "paper", None, None)
    counts = facts["counts"]
    assert (counts["decisions"], counts["fills"], counts["trades"], counts["commands"]) == (4, 5, 2, 1)
    assert facts["positions"] == [{"symbol": SYMBOL, "account": "Sim1", "position": 1}]
    assert [order["role"] for order in facts["open_orders"]] == ["stop", "target"]
    assert [(latch["code"], latch["cleared_by"]) for latch in facts["latches"]] == [("halted", "uid 7")] * 2
    assert facts["profit"] == pytest.approx(sum(trade.profit for trade in traded.notices.trades))
    assert facts["equity"]["position"] == 1
    lines = list(formatting.summary_lines(facts))
    assert any("not ended: it runs, or was killed" in line for line in lines)
    assert f"position  +1 {SYMBOL} in Sim1" in lines
    assert "latches   none set (2 ever)" in lines


def test_a_set_latch_is_shown_with_its_facts(traded):
    traded.operator.halt("uid 9")
    with JournalView(traded.journal.path) as view:
        lines = list(formatting.summary_lines(report.summary(view)))
    assert any(line.startswith("  halted since 2023-11-14T") and line.endswith("by=uid 9") for line in lines)


def test_a_latch_the_journal_lacks_is_shown_as_waiting_for_it(traded):
    traded.journal.keep_latch(Latch(RiskCode.DAILY_LOSS, traded.ts_ns, {"result": -1000.0}))
    with JournalView(traded.journal.path) as view:
        facts = report.summary(view)
    (waiting,) = facts["latches_pending"]
    assert (waiting["code"], waiting["context"]) == ("daily_loss", {"result": -1000.0})
    (line,) = [line for line in formatting.summary_lines(facts) if "daily_loss" in line]
    assert line.startswith("  daily_loss since 2023-11-14T")
    assert line.endswith(
        " result=-1000.0: not in the journal, which could not be written; it will be with the next start"
    )


def test_a_journal_of_a_run_that_did_nothing_says_so(make_rig):
    with JournalView(make_rig().journal.path) as view:
        facts = report.summary(view)
    assert (facts["equity"], facts["last_event"], facts["positions"]) == (None, None, [])
    lines = list(formatting.summary_lines(facts))
    assert lines[-3:] == [
        "profit    +0.00 after costs, by 0 round trips",
        "position  flat",
        "orders    none not known to be done",
    ]


def test_long_lists_are_cut_and_say_so(view):
    facts = report.summary(view)
    many = facts | {"runs": facts["runs"] * 30, "open_orders": facts["open_orders"] * 30}
    lines = list(formatting.summary_lines(many))
    assert "runs      30, the last 10:" in lines
    assert "  and 40 more" in lines
    found = list(formatting.finding_lines({"positions": ["wrong"] * 50, "orders": []}))
    assert len(found) == 23
    assert found[21] == "  and 30 more: --json has all"


def test_round_trips_are_those_that_were_booked(traded, view):
    trades = list(report.round_trips(view))
    booked = traded.notices.trades
    assert [trade["trade_id"] for trade in trades] == [trade.trade_id for trade in booked]
    assert [trade["profit"] for trade in trades] == [trade.profit for trade in booked]
    assert [trade["exit_reason"] for trade in trades] == ["faded", "operator"]
    assert tuple(trades[0]) == report.TRADE_COLUMNS
    assert list(report.round_trips(view, booked[1].exit_ns)) == trades[1:]
    assert list(report.round_trips(view, run=traded.run_id)) == trades
    assert list(report.round_trips(view, run="another")) == []
    with pytest.raises(UsageError, match="knows no run another"):
        report.check_run(view, "another")


def test_orders_tell_their_states_in_time(traded, view):
    orders = {order["order"][-2:]: order for order in order_history.orders(view)}
    assert len(orders) == 9
    entry, target = orders["1E"], orders["1T"]
    assert [event["event"] for event in entry["events"]] == ["intent", "accepted", "working", "fill", "filled"]
    asked = [event for event in target["events"] if event["event"] == "ask replace"]
    assert [event["reason"] for event in asked] == ["faded"]
    assert [event["event"] for event in target["events"]][-2:] == ["fill", "filled"]
    assert (target["parent"], target["status"], target["booked"]) == (entry["order"], "filled", 2)
    times = [event["time"] for order in orders.values() for event in order["events"]]
    assert None not in times
    for order in orders.values():
        of_order = [event["time"] for event in order["events"]]
        assert of_order == sorted(of_order)
    late = max(order["events"][0]["time"] for order in orders.values())
    assert [o["order"][-2:] for o in order_history.orders(view, time_ns(late))] == ["3E", "3S", "3T"]
    assert len(list(order_history.orders(view, run=traded.run_id))) == 9
    assert list(order_history.orders(view, run="another")) == []


def test_what_was_asked_of_an_order_is_told_with_what_it_asked_for(traded):
    """A move names its price, a cancel has none."""
    stop = f"{traded.run_id}-3S"
    traded.journal.record_request(stop, RequestKind.REPLACE, traded.ts_ns, 99.5, 1, "trailed")
    traded.journal.record_request(stop, RequestKind.CANCEL, traded.ts_ns)
    with JournalView(traded.journal.path) as view:
        (order,) = [order for order in order_history.orders(view) if order["order"] == stop]
    at = iso_utc(traded.ts_ns)
    assert order["events"][-2:] == [
        {"time": at, "event": "ask replace", "price": 99.5, "reason": "trailed"},
        {"time": at, "event": "ask cancel"},
    ]


def test_the_features_people_look_at_are_shown_with_the_trip_they_led_to(traded):
    first = traded.notices.trades[0]
    traded.journal._db.execute("""UPDATE runs SET shown = '{"spread": 0, "vwap": 2, "gone": 3}'""")
    traded.journal.record_features(first.decision_id, np.array([0.25, 9.0, 1234.56], np.float32))
    traded.journal.commit()
    with JournalView(traded.journal.path) as view:
        facts = explanation(view, first.trade_id)
    assert facts["features"] == {"spread": 0.25, "vwap": pytest.approx(1234.56)}
    assert "  features spread 0.25, vwap 1235" in list(formatting.explanation_lines(facts))


def test_a_round_trip_is_explained_from_decision_to_equity(traded, view):
    first = traded.notices.trades[0]
    facts = explanation(view, first.trade_id)
    decision = facts["decision"]
    assert (decision["decision_id"], decision["action"], decision["target"]) == (first.decision_id, "buy", 2)
    assert (decision["regime"], decision["probability"], decision["reason"]) == ("range", 0.8, "signal")
    assert decision["observation_sha256"] == "0" * 16
    assert (decision["verdict"], decision["verdict_context"], decision["overtrade_risk_score"]) == ("ok", {}, 0.0)
    assert (facts["exit_decision"]["reason"], facts["exit_decision"]["verdict"]) == ("faded", None)
    assert [order["role"] for order in facts["orders"]] == ["entry", "stop", "target"]
    assert sum(fill["quantity"] for fill in facts["fills"]) == 4
    assert facts["fills"][-1]["position"] == 0
    before, after = facts["equity"]["before"], facts["equity"]["after"]
    assert after["equity"] - before["equity"] == pytest.approx(first.profit)
    assert [alert["code"] for alert in facts["alerts"]] == ["wide_spread"]
    assert [run["run"] for run in facts["runs"]] == [traded.run_id]
    lines = "\n".join(formatting.explanation_lines(facts))
    for said in (first.trade_id, "closed by faded", "regime range", "risk ok", "execution", "decision to exit"):
        assert said in lines
    assert json.loads(json.dumps(facts)) == facts


def test_what_an_operator_closed_says_so(traded, view):
    facts = explanation(view, traded.notices.trades[1].trade_id)
    assert facts["exit_decision"] is None
    assert [command["command"] for command in facts["commands"]] == ["flatten"]
    assert "flatten by uid 7 pid 8" in "\n".join(formatting.explanation_lines(facts))


def test_an_open_round_trip_is_explained_too(traded, view):
    facts = explanation(view, traded.ledger.trade_id)
    assert (facts["trade"]["exit_time"], facts["trade"]["quantity"]) == (None, 1)
    assert len(facts["fills"]) == 1
    assert "still open" in next(iter(formatting.explanation_lines(facts)))
    with pytest.raises(UsageError, match="knows no round trip x, nor one with an order of this name"):
        explanation(view, "x")


def test_each_order_names_its_round_trip(traded, view):
    """What a person reads at the terminal is the orders' names."""
    trades = traded.notices.trades
    named = {fill["order"]: trade.trade_id for trade in trades for fill in explanation(view, trade.trade_id)["fills"]}
    entry = explanation(view, trades[0].trade_id)["orders"][0]["order"]
    assert named[entry] == trades[0].trade_id
    named[f"{entry[:-1]}S"] = trades[0].trade_id  # the stop that did not fill
    assert len(set(named.values())) == len(trades)
    assert {name: explanation(view, name)["trade"]["trade_id"] for name in named} == named


def test_a_position_of_nobodys_is_explained_as_that(rig):
    for number, side in enumerate((Side.BUY, Side.SELL)):
        fill = Fill(rig.ts_ns + number * NS_PER_S, f"x{number}", "", "", SYMBOL, "Sim1", side, 1, 100.0)
        rig.actors.accounting.apply_external_fill(fill, "drift")
    (trade,) = rig.notices.trades
    with JournalView(rig.journal.path) as view:
        facts = explanation(view, trade.trade_id)
    assert (facts["decision"], facts["orders"], facts["runs"], facts["features"]) == (None, [], [], {})
    assert [fill["order"] for fill in facts["fills"]] == [None, None]
    lines = "\n".join(formatting.explanation_lines(facts))
    assert "not on file" in lines
    assert "by nobody we know" in lines


# As typed.


def test_the_commands_as_typed(traded, told):
    path = traded.journal.path
    status, lines, said = told("show", "--file", path)
    assert (status, said, lines[0]) == (0, "", f"journal {path}, version 3")
    first = traded.notices.trades[0].trade_id
    for words, expected in (
        (("trades",), first),
        (("orders",), "ask replace"),
        (("explain", first), f"round trip {first}"),
        (("verify",), "ok"),
    ):
        status, lines, said = told(*words, "--file", path)
        assert (status, said) == (0, "")
        assert any(expected in line for line in lines)
        status, lines, said = told(*words, "--file", path, "--json")
        assert (status, said) == (0, "")
        assert json.loads("\n".join(lines))
    status, lines, _ = told("trades", "--file", path, "--csv")
    rows = list(csv.DictReader(lines))
    assert [float(row["profit"]) for row in rows] == [trade.profit for trade in traded.notices.trades]
    assert json.loads(rows[0]["regime_probs"]) == {"range": 0.7, "trend": 0.2, "defensive": 0.1}
    status, lines, _ = told("statistics", "--file", path, "--by", "exit_reason", "--csv")
    *_, total = csv.DictReader(lines)
    assert (total["exit_reason"], int(total["trades"])) == ("total", len(rows))
    assert "exit_reason" in told("statistics", "--file", path, "--by", "exit_reason")[1][1]
    nothing = told("trades", "--file", path, "--csv", "--since", iso_utc(traded.ts_ns + NS_PER_S))
    assert nothing == (0, [",".join(report.TRADE_COLUMNS)], "")


def test_violations_are_an_exit_status(traded, told):
    traded.journal._db.execute("UPDATE trades SET gross = gross + 1")
    status, lines, _ = told("verify", "--file", traded.journal.path)
    assert status == 1
    assert "money follows from the fills             4 wrong" in lines
    status, lines, _ = told("verify", "--file", traded.journal.path, "--json")
    assert (status, json.loads("\n".join(lines))["sound"]) == (1, False)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("show", "--var", "nowhere"), 1, "there is no journal at nowhere/journal/paper.db"),
        (("show", "--mode", "live", "--var", "nowhere"), 1, "nowhere/journal/live.db"),
        (("show", "--mode", "replay"), 1, "var/replay/journal/replay.db"),
        (("show", "--mode", "live", "--file", "x"), 2, "not allowed with"),
        (("trades", "--json", "--csv"), 2, "not allowed with"),
        (("trades", "--since", "yesterday"), 2, "'yesterday' is no time"),
        (("explain",), 2, "NAME"),
        ((), 2, "WHAT"),
    ],
)
def test_what_is_wrong_is_one_sentence(told, monkeypatch, tmp_path, words, status, says):
    monkeypatch.chdir(tmp_path)
    ended, out, sentence = told(*words)
    assert (ended, out) == (status, [])
    assert says in sentence
    assert "\n" not in sentence


def test_the_mode_may_stand_before_the_command(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--mode", "live", "--var", "here", "journal", "show"]) == 1
    assert "here/journal/live.db" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("moment", "ns"),
    [
        ("2026-11-22", 1_795_305_600 * NS_PER_S),
        ("2026-11-22T14:00:00.000123Z", 1_795_356_000 * NS_PER_S + 123_000),
        ("2026-11-22T14:00+01:00", 1_795_352_400 * NS_PER_S),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(moment, ns):
    assert time_ns(moment) == ns
