"""Which of three regimes the market is in: two sticky two-state Markov chains, filtered forward.

A plain three-state hidden Markov model degenerates on market data, so the regime is read from two chains: volatility
(calm, high) and direction (range, trend). With p_v and p_d the probabilities of each chain's second state,

    P(defensive) = p_v        P(trend) = (1 - p_v) p_d        P(range) = (1 - p_v)(1 - p_d)

Each step is the forward algorithm (Rabiner 1989, eq. 19-20, normalised): predict with the transition matrix raised to
the time elapsed, then weigh by the likelihood of what is observed. It uses nothing later than the moment it speaks of.
Observations are features, Gaussian in each state and independent given the state. Features overlap in time, so each
observation counts only in part: the likelihood is raised to a power below one (`temper`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import BundleError, UsageError
from mia_daemon.features.state_file import RegimeState
from mia_daemon.records import RegimeProbs

_Pair = tuple[float, float]
_Open = Annotated[float, Field(gt=0, lt=1)]

DEFENSIVE = RegimeProbs(0.0, 0.0, 1.0)


class _RegimePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Emission(_RegimePart):
    """One feature as a chain sees it: clipped to [low, high], then Gaussian in each state."""

    feature: str
    transform: Literal["identity", "log"] = "identity"  # log: of the value, at least 1e-9; low and high are logs too
    mean: _Pair
    sd: _Pair
    low: float
    high: float

    @model_validator(mode="after")
    def _sane(self) -> Self:
        if min(self.sd) <= 0 or self.low >= self.high:
            raise ValueError(f"{self.feature}: sd must be above 0 and low below high")
        return self


class Chain(_RegimePart):
    """A chain of two states: `leave` are the chances to leave state 0 and state 1 within one interval."""

    leave: tuple[_Open, _Open]
    temper: Annotated[float, Field(gt=0, le=1)]
    emissions: Annotated[tuple[Emission, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _sticky(self) -> Self:
        if sum(self.leave) >= 1:
            raise ValueError("leave: a sticky chain leaves its two states with chances whose sum is under 1")
        return self


class RegimeParameters(_RegimePart):
    """What regime.json holds."""

    version: Literal[1] = 1
    interval_s: Annotated[float, Field(gt=0)]  # of one step of the transition matrices
    volatility: Chain  # state 1: high
    direction: Chain  # state 1: trend


class _Filter:
    """The forward filter of one chain; the state is one number, the probability of state 1."""

    def __init__(self, chain: Chain) -> None:
        to_high, to_low = chain.leave
        self.stationary = to_high / (to_high + to_low)
        self.memory = 1.0 - to_high - to_low  # second eigenvalue: what one interval leaves of a deviation
        self.probability = self.stationary
        self._terms = [(e.transform == "log", e.low, e.high, *_log_ratio(e)) for e in chain.emissions]
        self._temper = chain.temper

    def step(self, observed: Sequence[float], steps: float) -> float:
        """The probability of state 1, `steps` intervals later and with one more value of each feature.

        NaN where the parameters overflow on these values; the filter then keeps the state it had.
        """
        prior = self.stationary + self.memory**steps * (self.probability - self.stationary)
        ratio = 0.0
        for x, (log, low, high, c0, c1, c2) in zip(observed, self._terms, strict=True):
            seen = math.log(max(x, 1e-9)) if log else x
            seen = min(max(seen, low), high)
            ratio += c0 + seen * (c1 + seen * c2)
        posterior = _posterior(prior, self._temper * ratio)
        if math.isfinite(posterior):
            self.probability = posterior
        return posterior


def _log_ratio(emission: Emission) -> tuple[float, float, float]:
    """Coefficients c0 + c1 x + c2 x² of ln N(x | state 1) - ln N(x | state 0)."""
    (m0, m1), (s0, s1) = emission.mean, emission.sd
    v0, v1 = s0 * s0, s1 * s1
    c0 = math.log(s0 / s1) + 0.5 * (m0 * m0 / v0 - m1 * m1 / v1)
    return c0, m1 / v1 - m0 / v0, 0.5 * (1.0 / v0 - 1.0 / v1)


def _posterior(prior: float, log_ratio: float) -> float:
    """P(state 1) after an observation whose log likelihood ratio (1 to 0) is given; never overflows."""
    if log_ratio > 0:
        return prior / (prior + (1.0 - prior) * math.exp(-log_ratio))
    weight = prior * math.exp(log_ratio)
    return weight / (weight + 1.0 - prior)


def _place(feature: str, index: Callable[[str], int]) -> int:
    try:
        return index(feature)
    except UsageError as error:
        raise BundleError(
            f"regime.json names the feature {feature!r}, which the catalogue lacks: "
            "make the bundle again with this version"
        ) from error


class RegimeDetector:
    """Filtered regime probabilities, one step a decision; its state is two numbers and a time.

    `index` gives a feature's place in the 350 and raises UsageError for an unknown name.

    Raises:
        BundleError: a feature that regime.json names is not in the catalogue.
    """

    def __init__(self, parameters: RegimeParameters, index: Callable[[str], int]) -> None:
        emissions = (*parameters.volatility.emissions, *parameters.direction.emissions)
        self._indices = np.array([_place(emission.feature, index) for emission in emissions], np.intp)
        self._volatility = _Filter(parameters.volatility)
        self._direction = _Filter(parameters.direction)
        self._first_of_direction = len(parameters.volatility.emissions)
        self._interval_ns = parameters.interval_s * NS_PER_S
        self._last_ns: int | None = None

    def state(self, bundle_sha256: str) -> RegimeState:
        """Where the two chains stand, as parameters of this bundle led there."""
        return RegimeState(bundle_sha256, self._volatility.probability, self._direction.probability, self._last_ns)

    def resume(self, state: RegimeState) -> None:
        """Go on from there."""
        _, self._volatility.probability, self._direction.probability, self._last_ns = state

    def step(self, values: NDArray[np.float32], ts_ns: int) -> RegimeProbs:
        """Probabilities at `ts_ns` given `values`, the 350 in catalogue order, and everything before.

        After a gap the chains relax toward their long-run shares as their transition matrices say. When a value that
        a chain reads is not finite the answer is defensive, and the filter keeps the state it had.
        """
        observed: list[float] = values[self._indices].tolist()
        if not math.isfinite(sum(observed)):  # a few float32 can't overflow, so the sum speaks for all
            return DEFENSIVE
        steps = 1.0 if self._last_ns is None else max(ts_ns - self._last_ns, 0) / self._interval_ns
        self._last_ns = ts_ns
        first = self._first_of_direction
        high = self._volatility.step(observed[:first], steps)
        trend = self._direction.step(observed[first:], steps)
        return RegimeProbs((1.0 - high) * (1.0 - trend), (1.0 - high) * trend, high)
