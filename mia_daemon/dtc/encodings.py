"""The four encodings behind one interface: what a connection speaks is a `Codec`.

    codec = codec_of(EncodingEnum.JSON_ENCODING)
    reader = codec.reader()
    for message in codec.messages(reader.feed(data)):
        send(codec.encode(answer(message)))

A reader that finds the stream broken says so in its `error`; `messages` raises UnreadableFrame when a whole frame holds
no message.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from mia_daemon.dtc import binary, json_text, vls
from mia_daemon.dtc.enums import EncodingEnum
from mia_daemon.dtc.layout import HEADER, Message
from mia_daemon.dtc.messages import LogonRequest
from mia_daemon.dtc.stream import FrameReader, Frames, JsonFrameReader
from mia_daemon.errors import ProtocolError


class Reader(Protocol):
    """Cuts a stream into frames: FrameReader or JsonFrameReader."""

    error: ProtocolError | None
    frames_read: int
    bytes_read: int

    @property
    def buffered(self) -> int: ...

    def feed(self, data: bytes) -> Frames: ...


@dataclass(frozen=True, slots=True)
class Codec:
    """One encoding.

    Attributes:
        encode: a message to its bytes. Raises UsageError when a value does not fit.
        decode: one whole frame to its message, None for an unknown type or an empty frame. Raises UnreadableFrame.
        reader: makes a reader for one connection.
        structures: market data lies as the structures of the binary encoding, so that it can be read in bulk.
    """

    encoding: EncodingEnum
    name: str
    encode: Callable[[Message], bytes]
    decode: Callable[[bytes | memoryview], Message | None]
    reader: Callable[[], Reader]
    structures: bool

    def messages(self, frames: Frames) -> Iterator[Message]:
        """The messages of `frames` in order; unknown types are skipped."""
        view = memoryview(frames.data)
        for start, end in pairwise(frames.offsets):
            if (message := self.decode(view[start:end])) is not None:
                yield message

    def from_binary(self, stream: bytes) -> bytes:
        """Whole messages without text in the binary encoding, in this one."""
        if self.structures:
            return stream
        return b"".join(map(self.encode, binary.decode_frames(FrameReader().feed(stream))))


BINARY = Codec(EncodingEnum.BINARY_ENCODING, "binary", binary.encode, binary.decode, FrameReader, structures=True)
VLS = Codec(
    EncodingEnum.BINARY_WITH_VARIABLE_LENGTH_STRINGS, "binary_vls", vls.encode, vls.decode, FrameReader, structures=True
)
JSON = Codec(EncodingEnum.JSON_ENCODING, "json", json_text.encode, json_text.decode, JsonFrameReader, structures=False)
JSON_COMPACT = Codec(
    EncodingEnum.JSON_COMPACT_ENCODING,
    "json_compact",
    json_text.encode_compact,
    json_text.decode,
    JsonFrameReader,
    structures=False,
)

CODECS = {codec.encoding: codec for codec in (BINARY, VLS, JSON, JSON_COMPACT)}
"""By the number that ENCODING_REQUEST carries; Protocol Buffers (4) are not spoken."""

BY_NAME = {codec.name: codec for codec in CODECS.values()}


def codec_of(encoding: int) -> Codec | None:
    """The codec of the encoding with this number, or None when it is not spoken."""
    return CODECS.get(encoding)  # type: ignore[call-overload,no-any-return]  # IntEnum members equal their numbers


def detect(start: bytes) -> Codec | None:
    """The encoding of a client whose stream starts so; None while more bytes are needed to tell.

    A logon tells VLS from binary: where one has BaseSize the other has the protocol's version. The compact form of
    JSON can't be told from the other by what a client sends.
    """
    if start.startswith(b"{"):
        return JSON
    if len(start) < _TELLING:
        return None
    size, type_ = HEADER.unpack_from(start)
    base = int.from_bytes(start[4:_TELLING], "little")
    is_vls = type_ == LogonRequest.TYPE and _LEAST_BASE <= base <= size
    return VLS if is_vls else BINARY


_TELLING = 6  # bytes of Size, Type and BaseSize
_LEAST_BASE = 12  # ends with the protocol's version
