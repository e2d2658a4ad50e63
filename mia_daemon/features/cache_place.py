"""Where compiled kernels are kept: found, and checked, without loading the compiler."""

import os
import tempfile
from pathlib import Path

from mia_daemon.errors import StartError

REMEDY = "set features.cache_dir to a directory that this user can write"


def cache_base(configured: Path | None = None) -> Path:
    """The directory of all compiled kernels: the configured one, else $NUMBA_CACHE_DIR, else the user's cache.

    Raises:
        StartError: this user has no home directory, and nothing else is set.
    """
    if configured is not None:
        return configured
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "mia-daemon" / "numba"
    except RuntimeError:
        raise StartError(
            f"compiled kernels are kept in the user's cache, and this user has no home directory: {REMEDY}"
        ) from None


def make_cache_base(base: Path) -> None:
    """Make the directory, and try that it can be written: numba would keep kernels elsewhere, or refuse to start.

    Raises:
        StartError: it can't be.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=base):
            pass
    except OSError as error:
        raise StartError(f"compiled kernels can't be kept in {base}: {error.strerror}; {REMEDY}") from error
