"""Detects what is in doubt, and requests a snapshot of the server for it."""

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.reconcile_policy import ReconcilePolicy
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import OrderRole, Priority


class InDoubt:
    """Looks for requests that are not answered, fills that are not shown, and a position that is not ours."""

    def __init__(self, state: ExecutionState, ports: Ports, breakers: CircuitBreakers, policy: ReconcilePolicy) -> None:
        self._state = state
        self._orders = state.orders
        self._ledger = state.ledger
        self._sync = state.sync
        self._risk = ports.risk
        self._alert = ports.alert
        self._breakers = breakers
        self._policy = policy

    def watch(self) -> int:
        """Check for what is in doubt; returns our time of the next check, NEVER_NS when nothing is awaited.

        An order whose request is not answered in time becomes unknown. A snapshot is requested for that, for a fill
        that was reported without its execution, for the orders of a bracket that are not acknowledged though their
        entry is, and when the position last reported by the server differs from ours.
        """
        own_ns = self._state.own_ns
        if self._sync.link_up:
            for entry in self._orders.unanswered(own_ns - self._policy.answer_ns):
                self._on_silence(entry)
        answers = (entry.request.asked_ns + self._policy.answer_ns for entry in self._orders if entry.request.asked_ns)
        due_ns = min(answers, default=NEVER_NS)
        return min(due_ns, self._watch_fills(own_ns), self._watch_brackets(own_ns), self._watch_position(own_ns))

    def _on_silence(self, entry: WorkingOrder) -> None:
        state, name = entry.state.value, entry.client_order_id
        self._orders.lose(entry)
        self._alert(
            "order_unknown",
            Priority.ERROR,
            f"no answer about order {name} in time: its fate is unknown and is asked about",
            {"order": name, "state": state},
        )
        self._sync.request_reconcile("an order was not answered", urgent=True)
        if entry.order.role is OrderRole.ENTRY and not entry.acknowledged and self._risk.on_unacknowledged():
            self._breakers.contradict(
                "entries_unacknowledged",
                f"the server has not acknowledged entry {name} and those before it: it may not take our orders",
                {"order": name},
            )

    def _watch_fills(self, own_ns: int) -> int:
        """A fill that was reported and not shown is asked about after a moment, at once while closing."""
        due_ns = NEVER_NS
        for entry in self._orders.missing_fills():
            fills = entry.fills
            fills.missing_since_ns = fills.missing_since_ns or own_ns
            entry_due_ns = fills.missing_since_ns + self._policy.fill_grace_ns
            if own_ns >= entry_due_ns or self._state.flatten.reason:
                self._sync.request_reconcile("a fill was reported but not shown", urgent=not fills.snapshots)
            else:
                due_ns = min(due_ns, entry_due_ns)
        return due_ns

    def _watch_brackets(self, own_ns: int) -> int:
        """A stop, or a target of an acknowledged entry, that the server says nothing of is asked about."""
        due_ns = NEVER_NS
        for entry in self._orders:
            parent = self._orders.get(entry.order.parent_id)
            waits_for_parent = parent is not None and not parent.acknowledged
            protects = parent is not None or entry.order.role is OrderRole.STOP
            if entry.state is not OrderState.SENT or not protects or waits_for_parent:
                continue
            ask_ns = entry.history.sent_at_ns + self._policy.bracket_ns
            if own_ns < ask_ns:
                due_ns = min(due_ns, ask_ns)
            elif self._sync.asked_ns < ask_ns:
                self._sync.request_reconcile("a bracket was not acknowledged", urgent=True)
        return due_ns

    def _watch_position(self, own_ns: int) -> int:
        state = self._state
        if self._sync.agrees(self._ledger.position):
            state.differs_since_ns = 0
            return NEVER_NS
        state.differs_since_ns = state.differs_since_ns or own_ns
        due_ns = state.differs_since_ns + state.differs_grace_ns // 2
        if own_ns < due_ns:
            return due_ns
        self._sync.request_reconcile("the server's position is not ours", urgent=self._sync.asked_ns < due_ns)
        return NEVER_NS
