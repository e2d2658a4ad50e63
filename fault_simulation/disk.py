"""The journal's disk: a real SQLite file that a killed process leaves as it is, and real faults of it.

The faults are real ones, so SQLite reacts as it would in operation: a file without another page, descriptors that
can't be written, a transaction of another process.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fault_simulation.loop import Killed, Process
from mia_daemon.journal.pending_latches import pending_path
from mia_daemon.journal.writer import Journal


class Disk:
    """Wraps a journal's connection to SQLite and injects faults.

    Args:
        process: may die before and after each commit.
    """

    def __init__(self, journal: Journal, process: Process) -> None:
        self._journal = journal
        self._db = journal._db
        self._process = process
        self._heal: Callable[[], None] | None = None
        self._intruder: sqlite3.Connection | None = None
        self.slow_s = 0.0
        self._path = str(self._db.execute("PRAGMA database_list").fetchone()[2])
        self._db.execute("PRAGMA busy_timeout = 0")  # SQLite would wait in real time
        journal._db = self  # type: ignore[assignment]  # it has every method that a journal uses

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """As sqlite3.Connection's; a commit is a place at which the process may die, before it and after."""
        if sql != "COMMIT":
            if not self._process.alive:
                raise Killed
            return self._db.execute(sql, values)
        self._process.place()
        if self.slow_s:
            self._process.freeze(self.slow_s)
        done = self._db.execute(sql, values)
        self._process.place()
        self._intrude()
        return done

    def close(self) -> None:
        self.heal()
        self._db.close()

    # Faults.

    def fail(self, kind: str) -> None:
        """Begin to be `full`, `broken`, `busy` or `slow`; the last one lasts."""
        self.heal()
        getattr(self, f"_{kind}")()

    def heal(self) -> None:
        """End every fault."""
        self.slow_s = 0.0
        heal, self._heal = self._heal, None
        if heal is not None:
            heal()

    def _slow(self) -> None:
        self.slow_s = 0.4

    def _full(self) -> None:
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        self._db.execute(f"PRAGMA max_page_count = {pages}")

        def heal() -> None:
            self._db.execute("PRAGMA max_page_count = 1000000")

        self._heal = heal

    def _broken(self) -> None:
        log = Path(f"{self._path}-wal")
        numbers = [int(link.name) for link in Path("/proc/self/fd").iterdir() if _leads_to(link, log)]
        kept = [(number, os.dup(number)) for number in numbers]
        other = os.open(log, os.O_RDONLY)
        for number in numbers:
            os.dup2(other, number)
        os.close(other)

        def heal() -> None:
            for number, original in kept:
                os.dup2(original, number)
                os.close(original)

        self._heal = heal

    def _busy(self) -> None:
        self._intruder = intruder = sqlite3.connect(self._path, isolation_level=None, timeout=0.0)
        self._intrude()

        def heal() -> None:
            self._intruder = None
            intruder.close()

        self._heal = heal

    def _intrude(self) -> None:
        """Begin a transaction of another process, as soon as the file is not locked."""
        if self._intruder is not None and not self._intruder.in_transaction and not self._db.in_transaction:
            self._intruder.execute("BEGIN IMMEDIATE")

    # What a dead process leaves.

    def leave(self, directory: Path) -> Path:
        """The files as they are now, in `directory`: what the next process finds. The connection is given up."""
        path = Path(self._path)
        directory.mkdir()
        for file in (path, Path(f"{path}-wal"), pending_path(path)):
            if file.exists():
                shutil.copyfile(file, directory / file.name)
        if self._journal._lock >= 0:  # it may have died right after it was closed
            os.close(self._journal._lock)
            self._journal._lock = -1
        self.close()
        return directory / path.name


def _leads_to(link: Path, file: Path) -> bool:
    try:
        return link.readlink() == file
    except OSError:
        return False


KINDS = ("full", "broken", "busy", "slow")
