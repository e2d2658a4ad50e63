"""What the book of working orders remembers of each, and what they add up to."""

import pytest

from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import Fill, Order, OrderReport, OrderRole, OrderStatus, OrderType, Side

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


def order(name="r-1E", side=Side.BUY, quantity=2, role=OrderRole.ENTRY, parent=""):
    return Order(name, SYMBOL, ACCOUNT, side, quantity, OrderType.LIMIT, role, "r-1", price=100.0, parent_id=parent)


def update(name, status, *, server="S1", ts=1, **facts):
    return OrderReport(ts, name, server, SYMBOL, ACCOUNT, OrderStatus(status), **facts)


def fill(name, quantity, execution, side=Side.BUY):
    return Fill(1, execution, name, "", SYMBOL, ACCOUNT, side, quantity, 100.0)


def book(orders, one):
    orders.book(orders.get(one.client_order_id), one)


def working(orders, one=None, server="S1", status="working"):
    entry = orders.add(one or order())
    orders.sent(entry, 1, 1)
    orders.apply_update(update(entry.client_order_id, status, server=server))
    return entry


def test_what_is_sent_awaits_its_answer_from_then_on():
    orders = WorkingOrders()
    entry = orders.add(order())
    orders.sent(entry, 7, 1007)  # event time, and our time, by which answers are awaited
    history = entry.history
    assert (history.sent_ns, history.sent_at_ns, entry.state) == (7, 1007, OrderState.SENT)
    assert (orders.unanswered(1006), orders.unanswered(1007)) == ([], [entry])
    orders.lose(entry)
    assert (history.sent_ns, history.sent_at_ns, orders.unanswered(10**9)) == (7, 1007, [])


def test_an_update_without_our_name_is_found_by_the_servers_number():
    orders = WorkingOrders()
    entry = working(orders)
    assert orders.apply_update(update("", "canceled", ts=2)) is entry
    assert entry.state is OrderState.CANCELED


@pytest.mark.parametrize("status", ["cancel_rejected", "replace_rejected"])
def test_a_refusal_under_an_earlier_number_leaves_the_order_and_its_number_as_they_are(status):
    orders = WorkingOrders()
    entry, other = working(orders), working(orders, order("r-2E"), "S7")
    orders.apply_update(update("r-1E", "replaced", ts=2, server="S2", price=101.0))
    orders.cancel_sent(entry, 3, 13)
    for number in ("S1", "S7", ""):
        orders.apply_update(update("r-1E", status, ts=4, server=number, price=55.0, quantity=9))
        assert (entry.server_order_id, entry.price, entry.quantity) == ("S2", 101.0, 2)
        assert (entry.state, entry.at_server) == (OrderState.WORKING, True)
    assert (other.server_order_id, orders.renumbered, orders.find("", "S7")) == ("S7", False, other)


def test_of_two_messages_of_one_moment_the_later_told_counts():
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "replaced", ts=5, price=101.0))
    orders.apply_update(update("r-1E", "replaced", ts=5, price=102.0))
    assert (entry.price, entry.history.updated_ns) == (102.0, 5)
    orders.apply_update(update("r-1E", "replaced", ts=4, price=103.0))
    assert (entry.price, entry.history.updated_ns) == (102.0, 5)


def test_filled_without_a_count_is_filled_entirely():
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "filled", ts=2))
    assert (entry.fills.reported, orders.missing_fills()) == (2, [entry])


@pytest.mark.parametrize(("filled", "reported"), [(1, 1), (2, 2), (3, 2), (2**31, 2)])
def test_no_more_counts_as_filled_than_the_order_is_for(filled, reported):
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "partial", ts=2, filled=filled))
    assert (entry.fills.reported, orders.exposure(Side.BUY)) == (reported, 2)


@pytest.mark.parametrize("status", ["canceled", "filled"])
def test_a_fill_reported_at_the_end_stays_missing_although_no_list_shows_it(status):
    """It is exposure until it is booked."""
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", status, ts=2, filled=1))
    orders.apply_update(update("r-1E", "unknown_to_server", ts=3, unsolicited=False))
    assert (entry.fills.reported, entry.done, orders.missing_fills()) == (1, False, [entry])
    assert orders.exposure(Side.BUY) == 1
    book(orders, fill("r-1E", 1, "x1"))
    assert (entry.done, orders.missing_fills(), orders.exposure(Side.BUY)) == (True, [], 0)


