import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.encodings import BINARY, BY_NAME, CODECS, JSON
from mia_daemon.dtc.market_data import MarketDataDecoder, Skipped
from mia_daemon.dtc.messages import (
    CurrentPositionsRequest,
    EncodingRequest,
    EncodingResponse,
    GeneralLogMessage,
    Heartbeat,
    Logoff,
    LogonRequest,
    LogonResponse,
    MarketDataUpdateTrade,
    PositionUpdate,
    UserMessage,
)
from mia_daemon.dtc.session import TABLE, DtcSession, Ended, Event, LoggedOn, SessionState
from mia_daemon.dtc.stream import MAX_JSON_BYTES
from mia_daemon.errors import ConnectionLost, LogonRefused, ProtocolError, SentElsewhere

S = 1_000_000_000
LOGON = LogonRequest(ClientName="mia", HeartbeatIntervalInSeconds=10)


class Talk:
    """A session and the stopwatch it is told."""

    def __init__(self, **how):
        self.session = DtcSession(LOGON, MarketDataDecoder({1: 0}), 15 * S, **how)
        self.now = 100 * S
        self.session.start(self.now)

    def sent(self):
        raw = self.session.outgoing()
        codec = BINARY if self.session.state is SessionState.NEGOTIATING else self.session.codec
        return list(codec.messages(codec.reader().feed(raw)))

    def hear(self, *messages):
        return self.session.receive(b"".join(map(self.session.codec.encode, messages)), self.now, 0)

    def wait(self, seconds):
        self.now += int(seconds * S)
        return self.session.tick(self.now)


@pytest.fixture
def talk():
    return Talk()


@pytest.fixture
def ready(talk):
    talk.hear(EncodingResponse(), LogonResponse())
    assert talk.session.state is SessionState.READY
    talk.sent()
    return talk


def test_encoding_then_logon_then_ready(talk):
    raw = talk.session.outgoing()
    assert raw.hex() == "10000600080000000000000044544300"
    assert talk.hear(EncodingResponse()) == []
    assert talk.sent() == [LOGON]
    response = LogonResponse(ServerName="SC")
    assert talk.hear(response) == [LoggedOn(response)]
    assert talk.session.state is SessionState.READY


def test_text_for_people_may_come_first_and_other_messages_may_not(talk):
    notices = [GeneralLogMessage(MessageText="a"), UserMessage(UserMessage="b")]
    assert talk.hear(*notices, PositionUpdate(), EncodingResponse()) == notices
    assert talk.hear(*notices, PositionUpdate()) == notices
    assert talk.session.dropped_messages == 2


@pytest.mark.parametrize(
    ("response", "reconnect", "says"),
    [
        (
            LogonResponse(Result=2, ResultText="bad password"),
            True,
            "refused the logon: bad password; it is tried again",
        ),
        (LogonResponse(Result=3, ResultText="go away"), False, "refused the logon for good: go away; it is not called"),
        (LogonResponse(Result=0), True, "answered the logon with result 0, which DTC does not know"),
        (LogonResponse(Result=77), True, "answered the logon with result 77, which DTC does not know"),
    ],
)
def test_every_result_but_success_ends_the_session(talk, response, reconnect, says):
    [ended] = talk.hear(EncodingResponse(), response, Heartbeat())
    assert isinstance(ended.error, LogonRefused)
    assert ended.error.reconnect_allowed is reconnect
    assert says in str(ended.error)
    assert talk.session.state is SessionState.FAILED


@pytest.mark.parametrize(
    "answer",
    [
        LogonResponse(Result=2, ResultText="no user joe with password hunter2"),
        LogonResponse(Result=3, ResultText="no user joe with password hunter2"),
        LogonResponse(Result=4, ResultText="no user joe with password hunter2"),
        Logoff(Reason="no user joe with password hunter2"),
    ],
)
def test_what_a_server_says_of_a_logon_repeats_no_secrets(answer):
    logon = LogonRequest(Username="joe", Password="hunter2", HeartbeatIntervalInSeconds=10)
    session = DtcSession(logon, MarketDataDecoder({}), 15 * S)
    session.start(0)
    [ended] = session.receive(encode(EncodingResponse()) + encode(answer), 0, 0)
    assert "no user *** with password ***" in str(ended.error)


