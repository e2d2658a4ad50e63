"""Buffer between a producer that can't wait (a socket) and a bounded queue: no loss; waiting batches are joined."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from mia_daemon.feed.base import BatchQueue, EventBatch

JOIN_EVENTS: Final = 65_536
"""Maximum rows of a joined batch: one batch must not block the event loop for long."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the consumer is behind."""

    backlog_events: int  # received, not yet on the queue
    most_events: int  # the largest backlog so far
    joined_batches: int  # batches that had to wait and left as part of a larger one, since the start


class Outlet:
    """Puts batches on `queue`, immediately while it is not full.

    While the queue is full, batches wait here and are then joined, in order. Beyond `limit_events` waiting rows `pause`
    is called, to pause the source, and `resume` once half of them are on the queue.
    """

    def __init__(
        self, queue: BatchQueue, limit_events: int, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._limit = limit_events
        self._pause = pause
        self._resume = resume
        self._paused = False
        self._waiting: deque[EventBatch] = deque()
        self._backlog = 0
        self._most = 0
        self._joined = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def lag(self) -> Lag:
        return Lag(self._backlog, self._most, self._joined)

    def offer(self, batch: EventBatch) -> None:
        """Take one batch; never waits and never drops."""
        if self._idle.is_set() and not self._queue.full():
            self._queue.put_nowait(batch)
            return
        self._waiting.append(batch)
        self._backlog += len(batch.events)
        self._most = max(self._most, self._backlog)
        self._idle.clear()
        self._wake.set()
        if self._backlog > self._limit:
            self._paused = True
            self._pause()  # each time: a connection made since the last call is not paused

    async def run(self) -> None:
        """Move what waits to the queue, until cancelled."""
        while True:
            await self._wake.wait()
            while self._waiting:
                batch = self._join()
                await self._queue.put(batch)
                self._backlog -= len(batch.events)
                if self._paused and self._backlog <= self._limit // 2:
                    self._paused = False
                    self._resume()
            self._wake.clear()
            self._idle.set()

    async def drained(self) -> None:
        """Wait until nothing waits here any more."""
        await self._idle.wait()

    def _join(self) -> EventBatch:
        """The oldest batches as one, with the ingress time of the oldest, so that waiting counts as latency."""
        first = self._waiting.popleft()
        parts, size = [first.events], len(first.events)
        while self._waiting and size + len(self._waiting[0].events) <= JOIN_EVENTS:
            parts.append(self._waiting.popleft().events)
            size += len(parts[-1])
        if len(parts) == 1:
            return first
        self._joined += len(parts)
        return EventBatch(np.concatenate(parts), first.ingress_ns)
