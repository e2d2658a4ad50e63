"""Features 40-74: order flow imbalance, additions and cancellations at the touch, and how often the touch changes.

All are exponentially weighted with the horizon as mean age. A mean is kept as the pair (weight, mean), which stays
exact when the weight decays to nothing; it does not decay between events.
"""

import math

import numpy as np

from mia_daemon.features.constants import DEFAULTS, FittedConstants
from mia_daemon.features.kernels.book import B_ASK_P, B_ASK_Q, B_BID_P, B_BID_Q, LEVELS
from mia_daemon.features.kernels.market import (
    M_ASK,
    M_BID,
    M_HAS_SIZES,
    M_LAST,
    M_NOW,
    M_PREV_ASK,
    M_PREV_BID,
    M_PREV_QA,
    M_PREV_QB,
    M_QA,
    M_QB,
    M_QUOTE_CHANGED,
    M_SIDE,
    M_SIZE,
    Floats,
    kernel,
)

FIRST = 40
COUNT = 35

HORIZONS = np.array([1.0, 5.0, 30.0, 120.0, 600.0])
RATE_HORIZONS = np.array([1.0, 10.0, 60.0])

_QUOTE_AT = 0  # M_NOW of the last quote counted
_BOOK_AT = 1
_SOLD = 2  # contracts that traded at the bid since the last quote with sizes
_BOUGHT = 3
_BOOKS = 4  # consistent books seen
_E = 5  # 5 x (sum of e, weight, mean touch size)
_RATES = 20  # 3 x (added bid, added ask, cancelled bid, cancelled ask, weight, mean touch size, count of changes)
_DEEP = 41  # 5 x (sum of mean e_1..5, weight, mean size of 10 levels, sum of weighted mean e_1..10)
_OLD = 61  # the ten levels before: bid prices, bid sizes, ask prices, ask sizes
_WEIGHTS = _OLD + 4 * LEVELS  # of the ten levels; from here on fitted, not reset
_SHARE = _WEIGHTS + LEVELS  # 1 / sum of their magnitudes
_SIZE = _SHARE + 1


def make_state(tick_size: float, constants: FittedConstants = DEFAULTS) -> Floats:
    """Sums, and the ten levels of the last consistent book; `tick_size` is not needed."""
    del tick_size
    s = np.zeros(_SIZE)
    s[_WEIGHTS:_SHARE] = constants.level_weights
    s[_SHARE] = 1.0 / np.abs(s[_WEIGHTS:_SHARE]).sum()
    return s


@kernel
def imbalance_of(
    bid: float,
    qb: float,
    ask: float,
    qa: float,
    old_bid: float,
    old_qb: float,
    old_ask: float,
    old_qa: float,
) -> float:
    """e_n of Cont, Kukanov & Stoikov (2014), eq. 2, at one level; a side without size, now or before, gives nothing."""
    e = 0.0
    if qb > 0.0 and old_qb > 0.0:
        if bid >= old_bid:
            e += qb
        if bid <= old_bid:
            e -= old_qb
    if qa > 0.0 and old_qa > 0.0:
        if ask <= old_ask:
            e -= qa
        if ask >= old_ask:
            e += old_qa
    return e


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    if m[M_SIDE] < 0.0 and m[M_LAST] <= m[M_BID]:
        s[_SOLD] += m[M_SIZE]
    elif m[M_SIDE] > 0.0 and m[M_LAST] >= m[M_ASK]:
        s[_BOUGHT] += m[M_SIZE]


