"""Closing orders with nothing left to close, or too much of it, and pairs that the server does not link."""

import pytest
from actor_parts import NOW, ActorParts
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import ProtectionPolicy
from mia_daemon.execution.surplus_orders import SurplusOrders
from mia_daemon.records import OrderRole, OrderStatus, Priority, Side
from mia_daemon.risk.codes import RiskCode

GRACE = 1_000


class Watching(ActorParts):
    """A position at 100.00 / 100.25 and the orders that close it."""

    def __init__(self, quantity=1, surplus_ns=GRACE):
        super().__init__()
        if quantity:
            self.hold(quantity)
        policy = ProtectionPolicy(stop_ticks=16, surplus_ns=surplus_ns)
        self.surplus = SurplusOrders(self.state, self.order_manager, self.breakers, policy)

    def work(self, after=0):
        """What is sent then; `due_ns` is counted from the first moment."""
        self.after(after)
        before = len(self.broker.sent)
        due_ns = self.surplus.work(self.state.held)
        self.due_ns = due_ns - NOW if due_ns != NEVER_NS else NEVER_NS
        return self.broker.sent[before:]

    def pair(self, quantity=1, **more):
        """Stop and target of an entry that has filled."""
        entry = self.place(quantity=quantity)
        self.report(entry, OrderStatus.CANCELED)
        stop, target = (
            self.place(role, quantity=quantity, price=price, parent_id=entry.client_order_id, **more)
            for role, price in ((OrderRole.STOP, 96.0), (OrderRole.TARGET, 106.0))
        )
        return stop, target

    def fills(self, entry, quantity=1):
        """The server says that it filled, and the position is what is left."""
        self.report(entry, OrderStatus.FILLED if quantity == entry.quantity else OrderStatus.PARTIAL, filled=quantity)
        self.orders.book(entry, self.fill(entry, quantity, execution_id=f"x{entry.client_order_id}"))
        self.hold(self.ledger.position + entry.order.side * quantity)


@pytest.fixture
def parts():
    return Watching()


# Nothing left to close.


def test_flat_the_exits_of_a_bracket_are_cancelled_after_the_servers_time_to_do_so():
    parts = Watching(0)
    names = [parts.place(role, parent_id="K0E").client_order_id for role in (OrderRole.STOP, OrderRole.TARGET)]
    assert parts.work() == []
    assert parts.due_ns == GRACE
    assert parts.work(GRACE) == [("cancel", name) for name in names]
    assert parts.work(2 * GRACE) == []  # asked for once


def test_flat_a_stop_without_a_bracket_is_cancelled_at_once():
    """Nobody else would cancel it."""
    parts = Watching(0)
    stop = parts.place(OrderRole.STOP)
    assert parts.work() == [("cancel", stop.client_order_id)]


def test_what_the_server_cancels_in_time_is_not_cancelled_by_us():
    parts = Watching(0)
    stop = parts.place(OrderRole.STOP, parent_id="K0E")
    parts.work()
    parts.report(stop, OrderStatus.CANCELED)
    assert parts.work(1) == []
    parts.place(OrderRole.TARGET, parent_id="K0E")
    assert parts.work(GRACE) == []
    assert parts.due_ns == 2 * GRACE  # the time counts anew


def test_an_order_that_would_add_to_the_position_instead_of_closing_it_is_cancelled(parts):
    parts.place(OrderRole.STOP)
    wrong = parts.place(OrderRole.TARGET, Side.BUY, parent_id="K0E")
    parts.work()
    assert parts.work(GRACE) == [("cancel", wrong.client_order_id)]


@pytest.mark.parametrize("newest", ["ours", "the bracket's"])
def test_a_stop_beyond_the_position_is_cancelled_and_that_of_the_bracket_stays(parts, newest):
    first = parts.place(OrderRole.STOP, parent_id="" if newest == "the bracket's" else "K0E")
    second = parts.place(OrderRole.STOP, parent_id="" if newest == "ours" else "K0E")
    ours = second if newest == "ours" else first
    assert parts.work() == [("cancel", ours.client_order_id)]


def test_an_exit_at_work_is_no_stop_too_many(parts):
    parts.place(OrderRole.STOP, parent_id="K0E")
    ours = parts.place(OrderRole.STOP)
    parts.place(OrderRole.EXIT)
    assert parts.work() == [("cancel", ours.client_order_id)]


