import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.binary import decode, decode_frames, encode
from mia_daemon.dtc.enums import OrderTypeEnum
from mia_daemon.dtc.layout import Text
from mia_daemon.dtc.messages import (
    MESSAGES,
    UNSET_F64,
    CancelOrder,
    CancelReplaceOrder,
    GeneralLogMessage,
    Heartbeat,
    Logoff,
    LogonRequest,
    LogonResponse,
    OrderUpdate,
    SubmitNewSingleOrder,
)
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.errors import ProtocolError, UsageError


def value_of(field):
    if isinstance(field.wire, Text):
        characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
        return st.text(characters, max_size=field.size).filter(lambda text: len(text.encode()) < field.size)
    if field.code in "fd":
        width = {"f": 32, "d": 64}[field.code]
        largest = struct.unpack(
            f"<{field.code}", {"f": b"\xff\xff\x7f\x7f", "d": b"\xff" * 6 + b"\xef\x7f"}[field.code]
        )
        return st.floats(width=width, allow_nan=False, allow_infinity=False) | st.just(largest[0])
    bits = 8 * field.size
    low, high = (0, 2**bits - 1) if field.code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high) | st.sampled_from([low, high])


@st.composite
def messages(draw):
    cls = MESSAGES[draw(st.sampled_from(sorted(MESSAGES)))]
    return cls(*[draw(value_of(field)) for field in cls.LAYOUT.fields])


@given(messages())
def test_every_message_survives_the_round_trip(message):
    raw = encode(message)
    assert len(raw) == message.LAYOUT.size
    assert decode(raw) == message
    assert encode(decode(raw)) == raw


@pytest.mark.parametrize("type_", sorted(MESSAGES))
def test_every_message_keeps_a_distinct_value_in_each_field(type_):
    cls = MESSAGES[type_]
    values = [
        f"t{i}"[: f.size - 1] if isinstance(f.wire, Text) else i % 120 + 1 for i, f in enumerate(cls.LAYOUT.fields)
    ]
    message = decode(encode(cls(*values)))
    assert [getattr(message, f.name) for f in cls.LAYOUT.fields] == values


@given(messages(), st.data())
def test_a_message_that_ends_early_takes_defaults_for_what_is_missing(message, data):
    raw = bytearray(encode(message))
    length = data.draw(st.integers(4, len(raw)))
    raw[:2] = struct.pack("<H", length)
    short = decode(bytes(raw[:length]))
    fresh = type(message)()
    for field in message.LAYOUT.fields:
        source = message if field.end <= length else fresh
        assert getattr(short, field.name) == getattr(source, field.name)


@given(messages(), st.binary(min_size=1, max_size=50))
def test_a_longer_message_loses_its_tail(message, tail):
    raw = encode(message)
    longer = struct.pack("<H", len(raw) + len(tail)) + raw[2:] + tail
    assert decode(longer) == message


def test_price_is_set_by_default_in_a_replace_that_ends_early():
    short = struct.pack("<HH32s32s", 68, 204, b"17", b"a-1")
    assert decode(short) == CancelReplaceOrder(ServerOrderID="17", ClientOrderID="a-1", Price1IsSet=1, Price2IsSet=1)


def test_known_bytes_of_a_heartbeat():
    assert encode(Heartbeat(NumDroppedMessages=2, CurrentDateTime=3)).hex() == "10000300020000000300000000000000"


def test_order_update_is_unset_unless_said_otherwise():
    assert decode(struct.pack("<HH", 4, 301)) == OrderUpdate()
    assert OrderUpdate().AverageFillPrice == UNSET_F64


def test_unknown_types_are_skipped():
    assert decode(struct.pack("<HHq", 12, 9999, 1)) is None
    stream = struct.pack("<HHq", 12, 9999, 1) + encode(Heartbeat())
    assert list(decode_frames(FrameReader().feed(stream))) == [Heartbeat()]


def test_an_unknown_value_of_an_enumeration_stays_a_number():
    raw = encode(SubmitNewSingleOrder(OrderType=OrderTypeEnum.ORDER_TYPE_STOP))
    assert decode(raw).OrderType == OrderTypeEnum.ORDER_TYPE_STOP
    assert decode(encode(SubmitNewSingleOrder(OrderType=77))).OrderType == 77


def test_an_identifier_that_does_not_fit_is_refused_by_name():
    CancelOrder(ClientOrderID="x" * 31)
    with pytest.raises(UsageError, match=r"CancelOrder\.ClientOrderID can't be sent: it has 32 bytes and 31"):
        encode(CancelOrder(ClientOrderID="x" * 32))
    with pytest.raises(UsageError, match="NUL"):
        encode(CancelOrder(ClientOrderID="a\0b"))
    with pytest.raises(UsageError, match="text is expected, not int"):
        encode(CancelOrder(ClientOrderID=5))


def test_text_for_people_is_cut_between_characters():
    cut = decode(encode(Logoff(Reason="é" * 96)))
    assert cut.Reason == "é" * 47


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (LogonResponse(Result=2**31), "Result"),
        (LogonResponse(MarketDataSupported=-1), "MarketDataSupported"),
        (LogonResponse(Integer_1=1.5), "Integer_1"),
        (MESSAGES[145](Price=1e300), "Price"),
    ],
)
def test_a_number_that_does_not_fit_is_refused_by_name(message, field):
    with pytest.raises(UsageError, match=rf"{type(message).__name__}\.{field} = "):
        encode(message)


def test_text_that_is_not_utf8_is_read_as_latin1():
    raw = struct.pack("<HH128s", 132, 701, b"caf\xe9 \xff")
    assert decode(raw) == GeneralLogMessage(MessageText="café ÿ")


def test_text_without_a_final_nul_and_bytes_after_a_nul():
    assert decode(struct.pack("<HH128s", 132, 701, b"x" * 128)).MessageText == "x" * 128
    assert decode(struct.pack("<HH128s", 132, 701, b"ab\0cd")).MessageText == "ab"


@pytest.mark.parametrize("raw", [b"", b"\x10\x00\x03", struct.pack("<HHI", 16, 3, 0)])
def test_a_cut_frame_is_a_protocol_error(raw):
    with pytest.raises(ProtocolError):
        decode(raw)


@given(st.binary(max_size=800))
def test_garbage_raises_nothing_but_protocol_errors(data):
    try:
        message = decode(data)
    except ProtocolError:
        return
    if message is not None:
        assert isinstance(message, MESSAGES[type(message).TYPE])


def test_credentials_do_not_show():
    shown = repr(LogonRequest(Username="trader-joe", Password="hunter2", ClientName="mia"))
    assert "trader-joe" not in shown
    assert "hunter2" not in shown
    assert "mia" in shown
