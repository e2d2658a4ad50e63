"""When the server is asked for its books: what is awaited, until when, and what is told when it does not come."""

import pytest

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import Order, OrderRole, OrderStatus, OrderType, OrderUpdate, Priority, Side

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


@pytest.fixture
def watching(rig):
    """Its books agreed a moment ago; `at(ns)` after that moment is now, `asks` says why the server is to be asked."""
    rig.reconciler = rig.actors.reconciler
    rig.answer_ns, rig.every_ns = rig.reconciler._policy.answer_ns, rig.reconciler._policy.every_ns
    assert rig.sync.query_reason == ""
    began_ns = rig.ts_ns

    def at(after_ns):
        rig.market.now_ns = began_ns + after_ns
        return rig

    rig.at = at
    return rig


def sent(rig, name="K1"):
    order = Order(name, SYMBOL, ACCOUNT, Side.BUY, 2, OrderType.LIMIT, OrderRole.ENTRY, "d", price=100.0)
    entry = rig.orders.add(order)
    rig.orders.sent(entry, rig.ts_ns)
    return entry


async def test_an_order_is_unknown_once_its_answer_is_overdue_and_not_before(watching):
    rig, entry = watching, sent(watching)
    assert rig.at(rig.answer_ns - 1).reconciler.watch() == rig.ts_ns + rig.answer_ns
    assert (entry.state, rig.sync.query_reason, rig.alerts) == (OrderState.SENT, "", [])
    assert rig.at(rig.answer_ns).reconciler.watch() == NEVER_NS
    assert (entry.state, rig.sync.query_reason) == (OrderState.UNKNOWN, "an order was not answered")
    (alert,) = rig.alerts
    assert (alert.code, alert.priority) == ("order_unknown", Priority.ERROR)
    assert alert.text == "no answer about order K1 in time: its fate is unknown and is asked about"
    assert alert.context == {"order": "K1", "state": "sent"}  # in which it was last known to be


async def test_while_the_link_is_down_no_answer_is_overdue(watching):
    rig, entry = watching, sent(watching)
    rig.sync.link_up = False
    due_ns = rig.at(10 * rig.answer_ns).reconciler.watch()
    assert (entry.state, rig.sync.query_reason, due_ns) == (OrderState.SENT, "", rig.ts_ns + rig.answer_ns)


@pytest.mark.parametrize(("closing", "after"), [(False, 1), (True, 0)])
async def test_a_fill_told_of_and_not_shown_is_asked_for_in_time_or_at_once(watching, closing, after):
    """At once while the position is closed: what it is, is not known before."""
    rig, entry = watching, sent(watching)
    told = OrderUpdate(rig.ts_ns, "K1", "S1", SYMBOL, ACCOUNT, OrderStatus.FILLED, filled=2, quantity=2)
    rig.orders.apply_update(told)
    if closing:
        rig.state.request_flatten("operator")
    assert (entry.fills.reported, entry.fills.booked) == (2, 0)
    if after:
        rig.at(rig.answer_ns - 1).reconciler.watch()
        assert rig.sync.query_reason == ""
    rig.at(after * rig.answer_ns).reconciler.watch()
    assert rig.sync.query_reason == "a fill was reported but not shown"


async def test_closing_asks_for_nothing_where_no_fill_is_missing(watching):
    sent(watching)
    watching.state.request_flatten("operator")
    watching.at(1).reconciler.watch()
    assert watching.sync.query_reason == ""


async def test_a_position_that_is_not_ours_is_asked_about_again_and_again(watching):
    rig = watching
    for agreed in (None, 0):
        rig.sync.position = agreed
        assert rig.at(0).reconciler.watch() == NEVER_NS
    rig.sync.position = 3
    assert rig.at(0).reconciler.watch() == rig.ts_ns + rig.answer_ns
    assert rig.at(rig.answer_ns - 1).reconciler.watch() == rig.ts_ns + rig.answer_ns
    assert rig.sync.query_reason == ""
    rig.at(rig.answer_ns).reconciler.watch()
    assert rig.sync.query_reason == "the server's position is not ours"
    rig.sync.query_reason = ""
    assert rig.at(rig.answer_ns + 1).reconciler.watch() == rig.ts_ns + 2 * rig.answer_ns
    rig.at(2 * rig.answer_ns).reconciler.watch()
    assert rig.sync.query_reason == "the server's position is not ours"


async def test_a_position_that_came_to_be_ours_is_no_longer_counted_as_different(watching):
    rig = watching
    rig.sync.position = 3
    rig.at(0).reconciler.watch()
    rig.sync.position = 0
    rig.at(1).reconciler.watch()
    rig.sync.position = 3
    assert rig.at(2).reconciler.watch() == rig.ts_ns + 2 + rig.answer_ns
    assert rig.sync.query_reason == ""


async def test_a_comparison_is_due_for_a_reason_or_after_a_while_and_needs_the_link(watching):
    rig = watching
    assert not rig.at(rig.every_ns - 1).reconciler.due
    assert rig.at(rig.every_ns).reconciler.due
    assert await rig.reconcile()
    assert not rig.reconciler.due
    rig.sync.request_reconcile("the start")
    assert rig.reconciler.due
    rig.sync.link_up = False
    assert not rig.reconciler.due


async def test_what_did_not_agree_is_asked_again_under_its_first_reason(watching):
    entry = sent(watching)
    watching.orders.lose(entry)
    watching.orders.cancel_sent(entry, watching.ts_ns)  # after which an answer may be older
    watching.reconciler._take_over(await watching.broker.request_snapshot(0), 0, undisturbed=True)
    assert watching.sync.query_reason == "the books did not agree yet"
    assert watching.sync.position == 0
