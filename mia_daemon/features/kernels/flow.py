"""Features 75-114: what aggressors do: delta, intensity, size, cumulative volume delta (CVD), sweeps and refills."""

import math

import numpy as np

from mia_daemon.features.constants import DEFAULTS, FittedConstants
from mia_daemon.features.kernels.market import (
    M_ASK,
    M_BID,
    M_COUNT,
    M_FLAGS,
    M_HAS_SIZES,
    M_LAST,
    M_NOW,
    M_PREV_ASK,
    M_PREV_BID,
    M_PREV_QA,
    M_PREV_QB,
    M_QA,
    M_QB,
    M_SEC_BUY,
    M_SEC_MID,
    M_SEC_PREV_MID,
    M_SEC_SELL,
    M_SIDE,
    M_SIZE,
    M_TICK,
    Floats,
    Ints,
    kernel,
)

FIRST = 75
COUNT = 40

HORIZONS = np.array([1.0, 5.0, 30.0, 120.0, 600.0])
SLOPE_HORIZONS = np.array([60.0, 300.0, 900.0])
SLOPE_DECAYS = np.exp(-1.0 / SLOPE_HORIZONS)
DAY_MEAN_S = 3600.0  # stands in for the time-of-day mean of the trade rate
COUNT_S = 10.0  # sweeps and refills
MAX_RATIO = 1000.0
SWEEP_GAP_S = 0.001
FIRST_SUBTRADE = 1.0  # EventFlag

_AT = 0  # M_NOW of the last trade counted
_LARGE = 1  # contracts from which a trade counts as large
_SINCE = 2  # M_NOW of the first trade
_STARTED = 3
_TRADES = 4  # EW number of trades, mean age DAY_MEAN_S
_DAY_DELTA = 5  # since the trading day began
_DAY_VOLUME = 6
_BUY_SWEEPS = 7
_SELL_SWEEPS = 8
_REFILLS = 9
_REFILL_AT = 10
_CHAIN_SIDE = 11  # the run of trades that may be one sweep: its side, newest time and price, and whether it counted
_CHAIN_AT = 12
_CHAIN_PRICE = 13
_CHAIN_COUNTED = 14
_SOLD = 15  # contracts that traded at the bid since the last quote
_BOUGHT = 16
_SUMS = 17  # 5 x (bought, sold, volume, trades, bought x price, sold x price, large delta)
_SLOPE = _SUMS + 35  # 3 x (w, x, xx, y, xy): time from the newest second, CVD from its newest value
_DIV = _SLOPE + 15  # 3 x (w, dCVD, dCVD², dP, dP²)
_SIZE = _DIV + 15


def make_state(tick_size: float, constants: FittedConstants = DEFAULTS) -> Floats:
    """Sums; `tick_size` is not needed."""
    del tick_size
    s = np.zeros(_SIZE)
    s[_LARGE] = constants.large_trade
    return s


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    now = m[M_NOW]
    dt = now - s[_AT]
    s[_AT] = now
    if s[_STARTED] == 0.0:
        s[_STARTED] = 1.0
        s[_SINCE] = now
    size = m[M_SIZE]
    side = m[M_SIDE]
    bought = size if side > 0.0 else 0.0
    sold = size if side < 0.0 else 0.0
    large = side * size if size >= s[_LARGE] else 0.0
    price = m[M_LAST]
    for j in range(5):
        i = _SUMS + 7 * j
        decay = math.exp(-dt / HORIZONS[j]) if dt > 0.0 else 1.0
        s[i] = s[i] * decay + bought
        s[i + 1] = s[i + 1] * decay + sold
        s[i + 2] = s[i + 2] * decay + size
        s[i + 3] = s[i + 3] * decay + m[M_COUNT]
        s[i + 4] = s[i + 4] * decay + bought * price
        s[i + 5] = s[i + 5] * decay + sold * price
        s[i + 6] = s[i + 6] * decay + large
    decay = math.exp(-dt / DAY_MEAN_S) if dt > 0.0 else 1.0
    s[_TRADES] = s[_TRADES] * decay + m[M_COUNT]
    s[_DAY_DELTA] += bought - sold
    s[_DAY_VOLUME] += size
    decay = math.exp(-dt / COUNT_S) if dt > 0.0 else 1.0
    s[_BUY_SWEEPS] *= decay
    s[_SELL_SWEEPS] *= decay
    _sweep(s, m, side)
    if side < 0.0 and price <= m[M_BID]:
        s[_SOLD] += size
    elif side > 0.0 and price >= m[M_ASK]:
        s[_BOUGHT] += size


