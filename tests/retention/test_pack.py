"""A raw segment goes only once the packed one was read back equal."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.execution.inputs import InputKind, TapeEntry
from mia_daemon.execution.tape_file import TapeFile, read_beginning, read_tape
from mia_daemon.feed import event_codec
from mia_daemon.feed.recorder import Recorder
from mia_daemon.feed.recording import read_recording
from mia_daemon.records import empty_events
from mia_daemon.retention.pack import closed_segments, pack

HOUR_NS = 3600 * 10**9


def some_events(count=300, hours=1):
    events = empty_events(count)
    events["ts_ns"] = events["recv_ns"] = np.arange(count) * (hours * HOUR_NS // count)
    events["price"] = 4800 + np.random.default_rng(1).integers(0, 9, count) * 0.25
    return events


def record(directory, events):
    recorder = Recorder(directory, "ESZ26_FUT_CME", 17, print)
    for start in range(0, len(events), 100):
        recorder.append(events[start : start + 100])
    return recorder


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_packing_keeps_events_header_age_and_mode_and_saves_space(tmp_path):
    events = some_events(20_000)
    record(tmp_path, events).close()
    raw = tmp_path / "events-000001.bin"
    os.utime(raw, ns=(5 * 10**18, 10**18))
    size = raw.stat().st_size
    saved = pack(raw)
    packed = tmp_path / "events-000001.packed"
    assert names(tmp_path) == [packed.name]
    assert read_recording(tmp_path).tobytes() == events.tobytes()
    status = packed.stat()
    assert saved == size - status.st_size > 10 * status.st_size
    assert status.st_mtime_ns == 10**18
    assert status.st_mode & 0o777 == 0o640


def test_the_segment_that_is_written_is_left_alone_also_by_another_process(tmp_path):
    recorder = record(tmp_path / "now", some_events(300, hours=3))
    record(tmp_path / "before", some_events()).close()
    script = f"""
        from pathlib import Path
        from mia_daemon.retention.pack import closed_segments
        for path in closed_segments(Path({str(tmp_path)!r})): print(path.parent.name, path.name)
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    ).stdout
    closed = ["before events-000001.bin", "now events-000001.bin", "now events-000002.bin"]
    assert found.splitlines() == closed
    recorder.close()
    assert len(closed_segments(tmp_path)) == len(closed) + 1


def test_what_was_killed_is_packed_without_its_torn_tail(tmp_path):
    events = some_events()
    record(tmp_path / "killed", events).close()
    raw = tmp_path / "killed" / "events-000001.bin"
    os.truncate(raw, raw.stat().st_size - 10)
    assert closed_segments(tmp_path) == [raw]
    pack(raw)
    assert read_recording(tmp_path / "killed").tobytes() == events[:-1].tobytes()


def test_a_copy_that_differs_leaves_the_raw_segment_and_nothing_else(tmp_path, monkeypatch):
    events = some_events()
    record(tmp_path, events).close()
    encode = event_codec.encode

    def wrong(block):
        block = block.copy()
        block["price"][7] += 0.25
        return encode(block)

    monkeypatch.setattr(event_codec, "encode", wrong)
    with pytest.raises(FileFormatError, match=r"events-000001\.bin is not packed: what was read back differs"):
        pack(tmp_path / "events-000001.bin")
    assert names(tmp_path) == ["events-000001.bin"]
    assert read_recording(tmp_path).tobytes() == events.tobytes()


def test_a_full_disk_leaves_the_raw_segment_and_nothing_else(tmp_path, monkeypatch):
    record(tmp_path, some_events()).close()

    def full(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StartError, match=r"events-000001\.packed can't be written: No space left"):
        pack(tmp_path / "events-000001.bin")
    assert names(tmp_path) == ["events-000001.bin"]


@pytest.mark.parametrize("moment", ["fsync", "replace", "unlink"])
def test_a_kill_at_any_moment_loses_nothing_and_the_next_packing_ends_it(tmp_path, moment):
    events = some_events()
    record(tmp_path, events).close()
    place = {"fsync": "os.fsync", "replace": "pathlib.Path.replace", "unlink": "pathlib.Path.unlink"}[moment]
    script = f"""
        import os, pathlib, signal, sys
        from mia_daemon.retention.pack import pack
        {place} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        pack(pathlib.Path(sys.argv[1]))
    """
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "events-000001.bin")], check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert read_recording(tmp_path).tobytes() == events.tobytes()
    pack(tmp_path / "events-000001.bin")
    assert names(tmp_path) == ["events-000001.packed"]
    assert read_recording(tmp_path).tobytes() == events.tobytes()


def test_the_inputs_of_a_session_are_packed_once_nobody_writes_them(tmp_path):
    recording = tmp_path / "run"
    recording.mkdir()
    timers = [TapeEntry(InputKind.WINDOW, number, 10 * number, number) for number in range(1000)]
    tape = TapeFile(recording, {"run_id": "run"})
    for entry in timers:
        tape.add(entry)
    tape.flush()
    assert closed_segments(tmp_path) == []
    tape.close()
    (raw,) = closed_segments(tmp_path)
    assert pack(raw) > 0.7 * 24 * len(timers)
    assert names(recording) == ["inputs.packed"]
    assert read_beginning(recording) == {"run_id": "run"}
    assert list(read_tape(recording)) == timers
