"""Where compiled kernels are kept, so that only the first start compiles."""

import hashlib
import os
from pathlib import Path

import numba


def use_cache(base: Path | None = None) -> Path:
    """Keep compiled kernels under `base`, in a directory of their own for this very source; returns it.

    numba looks at the date of a function's own file only, not at those of the functions it calls. A directory named
    by the hash of all kernel sources makes a stale hit impossible.

    Args:
        base: by default $NUMBA_CACHE_DIR, else the user's cache directory.
    """
    if base is None:
        base = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "mia-daemon" / "numba")
    directory = base / source_hash()
    numba.config.CACHE_DIR = str(directory)  # type: ignore[attr-defined]  # made at run time
    return directory


def source_hash() -> str:
    """First 16 hex digits of the SHA-256 over the kernels' sources."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "kernels").glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
