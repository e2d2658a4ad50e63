import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.training.labels import LabelledRecording, bracket_profit, forward_change

STEP = 5 * NS_PER_S


def recording(bid, low=None, high=None, ts_ns=None):
    """The ask is always 0.25 above the bid."""
    bid = np.array(bid, float)
    low = bid if low is None else np.array(low, float)
    high = bid if high is None else np.array(high, float)
    ts_ns = np.arange(len(bid), dtype=np.int64) * STEP if ts_ns is None else np.array(ts_ns, np.int64) * STEP
    values = np.zeros((len(bid), 350), np.float32)
    return LabelledRecording(values, ts_ns, bid, bid + 0.25, low, high, low + 0.25, high + 0.25)


def bracket(made, side, steps=3):
    """Stop 2 points, target 3."""
    return bracket_profit(made, side, 2.0, 3.0, steps, 5.0)


def test_the_forward_change_is_of_the_mid():
    found = forward_change(recording([10, 11, 13, 12, 15]), 2, 5.0)
    np.testing.assert_array_equal(found, [3, 1, 2, np.nan, np.nan])


def test_a_halt_and_another_episode_end_what_is_known():
    halted = forward_change(recording([10, 11, 13, 12, 15], ts_ns=[0, 1, 2, 1000, 1001]), 1, 5.0)
    np.testing.assert_array_equal(halted, [1, 2, np.nan, 3, np.nan])
    another = forward_change(recording([10, 11, 13, 12, 15], ts_ns=[10, 11, 12, 0, 1]), 1, 5.0)
    np.testing.assert_array_equal(another, [1, 2, np.nan, 3, np.nan])


@pytest.mark.parametrize(
    ("bid", "low", "high", "long"),
    [
        ([10, 10, 10, 11], None, None, 11 - 10.25),  # time is up: out at the bid
        ([10, 12, 13.25, 9], None, None, 3.0),  # the target's price is bid
        ([10, 12, 13.0, 12], None, None, 12 - 10.25),  # a tick short of it
        ([10, 8.25, 14, 14], None, None, -2.0),  # the stop first
        ([10, 10, 10, 10], [10, 8, 10, 10], [10, 14, 10, 10], -2.0),  # both within one interval: the stop
        ([10, 10, 10, 10], [8, 10, 10, 10], [14, 10, 10, 10], 10 - 10.25),  # what came before the entry is past
    ],
)
def test_a_long_bracket(bid, low, high, long):
    found = bracket(recording(bid, low, high), +1)
    assert found[0] == pytest.approx(long)
    assert np.isnan(found[1:]).all()


def test_a_short_bracket_is_a_long_one_upside_down():
    rng = np.random.default_rng(2)
    bid = 100 + np.cumsum(rng.choice([-0.5, 0, 0.5], 300))
    low, high = bid - rng.choice([0, 0.25], 300), bid + rng.choice([0, 0.25], 300)
    mirrored = recording(200 - bid - 0.25, 200 - high - 0.25, 200 - low - 0.25)
    long, short = bracket(recording(bid, low, high), +1, 50), bracket(mirrored, -1, 50)
    np.testing.assert_allclose(long, short)
    assert set(np.unique(long[:250])) >= {-2.0, 3.0}


def test_a_bracket_agrees_with_walking_through_it():
    rng = np.random.default_rng(3)
    bid = 100 + np.cumsum(rng.choice([-0.5, 0, 0.5], 200))
    low, high = bid - 0.25, bid + 0.25
    found = bracket(recording(bid, low, high), +1, 40)
    for row in range(160):
        entry, profit = bid[row] + 0.25, bid[row + 40] - bid[row] - 0.25
        for later in range(row + 1, row + 41):
            if low[later] <= entry - 2:
                profit = -2.0
                break
            if high[later] >= entry + 3:
                profit = 3.0
                break
        assert found[row] == pytest.approx(profit)
