"""The first venue: the real simulated exchange behind the real DTC server, which may crash and restart."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fault_simulation.history import BY_HAND
from fault_simulation.loop import Process, SimulatedLoop
from fault_simulation.network import End, Network
from fault_simulation.plan import PORT
from fault_simulation.venue import TODAY, OnChange, OrderAtServer, ServerState, calendar
from mia_daemon.config import FaultSettings, Settings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.products.instruments import instrument
from mia_daemon.records import OrderType
from mia_daemon.simulator.client_order import ClientOrder
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.exchange import Exchange, Traded
from mia_daemon.simulator.faulty_line import FaultyLine
from mia_daemon.simulator.server import SimulatorServer
from mia_daemon.simulator.state import StateStore

STEP_S = (0.03, 0.15)


class _Server(SimulatorServer):
    """The simulator's server, at a slower pace; every change is checked."""

    def __init__(
        self, exchange: Exchange, loop: SimulatedLoop, rng: Random, faults: FaultSettings, look: Callable[[], None]
    ) -> None:
        super().__init__(exchange, loop, 1.0, Manners(), faults)
        self._look = look
        self._rng = rng

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(*STEP_S))

    def step(self) -> None:
        super().step()
        self._look()

    def received(self, connection: Any, data: bytes) -> None:
        super().received(connection, data)
        self._look()


class FirstVenue:
    """One server after another, over the same memory in `directory`.

    Args:
        on_fault: called for each fault of an order.
    """

    exchange: Exchange
    process: Process

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        loop: SimulatedLoop,
        network: Network,
        *,
        on_fault: Callable[[], None],
        on_change: OnChange,
    ) -> None:
        self.instrument = instrument(settings.instrument.symbol)
        self._settings = settings
        self._directory = directory
        self._loop = loop
        self._network = network
        self._on_fault = on_fault
        self._on_change = on_change
        self._server: _Server | None = None
        self._by_hand = 0
        self._processes: list[Process] = []  # also dead ones: none may be finalised meanwhile

    @property
    def record(self) -> Path:
        """Path of the server's record of all order traffic."""
        return self._directory / "orders.jsonl"

    @property
    def earned(self) -> float:
        """Profit by the server's account, account currency, after costs."""
        (account,) = self.exchange.accounts.values()
        return account.cash - self._settings.simulator.starting_cash

    def state(self) -> ServerState:
        """The account as it is now."""
        exchange = self.exchange
        return ServerState(
            exchange.position(),
            tuple(_at_server(order) for order in exchange.main.engine.alive.values()),
            bool(exchange._faults._late or exchange._faults._cancelled),
        )

    def start(self, rng: Random) -> None:
        """Start a server with the files that the last one left."""
        settings = self._settings
        store = StateStore(self._directory, settings.instrument.symbol)
        traded = Traded((self.instrument,), (settings.instrument.trade_account,))
        self.exchange = exchange = Exchange(traded, settings.simulator, calendar(), store, TODAY)
        happens = exchange._faults._happens

        def counted(share: float) -> bool:
            hit = happens(share)
            if hit:
                self._on_fault()
            return hit

        exchange._faults._happens = counted  # type: ignore[method-assign]
        self._server = _Server(exchange, self._loop, rng, settings.simulator.faults, self._look)
        self.process = process = Process("server", self._loop)
        self._processes.append(process)
        process.at_death.append(lambda: self._network.leave(process))
        process.start(self._server.run("127.0.0.1", PORT, lambda _port: None))

    def _look(self) -> None:
        self._on_change(self.state())

    def crash(self) -> None:
        """Kill the server: what was committed stays."""
        self.process.die()
        self._network.stop_listening(PORT)
        exchange = self.exchange
        exchange.close = lambda: None  # type: ignore[method-assign]  # a crash saves nothing
        store = exchange._store
        store._db.close()
        os.close(store._record_fd)

    def by_hand(self, what: str, share: float) -> bool:
        """Trade the account as an external trader, with `share` of the quantity that the daemon may hold.

        `what` is `buy`, `sell` or `flatten` at the market; `bid` or `offer`, a resting order; `cancel` for every
        working order; or `withdraw` for external ones. False when it is not possible now.
        """
        server = self._server
        if not self.process.alive or server is None:
            return False

        def act() -> None:
            for message in self._typed(what, share):
                server._tell(self.exchange.handle(message))
            self.exchange.commit()
            server._look()

        self.process.do(act)
        return True

    def _typed(self, what: str, share: float) -> list[Message]:
        alive = list(self.exchange.main.engine.alive.values())
        account = self._settings.instrument.trade_account
        if what in {"cancel", "withdraw"}:
            return [
                dtc.CancelOrder(ServerOrderID=order.server_id, ClientOrderID=order.client_id, TradeAccount=account)
                for order in alive
                if what == "cancel" or order.client_id.startswith(BY_HAND)
            ]
        self._by_hand += 1
        name, symbol = f"{BY_HAND}{self._by_hand}", self.instrument.symbol
        if what == "flatten":
            return [dtc.SubmitFlattenPositionOrder(Symbol=symbol, TradeAccount=account, ClientOrderID=name)]
        bid, _, ask, _ = self.exchange.main.touch()
        buys = what in {"buy", "bid"}
        price = (bid if buys else ask) if what in {"bid", "offer"} else 0
        contracts = max(round(share * self._settings.decision.max_position), 1)
        return [
            dtc.SubmitNewSingleOrder(
                Symbol=symbol,
                TradeAccount=account,
                ClientOrderID=name,
                OrderType=OrderType.LIMIT if price else OrderType.MARKET,
                BuySell=BuySellEnum.BUY if buys else BuySellEnum.SELL,
                Price1=(price or 0) * self.instrument.tick_size,
                Quantity=float(contracts),
            )
        ]

    def behave(self) -> None:
        """End faults of orders and of later connections."""
        assert self._server is not None
        self._server._faults = FaultSettings()
        self.exchange._faults._settings = FaultSettings()

    def misbehave(self) -> None:
        """Start the faults of orders again."""
        self.exchange._faults._settings = self._settings.simulator.faults

    def touch(self) -> tuple[int, float, float] | None:
        """The present quote: exchange time, bid, ask; None when there is none."""
        if not self.process.alive:
            return None
        bid, _, ask, _ = self.exchange.main.touch()
        tick = self.instrument.tick_size
        return None if bid is None or ask is None else (self.exchange.now_ns, bid * tick, ask * tick)

    @staticmethod
    def may_fail(near: End) -> bool:
        """Whether this connection is cut, or has a fault of its own."""
        return near.cut or isinstance(getattr(near.peer.protocol, "transport", None), FaultyLine)

    @staticmethod
    def speaks(near: End) -> bool:
        """Whether client and server receive each other's messages on this connection."""
        connection = near.peer.protocol
        if near.cut or not connection.session.logged_on or connection.session.closing:
            return False
        line = connection.transport
        return not (isinstance(line, FaultyLine) and (line._dead or line._past(line._faults.mute_after_s)))


def _at_server(order: ClientOrder) -> OrderAtServer:
    single = order.parent is None and not order.is_parent
    return OrderAtServer(
        order.client_id,
        order.side,
        order.open_quantity,
        adds=order.is_parent,
        stops=order.is_stop and order.armed,
        exits=single and order.resting and not order.client_id.startswith(BY_HAND),
    )
