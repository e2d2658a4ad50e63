"""How the comparison of two journals reports where they part."""

import pytest

from mia_daemon.journal.comparison import COMPARED, compare


class Decisions:
    """Decisions of one journal, by number: those that enter, and all others hold; its other tables are empty."""

    def __init__(self, *numbers, entries=()):
        self.rows_ = [{"decision_id": f"R-{seq}", "action": "buy" if seq in entries else "hold"} for seq in numbers]

    def rows(self, table):
        return iter(self.rows_ if table == "decisions" else [])


class Rows:
    """Equity rows of one journal; its other tables are empty."""

    def __init__(self, *times):
        self.times = times

    def rows(self, table):
        return iter([{"ts_ns": ts_ns, "equity": 1.0} for ts_ns in self.times] if table == "equity" else [])


def equity(recorded, repeated):
    return compare(recorded, repeated)[list(COMPARED).index("equity")]


@pytest.mark.parametrize(
    ("recorded", "repeated", "which"),
    [(Rows(1, 2, 3, 4), Rows(1, 2), "journal"), (Rows(1, 2), Rows(1, 2, 3, 4), "repetition")],
)
def test_rows_that_only_one_has_are_counted(recorded, repeated, which):
    found = equity(recorded, repeated)
    assert not found.differs
    assert str(found) == f"equity, row 3: only the {which} has ts_ns 3 and 1 after it"


def test_a_row_that_differs_is_named_with_both_values():
    found = equity(Rows(1, 2, 3), Rows(1, 5, 3))
    assert found.differs
    assert str(found) == "equity, row 2 (ts_ns 2): ts_ns 2 recorded, 5 repeated"


def test_decisions_to_hold_that_were_pruned_are_no_difference():
    recorded, repeated = Decisions(2, 4, 5, entries=[2]), Decisions(0, 1, 2, 3, 4, 5, entries=[2])
    decisions, *_ = compare(recorded, repeated, holds_are_pruned=True)
    assert (decisions.table, decisions.equal, decisions.pruned) == ("decisions", 3, 3)
    assert decisions.recorded is decisions.repeated is None
    assert compare(recorded, repeated)[0].differs


def test_an_entry_that_the_journal_lacks_is_a_difference_also_after_pruning():
    decisions, *_ = compare(Decisions(4), Decisions(3, 4, entries=[3]), holds_are_pruned=True)
    assert decisions.differs
