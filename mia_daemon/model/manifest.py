"""What manifest.json and scaler.json of a bundle hold. Unknown keys and numbers that are not finite are refused."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mia_daemon.model.trade_probability import Calibration
from mia_daemon.records import Regime

SELECTED: Final = 150
OWN_STATE: Final = 7
OBSERVATION: Final = SELECTED + OWN_STATE

_Share = Annotated[float, Field(ge=0, le=1)]
_Floats = Annotated[tuple[float, ...], Field(min_length=SELECTED, max_length=SELECTED)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RegimeWeights(_Part):
    """How much a policy counts in each regime; what the policies leave of 1 is weight on staying flat."""

    range: _Share = 1.0
    trend: _Share = 1.0
    defensive: _Share = 1.0


class PolicySpec(_Part):
    """One policy of the bundle."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # "sac", "ppo", "ddpg", "baseline"
    file: Annotated[str, Field(pattern=r"^policy[a-z0-9_]*\.onnx$")]
    weights: RegimeWeights = RegimeWeights()


class Manifest(_Part):
    """What manifest.json holds."""

    format: Literal[1] = 1
    name: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, Field(min_length=1)]  # "baseline", "trained"
    created_by: str
    research_only: bool  # live refuses to arm it
    catalogue_sha256: str
    own_state_version: int
    decision_interval_s: Annotated[float, Field(gt=0)]  # it was made for
    policies: Annotated[tuple[PolicySpec, ...], Field(min_length=1)]
    probability: Calibration = Calibration()
    metrics: dict[str, Any] = {}
    files: dict[str, str]  # name: sha256, all files but this one

    @model_validator(mode="after")
    def _blend_is_sound(self) -> Self:
        for regime in Regime:
            if (total := sum(getattr(policy.weights, regime) for policy in self.policies)) > 1.0 + 1e-9:
                raise ValueError(f"the policies' weights in {regime} add up to {total:.6g}, more than 1")
        names = [policy.name for policy in self.policies]
        if len(set(names)) < len(names):
            raise ValueError(f"policy names must differ, found {', '.join(names)}")
        return self


class FeatureWeights(_Part):
    """Weight of each of the 150 in each regime, blended by the regimes' probabilities."""

    range: _Floats
    trend: _Floats
    defensive: _Floats


class Scaler(_Part):
    """The robust scaler: (value - centre) / scale, clipped to ±clip, weighted; low and high are the training range."""

    features: Annotated[tuple[str, ...], Field(min_length=SELECTED, max_length=SELECTED)]
    centre: _Floats
    scale: _Floats
    low: _Floats
    high: _Floats
    clip: Annotated[float, Field(gt=0)]
    weights: FeatureWeights | None = None

    @model_validator(mode="after")
    def _sane(self) -> Self:
        for name, scale, low, high in zip(self.features, self.scale, self.low, self.high, strict=True):
            if scale <= 0 or low > high:
                raise ValueError(f"{name}: scale must be above 0 and low not above high")
        return self
