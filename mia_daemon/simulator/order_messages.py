"""Between DTC's order messages and the engine's values: native prices there, ticks here."""

import math
from typing import NamedTuple

from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.dtc.enums import BuySellEnum, OrderStatusEnum, OrderUpdateReasonEnum
from mia_daemon.dtc.messages import UNSET_F64, OrderUpdate, SubmitNewOCOOrder, SubmitNewSingleOrder
from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.client_order import NewOrder, OrderEvent
from mia_daemon.simulator.native_prices import NativeInstrument

_LARGEST = 10_000  # contracts an order may have
_IN_MICROSECONDS = 10**12
"""A StartDateTime of this and more is in microseconds: in seconds it would be no date."""

_STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})


class Refused(ValueError):
    """An order that can't be accepted; its text goes to the client."""


class Terms(NamedTuple):
    """One order of a message as it came, before anything of it is believed."""

    client_id: str
    type: int
    buy_sell: int
    price1: float
    price2: float
    quantity: float
    time_in_force: int
    is_parent: bool = False


def single_terms(m: SubmitNewSingleOrder) -> Terms:
    return Terms(
        m.ClientOrderID, m.OrderType, m.BuySell, m.Price1, m.Price2, m.Quantity, m.TimeInForce, bool(m.IsParentOrder)
    )


def pair_terms(m: SubmitNewOCOOrder) -> tuple[Terms, Terms]:
    return (
        Terms(m.ClientOrderID_1, m.OrderType_1, m.BuySell_1, m.Price1_1, m.Price2_1, m.Quantity_1, m.TimeInForce),
        Terms(m.ClientOrderID_2, m.OrderType_2, m.BuySell_2, m.Price1_2, m.Price2_2, m.Quantity_2, m.TimeInForce),
    )


def pair_offsets(m: SubmitNewOCOOrder, instrument: NativeInstrument) -> tuple[int | None, int | None]:
    """Distances of a pair from its parent's price, ticks; None where its own prices stand. Raises Refused."""
    if not m.UseOffsets:
        return None, None
    if not m.ParentTriggerClientOrderID:
        raise Refused("offsets need a parent order")
    return (
        ticks(abs(m.OffsetFromParent1), instrument, "OffsetFromParent1"),
        ticks(abs(m.OffsetFromParent2), instrument, "OffsetFromParent2"),
    )


def new_order(terms: Terms, instrument: NativeInstrument, account: str, *, priced_by_parent: bool = False) -> NewOrder:
    """The order of `account` that these terms describe. Raises Refused with the reason."""
    if not terms.client_id:
        raise Refused("ClientOrderID is missing")
    try:
        order_type = OrderType(terms.type)
    except ValueError:
        raise Refused(f"order type {int(terms.type)} is not supported") from None
    if terms.buy_sell not in {BuySellEnum.BUY, BuySellEnum.SELL}:
        raise Refused(f"BuySell {int(terms.buy_sell)} is neither 1 (buy) nor 2 (sell)")
    price1 = price2 = 0
    if order_type != OrderType.MARKET and not priced_by_parent:
        price1 = ticks(terms.price1, instrument, "Price1")
    if order_type == OrderType.STOP_LIMIT:
        price2 = ticks(terms.price2, instrument, "Price2")
    return NewOrder(
        client_id=terms.client_id,
        side=1 if terms.buy_sell == BuySellEnum.BUY else -1,
        type=order_type,
        quantity=contracts(terms.quantity),
        price1=price1,
        price2=price2,
        time_in_force=time_in_force(terms.time_in_force, order_type),
        is_parent=terms.is_parent,
        symbol=instrument.symbol,
        account=account,
    )


def contracts(quantity: float) -> int:
    """A whole number of contracts. Raises Refused."""
    if not (math.isfinite(quantity) and quantity == int(quantity) and 1 <= quantity <= _LARGEST):
        raise Refused(f"quantity {quantity:g} is not a whole number from 1 to {_LARGEST}")
    return int(quantity)


