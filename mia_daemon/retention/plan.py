"""Which files are to be removed: a function of their sizes and ages. Nothing here touches a file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mia_daemon.clock import NS_PER_DAY

BYTES_PER_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Stored:
    """What is kept or removed as a whole: a file, or the directory of a recording.

    Attributes:
        bytes: that it takes on the disk.
        modified_ns: when it was last written, wall clock.
        in_use: it is being written, or is marked to be kept: never removed.
    """

    path: Path
    bytes: int
    modified_ns: int
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """By age and by size; None: by neither."""

    days: int | None = None
    gigabytes: float | None = None

    @property
    def bytes(self) -> float:
        return float("inf") if self.gigabytes is None else self.gigabytes * BYTES_PER_GB


@dataclass(frozen=True, slots=True)
class Removal:
    """`why` is for people."""

    stored: Stored
    why: str


def removals(stored: Iterable[Stored], limit: Limit, now_ns: int) -> list[Removal]:
    """What to remove, oldest first: all that is too old, then the oldest of the rest until it fits.

    What is in use counts towards the size. A file that is dated in the future is taken as new.
    """
    oldest_first = sorted(stored, key=lambda each: (each.modified_ns, each.path))
    total = sum(each.bytes for each in oldest_first)
    chosen = []
    for each in oldest_first:
        if each.in_use:
            continue
        if limit.days is not None and now_ns - each.modified_ns > limit.days * NS_PER_DAY:
            why = f"older than {limit.days} days"
        elif total > limit.bytes:
            why = f"more than {limit.gigabytes:g} GB are kept"
        else:
            continue
        chosen.append(Removal(each, why))
        total -= each.bytes
    return chosen


# How long the disk lasts.


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes by area (recordings, logs, ...) at one time, wall clock."""

    ts_ns: int
    bytes: dict[str, int]


MIN_SPAN_NS: Final = NS_PER_DAY // 4
"""Growth over less time says little: an hour may be a night's or a morning's."""


def disk_days_left(
    usages: Sequence[Usage], free_bytes: int, most_bytes: dict[str, float], wanted_free_bytes: int = 0
) -> float | None:
    """Days until the disk is full at the growth of the usages; infinite when it never is, None when it isn't known yet.

    Args:
        usages: by time; from the first to the last is the recent past.
        free_bytes: at the last of them.
        most_bytes: of areas that are pruned by size: there growth ends.
        wanted_free_bytes: less than this counts as full.
    """
    if not usages or usages[-1].ts_ns - usages[0].ts_ns < MIN_SPAN_NS:
        return None
    first, last = usages[0], usages[-1]
    days = (last.ts_ns - first.ts_ns) / NS_PER_DAY
    growing: list[tuple[float, float]] = []  # days until the area is full, bytes a day
    for area, size in last.bytes.items():
        per_day = (size - first.bytes.get(area, 0)) / days
        if per_day > 0:
            growing.append(((most_bytes.get(area, float("inf")) - size) / per_day, per_day))
    left, passed = float(max(free_bytes - wanted_free_bytes, 0)), 0.0
    for full_after, _ in sorted(growing):
        per_day = sum(rate for ends, rate in growing if ends > passed)
        if per_day <= 0 or left <= (full_after - passed) * per_day:
            break
        step = max(full_after - passed, 0.0)
        left, passed = left - step * per_day, max(full_after, passed)
    per_day = sum(rate for ends, rate in growing if ends > passed)
    return passed + left / per_day if per_day > 0 else float("inf")
