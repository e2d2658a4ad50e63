"""What closes a position when our orders do not: risk finds them nonsense, there is no price, the server refuses."""

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


async def test_an_exit_the_server_refuses_is_not_sent_again_at_once(bare):
    bare.operator.flatten("operator")
    for n in range(1, 4):
        assert len(bare.sent) == n
        _, order = bare.sent[-1]
        update = OrderReport(bare.ts_ns, order.client_order_id, "S1", SYMBOL, ACCOUNT, OrderStatus.REJECTED)
        bare.executor.on_broker_event(update)
        bare.play((990, 100.0))
        assert len(bare.sent) == n
        bare.play((20, 100.0))
    assert {name for name, _ in bare.sent} == {"submit"}
