"""What closes a position when our orders do not: risk finds them nonsense, there is no price, the server refuses."""

from dataclasses import replace

import pytest

from mia_daemon.records import Fill, OrderReport, OrderRole, OrderStatus, Priority, Side
from mia_daemon.risk.codes import RiskCode, deny

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


@pytest.fixture
async def bare(rig, monkeypatch):
    """A position of one contract without orders; what is submitted and flattened is kept from the server, in `sent`."""
    rig.sent = []
    for name in ("submit", "flatten"):
        monkeypatch.setattr(rig.broker, name, lambda order, name=name: rig.sent.append((name, order)))
    take(rig)
    assert rig.position == 1
    return rig


def take(rig):
    rig.actors.accounting.apply_external_fill(
        Fill(rig.ts_ns, "x1", "", "", SYMBOL, ACCOUNT, Side.BUY, 1, 100.0), "drift"
    )
    rig.sync.position = 1


def refuse(rig, monkeypatch):
    monkeypatch.setattr(rig.risk, "check_order", lambda *_: deny(RiskCode.NOT_REDUCING, quantity=1))


async def test_where_risk_refuses_the_exit_the_server_is_asked_to_flatten(bare, monkeypatch):
    refuse(bare, monkeypatch)
    bare.operator.flatten("operator")
    assert [(name, order.role) for name, order in bare.sent] == [("flatten", OrderRole.EXIT)]
    (alert,) = [alert for alert in bare.alerts if alert.code == "exit_denied"]
    name = f"{bare.run_id}-1X"
    assert (alert.priority, alert.context) == (Priority.CRITICAL, {"order": name})
    assert alert.text == f"exit order {name} was refused: not_reducing quantity=1"


async def test_where_risk_refuses_the_stop_the_position_is_closed_at_once(bare, monkeypatch):
    refuse(bare, monkeypatch)
    bare.executor.act()
    bare.play((10, 100.0), (1500, 100.0), (10, 100.0))
    refused = [alert.context["order"] for alert in bare.alerts if alert.code == "exit_denied"]
    assert refused == [f"{bare.run_id}-1S", f"{bare.run_id}-2X"]
    assert [name for name, _ in bare.sent] == ["flatten"]


async def test_without_a_price_the_server_is_asked_to_flatten(make_rig, monkeypatch):
    rig = make_rig()
    assert await rig.reconcile()
    sent = []
    monkeypatch.setattr(rig.broker, "flatten", sent.append)
    take(rig)
    rig.operator.flatten("operator")
    assert [(order.side, order.quantity) for order in sent] == [(Side.SELL, 1)]


def sent(rig, role):
    return [order for _, order in rig.sent if order.role is role]


def says(rig, order, status, number="S1"):
    update = OrderReport(
        rig.ts_ns, order.client_order_id, number, SYMBOL, ACCOUNT, status, order.side, 1, type=order.type
    )
    rig.executor.on_broker_event(update)


async def test_refused_exits_wait_longer_each_time_then_for_a_comparison_and_halt_in_the_end(bare):
    """A refusal is evidence: perhaps there is nothing to close. While it is looked into, the position has a stop."""
    exchange = bare.broker._exchange
    exchange.position, exchange.average_price = 1, 100.0
    bare.operator.flatten("operator")
    says(bare, sent(bare, OrderRole.EXIT)[-1], OrderStatus.REJECTED)
    bare.play((990, 100.0))
    assert len(bare.sent) == 1
    bare.play((20, 100.0))
    assert len(sent(bare, OrderRole.EXIT)) == 2

    says(bare, sent(bare, OrderRole.EXIT)[-1], OrderStatus.REJECTED)
    assert bare.executor.reconcile_due
    bare.play((1100, 100.0))
    (stop,) = sent(bare, OrderRole.STOP)
    says(bare, stop, OrderStatus.WORKING, "S2")
    bare.play(*[(500, 100.0)] * 20)  # the server does not answer what it is asked
    assert len(bare.sent) == 3

    exchange_lists(bare, stop)
    assert await bare.reconcile()
    bare.play((10, 100.0))
    says(bare, stop, OrderStatus.CANCELED, "S2")  # it makes way for the exit
    assert len(sent(bare, OrderRole.EXIT)) == 3
    assert "exit_refused" not in bare.alert_codes

    says(bare, sent(bare, OrderRole.EXIT)[-1], OrderStatus.REJECTED)
    (alert,) = [alert for alert in bare.alerts if alert.code == "exit_refused"]
    assert alert.priority is Priority.URGENT
    assert [latch.code for latch in bare.risk.latches] == [RiskCode.CONTRADICTED]
    bare.play(*[(1000, 100.0)] * 30)
    assert len(sent(bare, OrderRole.EXIT)) == 3
    assert len(sent(bare, OrderRole.STOP)) == 2
    assert bare.alert_codes.count("exit_refused") == 1


def exchange_lists(rig, order):
    """The server lists this one of ours as open, as well as what it holds."""
    ask = rig.broker.request_snapshot

    async def request_snapshot(since_ns):
        listed = OrderReport(
            rig.ts_ns, order.client_order_id, "S2", SYMBOL, ACCOUNT, OrderStatus.WORKING, order.side, 1,
            type=order.type, price=order.price, unsolicited=False,
        )  # fmt: skip
        return replace(await ask(since_ns), open_orders=(listed,))

    rig.broker.request_snapshot = request_snapshot
