"""DTC bytes as lines of JSON for people and scripts, and such lines as DTC bytes: `mia-daemon dtc decode | encode`.

    {"Type": 107, "Name": "MARKET_DATA_UPDATE_TRADE", "SymbolID": 1, "AtBidOrAsk": 2, "Price": 6000.25, …}

Numbers are numbers, enumerations integers, text has no padding; what is no number (NaN, infinity) is null. Usernames
and passwords are not shown.
"""

import json
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import fields as dataclass_fields
from functools import cache
from itertools import chain, pairwise
from typing import Final

from mia_daemon.dtc.encodings import BINARY, Codec
from mia_daemon.dtc.json_text import from_named
from mia_daemon.dtc.layout import HEADER, MESSAGES, Message
from mia_daemon.dtc.messages import EncodingRequest, EncodingResponse
from mia_daemon.errors import FileFormatError, ProtocolError, UsageError

MAX_LINE_BYTES = 1 << 20

ANNOTATIONS: Final = ("AtMs", "From")
"""Keys that a record of a conversation adds to a message: when it passed, and who sent it. `from_line` ignores them."""

REDACTED = "[redacted]"

_MOST_SHOWN = 80
"""Characters of a wrong Type or Name in an error."""

Read = Callable[[], bytes]
"""Gives the next piece of the input, b"" at its end."""

_BY_NAME = {cls.NAME: cls for cls in MESSAGES.values()}
_NEGOTIATION = {(cls.LAYOUT.size, cls.TYPE) for cls in (EncodingRequest, EncodingResponse)}
_NEGOTIATION_SIZE = EncodingRequest.LAYOUT.size


class Decoder:
    """Reads one direction of a connection.

    Attributes:
        skipped: messages of unknown type so far.
    """

    def __init__(self, codec: Codec) -> None:
        self.skipped = 0
        self._codec = codec
        self._reader = codec.reader()

    def lines(self, read: Read) -> Iterator[list[str]]:
        """The messages that each piece of the input completes, a line each.

        A negotiation at the start, which is binary whatever is agreed on, is understood in all encodings.

        Raises:
            FileFormatError: the input is damaged; the text says at which byte. What came before was given out.
        """
        start = b""
        while len(start) < _NEGOTIATION_SIZE and (data := read()):
            start += data
        if len(start) >= _NEGOTIATION_SIZE and HEADER.unpack_from(start) in _NEGOTIATION:
            negotiation, start = start[:_NEGOTIATION_SIZE], start[_NEGOTIATION_SIZE:]
            yield from self._lines(BINARY, negotiation, BINARY.reader().feed(negotiation).offsets, 0)
            self._reader.bytes_read = _NEGOTIATION_SIZE
        for data in chain([start], iter(read, b"")):
            frames = self._reader.feed(data)
            yield from self._lines(
                self._codec, frames.data, frames.offsets, self._reader.bytes_read - frames.offsets[-1]
            )
            if self._reader.error is not None:
                raise FileFormatError(f"the input can't be read on: {self._reader.error}")
        if self._reader.buffered:
            raise FileFormatError(
                f"byte {self._reader.bytes_read} of the input starts a message of which only "
                f"{self._reader.buffered} bytes are there"
            )

    def _lines(self, codec: Codec, data: bytes, offsets: "array[int]", before: int) -> Iterator[list[str]]:
        lines, flaw = [], None
        for start, end in pairwise(offsets):
            try:
                message = codec.decode(memoryview(data)[start:end])
            except ProtocolError as error:
                flaw = f"byte {before + start} of the input starts a message that can't be read: {error}"
                break
            if message is None:
                self.skipped += 1
            else:
                lines.append(to_line(message, codec))
        yield lines
        if flaw is not None:
            raise FileFormatError(flaw)


def encoded(readline: Read, codec: Codec) -> Iterator[bytes]:
    """The messages that the lines are; blank lines are passed over.

    Args:
        readline: gives the next line, at most `MAX_LINE_BYTES` of it.
        codec: of the output.

    Raises:
        FileFormatError: a line is no message, or does not fit the encoding; the text says which.
    """
    for number, line in enumerate(iter(readline, b""), 1):
        if len(line) >= MAX_LINE_BYTES:
            raise FileFormatError(f"line {number} has more than {MAX_LINE_BYTES} bytes, which no message has")
        if not line.strip():
            continue
        try:
            yield codec.encode(from_line(line))
        except (ProtocolError, UsageError) as error:
            raise FileFormatError(f"line {number}: {error}") from None


def to_line(message: Message, codec: Codec) -> str:
    """The message as it was in this encoding, as one line without its end."""
    fields = message.LAYOUT.fields if codec is BINARY else message.VLS_LAYOUT.fields
    values = {f.name: _plain(getattr(message, f.name)) for f in fields}
    values |= {name: REDACTED for name in _secret_fields(message.TYPE) if values.get(name)}
    return json.dumps({"Type": message.TYPE, "Name": message.NAME, **values}, ensure_ascii=False, allow_nan=False)


@cache
def _secret_fields(type_: int) -> tuple[str, ...]:
    """The fields that `repr` leaves out too."""
    return tuple(f.name for f in dataclass_fields(MESSAGES[type_]) if not f.repr)  # type: ignore[arg-type]  # it is one


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number; null stands for what is unset")
    return value


def from_line(line: bytes) -> Message:
    """The message that a line is; its Type or its Name may be left out, and every field.

    Raises:
        ProtocolError: it is no message that is known.
    """
    try:
        record = json.loads(line, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"this is no JSON: {error}") from None
    if not isinstance(record, dict):
        raise ProtocolError("a message is a JSON object")
    for annotation in ANNOTATIONS:
        record.pop(annotation, None)
    type_, name = record.pop("Type", None), record.pop("Name", None)
    cls = None
    if type_ is None and isinstance(name, str):
        cls = _BY_NAME.get(name)
    elif type(type_) is int:  # true is none, though Python counts it among them
        cls = MESSAGES.get(type_)
    if cls is None or (name is not None and name != cls.NAME):
        raise ProtocolError(f"there is no message of Type {_short(type_)} and Name {_short(name)}")
    return from_named(cls, record)


def _short(value: object) -> str:
    try:
        return json.dumps(value)[:_MOST_SHOWN]
    except RecursionError:
        return "nested too deep"
