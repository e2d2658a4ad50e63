"""Translates our orders into DTC messages, and a server's messages about them into our records.

Prices in orders are the displayed ones divided by the symbol's DisplayPriceMultiplier; a field left unset is 0.
"""

import math
from typing import Any, Final

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum, OrderStatusEnum, OrderUpdateReasonEnum, PartialFillHandlingEnum
from mia_daemon.records import (
    BalanceReport,
    Bracket,
    Fill,
    FillSource,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
)

_REFUSALS: Final = {
    OrderUpdateReasonEnum.ORDER_CANCEL_REJECTED: OrderStatus.CANCEL_REJECTED,
    OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_REJECTED: OrderStatus.REPLACE_REJECTED,
    OrderUpdateReasonEnum.NEW_ORDER_REJECTED: OrderStatus.REJECTED,
}
_STATUSES: Final[dict[int, OrderStatus]] = {
    OrderStatusEnum.ORDER_STATUS_ORDER_SENT: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_PENDING_OPEN: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_PENDING_CHILD: OrderStatus.HELD,
    OrderStatusEnum.ORDER_STATUS_OPEN: OrderStatus.WORKING,
    OrderStatusEnum.ORDER_STATUS_PARTIALLY_FILLED: OrderStatus.PARTIAL,
    OrderStatusEnum.ORDER_STATUS_FILLED: OrderStatus.FILLED,
    OrderStatusEnum.ORDER_STATUS_CANCELED: OrderStatus.CANCELED,
    OrderStatusEnum.ORDER_STATUS_REJECTED: OrderStatus.REJECTED,
}
_BUY_SELL: Final = {Side.BUY: BuySellEnum.BUY, Side.SELL: BuySellEnum.SELL}
_CHANGING: Final = frozenset(
    {OrderStatusEnum.ORDER_STATUS_PENDING_CANCEL_REPLACE, OrderStatusEnum.ORDER_STATUS_PENDING_CANCEL}
)
ENDED: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})
"""Nothing more is expected of such an order."""

MAX_CONTRACTS: Final = 1e7
MAX_PRICE: Final = 1e9
MAX_MONEY: Final = 1e15
MAX_TIME_NS: Final = 7_258_118_400 * NS_PER_S  # the year 2200
"""What is beyond these makes no sense and counts as unset."""


