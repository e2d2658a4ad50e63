import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.dtc import market_data, messages
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.encodings import BINARY, BY_NAME
from mia_daemon.dtc.market_columns import READINGS
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.messages import (
    UNSET_F64,
    Heartbeat,
    MarketDataSnapshot,
    MarketDataUpdateBidAsk,
    MarketDataUpdateBidAskCompact,
    MarketDataUpdateBidAskNoTimeStamp,
    MarketDataUpdateBidAskV2,
    MarketDataUpdateTrade,
    MarketDataUpdateTradeNoTimestamp,
    MarketDataUpdateTradeV2,
    MarketDataUpdateTradeWithUnbundledIndicator2,
    MarketDepthSnapshotLevel,
    MarketDepthSnapshotLevelFloat,
    MarketDepthUpdateLevelFloatWithMilliseconds,
    MarketDepthUpdateLevelV2,
    OrderUpdate,
    TradingSymbolStatus,
)
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.records import MARKET_EVENT, EventFlag, EventKind

S = 1_000_000_000
T = 1_790_000_000  # seconds, in 2026
RECEIVED = 1_790_000_123 * S
SYMBOLS = {1: 0, 7: 1}
BOTH = pytest.mark.parametrize("few", [1000, 0], ids=["one by one", "columns"])


@pytest.fixture
def decode_with(monkeypatch):
    def decode(few, stream, decoder=None):
        monkeypatch.setattr(market_data, "_FEW", few)
        raw = stream if isinstance(stream, bytes) else b"".join(map(encode, stream))
        return (decoder or MarketDataDecoder(SYMBOLS)).decode(FrameReader().feed(raw), RECEIVED)

    return decode


@BOTH
def test_trades_of_the_first_generation(decode_with, few):
    [events] = decode_with(
        few,
        [
            MarketDataUpdateTrade(SymbolID=1, AtBidOrAsk=2, Price=6000.25, Volume=3.0, DateTime=T + 0.123),
            MarketDataUpdateTradeWithUnbundledIndicator2(
                SymbolID=7,
                AtBidOrAsk=1,
                Price=25000.5,
                Volume=2,
                DateTime=(T + 1) * 1_000_000 + 456_789,
                UnbundledTradeIndicator=2,
            ),
        ],
    )
    assert events.dtype == MARKET_EVENT
    assert events["kind"].tolist() == [EventKind.TRADE] * 2
    assert events["ts_ns"].tolist() == [T * S + 123_000_000, (T + 1) * S + 456_789_000]
    assert events["recv_ns"].tolist() == [RECEIVED] * 2
    assert events["price"].tolist() == [6000.25, 25000.5]
    assert events["size"].tolist() == [3.0, 2.0]
    assert events["side"].tolist() == [1, -1]
    assert events["symbol"].tolist() == [0, 1]
    assert events["count"].tolist() == [1, 1]
    assert events["flags"].tolist() == [0, EventFlag.LAST_SUBTRADE]
    assert np.isnan(events["bid"]).all()


@BOTH
def test_a_trade_takes_the_last_touch_of_its_symbol(decode_with, few):
    quote = MarketDataUpdateBidAskV2(
        SymbolID=1, BidPrice=10.0, AskPrice=10.25, BidQuantity=4.0, AskQuantity=5.0, DateTime=T * 1_000_000
    )
    trade = MarketDataUpdateTradeV2(SymbolID=1, Price=10.25, Volume=1.0, DateTime=T * 1_000_000 + 1)
    other = MarketDataUpdateTradeV2(SymbolID=7, Price=20.0, Volume=1.0, DateTime=T * 1_000_000 + 1)
    decoder = MarketDataDecoder(SYMBOLS)
    [events] = decode_with(few, [trade, quote, trade, other], decoder)
    np.testing.assert_array_equal(events["bid"], [math.nan, 10.0, 10.0, math.nan])
    np.testing.assert_array_equal(events["ask_size"], [0, 5, 5, 0])
    [later] = decode_with(few, [trade], decoder)
    assert (later["bid"][0], later["ask"][0], later["bid_size"][0]) == (10.0, 10.25, 4.0)
    gone = MarketDataUpdateBidAskV2(SymbolID=1, BidPrice=10.0, BidQuantity=4.0, AskQuantity=9.0)
    [events] = decode_with(few, [gone, trade], decoder)
    assert np.isnan(events["ask"]).all()
    assert events["ask_size"].tolist() == [0, 0]


