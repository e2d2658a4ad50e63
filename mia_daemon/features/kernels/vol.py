"""Volatility, features 115-159: returns, realised variation, its jumps and its shape, range estimators.

Based on mids at the end of whole seconds, carried forward through silent ones, r_i = ln(m_i / m_{i-1}).

- ret_h: ln(mid now / mid at the end of the second that lies h seconds before the last ended one); 0 until known.
- Realised measures are scaled to the horizon: h times the mean of r_i^2 (|r_i r_{i-1}|, r_i^2 [r_i > 0] …) with
  weights exp(-age/h), so that the mean age is h and a short history is not mistaken for calm. rv is the root;
  skewness and kurtosis become ratios of weighted moments, in which the number of returns cancels; as with that
  number n of equal weights, they are kept within the root of the sum of weights and within that sum.
- Parkinson and Garman-Klass: of closed 1, 5 and 15 minute bars, weights exp(-age in bars); Parkinson as standard
  deviation, Garman-Klass as variance, as their formulas stand.
- vol_ratio: ln of standard deviations per square root of time, so 0 when both horizons are equally lively; the day is
  the equally weighted mean since the trading day began.

Neutral (0; kurtosis 3) until MIN_SECONDS returns are known, and where nothing has moved. A second in which the mid is
not positive has no log return: all windows but those of bars are empty after it. A bar that touches such a price is
left out.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.bars import BAR, CLOSE, HIGH, LOW, OPEN, TRADES
from mia_daemon.features.kernels.market import M_LAST, M_MID, M_SEC_MID, M_SIZE, Floats, Ints, kernel

FIRST = 115
COUNT = 45

MIN_SECONDS = 30
_STILL = 1e-12  # a sum of squared returns below this is no movement: half a tick of NQ squared is 1e-10

_LAGS = np.array([1, 5, 15, 30, 60, 300, 900, 3600])
_RING = 3601
_HORIZONS = np.array([30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0])
_NH = 6
_FOUR = np.array([1, 2, 3, 5])  # of them: 1, 5, 15 and 60 minutes
_PERIODS = np.array([60, 300, 900])

# state
_N = 0  # mids in the ring so far
_LAST_R = 1
_DAY_SUM = 2
_DAY_N = 3
_HAS_R = 4
_SUMS = 8  # per horizon: decay, weight, r^2, |r r'|, up, down, r^3, r^4, weight of |r r'|
_PER = 9
_BARS = _SUMS + _NH * _PER  # per period: bar, weight, parkinson, garman-klass
_PER_BAR = BAR + 3
_LOGS = _BARS + 3 * _PER_BAR
_SIZE = _LOGS + _RING

_BAR_DECAY = math.exp(-1.0)
_GK = 2.0 * math.log(2.0) - 1.0

NEUTRAL = np.zeros(COUNT)
NEUTRAL[33:36] = 3.0


def make_state(tick_size: float) -> Floats:
    """The state before the first event; the tick size plays no part."""
    del tick_size
    s = np.zeros(_SIZE)
    for k in range(_NH):
        s[_SUMS + k * _PER] = math.exp(-1.0 / _HORIZONS[k])
    return s


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    if bars.valid_trade(m[M_LAST], m[M_SIZE]):
        for k in range(3):
            bars.add_trade(s, _BARS + k * _PER_BAR, m[M_LAST], m[M_SIZE])


@kernel
def _close_bar(s: Floats, o: int) -> None:
    s[o + TRADES] = 0.0
    if not bars.has_log(s[o + LOW]):
        return
    span = math.log(s[o + HIGH] / s[o + LOW])
    move = math.log(s[o + CLOSE] / s[o + OPEN])
    w, p, g = o + BAR, o + BAR + 1, o + BAR + 2
    s[w] = s[w] * _BAR_DECAY + 1.0
    s[p] = s[p] * _BAR_DECAY + span * span / (4.0 * math.log(2.0))
    s[g] = s[g] * _BAR_DECAY + 0.5 * span * span - _GK * move * move


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    for k in range(3):
        if bars.ends(s, _BARS + k * _PER_BAR, sec, _PERIODS[k]):
            _close_bar(s, _BARS + k * _PER_BAR)
    mid = m[M_SEC_MID]
    if not bars.has_log(mid):
        _restart(s)
        return
    n = int(s[_N])
    log_mid = math.log(mid)
    s[_LOGS + n % _RING] = log_mid
    s[_N] = n + 1
    if n == 0:
        return
    r = log_mid - s[_LOGS + (n - 1) % _RING]
    r2 = r * r
    pair = abs(r * s[_LAST_R])
    for k in range(_NH):
        o = _SUMS + k * _PER
        decay = s[o]
        s[o + 1] = s[o + 1] * decay + 1.0
        s[o + 2] = s[o + 2] * decay + r2
        if s[_HAS_R] > 0.0:
            s[o + 3] = s[o + 3] * decay + pair
            s[o + 8] = s[o + 8] * decay + 1.0
        s[o + 4] = s[o + 4] * decay + (r2 if r > 0.0 else 0.0)
        s[o + 5] = s[o + 5] * decay + (r2 if r < 0.0 else 0.0)
        s[o + 6] = s[o + 6] * decay + r2 * r
        s[o + 7] = s[o + 7] * decay + r2 * r2
    s[_LAST_R] = r
    s[_HAS_R] = 1.0
    s[_DAY_SUM] += r2
    s[_DAY_N] += 1.0


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    on_second(s, sec, m)  # after which the last return is zero
    rest = n - 1
    for k in range(3):
        if bars.ends_within(s, _BARS + k * _PER_BAR, sec + 1, rest, _PERIODS[k]):
            _close_bar(s, _BARS + k * _PER_BAR)
    if rest == 0 or not bars.has_log(m[M_SEC_MID]):
        return
    first = int(s[_N])
    log_mid = s[_LOGS + (first - 1) % _RING]
    for i in range(first + max(rest - _RING, 0), first + rest):
        s[_LOGS + i % _RING] = log_mid
    s[_N] = first + rest
    for k in range(_NH):
        o = _SUMS + k * _PER
        decay = math.exp(-rest / _HORIZONS[k])
        weight = (1.0 - decay) / (1.0 - s[o])
        for j in range(1, _PER):
            s[o + j] *= decay
        s[o + 1] += weight
        s[o + 8] += weight
    s[_DAY_N] += rest


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    for k in range(3):
        if s[_BARS + k * _PER_BAR + TRADES] > 0.0:
            _close_bar(s, _BARS + k * _PER_BAR)
    _restart(s)


@kernel
def _restart(s: Floats) -> None:
    """Forget all mids, and what was made of them but for the day's sum."""
    s[_N] = 0.0
    s[_LAST_R] = 0.0
    s[_HAS_R] = 0.0
    for k in range(_NH):
        o = _SUMS + k * _PER
        s[o + 1 : o + _PER] = 0.0


