"""The alpha score: the chance that a trade in the action's direction succeeds.

It is a graph's output, calibrated, then shifted by the regime: a bounded number of logits for each regime, weighted by
the regime's probability, so the result stays a probability. (Multiplied by a regime's probability it would not be one
of anything.)
"""

import math
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from mia_daemon.records import RegimeProbs

MAX_OFFSET: Final = 1.0
"""Logits. At one half, one logit moves the probability to 0.73: a regime may shade what the model says, no more."""

_Offset = Annotated[float, Field(ge=-MAX_OFFSET, le=MAX_OFFSET)]
_EDGE: Final = 1e-7  # a float32 probability may be exactly 0 or 1, whose logits are infinite


class RegimeOffsets(BaseModel):
    """Logits added in each regime."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    range: _Offset = 0.0
    trend: _Offset = 0.0
    defensive: _Offset = 0.0


class Calibration(BaseModel):
    """Platt's calibration, slope * logit + intercept, fitted on data later than the graph's; then the offsets."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    slope: Annotated[float, Field(gt=0)] = 1.0
    intercept: float = 0.0
    offsets: RegimeOffsets = RegimeOffsets()


def calibrated(raw: float, calibration: Calibration, regime: RegimeProbs) -> float:
    """The probability to trade by, 0 … 1, from the graph's `raw` one; NaN from one that is not finite."""
    if not math.isfinite(raw):
        return math.nan
    raw = min(max(raw, _EDGE), 1.0 - _EDGE)
    offsets = calibration.offsets
    logit = (
        calibration.slope * math.log(raw / (1.0 - raw))
        + calibration.intercept
        + regime.range * offsets.range
        + regime.trend * offsets.trend
        + regime.defensive * offsets.defensive
    )
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    weight = math.exp(logit)  # logits of a slope beyond 40 would overflow the other way round
    return weight / (1.0 + weight)
