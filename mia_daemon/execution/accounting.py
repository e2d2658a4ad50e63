"""Applies fills to ledger, order and journal, records round trips, and values the account."""

from dataclasses import replace
from typing import Final

from mia_daemon.clock import NEVER_NS
from mia_daemon.errors import JournalError
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EXTERNAL, AccountState, EntryOrigin, Fill, FillSource, Side, Trade

KEPT_ORIGINS: Final = 64


class Accounting:
    """Applies each execution once, and values the account."""

    def __init__(
        self, state: ExecutionState, ports: Ports, breakers: CircuitBreakers, calendar: TradingCalendar
    ) -> None:
        self._state = state
        self._ledger = state.ledger
        self._orders = state.orders
        self._market = state.market
        self._journal = ports.journal
        self._risk = ports.risk
        self._listener = ports.listener
        self._scope = ports.scope
        self._breakers = breakers
        self._calendar = calendar
        self._day_ends_ns = 0
        self._unrecorded: list[tuple[Fill, list[Trade]]] = []  # applied, but the journal could not be written

    def forget_origins(self) -> None:
        """Drop the origins of old orders. The last `KEPT_ORIGINS` stay, since a fill of theirs may arrive late."""
        for kept in (self._state.origins, self._state.brackets):
            for decision_id in tuple(kept)[:-KEPT_ORIGINS]:
                kept.pop(decision_id)

    # Fills.

    def apply_fill(self, fill: Fill, entry: WorkingOrder) -> bool:
        """Apply an execution to position, order, journal and round trip. The journal gets it all in one commit.

        Args:
            fill: as `OrderFills` said that it is to be booked.
            entry: its order.

        Returns:
            False when the journal has the execution already: nothing was applied.
        """
        if self._state.heard_ns:  # before the first event a time can't be compared with any
            self.roll_day(fill.ts_ns)
        origin = self._state.origins.get(entry.order.decision_id) or EXTERNAL
        trades = self._record(fill, origin, entry.request.exit_reason or entry.order.role.value)
        if trades is None:
            return False
        self._orders.book(entry, fill)
        self._position_changed(fill)
        self._state.last_fill_ns = max(self._state.last_fill_ns, fill.ts_ns)
        self._listener.fill(fill)
        self._check_slippage(fill, entry)
        self._on_trades(trades)
        return True

    def _position_changed(self, fill: Fill) -> None:
        state, position = self._state, self._ledger.position
        told_with_order = fill.source is FillSource.UPDATE
        state.sync.on_fill(fill.side * fill.quantity if told_with_order else 0, position)
        if not position:
            state.opened_at_ns = 0
            self._orders.mark_surplus()
        elif not state.opened_at_ns or abs(position) < fill.quantity:  # opened, or turned
            state.opened_at_ns = state.own_ns

    def _check_slippage(self, fill: Fill, entry: WorkingOrder) -> None:
        """Compare the fill with the expected price: a stop's trigger or a limit; for a flatten, the touch."""
        side, touch = fill.side, self._market.touch
        asked = [price * side for price in (entry.order.price, entry.price, entry.request.asked_price) if price]
        if asked or touch.known:
            expected = max(asked) * side if asked else touch.far(side)
            self._breakers.trip(self._risk.on_fill(fill.ts_ns, side, fill.price, expected))

    def recorded_under(self, server_order_id: str) -> tuple[Fill, ...]:
        """The fills in the journal under a server's order number, of any run; none when it can't be read."""
        try:
            return self._journal.executions_of(server_order_id)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return ()

    def _is_recorded(self, execution_id: str) -> bool:
        """Whether the journal has an execution of this id that is of no order of ours; False when it can't be read."""
        try:
            return self._journal.has_fill("", execution_id)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return False

    def apply_external_fill(self, fill: Fill, reason: str) -> None:
        """Apply a change of the position that no order of ours explains; `reason` goes into the round trip."""
        name = fill.execution_id or f"{fill.server_order_id}/{fill.ts_ns}"
        if self._is_recorded(name):  # ids of a server may be unique within an order only
            name = f"{fill.server_order_id}/{name}"
        scope = self._scope
        fill = replace(
            fill,
            client_order_id="",
            execution_id=name,
            symbol=scope.instrument.symbol,  # the server may spell them otherwise
            account=scope.account,
            source=FillSource.EXTERNAL,
        )
        trades = self._record(fill, EXTERNAL, reason)
        if trades is not None:
            self._position_changed(fill)
            self._on_trades(trades)

    def apply_drift(self, drift: int, price: float) -> None:
        """Take over a difference to the server's position that no execution explains, as an external fill.

        Args:
            drift: contracts, signed.
            price: of the fill, in points; what is no price of the instrument (0, NaN) is not known: then the touch is
                used, or else the average price.
        """
        now_ns, touch, scope = self._market.now_ns, self._market.touch, self._scope
        side = Side.BUY if drift > 0 else Side.SELL
        if not scope.instrument.is_price(price):
            price = touch.far(side) if touch.known else self._ledger.average_price
        fill = Fill(
            ts_ns=now_ns,
            execution_id=f"drift-{scope.run_id}-{now_ns}",
            client_order_id="",
            server_order_id="",
            symbol=scope.instrument.symbol,
            account=scope.account,
            side=side,
            quantity=abs(drift),
            price=scope.instrument.round_to_tick(price),
            source=FillSource.EXTERNAL,
        )
        self.apply_external_fill(fill, "drift")

    def _record(self, fill: Fill, origin: EntryOrigin, reason: str) -> list[Trade] | None:
        """Apply and journal a fill; None when the journal has it already.

        The fill is applied to the position also when it can't be journaled.
        """
        trades = None
        try:
            with self._journal.transaction():
                self._write_unrecorded()
                if not self._journal.record_fill(fill):
                    return None
                trades = self._ledger.apply(fill, origin, reason)
                for trade in trades:
                    self._journal.record_trade(trade)
        except JournalError as error:
            trades = self._ledger.apply(fill, origin, reason) if trades is None else trades
            self._unrecorded.append((fill, trades))
            self._breakers.journal_failed(error)
        else:
            self._unrecorded.clear()
        return trades

    def _write_unrecorded(self) -> None:
        """Write what could not be written before, ahead of anything newer: a later fill on disk would hide it."""
        for fill, trades in self._unrecorded:
            self._journal.record_fill(fill)
            for trade in trades:
                self._journal.record_trade(trade)

    def _on_trades(self, trades: list[Trade]) -> None:
        for trade in trades:
            self._listener.trade(trade)
            self._breakers.trip(self._risk.on_trade(trade))

    # Value.

    def roll_day(self, ts_ns: int) -> None:
        """Start a new trading day when `ts_ns` has reached the exchange's next opening."""
        if ts_ns >= self._day_ends_ns:
            if self._day_ends_ns:
                self._ledger.start_day()
                self._risk.start_day()
            self._day_ends_ns = self._calendar.next_open_ns(ts_ns) or NEVER_NS

    def mark(self) -> None:
        """Value the position at the touch; does nothing while no touch is known."""
        touch = self._market.touch
        if touch.known:
            self._ledger.mark(touch.bid, touch.ask)

    def account_state(self, seq: int, ts_ns: int) -> AccountState:
        """The account as of the events processed so far, marked at the touch."""
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

    # Writing to the journal.

    def checkpoint(self) -> None:
        """Write what could not be written before, and commit the journal's buffer."""
        self._breakers.write(self.record_unrecorded)
        self._breakers.write(self._journal.commit)

    def record_equity(self) -> None:
        """Write a point of the equity curve; it is committed with what follows."""
        self._breakers.write(self._write_equity)

    def _write_equity(self) -> None:
        ledger = self._ledger
        self._journal.record_equity(
            self._market.now_ns,
            ledger.equity,
            ledger.peak_equity,
            ledger.position,
            ledger.unrealized,
            ledger.realized_today,
        )

    def record_unrecorded(self) -> None:
        """Write the fills that could not be journaled before. Raises JournalError while they still can't be."""
        if self._unrecorded:
            with self._journal.transaction():
                self._write_unrecorded()
            self._unrecorded.clear()
