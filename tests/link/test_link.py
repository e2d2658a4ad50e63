import asyncio
import contextlib
import random
import socket

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from mia_daemon.clock import WallClock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc.encodings import BINARY, JSON
from mia_daemon.dtc.messages import (
    AccountBalanceReject,
    AccountBalanceRequest,
    AccountBalanceUpdate,
    AlertMessage,
    CancelOrder,
    CurrentPositionsReject,
    CurrentPositionsRequest,
    EncodingRequest,
    EncodingResponse,
    GeneralLogMessage,
    Heartbeat,
    HistoricalOrderFillResponse,
    HistoricalOrderFillsReject,
    HistoricalOrderFillsRequest,
    Logoff,
    LogonRequest,
    LogonResponse,
    MarketDataReject,
    MarketDataUpdateTradeV2,
    MarketDepthReject,
    OpenOrdersReject,
    OpenOrdersRequest,
    OrderUpdate,
    PositionUpdate,
    SecurityDefinitionForSymbolRequest,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
    TradeAccountResponse,
    TradeAccountsRequest,
    UserMessage,
)
from mia_daemon.dtc.session import DtcSession
from mia_daemon.errors import ConnectionLost, LogonRefused, RequestRefused, RequestTimeout, UsageError
from mia_daemon.link.client import MAX_HOPS, DtcClient, market_data_refused
from mia_daemon.link.connection import Endpoint

GIVEN_UP = "the connection is given up"


class FakeServer:
    """The smallest DTC server: answers encoding and logon as told, remembers what it got, sends what it is given."""

    def __init__(self, logon=None, *, mute=False, codec=BINARY):
        self.logon = logon or LogonResponse(ServerName="fake")
        self.mute = mute
        self.codec = codec
        self.got = []
        self.connections = 0
        self.answers = {}  # request type → function of the request giving messages
        self.writer = None
        self.writers = []
        self.changed = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.gather(*[writer.wait_closed() for writer in self.writers], return_exceptions=True)
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.connections += 1
        self.writer = writer
        self.writers.append(writer)
        frames = self.codec.reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                for message in self.codec.messages(frames.feed(data)):
                    self.got.append(message)
                    self.answer(message)
                self.changed.set()
        writer.close()

    def answer(self, message):
        if self.mute:
            return
        if isinstance(message, EncodingRequest):
            self.send(GeneralLogMessage(MessageText="hello"), EncodingResponse())
        elif isinstance(message, LogonRequest):
            self.send(self.logon)
        elif type(message) in self.answers:
            self.send(*self.answers[type(message)](message))

    def send(self, *messages):
        """Messages, or frames that are bytes already."""
        self.writer.write(b"".join(m if isinstance(m, bytes) else self.codec.encode(m) for m in messages))

    def drop(self):
        self.writer.transport.abort()

    async def until(self, kind):
        while not (found := [m for m in self.got if isinstance(m, kind)]):
            self.changed.clear()
            await self.changed.wait()
        return found


class FastClock(WallClock):
    """A stopwatch that runs `rate` times as fast, so that silence needs no patience."""

    def __init__(self, rate=1):
        self.rate = rate

    def monotonic_ns(self):
        return super().monotonic_ns() * self.rate


class Client:
    """A link, its task, and what it reported."""

    def __init__(self, port, *, clock=None, symbols=None, **settings):
        values = {"reconnect_first_delay_s": 0.01, "reconnect_max_delay_s": 0.05, "connect_timeout_s": 5.0}
        settings = DtcSettings(port=port, **(values | settings))
        self.received = []
        self.notices = []
        self.states = []
        self.skipped = []
        self.changed = asyncio.Event()
        self.link = DtcClient(
            settings,
            clock or WallClock(),
            random.Random(1),
            name="test",
            on_messages=self.on_messages,
            on_state=self.on_state,
            on_notice=lambda text, kind: self.notices.append((text, kind)),
            on_skipped=self.skipped.append,
            symbols=symbols,
        )

    def on_messages(self, segments, received_ns):
        self.received += segments
        self.received_ns = received_ns
        self.changed.set()

    def on_state(self, up, text):
        self.states.append((up, text))
        self.changed.set()

    async def __aenter__(self):
        self.task = asyncio.create_task(self.link.run())
        return self

    async def __aexit__(self, *_):
        self.link.close()
        with contextlib.suppress(LogonRefused):
            await self.task

    async def until(self, condition):
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@pytest.fixture(autouse=True)
async def deadline():
    async with asyncio.timeout(30):
        yield


