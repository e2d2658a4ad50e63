"""Task 4's core: from target positions to orders, from fills to trades, and the account in between.

Synchronous: market events, broker events and commands come in; orders, journal entries, alerts and notices go out. All
that is decided here depends on event time and on what the broker said, never on the clock, so a replay repeats it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import Settings
from mia_daemon.execution.account_view import AccountView
from mia_daemon.execution.accounting import Accounting, ExecutionListener
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.entries import EntryPolicy, EntryWorker
from mia_daemon.execution.exits import KeeperPolicy, PositionKeeper
from mia_daemon.execution.flat_times import NO_WINDOWS, Windows
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.position_opener import NOTHING, PositionOpener
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.state import BrokerSync
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.journal.writer import Journal
from mia_daemon.market import MarketState, Touch
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import (
    AccountState,
    Alert,
    BrokerEvent,
    Decision,
    EventArray,
    JournaledOrder,
    Prediction,
    Priority,
)
from mia_daemon.risk.codes import ALLOWED, RiskCode, Verdict
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import NO_DELAYS, Delays, RiskSnapshot
from mia_daemon.stage import AlertSink, LatencyBuckets
from mia_daemon.trading.reactor import Reactor
from mia_daemon.trading.trading_loop import DecisionContext

SHUTDOWN: Final = "shutdown"
"""Why a position is closed when the daemon ends; a round trip's "stop" is always its protective stop."""


