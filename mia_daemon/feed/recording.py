"""A recording: the events of a session in segments, written as rows of MARKET_EVENT and later packed.

A directory has segments `events-000001.bin`, `events-000002.bin` and so on, one an hour. A segment begins with a header
of 4096 bytes: magic, then JSON that names the columns, the instrument, the start, and the number of its first event in
the recording. Raw rows follow; in a packed segment (`.packed`) blocks of them, see `event_codec`. A recording of an
earlier version is one raw file, `events.bin`.
"""

import bisect
import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import FileFormatError
from mia_daemon.feed import event_codec
from mia_daemon.records import MARKET_EVENT, EventArray

RAW_MAGIC: Final = b"MIAEVENT"
PACKED_MAGIC: Final = b"MIAPACKD"
HEADER_SIZE: Final = 4096

RAW: Final = ".bin"
PACKED: Final = ".packed"
_NAME: Final = re.compile(r"events(?:-([0-9]{6,}))?\.(?:bin|packed)")

_BLOCK: Final = struct.Struct("<III")  # events, bytes, CRC-32 of the file's header and of these two
BLOCK_EVENTS: Final = 1 << 18
"""Events in a block at most: 16 MB of rows, the most that reading a packed segment keeps in memory."""


def segment_path(directory: Path, number: int) -> Path:
    """Of raw segment `number`, counted from 1."""
    return directory / f"events-{number:06d}{RAW}"


def segment_number(path: Path) -> int:
    """0 for the one file of an earlier version. Raises FileFormatError where the name is no segment's."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise FileFormatError(f"{path} is no segment of a recording: name the directory of one under var/recordings")
    return int(match[1] or 0)


def segment_paths(directory: Path) -> list[Path]:
    """The segments in a directory in order; one that is there raw and packed is the raw file. May be empty."""
    found: dict[int, Path] = {}
    try:
        names = sorted(os.listdir(directory), key=lambda name: name.endswith(RAW))  # noqa: PTH208  names are enough
    except OSError:
        return []
    for name in names:
        if _NAME.fullmatch(name):
            found[segment_number(Path(name))] = directory / name
    return [found[number] for number in sorted(found)]


# A segment's header.


class Header(NamedTuple):
    """What a segment's header says.

    Attributes:
        symbol: of the traded instrument.
        started_ns: when the session began, wall clock.
        first: number of the segment's first event in the recording.
    """

    symbol: str
    started_ns: int
    first: int = 0

    def as_bytes(self, magic: bytes) -> bytes:
        facts = {"columns": MARKET_EVENT.descr, **self._asdict()}
        return (magic + json.dumps(facts).encode()).ljust(HEADER_SIZE, b" ")


def parse_header(header: bytes, path: Path) -> Header:
    """Raises FileFormatError when it is none, or of another layout; `path` is named in it."""
    if header[: len(RAW_MAGIC)] not in {RAW_MAGIC, PACKED_MAGIC} or len(header) < HEADER_SIZE:
        raise FileFormatError(f"{path} is not a recording: name the directory of one under var/recordings")
    try:
        facts = json.loads(header[len(RAW_MAGIC) :])
        columns = [tuple(column) for column in facts["columns"]]
        parsed = Header(str(facts["symbol"]), int(facts["started_ns"]), int(facts.get("first", 0)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path} has a damaged header: restore it from a copy") from error
    if columns != MARKET_EVENT.descr:
        raise FileFormatError(
            f"{path} was recorded with other columns than this version has: replay it with the version that recorded it"
        )
    return parsed


# Segments.


class _RawSegment:
    """Rows, memory-mapped; a torn tail is left out."""

    def __init__(self, path: Path) -> None:
        self.count = (path.stat().st_size - HEADER_SIZE) // MARKET_EVENT.itemsize
        self._events: EventArray = np.empty(0, MARKET_EVENT)
        if self.count:
            rows = np.memmap(path, MARKET_EVENT, mode="r", offset=HEADER_SIZE, shape=(self.count,))
            self._events = rows.view(np.ndarray)

    def piece_at(self, _index: int) -> tuple[int, EventArray]:
        """All events, as the piece that begins with event 0."""
        return 0, self._events


class _PackedSegment:
    """Blocks, memory-mapped, decoded one at a time."""

    def __init__(self, path: Path, header: bytes) -> None:
        self._path = path
        self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
        self._firsts: list[int] = []  # of each block: index of its first event
        self._blocks: list[tuple[int, int, int]] = []  # and where its bytes are: begin, end; how many events
        self._decoded: tuple[int, EventArray] = 0, np.empty(0, MARKET_EVENT)
        self.count = self._read_blocks(header)

    def _read_blocks(self, header: bytes) -> int:
        at, total = HEADER_SIZE, 0
        while len(place := self._data[at : at + _BLOCK.size].tobytes()) == _BLOCK.size:
            count, size, crc = _BLOCK.unpack(place)
            at += _BLOCK.size
            if crc != _crc(header, count, size):
                raise self._damaged("a check sum does not fit")
            if not count:  # the end: `size` is the number of events
                if size != total or at != len(self._data):
                    raise self._damaged("it goes on after its end")
                return total
            self._firsts.append(total)
            self._blocks.append((at, at + size, count))
            at, total = at + size, total + count
        raise self._damaged("its end is missing")

    def piece_at(self, index: int) -> tuple[int, EventArray]:
        """The block that holds event `index`, and the index of its first event. Raises FileFormatError."""
        block = bisect.bisect_right(self._firsts, index) - 1
        first, (begin, end, count) = self._firsts[block], self._blocks[block]
        if self._decoded[0] != first or not len(self._decoded[1]):
            try:
                self._decoded = first, event_codec.decode(self._data[begin:end].tobytes(), count)
            except FileFormatError as error:
                raise self._damaged(str(error)) from error
        return self._decoded

    def _damaged(self, how: str) -> FileFormatError:
        return FileFormatError(f"{self._path} is damaged ({how}): restore it from a copy")


def packed_content(header: Header, events: EventArray) -> Iterator[bytes]:
    """The bytes of a packed segment, piece by piece."""
    head = header.as_bytes(PACKED_MAGIC)
    yield head
    for begin in range(0, len(events), BLOCK_EVENTS):
        block = events[begin : begin + BLOCK_EVENTS]
        data = event_codec.encode(block)
        yield _BLOCK.pack(len(block), len(data), _crc(head, len(block), len(data))) + data
    yield _BLOCK.pack(0, len(events), _crc(head, 0, len(events)))


def _crc(header: bytes, count: int, size: int) -> int:
    return zlib.crc32(struct.pack("<II", count, size), zlib.crc32(header))


class Segment:
    """One file of a recording. Raises FileFormatError; packed blocks are checked when they are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                header = file.read(HEADER_SIZE)
            self.header = parse_header(header, path)
            packed = header.startswith(PACKED_MAGIC)
            self._rows = _PackedSegment(path, header) if packed else _RawSegment(path)
        except (OSError, ValueError) as error:  # ValueError: it became empty meanwhile
            reason = getattr(error, "strerror", None) or str(error)
            raise FileFormatError(f"{path} can't be read: {reason}; check the name") from error

    def __len__(self) -> int:
        return self._rows.count

    @property
    def end(self) -> int:
        """Number of the event after its last one in the recording."""
        return self.header.first + len(self)

    def pieces(self, start: int, stop: int) -> Iterator[EventArray]:
        """Events `start` to `stop` in arrays that stay valid; a packed block is decoded when it is due."""
        while start < stop:
            first, events = self._rows.piece_at(start)
            piece = events[start - first : stop - first]
            yield piece
            start += len(piece)


