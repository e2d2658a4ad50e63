"""Copies of SQLite databases that another process may be writing to, and a view of one as it is at one moment."""

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mia_daemon.private_file import open_file

_READINGS: Final = 200
"""Of files that change while they are read, until two readings are equal: each takes milliseconds."""


_WAIT_S: Final = 5.0
"""For a process that locks the file for a moment, as when it recovers the log after a crash."""


def open_snapshot(path: Path, *, leave_nothing: bool = False) -> sqlite3.Connection:
    """Open a database for reading, within a transaction: all that is read is of this moment.

    Without write permission on the directory this needs a file that no process has open. SQLite may make a log of size
    0 beside it, and leave it there.

    Args:
        path: of the file.
        leave_nothing: where no log lies beside it make none; for a look of milliseconds.

    Raises:
        sqlite3.Error: it can't be read, or is none.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    has_log = path.with_name(f"{path.name}-wal").exists()
    if leave_nothing and not has_log:
        return _begin(f"{uri}&immutable=1")
    try:
        return _begin(uri)
    except sqlite3.OperationalError as error:
        unwritable = error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
        if not unwritable or has_log:
            raise
        return _begin(f"{uri}&immutable=1")


def _begin(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT_S)
    try:
        db.execute("BEGIN")
        db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()  # the snapshot is of the first read
    except BaseException:
        db.close()
        raise
    return db


def copy_database(db: sqlite3.Connection, path: Path) -> None:
    """Copy an open database, whatever is written to it meanwhile, to a new file that needs no other beside it.

    Raises:
        sqlite3.Error, OSError: it can't be read or written.
    """
    os.close(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # SQLite itself makes files that others can read
    copy = sqlite3.connect(path, isolation_level=None)
    try:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one that says WAL and has no log beside it lacks what was in it
    finally:
        copy.close()


def is_sound(path: Path) -> bool:
    """Whether every page and index of a database that nothing has open is right.

    Raises:
        sqlite3.Error: it can't be read.
    """
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)
    try:
        return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        db.close()


def read_unchanging(paths: list[Path]) -> dict[Path, bytes] | None:
    """The content of files as it was at one moment, missing ones left out; None where it never stood still."""
    before = _read(paths)
    for _ in range(_READINGS):
        found = _read(paths)
        if found == before:
            return found
        before = found
    return None


def _read(paths: list[Path]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in paths if path.exists()}


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
