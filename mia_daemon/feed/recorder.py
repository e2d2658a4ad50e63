"""The flight recorder: every event that reached the daemon, in order, bit for bit.

A recording is one file: a header of 4096 bytes (magic, then JSON that names the columns, the instrument and the start),
then rows of MARKET_EVENT. A batch goes to the kernel in one `write`; what a kill in the middle of one (the kernel gives
up between two pages) or a power cut tears is ignored by the reader and cut off by the next writer.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.private_file import open_file
from mia_daemon.records import MARKET_EVENT, Alert, AlertSink, EventArray, Priority

MAGIC = b"MIAEVENT"
HEADER_SIZE = 4096
FILE_NAME = "events.bin"


class Recorder:
    """Appends every batch to `directory`/events.bin.

    A recording is worth less than a position: when the disk refuses a write, the recorder cuts what was torn, says so
    in one alert and stops recording; it never stops trading.

    Args:
        directory: of the session, made when missing; a recording that is already there is continued.
        symbol: of the traded instrument, for the reader.
        started_ns: when the session began, wall clock.

    Raises:
        StartError: the file can't be made.
        FileFormatError: the file there is no recording of this layout, or of another symbol.
    """

    def __init__(self, directory: Path, symbol: str, started_ns: int, on_alert: AlertSink) -> None:
        self.path = directory / FILE_NAME
        self.events = 0
        self._on_alert = on_alert
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = open_file(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise StartError(f"{self.path} can't be written: {error.strerror}; check the directory") from error
        try:
            self._begin(symbol, started_ns)
        except BaseException:
            self.close()
            raise

    def _begin(self, symbol: str, started_ns: int) -> None:
        size = os.fstat(self._fd).st_size
        if size < HEADER_SIZE and os.pread(self._fd, len(MAGIC), 0) == MAGIC[:size]:
            os.ftruncate(self._fd, 0)
            os.write(self._fd, _header(symbol, started_ns))
            return
        recorded = parse_header(os.pread(self._fd, HEADER_SIZE, 0), self.path)
        if recorded["symbol"] != symbol:
            raise FileFormatError(
                f"{self.path} is a recording of {recorded['symbol']}, not of {symbol}: record to another directory"
            )
        os.ftruncate(self._fd, size - (size - HEADER_SIZE) % MARKET_EVENT.itemsize)

    def append(self, events: EventArray) -> None:
        """Write one batch; it is in the kernel when this returns (about 2 µs plus 64 bytes per event)."""
        if self._fd < 0:
            return
        data = events.tobytes()
        try:
            while (written := os.write(self._fd, data)) < len(data):
                data = data[written:]
        except OSError as error:
            self._give_up(error, int(events["recv_ns"][-1]))
        else:
            self.events += len(events)

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


def _header(symbol: str, started_ns: int) -> bytes:
    facts = {"columns": MARKET_EVENT.descr, "symbol": symbol, "started_ns": started_ns}
    return (MAGIC + json.dumps(facts).encode()).ljust(HEADER_SIZE, b" ")


def parse_header(header: bytes, path: Path) -> dict[str, Any]:
    """The facts of a recording's header. Raises FileFormatError when it is none, or of another layout."""
    if not header.startswith(MAGIC) or len(header) < HEADER_SIZE:
        raise FileFormatError(f"{path} is not a recording: name the {FILE_NAME} of a directory under var/recordings")
    try:
        facts: dict[str, Any] = json.loads(header[len(MAGIC) :])
        columns = [tuple(column) for column in facts["columns"]]
        facts = {"symbol": str(facts["symbol"]), "started_ns": int(facts["started_ns"])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{path} has a damaged header: restore it from a copy") from error
    if columns != MARKET_EVENT.descr:
        raise FileFormatError(
            f"{path} was recorded with other columns than this version has: replay it with the version that recorded it"
        )
    return facts


def read_recording(path: Path) -> EventArray:
    """All whole events of a recording, memory-mapped; a torn tail is left out. Raises FileFormatError.

    `path` is the file or its directory.
    """
    file_path = path / FILE_NAME if path.is_dir() else path
    try:
        with file_path.open("rb") as file:
            parse_header(file.read(HEADER_SIZE), file_path)
            count = (os.fstat(file.fileno()).st_size - HEADER_SIZE) // MARKET_EVENT.itemsize
    except OSError as error:
        raise FileFormatError(f"{file_path} can't be read: {error.strerror}; check the name") from error
    if not count:
        raise FileFormatError(f"{file_path} holds no events: the session ended before any arrived")
    return np.memmap(file_path, MARKET_EVENT, mode="r", offset=HEADER_SIZE, shape=(count,)).view(np.ndarray)


def recording_symbol(path: Path) -> str:
    """Whose events a recording holds; `path` is the file or its directory. Raises FileFormatError."""
    file_path = path / FILE_NAME if path.is_dir() else path
    try:
        with file_path.open("rb") as file:
            return str(parse_header(file.read(HEADER_SIZE), file_path)["symbol"])
    except OSError as error:
        raise FileFormatError(f"{file_path} can't be read: {error.strerror}; check the name") from error


def is_recording(path: Path) -> bool:
    """Whether `path` is a recording or the directory of one, by its first bytes."""
    file_path = path / FILE_NAME if path.is_dir() else path
    try:
        with file_path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
