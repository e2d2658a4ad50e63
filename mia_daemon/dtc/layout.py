"""How a message lies in memory: declared once as a class, everything else derives from it.

A message is a class whose annotations carry C types:

    @message(203)
    class CancelOrder(Message):
        ServerOrderID: Char32 = ""

From that follow its constructor, its `struct` format, its field offsets and its numpy dtype. The header's structures
are packed to 8 (a field lies at a multiple of its size, the whole is padded to its widest field), a few to 1.

Where text has a variable length (the encoding "binary with variable-length strings", VLS), a message that has any is
another structure: after its header comes BaseSize, and each text is an offset and a length, told in two bytes each.
"""

import inspect
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import IntEnum
from operator import attrgetter, itemgetter
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform, get_args

import numpy as np

from mia_daemon.dtc.enums import base_code

HEADER = struct.Struct("<HH")
"""Size (header included) and Type: the first four bytes of every message."""

MAX_SIZE = 0xFFFF
"""Bytes of the largest binary message: Size is a uint16_t."""


LARGEST = {"f": struct.unpack("<f", b"\xff\xff\x7f\x7f")[0], "d": 1.7976931348623157e308}
"""FLT_MAX and DBL_MAX: the largest float of each `struct` code says that a field is unset."""


@dataclass(frozen=True, slots=True)
class CType:
    """A number: its name in the header file and its `struct` code."""

    name: str
    code: str


@dataclass(frozen=True, slots=True)
class Text:
    """A fixed field of `length` bytes, NUL-terminated.

    Text that does not fit is refused, or cut when it is only for people to read (`cut`): an identifier that lost its
    end would name another order.
    """

    length: int
    cut: bool = False

    @property
    def code(self) -> str:
        return f"{self.length}s"


@dataclass(frozen=True, slots=True)
class InVls:
    """The C type that a field has in VLS, where the header's two files differ."""

    wire: CType


@dataclass(frozen=True, slots=True)
class OnlyInVls:
    """The field exists in VLS alone, after the field named here. It is declared last, so that others keep their place.

    JSON, having names, carries it too.
    """

    after: str


I8 = Annotated[int, CType("int8_t", "b")]
U8 = Annotated[int, CType("uint8_t", "B")]
U16 = Annotated[int, CType("uint16_t", "H")]
I32 = Annotated[int, CType("int32_t", "i")]
U32 = Annotated[int, CType("uint32_t", "I")]
I64 = Annotated[int, CType("int64_t", "q")]
U64 = Annotated[int, CType("uint64_t", "Q")]
F32 = Annotated[float, CType("float", "f")]
F64 = Annotated[float, CType("double", "d")]

# Times since the Unix epoch, UTC. 0 means unset.
Seconds32 = Annotated[int, CType("t_DateTime4Byte", "I")]
Seconds64 = Annotated[int, CType("t_DateTime", "q")]
SecondsF64 = Annotated[float, CType("t_DateTimeWithMilliseconds", "d")]  # with a fraction
Millis64 = Annotated[int, CType("t_DateTimeWithMillisecondsInt", "q")]
Micros64 = Annotated[int, CType("t_DateTimeWithMicrosecondsInt", "q")]

# Fields that the header declares otherwise in VLS.
U8orI8 = Annotated[int, CType("uint8_t", "B"), InVls(CType("int8_t", "b"))]
I32orU32 = Annotated[int, CType("int32_t", "i"), InVls(CType("uint32_t", "I"))]
Seconds64orMillis64 = Annotated[  # seconds, and milliseconds in VLS: as they come, whatever the encoding
    int, CType("t_DateTime", "q"), InVls(CType("t_DateTimeWithMillisecondsInt", "q"))
]

# Text that identifies something.
Char4 = Annotated[str, Text(4)]
Char8 = Annotated[str, Text(8)]
Char16 = Annotated[str, Text(16)]
Char32 = Annotated[str, Text(32)]
Char64 = Annotated[str, Text(64)]

