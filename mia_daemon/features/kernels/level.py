"""Prices to measure the market against, features 276-318: VWAPs, the volume profile, sessions, ranges, pivots.

Everything is keyed to the exchange's trading day of `cal`; distances are (mid - level) / ATR unless said otherwise,
and neutral (0) while the level (NaN in the state), the mid or the ATR is unknown.

VWAP: of the trading day, of regular hours, and of the ISO week as far as it has been seen; sd is volume-weighted.
vwap_dist_sd is in sd, at least a tick. vwap_slope_15m: change of the day's VWAP over the last 900 whole seconds / ATR.

Volume profile of the trading day in ticks. POC: the price with the largest volume, the first to reach it wins a tie.
Value area: grown from the POC tick by tick towards the larger neighbour (upwards on a tie) until it holds 70 % of the
volume. A high (low) volume node is a price whose volume is at least (at most) that of all prices within NODE ticks of
it, all of them inside the day's range; hvn and lvn are ticks from the mid, which may lie at half a tick, to the nearest
one above or below it, REACH when there is none nearer. poc_migration: change of the POC over the last 1800 whole
seconds / ATR. profile_skew: (POC - middle of the day's range) / range.

Levels of the prior day stand only if that day was the trading day before and was seen. Its settlement is taken to be
the last trade before 15:00 Chicago, before the close of regular hours on a half day. Regular hours that have begun give
opening ranges, growing while they form and fixed after; overnight is what came before them. ib_width is over the mean
range of up to 10 prior days. ib_ext, once the first hour is over: how far the mid is beyond the initial balance, over
its width, signed. gap: (regular open - prior settlement) / ATR. round_dist: from the nearest multiple of 25 points.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.market import (
    CAL_CLOSE,
    CAL_HALF,
    CAL_RTH_CLOSE,
    CAL_RTH_OPEN,
    M_ATR,
    M_LAST,
    M_MID,
    M_SIZE,
    M_TICK,
    NS,
    Floats,
    Ints,
    kernel,
)

FIRST = 276
COUNT = 43

NODE = 8
REACH = 400
VALUE_AREA = 0.7
_ROUND = 25.0
_MINUTE = 60 * NS

_BINS = 16384  # 4096 points of 0.25: more than a limit-down day; beyond it, the far side of the profile is given up
_SLOPE_S = 900
_MIGRATION_S = 1800
_OPENING = np.array([5, 15, 30, 60])  # minutes

# ---- state: a sum of a VWAP is base price, volume, volume * (p - base), volume * (p - base)^2
_DAY, _RTH, _WEEK = 0, 4, 8
_HIGH, _LOW, _LAST = 12, 13, 14  # of the trading day
_ON_HIGH, _ON_LOW = 15, 16  # overnight
_RTH_FIRST = 17
_SETTLE = 18
_OR = 19  # high, low of 5, 15, 30, 60 minutes
# ---- the day before
_P_VWAP, _P_POC, _P_VAH, _P_VAL, _P_HIGH, _P_LOW, _P_SETTLE = range(27, 34)
_ADR, _ADR_N = 34, 35
_ROW = 36  # newest trading day begun, + 1
_WEEK_NO = 37
# ---- profile
_BASE = 38  # tick of the first bin
_BIN_LOW, _BIN_HIGH = 39, 40
_POC = 41  # bin
_TOTAL = 42
_VA_LOW, _VA_HIGH = 43, 44  # bins
_STALE = 45  # 1: the value area must be computed anew
_SECONDS = 46  # whole seconds with a VWAP since the day began
_VWAPS = 64
_POCS = _VWAPS + _SLOPE_S + 1
_HIST = _POCS + _MIGRATION_S + 1
_SIZE = _HIST + _BINS

NEUTRAL = np.zeros(COUNT)


def make_state(tick_size: float) -> Floats:
    """The state before the first event; the tick size is read from `m`."""
    del tick_size
    s = np.zeros(_SIZE)
    s[_HIGH:_ADR] = np.nan
    return s


@kernel
def _add(s: Floats, o: int, price: float, size: float) -> None:
    if s[o + 1] == 0.0:
        s[o] = price
    x = price - s[o]
    s[o + 1] += size
    s[o + 2] += size * x
    s[o + 3] += size * x * x


@kernel
def _vwap(s: Floats, o: int) -> float:
    """NaN while there is no volume."""
    return s[o] + s[o + 2] / s[o + 1] if s[o + 1] > 0.0 else math.nan


@kernel
def _vwap_sd(s: Floats, o: int) -> float:
    if not s[o + 1] > 0.0:
        return 0.0
    mean = s[o + 2] / s[o + 1]
    return math.sqrt(max(s[o + 3] / s[o + 1] - mean * mean, 0.0))


@kernel
def _stretch(s: Floats, high: int, low: int, price: float) -> None:
    """Let the range at `high` and `low` take in `price`; a high of NaN is an empty range."""
    if math.isnan(s[high]):
        s[low] = price
        s[high] = price
    else:
        s[low] = min(s[low], price)
        s[high] = max(s[high], price)


# ---------------------------------------------------------------------------------------------------- volume profile


@kernel
def _recentre(s: Floats, bin_: int) -> int:
    """Move the profile so that `bin_`, which lies outside, lies inside; returns where it is now.

    Half a profile is moved at least, so a move is paid for by the many trades that it takes to leave again.
    """
    if bin_ < 0:
        shift = max(_BINS // 2, -bin_)  # to higher bins
        shift = min(max(_BINS - 1 - int(s[_BIN_HIGH]), -bin_), shift)
    else:
        shift = -max(_BINS // 2, bin_ - _BINS + 1)
        shift = -min(max(int(s[_BIN_LOW]), bin_ - _BINS + 1), -shift)
    low, high = int(s[_BIN_LOW]), int(s[_BIN_HIGH])
    new_low, new_high = max(low + shift, 0), min(high + shift, _BINS - 1)
    if shift > 0:
        for i in range(_BINS - 1, -1, -1):
            s[_HIST + i] = s[_HIST + i - shift] if new_low <= i <= new_high else 0.0
    else:
        for i in range(_BINS):
            s[_HIST + i] = s[_HIST + i - shift] if new_low <= i <= new_high else 0.0
    if new_low > new_high:  # nothing of it is left
        new_low = bin_ + shift
        new_high = new_low
    s[_BASE] -= shift
    for k in range(_MIGRATION_S + 1):
        s[_POCS + k] += shift
    poc, total = new_low, 0.0
    for i in range(new_low, new_high + 1):
        total += s[_HIST + i]
        if s[_HIST + i] > s[_HIST + poc]:
            poc = i
    kept = int(s[_POC]) + shift
    if new_low <= kept <= new_high and s[_HIST + kept] == s[_HIST + poc]:
        poc = kept
    s[_POC] = poc
    s[_TOTAL] = total
    s[_BIN_LOW] = new_low
    s[_BIN_HIGH] = new_high
    return bin_ + shift


@kernel
def _profile(s: Floats, tick: int, size: float) -> None:
    if s[_TOTAL] == 0.0:
        s[_BASE] = tick - _BINS // 2
        s[_BIN_LOW] = _BINS // 2
        s[_BIN_HIGH] = _BINS // 2
        s[_POC] = _BINS // 2
    i = tick - int(s[_BASE])
    if not 0 <= i < _BINS:
        if abs(i) > 4 * _BINS:  # a price this far away is damage
            return
        i = _recentre(s, i)
    s[_HIST + i] += size
    s[_TOTAL] += size
    s[_BIN_LOW] = min(s[_BIN_LOW], i)
    s[_BIN_HIGH] = max(s[_BIN_HIGH], i)
    if s[_HIST + i] > s[_HIST + int(s[_POC])]:
        s[_POC] = i
    s[_STALE] = 1.0


@kernel
def _value_area(s: Floats) -> None:
    """Two pointers from the POC outwards; skipped when no trade came since the last time."""
    if s[_STALE] == 0.0:
        return
    s[_STALE] = 0.0
    low = high = int(s[_POC])
    bottom, top = int(s[_BIN_LOW]), int(s[_BIN_HIGH])
    held, wanted = s[_HIST + low], VALUE_AREA * s[_TOTAL]
    while held < wanted and (low > bottom or high < top):
        above = s[_HIST + high + 1] if high < top else -1.0
        below = s[_HIST + low - 1] if low > bottom else -1.0
        if above >= below:
            high += 1
            held += above
        else:
            low -= 1
            held += below
    s[_VA_LOW] = low
    s[_VA_HIGH] = high


@kernel
def _node(s: Floats, half_ticks: int, step: int, sign: float) -> float:
    """Ticks from the mid to the nearest high (sign 1) or low (sign -1) volume node, at most REACH.

    The mid is `half_ticks` from the first bin. `step` is 1 for the node above, -1 for the one below; one at the mid is
    neither.
    """
    bottom, top = int(s[_BIN_LOW]) + NODE, int(s[_BIN_HIGH]) - NODE
    first = half_ticks // 2 + 1 if step > 0 else (half_ticks - 1) // 2
    for d in range(REACH):
        i = first + d * step
        if (step > 0 and i > top) or (step < 0 and i < bottom):
            break
        if i < bottom or i > top:
            continue
        v = sign * s[_HIST + i]
        peak = True
        for k in range(1, NODE + 1):
            if sign * s[_HIST + i - k] > v or sign * s[_HIST + i + k] > v:
                peak = False
                break
        if peak:
            return min(abs(i - 0.5 * half_ticks), float(REACH))
    return float(REACH)


# -------------------------------------------------------------------------------------------------------------- hooks


@kernel
def on_trade(s: Floats, t: int, m: Floats, cal: Ints, row: int) -> None:
    price, size = m[M_LAST], m[M_SIZE]
    if row < 0 or not bars.valid_trade(price, size):
        return
    if size > 0.0:
        _add(s, _DAY, price, size)
        _add(s, _WEEK, price, size)
        _profile(s, bars.tick_of(price, m[M_TICK]), size)
    _stretch(s, _HIGH, _LOW, price)
    s[_LAST] = price
    rth_open, rth_close = cal[row, CAL_RTH_OPEN], cal[row, CAL_RTH_CLOSE]
    settles = rth_close - (0 if cal[row, CAL_HALF] == 1 else 15 * _MINUTE)
    if t < settles or math.isnan(s[_SETTLE]):
        s[_SETTLE] = price
    if t < rth_open:
        _stretch(s, _ON_HIGH, _ON_LOW, price)
    elif t < rth_close:
        if size > 0.0:
            _add(s, _RTH, price, size)
        if math.isnan(s[_RTH_FIRST]):
            s[_RTH_FIRST] = price
        for k in range(4):
            if t < rth_open + _OPENING[k] * _MINUTE:
                _stretch(s, _OR + 2 * k, _OR + 2 * k + 1, price)


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    if not s[_DAY + 1] > 0.0:
        return
    n = int(s[_SECONDS])
    s[_VWAPS + n % (_SLOPE_S + 1)] = _vwap(s, _DAY)
    s[_POCS + n % (_MIGRATION_S + 1)] = s[_POC]
    s[_SECONDS] = n + 1


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    if not s[_DAY + 1] > 0.0:
        return
    first = int(s[_SECONDS])
    vwap = _vwap(s, _DAY)
    for k in range(first + max(n - _SLOPE_S - 1, 0), first + n):
        s[_VWAPS + k % (_SLOPE_S + 1)] = vwap
    for k in range(first + max(n - _MIGRATION_S - 1, 0), first + n):
        s[_POCS + k % (_MIGRATION_S + 1)] = s[_POC]
    s[_SECONDS] = first + n


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    s[_SECONDS] = 0.0


@kernel
def on_day(s: Floats, m: Floats, cal: Ints, row: int) -> None:
    """Yesterday's levels become the prior day's, and the day begins anew; the week does on its first day."""
    traded = not math.isnan(s[_HIGH])
    if traded:
        s[_ADR_N] = min(s[_ADR_N] + 1.0, 10.0)
        s[_ADR] += (s[_HIGH] - s[_LOW] - s[_ADR]) / s[_ADR_N]
    s[_P_VWAP : _P_SETTLE + 1] = math.nan
    if traded and row == int(s[_ROW]):  # _ROW is one more than the day's row
        s[_P_HIGH] = s[_HIGH]
        s[_P_LOW] = s[_LOW]
        s[_P_SETTLE] = s[_SETTLE]
        if s[_TOTAL] > 0.0:
            _value_area(s)
            s[_P_VWAP] = _vwap(s, _DAY)
            s[_P_POC] = (s[_BASE] + s[_POC]) * m[M_TICK]
            s[_P_VAH] = (s[_BASE] + s[_VA_HIGH]) * m[M_TICK]
            s[_P_VAL] = (s[_BASE] + s[_VA_LOW]) * m[M_TICK]
    if s[_TOTAL] > 0.0:
        s[_HIST + int(s[_BIN_LOW]) : _HIST + int(s[_BIN_HIGH]) + 1] = 0.0
    s[_TOTAL] = 0.0
    s[_STALE] = 0.0
    s[_SECONDS] = 0.0
    s[_DAY : _DAY + 8] = 0.0
    s[_HIGH : _OR + 8] = math.nan
    s[_ROW] = row + 1
    week = (cal[row, CAL_CLOSE] // (86400 * NS) + 3) // 7  # the close falls on the trade date in UTC as well
    if week != int(s[_WEEK_NO]):
        s[_WEEK_NO] = week
        s[_WEEK : _WEEK + 4] = 0.0


@kernel
def _distance(mid: float, level: float, atr: float) -> float:
    return (mid - level) / atr if not math.isnan(level) else 0.0


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats, cal: Ints, row: int) -> None:
    out[FIRST : FIRST + COUNT] = 0.0
    mid, tick = m[M_MID], m[M_TICK]
    if row < 0 or not (abs(mid) < bars.PRICE_LIMIT and m[M_ATR] > 0.0):
        return
    atr = max(m[M_ATR], tick)
    if s[_TOTAL] > 0.0:
        _emit_vwap(s, mid, atr, tick, out)
        _emit_profile(s, mid, atr, tick, out)
    _emit_session(s, t, mid, atr, out, cal[row, CAL_RTH_OPEN])
    nearest = math.floor(mid / _ROUND + 0.5) * _ROUND
    out[FIRST + 42] = (mid - nearest) / atr


@kernel
def _emit_vwap(s: Floats, mid: float, atr: float, tick: float, out: Floats) -> None:
    vwap, sd = _vwap(s, _DAY), _vwap_sd(s, _DAY)
    out[FIRST] = (mid - vwap) / max(sd, tick)
    out[FIRST + 1] = sd / atr
    n = int(s[_SECONDS])
    if n > _SLOPE_S:
        newest = s[_VWAPS + (n - 1) % (_SLOPE_S + 1)]
        out[FIRST + 2] = (newest - s[_VWAPS + n % (_SLOPE_S + 1)]) / atr  # the oldest of the ring is next to go
    out[FIRST + 3] = _distance(mid, _vwap(s, _RTH), atr)
    out[FIRST + 4] = _distance(mid, _vwap(s, _WEEK), atr)
    out[FIRST + 5] = _distance(mid, s[_P_VWAP], atr)


@kernel
def _emit_profile(s: Floats, mid: float, atr: float, tick: float, out: Floats) -> None:
    _value_area(s)
    f = FIRST + 6
    poc = (s[_BASE] + s[_POC]) * tick
    vah = (s[_BASE] + s[_VA_HIGH]) * tick
    val = (s[_BASE] + s[_VA_LOW]) * tick
    out[f] = (mid - poc) / atr
    out[f + 1] = (mid - vah) / atr
    out[f + 2] = (mid - val) / atr
    out[f + 3] = 1.0 if val <= mid <= vah else 0.0
    out[f + 4] = (vah - val) / atr
    n = int(s[_SECONDS])
    if n > _MIGRATION_S:
        newest = s[_POCS + (n - 1) % (_MIGRATION_S + 1)]
        out[f + 5] = (newest - s[_POCS + n % (_MIGRATION_S + 1)]) * tick / atr
    half_ticks = bars.tick_of(2.0 * mid, tick) - 2 * int(s[_BASE])
    out[f + 6] = _node(s, half_ticks, 1, 1.0)
    out[f + 7] = _node(s, half_ticks, -1, 1.0)
    out[f + 8] = _node(s, half_ticks, 1, -1.0)
    out[f + 9] = _node(s, half_ticks, -1, -1.0)
    span = s[_HIGH] - s[_LOW]
    out[f + 10] = (poc - 0.5 * (s[_HIGH] + s[_LOW])) / span if span > 0.0 else 0.0
    last = bars.tick_of(s[_LAST], tick) - int(s[_BASE])
    if 0 <= last < _BINS and s[_HIST + int(s[_POC])] > 0.0:
        out[f + 11] = s[_HIST + last] / s[_HIST + int(s[_POC])]
    out[f + 12] = _distance(mid, s[_P_POC], atr)
    out[f + 13] = _distance(mid, s[_P_VAH], atr)
    out[f + 14] = _distance(mid, s[_P_VAL], atr)


@kernel
def _emit_session(s: Floats, t: int, mid: float, atr: float, out: Floats, rth_open: int) -> None:
    f = FIRST + 21
    out[f] = _distance(mid, s[_HIGH], atr)
    out[f + 1] = _distance(mid, s[_LOW], atr)
    out[f + 2] = _distance(mid, s[_P_HIGH], atr)
    out[f + 3] = _distance(mid, s[_P_LOW], atr)
    out[f + 4] = _distance(mid, s[_P_SETTLE], atr)
    out[f + 5] = _distance(mid, s[_ON_HIGH], atr)
    out[f + 6] = _distance(mid, s[_ON_LOW], atr)
    if not math.isnan(s[_RTH_FIRST]):
        out[f + 7] = _distance(s[_RTH_FIRST], s[_P_SETTLE], atr)
    for k in range(8):
        out[f + 8 + k] = _distance(mid, s[_OR + k], atr)
    high, low = s[_OR + 6], s[_OR + 7]
    if not math.isnan(high) and s[_ADR] > 0.0:
        out[f + 16] = (high - low) / s[_ADR]
    if high > low and t >= rth_open + 60 * _MINUTE:
        out[f + 17] = (max(mid - high, 0.0) + min(mid - low, 0.0)) / (high - low)
    if not math.isnan(s[_P_HIGH]):
        pivot = (s[_P_HIGH] + s[_P_LOW] + s[_P_SETTLE]) / 3.0
        out[f + 18] = (mid - pivot) / atr
        out[f + 19] = (mid - (2.0 * pivot - s[_P_LOW])) / atr
        out[f + 20] = (mid - (2.0 * pivot - s[_P_HIGH])) / atr
