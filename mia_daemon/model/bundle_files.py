"""The files of a bundle's directory, each opened once: what is hashed is what is loaded."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from mia_daemon.errors import BundleError

MAX_FILES: Final = 64
MAX_BYTES: Final = 64 << 20
"""Of one file; the largest that ships has 20 kB."""


def read_directory(directory: Path, needed: str) -> dict[str, bytes]:
    """The content of every file by name. `directory` may be a symbolic link, what lies in it may not.

    Args:
        directory: of a bundle.
        needed: the file without which it is none.

    Raises:
        BundleError: it can't be read, `needed` is missing, or something in it is no plain file of a sensible size.
    """
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            names = sorted(os.listdir(place))  # noqa: PTH208  of the open directory, whatever its path leads to by then
            if needed not in names:
                raise FileNotFoundError(errno.ENOENT, f"it has no {needed}")
            if len(names) > MAX_FILES:
                raise BundleError(f"{directory} has {len(names)} files, no bundle has more than {MAX_FILES}")
            return {name: _read(directory / name, place) for name in names}
        finally:
            os.close(place)
    except OSError as error:
        raise BundleError(
            f"model bundle {directory} can't be read ({error.strerror}): "
            "set model.bundle to a bundle's directory, or leave it out for the baseline that ships with the package"
        ) from error


def _read(path: Path, place: int) -> bytes:
    """The content of the file of that name in the open directory `place`."""
    try:
        # Without O_NONBLOCK opening a named pipe waits for a writer.
        file = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            with os.fdopen(file, "rb", closefd=False) as opened:
                data = opened.read(MAX_BYTES + 1)
        finally:
            os.close(file)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise BundleError(
            f"model bundle file {path} can't be read ({reason}): copy the bundle again, whole, as plain files"
        ) from error
    if len(data) > MAX_BYTES:
        raise BundleError(f"model bundle file {path} has more than {MAX_BYTES >> 20} MiB: export a smaller network")
    return data
