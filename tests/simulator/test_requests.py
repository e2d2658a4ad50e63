"""Every message that a client may send gets an answer, a reject, or is listed as one that gets none."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_orders import SYMBOL, order
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.uri import parse_uri

from mia_daemon.clock import WallClock
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import BINARY, CODECS, JSON, JSON_COMPACT
from mia_daemon.dtc.enums import EncodingEnum
from mia_daemon.dtc.layout import MESSAGES, Text
from mia_daemon.simulator import server as server_module
from mia_daemon.simulator.rejects import rejects
from mia_daemon.simulator.requests import REQUESTS, Outcome
from mia_daemon.simulator.run import open_server

_STREAMED = {
    100, 106, 107, 108, 109, 112, 113, 114, 115, 116, 117, 119, 120, 124, 134, 135, 136, 137, 138, 140, 141, 142, 143,
    144, 146, 147, 148, 152, 153, 154, 155, 510, 606, 609, 706, 801, 803, 804, 807, 901, 903,
}  # fmt: skip
"""Types that a server sends unasked, or in answers that the simulator's trading port does not give."""

ANSWERED = [kind for kind, treatment in REQUESTS.items() if treatment.outcome is not Outcome.SILENT]
SILENT = [kind for kind in REQUESTS if kind not in ANSWERED]
ENCODINGS = [EncodingEnum.BINARY_ENCODING, EncodingEnum.BINARY_WITH_VARIABLE_LENGTH_STRINGS, EncodingEnum.JSON_ENCODING]


class Transport:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


@pytest.fixture(scope="module")
def server(tmp_path_factory, calendar, make_settings):
    server = open_server(make_settings(speed=1.0), tmp_path_factory.mktemp("state"), WallClock(), calendar)
    yield server
    server.exchange.close()


class Conversation:
    """One client, logged on, in one encoding; no market data comes between."""

    def __init__(self, server, codec) -> None:
        self.codec = codec
        self.transport = Transport()
        self._connection = server_module._Connection(server)
        self._connection.connection_made(self.transport)
        if codec is not BINARY:
            self._connection.data_received(BINARY.encode(dtc.EncodingRequest(Encoding=codec.encoding)))
        self.ask(codec.encode(dtc.LogonRequest(HeartbeatIntervalInSeconds=10)))

    def ask(self, request: bytes) -> list:
        """What comes back."""
        self.transport.data = b""
        self._connection.data_received(request)
        return list(self.codec.messages(self.codec.reader().feed(self.transport.data)))

    def end(self) -> None:
        self._connection.connection_lost(None)


class WebSocketConversation:
    """The same over a WebSocket, where the encoding is always compact JSON."""

    def __init__(self, server) -> None:
        self.transport = Transport()
        self._peer = ClientProtocol(parse_uri("ws://127.0.0.1:11099/"))
        self._connection = server_module._Connection(server)
        self._connection.connection_made(self.transport)
        self._peer.send_request(self._peer.connect())
        self._pass_on()
        self.ask(dtc.LogonRequest(HeartbeatIntervalInSeconds=10))

    def ask(self, request) -> list:
        """What comes back."""
        self._peer.send_text(JSON_COMPACT.encode(request))
        return [JSON_COMPACT.decode(event.data) for event in self._pass_on() if isinstance(event, Frame)]

    def _pass_on(self) -> list:
        self.transport.data = b""
        self._connection.data_received(b"".join(self._peer.data_to_send()))
        self._peer.receive_data(self.transport.data)
        return self._peer.events_received()

    def end(self) -> None:
        self._connection.connection_lost(None)


def answers(server, encoding, request: bytes) -> list:
    client = Conversation(server, CODECS[encoding])
    try:
        return client.ask(request)
    finally:
        client.end()


def answered(request, told) -> bool:
    """Whether an answer of the kind that is listed has come, with the request's identifiers."""
    expected = [message for message in told if isinstance(message, REQUESTS[type(request)].answers)]
    return any(
        getattr(message, name) == getattr(request, name)
        for message in expected
        for name in ("RequestID", "SymbolID")
        if hasattr(request, name) and hasattr(message, name)
    ) or bool(expected and not hasattr(request, "RequestID") and not hasattr(request, "SymbolID"))


def test_every_declared_message_is_a_clients_or_a_servers():
    of_clients = {kind.TYPE for kind in REQUESTS}
    answers_ = {answer.TYPE for treatment in REQUESTS.values() for answer in treatment.answers}
    assert of_clients.isdisjoint(answers_ | _STREAMED)
    assert of_clients | answers_ | _STREAMED == set(MESSAGES)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ANSWERED)
def test_a_request_with_nothing_set_is_answered_or_rejected(server, kind, encoding):
    request = kind()
    told = answers(server, encoding, CODECS[encoding].encode(request))
    assert answered(request, told), told
    if REQUESTS[kind].outcome is Outcome.REJECTED:
        assert told == rejects(request, REQUESTS[kind].note)


