"""Market data messages as columns: many messages of one type become rows of `MARKET_EVENT` in a few array operations.

Only what one message says is taken from it here. What it leaves unsaid is filled in from what came before: the touch at
a trade by `fill_from_before`, the time of a message without one by `market_times`.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import FinalUpdateInBatchEnum, MarketDepthUpdateTypeEnum
from mia_daemon.dtc.layout import CType, Message
from mia_daemon.records import MARKET_EVENT, EventArray, EventFlag, EventKind

NO_PRICE = 1e9
"""Prices and quantities from here on are no numbers of a market: DBL_MAX and FLT_MAX say "unset"."""

LAST_SECOND = 7_258_118_400
"""A time this many seconds after the epoch (the year 2200), or later, is nonsense."""

Mask = NDArray[np.bool_]

_CLEAR, _BATCH_END, _SNAPSHOT = map(np.uint16, (EventFlag.CLEAR, EventFlag.BATCH_END, EventFlag.SNAPSHOT))

_FIELDS = {
    EventKind.TRADE: ("Price", "Volume", "AtBidOrAsk", "UnbundledTradeIndicator", "DateTime"),
    EventKind.QUOTE: ("BidPrice", "BidQuantity", "AskPrice", "AskQuantity", "DateTime", "BidAskDateTime"),
    EventKind.DEPTH: (
        "Price",
        "Quantity",
        "Side",
        "NumOrders",
        "UpdateType",
        "FinalUpdateInBatch",
        "IsFirstMessageInBatch",
        "IsLastMessageInBatch",
        "DateTime",
    ),
    EventKind.STATUS: ("Status",),
}

_STAMPS = {  # of each kind of time stamp: units per second, and its resolution
    "t_DateTime4Byte": (1, NS_PER_S),
    "t_DateTimeWithMilliseconds": (1, NS_PER_MS),
    "t_DateTimeWithMillisecondsInt": (NS_PER_S // NS_PER_MS, NS_PER_MS),
    "t_DateTimeWithMicrosecondsInt": (NS_PER_S // NS_PER_US, NS_PER_US),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How messages of one type are read.

    Attributes:
        dtype: of the fields that are read; a message that ends before the last of them can't be used.
        time: the field that holds the time, or "".
        ticks: of that field per second.
        resolution_ns: what its times are cut off to.
        update: False for a snapshot, which tells how things are and not what just happened.
    """

    kind: EventKind
    message: type[Message]
    dtype: np.dtype[np.void]
    time: str
    ticks: int
    resolution_ns: int
    update: bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.dtype.names or ()


def _reading(kind: EventKind, message: type[Message], *, update: bool = True) -> Reading:
    layout = message.LAYOUT
    present = {f.name: f.wire for f in layout.fields}
    names = tuple(name for name in ("SymbolID", *_FIELDS[kind]) if name in present)
    time = names[-1] if names[-1].endswith("DateTime") else ""
    wire = present.get(time)
    ticks, resolution_ns = _STAMPS[wire.name] if isinstance(wire, CType) else (1, NS_PER_S)
    return Reading(kind, message, layout.dtype(names), time, ticks, resolution_ns, update)


UNMARKED_SNAPSHOT = dtc.MarketDepthSnapshotLevelFloat
"""Its server may leave the first row of a snapshot unmarked."""