async def test_what_the_server_says_to_people_is_passed_on_without_credentials():
    said = [
        UserMessage(UserMessage="joe, pw is wrong"),
        AlertMessage(MessageText="margin call"),
        UserMessage(UserMessage=" "),
    ]  # fmt: skip
    async with (
        FakeServer() as server,
        Client(server.port, username=SecretStr("joe"), password=SecretStr("pw")) as client,
    ):
        await client.link.ready(5)
        server.send(*said, OrderUpdate(ClientOrderID="news"))
        await client.until(lambda: client.received)
        assert client.received == [OrderUpdate(ClientOrderID="news")]
        assert client.notices[1:] == [("***, *** is wrong", "UserMessage"), ("margin call", "AlertMessage")]


async def test_logs_on_and_off():
    async with FakeServer() as server:
        async with Client(server.port, username=SecretStr("joe"), password=SecretStr("pw")) as client:
            await client.link.ready(5)
            assert client.link.up
            assert client.link.server.ServerName == "fake"
            assert client.states == [(True, f"logged on to fake at 127.0.0.1:{server.port}")]
            assert (client.received, client.notices) == ([], [("hello", "GeneralLogMessage")])
            _, logon = server.got
            assert (logon.Username, logon.Password, logon.ClientName) == ("joe", "pw", "mia-daemon test")
            assert (logon.ProtocolVersion, logon.HeartbeatIntervalInSeconds) == (8, 10)
            assert "pw" not in repr(client.link) + repr(vars(client.link)) + repr(logon)
        assert await server.until(Logoff)
        assert client.states[1:] == []  # a close of ours is no news
        assert client.task.done()


async def test_sends_at_once_in_order_and_refuses_when_down():
    async with FakeServer() as server, Client(server.port) as client:
        with pytest.raises(ConnectionLost, match="is down"):
            client.link.send(CancelOrder())
        await client.link.ready(5)
        client.link.send(CancelOrder(ClientOrderID="1"), CancelOrder(ClientOrderID="2"))
        client.link.send(CancelOrder(ClientOrderID="3"))
        while len(found := await server.until(CancelOrder)) < 3:
            server.changed.clear()
            await server.changed.wait()
        assert [m.ClientOrderID for m in found] == ["1", "2", "3"]
        with pytest.raises(UsageError):
            client.link.send(CancelOrder(ClientOrderID="4"), CancelOrder(ClientOrderID="x" * 99))
        client.link.send(Heartbeat(NumDroppedMessages=9))
        await server.until(Heartbeat)
        assert len(await server.until(CancelOrder)) == 3


async def test_prices_arrive_as_rows_with_their_arrival():
    async with FakeServer() as server, Client(server.port, symbols={5: 1}) as client:
        await client.link.ready(5)
        server.send(MarketDataUpdateTradeV2(SymbolID=5, Price=10.25, Volume=2.0), OrderUpdate(ClientOrderID="a"))
        await client.until(lambda: len(client.received) > 1)
        rows, update = client.received
        assert isinstance(rows, np.ndarray)
        assert (rows["price"][0], rows["symbol"][0]) == (10.25, 1)
        assert rows["recv_ns"][0] == client.received_ns
        assert update == OrderUpdate(ClientOrderID="a")
        assert client.link.arrived_ns > 0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def test_nobody_listening():
    async with Client(free_port()) as client:
        with pytest.raises(ConnectionLost, match=r"nothing listens at .*: start Sierra Chart"):
            await client.link.ready(0.3)
        assert client.link.generation > 1
        assert [up for up, _ in client.states] == [False]


async def test_a_mute_server():
    async with FakeServer(mute=True) as server, Client(server.port, clock=FastClock(20)) as client:
        await client.until(lambda: client.states)
        assert "took the connection but has not answered the request for binary encoding for 5 s" in client.states[0][1]


async def test_a_refused_logon_is_tried_again():
    async with FakeServer(LogonResponse(Result=2, ResultText="bad password")) as server, Client(server.port) as client:
        await client.until(lambda: client.states)
        [(up, text)] = client.states
        assert not up
        assert text.startswith("the server refused the logon: bad password; it is tried again, check MIA_DTC_USERNAME")
        server.logon = LogonResponse()
        await client.link.ready(5)
        assert server.connections > 1


async def test_a_logon_refused_for_good_ends_the_link():
    async with FakeServer(LogonResponse(Result=3, ResultText="no")) as server, Client(server.port) as client:
        with pytest.raises(LogonRefused, match="for good: no"):
            await client.task
        assert server.connections == 1
        assert client.states[-1][0] is False


async def test_a_lost_connection_is_renewed_with_a_new_generation():
    async with FakeServer() as server, Client(server.port) as client:
        for generation in (1, 2, 3):
            await client.link.ready(5)
            assert client.link.generation == generation
            server.drop()
            await client.until(lambda: not client.link.up)
            with pytest.raises(ConnectionLost):
                client.link.send(CancelOrder())
        await client.link.ready(5)
        assert [up for up, _ in client.states] == [True, False] * 3 + [True]
        assert client.states[1][1] == "the connection ended"


