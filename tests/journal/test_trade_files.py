import csv
import json
import math
import os
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_headers import run_bundle, run_header

from mia_daemon.clock import iso_utc
from mia_daemon.journal.background import Background
from mia_daemon.journal.table_rows import TableRows, regime_json
from mia_daemon.journal.trade_files import REBUILD, TradeLog
from mia_daemon.journal.trade_snapshot import OpenTrade
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Action, Decision, Fill, Prediction, RegimeProbs, Side, Trade

TS = 1_790_000_000_123_456_789
PROBS = RegimeProbs(0.7, 0.2, 0.1)


@pytest.fixture
def log(tmp_path):
    opened = TradeLog(tmp_path, simulated=True)
    yield opened
    opened.close()


def decision(
    action=Action.BUY, *, signal=0.5, probability=0.8, probs=PROBS, ts_ns=TS, trade_id="", score=0.0, name="r-1"
):
    said = Prediction(probs, signal, probability, "baseline", 0.0, "ab")
    return Decision(
        name, 1, ts_ns, action, 1, "signal", said, 6000.0, 6000.25, trade_id=trade_id, overtrade_risk_score=score
    )


def trade(name="r-1", profit=146.0):
    return Trade(
        name, "ESZ26_FUT_CME", Side.SELL, 2, TS - 10**9, TS, 6000.25, 5998.5, profit + 4, 4.0, PROBS, "r-1", "target"
    )  # fmt: skip


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_files_are_there_with_their_headers_from_the_start(log, tmp_path):
    headers = {
        "trades/trades_simulated.csv": "trade_id,timestamp,entry_price,profit,regime_probs",
        "logs/trading/alpha_scores.csv": "timestamp,alpha_score,regime_probs",
        "logs/trading/decision_log.csv": "timestamp,trade_id,decision,signal_score,regime_probs",
        "logs/trading/penalty_log.csv": "timestamp,penalty_active,overtrade_risk_score",
    }
    assert {name: (tmp_path / name).read_text() for name in headers} == {
        name: header + "\n" for name, header in headers.items()
    }
    TradeLog(tmp_path, simulated=False).close()
    assert (tmp_path / "trades/trades_real.csv").exists()


def test_a_decision_is_a_row_of_scores_and_a_row_of_the_log(log, tmp_path):
    log.decision(decision(trade_id="r-1"))
    log.decision(decision(Action.HOLD, signal=-0.25, ts_ns=TS + 10**9))
    assert read(tmp_path / "logs/trading/alpha_scores.csv") == []  # the journal may not have them yet
    log.flush()
    assert read(tmp_path / "logs/trading/alpha_scores.csv") == [
        {"timestamp": "2026-09-21T14:13:20.123456Z", "alpha_score": "0.8",
         "regime_probs": '{"range": 0.7, "trend": 0.2, "defensive": 0.1}'},
        {"timestamp": "2026-09-21T14:13:21.123456Z", "alpha_score": "0.8",
         "regime_probs": '{"range": 0.7, "trend": 0.2, "defensive": 0.1}'},
    ]  # fmt: skip
    first, second = read(tmp_path / "logs/trading/decision_log.csv")
    assert (first["trade_id"], first["decision"], first["signal_score"]) == ("r-1", "buy", "0.5")
    assert (second["trade_id"], second["decision"], second["signal_score"]) == ("", "hold", "-0.25")


@given(
    st.integers(0, 2**62),
    st.floats(-1, 1, width=32),
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
)  # fmt: skip
def test_rows_formatted_by_hand_read_back_as_what_they_say(tmp_path_factory, ts_ns, signal, probs):
    path = tmp_path_factory.mktemp("t")
    log = TradeLog(path, simulated=True)
    log.decision(decision(signal=signal, probability=abs(signal), probs=RegimeProbs(*probs), ts_ns=ts_ns, trade_id="x"))
    log.close()
    (row,) = read(path / "logs/trading/decision_log.csv")
    (score,) = read(path / "logs/trading/alpha_scores.csv")
    assert row["timestamp"] == score["timestamp"] == iso_utc(ts_ns)
    assert float(row["signal_score"]) == pytest.approx(signal, rel=1e-6)
    assert float(score["alpha_score"]) == pytest.approx(abs(signal), rel=1e-6)
    for text in (row["regime_probs"], score["regime_probs"]):
        parsed = json.loads(text)
        assert list(parsed) == ["range", "trend", "defensive"]
        assert list(parsed.values()) == pytest.approx(probs, rel=1e-4, abs=1e-12)


