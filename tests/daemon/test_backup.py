"""A backup is whole, checked and a directory to start from, whatever is written while it is made."""

import json
import os
import sqlite3
import threading
from contextlib import closing

import pytest
from run_headers import run_header

from mia_daemon import __version__
from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon.backup import MANIFEST, back_up, check_backup
from mia_daemon.errors import JournalError, StartError, UsageError
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Fill, Side
from mia_daemon.risk.codes import Latch, RiskCode
from mia_daemon.simulator.state import StateStore

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


def fill(number):
    return Fill(number, f"x{number}", "r-1E", "s", SYMBOL, ACCOUNT, Side.BUY, 1, 6000.0)


@pytest.fixture
def paths(tmp_path):
    return VarPaths(tmp_path / "var")


@pytest.fixture
def journal(paths):
    """Of a running paper daemon."""
    opened = Journal(paths.journal(Mode.PAPER), durable=False)
    opened.begin_run(run_header())
    yield opened
    opened.close()


def files_below(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_backup_taken_while_fills_are_recorded_has_each_of_them_whole_and_goes_on(journal, paths, tmp_path):
    stop, recorded = threading.Event(), []

    def write():
        with closing(Journal(paths.journal(Mode.LIVE), durable=False)) as live:
            live.begin_run(run_header())
            for number in range(1, 100_000):
                live.record_fill(fill(number))
                recorded.append(number)
                if stop.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(recorded) < 50:
            assert writer.is_alive()
        copied = back_up(paths, tmp_path / "copy", 0)
        at_the_end = len(recorded)
    finally:
        stop.set()
        writer.join()
    assert check_backup(tmp_path / "copy") == copied
    restored = VarPaths(tmp_path / "copy")
    with JournalView(restored.journal(Mode.LIVE)) as view:
        count = view.value("SELECT COUNT(*) FROM fills")
        assert 50 <= count <= at_the_end + 1
        assert view.positions() == {(SYMBOL, ACCOUNT): count}
    with closing(Journal(restored.journal(Mode.LIVE), durable=False)) as live:
        live.begin_run(run_header(2))
        assert live.latches() == ()  # nothing was lost: no halt
        assert not live.record_fill(fill(count))
        assert live.record_fill(fill(count + 1))


def test_everything_a_start_needs_is_in_it_and_nothing_else(journal, paths, tmp_path):
    journal.keep_latch(Latch(RiskCode.KILLED, 5, {}))
    for name in ("market_memory.db", "features/paper-simulator.bin", "alerts/unacknowledged.jsonl", "run/kill"):
        path = paths.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    for name in ("run/arm.toml", "run/control.sock.lock", "logs/live_trading.log", "recordings/R1/a.bin"):
        path = paths.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with closing(sqlite3.connect(paths.root / "market_memory.db")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE clusters (features TEXT)")
    copied = back_up(paths, tmp_path / "copy", 1_790_000_000_000_000_000)
    names = [
        "alerts/unacknowledged.jsonl",
        "features/paper-simulator.bin",
        "journal/paper.db",
        "journal/paper.latches.pending.json",
        "market_memory.db",
        "run/kill",
    ]
    assert [one.name for one in copied] == names
    assert files_below(tmp_path / "copy") == sorted([*names, MANIFEST])
    manifest = json.loads((tmp_path / "copy" / MANIFEST).read_bytes())
    assert (manifest["version"], manifest["time"]) == (__version__, "2026-09-21T14:13:20.000000Z")
    assert {one["name"]: one["size"] for one in manifest["files"]}["journal/paper.latches.pending.json"] == 4096
    assert all(path.stat().st_mode & 0o777 == 0o640 for path in (tmp_path / "copy").rglob("*") if path.is_file())
    assert not (tmp_path / "copy" / "journal" / "paper.db-wal").exists()


def test_the_state_of_a_running_simulator_which_nobody_may_open_is_copied_with_its_log(journal, paths, tmp_path):
    state = StateStore(paths.simulator, SYMBOL)
    state.save({"accounts": {}, "cash": 5.0}, record=[{"order": 1}])
    back_up(paths, tmp_path / "copy", 0)
    state.save({"cash": 6.0}, record=[{"order": 2}])
    state.close()
    restored = StateStore(VarPaths(tmp_path / "copy").simulator, SYMBOL)
    assert restored.load().facts["cash"] == 5.0
    restored.close()
    assert (tmp_path / "copy" / "simulator" / "orders.jsonl").read_text() == '{"seq": 1, "order": 1}\n'


def test_a_simulator_that_never_stands_still_is_not_copied(journal, paths, tmp_path, monkeypatch):
    StateStore(paths.simulator, SYMBOL).close()
    monkeypatch.setattr("mia_daemon.daemon.backup.read_unchanging", lambda _paths: None)
    with pytest.raises(StartError, match="changes faster than it can be copied: stop the daemon"):
        back_up(paths, tmp_path / "copy", 0)
    assert files_below(tmp_path) == files_below(paths.root.parent)
    assert not (tmp_path / "copy").exists()


def test_a_damaged_journal_is_not_backed_up(journal, paths, tmp_path):
    for number in range(2000):
        journal.record_fill(fill(number))
    journal.close()
    path = paths.journal(Mode.PAPER)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(8192))
    with pytest.raises(JournalError, match="damaged"):
        back_up(paths, tmp_path / "copy", 0)
    assert [name.name for name in tmp_path.iterdir()] == ["var"]


def test_a_directory_that_holds_something_and_a_var_without_a_journal_are_refused(journal, paths, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("x")
    with pytest.raises(UsageError, match="holds something already: name a directory that is new or empty"):
        back_up(paths, tmp_path / "full", 0)
    with pytest.raises(UsageError, match=r"there is no journal below .*: nothing ran there yet"):
        back_up(VarPaths(tmp_path / "elsewhere"), tmp_path / "copy", 0)
    assert files_below(tmp_path / "full") == ["a"]


def test_a_backup_that_was_changed_or_is_none_is_found(journal, paths, tmp_path):
    copy = tmp_path / "copy"
    back_up(paths, copy, 0)
    pending = copy / "journal" / "paper.latches.pending.json"
    content = pending.read_bytes()
    pending.write_bytes(content.replace(b"[", b"{", 1))
    with pytest.raises(UsageError, match=r"is damaged: not as it was .*: journal/paper.latches.pending.json$"):
        check_backup(copy)
    pending.unlink()
    with pytest.raises(UsageError, match=r"is no whole backup: .*paper.latches.pending.json is missing"):
        check_backup(copy)
    (copy / MANIFEST).write_text("[]")
    with pytest.raises(UsageError, match="is no backup"):
        check_backup(copy)
