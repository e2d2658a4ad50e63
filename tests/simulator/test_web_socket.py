"""Both ports are served over WebSockets too: detected by the handshake, always compact JSON.

The client's frames are made by `websocket-client`, which shares no code with the server's library.
"""

import asyncio
import json
import ssl

import numpy as np
import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st
from websocket import ABNF

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import JSON_COMPACT
from mia_daemon.dtc.enums import EncodingEnum
from mia_daemon.dtc.stream import MAX_JSON_BYTES
from mia_daemon.feed.history.archive import ScidArchive
from mia_daemon.feed.sierra_files import SCID, SCID_RECORD, RecordWriter, to_us
from mia_daemon.link.tls import server_context
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.client_stream import ClientStream
from mia_daemon.simulator.history_server import HistoryServer

SYMBOL = "ESZ26_FUT_CME"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:11099\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"  # the answer of RFC 6455 to its own example
LOGON = '{"Type":1,"ProtocolVersion":8,"Username":"u","HeartbeatIntervalInSeconds":10}\0'
FILLED = 7


def frame(data, opcode=ABNF.OPCODE_TEXT, fin=1):
    return ABNF.create_frame(data, opcode, fin).format()


class Peer:
    """A stream that a WebSocket's client writes to; what it reads, and what it is sent back."""

    def __init__(self, preset=None):
        self.stream = ClientStream(preset)
        self.messages = []
        self.sent = b""

    def feed(self, data):
        self.messages += self.stream.read(data)
        self.sent += self.stream.outgoing(b"")

    def frames(self):
        """(opcode, payload) of each frame behind the handshake's answer; the server's are short and not masked."""
        rest, found = self.sent.partition(b"\r\n\r\n")[2], []
        while rest:
            assert rest[1] < 126
            found.append((rest[0] & 0x0F, rest[2 : 2 + rest[1]]))
            rest = rest[2 + rest[1] :]
        return found


def opened(preset=None):
    peer = Peer(preset)
    peer.feed(HANDSHAKE)
    assert peer.sent.startswith(b"HTTP/1.1 101 ")
    return peer


@pytest.mark.parametrize("cut", range(1, len(HANDSHAKE) + len(frame(LOGON))))
def test_handshake_and_logon_are_understood_wherever_the_network_splits_them(cut):
    data = HANDSHAKE + frame(LOGON)
    peer = Peer()
    peer.feed(data[:cut])
    peer.feed(data[cut:])
    assert ACCEPTED in peer.sent
    assert peer.messages == [dtc.LogonRequest(Username="u", HeartbeatIntervalInSeconds=10)]
    assert peer.stream.codec is JSON_COMPACT


def test_handshake_and_logon_are_understood_byte_by_byte():
    peer = Peer()
    for byte in HANDSHAKE + frame(LOGON):
        peer.feed(bytes([byte]))
    assert len(peer.messages) == 1
    assert peer.sent.count(b"HTTP/1.1 101 ") == 1


@pytest.mark.parametrize("preset", [EncodingEnum.BINARY_ENCODING, EncodingEnum.JSON_ENCODING])
def test_a_web_socket_is_served_in_compact_json_whatever_encoding_is_preset_or_asked_for(preset):
    peer = opened(preset)
    peer.feed(frame('{"Type":6,"ProtocolVersion":8,"Encoding":0,"ProtocolType":"DTC"}\0'))
    answer = peer.stream.agree(peer.messages[0])
    assert JSON_COMPACT.decode(answer) == dtc.EncodingResponse(Encoding=EncodingEnum.JSON_COMPACT_ENCODING)
    assert peer.stream.codec is JSON_COMPACT


def test_each_dtc_message_is_sent_as_one_text_message_without_a_nul():
    peer = opened()
    both = JSON_COMPACT.encode(dtc.Heartbeat(CurrentDateTime=5)) + JSON_COMPACT.encode(dtc.Logoff(Reason="é"))
    peer.sent += peer.stream.outgoing(both)
    [first, second] = peer.frames()
    assert first == (ABNF.OPCODE_TEXT, b'{"Type":3,"F":[0,5]}')
    assert json.loads(second[1]) == {"Type": 5, "Reason": "é", "DoNotReconnect": 0}


def test_messages_are_cut_at_their_nuls_however_they_lie_in_frames():
    peer = opened()
    beat = '{"Type":3,"F":[0,%d]}\0'
    text = beat % 1 + beat % 2 + beat % 3
    peer.feed(frame(text[:5], fin=0) + frame(text[5:11], ABNF.OPCODE_CONT, fin=0) + frame(text[11:], ABNF.OPCODE_CONT))
    peer.feed(frame(b'{"Type":3,', ABNF.OPCODE_BINARY) + frame('"F":[0,4]}\0'))
    assert [m.CurrentDateTime for m in peer.messages] == [1, 2, 3, 4]


