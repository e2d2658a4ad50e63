"""Historical prices over DTC, without a connection: what comes out for whatever the network makes of what went in."""

import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import decode, encode
from mia_daemon.dtc.encodings import BY_NAME, CODECS
from mia_daemon.dtc.enums import AtBidOrAskEnum, EncodingEnum
from mia_daemon.dtc.historical import PRICE_RECORD, HistoricalClient, RecordReader, encode_records
from mia_daemon.errors import ConnectionLost, LogonRefused, ProtocolError, RequestRefused

TIMEOUT_NS = 10_000_000_000
SUBTRADE = float(np.float32(-1.99900095e37))


def records(count, first_us=1_700_000_000_000_000):
    rows = np.zeros(count, PRICE_RECORD)
    number = np.arange(count)
    rows["time_us"] = first_us + number * 250
    rows["open"] = np.where(number % 5 == 0, SUBTRADE, 0.0)
    rows["last"] = 6000 + number % 40 * 0.25
    rows["high"], rows["low"] = rows["last"] + 0.25, rows["last"]
    rows["volume"] = rows["bid_volume"] = 1 + number % 7
    rows["num_trades"] = 1
    return rows


def header(*, compressed=0, empty=0):
    return encode(
        dtc.HistoricalPriceDataResponseHeader(RequestID=1, UseZLibCompression=compressed, NoRecordsToReturn=empty)
    )


def opening():
    return encode(dtc.EncodingResponse(Encoding=EncodingEnum.BINARY_ENCODING)) + encode(dtc.LogonResponse(Result=1))


def asked(**fields):
    request = dtc.HistoricalPriceDataRequest(RequestID=1, Symbol="ESZ26_FUT_CME", UseZLibCompression=1, **fields)
    client = HistoricalClient(request, dtc.LogonRequest(HeartbeatIntervalInSeconds=10), TIMEOUT_NS)
    client.start(0)
    assert decode(client.outgoing()).TYPE == dtc.EncodingRequest.TYPE
    return client


