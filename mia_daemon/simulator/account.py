"""A trade account's money, and its positions by symbol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mia_daemon.products.instruments import Instrument


@dataclass(slots=True)
class Position:
    """Of one symbol.

    Attributes:
        quantity: contracts, signed.
        average: price of what is open, ticks; 0 when flat.
        opened_ns: when it was entered; 0 when flat.
    """

    quantity: int = 0
    average: float = 0.0
    opened_ns: int = 0

    def unrealized(self, price: int, instrument: Instrument) -> float:
        """Profit, account currency, were it closed at `price` (ticks)."""
        return (price - self.average) * self.quantity * instrument.tick_value


@dataclass(slots=True)
class Account:
    """Cash and positions; money in account currency.

    Attributes:
        cash: what has been paid in, plus realized profit, less fees.
        realized_today: before fees, since the session began.
        fees: paid so far, all days.
        positions: of every symbol that it has traded, by symbol.
    """

    name: str
    cash: float
    realized_today: float = 0.0
    fees: float = 0.0
    positions: dict[str, Position] = field(default_factory=dict)

    def position(self, symbol: str) -> Position:
        """What it holds of a symbol; flat where it has never traded it."""
        return self.positions.get(symbol) or Position()

    def fill(self, ts_ns: int, side: int, quantity: int, price: int, instrument: Instrument) -> None:
        """Book one execution: close what is against it at the average price, open with the rest."""
        position = self.positions.setdefault(instrument.symbol, Position())
        closing = min(quantity, abs(position.quantity)) if position.quantity * side < 0 else 0
        profit = closing * (position.average - price) * side * instrument.tick_value
        fee = quantity * instrument.cost_per_side
        self.cash += profit - fee
        self.realized_today += profit
        self.fees += fee
        opening = quantity - closing
        before = abs(position.quantity) - closing
        position.quantity += side * quantity
        if opening:
            if not before:
                position.opened_ns = ts_ns
            position.average = (position.average * before + price * opening) / (before + opening)
        if not position.quantity:
            position.average, position.opened_ns = 0.0, 0


def account_from(facts: Mapping[str, Any]) -> Account:
    """The inverse of `dataclasses.asdict`."""
    positions = {symbol: Position(**position) for symbol, position in facts["positions"].items()}
    return Account(**{**facts, "positions": positions})
