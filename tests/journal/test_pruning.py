"""Old decisions to hold and old features go; nothing else does, and what remains holds together."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_headers import run_header

from mia_daemon.clock import NS_PER_DAY, NS_PER_S
from mia_daemon.config import RetentionSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution import order_path
from mia_daemon.journal import pruning
from mia_daemon.journal.explanation import explanation
from mia_daemon.journal.formatting import explanation_lines
from mia_daemon.journal.pruning import NOTHING, DecisionRow, Kept, Place, PrunedRows, Run, choose, walk
from mia_daemon.journal.verify import verify
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Action, Decision, Prediction, RegimeProbs

DAY_ONE = 1_790_000_000 * NS_PER_S
NOW_NS = DAY_ONE + 100 * NS_PER_DAY
KEPT = Kept.at(NOW_NS, RetentionSettings(holding_decisions_days=90, features_days=95))
PREDICTION = Prediction(RegimeProbs(0.7, 0.2, 0.1), 0.5, 0.6, "test", 0.0, "0" * 16)
REAL = {"feed": {"source": "scid"}}
SIMULATED = {"feed": {"source": "simulator"}}


def record(journal, run_id, days, actions=(Action.HOLD, Action.BUY)):
    """A decision of each kind on each of the days, those to act with features."""
    for seq, (day, action) in enumerate((day, action) for day in days for action in actions):
        name = f"{run_id}-{seq}"
        ts_ns = DAY_ONE + day * NS_PER_DAY
        journal.record_decision(Decision(name, seq, ts_ns, action, 0, "x", PREDICTION, 1.0, 1.25))
        if action is not Action.HOLD:
            journal.record_features(name, np.arange(350, dtype=np.float32))
    journal.commit()


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "paper.db", durable=True)
    yield journal
    journal.close()


def prune(journal, kept=KEPT, most=7):
    return walk(lambda place: journal.prune(place, kept, most))


def left(journal):
    """The days of the decisions to hold, of those to act, and of whole features."""
    with closing(sqlite3.connect(f"file:{journal.path}?mode=ro", uri=True)) as db:
        found = db.execute(
            "SELECT (ts_ns - ?) / ?, action, COALESCE(LENGTH(vector), 0) > 0 FROM decisions"
            " LEFT JOIN features USING (number) ORDER BY decisions.number",
            (DAY_ONE, NS_PER_DAY),
        ).fetchall()
    return (
        [day for day, action, _ in found if action == "hold"],
        [day for day, action, _ in found if action != "hold"],
        [day for day, _, whole in found if whole],
    )


def test_decisions_to_hold_and_features_go_by_their_age_in_a_real_market_while_the_run_goes_on(journal):
    run_id = journal.begin_run(run_header(DAY_ONE, config=REAL))
    record(journal, run_id, range(30))
    assert prune(journal) == PrunedRows(holds=10, features=5)
    assert left(journal) == (list(range(10, 30)), list(range(30)), list(range(5, 30)))
    assert prune(journal) == PrunedRows()


@pytest.mark.parametrize(("mode", "config"), [("paper", SIMULATED), ("replay", REAL)])
def test_where_event_time_is_not_real_time_rows_are_as_old_as_their_run(journal, mode, config):
    old = journal.begin_run(run_header(DAY_ONE, mode, config=config))
    record(journal, old, (0, 99))
    journal.end_run(old, DAY_ONE + 3 * NS_PER_DAY, "stop")
    recent = journal.begin_run(run_header(DAY_ONE + 50 * NS_PER_DAY, mode, config=config))
    record(journal, recent, (-2000, 0))
    journal.end_run(recent, DAY_ONE - 1000 * NS_PER_DAY, "feed ended")  # a replay's end is in event time
    record(journal, journal.begin_run(run_header(NOW_NS, mode, config=config)), (-2000, 0))
    assert prune(journal) == PrunedRows(holds=2, features=2)
    assert left(journal) == ([-2000, 0, -2000, 0], [0, 99, -2000, 0, -2000, 0], [-2000, 0, -2000, 0])


def test_waived_limits_keep_everything(journal):
    record(journal, journal.begin_run(run_header(DAY_ONE, config=REAL)), range(9))
    settings = RetentionSettings.model_validate({"holding_decisions_days": "waived", "features_days": "waived"})
    assert prune(journal, Kept.at(NOW_NS, settings)) == PrunedRows()


@given(
    rows=st.lists(
        st.builds(
            DecisionRow,
            decision_id=st.uuids().map(str),
            number=st.integers(1),
            ts_ns=st.integers(DAY_ONE, NOW_NS),
            action=st.sampled_from(list(Action)).map(str),
            has_features=st.integers(0, 900),
        )
    ),
    ended_ns=st.none() | st.integers(DAY_ONE, NOW_NS),
    age_by_event=st.booleans(),
)
def test_only_decisions_to_hold_are_ever_deleted_and_only_what_is_too_old(rows, ended_ns, age_by_event):
    chosen = choose(Run(ended_ns, age_by_event), rows, KEPT)
    by_id = {row.decision_id: row for row in rows}
    assert all(by_id[name].action == "hold" for name in chosen.holds)
    if ended_ns is None and not age_by_event:
        assert not any(chosen)
    for name in chosen.holds:
        written = [by_id[name].ts_ns] if age_by_event else []
        assert min([*written, *([] if ended_ns is None else [ended_ns])]) < KEPT.holds_since_ns


def test_a_step_looks_at_few_rows_and_a_walk_at_all(journal):
    record(journal, journal.begin_run(run_header(DAY_ONE, config=REAL)), range(20))
    with JournalView(journal.path) as view:
        place, names = Place(), []
        while place is not None:
            step = view.look(place, KEPT, 6)
            assert len(step.chosen.holds) <= 6
            names += step.chosen.holds
            place = step.then
    assert len(names) == len(set(names)) == 10


def test_nothing_is_pruned_while_rows_wait_for_a_commit_that_an_error_would_undo(journal, monkeypatch):
    run_id = journal.begin_run(run_header(DAY_ONE, config=REAL))
    record(journal, run_id, (0,))
    journal.record_decision(Decision(f"{run_id}-9", 9, NOW_NS, Action.HOLD, 0, "x", PREDICTION, 1.0, 1.25))
    assert journal.prune(Place(), KEPT, 7) == (NOTHING, Place())
    journal.commit()
    delete = pruning._DELETE_HOLD
    monkeypatch.setattr(pruning, "_DELETE_HOLD", "DELETE FROM nothing WHERE x = ?")
    with pytest.raises(JournalError):
        journal.prune(Place(), KEPT, 7)
    journal.record_decision(Decision(f"{run_id}-8", 8, NOW_NS, Action.HOLD, 0, "x", PREDICTION, 1.0, 1.25))
    journal.commit()
    assert left(journal) == ([0, 100, 100], [0], [0])
    monkeypatch.setattr(pruning, "_DELETE_HOLD", delete)
    assert prune(journal) == PrunedRows(1, 1)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL, as it was


async def test_a_pruned_journal_is_sound_and_explains_its_trades(make_rig, tmp_path):
    rig = make_rig()
    rig.play((1, 100.0))
    assert await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((100, 100.0), (100, 101.0))
    rig.decide("hold", 1)
    rig.decide("exit", 0)
    rig.play((100, 101.0), (100, 101.0))
    rig.executor.checkpoint()
    journal, path = rig.journal, rig.journal.path
    (trade,) = journal.trades()
    journal.record_features(trade.decision_id, np.arange(350, dtype=np.float32))
    journal.end_run(rig.run_id, DAY_ONE, "stop")
    journal.begin_run(run_header(DAY_ONE))
    assert prune(journal, Kept(2**62, 2**62)).features >= 1
    with JournalView(path) as view:
        assert verify(view, order_path.findings).sound
        assert "features pruned" in "\n".join(explanation_lines(explanation(view, trade.trade_id)))
        assert view.value("SELECT COUNT(*) FROM decisions WHERE action = 'hold'") == 0