def open_segment(path: Path) -> Segment:
    """A segment by its path, packed where it was packed since that was found out. Raises FileFormatError."""
    packed = path.with_suffix(PACKED)
    return Segment(packed if not path.exists() and packed.exists() else path)


# Recordings.


class Recording:
    """The events of a recording, by their number.

    Memory for a packed block at a time is all that it needs. A file that is packed or removed meanwhile is still read.

    Args:
        path: the directory, or one segment of it, whose events alone are meant then.

    Raises:
        FileFormatError: it is none; it is damaged, which may be found while it is read; a segment is missing; it has no
            events, and has to have some.
    """

    def __init__(self, path: Path, *, may_be_empty: bool = False) -> None:
        paths = segment_paths(path) if path.is_dir() else [path]
        if not paths:
            raise FileFormatError(f"{path} can't be read: it holds no segment of a recording; check the name")
        if len(paths) > 1 and paths[-1].suffix == RAW and paths[-1].stat().st_size < HEADER_SIZE:
            paths.pop()  # the recorder was killed when it had just made it
        self._segments = [open_segment(each) for each in paths]
        if path.is_dir():
            self._check_numbers(path)
        self.symbol = self._segments[0].header.symbol
        self.first = self._segments[0].header.first
        self._ends = [segment.end - self.first for segment in self._segments]
        if not (len(self) or may_be_empty):
            raise FileFormatError(f"{path} holds no events: the session ended before any arrived")

    def _check_numbers(self, path: Path) -> None:
        expected = 0
        for segment in self._segments:
            if segment.header.first != expected:
                raise FileFormatError(
                    f"{path} lacks its events from number {expected} on, before {segment.path.name}: "
                    "restore the file that had them, or name the files that are there one by one"
                )
            expected = segment.end

    def __len__(self) -> int:
        return self._ends[-1]

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[EventArray]:
        """Events `start` to `stop`, counted from its first one, in arrays that may be kept but not written to."""
        stop = len(self) if stop is None else min(stop, len(self))
        for segment, end in zip(self._segments, self._ends, strict=True):
            begin = end - len(segment)
            if start < end and begin < stop:
                yield from segment.pieces(max(start - begin, 0), min(stop, end) - begin)

    def span_ns(self) -> tuple[int, int]:
        """Event times of the earliest and the latest event."""
        spans = [(int(piece["ts_ns"].min()), int(piece["ts_ns"].max())) for piece in self.pieces()]
        return min(first for first, _ in spans), max(last for _, last in spans)

    def rows(self, start: int, stop: int) -> EventArray:
        """A copy of events `start` to `stop`, counted from its first one."""
        return np.concatenate(list(self.pieces(start, stop)))


def read_recording(path: Path) -> EventArray:
    """All events of a recording at once: mapped where it is one raw file, else in memory. Raises FileFormatError."""
    pieces = list(Recording(path).pieces())
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def recording_symbol(path: Path) -> str:
    """Whose events a recording holds; `path` is its directory or a segment. Raises FileFormatError."""
    paths = segment_paths(path) if path.is_dir() else [path]
    return open_segment(paths[0] if paths else path).header.symbol


def is_recording(path: Path) -> bool:
    """Whether `path` is a recording's directory or a segment, by the first bytes."""
    paths = segment_paths(path) if path.is_dir() else [path]
    try:
        with (paths[0] if paths else path).open("rb") as file:
            return file.read(len(RAW_MAGIC)) in {RAW_MAGIC, PACKED_MAGIC}
    except OSError:
        return False
