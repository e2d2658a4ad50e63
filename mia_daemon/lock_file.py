"""Lock files: one process at a time has what they stand for. The lock goes with the process, however that ends.

`claim` and `is_claimed` are for data files: the question whether one is claimed takes no lock, which could keep its
writer out for a moment.
"""

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from mia_daemon.private_file import open_file


class InUse(Exception):
    """Another process holds the lock; `holder` names it, for people."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"in use by process {holder}")
        self.holder = holder


def hold(path: Path) -> int:
    """Hold the lock file `path`, made where missing: a descriptor, and the lock is let go of when that is closed.

    Raises:
        InUse: another process has it.
        OSError: the file can't be made or locked, or is not a lock file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        raise InUse(holder or "unknown") from None
    except OSError:
        os.close(lock)
        raise
    content = os.pread(lock, 32, 0).strip()
    if content and not content.isdigit():
        os.close(lock)
        raise OSError(errno.EINVAL, "it is no lock file; move it away", str(path))
    with suppress(OSError):  # a full disk: the name is only for people
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


_FLOCK: Final = struct.Struct("hhqqi4x")  # Linux's struct flock: type, whence, start, length, process


def claim(file: int) -> None:
    """Claim the open file until its descriptor is closed. Raises BlockingIOError where another has, OSError."""
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


def is_claimed(path: Path) -> bool:
    """Whether anyone has claimed the file. Raises OSError when it can't be opened."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(file)
    return int(_FLOCK.unpack(answer)[0]) != fcntl.F_UNLCK
