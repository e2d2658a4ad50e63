"""Reads what is appended to a file of fixed-size records, and notices when the file is not the one it was.

The file is read by `pread`, not mapped: a mapped file that its writer cuts kills the reader with SIGBUS.
"""

import bisect
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import FileFormatError
from mia_daemon.feed.sierra_files import Format, Records, check_header

PIECE_RECORDS: Final = 262_144
"""Read at once while what lies before the place of reading is gone through."""

_UNWRITTEN: Final = 2**63 - 1
"""The time of a record that is not written yet, so that it sorts behind all that are."""


class Tail:
    """A growing `.scid` or `.depth`, read in whole records.

    The file may be missing and appear later. When it was replaced, cut or rewritten, reading goes on behind the newest
    record that was read before, by its time, and leaves out older ones that are appended again; the caller learns of it
    and marks a gap. Zeros at the end are space that is not written yet, as network shares show it, and are awaited.

    Args:
        since_us: begin at the first record of this time or later (Sierra Chart's microseconds); None: only what is
            appended after the file was first seen.

    Attributes:
        trouble: why there is nothing to read, for people; "" while there is a file.
        more: whether the last poll left records behind because of its limit.
        first_index: number in the file of the first record that the last poll read.
    """

    def __init__(self, path: Path, fmt: Format, since_us: int | None) -> None:
        self.path = path
        self.trouble = ""
        self.more = False
        self.first_index = 0
        self._format = fmt
        self._since_us = since_us
        self._newest: tuple[int, int] | None = None  # time of the newest record read, and how many have it
        self._to_skip: int | None = None  # of those, after a change; None once a newer one was met
        self._fd = -1
        self._inode = 0
        self._offset = 0
        self._last = b""  # the record before `_offset`, as it was read
        self._seen = (0, 0)  # size and time of change up to which all was read
        self._latest_us: int | None = None
        self._empty = np.empty(0, fmt.record)

    def poll(self, limit: int, latest_us: int | None = None) -> tuple[Records, str]:
        """Up to `limit` new records, owned by the caller, and how the file was found changed ("" if it was not).

        A record later than `latest_us`, the latest possible time, is read like any other, but it is not what reading
        goes on behind when the file changes: everything up to its time would be left out. None: any time is possible.
        Costs one `stat` (2 µs) when nothing is new. Raises FileFormatError for a foreign file.
        """
        self.more = False
        self._latest_us = latest_us
        try:
            found = os.stat(self.path)  # noqa: PTH116  polled up to a thousand times a second
        except OSError as error:
            return self._empty, self._fail(error)
        change = ""
        if self._fd >= 0 and found.st_ino != self._inode:
            change = self._lose("was replaced")
        elif self._fd >= 0 and found.st_size < self._offset:
            change = self._lose("became shorter")
        if (self._fd < 0 and not self.open()) or (found.st_size, found.st_mtime_ns) == self._seen:
            return self._empty, change
        records, rewritten = self._read(limit, found)
        return records, rewritten or change

    def _read(self, limit: int, found: os.stat_result) -> tuple[Records, str]:
        size = self._format.record.itemsize
        available = max(found.st_size - self._offset, 0) // size
        try:
            data = os.pread(self._fd, (min(available, limit) + 1) * size, self._offset - size)
        except OSError as error:
            return self._empty, self._fail(error)
        if len(data) < size or not data.startswith(self._last):
            return self._empty, self._lose("was rewritten")  # the place is found anew at the next poll
        records = _written(np.frombuffer(data, self._format.record, (len(data) - size) // size, size))
        self.first_index = self.position
        if len(records) == available:
            self._seen = (found.st_size, found.st_mtime_ns)
        self.more = len(records) == limit < available
        if len(records):
            self._offset += records.nbytes
            self._last = records[-1:].tobytes()
        return self._not_read_before(records), ""

    def _not_read_before(self, records: Records) -> Records:
        """What is left once those are taken out that were read before the file changed."""
        if self._to_skip is not None and self._newest is not None:
            time, newest_us = records["time"], self._newest[0]
            newer = np.flatnonzero((time > newest_us) & self._is_possible(time))
            first = int(newer[0]) if len(newer) else len(records)
            same = np.flatnonzero(time[:first] == newest_us)
            records = records[np.concatenate((same[self._to_skip :], np.arange(first, len(records))))]
            self._to_skip = None if len(newer) else max(self._to_skip - len(same), 0)
        self._note_newest(records["time"])
        return records

    def _note_newest(self, time: NDArray[np.int64]) -> None:
        """Remember by time up to where was read: for the case that the place in the file is lost."""
        time = time[self._is_possible(time)]
        if not len(time):
            return
        newest_us = int(time.max())
        known_us, known = self._newest or (newest_us, 0)
        if newest_us >= known_us:
            same = int((time == newest_us).sum())
            self._newest = newest_us, same + (known if newest_us == known_us else 0)

    def _is_possible(self, time: NDArray[np.int64]) -> NDArray[np.bool_]:
        latest_us = _UNWRITTEN if self._latest_us is None else self._latest_us
        return np.asarray(time <= latest_us)

    def _fail(self, error: OSError) -> str:
        """Close what can't be read; polling goes on, as a network share may come back."""
        if isinstance(error, FileNotFoundError):
            self.trouble = "is not there"
            return self._lose("was removed")
        self.trouble = f"can't be read ({error.strerror})"
        return self._lose(f"could not be read ({error.strerror})")

    def _lose(self, how: str) -> str:
        """Close, so that the next poll opens anew behind what was read; `how` is reported once."""
        if self._fd < 0:
            return ""
        self._to_skip = None if self._newest is None else self._newest[1]
        self.close()
        return how

    @property
    def newest_us(self) -> int | None:
        """The newest time read, or passed over when reading began at the end; None before the first record."""
        return None if self._newest is None else self._newest[0]

    @property
    def position(self) -> int:
        """How many records lie before the place of reading."""
        return (self._offset - self._format.header_size) // self._format.record.itemsize

    @property
    def passed(self) -> Records:
        """The last record before the place of reading; none where that is the beginning."""
        return np.frombuffer(self._last, self._format.record)

    @property
    def is_open(self) -> bool:
        """Whether there is a file with a place to read from."""
        return self._fd >= 0

    def open(self) -> bool:
        """Open the file if it is not; whether it is now. Raises FileFormatError for a foreign file."""
        if self._fd >= 0:
            return True
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            header = os.pread(self._fd, self._format.header_size, 0)
            if len(header) == self._format.header_size or header[:4] != self._format.magic[: len(header)]:
                check_header(header, self._format, self.path)
                self._find_place()
                self.trouble = ""
                return True
        except FileFormatError:
            self.close()
            raise
        except OSError as error:
            self._fail(error)
        except struct.error:  # it became shorter under our hands
            self.close()
        else:
            self.close()
            self.trouble = "is still empty"
        return False

    def _find_place(self) -> None:
        state = os.fstat(self._fd)
        size = self._format.record.itemsize
        count = (state.st_size - self._format.header_size) // size
        since_us = self._since_us if self._newest is None else self._newest[0]
        start = bisect.bisect_left(range(count), _UNWRITTEN if since_us is None else since_us, key=self._time_at)
        self._inode = state.st_ino
        self._seen = (0, 0)
        self._offset = self._format.header_size + start * size
        self._last = self._record_at(start - 1) if start else b""
        if since_us is None and start:
            self._note_newest(np.frombuffer(self._last, self._format.record)["time"])

    def _time_at(self, index: int) -> int:
        (time,) = struct.unpack_from("<q", self._record_at(index))
        return int(time) or _UNWRITTEN

    def _record_at(self, index: int) -> bytes:
        size = self._format.record.itemsize
        return os.pread(self._fd, size, self._format.header_size + index * size)

    def before(self) -> Iterator[Records]:
        """The records before the place of reading, oldest first, piece by piece; nothing while there is no file."""
        size = self._format.record.itemsize
        for start in range(self._format.header_size, self._offset, PIECE_RECORDS * size) if self._fd >= 0 else ():
            data = os.pread(self._fd, min(PIECE_RECORDS * size, self._offset - start), start)
            yield np.frombuffer(data, self._format.record, len(data) // size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _written(records: Records) -> Records:
    """Without the zeros at the end."""
    if not len(records) or records["time"][-1]:
        return records
    written = np.flatnonzero(records["time"])
    return records[: int(written[-1]) + 1 if len(written) else 0]
