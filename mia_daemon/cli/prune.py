"""`mia-daemon prune`: what the daemon does every hour by itself, now; with --dry-run, only what it would be."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import add_common, load_settings, var_paths
from mia_daemon.config import Mode, RetentionSettings, VarPaths
from mia_daemon.printable import printable

if TYPE_CHECKING:
    from mia_daemon.journal.pruning import Kept
    from mia_daemon.retention.plan import Removal


def add(commands: Any) -> None:
    about = "pack recordings, and remove what [retention] does not keep"
    parser = commands.add_parser("prune", help=about, description=about)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done, and what it would free")
    add_common(parser)
    parser.set_defaults(command=_prune)


def _prune(options: argparse.Namespace) -> int:
    from mia_daemon import lock_file
    from mia_daemon.clock import WallClock
    from mia_daemon.errors import StartError
    from mia_daemon.journal.pruning import Kept

    settings, paths = load_settings(options).retention, var_paths(options)
    now_ns = WallClock().now_ns()
    kept = Kept.at(now_ns, settings)
    if options.dry_run:
        _print(_would(paths, settings, now_ns))
        _print(_journals(paths, kept, dry_run=True))
        return 0
    if not paths.root.is_dir():
        raise StartError(f"{paths.root} is not there: name the directory with --var DIR")
    try:
        lock = lock_file.hold(paths.prune_lock)
    except lock_file.InUse as error:
        raise StartError(
            f"{paths.root} is being pruned: {paths.prune_lock} is {error}; wait until it has ended"
        ) from error
    except OSError as error:
        raise StartError(f"{paths.prune_lock} can't be written: {error.strerror}; check its owner") from error
    try:
        problems = _do(paths, settings, now_ns)
        _print(_journals(paths, kept, dry_run=False))
    finally:
        os.close(lock)
    _print(problems)
    return 1 if problems else 0


def _print(lines: "Iterator[str] | list[str]") -> None:
    for line in lines:
        print(printable(line), flush=True)


def _would(paths: VarPaths, settings: RetentionSettings, now_ns: int) -> Iterator[str]:
    from mia_daemon.retention.pack import closed_segments
    from mia_daemon.retention.rounds import choose_removals

    raw = closed_segments(paths.recordings)
    yield f"would pack {len(raw)} segments of recordings, {_size(sum(path.stat().st_size for path in raw))}"
    chosen = choose_removals(paths, settings, now_ns)
    yield from (_line("would remove", removal) for removal in chosen)
    yield f"would remove {len(chosen)} files and recordings, {_size(sum(each.stored.bytes for each in chosen))}"


def _do(paths: VarPaths, settings: RetentionSettings, now_ns: int) -> list[str]:
    from mia_daemon.retention.rounds import Round, choose_removals, pack_segments, remove_all

    done = Round()
    for raw in pack_segments(paths, done):
        print(printable(f"packing {raw}"), flush=True)
    print(f"packed {len(done.packed)} segments of recordings, {_size(sum(done.packed.values()))} freed")
    remove_all(choose_removals(paths, settings, now_ns), done)
    _print([_line("removed", removal) for removal in done.removed])
    print(f"removed {len(done.removed)} files and recordings, {_size(done.freed_bytes)} freed")
    return done.problems


def _line(verb: str, removal: "Removal") -> str:
    return f"{verb} {removal.stored.path}  {_size(removal.stored.bytes)}  {removal.why}"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**8 else f"{count / 1e6:.2f} MB"


def _journals(paths: VarPaths, kept: "Kept", *, dry_run: bool) -> Iterator[str]:
    for mode in Mode:
        path = paths.journal(mode)
        if path.is_file():
            yield f"{path}: {_journal(path, kept, dry_run=dry_run)}"


def _journal(path: Path, kept: "Kept", *, dry_run: bool) -> str:
    from mia_daemon.errors import JournalError
    from mia_daemon.journal import pruning
    from mia_daemon.journal.schema import VERSION
    from mia_daemon.journal.view import JournalView
    from mia_daemon.journal.writer import Journal

    with JournalView(path) as view:
        if view.version != VERSION:
            return f"left as it is, version {view.version}: the next start of its daemon migrates it"
        if dry_run:
            return f"would remove {_rows(pruning.walk(lambda place: view.look(place, kept, _AT_ONCE)))}"
    try:
        journal = Journal(path, durable=True)
    except JournalError as error:
        return f"left to its daemon, which prunes it as it runs ({error})"
    try:
        removed = pruning.walk(lambda place: journal.prune(place, kept, _AT_ONCE))
    finally:
        journal.close()
    return f"removed {_rows(removed)}; the file keeps its size, and the room is used again"


_AT_ONCE = 5_000


def _rows(pruned: Any) -> str:
    return f"{pruned.holds:,} decisions to hold and the features of {pruned.features:,} others"