def answered(client, data, cuts=()):
    """Feed an answer in pieces; all rows."""
    parts, places = [], [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for first, last in pairwise(places):
        if last > first:
            parts.append(client.receive(data[first:last], 1))
    return np.concatenate(parts)


@given(
    count=st.integers(1, 120),
    compressed=st.booleans(),
    cuts=st.lists(st.integers(0, 100_000), max_size=12),
    trailing=st.booleans(),
)
def test_the_records_come_out_whatever_the_network_does_to_the_stream(count, compressed, cuts, trailing):
    rows = records(count)
    if trailing:  # the last record may be one without data
        end = np.zeros(1, PRICE_RECORD)
        stream = encode_records(1, rows, final=False) + encode_records(1, end, final=True)
    else:
        stream = encode_records(1, rows, final=True)
    stream = header(compressed=1) + zlib.compress(stream) if compressed else header() + stream
    client = asked()
    found = answered(client, opening() + stream, cuts)
    assert found.tolist() == rows.tolist()
    assert client.complete
    assert not client.empty


def test_the_request_goes_out_once_the_logon_is_accepted():
    client = asked(RecordInterval=60, StartDateTime=5)
    client.receive(encode(dtc.EncodingResponse(Encoding=EncodingEnum.BINARY_ENCODING)), 1)
    assert decode(client.outgoing()).TYPE == dtc.LogonRequest.TYPE
    client.receive(encode(dtc.LogonResponse(Result=1)), 1)
    request = decode(client.outgoing())
    assert (request.Symbol, request.RecordInterval, request.StartDateTime) == ("ESZ26_FUT_CME", 60, 5)
    assert client.outgoing() == b""


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
@pytest.mark.parametrize("preset", [True, False])
@given(count=st.integers(1, 40), cuts=st.lists(st.integers(0, 20_000), max_size=12))
def test_records_come_in_the_encoding_that_the_server_is_set_to(codec, preset, count, cuts):
    """Preset here as well, or only there: a server asked for binary then names another."""
    request = dtc.HistoricalPriceDataRequest(RequestID=1, Symbol="ESZ26_FUT_CME", UseZLibCompression=1)
    codecs = {"codec": codec, "preset": True} if preset else {}
    client = HistoricalClient(request, dtc.LogonRequest(HeartbeatIntervalInSeconds=10), TIMEOUT_NS, **codecs)
    client.start(0)
    sent = client.outgoing()
    if not preset:
        assert decode(sent).Encoding == EncodingEnum.BINARY_ENCODING
        client.receive(encode(dtc.EncodingResponse(Encoding=codec.encoding)), 1)
        sent = client.outgoing()
    assert codec.decode(sent).TYPE == dtc.LogonRequest.TYPE
    client.receive(codec.encode(dtc.LogonResponse(Result=1)), 1)
    asked_for = codec.decode(client.outgoing())
    assert (asked_for.Symbol, asked_for.UseZLibCompression) == ("ESZ26_FUT_CME", int(codec.structures))
    rows = records(count)
    answer = [dtc.Heartbeat(), dtc.HistoricalPriceDataResponseHeader(RequestID=1)]
    stream = b"".join(map(codec.encode, answer)) + encode_records(1, rows, final=True, codec=codec)
    assert answered(client, stream, cuts).tolist() == rows.tolist()
    assert client.complete


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
def test_a_refusal_is_understood_in_each_encoding(codec):
    client = HistoricalClient(
        dtc.HistoricalPriceDataRequest(RequestID=1), dtc.LogonRequest(), TIMEOUT_NS, codec=codec, preset=True
    )
    client.start(0)
    client.receive(codec.encode(dtc.LogonResponse(Result=1)), 1)
    with pytest.raises(RequestRefused, match="the server refuses it: no such symbol"):
        client.receive(codec.encode(dtc.HistoricalPriceDataReject(RequestID=1, RejectText="no such symbol")), 1)


def test_a_server_that_is_set_to_binary_is_not_asked_for_it():
    client = HistoricalClient(dtc.HistoricalPriceDataRequest(RequestID=1), dtc.LogonRequest(), TIMEOUT_NS, preset=True)
    client.start(0)
    assert decode(client.outgoing()).TYPE == dtc.LogonRequest.TYPE
    client.receive(encode(dtc.LogonResponse(Result=1)), 1)
    assert decode(client.outgoing()).TYPE == dtc.HistoricalPriceDataRequest.TYPE


def test_no_records_is_an_answer():
    client = asked()
    assert not len(answered(client, opening() + header(empty=1)))
    assert (client.complete, client.empty) == (True, True)


def test_a_heartbeat_before_the_answer_is_no_answer():
    client = asked()
    answered(client, opening() + encode(dtc.Heartbeat()) + header() + encode_records(1, records(1), final=True))
    assert client.complete


def test_a_stream_that_unpacks_to_much_is_unpacked_in_pieces():
    rows = records(100_000)  # 8.8 MB, in one piece from the network
    client = asked()
    data = header(compressed=1) + zlib.compress(encode_records(1, rows, final=True))
    assert np.array_equal(answered(client, opening() + data), rows)


@pytest.mark.parametrize(
    ("reject", "sentence"),
    [
        ({"RejectText": "no such symbol", "RejectReasonCode": 4}, "the server refuses it: no such symbol"),
        ({}, "the server refuses it: no reason given"),
        (
            {"RejectText": "busy", "RejectReasonCode": 1, "RetryTimeInSeconds": 7},
            "the server can't serve it now: busy; ask again in 7 s",
        ),
    ],
)
def test_a_refusal_is_one_sentence(reject, sentence):
    with pytest.raises(RequestRefused) as refused:
        answered(asked(), opening() + encode(dtc.HistoricalPriceDataReject(RequestID=1, **reject)))
    assert str(refused.value) == sentence


def test_a_logon_that_is_refused_says_so():
    refusal = encode(dtc.LogonResponse(Result=3, ResultText="wrong password"))
    with pytest.raises(LogonRefused, match="wrong password"):
        answered(asked(), encode(dtc.EncodingResponse(Encoding=EncodingEnum.BINARY_ENCODING)) + refusal)


def test_a_json_server_is_told_from_a_binary_one():
    with pytest.raises(ProtocolError):
        asked().receive(b'{"Type":7,"ProtocolVersion":8,"Encoding":2}\0', 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_connection_that_ends_before_the_last_record_is_an_error(compressed):
    stream = encode_records(1, records(50), final=True)
    stream = (header(compressed=1) + zlib.compress(stream)) if compressed else header() + stream
    client = asked()
    answered(client, opening() + stream[:-20])
    assert not client.complete
    assert "before its last record" in str(client.ended())


def test_compressed_data_that_ends_early_is_an_error():
    stream = zlib.compress(encode_records(1, records(50), final=False))
    with pytest.raises(ConnectionLost, match="before its last record"):
        answered(asked(), opening() + header(compressed=1) + stream)


@given(garbage=st.binary(min_size=8, max_size=200))
def test_compressed_garbage_is_an_error_of_the_server(garbage):
    client = asked()
    with pytest.raises(ProtocolError, match="can't be unpacked"):
        answered(client, opening() + header(compressed=1) + b"\xff\xff" + garbage)


def test_silence_after_the_request_ends_the_wait():
    client = asked()
    answered(client, opening())
    client.tick(TIMEOUT_NS)
    with pytest.raises(ConnectionLost, match="silent for 10 s"):
        client.tick(2 * TIMEOUT_NS)


def test_heartbeats_go_out_while_records_come_in():
    client = asked()
    answered(client, opening() + header())
    client.outgoing()
    for second in range(1, 25):
        client.receive(encode_records(1, records(1), final=False), second * 1_000_000_000)
        sent = client.outgoing()
        assert (decode(sent).TYPE if sent else None) == (dtc.Heartbeat.TYPE if second in {10, 20} else None)


def test_a_shorter_record_of_an_older_server_takes_defaults():
    record = encode(
        dtc.HistoricalPriceDataRecordResponse(RequestID=1, StartDateTime=10**15, LastPrice=1.0, BidVolume=2.0)
    )
    short = (72).to_bytes(2, "little") + record[2:72]  # ends before AskVolume
    (row,) = RecordReader().feed(short)
    assert (row["time_us"], row["last"], row["bid_volume"], row["ask_volume"]) == (10**15, 1.0, 2.0, 0.0)


def test_bare_ticks_become_trades_of_unknown_touch():
    reader = RecordReader()
    tick = dtc.HistoricalPriceDataTickRecordResponse(
        RequestID=1, DateTime=1e9 + 0.5, AtBidOrAsk=AtBidOrAskEnum.AT_ASK, Price=4.0, Volume=3.0, IsFinalRecord=1
    )
    (row,) = reader.feed(encode(tick))
    assert row.tolist() == (1_000_000_000_500_000, 0.0, 0.0, 0.0, 4.0, 3.0, 1, 0.0, 3.0)
    assert reader.complete


@pytest.mark.parametrize("time_us", [1, -1, 2**62, 1_700_000_000])  # the last: seconds
def test_a_record_without_a_sane_time_is_refused(time_us):
    with pytest.raises(ProtocolError, match="1980 to 2100"):
        RecordReader().feed(encode_records(1, records(1, first_us=time_us), final=True))


def test_a_trailer_ends_the_records():
    reader = RecordReader()
    reader.feed(
        encode_records(1, records(3), final=False) + encode(dtc.HistoricalPriceDataResponseTrailer(RequestID=1))
    )
    assert reader.complete
