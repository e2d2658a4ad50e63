"""When each of those who trade acts: at market events, at the broker's, and as deadlines fall due in event time."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.account_view import AccountView
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.entries import EntryWorker
from mia_daemon.execution.exits import NEVER, PositionKeeper
from mia_daemon.execution.flat_times import FlatTimes, Windows
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager, Warn
from mia_daemon.execution.reconciler import Reconciler
from mia_daemon.execution.state import BrokerSync
from mia_daemon.market import MarketState
from mia_daemon.records import BrokerEvent, EventArray, OrderRole, Priority
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.trade_window_filter import FlatReason

_ROUNDS: Final = 4  # of reactions to reactions; what is left then is looked at with the next event


class Reactor:
    """Looks at everything that may need doing whenever something has happened, and has it done.

    Args:
        check_count: compare the orders that left with those approved.

    Attributes:
        ending: why every position is to be closed from now on, also one that a late fill brings; "" while it is not.
    """

    def __init__(
        self,
        broker: Broker,
        risk: RiskController,
        desk: OrderManager,
        keeper: PositionKeeper,
        entries: EntryWorker,
        news: OrderEventHandler,
        bookkeeper: Accounting,
        breakers: CircuitBreakers,
        reconciler: Reconciler,
        view: AccountView,
        server: BrokerSync,
        market: MarketState,
        windows: Windows,
        *,
        warn: Warn,
        check_count: Callable[[], None],
    ) -> None:
        self.ending = ""
        self._broker = broker
        self._risk = risk
        self._desk = desk
        self._working = desk.working
        self._keeper = keeper
        self._entries = entries
        self._news = news
        self._accounting = bookkeeper
        self._breakers = breakers
        self._reconciler = reconciler
        self._view = view
        self._server = server
        self._market = market
        self._warn = warn
        self._check_count = check_count
        self._flat = FlatTimes(windows)
        self._equity_due_ns = NEVER  # when an open position is valued next
        self._deadline_ns = NEVER  # when something else falls due
        self._dirty = self._acting = self._in_market = False
        self._settled = asyncio.Event()

    @property
    def flat_reason(self) -> str:
        """Why the trade windows allow no position now; "" while they do."""
        return self._flat.reason

    @property
    def settled(self) -> bool:
        """Flat where that is wanted, and no entry can fill any more."""
        return not (self._working.with_role(OrderRole.ENTRY) or self._keeper.goal)

    async def settle(self) -> None:
        """Wait until it is so."""
        while not self.settled:
            self._settled.clear()
            await self._settled.wait()

    def look_at_once(self) -> None:
        """Everything falls due with the next event."""
        self._deadline_ns = 0

    def look_again(self) -> None:
        """Something was set in motion: it is looked at with the event that is being worked on."""
        self._dirty = True

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """What happens inside is not reacted to before the next `act`."""
        self._acting = True
        try:
            yield
        finally:
            self._acting = False

    # What happens.

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
            self._accounting.to_day(self._market.now_ns)
            done += taken
            self._watch_windows()
            if self._dirty or self._market.now_ns >= self._deadline_ns:
                self.act()
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

    def on_broker_event(self, event: BrokerEvent) -> None:
        """Journal it, move the order it speaks of, book it; reactions follow at once, or after the market event."""
        if not self._news.hear(event):
            return
        self._dirty = True
        if not self._in_market:
            self.act()

    # What follows from it.

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
                if not self._dirty and self._deadline_ns > self._market.now_ns:
                    break
        finally:
            self._acting = False
        self._check_count()

    def _react(self) -> None:
        held = self._accounting.held()
        flat = self.ending or self._flat.reason
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

    def _rest(self) -> None:
        """Nothing left to do: whoever waits for that may go on, and what explained old orders is forgotten."""
        if self.settled:
            self._settled.set()
            if not len(self._working):
                self._desk.reasons.clear()
                self._accounting.forget()
        else:
            self._settled.clear()

    def _watch_windows(self) -> None:
        """At the very event at which a position may be held no longer, it begins to be closed, and entries go."""
        if self._market.now_ns < self._flat.due_ns:
            return
        if reason := self._flat.see(self._market.now_ns):
            self._keeper.want_flat(reason, self._market.now_ns)
            self.look_again()
        if self._flat.reason == FlatReason.CONTRACT_END:
            self._warn(
                "contract_end",
                Priority.WARNING,
                "the contract rolls or expires: nothing is opened in it any more; "
                "restart to trade the next one, or name it as instrument.symbol",
                {"position": self._accounting.held().quantity},
            )

    def _watch_equity(self) -> None:
        """Value an open position once a second of event time, on a grid, so that batches don't matter."""
        self._equity_due_ns = (self._market.now_ns // NS_PER_S + 1) * NS_PER_S
        self._accounting.mark()
        self._watch_account()

    def _watch_account(self) -> None:
        if latches := self._risk.watch(self._view.value()):
            self._breakers.trip(latches)
            self.act()
