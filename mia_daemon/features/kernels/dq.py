"""Features 346-349: how far the data can be trusted."""

import numpy as np

from mia_daemon.features.kernels.market import M_CROSSED, M_GAP_SEEN, M_LAG_MS, M_NOW, M_SEEN, Floats, kernel

FIRST = 346
COUNT = 4

_LAG = 0  # EW mean over events, mean age 60 s
_WEIGHT = 1
_LAST = 2  # M_NOW of the last event counted

_MEAN_AGE_S = 60.0
_GAP_S = 60.0


def make_state(tick_size: float) -> Floats:
    """Mean lag, its weight and time; `tick_size` is not needed."""
    del tick_size
    return np.zeros(3)


@kernel
def on_event(s: Floats, t: int, m: Floats) -> None:
    """Any event of either symbol but a TIMER, which the daemon made itself."""
    s[_WEIGHT] = s[_WEIGHT] * np.exp((s[_LAST] - m[M_NOW]) / _MEAN_AGE_S) + 1.0
    s[_LAG] += (m[M_LAG_MS] - s[_LAG]) / s[_WEIGHT]
    s[_LAST] = m[M_NOW]


@kernel
def emit(s: Floats, t: int, m: Floats, out: Floats) -> None:
    out[FIRST + 0] = s[_LAG]
    out[FIRST + 1] = m[M_NOW] - m[M_SEEN] if m[M_SEEN] >= 0.0 else 0.0
    out[FIRST + 2] = 1.0 if m[M_GAP_SEEN] >= 0.0 and m[M_NOW] - m[M_GAP_SEEN] <= _GAP_S else 0.0
    out[FIRST + 3] = m[M_CROSSED]
