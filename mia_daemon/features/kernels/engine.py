"""Events through all families until a decision falls due: one compiled function, one flat float64 state.

The state is the families' states one after another; the clock is int64, because nanoseconds don't fit in a float.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_daemon.features.constants import DEFAULTS, FittedConstants
from mia_daemon.features.kernels import (
    bar,
    book,
    clock,
    cplx,
    cross,
    depth,
    dq,
    flow,
    l1_state,
    level,
    liq,
    market,
    ofi,
    ta,
    touch,
    vol,
)
from mia_daemon.features.kernels.market import (
    CAL_CLOSE,
    CAL_OPEN,
    M_ASK,
    M_BID,
    M_COUNT,
    M_CROSSED,
    M_DEPTH_SEEN,
    M_FLAGS,
    M_GAP_SEEN,
    M_HAS_QUOTE,
    M_HAS_SIZES,
    M_LAG_MS,
    M_LAST,
    M_MID,
    M_NOW,
    M_ORIGIN,
    M_PREV_ASK,
    M_PREV_BID,
    M_PREV_LAST,
    M_PREV_MID,
    M_PREV_QA,
    M_PREV_QB,
    M_QA,
    M_QB,
    M_QUOTE_CHANGED,
    M_REF_MID,
    M_REF_SEEN,
    M_SEC_BUY,
    M_SEC_LAST,
    M_SEC_MID,
    M_SEC_PREV_LAST,
    M_SEC_PREV_MID,
    M_SEC_REF_MID,
    M_SEC_REF_PREV_MID,
    M_SEC_SELL,
    M_SEC_TRADES,
    M_SEEN,
    M_SIDE,
    M_SIZE,
    M_SOURCE,
    M_TRADE_SEEN,
    M_TRADES,
    MAX_SILENT_S,
    NS,
    Floats,
    Ints,
    inlined,
    kernel,
)
from mia_daemon.features.kernels.touch import BOOK, MAX_SIZE, QUOTES, TRADES
from mia_daemon.products.trading_calendar import NO_EVENTS, MacroEvents
from mia_daemon.records import EventArray

# ---- the clock
C_STARTED = 0
C_NEWEST = 1  # time of the newest event, ns
C_SECOND = 2  # the second it lies in
C_INTERVAL = 3  # between decisions, ns
C_BOUNDARY = 4  # next time at which a decision falls due; 0 before the traded symbol's first event
C_DECISIONS = 5  # so far
C_DUE = 6  # 1 when the last call ended with a decision
C_QUALITY = 7  # Quality bits of the last decision
C_ROW = 8  # trading day in the calendar
C_WARM = 9  # event time seen since the start or the last long silence, ns, without that before a GAP
C_BACK = 10  # events older than one before them
C_BACK_AT = 11  # when the last of them came; 0 never
C_BAD = 12  # events left out
C_BAD_AT = 13
C_WARMUP = 14  # event time to see before decisions count as warm, ns
C_NOT_FINITE = 15  # values a kernel left not finite or beyond LIMIT; 0 unless a kernel is wrong
C_SIZE = 16

LIMIT = 1e9  # of a feature's absolute value
LATEST_NS = 1 << 62  # year 2116: a later time is damage

_TRADE, _QUOTE, _DEPTH, _GAP, _TIMER, _STATUS = 1, 2, 3, 4, 5, 6  # EventKind
_BATCH_END = 4  # EventFlag
_MINUTE_S = 60.0
_STALE_S = 10.0


def _offsets() -> list[int]:
    """Where each part of the state begins, in the order of `make_state`."""
    return [0, *np.cumsum([len(part) for part in _parts(0.25, NO_EVENTS, DEFAULTS)]).tolist()]


def _parts(tick_size: float, events: MacroEvents, constants: FittedConstants) -> list[Floats]:
    return [
        market.make_state(tick_size),
        book.make_state(tick_size),
        l1_state.make_state(tick_size, constants),
        depth.make_state(tick_size),
        ofi.make_state(tick_size, constants),
        flow.make_state(tick_size, constants),
        *(family.make_state(tick_size) for family in (vol, liq, cplx, ta, bar, level, cross, dq)),
        clock.make_state(tick_size, events),
    ]


M0, BOOK0, L10, DEPTH0, OFI0, FLOW0, VOL0, LIQ0, CPLX0, TA0, BAR0, LEVEL0, CROSS0, DQ0, CLOCK0, _ = _offsets()


def make_state(tick_size: float, events: MacroEvents = NO_EVENTS, constants: FittedConstants = DEFAULTS) -> Floats:
    """The whole state before the first event; the clock family, whose length depends on `events`, comes last."""
    return np.concatenate(_parts(tick_size, events, constants))


def make_clock(interval_ns: int, warmup_ns: int) -> Ints:
    """The clock before the first event."""
    clock_ = np.zeros(C_SIZE, np.int64)
    clock_[C_INTERVAL] = interval_ns
    clock_[C_WARMUP] = warmup_ns
    clock_[C_ROW] = -1
    return clock_


@kernel
def run(events: EventArray, start: int, state: Floats, cal: Ints, c: Ints, out: NDArray[np.float32]) -> int:
    """Apply events from `start` on until a decision falls due or they end.

    Args:
        events: (n,) of dtype MARKET_EVENT, contiguous, aligned and writeable (though it is not written to).
        start: index of the first event to apply.
        state: from `make_state`; owned by the caller, changed.
        cal: (days, 6) int64, see `market`; may be empty.
        c: from `make_clock`; owned by the caller, changed.
        out: (350,) float32; written when a decision is due.

    Returns:
        Index of the first event not applied. `c[C_DUE]` says whether a decision fell due at the one before it.
    """
    c[C_DUE] = 0
    for i in range(start, len(events)):
        e = events[i]
        if not 0 < e.ts_ns < LATEST_NS or e.symbol > 1:
            c[C_BAD] += 1
            c[C_BAD_AT] = c[C_NEWEST]
            continue
        _move_time(state, cal, c, e.ts_ns, e.kind == _GAP)
        t = c[C_NEWEST]
        if e.kind != _TIMER:
            m = state[M0:BOOK0]
            lag = (e.recv_ns - e.ts_ns) / 1e6
            m[M_LAG_MS] = min(max(lag, -3.6e6), 3.6e6)
            dq.on_event(state[DQ0:CLOCK0], t, m)
        if e.symbol == 1:
            _apply_reference(state, t, e)
            continue
        if not _apply(state, cal, c, t, e):
            c[C_BAD] += 1
            c[C_BAD_AT] = t
        if c[C_BOUNDARY] == 0:
            c[C_BOUNDARY] = (t // c[C_INTERVAL] + 1) * c[C_INTERVAL]
        elif t >= c[C_BOUNDARY]:
            c[C_BOUNDARY] = (t // c[C_INTERVAL] + 1) * c[C_INTERVAL]
            c[C_DECISIONS] += 1
            c[C_DUE] = 1
            _emit(state, cal, c, t, out)
            return i + 1
    return len(events)


# ---------------------------------------------------------------------------------------------------------------- time


@inlined
def _move_time(state: Floats, cal: Ints, c: Ints, ts_ns: int, after_gap: bool) -> None:  # noqa: FBT001  # numba
    m = state[M0:BOOK0]
    second = ts_ns // NS
    if c[C_STARTED] == 0:
        c[C_STARTED] = 1
        c[C_NEWEST] = ts_ns
        c[C_SECOND] = second
        m[M_ORIGIN] = second - second % 86400
    if ts_ns < c[C_NEWEST]:
        c[C_BACK] += 1
        c[C_BACK_AT] = c[C_NEWEST]
        return
    if second > c[C_SECOND]:
        _end_seconds(state, c, second)
    if not after_gap:
        c[C_WARM] += ts_ns - c[C_NEWEST]
    c[C_NEWEST] = ts_ns
    m[M_NOW] = (ts_ns - np.int64(m[M_ORIGIN]) * NS) / 1e9
    row = c[C_ROW]
    if row + 1 < len(cal) and cal[row + 1, CAL_OPEN] <= ts_ns:
        row = int(np.searchsorted(cal[:, CAL_OPEN], ts_ns, side="right")) - 1
        c[C_ROW] = row
        _on_day(state, cal, row)


@inlined
def _end_seconds(state: Floats, c: Ints, second: int) -> None:
    """Close the second of the newest event, and the silent ones up to `second`."""
    m = state[M0:BOOK0]
    m[M_SEC_MID] = m[M_MID]
    m[M_SEC_LAST] = m[M_LAST]
    m[M_SEC_REF_MID] = m[M_REF_MID]
    ended = c[C_SECOND]
    m[M_NOW] = ended + 1 - m[M_ORIGIN]
    _on_second(state, ended)
    m[M_SEC_PREV_MID] = m[M_SEC_MID]
    m[M_SEC_PREV_LAST] = m[M_SEC_LAST]
    m[M_SEC_REF_PREV_MID] = m[M_SEC_REF_MID]
    m[M_SEC_BUY] = 0.0
    m[M_SEC_SELL] = 0.0
    m[M_SEC_TRADES] = 0.0
    silent = second - ended - 1
    if silent > MAX_SILENT_S:
        _on_gap(state)
        market.forget_prices(m)
        c[C_WARM] = -(second * NS - c[C_NEWEST])  # what `_move_time` adds for the silence
    elif silent > 0:
        _on_silence(state, ended + 1, silent)
    c[C_SECOND] = second


@inlined
def _on_second(state: Floats, sec: int) -> None:
    m = state[M0:BOOK0]
    flow.on_second(state[FLOW0:VOL0], sec, m)
    liq.on_second(state[LIQ0:CPLX0], sec, m)
    cross.on_second(state[CROSS0:DQ0], sec, m)
    vol.on_second(state[VOL0:LIQ0], sec, m)
    cplx.on_second(state[CPLX0:TA0], sec, m)
    ta.on_second(state[TA0:BAR0], sec, m)
    bar.on_second(state[BAR0:LEVEL0], sec, m)
    level.on_second(state[LEVEL0:CROSS0], sec, m)


@inlined
def _on_silence(state: Floats, sec: int, n: int) -> None:
    m = state[M0:BOOK0]
    m[M_NOW] = sec + n - m[M_ORIGIN]
    vol.on_silence(state[VOL0:LIQ0], sec, n, m)
    cplx.on_silence(state[CPLX0:TA0], sec, n, m)
    ta.on_silence(state[TA0:BAR0], sec, n, m)
    bar.on_silence(state[BAR0:LEVEL0], sec, n, m)
    level.on_silence(state[LEVEL0:CROSS0], sec, n, m)
    flow.on_silence(state[FLOW0:VOL0], sec, n, m)
    liq.on_silence(state[LIQ0:CPLX0], sec, n, m)
    cross.on_silence(state[CROSS0:DQ0], sec, n, m)


@inlined
def _on_gap(state: Floats) -> None:
    m = state[M0:BOOK0]
    l1_state.on_gap(state[L10:DEPTH0], m)
    ofi.on_gap(state[OFI0:FLOW0], m)
    flow.on_gap(state[FLOW0:VOL0], m)
    vol.on_gap(state[VOL0:LIQ0], m)
    liq.on_gap(state[LIQ0:CPLX0], m)
    cplx.on_gap(state[CPLX0:TA0], m)
    ta.on_gap(state[TA0:BAR0], m)
    bar.on_gap(state[BAR0:LEVEL0], m)
    level.on_gap(state[LEVEL0:CROSS0], m)
    cross.on_gap(state[CROSS0:DQ0], m)


@inlined
def _on_day(state: Floats, cal: Ints, row: int) -> None:
    m = state[M0:BOOK0]
    flow.on_day(state[FLOW0:VOL0], m, cal, row)
    vol.on_day(state[VOL0:LIQ0], m, cal, row)
    liq.on_day(state[LIQ0:CPLX0], m, cal, row)
    bar.on_day(state[BAR0:LEVEL0], m, cal, row)
    level.on_day(state[LEVEL0:CROSS0], m, cal, row)
    clock.on_day(state[CLOCK0:], m, cal, row)


# -------------------------------------------------------------------------------------------------------------- events


@inlined
def _apply(state: Floats, cal: Ints, c: Ints, t: int, e: Any) -> bool:
    """One event of the traded symbol; False if it was left out for its impossible numbers."""
    m = state[M0:BOOK0]
    m[M_PREV_BID] = m[M_BID]
    m[M_PREV_ASK] = m[M_ASK]
    m[M_PREV_QB] = m[M_QB]
    m[M_PREV_QA] = m[M_QA]
    m[M_PREV_MID] = m[M_MID]
    m[M_QUOTE_CHANGED] = 0.0
    m[M_FLAGS] = e.flags
    if e.kind != _TIMER:
        m[M_SEEN] = m[M_NOW]
    if e.kind == _TRADE:
        return _apply_trade(state, cal, c[C_ROW], t, e)
    if e.kind == _QUOTE:
        taken = touch.tell_touch(m, e.bid, e.ask, np.float64(e.bid_size), np.float64(e.ask_size), QUOTES)
        if taken:
            _on_quote(state, t)
        return taken or m[M_CROSSED] > 0.0
    if e.kind == _DEPTH:
        return _apply_depth(state, t, e)
    if e.kind == _GAP:
        m[M_GAP_SEEN] = m[M_NOW]
        m[M_SOURCE] = 0.0
        return True
    return e.kind in (_TIMER, _STATUS)


@inlined
def _apply_trade(state: Floats, cal: Ints, row: int, t: int, e: Any) -> bool:
    m = state[M0:BOOK0]
    if (
        touch.tell_touch(m, e.bid, e.ask, np.float64(e.bid_size), np.float64(e.ask_size), TRADES)
        and m[M_QUOTE_CHANGED] > 0.0
    ):
        _on_quote(state, t)
    if not (touch.is_price(e.price) and 0.0 < e.size <= MAX_SIZE):
        return False
    side = touch.aggressor(m, e.side, e.price)
    m[M_PREV_LAST] = m[M_LAST]
    m[M_LAST] = e.price
    m[M_SIZE] = e.size
    m[M_SIDE] = side
    m[M_COUNT] = max(e.count, 1)
    m[M_TRADES] += 1.0
    m[M_TRADE_SEEN] = m[M_NOW]
    m[M_SEC_TRADES] += 1.0
    if side > 0.0:
        m[M_SEC_BUY] += m[M_SIZE]
    elif side < 0.0:
        m[M_SEC_SELL] += m[M_SIZE]
    if m[M_HAS_QUOTE] == 0.0:
        m[M_MID] = e.price
    l1_state.on_trade(state[L10:DEPTH0], t, m)
    ofi.on_trade(state[OFI0:FLOW0], t, m)
    flow.on_trade(state[FLOW0:VOL0], t, m)
    vol.on_trade(state[VOL0:LIQ0], t, m)
    liq.on_trade(state[LIQ0:CPLX0], t, m)
    cplx.on_trade(state[CPLX0:TA0], t, m)
    ta.on_trade(state[TA0:BAR0], t, m)
    bar.on_trade(state[BAR0:LEVEL0], t, m)
    level.on_trade(state[LEVEL0:CROSS0], t, m, cal, row)
    return True


@kernel
def _on_quote(state: Floats, t: int) -> None:
    m = state[M0:BOOK0]
    ofi.on_quote(state[OFI0:FLOW0], t, m)
    flow.on_quote(state[FLOW0:VOL0], t, m)
    liq.on_quote(state[LIQ0:CPLX0], t, m)


@inlined
def _apply_depth(state: Floats, t: int, e: Any) -> bool:
    """Change the book; once it is consistent again, tell what has become of it."""
    m = state[M0:BOOK0]
    levels = state[BOOK0:L10]
    applied = book.apply(levels, e.flags, e.side, e.price, np.float64(e.size))
    if e.flags & _BATCH_END:
        book.refresh(levels)
        m[M_DEPTH_SEEN] = m[M_NOW]
        if levels[book.B_NB] > 0.0 and levels[book.B_NA] > 0.0:
            bid, ask = levels[book.B_BID_P], levels[book.B_ASK_P]
            qb, qa = levels[book.B_BID_Q], levels[book.B_ASK_Q]
            if touch.tell_touch(m, bid, ask, qb, qa, BOOK) and m[M_QUOTE_CHANGED] > 0.0:
                _on_quote(state, t)
        elif m[M_SOURCE] == BOOK:
            m[M_CROSSED] = 1.0
        depth.on_depth(state[DEPTH0:OFI0], t, m, levels)
        ofi.on_depth(state[OFI0:FLOW0], t, m, levels)
        liq.on_depth(state[LIQ0:CPLX0], t, m, levels)
    return applied


@inlined
def _apply_reference(state: Floats, t: int, e: Any) -> None:
    m = state[M0:BOOK0]
    if e.kind not in (_TRADE, _QUOTE):
        return
    m[M_REF_SEEN] = m[M_NOW]
    last = e.price if e.kind == _TRADE else np.nan
    if touch.tell_reference(m, e.bid, e.ask, np.float64(e.bid_size), np.float64(e.ask_size), last):
        cross.on_reference(state[CROSS0:DQ0], t, m)


# ------------------------------------------------------------------------------------------------------------ decisions


@inlined
def _emit(state: Floats, cal: Ints, c: Ints, t: int, out: Any) -> None:
    m = state[M0:BOOK0]
    row = c[C_ROW]
    l1_state.emit(state[L10:DEPTH0], t, m, out)
    depth.emit(state[DEPTH0:OFI0], t, m, out)
    ofi.emit(state[OFI0:FLOW0], t, m, out)
    flow.emit(state[FLOW0:VOL0], t, m, out)
    vol.emit(state[VOL0:LIQ0], t, m, out)
    liq.emit(state[LIQ0:CPLX0], t, m, out)
    cplx.emit(state[CPLX0:TA0], t, m, out)
    ta.emit(state[TA0:BAR0], t, m, out)
    bar.emit(state[BAR0:LEVEL0], t, m, out)
    level.emit(state[LEVEL0:CROSS0], t, m, out, cal, row)
    clock.emit(state[CLOCK0:], t, m, out, cal, row)
    cross.emit(state[CROSS0:DQ0], t, m, out)
    dq.emit(state[DQ0:CLOCK0], t, m, out)
    for i in range(len(out)):
        if not abs(out[i]) <= LIMIT:
            c[C_NOT_FINITE] += 1
            out[i] = LIMIT if out[i] > 0.0 else (-LIMIT if out[i] < 0.0 else 0.0)
    c[C_QUALITY] = _quality(m, cal, c, t)


@inlined
def _quality(m: Floats, cal: Ints, c: Ints, t: int) -> int:
    """The bits of catalogue.Quality."""
    now = m[M_NOW]
    bits = 0
    if m[M_HAS_QUOTE] == 0.0:
        bits |= 1
    if m[M_HAS_SIZES] == 0.0:
        bits |= 2
    if m[M_DEPTH_SEEN] < 0.0 or now - m[M_DEPTH_SEEN] > _MINUTE_S:
        bits |= 4
    if m[M_REF_SEEN] < 0.0 or now - m[M_REF_SEEN] > _MINUTE_S:
        bits |= 8
    row = c[C_ROW]
    if row < 0 or (row == len(cal) - 1 and t >= cal[row, CAL_CLOSE]):
        bits |= 16
    if m[M_SEEN] < 0.0 or now - m[M_SEEN] > _STALE_S:
        bits |= 32
    if m[M_GAP_SEEN] >= 0.0 and now - m[M_GAP_SEEN] <= _MINUTE_S:
        bits |= 64
    if m[M_CROSSED] > 0.0:
        bits |= 128
    if c[C_WARM] < c[C_WARMUP]:
        bits |= 256
    if c[C_BACK_AT] > 0 and t - c[C_BACK_AT] <= 60 * NS:
        bits |= 512
    if c[C_BAD_AT] > 0 and t - c[C_BAD_AT] <= 60 * NS:
        bits |= 1024
    return bits