# Text for people.
Note48 = Annotated[str, Text(48, cut=True)]
Note60 = Annotated[str, Text(60, cut=True)]
Note64 = Annotated[str, Text(64, cut=True)]
Note96 = Annotated[str, Text(96, cut=True)]
Note128 = Annotated[str, Text(128, cut=True)]
Note256 = Annotated[str, Text(256, cut=True)]

WireType = CType | Text | type[IntEnum]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: where it lies, and what it is."""

    name: str
    wire: WireType
    code: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Layout:
    """All that encodings need to know of one message.

    Attributes:
        size: bytes of the whole message, header and tail padding included.
        fields: in order, without the header.
        codec: packs and unpacks Size, Type, in VLS BaseSize, and the fields.
        values: the fields of a message as one tuple.
        make: the message from its fields, in order.
        texts: index among the fields, and kind, of each text.
        floats: takes the floats out of what `codec` unpacks; None where there are none.
        unset_floats: index in what `codec` unpacks, and the value that says "unset", of each float.
    """

    type: int
    size: int
    fields: tuple[Field, ...]
    codec: struct.Struct
    values: Callable[[Any], tuple[Any, ...]]
    make: Callable[..., "Message"]
    texts: tuple[tuple[int, Text], ...]
    floats: Callable[[tuple[Any, ...]], tuple[float, ...]] | None
    unset_floats: tuple[tuple[int, float], ...]

    def field(self, name: str) -> Field:
        """The field called `name`; KeyError when there is none."""
        for f in self.fields:
            if f.name == name:
                return f
        raise KeyError(name)

    def unpack(self, frame: bytes | memoryview) -> tuple[Any, ...]:
        """What `codec` unpacks; a float that is no number, or infinite, is unset."""
        values = self.codec.unpack_from(frame)
        if self.floats is None:
            return values
        floats = self.floats(values)
        if math.isfinite(sum(floats)) or all(map(math.isfinite, floats)):  # the sum of prices speaks for all, and fast
            return values
        settled = list(values)
        for index, unset in self.unset_floats:
            if not math.isfinite(settled[index]):
                settled[index] = unset
        return tuple(settled)

    def dtype(self, names: tuple[str, ...] | None = None) -> np.dtype[np.void]:
        """A packed view of the message, header included, or of the named fields only; `itemsize` ends at the last."""
        chosen = self.fields if names is None else tuple(map(self.field, names))
        return np.dtype(
            {
                "names": ["Size", "Type", *(f.name for f in chosen)],
                "formats": ["<u2", "<u2", *(_numpy_code(f.code) for f in chosen)],
                "offsets": [0, 2, *(f.offset for f in chosen)],
                "itemsize": self.size if names is None else max(f.end for f in chosen),
            }
        )


class Message:
    """A DTC message. Its attributes are named as in the protocol; two are equal when all of them are.

    `LAYOUT` is that of the binary encoding, `VLS_LAYOUT` that with variable-length strings: the same object for
    messages without text, and for the few that stay as they are. `NAME` is that of the type's number in the header.
    """

    __slots__ = ()
    TYPE: ClassVar[int]
    NAME: ClassVar[str]
    LAYOUT: ClassVar[Layout]
    VLS_LAYOUT: ClassVar[Layout]


MESSAGES: dict[int, type[Message]] = {}
"""Every declared message by its type number."""

M = TypeVar("M", bound=Message)

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def message(type_: int, *, pack: int = 8, in_vls: bool = True, name: str | None = None) -> Callable[[type[M]], type[M]]:
    """Make the decorated class the message numbered `type_`, its fields aligned to `pack` bytes at most.

    `in_vls` is False for messages whose text keeps its fixed length in every binary encoding. `name` is given where the
    header does not name the number as the structure.

    To the type checker a message is keyword-only and frozen. At run time it is neither, which makes decoding twice as
    fast.
    """

    def declare(cls: type[M]) -> type[M]:
        made = dataclass(slots=True)(cls)
        made.TYPE = type_
        made.NAME = name or _WORD_START.sub("_", cls.__name__).upper()
        made.LAYOUT = _lay_out(made, type_, _declared(made), pack)
        made.VLS_LAYOUT = made.LAYOUT
        if in_vls and made.LAYOUT.texts:
            made.VLS_LAYOUT = _lay_out(made, type_, _declared(made, vls=True), 8, vls=True)
        MESSAGES[type_] = made
        return made

    return declare


def _declared(cls: type[Message], *, vls: bool = False) -> list[tuple[str, WireType]]:
    """Name and type of each field, in the order in which they lie in memory."""
    annotations = inspect.get_annotations(cls)
    declared: list[tuple[str, WireType]] = []
    for f in fields(cls):  # type: ignore[arg-type]  # `message` has just made it a dataclass
        _, wire, *more = get_args(annotations[f.name])
        at = len(declared)
        for note in more:
            if isinstance(note, OnlyInVls):
                at = [name for name, _ in declared].index(note.after) + 1 if vls else -1
            elif vls:
                wire = note.wire
        if at >= 0:
            declared.insert(at, (f.name, wire))
    return declared


def _lay_out(
    cls: type[Message], type_: int, declared: list[tuple[str, WireType]], pack: int, *, vls: bool = False
) -> Layout:
    header = "<HHH" if vls else "<HH"
    codes, placed, offset, widest = [header], [], struct.calcsize(header), 2
    for name, wire in declared:
        code, alignment = _code(wire, vls=vls)
        size, alignment = struct.calcsize(f"<{code}"), min(alignment, pack)
        padding = -offset % alignment
        codes.append(f"{padding}x{code}" if padding else code)
        placed.append(Field(name, wire, code, offset + padding, size))
        offset += padding + size
        widest = max(widest, alignment)
    tail = -offset % min(widest, pack)
    codes.append(f"{tail}x")
    names = [f.name for f in placed]
    before = 3 if vls else 2  # Size, Type and, in VLS, BaseSize
    unset = tuple((before + i, unset_float(f)) for i, f in enumerate(placed) if f.code in LARGEST)
    return Layout(
        type=type_,
        size=offset + tail,
        fields=tuple(placed),
        codec=struct.Struct("".join(codes)),
        values=attrgetter(*names) if len(names) > 1 else lambda m: (getattr(m, names[0]),),
        make=_maker(cls, names),
        texts=tuple((i, f.wire) for i, f in enumerate(placed) if isinstance(f.wire, Text)),
        floats=itemgetter(unset[0][0], *[index for index, _ in unset]) if unset else None,
        unset_floats=unset,
    )


def unset_float(field: Field) -> float:
    """What a float that makes no sense is read as: the largest, which states nothing; of a time 0.

    The header's default is not always fit: a position of 0 would be a statement.
    """
    is_time = isinstance(field.wire, CType) and field.wire.name.startswith("t_DateTime")
    return 0.0 if is_time else LARGEST[field.code]


def _code(wire: WireType, *, vls: bool) -> tuple[str, int]:
    """The `struct` code of a field, and what its offset is a multiple of."""
    if isinstance(wire, Text):
        return ("I", 2) if vls else (wire.code, 1)  # offset and length as one number
    code = wire.code if isinstance(wire, CType) else base_code(wire)
    return code, struct.calcsize(f"<{code}")


def _maker(cls: type[Message], names: list[str]) -> Callable[..., Message]:
    if names == list(cls.__match_args__[: len(names)]):  # type: ignore[attr-defined]  # a dataclass has them
        return cls
    return lambda *values: cls(**dict(zip(names, values, strict=True)))


def _numpy_code(code: str) -> str:
    return f"S{code[:-1]}" if code.endswith("s") else f"<{code}"