async def test_nothing_can_be_sent_from_the_moment_the_connection_is_known_to_be_lost():
    tried = []

    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)

        def on_state(up, text):
            try:
                client.link.send(CancelOrder())
            except ConnectionLost as error:
                tried.append((up, str(error)))
            client.on_state(up, text)

        client.link._on_state = on_state
        server.send(Logoff(Reason="night"))
        await client.until(lambda: tried)
        assert tried[0] == (False, f"the test link to {client.link.address} is down: the server logged us off: night")


async def test_silence_is_noticed_and_ended():
    async with FakeServer() as server, Client(server.port, clock=FastClock(40), heartbeat_interval_s=5) as client:
        await client.link.ready(5)
        await client.until(lambda: (False, client.states[-1][1]) in client.states)
        assert "the server has been silent for" in client.states[-1][1]
        assert await server.until(Heartbeat)


async def test_a_peer_that_speaks_something_else():
    async def speak(reader, writer):
        await reader.read(100)
        writer.write(b"\x00\x00 what?")
        await reader.read(100)
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server, Client(server.sockets[0].getsockname()[1]) as client:
        await client.until(lambda: client.states)
        assert "does not speak binary DTC" in client.states[0][1]


# ------------------------------------------------------------------------------------------------- sent elsewhere


def sent_to(address):
    return LogonResponse(Result=4, ReconnectAddress=address)


async def test_a_server_that_sends_us_on_is_followed_and_called_first_the_next_time():
    async with FakeServer() as second, FakeServer() as first, Client(first.port) as client:
        first.logon = sent_to(f"127.0.0.1:{second.port}")
        await client.link.ready(5)
        assert client.link.address == f"127.0.0.1:{second.port}"
        assert client.states == [(True, f"logged on to fake at 127.0.0.1:{second.port}")]
        second.drop()
        await client.until(lambda: not client.link.up)
        await client.link.ready(5)
        assert (first.connections, second.connections) == (2, 2)


async def test_servers_that_send_us_round_and_round_are_given_up_and_tried_again_later():
    async with FakeServer() as first, FakeServer() as second, Client(first.port) as client:
        first.logon, second.logon = sent_to(f"localhost:{second.port}"), sent_to(f"127.0.0.1:{first.port}")
        await client.until(lambda: client.states)
        assert first.connections + second.connections == MAX_HOPS + 1
        assert client.states[0][1] == (
            f"the server at 127.0.0.1:{first.port} sent us on {MAX_HOPS + 1} times, at last to "
            f"localhost:{second.port}, and none took the logon"
        )
        second.logon = LogonResponse()
        await client.link.ready(5)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("10.1.2.3:11099", "and the password does not go there unencrypted: set dtc.tls, or dtc.host and dtc.port"),
        ("evil.example.net", "and the password does not go there unencrypted"),
        ("", "but '' is no address: set dtc.host and dtc.port"),
        ("joe:pw@127.0.0.1:1", "is no address"),
        ("127.0.0.1:99999", "set dtc.host and dtc.port"),
    ],
)
async def test_a_password_is_not_taken_anywhere_in_the_clear(address, says):
    async with FakeServer(sent_to(address)) as server, Client(server.port, password=SecretStr("secret")) as client:
        with pytest.raises(LogonRefused) as refusal:
            await client.task
        assert says in str(refusal.value)
        assert server.connections == 1
        assert client.states == [(False, str(refusal.value))]


