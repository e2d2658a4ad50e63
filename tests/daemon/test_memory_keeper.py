"""What a run remembers of trades: from the file, from the journal, and from itself."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from round_trip import NOW, TRADE, values
from run_headers import run_bundle, run_header

from mia_daemon.clock import NS_PER_S
from mia_daemon.daemon.memory_keeper import MemoryKeeper
from mia_daemon.features import catalogue
from mia_daemon.journal.background import Background
from mia_daemon.journal.writer import Journal
from mia_daemon.model import memory_file
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import MacroEvents
from mia_daemon.records import Action, Decision, Prediction

ES = instrument("ESZ26_FUT_CME")
LATER = TRADE.exit_ns + NS_PER_S
VALUES = values()
SAID = Prediction(TRADE.regime_probs, 0.61, 0.57, "baseline", 0.0, "0" * 16)
BUY = Decision("r1-9", 1, NOW, Action.BUY, 1, "signal", SAID, 5999.75, 6000.0, {"position": 0})
FOMC = MacroEvents(np.array([NOW + 600 * NS_PER_S]), np.array([0.9]), np.array([0]), ("FOMC",))


@pytest.fixture
def journal(tmp_path):
    """It knows TRADE, and what its decision was made on."""
    journal = Journal(tmp_path / "paper.db", durable=False)
    begin(journal)
    journal.record_decision(BUY)
    journal.record_features("r1-9", VALUES)
    journal.record_trade(TRADE)
    yield journal
    journal.close()


def begin(journal, catalogue_sha256=None, source="scid"):
    bundle = run_bundle(catalogue_sha256=catalogue_sha256 or catalogue.sha256())
    journal.begin_run(run_header(NOW, config={"feed": {"source": source}}, bundle=bundle))


@pytest.fixture
def keeper(tmp_path, journal):
    kept = []

    def made(now_ns=LATER, **more):
        kept.append(MemoryKeeper(ES, **more))
        kept[-1].open(tmp_path / "market_memory.db", journal, now_ns)
        return kept[-1]

    yield made
    for one in kept:
        one.close()


def recalled(keeper):
    return keeper.memory.recall(VALUES, LATER).trades


def test_what_the_file_lacks_comes_from_the_journal_and_is_then_on_file(keeper):
    first = keeper()
    assert (recalled(first), first.from_journal, first.notices) == (1, 1, [])
    first.close()
    second = keeper()
    assert (recalled(second), second.from_journal) == (1, 0)


def test_a_damaged_file_is_rebuilt_from_the_journal_and_said(keeper, tmp_path):
    (tmp_path / "market_memory.db").write_bytes(b"no database" * 100)
    kept = keeper()
    assert (recalled(kept), kept.from_journal) == (1, 1)
    (notice,) = kept.notices
    assert "is damaged" in notice


def test_a_file_that_another_program_holds_takes_nothing_from_the_run(keeper, tmp_path):
    keeper().close()
    with closing(sqlite3.connect(tmp_path / "market_memory.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        kept = keeper()
    assert recalled(kept) == 1
    assert "locked" in kept.notices[0]
    kept.entered("r1-12", VALUES)
    trade = replace(TRADE, trade_id="r1-2", decision_id="r1-12")
    kept.closed(trade)
    assert recalled(kept) == 2
    assert kept.write(trade) == ""


def test_a_journal_that_can_not_tell_takes_nothing_from_the_run(keeper, journal):
    keeper().close()
    journal._db.execute("DROP TABLE trades")
    kept = keeper()
    assert recalled(kept) == 1
    assert "lacks what the journal knows" in kept.notices[0]


def test_what_is_older_than_thirty_days_is_not_taken_from_the_journal(keeper):
    assert keeper(now_ns=LATER + 31 * 86_400 * NS_PER_S).from_journal == 0


def test_values_that_follow_other_definitions_are_no_market(keeper, journal):
    begin(journal, catalogue_sha256="another")
    journal.record_decision(replace(BUY, decision_id="r1-20"))
    journal.record_features("r1-20", VALUES)
    journal.record_trade(replace(TRADE, trade_id="r1-2", decision_id="r1-20"))
    assert keeper().from_journal == 1


def test_a_trade_is_known_to_the_very_next_decision_and_on_file_when_there_is_time(keeper, tmp_path):
    kept = keeper(events=FOMC)
    kept.entered("r1-12", VALUES)
    trade = replace(TRADE, trade_id="r1-2", decision_id="r1-12")
    kept.closed(trade)
    assert recalled(kept) == 2
    assert on_file(tmp_path) == {("r1-1", "FOMC")}
    assert kept.write(trade) == ""
    assert on_file(tmp_path) == {("r1-1", "FOMC"), ("r1-2", "FOMC")}
    assert recalled(kept) == 2


def test_a_trade_that_an_earlier_run_entered_is_remembered_by_what_the_journal_has(keeper, tmp_path):
    kept = keeper()
    trade = replace(TRADE, trade_id="r1-2", decision_id="r0-1")
    background = Background(catalogue_sha256=catalogue.sha256(), values=VALUES)
    assert kept.restore_entry("r0-1", background) is VALUES
    kept.closed(trade)
    assert recalled(kept) == 2
    kept.write(trade)
    assert on_file(tmp_path) == {("r1-1", ""), ("r1-2", "")}


def test_a_trade_that_no_decision_entered_is_not_remembered(keeper, tmp_path):
    kept = keeper()
    trade = replace(TRADE, trade_id="r1-2", decision_id="")
    kept.closed(trade)
    assert kept.write(trade) == ""
    assert on_file(tmp_path) == {("r1-1", "")}


@pytest.mark.parametrize("in_the_way", [False, True])
def test_a_recording_gets_what_its_run_began_with_whatever_became_of_the_file(keeper, tmp_path, in_the_way):
    recording = tmp_path / "recording"
    recording.mkdir()
    if in_the_way:
        (tmp_path / "market_memory.db").mkdir()
    kept = keeper()
    kept.entered("r1-12", VALUES)
    kept.closed(trade := replace(TRADE, trade_id="r1-2", decision_id="r1-12"))
    kept.write(trade)
    kept.copy_to(recording)
    (found,) = memory_file.read(recording / memory_file.FILE_NAME)
    assert found.trade_id == "r1-1"


def test_a_run_that_begins_with_nothing_leaves_none_beside_its_recording(tmp_path):
    MemoryKeeper(ES).copy_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_trade_of_the_simulator_is_known_at_the_simulator_only(keeper, journal):
    begin(journal, source="simulator")
    journal.record_decision(replace(BUY, decision_id="r1-20"))
    journal.record_features("r1-20", VALUES)
    journal.record_trade(replace(TRADE, trade_id="r1-2", decision_id="r1-20"))
    for simulated, trade_id in ((False, "r1-1"), (True, "r1-2"), (False, "r1-1")):
        kept = keeper(simulated=simulated)
        assert [one.trade_id for one in kept._begun_with] == [trade_id]


def test_a_journal_with_damaged_features_takes_nothing_from_the_run(keeper, journal):
    journal._db.execute("UPDATE features SET vector = x'00'")
    kept = keeper()
    assert recalled(kept) == 0
    assert "lacks what the journal knows" in kept.notices[0]


def test_what_the_file_and_the_journal_know_is_had_again_after_a_file_of_an_earlier_version(keeper, tmp_path):
    keeper().close()
    with closing(sqlite3.connect(tmp_path / "market_memory.db")) as db:
        db.executescript("DROP TABLE contexts")
    assert keeper().from_journal == 1
    assert keeper().from_journal == 0


def on_file(tmp_path):
    with closing(sqlite3.connect(tmp_path / "market_memory.db")) as db:
        return set(db.execute("SELECT trade_id, event_type FROM trade_patterns JOIN clusters USING (cluster_id)"))
