"""Whether the market still looks as it did in training: live distributions of the policy's inputs beside the bundle's.

Two distances over the same ten bins, deciles of the training data: the population stability index, the sum of
(p - q) ln(p / q) (Siddiqi 2006; 0.1 is called small, 0.25 large), and the Kolmogorov-Smirnov distance, the largest
difference of the cumulated shares. A feature has drifted when both are beyond their thresholds.

Only what can have a distribution within the time seen is compared: not the calendar's features, which follow from the
clock, none that are anchored to the trading day, and no other before its warm-up has fitted in a dozen times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import BundleError
from mia_daemon.features.catalogue import FEATURES, Inputs
from mia_daemon.model.npz import read_arrays
from mia_daemon.records import Alert, AlertSink, Priority

BINS: Final = 10
EVERY_S: Final = 60.0
EVERY: Final = 12
"""Event time and decisions between two looks, at least."""

TIMES_WARM: Final = 12
LEAST_S: Final = 7200.0
"""A feature is compared once so many of its warm-ups, and at least so much event time, have been seen: before that the
market's moods alone are beyond the thresholds."""

SHOWN: Final = 5

AGAIN_S: Final = 3600.0  # between two alerts
TELL_AGAIN_S: Final = 86_400.0  # between two that are about the same features
_FLOOR: Final = 1e-3  # a share below it counts as it: an empty bin would be infinitely far away

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histograms:
    """How each of n features was distributed in training.

    Attributes:
        edges: (n, BINS - 1) float32, ascending; a value is in the bin whose number is how many of them are below it.
        shares: (n, BINS) float64, adding up to 1.
    """

    edges: NDArray[np.float32]
    shares: Shares

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Self:
        """Of (rows, n) values: deciles. A value that many rows share, such as a neutral one, has a bin to itself."""
        edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], axis=0, method="lower").T.astype(np.float32)
        first = np.diff(edges, axis=1, prepend=-np.inf) > 0
        again = np.diff(edges, axis=1, append=np.inf) == 0
        edges = np.where(first & again, np.nextafter(edges, np.float32(-np.inf)), edges)
        counts = _counted(bins_of(values, edges))
        return cls(edges, counts / len(values))

    @classmethod
    def from_bytes(cls, data: bytes, n: int) -> Self:
        """Read what `arrays` named. Raises BundleError when it is not that, of `n` features."""
        archive = read_arrays(data, "the reference histograms")
        try:
            edges, shares = archive["edges"], archive["shares"]
            sound = (
                edges.shape == (n, BINS - 1)
                and shares.shape == (n, BINS)
                and bool((np.diff(edges, axis=1) >= 0).all() and (np.abs(shares.sum(axis=1) - 1) < 1e-6).all())
                and bool((shares >= 0).all())
            )
        except (KeyError, TypeError):
            sound = False
        if not sound:
            raise BundleError(f"the reference histograms are not those of {n} features: make the bundle again")
        return cls(edges.astype(np.float32), shares.astype(np.float64))


