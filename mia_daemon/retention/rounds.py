"""A round of housekeeping: pack closed segments, remove what is beyond the limits, and see how long the disk lasts."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mia_daemon.clock import NS_PER_DAY
from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.errors import StartError
from mia_daemon.private_file import replace_file
from mia_daemon.retention.pack import closed_segments, pack
from mia_daemon.retention.plan import Removal, Usage, disk_days_left, removals
from mia_daemon.retention.store import bytes_by_area, limits, remove, stored

MIN_FREE_BYTES: Final = 500_000_000
"""Without so much free space no daemon starts; it is more than a day's journal, logs and recording."""

_PAST_NS: Final = 7 * NS_PER_DAY  # over which growth is measured


@dataclass(slots=True)
class Round:
    """What a round did, or would do.

    Attributes:
        packed: segments, each with the bytes saved.
        removed: what is gone, or would go.
        problems: sentences; each is about one file, the others were taken care of.
    """

    packed: dict[Path, int] = field(default_factory=dict)
    removed: list[Removal] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def freed_bytes(self) -> int:
        """By removal."""
        return sum(removal.stored.bytes for removal in self.removed)


def pack_segments(paths: VarPaths, done: Round) -> Iterator[Path]:
    """Pack one closed segment after another; yields each before it is packed."""
    for raw in closed_segments(paths.recordings):
        yield raw
        try:
            done.packed[raw] = pack(raw)
        except StartError as error:
            done.problems.append(str(error))


def choose_removals(paths: VarPaths, settings: RetentionSettings, now_ns: int) -> list[Removal]:
    """What is beyond the limits now."""
    return [
        removal for area, limit in limits(settings).items() for removal in removals(stored(paths, area), limit, now_ns)
    ]


def remove_all(chosen: list[Removal], done: Round) -> None:
    """Remove what was chosen; what can't be removed is a problem, and the rest goes on."""
    for removal in chosen:
        try:
            remove(removal.stored)
            done.removed.append(removal)
        except OSError as error:
            done.problems.append(f"{removal.stored.path} can't be removed: {error.strerror}; check its owner")


# The disk.


@dataclass(frozen=True, slots=True)
class Disk:
    """How the disk of var/ stands.

    Attributes:
        days_left: at the growth of the last week; infinite where pruning keeps up, None while that is not known yet.
    """

    var_bytes: int
    free_bytes: int
    days_left: float | None

    def facts(self) -> dict[str, Any]:
        """For JSON, which has no infinity: `lasts` says it."""
        lasts = self.days_left is not None and math.isinf(self.days_left)
        days = None if self.days_left is None or lasts else round(self.days_left, 1)
        return {"var_bytes": self.var_bytes, "free_bytes": self.free_bytes, "days_left": days, "lasts": lasts}


def measure_disk(paths: VarPaths, settings: RetentionSettings, now_ns: int) -> Disk:
    """Measure what var/ takes, and remember it for the next rounds."""
    areas = bytes_by_area(paths.root)
    usages = [*_read_usages(paths.disk_usage, now_ns), Usage(now_ns, areas)]
    content = json.dumps([[usage.ts_ns, usage.bytes] for usage in usages]).encode()
    with suppress(OSError):  # a full disk: the growth is measured from the next round on
        replace_file(paths.disk_usage, [content])
    free = shutil.disk_usage(paths.root).free
    most = {
        area: limit.bytes for area, limit in limits(settings).items() if area != "logs"
    }  # those in use are not pruned
    return Disk(sum(areas.values()), free, disk_days_left(usages, free, most, MIN_FREE_BYTES))


def _read_usages(path: Path, now_ns: int) -> list[Usage]:
    """Of the recent past; none where the file can't be read, as it can be measured again."""
    try:
        found = [Usage(int(ts_ns), dict(areas)) for ts_ns, areas in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError, RecursionError):
        return []
    return [usage for usage in found if now_ns - _PAST_NS <= usage.ts_ns < now_ns]


def disk_text(facts: dict[str, Any]) -> str:
    """`Disk.facts` in a line."""
    size, free = facts["var_bytes"] / 1e9, facts["free_bytes"] / 1e9
    if facts["lasts"]:
        left = "lasts, as it grows"
    elif facts["days_left"] is None:
        left = "how long that lasts is known after six hours"
    else:
        left = f"full in about {facts['days_left']:.0f} days"
    return f"disk: {size:.1f} GB written, {free:.1f} GB free, {left}"
