"""Linear models in numpy, and the way their data are split in time."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RobustScale:
    """Median and interquartile range of each column, and its range in training; all (columns,) float64."""

    centre: Floats
    scale: Floats
    low: Floats
    high: Floats

    def apply(self, x: NDArray[np.float32], clip: float) -> Floats:
        """(x - centre) / scale within ±clip."""
        scaled: Floats = np.clip((x.astype(np.float64) - self.centre) / self.scale, -clip, clip)
        return scaled


def robust_scale(x: NDArray[np.float32]) -> RobustScale:
    """The scale of each column is its interquartile range over 1.349, a Gaussian's standard deviation.

    A column that rests on one value most of the time has no interquartile range: its standard deviation takes the
    place, and 1 where that is none either.
    """
    wide = x.astype(np.float64)
    lower, centre, upper = np.percentile(wide, (25, 50, 75), axis=0)
    spread = wide.std(axis=0)
    scale = (upper - lower) / 1.349
    scale = np.where(scale > 1e-9, scale, np.where(spread > 1e-9, spread, 1.0))
    return RobustScale(centre, scale, wide.min(axis=0), wide.max(axis=0))


class Linear(NamedTuple):
    """weights · x + bias."""

    weights: Floats
    bias: float

    def __call__(self, x: Floats) -> Floats:
        answer: Floats = x @ self.weights + self.bias
        return answer


def ridge(x: Floats, y: Floats, penalty: float) -> Linear:
    """Least squares with `penalty` a row on the squared weights (Hoerl & Kennard 1970); the bias is free."""
    centre, level = x.mean(axis=0), float(y.mean())
    wide = x - centre
    gram = wide.T @ wide + penalty * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, wide.T @ (y - level))
    return Linear(weights, level - float(centre @ weights))


def logistic(x: Floats, won: NDArray[np.bool_], penalty: float) -> Linear:
    """Logistic regression by Newton's method, with `penalty` a row on the squared weights; the bias is free."""
    wide = np.column_stack([x, np.ones(len(x))])
    cost = penalty * len(x) * np.eye(wide.shape[1])
    cost[-1, -1] = 0.0
    beta = np.zeros(wide.shape[1])
    for _ in range(50):
        chance = sigmoid(wide @ beta)
        gradient = wide.T @ (chance - won) + cost @ beta
        curvature = (wide.T * (chance * (1 - chance))) @ wide + cost + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(curvature, gradient)
        beta -= step
        if np.max(np.abs(step)) < 1e-10:
            break
    return Linear(beta[:-1], float(beta[-1]))


def platt(logit: Floats, won: NDArray[np.bool_], weight: float, prior_sd: float = 0.5) -> tuple[float, float]:
    """Slope and intercept of Platt's calibration, with a Gaussian prior around 1 and 0.

    `weight` is what one row counts for: labels that overlap in time are not worth one each. Few rows leave the logits
    as they are.
    """
    x = np.column_stack([logit, np.ones(len(logit))])
    prior, precision = np.array([1.0, 0.0]), np.eye(2) / prior_sd**2
    beta = prior.copy()
    for _ in range(100):
        chance = sigmoid(x @ beta)
        gradient = weight * (x.T @ (chance - won)) + precision @ (beta - prior)
        curvature = weight * (x.T * (chance * (1 - chance))) @ x + precision
        step = np.linalg.solve(curvature, gradient)
        beta -= step / max(1.0, float(np.abs(step).max()))
        if np.max(np.abs(step)) < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^-x) without overflow."""
    small = np.exp(-np.abs(x))
    answer: Floats = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return answer


def linear_shap(model: Linear, x: Floats) -> Floats:
    """Mean |SHAP value| of each input over the rows of `x`: for a linear model exactly |w| · mean |x - mean x|."""
    importance: Floats = np.abs(model.weights) * np.abs(x - x.mean(axis=0)).mean(axis=0)
    return importance


class Split(NamedTuple):
    """Three runs of rows in time order; between them lie `gap` rows that belong to none."""

    fit: slice
    calibrate: slice
    evaluate: slice


def purged_split(rows: int, gap: int) -> Split:
    """60 % to fit, 15 % to calibrate, 25 % to evaluate, less the gaps.

    The gap covers the label's horizon (purge: no label looks into the next part) and what features remember (embargo).
    """
    first, second = int(rows * 0.60), int(rows * 0.75)
    if second - first <= 2 * gap or rows - second <= 2 * gap:
        raise ValueError(f"{rows} rows are too few to split with gaps of {gap}: generate more hours")
    return Split(slice(0, first - gap), slice(first, second - gap), slice(second, rows))


def auc(score: Floats, won: NDArray[np.bool_]) -> float:
    """Chance that a row that won scores above one that did not (Mann-Whitney); 0.5 when either kind is absent."""
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    for value, count in zip(*np.unique(score, return_counts=True), strict=True):
        if count > 1:
            ranks[score == value] = ranks[score == value].mean()
    wins, losses = int(won.sum()), int((~won).sum())
    return float((ranks[won].sum() - wins * (wins + 1) / 2) / (wins * losses)) if wins and losses else 0.5
