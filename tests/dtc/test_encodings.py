import json
import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.encodings import BINARY, BY_NAME, CODECS, JSON, JSON_COMPACT, VLS, codec_of, detect
from mia_daemon.dtc.layout import Text
from mia_daemon.dtc.market_columns import READINGS
from mia_daemon.dtc.market_data import MarketDataDecoder, Skipped
from mia_daemon.dtc.messages import (
    MESSAGES,
    UNSET_F32,
    UNSET_F64,
    UNSET_I32,
    UNSET_U32,
    AccountBalanceUpdate,
    CancelOrder,
    CancelReplaceOrder,
    EncodingRequest,
    GeneralLogMessage,
    Heartbeat,
    LogonRequest,
    LogonResponse,
    MarketDataSnapshot,
    MarketDataUpdateBidAskFloatWithMicroseconds,
    MarketDataUpdateTrade,
    OrderUpdate,
    PositionUpdate,
    SecurityDefinitionResponseV2,
    SubmitNewSingleOrder,
    UserMessage,
)
from mia_daemon.dtc.stream import MAX_JSON_BYTES, MAX_STRAY_FRAMES, JsonFrameReader
from mia_daemon.errors import ProtocolError, UnreadableFrame, UsageError

SENTINELS = {"f": [UNSET_F32], "d": [UNSET_F64], "i": [UNSET_I32], "I": [UNSET_U32], "q": [2**63 - 1]}
EVERY = pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)


NO_NUMBERS = [
    *[b"nan", b"-nan", b"NaN", b"NAN", b"nan(ind)", b"-nan(ind)", b"-nan(snan)", b"nan(0x8000000000000)", b"inf"],
    *[b"-inf", b"+inf", b"Infinity", b"-Infinity", b"INF", b"1.#QNAN", b"-1.#IND", b"1.#INF00", b"-1.#INF", b"1.#R"],
]
"""As C programs print them."""


def value_of(field):
    if isinstance(field.wire, Text):
        characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
        return st.text(characters, max_size=field.wire.length).filter(
            lambda text: len(text.encode()) < field.wire.length
        )
    edges = st.sampled_from(SENTINELS.get(field.code, [0]))
    if field.code in "fd":
        return edges | st.floats(width={"f": 32, "d": 64}[field.code], allow_nan=False, allow_infinity=False)
    bits = 8 * field.size
    low, high = (0, 2**bits - 1) if field.code.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return edges | st.integers(low, high) | st.sampled_from([low, high])


@st.composite
def messages(draw, codec):
    cls = MESSAGES[draw(st.sampled_from(sorted(MESSAGES)))]
    layout = cls.VLS_LAYOUT if codec is VLS else cls.LAYOUT
    return cls(**{field.name: draw(value_of(field)) for field in layout.fields})


coded = st.sampled_from(list(CODECS.values())).flatmap(lambda codec: st.tuples(st.just(codec), messages(codec)))


# ------------------------------------------------------------------------------------------------- there and back


@given(coded)
def test_every_message_survives_the_round_trip_in_every_encoding(coded):
    codec, message = coded
    raw = codec.encode(message)
    assert codec.decode(raw) == message
    assert codec.encode(codec.decode(raw)) == raw


@EVERY
@pytest.mark.parametrize("type_", sorted(MESSAGES))
def test_every_message_keeps_a_distinct_value_in_each_field(codec, type_):
    cls = MESSAGES[type_]
    fields = (cls.VLS_LAYOUT if codec is VLS else cls.LAYOUT).fields
    values = {
        f.name: f"t{i}"[: f.wire.length - 1] if isinstance(f.wire, Text) else i % 120 + 1 for i, f in enumerate(fields)
    }
    message = codec.decode(codec.encode(cls(**values)))
    assert {name: getattr(message, name) for name in values} == values


@EVERY
def test_a_default_message_is_a_default_message(codec):
    for cls in MESSAGES.values():
        assert codec.decode(codec.encode(cls())) == cls()


