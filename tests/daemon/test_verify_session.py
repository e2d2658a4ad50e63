"""What counts as a difference between a session and its repetition, and what only as a note."""

import pytest

from mia_daemon.daemon.session_replay import _Recorded
from mia_daemon.daemon.verify_session import _OF_A_BATCH, _excused
from mia_daemon.feed.recorder import Recorder
from mia_daemon.journal.comparison import TableComparison
from mia_daemon.records import empty_events

ROW = {"decision_id": "R-1"}
JOURNAL_ONLY = TableComparison("decisions", 7, recorded=ROW, more=3)
REPEATED_ONLY = TableComparison("decisions", 7, repeated=ROW, more=3)


@pytest.mark.parametrize("table", [JOURNAL_ONLY, REPEATED_ONLY])
def test_rows_that_only_one_has_are_a_difference_after_an_orderly_end(table):
    assert _excused(table, well=True, goes_on=False) == ""


@pytest.mark.parametrize("table", [JOURNAL_ONLY, REPEATED_ONLY])
def test_a_kill_takes_the_last_rows_of_either(table):
    assert _excused(table, well=False, goes_on=False).endswith(
        "was killed before that was recorded" if table is JOURNAL_ONLY else "was killed before that was committed"
    )


def test_a_kill_takes_no_more_than_a_batch_from_the_recording():
    cut = TableComparison("decisions", 7, recorded=ROW, more=_OF_A_BATCH)
    assert _excused(cut, well=False, goes_on=False) == ""
    assert _excused(cut, well=False, goes_on=True)  # the journal was read later, however much later


@pytest.mark.parametrize("table", ["intents", "requests", "fills", "trades", "latches"])
def test_what_is_committed_at_once_is_in_the_journal_whatever_happens(table):
    missing = TableComparison(table, 0, repeated={"client_order_id": "R-1E"})
    assert _excused(missing, well=False, goes_on=False) == ""


@pytest.mark.parametrize(("well", "goes_on"), [(True, False), (False, False), (False, True)])
def test_a_row_that_differs_is_never_excused(well, goes_on):
    table = TableComparison("decisions", 7, ROW, {"decision_id": "R-2"})
    assert _excused(table, well=well, goes_on=goes_on) == ""


def test_a_session_that_got_no_market_events_has_none_to_repeat(tmp_path):
    Recorder(tmp_path, "ESZ26_FUT_CME", 1, lambda _alert: None).close()
    events = _Recorded(tmp_path)
    assert (events.total, len(events.take(5))) == (0, 0)


def test_recorded_events_come_front_to_back_whatever_is_asked_for_at_once(tmp_path):
    written = empty_events(10)
    written["ts_ns"] = range(1, 11)
    written["recv_ns"] = written["ts_ns"]
    recorder = Recorder(tmp_path, "ESZ26_FUT_CME", 1, lambda _alert: None)
    for batch in (written[:4], written[4:]):
        recorder.append(batch)
    recorder.close()
    events = _Recorded(tmp_path)
    assert [events.take(count)["ts_ns"].tolist() for count in (3, 5, 5)] == [[1, 2, 3], [4, 5, 6, 7, 8], [9, 10]]
