"""Round trips computed from the fills alone, with arithmetic that is independent of the ledger's.

Money is summed in exact fractions, so nothing is rounded. `verify` compares the result with the recorded trades.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from mia_daemon.journal.view import JournalView, Row
from mia_daemon.records import Trade


@dataclass(slots=True)
class Leg:
    """The entries or the exits of a trip: contracts, and the sum of price by contracts, in points."""

    contracts: int = 0
    value: Fraction = Fraction(0)

    def add(self, price: float, quantity: int) -> None:
        self.contracts += quantity
        self.value += Fraction(price) * quantity

    @property
    def average_price(self) -> float:
        """NaN while there are no contracts."""
        return float(self.value / self.contracts) if self.contracts else math.nan


@dataclass(slots=True)
class Trip:
    """From flat to flat, or to the last fill.

    Attributes:
        side: of the entries, 1 or -1.
        decision_id: of the order whose fill opened it; "" if that was none of ours.
        entries: contracts that made the position larger.
        exits: contracts that made it smaller.
        largest: contracts held at most.
        fills: rows of the journal's fills, in the order they were recorded; one that crosses zero is in two trips.
    """

    symbol: str
    account: str
    side: int
    decision_id: str
    entries: Leg = field(default_factory=Leg)
    exits: Leg = field(default_factory=Leg)
    largest: int = 0
    fills: list[Row] = field(default_factory=list)

    @property
    def position(self) -> int:
        return self.side * (self.entries.contracts - self.exits.contracts)

    @property
    def open(self) -> bool:
        return self.position != 0

    @property
    def opened_ns(self) -> int:
        return int(self.fills[0]["ts_ns"])

    @property
    def closed_ns(self) -> int:
        """0 while it is open."""
        return 0 if self.open else int(self.fills[-1]["ts_ns"])

    @property
    def traded(self) -> int:
        """Contracts bought and sold."""
        return self.entries.contracts + self.exits.contracts

    @property
    def cash(self) -> Fraction:
        """Received for sales less paid for purchases, in points by contracts."""
        return self.side * (self.exits.value - self.entries.value)

    def add_fill(self, fill: Row, quantity: int) -> None:
        """Count `quantity` contracts of this fill."""
        leg = self.entries if fill["side"] == self.side else self.exits
        leg.add(fill["price"], quantity)
        self.largest = max(self.largest, abs(self.position))
        self.fills.append(fill)


def trips(view: JournalView) -> list[Trip]:
    """Every round trip, in the order in which they were opened."""
    found: list[Trip] = []
    held: dict[tuple[str, str, int], Trip] = {}
    replays = view.replays()
    for fill in view.rows(_FILLS):
        if not math.isfinite(fill["price"]):
            continue  # `verify` reports it
        # A replay starts flat whatever its journal holds, so each has an account of its own.
        account = (fill["symbol"], fill["account"], fill["run"] if fill["run"] in replays else 0)
        left: int = fill["quantity"]
        trip = held.get(account)
        if trip is not None and fill["side"] != trip.side:
            closing = min(left, abs(trip.position))
            trip.add_fill(fill, closing)
            left -= closing
            if not trip.open:
                del held[account]
                trip = None
        if left and trip is None:
            trip = Trip(fill["symbol"], fill["account"], fill["side"], fill["decision_id"] or "")
            held[account] = trip
            found.append(trip)
        if left and trip is not None:
            trip.add_fill(fill, left)
    return found


def paired(found: Iterable[Trip], trades: Iterable[Trade]) -> Iterator[tuple[Trip | None, Trade | None]]:
    """Each round trip with the trade that was recorded for it, by contract, side and time; None if one is missing.

    Trips that are still open come with None: their trade is recorded when they close.
    """
    recorded: dict[tuple[str, int, int, int], list[Trade]] = {}
    for trade in trades:
        recorded.setdefault((trade.symbol, int(trade.side), trade.entry_ns, trade.exit_ns), []).append(trade)
    for trip in found:
        waiting = recorded.get((trip.symbol, trip.side, trip.opened_ns, trip.closed_ns))
        yield trip, (waiting.pop(0) if waiting else None)
    for left in recorded.values():
        for trade in left:
            yield None, trade


def names(pairs: Iterable[tuple[Trip | None, Trade | None]]) -> Iterator[tuple[str, Trip]]:
    """The name of each trip: the identifier of its trade, or, while it is open, the one its trade will get."""
    found = list(pairs)
    given = {trade.trade_id for _, trade in found if trade is not None}
    for trip, trade in found:
        if trip is None:
            continue
        if trade is not None:
            yield trade.trade_id, trip
        elif trip.open:
            yield _next_name(trip, given), trip


def _next_name(trip: Trip, given: set[str]) -> str:
    """The decision's identifier, with a number if an earlier trip has it."""
    base = trip.decision_id or f"foreign-{trip.opened_ns}"
    name, number = base, 1
    while name in given:
        number += 1
        name = f"{base}.{number}"
    return name


_FILLS: Final = """\
SELECT f.*, i.decision_id, i.role
FROM fills f
LEFT JOIN intents i ON i.client_order_id = f.client_order_id
ORDER BY f.number"""
