"""A live feed from the files Sierra Chart writes while it runs: the trades, and the depth where it is recorded.

Sierra Chart flushes these files on a schedule of its own (Global Settings >> Data/Trade Service Settings >> Intraday
File Flush Time in Milliseconds); that, not the reading here, decides how old a price is.
"""

import asyncio
from pathlib import Path

import numpy as np

from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.errors import FileFormatError
from mia_daemon.feed.base import BatchQueue, EventBatch
from mia_daemon.feed.book_touch import BookTouch
from mia_daemon.feed.event_checks import NO_LIMITS, CheckedSymbol, EventChecks, EventLimits
from mia_daemon.feed.sierra_files import (
    SCID,
    Records,
    check_scid,
    damaged,
    depth_to_events,
    ends_in_snapshot,
    scid_to_events,
    to_ns,
    to_us,
)
from mia_daemon.feed.silence import TIMER_INTERVAL_S, SilenceTimer, marker
from mia_daemon.feed.tailing.depth_tail import DepthTail
from mia_daemon.feed.tailing.file_watch import FileWatch
from mia_daemon.feed.tailing.tail import Tail
from mia_daemon.feed.tailing.time_merge import TimeMerge
from mia_daemon.products.price_scale import AS_STORED, PriceScale
from mia_daemon.records import Alert, AlertSink, EventArray, EventFlag, EventKind, Priority, empty_events
from mia_daemon.stage import END

_NOTHING = empty_events(0)
_LATE_S = 2.0  # beyond the longest wait: a look so late was held up, and what it reads is old
_OFF_TICK = "set {}.price_multiplier to 0.01 if Sierra Chart's files hold hundredths, else compare its chart"


