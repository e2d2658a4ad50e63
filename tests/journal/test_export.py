"""What `mia-daemon journal export` writes is, byte for byte, what the daemon wrote while it traded."""

import csv
import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from daemon_process import daemons_in, status_of, until

from mia_daemon.daemon.reporter import SHOWN
from mia_daemon.errors import StartError, UsageError
from mia_daemon.feed.sierra_files import SCID, RecordWriter, events_to_scid
from mia_daemon.journal.export import export
from mia_daemon.journal.trade_snapshot import file_name
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.model import bundle
from mia_daemon.records import EventKind, empty_events

pytestmark = pytest.mark.timeout(300)

CSV_FILES = (
    "trades/trades_simulated.csv",
    "logs/trading/alpha_scores.csv",
    "logs/trading/decision_log.csv",
    "logs/trading/penalty_log.csv",
)
EAGER = {
    "enter_above": 0.001,
    "exit_below": 0.0005,
    "min_probability": 0.0,
    "defensive_blocks_above": 1.0,
    "min_hold_s": 0.0,
    "max_hold_s": 30.0,
}
CLINGING = {**EAGER, "min_hold_s": 1e6, "max_hold_s": 1e7, "stop_ticks": 1000, "target_ticks": 1000}


def rebuilt(daemons, directory, *words):
    """Where `journal export` wrote, and what it said."""
    ended = daemons.run("journal", "export", directory, *words)
    assert (ended.status, ended.err) == (0, ""), ended
    return directory, ended.out


def assert_same(var, copy):
    for name in CSV_FILES:
        assert (copy / name).read_bytes() == (var / name).read_bytes(), name
    names = sorted(path.name for path in (var / "trade_snapshots").iterdir())
    assert sorted(path.name for path in (copy / "trade_snapshots").iterdir()) == names
    for name in names:
        written, again = (root / "trade_snapshots" / name for root in (var, copy))
        assert again.read_bytes() == written.read_bytes(), name
    everything = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert everything == {*CSV_FILES, *(f"trade_snapshots/{name}" for name in names)}


@pytest.fixture(scope="module")
def replays(fork_server, tmp_path_factory):
    """Two replays of the same trades into one journal, at a rate of orders that is penalised now and then."""
    directory = tmp_path_factory.mktemp("export")
    with daemons_in(directory, fork_server) as daemons:
        chance = np.random.default_rng(3)
        events = empty_events(3000)
        began_ns = int(datetime(2026, 11, 24, 15, 0, tzinfo=UTC).timestamp()) * 10**9
        events["ts_ns"] = began_ns + np.cumsum(chance.integers(10**6, 600 * 10**6, len(events))) // 1000 * 1000
        events["kind"] = EventKind.TRADE
        events["side"] = chance.choice([-1, 1], len(events))
        events["bid"] = 6000.0 + 0.25 * np.cumsum(chance.choice([-1, 0, 0, 1], len(events)))
        events["ask"] = events["bid"] + 0.25
        events["price"] = np.where(events["side"] > 0, events["ask"], events["bid"])
        events["size"] = 3
        events["count"] = 1
        recorded = directory / "ESZ26_FUT_CME.scid"
        writer = RecordWriter(recorded, SCID)
        writer.append(events_to_scid(events))
        writer.close()
        config = daemons.config(
            features={"warmup_s": 0.0},
            model={"max_out_of_range_share": 1.0},
            decision=EAGER,
            risk={"max_orders_per_minute": 4},
        )
        for timestamp_format in ("iso", "spec"):
            config.write_text(config.read_text() + f'[ops]\ntimestamp_format = "{timestamp_format}"\n')
            assert daemons.run("replay", recorded, "--var", directory / "var", "--config", config).status == 0
            config.write_text(config.read_text().partition("[ops]")[0])
        yield daemons, directory


def test_replays_are_rebuilt_to_the_byte(replays):
    daemons, directory = replays
    copy, said = rebuilt(daemons, directory / "copy", "--mode", "replay", "--var", directory / "var")
    assert_same(directory / "var", copy)
    snapshots = [json.loads(path.read_text()) for path in (copy / "trade_snapshots").iterdir()]
    penalties = (copy / "logs" / "trading" / "penalty_log.csv").read_text()
    assert penalties.count("true") >= 2
    assert len((copy / "trades" / "trades_simulated.csv").read_text().splitlines()) > 20
    assert [line.split()[0] for line in said.splitlines() if "trade_*" in line] == [str(len(snapshots))]
    with (copy / "trades" / "trades_simulated.csv").open(newline="") as file:
        trades = list(csv.DictReader(file))
    with (copy / "logs" / "trading" / "decision_log.csv").open(newline="") as file:
        entries = {row["trade_id"] for row in csv.DictReader(file) if row["decision"] in {"buy", "sell"}}
    assert {row["trade_id"] for row in trades} <= entries  # each trade joins the decision that opened it
    assert {row["timestamp"][10] for row in trades} == {"T", " "}  # in both formats
    assert {(len(one["features"]), one["bundle"]) for one in snapshots} == {(SHOWN, bundle.load(bundle.shipped()).name)}


