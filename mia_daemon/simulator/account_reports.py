"""What is answered about accounts: open orders, fills, positions, balances."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mia_daemon.clock import NS_PER_DAY, NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.account import Account
from mia_daemon.simulator.client_order import UpdateReason
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.order_messages import order_update, start_ns
from mia_daemon.simulator.symbol_market import SymbolMarket

CURRENCY = "USD"


class FillRecord(NamedTuple):
    """One execution of a client's order; price in ticks."""

    ts_ns: int
    execution_id: str
    client_id: str
    server_id: str
    side: int
    quantity: int
    price: int
    position: int  # of the account in this symbol, after it
    symbol: str
    account: str


class AccountReports:
    """Answers queries about accounts: about all of them where a query names none.

    Args:
        markets: what is traded, by symbol.
        accounts: by name.
        fills: every execution, oldest first; read at each query.
        faults: the habits to show.
    """

    def __init__(
        self,
        markets: Mapping[str, SymbolMarket],
        accounts: Mapping[str, Account],
        fills: list[FillRecord],
        faults: OrderFaults,
    ) -> None:
        self._markets = markets
        self._accounts = accounts
        self._fills = fills
        self._faults = faults
        self._clock = next(iter(markets.values()))  # the time is the same in all of them

    def open_orders(self, m: dtc.OpenOrdersRequest) -> list[Message]:
        if self._is_unknown(m.TradeAccount):
            return [dtc.OpenOrdersReject(RequestID=m.RequestID, RejectText=_unknown(m.TradeAccount))]
        answers: list[Message] = [
            order_update(order.event(market.now_ns, UpdateReason.OPEN_ORDERS_RESPONSE), market.native)
            for market in self._markets.values()
            for order in market.engine.alive.values()
            if m.TradeAccount in {"", order.account} and (not m.ServerOrderID or order.server_id == m.ServerOrderID)
        ]
        if not answers:
            return [dtc.OrderUpdate(
                RequestID=m.RequestID, TotalNumMessages=1, MessageNumber=1, NoOrders=1,
                OrderUpdateReason=UpdateReason.OPEN_ORDERS_RESPONSE, TradeAccount=m.TradeAccount,
            )]  # fmt: skip
        return _numbered(answers, m.RequestID, "TotalNumMessages")

    def historical_fills(self, m: dtc.HistoricalOrderFillsRequest) -> list[Message]:
        if text := self._why_no_fills(m):
            return [dtc.HistoricalOrderFillsReject(RequestID=m.RequestID, RejectText=text)]
        days_ns = m.NumberOfDays * NS_PER_DAY
        since_ns = max(start_ns(m.StartDateTime), self._clock.now_ns - days_ns if days_ns > 0 else 0)
        found = [
            fill
            for fill in self._fills
            if m.TradeAccount == fill.account
            and fill.ts_ns >= since_ns
            and (not m.ServerOrderID or fill.server_id == m.ServerOrderID)
        ]
        if not found:
            return [dtc.HistoricalOrderFillResponse(
                RequestID=m.RequestID, TotalNumberMessages=1, MessageNumber=1, NoOrderFills=1,
                TradeAccount=m.TradeAccount,
            )]  # fmt: skip
        return _numbered([self._historical_fill(fill) for fill in found], m.RequestID, "TotalNumberMessages")

    def _why_no_fills(self, m: dtc.HistoricalOrderFillsRequest) -> str:
        """Why this request is rejected; "" when it is not."""
        if not m.TradeAccount:
            return "TradeAccount is required"
        if self._is_unknown(m.TradeAccount):
            return _unknown(m.TradeAccount)
        if m.NumberOfDays <= 0 and m.StartDateTime <= 0:
            return "NumberOfDays or StartDateTime is required"
        return ""

    def _historical_fill(self, fill: FillRecord) -> dtc.HistoricalOrderFillResponse:
        return dtc.HistoricalOrderFillResponse(
            Symbol=fill.symbol,
            ServerOrderID=fill.server_id,
            BuySell=BuySellEnum.BUY if fill.side > 0 else BuySellEnum.SELL,
            Price=fill.price * self._markets[fill.symbol].native.tick_size,
            DateTime=fill.ts_ns // NS_PER_S,
            Quantity=float(fill.quantity),
            UniqueExecutionID=fill.execution_id,
            TradeAccount=fill.account,
            PositionQuantity=float(fill.position),
            ExchangeOrderID=fill.server_id,
        )

    def positions(self, m: dtc.CurrentPositionsRequest) -> list[Message]:
        if self._is_unknown(m.TradeAccount):
            return [dtc.CurrentPositionsReject(RequestID=m.RequestID, RejectText=_unknown(m.TradeAccount))]
        accounts = self._named(m.TradeAccount)
        answers: list[Message] = [
            self.position_update(account, symbol)
            for account in accounts
            for symbol in self._markets
            if account.position(symbol).quantity
            or (symbol in account.positions and self._faults.lists_closed_positions)
        ]
        if not answers:
            return [dtc.PositionUpdate(
                RequestID=m.RequestID, TotalNumberMessages=1, MessageNumber=1, NoPositions=1,
                TradeAccount=accounts[0].name if len(accounts) == 1 else "",
            )]  # fmt: skip
        return _numbered(answers, m.RequestID, "TotalNumberMessages")

    def balances(self, m: dtc.AccountBalanceRequest) -> list[Message]:
        if self._is_unknown(m.TradeAccount):
            return [dtc.AccountBalanceReject(RequestID=m.RequestID, RejectText=_unknown(m.TradeAccount))]
        if self._faults.refuses_balances:
            return [dtc.AccountBalanceReject(RequestID=m.RequestID, RejectText="account balances are not available")]
        answers = [self.balance_update(account) for account in self._named(m.TradeAccount)]
        return _numbered(answers, m.RequestID, "TotalNumberMessages")

    def accounts(self, m: dtc.TradeAccountsRequest) -> list[Message]:
        answers = [dtc.TradeAccountResponse(TradeAccount=name) for name in self._accounts]
        return _numbered(answers, m.RequestID, "TotalNumberMessages")

    def _is_unknown(self, account: str) -> bool:
        return bool(account) and account not in self._accounts

    def _named(self, account: str) -> list[Account]:
        return [self._accounts[account]] if account else list(self._accounts.values())

    def _open_profit(self, account: Account, symbol: str) -> float:
        market = self._markets[symbol]
        price = market.engine.last_price
        return 0.0 if price is None else account.position(symbol).unrealized(price, market.instrument)

    def position_update(self, account: Account, symbol: str, unsolicited: int = 0) -> dtc.PositionUpdate:
        position = account.position(symbol)
        return dtc.PositionUpdate(
            TotalNumberMessages=1,
            MessageNumber=1,
            Symbol=symbol,
            Quantity=float(position.quantity),
            AveragePrice=position.average * self._markets[symbol].native.tick_size,
            PositionIdentifier=account.name if len(self._markets) == 1 else "",  # it has to be unique
            TradeAccount=account.name,
            Unsolicited=unsolicited,
            EntryDateTime=position.opened_ns // NS_PER_S,
            OpenProfitLoss=self._open_profit(account, symbol),
        )

    def balance_update(self, account: Account, unsolicited: int = 0) -> dtc.AccountBalanceUpdate:
        # -0.0 changes no sum, not even the sign of a zero.
        unrealized = sum((self._open_profit(account, symbol) for symbol in self._markets), -0.0)
        return dtc.AccountBalanceUpdate(
            TotalNumberMessages=1,
            MessageNumber=1,
            CashBalance=account.cash,
            BalanceAvailableForNewPositions=account.cash + unrealized,
            AccountCurrency=CURRENCY,
            TradeAccount=account.name,
            Unsolicited=unsolicited,
            OpenPositionsProfitLoss=unrealized,
            DailyProfitLoss=account.realized_today + unrealized,
            TransactionDateTime=self._clock.now_ns // 1_000,
        )


def _unknown(account: str) -> str:
    return f"trade account {account} is unknown"


def _numbered(answers: list[Any], request_id: int, total_field: str) -> list[Message]:
    """The answers as one batch: 1 of n … n of n."""
    for number, answer in enumerate(answers, 1):
        answer.RequestID = request_id
        answer.MessageNumber = number
        setattr(answer, total_field, len(answers))
    return answers
