"""A feed from a file that has an end: a `.scid` (with its `.depth` or without), or a recording."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NEVER_NS, Clock
from mia_daemon.errors import FileFormatError, UsageError
from mia_daemon.feed.base import BatchQueue, EventBatch
from mia_daemon.feed.book_touch import BookTouch
from mia_daemon.feed.recording import Recording, is_recording
from mia_daemon.feed.sierra_files import (
    Records,
    depth_positions,
    depth_to_events,
    ends_in_snapshot,
    read_depth,
    read_scid,
    scid_to_events,
    to_ns,
)
from mia_daemon.feed.silence import TIMER_INTERVAL_S, timers_between
from mia_daemon.products.price_scale import AS_STORED, PriceScale
from mia_daemon.records import MARKET_EVENT, EventArray, EventKind, empty_events
from mia_daemon.stage import END


class ReplayFeed:
    """Reads a file as fast as it is taken from the queue.

    The file is checked whole before the first batch; a packed segment of a recording is as it is read.

    Args:
        path: a `.scid` file, the directory of a recording, or one of its segments.
        depth_path: the `.depth` file of the same symbol, merged by time.
        reference_path: the reference symbol's `.scid`, merged by time; what lies outside the traded symbol's time is
            left out.
        batch_events: rows per batch; decisions do not depend on it.
        scale: of the traded symbol's prices in Sierra Chart's files; without a tick size the touch of the book is not
            written into its depth events.
        reference_scale: of the reference's.
        timers_up_to_s: in a silence of Sierra Chart's files TIMER events are made as a live feed makes them, for so
            long; 0: none.
        to_ns: the feed ends before the first event of this time or later.

    Raises:
        FileFormatError: a file is foreign, truncated, damaged or empty; in `batches` and `run`: a packed segment is.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        depth_path: Path | None = None,
        reference_path: Path | None = None,
        batch_events: int = 4096,
        scale: PriceScale = AS_STORED,
        reference_scale: PriceScale = AS_STORED,
        timers_up_to_s: float = 0.0,
        to_ns: int = NEVER_NS,
    ) -> None:
        self._clock = clock
        self._to_ns = to_ns
        self._batch_events = batch_events
        self._closed = False
        self._source: Recording | _SierraFiles | _Interleaved
        if is_recording(path):
            if depth_path is not None:
                raise UsageError(f"{path} is a recording and holds its own depth: leave {depth_path} out")
            if reference_path is not None:
                raise UsageError(f"{path} is a recording and holds its own reference: leave {reference_path} out")
            self._source = Recording(path)
        else:
            refuse_directory(path)
            files = _SierraFiles(path, depth_path, scale)
            self._source = _sierra_source(files, reference_path, reference_scale, timers_up_to_s)

    def __len__(self) -> int:
        """Events in the file."""
        return len(self._source)

    @property
    def span_ns(self) -> tuple[int, int]:
        """Earliest and latest event time, without the reference's and the timers'."""
        return self._source.span_ns()

    def batches(self) -> Iterator[EventArray]:
        """All events up to `to_ns` in order, `batch_events` at a time; each array is owned by who takes it."""
        for start in range(0, len(self), self._batch_events):
            events = self._source.rows(start, min(start + self._batch_events, len(self)))
            left_out = np.flatnonzero(events["ts_ns"] >= self._to_ns)
            if len(left_out):
                if left_out[0]:
                    yield events[: left_out[0]]
                return
            yield events

    async def run(self, queue: BatchQueue) -> None:
        """Put every batch, then `END`. A queue with room does not suspend, so this yields to the others by itself."""
        for events in self.batches():
            if self._closed:
                break
            await queue.put(EventBatch(events, self._clock.monotonic_ns()))
            await asyncio.sleep(0)
        await queue.put(END)

    def close(self) -> None:
        """End before the file does."""
        self._closed = True


def refuse_directory(path: Path) -> None:
    """Raises FileFormatError for a directory that holds no recording."""
    if path.is_dir() and not is_recording(path):
        raise FileFormatError(f"{path} holds no recording: name one of var/recordings, or a .scid file")