@given(coded, st.lists(st.integers(1, 200), max_size=40))
def test_framing_survives_any_split(coded, lengths):
    codec, message = coded
    stream = codec.encode(message) * 3 + codec.encode(Heartbeat(NumDroppedMessages=7))
    reader, found, position = codec.reader(), [], 0
    for length in [*lengths, len(stream)]:
        found += codec.messages(reader.feed(stream[position : position + length]))
        position += length
    assert found == [message] * 3 + [Heartbeat(NumDroppedMessages=7)]
    assert (reader.error, reader.buffered, reader.frames_read, reader.bytes_read) == (None, 0, 4, len(stream))


@EVERY
def test_messages_survive_byte_by_byte(codec):
    sent = [
        LogonRequest(ClientName="mia"),
        MarketDataUpdateTrade(SymbolID=1, Price=5.0),
        OrderUpdate(ClientOrderID="a"),
    ]
    reader, found = codec.reader(), []
    for byte in b"".join(map(codec.encode, sent)):
        found += codec.messages(reader.feed(bytes([byte])))
    assert found == sent


def test_encodings_go_by_their_numbers_and_protocol_buffers_are_not_spoken():
    assert [codec_of(number) for number in range(6)] == [BINARY, VLS, JSON, JSON_COMPACT, None, None]


# ------------------------------------------------------------------------------------- variable-length strings


@pytest.fixture(scope="module")
def reference(shared_dir):
    layout = json.loads((shared_dir / "sierra" / "layout_vls.json").read_text())
    return {entry["type"]: entry for entry in layout.values() if entry["type"] > 0}


def test_vls_sizes_offsets_and_c_types_equal_the_compiled_header(reference):
    for type_, entry in reference.items():
        layout = MESSAGES[type_].VLS_LAYOUT
        assert (layout.size, layout.codec.size) == (entry["size"], entry["size"])
        expected = [(f["name"], f["offset"], f["size"], f["ctype"].removeprefix("DTC::")) for f in entry["fields"][3:]]
        declared = [
            (f.name, f.offset, f.size, "vls_t" if isinstance(f.wire, Text) else getattr(f.wire, "name", ""))
            for f in layout.fields
        ]
        enums = {f.name: f.wire.__name__ for f in layout.fields if isinstance(f.wire, type)}
        assert [(*d[:3], enums.get(d[0], d[3])) for d in declared] == expected, entry["struct"]
        assert [(f["name"], f["offset"]) for f in entry["fields"][:3]] == [("Size", 0), ("Type", 2), ("BaseSize", 4)]


def test_vls_messages_are_those_of_the_header_and_one_that_it_leaves_out(reference):
    assert {t for t, cls in MESSAGES.items() if cls.VLS_LAYOUT is not cls.LAYOUT} - set(reference) == {210}
    assert all(MESSAGES[type_].LAYOUT.texts for type_ in reference)


def test_vls_defaults_equal_the_compiled_header_but_for_two_that_it_states_twice(reference):
    for type_, entry in reference.items():
        differs = {2: {"MarketDataSupported": 0}, 102: {"NumLevels": 10}}.get(type_, {})
        assert VLS.encode(MESSAGES[type_](**differs)).hex() == entry["default_hex"], entry["struct"]


def test_vls_bytes_of_a_known_message():
    raw = VLS.encode(CancelOrder(ServerOrderID="17", TradeAccount="Sim1"))
    base = struct.pack("<3H6H", 26, 203, 18, 18, 3, 0, 0, 21, 5)
    assert raw == base + b"17\0Sim1\0"


def test_vls_text_may_be_longer_than_its_fixed_field():
    message = UserMessage(UserMessage="é" * 20_000)
    assert VLS.decode(VLS.encode(message)) == message
    with pytest.raises(UsageError, match=r"UserMessage can't be sent: it has 80013 bytes and 65535 are allowed"):
        VLS.encode(UserMessage(UserMessage="é" * 40_000))


