"""A recorded market: what it shows is the record, and what orders get from it is what the module says it assumes."""

import asyncio
import json
import signal
from datetime import date

import numpy as np
import pytest
from daemon_process import until
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import StartError
from mia_daemon.feed.replay_feed import ReplayFeed
from mia_daemon.feed.sierra_files import read_scid, scid_to_events
from mia_daemon.feed.sierra_writer import SierraWriter
from mia_daemon.products.trading_calendar import equity_hours
from mia_daemon.records import EventFlag, EventKind, OrderType, empty_events
from mia_daemon.simulator import hours
from mia_daemon.simulator.client_order import NewOrder, ServedStatus
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import SimulatedMarket
from mia_daemon.simulator.market_recorder import MarketRecorder
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.played_market import LONGEST_PAUSE_NS, PlayedMarket, PlayedRecording
from mia_daemon.simulator.run import Extras, open_server
from mia_daemon.simulator.tape import DepthEvent, QuoteEvent, SessionEvent, TradeEvent

START_NS = hours.start_ns(date(2026, 11, 3), equity_hours())
SECOND = 10**9
TICK = 0.25
LIMIT, MARKET, STOP = OrderType.LIMIT, OrderType.MARKET, OrderType.STOP


class Rows:
    """A record in the making; prices in ticks, times in seconds after the start."""

    def __init__(self):
        self.rows = []

    def add(self, second, kind, price=None, side=0, size=0, flags=0, bid=None, ask=None, count=1):
        row = empty_events(1)
        row["ts_ns"] = row["recv_ns"] = START_NS + round(second * 1000) * 1_000_000
        row["kind"], row["side"], row["size"], row["flags"], row["count"] = kind, side, size, flags, count
        for name, value in (("price", price), ("bid", bid), ("ask", ask)):
            row[name] = np.nan if value is None else value * TICK
        self.rows.append(row)
        return self

    def trade(self, second, price, side=BUY, size=1, bid=None, ask=None, flags=0):
        return self.add(second, EventKind.TRADE, price, side, size, flags, bid, ask)

    def level(self, second, side, price, size, count=1, flags=EventFlag.BATCH_END):
        return self.add(second, EventKind.DEPTH, price, side, size, flags, count=count)

    def book(self, second, bids, asks):
        """A snapshot: price → quantity."""
        self.add(second, EventKind.DEPTH, flags=EventFlag.CLEAR | EventFlag.SNAPSHOT)
        for side, levels in ((BUY, bids), (SELL, asks)):
            for price, size in levels.items():
                self.level(second, side, price, size, flags=EventFlag.SNAPSHOT)
        self.rows[-1]["flags"] |= np.uint16(EventFlag.BATCH_END)
        return self

    def play(self, calendar, *, depth, start_ns=None, batch=3, engine=None):
        rows = np.concatenate(self.rows)
        batches = (rows[i : i + batch] for i in range(0, len(rows), batch))
        recording = PlayedRecording("record", int(rows["ts_ns"][0]), batches, depth)
        return PlayedMarket(engine or MatchingEngine(), TradingHours(calendar), recording, TICK, start_ns)


@pytest.fixture
def with_depth(calendar):
    """100 bid and 102 ask, ten contracts each, and what `record` adds; played to its second `until`."""

    def play(record=None, until=0.5):
        rows = Rows().book(0, {100: 10, 99: 20}, {102: 10, 103: 20})
        market = (record(rows) if record else rows).level(1000, BUY, 1, 1).play(calendar, depth=True)
        market.advance(START_NS + round(until * SECOND))
        return market

    return play


def order(market, side, price=0, quantity=1, kind=LIMIT, name="A"):
    return market._engine.submit(NewOrder(name, side, kind, quantity, price))


def fills(market, name="A"):
    return [(e.last_price, e.last_quantity) for e in market._engine.events if e.client_id == name and e.last_quantity]


def to_second(market, second):
    return market.advance(START_NS + round(second * SECOND))


# ----------------------------------------------------------------------------------------------- what clients are shown


