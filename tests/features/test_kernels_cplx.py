import math
from itertools import permutations

import numpy as np
import pytest
from kernel_driver import NS, Drive, bars_of, calendar, damage, random_trades, same_however_asked

from mia_daemon.features.kernels import cplx

START = int(calendar()[0, 0])


def logs_of(trades) -> np.ndarray:
    seconds = np.arange(trades.t[0] // NS, trades.t[-1] // NS)
    mids = trades.price - trades.side * 0.125
    return np.log(mids[np.searchsorted(trades.t, (seconds + 1) * NS, side="left") - 1])


def weights(n: int, h: float) -> np.ndarray:
    return np.exp(-np.arange(n)[::-1] / h)


def variance(logs: np.ndarray, lag: int, h: float) -> float:
    r = logs[lag:] - logs[:-lag]
    return float(np.cov(r, aweights=weights(len(r), h), bias=True))


def entropy(p: np.ndarray) -> float:
    p = p[p > 0] / p.sum()
    return float(-(p * np.log(p)).sum())


def hurst(logs: np.ndarray, h: float) -> float:
    lags = np.array([1, 5, 25])
    slope = np.polyfit(np.log(lags), [math.log(variance(logs, k, h)) for k in lags], 1)[0]
    return float(np.clip(slope / 2, 0, 1))


def permutation_entropy(logs: np.ndarray, h: float) -> float:
    triples = np.lib.stride_tricks.sliding_window_view(logs, 3)
    orders = [tuple(o) for o in np.argsort(triples, axis=1, kind="stable")]
    w = weights(len(orders), h)
    counts = np.array([sum(w[i] for i, o in enumerate(orders) if o == p) for p in permutations(range(3))])
    return entropy(counts) / math.log(6)


def sign_entropy(trades, h: float) -> float:
    t, side = trades.t[1:] / NS, trades.side > 0
    pair = 2 * side[:-1] + side[1:]
    w = np.exp(-(t[-1] - t) / h)
    return entropy(np.bincount(pair, w, 4)) / math.log(4)


def correlation(logs: np.ndarray, lag: int, h: float) -> float:
    r = np.diff(logs)
    c = np.cov(r[lag:], r[:-lag], aweights=weights(len(r) - lag, h), bias=True)
    return float(c[0, 1] / math.sqrt(c[0, 0] * c[1, 1]))


def efficiency(trades, k: int) -> float:
    b = bars_of(trades, 60)
    close = b["close"][b["start"] + 60 <= trades.t[-1] // NS]
    if len(close) <= k:
        return 0.0
    return float(abs(close[-1] - close[-1 - k]) / np.abs(np.diff(close[-1 - k :])).sum())


@pytest.mark.parametrize("n", [300, 5000])
def test_every_value_equals_its_recomputation_from_all_trades(n):
    trades = random_trades(START, 2 * 3600, 5000).head(n)
    drive = Drive(cplx)
    drive.trades(trades)
    logs = logs_of(trades)
    one = variance(logs, 1, 900)
    want = [
        *(hurst(logs, h) for h in (300, 900, 3600)),
        *(variance(logs, k, 900) / (k * one) for k in (2, 5, 10, 30)),
        *(permutation_entropy(logs, h) for h in (60, 300, 900)),
        *(sign_entropy(trades, h) for h in (60, 300, 900)),
        *(correlation(logs, 1, h) for h in (60, 300, 900)),
        correlation(logs, 5, 900),
        *(efficiency(trades, k) for k in (5, 15, 30, 60)),
    ]
    np.testing.assert_allclose(drive.own(), want, rtol=1e-7, atol=1e-10)


def test_a_trend_is_told_from_a_return_to_the_mean():
    rng = np.random.default_rng(0)
    trend, rebound = Drive(cplx), Drive(cplx)
    level = 0.0
    for i in range(1800):
        level += rng.choice([0, 1])
        trend.trade(START + i * NS, 15000 + 0.25 * level, 1, 1)
        rebound.trade(START + i * NS, 15000 + 0.25 * rng.integers(0, 4), 1, 1)
    assert rebound.own()[1] < 0.2  # hurst_15m
    assert rebound.own()[13] < -0.3  # acf1_1m
    assert rebound.own()[6] < 0.2  # vr_30
    assert trend.own()[17] == 1.0  # er_5m


def test_neutral_until_enough_is_known_and_in_a_market_at_rest():
    drive = Drive(cplx)
    drive.trades(random_trades(START, 40, 9))
    np.testing.assert_array_equal(drive.own(), cplx.NEUTRAL)
    rest = Drive(cplx)
    for i in range(400):
        rest.trade(START + i * NS, 15000.0, 1, 0)
    expected = cplx.NEUTRAL.copy()
    expected[7:10] = 0.0  # one pattern only: equal values count as rising
    np.testing.assert_array_equal(rest.own(), expected)


def test_a_long_silence_starts_the_windows_anew():
    drive = Drive(cplx)
    drive.trades(random_trades(START, 2 * 3600, 3000))
    drive.trade(START + 6 * 3600 * NS, 15100.0, 1, 1)
    values = drive.own()
    np.testing.assert_array_equal(values[:17], cplx.NEUTRAL[:17])
    assert values[17:].all()  # bars run on


def test_nothing_depends_on_when_it_is_asked_or_on_what_comes_later():
    same_however_asked(cplx, random_trades(START, 2 * 3600, 3000))


def test_damaged_numbers_never_reach_the_values():
    damage(Drive(cplx))