READINGS: tuple[Reading, ...] = (
    _reading(EventKind.TRADE, dtc.MarketDataUpdateTrade),
    _reading(EventKind.TRADE, dtc.MarketDataUpdateTradeCompact),
    _reading(EventKind.TRADE, dtc.MarketDataUpdateTradeWithUnbundledIndicator),
    _reading(EventKind.TRADE, dtc.MarketDataUpdateTradeNoTimestamp),
    _reading(EventKind.TRADE, dtc.MarketDataUpdateTradeWithUnbundledIndicator2),
    _reading(EventKind.TRADE, dtc.MarketDataUpdateTradeV2),
    _reading(EventKind.QUOTE, dtc.MarketDataSnapshot, update=False),
    _reading(EventKind.QUOTE, dtc.MarketDataUpdateBidAsk),
    _reading(EventKind.QUOTE, dtc.MarketDataUpdateBidAskCompact),
    _reading(EventKind.QUOTE, dtc.MarketDataUpdateBidAskNoTimeStamp),
    _reading(EventKind.QUOTE, dtc.MarketDataUpdateBidAskFloatWithMicroseconds),
    _reading(EventKind.QUOTE, dtc.MarketDataUpdateBidAskV2),
    _reading(EventKind.DEPTH, dtc.MarketDepthSnapshotLevel, update=False),
    _reading(EventKind.DEPTH, UNMARKED_SNAPSHOT, update=False),
    _reading(EventKind.DEPTH, dtc.MarketDepthUpdateLevel),
    _reading(EventKind.DEPTH, dtc.MarketDepthUpdateLevelFloatWithMilliseconds),
    _reading(EventKind.DEPTH, dtc.MarketDepthUpdateLevelNoTimestamp),
    _reading(EventKind.DEPTH, dtc.MarketDepthUpdateLevelV2),
    _reading(EventKind.STATUS, dtc.TradingSymbolStatus),
)


SESSION_VALUES: frozenset[int] = frozenset(
    message.TYPE
    for message in (
        dtc.MarketDataUpdateSessionVolume,
        dtc.MarketDataUpdateSessionHigh,
        dtc.MarketDataUpdateSessionLow,
        dtc.MarketDataUpdateSessionSettlement,
        dtc.MarketDataUpdateSessionOpen,
        dtc.MarketDataUpdateOpenInterest,
        dtc.MarketDataUpdateLastTradeSnapshot,
        dtc.MarketDataUpdateSessionNumTrades,
        dtc.MarketDataUpdateTradingSessionDate,
    )
)
"""Types of market data that nobody here reads: they are passed over, and split no run of rows."""


@dataclass(slots=True)
class SymbolState:
    """What is known of one symbol before the next message: the touch."""

    bid: float = math.nan
    ask: float = math.nan
    bid_size: float = 0.0
    ask_size: float = 0.0
    snapshot_open: bool = False  # a snapshot that marks only its end has not ended


def read_columns(rows: NDArray[np.void], reading: Reading) -> tuple[EventArray, Mask]:
    """Messages of one type, as `gather` gives them, as rows of events, and which of them make sense.

    `ts_ns` holds the time as stamped, 0 where there is none; `symbol` is left at 0.
    """
    out = np.zeros(len(rows), MARKET_EVENT)
    with np.errstate(over="ignore", invalid="ignore"):  # garbage overflows float32; it is marked as making no sense
        valid = _FILL[reading.kind](rows, out, reading)
        if reading.time:
            out["ts_ns"] = _nanoseconds(rows[reading.time], reading.ticks)
    return out, valid


