"""A backup of what a daemon needs to go on: taken while it runs, complete or not there at all.

The directory has the layout of `var/` and is a `var/` to start from. Not in it are what the journal can write again
(`mia-daemon journal export`), what others made (configuration, bundle, prices), and the arm file: people arm.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from mia_daemon import __version__
from mia_daemon.clock import iso_utc
from mia_daemon.config import Mode, VarPaths
from mia_daemon.database_copy import copy_database, is_sound, open_snapshot, read_unchanging, sync
from mia_daemon.errors import JournalError, StartError, UsageError
from mia_daemon.journal.file import explain
from mia_daemon.journal.pending_latches import pending_path
from mia_daemon.model.memory_file import FILE_NAME as MEMORY_FILE
from mia_daemon.new_directory import new_directory
from mia_daemon.ops.alert_manager import UNACKNOWLEDGED_PATH
from mia_daemon.private_file import open_file, replace_file

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Copied:
    """One file of a backup: its path below the directory, its size in bytes, its SHA-256."""

    name: str
    size: int
    sha256: str


def back_up(paths: VarPaths, directory: Path, now_ns: int) -> list[Copied]:
    """Copy to `directory`, which has to be new or empty; every database is as it was at one moment, and is checked.

    The simulator's state is copied after the journals, so that it never lacks an order that a journal has.

    Args:
        paths: of the daemon, which may be running.
        directory: where to; it appears complete or not at all.
        now_ns: wall clock, for the manifest.

    Raises:
        UsageError: there is no journal, or the directory holds something already.
        JournalError, StartError: a file can't be read, copied or written, or a copy is not sound.
    """
    journals = [path for mode in Mode if (path := paths.journal(mode)).is_file()]
    if not journals:
        raise UsageError(
            f"there is no journal below {paths.root}: nothing ran there yet; name its directory with --var"
        )
    with new_directory(directory) as part:
        for file in _plain_files(paths, journals):
            _copy_file(file, _place(paths, file, part))
        for database in (*journals, paths.root / MEMORY_FILE):
            if database.is_file():
                _copy_database(database, _place(paths, database, part))
        if paths.simulator_state.is_file():
            _copy_simulator(paths, part)
        copied = [_copied(part, file) for file in sorted(part.rglob("*")) if file.is_file()]
        manifest = {"version": __version__, "time": iso_utc(now_ns), "files": list(map(asdict, copied))}
        replace_file(part / MANIFEST, [json.dumps(manifest, indent=1).encode(), b"\n"])
        for place in (part / MANIFEST, *(place for place in part.rglob("*") if place.is_dir()), part):
            sync(place)
    sync(directory.resolve().parent)
    return copied


def check_backup(directory: Path) -> list[Copied]:
    """Compare a backup with its manifest; returns what is in it.

    Raises:
        UsageError: it is no backup, or a file is missing or not as it was when the backup was made.
    """
    manifest = directory / MANIFEST
    try:
        copied = [Copied(**one) for one in json.loads(manifest.read_bytes())["files"]]
        wrong = [one.name for one in copied if _copied(directory, directory / one.name) != one]
    except FileNotFoundError as error:
        raise UsageError(f"{directory} is no whole backup: {error.filename} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{directory} is no backup: {manifest} can't be read ({error})") from error
    if wrong:
        raise UsageError(f"{directory} is damaged: not as it was when the backup was made: {', '.join(wrong)}")
    return copied


def _plain_files(paths: VarPaths, journals: list[Path]) -> Iterator[Path]:
    """Small files that are replaced as a whole, or whose last line may be torn."""
    latches = map(pending_path, journals)
    features = sorted(paths.features.glob("*.bin"))
    for file in (*latches, *features, paths.root / UNACKNOWLEDGED_PATH, paths.kill_file):
        if file.is_file():
            yield file


def _place(paths: VarPaths, file: Path, part: Path) -> Path:
    place = part / file.relative_to(paths.root)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _copy_file(file: Path, place: Path) -> None:
    with file.open("rb") as source:
        _write(place, iter(partial(source.read, 1 << 20), b""))


def _write(place: Path, content: Iterable[bytes]) -> None:
    with os.fdopen(open_file(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())


def _copy_database(database: Path, place: Path) -> None:
    try:
        db = open_snapshot(database)
        try:
            copy_database(db, place)
        finally:
            db.close()
        _check(database, place)
    except sqlite3.Error as error:
        raise explain(database, error) from error


def _check(database: Path, place: Path) -> None:
    if not is_sound(place):
        raise JournalError(f"{database} is damaged: `mia-daemon journal verify` says where; no backup was made")
    sync(place)


def _copy_simulator(paths: VarPaths, part: Path) -> None:
    """A running simulator lets nobody open its database: the files are read until they stand still."""
    state = paths.simulator_state
    log = state.with_name(f"{state.name}-wal")
    found = read_unchanging([state, log, state.with_name("orders.jsonl")])
    if found is None:
        raise StartError(f"{state} changes faster than it can be copied: stop the daemon, or lower simulator.speed")
    for file, content in found.items():
        _write(_place(paths, file, part), [content])
    place = _place(paths, state, part)
    try:
        db = sqlite3.connect(place, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = DELETE")  # takes in what the log beside it has
        finally:
            db.close()
        _check(state, place)
    except sqlite3.Error as error:
        raise explain(state, error) from error


def _copied(directory: Path, file: Path) -> Copied:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Copied(str(file.relative_to(directory)), file.stat().st_size, digest)
