"""One simulation: a server, daemons that live and die one after another, what goes wrong, and the accounts."""

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from mia_daemon.config import FaultSettings
from mia_daemon.errors import JournalError, PeerError, StartError
from mia_daemon.instruments import instrument
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.exchange import Exchange
from mia_daemon.simulator.faulty_line import FaultyLine
from mia_daemon.simulator.server import SimulatorServer
from mia_daemon.simulator.state import StateStore
from mia_daemon.trading_calendar import TradingCalendar
from simulation import history
from simulation.daemon import Circumstances, Life
from simulation.loop import Process, SimulatedLoop
from simulation.network import Network
from simulation.plan import PORT, Plan, plan_of
from simulation.watch import ServerWatch, WireWatch

TODAY = date(2026, 11, 1)
STEP_S = (0.03, 0.15)
PATIENCE_S = 90.0  # of loop time, for all to be well once nothing goes wrong any more
UNDISTURBED_S = 10.0  # after which what went wrong is over
PROTECTED_S = 2.5  # then a position is protected within this: a second of grace, prices, and the way to the server
AGAIN_S = 1.0  # between two looks at whether it is


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation came to.

    Attributes:
        hash: of everything the server and the journals have on file, and of what was done to them.
        hours: of virtual time.
        faults: how many of each kind came to pass.
        bare_s: longest time a position was without a working stop though the daemon could have acted.
    """

    seed: int
    hash: str
    hours: float
    faults: Counter[str]
    orders: int
    fills: int
    lives: int
    bare_s: float
    violations: tuple[str, ...]


@cache
def calendar() -> TradingCalendar:
    """Of the weeks in which simulations take place."""
    return TradingCalendar.load(date(2026, 10, 1), date(2027, 1, 31))


def simulate(seed: int) -> Outcome:
    """Run the simulation that `seed` stands for; everything it writes is gone afterwards."""
    memory = Path("/dev/shm")  # a directory of our own is made in it
    parent = memory if os.access(memory, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="mia-simulation-", dir=parent))
    try:
        return World(plan_of(seed), directory).run()
    finally:
        shutil.rmtree(directory)


class _Server(SimulatorServer):
    """The simulator's server, at a calmer pace; each thing that happens is looked at."""

    def __init__(self, exchange: Exchange, loop: SimulatedLoop, rng: Random, faults: FaultSettings) -> None:
        super().__init__(exchange, loop, 1.0, Manners(), faults)
        self.look: Callable[[], None] = lambda: None
        self._rng = rng

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(*STEP_S))

    def step(self) -> None:
        super().step()
        self.look()

    def received(self, connection: Any, data: bytes) -> None:
        super().received(connection, data)
        self.look()


