"""`mia-daemon dtc decode | encode`, and what they are made of."""

import io
import json
import math
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.cli import main
from mia_daemon.dtc.encodings import BINARY, BY_NAME, CODECS, JSON, JSON_COMPACT, VLS
from mia_daemon.dtc.messages import (
    MESSAGES,
    UNSET_F64,
    AccountBalanceUpdate,
    EncodingRequest,
    GeneralLogMessage,
    Heartbeat,
    LogonRequest,
    MarketDataUpdateTrade,
    OrderUpdate,
    SubmitNewSingleOrder,
)
from mia_daemon.dtc.transcript import MAX_LINE_BYTES, Decoder, from_line, to_line
from mia_daemon.errors import ProtocolError

EVERY = pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
TRADE = MarketDataUpdateTrade(SymbolID=1, AtBidOrAsk=2, Price=6000.25, Volume=3.0, DateTime=1.5)
SESSION = [LogonRequest(ClientName="mia"), Heartbeat(), TRADE, OrderUpdate(ClientOrderID="é", Price1=5.0)]


@pytest.fixture
def run(monkeypatch, capsysbinary):
    """Runs a command on these bytes; its status, output and last words."""

    def run(action, data, codec=BINARY, option=None):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = main(["dtc", action, "--encoding", option or codec.name])
        out, err = capsysbinary.readouterr()
        return status, out, err.decode()

    return run


def test_a_line_has_the_protocols_names_and_plain_numbers():
    assert to_line(TRADE, BINARY) == (
        '{"Type": 107, "Name": "MARKET_DATA_UPDATE_TRADE", "SymbolID": 1, "AtBidOrAsk": 2, "Price": 6000.25, '
        '"Volume": 3.0, "DateTime": 1.5}'
    )


@EVERY
def test_decode_prints_each_message_and_encode_is_its_inverse(run, codec):
    raw = b"".join(map(codec.encode, SESSION))
    status, out, err = run("decode", raw, codec)
    assert (status, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["Type"] for record in records] == [1, 3, 107, 301]
    assert records[3]["Name"] == "ORDER_UPDATE"
    assert (records[3]["ClientOrderID"], records[3]["Price2"], records[3]["OrderStatus"]) == ("é", UNSET_F64, 0)
    assert run("encode", out, codec) == (0, raw, "")


@EVERY
def test_credentials_are_not_shown(run, codec):
    raw = codec.encode(LogonRequest(Username="trader-joe", Password="hunter2")) + codec.encode(LogonRequest())
    _status, out, _err = run("decode", raw, codec)
    given, none = map(json.loads, out.splitlines())
    assert [(record["Username"], record["Password"]) for record in (given, none)] == [("[redacted]",) * 2, ("", "")]
    assert b"trader-joe" not in out


@EVERY
def test_every_message_with_every_field(run, codec):
    raw = b"".join(codec.encode(cls()) for cls in MESSAGES.values())
    _status, out, _err = run("decode", raw, codec)
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["Name"] for record in records] == [cls.NAME for cls in MESSAGES.values()]
    layouts = [cls.LAYOUT if codec is BINARY else cls.VLS_LAYOUT for cls in MESSAGES.values()]
    assert [list(record)[2:] for record in records] == [[f.name for f in layout.fields] for layout in layouts]
    assert run("encode", out, codec) == (0, raw, "")


@given(st.sampled_from(list(CODECS.values())), st.lists(st.integers(1, 90), min_size=1, max_size=30))
def test_the_input_may_come_in_any_pieces(codec, lengths):
    stream = io.BytesIO(b"".join(map(codec.encode, SESSION)))
    sizes = iter(lengths)
    lines = [line for lines in Decoder(codec).lines(lambda: stream.read(next(sizes, 1 << 16))) for line in lines]
    assert lines == [to_line(message, codec) for message in SESSION]


def test_lines_come_as_soon_as_their_message_is_whole():
    pieces = [VLS.encode(TRADE), VLS.encode(Heartbeat())]
    fed = []

    def read():
        fed.append(None)
        return pieces[len(fed) - 1] if len(fed) <= 2 else b""

    for number, lines in enumerate(Decoder(VLS).lines(read), 1):
        assert (len(lines), len(fed)) == (1, number)


def test_memory_does_not_grow_with_the_input():
    raw, left = BINARY.encode(TRADE) * 1000, 200
    longest = 0

    def read():
        nonlocal left
        left -= 1
        return raw if left > 0 else b""

    for lines in Decoder(BINARY).lines(read):
        longest = max(longest, len(lines))
    assert longest == 1000


@EVERY
def test_a_negotiation_at_the_start_is_binary_in_every_encoding(run, codec):
    raw = BINARY.encode(EncodingRequest(Encoding=codec.encoding)) + codec.encode(Heartbeat())
    _status, out, _ = run("decode", raw, codec)
    assert [json.loads(line)["Type"] for line in out.splitlines()] == [6, 3]
    broken = {"binary": b"\1\0\1\0", "binary_vls": b"\1\0\1\0"}.get(codec.name, b"x\0")
    assert f"byte {len(raw)} of the" in run("decode", raw + broken, codec)[2]


