"""The live feed from Sierra Chart's files, which a writer makes grow while it is read."""

import asyncio
import tracemalloc

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S, WallClock
from mia_daemon.errors import FileFormatError
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.event_checks import EventLimits
from mia_daemon.feed.scid_feed import ScidFeed
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.records import EventFlag, EventKind, Priority
from mia_daemon.stage import END

NOON = 1_700_000_000 * NS_PER_S // (86_400 * NS_PER_S) * 86_400 * NS_PER_S + 43_200 * NS_PER_S
DAY = 86_400 * NS_PER_S


class HandClock:
    """A clock moved by hand."""

    def __init__(self):
        self.now, self.stopwatch = NOON, 1_000

    def now_ns(self):
        return self.now

    def monotonic_ns(self):
        return self.stopwatch

    def pass_s(self, seconds):
        self.now += round(seconds * NS_PER_S)
        self.stopwatch += round(seconds * NS_PER_S)


def trades(*offsets_s, price=100.0):
    records = np.zeros(len(offsets_s), sf.SCID_RECORD)
    records["time"] = [sf.to_us(NOON + round(s * NS_PER_S)) for s in offsets_s]
    records["close"] = price
    records["total_volume"] = records["bid_volume"] = records["num_trades"] = 1
    return records


def book(*rows):
    records = np.zeros(len(rows), sf.DEPTH_RECORD)
    for record, (offset_s, command, flags) in zip(records, rows, strict=True):
        record["time"] = sf.to_us(NOON + round(offset_s * NS_PER_S))
        record["command"], record["flags"], record["price"], record["quantity"] = command, flags, 100.0, 1
    return records


def offsets(events):
    return ((events["ts_ns"] - NOON) / NS_PER_S).tolist()


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def alerts():
    return []


def new_file(path, fmt, records):
    writer = sf.RecordWriter(path, fmt)
    writer.append(records)
    return writer


def test_reads_the_day_then_what_is_appended(tmp_path, clock, alerts):
    path = tmp_path / "x.scid"
    writer = new_file(path, sf.SCID, trades(-100, -50, -1))
    feed = ScidFeed(path, clock, alerts.append, since_ns=NOON - 60 * NS_PER_S)
    assert offsets(feed.poll()) == [-50, -1]
    assert len(feed.poll()) == 0
    writer.append(trades(2))
    events = feed.poll()
    assert offsets(events) == [2]
    assert events["recv_ns"].tolist() == [clock.now]
    assert events["kind"].tolist() == [EventKind.TRADE]
    assert alerts == []
    feed.close()
    writer.close()


def test_starts_at_the_end_when_no_time_is_given(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(-1))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append)
    assert len(feed.poll()) == 0
    writer.append(trades(1))
    assert offsets(feed.poll()) == [1]
    feed.close()
    writer.close()


def test_batches_are_bounded_while_catching_up(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(*range(10)))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, batch_events=4)
    assert [len(feed.poll()) for _ in range(4)] == [4, 4, 2, 0]
    feed.close()
    writer.close()


def test_silence_becomes_timer_events(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(0))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, timer_interval_s=1.0)
    feed.poll()
    clock.pass_s(0.9)
    assert len(feed.poll()) == 0
    clock.pass_s(0.1)
    timer = feed.poll()
    assert timer["kind"].tolist() == [EventKind.TIMER]
    assert offsets(timer) == [0.75]
    feed.close()
    writer.close()


def test_replaced_file_gives_a_gap_and_an_alert(tmp_path, clock, alerts):
    path = tmp_path / "x.scid"
    writer = new_file(path, sf.SCID, trades(0, 1))
    feed = ScidFeed(path, clock, alerts.append, since_ns=0)
    feed.poll()
    writer.close()
    path.unlink()
    writer = new_file(path, sf.SCID, trades(0, 1, 5))
    events = feed.poll()
    assert events["kind"].tolist() == [EventKind.GAP, EventKind.TRADE]
    assert offsets(events) == [1, 5]
    assert [alert.code for alert in alerts] == ["feed_file_changed"]
    assert "was replaced" in alerts[0].text
    feed.close()
    writer.close()


