"""A second market beside the traded one, which moves with it: NQ beside ES, for whoever compares both.

It has no book and takes no orders. Its value is the traded market's times a fixed ratio, plus a deviation of its own
that reverts; its touch follows that value, and it trades when the traded market does, though not each time. All follows
from the traded market's events and the seed, however they are cut, and bears their times.
"""

import math
from random import Random
from typing import Final

from mia_daemon.products.instruments import Instrument
from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.tape import QuoteEvent, SymbolEvents, TradeEvent


def price_ratio(main: Instrument, other: Instrument) -> float:
    """Points of `other` to a point of `main`."""
    return other.product.simulated_price / main.product.simulated_price


_FOLLOWS: Final = 0.4  # share of the way to the value that the price goes at each quote
_DEVIATES: Final = 0.25  # ticks, standard deviation of a step of its own
_REVERTS: Final = 0.998  # what one step leaves of a deviation
_TRADES: Final = 0.6  # share of the traded market's trades that it trades at
_WIDER: Final = 0.15  # share of quotes with a spread of two ticks
_LARGEST: Final = 30  # contracts at the touch


class ReferenceMarket:
    """Follows another market's events.

    Args:
        instrument: what is quoted.
        main: of the market that it follows.
        seed: of everything random here.
        saved: its `state` in an earlier run.
    """

    def __init__(self, instrument: Instrument, main: Instrument, seed: str, saved: list[float] | None = None) -> None:
        self.instrument = instrument
        self._ratio = price_ratio(main, instrument) * main.tick_size / instrument.tick_size
        self._rng = Random(seed)  # noqa: S311  # a market, no secret
        self._price, self._deviation = saved or (0.0, 0.0)  # ticks; 0: nothing was followed yet
        self.quote: QuoteEvent | None = None

    @property
    def symbol(self) -> str:
        return self.instrument.symbol

    @property
    def state(self) -> list[float]:
        """What the next run begins with."""
        return [self._price, self._deviation]

    def follow(self, traded: SymbolEvents) -> list[SymbolEvents]:
        """The traded market's events with this one's among them, in order of time."""
        out: list[SymbolEvents] = []
        since = 0  # the first of the traded market's events not yet in `out`
        for number, event in enumerate(traded.events, 1):
            own: QuoteEvent | TradeEvent | None = None
            if type(event) is QuoteEvent:
                own = self._move(event)
            elif type(event) is TradeEvent and self.quote is not None and self._rng.random() < _TRADES:
                own = self._trade(event, self.quote)
            if own is not None:
                out += (SymbolEvents(traded.symbol, traded.events[since:number]), SymbolEvents(self.symbol, [own]))
                since = number
        if since < len(traded.events):
            out.append(SymbolEvents(traded.symbol, traded.events[since:]))
        return out

    def begin(self, ts_ns: int, bid: int | None, ask: int | None) -> None:
        """Take the traded market's present touch, if there is one."""
        if bid is not None and ask is not None:
            self._move(QuoteEvent(ts_ns, bid, 1, ask, 1))

    def _move(self, traded: QuoteEvent) -> QuoteEvent | None:
        """The new quote; None where the touch stays."""
        rng = self._rng
        self._deviation = _REVERTS * self._deviation + rng.gauss(0.0, _DEVIATES)
        value = self._ratio * 0.5 * (traded.bid + traded.ask) + self._deviation
        self._price += (_FOLLOWS if self._price else 1.0) * (value - self._price)
        bid = math.floor(self._price)
        ask = bid + (2 if rng.random() < _WIDER else 1)
        before = self.quote
        if before is not None and (before.bid, before.ask) == (bid, ask):
            return None
        self.quote = QuoteEvent(traded.ts_ns, bid, rng.randint(1, _LARGEST), ask, rng.randint(1, _LARGEST))
        return self.quote

    def _trade(self, traded: TradeEvent, quote: QuoteEvent) -> TradeEvent:
        """Mostly on the side that the traded market was hit on."""
        side = traded.side if self._rng.random() < 0.7 else -traded.side
        price, most = (quote.ask, quote.ask_quantity) if side == BUY else (quote.bid, quote.bid_quantity)
        return TradeEvent(traded.ts_ns, price, min(traded.quantity, most), BUY if side == BUY else SELL, 0)