def test_an_export_appears_whole_or_not_at_all(replays, tmp_path):
    daemons, directory = replays
    words = ("--mode", "replay", "--var", directory / "var")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    refused = daemons.run("journal", "export", tmp_path / "full", *words)
    assert (refused.status, refused.out) == (2, "")
    assert "holds something already" in refused.sentence
    refused = daemons.run("journal", "export", tmp_path / "full" / "file" / "below", *words)
    assert refused.status == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]
    (tmp_path / "empty").mkdir()
    rebuilt(daemons, tmp_path / "empty", *words)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "empty"}


def test_what_was_replayed_verifies(replays):
    daemons, directory = replays
    ended = daemons.run("journal", "verify", "--mode", "replay", "--var", directory / "var")
    assert (ended.status, ended.err) == (0, ""), ended.out


def test_sessions_over_a_restart_are_rebuilt_to_the_byte(daemons, tmp_path):
    """The first leaves its position to the stop at the server; the second takes it over, closes it and trades on."""
    var = tmp_path / "var"

    def session(decision, on_stop, enough):
        config = daemons.config(
            simulator={"speed": 60.0},
            features={"warmup_s": 0.0, "decision_interval_s": 2.0},
            model={"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
            decision=decision,
            windows={"no_entry_before_close_s": 0.0},
            stop={"on_stop": on_stop},
        )
        daemon = daemons.start("--mode", "paper", "--config", config, "--var", var).ready()
        until(lambda: enough(status_of(var)), "enough was traded")
        running = daemons.run("journal", "verify", "--var", var)
        assert daemons.run("stop", "--var", var).status == 0
        assert daemon.wait().status == 0
        return running

    first = session(CLINGING, "keep", lambda status: status.get("position"))
    second = session(EAGER, "flatten", lambda status: status.get("round_trips", 0) >= 3)
    assert [(ended.status, ended.err) for ended in (first, second)] == [(0, "")] * 2, (first.out, second.out)
    with closing(sqlite3.connect(f"file:{var}/journal/paper.db?mode=ro", uri=True)) as db:
        (kept,) = db.execute("SELECT trade_id FROM trades ORDER BY number LIMIT 1").fetchone()
        (opened, *_), (closed, *_) = db.execute("SELECT run_id FROM runs ORDER BY number")
    assert kept.startswith(f"{opened}-")
    assert closed != opened
    copy, _ = rebuilt(daemons, tmp_path / "copy", "--var", var)
    assert_same(var, copy)
    snapshot = json.loads(next((copy / "trade_snapshots").glob(f"trade_*_{kept}.json")).read_text())
    assert len(snapshot["features"]) == SHOWN
    assert sum(fill["side"] * fill["quantity"] for fill in snapshot["fills"]) == 0
    assert kept in (copy / "logs" / "trading" / "decision_log.csv").read_text()
    assert daemons.run("journal", "verify", "--var", var).status == 0


# What is written, and what is left when it can't be.


@pytest.fixture
async def traded(make_rig):
    """Two runs: one round trip each, and what was decided."""
    for _ in range(2):
        rig = make_rig()
        rig.play((1, 100.0))
        assert await rig.reconcile()
        for decision in (("buy", 1), ("exit", 0, "faded"), ("hold", 0)):
            rig.decide(*decision)
            rig.play((10, 100.0), (10, 100.0))
        rig.executor.checkpoint()
    return rig.journal


def files_below(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize(("mode", "trades"), [("paper", "trades_simulated.csv"), ("live", "trades_real.csv")])
async def test_each_row_is_told_once_in_the_files_of_its_mode(traded, tmp_path, mode, trades):
    traded._db.execute("UPDATE runs SET mode = ?", (mode,))
    with JournalView(traded.path) as view:
        counts = export(view, tmp_path / "copy")
        names = [trade.trade_id for trade in view.trades()]
        snapshots = [f"trade_snapshots/{file_name(trade.trade_id, trade.entry_ns)}" for trade in view.trades()]
    assert counts == {
        f"trades/{trades}": 2,
        "trade_snapshots/trade_*.json": 2,
        "logs/trading/alpha_scores.csv": 6,
        "logs/trading/decision_log.csv": 6,
        "logs/trading/penalty_log.csv": 6,
    }
    assert files_below(tmp_path / "copy") == sorted([*(name for name in counts if "*" not in name), *snapshots])
    told = (tmp_path / "copy" / "trades" / trades).read_text().splitlines()
    assert [line.split(",")[0] for line in told] == ["trade_id", *names]
    decided = (tmp_path / "copy" / "logs" / "trading" / "decision_log.csv").read_text()
    assert [line.split(",")[2] for line in decided.splitlines()] == ["decision", *["buy", "exit", "hold"] * 2]
    assert not (tmp_path / "copy" / "risk_snapshots").exists()


async def test_an_export_that_fails_leaves_nothing_behind(traded, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.iterdir())
    with JournalView(traded.path) as view:
        with pytest.raises(UsageError, match="holds something already"):
            export(view, tmp_path / "file")
        for here in (Path(), tmp_path / "here"):
            with pytest.raises(UsageError, match="is the working directory: name another"):
                export(view, here)
        with pytest.raises(StartError, match="link can't be written: Not a directory; make room or check its owner"):
            export(view, tmp_path / "link")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_journal_without_a_run_has_nothing_to_export(tmp_path):
    Journal(tmp_path / "paper.db", durable=False).close()
    with JournalView(tmp_path / "paper.db") as view, pytest.raises(UsageError, match="holds no run"):
        export(view, tmp_path / "copy")
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]
