"""Market events as DTC messages, in the generation each client asked for.

The stream is packed straight from values, message objects being five times as slow; which fields follow each other is
taken from the messages' own layouts.
"""

from collections.abc import Callable
from typing import NamedTuple

from mia_daemon.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import (
    AtBidOrAskEnum,
    FinalUpdateInBatchEnum,
    LogonFlag,
    MarketDepthUpdateTypeEnum,
)
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.depth_view import Levels
from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.session_messages import packer, session_message
from mia_daemon.simulator.tape import (
    DepthEvent,
    MarketEvent,
    QuoteEvent,
    SessionEvent,
    SessionValue,
    TradeEvent,
)

_BID, _ASK = int(AtBidOrAskEnum.AT_BID), int(AtBidOrAskEnum.AT_ASK)
_AT = (0, _ASK, _BID)  # by the aggressor's side: 0 unknown, +1, -1
_TRUE, _FALSE = int(FinalUpdateInBatchEnum.FINAL_UPDATE_TRUE), int(FinalUpdateInBatchEnum.FINAL_UPDATE_FALSE)
_BEGIN = int(FinalUpdateInBatchEnum.FINAL_UPDATE_BEGIN_BATCH)
_PUT, _DELETE = (
    int(MarketDepthUpdateTypeEnum.MARKET_DEPTH_INSERT_UPDATE_LEVEL),
    int(MarketDepthUpdateTypeEnum.MARKET_DEPTH_DELETE_LEVEL),
)
_INSERT, _UPDATE = (
    int(MarketDepthUpdateTypeEnum.MARKET_DEPTH_INSERT_LEVEL),
    int(MarketDepthUpdateTypeEnum.MARKET_DEPTH_UPDATE_LEVEL),
)

TradePacker = Callable[[int, TradeEvent, float], bytes]
QuotePacker = Callable[[int, QuoteEvent, float], bytes]
DepthPacker = Callable[[int, DepthEvent, float], bytes]
"""(SymbolID, event, tick size) to one message."""


_p107 = packer(dtc.MarketDataUpdateTrade)
_p112 = packer(dtc.MarketDataUpdateTradeCompact)
_p137 = packer(dtc.MarketDataUpdateTradeWithUnbundledIndicator)
_p146 = packer(dtc.MarketDataUpdateTradeWithUnbundledIndicator2)
_p147 = packer(dtc.MarketDataUpdateTradeV2)
_p108 = packer(dtc.MarketDataUpdateBidAsk)
_p117 = packer(dtc.MarketDataUpdateBidAskCompact)
_p144 = packer(dtc.MarketDataUpdateBidAskFloatWithMicroseconds)
_p148 = packer(dtc.MarketDataUpdateBidAskV2)
_p106 = packer(dtc.MarketDepthUpdateLevel)
_p140 = packer(dtc.MarketDepthUpdateLevelFloatWithMilliseconds)
_p109 = packer(dtc.MarketDepthUpdateLevelV2)


def trade_107(i: int, e: TradeEvent, tick: float) -> bytes:
    return _p107(i, _AT[e.side], e.price * tick, e.quantity, e.ts_ns / NS_PER_S)