def test_a_server_may_send_us_elsewhere(talk):
    [ended] = talk.hear(EncodingResponse(), LogonResponse(Result=4, ReconnectAddress="x:1", ResultText="full"))
    assert isinstance(ended.error, SentElsewhere)
    assert (ended.error.address, str(ended.error)) == ("x:1", "the server asks to be called at 'x:1' instead: full")


def test_an_encoding_that_is_not_spoken_ends_the_session(talk):
    [ended] = talk.hear(EncodingResponse(Encoding=4))
    assert isinstance(ended.error, ProtocolError)
    assert "encoding 4" in str(ended.error)


@pytest.mark.parametrize("asked", CODECS.values(), ids=BY_NAME)
@pytest.mark.parametrize("offered", CODECS.values(), ids=BY_NAME)
@pytest.mark.parametrize("cut", [0, 16, 17, 30])
def test_what_the_server_names_is_spoken_from_the_next_message_on(asked, offered, cut):
    talk = Talk(codec=asked)
    assert talk.sent() == [EncodingRequest(Encoding=asked.encoding)]
    answer = encode(EncodingResponse(Encoding=offered.encoding))
    notice, response, update = GeneralLogMessage(MessageText="x"), LogonResponse(ServerName="SC"), PositionUpdate()
    stream = answer + b"".join(map(offered.encode, [notice, response, update]))
    events = [*talk.session.receive(stream[:cut], talk.now, 0), *talk.session.receive(stream[cut:], talk.now, 0)]
    assert events == [notice, LoggedOn(response), update]
    assert talk.session.codec is offered
    assert talk.sent() == [LOGON]
    talk.wait(10)
    assert talk.sent() == [Heartbeat()]


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
def test_a_preset_encoding_is_not_asked_for(codec):
    talk = Talk(codec=codec, preset=True)
    assert talk.sent() == [LOGON]
    assert talk.hear(LogonResponse()) == [LoggedOn(LogonResponse())]
    talk.session.stop()
    assert talk.sent() == [Logoff(Reason="the client stops")]


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
def test_market_data_becomes_rows_in_every_encoding(codec):
    talk = Talk(codec=codec, preset=True)
    talk.hear(LogonResponse())
    trades = [MarketDataUpdateTrade(SymbolID=1, Price=5.0 + i, Volume=2.0, AtBidOrAsk=2) for i in range(100)]
    before, update, after = talk.hear(*trades, PositionUpdate(), *trades[:3])
    assert update == PositionUpdate()
    assert before["price"].tolist() == [5.0 + i for i in range(100)]
    assert (after["price"].tolist(), set(after["side"].tolist())) == ([5.0, 6.0, 7.0], {1})


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
@pytest.mark.parametrize("before", [1, 100])
def test_a_frame_that_holds_no_message_is_skipped_in_its_place(codec, before):
    talk = Talk(codec=codec, preset=True)
    talk.hear(LogonResponse())
    trades = b"".join(codec.encode(MarketDataUpdateTrade(SymbolID=1, Price=5.0)) for _ in range(before))
    lies = {"binary_vls": struct.pack("<3H2H", 14, 701, 200, 10, 4) + bytes(4), "binary": b""}
    lie = lies.get(codec.name, b'{"Type":301,"Price1":6000,25}\0')
    stream = trades + codec.encode(PositionUpdate()) + lie + codec.encode(PositionUpdate(Symbol="B"))
    rows, update, *skipped, after = talk.session.receive(stream, talk.now, 0)
    assert (len(rows), update, after) == (before, PositionUpdate(), PositionUpdate(Symbol="B"))
    assert [type(each) for each in skipped] == [Skipped] * bool(lie)
    assert talk.session.state is SessionState.READY


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
@pytest.mark.parametrize("before", [1, 100])
def test_lost_framing_ends_the_session_after_what_came_before(codec, before):
    talk = Talk(codec=codec, preset=True)
    talk.hear(LogonResponse())
    trades = b"".join(codec.encode(MarketDataUpdateTrade(SymbolID=1, Price=5.0)) for _ in range(before))
    lost = b"\3\0\3\0" if codec.structures else b"{" * (MAX_JSON_BYTES + 1)
    rows, update, ended = talk.session.receive(trades + codec.encode(PositionUpdate()) + lost, talk.now, 0)
    assert (len(rows), update) == (before, PositionUpdate())
    assert isinstance(ended.error, ProtocolError)
    assert talk.session.state is SessionState.FAILED


