"""The account's side of trading: fills into ledger and journal, round trips out, its value along the way."""

from typing import Final, Protocol

from mia_daemon.errors import JournalError
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.exits import NEVER, Held
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.working_orders import WorkingOrder, WorkingOrders
from mia_daemon.journal.writer import Journal
from mia_daemon.market import MarketState
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EXTERNAL, AccountState, EntryOrigin, Fill, Order, Trade
from mia_daemon.risk.risk_controller import RiskController

KEPT_ORIGINS: Final = 64


class ExecutionListener(Protocol):
    """Who is shown what happens; called after the order was sent, never before."""

    def order(self, ts_ns: int, order: Order, what: str) -> None: ...

    def fill(self, fill: Fill) -> None: ...

    def trade(self, trade: Trade) -> None: ...


class Accounting:
    """Books each execution once, and knows what the account is worth.

    Attributes:
        origins: what asked for the entries on their way, by decision.
        last_fill_ns: exchange time of the newest fill; 0 when there is none.
    """

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        working: WorkingOrders,
        risk: RiskController,
        breakers: CircuitBreakers,
        *,
        market: MarketState,
        calendar: TradingCalendar,
        notices: ExecutionListener,
    ) -> None:
        self.origins: dict[str, EntryOrigin] = {}
        self.last_fill_ns = 0
        self._ledger = ledger
        self._journal = journal
        self._working = working
        self._risk = risk
        self._breakers = breakers
        self._market = market
        self._calendar = calendar
        self._notices = notices
        self._day_ends_ns = 0
        self._owed: list[tuple[Fill, list[Trade]]] = []  # booked, but the journal could not be told

    def forget(self) -> None:
        """What asked for orders long done; that of the last ones stays, since a fill of theirs may come late."""
        for decision_id in tuple(self.origins)[:-KEPT_ORIGINS]:
            del self.origins[decision_id]

    # Fills.

    def book(self, fill: Fill, entry: WorkingOrder, reason: str) -> bool:
        """Position, order, journal and round trip move together: all on file in one commit.

        Args:
            fill: an execution.
            entry: its order.
            reason: what the round trip will say, if this fill closes one.

        Returns:
            False when the journal knows the execution already: nothing was booked.
        """
        self.to_day(fill.ts_ns)
        origin = self.origins.get(entry.order.decision_id) or EXTERNAL
        trades = self._on_file(fill, origin, reason)
        if trades is None:
            return False
        self._working.fill(fill)
        self.last_fill_ns = max(self.last_fill_ns, fill.ts_ns)
        self._notices.fill(fill)
        self._judge(fill, entry)
        self._closed(trades)
        return True

    def _judge(self, fill: Fill, entry: WorkingOrder) -> None:
        """Compare with the price the order stood for: a stop's trigger, a limit; of a flatten the touch."""
        side, touch = fill.side, self._market.touch
        asked = [price * side for price in (entry.order.price, entry.price, entry.asked_price) if price]
        if asked or touch.known:
            expected = max(asked) * side if asked else touch.take(side)
            self._breakers.trip(self._risk.on_fill(fill.ts_ns, side, fill.price, expected))

    def knows(self, fill: Fill) -> bool:
        """Whether the execution is booked, also by an earlier run; False when the journal can't say."""
        try:
            return self._journal.has_fill(fill.execution_id)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return False

    def book_foreign(self, fill: Fill, reason: str) -> None:
        """A change of the position that no order of ours explains."""
        self._closed(self._on_file(fill, EXTERNAL, reason) or [])

    def _on_file(self, fill: Fill, origin: EntryOrigin, reason: str) -> list[Trade] | None:
        """None when the journal knows the execution already. A dead journal doesn't keep a fill out of the position."""
        trades = None
        try:
            with self._journal.booking():
                self._pay()
                if not self._journal.record_fill(fill):
                    return None
                trades = self._ledger.apply(fill, origin, reason)
                for trade in trades:
                    self._journal.record_trade(trade)
        except JournalError as error:
            trades = self._ledger.apply(fill, origin, reason) if trades is None else trades
            self._owed.append((fill, trades))
            self._breakers.journal_failed(error)
        else:
            self._owed.clear()
        return trades

    def _pay(self) -> None:
        """Tell the journal what it could not be told before, first of all: a later fill on file would hide it."""
        for fill, trades in self._owed:
            self._journal.record_fill(fill)
            for trade in trades:
                self._journal.record_trade(trade)

    def _closed(self, trades: list[Trade]) -> None:
        for trade in trades:
            self._notices.trade(trade)
            self._breakers.trip(self._risk.on_trade(trade))

    # Value.

    def to_day(self, ts_ns: int) -> None:
        """The result of the day counts from the exchange's opening."""
        if ts_ns >= self._day_ends_ns:
            if self._day_ends_ns:
                self._ledger.start_day()
                self._risk.start_day()
            self._day_ends_ns = self._calendar.next_open_ns(ts_ns) or NEVER

    def mark(self) -> None:
        """Value the position at the touch."""
        touch = self._market.touch
        if touch.known:
            self._ledger.mark(touch.bid, touch.ask)

    def state(self, seq: int, ts_ns: int) -> AccountState:
        """The account as of the events seen so far, marked at the touch."""
        ledger = self._ledger
        self.mark()
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

    def held(self) -> Held:
        """The position as it is now."""
        origin = self._ledger.origin
        return Held(self._ledger.position, self._ledger.average_price, origin.decision_id if origin else "")

    def checkpoint(self) -> None:
        """Put on file what the journal has buffered, and a point of the equity curve."""
        ledger = self._ledger

        def write() -> None:
            self._journal.record_equity(
                self._market.now_ns,
                ledger.equity,
                ledger.peak_equity,
                ledger.position,
                ledger.unrealized,
                ledger.realized_today,
            )
            self._journal.commit()

        self._breakers.write(self.settle)
        self._breakers.write(write)

    def settle(self) -> None:
        """Tell the journal what it could not be told before. Raises JournalError while it still can't be."""
        if self._owed:
            with self._journal.booking():
                self._pay()
            self._owed.clear()