@pytest.mark.parametrize(
    ("address", "there"),
    [
        ("a.b:7", ("a.b", 7)),
        ("a.b", ("a.b", 11099)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("[::1]:5", ("::1", 5)),
        (" a.b:7 ", ("a.b", 7)),
    ],
)
def test_reconnect_addresses_are_read(address, there):
    assert Endpoint("x", 11099).at(address) == there


@pytest.mark.parametrize("address", ["", ":7", "a b:7", "a/b", "a:b", "u@a:7", "a:70000", "[::1", "a?b", "a#b"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError):  # noqa: PT011  # whoever finds it
        Endpoint("x", 11099).at(address)


async def test_credentials_reach_no_log_and_no_text(caplog):
    caplog.set_level(0)
    asyncio.get_running_loop().set_debug(True)
    secrets = {"username": SecretStr("trader-joe"), "password": SecretStr("correct-horse")}
    echo = "trader-joe/correct-horse is unknown"
    async with FakeServer(LogonResponse(Result=2, ResultText=echo)) as server:
        async with Client(server.port, **secrets) as client:
            await client.until(lambda: client.states)
            server.logon = LogonResponse()
            await client.link.ready(5)
            server.send(Logoff(Reason=echo))
            await client.until(lambda: len(client.states) > 2)
        assert any(message.Password == "correct-horse" for message in server.got if isinstance(message, LogonRequest))
    told = caplog.text + repr(client.states) + repr(client.link) + repr(vars(client.link))
    assert "trader-joe" not in told
    assert "correct-horse" not in told
    with pytest.raises(UsageError, match=r"LogonRequest\.Password can't be sent: it has 40 bytes") as refusal:
        Client(1, password=SecretStr("correct-horse" * 3 + "!"))
    assert "correct-horse" not in str(refusal.value)


async def test_a_host_that_is_not_known_is_said():
    async with Client(1, host="no-such-host.invalid") as client:
        await client.until(lambda: client.states)
        assert client.states[0][1].startswith("the host no-such-host.invalid is not known (")


# ----------------------------------------------------------------------------------------------------------- queries


def orders(request, n=3):
    return [
        OrderUpdate(RequestID=request.RequestID, TotalNumMessages=n, MessageNumber=i + 1, ClientOrderID=f"o{i}")
        for i in range(n)
    ]


async def test_a_batch_is_gathered_and_unsolicited_messages_pass_by():
    stranger = OrderUpdate(ClientOrderID="unsolicited", OrderUpdateReason=4)

    def interleaved(request):
        first, *rest = orders(request)
        return [first, stranger, PositionUpdate(Unsolicited=1), *rest]

    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = interleaved
        await client.link.ready(5)
        answer = await client.link.request(OpenOrdersRequest(RequestAllOrders=1))
        assert [m.ClientOrderID for m in answer] == ["o0", "o1", "o2"]
        assert client.received == [stranger, PositionUpdate(Unsolicited=1)]
        assert server.got[-1].RequestID > 1000


async def test_empty_batches_and_answers_without_request_id():
    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: [OrderUpdate(RequestID=r.RequestID, NoOrders=1)]
        server.answers[CurrentPositionsRequest] = lambda r: [PositionUpdate(RequestID=r.RequestID, NoPositions=1)]
        server.answers[TradeAccountsRequest] = lambda _: [
            TradeAccountResponse(TotalNumberMessages=2, MessageNumber=i, TradeAccount=f"Sim{i}") for i in (1, 2)
        ]
        await client.link.ready(5)
        assert await client.link.request(OpenOrdersRequest()) == []
        assert await client.link.request(CurrentPositionsRequest()) == []
        accounts = await client.link.request(TradeAccountsRequest())
        assert [a.TradeAccount for a in accounts] == ["Sim1", "Sim2"]


BATCHES = [
    (OpenOrdersRequest, OrderUpdate, "TotalNumMessages", OpenOrdersReject, {"NoOrders": 1}),
    (HistoricalOrderFillsRequest, HistoricalOrderFillResponse, "TotalNumberMessages", HistoricalOrderFillsReject,
     {"NoOrderFills": 1}),
    (CurrentPositionsRequest, PositionUpdate, "TotalNumberMessages", CurrentPositionsReject, {"NoPositions": 1}),
    (TradeAccountsRequest, TradeAccountResponse, "TotalNumberMessages", None, {"TotalNumberMessages": 1}),
    (AccountBalanceRequest, AccountBalanceUpdate, "TotalNumberMessages", AccountBalanceReject,
     {"NoAccountBalances": 1}),
    (SecurityDefinitionForSymbolRequest, SecurityDefinitionResponse, "", SecurityDefinitionReject,
     {"IsFinalMessage": 1}),
]  # fmt: skip


def numbered(answer, total, request_id, count=3):
    """A whole answer of `count` messages."""
    name = "Symbol" if not total else "TradeAccount"
    for i in range(1, count + 1):
        numbers = {total: count, "MessageNumber": i} if total else {"IsFinalMessage": int(i == count)}
        yield answer(RequestID=request_id, **numbers, **{name: f"n{i}"})


@pytest.mark.parametrize(("request_", "answer", "total", "reject", "nothing"), BATCHES)
async def test_every_query_is_answered_whole_empty_refused_late_and_among_other_news(
    request_, answer, total, reject, nothing
):
    news = [OrderUpdate(ClientOrderID="news"), PositionUpdate(Unsolicited=1, Symbol="news"), OrderUpdate(), Heartbeat()]

    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)
        del client.received[:]

        def among_news(request):
            first, second, last = numbered(answer, total, request.RequestID)
            return [news[0], first, news[1], second, news[2], last, news[3]]

        server.answers[request_] = among_news
        assert len(await client.link.request(request_())) == 3
        await client.until(lambda: len(client.received) == 3)
        assert client.received == news[:3]  # a heartbeat is no news
        server.answers[request_] = lambda request: [answer(RequestID=request.RequestID, **nothing)]
        assert await client.link.request(request_()) == []
        if reject is not None:
            server.answers[request_] = lambda request: [reject(RequestID=request.RequestID, RejectText="no")]
            with pytest.raises(RequestRefused, match=f"{request_.__name__}: no"):
                await client.link.request(request_())
        server.answers[request_] = lambda request: list(numbered(answer, total, request.RequestID))[:2]
        with pytest.raises(RequestTimeout, match=r"within 0.05 s \(2 messages"):
            await client.link.request(request_(), timeout_s=0.05)
        assert client.received == news[:3]


async def test_queries_under_way_together_do_not_mix():
    held = []

    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: held.append(r) or []
        server.answers[AccountBalanceRequest] = lambda r: [
            AccountBalanceUpdate(RequestID=r.RequestID, CashBalance=7.0),
            *[message for request in reversed(held) for message in orders(request, 1 + held.index(request))],
        ]
        await client.link.ready(5)
        answers = await asyncio.gather(
            client.link.request(OpenOrdersRequest()),
            client.link.request(OpenOrdersRequest()),
            client.link.request(AccountBalanceRequest()),
        )
        assert [len(answer) for answer in answers] == [1, 2, 1]


ASKED_TOGETHER = [OpenOrdersRequest, HistoricalOrderFillsRequest, CurrentPositionsRequest, AccountBalanceRequest]


@given(st.permutations([number for number in range(4) for _ in range(3)]), st.booleans())
@settings(max_examples=25)
def test_answers_that_come_interleaved_are_told_apart(order, without_ids):
    """By their RequestID; where a server leaves it out, by their kind, as one query of each is under way."""
    kinds = [(request, answer, total) for request, answer, total, *_ in BATCHES if request in ASKED_TOGETHER]
    news = [OrderUpdate(ClientOrderID="n", OrderUpdateReason=4), PositionUpdate(Unsolicited=1), OrderUpdate()]

    async def scenario():
        async with FakeServer() as server, Client(server.port) as client:
            asked = {}

            def answer_all(request):
                asked[type(request)] = 0 if without_ids else request.RequestID
                if len(asked) < len(kinds):
                    return []
                parts = [list(numbered(answer, total, asked[kind])) for kind, answer, total in kinds]
                for part in parts[0]:
                    part.OrderUpdateReason = 1
                return [*news, *[parts[number].pop(0) for number in order], *news]

            server.answers = dict.fromkeys(ASKED_TOGETHER, answer_all)
            await client.link.ready(5)
            answers = await asyncio.gather(*[client.link.request(kind()) for kind, *_ in kinds])
            await client.until(lambda: len(client.received) == 2 * len(news))
            assert client.received == news * 2
            for (_, answer, _), said in zip(kinds, answers, strict=True):
                assert [(type(message), message.TradeAccount) for message in said] == [
                    (answer, f"n{i}") for i in (1, 2, 3)
                ]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "news",
    [
        OrderUpdate(ClientOrderID="a"),
        OrderUpdate(ClientOrderID="a", TotalNumMessages=1, MessageNumber=1),
        OrderUpdate(ClientOrderID="a", TotalNumMessages=1, MessageNumber=1, OrderUpdateReason=4),
        OrderUpdate(ClientOrderID="a", OrderUpdateReason=1),
        PositionUpdate(Symbol="ES", Quantity=1.0),
        PositionUpdate(Symbol="ES", Quantity=1.0, Unsolicited=1, TotalNumberMessages=1, MessageNumber=1),
        AccountBalanceUpdate(TradeAccount="Sim1"),
    ],
)
async def test_what_does_not_show_that_it_is_an_answer_is_news(news):
    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)
        waiting = [asyncio.create_task(client.link.request(request())) for request in ASKED_TOGETHER]
        await server.until(AccountBalanceRequest)
        server.send(news)
        await client.until(lambda: client.received)
        assert client.received == [news]
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()


