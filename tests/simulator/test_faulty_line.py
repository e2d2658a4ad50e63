"""What the link and the feed do on a line that goes wrong on purpose, over real TCP."""

import asyncio
import random

import pytest

from mia_daemon.clock import WallClock
from mia_daemon.config import DtcSettings, FaultSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import ConnectionLost, MarketDataRefused
from mia_daemon.feed.dtc_feed import DtcFeed
from mia_daemon.records import EventKind
from mia_daemon.simulator import client_session
from mia_daemon.simulator.faulty_line import FaultyLine

SYMBOL = "ESZ26_FUT_CME"
ROUGH = {"split": True, "coalesce_ms": 5.0, "delay_ms": 10.0, "stall_every_s": 0.3, "stall_s": 0.15}


@pytest.fixture
def quick(monkeypatch):
    """A heartbeat a second, so that silence is noticed after two."""
    monkeypatch.setattr(client_session, "_HEARTBEAT_S", (1, 60))
    return {"heartbeat_interval_s": 1}


# The link


@pytest.mark.parametrize("faults", [{"split": True}, {"coalesce_ms": 30.0}, {"delay_ms": 30.0}, ROUGH])
async def test_pieces_heaps_delays_and_stalls_lose_nothing(serving, calling, eventually, faults):
    async with serving(faults=faults, speed=20) as running, calling(running.port) as caller:
        await caller.link.ready(10)
        caller.link.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL))
        assert await caller.link.request(dtc.OpenOrdersRequest(RequestAllOrders=1)) == []
        await eventually(lambda: sum(map(len_of, caller.received)) > 200)
        assert caller.link.generation == 1
        assert (caller.link.decoder.unknown_types, caller.link.decoder.unknown_symbols) == (0, 0)


def len_of(segment):
    return len(segment) if hasattr(segment, "dtype") else 0


async def test_a_delay_is_as_long_as_is_said(serving, calling):
    async with serving(faults={"delay_ms": 60.0}) as running, calling(running.port) as caller:
        await caller.link.ready(10)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await caller.link.request(dtc.TradeAccountsRequest())
        assert 0.06 <= loop.time() - began < 1.0


async def test_a_server_that_takes_connections_and_says_nothing(serving, calling):
    async with serving(faults={"mute": True}) as running, calling(running.port, connect_timeout_s=0.3) as caller:
        assert "took the connection but has not answered the request for binary encoding for 0.3 s" in (
            await caller.fails()
        )


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"mute_after_s": 0.0}, "though its machine receives what is sent: Sierra Chart hangs, or is stopped"),
        ({"half_open_after_s": 0.0}, "and does not receive what is sent ("),
    ],
)
async def test_a_mute_server_and_a_dead_line_are_told_apart_and_left(serving, calling, quick, fault, says):
    faults = {**fault, "connections": 1}
    async with serving(faults=faults) as running, calling(running.port, **quick) as caller:
        await caller.link.ready(10)
        asked = asyncio.create_task(caller.link.request(dtc.OpenOrdersRequest(RequestAllOrders=1)))
        said = await caller.fails()
        assert said.startswith("the server has been silent for 2 s, ")
        assert says in said
        with pytest.raises(ConnectionLost, match="OpenOrdersRequest has no answer: the server has been silent"):
            await asked
        await caller.link.ready(10)
        assert caller.link.generation == 2
        assert await caller.link.request(dtc.OpenOrdersRequest(RequestAllOrders=1)) == []


async def test_a_reset_in_mid_message_is_a_lost_connection_and_a_new_one(serving, calling):
    faults = {"reset_after_s": 0.0, "connections": 1}
    async with serving(faults=faults) as running, calling(running.port) as caller:
        await caller.link.ready(10)
        with pytest.raises(ConnectionLost, match="TradeAccountsRequest has no answer: the connection ended"):
            await caller.link.request(dtc.TradeAccountsRequest())
        assert not [segment for segment in caller.received if isinstance(segment, dtc.TradeAccountResponse)]
        await caller.link.ready(10)
        assert [one.TradeAccount for one in await caller.link.request(dtc.TradeAccountsRequest())] == ["Sim1"]


# The feed


