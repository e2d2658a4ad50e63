"""The file of a tape: what reached the account of one session, for `replay` and `verify-session`.

A header (magic, length, JSON that states how the session began), then the entries: a fixed head (kind, length or count,
our time, wall clock) and a payload of that length, JSON but for the delays of a decision. An input's entries go to the
kernel in one `write` once its orders are sent. What a kill in the middle of one tears is ignored by the reader.
"""

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mia_daemon.errors import FileFormatError
from mia_daemon.execution.inputs import InputKind, TapeEntry
from mia_daemon.private_file import open_file
from mia_daemon.records import (
    BalanceReport,
    Bracket,
    BrokerSnapshot,
    BrokerTrouble,
    Fill,
    LinkReport,
    Order,
    OrderReport,
    PositionReport,
)
from mia_daemon.risk.snapshot import Delays

FILE_NAME: Final = "inputs.bin"
MAGIC: Final = b"MIAINPUT"

_LENGTH: Final = struct.Struct("<I")
_HEAD: Final = struct.Struct("<BxxxIqq")  # kind, length of the payload or events of a window, our time, wall clock
_DELAYS: Final = struct.Struct("<dd")
_TYPES: Final = {
    type_.__name__: type_
    for type_ in (
        BalanceReport, Bracket, BrokerSnapshot, BrokerTrouble, Fill, LinkReport, Order, OrderReport, PositionReport
    )
}  # fmt: skip


class TapeFile:
    """Writes a tape to `directory`/inputs.bin, whose header states `beginning`.

    Raises:
        OSError: here and in `flush`.
    """

    def __init__(self, directory: Path, beginning: dict[str, Any]) -> None:
        self.path = directory / FILE_NAME
        self._waiting: list[TapeEntry] = []
        self._fd = open_file(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        header = json.dumps(beginning).encode()
        self._write(MAGIC + _LENGTH.pack(len(header)) + header)

    def add(self, entry: TapeEntry) -> None:
        """Append one; it is written by the next `flush`."""
        self._waiting.append(entry)

    def flush(self) -> None:
        """Write what waits; it is in the kernel when this returns."""
        if self._waiting and self._fd >= 0:
            data = b"".join(map(encoded, self._waiting))
            self._waiting.clear()
            self._write(data)

    def _write(self, data: bytes) -> None:
        while (written := os.write(self._fd, data)) < len(data):
            data = data[written:]

    def close(self) -> None:
        """Close the file; what waits, and what is added from here on, is dropped."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def encoded(entry: TapeEntry) -> bytes:
    """An entry as it is in the file."""
    kind, own_ns, wall_ns, payload = entry
    if kind is InputKind.WINDOW:
        return _HEAD.pack(kind, payload, own_ns, wall_ns)
    if kind is InputKind.SIGNAL:
        data = _DELAYS.pack(*payload)
    else:
        data = b"" if payload is None else json.dumps(payload, default=_packed).encode()
    return _HEAD.pack(kind, len(data), own_ns, wall_ns) + data


def _packed(value: Any) -> Any:
    """A record as JSON can hold it: its fields, under the name of its type."""
    if is_dataclass(value) and type(value).__name__ in _TYPES and not isinstance(value, type):
        return {type(value).__name__: asdict(value)}
    raise TypeError(f"{type(value).__name__} can't be on a tape")


def _unpacked(value: Any) -> Any:
    """The inverse of `_packed`, with tuples for lists."""
    if isinstance(value, list):
        return tuple(map(_unpacked, value))
    if isinstance(value, dict) and len(value) == 1:
        ((name, fields),) = value.items()
        if name in _TYPES:
            return _adapter(name).validate_python(fields)
    return value


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(_TYPES[name])


def is_tape(path: Path) -> bool:
    """Whether the recording in the directory `path` has the inputs of its account too."""
    return (path / FILE_NAME).exists()


def read_beginning(directory: Path) -> dict[str, Any]:
    """How the session began. Raises FileFormatError."""
    return _read_header(directory / FILE_NAME)[0]


def read_tape(directory: Path, rename: tuple[str, str] = ("", "")) -> Iterator[TapeEntry]:
    """The entries in order; a torn tail is left out.

    Args:
        directory: of the recording.
        rename: the run id in the names of orders and decisions, and the one to put in its place.

    Raises:
        FileFormatError: also while reading.
    """
    path = directory / FILE_NAME
    start = _read_header(path)[1]
    try:
        yield from decoded(path.read_bytes()[start:], rename)
    except ValueError as error:
        raise FileFormatError(f"{path} is damaged ({error}): replay the recording with --refill") from error


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header's JSON, and where the entries start."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC) + _LENGTH.size)
            if not head.startswith(MAGIC) or len(head) < len(MAGIC) + _LENGTH.size:
                raise FileFormatError(f"{path} holds no inputs of a session: replay the recording with --refill")
            (length,) = _LENGTH.unpack(head[len(MAGIC) :])
            beginning = json.loads(file.read(length))
    except OSError as error:
        raise FileFormatError(f"{path} can't be read: {error.strerror}; check the name") from error
    except ValueError as error:
        raise FileFormatError(f"{path} has a damaged header: replay the recording with --refill") from error
    return beginning, len(head) + length


def decoded(data: bytes, rename: tuple[str, str]) -> Iterator[TapeEntry]:
    """The entries in `data`; `rename` as in `read_tape`. Raises ValueError."""
    old, new = (f'"{run}-'.encode() for run in rename)
    at = 0
    while at + _HEAD.size <= len(data):
        number, length, own_ns, wall_ns = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size
        at = start if number == InputKind.WINDOW else start + length
        if at > len(data):
            return
        try:
            kind = InputKind(number)
            payload = length if kind is InputKind.WINDOW else _payload(kind, data[start:at].replace(old, new))
        except (ValueError, struct.error, ValidationError) as error:
            raise ValueError(f"at byte {start - _HEAD.size:,}") from error
        yield TapeEntry(kind, own_ns, wall_ns, payload)


def _payload(kind: InputKind, data: bytes) -> Any:
    if kind is InputKind.SIGNAL:
        return Delays(*_DELAYS.unpack(data))
    return _unpacked(json.loads(data)) if data else None
