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


def working(orders, one=None, server="S1", status="working"):
    entry = orders.add(one or order())
    orders.sent(entry, 1)
    orders.apply_update(update(entry.client_order_id, status, server=server))
    return entry


def test_what_is_sent_awaits_its_answer_from_then_on():
    orders = WorkingOrders()
    entry = orders.add(order())
    orders.sent(entry, 7)
    assert (entry.history.sent_ns, entry.request.asked_ns, entry.state) == (7, 7, OrderState.SENT)
    orders.lose(entry)
    assert (entry.history.sent_ns, entry.request.asked_ns, orders.unanswered(10**9)) == (7, 0, [])


def test_an_update_without_our_name_is_found_by_the_servers_number():
    orders = WorkingOrders()
    entry = working(orders)
    assert orders.apply_update(update("", "canceled", ts=2)) is entry
    assert entry.state is OrderState.CANCELED


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


def test_a_cancel_that_tells_of_a_fill_leaves_it_missing_until_the_server_lists_it_nowhere():
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "canceled", ts=2, filled=1))
    assert (entry.fills.reported, entry.done, orders.missing_fills()) == (1, False, [entry])
    orders.apply_update(update("r-1E", "unknown_to_server", ts=3, unsolicited=False))
    assert (entry.fills.reported, entry.done, orders.missing_fills()) == (0, True, [])


def test_an_end_answers_all_that_was_asked():
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    orders.cancel_sent(entry, 3)
    orders.apply_fill(fill("r-1E", 2, "x1"))
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
        orders.apply_fill(fill("r-1S", 2, "x1", Side.SELL))
    assert (entry.fills.released, other.fills.released, stop.fills.released) == (True, False, False)


def test_entries_add_up_and_one_that_waits_for_nothing_counts_in_full():
    orders = WorkingOrders()
    working(orders)
    working(orders, order("r-2E", quantity=3), "S2", "accepted")
    working(orders, order("r-3E", Side.SELL, 4), "S3")
    assert (orders.exposure(Side.BUY), orders.exposure(Side.SELL)) == (5, 4)
    orders.apply_fill(fill("r-2E", 1, "x1"))
    assert orders.exposure(Side.BUY) == 4


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
    orders.sent(entry, 1)
    orders.apply_update(update("r-1E", "rejected", server="", ts=2))
    assert (orders.get("r-1E"), len(orders)) == (None, 0)
