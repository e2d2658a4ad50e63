"""Runs of one file's events through feature pipelines, whole or in part, and the decisions they make."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.features.catalogue import COUNT
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import OPEN_NS, TradingCalendar
from mia_daemon.records import EventArray, EventKind

BATCH: Final = 4096
_MOMENTS: Final = 8000  # decisions over the whole file, about

Bools = NDArray[np.bool_]
Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureRun:
    """Decisions: the values (n, 350) and the index (n,) of the event each was made at."""

    values: Values
    at: NDArray[np.intp]


class Runs:
    """The events, the decisions of a run over all of them, and whatever other runs are asked for.

    Attributes:
        minutes: (events,) minutes with a trade so far.
        days: (events,) trading days opened so far.
        whole: decisions of one run over all events.

    Raises:
        UsageError: no decision falls due in the events.
    """

    def __init__(self, events: EventArray, traded: Instrument, calendar: TradingCalendar) -> None:
        self.events = events
        self._traded = traded
        self._calendar = calendar
        newest_ns = np.maximum.accumulate(events["ts_ns"])
        trades = np.flatnonzero((events["kind"] == EventKind.TRADE) & (events["symbol"] == 0))
        fresh = np.zeros(len(events), np.bool_)
        fresh[trades] = np.diff(newest_ns[trades] // (60 * NS_PER_S), prepend=-1) != 0
        self.minutes: NDArray[np.intp] = np.cumsum(fresh)
        self.days: NDArray[np.intp] = np.searchsorted(calendar.rows[:, OPEN_NS], newest_ns, side="right")
        priced = np.isfinite(events["price"])
        self._prices = [np.flatnonzero((events["symbol"] == symbol) & priced) for symbol in (0, 1)]
        self._interval_s = max(5.0, float(self.minutes[-1]) * 60.0 / _MOMENTS)
        self.whole = self.run(events)
        if not len(self.whole.at):
            raise UsageError("no decision falls due in these events: take a file that spans some minutes of trading")

    def pipeline(self, interval_s: float = 0.0) -> FeaturePipeline:
        """A new one, with the interval of `whole` unless told otherwise."""
        return FeaturePipeline(self._traded, interval_s or self._interval_s, self._calendar, 0.0)

    def run(
        self, events: EventArray, cuts: Iterator[int] | None = None, made: FeaturePipeline | None = None
    ) -> FeatureRun:
        """All decisions of `made` (by default a new pipeline) over `events`; `cuts` yields the lengths of batches."""
        made = made or self.pipeline()
        values, at = [], []
        start = seen = 0
        while start < len(events):
            end = start + (BATCH if cuts is None else next(cuts))
            for window in made.push(events[start:end], 0):
                seen += len(window.events)
                if window.values is not None:
                    values.append(window.values)
                    at.append(seen - 1)
            start = end
        return FeatureRun(np.array(values, np.float32).reshape(-1, COUNT), np.array(at, np.intp))

    def differs(self, run: FeatureRun, offset: int = 0, upto: int | None = None) -> Bools:
        """(350,), True where a value of `run`, whose first event is the one at `offset`, is not that of `whole`."""
        upto = len(self.events) if upto is None else upto
        mine = run.at + offset < upto
        first, last = np.searchsorted(self.whole.at, (offset, upto))
        if not np.array_equal(self.whole.at[first:last], run.at[mine] + offset):
            return np.ones(COUNT, np.bool_)
        expected = self.whole.values[first:last]
        differs: Bools = (expected.view(np.uint32) != run.values[mine].view(np.uint32)).any(axis=0)
        return differs

    def other(self, start: int, stop: int, pivot: int) -> EventArray:
        """Events `start` to `stop` as they never were: upside down about the prices at event `pivot`."""
        prices, pivots = self.events["price"], []
        for of in self._prices:
            place = min(int(np.searchsorted(of, pivot)), len(of) - 1)
            pivots.append(float(prices[of[place]]) if len(of) else 0.0)
        return upside_down(self.events[start:stop], pivots)


def upside_down(events: EventArray, pivots: Sequence[float]) -> EventArray:
    """Another past: prices mirrored about a price of each symbol, sides swapped, sizes in reverse; the times stay."""
    other = events.copy()
    for symbol, pivot in enumerate(pivots):
        of = events["symbol"] == symbol
        other["price"][of] = 2 * pivot - events["price"][of]
        other["bid"][of] = 2 * pivot - events["ask"][of]
        other["ask"][of] = 2 * pivot - events["bid"][of]
    other["side"] = -events["side"]
    trades = np.flatnonzero(events["kind"] == EventKind.TRADE)
    other["size"][trades] = events["size"][trades[::-1]]
    other["bid_size"], other["ask_size"] = events["ask_size"], events["bid_size"]
    return other
