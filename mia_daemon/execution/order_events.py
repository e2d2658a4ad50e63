"""Handles what the broker reports: order updates, fills, external orders, positions, the connection."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_identity import OrderIdentity
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.server_clock import ServerClock
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import (
    BrokerEvent,
    Fill,
    FillSource,
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
        self._scope = ports.scope
        self._order_manager = order_manager
        self._accounting = accounting
        self._breakers = breakers
        self._identity = OrderIdentity(state, ports, breakers)
        self._clock = ServerClock(state, ports.alert, foreign=ports.broker.has_own_clock)

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
            case _:
                return False
        return True

    # Orders.

    def identified(self, listed: Sequence[OrderReport]) -> list[tuple[WorkingOrder | None, OrderReport]]:
        """The orders in a list of open ones that are ours, and those in our account and symbol that are not."""
        known = [(self._identity.identify(update), update) for update in listed]
        return [(entry, update) for entry, update in known if entry is not None or self._scope.covers(update)]

    def on_update(self, update: OrderReport) -> None:
        """Apply an update to its order and journal it; adopt the order or alert of it where it is not known.

        A message that names our order is about our order, whatever else it says.
        """
        entry = self._identity.identify(update) or self._adopted(update)
        if entry is None:
            self._on_external(update)
            return
        if update.unsolicited:
            ts_ns = self._clock.received(update.ts_ns, entry.history.sent_ns)
        else:
            ts_ns = self._clock.listed(update.ts_ns)
        told = replace(update, client_order_id=entry.client_order_id, ts_ns=ts_ns)
        self._identity.check(update, entry)
        if update.fill is not None:
            self._book_reported(update.fill, entry)
        before = entry.state
        self._orders.apply_update(told)
        if entry.state is OrderState.UNKNOWN and before is not entry.state:
            self._sync.request_reconcile("an order's update contradicts what it was")
        if before is OrderState.ABSENT and entry.live:
            self._sync.request_reconcile("an order that was absent is reported")
        if self._orders.renumbered:
            self._on_renumbered(told)
        if update.unsolicited or before is not entry.state:
            self._breakers.write(lambda: self._journal.record_update(replace(told, fill=None)))
        self._after_update(entry, told, before)

    def _after_update(self, entry: WorkingOrder, update: OrderReport, before: OrderState) -> None:
        if update.status is OrderStatus.REJECTED:
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
        if not self._scope.covers(report) or (isinstance(report, OrderReport) and report.status not in _ALIVE):
            return
        if self._order_manager.has_ended(report.client_order_id):  # an update from before its end, late or repeated
            self._sync.request_reconcile("an order that has ended is reported")
            return
        if self._order_manager.is_of_other_daemon(report.client_order_id):
            self._sync.other_daemon = report.client_order_id
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
        entry = self._orders.find(fill.client_order_id, fill.server_order_id)
        if entry is None:
            self._on_external(fill)
            return
        self._identity.check(fill, entry)
        self._book_reported(fill, entry)

    def _book_reported(self, fill: Fill, entry: WorkingOrder) -> None:
        fill = self._normalised(fill, entry, self._clock.received(fill.ts_ns, entry.history.sent_ns))
        if not self._identity.price_makes_sense(fill):
            entry.fills.reported = max(entry.fills.reported, min(fill.filled, entry.size))
            return  # it stays missing until a price is known
        if (part := entry.fills.from_update(fill, entry.size)) is not None:
            self._apply(part, entry)

    def on_history(self, entry: WorkingOrder, listed: Sequence[Fill], limit: int) -> int:
        """Book what is missing of an order by the list of its executions; returns the contracts booked.

        `limit` is the number of contracts that it can have filled.
        """
        every = [self._normalised(fill, entry, self._clock.listed(fill.ts_ns)) for fill in listed]
        booked = 0
        for part in entry.fills.from_history([fill for fill in every if self._identity.price_makes_sense(fill)], limit):
            self._alert(
                "fill_missed",
                Priority.WARNING,
                f"execution {part.execution_id} of order {entry.client_order_id} was found by asking",
                {"order": entry.client_order_id, "quantity": part.quantity, "price": part.price},
            )
            self._apply(part, entry)
            booked += part.quantity
        return booked

    def book_at_average(self, entry: WorkingOrder) -> None:
        """Book what an order has filled by the server's word and by no execution, at the average price it reports."""
        order, touch = entry.order, self._market.touch
        price = order.price or (touch.far(order.side) if touch.known else self._ledger.average_price)
        if not self._identity.is_alike(entry.fills.average, price):
            entry.fills.average = 0.0
        fill = entry.fills.at_average(
            Fill(
                ts_ns=self._state.time_ns,
                execution_id="",
                client_order_id=entry.client_order_id,
                server_order_id=entry.server_order_id,
                symbol=order.symbol,
                account=order.account,
                side=order.side,
                quantity=entry.fills.missing,
                price=price,
                source=FillSource.AVERAGE,
            )
        )
        self._alert(
            "fill_without_execution",
            Priority.ERROR,
            f"order {entry.client_order_id} has filled {fill.quantity} contracts by the server's word, which reports "
            f"no execution of them: they are booked at {fill.price:.10g}; compare with the account's statement",
            {"order": entry.client_order_id, "quantity": fill.quantity, "price": fill.price},
        )
        self._apply(fill, entry)

    def _normalised(self, fill: Fill, entry: WorkingOrder, ts_ns: int) -> Fill:
        order = entry.order
        return replace(
            fill,
            ts_ns=ts_ns or self._state.time_ns,
            client_order_id=order.client_order_id,
            server_order_id=fill.server_order_id or entry.server_order_id,
            symbol=order.symbol,
            account=order.account,
        )

    def _apply(self, fill: Fill, entry: WorkingOrder) -> None:
        self._flatten_state.refusals = 0
        if self._accounting.apply_fill(fill, entry):
            return
        self._alert(
            "execution_known",
            Priority.ERROR,
            f"execution {fill.execution_id} is in the journal already and was not applied again",
            {"order": entry.client_order_id},
        )
        self._sync.request_reconcile("an execution was reported again")

    # The position and the connection.

    def _on_position(self, report: PositionReport) -> None:
        if self._scope.covers(report):
            if report.quantity != self._sync.position:
                self._breakers.write(lambda: self._journal.record_position(report))
            self._sync.on_position(report.quantity)
        elif report.quantity:
            self._identity.check_position(report)

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
