"""The DTC feed against a server of few words on a real socket: subscriptions, gaps, refusals, silence, lag."""

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S, WallClock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc.binary import decode_frames, encode
from mia_daemon.dtc.messages import (
    UNSET_F32,
    EncodingRequest,
    EncodingResponse,
    LogonRequest,
    LogonResponse,
    MarketDataFeedStatus,
    MarketDataFeedSymbolStatus,
    MarketDataReject,
    MarketDataRequest,
    MarketDataSnapshot,
    MarketDataUpdateBidAskV2,
    MarketDataUpdateTradeCompact,
    MarketDataUpdateTradeV2,
    MarketDepthReject,
    MarketDepthRequest,
    SecurityDefinitionForSymbolRequest,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
)
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import LogonRefused, MarketDataRefused
from mia_daemon.feed.dtc_feed import DtcFeed
from mia_daemon.feed.event_checks import EventLimits
from mia_daemon.records import EventKind, Priority
from mia_daemon.stage import END

SYMBOL = "ESZ26_FUT_CME"
T0_US = 1_700_000_000_000_000


def trade(n, symbol_id=1):
    return MarketDataUpdateTradeV2(SymbolID=symbol_id, Price=6000.0 + n, Volume=1.0, DateTime=T0_US + n, AtBidOrAsk=2)


class Server:
    """Accepts logons, keeps what it is asked, sends what it is told to."""

    def __init__(self):
        self.requests = asyncio.Queue()
        self.definitions = []  # those asked for
        self.writers = []
        self.logon = LogonResponse(ProtocolVersion=8, Result=1, ServerName="stand-in", MarketDepthIsSupported=1)

    async def serve(self, reader, writer):
        self.writers.append(writer)
        frames = FrameReader()
        try:
            while data := await reader.read(65_536):
                for message in decode_frames(frames.feed(data)):
                    if isinstance(message, EncodingRequest):
                        writer.write(encode(EncodingResponse(ProtocolVersion=8, Encoding=0, ProtocolType="DTC")))
                    elif isinstance(message, LogonRequest):
                        writer.write(encode(self.logon))
                    elif isinstance(message, SecurityDefinitionForSymbolRequest):
                        self.definitions.append(message)
                    elif isinstance(message, MarketDataRequest | MarketDepthRequest):
                        self.requests.put_nowait(message)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def send(self, *messages):
        self.writers[-1].write(b"".join(map(encode, messages)))

    async def asked(self, count):
        async with asyncio.timeout(10):
            return [await self.requests.get() for _ in range(count)]


class Running:
    """A feed that runs, its queue, its alerts."""

    def __init__(self, server, feed, queue, alerts, task):
        self.server, self.feed, self.queue, self.alerts, self.task = server, feed, queue, alerts, task

    async def events(self, count):
        """The next batches, until there are `count` events."""
        batches = []
        async with asyncio.timeout(10):
            while sum(len(batch.events) for batch in batches) < count:
                batches.append(await self.queue.get())
        return np.concatenate([batch.events for batch in batches])

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110  what is waited for sets no event
                await asyncio.sleep(0.001)

    def codes(self):
        return [alert.code for alert in self.alerts]


