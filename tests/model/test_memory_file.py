import json
import math
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from round_trip import NOW, TRADE

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import StartError
from mia_daemon.model.market_memory import REMEMBERED, Experience
from mia_daemon.model.memory_file import MAX_CLUSTERS, MemoryFile, read, write

DAY = 86_400 * NS_PER_S
QUIET = np.zeros(len(REMEMBERED), np.float32)
WILD = np.full(len(REMEMBERED), 5.0, np.float32)
VOL = list(REMEMBERED).index("vol_ratio_5m_60m")


def opened(tmp_path, now_ns=NOW):
    return MemoryFile(tmp_path / "var" / "market_memory.db", now_ns)


def add(kept, trade=TRADE, market=QUIET, event_type="", outcome=1.0):
    return kept.add(trade, Experience(trade.trade_id, trade.exit_ns, market, outcome), event_type)


def moved(distance):
    market = QUIET.copy()
    market[VOL] = distance
    return market


def rows(kept, sql):
    with closing(sqlite3.connect(kept.path)) as db:
        return db.execute(sql).fetchall()


def test_the_tables_have_the_specified_columns(tmp_path):
    kept = opened(tmp_path)
    columns = {
        table: [row[1] for row in rows(kept, f"PRAGMA table_info({table})")] for table in ("clusters", "trade_patterns")
    }
    kept.close()
    assert columns["clusters"] == ["cluster_id", "event_type", "features", "timestamp"]
    assert columns["trade_patterns"] == [
        "pattern_id", "cluster_id", "trade_id", "entry_price", "exit_price", "profit", "regime", "timestamp",
    ]  # fmt: skip


def test_what_was_added_is_there_after_a_restart_to_the_bit(tmp_path):
    kept = opened(tmp_path)
    market = np.random.default_rng(1).normal(0, 1, len(REMEMBERED)).astype(np.float32)
    assert add(kept, market=market, outcome=1 / 3) == ""
    kept.close()
    again = opened(tmp_path)
    (found,) = again.experiences()
    assert (found.trade_id, found.exit_ns, found.outcome) == ("r1-1", TRADE.exit_ns, 1 / 3)
    assert found.market.tobytes() == market.tobytes()
    assert rows(again, "SELECT profit, regime FROM trade_patterns") == [(200.0, "trend")]
    assert again.notice == ""
    again.close()


def test_alike_markets_share_a_cluster_and_its_centre_is_their_mean(tmp_path):
    kept = opened(tmp_path)
    for number, distance in enumerate((0.1, 0.2, 0.6)):
        add(kept, replace(TRADE, trade_id=f"t{number}"), moved(distance))
    add(kept, replace(TRADE, trade_id="wild"), WILD)
    near, wild = rows(kept, "SELECT features FROM clusters")
    assert json.loads(near[0])["vol_ratio_5m_60m"] == pytest.approx(0.5 * 0.3)
    assert json.loads(wild[0])["spread_ticks"] == pytest.approx(6.0)
    assert rows(kept, "SELECT cluster_id, count(*) FROM trade_patterns GROUP BY 1") == [(1, 3), (2, 1)]
    kept.close()


def test_markets_around_an_announcement_are_a_kind_of_their_own(tmp_path):
    kept = opened(tmp_path)
    for number, event_type in enumerate(("", "FOMC", "", "CPI", "FOMC")):
        add(kept, replace(TRADE, trade_id=f"t{number}"), event_type=event_type)
    found = rows(kept, "SELECT event_type, count(*) FROM trade_patterns JOIN clusters USING (cluster_id) GROUP BY 1")
    assert found == [("", 2), ("CPI", 1), ("FOMC", 2)]
    kept.close()


def test_a_trade_told_twice_is_stored_once(tmp_path):
    kept = opened(tmp_path)
    add(kept)
    add(kept, market=WILD)
    assert len(kept.experiences()) == 1
    kept.close()


def test_the_number_of_clusters_is_bounded(tmp_path):
    kept = opened(tmp_path)
    for number in range(MAX_CLUSTERS + 5):
        add(kept, replace(TRADE, trade_id=f"t{number}"), moved(10.0 * number))
    assert rows(kept, "SELECT count(*) FROM clusters") == [(MAX_CLUSTERS,)]
    assert len(kept.experiences()) == MAX_CLUSTERS + 5
    kept.close()


def test_what_is_older_than_thirty_days_is_purged_at_the_start_and_as_days_go_by(tmp_path):
    kept = opened(tmp_path)
    add(kept)
    add(kept, replace(TRADE, trade_id="t2", exit_ns=NOW + 20 * DAY), WILD)
    kept.close()
    later = opened(tmp_path, NOW + 31 * DAY)
    assert [one.trade_id for one in later.experiences()] == ["t2"]
    assert rows(later, "SELECT count(*) FROM clusters") == [(1,)]
    add(later, replace(TRADE, trade_id="t3", exit_ns=NOW + 51 * DAY))
    assert [one.trade_id for one in later.experiences()] == ["t3"]
    assert rows(later, "SELECT trade_id FROM trade_patterns") == [("t3",)]
    later.close()


def test_a_damaged_file_is_set_aside_and_said(tmp_path):
    path = tmp_path / "var" / "market_memory.db"
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 100)
    kept = opened(tmp_path)
    aside = path.with_name(f"market_memory.db.corrupt-{NOW // NS_PER_S}")
    assert aside.read_bytes().startswith(b"this is no database")
    assert aside.name in kept.notice
    assert add(kept) == ""
    kept.close()


