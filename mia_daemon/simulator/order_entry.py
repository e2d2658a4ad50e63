"""Order entry of the simulator: handles DTC trading messages, returns DTC answers, and records both.

Answers to a query go to the client that sent it; changes of orders, position and cash go to every client. This module
is independent of connections: `handle` returns the answers, `publish` the updates.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum, PartialFillHandlingEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.account import Account
from mia_daemon.simulator.account_reports import AccountReports, FillRecord
from mia_daemon.simulator.client_order import ClientOrder, NewOrder, OrderEvent, ServedStatus, UpdateReason
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.native_prices import NativeInstrument
from mia_daemon.simulator.order_log import OrderLog
from mia_daemon.simulator.order_messages import (
    Refused,
    Terms,
    contracts,
    new_order,
    order_update,
    pair_terms,
    rejection,
    single_terms,
    ticks,
    time_in_force,
)
from mia_daemon.simulator.symbol_market import SymbolMarket

_NEW_ORDERS = frozenset({dtc.SubmitNewSingleOrder, dtc.SubmitNewOCOOrder, dtc.SubmitFlattenPositionOrder})


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
        self._reports = AccountReports(markets, accounts, self.fills)
        self.record: list[dict[str, Any]] = []
        self._by_server_id: dict[str, ClientOrder] = {}
        self._rejections: list[Message] = []
        self._answers: dict[type[Message], Callable[[Any], list[Message]]] = {
            dtc.SubmitNewSingleOrder: self._submit_single,
            dtc.SubmitNewOCOOrder: self._submit_pair,
            dtc.SubmitFlattenPositionOrder: self._flatten,
            dtc.CancelOrder: self._cancel,
            dtc.CancelReplaceOrder: self._replace,
            dtc.OpenOrdersRequest: self._reports.open_orders,
            dtc.HistoricalOrderFillsRequest: self._reports.historical_fills,
            dtc.CurrentPositionsRequest: self._reports.positions,
            dtc.AccountBalanceRequest: self._reports.balances,
            dtc.TradeAccountsRequest: self._reports.accounts,
        }
        self._orders_types = frozenset(list(self._answers)[:5])

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
        if type(message) in self._orders_types:
            self._note("received", type=type(message).__name__, **_stated(message))
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
                self._note("cancel", ClientOrderID=event.client_id, ServerOrderID=event.server_id, text=event.text)
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
            offsets = _offsets(m, parent, market.native)
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
        if not parent.alive and not parent.filled:
            raise Refused(f"parent order {client_id} ended without a fill")
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

    def _cancel(self, m: dtc.CancelOrder) -> list[Message]:
        """Without a ServerOrderID, or with another account, nothing happens and nothing is said: Sierra's way."""
        order = self._by_server_id.get(m.ServerOrderID)
        owners = self._accounts if order is None else (order.account,)
        if not m.ServerOrderID or m.TradeAccount not in owners:
            self._note("ignored", ClientOrderID=m.ClientOrderID, text="cancel without server order id or account")
        elif order is None:
            self._refuse_change(m, UpdateReason.CANCEL_REJECTED)
        elif not self._fills_unnoticed(order):
            self._markets[order.symbol].engine.cancel(order)
        return []

    def _fills_unnoticed(self, order: ClientOrder) -> bool:
        """Whether the faults want this cancel to come too late; then it is confirmed all the same."""
        market = self._markets[order.symbol]
        confirmation = market.engine.fill_before_cancel(order) if self._faults.fills_before_cancel() else None
        if confirmation is None:
            return False
        self._faults.confirm(order.client_id, order_update(confirmation, market.native))
        return True

    def _replace(self, m: dtc.CancelReplaceOrder) -> list[Message]:
        order = self._by_server_id.get(m.ServerOrderID)
        if order is None or m.TradeAccount not in {"", order.account}:
            self._refuse_change(m, UpdateReason.REPLACE_REJECTED)
            return []
        market = self._markets[order.symbol]
        try:
            has_price2 = order.type == OrderType.STOP_LIMIT
            market.engine.replace(
                order,
                ticks(m.Price1, market.native, "Price1") if m.Price1IsSet else None,
                ticks(m.Price2, market.native, "Price2") if m.Price2IsSet and has_price2 else None,
                contracts(m.Quantity) if m.Quantity else 0,
                time_in_force(m.TimeInForce, order.type) if m.TimeInForce else None,
            )
        except Refused as refusal:
            self._log.events.append(order.event(self.now_ns, UpdateReason.REPLACE_REJECTED, text=str(refusal)))
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
        self._note("reject", ClientOrderID=terms.client_id, ServerOrderID=server_id, text=text)
        self._rejections.append(rejection(terms, server_id, symbol, account, self.now_ns, text))

    def _refuse_change(self, m: dtc.CancelOrder | dtc.CancelReplaceOrder, reason: UpdateReason) -> None:
        """Reject a cancel or replace that names no order of ours, telling what is known under the ClientOrderID."""
        text = f"there is no order with ServerOrderID {m.ServerOrderID or '(none)'}"
        known = self.orders.get(m.ClientOrderID)
        if known is not None:
            self._log.events.append(known.event(self.now_ns, reason, text=text))
            return
        self._rejections.append(
            dtc.OrderUpdate(
                Symbol=_only(self._markets),
                ServerOrderID=m.ServerOrderID,
                ClientOrderID=m.ClientOrderID,
                OrderStatus=ServedStatus.UNSPECIFIED,
                OrderUpdateReason=reason,
                TradeAccount=_only(self._accounts) or m.TradeAccount,
                InfoText=text,
                LatestTransactionDateTime=self.now_ns / NS_PER_S,
            )
        )

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
        self._note(
            "fill",
            ClientOrderID=fill.client_id,
            ServerOrderID=fill.server_id,
            ExecutionID=fill.execution_id,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price * native.tick_size,
            position=fill.position,
        )

    def _note(self, kind: str, **facts: Any) -> None:
        self.record.append({"ts_ns": self.now_ns, "kind": kind, **facts})


def _offsets(
    m: dtc.SubmitNewOCOOrder, parent: ClientOrder | None, native: NativeInstrument
) -> tuple[int | None, int | None]:
    """Distances from the parent's price, ticks. Raises Refused."""
    if not m.UseOffsets:
        return None, None
    if parent is None:
        raise Refused("offsets need a parent order")
    return (
        ticks(abs(m.OffsetFromParent1), native, "OffsetFromParent1"),
        ticks(abs(m.OffsetFromParent2), native, "OffsetFromParent2"),
    )


def _only(names: Mapping[str, object]) -> str:
    """The one name there is; empty where there are several."""
    return next(iter(names)) if len(names) == 1 else ""


def _stated(message: Message) -> dict[str, Any]:
    """The fields a client has set, as JSON can hold them."""
    blank = type(message)()
    facts = {f.name: getattr(message, f.name) for f in message.LAYOUT.fields}
    return {
        name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in facts.items()
        if value != getattr(blank, name)
    }
