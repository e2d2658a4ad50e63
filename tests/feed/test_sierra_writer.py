"""The files that a market leaves: what a reader finds in them is what the market did."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.feed.sierra_files import (
    ADD_ASK,
    ADD_BID,
    CLEAR_BOOK,
    DELETE_BID,
    FIRST_SUBTRADE_BITS,
    LAST_SUBTRADE_BITS,
    MODIFY_BID,
    depth_to_events,
    read_depth,
    read_scid,
    to_ns,
)
from mia_daemon.feed.sierra_writer import SierraWriter
from mia_daemon.records import EventFlag, EventKind, empty_events

SYMBOL = "ESZ26_FUT_CME"
DAY_NS = 86_400 * 10**9
NOON_NS = 1_793_620_800 * 10**9  # 2026-11-02 12:00 UTC


def trade(ts_ns, price=6000.25, side=1, size=3, flags=0):
    row = empty_events(1)
    row["ts_ns"], row["kind"], row["price"], row["side"], row["size"], row["flags"] = ts_ns, 1, price, side, size, flags
    row["bid"], row["ask"], row["count"] = 6000.0, 6000.25, 1
    return row


def level(ts_ns, side, price, size, orders=2, flags=EventFlag.BATCH_END):
    row = empty_events(1)
    row["ts_ns"], row["kind"], row["price"], row["side"], row["size"] = ts_ns, EventKind.DEPTH, price, side, size
    row["flags"], row["count"] = flags, orders
    return row


def clear(ts_ns):
    return level(ts_ns, 0, np.nan, 0, 0, EventFlag.CLEAR | EventFlag.SNAPSHOT)


@pytest.fixture
def written(tmp_path):
    """Write these events and close; (trades' records, depth files' records by day)."""

    def write(*events, begin_ns=NOON_NS, flush_ms=0.0):
        writer = SierraWriter(tmp_path, SYMBOL, begin_ns, flush_ms)
        for event in events:
            writer.append(event)
        writer.close()
        days = sorted((tmp_path / "MarketDepthData").iterdir())
        trades = tmp_path / f"{SYMBOL}.scid"
        return (
            read_scid(trades) if trades.stat().st_size > 56 else [],
            {path.name.split(".")[1]: read_depth(path) for path in days},
        )

    return write


def test_a_trade_is_one_record_with_the_touch_it_met(written):
    trades, depth = written(trade(NOON_NS), trade(NOON_NS + 10**9, 6000.0, -1, 5))
    assert not depth
    assert to_ns(trades["time"]).tolist() == [NOON_NS, NOON_NS + 10**9]
    assert trades[
        ["open", "high", "low", "close", "num_trades", "total_volume", "bid_volume", "ask_volume"]
    ].tolist() == [
        (0.0, 6000.25, 6000.0, 6000.25, 1, 3, 0, 3),
        (0.0, 6000.25, 6000.0, 6000.0, 1, 5, 5, 0),
    ]


def test_the_parts_of_one_order_are_marked_and_a_microsecond_apart(written):
    flags = (EventFlag.FIRST_SUBTRADE, 0, EventFlag.LAST_SUBTRADE)
    trades, _ = written(*(trade(NOON_NS, flags=f) for f in flags), trade(NOON_NS + 1000))
    assert trades["open"].view("<u4").tolist() == [FIRST_SUBTRADE_BITS, 0, LAST_SUBTRADE_BITS, 0]
    assert ((to_ns(trades["time"]) - NOON_NS) // 1000).tolist() == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30).map(sorted), st.integers(1, 30))
def test_every_record_has_a_time_of_its_own_however_they_are_flushed(tmp_path_factory, offsets, cut):
    directory = tmp_path_factory.mktemp("files")
    writer = SierraWriter(directory, SYMBOL, NOON_NS, 0.0)
    for number, offset in enumerate(offsets):
        writer.append(trade(NOON_NS + offset * 1000))
        if number % cut == 0:
            writer.flush(number)
    writer.close()
    times = to_ns(read_scid(directory / f"{SYMBOL}.scid")["time"])
    assert (np.diff(times) > 0).all()
    assert (times >= NOON_NS + np.array(offsets) * 1000).all()
    assert times[-1] <= NOON_NS + (offsets[-1] + len(offsets)) * 1000


def test_nothing_is_written_before_the_flush_is_due(tmp_path):
    writer = SierraWriter(tmp_path, SYMBOL, NOON_NS, 100.0)
    path = tmp_path / f"{SYMBOL}.scid"
    sizes = []
    for ms in (0, 40, 99, 100, 150, 199, 200):
        writer.append(trade(NOON_NS + ms * 1_000_000))
        writer.flush(ms * 1_000_000)
        sizes.append((path.stat().st_size - 56) // 40)
    assert sizes == [1, 1, 1, 4, 4, 4, 7]
    writer.append(trade(NOON_NS + 10**9))
    writer.close()
    assert len(read_scid(path)) == 8


def test_changes_of_the_book_are_named_for_what_they_are(written):
    _, depth = written(
        clear(NOON_NS),
        level(NOON_NS, 1, 6000.0, 10, flags=EventFlag.SNAPSHOT),
        level(NOON_NS, -1, 6000.25, 7, flags=EventFlag.SNAPSHOT | EventFlag.BATCH_END),
        level(NOON_NS + 1000, 1, 6000.0, 12),
        level(NOON_NS + 2000, 1, 6000.0, 0),
        level(NOON_NS + 3000, 1, 6000.0, 4, orders=9),
    )
    records = depth["2026-11-02"]
    assert records["command"].tolist() == [CLEAR_BOOK, ADD_BID, ADD_ASK, MODIFY_BID, DELETE_BID, ADD_BID]
    assert records["flags"].tolist() == [0, 0, 1, 1, 1, 1]
    assert records["quantity"].tolist() == [0, 10, 7, 12, 0, 4]
    assert records["num_orders"][-1] == 9
    assert to_ns(records["time"])[-1] == NOON_NS + 3000


def test_each_utc_day_has_a_file_that_begins_with_the_book_as_it_stood(written):
    midnight = NOON_NS + DAY_NS // 2
    _, depth = written(
        clear(NOON_NS),
        level(NOON_NS, -1, 6000.5, 8),
        level(NOON_NS, 1, 6000.0, 10),
        level(NOON_NS, 1, 5999.75, 20),
        level(midnight - 1000, 1, 6000.0, 11),
        level(midnight, 1, 6000.0, 12),
    )
    assert list(depth) == ["2026-11-02", "2026-11-03"]
    second = depth["2026-11-03"]
    assert (to_ns(second["time"]) == midnight).all()
    assert second[["command", "price", "quantity"]].tolist() == [
        (CLEAR_BOOK, 0.0, 0),
        (ADD_BID, 6000.0, 11),
        (ADD_BID, 5999.75, 20),
        (ADD_ASK, 6000.5, 8),
        (MODIFY_BID, 6000.0, 12),
    ]
    flags = depth_to_events(second)["flags"]
    assert [bool(f & EventFlag.SNAPSHOT) for f in flags] == [True] * 4 + [False]


def test_a_later_run_goes_on_in_the_same_files(written):
    written(trade(NOON_NS), clear(NOON_NS), level(NOON_NS, 1, 6000.0, 1))
    trades, depth = written(trade(NOON_NS), clear(NOON_NS + 10**9), level(NOON_NS + 10**9, 1, 6000.0, 2))
    assert ((to_ns(trades["time"]) - NOON_NS) // 1000).tolist() == [0, 1]
    assert depth["2026-11-02"]["command"].tolist() == [CLEAR_BOOK, ADD_BID] * 2


def test_a_market_whose_time_is_earlier_does_not_write_behind_the_files(written):
    written(trade(NOON_NS))
    with pytest.raises(StartError, match="later than this market's 2026-11-02T11:59:59"):
        written(begin_ns=NOON_NS - 10**9)


def test_a_foreign_file_of_the_name_is_left_alone(tmp_path, written):
    (tmp_path / f"{SYMBOL}.scid").write_bytes(b"x" * 100)
    with pytest.raises(FileFormatError):
        written()
    assert (tmp_path / f"{SYMBOL}.scid").read_bytes() == b"x" * 100


def test_a_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="can't be written"):
        SierraWriter(tmp_path / "file" / "data", SYMBOL, NOON_NS, 0.0)