def ticks(price: float, instrument: NativeInstrument, name: str) -> int:
    """A price as whole ticks. Raises Refused when it lies between two."""
    if not instrument.is_price(price) or price == UNSET_F64:
        raise Refused(f"{name} is missing or no price")
    count = round(price / instrument.tick_size)
    rounding = 1e-6 + abs(count) * instrument.rounding  # far below a tick
    if abs(price / instrument.tick_size - count) > rounding:
        raise Refused(f"{name} {price:g} is not a multiple of the tick size {instrument.tick_size:g}")
    return count


def time_in_force(value: int, order_type: OrderType) -> TimeInForce:
    """Unset means DAY. Raises Refused."""
    try:
        chosen = TimeInForce(value or TimeInForce.DAY)
    except ValueError:
        raise Refused(f"time in force {int(value)} is not supported") from None
    if chosen == TimeInForce.FOK and order_type in _STOPS:
        raise Refused("a stop order can't be fill or kill")
    return chosen


def start_ns(start: int) -> int:
    """StartDateTime of a request for past fills, which is in seconds or in microseconds, as nanoseconds."""
    return start * (1_000 if start >= _IN_MICROSECONDS else NS_PER_S)


def order_update(event: OrderEvent, instrument: NativeInstrument) -> OrderUpdate:
    """What happened to an order, as the 301 that reports it: the only message of its batch, as no request asked."""
    tick = instrument.tick_size
    update = OrderUpdate(
        TotalNumMessages=1,
        MessageNumber=1,
        Symbol=event.symbol,
        PreviousServerOrderID=event.previous_server_id,
        ServerOrderID=event.server_id,
        ClientOrderID=event.client_id,
        ExchangeOrderID=event.server_id,
        OrderStatus=event.status,
        OrderUpdateReason=event.reason,
        OrderType=event.type,
        BuySell=BuySellEnum.BUY if event.side > 0 else BuySellEnum.SELL,
        Price1=event.price1 * tick if event.price1 else UNSET_F64,
        Price2=event.price2 * tick if event.price2 else UNSET_F64,
        TimeInForce=event.time_in_force,
        OrderQuantity=float(event.quantity),
        FilledQuantity=float(event.filled),
        RemainingQuantity=float(event.remaining),
        AverageFillPrice=event.average_price * tick if event.filled else UNSET_F64,
        TradeAccount=event.account,
        InfoText=event.text,
        ParentServerOrderID=event.parent_server_id,
        OCOLinkedOrderServerOrderID=event.sibling_server_id,
        LatestTransactionDateTime=event.ts_ns / NS_PER_S,
    )
    if event.last_quantity:
        update.LastFillPrice = event.last_price * tick  # type: ignore[misc]  # messages are frozen to checkers only
        update.LastFillDateTime = event.ts_ns // NS_PER_MS  # type: ignore[misc]
        update.LastFillQuantity = float(event.last_quantity)  # type: ignore[misc]
        update.LastFillExecutionID = event.execution_id  # type: ignore[misc]
    return update


def rejection(terms: Terms, server_id: str, symbol: str, account: str, ts_ns: int, text: str) -> OrderUpdate:
    """The 301 that refuses a new order, with its terms as they came."""
    return OrderUpdate(
        TotalNumMessages=1,
        MessageNumber=1,
        Symbol=symbol,
        ServerOrderID=server_id,
        ClientOrderID=terms.client_id,
        OrderStatus=OrderStatusEnum.ORDER_STATUS_REJECTED,
        OrderUpdateReason=OrderUpdateReasonEnum.NEW_ORDER_REJECTED,
        OrderType=terms.type,
        BuySell=terms.buy_sell,
        Price1=terms.price1,
        Price2=terms.price2,
        TimeInForce=terms.time_in_force,
        OrderQuantity=terms.quantity,
        FilledQuantity=0.0,
        RemainingQuantity=0.0,
        TradeAccount=account,
        InfoText=text,
        LatestTransactionDateTime=ts_ns / NS_PER_S,
    )
