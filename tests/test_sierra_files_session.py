"""A paper session as with a real Sierra Chart: prices from the files it writes, orders over DTC, nothing else.

The stand-in writes `.scid` and `.depth` of its market and refuses market data over DTC, as Sierra Chart does for CME's.
"""

import json
import signal
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from daemon_process import status_of, until
from fake_activity_log import rows_of_simulator, write

from mia_daemon.feed.recording import read_recording
from mia_daemon.feed.sierra_files import read_scid, scid_to_events
from mia_daemon.records import EventFlag, EventKind

pytestmark = pytest.mark.timeout(120)

SYMBOL = "ESZ26_FUT_CME"
SPEED = 25.0


@pytest.fixture
def tables(tmp_path):
    data = tmp_path / "Data"
    return {
        "feed": {
            "source": "scid",
            "scid_path": str(data / f"{SYMBOL}.scid"),
            "depth_directory": str(data / "MarketDepthData"),
            "max_event_age_s": 0.0,  # the stand-in's time is its own
        },
        "broker": {"kind": "dtc", "reconcile_every_s": 2.0},
        "features": {"warmup_s": 0.0, "decision_interval_s": 2.0},
        "model": {"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
        "decision": {
            "enter_above": 0.001, "exit_below": 0.0005, "min_probability": 0.0, "defensive_blocks_above": 1.0,
            "min_hold_s": 0.0, "max_hold_s": 10.0,
        },
        "windows": {"no_entry_before_close_s": 0.0},
    }  # fmt: skip


@pytest.fixture
def stand_in(daemons, tmp_path):
    """A stand-in that writes files; it and its port."""
    settings = daemons.config("simulator.toml", simulator={"speed": SPEED, "file_flush_ms": 20.0})
    options = {"write-scid": tmp_path / "Data", "policy": "sierra"}
    return daemons.simulator(settings, tmp_path / "state", **options)


def test_a_session_on_tailed_files_with_orders_over_dtc(daemons, tmp_path, tables, stand_in):
    simulator, port = stand_in
    var = tmp_path / "var"
    config = daemons.config(**tables, dtc={"port": port, "heartbeat_interval_s": 5})
    daemon = daemons.start("--mode", "paper", "--config", config, "--var", var).ready()
    until(lambda: status_of(var).get("round_trips", 0) >= 2, "two round trips")
    daemon.signal(signal.SIGINT)
    ended = daemon.wait()
    assert (ended.status, ended.err) == (0, "")
    assert "position +0" in ended.out.splitlines()[-1]
    simulator.signal(signal.SIGTERM)
    assert simulator.wait().status == 0

    # What the daemon booked is what the stand-in filled.
    lines = [json.loads(line) for line in (tmp_path / "state" / "orders.jsonl").read_text().splitlines()]
    filled = sorted(line["ExecutionID"] for line in lines if line["kind"] == "fill")
    with closing(sqlite3.connect(f"file:{var / 'journal' / 'paper.db'}?mode=ro", uri=True)) as db:
        booked = sorted(execution.split("/")[-1] for (execution,) in db.execute("SELECT execution_id FROM fills"))
    assert booked == filled
    assert len(filled) >= 4

    # So does the stand-in's statement, as Sierra Chart would export it; and what is taken out of it is missed.
    rows = rows_of_simulator(tmp_path / "state" / "orders.jsonl", SYMBOL, "Sim1")
    compare = ("reconcile-statement", "log.txt", "--mode", "paper", "--config", config, "--var", var, "--json")
    write(tmp_path / "log.txt", rows)
    told = daemons.run(*compare)
    assert (told.status, told.err) == (0, "")
    assert sum(day["statement"]["fills"] for day in json.loads(told.out)["days"]) == len(filled)
    write(tmp_path / "log.txt", [*rows[:1], *rows[2:]])
    told = daemons.run(*compare)
    assert (told.status, [one["what"] for one in json.loads(told.out)["differences"]]) == (1, ["journal only"])

    # What it traded on are the files' trades, each once and none left out, and the book beside them.
    (session,) = (var / "recordings").iterdir()
    events = read_recording(session)
    trades = events[events["kind"] == EventKind.TRADE]
    assert trades["flags"][0] & EventFlag.CATCHING_UP  # recorded, so that a replay has it too
    trades["flags"] &= np.uint16(~EventFlag.CATCHING_UP & 0xFFFF)  # what the feed adds
    written = scid_to_events(read_scid(tmp_path / "Data" / f"{SYMBOL}.scid"))
    first = int(np.searchsorted(written["ts_ns"], trades["ts_ns"][0]))
    for column in ("ts_ns", "price", "size", "side", "bid", "ask", "flags"):
        assert np.array_equal(trades[column], written[column][first : first + len(trades)]), column
    assert len(trades) >= 30
    assert not np.isin(events["kind"], (EventKind.GAP, EventKind.QUOTE)).any()
    depth = events[events["kind"] == EventKind.DEPTH]
    assert depth["flags"][0] & EventFlag.CLEAR
    assert len(depth) > len(trades)
