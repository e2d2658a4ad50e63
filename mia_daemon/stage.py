"""A stage: one supervised task between two bounded queues, with the counters that say how it fares.

A stage's work is a plain function of one item; the loop around it, its counters and its shutdown are here. The end of
the data travels through the queues as `END`, so a drained replay stops every stage in order. A stage that raises takes
the TaskGroup it runs in down with it, as `StageDied`, so that nothing trades on with a dead neighbour.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, TypeVar

from mia_daemon.clock import NS_PER_MS, NS_PER_S, Clock
from mia_daemon.errors import MiaError, StageDied
from mia_daemon.latency import LatencyBuckets
from mia_daemon.records import StageStats

T = TypeVar("T")
R = TypeVar("R")


class EndOfData:
    """The type of `END`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "END"


END: Final = EndOfData()
"""Sent down the queues once, after the last item."""


class StageCounters:
    """What one stage has done so far. Written by the stage, read once a second by ops."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.items_in = 0
        self.items_out = 0
        self.events_in = 0
        self.failures = 0
        self.busy_ns = 0
        self.latency = LatencyBuckets()
        self._clock = clock
        self._last_ns = clock.monotonic_ns()
        self._depth: Callable[[], int] = lambda: 0

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Report this queue's length as the stage's depth."""
        self._depth = depth

    def start(self) -> int:
        """Begin one operation; hand the result to `done`."""
        self.items_in += 1
        self._last_ns = self._clock.monotonic_ns()
        return self._last_ns

    def done(self, started_ns: int) -> None:
        """One operation ended well."""
        spent = self._clock.monotonic_ns() - started_ns
        self.busy_ns += spent
        self.latency.add(spent)

    @property
    def progress(self) -> int:
        """Grows with every item: what the watchdog looks at."""
        return self.items_in

    @property
    def queue_depth(self) -> int:
        return self._depth()

    def sample(self) -> StageStats:
        """The counters as a value; latency starts anew."""
        latency = self.latency
        stats = StageStats(
            stage=self.name,
            items_in=self.items_in,
            items_out=self.items_out,
            events_in=self.events_in,
            failures=self.failures,
            busy_s=self.busy_ns / NS_PER_S,
            queue_depth=self.queue_depth,
            last_event_age_s=(self._clock.monotonic_ns() - self._last_ns) / NS_PER_S,
            operations=latency.count,
            latency_mean_s=latency.mean_s,
            latency_p50_s=latency.quantile_s(0.5),
            latency_p99_s=latency.quantile_s(0.99),
            latency_max_s=latency.max_s,
        )
        self.latency = LatencyBuckets()
        return stats


class LoopWatch:
    """Notices how late the event loop turns, by a timer of its own.

    Attributes:
        held_up_ns: by how much the loop was late when it was last looked at; 0 while nobody looks.
    """

    EVERY_NS = 50 * NS_PER_MS

    def __init__(self, clock: Clock) -> None:
        self.held_up_ns = 0
        self._now = clock.monotonic_ns
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on, until `stop`."""
        self._due_ns = self._now() + self.EVERY_NS
        self._timer = asyncio.get_running_loop().call_later(self.EVERY_NS / NS_PER_S, self._look)

    def _look(self) -> None:
        self.held_up_ns = max(self._now() - self._due_ns, 0)
        self.start()

    def stop(self) -> None:
        self.held_up_ns = 0
        if self._timer is not None:
            self._timer.cancel()


class Stage(Generic[T, R]):
    """A task that takes items from a queue, works on each, and puts what comes out on the next queue.

    Args:
        name: of the stage, as in logs and metrics.
        work: called with each item; the results to pass on, in order. Its errors end the stage.
        inbox: queue of items; `END` ends the stage after it was passed on. Its `join` waits until all were worked off.
        outbox: queue of results, or None for the last stage. A full queue holds the stage back.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], Awaitable[Iterable[R]]],
        inbox: "asyncio.Queue[T | EndOfData]",
        outbox: "asyncio.Queue[R | EndOfData] | None",
        clock: Clock,
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.counters = StageCounters(name, clock)
        self.counters.watch_queue(inbox.qsize)
        self._work = work
        self._inbox = inbox
        self._outbox = outbox
        self._on_end = on_end

    @property
    def name(self) -> str:
        return self.counters.name

    async def run(self) -> None:
        """Work until `END`. Raises StageDied with the cause when an item could not be worked on."""
        while not isinstance(item := await self._inbox.get(), EndOfData):
            await self._one(item)
            self._inbox.task_done()
        if self._on_end is not None:
            await self._on_end()
        if self._outbox is not None:
            await self._outbox.put(END)

    async def _one(self, item: T) -> None:
        counters = self.counters
        started = counters.start()
        try:
            await self._pass_on(await self._work(item))
        except MiaError as error:
            counters.failures += 1
            raise StageDied(f"the {self.name} task stopped: {error}") from error
        except Exception as error:
            counters.failures += 1
            raise StageDied(f"the {self.name} task failed ({type(error).__name__}: {error})") from error
        counters.done(started)

    async def _pass_on(self, results: Iterable[R]) -> None:
        for result in results:
            self.counters.items_out += 1
            if self._outbox is not None:
                await self._outbox.put(result)
