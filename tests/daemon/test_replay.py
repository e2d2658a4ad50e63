"""`mia-daemon replay` as typed: the same decisions on every run and however the file is cut; bad files are refused."""

import csv
import json
import os
import re
import sqlite3
import struct
from contextlib import closing
from datetime import UTC, datetime
from itertools import takewhile

import numpy as np
import onnx
import pytest
from daemon_process import TRADES_OFTEN, daemons_in

from mia_daemon.daemon.replay import Summary
from mia_daemon.feed.sierra_files import SCID, RecordWriter, events_to_scid
from mia_daemon.model import bundle
from mia_daemon.model.manifest import OBSERVATION, SELECTED
from mia_daemon.records import EventKind, empty_events

pytestmark = pytest.mark.timeout(300)

KEYS = ["events", "trades_in", "decisions", "orders", "fills", "round_trips", "profit", "seconds", "events_per_s",
        "decisions_sha256", "first_ts", "last_ts", "latches", "position", "unrealized",
        "latches_counted"]  # fmt: skip
MEASURED = {"seconds", "events_per_s"}

TRADES = 4_000
START = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)  # a Tuesday, 09:00 in Chicago


HALF_DAY = datetime(2026, 11, 27, 18, 0, tzinfo=UTC)  # the Friday after Thanksgiving: the exchange closes at 18:15


def walk(count=TRADES, seed=5, start=START):
    """Trades about a third of a second apart, at the bid or at the ask of a price that wanders by ticks."""
    chance = np.random.default_rng(seed)
    events = empty_events(count)
    events["ts_ns"] = (
        int(start.timestamp()) * 10**9 + np.cumsum(chance.integers(10**6, 600 * 10**6, count)) // 1000 * 1000
    )
    events["kind"] = EventKind.TRADE
    events["side"] = chance.choice([-1, 1], count)
    events["bid"] = 6000.0 + 0.25 * np.cumsum(chance.choice([-1, 0, 0, 0, 1], count))
    events["ask"] = events["bid"] + 0.25
    events["price"] = np.where(events["side"] > 0, events["ask"], events["bid"])
    events["size"] = chance.integers(1, 9, count)
    events["count"] = 1
    return events


def write_scid(path, events):
    writer = RecordWriter(path, SCID)
    writer.append(events_to_scid(events))
    writer.close()
    return path


@pytest.fixture(scope="module")
def workshop(fork_server, tmp_path_factory):
    with daemons_in(tmp_path_factory.mktemp("replay"), fork_server) as daemons:
        yield daemons


@pytest.fixture(scope="module")
def recorded(workshop):
    return write_scid(workshop.directory / "ESZ26_FUT_CME.scid", walk())


@pytest.fixture(scope="module")
def replay(workshop):
    """Replay a file; what `--json` printed, and where it wrote."""
    config = workshop.config(**TRADES_OFTEN)
    numbers = iter(range(1000))

    def run(path, *words, config=config):
        var = workshop.directory / f"var{next(numbers)}"
        ended = workshop.run("replay", path, "--var", var, "--config", config, "--json", *words)
        assert ended.status == 0, ended.err
        (line,) = ended.out.splitlines()
        return json.loads(line), var

    return run


@pytest.fixture(scope="module")
def first(replay, recorded):
    return replay(recorded)


def without_stopwatch(summary):
    return {key: value for key, value in summary.items() if key not in MEASURED}


def rows(path, query):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


# --------------------------------------------------------------------------------------------- what it says and writes


