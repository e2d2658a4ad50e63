"""Event times of a live feed, compared with the time of their receipt: what can't be is clamped, and reported.

Everything that runs on event time (deadlines, protection, the tail of a file, the silence timer) keeps a running
maximum of it. One event dated in the future would stop all of them until that time has come.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.records import EventArray, empty_events

UNDECIDED_NS: Final = NS_PER_S
"""Nothing but events from the future, or nothing but possible ones, for this long: that is the stream's time."""

RUN_AHEAD_NS: Final = 5 * NS_PER_S
"""A stream that was on time and has run ahead steadily for this long has a time of its own."""

_STEADY_NS: Final = 60 * NS_PER_S  # an event further ahead of the one before is a jump, not a faster clock
_RUN_AHEAD_SHARE: Final = 0.1  # exchange seconds gained per second, at least: a clock that is merely wrong gains none

FutureReport = Callable[[int, int, str], None]
"""Called with the `symbol` column of the event, by how many ns it was ahead, and what was done about it."""


class _Time(Enum):
    UNDECIDED = auto()  # only events from the future so far, held
    REAL = auto()
    OWN = auto()  # a simulator apart, a recording played


class EventTimes:
    """Checks the times of one stream of events, in the order of receipt.

    The limit is the receipt plus the slack. The receipt is our wall clock, or what the monotonic clock makes of the
    last sane receipt where the wall clock was set back. An event beyond the limit is an outlier. One that a possible
    event of the same batch follows takes the time of the possible event before it (a file is in order of time); another
    one takes the limit itself, so that the check of the clock skew refuses new risk. Times in the past are left alone:
    a running maximum ignores them.

    A stream with a time of its own (a simulator that runs apart, possibly faster) is allowed for with `own_time`:

    - While all events since the first are from the future they are held. When their time has advanced after a second
      of nothing else (or in the next batch of a file that has more), the stream has a time of its own and is taken as
      it is, with a report. The first possible event decides otherwise, and so do 5 s without an advance: real time.
    - A stream on real time that gains on our clock steadily, at a tenth of its speed or more, for 5 s in which no
      possible event comes, has a time of its own as well; a clock that is set wrong gains nothing and stays clamped.
    - A stream with a time of its own that for a second brings only possible events is on real time.

    Args:
        slack_ns: by how much an event may be ahead of its receipt.
        own_time: whether the configuration allows the stream a time of its own.
        report: called for each batch with an outlier.
    """

    def __init__(self, slack_ns: int, report: FutureReport, *, own_time: bool = False) -> None:
        self._slack_ns = slack_ns
        self._report = report
        self._own_time = own_time
        self._time = _Time.UNDECIDED if own_time else _Time.REAL
        self._held: list[EventArray] = []
        self._recv_ns = 0  # last sane receipt, and the monotonic clock then
        self._monotonic_ns = 0
        self._since_ns: int | None = None  # monotonic clock: since then all events contradict what is assumed
        self._since_ahead_ns = 0
        self._newest_ns = 0  # of those that do

    def check(self, events: EventArray, recv_ns: int, monotonic_ns: int, *, more: bool = False) -> EventArray:
        """The events with possible times, changed in place; other events, or none, while a stream is undecided.

        Args:
            events: at least one; the caller's own.
            recv_ns: wall clock at their receipt; an event of exactly this time has none of its own.
            monotonic_ns: at the same moment.
            more: further events lie ready to be read: nothing is traded on these, and no time has to be near ours.
        """
        times = events["ts_ns"]
        newest_ns = times[0] if len(times) == 1 else times.max()
        if self._time is _Time.REAL and newest_ns <= recv_ns + self._slack_ns:
            self._recv_ns, self._monotonic_ns, self._since_ns = recv_ns, monotonic_ns, None
            return events
        match self._time:
            case _Time.REAL:
                return self._check_real(events, recv_ns, monotonic_ns, more=more)
            case _Time.OWN:
                return self._check_own(events, recv_ns, monotonic_ns)
            case _Time.UNDECIDED:
                return self._decide(events, recv_ns, monotonic_ns, more=more)

    def latest_ns(self, recv_ns: int, monotonic_ns: int) -> int:
        """The latest possible event time now."""
        if self._time is _Time.OWN:
            return NEVER_NS
        return max(recv_ns, self._recv_ns and self._recv_ns + monotonic_ns - self._monotonic_ns) + self._slack_ns

    def rest(self) -> EventArray:
        """What is held, as it came: to be called when the stream ends."""
        held, self._held = self._held, []
        return np.concatenate(held or [empty_events(0)])

    def _decide(self, events: EventArray, recv_ns: int, monotonic_ns: int, *, more: bool) -> EventArray:
        ahead = events["ts_ns"] > recv_ns + self._slack_ns
        stamped = events["ts_ns"] != recv_ns
        if (stamped & ~ahead).any():
            self._time, self._since_ns = _Time.REAL, None
            self._held.append(events)
            return self.check(self.rest(), recv_ns, monotonic_ns, more=more)
        if not ahead.any() and not self._held:
            return events
        self._held.append(events)
        newest_ns = int(events["ts_ns"].max())
        if self._since_ns is None:
            self._since_ns, self._newest_ns = monotonic_ns, newest_ns
        passed_ns = monotonic_ns - self._since_ns
        if (more or passed_ns >= UNDECIDED_NS) and newest_ns > self._newest_ns:
            return self._take_as_own(self.rest(), recv_ns)
        if passed_ns >= RUN_AHEAD_NS:
            self._time, self._since_ns = _Time.REAL, None
            return self.check(self.rest(), recv_ns, monotonic_ns, more=more)
        return events[:0]

    def _take_as_own(self, events: EventArray, recv_ns: int) -> EventArray:
        self._time, self._since_ns = _Time.OWN, None
        self._tell(events, recv_ns, "as all its events are, they are taken as of a server with a time of its own")
        return events

    def _tell(self, events: EventArray, recv_ns: int, what: str) -> None:
        at = int(events["ts_ns"].argmax())
        self._report(int(events["symbol"][at]), int(events["ts_ns"][at]) - recv_ns, what)

    def _check_own(self, events: EventArray, recv_ns: int, monotonic_ns: int) -> EventArray:
        times = events["ts_ns"]
        self._newest_ns = max(self._newest_ns, int(times.max()))
        stamped = times[times != recv_ns]
        if (stamped > recv_ns + self._slack_ns).any():
            self._since_ns = None
        elif len(stamped):
            if self._since_ns is None:
                self._since_ns = monotonic_ns
            if monotonic_ns - self._since_ns >= UNDECIDED_NS:
                self._time, self._since_ns = _Time.REAL, None
                if self._newest_ns > recv_ns + self._slack_ns:
                    ahead_ns = self._newest_ns - recv_ns
                    self._report(int(events["symbol"][0]), ahead_ns, "its time went back: restart the daemon")
        return events

    def _check_real(self, events: EventArray, recv_ns: int, monotonic_ns: int, *, more: bool) -> EventArray:
        times = events["ts_ns"]
        if self._own_time and self._runs_ahead(times, recv_ns, monotonic_ns):
            return self._take_as_own(events, recv_ns)
        limit_ns = self.latest_ns(recv_ns, monotonic_ns)
        outliers = times > limit_ns
        if not outliers.any():
            self._tell(events, recv_ns, "this machine's clock was set back: events keep their time")
            return events
        self._tell(events, recv_ns, "such events are given the latest possible time")
        times[:] = _clamped(times, outliers, limit_ns, more=more)
        return events

    def _runs_ahead(self, times: NDArray[np.int64], recv_ns: int, monotonic_ns: int) -> bool:
        """Whether the stream, on real time so far, has for long enough gained steadily on our clock."""
        stamped = times[times != recv_ns]
        if (stamped <= recv_ns + self._slack_ns).any():
            self._since_ns = None
            return False
        newest_ns = int(stamped.max())
        if self._since_ns is None or not 0 <= newest_ns - self._newest_ns <= _STEADY_NS:
            self._since_ns, self._since_ahead_ns = monotonic_ns, newest_ns - recv_ns
        self._newest_ns = newest_ns
        passed_ns = monotonic_ns - self._since_ns
        gained_ns = newest_ns - recv_ns - self._since_ahead_ns
        return passed_ns >= RUN_AHEAD_NS and gained_ns >= passed_ns * _RUN_AHEAD_SHARE


def _clamped(times: NDArray[np.int64], outliers: NDArray[np.bool_], limit_ns: int, *, more: bool) -> NDArray[np.int64]:
    """The times without outliers: the possible time before, the first one after, or the limit."""
    possible = np.flatnonzero(~outliers)
    if not len(possible):
        return np.full_like(times, limit_ns)
    before = np.maximum.accumulate(np.where(outliers, times[possible[0]], times))
    replaced = np.where(outliers, before, times)
    if not more:
        replaced[possible[-1] + 1 :] = limit_ns
    return replaced
