"""A live feed from the files Sierra Chart writes while it runs: the trades, and the depth where it is recorded.

Sierra Chart flushes these files on a schedule of its own (Global Settings >> Data/Trade Service Settings >> Intraday
File Flush Time in Milliseconds); that, not the polling here, decides how old a price is.
"""

import asyncio
from pathlib import Path

import numpy as np

from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.feed.base import Batch, BatchQueue
from mia_daemon.feed.sierra_files import (
    DEPTH,
    SCID,
    check_depth,
    check_scid,
    depth_to_events,
    ends_in_snapshot,
    merge,
    scid_to_events,
    to_us,
)
from mia_daemon.feed.silence import SilenceTimer, marker
from mia_daemon.feed.tail import POLL_FIRST_S, POLL_LAST_S, Tail
from mia_daemon.records import Alert, EventArray, EventKind, Priority, empty_events
from mia_daemon.stage import END, AlertSink

_NS_PER_DAY = 86_400 * NS_PER_S


class ScidFeed:
    """Follows a growing `.scid`, and the symbol's `.depth` files if their directory is given.

    Events read while catching up are old: their `recv_ns` is the time of reading, their `ts_ns` the exchange's, and the
    difference is how stale they are. A file that was replaced, cut or rewritten gives a GAP event and an alert; one
    that is missing, an alert, and reading begins when it appears.

    Args:
        since_ns: read from the first record of this time on, to warm up; None: only what is appended from now on.
        depth_directory: Sierra Chart's MarketDepthData folder, with one file per UTC day.
        batch_events: rows per batch, while catching up.
        timer_interval_s: silence after which a TIMER event is made.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_alert: AlertSink,
        *,
        since_ns: int | None = None,
        depth_directory: Path | None = None,
        batch_events: int = 4096,
        timer_interval_s: float = 1.0,
        price_multiplier: float = 1.0,
    ) -> None:
        self._clock = clock
        self._on_alert = on_alert
        self._batch_events = batch_events
        self._multiplier = price_multiplier
        since_us = None if since_ns is None else to_us(since_ns)
        self._trades = Tail(path, SCID, since_us)
        self._depth = None if depth_directory is None else _DepthTail(depth_directory, path.stem, since_us)
        self._in_snapshot = False
        self._silence = SilenceTimer(timer_interval_s)
        self._told_missing = False
        self._closed = False

    async def run(self, queue: BatchQueue) -> None:
        """Follow the file until `close`. Raises FileFormatError for a foreign file or a damaged record."""
        delay_s = POLL_FIRST_S
        try:
            while not self._closed:
                events = self.poll()
                delay_s = POLL_FIRST_S if len(events) else min(2 * delay_s, POLL_LAST_S)
                if len(events):
                    await queue.put(Batch(events, self._clock.monotonic_ns()))
                await asyncio.sleep(0 if len(events) >= self._batch_events else delay_s)
        finally:
            self.close()
        await queue.put(END)

    def poll(self) -> EventArray:
        """What is new since the last call, possibly nothing."""
        now_ns, monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        parts = [self._poll_trades(now_ns)]
        if self._depth is not None:
            parts.append(self._poll_depth(self._depth, now_ns))
        trades, *depth = parts
        events = merge(trades, depth[0]) if depth and len(depth[0]) else trades
        if not len(events):
            timer = self._silence.due(monotonic_ns, now_ns)
            return events if timer is None else timer
        events["recv_ns"] = now_ns
        self._silence.heard(int(events["ts_ns"].max()), monotonic_ns)
        return events

    def _poll_trades(self, now_ns: int) -> EventArray:
        records, change = self._trades.poll(self._batch_events)
        self._tell_if_missing(now_ns)
        check_scid(records, self._trades.path)
        return self._after_gap(scid_to_events(records, 0, self._multiplier), change, self._trades.path, now_ns)

    def _poll_depth(self, depth: "_DepthTail", now_ns: int) -> EventArray:
        records, change = depth.poll(self._batch_events, now_ns)
        if not len(records) and not change:
            return empty_events(0)
        check_depth(records, depth.path)
        events = depth_to_events(records, 0, self._multiplier, in_snapshot=self._in_snapshot and not change)
        self._in_snapshot = ends_in_snapshot(events) if len(events) else False
        return self._after_gap(events, change, depth.path, now_ns)

    def _after_gap(self, events: EventArray, change: str, path: Path, now_ns: int) -> EventArray:
        """The events, behind a GAP where the file was found changed."""
        if not change:
            return events
        text = f"{path} {change} while it was read: prices in between may be missing; look whether Sierra Chart runs"
        self._on_alert(Alert(now_ns, "feed_file_changed", Priority.ERROR, text, {"path": str(path)}))
        ts_ns = self._silence.last_ts_ns or (int(events["ts_ns"][0]) if len(events) else now_ns)
        gap = marker(EventKind.GAP, ts_ns, now_ns)
        return np.concatenate((gap, events))

    def _tell_if_missing(self, now_ns: int) -> None:
        missing = self._trades.missing
        if missing and not self._told_missing:
            text = (
                f"{self._trades.path} is not there yet: open a chart of the symbol in Sierra Chart, or mend scid_path"
            )
            self._on_alert(Alert(now_ns, "feed_file_missing", Priority.ERROR, text, {"path": str(self._trades.path)}))
        self._told_missing = missing

    def close(self) -> None:
        """Read no more: `run` puts `END` and returns."""
        self._closed = True
        self._trades.close()
        if self._depth is not None:
            self._depth.close()


class _DepthTail:
    """The depth files of a symbol, one per UTC day: `<symbol>.<yyyy-mm-dd>.depth`."""

    def __init__(self, directory: Path, symbol: str, since_us: int | None) -> None:
        self._directory = directory
        self._symbol = symbol
        self._since_us = since_us
        self._day = -1
        self._tail: Tail | None = None

    @property
    def path(self) -> Path:
        assert self._tail is not None
        return self._tail.path

    def poll(self, limit: int, now_ns: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.void]], str]:
        """As Tail.poll. The next day's file is opened once it exists and the old one has nothing more."""
        day = now_ns // _NS_PER_DAY
        if self._tail is None:
            self._follow(day, self._since_us)
        assert self._tail is not None
        records, change = self._tail.poll(limit)
        if not len(records) and day != self._day and self._path_of(day).exists():
            self._follow(day, 0)
            return self._tail.poll(limit)
        return records, change

    def _follow(self, day: int, since_us: int | None) -> None:
        self.close()
        self._day = day
        self._tail = Tail(self._path_of(day), DEPTH, since_us)

    def _path_of(self, day: int) -> Path:
        date = np.datetime64(day, "D")
        return self._directory / f"{self._symbol}.{date}.depth"

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()
