"""What the second venue says of its orders, fills, position and balance: true values, told as its habits have it."""

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from fault_simulation.habits import ODD_SHARE, Habits
from fault_simulation.history import BY_HAND
from fault_simulation.loop import EPOCH_NS
from fault_simulation.second_account import Execution, OrderChange, ServedOrder
from fault_simulation.second_exchange import Exchange
from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderStatusEnum as Status
from mia_daemon.dtc.enums import OrderTypeEnum as Type
from mia_daemon.dtc.enums import OrderUpdateReasonEnum as Reason
from mia_daemon.dtc.layout import Message

EPOCH_S: Final = EPOCH_NS / NS_PER_S
STARTING_CASH: Final = 100_000.0
OTHER_SYMBOL: Final = "NQZ26_FUT_CME"
OTHER_ACCOUNT: Final = "Sim2"

_AHEAD_S: Final = {"behind": -6 * 3600.0, "ahead": 2 * 3600.0, "day_ahead": 86_400.0}
_KEEP_REASON: Final = frozenset({  # without these a client could not tell a refusal from a change
    Reason.ORDER_CANCEL_REJECTED,
    Reason.ORDER_CANCEL_REPLACE_REJECTED,
    Reason.NEW_ORDER_REJECTED,
})  # fmt: skip
_OTHERS: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {  # name, symbol, account; "" stands for ours
    "": (),
    "nameless": (("", "", ""), ("", "", "")),
    "named": (("manual", "", ""), ("chart-7", "", "")),
    "elsewhere": (("", OTHER_SYMBOL, ""), ("manual", "", OTHER_ACCOUNT)),
    "ours": (("AAAAAAAA-1S", "", ""),),
}


class Traded(NamedTuple):
    """What the account trades, and where.

    Attributes:
        multiplier: prices on the wire are the displayed ones divided by it.
    """

    symbol: str
    account: str
    tick_size: float
    multiplier: float

    def wired(self, ticks: float) -> float:
        """A price in ticks, as it is sent."""
        return ticks * self.tick_size / self.multiplier

    def ticks(self, wired: float) -> int:
        """A price that was sent, in ticks."""
        return round(wired * self.multiplier / self.tick_size)