def bins_of(values: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(rows, n): the bin of each value; not a number counts as the highest."""
    bins = np.zeros(values.shape, np.uint8)
    for edge in edges.T:
        bins += ~(values <= edge)
    return bins


def _counted(bins: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, BINS) how often each bin of each column occurs."""
    n = bins.shape[1]
    places = bins + BINS * np.arange(n)
    return np.bincount(places.ravel(), minlength=n * BINS).reshape(n, BINS)


def psi(reference: Shares, found: Shares) -> Shares:
    """(n,) population stability index between rows of shares."""
    p, q = np.maximum(found, _FLOOR), np.maximum(reference, _FLOOR)
    index: Shares = ((p - q) * np.log(p / q)).sum(axis=1)
    return index


def ks(reference: Shares, found: Shares) -> Shares:
    """(n,) Kolmogorov-Smirnov distance between rows of shares, at the bins' edges."""
    distance: Shares = np.abs(np.cumsum(found - reference, axis=1)).max(axis=1)
    return distance


@dataclass(slots=True)
class DriftMonitor:
    """Told of every decision, looks once a minute of event time.

    A call costs a list's append; a look, which comes with a decision once a minute, some hundred microseconds.

    Args:
        histograms: of the selected features in training.
        selected: their names.
        indices: (n,) their places in the catalogue.
        window: decisions compared, the newest.
        psi_above, ks_above: beyond both a feature has drifted.
        tell: takes the alerts, at most one an hour, and one about the same features a day.
    """

    histograms: Histograms
    selected: Sequence[str]
    indices: NDArray[np.intp]
    window: int
    psi_above: float
    ks_above: float
    tell: AlertSink
    _pending: list[NDArray[np.float32]] = field(default_factory=list)
    _ring: NDArray[np.uint8] = field(init=False)
    _counts: NDArray[np.int64] = field(init=False)
    _seen: int = 0
    _seen_s: float = 0.0
    _looked_ns: int = 0
    _told_ns: dict[int, int] = field(default_factory=dict)  # by place among the selected
    _needed_s: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._ring = np.zeros((self.window, len(self.indices)), np.uint8)
        self._counts = np.zeros((len(self.indices), BINS), np.int64)
        self._needed_s = np.array([needed_s(int(i)) for i in self.indices])

    def see(self, values: NDArray[np.float32], ts_ns: int) -> None:
        """A decision made on `values` (350,) at `ts_ns`; they are kept until the next look, and not written to."""
        self._pending.append(values)
        if len(self._pending) >= EVERY and not 0 <= ts_ns - self._looked_ns < EVERY_S * NS_PER_S:
            passed_s = (ts_ns - self._looked_ns) / NS_PER_S if self._looked_ns else 0.0
            self._looked_ns = ts_ns
            self._seen_s += min(max(passed_s, 0.0), 2 * EVERY_S)  # a silence shows nothing
            self._count()
            self._look(ts_ns)

    def _count(self) -> None:
        bins = bins_of(np.array(self._pending)[-self.window :, self.indices], self.histograms.edges)
        self._pending.clear()
        places = (self._seen + np.arange(len(bins))) % self.window
        if (old := self._ring[places[self._seen + np.arange(len(bins)) >= self.window]]).size:
            self._counts -= _counted(old)
        self._ring[places] = bins
        self._counts += _counted(bins)
        self._seen += len(bins)

    def distances(self) -> tuple[Shares, Shares]:
        """(n,) PSI and KS as of the last look; NaN for what is not compared, or not yet."""
        found = self._counts / max(min(self._seen, self.window), 1)
        known = self._seen_s >= self._needed_s
        reference = self.histograms.shares
        return np.where(known, psi(reference, found), np.nan), np.where(known, ks(reference, found), np.nan)

    def _look(self, ts_ns: int) -> None:
        index, distance = self.distances()
        drifted = np.flatnonzero((index > self.psi_above) & (distance > self.ks_above))
        worst: list[int] = drifted[np.argsort(-index[drifted])].tolist()
        lately = any(ts_ns - at < AGAIN_S * NS_PER_S for at in self._told_ns.values())
        if lately or not any(ts_ns - self._told_ns.get(i, 0) >= TELL_AGAIN_S * NS_PER_S for i in worst):
            return
        self._told_ns |= dict.fromkeys(worst, ts_ns)
        named = ", ".join(f"{self.selected[i]} (PSI {index[i]:.2f}, KS {distance[i]:.2f})" for i in worst[:SHOWN])
        compared = int(np.isfinite(index).sum())
        self.tell(
            Alert(
                ts_ns,
                "drift",
                Priority.WARNING,
                f"{len(drifted)} of {compared} model inputs are not distributed as in training: {named}"
                f"{' …' if len(worst) > SHOWN else ''}: trust the model less, and fit it on newer data",
                {"features": [self.selected[i] for i in worst]},
            )
        )


def needed_s(index: int) -> float:
    """Event time after which a feature's distribution can be judged; infinite where it never can."""
    feature = FEATURES[index]
    if feature.inputs == Inputs.CALENDAR or feature.warmup_days:
        return float("inf")
    return max(TIMES_WARM * feature.warmup_s, LEAST_S)
