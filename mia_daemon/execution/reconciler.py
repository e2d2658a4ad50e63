"""Reconciles with the server: decides when a snapshot is requested, applies it, and handles differences.

`reconciliation.py` finds what differs; this module acts on it. The owner of the connection sends the query: it calls
`begin`, then `apply` with the answer, `fail` without a complete one, or `abandon`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import BrokerSettings
from mia_daemon.errors import PeerError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.reconciliation import Asked, Reconciliation, explains, gone, reconcile
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import BrokerSnapshot, Fill, OrderReport, OrderRole, OrderStatus, Priority
from mia_daemon.risk.codes import RiskCode

FILLS_SLACK_NS: Final = 5 * NS_PER_S
"""Fills are requested from this long before the oldest order: servers state fill times in whole seconds."""

_NO_DIFFERENCE: Final[tuple[int, tuple[str, ...]]] = (0, ())
"""No drift, and no ambiguous order."""

MAX_FAILURES: Final = 3
"""Queries in a row without a complete answer, or without a position in it, at which new risk stops."""

_AT_AVERAGE_AFTER: Final = 2
"""Complete answers without the execution after which a reported fill is booked at the reported average price."""


@dataclass(frozen=True, slots=True)
class ReconcilePolicy:
    """When a snapshot is requested, and what is done about a drift; times in nanoseconds of our clock.

    Attributes:
        answer_ns: time-out of an answer.
        every_ns: between two snapshots when nothing is in doubt.
        second_ns: one second of real time.
        adopt_drift: when two snapshots in a row show the same drift: take over the server's position (True) or halt.
    """

    answer_ns: int
    every_ns: int
    second_ns: int = NS_PER_S
    adopt_drift: bool = True

    @classmethod
    def of(cls, settings: BrokerSettings, stretch: float, *, adopt_drift: bool = True) -> Self:
        """From the settings; times are multiplied by `stretch` (event s per real s), as our clock is."""
        return cls(
            answer_ns=round(settings.ack_timeout_s * NS_PER_S * stretch),
            every_ns=round(settings.reconcile_every_s * NS_PER_S * stretch),
            second_ns=round(NS_PER_S * stretch),
            adopt_drift=adopt_drift,
        )

    @property
    def fill_grace_ns(self) -> int:
        """A fill that was reported without its execution may still come by itself within this."""
        return self.second_ns // 10

    @property
    def bracket_ns(self) -> int:
        """An order that is not acknowledged is asked about after this, and may be absent from a list before."""
        return 3 * self.second_ns // 4

    @property
    def first_pause_ns(self) -> int:
        """Between two snapshots while there is disagreement; doubled each time."""
        return self.second_ns // 4

    @property
    def longest_pause_ns(self) -> int:
        return 8 * self.second_ns


@dataclass(frozen=True, slots=True)
class SnapshotQuery:
    """A snapshot request, and what was known when it was made.

    Attributes:
        since_ns: exchange time since which fills are requested.
        why: the reason; "" for the periodic query.
        version: of our orders then: the answer may be older than what happened since.
        asked_ns: our time then.
        was_reconciled: `BrokerSync.reconciled` then.
    """

    since_ns: int
    why: str
    version: int
    asked_ns: int
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
        self._events = events
        self._accounting = accounting
        self._breakers = breakers
        self._policy = policy
        self._asking = False
        self._pause_ns = 0  # while there is disagreement
        self._difference = _NO_DIFFERENCE  # found in the last snapshot
        self._unexplained_ns = NEVER_NS  # `since_ns` of the last query that left something unexplained
        self._adopts_next = False
        self._failures = 0  # in a row: queries without a complete answer
        self._untold = 0  # in a row: answers without a position
        state.differs_grace_ns = policy.second_ns

    # What is in doubt.

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
        """Take over the server's position when the next two snapshots show a drift: an operator has said so."""
        self._adopts_next = True
        self._difference = _NO_DIFFERENCE

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
        self._book_unshown(query.asked_ns)
        return self._conclude(query, found)

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
        self._events.on_history(entry, executions, limit, guessed=guessed)

    def _check_bracket(self, update: OrderReport) -> None:
        """Stop or target of an acknowledged entry that the server never acknowledged and does not list."""
        entry = self._orders.get(update.client_order_id)
        if update.status is not OrderStatus.UNKNOWN_TO_SERVER or entry is None or entry.acknowledged:
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
                    self._events.book_at_average(entry)

    def _conclude(self, query: SnapshotQuery, found: Reconciliation) -> bool:
        undisturbed = len(self._sync.positions) == 1 or found.position.drift == 0
        self._failures = 0
        if found.position.quantity is None:
            self._on_untold_position()
        else:
            self._untold = 0
        if found.position.quantity is not None and undisturbed:
            if not found.position.drift:
                self._sync.on_position(self._ledger.position)
            else:
                self._sync.on_position(found.position.quantity)
            self._on_drift(found)
        in_doubt = self._orders.unknown() or self._orders.missing_fills()
        agree = found.position.quantity is not None and undisturbed and not (found.position.drift or in_doubt)
        self._unexplained_ns = NEVER_NS if agree else query.since_ns
        if agree:
            self._sync.reconciled = True
            self._sync.agreed_ns = query.asked_ns
            self._pause_ns = 0
        else:
            self._disagree()
            self._sync.request_reconcile("orders or position did not agree yet")
        return agree

    def _on_untold_position(self) -> None:
        """Nothing is entered while the position is not told; after some answers without it, until resumed."""
        self._untold += 1
        self._sync.on_position(None)
        if self._untold >= MAX_FAILURES:
            self._breakers.contradict(
                "position_not_told",
                "the server lists the account without its position, or refuses to: look at the account in Sierra Chart",
                {"answers": self._untold},
            )

    def _on_drift(self, found: Reconciliation) -> None:
        """Act on a drift found in two snapshots in a row: take over the server's position, or halt.

        Ambiguous orders (some of them filled, not known which) also need two snapshots in a row, then are given up.
        """
        if self._orders.missing_fills() or found.unresolved != found.ambiguous:
            return  # fills that are not booked yet, or orders not listed yet, may explain it
        difference = (found.position.drift, found.ambiguous)
        if difference != self._difference or difference == _NO_DIFFERENCE:
            self._difference = difference
            return
        self._difference = _NO_DIFFERENCE
        if self._book_by_position(found):
            return
        adopts = self._policy.adopt_drift or self._adopts_next
        if found.position.drift and not adopts:
            self._halt_on_drift(found)
            return
        if found.position.drift:
            self._adopts_next = False
            self._alert(
                "position_drift",
                Priority.URGENT,
                f"the server's position is {found.position.quantity:+d}, ours was {self._ledger.position:+d}: "
                "the server's was taken over",
                {"server": found.position.quantity, "ours": self._ledger.position},
            )
        self._adopt(found)
        self._give_up(found)

    def _book_by_position(self, found: Reconciliation) -> bool:
        """Book a drift to the one order of ours that is gone and explains it; whether there is one."""
        gone_orders = [self._orders.get(name) for name in found.ambiguous]
        fitting = [entry for entry in gone_orders if entry is not None and explains(entry, found.position.drift)]
        if len(fitting) != 1:
            return False
        self._events.book_by_position(fitting[0], abs(found.position.drift))
        return True

    def _halt_on_drift(self, found: Reconciliation) -> None:
        latches = self._risk.halt(self._market.now_ns, "position_drift", RiskCode.POSITION_DRIFT)
        if latches:
            self._alert(
                "position_drift",
                Priority.URGENT,
                f"the server's position is {found.position.quantity:+d}, ours is {self._ledger.position:+d}: trading "
                "is halted; compare, then close the difference there, or say `mia-daemon resume position_drift`, which "
                "takes the server's position over",
                {"server": found.position.quantity, "ours": self._ledger.position},
            )
        self._breakers.trip(latches)

    def _adopt(self, found: Reconciliation) -> None:
        """Apply the server's executions that explain the difference, or else an external fill.

        The external fill is at the server's average price when we are flat, else at the touch.
        """
        explained = sum(fill.side * fill.quantity for fill in found.external_fills)
        if found.position.drift and explained == found.position.drift:
            for fill in found.external_fills:
                self._accounting.apply_external_fill(fill, "drift")
        held = found.position.quantity
        if held is not None and (drift := held - self._ledger.position):
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
                self._events.on_update(gone(entry, self._state.time_ns))
