"""A link trades against the simulator over each encoding, agreed on or preset, across real TCP."""

import asyncio
import random

import numpy as np
import pytest

from mia_daemon.clock import WallClock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import BINARY, BY_NAME, CODECS, JSON
from mia_daemon.dtc.enums import EncodingEnum
from mia_daemon.link.client import DtcClient
from mia_daemon.records import EventKind
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.client_stream import ClientStream

SYMBOL = "ESZ26_FUT_CME"
FILLED = 7


class Trader:
    """A link and what it brought."""

    def __init__(self, port, **settings):
        self.rows, self.messages, self.said = [], [], []
        self.link = DtcClient(
            DtcSettings(port=port, **settings),
            WallClock(),
            random.Random(1),
            name="orders",
            on_messages=self._take,
            on_state=lambda up, why: self.said.append((up, why)),
            symbols={1: 0},
        )
        self.task = asyncio.create_task(self.link.run())

    def _take(self, segments, _received_ns):
        for segment in segments:
            (self.rows if isinstance(segment, np.ndarray) else self.messages).append(segment)

    def events(self):
        return np.concatenate(self.rows) if self.rows else np.empty(0)

    def updates(self, client_id):
        return [m for m in self.messages if isinstance(m, dtc.OrderUpdate) and m.ClientOrderID == client_id]

    async def end(self):
        self.link.close()
        await self.task


def kinds(events):
    return {EventKind(kind) for kind in set(events["kind"].tolist())} if len(events) else set()


async def trade(trader, eventually):
    """Prices arrive, an order is filled, and queries are answered."""
    link = trader.link
    await link.ready(10)
    link.send(
        dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL),
        dtc.MarketDepthRequest(SymbolID=1, Symbol=SYMBOL, NumLevels=10),
    )
    await eventually(lambda: {EventKind.TRADE, EventKind.QUOTE, EventKind.DEPTH} <= kinds(trader.events()))
    link.send(
        dtc.SubmitNewSingleOrder(
            Symbol=SYMBOL, TradeAccount="Sim1", ClientOrderID="a-1", OrderType=1, BuySell=1, Quantity=1.0, TimeInForce=1
        )
    )
    await eventually(lambda: trader.updates("a-1") and trader.updates("a-1")[-1].OrderStatus == FILLED)
    fill = trader.updates("a-1")[-1]
    [position] = await link.request(dtc.CurrentPositionsRequest(TradeAccount="Sim1"))
    assert (position.Quantity, position.Symbol, position.AveragePrice) == (1.0, SYMBOL, fill.AverageFillPrice)
    assert await link.request(dtc.OpenOrdersRequest(TradeAccount="Sim1")) == []
    events = trader.events()
    last = events[events["kind"] == EventKind.QUOTE][-1]
    assert last["ask"] - last["bid"] >= 0.25
    assert abs(fill.AverageFillPrice - last["ask"]) < 20
    assert trader.link.decoder.malformed == trader.link.decoder.unknown_types == 0


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", BY_NAME)
async def test_a_link_trades_over_each_encoding(serving, eventually, name, generation):
    async with serving(speed=20.0, generation=generation) as running:
        trader = Trader(running.port, encoding=name)
        await trade(trader, eventually)
        [connection] = running.server._connections
        assert connection.session.codec is BY_NAME[name]
        await trader.end()
        await eventually(lambda: running.server.dropped)
        assert running.server.dropped == ["the client logged off: the client stops"]


@pytest.mark.parametrize("name", BY_NAME)
async def test_a_link_trades_with_a_server_that_is_preset(serving, eventually, name):
    manners = Manners(encoding=BY_NAME[name].encoding)
    async with serving(manners, speed=20.0) as running:
        trader = Trader(running.port, encoding=name, encoding_is_preset=True)
        await trade(trader, eventually)
        await trader.end()


async def test_a_server_recognises_the_encoding_of_the_first_bytes(serving, eventually):
    async with serving(speed=20.0) as running:
        for name in ("binary", "binary_vls", "json", "json_compact"):
            trader = Trader(running.port, encoding=name, encoding_is_preset=True)
            await trader.link.ready(10)
            [connection] = running.server._connections
            assert connection.session.codec is (JSON if name == "json_compact" else BY_NAME[name])
            await trader.end()
            await eventually(lambda: not running.server._connections)


