"""A seeded market: background orders that keep a book alive around a hidden fair value.

The book reacts as in the queue-reactive model of Huang, Lehalle and Rosenbaum (2015): whether an order is added to or
taken from a queue depends on the queue's length. Aggression leans towards the fair value, so order flow leads price.
Events cluster: bursts arrive at random and decay within a fraction of a second.

It is told how far exchange time goes and asks no clock. The same seed gives the same events, however `advance` is
cut, as long as the same client orders arrive at the same moments.
"""

import math
from collections.abc import Callable
from itertools import islice
from random import Random

from mia_daemon.clock import NS_PER_S, NS_PER_US
from mia_daemon.records import Regime
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_book import BUY, SELL, Change, Level, OrderBook, Resting
from mia_daemon.simulator.regimes import FairValue
from mia_daemon.simulator.tape import DepthEvent, MarketEvent, QuoteEvent, SessionEvent, TradeEvent

LEVELS = 15
"""Levels that always exist on each side."""

_KEPT = 40  # a background order further from the touch than this is withdrawn
_DEPTH = (45, 75, 100, 120, 130, 140, 145, 150, 150, 150, 150, 150, 150, 150, 150)  # usual contracts by distance
_DISTANCES = tuple(k for k, n in enumerate((34, 20, 13, 9, 7, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1)) for _ in range(n))
_SIZES = (1,) * 40 + (2,) * 20 + (3,) * 10 + (5,) * 12 + (8,) * 4 + (10,) * 9 + (20,) * 4 + (50,)  # of limit orders
_MARKET_SHARE = 0.11  # of the actions that take liquidity
_TAIL = 1.35  # exponent of the Pareto law of market order sizes
_LARGEST = 400  # contracts one background order may take
_EVENTS_PER_ACTION = 1.53  # measured: what one action shows on average
_BURST_EVERY_S = 40.0
_BURST_DECAY_S = 0.25
_BURST_ACTIONS = (8.0, 30.0)  # a burst's height, as a multiple of events_per_s
_BURST_SHARE = (sum(_BURST_ACTIONS) / 2) * _BURST_DECAY_S / _BURST_EVERY_S  # of actions, as a multiple of events_per_s
_SHOCK_TICKS = 2.0


def steady(_ts_ns: int) -> float:
    """The same activity all day."""
    return 1.0


def intraday_shape(hours: TradingHours) -> Callable[[int], float]:
    """Activity by time of day: U-shaped over regular hours with mean 1, a quarter of it at night."""
    rth_s = 6.75 * 3600  # 08:30-15:15

    def activity(ts_ns: int) -> float:
        share = (ts_ns - hours.open_ns) / NS_PER_S / rth_s - 15.5 * 3600 / rth_s  # the session opens at 17:00
        return 0.6 + 1.2 * (2.0 * share - 1.0) ** 2 if 0.0 <= share <= 1.0 else 0.25

    return activity