@pytest.mark.parametrize("queries", [0, 1, 2])
async def test_an_answer_without_request_id_is_taken_only_for_the_single_query_of_its_kind(queries):
    answer = [
        OrderUpdate(OrderUpdateReason=1, TotalNumMessages=2, MessageNumber=i, ClientOrderID=f"o{i}") for i in (1, 2)
    ]
    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)
        waiting = [asyncio.create_task(client.link.request(OpenOrdersRequest(), 0.1)) for _ in range(queries)]
        other = asyncio.create_task(client.link.request(CurrentPositionsRequest(), 0.1))
        await server.until(CurrentPositionsRequest)
        server.send(*answer)
        said = await asyncio.gather(*waiting, return_exceptions=True)
        if queries == 1:
            assert said == [answer]
            assert client.received == []
        else:
            await client.until(lambda: len(client.received) == 2)
            assert all(isinstance(error, RequestTimeout) for error in said)
        with pytest.raises(RequestTimeout):
            await other


async def test_a_server_that_marks_its_answers_has_none_without_a_mark():
    stray = OrderUpdate(OrderUpdateReason=1, TotalNumMessages=1, MessageNumber=1, ClientOrderID="stray")
    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: [stray, *orders(r)]
        await client.link.ready(5)
        assert await client.link.request(OpenOrdersRequest()) == [stray]  # the first time there is no telling
        assert [m.ClientOrderID for m in await client.link.request(OpenOrdersRequest())] == ["o0", "o1", "o2"]
        assert client.received == [stray]


