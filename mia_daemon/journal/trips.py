"""Round trips found again in the fills alone: an account of its own, that shares no arithmetic with the ledger.

Money is summed in whole fractions, so a fold has no rounding to hide behind. `verify` compares with what was booked.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from mia_daemon.journal.view import JournalView, Row
from mia_daemon.records import Trade


@dataclass(slots=True)
class Trip:
    """From flat to flat, or to where the fills end.

    Attributes:
        decision_id: of the order whose fill opened it; "" when that was none of ours.
        cash: points by contracts: what sales brought less what purchases took.
        traded: contracts that changed hands, both sides.
        entered: contracts that made the position larger, and `entry_value`, what they cost in points.
        exit_value: what the others brought, in points by contracts.
        closed_ns: 0 while it is open.
        fills: rows of the journal's fills, in the order they were booked; one that crosses zero is in two trips.
    """

    symbol: str
    account: str
    side: int
    opened_ns: int
    decision_id: str
    cash: Fraction = Fraction(0)
    traded: int = 0
    entered: int = 0
    entry_value: Fraction = Fraction(0)
    exit_value: Fraction = Fraction(0)
    largest: int = 0
    position: int = 0
    closed_ns: int = 0
    fills: list[Row] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.position != 0

    @property
    def entry_price(self) -> float:
        return float(self.entry_value / self.entered)

    @property
    def exit_price(self) -> float:
        """Average; NaN while nothing was closed."""
        closed = self.traded - self.entered
        return float(self.exit_value / closed) if closed else math.nan

    def take(self, fill: Row, quantity: int) -> None:
        """Book `quantity` contracts of this fill."""
        value = Fraction(fill["price"]) * quantity
        if fill["side"] == self.side:
            self.entered += quantity
            self.entry_value += value
        else:
            self.exit_value += value
        self.cash -= fill["side"] * value
        self.traded += quantity
        self.position += fill["side"] * quantity
        self.largest = max(self.largest, abs(self.position))
        self.fills.append(fill)
        if not self.position:
            self.closed_ns = fill["ts_ns"]


def trips(view: JournalView) -> list[Trip]:
    """Every round trip, in the order in which they were opened."""
    found: list[Trip] = []
    held: dict[tuple[str, str, int], Trip] = {}
    replays = view.replays()
    for fill in view.rows(_FILLS):
        if not math.isfinite(fill["price"]):
            continue  # `verify` names it
        # A replay begins flat whatever stands in its journal, so each has an account of its own.
        account = (fill["symbol"], fill["account"], fill["run"] if fill["run"] in replays else 0)
        left: int = fill["quantity"]
        trip = held.get(account)
        if trip is not None and fill["side"] != trip.side:
            closing = min(left, abs(trip.position))
            trip.take(fill, closing)
            left -= closing
            if not trip.open:
                del held[account]
                trip = None
        if left and trip is None:
            trip = Trip(fill["symbol"], fill["account"], fill["side"], fill["ts_ns"], fill["decision_id"] or "")
            held[account] = trip
            found.append(trip)
        if left and trip is not None:
            trip.take(fill, left)
    return found


def paired(found: Iterable[Trip], trades: Iterable[Trade]) -> Iterator[tuple[Trip | None, Trade | None]]:
    """Each round trip with the trade that was booked for it, by contract, side and time; None where one is missing.

    Trips that are still open come with None, since none is booked for them yet.
    """
    booked: dict[tuple[str, int, int, int], list[Trade]] = {}
    for trade in trades:
        booked.setdefault((trade.symbol, int(trade.side), trade.entry_ns, trade.exit_ns), []).append(trade)
    for trip in found:
        waiting = booked.get((trip.symbol, trip.side, trip.opened_ns, trip.closed_ns))
        yield trip, (waiting.pop(0) if waiting else None)
    for left in booked.values():
        for trade in left:
            yield None, trade


def names(pairs: Iterable[tuple[Trip | None, Trade | None]]) -> Iterator[tuple[str, Trip]]:
    """What each trip is called: as its trade was booked, or, while it is open, as its trade will be."""
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
    """The decision's identifier, numbered where an earlier trip bears it."""
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
