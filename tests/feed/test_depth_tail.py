"""Depth files in a row: the book as it stands first, then each change once, from one file to the next."""

import math
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.sierra_files import damaged
from mia_daemon.feed.tailing.depth_tail import DepthTail, book_of

CLEAR, BID, ASK, MOD_BID, MOD_ASK, DEL_BID, DEL_ASK = range(1, 8)
DAY = date(2026, 11, 23)


def us(day, second=0):
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return sf.to_us(int(start.timestamp()) * NS_PER_S) + second * 1_000_000


def changes(*rows, day=DAY):
    """(second, command, price, quantity)."""
    records = np.zeros(len(rows), sf.DEPTH_RECORD)
    for record, (second, command, price, quantity) in zip(records, rows, strict=True):
        record["time"] = us(day, second)
        record["command"], record["price"], record["quantity"] = command, price, quantity
    return records


def told(records):
    return [(int(record["command"]), float(record["price"]), int(record["quantity"])) for record in records]


@pytest.fixture
def file(tmp_path):
    def write(day, records):
        path = tmp_path / f"ES.{day}.depth"
        path.write_bytes(sf.DEPTH.header() + records.tobytes())
        return path

    return write


def second(n):
    return n * NS_PER_S


def grow(path, records):
    with path.open("ab") as opened:
        opened.write(records.tobytes())


# ------------------------------------------------------------------------------------------------------ the book


def replayed(records):
    """Levels by side and price, change by change: what book_of has to agree with."""
    levels = {}
    for record in records:
        command = int(record["command"])
        side, price = command % 2, float(record["price"])
        if command == CLEAR:
            levels = {}
        elif command >= DEL_BID:
            levels.pop((side, price), None)
        else:
            levels[side, price] = int(record["quantity"])
    return levels


@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(0, 5), st.integers(1, 99)), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_the_book_is_what_change_by_change_gives(rows, cuts):
    records = changes(*((n, command, price * 0.25, size) for n, (command, price, size) in enumerate(rows)))
    pieces = np.split(records, sorted(min(cut, len(records)) for cut in cuts))
    book = book_of(pieces)
    assert replayed(book) == replayed(records)
    if len(records):
        assert book["command"][0] == CLEAR
        assert set(book["time"]) == {records["time"][-1]}
        assert np.flatnonzero(book["flags"]).tolist() == [len(book) - 1]
        assert set(book["command"][1:]) <= {BID, ASK}
    else:
        assert len(book) == 0


# ------------------------------------------------------------------------------------------------------ files


