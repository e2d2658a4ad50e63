"""One client's connection to the second venue: bytes to messages, and back."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, Final, Protocol

from fault_simulation.loop import SimulatedLoop
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import BINARY, Codec, Reader, codec_of
from mia_daemon.dtc.enums import EncodingEnum, LogonStatusEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.errors import ProtocolError, UsageError

SILENT_BEATS: Final = 2.5
"""Heartbeat intervals without a message after which a client is disconnected."""


class Server(Protocol):
    """What a session needs of its server.

    Attributes:
        flags: OCOOrdersSupported, BracketOrdersSupported and OrderCancelReplaceSupported.
        answer_s: time that an answer to a query takes.
    """

    flags: tuple[int, int, int]
    answer_s: float

    def act(self, message: Message) -> bool:
        """Carry out an order message; False for a message of another kind."""

    def answer(self, message: Message) -> list[Message]:
        """The answer to a query, as things are now."""


class Session(asyncio.Protocol):
    """The server's side of one connection.

    Args:
        gone: called when it has ended.

    Attributes:
        ready: logged on, and not ended.
    """

    def __init__(self, server: Server, loop: SimulatedLoop, gone: Callable[["Session"], None]) -> None:
        self.ready = False
        self._server = server
        self._loop = loop
        self._gone = gone
        self._transport: Any = None
        self._codec: Codec = BINARY
        self._reader: Reader = BINARY.reader()
        self._interval_s = 10.0
        self._received_s = self._sent_s = loop.time()
        self._answered_s = 0.0  # when the last query is answered

    # The connection.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.ready = False
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        self._received_s = self._loop.time()
        try:
            for message in self._codec.messages(self._reader.feed(data)):
                self._handle(message)
        except ProtocolError:
            self.close()
        if self._reader.error is not None:
            self.close()

    def close(self) -> None:
        """End the connection."""
        self.ready = False
        self._transport.close()

    def keep_alive(self) -> None:
        """Send a heartbeat when it is due; close where the client is silent."""
        now_s = self._loop.time()
        if now_s - self._received_s > SILENT_BEATS * self._interval_s:
            self.close()
        elif self.ready and now_s - self._sent_s >= self._interval_s:
            self.send(dtc.Heartbeat())

    def send(self, *messages: Message) -> None:
        """Write messages; what JSON can't hold is left unset there."""
        if self._transport.is_closing():
            return
        self._sent_s = self._loop.time()
        self._transport.write(b"".join(map(self._encode, messages)))

    def _encode(self, message: Message) -> bytes:
        try:
            return self._codec.encode(message)
        except UsageError:
            return self._codec.encode(_finite(message))

    # Messages.

    def _handle(self, message: Message) -> None:
        match message:
            case dtc.EncodingRequest():
                self._agree(message)
            case dtc.LogonRequest():
                self._log_on(message)
            case dtc.Logoff():
                self.close()
            case dtc.Heartbeat():
                pass
            case _ if self.ready and not self._server.act(message):
                self._answer_in_turn(message)

    def _agree(self, request: dtc.EncodingRequest) -> None:
        wanted = codec_of(request.Encoding) or BINARY
        self.send(dtc.EncodingResponse(Encoding=EncodingEnum(wanted.encoding)))
        self._codec, self._reader = wanted, wanted.reader()

    def _log_on(self, request: dtc.LogonRequest) -> None:
        self._interval_s = float(max(request.HeartbeatIntervalInSeconds, 1))
        pairs, brackets, replaces = self._server.flags
        self.send(
            dtc.LogonResponse(
                Result=LogonStatusEnum.LOGON_SUCCESS,
                ServerName="second venue",
                TradingIsSupported=1,
                OCOOrdersSupported=pairs,
                BracketOrdersSupported=brackets,
                OrderCancelReplaceSupported=replaces,
                SecurityDefinitionsSupported=1,
                MarketDepthIsSupported=0,
                MarketDataSupported=0,
            )
        )
        self.ready = True

    def _answer_in_turn(self, query: Message) -> None:
        """Queries are answered one after the other, each as things are when it is answered."""
        if not self._server.answer_s:
            self.send(*self._server.answer(query))
            return
        self._answered_s = max(self._answered_s, self._loop.time()) + self._server.answer_s
        self._loop.call_at(self._answered_s, lambda: self.send(*self._server.answer(query)))


def _finite(message: Message) -> Message:
    """With numbers that JSON lacks left unset."""
    unset = {
        field.name: dtc.UNSET_F64
        for field in fields(message)  # type: ignore[arg-type]  # every message is a dataclass
        if isinstance(value := getattr(message, field.name), float) and not math.isfinite(value)
    }
    return replace(message, **unset)  # type: ignore[type-var]  # as above
