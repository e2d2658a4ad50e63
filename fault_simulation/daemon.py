"""One life of the daemon: its real trading side, wired as in the process, with stand-ins for its inputs.

Real are journal, ledger, risk, executor, trading loop, session, DTC link and broker. Stand-ins are the feed (quotes of
the server's touch), the features (none) and the models (predictions from a seed).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fault_simulation.disk import Disk
from fault_simulation.loop import Process, SettableClock
from fault_simulation.repetition import MemoryTape
from mia_daemon.brokers.base import Broker
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.clock import NS_PER_S
from mia_daemon.config import Mode, Settings
from mia_daemon.daemon.broker_tasks import drain, keep_reconciled, keep_time, reconcile
from mia_daemon.errors import JournalError, MiaError, StartError
from mia_daemon.execution.inputs import NO_TAPE
from mia_daemon.execution.ports import TradeScope
from mia_daemon.execution.repeated import TapePlayer
from mia_daemon.feed.base import BatchQueue, EventBatch
from mia_daemon.journal.run_header import InstrumentRates, RunBundle, RunConfig, RunHeader
from mia_daemon.journal.writer import Journal
from mia_daemon.ops.metrics import OperationTimer
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import (
    Alert,
    EventArray,
    EventKind,
    FeatureWindow,
    Prediction,
    RegimeProbs,
    empty_events,
)
from mia_daemon.risk.trade_window_filter import TradeWindowFilter
from mia_daemon.stage import END
from mia_daemon.trading.assembly import (
    FLAT,
    AccountBeginning,
    AccountSetup,
    EventTime,
    TradingAccount,
    beginning,
    open_account,
)
from mia_daemon.trading.entry_gate import EntryGate
from mia_daemon.trading.live_trading import Components, DecisionPath, TradingSession
from mia_daemon.trading.trade_executor import TradeExecutor
from mia_daemon.trading.trading_loop import TradingLoop

NO_VALUES = np.zeros(1, np.float32)
REGIMES = RegimeProbs(0.7, 0.2, 0.1)
FEED_EVERY_S = (0.05, 0.35)

Touch = Callable[[], tuple[int, float, float] | None]
"""Exchange time, best bid and best ask; None when there is none."""


@dataclass(slots=True)
class Mood:
    """The source of predictions: a random walk between fully short and fully long.

    Attributes:
        rests: no signal to trade: the position is kept.
    """

    rng: Random
    action: float = 0.0
    rests: bool = False

    def next(self) -> float:
        if not self.rests:
            draw = self.rng.random()
            if draw < 0.15:
                self.action = self.rng.uniform(-1.0, 1.0)
            elif draw < 0.25:
                self.action = 0.0
        return self.action


class _Feed:
    """Quotes of the server's touch, a few times a second, while there is one."""

    def __init__(self, touch: Touch, rng: Random) -> None:
        self._touch = touch
        self._rng = rng
        self._open = True

    async def run(self, queue: BatchQueue) -> None:
        while self._open:
            await asyncio.sleep(self._rng.uniform(*FEED_EVERY_S))
            if (touch := self._touch()) is not None:
                await queue.put(EventBatch(_quote(*touch), 0))
        await queue.put(END)

    def close(self) -> None:
        self._open = False


def _quote(ts_ns: int, bid: float, ask: float) -> EventArray:
    events = empty_events(1)
    events["kind"] = EventKind.QUOTE
    events["ts_ns"] = events["recv_ns"] = ts_ns
    events["bid"], events["ask"] = bid, ask
    events["bid_size"] = events["ask_size"] = 1.0
    return events


class _Pipeline:
    """A window for each batch, with a decision due once an interval."""

    def __init__(self, interval_s: float) -> None:
        self._interval_ns = round(interval_s * NS_PER_S)
        self._due_ns = 0
        self._seq = 0

    def windows(self, events: EventArray, ingress_ns: int) -> list[FeatureWindow]:
        ts_ns = int(events["ts_ns"][-1])
        if ts_ns < self._due_ns:
            return [FeatureWindow(events, ts_ns=ts_ns, ingress_ns=ingress_ns)]
        self._due_ns = ts_ns + self._interval_ns
        self._seq += 1
        return [FeatureWindow(events, self._seq, ts_ns, NO_VALUES, warm=True, ingress_ns=ingress_ns)]


