"""A stage: one supervised task between two bounded queues, with its counters.

A stage's work is a generator of the results of one item; this module has the loop around it, its counters and its
shutdown. An item put on a stage's queue is processed in the same callback of the event loop. Each result is processed
by the next stage, and so on to the last, before the next result is made. When a callback has used up its
`CallbackBudget`, the first stage's task continues in later callbacks, so that a command or an order update never waits
for longer than that.

The end of the data is passed through the queues as `END`, so a drained replay stops every stage in order. A stage that
raises ends its TaskGroup, as `StageDied`, so that no stage trades on after another has failed.
"""

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

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
"""Put on each queue once, after the last item."""


class StageCounters:
    """Counters of one stage. Written by the stage, read once a second by ops."""

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

    def start(self) -> None:
        """Begin an operation."""
        self.items_in += 1
        self._last_ns = self._clock.monotonic_ns()

    def done(self, spent_ns: int) -> None:
        """End an operation that succeeded; `spent_ns` excludes the time of later stages in between."""
        self.busy_ns += spent_ns
        self.latency.add(spent_ns)

    @property
    def progress(self) -> int:
        """A number that rises with every item; read by the watchdog."""
        return self.items_in

    @property
    def queue_depth(self) -> int:
        return self._depth()

    def sample(self) -> StageStats:
        """The counters as a value; latency is counted from 0 again."""
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
    """Measures how late the event loop runs, by a timer of its own.

    Attributes:
        held_up_ns: by how much the loop was late at the last measurement; 0 while it is not measured.
    """

    EVERY_NS = 50 * NS_PER_MS

    def __init__(self, clock: Clock) -> None:
        self.held_up_ns = 0
        self._now = clock.monotonic_ns
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure until `stop`."""
        self._due_ns = self._now() + self.EVERY_NS
        self._timer = asyncio.get_running_loop().call_later(self.EVERY_NS / NS_PER_S, self._look)

    def _look(self) -> None:
        self.held_up_ns = max(self._now() - self._due_ns, 0)
        self.start()

    def stop(self) -> None:
        self.held_up_ns = 0
        if self._timer is not None:
            self._timer.cancel()


class CallbackBudget:
    """How much work one callback of the event loop may start before it has to return.

    Args:
        max_events: market events; None for no limit.
        max_ns: on the monotonic clock; None for no limit.
    """

    def __init__(self, clock: Clock, max_events: int | None = 256, max_ns: int | None = 2 * NS_PER_MS) -> None:
        self._now = clock.monotonic_ns
        self._max_events = max_events
        self._max_ns = max_ns
        self._events = 0
        self._ends_ns = 0

    def begin(self) -> None:
        """Start the budget of a callback."""
        self._events = 0
        if self._max_ns is not None:
            self._ends_ns = self._now() + self._max_ns

    def spend(self, events: int) -> None:
        """Count `events` market events as processed."""
        self._events += events

    def allowance(self, wanted: int) -> int:
        """How many of `wanted` market events this callback may process, at least one."""
        return wanted if self._max_events is None else max(min(wanted, self._max_events - self._events), 1)

    @property
    def exhausted(self) -> bool:
        """Whether the rest has to wait for a later callback."""
        if self._max_events is not None and self._events >= self._max_events:
            return True
        return self._max_ns is not None and self._now() >= self._ends_ns


class StageQueue(asyncio.Queue[T | EndOfData]):
    """A bounded queue whose consumer is called with each put."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.on_put: Callable[[], None] = _nobody

    def put_nowait(self, item: T | EndOfData) -> None:
        super().put_nowait(item)
        self.on_put()


class Stage(Generic[T, R]):
    """A task that takes items from a queue, processes each, and puts the results on the next queue.

    Args:
        name: of the stage, as in logs and metrics.
        work: called with each item; yields the results to pass on, in order. Its errors end the stage.
        inbox: queue of items; `END` ends the stage after it was passed on.
        following: the stage that takes the results; None for the last one.
        budget: of a callback, for the first of the stages; None where items are always processed at once.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], Iterable[R]],
        inbox: StageQueue[T],
        clock: Clock,
        *,
        following: "Stage[R, Any] | None" = None,
        budget: CallbackBudget | None = None,
    ) -> None:
        self.counters = StageCounters(name, clock)
        self.counters.watch_queue(self._depth)
        self.inbox = inbox
        inbox.on_put = self._on_put
        self._work = work
        self._following = following
        self._budget = budget or CallbackBudget(clock, None, None)
        self._now = clock.monotonic_ns
        self._results: Iterator[R] | None = None  # of the present item
        self._spent_ns = 0  # on the present item
        self._draining = self._ended = False
        self._error: StageDied | None = None
        self._wake = asyncio.Event()

    @property
    def name(self) -> str:
        return self.counters.name

    def _depth(self) -> int:
        """Items that wait, the present one included."""
        return self.inbox.qsize() + (self._results is not None)

    async def run(self) -> None:
        """Process what no callback has finished, until `END`.

        Raises:
            StageDied: an item could not be processed; with the cause.
        """
        try:
            while self._error is None and not self._ended:
                await self._wake.wait()
                self._wake.clear()
                self._drain()
                await asyncio.sleep(0)  # let the event loop poll its sockets
        finally:
            if isinstance(self._results, Generator):
                self._results.close()  # the item in hand: `work` may have something to put in order
        if self._error is not None:
            raise self._error

    def _on_put(self) -> None:
        """Process an item at once, unless others wait before it; then the task does."""
        if not (self._draining or self._wake.is_set()):
            self._drain()

    def _drain(self) -> None:
        """Process what waits, while the callback's budget lasts and later stages have nothing left to do."""
        self._budget.begin()
        self._draining = True
        try:
            while self._error is None and self._depth() and not self._is_held_back():
                self._step()
                if self._budget.exhausted:
                    break
        finally:
            self._draining = False
        if self._ended or self._error is not None or self._depth():
            self._wake.set()

    def _is_held_back(self) -> bool:
        """Whether a later stage has failed, or has items left."""
        later = self._following
        return later is not None and (later._error is not None or later._depth() > 0 or later._is_held_back())  # noqa: SLF001  # of the same class

    def _step(self) -> None:
        """Make one result of the present item, or take the next item."""
        if self._results is None:
            item = self.inbox.get_nowait()
            if isinstance(item, EndOfData):
                self._end()
                return
            self.counters.start()
            self._spent_ns = 0
            self._results = self._guarded(item)
        began_ns = self._now()
        for result in self._results:
            self._spent_ns += self._now() - began_ns
            self.counters.items_out += 1
            if self._following is not None:
                self._following.inbox.put_nowait(result)
            return
        self._results = None
        self._spent_ns += self._now() - began_ns
        if self._error is None:
            self.counters.done(self._spent_ns)

    def _guarded(self, item: T) -> Iterator[R]:
        """The results of an item; an error ends them and the stage."""
        try:
            yield from self._work(item)
        except MiaError as error:
            self._fail(f"the {self.name} task stopped: {error}", error)
        except Exception as error:  # noqa: BLE001  # raised again by `run`
            self._fail(f"the {self.name} task failed ({type(error).__name__}: {error})", error)

    def _fail(self, text: str, cause: Exception) -> None:
        self.counters.failures += 1
        self._error = StageDied(text)
        self._error.__cause__ = cause

    def _end(self) -> None:
        self._ended = True
        if self._following is not None:
            self._following.inbox.put_nowait(END)


def _nobody() -> None:
    """Callback of a queue whose consumer does not exist yet."""
