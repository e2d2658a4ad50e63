"""Translates our orders into DTC messages, and a server's messages about them into our records.

Prices in orders are the displayed ones divided by the symbol's DisplayPriceMultiplier; a field left unset is 0.
"""

from typing import Any, Final

from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum, OrderStatusEnum, OrderUpdateReasonEnum, PartialFillHandlingEnum
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    BalanceReport,
    Bracket,
    Fill,
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
_STATUSES: Final = {
    OrderStatusEnum.ORDER_STATUS_ORDER_SENT: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_PENDING_OPEN: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_PENDING_CHILD: OrderStatus.ACCEPTED,
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


class DtcOrderMapper:
    """Translates for one account and one symbol.

    Attributes:
        multiplier: the symbol's DisplayPriceMultiplier.
        newest_ns: the latest time in an order update: the server's time as far as it is known.
    """

    def __init__(self, instrument: Instrument, account: str) -> None:
        self.multiplier = 1.0
        self.newest_ns = 0
        self._instrument = instrument
        self._account = account

    # To the server.

    def single(self, order: Order, is_parent: int = 0) -> dtc.Message:
        return dtc.SubmitNewSingleOrder(
            Symbol=order.symbol,
            TradeAccount=order.account,
            ClientOrderID=order.client_order_id,
            OrderType=order.type,
            BuySell=_BUY_SELL[order.side],
            Price1=order.price / self.multiplier,
            Price2=order.limit_price / self.multiplier,
            Quantity=float(order.quantity),
            TimeInForce=order.time_in_force,
            IsAutomatedOrder=1,
            IsParentOrder=is_parent,
        )

    def pair(self, bracket: Bracket) -> dtc.Message:
        """Stop and target of a bracket, as the OCO pair that the entry triggers."""
        entry, stop, target = bracket.entry, bracket.stop, bracket.target
        return dtc.SubmitNewOCOOrder(
            Symbol=entry.symbol,
            ClientOrderID_1=stop.client_order_id,
            OrderType_1=stop.type,
            BuySell_1=_BUY_SELL[stop.side],
            Price1_1=stop.price / self.multiplier,
            Quantity_1=float(stop.quantity),
            ClientOrderID_2=target.client_order_id,
            OrderType_2=target.type,
            BuySell_2=_BUY_SELL[target.side],
            Price1_2=target.price / self.multiplier,
            Quantity_2=float(target.quantity),
            TimeInForce=stop.time_in_force,
            TradeAccount=entry.account,
            IsAutomatedOrder=1,
            ParentTriggerClientOrderID=entry.client_order_id,
            PartialFillHandling=PartialFillHandlingEnum.PARTIAL_FILL_HANDLING_REDUCE_QUANTITY,
        )

    @staticmethod
    def flatten(order: Order) -> dtc.Message:
        return dtc.SubmitFlattenPositionOrder(
            Symbol=order.symbol, TradeAccount=order.account, ClientOrderID=order.client_order_id, IsAutomatedOrder=1
        )

    def cancel(self, client_order_id: str, server_order_id: str) -> dtc.Message:
        return dtc.CancelOrder(ServerOrderID=server_order_id, ClientOrderID=client_order_id, TradeAccount=self._account)

    def replace(self, client_order_id: str, server_order_id: str, price: float, quantity: int) -> dtc.Message:
        return dtc.CancelReplaceOrder(
            ServerOrderID=server_order_id,
            ClientOrderID=client_order_id,
            Price1=price / self.multiplier,
            Price2IsSet=0,
            Quantity=float(quantity),
            TradeAccount=self._account,
        )

    # From the server.

    def concerns(self, message: Any) -> bool:
        """Whether a message is about this account and symbol."""
        return bool(message.Symbol == self._instrument.symbol and message.TradeAccount == self._account)

    def observe_time(self, message: dtc.OrderUpdate) -> None:
        """Advance `newest_ns` to the time of a message."""
        self.newest_ns = max(self.newest_ns, self._time(message))

    def refusal(self, client_order_id: str, status: OrderStatus, text: str) -> OrderReport:
        """The report of a request that was never sent, as if the server had refused it."""
        return OrderReport(
            ts_ns=self.newest_ns,
            client_order_id=client_order_id,
            server_order_id="",
            symbol=self._instrument.symbol,
            account=self._account,
            status=status,
            text=text,
        )

    def _time(self, message: dtc.OrderUpdate) -> int:
        stated = round(message.LatestTransactionDateTime * NS_PER_S)
        return stated or message.LastFillDateTime * NS_PER_MS or self.newest_ns

    def fill(self, message: dtc.OrderUpdate, client_id: str) -> Fill | None:
        """The execution in an update; None if it has none, or one without an execution id."""
        quantity, price = contracts(message.LastFillQuantity), self._inward(message.LastFillPrice)
        side = _side(message.BuySell)
        if not (quantity and price and side and message.LastFillExecutionID):
            return None
        return Fill(
            ts_ns=self._time(message),
            execution_id=message.LastFillExecutionID,
            client_order_id=client_id,
            server_order_id=message.ServerOrderID,
            symbol=message.Symbol,
            account=message.TradeAccount,
            side=side,
            quantity=quantity,
            price=price,
        )

    def update(self, message: dtc.OrderUpdate, client_id: str, *, unsolicited: bool) -> OrderReport | None:
        """None if the message has no news: a request of ours is in transit to the exchange."""
        filled = contracts(message.FilledQuantity)
        status = self._status(message, filled, unsolicited=unsolicited)
        if status is None:
            return None
        return OrderReport(
            ts_ns=self._time(message),
            client_order_id=client_id,
            server_order_id=message.ServerOrderID,
            symbol=message.Symbol,
            account=message.TradeAccount,
            status=status,
            side=_side(message.BuySell),
            quantity=contracts(message.OrderQuantity),
            filled=filled,
            average_fill_price=self._inward(message.AverageFillPrice),
            price=self._inward(message.Price1),
            limit_price=self._inward(message.Price2),
            type=_order_type(message.OrderType),
            text=message.InfoText,
            unsolicited=unsolicited,
        )

    @staticmethod
    def _status(message: dtc.OrderUpdate, filled: int, *, unsolicited: bool) -> OrderStatus | None:
        """The reason has precedence over the status: after a refused cancel or replace the order is still live."""
        if unsolicited and message.OrderUpdateReason in _REFUSALS:
            return _REFUSALS[OrderUpdateReasonEnum(message.OrderUpdateReason)]
        if message.OrderStatus in _CHANGING:
            if unsolicited:
                return None
            return OrderStatus.PARTIAL if filled else OrderStatus.WORKING
        try:
            status = _STATUSES.get(OrderStatusEnum(message.OrderStatus))
        except ValueError:
            return None
        if status is OrderStatus.WORKING and filled:
            status = OrderStatus.PARTIAL
        replaced = message.OrderUpdateReason == OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_COMPLETE
        if replaced and status not in ENDED and unsolicited:
            return OrderStatus.REPLACED
        return status

    def past_fill(self, message: Any, client_order_id: str) -> Fill | None:
        """An execution in the answer to a query; the message has no client order id.

        None if side, price or quantity is missing: they are never guessed, so the fill stays missing.
        """
        quantity, price = contracts(message.Quantity), self._inward(message.Price)
        side = _side(message.BuySell)
        if not (quantity and price and side):
            return None
        return Fill(
            ts_ns=message.DateTime * NS_PER_S,
            execution_id=message.UniqueExecutionID
            or f"{message.ServerOrderID}/{message.DateTime}/{message.Price}/{message.Quantity}",
            client_order_id=client_order_id,
            server_order_id=message.ServerOrderID,
            symbol=message.Symbol,
            account=message.TradeAccount,
            side=side,
            quantity=quantity,
            price=price,
        )

    def position(self, message: dtc.PositionUpdate, *, unsolicited: bool) -> PositionReport:
        return PositionReport(
            ts_ns=self.newest_ns,
            symbol=message.Symbol,
            account=message.TradeAccount,
            quantity=round(message.Quantity),
            average_price=self._inward(message.AveragePrice),
            unsolicited=unsolicited,
        )

    def balance(self, message: dtc.AccountBalanceUpdate) -> BalanceReport:
        return BalanceReport(
            self.newest_ns, message.TradeAccount, message.CashBalance, message.AccountCurrency or "USD"
        )

    def _inward(self, price: float) -> float:
        """0 if the server left the price unset."""
        return 0.0 if abs(price) >= dtc.UNSET_F64 else price * self.multiplier


def contracts(value: float) -> int:
    """0 if the server left it unset."""
    return 0 if not 0.0 < value < dtc.UNSET_F64 else round(value)


def _side(value: int) -> Side | None:
    return {BuySellEnum.BUY: Side.BUY, BuySellEnum.SELL: Side.SELL}.get(BuySellEnum(value)) if value in {1, 2} else None


def _order_type(value: int) -> OrderType | None:
    return OrderType(value) if value in {1, 2, 3, 4} else None
