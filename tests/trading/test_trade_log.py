import csv
import json
import math
import os
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import iso_utc
from mia_daemon.errors import JournalError, StartError
from mia_daemon.records import Action, Decision, Prediction, RegimeProbs, Side, Trade
from mia_daemon.trading.trade_log import TradeLog, regime_json

TS = 1_790_000_000_123_456_789
PROBS = RegimeProbs(0.7, 0.2, 0.1)


@pytest.fixture
def log(tmp_path):
    opened = TradeLog(tmp_path, simulated=True)
    yield opened
    opened.close()


def decision(action=Action.BUY, *, signal=0.5, probability=0.8, probs=PROBS, ts_ns=TS):
    said = Prediction(probs, signal, probability, "baseline", 0.0, "ab")
    return Decision("r-1", 1, ts_ns, action, 1, "signal", said, 6000.0, 6000.25)


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
    log.decision(decision(), "r-1")
    log.decision(decision(Action.HOLD, signal=-0.25, ts_ns=TS + 10**9))
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
    log.decision(decision(signal=signal, probability=abs(signal), probs=RegimeProbs(*probs), ts_ns=ts_ns), "x")
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
    (row,) = read(tmp_path / "logs/trading/decision_log.csv")
    assert row["signal_score"] == ""
    assert json.loads(row["regime_probs"]) == {"range": None, "trend": None, "defensive": None}
    assert json.loads(regime_json(RegimeProbs(1.0, 0.0, 1e-9))) == {"range": 1, "trend": 0, "defensive": 1e-9}


def test_a_round_trip_is_a_row_and_a_snapshot(log, tmp_path):
    log.trade(trade())
    log.snapshot(trade(), {"policy": "baseline", "profit": "a detail can't overwrite what is known"})
    assert read(tmp_path / "trades/trades_simulated.csv") == [
        {"trade_id": "r-1", "timestamp": "2026-09-21T14:13:20.123456Z", "entry_price": "6000.25", "profit": "146.00",
         "regime_probs": '{"range": 0.7, "trend": 0.2, "defensive": 0.1}'}
    ]  # fmt: skip
    (path,) = (tmp_path / "trade_snapshots").iterdir()
    assert path.name == "trade_r-1.json"
    snapshot = json.loads(path.read_text())
    assert (snapshot["trade_id"], snapshot["entry_price"], snapshot["profit"]) == ("r-1", 6000.25, 146.0)
    assert datetime.fromisoformat(snapshot["timestamp"]).tzinfo is not None
    assert (snapshot["side"], snapshot["exit_reason"], snapshot["policy"]) == ("sell", "target", "baseline")
    assert snapshot["regime_probs"] == {"range": 0.7, "trend": 0.2, "defensive": 0.1}


def test_penalties_are_logged_when_they_begin_and_end(log, tmp_path):
    for n, (score, active) in enumerate([(0.1, False), (0.5, False), (0.9, True), (1.0, True), (0.2, False)]):
        log.penalty(TS + n, score, active=active)
    rows = read(tmp_path / "logs/trading/penalty_log.csv")
    assert [(row["penalty_active"], row["overtrade_risk_score"]) for row in rows] == [
        ("false", "0.1"), ("true", "0.9"), ("false", "0.2")
    ]  # fmt: skip


def test_a_risk_snapshot_is_a_file_of_its_own(log, tmp_path):
    path = log.risk_snapshot(TS, {"timestamp": iso_utc(TS), "drawdown": 0.01})
    assert path == tmp_path / "risk_snapshots" / "risk_20260921T141320_123456Z.json"
    assert json.loads(path.read_text()) == {"timestamp": "2026-09-21T14:13:20.123456Z", "drawdown": 0.01}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_rows_lost_with_a_killed_process_are_written_at_the_next_start(tmp_path):
    first = TradeLog(tmp_path, simulated=True)
    first.trade(trade("a"))
    first.snapshot(trade("a"), {"policy": "p"})
    first.close()
    with (tmp_path / "trades/trades_simulated.csv").open("a") as file:
        file.write("b,2026-09-2")  # torn by a power cut
    second = TradeLog(tmp_path, simulated=True)
    known = [trade("a"), trade("b"), trade("c")]
    assert second.reconcile(known) == 2
    assert second.reconcile(known) == 0
    second.trade(trade("d"))
    second.snapshot(trade("d"))
    second.close()
    rows = read(tmp_path / "trades/trades_simulated.csv")
    assert [row["trade_id"] for row in rows] == ["a", "b", "c", "d"]
    assert sorted(path.name for path in (tmp_path / "trade_snapshots").iterdir()) == [
        f"trade_{name}.json" for name in "abcd"
    ]
    assert json.loads((tmp_path / "trade_snapshots/trade_a.json").read_text())["policy"] == "p"


def test_a_file_with_another_header_is_refused(tmp_path):
    (tmp_path / "trades").mkdir()
    (tmp_path / "trades/trades_simulated.csv").write_text("id,profit\n1,2\n")
    with pytest.raises(StartError, match="has another header"):
        TradeLog(tmp_path, simulated=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_in_words(log, monkeypatch):
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(log._decisions, "_fd", full)
    with pytest.raises(JournalError, match=r"decision_log\.csv can't be written: No space left on device; make room"):
        log.decision(decision())


def test_a_snapshot_that_cannot_be_written_leaves_no_part_of_it(log, tmp_path):
    snapshot = tmp_path / "trade_snapshots" / f"trade_{trade().trade_id}.json"
    snapshot.mkdir()  # in the way
    log.trade(trade())
    with pytest.raises(JournalError, match="can't be written"):
        log.snapshot(trade())
    assert list(snapshot.parent.iterdir()) == [snapshot]
    assert len(read(tmp_path / "trades/trades_simulated.csv")) == 1


@pytest.mark.parametrize("name", ["trade_snapshots", "risk_snapshots"])
def test_a_directory_that_cannot_be_made_is_found_out_before_the_first_trade(tmp_path, name):
    (tmp_path / name).write_text("in the way")
    with pytest.raises(StartError, match=f"{name} can't be written"):
        TradeLog(tmp_path, simulated=True)
