"""A statement that says what the journal says compares clean; whatever is changed in it is found."""

from contextlib import closing
from dataclasses import replace
from datetime import date
from itertools import accumulate
from zoneinfo import ZoneInfo

import pytest
from fake_activity_log import balance_row, fill_row, order_row, write
from hypothesis import given, settings
from hypothesis import strategies as st
from run_headers import run_header

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.products.instruments import instrument
from mia_daemon.products.product_table import shipped
from mia_daemon.records import Fill, FillSource, Order, OrderRole, OrderType, Side
from mia_daemon.statement.activity_log import read_statement
from mia_daemon.statement.comparison import compare
from mia_daemon.statement.scope import StatementScope
from mia_daemon.statement.text import facts, lines

SYMBOL = "ESZ26_FUT_CME"
DAY = date(2026, 12, 1)
T0 = 1_796_135_405_000_000_000  # 2026-12-01 14:30:05 UTC
HOUR_NS = 3600 * NS_PER_S


def fill(number, contracts, price, *, at_ns=None, order=None, execution=None):
    """`contracts` signed; a second after the one before, by an order of its own."""
    return Fill(
        ts_ns=T0 + number * NS_PER_S if at_ns is None else at_ns,
        execution_id=f"e{number}" if execution is None else execution,
        client_order_id=f"r1-{number}E" if order is None else order,
        server_order_id=str(1000 + number) if order is None else f"s{order}",
        symbol=SYMBOL,
        account="Sim1",
        side=Side.BUY if contracts > 0 else Side.SELL,
        quantity=abs(contracts),
        price=price,
    )


FILLS = [fill(1, 1, 6000.0), fill(2, -1, 6002.0), fill(3, -2, 6001.0), fill(4, 1, 6003.0), fill(5, 1, 5999.75)]
"""Two round trips: +2 points by 1 contract, then -2 and +1.25 points by 1 each. Together 1.25 points, 62.50."""


def recorded(directory, fills, mode="live", name="live.db"):
    """A journal of these executions; those without a client order id are external."""
    path = directory / name
    with closing(Journal(path, durable=False)) as journal:
        journal.begin_run(run_header(mode=mode))
        for one in fills:
            if one.client_order_id and not journal.has_intent(one.client_order_id):
                name, how = one.client_order_id, (OrderType.LIMIT, OrderRole.ENTRY, "", 1.0)
                order = Order(name, one.symbol, one.account, one.side, 99, *how)
                journal.record_intent([order], one.ts_ns)
            source = FillSource.UPDATE if one.client_order_id else FillSource.EXTERNAL
            journal.record_fill(replace(one, source=source))
    return path


def rows_of(fills, **how):
    positions = accumulate(one.side * one.quantity for one in fills)
    return [fill_row(one, position, **how) for one, position in zip(fills, positions, strict=True)]


def compared(journal, rows, tmp_path, *, day=DAY, zone="UTC", multiplier=None, server=None):
    server = server or ServerScope(
        instrument(SYMBOL), "Sim1", SYMBOL, frozenset({SYMBOL}), frozenset({"Sim1", "120005"})
    )
    statement = read_statement(write(tmp_path / "log.txt", rows), zone)
    with JournalView(journal) as view:
        return compare(view, statement, StatementScope(server, shipped(), multiplier), zone, day)


@pytest.fixture
def journal(tmp_path):
    return recorded(tmp_path, FILLS)


def whats(comparison):
    return [one.what for one in comparison.differences]


def test_the_same_executions_are_equal_and_come_to_the_same(journal, tmp_path):
    result = compared(journal, [order_row(T0), *rows_of(FILLS)], tmp_path)
    assert result.equal
    (day,) = result.days
    assert (day.day, day.symbol, day.stated_position) == (DAY, SYMBOL, 0)
    assert day.journal == day.statement
    costs = 6 * instrument(SYMBOL).cost_per_side
    assert (day.journal.fills, day.journal.bought, day.journal.sold, day.journal.position) == (5, 3, 3, 0)
    assert (day.journal.gross, day.journal.costs) == pytest.approx((62.5, costs))
    assert day.journal.net == pytest.approx(62.5 - costs)