class Reports:
    """Makes the messages; `now_s` is loop time."""

    def __init__(self, exchange: Exchange, traded: Traded, tick_value: float, rng: Random) -> None:
        self._exchange = exchange
        self._habits: Habits = exchange.habits
        self._traded = traded
        self._tick_value = tick_value
        self._rng = rng
        self._queries = 0
        habits = self._habits
        self._symbol = traded.symbol if habits.symbol is None else habits.symbol
        self._account = traded.account if habits.account is None else habits.account

    # Orders.

    def update(self, change: OrderChange, now_s: float) -> Message:
        """An update about a change of an order."""
        habits, order, execution = self._habits, change.order, change.execution
        status = order.status if change.status is None else change.status
        general = not habits.reasons and change.reason not in _KEEP_REASON
        fields = self._fields(order, status, now_s) | {
            "OrderUpdateReason": Reason.GENERAL_ORDER_UPDATE if general else change.reason,
            "InfoText": change.text,
            "PreviousServerOrderID": order.previous if habits.replace == "renamed" else "",
        }
        if habits.numbered:
            fields |= {"TotalNumMessages": 1, "MessageNumber": 1}
        if execution is not None:
            fields |= self._last_fill(execution, now_s)
            if not habits.fill_status:
                fields["OrderStatus"] = Status.ORDER_STATUS_UNSPECIFIED
        order.named, order.previous = True, ""
        return self._odd(dtc.OrderUpdate(**fields))

    def _fields(self, order: ServedOrder, status: Status, now_s: float) -> dict[str, Any]:
        wired, waiting = self._traded.wired, order.waits and not order.done
        price = dtc.UNSET_F64 if order.type == Type.ORDER_TYPE_MARKET else wired(order.price)
        ended = status in {Status.ORDER_STATUS_CANCELED, Status.ORDER_STATUS_REJECTED}
        return {
            "Symbol": self._symbol,
            "TradeAccount": self._account,
            "ServerOrderID": "" if waiting and self._habits.child_numbers_late else order.number,
            "ClientOrderID": self._name(order),
            "OrderStatus": status,
            "OrderType": order.type,
            "BuySell": 1 if order.side > 0 else 2,
            "Price1": price,
            "Price2": wired(order.limit) if order.limit else dtc.UNSET_F64,
            "OrderQuantity": float(order.quantity),
            "FilledQuantity": float(order.filled),
            "RemainingQuantity": 0.0 if ended else float(order.open_quantity),
            "AverageFillPrice": wired(order.notional / order.filled) if order.filled else dtc.UNSET_F64,
            "LatestTransactionDateTime": self._time(now_s),
            "TimeInForce": 1,
        }

    def _name(self, order: ServedOrder) -> str:
        if order.nameless or order.name.startswith(BY_HAND):
            return "" if order.nameless else order.name
        match self._habits.name:
            case "first":
                return "" if order.named else order.name
            case "never":
                return ""
            case "short":
                return order.name[:-2]
            case "case":
                return order.name.swapcase()
        return order.name

    def _last_fill(self, execution: Execution, now_s: float) -> dict[str, Any]:
        habits = self._habits
        if not habits.last_fill:
            return {}
        in_updates = habits.executions not in {"history", "none"}
        time_s = self._time(now_s)
        return {
            "LastFillPrice": self._traded.wired(execution.price),
            "LastFillQuantity": float(execution.quantity),
            "LastFillDateTime": round(time_s * 1000) if abs(time_s) < 1e15 else 0,  # not so for NaN
            "LastFillExecutionID": self._execution_id(execution) if in_updates else "",
        }

    def _execution_id(self, execution: Execution) -> str:
        return str(execution.place) if self._habits.executions == "per_order" else f"X{execution.number}"

    def _time(self, now_s: float) -> float:
        """As the server's clock and its habits have it."""
        match self._habits.times:
            case "zero":
                return 0.0
            case "max":
                return dtc.UNSET_F64
            case "nan":
                return math.nan
        return EPOCH_S + now_s + self._ahead_s

    @property
    def _ahead_s(self) -> float:
        return _AHEAD_S.get(self._habits.times, 0.0)

    # Answers to queries; each is a whole batch, empty where nothing is to be said.

    def open_orders(self, request: dtc.OpenOrdersRequest, now_s: float) -> list[Message]:
        """The orders that are not done, and, by habit, others."""
        exchange, habits = self._exchange, self._habits
        listed = exchange.orders.values() if habits.done_listed else exchange.alive
        unset = Status.ORDER_STATUS_UNSPECIFIED
        rows = [self._fields(order, order.status if habits.listed_status else unset, now_s) for order in listed]
        rows += self._orders_of_others(now_s)
        common: dict[str, Any] = {
            "RequestID": request.RequestID,
            "OrderUpdateReason": Reason.OPEN_ORDERS_REQUEST_RESPONSE,
        }
        if not rows:
            empty = dtc.OrderUpdate(TotalNumMessages=1, MessageNumber=1, NoOrders=1, **common)
            return [] if habits.empty_silent else [empty]
        return [
            self._odd(dtc.OrderUpdate(TotalNumMessages=len(rows), MessageNumber=place, **common, **row))
            for place, row in enumerate(rows, 1)
        ]

    def _orders_of_others(self, now_s: float) -> Iterator[dict[str, Any]]:
        """Limit orders far from the touch: they are only listed and never fill."""
        for place, (name, symbol, account) in enumerate(_OTHERS[self._habits.others_listed]):
            side = 1 if place % 2 else -1
            price = self._exchange.bid - 400 * side
            order = ServedOrder(name, f"F{place}", side, Type.ORDER_TYPE_LIMIT, price, 0, 1)
            fields = self._fields(order, Status.ORDER_STATUS_OPEN, now_s)
            yield fields | {
                "ClientOrderID": name,
                "Symbol": symbol or self._symbol,
                "TradeAccount": account or self._account,
            }

    def fills(self, request: dtc.HistoricalOrderFillsRequest) -> list[Message]:
        """Executions since the time asked for, by the server's clock."""
        habits = self._habits
        if habits.fills_refused:
            return [dtc.HistoricalOrderFillsReject(RequestID=request.RequestID, RejectText="not supported")]
        self._queries += 1
        found = [
            execution
            for execution in (self._exchange.fills if habits.fills_listed else ())
            if EPOCH_S + execution.at_s + self._ahead_s >= request.StartDateTime
        ]
        if not found:
            return [
                dtc.HistoricalOrderFillResponse(
                    RequestID=request.RequestID, TotalNumberMessages=1, MessageNumber=1, NoOrderFills=1
                )
            ]
        return [
            self._odd(
                dtc.HistoricalOrderFillResponse(
                    RequestID=request.RequestID,
                    TotalNumberMessages=len(found),
                    MessageNumber=place,
                    Symbol=self._symbol,
                    TradeAccount=self._account,
                    ServerOrderID=execution.server_number,
                    BuySell=1 if execution.order.side > 0 else 2,
                    Price=self._traded.wired(execution.price),
                    DateTime=int(EPOCH_S + execution.at_s + self._ahead_s),
                    Quantity=float(execution.quantity),
                    UniqueExecutionID=self._listed_id(execution, place),
                )
            )
            for place, execution in enumerate(found, 1)
        ]

    def _listed_id(self, execution: Execution, place: int) -> str:
        match self._habits.executions:
            case "updates" | "none":
                return ""
            case "differ":
                return f"H{execution.number}"
            case "per_query":
                return f"Q{self._queries}-{place}"
        return self._execution_id(execution)

    def position(self) -> Message:
        """The unsolicited update."""
        return self._odd(dtc.PositionUpdate(Unsolicited=1, **self._numbers(), **self._position()))

    def _numbers(self) -> dict[str, Any]:
        return {"TotalNumberMessages": 1, "MessageNumber": 1} if self._habits.numbered else {}

    def _position(self) -> dict[str, Any]:
        account = self._exchange.account
        unset = not account.position and self._habits.position_unset_when_flat
        return {
            "Symbol": self._symbol,
            "TradeAccount": self._account,
            "Quantity": dtc.UNSET_F64 if unset else float(account.position),
            "AveragePrice": self._traded.wired(account.average) if account.position else 0.0,
        }

    def positions(self, request: dtc.CurrentPositionsRequest) -> list[Message]:
        """The answer to the query."""
        how = self._habits.positions_listed
        rows = [self._position()] if self._exchange.account.position or how != "none" else []
        if how == "others":
            rows = [
                {**self._position(), "Symbol": OTHER_SYMBOL, "Quantity": 3.0, "AveragePrice": 20_000.0},
                *rows,
                {**self._position(), "TradeAccount": OTHER_ACCOUNT, "Quantity": -2.0, "AveragePrice": 6_000.0},
            ]
        if not rows:
            return [
                dtc.PositionUpdate(RequestID=request.RequestID, TotalNumberMessages=1, MessageNumber=1, NoPositions=1)
            ]
        return [
            self._odd(
                dtc.PositionUpdate(
                    RequestID=request.RequestID, TotalNumberMessages=len(rows), MessageNumber=place, **row
                )
            )
            for place, row in enumerate(rows, 1)
        ]

    def balance(self, request_id: int = 0) -> Message:
        """The answer to a query, or the unsolicited update."""
        if request_id and self._habits.balance == "refused":
            return dtc.AccountBalanceReject(RequestID=request_id, RejectText="not supported")
        cash = STARTING_CASH + self._exchange.account.earned
        numbers: dict[str, Any] = {"TotalNumberMessages": 1, "MessageNumber": 1} if request_id else self._numbers()
        return self._odd(
            dtc.AccountBalanceUpdate(
                RequestID=request_id,
                CashBalance=cash,
                BalanceAvailableForNewPositions=cash,
                AccountCurrency="USD",
                TradeAccount=self._account,
                Unsolicited=int(not request_id),
                **numbers,
            )
        )

    def accounts(self, request: dtc.TradeAccountsRequest) -> list[Message]:
        """The one account there is."""
        account = self._traded.account
        return [
            dtc.TradeAccountResponse(
                RequestID=request.RequestID, TotalNumberMessages=1, MessageNumber=1, TradeAccount=account
            )
        ]

    def definition(self, request: dtc.SecurityDefinitionForSymbolRequest) -> list[Message]:
        """The one symbol there is."""
        symbol = self._traded.symbol
        if request.Symbol != symbol:
            return [dtc.SecurityDefinitionReject(RequestID=request.RequestID, RejectText="unknown symbol")]
        return [
            dtc.SecurityDefinitionResponse(
                RequestID=request.RequestID,
                Symbol=symbol,
                SecurityType=1,
                DisplayPriceMultiplier=self._traded.multiplier,
                MinPriceIncrement=self._traded.tick_size,
                CurrencyValuePerIncrement=self._tick_value,
                IsFinalMessage=1,
                HasMarketDepthData=0,
                Currency="USD",
            )
        ]

    def _odd(self, message: Message) -> Message:
        """The message, at times with the value that makes no sense."""
        odd = self._habits.odd
        if odd is None or odd[0] != type(message).__name__ or self._rng.random() >= ODD_SHARE:
            return message
        return replace(message, **{odd[1]: odd[2]})  # type: ignore[type-var]  # every message is a dataclass