def test_as_many_stops_are_cancelled_as_are_too_many_the_newest_first():
    parts = Watching(2)
    parts.place(OrderRole.STOP, quantity=2)
    second, third = parts.place(OrderRole.STOP, quantity=2), parts.place(OrderRole.STOP, quantity=1)
    assert parts.work() == [("cancel", third.client_order_id), ("cancel", second.client_order_id)]


def test_a_stop_that_is_only_in_part_too_much_is_reduced():
    """Without it the position would be bare."""
    parts = Watching(3)
    _, newest = (parts.place(OrderRole.STOP, quantity=2, price=96.0) for _ in range(2))
    assert parts.work() == []
    assert parts.work(GRACE) == [("replace", newest.client_order_id, 96.0, 1)]
    assert parts.work(2 * GRACE) == []


@pytest.mark.parametrize("doubt", ["entry", "missing fill"])
def test_while_a_fill_may_be_on_its_way_nothing_is_too_much(doubt):
    parts = Watching(0)
    parts.place(OrderRole.STOP)
    entry = parts.place()
    if doubt == "missing fill":
        parts.report(entry, OrderStatus.FILLED, filled=1)
    assert parts.work() == parts.work(2 * GRACE) == []


# More to close than there is.


def test_a_stop_and_target_beyond_the_position_are_reduced_to_it(parts):
    """The rest would open a position on the other side. They had the server's time to be reduced by it."""
    stop, target = parts.pair(3)
    assert parts.work() == []
    assert parts.due_ns == GRACE
    assert parts.work(GRACE) == [
        ("replace", stop.client_order_id, 96.0, 1),
        ("replace", target.client_order_id, 106.0, 1),
    ]
    assert parts.work(2 * GRACE) == []  # while that is unanswered
    for entry in (stop, target):
        parts.report(entry, OrderStatus.REPLACED, quantity=1, price=entry.price)
    assert parts.work(3 * GRACE) == []
    assert parts.due_ns == NEVER_NS


def test_what_an_order_has_filled_counts_to_its_size():
    parts = Watching(4)
    stop, target = parts.pair(5)
    parts.fills(target, 2)
    parts.work()
    assert parts.work(GRACE) == [
        ("replace", stop.client_order_id, 96.0, 2),
        ("replace", target.client_order_id, 106.0, 4),  # two have filled, two are left
    ]


@pytest.mark.parametrize("why", ["the server replaces nothing", "it has refused to"])
def test_what_cannot_be_reduced_is_cancelled_and_a_stop_is_sent_anew_by_protection(parts, why):
    stop = parts.place(OrderRole.STOP, quantity=2, price=96.0)
    if why == "it has refused to":
        parts.report(stop, OrderStatus.REPLACE_REJECTED)
    else:
        parts.broker.replaces = False
    parts.work()
    assert parts.work(GRACE) == [("cancel", stop.client_order_id)]


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.HELD, OrderState.UNKNOWN])
def test_what_is_not_known_to_work_is_not_reduced(parts, state):
    parts.place(OrderRole.STOP, quantity=2, state=state)
    assert parts.work() == parts.work(2 * GRACE) == []


def test_while_the_entry_may_fill_further_its_pair_is_not_too_large(parts):
    entry = parts.place(quantity=2, state=OrderState.PARTIAL)
    parts.place(OrderRole.STOP, quantity=2, parent_id=entry.client_order_id)
    assert parts.work() == parts.work(2 * GRACE) == []


def test_while_a_fill_is_missing_nothing_is_reduced(parts):
    parts.place(OrderRole.STOP, quantity=2)
    parts.report(parts.place(OrderRole.TARGET), OrderStatus.FILLED, filled=1)
    assert parts.work() == parts.work(2 * GRACE) == []


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4))
def test_after_the_grace_no_closing_order_would_turn_the_position(held, size, filled):
    parts = Watching(held + min(filled, size))
    stop, target = parts.pair(size)
    if filled := min(filled, size):
        parts.fills(target, filled)
    parts.work()
    for what, name, *more in parts.work(GRACE):
        entry = parts.orders.get(name)
        if what == "replace":
            parts.report(entry, OrderStatus.REPLACED, price=more[0], quantity=more[1])
        else:
            parts.report(entry, OrderStatus.CANCELED)
    assert all(entry.open_quantity <= held for entry in (stop, target))
    assert stop.open_quantity == min(size, held)  # and no cover is given away


