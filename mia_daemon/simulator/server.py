"""The DTC server: connections around the exchange, and the pace of exchange time.

Exchange time runs `speed` times as fast as the wall clock. It moves in small steps, and right before each client
message, so an order meets the market of its own moment. When the machine can't keep up, exchange time falls behind the
wall clock; no event is ever skipped.
"""

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Mapping
from typing import cast

from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import FaultSettings
from mia_daemon.dtc.encodings import Codec
from mia_daemon.errors import MiaError, StartError
from mia_daemon.simulator.client_session import Manners, SimulatorSession
from mia_daemon.simulator.exchange import Exchange, Output
from mia_daemon.simulator.faulty_line import FaultyLine
from mia_daemon.simulator.market_recorder import MarketFiles, MarketRecorder
from mia_daemon.simulator.market_streams import MarketStreams

MAX_BUFFER = 8 << 20
"""Bytes that may wait for a client that does not read; then it is cut off."""

MAX_CLIENTS = 64

_STEP_S = (0.002, 0.020)  # shortest and longest pause between two steps
_STEP_EVENTS = 2_000  # events per step at most, so that clients are heard in between
_MAX_BACKLOG_S = 0.5  # wall time that may be caught up on; what is beyond it is lost to the wall clock
_MAX_STEP_NS = 600 * NS_PER_S  # exchange time per step at most
_LEASE_S = 2.0  # wall time by which the saved exchange time runs ahead …
_MAX_LEASE_NS = 1_800 * NS_PER_S  # … and exchange time at most

log = logging.getLogger(__name__)