def test_the_summary_has_exactly_these_keys_and_is_true(first):
    summary, _ = first
    assert list(summary) == KEYS
    events = walk()
    assert summary["events"] == summary["trades_in"] == TRADES
    seen = np.unique(events["ts_ns"] // (5 * 10**9))  # of the 5 s in which a trade came, the first only sets the mark
    assert summary["decisions"] == len(seen) - 1
    assert summary["fills"] >= 2 * summary["round_trips"] > 10
    assert summary["orders"] >= 3 * summary["round_trips"]
    assert re.fullmatch(r"[0-9a-f]{64}", summary["decisions_sha256"])
    times = [datetime.fromisoformat(summary[key]).timestamp() for key in ("first_ts", "last_ts")]
    assert times == pytest.approx([events["ts_ns"][0] / 1e9, events["ts_ns"][-1] / 1e9], abs=1e-6)
    assert summary["first_ts"].endswith("Z")
    assert summary["events_per_s"] == pytest.approx(summary["events"] / summary["seconds"], rel=0.05)
    assert summary["latches"] == []


def test_a_latch_that_stopped_entries_is_told_with_its_time():
    latch = {"code": "slippage", "ts": "2021-01-06T18:45:51Z", "text": "a fill was much worse than its price"}
    said = str(
        Summary(
            9, 9, 3, 3, 2, 1, -24.2, 1.0, 9.0, "0" * 64, "2020-11-25T01:21:41Z", "2021-05-31T16:58:07Z", (latch,),
            -1, 12.5, ({"code": "daily_loss", "count": 2, "first_ts": "2021-01-05T00:00:00Z", "text": "a loss"},),
        )
    )  # fmt: skip
    assert "profit -24.20, open position -1, unrealised +12.50" in said
    assert "not stopped by the latch daily_loss: 2 times, first at 2021-01-05T00:00:00Z: a loss" in said
    assert "entries stopped at 2021-01-06T18:45:51Z by the latch slippage: a fill was much worse" in said


def test_it_leaves_the_same_files_as_a_session(first):
    summary, var = first
    journal = var / "journal" / "replay.db"
    ((decisions,),) = rows(journal, "SELECT COUNT(*) FROM decisions")
    ((trades, profit),) = rows(journal, "SELECT COUNT(*), SUM(gross - costs) FROM trades")
    assert (decisions, trades) == (summary["decisions"], summary["round_trips"])
    assert summary["profit"] == pytest.approx(profit, abs=0.005)
    for name, lines in (
        ("logs/trading/decision_log.csv", decisions),
        ("logs/trading/alpha_scores.csv", decisions),
        ("trades/trades_simulated.csv", trades),
    ):
        with (var / name).open(newline="") as file:
            assert len(list(csv.DictReader(file))) == lines
    assert rows(journal, "SELECT mode, how FROM runs") == [("replay", "feed ended")]


def test_the_log_tells_the_recordings_time(first):
    """So that it can be laid beside the live one."""
    summary, var = first
    stamps = [json.loads(line)["ts"] for line in (var / "logs" / "live_trading.log").read_text().splitlines()]
    before = list(takewhile(lambda stamp: not summary["first_ts"] <= stamp <= summary["last_ts"], stamps))
    assert len(before) < 5  # of the start, by the wall clock: there is no event yet
    assert not [stamp for stamp in before if stamp.startswith("1970")]
    stamps = stamps[len(before) :]
    assert max(stamps) <= summary["last_ts"]
    assert stamps == sorted(stamps)


def test_people_get_the_figures_too(workshop, recorded):
    ended = workshop.run(
        "replay", recorded, "--var", workshop.directory / "people", "--config", workshop.config(**TRADES_OFTEN)
    )
    assert ended.status == 0
    assert f"{TRADES:,} events" in ended.out
    assert re.search(r"\d+ round trips", ended.out)


# --------------------------------------------------------------------------------------------- a part of the file


@pytest.fixture(scope="module")
def flat(workshop):
    """A configuration that decides and opens nothing, so that decisions do not depend on earlier ones."""
    decision = {**TRADES_OFTEN["decision"], "enter_above": 1.0}
    return workshop.config("flat.toml", **{**TRADES_OFTEN, "decision": decision})


DECISIONS = """
SELECT seq, ts_ns, bid, ask, p_range, p_trend, p_defensive, signal, probability FROM decisions ORDER BY seq"""


def at(ts_ns):
    return datetime.fromtimestamp(ts_ns // 10**9, UTC).isoformat()


def test_decisions_of_a_window_are_those_of_the_whole_file(replay, recorded, flat):
    """Features and regimes have warmed up on what is before."""
    _, whole = replay(recorded, config=flat)
    decided = rows(whole / "journal" / "replay.db", DECISIONS)
    begin_ns, end_ns = (decided[len(decided) * third // 3][1] // 10**9 * 10**9 for third in (1, 2))
    summary, var = replay(recorded, "--from", at(begin_ns), "--to", at(end_ns), "--batch", 7, config=flat)
    expected = [row for row in decided if begin_ns <= row[1] < end_ns]
    assert rows(var / "journal" / "replay.db", DECISIONS) == expected
    assert summary["decisions"] == len(expected) > 10
    assert summary["events"] == np.count_nonzero(walk()["ts_ns"] < end_ns) < TRADES


def test_a_position_that_is_open_at_the_end_is_in_the_summary(replay, recorded, first):
    query = "SELECT ts_ns, position, unrealized FROM equity WHERE position != 0 ORDER BY number"
    held = rows(first[1] / "journal" / "replay.db", query)
    ts_ns, position, _ = held[len(held) // 2]
    part, _ = replay(recorded, "--to", at(ts_ns + 10**9))
    assert part["position"] == position
    assert part["unrealized"] % 12.5 == 0.0


def test_research_counts_the_latches_and_decides_as_if_there_were_no_limit(replay, recorded, workshop, first):
    config = workshop.config("latch.toml", **{**TRADES_OFTEN, "risk": {"max_consecutive_losses": 1}})
    counted, var = replay(recorded, "--research", config=config)
    ((lost,),) = rows(var / "journal" / "replay.db", "SELECT COUNT(*) FROM trades WHERE gross < costs")
    assert lost > 1
    assert counted["latches"] == []
    assert [(latch["code"], latch["count"]) for latch in counted["latches_counted"]] == [("consecutive_losses", lost)]
    assert counted["decisions_sha256"] == first[0]["decisions_sha256"]


# --------------------------------------------------------------------------------------------- the same every time


@pytest.mark.parametrize("batch", [1, 7, 4096, TRADES])
def test_decisions_do_not_depend_on_how_the_file_is_cut(replay, recorded, first, batch):
    again, _ = replay(recorded, "--batch", batch)
    assert without_stopwatch(again) == without_stopwatch(first[0])


def test_a_reference_beside_it_is_part_of_what_repeats(replay, recorded, workshop, first):
    """Its prices are seen by features and by nothing that trades: 15,000 is no price of the traded symbol."""
    beside = walk(count=2 * TRADES, seed=6)
    for column in ("bid", "ask", "price"):
        beside[column] += 9000.0
    reference = write_scid(workshop.directory / "NQZ26_FUT_CME.scid", beside)
    summaries = [replay(recorded, "--reference", reference, "--batch", batch) for batch in (1000, 7)]
    one, other = (without_stopwatch(summary) for summary, _ in summaries)
    assert one == other
    assert one["trades_in"] == first[0]["trades_in"]
    assert one["events"] > first[0]["events"]
    assert one["decisions"] == first[0]["decisions"]
    assert one["fills"] > 0
    for _, var in summaries:
        for (price,) in rows(var / "journal" / "replay.db", "SELECT price FROM fills"):
            assert 5900.0 < price < 6100.0


def test_two_replays_leave_the_same_points_of_the_equity_curve(replay, recorded, first):
    """One a second of event time, whatever the time that the replay takes."""
    query = "SELECT number, ts_ns, equity, peak, position, unrealized, realized_today FROM equity ORDER BY number"
    points = rows(first[1] / "journal" / "replay.db", query)
    seconds = np.unique(walk()["ts_ns"] // 10**9)
    assert [point[1] // 10**9 for point in points] == seconds.tolist()
    assert len({point[2] for point in points}) > 10
    again, var = replay(recorded, "--batch", 7)
    assert rows(var / "journal" / "replay.db", query) == points
    assert again["decisions_sha256"] == first[0]["decisions_sha256"]


def test_the_hash_sees_a_decision_change(replay, recorded, workshop, first):
    decision = {**TRADES_OFTEN["decision"], "max_hold_s": 119.0}
    other, _ = replay(recorded, config=workshop.config("other.toml", **{**TRADES_OFTEN, "decision": decision}))
    assert other["decisions"] == first[0]["decisions"]
    assert other["decisions_sha256"] != first[0]["decisions_sha256"]


def test_times_that_run_back_are_told(workshop):
    events = walk(400)
    events["ts_ns"][[100, 101, 300]] -= 10**9 * 60
    path = write_scid(workshop.directory / "ESH27_FUT_CME.scid", events)
    ended = workshop.run(
        "replay", path, "--var", workshop.directory / "back", "--config", workshop.config(**TRADES_OFTEN)
    )
    assert ended.status == 0
    assert "3 events were older than the one before them" in ended.err


def test_a_second_replay_in_the_same_place_begins_anew(workshop, recorded, first):
    """Flat, whatever the replay before left there."""
    summary, var = first
    ended = workshop.run("replay", recorded, "--var", var, "--config", workshop.directory / "mia.toml", "--json")
    assert without_stopwatch(json.loads(ended.out)) == without_stopwatch(summary)


def test_a_half_day_ends_flat_a_minute_before_its_close(replay, workshop):
    """Held until the signal fades or for ever, a position would stay over the weekend."""
    events = walk(2_990, start=HALF_DAY)  # until shortly before 18:15
    events = events[events["ts_ns"] < int(HALF_DAY.timestamp() + 895) * 10**9]
    path = write_scid(workshop.directory / "ESZ26_FUT_CME.half.scid", events)
    held = {"exit_below": 0.0, "max_hold_s": 100_000.0, "stop_ticks": 400, "target_ticks": 400}
    tables = {
        **TRADES_OFTEN,
        "decision": {**TRADES_OFTEN["decision"], **held},
        "windows": {"no_entry_before_close_s": 0.0},
    }
    summary, var = replay(path, config=workshop.config("half.toml", **tables))
    database = var / "journal" / "replay.db"
    flat_ns = int(HALF_DAY.timestamp() + 840) * 10**9
    ((reason, exit_ns),) = rows(database, "SELECT exit_reason, exit_ns FROM trades ORDER BY exit_ns DESC LIMIT 1")
    assert reason == "session_end"
    assert flat_ns <= exit_ns < flat_ns + 5 * 10**9
    assert rows(database, f"SELECT DISTINCT reason FROM decisions WHERE ts_ns >= {flat_ns}") == [("session_end",)]
    again, _ = replay(path, "--batch", 7, config=workshop.directory / "half.toml")
    assert without_stopwatch(again) == without_stopwatch(summary)


def test_a_file_that_sierra_chart_wrote(replay, mnq_scid, workshop):
    records = 250
    head = workshop.directory / mnq_scid.name
    head.write_bytes(mnq_scid.read_bytes()[: SCID.header_size + records * SCID.record.itemsize])
    whole, _ = replay(head)
    cut, _ = replay(head, "--batch", 7)
    assert whole["trades_in"] == records
    assert whole["events"] > 2 * records  # a thin contract: most are timers
    assert whole["decisions"] > records
    assert without_stopwatch(cut) == without_stopwatch(whole)
    assert whole["first_ts"] == "2020-11-25T01:21:41.954000Z"


def test_a_paper_sessions_recording_repeats_what_the_session_saw(workshop, replay, tmp_path):
    """The same decisions fall due at the same events, on the same touch, with the same regimes to the last bit."""
    tables = {**TRADES_OFTEN, "simulator": {"speed": 30.0}, "features": {"warmup_s": 20.0}}
    config = workshop.config("paper.toml", **tables)
    session = workshop.start("--mode", "paper", "--config", config, "--var", tmp_path, "--for", "6s")
    assert session.wait().status == 0
    (recording,) = (tmp_path / "recordings").iterdir()
    query = "SELECT seq, ts_ns, bid, ask, p_range, p_trend, p_defensive FROM decisions ORDER BY seq"
    live = rows(tmp_path / "journal" / "paper.db", query)
    summary, var = replay(recording, config=config)
    again = rows(var / "journal" / "replay.db", query)
    assert len(live) > 20
    assert again[: len(live)] == live
    assert summary["fills"] > 0
    repeated, _ = replay(recording, "--batch", 7, config=config)
    assert without_stopwatch(repeated) == without_stopwatch(summary)


# --------------------------------------------------------------------------------------------- what it refuses


@pytest.fixture
def refused(workshop, tmp_path):
    """Replay what can't be; the sentence, once it is sure that nothing else was said, and nothing written."""

    def run(status, *words):
        var = tmp_path / "var"
        ended = workshop.run("replay", *words, "--var", var, "--config", workshop.config(**TRADES_OFTEN), "--json")
        assert (ended.status, ended.out) == (status, "")
        assert ended.sentence.startswith("mia-daemon: ")
        assert not var.exists()
        return ended.sentence

    return run


def damaged(recorded, path, change):
    path.write_bytes(change(bytearray(recorded.read_bytes())))
    return path


def bar(content):
    """Record 100 gets a price in its Open: it is no single trade."""
    content[SCID.header_size + 100 * 40 + 8 : SCID.header_size + 100 * 40 + 12] = struct.pack("<f", 6000.0)
    return content


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[:-3], "cut off inside its last record"),
        (lambda content: content[:20], "cut off inside its header"),
        (lambda content: content[:0], "is empty"),
        (lambda content: content[:56], "no records"),
        (lambda _: b"time,price\n1,2\n" * 20, "is not a .scid file"),
        (lambda _: os.urandom(4096), "is not a .scid file"),
        (bar, "record 100"),
    ],
    ids=["cut record", "cut header", "empty", "header only", "text", "noise", "bars"],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(refused, recorded, tmp_path, change, says):
    path = damaged(recorded, tmp_path / "ESZ26_FUT_CME.scid", change)
    sentence = refused(1, path)
    assert says in sentence
    assert str(path) in sentence


def test_a_contract_that_is_not_traded_is_refused(refused, recorded, tmp_path):
    other = tmp_path / "XYF27.scid"
    other.write_bytes(recorded.read_bytes())
    assert "--symbol" in refused(2, other)
    assert "XYF27" in refused(2, recorded, "--symbol", "XYF27")


def test_a_product_that_does_not_fit_the_files_name_or_prices_is_refused(refused, recorded, tmp_path):
    named = refused(1, recorded, "--symbol", "CLF27")
    assert f"{recorded} is named after a contract of ES, and CLF27 is one of CL" in named
    unnamed = tmp_path / "trades.scid"
    unnamed.write_bytes(recorded.read_bytes())
    assert "and CL trades between -60 and 400: " in refused(1, unnamed, "--symbol", "CLF27")
    oil = tmp_path / "CLF27.scid"
    oil.write_bytes(recorded.read_bytes())
    assert "and CL trades between -60 and 400: " in refused(1, oil)


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["missing.scid"], 2, "missing.scid does not exist"),
        (["."], 1, "."),
        (["ESZ26_FUT_CME.scid", "--batch", "0"], 2, "batch_events"),
        (["ESZ26_FUT_CME.scid", "--from", "2026-11-25"], 2, "is after the last event: the events of ESZ26_FUT_CME"),
        (["ESZ26_FUT_CME.scid", "--to", "2026-11-24"], 2, "is not after the first event"),
        (["ESZ26_FUT_CME.scid", "--from", "noon"], 2, "'noon' is no time: write 2026-11-22"),
        (["ESZ26_FUT_CME.scid", "--depth", "missing.depth"], 1, "missing.depth"),
        (["ESZ26_FUT_CME.scid", "--depth", "ESZ26_FUT_CME.scid"], 1, "is not a .depth file"),
    ],
    ids=[
        "no file",
        "a directory",
        "no batch",
        "from later",
        "to earlier",
        "no time",
        "no depth file",
        "a wrong depth file",
    ],
)
def test_wrong_words_are_refused(refused, recorded, words, status, says):
    assert says in refused(status, *words)


# ------------------------------------------------------------------------------------------------ a model that breaks


def failing_policy(data):
    """The policy of the graph in `data`, until a position is more than about ten seconds old: from then on NaN."""
    model = onnx.load_from_string(data)
    graph, (last,) = model.graph, (node for node in model.graph.node if "action" in node.output)
    score = last.input[0]
    age = np.zeros((OBSERVATION, 1), np.float32)
    age[SELECTED + 2] = 1.0  # ln(1 + seconds in the trade) / 8
    constants = {"age": age, "longest": [[0.3]], "nothing": [[0.0]]}
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()
    )
    graph.node.remove(last)
    graph.node.extend(
        onnx.helper.make_node(operator, inputs, [output])
        for operator, inputs, output in (
            ("MatMul", ["observation", "age"], "held"),
            ("Sub", ["longest", "held"], "left"),
            ("Sqrt", ["left"], "root"),
            ("Mul", ["root", "nothing"], "zero"),
            ("Add", [score, "zero"], "checked"),
            ("Tanh", ["checked"], "action"),
        )
    )
    return model.SerializeToString()


@pytest.fixture(scope="module")
def broken(replay, recorded, workshop):
    """A replay on a bundle whose policy answers NaN while a position is open."""
    made = workshop.directory / "broken"
    files = {file.name: file.read_bytes() for file in bundle.shipped().iterdir()}
    manifest = json.loads(files.pop(bundle.MANIFEST))
    policy = manifest["policies"][0]["file"]
    bundle.write(made, files | {policy: failing_policy(files[policy])}, manifest)
    decision = {**TRADES_OFTEN["decision"], "flat_without_prediction_s": 30.0}
    tables = {**TRADES_OFTEN, "decision": decision, "model": {**TRADES_OFTEN["model"], "bundle": str(made)}}
    return replay(recorded, config=workshop.config("broken.toml", **tables))


def test_a_position_stays_under_its_stop_without_predictions_and_is_then_closed(broken):
    _, var = broken
    journal = var / "journal" / "replay.db"
    trades = rows(journal, "SELECT exit_reason, exit_ns - entry_ns FROM trades")
    assert {reason for reason, _ in trades} <= {"not_finite", "stop", "target", "shutdown"}
    closed = [held_ns / 10**9 for reason, held_ns in trades if reason == "not_finite"]
    assert len(closed) > 3
    assert all(40 < held_s < 60 for held_s in closed)  # found at 10 to 15 s, then 30 s, at a decision every 5 s
    assert "faded" not in {reason for (reason,) in rows(journal, "SELECT reason FROM decisions")}


def test_decisions_without_a_prediction_are_recorded_as_such(broken):
    _, var = broken
    journal = var / "journal" / "replay.db"
    query = "SELECT signal, probability, context FROM decisions WHERE policy = 'unusable'"
    found = rows(journal, query)
    assert len(found) > 20
    assert {(signal, probability) for signal, probability, _ in found} == {(None, None)}
    assert {json.loads(context)["not_finite"] for *_, context in found} == {"the policy's action"}
    with (var / "logs/trading/alpha_scores.csv").open(newline="") as file:
        assert sum(row["alpha_score"] == "" for row in csv.DictReader(file)) == len(found)
    with (var / "logs/inference_performance.csv").open(newline="") as file:
        assert "False" in {row["success"] for row in csv.DictReader(file) if row["operation"] == "predict"}


def test_predictions_that_stop_and_come_again_are_two_alerts(broken):
    _, var = broken
    raised = [
        code
        for (code,) in rows(var / "journal" / "replay.db", "SELECT code FROM alerts ORDER BY number")
        if code in {"prediction_not_finite", "prediction_finite"}
    ]
    assert raised[:2] == ["prediction_not_finite", "prediction_finite"]
