"""Packs raw segments of recordings: the packed file is written, read back and compared before the raw one goes."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import zstandard

from mia_daemon import lock_file
from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.execution.tape_file import FILE_NAME as TAPE
from mia_daemon.execution.tape_file import PACKED_NAME as PACKED_TAPE
from mia_daemon.feed.event_codec import LEVEL
from mia_daemon.feed.recording import HEADER_SIZE, PACKED, RAW, Segment, packed_content, segment_paths
from mia_daemon.private_file import open_file

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_PIECE: Final = 1 << 20  # bytes compared at a time


def closed_segments(recordings: Path) -> list[Path]:
    """The raw segments and inputs below the directory that no recorder writes any more, oldest recording first."""
    try:
        directories = sorted(path for path in recordings.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:  # not made yet
        return []
    found: list[Path] = []
    for directory in directories:
        for path in (*segment_paths(directory), directory / TAPE):
            with suppress(OSError):  # removed meanwhile
                if path.suffix == RAW and path.lstat().st_size > HEADER_SIZE and not lock_file.is_claimed(path):
                    found.append(path)
    return found


def pack(raw: Path) -> int:
    """Pack a raw segment or the inputs of a session; returns the bytes that are saved."""
    return pack_tape(raw) if raw.name == TAPE else pack_segment(raw)


def pack_segment(raw: Path) -> int:
    """Replace a raw segment by a packed one of the same events; returns the bytes that are saved.

    A segment without events is left as it is. Killed at any moment, this leaves the raw segment, the packed one, or
    both, which are equal then; the next call removes what is left over.

    Raises:
        FileFormatError: the segment can't be read, or would not be read back bit by bit; it is left as it is.
        StartError: the disk refuses it.
    """
    segment = Segment(raw)
    if not len(segment):
        return 0

    def write(part: Path) -> None:
        _write(part, segment)
        _compare(segment, Segment(part))

    return _replace(raw, raw.with_suffix(PACKED), write)


def pack_tape(raw: Path) -> int:
    """Replace the inputs of a session by the same bytes, packed by zstd; otherwise as `pack_segment`."""

    def write(part: Path) -> None:
        with raw.open("rb") as file, os.fdopen(open_file(part, _NEW), "wb") as copy:
            zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).copy_stream(file, copy)
            copy.flush()
            os.fsync(copy.fileno())
        with (
            raw.open("rb") as file,
            part.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed) as again,
        ):
            while piece := file.read(_PIECE):
                if again.read(len(piece)) != piece:
                    raise FileFormatError(_differs(raw))

    return _replace(raw, raw.with_name(PACKED_TAPE), write)


def _replace(raw: Path, packed: Path, write: Callable[[Path], None]) -> int:
    """Put the file that `write` makes, and has compared, in the place of `raw`; returns the bytes that are saved."""
    part = raw.with_name(f".{packed.name}.part")
    try:
        write(part)
        status = raw.stat()
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))  # its age is that of the events
        part.replace(packed)
        _sync_directory(raw.parent)
        raw.unlink()
        return status.st_size - packed.stat().st_size
    except OSError as error:
        raise StartError(f"{packed} can't be written: {error.strerror}; make room or check its owner") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _write(part: Path, segment: Segment) -> None:
    with os.fdopen(open_file(part, _NEW), "wb") as file:
        (events,) = segment.pieces(0, len(segment))
        file.writelines(packed_content(segment.header, events))
        file.flush()
        os.fsync(file.fileno())


def _compare(segment: Segment, copy: Segment) -> None:
    """Raises FileFormatError unless the copy has the same header and, bit by bit, the same events."""
    (events,) = segment.pieces(0, len(segment))
    begin, same = 0, segment.header == copy.header and len(segment) == len(copy)
    for piece in copy.pieces(0, len(copy)):
        same = same and piece.tobytes() == events[begin : begin + len(piece)].tobytes()
        begin += len(piece)
    if not same:
        raise FileFormatError(_differs(segment.path))


def _differs(path: Path) -> str:
    return f"{path} is not packed: what was read back differs; report this, and keep the file"


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
