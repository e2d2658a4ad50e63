"""The process: load, check, connect, reconcile, run, drain, stop; the methods are in this order."""

import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from mia_daemon.brokers.base import Broker
from mia_daemon.clock import NS_PER_S, WallClock, is_synchronized
from mia_daemon.config import Mode, Settings, VarPaths
from mia_daemon.daemon import assembly, signals
from mia_daemon.daemon.arming import check_armed, check_bundle
from mia_daemon.daemon.broker_tasks import drain, keep_reconciled, keep_time, reconcile
from mia_daemon.daemon.commands import Commands
from mia_daemon.daemon.day_checks import DayChecks
from mia_daemon.daemon.housekeeping import Housekeeping
from mia_daemon.daemon.kill_switch import KillSwitch
from mia_daemon.daemon.preflight import open_to_others, preflight, refuse_unfit
from mia_daemon.daemon.price_files import check_live_files
from mia_daemon.daemon.roll import Choice, choose_contract
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.daemon.server_wait import ServerWait
from mia_daemon.daemon.session_recorder import SessionRecorder
from mia_daemon.daemon.status import SIMULATED, DaemonStatus, service_text, status_text
from mia_daemon.errors import ExitStatus, MiaError, StartError, exit_status_of
from mia_daemon.features import cache
from mia_daemon.feed.base import Feed
from mia_daemon.journal.file import expected_migration_s
from mia_daemon.ops.alert_manager import unacknowledged_text
from mia_daemon.ops.console import Console
from mia_daemon.ops.control import Answer, ControlServer
from mia_daemon.ops.logs import StdlibHandler
from mia_daemon.ops.performance_log import PerformanceLog
from mia_daemon.ops.stall_watch import StallWatch
from mia_daemon.ops.systemd import Notifier, Watchdog, watchdog_interval_s
from mia_daemon.printable import printable
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Alert, Priority
from mia_daemon.service_stderr import report_on_stderr
from mia_daemon.trading.assembly import TradingAccount
from mia_daemon.trading.live_trading import TradingSession

RISK_SNAPSHOT_EVERY_S = 60.0
FEED_END_S = 0.5
"""Seconds for the feed to log off and for the tasks to process what it delivered."""


WATCHDOG_EVERY_S = 10.0
"""Seconds between two checks that the tasks make progress, where the service manager sets no interval."""

KERNEL_TIMEOUT_S = 300.0
"""Seconds that the service manager is asked to wait while kernels compile, beside those for a migration."""


def run(
    settings: Settings,
    config: Path,
    mode: Mode,
    paths: VarPaths,
    *,
    duration_s: float | None = None,
    armed_account: str | None = None,
    quiet: bool = False,
) -> int:
    """Trade until asked to stop; returns the exit status.

    `config` is the file `settings` came from, for the embedded simulator; `armed_account` names the account in live,
    where no arm file does.

    Raises:
        UsageError: live without being armed.
        StartError: a check before the start failed, other than a server that is awaited; nothing was written.
    """
    if mode is Mode.LIVE:
        check_armed(settings, paths, armed_account)
    refuse_unfit(preflight(settings, mode, paths, armed_account))
    contract = choose_contract(settings, mode, paths, WallClock().now_ns())
    daemon = Daemon(contract, config, mode, paths, Console(sys.stdout, quiet=quiet), duration_s)
    return uvloop.run(daemon.run())