class Feeding:
    def __init__(self, port, **settings):
        settings = DtcSettings(port=port, reconnect_first_delay_s=0.01).model_copy(update=settings)
        self.alerts = []
        self.feed = DtcFeed(settings, WallClock(), random.Random(1), self.alerts.append, symbol=SYMBOL)
        self.queue = asyncio.Queue(10_000)
        self.task = asyncio.create_task(self.feed.run(self.queue))

    async def until(self, kind):
        async with asyncio.timeout(20):
            while not (kind == (batch := await self.queue.get()).events["kind"]).any():
                pass
        return batch

    async def end(self):
        self.feed.close()
        await self.task


@pytest.mark.parametrize("fault", ["reset_after_s", "mute_after_s", "half_open_after_s"])
async def test_the_feed_marks_the_gap_and_subscribes_anew(serving, quick, fault):
    async with serving(faults={"split": True, "connections": 1}, speed=20) as running:
        feeding = Feeding(running.port, **quick)
        await feeding.until(EventKind.QUOTE)
        (connection,) = running.server._connections
        connection.transport._began_s, connection.transport._faults = None, FaultSettings(**{fault: 0.0})
        connection.transport.logged_on()  # from here on that fault, and no other
        await feeding.until(EventKind.GAP)
        await feeding.until(EventKind.TRADE)
        assert [a.code for a in feeding.alerts] == ["prices_link_up", "prices_link_down", "prices_link_up"]
        await feeding.end()


async def test_sierras_policy_ends_the_feed_with_what_to_do_and_serves_orders_on(serving, calling):
    async with serving(policy="sierra") as running, calling(running.port) as caller:
        feeding = Feeding(running.port)
        with pytest.raises(MarketDataRefused) as refusal:
            await feeding.task
        assert str(refusal.value).startswith(
            "this Sierra Chart will not serve ESZ26_FUT_CME over DTC (Market data request not allowed); "
            'set feed.source = "scid"'
        )
        await caller.link.ready(10)
        assert caller.link.server.MarketDataSupported == 1  # so it says, as Sierra Chart does
        caller.link.send(dtc.SubmitNewSingleOrder(
            Symbol=SYMBOL, TradeAccount="Sim1", ClientOrderID="a", OrderType=1, BuySell=1, Quantity=1.0
        ))  # fmt: skip
        async with asyncio.timeout(10):
            while 7 not in [getattr(one, "OrderStatus", 0) for one in caller.received]:  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.005)


# The line by itself


class Transport:
    """Notes what is written and when."""

    def __init__(self):
        self.written, self.closed = [], False

    def write(self, data):
        self.written.append((asyncio.get_running_loop().time(), data))

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def get_write_buffer_size(self):
        return 0


@pytest.mark.parametrize("seed", range(5))
async def test_splitting_is_reproducible_and_loses_nothing(eventually, seed):
    data = bytes(range(256))
    runs = []
    for _ in range(2):
        transport = Transport()
        line = FaultyLine(transport, FaultSettings(split=True), random.Random(seed))
        for start in range(0, 256, 64):
            line.write(data[start : start + 64])
        line.close()
        await eventually(lambda transport=transport: transport.closed)
        runs.append([piece for _, piece in transport.written])
    assert runs[0] == runs[1]
    assert b"".join(runs[0]) == data
    assert len(runs[0]) > 4


async def test_what_is_held_leaves_in_one_piece_and_counts_as_waiting(eventually):
    transport = Transport()
    line = FaultyLine(transport, FaultSettings(coalesce_ms=20), random.Random(1))
    for number in range(10):
        line.write(bytes([number]))
    assert line.get_write_buffer_size() == 10
    await eventually(lambda: transport.written)
    assert [piece for _, piece in transport.written] == [bytes(range(10))]


async def test_a_stall_holds_what_falls_into_it(eventually):
    transport, loop = Transport(), asyncio.get_running_loop()
    line = FaultyLine(transport, FaultSettings(stall_every_s=0.1, stall_s=0.08), random.Random(1))
    line.logged_on()
    began = loop.time()
    line.write(b"before")
    await asyncio.sleep(0.11)
    line.write(b"in")
    await eventually(lambda: len(transport.written) == 2)
    before, during = (at - began for at, _ in transport.written)
    assert before < 0.1
    assert during >= 0.18
