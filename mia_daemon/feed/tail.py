"""Reads what is appended to a file of fixed-size records, and notices when the file is not the one it was."""

import bisect
import os
import struct
from pathlib import Path
from typing import Final

import numpy as np

from mia_daemon.errors import FileFormatError
from mia_daemon.feed.sierra_files import Format, Records, check_header


class Tail:
    """A growing `.scid` or `.depth`, read in whole records.

    The file may be missing and appear later. When it was replaced, cut or rewritten, reading goes on behind the newest
    record that was read before, by its time; the caller learns of it and marks a gap.

    Args:
        since_us: begin at the first record of this time or later (Sierra Chart's microseconds); None: only what is
            appended after the file was first seen.
    """

    def __init__(self, path: Path, fmt: Format, since_us: int | None) -> None:
        self.path = path
        self._format = fmt
        self._since_us = since_us
        self._fd = -1
        self._inode = 0
        self._offset = 0
        self._last = b""  # the record before `_offset`, as it was read
        self._empty = np.empty(0, fmt.record)

    @property
    def missing(self) -> bool:
        """Whether there was no file, or no whole header in it, when last polled."""
        return self._fd < 0

    def poll(self, limit: int) -> tuple[Records, str]:
        """Up to `limit` new records, owned by the caller, and how the file was found changed ("" if it was not).

        Costs one `stat` (2 µs) when nothing is new. Raises FileFormatError for a foreign file.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116  polled up to a thousand times a second
        except FileNotFoundError:
            return self._empty, self._lose("was removed")
        except OSError as error:
            raise FileFormatError(f"{self.path} can't be read: {error.strerror}; check its permissions") from error
        change = ""
        if self._fd >= 0 and found.st_ino != self._inode:
            change = self._lose("was replaced")
        elif self._fd >= 0 and found.st_size < self._offset:
            change = self._lose("became shorter")
        if self._fd < 0 and not self._open():
            return self._empty, change
        size = self._format.record.itemsize
        available = (os.fstat(self._fd).st_size - self._offset) // size
        if available <= 0:
            return self._empty, change
        data = os.pread(self._fd, (min(available, limit) + 1) * size, self._offset - size)
        if self._last and not data.startswith(self._last):
            # Rewritten in place: find the place anew, read on at the next poll.
            change = self._lose("was rewritten")
            return self._empty, change
        return self._take(data[size : len(data) - len(data) % size]), change

    def _take(self, data: bytes) -> Records:
        if not data:
            return self._empty
        self._offset += len(data)
        self._last = data[-self._format.record.itemsize :]
        return np.frombuffer(data, self._format.record)

    def _lose(self, how: str) -> str:
        """Close, so that the next poll opens anew behind what was read; `how` is reported once."""
        if self._fd < 0:
            return ""
        if self._last:
            (newest_us,) = struct.unpack_from("<q", self._last)
            self._since_us = newest_us + 1
        self.close()
        return how

    def _open(self) -> bool:
        """Whether the file could be opened and has a whole header; sets the place to read from."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FileFormatError(f"{self.path} can't be read: {error.strerror}; check its permissions") from error
        header = os.pread(fd, self._format.header_size, 0)
        try:
            if len(header) == self._format.header_size or header[:4] != self._format.magic[: len(header)]:
                check_header(header, self._format, self.path)
        except FileFormatError:
            os.close(fd)
            raise
        if len(header) < self._format.header_size:
            os.close(fd)
            return False
        self._fd = fd
        try:
            self._find_place()
        except struct.error:  # it became shorter under our hands
            self.close()
            return False
        return True

    def _find_place(self) -> None:
        state = os.fstat(self._fd)
        size = self._format.record.itemsize
        count = (state.st_size - self._format.header_size) // size
        start = count if self._since_us is None else bisect.bisect_left(range(count), self._since_us, key=self._time_at)
        self._inode = state.st_ino
        self._offset = self._format.header_size + start * size
        self._last = self._record_at(start - 1) if start else b""

    def _time_at(self, index: int) -> int:
        return int(struct.unpack_from("<q", self._record_at(index))[0])

    def _record_at(self, index: int) -> bytes:
        size = self._format.record.itemsize
        return os.pread(self._fd, size, self._format.header_size + index * size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


POLL_FIRST_S: Final = 0.001
POLL_LAST_S: Final = 0.020
"""Waits between polls: short behind new records, doubling to the longest in silence."""
