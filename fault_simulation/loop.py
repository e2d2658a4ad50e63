"""An event loop in virtual time whose choices are drawn from a seed, and the processes that run on it.

Nothing here waits: when no callback is ready, time jumps to the next timer. The context of a callback identifies its
process, so a process can be frozen for a while, or killed between any two steps.

Order. A task has at most one step waiting, and steps of different tasks may come in any order: which is next is drawn.
Plain callbacks of one process keep their order, as `call_soon` promises; those of different processes need not.
"""

import asyncio
import contextvars
import heapq
from asyncio import base_events
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from mia_daemon.clock import NS_PER_S

EPOCH_NS = 1_793_718_000 * NS_PER_S
"""The date at the start of every simulation: 2026-11-03 15:00 UTC, as the venues have it."""

OWNER: "contextvars.ContextVar[Process | None]" = contextvars.ContextVar("owner", default=None)
"""The process that the running code belongs to; None for the world around them."""


class Killed(BaseException):  # what has happened, as with all errors here
    """Raised where a killed process would have gone on; nothing it does on its way out has any effect."""


class Process:
    """What runs in one context and ends at once, whatever it was doing.

    Attributes:
        fuse: places at which it may die (around each effect it has on the world) until it does; None: it does not.
        frozen_until: loop time before which none of its callbacks run.
    """

    def __init__(self, name: str, loop: "SimulatedLoop") -> None:
        self.name = name
        self.alive = True
        self.fuse: int | None = None
        self.frozen_until = 0.0
        self.backlog: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.at_death: list[Callable[[], None]] = []
        self._loop = loop
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)

    def start(self, coroutine: Any) -> "asyncio.Task[Any]":
        """Run `coroutine` as a task of this process."""
        return self._loop.create_task(coroutine, context=self._context)

    def do(self, act: Callable[[], None]) -> None:
        """Call `act` in the context of this process."""
        self._context.copy().run(act)

    def place(self) -> None:
        """One place at which it may die. Raises Killed when it does, and ever after."""
        if not self.alive:
            raise Killed
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.die()
                raise Killed

    def freeze(self, seconds: float) -> None:
        """Run none of its callbacks for a while; they wait."""
        self.frozen_until = max(self.frozen_until, self._loop.time() + seconds)

    def die(self) -> None:
        """Kill it now; its tasks are kept so that none is finalised while the simulation runs."""
        if not self.alive:
            return
        self.alive = False
        self.backlog.clear()
        for announce in self.at_death:
            announce()


class SimulatedLoop(base_events.BaseEventLoop):
    """Runs callbacks one by one, in an order drawn from `rng` as far as that is legal.

    Args:
        shuffle: share of the steps at which another than the oldest is taken.
    """

    _ready: deque[Any]
    _scheduled: list[Any]

    def __init__(self, rng: Random, shuffle: float) -> None:
        super().__init__()
        self._rng = rng
        self._shuffle = shuffle
        self._now = 0.0
        self.network: Any = None
        self.steps = 0
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(self._take_error)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def now_ns(self) -> int:
        """Wall clock, as in `Clock`."""
        return EPOCH_NS + self.monotonic_ns()

    def monotonic_ns(self) -> int:
        """Monotonic clock, as in `Clock`."""
        return round(self._now * NS_PER_S)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.connect(protocol_factory, port)

    async def create_server(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:  # one host
        return self.network.listen(protocol_factory, port)

    def _make_task(self, _loop: Any, coroutine: Any, **more: Any) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, **more)
        context = more.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            owner.tasks.append(task)
        return task

    def _take_error(self, _loop: Any, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Killed):
            self.errors.append(context)

    # What BaseEventLoop leaves to its children.

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise RuntimeError("nothing is left to happen")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                ready.append(timer)
        if not ready:
            return
        handle = self._take()
        owner = handle._context.get(OWNER)
        if handle._cancelled or (owner is not None and not owner.alive):
            return
        if owner is not None and owner.frozen_until > self._now:
            if not owner.backlog:
                self.call_at(owner.frozen_until, self._thaw, owner, context=contextvars.Context())
            owner.backlog.append(handle)
            return
        self.steps += 1
        handle._run()

    def _thaw(self, owner: Process) -> None:
        waiting, owner.backlog = owner.backlog, []
        self._ready.extendleft(reversed(waiting))

    def _take(self) -> Any:
        """Take the oldest callback, or at times another that is the first of its own line."""
        ready = self._ready
        if len(ready) == 1 or self._rng.random() >= self._shuffle:
            return ready.popleft()
        place = self._rng.randrange(len(ready))
        line = _line(ready[place])
        for at in range(place):
            if _line(ready[at]) is line:
                place = at
                break
        handle = ready[place]
        del ready[place]
        return handle

    def _timer_handle_cancelled(self, handle: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _line(handle: Any) -> object:
    """The line in which a callback keeps its order: that of its task, or of plain callbacks of its process."""
    task = getattr(handle._callback, "__self__", None)
    return task if isinstance(task, asyncio.Task) else handle._context.get(OWNER)


class SettableClock:
    """The daemon's clock: the loop's time, with a wall clock that can be set."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.ahead_ns = 0

    def now_ns(self) -> int:
        return self._loop.now_ns() + self.ahead_ns

    def monotonic_ns(self) -> int:
        return self._loop.monotonic_ns()
