"""Time bars built from trades, shared by the families that need them.

A bar of `period` seconds covers [k*period, (k+1)*period) of epoch time, which for 1, 5 and 15 minutes is aligned in
Chicago too. It closes when its last second has ended (or, before a long silence, in on_gap), so closed bars are known
without waiting for the next trade. A period without a trade makes no bar, as in Sierra Chart's charts.

A forming bar is `BAR` consecutive values of a family's state from an offset `o`.
"""

import math

from mia_daemon.features.kernels.market import Floats, kernel

OPEN, HIGH, LOW, CLOSE, VOLUME, TRADES = range(6)
BAR = 6

PRICE_LIMIT = 1e9
"""A price beyond this, or a size at or above it, is damage and is left out of sums, which it would ruin for good."""

_LOG_FLOOR = 1e-6


@kernel
def valid_trade(price: float, size: float) -> bool:
    """Whether a trade may enter sums: a finite price, a size not negative."""
    return abs(price) < PRICE_LIMIT and 0.0 <= size < PRICE_LIMIT


@kernel
def has_log(price: float) -> bool:
    """Whether a price has a logarithm that may enter sums: False for one that is unknown (NaN), zero or negative."""
    return _LOG_FLOOR < price < PRICE_LIMIT


@kernel
def add_trade(s: Floats, o: int, price: float, size: float) -> None:
    """Enter a trade into the forming bar at `o`."""
    if s[o + TRADES] == 0.0:
        s[o + OPEN] = price
        s[o + HIGH] = price
        s[o + LOW] = price
        s[o + VOLUME] = 0.0
    s[o + HIGH] = max(s[o + HIGH], price)
    s[o + LOW] = min(s[o + LOW], price)
    s[o + CLOSE] = price
    s[o + VOLUME] += size
    s[o + TRADES] += 1.0


@kernel
def ends(s: Floats, o: int, sec: int, period: int) -> bool:
    """Whether the end of second `sec` closes the bar at `o`: its period is over and it has a trade."""
    return s[o + TRADES] > 0.0 and (sec + 1) % period == 0


@kernel
def ends_within(s: Floats, o: int, sec: int, n: int, period: int) -> bool:
    """As `ends`, for the silent seconds sec … sec + n - 1; the bar then ends with its period, at a multiple of it."""
    return s[o + TRADES] > 0.0 and (sec + n) // period > sec // period


@kernel
def tick_of(price: float, tick: float) -> int:
    """The price as a whole number of ticks, nearest, halves upward."""
    return math.floor(price / tick + 0.5)