@pytest.mark.parametrize("keep", [True, False])
def test_without_identifiers_order_time_and_values_have_to_do(journal, tmp_path, keep):
    gone = ("FillExecutionServiceID",) if keep else ("FillExecutionServiceID", "ClientOrderID", "InternalOrderID")
    rows = [{name: text for name, text in row.items() if name not in gone} for row in rows_of(FILLS)]
    assert compared(journal, rows, tmp_path).equal
    assert whats(compared(journal, rows[1:], tmp_path)) == ["journal only"]


def test_an_execution_on_one_side_only_is_named_with_its_side(journal, tmp_path):
    rows = rows_of(FILLS)
    assert whats(compared(journal, rows[:2] + rows[3:], tmp_path)) == ["journal only"]
    extra = fill_row(fill(9, 1, 6000.0, order="", execution="x"), 1)
    result = compared(journal, [*rows, extra], tmp_path)
    (difference,) = result.differences
    assert (difference.what, difference.external, difference.pair.stated.row.line) == ("statement only", True, 7)
    assert (result.days[0].statement.position, result.days[0].stated_position) == (1, 1)


@pytest.mark.parametrize(
    ("column", "text", "what"),
    [("FillPrice", "6000.25", "price"), ("Quantity", "2", "quantity"), ("BuySell", "Sell", "side")],
)
def test_what_differs_in_an_execution_is_named(journal, tmp_path, column, text, what):
    rows = rows_of(FILLS)
    assert whats(compared(journal, [{**rows[0], column: text}, *rows[1:]], tmp_path)) == [what]


def test_only_a_position_that_differs_is_a_difference_too(journal, tmp_path):
    rows = rows_of(FILLS)
    result = compared(journal, [*rows[:-1], {**rows[-1], "PositionQuantity": "3"}], tmp_path)
    assert not result.equal
    assert (result.differences, result.days[0].equal) == ([], False)


def test_external_executions_that_both_sides_have_are_listed_and_no_difference(tmp_path):
    fills = [*FILLS, fill(6, 1, 6000.0, order=""), fill(7, -1, 6001.0, order="")]
    result = compared(recorded(tmp_path, fills), rows_of(fills), tmp_path)
    assert result.equal
    assert [pair.journal.execution_id for pair in result.external] == ["e6", "e7"]


def test_executions_split_in_another_way_are_equal_if_they_add_up(tmp_path):
    journal = recorded(tmp_path, [fill(1, 3, 6000.0, execution="average-1"), fill(2, -3, 6001.0)])
    parts = [
        replace(fill(1, 1, 6000.0, execution="a")),
        replace(fill(1, 2, 6000.0, execution="b")),
        fill(2, -3, 6001.0),
    ]
    result = compared(journal, rows_of(parts), tmp_path)
    assert result.equal
    assert "add up to the same" in " ".join(result.notes)
    parts[1] = replace(parts[1], price=6000.25)
    assert not compared(journal, rows_of(parts), tmp_path).equal


def test_a_position_held_over_night_counts_with_its_price_on_both_sides(tmp_path):
    fills = [fill(1, 2, 5990.0, at_ns=T0 - 24 * HOUR_NS), fill(2, -2, 6000.0)]
    journal = recorded(tmp_path, fills)
    (day,) = compared(journal, rows_of(fills)[1:], tmp_path).days
    assert (day.journal.gross, day.statement.gross, day.journal.position) == (1000.0, 1000.0, 0)
    (before,) = compared(journal, rows_of(fills)[:1], tmp_path, day=date(2026, 11, 30)).days
    assert (before.journal.gross, before.statement.position) == (0.0, 2)


