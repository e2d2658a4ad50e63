"""Task 2's core: market events in, feature windows out, on event time.

A decision falls due at the first event of the traded symbol, of any kind, whose time reaches or passes the next
boundary, a multiple of the decision interval since the epoch; its values include that event. The next boundary is the
first one after it. The first event only starts the clock. However the events are cut into batches, the decisions and
every bit of their values are the same.
"""

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue
from mia_daemon.features.kernels import engine
from mia_daemon.features.kernels.engine import (
    C_BACK,
    C_BAD,
    C_DECISIONS,
    C_DUE,
    C_NEWEST,
    C_NOT_FINITE,
    C_QUALITY,
)
from mia_daemon.features.kernels.market import Ints
from mia_daemon.instruments import Instrument
from mia_daemon.records import MARKET_EVENT, EventArray, FeatureWindow
from mia_daemon.trading_calendar import NO_EVENTS, MacroEvents, TradingCalendar

_COLD = int(catalogue.Quality.COLD)


class FeaturePipeline:
    """The state of all families for one traded symbol.

    An event older than the newest is applied at the newest's time and counted. An event with an impossible time or
    symbol is left out; one with impossible numbers only moves the time.

    Args:
        instrument: the traded symbol, whose events carry symbol 0.
        decision_interval_s: event time between decisions, s.
        calendar: trading days; None leaves session and level features neutral.
        warmup_s: event time to see before windows are warm, s. Time before a GAP event doesn't count, and a silence
            of more than two hours starts it anew.
        events: macro events for the clock features.

    Raises:
        UsageError: an interval that is not above 0, or a negative warm-up.
    """

    def __init__(
        self,
        instrument: Instrument,
        decision_interval_s: float,
        calendar: TradingCalendar | None,
        warmup_s: float,
        events: MacroEvents = NO_EVENTS,
    ) -> None:
        interval_ns = round(decision_interval_s * NS_PER_S)
        if interval_ns <= 0 or warmup_s < 0:
            raise UsageError("features.decision_interval_s must be above 0 and features.warmup_s not negative")
        self._state = engine.make_state(instrument.tick_size, events)
        self._clock = engine.make_clock(interval_ns, round(warmup_s * NS_PER_S))
        self._calendar: Ints = np.empty((0, 6), np.int64) if calendar is None else np.array(calendar.rows, np.int64)
        self._out = np.zeros(catalogue.COUNT, np.float32)

    def push(self, events: EventArray, born_ns: int) -> list[FeatureWindow]:
        """Windows that together hold exactly these events, in order; only the last may lack values.

        Args:
            events: (n,) of dtype MARKET_EVENT; neither changed nor kept, but the windows are views of it.
            born_ns: stopwatch reading when the events arrived.
        """
        if (events.dtype is not MARKET_EVENT and events.dtype != MARKET_EVENT) or events.ndim != 1:
            raise TypeError(f"events must be a one-dimensional MARKET_EVENT array, not {events.dtype} {events.shape}")
        # one kind of array, so one compiled version: a view of read-only bytes is copied
        readable = events if events.flags.carray else events.copy()
        clock = self._clock
        windows = []
        start = 0
        while start < events.size:
            end = engine.run(readable, start, self._state, self._calendar, clock, self._out)
            part = events[start:end]
            if clock[C_DUE]:
                windows.append(self._decision(part, born_ns))
            else:
                windows.append(FeatureWindow(part, ts_ns=int(clock[C_NEWEST]), born_ns=born_ns))
            start = end
        return windows

    def _decision(self, part: EventArray, born_ns: int) -> FeatureWindow:
        _, ts_ns, _, _, _, decisions, _, quality = self._clock[: C_QUALITY + 1].tolist()
        values, self._out = self._out, np.empty(catalogue.COUNT, np.float32)
        return FeatureWindow(part, decisions - 1, ts_ns, values, quality, not quality & _COLD, born_ns)

    @property
    def decisions(self) -> int:
        """Decisions so far."""
        return int(self._clock[C_DECISIONS])

    @property
    def late_events(self) -> int:
        """Events that were older than one before them."""
        return int(self._clock[C_BACK])

    @property
    def bad_events(self) -> int:
        """Events left out for an impossible time, symbol or number."""
        return int(self._clock[C_BAD])

    @property
    def not_finite(self) -> int:
        """Values that had to be replaced because a kernel left them not finite; 0 unless a kernel is wrong."""
        return int(self._clock[C_NOT_FINITE])
