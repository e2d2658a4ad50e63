import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import DecisionSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.training.labels import LabelledRecording
from mia_daemon.training.paper_run import round_trips

ES = instrument("ESZ26_FUT_CME")
SETTINGS = DecisionSettings(min_hold_s=10, max_hold_s=1000, stop_ticks=16, target_ticks=24)


def trips(bid, action, probability=0.6, defensive=0.0, low=None, high=None, ts_s=None, rows=slice(None)):
    bid = np.array(bid, float)
    n = len(bid)
    low = bid if low is None else np.array(low, float)
    high = bid if high is None else np.array(high, float)
    ts_ns = (np.arange(n) * 5 if ts_s is None else np.array(ts_s)) * NS_PER_S + NS_PER_S
    made = LabelledRecording(np.zeros((n, 350), np.float32), ts_ns, bid, bid + 0.25, low, high, low + 0.25, high + 0.25)
    action, chance = np.array(action, float)[rows], np.full(n, probability)[rows]
    regime = np.tile([1 - defensive, 0.0, defensive], (n, 1))[rows]
    return round_trips(made, rows, action, chance, regime, SETTINGS, ES)


def test_in_at_the_ask_out_at_the_bid_when_the_signal_fades():
    (trip,) = trips([100, 101, 102, 103, 104], [0.0, 0.5, 0.5, 0.2, 0.0])
    assert (trip.side, trip.points) == (1, 104 - 101.25)
    assert trip.exit_ns - trip.entry_ns == 15 * NS_PER_S


def test_short_in_at_the_bid_out_at_the_ask():
    (trip,) = trips([100, 99, 98, 97], [-0.5, -0.5, -0.5, 0.0])
    assert (trip.side, trip.points) == (-1, 100 - 97.25)


def test_the_target_fills_at_its_price_and_the_stop_first():
    (won,) = trips([100, 100, 107], [0.5, 0.5, 0.0], high=[100, 100, 107])
    assert won.points == 6.0
    (lost,) = trips([100, 100, 100], [0.5, 0.0, 0.0], low=[100, 90, 100], high=[100, 110, 100])
    assert lost.points == -4.0
    (short,) = trips([100, 100, 100], [-0.5, 0.0, 0.0], high=[100, 105, 100])
    assert short.points == -4.0


@pytest.mark.parametrize("held", [{"probability": 0.4}, {"defensive": 0.9}])
def test_what_the_rules_hold_back_is_not_traded(held):
    assert trips([100] * 5, [0.9] * 5, **held) == []


def test_a_position_does_not_outlive_a_break_or_the_end():
    found = trips([100, 101, 200, 201, 202], [0.5, 0.5, 0.5, 0.5, 0.5], ts_s=[5000, 5005, 0, 5, 10])
    assert [trip.points for trip in found] == [101 - 100.25, 202 - 200.25]


def test_only_the_rows_asked_for_are_traded():
    found = trips([100, 101, 102, 103, 104, 105], [0.5] * 6, rows=slice(2, 5))
    assert [trip.points for trip in found] == [104 - 102.25]


def test_no_rows_no_trades():
    assert trips([], []) == []
