"""Work that nobody waits for: done after the event loop has looked at its sockets, a little at a time."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mia_daemon.clock import NS_PER_US, Clock

SLICE_NS: Final = 200 * NS_PER_US
"""For how long it keeps a market event or an order update waiting, at most, beside the piece of work in hand."""


class DeferredWork:
    """Does what is added in the order in which it was added, while `run` runs; at once while it does not (replay)."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic_ns
        self._waiting: deque[Callable[[], None]] = deque()
        self._wake: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Callable[[], None]) -> None:
        """To be done soon; its errors end `run`, or reach the caller where it is done at once."""
        if self._wake is None:
            work()
            return
        self._waiting.append(work)
        self._wake.set()

    def flush(self) -> None:
        """Do all that waits, now."""
        while self._waiting:
            self._waiting.popleft()()

    async def run(self) -> None:
        """Do what waits, until cancelled; what is left then is done before this returns."""
        self._wake = asyncio.Event()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await asyncio.sleep(0)  # the sockets first
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
