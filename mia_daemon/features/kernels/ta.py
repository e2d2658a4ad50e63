"""Technical indicators of 1, 5 and 15 minute bars, features 206-259, as TA-Lib computes them.

Of closed bars only, so they never repaint: between two closes they stand still. Seeds, recursions and first outputs
are TA-Lib's (unstable period 0) over the bars since the start, so each value equals talib's to rounding. Parameters
that a name doesn't give are TA-Lib's defaults (MACD 12, 26, 9; STOCH 5, 3, 3), bands are 20 bars and 2 deviations wide.

    macd_line       MACD line / ATR          macd_histogram  MACD histogram, points
    bb_pctb         (C - lower) / (upper - lower)            bollinger_width  (upper - lower) / middle
    ema9_21         (EMA9 - EMA21) / ATR     ema21_50        (EMA21 - EMA50) / ATR
    donch20_pos     (C - lowest 20) / (highest 20 - lowest 20)
    obv_slope       LINEARREG_SLOPE(OBV, 14) / mean volume of the 14 bars

ATR (atr_14, and M_ATR from the 1-minute bars) is needed by others before its 15th bar: until then it is the mean true
range of the bars so far, and at least one tick; 0 before the first bar has closed. As a divisor it is at least a tick.
Bars run on across nights and weekends, as on a chart.

Where prices are not positive: the width of the bands is 0 where their middle is not positive, ROC where either close is
not, and money flow takes the typical price without its sign.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.bars import BAR, CLOSE, HIGH, LOW, TRADES, VOLUME
from mia_daemon.features.kernels.market import M_ATR, M_LAST, M_SIZE, M_TICK, Floats, kernel

FIRST = 206
COUNT = 54

_PERIODS = np.array([60, 300, 900])
_OUTPUTS = 18
_RING = 32

# outputs, in catalogue order
_RSI, _MACD, _HIST, _ATR, _ADX, _DI, _PCTB, _WIDTH, _K, _D, _CCI, _MFI, _ROC, _E9_21, _E21_50, _DONCH, _AROON, _OBV = (
    range(_OUTPUTS)
)

# state of one timeframe
_N = BAR  # closed bars
_GAIN = BAR + 1  # averages, or sums while seeding
_LOSS = BAR + 2
_TR = BAR + 3  # ATR, or the sum of true ranges while seeding
_TR_ALL = BAR + 4  # sum of true ranges up to the 15th bar, the first bar's being high - low
_PLUS = BAR + 5
_MINUS = BAR + 6
_DM_TR = BAR + 7
_DX = BAR + 8  # ADX, or the sum of DX while seeding
_EMA = BAR + 9  # six averages: 9, 21, 50, 12, 26, signal
_OBV_LEVEL = BAR + 15
_FAST_K = BAR + 16  # ring of 3
_SLOW_K = BAR + 19  # ring of 3
_OUT = BAR + 22
_H = _OUT + _OUTPUTS
_L = _H + _RING
_C = _L + _RING
_V = _C + _RING
_TP = _V + _RING  # typical price
_FLOW = _TP + _RING  # typical price * volume, signed by the change of the typical price
_OBVS = _FLOW + _RING
_BLOCK = _OBVS + _RING

NEUTRAL = np.zeros(COUNT)
for _k in range(3):
    NEUTRAL[_k * _OUTPUTS + np.array([_RSI, _K, _D, _MFI])] = 50.0
    NEUTRAL[_k * _OUTPUTS + np.array([_PCTB, _DONCH])] = 0.5

_ZERO = 1e-14  # TA-Lib's TA_IS_ZERO


def make_state(tick_size: float) -> Floats:
    """The state before the first event; the tick size is read from `m`."""
    del tick_size
    s = np.zeros(3 * _BLOCK)
    for k in range(3):
        s[k * _BLOCK + _OUT : k * _BLOCK + _OUT + _OUTPUTS] = NEUTRAL[k * _OUTPUTS : (k + 1) * _OUTPUTS]
    return s


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    if bars.valid_trade(m[M_LAST], m[M_SIZE]):
        for k in range(3):
            bars.add_trade(s, k * _BLOCK, m[M_LAST], m[M_SIZE])


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    for k in range(3):
        if bars.ends(s, k * _BLOCK, sec, _PERIODS[k]):
            _close_bar(s, k * _BLOCK, m[M_TICK])
            if k == 0:
                m[M_ATR] = s[_OUT + _ATR]


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    for k in range(3):
        if bars.ends_within(s, k * _BLOCK, sec, n, _PERIODS[k]):
            _close_bar(s, k * _BLOCK, m[M_TICK])
            if k == 0:
                m[M_ATR] = s[_OUT + _ATR]


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    for k in range(3):
        if s[k * _BLOCK + TRADES] > 0.0:
            _close_bar(s, k * _BLOCK, m[M_TICK])
    m[M_ATR] = s[_OUT + _ATR]


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    for k in range(3):
        for j in range(_OUTPUTS):
            out[FIRST + k * _OUTPUTS + j] = s[k * _BLOCK + _OUT + j]


@kernel
def _ema(s: Floats, at: int, x: float, i: int, period: int) -> None:
    """Advance an EMA whose seed, the mean of its first `period` inputs, is summed up in place; `i` counts inputs."""
    if i < period - 1:
        s[at] += x
    elif i == period - 1:
        s[at] = (s[at] + x) / period
    elif i >= period:
        s[at] += (x - s[at]) * (2.0 / (period + 1))


@kernel
def _close_bar(s: Floats, o: int, tick: float) -> None:
    n = int(s[o + _N])
    high, low, close, volume = s[o + HIGH], s[o + LOW], s[o + CLOSE], s[o + VOLUME]
    i = n % _RING
    s[o + _H + i] = high
    s[o + _L + i] = low
    s[o + _C + i] = close
    s[o + _V + i] = volume
    s[o + _TP + i] = (high + low + close) / 3.0
    s[o + TRADES] = 0.0
    s[o + _N] = n + 1
    if n == 0:
        s[o + _OBV_LEVEL] = volume
        s[o + _TR_ALL] = high - low
    else:
        _step(s, o, n)
    s[o + _OBVS + i] = s[o + _OBV_LEVEL]

    out = o + _OUT
    if n < 14:
        s[out + _ATR] = max(s[o + _TR_ALL] / (n + 1), tick)
    else:
        s[out + _ATR] = s[o + _TR]
    atr = max(s[out + _ATR], tick)
    _averages(s, o, n, atr)
    _windows(s, o, n)


@kernel
def _step(s: Floats, o: int, n: int) -> None:
    """Wilder's recursions (RSI, ATR, DI, ADX), on-balance volume and money flow: from one bar to the next."""
    i, j = n % _RING, (n - 1) % _RING
    high, low, close = s[o + _H + i], s[o + _L + i], s[o + _C + i]
    before = s[o + _C + j]
    out = o + _OUT

    change = close - before
    gain, loss = max(change, 0.0), max(-change, 0.0)
    true_range = max(high - low, abs(high - before), abs(low - before))
    if n <= 14:
        s[o + _GAIN] += gain
        s[o + _LOSS] += loss
        s[o + _TR] += true_range
        s[o + _TR_ALL] += true_range
        if n == 14:
            s[o + _GAIN] /= 14.0
            s[o + _LOSS] /= 14.0
            s[o + _TR] /= 14.0
    else:
        s[o + _GAIN] = (s[o + _GAIN] * 13.0 + gain) / 14.0
        s[o + _LOSS] = (s[o + _LOSS] * 13.0 + loss) / 14.0
        s[o + _TR] = (s[o + _TR] * 13.0 + true_range) / 14.0
    if n >= 14:
        total = s[o + _GAIN] + s[o + _LOSS]
        s[out + _RSI] = 100.0 * (s[o + _GAIN] / total) if total >= _ZERO else 0.0

    up, down = high - s[o + _H + j], s[o + _L + j] - low
    plus = up if up > 0.0 and up > down else 0.0
    minus = down if down > 0.0 and down > up else 0.0
    if n <= 13:
        s[o + _PLUS] += plus
        s[o + _MINUS] += minus
        s[o + _DM_TR] += true_range
    else:
        s[o + _PLUS] += plus - s[o + _PLUS] / 14.0
        s[o + _MINUS] += minus - s[o + _MINUS] / 14.0
        s[o + _DM_TR] += true_range - s[o + _DM_TR] / 14.0
        moving = s[o + _DM_TR] >= _ZERO
        plus_di = 100.0 * (s[o + _PLUS] / s[o + _DM_TR]) if moving else 0.0
        minus_di = 100.0 * (s[o + _MINUS] / s[o + _DM_TR]) if moving else 0.0
        s[out + _DI] = plus_di - minus_di
        both = plus_di + minus_di
        dx = 100.0 * (abs(minus_di - plus_di) / both) if both >= _ZERO else 0.0
        if n <= 27:
            s[o + _DX] += dx
            if n == 27:
                s[o + _DX] /= 14.0
        elif both >= _ZERO:
            s[o + _DX] = (s[o + _DX] * 13.0 + dx) / 14.0
        if n >= 27:
            s[out + _ADX] = s[o + _DX]

    volume = s[o + _V + i]
    if close > before:
        s[o + _OBV_LEVEL] += volume
    elif close < before:
        s[o + _OBV_LEVEL] -= volume

    typical, typical_before = s[o + _TP + i], s[o + _TP + j]
    flow = abs(typical) * volume
    if typical > typical_before:
        s[o + _FLOW + i] = flow
    elif typical < typical_before:
        s[o + _FLOW + i] = -flow
    else:
        s[o + _FLOW + i] = 0.0