def test_begins_with_the_book_of_that_time(tmp_path, file):
    file(DAY, changes((0, CLEAR, 0, 0), (0, BID, 100, 5), (0, ASK, 101, 7), (5, MOD_BID, 100, 6), (9, DEL_ASK, 101, 0)))
    tail = DepthTail(tmp_path, "ES", us(DAY, 6))
    records, change = tail.poll(9, 0)
    assert change == ""
    assert told(records) == [(CLEAR, 0, 0), (BID, 100, 6), (ASK, 101, 7), (DEL_ASK, 101, 0)]
    assert ((records["time"] - us(DAY)) // 1_000_000).tolist() == [5, 5, 5, 9]
    tail.close()


def test_goes_on_with_the_next_file_over_a_weekend(tmp_path, file):
    friday, sunday = date(2026, 11, 20), date(2026, 11, 22)
    first = file(friday, changes((0, CLEAR, 0, 0), day=friday))
    tail = DepthTail(tmp_path, "ES", us(friday))
    assert told(tail.poll(9, second(0))[0]) == [(CLEAR, 0, 0)]
    second_file = file(sunday, changes(day=sunday))
    assert told(tail.poll(9, second(1))[0]) == []
    assert tail.path == first  # the next one holds nothing yet
    grow(second_file, changes((1, CLEAR, 0, 0), (1, BID, 99, 1), day=sunday))
    grow(first, changes((9, BID, 98, 2), day=friday))
    assert told(tail.poll(9, second(2))[0]) == [(BID, 98, 2)]  # what is left of the old one first
    assert told(tail.poll(9, second(2.5))[0]) == []  # looked for once a second
    assert told(tail.poll(9, second(3))[0]) == [(CLEAR, 0, 0), (BID, 99, 1)]
    assert tail.path == second_file
    tail.close()


def test_several_days_are_read_in_order_and_others_left_alone(tmp_path, file):
    for n in (20, 21, 24):
        day = date(2026, 11, n)
        file(day, changes((0, CLEAR, 0, 0), (0, BID, n, 1), day=day))
    (tmp_path / "ES.notaday.depth").write_bytes(b"")
    (tmp_path / "NQ.2026-11-22.depth").write_bytes(b"")
    tail = DepthTail(tmp_path, "ES", us(date(2026, 11, 21)))
    got = [row for n in range(9) for row in told(tail.poll(1, second(n))[0])]
    assert got == [(CLEAR, 0, 0), (BID, 21, 1), (CLEAR, 0, 0), (BID, 24, 1)]
    tail.close()


def test_a_file_of_another_time_is_better_than_none(tmp_path, file):
    """A simulator's files carry its own dates."""
    path = file(date(2026, 11, 3), changes((0, CLEAR, 0, 0), day=date(2026, 11, 3)))
    tail = DepthTail(tmp_path, "ES", us(DAY))
    assert told(tail.poll(9, 0)[0]) == [(CLEAR, 0, 0)]  # the book as it stands
    grow(path, changes((5, BID, 100, 1), day=date(2026, 11, 3)))
    assert told(tail.poll(9, 0)[0]) == [(BID, 100, 1)]
    tail.close()


def test_a_file_is_awaited(tmp_path, file):
    tail = DepthTail(tmp_path / "later", "ES", None)
    assert len(tail.poll(9, second(0))[0]) == 0
    assert tail.trouble == "holds no ES.<day>.depth"
    tail = DepthTail(tmp_path, "ES", us(DAY))
    assert len(tail.poll(9, second(0))[0]) == 0
    file(DAY, changes((0, CLEAR, 0, 0)))
    assert len(tail.poll(9, second(0.5))[0]) == 0
    assert len(tail.poll(9, second(1))[0]) == 1
    assert tail.trouble == ""
    tail.close()


def test_a_changed_file_begins_anew_with_its_book(tmp_path, file):
    path = file(DAY, changes((0, CLEAR, 0, 0), (0, BID, 100, 5), (1, BID, 99, 5)))
    tail = DepthTail(tmp_path, "ES", us(DAY))
    tail.poll(9, 0)
    file(DAY, changes((0, CLEAR, 0, 0), (0, BID, 100, 3)))
    records, change = tail.poll(9, 0)
    assert (told(records), change) == ([(CLEAR, 0, 0), (BID, 100, 3)], "became shorter")
    grow(path, changes((1, MOD_BID, 100, 4)))
    assert (told(tail.poll(9, 0)[0])) == [(MOD_BID, 100, 4)]
    path.unlink()
    assert tail.poll(9, 0)[1] == "was removed"
    file(DAY, changes((0, CLEAR, 0, 0), (0, ASK, 101, 3)))
    assert told(tail.poll(9, 0)[0]) == [(CLEAR, 0, 0), (ASK, 101, 3)]
    tail.close()


def test_what_is_damaged_is_no_part_of_the_book_and_else_left_to_the_reader(tmp_path, file):
    path = file(
        DAY, changes((0, CLEAR, 0, 0), (1, BID, 100, 1), (2, 9, 100, 1), (3, ASK, math.nan, 1), (7, BID, 99, 2))
    )
    tail = DepthTail(tmp_path, "ES", us(DAY, 5))
    assert told(tail.poll(9, 0)[0]) == [(CLEAR, 0, 0), (BID, 100, 1), (BID, 99, 2)]
    grow(path, changes((8, 9, 100, 1), (9, BID, 98, 1)))
    records, _ = tail.poll(9, 0)
    assert damaged(records).tolist() == [True, False]
    tail.close()
