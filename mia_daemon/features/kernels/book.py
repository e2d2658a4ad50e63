"""The order book by price: any number of levels in a ring of integer ticks, the ten best of each side laid out flat.

Levels live in a ring slot `tick % RING`, tagged with their tick. Two levels RING ticks apart share a slot; the one
nearer to the touch keeps it. `refresh` lays out the ten best populated levels, which is what the families read.
"""

import numpy as np

from mia_daemon.features.kernels.market import Floats, kernel
from mia_daemon.features.kernels.touch import MAX_SIZE, is_price
from mia_daemon.records import EventArray

LEVELS = 10
RING = 2048  # ticks: 512 points of an index future; a power of two

B_TICK = 0
B_NB = 1  # levels laid out, bid side, 0 … LEVELS
B_NA = 2
B_COUNT = 3  # + side: populated levels in the ring, bid side then ask side
B_BEST = 5  # + side: best tick; meaningless when the count is 0
B_DIRTY = 7  # 1 when the layout is behind the ring
B_BID_P = 8  # LEVELS prices, best first; 0 beyond B_NB
B_BID_Q = 18
B_ASK_P = 28
B_ASK_Q = 38
_DEPTH = 3  # EventKind
_BATCH_END, _CLEAR = 4, 16  # EventFlag

_TAGS = 64  # + side * RING
_QTYS = _TAGS + 2 * RING


def make_state(tick_size: float) -> Floats:
    """An empty book."""
    book = np.zeros(_QTYS + 2 * RING)
    book[B_TICK] = tick_size
    return book


@kernel
def clear(book: Floats) -> None:
    """Empty both sides."""
    for i in range(B_NB, _TAGS):
        book[i] = 0.0
    for i in range(_QTYS, _QTYS + 2 * RING):
        book[i] = 0.0


@kernel
def set_level(book: Floats, side: int, price: float, size: float) -> None:
    """Make `size` contracts rest at `price` on the bid (side > 0) or ask; 0 deletes the level."""
    which = 0 if side > 0 else 1
    sign = 1.0 if side > 0 else -1.0
    tags = _TAGS + which * RING
    qtys = _QTYS + which * RING
    tick = np.floor(price / book[B_TICK] + 0.5)
    slot = int(tick) & (RING - 1)
    held = book[qtys + slot]
    if held > 0.0 and book[tags + slot] != tick:
        if size <= 0.0 or (tick - book[tags + slot]) * sign < 0.0:
            return  # the slot's level is nearer to the touch
        _delete(book, which, sign, book[tags + slot], slot)
        held = 0.0
    if size > 0.0:
        if held == 0.0:
            if book[B_COUNT + which] == 0.0 or (tick - book[B_BEST + which]) * sign > 0.0:
                book[B_BEST + which] = tick
            book[B_COUNT + which] += 1.0
            book[tags + slot] = tick
        book[qtys + slot] = size
    elif held > 0.0:
        _delete(book, which, sign, tick, slot)
    book[B_DIRTY] = 1.0


@kernel
def apply(book: Floats, flags: int, side: int, price: float, size: float) -> bool:
    """One depth event; False if it was left out for its impossible numbers."""
    if flags & _CLEAR:
        clear(book)
    sane = is_price(price) and 0.0 <= size <= MAX_SIZE and side != 0
    if sane:
        set_level(book, side, price, size)
    return bool(sane or flags & _CLEAR)


@kernel
def best(book: Floats, which: int) -> tuple[float, float]:
    """(price, size) of the best level of the bids (0) or the asks (1); not a number and 0 where there is none."""
    if book[B_COUNT + which] == 0.0:
        return np.nan, 0.0
    tick = book[B_BEST + which]
    return tick * book[B_TICK], book[_QTYS + which * RING + (int(tick) & (RING - 1))]


@kernel
def write_touch(events: EventArray, book: Floats) -> None:
    """Apply the depth events of the traded symbol, and write the touch into those that end a batch.

    Args:
        events: (n,) of dtype MARKET_EVENT, contiguous; bid, ask and their sizes are written where the book has both
            sides and they do not cross.
        book: from `make_state`; owned by the caller, changed.
    """
    for i in range(len(events)):
        e = events[i]
        if e.kind != _DEPTH or e.symbol != 0:
            continue
        apply(book, e.flags, e.side, e.price, np.float64(e.size))
        if e.flags & _BATCH_END:
            bid, bid_size = best(book, 0)
            ask, ask_size = best(book, 1)
            if bid < ask:
                e.bid = bid
                e.ask = ask
                e.bid_size = bid_size
                e.ask_size = ask_size


@kernel
def _delete(book: Floats, which: int, sign: float, tick: float, slot: int) -> None:
    tags = _TAGS + which * RING
    qtys = _QTYS + which * RING
    book[qtys + slot] = 0.0
    book[B_COUNT + which] -= 1.0
    if book[B_COUNT + which] > 0.0 and book[B_BEST + which] == tick:
        book[B_BEST + which] = _next_tick(book, tags, qtys, tick, sign)


@kernel
def _next_tick(book: Floats, tags: int, qtys: int, tick: float, sign: float) -> float:
    """The best populated tick behind `tick`; one exists."""
    for step in range(1, RING + 1):
        wanted = tick - sign * step
        slot = int(wanted) & (RING - 1)
        if book[qtys + slot] > 0.0 and book[tags + slot] == wanted:
            return wanted
    best = tick
    found = False
    for slot in range(RING):  # only levels farther than the ring is long are left
        if book[qtys + slot] > 0.0:
            other = book[tags + slot]
            if (not found) or (other - best) * sign > 0.0:
                best = other
                found = True
    return best


@kernel
def refresh(book: Floats) -> None:
    """Lay out the ten best levels of each side."""
    if book[B_DIRTY] == 0.0:
        return
    book[B_DIRTY] = 0.0
    for which in range(2):
        sign = 1.0 if which == 0 else -1.0
        tags = _TAGS + which * RING
        qtys = _QTYS + which * RING
        prices = B_BID_P if which == 0 else B_ASK_P
        sizes = B_BID_Q if which == 0 else B_ASK_Q
        wanted = min(LEVELS, int(book[B_COUNT + which]))
        found = 0
        tick = book[B_BEST + which]
        for _ in range(RING):
            if found == wanted:
                break
            slot = int(tick) & (RING - 1)
            if book[qtys + slot] > 0.0 and book[tags + slot] == tick:
                book[prices + found] = tick * book[B_TICK]
                book[sizes + found] = book[qtys + slot]
                found += 1
            tick -= sign
        for i in range(found, LEVELS):
            book[prices + i] = 0.0
            book[sizes + i] = 0.0
        book[B_NB + which] = found
