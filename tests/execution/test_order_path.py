"""What a journal writes of an order is a path of the state table; a status or a count that is not, is found."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_headers import run_header

from mia_daemon.execution.order_path import findings
from mia_daemon.execution.order_states import Cause
from mia_daemon.journal.order_rows import OrderEvent, OrderRows, order_rows
from mia_daemon.journal.view import JournalView
from mia_daemon.journal.writer import Journal
from mia_daemon.records import Fill, Order, OrderReport, OrderRole, OrderStatus, OrderType, Side

S = OrderStatus
KNOWN = [status for status in OrderStatus if status in frozenset(Cause)]

updates = st.tuples(st.sampled_from(KNOWN), st.booleans(), st.integers(0, 4), st.integers(0, 4))
rows_of_an_order = st.lists(st.one_of(updates, st.integers(1, 2)), max_size=12)


def written(journal, n, rows):
    """Record an order with these updates and fills, as the daemon would."""
    name = f"o{n}"
    journal.record_intent([Order(name, "ES", "A", Side.BUY, 3, OrderType.LIMIT, OrderRole.ENTRY, "", 1.0)], 1)
    for number, row in enumerate(rows):
        if isinstance(row, int):
            journal.record_fill(Fill(1, str(number), name, "s", "ES", "A", Side.BUY, row, 1.0))
        else:
            status, unsolicited, quantity, filled = row
            told = {"quantity": quantity, "filled": filled, "unsolicited": unsolicited}
            journal.record_update(OrderReport(1, name, "s", "ES", "A", status, **told))


@given(st.lists(rows_of_an_order, min_size=1, max_size=30))
@settings(max_examples=60)
def test_whatever_the_server_tells_what_the_journal_makes_of_it_is_a_path_of_the_table(tmp_path_factory, orders):
    """In any order, with contradictions, late or repeated."""
    path = tmp_path_factory.mktemp("j") / "a.db"
    journal = Journal(path, durable=False)
    journal.begin_run(run_header())
    for n, rows in enumerate(orders):
        written(journal, n, rows)
    journal.close()
    with JournalView(path) as view:
        found = list(order_rows(view))
    assert [len(order.events) for order in found] == [
        len(rows) for _, rows in sorted((f"o{n}", rows) for n, rows in enumerate(orders))
    ]
    for order in found:
        assert list(findings(order)) == []
        others = {"", *KNOWN} - {order.status, S.CANCEL_REJECTED, S.REPLACE_REJECTED}
        for status in others:
            (finding,) = findings(replace(order, status=status))
            assert finding.endswith(f"its rows lead to {order.status or 'unanswered'}")
        (finding,) = findings(replace(order, booked=order.booked + 1))
        assert finding == (
            f"order {order.client_order_id} is on file with {order.booked + 1} booked, its rows lead to {order.booked}"
        )


def rows(*events, status="", booked=0, quantity=2):
    """An order of two contracts, its events numbered from 2."""
    numbered = tuple(_event(number, event) for number, event in enumerate(events, 2))
    return OrderRows("o1", quantity, quantity, status, booked, numbered)


def _event(number, event):
    if isinstance(event, int):
        return OrderEvent(number, "", event)
    return OrderEvent(number, str(event), 2)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (rows(S.WORKING, S.CANCELED, status="working"), "on file as working, its rows lead to canceled"),
        (rows(S.WORKING, S.CANCELED, S.WORKING, status="working"), "on file as working, its rows lead to canceled"),
        (rows(S.FILLED, S.CANCELED, 2, status="canceled", booked=2), "as canceled, its rows lead to filled"),
        (rows(S.WORKING, S.CANCEL_REJECTED, status="canceled"), "on file as canceled, its rows lead to working"),
        (rows(S.WORKING, status=""), "on file as unanswered, its rows lead to working"),
        (rows(S.WORKING, 1, 1, status="working", booked=1), "with 1 booked, its rows lead to 2"),
        (rows("eaten", status="eaten"), "update 2 of order o1 says 'eaten', which the state table does not know"),
    ],
)
def test_what_is_on_file_against_the_rows_is_found(order, says):
    (finding,) = findings(order)
    assert finding.startswith(("order o1", "update 2 of order o1"))
    assert finding.endswith(says)


def test_a_status_that_the_table_cannot_lead_to_is_found(monkeypatch):
    """As where the journal's rule and the table come apart."""
    from mia_daemon.execution import order_path
    from mia_daemon.execution.order_states import OrderState

    table = order_path.TRANSITIONS | {(state, Cause.CANCELED): OrderState.WORKING for state in OrderState}
    monkeypatch.setattr(order_path, "TRANSITIONS", table)
    assert list(findings(rows(S.CANCELED, status="canceled"))) == [
        "order o1 is on file as canceled, the state table leads to working"
    ]
