"""Task 4's core: from target positions to orders, from fills to trades, and the account in between.

Synchronous: market events, broker events and commands come in; orders, journal entries, alerts and notices go out. All
that is decided here depends on event time and on what the broker said, never on the clock, so a replay repeats it.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import Settings
from mia_daemon.errors import JournalError, PeerError
from mia_daemon.instruments import Instrument
from mia_daemon.records import (
    AccountState,
    Action,
    Alert,
    BalanceReport,
    BookOfRecord,
    Bracket,
    BrokerEvent,
    Decision,
    EventArray,
    Fill,
    LinkReport,
    LinkState,
    Order,
    OrderRole,
    OrderStatus,
    OrderUpdate,
    PositionReport,
    Prediction,
    Priority,
    Side,
    Trade,
)
from mia_daemon.risk.codes import ALLOWED, Latch, RiskCode, Verdict
from mia_daemon.risk.risk_controller import RiskController, RiskFacts
from mia_daemon.stage import AlertSink, LatencyBuckets
from mia_daemon.trading.brokers.base import Broker
from mia_daemon.trading.journal import Journal, OpenOrder
from mia_daemon.trading.ledger import FOREIGN, Ledger, Origin
from mia_daemon.trading.order_desk import OrderDesk
from mia_daemon.trading.orders import OrderState, WorkingOrder, WorkingOrders
from mia_daemon.trading.position_keeper import NEVER, Held, KeeperPolicy, PositionKeeper
from mia_daemon.trading.reconcile import Reconciliation, reconcile
from mia_daemon.trading.touch import Touch, last_touch
from mia_daemon.trading.trading_loop import Situation
from mia_daemon.trading_calendar import TradingCalendar

FILLS_SLACK_NS: Final = 5 * NS_PER_S
"""Fills are asked for from a little before the oldest order: servers tell their time in whole seconds."""

_SHOWN: Final = frozenset(OrderStatus) - {OrderStatus.ACCEPTED, OrderStatus.PARTIAL, OrderStatus.FILLED}
_ALIVE: Final = frozenset({OrderStatus.ACCEPTED, OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED})
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})
_STOP_OUT: Final = frozenset({RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN})
"""Limits that also close the position: what is lost on it counts against them."""


class Notices(Protocol):
    """Who is shown what happens; called after the order was sent, never before."""

    def order(self, ts_ns: int, order: Order, what: str) -> None: ...

    def fill(self, fill: Fill) -> None: ...

    def trade(self, trade: Trade) -> None: ...


class TradeExecutor:
    """Owns the account: ledger, working orders, journal, risk and broker.

    Args:
        time_scale: event seconds per real second (the simulator's speed). Waiting for an answer over a real connection
            takes real time, so deadlines on answers are stretched by it.
        adopt_drift: what to do when the server's position, looked at twice, is not ours: take it over (True) or halt.

    Attributes:
        tick_to_order: from the bytes of the deciding event to the return from the broker.
        ready: the books were compared with the server's and agree; no new risk before.
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
        flatten_unprotected: bool = False,
    ) -> None:
        self.tick_to_order = LatencyBuckets()
        self.ready = False
        self._settings = settings
        self._instrument = instrument
        self._account = settings.instrument.trade_account
        self._broker = broker
        self._journal = journal
        self._ledger = ledger
        self._risk = risk
        self._alert = alert
        self._notices = notices
        self._calendar = calendar
        self._clock = clock
        self._adopt_drift = adopt_drift
        self._desk = OrderDesk(
            broker=broker,
            journal=journal,
            instrument=instrument,
            account=self._account,
            run_id=run_id,
            risk=risk,
            facts=self.facts,
            warn=self._warn,
            on_journal_failure=self._journal_failed,
        )
        self._working = self._desk.working
        stretch = max(time_scale, 1.0)
        self._ack_ns = round(settings.broker.ack_timeout_s * NS_PER_S * stretch)
        self._reconcile_ns = round(settings.broker.reconcile_every_s * NS_PER_S * stretch)
        wanted = settings.decision
        policy = KeeperPolicy(
            stop_ticks=wanted.stop_ticks,
            slippage_ticks=wanted.max_slippage_ticks,
            entry_timeout_ns=round(settings.broker.entry_timeout_s * NS_PER_S),
            chase_ns=round(NS_PER_S * stretch),
            grace_ns=round(NS_PER_S * stretch),
            escalate_ns=round(10 * NS_PER_S * stretch),
            flatten_unprotected=flatten_unprotected,
        )
        self._keeper = PositionKeeper(self._desk, instrument, policy, self._warn)
        self._origins: dict[str, Origin] = {}
        self._now_ns = 0
        self._touch = Touch()
        self._day_ends_ns = 0
        self._deadline_ns = self._equity_due_ns = NEVER
        self._dirty = self._acting = self._in_market = False
        self._link_up = True
        self._stopping = False
        self._miscounted = False
        self._ask_why = "the start"
        self._asking = False
        self._asked_at_ns = 0
        self._last_fill_ns = 0
        self._drift_seen = 0
        self._server_position: int | None = None
        self._differs_since_ns = 0
        self._settled = asyncio.Event()
        broker.start(self.on_broker_event)

    def restore(self, orders: Iterable[OpenOrder], last_fill_ns: int) -> None:
        """Orders of earlier runs that are not known to be done: all unknown until `reconcile` has looked.

        To be called once, before the broker connects; the ledger and the risk controller come restored.
        """
        ledger, orders = self._ledger, tuple(orders)
        self._last_fill_ns = last_fill_ns
        self._broker.restore(orders, ledger.position, ledger.average_price, ledger.equity - ledger.unrealized)
        for order in orders:
            self._working.restore(
                WorkingOrder(
                    order=order.order,
                    state=OrderState.UNKNOWN,
                    quantity=order.quantity,
                    price=order.price,
                    server_order_id=order.server_order_id,
                    booked=order.booked,
                    reported=order.reported,
                    sent_ns=order.intended_ns,
                    executions=set(order.executions),
                )
            )
        self._deadline_ns = 0

    # What others ask.

    @property
    def position(self) -> int:
        return self._ledger.position

    @property
    def working(self) -> WorkingOrders:
        """Our orders; to look at."""
        return self._working

    @property
    def touch(self) -> Touch:
        return self._touch

    def facts(self, inference_ms: float = 0.0) -> RiskFacts:
        """What risk goes by, now."""
        working = self._working
        unknown = len(working.unknown()) + len(working.missing_fills())
        return self._facts(working.exposure(Side.BUY), working.exposure(Side.SELL), unknown, inference_ms)

    def _facts(self, working_buy: int, working_sell: int, unknown: int, inference_ms: float) -> RiskFacts:
        ledger, touch = self._ledger, self._touch
        return RiskFacts(
            ts_ns=self._now_ns,
            position=ledger.position,
            working_buy=working_buy,
            working_sell=working_sell,
            bid=touch.bid,
            ask=touch.ask,
            touch_ns=touch.ts_ns,
            realized_today=ledger.realized_today,
            unrealized=ledger.unrealized,
            drawdown=ledger.drawdown,
            unknown_orders=unknown,
            link_up=self._link_up,
            reconciled=self.ready,
            inference_ms=inference_ms,
        )

    def account_state(self, seq: int, ts_ns: int) -> AccountState:
        """The account as of the events seen so far, marked at the touch."""
        ledger = self._ledger
        self._mark()
        return AccountState(
            seq=seq,
            ts_ns=ts_ns,
            position=ledger.position,
            average_price=ledger.average_price,
            unrealized=ledger.unrealized,
            realized_today=ledger.realized_today,
            opened_ns=ledger.opened_ns,
            equity=ledger.equity,
            drawdown=ledger.drawdown,
        )

    def situation(self, prediction: Prediction, window: Verdict = ALLOWED) -> Situation:
        """What a decision has to know beside the account; `window` is the trade window's verdict on this moment."""
        entries = self._risk.check_new_risk(prediction, self.facts())
        return Situation(
            bid=self._touch.bid,
            ask=self._touch.ask,
            pending=not self.settled,
            must_exit="stop" if self._stopping else "",
            entries=entries if not entries.allowed else window,
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
            self._see(events[done : done + taken])
            done += taken
            if self._dirty or self._now_ns >= self._deadline_ns:
                self._act()
            elif self._now_ns >= self._equity_due_ns:
                self._watch_equity()
        self._check_count()

    def _until_deadline(self, events: EventArray, start: int) -> int:
        """Where to stop: after the first event at which something falls due."""
        due_ns = min(self._deadline_ns, self._equity_due_ns)
        if due_ns == NEVER:
            return len(events)
        due = events["ts_ns"][start:] >= due_ns
        first = int(due.argmax())
        return start + first + 1 if due[first] else len(events)

    def _see(self, events: EventArray) -> None:
        self._now_ns = max(self._now_ns, int(events["ts_ns"].max()))
        self._touch = last_touch(events) or self._touch
        self._new_day(self._now_ns)

    def checkpoint(self) -> None:
        """Put on file what the journal has buffered, and a point of the equity curve; to be called once a second."""
        ledger = self._ledger

        def write() -> None:
            self._journal.record_equity(
                self._now_ns,
                ledger.equity,
                ledger.peak_equity,
                ledger.position,
                ledger.unrealized,
                ledger.realized_today,
            )
            self._journal.commit()

        self._journal_safely(write)

    def _new_day(self, ts_ns: int) -> None:
        """The result of the day counts from the exchange's opening."""
        if ts_ns >= self._day_ends_ns:
            if self._day_ends_ns:
                self._ledger.start_day()
            self._day_ends_ns = self._calendar.next_open_ns(ts_ns) or NEVER

    def _mark(self) -> None:
        if self._touch.known:
            self._ledger.mark(self._touch.bid, self._touch.ask)

    # Decisions.

    def execute(self, decision: Decision, born_ns: int = 0, inference_ms: float = 0.0) -> Verdict:
        """Bring the position toward the decision's target.

        An entry is a bracket; a target on the other side closes first and leaves the entry to a later decision; a
        smaller target on the same side waits for flat too, since a bracket is closed as a whole. While a position is
        being closed nothing is entered.

        Args:
            decision: what is wanted, made on the account as of the last `on_market`.
            born_ns: stopwatch reading when the deciding event's bytes arrived; 0 when not known.
            inference_ms: how long the prediction took; 0 where it must not matter.

        Returns:
            The verdict on the entry that it asked for; ALLOWED when it asked for none.
        """
        self._journal_safely(lambda: self._journal.record_decision(decision))
        self._acting = True
        try:
            bracket, verdict = self._toward(decision, inference_ms)
        finally:
            self._acting = False
        if bracket is not None:
            if born_ns:
                self.tick_to_order.add(self._clock.monotonic_ns() - born_ns)
            for order in (bracket.entry, bracket.stop, bracket.target):
                self._notices.order(self._now_ns, order, "sent")
        self._act()
        return verdict

    def _toward(self, decision: Decision, inference_ms: float) -> tuple[Bracket | None, Verdict]:
        if decision.action is Action.HOLD or self._keeper.goal or self._stopping:
            return None, ALLOWED
        if self._working.missing_fills():  # the position is about to change by what has filled already
            return None, self._risk.check_new_risk(decision.prediction, self.facts(inference_ms))
        position, target = self._ledger.position, decision.target
        if position and target * position <= 0:
            self._keeper.want_flat(decision.reason, self._now_ns)
            return None, ALLOWED
        entries = [entry for entry in self._working.with_role(OrderRole.ENTRY) if entry.live]
        stale = [entry for entry in entries if entry.order.side * target <= 0]
        for entry in stale:
            self._desk.cancel(entry, self._now_ns)
        coming = sum(entry.order.side * entry.open_quantity for entry in entries)
        missing = target - position - coming
        if stale or missing * target <= 0:
            return None, ALLOWED
        return self._enter(decision, Side.BUY if target > 0 else Side.SELL, abs(missing), inference_ms)

    def _enter(
        self, decision: Decision, side: Side, quantity: int, inference_ms: float
    ) -> tuple[Bracket | None, Verdict]:
        facts = self.facts(inference_ms)
        if not self._touch.known:
            return None, self._risk.check_new_risk(decision.prediction, facts)
        bracket = self._bracket(side, quantity, decision.decision_id)
        verdict = self._risk.check_entry(bracket, decision.prediction, facts)
        if not verdict.allowed:
            self._warn(f"denied_{verdict.code.value}", Priority.INFO, f"an entry was refused: {verdict}", {})
            return None, verdict
        self._origins[decision.decision_id] = Origin(decision.decision_id, decision.prediction.regime_probs)
        try:
            self._desk.send_bracket(bracket, self._now_ns)
        except JournalError as error:
            self._journal_failed(error)
            return None, self._risk.check_new_risk(decision.prediction, facts)
        return bracket, verdict

    def _bracket(self, side: Side, quantity: int, decision_id: str) -> Bracket:
        """A marketable limit with maximum slippage, its stop and target measured from the touch."""
        wanted, tick = self._settings.decision, self._instrument.tick_size
        touch = self._touch.take(side)
        return self._desk.make_bracket(
            side,
            quantity,
            price=touch + side * wanted.max_slippage_ticks * tick,
            stop=touch - side * wanted.stop_ticks * tick,
            target=touch + side * wanted.target_ticks * tick,
            decision_id=decision_id,
        )

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
                if not self._dirty and self._deadline_ns > self._now_ns:
                    break
        finally:
            self._acting = False
        self._check_count()

    def _react(self) -> None:
        held = self._held()
        self._deadline_ns = self._equity_due_ns = NEVER
        agreed = self._server_position in {None, held.quantity}
        if agreed and not (held.quantity or len(self._working) or self._keeper.goal):
            self._rest()
            return
        self._watch_answers()
        if self._link_up:
            self._deadline_ns = min(self._deadline_ns, self._keeper.work(self._now_ns, held, self._touch))
        self._watch_position()
        if held.quantity:
            self._watch_equity()
        self._rest()

    def _held(self) -> Held:
        origin = self._ledger.origin
        return Held(self._ledger.position, self._ledger.average_price, origin.decision_id if origin else "")

    def _rest(self) -> None:
        """Nothing left to do: whoever waits for that may go on, and what explained old orders is forgotten."""
        if self.settled:
            self._settled.set()
            if not len(self._working):
                self._desk.reasons.clear()
                self._origins.clear()
        else:
            self._settled.clear()

    def _watch_answers(self) -> None:
        """A request without an answer leaves its order's fate unknown; a fill told of but not shown is asked for."""
        late_ns = self._now_ns - self._ack_ns
        if self._link_up:
            for entry in self._working.unanswered(late_ns):
                self._working.lose(entry)
                self._warn(
                    "order_unknown",
                    Priority.ERROR,
                    f"no answer about order {entry.client_order_id} in time: its fate is unknown and is asked about",
                    {"order": entry.client_order_id, "state": entry.state.value},
                )
                self._ask("an order was not answered")
        missing = self._working.missing_fills()
        if missing and (self._keeper.goal or any(entry.updated_ns <= late_ns for entry in missing)):
            self._ask("a fill was reported but not shown")
        asked = [entry.asked_ns for entry in self._working if entry.asked_ns]
        if asked:
            self._deadline_ns = min(self._deadline_ns, min(asked) + self._ack_ns)

    def _watch_equity(self) -> None:
        """Value an open position once a second of event time, on a grid, so that batches don't matter."""
        self._equity_due_ns = (self._now_ns // NS_PER_S + 1) * NS_PER_S
        self._mark()
        if latches := self._risk.watch(self._facts(0, 0, 0, 0.0)):
            self._latched(latches)
            self._act()

    # What the broker says.

    def on_broker_event(self, event: BrokerEvent) -> None:
        """Journal it, move the order it speaks of, book it; reactions follow at once, or after the market event."""
        match event:
            case OrderUpdate():
                self._on_update(event)
            case Fill():
                self._on_fill(event)
            case PositionReport():
                self._on_position(event)
            case LinkReport():
                self._on_link(event)
            case BalanceReport():
                return
        self._dirty = True
        if not self._in_market:
            self._act()

    def _on_update(self, update: OrderUpdate) -> None:
        if (update.symbol, update.account) != (self._instrument.symbol, self._account):
            return
        before = self._state_of(update)
        entry = self._working.update(update)
        if update.unsolicited or before is not self._state_of(update):
            self._journal_safely(lambda: self._journal.record_update(update))
        if entry is None:
            self._foreign(update)
            return
        if update.status is OrderStatus.REJECTED:
            self._rejected(entry, update)
        elif update.status in _REFUSALS:
            self._warn(
                "request_refused",
                Priority.WARNING,
                f"the server refused to change order {entry.client_order_id}: {update.text or 'no reason given'}",
                {"order": entry.client_order_id, "status": update.status.value},
            )
            self._ask("a change of an order was refused")
        elif entry.order.role is OrderRole.ENTRY and update.status in _ALIVE:
            self._risk.on_accept()
        if update.status in _SHOWN and (update.status in _REFUSALS or before is not entry.state):
            text = f"{update.status.value}: {update.text}" if update.text else update.status.value
            self._notices.order(update.ts_ns, entry.order, text)

    def _state_of(self, update: OrderUpdate) -> OrderState | None:
        entry = self._working.find(update.client_order_id, update.server_order_id)
        return entry.state if entry is not None else None

    def _rejected(self, entry: WorkingOrder, update: OrderUpdate) -> None:
        self._warn(
            "order_rejected",
            Priority.ERROR if entry.order.role is OrderRole.ENTRY else Priority.CRITICAL,
            f"the server rejected {entry.order.role} order {entry.client_order_id}: {update.text or 'no reason given'}",
            {"order": entry.client_order_id, "price": entry.order.price},
        )
        if entry.order.role is OrderRole.ENTRY:
            self._latched(self._risk.on_reject(update.ts_ns, update.text))

    def _foreign(self, what: OrderUpdate | Fill) -> None:
        """An order or an execution in our account and symbol that is not ours: told, never touched."""
        if isinstance(what, OrderUpdate) and what.status not in _ALIVE:
            return
        kind = "execution" if isinstance(what, Fill) else "order"
        self._warn(
            f"foreign_{kind}",
            Priority.WARNING,
            f"{kind} {what.server_order_id or what.client_order_id} in account {what.account} is not ours: "
            "trade this symbol from one place only",
            {"server_order_id": what.server_order_id},
        )
        if isinstance(what, Fill):
            self._ask("an execution is not ours")

    def _on_fill(self, fill: Fill) -> None:
        if (fill.symbol, fill.account) != (self._instrument.symbol, self._account):
            return
        entry = self._working.find(fill.client_order_id, fill.server_order_id)
        if entry is None:
            self._foreign(fill)
            return
        if fill.execution_id in entry.executions:
            return
        if fill.client_order_id != entry.client_order_id:
            fill = replace(fill, client_order_id=entry.client_order_id)
        self._book(fill, entry)

    def _book(self, fill: Fill, entry: WorkingOrder) -> None:
        """Position, journal and round trip move together: all on file in one commit."""
        self._new_day(fill.ts_ns)
        order = entry.order
        origin = self._origins.get(order.decision_id) or self._ledger.origin or FOREIGN
        reason = self._desk.reasons.get(order.client_order_id, order.role.value)
        trades = self._book_on_file(fill, origin, reason)
        if trades is None:
            self._warn(
                "execution_known",
                Priority.ERROR,
                f"execution {fill.execution_id} is in the journal already and was not booked again: "
                "if the server counts its executions anew, start with a new journal",
                {"order": order.client_order_id},
            )
            self._ask("an execution was told again")
            return
        self._working.fill(fill)
        self._last_fill_ns = max(self._last_fill_ns, fill.ts_ns)
        self._notices.fill(fill)
        self._notice_trades(trades)

    def _notice_trades(self, trades: list[Trade]) -> None:
        for trade in trades:
            self._notices.trade(trade)
            self._latched(self._risk.on_trade(trade))

    def _book_on_file(self, fill: Fill, origin: Origin, reason: str) -> list[Trade] | None:
        """None when the journal knows the execution already. A dead journal doesn't keep a fill out of the position."""
        trades = None
        try:
            with self._journal.booking():
                if not self._journal.record_fill(fill):
                    return None
                trades = self._ledger.apply(fill, origin, reason)
                for trade in trades:
                    self._journal.record_trade(trade)
        except JournalError as error:
            self._journal_failed(error)
        return self._ledger.apply(fill, origin, reason) if trades is None else trades

    def _on_position(self, report: PositionReport) -> None:
        if (report.symbol, report.account) == (self._instrument.symbol, self._account):
            self._server_position = report.quantity

    def _watch_position(self) -> None:
        """What the server last said of the position must become true of ours, or is asked about."""
        if self._server_position in {None, self._ledger.position}:
            self._differs_since_ns = 0
            return
        if not self._differs_since_ns:
            self._differs_since_ns = self._now_ns
        due = self._differs_since_ns + self._ack_ns
        if self._now_ns >= due:
            self._differs_since_ns = self._now_ns
            self._ask("the server's position is not ours")
        self._deadline_ns = min(self._deadline_ns, due)

    def _on_link(self, report: LinkReport) -> None:
        self._link_up = report.state is LinkState.UP
        if self._link_up:
            self._ask("the order connection is back")
            return
        self.ready = False
        lost = list(self._working)
        for entry in lost:
            self._working.lose(entry)
        self._warn(
            "link_down",
            Priority.CRITICAL if self._ledger.position else Priority.ERROR,
            f"the order connection is down ({report.text}): no new positions until orders and position were compared",
            {"orders": len(lost), "position": self._ledger.position},
        )

    # Comparing books.

    @property
    def reconcile_due(self) -> bool:
        """Whether `reconcile` should be called now: something is unknown, or it is time."""
        if self._asking or not self._link_up:
            return False
        return bool(self._ask_why) or self._now_ns >= self._asked_at_ns + self._reconcile_ns

    def _ask(self, why: str) -> None:
        self._ask_why = self._ask_why or why

    async def reconcile(self) -> bool:
        """Ask the server for its books and bring ours into agreement; True when they agree.

        On a failure (no answer) nothing changes, and it stays due.
        """
        if self._asking:
            return False
        self._asking = True
        why, self._ask_why = self._ask_why, ""
        mark, position = self._working.mark, self._ledger.position
        try:
            book = await self._broker.book_of_record(self._fills_since())
        except PeerError as error:
            self._ask_why = why or "the last question had no answer"
            self._warn(
                "reconcile_failed",
                Priority.ERROR,
                f"the server's books could not be read ({error}): it is asked again",
                {"why": why},
            )
            return False
        finally:
            self._asking = False
            self._asked_at_ns = self._now_ns
        undisturbed = mark == self._working.mark and position == self._ledger.position
        return self._take_over(book, mark, undisturbed=undisturbed)

    def _fills_since(self) -> int:
        """Early enough that no fill of an order not done can be missing."""
        oldest = min((entry.sent_ns for entry in self._working), default=self._now_ns)
        return max(min(oldest, self._last_fill_ns or oldest) - FILLS_SLACK_NS, 0)

    def _take_over(self, book: BookOfRecord, mark: int, *, undisturbed: bool) -> bool:
        found = reconcile(
            self._working,
            book,
            position=self._ledger.position,
            symbol=self._instrument.symbol,
            account=self._account,
            as_of=mark,
        )
        for fill in found.fills:
            self._missed(fill, guessed=fill in found.guessed)
        for update in found.updates:
            self._on_update(update)
        for order in found.foreign_orders:
            self._foreign(order)
        if undisturbed:
            self._server_position = found.server_position
            self._on_drift(found)
        agree = undisturbed and not (found.drift or self._working.unknown() or self._working.missing_fills())
        if agree:
            self.ready = True
        else:
            self._ask("the books did not agree yet")
        self._act()
        return agree

    def _missed(self, fill: Fill, *, guessed: bool) -> None:
        self._warn(
            "fill_missed",
            Priority.WARNING,
            f"execution {fill.execution_id} of order {fill.client_order_id} was found by asking"
            + (": its order was found by side, price and time" if guessed else ""),
            {"order": fill.client_order_id, "quantity": fill.quantity, "price": fill.price},
        )
        self._on_fill(fill)

    def _on_drift(self, found: Reconciliation) -> None:
        """A difference seen twice in a row is real: take over the server's position, or halt."""
        if not found.drift or found.drift != self._drift_seen:
            self._drift_seen = found.drift
            return
        self._drift_seen = 0
        self._warn(
            "position_drift",
            Priority.URGENT,
            f"the server's position is {found.server_position:+d}, ours was {self._ledger.position:+d}: "
            + ("the server's was taken over" if self._adopt_drift else "trading is halted; compare, then resume"),
            {"server": found.server_position, "ours": self._ledger.position},
        )
        if self._adopt_drift:
            self._adopt(found)
        else:
            self.halt("position_drift")

    def _adopt(self, found: Reconciliation) -> None:
        """Book the difference as one execution of nobody's order, at the server's average price or the touch."""
        side = Side.BUY if found.drift > 0 else Side.SELL
        opening = found.server_position and abs(found.server_position) > abs(self._ledger.position)
        price = found.server_average_price if opening else 0.0
        if not price > 0:
            price = self._touch.take(side) if self._touch.known else self._ledger.average_price
        fill = Fill(
            ts_ns=self._now_ns,
            execution_id=f"drift-{self._desk.run_id}-{self._now_ns}",
            client_order_id="",
            server_order_id="",
            symbol=self._instrument.symbol,
            account=self._account,
            side=side,
            quantity=abs(found.drift),
            price=self._instrument.round_to_tick(price),
        )
        self._notice_trades(self._book_on_file(fill, FOREIGN, "drift") or [])

    # Commands.

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return not (self._working.with_role(OrderRole.ENTRY) or self._keeper.goal)

    def halt(self, by: str) -> None:
        """No new positions until `resume`, also after a restart. Entries are cancelled; protection stays."""
        self._latched(self._risk.halt(self._now_ns, by))
        self.cancel_all()

    def resume(self, by: str) -> None:
        """Clear every latch; the books must agree again before anything is entered."""
        cleared = self._risk.resume()
        if RiskCode.DRAWDOWN in cleared:
            self._ledger.rebase_peak()

        def write() -> None:
            with self._journal.booking():
                for code in cleared:
                    self._journal.clear_latch(code, self._now_ns, by)

        self._journal_safely(write)
        self._ask("trading was resumed")
        self._act()

    def flatten(self, reason: str) -> None:
        """Close the position and cancel entries; trading goes on afterwards unless halted."""
        self._keeper.want_flat(reason, self._now_ns)
        self._act()

    def cancel_all(self) -> None:
        """Cancel every entry. Stop and target stay as long as there is a position for them to close."""
        self._keeper.cancel_entries(self._now_ns)
        self._act()

    def kill(self, by: str, *, flatten: bool) -> None:
        """Cancel entries first of all, then latch the halt, then, if wanted, close the position."""
        self._keeper.cancel_entries(self._now_ns)
        self.halt(by)
        if flatten:
            self.flatten("kill")

    def stop(self, *, flatten: bool) -> None:
        """The daemon is about to end: enter nothing more; close the position or leave it to its stop at the server."""
        self._stopping = True
        self.cancel_all()
        if flatten and self._ledger.position:
            self.flatten("stop")

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
            self.kill("order_count", flatten=False)

    def _latched(self, latches: Iterable[Latch]) -> None:
        """Make new latches known and lasting; those that limit losses also close the position."""
        for latch in latches:
            self._warn(latch.code.value, Priority.CRITICAL, latch.text, latch.context)
            if latch.code in _STOP_OUT:
                self._keeper.want_flat(latch.code.value, self._now_ns)
                self._dirty = True
            self._journal_safely(partial(self._journal.set_latch, latch))

    def _journal_safely(self, write: Callable[[], object]) -> None:
        try:
            write()
        except JournalError as error:
            self._journal_failed(error)

    def _journal_failed(self, error: JournalError) -> None:
        """Trading stops, cancels and exits still go out."""
        latches = self._risk.halt(self._now_ns, "journal")
        self._warn("journal", Priority.URGENT, f"{error}; no new positions, exits still go out", {})
        if latches:
            self._keeper.cancel_entries(self._now_ns)

    def _warn(self, code: str, priority: Priority, text: str, context: dict[str, Any]) -> None:
        self._alert(Alert(self._now_ns, code, priority, text, context))