@asynccontextmanager
async def running(room=100, server=None, request_timeout_s=10.0, **options):
    server = server or Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    delays = {"reconnect_first_delay_s": 0.01, "reconnect_max_delay_s": 0.05, "request_timeout_s": request_timeout_s}
    settings = DtcSettings(port=port, **delays)
    alerts = []
    options = {"symbol": SYMBOL, "timer_interval_s": 60.0, **options}
    feed = DtcFeed(settings, WallClock(), random.Random(1), alerts.append, **options)
    queue = asyncio.Queue(room)
    task = asyncio.create_task(feed.run(queue))
    try:
        yield Running(server, feed, queue, alerts, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listening.close()
        for writer in server.writers:
            writer.close()
        await listening.wait_closed()


def on_both_loops(scenario):
    """The scenario as a test on the standard loop."""

    @pytest.mark.parametrize("run_loop", [asyncio.run])
    def test(run_loop):
        run_loop(scenario())

    test.__name__ = scenario.__name__
    return test


@on_both_loops
async def test_subscribes_and_delivers():
    async with running(depth_levels=12) as run:
        quotes, depth = await run.server.asked(2)
        assert (quotes.RequestAction, quotes.SymbolID, quotes.Symbol) == (1, 1, SYMBOL)
        assert (depth.RequestAction, depth.SymbolID, depth.Symbol, depth.NumLevels) == (1, 1, SYMBOL, 12)
        run.server.send(*[trade(n) for n in range(100)])
        events = await run.events(100)
        assert events["kind"].tolist() == [EventKind.TRADE] * 100
        assert events["ts_ns"].tolist() == [(T0_US + n) * 1000 for n in range(100)]
        assert events["price"].tolist() == [6000.0 + n for n in range(100)]
        assert run.codes() == ["prices_link_up"]
        assert run.feed.up


def trade_at(seconds):
    """A trade dated so many seconds from now."""
    now_us = WallClock().now_ns() // 1000
    return MarketDataUpdateTradeV2(
        SymbolID=1, Price=6000.0, Volume=1.0, DateTime=now_us + round(seconds * 1e6), AtBidOrAsk=2
    )


@on_both_loops
async def test_an_event_from_the_future_is_clamped_and_told_and_the_next_one_is_taken_as_it_is():
    async with running(limits=EventLimits(slack_ns=3 * NS_PER_S)) as run:
        await run.server.asked(2)
        run.server.send(trade_at(-0.5))
        await run.events(1)
        run.server.send(trade_at(7200))
        event = (await run.events(1))[0]
        assert 3 * NS_PER_S <= event["ts_ns"] - event["recv_ns"] < 4 * NS_PER_S
        run.server.send(trade_at(-0.25))
        event = (await run.events(1))[0]
        assert event["ts_ns"] < event["recv_ns"]
        assert run.codes() == ["prices_link_up", "event_from_future"]
        assert run.alerts[-1].priority is Priority.CRITICAL
        assert run.alerts[-1].context["symbol"] == SYMBOL


@on_both_loops
async def test_what_is_held_until_the_servers_time_is_known_leaves_at_the_end():
    async with running(limits=EventLimits(slack_ns=3 * NS_PER_S, own_time=True)) as run:
        await run.server.asked(2)
        run.server.send(trade_at(7200), trade_at(7200.5))
        await run.until(lambda: run.feed._served)
        assert run.queue.empty()
        run.feed.close()
        assert len(await run.events(2)) == 2
        assert await run.queue.get() is END


@on_both_loops
async def test_prices_are_put_on_the_tick_and_one_that_is_off_it_is_told():
    async with running(tick_sizes={0: 0.1}) as run:
        await run.server.asked(2)
        for price in (2345.7, 23.457):
            trade = MarketDataUpdateTradeCompact(SymbolID=1, Price=price, Volume=1.0, DateTime=1_700_000_000)
            run.server.send(trade)
        assert (await run.events(2))["price"].tolist() == [2345.7, float(np.float32(23.457))]
        assert run.codes() == ["prices_link_up", "prices_off_tick"]
        assert "feed.price_multiplier" in run.alerts[-1].text


async def test_prices_of_the_reference_are_put_on_its_own_tick():
    async with running(reference_symbol="CLF27_FUT_CME", tick_sizes={0: 0.1, 1: 0.01}) as run:
        await run.server.asked(3)
        for symbol_id, price in ((1, 2345.7), (2, 72.12), (2, 72.125)):
            trade = MarketDataUpdateTradeCompact(SymbolID=symbol_id, Price=price, Volume=1.0, DateTime=1_700_000_000)
            run.server.send(trade)
        assert (await run.events(3))["price"].tolist() == [2345.7, 72.12, 72.125]
        assert run.codes() == ["prices_link_up", "reference_prices_off_tick"]


@on_both_loops
async def test_prices_are_multiplied_as_the_symbols_definition_says():
    """Which is asked for before the prices, and again on each connection."""
    async with running(reference_symbol="NQZ26_FUT_CME") as run:
        await run.server.asked(3)
        assert [(m.RequestID, m.Symbol) for m in run.server.definitions] == [(1, SYMBOL), (2, "NQZ26_FUT_CME")]
        run.server.send(
            SecurityDefinitionResponse(RequestID=1, Symbol=SYMBOL, DisplayPriceMultiplier=0.01),
            MarketDataUpdateTradeV2(SymbolID=1, Price=600025.0, Volume=1.0, DateTime=T0_US, AtBidOrAsk=2),
            MarketDataUpdateBidAskV2(SymbolID=1, BidPrice=600025.0, AskPrice=600050.0, DateTime=T0_US),
            trade(0, symbol_id=2),
        )
        first, quote, other = await run.events(3)
        assert (first["price"], quote["bid"], quote["ask"], other["price"]) == (6000.25, 6000.25, 6000.5, 6000.0)


def with_definitions():
    server = Server()
    server.logon = replace(server.logon, SecurityDefinitionsSupported=1)
    return server


REFERENCE = "NQZ26_FUT_CME"


def definition(symbol_id=1, multiplier=0.01):
    symbol = SYMBOL if symbol_id == 1 else REFERENCE
    return SecurityDefinitionResponse(RequestID=symbol_id, Symbol=symbol, DisplayPriceMultiplier=multiplier)


def trade_as_sent(price, symbol_id=1):
    return MarketDataUpdateTradeV2(SymbolID=symbol_id, Price=price, Volume=1.0, DateTime=T0_US, AtBidOrAsk=2)


async def reconnect(run):
    count = len(run.server.writers)
    run.server.writers[-1].transport.abort()
    await run.until(lambda: len(run.server.writers) > count)


async def test_prices_of_each_symbol_are_requested_once_its_own_definition_is_there():
    async with running(server=with_definitions(), reference_symbol=REFERENCE) as run:
        await run.until(lambda: len(run.server.definitions) == 2)
        assert run.server.requests.empty()
        run.server.send(definition())
        quotes, depth = await run.server.asked(2)
        assert (type(quotes), quotes.SymbolID) == (MarketDataRequest, 1)
        assert (type(depth), depth.SymbolID) == (MarketDepthRequest, 1)
        run.server.send(trade_as_sent(600025.0))
        assert (await run.events(1))["price"].tolist() == [6000.25]
        assert run.server.requests.empty()
        run.server.send(definition(2))
        (other,) = await run.server.asked(1)
        assert (other.SymbolID, other.Symbol) == (2, REFERENCE)
        assert run.codes() == ["prices_link_up"]


async def test_no_price_is_requested_while_the_definition_is_unanswered_and_it_is_requested_again():
    async with running(server=with_definitions(), request_timeout_s=0.02) as run:
        await run.until(lambda: len(run.server.definitions) == 4)
        assert {(m.RequestID, m.Symbol) for m in run.server.definitions} == {(1, SYMBOL)}
        assert run.server.requests.empty()
        assert set(run.codes()) == {"prices_link_up", "definition_unanswered"}
        assert run.alerts[-1].priority is Priority.ERROR
        assert f"no prices of {SYMBOL}: for 0.02 s" in run.alerts[-1].text
        assert 'set feed.source = "scid"' in run.alerts[-1].text
        run.server.send(definition())
        assert [request.SymbolID for request in await run.server.asked(2)] == [1, 1]
        run.server.send(trade_as_sent(600025.0))
        assert (await run.events(1))["price"].tolist() == [6000.25]


async def test_prices_that_stay_unanswered_after_a_late_definition_are_reported():
    async with running(server=with_definitions(), request_timeout_s=0.02) as run:
        await run.until(lambda: "definition_unanswered" in run.codes())
        assert "market_data_unanswered" not in run.codes()
        run.server.send(definition())
        await run.until(lambda: "market_data_unanswered" in run.codes())


async def test_an_unanswered_definition_of_the_reference_is_reported_and_holds_up_no_other_prices():
    async with running(server=with_definitions(), request_timeout_s=0.02, reference_symbol=REFERENCE) as run:
        await run.until(lambda: len(run.server.definitions) == 2)
        run.server.send(definition())
        await run.server.asked(2)
        await run.until(lambda: len(run.server.definitions) >= 4)
        assert {m.RequestID for m in run.server.definitions[3:]} == {2}
        assert f"no prices of {REFERENCE}: " in run.alerts[-1].text
        assert run.server.requests.empty()


async def test_a_lost_connection_ends_the_wait_of_its_subscription():
    """Only the newest one requests definitions again: two reports of it are two waits apart, however many were lost."""
    async with running(server=with_definitions(), request_timeout_s=0.2) as run:
        for count in range(1, 4):
            await run.until(lambda count=count: len(run.server.definitions) == count)
            started_s = asyncio.get_running_loop().time()
            await reconnect(run)
        await run.until(lambda: run.codes().count("definition_unanswered") >= 2)
        assert asyncio.get_running_loop().time() - started_s >= 0.4


@pytest.mark.parametrize("request_id", [1, 0])
async def test_prices_without_a_definition_are_requested_as_they_come_with_a_warning(request_id):
    async with running(server=with_definitions()) as run:
        await run.until(lambda: len(run.server.definitions) == 1)
        run.server.send(SecurityDefinitionReject(RequestID=request_id, RejectText="unknown"))
        await run.server.asked(2)
        assert run.codes() == ["prices_link_up", "definition_refused"]
        assert run.alerts[-1].priority is Priority.WARNING
        assert f"{SYMBOL} (unknown): the multiplier of prices is not known" in run.alerts[-1].text
        run.server.send(trade(0))
        assert (await run.events(1))["price"].tolist() == [6000.0]
        await reconnect(run)
        await run.until(lambda: len(run.server.definitions) == 2)
        assert run.server.requests.empty()  # it is no more known than before


async def test_a_known_multiplier_serves_on_the_next_connection_at_once_and_is_asked_for_again():
    async with running(server=with_definitions(), reference_symbol=REFERENCE) as run:
        await run.until(lambda: len(run.server.definitions) == 2)
        run.server.send(definition())
        await run.server.asked(2)
        await reconnect(run)
        assert [request.SymbolID for request in await run.server.asked(2)] == [1, 1]
        assert [m.RequestID for m in run.server.definitions] == [1, 2, 1, 2]
        run.server.send(trade_as_sent(600025.0))
        assert (await run.events(1))["price"].tolist() == [6000.25]


@pytest.mark.parametrize("symbol_id", [1, 2])
async def test_a_gap_lies_between_prices_at_different_scales_and_the_order_book_is_requested_anew(symbol_id):
    async with running(server=with_definitions(), reference_symbol=REFERENCE) as run:
        await run.until(lambda: len(run.server.definitions) == 2)
        run.server.send(definition(1), definition(2))
        await run.server.asked(3)
        price = trade_as_sent(600025.0, symbol_id)
        same, changed = definition(symbol_id), definition(symbol_id, 0.001)
        run.server.send(definition(3 - symbol_id, 0.1), price, same, price, changed, price)
        events = await run.events(4)
        assert events["kind"].tolist() == [EventKind.TRADE, EventKind.TRADE, EventKind.GAP, EventKind.TRADE]
        assert events["price"][[0, 1, 3]].tolist() == [6000.25, 6000.25, 600.025]
        assert events["ts_ns"].tolist() == [T0_US * 1000] * 4
        requests = await run.server.asked(3 - symbol_id)
        assert [request.SymbolID for request in requests] == [symbol_id] * len(requests)


@on_both_loops
async def test_a_definition_without_the_request_id_counts_for_its_symbol():
    async with running() as run:
        await run.server.asked(2)
        run.server.send(
            SecurityDefinitionResponse(Symbol="XX", DisplayPriceMultiplier=0.1),
            SecurityDefinitionResponse(Symbol=SYMBOL, DisplayPriceMultiplier=0.01),
            MarketDataUpdateTradeV2(SymbolID=1, Price=600025.0, Volume=1.0, DateTime=T0_US, AtBidOrAsk=2),
        )
        assert (await run.events(1))["price"].tolist() == [6000.25]


@on_both_loops
async def test_a_definition_without_a_sensible_multiplier_changes_no_price():
    async with running() as run:
        await run.server.asked(2)
        for multiplier in (UNSET_F32, 0.0, -1.0, float("nan"), 1.0):
            run.server.send(
                SecurityDefinitionResponse(RequestID=1, Symbol=SYMBOL, DisplayPriceMultiplier=multiplier),
                SecurityDefinitionResponse(RequestID=9, Symbol="XX", DisplayPriceMultiplier=0.01),
                trade(1),
            )
            assert (await run.events(1))["price"].tolist() == [6001.0]


@on_both_loops
async def test_batches_know_when_they_arrived():
    async with running() as run:
        await run.server.asked(2)
        before = WallClock().monotonic_ns()
        run.server.send(trade(0))
        async with asyncio.timeout(10):
            batch = await run.queue.get()
        assert before < batch.ingress_ns <= WallClock().monotonic_ns()


@on_both_loops
async def test_lost_connection_is_renewed_with_a_gap_before_what_comes():
    async with running() as run:
        await run.server.asked(2)
        run.server.send(trade(0))
        await run.events(1)
        run.server.writers[-1].transport.abort()
        assert len(await run.server.asked(2)) == 2
        run.server.send(trade(5))
        events = await run.events(2)
        assert events["kind"].tolist() == [EventKind.GAP, EventKind.TRADE]
        assert events["ts_ns"].tolist() == [T0_US * 1000, (T0_US + 5) * 1000]
        assert run.codes() == ["prices_link_up", "prices_link_down", "prices_link_up"]


@on_both_loops
async def test_no_gap_where_nothing_came_before():
    async with running() as run:
        await run.server.asked(2)
        run.server.writers[-1].transport.abort()
        await run.server.asked(2)
        run.server.send(trade(0))
        assert (await run.events(1))["kind"].tolist() == [EventKind.TRADE]


@on_both_loops
async def test_refused_prices_end_the_feed_with_what_to_do():
    async with running() as run:
        await run.server.asked(2)
        run.server.send(MarketDataReject(SymbolID=1, RejectText="Market data request not allowed"))
        with pytest.raises(MarketDataRefused, match=r"ESZ26_FUT_CME .*Market data request not allowed.*scid"):
            async with asyncio.timeout(10):
                await run.task
        assert not [alert.text for alert in run.alerts if "trying again" in alert.text]


@on_both_loops
async def test_prices_neither_served_nor_refused_are_an_alert_once_for_each_subscription():
    async with running(request_timeout_s=0.05) as run:
        await run.server.asked(2)
        await run.until(lambda: "market_data_unanswered" in run.codes())
        text = next(alert.text for alert in run.alerts if alert.code == "market_data_unanswered")
        assert "neither served nor refused the prices of ESZ26_FUT_CME" in text
        assert 'set feed.source = "scid"' in text
        run.server.writers[-1].transport.abort()
        await run.server.asked(2)
        run.server.send(MarketDataSnapshot(SymbolID=1))  # empty, at night: an answer all the same
        await asyncio.sleep(0.15)  # three times as long as an answer may take
        assert run.codes().count("market_data_unanswered") == 1


@on_both_loops
async def test_prices_refused_after_they_were_served_are_asked_for_again():
    async with running(depth_levels=0) as run:
        await run.server.asked(1)
        run.server.send(trade(0), MarketDataReject(SymbolID=1, RejectText="not now"))
        (again,) = await run.server.asked(1)
        assert again.SymbolID == 1
        assert (await run.events(2))["kind"].tolist() == [EventKind.TRADE, EventKind.GAP]
        assert [a.priority for a in run.alerts if a.code == "market_data_refused"] == [Priority.CRITICAL]


@on_both_loops
async def test_refused_depth_and_reference_are_alerts():
    async with running(reference_symbol="NQZ26_FUT_CME") as run:
        assert [request.SymbolID for request in await run.server.asked(3)] == [1, 2, 1]
        run.server.send(
            MarketDepthReject(SymbolID=1, RejectText="no depth"),
            MarketDataReject(SymbolID=2, RejectText="no reference"),
            MarketDataReject(SymbolID=9, RejectText="not ours"),
            trade(0),
        )
        await run.events(1)
        texts = [alert.text for alert in run.alerts if alert.code == "market_data_refused"]
        assert len(texts) == 2
        assert "the depth of ESZ26_FUT_CME" in texts[0]
        assert "NQZ26_FUT_CME" in texts[1]


@on_both_loops
async def test_reference_events_carry_their_symbol_and_are_no_sign_of_life():
    async with running(reference_symbol="NQZ26_FUT_CME", timer_interval_s=0.05) as run:
        await run.server.asked(3)
        run.server.send(trade(0, symbol_id=2))
        events = await run.events(1)
        assert events["symbol"].tolist() == [1]
        await asyncio.sleep(0.12)  # longer than two intervals
        assert run.queue.empty()  # exchange time of the traded symbol is still unknown: no timer
        run.server.send(trade(0), trade(1, symbol_id=2))
        events = await run.events(3)
        assert events["symbol"].tolist() == [0, 1, 0]
        assert events["kind"].tolist() == [EventKind.TRADE, EventKind.TRADE, EventKind.TIMER]


@on_both_loops
async def test_silence_makes_timer_events_on_exchange_time():
    async with running(timer_interval_s=0.02, speed=100.0) as run:
        await run.server.asked(2)
        run.server.send(trade(0))
        events = await run.events(4)
        assert events["kind"].tolist() == [EventKind.TRADE] + [EventKind.TIMER] * 3
        passed_s = (events["ts_ns"] - events["ts_ns"][0]) / 1e9
        assert passed_s.tolist() == sorted(passed_s.tolist())
        assert passed_s[1] >= 1.5  # 0.02 s at speed 100, less a quarter
        assert passed_s[3] >= 5.5


@on_both_loops
async def test_market_data_that_went_away_and_came_back():
    server = Server()
    server.logon.ResubscribeWhenMarketDataFeedAvailable = 1
    async with running(server=server, depth_levels=0) as run:
        await server.asked(1)
        server.send(trade(0), MarketDataFeedStatus(Status=2))  # available, as it was: nothing to do
        server.send(MarketDataFeedStatus(Status=1), MarketDataFeedStatus(Status=2))
        await server.asked(1)
        server.send(MarketDataFeedSymbolStatus(SymbolID=1, Status=1), trade(1))
        events = await run.events(3)
        assert events["kind"].tolist() == [EventKind.TRADE, EventKind.GAP, EventKind.TRADE]
        assert run.codes() == ["prices_link_up", "market_data_unavailable", "market_data_unavailable"]
        assert server.requests.empty()


@on_both_loops
async def test_market_data_that_came_back_by_itself_leaves_a_gap():
    async with running(depth_levels=0) as run:
        await run.server.asked(1)
        run.server.send(trade(0), MarketDataFeedStatus(Status=1), MarketDataFeedStatus(Status=2), trade(1))
        events = await run.events(3)
        assert events["kind"].tolist() == [EventKind.TRADE, EventKind.GAP, EventKind.TRADE]
        assert run.server.requests.empty()


@on_both_loops
async def test_a_slow_daemon_loses_no_trade_and_holds_the_server_back():
    """Far more than the backlog may hold is sent before the first batch is taken."""
    count = 60_000
    async with running(room=1, max_backlog_events=2_000, depth_levels=0) as run:
        await run.server.asked(1)
        writer = run.server.writers[-1]

        async def send():
            for start in range(0, count, 500):
                writer.write(b"".join(encode(trade(n)) for n in range(start, start + 500)))
                await writer.drain()

        sending = asyncio.create_task(send())
        await run.until(lambda: "feed_lags" in run.codes())
        most = run.feed.lag.most_events
        assert 2_000 < most < 30_000
        events = await run.events(count)
        await sending
        assert events["ts_ns"].tolist() == [(T0_US + n) * 1000 for n in range(count)]


@on_both_loops
async def test_closing_lets_what_arrived_leave_then_ends():
    async with running(room=1, depth_levels=0) as run:
        await run.server.asked(1)
        for n in range(5):
            run.server.send(trade(n))
            await asyncio.sleep(0.005)
        await run.until(lambda: run.feed.lag.backlog_events >= 4)
        async with asyncio.timeout(10):
            run.feed.close()
            got = []
            while (item := await run.queue.get()) is not END:
                got += item.events["price"].tolist()
            await run.task
        assert got == [6000.0 + n for n in range(5)]
        assert not run.feed.up


@on_both_loops
async def test_a_server_that_wants_no_more_calls_ends_the_feed():
    server = Server()
    server.logon = LogonResponse(ProtocolVersion=8, Result=3, ResultText="go away")
    async with running(server=server) as run:
        with pytest.raises(LogonRefused, match="go away"):
            async with asyncio.timeout(10):
                await run.task