def test_a_trade_date_begins_on_the_evening_before(tmp_path):
    evening = T0 - 15 * HOUR_NS  # 17:30 in Chicago on 30 November
    fills = [fill(1, 1, 6000.0, at_ns=evening), fill(2, -1, 6001.0)]
    result = compared(recorded(tmp_path, fills), rows_of(fills), tmp_path)
    assert [(day.day, day.journal.fills) for day in result.days] == [(DAY, 2)]


def test_without_a_day_all_days_that_the_statement_reaches_over_are_compared(tmp_path):
    fills = [fill(n, 1 if n % 2 else -1, 6000.0, at_ns=T0 + n * 12 * HOUR_NS) for n in range(8)]
    journal = recorded(tmp_path, fills)
    result = compared(journal, rows_of(fills), tmp_path, day=None)
    assert result.equal
    assert sum(day.journal.fills for day in result.days) == 8
    middle = compared(journal, rows_of(fills)[1:3], tmp_path, day=None)  # 2 December, UTC
    assert (middle.equal, sum(day.journal.fills for day in middle.days)) == (True, 2)
    gap = compared(journal, [*rows_of(fills)[:1], *rows_of(fills)[-1:]], tmp_path, day=None)
    assert whats(gap) == ["journal only"] * 6


def test_a_statement_without_rows_needs_a_day(journal, tmp_path):
    with pytest.raises(UsageError, match="--day"):
        compared(journal, [], tmp_path, day=None)
    assert whats(compared(journal, [], tmp_path)) == ["journal only"] * 5


def test_prices_in_hundredths_are_found_by_themselves(journal, tmp_path):
    assert compared(journal, rows_of(FILLS, multiplier=100), tmp_path).equal
    assert compared(journal, rows_of(FILLS, multiplier=100), tmp_path, multiplier=0.01).equal
    assert not compared(journal, rows_of(FILLS, multiplier=100), tmp_path, multiplier=0.001).equal
    with pytest.raises(UsageError, match="--price-multiplier"):
        compared(journal, rows_of(FILLS, multiplier=0.01), tmp_path)


def test_other_spellings_of_account_and_symbol_mean_ours(journal, tmp_path):
    for symbol, account in (("[Sim]ESZ26_FUT_CME", "Sim1"), ("ESZ26-CME", "120005"), ("F.US.EPZ26", "")):
        rows = [{**row, "Symbol": symbol, "TradeAccount": account} for row in rows_of(FILLS)]
        assert compared(journal, rows, tmp_path).equal


def test_other_accounts_and_symbols_are_left_out_and_said(journal, tmp_path):
    others = [
        {**row, "TradeAccount": "Sim2"} if number else {**row, "Symbol": "NQZ26_FUT_CME"}
        for number, row in enumerate(rows_of(FILLS))
    ]
    result = compared(journal, [*rows_of(FILLS), *others], tmp_path)
    assert result.equal
    said = " ".join(result.notes)
    assert "1 executions of symbol NQZ26_FUT_CME" in said
    assert "4 executions of account Sim2" in said


def test_a_wrong_time_zone_is_noticed(journal, tmp_path):
    rows = rows_of(FILLS, zone=ZoneInfo("America/Chicago"))
    assert compared(journal, rows, tmp_path, zone="America/Chicago").notes == []
    assert "-6.00 h" in " ".join(compared(journal, rows, tmp_path).notes)


def test_the_change_of_the_balance_is_said(journal, tmp_path):
    rows = [balance_row(T0, 100_000.0), *rows_of(FILLS), balance_row(T0 + HOUR_NS, 100_050.5)]
    assert "+50.50" in " ".join(compared(journal, rows, tmp_path).notes)


