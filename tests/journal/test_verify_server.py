"""What the server told, against what was booked: a difference is found, one that may still resolve is not."""

import pytest
from run_headers import run_header

from mia_daemon.clock import NS_PER_S
from mia_daemon.journal.verify_server import booked_as_told, position_as_told
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Fill, Order, OrderReport, OrderRole, OrderStatus, OrderType, PositionReport, Side

S = OrderStatus
START = 1_790_000_000 * NS_PER_S


class Told:
    """A journal with a run in which order o1, to buy 3, was intended."""

    def __init__(self, path):
        self.path = path
        self.journal = Journal(path, durable=False)
        self.begin()
        self.journal.record_intent(
            [Order("o1", "ES", "A", Side.BUY, 3, OrderType.LIMIT, OrderRole.ENTRY, "", 6000.0)], START
        )

    def begin(self, mode="paper"):
        self.run = self.journal.begin_run(run_header(START, mode))

    def update(self, status, filled=0, quantity=3):
        self.journal.record_update(OrderReport(START, "o1", "7", "ES", "A", status, quantity=quantity, filled=filled))

    def fill(self, execution, quantity, side=Side.BUY, account="A"):
        assert self.journal.record_fill(Fill(START, execution, "o1", "7", "ES", account, side, quantity, 6000.0))

    def position(self, quantity, symbol="ES", account="A"):
        self.journal.record_position(PositionReport(START, symbol, account, quantity, 6000.0))

    def go_on(self, seconds):
        for now_s in (0, seconds):
            self.journal.record_equity(START + now_s * NS_PER_S, 1.0, 1.0, 0, 0.0, 0.0)

    def end(self, how="stop"):
        self.journal.end_run(self.run, START, how)

    def found(self, check):
        self.journal.commit()
        with JournalView(self.path) as view:
            return list(check(view))


@pytest.fixture
def told(tmp_path):
    made = Told(tmp_path / "paper.db")
    yield made
    made.journal.close()


def ended_as(status, told, booked):
    return [f"order o1 ended as {status}, the server told {told} filled, its fills make {booked}"]


@pytest.mark.parametrize(
    ("updates", "booked", "finding"),
    [
        ([(S.WORKING, 0), (S.FILLED, 3)], 3, []),
        ([(S.FILLED, 0)], 3, []),  # its quantity counts where none is told
        ([(S.FILLED, 0)], 2, ended_as("filled", 3, 2)),
        ([(S.PARTIAL, 1), (S.FILLED, 3)], 2, ended_as("filled", 3, 2)),
        ([(S.PARTIAL, 1), (S.FILLED, 3)], 0, ended_as("filled", 3, 0)),
        ([(S.PARTIAL, 1), (S.CANCELED, 0)], 1, []),  # the largest told
        ([(S.PARTIAL, 2), (S.CANCELED, 0)], 1, ended_as("canceled", 2, 1)),
        ([(S.PARTIAL, 1), (S.CANCELED, 1)], 2, ended_as("canceled", 1, 2)),
        ([(S.PARTIAL, 1), (S.REJECTED, 1)], 2, ended_as("rejected", 1, 2)),
        ([(S.PARTIAL, 1), (S.CANCELED, 1), (S.CANCEL_REJECTED, 0)], 2, ended_as("canceled", 1, 2)),
        ([(S.CANCELED, 0)], 1, []),  # a server that never tells a quantity
        ([(S.PARTIAL, 1), (S.UNKNOWN_TO_SERVER, 0)], 2, []),  # not a figure of the server
        ([(S.PARTIAL, 1)], 3, []),  # it goes on
        ([(S.FILLED, 1), (S.PARTIAL, 1)], 2, []),
        ([], 2, []),
    ],
)
def test_an_order_that_ended_is_booked_as_the_server_told(told, updates, booked, finding):
    for status, filled in updates:
        told.update(status, filled)
    for number in range(booked):
        told.fill(f"x{number}", 1)
    told.end()
    assert told.found(booked_as_told) == finding


def test_an_order_made_smaller_has_filled_with_what_is_left(told):
    told.update(S.REPLACED, quantity=2)
    told.update(S.FILLED, quantity=0)
    told.fill("x", 2)
    told.end()
    assert told.found(booked_as_told) == []


def test_an_execution_that_may_be_on_its_way_is_not_missed_yet(told):
    told.fill("x", 1)
    told.update(S.FILLED, 3)
    assert told.found(booked_as_told) == []
    told.go_on(59)
    assert told.found(booked_as_told) == []
    told.begin()  # it was killed
    told.go_on(59)
    told.end()
    assert told.found(booked_as_told) == []
    told.begin()
    told.go_on(60)
    assert told.found(booked_as_told) == ended_as("filled", 3, 1)


def test_one_execution_too_many_is_found_at_once(told):
    told.update(S.FILLED, 1)
    told.fill("x", 1)
    told.fill("y", 1)
    assert told.found(booked_as_told) == ended_as("filled", 1, 2)


def differs(told, booked):
    return f"says position {told:+d} in ES, account A, the fills before it make {booked:+d}"


def test_the_position_that_the_server_told_last_is_that_of_the_fills(told):
    told.fill("x", 2)
    told.position(5)
    told.position(2)
    told.end()
    assert told.found(position_as_told) == []
    told.begin()
    told.position(4)
    told.end()
    (finding,) = told.found(position_as_told)
    assert finding.endswith(differs(4, 2))


def test_a_position_without_any_fill_on_file_is_found(told):
    """As where every execution was dropped."""
    told.position(46)
    told.end()
    (finding,) = told.found(position_as_told)
    assert finding.endswith(differs(46, 0))


def test_a_position_told_before_the_last_fill_is_out_of_date(told):
    told.position(7)
    told.fill("x", 1)
    told.end()
    assert told.found(position_as_told) == []


@pytest.mark.parametrize(("symbol", "account"), [("NQ", "A"), ("ES", "B")])
def test_what_is_not_traded_here_is_not_compared(told, symbol, account):
    told.position(7, symbol, account)
    told.end()
    assert told.found(position_as_told) == []


def test_positions_of_two_accounts_are_compared_each_with_its_own(told):
    told.fill("x", 1)
    told.fill("y", 2, account="B")
    told.position(2, account="B")
    told.position(2)
    told.end()
    (finding,) = told.found(position_as_told)
    assert finding.endswith(differs(2, 1))


@pytest.mark.parametrize("how", ["killed", "failed: the disk is full", None])
def test_a_position_told_in_the_last_moments_of_a_run_proves_nothing(told, how):
    """The fill behind it may not have arrived; if it did not within a minute, it is missing."""
    told.fill("x", 1)
    told.position(2)
    told.go_on(59)
    if how:
        told.end(how)
    assert told.found(position_as_told) == []
    told.go_on(60)
    (finding,) = told.found(position_as_told)
    assert finding.endswith(differs(2, 1))


def test_a_fill_that_a_restart_finds_explains_the_position(told):
    told.position(2)
    told.begin()
    told.fill("x", 2)
    told.go_on(100)
    told.end()
    assert told.found(position_as_told) == []


def test_each_replay_starts_flat(told):
    told.end()
    told.begin("replay")
    told.fill("x", 2)
    told.position(2)
    told.end()
    told.begin("replay")
    told.position(0)
    told.end()
    assert told.found(position_as_told) == []
    told.begin("replay")
    told.position(1)  # and it was killed: a later replay says nothing about it
    told.begin("replay")
    told.go_on(100)
    told.end()
    assert told.found(position_as_told) == []
