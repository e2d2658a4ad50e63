"""Writes what a market does into the files that Sierra Chart would write: the other end of `scid_feed`.

<directory>/<symbol>.scid                                     one record per trade, unbundled
<directory>/MarketDepthData/<symbol>.<yyyy-mm-dd>.depth       one per UTC day, each begins with a snapshot
"""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from mia_daemon.clock import NS_PER_DAY, NS_PER_MS, NS_PER_US, iso_utc
from mia_daemon.errors import StartError
from mia_daemon.feed.scid_feed import newest_scid_ns
from mia_daemon.feed.sierra_files import (
    ADD_ASK,
    ADD_BID,
    CLEAR_BOOK,
    DEPTH,
    DEPTH_RECORD,
    END_OF_BATCH,
    MODIFY_ASK,
    MODIFY_BID,
    SCID,
    Records,
    RecordWriter,
    events_to_depth,
    events_to_scid,
    to_us,
)
from mia_daemon.records import EventArray, EventFlag, EventKind

DEPTH_FOLDER = "MarketDepthData"
"""The folder inside Sierra Chart's data folder that has the depth files."""


class SierraWriter:
    """Appends market events to a symbol's files, held back until the flush is due, as Sierra Chart does.

    Args:
        directory: made when missing; files of an earlier run are continued.
        symbol: names the files.
        begin_ns: time of the market's present; what is in the files has to be older.
        flush_interval_ms: how long records may wait in memory ("Intraday File Flush Time in Milliseconds").

    Raises:
        StartError: the files can't be written, or hold a later time.
        FileFormatError: what bears their names is something else.
    """

    def __init__(self, directory: Path, symbol: str, begin_ns: int, flush_interval_ms: float) -> None:
        self._depth_directory = directory / DEPTH_FOLDER
        self._symbol = symbol
        self._interval_ns = round(flush_interval_ms * NS_PER_MS)
        self._flushed_ns: int | None = None
        self._waiting: list[EventArray] = []
        self._book: dict[tuple[int, float], tuple[float, int]] = {}  # (side, price) → (quantity, orders)
        self._day = -1
        self._depth: RecordWriter | None = None
        try:
            self._depth_directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"{directory} can't be written: {error.strerror}; name another with --write-scid"
            ) from error
        path = directory / f"{symbol}.scid"
        newest_ns = newest_scid_ns(path) if path.exists() else None
        if newest_ns is not None and newest_ns > begin_ns:
            raise StartError(
                f"{path} ends at {iso_utc(newest_ns)}, later than this market's {iso_utc(begin_ns)}: name another "
                "directory, or the state of the market that wrote it"
            )
        self._last_us = (newest_ns or 0) // NS_PER_US  # of the newest trade, Unix time
        self._trades = RecordWriter(path, SCID)

    def append(self, events: EventArray) -> None:
        """Take trades and depth in order of time; a snapshot of the book comes first of all."""
        self._waiting.append(events)

    def flush(self, now_ns: int | None = None) -> None:
        """Write what waits if that is due.

        Args:
            now_ns: monotonic clock; None writes in any case.

        Raises:
            StartError: the disk does not take it.
        """
        if now_ns is not None and self._flushed_ns is not None and now_ns - self._flushed_ns < self._interval_ns:
            return
        self._flushed_ns = now_ns
        if not self._waiting:
            return
        events = np.concatenate(self._waiting)
        self._waiting.clear()
        self._set_times(events)
        try:
            self._trades.append(events_to_scid(events))
            self._write_depth(events[events["kind"] == EventKind.DEPTH])
        except OSError as error:
            raise StartError(f"{self._trades.path} can't be written: {error.strerror}; make room") from error

    def close(self) -> None:
        """Write what waits and let go of the files."""
        try:
            self.flush()
        finally:
            self._trades.close()
            if self._depth is not None:
                self._depth.close()

    def _set_times(self, events: EventArray) -> None:
        """Trades of one moment get one microsecond more each, as in Sierra Chart's files; what they did comes after."""
        is_trade = events["kind"] == EventKind.TRADE
        times = events["ts_ns"] // NS_PER_US
        step = np.arange(np.count_nonzero(is_trade))
        trades = np.maximum(times[is_trade], self._last_us + 1)
        times[is_trade] = np.maximum.accumulate(trades - step) + step
        newest = np.maximum.accumulate(np.where(is_trade, times, self._last_us))
        times = np.maximum(times, newest)
        events["ts_ns"] = times * NS_PER_US
        self._last_us = int(newest[-1])

    def _write_depth(self, events: EventArray) -> None:
        if not len(events):
            return
        days = events["ts_ns"] // NS_PER_DAY
        starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(events)]
        for first, last in pairwise(starts):
            self._write_day(int(days[first]), events[first:last])

    def _write_day(self, day: int, events: EventArray) -> None:
        if day != self._day:
            if self._depth is not None:
                self._depth.close()
            name = f"{self._symbol}.{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}.depth"
            self._depth = RecordWriter(self._depth_directory / name, DEPTH)
            self._day = day
            if self._book:
                self._depth.append(self._snapshot(int(events["ts_ns"][0])))
        assert self._depth is not None
        records = events_to_depth(events)
        self._name_additions(events, records)
        self._depth.append(records)

    def _name_additions(self, events: EventArray, records: Records) -> None:
        """A change of a level that was not there is an addition; the book is kept for the next day's snapshot."""
        book, commands = self._book, records["command"]
        columns = (events[name].tolist() for name in ("side", "price", "size", "count", "flags"))
        for row, (side, price, size, count, flags) in enumerate(zip(*columns, strict=True)):
            if flags & EventFlag.CLEAR:
                book.clear()
            elif not size:
                book.pop((side, price), None)
            else:
                known = (side, price) in book
                book[side, price] = (size, count)
                if known:
                    commands[row] = MODIFY_BID if side > 0 else MODIFY_ASK
                else:
                    commands[row] = ADD_BID if side > 0 else ADD_ASK

    def _snapshot(self, ts_ns: int) -> Records:
        records = np.zeros(1 + len(self._book), DEPTH_RECORD)
        records["time"] = to_us(ts_ns)
        records["command"][0] = CLEAR_BOOK
        ordered = sorted(self._book.items(), key=lambda level: (-level[0][0], -level[0][0] * level[0][1]))
        for row, ((side, price), (size, count)) in enumerate(ordered, 1):
            command = ADD_BID if side > 0 else ADD_ASK
            records[row] = (records["time"][0], command, 0, count, price, size, 0)
        records["flags"][-1] = END_OF_BATCH
        return records