def test_a_number_that_the_server_used_before_does_not_hide_an_execution(tmp_path):
    earlier = [fill(1, 1, 6000.0, at_ns=T0 - 72 * HOUR_NS), fill(2, -1, 6000.0, at_ns=T0 - 71 * HOUR_NS)]
    journal = recorded(tmp_path, [*earlier, *FILLS[2:]])
    rows = rows_of(FILLS[2:])
    again = fill_row(fill(1, 1, 6000.0, order="", execution="e1"), 1)
    assert whats(compared(journal, [again, *rows], tmp_path)) == ["statement only"]
    assert whats(compared(journal, [again, *rows], tmp_path, day=None)) == ["statement only"]


def test_positions_that_do_not_follow_from_the_quantities_are_said(journal, tmp_path):
    rows = rows_of(FILLS)
    assert "states position" not in " ".join(compared(journal, rows, tmp_path).notes)
    assert "line 3 states position -2 after +1" in " ".join(compared(journal, rows[:1] + rows[2:], tmp_path).notes)


def test_replays_in_the_journal_do_not_count(tmp_path):
    result = compared(recorded(tmp_path, FILLS, mode="replay"), rows_of(FILLS), tmp_path)
    assert whats(result) == ["statement only"] * 5


def test_a_day_without_executions_on_both_sides_is_equal(tmp_path):
    result = compared(recorded(tmp_path, []), [order_row(T0)], tmp_path)
    assert result.equal
    assert list(lines(result)) == ["equal: neither the journal nor the statement has an execution on these days"]


def test_the_result_for_people_names_line_order_and_execution(journal, tmp_path):
    rows = rows_of(FILLS)
    result = compared(journal, [{**rows[0], "FillPrice": "6000.25"}, *rows[1:]], tmp_path)
    text = "\n".join(lines(result))
    assert "order r1-1E, execution e1" in text
    assert "6000.25" in text
    assert ", line 2" in text
    assert text.splitlines()[-1].startswith("differs: 1 executions")
    assert facts(result)["differences"][0]["statement"]["line"] == 2


# Properties.

_PRICES = st.integers(23_900, 24_100).map(lambda ticks: ticks * 0.25)


@st.composite
def sessions(draw):
    """Executions of a day: of our orders and of others, with and without identifiers, several to an order."""
    moves = draw(st.lists(st.tuples(st.sampled_from([-3, -2, -1, 1, 2, 3]), _PRICES), min_size=1, max_size=8))
    fills = []
    for number, (contracts, price) in enumerate(moves):
        order = draw(st.sampled_from([f"r1-{number}E", "r1-0E", ""])) if number else "r1-0E"
        one = fill(number, contracts, price, at_ns=T0 + number * draw(st.sampled_from([0, 1, 600])) * NS_PER_S)
        fills.append(replace(one, client_order_id=order, server_order_id=f"s{order}"))
    return sorted(fills, key=lambda one: one.ts_ns)


def without(row, columns):
    return {name: text for name, text in row.items() if name not in columns}


def mutations(rows):
    """Every statement that differs from `rows` in one execution."""
    for number, row in enumerate(rows):
        before, after = rows[:number], rows[number + 1 :]
        yield [*before, *after]
        yield [*before, row, row, *after]
        for column, text in (
            ("FillPrice", f"{float(row['FillPrice']) + 0.25:.10g}"),
            ("Quantity", str(int(row["Quantity"]) + 1)),
            ("BuySell", "Sell" if row["BuySell"] == "Buy" else "Buy"),
        ):
            yield [*before, {**row, column: text}, *after]


@settings(max_examples=8)
@given(
    fills=sessions(),
    gone=st.sets(st.sampled_from(["FillExecutionServiceID", "ClientOrderID", "InternalOrderID", "PositionQuantity"])),
)
def test_a_statement_made_of_the_journal_is_equal_and_any_change_of_it_is_found(tmp_path_factory, fills, gone):
    directory = tmp_path_factory.mktemp("statement")
    journal = recorded(directory, fills)
    rows = [without(row, gone) for row in rows_of(fills)]
    assert compared(journal, rows, directory).equal
    for changed in mutations(rows):
        assert not compared(journal, changed, directory).equal