class _SierraFiles:
    """The rows of a trades file and a depth file, merged without converting more than is asked for."""

    def __init__(self, path: Path, depth_path: Path | None, scale: PriceScale) -> None:
        self._trades = read_scid(path)
        self._depth: Records | None = None if depth_path is None else read_depth(depth_path)
        self._scale = scale
        self._book = None if scale.tick_size is None else BookTouch(scale.tick_size)
        self._in_snapshot = False
        if self._depth is not None:
            self._places = depth_positions(to_ns(self._trades["time"]), to_ns(self._depth["time"]))

    def times_ns(self) -> NDArray[np.int64]:
        """Of all rows in the merged order."""
        trades: NDArray[np.int64] = to_ns(self._trades["time"])
        if self._depth is None:
            return trades
        times = np.empty(len(self), np.int64)
        of_depth = np.zeros(len(self), np.bool_)
        of_depth[self._places] = True
        times[of_depth], times[~of_depth] = to_ns(self._depth["time"]), trades
        return times

    def span_ns(self) -> tuple[int, int]:
        files = [self._trades] if self._depth is None else [self._trades, self._depth]
        times = [records["time"] for records in files if len(records)]
        ends = to_ns(np.array([min(each.min() for each in times), max(each.max() for each in times)]))
        return int(ends[0]), int(ends[1])

    def __len__(self) -> int:
        return len(self._trades) + (0 if self._depth is None else len(self._depth))

    def rows(self, start: int, stop: int) -> EventArray:
        """Rows of the merged order; asked for front to back, since a snapshot may span two pieces, and the book all."""
        if self._depth is None:
            return scid_to_events(self._trades[start:stop], 0, self._scale)
        first, last = np.searchsorted(self._places, (start, stop))
        events = np.empty(stop - start, MARKET_EVENT)
        of_depth = np.zeros(stop - start, np.bool_)
        of_depth[self._places[first:last] - start] = True
        events[~of_depth] = scid_to_events(self._trades[start - first : stop - last], 0, self._scale)
        if last > first:
            in_snapshot = self._in_snapshot and start > 0
            depth = depth_to_events(self._depth[first:last], 0, self._scale, in_snapshot=in_snapshot)
            self._in_snapshot = ends_in_snapshot(depth)
            events[of_depth] = depth if self._book is None else self._book.write(depth)
        return events


class _Interleaved:
    """The rows of a source, and others in between.

    Args:
        base: asked for its rows front to back.
        places: (n,) where the others stand in the merged order, ascending.
        others: gives others number `first` up to `last`.
    """

    def __init__(
        self, base: "_SierraFiles | _Interleaved", places: NDArray[np.intp], others: Callable[[int, int], EventArray]
    ) -> None:
        self._base = base
        self._places = places
        self._others = others

    def __len__(self) -> int:
        return len(self._base) + len(self._places)

    def span_ns(self) -> tuple[int, int]:
        return self._base.span_ns()

    def rows(self, start: int, stop: int) -> EventArray:
        first, last = map(int, np.searchsorted(self._places, (start, stop)))
        base = self._base.rows(start - first, stop - last)
        if first == last:
            return base
        events = np.empty(stop - start, MARKET_EVENT)
        is_other = np.zeros(stop - start, np.bool_)
        is_other[self._places[first:last] - start] = True
        events[is_other] = self._others(first, last)
        events[~is_other] = base
        return events


def _sierra_source(
    files: _SierraFiles, reference_path: Path | None, reference_scale: PriceScale, timers_up_to_s: float
) -> "_SierraFiles | _Interleaved":
    """The files' rows, with the reference's and with timers where they are wanted."""
    source: _SierraFiles | _Interleaved = files
    beside_ns = np.empty(0, np.int64)
    if reference_path is not None:
        source, beside_ns = _beside(files, read_scid(reference_path), reference_scale)
    if timers_up_to_s:
        source = _with_timers(source, files.times_ns(), beside_ns, timers_up_to_s)
    return source


def _beside(traded: _SierraFiles, reference: Records, scale: PriceScale) -> tuple[_Interleaved, NDArray[np.int64]]:
    """The traded symbol's rows and the reference's trades by time, and the times of those.

    At equal times the traded symbol goes first.
    """
    own = np.maximum.accumulate(traded.times_ns())
    times = np.maximum.accumulate(to_ns(reference["time"]))
    begin, end = np.searchsorted(times, own[0]), np.searchsorted(times, own[-1], side="right")
    records = reference[begin:end]
    places = depth_positions(own, times[begin:end])
    trades = _Interleaved(traded, places, lambda first, last: scid_to_events(records[first:last], 1, scale))
    return trades, times[begin:end]


def _with_timers(
    base: "_SierraFiles | _Interleaved", own_ns: NDArray[np.int64], beside_ns: NDArray[np.int64], longest_s: float
) -> "_SierraFiles | _Interleaved":
    """The rows with the TIMER events that a live feed makes in a silence of the traded symbol.

    Args:
        base: the rows.
        own_ns: times of the traded symbol's.
        beside_ns: times of the reference's among them; may be empty.
        longest_s: of each silence only so much is marked.
    """
    fired_ns, ts_ns = timers_between(own_ns, TIMER_INTERVAL_S, longest_s)
    if not len(fired_ns):
        return base
    times = np.sort(np.concatenate((np.maximum.accumulate(own_ns), beside_ns)))
    places = np.searchsorted(times, fired_ns) + np.arange(len(fired_ns))

    def timers(first: int, last: int) -> EventArray:
        events = empty_events(last - first)
        events["kind"] = EventKind.TIMER
        events["ts_ns"], events["recv_ns"] = ts_ns[first:last], fired_ns[first:last]
        return events

    return _Interleaved(base, places, timers)