class Taken:
    """Files that are an array."""

    def __init__(self):
        self.rows = []

    def append(self, events):
        self.rows.append(events)

    def flush(self, now_ns=None):
        pass

    close = flush


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), step_s=st.sampled_from([0.05, 1.0, 7.0]))
def test_a_market_that_was_recorded_plays_as_it_was(calendar, seed, step_s):
    market = SimulatedMarket(MatchingEngine(), TradingHours(calendar), seed, START_NS, 24_000.0)
    files = Taken()
    recorder = MarketRecorder(market, TICK, files)
    before = [(side, market.depth(side)) for side in (BUY, SELL)]
    happened = market.advance(START_NS + 60 * SECOND)
    recorder.take(happened)
    rows = np.concatenate(files.rows)
    played = PlayedMarket(
        MatchingEngine(),
        TradingHours(calendar),
        PlayedRecording("r", START_NS, iter([rows]), has_depth=True),
        TICK,
        None,
    )
    shown = played.advance(START_NS)
    assert [(side, played.depth(side)) for side in (BUY, SELL)] == before
    shown = [event for event in shown if event.ts_ns > START_NS]
    while not played.ended:
        shown += played.advance(min(played.now_ns + round(step_s * SECOND), START_NS + 60 * SECOND), max_events=100)
    assert shown == [event for event in happened if event.ts_ns > START_NS]
    assert [(s, played.depth(s)) for s in (BUY, SELL)] == [(s, market.depth(s)) for s in (BUY, SELL)]


def test_a_file_of_trades_alone_shows_its_trades_and_touches(calendar, mnq_scid):
    events = scid_to_events(read_scid(mnq_scid))[-3000:]
    recording = PlayedRecording("m", int(events["ts_ns"][0]), iter([events]), has_depth=False)
    market = PlayedMarket(MatchingEngine(), TradingHours(calendar), recording, TICK, None)
    shown = market.advance(int(events["ts_ns"][-1]))
    trades = [(e.ts_ns, e.price * TICK, e.quantity, e.side) for e in shown if isinstance(e, TradeEvent)]
    assert trades == events[["ts_ns", "price", "size", "side"]].tolist()
    assert [e.marker for e in shown if isinstance(e, TradeEvent)] == events["flags"].tolist()
    assert not any(isinstance(e, DepthEvent) for e in shown)
    touch, at_trades = None, []
    for event in shown:
        if isinstance(event, QuoteEvent):
            assert (event.bid_quantity, event.ask_quantity) == (0, 0)  # nobody recorded them
            touch = (event.bid * TICK, event.ask * TICK)
        elif isinstance(event, TradeEvent):
            at_trades.append(touch)
    assert at_trades == events[["bid", "ask"]].tolist()
    assert market.ended


def test_an_order_is_seen_in_the_book_and_its_trade_on_the_tape(with_depth):
    market = with_depth()
    order(market, BUY, 100, 3)
    assert market.collect() == [
        DepthEvent(market.now_ns, BUY, 100, 13, 2, is_new=False, final=True),
        QuoteEvent(market.now_ns, 100, 13, 102, 10),
    ]
    order(market, BUY, kind=MARKET, quantity=4, name="B")
    events = market.collect()
    assert events[0] == TradeEvent(market.now_ns, 102, 4, BUY, 0)
    assert market.depth(SELL)[0] == (102, 6, 1)


def test_what_an_order_took_comes_back_when_the_record_tells_of_the_level(with_depth):
    market = with_depth(lambda rows: rows.level(1, SELL, 103, 21).level(2, SELL, 102, 11))
    order(market, BUY, kind=MARKET, quantity=4)
    to_second(market, 1)
    assert market.depth(SELL)[0][:2] == (102, 6)
    to_second(market, 2)
    assert market.depth(SELL)[0][:2] == (102, 11)


def test_a_new_session_is_told_and_day_orders_die(calendar):
    rows = Rows().book(0, {100: 10}, {102: 10}).level(24 * 3600, BUY, 100, 11).level(24 * 3600 + 1, BUY, 100, 12)
    market = rows.play(calendar, depth=True)
    market.advance(START_NS)
    placed = order(market, BUY, 90)
    shown = to_second(market, 24 * 3600)
    assert isinstance(shown[0], SessionEvent)
    assert placed.status == ServedStatus.CANCELED


def test_a_long_silence_of_the_record_counts_as_no_time(calendar):
    market = (
        Rows().book(0, {100: 1}, {102: 1}).level(5, BUY, 100, 2).level(9000, BUY, 100, 3).play(calendar, depth=True)
    )
    market.advance(START_NS)
    assert market.add(market.now_ns, SECOND) == START_NS + SECOND
    to_second(market, 6)
    assert market.next_ns - market.now_ns > LONGEST_PAUSE_NS
    assert market.add(market.now_ns, SECOND) == START_NS + 9000 * SECOND


