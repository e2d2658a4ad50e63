"""The 350 features: their order is the contract, their formulas (catalogue.csv) the definition.

In the formulas s is the aggressor's side, v a size, m the mid, qb and qa the sizes at the touch, and EW means
exponentially weighted by event time, weight exp(-age / h), so that the horizon h is the mean age of the weights.
A missing input gives the neutral value and a `Quality` bit.
"""

import csv
import difflib
import hashlib
import math
from dataclasses import astuple, dataclass
from enum import IntFlag, StrEnum
from functools import cache
from pathlib import Path
from typing import Final

from mia_daemon.errors import UsageError

COUNT: Final = 350


class Inputs(IntFlag):
    """What a feature is computed from."""

    TRADES = 1
    QUOTES = 2  # the touch
    DEPTH = 4
    REFERENCE = 8
    CALENDAR = 16
    FEED = 32  # the events' arrival itself
    SIZES = 64  # at the touch


class Quality(IntFlag):
    """What is wrong with the inputs of a feature window; 0 when nothing is."""

    NO_QUOTES = 1  # no touch known: the mid is the last trade's price
    NO_SIZES = 2  # the sizes at the touch are not known
    NO_DEPTH = 4  # no consistent book in the last minute
    NO_REFERENCE = 8  # no event of the reference symbol in the last minute
    NO_CALENDAR = 16  # before the first or after the last known trading day
    STALE = 32  # nothing of the traded symbol for 10 s, a TIMER aside
    GAP = 64  # events may be missing from the last minute
    CROSSED = 128  # the newest touch told has bid >= ask, or the book has lost a side
    COLD = 256  # less event time seen than the warm-up asks for
    TIME_BACK = 512  # an event was older than one before it and was applied late, in the last minute
    BAD_EVENT = 1024  # an event with impossible numbers was left out, in the last minute


class Scale(StrEnum):
    """What a value of a feature means in another product than the one it was seen in."""

    SAME = "the same"  # a share, a ratio, an indicator of a fixed range, multiples of the average true range
    TICKS = "ticks"  # in ticks of the product: the same where a tick is as large beside what prices move
    RELATIVE = "relative"  # to the price: larger in a product that moves more
    POINTS = "points"  # in points of the product: comparable within it only, and while its price level lasts
    ACTIVITY = "activity"  # counts, sizes and rates: larger in a product that trades more
    TIME = "time"


SCALES: Final = {
    Scale.SAME: ("share", "ratio", "ln ratio", "0-100", "index", "flag", "sign", "z", "sd", "exponent", "ATR"),
    Scale.TICKS: ("ticks",),
    Scale.RELATIVE: ("log return", "log return²", "percent", "bp"),
    Scale.POINTS: ("points",),
    Scale.ACTIVITY: (
        "contracts", "ln contracts", "contracts/s", "1/s", "count", "trades", "contracts/tick", "ticks/contract",
        "1e6/contract", "ticks/sqrt(point contract)",
    ),
    Scale.TIME: ("s", "ms", "ln ms", "min", "days"),
}  # fmt: skip
"""Units by what they mean in another product."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the catalogue.

    Attributes:
        index: place among the 350.
        low, high: the range that no value leaves, whatever the input; infinite where the formula has no bound.
        horizon: as the specification names it: "5s", "15m", "session", "inst" (of this very moment).
        warmup_s: trading time after which what came before no longer matters, seconds; every minute with a trade counts
            for 60, one without for nothing.
        warmup_days: trading days that have to open, the present one included, for the same.
        source: where the formula comes from.
        neutral: the value while an input is missing.
    """

    index: int
    name: str
    family: str
    unit: str
    low: float
    high: float
    inputs: Inputs
    horizon: str
    warmup_s: int
    warmup_days: int
    neutral: float
    formula: str
    source: str

    @property
    def scale(self) -> Scale:
        """What its values mean in another product."""
        return next(scale for scale, units in SCALES.items() if self.unit in units)


def _read() -> tuple[Feature, ...]:
    with Path(__file__).with_suffix(".csv").open(newline="", encoding="utf-8") as file:
        return tuple(_feature(row) for row in csv.DictReader(file))


def _feature(row: dict[str, str]) -> Feature:
    inputs = Inputs(0)
    for name in row["inputs"].split("+"):
        inputs |= Inputs[name.upper()]
    return Feature(
        int(row["index"]),
        row["name"],
        row["family"],
        row["unit"],
        float(row["low"] or -math.inf),
        float(row["high"] or math.inf),
        inputs,
        row["horizon"],
        int(row["warmup_s"]),
        int(row["warmup_days"]),
        float(row["neutral"]),
        row["formula"],
        row["source"],
    )


FEATURES: Final = _read()
FAMILIES: Final = tuple(dict.fromkeys(feature.family for feature in FEATURES))
_INDEX: Final = {feature.name: feature.index for feature in FEATURES}


def index(name: str) -> int:
    """The place of the feature `name`.

    Raises:
        UsageError: no feature has that name.
    """
    try:
        return _INDEX[name]
    except KeyError:
        near = difflib.get_close_matches(name, _INDEX, n=3)
        remedy = f"did you mean {' or '.join(near)}?" if near else "`mia-daemon features` lists them"
        raise UsageError(f"no feature is called {name!r}: {remedy}") from None


_MISSING: Final = {
    Quality.NO_QUOTES: Inputs.QUOTES,
    Quality.NO_SIZES: Inputs.SIZES,
    Quality.NO_DEPTH: Inputs.DEPTH,
    Quality.NO_REFERENCE: Inputs.REFERENCE,
    Quality.NO_CALENDAR: Inputs.CALENDAR,
}


def missing(quality: Quality) -> Inputs:
    """The inputs that are missing from a window of this quality."""
    inputs = Inputs(0)
    for bit, of in _MISSING.items():
        if quality & bit:
            inputs |= of
    return inputs


def inputs_text(inputs: Inputs) -> str:
    """`trades+quotes`, as in the catalogue's file."""
    return "+".join(str(of.name).lower() for of in inputs)


def neutral_without(inputs: Inputs) -> tuple[str, ...]:
    """Names of the features that keep their neutral value while one of these inputs is missing.

    Without quotes they don't: the last trade's price stands in for the mid.
    """
    return tuple(feature.name for feature in FEATURES if feature.inputs & inputs & ~Inputs.QUOTES)


def sha256() -> str:
    """Hash over the order and the definitions: a model made for another catalogue must not run."""
    return _sha256(FEATURES)


@cache
def _sha256(features: tuple[Feature, ...]) -> str:
    lines = ("\x1f".join(str(value) for value in astuple(feature)) for feature in features)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
