"""All that one run needs, opened in order and closed in reverse: the same for the daemon and for a replay."""

import math
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mia_daemon import __version__, lock_file
from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S, Clock, StampClock, WallClock
from mia_daemon.config import Mode, Settings, VarPaths
from mia_daemon.daemon.cold_writes import ColdWrites
from mia_daemon.daemon.file_watch import FileWatch
from mia_daemon.daemon.memory_keeper import MemoryKeeper
from mia_daemon.daemon.reporter import SHOWN, Reporter
from mia_daemon.deferred import DeferredWork
from mia_daemon.errors import JournalError, StartError
from mia_daemon.execution.inputs import NO_TAPE, InputTape
from mia_daemon.execution.ports import TradeScope
from mia_daemon.execution.repeated import TapePlayer
from mia_daemon.features import catalogue
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.feed.base import Feed
from mia_daemon.journal.run_header import SALTS, InstrumentRates, RunBundle, RunConfig, RunHeader
from mia_daemon.journal.table_rows import STAMPS, TableRows
from mia_daemon.journal.trade_files import TradeLog
from mia_daemon.journal.writer import Journal
from mia_daemon.lock_file import InUse
from mia_daemon.model import bundle
from mia_daemon.model.drift import DriftMonitor
from mia_daemon.model.inference import Inference
from mia_daemon.model.memory_file import FILE_NAME as MEMORY_FILE
from mia_daemon.ops.alert_manager import AlertManager
from mia_daemon.ops.console import Console
from mia_daemon.ops.logs import LineFile, make_logger
from mia_daemon.ops.metrics import Metrics
from mia_daemon.ops.service_journal import ServiceJournal
from mia_daemon.products.contracts import LastTrading, last_trading
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import NO_EVENTS, TradingCalendar, load_macro_events
from mia_daemon.records import Alert, EventArray, Priority
from mia_daemon.risk.trade_window_filter import TradeWindowFilter
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
from mia_daemon.trading.trading_loop import TradingLoop


@dataclass(frozen=True, slots=True)
class Repeats:
    """The recorded session that a run repeats: its name, which orders and decisions get again, and its rules."""

    run_id: str
    mode: Mode