class ScidFeed:
    """Follows a growing `.scid`, and the symbol's `.depth` files if their directory is given, as one stream by time.

    Events read while catching up are old: their `recv_ns` is the time of reading, their `ts_ns` the exchange's, and the
    difference is how stale they are. They are marked with CATCHING_UP, for a server with a time of its own: all that a
    file held when its first events were read, what follows a GAP, what was written while we did not look, and all that
    is read while more lies ready. A file that was replaced, cut or rewritten gives a GAP event and an alert; one that
    is missing, an alert, and reading begins when it appears. A damaged record is left out, with an alert.

    Args:
        since_ns: read from the first record of this time on, to warm up; None: only what is appended from now on.
        reference_path: the reference symbol's `.scid`. Its events do not end a silence, its changes make no GAP;
            one that is missing or damaged is an alert and holds up nothing.
        reference_since_ns: where its reading begins, if that is another time.
        depth_directory: Sierra Chart's MarketDepthData folder, with one file per day.
        batch_events: rows per batch, while catching up (a snapshot of the book is not cut).
        timer_interval_s: silence after which a TIMER event is made.
        scale: of the traded symbol's stored prices; without a tick size the touch of the book is not known.
        reference_scale: of the reference's.
        limits: of the events' times.
        inotify: False polls always.
        poll_interval_s: longest wait between two looks where inotify is silent.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_alert: AlertSink,
        *,
        since_ns: int | None = None,
        depth_directory: Path | None = None,
        reference_path: Path | None = None,
        reference_since_ns: int | None = None,
        batch_events: int = 4096,
        timer_interval_s: float = TIMER_INTERVAL_S,
        scale: PriceScale = AS_STORED,
        reference_scale: PriceScale = AS_STORED,
        limits: EventLimits = NO_LIMITS,
        inotify: bool = True,
        poll_interval_s: float = 0.02,
    ) -> None:
        self._clock = clock
        self._on_alert = on_alert
        self._batch_events = batch_events
        # Without the tick sizes: the checks put prices on the tick, and report those that are off it.
        self._scale, self._reference_scale = PriceScale(scale.multiplier), PriceScale(reference_scale.multiplier)
        since_us = None if since_ns is None else to_us(since_ns)
        self._trades = Tail(path, SCID, since_us)
        self._depth = None if depth_directory is None else DepthTail(depth_directory, path.stem, since_us)
        self._merge = TimeMerge()
        reference_us = since_us if reference_since_ns is None else to_us(reference_since_ns)
        self._reference = None if reference_path is None else Tail(reference_path, SCID, reference_us)
        self._beside = TimeMerge()  # what left `_merge`, and the reference
        traded = {0: CheckedSymbol(path.name, scale.tick_size, _OFF_TICK.format("feed"))}
        self._checks, self._depth_checks = (EventChecks(limits, traded, on_alert) for _ in range(2))
        reference_name, hint = getattr(reference_path, "name", ""), _OFF_TICK.format("reference")
        reference = {1: CheckedSymbol(reference_name, reference_scale.tick_size, hint)}
        self._reference_checks = EventChecks(limits, reference, on_alert)
        self._in_snapshot = False
        self._book = None if scale.tick_size is None else BookTouch(scale.tick_size)
        self._silence = SilenceTimer(timer_interval_s)
        self._longest_wait_ns = round((timer_interval_s + _LATE_S) * NS_PER_S)
        self._looked_ns = clock.monotonic_ns()
        self._reported_missing: set[Path] = set()  # what is known to be missing
        self._watch = FileWatch(poll_interval_s, self._say_polling, inotify=inotify)
        self._closed = False

    async def run(self, queue: BatchQueue) -> None:
        """Follow the files until `close`. Raises FileFormatError for a foreign file or a damaged record."""
        try:
            with self._watch:
                while not self._closed:
                    await self._step(queue)
        finally:
            self.close()
        held = np.concatenate([checks.rest() for checks in (self._checks, self._depth_checks, self._reference_checks)])
        if len(held):
            await queue.put(EventBatch(held, self._clock.monotonic_ns()))
        await queue.put(END)

    async def _step(self, queue: BatchQueue) -> None:
        looked_ns = self._clock.monotonic_ns()
        events = self.poll()
        if len(events):
            await queue.put(EventBatch(events, looked_ns))
        if self._behind:
            await asyncio.sleep(0)
            return
        found = len(events) > 0 and events["kind"][0] != EventKind.TIMER
        paths = [tail.path for tail in (self._trades, self._depth, self._reference) if tail is not None]
        silence_s = self._silence.wait_s(self._clock.monotonic_ns())
        await self._watch.wait(paths, found=found, at_most_s=silence_s)

    def poll(self) -> EventArray:
        """What is new since the last call, possibly nothing; marked where it is not the present market."""
        now_ns, monotonic_ns = self._clock.now_ns(), self._clock.monotonic_ns()
        held_up = monotonic_ns - self._looked_ns > self._longest_wait_ns
        late = held_up or self._behind or not self._silence.last_ts_ns
        self._looked_ns = monotonic_ns
        events = self._read(now_ns, monotonic_ns)
        if late or self._behind or (events["kind"] == EventKind.GAP).any():
            events["flags"] |= np.uint16(EventFlag.CATCHING_UP)
        return events

    def _read(self, now_ns: int, monotonic_ns: int) -> EventArray:
        """What is new in the files, and a TIMER event where it is due."""
        if self._merge.wants_trades:
            self._read_trades(now_ns, monotonic_ns)
        if self._depth is not None and self._merge.wants_depth:
            self._read_depth(self._depth, now_ns, monotonic_ns)
        events = (
            self._merge.take() if self._reference is None else self._take_both(self._reference, now_ns, monotonic_ns)
        )
        events["recv_ns"] = now_ns
        own = events["ts_ns"][events["symbol"] == 0]
        if len(own):
            self._silence.heard(int(own.max()), monotonic_ns)
            return events
        timer = None if self._behind else self._silence.due(monotonic_ns, now_ns)
        if timer is None:
            return events
        return np.concatenate((events, timer)) if len(events) else timer

    @property
    def _behind(self) -> bool:
        return self._merge.behind or (self._reference is not None and self._beside.behind)

    def _take_both(self, reference: Tail, now_ns: int, monotonic_ns: int) -> EventArray:
        """What may leave of both symbols; at equal times the traded one goes first."""
        if self._beside.wants_trades:
            events = self._merge.take()
            self._beside.put_trades(events, more=self._merge.behind)
        if self._beside.wants_depth:
            self._read_reference(reference, now_ns, monotonic_ns)
        return self._beside.take()

    def _read_reference(self, tail: Tail, now_ns: int, monotonic_ns: int) -> None:
        checks = self._reference_checks
        try:
            records, change = tail.poll(self._batch_events, _us(checks.latest_ns(now_ns, monotonic_ns)))
            records = self._sound(records, tail.path, now_ns)
            check_scid(records, tail.path, tail.first_index)
        except FileFormatError as error:
            self._reference = None
            tail.close()
            self._beside.put_depth(_NOTHING, more=False)
            text = f"trading goes on without the reference symbol: {error}"
            self._alert(now_ns, "reference_lost", Priority.ERROR, text, tail.path)
            return
        self._tell_if_missing(tail.path, tail.trouble, "open a chart of the reference symbol in Sierra Chart", now_ns)
        if change:
            text = f"{tail.path} {change} while it was read: prices of the reference symbol may be missing"
            self._alert(now_ns, "reference_file_changed", Priority.WARNING, text, tail.path)
        events = scid_to_events(records, 1, self._reference_scale)
        self._beside.put_depth(checks.check(events, now_ns, monotonic_ns, more=tail.more), more=tail.more)

    def _read_trades(self, now_ns: int, monotonic_ns: int) -> None:
        tail, checks = self._trades, self._checks
        records, change = tail.poll(self._batch_events, _us(checks.latest_ns(now_ns, monotonic_ns)))
        self._tell_if_missing(tail.path, tail.trouble, "open a chart of the symbol in Sierra Chart", now_ns)
        if not len(records) and not change:
            self._merge.put_trades(_NOTHING, more=tail.more)
            return
        records = self._sound(records, tail.path, now_ns)
        check_scid(records, tail.path, tail.first_index)
        events = checks.check(scid_to_events(records, 0, self._scale), now_ns, monotonic_ns, more=tail.more)
        self._merge.put_trades(self._after_gap(events, change, tail.path, now_ns), more=tail.more)

    def _read_depth(self, depth: DepthTail, now_ns: int, monotonic_ns: int) -> None:
        before, checks = depth.path, self._depth_checks
        records, change = depth.poll(self._batch_events, monotonic_ns, _us(checks.latest_ns(now_ns, monotonic_ns)))
        if depth.path != before:
            self._in_snapshot = False
            self._alert(now_ns, "depth_file", Priority.INFO, f"depth is read from {depth.path}", depth.path)
        self._tell_if_missing(depth.path, depth.trouble, "record market depth of the symbol in Sierra Chart", now_ns)
        if not len(records) and not change:
            self._merge.put_depth(_NOTHING, more=depth.more)
            return
        records = self._sound(records, depth.path, now_ns)
        events = depth_to_events(records, 0, self._scale, in_snapshot=self._in_snapshot and not change)
        self._in_snapshot = len(events) > 0 and ends_in_snapshot(events)
        events = checks.check(events, now_ns, monotonic_ns, more=depth.more)
        if self._book is not None:
            self._book.write(events)
        self._merge.put_depth(self._after_gap(events, change, depth.path, now_ns), more=depth.more)

    def _sound(self, records: Records, path: Path, now_ns: int) -> Records:
        """The records without those that hold no price or no time: one of them must not end the feed."""
        lost = damaged(records)
        if not lost.any():
            return records
        count = int(lost.sum())
        found = "a damaged record" if count == 1 else f"{count} damaged records"
        text = f"{path} has {found} among the newest, left out: look at the disk and the share"
        self._alert(now_ns, "feed_record_damaged", Priority.ERROR, text, path)
        return records[~lost]

    def _after_gap(self, events: EventArray, change: str, path: Path, now_ns: int) -> EventArray:
        """The events, behind a GAP where the file was found changed."""
        if not change:
            return events
        text = f"{path} {change} while it was read: prices in between may be missing; look whether Sierra Chart runs"
        self._alert(now_ns, "feed_file_changed", Priority.ERROR, text, path)
        ts_ns = self._silence.last_ts_ns or (int(events["ts_ns"][0]) if len(events) else now_ns)
        return np.concatenate((marker(EventKind.GAP, ts_ns, now_ns), events))

    def _tell_if_missing(self, path: Path, trouble: str, advice: str, now_ns: int) -> None:
        """Say once that there is nothing to read, and again when there is."""
        if trouble and path not in self._reported_missing:
            self._reported_missing.add(path)
            text = f"{path} {trouble}: {advice}, or mend the path; it is read as soon as it is there"
            self._alert(now_ns, "feed_file_missing", Priority.ERROR, text, path)
        elif not trouble and path in self._reported_missing:
            self._reported_missing.remove(path)
            self._alert(now_ns, "feed_file_found", Priority.INFO, f"{path} is there now and is read", path)

    def _say_polling(self, text: str) -> None:
        self._alert(self._clock.now_ns(), "feed_polling", Priority.INFO, text, self._trades.path)

    def _alert(self, now_ns: int, code: str, priority: Priority, text: str, path: Path) -> None:
        self._on_alert(Alert(now_ns, code, priority, text, {"path": str(path)}))

    def close(self) -> None:
        """Read no more: `run` puts `END` and returns."""
        self._closed = True
        self._watch.wake()
        self._trades.close()
        for tail in (self._depth, self._reference):
            if tail is not None:
                tail.close()


def _us(ts_ns: int | None) -> int | None:
    return None if ts_ns is None else int(to_us(ts_ns))


def newest_scid_ns(path: Path) -> int | None:
    """The time of a `.scid` file's last whole record, ns; None where there is no such record.

    For files that are being written: what is torn at the end is left out.

    Raises:
        FileFormatError: it is no `.scid`, or that record is no single trade.
    """
    newest = newest_scid_trade(path)
    return None if newest is None else newest[0]


def newest_scid_trade(path: Path) -> tuple[int, float] | None:
    """That time, and the price as it is in the file; None and errors as for `newest_scid_ns`."""
    newest = _newest_record(path)
    return None if newest is None else (int(to_ns(newest["time"][0])), float(newest["close"][0]))


def _newest_record(path: Path) -> Records | None:
    tail = Tail(path, SCID, None)
    try:
        if not tail.open() or tail.newest_us is None:
            return None
        check_scid(tail.passed, path, tail.position - 1)
        return tail.passed
    finally:
        tail.close()
