"""Task 4's core, the control loop: after every event it runs the actors, which do what is missing.

Synchronous: market events, broker events, signals and the ticks of our clock come in; orders, journal entries, alerts
and notifications go out. Market deadlines are in event time. Waits for the server's answers, protection and retries are
in our time, so that they pass while the market is silent. In replay our time is event time: a replay is reproducible.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mia_daemon.clock import NEVER_NS, NS_PER_S, Clock
from mia_daemon.errors import PeerError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.client_pairs import ClientPairs
from mia_daemon.execution.entries import Entries, Moment
from mia_daemon.execution.exits import Exits
from mia_daemon.execution.flat_schedule import FlatSchedule
from mia_daemon.execution.inputs import InputKind
from mia_daemon.execution.market_silence import MarketSilence
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.protection import Protection
from mia_daemon.execution.reconcile_policy import SnapshotQuery
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.surplus_orders import SurplusOrders
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
from mia_daemon.trading.prediction_watch import PredictionWatch
from mia_daemon.trading.trading_loop import DecisionContext, TradingLoop

SHUTDOWN: Final = "shutdown"
"""Flatten reason when the daemon ends; "stop" as an exit reason is always the protective stop."""

_ROUNDS: Final = 4  # rounds of actors in one call; the next event continues with what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """The actors on the state of one run."""

    order_manager: OrderManager
    order_events: OrderEventHandler
    accounting: Accounting
    breakers: CircuitBreakers
    entries: Entries
    exits: Exits
    protection: Protection
    client_pairs: ClientPairs
    surplus: SurplusOrders
    silence: MarketSilence
    reconciler: Reconciler


class StepTimes(NamedTuple):
    """Durations of the steps of one decision, monotonic clock, ns; None for a step that was not taken."""

    window_ns: int | None
    risk_ns: int | None
    loop_ns: int
    executor_ns: int


class SignalOutcome(NamedTuple):
    """The result of a signal.

    Attributes:
        verdict: on the entry that the decision asked for; ALLOWED when it asked for none.
    """

    decision: Decision
    verdict: Verdict
    times: StepTimes


class TradeExecutor:
    """The control loop over the state of one run.

    Attributes:
        tick_to_order: from the ingress time of the deciding event to the return from the broker's send.
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
        self.on_settled: Callable[[], None] = do_nothing
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
        self._client_pairs = actors.client_pairs
        self._surplus = actors.surplus
        self._silence = actors.silence
        self._journal = ports.journal
        self._reconciler = actors.reconciler
        self._predictions = PredictionWatch(ports.alert)
        self._loop = loop
        self._schedule = schedule
        self._clock = clock
        self._inputs = ports.inputs
        self._equity_due_ns = NEVER_NS  # when an open position is valued next
        self._curve_due_ns = 0  # when a point of the equity curve is recorded next
        self._deadline_ns = NEVER_NS  # when something else falls due in event time
        self._own_deadline_ns = NEVER_NS  # when something falls due in our time
        self._cancel_again_ns = 0  # when entries are cancelled again that a standing latch forbids
        self._dirty = self._acting = self._in_market = self._miscounted = False

    # Market events.

    def on_window(self, window: FeatureWindow) -> AccountState | None:
        """Process the window's events; the account as of the last of them where a decision is due, else None."""
        with self._inputs(InputKind.WINDOW, len(window.events)):
            self.on_market(window.events)
            return self._accounting.account_state(window.seq, window.ts_ns) if window.due else None

    def on_market(self, events: EventArray) -> None:
        """Process market events: paper orders fill and deadlines are met, each at its own event."""
        done, n = 0, len(events)
        while done < n:
            end = self._until_deadline(events, done)
            self._in_market = True
            try:
                taken = self._broker.on_market(events[done:end])
            finally:
                self._in_market = False
            processed = events[done : done + taken]
            self._market.on_events(processed)
            self._state.heard_ns = self._state.own_ns
            self._risk.on_market(processed)
            self._accounting.roll_day(self._market.now_ns)
            done += taken
            if self._market.catching_up:  # market deadlines begin when the feed has caught up
                if self._dirty:
                    self.act()
                continue
            self._watch_windows()
            if self._dirty or self._market.now_ns >= self._deadline_ns or self._own_deadline_passed:
                self.act()
            elif self._market.now_ns >= self._equity_due_ns:
                self._watch_equity()
            if self._market.now_ns >= self._curve_due_ns:
                self._curve_due_ns = _next_second(self._market.now_ns)
                self._accounting.record_equity()
        self._check_order_count()

    def _until_deadline(self, events: EventArray, start: int) -> int:
        """Index after the first event at which something falls due; `len(events)` when none is.

        Nothing falls due while the feed catches up.
        """
        if self._market.catching_up:
            return len(events)
        due_ns = min(self._deadline_ns, self._equity_due_ns, self._curve_due_ns, self._schedule.due_ns)
        if self._state.own_clock is None:
            due_ns = min(due_ns, self._own_deadline_ns)
        due = events["ts_ns"][start:] >= due_ns
        first = int(due.argmax())
        return start + first + 1 if due[first] else len(events)

    # Our clock.

    def on_timer(self) -> None:
        """Act where something has fallen due in our time; to be called many times a second."""
        if not self._own_deadline_passed:
            return
        with self._inputs(InputKind.TIMER):
            now_ns, own_ns = self._market.now_ns, self._state.own_ns
            self._breakers.write(lambda: self._journal.record_firing(now_ns, own_ns, "deadline"))
            self.act()

    @property
    def _own_deadline_passed(self) -> bool:
        return self._own_deadline_ns != NEVER_NS and self._state.own_ns >= self._own_deadline_ns

    # Signals.

    def on_signal(self, signal: Signal, delays: Delays = NO_DELAYS) -> SignalOutcome:
        """Decide, and bring the position toward the decision's target: one snapshot, one evaluation, then the order.

        Args:
            signal: made on the account as of the last window.
            delays: measured up to this call; `NO_DELAYS` where they must not matter.
        """
        with self._inputs(InputKind.SIGNAL, delays):
            return self._on_signal(signal, delays)

    def _on_signal(self, signal: Signal, delays: Delays) -> SignalOutcome:
        now, window = self._clock.monotonic_ns, signal.window
        self._acting = True  # actors run afterwards
        try:
            moment, window_ns, risk_ns = self._judge_moment(signal, delays)
            missing_s = self._predictions.on_prediction(signal.prediction, window.ts_ns)
            context = self._context(moment.verdict if moment is not None else ALLOWED, missing_s)
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
        return SignalOutcome(decision, verdict, StepTimes(window_ns, risk_ns, decided - started, sent - decided))

    def _judge_moment(self, signal: Signal, delays: Delays) -> tuple[Moment | None, int | None, int | None]:
        """The verdict of trade windows and risk on a new position now, and how long each took, ns.

        None when the signal would open none. Where both deny, risk's denial is returned.
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

    def _context(self, entries: Verdict, without_prediction_s: float = 0.0) -> DecisionContext:
        """What a decision needs beside the account."""
        touch, flatten = self._market.touch, self._state.flatten
        return DecisionContext(
            bid=touch.bid,
            ask=touch.ask,
            pending=not self._state.settled,
            must_exit=SHUTDOWN if flatten.stopping else flatten.window,
            entries=entries,
            trade_id=self._state.ledger.trade_id,
            overtrade_risk_score=self._risk.overtrade_risk_score(self._market.now_ns),
            without_prediction_s=without_prediction_s,
        )

    # Broker events.

    def on_broker_event(self, event: BrokerEvent) -> None:
        """Apply it; actors run at once, or after the market event being processed."""
        with self._inputs.broker_event(event):
            try:
                if not self._order_events.on_event(event):
                    return
            finally:
                self._dirty = self._dirty or self._breakers.pending
            self._dirty = True
            if not self._in_market:
                self.act()

    @property
    def reconcile_due(self) -> bool:
        """Whether a snapshot should be requested now: something is in doubt, or the interval has passed."""
        return self._reconciler.due

    def begin_reconcile(self) -> SnapshotQuery | None:
        """Start a snapshot request; None while one is under way."""
        with self._inputs(InputKind.BEGIN_RECONCILE):
            return self._reconciler.begin()

    def reconcile_failed(self, query: SnapshotQuery, error: PeerError | None = None) -> None:
        """End a request without a complete answer; without `error` it was abandoned."""
        with self._inputs(InputKind.SNAPSHOT_FAILED, None if error is None else str(error)):
            if error is None:
                self._reconciler.abandon()
            else:
                self._reconciler.fail(query, error)

    def on_snapshot(self, query: SnapshotQuery, snapshot: BrokerSnapshot) -> bool:
        """Apply the server's snapshot; whether orders and position agree now."""
        with self._inputs(InputKind.SNAPSHOT, snapshot):
            agree = self._reconciler.apply(query, snapshot)
            if not query.was_reconciled:
                # entries sent before the connection was lost, or by an earlier run, are out of date
                self._order_manager.cancel_entries()
            self.act()
            return agree

    def checkpoint(self) -> None:
        """Commit the journal's buffer, and look whether prices come; to be called once a second."""
        with self._inputs(InputKind.CHECKPOINT):
            self._accounting.checkpoint()
            self._silence.watch()
            if self._breakers.pending:
                self.act()

    # The actors.

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return self._state.settled

    def look_at_once(self) -> None:
        """Run the actors with the next event, or the next tick of our clock."""
        self._deadline_ns = self._own_deadline_ns = 0

    def act(self) -> None:
        """Run the actors now, and again while they change something, for a limited number of rounds."""
        if self._acting:
            self._dirty = True
            return
        self._acting = True
        try:
            for _ in range(_ROUNDS):
                self._dirty = False
                self._react()
                again = self._dirty or self._breakers.pending
                if not (again or self._deadline_ns <= self._market.now_ns or self._own_deadline_passed):
                    break
            self._carry_out_latches()
        finally:
            self._acting = False
        self._check_order_count()

    def _react(self) -> None:
        """Run every actor once."""
        self._carry_out_latches()
        state, held = self._state, self._state.held
        flatten = state.flatten
        if held.quantity and flatten.standing:  # also one from an entry that filled while being cancelled
            state.request_flatten(flatten.standing)
        self._deadline_ns = self._own_deadline_ns = self._equity_due_ns = NEVER_NS
        agreed = self._sync.agrees(held.quantity)
        if agreed and not (held.quantity or len(state.orders) or flatten.reason):
            state.differs_since_ns = 0
            self._watch_account()  # the round trip just closed may have hit a loss limit
            self._rest()
            return
        self._own_due(self._reconciler.watch())
        if self._sync.link_up:
            self._client_pairs.work(held)
            self._own_due(self._exits.work(held, sure=agreed and self._sync.reconciled))
            self._own_due(self._protection.work(held))
            self._own_due(self._surplus.work(held))
            self._due(self._entries.work())
            self._own_due(self._silence.work())
            self._own_due(self._order_manager.work())
        if held.quantity:
            self._watch_equity()
        self._rest()

    def _carry_out_latches(self) -> None:
        """Carry out the latches: cancel entries, request the flatten, then alert and journal them."""
        breakers = self._breakers
        if not (breakers.pending or self._risk.latches):
            return
        now_ns = self._market.now_ns
        if breakers.cancels_entries and (breakers.pending or now_ns >= self._cancel_again_ns):
            self._cancel_again_ns = now_ns + NS_PER_S  # a server that refuses a cancel is not asked at every turn
            self._order_manager.cancel_entries()
        if self._state.ledger.position and (reason := breakers.flatten_reason):
            self._state.request_flatten(reason)
        breakers.announce()

    def _due(self, ts_ns: int) -> None:
        self._deadline_ns = min(self._deadline_ns, ts_ns)

    def _own_due(self, own_ns: int) -> None:
        self._own_deadline_ns = min(self._own_deadline_ns, own_ns)

    def _rest(self) -> None:
        """When nothing is left to do: call `on_settled`, and forget the origins of old orders."""
        if self._state.settled:
            self.on_settled()
            if not len(self._state.orders):
                self._accounting.forget_origins()

    def _watch_windows(self) -> None:
        """Close the position and cancel entries at the first event at which no position may be held."""
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
        """Value an open position once per second of event time, on a fixed grid, whatever the batches."""
        self._equity_due_ns = _next_second(self._market.now_ns)
        self._accounting.mark()
        self._watch_account()

    def _watch_account(self) -> None:
        if latches := self._risk.watch(self._state.account_snapshot()):
            self._breakers.trip(latches)
            self.act()

    def _check_order_count(self) -> None:
        """Halt when more orders were sent than approved: something else sends orders."""
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


def do_nothing() -> None:
    """Default of `on_settled`."""


def _next_second(ts_ns: int) -> int:
    """The next whole second of event time."""
    return (ts_ns // NS_PER_S + 1) * NS_PER_S
