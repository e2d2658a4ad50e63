"""Whose word on the best bid and ask counts, and who the aggressor was.

Three sources may tell the touch: quotes, the book, and trades that carry it (as .scid records do, without sizes). The
better one in this order wins; a lesser one is heard once the better has been silent for SILENT_SOURCE_S.
"""

import math

from mia_daemon.features.kernels.market import (
    M_ASK,
    M_BID,
    M_CROSSED,
    M_HAS_QUOTE,
    M_HAS_SIZES,
    M_LAST,
    M_MID,
    M_NOW,
    M_QA,
    M_QB,
    M_QUOTE_CHANGED,
    M_QUOTE_SEEN,
    M_REF_ASK,
    M_REF_BID,
    M_REF_LAST,
    M_REF_MID,
    M_REF_PREV_ASK,
    M_REF_PREV_BID,
    M_REF_PREV_QA,
    M_REF_PREV_QB,
    M_REF_QA,
    M_REF_QB,
    M_SIDE,
    M_SOURCE,
    M_SOURCE_SEEN,
    Floats,
    kernel,
)

TRADES = 1.0
BOOK = 2.0
QUOTES = 3.0
SILENT_SOURCE_S = 10.0

MAX_PRICE = 1e7
MAX_SIZE = 1e7
"""Beyond these a number is damage; they keep sums of squares finite."""


@kernel
def is_price(price: float) -> bool:
    """Negative and zero prices occur: of crude oil in April 2020, of spreads."""
    return abs(price) <= MAX_PRICE  # False for NaN


@kernel
def size_or_zero(size: float) -> float:
    return size if 0.0 < size <= MAX_SIZE else 0.0


@kernel
def tell_touch(m: Floats, bid: float, ask: float, qb: float, qa: float, source: float) -> bool:
    """Take this touch if its source counts and it is sane; says whether it was taken.

    A side that is not told stays as it was. Crossed touches are kept out, and remembered in M_CROSSED.
    """
    now = m[M_NOW]
    if m[M_SOURCE] > source and now - m[M_SOURCE_SEEN] <= SILENT_SOURCE_S:
        return False
    has_bid = is_price(bid)
    has_ask = is_price(ask)
    if not (has_bid or has_ask):
        return False
    m[M_SOURCE] = source
    m[M_SOURCE_SEEN] = now
    qb = size_or_zero(qb)
    qa = size_or_zero(qa)
    if not has_bid:
        bid = m[M_BID]
        qb = m[M_QB]
    elif source == TRADES and qb == 0.0 and bid == m[M_BID]:
        qb = m[M_QB]
    if not has_ask:
        ask = m[M_ASK]
        qa = m[M_QA]
    elif source == TRADES and qa == 0.0 and ask == m[M_ASK]:
        qa = m[M_QA]
    if math.isnan(bid) or math.isnan(ask):
        return False  # the other side has never been told
    m[M_CROSSED] = 1.0 if bid >= ask else 0.0
    if bid > ask:
        return False
    changed = bid != m[M_BID] or ask != m[M_ASK] or qb != m[M_QB] or qa != m[M_QA]
    m[M_HAS_QUOTE] = 1.0
    m[M_BID] = bid
    m[M_ASK] = ask
    m[M_QB] = qb
    m[M_QA] = qa
    m[M_HAS_SIZES] = 1.0 if qb > 0.0 and qa > 0.0 else 0.0
    m[M_MID] = 0.5 * (bid + ask)
    if changed:
        m[M_QUOTE_CHANGED] = 1.0
        m[M_QUOTE_SEEN] = now
    return True


@kernel
def aggressor(m: Floats, side: int, price: float) -> float:
    """As told; else by the touch; else by the tick rule (Lee & Ready 1991). To be asked before M_LAST is this trade."""
    if side != 0:
        return 1.0 if side > 0 else -1.0
    if m[M_HAS_QUOTE] > 0.0 and m[M_BID] < m[M_ASK]:
        if price >= m[M_ASK]:
            return 1.0
        if price <= m[M_BID]:
            return -1.0
    if math.isnan(m[M_LAST]) or price == m[M_LAST]:
        return float(m[M_SIDE])
    return 1.0 if price > m[M_LAST] else -1.0


@kernel
def tell_reference(m: Floats, bid: float, ask: float, qb: float, qa: float, last: float) -> bool:
    """The reference symbol's touch and last trade; says whether a sane touch came."""
    m[M_REF_PREV_BID] = m[M_REF_BID]
    m[M_REF_PREV_ASK] = m[M_REF_ASK]
    m[M_REF_PREV_QB] = m[M_REF_QB]
    m[M_REF_PREV_QA] = m[M_REF_QA]
    if is_price(last):
        m[M_REF_LAST] = last
        if math.isnan(m[M_REF_BID]):
            m[M_REF_MID] = last
    if not (is_price(bid) and is_price(ask) and bid <= ask):
        return False
    qb = size_or_zero(qb)
    qa = size_or_zero(qa)
    if not math.isnan(last):  # a trade that carries the touch need not know the sizes
        if qb == 0.0 and bid == m[M_REF_BID]:
            qb = m[M_REF_QB]
        if qa == 0.0 and ask == m[M_REF_ASK]:
            qa = m[M_REF_QA]
    m[M_REF_BID] = bid
    m[M_REF_ASK] = ask
    m[M_REF_QB] = qb
    m[M_REF_QA] = qa
    m[M_REF_MID] = 0.5 * (bid + ask)
    return True
