import numpy as np
import pytest

from mia_daemon.features.constants import DEFAULTS, IMBALANCES, LEVELS, SPREADS
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EventKind, empty_events
from mia_daemon.training.constants_fit import first_component, fit_constants, micro_adjustment

ES = instrument("ESZ26_FUT_CME")
S = 1_000_000_000
CHANCE = 0.8


def quotes(n: int = 60_000, spread: int = 1):
    """The mid goes up by a tick after one quote in the highest part of the imbalance out of 1 / CHANCE, and down after
    as many in the lowest; which part comes next is drawn anew each time, so nothing follows from it beyond that."""
    rng = np.random.default_rng(5)
    rows = empty_events(n)
    rows["ts_ns"] = 1_700_000_000 * S + np.arange(n) * S
    rows["kind"] = EventKind.QUOTE
    part = rng.integers(0, IMBALANCES, n)
    step = np.where(rng.random(n) < CHANCE, np.select([part == IMBALANCES - 1, part == 0], [1, -1], 0), 0)
    mid = 24_000 + np.concatenate([[0], np.cumsum(step)[:-1]])
    rows["bid"], rows["ask"] = 0.25 * mid, 0.25 * (mid + spread)
    rows["bid_size"] = 2 * part + 1
    rows["ask_size"] = 20 - rows["bid_size"]
    return rows


def test_the_micro_price_adjustment_is_what_the_mid_is_expected_to_do():
    table = np.array(micro_adjustment(quotes(), ES.tick_size))
    expected = np.zeros(IMBALANCES)
    expected[[0, -1]] = -CHANCE, CHANCE
    np.testing.assert_allclose(table[0], expected, atol=0.02)


@pytest.mark.parametrize(("spread", "row"), [(2, 1), (4, 3), (7, 3)])
def test_states_that_were_not_seen_keep_the_default(spread, row):
    table = np.array(micro_adjustment(quotes(spread=spread), ES.tick_size))
    assert table[row, -1] == pytest.approx(CHANCE, abs=0.02)
    others = np.delete(np.arange(SPREADS), row)
    imbalance = np.linspace(-0.9, 0.9, IMBALANCES)
    np.testing.assert_allclose(table[others], np.outer(0.5 * (others + 1), imbalance * np.abs(imbalance)), atol=1e-6)
    np.testing.assert_allclose(table, -table[:, ::-1], atol=1e-6)


def test_the_weights_are_the_direction_in_which_the_levels_move_together():
    rng = np.random.default_rng(2)
    loadings = np.linspace(1.0, 0.2, LEVELS)
    flows = rng.normal(size=(5_000, 1)) * loadings + 0.1 * rng.normal(size=(5_000, LEVELS))
    np.testing.assert_allclose(first_component(flows), loadings, atol=0.03)
    np.testing.assert_allclose(first_component(-flows), loadings, atol=0.03)
    assert first_component(np.zeros((100, LEVELS))) is None


def test_a_large_trade_is_one_of_the_largest_twentieth():
    rows = empty_events(100)
    rows["ts_ns"] = 1_700_000_000 * S + np.arange(100) * S
    rows["kind"], rows["price"] = EventKind.TRADE, 6_000.0
    rows["size"] = np.random.default_rng(1).permutation(np.arange(1, 101))
    fitted = fit_constants(rows, ES)
    assert fitted.large_trade == 95
    assert fitted.level_weights == DEFAULTS.level_weights  # nothing is known of the book
    assert fitted.micro_adjustment is None


def test_what_the_events_say_nothing_of_keeps_its_default():
    assert fit_constants(empty_events(0), ES) == DEFAULTS
