"""Figures: rows with the documented columns, one snapshot, a datagram for whoever listens."""

import csv
import json
import os
import socket

import pytest

from mia_daemon.clock import EventClock
from mia_daemon.journal.table_rows import STAMPS
from mia_daemon.ops.metrics import COLUMNS, LIVE_TRADING, OPERATIONS, Metrics
from mia_daemon.stage import StageCounters

T0 = 1_700_000_000_000_000_000
MS = 1_000_000


@pytest.fixture
def metrics(tmp_path):
    metrics = Metrics(tmp_path, EventClock(T0))
    yield metrics
    metrics.close()


def rows(tmp_path, name):
    with (tmp_path / "logs" / f"{name}_performance.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_files_are_there_with_their_columns_at_once(tmp_path, metrics):
    for name in OPERATIONS:
        path = tmp_path / "logs" / f"{name}_performance.csv"
        assert path.read_text() == "timestamp,operation,latency,success,memory_usage_mb,cpu_percent\n"
    assert len(COLUMNS) == 6


def test_operations_become_rows_once(tmp_path, metrics):
    timer = metrics.operation("trade_executor")
    assert metrics.operation("trade_executor") is timer
    timer.add(2 * MS)
    timer.add(4 * MS)
    metrics.operation("risk").add(1 * MS, False)
    metrics.sample([], {})
    metrics.sample([], {})  # nothing new: no row
    (row,) = rows(tmp_path, "trade_executor")
    assert row["timestamp"] == "2023-11-14T22:13:20.000000Z"
    assert (row["operation"], float(row["latency"]), row["success"]) == ("execute_trade", 0.003, "True")
    assert 5 < float(row["memory_usage_mb"]) < 5000
    assert float(row["cpu_percent"]) >= 0
    (row,) = rows(tmp_path, "risk")
    assert (row["operation"], row["success"]) == ("risk", "False")
    assert rows(tmp_path, "inference") == []
    assert timer.total == 2


def test_each_file_has_one_operation_and_the_stages_are_in_the_snapshot_only(tmp_path, metrics):
    stages = [StageCounters(name, EventClock(T0)) for name in ("features", "inference", "executor")]
    for stage in stages:
        stage.start()
        stage.done(1000)
    for name in (*OPERATIONS, LIVE_TRADING):
        metrics.operation(name).add(1000)
    snapshot = metrics.sample(stages, {"mode": "paper"})
    assert {name: [row["operation"] for row in rows(tmp_path, name)] for name in OPERATIONS} == {
        "trade_executor": ["execute_trade"],
        "trading_loop": ["trading_loop"],
        "inference": ["predict"],
        "trade_probability": ["predict_trade_success"],
        "risk": ["risk"],
        "trade_window_filter": ["trade_window_filter"],
    }
    assert set(snapshot["operations"]) == {*OPERATIONS.values(), LIVE_TRADING}
    assert set(snapshot["stages"]) == {"features", "inference", "executor"}
    assert snapshot["stages"]["features"]["items_in"] == 1
    assert snapshot["mode"] == "paper"
    assert snapshot["process"]["threads"] >= 1
    assert snapshot["process"]["fds"] > 3
    assert metrics.snapshot is snapshot
    json.dumps(snapshot)


def test_times_are_as_the_specification_writes_them_where_that_is_set(tmp_path):
    metrics = Metrics(tmp_path, EventClock(T0), stamp=STAMPS["spec"])
    metrics.operation("inference").add(1 * MS)
    metrics.sample([], {})
    metrics.close()
    assert [row["timestamp"] for row in rows(tmp_path, "inference")] == ["2023-11-14 22:13:20"]


def test_unknown_file_is_a_mistake(metrics):
    with pytest.raises(ValueError, match="lunch has no performance file"):
        metrics.operation("lunch")


def test_snapshot_goes_to_whoever_listens_and_nobody_is_waited_for(tmp_path, metrics):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "observer.sock"
    metrics.sample([], {"n": 0})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as observer:
        observer.bind(str(path))
        observer.settimeout(5)
        metrics.sample([], {"n": 1})
        assert json.loads(observer.recv(65536))["n"] == 1
        for n in range(2000):  # an observer that does not read: its queue fills up
            metrics._observer.send({"n": n})
        assert metrics._observer.lost > 0
    lost = metrics._observer.lost
    metrics.sample([], {"n": 2})  # the socket file of a dead observer
    assert metrics._observer.lost == lost + 1


def test_full_disk_loses_rows_not_the_daemon(tmp_path, metrics, monkeypatch):
    def refuse(fd, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    metrics.operation("risk").add(1)
    assert metrics.sample([], {})["rows_lost"] == 1
    assert metrics.sample([], {})["rows_lost"] == 1
