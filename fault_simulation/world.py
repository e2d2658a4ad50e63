"""One simulation: a server, one daemon after another, the incidents, and the final checks."""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from fault_simulation import halts, history
from fault_simulation.accounts import Ending, findings, fingerprint
from fault_simulation.daemon import Circumstances, Life
from fault_simulation.first_venue import FirstVenue
from fault_simulation.habits import EXECUTIONS_DIFFER, LONGER_BARE_S, UNLISTED, habits_of
from fault_simulation.history import BY_HAND
from fault_simulation.incidents import Incidents
from fault_simulation.loop import Process, SettableClock, SimulatedLoop
from fault_simulation.network import Network
from fault_simulation.plan import AS_DRAWN, SimulationPlan, Wanted, plan_of
from fault_simulation.repetition import repeated
from fault_simulation.second_venue import SecondVenue
from fault_simulation.venue import ServerState, Venue, calendar
from fault_simulation.watch import ServerWatch, WireWatch
from mia_daemon.errors import JournalError, PeerError, StartError
from mia_daemon.risk.codes import RiskCode
from mia_daemon.trading.assembly import TradingAccount

PATIENCE_S = 90.0  # of loop time, to reach agreement after the last fault
UNDISTURBED_S = 10.0  # after which a fault has no effect any more
PROTECTED_S = 2.5  # then a position is protected within this: a second of grace, prices, and latency
BARE_S = 1.5  # the same at the second venue, where an order protects from its arrival on
UNLINKED_S = 30.0  # a daemon that lives has a connection again within this
HALTED_S = 30.0  # of loop time, after which a daemon that has halted by itself need not agree any more
AGAIN_S = 1.0  # between two checks for agreement