class Daemon:
    """One run of the process."""

    def __init__(
        self,
        contract: Choice,
        config: Path,
        mode: Mode,
        paths: VarPaths,
        console: Console,
        duration_s: float | None = None,
    ) -> None:
        self._contract = contract
        self._settings = contract.settings
        self._config = config
        self._mode = mode
        self._paths = paths
        self._console = console
        self._duration_s = duration_s
        self._clock = WallClock()
        self._rng = random.Random()  # noqa: S311  jitter of reconnection, not security
        self._notifier = Notifier()
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._switch: KillSwitch | None = None
        self._housekeeping: Housekeeping | None = None
        self._run: DaemonRun | None = None
        self._hangup_stops = signals.hangup_stops()
        self._wait: ServerWait | None = None
        self._started_ns = self._clock.monotonic_ns()

    async def run(self) -> int:
        """Start, trade, stop; returns the exit status, 0 after an orderly stop."""
        signals.ignore_requests(hangup=not self._hangup_stops)
        self._prepare_kernels()
        self._handle_signals()
        try:
            return await self._open_and_trade()
        finally:
            self._run = None
            signals.block_requests()

    async def _open_and_trade(self) -> int:
        traded = instrument(self._settings.instrument.symbol, self._settings.products)
        with DaemonRun(self._settings, traded, self._mode, self._paths, self._clock, self._console) as run:
            self._run = run
            logging.getLogger().addHandler(StdlibHandler(run.log))
            if self._mode is Mode.LIVE:
                check_bundle(run.bundle, self._settings)  # the bundle that was loaded
            self._say_contract(run)
            self._warn(run)
            try:
                return await self._serve(run)
            except MiaError as error:
                run.journal.end_run(run.run_id, self._clock.now_ns(), f"failed: {error}")
                raise

    async def _serve(self, run: DaemonRun) -> int:
        """With the server, the account and its recording; returns the exit status."""
        async with assembly.dtc_server(run, self._config, self._paths, self._console.say) as settings:
            on_notice = partial(self._server_says, run)
            self._keeper = assembly.feature_keeper(run, self._paths)
            self._keeper.resume()
            feed = assembly.feed(run, settings, self._keeper.resumed, self._rng, on_notice)
            broker = assembly.broker(run, settings, self._rng, on_notice)
            account, recorder = assembly.recorded_account(run, broker, self._keeper, self._paths)
            self._performance = PerformanceLog(run.log)
            status = 1
            try:
                status = await self._connect_and_trade(run, account, feed, recorder)
            finally:
                self._performance.write(success=not status)
                self._say_summary(run)
            return status

    # Starting.

    def _say_contract(self, run: DaemonRun) -> None:
        run.log.info("contract", symbol=run.instrument.symbol, text=self._contract.text)
        if self._settings.simulated:
            self._console.say(SIMULATED)
        self._console.say(f"contract {self._contract.text}")
        if self._contract.warning:
            run.alert(Alert(self._clock.now_ns(), "contract_kept", Priority.WARNING, self._contract.text))

    def _warn(self, run: DaemonRun) -> None:
        """Report what directories and files have that does not prevent the start."""
        now_ns = self._clock.now_ns()
        synchronized = _unknown if self._settings.simulated else is_synchronized
        self._day_checks = DayChecks(run.macro_events, run.calendar, run.alert, synchronized)
        self._day_checks.look(run.now_ns())
        if text := open_to_others(self._paths.root).removeprefix("; "):
            run.alert(Alert(now_ns, "directories_open", Priority.WARNING, text))
        if self._settings.feed.source == "scid":
            doubtful = check_live_files(self._settings, now_ns).warnings
            if doubtful:  # in one alert: a second of the same code would be held back
                run.alert(Alert(now_ns, "price_files", Priority.WARNING, "; ".join(doubtful)))

    def _handle_signals(self) -> None:
        signals.handle(
            asyncio.get_running_loop(),
            stop=self._ask_to_stop, kill=self._kill, reopen=self._reopen_files, hangup_stops=self._hangup_stops,
        )  # fmt: skip

    def _reopen_files(self, by: str) -> None:
        if self._run is not None:
            self._run.files.reopen()
            self._run.log.info("files_reopened", by=by)

    def _ask_to_stop(self, reason: str) -> None:
        self._stop_reason = self._stop_reason or reason
        self._stop.set()

    def _kill(self, by: str) -> None:
        if self._switch is None:  # nothing was sent yet
            self._ask_to_stop(f"killed by {by} before trading began")
        else:
            self._switch.pull(by)

    def _prepare_kernels(self) -> None:
        """Compile what is not compiled yet; it and the migration of the journal may take long."""
        migration_s = expected_migration_s(self._paths.journal(self._mode))
        self._notifier.extend_timeout(KERNEL_TIMEOUT_S + 2 * migration_s)

        def say(text: str) -> None:
            self._console.say(text)
            self._notifier.status(text)

        cache.prepare(say, self._elapsed_s)

    def _server_says(self, run: DaemonRun, link: str, text: str, kind: str) -> None:
        """Log every text message of Sierra Chart; also show at the terminal those it marks for display."""
        run.log.info("server_says", link=link, kind=kind, text=text)
        if kind != "GeneralLogMessage":
            self._console.say(f"server says {text}")

    # Trading.

    async def _connect_and_trade(
        self, run: DaemonRun, account: TradingAccount, feed: Feed, recorder: SessionRecorder
    ) -> int:
        broker = account.broker
        session = run.session(feed, account, record=recorder.record)
        self._switch = switch = self._kill_switch(run, account)
        control = ControlServer(
            self._settings.ops.control_socket or self._paths.control_socket,
            self._commands(run, account, switch).handlers(),
            run.log,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(recorder.close)
            self._housekeeping = Housekeeping(run, self._paths)
            await self._housekeeping.start()
            stack.push_async_callback(self._housekeeping.stop)
            self._watch_loop(run, stack)
            await control.start()
            stack.push_async_callback(control.close)
            stack.push_async_callback(broker.close)
            stack.callback(asyncio.create_task(switch.watch_file(), name="kill file").cancel)
            if await self._reach(run, account, broker, session):
                return await self._trade(run, account, session, feed)
            return await self._end(run, account, None)

    async def _reach(self, run: DaemonRun, account: TradingAccount, broker: Broker, session: TradingSession) -> bool:
        """Connect for orders and reconcile; False when asked to stop before that was done."""
        reached = asyncio.create_task(self._connect(run, account, broker), name="connect")
        asked = asyncio.create_task(self._stop.wait(), name="stop")
        fed = asyncio.create_task(self._feed_watchdog(run, session), name="watchdog")
        try:
            await asyncio.wait([reached, asked, fed], return_when=asyncio.FIRST_COMPLETED)
            if fed.done():
                await fed
            if reached.done():
                await reached
            return reached.done()
        finally:
            for task in (reached, asked, fed):
                task.cancel()
            await asyncio.gather(reached, asked, fed, return_exceptions=True)

    async def _connect(self, run: DaemonRun, account: TradingAccount, broker: Broker) -> None:
        """Connect and reconcile. When the reconciliation fails the daemon stays up without trading."""
        self._wait = wait = ServerWait(run.alert, run.log, self._notifier, self._clock, self._begin_duration)
        await broker.connect(wait.on_waiting)
        wait.found()
        if await reconcile(account):
            run.log.info("reconciled", position=account.state.ledger.position, working=len(account.state.orders))
        if other := account.state.sync.other_daemon:
            raise StartError(
                f"order {other} works in account {account.scope.account} and is of another mia-daemon: "
                "stop that one, or give each its own account"
            )

    async def _trade(self, run: DaemonRun, account: TradingAccount, session: TradingSession, feed: Feed) -> int:
        """Run the four tasks until asked to stop or one fails, then stop in order; returns the exit status."""
        status = DaemonStatus(run, account, session.tally, self._elapsed_s, self._disk)
        tasks = asyncio.create_task(session.run(), name="session")
        helpers = [
            asyncio.create_task(run.deferred.run(), name="deferred work"),
            asyncio.create_task(keep_reconciled(account, partial(run.log.info, "not_reconciled")), name="reconcile"),
            asyncio.create_task(keep_time(account.executor), name="clock"),
            asyncio.create_task(self._sample(run, status, session), name="sample"),
            asyncio.create_task(self._feed_watchdog(run, session), name="watchdog"),
            asyncio.create_task(self._keeper.keep(self._settings.features.state_every_s), name="keep features"),
        ]
        self._begin_duration()
        self._ready(run, account, status.facts(0.0))
        asked = asyncio.create_task(self._stop.wait(), name="stop")
        writing = asyncio.create_task(run.cold_writes.run(), name="write files")  # its end ends nothing else
        await asyncio.wait([tasks, asked, *helpers], return_when=asyncio.FIRST_COMPLETED)
        failure = next((task for task in (tasks, *helpers) if task.done() and not task.cancelled()), None)
        try:
            return await self._end(run, account, failure)
        finally:
            feed.close()
            await asyncio.wait([tasks], timeout=FEED_END_S)
            for task in (tasks, asked, writing, *helpers):
                task.cancel()
            ended = await asyncio.gather(*helpers, tasks, asked, writing, return_exceptions=True)
            for helper, error in zip(helpers, ended, strict=False):
                if isinstance(error, Exception) and helper is not failure:
                    run.log.error("task_failed_while_stopping", task=helper.get_name(), reason=str(error))
            # The rows of the last operations, one that failed among them.
            self._performance.add(run.metrics.sample(session.counters, status.facts(0.0)), self._elapsed_s())
            if _cause(failure) is None:
                self._keeper.save()

    def _begin_duration(self) -> None:
        """Stop after the time asked for, if any; where a server is awaited, that counts too."""
        if self._duration_s is not None:
            asyncio.get_running_loop().call_later(self._duration_s, self._ask_to_stop, "time is up")

    def _ready(self, run: DaemonRun, account: TradingAccount, facts: Mapping[str, Any]) -> None:
        # Freeze what is loaded, so that the garbage collector does not traverse it: 40 to 130 ms each time.
        gc.collect()
        gc.freeze()
        seconds = (self._clock.monotonic_ns() - self._started_ns) / NS_PER_S
        run.log.info("ready", seconds=round(seconds, 3), position=account.state.ledger.position)
        who = f"uid {os.getuid()} pid {os.getpid()}"  # the operator behind every order of the run
        run.journal.record_command(
            self._clock.now_ns(), "start", who, f"{self._mode.value}, run {account.scope.run_id}"
        )
        for latch in account.risk.latches:
            run.log.warning("latched", code=latch.code.value, text=latch.text)
            self._console.say(f"still latched: {latch.text}", always=True)
        self._console.say(f"ready after {seconds:.1f} s; Ctrl-C stops, `mia-daemon status` asks")
        self._keeper.expect(assembly.absent_inputs(self._settings))
        self._notifier.ready(service_text(facts))

    # Once a second.

    async def _sample(self, run: DaemonRun, status: DaemonStatus, session: TradingSession) -> None:
        every_s = self._settings.ops.sample_every_s
        decisions = 0
        snapshot_due_s = 0.0
        while True:
            await asyncio.sleep(every_s)
            # Each of these may take a millisecond: let market events be processed in between.
            run.checkpoint()
            await asyncio.sleep(0)
            rate = (session.tally.decisions - decisions) / every_s
            decisions = session.tally.decisions
            facts = status.facts(rate)
            self._performance.add(run.metrics.sample(session.counters, facts), self._elapsed_s())
            await asyncio.sleep(0)
            run.files.check()
            run.alerts.tick(self._clock.now_ns())
            self._console.status(status.line(facts), self._elapsed_s())
            self._notifier.status(service_text(facts))
            await asyncio.sleep(0)
            for _ in run.remember():
                await asyncio.sleep(0)
            self._keeper.look()
            self._day_checks.look(status.account.state.market.now_ns or run.now_ns())
            if run.reporter.latches_changed() or self._elapsed_s() >= snapshot_due_s:
                run.reporter.risk_snapshot()
                snapshot_due_s = self._elapsed_s() + RISK_SNAPSHOT_EVERY_S

    def _disk(self) -> dict[str, Any] | None:
        return self._housekeeping.disk if self._housekeeping else None

    def _elapsed_s(self) -> float:
        return (self._clock.monotonic_ns() - self._started_ns) / NS_PER_S

    async def _feed_watchdog(self, run: DaemonRun, session: TradingSession) -> None:
        """Notify systemd's watchdog while every task makes progress; without a watchdog, only check.

        A task found stuck raises an alert; one still stuck at the next check triggers the kill.
        """
        watchdog = Watchdog(self._notifier)
        every_s = watchdog_interval_s() or WATCHDOG_EVERY_S
        before: set[str] = set()
        while True:
            stuck = watchdog.look(session.counters)
            if still := before.intersection(stuck):
                self._kill(f"watchdog: {', '.join(sorted(still))} stuck")
            before = set() if still else set(stuck)
            if stuck:
                run.alert(
                    Alert(
                        self._clock.now_ns(),
                        "task_stuck",
                        Priority.CRITICAL,
                        f"no progress with work waiting in: {', '.join(stuck)}",
                    )
                )
            await asyncio.sleep(every_s)

    def _watch_loop(self, run: DaemonRun, stack: contextlib.AsyncExitStack) -> None:
        """Watch the event loop from outside it, as long as orders may be at the server."""

        def over(text: str) -> None:
            run.alert(Alert(self._clock.now_ns(), "loop_blocked", Priority.CRITICAL, f"{text}; it goes on again"))

        ops = self._settings.ops
        watch = StallWatch(
            self._paths.loop_stalls, self._clock, ops.loop_stall_s, ops.loop_abort_s, over, run.files.notify
        )
        stack.callback(watch.stop)
        watch.start()

    # Operators.

    def _commands(self, run: DaemonRun, account: TradingAccount, switch: KillSwitch) -> Commands:
        return Commands(
            account, run.alerts, switch, self._clock, run.log,
            status=lambda: self._status(run),
            stop=self._ask_to_stop, say=self._console.say,
        )  # fmt: skip

    def _status(self, run: DaemonRun) -> Answer:
        """The answer to `status`."""
        facts, urgent = run.metrics.snapshot, run.alerts.unacknowledged
        if self._wait is not None and self._wait.reason:
            return {"status": {**facts, "waiting": self._wait.reason}, "text": self._wait.text}
        return {
            "status": facts and {**facts, "unacknowledged": [one["id"] for one in urgent]},
            "text": status_text(facts) + unacknowledged_text(urgent),
        }

    def _kill_switch(self, run: DaemonRun, account: TradingAccount) -> KillSwitch:
        return KillSwitch(
            self._settings.ops.kill_file or self._paths.kill_file, account, self._clock, run.log, self._console.say,
            flatten=self._settings.incidents.on_kill == "flatten",
        )  # fmt: skip

    # Stopping.

    async def _end(self, run: DaemonRun, account: TradingAccount, failure: "asyncio.Task[Any] | None") -> int:
        """Cancel entries, close or keep the position, report how it ended; returns the exit status."""
        error = _cause(failure)
        how = f"failed: {error}" if error else (self._stop_reason or "feed ended")
        self._notifier.stopping(how)
        run.log.info("stopping", how=how, position=account.state.ledger.position)
        if error is not None:
            run.alert(Alert(self._clock.now_ns(), "daemon_failed", Priority.URGENT, f"{error}: trading stops"))
        flatten = self._settings.stop.on_stop == "flatten"
        account.operator.stop(flatten=flatten)
        if not await drain(account.executor, self._settings.stop.drain_s):
            position, working = account.state.ledger.position, len(account.state.orders)
            run.alert(
                Alert(
                    self._clock.now_ns(),
                    "stop_incomplete",
                    Priority.CRITICAL,
                    f"position {position:+d} and {working} working orders are left "
                    f"after {self._settings.stop.drain_s:g} s: look at Sierra Chart",
                )
            )
        self._name_what_stays(run, account)
        run.checkpoint()
        for _ in run.remember():
            pass
        run.reporter.risk_snapshot()
        run.journal.end_run(account.scope.run_id, self._clock.now_ns(), how)
        if error is not None:
            report_on_stderr("daemon_failed", printable(str(error)), Priority.URGENT)
        return exit_status_of(error) if error else ExitStatus.DONE

    def _name_what_stays(self, run: DaemonRun, account: TradingAccount) -> None:
        """Name the position and the orders that are left at the server when the daemon ends."""
        position = account.state.ledger.position
        left = [
            f"{entry.order.role} {entry.client_order_id} (number {entry.server_order_id or 'not known'}) "
            f"of {entry.open_quantity} at {entry.price:g}, {entry.state}"
            for entry in account.state.orders
            if entry.live
        ]
        if position or left:
            text = f"left in account {account.scope.account}: position {position:+d}; {'; '.join(left) or 'no order'}"
            run.log.warning("left_at_the_server", position=position, orders=left)
            self._console.say(text, always=True)

    def _say_summary(self, run: DaemonRun) -> None:
        self._console.close()
        reporter, account = run.reporter, run.account
        position = account.state.ledger.position if account else 0
        simulated = f" ({SIMULATED})" if self._settings.simulated else ""
        self._console.say(
            f"{self._stop_reason or 'ended'} after {self._elapsed_s():.0f} s: {reporter.orders} orders, "
            f"{reporter.fills} fills, {reporter.round_trips} round trips, profit {reporter.profit:+.2f} after costs"
            f"{simulated}, position {position:+d}; everything is in {self._paths.root}",
            always=True,
        )


def _unknown() -> None:
    """Whether the machine's clock is synchronised does not matter: the simulator has a time of its own."""


def _cause(task: "asyncio.Task[Any] | None") -> BaseException | None:
    """The error that ended a task, taken out of its exception group."""
    error = task.exception() if task is not None else None
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
