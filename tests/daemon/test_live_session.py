"""A real live process, armed and with an approved bundle, against the stand-in for Sierra Chart."""

import csv
import json
import signal

import pytest
from daemon_process import TRADES_AT_ONCE, status_of, until

pytestmark = pytest.mark.timeout(120)

SPEED = 25


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_live_session_writes_its_round_trips_to_trades_real(daemons, tmp_path, approved):
    exchange, var = tmp_path / "exchange", tmp_path / "var"
    shared = {"feed": {"source": "dtc", "max_event_age_s": 0}, "simulator": {"seed": 7}}
    simulator, port = daemons.simulator(daemons.config("exchange.toml", **shared), exchange, speed=SPEED)
    tables = {**TRADES_AT_ONCE, **shared, "model": TRADES_AT_ONCE["model"] | approved, "dtc": {"port": port}}
    config = daemons.config(**tables)

    daemon = daemons.start("--mode", "live", "--arm", "Sim1", "--config", config, "--var", var).ready()
    until(lambda: status_of(var).get("round_trips", 0) >= 1, "a round trip")
    daemon.signal(signal.SIGTERM)
    ended = daemon.wait()
    assert (ended.status, ended.err) == (0, "")
    assert "position +0" in ended.out.splitlines()[-1]
    simulator.signal(signal.SIGTERM)
    assert simulator.wait().status == 0

    trades = rows_of(var / "trades" / "trades_real.csv")
    assert not (var / "trades" / "trades_simulated.csv").exists()
    assert len(trades) >= 1
    assert list(trades[0]) == ["trade_id", "timestamp", "entry_price", "profit", "regime_probs"]
    assert float(trades[0]["entry_price"]) > 0
    assert list(json.loads(trades[0]["regime_probs"])) == ["range", "trend", "defensive"]
    snapshots = {json.loads(path.read_text())["trade_id"] for path in (var / "trade_snapshots").iterdir()}
    assert snapshots == {trade["trade_id"] for trade in trades}

    # The journal of live has them too, as journaled of the stand-in's own executions.
    told = json.loads(daemons.run("journal", "trades", "--mode", "live", "--var", var, "--json").out)
    assert [trade["trade_id"] for trade in told] == [trade["trade_id"] for trade in trades]
    lines = map(json.loads, (exchange / "orders.jsonl").read_text().splitlines())
    assert sum(line["kind"] == "fill" for line in lines) >= 2 * len(trades)