@pytest.mark.parametrize(
    ("codec", "broken", "says"),
    [
        (BINARY, b"\2\0\7\0", "byte 40 of the stream starts a message of type 7 and size 2"),
        (BINARY, BINARY.encode(TRADE)[:39], "byte 40 of the input starts a message of which only 39 bytes are there"),
        (
            VLS,
            struct.pack("<3H2H", 14, 701, 10, 12, 5) + b"1234",
            "byte 40 of the input starts a message that can't be",
        ),
        (JSON, b'{"Type":3,"CurrentDateTime":[]}\0', "Heartbeat.CurrentDateTime can't be a list"),
        (JSON, b"hello\0", "byte 83 of the input starts a message that can't be read: a message is no JSON"),
    ],
)
def test_damage_is_said_in_one_sentence_after_what_came_before(run, codec, broken, says):
    status, out, err = run("decode", codec.encode(TRADE) + broken, codec)
    assert status == 1
    assert out.decode() == to_line(TRADE, codec) + "\n"
    assert says in err
    assert err.count("\n") == 1


def test_unknown_types_are_skipped_and_counted(run):
    strange = struct.pack("<HHI", 8, 9999, 5)
    status, out, err = run("decode", strange + BINARY.encode(Heartbeat()) + strange)
    assert (status, out.count(b"\n")) == (0, 1)
    assert err == "2 messages of unknown type were skipped\n"


def test_the_end_of_nothing_is_nothing(run):
    assert run("decode", b"") == run("encode", b"\n\n") == (0, b"", "")


def test_a_value_that_is_no_number_is_null():
    record = json.loads(to_line(MarketDataUpdateTrade(Price=math.nan, Volume=math.inf), BINARY))
    assert (record["Price"], record["Volume"]) == (None, None)


def test_a_field_that_the_encoding_does_not_carry_is_not_shown():
    assert "EndOfDayAccountValue" not in json.loads(to_line(AccountBalanceUpdate(), BINARY))
    assert "EndOfDayAccountValue" in json.loads(to_line(AccountBalanceUpdate(), VLS))


# ---------------------------------------------------------------------------------------------------------- encode


def test_a_line_by_hand_takes_the_defaults_of_the_header(run):
    line = b'{"Name": "SUBMIT_NEW_SINGLE_ORDER", "Symbol": "ESZ26_FUT_CME", "OrderType": 77}\n'
    _status, raw, _ = run("encode", line)
    assert BINARY.decode(raw) == SubmitNewSingleOrder(Symbol="ESZ26_FUT_CME", OrderType=77)
    assert from_line(b'{"Type": 107, "Price": 5}') == MarketDataUpdateTrade(Price=5.0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"hello", "this is no JSON"),
        (b"[" * 100_000, "this is no JSON"),
        (b"[1]", "a message is a JSON object"),
        (b"{}", "no message of Type null and Name null"),
        (b'{"Type": 9999}', "no message of Type 9999"),
        (b'{"Type": [1]}', "no message of Type [1]"),
        (b'{"Type": true}', "no message of Type true"),
        (b'{"Type": 107, "Price": 1e999}', "1e999 is no finite number"),
        (b'{"Type": 107, "Price": NaN}', "NaN is no finite number"),
        (b'{"Type": 3, "Name": "LOGOFF"}', 'no message of Type 3 and Name "LOGOFF"'),
        (b'{"Type": 107, "Prize": 5}', "MARKET_DATA_UPDATE_TRADE has no field Prize"),
        (b'{"Type": 107, "Price": "much"}', "MarketDataUpdateTrade.Price can't be 'much'"),
        (b'{"Type": 203, "ClientOrderID": "' + b"x" * 40 + b'"}', "CancelOrder.ClientOrderID can't be sent"),
        (b'{"Type": 3}' + b" " * MAX_LINE_BYTES, f"has more than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_a_bad_line_is_named_after_what_came_before_was_written(run, line, says):
    status, raw, err = run("encode", b'{"Type": 3}\n\n' + line + b"\n")
    assert (status, raw) == (1, BINARY.encode(Heartbeat()))
    assert "line 3" in err
    assert says in err
    assert err.count("\n") == 1


@given(st.binary(max_size=60))
def test_garbage_in_a_line_raises_nothing_but_protocol_errors(line):
    try:
        from_line(line)
    except ProtocolError:
        return


def test_text_longer_than_its_fixed_field_fits_other_encodings(run):
    line = to_line(GeneralLogMessage(MessageText="x" * 500), VLS).encode()
    assert VLS.decode(run("encode", line, VLS)[1]).MessageText == "x" * 500
    assert BINARY.decode(run("encode", line)[1]).MessageText == "x" * 127


@pytest.mark.parametrize(("option", "codec"), [("vls", VLS), ("json-compact", JSON_COMPACT)])
def test_an_encoding_has_a_shorter_name_too(run, option, codec):
    assert run("encode", to_line(TRADE, BINARY).encode(), option=option)[1] == codec.encode(TRADE)


def test_an_action_is_asked_for(capsys):
    assert main(["dtc"]) == 2
    assert main(["dtc", "decode", "--encoding", "xml"]) == 2
