"""What the account desk answers: open orders, fills, position, balance."""

from typing import Any, NamedTuple

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.products.instruments import Instrument
from mia_daemon.simulator.account import Account
from mia_daemon.simulator.client_order import UpdateReason
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_messages import order_update

CURRENCY = "USD"
_DAY_NS = 86_400 * NS_PER_S
_IN_MICROSECONDS = 10**12
"""A StartDateTime of this and more is in microseconds: in seconds it would be no date."""


class FillRecord(NamedTuple):
    """One execution of a client's order; price in ticks."""

    ts_ns: int
    execution_id: str
    client_id: str
    server_id: str
    side: int
    quantity: int
    price: int
    position: int  # after it


class AccountReports:
    """Answers queries about one account.

    Args:
        fills: every execution, oldest first; read at each query.
    """

    def __init__(
        self, engine: MatchingEngine, account: Account, instrument: Instrument, fills: list[FillRecord]
    ) -> None:
        self._engine = engine
        self._account = account
        self._instrument = instrument
        self._fills = fills

    def open_orders(self, m: dtc.OpenOrdersRequest) -> list[Message]:
        if self._is_unknown(m.TradeAccount):
            return [dtc.OpenOrdersReject(RequestID=m.RequestID, RejectText=_unknown(m.TradeAccount))]
        found = [
            order for order in self._engine.alive.values() if not m.ServerOrderID or order.server_id == m.ServerOrderID
        ]
        if not found:
            return [dtc.OrderUpdate(
                RequestID=m.RequestID, TotalNumMessages=1, MessageNumber=1, NoOrders=1,
                OrderUpdateReason=UpdateReason.OPEN_ORDERS_RESPONSE, TradeAccount=m.TradeAccount,
            )]  # fmt: skip
        now = self._engine.now_ns
        answers = [
            order_update(order.event(now, UpdateReason.OPEN_ORDERS_RESPONSE), self._instrument, self._account.name)
            for order in found
        ]
        return _numbered(answers, m.RequestID, "TotalNumMessages")

    def historical_fills(self, m: dtc.HistoricalOrderFillsRequest) -> list[Message]:
        if text := self._why_no_fills(m):
            return [dtc.HistoricalOrderFillsReject(RequestID=m.RequestID, RejectText=text)]
        days_ns = m.NumberOfDays * _DAY_NS
        since_ns = max(start_ns(m.StartDateTime), self._engine.now_ns - days_ns if days_ns > 0 else 0)
        found = [
            fill
            for fill in self._fills
            if fill.ts_ns >= since_ns and (not m.ServerOrderID or fill.server_id == m.ServerOrderID)
        ]
        if not found:
            return [dtc.HistoricalOrderFillResponse(
                RequestID=m.RequestID, TotalNumberMessages=1, MessageNumber=1, NoOrderFills=1,
                TradeAccount=m.TradeAccount,
            )]  # fmt: skip
        answers = [
            dtc.HistoricalOrderFillResponse(
                Symbol=self._instrument.symbol,
                ServerOrderID=fill.server_id,
                BuySell=BuySellEnum.BUY if fill.side > 0 else BuySellEnum.SELL,
                Price=fill.price * self._instrument.tick_size,
                DateTime=fill.ts_ns // NS_PER_S,
                Quantity=float(fill.quantity),
                UniqueExecutionID=fill.execution_id,
                TradeAccount=self._account.name,
                PositionQuantity=float(fill.position),
                ExchangeOrderID=fill.server_id,
            )
            for fill in found
        ]
        return _numbered(answers, m.RequestID, "TotalNumberMessages")

    def _why_no_fills(self, m: dtc.HistoricalOrderFillsRequest) -> str:
        """Why this request is rejected; "" when it is not."""
        if not m.TradeAccount:
            return "TradeAccount is required"
        if self._is_unknown(m.TradeAccount):
            return _unknown(m.TradeAccount)
        if m.NumberOfDays <= 0 and m.StartDateTime <= 0:
            return "NumberOfDays or StartDateTime is required"
        return ""

    def positions(self, m: dtc.CurrentPositionsRequest) -> list[Message]:
        if self._is_unknown(m.TradeAccount):
            return [dtc.CurrentPositionsReject(RequestID=m.RequestID, RejectText=_unknown(m.TradeAccount))]
        if not self._account.position:
            return [dtc.PositionUpdate(
                RequestID=m.RequestID, TotalNumberMessages=1, MessageNumber=1, NoPositions=1,
                TradeAccount=m.TradeAccount or self._account.name,
            )]  # fmt: skip
        return _numbered([self.position_update()], m.RequestID, "TotalNumberMessages")

    def balances(self, m: dtc.AccountBalanceRequest) -> list[Message]:
        if self._is_unknown(m.TradeAccount):
            return [dtc.AccountBalanceReject(RequestID=m.RequestID, RejectText=_unknown(m.TradeAccount))]
        return _numbered([self.balance_update()], m.RequestID, "TotalNumberMessages")

    def accounts(self, m: dtc.TradeAccountsRequest) -> list[Message]:
        return _numbered(
            [dtc.TradeAccountResponse(TradeAccount=self._account.name)], m.RequestID, "TotalNumberMessages"
        )

    def _is_unknown(self, account: str) -> bool:
        return account not in {"", self._account.name}

    def _mark(self) -> float:
        price = self._engine.last_price
        return 0.0 if price is None else self._account.unrealized(price, self._instrument)

    def position_update(self, unsolicited: int = 0) -> dtc.PositionUpdate:
        return dtc.PositionUpdate(
            TotalNumberMessages=1,
            MessageNumber=1,
            Symbol=self._instrument.symbol,
            Quantity=float(self._account.position),
            AveragePrice=self._account.average * self._instrument.tick_size,
            PositionIdentifier=self._account.name,
            TradeAccount=self._account.name,
            Unsolicited=unsolicited,
            EntryDateTime=self._account.opened_ns // NS_PER_S,
            OpenProfitLoss=self._mark(),
        )

    def balance_update(self, unsolicited: int = 0) -> dtc.AccountBalanceUpdate:
        unrealized = self._mark()
        return dtc.AccountBalanceUpdate(
            TotalNumberMessages=1,
            MessageNumber=1,
            CashBalance=self._account.cash,
            BalanceAvailableForNewPositions=self._account.cash + unrealized,
            AccountCurrency=CURRENCY,
            TradeAccount=self._account.name,
            Unsolicited=unsolicited,
            OpenPositionsProfitLoss=unrealized,
            DailyProfitLoss=self._account.realized_today + unrealized,
            TransactionDateTime=self._engine.now_ns // 1_000,
        )


def start_ns(start: int) -> int:
    """StartDateTime of a request for past fills, which is in seconds or in microseconds, as nanoseconds."""
    return start * (1_000 if start >= _IN_MICROSECONDS else NS_PER_S)


def _unknown(account: str) -> str:
    return f"trade account {account} is unknown"


def _numbered(answers: list[Any], request_id: int, total_field: str) -> list[Message]:
    """The answers as one batch: 1 of n … n of n."""
    for number, answer in enumerate(answers, 1):
        answer.RequestID = request_id
        answer.MessageNumber = number
        setattr(answer, total_field, len(answers))
    return answers