def gather(data: bytes, starts: NDArray[np.int64], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """The structures that begin at `starts`; the caller knows that all of them end within `data`."""
    every = np.ndarray((len(data) - dtype.itemsize + 1,), f"V{dtype.itemsize}", data, strides=(1,))
    return every[starts].view(dtype)


def take(events: EventArray, where: NDArray[np.intp]) -> EventArray:
    """`events[where]`, row by row: numpy itself copies structures field by field, ten times slower."""
    return _opaque(events)[where].view(MARKET_EVENT)


def put(events: EventArray, where: NDArray[np.intp], rows: EventArray) -> None:
    """`events[where] = rows`, as fast."""
    _opaque(events)[where] = _opaque(rows)


def _opaque(events: EventArray) -> EventArray:
    return events.view(f"V{MARKET_EVENT.itemsize}")


def _nanoseconds(stamps: NDArray[Any], ticks: int) -> NDArray[np.int64]:
    """Nanoseconds since the epoch, exact to the microsecond; 0 for what is no time."""
    if stamps.dtype.kind != "f" and stamps.min() > 0 and stamps.max() < LAST_SECOND * ticks:  # as nearly always
        return stamps * np.int64(NS_PER_S // ticks)
    valid = (stamps > 0) & (stamps < LAST_SECOND * ticks)
    if stamps.dtype.kind == "f":  # a double tells microseconds of this century exactly, but no more
        stamps, ticks = np.rint(stamps * 1e6), 1_000_000
    return np.where(valid, stamps, 0).astype(np.int64) * (NS_PER_S // ticks)


def _is_price(values: NDArray[Any]) -> Mask:
    return np.asarray(np.abs(values) < NO_PRICE, np.bool_)


def _is_quantity(values: NDArray[Any]) -> Mask:
    return np.asarray((values >= 0) & (values < NO_PRICE), np.bool_)


def _looked_up(table: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """`table[values]`; its ends stand for what lies beyond them."""
    return table.take(values, mode="clip")


_AGGRESSOR = np.array([0, -1, 1, 0], np.int8)  # of BID_ASK_UNSET, AT_BID, AT_ASK, anything else
_BOOK_SIDE = -_AGGRESSOR
_SUBTRADE = np.array([0, EventFlag.FIRST_SUBTRADE, EventFlag.LAST_SUBTRADE, 0], np.uint16)


def _fill_trades(rows: NDArray[np.void], out: EventArray, reading: Reading) -> Mask:
    price, volume = rows["Price"], rows["Volume"]
    out["kind"] = EventKind.TRADE
    out["count"] = 1
    out["price"] = price
    out["size"] = volume
    out["side"] = _looked_up(_AGGRESSOR, rows["AtBidOrAsk"])
    if "UnbundledTradeIndicator" in reading.names:
        out["flags"] = _looked_up(_SUBTRADE, rows["UnbundledTradeIndicator"])
    return _is_price(price) & _is_quantity(volume)


def _fill_quotes(rows: NDArray[np.void], out: EventArray, reading: Reading) -> Mask:
    """A price of 0 is one where a quantity is bid or asked at it; with none it is a field left empty."""
    out["kind"] = EventKind.QUOTE
    out["price"] = math.nan
    known = np.zeros(len(rows), np.bool_)
    for side, price, size in (("Bid", "bid", "bid_size"), ("Ask", "ask", "ask_size")):
        quantity = rows[f"{side}Quantity"]
        quoted = _is_quantity(quantity) & (quantity > 0)
        there = _is_price(rows[f"{side}Price"]) & ((rows[f"{side}Price"] != 0) | quoted)
        out[price] = np.where(there, rows[f"{side}Price"], math.nan)
        out[size] = np.where(there & _is_quantity(quantity), quantity, 0)
        known |= there
    if reading.update:
        return np.ones(len(rows), np.bool_)
    out["flags"] = EventFlag.SNAPSHOT
    return known


def _fill_depth(rows: NDArray[np.void], out: EventArray, reading: Reading) -> Mask:
    price, quantity = rows["Price"], rows["Quantity"]
    side = _looked_up(_BOOK_SIDE, rows["Side"])
    flags = _depth_flags(rows, reading)
    out["kind"] = EventKind.DEPTH
    out["side"] = side
    out["flags"] = flags
    out["count"] = np.minimum(rows["NumOrders"], 0xFFFF)
    out["price"] = np.where(side != 0, price, math.nan)
    deleted = side == 0
    if "UpdateType" in reading.names:
        deleted |= rows["UpdateType"] == MarketDepthUpdateTypeEnum.MARKET_DEPTH_DELETE_LEVEL
    out["size"] = np.where(deleted, 0, quantity)
    empty_book = (side == 0) & ((flags & _CLEAR) != 0)
    level = (side != 0) & _is_price(price) & (deleted | _is_quantity(quantity))
    return np.asarray(empty_book | level, np.bool_)


def _depth_flags(rows: NDArray[np.void], reading: Reading) -> NDArray[np.uint16]:
    if "IsFirstMessageInBatch" in reading.names:
        first, last = rows["IsFirstMessageInBatch"] != 0, rows["IsLastMessageInBatch"] != 0
    else:
        mark = rows["FinalUpdateInBatch"]
        first = mark == FinalUpdateInBatchEnum.FINAL_UPDATE_BEGIN_BATCH
        last = mark == FinalUpdateInBatchEnum.FINAL_UPDATE_TRUE
        if reading.update:  # a server that does not group its updates leaves the mark unset
            last |= mark == FinalUpdateInBatchEnum.FINAL_UPDATE_UNSET
            return np.asarray(last * _BATCH_END, np.uint16)
    return np.asarray(_SNAPSHOT + first * _CLEAR + last * _BATCH_END, np.uint16)


def _fill_status(rows: NDArray[np.void], out: EventArray, _: Reading) -> Mask:
    status = rows["Status"]
    out["kind"] = EventKind.STATUS
    out["price"] = math.nan
    out["count"] = np.maximum(status, 0)
    return np.ones(len(rows), np.bool_)


_FILL = {
    EventKind.TRADE: _fill_trades,
    EventKind.QUOTE: _fill_quotes,
    EventKind.DEPTH: _fill_depth,
    EventKind.STATUS: _fill_status,
}


def fill_from_before(events: EventArray, readings: NDArray[np.intp], state: SymbolState) -> None:
    """Complete rows of one symbol in place from what came before them, and bring `state` up to date.

    A trade or depth row takes the last touch.
    """
    _fill_touch(events, state)
    _open_snapshots(events["flags"], _IS_UNMARKED[readings], state)


def fill_run_from_before(events: EventArray, reading: Reading, state: SymbolState) -> None:
    """As `fill_from_before`, for messages of one type."""
    if reading.kind == EventKind.QUOTE:
        for name in _TOUCH:
            setattr(state, name, float(events[name][-1]))
    else:
        for name in _TOUCH:
            events[name] = getattr(state, name)
    if reading.message is UNMARKED_SNAPSHOT:
        _open_snapshots(events["flags"], np.ones(len(events), np.bool_), state)


def _last_before(where: Mask) -> NDArray[np.intp]:
    """For each row the last row up to it for which `where` holds; -1 when there is none."""
    return np.maximum.accumulate(np.where(where, np.arange(len(where)), -1))


def _carried(values: NDArray[Any], last: NDArray[np.intp], before: float) -> NDArray[Any]:
    """`values[last]`, and `before` where `last` is -1."""
    return np.where(last >= 0, values[last], values.dtype.type(before))


def _fill_touch(events: EventArray, state: SymbolState) -> None:
    quote = events["kind"] == EventKind.QUOTE
    last = _last_before(quote)
    for name in _TOUCH:
        filled = _carried(events[name], last, getattr(state, name))
        events[name] = filled
        setattr(state, name, float(filled[-1]))


def _open_snapshots(flags: NDArray[np.uint16], snapshot: Mask, state: SymbolState) -> None:
    """Mark the first row of each snapshot whose server marks only the last one."""
    where = np.flatnonzero(snapshot)
    if not len(where):
        return
    closed = (flags[where] & _BATCH_END) != 0
    first = np.concatenate(([not state.snapshot_open], closed[:-1]))
    flags[where[first]] |= _CLEAR
    state.snapshot_open = not closed[-1]


_TOUCH = ("bid", "ask", "bid_size", "ask_size")
_IS_UNMARKED = np.array([reading.message is UNMARKED_SNAPSHOT for reading in READINGS])
RESOLUTIONS_NS = np.array([reading.resolution_ns for reading in READINGS], np.int64)
