"""Prices on a product's tick: what float32 rounding or a multiplication moved, and what is off the tick for good."""

from fractions import Fraction
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

TOLERANCE_TICKS: Final = 1e-3
"""Distance from the tick that is rounding, beside what float32 explains."""

FLOAT32_SHARE: Final = 2.0**-24
"""Of a price: the most by which rounding to float32 moves it, and 0.01 as a float32 multiplier too."""

_LARGEST: Final = 10**9  # of a tick's numerator and denominator: their products with ticks stay whole numbers


@cache
def tick_ratio(tick_size: float) -> tuple[float, float]:
    """The tick as a fraction of two whole numbers: 1 and 100 for 0.01.

    A number of ticks times the first, divided by the second, is the price to the bit: 72.12, where 7212 * 0.01 is
    72.12000000000001. A tick that is no such fraction has the denominator 1.
    """
    exact = Fraction(repr(tick_size))
    if max(exact.numerator, exact.denominator) > _LARGEST:
        return tick_size, 1.0
    return float(exact.numerator), float(exact.denominator)


def nearest_tick(price: float, tick_size: float) -> float:
    """The nearest valid price."""
    numerator, denominator = tick_ratio(tick_size)
    return round(price / tick_size) * numerator / denominator


@cache
def decimals_of(tick_size: float) -> int:
    """Decimals of prices on this tick: 2 for 0.25, 7 for 0.0000005."""
    denominator = Fraction(repr(tick_size)).denominator
    return next((digits for digits in range(12) if 10**digits % denominator == 0), 12)


def price_text(price: float) -> str:
    """A price for people, whatever its tick: `6000.00`, `72.12`, `0.0067345`; at most ten digits, as of averages."""
    whole, _, decimals = f"{price:.10g}".partition(".")
    if price - price != 0.0 or "e" in whole + decimals:
        return f"{price:.10g}"
    return f"{whole}.{decimals:0<2}"


def float32_decimals(prices: NDArray[Any]) -> NDArray[np.float64]:
    """The shortest decimal numbers that float32 prices stand for, where no tick is known; slow, for few prices."""
    return np.array([float(str(np.float32(price))) for price in prices], np.float64)


def nearest_decimal(value: float) -> float:
    """The decimal number that a float32 stands for: 0.01 for 0.009999999776482582."""
    return float(f"{value:.7g}")


def nearest_ticks(prices: NDArray[Any], tick_size: float) -> NDArray[np.float64]:
    """The nearest valid prices, each to the bit what `nearest_tick` gives; NaN stays NaN."""
    numerator, denominator = tick_ratio(tick_size)
    ticks = prices / tick_size
    np.rint(ticks, out=ticks)
    ticks += 0.0  # no negative zero
    ticks *= numerator
    ticks /= denominator
    return ticks


def beyond_tolerance(prices: NDArray[Any], nearest: NDArray[np.float64], tick_size: float) -> NDArray[np.bool_]:
    """Which prices lie further from their nearest tick than rounding explains; NaN does not."""
    return np.asarray(np.abs(prices - nearest) > tick_size * TOLERANCE_TICKS + np.abs(prices) * FLOAT32_SHARE)


def on_ticks(prices: NDArray[np.float64], tick_size: float) -> NDArray[np.float64]:
    """Prices on their nearest tick where rounding explains the distance; others stay as they are, to the bit."""
    nearest = nearest_ticks(prices, tick_size)
    moved = np.isfinite(prices) & ~beyond_tolerance(prices, nearest, tick_size)
    return np.where(moved, nearest, prices)


def is_off_tick(price: float, tick_size: float) -> bool:
    """`beyond_tolerance` of one price, which may be NaN or infinite: these are no prices and not off the tick."""
    if price - price != 0.0:
        return False
    distance = abs(price - nearest_tick(price, tick_size))
    return distance > tick_size * TOLERANCE_TICKS + abs(price) * FLOAT32_SHARE