def test_a_ping_is_answered_also_between_the_pieces_of_a_message():
    peer = opened()
    peer.feed(frame('{"Type":3,', fin=0) + frame(b"are you there?", ABNF.OPCODE_PING))
    assert peer.frames() == [(ABNF.OPCODE_PONG, b"are you there?")]
    peer.feed(frame('"F":[0,4]}\0', ABNF.OPCODE_CONT))
    assert len(peer.messages) == 1


def test_a_ping_in_one_piece_with_the_handshake_is_answered_after_it():
    peer = Peer()
    peer.feed(HANDSHAKE + frame(b"x", ABNF.OPCODE_PING))
    assert peer.sent.startswith(b"HTTP/1.1 101 ")
    assert peer.frames() == [(ABNF.OPCODE_PONG, b"x")]


def test_a_close_is_answered_and_ends_the_stream():
    peer = opened()
    peer.feed(frame(LOGON) + frame(b"\x03\xe8bye", ABNF.OPCODE_CLOSE))
    assert len(peer.messages) == 1
    assert peer.frames() == [(ABNF.OPCODE_CLOSE, b"\x03\xe8bye")]
    assert peer.stream.broken == "the client closed the WebSocket (1000 (OK) bye)"
    assert peer.stream.outgoing(JSON_COMPACT.encode(dtc.Heartbeat()), "gone") == b""


def test_the_servers_last_frame_says_why_it_closes():
    peer = opened()
    peer.sent += peer.stream.outgoing(b"", "ü" * 200)
    [(opcode, payload)] = peer.frames()
    assert (opcode, payload[:2]) == (ABNF.OPCODE_CLOSE, b"\x03\xe8")
    assert payload[2:].decode() == "ü" * 60


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"\x81\x05hello", 1002, "incorrect masking"),
        (frame("x" * (MAX_JSON_BYTES + 1)), 1009, f"a message of more than {MAX_JSON_BYTES} bytes"),
        (frame("{" * 200_000, fin=0) + frame("x" * 200_000, ABNF.OPCODE_CONT), 1009, "a message of more than"),
        (b"\x81\xff" + b"\x7f" + b"\xff" * 7 + b"mask", 1009, "a message of more than"),
        (frame("x", ABNF.OPCODE_CONT), 1002, "unexpected continuation frame"),
        (b"\xf1\x80mask", 1002, "reserved bits must be 0"),
    ],
    ids=["no mask", "too long", "too long in pieces", "too long by its header", "no beginning", "reserved bits"],
)
def test_a_client_that_breaks_the_protocol_gets_the_code_of_its_fault(data, code, says):
    peer = opened()
    peer.feed(data)
    assert says in peer.stream.broken
    [(opcode, payload)] = peer.frames()
    assert (opcode, int.from_bytes(payload[:2], "big")) == (ABNF.OPCODE_CLOSE, code)


def test_messages_without_an_end_are_given_up_with_memory_bounded():
    peer = opened()
    for _ in range(4):
        peer.feed(frame("{" + "x" * 100_000))
    assert "a message of more than" in peer.stream.broken


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 426 "),
        (HANDSHAKE.replace(b"Version: 13", b"Version: 7"), b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 "),
        (b"GET /" + b"x" * 10_000, b"HTTP/1.1 414 "),
        (b"GET \r\n\r\n", b""),
    ],
)
def test_a_handshake_that_is_none_is_refused_in_http(request_, status):
    peer = Peer()
    peer.feed(request_)
    assert peer.sent.startswith(status)
    assert peer.stream.broken.startswith("the WebSocket handshake failed: ")
    assert peer.stream.outgoing(JSON_COMPACT.encode(dtc.Logoff()), "gone") == b""


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
def test_no_bytes_break_the_server(pieces, greeted):
    peer = opened() if greeted else Peer()
    for piece in pieces:
        peer.feed(piece if greeted else b"GET " + piece)
        if peer.stream.broken:
            break


# ------------------------------------------------------------------------------- another library's client, over TCP