@given(st.integers(1, 4), st.lists(st.integers(1, 3), min_size=1, max_size=4), st.sampled_from([True, False]))
def test_all_stops_together_cover_the_position_and_no_more(held, sizes, replaces):
    """Those of brackets and our own, whatever of it has filled meanwhile."""
    parts = Watching(held)
    parts.broker.replaces = replaces
    for n, size in enumerate(sizes):
        if n % 2:
            parts.place(OrderRole.STOP, quantity=size, price=96.0)
        else:
            parts.pair(size)
    covered = parts.orders.protection(Side.SELL)
    for turn in range(3):
        for what, name, *more in parts.work(turn * GRACE):
            entry = parts.orders.get(name)
            if what == "replace":
                parts.report(entry, OrderStatus.REPLACED, price=more[0], quantity=more[1])
            else:
                parts.report(entry, OrderStatus.CANCELED)
    after = parts.orders.protection(Side.SELL)
    assert after <= held
    if replaces:
        assert after == min(covered, held)


def test_of_two_pairs_the_stop_whose_target_has_filled_is_cancelled_and_counts_as_unlinked():
    parts = Watching(3)
    pairs = [parts.pair() for _ in range(3)]
    for n, (stop, target) in enumerate(pairs[:2]):
        assert parts.latched == []
        parts.fills(target)
        assert parts.work(10 * n * GRACE) == []
        assert parts.work(10 * n * GRACE + GRACE) == [("cancel", stop.client_order_id)]
        parts.report(stop, OrderStatus.CANCELED)
        parts.work(10 * n * GRACE + GRACE + 1)
    assert parts.latched == [RiskCode.CONTRADICTED]
    assert all(entry.live for entry in pairs[2])


def test_what_is_cancelled_is_not_reduced_too():
    parts = Watching(2)
    larger = parts.place(OrderRole.STOP, quantity=3, price=96.0)
    smaller = parts.place(OrderRole.STOP, quantity=2, price=96.0)
    parts.work()
    parts.work(GRACE)
    assert parts.broker.sent == [("cancel", smaller.client_order_id), ("replace", larger.client_order_id, 96.0, 2)]


# Pairs that the server does not link.


def unlinked(parts, after):
    """A target fills, and the server leaves its stop working."""
    parts.after(after)
    parts.hold(1)
    stop, target = parts.pair()
    parts.fills(target)
    parts.work(after)
    assert parts.work(after + GRACE) == [("cancel", stop.client_order_id)]
    parts.report(stop, OrderStatus.CANCELED)
    parts.work(after + GRACE + 1)
    parts.breakers.announce()


def linked(parts, after):
    """A target fills, and the server cancels its stop in time."""
    parts.after(after)
    parts.hold(1)
    stop, target = parts.pair()
    parts.fills(target)
    parts.work(after)
    parts.report(stop, OrderStatus.CANCELED)
    assert parts.work(after + 1) == []


def test_two_pairs_in_a_row_left_unlinked_stop_new_risk_and_name_the_setting():
    parts = Watching(0)
    unlinked(parts, 0)
    assert parts.latched == []
    unlinked(parts, 10 * GRACE)
    assert parts.latched == [RiskCode.CONTRADICTED]
    alert = next(alert for alert in parts.alerts if alert.code == "pairs_not_linked")
    assert alert.priority is Priority.URGENT
    assert 'broker.brackets = "client"' in alert.text


def test_a_pair_that_is_linked_ends_the_row():
    parts = Watching(0)
    for n, what in enumerate((unlinked, linked, unlinked)):
        what(parts, 10 * n * GRACE)
    assert parts.latched == []


def test_where_the_pairs_are_ours_the_other_order_is_cancelled_at_once_and_that_says_nothing_of_the_server():
    parts = Watching(0, surplus_ns=0)
    for n in range(3):
        parts.hold(1)
        stop, target = parts.pair()
        parts.fills(target)
        assert parts.work(n * GRACE) == [("cancel", stop.client_order_id)]
        parts.report(stop, OrderStatus.CANCELED)
        parts.work(n * GRACE + 1)
    assert (parts.latched, parts.alerts) == ([], [])


def test_where_the_pairs_are_ours_a_part_of_one_order_reduces_the_other_at_once():
    parts = Watching(3, surplus_ns=0)
    stop, target = parts.pair(3)
    parts.fills(target, 1)
    assert parts.work() == [("replace", stop.client_order_id, 96.0, 2)]
