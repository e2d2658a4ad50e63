"""JSON encoding, and its compact form: one object per message, each ended by a NUL.

    {"Type":107,"SymbolID":1,"AtBidOrAsk":2,"Price":6000.25,"Volume":1,"DateTime":1790000000.5}
    {"Type":107,"F":[1,2,6000.25,1,1790000000.5]}

The compact form, fields in their order and without names, is for frequent messages only; both forms are always read.
A field that is null or left out is unset: it takes its default. In market data, where a default of 0 would be a price,
such a number is DBL_MAX or FLT_MAX, which no reader takes for one.

A whole number is written as an integer also where the field is a double (5997, not 5997.0), as Sierra Chart does it;
JSON knows no difference. Decoding takes what a C program would convert (5.0 for an integer, "5" for a number). What is
no number, infinite or beyond the field's range is unset: a float as `unset_float` has it, an integer as its default.
With a value of another kind the frame is unreadable.
"""

import json
import math
import operator
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any

from mia_daemon.dtc.json_frame import is_no_number, load
from mia_daemon.dtc.layout import LARGEST, MESSAGES, Field, Message, Text, unset_float
from mia_daemon.dtc.market_columns import READINGS
from mia_daemon.dtc.text import decode_text, encode_text
from mia_daemon.errors import UnreadableFrame, UsageError

COMPACT_TYPES = frozenset(
    {3, 104, *range(106, 110), *range(112, 116), 117, 119, 120, 122, 124, 134, 137, *range(140, 149), 803, 804}
)
"""Those that the protocol lists for the compact form, and the market data messages that came after that list."""

_LAST_WHOLE = float(1 << 53)
"""Up to here a double is exact to one."""

_MARKET_DATA = frozenset(reading.message.TYPE for reading in READINGS)
_MISFITS = (ValueError, OverflowError, TypeError)
_SENTINELS = frozenset({*LARGEST.values(), 0xFFFFFFFF, 0x7FFFFFFF})


@dataclass(frozen=True, slots=True)
class _Member:
    """A field as a member of an object.

    Attributes:
        read: its value from a JSON value. Raises ValueError or TypeError.
        unset: its value where the object says nothing.
        write: makes it a value that JSON has.
        as_null: `unset` is a number that stands for "unset", and is written as null.
    """

    name: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    unset: Any
    as_null: bool


def encode(message: Message) -> bytes:
    """The message as it travels, its NUL included.

    Raises:
        UsageError: a value does not fit its field.
    """
    return _dump({"Type": message.TYPE, **_pairs(message)})


def encode_compact(message: Message) -> bytes:
    """As `encode`, in the compact form where the message has one."""
    pairs = _pairs(message)
    if message.TYPE in COMPACT_TYPES:
        return _dump({"Type": message.TYPE, "F": list(pairs.values())})
    return _dump({"Type": message.TYPE, **pairs})


def decode(frame: bytes | memoryview) -> Message | None:
    """The message in one frame, or None when its type is unknown or the frame is empty.

    Raises:
        UnreadableFrame: it is no JSON, no message, or a value is not of its field's kind.
    """
    raw = bytes(frame).strip(b"\0 \t\r\n")
    return from_object(load(raw)) if raw else None


def from_object(record: object) -> Message | None:
    """The message that a parsed JSON value is; raises as `decode`."""
    type_ = record.get("Type") if isinstance(record, dict) else None
    if not isinstance(record, dict) or type(type_) is not int:
        raise UnreadableFrame("a message is an object with a number for its Type", kind="no Type")
    cls = MESSAGES.get(type_)
    if cls is None:
        return None
    members = _members(type_)
    listed = record.get("F")
    if isinstance(listed, list):
        _check_length(cls, members, listed)
        said = [*listed[: len(members)], *[None] * (len(members) - len(listed))]
    else:
        said = [record.get(member.name) for member in members]
    try:
        return cls(*[member.read(value) for member, value in zip(members, said, strict=True)])
    except _MISFITS:
        return cls(*[_value(cls, member, value) for member, value in zip(members, said, strict=True)])  # says which


def from_named(cls: type[Message], record: dict[str, Any]) -> Message:
    """The message with these fields; those left out have the defaults of the header.

    Raises:
        UnreadableFrame: a value is not of its field's kind, or there is no such field.
    """
    members = {member.name: member for member in _members(cls.TYPE)}
    if strange := record.keys() - members.keys():
        raise UnreadableFrame(f"{cls.NAME} has no field {min(strange)}", kind="no such field", type_=cls.TYPE)
    return cls(**{name: _value(cls, members[name], value) for name, value in record.items()})


