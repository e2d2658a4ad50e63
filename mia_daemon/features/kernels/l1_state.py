"""Features 0-11: the touch and the last trade as they are now."""

import math

import numpy as np

from mia_daemon.features.constants import DEFAULTS, IMBALANCES, SPREADS, FittedConstants
from mia_daemon.features.kernels.market import (
    M_ASK,
    M_BID,
    M_HAS_QUOTE,
    M_HAS_SIZES,
    M_LAST,
    M_MID,
    M_NOW,
    M_PREV_LAST,
    M_QA,
    M_QB,
    M_QUOTE_SEEN,
    M_SIDE,
    M_SIZE,
    M_TICK,
    M_TRADE_SEEN,
    Floats,
    kernel,
)

FIRST = 0
COUNT = 12

_RUN = 0  # signed run of same-direction price changes
_IS_FITTED = 1  # 1 where the table is
_TABLE = 2  # SPREADS x IMBALANCES micro-price adjustments, ticks
_SIZE = _TABLE + SPREADS * IMBALANCES


def make_state(tick_size: float, constants: FittedConstants = DEFAULTS) -> Floats:
    """A run and a table; `tick_size` is not needed."""
    del tick_size
    s = np.zeros(_SIZE)
    if constants.micro_adjustment is not None:
        s[_IS_FITTED] = 1.0
        s[_TABLE:] = np.ravel(constants.micro_adjustment)
    return s


@kernel
def on_trade(s: Floats, t: int, m: Floats) -> None:
    if not math.isnan(m[M_PREV_LAST]) and m[M_LAST] != m[M_PREV_LAST]:
        if m[M_LAST] > m[M_PREV_LAST]:
            s[_RUN] = s[_RUN] + 1.0 if s[_RUN] > 0.0 else 1.0
        else:
            s[_RUN] = s[_RUN] - 1.0 if s[_RUN] < 0.0 else -1.0


@kernel
def on_gap(s: Floats, m: Floats) -> None:
    s[_RUN] = 0.0


@kernel
def _micro_adjustment(s: Floats, imbalance: float, spread: float) -> float:
    """Stoikov's G*, ticks, of an imbalance of -1 … 1 and a spread in ticks."""
    if s[_IS_FITTED] == 0.0:  # odd and monotone in the imbalance, flat where it is balanced
        return 0.5 * spread * imbalance * abs(imbalance)
    if not spread > 0.0:
        return 0.0
    row = min(max(int(spread + 0.5), 1), SPREADS) - 1
    column = min(int(0.5 * (imbalance + 1.0) * IMBALANCES), IMBALANCES - 1)
    adjustment: float = s[_TABLE + row * IMBALANCES + column]
    return adjustment


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    for i in range(COUNT):
        out[FIRST + i] = 0.0
    tick = m[M_TICK]
    if m[M_HAS_QUOTE] > 0.0:
        spread = m[M_ASK] - m[M_BID]
        out[FIRST + 0] = spread / tick
        if m[M_HAS_SIZES] > 0.0:
            total = m[M_QB] + m[M_QA]
            imbalance = (m[M_QB] - m[M_QA]) / total
            out[FIRST + 1] = imbalance
            out[FIRST + 2] = ((m[M_BID] * m[M_QA] + m[M_ASK] * m[M_QB]) / total - m[M_MID]) / tick
            out[FIRST + 3] = _micro_adjustment(s, imbalance, spread / tick)
            out[FIRST + 4] = np.log1p(m[M_QB])
            out[FIRST + 5] = np.log1p(m[M_QA])
        out[FIRST + 9] = np.log1p(1000.0 * (m[M_NOW] - m[M_QUOTE_SEEN]))
    if not math.isnan(m[M_LAST]):
        if m[M_HAS_QUOTE] > 0.0:
            out[FIRST + 6] = (m[M_LAST] - m[M_MID]) / tick
        out[FIRST + 7] = m[M_SIDE]
        out[FIRST + 8] = np.log1p(m[M_SIZE])
        out[FIRST + 10] = np.log1p(1000.0 * (m[M_NOW] - m[M_TRADE_SEEN]))
    out[FIRST + 11] = s[_RUN]
