"""Whatever bits stand in a number of any message: it is decoded, and no float of it is NaN or infinite."""

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.encodings import BINARY, BY_NAME, CODECS, JSON, VLS
from mia_daemon.dtc.historical import PRICE_RECORD, RecordReader
from mia_daemon.dtc.layout import LARGEST, MESSAGES, Text
from mia_daemon.dtc.market_columns import LAST_SECOND, READINGS
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.messages import (
    UNSET_F32,
    UNSET_F64,
    AccountBalanceUpdate,
    HistoricalPriceDataRecordResponse,
    HistoricalPriceDataTickRecordResponse,
    MarketDataUpdateTrade,
    OrderUpdate,
    PositionUpdate,
    SecurityDefinitionResponse,
)
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import ProtocolError

RECEIVED = 1_790_000_123_000_000_000
ODD_BITS = [struct.pack("<d", x) for x in (math.nan, -math.nan, math.inf, -math.inf, UNSET_F64, -UNSET_F64, 1e300)] + [
    *[struct.pack("<ff", x, x) for x in (math.nan, math.inf, -math.inf, UNSET_F32)],
    *[struct.pack("<q", x) for x in (2**63 - 1, -(2**63), -1, 0)],
    bytes.fromhex("010000000000f07f"),  # a signalling NaN
]
bits = st.sampled_from(ODD_BITS) | st.binary(min_size=8, max_size=8)
structures = st.sampled_from([BINARY, VLS])
numbers = st.none() | st.booleans() | st.floats() | st.integers(-(2**70), 2**70) | st.just(10**400)
EVERY_TYPE = tuple(sorted(MESSAGES))


@st.composite
def frames(draw, codec, types=EVERY_TYPE):
    """A message whose numbers have any bits; its texts are empty."""
    cls = MESSAGES[draw(st.sampled_from(types))]
    layout = cls.VLS_LAYOUT if codec is VLS else cls.LAYOUT
    raw = bytearray(codec.encode(cls()))
    for field in layout.fields:
        if not isinstance(field.wire, Text):
            raw[field.offset : field.end] = draw(bits)[: field.size]
    return bytes(raw)


@given(structures.flatmap(lambda codec: st.tuples(st.just(codec), frames(codec))))
def test_any_bits_in_any_number_decode_and_no_float_is_without_a_value(coded):
    codec, raw = coded
    message = codec.decode(raw)
    layout = message.VLS_LAYOUT if codec is VLS else message.LAYOUT
    for field in layout.fields:
        value = getattr(message, field.name)
        if field.code in LARGEST:
            assert math.isfinite(value), field.name
            [said] = struct.unpack_from(f"<{field.code}", raw, field.offset)
            unset = 0.0 if getattr(field.wire, "name", "").startswith("t_DateTime") else LARGEST[field.code]
            assert value == (said if math.isfinite(said) else unset)
        elif not isinstance(field.wire, Text):
            assert value == struct.unpack_from(f"<{field.code}", raw, field.offset)[0]


@given(st.sampled_from(EVERY_TYPE), st.lists(numbers, min_size=1, max_size=9))
def test_any_number_in_any_field_of_json_decodes_within_the_range_of_the_field(type_, values):
    cls = MESSAGES[type_]
    fields = [f for f in cls.LAYOUT.fields if not isinstance(f.wire, Text)]
    said = {f.name: values[i % len(values)] for i, f in enumerate(fields)}
    message = JSON.decode(json.dumps({"Type": type_, **said}).encode())
    for field in fields:
        value = getattr(message, field.name)
        if field.code in LARGEST:
            assert abs(value) <= LARGEST[field.code]
        else:
            assert isinstance(value, int)
    assert type(message) is cls
    assert JSON.decode(JSON.encode(message)) == message


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_unset_in_every_encoding(codec, odd):
    """Not 0, which would say that the account is flat or empty."""
    for message, field, unset in [
        (OrderUpdate, "Price1", UNSET_F64),
        (PositionUpdate, "Quantity", UNSET_F64),
        (AccountBalanceUpdate, "CashBalance", UNSET_F64),
        (SecurityDefinitionResponse, "DisplayPriceMultiplier", UNSET_F32),
        (MarketDataUpdateTrade, "DateTime", 0.0),
    ]:
        raw = (
            codec.encode(message(**{field: odd}))
            if codec.structures
            else json.dumps({"Type": message.TYPE, field: odd}).encode()
        )
        assert getattr(codec.decode(raw), field) == unset


# ----------------------------------------------------------------------------------------------------- market data


@st.composite
def market_streams(draw):
    """Some messages of each of a few types, repeated so that they are read in columns too."""
    types = tuple(reading.message.TYPE for reading in READINGS)
    made = [draw(frames(BINARY, types)) for _ in range(draw(st.integers(1, 6)))]
    named = [raw[:4] + struct.pack("<I", 1) + raw[8:] for raw in made]  # SymbolID 1: rows come of them
    return [raw for raw in named for _ in range(draw(st.sampled_from([1, 20, 80])))]


@given(market_streams(), st.booleans())
def test_any_bits_in_market_data_make_sane_rows_the_same_in_columns_and_one_by_one(stream, alike):
    stream = stream[:1] * 100 if alike else stream
    bulk, single = MarketDataDecoder({1: 0}), MarketDataDecoder({1: 0})
    many = bulk._decode_many(FrameReader().feed(b"".join(stream)), RECEIVED)
    few = single._decode_few(FrameReader().feed(b"".join(stream)), RECEIVED)
    rows = [np.concatenate([s for s in found if isinstance(s, np.ndarray)] or [np.zeros(0)]) for found in (many, few)]
    assert rows[0].tobytes() == rows[1].tobytes()
    assert bulk.malformed == single.malformed
    if not len(rows[0]):
        return
    events = rows[0]
    assert (events["ts_ns"] > 0).all()
    assert (events["ts_ns"] < LAST_SECOND * 10**9).all()
    for name in ("price", "bid", "ask"):
        assert not np.isinf(events[name]).any()
        assert not (np.abs(events[name]) >= 1e9).any()
    for name in ("size", "bid_size", "ask_size"):
        assert np.isfinite(events[name]).all()
        assert (events[name] >= 0).all()


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("micros", [2**63 - 1, -(2**63), -1, 0, LAST_SECOND * 1_000_000])
def test_a_first_time_without_sense_gives_way_to_that_of_receipt(few, micros):
    trade = MESSAGES[147](SymbolID=1, Price=5.0, Volume=1.0, DateTime=micros)
    decoder = MarketDataDecoder({1: 0})
    decode = decoder._decode_few if few else decoder._decode_many
    [events] = decode(FrameReader().feed(BINARY.encode(trade) * 2), RECEIVED)
    assert events["ts_ns"].tolist() == [RECEIVED] * 2


# -------------------------------------------------------------------------------------------------- historical data


@given(
    st.lists(
        st.sampled_from([HistoricalPriceDataRecordResponse.TYPE, HistoricalPriceDataTickRecordResponse.TYPE]).flatmap(
            lambda type_: frames(BINARY, (type_,))
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_bits_in_historical_records_are_refused_or_finite(stream):
    try:
        rows = RecordReader().feed(b"".join(stream))
    except ProtocolError:
        return
    for name in PRICE_RECORD.names:
        assert np.isfinite(rows[name].astype(float)).all()