def test_a_frame_is_skipped_before_the_logon_too():
    talk = Talk(codec=JSON, preset=True)
    [skipped, logged_on] = talk.session.receive(b'{"Type":301,\0' + JSON.encode(LogonResponse()), talk.now, 0)
    assert (skipped.type, skipped.is_market_data) == (301, False)
    assert logged_on == LoggedOn(LogonResponse())


@pytest.mark.parametrize("codec", CODECS.values(), ids=BY_NAME)
def test_what_a_server_supports_is_read_in_every_encoding(codec):
    flags = ("TradingIsSupported", "OCOOrdersSupported", "BracketOrdersSupported", "OrderCancelReplaceSupported")
    for told in itertools.product((0, 1), repeat=4):
        talk = Talk(codec=codec, preset=True)
        response = LogonResponse(**dict(zip(flags, told, strict=True)))
        assert talk.hear(response) == [LoggedOn(response)]


@pytest.mark.parametrize("said", ["", ',"%s":null', ',"%s":nan', ',"%s":""', ',"%s":256'])
def test_what_a_json_server_does_not_tell_of_its_support_is_as_in_the_header(said):
    flags = ("TradingIsSupported", "OCOOrdersSupported", "BracketOrdersSupported", "OrderCancelReplaceSupported")
    talk = Talk(codec=JSON, preset=True)
    stream = '{"Type":2,"Result":1' + "".join(said % flag if said else "" for flag in flags) + "}\0"
    [logged_on] = talk.session.receive(stream.encode(), talk.now, 0)
    assert [getattr(logged_on.response, flag) for flag in flags] == [0, 0, 0, 1]
    for spelled, read in (("false", 0), ("true", 1), ('"1"', 1), ("1.0", 1)):
        [logged_on] = JSON.messages(JSON.reader().feed(b'{"Type":2,"OCOOrdersSupported":%s}\0' % spelled.encode()))
        assert logged_on.OCOOrdersSupported == read


def test_a_server_preset_to_json_is_told_apart(talk):
    [ended] = talk.session.receive(b'{"Type":2}\0', talk.now, 0)
    assert "dtc.encoding" in str(ended.error)


def test_heartbeats_go_out_on_our_own_timer(ready):
    for second in range(1, 41):
        ready.wait(1)
        ready.hear(Heartbeat())
        sent = ready.sent()
        assert sent == ([Heartbeat()] if second % 10 == 0 else []), second


def test_heartbeats_received_are_swallowed_unless_messages_were_dropped(ready):
    loss = Heartbeat(NumDroppedMessages=3)
    assert ready.hear(Heartbeat(), loss) == [loss]


def test_silence_of_twice_the_interval_ends_the_session(ready):
    assert ready.wait(19.9) == []
    [ended] = ready.wait(0.1)
    assert isinstance(ended.error, ConnectionLost)
    assert "silent for 20 s" in str(ended.error)
    assert ready.wait(100) == []


@pytest.mark.parametrize(
    ("unacknowledged", "says"), [(0, "Sierra Chart hangs"), (24, "(24 bytes): its machine or the")]
)
def test_a_mute_server_and_a_dead_line_are_told_apart(ready, unacknowledged, says):
    ready.now += 20 * S
    [ended] = ready.session.tick(ready.now, unacknowledged)
    assert says in str(ended.error)


def test_any_whole_message_breaks_the_silence_but_not_a_part_of_one(ready):
    ready.wait(15)
    ready.hear(PositionUpdate())
    assert ready.wait(15) == []
    ready.session.receive(encode(PositionUpdate())[:50], ready.now, 0)
    assert len(ready.wait(5)) == 1


@pytest.mark.parametrize(("heard", "missing"), [([], "binary encoding"), ([EncodingResponse()], "logon")])
def test_a_mute_server_is_given_up(talk, heard, missing):
    talk.hear(*heard)
    assert talk.wait(14) == []
    [ended] = talk.wait(1)
    assert isinstance(ended.error, ConnectionLost)
    assert f"has not answered the {'request for ' if not heard else ''}{missing} for 15 s" in str(ended.error)


