"""What the book of working orders remembers of each, and what they add up to."""

import pytest

from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import Fill, Order, OrderRole, OrderStatus, OrderType, OrderUpdate, Side

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


def order(name="r-1E", side=Side.BUY, quantity=2, role=OrderRole.ENTRY, parent=""):
    return Order(name, SYMBOL, ACCOUNT, side, quantity, OrderType.LIMIT, role, "r-1", price=100.0, parent_id=parent)


def update(name, status, *, server="S1", ts=1, **facts):
    return OrderUpdate(ts, name, server, SYMBOL, ACCOUNT, OrderStatus(status), **facts)


def fill(name, quantity, execution, side=Side.BUY):
    return Fill(1, execution, name, "", SYMBOL, ACCOUNT, side, quantity, 100.0)


def working(book, one=None, server="S1", status="working"):
    entry = book.add(one or order())
    book.sent(entry, 1)
    book.update(update(entry.client_order_id, status, server=server))
    return entry


def test_what_is_sent_awaits_its_answer_from_then_on():
    book = WorkingOrders()
    entry = book.add(order())
    book.sent(entry, 7)
    assert (entry.sent_ns, entry.asked_ns, entry.state) == (7, 7, OrderState.SENT)
    book.lose(entry)
    assert (entry.sent_ns, entry.asked_ns, book.unanswered(10**9)) == (7, 0, [])


def test_an_update_without_our_name_is_found_by_the_servers_number():
    book = WorkingOrders()
    entry = working(book)
    assert book.update(update("", "canceled", ts=2)) is entry
    assert entry.state is OrderState.CANCELED


def test_of_two_messages_of_one_moment_the_later_told_counts():
    book = WorkingOrders()
    entry = working(book)
    book.update(update("r-1E", "replaced", ts=5, price=101.0, text="first"))
    book.update(update("r-1E", "replaced", ts=5, price=102.0))
    assert (entry.price, entry.text, entry.updated_ns) == (102.0, "first", 5)
    book.update(update("r-1E", "canceled", ts=6, text="last"))
    assert entry.text == "last"


def test_filled_without_a_count_is_filled_entirely():
    book = WorkingOrders()
    entry = working(book)
    book.update(update("r-1E", "filled", ts=2))
    assert (entry.reported, book.missing_fills()) == (2, [entry])


def test_a_cancel_that_tells_of_a_fill_leaves_it_missing_until_the_server_lists_it_nowhere():
    book = WorkingOrders()
    entry = working(book)
    book.update(update("r-1E", "canceled", ts=2, filled=1))
    assert (entry.reported, entry.done, book.missing_fills()) == (1, False, [entry])
    book.update(update("r-1E", "unknown_to_server", ts=3, unsolicited=False))
    assert (entry.reported, entry.done, book.missing_fills()) == (0, True, [])


def test_an_end_answers_all_that_was_asked():
    book = WorkingOrders()
    entry = working(book)
    book.replace_sent(entry, 2, 101.0)
    book.cancel_sent(entry, 3)
    book.fill(fill("r-1E", 2, "x1"))
    assert (entry.cancel_pending, entry.replace_pending, entry.asked_ns) == (False, False, 0)


@pytest.mark.parametrize("proof", ["working", "filled"])
def test_an_entry_is_released_by_the_first_sign_of_its_stop(proof):
    """It works, or it has filled before that was told: either way the entry has filled."""
    book = WorkingOrders()
    entry, other = working(book), working(book, order("r-2E"), "S2")
    stop = working(book, order("r-1S", Side.SELL, 2, OrderRole.STOP, "r-1E"), "S3", "accepted")
    assert not entry.released
    if proof == "working":
        book.update(update("r-1S", "working", server="S3", ts=2))
    else:
        book.fill(fill("r-1S", 2, "x1", Side.SELL))
    assert (entry.released, other.released, stop.released) == (True, False, False)


def test_entries_add_up_and_one_that_waits_for_nothing_counts_in_full():
    book = WorkingOrders()
    working(book)
    working(book, order("r-2E", quantity=3), "S2", "accepted")
    working(book, order("r-3E", Side.SELL, 4), "S3")
    assert (book.exposure(Side.BUY), book.exposure(Side.SELL)) == (5, 4)
    book.fill(fill("r-2E", 1, "x1"))
    assert book.exposure(Side.BUY) == 4


def test_an_order_that_came_back_is_not_forgotten_with_those_that_ended():
    book = WorkingOrders(keep_done=1)
    entry = working(book)
    book.update(update("r-1E", "canceled", ts=2))
    book.update(update("r-1E", "working", ts=3, unsolicited=False))
    for n in (2, 3):
        working(book, order(f"r-{n}E"), f"S{n}")
        book.update(update(f"r-{n}E", "canceled", server=f"S{n}", ts=4))
    assert book.find("", "S1") is entry
    assert list(book) == [entry]
    assert book.get("r-2E") is None
    assert book.get("r-3E") is not None  # the last one is kept


def test_an_order_whose_number_was_never_heard_is_forgotten_too():
    book = WorkingOrders(keep_done=0)
    entry = book.add(order())
    book.sent(entry, 1)
    book.update(update("r-1E", "rejected", server="", ts=2))
    assert (book.get("r-1E"), len(book)) == (None, 0)