class DaemonRun:
    """Files, metrics, model and account of one run. A context manager: leaving it closes everything.

    Args:
        settings: of the run; `instrument.symbol` is `traded.symbol`.
        traded: the instrument.
        mode: paper, live or replay.
        paths: where to write.
        clock: stamps logs and rows: the wall clock, or the events' in replay.
        console: the terminal; None in a replay.
        repeats: the session that is repeated; None: the run is one of its own.

    Raises:
        StartError, BundleError, JournalError: something can't be opened; what was opened before is closed.
    """

    def __init__(
        self,
        settings: Settings,
        traded: Instrument,
        mode: Mode,
        paths: VarPaths,
        clock: Clock,
        console: Console | None = None,
        *,
        repeats: Repeats | None = None,
    ) -> None:
        self.settings = settings
        self.instrument = traded
        self.mode = mode
        self._rules = mode if repeats is None else repeats.mode
        self._repeats = repeats
        self.clock = clock
        self._stamps = StampClock(clock)
        self.account: TradingAccount | None = None
        self._stack = ExitStack()
        with ExitStack() as opened:
            self.bundle = bundle.load(settings.model.bundle or bundle.shipped())
            opened.callback(os.close, _hold(paths))
            notice = _ignore if console is None else partial(console.say, always=True)
            self.journal = Journal(paths.journal(mode), durable=mode is Mode.LIVE, notice=notice)
            opened.callback(self.journal.close)
            self.files = FileWatch()
            opened.callback(self.files.close)
            self.cold_writes = ColdWrites(self.files.notify)
            log_file = LineFile(paths.log, self.files.notify)
            opened.callback(log_file.close)
            self.log = make_logger(log_file.write, self._stamps, settings.ops.log_level)
            self.alerts = AlertManager(
                paths.root,
                self.log,
                repeat_after_s=settings.ops.alert_repeat_after_s,
                per_minute=settings.ops.alerts_per_minute,
                tell=_ignore if console is None else partial(_show, console, ServiceJournal()),
                notify=self.files.notify,
            )
            opened.callback(self.alerts.close)
            timestamp_format = settings.ops.timestamp_format
            self.metrics = Metrics(paths.root, self._stamps, self.files.notify, STAMPS[timestamp_format])
            opened.callback(self.metrics.close)
            trade_log = TradeLog(
                paths.root,
                simulated=mode is not Mode.LIVE,
                notify=self.files.notify,
                rows=TableRows(timestamp_format),
                write_file=self.cold_writes.write,
            )
            opened.callback(trade_log.close)
            macro = settings.windows.macro_events_csv
            self.macro_events = NO_EVENTS if macro is None else load_macro_events(macro)
            self.memory = MemoryKeeper(traded, self.macro_events, simulated=settings.simulated)
            opened.callback(self.memory.close)
            if mode is not Mode.REPLAY:  # to be reproducible, a replay uses no shared file
                self.memory.open(paths.root / MEMORY_FILE, self.journal, self.now_ns())
            self.inference = Inference(self.bundle, self.memory.memory, clock.monotonic_ns)
            self.deferred = DeferredWork(clock)
            self.reporter = Reporter(
                self.log, trade_log, self.journal, self.memory, self.deferred, console, self._drift().see
            )
            last = self.journal.last_run()
            if mode is not Mode.REPLAY or (last is not None and not last.ended):
                trade_log.reconcile(self.journal)
            self.calendar = TradingCalendar.load(cache_dir=paths.calendar_cache, hours=traded.product.hours)
            self._windows = TradeWindowFilter(settings.windows, self.calendar, self.macro_events, self._last_trading)
            features = settings.features
            self.pipeline = FeaturePipeline(
                traded,
                features.decision_interval_s,
                self.calendar,
                features.warmup_s,
                self.macro_events,
                self.bundle.constants,
            )
            self.run_id = self._begin(trade_log.sizes())
            self.files.watch(
                lambda: (log_file, *self.alerts.files, *self.metrics.files, *trade_log.files), self._report_file
            )
            self._say_memory()
            self._stack = opened.pop_all()

    def _drift(self) -> DriftMonitor:
        settings = self.settings
        return DriftMonitor(
            self.bundle.histograms,
            self.bundle.selected,
            self.bundle.indices,
            window=max(round(settings.model.drift_window_s / settings.features.decision_interval_s), 1),
            psi_above=settings.model.drift_psi_above,
            ks_above=settings.model.drift_ks_above,
            tell=self.alert,
        )

    def _begin(self, files: dict[str, int]) -> str:
        header = RunHeader(
            mode=self.mode.value,
            started_ns=WallClock().now_ns(),  # also in replay: with the salt it makes the run's id unique
            salt=secrets.randbelow(SALTS),
            version=__version__,
            config=RunConfig(self.settings.effective(), self.settings.sha256()),
            bundle=RunBundle(
                name=self.bundle.name,
                sha256=self.bundle.sha256,
                catalogue_sha256=catalogue.sha256(),
                shown={name: catalogue.index(name) for name in self.bundle.selected[:SHOWN]},
            ),
            rates=InstrumentRates(self.instrument.point_value, self.instrument.cost_per_side),
            files=files,
            run_id="" if self._repeats is None else self._repeats.run_id,
        )
        run_id = self.journal.begin_run(header)
        self.log.info(
            "run_started",
            run=run_id,
            mode=self.mode,
            version=__version__,
            bundle=self.bundle.name,
            bundle_sha256=self.bundle.sha256,
            config_sha256=self.settings.sha256(),
            config=self.settings.effective(),
        )
        return run_id

    def _say_memory(self) -> None:
        memory = self.memory
        self.log.info("market_memory", trades=len(memory.memory), from_journal=memory.from_journal)
        for notice in memory.notices:
            self.alert(Alert(self.clock.now_ns(), "market_memory", Priority.WARNING, notice))

    def _report_file(self, code: str, priority: Priority, text: str) -> None:
        if priority is Priority.INFO:
            self.log.info(code, text=text)
        else:
            self.alert(Alert(WallClock().now_ns(), code, priority, text))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def alert(self, alert: Alert) -> None:
        """Deliver an alert, and journal it; one from before the first event of a replay gets the wall clock's time."""
        now_ns = self._stamps.now_ns()
        alert = alert if alert.ts_ns else replace(alert, ts_ns=now_ns)
        self.alerts.handle(alert, now_ns)
        try:
            self.journal.record_alert(alert)
        except JournalError as error:
            self.log.warning("alert_not_journaled", code=alert.code, reason=str(error))

    def checkpoint(self) -> None:
        """Commit the journal's buffer, then write the rows of what was committed; to be called once a second."""
        if self.account is not None:
            self.account.executor.checkpoint()
            self.reporter.flush()

    def remember(self) -> Iterator[None]:
        """Snapshot and remember the round trips closed since the last call, off the hot path, one per step."""
        for problem in self.reporter.remember():
            if problem:
                self.alert(Alert(self.clock.now_ns(), "market_memory", Priority.WARNING, problem))
            yield

    def beginning(self) -> AccountBeginning:
        """The account as earlier runs left it; a replay begins flat. Raises JournalError."""
        return FLAT if self.mode is Mode.REPLAY else beginning(self.journal, self._scope, self.calendar)

    @property
    def _scope(self) -> TradeScope:
        return TradeScope(self.run_id, self.instrument, self.settings.instrument.trade_account)

    def open_account(
        self,
        broker: Broker,
        begun: AccountBeginning,
        cash: float,
        time_scale: float = 1.0,
        *,
        tape: InputTape = NO_TAPE,
        player: TapePlayer | None = None,
        research: bool = False,
    ) -> TradingAccount:
        """Open the account as earlier runs left it.

        Args:
            broker: takes the orders.
            begun: what earlier runs left.
            cash: starting cash, account currency, before anything in the journal.
            time_scale: event seconds per real second.
            tape: takes the account's inputs.
            player: of a recorded session that is repeated; None: the inputs are new.
            research: a replay counts latches instead of setting them.
        """
        settings = self.settings
        setup = AccountSetup(
            settings=settings,
            scope=self._scope,
            journal=self.journal,
            broker=broker,
            calendar=self.calendar,
            clock=self.clock,
            listener=self.reporter,
            alert=self.alert,
            tape=tape,
            player=player,
            research=research,
        )
        max_skew_ns = (settings.risk.max_clock_skew_s or math.inf) * NS_PER_S
        gate = EntryGate(self._windows, self._max_age_ns, max_skew_ns)
        loop = TradingLoop(settings.decision, self.run_id, gate)
        self.account = account = open_account(
            setup, loop, begun, cash=cash, time=EventTime(self._rules, time_scale), windows=self._windows
        )
        account.state.market.max_age_ns = self._max_age_ns
        self.reporter.follow(account)
        return account

    def entered_on(self) -> NDArray[np.float32]:
        """The 350 values of the decision that opened the position held, as the journal has them; else empty."""
        origin = self.account.state.ledger.origin if self.account is not None else None
        if origin is None or not origin.decision_id:
            return np.empty(0, np.float32)
        return self.memory.restore_entry(origin.decision_id, self.journal.decided_on(origin.decision_id))

    def _last_trading(self, ts_ns: int) -> LastTrading:
        """The end of trading in the contract: a replay trades the recorded contract until it expires."""
        chosen = self.settings.instrument
        rolls = chosen.root is not None and self._rules is not Mode.REPLAY
        return last_trading(
            self.instrument,
            ts_ns,
            self.calendar,
            rolls=rolls,
            roll_days=chosen.roll_days_before_expiry,
            roll_with_position=chosen.roll_with_position,
        )

    def now_ns(self) -> int:
        """The present event time: the wall clock's, but for the simulator, which continues where it stopped."""
        return self.journal.last_event_ns() if self.settings.simulated else self.clock.now_ns()

    @property
    def _max_age_ns(self) -> int | None:
        """The largest age of an event; None where event time is not real time: replay and simulator."""
        max_age_s = self.settings.feed.max_event_age_s
        if self._rules is Mode.REPLAY or self.settings.simulated or not max_age_s:
            return None
        return round(max_age_s * NS_PER_S)

    def session(
        self,
        feed: Feed,
        account: TradingAccount,
        *,
        decide_from_ns: int = 0,
        before_events: Callable[[EventArray], None] = lambda _events: None,
        record: Callable[[EventArray], None] = lambda _events: None,
    ) -> TradingSession:
        """The four tasks for `feed` and the account; the other arguments as in `Components`."""
        components = replace(
            self._components(account), decide_from_ns=decide_from_ns, before_events=before_events, record=record
        )
        return TradingSession(
            components,
            feed,
            self._path(components),
            queue_batches=self.settings.feed.queue_batches,
            clock=self.clock,
            measured=self.mode is not Mode.REPLAY,
        )

    def decision_path(self, account: TradingAccount) -> DecisionPath:
        """The way from a window to its orders, without tasks."""
        return self._path(self._components(account))

    def _path(self, components: Components) -> DecisionPath:
        return DecisionPath(components, self.instrument, self.settings.decision.max_position, self.clock)

    def _components(self, account: TradingAccount) -> Components:
        return Components(
            pipeline=self.pipeline,
            inference=self.inference,
            executor=account.executor,
            metrics=self.metrics,
            sink=self.reporter,
        )


def _hold(paths: VarPaths) -> int:
    """Lock `var`: one process at a time writes to it, whatever its mode, since the modes share CSV files."""
    try:
        return lock_file.hold(paths.lock)
    except InUse as error:
        raise StartError(f"{paths.root} is {error}: stop that daemon or choose another --var") from error
    except OSError as error:
        raise StartError(
            f"{paths.lock} can't be written: {error.strerror}; check the directory and its owner"
        ) from error


def _show(console: Console, journal: ServiceJournal, alert: Alert) -> None:
    console.alert(alert)
    journal.alert(alert)


def _ignore(_said: Alert | str) -> None:
    """In a replay nothing goes to the terminal."""