def test_what_is_no_number_stays_readable(log, tmp_path):
    log.decision(decision(signal=math.nan, probability=math.inf, probs=RegimeProbs(math.nan, 0.5, 0.5)))
    log.flush()
    (row,) = read(tmp_path / "logs/trading/decision_log.csv")
    assert row["signal_score"] == ""
    assert json.loads(row["regime_probs"]) == {"range": None, "trend": None, "defensive": None}
    assert json.loads(regime_json(RegimeProbs(1.0, 0.0, 1e-9))) == {"range": 1, "trend": 0, "defensive": 1e-9}


def test_a_round_trip_is_a_row_and_a_snapshot(log, tmp_path):
    log.trade(trade())
    fill = Fill(TS, "x1", "r-1E", "s", "ESZ26_FUT_CME", "Sim1", Side.SELL, 2, 6000.25)
    values = np.array([0.5, np.nan, 2.5], np.float32)
    shown = {"first": 0, "broken": 1, "last": 2, "of another catalogue": 9}
    log.snapshot(trade(), Background((fill,), "baseline", "b" * 64, "c" * 64, shown, values))
    assert read(tmp_path / "trades/trades_simulated.csv") == [
        {"trade_id": "r-1", "timestamp": "2026-09-21T14:13:20.123456Z", "entry_price": "6000.25", "profit": "146.00",
         "regime_probs": '{"range": 0.7, "trend": 0.2, "defensive": 0.1}'}
    ]  # fmt: skip
    (path,) = (tmp_path / "trade_snapshots").iterdir()
    assert path.name == "trade_20260921_r-1.json"  # sorts by day
    snapshot = json.loads(path.read_text())
    assert (snapshot["trade_id"], snapshot["entry_price"], snapshot["profit"]) == ("r-1", 6000.25, 146.0)
    assert datetime.fromisoformat(snapshot["timestamp"]).tzinfo is not None
    assert (snapshot["side"], snapshot["exit_reason"], snapshot["bundle"]) == ("sell", "target", "baseline")
    assert [one["execution_id"] for one in snapshot["fills"]] == ["x1"]
    assert snapshot["features"] == {"first": 0.5, "broken": None, "last": 2.5}
    assert snapshot["regime_probs"] == {"range": 0.7, "trend": 0.2, "defensive": 0.1}


def test_each_decision_is_a_row_of_penalties(log, tmp_path):
    for n, score in enumerate([0.1, 0.8, 0.9, 1.0, 0.2]):
        log.decision(decision(ts_ns=TS + n, score=score))
    log.flush()
    rows = read(tmp_path / "logs/trading/penalty_log.csv")
    assert [(row["penalty_active"], row["overtrade_risk_score"]) for row in rows] == [
        ("false", "0.1"), ("false", "0.8"), ("true", "0.9"), ("true", "1"), ("false", "0.2")
    ]  # fmt: skip


def test_a_risk_snapshot_is_a_file_of_its_own(log, tmp_path):
    path = log.risk_snapshot(TS, {"timestamp": iso_utc(TS), "drawdown": 0.01})
    assert path == tmp_path / "risk_snapshots" / "risk_20260921T141320_123456Z.json"
    assert json.loads(path.read_text()) == {"timestamp": "2026-09-21T14:13:20.123456Z", "drawdown": 0.01}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.fixture
def make_journal(tmp_path):
    """Begin a run on the journal; the run before it was killed."""
    made = []

    def make(path=tmp_path / "paper.db", files=None, config=None):
        if made:
            made.pop().close()
        made.append(Journal(path, durable=False))
        return made[-1], lambda: made[-1].begin_run(
            run_header(TS, bundle=run_bundle("n", "b", "c", {"first": 0}), files=files, config=config)
        )

    yield make
    if made:
        made.pop().close()


