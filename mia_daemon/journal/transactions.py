"""The transactions of the one process that writes a journal: what is committed together, and what an error undoes."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from mia_daemon.errors import JournalError
from mia_daemon.journal.file import PATIENCE_MS, explain, hold, lacks_log, open_journal, synchronous
from mia_daemon.journal.pending_latches import PendingLatches
from mia_daemon.journal.reader import JournalReader
from mia_daemon.journal.statements import MARK_UNENDED_RUN

_CHECKPOINT_AFTER_COMMITS: Final = 2048
"""About 15 MB of write-ahead log, copied back in about 15 ms; a quarter of that takes a third of the time, four times
as often."""


class JournalTransactions(JournalReader):
    """Holds the lock file and the connection from the constructor to `close`.

    Args:
        path: of the SQLite file.
        durable: every commit reaches the disk.
        notice: called with a sentence about what takes long.

    Raises:
        JournalError: here and in every method.
    """

    def __init__(self, path: Path, *, durable: bool, notice: Callable[[str], None] = lambda _text: None) -> None:
        self._in_transaction = False  # within `transaction()`
        self._may_checkpoint = True
        self._waits_for_writers = True  # other programs that write are waited for
        self._pending_written = False  # the open transaction has the latches that were kept beside the journal
        self._commits = 0  # since the last checkpoint
        self.losses = 0  # errors after which nothing was buffered any more
        self._last_number = 0  # of the sequence over all tables
        self._positions: dict[tuple[str, str], int] = {}  # after the last fill, by (symbol, account)
        self._synchronous = synchronous(durable=durable)
        self._lock = hold(path)
        self._lacks_log = lacks_log(path)  # before it is opened: that makes one
        try:
            db = open_journal(path, durable=durable, notice=notice)
            try:
                self._pending = PendingLatches(path)
            except BaseException:
                db.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise
        super().__init__(path, db)

    @property
    def has_buffered(self) -> bool:
        """Whether rows wait for the next commit."""
        return self._db.in_transaction

    def drop_buffered(self) -> None:
        """Undo what was not committed, as an error of the disk does. Raises JournalError."""
        self._rolled_back()
        if self._db.in_transaction:
            self._run("ROLLBACK")

    def close(self) -> None:
        """Commit what is buffered and release the file, also when the commit fails.

        A run that did not end until now is marked: one that has no mark was killed, and left a log beside the file.
        """
        if self._lock < 0:
            return
        try:
            if self._last_number:
                with suppress(JournalError):
                    self._run(MARK_UNENDED_RUN)
            self.commit()
        finally:
            try:
                self._db.close()
            finally:
                os.close(self._lock)
                self._lock = -1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything recorded within is committed together at the end; on an error nothing of it is.

        One within another is part of the outer one.
        """
        if self._in_transaction:
            yield
            return
        self._run("SAVEPOINT recorded")
        self._in_transaction = True
        try:
            yield
        except BaseException:
            self._rolled_back()
            if self._db.in_transaction:  # a full disk has ended the transaction already
                self._run("ROLLBACK TO recorded")
                self._run("RELEASE recorded")
            raise
        finally:
            self._in_transaction = False
        self._run("RELEASE recorded")
        self._commit_unless_in_transaction()

    @contextmanager
    def _own_unsynced_transaction(self) -> Iterator[None]:
        """A transaction that is not synced to the disk; begin it with nothing buffered."""
        self._execute("PRAGMA synchronous = NORMAL")
        try:
            yield
            self._commit_unless_in_transaction()
        except BaseException:
            if self._db.in_transaction:
                self._execute("ROLLBACK")
            raise
        finally:
            self._execute(f"PRAGMA synchronous = {self._synchronous}")

    def _execute(self, sql: str) -> None:
        try:
            self._db.execute(sql)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        """Commit what is buffered; to be called at least once a second, at a moment when no order waits.

        After every few hundred commits it also copies the write-ahead log back, which may take milliseconds.
        """
        try:
            if self._db.in_transaction:
                self._commits += 1
                self._db.execute("COMMIT")
                if not self._waits_for_writers or self._pending_written:
                    self._committed()
            if self._may_checkpoint and self._commits >= _CHECKPOINT_AFTER_COMMITS:
                self._commits = 0
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _commit_unless_in_transaction(self) -> None:
        if self._in_transaction:
            return
        self._may_checkpoint = False  # an order may be waiting for this commit
        try:
            self.commit()
        finally:
            self._may_checkpoint = True

    def _run(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Execute within the open transaction; a statement that writes opens one."""
        try:
            if not self._db.in_transaction and not sql.startswith("SELECT"):
                self._db.execute("BEGIN IMMEDIATE")
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _number(self) -> int:
        """The next number of the sequence over all tables."""
        return self._numbers(1)

    def _numbers(self, count: int) -> int:
        """Take the next `count` numbers of the sequence; returns the first."""
        if not self._last_number:
            raise JournalError(f"journal {self.path} was told something before a run was begun")
        first = self._last_number + 1
        self._last_number += count
        return first

    def _failed(self, error: sqlite3.Error) -> JournalError:
        """SQLite may have rolled back what was not committed. If another program writes, no longer wait for it."""
        self._rolled_back()
        self.losses += not self._db.in_transaction
        if self._waits_for_writers and getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
            self._waits_for_writers = False
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout = 0")
        return explain(self.path, error)

    def _rolled_back(self) -> None:
        self._positions.clear()
        self._pending_written = False

    def _committed(self) -> None:
        if not self._waits_for_writers:
            self._waits_for_writers = True
            self._db.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
        if self._pending_written:
            self._pending_written = False
            self._pending.forget()
