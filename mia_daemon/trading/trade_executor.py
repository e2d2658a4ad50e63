"""Task 4's core, the control loop: looks at the state whenever something has happened, and has done what is missing.

Synchronous: market events, broker events and signals come in; orders, journal entries, alerts and notifications go
out. All that is decided here depends on event time and on what the broker reported, never on the clock, so a replay
repeats it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mia_daemon.clock import NEVER_NS, NS_PER_S, Clock
from mia_daemon.errors import PeerError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.entries import Entries, Moment
from mia_daemon.execution.exits import Exits
from mia_daemon.execution.flat_schedule import FlatSchedule
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.protection import Protection
from mia_daemon.execution.reconciler import Reconciler, SnapshotQuery
from mia_daemon.execution.state import ExecutionState
from mia_daemon.latency import LatencyBuckets
from mia_daemon.records import (
    AccountState,
    BrokerEvent,
    BrokerSnapshot,
    Decision,
    EventArray,
    FeatureWindow,
    Priority,
    Signal,
)
from mia_daemon.risk.codes import ALLOWED, RiskCode, Verdict
from mia_daemon.risk.snapshot import NO_DELAYS, Delays
from mia_daemon.risk.trade_window_filter import FlatReason
from mia_daemon.trading.trading_loop import DecisionContext, TradingLoop

SHUTDOWN: Final = "shutdown"
"""Why a position is closed when the daemon ends; a round trip's "stop" is always its protective stop."""

_ROUNDS: Final = 4  # of reactions to reactions; what is left then is looked at with the next event


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """Those who act on the state, each for one run."""

    order_manager: OrderManager
    order_events: OrderEventHandler
    accounting: Accounting
    breakers: CircuitBreakers
    entries: Entries
    exits: Exits
    protection: Protection
    reconciler: Reconciler


class StepTimes(NamedTuple):
    """How long the steps of one decision took, on the monotonic clock, ns; None for a step that was not taken."""

    window_ns: int | None
    risk_ns: int | None
    loop_ns: int
    executor_ns: int


class Outcome(NamedTuple):
    """What a signal came to.

    Attributes:
        verdict: on the entry that the decision asked for; ALLOWED when it asked for none.
    """

    decision: Decision
    verdict: Verdict
    times: StepTimes


