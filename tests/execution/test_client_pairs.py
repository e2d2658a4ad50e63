"""Stop and target as single orders, where the server links none: sent once for what an entry has filled."""

from dataclasses import replace

import pytest
from actor_parts import NOW, RUN, ActorParts, make_order
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.execution.client_pairs import ClientPairs
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import ProtectionPolicy
from mia_daemon.execution.surplus_orders import SurplusOrders
from mia_daemon.records import Bracket, OrderRole, OrderStatus, Side

ENTRY = f"{RUN}-0E"


class Pairing(ActorParts):
    """An entry that was sent alone, with the stop and target planned for it."""

    def __init__(self, quantity=1, side=Side.BUY, *, active=True):
        super().__init__()
        manager = OrderManager(self.state, self.ports, self.breakers, client_pairs=active)
        self.pairs = ClientPairs(self.state, manager, active=active)
        policy = ProtectionPolicy(stop_ticks=16, surplus_ns=0)
        self.surplus = SurplusOrders(self.state, manager, self.breakers, policy)
        self.side = side
        self.bracket = Bracket(
            make_order(ENTRY, OrderRole.ENTRY, side, quantity),
            make_order(f"{RUN}-0S", OrderRole.STOP, side.opposite, quantity, 100.0 - side * 4, ENTRY),
            make_order(f"{RUN}-0T", OrderRole.TARGET, side.opposite, quantity, 100.0 + side * 6, ENTRY),
        )
        self.state.brackets["d1"] = self.bracket
        assert manager.send_bracket(self.bracket)
        self.entry = self.orders.get(ENTRY)
        self.report(self.entry, OrderStatus.WORKING)
        self.broker.orders.clear()
        self._parts = 0

    def fills(self, quantity):
        self._parts += 1
        self.orders.book(self.entry, self.fill(self.entry, quantity, execution_id=f"x{self._parts}"))
        self.hold(self.ledger.position + self.side * quantity)

    def work(self):
        """The orders sent then: role, side, quantity, price."""
        before = len(self.broker.orders)
        self.pairs.work(self.state.held)
        return [(order.role, order.side, order.quantity, order.price) for order in self.broker.orders[before:]]


def test_an_entry_is_journaled_and_sent_alone():
    parts = Pairing()
    assert parts.broker.sent == [("submit", ENTRY)]
    assert parts.journal.rows("intent") == [[(ENTRY,), NOW]]
    assert (len(parts.orders), parts.broker.orders_sent) == (1, 1)
    assert parts.work() == []  # nothing has filled


@pytest.mark.parametrize(("side", "stop", "target"), [(Side.BUY, 96.0, 106.0), (Side.SELL, 104.0, 94.0)])
def test_a_fill_gets_its_stop_and_target_once(side, stop, target):
    parts = Pairing(2, side)
    parts.fills(2)
    assert parts.work() == [
        (OrderRole.STOP, side.opposite, 2, stop),
        (OrderRole.TARGET, side.opposite, 2, target),
    ]
    assert {order.parent_id for order in parts.broker.orders} == {ENTRY}
    assert parts.work() == []


def test_the_stop_leaves_first():
    parts = Pairing()
    parts.fills(1)
    parts.work()
    assert [name[-1] for what, name in parts.broker.sent if what == "submit"] == ["E", "S", "T"]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4).filter(lambda some: sum(some) <= 5), st.data())
def test_an_entry_that_fills_in_parts_is_covered_whatever_is_looked_at_when(quantities, data):
    parts = Pairing(sum(quantities))
    for quantity in quantities:
        parts.fills(quantity)
        if data.draw(st.booleans()):
            parts.work()
    parts.work()
    assert parts.work() == []
    for role in (OrderRole.STOP, OrderRole.TARGET):
        assert sum(order.quantity for order in parts.broker.orders if order.role is role) == sum(quantities)
    names = [order.client_order_id for order in parts.broker.orders]
    assert len(set(names)) == len(names)


def test_the_pairs_of_an_entry_that_fills_in_parts_count_together_as_what_may_still_fill():
    parts = Pairing(3)
    for quantity in (1, 2):
        parts.fills(quantity)
        parts.work()
    assert parts.orders.exposure(Side.SELL) == 3  # the stops, or the targets


