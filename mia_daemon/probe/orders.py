"""The orders of a probe: one contract each, and so far from the market that none should fill.

All of them wait on one side of the market, the side on which they stay away from it even where the server does not
scale prices by the DisplayPriceMultiplier that it names: above for multipliers below 1, as Sierra Chart has them.
"""

from typing import Final

from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Bracket, Order, OrderRole, OrderType, Side

FAR_SHARE: Final = 0.02
"""How far from the market the nearest order is, as a share of the price."""


class ProbeOrders:
    """Makes the orders of one probe in `account`.

    Args:
        prefix: of their ClientOrderIDs; with it they must be unique among all that the server has seen.
        price: of the market, points.
        multiplier: the server's DisplayPriceMultiplier.
    """

    def __init__(self, instrument: Instrument, account: str, prefix: str, price: float, multiplier: float) -> None:
        self.prefix = prefix
        self._instrument = instrument
        self.account = account
        self._made = 0
        self._above = multiplier <= 1.0
        away = FAR_SHARE if self._above else -FAR_SHARE
        self._near, self._far, self._opposite = (
            instrument.round_to_tick(price * (1.0 + share)) for share in (away, 2 * away, -away)
        )
        self._entry_side = Side.SELL if self._above else Side.BUY

    def limit(self) -> Order:
        """A limit order."""
        return self._order("L", self._entry_side, OrderType.LIMIT, OrderRole.ENTRY, self._near)

    def bracket(self) -> Bracket:
        """A limit order with its stop and its target, which wait for its fill."""
        side = self._entry_side.opposite
        return Bracket(
            entry=self._order("E", self._entry_side, OrderType.LIMIT, OrderRole.ENTRY, self._near),
            stop=self._order("S", side, OrderType.STOP, OrderRole.STOP, self._far),
            target=self._order("T", side, OrderType.LIMIT, OrderRole.TARGET, self._opposite),
        )

    def pair(self) -> Bracket:
        """A stop and a limit order that work at once as an OCO pair; the entry is not to be sent."""
        return Bracket(
            entry=self.limit(),
            stop=self._order("S", self._entry_side.opposite, OrderType.STOP, OrderRole.STOP, self._far),
            target=self._order("T", self._entry_side, OrderType.LIMIT, OrderRole.TARGET, self._near),
        )

    def flatten(self) -> Order:
        """Names the request that closes a position; the server knows its side and size."""
        return self._order("X", self._entry_side.opposite, OrderType.MARKET, OrderRole.EXIT, 0.0)

    def moved(self, order: Order) -> float:
        """Another price for an order: one tick further from the market, points."""
        tick = self._instrument.tick_size
        return self._instrument.round_to_tick(order.price + (tick if self._above else -tick))

    def _order(self, suffix: str, side: Side, type_: OrderType, role: OrderRole, price: float) -> Order:
        self._made += 1
        return Order(
            client_order_id=f"{self.prefix}{self._made}{suffix}",
            symbol=self._instrument.symbol,
            account=self.account,
            side=side,
            quantity=1,
            type=type_,
            role=role,
            decision_id="",
            price=price,
        )
