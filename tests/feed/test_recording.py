"""Recordings of several segments, raw and packed: the same events, in pieces; missing and damaged ones are found."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError
from mia_daemon.feed.recorder import Recorder
from mia_daemon.feed.recording import Recording, Segment, is_recording, read_recording, recording_symbol
from mia_daemon.records import empty_events
from mia_daemon.retention.pack import pack

HOUR_NS = 3600 * 10**9
HOURS = 3
PER_HOUR = 50


def hourly_events():
    events = empty_events(HOURS * PER_HOUR)
    events["ts_ns"] = np.arange(len(events)) * (HOUR_NS // PER_HOUR)
    events["recv_ns"] = events["ts_ns"] + 17
    events["price"] = 4800 + np.arange(len(events)) % 7 * 0.25
    return events


def record(directory, events, batch=10):
    recorder = Recorder(directory, "ESZ26_FUT_CME", 17, print)
    for start in range(0, len(events), batch):
        recorder.append(events[start : start + batch])
    recorder.close()
    return recorder


@pytest.fixture
def recorded(tmp_path):
    """A recording of three hours, and its events."""
    events = hourly_events()
    record(tmp_path / "session", events)
    return tmp_path / "session", events


@pytest.mark.parametrize("packed", [(), (1,), (1, 2), (1, 2, 3), (2,)])
def test_segments_raw_and_packed_are_one_recording(recorded, packed):
    directory, events = recorded
    for number in packed:
        pack(directory / f"events-{number:06d}.bin")
    found = Recording(directory)
    assert len(found) == len(events)
    assert found.rows(45, 111).tobytes() == events[45:111].tobytes()
    assert [len(piece) for piece in found.pieces()] == [PER_HOUR] * HOURS
    assert read_recording(directory).tobytes() == events.tobytes()
    assert is_recording(directory)
    assert recording_symbol(directory) == "ESZ26_FUT_CME"


def test_a_segment_by_itself_has_its_own_events(recorded):
    directory, events = recorded
    second = directory / "events-000002.bin"
    assert Recording(second).first == PER_HOUR
    assert read_recording(second).tobytes() == events[PER_HOUR : 2 * PER_HOUR].tobytes()
    pack(second)
    assert read_recording(second).tobytes() == events[PER_HOUR : 2 * PER_HOUR].tobytes()  # by its name when it was raw


def test_a_missing_segment_is_named(recorded):
    directory, _ = recorded
    (directory / "events-000002.bin").unlink()
    with pytest.raises(FileFormatError, match=r"lacks its events from number 50 on, before events-000003\.bin"):
        Recording(directory)
    (directory / "events-000001.bin").unlink()
    with pytest.raises(FileFormatError, match=r"lacks its events from number 0 on"):
        Recording(directory)


def test_a_recording_that_is_packed_and_removed_while_it_is_read_is_read_to_its_end(recorded):
    directory, events = recorded
    pack(directory / "events-000001.bin")
    found = Recording(directory)
    pack(directory / "events-000002.bin")
    for path in directory.iterdir():
        path.unlink()
    assert np.concatenate(list(found.pieces())).tobytes() == events.tobytes()


def test_a_recording_of_an_earlier_version_is_read_packed_and_continued(tmp_path):
    events = hourly_events()
    record(tmp_path, events[:PER_HOUR])
    (tmp_path / "events-000001.bin").rename(tmp_path / "events.bin")
    assert read_recording(tmp_path).tobytes() == events[:PER_HOUR].tobytes()
    assert record(tmp_path, events[PER_HOUR:]).events == len(events)
    pack(tmp_path / "events.bin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events-000001.bin", "events.packed"]
    assert read_recording(tmp_path).tobytes() == events.tobytes()


def test_a_segment_that_a_kill_left_without_its_header_is_passed_over(recorded):
    directory, events = recorded
    (directory / "events-000004.bin").touch()
    assert read_recording(directory).tobytes() == events.tobytes()


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed segment, its bytes and its events."""
    directory = tmp_path_factory.mktemp("packed")
    events = hourly_events()
    record(directory, events[:PER_HOUR])
    pack(directory / "events-000001.bin")
    path = directory / "events-000001.packed"
    return path, path.read_bytes(), events[:PER_HOUR]


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_or_cut_packed_segment_is_refused_by_name(packed, at, bit, cut):
    path, content, events = packed
    data = bytearray(content)
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path.write_bytes(data)
    if not cut and _reads_as(path, events):
        return  # zstd has a bit that means nothing
    with pytest.raises(FileFormatError, match=f"^{path} [^\n]+$"):
        read_recording(path)


def _reads_as(path, events):
    with contextlib.suppress(FileFormatError):
        return read_recording(path).tobytes() == events.tobytes()
    return False


def test_more_bytes_after_the_end_of_a_packed_segment_are_refused(packed):
    path, content, _ = packed
    path.write_bytes(content + b"\0")
    with pytest.raises(FileFormatError, match="goes on after its end"):
        Segment(path)
