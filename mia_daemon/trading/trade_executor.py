"""Task 4's core: from target positions to orders, from fills to trades, and the account in between.

Synchronous: market events, broker events and commands come in; orders, journal entries, alerts and notices go out. All
that is decided here depends on event time and on what the broker said, never on the clock, so a replay repeats it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import Settings
from mia_daemon.instruments import Instrument
from mia_daemon.records import (
    AccountState,
    Alert,
    BrokerEvent,
    Decision,
    EventArray,
    OrderRole,
    Prediction,
    Priority,
)
from mia_daemon.risk.codes import ALLOWED, RiskCode, Verdict
from mia_daemon.risk.facts import NO_DELAYS, Delays, RiskFacts
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.trade_window_filter import FlatReason
from mia_daemon.stage import AlertSink, LatencyBuckets
from mia_daemon.trading.account_view import AccountView
from mia_daemon.trading.bookkeeper import Bookkeeper, Notices
from mia_daemon.trading.breakers import Breakers
from mia_daemon.trading.brokers.base import Broker
from mia_daemon.trading.entry_worker import EntryPolicy, EntryWorker
from mia_daemon.trading.flat_times import NO_WINDOWS, FlatTimes, Windows
from mia_daemon.trading.journal import Journal
from mia_daemon.trading.journal_reading import OpenOrder
from mia_daemon.trading.ledger import Ledger
from mia_daemon.trading.order_desk import OrderDesk
from mia_daemon.trading.order_news import OrderNews
from mia_daemon.trading.orders import WorkingOrders
from mia_daemon.trading.position_keeper import NEVER, Held, KeeperPolicy, PositionKeeper
from mia_daemon.trading.position_opener import PositionOpener
from mia_daemon.trading.reconciler import Reconciler
from mia_daemon.trading.server_view import ServerView
from mia_daemon.trading.touch import Market, Touch
from mia_daemon.trading.trading_loop import Situation
from mia_daemon.trading_calendar import TradingCalendar

SHUTDOWN: Final = "shutdown"
"""Why a position is closed when the daemon ends; a round trip's "stop" is always its protective stop."""


