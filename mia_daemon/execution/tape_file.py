"""The file of a tape: what reached the account of one session, for `replay` and `verify-session`.

A header (magic, length, JSON that states how the session began), then the entries: a fixed head (kind, length or count,
our time, wall clock) and a payload of that length, JSON but for the delays of a decision. An input's entries go to the
kernel in one `write` once its orders are sent. What a kill in the middle of one tears is ignored by the reader.
The file is claimed (`lock_file`) while it is written; once the session is over it may be packed by zstd
(`inputs.packed`).
"""

import io
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import zstandard
from pydantic import TypeAdapter, ValidationError

from mia_daemon import lock_file
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
PACKED_NAME: Final = "inputs.packed"
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
        lock_file.claim(self._fd)
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


def is_tape(directory: Path) -> bool:
    """Whether the recording in the directory has the inputs of its account too."""
    return (directory / FILE_NAME).exists() or (directory / PACKED_NAME).exists()


def read_beginning(directory: Path) -> dict[str, Any]:
    """How the session began. Raises FileFormatError."""
    path = _path(directory)
    with _opened(path) as file:
        return _read_header(path, file)


def read_tape(directory: Path) -> Iterator[TapeEntry]:
    """The entries of the recording in `directory`, in order; a torn tail is left out.

    Raises:
        FileFormatError: also while reading.
    """
    path = _path(directory)
    with _opened(path) as file:
        _read_header(path, file)
        try:
            yield from decoded(file)
        except (OSError, ValueError, zstandard.ZstdError) as error:
            raise FileFormatError(f"{path} is damaged ({error}): replay the recording with --refill") from error


def _path(directory: Path) -> Path:
    packed = directory / PACKED_NAME
    return packed if packed.exists() else directory / FILE_NAME


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file as it was written, unpacked where it is packed."""
    try:
        with path.open("rb") as file:
            if path.name != PACKED_NAME:
                yield file
                return
            with zstandard.ZstdDecompressor().stream_reader(file) as stream:
                yield io.BufferedReader(stream)
    except FileNotFoundError as error:
        raise FileFormatError(
            f"{path.parent} has no {path.name} with the inputs of a session: name a directory of var/recordings; "
            "earlier versions recorded no inputs, which `replay` can do without"
        ) from error
    except OSError as error:
        raise FileFormatError(f"{path} can't be read: {error.strerror}; check the name") from error


def _read_header(path: Path, file: BinaryIO) -> dict[str, Any]:
    """The header's JSON; the entries follow. Raises FileFormatError."""
    try:
        head = file.read(len(MAGIC) + _LENGTH.size)
        if not head.startswith(MAGIC) or len(head) < len(MAGIC) + _LENGTH.size:
            raise FileFormatError(f"{path} holds no inputs of a session: replay the recording with --refill")
        (length,) = _LENGTH.unpack(head[len(MAGIC) :])
        beginning: dict[str, Any] = json.loads(file.read(length))
    except (ValueError, zstandard.ZstdError) as error:
        raise FileFormatError(f"{path} has a damaged header: replay the recording with --refill") from error
    return beginning


def decoded(file: BinaryIO) -> Iterator[TapeEntry]:
    """The entries from here to the end of the file; a torn tail is left out. Raises ValueError."""
    at = 0
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        number, length, own_ns, wall_ns = _HEAD.unpack(head)
        try:
            kind = InputKind(number)
            if kind is InputKind.WINDOW:
                payload: Any = length
            elif len(data := file.read(length)) == length:
                payload = _payload(kind, data)
                at += length
            else:
                return
        except (ValueError, struct.error, ValidationError) as error:
            raise ValueError(f"at byte {at:,} of its entries") from error
        at += _HEAD.size
        yield TapeEntry(kind, own_ns, wall_ns, payload)


def _payload(kind: InputKind, data: bytes) -> Any:
    if kind is InputKind.SIGNAL:
        return Delays(*_DELAYS.unpack(data))
    return _unpacked(json.loads(data)) if data else None
