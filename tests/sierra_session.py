"""Trading at the simulator over real TCP: a broker that notes all it is told, and an executor on top of it."""

import asyncio
import random
from contextlib import asynccontextmanager

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra import SierraBroker
from mia_daemon.clock import WallClock
from mia_daemon.config import DtcSettings, Mode
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Bracket, Fill, Order, OrderReport, OrderRole, OrderType, Side
from mia_daemon.trading.assembly import EventTime

ES = instrument("ESZ26_FUT_CME")
TICK = ES.tick_size
PATIENCE_S = 20.0


def scope_of(symbol=ES, account="Sim1", trade_symbol="", symbols=(), accounts=()):
    """What is traded; `symbols` and `accounts` are other spellings of it."""
    trade_symbol = trade_symbol or symbol.symbol
    return ServerScope(
        symbol,
        account,
        trade_symbol,
        frozenset({symbol.symbol, trade_symbol, *symbols}),
        frozenset({account, *accounts}),
    )


class Desk:
    """A broker and everything it told."""

    def __init__(self, port, scope=None, *, pairs_by_server=True, **dtc_settings):
        settings = DtcSettings(port=port, connect_timeout_s=5, reconnect_first_delay_s=0.01)
        settings = settings.model_copy(update=dtc_settings)  # unchecked, so that a heartbeat may come every second
        self.broker = SierraBroker(
            settings, scope or scope_of(), WallClock(), random.Random(1), pairs_by_server=pairs_by_server
        )
        self.told = []
        self.changed = asyncio.Event()
        self.broker.start(self.take)
        self.number = 0

    def take(self, event):
        self.told.append(event)
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def statuses(self, name):
        return [e.status for e in self.told if isinstance(e, OrderReport) and e.client_order_id == name]

    def last(self, name):
        return [e for e in self.told if isinstance(e, OrderReport) and e.client_order_id == name][-1]

    def of(self, kind):
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def fills(self):
        """The executions told, with an update of their order or alone."""
        events = (event.fill if isinstance(event, OrderReport) else event for event in self.told)
        return [event for event in events if isinstance(event, Fill)]

    def cancel(self, name):
        """Cancel an order by the number last told."""
        self.broker.cancel(name, self.last(name).server_order_id)

    def replace(self, name, price, quantity=1):
        """Change an order by the number last told."""
        self.broker.replace(name, self.last(name).server_order_id, price, quantity)

    async def sees(self, name, status):
        await self.until(lambda: status in self.statuses(name))


def order(name, side, price, kind=OrderType.LIMIT, role=OrderRole.ENTRY, quantity=1, **more):
    return Order(name, ES.symbol, "Sim1", side, quantity, kind, role, "d", price=price, **more)


def bracket(touch, side=Side.BUY, away=0, quantity=1, name=""):
    price = touch + side * (4 - away) * TICK
    return Bracket(
        order(f"{name}E", side, price, quantity=quantity),
        order(f"{name}S", side.opposite, price - side * 80 * TICK, OrderType.STOP, OrderRole.STOP, quantity),
        order(f"{name}T", side.opposite, price + side * 80 * TICK, OrderType.LIMIT, OrderRole.TARGET, quantity),
    )


def ask(server):
    return server.exchange.main.engine.book.touch()[2] * TICK


@asynccontextmanager
async def connected(server, **more):
    desk = Desk(server.port, **more)
    await desk.broker.connect()
    try:
        yield desk
    finally:
        await desk.broker.close()


class Session:
    """An executor that trades at the simulator, shown the server's own touch, `shift` ticks away.

    Its waits pass on the machine's clock, `speed` times as fast, as the simulator's market does.
    """

    shift = 0

    def __init__(self, make_rig, server, dtc_settings=None, speed=2.0, **more):
        self.desk = Desk(server.port, **(dtc_settings or {}))
        self.server = server
        self.rig = make_rig(self.desk.broker, time=EventTime(Mode.PAPER, speed), **more)
        take = self.rig.executor.on_broker_event
        self.desk.broker.start(lambda event: (take(event), self.desk.take(event)))

    async def until(self, condition):
        """Show the market and answer what is due until it holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.show()
                self.rig.executor.on_timer()
                if self.rig.executor.reconcile_due:
                    await self.rig.reconcile()
                await asyncio.sleep(0.002)

    def show(self):
        bid, _, ask_, _ = self.server.exchange.main.engine.book.touch()
        now = self.server.exchange.now_ns
        events = self.rig.quotes((0, (bid + self.shift) * TICK, (ask_ + self.shift) * TICK))
        events["ts_ns"] = self.rig.ts_ns = now
        self.rig.executor.on_market(events)

    async def ready(self):
        await self.desk.broker.connect()
        self.show()
        await self.until(lambda: self.rig.sync.reconciled)
