"""Binary encoding with variable-length strings (VLS): what has no text lies as in the binary encoding.

A message with text has a base structure of BaseSize bytes, in which each text is an offset from the start of the
message and a length that counts the final NUL; both are 0 for an empty text. The texts follow the base.
"""

import struct
from functools import cache

from mia_daemon.dtc import binary
from mia_daemon.dtc.layout import MAX_SIZE, MESSAGES, Layout, Message
from mia_daemon.dtc.text import decode_text, encode_text
from mia_daemon.errors import UnreadableFrame, UsageError

_BASE_SIZE = struct.Struct("<H")
_FIRST_FIELD = 6  # after Size, Type and BaseSize


def encode(message: Message) -> bytes:
    """The message as it travels.

    Raises:
        UsageError: a value does not fit its field, or the whole has more than 65,535 bytes.
    """
    layout = message.VLS_LAYOUT
    if layout is message.LAYOUT:
        return binary.encode(message)
    values, texts, end = list(layout.values(message)), bytearray(), layout.size
    for index, _ in layout.texts:
        try:
            raw = encode_text(values[index])
        except ValueError as error:
            raise binary.unfit_text(layout, index, error) from error
        values[index] = end | (len(raw) + 1) << 16 if raw else 0
        if raw:
            texts += raw + b"\0"
            end = layout.size + len(texts)
    if end > MAX_SIZE:
        raise UsageError(f"{type(message).__name__} can't be sent: it has {end} bytes and {MAX_SIZE} are allowed")
    try:
        return layout.codec.pack(end, layout.type, layout.size, *values) + texts
    except (struct.error, OverflowError) as error:
        raise binary.misfit(message, layout, error) from error


def decode(frame: bytes | memoryview) -> Message | None:
    """The message in one whole frame, or None when its type is unknown.

    Raises:
        UnreadableFrame: the frame is cut, or its base or a text lies outside of it.
    """
    size, type_ = binary.header(frame)
    declared = MESSAGES.get(type_)
    if declared is None:
        return None
    layout = declared.VLS_LAYOUT
    if layout is declared.LAYOUT:
        return binary.decode_as(layout, frame, size)
    values = list(layout.unpack(_whole_base(layout, frame, size)))[3:]
    for index, _ in layout.texts:
        offset, length = values[index] & 0xFFFF, values[index] >> 16
        if offset + length > size:
            name = f"{declared.__name__}.{layout.fields[index].name}"
            raise UnreadableFrame(
                f"{name} lies at bytes {offset} to {offset + length} of a message of {size}", kind=name, type_=type_
            )
        values[index] = decode_text(bytes(frame[offset : offset + length])) if offset else ""
    return layout.make(*values)


def _whole_base(layout: Layout, frame: bytes | memoryview, size: int) -> bytes | memoryview:
    """A base structure as long as `layout` has it: what the peer's does not have takes defaults."""
    base = _BASE_SIZE.unpack_from(frame, 4)[0] if size >= _FIRST_FIELD else size
    if base > size or base < min(size, _FIRST_FIELD):
        raise UnreadableFrame(
            f"a message of type {layout.type} and {size} bytes claims a base of {base}",
            kind=f"base of {MESSAGES[layout.type].__name__}",
            type_=layout.type,
        )
    if base >= layout.size:
        return frame
    whole = max((f.end for f in layout.fields if f.end <= base), default=0)
    return bytes(frame[:whole]) + _default_base(layout.type)[whole:]


@cache
def _default_base(type_: int) -> bytes:
    return encode(MESSAGES[type_]())
