"""The fitted constants of the features, from a market's events.

- large_trade: the 95 % quantile of the sizes of trades.
- level_weights: the first principal component of the order flow imbalances of the ten levels (Cont, Cucuringu & Zhang
  2023), each what the feature `FLOW` is of that level alone.
- micro_adjustment: Stoikov's G* (2018): the expected change of the mid until long after now, given the imbalance and
  the spread, from how often one state of the touch followed another. The market is made symmetric: each change counts
  for its mirror image too.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.features import catalogue
from mia_daemon.features.constants import IMBALANCES, LEVELS, SPREADS, FittedConstants
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import EventArray, EventKind
from mia_daemon.training.linear_models import Floats

LARGE_QUANTILE: Final = 0.95
FLOW: Final = "iofi_10_5s"
"""The feature whose levels are weighed, every `SAMPLE_S` seconds."""

SAMPLE_S: Final = 5.0
MIN_VISITS: Final = 200
"""A state of the touch seen less often than this keeps the default adjustment: its mean would be noise."""

_STATES: Final = SPREADS * IMBALANCES
_MAX_JUMP: Final = 20  # ticks of the mid; more from one quote to the next is another market, as after a halt


def fit_constants(events: EventArray, traded: Instrument) -> FittedConstants:
    """All three; what the events say nothing of (no trades, no depth, no sizes at the touch) keeps its default."""
    found: dict[str, object] = {}
    sizes = events["size"][(events["kind"] == EventKind.TRADE) & (events["symbol"] == 0)]
    if len(sizes):
        found["large_trade"] = max(float(np.quantile(sizes, LARGE_QUANTILE, method="inverted_cdf")), 1.0)
    weights = _level_weights(events, traded)
    if weights is not None:
        found["level_weights"] = weights
    table = micro_adjustment(events, traded.tick_size)
    if table is not None:
        found["micro_adjustment"] = table
    return FittedConstants.model_validate(found)


def _level_weights(events: EventArray, traded: Instrument) -> tuple[float, ...] | None:
    """As `first_component`; of a level alone the feature is what it is with a weight on that level only."""
    place, flows = catalogue.index(FLOW), []
    for level in range(LEVELS):
        only = FittedConstants(level_weights=tuple(float(k == level) for k in range(LEVELS)))
        pipeline = FeaturePipeline(traded, SAMPLE_S, None, 0.0, constants=only)
        flows.append([w.values[place] for w in pipeline.push(events, 0) if w.values is not None])
    return first_component(np.array(flows, np.float64).T)


def first_component(flows: Floats) -> tuple[float, ...] | None:
    """Of (moments, levels): the direction of most variance, largest weight 1, to 6 digits; None where nothing moves."""
    if len(flows) < 2 or not flows.std(axis=0).any():
        return None
    direction = np.linalg.eigh(np.cov(flows.T))[1][:, -1]
    return tuple(np.round(direction / direction[np.abs(direction).argmax()], 6).tolist())


def micro_adjustment(events: EventArray, tick_size: float) -> tuple[tuple[float, ...], ...] | None:
    """(SPREADS, IMBALANCES) in ticks; None where no quote has both sizes."""
    quotes = events[(events["kind"] == EventKind.QUOTE) & (events["symbol"] == 0)]
    bid, ask = quotes["bid"], quotes["ask"]
    known = (bid < ask) & (quotes["bid_size"] > 0) & (quotes["ask_size"] > 0)  # False for NaN
    quotes, bid, ask = quotes[known], bid[known], ask[known]
    if len(quotes) < 2:
        return None
    spread = np.rint((ask - bid) / tick_size).astype(np.intp)
    qb, qa = quotes["bid_size"].astype(np.float64), quotes["ask_size"].astype(np.float64)
    column = np.minimum((0.5 * ((qb - qa) / (qb + qa) + 1.0) * IMBALANCES).astype(np.intp), IMBALANCES - 1)
    row = np.clip(spread, 1, SPREADS) - 1
    moved = np.diff(0.5 * (bid + ask)) / tick_size
    near = np.abs(moved) <= _MAX_JUMP
    state, mirrored = row * IMBALANCES + column, row * IMBALANCES + IMBALANCES - 1 - column
    before = np.concatenate([state[:-1][near], mirrored[:-1][near]])
    after = np.concatenate([state[1:][near], mirrored[1:][near]])
    adjustment = _long_run_change(before, after, np.concatenate([moved[near], -moved[near]]))
    visits = np.bincount(before, minlength=_STATES)
    adjustment = np.where(visits >= MIN_VISITS, adjustment, _default()).reshape(SPREADS, IMBALANCES)
    limit = np.arange(1, SPREADS + 1)[:, None]
    return tuple(map(tuple, np.round(np.clip(adjustment, -limit, limit), 6).tolist()))


def _long_run_change(before: NDArray[np.intp], after: NDArray[np.intp], moved: Floats) -> Floats:
    """(_STATES,) expected sum of all changes of the mid after each state.

    Stoikov's G* is the limit of the sum over B^i G1: G1 the expected first change of the mid, B the state after it.
    """
    still = moved == 0.0
    visits = np.maximum(np.bincount(before, minlength=_STATES), 1)[:, None]
    unmoved, with_move = np.zeros((_STATES, _STATES)), np.zeros((_STATES, _STATES))
    np.add.at(unmoved, (before[still], after[still]), 1.0)
    np.add.at(with_move, (before[~still], after[~still]), 1.0)
    change = np.bincount(before, moved, minlength=_STATES) / visits[:, 0]
    until_moved = np.linalg.inv(np.eye(_STATES) - unmoved / visits + 1e-9 * np.eye(_STATES))
    first, then = until_moved @ change, until_moved @ (with_move / visits)
    total, term = np.zeros(_STATES), first
    for _ in range(1_000):
        total = total + term
        term = then @ term
        if np.abs(term).max() < 1e-9:
            break
    return total


def _default() -> Floats:
    """What the feature is without a table, at the middle of each part."""
    imbalance = (np.arange(IMBALANCES) + 0.5) / IMBALANCES * 2.0 - 1.0
    return np.outer(np.arange(1, SPREADS + 1), 0.5 * imbalance * np.abs(imbalance)).ravel()
