"""Replay: the same events however they are cut, from `.scid`, `.scid` with `.depth`, and recordings."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.clock import WallClock
from mia_daemon.errors import FileFormatError, UsageError
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.recorder import Recorder
from mia_daemon.feed.replay_feed import ReplayFeed
from mia_daemon.records import EventKind
from mia_daemon.stage import END

START_US = sf.to_us(1_700_000_000_000_000_000)


def trades(times):
    records = np.zeros(len(times), sf.SCID_RECORD)
    records["time"] = START_US + np.asarray(times, "i8")
    records["close"] = 100.0 + np.arange(len(times))
    records["total_volume"] = records["ask_volume"] = records["num_trades"] = 1
    return records


def book(times, seed=1):
    random = np.random.default_rng(seed)
    records = np.zeros(len(times), sf.DEPTH_RECORD)
    records["time"] = START_US + np.asarray(times, "i8")
    records["command"] = random.integers(1, 8, len(times))
    records["flags"] = random.integers(0, 2, len(times))
    records["price"], records["quantity"] = 100.0, np.arange(len(times))
    return records


def files(directory, trade_records, depth_records):
    directory.mkdir(exist_ok=True)
    (directory / "x.scid").write_bytes(sf.SCID.header() + trade_records.tobytes())
    (directory / "x.depth").write_bytes(sf.DEPTH.header() + depth_records.tobytes())
    return directory / "x.scid", directory / "x.depth"


def joined(feed):
    batches = list(feed.batches())
    assert all(len(batch) for batch in batches)
    return np.concatenate(batches)


@pytest.mark.parametrize("batch_events", [1000, 4096, 48_736, 48_737, 100_000])
def test_real_file_is_the_same_however_it_is_cut(mnq_scid, batch_events):
    feed = ReplayFeed(mnq_scid, WallClock(), batch_events=batch_events)
    assert len(feed) == 48_737
    assert joined(feed).tobytes() == sf.scid_to_events(sf.read_scid(mnq_scid)).tobytes()


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.integers(1, 70),
)
@settings(max_examples=60)
def test_trades_and_depth_cut_anywhere_are_the_whole_merged(tmp_path_factory, trade_times, depth_times, batch_events):
    trade_records, depth_records = trades(trade_times), book(depth_times)
    path, depth_path = files(tmp_path_factory.mktemp("merge"), trade_records, depth_records)
    feed = ReplayFeed(path, WallClock(), depth_path=depth_path, batch_events=batch_events)
    whole = sf.merge(sf.scid_to_events(trade_records), sf.depth_to_events(depth_records))
    assert joined(feed).tobytes() == whole.tobytes()
    assert joined(feed).tobytes() == whole.tobytes()  # a second pass starts afresh


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.integers(0, 21),
    st.integers(1, 70),
)
@settings(max_examples=60)
def test_up_to_a_time_it_ends_before_the_first_event_of_then_or_later(
    tmp_path_factory, trade_times, depth_times, end, batch_events
):
    path, depth_path = files(tmp_path_factory.mktemp("end"), trades(trade_times), book(depth_times))
    whole = joined(ReplayFeed(path, WallClock(), depth_path=depth_path))
    to_ns = int(sf.to_ns(np.array([START_US + end]))[0])
    feed = ReplayFeed(path, WallClock(), depth_path=depth_path, batch_events=batch_events, to_ns=to_ns)
    kept = int(np.argmax(np.append(whole["ts_ns"], to_ns) >= to_ns))
    assert b"".join(batch.tobytes() for batch in feed.batches()) == whole[:kept].tobytes()
    assert feed.span_ns == (whole["ts_ns"].min(), whole["ts_ns"].max())


async def test_run_puts_batches_then_end_and_waits_for_room(tmp_path):
    path, _ = files(tmp_path, trades(range(10)), book([0]))
    queue = asyncio.Queue(maxsize=1)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(ReplayFeed(path, WallClock(), batch_events=4).run(queue))
        got = []
        while (item := await queue.get()) is not END:
            got.append(item)
    assert [len(batch.events) for batch in got] == [4, 4, 2]
    born = [batch.ingress_ns for batch in got]
    assert born == sorted(born)
    assert born[0] > 0


async def test_run_lets_others_run_even_when_the_queue_has_room(tmp_path):
    path, _ = files(tmp_path, trades(range(100)), book([0]))
    queue = asyncio.Queue()
    task = asyncio.create_task(ReplayFeed(path, WallClock(), batch_events=1).run(queue))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    await task
    assert queue.qsize() == 101


def test_recording_replays_bit_for_bit(tmp_path, mnq_scid):
    events = sf.scid_to_events(sf.read_scid(mnq_scid))
    recorder = Recorder(tmp_path / "session", "MNQU21-CME", 0, print)
    for start in range(0, len(events), 777):
        recorder.append(events[start : start + 777])
    recorder.close()
    assert joined(ReplayFeed(tmp_path / "session", WallClock())).tobytes() == events.tobytes()
    first = joined(ReplayFeed(tmp_path / "session" / "events-000001.bin", WallClock()))
    assert 0 < len(first) < len(events)
    assert first.tobytes() == events[: len(first)].tobytes()


def test_a_directory_without_a_recording_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match=f"^{tmp_path} holds no recording: name one of var/recordings"):
        ReplayFeed(tmp_path, WallClock())


def test_recording_with_a_depth_file_is_refused(tmp_path):
    recorder = Recorder(tmp_path, "ESZ26", 0, print)
    recorder.close()
    with pytest.raises(UsageError, match="its own depth"):
        ReplayFeed(tmp_path, WallClock(), depth_path=tmp_path / "x.depth")


def test_bad_files_are_refused_before_the_first_event(tmp_path):
    path, depth_path = files(tmp_path, trades([1]), book([1]))
    with depth_path.open("ab") as file:
        file.write(b"?")
    with pytest.raises(FileFormatError, match="cut off inside its last record"):
        ReplayFeed(path, WallClock(), depth_path=depth_path)
    with pytest.raises(FileFormatError, match=r"not a \.scid"):
        ReplayFeed(depth_path, WallClock())


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30),
    st.lists(st.integers(0, 25), min_size=1, max_size=30),
    st.lists(st.integers(0, 20), max_size=10),
    st.integers(1, 12),
)
@settings(max_examples=60)
def test_the_reference_is_merged_by_time_however_it_is_cut(tmp_path_factory, own, other, depth_times, batch_events):
    """Behind the traded symbol at equal times; what lies outside the traded symbol's time is left out."""
    own, other, depth_times = sorted(own), sorted(other), sorted(depth_times)
    directory = tmp_path_factory.mktemp("reference")
    path, depth = files(directory, trades(own), book(depth_times))
    beside = directory / "y.scid"
    beside.write_bytes(sf.SCID.header() + trades(other).tobytes())
    depth_path = depth if depth_times else None
    alone = joined(ReplayFeed(path, WallClock(), depth_path=depth_path))
    feed = ReplayFeed(path, WallClock(), depth_path=depth_path, reference_path=beside, batch_events=batch_events)
    both = joined(feed)
    assert len(both) == len(feed)
    assert both[both["symbol"] == 0].tobytes() == alone.tobytes()
    first, last = alone["ts_ns"].min(), alone["ts_ns"].max()
    wanted = [int(time) for time in to_ns(np.asarray(other)) if first <= time <= last]
    assert both["ts_ns"][both["symbol"] == 1].tolist() == wanted
    keys = list(zip(both["ts_ns"].tolist(), both["symbol"].tolist(), strict=True))
    assert keys == sorted(keys)


