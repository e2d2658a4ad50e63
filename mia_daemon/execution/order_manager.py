"""Where orders leave: named, journaled, then sent, and counted against those the broker says have left.

The order of these steps is the point. An intent is on disk before its bytes are on the wire, so a crash at any moment
leaves at worst an order in the journal that the server never saw, and never the other way round.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from mia_daemon.brokers.base import Broker
from mia_daemon.errors import JournalError
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_orders import WorkingOrder, WorkingOrders
from mia_daemon.journal.writer import Journal, RequestKind
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    Bracket,
    Fill,
    JournaledOrder,
    Order,
    OrderRole,
    OrderType,
    OrderUpdate,
    PositionReport,
    Priority,
    Side,
    TimeInForce,
)
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import NO_DELAYS, Delays, RiskSnapshot

Warn = Callable[[str, Priority, str, dict[str, Any]], None]
"""Raise an alert: code, priority, sentence, context."""


class TellFacts(Protocol):
    """What risk goes by, now."""

    def __call__(self, delays: Delays = NO_DELAYS) -> RiskSnapshot: ...


_PROTECTIVE = frozenset({OrderRole.STOP, OrderRole.TARGET})
_LETTERS = {OrderRole.ENTRY: "E", OrderRole.STOP: "S", OrderRole.TARGET: "T", OrderRole.EXIT: "X"}
_NAME = re.compile(r"(?P<run>\w+)-\d+(?P<letter>[ESTX])")


class OrderManager:
    """Makes orders, writes them down, sends them. Whether they should be sent is decided before.

    Attributes:
        working: our orders and what is known of them.
        approved: orders allowed to leave so far; the broker can never have sent more.
        reasons: why orders close what they close, where that is not their role, by client order id.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        journal: Journal,
        instrument: Instrument,
        account: str,
        run_id: str,
        risk: RiskController,
        facts: TellFacts,
        warn: Warn,
        on_journal_failure: Callable[[JournalError], None],
    ) -> None:
        self.working = WorkingOrders()
        self.approved = 0
        self.reasons: dict[str, str] = {}
        self._broker = broker
        self._sent_before = broker.orders_sent
        self._journal = journal
        self._instrument = instrument
        self.account = account
        self.run_id = run_id
        self._risk = risk
        self._facts = facts
        self._warn = warn
        self._number = 0
        self._on_journal_failure = on_journal_failure

    @property
    def sent_too_many(self) -> int:
        """Orders that left without having been approved: more than 0 means something else sends orders."""
        return self._broker.orders_sent - self._sent_before - self.approved

    def concerns(self, what: OrderUpdate | Fill | PositionReport) -> bool:
        """Whether it is about our symbol in our account."""
        return what.symbol == self._instrument.symbol and what.account == self.account

    def reason(self, order: Order) -> str:
        """Why what this order closes is closed."""
        return self.reasons.get(order.client_order_id, order.role.value)

    def restore(self, orders: Iterable[JournaledOrder], ended: Iterable[JournaledOrder] = ()) -> None:
        """Orders of earlier runs that are not known to be done: their fate is unknown until the server tells.

        Those that ended last are known, should a fill of theirs come late.
        """
        states = [(order, OrderState.UNKNOWN) for order in orders] + [(order, OrderState.CANCELED) for order in ended]
        for order, state in states:
            self.working.restore(
                WorkingOrder(
                    order=order.order,
                    state=state,
                    quantity=order.quantity,
                    price=order.price,
                    server_order_id=order.server_order_id,
                    booked=order.booked,
                    reported=order.reported,
                    sent_ns=order.intended_ns,
                    executions=set(order.executions),
                    asked_price=order.asked_price,
                )
            )

    def adopt(self, told: OrderUpdate, ts_ns: int) -> bool:
        """Take over an order at the server that bears the name of a run of ours; False when it is not ours.

        It left while the journal could not be written, as what only takes risk away may, and its run died before it
        could be told of.
        """
        name = _NAME.fullmatch(told.client_order_id)
        if name is None or told.side is None or told.type is None or not self._is_run_of_ours(name["run"]):
            return False
        role = next(role for role, letter in _LETTERS.items() if letter == name["letter"])
        order = Order(
            client_order_id=told.client_order_id,
            symbol=told.symbol,
            account=told.account,
            side=told.side,
            quantity=told.quantity,
            type=told.type,
            role=role,
            decision_id="",
            price=told.price,
            limit_price=told.limit_price,
            time_in_force=TimeInForce.GTC if role in _PROTECTIVE else TimeInForce.DAY,
        )

        def write() -> None:
            if not self._journal.has_intent(order.client_order_id):
                self._journal.record_intent((order,), ts_ns)

        self._write_if_possible(write)
        self.working.restore(
            WorkingOrder(order, OrderState.UNKNOWN, order.quantity, order.price, told.server_order_id, sent_ns=ts_ns)
        )
        return True

    def _is_run_of_ours(self, run_id: str) -> bool:
        try:
            return self._journal.has_run(run_id)
        except JournalError as error:
            self._on_journal_failure(error)
            return False

    # Making orders.

    def make_bracket(
        self, side: Side, quantity: int, price: float, stop: float, target: float, decision_id: str
    ) -> Bracket:
        """An entry at a limit with its protection, under three new names."""
        entry = self.make(OrderRole.ENTRY, side, quantity, OrderType.LIMIT, price, decision_id)
        parent = entry.client_order_id
        close = side.opposite
        return Bracket(
            entry,
            self._order(OrderRole.STOP, close, quantity, OrderType.STOP, stop, decision_id, parent),
            self._order(OrderRole.TARGET, close, quantity, OrderType.LIMIT, target, decision_id, parent),
        )

    def make(
        self, role: OrderRole, side: Side, quantity: int, type_: OrderType, price: float, decision_id: str
    ) -> Order:
        """One order under a new name."""
        self._number += 1
        return self._order(role, side, quantity, type_, price, decision_id, "")

    def _order(
        self, role: OrderRole, side: Side, quantity: int, type_: OrderType, price: float, decision_id: str, parent: str
    ) -> Order:
        return Order(
            client_order_id=f"{self.run_id}-{self._number}{_LETTERS[role]}",
            symbol=self._instrument.symbol,
            account=self.account,
            side=side,
            quantity=quantity,
            type=type_,
            role=role,
            decision_id=decision_id,
            price=self._instrument.round_to_tick(price),
            # Protection outlives the session: a day order would leave the position bare over the halt.
            time_in_force=TimeInForce.GTC if role in _PROTECTIVE else TimeInForce.DAY,
            parent_id=parent,
        )

    # Sending them.

    def send_bracket(self, bracket: Bracket, ts_ns: int) -> None:
        """New risk: nothing leaves when it can't be written down first. Raises JournalError."""
        orders = (bracket.entry, bracket.stop, bracket.target)
        self._journal.record_intent(orders, ts_ns)
        self._add(orders, ts_ns)
        self._broker.submit_bracket(bracket)

    def send_stop(self, order: Order, ts_ns: int) -> bool:
        """Protection: it leaves even when the journal is dead, since it only takes risk away. False when refused."""
        if not self._makes_sense(order):
            return False
        self._write_if_possible(lambda: self._journal.record_intent((order,), ts_ns))
        self._add((order,), ts_ns)
        self._broker.submit(order)
        return True

    def send_exit(self, order: Order, reason: str, ts_ns: int) -> bool:
        """Close by an order of ours; `reason` is what the round trip will say. False when refused."""
        if not self._makes_sense(order):
            return False
        self._write_exit(order, reason, ts_ns)
        self._broker.submit(order)
        return True

    def flatten(self, order: Order, reason: str, ts_ns: int) -> None:
        """Have the server close the position, whatever it is, as `order`. The last resort: nobody is asked."""
        self._write_exit(order, reason, ts_ns)
        self._broker.flatten(order)

    def _makes_sense(self, order: Order) -> bool:
        """Risk never refuses what reduces the position, but for nonsense."""
        verdict = self._risk.check_order(order, self._facts())
        if not verdict.allowed:
            text = f"{order.role} order {order.client_order_id} was refused: {verdict}"
            self._warn("exit_denied", Priority.CRITICAL, text, {"order": order.client_order_id})
        return verdict.allowed

    def _write_exit(self, order: Order, reason: str, ts_ns: int) -> None:
        def write() -> None:
            with self._journal.booking():
                self._journal.record_intent((order,), ts_ns)
                self._journal.record_request(order.client_order_id, RequestKind.FLATTEN, ts_ns, reason=reason)

        self._write_if_possible(write)
        self._add((order,), ts_ns)
        self.reasons[order.client_order_id] = reason

    def cancel(self, entry: WorkingOrder, ts_ns: int) -> None:
        """Ask for its cancellation, once: nothing more is sent while that is unanswered, or was refused, until the
        books were compared.
        """
        self.cancel_all((entry,), ts_ns)

    def cancel_all(self, entries: Iterable[WorkingOrder], ts_ns: int) -> None:
        """Ask for their cancellation; all have left before the first is written down.

        A cancel only takes risk away, and a file that is held or fails may not delay it.
        """
        wanted = [entry for entry in entries if entry.live and not (entry.cancel_pending or entry.cancel_refused)]
        for entry in wanted:
            self.working.cancel_sent(entry, ts_ns)
            self._risk.count_cancel(ts_ns)
            self._broker.cancel(entry.client_order_id)

        def write() -> None:
            with self._journal.booking():
                for entry in wanted:
                    self._journal.record_request(entry.client_order_id, RequestKind.CANCEL, ts_ns)

        if wanted:
            self._write_if_possible(write)

    def replace(self, entry: WorkingOrder, price: float, reason: str, ts_ns: int) -> bool:
        """Move it to `price`, quantity as it is; `reason` is what the round trip it closes will say.

        False when nothing was sent: a stop moves toward safety only, whoever asks, and an entry is new risk, which is
        written down first or not sent.
        """
        name, quantity = entry.client_order_id, entry.quantity
        price = self._instrument.round_to_tick(price)
        if entry.order.role is OrderRole.STOP and self._loosens(entry, price):
            text = f"stop {name} was to be moved from {entry.price} to {price}, away from the market: it stays"
            self._warn("stop_loosened", Priority.CRITICAL, text, {"order": name, "price": price})
            return False
        if entry.order.role is OrderRole.ENTRY:
            verdict = self._risk.check_moved(entry.order, price, self._facts())
            if not verdict.allowed:
                self._warn(f"denied_{verdict.code.value}", Priority.INFO, f"an entry may not be moved: {verdict}", {})
                return False

        def write() -> None:
            self._journal.record_request(
                name, RequestKind.REPLACE, ts_ns, price=price, quantity=quantity, reason=reason
            )

        if not self._write_if_possible(write) and entry.order.role is OrderRole.ENTRY:
            return False
        self.working.replace_sent(entry, ts_ns, price)
        self.reasons[name] = reason
        self._risk.count_replace(ts_ns)
        self._broker.replace(name, price, quantity)
        return True

    @staticmethod
    def _loosens(stop: WorkingOrder, price: float) -> bool:
        """Whether it would trigger later than where it is, or is on its way to."""
        side, asked = stop.order.side, stop.asked_price or stop.price
        return price * side > min(stop.price * side, asked * side)

    def _add(self, orders: tuple[Order, ...], ts_ns: int) -> None:
        self.approved += len(orders)
        for order in orders:
            self.working.sent(self.working.add(order), ts_ns)

    def _write_if_possible(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except JournalError as error:
            self._on_journal_failure(error)
            return False
        return True