@kernel
def _sweep(s: Floats, m: Floats, side: float) -> None:
    step = (m[M_LAST] - s[_CHAIN_PRICE]) * side
    goes_on = (
        side != 0.0
        and side == s[_CHAIN_SIDE]
        and m[M_NOW] - s[_CHAIN_AT] <= SWEEP_GAP_S
        and step >= 0.0
        and (int(m[M_FLAGS]) & int(FIRST_SUBTRADE)) == 0
    )
    if not goes_on:
        s[_CHAIN_SIDE] = side
        s[_CHAIN_COUNTED] = 0.0
    elif step > 0.0 and s[_CHAIN_COUNTED] == 0.0:
        s[_CHAIN_COUNTED] = 1.0
        if side > 0.0:
            s[_BUY_SWEEPS] += 1.0
        else:
            s[_SELL_SWEEPS] += 1.0
    s[_CHAIN_AT] = m[M_NOW]
    s[_CHAIN_PRICE] = m[M_LAST]


@kernel
def on_quote(s: Floats, t: int, m: Floats) -> None:
    if m[M_HAS_SIZES] == 0.0:
        return
    refills = 0.0
    if s[_SOLD] > 0.0 and m[M_BID] == m[M_PREV_BID] and m[M_PREV_QB] > 0.0 and m[M_QB] >= m[M_PREV_QB]:
        refills += 1.0
    if s[_BOUGHT] > 0.0 and m[M_ASK] == m[M_PREV_ASK] and m[M_PREV_QA] > 0.0 and m[M_QA] >= m[M_PREV_QA]:
        refills += 1.0
    s[_SOLD] = 0.0
    s[_BOUGHT] = 0.0
    if refills > 0.0:
        s[_REFILLS] = s[_REFILLS] * math.exp((s[_REFILL_AT] - m[M_NOW]) / COUNT_S) + refills
        s[_REFILL_AT] = m[M_NOW]


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    delta = m[M_SEC_BUY] - m[M_SEC_SELL]
    moved = m[M_SEC_MID] - m[M_SEC_PREV_MID]
    if math.isnan(moved):
        moved = 0.0
    for j in range(3):
        d = SLOPE_DECAYS[j]
        _slope_step(s, _SLOPE + 5 * j, d, delta)
        i = _DIV + 5 * j
        s[i] = s[i] * d + 1.0
        s[i + 1] = s[i + 1] * d + delta
        s[i + 2] = s[i + 2] * d + delta * delta
        s[i + 3] = s[i + 3] * d + moved
        s[i + 4] = s[i + 4] * d + moved * moved


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    for j in range(3):
        d = SLOPE_DECAYS[j]
        _slope_still(s, _SLOPE + 5 * j, d, n)
        i = _DIV + 5 * j
        d = math.exp(-n / SLOPE_HORIZONS[j])
        s[i] = s[i] * d + (1.0 - d) / (1.0 - SLOPE_DECAYS[j])
        for k in range(1, 5):
            s[i + k] *= d


@kernel
def _slope_step(s: Floats, i: int, d: float, delta: float) -> None:
    """Move the origin to the new point (one second later, CVD higher by `delta`), decay, and add it as (0, 0)."""
    w = s[i]
    x = s[i + 1]
    y = s[i + 3]
    s[i] = d * w + 1.0
    s[i + 1] = d * (x - w)
    s[i + 4] = d * (s[i + 4] - y - delta * (x - w))
    s[i + 2] = d * (s[i + 2] - 2.0 * x + w)
    s[i + 3] = d * (y - delta * w)


