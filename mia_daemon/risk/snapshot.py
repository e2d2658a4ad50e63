"""What risk goes by: the facts at one moment, gathered by whoever asks."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple


class Delays(NamedTuple):
    """How long it took to get this far, on the stopwatch; 0 where it is not measured (replay, to stay reproducible)."""

    inference_ms: float = 0.0  # the prediction
    decision_ms: float = 0.0  # since the bytes of the deciding event arrived


NO_DELAYS: Final = Delays()


@dataclass(slots=True)  # not frozen: it is made on the hot path, where that would cost three times as much
class RiskSnapshot:
    """What is known when an order is about to be sent. Times are event times.

    Attributes:
        position: contracts, signed; only what has filled.
        working_buy: contracts by which working orders may yet move the position up, at worst; a stop and a target that
            cancel each other count once. Orders of unknown fate count too.
        working_sell: the same, down.
        bid, ask: the touch; NaN when there is none.
        touch_ns: when the touch was last told or confirmed.
        realized_today, unrealized: account currency, after costs.
        drawdown: share of peak equity, 0 … 1.
        unknown_orders: orders of unknown fate.
        reconciled: our books agreed with the server's when last compared.
        delays: of the decision that asks.
        own_bid, own_ask: the best limit prices of our own orders; infinite where there are none.
    """

    ts_ns: int
    position: int
    working_buy: int
    working_sell: int
    bid: float
    ask: float
    touch_ns: int
    realized_today: float
    unrealized: float
    drawdown: float
    unknown_orders: int = 0
    link_up: bool = True
    reconciled: bool = True
    delays: Delays = NO_DELAYS
    own_bid: float = -math.inf
    own_ask: float = math.inf

    @property
    def result(self) -> float:
        """Of the trading day, open position included."""
        return self.realized_today + self.unrealized