class _Inference:
    """Makes predictions from the mood."""

    probability_ns = 0

    def __init__(self, mood: Mood, made: list[Prediction]) -> None:
        self._mood = mood
        self._made = made

    def predict(self, *_: Any) -> Prediction:
        self._made.append(Prediction(REGIMES, self._mood.next(), 0.9, "recorded", 0.0, "0" * 16))
        return self._made[-1]


class _Nobody:
    """Receives metrics, decisions and notifications, and discards them."""

    def operation(self, _name: str) -> OperationTimer:
        return OperationTimer()

    def decision(self, *_: Any) -> None: ...

    def order(self, *_: Any) -> None: ...

    def fill(self, *_: Any) -> None: ...

    def trade(self, *_: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is the same for every life."""

    settings: Settings
    instrument: Instrument
    calendar: TradingCalendar
    touch: Touch
    clock: SettableClock


class Life:
    """One process of the daemon, from start to end.

    Args:
        spy: called with the messages about to be sent to the server.

    Attributes:
        alerts: raised in this life, in order.
        unfiled: alerts that the journal did not take.
        failure: the error that ended it; None while there is none.
        tape: the recording of its session.
        begun: the account as it began.
    """

    def __init__(
        self,
        fixed: Circumstances,
        process: Process,
        path: Path,
        rng: Random,
        spy: Callable[["Life", Sequence[Any]], None],
    ) -> None:
        self.path = path
        self.process = process
        self.mood = Mood(Random(rng.random()))  # everything here is drawn from the seed
        self.alerts: list[Alert] = []
        self.unfiled = 0
        self.failure: BaseException | None = None
        self.disk: Disk | None = None
        self.account: TradingAccount | None = None
        self.session: TradingSession | None = None
        self.clean = False
        self.tape = MemoryTape()
        self.begun = FLAT
        self.clock = fixed.clock
        self.max_position = fixed.settings.decision.max_position
        self._fixed = fixed
        self._rng = rng
        self._spy = spy
        self._stop = asyncio.Event()
        self._flatten = True

    def stop(self, *, flatten: bool) -> None:
        """Ask the daemon to stop, with or without closing the position."""
        self._flatten = flatten
        self._stop.set()

    async def run(self) -> None:
        """Run until asked to stop, or until something fails."""
        fixed = self._fixed
        try:
            journal = Journal(self.path, durable=False)
        except JournalError as error:
            self.failure = error
            return
        journal.path = Path("journal.db")  # error texts are the same wherever the file is
        self.disk = Disk(journal, self.process)
        try:
            run_id = self.begin(journal)
            broker = SierraBroker(
                fixed.settings.dtc,
                ServerScope.of(fixed.settings, fixed.instrument),
                fixed.clock,
                Random(self._rng.random()),
            )
            self._listen_in(broker)
            self.begun = beginning(journal, self._scope(run_id), fixed.calendar)
            self.account = self.open_account(journal, broker, run_id, self.begun)
            await self._trade(self.account, broker)
            journal.end_run(run_id, fixed.clock.now_ns(), "stop")
            self.clean = True
        except (MiaError, BaseExceptionGroup) as error:
            self.failure = error
        finally:
            if self.process.alive:
                self._close(journal)

    def _close(self, journal: Journal) -> None:
        try:
            journal.close()
        except JournalError as error:
            self.failure = self.failure or error

    def begin(self, journal: Journal, run_id: str = "") -> str:
        """Begin the run of this life in `journal`; returns its identifier, `run_id` where it is repeated."""
        traded = self._fixed.instrument
        header = RunHeader(
            mode="paper",
            run_id=run_id,
            started_ns=self._fixed.clock.now_ns(),
            version="simulated",
            config=RunConfig({}, ""),
            bundle=RunBundle(name="", sha256="", catalogue_sha256=""),
            rates=InstrumentRates(traded.point_value, traded.cost_per_side),
        )
        return journal.begin_run(header)

    def _listen_in(self, broker: SierraBroker) -> None:
        send = broker.link.send

        def spied(*messages: Any) -> None:
            self._spy(self, messages)
            send(*messages)

        broker.link.send = spied  # type: ignore[method-assign]

    def _scope(self, run_id: str) -> TradeScope:
        fixed = self._fixed
        return TradeScope(run_id, fixed.instrument, fixed.settings.instrument.trade_account)

    def open_account(
        self,
        journal: Journal,
        broker: Broker,
        run_id: str,
        begun: AccountBeginning,
        player: TapePlayer | None = None,
    ) -> TradingAccount:
        """Open the account as `begun`; with a `player` its session is repeated, and raises no alerts here."""
        fixed = self._fixed

        def alert(alert: Alert) -> None:
            if player is not None:
                return
            self.alerts.append(alert)
            try:
                journal.record_alert(alert)
            except JournalError:
                self.unfiled += 1

        setup = AccountSetup(
            settings=fixed.settings,
            scope=self._scope(run_id),
            journal=journal,
            broker=broker,
            calendar=fixed.calendar,
            clock=fixed.clock,
            listener=_Nobody(),
            alert=alert,
            tape=NO_TAPE if player is not None else self.tape,
            player=player,
        )
        gate = EntryGate(TradeWindowFilter(fixed.settings.windows, fixed.calendar))
        loop = TradingLoop(fixed.settings.decision, run_id, gate)
        return open_account(setup, loop, begun, cash=fixed.settings.simulator.starting_cash, time=EventTime(Mode.PAPER))

    def components(self, executor: TradeExecutor, inference: Any) -> Components:
        """The parts of a session of this life."""
        nobody: Any = _Nobody()
        pipeline: Any = _Pipeline(self._fixed.settings.features.decision_interval_s)
        return Components(
            pipeline=pipeline,
            inference=inference,
            executor=executor,
            metrics=nobody,
            sink=nobody,
            before_events=self.tape.events.append,
        )

    async def _trade(self, account: TradingAccount, broker: SierraBroker) -> None:
        fixed, executor = self._fixed, account.executor
        settings = fixed.settings
        feed = _Feed(fixed.touch, self._rng)
        components = self.components(executor, _Inference(self.mood, self.tape.predictions))
        self.session = session = TradingSession(
            components,
            feed,
            DecisionPath(components, fixed.instrument, self.max_position, fixed.clock),
            queue_batches=8,
            clock=fixed.clock,
            measured=False,
        )
        try:
            await broker.connect()
            await reconcile(account)
            if other := account.state.sync.other_daemon:  # as the process does
                raise StartError(f"order {other} is of another daemon")
            tasks = [
                asyncio.create_task(session.run()),
                asyncio.create_task(keep_reconciled(account)),
                asyncio.create_task(keep_time(executor)),
                asyncio.create_task(_checkpoint(account)),
            ]
            asked = asyncio.create_task(self._stop.wait())
            await asyncio.wait([asked, *tasks], return_when=asyncio.FIRST_COMPLETED)
            failed = next((task for task in tasks if task.done()), None)
            account.operator.stop(flatten=self._flatten)
            await drain(executor, settings.stop.drain_s)
            executor.checkpoint()
            feed.close()
            await asyncio.wait(tasks[:1], timeout=0.5)
            for task in (asked, *tasks):
                task.cancel()
            await asyncio.gather(asked, *tasks, return_exceptions=True)
            if failed is not None:
                failed.result()
        finally:
            if self.process.alive:
                await broker.close()


async def _checkpoint(account: TradingAccount) -> None:
    while True:
        await asyncio.sleep(1.0)
        account.executor.checkpoint()
