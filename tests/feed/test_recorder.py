"""The flight recorder: what was written is read back, whatever happened to the process or the disk."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.feed.recorder import Recorder
from mia_daemon.feed.recording import HEADER_SIZE, RAW_MAGIC, Recording, is_recording, read_recording, segment_paths
from mia_daemon.records import MARKET_EVENT, EventKind, Priority, empty_events
from mia_daemon.retention.pack import pack

ROW = MARKET_EVENT.itemsize


def some_events(n, seed=3):
    random = np.random.default_rng(seed)
    events = empty_events(n)
    events["ts_ns"] = np.arange(n)
    events["kind"] = random.integers(1, 7, n)
    events["price"] = random.random(n)
    return events


def record(directory, *batches, symbol="ESZ26_FUT_CME"):
    recorder = Recorder(directory, symbol, 17, print)
    for batch in batches:
        recorder.append(batch)
    recorder.close()
    return recorder


def test_what_was_written_is_read(tmp_path):
    events = some_events(100)
    recorder = record(tmp_path, events[:1], events[1:60], events[60:])
    assert recorder.events == 100
    assert read_recording(tmp_path).tobytes() == events.tobytes()
    assert is_recording(tmp_path)
    assert is_recording(recorder.path)


def test_strided_batches_are_written_as_rows(tmp_path):
    events = some_events(10)
    record(tmp_path, events[::2])
    assert read_recording(tmp_path).tobytes() == events[::2].tobytes()


def test_header_names_columns_and_symbol(tmp_path):
    path = record(tmp_path).path
    header = path.read_bytes()
    assert len(header) == HEADER_SIZE
    facts = json.loads(header[len(RAW_MAGIC) :])
    assert facts["symbol"] == "ESZ26_FUT_CME"
    assert facts["started_ns"] == 17
    assert [tuple(column) for column in facts["columns"]] == MARKET_EVENT.descr


@pytest.mark.parametrize("torn", [1, ROW - 1, ROW, ROW + 1, 3 * ROW])
def test_torn_tail_is_left_out_then_cut_by_the_next_writer(tmp_path, torn):
    events = some_events(5)
    path = record(tmp_path, events).path
    os.truncate(path, HEADER_SIZE + 5 * ROW - torn)
    whole = (5 * ROW - torn) // ROW
    assert read_recording(tmp_path).tobytes() == events[:whole].tobytes()
    record(tmp_path, events[:2])
    assert read_recording(tmp_path).tobytes() == events[:whole].tobytes() + events[:2].tobytes()


def test_a_killed_writer_leaves_all_it_wrote_but_the_end_of_its_last_batch(tmp_path):
    code = textwrap.dedent(
        """
        import sys, pathlib
        from mia_daemon.feed.recorder import Recorder
        from mia_daemon.records import empty_events
        recorder = Recorder(pathlib.Path(sys.argv[1]), "ESZ26", 0, print)
        events = empty_events(50)
        for n in range(1_000_000_000):
            events["ts_ns"] = n
            recorder.append(events)
            if n == 20: print("going", flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"going\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    events = read_recording(tmp_path)
    assert len(events) >= 50 * 20
    assert np.array_equal(events["ts_ns"], np.arange(len(events)) // 50)


def test_a_full_disk_stops_the_recording_not_the_trading(tmp_path, monkeypatch):
    alerts = []
    recorder = Recorder(tmp_path, "ESZ26", 0, alerts.append)
    events = some_events(4)
    recorder.append(events)
    real_write = os.write
    left = [100]  # bytes the disk still has

    def write(fd, data):
        if not left[0]:
            raise OSError(28, "No space left on device")
        done = real_write(fd, data[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    recorder.append(events)
    recorder.append(events)
    monkeypatch.undo()
    assert [(a.code, a.priority) for a in alerts] == [("recording_stopped", Priority.ERROR)]
    assert "No space left" in alerts[0].text
    assert read_recording(tmp_path).tobytes() == events.tobytes() + events[:1].tobytes()


def test_foreign_files_are_left_as_they_are(tmp_path):
    path = tmp_path / "events.bin"
    for content in (b"short", b"x" * 10_000):
        path.write_bytes(content)
        assert not is_recording(path)
        with pytest.raises(FileFormatError, match="is not a recording"):
            Recorder(tmp_path, "ESZ26", 0, print)
        with pytest.raises(FileFormatError, match="is not a recording"):
            read_recording(tmp_path)
        assert path.read_bytes() == content


def test_interrupted_header_is_begun_anew(tmp_path):
    path = tmp_path / "events.bin"
    for size in (0, 3, len(RAW_MAGIC), 100):
        path.write_bytes((RAW_MAGIC + b'{"columns"' + b" " * 200)[:size])
        events = some_events(2)
        record(tmp_path, events)
        assert read_recording(tmp_path).tobytes() == events.tobytes()


def test_damaged_header_other_columns_and_other_symbol_are_refused(tmp_path):
    path = record(tmp_path, some_events(1)).path
    with pytest.raises(FileFormatError, match="a recording of ESZ26_FUT_CME, not of NQ"):
        Recorder(tmp_path, "NQ", 0, print)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"ask_size"', b'"ask_volu"'))
    with pytest.raises(FileFormatError, match="other columns"):
        read_recording(tmp_path)
    path.write_bytes(good.replace(b'"symbol"', b'"syrbol"'))
    with pytest.raises(FileFormatError, match="damaged header"):
        read_recording(tmp_path)
    path.write_bytes(good.replace(b'{"columns', b'["columns'))
    with pytest.raises(FileFormatError, match="damaged header"):
        read_recording(tmp_path)


def test_recording_without_events_and_missing_ones_are_refused(tmp_path):
    record(tmp_path)
    with pytest.raises(FileFormatError, match="holds no events"):
        read_recording(tmp_path)
    with pytest.raises(FileFormatError, match="can't be read"):
        read_recording(tmp_path / "none")
    assert not is_recording(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="can't be written"):
        Recorder(tmp_path / "file", "ESZ26", 0, print)


def test_kinds_survive(tmp_path):
    events = empty_events(len(EventKind))
    events["kind"] = list(EventKind)
    record(tmp_path, events)
    assert read_recording(tmp_path)["kind"].tolist() == list(EventKind)


def at_hours(*hours):
    events = some_events(len(hours))
    events["recv_ns"] = np.array(hours) * 3600 * 10**9 + 5
    return events


def test_a_new_segment_begins_with_the_first_batch_of_a_later_hour(tmp_path):
    recorder = Recorder(tmp_path, "ESZ26", 0, print)
    batches = at_hours(7, 7), at_hours(7, 8), at_hours(8), at_hours(6), at_hours(8), at_hours(11)
    for batch in batches:
        recorder.append(batch)
    recorder.close()
    paths = segment_paths(tmp_path)
    assert [path.name for path in paths] == ["events-000001.bin", "events-000002.bin", "events-000003.bin"]
    assert [Recording(path).first for path in paths] == [0, 4, 7]
    assert read_recording(tmp_path).tobytes() == b"".join(batch.tobytes() for batch in batches)


def test_a_full_segment_is_followed_by_the_next_within_the_hour(tmp_path, monkeypatch):
    monkeypatch.setattr("mia_daemon.feed.recorder.MOST_EVENTS", 5)
    events = some_events(12)
    record(tmp_path, events[:3], events[3:6], events[6:7], events[7:])
    assert [len(Recording(path)) for path in segment_paths(tmp_path)] == [6, 6]
    assert read_recording(tmp_path).tobytes() == events.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_events_are_numbered_on_by_a_process_that_continues_the_recording(tmp_path, packed):
    recorder = record(tmp_path, at_hours(7, 7, 7), at_hours(8, 8))
    assert recorder.events == 5
    if packed:
        for path in segment_paths(tmp_path):
            pack(path)
    again = Recorder(tmp_path, "ESZ26_FUT_CME", 0, print)
    assert again.events == 5
    again.append(at_hours(8))
    assert again.events == 6
    again.close()
    assert len(read_recording(tmp_path)) == 6
    with pytest.raises(FileFormatError, match="a recording of ESZ26_FUT_CME, not of NQ"):
        Recorder(tmp_path, "NQ", 0, print)


def test_a_disk_that_refuses_the_next_segment_stops_the_recording_not_the_trading(tmp_path):
    alerts = []
    recorder = Recorder(tmp_path, "ESZ26", 0, alerts.append)
    recorder.append(at_hours(7))
    (tmp_path / "events-000002.bin").mkdir()
    recorder.append(at_hours(8))
    recorder.append(at_hours(8))
    assert [alert.code for alert in alerts] == ["recording_stopped"]
    assert recorder.events == 1


def test_two_recorders_of_one_directory_are_refused(tmp_path):
    first = Recorder(tmp_path, "ESZ26", 0, print)
    with pytest.raises(StartError, match="can't be written"):
        Recorder(tmp_path, "ESZ26", 0, print)
    first.close()