@pytest.mark.parametrize("kind", [kind for kind in ANSWERED if kind is not dtc.LogonRequest])
def test_over_a_web_socket_every_request_is_answered_or_rejected(server, kind):
    client = WebSocketConversation(server)
    told = client.ask(kind())
    assert answered(kind(), told), told
    assert not client.transport.closed
    client.end()


_TEXTS = st.sampled_from(["", SYMBOL, "Sim1", "Sim2", "1", "é"]) | st.text("abcXYZ09-", max_size=15)
_FLOATS = st.sampled_from([0.0, 1.0, -1.0, 6000.0, 6000.1, 1e30, dtc.UNSET_F64]) | st.floats(-1e6, 1e6, width=32)


@st.composite
def requests(draw, kind):
    """A request with values of all sorts; never one to unsubscribe, which is not answered."""
    values = {}
    for field in kind.LAYOUT.fields:
        if isinstance(field.wire, Text):
            values[field.name] = draw(_TEXTS)[: field.wire.length // 2]
        elif field.code in "fd":
            values[field.name] = draw(_FLOATS.filter(lambda x, code=field.code: code == "d" or abs(x) < 1e38))
        else:
            values[field.name] = draw(st.integers(0, 127))
    if "RequestAction" in values and values["RequestAction"] == 2:
        values["RequestAction"] = 1
    return kind(**values)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ANSWERED)
@given(data=st.data())
@settings(max_examples=12)
def test_whatever_is_in_a_request_it_is_answered_or_rejected(server, kind, encoding, data):
    request = data.draw(requests(kind))
    assert answered(request, answers(server, encoding, CODECS[encoding].encode(request)))


@pytest.mark.parametrize("kind", SILENT)
def test_a_message_that_is_listed_without_an_answer_gets_none(server, kind):
    assert answers(server, EncodingEnum.BINARY_ENCODING, BINARY.encode(kind())) == []


@pytest.mark.parametrize("kind", [kind for kind in ANSWERED if kind not in {dtc.LogonRequest, dtc.EncodingRequest}])
def test_a_text_that_is_too_long_to_be_repeated_is_rejected_and_the_connection_stays(server, kind):
    texts = {field.name: "x" * 300 for field in kind.LAYOUT.fields if isinstance(field.wire, Text)}
    numbers = {name: 7 for name in ("RequestID", "SymbolID") if hasattr(kind(), name)}
    client = Conversation(server, JSON)
    told = client.ask(json.dumps({"Type": kind.TYPE, **numbers, **texts}).encode() + b"\0")
    assert answered(kind(**numbers), told)
    assert not client.transport.closed
    client.end()


def test_a_flatten_of_the_account_closes_what_it_holds(server):
    client = Conversation(server, BINARY)
    client.ask(BINARY.encode(order("held", quantity=3.0)))
    flatten = dtc.FlattenPositionsForTradeAccount(TradeAccount="Sim1", ClientOrderID="flatten")
    told = [m for m in client.ask(BINARY.encode(flatten)) if isinstance(m, dtc.OrderUpdate)]
    assert [m.OrderStatus for m in told if m.ClientOrderID == "flatten"][-1] == 7
    positions = client.ask(BINARY.encode(dtc.CurrentPositionsRequest(RequestID=1)))
    assert [m.NoPositions for m in positions] == [1]
    flatten.ClientOrderID = "again"
    (told,) = client.ask(BINARY.encode(flatten))
    assert (told.OrderStatus, told.OrderUpdateReason, told.ClientOrderID) == (9, 8, "again")
    client.end()


def test_symbols_are_listed_and_the_last_one_is_marked(server):
    client = Conversation(server, BINARY)

    def listed(request) -> list[tuple[str, int]]:
        return [(m.Symbol, m.IsFinalMessage) for m in client.ask(BINARY.encode(request))]

    both = [(SYMBOL, 0), ("NQZ26_FUT_CME", 1)]
    assert listed(dtc.SymbolsForExchangeRequest(RequestID=1, Exchange="CME")) == both
    assert listed(dtc.SymbolSearchRequest(RequestID=1, SearchText="z26")) == both
    assert listed(dtc.SymbolSearchRequest(RequestID=1, SearchText="nq FUTURES")) == both[1:]
    assert listed(dtc.SymbolsForUnderlyingRequest(RequestID=1, UnderlyingSymbol="ES")) == [(SYMBOL, 1)]
    (reject,) = client.ask(BINARY.encode(dtc.SymbolSearchRequest(RequestID=2, SearchText="CL")))
    assert (reject.RequestID, reject.RejectText) == (2, "no symbol was found for CL")
    client.end()