@BOTH
def test_a_quote_of_zero_is_a_price_where_something_is_quoted_at_it(decode_with, few):
    quote = MarketDataUpdateBidAskV2
    [events] = decode_with(
        few,
        [
            quote(SymbolID=1, BidPrice=-0.25, AskPrice=0.0, BidQuantity=3.0, AskQuantity=2.0),
            quote(SymbolID=1, BidPrice=0.0, AskPrice=0.25, BidQuantity=0.0, AskQuantity=2.0),
        ],
    )
    np.testing.assert_array_equal(events["bid"], [-0.25, math.nan])
    np.testing.assert_array_equal(events["ask"], [0.0, 0.25])


@BOTH
def test_a_message_without_a_time_takes_the_one_before_it(decode_with, few):
    untimed = MarketDataUpdateTradeNoTimestamp(SymbolID=1, Price=5.0, Volume=1)
    [events] = decode_with(
        few,
        [
            untimed,
            MarketDataUpdateTrade(SymbolID=1, Price=5.0, DateTime=T + 0.5),
            untimed,
            MarketDataUpdateBidAskNoTimeStamp(SymbolID=7, BidPrice=4.0),
            MarketDataUpdateBidAsk(SymbolID=1, BidPrice=4.0, DateTime=T),
            MarketDataUpdateBidAskCompact(SymbolID=1, BidPrice=4.0, DateTime=T + 1),
            untimed,
        ],
    )
    half = T * S + S // 2
    assert events["ts_ns"].tolist() == [RECEIVED, half, half, half, half, (T + 1) * S, (T + 1) * S]


@BOTH
def test_depth_updates(decode_with, few):
    update = MarketDepthUpdateLevelV2
    [events] = decode_with(
        few,
        [
            update(SymbolID=1, Side=1, Price=9.75, Quantity=12.0, NumOrders=3, UpdateType=3, FinalUpdateInBatch=2),
            update(SymbolID=1, Side=2, Price=10.0, Quantity=8.0, NumOrders=2, UpdateType=4, FinalUpdateInBatch=1),
            MarketDepthUpdateLevelFloatWithMilliseconds(
                SymbolID=1, Side=1, Price=9.75, Quantity=12.0, UpdateType=2, DateTime=T * 1000 + 7
            ),
        ],
    )
    assert events["kind"].tolist() == [EventKind.DEPTH] * 3
    assert events["side"].tolist() == [1, -1, 1]
    assert events["price"].tolist() == [9.75, 10.0, 9.75]
    assert events["size"].tolist() == [12, 8, 0]
    assert events["count"].tolist() == [3, 2, 0]
    assert events["flags"].tolist() == [0, EventFlag.BATCH_END, EventFlag.BATCH_END]
    assert events["ts_ns"][2] == T * S + 7_000_000


@BOTH
def test_depth_snapshots(decode_with, few):
    level, old = MarketDepthSnapshotLevelFloat, MarketDepthSnapshotLevel
    snapshot, clear, end = EventFlag.SNAPSHOT, EventFlag.CLEAR, EventFlag.BATCH_END
    [events] = decode_with(
        few,
        [
            level(SymbolID=1, Side=1, Price=9.75, Quantity=5.0, FinalUpdateInBatch=2),
            level(SymbolID=1, Side=2, Price=10.0, Quantity=6.0, FinalUpdateInBatch=1),
            level(SymbolID=1, Side=1, Price=9.5, Quantity=5.0, FinalUpdateInBatch=3),
            level(SymbolID=1, Side=2, Price=10.0, Quantity=6.0, FinalUpdateInBatch=1),
            old(SymbolID=1, Side=1, Price=9.5, Quantity=5.0, IsFirstMessageInBatch=1),
            old(SymbolID=1, Side=2, Price=9.75, Quantity=5.0, IsLastMessageInBatch=1),
            old(SymbolID=7, IsFirstMessageInBatch=1, IsLastMessageInBatch=1),
        ],
    )
    first, last = snapshot | clear, snapshot | end
    assert events["flags"].tolist() == [first, last, first, last, first, last, snapshot | clear | end]
    assert events["side"].tolist() == [1, -1, 1, -1, 1, -1, 0]
    assert np.isnan(events["price"][6])
    assert events["size"][6] == 0