class TradeExecutor:
    """The control loop over the state of one run.

    Attributes:
        tick_to_order: from the bytes of the deciding event to the return from the broker.
        on_settled: called whenever nothing is left to do: flat where that is wanted, and no entry that can fill.
    """

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        actors: Actors,
        loop: TradingLoop,
        schedule: FlatSchedule,
        clock: Clock,
    ) -> None:
        self.tick_to_order = LatencyBuckets()
        self.on_settled: Callable[[], None] = _do_nothing
        self._state = state
        self._market = state.market
        self._sync = state.sync
        self._broker = ports.broker
        self._risk = ports.risk
        self._listener = ports.listener
        self._alert = ports.alert
        self._order_manager = actors.order_manager
        self._order_events = actors.order_events
        self._accounting = actors.accounting
        self._breakers = actors.breakers
        self._entries = actors.entries
        self._exits = actors.exits
        self._protection = actors.protection
        self._reconciler = actors.reconciler
        self._loop = loop
        self._schedule = schedule
        self._clock = clock
        self._equity_due_ns = NEVER_NS  # when an open position is valued next
        self._deadline_ns = NEVER_NS  # when something else falls due
        self._dirty = self._acting = self._in_market = self._miscounted = False

    # Market events.

    def on_window(self, window: FeatureWindow) -> AccountState | None:
        """The window's events pass; the account as of the last of them where a decision is due, else None."""
        self.on_market(window.events)
        return self._accounting.account_state(window.seq, window.ts_ns) if window.due else None

    def on_market(self, events: EventArray) -> None:
        """Market events pass: paper orders fill, deadlines come due, each at its very event."""
        done, n = 0, len(events)
        while done < n:
            end = self._until_deadline(events, done)
            self._in_market = True
            try:
                taken = self._broker.on_market(events[done:end])
            finally:
                self._in_market = False
            seen = events[done : done + taken]
            self._market.on_events(seen)
            self._risk.on_market(seen)
            self._accounting.roll_day(self._market.now_ns)
            done += taken
            self._watch_windows()
            if self._dirty or self._market.now_ns >= self._deadline_ns:
                self.act()
            elif self._market.now_ns >= self._equity_due_ns:
                self._watch_equity()
        self._check_order_count()

    def _until_deadline(self, events: EventArray, start: int) -> int:
        """Where to stop: after the first event at which something falls due."""
        due_ns = min(self._deadline_ns, self._equity_due_ns, self._schedule.due_ns)
        if due_ns == NEVER_NS:
            return len(events)
        due = events["ts_ns"][start:] >= due_ns
        first = int(due.argmax())
        return start + first + 1 if due[first] else len(events)

    # Signals.

    def on_signal(self, signal: Signal, delays: Delays = NO_DELAYS) -> Outcome:
        """Decide, and bring the position toward the decision's target: one snapshot, one evaluation, then the order.

        Args:
            signal: made on the account as of the last window.
            delays: on the way here; none where they must not matter.
        """
        now, window = self._clock.monotonic_ns, signal.window
        self._acting = True  # what happens inside is reacted to afterwards
        try:
            moment, window_ns, risk_ns = self._judge_moment(signal, delays)
            context = self._context(moment.verdict if moment is not None else ALLOWED)
            started = now()
            decision = self._loop.decide(window, signal.prediction, signal.account, context)
            decided = now()
            bracket, verdict = self._entries.carry_out(decision, moment)
        finally:
            self._acting = False
        sent = now()
        if bracket is not None:
            if window.ingress_ns:
                self.tick_to_order.add(sent - window.ingress_ns)
            for order in (bracket.entry, bracket.stop, bracket.target):
                self._listener.order(self._market.now_ns, order, "sent")
        self.act()
        return Outcome(decision, verdict, StepTimes(window_ns, risk_ns, decided - started, sent - decided))

    def _judge_moment(self, signal: Signal, delays: Delays) -> tuple[Moment | None, int | None, int | None]:
        """What risk and the trade windows say of a new position now, and how long each took.

        None when the signal would open none. Risk's denial is the one that counts where both refuse.
        """
        if not self._loop.wants_entry(signal.prediction, signal.account):
            return None, None, None
        now = self._clock.monotonic_ns
        started = now()
        window = self._loop.gate.check(signal.window)
        filtered = now()
        snapshot = self._state.risk_snapshot(delays)
        risk = self._risk.check_new_risk(signal.prediction, snapshot)
        return Moment(window if risk.allowed else risk, snapshot), filtered - started, now() - filtered

    def _context(self, entries: Verdict) -> DecisionContext:
        """What a decision has to know beside the account."""
        touch, flatten = self._market.touch, self._state.flatten
        return DecisionContext(
            bid=touch.bid,
            ask=touch.ask,
            pending=not self._state.settled,
            must_exit=SHUTDOWN if flatten.stopping else flatten.window,
            entries=entries,
            trade_id=self._state.ledger.trade_id,
            overtrade_risk_score=self._risk.overtrade_risk_score(self._market.now_ns),
        )

    # Broker events.

    def on_broker_event(self, event: BrokerEvent) -> None:
        """Apply it; reactions follow at once, or after the market event that is being worked on."""
        if not self._order_events.on_event(event):
            return
        self._dirty = True
        if not self._in_market:
            self.act()

    @property
    def reconcile_due(self) -> bool:
        """Whether a snapshot should be requested now: something is in doubt, or it is time."""
        return self._reconciler.due

    def begin_reconcile(self) -> SnapshotQuery | None:
        """What to request of the broker; None while a request is under way."""
        return self._reconciler.begin()

    def reconcile_failed(self, query: SnapshotQuery, error: PeerError | None = None) -> None:
        """There was no complete answer, or nobody waits for it any more (no `error`)."""
        if error is None:
            self._reconciler.abandon()
        else:
            self._reconciler.fail(query, error)

    def on_snapshot(self, query: SnapshotQuery, snapshot: BrokerSnapshot) -> bool:
        """Take over the server's snapshot; whether both agree now."""
        agree = self._reconciler.apply(query, snapshot)
        if not query.was_reconciled:
            # an entry sent before the connection was lost, or by an earlier run, was meant for another market
            self._order_manager.cancel_entries()
        self.act()
        return agree

    def checkpoint(self) -> None:
        """Commit what the journal has buffered, and a point of the equity curve; to be called once a second."""
        self._accounting.checkpoint()
        if self._breakers.pending:
            self.act()

    # What follows.

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return self._state.settled

    def look_at_once(self) -> None:
        """Everything falls due with the next event."""
        self._deadline_ns = 0

    def act(self) -> None:
        """Look at everything that may need doing, now; what a reaction sets off is looked at again, boundedly."""
        if self._acting:
            self._dirty = True
            return
        self._acting = True
        try:
            for _ in range(_ROUNDS):
                self._dirty = False
                self._react()
                again = self._dirty or self._breakers.pending
                if not again and self._deadline_ns > self._market.now_ns:
                    break
            self._carry_out_latches()
        finally:
            self._acting = False
        self._check_order_count()

    def _react(self) -> None:
        """One look at the state, by everybody who may have something to do."""
        self._carry_out_latches()
        state, held = self._state, self._state.held
        flatten = state.flatten
        if held.quantity and flatten.standing:  # also what an entry brought in while its cancel was on its way
            state.request_flatten(flatten.standing)
        self._deadline_ns = self._equity_due_ns = NEVER_NS
        agreed = self._sync.position in {None, held.quantity}
        if agreed and not (held.quantity or len(state.orders) or flatten.reason):
            self._watch_account()  # what was closed may have cost too much
            self._rest()
            return
        self._due(self._reconciler.watch())
        if self._sync.link_up:
            self._due(self._exits.work(held, sure=agreed and self._sync.reconciled))
            self._due(self._protection.work(held))
            self._due(self._entries.work())
        if held.quantity:
            self._watch_equity()
        self._rest()

    def _carry_out_latches(self) -> None:
        """What the latches demand: cancels first, then the position, then they are made known and put on file."""
        breakers = self._breakers
        if not (breakers.pending or self._risk.latches):
            return
        if breakers.cancels_entries:
            self._order_manager.cancel_entries()
        if self._state.ledger.position and (reason := breakers.flatten_reason):
            self._state.request_flatten(reason)
        breakers.announce()

    def _due(self, ts_ns: int) -> None:
        self._deadline_ns = min(self._deadline_ns, ts_ns)

    def _rest(self) -> None:
        """Where nothing is left to do, whoever waits for that may go on, and old orders' origins are forgotten."""
        if self._state.settled:
            self.on_settled()
            if not len(self._state.orders):
                self._accounting.forget_origins()

    def _watch_windows(self) -> None:
        """At the very event at which a position may be held no longer, it begins to be closed, and entries go."""
        if self._market.now_ns < self._schedule.due_ns:
            return
        if reason := self._schedule.advance(self._market.now_ns):
            self._state.request_flatten(reason)
            self._dirty = True
        if self._state.flatten.window == FlatReason.CONTRACT_END:
            self._alert(
                "contract_end",
                Priority.WARNING,
                "the contract rolls or expires: nothing is opened in it any more; "
                "restart to trade the next one, or name it as instrument.symbol",
                {"position": self._state.ledger.position},
            )

    def _watch_equity(self) -> None:
        """Value an open position once a second of event time, on a grid, so that batches don't matter."""
        self._equity_due_ns = (self._market.now_ns // NS_PER_S + 1) * NS_PER_S
        self._accounting.mark()
        self._watch_account()

    def _watch_account(self) -> None:
        if latches := self._risk.watch(self._state.account_snapshot()):
            self._breakers.trip(latches)
            self.act()

    def _check_order_count(self) -> None:
        """More orders on the wire than were approved: something else sends them. Nothing may go on."""
        unapproved = self._order_manager.unapproved
        if unapproved > 0 and not self._miscounted:
            self._miscounted = True
            self._alert(
                "order_count",
                Priority.URGENT,
                f"{unapproved} more orders left than were approved: trading is halted",
                {"approved": self._order_manager.approved},
            )
            self._breakers.trip(self._risk.halt(self._market.now_ns, "order_count", RiskCode.ORDER_COUNT))
            self.act()


def _do_nothing() -> None:
    """Nobody waits."""