class World:
    """Everything around the daemon, in `directory`."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan = plan
        self._directory = directory
        self._rng = Random(f"world/{plan.seed}")  # reproducible by design
        self._loop = SimulatedLoop(self._fork(), plan.shuffle)
        self._network = Network(self._loop, self._fork(), plan.split)
        settings = plan.settings
        self._instrument = instrument(settings.instrument.symbol)
        self._fixed = Circumstances(
            settings=settings,
            instrument=self._instrument,
            calendar=calendar(),
            touch=self._touch,
            loop=self._loop,
        )
        self._journal = directory / "journal-0" / "journal.db"
        self._server: _Server | None = None
        self._server_process: Process | None = None
        self._processes: list[Process] = []
        self._life: Life | None = None
        self._lives: list[Life] = []
        self._over = False
        self._silent_until = 0.0
        self._disturbed_s = 0.0  # when something went wrong last
        self._halted_by: Life | None = None  # whose operator halted it
        self._sick = False  # the disk has failed in the present life
        self._disk_kind = ""
        self._events: list[str] = []
        self.faults: Counter[str] = Counter()
        self.violations: list[str] = []
        limit = settings.risk.max_position_contracts
        self._watch = ServerWatch(limit, self._deadline_s, self._able, self._report)
        self._wire = WireWatch(settings.risk.max_orders_per_minute, self._report)

    def _fork(self) -> Random:
        return Random(self._rng.random())

    def _deadline_s(self) -> float:
        """A position is protected again within this, by what the daemon is configured to wait for.

        Where nothing has gone wrong for a while: a second of grace, and the stop's way to the server. Otherwise it has
        to find out first: an order not answered (ack_timeout), then the server's books, asked for at worst twice with
        the time-outs of a query.
        """
        if self._loop.time() > self._disturbed_s + UNDISTURBED_S:
            return PROTECTED_S
        broker = self._plan.settings.broker
        return 2 * (broker.ack_timeout_s + 2.0) + broker.reconcile_every_s + 4.0

    def _report(self, text: str) -> None:
        self.violations.append(f"{self._loop.time():.3f} s: {text}")

    def _disturb(self, seconds: float = 0.0) -> None:
        """Something goes wrong now, or for so long."""
        self._disturbed_s = max(self._disturbed_s, self._loop.time() + seconds)

    def _note(self, text: str) -> None:
        self._events.append(f"{self._loop.time():.6f} {text}")

    # From start to end.

    def run(self) -> Outcome:
        """Until the accounts are drawn up."""
        with ExitStack() as stack:
            stack.callback(self._close)
            self._loop.run_until_complete(self._run())
            self._check_at_the_end()
        for error in self._loop.errors:
            self.violations.append(f"an error nobody handled: {error.get('exception') or error.get('message')!r}")
        record = history.server_record(self._record)
        return Outcome(
            self._plan.seed,
            self._hash(),
            self._loop.time() / 3600.0,
            self.faults,
            sum(1 for _ in history.sent(record)),
            sum(history.fills_at_server(record).values()),
            len(self._lives),
            self._watch.longest_bare_s,
            tuple(self.violations),
        )

    @property
    def _record(self) -> Path:
        return self._directory / "exchange" / "orders.jsonl"

    async def _run(self) -> None:
        self._start_server()
        daemons = self._loop.create_task(self._supervise())
        operator = self._loop.create_task(self._operate())
        for incident in self._plan.incidents:
            await asyncio.sleep(max(incident.at_s - self._loop.time(), 0.0))
            self._note(f"{incident.what} {incident.how}")
            self._disturb()
            await getattr(self, f"_{incident.what}")(incident.how)
        await asyncio.sleep(max(self._plan.lasts_s - self._loop.time(), 0.0))
        operator.cancel()
        self._over = await self._settle()
        if not self._over:
            self._over = True
            if self._life is not None:
                self._life.process.die()
        await daemons

    async def _supervise(self) -> None:
        """One daemon after another, as a service manager would."""
        while not self._over:
            process = Process(f"daemon {len(self._lives)}", self._loop)
            self._processes.append(process)
            gone = self._loop.create_future()
            process.at_death.append(lambda process=process: self._network.leave(process))
            process.at_death.append(lambda gone=gone: gone.done() or gone.set_result(None))
            self._sick = False
            self._disturb()
            life = self._life = Life(self._fixed, process, self._journal, self._fork(), self._spy)
            self._lives.append(life)
            task = process.start(life.run())
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if process.alive:
                self._ended(life, task)
            elif life.disk is not None:
                self._note("died")
                self._journal = life.disk.leave(self._directory / f"journal-{len(self._lives)}")
            process.die()
            if not self._over:
                await asyncio.sleep(self._rng.choice((0.05, 0.5, 3.0)))

    def _ended(self, life: Life, task: "asyncio.Task[None]") -> None:
        self._note(f"ended: {life.failure!r}")
        error = life.failure or task.exception()
        if error is not None and not isinstance(error, StartError | JournalError | PeerError):
            self._report(f"the daemon failed: {error!r}")

    def _close(self) -> None:
        for process in self._processes:
            process.die()
        if self._server is not None:
            self._leave_store()
        for task in asyncio.all_tasks(self._loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()  # type: ignore[union-attr]
        self._loop.close()
        self._network.close()

    # The server.

    def _start_server(self) -> None:
        settings = self._plan.settings
        store = StateStore(self._directory / "exchange", settings.instrument.symbol)
        exchange = Exchange(
            self._instrument, settings.simulator, calendar(), store, settings.instrument.trade_account, TODAY
        )
        happens = exchange._faults._happens

        def counted(share: float) -> bool:
            hit = happens(share)
            self.faults["order"] += hit
            if hit:
                self._disturb()
            return hit

        exchange._faults._happens = counted  # type: ignore[method-assign]
        self._server = server = _Server(exchange, self._loop, self._fork(), settings.simulator.faults)
        server.look = lambda: self._watch.look(exchange, self._loop.time())
        self._server_process = process = Process("server", self._loop)
        self._processes.append(process)
        process.at_death.append(lambda: self._network.leave(process))
        process.start(server.run("127.0.0.1", PORT, lambda _port: None))

    def _leave_store(self) -> None:
        assert self._server is not None
        exchange = self._server.exchange
        exchange.close = lambda: None  # type: ignore[method-assign]  # a crash saves nothing
        store = exchange._store
        store._db.close()
        os.close(store._record_fd)

    def _touch(self) -> tuple[int, float, float] | None:
        """What a price feed would tell now."""
        process = self._server_process
        if self._server is None or process is None or not process.alive or self._loop.time() < self._silent_until:
            return None
        exchange, tick = self._server.exchange, self._instrument.tick_size
        bid, _, ask, _ = exchange.touch()
        return None if bid is None or ask is None else (exchange.now_ns, bid * tick, ask * tick)

    def _able(self) -> bool:
        """Whether the daemon lives, and is heard and told."""
        life, now_s = self._life, self._loop.time()
        if life is None or not life.process.alive or life.process.frozen_until > now_s or now_s < self._silent_until:
            return False
        return any(
            near.owner is life.process and not near.cut and _speaks(near.peer.protocol)
            for near in self._network.lines()
        )

    # The daemon.

    def _spy(self, life: Life, messages: Sequence[Any]) -> None:
        if not life.process.alive:
            return
        self._wire.look(
            messages,
            life.path,
            life,
            self._loop.time(),
            halted=self._halted_by is not None,
            sick=self._sick,
        )

    @property
    def _executor(self) -> Any:
        """Of the daemon that trades now; None while none does."""
        life = self._life
        return life.books.executor if life is not None and life.process.alive and life.books is not None else None

    def _command(self, name: str, *args: Any, **more: Any) -> bool:
        """Say it as an operator would, in the daemon's own context; False when it could not be carried out."""
        life, executor = self._life, self._executor
        if executor is None or life is None or life.process.frozen_until > self._loop.time():
            return False
        carried_out: list[bool] = []

        def act() -> None:
            getattr(executor, name)(*args, **more)
            assert life.books is not None
            life.books.journal.record_command(executor._market.now_ns, name, "operator", "")
            carried_out.append(True)

        try:
            life.process._context.copy().run(act)
        except JournalError:
            return False
        except BaseException as error:
            if life.process.alive:
                raise
            self._note(f"died of a command: {type(error).__name__}")
        return bool(carried_out)

    async def _operate(self) -> None:
        """Somebody who resumes, sooner or later, what was not halted on purpose, after a restart where that is due."""
        while True:
            await asyncio.sleep(self._rng.uniform(1.0, 8.0))
            life = self._life
            if self._halted_by is not None or life is None or life.books is None or not life.books.risk.latches:
                continue
            if self._sick and self._rng.random() < 0.7:
                self._note("restart after a failure of the disk")
                life.stop(flatten=False)
            else:
                self._note("resume")
                self._command("resume", "operator")

    # Incidents: each is told how.

    async def _kill(self, places: int) -> None:
        if self._life is not None and self._life.process.alive:
            self.faults["kill"] += 1
            self._life.process.fuse = places

    async def _restart(self, flatten: bool) -> None:  # noqa: FBT001  # as drawn
        if self._life is not None and self._life.process.alive:
            self.faults["restart"] += 1
            self._life.stop(flatten=flatten)

    async def _reset(self, _: None) -> None:
        for line in self._network.lines():
            self.faults["reset"] += 1
            line.break_off()

    async def _cut(self, _: None) -> None:
        for line in self._network.lines():
            self.faults["half-open"] += 1
            line.cut_off()

    async def _refuse(self, seconds: float) -> None:
        self.faults["refused"] += 1
        self._disturb(seconds)
        self._network.refuses, self._network.swallows = True, self._rng.random() < 0.3
        await self._reset(None)
        self._loop.call_later(seconds, self._let_in)

    def _let_in(self) -> None:
        self._network.refuses = self._network.swallows = False

    async def _slow(self, seconds: float) -> None:
        self.faults["slow"] += 1
        self._disturb(seconds)
        self._network.slow_s = 1.0
        self._loop.call_later(seconds, self._speed_up)

    def _speed_up(self) -> None:
        self._network.slow_s = 0.0

    async def _freeze(self, seconds: float) -> None:
        if self._life is not None and self._life.process.alive:
            self.faults["freeze"] += 1
            self._disturb(seconds)
            self._life.process.freeze(seconds)

    async def _silence(self, seconds: float) -> None:
        self.faults["no prices"] += 1
        self._disturb(seconds)
        self._silent_until = self._loop.time() + seconds

    async def _disk(self, how: tuple[str, float]) -> None:
        kind, seconds = how
        life = self._life
        if life is None or not life.process.alive or life.disk is None or life.clean:
            return
        self.faults["disk"] += 1
        self._sick = self._sick or kind != "slow"
        self._disturb(seconds)
        life.disk.fail(kind)
        self._loop.call_later(seconds, self._heal_disk, life)

    def _heal_disk(self, life: Life) -> None:
        if life.process.alive and life.disk is not None and not life.clean:
            life.disk.heal()

    async def _crash_server(self, seconds: float) -> None:
        assert self._server_process is not None
        self.faults["server crash"] += 1
        self._server_process.die()
        self._network.stop_listening(PORT)
        self._leave_store()
        await asyncio.sleep(seconds)
        self._start_server()

    async def _halt(self, seconds: float) -> None:
        if self._command("halt", "operator"):
            self._halted_by = self._life
            await asyncio.sleep(seconds)
            self._note("resume")
            self._halted_by = None
            self._command("resume", "operator")

    async def _flatten(self, _: None) -> None:
        self._command("flatten", "operator")

    async def _cancel(self, _: None) -> None:
        self._command("cancel_all")

    async def _rest(self, _: None) -> None:
        """A quiet point in mid-session."""
        await self._calm()

    # Quiet points.

    async def _calm(self) -> bool:
        """Nothing goes wrong and nothing new is wanted, until the books agree; False when they don't in time."""
        self._heal()
        deadline_s = self._loop.time() + PATIENCE_S
        why = "no daemon"
        while self._loop.time() < deadline_s:
            await asyncio.sleep(AGAIN_S)
            if self._life is not None:
                self._life.mood.rests = True
            why = self._disagreement()
            if not why:
                break
        if why:
            self._report(f"not at rest after {PATIENCE_S:g} s without a fault: {why}")
        assert self._server is not None
        self._server.exchange._faults._settings = self._plan.settings.simulator.faults
        if self._life is not None:
            self._life.mood.rests = False
        return not why

    def _heal(self) -> None:
        assert self._server is not None
        self._server.exchange._faults._settings = FaultSettings()
        self._server._faults = FaultSettings()
        self._let_in()
        self._speed_up()
        self._silent_until = 0.0
        for line in self._network.lines():  # one that can fail later is replaced by one that can't
            if line.cut or isinstance(getattr(line.peer.protocol, "transport", None), FaultyLine):
                line.break_off()
        life = self._life
        if life is not None and life.process.alive:
            life.process.fuse = None
            if life.disk is not None and not life.clean:
                life.disk.heal()
            if self._sick:  # it goes on halted, with a journal that lacks something: its next start makes up for it
                life.stop(flatten=False)

    def _disagreement(self) -> str:
        """How the daemon's idea of things differs from the truth; "" when it does not."""
        executor, server, life = self._executor, self._server, self._life
        if executor is None or server is None or life is None:
            return "no daemon"
        if self._sick:
            return "not restarted after the disk failed"
        if not executor.ready:
            return "the books were not compared"
        position = server.exchange.account.position
        on_file = history.position_in_journal(life.path)
        if not executor.position == on_file == position:
            return f"position {executor.position:+d}, on file {on_file:+d}, at the server {position:+d}"
        ours = sorted(entry.client_order_id for entry in executor.working)
        theirs = sorted(order.client_id for order in server.exchange.engine.alive.values())
        return "" if ours == theirs else f"orders {ours}, at the server {theirs}"

    async def _settle(self) -> bool:
        """The end: all is well, then everything is closed, and the daemon stops; False when it does not get there."""
        if not await self._calm():
            return False
        assert self._life is not None
        assert self._server is not None
        self._heal()
        self._life.mood.rests = True
        for command in ("halt", "flatten"):
            while not self._command(command, "operator"):  # noqa: ASYNC110  # frozen: nobody tells of its end
                await asyncio.sleep(AGAIN_S)
        deadline_s = self._loop.time() + PATIENCE_S
        exchange = self._server.exchange
        while exchange.account.position or exchange.engine.alive or self._disagreement():
            if self._loop.time() > deadline_s:
                self._report(f"not flat {PATIENCE_S:g} s after a flatten: {exchange.account.position:+d}")
                return False
            await asyncio.sleep(AGAIN_S)
        self._life.stop(flatten=True)
        return True

    # The accounts.

    def _check_at_the_end(self) -> None:
        record, journal, excused = history.server_record(self._record), self._journal, self._wire.excused
        for order_id in history.sent_twice(record):
            self.violations.append(f"sent twice: {order_id}")
        for order_id, told in history.unknown_orders(record, journal):
            if order_id not in excused:
                self.violations.append(f"at the server, not on file: {order_id} {told}")
        for order_id in history.unattributed(journal):
            self.violations.append(f"no decision asked for it: {order_id}")
        for order_id in history.entered_while_halted(journal):
            self.violations.append(f"entered while halted: {order_id}")
        made_up, lost = history.made_up_or_lost(record, journal, excused)
        self.violations += [f"booked, but never happened: {fill}" for fill in made_up]
        self.violations += [f"happened, but is not booked: {fill}" for fill in lost]
        assert self._server is not None
        position = self._server.exchange.account.position
        if not history.position_in_journal(journal) == history.position_at_server(record) == position:
            self.violations.append(f"position on file {history.position_in_journal(journal)}, at the server {position}")
        earned = history.earned(journal)
        cash = self._server.exchange.account.cash - self._plan.settings.simulator.starting_cash
        if not position and abs(cash - earned) > 0.005:
            self.violations.append(f"earned {earned:.2f} by the journal, {cash:.2f} by the server")

    def _hash(self) -> str:
        digest = hashlib.sha256(self._record.read_bytes())
        for table in history.TABLES:
            for row in history.rows(self._journal, f"SELECT * FROM {table}"):  # names of ours
                digest.update(json.dumps(row).encode())
        digest.update("\n".join([*self._events, *self.violations, str(self._loop.steps)]).encode())
        return digest.hexdigest()[:16]


def _speaks(connection: Any) -> bool:
    """Whether the server hears this client and is heard by it."""
    line = getattr(connection, "transport", None)
    if not connection.session.logged_on or connection.session.closing:
        return False
    return not (isinstance(line, FaultyLine) and (line._dead or line._past(line._faults.mute_after_s)))
