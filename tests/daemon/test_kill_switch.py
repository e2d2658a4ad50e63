"""A running daemon is killed by command, by signal, by a file and by its watchdog; operators lift what is latched."""

import asyncio
import json
import os
import signal
import socket
import sqlite3
import time
from contextlib import closing

import pytest
from daemon_process import status_of, until

from mia_daemon.daemon import process
from mia_daemon.daemon.process import Daemon
from mia_daemon.ops.systemd import Notifier

pytestmark = pytest.mark.timeout(120)

TABLES = {
    "simulator": {"speed": 20.0},
    "features": {"warmup_s": 0.0, "decision_interval_s": 2.0},
    "model": {"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
    "decision": {
        "enter_above": 0.001, "exit_below": 0.0005, "min_probability": 0.0, "defensive_blocks_above": 1.0,
        "min_hold_s": 1e6, "max_hold_s": 1e7, "stop_ticks": 1000, "target_ticks": 1000,
    },
    "windows": {"no_entry_before_close_s": 0.0},
    "stop": {"on_stop": "keep"},
}  # fmt: skip


@pytest.fixture
def var(tmp_path):
    return tmp_path / "var"


@pytest.fixture
def trading(daemons, var):
    """Start a daemon and wait until its status has what is awaited: at least a position."""

    def start(awaited="position", **more):
        config = daemons.config(**TABLES, **more)
        started = daemons.start("--mode", "paper", "--config", config, "--var", var).ready()
        when(var, lambda status: status[awaited], awaited)
        return started

    return start


@pytest.fixture
def tell(daemons, var):
    def command(*words):
        return daemons.run(*words, "--config", daemons.directory / "mia.toml", "--var", var)

    return command


def when(var, wanted, what):
    return until(lambda: (status := status_of(var)) and wanted(status) and status, what)


def journal(var, query):
    with closing(sqlite3.connect(f"file:{var}/journal/paper.db?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


def test_killed_by_signal_it_keeps_its_stop_and_stays_killed(trading, tell, var):
    daemon = trading()
    daemon.signal(signal.SIGUSR2)
    killed = when(var, lambda status: status["latches"], "killed")
    assert (killed["state"], killed["latches"], killed["working_orders"]) == ("halted", ["killed"], 2)
    assert journal(var, "SELECT by FROM commands WHERE command = 'kill'") == [("SIGUSR2",)]
    assert "still set: killed (until `mia-daemon resume killed`)" in tell("resume").out
    assert tell("resume", "killed").out.startswith("lifted killed; entries are allowed again")
    when(var, lambda status: status["state"] == "active", "trading again")
    (cleared,) = journal(var, "SELECT cleared_by FROM latches WHERE code = 'killed'")
    assert cleared[0].startswith(f"uid {os.getuid()} pid ")
    wrong = tell("resume", "no_such_thing")
    assert (wrong.status, wrong.sentence) == (1, "mia-daemon: no_such_thing is no latch; set now: none")
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0


def test_killed_by_a_file_and_refused_to_start_while_it_is_there(trading, tell, daemons, var):
    daemon = trading(incidents={"on_kill": "flatten"})
    (var / "run" / "kill").touch()
    when(var, lambda status: status["latches"] == ["killed"] and status["position"] == 0, "killed and flat")
    refused = tell("resume", "killed")
    assert (refused.status, "remove it first, then resume" in refused.sentence) == (1, True)
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0
    words = ("--mode", "paper", "--config", daemons.directory / "mia.toml", "--var", var)
    ended = daemons.run(*words)
    assert ended.status == 2  # no restart removes the file
    assert "run/kill is there: trading was stopped on purpose" in ended.sentence
    (var / "run" / "kill").unlink()
    again = daemons.start(*words).ready()
    still = when(var, lambda status: status["reconciled"] and status["decisions"] > 3, "decisions")
    assert (still["state"], still["position"], still["latches"]) == ("halted", 0, ["killed"])
    again.signal(signal.SIGINT)
    assert again.wait().status == 0


def test_killed_by_command_and_flat_when_that_is_said(trading, tell, var):
    daemon = trading()
    told = tell("kill", "--flatten")
    assert (told.status, "the position is being closed" in told.out) == (0, True)
    when(var, lambda status: status["position"] == 0 and not status["working_orders"], "flat")
    assert journal(var, "SELECT exit_reason FROM trades") == [("kill",)]
    assert not (var / "run" / "kill").exists()
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0


def test_a_daily_loss_is_overridden_in_two_steps_by_a_person_who_is_named(trading, tell, var):
    daemon = trading("latches", risk={"max_daily_loss": 0.01})  # any cost is more
    when(var, lambda status: status["latches"] == ["daily_loss"] and not status["position"], "the loss")
    assert "still set: daily_loss" in tell("resume").out
    asked = tell("resume", "daily_loss").out
    assert "is still exceeded: to override it" in asked
    wrong = tell("resume", "daily_loss", "--confirm", "guessed").out
    assert wrong != asked  # another token
    token = wrong.split("--confirm ")[1].split("`")[0]
    assert tell("resume", "daily_loss", "--confirm", token).out.startswith("lifted daily_loss")
    said = journal(var, "SELECT by, result FROM commands WHERE command = 'resume' ORDER BY number")
    assert len(said) == 4
    assert {by.split()[1] for by, _ in said} == {str(os.getuid())}
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0


def test_without_a_daemon_a_kill_keeps_any_from_starting(daemons, var):
    config = daemons.config()
    told = daemons.run("kill", "--config", config, "--var", var)
    assert told.status == 1
    assert f"{var / 'run' / 'kill'} was written" in told.sentence
    assert "cancel them in Sierra Chart" in told.sentence
    assert "trading was stopped on purpose" in daemons.run("--mode", "paper", "--config", config, "--var", var).sentence


def test_a_kill_that_is_there_already_counts_whatever_it_is_and_is_not_written_to(daemons, var, tmp_path):
    config = daemons.config()
    (tmp_path / "target").write_text("kept")
    (var / "run").mkdir(parents=True)
    (var / "run" / "kill").symlink_to(tmp_path / "target")
    assert daemons.run("kill", "--config", config, "--var", var).status == 1
    assert (tmp_path / "target").read_text() == "kept"
    assert "trading was stopped on purpose" in daemons.run("--mode", "paper", "--config", config, "--var", var).sentence


def test_a_daemon_that_hangs_finds_the_file_when_it_comes_to(daemons, var, tmp_path):
    """Here nothing but a socket that takes the question and never answers."""
    path = tmp_path / "control.sock"
    config = daemons.config(ops={"control_socket": str(path), "kill_file": str(tmp_path / "kill")})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        began = time.monotonic()
        told = daemons.run("kill", "--config", config, "--var", var)
        assert time.monotonic() - began < 20
    assert (told.status, (tmp_path / "kill").exists()) == (1, True)


# The watchdog.


class Counters:
    """A task that has work and does not get on with it."""

    def __init__(self, name, progress):
        self.name, self._progress, self.queue_depth = name, progress, 3

    @property
    def progress(self):
        return next(self._progress)


async def test_a_task_that_stays_stuck_is_told_of_and_then_kills(monkeypatch):
    monkeypatch.setattr(process, "WATCHDOG_EVERY_S", 0.0)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    daemon = Daemon.__new__(Daemon)
    daemon._clock = process.WallClock()
    daemon._notifier = Notifier({})
    told, killed = [], asyncio.Event()
    daemon._kill = lambda by: (told.append(by), killed.set())
    run = type("Run", (), {"alert": lambda _self, alert: told.append(alert.code)})()
    # Of these looks the second finds it stuck, the third not, the fifth and the sixth do.
    session = type("Session", (), {"counters": (Counters("inference", iter([1, 1, 2, 3, 3, 3, *range(4, 10**6)])),)})()
    task = asyncio.create_task(daemon._feed_watchdog(run, session))
    async with asyncio.timeout(10):
        await killed.wait()
    task.cancel()
    assert told[:3] == ["task_stuck", "task_stuck", "watchdog: inference stuck"]


def test_the_status_names_the_latches(trading, tell, var):
    daemon = trading()
    tell("halt")
    when(var, lambda status: status["state"] == "halted", "halted")
    assert json.loads(tell("status", "--json").out)["latches"] == ["halted"]
    assert tell("status").out.startswith("halted, paper ")
    assert tell("rearm").out.startswith("rearmed after 1 entries; still set: halted")
    assert journal(var, "SELECT COUNT(*) FROM latches WHERE code = 'repeated_execution'") == [(1,)]
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0
