"""A server on a free port, and a client that speaks DTC to it over real TCP."""

import asyncio
import random
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mia_daemon import config
from mia_daemon.clock import WallClock
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import decode_frames, encode
from mia_daemon.dtc.layout import Message
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import LogonRefused
from mia_daemon.link.client import DtcClient
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.exchange import Exchange, Traded
from mia_daemon.simulator.run import open_server
from mia_daemon.simulator.server import SimulatorServer
from mia_daemon.simulator.state import StateStore

SYMBOL = "ESZ26_FUT_CME"
PATIENCE_S = 10.0


async def eventually(condition: Callable[[], object]) -> None:
    """Let the loop run until `condition` holds. Raises TimeoutError when it never does."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


_RISK = {
    "max_order_contracts": 1, "max_position_contracts": 1, "max_daily_loss": 1, "max_drawdown_share": 0.5,
    "max_orders_per_minute": 1, "max_price_age_s": 1, "max_price_deviation_ticks": 1, "max_consecutive_losses": 1,
    "max_consecutive_rejects": 1, "max_spread_ticks": 1, "max_order_notional": "waived",
    "max_messages_per_second": "waived", "max_messages_per_day": "waived", "cancel_reserve_share": 0.0,
    "max_executions": "waived", "max_price_jump_ticks": "waived", "market_pause_s": 0.0,
    "max_clock_skew_s": "waived", "max_decision_age_ms": "waived", "max_fill_slippage_ticks": "waived",
}  # fmt: skip


@pytest.fixture(scope="session")
def calendar() -> TradingCalendar:
    return TradingCalendar.load(date(2026, 10, 1), date(2027, 1, 31))


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., config.Settings]:
    def make(instrument: dict[str, Any] | None = None, **simulator: Any) -> config.Settings:
        tables = {"risk": _RISK, "simulator": simulator, "instrument": instrument or {}}
        return config.parse(tables, "the test's settings")

    return make


@pytest.fixture
def make_exchange(tmp_path: Path, calendar: TradingCalendar, make_settings: Callable[..., config.Settings]):
    """`make_exchange(symbol, …, accounts=…)`: an exchange with its state in `tmp_path`, closed at the end."""
    opened: list[Exchange] = []

    def make(*symbols: str, accounts: tuple[str, ...] = ("Sim1",), **simulator: Any) -> Exchange:
        symbols = symbols or (SYMBOL,)
        traded = Traded(tuple(map(instrument, symbols)), accounts)
        store = StateStore(tmp_path, *symbols)
        exchange = Exchange(traded, make_settings(**simulator).simulator, calendar, store, date(2026, 11, 1))
        opened.append(exchange)
        return exchange

    yield make
    for exchange in opened:
        with suppress(sqlite3.ProgrammingError, OSError):  # the test has closed it
            exchange.close()


class Client:
    """Sends messages and waits for answers; what it does not wait for is kept in `seen`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.seen: list[Message] = []
        self.closed = False
        self._frames = FrameReader()
        self._pending: list[Message] = []

    def send(self, *messages: Message) -> None:
        self.writer.write(b"".join(map(encode, messages)))

    async def next(self) -> Message:
        """The next message. Raises EOFError once the server has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._pending:
                data = await self.reader.read(1 << 16)
                if not data:
                    self.closed = True
                    raise EOFError
                self._pending += decode_frames(self._frames.feed(data))
        message = self._pending.pop(0)
        self.seen.append(message)
        return message

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            message = await self.next()
            if wanted(message):
                return message

    async def of(self, kind: type[Message], **values: Any) -> Any:
        """The next message of this kind whose fields have these values."""
        return await self.until(
            lambda m: isinstance(m, kind) and all(getattr(m, name) == value for name, value in values.items())
        )

    async def batch(self, request: Message, kind: type[Message], total: str = "TotalNumberMessages") -> list[Any]:
        """The whole answer to a query."""
        self.send(request)
        answers = [await self.of(kind, RequestID=request.RequestID)]
        while answers[-1].MessageNumber < getattr(answers[-1], total):
            answers.append(await self.of(kind, RequestID=request.RequestID))
        return answers

    async def logon(self, integer_1: int = 0, **fields: Any) -> dtc.LogonResponse:
        self.send(dtc.LogonRequest(Integer_1=integer_1, HeartbeatIntervalInSeconds=10, **fields))
        return await self.of(dtc.LogonResponse)

    async def end(self) -> list[Message]:
        """Everything up to the end of the connection."""
        rest = []
        try:
            while True:
                rest.append(await self.next())
        except (EOFError, ConnectionError):
            return rest

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


class Running:
    """A server that is serving."""

    def __init__(self, server: SimulatorServer, port: int) -> None:
        self.server, self.port = server, port
        self.clients: list[Client] = []

    async def connect(self, *, logon: bool = True, integer_1: int = 0, receive_buffer: int = 0) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        client = Client(*await asyncio.open_connection(sock=sock))
        self.clients.append(client)
        if logon:
            await client.logon(integer_1)
        return client


class Caller:
    """A link that runs, and what it reported."""

    def __init__(self, port: int, settings: dict[str, Any]) -> None:
        values = {"reconnect_first_delay_s": 0.01, "reconnect_max_delay_s": 0.05, "connect_timeout_s": 5.0, **settings}
        unchecked = {"heartbeat_interval_s": values.pop("heartbeat_interval_s", 10)}  # may be shorter than is allowed
        self.received: list[Any] = []
        self.states: list[tuple[bool, str]] = []
        self.link = DtcClient(
            config.DtcSettings(port=port, **values).model_copy(update=unchecked),
            WallClock(),
            random.Random(1),
            name="test",
            on_messages=lambda segments, _: self.received.extend(segments),
            on_state=lambda up, text: self.states.append((up, text)),
            symbols={1: 0},
        )

    async def fails(self) -> str:
        """What is said of the first connection that failed or was lost."""
        await eventually(lambda: any(not up for up, _ in self.states))
        return next(text for up, text in self.states if not up)


@pytest.fixture
def calling():
    """`async with calling(port, tls="pinned", …) as caller:` a link to that port."""

    @asynccontextmanager
    async def call(port: int, **settings: Any) -> AsyncIterator[Caller]:
        caller = Caller(port, settings)
        task = asyncio.create_task(caller.link.run())
        try:
            yield caller
        finally:
            caller.link.close()
            await asyncio.wait({task})
            if not isinstance(task.exception(), LogonRefused | None):
                task.result()

    return call


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually


@pytest.fixture
def serving(tmp_path: Path, calendar: TradingCalendar, make_settings: Callable[..., config.Settings]):
    """`async with serving(speed=…, manners=…) as running:` a server with its state in `tmp_path`."""

    @asynccontextmanager
    async def serve(
        manners: Manners | None = None, state: Path = tmp_path, port: int = 0, tls: Any = None, **simulator: Any
    ) -> AsyncIterator[Running]:
        settings = make_settings(**{"speed": 1.0, **simulator})
        server = open_server(settings, state, WallClock(), calendar, manners)
        listening = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(server.run("127.0.0.1", port, listening.set_result, tls))
        done, _ = await asyncio.wait({listening, task}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        running = Running(server, listening.result())
        try:
            yield running
        finally:
            server.stop()
            await asyncio.wait({task})
            for client in running.clients:
                await client.close()
            task.result()

    serve.client_class = Client
    return serve
