"""What the baseline is: a ridge regression for the policy, a logistic regression for the probability.

The change of the mid over the next minute is regressed on all 350 features; the 150 with the largest mean |SHAP| on
held-out rows stay, and the regression on those, scaled, is the policy tanh(gain · forecast). A logistic regression says
how often a bracket in the policy's direction ends in profit after costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.config import DecisionSettings
from mia_daemon.features import catalogue
from mia_daemon.model.detect_regime import RegimeDetector, RegimeParameters
from mia_daemon.model.manifest import SELECTED
from mia_daemon.model.trade_probability import Calibration
from mia_daemon.products.instruments import Instrument
from mia_daemon.training.labels import LabelledRecording, bracket_profit, forward_change
from mia_daemon.training.linear_models import (
    Floats,
    Linear,
    RobustScale,
    Split,
    auc,
    linear_shap,
    logistic,
    platt,
    purged_split,
    ridge,
    robust_scale,
    sigmoid,
)
from mia_daemon.training.paper_run import RoundTrip, round_trips
from mia_daemon.training.regime_fit import fit_regimes

HORIZON_S: Final = 60.0
CLIP: Final = 5.0
RIDGE_PENALTY: Final = 10.0
"""Of inputs with unit scale: strong, since most of the 350 tell nothing and many tell the same."""

LOGISTIC_PENALTY: Final = 0.5
ENTRY_SHARE: Final = 0.30
"""Share of decisions in which |action| passes the default `enter_above`: sets the policy's gain."""

OUTCOME_S: Final = 300.0
"""A bracket that has met neither stop nor target by then is judged by the touch: the policy holds no longer as a rule,
and shorter labels overlap less."""

EMBARGO_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Fitted:
    """All that goes into the bundle; arrays are in the order of `selected`."""

    importance: Sequence[tuple[str, float]]
    selected: tuple[str, ...]
    scale: RobustScale
    policy: Linear  # of the scaled market, before tanh
    probability: Linear  # of (side · scaled market, |action|)
    calibration: Calibration
    regime: RegimeParameters
    metrics: Mapping[str, Any]


def fit(recording: LabelledRecording, traded: Instrument, interval_s: float) -> Fitted:
    """Fit everything on the first part of `recording`, calibrate on the second, report on the third."""
    settings = DecisionSettings()
    horizon = round(HORIZON_S / interval_s)
    split = purged_split(len(recording), round((OUTCOME_S + EMBARGO_S) / interval_s))
    change = forward_change(recording, horizon, interval_s)
    importance = _importance(recording.values, change, split.fit, split.calibrate)
    selected = tuple(name for name, _ in importance[:SELECTED])

    columns = recording.values[:, [catalogue.index(name) for name in selected]]
    scale = robust_scale(columns[split.fit])
    market = scale.apply(columns, CLIP)
    policy = _policy(market, change, split.fit, settings.enter_above)
    action = np.tanh(policy(market))
    won = _won(recording, action, traded, settings, interval_s)
    probability, calibration = _probability(market, action, won, split, interval_s)
    chance = _chance(probability, calibration, market, action)
    regime = fit_regimes(recording.values[split.fit], [f.name for f in catalogue.FEATURES], interval_s)
    rows = split.evaluate
    probs = _regime_probs(regime, recording, rows)
    trips = round_trips(recording, rows, action[rows], chance[rows], probs, settings, traded)
    metrics = {
        "market": "simulated",
        "decisions": len(recording),
        "evaluated_decisions": len(probs),
        "forecast_correlation": _correlation(action[rows], change[rows]),
        "sign_right_share": _sign_right(action[rows], change[rows], settings.enter_above),
        "entry_share": round(float((np.abs(action[rows]) >= settings.enter_above).mean()), 4),
        "defensive_move_ratio": _move_ratio(probs[:, 2] > 0.5, change[rows]),
        **_probability_metrics(chance[rows], won[rows]),
        **_trade_metrics(trips, len(probs) * interval_s, traded),
    }
    return Fitted(importance, selected, scale, policy, probability, calibration, regime, metrics)


def _importance(
    values: NDArray[np.float32], change: Floats, fit_rows: slice, held_out: slice
) -> list[tuple[str, float]]:
    """All 350 with mean |SHAP| over held-out rows, highest first; equals in catalogue order."""
    scale = robust_scale(values[fit_rows])
    scaled = scale.apply(values, CLIP)
    known = np.isfinite(change[fit_rows])
    model = ridge(scaled[fit_rows][known], change[fit_rows][known], RIDGE_PENALTY)
    shap = linear_shap(model, scaled[held_out])
    order = np.argsort(-shap, kind="stable")
    return [(catalogue.FEATURES[i].name, float(shap[i])) for i in order]


