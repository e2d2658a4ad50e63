"""Reconciles with the server: decides when a snapshot is requested, applies it, and handles differences.

`reconciliation.py` finds what differs; this module acts on it. The owner of the connection sends the query: it calls
`begin`, then `apply` with the answer, `fail` without a complete one, or `abandon`.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import BrokerSettings
from mia_daemon.errors import PeerError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.reconciliation import Reconciliation, gone, reconcile
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import BrokerSnapshot, Fill, Priority

FILLS_SLACK_NS: Final = 5 * NS_PER_S
"""Fills are requested from this long before the oldest order: servers state fill times in whole seconds."""

_NO_DIFFERENCE: Final[tuple[int, tuple[str, ...]]] = (0, ())
"""No drift, and no ambiguous order."""


@dataclass(frozen=True, slots=True)
class ReconcilePolicy:
    """When a snapshot is requested, and what is done about a drift; times in nanoseconds of event time.

    Attributes:
        answer_ns: time-out of an answer.
        every_ns: between two snapshots when nothing is in doubt.
        adopt_drift: when two snapshots in a row show the same drift: take over the server's position (True) or halt.
    """

    answer_ns: int
    every_ns: int
    adopt_drift: bool = True

    @classmethod
    def of(cls, settings: BrokerSettings, stretch: float) -> Self:
        """From the settings; times that wait for an answer are multiplied by `stretch` (event s per real s)."""
        return cls(
            answer_ns=round(settings.ack_timeout_s * NS_PER_S * stretch),
            every_ns=round(settings.reconcile_every_s * NS_PER_S * stretch),
        )


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """A snapshot request, and what was known when it was made.

    Attributes:
        since_ns: exchange time since which fills are requested.
        why: the reason; "" for the periodic query.
        version: of our orders then: the answer may be older than what happened since.
        position: ours then, contracts, signed.
        was_reconciled: `BrokerSync.reconciled` then.
    """

    since_ns: int
    why: str
    version: int
    position: int
    was_reconciled: bool


class Reconciler:
    """Detects what is in doubt, and brings our state into agreement with the server's snapshot."""

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        events: OrderEventHandler,
        accounting: Accounting,
        breakers: CircuitBreakers,
        policy: ReconcilePolicy,
    ) -> None:
        self._state = state
        self._orders = state.orders
        self._ledger = state.ledger
        self._sync = state.sync
        self._market = state.market
        self._risk = ports.risk
        self._alert = ports.alert
        self._scope = ports.scope
        self._events = events
        self._accounting = accounting
        self._breakers = breakers
        self._policy = policy
        self._asking = False
        self._asked_at_ns = 0
        self._difference = _NO_DIFFERENCE  # found in the last snapshot
        self._unexplained_ns = NEVER_NS  # `since_ns` of the last query that left something unexplained
        self._differs_since_ns = 0

    # What is in doubt.

    def watch(self) -> int:
        """Check for what is in doubt; returns the event time of the next check, NEVER_NS when nothing is awaited.

        An order whose request is not answered in time becomes unknown. A snapshot is requested for that, for a fill
        that was reported but not received (after the time-out, or at once while the position is being closed), and when
        the position last reported by the server differs from ours for longer than the time-out.
        """
        late_ns = self._market.now_ns - self._policy.answer_ns
        if self._sync.link_up:
            for entry in self._orders.unanswered(late_ns):
                state = entry.state.value
                self._orders.lose(entry)
                self._alert(
                    "order_unknown",
                    Priority.ERROR,
                    f"no answer about order {entry.client_order_id} in time: its fate is unknown and is asked about",
                    {"order": entry.client_order_id, "state": state},
                )
                self._sync.request_reconcile("an order was not answered")
        missing = self._orders.missing_fills()
        if missing and (self._state.flatten.reason or any(entry.history.updated_ns <= late_ns for entry in missing)):
            self._sync.request_reconcile("a fill was reported but not shown")
        answers = (entry.request.asked_ns + self._policy.answer_ns for entry in self._orders if entry.request.asked_ns)
        return min(min(answers, default=NEVER_NS), self._watch_position())

    def _watch_position(self) -> int:
        now_ns = self._market.now_ns
        if self._sync.position in {None, self._ledger.position}:
            self._differs_since_ns = 0
            return NEVER_NS
        if not self._differs_since_ns:
            self._differs_since_ns = now_ns
        due_ns = self._differs_since_ns + self._policy.answer_ns
        if now_ns >= due_ns:
            self._differs_since_ns = now_ns
            self._sync.request_reconcile("the server's position is not ours")
        return due_ns

    # The query.

    @property
    def due(self) -> bool:
        """Whether a snapshot should be requested now: something is in doubt, or the interval has passed."""
        if self._asking or not self._sync.link_up:
            return False
        return bool(self._sync.query_reason) or self._market.now_ns >= self._asked_at_ns + self._policy.every_ns

    def begin(self) -> SnapshotQuery | None:
        """Start a request; None while one is under way. The caller must follow with `apply`, `fail` or `abandon`."""
        if self._asking:
            return None
        self._asking = True
        sync = self._sync
        why, sync.query_reason = sync.query_reason, ""
        return SnapshotQuery(self._fills_since(), why, self._orders.version, self._ledger.position, sync.reconciled)

    def _fills_since(self) -> int:
        """Exchange time that includes every fill of orders not done, and fills that may explain a difference."""
        oldest = min((entry.history.sent_ns for entry in self._orders), default=self._market.now_ns)
        since_ns = max(min(oldest, self._state.last_fill_ns or oldest) - FILLS_SLACK_NS, 0)
        return min(since_ns, self._unexplained_ns)

    def fail(self, query: SnapshotQuery, error: PeerError) -> None:
        """End a request without a complete answer: no state changes, and a snapshot stays due."""
        self._sync.query_reason = query.why or "the last question had no answer"
        self._alert(
            "reconcile_failed",
            Priority.ERROR,
            f"no complete snapshot from the server ({error}): it is requested again",
            {"why": query.why},
        )
        self.abandon()

    def abandon(self) -> None:
        """End the request without an answer."""
        self._asking = False
        self._asked_at_ns = self._market.now_ns

    # The answer.

    def apply(self, query: SnapshotQuery, snapshot: BrokerSnapshot) -> bool:
        """Apply the server's snapshot; whether orders and position agree now."""
        self.abandon()
        undisturbed = query.version == self._orders.version and query.position == self._ledger.position
        agree = self._take_over(snapshot, query.version, undisturbed=undisturbed)
        self._unexplained_ns = NEVER_NS if agree else query.since_ns
        return agree

    def _take_over(self, snapshot: BrokerSnapshot, version: int, *, undisturbed: bool) -> bool:
        # Fills in the journal are left out: one of an order done before this run would be attributed to another order.
        fills = tuple(fill for fill in snapshot.fills if not self._accounting.is_recorded(fill))
        found = reconcile(
            self._orders,
            replace(snapshot, fills=fills),
            position=self._ledger.position,
            symbol=self._scope.instrument.symbol,
            account=self._scope.account,
            as_of=version,
        )
        for fill in found.fills:
            self._on_missed_fill(fill, guessed=fill in found.guessed)
        for update in (*found.updates, *found.external_orders):
            self._events.on_update(update)
        if undisturbed:
            self._sync.position = found.position.quantity
            self._on_drift(found)
        agree = undisturbed and not (found.position.drift or self._orders.unknown() or self._orders.missing_fills())
        if agree:
            self._sync.reconciled = True
        else:
            self._sync.request_reconcile("orders or position did not agree yet")
        return agree

    def _on_missed_fill(self, fill: Fill, *, guessed: bool) -> None:
        self._alert(
            "fill_missed",
            Priority.WARNING,
            f"execution {fill.execution_id} of order {fill.client_order_id} was found by asking"
            + (": its order was found by side, price and time" if guessed else ""),
            {"order": fill.client_order_id, "quantity": fill.quantity, "price": fill.price},
        )
        self._events.on_fill(fill)

    def _on_drift(self, found: Reconciliation) -> None:
        """Act on a drift found in two snapshots in a row: take over the server's position, or halt.

        Ambiguous orders (some of them filled, not known which) also need two snapshots in a row, then are given up.
        """
        difference = (found.position.drift, found.ambiguous)
        if difference != self._difference or difference == _NO_DIFFERENCE:
            self._difference = difference
            return
        self._difference = _NO_DIFFERENCE
        adopts = self._policy.adopt_drift
        if found.position.drift:
            self._alert(
                "position_drift",
                Priority.URGENT,
                f"the server's position is {found.position.quantity:+d}, ours was {self._ledger.position:+d}: "
                + ("the server's was taken over" if adopts else "trading is halted; compare, then resume"),
                {"server": found.position.quantity, "ours": self._ledger.position},
            )
        if found.position.drift and not adopts:
            self._breakers.trip(self._risk.halt(self._market.now_ns, "position_drift"))
            return
        self._adopt(found)
        self._give_up(found)

    def _adopt(self, found: Reconciliation) -> None:
        """Apply the server's executions that explain the difference, or else an external fill.

        The external fill is at the server's average price when we are flat, else at the touch.
        """
        if (
            found.position.drift
            and sum(fill.side * fill.quantity for fill in found.external_fills) == found.position.drift
        ):
            for fill in found.external_fills:
                self._accounting.apply_external_fill(fill, "drift")
        if drift := found.position.quantity - self._ledger.position:
            # with a position of our own the server's average price includes our contracts
            self._accounting.apply_drift(drift, 0.0 if self._ledger.position else found.position.average_price)

    def _give_up(self, found: Reconciliation) -> None:
        """End ambiguous orders: none is open any more, and the position already includes their fills."""
        for entry in self._orders:
            name = entry.client_order_id
            if name in found.ambiguous:
                self._alert(
                    "order_given_up",
                    Priority.WARNING,
                    f"order {name} is not open at the server; whether it filled is not known, but the position agrees",
                    {"order": name},
                )
                self._events.on_update(gone(entry, self._market.now_ns))