def test_missing_file_is_told_once_and_awaited(tmp_path, clock, alerts):
    path = tmp_path / "x.scid"
    feed = ScidFeed(path, clock, alerts.append, since_ns=0)
    for _ in range(3):
        assert len(feed.poll()) == 0
    assert [(alert.code, alert.priority) for alert in alerts] == [("feed_file_missing", Priority.ERROR)]
    writer = new_file(path, sf.SCID, trades(0))
    assert offsets(feed.poll()) == [0]
    feed.close()
    writer.close()


def test_bars_end_the_feed(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(0))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0)
    feed.poll()
    bar = trades(1)
    bar["open"] = 100.0
    writer.append(bar)
    with pytest.raises(FileFormatError, match=r"is a bar.*1 Tick"):
        feed.poll()
    feed.close()
    writer.close()


def test_a_damaged_record_is_left_out_and_what_follows_is_read(tmp_path, clock, alerts):
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(0))
    depth = new_file(tmp_path / f"x.{date}.depth", sf.DEPTH, book((0, sf.CLEAR_BOOK, 0), (0.5, sf.ADD_BID, 1)))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path)
    feed.poll()
    without_time, negative, too_late, without_price = (trades(1) for _ in range(4))
    without_time["time"], negative["time"], too_late["time"] = 0, -5, 2**62
    without_price["close"] = np.nan
    writer.append(np.concatenate((without_time, negative, trades(2), too_late, without_price, trades(3))))
    depth.append(book((2.5, 99, 1), (2.75, sf.ADD_BID, 1)))
    assert offsets(feed.poll()) == [2, 2.75, 3]
    assert f"x.{date}.depth has a damaged record among the newest" in alerts[2].text
    assert [(alert.code, alert.priority) for alert in alerts[1:]] == [("feed_record_damaged", Priority.ERROR)] * 2
    assert "4 damaged records" in alerts[1].text
    writer.append(trades(4))
    assert offsets(feed.poll()) == [4]
    feed.close()
    writer.close()
    depth.close()


LIMITS = EventLimits(3 * NS_PER_S)


def test_a_record_from_the_future_stops_neither_what_follows_nor_the_other_stream(tmp_path, clock, alerts):
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    hour = 3600
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(-9, -8, hour, -6, -4, -2))
    depth = new_file(
        tmp_path / f"x.{date}.depth", sf.DEPTH, book(*((at, sf.ADD_BID, 1) for at in (-9.5, -7.5, -5.5, -3.5, -1.5)))
    )
    feed = ScidFeed(
        tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path, batch_events=2, limits=LIMITS
    )
    told = []
    while len(events := feed.poll()):
        told += offsets(events)
    assert told == [-9.5, -9, -8, -7.5, -6, -6, -5.5, -4, -3.5, -2, -1.5]  # of the second -6 only the record is wrong
    writer.append(trades(hour))
    assert offsets(feed.poll()) == [3]
    clock.pass_s(1)
    writer.append(trades(0.5))
    depth.append(book((0.75, sf.ADD_BID, 1)))
    assert offsets(feed.poll()) == [0.5, 0.75]
    assert {(alert.code, alert.priority) for alert in alerts[1:]} == {("event_from_future", Priority.CRITICAL)}
    assert "x.scid is dated 3600 s after its receipt" in alerts[-1].text
    clock.pass_s(1.5)
    assert offsets(feed.poll()) == [pytest.approx(4.25)]  # silence is counted from a possible time
    feed.close()
    writer.close()
    depth.close()


def test_a_file_replaced_after_a_record_from_the_future_is_read_on(tmp_path, clock, alerts):
    path = tmp_path / "x.scid"
    new_file(path, sf.SCID, trades(-3, -2, 3600)).close()
    feed = ScidFeed(path, clock, alerts.append, since_ns=0, limits=LIMITS)
    assert offsets(feed.poll()) == [-3, -2, 3]
    path.unlink()
    writer = new_file(path, sf.SCID, trades(-3, -2, 3600, -1, 3600))
    events = feed.poll()
    assert events["kind"].tolist() == [EventKind.GAP, EventKind.TRADE, EventKind.TRADE]
    assert offsets(events)[1:] == [-1, 3]
    writer.append(trades(0))
    assert offsets(feed.poll()) == [0]
    feed.close()
    writer.close()


