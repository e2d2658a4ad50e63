"""Position arithmetic: from fills to position, average price, profit and round trips.

Everything follows from two exact sums: the cash moved by fills (points times contracts) and the contracts traded.
Prices in quarter points are exact in binary, so round trips and equity do not depend on how an order's quantity was
split into fills. Only the split of an open round trip into realised and unrealised profit uses the average price.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mia_daemon.products.instruments import Instrument
from mia_daemon.records import EXTERNAL, EntryOrigin, Fill, JournaledFill, Side, Trade


class LedgerFigures(NamedTuple):
    """The figures that risk uses: signed contracts, account currency, share of peak equity."""

    position: int
    realized_today: float
    unrealized: float
    drawdown: float


@dataclass(slots=True)
class _TripSums:
    """Running sums of a round trip."""

    cash: float = 0.0  # points times contracts, exact: exits less entries
    contracts: int = 0  # traded, entries and exits
    entered: int = 0
    entry_value: float = 0.0
    exit_value: float = 0.0
    largest: int = 0


@dataclass(slots=True)
class _Trip:
    """The open round trip."""

    origin: EntryOrigin
    trade_id: str
    side: Side
    opened_ns: int
    sums: _TripSums = field(default_factory=_TripSums)


class Ledger:
    """Position and money of the account in one instrument.

    Args:
        instrument: the traded instrument; its point value and costs are used.
        cash: account currency before the first fill that is applied: starting cash and all profit up to then.
    """

    def __init__(self, instrument: Instrument, cash: float) -> None:
        self._point_value = instrument.point_value
        self._cost_per_side = instrument.cost_per_side
        self._start_cash = cash
        self._cash = 0.0  # points times contracts
        self._contracts = 0
        self._position = 0
        self._average = 0.0
        self._trip: _Trip | None = None
        self._trade_ids: set[str] = set()
        self._realized_before_today = 0.0
        self._bid = self._ask = math.nan
        self._peak = cash

    # -------------------------------------------------------------------------------------------------------- figures

    @property
    def position(self) -> int:
        """Contracts, signed."""
        return self._position

    @property
    def average_price(self) -> float:
        """Of the open position, at average cost; 0 when flat."""
        return self._average

    @property
    def entry_price(self) -> float:
        """Average of the open round trip's entries, as its trade will have it; 0 when flat."""
        sums = self._trip.sums if self._trip else None
        return sums.entry_value / sums.entered if sums else 0.0

    @property
    def opened_ns(self) -> int:
        """Event time of the open position's first fill; 0 when flat."""
        return self._trip.opened_ns if self._trip else 0

    @property
    def origin(self) -> EntryOrigin | None:
        """The decision that opened the position; None when flat."""
        return self._trip.origin if self._trip else None

    @property
    def trade_id(self) -> str:
        """The identifier the open round trip will be recorded under; "" when flat."""
        return self._trip.trade_id if self._trip else ""

    @property
    def costs(self) -> float:
        """Commission and fees of all fills, account currency."""
        return self._contracts * self._cost_per_side

    @property
    def realized(self) -> float:
        """Realised profit of all fills so far, after costs, account currency."""
        costs = self._contracts * self._cost_per_side
        return (self._cash + self._position * self._average) * self._point_value - costs

    @property
    def realized_today(self) -> float:
        """Realised profit since `start_day`, after costs, account currency."""
        return self.realized - self._realized_before_today

    @property
    def unrealized(self) -> float:
        """Unrealised profit at the marked touch, account currency; 0 when flat or while no touch was marked."""
        price = self._bid if self._position > 0 else self._ask
        if not self._position or math.isnan(price):
            return 0.0
        return self._position * (price - self._average) * self._point_value

    @property
    def equity(self) -> float:
        """Account value in account currency, the open position included."""
        return self._start_cash + self.realized + self.unrealized

    @property
    def peak_equity(self) -> float:
        return self._peak

    @property
    def drawdown(self) -> float:
        """Share of peak equity lost since, 0 … 1; 1 when peak equity is not above 0."""
        return self.figures().drawdown

    def figures(self) -> LedgerFigures:
        """Position and money together: the same values as the properties, each computed once."""
        realized, unrealized = self.realized, self.unrealized
        drawdown = 1.0
        if self._peak > 0.0:
            equity = self._start_cash + realized + unrealized
            drawdown = min(max((self._peak - equity) / self._peak, 0.0), 1.0)
        return LedgerFigures(self._position, realized - self._realized_before_today, unrealized, drawdown)

    # -------------------------------------------------------------------------------------------------------- changes

    def mark(self, bid: float, ask: float) -> None:
        """Value the position at this touch, in points; a side that is NaN keeps its last price."""
        if not math.isnan(bid):
            self._bid = bid
        if not math.isnan(ask):
            self._ask = ask
        self._peak = max(self._peak, self.equity)

    def start_day(self) -> None:
        """Begin a trading day: `realized_today` counts from here."""
        self._realized_before_today = self.realized

    def rebase_peak(self) -> None:
        """Measure drawdown from the present equity, when an operator resumes after a drawdown stop."""
        self._peak = self.equity

    def apply(self, fill: Fill, origin: EntryOrigin = EXTERNAL, exit_reason: str = "signal") -> list[Trade]:
        """Apply a fill; returns the round trip it closed, if any. The caller applies each execution once.

        Args:
            fill: an execution not applied yet.
            origin: the decision behind it; used where the fill opens a position.
            exit_reason: used where the fill closes a round trip.

        Raises:
            ValueError: the fill has no contracts or no finite price.
        """
        if fill.quantity < 1 or not math.isfinite(fill.price):
            raise ValueError(f"execution {fill.execution_id} of {fill.quantity} at {fill.price} is no fill")
        opposite = -self._position * fill.side
        closing = min(fill.quantity, max(opposite, 0))
        trades = self._reduce(fill, closing, exit_reason) if closing else []
        if fill.quantity > closing:
            self._extend(fill, fill.quantity - closing, origin)
        self._peak = max(self._peak, self.equity)
        return trades

    def _move(self, trip: _Trip, fill: Fill, quantity: int) -> None:
        value = fill.price * quantity
        self._cash -= fill.side * value
        trip.sums.cash -= fill.side * value
        self._contracts += quantity
        trip.sums.contracts += quantity
        self._position += fill.side * quantity

    def _reduce(self, fill: Fill, quantity: int, exit_reason: str) -> list[Trade]:
        trip = self._trip
        assert trip is not None
        self._move(trip, fill, quantity)
        trip.sums.exit_value += fill.price * quantity
        if self._position:
            return []
        self._trip = None
        self._average = 0.0
        return [self._closed(trip, fill, exit_reason)]

    def _extend(self, fill: Fill, quantity: int, origin: EntryOrigin) -> None:
        trip = self._trip
        if trip is None:
            trip = self._trip = _Trip(origin, self._new_trade_id(fill, origin), fill.side, fill.ts_ns)
        held = abs(self._position)
        self._average = (held * self._average + quantity * fill.price) / (held + quantity)
        self._move(trip, fill, quantity)
        trip.sums.entered += quantity
        trip.sums.entry_value += fill.price * quantity
        trip.sums.largest = max(trip.sums.largest, abs(self._position))

    def _new_trade_id(self, fill: Fill, origin: EntryOrigin) -> str:
        """The decision's identifier; a second round trip of one decision (late fills after a stop) gets a number."""
        base = origin.decision_id or f"foreign-{fill.ts_ns}"
        name, number = base, 1
        while name in self._trade_ids:
            number += 1
            name = f"{base}.{number}"
        self._trade_ids.add(name)
        return name

    def _closed(self, trip: _Trip, fill: Fill, exit_reason: str) -> Trade:
        return Trade(
            trade_id=trip.trade_id,
            symbol=fill.symbol,
            side=trip.side,
            quantity=trip.sums.largest,
            entry_ns=trip.opened_ns,
            exit_ns=fill.ts_ns,
            entry_price=trip.sums.entry_value / trip.sums.entered,
            exit_price=trip.sums.exit_value / trip.sums.entered,
            gross=trip.sums.cash * self._point_value,
            costs=trip.sums.contracts * self._cost_per_side,
            regime_probs=trip.origin.regime_probs,
            decision_id=trip.origin.decision_id,
            exit_reason=exit_reason,
        )

    # -------------------------------------------------------------------------------------------------- after a restart

    def restore(
        self, fills: Iterable[JournaledFill], *, day_start_ns: int, peak_equity: float, trade_ids: Iterable[str] = ()
    ) -> list[Trade]:
        """Apply the fills of earlier runs, in journal order, to a new ledger.

        Args:
            fills: since a moment at which the position was flat.
            day_start_ns: event time at which the current trading day began; earlier fills do not count for today.
            peak_equity: the highest equity known; lower than the present one where none is known.
            trade_ids: identifiers used before the first of these fills.

        Returns:
            The round trips those fills closed; the earlier run may have failed to record the last of them.
        """
        self._trade_ids.update(trade_ids)
        trades: list[Trade] = []
        today = False
        for journaled in fills:
            if not today and journaled.fill.ts_ns >= day_start_ns:
                today = True
                self.start_day()
            trades += self.apply(journaled.fill, journaled.origin, journaled.exit_reason)
        if not today:
            self.start_day()
        self._peak = max(peak_equity, self.equity)
        return trades
