"""A recording made of noise with one known relation in it: a fit must find that, and nothing else."""

from typing import Final

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.features import catalogue
from mia_daemon.training.labels import LabelledRecording

TELLING: Final = ("l1_imb", "ofi_score", "tfi_5s")
"""Features whose sum, and nothing else, moves the next interval's price."""

_START_NS: Final = 1_700_000_000 * NS_PER_S


def synthetic_recording(seed: int, rows: int, interval_s: float = 5.0, strength: float = 0.3) -> LabelledRecording:
    """`rows` decisions of a price that walks by a quarter point and leans where the telling features say."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, len(catalogue.FEATURES))).astype(np.float32)
    telling = [catalogue.index(name) for name in TELLING]
    values[:, catalogue.index("rv_5m")] = np.exp(-7 + values[:, catalogue.index("rv_5m")])
    slow = np.zeros((rows, len(telling)))
    for row in range(1, rows):  # a lean lasts about a minute
        slow[row] = 0.92 * slow[row - 1] + 0.39 * values[row, telling]
    values[:, telling] = slow
    step = rng.normal(0, 0.5, rows)
    step[1:] += strength * slow[:-1].sum(axis=1)
    mid = 6000.125 + 0.25 * np.round(np.cumsum(step) / 0.25)
    before = np.concatenate([mid[:1], mid[:-1]])
    low, high = np.minimum(mid, before), np.maximum(mid, before)
    return LabelledRecording(
        values=values,
        ts_ns=_START_NS + np.arange(rows) * round(interval_s * NS_PER_S),
        bid=mid - 0.125,
        ask=mid + 0.125,
        bid_low=low - 0.125,
        bid_high=high - 0.125,
        ask_low=low + 0.125,
        ask_high=high + 0.125,
    )