def test_a_file_of_another_time_is_taken_as_it_is_where_that_is_allowed(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(7200, 7201))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, limits=EventLimits(0, own_time=True))
    assert len(feed.poll()) == 0
    clock.pass_s(1)
    writer.append(trades(7220))
    assert offsets(feed.poll()) == [7200, 7201, 7220]
    assert [alert.code for alert in alerts] == ["event_from_future"]
    feed.close()
    writer.close()


def test_prices_are_put_on_their_symbols_tick_and_one_that_is_off_it_is_reported(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(1, price=2345.7))
    reference = new_file(tmp_path / "y.scid", sf.SCID, trades(2, price=7212.0))
    feed = ScidFeed(
        tmp_path / "x.scid", clock, alerts.append, since_ns=0, reference_path=tmp_path / "y.scid",
        scale=PriceScale(tick_size=0.1), reference_scale=PriceScale(0.01, 0.01),
    )  # fmt: skip
    assert feed.poll()["price"].tolist() == [2345.7, 72.12]
    assert alerts == []
    writer.append(trades(3, price=23.457))
    reference.append(trades(3, price=7212.5))
    assert feed.poll()["price"].tolist() == [float(np.float32(23.457)), 72.125]
    assert [(alert.code, alert.priority) for alert in alerts] == [
        ("prices_off_tick", Priority.CRITICAL),
        ("reference_prices_off_tick", Priority.ERROR),
    ]
    assert "x.scid has a price" in alerts[0].text
    assert "set feed.price_multiplier" in alerts[0].text
    assert "y.scid has a price of 72.125, which is no multiple of its tick 0.01" in alerts[1].text
    assert "set reference.price_multiplier" in alerts[1].text
    feed.close()
    writer.close()
    reference.close()


def test_depth_is_merged_and_followed_into_the_next_day(tmp_path, clock, alerts):
    trade_writer = new_file(tmp_path / "x.scid", sf.SCID, trades(1, 3))
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    after = str(np.datetime64(NOON + DAY, "ns").astype("M8[D]"))
    first = new_file(
        tmp_path / f"x.{date}.depth", sf.DEPTH, book((0, sf.CLEAR_BOOK, 0), (0, sf.ADD_BID, 0), (3, sf.MODIFY_BID, 1))
    )
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path)
    events = feed.poll()
    depth, trade = EventKind.DEPTH, EventKind.TRADE
    assert events["kind"].tolist() == [depth, depth, trade, trade, depth]
    assert offsets(events) == [0, 0, 1, 3, 3]
    clock.pass_s(86_400)
    first.append(book((43_199, sf.DELETE_BID, 1)))
    assert offsets(feed.poll()) == [43_199]  # yesterday's file first
    clock.pass_s(1)
    second = new_file(
        tmp_path / f"x.{after}.depth", sf.DEPTH, book((86_400, sf.CLEAR_BOOK, 0), (86_400, sf.ADD_ASK, 0))
    )
    events = feed.poll()
    assert offsets(events) == [86_400, 86_400]
    second.append(book((86_400, sf.ADD_BID, 1), (86_401, sf.ADD_BID, 1)))
    flags = feed.poll()["flags"].tolist()
    assert flags == [EventFlag.SNAPSHOT | EventFlag.BATCH_END, EventFlag.BATCH_END]  # the snapshot spanned two polls
    assert [alert.code for alert in alerts] == ["depth_file", "depth_file"]
    assert str(tmp_path / f"x.{after}.depth") in alerts[1].text
    feed.close()
    for writer in (trade_writer, first, second):
        writer.close()


def test_the_day_so_far_comes_in_order_of_time_however_it_is_cut(tmp_path, clock, alerts):
    """Trades are sparse, depth is dense: in pieces of four rows neither runs ahead of the other."""
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    writers = [
        new_file(tmp_path / "x.scid", sf.SCID, trades(*range(0, 100, 5))),
        new_file(tmp_path / f"x.{date}.depth", sf.DEPTH, book(*((n / 2, sf.MODIFY_BID, 1) for n in range(200)))),
    ]
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=NOON, depth_directory=tmp_path, batch_events=4)
    batches = [batch for _ in range(200) if len(batch := feed.poll())]
    events = np.concatenate(batches)
    assert len(events) == 220
    assert (np.diff(events["ts_ns"]) >= 0).all()
    assert max(map(len, batches)) <= 8
    writers[0].append(trades(99.7))
    writers[1].append(book((99.8, sf.MODIFY_BID, 1)))
    assert offsets(feed.poll()) == [99.7, 99.8]
    feed.close()
    for writer in writers:
        writer.close()