@given(messages(VLS), st.data())
def test_vls_base_that_ends_early_takes_defaults_for_what_is_missing(message, data):
    layout = message.VLS_LAYOUT
    raw = VLS.encode(message)
    if layout is message.LAYOUT:
        return
    base = data.draw(st.integers(6, layout.size))
    short = VLS.decode(raw[:4] + struct.pack("<H", base) + raw[6:])
    fresh = type(message)()
    for field in layout.fields:
        source = message if field.end <= base else fresh
        assert getattr(short, field.name) == getattr(source, field.name)


def test_vls_base_that_is_longer_loses_its_tail():
    raw = bytearray(VLS.encode(CancelOrder(ServerOrderID="17")))
    raw[18:18] = b"later field!"
    raw[0:2], raw[4:6], raw[6:8] = struct.pack("<H", len(raw)), struct.pack("<H", 30), struct.pack("<H", 30)
    assert VLS.decode(bytes(raw)) == CancelOrder(ServerOrderID="17")


@pytest.mark.parametrize(
    ("base", "offset", "length", "says"),
    [
        (18, 18, 4, "CancelOrder.ServerOrderID lies at bytes 18 to 22 of a message of 21"),
        (18, 65535, 65535, "lies at bytes 65535 to 131070"),
        (22, 18, 3, "21 bytes claims a base of 22"),
        (3, 18, 3, "claims a base of 3"),
    ],
)
def test_vls_that_lies_about_its_sizes_is_a_protocol_error(base, offset, length, says):
    raw = struct.pack("<3H6H", 21, 203, base, offset, length, 0, 0, 0, 0) + b"17\0"
    with pytest.raises(ProtocolError, match=says):
        VLS.decode(raw)


def test_vls_text_is_read_leniently():
    raw = struct.pack("<3H2H", 15, 701, 10, 10, 5) + b"caf\xe9\0"
    assert VLS.decode(raw) == GeneralLogMessage(MessageText="café")
    unended = struct.pack("<3H2H", 14, 701, 10, 10, 4) + b"cafe"
    assert VLS.decode(unended) == GeneralLogMessage(MessageText="cafe")


def test_vls_leaves_what_has_no_text_and_the_newest_definition_as_they_are():
    for message in (MarketDataUpdateTrade(Price=5.0), EncodingRequest(), SecurityDefinitionResponseV2(Symbol="A")):
        assert VLS.encode(message) == BINARY.encode(message)


def test_the_field_that_only_vls_has():
    message = AccountBalanceUpdate(IntroducingBroker="x", EndOfDayAccountValue=5.0)
    assert VLS.decode(VLS.encode(message)) == JSON.decode(JSON.encode(message)) == message
    assert BINARY.decode(BINARY.encode(message)) == AccountBalanceUpdate(IntroducingBroker="x")


# ------------------------------------------------------------------------------------------------------------ JSON


def test_json_bytes_of_a_known_message():
    trade = MarketDataUpdateTrade(SymbolID=1, AtBidOrAsk=2, Price=6000.25, Volume=1.0, DateTime=1.5)
    assert JSON.encode(trade) == (
        b'{"Type":107,"SymbolID":1,"AtBidOrAsk":2,"Price":6000.25,"Volume":1,"DateTime":1.5}\0'
    )
    assert JSON_COMPACT.encode(trade) == b'{"Type":107,"F":[1,2,6000.25,1,1.5]}\0'


@pytest.mark.parametrize(
    ("value", "written"),
    [(5997.0, "5997"), (-3.0, "-3"), (0.0, "0"), (-0.0, "-0.0"), (5997.25, "5997.25"), (2.0**53, "9007199254740992.0")],
)
def test_json_whole_doubles_are_written_as_integers_and_read_as_doubles(value, written):
    sent = MarketDataUpdateTrade(SymbolID=1, Price=value, Volume=value)
    for codec in (JSON, JSON_COMPACT):
        raw = codec.encode(sent)
        said = json.loads(raw[:-1], parse_int=str, parse_float=str)
        assert (said["F"][2:4] if "F" in said else [said["Price"], said["Volume"]]) == [written, written]
        read = codec.decode(raw)
        assert (repr(read.Price), repr(read.Volume)) == (repr(value), repr(value))