def trade_112(i: int, e: TradeEvent, tick: float) -> bytes:
    return _p112(e.price * tick, e.quantity, e.ts_ns // NS_PER_S, i, _AT[e.side])


def trade_137(i: int, e: TradeEvent, tick: float) -> bytes:
    return _p137(i, _AT[e.side], e.marker, 0, 0, 0, e.price * tick, e.quantity, 0, e.ts_ns / NS_PER_S)


def trade_146(i: int, e: TradeEvent, tick: float) -> bytes:
    return _p146(i, e.price * tick, e.quantity, e.ts_ns // NS_PER_US, _AT[e.side], e.marker, 0)


def trade_147(i: int, e: TradeEvent, tick: float) -> bytes:
    return _p147(i, e.price * tick, e.quantity, e.ts_ns // NS_PER_US, _AT[e.side], e.marker, 0)


def quote_108(i: int, e: QuoteEvent, tick: float) -> bytes:
    return _p108(i, e.bid * tick, e.bid_quantity, e.ask * tick, e.ask_quantity, e.ts_ns // NS_PER_S)


def quote_117(i: int, e: QuoteEvent, tick: float) -> bytes:
    return _p117(e.bid * tick, e.bid_quantity, e.ask * tick, e.ask_quantity, e.ts_ns // NS_PER_S, i)


def quote_144(i: int, e: QuoteEvent, tick: float) -> bytes:
    return _p144(i, e.bid * tick, e.bid_quantity, e.ask * tick, e.ask_quantity, e.ts_ns // NS_PER_US)


def quote_148(i: int, e: QuoteEvent, tick: float) -> bytes:
    return _p148(i, e.bid * tick, e.bid_quantity, e.ask * tick, e.ask_quantity, e.ts_ns // NS_PER_US)


def depth_106(i: int, e: DepthEvent, tick: float) -> bytes:
    side, kind = _BID if e.side > 0 else _ASK, _PUT if e.quantity else _DELETE
    final = _TRUE if e.final else _FALSE
    return _p106(i, side, e.price * tick, e.quantity, kind, e.ts_ns / NS_PER_S, e.orders, final, 0)


def depth_140(i: int, e: DepthEvent, tick: float) -> bytes:
    side, kind = _BID if e.side > 0 else _ASK, _PUT if e.quantity else _DELETE
    final = _TRUE if e.final else _FALSE
    return _p140(i, e.ts_ns // NS_PER_MS, e.price * tick, e.quantity, side, kind, min(e.orders, 0xFFFF), final, 0)


def depth_109(i: int, e: DepthEvent, tick: float) -> bytes:
    side, kind = _BID if e.side > 0 else _ASK, (_INSERT if e.is_new else _UPDATE) if e.quantity else _DELETE
    final = _TRUE if e.final else _FALSE
    return _p109(i, e.ts_ns // NS_PER_MS, e.price * tick, e.quantity, min(e.orders, 0xFFFF), 0, side, kind, final)


class Dialect(NamedTuple):
    """Which messages a client gets."""

    trade: TradePacker
    quote: QuotePacker
    depth: DepthPacker
    float_snapshot: bool  # depth snapshots as 145 instead of 122


def dialect(integer_1: int, generation: int, *, compact: bool = False) -> Dialect:
    """What LOGON_REQUEST's Integer_1 asks for; generation 2 speaks the 2026-08 header whatever is asked.

    Whoever asks for nothing gets 107 and 108, or, with `compact`, 112 and 117.
    """
    if generation == 2:
        return Dialect(trade_147, quote_148, depth_109, float_snapshot=False)
    trade, quote = (trade_112, quote_117) if compact else (trade_107, quote_108)
    if integer_1 & LogonFlag.UNBUNDLED_TRADES:
        trade = trade_137
    if integer_1 & LogonFlag.UNBUNDLED_INDICATOR_2:
        trade = trade_146
    if integer_1 & LogonFlag.BID_ASK_WITH_MICROSECONDS:
        quote = quote_144
    return Dialect(
        trade,
        quote,
        depth_140 if integer_1 & LogonFlag.DEPTH_WITH_MILLISECONDS else depth_106,
        float_snapshot=bool(integer_1 & LogonFlag.DEPTH_SNAPSHOT_FLOAT),
    )


class Subscriptions(NamedTuple):
    """A client's SymbolIDs of one symbol; None where it is not subscribed."""

    market: int | None = None
    depth: int | None = None
    levels: int | None = None  # of depth, on each side; None: all


def market_stream(events: list[MarketEvent], speech: Dialect, ids: Subscriptions, tick: float) -> bytes:
    """What a client with these subscriptions is sent of one symbol.

    Args:
        events: of that symbol, in order of time; of depth, those of the levels that it sees.
        speech: the messages that the client asked for.
        ids: what it is subscribed to.
        tick: size of a tick in the prices of messages.
    """
    trade, quote, depth, _ = speech
    market_id, depth_id, _ = ids
    out: list[bytes] = []
    for event in events:
        kind = type(event)
        if kind is DepthEvent:
            if depth_id is not None:
                out.append(depth(depth_id, event, tick))  # type: ignore[arg-type]  # mypy can't follow `kind`
        elif market_id is None:
            continue
        elif kind is QuoteEvent:
            out.append(quote(market_id, event, tick))  # type: ignore[arg-type]
        elif kind is TradeEvent:
            out.append(trade(market_id, event, tick))  # type: ignore[arg-type]
        elif isinstance(event, SessionEvent | SessionValue):
            out.append(session_message(market_id, event, tick))
    return b"".join(out)


def depth_snapshot(
    book: Levels, symbol_id: int, ts_ns: int, tick: float, *, as_float: bool, most: int | None = None
) -> list[Message]:
    """The book, or `most` levels of each side, as one batch: bids, then asks, best first."""
    levels = [(_BID, *level) for level in enumerate(book.depth(BUY)[:most], 1)]
    levels += [(_ASK, *level) for level in enumerate(book.depth(SELL)[:most], 1)]
    last = len(levels) - 1
    out: list[Message] = []
    for i, (side, number, (price, quantity, orders)) in enumerate(levels):
        if as_float:
            out.append(dtc.MarketDepthSnapshotLevelFloat(
                SymbolID=symbol_id, Price=price * tick, Quantity=quantity, NumOrders=orders, Level=number, Side=side,
                FinalUpdateInBatch=_TRUE if i == last else _BEGIN if i == 0 else _FALSE,
            ))  # fmt: skip
        else:
            out.append(dtc.MarketDepthSnapshotLevel(
                SymbolID=symbol_id, Side=side, Price=price * tick, Quantity=quantity, Level=number,
                IsFirstMessageInBatch=int(i == 0), IsLastMessageInBatch=int(i == last), DateTime=ts_ns / NS_PER_S,
                NumOrders=orders,
            ))  # fmt: skip
    return out