class TradeExecutor:
    """Joins those who trade, and takes decisions and commands to them.

    `OrderManager` sends orders, `PositionOpener` enters, `EntryWorker` follows entries, `PositionKeeper` protects and
    closes, `OrderEventHandler` takes in what the broker says, `Accounting` books it, `Reconciler` compares with the
    server, `CircuitBreakers` stop it all, and `Reactor` says when each of them acts.

    Args:
        time_scale: event seconds per real second (the simulator's speed). Waiting for an answer over a real connection
            takes real time, so deadlines on answers are stretched by it.
        windows: when there must be no position.
        adopt_drift: what to do when the server's position, looked at twice, is not ours: take it over (True) or halt.

    Attributes:
        tick_to_order: from the bytes of the deciding event to the return from the broker.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        instrument: Instrument,
        run_id: str,
        broker: Broker,
        journal: Journal,
        ledger: Ledger,
        risk: RiskController,
        calendar: TradingCalendar,
        alert: AlertSink,
        notices: ExecutionListener,
        clock: Clock,
        time_scale: float = 1.0,
        adopt_drift: bool = True,
        windows: Windows = NO_WINDOWS,
    ) -> None:
        self.tick_to_order = LatencyBuckets()
        self._broker = broker
        self._journal = journal
        self._ledger = ledger
        self._risk = risk
        self._alert = alert
        self._notices = notices
        self._clock = clock
        self._market = market = MarketState()
        self._server = server = BrokerSync()
        self._stopping = self._miscounted = False

        warn = self._warn
        self._breakers = breakers = CircuitBreakers(
            risk, journal, market, warn, settings.incidents,
            facts=self.facts, close=self._must_close, cancel_entries=self._cancel_entries,
            settle=self._settle,
        )  # fmt: skip
        self._desk = desk = OrderManager(
            broker=broker,
            journal=journal,
            instrument=instrument,
            account=settings.instrument.trade_account,
            run_id=run_id,
            risk=risk,
            facts=self.facts,
            warn=warn,
            on_journal_failure=breakers.journal_failed,
        )
        self._working = desk.working
        self._view = AccountView(ledger, desk.working, market, server)
        stretch = max(time_scale, 1.0)
        policy = KeeperPolicy.of(settings, stretch)
        self._keeper = keeper = PositionKeeper(desk, instrument, policy, warn)
        self._accounting = bookkeeper = Accounting(
            ledger, journal, desk.working, risk, breakers, market=market, calendar=calendar, notices=notices
        )
        entry_policy = EntryPolicy.of(settings, instrument.tick_size)
        entries = EntryWorker(desk, entry_policy, lambda prediction: self.new_risk(prediction).allowed)
        self._opener = PositionOpener(
            desk, keeper, entries, bookkeeper, ledger, risk, breakers, market, instrument,
            settings=settings.decision, policy=entry_policy, facts=self.facts, warn=warn,
        )  # fmt: skip
        news = OrderEventHandler(desk, bookkeeper, ledger, journal, risk, breakers, server, notices=notices, warn=warn)
        self._reconciler = Reconciler(
            broker, desk, news, bookkeeper, ledger, server, market, instrument,
            answer_ns=round(settings.broker.ack_timeout_s * NS_PER_S * stretch),
            every_ns=round(settings.broker.reconcile_every_s * NS_PER_S * stretch),
            adopt_drift=adopt_drift, warn=warn, halt=self.halt,
        )  # fmt: skip
        self._reactor = Reactor(
            broker, risk, desk, keeper, entries, news, bookkeeper, breakers, self._reconciler, self._view,
            server, market, windows, warn=warn, check_count=self._check_count,
        )  # fmt: skip
        broker.start(self.on_broker_event)

    def restore(
        self,
        orders: Iterable[JournaledOrder],
        last_fill_ns: int,
        last_event_ns: int = 0,
        ended: Iterable[JournaledOrder] = (),
    ) -> None:
        """Orders of earlier runs that are not known to be done: all unknown until `reconcile` has looked.

        To be called once, before the broker connects; the ledger and the risk controller come restored, as of the
        trading day of `last_event_ns`. Of those that `ended` last a fill may yet be told.
        """
        ledger, orders, ended = self._ledger, tuple(orders), tuple(ended)
        if last_event_ns:
            self._accounting.to_day(last_event_ns)
        self._accounting.last_fill_ns = last_fill_ns
        self._accounting.origins |= {
            order.order.decision_id: order.origin for order in (*ended, *orders) if order.order.decision_id
        }
        self._broker.restore(orders, ledger.position, ledger.average_price, ledger.equity - ledger.unrealized)
        self._desk.restore(orders, ended)
        self._reactor.look_at_once()

    # What others ask.

    @property
    def ready(self) -> bool:
        """The books were compared with the server's and agree; no new risk before."""
        return self._server.agreed

    @property
    def position(self) -> int:
        return self._ledger.position

    @property
    def working(self) -> WorkingOrders:
        """Our orders; to look at."""
        return self._working

    @property
    def touch(self) -> Touch:
        """The last known."""
        return self._market.touch

    def facts(self, delays: Delays = NO_DELAYS) -> RiskSnapshot:
        """What risk goes by, now."""
        return self._view.facts(delays)

    def account_state(self, seq: int, ts_ns: int) -> AccountState:
        """The account as of the events seen so far, marked at the touch."""
        return self._accounting.state(seq, ts_ns)

    def new_risk(self, prediction: Prediction, delays: Delays = NO_DELAYS) -> Verdict:
        """What risk says of any new position at this moment."""
        return self._risk.check_new_risk(prediction, self.facts(delays))

    def situation(self, entries: Verdict = ALLOWED) -> DecisionContext:
        """What a decision has to know beside the account; `entries` is the verdict on a new position now."""
        touch = self._market.touch
        return DecisionContext(
            bid=touch.bid,
            ask=touch.ask,
            pending=not self.settled,
            must_exit=SHUTDOWN if self._stopping else self._reactor.flat_reason,
            entries=entries,
            trade_id=self._ledger.trade_id,
            overtrade_risk_score=self._risk.overtrade_risk_score(self._market.now_ns),
        )

    # The market and the server.

    def on_market(self, events: EventArray) -> None:
        """Market events pass: paper orders fill, deadlines come due, each at its very event."""
        self._reactor.on_market(events)

    def on_broker_event(self, event: BrokerEvent) -> None:
        """Journal it, move the order it speaks of, book it; reactions follow at once, or after the market event."""
        self._reactor.on_broker_event(event)

    def checkpoint(self) -> None:
        """Put on file what the journal has buffered, and a point of the equity curve; to be called once a second."""
        self._accounting.checkpoint()

    # Decisions.

    def execute(
        self, decision: Decision, ingress_ns: int = 0, delays: Delays = NO_DELAYS, asked: Verdict | None = None
    ) -> Verdict:
        """Bring the position toward the decision's target.

        Args:
            decision: what is wanted, made on the account as of the last `on_market`.
            ingress_ns: stopwatch reading when the deciding event's bytes arrived; 0 when not known.
            delays: on the way to it; none where they must not matter.
            asked: what risk said of a new position before the decision was made; None when it was not asked.

        Returns:
            The verdict on the entry that it asked for; ALLOWED when it asked for none.
        """
        with self._reactor.held_back():
            plan = NOTHING if self._stopping else self._opener.plan(decision, delays)
            last = plan.verdict or asked
            on_file = self._breakers.write(lambda: self._journal.record_decision(decision, last))
            bracket, verdict = self._opener.carry_out(plan, decision, delays, on_file=on_file)
        if bracket is not None:
            if ingress_ns:
                self.tick_to_order.add(self._clock.monotonic_ns() - ingress_ns)
            for order in (bracket.entry, bracket.stop, bracket.target):
                self._notices.order(self._market.now_ns, order, "sent")
        self._reactor.act()
        return verdict

    # Reconciliation.

    @property
    def reconcile_due(self) -> bool:
        """Whether `reconcile` should be called now: something is unknown, or it is time."""
        return self._reconciler.due

    async def reconcile(self) -> bool:
        """Ask the server for its books and bring ours into agreement; True when they agree.

        On a failure (no answer) nothing changes, and it stays due.
        """
        lost = not self._server.agreed
        agree = await self._reconciler.compare()
        if agree is None:
            return False
        if lost:  # an entry sent before the connection was lost, or by an earlier run, was meant for another market
            self._cancel_entries()
        self._reactor.act()
        return agree

    # Commands.

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return self._reactor.settled

    def halt(self, by: str) -> None:
        """No new positions until `resume`, also after a restart. Entries are cancelled; protection stays."""
        self._breakers.trip(self._risk.halt(self._market.now_ns, by))
        self.cancel_all()

    def still_exceeded(self, code: RiskCode) -> bool:
        """Whether lifting this latch would override a limit that is still exceeded."""
        return self._risk.still_exceeded(code, self._view.value())

    def resume(self, by: str, code: RiskCode | None = None) -> tuple[RiskCode, ...]:
        """Lift the latch `code`, or all that need no name; returns which were set.

        The books must agree again before anything is entered.
        """
        lifted = self._breakers.lift(by, code)
        if RiskCode.DRAWDOWN in lifted:
            self._ledger.rebase_peak()
        self._server.ask("trading was resumed")
        self._reactor.act()
        return lifted

    def _settle(self) -> None:
        self._accounting.settle()

    def rearm(self, by: str) -> int:
        """A person has looked at what was executed; returns how many entries that were."""
        return self._breakers.rearm(by)

    def flatten(self, reason: str) -> None:
        """Close the position and cancel entries; trading goes on afterwards unless halted."""
        self._keeper.want_flat(reason, self._market.now_ns)
        self._reactor.act()

    def cancel_all(self) -> None:
        """Cancel every entry. Stop and target stay as long as there is a position for them to close."""
        self._cancel_entries()
        self._reactor.act()

    def kill(self, by: str, *, flatten: bool, code: RiskCode = RiskCode.KILLED) -> None:
        """Cancel first of all, then latch, then, if wanted, close the position.

        Cancelled is whatever could add to the position. Stop and target go with their entry, by the server; those of a
        position that is held stay until it is closed, or else the kill would leave it bare.
        """
        self._cancel_entries()
        self._breakers.trip(self._risk.halt(self._market.now_ns, by, code))
        if flatten:
            self._keeper.want_flat("kill", self._market.now_ns)
        self._reactor.act()

    def stop(self, *, flatten: bool) -> None:
        """The daemon is about to end: enter nothing more; close the position or leave it to its stop at the server."""
        self._stopping = True
        self._reactor.ending = SHUTDOWN if flatten else ""
        self.cancel_all()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until what `stop` asked for is done; False when time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._reactor.settle()
        except TimeoutError:
            return False
        return True

    # Trouble.

    def _check_count(self) -> None:
        """More orders on the wire than were approved: something else sends them. Nothing may go on."""
        if self._desk.sent_too_many > 0 and not self._miscounted:
            self._miscounted = True
            self._warn(
                "order_count",
                Priority.URGENT,
                f"{self._desk.sent_too_many} more orders left than were approved: trading is halted",
                {"approved": self._desk.approved},
            )
            self.kill("order_count", flatten=False, code=RiskCode.ORDER_COUNT)

    def _must_close(self, reason: str) -> None:
        self._keeper.want_flat(reason, self._market.now_ns)
        self._reactor.look_again()

    def _cancel_entries(self) -> None:
        self._keeper.cancel_entries(self._market.now_ns)

    def _warn(self, code: str, priority: Priority, text: str, context: dict[str, Any]) -> None:
        self._alert(Alert(self._market.now_ns, code, priority, text, context))