def test_a_depth_file_that_changed_gives_a_gap_and_the_book_anew(tmp_path, clock, alerts):
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    path = tmp_path / f"x.{date}.depth"
    trade_writer = new_file(tmp_path / "x.scid", sf.SCID, trades(1))
    new_file(path, sf.DEPTH, book((0, sf.CLEAR_BOOK, 0), (2, sf.ADD_BID, 1))).close()
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path)
    assert len(feed.poll()) == 3
    path.unlink()
    new_file(path, sf.DEPTH, book((0, sf.CLEAR_BOOK, 0), (3, sf.ADD_ASK, 1))).close()
    events = feed.poll()
    depth = EventKind.DEPTH
    assert events["kind"].tolist() == [EventKind.GAP, depth, depth]
    assert events["flags"].tolist()[1] == EventFlag.CLEAR | EventFlag.SNAPSHOT | EventFlag.CATCHING_UP
    assert events["flags"].tolist()[2] == EventFlag.SNAPSHOT | EventFlag.BATCH_END | EventFlag.CATCHING_UP
    assert [alert.code for alert in alerts] == ["depth_file", "feed_file_changed"]
    feed.close()
    trade_writer.close()


def test_prices_are_multiplied(tmp_path, clock, alerts):
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    new_file(tmp_path / "x.scid", sf.SCID, trades(1, price=600_025)).close()
    new_file(tmp_path / f"x.{date}.depth", sf.DEPTH, book((0, sf.CLEAR_BOOK, 0), (0, sf.ADD_BID, 1))).close()
    feed = ScidFeed(
        tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path, scale=PriceScale(0.01)
    )
    assert feed.poll()["price"].tolist()[1:] == [1.0, 6000.25]
    feed.close()


def test_depth_that_is_not_recorded_is_told_and_trades_come_all_the_same(tmp_path, clock, alerts):
    new_file(tmp_path / "x.scid", sf.SCID, trades(1, 2)).close()
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path / "no")
    assert offsets(feed.poll()) == [1, 2]
    feed.poll()
    assert [alert.code for alert in alerts] == ["feed_file_missing"]
    assert "holds no x.<day>.depth" in alerts[0].text
    feed.close()


def test_hours_of_growth_lose_nothing_and_take_no_memory(tmp_path, clock, alerts):
    """A minute of 2,000 trades and 2,000 depth changes a second, in steps of a second (benchmarks do eight hours)."""
    date = str(np.datetime64(NOON, "ns").astype("M8[D]"))
    writers = [sf.RecordWriter(tmp_path / "x.scid", sf.SCID), sf.RecordWriter(tmp_path / f"x.{date}.depth", sf.DEPTH)]
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, depth_directory=tmp_path)
    feed.poll()
    got, newest, peaks = 0, 0, []
    step = trades(*np.arange(2000) / 2000)
    changes = book(*((n / 2000, sf.MODIFY_BID, 1) for n in range(2000)))
    tracemalloc.start()
    try:
        for _ in range(60):
            for writer, records in zip(writers, (step, changes), strict=True):
                writer.append(records)
                records["time"] += 1_000_000
            clock.pass_s(1)
            while len(events := feed.poll()):
                assert events["ts_ns"][0] >= newest
                newest = events["ts_ns"][-1]
                got += len(events)
            peaks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert got == 240_000
    assert peaks[-1] - peaks[10] < 50_000
    feed.close()
    for writer in writers:
        writer.close()


async def test_closing_ends_the_wait(tmp_path, alerts):
    new_file(tmp_path / "x.scid", sf.SCID, trades(1)).close()
    queue = asyncio.Queue()
    feed = ScidFeed(tmp_path / "x.scid", WallClock(), alerts.append, timer_interval_s=60, poll_interval_s=60.0)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.run(queue))
        await asyncio.sleep(0.01)
        feed.close()
        assert await queue.get() is END
    assert feed._watch._inotify is None


