"""What may be removed below var/: rotated logs and old recordings, never what is written or meant to be kept."""

import os

import pytest

from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.feed.recorder import Recorder
from mia_daemon.records import empty_events
from mia_daemon.retention.store import bytes_by_area, limits, remove, stored

DAY_NS = 86_400 * 10**9


@pytest.fixture
def paths(tmp_path):
    return VarPaths(tmp_path)


def write(path, age_days=0, size=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, ns=((1000 - age_days) * DAY_NS,) * 2)
    return path


def recording(paths, name, age_days):
    recorder = Recorder(paths.recordings / name, "ESZ26", 0, print)
    recorder.append(empty_events(10))
    os.utime(recorder.path, ns=((1000 - age_days) * DAY_NS,) * 2)
    return recorder


def found(paths, area):
    return {str(each.path.relative_to(paths.root / area)): each for each in stored(paths, area)}


def test_only_rotated_logs_are_stored(paths):
    active = ["live_trading.log", "alerts.jsonl", "risk_performance.csv", "trading/decision_log.csv", "loop_stalls.txt"]
    rotated = [
        "live_trading.log.1",
        "live_trading.log.2.gz",
        "live_trading.log-20261201",
        "live_trading-20261201.log",
        "trading/decision_log.csv-20261201.gz",
        "trading/decision_log-20261201-2.csv.gz",
    ]
    for name in active + rotated:
        write(paths.root / "logs" / name)
    assert set(found(paths, "logs")) == set(rotated)


def test_recordings_are_in_use_while_written_when_newest_and_when_marked(paths):
    for name, age in (("old", 9), ("kept", 8), ("killed", 7), ("newest", 1)):
        recording(paths, name, age).close()
    write(paths.recordings / "kept" / "keep", 8)
    writing = recording(paths, "writing", 6)
    (paths.recordings / "link").symlink_to(paths.recordings / "old")
    in_use = {name: each.in_use for name, each in found(paths, "recordings").items()}
    assert in_use == {"old": False, "kept": True, "killed": False, "writing": True, "newest": True}
    writing.close()
    assert not found(paths, "recordings")["writing"].in_use
    assert found(paths, "recordings")["old"].modified_ns == (1000 - 9) * DAY_NS


def test_links_are_neither_followed_nor_counted(paths, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "report.html", size=100_000)
    (paths.root / "reports").mkdir()
    (paths.root / "reports" / "linked").symlink_to(elsewhere)
    (paths.root / "reports" / "link.html").symlink_to(elsewhere / "report.html")
    write(paths.root / "reports" / "2026" / "own.html")
    assert set(found(paths, "reports")) == {"2026/own.html"}
    assert bytes_by_area(paths.root)["reports"] < 100_000


def test_what_is_not_there_is_empty(paths):
    assert all(stored(paths, area) == [] for area in limits(RetentionSettings()))
    assert bytes_by_area(paths.root / "none") == {}


def test_usage_is_by_directory_with_the_files_beside_them_apart(paths):
    write(paths.root / "market_memory.db", size=5000)
    write(paths.root / "logs" / "trading" / "decision_log.csv", size=9000)
    write(paths.root / "logs" / "live_trading.log", size=9000)
    used = bytes_by_area(paths.root)
    assert set(used) == {"", "logs"}
    assert 5000 <= used[""] < used["logs"] >= 18_000


def test_files_and_recordings_are_removed_whole_and_twice_is_no_error(paths):
    recording(paths, "old", 9).close()
    recording(paths, "new", 1).close()
    write(paths.root / "risk_snapshots" / "risk_1.json")
    for each in (found(paths, "recordings")["old"], found(paths, "risk_snapshots")["risk_1.json"]):
        remove(each)
        assert not each.path.exists()
        remove(each)
    assert (paths.recordings / "new").is_dir()


def test_a_limit_is_of_the_settings_and_waived_is_none():
    settings = RetentionSettings.model_validate({"recordings_days": "waived", "recordings_gb": 5.5})
    limit = limits(settings)["recordings"]
    assert (limit.days, limit.gigabytes) == (None, 5.5)