def test_the_time_to_answer_counts_from_each_question(talk):
    talk.wait(14)
    talk.hear(EncodingResponse())
    assert talk.wait(14) == []
    assert len(talk.wait(1)) == 1


@pytest.mark.parametrize("for_good", [0, 1])
def test_logged_off_by_the_server(ready, for_good):
    update = PositionUpdate(Symbol="A")
    delivered, ended = ready.hear(update, Logoff(Reason="maintenance", DoNotReconnect=for_good), update)
    assert delivered == update
    assert isinstance(ended.error, LogonRefused if for_good else ConnectionLost)
    assert "maintenance" in str(ended.error)
    if for_good:
        assert not ended.error.reconnect_allowed


def test_logging_off(ready):
    ready.session.stop()
    [logoff] = ready.sent()
    assert isinstance(logoff, Logoff)
    assert ready.hear(PositionUpdate()) == []
    assert ready.session.ended() == []


def test_stopping_before_the_logon_says_nothing(talk):
    talk.sent()
    talk.session.stop()
    assert talk.sent() == []
    assert talk.session.state is SessionState.LOGGED_OFF


@pytest.mark.parametrize("stage", ["talk", "ready"])
def test_a_connection_that_ends_under_us(stage, request):
    talk = request.getfixturevalue(stage)
    [ended] = talk.session.ended()
    assert isinstance(ended.error, ConnectionLost)
    assert ("before the logon was answered" in str(ended.error)) == (stage == "talk")


def test_a_broken_stream_ends_the_session_after_what_came_before(ready):
    raw = encode(PositionUpdate()) + b"\x01\x00\x00\x00"
    delivered, ended = ready.session.receive(raw, ready.now, 0)
    assert delivered == PositionUpdate()
    assert isinstance(ended.error, ProtocolError)
    assert ready.session.receive(raw, ready.now, 0) == []


def test_market_data_arrives_as_rows(ready):
    raw = bytes.fromhex("2800930001000000" + "0000000000407740" + "000000000000f03f" + "00" * 16)
    [rows] = ready.session.receive(raw, ready.now, 77)
    assert (rows["price"][0], rows["recv_ns"][0], rows["ts_ns"][0]) == (372.0, 77, 77)


# ------------------------------------------------------------------------------------------------- the table itself


def test_every_event_is_defined_in_every_state():
    for state, event in itertools.product(SessionState, Event):
        rule = TABLE[state][event]
        assert isinstance(rule.state, SessionState)
        assert callable(getattr(DtcSession, f"_{rule.action}"))
    assert set(TABLE) == set(SessionState)
    assert all(set(rules) == set(Event) for rules in TABLE.values())


def test_nothing_leads_out_of_the_final_states():
    for final in (SessionState.LOGGED_OFF, SessionState.FAILED):
        assert {rule.state for rule in TABLE[final].values()} == {final}
        assert {rule.action for rule in TABLE[final].values()} == {"nothing"}


def test_only_an_accepted_logon_makes_ready():
    ways = [
        (s, e)
        for s in SessionState
        for e in Event
        if TABLE[s][e].state is SessionState.READY and s is not SessionState.READY
    ]
    assert ways == [(SessionState.LOGON_SENT, Event.LOGON_ACCEPTED)]


def test_a_session_fails_by_saying_so():
    for state, event in itertools.product(SessionState, Event):
        rule = TABLE[state][event]
        if rule.state is SessionState.FAILED and state is not SessionState.FAILED:
            assert rule.action == "end"


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from(
                [
                    encode(m)
                    for m in (EncodingResponse(), LogonResponse(), Heartbeat(), Logoff(), CurrentPositionsRequest())
                ]
                + [encode(LogonResponse(Result=2)), encode(EncodingRequest())]
            ),
            st.integers(0, 30),
        ),
        max_size=30,
    )
)
def test_nothing_a_peer_sends_raises(script):
    talk = Talk()
    events = []
    for item in script:
        events += talk.wait(item) if isinstance(item, int) else talk.session.receive(item, talk.now, 0)
        talk.session.outgoing()
    ended = [i for i, event in enumerate(events) if isinstance(event, Ended)]
    assert ended in ([], [len(events) - 1])