class Trader:
    """A client of `websocket-client` that parses each message as it comes."""

    def __init__(self, url, **options):
        self.socket = websocket.create_connection(url, timeout=10, **options)
        self.seen = []

    def send(self, type_, **fields):
        self.socket.send(json.dumps({"Type": type_, **fields}) + "\0")

    def until(self, wanted):
        while True:
            message = json.loads(self.socket.recv())
            self.seen.append(message)
            if wanted(message):
                return message

    def of(self, type_, **fields):
        return self.until(lambda m: m["Type"] == type_ and all(m[name] == value for name, value in fields.items()))

    def trade(self):
        """Log on, see trades, buy at the market; the fill's price."""
        self.send(1, ProtocolVersion=8, HeartbeatIntervalInSeconds=10, ClientName="a browser")
        assert self.of(2)["Result"] == 1
        self.send(101, RequestAction=1, SymbolID=1, Symbol=SYMBOL)
        snapshot = self.of(104)["F"]
        trade = self.of(107)["F"]
        assert abs(trade[2] - snapshot[8]) < 20  # BidPrice
        self.send(208, Symbol=SYMBOL, TradeAccount="Sim1", ClientOrderID="a", OrderType=1, BuySell=1, Quantity=1,
                  TimeInForce=1)  # fmt: skip
        fill = self.of(301, ClientOrderID="a", OrderStatus=FILLED)
        assert fill["FilledQuantity"] == 1
        assert abs(fill["AverageFillPrice"] - trade[2]) < 20

    def end(self):
        self.socket.close()


async def test_another_librarys_client_trades_over_a_web_socket(serving, eventually):
    async with serving(speed=20.0) as running:
        trader = await asyncio.to_thread(Trader, f"ws://127.0.0.1:{running.port}/")
        await asyncio.to_thread(trader.trade)
        await asyncio.to_thread(trader.socket.ping, "x")
        await asyncio.to_thread(trader.end)
        await eventually(lambda: running.server.dropped)
        assert "the client closed the WebSocket" in running.server.dropped[0]


async def test_another_librarys_client_trades_over_a_web_socket_in_tls(serving, certificate):
    tls = server_context(certificate / "server.crt", certificate / "server.key")
    async with serving(speed=20.0, tls=tls) as running:
        url = f"wss://127.0.0.1:{running.port}/"
        trader = await asyncio.to_thread(Trader, url, sslopt={"ca_certs": str(certificate / "ca.pem")})
        await asyncio.to_thread(trader.trade)
        await asyncio.to_thread(trader.end)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(Trader, url)


async def test_a_server_that_ends_logs_off_and_closes_the_web_socket(serving):
    async with serving() as running:
        trader = await asyncio.to_thread(Trader, f"ws://127.0.0.1:{running.port}/")
        trader.send(1, ProtocolVersion=8, HeartbeatIntervalInSeconds=10)
        await asyncio.to_thread(trader.of, 2)
        running.server.stop()
        goodbye = await asyncio.to_thread(trader.of, 5)
        assert "shutting down" in goodbye["Reason"]
        opcode, payload = await asyncio.to_thread(trader.socket.recv_data)
        assert (opcode, payload[:2]) == (ABNF.OPCODE_CLOSE, b"\x03\xe8")
        trader.socket.shutdown()


async def test_history_is_served_over_a_web_socket(tmp_path):
    records = np.zeros(3, SCID_RECORD)
    records["time"] = to_us((1_700_000_000 + np.arange(3)) * 10**9)
    records["close"] = records["high"] = records["low"] = [5997, 5997.25, 5998]
    records["num_trades"] = records["total_volume"] = records["ask_volume"] = 1
    writer = RecordWriter(tmp_path / f"{SYMBOL}.scid", SCID)
    writer.append(records)
    writer.close()
    server = HistoryServer(ScidArchive(tmp_path), Manners())
    port = await server.start("127.0.0.1", 0)

    def ask():
        client = Trader(f"ws://127.0.0.1:{port}/")
        client.send(1, ProtocolVersion=8, HeartbeatIntervalInSeconds=10)
        assert client.of(2)["HistoricalPriceDataSupported"] == 1
        client.send(800, RequestID=4, Symbol=SYMBOL, RecordInterval=0, UseZLibCompression=1)
        header = client.of(801)
        assert (header["RequestID"], header["UseZLibCompression"]) == (4, 0)
        rows = [client.of(803)["F"] for _ in records]
        opcode, _ = client.socket.recv_data()
        client.socket.shutdown()
        return rows, opcode

    rows, opcode = await asyncio.to_thread(ask)
    assert [row[5] for row in rows] == [5997, 5997.25, 5998]  # LastPrice
    assert [row[1] for row in rows] == [(1_700_000_000 + i) * 10**6 for i in range(3)]  # StartDateTime
    assert opcode == ABNF.OPCODE_CLOSE
    await server.close()
