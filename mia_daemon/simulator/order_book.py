"""The resting side of the market: price levels, each a queue in time order.

Prices are whole ticks and quantities whole contracts, so every comparison is exact. The book holds what rests; what an
order means (stop, OCO, bracket) is the matching engine's business.
"""

from collections.abc import Callable
from typing import NamedTuple

BUY = 1
SELL = -1


class Resting:
    """An order in the book. `remaining` is maintained by the book while the order rests."""

    __slots__ = ("order_id", "price", "remaining", "side")

    def __init__(self, order_id: int, side: int, price: int, remaining: int) -> None:
        self.order_id = order_id
        self.side = side
        self.price = price
        self.remaining = remaining


class Level:
    """One price: its orders, first come first, and their total."""

    __slots__ = ("orders", "quantity")

    def __init__(self) -> None:
        self.orders: dict[int, Resting] = {}  # a dict keeps the order of arrival and removes in O(1)
        self.quantity = 0


class Change(NamedTuple):
    """A level as it stands after an operation; `quantity` 0 means it is gone."""

    side: int
    price: int
    quantity: int
    orders: int
    is_new: bool


class Print(NamedTuple):
    """What one aggressive order traded at one price."""

    price: int
    quantity: int


OnFill = Callable[[Resting, int, int], None]
"""Called with (resting order, quantity, price) the moment a resting order that is not background trades.

It may cancel or reduce any other resting order; it must not add one or take from the book.
"""


class OrderBook:
    """Price-time priority for one symbol.

    Attributes:
        bids, asks: price in ticks → level.
        best_bid, best_ask: the touch, None when that side is empty.
        changes: levels changed since the caller last cleared the list, in order.
    """

    __slots__ = ("asks", "best_ask", "best_bid", "bids", "changes")

    def __init__(self) -> None:
        self.bids: dict[int, Level] = {}
        self.asks: dict[int, Level] = {}
        self.best_bid: int | None = None
        self.best_ask: int | None = None
        self.changes: list[Change] = []

    def add(self, order: Resting) -> None:
        """Queue `order` behind all others of its price. It must not cross the touch."""
        side, price = order.side, order.price
        levels = self.bids if side == BUY else self.asks
        level = levels.get(price)
        is_new = level is None
        if level is None:
            level = levels[price] = Level()
            if side == BUY:
                if self.best_bid is None or price > self.best_bid:
                    self.best_bid = price
            elif self.best_ask is None or price < self.best_ask:
                self.best_ask = price
        level.orders[order.order_id] = order
        level.quantity += order.remaining
        self.changes.append(Change(side, price, level.quantity, len(level.orders), is_new))

    def remove(self, order: Resting) -> None:
        """Take `order` out; its `remaining` is left as it was."""
        self._withdraw(order, order.remaining, gone=True)

    def reduce(self, order: Resting, by: int) -> None:
        """Lower `order` by less than its remaining quantity; it keeps its place."""
        order.remaining -= by
        self._withdraw(order, by, gone=False)

    def _withdraw(self, order: Resting, quantity: int, *, gone: bool) -> None:
        level = (self.bids if order.side == BUY else self.asks)[order.price]
        level.quantity -= quantity
        if gone:
            del level.orders[order.order_id]
        if not level.orders:
            self._drop(order.side, order.price)
        self.changes.append(Change(order.side, order.price, level.quantity, len(level.orders), is_new=False))

    def take(self, side: int, quantity: int, limit: int | None, on_fill: OnFill) -> list[Print]:
        """Trade an aggressive order against the other side, best price first, up to `limit` (None: any price).

        Background orders (plain `Resting`) fill silently; `on_fill` is told of every other.
        """
        prints: list[Print] = []
        while quantity > 0:
            best = self.best_ask if side == BUY else self.best_bid
            if best is None or (limit is not None and (best - limit) * side > 0):
                break
            traded = self.take_level(-side, best, quantity, on_fill)
            quantity -= traded
            if traded:
                prints.append(Print(best, traded))
        return prints

    def take_level(self, side: int, price: int, quantity: int, on_fill: OnFill) -> int:
        """Trade up to `quantity` of what rests on `side` at one price, first come first; how much it was."""
        levels = self.bids if side == BUY else self.asks
        level = levels[price]
        orders = level.orders
        left = quantity
        while left > 0 and orders:
            order = next(iter(orders.values()))
            part = min(left, order.remaining)
            left -= part
            order.remaining -= part
            level.quantity -= part
            if not order.remaining:
                del orders[order.order_id]
            if type(order) is not Resting:
                on_fill(order, part, price)
        if not orders and levels.get(price) is level:
            self._drop(side, price)
        self.changes.append(Change(side, price, level.quantity, len(orders), is_new=False))
        return quantity - left

    def available(self, side: int, quantity: int, limit: int | None) -> int:
        """How much of `quantity` an aggressive order could trade now, up to `limit`."""
        levels = self.asks if side == BUY else self.bids
        found = 0
        for price in sorted(levels, reverse=side == SELL):
            if found >= quantity or (limit is not None and (price - limit) * side > 0):
                break
            found += levels[price].quantity
        return min(found, quantity)

    def _drop(self, side: int, price: int) -> None:
        """Forget an empty level and find the next touch: usually the neighbouring tick."""
        if side == BUY:
            bids = self.bids
            del bids[price]
            if price == self.best_bid:
                self.best_bid = price - 1 if price - 1 in bids else max(bids, default=None)
        else:
            asks = self.asks
            del asks[price]
            if price == self.best_ask:
                self.best_ask = price + 1 if price + 1 in asks else min(asks, default=None)

    def touch(self) -> tuple[int | None, int, int | None, int]:
        """(best bid, its quantity, best ask, its quantity); None and 0 where a side is empty."""
        bid, ask = self.best_bid, self.best_ask
        return (
            bid,
            self.bids[bid].quantity if bid is not None else 0,
            ask,
            self.asks[ask].quantity if ask is not None else 0,
        )

    def depth(self, side: int, levels: int | None = None) -> list[tuple[int, int, int]]:
        """(price, quantity, number of orders) of one side, best first."""
        book = self.bids if side == BUY else self.asks
        prices = sorted(book, reverse=side == BUY)[:levels]
        return [(price, book[price].quantity, len(book[price].orders)) for price in prices]
