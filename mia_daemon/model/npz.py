"""The numpy archives of a bundle: plain arrays, of a bounded size, never a pickle."""

import io
import zipfile
import zlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import BundleError

MAX_BYTES: Final = 64 << 20
"""Unpacked; the shipped archives have less than one MiB."""


def read_arrays(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays in `data`, by name; `what` names it in the message.

    Raises:
        BundleError: it is no archive of arrays, or a larger one than MAX_BYTES.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise BundleError(
                f"{what} unpacked has {unpacked >> 20} MiB, {MAX_BYTES >> 20} are allowed: make the bundle again"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    # An array that claims to be larger than memory is a MemoryError: it is allocated before it is read.
    except (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{what} is no numpy archive ({error}): make the bundle again") from error
