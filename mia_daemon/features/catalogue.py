"""The 350 features: their order is the contract, their formulas (catalogue.csv) the definition.

In the formulas s is the aggressor's side, v a size, m the mid, qb and qa the sizes at the touch, and EW means
exponentially weighted by event time, weight exp(-age / h), so that the horizon h is the mean age of the weights.
A missing input gives the neutral value and a `Quality` bit.
"""

import csv
import hashlib
from dataclasses import astuple, dataclass
from enum import IntFlag
from pathlib import Path
from typing import Final

from mia_daemon.errors import UsageError

COUNT: Final = 350


class Inputs(IntFlag):
    """What a feature is computed from."""

    TRADES = 1
    QUOTES = 2  # the touch, and where a formula has qb or qa also its sizes
    DEPTH = 4
    REFERENCE = 8
    CALENDAR = 16
    FEED = 32  # the events' arrival itself


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


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the catalogue.

    Attributes:
        index: place among the 350.
        horizon: as the specification names it: "5s", "15m", "session", "inst" (of this very moment).
        warmup_s: event time after which the value means what it says.
        source: where the formula comes from.
        neutral: the value while an input is missing.
    """

    index: int
    name: str
    family: str
    unit: str
    inputs: Inputs
    horizon: str
    warmup_s: int
    neutral: float
    formula: str
    source: str


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
        inputs,
        row["horizon"],
        int(row["warmup_s"]),
        float(row["neutral"]),
        row["formula"],
        row["source"],
    )


FEATURES: Final = _read()
_INDEX: Final = {feature.name: feature.index for feature in FEATURES}


def index(name: str) -> int:
    """The place of the feature `name`.

    Raises:
        UsageError: no feature has that name.
    """
    try:
        return _INDEX[name]
    except KeyError:
        raise UsageError(f"no feature is called {name!r}: the names are in features/catalogue.csv") from None


def sha256() -> str:
    """Hash over the order and the definitions: a model made for another catalogue must not run."""
    lines = ("\x1f".join(str(value) for value in astuple(feature)) for feature in FEATURES)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
