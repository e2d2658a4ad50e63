"""Whether every feature keeps its promises, on anybody's own events; no feature is computed a second way here.

What is looked at, each for all 350:

- future: the values at a moment are the same bits whatever comes after it, and when nothing does.
- cutting: the same bits however the events are cut into batches.
- restart: the same bits when the state is saved, restored into a new pipeline, and fed the rest.
- warm-up: behind three pasts (the true one, none at all, and the true one upside down, its sizes in reverse) the values
  agree once the declared warm-up is over: at 95 % of the moments looked at, within 5 % of the feature's usual range,
  which is from its 5th to its 95th percentile and at least a hundredth of the whole.
- range: finite and within the declared range; where an input never comes, the neutral value.

That the formulas themselves are right is for the tests, which compute each feature a second way.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import UsageError
from mia_daemon.features.catalogue import COUNT, FEATURES, Inputs
from mia_daemon.features.other_pasts import OtherPasts
from mia_daemon.features.runs import BATCH, Bools, Runs
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EventArray, EventKind

TOLERANCE: Final = 0.05  # of a feature's usual range
MIN_EVENTS: Final = 200
_SHARES: Final = (0.15, 0.4, 0.6, 0.85)  # where the future is changed or the state saved


class Check(StrEnum):
    FUTURE = "future"
    CUTTING = "cutting"
    RESTART = "restart"
    WARMUP = "warm-up"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        events: looked at.
        moments: decisions at which values were compared.
        failed: by check: (350,), True where the feature broke its promise.
        unchecked: (350,), True where the events are too few to outlast the feature's warm-up.
        apart: (350,) float64, how far pasts were apart after the warm-up, share of the usual range; NaN if unchecked.
        absent: inputs that no event brought.
    """

    events: int
    moments: int
    failed: dict[Check, Bools]
    unchecked: Bools
    apart: NDArray[np.float64]
    absent: Inputs

    @property
    def sound(self) -> Bools:
        """(350,), True where nothing failed."""
        bad: Bools = np.logical_or.reduce(list(self.failed.values()))
        return ~bad


def verify(
    events: EventArray,
    traded: Instrument,
    calendar: TradingCalendar,
    say: Callable[[str], None] = lambda _text: None,
) -> Report:
    """Look at everything above; takes as long as running through the events some fifty times.

    Args:
        events: in order, of `traded` as symbol 0.
        traded: the instrument.
        calendar: its trading days.
        say: told what is being done.

    Raises:
        UsageError: there are too few events to look at.
    """
    if len(events) < MIN_EVENTS:
        raise UsageError(f"{len(events)} events are too few to verify anything: take a file with {MIN_EVENTS} or more")
    runs, absent = Runs(events, traded, calendar), absent_inputs(events)
    say(f"{len(events):,} events, {len(runs.whole.at):,} moments; changing the future ...")
    failed = {Check.FUTURE: _future(runs)}
    say("cutting ...")
    failed[Check.CUTTING] = _cutting(runs)
    say("saving and restoring ...")
    failed[Check.RESTART] = _restart(runs)
    say("putting other pasts before ...")
    apart = OtherPasts(runs).apart()
    failed[Check.WARMUP] = apart > TOLERANCE
    failed[Check.RANGE] = _range(runs, absent)
    return Report(len(events), len(runs.whole.at), failed, np.isnan(apart), apart, absent)


def absent_inputs(events: EventArray) -> Inputs:
    """Inputs that none of these events brings."""
    traded = events[events["symbol"] == 0]
    absent = Inputs(0)
    if not (traded["kind"] == EventKind.DEPTH).any():
        absent |= Inputs.DEPTH
        if not ((traded["bid_size"] > 0) & (traded["ask_size"] > 0)).any():
            absent |= Inputs.SIZES
    if len(traded) == len(events):
        absent |= Inputs.REFERENCE
    return absent


def _future(runs: Runs) -> Bools:
    failed = np.zeros(COUNT, np.bool_)
    for share in _SHARES:
        cut = int(share * len(runs.events))
        past, other = runs.events[:cut], runs.other(cut, cut + BATCH, pivot=cut)
        failed |= runs.differs(runs.run(past), upto=cut)
        failed |= runs.differs(runs.run(np.concatenate([past, other])), upto=cut)
    return failed


def _cutting(runs: Runs) -> Bools:
    rng = np.random.default_rng(1)
    one_by_one = min(5000, len(runs.events))

    def small() -> Iterator[int]:
        yield from (1 for _ in range(one_by_one))
        while True:
            yield int(rng.geometric(1 / 30))

    def whole() -> Iterator[int]:
        while True:
            yield len(runs.events)

    return runs.differs(runs.run(runs.events, small())) | runs.differs(runs.run(runs.events, whole()))


def _restart(runs: Runs) -> Bools:
    failed = np.zeros(COUNT, np.bool_)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "state")
        for share in _SHARES:
            cut = int(share * len(runs.events))
            before, after = runs.pipeline(), runs.pipeline()
            runs.run(runs.events[:cut], made=before)
            before.save(path)
            after.restore(path)
            failed |= runs.differs(runs.run(runs.events[cut:], made=after), offset=cut)
    return failed


def _range(runs: Runs, absent: Inputs) -> Bools:
    """True where a value is not finite, out of its range, or not neutral though an input never came."""
    values = runs.whole.values
    low, high = (np.array([getattr(feature, end) for feature in FEATURES]) for end in ("low", "high"))
    slack = 1e-6  # of rounding
    inside = (values >= low - slack * np.abs(low)) & (values <= high + slack * np.abs(high))
    outside: Bools = ~(np.isfinite(values) & inside).all(axis=0)
    still = np.array([bool(feature.inputs & absent) for feature in FEATURES])
    neutral = np.array([feature.neutral for feature in FEATURES], np.float32)
    moved: Bools = still & (values != neutral).any(axis=0)
    return outside | moved
