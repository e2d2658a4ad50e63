"""A journal of version 2 is copied, migrated as a whole or not at all, and goes on; until then it can be read."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
from journal_versions import TABLES_2
from run_headers import run_header

from mia_daemon import database_copy
from mia_daemon.errors import JournalError
from mia_daemon.execution import order_path
from mia_daemon.features import catalogue
from mia_daemon.journal import file as journal_file
from mia_daemon.journal import report
from mia_daemon.journal.migrations import MIGRATIONS
from mia_daemon.journal.order_history import orders
from mia_daemon.journal.schema import APPLICATION_ID, NUMBERED, TABLES, VERSION
from mia_daemon.journal.verify import verify
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal, RequestKind
from mia_daemon.records import (
    Action,
    Alert,
    Decision,
    Fill,
    FillSource,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Prediction,
    Priority,
    RegimeProbs,
    Side,
    Trade,
)
from mia_daemon.risk.codes import Latch, RiskCode

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"
PROBS = RegimeProbs(0.7, 0.2, 0.1)
START = 1_790_000_000_000_000_000

OF_2 = tuple(table for table in NUMBERED if table not in {"positions", "firings"})


def fill(execution, name, side, price, source=FillSource.UPDATE):
    return Fill(START, execution, name, "7" if name else "", SYMBOL, ACCOUNT, side, 1, price, source)


def record(journal):
    """A run with rows in every table of version 2: a round trip of ours, and a position that was taken over."""
    run = journal.begin_run(run_header(START))
    decided, name = f"{run}-1", f"{run}-1E"
    said = Prediction(PROBS, 0.5, 0.8, "p", 0.0, "ab")
    journal.record_decision(Decision(decided, 1, START, Action.BUY, 1, "signal", said, 1.0, 2.0, {"held_s": 1.5}))
    journal.record_features(decided, catalogue_values())
    order = Order(name, SYMBOL, ACCOUNT, Side.BUY, 1, OrderType.LIMIT, OrderRole.ENTRY, decided, 6000.0)
    stop = Order(f"{run}-1S", SYMBOL, ACCOUNT, Side.SELL, 1, OrderType.STOP, OrderRole.STOP, decided, 5990.0)
    journal.record_intent((order, stop), START)
    for status, filled in ((OrderStatus.ACCEPTED, 0), (OrderStatus.FILLED, 1)):
        journal.record_update(
            OrderReport(START, name, "7", SYMBOL, ACCOUNT, status, Side.BUY, 1, filled, text="a 'quoted' text")
        )
    assert journal.record_fill(fill("x1", name, Side.BUY, 6000.0))
    assert journal.record_fill(fill("x2", stop.client_order_id, Side.SELL, 5990.0))
    journal.record_trade(
        Trade(decided, SYMBOL, Side.BUY, 1, START, START, 6000.0, 5990.0, -500.0, 4.0, PROBS, decided, "stop")
    )
    journal.record_request(stop.client_order_id, RequestKind.REPLACE, START, 5991.0, 1, "trail")
    assert journal.record_fill(fill("drift-1", "", Side.SELL, 6010.0, FillSource.EXTERNAL))
    journal.record_equity(START, 50_000.0, 50_000.0, -1, 0.0, 0.0)
    journal.record_alert(Alert(START, "a", Priority.INFO, "t", {"x": 1}))
    journal.record_command(START, "halt", "uid 0", "done", event_ns=START)
    journal.set_latch(Latch(RiskCode.HALTED, START, {"by": "uid 0"}))
    journal.end_run(run, START, "stop")


def catalogue_values():
    import numpy as np

    return np.linspace(-1, 1, catalogue.COUNT, dtype=np.float32)


def rows(path, columns_of):
    """All rows of the tables of version 2, each with the columns named."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            table: db.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1").fetchall()
            for table, columns in columns_of.items()
        }


