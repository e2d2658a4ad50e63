"""The journal's file: locked by one process, opened, migrated or created; SQLite's errors as sentences."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mia_daemon import __version__, lock_file
from mia_daemon.database_copy import open_snapshot
from mia_daemon.errors import JournalError
from mia_daemon.journal.migrations import MIGRATIONS, back_up, backup_name, duration_s, migrate, newest_backup
from mia_daemon.journal.schema import APPLICATION_ID, TABLES, VERSION
from mia_daemon.journal.statements import UNENDED_RUN
from mia_daemon.lock_file import InUse
from mia_daemon.private_file import prepare_database

PATIENCE_MS: Final = 25
"""How long a write waits for another program that writes, once: an order may be waiting for it."""

_PAGE: Final = 2048  # bytes; each commit writes whole pages: half of the default is a tenth faster

_OPENING_S: Final = 1.0  # a reader that recovers the log after a crash locks the file for a moment


def synchronous(*, durable: bool) -> str:
    """SQLite's setting: with FULL a commit waits for the disk."""
    return "FULL" if durable else "NORMAL"


def hold(path: Path) -> int:
    """Lock the file beside the journal, so that no second daemon writes."""
    try:
        return lock_file.hold(path.with_name(path.name + ".lock"))
    except InUse as error:
        raise JournalError(f"journal {path} is {error}: stop that daemon or choose another --var") from error
    except OSError as error:
        raise _not_opened(path, error) from error


def open_journal(path: Path, *, durable: bool, notice: Callable[[str], None]) -> sqlite3.Connection:
    """Open the journal at `path`, or create it if there is none.

    One of an earlier version is migrated, after a copy of it was made beside it, and `notice` is called with a sentence
    before and one after; one of a later version is refused and not changed.
    """
    db = None
    version = VERSION
    try:
        prepare_database(path)
        if path.exists() and path.stat().st_size:
            version = _version_of_existing(path)
        db = sqlite3.connect(path, isolation_level=None, timeout=_OPENING_S, cached_statements=64)
        db.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous(durable=durable)}")
        db.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite overwrite deleted content with zeros
        db.execute("PRAGMA wal_autocheckpoint = 0")  # done by commit(), never while an order waits
        if not db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]:
            db.executescript(
                f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
                " COMMIT;"
            )
        if version != VERSION:
            _migrate(path, db, version, notice)
        db.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
    except BaseException as error:
        if db is not None:
            db.close()
        if isinstance(error, sqlite3.Error):
            raise explain(path, error) from error
        if isinstance(error, OSError):
            raise _not_opened(path, error) from error
        raise
    return db


def _not_opened(path: Path, error: OSError) -> JournalError:
    return JournalError(f"journal {path} can't be opened: {error.strerror}; check the directory and its owner")


def _migrate(path: Path, db: sqlite3.Connection, version: int, notice: Callable[[str], None]) -> None:
    size = path.stat().st_size
    notice(
        f"journal {path} has version {version}: it is copied and migrated to version {VERSION}, {size / 1e6:,.1f} MB, "
        f"which takes about {duration_s(version, size)} s"
    )
    try:
        backup = back_up(path, db, version)
    except OSError as error:
        raise JournalError(
            f"journal {path} can't be copied before it is migrated: {error.strerror}; make room or check its owner"
        ) from error
    migrate(db, version)
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # a large journal makes a large log
    notice(f"journal {path} has version {VERSION} now; as it was it is kept in {backup}")


def expected_migration_s(path: Path) -> float:
    """About how long opening the journal at `path` takes because it is migrated; 0 where it is not."""
    try:
        size = path.stat().st_size
        version = _version_of_existing(path) if size else VERSION
        return duration_s(version, size) if version != VERSION else 0.0
    except (OSError, sqlite3.Error, JournalError):  # opening it says what is wrong
        return 0.0


