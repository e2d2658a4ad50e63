"""One TCP connection to a DTC server, TLS or not: how it is made, and what passes between socket and session."""

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from mia_daemon.clock import Clock
from mia_daemon.dtc.encodings import Codec
from mia_daemon.dtc.market_data import Segment
from mia_daemon.dtc.messages import LogonResponse
from mia_daemon.dtc.session import DtcSession, Ended, LoggedOn, SessionEvent
from mia_daemon.errors import ConnectionLost, PeerError, SentElsewhere
from mia_daemon.link.tls import handshake_failure

_Connected = TypeVar("_Connected", bound=asyncio.BaseProtocol)

PORT_IS = "dtc.port is its Listening Port"
"""The setting that corresponds to the port of a DTC server, for error texts."""

_SHUTDOWN_S = 1.0
"""Seconds for the TLS shutdown; then the connection is aborted."""


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, address: str) -> "Endpoint":
        """The endpoint of a ReconnectAddress: `host:port`, or `host` with the port of this one. Raises ValueError."""
        text = address.strip()
        parts = urlsplit(f"//{text}")
        if not parts.hostname or parts.netloc != text or "@" in text or len(text.split()) != 1:
            raise ValueError(f"{address!r} is no address")
        return Endpoint(parts.hostname, parts.port or self.port)


class ConnectionOwner(Protocol):
    """The owner of a connection, notified of its events.

    Attributes:
        arrived_ns: monotonic clock when the newest bytes arrived; set by the connection.
    """

    arrived_ns: int

    def check_peer(self, transport: asyncio.Transport) -> None:
        """Check the server's certificate before anything is sent. Raises CertificateRefused."""

    def came_up(self, transport: asyncio.Transport, response: LogonResponse, codec: Codec) -> None:
        """The logon was accepted."""

    def arrived(self, segments: list[Segment], received_ns: int) -> None:
        """The messages of one read, in order, and the wall-clock time of arrival, ns."""

    def went_down(self, error: PeerError) -> None:
        """Nothing can be sent from now on."""


class DtcConnection(asyncio.Protocol):
    """One TCP connection: passes bytes to the session, sends what it returns, and passes on its messages.

    `over` completes with the PeerError that ended the connection, with None when we closed it, or with the exception of
    a handler.
    """

    def __init__(self, owner: ConnectionOwner, session: DtcSession, clock: Clock, tick_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = loop.create_future()
        self._owner = owner
        self._session = session
        self._clock = clock
        self._tick_s = tick_s
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._owner.check_peer(self._transport)
        except PeerError as refused:
            self._fail(refused)
            return
        self._session.start(self._clock.monotonic_ns())
        self._flush()
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def data_received(self, data: bytes) -> None:
        now_ns, received_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        self._owner.arrived_ns = now_ns
        self._handle(self._session.receive(data, now_ns, received_ns), received_ns)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the session has the better reason
        self._handle(self._session.ended(), self._clock.now_ns())
        self.close()

    def close(self) -> None:
        """Log off if possible, and close."""
        if self._timer is not None:
            self._timer.cancel()
        self._session.stop()
        self._flush()
        if self._transport is not None:
            self._transport.close()
        if not self.over.done():
            self.over.set_result(None)
        elif not self.over.cancelled():
            self.over.exception()  # mark it as retrieved: perhaps nobody awaits `over`

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._handle(self._session.tick(self._clock.monotonic_ns(), self._unacknowledged()), self._clock.now_ns())

    def _unacknowledged(self) -> int:
        """Bytes written that the peer has not acknowledged yet; 0 where that is not known."""
        try:
            assert self._transport is not None
            waiting = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        (count,) = struct.unpack("i", waiting)
        return int(count)

    def _handle(self, events: list[SessionEvent], received_ns: int) -> None:
        self._flush()
        try:
            self._dispatch(events, received_ns)
        except Exception as bug:  # noqa: BLE001  # raised to the owner through `over`
            self._fail(bug)

    def _dispatch(self, events: list[SessionEvent], received_ns: int) -> None:
        segments: list[Segment] = []
        for event in events:
            if isinstance(event, LoggedOn | Ended) and segments:
                self._owner.arrived(segments, received_ns)
                segments = []
            if isinstance(event, LoggedOn):
                assert self._transport is not None
                self._owner.came_up(self._transport, event.response, self._session.codec)
            elif isinstance(event, Ended):
                self._fail(event.error)
            else:
                segments.append(event)
        if segments:
            self._owner.arrived(segments, received_ns)

    def _fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        if isinstance(error, PeerError) and not isinstance(error, SentElsewhere):
            self._owner.went_down(error)

    def _flush(self) -> None:
        out = self._session.outgoing()
        if out and self._transport is not None:
            self._transport.write(out)


async def connect(
    endpoint: Endpoint,
    factory: Callable[[], _Connected],
    *,
    tls: ssl.SSLContext | None,
    server_name: str,
    timeout_s: float,
    port_is: str = PORT_IS,
) -> tuple[asyncio.Transport, _Connected]:
    """Connect, with the TLS handshake where encrypted.

    Args:
        endpoint: address of the server.
        factory: makes the protocol of the connection.
        tls: the TLS settings; None for a plain connection.
        server_name: expected in the server's certificate; empty: the host.
        timeout_s: time limit for all of it, seconds.
        port_is: the setting to name in the error when nothing listens there.

    Raises:
        ConnectionLost: no answer, or not of the expected protocol; the text says which and what to do.
        CertificateRefused: the server's certificate was not accepted.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.get_running_loop().create_connection(
                factory,
                endpoint.host,
                endpoint.port,
                ssl=tls,
                server_hostname=server_name or None,
                # Ends before the time limit of the whole, with a text of its own.
                ssl_handshake_timeout=0.9 * timeout_s if tls is not None else None,
                ssl_shutdown_timeout=_SHUTDOWN_S if tls is not None else None,
            )
    except OSError as error:
        raise not_connected(error, endpoint, port_is) from None


def not_connected(error: OSError, endpoint: Endpoint, port_is: str = PORT_IS) -> PeerError:
    """The error for a failed connect, with what to do; `port_is` names the setting where nothing listens."""
    match error:
        case ConnectionRefusedError():
            return ConnectionLost(
                f"nothing listens at {endpoint}: start Sierra Chart, and switch on Global Settings >> Sierra Chart "
                f"Server Settings >> Enable DTC Protocol Server; {port_is}"
            )
        case ssl.SSLError() | ConnectionError():
            return handshake_failure(error, str(endpoint))
        case TimeoutError():
            return ConnectionLost(f"{endpoint} does not answer: is the host right and reachable?")
        case socket.gaierror():
            return ConnectionLost(f"the host {endpoint.host} is not known ({error.strerror}): check dtc.host")
    return ConnectionLost(f"no connection to {endpoint}: {error.strerror or error}")