@kernel
def _averages(s: Floats, o: int, n: int, atr: float) -> None:
    """EMAs and MACD. TA-Lib seeds MACD's fast average with bars 15-26, so that both averages start on the 26th."""
    close = s[o + _C + n % _RING]
    out = o + _OUT
    _ema(s, o + _EMA, close, n, 9)
    _ema(s, o + _EMA + 1, close, n, 21)
    _ema(s, o + _EMA + 2, close, n, 50)
    _ema(s, o + _EMA + 4, close, n, 26)
    if n >= 14:
        _ema(s, o + _EMA + 3, close, n - 14, 12)
    if n >= 20:
        s[out + _E9_21] = (s[o + _EMA] - s[o + _EMA + 1]) / atr
    if n >= 49:
        s[out + _E21_50] = (s[o + _EMA + 1] - s[o + _EMA + 2]) / atr
    if n >= 25:
        line = s[o + _EMA + 3] - s[o + _EMA + 4]
        _ema(s, o + _EMA + 5, line, n - 25, 9)
        if n >= 33:
            s[out + _MACD] = line / atr
            s[out + _HIST] = line - s[o + _EMA + 5]


@kernel
def _windows(s: Floats, o: int, n: int) -> None:
    """Indicators over the last bars, recomputed from them: nothing accumulates, nothing drifts."""
    close = s[o + _C + n % _RING]
    out = o + _OUT

    if n >= 4:
        highest, lowest = s[o + _H + n % _RING], s[o + _L + n % _RING]
        for k in range(1, 5):
            highest = max(highest, s[o + _H + (n - k) % _RING])
            lowest = min(lowest, s[o + _L + (n - k) % _RING])
        s[o + _FAST_K + n % 3] = (close - lowest) / (highest - lowest) * 100.0 if highest > lowest else 0.0
    if n >= 6:
        slow = (s[o + _FAST_K] + s[o + _FAST_K + 1] + s[o + _FAST_K + 2]) / 3.0
        s[o + _SLOW_K + n % 3] = slow
        if n >= 8:
            s[out + _K] = slow
            s[out + _D] = (s[o + _SLOW_K] + s[o + _SLOW_K + 1] + s[o + _SLOW_K + 2]) / 3.0

    if n >= 10:
        before = s[o + _C + (n - 10) % _RING]
        s[out + _ROC] = (close / before - 1.0) * 100.0 if bars.has_log(close) and bars.has_log(before) else 0.0

    if n >= 13:
        # least squares over x = 0 … 13, the newest at 13; sum of (x - 6.5)^2 is 227.5
        slope = 0.0
        volume = 0.0
        newest = s[o + _OBVS + n % _RING]
        for k in range(14):
            slope += (6.5 - k) * (s[o + _OBVS + (n - k) % _RING] - newest)
            volume += s[o + _V + (n - k) % _RING]
        s[out + _OBV] = slope / 227.5 / (volume / 14.0) if volume > 0.0 else 0.0

    if n >= 14:
        positive, negative = 0.0, 0.0
        for k in range(14):
            flow = s[o + _FLOW + (n - k) % _RING]
            positive += max(flow, 0.0)
            negative += max(-flow, 0.0)
        total = positive + negative
        s[out + _MFI] = 100.0 * (positive / total) if total >= 1.0 else 0.0

    if n >= 19:
        mean, typical = 0.0, 0.0
        highest, lowest = s[o + _H + n % _RING], s[o + _L + n % _RING]
        for k in range(20):
            j = (n - k) % _RING
            mean += s[o + _C + j]
            typical += s[o + _TP + j]
            highest = max(highest, s[o + _H + j])
            lowest = min(lowest, s[o + _L + j])
        mean /= 20.0
        typical /= 20.0
        square, spread = 0.0, 0.0
        for k in range(20):
            j = (n - k) % _RING
            square += (s[o + _C + j] - mean) ** 2
            spread += abs(s[o + _TP + j] - typical)
        width = 4.0 * math.sqrt(square / 20.0)
        flat = 1e-12 * abs(mean)  # rounding alone makes no band
        s[out + _PCTB] = (close - mean) / width + 0.5 if width > flat else 0.5
        s[out + _WIDTH] = width / mean if bars.has_log(mean) else 0.0
        deviation = s[o + _TP + n % _RING] - typical
        s[out + _CCI] = deviation / (0.015 * (spread / 20.0)) if spread / 20.0 > flat else 0.0
        s[out + _DONCH] = (close - lowest) / (highest - lowest) if highest > lowest else 0.5

    if n >= 25:
        top, bottom = n - 25, n - 25
        for k in range(n - 24, n + 1):
            if s[o + _H + k % _RING] >= s[o + _H + top % _RING]:
                top = k
            if s[o + _L + k % _RING] <= s[o + _L + bottom % _RING]:
                bottom = k
        s[out + _AROON] = 4.0 * (top - bottom)
