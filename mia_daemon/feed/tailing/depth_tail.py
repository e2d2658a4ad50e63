"""Follows a symbol's depth files, one a day, from one to the next, and begins with the book as it stands."""

import contextlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.sierra_files import (
    ADD_ASK,
    ADD_BID,
    CLEAR_BOOK,
    DELETE_BID,
    DEPTH,
    DEPTH_RECORD,
    END_OF_BATCH,
    Records,
    damaged,
    to_ns,
)
from mia_daemon.feed.tailing.tail import Tail

_SEARCH_EVERY_NS: Final = NS_PER_S
_DAYS_AHEAD: Final = 10  # to the next file: weekends and holidays have none


class DepthTail:
    """The depth files of a symbol in order of their names' days: `<symbol>.<yyyy-mm-dd>.depth`.

    Which file is next is told by the names, not by the clock, so that files of another time are followed as well. The
    next one is opened when it holds something and nothing more came to the one before; what should still come to that
    one is superseded by the snapshot that each file begins with. Where reading does not begin at a file's first record,
    or goes on behind a change of the file, the records before are given as one snapshot of the book they leave.

    Args:
        since_us: begin at the first record of this time or later; None: only what is appended from now on.
    """

    def __init__(self, directory: Path, symbol: str, since_us: int | None) -> None:
        self._directory = directory
        self._symbol = symbol
        self._since_us = since_us
        self._tail: Tail | None = None
        self._day = date.min
        self._searched_ns: int | None = None

    @property
    def path(self) -> Path:
        """The file that is followed; without one, the directory it will appear in."""
        return self._directory if self._tail is None else self._tail.path

    @property
    def more(self) -> bool:
        """Whether the last poll left records behind because of its limit."""
        return self._tail is not None and self._tail.more

    @property
    def trouble(self) -> str:
        """Why there is nothing to read, for people; "" while there is a file."""
        return f"holds no {self._symbol}.<day>.depth" if self._tail is None else self._tail.trouble

    def poll(self, limit: int, monotonic_ns: int, latest_us: int | None = None) -> tuple[Records, str]:
        """As Tail.poll, damaged records included; `path` may be another one afterwards.

        A snapshot of the book is not cut by `limit`.
        """
        searching = self._searched_ns is None or monotonic_ns - self._searched_ns >= _SEARCH_EVERY_NS
        if searching:
            self._searched_ns = monotonic_ns
            if self._tail is None:
                self._begin()
        if self._tail is None:
            return np.empty(0, DEPTH_RECORD), ""
        following = self._next_day() if searching else None  # before the last look at the file of now
        records, change = self._read(self._tail, limit, latest_us)
        if following is None or len(records) or change:
            return records, change
        self._follow(following, 0)
        return self._read(self._tail, limit, latest_us)

    def _read(self, tail: Tail, limit: int, latest_us: int | None) -> tuple[Records, str]:
        book = _book(tail) if not tail.is_open and tail.open() else None
        records, change = tail.poll(limit, latest_us)
        if change:  # what is known of the book is worth nothing: begin anew with the one that the file leaves now
            tail.close()
            self._tail = tail = Tail(tail.path, DEPTH, None)
            return _book(tail) if tail.open() else records[:0], change
        return records if book is None else np.concatenate((book, records)), change

    def _begin(self) -> None:
        """Follow the first file that holds what is asked for, or else the newest."""
        days = sorted(self._days())
        if not days:
            return
        first = date.max if self._since_us is None else _day_of(self._since_us)
        self._follow(next((day for day in days if day >= first), days[-1]), self._since_us)

    def _days(self) -> Iterable[date]:
        try:
            names = [path.name for path in self._directory.iterdir()]
        except OSError:
            return
        for name in names:
            if name.startswith(f"{self._symbol}.") and name.endswith(".depth"):
                with contextlib.suppress(ValueError):
                    yield date.fromisoformat(name.removeprefix(f"{self._symbol}.").removesuffix(".depth"))

    def _next_day(self) -> date | None:
        """The day of the next file that holds a record."""
        for days in range(1, _DAYS_AHEAD + 1):
            day = self._day + timedelta(days=days)
            try:
                if self._path_of(day).stat().st_size >= DEPTH.header_size + DEPTH_RECORD.itemsize:
                    return day
            except OSError:
                continue
        return None

    def _follow(self, day: date, since_us: int | None) -> None:
        self.close()
        self._day = day
        self._tail = Tail(self._path_of(day), DEPTH, since_us)

    def _path_of(self, day: date) -> Path:
        return self._directory / f"{self._symbol}.{day.isoformat()}.depth"

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()


def _day_of(time_us: int) -> date:
    return datetime.fromtimestamp(to_ns(time_us) // NS_PER_S, UTC).date()


def _book(tail: Tail) -> Records:
    """The book as it stands at the tail's place of reading, of the records that are not damaged."""
    return book_of(records[~damaged(records)] for records in tail.before())


def book_of(pieces: Iterable[Records]) -> Records:
    """The book that changes leave, as one snapshot: a clear, then an addition per level, all at the newest time.

    Args:
        pieces: DEPTH_RECORD arrays, oldest first; a book is empty before the first.

    Returns:
        DEPTH_RECORD; nothing if there was no change at all. 0.1 s per million changes.
    """
    levels = np.empty(0, DEPTH_RECORD)
    newest_us: int | None = None
    for records in pieces:
        if not len(records):
            continue
        newest_us = int(records["time"][-1])
        clears = np.flatnonzero(records["command"] == CLEAR_BOOK)
        if len(clears):
            levels, records = levels[:0], records[clears[-1] + 1 :]  # noqa: PLW2901
        levels = _last_changes(np.concatenate((levels, records)))
        levels = levels[levels["command"] < DELETE_BID]
    if newest_us is None:
        return levels
    book = np.zeros(len(levels) + 1, DEPTH_RECORD)
    book[1:] = levels
    book["time"] = newest_us
    book["command"] = np.where(book["command"] & 1, ADD_ASK, ADD_BID)
    book["command"][0] = CLEAR_BOOK
    book["flags"] = 0
    book["flags"][-1] = END_OF_BATCH
    return book


def _last_changes(records: Records) -> Records:
    """The newest change of each level; bids first, then by price."""
    of_ask = (records["command"] & 1).astype(np.uint64)  # the even commands are the bid's
    level = of_ask << np.uint64(32) | records["price"].view("<u4")
    levels = np.unique(level)
    newest = np.empty(len(levels), np.intp)
    newest[np.searchsorted(levels, level)] = np.arange(len(level))  # of several, the last one stays
    return records[newest]