async def test_a_fill_is_no_part_of_an_answer_that_is_no_longer_awaited():
    """A server may leave the RequestID of a query in the updates that follow."""
    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: [OrderUpdate(RequestID=r.RequestID, NoOrders=1)]
        await client.link.ready(5)
        assert await client.link.request(OpenOrdersRequest()) == []
        request_id = server.got[-1].RequestID
        fill = OrderUpdate(RequestID=request_id, OrderUpdateReason=4, ClientOrderID="a")
        position = PositionUpdate(RequestID=request_id, Unsolicited=1, Quantity=1.0)
        server.send(OrderUpdate(RequestID=request_id, OrderUpdateReason=1), fill, position)
        await client.until(lambda: len(client.received) == 2)
        assert client.received == [fill, position]


async def test_a_refused_query():
    async with FakeServer() as server, Client(server.port) as client:
        server.answers[CurrentPositionsRequest] = lambda r: [
            CurrentPositionsReject(RequestID=r.RequestID, RejectText="no such account")
        ]
        await client.link.ready(5)
        with pytest.raises(RequestRefused, match="refused CurrentPositionsRequest: no such account"):
            await client.link.request(CurrentPositionsRequest())


async def test_a_query_that_is_not_answered_in_time_and_its_late_answer():
    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: orders(r)[:2]
        await client.link.ready(5)
        with pytest.raises(RequestTimeout, match=r"OpenOrdersRequest within 0.05 s \(2 messages"):
            await client.link.request(OpenOrdersRequest(), timeout_s=0.05)
        server.send(orders(server.got[-1])[2], OrderUpdate(ClientOrderID="fresh"))
        await client.until(lambda: len(client.received) > 0)
        assert client.received == [OrderUpdate(ClientOrderID="fresh")]


async def test_a_query_fails_with_its_connection():
    async with FakeServer() as server, Client(server.port) as client:
        with pytest.raises(ConnectionLost):
            await client.link.request(OpenOrdersRequest())
        await client.link.ready(5)
        asked = asyncio.create_task(client.link.request(OpenOrdersRequest()))
        await server.until(OpenOrdersRequest)
        server.drop()
        with pytest.raises(ConnectionLost, match="OpenOrdersRequest has no answer"):
            await asked


async def test_a_request_sent_without_waiting_is_answered_as_any_message():
    async with FakeServer() as server, Client(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: [OrderUpdate(RequestID=r.RequestID, NoOrders=1)]
        await client.link.ready(5)
        assert await client.link.request(OpenOrdersRequest()) == []
        client.link.send(OpenOrdersRequest(RequestID=1))
        await client.until(lambda: len(client.received) > 0)
        assert client.received == [OrderUpdate(RequestID=1, NoOrders=1)]


async def test_what_is_no_query_is_refused():
    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)
        with pytest.raises(UsageError, match="CancelOrder is no query"):
            await client.link.request(CancelOrder())


# -------------------------------------------------------------------------------------------------- bugs and pressure


class BugError(Exception):
    """Not one of the daemon's own errors."""


def breaks_on(link, kind, on_messages):
    """Has the link's handler of messages fail on those of a type."""

    def handle(segments, received_ns):
        if any(isinstance(segment, kind) for segment in segments):
            raise BugError("a value\nthat nobody expected")
        on_messages(segments, received_ns)

    link._on_messages = handle


async def test_a_bug_in_a_handler_drops_the_connection_and_makes_another():
    async with FakeServer() as server, Client(server.port) as client:
        breaks_on(client.link, OrderUpdate, client.on_messages)
        for generation in (1, 2, 3):
            await client.link.ready(5)
            assert client.link.generation == generation
            waiting = asyncio.create_task(client.link.request(OpenOrdersRequest()))
            await server.until(OpenOrdersRequest)
            server.got.clear()
            server.send(OrderUpdate(ClientOrderID="odd"))
            await client.until(lambda: not client.link.up)
            with pytest.raises(ConnectionLost, match="OpenOrdersRequest has no answer: handling OrderUpdate failed"):
                await waiting
        await client.link.ready(5)
        server.send(PositionUpdate(Symbol="fine"))
        await client.until(lambda: client.received)
        assert client.received == [PositionUpdate(Symbol="fine")]
    assert [up for up, _ in client.states] == [True, False] * 3 + [True]
    assert client.states[1][1] == (
        "handling OrderUpdate failed with BugError: a value that nobody expected; "
        "the connection is dropped and made again, and the log has the traceback"
    )


