"""The flight recorder: every event that reached the daemon, in order, bit for bit.

It writes raw segments (see `recording`) and begins a new one each full hour. A batch goes to the kernel in one
`write`; what a kill in the middle of one (the kernel gives up between two pages) or a power cut tears is ignored by the
reader and cut off by the next writer. The segment that is being written is claimed (`lock_file`), so that nobody packs
or removes it.
"""

import os
from pathlib import Path
from typing import Final

from mia_daemon import lock_file
from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.feed.recording import (
    HEADER_SIZE,
    PACKED,
    RAW_MAGIC,
    Header,
    open_segment,
    parse_header,
    segment_number,
    segment_path,
    segment_paths,
)
from mia_daemon.private_file import open_file
from mia_daemon.records import MARKET_EVENT, Alert, AlertSink, EventArray, Priority

_HOUR_NS: Final = 3600 * NS_PER_S

MOST_EVENTS: Final = 4_000_000
"""In a segment: 256 MB of rows, so that packing one takes seconds, whatever the market does."""


class Recorder:
    """Appends every batch to the recording in `directory`.

    The hour is that of the events' receipt (`recv_ns`), so it needs no clock.

    A recording is worth less than a position: when the disk refuses a write, the recorder cuts what was torn, raises
    one alert and stops recording; it never stops trading.

    Args:
        directory: of the session, made when missing; a recording that is already there is continued.
        symbol: of the traded instrument, for the reader.
        started_ns: when the session began, wall clock.

    Raises:
        StartError: the file can't be made.
        FileFormatError: the file there is no recording of this layout, or of another symbol.

    Attributes:
        path: of the segment that is being written.
        events: in the recording so far, with those of processes before this one.
    """

    def __init__(self, directory: Path, symbol: str, started_ns: int, on_alert: AlertSink) -> None:
        self.directory = directory
        self.events = 0
        self._symbol = symbol
        self._started_ns = started_ns
        self._on_alert = on_alert
        self._fd = -1
        self._room = MOST_EVENTS  # events that the segment still takes
        self._hour: int | None = None  # of the segment's first batch
        self.path = self._next_path(symbol)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._open(self.path)
        except OSError as error:
            raise StartError(f"{self.path} can't be written: {error.strerror}; check the directory") from error

    def _next_path(self, symbol: str) -> Path:
        """Of the segment to write to: the newest one where it is raw, else the one after it."""
        paths = segment_paths(self.directory)
        if not paths:
            return segment_path(self.directory, 1)
        if paths[-1].suffix != PACKED:
            return paths[-1]
        newest = open_segment(paths[-1])
        _refuse_other(newest.header, symbol, newest.path)
        self.events = newest.end
        return segment_path(self.directory, segment_number(paths[-1]) + 1)

    def _open(self, path: Path) -> None:
        """Continue the segment at `path`, or make it. Raises OSError, FileFormatError."""
        fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            lock_file.claim(fd)
            size = os.fstat(fd).st_size
            count = 0
            if size < HEADER_SIZE and os.pread(fd, len(RAW_MAGIC), 0) == RAW_MAGIC[:size]:
                os.ftruncate(fd, 0)
                os.write(fd, Header(self._symbol, self._started_ns, self.events).as_bytes(RAW_MAGIC))
            else:
                header = parse_header(os.pread(fd, HEADER_SIZE, 0), path)
                _refuse_other(header, self._symbol, path)
                count = (size - HEADER_SIZE) // MARKET_EVENT.itemsize
                os.ftruncate(fd, HEADER_SIZE + count * MARKET_EVENT.itemsize)
                self.events = header.first + count
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self.path, self._fd, self._room, self._hour = path, fd, MOST_EVENTS - count, None

    def append(self, events: EventArray) -> None:
        """Write one batch; it is in the kernel when this returns (about 2 µs plus 64 bytes per event)."""
        if self._fd < 0:
            return
        recv_ns = int(events["recv_ns"][0])
        try:
            self._begin_segment_if_due(recv_ns // _HOUR_NS)
            data = events.tobytes()
            while (written := os.write(self._fd, data)) < len(data):
                data = data[written:]
        except OSError as error:
            self._give_up(error, recv_ns)
        else:
            self.events += len(events)
            self._room -= len(events)

    def _begin_segment_if_due(self, hour: int) -> None:
        if self._hour is None:
            self._hour = hour
        elif hour > self._hour or self._room <= 0:
            self._open(segment_path(self.directory, segment_number(self.path) + 1))
            self._hour = hour

    def _give_up(self, error: OSError, ts_ns: int) -> None:
        size = os.fstat(self._fd).st_size
        os.ftruncate(self._fd, size - (size - HEADER_SIZE) % MARKET_EVENT.itemsize)
        self.close()
        text = f"recording to {self.path} stopped: {error.strerror}; trading goes on, free space and restart to record"
        self._on_alert(Alert(ts_ns, "recording_stopped", Priority.ERROR, text, {"events": self.events}))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _refuse_other(header: Header, symbol: str, path: Path) -> None:
    if header.symbol != symbol:
        raise FileFormatError(f"{path} is a recording of {header.symbol}, not of {symbol}: record to another directory")
