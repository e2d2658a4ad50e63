"""Handles what the broker reports: order updates, fills, external orders, positions, the connection."""

from dataclasses import replace
from typing import Final

from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import (
    BrokerEvent,
    Fill,
    LinkReport,
    LinkState,
    OrderReport,
    OrderRole,
    OrderStatus,
    PositionReport,
    Priority,
)

_SHOWN: Final = frozenset(OrderStatus) - {OrderStatus.ACCEPTED, OrderStatus.PARTIAL, OrderStatus.FILLED}
_ALIVE: Final = frozenset({OrderStatus.ACCEPTED, OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED})
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})


class OrderEventHandler:
    """Applies each event to journal, working orders, account, risk and listener.

    It sends no orders: the control loop decides what follows once the event is applied.
    """

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        order_manager: OrderManager,
        accounting: Accounting,
        breakers: CircuitBreakers,
    ) -> None:
        self._orders = state.orders
        self._ledger = state.ledger
        self._sync = state.sync
        self._journal = ports.journal
        self._risk = ports.risk
        self._listener = ports.listener
        self._alert = ports.alert
        self._scope = ports.scope
        self._order_manager = order_manager
        self._accounting = accounting
        self._breakers = breakers

    def on_event(self, event: BrokerEvent) -> bool:
        """Apply one event; False when it has no effect on orders or position."""
        match event:
            case OrderReport():
                self.on_update(event)
            case Fill():
                self.on_fill(event)
            case PositionReport():
                if self._scope.covers(event):
                    self._sync.position = event.quantity
            case LinkReport():
                self._on_link(event)
            case _:
                return False
        return True

    # Orders.

    def on_update(self, update: OrderReport) -> None:
        """Apply an update to its order and journal it; adopt the order or alert of it where it is not known."""
        if not self._scope.covers(update):
            return
        before = self._state_of(update)
        entry = self._orders.apply_update(update)
        if entry is None and self._adopt(update):
            entry = self._orders.apply_update(update)
        if entry is not None and entry.state is OrderState.UNKNOWN and before is not entry.state:
            self._sync.request_reconcile("an order's update contradicts what it was")
        if update.unsolicited or before is not self._state_of(update):
            self._breakers.write(lambda: self._journal.record_update(update))
        if entry is None:
            self._on_external(update)
            return
        if update.status is OrderStatus.REJECTED:
            self._on_reject(entry, update)
        elif update.status in _REFUSALS:
            self._on_refusal(entry, update)
        elif entry.order.role is OrderRole.ENTRY and update.status in _ALIVE:
            self._risk.on_accept()
        if update.status in _SHOWN and (update.status in _REFUSALS or before is not entry.state):
            text = f"{update.status.value}: {update.text}" if update.text else update.status.value
            self._listener.order(update.ts_ns, entry.order, text)

    def _state_of(self, update: OrderReport) -> OrderState | None:
        entry = self._orders.find(update.client_order_id, update.server_order_id)
        return entry.state if entry is not None else None

    def _on_reject(self, entry: WorkingOrder, update: OrderReport) -> None:
        self._alert(
            "order_rejected",
            Priority.ERROR if entry.order.role is OrderRole.ENTRY else Priority.CRITICAL,
            f"the server rejected {entry.order.role} order {entry.client_order_id}: {update.text or 'no reason given'}",
            {"order": entry.client_order_id, "price": entry.order.price},
        )
        if entry.order.role is OrderRole.ENTRY:
            self._breakers.trip(self._risk.on_reject(update.ts_ns, update.text))

    def _on_refusal(self, entry: WorkingOrder, update: OrderReport) -> None:
        """Alert; reconcile only when the order lives on. Otherwise the request crossed with the end of its order."""
        self._alert(
            "request_refused",
            Priority.WARNING if entry.live else Priority.INFO,
            f"the server refused to change order {entry.client_order_id}, which is {entry.state}: "
            f"{update.text or 'no reason given'}",
            {"order": entry.client_order_id, "status": update.status.value},
        )
        if entry.live:
            self._sync.request_reconcile("a change of an order was refused")

    def _on_external(self, report: OrderReport | Fill) -> None:
        """Alert of an order or execution in our account and symbol that is not ours. The order is not touched."""
        if isinstance(report, OrderReport) and report.status not in _ALIVE:
            return
        kind = "execution" if isinstance(report, Fill) else "order"
        self._alert(
            f"external_{kind}",
            Priority.WARNING,
            f"{kind} {report.server_order_id or report.client_order_id} in account {report.account} is not ours: "
            "trade this symbol from one place only",
            {"server_order_id": report.server_order_id},
        )
        if isinstance(report, Fill):
            self._sync.request_reconcile("an execution is not ours")

    def _adopt(self, update: OrderReport) -> bool:
        """Adopt an order that bears the name of one of our runs but is not in the journal; whether it was adopted."""
        if update.status not in _ALIVE or not self._order_manager.adopt(update, update.ts_ns):
            return False
        self._alert(
            "order_adopted",
            Priority.ERROR,
            f"order {update.client_order_id} works at the server and was not in the journal: it left while that could "
            "not be written; it is taken over",
            {"order": update.client_order_id, "price": update.price},
        )
        return True

    # Fills.

    def on_fill(self, fill: Fill) -> None:
        """Apply a fill to its order, each execution once however often it is reported."""
        if not self._scope.covers(fill):
            return
        entry = self._orders.find(fill.client_order_id, fill.server_order_id)
        if entry is None:
            self._on_external(fill)
            return
        if fill.execution_id in entry.fills.executions:
            return
        if fill.client_order_id != entry.client_order_id:
            fill = replace(fill, client_order_id=entry.client_order_id)
        if not self._accounting.apply_fill(fill, entry):
            self._alert(
                "execution_known",
                Priority.ERROR,
                f"execution {fill.execution_id} is in the journal already and was not applied again: "
                "if the server reuses execution ids, start with a new journal",
                {"order": entry.client_order_id},
            )
            self._sync.request_reconcile("an execution was reported again")

    # The connection.

    def _on_link(self, report: LinkReport) -> None:
        self._sync.link_up = report.state is LinkState.UP
        if self._sync.link_up:
            self._sync.request_reconcile("the order connection is back")
            return
        self._sync.reconciled = False
        lost = list(self._orders)
        for entry in lost:
            self._orders.lose(entry)
        self._alert(
            "link_down",
            Priority.CRITICAL if self._ledger.position else Priority.ERROR,
            f"the order connection is down ({report.text}): no new positions until orders and position were compared",
            {"orders": len(lost), "position": self._ledger.position},
        )
