"""Whatever text a server writes: no secret of ours is in it, no control character, and it is not too long."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc.encodings import BINARY, JSON
from mia_daemon.dtc.historical import HistoricalClient
from mia_daemon.dtc.layout import MESSAGES, Text
from mia_daemon.dtc.market_data import MarketDataDecoder, Skipped
from mia_daemon.dtc.messages import (
    EncodingResponse,
    HistoricalPriceDataReject,
    HistoricalPriceDataRequest,
    LogonRequest,
    LogonResponse,
    OrderUpdate,
    UserMessage,
)
from mia_daemon.dtc.server_text import MAX_NAME, MAX_NOTE, ServerText
from mia_daemon.dtc.session import DtcSession
from mia_daemon.errors import RequestRefused

USER, PASSWORD = "trader-joe", "hunter2 & Söhne"
LOGON = LogonRequest(Username=USER, Password=PASSWORD, HeartbeatIntervalInSeconds=10)
TEXT = ServerText(LOGON)
characters = st.characters(exclude_categories=["C", "Z"], exclude_characters="*")
printable = st.text(characters, max_size=31)
secrets = st.text(characters, min_size=1, max_size=31)


def notes(cls):
    return [field.name for field in cls.VLS_LAYOUT.fields if isinstance(field.wire, Text) and field.wire.cut]


def names(cls):
    return [field.name for field in cls.VLS_LAYOUT.fields if isinstance(field.wire, Text) and not field.wire.cut]


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_no_text_of_any_message_keeps_what_the_server_echoes(cls):
    echo = f"for {USER} with {PASSWORD}\x1b[31m\n"
    message = TEXT.clean(cls(**dict.fromkeys(notes(cls), echo), **dict.fromkeys(names(cls), PASSWORD)))
    assert {getattr(message, name) for name in notes(cls)} <= {"for *** with ***\\x1b[31m "}
    assert {getattr(message, name) for name in names(cls)} <= {"***"}


@given(secrets, secrets, printable, printable)
def test_a_text_for_people_has_neither_secret(user, password, before, after):
    text = ServerText(LogonRequest(Username=user, Password=password))
    cleaned = text.note(f"{before}{user}{after}{password}")
    assert user not in cleaned
    assert password not in cleaned


@given(st.text())
def test_a_text_for_people_is_printable(said):
    assert TEXT.note(said).isprintable()


@pytest.mark.parametrize(
    "echo",
    [
        "HUNTER2 & SÖHNE",
        repr('hunter2 & "S'),
        json.dumps("hunter2 & Söhne"),
        "x hunter2 & Sö",  # cut off by the length of the field
        "x hunt",
    ],
)
def test_a_secret_is_found_in_another_case_quoted_or_cut(echo):
    text = ServerText(LogonRequest(Username='hunter2 & "S', Password=PASSWORD))
    assert "hunt" not in text.note(f"refused: {echo}").lower()


def test_of_two_secrets_the_longer_is_replaced_as_a_whole():
    text = ServerText(LogonRequest(Username="joe-at-home", Password="joe"))
    assert text.note("no joe-at-home, joe") == "no ***, ***"


def test_a_text_without_secrets_is_the_same_message():
    message = OrderUpdate(Symbol="ESZ26_FUT_CME", TradeAccount="trader-joe", InfoText="accepted")
    assert TEXT.clean(message) is message


@pytest.mark.parametrize("password", ["12345678", "Sim1", "E"])
def test_a_password_that_names_contain_by_chance_leaves_them_alone(password):
    """A changed order number would cancel nothing."""
    message = OrderUpdate(ServerOrderID="12345678", TradeAccount="Sim1", ClientOrderID="AAAA-1E", InfoText=password)
    cleaned = ServerText(LogonRequest(Password=password)).clean(message)
    assert cleaned == replace(message, InfoText="***")


def test_texts_and_names_have_a_bounded_length():
    cleaned = TEXT.clean(OrderUpdate(InfoText="x" * 100_000, ExchangeOrderID="y" * 100_000))
    assert (len(cleaned.InfoText), len(cleaned.ExchangeOrderID)) == (MAX_NOTE + 1, MAX_NAME + 1)


def test_what_a_session_hands_out_is_clean():
    session = DtcSession(LOGON, MarketDataDecoder({}), 10**10)
    session.start(0)
    said = [EncodingResponse(), LogonResponse(), UserMessage(UserMessage=f"{USER}\n{PASSWORD}")]
    events = session.receive(b"".join(map(BINARY.encode, said)), 0, 0)
    assert events[-1] == UserMessage(UserMessage="*** ***")


@pytest.mark.parametrize(
    "frame",
    [
        b'{"Type":301,"Price1":6000,25,"InfoText":"hunter2 & S\xc3\xb6hne"}',
        b'{"Type":301,"Price1":"hunter2 & S\xf6hne"}',
        b'{"Type":301,"InfoText":"TRADER-JOE',
    ],
)
def test_nothing_is_shown_of_a_frame_that_holds_a_secret_and_cannot_be_read(frame):
    session = DtcSession(LOGON, MarketDataDecoder({}), 10**10, codec=JSON, preset=True)
    session.start(0)
    *_, skipped = session.receive(JSON.encode(LogonResponse()) + frame + b"\0", 0, 0)
    assert isinstance(skipped, Skipped)
    assert skipped.text == f"{skipped.kind}; it holds the credentials and is not shown"
    assert skipped.frame == b""


def test_a_refusal_of_historical_prices_is_clean():
    client = HistoricalClient(HistoricalPriceDataRequest(RequestID=1), LOGON, 10**10)
    client.start(0)
    client.receive(BINARY.encode(EncodingResponse()) + BINARY.encode(LogonResponse()), 0)
    with pytest.raises(RequestRefused, match=r"no \*\*\* here \\x07"):
        client.receive(BINARY.encode(HistoricalPriceDataReject(RejectText=f"no {USER} here \a")), 0)


@pytest.mark.parametrize("depth", [500, 900, 100_000])
@pytest.mark.parametrize("where", [b'{"Type":301,"Price1":%b}', b'{"Type":301,"InfoText":%b}', b'{"Type":%b}', b"%b"])
def test_nesting_without_an_end_is_one_frame_that_cannot_be_read(where, depth):
    session = DtcSession(LOGON, MarketDataDecoder({}), 10**10, codec=JSON, preset=True)
    session.start(0)
    frame = where % (b"[" * depth + b"]" * depth)
    *_, skipped, last = session.receive(JSON.encode(LogonResponse()) + frame + b"\0" + JSON.encode(OrderUpdate()), 0, 0)
    assert isinstance(skipped, Skipped)
    assert len(skipped.text) < 300
    assert last == OrderUpdate()
