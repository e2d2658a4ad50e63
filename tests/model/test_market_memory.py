import json
import sqlite3
from dataclasses import replace

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import StartError
from mia_daemon.features import catalogue
from mia_daemon.model.market_memory import MAX_CLUSTERS, REMEMBERED, MarketMemory
from mia_daemon.records import RegimeProbs, Side, Trade

NOW = 1_700_000_000 * NS_PER_S
DAY = 86_400 * NS_PER_S
TRADE = Trade(
    trade_id="r1-1",
    symbol="ESZ26_FUT_CME",
    side=Side.BUY,
    quantity=1,
    entry_ns=NOW,
    exit_ns=NOW + 60 * NS_PER_S,
    entry_price=6000.0,
    exit_price=6002.0,
    gross=100.0,
    costs=2.0,
    regime_probs=RegimeProbs(0.2, 0.7, 0.1),
    decision_id="r1-9",
    exit_reason="target",
)
QUIET = {name: typical for name, (typical, _) in REMEMBERED.items()}
WILD = {name: typical + 5 * scale for name, (typical, scale) in REMEMBERED.items()}


def memory(tmp_path, now_ns=NOW):
    return MarketMemory(tmp_path / "var" / "market_memory.db", now_ns)


def test_it_remembers_features_the_catalogue_has():
    for name in REMEMBERED:
        catalogue.index(name)


def test_the_tables_have_the_specified_columns(tmp_path):
    memory(tmp_path).close()
    db = sqlite3.connect(tmp_path / "var" / "market_memory.db")
    columns = {
        table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in ("clusters", "trade_patterns")
    }
    db.close()
    assert columns["clusters"] == ["cluster_id", "event_type", "features", "timestamp"]
    assert columns["trade_patterns"] == [
        "pattern_id", "cluster_id", "trade_id", "entry_price", "exit_price", "profit", "regime", "timestamp",
    ]  # fmt: skip


def test_alike_markets_share_a_cluster_and_recall_tells_what_became_of_their_trades(tmp_path):
    kept = memory(tmp_path)
    assert kept.remember(TRADE, QUIET) == ""
    assert kept.remember(replace(TRADE, trade_id="r1-2", gross=-50.0), {**QUIET, "er_15m": 0.35}) == ""
    assert kept.remember(replace(TRADE, trade_id="r1-3"), WILD, event_type="FOMC") == ""
    quiet, wild = kept.recall(QUIET, 5)
    assert (quiet.trades, quiet.profit, quiet.won_share) == (2, 98.0 - 52.0, 0.5)
    assert (wild.trades, wild.profit) == (1, 98.0)
    assert quiet.distance < 0.2 < wild.distance
    assert kept.recall(WILD, 1)[0].cluster_id == wild.cluster_id
    kept.close()


def test_a_clusters_centre_is_the_mean_of_its_markets(tmp_path):
    kept = memory(tmp_path)
    for number, ratio in enumerate((0.1, 0.2, 0.6)):
        kept.remember(replace(TRADE, trade_id=f"t{number}"), {**QUIET, "er_15m": ratio})
    ((text,),) = kept._db.execute("SELECT features FROM clusters").fetchall()
    assert json.loads(text)["er_15m"] == pytest.approx(0.3)
    kept.close()


def test_a_trade_told_twice_is_stored_once(tmp_path):
    kept = memory(tmp_path)
    kept.remember(TRADE, QUIET)
    kept.remember(TRADE, WILD)
    assert [found.trades for found in kept.recall(QUIET, 9)] == [1]
    kept.close()


def test_missing_and_non_finite_features_count_as_typical(tmp_path):
    kept = memory(tmp_path)
    kept.remember(TRADE, {"er_15m": float("nan"), "tod_sin": float("inf")})
    assert kept.recall(QUIET, 1)[0].distance == 0.0
    kept.close()


def test_the_number_of_clusters_is_bounded(tmp_path):
    kept = memory(tmp_path)
    for number in range(MAX_CLUSTERS + 5):
        kept.remember(replace(TRADE, trade_id=f"t{number}"), {**QUIET, "vol_ratio_5m_60m": 10.0 * number})
    found = kept.recall(QUIET, 1000)
    assert len(found) == MAX_CLUSTERS
    assert sum(cluster.trades for cluster in found) == MAX_CLUSTERS + 5
    kept.close()


def test_what_is_older_than_thirty_days_is_purged(tmp_path):
    kept = memory(tmp_path)
    kept.remember(TRADE, QUIET)
    kept.remember(replace(TRADE, trade_id="later", exit_ns=NOW + 20 * DAY), WILD)
    kept.close()
    later = memory(tmp_path, NOW + 31 * DAY)
    assert [found.trades for found in later.recall(QUIET, 9)] == [1]
    assert later.purge(NOW + 51 * DAY) == 1
    assert later.recall(QUIET, 9) == []
    later.close()


def test_it_survives_a_restart(tmp_path):
    kept = memory(tmp_path)
    kept.remember(TRADE, QUIET)
    kept.close()
    again = memory(tmp_path)
    assert again.notice == ""
    assert again.recall(QUIET, 1)[0].trades == 1
    again.close()


def test_a_damaged_file_is_set_aside_and_said(tmp_path):
    path = tmp_path / "var" / "market_memory.db"
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    kept = memory(tmp_path)
    aside = path.with_name(f"market_memory.db.corrupt-{NOW // NS_PER_S}")
    assert aside.read_bytes().startswith(b"this is no database")
    assert aside.name in kept.notice
    assert kept.remember(TRADE, QUIET) == ""
    kept.close()


def test_a_file_damaged_while_open_is_set_aside_and_the_trade_kept(tmp_path):
    kept = memory(tmp_path)
    for number in range(40):
        kept.remember(replace(TRADE, trade_id=f"t{number}"), {**QUIET, "vol_ratio_5m_60m": 10.0 * number})
    kept._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with kept.path.open("r+b") as file:
        file.write(b"\xa5" * kept.path.stat().st_size)
    kept._db.close()
    kept._db = sqlite3.connect(kept.path)
    text = kept.remember(TRADE, QUIET)
    assert "damaged" in text
    assert [found.trades for found in kept.recall(QUIET, 9)] == [1]
    kept.close()


def test_a_file_that_can_not_be_written_is_said_and_not_raised(tmp_path):
    kept = memory(tmp_path)
    other = sqlite3.connect(kept.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "locked" in kept.remember(TRADE, QUIET)
    other.execute("ROLLBACK")
    other.close()
    assert kept.remember(TRADE, QUIET) == ""
    kept.close()


def test_a_directory_in_the_way_is_refused(tmp_path):
    (tmp_path / "var").write_text("a file")
    with pytest.raises(StartError, match="can't be made"):
        memory(tmp_path)
