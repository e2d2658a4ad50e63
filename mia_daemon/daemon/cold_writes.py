"""Whole files that nothing waits for, written with aiofiles beside the event loop: snapshots of trades and of risk."""

import asyncio
import os
from collections import deque
from contextlib import suppress
from pathlib import Path

import aiofiles
import aiofiles.os

from mia_daemon.appended_file import NOT_WRITTEN, FileNotice
from mia_daemon.journal.trade_files import whole_file_writer
from mia_daemon.private_file import open_file, part_of


class ColdWrites:
    """Writes files in the order in which they were given, while `run` runs; at once while it does not (replay).

    Under its name each file is complete or as it was. One that can't be written is reported, and stops nothing.
    """

    def __init__(self, notify: FileNotice) -> None:
        self._notify = notify
        self._write_at_once = whole_file_writer(notify)
        self._waiting: deque[tuple[Path, bytes]] = deque()
        self._wake: asyncio.Event | None = None

    def write(self, path: Path, content: bytes) -> None:
        """Have a file with this content."""
        if self._wake is None:
            self._write_at_once(path, content)
            return
        self._waiting.append((path, content))
        self._wake.set()

    async def run(self) -> None:
        """Write what waits until cancelled; the rest is written before this returns."""
        self._wake = asyncio.Event()
        writing: asyncio.Future[None] | None = None
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    writing = asyncio.ensure_future(self._write(*self._waiting.popleft()))
                    await asyncio.shield(writing)
        finally:
            self._wake = None
            if writing is not None:  # else an older content could take the place of a newer one
                await writing
            while self._waiting:
                self._write_at_once(*self._waiting.popleft())

    async def _write(self, path: Path, content: bytes) -> None:
        try:
            await aiofiles.os.makedirs(path.parent, exist_ok=True)
            await _replace(path, content)
        except OSError as error:
            self._notify(NOT_WRITTEN, f"{path} can't be written: {error.strerror}; make room or check its owner")


async def _replace(path: Path, content: bytes) -> None:
    """As `private_file.replace_file`."""
    part = part_of(path)

    def private(name: str, flags: int) -> int:
        return open_file(Path(name), flags)

    try:
        async with aiofiles.open(part, "wb", opener=private) as file:
            await file.write(content)
        await aiofiles.os.replace(part, path)
    except OSError:
        with suppress(OSError):
            os.unlink(part)  # noqa: PTH108  # a failure is rare, and this takes microseconds
        raise