def test_round_trips_lost_with_a_killed_process_are_written_at_the_next_start(tmp_path, make_journal):
    journal, begin = make_journal()
    begin()
    first = TradeLog(tmp_path, simulated=True)
    first.trade(trade("a"))
    first.snapshot(trade("a"), Background(bundle="p"))
    first.close()
    with (tmp_path / "trades/trades_simulated.csv").open("a") as file:
        file.write("b,2026-09-2")  # torn by a power cut
    second = TradeLog(tmp_path, simulated=True)
    for name in "abc":
        journal.record_trade(trade(name))
    assert second.reconcile(journal) == 2
    assert second.reconcile(journal) == 0
    second.trade(trade("d"))
    second.snapshot(trade("d"), Background())
    second.close()
    rows = read(tmp_path / "trades/trades_simulated.csv")
    assert [row["trade_id"] for row in rows] == ["a", "b", "c", "d"]
    assert sorted(path.name for path in (tmp_path / "trade_snapshots").iterdir()) == [
        f"trade_20260921_{name}.json" for name in "abcd"
    ]
    assert json.loads((tmp_path / "trade_snapshots/trade_20260921_a.json").read_text())["bundle"] == "p"


def test_a_snapshot_that_a_kill_left_at_the_entry_is_completed_at_the_next_start(tmp_path, killed):
    path = tmp_path / "trade_snapshots" / "trade_20260921_b.json"
    whole = path.read_bytes()
    log = TradeLog(tmp_path, simulated=True)
    log.open_snapshot(OpenTrade("b", "ES", Side.SELL, 2, TS - 10**9, 6000.25, PROBS, "b"), Background())
    log.close()
    assert json.loads(path.read_text())["status"] == "open"
    restarted(tmp_path, killed)
    assert json.loads(path.read_text())["status"] == "closed"
    assert path.read_bytes() == whole


def test_times_of_rows_are_as_the_specification_writes_them_where_that_is_set(tmp_path, make_journal):
    log = TradeLog(tmp_path, simulated=True, rows=TableRows("spec"))
    journal, begin = make_journal(files=log.sizes(), config={"ops": {"timestamp_format": "spec"}})
    run_id = begin()
    one = decision(name=f"{run_id}-1")
    journal.record_decision(one)
    journal.record_decision(decision(name=f"{run_id}-2", ts_ns=TS + 10**9))
    log.decision(one)
    log.trade(trade())
    log.close()
    for name in ("trades/trades_simulated.csv", *(f"logs/trading/{name}.csv" for name in FILES)):
        assert [row["timestamp"] for row in read(tmp_path / name)] == ["2026-09-21 14:13:20"]
    log = TradeLog(tmp_path, simulated=True)  # the setting has changed since the run was killed
    assert log.reconcile(journal) == len(FILES)
    log.close()
    times = [row["timestamp"] for row in read(tmp_path / "logs" / "trading" / "decision_log.csv")]
    assert times == ["2026-09-21 14:13:20", "2026-09-21 14:13:21"]


def test_a_snapshot_of_an_earlier_version_gets_its_new_name(tmp_path, killed):
    path = tmp_path / "trade_snapshots" / "trade_20260921_a.json"
    before = path.read_bytes()
    path.rename(path.with_name("trade_a.json"))
    restarted(tmp_path, killed)
    assert sorted(one.name for one in path.parent.iterdir()) == ["trade_20260921_a.json", "trade_20260921_b.json"]
    assert path.read_bytes() == before


