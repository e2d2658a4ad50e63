"""Files that are only appended to, while people and programs may move, shorten or rewrite them.

They are for people and never forbid trading: what can't be continued is set aside under another name and a new file
begun; what can't be written is reported and tried again. Nothing here raises an error of the file system.
"""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mia_daemon.clock import WallClock, file_stamp
from mia_daemon.errors import FileAltered
from mia_daemon.private_file import open_file

FileNotice = Callable[[str, str], None]
"""Called with the code of an alert, one of those below, and one sentence."""

SET_ASIDE: Final = "file_set_aside"
NOT_WRITTEN: Final = "file_not_written"
REOPENED: Final = "file_reopened"

_IN_THE_WAY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.EINVAL, errno.ENXIO})
"""Errors of opening that are about what lies under the name, which may be moved; others are about the disk."""


def set_aside(path: Path, reason: str, notify: FileNotice) -> Path:
    """Rename what lies under `path`, whatever it is, so that a new file can be begun; returns where it lies now.

    Args:
        path: of a file, a directory or a link; a link itself is renamed.
        reason: why, as the predicate of a sentence about the path.
        notify: called with the notice of it.

    Raises:
        OSError: it can't be renamed.
    """
    aside = path.with_name(f"{path.name}.{file_stamp(WallClock().now_ns())}")
    path.rename(aside)
    notify(SET_ASIDE, f"{path} {reason}: it was set aside as {aside.name}, and a new file begun")
    return aside


def make_directory(path: Path, notify: FileNotice) -> None:
    """Make a directory where there is none; a file in its place is set aside.

    Raises:
        OSError: it can't be made.
    """
    if os.path.lexists(path) and not path.is_dir():
        set_aside(path, "is no directory", notify)
    path.mkdir(parents=True, exist_ok=True)


def open_to_append(path: Path, notify: FileNotice) -> int:
    """A descriptor of the file, made with its directory; what is in its way is set aside.

    Raises:
        OSError: it can't be opened: no space, no permission to its directory.
    """
    make_directory(path.parent, notify)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    try:
        return open_file(path, flags)
    except OSError as error:
        if error.errno not in _IN_THE_WAY or not os.path.lexists(path):
            raise
        set_aside(path, f"can't be opened ({error.strerror})", notify)
        return open_file(path, flags)


class AppendedFile(ABC):
    """Appends whole lines to a file, one `write` each, so that a killed process leaves whole lines.

    Args:
        path: of the file; it is made with its directory.
        notify: called when it was set aside, reopened or not written.
    """

    def __init__(self, path: Path, notify: FileNotice) -> None:
        self.path = path
        self._notify = notify
        self._fd = -1
        self._left: tuple[int, int, int] | None = None  # device, inode and size, as after our last write
        self._failing = False  # reported already
        self.reopen()

    def reopen(self) -> None:
        """Open what is under the name now; what can't be continued is set aside first."""
        self.close()
        try:
            self._fd = open_to_append(self.path, self._notify)
            try:
                self._prepare(self._fd)
            except FileAltered as reason:
                self.close()
                set_aside(self.path, str(reason), self._notify)
                self._fd = open_to_append(self.path, self._notify)
                self._prepare(self._fd)
            self._mark()
        except OSError as error:
            self.close()
            self._fail(error)
        else:
            self._recover()

    def start_over(self, reason: str) -> None:
        """Set the file aside and begin a new one; `reason` is the predicate of a sentence about it."""
        self.close()
        try:
            set_aside(self.path, reason, self._notify)
        except OSError as error:
            self._fail(error)
        self.reopen()

    @abstractmethod
    def _prepare(self, fd: int) -> None:
        """Make an open file ready to be continued. Raises FileAltered where its contents can't be."""

    def _begins_well(self, _fd: int) -> bool:
        """Whether the first line is as it was left: a change that keeps the size is noticed by it."""
        return True

    @abstractmethod
    def _on_torn(self, fd: int, written: int) -> None:
        """Deal with a line of which the disk took `written` bytes only."""

    def check(self) -> None:
        """Continue in what is under the name, where the file was moved, shortened or rewritten; once a second."""
        if self._left is None:
            self.reopen()
            return
        try:
            found = os.lstat(self.path)
        except OSError:
            change = "was moved or deleted"
        else:
            if (found.st_dev, found.st_ino, found.st_size) == self._left and self._begins_well(self._fd):
                return
            device, inode, size = self._left
            moved = (found.st_dev, found.st_ino) != (device, inode)
            change = "was replaced" if moved else "was shortened" if found.st_size < size else "was written by others"
        self.reopen()
        if self._left is not None:
            self._notify(REOPENED, f"{self.path} {change} while the daemon ran: it was opened again")

    def _write(self, data: bytes) -> bool:
        """Append `data`; False when the disk did not take all of it."""
        if self._fd < 0:
            return False
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                self._on_torn(self._fd, written)
                self._mark()
                self._fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
                return False
        except OSError as error:
            self._fail(error)
            return False
        if self._left is not None:
            device, inode, size = self._left
            self._left = device, inode, size + written
        self._recover()
        return True

    def _mark(self) -> None:
        status = os.fstat(self._fd)
        self._left = status.st_dev, status.st_ino, status.st_size

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._notify(NOT_WRITTEN, f"{self.path} can't be written: {error.strerror}; make room or check its owner")

    def _recover(self) -> None:
        if self._failing:
            self._failing = False
            self._notify(REOPENED, f"{self.path} can be written again")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._left = None
