"""What the broker says is taken in once, where it is about us, and whatever it is."""

from dataclasses import replace

import pytest

from mia_daemon.errors import JournalError
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import (
    BalanceReport,
    Fill,
    Order,
    OrderRole,
    OrderStatus,
    OrderType,
    OrderUpdate,
    PositionReport,
    Priority,
    Side,
)
from mia_daemon.risk.codes import RiskCode

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


def working(rig, name="K1"):
    order = Order(name, SYMBOL, ACCOUNT, Side.BUY, 2, OrderType.LIMIT, OrderRole.ENTRY, "d", price=100.0)
    entry = rig.orders.add(order)
    rig.orders.sent(entry, rig.ts_ns)
    rig.executor.on_broker_event(said(rig, name))
    return entry


def said(rig, name, status=OrderStatus.WORKING, **more):
    return OrderUpdate(rig.ts_ns, name, "S1", SYMBOL, ACCOUNT, status, Side.BUY, 2, **more)


def fill(rig, name="K1", execution="x1", quantity=1):
    return Fill(rig.ts_ns, execution, name, "S1", SYMBOL, ACCOUNT, Side.BUY, quantity, 100.0)


@pytest.mark.parametrize("elsewhere", [{"symbol": "NQZ26_FUT_CME"}, {"account": "Sim2"}])
async def test_what_is_about_another_symbol_or_account_is_not_about_us(rig, elsewhere):
    """Even under one of our names, as of another program that names its orders alike."""
    entry = working(rig)
    rig.executor.on_broker_event(replace(said(rig, "K1", OrderStatus.CANCELED), **elsewhere))
    rig.executor.on_broker_event(replace(fill(rig), **elsewhere))
    rig.executor.on_broker_event(replace(PositionReport(rig.ts_ns, SYMBOL, ACCOUNT, 5, 100.0), **elsewhere))
    assert (entry.state, entry.fills.booked, rig.position) == (OrderState.WORKING, 0, 0)
    assert rig.sync.position == 0
    assert rig.alerts == []


async def test_an_execution_told_twice_is_booked_once(rig):
    entry = working(rig)
    for _ in range(2):
        rig.executor.on_broker_event(fill(rig))
    assert (entry.fills.booked, rig.position, rig.alerts) == (1, 1, [])


async def test_an_execution_that_is_on_file_for_another_order_is_not_booked_again(rig):
    """Of a server that counts its executions anew; what it holds is asked for."""
    entry = working(rig)
    rig.journal.record_fill(fill(rig, "earlier-1E"))
    rig.executor.on_broker_event(fill(rig))
    assert (entry.fills.booked, rig.position) == (0, 0)
    (alert,) = rig.alerts
    assert (alert.code, alert.priority, alert.context) == ("execution_known", Priority.ERROR, {"order": "K1"})
    assert alert.text.startswith("execution x1 is in the journal already and was not booked again")
    assert rig.sync.query_reason == "an execution was told again"


async def test_a_balance_changes_no_order_and_no_position(rig):
    entry = working(rig)
    rig.executor.on_broker_event(BalanceReport(rig.ts_ns, ACCOUNT, 1.0))
    assert (entry.state, rig.position) == (OrderState.WORKING, 0)


async def test_a_run_whose_name_cannot_be_looked_up_has_its_order_left_alone(rig, monkeypatch):
    """Whether it is ours is in the journal, which can't be read: it is told as somebody's, and trading halts."""

    def fail(_run_id):
        raise JournalError("the disk fails")

    monkeypatch.setattr(rig.journal, "has_run", fail)
    told = said(rig, "1NG786R9-17S", type=OrderType.STOP, price=99.0)
    rig.executor.on_broker_event(told)
    assert [alert.code for alert in rig.alerts if alert.code.startswith("foreign")] == ["foreign_order"]
    assert [latch.code for latch in rig.risk.latches] == [RiskCode.HALTED]
    assert len(rig.orders) == 0


async def test_an_order_that_is_on_file_and_works_unknown_to_us_is_taken_over_without_another_intent(rig):
    name = f"{rig.run_id}-17S"
    order = Order(name, SYMBOL, ACCOUNT, Side.SELL, 2, OrderType.STOP, OrderRole.STOP, "", price=99.0)
    rig.journal.record_intent((order,), rig.ts_ns)
    told = replace(said(rig, name, type=OrderType.STOP, price=99.0), side=Side.SELL)
    rig.executor.on_broker_event(told)
    assert rig.orders.get(name).state is OrderState.WORKING
    assert rig.journal._db.execute("SELECT COUNT(*) FROM intents WHERE client_order_id = ?", (name,)).fetchone() == (1,)
    assert "order_adopted" in rig.alert_codes
