"""Records of `.scid` files as they travel, and as bars; an archive that serves them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mia_daemon.dtc.historical import PRICE_RECORD
from mia_daemon.errors import FileFormatError
from mia_daemon.feed.history import archive as history_archive
from mia_daemon.feed.history.archive import ScidArchive
from mia_daemon.feed.history.records import bars, from_scid, to_scid
from mia_daemon.feed.sierra_files import (
    FIRST_SUBTRADE_BITS,
    SCID,
    SCID_RECORD,
    RecordWriter,
    read_scid,
    to_us,
)

MINUTE_US = 60_000_000
START_US = 1_700_000_040_000_000  # a whole minute
DAY_US = 86_400 * 10**6


def trades(count, step_us=1_000_000, first_us=START_US):
    records = np.zeros(count, SCID_RECORD)
    number = np.arange(count)
    records["time"] = to_us((first_us + number * step_us) * 1000)
    records["close"] = 6000 + number * 7 % 40 * 0.25
    records["high"], records["low"] = records["close"] + 0.25, records["close"]
    records["num_trades"] = 1
    records["total_volume"] = 1 + number % 5
    records["ask_volume"] = np.where(number % 2, records["total_volume"], 0)
    records["bid_volume"] = records["total_volume"] - records["ask_volume"]
    records["open"].view("<u4")[::9] = FIRST_SUBTRADE_BITS
    return records


def archive_of(tmp_path, records, symbol="ESZ26_FUT_CME"):
    writer = RecordWriter(tmp_path / f"{symbol}.scid", SCID)
    writer.append(records)
    writer.close()
    return ScidArchive(tmp_path)


@given(hnp.arrays(np.uint32, (6, 5)), st.integers(-(10**17), 4 * 10**16))
def test_nothing_is_lost_on_the_way(words, time_us):
    records = np.zeros(6, SCID_RECORD)
    records["time"] = time_us
    records["open"].view("<u4")[:] = words[:, 0] & 0xFF7FFFFF  # no NaN or infinity
    records["close"], records["high"] = 6000.25, 6000.5
    for column, name in enumerate(("num_trades", "total_volume", "bid_volume", "ask_volume"), 1):
        records[name] = words[:, column]
    assert to_scid(from_scid(records), ticks=False).tobytes() == records.tobytes()


def test_nothing_is_lost_of_a_file_that_sierra_chart_wrote(mnq_scid):
    records = read_scid(mnq_scid)
    assert to_scid(from_scid(records), ticks=True).tobytes() == records.tobytes()


def test_a_trade_told_as_a_bar_without_height_is_a_trade_of_unknown_touch():
    rows = np.zeros(2, PRICE_RECORD)
    rows["open"] = rows["high"] = rows["low"] = rows["last"] = 6000.25
    rows["high"][1] += 0.25
    told = to_scid(rows, ticks=True)
    assert told[["open", "high", "low", "close"]].tolist() == [(0, 0, 0, 6000.25), (6000.25, 6000.5, 6000.25, 6000.25)]


@given(
    st.lists(st.tuples(st.integers(0, 300_000_000_000), st.integers(-40, 40), st.integers(1, 9)), min_size=1).map(
        sorted
    ),
    st.one_of(st.sampled_from([1, 60, 3600, 86_400]), st.integers(1, 86_400)),
)
def test_bars_are_those_of_pandas_and_their_time_is_that_of_their_first_trade(trades_made, interval_s):
    offsets, prices, volumes = (np.array(column) for column in zip(*trades_made, strict=True))
    rows = np.zeros(len(offsets), PRICE_RECORD)
    rows["time_us"] = START_US + offsets
    rows["last"], rows["volume"], rows["num_trades"] = 6000 + prices * 0.25, volumes, 1
    rows["bid_volume"], rows["ask_volume"] = volumes * (prices < 0), volumes * (prices >= 0)
    frame = pd.DataFrame(
        {name: rows[name] for name in PRICE_RECORD.names}, index=pd.to_datetime(rows["time_us"], unit="us")
    )
    groups = frame.resample(f"{interval_s}s", origin="epoch")
    expected = groups["last"].ohlc()
    for name in ("volume", "num_trades", "bid_volume", "ask_volume"):
        expected[name] = groups[name].sum()
    expected["time_us"] = groups["time_us"].first()
    expected = expected[expected["num_trades"] > 0].rename(columns={"close": "last"})
    found = bars(rows, interval_s)
    for name in PRICE_RECORD.names:
        assert found[name].tolist() == expected[name].tolist(), name


@pytest.mark.parametrize("piece", [1, 7, 61, 1000])
def test_pieces_make_the_same_bars_as_the_whole(tmp_path, monkeypatch, piece):
    records = trades(500)
    archive = archive_of(tmp_path, records)
    monkeypatch.setattr(history_archive, "_PIECE", piece)
    pieces = list(archive.pieces("ESZ26_FUT_CME", 60, 0, START_US * 2))
    assert np.concatenate(pieces).tolist() == bars(from_scid(records), 60).tolist()
    ticks = np.concatenate(list(archive.pieces("ESZ26_FUT_CME", 0, 0, START_US * 2)))
    assert ticks.tolist() == from_scid(records).tolist()


def test_only_what_lies_between_the_times_is_served_both_included(tmp_path):
    archive = archive_of(tmp_path, trades(100))
    (rows,) = archive.pieces("ESZ26_FUT_CME", 0, START_US + 10_000_000, START_US + 12_000_000)
    assert (rows["time_us"] - START_US).tolist() == [10_000_000, 11_000_000, 12_000_000]
    assert not list(archive.pieces("ESZ26_FUT_CME", 0, START_US + 10_100_000, START_US + 10_200_000))
    assert not list(archive.pieces("ESZ26_FUT_CME", 0, 1, 2))


@pytest.mark.parametrize("interval_s", [0, 3600])
def test_days_count_back_from_the_last_record_up_to_the_end(tmp_path, interval_s):
    records = trades(10)
    records["time"] = to_us((START_US + np.arange(10) * DAY_US // 2) * 1000)
    archive = archive_of(tmp_path, records)

    def days(max_days, start_us=0, end_us=START_US * 2):
        pieces = list(archive.pieces("ESZ26_FUT_CME", interval_s, start_us, end_us, max_days))
        return ((np.concatenate(pieces)["time_us"] - START_US) / DAY_US).tolist() if pieces else []

    assert days(1) == [3.5, 4.0, 4.5]
    assert days(1, end_us=START_US + 2 * DAY_US + 7) == [1.0, 1.5, 2.0]
    assert days(1, start_us=START_US + 4 * DAY_US) == [4.0, 4.5]
    assert days(0) == days(1 << 32 - 1) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]
    assert days(1, end_us=START_US - 1) == []


@pytest.mark.parametrize("symbol", ["../ESZ26_FUT_CME", "..", "", "/etc/passwd", ".hidden", "NQZ26_FUT_CME", "a\\b"])
def test_nothing_else_is_served(tmp_path, symbol):
    (tmp_path / "in").mkdir()
    archive_of(tmp_path, trades(3))
    archive = archive_of(tmp_path / "in", trades(3))
    with pytest.raises(FileFormatError, match="there is no"):
        archive.pieces(symbol, 0, 0, START_US * 2)
