"""From the 350 to what the policy sees: 150 selected, scaled, clipped, weighted by regime; and its own 7."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import AccountState, Recalled

OWN_STATE_VERSION = 2

Vector = NDArray[np.float32]


class ObservationTemplate:
    """The market part of an observation: weight · clip((value - centre) / scale, ±clip), one pass over 150 numbers.

    Args:
        indices: (n,) places of the selected features in the catalogue.
        centre: (n,) what is subtracted, in the feature's unit.
        scale: (n,) what it is divided by, above 0.
        low: (n,) lowest value met in training, in the feature's unit.
        high: (n,) highest value met in training.
        clip: bound of the scaled value, above 0.
        weights: (3, n) weight of each feature in range, trend and defensive markets, blended by their probabilities;
            all ones by default.

    Raises:
        UsageError: shapes differ, an index is out of the catalogue, or a number is impossible.
    """

    def __init__(
        self,
        indices: ArrayLike,
        centre: ArrayLike,
        scale: ArrayLike,
        low: ArrayLike,
        high: ArrayLike,
        clip: float,
        weights: ArrayLike | None = None,
    ) -> None:
        self._indices: NDArray[np.intp] = np.array(indices, np.intp)
        n = self._indices.size
        self._centre, self._scale, self._low, self._high = (
            _vector(name, value, n)
            for name, value in (("centre", centre), ("scale", scale), ("low", low), ("high", high))
        )
        if n == 0 or self._indices.min() < 0 or self._indices.max() >= catalogue.COUNT:
            raise UsageError(f"selected indices must be 0 … {catalogue.COUNT - 1} and at least one")
        if not (self._scale > 0).all() or not 0 < clip < math.inf:
            raise UsageError("the scaler's scale and clip must be above 0: fit the scaler again")
        if (self._low > self._high).any():
            raise UsageError("the training range has a low above its high: fit the scaler again")
        self._clip = np.float32(clip)
        self._low_clip = -self._clip
        self._weights = None if weights is None else _vector("weights", weights, 3 * n).reshape(3, n)

    def __call__(self, values: Vector, regime_probs: Sequence[float]) -> tuple[Vector, float]:
        """The observation's market part and the share of its inputs beyond the training range.

        Args:
            values: (350,) in catalogue order.
            regime_probs: of range, trend, defensive.

        Returns:
            (n,) float32, owned by the caller, and 0 … 1; a value that is not a number counts as beyond the range.
        """
        selected = values[self._indices]
        inside = np.count_nonzero((selected >= self._low) & (selected <= self._high))
        share = 1.0 - inside / selected.size
        selected -= self._centre
        selected /= self._scale
        np.minimum(selected, self._clip, out=selected)
        np.maximum(selected, self._low_clip, out=selected)
        if self._weights is not None:
            selected *= np.asarray(regime_probs, np.float32) @ self._weights
        return selected, share


def own_state(
    account: AccountState, instrument: Instrument, max_position: int, atr: float, recalled: Recalled
) -> Vector:
    """The policy's knowledge of itself, version 2: float32 (7,).

    Position as a share of `max_position`; unrealized profit in ATRs of the position, within ±5, over 5;
    ln(1 + seconds in the trade) over 8; drawdown as a share of peak equity. Then, of the trades recalled: share that
    won, -1 … 1; mean outcome in ATRs, within ±5, over 5; distance in typical deviations, at most 5, over 5; with none
    recalled 0, 0 and 1.

    Args:
        account: the account now; `ts_ns` is the present.
        instrument: what is traded.
        max_position: contracts that ±1 stands for.
        atr: atr_14, points; while it is 0 (not warm) one tick stands in.
        recalled: the trades entered in the markets nearest to the present one.
    """
    risk = max(atr, instrument.tick_size) * instrument.point_value * max(abs(account.position), 1)
    seconds = max(account.ts_ns - account.opened_ns, 0) / NS_PER_S if account.position and account.opened_ns else 0.0
    return np.array(
        [
            account.position / max_position,
            min(max(account.unrealized / risk, -5.0), 5.0) / 5.0,
            math.log1p(seconds) / 8.0,
            account.drawdown,
            2.0 * recalled.won_share - 1.0,
            min(max(recalled.outcome, -5.0), 5.0) / 5.0,
            min(recalled.distance, 5.0) / 5.0,
        ],
        np.float32,
    )


def _vector(name: str, value: ArrayLike, n: int) -> Vector:
    vector = np.array(value, np.float32).ravel()
    if vector.size != n or not np.isfinite(vector).all():
        raise UsageError(f"the scaler's {name} must be {n} finite numbers, got {vector.size}: fit the scaler again")
    return vector