# ------------------------------------------------------------------------------------------------------ what orders get


def test_a_marketable_order_takes_the_levels_that_were_recorded(with_depth):
    market = with_depth()
    order(market, BUY, kind=MARKET, quantity=15)
    assert fills(market) == [(102, 10), (103, 5)]


def test_without_depth_the_touch_takes_any_order(calendar):
    market = Rows().trade(0, 102, bid=100, ask=102).trade(9, 102).play(calendar, depth=False)
    to_second(market, 1)
    order(market, SELL, kind=MARKET, quantity=5000)
    assert fills(market) == [(100, 5000)]
    assert market.touch() == (100, 0, 102, 0)
    assert market.depth(BUY) == []


def test_an_order_waits_for_all_that_was_before_it(with_depth):
    market = with_depth(lambda r: r.trade(1, 100, SELL, 6).trade(2, 100, SELL, 6).trade(3, 100, SELL, 6))
    order(market, BUY, 100, 5)
    to_second(market, 1)
    assert fills(market) == []
    to_second(market, 2)
    assert fills(market) == [(100, 2)]
    to_second(market, 3)
    assert fills(market) == [(100, 2), (100, 3)]


@pytest.mark.parametrize("told_first", [True, False])
def test_a_trade_counts_once_whether_its_level_is_told_before_or_after(with_depth, told_first):
    def record(rows):
        if told_first:
            return rows.level(1, BUY, 100, 4).trade(1.005, 100, SELL, 6)
        return rows.trade(1, 100, SELL, 6).level(1.005, BUY, 100, 4)

    market = with_depth(record)
    order(market, BUY, 100, 1)
    to_second(market, 2)
    assert fills(market) == []
    assert market.depth(BUY)[0][:2] == (100, 5)


def test_one_trade_after_the_other_counts_each(with_depth):
    def record(rows):
        rows.trade(1, 100, SELL, 4).level(1, BUY, 100, 6).trade(1.001, 100, SELL, 3).level(1.002, BUY, 100, 3)
        return rows.trade(1.003, 100, SELL, 3).level(1.003, BUY, 100, 0).trade(1.004, 100, SELL, 1)

    market = with_depth(record)
    order(market, BUY, 100, 1)
    to_second(market, 1.003)
    assert fills(market) == []
    to_second(market, 1.004)
    assert fills(market) == [(100, 1)]


def test_who_leaves_without_a_trade_was_behind(with_depth):
    market = with_depth(lambda rows: rows.level(1, BUY, 100, 25).level(2, BUY, 100, 10).trade(3, 100, SELL, 10))
    order(market, BUY, 100, 1)
    to_second(market, 2.5)
    assert fills(market) == []
    to_second(market, 3)
    assert fills(market) == []  # the ten that were before it
    assert [o.client_id for o in market._engine.alive.values()] == ["A"]


def test_a_trade_through_an_order_fills_it_whole(with_depth):
    market = with_depth(lambda rows: rows.trade(1, 99, SELL, 1))
    order(market, BUY, 100, 7)
    order(market, BUY, 98, 7, name="B")
    to_second(market, 1)
    assert fills(market) == [(100, 7)]
    assert fills(market, "B") == []


def test_a_quote_at_an_order_fills_it_whole(with_depth):
    market = with_depth(lambda r: r.level(1, BUY, 100, 0, flags=0).level(1, SELL, 100, 1))
    order(market, BUY, 100, 7)
    to_second(market, 1)
    assert fills(market) == [(100, 7)]


def test_without_depth_a_trade_at_the_price_is_not_enough(calendar):
    rows = Rows().trade(0, 102, bid=100, ask=102).trade(1, 100, SELL, 500, 100, 102).trade(2, 99, SELL, 1, 99, 101)
    market = rows.trade(9, 99).play(calendar, depth=False)
    to_second(market, 0.5)
    order(market, BUY, 100, 2)
    to_second(market, 1)
    assert fills(market) == []
    to_second(market, 2)
    assert fills(market) == [(100, 2)]


