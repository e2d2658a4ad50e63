"""What every test may use: the real market data beside the project (skipped where absent), compiled kernels' cache."""

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"

# Kernels compiled by one test run serve the next.
os.environ.setdefault("NUMBA_CACHE_DIR", str(PROJECT / "var" / "cache" / "numba"))


def shared_file(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data not present: {path} (it lies beside the project, not in it)")
    return path


@pytest.fixture(scope="session")
def mnq_scid() -> Path:
    """48,737 records written by Sierra Chart."""
    return shared_file("data", "scid", "MNQU21-CME.scid")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"reference material not present: {SHARED} (it lies beside the project, not in it)")
    return SHARED