@pytest.mark.parametrize("inotify", [True, False])
async def test_run_follows_a_file_written_meanwhile(tmp_path, alerts, inotify):
    """A writer that tears records across writes: every trade arrives, once, in order."""
    path = tmp_path / "x.scid"
    whole = trades(*range(200))
    queue = asyncio.Queue(maxsize=2)
    feed = ScidFeed(path, WallClock(), alerts.append, since_ns=0, batch_events=16, timer_interval_s=60, inotify=inotify)

    async def write():
        data = sf.SCID.header() + whole.tobytes()
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), 97):
                file.write(data[start : start + 97])
                await asyncio.sleep(0.0002)

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(feed.run(queue))
        tasks.create_task(write())
        got = []
        while len(got) < 200:
            batch = await queue.get()
            assert 0 < len(batch.events) <= 16
            assert batch.ingress_ns > 0
            got += offsets(batch.events)
        running.cancel()
    assert got == list(range(200))


async def batches_of(feed, writer, *steps):
    """(times, whether CATCHING_UP) of the batches, where each step is what is appended once all was read."""
    queue = asyncio.Queue()
    found = []
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed.run(queue))
        for wanted, records in steps:
            if len(records):
                writer.append(records)
            while sum(len(times) for times, _ in found) < wanted:
                batch = await queue.get()
                (late,) = set((batch.events["flags"] & EventFlag.CATCHING_UP).astype(bool))
                found.append((offsets(batch.events), late))
        feed.close()
    return found


@pytest.mark.parametrize("batch_events", [2, 100])
async def test_what_a_file_held_before_it_was_read_to_its_end_is_marked(tmp_path, alerts, batch_events):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(*range(5)))
    feed = ScidFeed(
        tmp_path / "x.scid", WallClock(), alerts.append, since_ns=0, batch_events=batch_events, timer_interval_s=60
    )
    found = await batches_of(feed, writer, (5, trades()), (6, trades(5)))
    assert [times for times, late in found if not late] == [[5]]
    writer.close()


async def test_a_feed_that_falls_behind_catches_up_again(tmp_path, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(0))
    feed = ScidFeed(tmp_path / "x.scid", WallClock(), alerts.append, since_ns=0, batch_events=2, timer_interval_s=60)
    found = await batches_of(feed, writer, (1, trades()), (2, trades(1)), (7, trades(*range(2, 7))), (8, trades(7)))
    assert found == [([0], True), ([1], False), ([2, 3], True), ([4, 5], True), ([6], True), ([7], False)]
    writer.close()


async def test_a_file_that_appears_later_is_marked_too(tmp_path, alerts):
    path = tmp_path / "x.scid"
    feed = ScidFeed(path, WallClock(), alerts.append, since_ns=0, timer_interval_s=60)
    assert len(feed.poll()) == 0
    writer = new_file(path, sf.SCID, trades(*range(5)))
    found = await batches_of(feed, writer, (5, trades()), (6, trades(5)))
    assert found == [([0, 1, 2, 3, 4], True), ([5], False)]
    writer.close()


def catching_up(events):
    return [bool(flags & EventFlag.CATCHING_UP) for flags in events["flags"]]


def test_what_comes_with_a_gap_is_marked(tmp_path, clock, alerts):
    """A file that was away and comes back may hold what happened meanwhile."""
    path = tmp_path / "x.scid"
    new_file(path, sf.SCID, trades(-9, -8)).close()
    feed = ScidFeed(path, clock, alerts.append, since_ns=0)
    assert catching_up(feed.poll()) == [True, True]
    path.rename(tmp_path / "away")
    writer = new_file(path, sf.SCID, trades(-9, -8, -7))
    assert catching_up(found := feed.poll()) == [True] * len(found)
    assert found["kind"][0] == EventKind.GAP
    writer.append(trades(-6))
    assert catching_up(feed.poll()) == [False]
    writer.close()


@pytest.mark.parametrize(("waited_s", "late"), [(3.0, False), (3.1, True)])
def test_what_was_written_while_nobody_looked_is_marked(tmp_path, clock, alerts, waited_s, late):
    """The longest wait between two looks is that for a TIMER; who looks later was held up."""
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(-9))
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, timer_interval_s=1.0)
    feed.poll()
    writer.append(trades(-8))
    clock.pass_s(waited_s)
    assert set(catching_up(feed.poll())) == {late}
    writer.close()


# The reference symbol.


