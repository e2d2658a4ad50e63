"""Deferred work: done after the event loop has polled its sockets, in short slices."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mia_daemon.clock import NS_PER_US, Clock

SLICE_NS: Final = 200 * NS_PER_US
"""Longest time that deferred work delays a market event or an order update, beyond the item in progress."""


class DeferredWork:
    """Does work in the order in which it was added, while `run` runs; immediately while it does not (replay)."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic_ns
        self._waiting: deque[Callable[[], None]] = deque()
        self._wake: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Callable[[], None]) -> None:
        """Add work; its errors end `run`, or are raised here where it is done immediately."""
        if self._wake is None:
            work()
            return
        self._waiting.append(work)
        self._wake.set()

    def flush(self) -> None:
        """Do all work that waits, now, also after an error; the first error is raised at the end."""
        first: Exception | None = None
        while self._waiting:
            try:
                self._waiting.popleft()()
            except Exception as error:  # noqa: BLE001  # raised below
                first = first or error
        if first is not None:
            raise first

    async def run(self) -> None:
        """Do waiting work until cancelled; the rest is done before this returns."""
        self._wake = asyncio.Event()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await asyncio.sleep(0)  # let the event loop poll its sockets
                    self._do_a_slice()
        finally:
            self._wake = None
            self.flush()

    def _do_a_slice(self) -> None:
        ends_ns = self._now() + SLICE_NS
        while self._waiting:
            self._waiting.popleft()()
            if self._now() >= ends_ns:
                return