@kernel
def on_day(s: Floats, m: Floats, cal: Ints, row: int) -> None:
    s[_DAY_SUM] = 0.0
    s[_DAY_N] = 0.0


@kernel
def _log_ratio(short: float, long: float) -> float:
    """Ln of the ratio of two standard deviations given as variances; 0 where one of them is nothing."""
    return 0.5 * math.log(short / long) if short > 0.0 and long > 0.0 else 0.0


@kernel
def _mean_square(s: Floats, k: int) -> float:
    o = _SUMS + k * _PER
    return s[o + 2] / s[o + 1] if s[o + 2] > _STILL else 0.0


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    out[FIRST : FIRST + COUNT] = 0.0
    out[FIRST + 33 : FIRST + 36] = 3.0
    n = int(s[_N])
    mid = m[M_MID]
    if bars.has_log(mid):
        log_mid = math.log(mid)
        for k in range(8):
            if n > _LAGS[k]:
                out[FIRST + k] = log_mid - s[_LOGS + (n - 1 - _LAGS[k]) % _RING]
    for k in range(3):
        o = _BARS + k * _PER_BAR + BAR
        if s[o] > 0.0:
            out[FIRST + 36 + k] = math.sqrt(s[o + 1] / s[o])
            out[FIRST + 39 + k] = s[o + 2] / s[o]
    if n <= MIN_SECONDS:
        return
    for k in range(_NH):
        out[FIRST + 8 + k] = math.sqrt(_mean_square(s, k) * _HORIZONS[k])
    for j in range(4):
        k = _FOUR[j]
        o = _SUMS + k * _PER
        h = _HORIZONS[k]
        rv = h * s[o + 2] / s[o + 1]
        bpv = 0.5 * math.pi * h * s[o + 3] / s[o + 8]
        if s[o + 2] > _STILL:
            out[FIRST + 14 + j] = bpv
            out[FIRST + 18 + j] = h * s[o + 4] / s[o + 1]
            out[FIRST + 22 + j] = h * s[o + 5] / s[o + 1]
            out[FIRST + 26 + j] = max(0.0, rv - bpv) / rv
            if j > 0:
                m2 = s[o + 2] / s[o + 1]
                skew = s[o + 6] / s[o + 1] / (m2 * math.sqrt(m2))
                bound = math.sqrt(s[o + 1])
                out[FIRST + 29 + j] = min(max(skew, -bound), bound)
                out[FIRST + 32 + j] = min(s[o + 7] / s[o + 1] / (m2 * m2), s[o + 1])
    out[FIRST + 42] = _log_ratio(_mean_square(s, 1), _mean_square(s, 3))
    out[FIRST + 43] = _log_ratio(_mean_square(s, 2), _mean_square(s, 5))
    day = s[_DAY_SUM] / s[_DAY_N] if s[_DAY_SUM] > _STILL else 0.0
    out[FIRST + 44] = _log_ratio(_mean_square(s, 3), day)
