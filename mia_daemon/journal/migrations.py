"""How a journal of an earlier version becomes one of the present version, and how it is read until then.

Each step is a list of statements from one version to the next, kept as it was released: it does not follow later
changes of `schema`. All steps run in one transaction, after a copy of the file was made beside it.
"""

import shutil
import sqlite3
from itertools import count
from pathlib import Path
from typing import Final

from mia_daemon.database_copy import copy_database, sync
from mia_daemon.journal import migration_1, migration_2
from mia_daemon.journal.schema import VERSION

MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {1: migration_1.STATEMENTS, 2: migration_2.STATEMENTS}
"""By version: the statements that lead from it to the next."""

_BYTES_PER_S: Final = {1: 1_000_000, 2: 100_000_000}
"""By version: of a journal that is copied and migrated. Version 1 gets new numbers in every row."""


def duration_s(version: int, size: int) -> int:
    """About how long a journal of `version` with `size` bytes takes to be copied and migrated, on a busy machine."""
    return size // _BYTES_PER_S[version] + 1


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Take the open journal from `version` to the present one: as a whole, or on an error not at all.

    Raises:
        sqlite3.Error: the file is as it was.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in range(version, VERSION):
            for statement in MIGRATIONS[step]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {step + 1}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def migrated_copy(db: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """A private copy of an open journal of an earlier version, migrated; it is gone when it is closed.

    It lies in memory, and beyond SQLite's cache in a file without a name in $SQLITE_TMPDIR, else in /var/tmp.

    Raises:
        sqlite3.Error: there is no room for it, or the journal is damaged.
    """
    copy = sqlite3.connect("", isolation_level=None)
    try:
        db.backup(copy)
        migrate(copy, version)
    except BaseException:
        copy.close()
        raise
    return copy


def backup_name(path: Path, version: int) -> Path:
    """Of the copy that is made before a journal of `version` is migrated."""
    return path.with_name(f"{path.name}.v{version}-backup")


def newest_backup(path: Path, version: int) -> Path | None:
    """The last copy that was made before the journal at `path` was migrated from `version`; None where none is there.

    Such a copy may have a number after its name.
    """
    found = [one for one in path.parent.glob(f"{backup_name(path, version).name}*") if one.suffix != ".part"]
    return max(found, key=lambda one: (one.stat().st_mtime_ns, one.name), default=None)


def back_up(path: Path, db: sqlite3.Connection, version: int) -> Path:
    """Copy the open journal to a new file beside it and return that: `paper.db.v2-backup`, or with a number after it.

    It has its name only once it is whole and on the disk.

    Raises:
        sqlite3.Error, OSError: nothing of it remains.
    """
    name = backup_name(path, version)
    part = name.with_name(f"{name.name}.part")
    try:
        part.unlink(missing_ok=True)
        copy_database(db, part)
        shutil.copymode(path, part)
        sync(part)
        backup = _free_name(name)
        part.rename(backup)  # the journal's lock is held: nobody else makes one
        sync(path.parent)
    finally:
        part.unlink(missing_ok=True)
    return backup


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.{number}") for number in count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())
