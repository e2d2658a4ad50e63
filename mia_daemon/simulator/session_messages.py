"""Session values and the trading status as DTC messages."""

from collections.abc import Callable

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import TradingStatusEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.session_statistics import SessionStatistics, session_date
from mia_daemon.simulator.tape import SessionEvent, SessionValue, ValueKind


def packer(message: type[Message]) -> Callable[..., bytes]:
    """What packs the message's fields, in their order: five times as fast as by way of an object."""
    layout = message.LAYOUT
    pack, size, type_ = layout.codec.pack, layout.size, layout.type

    def packed(*values: float) -> bytes:
        return pack(size, type_, *values)

    return packed


_p113 = packer(dtc.MarketDataUpdateSessionVolume)
_p119 = packer(dtc.MarketDataUpdateSessionSettlement)
_p124 = packer(dtc.MarketDataUpdateOpenInterest)
_p136 = packer(dtc.MarketDataUpdateTradingSessionDate)
_p138 = packer(dtc.TradingSymbolStatus)
_PRICES = {
    ValueKind.OPEN: packer(dtc.MarketDataUpdateSessionOpen),
    ValueKind.HIGH: packer(dtc.MarketDataUpdateSessionHigh),
    ValueKind.LOW: packer(dtc.MarketDataUpdateSessionLow),
}


def session_message(i: int, e: SessionEvent | SessionValue, tick: float) -> bytes:
    """113, 114, 115, 119, 120 or 124 for SymbolID `i`; 136 and 138 where a session has begun."""
    if isinstance(e, SessionEvent):
        return _p136(i, session_date(e.ts_ns)) + _p138(i, int(TradingStatusEnum.TRADING_STATUS_OPEN))
    match e.kind:
        case ValueKind.VOLUME:
            return _p113(i, e.value, session_date(e.ts_ns), 0)
        case ValueKind.SETTLEMENT:
            return _p119(i, e.value * tick, e.ts_ns // NS_PER_S)
        case ValueKind.OPEN_INTEREST:
            return _p124(i, e.value, session_date(e.ts_ns))
    return _PRICES[e.kind](i, e.value * tick, session_date(e.ts_ns))


def add_session(snapshot: dtc.MarketDataSnapshot, day: SessionStatistics, ts_ns: int, tick: float) -> None:
    """Set the snapshot's session values, those that are known."""
    values: dict[str, float | None] = {"OpenInterest": day.open_interest(ts_ns)}
    if day.open is not None:
        values |= {
            "SessionOpenPrice": day.open * tick,
            "SessionHighPrice": day.high * tick,
            "SessionLowPrice": day.low * tick,
            "SessionVolume": float(day.volume),
            "SessionNumTrades": day.trades,
        }
    if day.settlement is not None:
        values["SessionSettlementPrice"] = day.settlement.price * tick
        values["SessionSettlementDateTime"] = day.settlement.ts_ns // NS_PER_S
    if day.last is not None:
        values["LastTradePrice"] = day.last.price * tick
        values["LastTradeVolume"] = float(day.last.quantity)
        values["LastTradeDateTime"] = day.last.ts_ns / NS_PER_S
    for name, value in values.items():
        if value is not None:
            setattr(snapshot, name, value)


def last_trade(i: int, day: SessionStatistics, tick: float) -> list[Message]:
    """134: the last trade, once there has been one; unlike a trade it adds nothing to the volume."""
    if day.last is None:
        return []
    return [
        dtc.MarketDataUpdateLastTradeSnapshot(
            SymbolID=i,
            LastTradePrice=day.last.price * tick,
            LastTradeVolume=float(day.last.quantity),
            LastTradeDateTime=day.last.ts_ns / NS_PER_S,
        )
    ]
