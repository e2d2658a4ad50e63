"""Order entry of the simulator: handles DTC trading messages, returns DTC answers, and records both.

Answers to a query go to the client that sent it; changes of orders, position and cash go to every client. This module
is independent of connections: `handle` returns the answers, `publish` the updates.
"""

from collections.abc import Callable, Mapping
from typing import Any

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum, PartialFillHandlingEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.account import Account
from mia_daemon.simulator.account_reports import AccountReports, FillRecord
from mia_daemon.simulator.client_order import ClientOrder, NewOrder, OrderEvent, UpdateReason
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.order_changes import OrderChanges
from mia_daemon.simulator.order_log import OrderLog
from mia_daemon.simulator.order_messages import (
    Refused,
    Terms,
    new_order,
    order_update,
    pair_offsets,
    pair_terms,
    rejection,
    single_terms,
)
from mia_daemon.simulator.order_record import OrderRecord
from mia_daemon.simulator.symbol_market import SymbolMarket

_NEW_ORDERS = frozenset(
    {
        dtc.SubmitNewSingleOrder,
        dtc.SubmitNewOCOOrder,
        dtc.SubmitFlattenPositionOrder,
        dtc.FlattenPositionsForTradeAccount,
    }
)
_RECORDED = _NEW_ORDERS | {dtc.CancelOrder, dtc.CancelReplaceOrder}
_LONGEST_START = 28  # bytes of a ClientOrderID that leave room for a number, of 31


