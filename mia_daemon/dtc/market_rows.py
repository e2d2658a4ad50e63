"""One market data message as one row of `MARKET_EVENT`: the short way, for a few messages.

It gives what `market_columns` gives for many; a test compares them on random streams.
"""

import math
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc.enums import AtBidOrAskEnum, FinalUpdateInBatchEnum, MarketDepthUpdateTypeEnum
from mia_daemon.dtc.market_columns import LAST_SECOND, NO_PRICE, UNMARKED_SNAPSHOT, Reading, SymbolState
from mia_daemon.dtc.market_times import MessageTimes
from mia_daemon.records import MARKET_EVENT, EventArray, EventFlag, EventKind

Row = tuple[float, ...]
"""In the order of MARKET_EVENT's fields."""

_CODES = {"i8": "q", "u1": "B", "i1": "b", "u2": "H", "f8": "d", "f4": "f"}
_ROW = struct.Struct("<" + "".join(_CODES[MARKET_EVENT[name].str[1:]] for name in MARKET_EVENT.names or ()))
assert _ROW.size == MARKET_EVENT.itemsize

_AGGRESSOR = {int(AtBidOrAskEnum.AT_ASK): 1, int(AtBidOrAskEnum.AT_BID): -1}
_BOOK_SIDE = {int(AtBidOrAskEnum.AT_BID): 1, int(AtBidOrAskEnum.AT_ASK): -1}
_SUBTRADE = {int(EventFlag.FIRST_SUBTRADE), int(EventFlag.LAST_SUBTRADE)}
_DELETE = int(MarketDepthUpdateTypeEnum.MARKET_DEPTH_DELETE_LEVEL)
_BEGIN = int(FinalUpdateInBatchEnum.FINAL_UPDATE_BEGIN_BATCH)
_FINAL = int(FinalUpdateInBatchEnum.FINAL_UPDATE_TRUE)
_UNMARKED = int(FinalUpdateInBatchEnum.FINAL_UPDATE_UNSET)
_CLEAR, _END, _SNAPSHOT = int(EventFlag.CLEAR), int(EventFlag.BATCH_END), int(EventFlag.SNAPSHOT)


def events_of(rows: Iterable[Row]) -> EventArray:
    """The rows as an array of their own: packed, which takes a fifth of the time that numpy needs for tuples."""
    return np.frombuffer(bytearray().join([_ROW.pack(*row) for row in rows]), MARKET_EVENT)


def read_row(
    message: Any, reading: Reading, symbol: int, state: SymbolState, times: MessageTimes, received_ns: int
) -> Row | None:
    """The row, with `state` and `times` brought up to date; None when the message makes no sense."""
    match reading.kind:
        case EventKind.TRADE:
            said = _trade(message, reading)
        case EventKind.QUOTE:
            said = _quote(message, reading, state)
        case EventKind.DEPTH:
            said = _depth(message, reading, state)
        case _:
            said = (0, 0, min(max(message.Status, 0), 0xFFFF), math.nan, 0.0)
    if said is None:
        return None
    side, flags, count, price, size = said
    stamp_ns = _nanoseconds(getattr(message, reading.time), reading.ticks) if reading.time else 0
    time = times.of(stamp_ns, reading.resolution_ns, received_ns)
    touch = (state.bid, state.ask, size, state.bid_size, state.ask_size)
    return (time, received_ns, reading.kind, side, flags, symbol, count, price, *touch, 0.0)


_Said = tuple[int, int, int, float, float] | None  # side, flags, count, price, size


def _trade(message: Any, reading: Reading) -> _Said:
    if not (_is_price(message.Price) and _is_quantity(message.Volume)):
        return None
    part = message.UnbundledTradeIndicator if "UnbundledTradeIndicator" in reading.names else 0
    flags = part if part in _SUBTRADE else 0
    return _AGGRESSOR.get(message.AtBidOrAsk, 0), flags, 1, message.Price, message.Volume


def _quote(message: Any, reading: Reading, state: SymbolState) -> _Said:
    bid = _is_quoted(message.BidPrice, message.BidQuantity)
    ask = _is_quoted(message.AskPrice, message.AskQuantity)
    if not (reading.update or bid or ask):
        return None
    state.bid = message.BidPrice if bid else math.nan
    state.ask = message.AskPrice if ask else math.nan
    state.bid_size = message.BidQuantity if bid and _is_quantity(message.BidQuantity) else 0.0
    state.ask_size = message.AskQuantity if ask and _is_quantity(message.AskQuantity) else 0.0
    return 0, 0 if reading.update else _SNAPSHOT, 0, math.nan, 0.0


def _depth(message: Any, reading: Reading, state: SymbolState) -> _Said:
    side = _BOOK_SIDE.get(message.Side, 0)
    flags = _depth_flags(message, reading)
    deleted = side == 0 or ("UpdateType" in reading.names and message.UpdateType == _DELETE)
    if side == 0:
        if not flags & _CLEAR:
            return None
        price = math.nan
    else:
        price = message.Price
        if not (_is_price(price) and (deleted or _is_quantity(message.Quantity))):
            return None
    if reading.message is UNMARKED_SNAPSHOT:
        flags |= 0 if state.snapshot_open else _CLEAR
        state.snapshot_open = not flags & _END
    return side, flags, min(message.NumOrders, 0xFFFF), price, 0.0 if deleted else message.Quantity


def _depth_flags(message: Any, reading: Reading) -> int:
    if "IsFirstMessageInBatch" in reading.names:
        first, last = message.IsFirstMessageInBatch != 0, message.IsLastMessageInBatch != 0
    else:
        mark = message.FinalUpdateInBatch
        first, last = mark == _BEGIN, mark == _FINAL
        if reading.update:
            return _END if last or mark == _UNMARKED else 0
    return _SNAPSHOT | (_CLEAR if first else 0) | (_END if last else 0)


def _nanoseconds(stamp: Any, ticks: int) -> int:
    """Since the epoch; 0 for what is no time."""
    if not 0 < stamp < LAST_SECOND * ticks:
        return 0
    return round(stamp * 1e6) * 1000 if isinstance(stamp, float) else int(stamp) * (NS_PER_S // ticks)


def _is_price(value: float) -> bool:
    return -NO_PRICE < value < NO_PRICE


def _is_quoted(price: float, quantity: float) -> bool:
    return _is_price(price) and (price != 0 or 0 < quantity < NO_PRICE)


def _is_quantity(value: float) -> bool:
    return 0 <= value < NO_PRICE