class DtcOrderMapper:
    """Translates for one account and one symbol.

    What makes no sense (not a number, out of range) counts as unset. A time that is not told is 0.

    Attributes:
        multiplier: the symbol's DisplayPriceMultiplier.
    """

    def __init__(self, scope: ServerScope) -> None:
        self.multiplier = 1.0
        self._scope = scope
        self._instrument = scope.instrument

    # To the server.

    def single(self, order: Order, is_parent: int = 0) -> dtc.Message:
        return dtc.SubmitNewSingleOrder(
            Symbol=self._scope.trade_symbol,
            TradeAccount=order.account,
            ClientOrderID=order.client_order_id,
            OrderType=order.type,
            BuySell=_BUY_SELL[order.side],
            Price1=self._outward(order.price),
            Price2=self._outward(order.limit_price),
            Quantity=float(order.quantity),
            TimeInForce=order.time_in_force,
            IsAutomatedOrder=1,
            IsParentOrder=is_parent,
        )

    def pair(self, bracket: Bracket) -> dtc.Message:
        """Stop and target of a bracket, as the OCO pair that the entry triggers."""
        entry, stop, target = bracket.entry, bracket.stop, bracket.target
        return dtc.SubmitNewOCOOrder(
            Symbol=self._scope.trade_symbol,
            ClientOrderID_1=stop.client_order_id,
            OrderType_1=stop.type,
            BuySell_1=_BUY_SELL[stop.side],
            Price1_1=self._outward(stop.price),
            Quantity_1=float(stop.quantity),
            ClientOrderID_2=target.client_order_id,
            OrderType_2=target.type,
            BuySell_2=_BUY_SELL[target.side],
            Price1_2=self._outward(target.price),
            Quantity_2=float(target.quantity),
            TimeInForce=stop.time_in_force,
            TradeAccount=entry.account,
            IsAutomatedOrder=1,
            ParentTriggerClientOrderID=entry.client_order_id,
            PartialFillHandling=PartialFillHandlingEnum.PARTIAL_FILL_HANDLING_REDUCE_QUANTITY,
        )

    def flatten(self, order: Order) -> dtc.Message:
        return dtc.SubmitFlattenPositionOrder(
            Symbol=self._scope.trade_symbol,
            TradeAccount=order.account,
            ClientOrderID=order.client_order_id,
            IsAutomatedOrder=1,
        )

    def cancel(self, client_order_id: str, server_order_id: str) -> dtc.Message:
        return dtc.CancelOrder(
            ServerOrderID=server_order_id, ClientOrderID=client_order_id, TradeAccount=self._scope.account
        )

    def replace(self, client_order_id: str, server_order_id: str, price: float, quantity: int) -> dtc.Message:
        return dtc.CancelReplaceOrder(
            ServerOrderID=server_order_id,
            ClientOrderID=client_order_id,
            Price1=self._outward(price),
            Price2IsSet=0,
            Quantity=float(quantity),
            TradeAccount=self._scope.account,
        )

    # From the server.

    def refusal(self, client_order_id: str, status: OrderStatus, text: str) -> OrderReport:
        """The report of a request that was never sent, as if the server had refused it."""
        return OrderReport(
            ts_ns=0,
            client_order_id=client_order_id,
            server_order_id="",
            symbol=self._instrument.symbol,
            account=self._scope.account,
            status=status,
            text=text,
        )

    def fill(self, message: dtc.OrderUpdate) -> Fill | None:
        """The execution in an update; None where side, quantity or price is missing."""
        quantity, price = contracts(message.LastFillQuantity), self._inward(message.LastFillPrice)
        side = _side(message.BuySell)
        if not (quantity and price and side):
            return None
        return Fill(
            ts_ns=_update_time(message),
            execution_id=message.LastFillExecutionID,
            client_order_id=message.ClientOrderID,
            server_order_id=message.ServerOrderID,
            symbol=self._scope.symbol(message.Symbol),
            account=self._scope.account_of(message.TradeAccount),
            side=side,
            quantity=quantity,
            price=price,
            source=FillSource.UPDATE,
            filled=contracts(message.FilledQuantity),
            previous_server_order_id=message.PreviousServerOrderID,
        )

    def update(self, message: dtc.OrderUpdate, *, unsolicited: bool) -> OrderReport | None:
        """None if the message has no news: a request of ours is in transit to the exchange."""
        if message.NoOrders:
            return None
        filled, quantity = contracts(message.FilledQuantity), contracts(message.OrderQuantity)
        status = _status(message, filled, quantity, unsolicited=unsolicited)
        if status is None:
            return None
        return OrderReport(
            ts_ns=_update_time(message),
            client_order_id=message.ClientOrderID,
            server_order_id=message.ServerOrderID,
            previous_server_order_id=message.PreviousServerOrderID,
            symbol=self._scope.symbol(message.Symbol),
            account=self._scope.account_of(message.TradeAccount),
            status=status,
            side=_side(message.BuySell),
            quantity=quantity,
            filled=filled,
            average_fill_price=self._average(message.AverageFillPrice),
            price=self._inward(message.Price1),
            limit_price=self._inward(message.Price2),
            type=_order_type(message.OrderType),
            text=message.InfoText,
            unsolicited=unsolicited,
            fill=self.fill(message) if unsolicited else None,
        )

    def past_fill(self, message: Any) -> Fill | None:
        """An execution in the list of past ones; the message has no client order id.

        None if side, price or quantity is missing: they are never guessed, so the fill stays missing.
        """
        quantity, price = contracts(message.Quantity), self._inward(message.Price)
        side = _side(message.BuySell)
        if message.NoOrderFills or not (quantity and price and side):
            return None
        return Fill(
            ts_ns=_time(message.DateTime, NS_PER_S),
            execution_id=message.UniqueExecutionID,
            client_order_id="",
            server_order_id=message.ServerOrderID,
            symbol=self._scope.symbol(message.Symbol),
            account=self._scope.account_of(message.TradeAccount),
            side=side,
            quantity=quantity,
            price=price,
            source=FillSource.HISTORY,
        )

    def position(self, message: dtc.PositionUpdate, *, unsolicited: bool) -> PositionReport:
        quantity = message.Quantity
        told = math.isfinite(quantity) and abs(quantity) < MAX_CONTRACTS
        return PositionReport(
            ts_ns=0,
            symbol=self._scope.symbol(message.Symbol),
            account=self._scope.account_of(message.TradeAccount),
            quantity=round(quantity) if told else None,
            average_price=self._average(message.AveragePrice),
            unsolicited=unsolicited,
        )

    def balance(self, message: dtc.AccountBalanceUpdate) -> BalanceReport | None:
        """None where it is of another account, or is not told."""
        cash = message.CashBalance
        ours = self._scope.account_of(message.TradeAccount) == self._scope.account
        if message.NoAccountBalances or not ours or not math.isfinite(cash) or abs(cash) > MAX_MONEY:
            return None
        return BalanceReport(0, self._scope.account, cash, message.AccountCurrency or "USD")

    def _inward(self, price: float) -> float:
        """In points, on the tick where it is on it but for rounding; 0 if the server left it unset."""
        price = _sane(price * self.multiplier)
        return self._instrument.round_to_tick(price) if self._instrument.is_on_tick(price) else price

    def _average(self, price: float) -> float:
        """An average price in points; 0 where it is unset, or none of the instrument."""
        price = _sane(price * self.multiplier)
        return price if self._instrument.is_price(price) else 0.0

    def _outward(self, price: float) -> float:
        """As the server scales prices: a whole number of its ticks."""
        if self.multiplier == 1.0:
            return price
        tick = self._instrument.tick_size
        return round(round(price / tick) * round(tick / self.multiplier, 9), 9)


