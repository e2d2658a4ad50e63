"""From a feature window and the account to a prediction: regime → observation → policies, blended → probability."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.features import catalogue
from mia_daemon.features.obs_template import own_state
from mia_daemon.features.state_file import RegimeState
from mia_daemon.model.bundle import Bundle, observation_template
from mia_daemon.model.detect_regime import DEFENSIVE, RegimeDetector
from mia_daemon.model.graph import Graph
from mia_daemon.model.manifest import OBSERVATION, SELECTED, RegimeWeights
from mia_daemon.model.market_memory import MarketMemory
from mia_daemon.model.trade_probability import calibrated
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import AccountState, FeatureWindow, Prediction, RegimeProbs

UNUSABLE: Final = "unusable"
"""The policy's name in a prediction without action and probability: an input or an output was not finite."""


@dataclass(frozen=True, slots=True)
class _Policy:
    graph: Graph
    weights: RegimeWeights

    def weight(self, regime: RegimeProbs) -> float:
        weights = self.weights
        return regime.range * weights.range + regime.trend * weights.trend + regime.defensive * weights.defensive


class Inference:
    """The models of one bundle, ready to run; about 60 µs a prediction, on the caller's thread.

    It keeps the regime from one decision to the next, so it must get each window once and in order.

    Args:
        bundle: the models.
        memory: outcomes of trades entered in markets like the present one.
        monotonic_ns: monotonic clock; only `probability_ns` depends on it.

    Attributes:
        bundle: the models.
        refused: number of windows that got an unusable prediction.
        probability_ns: how long the last prediction's probability took; 0 where it was not asked for.
    """

    def __init__(self, bundle: Bundle, memory: MarketMemory, monotonic_ns: Callable[[], int] = lambda: 0) -> None:
        self.bundle = bundle
        self._memory = memory
        self.refused = 0
        self.probability_ns = 0
        self._monotonic_ns = monotonic_ns
        self._detector = RegimeDetector(bundle.regime, catalogue.index)
        self._template = observation_template(bundle)
        self._input = np.zeros(OBSERVATION + 1, np.float32)  # one buffer for all graphs: observation, then action
        self._observation = self._input[:OBSERVATION]
        self._policies = [
            _Policy(bundle.policy_graph(spec, self._observation), spec.weights) for spec in bundle.manifest.policies
        ]
        self._probability = bundle.probability_graph(self._input)
        self._name = "+".join(spec.name for spec in bundle.manifest.policies)
        self._atr = catalogue.index("atr_14")

    @property
    def regime(self) -> RegimeState:
        """The state of the regime, for `resume` in a later run of the same bundle."""
        return self._detector.state(self.bundle.sha256)

    def resume(self, regime: RegimeState | None) -> bool:
        """Continue from `regime`; False when it is None or of another bundle."""
        if regime is None or regime.bundle_sha256 != self.bundle.sha256:
            return False
        self._detector.resume(regime)
        return True

    def predict(
        self, window: FeatureWindow, account: AccountState, instrument: Instrument, max_position: int
    ) -> Prediction:
        """The prediction for a window that has values; the window and its arrays are read and not kept.

        A value that is not finite, in the window, the regime, the account or a graph's output, gives the unusable
        prediction: action and probability NaN, all inputs out of range, `not_finite` naming the value. Its regime is
        the detector's where that could be used, else defensive. A graph would turn such a value into a wrong number
        that looks valid, and clipping would make an infinite answer one of full conviction.
        """
        values = window.values
        if values is None:
            raise ValueError(f"window of {window.events.size} events has no values: no decision is due")
        regime = self._detector.step(values, window.ts_ns)
        observation = self._observation
        observation[:SELECTED], out_of_range_share = self._template(values, regime)
        recalled = self._memory.recall(values, window.ts_ns)
        observation[SELECTED:] = own_state(account, instrument, max_position, float(values[self._atr]), recalled)
        digest = hashlib.sha256(observation.data).hexdigest()[:16]
        self.probability_ns = 0
        if bad := _bad_input(values, regime, observation):
            return self._unusable(DEFENSIVE, digest, bad)
        self._input[OBSERVATION] = action = self._action(regime)
        if not math.isfinite(action):
            return self._unusable(regime, digest, "the policy's action")
        started = self._monotonic_ns()
        probability = calibrated(self._probability.run(), self.bundle.manifest.probability, regime)
        self.probability_ns = self._monotonic_ns() - started
        if not math.isfinite(probability):
            return self._unusable(regime, digest, "the trade probability")
        return Prediction(regime, action, probability, self._name, float(out_of_range_share), digest)

    def _action(self, regime: RegimeProbs) -> float:
        """The policies' actions, each weighted by P(regime) · weight in the regime, within ±1; else not finite."""
        blend = 0.0
        for policy in self._policies:
            blend += policy.weight(regime) * policy.graph.run()
        return min(max(blend, -1.0), 1.0) if math.isfinite(blend) else blend

    def _unusable(self, regime: RegimeProbs, digest: str, not_finite: str) -> Prediction:
        self.refused += 1
        return Prediction(regime, math.nan, math.nan, UNUSABLE, 1.0, digest, not_finite)


def _bad_input(values: NDArray[np.float32], regime: RegimeProbs, observation: NDArray[np.float32]) -> str:
    """Which input of the graphs is not finite; "" when all are."""
    if not _finite(values):
        return "a feature"
    if not math.isfinite(sum(regime)):
        return "the regime probabilities"
    return "" if _finite(observation) else "the account state"


def _finite(vector: NDArray[np.float32]) -> bool:
    return bool(np.count_nonzero(np.isfinite(vector)) == vector.size)  # a third of the time of `all`