def test_the_reference_comes_in_between_by_time_and_behind_at_equal_times(tmp_path, clock, alerts):
    writers = [
        new_file(tmp_path / "x.scid", sf.SCID, trades(1, 3, 5)),
        new_file(tmp_path / "y.scid", sf.SCID, trades(0, 3, 4, price=200.0)),
    ]
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, reference_path=tmp_path / "y.scid")
    events = feed.poll()
    assert list(zip(offsets(events), events["symbol"].tolist(), strict=True)) == [
        (0, 1), (1, 0), (3, 0), (3, 1), (4, 1), (5, 0),
    ]  # fmt: skip
    assert set(events["price"][events["symbol"] == 1]) == {200.0}
    writers[1].append(trades(6, price=201.0))  # it waits for nobody, and nobody waits for it
    assert feed.poll()["symbol"].tolist() == [1]
    writers[0].append(trades(5.5))
    assert offsets(feed.poll()) == [5.5]
    feed.close()
    for writer in writers:
        writer.close()


def test_of_the_reference_only_what_was_not_read_before_is_read(tmp_path, clock, alerts):
    new_file(tmp_path / "x.scid", sf.SCID, trades(1, 3, 5)).close()
    new_file(tmp_path / "y.scid", sf.SCID, trades(0, 2, 4, 6, price=200.0)).close()
    feed = ScidFeed(
        tmp_path / "x.scid", clock, alerts.append, since_ns=0, reference_path=tmp_path / "y.scid",
        reference_since_ns=NOON + 1000,
    )  # fmt: skip
    events = feed.poll()
    assert [s for s, symbol in zip(offsets(events), events["symbol"], strict=True) if symbol] == [2, 4, 6]
    feed.close()


@pytest.mark.parametrize("batch_events", [1, 3, 7, 4096])
def test_with_a_reference_the_day_so_far_is_in_order_however_it_is_cut(tmp_path, clock, alerts, batch_events):
    writers = [
        new_file(tmp_path / "x.scid", sf.SCID, trades(*range(0, 60, 5))),
        new_file(tmp_path / "y.scid", sf.SCID, trades(*range(0, 60, 2))),
    ]
    feed = ScidFeed(
        tmp_path / "x.scid",
        clock,
        alerts.append,
        since_ns=0,
        reference_path=tmp_path / "y.scid",
        batch_events=batch_events,
        timer_interval_s=1e6,
    )
    events = np.concatenate([feed.poll() for _ in range(100)])
    wanted = sorted([(s, 0) for s in range(0, 60, 5)] + [(s, 1) for s in range(0, 60, 2)])
    assert list(zip(offsets(events), events["symbol"].tolist(), strict=True)) == wanted
    feed.close()
    for writer in writers:
        writer.close()


def test_a_reference_that_is_missing_holds_up_nothing_and_is_no_sign_of_life(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(0))
    feed = ScidFeed(
        tmp_path / "x.scid", clock, alerts.append, since_ns=0, reference_path=tmp_path / "y.scid", timer_interval_s=1.0
    )
    assert offsets(feed.poll()) == [0]
    assert [alert.code for alert in alerts] == ["feed_file_missing"]
    second = new_file(tmp_path / "y.scid", sf.SCID, trades(0.5))
    assert feed.poll()["symbol"].tolist() == [1]
    clock.pass_s(1.0)
    second.append(trades(0.9))
    events = feed.poll()
    assert events["kind"].tolist() == [EventKind.TRADE, EventKind.TIMER]
    assert events["symbol"].tolist() == [1, 0]
    feed.close()
    writer.close()
    second.close()


def test_a_damaged_reference_is_given_up_and_trading_goes_on(tmp_path, clock, alerts):
    writer = new_file(tmp_path / "x.scid", sf.SCID, trades(0, 1))
    bar = trades(0.5)
    bar["open"] = 100.0
    second = new_file(tmp_path / "y.scid", sf.SCID, bar)
    feed = ScidFeed(tmp_path / "x.scid", clock, alerts.append, since_ns=0, reference_path=tmp_path / "y.scid")
    assert offsets(feed.poll()) == [0, 1]
    assert [(alert.code, alert.priority) for alert in alerts] == [("reference_lost", Priority.ERROR)]
    assert "trading goes on without the reference symbol" in alerts[0].text
    writer.append(trades(2))
    assert offsets(feed.poll()) == [2]
    assert len(alerts) == 1
    feed.close()
    writer.close()
    second.close()
