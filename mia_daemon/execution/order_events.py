"""Handles what the broker reports: order updates, fills, external orders, positions, the connection."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.fill_booking import FillBooking
from mia_daemon.execution.order_identity import OrderIdentity
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import DONE, OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.server_clock import ServerClock
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import (
    BrokerEvent,
    BrokerTrouble,
    Fill,
    LinkReport,
    LinkState,
    OrderReport,
    OrderRole,
    OrderStatus,
    PositionReport,
    Priority,
)

_SHOWN: Final = frozenset(OrderStatus) - {
    OrderStatus.ACCEPTED, OrderStatus.HELD, OrderStatus.PARTIAL, OrderStatus.FILLED
}  # fmt: skip
_ALIVE: Final = frozenset(
    {OrderStatus.ACCEPTED, OrderStatus.HELD, OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED}
)
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})


class OrderEventHandler:
    """Applies each event to journal, working orders, account, risk and listener.

    It sends no orders: the control loop decides what follows once the event is applied.

    Attributes:
        booking: books the executions that are reported.
    """

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        order_manager: OrderManager,
        accounting: Accounting,
        breakers: CircuitBreakers,
    ) -> None:
        self._state = state
        self._orders = state.orders
        self._market = state.market
        self._flatten_state = state.flatten
        self._ledger = state.ledger
        self._sync = state.sync
        self._journal = ports.journal
        self._risk = ports.risk
        self._listener = ports.listener
        self._alert = ports.alert
        self._order_manager = order_manager
        self._breakers = breakers
        self._identity = OrderIdentity(state, ports, breakers)
        self._clock = ServerClock(state, ports.alert, foreign=ports.broker.has_own_clock)
        self.booking = FillBooking(state, ports, accounting, self._identity, self._clock)

    @property
    def server_clock(self) -> ServerClock:
        """The clock of the server, as far as its reports have told it."""
        return self._clock

    def on_event(self, event: BrokerEvent) -> bool:
        """Apply one event; False when it has no effect on orders or position."""
        match event:
            case OrderReport():
                self.on_update(event)
            case Fill():
                self.on_fill(event)
            case PositionReport():
                self._on_position(event)
            case LinkReport():
                self._on_link(event)
            case BrokerTrouble():
                self._on_trouble(event)
            case _:
                return False
        return True

    def covers(self, report: OrderReport | Fill | PositionReport) -> bool:
        """Whether a report is about our symbol in our account."""
        return self._identity.covers(report)

    # Orders.

    def identified(self, listed: Sequence[OrderReport]) -> list[tuple[WorkingOrder | None, OrderReport]]:
        """The orders in a list of open ones that are ours, and those in our account and symbol that are not."""
        known = [(self._identity.identify(update), update) for update in listed]
        return [(entry, update) for entry, update in known if entry is not None or self.covers(update)]

    def on_update(self, update: OrderReport) -> None:
        """Apply an update to its order and journal it; adopt the order or alert of it where it is not known.

        A message that names our order is about our order, whatever else it says.
        """
        entry = self._identity.identify(update) or self._adopted(update)
        if entry is None:
            if update.unsolicited and self.covers(update):
                dated = replace(update, ts_ns=update.ts_ns or self._state.time_ns, fill=None)
                self._breakers.write(lambda: self._journal.record_update(dated))
            self._on_external(update)
            return
        if update.unsolicited:
            ts_ns = self._clock.received(update.ts_ns, entry.history.sent_ns)
        else:
            ts_ns = self._clock.listed(update.ts_ns) or self._state.time_ns
        told = replace(update, client_order_id=entry.client_order_id, ts_ns=ts_ns)
        self._identity.check(update, entry)
        if update.fill is not None:
            self._identity.check(update.fill, entry)
            self.booking.book_reported(update.fill, entry)
        before = entry.state
        self._orders.apply_update(told)
        if entry.state is OrderState.UNKNOWN and before is not entry.state:
            self._sync.request_reconcile("an order's update contradicts what it was", urgent=True)
        if before in DONE and entry.live:
            self._sync.request_reconcile("an order that had ended is reported to live", urgent=True)
        if self._orders.renumbered:
            self._on_renumbered(told)
        if update.unsolicited or before is not entry.state:
            self._breakers.write(lambda: self._journal.record_update(replace(told, fill=None)))
        self._after_update(entry, told, before)

    def _after_update(self, entry: WorkingOrder, update: OrderReport, before: OrderState) -> None:
        if update.status is OrderStatus.REJECTED and before is not OrderState.REJECTED:  # it may be told twice
            self._on_reject(entry, update)
        elif update.status in _REFUSALS:
            self._on_refusal(entry, update)
        elif entry.order.role is OrderRole.ENTRY and update.status in _ALIVE:
            self._risk.on_accept()
        if update.status in _SHOWN and (update.status in _REFUSALS or before is not entry.state):
            text = f"{update.status.value}: {update.text}" if update.text else update.status.value
            self._listener.order(update.ts_ns, entry.order, text)

    def _on_renumbered(self, update: OrderReport) -> None:
        """The server's order numbers began again: what it had of our orders is gone, until it is compared."""
        self._orders.renumbered = False
        self._sync.reconciled = False
        self._sync.request_reconcile("the server's order numbers began again")
        self._alert(
            "server_renumbered",
            Priority.ERROR,
            f"the server gave order {update.client_order_id} the number {update.server_order_id}, which another order "
            "of ours has had: its numbers began again; nothing is entered until orders and position were compared",
            {"order": update.client_order_id, "server_order_id": update.server_order_id},
        )

    def _on_reject(self, entry: WorkingOrder, update: OrderReport) -> None:
        self._alert(
            "order_rejected",
            Priority.ERROR if entry.order.role is OrderRole.ENTRY else Priority.CRITICAL,
            f"the server rejected {entry.order.role} order {entry.client_order_id}: {update.text or 'no reason given'}",
            {"order": entry.client_order_id, "price": entry.order.price},
        )
        if entry.order.role is OrderRole.ENTRY:
            self._breakers.trip(self._risk.on_reject(update.ts_ns, update.text))
        elif entry.order.role is OrderRole.EXIT:
            self._flatten_state.refusals += 1
            self._flatten_state.refused_at_ns = self._state.own_ns
            self._sync.request_reconcile("the server refused to close the position")

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
        if not self.covers(report) or (isinstance(report, OrderReport) and report.status not in _ALIVE):
            return
        if self._order_manager.has_ended(report.client_order_id):  # an update from before its end, late or repeated
            self._sync.request_reconcile("an order that has ended is reported")
            return
        if self._order_manager.is_of_other_daemon(report.client_order_id):
            self._sync.other_daemon = report.client_order_id
            if not self._state.heard_ns:
                return  # trading has not begun: the start is refused
            self._breakers.contradict(
                "other_daemon",
                f"order {report.client_order_id} in account {report.account} is of another mia-daemon: "
                "stop one of the two, or give each its own account",
                {"order": report.client_order_id},
            )
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

    def _adopted(self, update: OrderReport) -> WorkingOrder | None:
        """Adopt an order that bears the name of one of our runs but is not in the journal; None when it is not ours."""
        now_ns = self._market.now_ns
        if update.status not in _ALIVE or not self._order_manager.adopt(update, now_ns):
            return None
        self._alert(
            "order_adopted",
            Priority.ERROR,
            f"order {update.client_order_id} works at the server and was not in the journal: it left while that could "
            "not be written; it is taken over",
            {"order": update.client_order_id, "price": update.price},
        )
        return self._orders.get(update.client_order_id)

    # Fills.

    def on_fill(self, fill: Fill) -> None:
        """Book a reported execution, as far as its contracts are not booked yet."""
        entry = self._orders.find(fill.client_order_id, fill.server_order_id, fill.previous_server_order_id)
        if entry is None:
            self._on_external(fill)
            return
        self._identity.check(fill, entry)
        self.booking.book_reported(fill, entry)

    # The position and the connection.

    def _on_position(self, report: PositionReport) -> None:
        if self.covers(report) and report.quantity is None:  # what was told before still counts
            self._sync.request_reconcile("a position was told without a quantity", urgent=True)
        elif self.covers(report):
            if report.quantity != self._sync.position:
                dated = replace(report, ts_ns=report.ts_ns or self._state.time_ns)
                self._breakers.write(lambda: self._journal.record_position(dated))
            self._sync.on_position(report.quantity)
        elif report.quantity:
            self._identity.check_position(report)

    def _on_trouble(self, event: BrokerTrouble) -> None:
        if event.in_doubt:
            self._sync.request_reconcile("a message could not be read", urgent=self._sync.reconciled)
            self._sync.reconciled = False
        doubt = ": nothing is entered until orders and position were compared" if event.in_doubt else ""
        self._alert(event.code, Priority.ERROR, event.text + doubt, {})

    def _on_link(self, report: LinkReport) -> None:
        self._sync.link_up = report.state is LinkState.UP
        if self._sync.link_up:
            self._sync.request_reconcile("the order connection is back")
            return
        self._sync.reconciled = False
        self._sync.on_position(None)
        lost = list(self._orders)
        for entry in lost:
            self._orders.lose(entry)
        down = "down for good" if report.final else "down"
        priority = Priority.CRITICAL if self._ledger.position else Priority.ERROR
        self._alert(
            "link_down",
            Priority.URGENT if report.final else priority,
            f"the order connection is {down} ({report.text}): no new positions until orders and position were compared"
            + ("; restart the daemon, and look after the position in Sierra Chart" if report.final else ""),
            {"orders": len(lost), "position": self._ledger.position},
        )