def test_a_stop_triggers_on_a_trade_and_fills_at_the_touch(with_depth):
    market = with_depth(lambda rows: rows.trade(1, 101, SELL, 1).trade(2, 100, SELL, 1))
    order(market, SELL, 100, 12, kind=STOP)
    to_second(market, 1)
    assert fills(market) == []
    shown = to_second(market, 2)
    assert fills(market) == [(100, 10), (99, 2)]
    trades = [(e.price, e.quantity, e.side, e.marker) for e in shown if isinstance(e, TradeEvent)]
    assert trades == [(100, 1, SELL, 0), (100, 10, SELL, 1), (99, 2, SELL, 2)]


def test_a_trade_of_unknown_side_fills_what_it_went_through_on_both_sides(with_depth):
    market = with_depth(lambda rows: rows.trade(1, 101, 0, 1))
    order(market, BUY, 101, 1)
    order(market, SELL, 101, 1, name="B")  # takes the other one
    order(market, SELL, 102, 1, name="C")
    to_second(market, 1)
    assert (fills(market), fills(market, "B"), fills(market, "C")) == ([(101, 1)], [(101, 1)], [])


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("level"), st.sampled_from([BUY, SELL]), st.integers(0, 6), st.integers(0, 9)),
            st.tuples(st.just("trade"), st.sampled_from([BUY, 0, SELL]), st.integers(95, 107), st.integers(0, 9)),
            st.tuples(st.just("order"), st.sampled_from([BUY, SELL]), st.integers(95, 107), st.integers(1, 5)),
            st.tuples(st.just("market"), st.sampled_from([BUY, SELL]), st.just(0), st.integers(1, 30)),
        ),
        max_size=40,
    )
)
def test_whatever_happens_the_book_is_the_record_and_the_orders_and_no_more(calendar, steps):
    record = Rows().book(0, {100: 5}, {102: 5})
    for second, (what, side, price, size) in enumerate(steps, 1):
        if what == "level":
            record.level(second, side, 101 - side * (1 + price), size)
        elif what == "trade":
            record.trade(second, price, side, size)
    market = record.level(1000, BUY, 1, 0).play(calendar, depth=True)
    told, placed = Told(), []
    told.listen(market.advance(START_NS))
    for second, (what, side, price, size) in enumerate(steps, 1):
        told.listen(to_second(market, second))
        if what in {"order", "market"}:
            placed.append(order(market, side, price, size, LIMIT if what == "order" else MARKET, name=f"O{second}"))
            told.listen(market.collect())
        assert told.book == {(s, p): q for s in (BUY, SELL) for p, q, _ in market.depth(s)}
    assert all(0 <= each.filled <= each.quantity for each in placed)
    assert [each for each in placed if not each.status.final] == list(market._engine.alive.values())
    for each in placed:
        assert not each.resting or told.book[each.side, each.price] >= each.open_quantity


class Told:
    """The book as a client knows it."""

    def __init__(self):
        self.book = {}

    def listen(self, events):
        for e in events:
            if isinstance(e, DepthEvent):
                assert e.is_new == ((e.side, e.price) not in self.book)
                self.book[e.side, e.price] = e.quantity
                if not e.quantity:
                    del self.book[e.side, e.price]


# ------------------------------------------------------------------------------------------------------------- restarts


def test_a_restart_goes_on_where_it_was_with_the_book_of_that_moment(calendar):
    record = Rows().book(0, {100: 10}, {102: 10}).trade(1, 102, BUY).level(2, BUY, 100, 7).level(5, BUY, 100, 8)
    market = record.play(calendar, depth=True, start_ns=START_NS + 3 * SECOND)
    assert (market.touch(), market._engine.last_price) == ((100, 7, 102, 10), 102)
    assert to_second(market, 9) == [
        DepthEvent(START_NS + 5 * SECOND, BUY, 100, 8, 1, is_new=False, final=True),
        QuoteEvent(START_NS + 5 * SECOND, 100, 8, 102, 10),
    ]
    with pytest.raises(StartError, match="nothing in record is left to play"):
        record.play(calendar, depth=True, start_ns=START_NS + 6 * SECOND)


