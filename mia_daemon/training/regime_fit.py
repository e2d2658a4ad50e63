"""The regime chains' parameters from feature values.

The rule: each chain's features are taken once a minute (values a few seconds apart are all but copies), a mixture of
two Gaussians with a common spread in each feature is fitted by expectation-maximisation (Dempster, Laird & Rubin 1977)
from a start at the upper quartile of the chain's first feature, and the mixture's weight becomes the chain's long-run
share, with `DWELL_S` spent in state 1 on average. A common spread keeps the likelihood ratio monotone, so that an
unheard-of calm is never taken for a storm.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mia_daemon.model.detect_regime import Chain, Emission, RegimeParameters
from mia_daemon.training.linear_models import Floats

VOLATILITY: Final[Mapping[str, Literal["identity", "log"]]] = {"rv_5m": "log", "vol_ratio_1m_15m": "identity"}
DIRECTION: Final[Mapping[str, Literal["identity", "log"]]] = {"er_15m": "identity", "adx_14": "identity"}

DWELL_S: Final = 600.0
TEMPER: Final = 0.25
SAMPLE_S: Final = 60.0
_SHARES: Final = (0.05, 0.60)


def fit_regimes(values: NDArray[np.float32], names: Sequence[str], interval_s: float) -> RegimeParameters:
    """Both chains from `values` (rows, 350), one row a decision; `names` are the columns'."""
    rows = values[:: max(round(SAMPLE_S / interval_s), 1)].astype(np.float64)
    place = {name: i for i, name in enumerate(names)}
    chains = []
    for features in (VOLATILITY, DIRECTION):
        columns = [rows[:, place[name]] for name in features]
        seen = np.column_stack(
            [
                np.log(np.maximum(column, 1e-9)) if transform == "log" else column
                for column, transform in zip(columns, features.values(), strict=True)
            ]
        )
        low, high = np.percentile(seen, (0.5, 99.5), axis=0)
        high = np.maximum(high, low + 1e-6)
        means, sd, share = _two_gaussians(np.clip(seen, low, high))
        leave = interval_s / DWELL_S
        emissions = tuple(
            Emission(
                feature=name,
                transform=transform,
                mean=(float(means[0, i]), float(means[1, i])),
                sd=(float(sd[i]), float(sd[i])),
                low=float(low[i]),
                high=float(high[i]),
            )
            for i, (name, transform) in enumerate(features.items())
        )
        chains.append(Chain(leave=(leave * share / (1 - share), leave), temper=TEMPER, emissions=emissions))
    return RegimeParameters(interval_s=interval_s, volatility=chains[0], direction=chains[1])


def _two_gaussians(seen: Floats) -> tuple[Floats, Floats, float]:
    """Means (2, k), the common spreads (k,) and the share of state 1, the one with the larger first mean."""
    upper = np.percentile(seen[:, 0], 75)
    member = (seen[:, 0] > upper).astype(np.float64)  # P(state 1) of each row
    for _ in range(100):
        share = float(np.clip(member.mean(), *_SHARES))
        weights = np.stack([1 - member, member]) + 1e-12
        means = (weights @ seen) / weights.sum(axis=1, keepdims=True)
        variance = sum(w @ (seen - mean) ** 2 for w, mean in zip(weights, means, strict=True)) / weights.sum()
        variance = np.maximum(variance, 1e-12)
        distance = [((seen - mean) ** 2 / variance).sum(axis=1) for mean in means]
        logit = np.log(share / (1 - share)) + 0.5 * (distance[0] - distance[1])
        member = 1 / (1 + np.exp(-np.clip(logit, -500, 500)))
    if means[1, 0] < means[0, 0]:
        means, share = means[::-1], 1 - share
    return means, np.sqrt(variance), float(np.clip(share, *_SHARES))