def _check_length(cls: type[Message], members: tuple[_Member, ...], listed: list[Any]) -> None:
    """A newer server may say more than is known here. But a decimal comma also makes two values of one."""
    if len(listed) <= len(members) or any(isinstance(value, float) for value in listed):
        return
    if any(isinstance(member.unset, float) for member in members):
        raise UnreadableFrame(
            f"{cls.__name__} has {len(listed)} values for {len(members)} fields, and none with a decimal point: "
            "are they written with a decimal comma?",
            kind=f"length of {cls.__name__}",
            type_=cls.TYPE,
        )


def _value(cls: type[Message], member: _Member, value: object) -> Any:
    try:
        return member.read(value)
    except _MISFITS:
        shown = type(value).__name__ if isinstance(member.unset, str) else _short(value)  # text may be a password
        name = f"{cls.__name__}.{member.name}"
        raise UnreadableFrame(f"{name} can't be {shown}", kind=name, type_=cls.TYPE) from None


def _short(value: object) -> str:
    if isinstance(value, list | dict):  # which may be nested beyond what can be shown
        return "a list" if isinstance(value, list) else "an object"
    said = repr(value)
    return said if len(said) <= 40 else f"{said[:40]}…"


def _dump(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\0"


def _pairs(message: Message) -> dict[str, Any]:
    pairs = {}
    for member in _members(message.TYPE):
        value = getattr(message, member.name)
        try:
            written = member.write(value)
        except _MISFITS as error:
            shown = "" if isinstance(member.unset, str) else f" = {_short(value)}"  # text may be a password
            raise UsageError(f"{type(message).__name__}.{member.name}{shown} can't be sent: {error}") from error
        pairs[member.name] = None if member.as_null and written == member.unset else written
    return pairs


@cache
def _members(type_: int) -> tuple[_Member, ...]:
    cls = MESSAGES[type_]
    declared = (*cls.VLS_LAYOUT.fields, *cls.LAYOUT.fields)
    members = []
    for f in fields(cls):  # type: ignore[arg-type]  # every message is a dataclass
        assert f.default is not MISSING
        lies = [field for field in declared if field.name == f.name]
        code, unset = lies[-1].code, f.default
        if type_ in _MARKET_DATA and code in LARGEST:
            unset = unset_float(lies[-1])
        members.append(_Member(f.name, *_kind(lies, unset), unset, unset in _SENTINELS))
    return tuple(members)


def _kind(lies: list[Field], unset: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What reads and what writes a value of a field that lies so in the binary encodings."""
    if isinstance(lies[0].wire, Text):
        return lambda value: unset if value is None else _text(value), _sendable_text
    code = lies[0].code
    if code in LARGEST:
        read = _reads_float(LARGEST[code], unset, unset_float(lies[0]))
        return read, _sendable_float if code == "f" else _sendable_double
    ranges = [_range(field) for field in lies]  # those of the two encodings differ for a few
    return _integer(min(low for low, _ in ranges), max(high for _, high in ranges), unset)


def _integer(low: int, high: int, unset: int) -> tuple[Callable[[Any], int], Callable[[Any], int]]:
    def sendable(value: Any) -> int:
        number = operator.index(value)
        if not low <= number <= high:
            raise ValueError(f"it is not between {low} and {high}")
        return number

    def read(value: Any) -> int:
        if type(value) is int:
            return value if low <= value <= high else unset
        if value is None:
            return unset
        number = _number(value)
        return int(number) if low <= number <= high else unset

    return read, sendable


def _reads_float(largest: float, unset: float, senseless: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if type(value) is not float:
            if value is None:
                return unset
            value = _number(value)
        return float(value) if -largest <= value <= largest else senseless

    return read


def _range(field: Field) -> tuple[int, int]:
    bits = 8 * field.size
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if field.code.islower() else (0, (1 << bits) - 1)


def _sendable_text(value: Any) -> str:
    encode_text(value)
    return str(value)


def _sendable_double(value: Any) -> int | float:
    if isinstance(value, str):
        raise TypeError("a number is expected, not str")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("JSON has no such number")
    if not number.is_integer() or abs(number) >= _LAST_WHOLE or (number == 0.0 and math.copysign(1.0, number) < 0.0):
        return number  # an integer has no -0.0
    return int(number)


def _sendable_float(value: Any) -> int | float:
    number = _sendable_double(value)
    if abs(number) > LARGEST["f"]:
        raise OverflowError("float too large")
    return number


def _number(value: Any) -> int | float:
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        raise TypeError
    if not value.strip() or is_no_number(value):
        return math.nan
    return int(value) if value.strip("+-").isdigit() else float(value)


def _text(value: Any) -> str:
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise TypeError
    if value.isascii() and "\0" not in value:
        return value
    return decode_text(value.encode(errors="replace"))  # JSON can spell half a character