class SimulatorServer:
    """Serves an exchange to any number of clients.

    Args:
        speed: exchange seconds per wall second.
        manners: how it behaves towards clients.
        faults: what goes wrong with their connections on purpose.
        files: take what each market does, as Sierra Chart's files do; by symbol.

    Attributes:
        dropped: reasons why clients were disconnected, newest last.
    """

    def __init__(
        self,
        exchange: Exchange,
        clock: Clock,
        speed: float,
        manners: Manners | None = None,
        faults: FaultSettings | None = None,
        files: Mapping[str, MarketFiles] | None = None,
    ) -> None:
        self.exchange = exchange
        self._recorders: dict[str, MarketRecorder] = {}
        if files is not None:
            for symbol, market in exchange.markets.items():
                self._recorders[symbol] = MarketRecorder(market, market.instrument.tick_size, files[symbol])
        self._faults = faults or FaultSettings()
        self._streams = MarketStreams(exchange)
        self._admitted = 0
        self.dropped: list[str] = []
        self._manners = manners or Manners()
        self._clock = clock
        self._speed = speed
        self._connections: dict[_Connection, None] = {}  # in the order in which they came
        self._paced_ns = clock.monotonic_ns()
        self._backlog_ns = 0  # exchange time still to be made up for
        self._slipped = False
        self._failure: MiaError | None = None
        self._stopped = asyncio.Event()

    async def run(
        self, host: str, port: int, on_listening: Callable[[int], None], tls: ssl.SSLContext | None = None
    ) -> None:
        """Serve until `stop` is called; the state is saved and clients are sent a LOGOFF.

        Args:
            host: address to listen on.
            port: 0 for any free one.
            on_listening: told the port once connections are accepted.
            tls: of encrypted connections; None for plain ones.

        Raises:
            StartError: the address can't be listened on.
            JournalError: the state can't be saved any more.
        """
        try:
            listener = await self._listen(host, port, tls)
            try:
                on_listening(listener.sockets[0].getsockname()[1])
                self._paced_ns = self._clock.monotonic_ns()
                while not self._stopped.is_set():
                    self.step()
                    await self._pause()
            finally:
                self._stopped.set()
                listener.close()
                self._part("the recording has ended" if self.exchange.ended else "the simulator is shutting down")
        finally:
            self.exchange.close()
            for recorder in self._recorders.values():
                recorder.close()
        if self._failure is not None:
            raise self._failure

    async def _listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(lambda: _Connection(self), host, port, ssl=tls)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartError(
                f"the simulator can't listen on {host}:{port}: {reason}; choose another port with --port"
            ) from error

    def stop(self) -> None:
        """End `run` after its current step."""
        self._stopped.set()

    async def _pause(self) -> None:
        """Until the market moves again, within limits; no rest while there is a backlog."""
        shortest, longest = _STEP_S
        due_s = (self.exchange.next_ns - self.exchange.now_ns) / NS_PER_S / self._speed
        pause = 0.0 if self._backlog_ns else min(max(due_s, shortest), longest)
        if pause <= 0.0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(pause):
                await self._stopped.wait()
        except TimeoutError:
            return

    # ------------------------------------------------------------------------------------------------------------ steps

    def step(self) -> None:
        """Let exchange time catch up with the wall clock, and send what came of it."""
        try:
            self._catch_up()
            self.exchange.commit()
            for recorder in self._recorders.values():
                recorder.flush(self._clock.monotonic_ns())
        except MiaError as failure:
            self._fail(failure)
        if self.exchange.ended and not self._stopped.is_set():
            log.info("the recording has ended")
            self._stopped.set()
        now_ns, wall_s = self._clock.monotonic_ns(), self._clock.now_ns() // NS_PER_S
        for connection in list(self._connections):
            connection.session.keep_alive(now_ns, wall_s)
            connection.flush()

    def received(self, connection: "_Connection", data: bytes) -> None:
        """Act on a client's bytes at this very moment of exchange time."""
        if self._stopped.is_set():
            return
        try:
            self._catch_up()
            for message in connection.session.read(data, self._clock.monotonic_ns()):
                output = connection.session.answer(message)
                if output is not None:
                    self._tell(output)
            self.exchange.commit()
        except MiaError as failure:
            self._fail(failure)
        for each in list(self._connections):
            each.flush()

    def _catch_up(self) -> None:
        now_ns = self._clock.monotonic_ns()
        self._backlog_ns += int((now_ns - self._paced_ns) * self._speed)
        self._paced_ns = now_ns
        most = int(_MAX_BACKLOG_S * NS_PER_S * self._speed)
        if self._backlog_ns > most:
            self._say_slipped()
            self._backlog_ns = most
        exchange = self.exchange
        before = exchange.now_ns
        ahead_ns = min(self._backlog_ns, _MAX_STEP_NS)
        until = exchange.add_time(before, ahead_ns)
        if until > exchange.lease_ns:
            lease_ns = min(int(_LEASE_S * NS_PER_S * self._speed), _MAX_LEASE_NS)
            exchange.renew_lease(exchange.add_time(until, lease_ns))
        self._tell(exchange.advance(until, _STEP_EVENTS))
        if exchange.now_ns >= until:
            self._backlog_ns -= ahead_ns
        else:  # across a halt the difference is more than trading time: then the backlog is taken as made up
            self._backlog_ns = max(self._backlog_ns - (exchange.now_ns - before), 0)

    def _say_slipped(self) -> None:
        if not self._slipped:
            self._slipped = True
            log.warning(
                "exchange time falls behind %g times the wall clock: this machine or its clients are not that fast",
                self._speed,
            )

    def _tell(self, output: Output) -> None:
        """Queue what happened for every client; equal streams are encoded once."""
        for symbol, recorder in self._recorders.items():
            recorder.take([event for run in output.market if run.symbol == symbol for event in run.events])
        self._streams.follow(output.market, (connection.session.market for connection in self._connections))
        news: dict[Codec, bytes] = {}
        for connection in self._connections:
            session = connection.session
            if not session.logged_on or session.closing:
                continue
            codec = session.codec
            if output.news:
                if codec not in news:
                    news[codec] = b"".join(map(codec.encode, output.news))
                session.out.append(news[codec])
            if output.market and session.market.ids:
                session.out.append(self._streams.stream(session.market, codec))

    # ------------------------------------------------------------------------------------------------------ connections

    def admit(self, connection: "_Connection") -> SimulatorSession:
        """A new connection; one too many is told so."""
        session = SimulatorSession(self.exchange, self._streams.views, self._manners, self._clock.monotonic_ns())
        self._connections[connection] = None
        if len(self._connections) > MAX_CLIENTS:
            session.close(f"no more than {MAX_CLIENTS} clients are served")
        return session

    def line(self, transport: asyncio.Transport) -> "asyncio.Transport | FaultyLine":
        """What a new connection writes to."""
        self._admitted += 1
        faults = self._faults
        if not faults.of_the_line or 0 < faults.connections < self._admitted:
            return transport
        return FaultyLine(transport, faults, random.Random(f"{faults.seed}/{self._admitted}"))  # noqa: S311  # as seeded

    def forget(self, connection: "_Connection", reason: str) -> None:
        """A connection is gone."""
        if connection in self._connections:
            del self._connections[connection]
            self.dropped = [*self.dropped[-99:], reason]
            log.info("client gone: %s", reason)

    def _fail(self, failure: MiaError) -> None:
        """The exchange can't go on: nothing unsaved is told, and everyone is sent away."""
        self._failure = failure
        self._stopped.set()
        for connection in self._connections:
            connection.session.out.clear()

    def _part(self, reason: str) -> None:
        for connection in list(self._connections):
            if not connection.session.closing:
                connection.session.close(reason)
            connection.flush()


class _Connection(asyncio.Protocol):
    """The thin shell: bytes between a socket and its session, one write per step."""

    transport: asyncio.Transport | FaultyLine
    session: SimulatorSession

    def __init__(self, server: SimulatorServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._server.line(cast("asyncio.Transport", transport))  # uvloop's is one in all but its base
        self.session = self._server.admit(self)
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._server.received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self.session.closing or (f"connection lost: {exc}" if exc else "the client closed the connection")
        self._server.forget(self, reason)

    def flush(self) -> None:
        """Send what the session has to say in one write; see to slow clients and to goodbyes."""
        session, transport = self.session, self.transport
        if transport.is_closing():
            return
        if data := session.outgoing():
            transport.write(data)
        if session.logged_on and isinstance(transport, FaultyLine):
            transport.logged_on()
        waiting = transport.get_write_buffer_size()
        if waiting > MAX_BUFFER:
            session.closing = f"the client does not read: {waiting} bytes were waiting"
            transport.abort()
        elif session.closing:
            transport.close()
