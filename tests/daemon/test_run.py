"""What a run is put together from."""

import hashlib
import json
import shutil
from pathlib import Path

from mia_daemon import config
from mia_daemon.clock import EventClock, WallClock
from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.features.constants import FittedConstants
from mia_daemon.model import bundle
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Alert, Priority


def test_the_features_run_with_the_constants_of_the_bundle(tmp_path):
    constants = FittedConstants(large_trade=7)
    path = Path(shutil.copytree(bundle.shipped(), tmp_path / "bundle"))
    (path / bundle.CONSTANTS).write_text(constants.model_dump_json())
    manifest = json.loads((path / bundle.MANIFEST).read_text())
    manifest["files"][bundle.CONSTANTS] = hashlib.sha256((path / bundle.CONSTANTS).read_bytes()).hexdigest()
    (path / bundle.MANIFEST).write_text(json.dumps(manifest))
    limits = dict.fromkeys(config.RiskSettings.model_fields, 1)
    chosen = config.parse({"risk": limits, "model": {"bundle": str(path)}}, "test", environ={})
    with DaemonRun(chosen, instrument("ESZ26_FUT_CME"), Mode.REPLAY, VarPaths(tmp_path / "var"), EventClock()) as run:
        assert run.pipeline.state().owner.constants_sha256 == constants.sha256


def test_files_that_people_changed_forbid_no_start_and_are_reported_in_one_alert(tmp_path):
    """Every file that people read: each CSV saved by a spreadsheet, each log replaced by a directory."""
    limits = dict.fromkeys(config.RiskSettings.model_fields, 1)
    chosen = config.parse({"risk": limits}, "test", environ={})
    traded, var = instrument("ESZ26_FUT_CME"), tmp_path / "var"

    def run():
        return DaemonRun(chosen, traded, Mode.PAPER, VarPaths(var), WallClock())

    with run():
        pass
    csv_files, logs = sorted(var.rglob("*.csv")), [*var.rglob("*.log"), *var.rglob("*.jsonl")]
    assert (len(csv_files), len(logs)) == (10, 3)
    for path in csv_files:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    for path in logs:
        path.unlink()
        path.mkdir()
    shutil.rmtree(var / "trade_snapshots")
    (var / "trade_snapshots").write_text("in the way")
    with run() as again:
        assert [record["code"] for record in again.alerts.unacknowledged] == ["unacknowledged_set_aside"]
    alerts = [json.loads(line) for line in (var / "logs" / "alerts.jsonl").read_text().splitlines()]
    assert [alert["code"] for alert in alerts] == ["file_set_aside", "unacknowledged_set_aside"]
    for path in [*csv_files, *logs, var / "trade_snapshots"]:
        assert str(path) in alerts[0]["text"] + alerts[1]["text"], path
        assert len(list(path.parent.glob(f"{path.name}.*"))) == 1, path
    assert all(path.is_file() for path in (*csv_files, *logs))
    assert all(alert["ts"][:4] >= "2026" for alert in alerts)
    with run():
        assert len(list(var.rglob("*.2*Z"))) == len(csv_files) + len(logs) + 1  # nothing is set aside twice


def test_an_alert_before_the_first_event_of_a_replay_has_the_wall_clocks_time(tmp_path):
    limits = dict.fromkeys(config.RiskSettings.model_fields, 1)
    chosen = config.parse({"risk": limits}, "test", environ={})
    clock, traded = EventClock(), instrument("ESZ26_FUT_CME")
    with DaemonRun(chosen, traded, Mode.REPLAY, VarPaths(tmp_path), clock) as run:
        before_ns = WallClock.now_ns()
        run.alert(Alert(clock.now_ns(), "early", Priority.WARNING, "before any event"))
        clock.advance(1_600_000_000 * 10**9)
        run.alert(Alert(clock.now_ns(), "late", Priority.WARNING, "with the event's time"))
        rows = run.journal._db.execute("SELECT code, ts_ns FROM alerts ORDER BY number").fetchall()
    assert [code for code, _ in rows] == ["early", "late"]
    assert rows[0][1] >= before_ns
    assert rows[1][1] == 1_600_000_000 * 10**9
    for name in ("live_trading.log", "alerts.jsonl"):
        lines = [json.loads(line) for line in (tmp_path / "logs" / name).read_text().splitlines()]
        assert not [line for line in lines if line["ts"].startswith("1970")], name
