"""The faults, and how they are ended."""

import asyncio
from typing import TYPE_CHECKING, Any

from fault_simulation.daemon import Life
from mia_daemon.clock import NS_PER_S
from mia_daemon.risk.codes import RiskCode

if TYPE_CHECKING:
    from fault_simulation.world import World


class Incidents:
    """Causes incidents in the world. Each public method is one kind; its argument was drawn in the plan."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._loop = world.loop
        self._network = world.network

    def _living(self) -> Life | None:
        life = self._world.life
        return life if life is not None and life.process.alive else None

    def _count(self, kind: str, seconds: float = 0.0) -> None:
        self._world.faults[kind] += 1
        self._world.disturb(seconds)

    # The daemon.

    async def kill(self, places: int) -> None:
        """Kill the daemon at the given number of places at which it may die from now."""
        if (life := self._living()) is not None:
            self._count("kill")
            life.process.fuse = places

    async def restart(self, flatten: bool) -> None:  # noqa: FBT001  # as drawn
        if (life := self._living()) is not None:
            self._count("restart")
            life.stop(flatten=flatten)

    async def freeze(self, seconds: float) -> None:
        if (life := self._living()) is not None:
            self._count("freeze", seconds)
            life.process.freeze(seconds)

    async def set_clock(self, seconds: float) -> None:
        """Move the daemon's wall clock forward or back; the monotonic clock is not changed."""
        self._count("clock set")
        self._world.clock.ahead_ns += round(seconds * NS_PER_S)

    async def silence(self, seconds: float) -> None:
        """Send the daemon no prices for a while."""
        self._count("no prices", seconds)
        self._world.silent_until = self._loop.time() + seconds

    async def disk(self, how: tuple[str, float]) -> None:
        kind, seconds = how
        life = self._living()
        if life is None or life.disk is None or life.clean:
            return
        self._count("disk", seconds)
        self._world.sick = self._world.sick or kind != "slow"
        life.disk.fail(kind)
        self._loop.call_later(seconds, self._heal_disk, life)

    @staticmethod
    def _heal_disk(life: Life) -> None:
        if life.process.alive and life.disk is not None and not life.clean:
            life.disk.heal()

    # The network and the server.

    async def reset(self, _: None) -> None:
        for line in self._network.lines():
            self._count("reset")
            line.break_off()

    async def cut(self, _: None) -> None:
        """Cut the connections; detected by silence, after twice the heartbeat interval."""
        for line in self._network.lines():
            self._count("half-open", 2 * self._world.heartbeat_s)
            line.cut_off()

    async def refuse(self, seconds: float) -> None:
        """Accept no connections for a while: they are refused or not answered."""
        self._count("refused", seconds)
        self._network.refuses, self._network.swallows = True, self._world.rng.random() < 0.3
        await self.reset(None)
        self._loop.call_later(seconds, self._let_in)

    def _let_in(self) -> None:
        self._network.refuses = self._network.swallows = False

    async def slow(self, seconds: float) -> None:
        self._count("slow", seconds)
        self._network.slow_s = 1.0
        self._loop.call_later(seconds, self._speed_up)

    def _speed_up(self) -> None:
        self._network.slow_s = 0.0

    async def crash_server(self, seconds: float) -> None:
        self._count("server crash")
        self._world.venue.crash()
        await asyncio.sleep(seconds)
        self._world.start_server()

    # The operator.

    async def halt(self, seconds: float) -> None:
        """Halt, and resume after a while."""
        world = self._world
        if world.command("halt", "operator"):
            world.halted = True
            await asyncio.sleep(seconds)
            world.note("resume")
            world.halted = False
            world.command("resume", "operator")

    async def pull(self, how: tuple[bool, float]) -> None:
        """Kill trading, with or without closing the position; the latch is lifted by its name after a while."""
        world, (flatten, seconds) = self._world, how
        if world.command("kill", "operator", flatten=flatten):
            self._count("kill command")
            world.halted = True
            await asyncio.sleep(seconds)
            world.note("resume killed")
            world.halted = False
            world.command("resume", "operator", RiskCode.KILLED)

    async def by_hand(self, how: tuple[str, float]) -> None:
        """An external trader trades the same account at the server."""
        what, share = how
        self._world.note_external_trading()
        if self._world.venue.by_hand(what, share):
            self._count("by hand")

    async def flatten(self, _: None) -> None:
        self._world.command("flatten", "operator")

    async def cancel(self, _: None) -> None:
        self._world.command("cancel_all")

    async def rest(self, _: None) -> None:
        """A quiet point in mid-session."""
        await self._world.calm()

    # All of it.

    def end(self) -> None:
        """End all faults."""
        world = self._world
        world.venue.behave()
        world.venue.by_hand("withdraw", 1.0)
        self._let_in()
        self._speed_up()
        world.silent_until = 0.0
        for line in self._network.lines():  # one that can fail later is replaced by one that can't
            if world.venue.may_fail(line):
                line.break_off()
        if (life := self._living()) is not None:
            life.process.fuse = None
            self._heal_disk(life)
            if world.sick:  # it is halted, with an incomplete journal: the next start reconciles
                life.stop(flatten=False)

    async def __call__(self, what: str, how: Any) -> None:
        """Cause the incident `what` with the argument `how`."""
        await getattr(self, what)(how)