class OrderEntryHandler:
    """Order entry for all symbols and accounts.

    Args:
        markets: what is traded, by symbol.
        accounts: by name.
        log: what happens to the orders of all markets.
        faults: the faults to inject.

    Attributes:
        orders: every order by its ClientOrderID, which no two orders share whatever their accounts; done or not.
        fills: every execution, oldest first.
        record: lines for orders.jsonl since the caller last cleared them.
    """

    def __init__(
        self,
        markets: Mapping[str, SymbolMarket],
        accounts: Mapping[str, Account],
        log: OrderLog,
        faults: OrderFaults,
    ) -> None:
        self._markets = markets
        self._accounts = accounts
        self._log = log
        self._faults = faults
        self._refusal = ""  # of the message at hand
        self.orders: dict[str, ClientOrder] = {}
        self.fills: list[FillRecord] = []
        self._reports = AccountReports(markets, accounts, self.fills, faults)
        self._record = OrderRecord(lambda: self.now_ns)
        self.record = self._record.lines
        self._by_server_id: dict[str, ClientOrder] = {}
        self._changes = OrderChanges(markets, faults, self._find)
        self._rejections: list[Message] = []
        self._answers: dict[type[Message], Callable[[Any], list[Message]]] = {
            dtc.SubmitNewSingleOrder: self._submit_single,
            dtc.SubmitNewOCOOrder: self._submit_pair,
            dtc.SubmitFlattenPositionOrder: self._flatten,
            dtc.FlattenPositionsForTradeAccount: self._flatten_account,
            dtc.CancelOrder: self._cancel,
            dtc.CancelReplaceOrder: self._replace,
            dtc.OpenOrdersRequest: self._reports.open_orders,
            dtc.HistoricalOrderFillsRequest: self._reports.historical_fills,
            dtc.CurrentPositionsRequest: self._reports.positions,
            dtc.AccountBalanceRequest: self._reports.balances,
            dtc.TradeAccountsRequest: self._reports.accounts,
        }

    def restore(self, orders: list[ClientOrder], fills: list[FillRecord]) -> None:
        """Know the orders and fills of an earlier run; `orders` are in the engines already where alive."""
        self.orders = {order.client_id: order for order in orders}
        self._by_server_id = {order.server_id: order for order in orders}
        self.fills[:] = fills

    @property
    def now_ns(self) -> int:
        """Exchange time, the same in all markets."""
        return next(iter(self._markets.values())).now_ns

    def handles(self, message: Message) -> bool:
        return type(message) in self._answers

    def handle(self, message: Message) -> list[Message]:
        """Act on a trading message; the answers go to its sender. What it set in motion comes with `publish`."""
        if type(message) in _RECORDED:
            self._record.add_request(message)
        self._refusal = self._faults.refusal() if type(message) in _NEW_ORDERS else ""
        return self._answers[type(message)](message)

    def publish(self) -> list[Message]:
        """Everything that happened to orders since the last call, for every client, in order."""
        events = list(self._log.events)
        self._log.events.clear()
        news, self._rejections = self._rejections, []
        filled: dict[tuple[str, str], None] = {}  # (account, symbol), in order
        for event in events:
            self._index(event)
            news.append(order_update(event, self._markets[event.symbol].native))
            if event.last_quantity:
                self._book_fill(event)
                filled[event.account, event.symbol] = None
            elif event.reason == UpdateReason.CANCELED:
                self._record.add_cancel(event)
        news += [self._reports.position_update(self._accounts[name], symbol, unsolicited=1) for name, symbol in filled]
        for name in dict.fromkeys(name for name, _ in filled):
            news.append(self._reports.balance_update(self._accounts[name], unsolicited=1))
        return news

    def forget_ended(self, symbol: str) -> list[int]:
        """Forget the orders of a symbol that have ended; their ids."""
        gone = [order for order in self.orders.values() if order.symbol == symbol and not order.alive]
        for order in gone:
            del self.orders[order.client_id]
            self._by_server_id.pop(order.server_id, None)
        return [order.order_id for order in gone]

    # ---------------------------------------------------------------------------------------------------------- orders

    def _submit_single(self, m: dtc.SubmitNewSingleOrder) -> list[Message]:
        terms = single_terms(m)
        try:
            market = self._check(m.Symbol, m.TradeAccount, terms.client_id)
            self._known(market.engine.submit(new_order(terms, market.native, m.TradeAccount)))
        except Refused as refusal:
            self._reject(terms, m.Symbol, m.TradeAccount, str(refusal))
        return []

    def _submit_pair(self, m: dtc.SubmitNewOCOOrder) -> list[Message]:
        first, second = pair_terms(m)
        try:
            market = self._check(m.Symbol, m.TradeAccount, first.client_id, second.client_id)
            if first.client_id == second.client_id:
                raise Refused("both orders have the same ClientOrderID")
            parent = self._parent(m)
            offsets = pair_offsets(m, market.native)
            orders = [
                new_order(terms, market.native, m.TradeAccount, priced_by_parent=offset is not None)
                for terms, offset in zip((first, second), offsets, strict=True)
            ]
            if parent is not None and any(order.side == parent.side for order in orders):
                raise Refused("a bracket's orders have to be on the other side of their parent")
        except Refused as refusal:
            for terms in (first, second):
                self._reject(terms, m.Symbol, m.TradeAccount, str(refusal))
            return []
        immediate = m.PartialFillHandling == PartialFillHandlingEnum.PARTIAL_FILL_HANDLING_IMMEDIATE_CANCEL
        for order in market.engine.submit_oco(orders[0], orders[1], parent, offsets, immediate_cancel=immediate):
            self._known(order)
        return []

    def _parent(self, m: dtc.SubmitNewOCOOrder) -> ClientOrder | None:
        client_id = m.ParentTriggerClientOrderID
        if not client_id:
            return None
        parent = self.orders.get(client_id)
        if parent is None or (parent.symbol, parent.account) != (m.Symbol, m.TradeAccount):
            raise Refused(f"parent order {client_id} is not known")
        if not parent.is_parent:
            raise Refused(f"order {client_id} was not submitted as a parent order")
        if parent.children:
            raise Refused(f"parent order {client_id} has a bracket already")
        if not parent.waits_for_pair:
            raise Refused(f"parent order {client_id} has ended")
        return parent

    def _flatten(self, m: dtc.SubmitFlattenPositionOrder) -> list[Message]:
        """Close the position at the market; working orders stay, as they do at Sierra Chart."""
        held = self._accounts.get(m.TradeAccount)
        position = 0 if held is None else held.position(m.Symbol).quantity
        side = BuySellEnum.SELL if position > 0 else BuySellEnum.BUY
        terms = Terms(m.ClientOrderID, OrderType.MARKET, side, 0.0, 0.0, float(abs(position)), TimeInForce.DAY)
        try:
            market = self._check(m.Symbol, m.TradeAccount, m.ClientOrderID)
            if not m.ClientOrderID:
                raise Refused("ClientOrderID is missing")
            if not position:
                raise Refused("there is no position to flatten")
            request = NewOrder(
                m.ClientOrderID,
                -1 if position > 0 else 1,
                OrderType.MARKET,
                abs(position),
                symbol=m.Symbol,
                account=m.TradeAccount,
            )
            self._known(market.engine.submit(request))
        except Refused as refusal:
            self._reject(terms, m.Symbol, m.TradeAccount, str(refusal))
        return []

    def _flatten_account(self, m: dtc.FlattenPositionsForTradeAccount) -> list[Message]:
        """Close what the account holds, symbol by symbol, with an order each; those after the first are numbered."""
        account = self._accounts.get(m.TradeAccount)
        held = [] if account is None else [name for name in self._markets if account.position(name).quantity]
        for number, symbol in enumerate(held or list(self._markets)[:1], 1):
            start = m.ClientOrderID.encode()[:_LONGEST_START].decode(errors="ignore")
            client_id = m.ClientOrderID if number == 1 else f"{start}.{number}"
            self._flatten(
                dtc.SubmitFlattenPositionOrder(Symbol=symbol, TradeAccount=m.TradeAccount, ClientOrderID=client_id)
            )
        return []

    def _cancel(self, m: dtc.CancelOrder) -> list[Message]:
        """By the faults one without a ServerOrderID, or with another account, has neither effect nor answer."""
        order = self._find(m.ServerOrderID)
        owners = self._accounts if order is None else (order.account,)
        if self._faults.ignores_incomplete_cancels and (not m.ServerOrderID or m.TradeAccount not in owners):
            self._record.add_ignored(m.ClientOrderID, "cancel without server order id or account")
        else:
            self._rejections += self._changes.cancel(m)
        return []

    def _replace(self, m: dtc.CancelReplaceOrder) -> list[Message]:
        self._rejections += self._changes.replace(m)
        return []

    def _check(self, symbol: str, account: str, *client_ids: str) -> SymbolMarket:
        """The market of a new order. Raises Refused."""
        market = self._markets.get(symbol)
        if market is None:
            raise Refused(f"symbol {symbol} is not traded here")
        if account not in self._accounts:
            names = list(self._accounts)
            mode = "on" if names[0].startswith("Sim") else "off"
            raise Refused(
                f"trade account {account or '(none)'} can't be used: Trade Simulation Mode is {mode}, "
                f"use {' or '.join(names)}"
            )
        for client_id in client_ids:
            if client_id in self.orders:
                raise Refused(f"ClientOrderID {client_id} has been used already")
        if self._refusal:
            raise Refused(self._refusal)
        return market

    def _find(self, server_id: str) -> ClientOrder | None:
        return self._by_server_id.get(server_id)

    def _known(self, order: ClientOrder) -> None:
        self.orders[order.client_id] = order
        self._by_server_id[order.server_id] = order

    def _index(self, event: OrderEvent) -> None:
        """A replace may have renamed the order: the old name no longer leads to it."""
        if event.previous_server_id and event.previous_server_id in self._by_server_id:
            order = self._by_server_id.pop(event.previous_server_id)
            self._by_server_id[order.server_id] = order

    def _reject(self, terms: Terms, symbol: str, account: str, text: str) -> None:
        server_id = str(self._log.take_order_id())
        self._record.add_reject(terms.client_id, server_id, text)
        self._rejections.append(rejection(terms, server_id, symbol, account, self.now_ns, text))

    def _book_fill(self, event: OrderEvent) -> None:
        account, native = self._accounts[event.account], self._markets[event.symbol].native
        account.fill(event.ts_ns, event.side, event.last_quantity, event.last_price, native)
        fill = FillRecord(
            event.ts_ns,
            event.execution_id,
            event.client_id,
            event.server_id,
            event.side,
            event.last_quantity,
            event.last_price,
            account.position(event.symbol).quantity,
            event.symbol,
            event.account,
        )
        self.fills.append(fill)
        self._record.add_fill(fill, fill.price * native.tick_size)
