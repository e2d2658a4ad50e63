"""A DTC connection that keeps itself alive: connect, log on, heartbeats, and connect again.

One class serves prices and orders. It uses callbacks and plain calls on the event loop: `send` writes immediately,
and messages are passed on as they arrive. Only queries, which are answered in batches, are awaited.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential

from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import DtcSettings, is_loopback
from mia_daemon.dtc.batch import QUERIES, MessageBatch, is_news, may_answer
from mia_daemon.dtc.encodings import BINARY, BY_NAME, Codec
from mia_daemon.dtc.enums import LogonFlag
from mia_daemon.dtc.market_data import Arrival, MarketDataDecoder, Segment, Skipped
from mia_daemon.dtc.messages import (
    LogonRequest,
    LogonResponse,
    MarketDataReject,
    MarketDepthReject,
    Message,
    SubmitFlattenPositionOrder,
    SubmitNewOCOOrder,
    SubmitNewSingleOrder,
)
from mia_daemon.dtc.session import DtcSession, Notice, notice_text
from mia_daemon.errors import (
    ConnectionLost,
    LogonRefused,
    MarketDataRefused,
    PeerError,
    RequestRefused,
    RequestTimeout,
    SentElsewhere,
    UsageError,
)
from mia_daemon.link.connection import DtcConnection, Endpoint, connect
from mia_daemon.link.tls import check_pin, client_context

MessagesHandler = Callable[[list[Segment], int], None]
"""Called with the messages of one read, in order, and the wall-clock time of arrival (ns)."""

StateHandler = Callable[[bool, str], None]
"""Called when the link goes up or down, with one sentence on the reason."""

NoticeHandler = Callable[[str, str], None]
"""Called with a text message of the server for people, and its message type."""

SkippedHandler = Callable[[str], None]
"""Called with one sentence for each frame that could not be read, and that may have been about an order or position."""

MAX_UNSENT_BYTES = 1 << 20
"""Unsent bytes from which on the server counts as not reading."""

MAX_HOPS = 4
"""Redirections to another address to follow in a row."""

_ORDERS_IN = {SubmitNewSingleOrder: 1, SubmitNewOCOOrder: 2, SubmitFlattenPositionOrder: 1}
"""Number of orders that a message creates."""

_log = logging.getLogger(__name__)

_NO_REQUEST_ID = 1 << 20
"""RequestIDs of `request` are above this; callers that `send` requests may use smaller ones."""

_LOGON_FLAGS = (
    LogonFlag.UNBUNDLED_TRADES
    | LogonFlag.DEPTH_WITH_MILLISECONDS
    | LogonFlag.DEPTH_SNAPSHOT_FLOAT
    | LogonFlag.UNBUNDLED_INDICATOR_2
    | LogonFlag.BID_ASK_WITH_MICROSECONDS
)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request under way."""

    name: str
    batch: MessageBatch
    done: "asyncio.Future[list[Message]]"

    def take(self, message: Message) -> bool:
        """Add one message of the answer. False when it is not part of it."""
        taken = self.batch.take(message)
        if self.batch.complete and not self.done.done():
            if self.batch.refusal:
                self.fail(RequestRefused(f"the server refused {self.name}: {self.batch.refusal}"))
            else:
                self.done.set_result(self.batch.messages)
        return taken

    def fail(self, error: PeerError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class DtcClient:
    """One connection to a DTC server, renewed whenever it is lost.

    Run it as a task: `run` returns after `close`, and raises LogonRefused when the server asks not to reconnect. An
    exception of a handler drops the connection and makes another, as HandlerFailed.

    A frame that can't be read is skipped: `on_notice` is called once per connection and kind, as "Skipped".

    Args:
        name: of the link in texts: "prices", "orders".
        rng: for the jitter of reconnection.
        on_skipped: what a skipped frame said is not known: compare orders and position with the server's.
        symbols: SymbolIDs this client subscribes with, and the `symbol` column each stands for.

    Raises:
        UsageError: the credentials or the TLS settings can't be used.

    Attributes:
        up: logged on.
        generation: number of the connection, from 1; data of an older one is invalid.
        server: the server's answer to the logon.
        failure: what ended the newest connection, or prevented it; None while it is up, and before the first.
        arrived_ns: monotonic clock when the newest bytes arrived.
        orders_sent: orders written to the socket, by any caller.
    """

    def __init__(
        self,
        settings: DtcSettings,
        clock: Clock,
        rng: random.Random,
        *,
        name: str,
        on_messages: MessagesHandler,
        on_state: StateHandler,
        on_notice: NoticeHandler = lambda _text, _kind: None,
        on_skipped: SkippedHandler = lambda _text: None,
        symbols: Mapping[int, int] | None = None,
    ) -> None:
        self.name = name
        self.up = False
        self.generation = 0
        self.server: LogonResponse | None = None
        self.failure: PeerError | None = None
        self.decoder = MarketDataDecoder({})
        self.arrived_ns = 0
        self.orders_sent = 0
        self._settings = settings
        self._endpoint = Endpoint(settings.host, settings.port)
        self._tls = client_context(settings)
        self._clock = clock
        self._rng = rng
        self._symbols = dict(symbols or {})
        self._on_messages = on_messages
        self._on_state = on_state
        self._on_notice = on_notice
        self._on_skipped = on_skipped
        self._noticed_kinds: set[str] = set()  # of skipped frames, of this connection
        self._echoed: set[type[Message]] = set()  # answers that this connection's server marked with their RequestID
        self._transport: asyncio.Transport | None = None
        self._codec = BINARY
        self._pending: dict[int, _Pending] = {}
        self._last_request_id = _NO_REQUEST_ID
        self._up_since_ns = 0
        self._reported_generation = 0
        self._reported = ""
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()
        BY_NAME[settings.encoding].encode(self._logon())  # raises here when a field does not fit

    def __repr__(self) -> str:
        state = "up" if self.up else "down"
        return f"<DtcClient {self.name} to {self.address}, {state}, generation {self.generation}>"

    @property
    def address(self) -> str:
        """Address of the server, or of the one it redirected to."""
        return str(self._endpoint)

    async def run(self) -> None:
        """Keep the connection up until `close`.

        Raises:
            LogonRefused: the server asked not to reconnect.
        """
        settings = self._settings
        grows = wait_exponential(settings.reconnect_first_delay_s, settings.reconnect_max_delay_s)

        def delay(state: RetryCallState) -> float:
            lived_s = (self._clock.monotonic_ns() - self._up_since_ns) / NS_PER_S if self._up_since_ns else 0.0
            if lived_s > settings.reconnect_max_delay_s:
                state.attempt_number = 1  # it was up for long: start with the shortest delay again
            return grows(state) * self._rng.uniform(0.5, 1.0)

        retrying = AsyncRetrying(
            wait=delay, retry=retry_if_exception(self._worth_another_try), sleep=self._pause, reraise=True
        )
        await retrying(self._connect_and_serve)

    async def ready(self, timeout_s: float | None = None) -> None:
        """Wait until the link is up.

        Raises:
            ConnectionLost: the link was not up in time; the text is that of the last failure.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            said = self._reported or f"no connection to {self.address} within {timeout_s:g} s"
            raise ConnectionLost(said) from None

    def close(self) -> None:
        """Log off and let `run` return: await its task to know that it is done."""
        self._closing.set()

    def send(self, *messages: Message) -> None:
        """Write the messages to the socket now, in one piece.

        Raises:
            ConnectionLost: the link is down, or the server has stopped reading; nothing was sent.
            UsageError: a message can't be encoded; nothing was sent.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionLost(f"the {self.name} link to {self.address} is down{self._because()}")
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            transport.abort()
            stuck = ConnectionLost(f"the server at {self.address} has stopped reading: the connection is given up")
            self.went_down(stuck)
            raise stuck
        transport.write(b"".join(map(self._codec.encode, messages)))
        for message in messages:
            self.orders_sent += _ORDERS_IN.get(type(message), 0)

    async def request(self, message: Message, timeout_s: float | None = None) -> list[Message]:
        """Send a query and wait for its whole answer; an empty answer is an empty list.

        The RequestID is set here, so several queries may be under way. An answer without one, as older servers send it,
        is taken where a single query of its kind is under way. Messages that are not part of the answer go to
        `on_messages` as always: all that arrived before the end of the answer, and perhaps some that arrived after it,
        before this returns.

        Raises:
            ConnectionLost: the link is down, or went down before the answer was complete.
            RequestRefused: the server rejected the query.
            RequestTimeout: the answer was not complete in time, or perhaps part of it could not be read.
        """
        query = QUERIES.get(type(message))
        if query is None:
            raise UsageError(f"{type(message).__name__} is no query")
        limit_s = self._settings.request_timeout_s if timeout_s is None else timeout_s
        request_id = self._last_request_id = self._last_request_id + 1
        pending = _Pending(type(message).__name__, MessageBatch(query), asyncio.get_running_loop().create_future())
        self.send(replace(message, RequestID=request_id))  # type: ignore[type-var]
        self._pending[request_id] = pending
        try:
            async with asyncio.timeout(limit_s):
                return await pending.done
        except TimeoutError:
            raise RequestTimeout(
                f"the server at {self.address} has not answered {pending.name} within {limit_s:g} s "
                f"({len(pending.batch.messages)} messages of the answer came)"
            ) from None
        finally:
            self._pending.pop(request_id, None)

    def pause_reading(self) -> None:
        """Stop reading from the socket: the consumer of the messages can't keep up."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def _because(self) -> str:
        return f": {self._reported}" if self._reported else ""

    @staticmethod
    def _worth_another_try(error: BaseException) -> bool:
        if isinstance(error, LogonRefused):
            return error.reconnect_allowed
        return isinstance(error, PeerError)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _connect_and_serve(self) -> None:
        """One connection from start to end. Returns when closed by us, raises PeerError when lost."""
        reason: PeerError = ConnectionLost(f"the {self.name} link was closed")
        self._up_since_ns = 0
        self._endpoint = Endpoint(self._settings.host, self._settings.port)
        try:
            if not self._closing.is_set():
                await self._serve_where_sent()
        except PeerError as error:
            reason = error
            if not self._closing.is_set():
                raise
        finally:
            self.went_down(reason)

    async def _serve_where_sent(self) -> None:
        """Follow redirections on logon, at most `MAX_HOPS` in a row."""
        for _ in range(MAX_HOPS + 1):
            try:
                await self._serve(await self._connect())
            except SentElsewhere as hop:
                self._endpoint = self._next_endpoint(hop)
            else:
                return
        raise LogonRefused(
            f"the server at {self._settings.host}:{self._settings.port} sent us on {MAX_HOPS + 1} times, "
            f"at last to {self.address}, and none took the logon",
            reconnect_allowed=True,
        )

    def _next_endpoint(self, hop: SentElsewhere) -> Endpoint:
        """The endpoint of a redirection. Credentials are sent unencrypted only to the host in the configuration."""
        settings = self._settings
        try:
            there = self._endpoint.at(hop.address)
        except ValueError as error:
            raise LogonRefused(f"{hop}, but {error}: set dtc.host and dtc.port", reconnect_allowed=False) from None
        trusted = settings.encrypted or there.host == settings.host.lower() or is_loopback(there.host)
        if settings.has_credentials and not trusted:
            raise LogonRefused(
                f"{hop}, and the password does not go there unencrypted: "
                "set dtc.tls, or dtc.host and dtc.port to that address",
                reconnect_allowed=False,
            )
        return there

    async def _connect(self) -> DtcConnection:
        settings = self._settings
        self.generation += 1
        self.decoder = MarketDataDecoder(self._symbols)
        self._noticed_kinds.clear()
        self._echoed.clear()
        session = DtcSession(
            self._logon(),
            self.decoder,
            round(settings.connect_timeout_s * NS_PER_S),
            codec=BY_NAME[settings.encoding],
            preset=settings.encoding_is_preset,
        )
        _, connection = await connect(
            self._endpoint,
            lambda: DtcConnection(self, session, self._clock, settings.heartbeat_interval_s / 10),
            tls=self._tls,
            server_name=settings.tls_server_name,
            timeout_s=settings.connect_timeout_s,
        )
        return connection

    def _logon(self) -> LogonRequest:
        settings = self._settings
        return LogonRequest(
            Username=settings.username.get_secret_value(),
            Password=settings.password.get_secret_value(),
            HeartbeatIntervalInSeconds=settings.heartbeat_interval_s,
            ClientName=f"{settings.client_name} {self.name}",  # a server may drop one of two clients with the same name
            Integer_1=_LOGON_FLAGS,
        )

    async def _serve(self, connection: DtcConnection) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((closing, connection.over), return_when=asyncio.FIRST_COMPLETED)
            if connection.over.done():
                connection.over.result()
        finally:
            closing.cancel()
            connection.close()

    # Called by the connection.

    def check_peer(self, transport: asyncio.Transport) -> None:
        """Check the server's certificate before anything is sent. Raises CertificateRefused."""
        if self._tls is not None:
            check_pin(self._settings, transport.get_extra_info("ssl_object"), self.address)

    def came_up(self, transport: asyncio.Transport, response: LogonResponse, codec: Codec) -> None:
        self.up = True
        self.failure = None
        self.server = response
        self._transport = transport
        self._codec = codec
        self._up_since_ns = self._clock.monotonic_ns()
        self._ready.set()
        server = response.ServerName or "the server"
        self._reported = f"logged on to {server} at {self.address}"
        self._on_state(True, self._reported)

    def arrived(self, arrivals: list[Arrival], received_ns: int) -> None:
        segments: list[Segment] = []
        for arrival in arrivals:
            if isinstance(arrival, Skipped):
                self._skip(arrival)
            elif not (self._noticed(arrival) or self._claimed(arrival)):
                segments.append(arrival)
        if segments:
            self._on_messages(segments, received_ns)

    def _skip(self, skipped: Skipped) -> None:
        """Report a frame that could not be read; a query that it may have answered has no complete answer."""
        text = f"a frame from the server can't be read and is skipped: {skipped.text}"
        if skipped.kind not in self._noticed_kinds:
            self._noticed_kinds.add(skipped.kind)
            self._on_notice(text, "Skipped")
        if skipped.is_market_data:
            return
        for pending in self._pending.values():
            if skipped.type is None or skipped.type in pending.batch.query.types:
                pending.fail(RequestTimeout(f"the answer to {pending.name} is not complete: {text}"))
        self._on_skipped(text)

    def _noticed(self, segment: Segment) -> bool:
        """Pass on a text message for people; False when it is another message."""
        if not isinstance(segment, Notice):
            return False
        if text := notice_text(segment).strip():
            self._on_notice(text, type(segment).__name__)
        return True

    def _claimed(self, segment: Segment) -> bool:
        """Whether the message is part of the answer to a request, including one that is no longer awaited."""
        if not isinstance(segment, Message):
            return False
        request_id = getattr(segment, "RequestID", 0)
        if _NO_REQUEST_ID < request_id <= self._last_request_id:
            self._echoed.add(type(segment))
            pending = self._pending.get(request_id)
            return not is_news(segment) if pending is None else pending.take(segment)
        if request_id or not self._pending or type(segment) in self._echoed or not may_answer(segment):
            return False
        waiting = [p for p in self._pending.values() if segment.TYPE in p.batch.query.types]
        return len(waiting) == 1 and waiting[0].take(segment)

    def went_down(self, error: PeerError) -> None:
        """Nothing can be sent from now on. Calls `on_state` once per connection, and only with a new reason."""
        self._transport = None
        self.failure = error
        self._ready.clear()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            request.fail(ConnectionLost(f"{request.name} has no answer: {error}"))
        changed = self.up or (self._reported_generation != self.generation and str(error) != self._reported)
        self._reported_generation = self.generation
        if changed:
            self.up, self._reported = False, str(error)
            if not self._closing.is_set():  # not reported for a close of our own
                self._report_down()

    def _report_down(self) -> None:
        try:
            self._on_state(False, self._reported)
        except Exception:  # noqa: BLE001  # the connection is over already, and the next one must come all the same
            _log.exception("the %s link went down, and the handler of that failed", self.name)


def market_data_refused(reject: MarketDataReject | MarketDepthReject, symbol: str) -> MarketDataRefused:
    """The error for a refused subscription, with what it means and what to do."""
    what = "the depth of " if isinstance(reject, MarketDepthReject) else ""
    said = f" ({reject.RejectText})" if reject.RejectText else ""
    return MarketDataRefused(
        f'this Sierra Chart will not serve {what}{symbol} over DTC{said}; set feed.source = "scid" '
        "and read the files it writes"
    )
