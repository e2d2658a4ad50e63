"""What a client sends, message by message, in the encoding that it asks for or simply begins with.

A client that begins with the handshake of a WebSocket is served over one, in compact JSON, whatever the encoding is
otherwise.
"""

from collections.abc import Generator, Iterator
from itertools import pairwise

from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.encodings import BINARY, CODECS, JSON, JSON_COMPACT, Codec, Reader, codec_of, detect
from mia_daemon.dtc.enums import EncodingEnum
from mia_daemon.dtc.layout import HEADER, Message
from mia_daemon.dtc.messages import EncodingRequest, EncodingResponse, Heartbeat
from mia_daemon.errors import ProtocolError
from mia_daemon.simulator.web_socket import HANDSHAKE, WebSocket

_ENCODING_REQUEST = encode(EncodingRequest())[: HEADER.size]


class ClientStream:
    """The server's side of one connection's encoding.

    Args:
        preset: the encoding spoken and offered whatever a client asks for; None: what the client asks for. A WebSocket
            is not bound by it.

    Attributes:
        codec: the encoding in use; binary until the client has said anything.
        broken: why nothing more can be read; empty as long as it can.
        unknown: messages of unknown type, which were skipped.
    """

    def __init__(self, preset: EncodingEnum | None = None) -> None:
        self.codec: Codec = BINARY
        self.broken = ""
        self.unknown = 0
        self._preset = preset
        self._reader: Reader | None = None  # none before the encoding is known
        self._web_socket: WebSocket | None = None
        self._asked = False  # an ENCODING_REQUEST has come
        self._start = b""

    def read(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes; each is to be answered before the next is taken.

        The answer to an ENCODING_REQUEST, by `agree`, changes the encoding of what follows.
        """
        if self._reader is None:
            self._start += data
            data = self._recognise()
        socket = self._web_socket
        if socket is not None:
            data = socket.read(data)
        while data and not self.broken:
            data = yield from self._read(data)
        if socket is not None:
            self.broken = self.broken or socket.ended

    def agree(self, request: EncodingRequest) -> bytes:
        """The answer, in the encoding of before; one that is not spoken here is answered with that of now."""
        self._asked = True
        agreed = codec_of(request.Encoding) if self._preset is None else CODECS[self._preset]
        if agreed is None or self._web_socket is not None:
            agreed = self.codec
        answer = self.codec.encode(EncodingResponse(Encoding=agreed.encoding))
        if agreed is not self.codec:
            self._speak(agreed)
        return answer

    def heartbeat(self, message: Heartbeat) -> bytes:
        """Encoded; compact in JSON that nobody asked for, as users have seen it of Sierra Chart."""
        compact = self.codec is JSON and not self._asked
        return (JSON_COMPACT if compact else self.codec).encode(message)

    def outgoing(self, stream: bytes, closing: str = "") -> bytes:
        """What goes to the socket for whole messages in the encoding in use, and for what was read.

        Args:
            stream: the messages.
            closing: why the connection will be closed behind them; empty: it stays.
        """
        socket = self._web_socket
        if socket is None:
            return stream
        return socket.frames(stream) + (socket.close(closing) if closing else b"")

    def _recognise(self) -> bytes:
        """All bytes so far once they tell the encoding; none before."""
        if self._start.startswith(HANDSHAKE):
            self._web_socket = WebSocket()
            self._speak(JSON_COMPACT)
            return self._start
        codec = detect(self._start)
        if codec is None:
            return b""
        asks = self._start.startswith(_ENCODING_REQUEST)
        self._speak(codec if self._preset is None or asks else CODECS[self._preset])
        return self._start

    def _read(self, data: bytes) -> Generator[Message, None, bytes]:
        """Yields messages and returns the bytes that are left for another encoding."""
        codec, reader = self.codec, self._reader
        assert reader is not None
        frames = reader.feed(data)
        view = memoryview(frames.data)
        for number, (start, end) in enumerate(pairwise(frames.offsets), 1):
            try:
                message = codec.decode(view[start:end])
            except ProtocolError as error:
                self.broken = str(error)
                return b""
            if message is None:
                self.unknown += 1
                continue
            yield message
            if self.codec is not codec:
                return frames.after(number)
        if reader.error is not None:
            self.broken = str(reader.error)
        return b""

    def _speak(self, codec: Codec) -> None:
        self.codec = codec
        self._reader = codec.reader()
