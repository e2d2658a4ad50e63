"""The account's money and position in the one symbol traded."""

from dataclasses import dataclass

from mia_daemon.products.instruments import Instrument


@dataclass(slots=True)
class Account:
    """Cash and position; prices in ticks, money in account currency.

    Attributes:
        cash: what has been paid in, plus realized profit, less fees.
        position: contracts, signed.
        average: of the open position; 0 when flat.
        realized_today: before fees, since the session began.
        fees: paid so far, all days.
        opened_ns: when the position was entered; 0 when flat.
    """

    name: str
    cash: float
    position: int = 0
    average: float = 0.0
    realized_today: float = 0.0
    fees: float = 0.0
    opened_ns: int = 0

    def fill(self, ts_ns: int, side: int, quantity: int, price: int, instrument: Instrument) -> None:
        """Book one execution: close what is against it at the average price, open with the rest."""
        closing = min(quantity, abs(self.position)) if self.position * side < 0 else 0
        profit = closing * (self.average - price) * side * instrument.tick_value
        fee = quantity * instrument.cost_per_side
        self.cash += profit - fee
        self.realized_today += profit
        self.fees += fee
        opening = quantity - closing
        before = abs(self.position) - closing
        self.position += side * quantity
        if opening:
            if not before:
                self.opened_ns = ts_ns
            self.average = (self.average * before + price * opening) / (before + opening)
        if not self.position:
            self.average, self.opened_ns = 0.0, 0

    def unrealized(self, price: int, instrument: Instrument) -> float:
        """Of the open position, were it closed at `price`."""
        return (price - self.average) * self.position * instrument.tick_value
