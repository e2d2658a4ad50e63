"""Prices on a product's tick: what float32 rounding or a multiplication moved, and what is off the tick for good."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TOLERANCE_TICKS: Final = 1e-3
"""Distance from the tick that is rounding, beside what float32 explains."""

FLOAT32_SHARE: Final = 2.0**-24
"""Of a price: the most by which rounding to float32 moves it, and 0.01 as a float32 multiplier too."""


def nearest_decimal(value: float) -> float:
    """The decimal number that a float32 stands for: 0.01 for 0.009999999776482582."""
    return float(f"{value:.7g}")


def nearest_ticks(prices: NDArray[Any], tick_size: float) -> NDArray[np.float64]:
    """The nearest valid prices, each to the bit what `Instrument.round_to_tick` gives; NaN stays NaN."""
    ticks = prices / tick_size
    np.rint(ticks, out=ticks)
    ticks += 0.0  # no negative zero
    ticks *= tick_size
    return ticks


def beyond_tolerance(prices: NDArray[Any], nearest: NDArray[np.float64], tick_size: float) -> NDArray[np.bool_]:
    """Which prices lie further from their nearest tick than rounding explains; NaN does not."""
    return np.asarray(np.abs(prices - nearest) > tick_size * TOLERANCE_TICKS + np.abs(prices) * FLOAT32_SHARE)


def is_off_tick(price: float, tick_size: float) -> bool:
    """`beyond_tolerance` of one price, which may be NaN or infinite: these are no prices and not off the tick."""
    if price - price != 0.0:
        return False
    distance = abs(price - round(price / tick_size) * tick_size)
    return distance > tick_size * TOLERANCE_TICKS + abs(price) * FLOAT32_SHARE