def columns(path):
    """By table; without the generated ones."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for table in (*OF_2, "runs", "features")
        }


def version(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


@pytest.fixture
def present(tmp_path):
    """A journal of the present version."""
    journal = Journal(tmp_path / "present" / "paper.db", durable=False)
    record(journal)
    journal.close()
    return journal.path


@pytest.fixture
def path(present, tmp_path):
    """The same journal, as a daemon of version 2 wrote it."""
    found = tmp_path / "paper.db"
    with closing(sqlite3.connect(found, isolation_level=None)) as db:
        db.execute("PRAGMA page_size = 2048")
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(f"BEGIN; {TABLES_2} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2; COMMIT")
    of_2 = columns(found)
    with closing(sqlite3.connect(found, isolation_level=None)) as db:
        for table, copied in rows(present, of_2).items():
            assert copied, table
            names = ", ".join(of_2[table])
            db.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(of_2[table]))})", copied)
    assert version(found) == 2
    return found


def backups(path):
    return sorted(one.name for one in path.parent.iterdir() if "backup" in one.name)


def test_every_row_survives_and_the_journal_goes_on(path, present):
    of_2 = columns(path)
    before = rows(path, of_2)
    journal = Journal(path, durable=False)
    assert version(path) == VERSION
    assert rows(path, of_2) == before
    assert rows(path, columns(present)) == rows(present, columns(present))  # the new columns too
    found = journal.recover(SYMBOL, ACCOUNT, 0)
    assert found.account.positions == {(SYMBOL, ACCOUNT): -1}
    assert [one.fill.source for one in found.account.fills] == [*[FillSource.UPDATE] * 2, FillSource.EXTERNAL]
    journal.begin_run(run_header(START + 1))
    assert not journal.record_fill(fill("drift-1", "", Side.SELL, 6010.0))
    assert journal.record_fill(fill("x1", "o9", Side.BUY, 6000.0))
    journal.record_position(PositionReport(START, SYMBOL, ACCOUNT, 0, 0.0))
    journal.record_firing(START, 1, "no answer")
    journal.close()
    Journal(path, durable=False).close()  # it is not migrated again
    assert backups(path) == ["paper.db.v2-backup"]
    with JournalView(path) as view:
        assert view.value("SELECT COUNT(*) FROM positions") == view.value("SELECT COUNT(*) FROM firings") == 1
        found = verify(view, order_path.findings).checks
    assert found["no execution was booked twice"] == []
    assert found["orders follow the state table"] == []


def test_a_migrated_journal_has_the_tables_of_a_new_one(path, tmp_path):
    def tables(of):
        with closing(sqlite3.connect(of)) as db:
            names = sorted(name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"))
            return {
                name: (
                    db.execute(f"PRAGMA table_xinfo({name})").fetchall(),
                    sorted(
                        (index[2:], db.execute(f"PRAGMA index_xinfo({index[1]})").fetchall())
                        for index in db.execute(f"PRAGMA index_list({name})").fetchall()
                    ),
                    [row for row in db.execute("PRAGMA table_list") if row[1] == name],
                )
                for name in names
            }

    Journal(path, durable=False).close()
    Journal(tmp_path / "new.db", durable=False).close()
    assert tables(path) == tables(tmp_path / "new.db")
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        assert {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")} >= set(NUMBERED)


def test_the_copy_is_the_journal_as_it_was_and_overwrites_no_other(path):
    path.chmod(0o640)
    with closing(sqlite3.connect(path)) as db:
        before = list(db.iterdump())
    path.with_name("paper.db.v2-backup").write_bytes(b"an earlier copy")
    Journal(path, durable=False).close()
    copy = path.with_name("paper.db.v2-backup.2")
    assert backups(path) == ["paper.db.v2-backup", copy.name]
    assert path.with_name("paper.db.v2-backup").read_bytes() == b"an earlier copy"
    assert copy.stat().st_mode & 0o777 == 0o640
    assert version(copy) == 2
    with closing(sqlite3.connect(copy)) as db:
        assert list(db.iterdump()) == before
    with JournalView(copy) as view:
        assert view.positions() == {(SYMBOL, ACCOUNT): -1}


def test_what_a_killed_daemon_left_in_the_log_is_migrated_and_copied_too(path, present, tmp_path):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("UPDATE equity SET position = 77")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", tmp_path / f"killed.db{suffix}")
    killed = tmp_path / "killed.db"
    assert killed.with_name("killed.db-wal").stat().st_size > 0
    Journal(killed, durable=False).close()
    for one in (killed, killed.with_name("killed.db.v2-backup")):
        assert rows(one, {"equity": ["position"]}) == {"equity": [(77,)]}


@pytest.mark.parametrize("failing", range(len(MIGRATIONS[2]) + 1))
def test_an_error_at_any_statement_leaves_version_2_as_it_was(path, monkeypatch, failing):
    """It can be opened again, and is then migrated."""
    of_2 = columns(path)
    before = rows(path, of_2)
    statements = list(MIGRATIONS[2])
    statements.insert(failing, "SELECT no_such_column FROM runs")
    with monkeypatch.context() as patched:
        patched.setitem(MIGRATIONS, 2, tuple(statements))
        with pytest.raises(JournalError, match="no_such_column"):
            Journal(path, durable=False)
    assert version(path) == 2
    assert rows(path, of_2) == before
    assert backups(path) == ["paper.db.v2-backup"]
    Journal(path, durable=False).close()
    assert version(path) == VERSION
    assert backups(path) == ["paper.db.v2-backup", "paper.db.v2-backup.2"]


CHILD = textwrap.dedent(
    """
    import os, signal, sqlite3, sys
    from pathlib import Path
    from mia_daemon.journal import file
    from mia_daemon.journal.writer import Journal

    class Killed(sqlite3.Connection):
        def execute(self, sql, *values):
            if self.steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.steps -= self.migrating
            self.migrating = self.migrating or sql == "BEGIN IMMEDIATE"
            return super().execute(sql, *values)

    Killed.steps, Killed.migrating = int(sys.argv[2]), False
    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **named: connect(*given, factory=Killed, **named)
    Journal(Path(sys.argv[1]), durable=False)
    """
)


@pytest.mark.parametrize("steps", [1, 4, len(MIGRATIONS[2]) + 1, len(MIGRATIONS[2]) + 2])
def test_killed_at_any_statement_it_has_the_old_version_or_the_new(path, present, steps):
    of_2 = columns(path)
    before = rows(path, of_2)
    ended = subprocess.run([sys.executable, "-c", CHILD, str(path), str(steps)], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    committed = steps > len(MIGRATIONS[2]) + 1
    assert version(path) == (VERSION if committed else 2)
    assert rows(path, of_2) == before
    with JournalView(path.with_name("paper.db.v2-backup")) as view:
        assert view.version == 2
    Journal(path, durable=False).close()
    assert rows(path, columns(present)) == rows(present, columns(present))


def test_a_journal_that_cannot_be_copied_is_not_migrated(path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(database_copy.os, "fsync", full)
        with pytest.raises(JournalError, match="can't be copied before it is migrated: No space left on device"):
            Journal(path, durable=False)
    assert (version(path), backups(path)) == (2, [])
    Journal(path, durable=False).close()
    assert (version(path), backups(path)) == (VERSION, ["paper.db.v2-backup"])


def test_a_journal_that_another_program_writes_to_is_not_migrated(path, monkeypatch):
    monkeypatch.setattr(journal_file, "_OPENING_S", 0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="another program writes to it: end that program"):
            Journal(path, durable=False)
    assert version(path) == 2


# Before it is migrated.


def test_a_journal_of_version_2_can_be_read_and_does_not_change(path, present):
    before = path.read_bytes()
    with JournalView(path) as old, JournalView(present) as new:
        facts = report.summary(new)
        assert report.summary(old) == facts | {"version": 2, "journal": str(path)}
        assert list(orders(old)) == list(orders(new))
        assert old.recover(SYMBOL, ACCOUNT, 0) == new.recover(SYMBOL, ACCOUNT, 0)
        assert old.executions_of("7") == new.executions_of("7")
        assert verify(old, order_path.findings) == verify(new, order_path.findings)
        with pytest.raises(JournalError):
            old.value("DELETE FROM trades")
        with pytest.raises(JournalError):
            old.value("DELETE FROM fills")
    assert path.read_bytes() == before
    assert backups(path) == []
