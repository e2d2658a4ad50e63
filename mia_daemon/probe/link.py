"""The connection of a probe: everything is kept and written to the transcript, and a lost connection is not renewed."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from mia_daemon.clock import NS_PER_MS, NS_PER_S, Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import BY_NAME, Codec
from mia_daemon.dtc.layout import Message
from mia_daemon.dtc.market_data import Arrival, MarketDataDecoder, Skipped
from mia_daemon.dtc.session import DtcSession
from mia_daemon.errors import ConnectionLost, PeerError
from mia_daemon.link.connection import DtcConnection, Endpoint, connect
from mia_daemon.link.tls import check_pin, client_context
from mia_daemon.probe.transcript import TranscriptFile

SETTLE_S: Final = 0.25
"""How long to go on listening once an answer is complete: servers repeat themselves, and report in several steps."""


_NAME_CHARACTERS: Final = 18
"""Of dtc.client_name: with what is appended it fits the 31 bytes of ClientName."""


class Received(NamedTuple):
    """A message of the server."""

    at_ns: int  # wall clock
    message: Any


class ProbeLink:
    """One connection to a DTC server for orders.

    Args:
        settings: where the server is, and how it is spoken to.
        transcript: every message is written there; what is sent, before it is sent. Where that fails the messages pass
            all the same, and `unwritten` says so.

    Attributes:
        server: its answer to the logon.
        received: all messages since the logon but heartbeats and prices, in order.
        unreadable: one sentence for each frame that could not be read.
        unwritten: why the transcript is not complete; "" while it is.
    """

    def __init__(self, settings: DtcSettings, clock: Clock, transcript: TranscriptFile) -> None:
        self.server = dtc.LogonResponse()
        self.received: list[Received] = []
        self.unreadable: list[str] = []
        self.unwritten = ""
        self.arrived_ns = 0
        self._settings = settings
        self._clock = clock
        self._transcript = transcript
        self._codec: Codec = BY_NAME[settings.encoding]
        self._began_ns = clock.monotonic_ns()
        self._transport: asyncio.Transport | None = None
        self._connection: DtcConnection | None = None
        self._news = asyncio.Event()
        self._lost: PeerError | None = None

    async def open(self) -> None:
        """Connect and log on. Raises PeerError."""
        settings = self._settings
        logon = dtc.LogonRequest(
            Username=settings.username.get_secret_value(),
            Password=settings.password.get_secret_value(),
            HeartbeatIntervalInSeconds=settings.heartbeat_interval_s,
            # Not the daemon's: a server may drop one of two clients of the same name.
            ClientName=f"{settings.client_name[:_NAME_CHARACTERS]} probe orders",
        )
        self._write("client", logon)
        answer_timeout_ns = round(settings.connect_timeout_s * NS_PER_S)
        session = DtcSession(
            logon,
            MarketDataDecoder({}),  # prices are not kept
            answer_timeout_ns,
            codec=self._codec,
            preset=settings.encoding_is_preset,
        )
        _, self._connection = await connect(
            Endpoint(settings.host, settings.port),
            lambda: DtcConnection(self, session, self._clock, settings.heartbeat_interval_s / 10),
            tls=client_context(settings),
            server_name=settings.tls_server_name,
            timeout_s=settings.connect_timeout_s,
        )
        self._connection.over.add_done_callback(self._over)
        while self._transport is None:
            await self._more()

    def close(self) -> None:
        """Log off."""
        if self._connection is not None:
            self._connection.close()

    def send(self, *messages: Message) -> int:
        """Write the messages in one piece; the number of messages received before: answers come after it.

        Raises:
            ConnectionLost: the connection has ended; nothing was sent.
        """
        if self._transport is None or self._lost is not None:
            raise ConnectionLost(f"the connection has ended: {self._lost}")
        for message in messages:
            self._write("client", message)
        self._transport.write(b"".join(map(self._codec.encode, messages)))
        return len(self.received)

    async def until(self, condition: Callable[[list[Received]], bool], mark: int, patience_s: float) -> list[Received]:
        """What was received after `mark`, up to `SETTLE_S` after `condition` held of it, or `patience_s` at most.

        Raises:
            PeerError: the connection ended.
        """
        try:
            async with asyncio.timeout(patience_s):
                while not condition(self.received[mark:]):
                    await self._more()
        except TimeoutError:
            return self.received[mark:]
        try:
            async with asyncio.timeout(SETTLE_S):
                while True:
                    await self._more()
        except TimeoutError:
            return self.received[mark:]

    async def _more(self) -> None:
        """Wait for news. Raises PeerError when the connection has ended."""
        if self._lost is not None:
            raise self._lost
        self._news.clear()
        await self._news.wait()
        if self._lost is not None:
            raise self._lost

    # Called by the connection.

    def check_peer(self, transport: asyncio.Transport) -> None:
        """Check the server's certificate before anything is sent. Raises CertificateRefused."""
        if self._settings.encrypted:
            check_pin(self._settings, transport.get_extra_info("ssl_object"), self._settings.host)

    def came_up(self, transport: asyncio.Transport, response: dtc.LogonResponse, codec: Codec) -> None:
        """The logon was accepted."""
        self._codec = codec
        self._write("server", response)
        self.server = response
        self._transport = transport
        self._news.set()

    def arrived(self, arrivals: list[Arrival], received_ns: int) -> None:
        """The messages of one read."""
        for arrival in arrivals:
            if isinstance(arrival, Skipped):
                self.unreadable.append(arrival.text)
            elif not isinstance(arrival, np.ndarray):
                self._write("server", arrival)
                self.received.append(Received(received_ns, arrival))
        self._news.set()

    def went_down(self, error: PeerError) -> None:
        """Nothing can be sent from now on."""
        self._lost = error
        self._news.set()

    def _over(self, over: "asyncio.Future[None]") -> None:
        """The connection is over; a server that names another address ends it without `went_down`."""
        if not over.cancelled() and isinstance(error := over.exception(), PeerError):
            self.went_down(error)

    def _write(self, sender: Any, message: Message) -> None:
        """A full disk must not keep a cancel from being sent, nor end the connection."""
        at_ms = (self._clock.monotonic_ns() - self._began_ns) // NS_PER_MS
        try:
            self._transcript.add(message, sender, at_ms, self._codec)
        except OSError as error:
            self.unwritten = self.unwritten or f"the transcript can't be written: {error.strerror}"
