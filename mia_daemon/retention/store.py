"""The files below var/ that may be removed, what they take on the disk, and their removal."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from mia_daemon import lock_file
from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.execution.tape_file import FILE_NAME as TAPE
from mia_daemon.feed.recording import RAW, segment_paths
from mia_daemon.retention.plan import Limit, Stored

KEEP: Final = "keep"
"""A file of this name in a recording's directory: it is never removed."""

_ROTATED: Final = re.compile(
    r".+\.(?:log|csv|jsonl|txt)[.-].+|.+-[0-9]{8}(?:-[0-9]+)?\.(?:log|csv|jsonl|txt)(?:\.\w+)?"
)
"""As logrotate names them: `live_trading.log.1`, `live_trading.log-20261201.gz`, `live_trading-20261201.log`."""

_BLOCK: Final = 512  # bytes; st_blocks counts in these on every file system


def limits(settings: RetentionSettings) -> dict[str, Limit]:
    """By the directory below var/ that each is about."""
    return {
        "recordings": Limit(settings.recordings_days, settings.recordings_gb),
        "logs": Limit(settings.logs_days, settings.logs_gb),
        "reports": Limit(settings.reports_days, settings.reports_gb),
        "risk_snapshots": Limit(settings.risk_snapshots_days, settings.risk_snapshots_gb),
    }


def stored(paths: VarPaths, area: str) -> list[Stored]:
    """What `removals` may choose from in an area of `limits`; what is not there, or not ours to read, is left out."""
    if area == "recordings":
        return _recordings(paths.recordings)
    files = _files(paths.root / area)
    if area == "logs":
        files = (file for file in files if _ROTATED.fullmatch(file.path.name))
    return list(files)


def _recordings(directory: Path) -> list[Stored]:
    """The newest counts as in use: a daemon that starts has made it, and may not have begun to write."""
    found = []
    for path in _directories(directory):
        files = list(_files(path))
        newest_ns = max((file.modified_ns for file in files), default=path.lstat().st_mtime_ns)
        found.append(Stored(path, sum(file.bytes for file in files), newest_ns, _is_in_use(path)))
    newest = max(found, key=lambda each: each.modified_ns, default=None)
    return [Stored(each.path, each.bytes, each.modified_ns, in_use=True) if each is newest else each for each in found]


def _is_in_use(recording: Path) -> bool:
    if (recording / KEEP).exists():
        return True
    raw = [path for path in (*segment_paths(recording), recording / TAPE) if path.suffix == RAW and path.exists()]
    try:
        return any(lock_file.is_claimed(path) for path in raw)
    except OSError:  # when in doubt it stays
        return True


def _directories(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:  # not made yet
        return []


def _files(directory: Path) -> Iterator[Stored]:
    """All plain files below the directory; symbolic links are not followed."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            with suppress(FileNotFoundError):  # removed meanwhile
                status = path.lstat()
                if not path.is_symlink():
                    yield Stored(path, status.st_blocks * _BLOCK, status.st_mtime_ns)


def bytes_by_area(root: Path) -> dict[str, int]:
    """What each directory below var/ takes on the disk; under "" the files beside them."""
    areas: dict[str, int] = {}
    for file in _files(root):
        area, *inside = file.path.relative_to(root).parts
        area = area if inside else ""
        areas[area] = areas.get(area, 0) + file.bytes
    return areas


def remove(each: Stored) -> None:
    """Remove a file, or the directory of a recording. Raises OSError; what is gone already is no error."""
    with suppress(FileNotFoundError):
        if each.path.is_dir() and not each.path.is_symlink():
            shutil.rmtree(each.path)
        else:
            each.path.unlink()
