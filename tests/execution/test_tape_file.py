"""The file of a tape: what was added comes back, whatever a kill has torn."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError
from mia_daemon.execution.inputs import InputKind, TapeEntry
from mia_daemon.execution.tape_file import TapeFile, decoded, encoded, read_beginning, read_tape
from mia_daemon.records import (
    BalanceReport,
    BrokerSnapshot,
    BrokerTrouble,
    Fill,
    LinkReport,
    LinkState,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
)
from mia_daemon.risk.snapshot import Delays

texts = st.text(max_size=8)
times = st.integers(0, 2**63 - 1)
prices = st.floats(allow_nan=False)
fills = st.builds(Fill, times, texts, texts, texts, texts, texts, st.sampled_from(Side), st.integers(1, 9), prices)
reports = st.builds(
    OrderReport,
    times,
    texts,
    texts,
    texts,
    texts,
    st.sampled_from(OrderStatus),
    st.none() | st.sampled_from(Side),
    average_fill_price=prices,
    type=st.none() | st.sampled_from(OrderType),
    fill=st.none() | fills,
)
positions = st.builds(PositionReport, times, texts, texts, st.none() | st.integers(-9, 9), prices)
events = (
    reports
    | fills
    | positions
    | st.builds(BalanceReport, times, texts, prices)
    | st.builds(LinkReport, times, st.sampled_from(LinkState), texts)
    | st.builds(BrokerTrouble, texts, texts)
)
snapshots = st.builds(
    BrokerSnapshot,
    times,
    st.lists(reports, max_size=2).map(tuple),
    st.none() | st.lists(fills, max_size=2).map(tuple),
    st.none() | st.lists(positions, max_size=2).map(tuple),
    st.none(),
)
orders = st.builds(
    Order,
    texts,
    texts,
    texts,
    st.sampled_from(Side),
    st.integers(1, 9),
    st.sampled_from(OrderType),
    st.sampled_from(OrderRole),
    texts,
    prices,
)
payloads = st.one_of(
    st.tuples(st.just(InputKind.WINDOW), st.integers(0, 2**32 - 1)),
    st.tuples(st.just(InputKind.SIGNAL), st.builds(Delays, prices, prices)),
    st.tuples(st.just(InputKind.BROKER), st.tuples(st.integers(0), st.booleans(), events)),
    st.tuples(st.sampled_from([InputKind.TIMER, InputKind.CHECKPOINT]), st.none()),
    st.tuples(st.just(InputKind.SNAPSHOT), snapshots),
    st.tuples(st.just(InputKind.SENT), st.tuples(st.just("submit"), st.tuples(orders))),
    st.tuples(st.just(InputKind.SENT), st.tuples(st.just("replace"), st.tuples(texts, texts, prices, st.integers(1)))),
    st.tuples(st.just(InputKind.JOURNAL_ANSWER), st.tuples(st.integers(1), st.lists(fills, max_size=2).map(tuple))),
    st.tuples(st.just(InputKind.OPERATOR), st.tuples(st.just("halt"), st.fixed_dictionaries({"by": texts}))),
)
entries = st.builds(lambda drawn, own, wall: TapeEntry(drawn[0], own, wall, drawn[1]), payloads, times, times)


@given(st.lists(entries, max_size=5))
def test_entries_come_back_as_they_were_added(added):
    assert list(decoded(b"".join(map(encoded, added)), ("", ""))) == added


@given(st.lists(entries, max_size=3), st.data())
def test_a_torn_tail_is_left_out(added, data):
    whole = b"".join(map(encoded, added))
    torn = whole[: data.draw(st.integers(0, len(whole)))]
    kept = list(decoded(torn, ("", "")))
    assert kept == added[: len(kept)]
    ends = [0]
    for entry in added:
        ends.append(ends[-1] + len(encoded(entry)))
    assert len(kept) == sum(end <= len(torn) for end in ends) - 1


def test_the_names_of_the_session_are_replaced_and_others_stay():
    sent = ("cancel", ("RUN1-2E", "RUN1 is no name"))
    (entry,) = decoded(encoded(TapeEntry(InputKind.SENT, 1, 0, sent)), ("RUN1", "RUN2"))
    assert entry.payload == ("cancel", ("RUN2-2E", "RUN1 is no name"))


def test_a_file_states_how_the_session_began_and_has_what_was_flushed(tmp_path):
    tape = TapeFile(tmp_path, {"run_id": "RUN1"})
    timer = TapeEntry(InputKind.TIMER, 5, 6, None)
    tape.add(timer)
    tape.flush()
    tape.add(timer)
    tape.close()
    assert read_beginning(tmp_path) == {"run_id": "RUN1"}
    assert list(read_tape(tmp_path)) == [timer]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no inputs"),
        (b"MIAINPUT\x02\x00\x00\x00{", "damaged header"),
        (b"MIAINPUT\x02\x00\x00\x00{}" + b"\xff" + bytes(23), "is damaged \\(at byte 0\\)"),
        (
            b"MIAINPUT\x02\x00\x00\x00{}\x03\x00\x00\x00\x01\x00\x00\x00" + bytes(16) + b"{",
            "is damaged \\(at byte 0\\)",
        ),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, content, said):
    (tmp_path / "inputs.bin").write_bytes(content)
    with pytest.raises(FileFormatError, match=f"{said}.*--refill"):
        list(read_tape(tmp_path))


def test_the_payload_is_json_that_a_person_can_read():
    trouble = BrokerTrouble("message_unread", "one could not be read")
    data = encoded(TapeEntry(InputKind.BROKER, 1, 0, (0, True, trouble)))[24:]
    assert json.loads(data) == [
        0,
        True,
        {"BrokerTrouble": {"code": trouble.code, "text": trouble.text, "in_doubt": False}},
    ]
