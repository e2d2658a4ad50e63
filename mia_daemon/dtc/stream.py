"""Framing: cut the byte stream of a connection into whole messages, however the network split it.

A binary message starts with its own size, a JSON message ends with a NUL. Only whole messages leave; the rest, never
more than one message's 65,535 bytes (262,144 in JSON), waits for its end.
"""

import struct
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mia_daemon.dtc.layout import HEADER
from mia_daemon.errors import ProtocolError

_SIZE = struct.Struct("<H")

_RUN = 32
"""Messages alike that repay looking for the end of their run with numpy."""

_STRIDE = 128
"""Messages stepped through one by one before a run is looked for again."""

_LONG = 8192
"""Bytes that repay searching them for headers."""

_KINDS = 6
"""Headers that are searched for at most."""

_BRACE = ord("{")

MAX_JSON_BYTES = 1 << 18
"""Of one message: the protocol's largest has a hundredth of it."""

MAX_STRAY_FRAMES = 16
"""Frames in a row that begin no object: from here on the peer speaks something else."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Whole messages, one after the other.

    Attributes:
        data: the bytes, and what follows the last whole message; immutable, so views of it stay valid.
        offsets: int64, one more than there are messages: message i is `data[offsets[i]:offsets[i + 1]]`.
    """

    data: bytes
    offsets: "array[int]"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def first(self, count: int) -> "Frames":
        """The first `count` messages."""
        return Frames(self.data, self.offsets[: count + 1])

    def after(self, count: int) -> bytes:
        """The bytes after the first `count` messages, unfinished message included."""
        return self.data[self.offsets[count] :]

    def starts(self) -> NDArray[np.int64]:
        """Where each message starts: a view of `offsets`."""
        return np.frombuffer(self.offsets, np.int64, len(self))

    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each message."""
        bounds = np.frombuffer(self.offsets, np.int64)
        return bounds[1:] - bounds[:-1]

    def alike(self) -> int:
        """The size of each message when all have the same header; 0 when they have not, or there are none."""
        size = self.offsets[-1] // len(self) if len(self) else 0
        if size < HEADER.size or self.offsets[1] != size or size * len(self) != self.offsets[-1]:
            return 0
        headers = np.ndarray((len(self),), "<u4", self.data, strides=(size,))
        return 0 if (headers != headers[0]).any() else size

    def types(self) -> NDArray[np.uint16]:
        """The Type of each message."""
        if not len(self):
            return np.empty(0, np.uint16)
        every = np.ndarray((len(self.data) - 3,), "<u2", self.data, offset=2, strides=(1,))
        return every[self.starts()]


def no_frames() -> Frames:
    return Frames(b"", array("q", [0]))


class FrameReader:
    """Collects bytes until messages are whole.

    `feed` it all that arrives. When the stream turns out not to be DTC, the messages before that point are still
    handed out and `error` says what is wrong; the connection has to be closed then.
    """

    def __init__(self) -> None:
        self.error: ProtocolError | None = None
        self.frames_read = 0
        self.bytes_read = 0
        self._rest = bytearray()
        self._wanted = HEADER.size  # bytes until `_rest` can be looked at again

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished message."""
        return len(self._rest)

    def feed(self, data: bytes) -> Frames:
        """The messages that `data` completes.

        Raises:
            ProtocolError: the stream was found broken by an earlier call.
        """
        if self.error is not None:
            raise self.error
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return no_frames()
            data = bytes(self._rest)
        if self.bytes_read == 0 and data.startswith(b'{"'):
            self.error = ProtocolError(
                "the peer speaks DTC's JSON encoding: set it to automatic or binary encoding, or dtc.encoding to json"
            )
            return no_frames()
        offsets = self._scan(data)
        end = offsets[-1]
        self._rest = bytearray(data[end:])
        self.frames_read += len(offsets) - 1
        self.bytes_read += end
        return Frames(data, offsets)

    def _scan(self, data: bytes) -> "array[int]":
        """The offsets of the whole messages at the start of `data`, and of their end."""
        offsets = array("q", [0])
        ended = len(data) < HEADER.size
        searched = True  # whether searching has been worth it so far
        while not ended:
            _append_run(data, offsets)
            ended = self._append_messages(data, offsets)
            if searched and not ended and len(data) - offsets[-1] > _LONG:
                searched = _append_recurring(data, offsets) > _STRIDE
        self._wanted = HEADER.size
        if offsets[-1] > len(data):  # the last message is not whole yet
            end = offsets.pop()
            self._wanted = end - offsets[-1]
        return offsets

    def _append_messages(self, data: bytes, offsets: "array[int]") -> bool:
        """Append the ends of the next messages, `_STRIDE` at most; True when no header follows within `data`."""
        start, last = offsets[-1], len(data) - HEADER.size
        ends: list[int] = []
        append = ends.append
        for _ in range(_STRIDE):
            if start > last:
                break
            size = data[start] + (data[start + 1] << 8)  # faster than struct
            if size < HEADER.size:
                self._break(data, start)
                break
            start += size
            append(start)
        offsets.extend(ends)
        return len(ends) < _STRIDE

    def _break(self, data: bytes, start: int) -> None:
        size, type_ = HEADER.unpack_from(data, start)
        self.error = ProtocolError(
            f"byte {self.bytes_read + start} of the stream starts a message of type {type_} and size {size}, "
            "but a message has at least 4 bytes: the peer does not speak binary DTC, or is out of step"
        )