class TradeExecutor:
    """Joins those who trade, and says when each of them acts.

    `OrderDesk` sends orders, `PositionOpener` enters, `PositionKeeper` protects and closes, `OrderNews` takes in what
    the broker says, `Bookkeeper` books it, `Reconciler` compares with the server, `Breakers` stop it all.

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
        notices: Notices,
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
        self._market = market = Market()
        self._server = server = ServerView()
        self._equity_due_ns = NEVER  # when an open position is valued next
        self._deadline_ns = NEVER  # when something else falls due
        self._flat = FlatTimes(windows)
        self._dirty = self._acting = self._in_market = False
        self._stopping = self._ending_flat = self._miscounted = False
        self._settled = asyncio.Event()

        warn = self._warn
        self._breakers = breakers = Breakers(
            risk, journal, market, warn, settings.incidents,
            facts=self.facts, close=self._must_close, cancel_entries=self._cancel_entries,
        )  # fmt: skip
        self._desk = desk = OrderDesk(
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
        self._bookkeeper = bookkeeper = Bookkeeper(
            ledger, journal, desk.working, risk, breakers, market=market, calendar=calendar, notices=notices
        )
        entry_policy = EntryPolicy.of(settings, instrument.tick_size)
        self._entries = EntryWorker(desk, entry_policy, lambda prediction: self.new_risk(prediction).allowed)
        self._opener = PositionOpener(
            desk, keeper, self._entries, bookkeeper, ledger, risk, breakers, market, instrument,
            settings=settings.decision, policy=entry_policy, facts=self.facts, warn=warn,
        )  # fmt: skip
        self._news = OrderNews(desk, bookkeeper, ledger, journal, risk, breakers, server, notices=notices, warn=warn)
        self._reconciler = Reconciler(
            broker, desk, self._news, bookkeeper, ledger, server, market, instrument,
            answer_ns=round(settings.broker.ack_timeout_s * NS_PER_S * stretch),
            every_ns=round(settings.broker.reconcile_every_s * NS_PER_S * stretch),
            adopt_drift=adopt_drift, warn=warn, halt=self.halt,
        )  # fmt: skip
        broker.start(self.on_broker_event)

    def restore(
        self,
        orders: Iterable[OpenOrder],
        last_fill_ns: int,
        last_event_ns: int = 0,
        ended: Iterable[OpenOrder] = (),
    ) -> None:
        """Orders of earlier runs that are not known to be done: all unknown until `reconcile` has looked.

        To be called once, before the broker connects; the ledger and the risk controller come restored, as of the
        trading day of `last_event_ns`. Of those that `ended` last a fill may yet be told.
        """
        ledger, orders, ended = self._ledger, tuple(orders), tuple(ended)
        if last_event_ns:
            self._bookkeeper.to_day(last_event_ns)
        self._bookkeeper.last_fill_ns = last_fill_ns
        self._bookkeeper.origins |= {
            order.order.decision_id: order.origin for order in (*ended, *orders) if order.order.decision_id
        }
        self._broker.restore(orders, ledger.position, ledger.average_price, ledger.equity - ledger.unrealized)
        self._desk.restore(orders, ended)
        self._deadline_ns = 0

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

    def facts(self, delays: Delays = NO_DELAYS) -> RiskFacts:
        """What risk goes by, now."""
        return self._view.facts(delays)

    def account_state(self, seq: int, ts_ns: int) -> AccountState:
        """The account as of the events seen so far, marked at the touch."""
        return self._bookkeeper.state(seq, ts_ns)

    def new_risk(self, prediction: Prediction, delays: Delays = NO_DELAYS) -> Verdict:
        """What risk says of any new position at this moment."""
        return self._risk.check_new_risk(prediction, self.facts(delays))

    def situation(self, entries: Verdict = ALLOWED) -> Situation:
        """What a decision has to know beside the account; `entries` is the verdict on a new position now."""
        touch = self._market.touch
        return Situation(
            bid=touch.bid,
            ask=touch.ask,
            pending=not self.settled,
            must_exit=SHUTDOWN if self._stopping else self._flat.reason,
            entries=entries,
        )

    # The market.

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
            self._market.see(seen)
            self._risk.see(seen)
            self._bookkeeper.to_day(self._market.now_ns)
            done += taken
            self._watch_windows()
            if self._dirty or self._market.now_ns >= self._deadline_ns:
                self._act()
            elif self._market.now_ns >= self._equity_due_ns:
                self._watch_equity()
        self._check_count()

    def _until_deadline(self, events: EventArray, start: int) -> int:
        """Where to stop: after the first event at which something falls due."""
        due_ns = min(self._deadline_ns, self._equity_due_ns, self._flat.due_ns)
        if due_ns == NEVER:
            return len(events)
        due = events["ts_ns"][start:] >= due_ns
        first = int(due.argmax())
        return start + first + 1 if due[first] else len(events)

    def checkpoint(self) -> None:
        """Put on file what the journal has buffered, and a point of the equity curve; to be called once a second."""
        self._bookkeeper.checkpoint()

    # Decisions.

    def execute(self, decision: Decision, born_ns: int = 0, delays: Delays = NO_DELAYS) -> Verdict:
        """Bring the position toward the decision's target.

        Args:
            decision: what is wanted, made on the account as of the last `on_market`.
            born_ns: stopwatch reading when the deciding event's bytes arrived; 0 when not known.
            delays: on the way to it; none where they must not matter.

        Returns:
            The verdict on the entry that it asked for; ALLOWED when it asked for none.
        """
        self._breakers.write(lambda: self._journal.record_decision(decision))
        self._acting = True
        try:
            bracket, verdict = (None, ALLOWED) if self._stopping else self._opener.toward(decision, delays)
        finally:
            self._acting = False
        if bracket is not None:
            if born_ns:
                self.tick_to_order.add(self._clock.monotonic_ns() - born_ns)
            for order in (bracket.entry, bracket.stop, bracket.target):
                self._notices.order(self._market.now_ns, order, "sent")
        self._act()
        return verdict

    # Reacting.

    def _act(self) -> None:
        """Look at everything that may need doing, now; what a reaction sets off is looked at again, boundedly."""
        if self._acting:
            self._dirty = True
            return
        self._acting = True
        try:
            for _ in range(4):
                self._dirty = False
                self._react()
                if not self._dirty and self._deadline_ns > self._market.now_ns:
                    break
        finally:
            self._acting = False
        self._check_count()

    def _react(self) -> None:
        held = self._held()
        flat = SHUTDOWN if self._ending_flat else self._flat.reason
        if flat and held.quantity:  # also what an entry brought in while its cancel was on its way
            self._keeper.want_flat(flat, self._market.now_ns)
        self._deadline_ns = self._equity_due_ns = NEVER
        agreed = self._server.position in {None, held.quantity}
        if agreed and not (held.quantity or len(self._working) or self._keeper.goal):
            self._watch_account()  # what was closed may have cost too much
            self._rest()
            return
        self._due(self._reconciler.watch_answers(closing=bool(self._keeper.goal)))
        if self._server.link_up:
            sure = agreed and self._server.agreed
            self._due(self._keeper.work(self._market.now_ns, held, self._market.touch, sure=sure))
            self._due(self._entries.work(self._market.now_ns, self._market.touch))
        self._due(self._reconciler.watch_position())
        if held.quantity:
            self._watch_equity()
        self._rest()

    def _due(self, ts_ns: int) -> None:
        self._deadline_ns = min(self._deadline_ns, ts_ns)

    def _held(self) -> Held:
        return self._bookkeeper.held()

    def _rest(self) -> None:
        """Nothing left to do: whoever waits for that may go on, and what explained old orders is forgotten."""
        if self.settled:
            self._settled.set()
            if not len(self._working):
                self._desk.reasons.clear()
                self._bookkeeper.forget()
        else:
            self._settled.clear()

    def _watch_windows(self) -> None:
        """At the very event at which a position may be held no longer, it begins to be closed, and entries go."""
        if self._market.now_ns < self._flat.due_ns:
            return
        if reason := self._flat.see(self._market.now_ns):
            self._must_close(reason)
        if self._flat.reason == FlatReason.CONTRACT_END:
            self._warn(
                "contract_end",
                Priority.WARNING,
                "the contract rolls or expires: nothing is opened in it any more; "
                "restart to trade the next one, or name it as instrument.symbol",
                {"position": self._ledger.position},
            )

    def _watch_equity(self) -> None:
        """Value an open position once a second of event time, on a grid, so that batches don't matter."""
        self._equity_due_ns = (self._market.now_ns // NS_PER_S + 1) * NS_PER_S
        self._bookkeeper.mark()
        self._watch_account()

    def _watch_account(self) -> None:
        if latches := self._risk.watch(self._view.value()):
            self._breakers.trip(latches)
            self._act()

    # The server.

    def on_broker_event(self, event: BrokerEvent) -> None:
        """Journal it, move the order it speaks of, book it; reactions follow at once, or after the market event."""
        if not self._news.hear(event):
            return
        self._dirty = True
        if not self._in_market:
            self._act()

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
        self._act()
        return agree

    # Commands.

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return not (self._working.with_role(OrderRole.ENTRY) or self._keeper.goal)

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
        self._act()
        return lifted

    def rearm(self, by: str) -> int:
        """A person has looked at what was executed; returns how many entries that were."""
        return self._breakers.rearm(by)

    def flatten(self, reason: str) -> None:
        """Close the position and cancel entries; trading goes on afterwards unless halted."""
        self._keeper.want_flat(reason, self._market.now_ns)
        self._act()

    def cancel_all(self) -> None:
        """Cancel every entry. Stop and target stay as long as there is a position for them to close."""
        self._cancel_entries()
        self._act()

    def kill(self, by: str, *, flatten: bool, code: RiskCode = RiskCode.KILLED) -> None:
        """Cancel first of all, then latch, then, if wanted, close the position.

        Cancelled is whatever could add to the position. Stop and target go with their entry, by the server; those of a
        position that is held stay until it is closed, or else the kill would leave it bare.
        """
        self._cancel_entries()
        self._breakers.trip(self._risk.halt(self._market.now_ns, by, code))
        if flatten:
            self._keeper.want_flat("kill", self._market.now_ns)
        self._act()

    def stop(self, *, flatten: bool) -> None:
        """The daemon is about to end: enter nothing more; close the position or leave it to its stop at the server."""
        self._stopping, self._ending_flat = True, flatten
        self.cancel_all()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until what `stop` asked for is done; False when time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.settled:
                    self._settled.clear()
                    await self._settled.wait()
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
        self._dirty = True

    def _cancel_entries(self) -> None:
        self._keeper.cancel_entries(self._market.now_ns)

    def _warn(self, code: str, priority: Priority, text: str, context: dict[str, Any]) -> None:
        self._alert(Alert(self._market.now_ns, code, priority, text, context))