def describe(path: Path) -> str:
    """What the start will find at `path`, in a few words; nothing is changed.

    Raises:
        JournalError: it can't be used.
    """
    if not os.path.lexists(path):
        return f"{path} is made at the start"
    if not path.is_file() or path.is_symlink():
        raise JournalError(f"journal {path} is no plain file: move it away or choose another --var")
    lacks = lacks_log(path)
    try:
        size = path.stat().st_size
        if not size:
            return f"{path} is empty"
        with closing(open_snapshot(path, leave_nothing=True)) as db:
            version = checked_version(path, db, "writes")
            unended = db.execute(UNENDED_RUN).fetchone() if lacks else None
    except sqlite3.Error as error:
        raise explain(path, error) from error
    if unended:
        return f"{lost_log(path, unended[0])}; the start halts until `mia-daemon resume`"
    if version != VERSION:
        return f"{path} has version {version}: the start migrates it, in about {duration_s(version, size)} s"
    return f"{path}, version {version}"


def lacks_log(path: Path) -> bool:
    """Whether the file says that a write-ahead log belongs to it, and there is none, or an empty one of a reader.

    So it is where the last program ended in good order, which leaves no log, and where the file was copied without it.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        with path.open("rb") as file:
            header = file.read(20)
        return header[18:] == b"\x02\x02" and not (log.exists() and log.stat().st_size)
    except OSError:
        return False


def lost_log(path: Path, run_id: str) -> str:
    """What to say of a journal that `lacks_log` while its last run never ended."""
    return (
        f"journal {path} was copied without {path.name}-wal: run {run_id} never ended, and what it wrote last is "
        "missing; copy both files, or let `mia-daemon backup` do it"
    )


def _version_of_existing(path: Path) -> int:
    """Read-only, so that a file that is refused does not change by a byte. The file has content."""
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_OPENING_S)
    try:
        empty = not db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]  # created, but nothing written yet
        return VERSION if empty else checked_version(path, db, "writes")
    finally:
        db.close()


def checked_version(path: Path, db: sqlite3.Connection, does: str) -> int:
    """The version of the file: the one that this program `does`, or an earlier one that can be migrated.

    Raises:
        JournalError: it is no journal, or one of a later version.
        sqlite3.Error: it can't be read.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is an SQLite file but no journal: move it away or choose another --var")
    if version == VERSION or version in MIGRATIONS:
        return version
    if version < VERSION:
        raise JournalError(
            f"journal {path} has version {version}, which none ever had: it is damaged; restore a backup"
        )
    raise JournalError(
        f"journal {path} has version {version}, mia-daemon {__version__} {does} version {VERSION}: "
        f"run the later mia-daemon that wrote it, or {_restore(path)}"
    )


def _restore(path: Path) -> str:
    """How to go back to this version, for a journal that a later one has migrated."""
    backup = newest_backup(path, VERSION)
    if backup is None:
        return (
            f"restore a backup of version {VERSION} (beside it would be {backup_name(path, VERSION).name}, not found)"
        )
    return f"with the account flat restore {backup}, made before it was migrated (docs/upgrading.md)"


def explain(path: Path, error: sqlite3.Error) -> JournalError:
    """An error of SQLite as a sentence with what to do."""
    name = getattr(error, "sqlite_errorname", "")
    advice = {
        "SQLITE_FULL": "the disk is full: make room",
        "SQLITE_BUSY": "another program writes to it: end that program",
        "SQLITE_IOERR": "the disk fails: look at the machine's log",
        "SQLITE_NOTADB": "it is no SQLite file: move it away or choose another --var",
        "SQLITE_CORRUPT": "the file is damaged: move it away, keep it, and start anew",
        "SQLITE_CANTOPEN": "check the directory and its owner",
        "SQLITE_READONLY": "the file is write-protected: check its owner",
    }
    for prefix, text in advice.items():
        if name.startswith(prefix):
            return JournalError(f"journal {path} can't be used ({error}): {text}")
    return JournalError(f"journal {path} refused what it was told ({name or type(error).__name__}: {error})")
