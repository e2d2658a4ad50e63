"""Fitted constants reach the features that they are of, and no other; the defaults are what holds without them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mia_daemon.errors import StateRefused
from mia_daemon.features.catalogue import FEATURES, index
from mia_daemon.features.constants import DEFAULTS, IMBALANCES, LEVELS, SPREADS, FittedConstants
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EventArray, EventFlag, EventKind, empty_events

S = 1_000_000_000
START = 1_700_000_000 * S
ES = instrument("ESZ26_FUT_CME")
TABLE = tuple(tuple((spread + 1) * (column - 4.5) / 10 for column in range(IMBALANCES)) for spread in range(SPREADS))


def market(seed: int, n: int = 1_200) -> EventArray:
    """Trades, quotes with spreads of 1 to 6 ticks, and a book of a few levels a side."""
    rng = np.random.default_rng(seed)
    rows = empty_events(n)
    rows["ts_ns"] = rows["recv_ns"] = START + (rng.exponential(0.3, n).cumsum() * S).astype(np.int64)
    rows["kind"] = rng.choice([EventKind.TRADE, EventKind.QUOTE, EventKind.DEPTH], n, p=[0.3, 0.2, 0.5])
    depth = rows["kind"] == EventKind.DEPTH
    rows["side"] = rng.choice([-1, 1], n)
    rows["flags"] = np.where(depth, EventFlag.BATCH_END, 0)
    rows["count"] = 1
    mid = 24_000 + np.rint(rng.normal(size=n).cumsum() * 0.3)
    rows["bid"], rows["ask"] = 0.25 * mid, 0.25 * (mid + rng.integers(1, 7, n))
    rows["bid_size"], rows["ask_size"] = rng.integers(1, 60, (2, n))
    away = np.where(rows["side"] > 0, -rng.integers(0, 14, n), rng.integers(1, 15, n))
    rows["price"] = np.where(depth, 0.25 * (24_000 + away), 0.25 * mid)
    rows["size"] = rng.integers(0, 30, n) + (rows["kind"] == EventKind.TRADE)
    return rows


def values_of(events: EventArray, constants: FittedConstants = DEFAULTS) -> np.ndarray:
    """(decisions, 350)"""
    pipeline = FeaturePipeline(ES, 1.0, None, 0.0, constants=constants)
    return np.array([window.values for window in pipeline.push(events, 0) if window.due])


def columns(prefix: str) -> list[int]:
    return [feature.index for feature in FEATURES if feature.name.startswith(prefix)]


EVENTS = market(3)
PLAIN = values_of(EVENTS)


def changed(values: np.ndarray) -> set[str]:
    return {FEATURES[i].name for i in np.flatnonzero((values != PLAIN).any(axis=0))}


def test_the_defaults_written_down_are_the_defaults():
    written = FittedConstants.model_validate_json(DEFAULTS.model_dump_json())
    assert written == FittedConstants.model_validate_json("{}") == DEFAULTS
    assert written.sha256 == DEFAULTS.sha256
    np.testing.assert_array_equal(values_of(EVENTS, written), PLAIN)


def test_trades_are_large_from_the_fitted_size_on():
    values = values_of(EVENTS, FittedConstants(large_trade=1))
    assert changed(values) == {FEATURES[i].name for i in columns("large_delta")}
    np.testing.assert_array_equal(values[:, columns("large_delta")], PLAIN[:, columns("delta_")[:5]])
    values = values_of(EVENTS, FittedConstants(large_trade=31))  # larger than any
    assert not values[:, columns("large_delta")].any()


@settings(max_examples=10)
@given(st.lists(st.integers(-50, 50), min_size=LEVELS, max_size=LEVELS).filter(any))
def test_the_integrated_imbalance_is_the_weighted_mean_of_those_of_the_levels(weights):
    alone = np.array([
        values_of(EVENTS, FittedConstants(level_weights=np.eye(LEVELS)[level]))[:, columns("iofi_10")]
        for level in range(LEVELS)
    ], np.float64)  # fmt: skip
    assert (np.ptp(alone, axis=(1, 2)) > 0).all()
    values = values_of(EVENTS, FittedConstants(level_weights=weights))
    assert changed(values) <= {FEATURES[i].name for i in columns("iofi_10")}
    expected = np.tensordot(weights, alone, 1) / np.abs(weights).sum()
    np.testing.assert_allclose(values[:, columns("iofi_10")], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(PLAIN[:, columns("iofi_10")], alone.mean(axis=0), rtol=1e-4, atol=1e-4)


def test_the_micro_price_adjustment_is_that_of_the_spread_and_the_imbalance():
    values = values_of(EVENTS, FittedConstants(micro_adjustment=TABLE))
    assert changed(values) == {"micro_adj_ticks"}
    seen = set()
    for row in values:
        spread, imbalance = int(row[index("spread_ticks")]), row[index("l1_imb")]
        place = min(spread, SPREADS) - 1, min(int((imbalance + 1) / 2 * IMBALANCES), IMBALANCES - 1)
        seen.add(place)
        assert row[index("micro_adj_ticks")] == np.float32(TABLE[place[0]][place[1]])
    assert len({spread for spread, _ in seen}) == SPREADS
    assert len({column for _, column in seen}) == IMBALANCES


FITTED = FittedConstants(large_trade=3, level_weights=range(1, LEVELS + 1), micro_adjustment=TABLE)


def test_a_long_silence_leaves_the_constants():
    later = market(4)
    later["ts_ns"] += 20_000 * S
    later["flags"][np.flatnonzero(later["kind"] == EventKind.DEPTH)[0]] |= EventFlag.CLEAR
    ours = columns("large_delta") + columns("iofi_10") + columns("micro_adj")
    whole, alone = values_of(np.concatenate([EVENTS, later]), FITTED), values_of(later, FITTED)
    np.testing.assert_array_equal(whole[-len(alone) :, ours], alone[:, ours])


def test_a_saved_state_belongs_to_the_constants_that_made_it():
    made, other = (FeaturePipeline(ES, 1.0, None, 0.0, constants=constants) for constants in (FITTED, DEFAULTS))
    made.push(EVENTS, 0)
    with pytest.raises(StateRefused, match="other constants"):
        other.resume(made.state())
    assert other.newest_ns == 0
    same = FeaturePipeline(ES, 1.0, None, 0.0, constants=FITTED)
    same.resume(made.state())
    assert same.newest_ns == made.newest_ns


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"large_trade": 0.5}, "large_trade"),
        ({"large_trade": float("nan")}, "large_trade"),
        ({"level_weights": (1.0,) * 9}, "level_weights"),
        ({"level_weights": (0.0,) * 10}, "must not all be 0"),
        ({"level_weights": (1e9,) * 10}, "level_weights"),
        ({"micro_adjustment": TABLE[:3]}, "micro_adjustment"),
        ({"micro_adjustment": tuple(row[:9] for row in TABLE)}, "micro_adjustment"),
        ({"micro_adjustment": ((1.5,) * 10, *TABLE[1:])}, "beyond ±1 ticks"),
        ({"q95": 12}, "q95"),
    ],
)
def test_constants_that_make_no_sense_are_refused(wrong, reason):
    with pytest.raises(ValidationError, match=reason):
        FittedConstants(**wrong)