@kernel
def on_quote(s: Floats, t: int, m: Floats) -> None:
    dt = m[M_NOW] - s[_QUOTE_AT]
    s[_QUOTE_AT] = m[M_NOW]
    sized = m[M_HAS_SIZES] > 0.0
    flow = 0.0
    add_bid = 0.0
    cut_bid = 0.0
    add_ask = 0.0
    cut_ask = 0.0
    if sized and m[M_PREV_QB] > 0.0 and m[M_PREV_QA] > 0.0:
        flow = imbalance_of(
            m[M_BID], m[M_QB], m[M_ASK], m[M_QA], m[M_PREV_BID], m[M_PREV_QB], m[M_PREV_ASK], m[M_PREV_QA]
        )
        change = _resting(m[M_BID] - m[M_PREV_BID], m[M_QB], m[M_PREV_QB], s[_SOLD])
        add_bid = max(change, 0.0)
        cut_bid = max(-change, 0.0)
        change = _resting(m[M_PREV_ASK] - m[M_ASK], m[M_QA], m[M_PREV_QA], s[_BOUGHT])
        add_ask = max(change, 0.0)
        cut_ask = max(-change, 0.0)
    if sized:
        s[_SOLD] = 0.0
        s[_BOUGHT] = 0.0
    size = 0.5 * (m[M_QB] + m[M_QA])
    for j in range(5):
        i = _E + 3 * j
        decay = math.exp(-dt / HORIZONS[j]) if dt > 0.0 else 1.0
        s[i] = s[i] * decay + flow
        if sized:
            s[i + 1] = s[i + 1] * decay + 1.0
            s[i + 2] += (size - s[i + 2]) / s[i + 1]
        else:
            s[i + 1] *= decay
    for j in range(3):
        i = _RATES + 7 * j
        decay = math.exp(-dt / RATE_HORIZONS[j]) if dt > 0.0 else 1.0
        s[i] = s[i] * decay + add_bid
        s[i + 1] = s[i + 1] * decay + add_ask
        s[i + 2] = s[i + 2] * decay + cut_bid
        s[i + 3] = s[i + 3] * decay + cut_ask
        if sized:
            s[i + 4] = s[i + 4] * decay + 1.0
            s[i + 5] += (size - s[i + 5]) / s[i + 4]
        else:
            s[i + 4] *= decay
        s[i + 6] = s[i + 6] * decay + m[M_QUOTE_CHANGED]


@kernel
def _resting(step: float, size: float, old_size: float, traded: float) -> float:
    """Contracts added (positive) or cancelled at the best price; `step` > 0 when the price improved."""
    if step > 0.0:
        return size
    if step < 0.0:
        return min(traded - old_size, 0.0)
    return size - old_size + traded


@kernel
def on_depth(s: Floats, t: int, m: Floats, book: Floats) -> None:
    dt = m[M_NOW] - s[_BOOK_AT]
    s[_BOOK_AT] = m[M_NOW]
    flow_5 = 0.0
    flow_10 = 0.0  # weighted
    depth_5 = 0.0
    for k in range(LEVELS):
        qb = book[B_BID_Q + k]
        qa = book[B_ASK_Q + k]
        flow = imbalance_of(
            book[B_BID_P + k],
            qb,
            book[B_ASK_P + k],
            qa,
            s[_OLD + k],
            s[_OLD + LEVELS + k],
            s[_OLD + 2 * LEVELS + k],
            s[_OLD + 3 * LEVELS + k],
        )
        flow_10 += s[_WEIGHTS + k] * flow
        s[_OLD + k] = book[B_BID_P + k]
        s[_OLD + LEVELS + k] = qb
        s[_OLD + 2 * LEVELS + k] = book[B_ASK_P + k]
        s[_OLD + 3 * LEVELS + k] = qa
        if k < 5:
            depth_5 += qb + qa
            flow_5 += flow
    for j in range(5):
        i = _DEEP + 4 * j
        decay = math.exp(-dt / HORIZONS[j]) if dt > 0.0 else 1.0
        s[i] = s[i] * decay + 0.2 * flow_5
        s[i + 1] = s[i + 1] * decay + 1.0
        s[i + 2] += (0.1 * depth_5 - s[i + 2]) / s[i + 1]
        s[i + 3] = s[i + 3] * decay + s[_SHARE] * flow_10


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    for i in range(_WEIGHTS):
        s[i] = 0.0


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    dt = m[M_NOW] - s[_QUOTE_AT]
    for j in range(5):
        i = _E + 3 * j
        flow = s[i] * math.exp(-dt / HORIZONS[j])
        out[FIRST + j] = flow
        out[FIRST + 5 + j] = flow / s[i + 2] if s[i + 2] > 0.0 else 0.0
    for j in range(3):
        i = _RATES + 7 * j
        h = RATE_HORIZONS[j]
        rate = math.exp(-dt / h) / h
        share = rate / s[i + 5] if s[i + 5] > 0.0 else 0.0
        for kind in range(4):
            out[FIRST + 20 + 3 * kind + j] = s[i + kind] * share
        out[FIRST + 32 + j] = s[i + 6] * rate
    dt = m[M_NOW] - s[_BOOK_AT]
    for j in range(5):
        i = _DEEP + 4 * j
        decay = math.exp(-dt / HORIZONS[j])
        out[FIRST + 10 + j] = s[i] * decay / s[i + 2] if s[i + 2] > 0.0 else 0.0
        out[FIRST + 15 + j] = s[i + 3] * decay
