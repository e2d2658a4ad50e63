"""Where compiled kernels are kept, so that only the first start compiles."""

import hashlib
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numba

from mia_daemon.features.cache_place import cache_base, make_cache_base
from mia_daemon.features.kernel_source import source_hash
from mia_daemon.records import MARKET_EVENT, empty_events

_NAME: Final = re.compile("[0-9a-f]{16}(-[0-9a-f]{8})?")
_UNUSED_S: Final = 90 * 86_400

_SHARES = (
    ("ta", "l1_state", "ofi", "touch"),
    ("vol", "bar", "flow", "dq"),
    ("level", "clock", "cross"),
    ("cplx", "liq", "depth", "book"),
)
"""Families by compile time, so that each process has about a quarter of it."""

_HOOKS = (
    "on_trade",
    "on_quote",
    "on_depth",
    "on_second",
    "on_silence",
    "on_gap",
    "on_day",
    "on_event",
    "on_reference",
    "emit",
    "tell_touch",
    "tell_reference",
    "clear",
    "set_level",
    "apply",
    "refresh",
    "write_touch",
)


def use_cache(base: Path | None = None) -> Path:
    """Keep compiled kernels under `base`, in a directory of their own for this source and installation; returns it.

    numba looks at the date of a function's own file only, not at those of the functions it calls. A directory named
    by the hash of all kernel sources makes a stale hit impossible. It finds again only what this Python version has
    compiled of files at this place; the directory is named after both, so that what is in it is known to be found. Once
    a base is given it stays, for this process and those it starts.

    Args:
        base: by default $NUMBA_CACHE_DIR, else the user's cache directory.

    Raises:
        StartError: it can't be written, or there is none.
    """
    if base is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(base)
    base = cache_base()
    make_cache_base(base)
    directory = base / f"{source_hash()}-{_installation(Path(__file__).parent)}"
    numba.config.CACHE_DIR = str(directory)  # type: ignore[attr-defined]  # made at run time
    return directory


def _installation(place: Path) -> str:
    """Short hash of the directory of this package and of the Python version, by which numba distinguishes too."""
    return hashlib.sha256(f"{place}|{sys.implementation.cache_tag}".encode()).hexdigest()[:8]


def prepare(say: Callable[[str], None], elapsed_s: Callable[[], float]) -> None:
    """Compile the kernels, or load them where `use_cache` found them compiled; says so when it takes long.

    Args:
        say: told one line before and one after compiling.
        elapsed_s: monotonic clock, seconds.
    """
    from mia_daemon.features.feature_pipeline import FeaturePipeline
    from mia_daemon.products.instruments import instrument

    compiling = not _compiled()
    started = elapsed_s()
    if compiling:
        say("compiling the feature kernels: up to a minute, at the first start only ...")
        _compile_in_parallel()
    FeaturePipeline(instrument("ESZ26_FUT_CME"), 1.0, None, 0.0).push(empty_events(1), 0)
    _remove_unused(_directory())
    if compiling:
        say(f"feature kernels compiled in {elapsed_s() - started:.0f} s")
        if not _compiled():
            say(f"they can't be kept in {_directory()}: set features.cache_dir, or every start compiles them")


def _remove_unused(directory: Path) -> None:
    """Note the use of this directory, and remove those beside it that no start has used for long."""
    try:
        os.utime(directory)
        used_s = directory.stat().st_mtime
        for other in directory.parent.iterdir():
            if _NAME.fullmatch(other.name) and used_s - other.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(other)
    except OSError:  # another start removes it too, or this cache is one that can't be written
        return


def _compiled() -> bool:
    """Whether the cache has the kernels: the engine is written last, so where it is, all that it calls is too."""
    return any(_directory().rglob("engine.run-*.nbi"))


def _directory() -> Path:
    return Path(str(numba.config.CACHE_DIR))  # type: ignore[attr-defined]  # made at run time


def compile_families(names: Sequence[str]) -> None:
    """Compile the hooks of these kernel modules for the types that the engine calls them with."""
    from numba import types

    floats, words = types.float64[::1], types.int64
    typed: dict[str, Any] = {
        "s": floats,
        "m": floats,
        "book": floats,
        "out": types.float32[::1],
        "cal": types.int64[:, ::1],
        "events": numba.from_dtype(MARKET_EVENT)[::1],
    }
    typed |= dict.fromkeys(("t", "sec", "n", "row"), words) | {"side": types.int8, "flags": types.uint16}
    for name in names:
        module = importlib.import_module(f"mia_daemon.features.kernels.{name}")
        for hook in filter(None, (getattr(module, hook, None) for hook in _HOOKS)):
            parameters = inspect.signature(hook.py_func).parameters
            hook.compile(tuple(typed.get(parameter, types.float64) for parameter in parameters))


def _compile_in_parallel() -> None:
    """Fill the cache with all hooks, one process a core; what fails here is compiled, and said, by the caller."""
    cores = min(len(os.sched_getaffinity(0)), len(_SHARES))
    shares = [[name for share in _SHARES[i::cores] for name in share] for i in range(cores)]
    code = "import sys; from mia_daemon.features.cache import compile_families; compile_families(sys.argv[1:])"
    workers = [
        subprocess.Popen(  # noqa: S603  # our own code
            [sys.executable, "-c", code, *share], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for share in shares
    ]
    for worker in workers:
        worker.wait()