@pytest.mark.parametrize("offered", CODECS.values(), ids=BY_NAME)
async def test_a_server_insists_on_its_own_encoding(serving, eventually, offered):
    async with serving(Manners(encoding=offered.encoding), speed=20.0) as running:
        trader = Trader(running.port, encoding="binary" if offered is JSON else "json")
        await trade(trader, eventually)
        [connection] = running.server._connections
        assert connection.session.codec is offered
        await trader.end()


async def test_clients_of_all_encodings_hear_the_same_market(serving, eventually):
    async with serving(speed=20.0) as running:
        traders = [Trader(running.port, encoding=name) for name in BY_NAME]
        for trader in traders:
            await trader.link.ready(10)
            trader.link.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL))
        columns = ["ts_ns", "kind", "side", "price", "size", "bid", "ask"]
        await eventually(lambda: all(len(trader.events()) > 200 for trader in traders))
        for trader in traders:
            await trader.end()
        first = max(trader.events()["ts_ns"][0] for trader in traders) + 10**9
        last = min(trader.events()["ts_ns"][-1] for trader in traders) - 10**9
        heard = []
        for trader in traders:
            events = trader.events()
            heard.append(
                events[(events["ts_ns"] > first) & (events["ts_ns"] < last) & (events["kind"] == EventKind.TRADE)]
            )
        assert len(heard[0]) > 5
        for other in heard[1:]:
            for column in columns:
                assert np.array_equal(heard[0][column], other[column], equal_nan=True), column


async def test_the_answer_to_an_encoding_request_may_be_overtaken_by_the_logon(serving):
    """A client that does not wait: request, and logon in the new encoding, in one segment."""
    async with serving() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        logon = dtc.LogonRequest(HeartbeatIntervalInSeconds=10)
        writer.write(BINARY.encode(dtc.EncodingRequest(Encoding=EncodingEnum.JSON_ENCODING)) + JSON.encode(logon))
        raw = await reader.readuntil(b"}\0")
        answer = BINARY.encode(dtc.EncodingResponse(Encoding=EncodingEnum.JSON_ENCODING))
        assert raw.startswith(answer)
        assert isinstance(JSON.decode(raw[len(answer) :]), dtc.LogonResponse)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b'{"Type":1}\0{}\0', "a message is an object with a number for its Type"),
        (b'{"Type":1}\0\x10\0', "a message is no JSON"),
        (b"{" + b"x" * (1 << 18) + b"}", "a message of more than"),
    ],
)
async def test_a_client_that_breaks_the_stream_is_told_and_shown_out(serving, eventually, start, says):
    async with serving() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(start)
        rest = await reader.read()
        *_, goodbye = JSON.messages(JSON.reader().feed(rest))
        assert isinstance(goodbye, dtc.Logoff)
        await eventually(lambda: running.server.dropped)
        assert says in running.server.dropped[0]
        writer.close()
        await writer.wait_closed()


def started(codec, *, asks=None, **fields):
    """The server's side of a stream that a client of this encoding begins; `asks` for an encoding first."""
    stream = ClientStream()
    if asks is not None:
        [request] = stream.read(BINARY.encode(dtc.EncodingRequest(Encoding=asks.encoding)))
        stream.agree(request)
    assert [type(m) for m in stream.read(codec.encode(dtc.LogonRequest(**fields)))] == [dtc.LogonRequest]
    return stream


def test_heartbeats_are_compact_in_json_that_nobody_asked_for():
    beat = dtc.Heartbeat(CurrentDateTime=7)
    assert started(JSON).heartbeat(beat) == b'{"Type":3,"F":[0,7]}\0'
    assert started(JSON, asks=JSON).heartbeat(beat) == JSON.encode(beat) == (
        b'{"Type":3,"NumDroppedMessages":0,"CurrentDateTime":7}\0'
    )  # fmt: skip
    assert started(BINARY).heartbeat(beat) == BINARY.encode(beat)


@pytest.mark.parametrize("codec", [BINARY, BY_NAME["binary_vls"], JSON], ids=lambda codec: codec.name)
def test_protocol_buffers_are_refused_by_naming_the_encoding_in_use(codec):
    stream = started(codec)
    answer = stream.agree(dtc.EncodingRequest(Encoding=EncodingEnum.PROTOCOL_BUFFERS))
    assert codec.decode(answer) == dtc.EncodingResponse(Encoding=codec.encoding)
    assert stream.codec is codec
