"""Round trips are found in the fills alone, and each bears the name its trade was, or will be, booked under."""

import math
from contextlib import closing
from fractions import Fraction

import pytest
from run_headers import run_header

from mia_daemon.journal.trips import names, paired, trips
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Fill, Order, OrderRole, OrderType, RegimeProbs, Side, Trade

SYMBOL = "ESZ26_FUT_CME"


@pytest.fixture
def journal(tmp_path):
    with closing(Journal(tmp_path / "paper.db", durable=False)) as opened:
        begin(opened)
        yield opened


def begin(journal, mode="paper"):
    journal.begin_run(run_header(mode=mode))


def filled(journal, *fills, symbol=SYMBOL, account="Sim1", decision="d1"):
    """(contracts, signed, and price), each a second later, all of them by one order."""
    count = journal._db.execute("SELECT COUNT(*) FROM fills").fetchone()[0]
    name = f"{decision}E" if decision else ""
    if decision and not journal.has_intent(name):
        order = Order(name, symbol, account, Side.BUY, 99, OrderType.LIMIT, OrderRole.ENTRY, decision, 1.0)
        journal.record_intent([order], 1)
    for n, (contracts, price) in enumerate(fills, count + 1):
        side = Side.BUY if contracts > 0 else Side.SELL
        journal.record_fill(Fill(n, f"x{n}", name, "s", symbol, account, side, abs(contracts), price))


def found_in(journal):
    with JournalView(journal.path) as view:
        return trips(view)


def executions(trip):
    return [fill["execution_id"] for fill in trip.fills]


def booked(name, trip, side=Side.BUY):
    """The trade of a trip."""
    return Trade(
        name, trip.symbol, side, trip.largest, trip.opened_ns, trip.closed_ns, trip.entries.average_price,
        trip.exits.average_price, 0.0, 0.0, RegimeProbs(0, 0, 0), trip.decision_id, "signal",
    )  # fmt: skip


def test_a_trip_adds_up_what_entered_and_what_left(journal):
    filled(journal, (2, 100.0), (1, 103.0), (-1, 104.0), (-2, 107.0))
    (trip,) = found_in(journal)
    assert (trip.entries.contracts, trip.traded, trip.largest, trip.position, trip.open) == (3, 6, 3, 0, False)
    assert (trip.entries.average_price, trip.exits.average_price, trip.cash) == (101.0, 106.0, Fraction(15))
    assert (trip.opened_ns, trip.closed_ns, trip.side, trip.decision_id) == (1, 4, 1, "d1")
    assert executions(trip) == ["x1", "x2", "x3", "x4"]


def test_a_position_taken_in_and_out_is_one_trip_at_its_largest(journal):
    filled(journal, (-1, 100.0), (-2, 99.0), (2, 98.0), (-1, 97.0), (2, 96.0))
    (trip,) = found_in(journal)
    assert (trip.largest, trip.entries.contracts, trip.side, trip.cash) == (3, 4, -1, Fraction(7))
    assert (trip.entries.average_price, trip.exits.average_price) == (98.75, 97.0)


def test_a_fill_that_crosses_zero_ends_one_trip_and_opens_the_next(journal):
    filled(journal, (2, 100.0), (-5, 101.0))
    first, second = found_in(journal)
    assert (first.closed_ns, first.exits.average_price, first.traded, first.open) == (2, 101.0, 4, False)
    assert (second.side, second.position, second.entries.contracts, second.open) == (-1, -3, 3, True)
    assert (second.opened_ns, second.closed_ns) == (2, 0)
    assert math.isnan(second.exits.average_price)
    assert executions(first) == ["x1", "x2"]
    assert executions(second) == ["x2"]


def test_contracts_accounts_and_replays_are_kept_apart(journal):
    filled(journal, (1, 100.0))
    filled(journal, (-1, 50.0), symbol="NQZ26_FUT_CME", decision="d2")
    filled(journal, (-1, 101.0), account="Sim2", decision="d3")
    begin(journal)  # a restart goes on with the position
    filled(journal, (1, 102.0))
    begin(journal, mode="replay")  # a replay has one of its own
    filled(journal, (-1, 103.0))
    begin(journal, mode="replay")
    filled(journal, (-1, 104.0))
    known = [(trip.symbol[:2], trip.account, trip.position) for trip in found_in(journal)]
    assert known == [("ES", "Sim1", 2), ("NQ", "Sim1", -1), ("ES", "Sim2", -1), ("ES", "Sim1", -1), ("ES", "Sim1", -1)]


def test_each_trip_is_paired_with_the_trade_of_its_contract_side_and_time(journal):
    filled(journal, (1, 100.0), (-1, 101.0), (-1, 101.0), (1, 100.0), (1, 100.0))
    long, short, still = found_in(journal)
    trades = [booked("s", short, Side.SELL), booked("l", long), booked("made up", still)]
    pairs = list(paired([long, short, still], [trades[0], trades[1]]))
    assert pairs == [(long, trades[1]), (short, trades[0]), (still, None)]
    assert list(paired([long], trades[:2])) == [(long, trades[1]), (None, trades[0])]
    other = booked("other side", long, Side.SELL)
    assert list(paired([long], [other])) == [(long, None), (None, other)]
    twice = [booked("a", long), booked("b", long)]
    assert list(paired([long], twice)) == [(long, twice[0]), (None, twice[1])]


def test_a_closed_trip_is_called_as_its_trade_and_one_whose_trade_is_lost_not_at_all(journal):
    filled(journal, (1, 100.0), (-1, 101.0), (1, 102.0), (-1, 103.0))
    first, second = found_in(journal)
    trade, made_up = booked("d1", first), booked("x", second, Side.SELL)
    assert list(names(paired([first, second], [trade, made_up]))) == [("d1", first)]


def test_an_open_trip_is_called_as_its_trade_will_be(journal):
    """Numbered where the decision has made a trip already, as late fills after a stop do."""
    filled(journal, (1, 100.0), (-1, 101.0), (1, 102.0), (-1, 103.0), (1, 104.0))
    first, second, still = found_in(journal)
    given = [booked("d1", first), booked("d1.2", second)]
    assert dict(names(paired([first, second, still], given)))["d1.3"] is still
    assert dict(names(paired([first, second, still], given[:1])))["d1.2"] is still
    assert dict(names(paired([still], [])))["d1"] is still


def test_a_trip_of_nobodys_is_called_by_its_time(journal):
    filled(journal, (1, 100.0), decision="")
    (trip,) = found_in(journal)
    assert (trip.decision_id, list(names([(trip, None)]))) == ("", [("foreign-1", trip)])


def test_a_fill_without_a_price_belongs_to_no_trip(journal):
    filled(journal, (1, 100.0), (-1, math.inf), (-1, 101.0))
    (trip,) = found_in(journal)
    assert executions(trip) == ["x1", "x3"]
