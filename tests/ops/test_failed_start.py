"""What a start that fails leaves on file."""

import json

from mia_daemon.config import VarPaths
from mia_daemon.errors import BundleError
from mia_daemon.ops.failed_start import report_failed_start


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_failed_start_is_in_the_log_and_among_the_alerts(tmp_path):
    report_failed_start(VarPaths(tmp_path), BundleError("bundle /m is not there: set model.bundle"))
    report_failed_start(VarPaths(tmp_path), KeyError("bug"))
    failed = [line["text"] for line in lines(VarPaths(tmp_path).log) if line["event"] == "start_failed"]
    assert failed == ["bundle /m is not there: set model.bundle", "KeyError: 'bug'"]
    alerts = lines(tmp_path / "logs" / "alerts.jsonl")
    assert [alert["code"] for alert in alerts] == ["start_failed"] * 2
    assert alerts[0]["text"] == "the start failed: bundle /m is not there: set model.bundle"


def test_no_directory_is_made_for_it(tmp_path):
    report_failed_start(VarPaths(tmp_path / "var"), BundleError("no bundle"))
    assert not (tmp_path / "var").exists()


def test_a_file_in_the_place_of_the_directory_is_set_aside(tmp_path):
    (tmp_path / "logs").write_text("a file where a directory is needed")
    report_failed_start(VarPaths(tmp_path), BundleError("no bundle"))
    assert [alert["code"] for alert in lines(tmp_path / "logs" / "alerts.jsonl")] == ["start_failed"]
    assert len(list(tmp_path.glob("logs.*"))) == 1
