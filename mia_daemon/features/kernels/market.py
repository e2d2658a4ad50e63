"""What all families see of the market: the indices of the shared state `m`, and the conventions of the hooks.

A price may be negative or zero: one that is not known is NaN. What needs a logarithm is defined for positive prices;
each family says what it makes of others.

A family is a module with a flat float64 state `s` and those of these hooks that it needs (all decorated with
`kernel`, none of them allocates):

    make_state(tick_size) -> float64 array                 plain Python, once
    on_trade(s, t, m)      on_quote(s, t, m)      on_depth(s, t, m, book)
    on_second(s, sec, m)   on_gap(s, m)           on_day(s, m, cal, row)
    on_silence(s, sec, n, m)                               see below
    emit(s, t, m, out)                                     writes out[FIRST : FIRST + COUNT], always finite

Families that need the calendar have `cal, row` as last arguments of on_trade and emit; row is -1 before the first
trading day.

`t` is the event's time in ns since the epoch (int64, never decreasing), `sec` an epoch second (int64). Times that a
family keeps in its float64 state are `m[M_NOW]`: seconds since `m[M_ORIGIN]`, exact to 2 ns over 100 days, where
float64 epoch nanoseconds would be coarse to 256 ns.

`on_silence` stands for `n` calls of on_second, for the seconds sec … sec + n - 1, in which nothing traded and no mid
moved (`m[M_SEC_PREV_MID] == m[M_SEC_MID]`, no volume, `m[M_NOW]` the end of the last): sums of zeros decay in one
step. A thin contract's file is 99 % silence. A family that has on_second has on_silence too.

The order within one event: seconds that have ended (`on_second`, silent ones too; `on_gap` after a long silence),
`on_day`, then `m` is brought up to date, then `on_quote` if the touch came or changed, `on_trade`, `on_depth`.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """The decorator of every kernel.

    No fastmath: bits must not depend on the machine. Division by 0 gives inf or NaN, which the kernel guards against,
    and never an exception. One compiled version serves all constants: numba would make one for each literal argument.
    """
    dispatcher = njit(cache=True, error_model="numpy")(function)
    resolve = dispatcher.get_call_template
    unliteral: Callable[[Any], Any] = types.unliteral
    dispatcher.get_call_template = lambda args, kws: resolve(tuple(map(unliteral, args)), kws)  # type: ignore[method-assign]
    return cast("F", dispatcher)


def inlined(function: F) -> F:
    """The decorator of a part of a kernel that is written apart for the reader: numba pastes it into its caller.

    For what has one caller: a big function compiled by itself and again within its caller takes twice the time.
    """
    return cast("F", njit(inline="always", error_model="numpy")(function))


NS = 1_000_000_000

MAX_SILENT_S = 7200
"""Silent seconds are stepped through up to here. After a longer silence no price before it is compared with one after
it: the touch and the last trade are unknown until they come again (`forget_prices`), and windows restart (`on_gap`).
What goes on: closed bars, as on a chart (ta, er of cplx, parkinson and gk of vol), and what is kept for the trading day
(level, and the day's sums of other families)."""

# ---- instrument and time
M_TICK = 0  # minimum price increment, points
M_ORIGIN = 1  # epoch second from which M_NOW counts: midnight UTC before the first event
M_NOW = 2  # time of the event being applied (in on_second: the end of that second), seconds since M_ORIGIN

# ---- the traded symbol's touch; prices are NaN and sizes 0 until known
M_HAS_QUOTE = 3  # 1 once a sane touch is known
M_HAS_SIZES = 4  # 1 while both sizes at the touch are known
M_BID = 5
M_ASK = 6
M_QB = 7  # contracts at the bid; 0 when unknown
M_QA = 8
M_MID = 9  # the last trade's price while no touch is known; NaN until either is
M_QUOTE_CHANGED = 10  # 1 if this event changed a price or a size of the touch

# ---- the same before this event
M_PREV_BID = 11
M_PREV_ASK = 12
M_PREV_QB = 13
M_PREV_QA = 14
M_PREV_MID = 15

# ---- the last trade of the traded symbol; in on_trade: this one
M_LAST = 16  # price; NaN until known
M_SIZE = 17  # contracts
M_SIDE = 18  # aggressor +1 buyer, -1 seller; when not told: by the touch, else by the tick rule; 0 at the first trade
M_COUNT = 19  # trades in the record, at least 1
M_FLAGS = 20  # EventFlag bits
M_PREV_LAST = 21  # price of the trade before; NaN until known
M_TRADES = 22  # trade records since the start

# ---- the whole second that has ended; valid in on_second
M_SEC_MID = 23  # at its end; NaN until known
M_SEC_PREV_MID = 24  # at the end of the second before; NaN at the first second and after on_gap
M_SEC_BUY = 25  # contracts bought by aggressors in it
M_SEC_SELL = 26
M_SEC_LAST = 27  # last trade's price at its end, carried forward; NaN until known
M_SEC_TRADES = 28  # trade records in it
M_SEC_PREV_LAST = 29  # last trade's price at the end of the second before; NaN as M_SEC_PREV_MID

# ---- the reference symbol; prices NaN and sizes 0 until known
M_REF_BID = 30
M_REF_ASK = 31
M_REF_QB = 32
M_REF_QA = 33
M_REF_MID = 34
M_REF_LAST = 35
M_SEC_REF_MID = 36
M_SEC_REF_PREV_MID = 37
M_REF_SEEN = 38  # M_NOW of its last event; -1 before the first

# ---- between families
M_ATR = 39  # Wilder's ATR(14) of 1-minute bars, points; written by ta; 0 until warm

# ---- feed
M_LAG_MS = 40  # recv_ns - ts_ns of this event, milliseconds
M_SEEN = 41  # M_NOW of the traded symbol's last event that was not a TIMER
M_QUOTE_SEEN = 42  # M_NOW of the last change of the touch
M_TRADE_SEEN = 43  # M_NOW of the last trade; -1 before the first
M_DEPTH_SEEN = 44  # M_NOW of the last consistent book; -1 before the first
M_GAP_SEEN = 45  # M_NOW of the last GAP; -1 before the first
M_CROSSED = 46  # 1 while the newest touch has bid >= ask, or the book is one-sided or empty after having been full

# ---- the reference symbol before this event (as M_PREV_*); valid in on_reference, a hook that only `cross` has
M_REF_PREV_BID = 47
M_REF_PREV_ASK = 48
M_REF_PREV_QB = 49
M_REF_PREV_QA = 50

# ---- which source the touch is taken from
M_SOURCE = 51  # of the touch in force: 3 quotes, 2 the book, 1 trades that carry it; 0 before the first
M_SOURCE_SEEN = 52  # M_NOW when that source last told it
M_REF_CROSSED = 53

M_COUNT_ALL = 64

_PRICES = np.array(
    [
        *(M_BID, M_ASK, M_MID, M_PREV_BID, M_PREV_ASK, M_PREV_MID, M_LAST, M_PREV_LAST),
        *(M_SEC_MID, M_SEC_PREV_MID, M_SEC_LAST, M_SEC_PREV_LAST),
        *(M_REF_BID, M_REF_ASK, M_REF_MID, M_REF_LAST, M_SEC_REF_MID, M_SEC_REF_PREV_MID),
        *(M_REF_PREV_BID, M_REF_PREV_ASK),
    ]
)
_WITH_PRICES = np.array(
    [
        *(M_HAS_QUOTE, M_HAS_SIZES, M_QB, M_QA, M_PREV_QB, M_PREV_QA, M_SIZE, M_SIDE),
        *(M_SEC_BUY, M_SEC_SELL, M_SEC_TRADES, M_REF_QB, M_REF_QA, M_REF_PREV_QB, M_REF_PREV_QA),
    ]
)

# Columns of the calendar array `cal`: int64 (n, 6), one row a trading day
CAL_OPEN = 0  # ns
CAL_CLOSE = 1
CAL_RTH_OPEN = 2
CAL_RTH_CLOSE = 3
CAL_DATE = 4  # yyyymmdd
CAL_HALF = 5  # 1 on a half day


def make_state(tick_size: float) -> Floats:
    """The shared state before the first event."""
    m = np.zeros(M_COUNT_ALL)
    m[_PRICES] = np.nan
    m[M_TICK] = tick_size
    for index in (M_REF_SEEN, M_QUOTE_SEEN, M_TRADE_SEEN, M_DEPTH_SEEN, M_GAP_SEEN, M_SEEN):
        m[index] = -1.0
    return m


@kernel
def forget_prices(m: Floats) -> None:
    """After a long silence: the prices and sizes of both symbols are unknown, as before the first event."""
    for k in range(len(_PRICES)):
        m[_PRICES[k]] = np.nan
    for k in range(len(_WITH_PRICES)):
        m[_WITH_PRICES[k]] = 0.0