async def test_a_bug_is_logged_and_names_what_was_being_handled(caplog):
    async with FakeServer() as server, Client(server.port, symbols={5: 1}) as client:
        breaks_on(client.link, object, client.on_messages)
        await client.link.ready(5)
        server.send(MarketDataUpdateTradeV2(SymbolID=5, Price=1.0, Volume=1.0), OrderUpdate(), OrderUpdate())
        await client.until(lambda: not client.link.up)
        assert client.states[-1][1].startswith("handling prices or OrderUpdate failed with BugError: ")
    [record] = caplog.records
    assert type(record.exc_info[1]) is BugError
    assert "in handle\n" in caplog.text  # the place


@pytest.mark.parametrize("broken_on", [True, False])
async def test_a_bug_in_the_handler_of_the_state_does_not_end_the_link(caplog, broken_on):
    calls = []

    def on_state(up, text):
        calls.append((up, text))
        if up is broken_on and len(calls) <= 2:
            raise BugError
        client.on_state(up, text)

    async with FakeServer() as server, Client(server.port) as client:
        client.link._on_state = on_state
        await client.link.ready(5)
        server.drop()
        await client.until(lambda: len(calls) > 2 and client.link.up)
        assert not client.task.done()
    assert "BugError" in caplog.text
    if broken_on:
        assert calls[1][1].startswith("handling LogonResponse failed with BugError; ")


async def test_a_bug_while_bytes_are_read_or_the_clock_ticks_drops_the_connection_too(monkeypatch, caplog):
    def fails(*_):
        raise BugError

    async with FakeServer() as server, Client(server.port, heartbeat_interval_s=5) as client:
        for method in ("receive", "tick"):
            await client.link.ready(5)
            with monkeypatch.context() as patched:
                patched.setattr(DtcSession, method, fails)
                server.send(Heartbeat())
                await client.until(lambda: not client.link.up)
            assert client.states[-1][1].startswith("reading from the connection failed with BugError; ")
        await client.link.ready(5)
    assert len(caplog.records) == 2


async def test_the_delay_grows_while_the_handler_fails_on_every_connection(monkeypatch):
    async with FakeServer() as server:
        client = Client(server.port, reconnect_first_delay_s=0.5, reconnect_max_delay_s=4.0)
        breaks_on(client.link, OrderUpdate, client.on_messages)
        delays = []

        async def pause(seconds):
            delays.append(seconds)
            if len(delays) == 5:
                client.link.close()

        def answer(message):
            FakeServer.answer(server, message)
            if isinstance(message, LogonRequest):
                server.send(OrderUpdate())

        monkeypatch.setattr(client.link, "_pause", pause)
        monkeypatch.setattr(server, "answer", answer)
        await client.link.run()
        assert all(cap / 2 <= delay <= cap for delay, cap in zip(delays, [0.5, 1.0, 2.0, 4.0, 4.0], strict=True))
        assert [up for up, _ in client.states][:4] == [True, False, True, False]


# ------------------------------------------------------------------------------------------ frames that can't be read

DECIMAL_COMMA = b'{"Type":301,"ClientOrderID":"a","Price1":6000,25}\0'
CUT_POSITION = b'{"Type":306,"Symbol":"ES\0'


def speaks_json(port, **settings):
    return Client(port, encoding="json", encoding_is_preset=True, **settings)


async def test_a_frame_that_cannot_be_read_is_reported_once_per_connection_and_kind():
    async with FakeServer(codec=JSON) as server, speaks_json(server.port, password=SecretStr("hunter2")) as client:
        for generation in (1, 2):
            await client.link.ready(5)
            server.send(*[DECIMAL_COMMA] * 3, CUT_POSITION, b"\0", b'{"Type":306,"Symbol":{"hunter2":1}}\0')
            server.send(b"hunter2 is no password\0", b'{"Type":107,"Price":6000,25}\0', OrderUpdate(ClientOrderID="b"))
            await client.until(lambda g=generation: len(client.received) == g)
            assert client.link.decoder.unreadable == 7
            assert len(client.skipped) == 6 * generation  # prices are about no order
            assert [kind for _, kind in client.notices] == ["Skipped"] * 5 * generation
            server.drop()
            await client.until(lambda: not client.link.up)
    assert client.notices[:5] == client.notices[5:]
    texts = [text for text, _ in client.notices[:5]]
    assert texts[0].startswith("a frame from the server can't be read and is skipped: OrderUpdate is no JSON: ")
    assert "6000,25}'" in texts[0]
    assert "hunter2" not in "".join(texts + client.skipped)


