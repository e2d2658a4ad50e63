"""A round of housekeeping on real files, and what it says of the disk."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.feed.recorder import Recorder
from mia_daemon.feed.recording import read_recording
from mia_daemon.lock_file import hold
from mia_daemon.records import empty_events
from mia_daemon.retention.__main__ import do_round
from mia_daemon.retention.rounds import Round, disk_text, measure_disk, pack_segments

DAY_NS = 86_400 * 10**9
SETTINGS = RetentionSettings()


@pytest.fixture
def paths(tmp_path):
    return VarPaths(tmp_path / "var")


def record(paths, name, count=500):
    recorder = Recorder(paths.recordings / name, "ESZ26", 0, print)
    recorder.append(empty_events(count))
    recorder.close()
    return recorder.path


def test_a_round_packs_closed_segments_and_removes_what_is_beyond_the_limits(paths):
    for name in ("first", "second", "third"):
        raw = record(paths, name)
    os.utime(paths.recordings / "first" / raw.name, ns=(DAY_NS, DAY_NS))
    report = do_round(paths, SETTINGS)
    assert report["packed"] == 3
    assert report["saved_bytes"] > 3 * 500 * 60
    assert (report["removed"], report["problems"]) == (1, 0)
    assert report["removed_first"] == [f"{paths.recordings / 'first'}: older than 90 days"]
    assert sorted(path.name for path in paths.recordings.iterdir()) == ["second", "third"]
    assert len(read_recording(paths.recordings / "third")) == 500
    assert report["disk"]["free_bytes"] > 0


def test_a_segment_that_cannot_be_packed_is_a_problem_of_its_own(paths):
    damaged = record(paths, "first")
    record(paths, "second")
    damaged.write_bytes(b"x" * 10_000)
    done = Round()
    assert [path.parent.name for path in pack_segments(paths, done)] == ["first", "second"]
    assert list(done.packed) == [paths.recordings / "second" / damaged.name]
    assert len(done.problems) == 1
    assert str(damaged) in done.problems[0]
    assert damaged.exists()


def test_nothing_is_touched_while_another_prunes(paths):
    raw = record(paths, "first")
    lock = hold(paths.prune_lock)
    assert do_round(paths, SETTINGS)["packed"] == 0
    assert raw.exists()
    os.close(lock)
    assert do_round(paths, SETTINGS)["packed"] == 1


def test_a_report_stays_a_short_line_however_much_there_was_to_do(paths):
    for number in range(300):
        snapshot = paths.root / "risk_snapshots" / f"risk_{number:0100d}.json"
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        snapshot.touch()
        os.utime(snapshot, ns=(DAY_NS, DAY_NS))
    report = do_round(paths, SETTINGS)
    assert report["removed"] == 300
    assert len(json.dumps(report)) < 16_384


def test_growth_is_measured_over_rounds_and_restarts(paths, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 500_000_000 + 10 * 4096}))
    journal = paths.root / "journal" / "paper.db"
    journal.parent.mkdir(parents=True)
    (paths.root / "run").mkdir()
    journal.write_bytes(b"x" * 4096)
    assert measure_disk(paths, SETTINGS, DAY_NS).days_left is None
    journal.write_bytes(b"x" * 2 * 4096)
    disk = measure_disk(paths, SETTINGS, 2 * DAY_NS)
    assert disk.var_bytes >= 2 * 4096
    assert 4 < disk.days_left <= 10  # a page a day, and what is remembered of it
    paths.disk_usage.write_bytes(b"no JSON")
    assert measure_disk(paths, SETTINGS, 3 * DAY_NS).days_left is None
    assert measure_disk(paths, SETTINGS, 20 * DAY_NS).days_left is None  # the past is a week


@pytest.mark.parametrize(
    ("days_left", "lasts", "says"),
    [
        (None, False, "disk: 1.5 GB written, 40.0 GB free, how long that lasts is known after six hours"),
        (None, True, "disk: 1.5 GB written, 40.0 GB free, lasts, as it grows"),
        (20.4, False, "disk: 1.5 GB written, 40.0 GB free, full in about 20 days"),
    ],
)
def test_the_disk_in_a_line(days_left, lasts, says):
    facts = {"var_bytes": 1_500_000_000, "free_bytes": 40_000_000_000, "days_left": days_left, "lasts": lasts}
    assert disk_text(facts) == says


def test_the_priority_of_a_real_time_parent_is_given_up():
    script = """
        import os, psutil
        from contextlib import suppress
        from mia_daemon.retention.__main__ import lower_priority
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        with suppress(PermissionError):
            os.nice(-5)
        lower_priority()
        print(os.sched_getscheduler(0) == os.SCHED_BATCH, os.getpriority(os.PRIO_PROCESS, 0))
        print(int(psutil.Process().ionice().ioclass))
    """
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert out.stdout == "True 19\n3\n"


def test_the_child_ends_with_the_daemon(paths):
    command = [sys.executable, "-m", "mia_daemon.retention", str(paths.root), SETTINGS.model_dump_json()]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
