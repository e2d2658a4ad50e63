"""Order entry of the simulator: handles DTC trading messages, returns DTC answers, and records both.

Answers to a query go to the client that sent it; changes of orders, position and cash go to every client. This module
is independent of connections: `handle` returns the answers, `publish` the updates.
"""

import math
from collections.abc import Callable
from typing import Any

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum, PartialFillHandlingEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.account import Account
from mia_daemon.simulator.account_reports import AccountReports, FillRecord
from mia_daemon.simulator.client_order import ClientOrder, NewOrder, OrderEvent, UpdateReason
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_changes import OrderChanges
from mia_daemon.simulator.order_messages import (
    Refused,
    Terms,
    new_order,
    order_update,
    pair_terms,
    rejection,
    single_terms,
    ticks,
)

_NEW_ORDERS = frozenset(
    {
        dtc.SubmitNewSingleOrder,
        dtc.SubmitNewOCOOrder,
        dtc.SubmitFlattenPositionOrder,
        dtc.FlattenPositionsForTradeAccount,
    }
)
_RECORDED = _NEW_ORDERS | {dtc.CancelOrder, dtc.CancelReplaceOrder}


class OrderEntryHandler:
    """Order entry for one symbol and one account.

    Args:
        faults: the faults to inject.

    Attributes:
        orders: every order of the account by its ClientOrderID, done or not.
        fills: every execution, oldest first.
        record: lines for orders.jsonl since the caller last cleared them.
    """

    def __init__(self, engine: MatchingEngine, account: Account, instrument: Instrument, faults: OrderFaults) -> None:
        self._faults = faults
        self._refusal = ""  # of the message at hand
        self.engine = engine
        self.account = account
        self.instrument = instrument
        self.orders: dict[str, ClientOrder] = {}
        self.fills: list[FillRecord] = []
        self._reports = AccountReports(engine, account, instrument, self.fills)
        self.record: list[dict[str, Any]] = []
        self._by_server_id: dict[str, ClientOrder] = {}
        self._changes = OrderChanges(engine, account, instrument, faults, self._find)
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
        """Know the orders and fills of an earlier run; `orders` are in the engine already where alive."""
        self.orders = {order.client_id: order for order in orders}
        self._by_server_id = {order.server_id: order for order in orders}
        self.fills[:] = fills

    def handles(self, message: Message) -> bool:
        return type(message) in self._answers

    def handle(self, message: Message) -> list[Message]:
        """Act on a trading message; the answers go to its sender. What it set in motion comes with `publish`."""
        if type(message) in _RECORDED:
            self._note("received", type=type(message).__name__, **_stated(message))
        self._refusal = self._faults.refusal() if type(message) in _NEW_ORDERS else ""
        return self._answers[type(message)](message)

    def publish(self) -> list[Message]:
        """Everything that happened to orders since the last call, for every client, in order."""
        events, self.engine.events = self.engine.events, []
        news, self._rejections = self._rejections, []
        filled = False
        for event in events:
            self._index(event)
            news.append(order_update(event, self.instrument, self.account.name))
            if event.last_quantity:
                self._book_fill(event)
                filled = True
            elif event.reason == UpdateReason.CANCELED:
                self._note("cancel", ClientOrderID=event.client_id, ServerOrderID=event.server_id, text=event.text)
        if filled:
            news += [self._reports.position_update(unsolicited=1), self._reports.balance_update(unsolicited=1)]
        return news

    def new_day(self) -> None:
        """A new session: the day's profit starts at nothing and orders that are done are forgotten."""
        self.account.realized_today = 0.0
        self.orders = {key: order for key, order in self.orders.items() if order.alive}
        self._by_server_id = {key: order for key, order in self._by_server_id.items() if order.alive}

    # ---------------------------------------------------------------------------------------------------------- orders

    def _submit_single(self, m: dtc.SubmitNewSingleOrder) -> list[Message]:
        terms = single_terms(m)
        try:
            self._check(m.Symbol, m.TradeAccount, terms.client_id)
            self._known(self.engine.submit(new_order(terms, self.instrument)))
        except Refused as refusal:
            self._reject(terms, m.Symbol, m.TradeAccount, str(refusal))
        return []

    def _submit_pair(self, m: dtc.SubmitNewOCOOrder) -> list[Message]:
        first, second = pair_terms(m)
        try:
            for terms in (first, second):
                self._check(m.Symbol, m.TradeAccount, terms.client_id)
            if first.client_id == second.client_id:
                raise Refused("both orders have the same ClientOrderID")
            parent = self._parent(m.ParentTriggerClientOrderID)
            offsets = self._offsets(m, parent)
            orders = [
                new_order(terms, self.instrument, priced_by_parent=offset is not None)
                for terms, offset in zip((first, second), offsets, strict=True)
            ]
            if parent is not None and any(order.side == parent.side for order in orders):
                raise Refused("a bracket's orders have to be on the other side of their parent")
        except Refused as refusal:
            for terms in (first, second):
                self._reject(terms, m.Symbol, m.TradeAccount, str(refusal))
            return []
        immediate = m.PartialFillHandling == PartialFillHandlingEnum.PARTIAL_FILL_HANDLING_IMMEDIATE_CANCEL
        for order in self.engine.submit_oco(orders[0], orders[1], parent, offsets, immediate_cancel=immediate):
            self._known(order)
        return []

    def _parent(self, client_id: str) -> ClientOrder | None:
        if not client_id:
            return None
        parent = self.orders.get(client_id)
        if parent is None:
            raise Refused(f"parent order {client_id} is not known")
        if not parent.is_parent:
            raise Refused(f"order {client_id} was not submitted as a parent order")
        if parent.children:
            raise Refused(f"parent order {client_id} has a bracket already")
        if not parent.waits_for_pair:
            raise Refused(f"parent order {client_id} has ended")
        return parent

    def _offsets(self, m: dtc.SubmitNewOCOOrder, parent: ClientOrder | None) -> tuple[int | None, int | None]:
        if not m.UseOffsets:
            return None, None
        if parent is None:
            raise Refused("offsets need a parent order")
        return (
            ticks(abs(m.OffsetFromParent1), self.instrument, "OffsetFromParent1"),
            ticks(abs(m.OffsetFromParent2), self.instrument, "OffsetFromParent2"),
        )

    def _flatten(self, m: dtc.SubmitFlattenPositionOrder) -> list[Message]:
        """Close the position at the market; working orders stay, as they do at Sierra Chart."""
        position = self.account.position
        side = BuySellEnum.SELL if position > 0 else BuySellEnum.BUY
        terms = Terms(m.ClientOrderID, OrderType.MARKET, side, 0.0, 0.0, float(abs(position)), TimeInForce.DAY)
        try:
            self._check(m.Symbol, m.TradeAccount, m.ClientOrderID)
            if not m.ClientOrderID:
                raise Refused("ClientOrderID is missing")
            if not position:
                raise Refused("there is no position to flatten")
            request = NewOrder(m.ClientOrderID, -1 if position > 0 else 1, OrderType.MARKET, abs(position))
            self._known(self.engine.submit(request))
        except Refused as refusal:
            self._reject(terms, m.Symbol, m.TradeAccount, str(refusal))
        return []

    def _flatten_account(self, m: dtc.FlattenPositionsForTradeAccount) -> list[Message]:
        return self._flatten(
            dtc.SubmitFlattenPositionOrder(
                Symbol=self.instrument.symbol, TradeAccount=m.TradeAccount, ClientOrderID=m.ClientOrderID
            )
        )

    def _cancel(self, m: dtc.CancelOrder) -> list[Message]:
        """By the faults one without a ServerOrderID, or with another account, has neither effect nor answer."""
        incomplete = not m.ServerOrderID or m.TradeAccount != self.account.name
        if incomplete and self._faults.ignores_incomplete_cancels:
            self._note("ignored", ClientOrderID=m.ClientOrderID, text="cancel without server order id or account")
        else:
            self._rejections += self._changes.cancel(m)
        return []

    def _replace(self, m: dtc.CancelReplaceOrder) -> list[Message]:
        self._rejections += self._changes.replace(m)
        return []

    def _check(self, symbol: str, account: str, client_id: str) -> None:
        if symbol != self.instrument.symbol:
            raise Refused(f"symbol {symbol} is not traded here")
        if account != self.account.name:
            mode = "on" if self.account.name.startswith("Sim") else "off"
            raise Refused(
                f"trade account {account or '(none)'} can't be used: Trade Simulation Mode is {mode}, "
                f"use {self.account.name}"
            )
        if client_id in self.orders:
            raise Refused(f"ClientOrderID {client_id} has been used already")
        if self._refusal:
            raise Refused(self._refusal)

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
        server_id = str(self.engine.take_id())
        self._note("reject", ClientOrderID=terms.client_id, ServerOrderID=server_id, text=text)
        self._rejections.append(rejection(terms, server_id, symbol, account, self.engine.now_ns, text))

    def _book_fill(self, event: OrderEvent) -> None:
        self.account.fill(event.ts_ns, event.side, event.last_quantity, event.last_price, self.instrument)
        fill = FillRecord(
            event.ts_ns,
            event.execution_id,
            event.client_id,
            event.server_id,
            event.side,
            event.last_quantity,
            event.last_price,
            self.account.position,
        )
        self.fills.append(fill)
        self._note(
            "fill",
            ClientOrderID=fill.client_id,
            ServerOrderID=fill.server_id,
            ExecutionID=fill.execution_id,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price * self.instrument.tick_size,
            position=fill.position,
        )

    def _note(self, kind: str, **facts: Any) -> None:
        self.record.append({"ts_ns": self.engine.now_ns, "kind": kind, **facts})


def _stated(message: Message) -> dict[str, Any]:
    """The fields a client has set, as JSON can hold them."""
    blank = type(message)()
    facts = {f.name: getattr(message, f.name) for f in message.LAYOUT.fields}
    return {
        name: repr(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in facts.items()
        if value != getattr(blank, name)
    }
