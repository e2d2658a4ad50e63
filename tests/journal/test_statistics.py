"""What round trips earned, as a table."""

import io
from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.journal.report import trade_facts
from mia_daemon.journal.statistics import GROUPS, statistics
from mia_daemon.records import RegimeProbs, Side, Trade

NOON = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**9
DAY = 86_400 * 10**9


def trade(n, profit, *, day=0, reason="target", side=Side.BUY, costs=4.0):
    exit_ns = NOON + day * DAY + n * 10**9
    probs = RegimeProbs(0.7, 0.2, 0.1) if side is Side.BUY else RegimeProbs(0.1, 0.8, 0.1)
    name, entry_ns, gross = f"R-{n}", exit_ns - 30 * 10**9, profit + costs
    return trade_facts(Trade(name, "ES", side, 1, entry_ns, exit_ns, 1.0, 2.0, gross, costs, probs, name, reason))


TRADES = [
    trade(1, 100.0),
    trade(2, -150.0, reason="stop"),
    trade(3, 20.0, day=1, side=Side.SELL),
    trade(4, -5.0, day=1, reason="stop", side=Side.SELL),
]


def test_a_row_a_day_and_one_for_all():
    table = statistics(TRADES, "day")
    assert list(table.index) == ["2026-11-24", "2026-11-25", "total"]
    first, _, total = table.to_dict("records")
    assert first == {
        "trades": 2, "won": 0.5, "profit": -50.0, "costs": 8.0, "mean": -25.0, "best": 100.0, "worst": -150.0,
        "drawdown": 150.0, "held_s": 30.0,
    }  # fmt: skip
    assert (total["trades"], total["profit"], total["drawdown"]) == (4, -35.0, 150.0)


@pytest.mark.parametrize(
    ("by", "names"),
    [("regime", ["range", "trend"]), ("exit_reason", ["stop", "target"]), ("side", ["buy", "sell"]), ("run", ["R"])],
)
def test_rows_stand_for_what_is_asked_for(by, names):
    table = statistics(TRADES, by)
    assert list(table.index) == [*names, "total"]
    assert table["trades"][:-1].sum() == 4


def test_a_journal_without_trades_is_a_table_of_none():
    assert statistics([], "day")["trades"].to_dict() == {"total": 0}


@given(st.lists(st.tuples(st.integers(-400, 400), st.integers(0, 3)), min_size=1, max_size=30), st.sampled_from(GROUPS))
def test_groups_add_up_to_the_whole(trades, by):
    table = statistics([trade(n, profit * 0.25, day=day) for n, (profit, day) in enumerate(trades)], by)
    groups, total = table.iloc[:-1], table.iloc[-1]
    for column in ("trades", "profit", "costs"):
        assert groups[column].sum() == pytest.approx(total[column])
    assert total["profit"] == pytest.approx(sum(profit for profit, _ in trades) * 0.25)
    assert total["drawdown"] >= max(0.0, -total["worst"])


def test_the_csv_reads_back_as_the_table():
    table = statistics(TRADES, "day")
    again = pd.read_csv(io.StringIO(table.to_csv(lineterminator="\n")), index_col="day")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