_REFUSED_HOLDING = ("broker.", "another daemon")  # refusals to start that a position at the server does not matter to


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a simulation.

    Attributes:
        hash: of the server's record, of the journal, and of the notes of what was done.
        habits: of the second venue; None: it was the first.
        halted: why the daemon had stopped trading by itself at the end; "" when it had not.
        hours: of virtual time.
        faults: how many of each kind occurred.
        bare_s: longest time a position was unprotected while the daemon was able to act.
    """

    seed: int
    habits: tuple[str, ...] | None
    halted: str
    hash: str
    hours: float
    faults: Counter[str]
    orders: int
    fills: int
    contracts: int
    lives: int
    bare_s: float
    violations: tuple[str, ...]


def simulate(seed: int, wanted: Wanted = AS_DRAWN) -> Outcome:
    """Run the simulation of `seed`; its files are deleted afterwards."""
    memory = Path("/dev/shm")  # parent of a temporary directory
    parent = memory if os.access(memory, os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="mia-simulation-", dir=parent))
    try:
        return World(plan_of(seed, wanted), directory).run()
    finally:
        shutil.rmtree(directory)


def _tell(gone: "asyncio.Future[None]") -> None:
    if not gone.done():
        gone.set_result(None)


class World:
    """Everything around the daemon, in `directory`.

    Attributes:
        life: the daemon's present one, or its last.
        silent_until: loop time before which it gets no prices.
        sick: its disk has failed in this life.
        halted: an operator has halted it and not resumed yet.
        heartbeat_s: interval of heartbeats.
    """

    def __init__(self, plan: SimulationPlan, directory: Path) -> None:
        self._plan = plan
        self._directory = directory
        self.rng = Random(f"world/{plan.seed}")  # reproducible by design
        self.loop = SimulatedLoop(self._fork(), plan.shuffle)
        self.network = Network(self.loop, self._fork(), plan.split)
        self.faults: Counter[str] = Counter()
        self.violations: list[str] = []
        self.life: Life | None = None
        self.clock = SettableClock(self.loop)
        self.silent_until = 0.0
        self.sick = self.halted = False
        settings = plan.settings
        self.heartbeat_s = settings.dtc.heartbeat_interval_s
        limit = settings.risk.max_position_contracts
        assert limit is not None
        self._watch = ServerWatch(
            limit, settings.decision.max_hold_s, self._deadline_s, self._able, self._has_stopped, self._report
        )
        self._wire = WireWatch(limit, settings.risk.max_orders_per_minute, self._report)
        self.venue = self._make_venue()
        self._fixed = Circumstances(
            settings=settings,
            instrument=self.venue.instrument,
            calendar=calendar(),
            touch=lambda: None if self.loop.time() < self.silent_until else self.venue.touch(),
            clock=self.clock,
        )
        self._incidents = Incidents(self)
        self._journal = directory / "journal-0" / "journal.db"
        self._lives: list[Life] = []
        self._over = False
        self._began_s = 0.0  # when the present life began
        self._disturbed_s = 0.0  # when something went wrong last
        self._notes: list[str] = []
        self._stopped = ""  # why the daemon had stopped trading by itself at the end
        self._excused = ""  # why the last quiet point was passed without agreement
        self._resumed: set[RiskCode] = set()

    def _make_venue(self) -> Venue:
        settings, directory = self._plan.settings, self._directory / "exchange"

        def look(state: ServerState) -> None:
            self._watch.look(state, self.loop.time())

        if self._plan.habits is None:
            return FirstVenue(settings, directory, self.loop, self.network, on_fault=self._order_fault, on_change=look)
        habits = habits_of(self._plan.habits)
        return SecondVenue(settings, directory, self.loop, self.network, habits=habits, on_change=look)

    def _fork(self) -> Random:
        return Random(self.rng.random())

    # What is noted.

    def note(self, text: str) -> None:
        """Note what was done; notes are part of the hash."""
        self._notes.append(f"{self.loop.time():.6f} {text}")

    def disturb(self, seconds: float = 0.0) -> None:
        """Note that a fault happens now, or lasts for `seconds`."""
        self._disturbed_s = max(self._disturbed_s, self.loop.time() + seconds)

    def note_external_trading(self) -> None:
        """Note that an external trader has traded the account."""
        self._watch.external_trading = True

    def _report(self, text: str) -> None:
        self.violations.append(f"{self.loop.time():.3f} s: {text}")

    def _order_fault(self) -> None:
        self.faults["order"] += 1
        self.disturb()

    # What is watched.

    def _deadline_s(self) -> float:
        """Time within which a position has to be protected again, by the daemon's configured time-outs.

        Without a recent fault: a second of grace, and the latency to the server. Otherwise the daemon has to detect the
        state first: an order not answered (ack_timeout), then the server's snapshot, requested at worst twice with the
        time-outs of a query.
        """
        habits = self._plan.habits
        longer_s = sum(LONGER_BARE_S.get(name, 0.0) for name in habits or ())
        if self.loop.time() > self._disturbed_s + UNDISTURBED_S:
            return longer_s + (PROTECTED_S if habits is None else BARE_S)
        broker = self._plan.settings.broker
        return 2 * (broker.ack_timeout_s + 2.0) + broker.reconcile_every_s + 4.0 + longer_s

    def _able(self) -> bool:
        """Whether the daemon is alive, exchanges messages with the server, and has not halted with another position.

        A dead connection counts as a fault.
        """
        life, now_s = self.life, self.loop.time()
        if life is None or not life.process.alive:
            return False
        if not self._connected(life):
            self.disturb()
            return False
        if self._has_stopped():
            assert life.account is not None
            if life.account.state.ledger.position != self.venue.state().position:
                return False
        return life.process.frozen_until <= now_s and now_s >= self.silent_until

    def _has_stopped(self) -> bool:
        return bool(self._plan.habits and halts.halted(self._lives))

    def _connected(self, life: Life) -> bool:
        return any(near.owner is life.process and self.venue.speaks(near) for near in self.network.lines())

    async def _watch_link(self) -> None:
        """Report a daemon that lives and has given up connecting."""
        without_s, seen = 0.0, self.life
        while True:
            await asyncio.sleep(AGAIN_S)
            life, network = self.life, self.network
            served = self.venue.process.alive and not (network.refuses or network.swallows)
            if life is None or life is not seen or not (life.process.alive and served) or self._connected(life):
                without_s, seen = 0.0, life
                continue
            without_s += AGAIN_S
            if without_s == UNLINKED_S:
                self._report(f"no connection for {UNLINKED_S:g} s, though the server accepts them")

    def _spy(self, life: Life, messages: Sequence[Any]) -> None:
        if life.process.alive:
            flat = self._watch.flat_since_s <= self._began_s
            self._wire.look(messages, life.path, life, self.loop.time(), flat=flat, halted=self.halted, sick=self.sick)

    # From start to end.

    def run(self) -> Outcome:
        """Run until the final checks are made."""
        with ExitStack() as stack:
            stack.callback(self._close)
            self.loop.run_until_complete(self._run())
            record = history.server_record(self.venue.record)
            self._check_stop()
            self._check_alone(record)
            self.violations += findings(record, self._journal, self._ending())
            for number, life in enumerate(self._lives):
                (again := self._directory / f"again-{number}").mkdir()
                self.violations += repeated(life, again)
        for error in self.loop.errors:
            self.violations.append(f"an error nobody handled: {error.get('exception') or error.get('message')!r}")
        notes = (*self._notes, *self.violations, str(self.loop.steps))
        return Outcome(
            self._plan.seed,
            self._plan.habits,
            self._stopped,
            fingerprint(self.venue.record, self._journal, notes),
            self.loop.time() / 3600.0,
            self.faults,
            sum(1 for _ in history.sent(record)),
            sum(history.fills_at_server(record).values()),
            sum(history.contracts_at_server(record).values()),
            len(self._lives),
            self._watch.longest_bare_s,
            tuple(self.violations),
        )

    def _ending(self) -> Ending:
        return Ending(
            position=self.venue.state().position,
            earned=self.venue.earned,
            excused=self._wire.excused,
            executions_differ=not EXECUTIONS_DIFFER.isdisjoint(self._plan.habits or ()),
            halted=bool(self._excused),
            unlisted=not UNLISTED.isdisjoint(self._plan.habits or ()),
        )

    def _check_stop(self) -> None:
        """Nothing of the daemon's works after a stop that reports success, unless it says what it leaves behind."""
        state = self.venue.state()
        left = [order.client_order_id for order in state.orders if not order.client_order_id.startswith(BY_HAND)]
        if left and self.life is not None and self.life.clean and not (state.position and halts.loudest(self._lives)):
            self._report(f"left working after a clean stop: {left}")

    def _check_alone(self, record: list[history.Line]) -> None:
        """Nothing is entered into an account in which another daemon's orders work, unless an operator has resumed."""
        if "others ours" not in (self._plan.habits or ()) or RiskCode.CONTRADICTED in self._resumed:
            return
        if names := list(history.parents(record)):
            self._report(f"entered beside another daemon: {names[0]}")

    async def _run(self) -> None:
        self.start_server()
        daemons = self.loop.create_task(self._supervise())
        others = [self.loop.create_task(self._operate()), self.loop.create_task(self._watch_link())]
        for incident in self._plan.incidents:
            await asyncio.sleep(max(incident.at_s - self.loop.time(), 0.0))
            self.note(f"{incident.what} {incident.how}")
            self.disturb()
            await self._incidents(incident.what, incident.how)
        await asyncio.sleep(max(self._plan.lasts_s - self.loop.time(), 0.0))
        others[0].cancel()
        settled = await self._settle()
        self._over = True
        others[1].cancel()
        if not settled and self.life is not None:
            self.life.process.die()
        await daemons

    def start_server(self) -> None:
        """Start the first server, or the next."""
        self.venue.start(self._fork())

    async def _supervise(self) -> None:
        """One daemon after another, as a service manager would."""
        while not self._over:
            process = Process(f"daemon {len(self._lives)}", self.loop)
            gone = self.loop.create_future()
            process.at_death += [partial(self.network.leave, process), partial(_tell, gone)]
            self.sick = False
            self._began_s = self.loop.time()
            self.disturb()
            life = self.life = Life(self._fixed, process, self._journal, self._fork(), self._spy)
            self._lives.append(life)
            task = process.start(life.run())
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if process.alive:
                self._ended(life, task)
            elif life.disk is not None:
                self.note("died")
                self._journal = life.disk.leave(self._directory / f"journal-{len(self._lives)}")
            process.die()
            if not self._over:
                await asyncio.sleep(self.rng.choice((0.05, 0.5, 3.0)))

    def _ended(self, life: Life, task: "asyncio.Task[None]") -> None:
        self.note(f"ended: {life.failure!r}")
        error = life.failure or task.exception()
        if error is not None and not isinstance(error, StartError | JournalError | PeerError):
            self._report(f"the daemon failed: {error!r}")

    def _close(self) -> None:
        for life in self._lives:
            life.process.die()
        self.venue.crash()
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()
        self.loop.close()
        self.network.close()

    # The operator.

    @property
    def _account(self) -> TradingAccount | None:
        """The account of the daemon that trades now; None while none does."""
        life = self.life
        return life.account if life is not None and life.process.alive else None

    def command(self, name: str, *args: Any, **more: Any) -> bool:
        """Give an operator's command, in the daemon's context; False when it could not be carried out."""
        life, account = self.life, self._account
        if account is None or life is None or life.process.frozen_until > self.loop.time():
            return False
        carried_out: list[bool] = []

        def act() -> None:
            getattr(account.operator, name)(*args, **more)
            account.journal.record_command(account.state.market.now_ns, name, "operator", "")
            carried_out.append(True)

        try:
            life.process.do(act)
        except JournalError:
            return False
        except BaseException as error:
            if life.process.alive:
                raise
            self.note(f"died of a command: {type(error).__name__}")
        return bool(carried_out)

    async def _operate(self) -> None:
        """The operator: resumes, sooner or later, what was not halted on purpose, after a restart where that is due."""
        while True:
            await asyncio.sleep(self.rng.uniform(1.0, 8.0))
            life = self.life
            if self.halted or life is None or not self._worth_resuming(life):
                continue
            assert life.account is not None
            if self.sick and self.rng.random() < 0.7:
                self.note("restart after a failure of the disk")
                life.stop(flatten=False)
            else:
                self.note("resume")
                self.command("resume", "operator")
                if RiskCode.KILLED in {latch.code for latch in life.account.risk.latches}:
                    self.command("resume", "operator", RiskCode.KILLED)

    def _worth_resuming(self, life: Life) -> bool:
        """Whether a latch is set. Under habits, one that comes again stays: it is evidence about the server."""
        latches = {latch.code for latch in life.account.risk.latches} if life.account is not None else set()
        known = self._resumed - halts.SAY_NOTHING if self._plan.habits else set()
        self._resumed |= latches
        return bool(latches - known)

    # Quiet points.

    async def calm(self) -> bool:
        """End faults and signals until daemon and server agree; False when they don't in time."""
        self._incidents.end()
        began_s = self.loop.time()
        self._excused, why = "", "no daemon"
        while self.loop.time() < began_s + PATIENCE_S:
            await asyncio.sleep(AGAIN_S)
            if self.life is not None:
                self.life.mood.rests = True
            why = self._disagreement()
            if why and self.loop.time() > began_s + HALTED_S and (stopped := self._why_stopped()):
                self._excused, why = stopped, ""
            if not why:
                self._watch.external_trading &= bool(self._excused)
                break
        if why:
            self._report(f"not at rest after {PATIENCE_S:g} s without a fault: {why}")
        self.venue.misbehave()
        if self.life is not None:
            self.life.mood.rests = False
        return not why

    def _why_stopped(self) -> str:
        """Why the daemon has stopped trading by itself; "" when it has not, or when no habit of the server excuses it.

        It still has to be there and to have a connection, or else to refuse a start, with the account flat or with the
        setting that has to be changed: what the position there is has then to be said by the configuration.
        """
        if not self._plan.habits or self.life is None:
            return ""
        refused = halts.refused_to_start(self._lives)
        if refused and (any(why in refused for why in _REFUSED_HOLDING) or not self.venue.state().position):
            return f"no start: {refused}"
        return halts.halted(self._lives) if self.life.process.alive and self._connected(self.life) else ""

    def _disagreement(self) -> str:
        """How the state of the daemon differs from the server's; "" when it does not."""
        account, life = self._account, self.life
        if account is None or life is None:
            return "no daemon"
        if self.sick:
            return "not restarted after the disk failed"
        if not account.state.sync.reconciled:
            return "not reconciled"
        server = self.venue.state()
        position, on_file = server.position, history.position_in_journal(life.path)
        ours_held = account.state.ledger.position
        if not ours_held == on_file == position:
            return f"position {ours_held:+d}, on file {on_file:+d}, at the server {position:+d}"
        if abs(position) > self._watch.limit:
            return f"position {position:+d} is beyond the limit"
        ours = sorted(entry.client_order_id for entry in account.state.orders)
        theirs = sorted(order.client_order_id for order in server.orders)
        return "" if ours == theirs else f"orders {ours}, at the server {theirs}"

    async def _settle(self) -> bool:
        """The end: reach agreement, close everything, stop the daemon; False when that fails."""
        if not await self.calm():
            return False
        assert self.life is not None
        self._incidents.end()
        self.life.mood.rests = True
        self._stopped = self._excused or halts.halted(self._lives) if self._plan.habits else ""
        if self._excused.startswith("no start"):
            self.life.stop(flatten=True)
            return True
        alerts = sum(len(life.alerts) for life in self._lives)
        for command in ("halt", "flatten"):
            while not self.command(command, "operator"):  # noqa: ASYNC110  # frozen: no event when it ends
                await asyncio.sleep(AGAIN_S)
        deadline_s = self.loop.time() + PATIENCE_S
        while (server := self.venue.state()).position or server.orders or self._disagreement():
            if self.loop.time() > deadline_s:
                if not (self._plan.habits and (loud := halts.loudest(self._lives, alerts) or self._stopped)):
                    self._report(f"not flat {PATIENCE_S:g} s after a flatten: {server.position:+d}")
                    return False
                self._stopped = self._excused = self._stopped or f"not flat ({loud})"
                break
            await asyncio.sleep(AGAIN_S)
        self.life.stop(flatten=True)
        return True
