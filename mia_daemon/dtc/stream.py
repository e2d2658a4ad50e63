"""Framing: cut the byte stream of a connection into whole messages, however the network split it.

Every message starts with its own size. Only whole messages leave; the rest, never more than one message's 65,535
bytes, waits for its end.
"""

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mia_daemon.dtc.layout import HEADER
from mia_daemon.errors import ProtocolError

_RUN = 8
"""After so many messages alike, look for the end of their run with numpy: shorter runs don't repay it."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Whole messages, one after the other.

    Attributes:
        data: the bytes; immutable, so views of it stay valid.
        offsets: int64, one more than there are messages: message i is `data[offsets[i]:offsets[i + 1]]`.
    """

    data: bytes
    offsets: "array[int]"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def starts(self) -> NDArray[np.int64]:
        """Where each message starts: a view of `offsets`."""
        return np.frombuffer(self.offsets, np.int64, len(self))

    def sizes(self) -> NDArray[np.int64]:
        """The bytes of each message."""
        bounds = np.frombuffer(self.offsets, np.int64)
        return bounds[1:] - bounds[:-1]

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
            self.error = ProtocolError("the peer speaks DTC's JSON encoding: set it to binary encoding")
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
        start, last, header_size, unpack = 0, len(data), HEADER.size, HEADER.unpack_from
        previous, alike = (0, 0), 0
        self._wanted = header_size
        while start + header_size <= last:
            header = unpack(data, start)
            size = header[0]
            if size < header_size:
                self._break(data, start)
                break
            if start + size > last:
                self._wanted = size
                break
            start += size
            offsets.append(start)
            alike = alike + 1 if header == previous else 0
            previous = header
            if alike >= _RUN:
                run = _length_of_run(data, start - size, size)
                offsets.extend(range(start + size, start + size * run, size))
                start, alike = start + size * (run - 1), 0
        return offsets

    def _break(self, data: bytes, start: int) -> None:
        size, type_ = HEADER.unpack_from(data, start)
        self.error = ProtocolError(
            f"byte {self.bytes_read + start} of the stream starts a message of type {type_} and size {size}, "
            "but a message has at least 4 bytes: the peer does not speak binary DTC, or is out of step"
        )


def _length_of_run(data: bytes, start: int, size: int) -> int:
    """How many whole messages from `start` on have the same header and follow each other at distance `size`."""
    most = (len(data) - start) // size
    headers = np.ndarray((most,), "<u4", data, offset=start, strides=(size,))
    differs = np.flatnonzero(headers != headers[0])
    return int(differs[0]) if len(differs) else most