def test_the_state_of_another_market_is_refused(calendar, tmp_path, make_settings):
    open_server(make_settings(), tmp_path, calendar=calendar).exchange.close()
    rows = np.concatenate(Rows().trade(0, 24_000, bid=23_999, ask=24_000).rows)
    recording = PlayedRecording("a.scid", START_NS, iter([rows]), has_depth=False)
    with pytest.raises(StartError, match=r"the state is that of a seeded market, not of a\.scid: .*--state"):
        open_server(make_settings(), tmp_path, calendar=calendar, extras=Extras(recording=recording))


# ------------------------------------------------------------------------------------------------------ as a DTC server


async def test_clients_see_the_record_and_the_end_of_it(tmp_path, calendar, make_settings, serving):
    record = Rows().book(0, {24_000: 10}, {24_001: 5})
    for second in range(1, 40):
        record.trade(second, 24_001, BUY, second)
    rows = np.concatenate(record.rows)
    server = open_server(
        make_settings(speed=20.0),
        tmp_path,
        calendar=calendar,
        extras=Extras(recording=PlayedRecording("r", START_NS, iter([rows]), has_depth=True)),
    )
    listening = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(server.run("127.0.0.1", 0, listening.set_result))
    client = serving.client_class(*await asyncio.open_connection("127.0.0.1", await listening))
    await client.logon(integer_1=0x80000)
    client.send(dtc.MarketDataRequest(RequestAction=1, SymbolID=1, Symbol="ESZ26_FUT_CME"))
    rest = await client.end()
    await client.close()
    await running
    trades = [m for m in rest if isinstance(m, dtc.MarketDataUpdateTradeWithUnbundledIndicator2)]
    seen = [int(m.Volume) for m in trades]
    assert len(seen) >= 20  # those before the subscription are history
    assert seen == list(range(40 - len(seen), 40))
    assert all((m.Price, m.DateTime) == (6000.25, (START_NS + m.Volume * SECOND) // 1000) for m in trades)
    assert rest[-1] == dtc.Logoff(Reason="the recording has ended")


def test_the_command_plays_what_the_command_wrote(daemons, tmp_path):
    """A seeded market writes its files; they are played; what that writes is the same market again."""
    settings = daemons.config(simulator={"speed": 60.0, "file_flush_ms": 20.0}, dtc={"history_port": 0})
    first, second = tmp_path / "first", tmp_path / "second"
    writing, _ = daemons.simulator(settings, tmp_path / "state", **{"write-scid": first})
    files = [first / "ESZ26_FUT_CME.scid", first / "MarketDepthData" / "ESZ26_FUT_CME.2026-11-03.depth"]
    until(lambda: files[0].exists() and files[0].stat().st_size > 40 * 40, "it writes")
    writing.signal(signal.SIGTERM)
    assert writing.wait().status == 0
    playing = daemons.start(
        "simulator", "--config", settings, "--port", 0, "--state", tmp_path / "state2",
        "--play", files[0], "--depth", files[1], "--write-scid", second,
    )  # fmt: skip
    ended = playing.wait()
    assert (ended.status, json.loads(ended.out)["event"]) == (0, "listening")
    assert "the recording has ended" in ended.err
    assert (second / files[0].name).read_bytes() == files[0].read_bytes()
    played, written = (
        ReplayFeed(d / files[0].name, None, depth_path=d / "MarketDepthData" / files[1].name) for d in (second, first)
    )
    last = [book_of(feed) for feed in (played, written)]
    assert last[0] == last[1]


def book_of(feed):
    """The book that all changes leave: (side, price) → (quantity, orders)."""
    book = {}
    for events in feed.batches():
        for row in events[events["kind"] == EventKind.DEPTH]:
            level = (int(row["side"]), float(row["price"]))
            if row["flags"] & EventFlag.CLEAR:
                book.clear()
            elif row["size"]:
                book[level] = (float(row["size"]), int(row["count"]))
            else:
                book.pop(level, None)
    return book


def test_a_writer_that_fails_ends_the_simulator_with_a_sentence(tmp_path, calendar, make_settings):
    def files(symbol, begin_ns):
        return SierraWriter(tmp_path / "data", symbol, begin_ns, 0.0)

    server = open_server(make_settings(speed=600.0), tmp_path, calendar=calendar, extras=Extras(files=files))
    server._recorders["ESZ26_FUT_CME"]._files._trades.close()  # as a disk that is gone

    async def run():
        await server.run("127.0.0.1", 0, lambda _port: None)

    with pytest.raises(StartError, match="can't be written"):
        asyncio.run(asyncio.wait_for(run(), 20))
