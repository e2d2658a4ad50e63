"""Prices of a live feed, put on the product's tick: float32 fields, and products with a multiplier, miss it."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.products.ticks import beyond_tolerance, is_off_tick, nearest_tick, nearest_ticks
from mia_daemon.records import MARKET_EVENT, EventArray

_NAMES: Final = ("price", "bid", "ask")
_FIRST: Final = int(MARKET_EVENT.fields["price"][1])  # type: ignore[index]  # bytes before it in a row
_DOUBLE: Final = np.dtype("<f8")
_STRIDES: Final = (8, MARKET_EVENT.itemsize)
assert MARKET_EVENT.names is not None
assert MARKET_EVENT.names[7:10] == _NAMES, "the prices follow one another in a row"
_FEW: Final = 4  # events: up to this number a loop is faster than numpy


class EventPrices:
    """Moves prices to the nearest tick of their symbol, where rounding explains the distance.

    A price that is on the tick stays what it is, to the bit. One beyond the tolerance (`products.ticks`) stays as it
    is too: it is not rounded but wrong, as with a wrong multiplier. It is reported; of the traded symbol, risk refuses
    to trade on it.

    Args:
        tick_sizes: points, by the `symbol` column; prices of a symbol without one stay as they are.
        report: called with a symbol and a price that is off its tick, once for a batch of many.
    """

    def __init__(self, tick_sizes: Mapping[int, float], report: Callable[[int, float], None]) -> None:
        self._tick_sizes = dict(tick_sizes)
        self._report = report

    def check(self, events: EventArray) -> None:
        """Change the prices of contiguous events in place."""
        # All prices as one array of doubles, (3, n): field by field takes three times as long.
        prices = np.ndarray((len(_NAMES), len(events)), _DOUBLE, events, _FIRST, _STRIDES)
        if len(events) <= _FEW:
            self._check_few(events, prices)
        else:
            self._check_many(events, prices)

    def _check_few(self, events: EventArray, prices: NDArray[np.float64]) -> None:
        symbols = events["symbol"].tolist()
        for row, of_name in enumerate(prices.tolist()):
            for index, (symbol, price) in enumerate(zip(symbols, of_name, strict=True)):
                tick_size = self._tick_sizes.get(symbol)
                if tick_size is None or price - price != 0.0:  # NaN
                    continue
                nearest = nearest_tick(price, tick_size)
                if price == nearest:
                    continue
                if is_off_tick(price, tick_size):
                    self._report(symbol, price)
                else:
                    prices[row, index] = nearest

    def _check_many(self, events: EventArray, prices: NDArray[np.float64]) -> None:
        received = prices.copy()  # not strided: four times as fast
        for symbol, tick_size in self._tick_sizes.items():
            nearest = nearest_ticks(received, tick_size)
            moved = np.abs(received - nearest) > 0.0  # false for NaN
            if not np.count_nonzero(moved):
                continue
            moved &= events["symbol"] == symbol
            off = moved & beyond_tolerance(received, nearest, tick_size)
            if off.any():
                self._report(symbol, float(received[off][0]))
            np.copyto(prices, nearest, where=moved & ~off)