@kernel
def _slope_still(s: Floats, i: int, d: float, n: int) -> None:
    """`n` times `_slope_step` with delta 0, by doubling: `steps` of them as one, for each bit of `n`.

    g_k is the sum of age**k d**age over the ages 0 … steps - 1 of the points that they add; nothing cancels.
    """
    steps = 1
    decay = d
    g_0 = 1.0
    g_1 = 0.0
    g_2 = 0.0
    while steps <= n:
        if n & steps:
            w = s[i]
            x = s[i + 1]
            s[i] = decay * w + g_0
            s[i + 1] = decay * (x - steps * w) - g_1
            s[i + 4] = decay * (s[i + 4] - steps * s[i + 3])
            s[i + 2] = decay * (s[i + 2] - 2.0 * steps * x + steps * steps * w) + g_2
            s[i + 3] = decay * s[i + 3]
        g_2 += decay * (g_2 + 2.0 * steps * g_1 + steps * steps * g_0)
        g_1 += decay * (g_1 + steps * g_0)
        g_0 += decay * g_0
        decay *= decay
        steps *= 2


@kernel
def on_day(s: Floats, m: Floats, cal: Ints, row: int) -> None:
    s[_DAY_DELTA] = 0.0
    s[_DAY_VOLUME] = 0.0


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    large = s[_LARGE]
    delta = s[_DAY_DELTA]
    volume = s[_DAY_VOLUME]
    for i in range(_SIZE):
        s[i] = 0.0
    s[_LARGE] = large
    s[_DAY_DELTA] = delta
    s[_DAY_VOLUME] = volume


@kernel
def _z(w: float, sum_1: float, sum_2: float) -> float:
    """EW mean over EW standard deviation, times the root of the weight."""
    mean = sum_1 / w
    variance = sum_2 / w - mean * mean
    # what is left of a variance that is zero but for rounding is no variance
    return mean / math.sqrt(variance) * math.sqrt(w) if variance > 1e-12 * sum_2 / w else 0.0


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    now = m[M_NOW]
    dt = now - s[_AT]
    passed = max(now - s[_SINCE], 1.0)
    usual = s[_TRADES] * math.exp(-dt / DAY_MEAN_S) / (DAY_MEAN_S * (1.0 - math.exp(-passed / DAY_MEAN_S)))
    tick = m[M_TICK]
    for j in range(5):
        i = _SUMS + 7 * j
        h = HORIZONS[j]
        decay = math.exp(-dt / h)
        bought = s[i]
        sold = s[i + 1]
        out[FIRST + j] = (bought - sold) * decay
        out[FIRST + 5 + j] = (bought - sold) / (bought + sold) if bought + sold > 1e-200 else 0.0
        out[FIRST + 10 + j] = min(s[i + 3] * decay / h / usual, MAX_RATIO) if usual > 1e-200 else 0.0
        out[FIRST + 15 + j] = s[i + 2] / s[i + 3] if s[i + 3] > 1e-200 else 0.0
        out[FIRST + 20 + j] = s[i + 6] * decay
        # under 1e-6 contracts of a side its average price has been forgotten
        known = bought > 1e-6 and sold > 1e-6
        out[FIRST + 25 + j] = (s[i + 4] / bought - s[i + 5] / sold) / tick if known else 0.0
    out[FIRST + 30] = s[_DAY_DELTA] / s[_DAY_VOLUME] if s[_DAY_VOLUME] > 0.0 else 0.0
    for j in range(3):
        i = _SLOPE + 5 * j
        spread = s[i] * s[i + 2] - s[i + 1] * s[i + 1]
        known = s[i] > 1.5 and spread > 0.0
        out[FIRST + 31 + j] = (s[i] * s[i + 4] - s[i + 1] * s[i + 3]) / spread if known else 0.0
        i = _DIV + 5 * j
        known = s[i] > 1.5
        out[FIRST + 34 + j] = _z(s[i], s[i + 1], s[i + 2]) - _z(s[i], s[i + 3], s[i + 4]) if known else 0.0
    decay = math.exp(-dt / COUNT_S)
    out[FIRST + 37] = s[_BUY_SWEEPS] * decay
    out[FIRST + 38] = s[_SELL_SWEEPS] * decay
    out[FIRST + 39] = s[_REFILLS] * math.exp((s[_REFILL_AT] - now) / COUNT_S)
