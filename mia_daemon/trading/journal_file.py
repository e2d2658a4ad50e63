"""The journal's file: held by one process, opened or made, and its errors told as sentences."""

import fcntl
import os
import sqlite3
from pathlib import Path

from mia_daemon.errors import JournalError
from mia_daemon.trading.journal_schema import APPLICATION_ID, TABLES, VERSION


def hold(path: Path) -> int:
    """Hold the lock file beside the journal, so that no second daemon writes; its text names the holder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise JournalError(
            f"journal {path} can't be opened: {error.strerror}; check the directory and its owner"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        raise JournalError(
            f"journal {path} is in use by process {holder or 'unknown'}: stop that daemon or choose another --var"
        ) from error
    return lock


def open_journal(path: Path, *, durable: bool) -> sqlite3.Connection:
    """Open the journal at `path`, or make it where there is none."""
    db = None
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=1.0, cached_statements=64)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # done by commit(), never while an order waits
        _check_version(path, db)
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        raise explain(path, error) from error
    except JournalError:
        assert db is not None
        db.close()
        raise
    return db


def _check_version(path: Path, db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    empty = not db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]
    if empty and not version:
        db.executescript(
            f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
            " COMMIT;"
        )
    elif application != APPLICATION_ID:
        raise JournalError(f"{path} is an SQLite file but no journal: move it away or choose another --var")
    elif version != VERSION:
        raise JournalError(
            f"journal {path} has version {version}, this daemon writes version {VERSION}:"
            " run the daemon that wrote it, or move it away to start anew"
        )


def explain(path: Path, error: sqlite3.Error) -> JournalError:
    """SQLite's errors as a sentence with what to do."""
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
