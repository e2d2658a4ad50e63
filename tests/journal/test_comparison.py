"""How the comparison of two journals reports where they part."""

import pytest

from mia_daemon.journal.comparison import COMPARED, compare


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