@BOTH
def test_other_messages_keep_their_place(decode_with, few):
    trade = MarketDataUpdateTradeV2(SymbolID=1, Price=1.0, Volume=1.0)
    snapshot = MarketDataSnapshot(SymbolID=1, BidPrice=2.0, AskPrice=3.0, BidQuantity=1.0, BidAskDateTime=T + 0.25)
    segments = decode_with(
        few,
        [Heartbeat(), trade, trade, OrderUpdate(ClientOrderID="x"), snapshot, trade, TradingSymbolStatus(SymbolID=7)],
    )
    assert [s if isinstance(s, messages.Message) else len(s) for s in segments] == [
        Heartbeat(),
        2,
        OrderUpdate(ClientOrderID="x"),
        snapshot,
        3,
    ]
    rows = segments[-1]
    assert rows["kind"].tolist() == [EventKind.QUOTE, EventKind.TRADE, EventKind.STATUS]
    assert rows["flags"][0] == EventFlag.SNAPSHOT
    assert rows["bid"].tolist()[:2] == [2.0, 2.0]
    assert rows["ts_ns"][0] == T * S + S // 4


@pytest.mark.parametrize("codec", [BINARY, BY_NAME["json_compact"]], ids=lambda codec: codec.name)
@BOTH
def test_session_values_are_passed_over_without_a_trace(monkeypatch, few, codec):
    monkeypatch.setattr(market_data, "_FEW", few)
    trade = MarketDataUpdateTradeV2(SymbolID=1, Price=1.0, Volume=1.0)
    values = [messages.MESSAGES[type_](SymbolID=1) for type_ in (113, 114, 115, 119, 120, 124, 134, 135, 136)]
    stream = b"".join(map(codec.encode, [trade, *[m for value in values for m in (value, trade)]]))
    decoder = MarketDataDecoder(SYMBOLS, codec)
    [rows] = decoder.decode(codec.reader().feed(stream), RECEIVED)
    assert rows["kind"].tolist() == [EventKind.TRADE] * 10
    assert (decoder.malformed, decoder.unreadable, decoder.unknown_types, decoder.unknown_symbols) == (0, 0, 0, 0)


def test_an_unreadable_session_value_is_market_data():
    codec = BY_NAME["json"]
    [skipped] = MarketDataDecoder(SYMBOLS, codec).decode(codec.reader().feed(b'{"Type":113,"Volume":[]}\0'), RECEIVED)
    assert skipped.is_market_data


@BOTH
def test_what_makes_no_sense_is_dropped_and_counted(decode_with, few):
    decoder = MarketDataDecoder(SYMBOLS)
    bad = [
        MarketDataUpdateTradeV2(SymbolID=1, Price=math.nan, Volume=1.0),
        MarketDataUpdateTradeV2(SymbolID=1, Price=UNSET_F64, Volume=1.0),
        MarketDataUpdateTradeV2(SymbolID=1, Price=1.0, Volume=-1.0),
        MarketDataUpdateTradeV2(SymbolID=1, Price=1.0, Volume=math.inf),
        MarketDepthUpdateLevelV2(SymbolID=1, Side=0, Price=1.0, Quantity=1.0),
        MarketDepthUpdateLevelV2(SymbolID=1, Side=1, Price=math.inf, Quantity=1.0),
    ]
    short = struct.pack("<HHId", 16, 147, 1, 5.0)
    stranger = MarketDataUpdateTradeV2(SymbolID=99, Price=1.0, Volume=1.0)
    stream = b"".join(map(encode, [*bad, stranger, MarketDataSnapshot(SymbolID=1)])) + short
    segments = decode_with(few, stream + struct.pack("<HHI", 8, 30000, 1), decoder)
    assert segments == [MarketDataSnapshot(SymbolID=1)]
    assert (decoder.malformed, decoder.unknown_symbols, decoder.unknown_types) == (len(bad) + 1, 1, 1)


