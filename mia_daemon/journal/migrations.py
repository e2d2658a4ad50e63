"""How a journal of an earlier version becomes one of the present version, and how it is read until then.

Each step is a list of statements from one version to the next, kept as it was released: it does not follow later
changes of `schema`. All steps run in one transaction, after a copy of the file was made beside it.
"""

import os
import shutil
import sqlite3
from itertools import count
from pathlib import Path
from typing import Final

from mia_daemon.journal.schema import PER_RUN, VERSION

_RUN: Final = f"run INTEGER GENERATED ALWAYS AS (number / {PER_RUN})"

# A fill without an order of ours is a change of the position that was taken over.
_SOURCE_OF_2: Final = "CASE client_order_id WHEN '' THEN 'external' ELSE 'update' END"

_FILL_OF_2: Final = """\
number, execution_id, ts_ns, client_order_id, server_order_id, symbol, account, side, quantity, price, position"""

MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {
    2: (
        "ALTER TABLE fills RENAME TO fills_2",
        f"""
        CREATE TABLE fills (
            number INTEGER PRIMARY KEY,
            {_RUN},
            execution_id TEXT NOT NULL,
            ts_ns INTEGER NOT NULL,
            client_order_id TEXT NOT NULL,
            server_order_id TEXT NOT NULL,
            symbol TEXT NOT NULL,
            account TEXT NOT NULL,
            side INTEGER NOT NULL CHECK (side IN (1, -1)),
            quantity INTEGER NOT NULL CHECK (quantity > 0),
            price REAL NOT NULL,
            position INTEGER NOT NULL,
            source TEXT NOT NULL DEFAULT 'update',
            UNIQUE (client_order_id, execution_id)
        ) STRICT""",
        f"INSERT INTO fills ({_FILL_OF_2}, source) SELECT {_FILL_OF_2}, {_SOURCE_OF_2} FROM fills_2 ORDER BY number",  # noqa: S608  our text
        "DROP TABLE fills_2",
        "CREATE INDEX fills_of_server_order ON fills (server_order_id)",
        f"""
        CREATE TABLE positions (
            number INTEGER PRIMARY KEY,
            {_RUN},
            ts_ns INTEGER NOT NULL,
            symbol TEXT NOT NULL,
            account TEXT NOT NULL,
            quantity INTEGER NOT NULL,
            average_price REAL,
            unsolicited INTEGER NOT NULL
        ) STRICT""",
        f"""
        CREATE TABLE firings (
            number INTEGER PRIMARY KEY,
            {_RUN},
            ts_ns INTEGER NOT NULL,
            waited_ns INTEGER NOT NULL,
            what TEXT NOT NULL,
            client_order_id TEXT NOT NULL
        ) STRICT""",
    ),
}
"""By version: the statements that lead from it to the next."""

READ_AS_PRESENT: Final[dict[int, tuple[str, ...]]] = {
    2: (
        f"""
        CREATE TEMP VIEW fills AS SELECT run, {_FILL_OF_2}, {_SOURCE_OF_2} AS source FROM main.fills""",  # noqa: S608  our text
        """
        CREATE TEMP VIEW positions AS SELECT 0 AS number, 0 AS run, 0 AS ts_ns, '' AS symbol, '' AS account,
            0 AS quantity, 0.0 AS average_price, 0 AS unsolicited WHERE FALSE""",
        """
        CREATE TEMP VIEW firings AS SELECT 0 AS number, 0 AS run, 0 AS ts_ns, 0 AS waited_ns, '' AS what,
            '' AS client_order_id WHERE FALSE""",
    )
}
"""By version: views of a connection that show a file of it as one of the present version; the file is not changed."""


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


def back_up(path: Path, db: sqlite3.Connection, version: int) -> Path:
    """Copy the open journal to a new file beside it and return that: `paper.db.v2-backup`, or with a number after it.

    It has its name only once it is whole and on the disk.

    Raises:
        sqlite3.Error, OSError: nothing of it remains.
    """
    part = path.with_name(f"{path.name}.v{version}-backup.part")
    try:
        part.unlink(missing_ok=True)
        copy = sqlite3.connect(part)
        try:
            db.backup(copy)
        finally:
            copy.close()
        shutil.copymode(path, part)
        _sync(part)
        backup = _free_name(path.with_name(f"{path.name}.v{version}-backup"))
        part.rename(backup)  # the journal's lock is held: nobody else makes one
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)
    return backup


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.{number}") for number in count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
