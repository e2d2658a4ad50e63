"""The state of a feature pipeline as a file, so that a restart warms up from where the last run stood.

A header of 4096 bytes (magic, then JSON that says whose state it is and carries a hash of the rest), then the clock,
the trading day and the families' flat state. A state belongs to one catalogue, one set of kernels, one instrument and
one set of fitted constants; any other is refused, and so is a damaged file: a state that is not exactly what the
kernels left would be wrong without looking wrong.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import StartError, StateRefused
from mia_daemon.private_file import replace_file

MAGIC: Final = b"MIASTATE"
FORMAT: Final = 1
FILE_NAME: Final = "features.bin"
_HEADER_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class StateOwner:
    """Whose state it is: it fits nothing else."""

    catalogue_sha256: str
    kernels: str  # hash of their sources
    symbol: str
    tick_size: float
    constants_sha256: str = ""  # of `FittedConstants`


class RegimeState(NamedTuple):
    """Where the regime's two chains stand: it fits the bundle whose parameters led there."""

    bundle_sha256: str
    volatility: float  # P(high), 0 … 1
    direction: float  # P(trend), 0 … 1
    ts_ns: int | None  # of the last step; None before the first


@dataclass(frozen=True, slots=True)
class FeatureState:
    """What a pipeline knows, and what is made of it from one decision to the next.

    Attributes:
        clock: (C_SIZE,) int64, the engine's.
        day: (6,) int64, the row of the calendar it is in; zeros before the first.
        families: float64, all families but the calendar's, which follows from the time.
        newest_ns: event time of the newest event, a TIMER included.
        heard_ns: of the newest of the traded symbol that the feed brought, to the microsecond; a feed that can is to go
            on after it.
        reference_heard_ns: the same of the reference symbol; 0 where none was heard.
        max_gap_s: trading time that may be missing between this state and the first event after it; None where the feed
            delivers what happened meanwhile.
        regime: as of a decision up to then; None where nobody asked for it.
    """

    owner: StateOwner
    clock: NDArray[np.int64]
    day: NDArray[np.int64]
    families: NDArray[np.float64]
    newest_ns: int
    heard_ns: int
    max_gap_s: float | None = None
    regime: RegimeState | None = None
    reference_heard_ns: int = 0


def write(path: Path, state: FeatureState) -> None:
    """Replace `path` by this state, whole or not at all.

    Raises:
        StartError: it can't be written.
    """
    arrays = [np.ascontiguousarray(array).data.cast("B") for array in (state.clock, state.day, state.families)]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array)
    facts = {
        "format": FORMAT,
        "owner": asdict(state.owner),
        "sizes": [state.clock.size, state.day.size, state.families.size],
        "newest_ns": state.newest_ns,
        "heard_ns": state.heard_ns,
        "max_gap_s": state.max_gap_s,
        "regime": state.regime,
        "reference_heard_ns": state.reference_heard_ns,
        "sha256": digest.hexdigest(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, [(MAGIC + json.dumps(facts).encode()).ljust(_HEADER_SIZE, b" "), *arrays])
    except OSError as error:
        raise StartError(
            f"the features' state {path} can't be written ({error.strerror}): check the directory, or set "
            "features.state_every_s to 0"
        ) from error


def read(path: Path) -> FeatureState:
    """The state in `path`.

    Raises:
        StateRefused: there is none, or it is damaged or of another layout.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StateRefused(
            f"the features' state {path} can't be read ({error.strerror}): they warm up from nothing"
        ) from error
    header, rest = data[:_HEADER_SIZE], memoryview(data)[_HEADER_SIZE:]
    try:
        if not header.startswith(MAGIC):
            raise ValueError("no such file")
        facts = json.loads(header[len(MAGIC) :])
        if facts["format"] != FORMAT or facts["sha256"] != hashlib.sha256(rest).hexdigest():
            raise ValueError("another layout, or not what was written")
        clock, day, families = (8 * size for size in facts["sizes"])
        return FeatureState(
            StateOwner(**facts["owner"]),
            np.frombuffer(rest[:clock], np.int64),
            np.frombuffer(rest[clock : clock + day], np.int64),
            np.frombuffer(rest[clock + day : clock + day + families], np.float64),
            facts["newest_ns"],
            facts["heard_ns"],
            facts["max_gap_s"],
            _regime(facts.get("regime")),
            facts.get("reference_heard_ns", 0),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateRefused(f"the features' state {path} is damaged ({error}): they warm up from nothing") from error


def _regime(facts: list[Any] | None) -> RegimeState | None:
    """Raises ValueError or TypeError when it is none."""
    if facts is None:
        return None
    regime = RegimeState(*facts)
    if not (0.0 <= regime.volatility <= 1.0 and 0.0 <= regime.direction <= 1.0):
        raise ValueError("a regime's probability beyond 0 to 1")
    if not isinstance(regime.ts_ns, int | None):
        raise TypeError("a regime's time is none")
    return regime