def test_a_snapshot_written_late_says_what_it_would_have_said_at_once(tmp_path, make_journal):
    journal, begin = make_journal()
    run_id = begin()
    name = f"{run_id}-1"
    journal.record_decision(decision(name=name))
    journal.record_features(name, np.full(350, 0.1, np.float32))
    for execution, side in (("x1", Side.SELL), ("x2", Side.BUY)):
        journal.record_fill(Fill(TS, execution, "o1", "s", "ESZ26_FUT_CME", "Sim1", side, 2, 6000.1))
    done = Trade(
        name, "ESZ26_FUT_CME", Side.SELL, 2, TS - 10**9, TS, 6000.1, 5998.5, 0.1 + 0.2, 4.0, PROBS, name, "target"
    )  # fmt: skip
    journal.record_trade(done)
    log = TradeLog(tmp_path, simulated=True)
    log.snapshot(done, journal.background(done))
    path = tmp_path / "trade_snapshots" / f"trade_20260921_{name}.json"
    at_once = path.read_bytes()
    path.unlink()
    journal, begin = make_journal()
    assert log.reconcile(journal) == 1  # the row of the trade
    log.close()
    assert path.read_bytes() == at_once
    assert json.loads(at_once)["features"] == {"first": float(np.float32(0.1))}
    assert len(json.loads(at_once)["fills"]) == 2


FILES = ("alpha_scores", "decision_log", "penalty_log")


@given(
    st.lists(st.sampled_from([0.1, 0.9]), max_size=12),
    st.lists(st.sampled_from([0.1, 0.9]), max_size=12),
    st.tuples(*[st.integers(0, 30)] * 3),
    st.integers(0, 3),
)
@settings(max_examples=40)
def test_rows_of_decisions_lost_in_a_kill_are_written_at_the_next_start(tmp_path_factory, before, killed, kept, torn):
    """However much of which file had been written: afterwards each is as if nobody had been killed."""
    var = tmp_path_factory.mktemp("t")
    journal, sizes = Journal(var / "a.db", durable=False), {}
    for run, scores in enumerate((before, killed)):
        log = TradeLog(var, simulated=True)
        sizes = log.sizes()
        run_id = journal.begin_run(run_header(TS, files=sizes))
        for n, score in enumerate(scores):
            one = decision(name=f"{run_id}-{n}", ts_ns=TS + n * 1000, score=score, signal=run + score)
            journal.record_decision(one)
            log.decision(one)
        journal.commit()
        log.close()
    paths = [var / "logs" / "trading" / f"{name}.csv" for name in FILES]
    whole = [path.read_bytes() for path in paths]
    for path, rows in zip(paths, kept, strict=True):
        since = sizes[path.stem]
        content = path.read_bytes()
        lines = content[since:].splitlines(keepends=True)
        path.write_bytes(content[:since] + b"".join(lines[:rows]) + b"".join(lines[rows : rows + 1])[:torn])
    log = TradeLog(var, simulated=True)
    log.reconcile(journal)
    assert [path.read_bytes() for path in paths] == whole
    assert log.reconcile(journal) == 0
    log.close()
    journal.close()


@pytest.fixture
def killed(tmp_path, make_journal):
    """The files and the journal of a run with three decisions and two round trips that was killed."""
    log = TradeLog(tmp_path, simulated=True)
    journal, begin = make_journal(files=log.sizes())
    run_id = begin()
    for n in range(3):
        one = decision(name=f"{run_id}-{n}", ts_ns=TS + n * 10**9)
        journal.record_decision(one)
        log.decision(one)
    for name in "ab":
        journal.record_trade(trade(name))
        log.trade(trade(name))
        log.snapshot(trade(name), Background())
    journal.commit()
    log.close()
    return journal


def restarted(var, journal):
    """The notices of a start; its files are closed again."""
    notices = []
    log = TradeLog(var, simulated=True, notify=lambda *notice: notices.append(notice))
    log.reconcile(journal)
    log.close()
    return notices


def test_rows_in_another_order_are_set_aside_and_none_is_written_twice(tmp_path, killed):
    path = tmp_path / "logs" / "trading" / "decision_log.csv"
    header, *rows = path.read_text().splitlines(keepends=True)
    sorted_down = header + "".join(rows[::-1])
    path.write_text(sorted_down)
    ((code, text),) = restarted(tmp_path, killed)
    (aside,) = path.parent.glob("decision_log.csv.*")
    assert (code, aside.read_text(), path.read_text()) == ("file_set_aside", sorted_down, header)
    assert "in another order" in text
    assert text.endswith(REBUILD)


