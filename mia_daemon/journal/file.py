"""The journal's file: locked by one process, opened, migrated or created; SQLite's errors as sentences."""

import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mia_daemon import lock_file
from mia_daemon.errors import JournalError
from mia_daemon.journal.migrations import MIGRATIONS, back_up, migrate
from mia_daemon.journal.schema import APPLICATION_ID, TABLES, VERSION
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


def open_journal(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Open the journal at `path`, or create it if there is none.

    One of an earlier version is migrated, after a copy of it was made beside it; one of an unknown version is refused
    and not changed.
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
            _migrate(path, db, version)
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


def _migrate(path: Path, db: sqlite3.Connection, version: int) -> None:
    try:
        back_up(path, db, version)
    except OSError as error:
        raise JournalError(
            f"journal {path} can't be copied before it is migrated: {error.strerror}; make room or check its owner"
        ) from error
    migrate(db, version)
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # a large journal makes a large log


def _version_of_existing(path: Path) -> int:
    """Read-only, so that a file that is refused does not change by a byte."""
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_OPENING_S)
    try:
        empty = not db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]  # created, but nothing written yet
        return VERSION if empty else checked_version(path, db, "this daemon writes")
    finally:
        db.close()


def checked_version(path: Path, db: sqlite3.Connection, does: str) -> int:
    """The version of the file: the one this program `does`, or an earlier one that can be migrated.

    Raises:
        JournalError: it is no journal, or one of another version.
        sqlite3.Error: it can't be read.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is an SQLite file but no journal: move it away or choose another --var")
    if version == VERSION or version in MIGRATIONS:
        return version
    advice = (
        "it is left as it is and can be read by the mia-daemon that wrote it; once the account is flat and no order "
        "works, move it away, and a new one is begun"
        if version < VERSION
        else "run the daemon that wrote it, or move it away to start anew"
    )
    raise JournalError(f"journal {path} has version {version}, {does} version {VERSION}: {advice}")


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