def another_entry(parts, number, quantity=1):
    """A later decision has added to the position."""
    name = f"{RUN}-9{number}E"
    first = parts.bracket
    parts.bracket = Bracket(
        replace(first.entry, client_order_id=name, quantity=quantity, decision_id=f"e{number}"),
        replace(first.stop, client_order_id=f"{RUN}-9{number}S", parent_id=name, price=97.0),
        replace(first.target, client_order_id=f"{RUN}-9{number}T", parent_id=name, price=107.0),
    )
    parts.state.brackets[f"e{number}"] = parts.bracket
    parts.entry = parts.orders.add(parts.bracket.entry)
    parts.orders.sent(parts.entry, NOW, NOW)
    parts.report(parts.entry, OrderStatus.WORKING)


def test_an_entry_that_adds_to_the_position_gets_its_own_pair():
    """The position is still that of the decision which opened it."""
    parts = Pairing()
    parts.fills(1)
    parts.work()
    another_entry(parts, 1, 2)
    parts.fills(2)
    assert [(role, quantity, price) for role, _, quantity, price in parts.work()] == [
        (OrderRole.STOP, 2, 97.0),
        (OrderRole.TARGET, 2, 107.0),
    ]
    assert parts.work() == []


def test_what_an_earlier_entry_filled_for_a_position_that_is_closed_gets_no_pair_later():
    """Its fill and the end of its position were reported at once."""
    parts = Pairing()
    parts.fills(1)
    parts.hold(0)
    another_entry(parts, 1)
    parts.fills(1)
    assert [(role, quantity, price) for role, _, quantity, price in parts.work()] == [
        (OrderRole.STOP, 1, 97.0),
        (OrderRole.TARGET, 1, 107.0),
    ]
    assert parts.work() == []


def test_what_a_stop_covers_already_gets_no_other():
    parts = Pairing()
    parts.fills(1)
    parts.place(OrderRole.STOP, state=OrderState.SENT)
    assert parts.work() == []


def test_where_the_server_links_orders_nothing_is_sent():
    parts = Pairing(active=False)
    assert parts.broker.sent == [("bracket", ENTRY)]
    parts.fills(1)
    assert parts.work() == []


def test_a_position_that_is_being_closed_gets_no_pair():
    parts = Pairing()
    parts.fills(1)
    parts.state.request_flatten("operator")
    assert parts.work() == []


def test_an_entry_that_is_closed_already_gets_no_pair():
    parts = Pairing()
    parts.fills(1)
    parts.hold(0)
    assert parts.work() == []


def test_a_position_that_no_planned_entry_opened_is_left_to_protection():
    parts = Pairing()
    parts.state.brackets.clear()
    parts.fills(1)
    assert parts.work() == []


def test_the_pair_is_sent_although_the_journal_is_dead():
    parts = Pairing()
    parts.fills(1)
    parts.journal.fails = {"all"}
    assert len(parts.work()) == 2


# The pair is kept here.


def pair_of(parts):
    """Stop and target, which work."""
    parts.work()
    stop, target = (parts.orders.with_role(role)[-1] for role in (OrderRole.STOP, OrderRole.TARGET))
    for entry in (stop, target):
        parts.report(entry, OrderStatus.WORKING)
    return stop, target


@pytest.mark.parametrize("role", [OrderRole.STOP, OrderRole.TARGET])
def test_when_one_order_fills_the_other_is_cancelled_at_once(role):
    parts = Pairing()
    parts.fills(1)
    pair = pair_of(parts)
    filled, other = pair if role is OrderRole.STOP else reversed(pair)
    parts.report(filled, OrderStatus.FILLED, filled=1)
    parts.orders.book(filled, parts.fill(filled, execution_id="c1"))
    parts.hold(0)
    before = len(parts.broker.sent)
    parts.surplus.work(parts.state.held)
    assert parts.broker.sent[before:] == [("cancel", other.client_order_id)]
    assert parts.latched == []


@given(st.integers(1, 4), st.data())
def test_when_one_order_fills_in_part_the_other_is_reduced_to_what_is_left(size, data):
    parts = Pairing(size + 1)
    parts.fills(size + 1)
    stop, target = pair_of(parts)
    filled = data.draw(st.integers(1, size))
    parts.report(target, OrderStatus.PARTIAL, filled=filled)
    parts.orders.book(target, parts.fill(target, filled, execution_id="c1"))
    parts.hold(size + 1 - filled)
    before = len(parts.broker.sent)
    parts.surplus.work(parts.state.held)
    assert parts.broker.sent[before:] == [("replace", stop.client_order_id, stop.price, size + 1 - filled)]
    assert stop.state is OrderState.WORKING  # it protects meanwhile
