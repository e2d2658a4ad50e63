import math

import numpy as np
import pytest
from kernel_driver import NS, Drive, Trades, bars_of, calendar, damage, random_trades, same_however_asked

from mia_daemon.features.kernels import bar

START = int(calendar()[0, 0])
TICK = 0.25


def shape(trades: Trades, period: int) -> list[float]:
    """Of the bar that the last trade falls in, without the two that need history."""
    now = trades.t // NS // period == trades.t[-1] // NS // period
    price, size, side = trades.price[now], trades.size[now], trades.side[now]
    o, h, low, c = price[0], price.max(), price.min(), price[-1]
    span, volume = h - low + TICK, size.sum()
    delta = np.r_[0.0, (size * side).cumsum()]
    levels = np.unique(price)
    at_level = np.array([size[price == p].sum() for p in levels])
    assert (at_level == at_level.max()).sum() == 1, "a tie: choose another seed"
    return [
        (c - o) / span,
        (h - max(o, c)) / span,
        (min(o, c) - low) / span,
        delta[-1] / volume,
        (delta[-1] - (delta.max() + delta.min()) / 2) / volume,
        (levels[at_level.argmax()] - low) / span,
    ]


@pytest.mark.parametrize("n", [997, 1500, 2750, 4000])
def test_the_forming_bar_equals_its_recomputation(n):
    trades = random_trades(START, 2 * 3600, 4000, seed=4).head(n)
    drive = Drive(bar)
    drive.trades(trades)
    values = drive.own()
    for k, period in enumerate((60, 300)):
        got = values[8 * k : 8 * (k + 1)]
        np.testing.assert_allclose(got[[0, 1, 2, 3, 4, 7]], shape(trades, period), rtol=1e-12, atol=1e-12)


def history(b: dict[str, np.ndarray], before: int, period: int) -> tuple[np.ndarray, np.ndarray]:
    closed = b["start"] + period <= before
    return b["volume"][closed], (b["high"] - b["low"] + TICK)[closed]


def test_without_a_prior_day_a_bar_is_held_against_the_newest_closed_ones():
    trades = random_trades(START, 2 * 3600, 4000, seed=4).head(300)  # fewer than 20 bars: a plain mean
    drive = Drive(bar)
    drive.trades(trades)
    for k, period in enumerate((60, 300)):
        b = bars_of(trades, period)
        volume, span = history(b, int(trades.t[-1] // NS), period)
        share = max((trades.t[-1] / NS - b["start"][-1]) / period, 1 / period)
        got = drive.own()[8 * k : 8 * (k + 1)]
        assert got[5] == pytest.approx(math.log(b["volume"][-1] / (volume.mean() * share)), rel=1e-6)
        now = b["high"][-1] - b["low"][-1] + TICK
        assert got[6] == pytest.approx(math.log(now / (span.mean() * math.sqrt(share))), rel=1e-6)


def test_with_prior_days_a_bar_is_held_against_its_own_slot():
    drive = Drive(bar)
    slot_s = 5 * 3600 + 17 * 60
    for day in range(2):
        t = int(drive.cal[day, 0]) + slot_s * NS
        for i in range(3):  # the slot: 3 contracts, then 6
            drive.trade(t + i * NS, 15000.0 + i, 1.0 + day, 1)
        for i in range(30):  # other slots: a hundred
            drive.trade(t + (1 + i) * 60 * NS, 15000.0, 100.0, 1)
    t = int(drive.cal[2, 0]) + slot_s * NS
    drive.trade(t + 29 * NS, 15000.0, 4.0, 1)
    drive.at(t + 30 * NS)
    values = drive.own()
    assert values[5] == pytest.approx(math.log(4.0 / (4.5 * 0.5)))
    assert values[6] == pytest.approx(math.log(TICK / (2.25 * math.sqrt(0.5))))


def test_neutral_until_the_first_trade_of_the_period():
    drive = Drive(bar)
    drive.trades(random_trades(START, 290, 300))
    assert drive.own().any()
    drive.at(START + 300 * NS)
    np.testing.assert_array_equal(drive.own(), bar.NEUTRAL)


def test_a_bar_wider_than_the_footprint_keeps_its_point_of_control_within():
    drive = Drive(bar)
    for i, price in enumerate((15000.0, 12000.0, 18000.0, 18000.0)):
        drive.trade(START + i * NS, price, 5, 1)
    values = drive.own()
    assert 0.0 <= values[7] <= 1.0
    drive.at(START + 300 * NS)
    hist = drive.states[0][bar._HEAD + bar._HIST :][: bar._BINS]
    assert not hist.any()


def test_nothing_depends_on_when_it_is_asked_or_on_what_comes_later():
    same_however_asked(bar, random_trades(START, 2 * 3600, 3000))


def test_damaged_numbers_never_reach_the_values():
    damage(Drive(bar))