def test_an_end_answers_all_that_was_asked():
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    orders.cancel_sent(entry, 3, 13)
    book(orders, fill("r-1E", 2, "x1"))
    assert (entry.request.cancel_pending, entry.request.replace_pending, entry.request.asked_ns) == (False, False, 0)


@pytest.mark.parametrize("proof", ["working", "filled"])
def test_an_entry_is_released_by_the_first_sign_of_its_stop(proof):
    """It works, or it has filled before that was told: either way the entry has filled."""
    orders = WorkingOrders()
    entry, other = working(orders), working(orders, order("r-2E"), "S2")
    stop = working(orders, order("r-1S", Side.SELL, 2, OrderRole.STOP, "r-1E"), "S3", "accepted")
    assert not entry.fills.released
    if proof == "working":
        orders.apply_update(update("r-1S", "working", server="S3", ts=2))
    else:
        book(orders, fill("r-1S", 2, "x1", Side.SELL))
    assert (entry.fills.released, other.fills.released, stop.fills.released) == (True, False, False)


@pytest.mark.parametrize("status", ["accepted", "held"])
def test_an_entry_is_not_released_by_a_stop_that_waits(status):
    orders = WorkingOrders()
    entry = working(orders)
    working(orders, order("r-1S", Side.SELL, 2, OrderRole.STOP, "r-1E"), "S3", status)
    assert not entry.fills.released


def test_entries_add_up_and_one_that_waits_for_nothing_counts_in_full():
    orders = WorkingOrders()
    working(orders)
    working(orders, order("r-2E", quantity=3), "S2", "accepted")
    working(orders, order("r-3E", Side.SELL, 4), "S3")
    assert (orders.exposure(Side.BUY), orders.exposure(Side.SELL)) == (5, 4)
    book(orders, fill("r-2E", 1, "x1"))
    assert orders.exposure(Side.BUY) == 4


def test_of_the_stops_and_the_targets_of_an_entry_the_larger_sum_counts():
    """An entry that filled in parts has several of each."""
    orders = WorkingOrders()
    entry = working(orders)
    book(orders, fill("r-1E", 2, "x1"))
    for name, role in (("r-1S", OrderRole.STOP), ("r-2S", OrderRole.STOP), ("r-1T", OrderRole.TARGET)):
        working(orders, order(name, Side.SELL, 1, role, entry.client_order_id), name)
    assert orders.exposure(Side.SELL) == 2


@pytest.mark.parametrize("role", [OrderRole.ENTRY, OrderRole.STOP])
def test_a_lost_order_may_be_asked_to_change_again(role):
    orders = WorkingOrders()
    entry = working(orders, order(role=role))
    orders.replace_sent(entry, 2, 101.0)
    orders.cancel_sent(entry, 3, 13)
    orders.lose(entry)
    assert (entry.request.cancel_pending, entry.request.replace_pending, entry.request.asked_ns) == (False, False, 0)


def test_a_cancel_that_overtakes_a_replace_is_believed_once_the_replace_is_refused():
    """A stop fills while its target is moved: the server cancels the target, and then finds none to change."""
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    orders.apply_update(update("r-1E", "canceled", ts=3))
    assert entry.state is OrderState.UNKNOWN  # perhaps to be entered anew
    orders.apply_update(update("r-1E", "replace_rejected", server="", ts=4))
    assert entry.state is OrderState.CANCELED


def test_a_refused_replace_ends_no_order_that_was_entered_anew():
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    orders.apply_update(update("r-1E", "canceled", ts=3))
    orders.apply_update(update("r-1E", "working", server="S9", ts=4))
    orders.apply_update(update("r-1E", "replace_rejected", server="", ts=5))
    assert entry.state is OrderState.WORKING


def test_an_order_that_came_back_is_not_forgotten_with_those_that_ended():
    orders = WorkingOrders(keep_done=1)
    entry = working(orders)
    orders.apply_update(update("r-1E", "canceled", ts=2))
    orders.apply_update(update("r-1E", "working", ts=3, unsolicited=False))
    for n in (2, 3):
        working(orders, order(f"r-{n}E"), f"S{n}")
        orders.apply_update(update(f"r-{n}E", "canceled", server=f"S{n}", ts=4))
    assert orders.find("", "S1") is entry
    assert list(orders) == [entry]
    assert orders.get("r-2E") is None
    assert orders.get("r-3E") is not None  # the last one is kept


