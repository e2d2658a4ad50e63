"""Files that the daemon writes: plain files with mode 0640 or tighter, never reached through a symbolic link.

The link meant is the file itself: a directory on the way may be one, as when var/ lies on another disk.
"""

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o640
_OTHERS: Final = 0o027  # bits of a mode: group writes; others read, write, search
_WRITERS: Final = 0o022  # group or others write


def restrict_umask() -> None:
    """What this process and its children make from here on is 0640 or tighter, a directory 0750."""
    os.umask(os.umask(_OTHERS) | _OTHERS)


def open_file(path: Path, flags: int) -> int:
    """`os.open` for a file of ours: a descriptor.

    A file that others may read or that the group may write is restricted, where it is this user's.

    Args:
        path: its directory exists.
        flags: of open(2); O_CLOEXEC and O_NOFOLLOW are added.

    Raises:
        OSError: it can't be opened, or is a symbolic link or no plain file; `strerror` says so.
    """
    try:
        # With O_NONBLOCK a named pipe is refused below instead of waited for.
        file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refusal(path, "it is a symbolic link; put a plain file in its place") from error
        raise
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise _refusal(path, "it is no plain file")
        if mode & _OTHERS:
            with suppress(PermissionError):
                os.fchmod(file, stat.S_IMODE(mode) & ~_OTHERS)
    except OSError:
        os.close(file)
        raise
    return file


def prepare_database(path: Path) -> None:
    """Make or restrict the file of an SQLite database that is about to be opened.

    SQLite itself makes files that others can read, and follows links. An existing file is not opened here: closing it
    would drop the locks that this process has on it.

    Raises:
        OSError: as `open_file`.
    """
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(mode):
            raise _refusal(file, "it is a symbolic link; put a plain file in its place")
        if not stat.S_ISREG(mode):
            raise _refusal(file, "it is no plain file")
        if mode & _OTHERS:
            with suppress(PermissionError):
                file.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    with suppress(FileExistsError):
        os.close(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def replace_file(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write a file so that under its name it is complete or as it was, also when the process is killed.

    Raises:
        OSError: it can't be written; nothing new is left behind.
    """
    part = part_of(path)
    try:
        with os.fdopen(open_file(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.writelines(content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


def part_of(path: Path) -> Path:
    """Where the new content of a file lies until it is complete."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def open_directories(root: Path) -> list[Path]:
    """The directories in `root` that others can read or the group can write; `root` itself where others can write."""
    try:
        inner = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink()]
        found = [root] if root.stat().st_mode & _WRITERS else []
        return found + [path for path in inner if path.stat().st_mode & _OTHERS]
    except OSError:  # not made yet, or not ours to read
        return []


def _refusal(path: Path, reason: str) -> OSError:
    return OSError(errno.EINVAL, reason, str(path))