def test_compact_form_is_for_frequent_messages_only_and_both_are_read():
    order = SubmitNewSingleOrder(Symbol="ESZ26_FUT_CME", ClientOrderID="a")
    assert JSON_COMPACT.encode(order) == JSON.encode(order)
    compact = {t for t, cls in MESSAGES.items() if b'"F":[' in JSON_COMPACT.encode(cls())}
    assert {3, 104, 107, 108, 109, 122, 144, 145, 146, 147, 148, 803, 804} <= compact
    assert compact & {1, 2, 5, 6, 7, 100, 101, 103, 116, 138, 208, 301, 306, 507, 600} == set()
    assert all(not MESSAGES[type_].LAYOUT.texts for type_ in compact)
    assert JSON.decode(JSON_COMPACT.encode(Heartbeat(NumDroppedMessages=2))) == Heartbeat(NumDroppedMessages=2)


def test_json_unset_is_null_and_null_or_nothing_is_unset():
    said = json.loads(JSON.encode(OrderUpdate(Price1=5.0)).rstrip(b"\0"))
    assert (said["Price1"], said["Price2"], said["AverageFillPrice"], said["LastFillDateTime"]) == (5.0, None, None, 0)
    assert json.loads(JSON.encode(MarketDataSnapshot()).rstrip(b"\0"))["OpenInterest"] is None
    nulls = {"Type": 301, **dict.fromkeys(said.keys() - {"Type"})}
    assert JSON.decode(json.dumps(nulls).encode()) == OrderUpdate()
    assert JSON.decode(b'{"Type":301}') == OrderUpdate()
    assert JSON.decode(b'{"Type":204,"Price1":5}') == CancelReplaceOrder(Price1=5.0, Price1IsSet=1, Price2IsSet=1)


def test_json_message_that_says_nothing_has_the_headers_defaults_but_in_market_data():
    market = {reading.message.TYPE for reading in READINGS}
    for type_, cls in MESSAGES.items():
        nulls = dict.fromkeys((f.name for f in cls.LAYOUT.fields), None)
        silent = JSON.decode(b'{"Type":%d}' % type_)
        assert silent == JSON.decode(json.dumps({"Type": type_, **nulls}).encode())
        assert silent == cls() or type_ in market


def test_json_price_that_is_left_out_of_market_data_is_no_price():
    trade = JSON.decode(b'{"Type":107,"SymbolID":1,"Volume":3}')
    assert (trade.Price, trade.Volume) == (UNSET_F64, 3.0)
    quote = JSON.decode(b'{"Type":144,"F":[1,null]}')
    assert quote == MarketDataUpdateBidAskFloatWithMicroseconds(
        SymbolID=1, BidPrice=UNSET_F32, BidQuantity=UNSET_F32, AskQuantity=UNSET_F32
    )
    assert JSON.decode(b'{"Type":306,"Symbol":"ES"}') == PositionUpdate(Symbol="ES", Quantity=0.0)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b'"Quantity":3', 3.0),
        (b'"Quantity":"3.5"', 3.5),
        (b'"Quantity":true', 1.0),
        (b'"Quantity":null', 0.0),
        (b'"Quantity":""', UNSET_F64),
        (b'"Quantity":1e999', UNSET_F64),
        (b'"Quantity":1' + b"0" * 400, UNSET_F64),
        *[(b'"Quantity":' + word, UNSET_F64) for word in NO_NUMBERS],
        *[(b'"Quantity":"' + word + b'"', UNSET_F64) for word in NO_NUMBERS],
    ],
)
def test_json_numbers_are_read_leniently(said, read):
    """What is no number is unset and not 0, which would say that there is no position."""
    assert JSON.decode(b'{"Type":306,' + said + b"}") == PositionUpdate(Quantity=read)