def test_a_file_damaged_while_open_is_set_aside_and_the_trade_kept(tmp_path):
    kept = opened(tmp_path)
    for number in range(40):
        add(kept, replace(TRADE, trade_id=f"t{number}"), moved(10.0 * number))
    kept._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with kept.path.open("r+b") as file:
        file.write(b"\xa5" * kept.path.stat().st_size)
    kept._db.close()
    kept._db = sqlite3.connect(kept.path)
    assert "damaged" in add(kept)
    assert [one.trade_id for one in kept.experiences()] == ["r1-1"]
    kept.close()


def test_a_file_that_can_not_be_written_is_said_and_not_raised(tmp_path):
    kept = opened(tmp_path)
    with closing(sqlite3.connect(kept.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "locked" in add(kept)
        other.execute("ROLLBACK")
    assert add(kept) == ""
    kept.close()


def test_a_damaged_file_that_can_not_be_made_anew_is_said_and_not_raised(tmp_path, monkeypatch):
    kept = opened(tmp_path)
    kept._db.close()
    kept.path.write_bytes(b"no database" * 500)
    for suffix in ("-wal", "-shm"):
        kept.path.with_name(kept.path.name + suffix).unlink(missing_ok=True)
    kept._db = sqlite3.connect(kept.path)

    def full(_self, _target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(kept.path), "rename", full)
    assert "No space left on device" in add(kept)


@pytest.mark.parametrize(
    "row",
    [
        (1, "no list", 1.0),
        (1, "[0, 0]", 1.0),
        (1, "[NaN, 0, 0, 0, 0, 0, 0]", 1.0),
        (1, None, 1.0),
        ("yesterday", "[0, 0, 0, 0, 0, 0, 0]", 1.0),
        (1, "[0, 0, 0, 0, 0, 0, 0]", None),
        (1, "[0, 0, 0, 0, 0, 0, 0]", math.inf),
    ],
)
def test_a_row_that_no_daemon_writes_is_left_out_and_written_anew(tmp_path, row):
    kept = opened(tmp_path)
    kept._db.execute("INSERT INTO contexts VALUES ('r1-1', ?, ?, ?, 0)", row)
    kept._db.commit()
    assert kept.experiences() == []
    assert add(kept) == ""
    assert len(kept.experiences()) == 1
    kept.close()


def test_trades_of_the_simulator_and_of_a_real_market_are_strangers(tmp_path):
    real = opened(tmp_path)
    add(real)
    real.close()
    simulated = MemoryFile(real.path, NOW + 365 * DAY, simulated=True)
    assert simulated.experiences() == []
    add(simulated, replace(TRADE, trade_id="s", exit_ns=NOW + 365 * DAY))
    assert [one.trade_id for one in simulated.experiences()] == ["s"]
    simulated.close()
    again = opened(tmp_path, NOW + DAY)
    assert [one.trade_id for one in again.experiences()] == ["r1-1"]
    again.close()


@pytest.mark.parametrize("contexts", ["", "CREATE TABLE contexts(trade_id, exit_ns, market, outcome);"])
def test_a_file_of_an_earlier_version_is_taken_over(tmp_path, contexts):
    kept = opened(tmp_path)
    add(kept)
    kept._db.executescript(f"DROP TABLE contexts; {contexts}")
    kept.close()
    again = opened(tmp_path)
    assert again.experiences() == []
    assert add(again) == ""
    again.close()
    once_more = opened(tmp_path)
    assert len(once_more.experiences()) == 1
    assert rows(once_more, "SELECT count(*) FROM trade_patterns") == [(1,)]
    once_more.close()


def test_a_trade_does_not_wait_for_a_program_that_holds_the_file(tmp_path):
    kept = opened(tmp_path)
    with closing(sqlite3.connect(kept.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert "locked" in add(kept)
        assert time.monotonic() - began < 0.4
    kept.close()


def test_a_file_that_another_program_holds_is_refused(tmp_path):
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "var" / "market_memory.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StartError, match="locked"):
            opened(tmp_path)


def test_a_directory_in_the_way_is_refused(tmp_path):
    (tmp_path / "var").write_text("a file")
    with pytest.raises(StartError, match="can't be opened"):
        opened(tmp_path)


def test_what_is_written_is_read_again_to_the_bit_and_in_order(tmp_path):
    market = np.random.default_rng(1).normal(0, 1, len(REMEMBERED)).astype(np.float32)
    known = [Experience(name, NOW + n // 2, market, 1 / (n + 3)) for n, name in enumerate("dcba")]
    for _ in range(2):
        write(tmp_path / "market_memory.db", known)
    found = read(tmp_path / "market_memory.db")
    assert [(one.trade_id, one.exit_ns, one.outcome) for one in found] == [
        (one.trade_id, one.exit_ns, one.outcome) for one in known
    ]
    assert all(one.market.tobytes() == market.tobytes() for one in found)
    with closing(sqlite3.connect(tmp_path / "market_memory.db")) as db:
        db.execute("ALTER TABLE contexts DROP COLUMN simulated")  # a recording of an earlier version
    assert len(read(tmp_path / "market_memory.db")) == 4
    with pytest.raises(StartError, match="can't be written"):
        write(tmp_path / "nowhere" / "market_memory.db", known)
    with pytest.raises(StartError, match="can't be read"):
        read(tmp_path / "elsewhere.db")