@BOTH
@pytest.mark.parametrize("stamp", [-1.0, 0.0, math.nan, math.inf, 1e300, 2.0**33])
def test_a_time_that_is_none_is_taken_for_missing(decode_with, few, stamp):
    good = MarketDataUpdateTrade(SymbolID=1, Price=1.0, DateTime=T + 0.001)
    [events] = decode_with(few, [good, MarketDataUpdateTrade(SymbolID=1, Price=1.0, DateTime=stamp)])
    assert events["ts_ns"].tolist() == [T * S + 1_000_000] * 2


@settings(max_examples=300)
@given(st.integers(0, 2_000_000_000), st.integers(0, 999_999), st.booleans())
def test_times_are_exact_to_the_microsecond(seconds, micros, few):
    micros = max(micros, 1)
    exact = seconds * S + micros * 1000
    decoder = MarketDataDecoder(SYMBOLS)
    decode = decoder._decode_few if few else decoder._decode_many
    double = MarketDataUpdateTrade(SymbolID=1, Price=1.0, DateTime=seconds + micros / 1e6)
    whole = MarketDataUpdateTradeV2(SymbolID=1, Price=1.0, DateTime=seconds * 1_000_000 + micros)
    [events] = decode(FrameReader().feed(encode(double) + encode(whole)), 0)
    assert events["ts_ns"].tolist() == [exact, exact]


# ------------------------------------------------------------------------------------ both ways give the same


def random_message(rng):
    reading = rng.choice(READINGS)
    cls = reading.message if rng.random() < 0.97 else rng.choice([Heartbeat, OrderUpdate])
    values = {}
    for field in cls.LAYOUT.fields:
        if field.code in "fd":
            values[field.name] = rng.choice([rng.randrange(80) / 4, 0.0, -1.0, UNSET_F64, 1e12, math.nan, math.inf])
            if field.name.endswith("DateTime"):
                values[field.name] = rng.choice([0.0, T + rng.randrange(4000) / 1000, T + 1.0, math.nan])
            if field.code == "f" and values[field.name] == UNSET_F64:
                values[field.name] = messages.UNSET_F32
        elif not field.code.endswith("s"):
            values[field.name] = rng.randrange(6)
            if field.name.endswith("DateTime"):
                scale = {"t_DateTimeWithMillisecondsInt": 1000, "t_DateTimeWithMicrosecondsInt": 1_000_000}
                ticks = scale.get(getattr(field.wire, "name", ""), 1)
                values[field.name] = rng.choice([0, T * ticks, T * ticks + rng.randrange(3 * ticks)])
    if hasattr(cls, "SymbolID"):
        values["SymbolID"] = rng.choice([1, 1, 1, 1, 7, 99])
    return cls(**values)


def random_stream(rng, n):
    frames = []
    while len(frames) < n:
        raw = encode(random_message(rng))
        if rng.random() < 0.02:
            length = rng.randrange(4, len(raw))
            raw = struct.pack("<H", length) + raw[2:length]
        if rng.random() < 0.02:
            raw = struct.pack("<H", len(raw) + 3) + raw[2:] + b"abc"
        if rng.random() < 0.02:
            raw = struct.pack("<HH", 9, 4321) + bytes(5)
        frames += [raw] * rng.choice([1, 1, 1, 12])
    return frames[:n]


def joined(segments):
    """Adjacent arrays as one: batches may differ, rows and order may not."""
    result = []
    for segment in segments:
        if isinstance(segment, np.ndarray) and result and isinstance(result[-1], np.ndarray):
            result[-1] = np.concatenate([result[-1], segment])
        else:
            result.append(segment)
    return [s.tobytes() if isinstance(s, np.ndarray) else encode(s) for s in result]


