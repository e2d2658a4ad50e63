"""What is written about a run when it begins, and the identifier it gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mia_daemon.clock import NS_PER_S

SALTS: Final = 32**5
"""How many values the salt of a run can have."""

_BASE32: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no letter can be mistaken for a digit


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The effective configuration, and its SHA-256."""

    values: dict[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBundle:
    """The models of a run.

    Attributes:
        name, sha256: of the bundle.
        catalogue_sha256: of the feature definitions.
        shown: the features that a trade snapshot contains, each with its index in a decision's feature vector.
    """

    name: str
    sha256: str
    catalogue_sha256: str
    shown: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InstrumentRates:
    """Of the traded instrument, in account currency: the value of one point, commission and fees per side."""

    point_value: float
    cost_per_side: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """What the journal stores about a run.

    Attributes:
        mode: paper, live or replay; the positions of a replay start flat.
        run_id: of the session that is repeated; "" for a run of its own, which gets a new one.
        started_ns: wall clock.
        version: of the program.
        salt: a random number below `SALTS`, which distinguishes runs of different journals that start in one second;
            None where the identifier has to be the same each time, as in a simulation.
        files: size in bytes of each CSV file when the run starts.
    """

    mode: str
    started_ns: int
    version: str
    config: RunConfig
    bundle: RunBundle
    rates: InstrumentRates
    salt: int | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    run_id: str = ""


def make_run_id(started_ns: int, number: int, salt: int | None = None) -> str:
    """The identifier of a run: the second of its start, its number in the journal and its salt; 13 to 16 characters.

    With an order's number and letter it is a client order id, for which servers have room for 31 characters.
    """
    salted = "" if salt is None else _base32(salt).rjust(5, "0")
    return _base32(started_ns // NS_PER_S) + _base32(number) + salted


def _base32(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 32)
        digits = _BASE32[digit] + digits
    return digits or "0"
