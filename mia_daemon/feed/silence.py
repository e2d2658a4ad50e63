"""Events that the feed makes itself: the timer that marks silence, and the gap."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import EventArray, EventKind, empty_events

TIMER_INTERVAL_S: Final = 1.0
"""Silence after which a feed makes a TIMER event, and again each time it passes, seconds."""

_MARGIN_SHARE = 0.25


class SilenceTimer:
    """Says when the market has been silent for a while, so that what runs on event time runs on.

    A TIMER row carries the exchange time that must have been reached by now: the newest known, plus the silence, less
    a margin of a quarter interval, so that an event already on its way does not seem to come from the past.

    Args:
        interval_s: silence after which the timer fires, and again each time it passes; seconds of the monotonic clock.
        speed: exchange seconds per second of the monotonic clock (1 but for the simulator).
    """

    def __init__(self, interval_s: float, speed: float = 1.0) -> None:
        self._interval_ns = round(interval_s * NS_PER_S)
        self._speed = speed
        self._ts_ns = 0  # newest exchange time heard; 0 before the first
        self._heard_ns = 0  # monotonic clock, as the next
        self._fired_ns = 0

    @property
    def last_ts_ns(self) -> int:
        """The newest exchange time heard; 0 before the first event."""
        return self._ts_ns

    def heard(self, ts_ns: int, monotonic_ns: int) -> None:
        """An event of exchange time `ts_ns` arrived: a possible one, as `feed.event_times` checks before."""
        self._ts_ns = max(self._ts_ns, ts_ns)
        self._heard_ns = self._fired_ns = monotonic_ns

    def wait_s(self, monotonic_ns: int) -> float:
        """Until the timer may fire."""
        if not self._ts_ns:
            return self._interval_ns / NS_PER_S
        return max(self._interval_ns - (monotonic_ns - self._fired_ns), 0) / NS_PER_S

    def due(self, monotonic_ns: int, now_ns: int) -> EventArray | None:
        """One TIMER row if it is time for it. Nothing before the first event: exchange time is not known yet."""
        if not self._ts_ns or monotonic_ns - self._fired_ns < self._interval_ns:
            return None
        self._fired_ns = monotonic_ns
        silence_ns = monotonic_ns - self._heard_ns - round(self._interval_ns * _MARGIN_SHARE)
        return marker(EventKind.TIMER, self._ts_ns + round(silence_ns * self._speed), now_ns)


def timers_between(
    times_ns: NDArray[np.int64], interval_s: float, longest_s: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The timers that would have fired between events, had they been received at their own times.

    Args:
        times_ns: (n,) of the events in order of receipt.
        interval_s: of the timer.
        longest_s: of each silence only so much is marked.

    Returns:
        When each fired and the exchange time that it carries, as `SilenceTimer` gives it; both ascending.
    """
    interval_ns = round(interval_s * NS_PER_S)
    heard = np.maximum.accumulate(times_ns)
    silence = np.minimum(np.diff(heard), round(longest_s * NS_PER_S))
    counts = np.maximum(-(-silence // interval_ns) - 1, 0)
    total = int(counts.sum())
    before = np.repeat(np.cumsum(counts) - counts, counts)
    fired = np.repeat(heard[:-1], counts) + (np.arange(total) - before + 1) * interval_ns
    return fired, fired - round(interval_ns * _MARGIN_SHARE)


def marker(kind: EventKind, ts_ns: int, recv_ns: int) -> EventArray:
    """One row without prices: a TIMER or a GAP of the traded instrument."""
    events = empty_events(1)
    events["ts_ns"] = ts_ns
    events["recv_ns"] = recv_ns
    events["kind"] = np.uint8(kind)
    return events