def to_ns(times):
    return sf.to_ns(START_US + times.astype("i8"))


def test_a_recording_holds_its_own_reference(tmp_path):
    recorder = Recorder(tmp_path / "r", "ESZ26_FUT_CME", 1_700_000_000_000_000_000, lambda _alert: None)
    recorder.close()
    with pytest.raises(UsageError, match="holds its own reference"):
        ReplayFeed(recorder.path, WallClock(), reference_path=tmp_path / "y.scid")


@given(
    st.lists(st.integers(0, 6_000_000), min_size=1, max_size=12),
    st.lists(st.integers(0, 6_000_000), max_size=6),
    st.integers(1, 40),
)
def test_timers_stand_where_silence_is_however_the_file_is_cut(tmp_path_factory, own, others, batch):
    """A timer comes a second after the traded symbol's last event, and carries three quarters of that."""
    directory = tmp_path_factory.mktemp("timers")
    (directory / "x.scid").write_bytes(sf.SCID.header() + trades(sorted(own)).tobytes())
    reference = directory / "y.scid" if others else None
    if reference is not None:
        reference.write_bytes(sf.SCID.header() + trades(sorted(others)).tobytes())

    def read(batch_events, timers_up_to_s):
        return joined(
            ReplayFeed(
                directory / "x.scid",
                WallClock(),
                reference_path=reference,
                batch_events=batch_events,
                timers_up_to_s=timers_up_to_s,
            )
        )

    events = read(1000, 100.0)
    assert read(batch, 100.0).tobytes() == events.tobytes()
    is_timer = events["kind"] == EventKind.TIMER
    assert events[~is_timer].tobytes() == read(1000, 0.0).tobytes()
    heard = None
    for event in events:
        if event["kind"] == EventKind.TIMER:
            silence_ns = int(event["recv_ns"]) - heard
            assert silence_ns % 10**9 == 0 < silence_ns
            assert event["ts_ns"] == event["recv_ns"] - 250_000_000
        elif event["symbol"] == 0:
            heard = int(event["ts_ns"])
    received = events["recv_ns"]
    assert (np.diff(received) >= 0).all()
