"""What the market shows: trades, levels and the touch, as values in order of time. Prices are in ticks."""

from enum import IntEnum
from typing import NamedTuple


class TradeEvent(NamedTuple):
    ts_ns: int
    price: int
    quantity: int
    side: int  # of the aggressor
    marker: int  # 1 first, 2 last print of one aggressive order, 0 otherwise


class DepthEvent(NamedTuple):
    """One level as it stands now; `quantity` 0 means it is gone. `final` ends a group after which the book is whole."""

    ts_ns: int
    side: int
    price: int
    quantity: int
    orders: int
    is_new: bool
    final: bool


class QuoteEvent(NamedTuple):
    ts_ns: int
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int


class SessionEvent(NamedTuple):
    """A new session opened: exchange time has stepped over the halt, the weekend or a holiday."""

    ts_ns: int


class ValueKind(IntEnum):
    """What a session value is."""

    OPEN = 0
    HIGH = 1
    LOW = 2
    VOLUME = 3
    SETTLEMENT = 4
    OPEN_INTEREST = 5


class SessionValue(NamedTuple):
    """A value of the session that has changed; `value` in ticks or contracts.

    That of a settlement is of the session before, and so is its time.
    """

    ts_ns: int
    kind: ValueKind
    value: int


MarketEvent = TradeEvent | DepthEvent | QuoteEvent | SessionEvent | SessionValue


class SymbolEvents(NamedTuple):
    """Events of one symbol that follow one another with none of another symbol between them."""

    symbol: str
    events: list[MarketEvent]
