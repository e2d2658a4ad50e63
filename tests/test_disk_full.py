"""The daemon as a process whose disk fails: it stops trading in order, says why, and the next start misses nothing."""

import json
import resource
import signal
import sqlite3
from contextlib import closing

import pytest
from daemon_process import TRADES_AT_ONCE, status_of, until

pytestmark = pytest.mark.timeout(300)

CONFIG = {**TRADES_AT_ONCE, "simulator": {"speed": 60.0}}


def rows(path, query):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


@pytest.fixture
def var(tmp_path):
    return tmp_path / "var"


@pytest.fixture
def command(daemons, var):
    return ("--mode", "paper", "--config", daemons.config(**CONFIG), "--var", var)


def test_a_disk_that_takes_no_more_stops_trading_and_loses_nothing(daemons, var, command):
    """No file may grow beyond what the journal's log has: so none of the journal's commits succeeds any more."""
    path = var / "journal" / "paper.db"
    daemon = daemons.start(*command).ready()
    until(lambda: (status := status_of(var)).get("round_trips") and status["position"], "a position after a round trip")
    size = path.with_name("paper.db-wal").stat().st_size
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    halted = until(lambda: (status := status_of(var)).get("state") == "halted" and status, "the daemon halts")
    log = [json.loads(line) for line in (var / "logs" / "live_trading.log").read_text().splitlines()]
    (told,) = [line for line in log if line["event"] == "alert" and line["code"] == "journal"]
    assert told["priority"] == 5
    assert "the disk fails" in told["text"]
    assert "no new positions, exits still go out" in told["text"]
    daemon.signal(signal.SIGINT)
    ended = daemon.wait()
    assert ended.status == 1
    assert "the disk fails" in ended.err.splitlines()[-1]
    ((accounts,),) = rows(var / "simulator" / "simulator.db", "SELECT value FROM meta WHERE key = 'accounts'")
    (account,) = json.loads(accounts).values()
    assert all(position["quantity"] == 0 for position in account["positions"].values())
    at_server = [json.loads(line) for line in (var / "simulator" / "orders.jsonl").read_text().splitlines()]
    entries = sum(line.get("type") == "SubmitNewSingleOrder" and line["IsParentOrder"] for line in at_server)
    assert 3 * entries == halted["orders"]  # each with its stop and target; none after the halt

    again = daemons.start(*command).ready()
    until(lambda: status_of(var).get("reconciled"), "the books agree")
    assert status_of(var)["latches"] == ["halted"]  # a latch survives, though the journal could not take it
    assert daemons.run("resume", "--var", var).status == 0
    until(lambda: status_of(var).get("round_trips"), "trading goes on")
    again.signal(signal.SIGINT)
    assert again.wait().status == 0
    at_server = [json.loads(line) for line in (var / "simulator" / "orders.jsonl").read_text().splitlines()]
    executed = {line["ExecutionID"] for line in at_server if line["kind"] == "fill"}
    assert {name for (name,) in rows(path, "SELECT execution_id FROM fills")} == executed
    verified = daemons.run("journal", "verify", "--var", var)
    assert verified.status == 0, verified.out


def test_a_journal_that_cannot_be_used_ends_the_start_before_anything_is_sent(daemons, var, command):
    path, record = var / "journal" / "paper.db", var / "simulator" / "orders.jsonl"
    daemon = daemons.start(*command, "--quiet").ready()
    until(lambda: status_of(var).get("fills"), "a fill")
    daemon.signal(signal.SIGINT)
    assert daemon.wait().status == 0
    before = record.read_bytes()

    def refused():
        ended = daemons.run(*command, "--quiet")
        assert ended.status == 1
        assert str(path) in ended.sentence
        assert record.read_bytes() == before
        return ended.sentence

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        (size,) = other.execute("PRAGMA page_size").fetchone()
        (page,) = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'fills'").fetchone()
        other.execute("BEGIN IMMEDIATE")
        assert "another program writes to it: end that program" in refused()
        other.execute("ROLLBACK")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    assert "the file is damaged" in refused()
