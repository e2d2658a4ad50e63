"""A journal is opened read-only, as it was at one moment, or refused in one sentence and left as it was."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest
from journal_versions import TABLES_1
from run_headers import run_header

from mia_daemon import __version__, database_copy
from mia_daemon.errors import JournalError
from mia_daemon.journal.file import describe
from mia_daemon.journal.schema import APPLICATION_ID, VERSION
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Fill, Side


def fill(number):
    return Fill(number, f"x{number}", "r-1E", "s", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, 6000.0)


def begun(path):
    """A journal with a run."""
    opened = Journal(path, durable=False)
    opened.begin_run(run_header())
    return opened


@pytest.fixture
def journal(tmp_path):
    opened = begun(tmp_path / "journal" / "paper.db")
    yield opened
    opened.close()


def count(view):
    return view.value("SELECT COUNT(*) FROM fills")


def refusal(path):
    with pytest.raises(JournalError) as refused:
        JournalView(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_a_view_does_not_change_while_its_owner_writes(journal):
    journal.record_fill(fill(1))
    with JournalView(journal.path) as view:
        journal.record_fill(fill(2))
        assert count(view) == 1
        assert view.positions() == {("ESZ26_FUT_CME", "Sim1"): 1}
        with JournalView(journal.path) as newer:
            assert count(newer) == 2
        for number in range(3, 1500):  # more than the owner copies back at once
            journal.record_fill(fill(number))
        journal.commit()
        assert count(view) == 1


def test_nothing_can_be_written_through_a_view(journal):
    journal.record_fill(fill(1))
    with JournalView(journal.path) as view, pytest.raises(JournalError, match="the file is write-protected"):
        view.value("DELETE FROM fills")
    journal.close()
    before = journal.path.read_bytes()
    with JournalView(journal.path) as view:
        assert count(view) == 1
    assert journal.path.read_bytes() == before


def test_a_reader_keeps_nobody_from_starting(journal):
    journal.close()
    with JournalView(journal.path):
        again = begun(journal.path)
        again.record_fill(fill(1))
        again.close()


def test_a_closed_journal_is_read_where_nothing_can_be_written_beside_it(journal, monkeypatch):
    """In a directory of another's, on a medium that is read-only; as long as nobody has it open."""
    journal.record_fill(fill(1))
    journal.close()
    begin = database_copy._begin

    def unwritable(uri):
        if "immutable" not in uri:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorname = "SQLITE_READONLY_DIRECTORY"
            raise error
        return begin(uri)

    monkeypatch.setattr(database_copy, "_begin", unwritable)
    with JournalView(journal.path) as view:
        assert count(view) == 1
    journal.path.with_name("paper.db-wal").write_bytes(b"")  # somebody has it open
    assert "can't be used" in refusal(journal.path)


def test_what_is_no_journal_is_refused_and_left_alone(tmp_path):
    assert "there is no journal" in refusal(tmp_path / "paper.db")
    assert "is a directory where a journal is expected" in refusal(tmp_path)
    text = tmp_path / "trades.csv"
    text.write_text("trade_id,timestamp\n" * 100)
    assert "it is no SQLite file" in refusal(text)
    foreign = tmp_path / "memory.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE clusters (cluster_id INTEGER PRIMARY KEY)")
    db.close()
    assert "no journal" in refusal(foreign)
    empty = tmp_path / "empty.db"
    empty.touch()
    assert "no journal" in refusal(empty)
    assert (text.read_text(), empty.read_bytes()) == ("trade_id,timestamp\n" * 100, b"")


def test_a_journal_of_a_later_version_is_left_to_the_program_that_wrote_it_and_its_backup_is_named(journal):
    journal.close()
    with closing(sqlite3.connect(journal.path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = journal.path.read_bytes()
    said = (
        f"has version 99, mia-daemon {__version__} reads version {VERSION}: run the later mia-daemon that wrote it, or "
    )
    backup = journal.path.with_name(f"{journal.path.name}.v{VERSION}-backup")
    assert f"{said}restore a backup of version {VERSION} (beside it would be {backup.name}, not found)" in refusal(
        journal.path
    )
    for name, second in (
        (backup, 5),
        (backup.with_name(f"{backup.name}.2"), 6),
        (backup.with_name(f"{backup.name}.part"), 7),
    ):
        name.touch()
        os.utime(name, (second, second))
    assert f"{said}with the account flat restore {backup}.2, made before it was migrated" in refusal(journal.path)
    assert journal.path.read_bytes() == before


def test_a_journal_copied_without_its_log_says_so_and_one_with_it_or_that_was_closed_does_not(journal, tmp_path):
    journal.record_fill(fill(1))
    journal._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    journal.record_fill(fill(2))
    alone, whole = tmp_path / "alone" / "paper.db", tmp_path / "whole" / "paper.db"
    for copy, suffixes in ((alone, [""]), (whole, ["", "-wal"])):
        copy.parent.mkdir()
        for suffix in suffixes:
            shutil.copy(f"{journal.path}{suffix}", f"{copy}{suffix}")
    said = f"journal {alone} was copied without paper.db-wal: run"
    assert describe(alone).startswith(said)
    assert [path.name for path in alone.parent.iterdir()] == ["paper.db"]
    for _ in range(2):  # the first leaves an empty log
        with JournalView(alone) as view:
            assert view.warning.startswith(said)
            assert count(view) == 1
    assert describe(alone).endswith("the start halts until `mia-daemon resume`")
    journal.close()  # without an end of its run, as a failure does
    for path in (whole, journal.path):
        assert describe(path) == f"{path}, version {VERSION}"
        with JournalView(path) as view:
            assert (view.warning, count(view)) == ("", 2)


def test_what_a_start_will_find_is_said_before_it(tmp_path):
    assert describe(tmp_path / "paper.db").endswith("paper.db is made at the start")
    (tmp_path / "old.db").touch()
    assert describe(tmp_path / "old.db").endswith("is empty")
    with closing(sqlite3.connect(tmp_path / "old.db")) as db:
        db.executescript(f"{TABLES_1} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
    assert describe(tmp_path / "old.db").endswith("has version 1: the start migrates it, in about 1 s")
    (tmp_path / "text.db").write_text("trade_id,timestamp\n" * 100)
    (tmp_path / "link.db").symlink_to(tmp_path / "old.db")
    for path, said in (("text.db", "it is no SQLite file"), ("link.db", "is no plain file"), (".", "is no plain file")):
        with pytest.raises(JournalError, match=said):
            describe(tmp_path / path)


def test_a_damaged_file_is_said_to_be_damaged(journal):
    for number in range(300):
        journal.record_fill(fill(number))
    (size,) = journal._db.execute("PRAGMA page_size").fetchone()
    (page,) = journal._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'fills'").fetchone()
    journal.close()
    with journal.path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with JournalView(journal.path) as view, pytest.raises(JournalError, match="the file is damaged"):
        list(view.rows("SELECT * FROM fills"))
    journal.path.write_bytes(journal.path.read_bytes()[:200] + b"\xff" * 8000)
    assert "the file is damaged" in refusal(journal.path)


def test_a_name_with_odd_characters_is_a_name(tmp_path):
    path = tmp_path / "a b?mode=rw#%41.db"
    Journal(path, durable=False).close()
    with JournalView(path) as view:
        assert (count(view), view.one("SELECT 1 FROM runs")) == (0, None)
