"""Comparing books with the server: when to ask, what its answer changes, and what is done about a difference.

`reconcile.py` finds what differs; here it is asked for and acted upon.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import PeerError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.exits import NEVER
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_manager import OrderManager, Warn
from mia_daemon.execution.reconciliation import Reconciliation, gone, reconcile
from mia_daemon.execution.state import BrokerSync
from mia_daemon.market import MarketState
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import BrokerSnapshot, Fill, Priority, Side

FILLS_SLACK_NS: Final = 5 * NS_PER_S
"""Fills are asked for from a little before the oldest order: servers tell their time in whole seconds."""

_ALL_WELL: Final[tuple[int, tuple[str, ...]]] = (0, ())
"""No drift, and no order that may or may not have filled."""


class Reconciler:
    """Notices what is in doubt, asks the server for its books and brings ours into agreement.

    Args:
        answer_ns: event time in which an answer is due.
        every_ns: event time between two comparisons when nothing is in doubt.
        adopt_drift: what to do when the server's position, looked at twice, is not ours: take it over (True) or halt.
        halt: stop trading; told by whom.
    """

    def __init__(
        self,
        broker: Broker,
        desk: OrderManager,
        news: OrderEventHandler,
        bookkeeper: Accounting,
        ledger: Ledger,
        server: BrokerSync,
        market: MarketState,
        instrument: Instrument,
        *,
        answer_ns: int,
        every_ns: int,
        adopt_drift: bool,
        warn: Warn,
        halt: Callable[[str], None],
    ) -> None:
        self._broker = broker
        self._desk = desk
        self._working = desk.working
        self._news = news
        self._accounting = bookkeeper
        self._ledger = ledger
        self._server = server
        self._market = market
        self._instrument = instrument
        self._answer_ns = answer_ns
        self._every_ns = every_ns
        self._adopt_drift = adopt_drift
        self._warn = warn
        self._halt = halt
        self._asking = False
        self._asked_at_ns = 0
        self._seen = _ALL_WELL
        self._unexplained_ns = NEVER  # as early as the last question went that left something unexplained
        self._differs_since_ns = 0

    # What is in doubt. Both return the event time at which to look again, NEVER when nothing is awaited.

    def watch_answers(self, *, closing: bool) -> int:
        """A request without an answer leaves its order's fate unknown; a fill told of but not shown is asked for.

        The latter in time, or at once while the position is being closed.
        """
        late_ns = self._market.now_ns - self._answer_ns
        if self._server.link_up:
            for entry in self._working.unanswered(late_ns):
                state = entry.state.value
                self._working.lose(entry)
                self._warn(
                    "order_unknown",
                    Priority.ERROR,
                    f"no answer about order {entry.client_order_id} in time: its fate is unknown and is asked about",
                    {"order": entry.client_order_id, "state": state},
                )
                self._server.ask("an order was not answered")
        missing = self._working.missing_fills()
        if missing and (closing or any(entry.updated_ns <= late_ns for entry in missing)):
            self._server.ask("a fill was reported but not shown")
        return min((entry.asked_ns + self._answer_ns for entry in self._working if entry.asked_ns), default=NEVER)

    def watch_position(self) -> int:
        """What the server last said of the position must become true of ours, or is asked about."""
        now_ns = self._market.now_ns
        if self._server.position in {None, self._ledger.position}:
            self._differs_since_ns = 0
            return NEVER
        if not self._differs_since_ns:
            self._differs_since_ns = now_ns
        due_ns = self._differs_since_ns + self._answer_ns
        if now_ns >= due_ns:
            self._differs_since_ns = now_ns
            self._server.ask("the server's position is not ours")
        return due_ns

    # Asking.

    @property
    def due(self) -> bool:
        """Whether `compare` should be called now: something is unknown, or it is time."""
        if self._asking or not self._server.link_up:
            return False
        return bool(self._server.question) or self._market.now_ns >= self._asked_at_ns + self._every_ns

    async def compare(self) -> bool | None:
        """Ask for the server's books and take them over; whether they agree, None when there was no answer.

        Without an answer nothing changes, and it stays due.
        """
        if self._asking:
            return None
        self._asking = True
        why, self._server.question = self._server.question, ""
        mark, position = self._working.mark, self._ledger.position
        try:
            since_ns = self._fills_since()
            book = await self._broker.request_snapshot(since_ns)
        except PeerError as error:
            self._server.question = why or "the last question had no answer"
            self._warn(
                "reconcile_failed",
                Priority.ERROR,
                f"the server's books could not be read ({error}): it is asked again",
                {"why": why},
            )
            return None
        finally:
            self._asking = False
            self._asked_at_ns = self._market.now_ns
        undisturbed = mark == self._working.mark and position == self._ledger.position
        agree = self._take_over(book, mark, undisturbed=undisturbed)
        self._unexplained_ns = NEVER if agree else since_ns
        return agree

    def _fills_since(self) -> int:
        """Early enough that no fill of an order not done can be missing, nor one that explains a difference."""
        oldest = min((entry.sent_ns for entry in self._working), default=self._market.now_ns)
        since_ns = max(min(oldest, self._accounting.last_fill_ns or oldest) - FILLS_SLACK_NS, 0)
        return min(since_ns, self._unexplained_ns)

    # The answer.

    def _take_over(self, book: BrokerSnapshot, mark: int, *, undisturbed: bool) -> bool:
        # What is booked is no news, and of an order that was done before this run it would be given to another.
        news = tuple(fill for fill in book.fills if not self._accounting.knows(fill))
        found = reconcile(
            self._working,
            replace(book, fills=news),
            position=self._ledger.position,
            symbol=self._instrument.symbol,
            account=self._desk.account,
            as_of=mark,
        )
        for fill in found.fills:
            self._missed(fill, guessed=fill in found.guessed)
        for update in (*found.updates, *found.foreign_orders):
            self._news.update(update)
        if undisturbed:
            self._server.position = found.server_position
            self._on_drift(found)
        agree = undisturbed and not (found.drift or self._working.unknown() or self._working.missing_fills())
        if agree:
            self._server.agreed = True
        else:
            self._server.ask("the books did not agree yet")
        return agree

    def _missed(self, fill: Fill, *, guessed: bool) -> None:
        self._warn(
            "fill_missed",
            Priority.WARNING,
            f"execution {fill.execution_id} of order {fill.client_order_id} was found by asking"
            + (": its order was found by side, price and time" if guessed else ""),
            {"order": fill.client_order_id, "quantity": fill.quantity, "price": fill.price},
        )
        self._news.fill(fill)

    def _on_drift(self, found: Reconciliation) -> None:
        """A difference seen twice in a row is real: take over the server's position, or halt.

        Orders that may have filled, but not which, are looked at twice in the same way, then given up.
        """
        seen = (found.drift, found.ambiguous)
        if seen != self._seen or seen == _ALL_WELL:
            self._seen = seen
            return
        self._seen = _ALL_WELL
        if found.drift:
            self._warn(
                "position_drift",
                Priority.URGENT,
                f"the server's position is {found.server_position:+d}, ours was {self._ledger.position:+d}: "
                + ("the server's was taken over" if self._adopt_drift else "trading is halted; compare, then resume"),
                {"server": found.server_position, "ours": self._ledger.position},
            )
        if found.drift and not self._adopt_drift:
            self._halt("position_drift")
            return
        self._adopt(found)
        self._give_up(found)

    def _adopt(self, found: Reconciliation) -> None:
        """Book the server's executions that explain the difference, or else one of nobody's order.

        The latter is at the server's average price, where that is of the difference alone, else at the touch.
        """
        if found.drift and sum(fill.side * fill.quantity for fill in found.foreign_fills) == found.drift:
            for fill in found.foreign_fills:
                self._accounting.book_foreign(fill, "drift")
        drift = found.server_position - self._ledger.position
        if not drift:
            return
        now_ns, touch = self._market.now_ns, self._market.touch
        side = Side.BUY if drift > 0 else Side.SELL
        price = 0.0 if self._ledger.position else found.server_average_price  # else it is of our own contracts too
        if not price > 0:
            price = touch.take(side) if touch.known else self._ledger.average_price
        fill = Fill(
            ts_ns=now_ns,
            execution_id=f"drift-{self._desk.run_id}-{now_ns}",
            client_order_id="",
            server_order_id="",
            symbol=self._instrument.symbol,
            account=self._desk.account,
            side=side,
            quantity=abs(drift),
            price=self._instrument.round_to_tick(price),
        )
        self._accounting.book_foreign(fill, "drift")

    def _give_up(self, found: Reconciliation) -> None:
        """The position has what these orders did, whichever it was, and none of them is open any more."""
        for entry in self._working:
            name = entry.client_order_id
            if name in found.ambiguous:
                self._warn(
                    "order_given_up",
                    Priority.WARNING,
                    f"order {name} is not open at the server; whether it filled can't be told, but the position agrees",
                    {"order": name},
                )
                self._news.update(gone(entry, self._market.now_ns))