def _policy(market: Floats, change: Floats, fit_rows: slice, enter_above: float) -> Linear:
    """The ridge forecast, scaled so that |tanh| passes `enter_above` in `ENTRY_SHARE` of decisions.

    The bias is dropped: the policy does not lean to the side that happened to win in training.
    """
    x, y = market[fit_rows], change[fit_rows]
    known = np.isfinite(y)
    forecast = ridge(x[known], y[known], RIDGE_PENALTY)
    centred = forecast.weights @ (x - np.median(x, axis=0)).T
    gain = np.arctanh(enter_above) / max(float(np.quantile(np.abs(centred), 1 - ENTRY_SHARE)), 1e-12)
    return Linear(gain * forecast.weights, -gain * float(forecast.weights @ np.median(x, axis=0)))


def _won(
    recording: LabelledRecording, action: Floats, traded: Instrument, settings: DecisionSettings, interval_s: float
) -> Floats:
    """1 where a bracket in the action's direction ended in profit after costs, 0 where not, NaN where unknown."""
    stop, target = settings.stop_ticks * traded.tick_size, settings.target_ticks * traded.tick_size
    steps = round(OUTCOME_S / interval_s)
    costs = 2 * traded.cost_per_side / traded.point_value
    long = bracket_profit(recording, +1, stop, target, steps, interval_s)
    short = bracket_profit(recording, -1, stop, target, steps, interval_s)
    profit = np.where(action >= 0, long, short) - costs
    return np.where(np.isfinite(profit), (profit > 0).astype(np.float64), np.nan)


def _probability(
    market: Floats, action: Floats, won: Floats, split: Split, interval_s: float
) -> tuple[Linear, Calibration]:
    """Logistic regression on the first rows, Platt's slope and intercept on later ones."""
    fit_rows, later = split.fit, split.calibrate
    x = sided(market, action)
    known = np.isfinite(won[fit_rows])
    model = logistic(x[fit_rows][known], won[fit_rows][known] > 0.5, LOGISTIC_PENALTY)
    known = np.isfinite(won[later])
    logit = model(x[later][known])
    slope, intercept = platt(logit, won[later][known] > 0.5, weight=interval_s / OUTCOME_S)
    return model, Calibration(slope=max(slope, 0.05), intercept=intercept)


def sided(market: Floats, action: Floats) -> Floats:
    return np.column_stack([np.sign(action)[:, None] * market, np.abs(action)])


def _chance(model: Linear, calibration: Calibration, market: Floats, action: Floats) -> Floats:
    return sigmoid(calibration.slope * model(sided(market, action)) + calibration.intercept)


def _correlation(action: Floats, change: Floats) -> float:
    known = np.isfinite(change)
    return round(float(np.corrcoef(action[known], change[known])[0, 1]), 4)


def _sign_right(action: Floats, change: Floats, enter_above: float) -> float:
    strong = np.isfinite(change) & (np.abs(action) >= enter_above) & (change != 0)
    return round(float((np.sign(action[strong]) == np.sign(change[strong])).mean()), 4) if strong.any() else 0.5


def _regime_probs(regime: RegimeParameters, recording: LabelledRecording, rows: slice) -> Floats:
    detector = RegimeDetector(regime, catalogue.index)
    steps = zip(recording.values[rows], recording.ts_ns[rows].tolist(), strict=True)
    return np.array([detector.step(values, ts_ns) for values, ts_ns in steps])


def _move_ratio(defensive: NDArray[np.bool_], change: Floats) -> float:
    """How much further the mid went after decisions in the defensive regime than after the others."""
    known = np.isfinite(change)
    storm, calm = np.abs(change[known & defensive]), np.abs(change[known & ~defensive])
    return round(float(storm.mean() / calm.mean()), 3) if storm.size and calm.any() else 1.0


def _trade_metrics(trips: Sequence[RoundTrip], seconds: float, traded: Instrument) -> dict[str, float]:
    """What the daemon's rules made of it, one contract, fills at the touch; also at one and a half times the costs."""
    costs = 2 * traded.cost_per_side / traded.point_value
    points = np.array([trip.points for trip in trips] or [0.0])
    return {
        "round_trips": len(trips),
        "round_trips_per_10_min": round(len(trips) / seconds * 600, 2),
        "round_trips_won_share": round(float((points > costs).mean()), 4),
        "net_ticks_per_round_trip": round(float((points - costs).mean()) / traded.tick_size, 3),
        "net_ticks_per_round_trip_at_1.5_costs": round(float((points - 1.5 * costs).mean()) / traded.tick_size, 3),
    }


def _probability_metrics(chance: Floats, won: Floats) -> dict[str, float]:
    known = np.isfinite(won)
    return {
        "probability_auc": round(auc(chance[known], won[known] > 0.5), 4),
        "probability_brier": round(float(((chance[known] - won[known]) ** 2).mean()), 4),
        "won_share": round(float(won[known].mean()), 4),
        "mean_probability": round(float(chance[known].mean()), 4),
    }
