"""From the word to the last cancel on the wire: a kill by command, by signal and by file, with entries resting.

Executor, journal (as in live: every commit reaches the disk) and DTC link are the daemon's own, on its event loop; the
server is a simulator in another process. Meanwhile the loop is kept as busy as with a market and a model: events, and a
burst of computing every few milliseconds. A write to the socket reaches the kernel before it returns, so its return is
taken for the wire.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import uvloop

from benchmarks import machine
from benchmarks.bench_tick_to_order import configuration
from mia_daemon import config
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.clock import WallClock
from mia_daemon.config import Mode, Settings
from mia_daemon.daemon.broker_tasks import reconcile
from mia_daemon.daemon.commands import Commands
from mia_daemon.daemon.kill_switch import KillSwitch
from mia_daemon.dtc import messages as dtc
from mia_daemon.execution.ports import TradeScope
from mia_daemon.journal.run_header import InstrumentRates, RunBundle, RunConfig, RunHeader
from mia_daemon.journal.writer import Journal
from mia_daemon.ops.alert_manager import AlertManager
from mia_daemon.ops.control import ControlServer, ask
from mia_daemon.ops.logs import make_logger
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import Alert, EventKind, Fill, Order, OrderRole, Side, Trade, empty_events
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.trade_window_filter import TradeWindowFilter
from mia_daemon.trading.assembly import FLAT, AccountSetup, EventTime, TradingAccount, open_account
from mia_daemon.trading.entry_gate import EntryGate
from mia_daemon.trading.trading_loop import TradingLoop

ENTRIES = 20
ROUNDS = 100
BUSY_S = 0.004  # a decision's worth of computing ...
IDLE_S = 0.006  # ... and what comes between two
FAR = 80 * 0.25  # points below the market: entries that rest

Pull = Callable[[], Awaitable[object]]


class Nobody:
    """Takes notices."""

    def order(self, ts_ns: int, order: Order, what: str) -> None: ...

    def fill(self, fill: Fill) -> None: ...

    def trade(self, trade: Trade) -> None: ...


class Bench:
    """An account at the simulator, and the moments at which its cancels left."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.clock = WallClock()
        self.directory = directory
        traded = instrument(settings.instrument.symbol)
        self.journal = Journal(directory / "live.db", durable=True)
        header = RunHeader(
            mode="live",
            started_ns=self.clock.now_ns(),
            version="",
            config=RunConfig({}, ""),
            bundle=RunBundle(name="", sha256="", catalogue_sha256=""),
            rates=InstrumentRates(traded.point_value, traded.cost_per_side),
        )
        run_id = self.journal.begin_run(header)
        self.broker = SierraBroker(settings.dtc, ServerScope.of(settings, traded), self.clock, random.Random(1))
        calendar = TradingCalendar.load(cache_dir=directory)
        self.account: TradingAccount = open_account(
            AccountSetup(
                settings=settings,
                scope=TradeScope(run_id, traded, settings.instrument.trade_account),
                journal=self.journal,
                broker=self.broker,
                calendar=calendar,
                clock=self.clock,
                listener=Nobody(),
                alert=self.alert,
            ),
            TradingLoop(settings.decision, run_id, EntryGate(TradeWindowFilter(settings.windows, calendar))),
            FLAT,
            cash=1e5,
            time=EventTime(Mode.PAPER),
        )
        self.left: list[float] = []
        self.price = traded.product.simulated_price
        send = self.broker.link.send

        def watched(*messages: dtc.Message) -> None:
            send(*messages)
            if isinstance(messages[0], dtc.CancelOrder):
                self.left.append(time.perf_counter())

        self.broker.link.send = watched  # type: ignore[method-assign]

    def alert(self, alert: Alert) -> None: ...

    async def market(self) -> None:
        """Events, and computing in between."""
        events = empty_events(8)
        events["kind"] = EventKind.QUOTE
        while True:
            events["ts_ns"] = self.clock.now_ns()
            events["bid"], events["ask"] = self.price, self.price + 0.25
            self.account.executor.on_market(events)
            until = time.perf_counter() + BUSY_S
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(IDLE_S)

    async def rest(self) -> None:
        """Entries work, each with its bracket held by the server."""
        order_manager, orders = self.account.actors.order_manager, self.account.state.orders
        for _ in range(ENTRIES):
            price = self.price - FAR
            order_manager.send_bracket(  # no risk: it would refuse these
                order_manager.factory.make_bracket(
                    Side.BUY, 1, price, stop=price - 20, target=price + 20, decision_id="bench"
                )
            )
        await until(lambda: sum(one.at_server for one in orders.with_role(OrderRole.ENTRY)) == ENTRIES)

    async def measure(self, pull: Pull) -> float:
        """One kill; from the word to the last cancel, s."""
        await self.rest()
        self.left.clear()
        started = time.perf_counter()
        await pull()
        await until(lambda: len(self.left) >= ENTRIES)
        taken = self.left[ENTRIES - 1] - started
        await until(lambda: not self.account.state.orders.with_role(OrderRole.ENTRY))
        self.account.operator.resume("bench", RiskCode.KILLED)
        await self.agree()
        return taken

    async def agree(self) -> None:
        """Reconcile until both agree."""
        while not await reconcile(self.account):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def simulator(config_file: Path, state: Path) -> AsyncIterator[int]:
    """The port of one."""
    words = (sys.executable, "-m", "mia_daemon", "simulator", "--config", config_file, "--state", state, "--port", "0")
    process = await asyncio.create_subprocess_exec(*map(str, words), "--speed", "1", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(json.loads(await process.stdout.readline())["port"])
    finally:
        process.terminate()
        await process.wait()


async def bench(directory: Path) -> None:
    config_file = configuration(directory, 0)
    async with simulator(config_file, directory / "exchange") as port:
        settings = config.load(config_file, {"dtc.port": port, "broker.entry_timeout_s": 86_400.0})
        bench = Bench(settings, directory)
        await bench.broker.connect()
        load = asyncio.create_task(bench.market())
        await bench.agree()
        log = make_logger(lambda _line: None, bench.clock, "error")
        file = directory / "kill"
        switch = KillSwitch(file, bench.account, bench.clock, log, lambda _text: None, flatten=False)
        alerts = AlertManager(directory, log, repeat_after_s=60, per_minute=30, tell=lambda _alert: None)
        commands = Commands(
            bench.account, alerts, switch, bench.clock, log,
            status=dict, stop=lambda _why: None, say=lambda _text: None,
        )  # fmt: skip
        control = ControlServer(directory / "control.sock", commands.handlers(), log)
        await control.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, switch.pull, "SIGUSR2")
        watching = asyncio.create_task(switch.watch_file())

        async def by_command() -> None:
            await asyncio.to_thread(ask, control.path, "kill")

        async def by_signal() -> None:
            await asyncio.to_thread(os.kill, os.getpid(), signal.SIGUSR2)

        async def by_file() -> None:
            await asyncio.to_thread(file.touch)
            await until(lambda: len(bench.left) >= ENTRIES)
            file.unlink()

        for name, pull in (("command", by_command), ("signal", by_signal), ("file", by_file)):
            report(name, [await bench.measure(pull) for _ in range(ROUNDS)])
        for task in (load, watching):
            task.cancel()
        await control.close()
        await bench.broker.close()
        bench.journal.close()


def report(name: str, taken: list[float]) -> None:
    p50, p99 = np.percentile(np.array(taken) * 1e3, [50, 99])
    print(f"kill by {name:<8} p50 {p50:6.1f} ms   p99 {p99:6.1f} ms   worst {max(taken) * 1e3:6.1f} ms   "
          f"({len(taken)} kills of {ENTRIES} entries)", flush=True)  # fmt: skip


if __name__ == "__main__":
    print(machine.line())
    with tempfile.TemporaryDirectory() as scratch:
        uvloop.run(bench(Path(scratch)))
