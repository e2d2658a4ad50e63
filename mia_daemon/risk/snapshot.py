"""The facts at one moment by which risk judges an order; gathered by the caller."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple


class Delays(NamedTuple):
    """Delays of a decision, monotonic clock; 0 where they are not measured (replay, to stay reproducible)."""

    inference_ms: float = 0.0  # the prediction
    decision_ms: float = 0.0  # since the bytes of the deciding event arrived


NO_DELAYS: Final = Delays()


@dataclass(slots=True)  # not frozen: creating it on the hot path would take three times as long
class RiskSnapshot:
    """What is known when an order is about to be sent. Times are event times.

    Attributes:
        position: contracts, signed; only what has filled.
        working_buy: contracts by which working orders may still move the position up, at worst; a stop and a target
            that cancel each other count once. Unknown orders count too.
        working_sell: the same, down.
        bid, ask: the touch; NaN when there is none.
        touch_ns: when the touch last changed or was confirmed.
        realized_today, unrealized: account currency, after costs.
        drawdown: share of peak equity, 0 … 1.
        unknown_orders: number of unknown orders.
        reconciled: orders and position agreed with the server's when last compared.
        server_position: contracts, signed, as the server reports it, fills since included; None where it has not.
        position_differs: the server's position is not ours, for longer than its reports may be early or late.
        delays: of the decision being checked.
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
    server_position: int | None = None
    position_differs: bool = False

    @property
    def result(self) -> float:
        """Profit of the trading day, open position included, account currency."""
        return self.realized_today + self.unrealized
