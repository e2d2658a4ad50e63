"""The touch of the order book reaches whoever reads the events, by way of the rows that end its batches."""

import asyncio
import math

import numpy as np
import pytest
import real_hour
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import WallClock
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.book_touch import BookTouch
from mia_daemon.feed.replay_feed import ReplayFeed
from mia_daemon.feed.scid_feed import ScidFeed
from mia_daemon.market import LastTouch
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.records import EventFlag, EventKind, empty_events

TICK = 0.25
SCALE = PriceScale(tick_size=TICK)

changes = st.lists(
    st.tuples(
        st.sampled_from([1, -1]),
        st.integers(-3, 8).map(lambda ticks: 100.0 + ticks * TICK),
        st.integers(0, 4),
        st.booleans(),  # ends a batch
        st.integers(0, 19).map(lambda n: n == 0),  # empties the book before
    ),
    max_size=60,
)


@pytest.fixture(autouse=True, scope="module")
def compiled():
    """Outside the time that an example has."""
    BookTouch(TICK).write(empty_events(0))


def rows_of(listed):
    events = empty_events(len(listed))
    events["kind"] = EventKind.DEPTH
    for n, (event, (side, price, size, ends, clears)) in enumerate(zip(events, listed, strict=True)):
        event["ts_ns"], event["side"], event["price"], event["size"] = n + 1, side, price, size
        event["flags"] = ends * EventFlag.BATCH_END | clears * EventFlag.CLEAR
    return events


@given(changes, st.data())
def test_the_row_that_ends_a_batch_has_the_touch_of_the_book(listed, data):
    events = rows_of(listed)
    cut = data.draw(st.integers(0, len(events)))
    touch = BookTouch(TICK)
    touch.write(events[:cut])
    touch.write(events[cut:])
    books = {1: {}, -1: {}}
    for event, (side, price, size, ends, clears) in zip(events, listed, strict=True):
        if clears:
            books = {1: {}, -1: {}}
        books[side].pop(price, None)
        if size:
            books[side][price] = size
        bid, ask = max(books[1], default=math.nan), min(books[-1], default=math.nan)
        if ends and bid < ask:
            told = tuple(event[["bid", "bid_size", "ask", "ask_size"]])
            assert told == (bid, books[1][bid], ask, books[-1][ask])
        else:
            assert np.isnan(event["bid"])
            assert np.isnan(event["ask"])


def test_depth_of_the_reference_symbol_is_not_ours():
    events = rows_of([(1, 100.0, 1, False, False), (-1, 100.25, 1, True, False)])
    events["symbol"] = 1
    BookTouch(TICK).write(events)
    assert np.isnan(events["bid"]).all()


@pytest.fixture(scope="module")
def hour(shared_dir, tmp_path_factory):
    source = shared_dir / "data" / "depth" / "esh4_20231225_l2x10.npz"
    if not source.exists():
        pytest.skip(f"real data not present: {source}")
    return real_hour.write(source, tmp_path_factory.mktemp("hour"))


def compare_with_the_source(hour, batches):
    """The touch after each batch is that of the source's newest state by then; says how many were compared."""
    last, compared = LastTouch(), 0
    for events in batches:
        last.on_events(events)
        k = int(np.searchsorted(hour.state_us, sf.to_us(events["ts_ns"].max()), side="right")) - 1
        if events["kind"][-1] == EventKind.TRADE:  # of the same microsecond as a state, which comes behind it
            k -= hour.state_us[k] == sf.to_us(events["ts_ns"][-1])
        touch = last.touch
        assert (touch.bid, touch.bid_size, touch.ask, touch.ask_size) == tuple(hour.touch[k])
        compared += 1
    return compared


def whole_batches(batches):
    """The same events, cut where the book is consistent: only there it has a touch."""
    events = np.concatenate(list(batches))
    ends = np.flatnonzero((events["kind"] != EventKind.DEPTH) | (events["flags"] & EventFlag.BATCH_END > 0)) + 1
    begin = np.flatnonzero(events["flags"] & EventFlag.BATCH_END)[0] + 1
    yield events[:begin]
    for start, stop in zip(ends[ends >= begin], ends[ends > begin], strict=False):
        yield events[start:stop]


def test_a_replay_has_the_touch_of_the_book_at_every_event(hour):
    feed = ReplayFeed(hour.scid, WallClock(), depth_path=hour.depth, scale=SCALE, batch_events=1000)
    assert compare_with_the_source(hour, whole_batches(feed.batches())) > 30_000


async def test_the_live_tail_has_it_too(hour, tmp_path):
    """The files grow piece by piece, as Sierra Chart flushes them."""
    scid, depth = (tmp_path / path.name for path in (hour.scid, hour.depth))
    trades, changes_ = sf.read_scid(hour.scid), sf.read_depth(hour.depth)
    feed = ScidFeed(scid, WallClock(), lambda _: None, since_ns=0, depth_directory=tmp_path, scale=SCALE, inotify=False)
    batches = []
    scid.write_bytes(sf.SCID.header())
    depth.write_bytes(sf.DEPTH.header())
    for until in np.linspace(hour.state_us[0], hour.state_us[-1], 40).astype("i8")[1:]:
        for path, records in ((scid, trades), (depth, changes_)):
            first, last = np.searchsorted(records["time"], (path_end(path, records), until), side="right")
            with path.open("ab") as file:
                file.write(records[first:last].tobytes())
        while len(events := feed.poll()) and events["kind"][0] != EventKind.TIMER:
            batches.append(events)
        await asyncio.sleep(0)
    feed.close()
    assert compare_with_the_source(hour, batches) >= 39


def path_end(path, records):
    """The time of the last record in the file; less than any where there is none."""
    header = sf.SCID.header_size if path.suffix == ".scid" else sf.DEPTH.header_size
    written = (path.stat().st_size - header) // records.dtype.itemsize
    return records["time"][written - 1] if written else -1
