"""Features 160-184: what trading costs and moves: price impact, spreads paid, flow toxicity, resilience of the book.

Amihud's ratio passes over seconds in which the mid was not positive, and Hasbrouck's takes the price without its sign.
"""

import math

import numpy as np

from mia_daemon.features.kernels import bars
from mia_daemon.features.kernels.book import B_ASK_Q, B_BID_Q, B_NB
from mia_daemon.features.kernels.market import (
    M_HAS_QUOTE,
    M_LAST,
    M_MID,
    M_NOW,
    M_PREV_LAST,
    M_PREV_MID,
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

FIRST = 160
COUNT = 25

HORIZONS = np.array([60.0, 300.0, 900.0, 3600.0])
DECAYS = np.exp(-1.0 / HORIZONS)
DELAY_S = 5.0  # of realised spread and impact
QUEUE = 1 << 15  # trades waiting for their mid; the oldest go first when 5 s bring more
BUCKETS = 50
DAY_VOLUME = 100_000.0  # contracts; until a day has been seen
DEPTH_MEAN_S = 60.0
RECOVERY_MEAN_S = 300.0
MAX_SPEED = 100.0  # 1/s

_AT = 0  # M_NOW of the last trade counted
_DP = 1  # change of price of the last trade, ticks
_DP_KNOWN = 2
_DAY = 3  # contracts traded since the trading day began
_ROOT = 4  # sum of s sqrt(|p| v) in this second
_MATURED_AT = 5  # when the last queued trade got its mid
_HEAD = 6  # of the queue: oldest
_WAITING = 7
_IMPACT = 8  # 4 x (w, x, y, xx, xy): x signed volume, y change of mid in ticks, per second
_SQRT_IMPACT = 28  # 3 x the same, x = s sqrt(|p| v)
_AMIHUD = 43  # 4 x (weight, mean); they do not decay between seconds with volume but by _AMIHUD_AGE
_AMIHUD_AGE = 51  # seconds since
_ROLL = 52  # 3 x (w, x, y, xy): changes of price of a trade and of the one before
_PAID = 64  # 3 x (weight, mean of 2 s (p - m)), ticks
_LATER = 70  # 2 x (weight, mean realised, mean impact), ticks
_VPIN = 76  # 2 x (bucket volume, filled, bought - sold, buckets full, next slot, sum of the ring)
_SIDES = (
    88  # 2 sides x (mean depth_5, weight, depleted since or -1, mean then, speed weight, speed mean, last recovery)
)
_BOOK_AT = 102
_RINGS = 104  # 2 x BUCKETS of |bought - sold|
_QUEUE_AT = _RINGS + 2 * BUCKETS
_QUEUE_SIDE = _QUEUE_AT + QUEUE
_QUEUE_PRICE = _QUEUE_SIDE + QUEUE
_QUEUE_MID = _QUEUE_PRICE + QUEUE
_SIZE = _QUEUE_MID + QUEUE


def make_state(tick_size: float) -> Floats:
    """Sums, a queue of trades and two rings of volume buckets; `tick_size` is not needed."""
    del tick_size
    s = np.zeros(_SIZE)
    s[_VPIN] = DAY_VOLUME / 50.0
    s[_VPIN + 6] = DAY_VOLUME / 200.0
    s[_SIDES + 2] = -1.0
    s[_SIDES + 9] = -1.0
    return s


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    mature(s, m, m[M_PREV_MID])
    dt = m[M_NOW] - s[_AT]
    s[_AT] = m[M_NOW]
    side = m[M_SIDE]
    price = m[M_LAST]
    tick = m[M_TICK]
    s[_DAY] += m[M_SIZE]
    s[_ROOT] += side * math.sqrt(abs(price) * m[M_SIZE])
    quoted = m[M_HAS_QUOTE] > 0.0 and side != 0.0
    paid = 2.0 * side * (price - m[M_MID]) / tick
    changed = not math.isnan(m[M_PREV_LAST])
    step = (price - m[M_PREV_LAST]) / tick
    for j in range(3):
        decay = math.exp(-dt / HORIZONS[j]) if dt > 0.0 else 1.0
        i = _PAID + 2 * j
        s[i] *= decay
        if quoted:
            s[i] += 1.0
            s[i + 1] += (paid - s[i + 1]) / s[i]
        i = _ROLL + 4 * j
        for k in range(4):
            s[i + k] *= decay
        if changed and s[_DP_KNOWN] > 0.0:
            s[i] += 1.0
            s[i + 1] += step
            s[i + 2] += s[_DP]
            s[i + 3] += step * s[_DP]
    if changed:
        s[_DP] = step
        s[_DP_KNOWN] = 1.0
    if quoted:
        _enqueue(s, m[M_NOW], side, price, m[M_MID])
    if side != 0.0:
        _fill_buckets(s, 0, m[M_SIZE], side)
        _fill_buckets(s, 1, m[M_SIZE], side)


@kernel
def on_quote(s: Floats, t: int, m: Floats) -> None:
    mature(s, m, m[M_PREV_MID])


@kernel
def _enqueue(s: Floats, now: float, side: float, price: float, mid: float) -> None:
    if s[_WAITING] >= QUEUE:
        s[_HEAD] = (int(s[_HEAD]) + 1) & (QUEUE - 1)
        s[_WAITING] -= 1.0
    slot = (int(s[_HEAD]) + int(s[_WAITING])) & (QUEUE - 1)
    s[_QUEUE_AT + slot] = now
    s[_QUEUE_SIDE + slot] = side
    s[_QUEUE_PRICE + slot] = price
    s[_QUEUE_MID + slot] = mid
    s[_WAITING] += 1.0


@kernel
def mature(s: Floats, m: Floats, mid: float) -> None:
    """Give trades whose 5 s are over their mid: the one in force until this event."""
    while s[_WAITING] > 0.0:
        head = int(s[_HEAD])
        due = s[_QUEUE_AT + head] + DELAY_S
        if due > m[M_NOW]:
            break
        side = s[_QUEUE_SIDE + head]
        realised = 2.0 * side * (s[_QUEUE_PRICE + head] - mid) / m[M_TICK]
        impact = 2.0 * side * (mid - s[_QUEUE_MID + head]) / m[M_TICK]
        dt = due - s[_MATURED_AT]
        s[_MATURED_AT] = due
        for j in range(2):
            i = _LATER + 3 * j
            s[i] = s[i] * (math.exp(-dt / HORIZONS[j]) if dt > 0.0 else 1.0) + 1.0
            s[i + 1] += (realised - s[i + 1]) / s[i]
            s[i + 2] += (impact - s[i + 2]) / s[i]
        s[_HEAD] = (head + 1) & (QUEUE - 1)
        s[_WAITING] -= 1.0


@kernel
def _fill_buckets(s: Floats, which: int, size: float, side: float) -> None:
    i = _VPIN + 6 * which
    ring = _RINGS + BUCKETS * which
    left = min(size, (BUCKETS + 1) * s[i])  # more would only go round the ring again
    while left > 0.0:
        take = min(left, s[i] - s[i + 1])
        s[i + 1] += take
        s[i + 2] += side * take
        left -= take
        if s[i + 1] >= s[i]:
            s[ring + int(s[i + 4])] = abs(s[i + 2])
            s[i + 4] = (s[i + 4] + 1.0) % BUCKETS
            s[i + 3] = min(s[i + 3] + 1.0, BUCKETS)
            s[i + 1] = 0.0
            s[i + 2] = 0.0
            total = 0.0
            for k in range(BUCKETS):
                total += s[ring + k]
            s[i + 5] = total


@kernel
def _restart_buckets(s: Floats, which: int, volume: float) -> None:
    i = _VPIN + 6 * which
    s[i] = volume
    for k in range(1, 6):
        s[i + k] = 0.0
    for k in range(BUCKETS):
        s[_RINGS + BUCKETS * which + k] = 0.0


@kernel
def on_second(s: Floats, sec: int, m: Floats) -> None:
    volume = m[M_SEC_BUY] + m[M_SEC_SELL]
    signed = m[M_SEC_BUY] - m[M_SEC_SELL]
    moved = (m[M_SEC_MID] - m[M_SEC_PREV_MID]) / m[M_TICK]
    if math.isnan(moved):
        moved = 0.0
    for j in range(4):
        _add(s, _IMPACT + 5 * j, DECAYS[j], signed, moved)
        if j < 3:
            _add(s, _SQRT_IMPACT + 5 * j, DECAYS[j], s[_ROOT], moved)
    s[_ROOT] = 0.0
    s[_AMIHUD_AGE] += 1.0
    if volume > 0.0 and bars.has_log(m[M_SEC_PREV_MID]) and bars.has_log(m[M_SEC_MID]):
        illiquidity = 1e6 * abs(math.log(m[M_SEC_MID] / m[M_SEC_PREV_MID])) / volume
        for j in range(4):
            i = _AMIHUD + 2 * j
            s[i] = s[i] * math.exp(-s[_AMIHUD_AGE] / HORIZONS[j]) + 1.0
            s[i + 1] += (illiquidity - s[i + 1]) / s[i]
        s[_AMIHUD_AGE] = 0.0


@kernel
def on_silence(s: Floats, sec: int, n: int, m: Floats) -> None:
    for j in range(4):
        decay = math.exp(-n / HORIZONS[j])
        weight = (1.0 - decay) / (1.0 - DECAYS[j])
        i = _IMPACT + 5 * j
        s[i] = s[i] * decay + weight
        for k in range(1, 5):
            s[i + k] *= decay
        if j < 3:
            i = _SQRT_IMPACT + 5 * j
            s[i] = s[i] * decay + weight
            for k in range(1, 5):
                s[i + k] *= decay
    s[_AMIHUD_AGE] += n


@kernel
def _add(s: Floats, i: int, decay: float, x: float, y: float) -> None:
    s[i] = s[i] * decay + 1.0
    s[i + 1] = s[i + 1] * decay + x
    s[i + 2] = s[i + 2] * decay + y
    s[i + 3] = s[i + 3] * decay + x * x
    s[i + 4] = s[i + 4] * decay + x * y


@kernel
def on_depth(s: Floats, t: int, m: Floats, book: Floats) -> None:
    dt = m[M_NOW] - s[_BOOK_AT]
    s[_BOOK_AT] = m[M_NOW]
    decay = math.exp(-dt / DEPTH_MEAN_S) if dt > 0.0 else 1.0
    for which in range(2):
        sizes = B_BID_Q if which == 0 else B_ASK_Q
        depth = 0.0
        for k in range(5):
            depth += book[sizes + k]
        i = _SIDES + 7 * which
        if s[i + 2] >= 0.0:
            if depth >= 0.9 * s[i + 3]:
                speed = min(1.0 / max(m[M_NOW] - s[i + 2], 1e-9), MAX_SPEED)
                s[i + 4] = s[i + 4] * math.exp((s[i + 6] - m[M_NOW]) / RECOVERY_MEAN_S) + 1.0
                s[i + 5] += (speed - s[i + 5]) / s[i + 4]
                s[i + 6] = m[M_NOW]
                s[i + 2] = -1.0
        elif s[i + 1] > 0.0 and depth <= 0.5 * s[i] and book[B_NB + which] > 0.0:
            s[i + 2] = m[M_NOW]
            s[i + 3] = s[i]
        s[i + 1] = s[i + 1] * decay + 1.0
        s[i] += (depth - s[i]) / s[i + 1]


@kernel
def on_day(s: Floats, m: Floats, cal: Ints, row: int) -> None:
    if s[_DAY] > 0.0:
        _restart_buckets(s, 0, max(math.floor(s[_DAY] / 50.0), 1.0))
        _restart_buckets(s, 1, max(math.floor(s[_DAY] / 200.0), 1.0))
    s[_DAY] = 0.0


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    day = s[_DAY]
    for i in range(_VPIN):
        s[i] = 0.0
    s[_DAY] = day
    for which in range(2):
        _restart_buckets(s, which, s[_VPIN + 6 * which])
        for k in range(7):
            s[_SIDES + 7 * which + k] = -1.0 if k == 2 else 0.0


@kernel
def _beta(s: Floats, i: int) -> float:
    if s[i] <= 1.5:
        return 0.0
    mean = s[i + 1] / s[i]
    square = s[i + 3] / s[i]
    variance = square - mean * mean
    return (s[i + 4] / s[i] - mean * s[i + 2] / s[i]) / variance if variance > max(1e-12 * square, 1e-9) else 0.0


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    mature(s, m, m[M_MID])
    for j in range(4):
        out[FIRST + j] = _beta(s, _IMPACT + 5 * j)
        out[FIRST + 4 + j] = s[_AMIHUD + 2 * j + 1]
    for j in range(3):
        i = _ROLL + 4 * j
        # a weight this small is what rounding leaves of trades long past
        if s[i] > 1e-9:
            covariance = s[i + 3] / s[i] - s[i + 1] / s[i] * (s[i + 2] / s[i])
            out[FIRST + 8 + j] = 2.0 * math.sqrt(max(0.0, -covariance))
        else:
            out[FIRST + 8 + j] = 0.0
        out[FIRST + 11 + j] = s[_PAID + 2 * j + 1]
        out[FIRST + 20 + j] = _beta(s, _SQRT_IMPACT + 5 * j)
    for j in range(2):
        out[FIRST + 14 + j] = s[_LATER + 3 * j + 1]
        out[FIRST + 16 + j] = s[_LATER + 3 * j + 2]
        i = _VPIN + 6 * j
        out[FIRST + 18 + j] = s[i + 5] / (s[i + 3] * s[i]) if s[i + 3] > 0.0 else 0.0
        out[FIRST + 23 + j] = s[_SIDES + 7 * j + 5]
