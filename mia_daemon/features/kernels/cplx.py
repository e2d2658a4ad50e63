"""Complexity and memory of the price, features 185-205: Hurst exponents, variance ratios, entropies, autocorrelation,
efficiency ratios.

Based on mids at the end of whole seconds, carried forward through silent ones. Weights are exp(-age/h), so that the
mean age is the horizon h.

- Variances are those of overlapping k-second log returns about their weighted mean. vr_k = Var(r_k) / (k Var(r_1)) with
  h = 15 minutes; hurst_h is half the least-squares slope of ln Var(r_k) on ln k for k = 1, 5, 25, kept within 0 … 1.
- perm_entropy: the 6 orders of three consecutive mids (equal ones in order of time), entropy over ln 6.
- sign_entropy: the 4 pairs of consecutive aggressor signs (unknown ones passed over), weights by time, over ln 4.
- acf: weighted correlation of 1-second returns with those 1 (or 5) seconds before.
- er_k: |C_n - C_{n-k}| / sum |C_i - C_{i-1}| over the last k closed 1-minute bars; 0 until k + 1 have closed.

Neutral (hurst 0.5, vr 1, entropies 1, others 0) until MIN_SECONDS mids or MIN_SIGNS signs are known, and where nothing
has moved. A second in which the mid is not positive has no logarithm: windows of mids are empty after it.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.bars import BAR, CLOSE, TRADES
from mia_daemon.features.kernels.market import M_LAST, M_NOW, M_SEC_MID, M_SIDE, M_SIZE, Floats, kernel

FIRST = 185
COUNT = 21

MIN_SECONDS = 60
MIN_SIGNS = 10
_STILL = 1e-16  # a variance of 1-second returns below this is no movement

# variance sets: horizon (s) and lag (s); the order is used by emit
_HORIZONS = np.array([300, 300, 300, 900, 900, 900, 900, 900, 900, 3600, 3600, 3600], np.float64)
_LAGS = np.array([1, 5, 25, 1, 2, 5, 10, 25, 30, 1, 5, 25])
_SETS = 12
_HURST = np.array([[0, 2], [3, 7], [9, 11]])  # sets of k = 1 and k = 25 per horizon
_VR = np.array([4, 5, 6, 8])
_ACF_LAGS = np.array([1, 1, 1, 5])
_ACF_H = np.array([60.0, 300.0, 900.0, 900.0])
_ENTROPY_H = np.array([60.0, 300.0, 900.0])
_ER = np.array([5, 15, 30, 60])
_RING = 32  # log mids
_CLOSES = 61

# state
_N = 0  # mids since the start or the last gap
_SIGNS = 1
_LAST_SIGN = 2
_SIGN_TIME = 3
_BARS_N = 4
_VAR = 8  # per set: decay, weight, sum, sum of squares
_PERM = _VAR + 4 * _SETS  # per horizon: decay, 6 counters
_SIGN = _PERM + 3 * 7  # per horizon: 4 counters
_ACF = _SIGN + 3 * 4  # per set: decay, weight, x, y, xx, yy, xy
_BAR_AT = _ACF + 4 * 7
_ER_AT = _BAR_AT + BAR
_CLOSE_AT = _ER_AT + 4
_LOGS = _CLOSE_AT + _CLOSES
_SIZE = _LOGS + _RING

NEUTRAL = np.array([0.5] * 3 + [1.0] * 4 + [1.0] * 6 + [0.0] * 8)


def make_state(tick_size: float) -> Floats:
    """The state before the first event; the tick size plays no part."""
    del tick_size
    s = np.zeros(_SIZE)
    for k in range(_SETS):
        s[_VAR + 4 * k] = math.exp(-1.0 / _HORIZONS[k])
    for k in range(3):
        s[_PERM + 7 * k] = math.exp(-1.0 / _ENTROPY_H[k])
    for k in range(4):
        s[_ACF + 7 * k] = math.exp(-1.0 / _ACF_H[k])
    return s


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    if bars.valid_trade(m[M_LAST], m[M_SIZE]):
        bars.add_trade(s, _BAR_AT, m[M_LAST], m[M_SIZE])
    side = m[M_SIDE]
    if not (side == 1.0 or side == -1.0):  # noqa: PLR1714  numba has no set membership
        return
    last = s[_LAST_SIGN]
    if last != 0.0:
        pair = (2 if last > 0.0 else 0) + (1 if side > 0.0 else 0)
        dt = max(m[M_NOW] - s[_SIGN_TIME], 0.0)
        for k in range(3):
            o = _SIGN + 4 * k
            decay = math.exp(-dt / _ENTROPY_H[k])
            for j in range(4):
                s[o + j] *= decay
            s[o + pair] += 1.0
        s[_SIGNS] += 1.0
    s[_LAST_SIGN] = side
    s[_SIGN_TIME] = m[M_NOW]


@kernel
def _close_bar(s: Floats) -> None:
    n = int(s[_BARS_N])
    s[_CLOSE_AT + n % _CLOSES] = s[_BAR_AT + CLOSE]
    s[_BARS_N] = n + 1
    s[_BAR_AT + TRADES] = 0.0
    path = 0.0
    for i in range(1, min(n, 60) + 1):
        newer = s[_CLOSE_AT + (n - i + 1) % _CLOSES]
        older = s[_CLOSE_AT + (n - i) % _CLOSES]
        path += abs(newer - older)
        for k in range(4):
            if _ER[k] == i:
                s[_ER_AT + k] = abs(s[_CLOSE_AT + n % _CLOSES] - older) / path if path > 0.0 else 0.0


@kernel
def _pattern(a: float, b: float, c: float) -> int:
    """Which of the 6 orders three values have, equal ones in order of time: an ordinal pattern of Bandt and Pompe."""
    if a <= b:
        if b <= c:
            return 0
        return 1 if a <= c else 2
    if a <= c:
        return 3
    return 4 if b <= c else 5


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    if bars.ends(s, _BAR_AT, sec, 60):
        _close_bar(s)
    mid = m[M_SEC_MID]
    if not bars.has_log(mid):
        _restart(s)
        return
    n = int(s[_N])
    log_mid = math.log(mid)
    s[_LOGS + n % _RING] = log_mid
    s[_N] = n + 1
    for k in range(_SETS):
        if n >= _LAGS[k]:
            o = _VAR + 4 * k
            r = log_mid - s[_LOGS + (n - _LAGS[k]) % _RING]
            s[o + 1] = s[o + 1] * s[o] + 1.0
            s[o + 2] = s[o + 2] * s[o] + r
            s[o + 3] = s[o + 3] * s[o] + r * r
    if n >= 2:
        pattern = _pattern(s[_LOGS + (n - 2) % _RING], s[_LOGS + (n - 1) % _RING], log_mid)
        for k in range(3):
            o = _PERM + 7 * k
            for j in range(1, 7):
                s[o + j] *= s[o]
            s[o + 1 + pattern] += 1.0
    for k in range(4):
        lag = _ACF_LAGS[k]
        if n > lag:
            o = _ACF + 7 * k
            x = log_mid - s[_LOGS + (n - 1) % _RING]
            y = s[_LOGS + (n - lag) % _RING] - s[_LOGS + (n - lag - 1) % _RING]
            decay = s[o]
            s[o + 1] = s[o + 1] * decay + 1.0
            s[o + 2] = s[o + 2] * decay + x
            s[o + 3] = s[o + 3] * decay + y
            s[o + 4] = s[o + 4] * decay + x * x
            s[o + 5] = s[o + 5] * decay + y * y
            s[o + 6] = s[o + 6] * decay + x * y


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    first = min(n, _RING)  # after which all mids in the ring are equal
    for k in range(first):
        on_second(s, sec + k, m)
    rest = n - first
    if bars.ends_within(s, _BAR_AT, sec + first, rest, 60):
        _close_bar(s)
    if rest == 0 or not bars.has_log(m[M_SEC_MID]):
        return
    s[_N] += rest
    for k in range(_SETS):
        _fade(s, _VAR + 4 * k, 3, math.exp(-rest / _HORIZONS[k]))
    for k in range(3):
        _fade(s, _PERM + 7 * k, 6, math.exp(-rest / _ENTROPY_H[k]))  # equal mids count as the first order
    for k in range(4):
        _fade(s, _ACF + 7 * k, 6, math.exp(-rest / _ACF_H[k]))


@kernel
def _fade(s: Floats, o: int, count: int, decay: float) -> None:
    """Steps that decay `count` sums by `decay` in all, the step at `o` each, and add 1 a step to the first of them."""
    for j in range(1, count + 1):
        s[o + j] *= decay
    s[o + 1] += (1.0 - decay) / (1.0 - s[o])


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    if s[_BAR_AT + TRADES] > 0.0:
        _close_bar(s)
    _restart(s)
    s[_SIGNS] = 0.0
    s[_LAST_SIGN] = 0.0
    for k in range(3):
        s[_SIGN + 4 * k : _SIGN + 4 * k + 4] = 0.0


@kernel
def _restart(s: Floats) -> None:
    """Forget all mids, and what was made of them."""
    s[_N] = 0.0
    for k in range(_SETS):
        s[_VAR + 4 * k + 1 : _VAR + 4 * k + 4] = 0.0
    for k in range(3):
        s[_PERM + 7 * k + 1 : _PERM + 7 * k + 7] = 0.0
    for k in range(4):
        s[_ACF + 7 * k + 1 : _ACF + 7 * k + 7] = 0.0


@kernel
def _variance(s: Floats, k: int) -> float:
    o = _VAR + 4 * k
    mean: float = s[o + 2] / s[o + 1]
    square: float = s[o + 3] / s[o + 1]
    return square - mean * mean


@kernel
def _entropy(s: Floats, o: int, n: int) -> float:
    """Entropy of n counters from `o`, over that of n equal ones; 1 when they are empty."""
    total = 0.0
    for j in range(n):
        total += s[o + j]
    if not total > 0.0:
        return 1.0
    entropy = 0.0
    for j in range(n):
        p = s[o + j] / total
        if p > 0.0:
            entropy -= p * math.log(p)
    return entropy / math.log(n)


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    for k in range(4):
        out[FIRST + 17 + k] = s[_ER_AT + k]
    for k in range(3):
        out[FIRST + 10 + k] = _entropy(s, _SIGN + 4 * k, 4) if s[_SIGNS] >= MIN_SIGNS else 1.0
    out[FIRST : FIRST + 3] = 0.5
    out[FIRST + 3 : FIRST + 10] = 1.0
    out[FIRST + 13 : FIRST + 17] = 0.0
    if s[_N] <= MIN_SECONDS:
        return
    for k in range(3):
        short, long = _variance(s, _HURST[k, 0]), _variance(s, _HURST[k, 1])
        if short > _STILL and long > _STILL:  # of three points evenly spaced in ln k, the middle one cancels
            out[FIRST + k] = min(max(math.log(long / short) / (2.0 * math.log(25.0)), 0.0), 1.0)
        out[FIRST + 7 + k] = _entropy(s, _PERM + 7 * k + 1, 6)
    one = _variance(s, 3)
    for k in range(4):
        if one > _STILL:
            out[FIRST + 3 + k] = _variance(s, _VR[k]) / (_LAGS[_VR[k]] * one)
        o = _ACF + 7 * k
        w = s[o + 1]
        mx, my = s[o + 2] / w, s[o + 3] / w
        vx, vy = s[o + 4] / w - mx * mx, s[o + 5] / w - my * my
        if vx > _STILL and vy > _STILL:
            out[FIRST + 13 + k] = min(max((s[o + 6] / w - mx * my) / math.sqrt(vx * vy), -1.0), 1.0)