class SimulatedMarket:
    """Background order flow on the engine's book.

    Args:
        seed: of everything random here; a string may name a continuation, as `"7/2"`.
        ts_ns: exchange time to start at, inside a session.
        price: ticks.
        events_per_s: mean number of market events per second of exchange time.
        activity: multiple of the rate by time of day.
        regime: to start in.
    """

    ended = False
    has_depth = True

    def __init__(
        self,
        engine: MatchingEngine,
        hours: TradingHours,
        seed: int | str,
        ts_ns: int,
        price: float,
        events_per_s: float = 40.0,
        activity: Callable[[int], float] = steady,
        regime: Regime = Regime.RANGE,
    ) -> None:
        self._engine = engine
        self._book: OrderBook = engine.book
        self._hours = hours
        self._rng = Random(str(seed))  # noqa: S311  # a market, no secret
        self._activity = activity
        self._rate = (1.0 / _EVENTS_PER_ACTION - _BURST_SHARE) * events_per_s
        self._events_per_s = events_per_s
        self._excess = 0.0  # actions per second on top of the steady rate, decaying
        self._quote: tuple[int | None, int, int | None, int] = (None, 0, None, 0)
        ts_ns = hours.enter(ts_ns)
        self.fair = FairValue(self._rng, ts_ns, price, regime)
        engine.now_ns = ts_ns
        self._last_ns = ts_ns  # of the last action
        self._next_burst_ns = hours.add(ts_ns, self._draw_ns(1.0 / _BURST_EVERY_S))
        self._seed_book()
        self._next_ns = self._draw_next()

    @property
    def now_ns(self) -> int:
        return self._engine.now_ns

    @property
    def next_ns(self) -> int:
        """When the next background action falls due."""
        return self._next_ns

    @property
    def regime(self) -> Regime:
        return self.fair.regime

    def add(self, ts_ns: int, duration_ns: int) -> int:
        """The moment `duration_ns` of trading after `ts_ns`."""
        return self._hours.add(ts_ns, duration_ns)

    def touch(self) -> tuple[int | None, int, int | None, int]:
        """(best bid, its quantity, best ask, its quantity); None and 0 where a side is empty."""
        return self._book.touch()

    def depth(self, side: int) -> list[tuple[int, int, int]]:
        """(price, quantity, number of orders) of one side, best first."""
        return self._book.depth(side)

    # ------------------------------------------------------------------------------------------------------------ time

    def advance(self, until_ns: int, max_events: int | None = None) -> list[MarketEvent]:
        """Let exchange time pass up to and including `until_ns`; what happened, in order of time.

        It stops early, at the time of its last event, once it has `max_events`.
        """
        out: list[MarketEvent] = []
        engine = self._engine
        while self._next_ns <= until_ns:
            if max_events is not None and len(out) >= max_events:
                return out
            engine.now_ns = now = self._next_ns
            self._hours.enter(now)
            if self._last_ns < self._hours.open_ns:
                self._new_session(now, out)
            elapsed_s = self._elapsed_s(now)
            self.fair.advance(now, elapsed_s)
            self._excess *= math.exp(-elapsed_s / _BURST_DECAY_S)
            if now >= self._next_burst_ns:
                self._burst(now)
            else:
                self._act()
            self._last_ns = now
            self._tell(out)
            self._next_ns = self._draw_next()
        engine.now_ns = max(engine.now_ns, until_ns)
        return out

    def collect(self) -> list[MarketEvent]:
        """What client orders did to the market just now; liquidity they took away is replaced."""
        out: list[MarketEvent] = []
        self._tell(out)
        return out

    def _elapsed_s(self, now_ns: int) -> float:
        since = max(self._last_ns, self._hours.open_ns)  # a halt is no time for the market
        return max(now_ns - since, 0) / NS_PER_S

    def _draw_ns(self, rate: float) -> int:
        """An exponential waiting time in whole microseconds, at least one."""
        return (int(self._rng.expovariate(rate) * 1e6) + 1) * NS_PER_US

    def _draw_next(self) -> int:
        now = self._last_ns
        rate = self._rate * self.fair.character.rate * self._activity(now) + self._excess
        return min(self._hours.add(now, self._draw_ns(rate)), max(self._next_burst_ns, now + NS_PER_US))

    def _burst(self, now_ns: int) -> None:
        rng = self._rng
        self._excess += rng.uniform(*_BURST_ACTIONS) * self._events_per_s
        self.fair.shock(rng.gauss(0.0, _SHOCK_TICKS))
        self._next_burst_ns = self._hours.add(now_ns, self._draw_ns(1.0 / _BURST_EVERY_S))

    def _new_session(self, now_ns: int, out: list[MarketEvent]) -> None:
        self._engine.expire_day_orders()
        self._excess = 0.0
        out.append(SessionEvent(now_ns))

    # --------------------------------------------------------------------------------------------------------- actions

    def _act(self) -> None:
        book, rng, character = self._book, self._rng, self.fair.character
        bid, ask = book.best_bid, book.best_ask
        assert bid is not None  # `_tell` keeps both sides alive
        assert ask is not None
        lean = max(-1.5, min(1.5, 0.5 * (self.fair.expected - 0.5 * (bid + ask))))
        draw = rng.random()
        if ask - bid > character.spread and draw < character.narrowing:
            side = BUY if rng.random() < 0.5 + 0.33 * lean else SELL
            self._rest(side, bid + 1 if side == BUY else ask - 1)
        elif draw > 1.0 - _MARKET_SHARE:
            self._take(lean)
        else:
            self._join_or_leave(lean)

    def _rest(self, side: int, price: int) -> None:
        self._engine.rest(side, price, _SIZES[int(self._rng.random() * 100)])

    def _take(self, lean: float) -> None:
        """A market order; the further the price lags the fair value, the more likely it takes the whole touch."""
        rng = self._rng
        side = BUY if rng.random() < 0.5 + 0.45 * math.tanh(lean) else SELL
        if lean * side > 0.6 and rng.random() < 0.6:
            bid, bid_quantity, ask, ask_quantity = self._book.touch()
            quantity, limit = (ask_quantity, ask) if side == BUY else (bid_quantity, bid)
            if rng.random() < 0.25:  # now and then it goes one level deeper
                quantity, limit = 2 * quantity, None
            self._engine.hit(side, min(quantity, _LARGEST), limit)
        else:
            self._engine.hit(side, min(int(rng.random() ** (-1.0 / _TAIL)), _LARGEST))

    def _join_or_leave(self, lean: float) -> None:
        rng, book = self._rng, self._book
        side = BUY if rng.random() < 0.5 else SELL
        distance = _DISTANCES[int(rng.random() * len(_DISTANCES))]
        best = book.best_bid if side == BUY else book.best_ask
        assert best is not None  # as in `_act`
        price = best - side * distance
        level = (book.bids if side == BUY else book.asks).get(price)
        usual = _DEPTH[distance] * self.fair.character.depth
        if not distance:
            usual *= 1.0 + 0.6 * side * lean if side * lean > -1.0 else 0.4
        if level is None or rng.random() < usual / (usual + level.quantity):
            self._rest(side, price)
        elif distance == 0 or len(level.orders) > 1:
            self._leave(level)

    def _leave(self, level: Level) -> None:
        """Withdraw a background order, more likely one far back in the queue."""
        draw = self._rng.random()
        behind = int(draw * draw * len(level.orders))
        order = next(islice(reversed(level.orders.values()), behind, None))
        if type(order) is Resting:
            self._book.remove(order)

    # -------------------------------------------------------------------------------------------------------- the book

    def _seed_book(self) -> None:
        book = self._book
        bid = math.floor(self.fair.value)
        if book.best_ask is not None:  # orders of an earlier run rest already
            bid = min(bid, book.best_ask - 1)
        ask = bid + 1 if book.best_bid is None else max(bid + 1, book.best_bid + 1)
        self._fill_level(BUY, bid, 0)
        self._fill_level(SELL, ask, 0)
        self._keep_levels()
        if self._engine.last_price is None:
            self._engine.last_price = bid
        self._book.changes.clear()
        self._quote = book.touch()

    def _fill_level(self, side: int, price: int, distance: int) -> None:
        usual = _DEPTH[distance] * self.fair.character.depth
        for _ in range(6):
            self._engine.rest(side, price, max(1, int(usual / 6 * (0.5 + self._rng.random()))))

    def _keep_levels(self) -> None:
        """No level missing near the touch, no background order far away."""
        book = self._book
        for side, levels in ((BUY, book.bids), (SELL, book.asks)):
            best, other = (book.best_bid, book.best_ask) if side == BUY else (book.best_ask, book.best_bid)
            if best is None:  # a client took all of it
                best = round(self.fair.value) if other is None else other - side
            for distance in range(LEVELS):
                price = best - side * distance
                if price not in levels:
                    self._fill_level(side, price, distance)
            for distance in range(_KEPT + 1, _KEPT + 5):
                level = levels.get(best - side * distance)
                if level is not None:
                    for order in [o for o in level.orders.values() if type(o) is Resting]:
                        book.remove(order)

    def _tell(self, out: list[MarketEvent]) -> None:
        book, engine = self._book, self._engine
        now = engine.now_ns
        if engine.trades:
            out.extend([TradeEvent(now, *trade) for trade in engine.trades])
            engine.trades.clear()
        if not book.changes:
            return
        if (book.best_bid, book.best_ask) != (self._quote[0], self._quote[2]):
            self._keep_levels()
        changes = book.changes if len(book.changes) == 1 else _net(book.changes)
        last = len(changes) - 1
        out.extend([DepthEvent(now, *change, i == last) for i, change in enumerate(changes)])
        book.changes.clear()
        quote = book.touch()
        if quote != self._quote:
            self._quote = quote
            bid, bid_quantity, ask, ask_quantity = quote
            assert bid is not None  # `_keep_levels` has seen to it
            assert ask is not None
            out.append(QuoteEvent(now, bid, bid_quantity, ask, ask_quantity))


def _net(changes: list[Change]) -> list[Change]:
    """One change per level: how it began and how it ended."""
    first: dict[tuple[int, int], Change] = {}
    last: dict[tuple[int, int], Change] = {}
    for change in changes:
        key = change[:2]
        first.setdefault(key, change)
        last[key] = change
    return [
        end._replace(is_new=first[key].is_new)
        for key, end in last.items()
        if end.quantity or not first[key].is_new  # a level that came and went leaves no trace
    ]
