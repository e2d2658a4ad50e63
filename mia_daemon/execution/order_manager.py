"""Journals orders, then sends them, and compares their count with what the broker has sent.

An intent is in the journal before its bytes are sent. A crash can therefore leave an order in the journal that the
server never received, but no entry at the server that is not in the journal.
"""

from collections.abc import Iterable
from typing import Final

from mia_daemon.clock import NEVER_NS
from mia_daemon.errors import JournalError
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.executions import OrderFills
from mia_daemon.execution.order_factory import OrderFactory, order_as_reported, run_of
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.journal.writer import RequestKind
from mia_daemon.records import Bracket, Fill, JournaledOrder, Order, OrderReport, OrderRole, OrderStatus, Priority

CANCEL_DOUBLINGS: Final = 5
"""A cancel without effect is repeated after 1, 2, 4, … 32 seconds."""


class OrderManager:
    """Journals and sends orders, cancels and replaces. The caller decides whether they should be sent.

    Args:
        client_pairs: an entry is sent without its stop and target, which are sent as single orders once it fills.

    Attributes:
        factory: makes the orders to be sent.
        approved: orders approved for sending so far; the broker must never have sent more.
    """

    def __init__(
        self, state: ExecutionState, ports: Ports, breakers: CircuitBreakers, *, client_pairs: bool = False
    ) -> None:
        self.factory = OrderFactory(ports.scope)
        self.approved = 0
        self._state = state
        self._orders = state.orders
        self._market = state.market
        self._broker = ports.broker
        self._sent_before = ports.broker.orders_sent
        self._client_pairs = client_pairs
        self._journal = ports.journal
        self._risk = ports.risk
        self._alert = ports.alert
        self._instrument = ports.scope.instrument
        self._breakers = breakers

    @property
    def unapproved(self) -> int:
        """Orders sent less orders approved: more than 0 means that something else sends orders."""
        return self._broker.orders_sent - self._sent_before - self.approved

    # Orders of earlier runs.

    def restore(self, orders: Iterable[JournaledOrder], ended: Iterable[JournaledOrder] = ()) -> None:
        """Take over orders of earlier runs that are not known to be done: unknown until reconciled with the server.

        Those that `ended` last are kept too, since a fill of theirs may arrive late; one that was only absent may live.
        """
        states = [(order, OrderState.UNKNOWN) for order in orders]
        for order in ended:
            absent = order.status is OrderStatus.UNKNOWN_TO_SERVER
            states.append((order, OrderState.ABSENT if absent else OrderState.CANCELED))
        for order, state in states:
            numbers = (fill.server_order_id for fill in order.fills)
            self._orders.restore(WorkingOrder.restored(order, state), numbers)

    def adopt(self, update: OrderReport, ts_ns: int) -> bool:
        """Take over an order at the server that bears the name of one of our runs.

        False when it is not ours, or when it has ended by what the journal has of it and no list says otherwise.

        It was sent while the journal could not be written, as orders that only reduce risk may be, and its run ended
        before it could be journaled.
        """
        order = order_as_reported(update)
        if order is None or not self._is_run_of_ours(run_of(update.client_order_id)):
            return False
        if update.unsolicited and self.has_ended(update.client_order_id):
            return False

        def write() -> None:
            if not self._journal.has_intent(order.client_order_id):
                self._journal.record_intent((order,), ts_ns)

        self._breakers.write(write)
        entry = WorkingOrder(order, OrderState.UNKNOWN, order.quantity, order.price, update.server_order_id)
        entry.history.sent_ns = ts_ns
        entry.fills = OrderFills.restored(self._fills_on_file(update), 0)
        self._orders.restore(entry)
        return True

    def has_ended(self, client_order_id: str) -> bool:
        """Whether the journal has an order that is not among the present ones, as all are that may not be done."""
        if self._orders.get(client_order_id) is not None:
            return False
        try:
            return self._journal.has_intent(client_order_id)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return False

    def _fills_on_file(self, update: OrderReport) -> list[Fill]:
        """The fills that the journal has of a reported order, so that none is booked again."""
        try:
            fills = self._journal.executions_of(update.server_order_id)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return []
        return [fill for fill in fills if fill.client_order_id == update.client_order_id]

    def is_of_other_daemon(self, client_order_id: str) -> bool:
        """Whether a client order id has our form and is of a run that is not in our journal."""
        run = run_of(client_order_id)
        return bool(run) and self._is_run_of_ours(run) is False

    def _is_run_of_ours(self, run_id: str) -> bool | None:
        """None when the journal can't be read."""
        try:
            return self._journal.has_run(run_id)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return None

    # Sending orders.

    def send_bracket(self, bracket: Bracket) -> bool:
        """Journal, then send an entry, its stop and target. False when that could not be journaled; nothing is sent."""
        alone, now_ns = self._client_pairs, self._market.now_ns
        orders = (bracket.entry,) if alone else (bracket.entry, bracket.stop, bracket.target)
        try:
            self._journal.record_intent(orders, now_ns)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return False
        self._add(orders)
        if alone:
            self._broker.submit(bracket.entry)
        else:
            self._broker.submit_bracket(bracket)
        return True

    def send_protection(self, order: Order) -> bool:
        """Send a stop or a target, even when it can't be journaled: it only reduces risk. False when risk refuses."""
        if not self._passes_risk(order):
            return False
        self._breakers.write(lambda: self._journal.record_intent((order,), self._market.now_ns))
        self._add((order,))
        self._broker.submit(order)
        return True

    def send_exit(self, order: Order, reason: str) -> bool:
        """Send an order that closes the position; `reason` goes into the round trip. False when risk refuses."""
        if not self._passes_risk(order):
            return False
        self._write_exit(order, reason)
        self._broker.submit(order)
        return True

    def flatten(self, order: Order, reason: str) -> None:
        """Ask the server to close whatever position it holds, under the id of `order`. Last resort: no risk check."""
        self._write_exit(order, reason)
        self._broker.flatten(order)

    def _passes_risk(self, order: Order) -> bool:
        """Whether risk allows an order that reduces the position; alerts when not. It refuses only malformed orders,
        reused identifiers and orders that would not reduce the position or could turn it beyond its limit.
        """
        verdict = self._risk.check_order(order, self._state.risk_snapshot())
        if not verdict.allowed:
            text = f"{order.role} order {order.client_order_id} was refused: {verdict}"
            self._alert("exit_denied", Priority.CRITICAL, text, {"order": order.client_order_id})
        return verdict.allowed

    def _write_exit(self, order: Order, reason: str) -> None:
        now_ns = self._market.now_ns

        def write() -> None:
            with self._journal.transaction():
                self._journal.record_intent((order,), now_ns)
                self._journal.record_request(order.client_order_id, RequestKind.FLATTEN, now_ns, reason=reason)

        self._breakers.write(write)
        (entry,) = self._add((order,))
        entry.request.exit_reason = reason

    def _add(self, orders: tuple[Order, ...]) -> list[WorkingOrder]:
        self.approved += len(orders)
        entries = []
        for order in orders:
            entry = self._orders.add(order)
            self._orders.sent(entry, self._market.now_ns, self._state.own_ns)
            entries.append(entry)
        return entries

    # Changing orders.

    def cancel(self, entry: WorkingOrder) -> None:
        """Cancel an order, whatever it takes; see `cancel_all`."""
        self.cancel_all((entry,))

    def cancel_entries(self) -> None:
        """Cancel every entry. Stop and target stay as long as there is a position for them to close."""
        self.cancel_all(self._orders.with_role(OrderRole.ENTRY))

    def cancel_all(self, entries: Iterable[WorkingOrder]) -> None:
        """Cancel these orders: `work` sends a cancel again until they have ended, and as soon as one can be sent."""
        for entry in entries:
            entry.request.cancel_wanted |= entry.live
        self.work()

    def work(self) -> int:
        """Send the cancels that are wanted and possible now; our time of the next call, NEVER_NS when none is wanted.

        A cancel needs the server's number of the order. It is sent at once when that is known, and again after 1, 2, 4,
        … seconds when it was refused or not answered. All are sent before the first is journaled: a cancel only reduces
        risk, so a journal that is locked or fails must not delay it.
        """
        now_ns, own_ns, due_ns = self._market.now_ns, self._state.own_ns, NEVER_NS
        sent: list[WorkingOrder] = []
        for entry in self._orders:
            request = entry.request
            if not (request.cancel_wanted and entry.live and entry.server_order_id):
                continue  # an update or a snapshot brings the number, and then this is called
            if own_ns < request.cancel_again_ns:
                due_ns = min(due_ns, request.cancel_again_ns)
                continue
            again_ns = own_ns + (self._state.second_ns << min(request.cancels, CANCEL_DOUBLINGS))
            self._orders.cancel_sent(entry, own_ns, again_ns)
            self._risk.count_cancel(now_ns)
            self._broker.cancel(entry.client_order_id, entry.server_order_id)
            sent.append(entry)

        def write() -> None:
            with self._journal.transaction():
                for entry in sent:
                    self._journal.record_request(entry.client_order_id, RequestKind.CANCEL, now_ns)

        if sent:
            self._breakers.write(write)
        return due_ns

    def can_replace(self, entry: WorkingOrder) -> bool:
        """Whether a replace may have an effect: the server changes orders, and has this one and not refused to."""
        return self._broker.replaces and bool(entry.server_order_id) and not entry.request.replace_refused

    def resize(self, entry: WorkingOrder, quantity: int) -> bool:
        """Reduce a closing order to `quantity` contracts in total; False when nothing was sent."""
        return self.replace(entry, entry.price, entry.request.exit_reason, quantity)

    def replace(self, entry: WorkingOrder, price: float, reason: str, quantity: int = 0) -> bool:
        """Send a replace with a new `price` (points); `reason` goes into the round trip it closes.

        `quantity` is the total, filled contracts included; 0: as it is. False when nothing was sent: the server can't
        replace it, a stop may only move toward the market, and an entry is new risk, which needs risk's approval and
        is sent only when it could be journaled.
        """
        if not self.can_replace(entry):
            return False
        name, quantity, now_ns = entry.client_order_id, quantity or entry.quantity, self._market.now_ns
        price = self._instrument.round_to_tick(price)
        is_entry = entry.order.role is OrderRole.ENTRY
        if self._loosens(entry, price) or (is_entry and not self._may_move(entry, price)):
            return False

        def write() -> None:
            self._journal.record_request(
                name, RequestKind.REPLACE, now_ns, price=price, quantity=quantity, reason=reason
            )

        if not self._breakers.write(write) and is_entry:
            return False
        self._orders.replace_sent(entry, self._state.own_ns, price)
        entry.request.exit_reason = reason
        self._risk.count_replace(now_ns)
        self._broker.replace(name, entry.server_order_id, price, quantity)
        return True

    def _loosens(self, entry: WorkingOrder, price: float) -> bool:
        """Whether a stop would trigger later than at its present or its requested price; alerts when so."""
        side, asked = entry.order.side, entry.request.asked_price or entry.price
        if entry.order.role is not OrderRole.STOP or price * side <= min(entry.price * side, asked * side):
            return False
        name = entry.client_order_id
        text = f"stop {name} was to be moved from {entry.price} to {price}, away from the market: it stays"
        self._alert("stop_loosened", Priority.CRITICAL, text, {"order": name, "price": price})
        return True

    def _may_move(self, entry: WorkingOrder, price: float) -> bool:
        verdict = self._risk.check_moved(entry.order, price, self._state.risk_snapshot())
        if not verdict.allowed:
            self._alert(f"denied_{verdict.code.value}", Priority.INFO, f"an entry may not be moved: {verdict}", {})
        return verdict.allowed
