"""Binary encoding: a message to bytes and back.

Decoding is lenient, since the peer may be older or newer: a message that ends early takes defaults for what is
missing, a longer one loses its tail, text is UTF-8 or else Latin-1, a float that is no number is unset. Encoding is
strict, since a wrong byte of ours may be an order.
"""

import struct
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from mia_daemon.dtc.layout import HEADER, MESSAGES, Layout, Message, Text
from mia_daemon.dtc.stream import Frames
from mia_daemon.dtc.text import decode_text, encode_text
from mia_daemon.errors import UnreadableFrame, UsageError


def encode(message: Message) -> bytes:
    """The message as it travels.

    Raises:
        UsageError: a value does not fit its field; the text names both. Text for people is cut instead.
    """
    layout = message.LAYOUT
    values = layout.values(message)
    if layout.texts:
        values = _encoded_texts(layout, values)
    try:
        return layout.codec.pack(layout.size, layout.type, *values)
    except (struct.error, OverflowError) as error:
        raise misfit(message, layout, error) from error


def decode(frame: bytes | memoryview) -> Message | None:
    """The message in one whole frame, or None when its type is unknown.

    Raises:
        UnreadableFrame: the frame is shorter than the header says, or than a header.
    """
    size, type_ = header(frame)
    declared = MESSAGES.get(type_)
    return None if declared is None else decode_as(declared.LAYOUT, frame, size)


def header(frame: bytes | memoryview) -> tuple[int, int]:
    """Size and Type of one whole frame.

    Raises:
        UnreadableFrame: the frame is shorter than it says, or than a header.
    """
    if len(frame) < HEADER.size:
        raise UnreadableFrame(f"a frame of {len(frame)} bytes is shorter than its header", kind="cut")
    size, type_ = HEADER.unpack_from(frame)
    if len(frame) < size:
        raise UnreadableFrame(
            f"a frame of type {type_} claims {size} bytes and has {len(frame)}", kind="cut", type_=type_
        )
    return size, type_


def decode_frames(frames: Frames) -> Iterator[Message]:
    """The messages of `frames` in order; unknown types are skipped."""
    view = memoryview(frames.data)
    for start, end in pairwise(frames.offsets):
        if (message := decode(view[start:end])) is not None:
            yield message


def decode_as(layout: Layout, frame: bytes | memoryview, size: int) -> Message:
    """The message in the first `size` bytes of `frame`."""
    if size < layout.size:
        frame = _completed(layout, frame, size)
    values = layout.unpack(frame)
    if not layout.texts:
        return layout.make(*values[2:])
    fields = list(values[2:])
    for index, _ in layout.texts:
        fields[index] = decode_text(fields[index])
    return layout.make(*fields)


def _completed(layout: Layout, frame: bytes | memoryview, size: int) -> bytes:
    """The whole fields of a short frame, followed by the defaults of the others."""
    whole = max((f.end for f in layout.fields if f.end <= size), default=HEADER.size)
    return bytes(frame[:whole]) + _default_bytes(layout.type)[whole:]


@cache
def _default_bytes(type_: int) -> bytes:
    return encode(MESSAGES[type_]())


def _encoded_texts(layout: Layout, values: tuple[Any, ...]) -> tuple[Any, ...]:
    encoded = list(values)
    for index, kind in layout.texts:
        text = encoded[index]
        if type(text) is str and len(text) < kind.length and text.isascii() and "\0" not in text:
            encoded[index] = text.encode()  # as `encode_text` does it: an order has up to eleven
            continue
        try:
            encoded[index] = encode_text(text, kind)
        except ValueError as error:
            raise unfit_text(layout, index, error) from error
    return tuple(encoded)


def unfit_text(layout: Layout, index: int, reason: ValueError) -> UsageError:
    return UsageError(f"{MESSAGES[layout.type].__name__}.{layout.fields[index].name} can't be sent: {reason}")


def misfit(message: Message, layout: Layout, error: Exception) -> UsageError:
    """Says which value was at fault: found only now, so that sending costs nothing extra."""
    for f in layout.fields:
        value = getattr(message, f.name)
        if isinstance(f.wire, Text):
            continue
        try:
            struct.pack(f"<{f.code}", value)
        except (struct.error, OverflowError) as reason:
            return UsageError(f"{type(message).__name__}.{f.name} = {value!r} can't be sent: {reason}")
    return UsageError(f"{type(message).__name__} can't be sent: {error}")