@pytest.mark.parametrize("word", [*NO_NUMBERS, b"1e999", b"-1", b"2147483648", b"9223372036854775808", b'""'])
@pytest.mark.parametrize("field", ["OrderStatus", "NoOrders", "LatestTransactionDateTime", "Price1"])
def test_json_number_out_of_range_is_unset(word, field):
    message = JSON.decode(b'{"Type":301,"ClientOrderID":"a","%s":%s}' % (field.encode(), word))
    in_range = {"OrderStatus": {b"-1"}, "NoOrders": set()}.get(field, {b"-1", b"2147483648", b"9223372036854775808"})
    expected = {field: int(word)} if word in in_range else {}
    assert message == OrderUpdate(ClientOrderID="a", **expected)


@pytest.mark.parametrize("word", NO_NUMBERS)
def test_json_words_are_left_alone_within_texts_and_longer_words(word):
    said = {"Type": 701, "MessageText": f': {word.decode()} , "{word.decode()}\\"'}
    raw = json.dumps(said).encode()[:-1] + b',"more":%s}' % word
    assert JSON.decode(raw).MessageText == said["MessageText"]
    with pytest.raises(UnreadableFrame, match="PositionUpdate is no JSON"):
        JSON.decode(b'{"Type":306,"Quantity":x%sx}' % word)


def test_json_frame_of_quotes_is_read_in_linear_time():
    for text in (b'{"a":"' + b'\\"' * 100_000, b'{"a":' + b"nan(" * 60_000, b'"' * 200_001):
        with pytest.raises(UnreadableFrame):
            JSON.decode(text)


def test_json_text_may_hold_raw_line_breaks_and_tabs():
    update = JSON.decode(b'{"Type":301,"InfoText":"two\r\nlines\tand a tab","ClientOrderID":"a"}')
    assert update == OrderUpdate(InfoText="two\r\nlines\tand a tab", ClientOrderID="a")


@pytest.mark.parametrize("frame", [b"\0", b"", b" \r\n\0", b"\t"])
def test_json_frame_that_is_empty_is_no_message(frame):
    assert JSON.decode(frame) is None


def test_json_decimal_comma_is_not_guessed_at():
    with pytest.raises(UnreadableFrame, match=r"OrderUpdate is no JSON: .*, near .*6000,25") as caught:
        JSON.decode(b'{"Type":301,"Price1":6000,25,"ClientOrderID":"a"}')
    assert (caught.value.type, caught.value.kind) == (301, "OrderUpdate is no JSON")
    with pytest.raises(UnreadableFrame, match="7 values for 5 fields, and none with a decimal point"):
        JSON.decode(b'{"Type":107,"F":[1,2,6000,25,1,0,1790000000]}')
    newer = JSON.decode(b'{"Type":107,"F":[1,2,6000.25,1.0,1790000000.5,7,"new"]}')
    assert newer == MarketDataUpdateTrade(SymbolID=1, AtBidOrAsk=2, Price=6000.25, Volume=1.0, DateTime=1790000000.5)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'"MessageNumber":5.0,"Symbol":17', ""),
        (b'"MessageNumber":"5","Symbol":"17"', ""),
        (b'"MessageNumber":[1]', "PositionUpdate.MessageNumber can't be"),
        (b'"Quantity":"many"', "PositionUpdate.Quantity can't be 'many'"),
        (b'"Symbol":{"a":1}', "PositionUpdate.Symbol can't be dict"),
        (b'"Symbol":' + b"[" * 100_000, "is no JSON"),
        (b'"Quantity":' + b"9" * 5000, "no JSON|can't be"),
        (b'"Quantity":"' + b"9" * 5000 + b'"', "PositionUpdate.Quantity can't be '9999"),
    ],
)
def test_json_takes_what_converts_and_refuses_the_rest(body, says):
    frame = b'{"Type":306,' + body + b"}\0"
    if says:
        with pytest.raises(ProtocolError, match=says):
            JSON.decode(frame)
    else:
        assert isinstance(JSON.decode(frame), PositionUpdate)


