"""A directory of files that appears complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mia_daemon.errors import StartError, UsageError


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Gives a directory to write to, which becomes `directory` at the end; on an error nothing of it remains.

    Raises:
        UsageError: `directory` holds something already, or is the working directory.
        StartError: it can't be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} holds something already: name a directory that is new or empty")
    if directory.exists() and directory.samefile(Path()):  # replaced while the shell is in it
        raise UsageError(f"{directory} is the working directory: name another that is new or empty")
    part = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        part.replace(directory)
    except OSError as error:
        raise StartError(f"{directory} can't be written: {error.strerror}; make room or check its owner") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
