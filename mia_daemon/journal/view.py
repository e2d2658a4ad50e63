"""A journal as it was at one moment, for people: opened read-only, beside a daemon that goes on writing.

All queries on one view read the same snapshot, so counts, orders and positions are consistent whatever is written
meanwhile. A view blocks no writer: it only keeps the write-ahead log from shrinking while it is open. Of a file of an
earlier version a private copy is migrated and read: the file does not change.
"""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mia_daemon.clock import iso_utc
from mia_daemon.config import Mode
from mia_daemon.database_copy import open_snapshot
from mia_daemon.errors import JournalError
from mia_daemon.journal import recovery
from mia_daemon.journal.file import checked_version, explain, lacks_log, lost_log
from mia_daemon.journal.migrations import migrated_copy
from mia_daemon.journal.reader import JournalReader
from mia_daemon.journal.rows import Values
from mia_daemon.journal.schema import VERSION
from mia_daemon.journal.statements import UNENDED_RUN
from mia_daemon.records import JournaledOrder

Row = dict[str, Any]


class JournalView(JournalReader):
    """Opens the journal at `path`; a context manager.

    Attributes:
        version: of the file.
        warning: what the file lacks, in one sentence; "" where nothing is known to be missing.

    Raises:
        JournalError: here and in every method: there is no journal, or the file is of another program, of a later
            version or damaged.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise JournalError(f"{path} is a directory where a journal is expected: name its file with --file")
        if not path.is_file():
            raise JournalError(f"there is no journal at {path}: nothing ran there yet; see --mode, --var and --file")
        lacks = lacks_log(path)  # before it is opened: that may make one
        db, self.version = _open(path)
        super().__init__(path, db)
        unended = self.value(UNENDED_RUN) if lacks else None
        self.warning = lost_log(path, unended) if unended else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def rows(self, sql: str, values: Values = ()) -> Iterator[Row]:
        """The rows of a query's result, each by the names of its columns."""
        cursor = self._query(sql, values)
        names = [column[0] for column in cursor.description]
        try:
            for row in cursor:
                yield dict(zip(names, row, strict=True))
        except sqlite3.Error as error:  # a damaged page is found while reading
            raise explain(self.path, error) from error

    def one(self, sql: str, values: Values = ()) -> Row | None:
        """The first row of a query's result; None when it has none."""
        return next(self.rows(sql, values), None)

    def value(self, sql: str, values: Values = ()) -> Any:
        """The first column of the first row; None when there is no row."""
        row = self.one(sql, values)
        return None if row is None else next(iter(row.values()))

    def positions(self) -> dict[tuple[str, str], int]:
        """Contracts by (symbol, account), only those not flat."""
        return recovery.positions(self._query)

    def open_orders(self) -> tuple[JournaledOrder, ...]:
        """Those not known to be done, oldest first."""
        return tuple(recovery.open_orders(self._query))

    def replays(self) -> frozenset[int]:
        """Numbers of the runs that were replays: each starts flat, whatever the journal holds."""
        return frozenset(
            row["number"] for row in self.rows("SELECT number FROM runs WHERE mode = ?", (Mode.REPLAY.value,))
        )

    def runs(self) -> list[Row]:
        """All runs, oldest first, their configuration decoded."""
        found = []
        for row in self.rows("SELECT * FROM runs ORDER BY number"):
            row["config"] = json.loads(row["config"])
            found.append(row)
        return found


def _open(path: Path) -> tuple[sqlite3.Connection, int]:
    """The file as of now, or a migrated copy of it, and the file's version."""
    try:
        db = open_snapshot(path)
        try:
            version = checked_version(path, db, "reads")
            if version < VERSION:
                file, db = db, migrated_copy(db, version)
                file.close()
            db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise explain(path, error) from error
    return db, version


def run_of(identifier: str) -> str:
    """The run that gave a decision or an order its identifier: `1NG786R1` of `1NG786R1-17` and of `1NG786R1-2E`."""
    return identifier.rpartition("-")[0]


def ended_well(how: str | None) -> bool:
    """Whether a run ended in good order, by its `how`."""
    return how is not None and how != "killed" and not how.startswith("failed")


def stamp(ts_ns: int | None) -> str | None:
    """A time of the journal as ISO 8601; None if it was not known."""
    return iso_utc(ts_ns) if ts_ns else None
