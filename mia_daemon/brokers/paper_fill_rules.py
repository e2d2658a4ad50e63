"""When a paper order fills or triggers, at which price and for how many contracts.

The rules know the touch and the trades, not the order book. What they assume, and where that is optimistic, is in
docs/paper.md. They read an order and change its terms and match state; what follows from a fill is the exchange's.
"""

import math
from typing import NamedTuple

from mia_daemon.brokers.paper_order import PaperOrder
from mia_daemon.market import MarketTrade, Touch
from mia_daemon.records import OrderType, Side, TimeInForce


class Execution(NamedTuple):
    """What an order fills now."""

    quantity: int
    price: float


class FillRules:
    """For one instrument.

    Attributes:
        awaiting: orders of this side wait for the next touch, since a trade took from the one that is known and nobody
            knows what it left; None: no order has to wait.
    """

    def __init__(self, tick_size: float) -> None:
        self.awaiting: Side | None = None
        self._tick = tick_size
        self._half_tick = tick_size / 2

    # Against a trade.

    def trade_reaches(self, paper: PaperOrder, trade: MarketTrade) -> bool:
        """Whether it was at the order's price or beyond."""
        return not self._beyond(paper, trade.price) < -self._half_tick

    def against_trade(self, paper: PaperOrder, trade: MarketTrade) -> Execution | None:
        """Fill a resting order that a trade has reached: completely when it went through, else behind the queue."""
        match = paper.match
        if self._beyond(paper, trade.price) > self._half_tick:
            return Execution(paper.open_quantity, paper.terms.price)
        if trade.side != paper.order.side and match.queue_ahead < math.inf:
            match.queue_ahead -= trade.size
            if match.queue_ahead < 0:
                quantity = min(paper.open_quantity, math.floor(-match.queue_ahead))
                match.queue_ahead = 0.0
                return Execution(quantity, paper.terms.price)
        return None

    def _beyond(self, paper: PaperOrder, price: float) -> float:
        """How far `price` is beyond the order's price; negative when it has not reached it."""
        return (price - paper.terms.price) * (-1 if paper.watches_below else 1)

    # Against the touch.

    def touch_triggers(self, paper: PaperOrder, touch: Touch) -> bool:
        """Whether it triggers a stop."""
        near = touch.bid if paper.watches_below else touch.ask
        return self._beyond(paper, near) >= -self._half_tick

    def against_touch(self, paper: PaperOrder, touch: Touch) -> Execution | None:
        """Fill an order that crosses the touch; any other rests."""
        if paper.match.aggressive:
            return self._take_touch(paper, touch)
        if self._crosses(paper, touch):
            return Execution(paper.open_quantity, paper.terms.price)
        self._join_queue(paper, touch)
        return None

    def on_arrival(self, paper: PaperOrder, touch: Touch) -> Execution | None:
        """An order starts to work at its present price."""
        match = paper.match
        match.aggressive = False
        match.queue_ahead = math.inf
        if paper.armed:
            return None
        match.aggressive = paper.terms.type is OrderType.MARKET or (touch.known and self._crosses(paper, touch))
        all_or_none = paper.order.time_in_force is TimeInForce.FOK
        if match.aggressive and not (all_or_none and self._available(paper, touch) < paper.open_quantity):
            return self._take_touch(paper, touch)
        if touch.known:
            inside = touch.bid + self._half_tick < paper.terms.price < touch.ask - self._half_tick
            match.queue_ahead = 0.0 if inside else math.inf
            self._join_queue(paper, touch)
        return None

    def on_trigger(self, paper: PaperOrder, touch: Touch) -> Execution | None:
        """A stop becomes a market order: it fills at its trigger, or at the touch if that is worse."""
        trigger = paper.terms.price
        paper.terms.type, paper.match.aggressive = OrderType.MARKET, True
        if paper.order.side is self.awaiting:
            paper.match.trigger = trigger
            return None
        price = _worse(paper.order.side, trigger, touch.far(paper.order.side)) if touch.known else trigger
        return Execution(self._available(paper, touch) or paper.open_quantity, price)

    def _take_touch(self, paper: PaperOrder, touch: Touch) -> Execution | None:
        """Take what the touch offers; a limit order that no longer crosses starts to rest."""
        side = paper.order.side
        if not touch.known:
            return None
        if side is self.awaiting:
            return self._take_behind_touch(paper, touch)
        if quantity := self._available(paper, touch):
            far, trigger = touch.far(side), paper.match.trigger
            return Execution(quantity, far if trigger is None else _worse(side, trigger, far))
        if paper.terms.type is not OrderType.MARKET:
            paper.match.aggressive = False
            paper.match.queue_ahead = math.inf
            self._join_queue(paper, touch)
        return None

    def _take_behind_touch(self, paper: PaperOrder, touch: Touch) -> Execution | None:
        """An order that can't wait for the next touch takes the price one tick behind this one."""
        side = paper.order.side
        if paper.order.time_in_force not in {TimeInForce.IOC, TimeInForce.FOK}:
            return None
        behind = touch.far(side) + side * self._tick
        if paper.terms.type is not OrderType.MARKET and (behind - paper.terms.price) * side > self._half_tick:
            return None
        return Execution(paper.open_quantity, behind)

    def _available(self, paper: PaperOrder, touch: Touch) -> int:
        """Contracts that the order can take from the touch."""
        if not touch.known or not self._crosses(paper, touch):
            return 0
        size = touch.far_size(paper.order.side)
        return min(paper.open_quantity, max(math.floor(size), 1)) if size > 0 else paper.open_quantity

    def _crosses(self, paper: PaperOrder, touch: Touch) -> bool:
        if paper.terms.type is OrderType.MARKET:
            return True
        if paper.order.side is Side.BUY:
            return touch.ask <= paper.terms.price + self._half_tick
        return touch.bid >= paper.terms.price - self._half_tick

    def _join_queue(self, paper: PaperOrder, touch: Touch) -> None:
        """At the touch, no more contracts can be ahead than rest there."""
        buys = paper.order.side is Side.BUY
        near, size = (touch.bid, touch.bid_size) if buys else (touch.ask, touch.ask_size)
        if abs(near - paper.terms.price) < self._half_tick and size > 0:
            paper.match.queue_ahead = min(paper.match.queue_ahead, size)


def _worse(side: Side, one: float, other: float) -> float:
    """The worse of two prices for an order of `side`."""
    return max(one, other) if side is Side.BUY else min(one, other)