@pytest.mark.parametrize("seed", range(40))
def test_columns_equal_one_by_one_on_random_streams(seed):
    rng = random.Random(seed)
    frames = random_stream(rng, 400)
    reference, bulk, mixed = MarketDataDecoder(SYMBOLS), MarketDataDecoder(SYMBOLS), MarketDataDecoder(SYMBOLS)
    whole = reference._decode_few(FrameReader().feed(b"".join(frames)), RECEIVED)
    assert joined(bulk._decode_many(FrameReader().feed(b"".join(frames)), RECEIVED)) == joined(whole)
    parts = []
    while frames:
        n = rng.choice([1, 3, 30, 100])
        parts += mixed.decode(FrameReader().feed(b"".join(frames[:n])), RECEIVED)
        frames = frames[n:]
    assert joined(parts) == joined(whole)
    for counter in ("malformed", "unknown_symbols", "unknown_types"):
        assert getattr(bulk, counter) == getattr(mixed, counter) == getattr(reference, counter)


@given(st.binary(max_size=400), st.booleans())
def test_garbage_raises_nothing(data, few):
    types = [r.message.TYPE for r in READINGS]
    raw = b"".join(struct.pack("<HHI", 60, t, 1) + data[i : i + 52].ljust(52, b"\xff") for i, t in enumerate(types))
    decoder = MarketDataDecoder(SYMBOLS)
    for segment in (decoder._decode_few if few else decoder._decode_many)(FrameReader().feed(raw), RECEIVED):
        if isinstance(segment, np.ndarray):
            trades = segment[segment["kind"] == EventKind.TRADE]
            assert np.isfinite(trades["price"]).all()
            assert (segment["ts_ns"] > 0).all()


def sensible(message, rng, *, timed=True):
    """The message with a price, a time and a symbol that make sense."""
    for name, value in (
        ("SymbolID", 1),
        ("Price", 50.0),
        ("Volume", 2),
        ("Quantity", 3),
        ("Side", 1 + rng.randrange(2)),
    ):
        if hasattr(message, name):
            setattr(message, name, value)
    if hasattr(message, "DateTime") and timed:
        wire = message.LAYOUT.field("DateTime").wire.name
        scale = {"t_DateTimeWithMillisecondsInt": 1000, "t_DateTimeWithMicrosecondsInt": 1_000_000}.get(wire, 1)
        message.DateTime = type(message.DateTime)(T * scale + rng.randrange(3))
    return message


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.message.__name__)
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("flaws", [0, 1])
def test_a_run_of_messages_alike_equals_one_by_one(reading, timed, flaws):
    rng = random.Random(reading.message.TYPE)
    reference, bulk = MarketDataDecoder(SYMBOLS), MarketDataDecoder(SYMBOLS)
    for kind in (reading, READINGS[9], reading, READINGS[13], reading):  # among a quote, and a snapshot without marks
        run = []
        while len(run) < 80:
            message = random_message(rng)
            if isinstance(message, kind.message):
                run.append(message if len(run) < flaws else sensible(message, rng, timed=timed))
        frames = FrameReader().feed(b"".join(map(encode, run)))
        assert frames.alike() == kind.message.LAYOUT.size
        assert joined(bulk._decode_many(frames, RECEIVED)) == joined(reference._decode_few(frames, RECEIVED))
    assert bulk.malformed == reference.malformed


def test_frames_are_alike_when_all_have_one_header():
    def feed(*frames):
        return FrameReader().feed(b"".join(frames)).alike()

    heartbeat, other = encode(Heartbeat()), struct.pack("<HH", 16, 4) + bytes(12)
    assert feed(heartbeat, heartbeat, heartbeat[:5]) == feed(heartbeat) == 16
    assert feed(heartbeat, other) == feed(heartbeat, other, heartbeat) == feed() == 0
    assert feed(struct.pack("<HH", 4, 3), struct.pack("<HH", 28, 3) + bytes(24)) == 0


def test_nothing_comes_of_nothing():
    assert MarketDataDecoder(SYMBOLS).decode(FrameReader().feed(b""), RECEIVED) == []
