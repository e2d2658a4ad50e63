"""`.scid` and `.depth`: every field as Sierra Chart wrote it, and no file that is not one gets through."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.feed import sierra_files as sf
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.products.ticks import nearest_tick
from mia_daemon.records import MARKET_EVENT, EventFlag, EventKind, empty_events

T0_NS = 1_700_000_000_000_000_000


def scid(*rows):
    """Records from (seconds, price, bid, ask, bid volume, ask volume)."""
    records = np.zeros(len(rows), sf.SCID_RECORD)
    for record, (second, price, bid, ask, sold, bought) in zip(records, rows, strict=True):
        record["time"] = sf.to_us(T0_NS + round(second * 1e9))
        record["close"], record["low"], record["high"] = price, bid, ask
        record["bid_volume"], record["ask_volume"] = sold, bought
        record["total_volume"], record["num_trades"] = sold + bought, 1
    return records


def depth(*rows):
    """Records from (seconds, command, price, quantity, flags)."""
    records = np.zeros(len(rows), sf.DEPTH_RECORD)
    for record, (second, command, price, quantity, flags) in zip(records, rows, strict=True):
        record["time"] = sf.to_us(T0_NS + round(second * 1e9))
        record["command"], record["price"], record["quantity"], record["flags"] = command, price, quantity, flags
        record["num_orders"] = quantity
    return records


def write(path, fmt, records):
    path.write_bytes(fmt.header() + records.tobytes())
    return path


ONE = scid((0, 6000.25, 6000.0, 6000.25, 0, 3))


# ------------------------------------------------------------------------------------------------ the real file


def test_real_file_counts(mnq_scid):
    events = sf.scid_to_events(sf.read_scid(mnq_scid))
    first = events["flags"] & EventFlag.FIRST_SUBTRADE != 0
    last = events["flags"] & EventFlag.LAST_SUBTRADE != 0
    assert len(events) == 48_737
    assert (first.sum(), last.sum(), (~first & ~last).sum()) == (2_102, 2_102, 44_533)
    assert set(events["kind"]) == {EventKind.TRADE}
    assert set(events["side"]) == {-1, 1}


def test_real_file_first_and_last_event(mnq_scid):
    events = sf.scid_to_events(sf.read_scid(mnq_scid))
    assert np.array(events["ts_ns"][[0, -1]], "M8[ns]").astype(str).tolist() == [
        "2020-11-25T01:21:41.954000000",
        "2021-05-31T16:58:07.577000000",
    ]
    first, second = events[0], events[1]
    assert (first["price"], first["bid"], first["ask"], first["size"], first["side"]) == (
        12100.0,
        12093.5,
        12100.0,
        1,
        1,
    )
    assert (second["price"], second["bid"], second["ask"], second["size"], second["side"]) == (
        12506.25,
        12506.25,
        12533.5,
        1,
        -1,
    )


def test_real_file_every_field_against_plain_struct(mnq_scid):
    """The columns agree with the records unpacked one by one, without numpy."""
    raw = mnq_scid.read_bytes()[56:]
    events = sf.scid_to_events(sf.read_scid(mnq_scid))
    first_bits, last_bits = (struct.unpack("<I", struct.pack("<f", x))[0] for x in (-1.99900095e37, -1.99900197e37))
    for index, (time, bits, ask, bid, close, trades, volume, sold, bought) in enumerate(
        struct.iter_unpack("<qI3f4I", raw)
    ):
        event = events[index]
        assert event["ts_ns"] == event["recv_ns"] == (time - 25_569 * 86_400_000_000) * 1000
        assert (event["price"], event["bid"], event["count"], event["size"]) == (close, bid, trades, volume)
        assert event["ask"] == ask or (ask == 0 and np.isnan(event["ask"]))
        assert volume == sold + bought
        assert event["side"] == (1 if bought else -1)
        assert event["flags"] == (1 if bits == first_bits else 2 if bits == last_bits else 0)
        assert (event["symbol"], event["bid_size"], event["ask_size"], event["reserved"]) == (0, 0, 0, 0)


def test_real_file_record_with_ask_below_bid_keeps_its_trade(mnq_scid):
    records = sf.read_scid(mnq_scid)
    (at,) = np.flatnonzero(records["high"] < records["low"])
    event = sf.scid_to_events(records)[at]
    assert records["high"][at] == 0  # "none", as Sierra Chart stores it
    assert (event["price"], event["bid"]) == (12930.0, 12930.0)
    assert np.isnan(event["ask"])


def test_real_file_survives_the_way_there_and_back(mnq_scid):
    records = sf.read_scid(mnq_scid)
    assert sf.events_to_scid(sf.scid_to_events(records)).tobytes() == records.tobytes()


# ------------------------------------------------------------------------------------------------ conversion


def test_aggressor_is_the_side_with_volume():
    records = scid((0, 1, 1, 2, 4, 0), (1, 2, 1, 2, 0, 5), (2, 2, 1, 2, 1, 1), (3, 2, 1, 2, 0, 0))
    events = sf.scid_to_events(records)
    assert events["side"].tolist() == [-1, 1, 0, 0]
    assert events["size"].tolist() == [4, 5, 2, 0]


def test_crossed_touch_stays_as_it_is():
    events = sf.scid_to_events(scid((0, 10.0, 11.0, 10.0, 0, 1)))
    assert (events["bid"][0], events["ask"][0]) == (11.0, 10.0)


def test_markers_are_told_by_their_bits():
    """Two neighbouring floats lie between 'first' and 'last' only by bits; a near miss is a bar, not a marker."""
    records = np.concatenate([ONE] * 3)
    records["open"] = np.array([-1.99900095e37, -1.99900197e37, 0.0], "<f4")
    assert sf.scid_to_events(records)["flags"].tolist() == [EventFlag.FIRST_SUBTRADE, EventFlag.LAST_SUBTRADE, 0]
    records["open"].view("<u4")[0] += 1
    with pytest.raises(FileFormatError, match=r"record 0 .* is a bar"):
        sf.check_scid(records, "x.scid")


def test_stored_hundredths_become_exact_prices():
    events = sf.scid_to_events(scid((0, 600025.0, 600000.0, 600025.0, 0, 1)), scale=PriceScale(0.01))
    assert (events["price"][0], events["bid"][0], events["ask"][0]) == (6000.25, 6000.0, 6000.25)


def test_number_of_trades_is_capped_not_wrapped():
    records = ONE.copy()
    records["num_trades"] = 65_536
    assert sf.scid_to_events(records)["count"][0] == 65_535


def test_converting_nothing_gives_nothing():
    assert len(sf.scid_to_events(np.empty(0, sf.SCID_RECORD))) == 0
    assert len(sf.depth_to_events(np.empty(0, sf.DEPTH_RECORD))) == 0


def test_depth_commands():
    events = sf.depth_to_events(
        depth(
            (0, sf.CLEAR_BOOK, 0, 0, 0),
            (0, sf.ADD_BID, 10.0, 5, 0),
            (0, sf.ADD_ASK, 10.25, 6, 1),
            (1, sf.MODIFY_BID, 10.0, 7, 0),
            (1, sf.MODIFY_ASK, 10.25, 8, 0),
            (2, sf.DELETE_BID, 10.0, 9, 0),
            (2, sf.DELETE_ASK, 10.25, 9, 1),
            (3, sf.ADD_BID, 9.75, 2, 1),
        )
    )
    clear, snapshot, end = EventFlag.CLEAR, EventFlag.SNAPSHOT, EventFlag.BATCH_END
    assert events["flags"].tolist() == [clear | snapshot, snapshot, snapshot | end, 0, 0, 0, end, end]
    assert events["side"].tolist() == [0, 1, -1, 1, -1, 1, -1, 1]
    assert events["size"].tolist() == [0, 5, 6, 7, 8, 0, 0, 2]
    assert np.isnan(events["price"][0])
    assert events["price"][1:].tolist() == [10.0, 10.25, 10.0, 10.25, 10.0, 10.25, 9.75]
    assert events["count"].tolist() == [0, 5, 6, 7, 8, 9, 9, 2]
    assert set(events["kind"]) == {EventKind.DEPTH}


depth_rows = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(1, 7), st.sampled_from([10.0, 10.25]), st.integers(1, 9), st.integers(0, 1)
    ),
    min_size=1,
    max_size=30,
)


@given(depth_rows, st.data())
def test_depth_read_in_two_pieces_is_depth_read_in_one(rows, data):
    records = depth(*rows)
    cut = data.draw(st.integers(0, len(records)))
    before = sf.depth_to_events(records[:cut])
    after = sf.depth_to_events(records[cut:], in_snapshot=bool(cut) and sf.ends_in_snapshot(before))
    assert np.concatenate((before, after)).tobytes() == sf.depth_to_events(records).tobytes()


@given(depth_rows)
def test_depth_survives_the_way_there_and_back(rows):
    """Adds outside a snapshot come back as modifications: as events they say the same but for nothing."""
    events = sf.depth_to_events(depth(*rows))
    assert sf.depth_to_events(sf.events_to_depth(events)).tobytes() == events.tobytes()


@given(
    st.lists(st.integers(0, 5), max_size=12),
    st.lists(st.integers(0, 5), max_size=12),
)
def test_merge_keeps_each_order_and_puts_trades_first(trade_times, depth_times):
    trades, book = empty_events(len(trade_times)), empty_events(len(depth_times))
    trades["ts_ns"], trades["kind"], trades["count"] = trade_times, EventKind.TRADE, range(len(trades))
    book["ts_ns"], book["kind"], book["count"] = depth_times, EventKind.DEPTH, range(len(book))
    merged = sf.merge(trades, book)
    of_depth = merged["kind"] == EventKind.DEPTH
    assert merged[~of_depth].tobytes() == trades.tobytes()
    assert merged[of_depth].tobytes() == book.tobytes()
    if trade_times == sorted(trade_times) and depth_times == sorted(depth_times):
        keys = list(zip(merged["ts_ns"], of_depth, strict=True))
        assert keys == sorted(keys)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("fmt", [sf.SCID, sf.DEPTH])
def test_every_truncation_is_refused(tmp_path, fmt):
    """A file cut anywhere but between records is refused in one sentence that names it; whole records are read."""
    read, records = (
        (sf.read_scid, np.concatenate([ONE] * 3))
        if fmt is sf.SCID
        else (sf.read_depth, depth(*[(0, sf.MODIFY_BID, 1.0, 1, 1)] * 3))
    )
    whole = fmt.header() + records.tobytes()
    path = tmp_path / "cut"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        count, rest = divmod(size - fmt.header_size, fmt.record.itemsize)
        if count > 0 and not rest:
            assert read(path).tobytes() == records[:count].tobytes()
            continue
        with pytest.raises(FileFormatError) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(str(path))
        assert "\n" not in text
        assert ":" in text.removeprefix(str(path))  # what to do follows what is wrong


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"PK\3\4" + bytes(60), r"is not a \.scid file: it begins with b'PK"),
        (sf.DEPTH.header(), r"is not a \.scid file"),
        (struct.pack("<4sII", b"SCID", 56, 48).ljust(56, b"\0"), "records of 48 bytes"),
        (struct.pack("<4sII", b"SCID", 64, 40).ljust(64, b"\0"), "header of 64"),
    ],
)
def test_foreign_header_is_refused(tmp_path, content, says):
    path = tmp_path / "x.scid"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=says):
        sf.read_scid(path)


def test_bars_are_refused_with_the_setting_to_change(tmp_path):
    records = np.concatenate([ONE] * 4)
    records["open"][2] = 6000.0
    with pytest.raises(FileFormatError, match=r"record 2 \(2023-11-14T22:13:20.000000Z\) is a bar.*1 Tick"):
        sf.read_scid(write(tmp_path / "bars.scid", sf.SCID, records))


@pytest.mark.parametrize(("column", "value"), [("close", np.nan), ("close", np.inf), ("time", 0), ("time", 2**62)])
def test_damaged_scid_record_is_refused(tmp_path, column, value):
    records = np.concatenate([ONE] * 4)
    records[column][3] = value
    with pytest.raises(FileFormatError, match=r"record 3 .*damaged"):
        sf.read_scid(write(tmp_path / "x.scid", sf.SCID, records))


@pytest.mark.parametrize(("column", "value"), [("command", 0), ("command", 8), ("price", np.nan), ("time", -1)])
def test_damaged_depth_record_is_refused(tmp_path, column, value):
    records = depth(*[(0, sf.MODIFY_BID, 1.0, 1, 1)] * 2)
    records[column][1] = value
    with pytest.raises(FileFormatError, match=r"record 1 .*damaged"):
        sf.read_depth(write(tmp_path / "x.depth", sf.DEPTH, records))


def test_missing_file_and_directory_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"can't be read: No such file"):
        sf.read_scid(tmp_path / "none.scid")
    with pytest.raises(FileFormatError, match=r"can't be read: Is a directory"):
        sf.read_scid(tmp_path)


@given(st.binary(max_size=200))
def test_no_bytes_whatever_get_further_than_a_refusal(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "x.scid"
    path.write_bytes(content)
    with pytest.raises(FileFormatError):
        sf.read_scid(path)


# ------------------------------------------------------------------------------------------------ the writer


def test_writer_makes_continues_and_mends_a_file(tmp_path):
    path = tmp_path / "new.scid"
    for _ in range(2):
        writer = sf.RecordWriter(path, sf.SCID)
        writer.append(ONE)
        writer.close()
    with path.open("ab") as file:
        file.write(b"torn")
    writer = sf.RecordWriter(path, sf.SCID)
    writer.append(ONE)
    writer.close()
    assert sf.read_scid(path).tobytes() == ONE.tobytes() * 3


def test_writer_refuses_foreign_files_and_records(tmp_path):
    path = tmp_path / "x.depth"
    path.write_bytes(sf.SCID.header())
    with pytest.raises(FileFormatError, match=r"not a \.depth file"):
        sf.RecordWriter(path, sf.DEPTH)
    assert path.read_bytes() == sf.SCID.header()
    with pytest.raises(StartError, match="can't be written"):
        sf.RecordWriter(tmp_path / "none" / "x.depth", sf.DEPTH)
    writer = sf.RecordWriter(tmp_path / "y.depth", sf.DEPTH)
    with pytest.raises(ValueError, match="not"):
        writer.append(ONE)
    writer.close()


def test_layouts_have_the_documented_sizes():
    assert (sf.SCID_RECORD.itemsize, sf.DEPTH_RECORD.itemsize, MARKET_EVENT.itemsize) == (40, 24, 64)
    assert (len(sf.SCID.header()), len(sf.DEPTH.header())) == (56, 64)


@given(st.sampled_from([0.01, 0.1, 5e-7, 1 / 64, 0.25]), st.integers(-100_000, 100_000))
def test_prices_of_files_come_to_lie_on_the_tick(tick, ticks):
    """A price is the decimal number that was traded, and not what float32 made of it: 72.12, not 72.12000275."""
    price = nearest_tick(ticks * tick, tick)
    row = scid((0, price, price, price, 0, 1))
    trades = sf.scid_to_events(row, scale=PriceScale(tick_size=tick))
    assert trades["price"].tolist() == [price]
    assert np.array_equal(trades["bid"], [price or np.nan], equal_nan=True)
    changes = sf.depth_to_events(depth((0, sf.MODIFY_BID, price, 1, 1)), scale=PriceScale(tick_size=tick))
    assert changes["price"].tolist() == [price]


def test_a_price_that_is_off_the_tick_by_more_than_rounding_stays_what_it_is():
    events = sf.scid_to_events(scid((0, 72.1234, 72.13, 72.12, 0, 1)), scale=PriceScale(tick_size=0.01))
    assert events["price"][0] == float(np.float32(72.1234))