def contracts(value: float) -> int:
    """0 if the server left it unset."""
    return round(value) if 0.0 < value < MAX_CONTRACTS else 0


def _sane(price: float) -> float:
    """A price; 0 where the server left it unset."""
    return price if abs(price) < MAX_PRICE else 0.0  # also for NaN


def _time(value: float, unit_ns: int) -> int:
    """Nanoseconds since the epoch; 0 where it is not told."""
    return round(value * unit_ns) if 0.0 < value < MAX_TIME_NS / unit_ns else 0


def _update_time(message: dtc.OrderUpdate) -> int:
    return _time(message.LatestTransactionDateTime, NS_PER_S) or _time(message.LastFillDateTime, NS_PER_MS)


def _status(message: dtc.OrderUpdate, filled: int, quantity: int, *, unsolicited: bool) -> OrderStatus | None:
    """The reason has precedence over the status: after a refused cancel or replace the order is still live."""
    if unsolicited and message.OrderUpdateReason in _REFUSALS:
        return _REFUSALS[OrderUpdateReasonEnum(message.OrderUpdateReason)]
    if message.OrderStatus in _CHANGING:
        if unsolicited:
            return None
        return OrderStatus.PARTIAL if filled else OrderStatus.WORKING
    status = _STATUSES.get(message.OrderStatus) or _status_by_facts(message, filled, quantity, unsolicited=unsolicited)
    if status is OrderStatus.WORKING and filled:
        status = OrderStatus.PARTIAL
    replaced = message.OrderUpdateReason == OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_COMPLETE
    if replaced and status not in ENDED and unsolicited:
        return OrderStatus.REPLACED
    return status


def _status_by_facts(message: dtc.OrderUpdate, filled: int, quantity: int, *, unsolicited: bool) -> OrderStatus:
    """Where the status is unset or unknown: what is listed as open lives, and what is not told to have ended."""
    if 0 < quantity <= filled:
        return OrderStatus.FILLED
    if unsolicited and message.OrderUpdateReason == OrderUpdateReasonEnum.ORDER_CANCELED:
        return OrderStatus.CANCELED
    if filled:
        return OrderStatus.PARTIAL
    return OrderStatus.ACCEPTED if unsolicited else OrderStatus.WORKING


def _side(value: int) -> Side | None:
    return {BuySellEnum.BUY: Side.BUY, BuySellEnum.SELL: Side.SELL}.get(BuySellEnum(value)) if value in {1, 2} else None


def _order_type(value: int) -> OrderType | None:
    return OrderType(value) if value in {1, 2, 3, 4} else None
