"""The live feed from Sierra Chart's files, which a writer makes grow while it is read."""

import asyncio

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S, WallClock
from mia_daemon.errors import FileFormatError
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.scid_feed import ScidFeed
from mia_daemon.records import EventFlag, EventKind, Priority

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


def test_bars_and_damaged_records_end_the_feed(tmp_path, clock, alerts):
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


async def test_run_follows_a_file_written_meanwhile(tmp_path, alerts):
    """A writer that tears records across writes: every trade arrives, once, in order."""
    path = tmp_path / "x.scid"
    whole = trades(*range(200))
    queue = asyncio.Queue(maxsize=2)
    feed = ScidFeed(path, WallClock(), alerts.append, since_ns=0, batch_events=16, timer_interval_s=60)

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
            assert batch.born_ns > 0
            got += offsets(batch.events)
        running.cancel()
    assert got == list(range(200))