@pytest.mark.parametrize("lost", [DECIMAL_COMMA, b"[]\0"])
async def test_an_answer_of_which_a_part_cannot_be_read_is_not_complete(lost):
    async with FakeServer(codec=JSON) as server, speaks_json(server.port) as client:
        server.answers[OpenOrdersRequest] = lambda r: [orders(r)[0], lost, orders(r)[2]]
        server.answers[CurrentPositionsRequest] = lambda r: [
            DECIMAL_COMMA,
            PositionUpdate(RequestID=r.RequestID, NoPositions=1),
        ]
        await client.link.ready(5)
        with pytest.raises(RequestTimeout, match="the answer to OpenOrdersRequest is not complete: a frame"):
            await client.link.request(OpenOrdersRequest())
        assert await client.link.request(CurrentPositionsRequest()) == []  # an order's frame was no part of it
        assert len(client.skipped) == 2


async def test_a_server_that_stopped_reading_is_left():
    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)
        server.writer.transport.pause_reading()

        def flood():
            while True:
                client.link.send(*[CancelOrder()] * 1000)

        with pytest.raises(ConnectionLost, match="has stopped reading"):
            flood()
        assert not client.link.up
        assert client.states[-1] == (False, f"the server at {client.link.address} has stopped reading: " + GIVEN_UP)
        await client.link.ready(5)
        assert [up for up, _ in client.states] == [True, False, True]


async def test_reading_can_be_held_back():
    async with FakeServer() as server, Client(server.port) as client:
        await client.link.ready(5)
        client.link.pause_reading()
        server.send(OrderUpdate(ClientOrderID="later"))
        await asyncio.sleep(0.05)
        assert client.received == []
        client.link.resume_reading()
        await client.until(lambda: client.received)


async def test_cancelling_run_logs_off():
    async with FakeServer() as server:
        client = Client(server.port)
        task = asyncio.create_task(client.link.run())
        await client.link.ready(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await server.until(Logoff)
        assert not client.link.up


def test_a_refused_subscription_says_what_to_do():
    text = str(market_data_refused(MarketDataReject(RejectText="not allowed"), "ESZ26_FUT_CME"))
    assert text.startswith('this Sierra Chart will not serve ESZ26_FUT_CME over DTC (not allowed); set feed.source = "')
    assert "the depth of X" in str(market_data_refused(MarketDepthReject(), "X"))


async def test_a_connection_that_had_lived_long_is_renewed_soon(monkeypatch):
    async with FakeServer() as server:
        client = Client(server.port, clock=FastClock(10_000), reconnect_first_delay_s=0.5, reconnect_max_delay_s=4.0)
        delays = []

        async def pause(seconds):
            delays.append(seconds)

        monkeypatch.setattr(client.link, "_pause", pause)
        async with client:
            for _ in range(5):
                await client.link.ready(5)
                await asyncio.sleep(0.002)  # 20 s on the link's stopwatch
                server.drop()
                await client.until(lambda: not client.link.up)
        assert len(delays) >= 4
        assert max(delays) <= 0.5


async def test_the_delay_grows_to_its_cap_with_jitter(monkeypatch):
    client = Client(free_port(), reconnect_first_delay_s=0.5, reconnect_max_delay_s=4.0)
    delays = []

    async def pause(seconds):
        delays.append(seconds)
        if len(delays) == 8:
            client.link.close()

    monkeypatch.setattr(client.link, "_pause", pause)
    await client.link.run()
    caps = [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    assert all(cap / 2 <= delay <= cap for delay, cap in zip(delays, caps, strict=True))
    assert len({round(delay, 6) for delay in delays}) == 8


@pytest.mark.parametrize(
    "scenario",
    [
        test_logs_on_and_off,
        test_sends_at_once_in_order_and_refuses_when_down,
        test_prices_arrive_as_rows_with_their_arrival,
        test_nobody_listening,
        test_a_lost_connection_is_renewed_with_a_new_generation,
        test_nothing_can_be_sent_from_the_moment_the_connection_is_known_to_be_lost,
        test_silence_is_noticed_and_ended,
        test_a_batch_is_gathered_and_unsolicited_messages_pass_by,
        test_a_query_fails_with_its_connection,
        test_a_bug_in_a_handler_drops_the_connection_and_makes_another,
        test_a_frame_that_cannot_be_read_is_reported_once_per_connection_and_kind,
        test_a_server_that_marks_its_answers_has_none_without_a_mark,
        test_a_server_that_stopped_reading_is_left,
        test_reading_can_be_held_back,
        test_cancelling_run_logs_off,
    ],
)
def test_the_same_on_uvloop(scenario):
    async def bounded():
        async with asyncio.timeout(30):
            await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())
