"""What the model check found (docs/reliability.md), each alone."""

from dataclasses import replace

from actor_parts import ACCOUNT, NOW, SYMBOL, ActorParts, make_order

from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.reconciliation import Asked, reconcile
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import (
    BrokerSnapshot,
    Fill,
    FillSource,
    JournaledOrder,
    OrderReport,
    OrderRole,
    OrderStatus,
    Side,
)

STOP = replace(make_order("K1S", OrderRole.STOP, Side.SELL, 2, 98.0), parent_id="K1E")


def update(status, **more):
    return OrderReport(NOW, "K1S", "20", SYMBOL, ACCOUNT, status, Side.SELL, price=98.0, type=STOP.type, **more)


def working_stop(quantity):
    orders = WorkingOrders()
    entry = orders.add(STOP)
    orders.sent(entry, NOW, 1)
    orders.apply_update(update(OrderStatus.WORKING, quantity=quantity))
    return orders, entry


def test_a_list_without_times_is_newer_than_the_updates_before_it():
    orders, entry = working_stop(1)
    listed = replace(update(OrderStatus.WORKING, quantity=2), ts_ns=0, unsolicited=False)
    orders.apply_update(listed)
    assert (entry.quantity, entry.history.updated_ns) == (2, NOW)


def test_a_stop_that_has_grown_unheard_is_not_filled_by_its_first_contract():
    """The stop works for 1 contract, its growth to 2 is lost, and one of them fills."""
    orders, entry = working_stop(1)
    orders.book(entry, Fill(NOW, "x1", "K1S", "20", SYMBOL, ACCOUNT, Side.SELL, 1, 98.0))
    orders.apply_update(update(OrderStatus.PARTIAL, quantity=2, filled=1))
    assert entry.state is OrderState.PARTIAL
    assert orders.protection(Side.SELL) == 1


def test_a_late_update_from_before_a_fill_does_not_shrink_the_order():
    """No times are told: the update that the stop works for 1 contract comes after its first fill of 2."""
    orders, entry = working_stop(2)
    orders.book(entry, Fill(NOW, "x1", "K1S", "20", SYMBOL, ACCOUNT, Side.SELL, 1, 98.0))
    orders.apply_update(update(OrderStatus.WORKING, quantity=1))
    assert (entry.quantity, orders.protection(Side.SELL)) == (2, 1)


def test_an_absent_order_of_an_earlier_run_lives_again_when_the_server_reports_it():
    """Its query was answered before the order reached the server; then the daemon was started anew."""
    parts = ActorParts()
    absent = JournaledOrder(STOP, NOW, OrderStatus.UNKNOWN_TO_SERVER, "", 2, 98.0, 0, 0, ())
    canceled = replace(absent, order=replace(STOP, client_order_id="K2S"), status=OrderStatus.CANCELED)
    parts.order_manager.restore((), (absent, canceled))
    for name in "K1S", "K2S":
        parts.orders.apply_update(replace(update(OrderStatus.WORKING, quantity=2), client_order_id=name))
    assert [parts.orders.get(name).state for name in ("K1S", "K2S")] == [OrderState.WORKING, OrderState.CANCELED]


def test_an_order_that_had_ended_before_a_restart_is_adopted_only_from_a_list_and_with_its_fills():
    """Adopted from an update that was repeated, it had filled nothing, and its executions were booked again."""
    parts = ActorParts()
    name = "RUN1-1S"
    ended = replace(STOP, client_order_id=name)
    fill = Fill(NOW, "x1", name, "20", SYMBOL, ACCOUNT, Side.SELL, 2, 98.0)
    parts.journal.record_intent((ended,), NOW)
    parts.journal.record_fill(fill)
    repeated = replace(update(OrderStatus.WORKING, quantity=2), client_order_id=name)
    assert not parts.order_manager.adopt(repeated, NOW)
    assert parts.order_manager.adopt(replace(repeated, unsolicited=False), NOW)
    assert parts.orders.get(name).fills.booked == 2


def test_an_order_of_an_earlier_run_is_found_by_the_number_of_its_fills_before_a_replace():
    """Else its list of executions lacked those in the journal, and was taken for no more than they are."""
    parts = ActorParts()
    fill = Fill(NOW, "x1", "K1S", "20", SYMBOL, ACCOUNT, Side.SELL, 1, 98.0)
    parts.order_manager.restore((JournaledOrder(STOP, NOW, OrderStatus.REPLACED, "21", 2, 98.25, 1, 1, (fill,)),))
    assert parts.orders.find("", "20") is parts.orders.find("", "21") is parts.orders.get("K1S")


def test_a_fill_under_a_new_number_is_of_the_stop_that_had_grown_unheard():
    """It was known to work for 1 contract, grew to 2, got another number with a replace, and filled: nothing of that
    was received before a restart.
    """
    orders = WorkingOrders()
    unknown = JournaledOrder(STOP, NOW, OrderStatus.WORKING, "20", 1, 98.0, 0, 0, (), asked_price=98.25)
    orders.restore(WorkingOrder.restored(unknown, OrderState.UNKNOWN))
    fill = Fill(NOW, "h1", "", "21", SYMBOL, ACCOUNT, Side.SELL, 2, 98.25, FillSource.HISTORY)
    snapshot = BrokerSnapshot(NOW, (), (fill,), None, None)
    found = reconcile(orders, snapshot, (), Asked(orders.version, 1, (0,)), lambda _: True)
    assert found.executions == {"K1S": [fill]}
