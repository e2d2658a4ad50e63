"""The tail: whole records only, each exactly once, and every change of the file noticed."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError
from mia_daemon.feed.sierra_files import SCID, SCID_RECORD
from mia_daemon.feed.tailing.tail import Tail

BEGIN = 0


def rows(*times):
    records = np.zeros(len(times), SCID_RECORD)
    records["time"] = times
    records["close"] = times
    return records


def times(polled):
    return polled[0]["time"].tolist()


def put(path, *when):
    path.write_bytes(SCID.header() + rows(*when).tobytes())


def grow(path, data):
    with path.open("ab") as file:
        file.write(data)


@given(st.lists(st.integers(0, 200), max_size=12), st.integers(1, 4))
@settings(max_examples=60)
def test_any_growth_gives_the_same_records(tmp_path_factory, cuts, limit):
    """However the bytes arrive, header and records cut anywhere, the records read are those written, each once."""
    path = tmp_path_factory.mktemp("tail") / "x.scid"
    whole = SCID.header() + rows(*range(1, 9)).tobytes()
    tail = Tail(path, SCID, BEGIN)
    got = []
    places = sorted({min(cut * 2, len(whole)) for cut in cuts} | {0, len(whole)})
    for begin, end in zip([0, *places], [*places, len(whole)], strict=True):
        grow(path, whole[begin:end])
        while times(polled := tail.poll(limit)):
            assert polled[1] == ""
            assert len(polled[0]) <= limit
            got += times(polled)
    assert got == list(range(1, 9))
    tail.close()


def test_begins_at_a_time_or_at_the_end(tmp_path):
    path = tmp_path / "x.scid"
    put(path, 10, 20, 20, 30)
    for since, first in [(0, [10, 20, 20, 30]), (20, [20, 20, 30]), (21, [30]), (31, []), (None, [])]:
        tail = Tail(path, SCID, since)
        assert times(tail.poll(9)) == first
        tail.close()
    tail = Tail(path, SCID, None)
    assert times(tail.poll(9)) == []
    grow(path, rows(40).tobytes())
    assert times(tail.poll(9)) == [40]
    tail.close()


def test_missing_file_is_awaited(tmp_path):
    path = tmp_path / "x.scid"
    tail = Tail(path, SCID, BEGIN)
    assert times(tail.poll(9)) == []
    assert tail.trouble
    path.write_bytes(SCID.header()[:20])
    assert times(tail.poll(9)) == []
    assert tail.trouble
    put(path, 5)
    assert tail.poll(9)[1] == ""
    assert not tail.trouble
    tail.close()


def change_replace(path):
    fresh = path.with_suffix(".new")
    put(fresh, 10, 20, 25, 30)
    fresh.replace(path)
    return "was replaced"


def change_cut(path):
    put(path, 25)
    return "became shorter"


def change_rewrite_in_place(path):
    with path.open("r+b") as file:
        file.write(SCID.header() + rows(10, 15, 25, 30).tobytes())
    return "was rewritten"


def change_remove(path):
    path.unlink()
    return "was removed"


@pytest.mark.parametrize("change", [change_replace, change_cut, change_rewrite_in_place, change_remove])
def test_changed_file_is_noticed_and_read_on_behind_the_newest(tmp_path, change):
    path = tmp_path / "x.scid"
    put(path, 10, 20)
    tail = Tail(path, SCID, BEGIN)
    assert times(tail.poll(9)) == [10, 20]
    how = change(path)
    told, got = [], []
    for _ in range(3):
        polled = tail.poll(9)
        told.append(polled[1])
        got += times(polled)
    if not path.exists():
        put(path, 10, 20, 25, 30)
    elif path.stat().st_size < 56 + 4 * 40:
        grow(path, rows(30).tobytes())
    for _ in range(3):
        polled = tail.poll(9)
        told.append(polled[1])
        got += times(polled)
    assert got == [25, 30]
    assert [text for text in told if text] == [how]
    tail.close()


def test_a_file_that_is_downloaded_anew_repeats_nothing(tmp_path):
    """Cut far back, filled again from there: what was read before is left out, however it comes in pieces."""
    path = tmp_path / "x.scid"
    put(path, 10, 20, 30, 40)
    tail = Tail(path, SCID, BEGIN)
    assert times(tail.poll(9)) == [10, 20, 30, 40]
    put(path, 10)
    assert tail.poll(9)[1] == "became shorter"
    grow(path, rows(20, 30).tobytes())
    assert times(tail.poll(1)) == []
    grow(path, rows(40, 40).tobytes())
    got = [time for _ in range(4) for time in times(tail.poll(1))]
    assert got == [40]  # a second one at that time is new
    grow(path, rows(50, 45).tobytes())
    assert times(tail.poll(9)) == [50, 45]  # from here on all is new, late or not
    tail.close()


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=6),
    st.integers(1, 5),
)
@settings(max_examples=80)
def test_rewriting_the_end_any_number_of_times_loses_and_repeats_nothing(tmp_path_factory, steps, cuts, limit):
    """Any prefix of the file may be left, the rest comes again later; equal times are told apart by their number."""
    path = tmp_path_factory.mktemp("tail") / "x.scid"
    whole = rows(*np.cumsum([1, *steps]).tolist())
    whole["num_trades"] = np.arange(len(whole))
    tail, got = Tail(path, SCID, BEGIN), []
    size = 0

    def poll(times):
        for _ in range(times):
            got.extend(tail.poll(limit)[0]["num_trades"].tolist())

    for cut, reading in cuts:
        size = min(size, cut)
        path.write_bytes(SCID.header() + whole[:size].tobytes())
        poll(reading)
        size = len(whole)
        grow(path, whole[cut:].tobytes() if cut < size else b"")
        path.write_bytes(SCID.header() + whole.tobytes())
        poll(reading)
    path.write_bytes(SCID.header() + whole.tobytes())
    poll(80)
    assert got == list(range(len(whole)))
    tail.close()


def test_zeros_are_space_not_written_yet(tmp_path):
    path = tmp_path / "x.scid"
    path.write_bytes(SCID.header() + rows(10, 20).tobytes() + b"\0" * 120)
    for since, first in [(BEGIN, [10, 20]), (15, [20]), (30, []), (None, [])]:
        tail = Tail(path, SCID, since)
        assert times(tail.poll(9)) == first
        assert times(tail.poll(9)) == []
        with path.open("r+b") as file:
            file.seek(56 + 80)
            file.write(rows(30, 40).tobytes())
        assert tail.poll(9)[1] == ""
        assert tail.newest_us == 40
        path.write_bytes(SCID.header() + rows(10, 20).tobytes() + b"\0" * 120)
        tail.close()


def test_a_rewritten_end_is_noticed_without_growth(tmp_path):
    path = tmp_path / "x.scid"
    put(path, 10, 20)
    tail = Tail(path, SCID, BEGIN)
    tail.poll(9)
    put(path, 10, 15)
    os.utime(path, ns=(1, 1))
    assert tail.poll(9)[1] == "was rewritten"
    tail.close()


def test_a_share_that_fails_is_awaited(tmp_path, monkeypatch):
    path = tmp_path / "x.scid"
    put(path, 10)
    tail = Tail(path, SCID, BEGIN)
    tail.poll(9)
    stat = os.stat

    def stale(*_):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "stat", stale)
    assert tail.poll(9)[1] == "could not be read (Stale file handle)"
    assert tail.poll(9)[1] == ""
    assert tail.trouble == "can't be read (Stale file handle)"
    monkeypatch.setattr(os, "stat", stat)
    grow(path, rows(20).tobytes())
    assert times(tail.poll(9)) == [20]
    assert tail.trouble == ""
    tail.close()


def test_what_lies_before_is_given_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("mia_daemon.feed.tailing.tail.PIECE_RECORDS", 2)
    path = tmp_path / "x.scid"
    put(path, 10, 20, 30, 40, 50)
    tail = Tail(path, SCID, 40)
    assert list(tail.before()) == []
    assert tail.open()
    assert [piece["time"].tolist() for piece in tail.before()] == [[10, 20], [30]]
    assert times(tail.poll(1)) == [40]
    assert tail.more
    assert times(tail.poll(1)) == [50]
    assert not tail.more
    tail.close()


def test_unchanged_file_costs_no_read(tmp_path, monkeypatch):
    path = tmp_path / "x.scid"
    put(path, 10)
    tail = Tail(path, SCID, BEGIN)
    tail.poll(9)
    monkeypatch.setattr(os, "pread", None)  # would fail if it were called
    assert times(tail.poll(9)) == []
    monkeypatch.undo()
    tail.close()


def test_foreign_file_is_refused_at_once(tmp_path):
    path = tmp_path / "x.scid"
    path.write_bytes(b"PK")
    with pytest.raises(FileFormatError, match=r"not a \.scid"):
        Tail(path, SCID, BEGIN).poll(9)
    path.write_bytes(SCID.header()[:8] + b"\x30" + SCID.header()[9:])
    with pytest.raises(FileFormatError, match="records of 48"):
        Tail(path, SCID, BEGIN).poll(9)


def test_no_descriptor_is_left_behind(tmp_path):
    path = tmp_path / "x.scid"
    before = len(list(Path("/proc/self/fd").iterdir()))
    tail = Tail(path, SCID, BEGIN)
    for n in range(1, 6):
        put(path.with_suffix(".new"), *range(n))
        path.with_suffix(".new").replace(path)
        tail.poll(9)
    path.write_bytes(b"PK")
    with pytest.raises(FileFormatError):
        tail.poll(9)
    tail.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
