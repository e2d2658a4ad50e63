"""The daemon as a process, against its own embedded simulator: what it does and leaves, how it is asked and ends."""

import csv
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import time
import zlib
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import pytest
from daemon_process import PROJECT, daemons_in, status_of, until

from mia_daemon.errors import ExitStatus
from mia_daemon.features import catalogue

pytestmark = pytest.mark.timeout(300)

STOP_S = 5.0

EAGER = {
    "enter_above": 0.001,
    "exit_below": 0.0005,
    "min_probability": 0.0,
    "defensive_blocks_above": 1.0,
    "min_hold_s": 0.0,
    "max_hold_s": 30.0,
}
"""Trades all the time."""

CLINGING = {**EAGER, "min_hold_s": 1e6, "max_hold_s": 1e7, "stop_ticks": 1000, "target_ticks": 1000}
"""Enters once and keeps the position."""


def tables(decision, **more):
    return {
        "simulator": {"speed": 20.0},
        "features": {"warmup_s": 0.0, "decision_interval_s": 2.0},
        "model": {"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
        "decision": decision,
        "windows": {"no_entry_before_close_s": 0.0},
        **more,
    }


@pytest.fixture
def var(tmp_path):
    return tmp_path / "var"


@pytest.fixture
def paper(daemons, var):
    """Start a paper session that trades all the time, on `var`; several in turn carry on from one another."""

    def start(decision=EAGER, **more):
        config = daemons.config(**tables(decision, **more))
        return daemons.start("--mode", "paper", "--config", config, "--var", var).ready()

    return start


@pytest.fixture
def tell(daemons, var):
    """Give the running daemon a command, through the command line; what that said."""

    def command(*words):
        return daemons.run(*words, "--config", daemons.directory / "mia.toml", "--var", var)

    return command


def rows(path, query):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def journal(var, query):
    return rows(var / "journal" / "paper.db", query)


def log_of(var, event):
    lines = (json.loads(line) for line in (var / "logs" / "live_trading.log").read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def status_when(var, wanted, what):
    """The first status that `wanted` holds of."""
    return until(lambda: (status := status_of(var)) and wanted(status) and status, what)


def stop_in_time(daemon, number=signal.SIGINT):
    began = time.monotonic()
    daemon.signal(number)
    ended = daemon.wait(3 * STOP_S)
    assert time.monotonic() - began <= STOP_S
    return ended


def left_at_exchange(var):
    """The simulator's memory once it has stopped: position, and the orders still alive by their last letter."""
    ((accounts,),) = rows(var / "simulator" / "simulator.db", "SELECT value FROM meta WHERE key = 'accounts'")
    orders = [json.loads(data) for (data,) in rows(var / "simulator" / "simulator.db", "SELECT data FROM orders")]
    (account,) = json.loads(accounts).values()
    position = sum(position["quantity"] for position in account["positions"].values())
    return position, sorted(o["client_id"][-1] for o in orders if o["status"] not in {7, 8, 9})


def too_open(directory):
    """What has a mode wider than 0750 for a directory, 0660 for the control socket, 0640 for the rest."""
    allowed = {stat.S_IFDIR: 0o750, stat.S_IFSOCK: 0o660}
    modes = {}
    for place in (directory, *directory.rglob("*")):
        with suppress(FileNotFoundError):  # a part of a file that has its name by now
            modes[place] = place.lstat().st_mode
    return [
        f"{place} {stat.S_IMODE(mode):o}"
        for place, mode in modes.items()
        if stat.S_IMODE(mode) & ~allowed.get(stat.S_IFMT(mode), 0o640)
    ]


# --------------------------------------------------------------------------------------------- the README's own session


@pytest.fixture(scope="module")
def session(fork_server, tmp_path_factory):
    """`mia-daemon --mode paper --for 20s --speed 60 --var DIR`, with the configuration as shipped."""
    directory = tmp_path_factory.mktemp("session")
    with daemons_in(directory, fork_server) as daemons:
        config = PROJECT / "etc" / "mia.toml"
        words = ("--mode", "paper", "--config", config, "--for", "20s", "--speed", 60, "--var", directory / "var")
        return directory / "var", daemons.run(*words, quick=False)


def verified(daemons, recording, *words):
    ended = daemons.run("verify-session", recording, "--json", *words)
    return ended.status, json.loads(ended.out)


def recordings(var):
    return sorted((var / "recordings").iterdir())


def test_a_session_with_commands_and_its_continuation_repeat_as_recorded(paper, tell, daemons, var):
    """Killed with a position or an order, and continued: both recordings lead to the rows of the journal."""
    first = paper()
    until(lambda: status_of(var).get("round_trips"), "it trades")
    assert tell("halt").status == 0
    assert tell("resume").status == 0
    status, found = verified(daemons, *recordings(var))
    assert (status, found["parted"]) == (0, [])
    assert all("the session goes on" in note for note in found["notes"])
    until(lambda: status_of(var).get("position") or status_of(var).get("working_orders"), "something is open")
    first.kill()
    second = paper()
    until(lambda: status_of(var).get("round_trips"), "it trades again")
    assert tell("flatten").status == 0
    second.signal(signal.SIGTERM)
    assert second.wait().status == 0
    for recording in recordings(var):
        status, found = verified(daemons, recording)
        assert (status, found["parted"]) == (0, [])
        assert found["rows"]["decisions"] > 0
        assert found["rows"]["intents"] > 0


def test_a_journal_that_has_another_row_than_the_session_is_found(session, daemons, tmp_path):
    var, _ = session
    (recording,) = recordings(var)
    assert verified(daemons, recording)[0] == 0
    other = tmp_path / "other"
    shutil.copytree(var / "journal", other / "journal")
    with closing(sqlite3.connect(other / "journal" / "paper.db", isolation_level=None)) as db:
        ((number, name),) = db.execute("SELECT number, decision_id FROM decisions ORDER BY number LIMIT 1 OFFSET 5")
        db.execute("UPDATE decisions SET target = target + 1 WHERE number = ?", (number,))
    status, found = verified(daemons, recording, "--var", other)
    assert status == 1
    assert found["parted"] == [f"decisions, row 6 (decision_id {name}): target 1 recorded, 0 repeated"]


def test_a_replay_of_a_recording_has_the_sessions_decisions_and_round_trips(session, daemons, tmp_path):
    var, _ = session
    (recording,) = recordings(var)
    replayed = json.loads(daemons.run("replay", recording, "--var", tmp_path / "again", "--json").out)
    for figure, table in (("decisions", "decisions"), ("fills", "fills"), ("round_trips", "trades")):
        assert replayed[figure] == journal(var, f"SELECT COUNT(*) FROM {table}")[0][0]


def test_a_bounded_session_ends_by_itself_with_trades_and_a_summary(session):
    var, ended = session
    assert (ended.status, ended.err) == (0, "")
    assert "simulated market: its profit means nothing" in ended.out.splitlines()[:3]
    summary = ended.out.splitlines()[-1]
    told = re.fullmatch(
        r"time is up after \d+ s: (\d+) orders, (\d+) fills, (\d+) round trips, profit [+-]\d+\.\d\d after costs "
        r"\(simulated market: its profit means nothing\), position \+0; everything is in (.*)",
        summary,
    )
    assert told is not None, summary
    assert Path(told[4]) == var
    counted = [journal(var, f"SELECT COUNT(*) FROM {table}")[0][0] for table in ("intents", "fills", "trades")]
    assert [int(number) for number in told.groups()[:3]] == counted
    assert counted[2] >= 1
    assert left_at_exchange(var) == (0, [])


def test_the_first_fill_comes_within_a_minute_of_the_start(session):
    var, _ = session
    began, filled = (datetime.fromisoformat(log_of(var, event)[0]["ts"]) for event in ("run_started", "fill"))
    assert (filled - began).total_seconds() <= 60


NUMBERS = {"entry_price", "profit", "alpha_score", "signal_score", "latency", "memory_usage_mb", "cpu_percent"}
PERFORMANCE = ("timestamp", "operation", "latency", "success", "memory_usage_mb", "cpu_percent")
FILES = {
    "trades/trades_simulated.csv": ("trade_id", "timestamp", "entry_price", "profit", "regime_probs"),
    "logs/trading/alpha_scores.csv": ("timestamp", "alpha_score", "regime_probs"),
    "logs/trading/decision_log.csv": ("timestamp", "trade_id", "decision", "signal_score", "regime_probs"),
    "logs/trading/penalty_log.csv": ("timestamp", "penalty_active", "overtrade_risk_score"),
    "logs/trade_executor_performance.csv": PERFORMANCE,
    "logs/trading_loop_performance.csv": PERFORMANCE,
    "logs/inference_performance.csv": PERFORMANCE,
    "logs/trade_probability_performance.csv": PERFORMANCE,
    "logs/risk_performance.csv": PERFORMANCE,
    "logs/trade_window_filter_performance.csv": PERFORMANCE,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_exactly_its_columns_and_whole_rows(session, name):
    var, _ = session
    content = (var / name).read_bytes()
    assert content.endswith(b"\n")
    header, *body = csv.reader(content.decode().splitlines(), strict=True)
    assert tuple(header) == FILES[name]
    assert body
    for row in body:
        assert len(row) == len(header)
        fields = dict(zip(header, row, strict=True))
        assert fields["timestamp"].endswith("Z")
        datetime.fromisoformat(fields["timestamp"])
        if "regime_probs" in fields:
            probabilities = json.loads(fields["regime_probs"])
            assert list(probabilities) == ["range", "trend", "defensive"]
            assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        for number in {"entry_price", "profit", "alpha_score", "signal_score", "latency", "memory_usage_mb"} & set(
            fields
        ):
            float(fields[number])


def test_trades_are_told_as_journaled_each_with_its_snapshot(session):
    var, _ = session
    with (var / "trades" / "trades_simulated.csv").open(newline="") as file:
        told = {row["trade_id"]: (float(row["entry_price"]), float(row["profit"])) for row in csv.DictReader(file)}
    known = journal(var, "SELECT trade_id, entry_price, gross - costs FROM trades")
    assert told == {trade_id: (price, pytest.approx(profit, abs=0.005)) for trade_id, price, profit in known}
    for trade_id, (price, profit) in told.items():
        (path,) = (var / "trade_snapshots").glob(f"trade_*_{trade_id}.json")
        snapshot = json.loads(path.read_text())
        assert (snapshot["trade_id"], snapshot["entry_price"]) == (trade_id, price)
        assert snapshot["profit"] == pytest.approx(profit, abs=0.005)
        assert snapshot["timestamp"].endswith("Z")
        assert {fill["quantity"] for fill in snapshot["fills"]} == {1}


def test_risk_snapshots_are_whole(session):
    var, _ = session
    snapshots = list((var / "risk_snapshots").glob("risk_*.json"))
    assert snapshots
    for path in snapshots:
        assert {"timestamp", "drawdown", "overtrade_risk_score", "penalty_active"} <= set(json.loads(path.read_text()))


def test_a_clean_session_raises_no_alarm(session):
    """Links that are closed on purpose are no trouble."""
    var, _ = session
    assert [line for line in log_of(var, "alert") if line["priority"] > 1] == []
    assert journal(var, "SELECT how FROM runs") == [("time is up",)]


def test_what_it_leaves_is_open_to_no_one_but_its_user_and_readers_in_its_group(session):
    """Whatever the umask: the tests' processes start with 0."""
    var, _ = session
    assert too_open(var) == []


def test_all_350_features_are_fed(session):
    """The simulator has depth and a second market too: nothing stays at its neutral value for want of an input."""
    var, _ = session
    vectors = [np.frombuffer(zlib.decompress(data), "<f4") for (data,) in journal(var, "SELECT vector FROM features")]
    moves = np.ptp(np.array(vectors), axis=0) > 0
    needs = {name: catalogue.index(name) for name in catalogue.neutral_without(catalogue.Inputs.REFERENCE)}
    assert len(needs) == 10
    assert [name for name, at in needs.items() if not moves[at]] == []
    assert not log_of(var, "inputs_missing")
    assert "inputs_missing" not in {line["code"] for line in log_of(var, "alert")}


def test_the_log_says_what_ran(session):
    (started,) = log_of(session[0], "run_started")
    assert started["bundle"].startswith("baseline")
    assert re.fullmatch(r"[0-9a-f]{64}", started["config_sha256"])
    assert started["config"]["simulator"]["speed"] == 60.0


def test_the_log_has_the_sessions_memory_processor_and_latencies(session):
    *_, line = log_of(session[0], "performance")
    assert (line["operation"], line["success"]) == ("live_trading", True)
    assert line["latency"] > 0
    assert line["memory_usage_mb"] > 0
    assert line["cpu_percent"] > 0
    assert {"predict", "predict_trade_success", "trading_loop", "execute_trade"} <= set(line["latencies"])


# --------------------------------------------------------------------------------------------- stopping and carrying on


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_time_flat_and_with_a_summary(paper, var, number):
    daemon = paper()
    status_when(var, lambda status: status["position"] and status["round_trips"], "a position")
    ended = stop_in_time(daemon, number)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[-1].startswith(f"{number.name} after ")
    assert "position +0" in ended.out.splitlines()[-1]
    assert left_at_exchange(var) == (0, [])
    assert journal(var, "SELECT how FROM runs") == [(number.name,)]


def test_a_position_may_be_kept_with_its_stop_and_is_carried_on(paper, var, tell):
    keeping = {"stop": {"on_stop": "keep"}}
    first = paper(CLINGING, **keeping)
    held = status_when(var, lambda status: status["position"], "a position")["position"]
    assert stop_in_time(first).status == 0
    assert left_at_exchange(var) == (held, ["S", "T"])
    second = paper(CLINGING, **keeping)
    found = status_when(var, lambda status: status["reconciled"], "the books agree")
    assert (found["position"], found["working_orders"], found["orders"]) == (held, 2, 0)
    assert tell("flatten").status == 0
    status_when(var, lambda status: status["position"] == 0 and not status["working_orders"], "flat")
    assert stop_in_time(second).status == 0
    assert left_at_exchange(var) == (0, [])
    ((opened, closed),) = journal(var, "SELECT side * quantity, exit_reason FROM trades")
    assert (opened, closed) == (held, "operator")


def test_it_can_be_stopped_while_it_still_waits_for_its_server(daemons, var):
    """A server that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dtc = {"port": silent.getsockname()[1], "connect_timeout_s": 60.0}
        config = daemons.config(**tables(EAGER, feed={"source": "dtc", "max_event_age_s": 0}, dtc=dtc))
        daemon = daemons.start("--mode", "paper", "--config", config, "--var", var)
        until((var / "run" / "control.sock").exists, "the control socket")
        assert stop_in_time(daemon).status == 0


def test_simulator_and_housekeeping_do_not_outlive_a_killed_daemon(paper, var):
    daemon = paper()
    children = psutil.Process(daemon.pid).children()
    words = [word for child in children for word in child.cmdline()]
    assert len(children) == 2
    assert {"simulator", "mia_daemon.retention"} < set(words)
    status_when(var, lambda status: status["fills"], "a fill")
    daemon.kill()
    assert until(lambda: not any(child.is_running() for child in children), "the children end", STOP_S)
    again = paper()
    status_when(var, lambda status: status["reconciled"] and status["fills"], "trading goes on")
    assert stop_in_time(again).status == 0
    assert left_at_exchange(var) == (0, [])
    assert [how for (how,) in journal(var, "SELECT how FROM runs")] == ["killed", "SIGINT"]


def test_a_lost_server_is_waited_for_and_trading_goes_on(daemons, var, tmp_path):
    """Only the orders and prices links know of it: the daemon lives on."""
    speed, place = 20, tmp_path / "exchange"
    more = {"feed": {"source": "dtc", "max_event_age_s": 0}, "broker": {"ack_timeout_s": 30.0}}
    server_config = daemons.config("exchange.toml", **tables(EAGER, **more))
    exchange, port = daemons.simulator(server_config, place, speed=speed)
    dtc = {"port": port, "reconnect_first_delay_s": 0.1, "reconnect_max_delay_s": 0.5}
    config = daemons.config(**tables(EAGER, **more, dtc=dtc))
    daemon = daemons.start("--mode", "paper", "--config", config, "--var", var).ready()
    before = status_when(var, lambda status: status["fills"], "a fill")["fills"]
    exchange.kill()
    status_when(var, lambda status: not status["reconciled"], "the loss is noticed")
    words = ("simulator", "--config", server_config, "--port", port, "--state", place, "--speed", speed)
    again = daemons.start(*words)
    status_when(var, lambda status: status["reconciled"] and status["fills"] > before + 1, "trading goes on")
    assert stop_in_time(daemon).status == 0
    again.signal(signal.SIGTERM)
    assert again.wait().status == 0
    at_server = {line["ExecutionID"] for line in map(json.loads, (place / "orders.jsonl").read_text().splitlines())
                 if line["kind"] == "fill"}  # fmt: skip
    assert {name for (name,) in journal(var, "SELECT execution_id FROM fills")} == at_server


# --------------------------------------------------------------------------------------------- operators


def test_operators_are_heard(paper, tell, var):
    """status, halt (which outlives a restart), resume, flatten and stop, as anyone would type them."""
    daemon = paper()
    path = var / "run" / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    status_when(var, lambda status: status["fills"], "a fill")

    assert too_open(var) == []  # the journal's log is there too, and the sockets

    snapshot = json.loads(tell("status", "--json").out)
    assert {"state", "position", "decisions", "orders", "fills", "stages", "process"} <= set(snapshot)
    assert set(snapshot["stages"]) == {"feed", "features", "inference", "executor"}
    assert re.match(r"active, paper ESZ26_FUT_CME \d+\.\d\d/\d+\.\d\d \(\d+\.\d s old\)\n", tell("status").out)

    halted = tell("halt")
    assert (halted.status, halted.out.startswith("halted"), halted.err) == (0, True, "")
    status_when(var, lambda status: status["state"] == "halted" and not status["working_orders"], "halted")
    (asked,) = log_of(var, "control_command")
    assert (asked["command"], asked["uid"]) == ("halt", os.getuid())
    ((command, by),) = journal(var, "SELECT command, by FROM commands WHERE command <> 'start'")
    assert (command, by.split()[:2]) == ("halt", ["uid", str(os.getuid())])

    assert tell("stop").status == 0
    ended = daemon.wait(STOP_S)
    assert ended.status == 0
    assert ended.out.splitlines()[-1].startswith("stop by uid")

    daemon = paper()
    still = status_when(var, lambda status: status["reconciled"] and status["decisions"] > 5, "decisions")
    assert (still["state"], still["latches"], still["orders"]) == ("halted", ["halted"], 0)
    (told,) = [line for line in daemon.out.read_text().splitlines() if line.startswith("still latched: ")]
    assert told.endswith("no new positions until `mia-daemon resume`")
    assert tell("resume").status == 0
    status_when(var, lambda status: status["state"] == "active" and status["fills"], "trading goes on")
    assert tell("flatten").status == 0
    status_when(var, lambda status: status["state"] == "halted" and status["position"] == 0, "flat and halted")
    assert tell("stop").status == 0
    assert daemon.wait(STOP_S).status == 0

    gone = tell("status")
    assert (gone.status, gone.out) == (1, "")
    assert "no daemon answers" in gone.sentence


def test_directories_that_others_can_read_are_a_warning_at_the_start(paper, var):
    (var / "trades").mkdir(parents=True)
    (var / "trades").chmod(0o755)
    paper()
    (told,) = [line for line in log_of(var, "alert") if line["code"] == "directories_open"]
    assert told["level"] == "warning"
    assert f"{var / 'trades'}: chmod -R g-w,o-rwx {var}" in told["text"]


def test_what_is_doubtful_about_price_files_is_a_warning_at_the_start(paper, var, tmp_path):
    reference = tmp_path / "NQM27_FUT_CME.scid"
    paper(
        feed={"source": "scid", "scid_path": str(tmp_path / "{symbol}.scid"), "max_event_age_s": 0},
        reference={"symbol": "NQM27_FUT_CME", "scid_path": str(reference)},
    )
    (alert,) = [line for line in log_of(var, "alert") if line["code"] == "price_files"]
    assert alert["level"] == "warning"
    far, missing = alert["text"].split("; reference ")
    assert "NQM27" in far
    assert missing.startswith(f"{reference}: it is not there yet")


def test_a_second_daemon_on_the_same_directory_is_refused(paper, daemons, var):
    first = paper()
    refused = daemons.run("--mode", "paper", "--config", daemons.directory / "mia.toml", "--var", var)
    assert (refused.status, refused.out) == (1, "")
    assert "in use by process" in refused.sentence
    assert str(first.pid) in refused.sentence
    recorded = next((var / "recordings").iterdir())  # a replay would write to the same CSV files
    replayed = daemons.run("replay", recorded, "--config", daemons.directory / "mia.toml", "--var", var)
    assert (replayed.status, replayed.out) == (1, "")
    assert f"{var} is in use by process {first.pid}: stop that daemon or choose another --var" in replayed.err
    status_when(var, lambda status: status["decisions"], "the first trades on")
    assert stop_in_time(first).status == 0
    assert len(journal(var, "SELECT 1 FROM runs")) == 1


def test_a_server_that_will_not_serve_the_symbol_ends_it_with_the_reason(daemons, var, tmp_path):
    feed = {"source": "dtc", "max_event_age_s": 0}
    _, port = daemons.simulator(daemons.config("exchange.toml", **tables(EAGER)), tmp_path / "exchange")
    config = daemons.config(
        **tables(EAGER, feed=feed, dtc={"port": port}, instrument={"symbol": "NQH27_FUT_CME"}, broker={"kind": "paper"})
    )
    ended = daemons.run("--mode", "paper", "--config", config, "--var", var, patience_s=20)
    assert ended.status == ExitStatus.CONFIG
    assert "NQH27_FUT_CME" in ended.sentence
    assert 'feed.source = "scid"' in ended.sentence
    assert "Traceback" not in ended.out
    (performance,) = log_of(var, "performance")
    assert (performance["operation"], performance["success"]) == ("live_trading", False)
    assert performance["memory_usage_mb"] > 0


def test_an_account_that_the_server_does_not_know_ends_it_with_the_reason(daemons, var, tmp_path):
    more = {"feed": {"source": "dtc", "max_event_age_s": 0}, "instrument": {"trade_account": "Real7"}}
    _, port = daemons.simulator(daemons.config("exchange.toml", **tables(EAGER)), tmp_path / "exchange")
    config = daemons.config(**tables(EAGER, **more, dtc={"port": port}))
    ended = daemons.run("--mode", "paper", "--config", config, "--var", var, patience_s=20)
    assert ended.status == ExitStatus.CONFIG
    assert "Real7" in ended.sentence
    ((how,),) = journal(var, "SELECT how FROM runs")
    assert how.startswith("failed: ")
    assert "Real7" in how


def test_a_start_that_fails_is_ended_in_the_journal_too(daemons, var):
    """Else the next start would take the run for one that was killed."""
    var.mkdir(parents=True, exist_ok=True)
    (var / "recordings").write_text("")
    ended = daemons.run("--mode", "paper", "--config", daemons.config(**tables(EAGER)), "--var", var, patience_s=20)
    assert ended.status == ExitStatus.FAILED
    ((how,),) = journal(var, "SELECT how FROM runs")
    assert how.startswith("failed: ")
    assert "recordings" in how