def test_rows_of_something_else_are_set_aside(tmp_path, killed):
    path = tmp_path / "logs" / "trading" / "decision_log.csv"
    path.write_text(path.read_text() + "of,another,journal,0.5,{}\n")
    ((code, text),) = restarted(tmp_path, killed)
    assert (code, "ends with a row that the journal does not have" in text) == ("file_set_aside", True)
    assert read(path) == []


def test_a_file_that_was_moved_or_shortened_after_a_kill_begins_anew_without_old_rows(tmp_path, killed):
    alpha, decided = (tmp_path / "logs" / "trading" / f"{name}.csv" for name in FILES[:2])
    alpha.unlink()
    os.truncate(decided, 20)
    assert restarted(tmp_path, killed) == []
    assert [len(read(path)) for path in (alpha, decided)] == [3, 3]  # the killed run began with these files


@pytest.mark.parametrize("damage", [b"\xe9,x,1,2,{}\n", b'x,"' + b"x" * 200_000 + b'",1,2,3\n', b"\x00" * 99])
def test_round_trips_are_all_in_the_file_again_after_a_start_whatever_became_of_it(tmp_path, killed, damage):
    path = tmp_path / "trades" / "trades_simulated.csv"
    path.write_bytes(path.read_bytes() + damage)
    notices = restarted(tmp_path, killed)
    assert [row["trade_id"] for row in read(path)] == ["a", "b"]
    assert {code for code, _ in notices} <= {"file_set_aside"}
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    restarted(tmp_path, killed)
    assert [row["trade_id"] for row in read(path)] == ["a", "b"]


@pytest.mark.parametrize(("how", "missing"), [("stop", 0), ("failed: the disk is full", 3)])
def test_decisions_of_a_run_that_ended_in_good_order_are_not_looked_for(tmp_path, make_journal, how, missing):
    log = TradeLog(tmp_path, simulated=True)
    journal, begin = make_journal(files=log.sizes())
    run_id = begin()
    journal.record_decision(decision(name=f"{run_id}-1"))
    journal.end_run(run_id, TS, how)
    assert log.reconcile(journal) == missing
    log.close()


def test_rows_wait_while_the_disk_is_full_and_are_neither_lost_nor_written_twice(tmp_path, monkeypatch):
    notices, write = [], os.write
    log = TradeLog(tmp_path, simulated=True, notify=lambda *notice: notices.append(notice))

    def refuse(_fd, _data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    for n in range(2):
        log.decision(decision(ts_ns=TS + n))
        log.flush()
    log.trade(trade("a"))
    assert [(code, text.endswith(REBUILD)) for code, text in notices] == [("file_not_written", True)] * 4
    assert "decision_log.csv can't be written: No space left on device; make room" in notices[1][1]
    monkeypatch.setattr(os, "write", write)
    log.flush()
    log.close()
    assert [len(read(file.path)) for file in log.files] == [1, 2, 2, 2]


def test_a_snapshot_that_cannot_be_written_leaves_no_part_of_it_and_stops_nothing(tmp_path):
    notices = []
    log = TradeLog(tmp_path, simulated=True, notify=lambda *notice: notices.append(notice))
    snapshot = tmp_path / "trade_snapshots" / f"trade_20260921_{trade().trade_id}.json"
    snapshot.mkdir()  # in the way
    log.trade(trade())
    log.snapshot(trade(), Background())
    log.close()
    ((code, text),) = notices
    assert (code, "can't be written" in text) == ("file_not_written", True)
    assert list(snapshot.parent.iterdir()) == [snapshot]
    assert len(read(tmp_path / "trades/trades_simulated.csv")) == 1


@pytest.mark.parametrize("name", ["trade_snapshots", "risk_snapshots", "trades"])
def test_what_is_in_the_way_of_a_directory_does_not_forbid_the_start(tmp_path, name):
    (tmp_path / name).write_text("in the way")
    notices = []
    TradeLog(tmp_path, simulated=True, notify=lambda *notice: notices.append(notice)).close()
    assert [code for code, _ in notices] == ["file_set_aside"]
    assert (tmp_path / name).is_dir()
    assert [path.read_text() for path in tmp_path.glob(f"{name}.*")] == ["in the way"]