def test_an_order_whose_number_was_never_heard_is_forgotten_too():
    orders = WorkingOrders(keep_done=0)
    entry = orders.add(order())
    orders.sent(entry, 1, 1)
    orders.apply_update(update("r-1E", "rejected", server="", ts=2))
    assert (orders.get("r-1E"), len(orders)) == (None, 0)


# The server's numbers.


@pytest.mark.parametrize("ended", [True, False])
def test_a_number_that_another_order_of_ours_has_had_tells_that_the_servers_numbers_began_again(ended):
    orders = WorkingOrders()
    first = working(orders)
    if ended:
        orders.apply_update(update("r-1E", "canceled", ts=2))
    working(orders, order("r-2E"), "S2")
    assert not orders.renumbered
    second = working(orders, order("r-3E"), "S1")
    assert orders.renumbered
    assert orders.find("", "S1") is second
    assert orders.get("r-1E") is first


def test_a_number_told_again_of_its_order_is_no_new_beginning():
    orders = WorkingOrders()
    working(orders)
    orders.apply_update(update("r-1E", "replaced", server="S2", ts=2))
    orders.apply_update(update("r-1E", "working", server="S1", ts=3))  # late, under its earlier number
    orders.apply_update(update("r-1E", "working", server="", ts=4))
    assert not orders.renumbered


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, True),
        ({"name": "R-1"}, True),  # shortened, or in another case
        ({"name": "R-1E"}, True),
        ({"name": "r-1E2"}, False),
        ({"name": "hand"}, False),
        ({"side": Side.SELL}, False),
        ({"side": None}, False),
        ({"type": OrderType.STOP}, False),
        ({"type": None}, False),
        ({"quantity": 1}, False),
        ({"quantity": 0}, False),
        ({"price": 100.25}, False),
        ({"price": 100.1}, True),  # within half a tick
        ({"price": 0.0}, True),  # none told
    ],
)
def test_an_order_whose_number_is_not_known_is_found_by_all_its_values_and_the_beginning_of_its_name(facts, found):
    orders = WorkingOrders()
    entry = orders.add(order())
    orders.sent(entry, 1, 1)
    told = {"name": "", "side": Side.BUY, "type": OrderType.LIMIT, "quantity": 2, "price": 100.0} | facts
    report = update(told.pop("name"), "working", server="S9", **told)
    assert orders.find_by_values(report, 0.125) == ([entry] if found else [])
    orders.apply_update(update("r-1E", "working"))
    assert orders.find_by_values(report, 0.125) == []  # its number is known, and is another


def test_all_orders_are_found_that_the_values_fit():
    orders = WorkingOrders()
    entries = [orders.add(order(f"r-{n}E")) for n in (1, 2)]
    orders.add(order("r-3E", quantity=3))
    report = update("", "working", server="S9", side=Side.BUY, type=OrderType.LIMIT, quantity=2, price=100.0)
    assert orders.find_by_values(report, 0.125) == entries


# What has nothing left to do.


def test_when_the_position_is_closed_what_closes_it_is_surplus_unless_its_entry_may_still_fill():
    orders = WorkingOrders()
    open_entry = working(orders)
    waiting = working(orders, order("r-1S", Side.SELL, 2, OrderRole.STOP, "r-1E"), "S2")
    filled = working(orders, order("r-2E"), "S3")
    book(orders, fill("r-2E", 2, "x1"))
    left = working(orders, order("r-2T", Side.SELL, 2, OrderRole.TARGET, "r-2E"), "S4")
    alone = working(orders, order("r-4S", Side.SELL, 2, OrderRole.STOP), "S5")
    assert orders.surplus() == []
    orders.mark_surplus()
    assert orders.surplus() == [left, alone]
    assert not any(entry.history.surplus for entry in (open_entry, waiting, filled))
    orders.apply_update(update("r-2T", "canceled", server="S4", ts=2))
    assert orders.surplus() == [alone]