class JsonFrameReader:
    """As FrameReader, for messages that each end with a NUL: the last byte of their frame.

    A frame that is no object is handed out too, for whoever decodes it to refuse: the next NUL ends it. The stream is
    broken when it does not start with an object, after many such frames in a row, and by one that does not end.
    """

    def __init__(self) -> None:
        self.error: ProtocolError | None = None
        self.frames_read = 0
        self.bytes_read = 0
        self._rest = bytearray()
        self._strays = MAX_STRAY_FRAMES  # in a row; as many as are allowed until the first object

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished message."""
        return len(self._rest)

    def feed(self, data: bytes) -> Frames:
        """The messages that `data` completes.

        Raises:
            ProtocolError: the stream was found broken by an earlier call.
        """
        if self.error is not None:
            raise self.error
        if self._rest:
            self._rest += data
            if b"\0" not in data:
                self._check(self._rest, 0, len(self._rest))
                return no_frames()
            data = bytes(self._rest)
        offsets = array("q", [0])
        while (end := data.find(b"\0", offsets[-1])) >= 0 and self._check(data, offsets[-1], end):
            self._count_stray(data, offsets[-1], end)
            offsets.append(end + 1)
        end = offsets[-1]
        self._rest = bytearray(data[end:])
        self._check(self._rest, 0, len(self._rest), end)
        self.frames_read += len(offsets) - 1
        self.bytes_read += end
        return Frames(data, offsets)

    def _check(self, data: bytes | bytearray, start: int, end: int, before: int = 0) -> bool:
        """Whether the bytes from `start` to `end` may begin a message; `error` says why not."""
        place = f"byte {self.bytes_read + before + start} of the stream starts"
        if self._strays >= MAX_STRAY_FRAMES and end > start and data[start] not in b"{ \t\r\n":
            self.error = ProtocolError(f"{place} no object: the peer does not speak DTC's JSON encoding")
        elif end - start > MAX_JSON_BYTES:
            self.error = ProtocolError(f"{place} a message of more than {MAX_JSON_BYTES} bytes")
        return self.error is None

    def _count_stray(self, data: bytes, start: int, end: int) -> None:
        """Count a whole frame that begins no object; an empty one says nothing either way."""
        if data[start] == _BRACE:
            self._strays = 0
        elif said := data[start:end].strip():
            self._strays = 0 if said[0] == _BRACE else self._strays + 1


def _append_recurring(data: bytes, offsets: "array[int]") -> int:
    """Append the ends of the messages that come next and have headers as the last `_STRIDE` had; how many they are.

    Every place where such a header stands is found at once. Some may be the insides of a message: what counts is the
    chain in which each message ends where the next one starts.
    """
    headers = {data[start : start + HEADER.size] for start in offsets[-1 - _STRIDE : -1]}
    if len(headers) > _KINDS:
        return 0
    first = offsets[-1]
    view = np.frombuffer(data, np.uint8, offset=first)
    columns = [view[i : len(view) - HEADER.size + 1 + i] for i in range(HEADER.size)]
    found = np.zeros(len(columns[0]), np.bool_)
    for header in headers:
        here = columns[0] == header[0]
        for column, byte in zip(columns[1:], header[1:], strict=True):
            here &= column == byte
        found |= here
    starts = np.flatnonzero(found)
    ends = starts + columns[0][starts] + (columns[1][starts].astype(np.int64) << 8)
    if not len(starts) or starts[0] != 0:
        return 0
    gaps = np.flatnonzero(ends[:-1] != starts[1:])
    length = int(gaps[0]) + 1 if len(gaps) else len(starts)
    offsets.frombytes((ends[:length] + first).tobytes())
    return length


def _append_run(data: bytes, offsets: "array[int]") -> None:
    """Append the ends of the messages that come next and have all the same header: bursts are mostly of one type."""
    start = offsets[-1]
    size = _SIZE.unpack_from(data, start)[0] if start + HEADER.size <= len(data) else 0
    most = (len(data) - start) // size if size >= HEADER.size else 0
    if most < _RUN:
        return
    header = data[start : start + HEADER.size]
    if not all(data.startswith(header, start + ahead * size) for ahead in (1, _RUN - 1)):
        return
    headers = np.ndarray((most,), "<u4", data, offset=start, strides=(size,))
    differs = np.flatnonzero(headers != headers[0])
    length = int(differs[0]) if len(differs) else most
    offsets.frombytes(np.arange(start + size, start + size * length + 1, size, dtype=np.int64).tobytes())
