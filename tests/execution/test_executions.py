"""Which contracts are booked: each once, however a server numbers, repeats, loses or reorders its two lists."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from actor_parts import make_fill
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.execution.executions import OrderFills
from mia_daemon.records import FillSource


def told(execution_id="x1", quantity=1, price=100.0, filled=0):
    """An execution told with an update of its order."""
    return make_fill("K1E", execution_id, quantity=quantity, price=price, filled=filled)


def listed(execution_id="x1", quantity=1, price=100.0):
    """An execution in a list of past ones."""
    return make_fill("", execution_id, quantity=quantity, price=price, source=FillSource.HISTORY)


def hear(fills, fill, size=5):
    """Book what is new of an execution told with an update; the contracts booked."""
    part = fills.from_update(fill, size)
    if part is not None:
        fills.add(part)
    return part.quantity if part is not None else 0


def ask(fills, *executions, limit=5):
    """Book what is missing by a list of past executions; the contracts booked."""
    before = fills.booked
    for part in fills.from_history(executions, limit):
        fills.add(part)
    return fills.booked - before


def restarted(fills, original):
    """As it is after a restart: from the fills in the journal, which keeps no cumulative quantities."""
    journal = [
        replace(original, execution_id=one.execution_id, quantity=one.quantity, price=one.price, source=one.source)
        for one in fills.executions
    ]
    return OrderFills.restored(journal, fills.reported)


# Updates.


@pytest.mark.parametrize("filled", [(1, 2), (0, 0)], ids=["cumulative quantity told", "not told"])
def test_an_execution_told_again_with_an_update_is_booked_once(filled):
    fills = OrderFills()
    first, second = told("x1", filled=filled[0]), told("x2", filled=filled[1])
    assert [hear(fills, one) for one in (first, first, second, first, second)] == [1, 0, 1, 0, 0]
    assert (fills.booked, fills.missing) == (2, 0)


def test_equal_executions_without_ids_are_told_apart_by_what_has_filled_by_then():
    fills = OrderFills()
    assert [hear(fills, told("", filled=n)) for n in (1, 2, 1, 2, 3)] == [1, 1, 0, 0, 1]


def test_equal_executions_under_one_id_are_told_apart_by_what_has_filled_by_then():
    """A server whose numbers began again."""
    fills = OrderFills()
    assert [hear(fills, told("x1", filled=n)) for n in (1, 2, 2)] == [1, 1, 0]
    assert len({one.execution_id for one in fills.executions}) == 2


def test_without_id_and_cumulative_quantity_equal_executions_are_one_until_the_list_tells_how_many():
    fills = OrderFills()
    assert [hear(fills, told("")), hear(fills, told(""))] == [1, 0]
    assert ask(fills, listed(""), listed("")) == 1


@pytest.mark.parametrize(("size", "booked"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_no_more_is_booked_than_the_order_is_for(size, booked):
    fills = OrderFills()
    assert hear(fills, told("x1", 3), size) == booked


def test_no_more_is_booked_than_the_server_has_reported_as_filled():
    """The quantity of an execution contradicts what has filled by then."""
    fills = OrderFills()
    assert hear(fills, told("x1", 3, filled=2)) == 2
    assert (fills.booked, fills.reported) == (2, 2)


def test_what_was_filled_by_then_and_is_not_told_is_missing():
    fills = OrderFills()
    hear(fills, told("x2", 1, filled=3))
    assert (fills.booked, fills.reported, fills.missing) == (1, 3, 2)
    assert hear(fills, told("x1", 2, filled=2)) == 2
    assert fills.missing == 0


# The two lists.


@pytest.mark.parametrize("execution_id", ["x1", "h77", ""], ids=["same id", "another id", "no id"])
@pytest.mark.parametrize("filled", [2, 0], ids=["cumulative quantity told", "not told"])
@pytest.mark.parametrize("first", ["update", "list"])
def test_an_execution_of_both_lists_is_booked_once(execution_id, filled, first):
    fills = OrderFills()
    with_update, in_list = told("x1", 2, filled=filled), listed(execution_id, 2)
    if first == "update":
        assert (hear(fills, with_update), ask(fills, in_list)) == (2, 0)
    else:
        assert (ask(fills, in_list), hear(fills, with_update)) == (2, 0)
    assert (ask(fills, in_list), hear(fills, with_update)) == (0, 0)
    assert fills.booked == 2


def test_the_list_adds_what_no_update_told():
    fills = OrderFills()
    hear(fills, told("x2", 1, 100.25))
    assert ask(fills, listed("h1", 2), listed("h2", 1, 100.25)) == 2
    assert [(one.quantity, one.price) for one in fills.executions] == [(1, 100.25), (2, 100.0)]


def test_an_id_listed_twice_counts_once_and_executions_without_ids_are_as_many_as_are_listed():
    fills = OrderFills()
    assert ask(fills, listed("h1"), listed("h1")) == 1
    assert ask(fills, listed(""), listed("")) == 1


def test_a_list_numbered_anew_with_each_answer_adds_nothing_twice():
    fills = OrderFills()
    assert ask(fills, listed("q1-1", 2), listed("q1-2", 1)) == 3
    assert ask(fills, listed("q2-1", 2), listed("q2-2", 1)) == 0


def test_the_list_books_no_more_than_the_order_can_have_filled():
    fills = OrderFills()
    assert ask(fills, listed("h1", 2), listed("h2", 2), limit=3) == 3
    assert ask(fills, listed("h1", 2), listed("h2", 2), limit=4) == 1


def test_an_update_after_the_list_booked_a_part_of_it_adds_the_rest_only():
    """The open order was listed before its execution, the executions after it."""
    fills = OrderFills()
    assert ask(fills, listed("h1", 2), limit=1) == 1
    assert hear(fills, told("x1", 2)) == 1
    assert fills.booked == 2


def test_an_update_that_tells_more_than_is_missing_does_not_book_again_what_the_list_booked_in_part():
    """The list lacks an execution, so a part of the other one counts as what is missing."""
    fills = OrderFills()
    hear(fills, told("x0", 1, filled=1))
    assert ask(fills, listed("h3", 2), limit=5) == 1
    assert hear(fills, told("x3", 2, filled=5)) == 1
    assert fills.missing == 2


# Restarts.


@pytest.mark.parametrize("execution_id", ["x1", ""], ids=["with an id", "without"])
@pytest.mark.parametrize("filled", [1, 0], ids=["cumulative quantity told", "not told"])
@pytest.mark.parametrize("first", ["update", "list"])
def test_an_execution_that_an_earlier_run_booked_is_booked_by_no_update(execution_id, filled, first):
    """Another one is missing, so that there would be room for it."""
    fills = OrderFills(reported=3)
    if first == "update":
        hear(fills, told(execution_id, 1, filled=filled))
    else:
        ask(fills, listed(execution_id, 1), limit=1)
    fills = restarted(fills, told())
    assert (hear(fills, told(execution_id, 1, filled=filled)), fills.booked, fills.missing) == (0, 1, 2)
    assert ask(fills, listed("h1", 1), listed("h2", 2)) == 2


def test_a_new_execution_after_a_restart_is_booked_at_once_where_the_server_gives_ids():
    fills = OrderFills()
    hear(fills, told("x1", 1))
    fills = restarted(fills, told())
    assert hear(fills, told("x2", 1)) == 1


# Names.


def test_every_fill_of_an_order_has_a_name_of_its_own():
    fills = OrderFills()
    for one in (told("", filled=1), told("x1", filled=2), told("x1", filled=3), told("", filled=4)):
        hear(fills, one)
    ask(fills, *(listed("x1") for _ in range(9)), listed("", 1, 100.25), limit=5)
    names = [one.execution_id for one in fills.executions]
    assert (len(set(names)), all(names)) == (len(names), True)


# What no list shows.


def at_average(fills, price=0.0):
    part = fills.at_average(make_fill("K1E", "", price=price, source=FillSource.AVERAGE))
    fills.add(part)
    return part


def test_what_no_list_shows_is_booked_at_the_price_that_makes_the_reported_average():
    fills = OrderFills(reported=3, average=101.0)
    hear(fills, told("x1", 1, 100.0))
    part = at_average(fills, 99.0)
    assert (part.quantity, part.price, part.source) == (2, 101.5, FillSource.AVERAGE)
    assert fills.missing == 0


def test_without_a_reported_average_it_is_booked_at_the_price_given():
    fills = OrderFills(reported=3)
    assert (at_average(fills, 99.0).price, fills.booked) == (99.0, 3)


def test_an_average_that_does_not_fit_what_is_known_is_taken_as_it_is():
    fills = OrderFills(reported=2, average=50.0)
    hear(fills, told("x1", 1, 100.0))
    assert at_average(fills, 99.0).price == 50.0


@pytest.mark.parametrize("filled", [2, 0], ids=["cumulative quantity told", "not told"])
def test_an_execution_that_comes_after_it_was_booked_at_the_average_adds_nothing(filled):
    fills = OrderFills(reported=2, average=100.0)
    at_average(fills)
    assert hear(fills, told("x1", 2, 100.25, filled=filled)) == 0
    assert ask(fills, listed("h1", 2, 100.25)) == 0
    assert fills.booked == 2


# How long it is missing.


def test_what_is_missing_is_no_longer_awaited_once_it_is_booked():
    fills = OrderFills(reported=2, missing_since_ns=7, snapshots=1)
    hear(fills, told("x1", 1))
    assert (fills.missing_since_ns, fills.snapshots) == (7, 1)
    hear(fills, told("x2", 1))
    assert (fills.missing_since_ns, fills.snapshots) == (0, 0)


# Whatever is told.


@dataclass(frozen=True)
class Habits:
    """How a server numbers its executions.

    Attributes:
        ids: of executions told with updates: "own" unique ones, "none", or "again": two for all, numbered anew.
        counts: the cumulative filled quantity is told with them.
        listed_ids: of those in the list: "same", "other", "none", or "anew" with each answer.
    """

    ids: str
    counts: bool
    listed_ids: str


class Server:
    """What really was executed of one order, and what is told of it; shares nothing with the code under test."""

    def __init__(self, executions, size, habits):
        self.executions, self.size, self.habits = executions, size, habits
        self.answers = 0

    @property
    def filled(self):
        return sum(quantity for quantity, _ in self.executions)

    def update(self, n):
        quantity, price = self.executions[n]
        filled = sum(quantity for quantity, _ in self.executions[: n + 1]) if self.habits.counts else 0
        return told({"own": f"x{n}", "none": "", "again": f"x{n % 2}"}[self.habits.ids], quantity, price, filled)

    def answer(self, which):
        self.answers += 1
        names = {"same": "x{0}", "other": "h{0}", "none": "", "anew": "q{1}-{0}"}[self.habits.listed_ids]
        return [listed(names.format(n, self.answers), *self.executions[n]) for n in which]


HABITS = st.builds(
    Habits,
    ids=st.sampled_from(["own", "none", "again"]),
    counts=st.booleans(),
    listed_ids=st.sampled_from(["same", "other", "none", "anew"]),
).filter(lambda habits: habits.counts or habits.ids != "again")  # no one could tell those apart
EXECUTIONS = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([100.0, 100.25])), min_size=1, max_size=5)


@st.composite
def histories(draw):
    """A server, and in what order which of its executions are told: by update, in a list, or after a restart."""
    executions = draw(EXECUTIONS)
    filled = sum(quantity for quantity, _ in executions)
    server = Server(executions, filled + draw(st.integers(0, 2)), draw(HABITS))
    one = st.integers(0, len(executions) - 1)
    update = st.tuples(st.just("update"), one)
    subset = st.lists(one, unique=server.habits.listed_ids == "none", max_size=8)
    answer = st.tuples(st.just("list"), subset, st.sampled_from([server.size, filled]) | st.integers(0, filled))
    steps = st.lists(st.one_of(update, update, answer, st.just(("restart",))), max_size=14)
    return server, draw(steps)


def play(server, steps):
    """Yields, after each step, the fills and the numbers of the executions told so far.

    After a restart a part of an execution can't be told from a whole one, so no restart follows a part.
    """
    fills, known, parts = OrderFills(), set(), False
    for step in steps:
        match step:
            case ("update", n):
                known.add(n)
                hear(fills, server.update(n), server.size)
            case ("list", which, limit):
                known |= set(which)
                ask(fills, *server.answer(which), limit=limit)
            case _ if not parts:
                fills = restarted(fills, told())
        booked = Counter((one.quantity, one.price) for one in fills.executions)
        parts = bool(booked - Counter(server.executions))
        yield fills, known


def quantity_of(server, known):
    return sum(server.executions[n][0] for n in known)


@given(histories())
@settings(max_examples=600)
def test_whatever_is_told_no_execution_is_booked_twice_and_never_more_than_was_told(history):
    server, steps = history
    for fills, known in play(server, steps):
        assert fills.booked <= quantity_of(server, known) <= server.filled <= server.size
        assert fills.booked == sum(one.quantity for one in fills.executions)
        assert len({one.execution_id for one in fills.executions}) == len(fills.executions)


@given(histories())
@settings(max_examples=600)
def test_once_the_complete_list_and_the_filled_quantity_are_told_what_is_booked_is_the_truth(history):
    server, steps = history
    fills = OrderFills()
    for fills, _ in play(server, steps):  # noqa: B007  the last one is used
        pass
    fills.reported = max(fills.reported, server.filled)  # an update of the order, or its end
    ask(fills, *server.answer(range(len(server.executions))), limit=server.filled)
    assert (fills.booked, fills.missing) == (server.filled, 0)
    for n in range(len(server.executions)):
        assert hear(fills, server.update(n), server.size) == 0


@given(EXECUTIONS, HABITS.filter(lambda habits: habits.counts or habits.ids == "own"), st.data())
@settings(max_examples=300)
def test_updates_alone_in_any_order_and_repeated_book_the_truth_at_its_prices(executions, habits, data):
    server = Server(executions, sum(quantity for quantity, _ in executions), habits)
    numbers = data.draw(st.permutations([*range(len(executions))] * 2))
    fills = OrderFills()
    for n in numbers:
        hear(fills, server.update(n), server.size)
    booked = Counter((one.quantity, one.price) for one in fills.executions)
    assert booked == Counter(executions)


@given(EXECUTIONS, HABITS, st.data())
@settings(max_examples=300)
def test_the_complete_list_alone_books_the_truth_at_its_prices(executions, habits, data):
    server = Server(executions, sum(quantity for quantity, _ in executions), habits)
    which = data.draw(st.permutations(range(len(executions))))
    fills = OrderFills()
    ask(fills, *server.answer(which), limit=server.size)
    assert Counter((one.quantity, one.price) for one in fills.executions) == Counter(executions)