@pytest.mark.parametrize("frame", [b"{}\0", b"[107]\0", b'{"Type":null}\0', b'{"Type":"107"}\0', b"{\xff}\0", b"{"])
def test_json_that_is_no_message_is_a_protocol_error(frame):
    with pytest.raises(ProtocolError):
        JSON.decode(frame)


def test_json_text_is_cut_at_a_nul_and_half_characters_are_replaced():
    assert JSON.decode(b'{"Type":701,"MessageText":"ab\\u0000cd"}').MessageText == "ab"
    assert JSON.decode(b'{"Type":701,"MessageText":"a\\ud800"}').MessageText == "a?"
    assert JSON.decode(b'{"Type":701,"MessageText":"caf\xe9"}').MessageText == "café"


@pytest.mark.parametrize("codec", [JSON, JSON_COMPACT, VLS, BINARY], ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("message", "says"),
    [
        (LogonResponse(Result=2**31), r"LogonResponse\.Result = "),
        (LogonResponse(Integer_1=1.5), r"LogonResponse\.Integer_1 = "),
        (MESSAGES[145](Price=1e300), r"MarketDepthSnapshotLevelFloat\.Price = "),
        (CancelOrder(ClientOrderID="a\0b"), "NUL"),
        (CancelOrder(ClientOrderID=5), "text is expected, not int"),
        (CancelOrder(ClientOrderID="\ud800"), "ClientOrderID can't be sent"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_in_every_encoding(codec, message, says):
    with pytest.raises(UsageError, match=says):
        codec.encode(message)


@EVERY
def test_credentials_do_not_show_in_errors(codec):
    with pytest.raises(UsageError) as caught:
        codec.encode(LogonRequest(Password="hunter2\0"))
    assert "LogonRequest.Password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ProtocolError) as caught:
        JSON.decode(b'{"Type":1,"Password":["hunter2"]}')
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "5"])
def test_json_refuses_numbers_it_does_not_have(value):
    with pytest.raises(UsageError, match=r"PositionUpdate\.Quantity"):
        JSON.encode(PositionUpdate(Quantity=value))
    with pytest.raises(UsageError, match="EndOfDayAccountValue"):
        JSON.encode(AccountBalanceUpdate(EndOfDayAccountValue=value if value != "5" else "x"))


def test_json_accepts_space_between_messages():
    frames = JsonFrameReader().feed(b'{"Type":3}\0\r\n {"Type":3}\0\n')
    assert list(JSON.messages(frames)) == [Heartbeat(), Heartbeat()]


@pytest.mark.parametrize("stream", [BINARY.encode(Heartbeat()), b"GET / HTTP/1.1\r\n", b"hello\0"])
@pytest.mark.parametrize("before", [b"", b"\0", b"\r\n\0"])
def test_json_reader_tells_a_peer_of_another_tongue(stream, before):
    reader = JsonFrameReader()
    frames = reader.feed(before + stream)
    assert list(JSON.messages(frames)) == []
    assert f"byte {len(before)} of the stream starts no object" in str(reader.error)
    with pytest.raises(ProtocolError):
        reader.feed(b"{}\0")


def test_json_reader_gives_up_a_peer_that_changes_its_tongue():
    stray = b"what?\0"
    reader = JsonFrameReader()
    assert len(reader.feed(b"{}\0" + (stray * MAX_STRAY_FRAMES + b"{}\0") * 3)) == 1 + (MAX_STRAY_FRAMES + 1) * 3
    assert reader.error is None
    assert len(reader.feed(stray * (MAX_STRAY_FRAMES + 5))) == MAX_STRAY_FRAMES
    assert "starts no object" in str(reader.error)


FLAWED = [
    b"\0",
    b" \n\0",
    b'{"Type":301,"Price1":6000,25}\0',
    b'{"Type":301,"ClientOrd\0',
    b'{"Type":301,"ClientOrderID":[]}\0',
    b'{"Type":"301"}\0',
    b'{"Type":9999}\0',
    b"[301]\0",
    b"garbage \xff\xfe\0",
    b"\x10\x00\x03\0",
]


@given(st.lists(st.sampled_from(FLAWED), max_size=12), st.lists(st.integers(1, 30), max_size=60))
def test_json_flaw_costs_one_frame_whatever_the_split(flaws, lengths):
    """Every update between the flaws arrives, and nothing that was not said."""
    said = [OrderUpdate(ClientOrderID=f"o{i}") for i in range(len(flaws) + 1)]
    stream = JSON.encode(said[0]) + b"".join(flaw + JSON.encode(m) for flaw, m in zip(flaws, said[1:], strict=True))
    reader, decoder, position, found = JSON.reader(), MarketDataDecoder({}, JSON), 0, []
    for length in [*lengths, len(stream)]:
        found += decoder.decode(reader.feed(stream[position : position + length]), 1)
        position += length
    skipped = [arrival for arrival in found if isinstance(arrival, Skipped)]
    assert [arrival for arrival in found if not isinstance(arrival, Skipped)] == said
    assert reader.error is None
    assert decoder.unreadable == len(skipped)
    assert decoder.unreadable + decoder.unknown_types + len(said) == reader.frames_read


@pytest.mark.parametrize("ended", [False, True])
def test_json_message_without_end_is_given_up_with_memory_bounded(ended):
    tracemalloc.start()
    try:
        reader = JsonFrameReader()
        for _ in range(1000):
            reader.feed(b'{"a":"' + b"x" * 4000 if not reader.buffered else b"x" * 4000)
            if reader.error is not None:
                break
            assert reader.buffered <= MAX_JSON_BYTES
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"more than {MAX_JSON_BYTES} bytes" in str(reader.error)
    assert peak < 4 * MAX_JSON_BYTES
    if ended:
        whole = JsonFrameReader()
        assert len(whole.feed(b'{"a":"' + b"x" * MAX_JSON_BYTES + b'"}\0')) == 0
        assert whole.error is not None


# ------------------------------------------------------------------------------------------------------- detection


@pytest.mark.parametrize("codec", [BINARY, VLS, JSON])
@pytest.mark.parametrize("logon", [LogonRequest(), LogonRequest(Username="u" * 31, ClientName="mia")])
def test_a_client_is_understood_from_its_first_bytes(codec, logon):
    start = codec.encode(logon)
    assert detect(start) is detect(start[:6]) is codec
    assert codec is JSON or detect(start[:5]) is None


def test_an_encoding_request_and_garbage_count_as_binary():
    assert detect(BINARY.encode(EncodingRequest(Encoding=2))) is BINARY
    assert detect(b"GET / HTTP") is BINARY


# -------------------------------------------------------------------------------------------------------- garbage


@EVERY
@given(data=st.data())
def test_garbage_raises_nothing_but_protocol_errors(codec, data):
    raw = bytearray(codec.encode(MESSAGES[data.draw(st.sampled_from(sorted(MESSAGES)))]()))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=5)):
        raw[at] = value
    reader = codec.reader()
    try:
        frames = reader.feed(bytes(raw) + data.draw(st.binary(max_size=20)))
        for start, end in pairwise(frames.offsets):
            message = codec.decode(frames.data[start:end])
            if message is not None:
                assert codec.decode(codec.encode(message)) is not None
    except (ProtocolError, UsageError):
        return


def test_binary_stream_is_said_again_in_json():
    trades = [MarketDataUpdateTrade(SymbolID=1, Price=5.0 + i) for i in range(3)]
    stream = b"".join(map(BINARY.encode, trades))
    assert BINARY.from_binary(stream) is VLS.from_binary(stream) is stream
    assert list(JSON.messages(JSON.reader().feed(JSON.from_binary(stream)))) == trades
