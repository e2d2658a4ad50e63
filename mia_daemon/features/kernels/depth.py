"""Features 12-39: the shape of the book. A level is the k-th populated one; the mid is that of the book."""

import numpy as np

from mia_daemon.features.kernels.book import B_ASK_P, B_ASK_Q, B_BID_P, B_BID_Q, B_NA, B_NB, LEVELS
from mia_daemon.features.kernels.market import M_TICK, Floats, kernel

FIRST = 12
COUNT = 28


def make_state(tick_size: float) -> Floats:
    """The values as of the last consistent book: they change with the book only."""
    del tick_size
    return np.zeros(COUNT)


@kernel
def on_depth(s: Floats, t: int, m: Floats, book: Floats) -> None:
    for i in range(COUNT):
        s[i] = 0.0
    n_bid = int(book[B_NB])
    n_ask = int(book[B_NA])
    if n_bid == 0 or n_ask == 0:
        return
    bid_5 = 0.0
    ask_5 = 0.0
    bid_sum = 0.0
    ask_sum = 0.0
    for k in range(LEVELS):
        qb = book[B_BID_Q + k]
        qa = book[B_ASK_Q + k]
        s[k] = _imbalance(qb, qa)
        bid_sum += qb
        ask_sum += qa
        if k == 2:
            s[10] = _imbalance(bid_sum, ask_sum)
            s[13] = np.log1p(bid_sum)
            s[16] = np.log1p(ask_sum)
        elif k == 4:
            bid_5 = bid_sum
            ask_5 = ask_sum
            s[11] = _imbalance(bid_sum, ask_sum)
            s[14] = np.log1p(bid_sum)
            s[17] = np.log1p(ask_sum)
    s[12] = _imbalance(bid_sum, ask_sum)
    s[15] = np.log1p(bid_sum)
    s[18] = np.log1p(ask_sum)
    tick = m[M_TICK]
    mid = 0.5 * (book[B_BID_P] + book[B_ASK_P])
    s[19] = _slope(book, B_BID_P, B_BID_Q, n_bid, mid, tick)
    s[20] = _slope(book, B_ASK_P, B_ASK_Q, n_ask, mid, tick)
    s[21] = _cost(book, B_ASK_P, B_ASK_Q, n_ask, mid, tick, 10.0)
    s[22] = _cost(book, B_ASK_P, B_ASK_Q, n_ask, mid, tick, 50.0)
    s[23] = _cost(book, B_BID_P, B_BID_Q, n_bid, mid, tick, 10.0)
    s[24] = _cost(book, B_BID_P, B_BID_Q, n_bid, mid, tick, 50.0)
    s[25] = _wall(book, B_BID_P, B_BID_Q, n_bid, tick)
    s[26] = _wall(book, B_ASK_P, B_ASK_Q, n_ask, tick)
    s[27] = (bid_sum + ask_sum) / (2.0 * (bid_5 + ask_5)) - 1.0


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    for i in range(COUNT):
        out[FIRST + i] = s[i]


@kernel
def _imbalance(qb: float, qa: float) -> float:
    return (qb - qa) / (qb + qa) if qb + qa > 0.0 else 0.0


@kernel
def _slope(book: Floats, prices: int, sizes: int, n: int, mid: float, tick: float) -> float:
    """Least squares slope of cumulative quantity on distance from the mid in ticks; 0 with fewer than 3 levels."""
    if n < 3:
        return 0.0
    origin = abs(book[prices] - mid) / tick
    sx = 0.0
    sy = 0.0
    sxx = 0.0
    sxy = 0.0
    total = 0.0
    for k in range(n):
        x = abs(book[prices + k] - mid) / tick - origin
        total += book[sizes + k]
        sx += x
        sy += total
        sxx += x * x
        sxy += x * total
    return (n * sxy - sx * sy) / (n * sxx - sx * sx)


@kernel
def _cost(book: Floats, prices: int, sizes: int, n: int, mid: float, tick: float, lots: float) -> float:
    """Distance in ticks of the average price of `lots` from the mid; what the book can't fill, at its last level."""
    left = lots
    paid = 0.0
    for k in range(n):
        take = min(left, book[sizes + k])
        if k == n - 1:
            take = left
        paid += take * abs(book[prices + k] - mid)
        left -= take
        if left <= 0.0:
            break
    return paid / lots / tick


@kernel
def _wall(book: Floats, prices: int, sizes: int, n: int, tick: float) -> float:
    """Ticks from the touch to the largest level, the nearest of equals."""
    largest = 0
    for k in range(1, n):
        if book[sizes + k] > book[sizes + largest]:
            largest = k
    return float(abs(book[prices + largest] - book[prices]) / tick)
