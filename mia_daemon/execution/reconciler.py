"""Reconciles with the server: decides when a snapshot is requested, and applies the answer.

`in_doubt.py` detects why one is needed, `reconciliation.py` finds what differs, `position_drift.py` acts on a position
that is not ours. The owner of the connection sends the query: it calls `begin`, then `apply` with the answer, `fail`
without a complete one, or `abandon`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from mia_daemon.clock import NEVER_NS, NS_PER_DAY, NS_PER_S
from mia_daemon.errors import PeerError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.in_doubt import InDoubt
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.position_drift import PositionDrift
from mia_daemon.execution.reconcile_policy import ReconcilePolicy, SnapshotQuery
from mia_daemon.execution.reconciliation import Asked, Reconciliation, reconcile
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import BrokerSnapshot, Fill, OrderReport, OrderStatus, Priority

FILLS_SLACK_NS: Final = 5 * NS_PER_S
"""Fills are requested from this long before the oldest order: servers state fill times in whole seconds."""

MAX_FAILURES: Final = 3
"""Queries in a row without a complete answer, or without a position in it, at which new risk stops."""

_AT_AVERAGE_AFTER: Final = 2
"""Complete answers without the execution after which a reported fill is booked at the reported average price."""


class Reconciler:
    """Brings our state into agreement with the server's snapshot, as often as something is in doubt."""

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
        self._alert = ports.alert
        self._events = events
        self._accounting = accounting
        self._breakers = breakers
        self._policy = policy
        self._in_doubt = InDoubt(state, ports, breakers, policy)
        self._drift = PositionDrift(state, ports, events, accounting, breakers, adopts=policy.adopt_drift)
        self._asking = False
        self._pause_ns = 0  # while there is disagreement
        self._unexplained_ns = NEVER_NS  # `since_ns` of the last query that left something unexplained
        self._failures = 0  # in a row: queries without a complete answer
        self._untold = 0  # in a row: answers without a position
        state.differs_grace_ns = policy.second_ns

    def watch(self) -> int:
        """Check for what is in doubt; returns our time of the next check, NEVER_NS when nothing is awaited."""
        return self._in_doubt.watch()

    # The query.

    @property
    def due(self) -> bool:
        """Whether a snapshot should be requested now: something is in doubt, or the interval has passed."""
        if self._asking or not self._sync.link_up:
            return False
        waited_ns = self._state.own_ns - self._sync.asked_ns
        if not self._sync.query_reason:
            return waited_ns >= self._policy.every_ns
        return self._sync.urgent or waited_ns >= self._pause_ns

    def begin(self) -> SnapshotQuery | None:
        """Start a request; None while one is under way. The caller must follow with `apply`, `fail` or `abandon`."""
        if self._asking:
            return None
        self._asking = True
        sync, own_ns = self._sync, self._state.own_ns
        self._sync.asked_ns = own_ns
        why, sync.query_reason, sync.urgent = sync.query_reason, "", False
        sync.positions[:] = [self._ledger.position]
        return SnapshotQuery(self._fills_since(), why, self._orders.version, own_ns, sync.reconciled)

    def _fills_since(self) -> int:
        """The server's time that includes every fill of orders not done, and fills that may explain a difference."""
        oldest = min((entry.history.sent_ns for entry in self._orders), default=self._market.now_ns)
        since_ns = max(min(oldest, self._state.last_fill_ns or oldest) - FILLS_SLACK_NS, 0)
        behind_ns = min(self._events.server_clock.offset_ns, 0)
        if any(entry.fills.snapshots for entry in self._orders.missing_fills()):
            behind_ns -= NS_PER_DAY  # the list lacks a fill that was reported: its clock may be of another time zone
        return max(min(since_ns, self._unexplained_ns) + behind_ns, 0)

    def fail(self, query: SnapshotQuery, error: PeerError) -> None:
        """End a request without a complete answer: no state changes, and a snapshot stays due."""
        self._sync.query_reason = query.why or "the last question had no answer"
        self._disagree()
        self._failures += self._sync.link_up
        if self._failures >= MAX_FAILURES:
            self._breakers.contradict(
                "not_comparable",
                f"the server has given no complete answer about orders and position {self._failures} times in a row "
                f"({error})",
                {"failures": self._failures},
            )
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

    def _disagree(self) -> None:
        policy = self._policy
        self._pause_ns = min(max(2 * self._pause_ns, policy.first_pause_ns), policy.longest_pause_ns)

    def adopt_next(self) -> None:
        """An operator takes over the server's position that was announced, if the next two snapshots still show it."""
        self._drift.adopt_next()

    # The answer.

    def apply(self, query: SnapshotQuery, snapshot: BrokerSnapshot) -> bool:
        """Apply the server's snapshot; whether orders and position agree now."""
        self.abandon()
        known = self._events.identified(snapshot.open_orders)
        asked = Asked(query.version, query.asked_ns - self._policy.bracket_ns, tuple(self._sync.positions))
        fills = None if snapshot.fills is None else tuple(self._unrecorded(snapshot.fills))
        found = reconcile(self._orders, replace(snapshot, fills=fills), known, asked, self._events.covers)
        limits = {entry.client_order_id: update.filled for entry, update in known if entry is not None}
        for name, executions in found.executions.items():
            self._on_executions(name, executions, limits.get(name), guessed=name in found.guessed)
        for update in found.updates:
            self._check_bracket(update)
            self._events.on_update(update)
        for update in found.external_orders:
            self._events.on_update(update)
        for entry, _ in known:
            if entry is not None:
                entry.history.listed_ns = query.asked_ns
        for name in found.unresolved:
            if (unresolved := self._orders.get(name)) is not None and unresolved.acknowledged:
                self._orders.lose(unresolved)
        agree = self._conclude(query, found)
        self._book_unshown(query.asked_ns)
        return agree

    def _unrecorded(self, fills: Iterable[Fill]) -> Iterator[Fill]:
        """Executions in event time, without those of orders of earlier runs that are in the journal already."""
        recorded: dict[str, list[tuple[int, float]]] = {}
        for fill in fills:
            number = fill.server_order_id
            if self._orders.find(fill.client_order_id, number) is None and self._events.covers(fill):
                if number not in recorded:
                    recorded[number] = [(one.quantity, one.price) for one in self._accounting.recorded_under(number)]
                if (fill.quantity, fill.price) in recorded[number]:
                    recorded[number].remove((fill.quantity, fill.price))
                    continue
            yield replace(fill, ts_ns=self._events.server_clock.listed(fill.ts_ns))

    def _on_executions(
        self, name: str, executions: Sequence[Fill], listed_filled: int | None, *, guessed: bool
    ) -> None:
        """Book what is missing of an order, at most what the server lists it as having filled."""
        entry = self._orders.get(name)
        if entry is None:
            return
        told = max(entry.fills.reported, listed_filled or 0)
        limit = entry.size if listed_filled is None or not told else told
        self._events.booking.on_history(entry, executions, limit, guessed=guessed)

    def _check_bracket(self, update: OrderReport) -> None:
        """Stop or target of an acknowledged entry that the server never acknowledged and does not list.

        That of a lost connection, or of an earlier run, may have been acknowledged and ended meanwhile.
        """
        entry = self._orders.get(update.client_order_id)
        unheard = entry is not None and entry.state is OrderState.SENT and not entry.acknowledged
        if update.status is not OrderStatus.UNKNOWN_TO_SERVER or entry is None or not unheard:
            return
        parent = self._orders.get(entry.order.parent_id)
        if parent is not None and parent.acknowledged and (parent.at_server or parent.fills.reported):
            self._breakers.contradict(
                "bracket_ignored",
                f"the server took entry {parent.client_order_id} and knows nothing of its {entry.order.role}: it does "
                'not link orders; set broker.brackets = "client"',
                {"order": entry.client_order_id},
            )

    def _book_unshown(self, asked_ns: int) -> None:
        """Book what is reported as filled and shown by no complete answer since."""
        for entry in self._orders.missing_fills():
            fills = entry.fills
            if 0 < fills.missing_since_ns <= asked_ns:
                fills.snapshots += 1
                if fills.snapshots >= _AT_AVERAGE_AFTER:
                    self._events.booking.book_at_average(entry)

    def _conclude(self, query: SnapshotQuery, found: Reconciliation) -> bool:
        undisturbed = len(self._sync.positions) == 1 or found.position.drift == 0
        self._failures, confirms = 0, False
        if found.position.quantity is None:
            self._on_untold_position()
        else:
            self._untold = 0
        if found.position.quantity is not None and undisturbed:
            if not found.position.drift:
                self._sync.on_position(self._ledger.position)
            else:
                self._sync.on_position(found.position.quantity)
            confirms = self._drift.act(found)
        in_doubt = self._orders.unknown() or self._orders.missing_fills()
        agree = found.position.quantity is not None and undisturbed and not (found.position.drift or in_doubt)
        self._unexplained_ns = NEVER_NS if agree else query.since_ns
        if agree:
            self._sync.reconciled = True
            self._sync.agreed_ns = query.asked_ns
            self._pause_ns = 0
        else:
            self._disagree()
            if confirms:
                self._pause_ns = self._policy.first_pause_ns
            self._sync.request_reconcile("orders or position did not agree yet")
        return agree

    def _on_untold_position(self) -> None:
        """Nothing is entered while the position is not told; after some answers without it, until resumed."""
        self._untold += 1
        self._sync.on_position(None)
        if self._untold >= MAX_FAILURES:
            self._breakers.contradict(
                "position_not_reported",
                "the server lists the account without its position, or refuses to: look at the account in Sierra Chart",
                {"answers": self._untold},
            )
