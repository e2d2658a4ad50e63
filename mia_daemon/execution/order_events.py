"""What the broker says: of our orders, of their fills, of orders that are not ours, of the connection."""

from dataclasses import replace
from typing import Final

from mia_daemon.execution.accounting import Accounting, ExecutionListener
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.order_manager import OrderManager, Warn
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.state import BrokerSync
from mia_daemon.execution.working_orders import WorkingOrder
from mia_daemon.journal.writer import Journal
from mia_daemon.records import (
    BrokerEvent,
    Fill,
    LinkReport,
    LinkState,
    OrderRole,
    OrderStatus,
    OrderUpdate,
    PositionReport,
    Priority,
)
from mia_daemon.risk.risk_controller import RiskController

_SHOWN: Final = frozenset(OrderStatus) - {OrderStatus.ACCEPTED, OrderStatus.PARTIAL, OrderStatus.FILLED}
_ALIVE: Final = frozenset({OrderStatus.ACCEPTED, OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED})
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})


class OrderEventHandler:
    """Takes each piece of news to where it belongs: journal, working orders, books, risk, whoever is shown it.

    What follows from it for orders is not decided here: that is looked at afterwards, with everything in place.
    """

    def __init__(
        self,
        desk: OrderManager,
        bookkeeper: Accounting,
        ledger: Ledger,
        journal: Journal,
        risk: RiskController,
        breakers: CircuitBreakers,
        server: BrokerSync,
        *,
        notices: ExecutionListener,
        warn: Warn,
    ) -> None:
        self._desk = desk
        self._working = desk.working
        self._accounting = bookkeeper
        self._ledger = ledger
        self._journal = journal
        self._risk = risk
        self._breakers = breakers
        self._server = server
        self._notices = notices
        self._warn = warn

    def hear(self, event: BrokerEvent) -> bool:
        """Take in one event; False when nothing can follow from it."""
        match event:
            case OrderUpdate():
                self.update(event)
            case Fill():
                self.fill(event)
            case PositionReport():
                self._position(event)
            case LinkReport():
                self._link(event)
            case _:
                return False
        return True

    # Orders.

    def update(self, update: OrderUpdate) -> None:
        """Journal it and move the order it speaks of."""
        if not self._desk.concerns(update):
            return
        before = self._state_of(update)
        entry = self._working.update(update)
        if entry is None and self._adopted(update):
            entry = self._working.update(update)
        if entry is not None and entry.state is OrderState.UNKNOWN and before is not entry.state:
            self._server.ask("an order's update contradicts what it was")
        if update.unsolicited or before is not self._state_of(update):
            self._breakers.write(lambda: self._journal.record_update(update))
        if entry is None:
            self.foreign(update)
            return
        if update.status is OrderStatus.REJECTED:
            self._rejected(entry, update)
        elif update.status in _REFUSALS:
            self._refused(entry, update)
        elif entry.order.role is OrderRole.ENTRY and update.status in _ALIVE:
            self._risk.on_accept()
        if update.status in _SHOWN and (update.status in _REFUSALS or before is not entry.state):
            text = f"{update.status.value}: {update.text}" if update.text else update.status.value
            self._notices.order(update.ts_ns, entry.order, text)

    def _state_of(self, update: OrderUpdate) -> OrderState | None:
        entry = self._working.find(update.client_order_id, update.server_order_id)
        return entry.state if entry is not None else None

    def _rejected(self, entry: WorkingOrder, update: OrderUpdate) -> None:
        self._warn(
            "order_rejected",
            Priority.ERROR if entry.order.role is OrderRole.ENTRY else Priority.CRITICAL,
            f"the server rejected {entry.order.role} order {entry.client_order_id}: {update.text or 'no reason given'}",
            {"order": entry.client_order_id, "price": entry.order.price},
        )
        if entry.order.role is OrderRole.ENTRY:
            self._breakers.trip(self._risk.on_reject(update.ts_ns, update.text))

    def _refused(self, entry: WorkingOrder, update: OrderUpdate) -> None:
        """A request that crossed with the end of its order on the way is no trouble."""
        self._warn(
            "request_refused",
            Priority.WARNING if entry.live else Priority.INFO,
            f"the server refused to change order {entry.client_order_id}, which is {entry.state}: "
            f"{update.text or 'no reason given'}",
            {"order": entry.client_order_id, "status": update.status.value},
        )
        if entry.live:
            self._server.ask("a change of an order was refused")

    def foreign(self, what: OrderUpdate | Fill) -> None:
        """An order or an execution in our account and symbol that is not ours: told, never touched."""
        if isinstance(what, OrderUpdate) and what.status not in _ALIVE:
            return
        kind = "execution" if isinstance(what, Fill) else "order"
        self._warn(
            f"foreign_{kind}",
            Priority.WARNING,
            f"{kind} {what.server_order_id or what.client_order_id} in account {what.account} is not ours: "
            "trade this symbol from one place only",
            {"server_order_id": what.server_order_id},
        )
        if isinstance(what, Fill):
            self._server.ask("an execution is not ours")

    def _adopted(self, update: OrderUpdate) -> bool:
        """Whether it is an order that a run of ours has named, though the journal was never told of it."""
        if update.status not in _ALIVE or not self._desk.adopt(update, update.ts_ns):
            return False
        self._warn(
            "order_adopted",
            Priority.ERROR,
            f"order {update.client_order_id} works at the server and was not in the journal: it left while that could "
            "not be written; it is taken over",
            {"order": update.client_order_id, "price": update.price},
        )
        return True

    # Fills.

    def fill(self, fill: Fill) -> None:
        """Book it on its order, each execution once however often it is told."""
        if not self._desk.concerns(fill):
            return
        entry = self._working.find(fill.client_order_id, fill.server_order_id)
        if entry is None:
            self.foreign(fill)
            return
        if fill.execution_id in entry.executions:
            return
        if fill.client_order_id != entry.client_order_id:
            fill = replace(fill, client_order_id=entry.client_order_id)
        if not self._accounting.book(fill, entry, self._desk.reason(entry.order)):
            self._warn(
                "execution_known",
                Priority.ERROR,
                f"execution {fill.execution_id} is in the journal already and was not booked again: "
                "if the server counts its executions anew, start with a new journal",
                {"order": entry.client_order_id},
            )
            self._server.ask("an execution was told again")

    # The server.

    def _position(self, report: PositionReport) -> None:
        if self._desk.concerns(report):
            self._server.position = report.quantity

    def _link(self, report: LinkReport) -> None:
        self._server.link_up = report.state is LinkState.UP
        if self._server.link_up:
            self._server.ask("the order connection is back")
            return
        self._server.agreed = False
        lost = list(self._working)
        for entry in lost:
            self._working.lose(entry)
        self._warn(
            "link_down",
            Priority.CRITICAL if self._ledger.position else Priority.ERROR,
            f"the order connection is down ({report.text}): no new positions until orders and position were compared",
            {"orders": len(lost), "position": self._ledger.position},
        )
