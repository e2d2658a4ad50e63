"""One TCP connection to a DTC server, TLS or not: how it is made, and what passes between socket and session."""

import asyncio
import fcntl
import logging
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import numpy as np

from mia_daemon.clock import Clock
from mia_daemon.dtc.encodings import Codec
from mia_daemon.dtc.market_data import Arrival
from mia_daemon.dtc.messages import LogonResponse
from mia_daemon.dtc.session import DtcSession, Ended, LoggedOn, SessionEvent
from mia_daemon.errors import ConnectionLost, HandlerFailed, PeerError, SentElsewhere
from mia_daemon.link.tls import handshake_failure

_Connected = TypeVar("_Connected", bound=asyncio.BaseProtocol)

PORT_IS = "dtc.port is its Listening Port"
"""The setting that corresponds to the port of a DTC server, for error texts."""

_MOST_SHOWN = 200
"""Characters of an exception's text in that of a HandlerFailed; the log has it whole."""

_log = logging.getLogger(__name__)

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

    def arrived(self, arrivals: list[Arrival], received_ns: int) -> None:
        """The messages of one read, in order, and the wall-clock time of arrival, ns."""

    def went_down(self, error: PeerError) -> None:
        """Nothing can be sent from now on."""


class DtcConnection(asyncio.Protocol):
    """One TCP connection: passes bytes to the session, sends what it returns, and passes on its messages.

    `over` completes with the PeerError that ended the connection, or with None when we closed it. Any exception while
    bytes are handled, the owner's included, ends the connection with HandlerFailed and is logged.
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
        self._handled: list[Arrival] | LoggedOn | None = None  # what the owner is handling

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        try:
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._owner.check_peer(self._transport)
            self._session.start(self._clock.monotonic_ns())
            self._flush()
        except Exception as error:  # noqa: BLE001  # raised to the owner through `over`
            self._fail(error)
            return
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def data_received(self, data: bytes) -> None:
        now_ns, received_ns = self._clock.monotonic_ns(), self._clock.now_ns()
        self._owner.arrived_ns = now_ns
        self._handle(lambda: self._session.receive(data, now_ns, received_ns), received_ns)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the session has the better reason
        self._handle(self._session.ended, self._clock.now_ns())
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
        now_ns = self._clock.monotonic_ns()
        self._handle(lambda: self._session.tick(now_ns, self._unacknowledged()), self._clock.now_ns())

    def _unacknowledged(self) -> int:
        """Bytes written that the peer has not acknowledged yet; 0 where that is not known."""
        try:
            assert self._transport is not None
            waiting = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return 0
        (count,) = struct.unpack("i", waiting)
        return int(count)

    def _handle(self, read: Callable[[], list[SessionEvent]], received_ns: int) -> None:
        try:
            events = read()
            self._flush()
            self._dispatch(events, received_ns)
        except Exception as error:  # noqa: BLE001  # raised to the owner through `over`
            self._fail(error)

    def _dispatch(self, events: list[SessionEvent], received_ns: int) -> None:
        arrivals: list[Arrival] = []
        for event in events:
            if isinstance(event, LoggedOn | Ended):
                self._pass_on(arrivals, received_ns)
                arrivals = []
            if isinstance(event, LoggedOn):
                assert self._transport is not None
                self._handled = event
                self._owner.came_up(self._transport, event.response, self._session.codec)
            elif isinstance(event, Ended):
                self._fail(event.error)
            else:
                arrivals.append(event)
        self._pass_on(arrivals, received_ns)
        self._handled = None

    def _pass_on(self, arrivals: list[Arrival], received_ns: int) -> None:
        if arrivals:
            self._handled = arrivals
            self._owner.arrived(arrivals, received_ns)

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, PeerError):
            failed = _handler_failed(self._handled, error)
            failed.__cause__ = error
            _log.error("%s", failed, exc_info=error)
            error = failed
        if not self.over.done():
            self.over.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        if not isinstance(error, SentElsewhere):
            self._owner.went_down(error)

    def _flush(self) -> None:
        out = self._session.outgoing()
        if out and self._transport is not None:
            self._transport.write(out)


def _handler_failed(handled: list[Arrival] | LoggedOn | None, bug: Exception) -> HandlerFailed:
    """Names the message types of the read: which of its messages the owner was at is not known here."""
    if isinstance(handled, LoggedOn):
        types = [type(handled.response).__name__]
    else:
        types = list(dict.fromkeys("prices" if isinstance(a, np.ndarray) else type(a).__name__ for a in handled or ()))
    what = f"handling {' or '.join(types[:4])}" if types else "reading from the connection"
    said = " ".join(str(bug).split())[:_MOST_SHOWN]
    return HandlerFailed(
        f"{what} failed with {type(bug).__name__}{f': {said}' if said else ''}; "
        "the connection is dropped and made again, and the log has the traceback"
    )


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
    except UnicodeError:
        raise ConnectionLost(f"the host {endpoint.host!r} is no name of a host: check dtc.host") from None
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
