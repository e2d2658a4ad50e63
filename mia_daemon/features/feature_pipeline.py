"""Task 2's core: market events in, feature windows out, on event time.

A decision falls due at the first event of the traded symbol, of any kind, whose time reaches or passes the next
boundary, a multiple of the decision interval since the epoch; its values include that event. The next boundary is the
first one after it. The first event only sets the first boundary. However the events are cut into batches, the decisions
and every bit of their values are the same; that holds for a restart as well, when the state is saved and restored.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import StateRefused, UsageError
from mia_daemon.features import catalogue, state_file
from mia_daemon.features.constants import DEFAULTS, FittedConstants
from mia_daemon.features.kernel_source import source_hash
from mia_daemon.features.kernels import clock as clock_family
from mia_daemon.features.kernels import engine
from mia_daemon.features.kernels.engine import (
    C_BACK,
    C_BAD,
    C_BOUNDARY,
    C_DECISIONS,
    C_DUE,
    C_INTERVAL,
    C_NEWEST,
    C_NOT_FINITE,
    C_QUALITY,
    C_ROW,
    C_SIZE,
    C_WARM,
    C_WARMUP,
    CLOCK0,
    M0,
)
from mia_daemon.features.kernels.market import (
    CAL_CLOSE,
    CAL_OPEN,
    M_GAP_SEEN,
    M_ORIGIN,
    M_REF_SEEN,
    M_SEEN,
    M_SOURCE,
    Ints,
)
from mia_daemon.features.state_file import FeatureState, StateOwner
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import NO_EVENTS, MacroEvents, TradingCalendar
from mia_daemon.records import MARKET_EVENT, EventArray, FeatureWindow

_COLD = int(catalogue.Quality.COLD)
_KERNELS = source_hash()


class FeaturePipeline:
    """The state of all families for one traded symbol.

    An event older than the newest is applied at the newest's time and counted. An event with an impossible time or
    symbol is left out; one with impossible numbers only moves the time.

    Args:
        instrument: the traded symbol, whose events carry symbol 0.
        decision_interval_s: event time between decisions, s.
        calendar: trading days; None leaves session and level features neutral.
        warmup_s: event time that has to pass before windows are warm, s. Time before a GAP event doesn't count, and a
            silence of more than two hours restarts it.
        events: macro events for the clock features.
        constants: those of the model that the features are for.

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
        constants: FittedConstants = DEFAULTS,
    ) -> None:
        interval_ns = round(decision_interval_s * NS_PER_S)
        if interval_ns <= 0 or warmup_s < 0:
            raise UsageError("features.decision_interval_s must be above 0 and features.warmup_s not negative")
        self._instrument = instrument
        self._interval_ns = interval_ns
        self._events = events
        self._constants = constants
        self._warmup_ns = round(warmup_s * NS_PER_S)
        self._max_gap_s: float | None = None  # of what was restored, until its first event
        self._begin()
        self._calendar: Ints = np.empty((0, 6), np.int64) if calendar is None else np.array(calendar.rows, np.int64)
        self._out = np.zeros(catalogue.COUNT, np.float32)

    def _begin(self) -> None:
        self._state = engine.make_state(self._instrument.tick_size, self._events, self._constants)
        self._clock = engine.make_clock(self._interval_ns, self._warmup_ns)

    def push(self, events: EventArray, ingress_ns: int) -> list[FeatureWindow]:
        """All of `windows` at once."""
        return list(self.windows(events, ingress_ns))

    def windows(self, events: EventArray, ingress_ns: int) -> Iterator[FeatureWindow]:
        """Yield windows that together hold exactly these events, in order; only the last may lack values.

        Each is made on demand, so the orders of a decision need not wait for the events after it.

        Args:
            events: (n,) of dtype MARKET_EVENT; neither changed nor kept, but the windows are views of it.
            ingress_ns: monotonic clock when the events arrived.
        """
        if (events.dtype is not MARKET_EVENT and events.dtype != MARKET_EVENT) or events.ndim != 1:
            raise TypeError(f"events must be a one-dimensional MARKET_EVENT array, not {events.dtype} {events.shape}")
        # one kind of array, so one compiled version: a view of read-only bytes is copied
        readable = events if events.flags.carray else events.copy()
        if self._max_gap_s is not None and events.size:
            self._bridge(int(events["ts_ns"][0]), self._max_gap_s)
        clock = self._clock
        start = 0
        while start < events.size:
            end = engine.run(readable, start, self._state, self._calendar, clock, self._out)
            part = events[start:end]
            if clock[C_DUE]:
                yield self._decision(part, ingress_ns)
            else:
                yield FeatureWindow(part, ts_ns=int(clock[C_NEWEST]), ingress_ns=ingress_ns)
            start = end

    def _decision(self, part: EventArray, ingress_ns: int) -> FeatureWindow:
        _, ts_ns, _, _, _, decisions, _, quality = self._clock[: C_QUALITY + 1].tolist()
        values, self._out = self._out, np.empty(catalogue.COUNT, np.float32)
        return FeatureWindow(part, decisions - 1, ts_ns, values, quality, not quality & _COLD, ingress_ns)

    def save(self, path: Path) -> None:
        """Write the state as of the last event. Raises StartError when it can't be written."""
        state_file.write(path, self.state())

    def restore(self, path: Path) -> None:
        """Continue from a state that `save` wrote. Raises StateRefused, and then the pipeline is unchanged."""
        self.resume(state_file.read(path))

    def state(self) -> FeatureState:
        """The complete state as of the last event; a copy."""
        row = int(self._clock[C_ROW])
        day = self._calendar[row].copy() if row >= 0 else np.zeros(6, np.int64)
        return FeatureState(
            self._owner(),
            self._clock.copy(),
            day,
            self._state[:CLOCK0].copy(),
            self.newest_ns,
            self._heard_ns(M_SEEN),
            reference_heard_ns=self._heard_ns(M_REF_SEEN),
        )

    def _heard_ns(self, place: int) -> int:
        """Event time of the last event of the symbol `place`, to the microsecond; 0 for none."""
        market = self._state[M0:]
        return 1000 * round((market[M_ORIGIN] + market[place]) * 1e6) if market[place] >= 0.0 else 0

    def resume(self, state: FeatureState) -> None:
        """Continue from `state`, with this pipeline's interval, warm-up and macro events; counters restart at 0.

        Where the feed does not deliver what happened since (`max_gap_s`), the first event decides: if more trading time
        than that is missing, or time has gone back, the pipeline starts from the beginning. Otherwise windows carry the
        GAP bit for a minute, and the missing time does not count as warm-up.

        Raises:
            StateRefused: the state is of another catalogue, program, instrument or calendar, or of other constants.
        """
        if state.owner != self._owner():
            raise StateRefused(
                "the features' saved state is of another catalogue, version or instrument, or of a bundle with other "
                "constants: they warm up from nothing"
            )
        row = int(state.clock[C_ROW]) if state.clock.shape == (C_SIZE,) else len(self._calendar)
        if (
            state.families.shape != (CLOCK0,)
            or row >= len(self._calendar)
            or (row >= 0 and not np.array_equal(state.day, self._calendar[row]))
        ):
            raise StateRefused("the features' saved state is of another trading calendar: they warm up from nothing")
        self._begin()
        self._state[:CLOCK0] = state.families
        self._clock[:] = state.clock
        self._clock[C_WARMUP] = self._warmup_ns
        if self._clock[C_INTERVAL] != self._interval_ns and self._clock[C_BOUNDARY]:
            self._clock[C_BOUNDARY] = (self.newest_ns // self._interval_ns + 1) * self._interval_ns
        self._clock[C_INTERVAL] = self._interval_ns
        self._clock[[C_DECISIONS, C_BACK, C_BAD, C_NOT_FINITE]] = 0
        if row >= 0:
            clock_family.on_day(self._state[CLOCK0:], self._state[M0:], self._calendar, row)
        self._max_gap_s = state.max_gap_s

    def _owner(self) -> StateOwner:
        traded = self._instrument
        return StateOwner(catalogue.sha256(), _KERNELS, traded.symbol, traded.tick_size, self._constants.sha256)

    def _bridge(self, first_ns: int, max_gap_s: float) -> None:
        """Continue the restored state at the first event, or discard it. Times in ns of event time, gap in s."""
        self._max_gap_s = None
        gap_ns = first_ns - self.newest_ns
        if gap_ns < 0 or self._open_ns(self.newest_ns, first_ns) > max_gap_s * NS_PER_S:
            self._begin()
            return
        market = self._state[M0:]
        market[M_GAP_SEEN] = first_ns / NS_PER_S - market[M_ORIGIN]
        market[M_SOURCE] = 0.0
        self._clock[C_WARM] -= gap_ns

    def _open_ns(self, since_ns: int, until_ns: int) -> int:
        """Time in ns for which the exchange was open in between; all of it without a calendar."""
        if not len(self._calendar):
            return until_ns - since_ns
        opened = np.maximum(self._calendar[:, CAL_OPEN], since_ns)
        closed = np.minimum(self._calendar[:, CAL_CLOSE], until_ns)
        return int(np.maximum(closed - opened, 0).sum())

    @property
    def newest_ns(self) -> int:
        """Event time of the newest event; 0 before the first."""
        return int(self._clock[C_NEWEST])

    @property
    def quality(self) -> catalogue.Quality:
        """Quality of the last decision's inputs."""
        return catalogue.Quality(int(self._clock[C_QUALITY]))

    @property
    def decisions(self) -> int:
        """Number of decisions so far."""
        return int(self._clock[C_DECISIONS])

    @property
    def late_events(self) -> int:
        """Number of events that were older than one before them."""
        return int(self._clock[C_BACK])

    @property
    def bad_events(self) -> int:
        """Number of events rejected for an impossible time, symbol or number."""
        return int(self._clock[C_BAD])

    @property
    def not_finite(self) -> int:
        """Number of values replaced because a kernel returned them not finite; 0 unless a kernel is wrong."""
        return int(self._clock[C_NOT_FINITE])
