"""The server's side of one WebSocket connection (RFC 6455) that carries DTC as JSON, without its connection.

A client's text or binary messages are pieces of a stream of DTC messages, each ended by a NUL, as over a plain
connection. What is sent is one DTC message in each text message, without the NUL: clients of Sierra Chart parse a
message as it comes.
"""

import logging
from collections.abc import Iterator
from typing import Final

from websockets.exceptions import PayloadTooBig
from websockets.frames import BINARY, CONT, TEXT, CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from mia_daemon.dtc.stream import MAX_JSON_BYTES

HANDSHAKE: Final = b"GET "
"""How a client that wants a WebSocket begins; as a binary DTC message it would be one of an unknown type."""

_MAX_REASON_BYTES = 120  # of a close frame, whose payload has 125 bytes at most

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # connections that come and go are logged by whoever holds them


class WebSocket:
    """Takes what a client sends, handshake first, and frames what it is sent.

    Attributes:
        ended: why nothing more is read; empty as long as it is.
    """

    def __init__(self) -> None:
        self.ended = ""
        self._protocol = ServerProtocol(max_size=MAX_JSON_BYTES, logger=_log)

    def read(self, data: bytes) -> bytes:
        """The bytes of DTC that `data` completes; pings and the client's close are answered by the next `frames`."""
        if self.ended:
            return b""
        protocol = self._protocol
        dtc = bytearray()
        for piece in self._pieces(data):
            protocol.receive_data(piece)
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif isinstance(event, Frame) and event.opcode in {TEXT, BINARY, CONT}:
                    dtc += event.data
        self.ended = self._why_ended()
        return bytes(dtc)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """The handshake line by line: no frame may be taken before it is answered, be it sent in one piece with it."""
        while data and self._protocol.state is State.CONNECTING:
            line, end, data = data.partition(b"\n")
            yield line + end
        if data:
            yield data

    def frames(self, stream: bytes) -> bytes:
        """What to send for whole DTC messages, and for what was read; a client that has closed gets no more of them."""
        protocol = self._protocol
        if protocol.state is State.OPEN:
            for message in filter(None, stream.split(b"\0")):
                protocol.send_text(message)
        return b"".join(protocol.data_to_send())

    def close(self, reason: str) -> bytes:
        """The close frame that ends the server's side; nothing where it has ended."""
        protocol = self._protocol
        if protocol.state is State.OPEN:
            text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
            protocol.send_close(CloseCode.NORMAL_CLOSURE, text)
        return b"".join(protocol.data_to_send())

    def _why_ended(self) -> str:
        protocol = self._protocol
        if protocol.handshake_exc is not None:
            return f"the WebSocket handshake failed: {protocol.handshake_exc}"
        if protocol.parser_exc is not None:
            too_big = isinstance(protocol.parser_exc, PayloadTooBig)
            what = f"a message of more than {MAX_JSON_BYTES} bytes" if too_big else str(protocol.parser_exc)
            return f"the client broke the WebSocket protocol: {what}"
        if protocol.close_rcvd is not None:
            return f"the client closed the WebSocket ({protocol.close_rcvd})"
        return ""
