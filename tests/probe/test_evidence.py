"""What belongs to an order of the probe, and what the answers say of accounts."""

import pytest
from rig import RISK

from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.config import parse
from mia_daemon.dtc import messages as dtc
from mia_daemon.probe.evidence import Answer, Evidence, OrderStory
from mia_daemon.probe.findings import reported_accounts, server_findings
from mia_daemon.probe.fitting_settings import fitting_settings
from mia_daemon.probe.link import Received
from mia_daemon.probe.orders import ProbeOrders
from mia_daemon.products.instruments import instrument

ES = instrument("ESZ26_FUT_CME")


@pytest.fixture
def story():
    order = ProbeOrders(ES, "Sim1", "P1-", 6000.0, 1.0).limit()
    return OrderStory(order, order.price)


def update(**values):
    return dtc.OrderUpdate(**{"OrderType": 2, "BuySell": 2, "OrderQuantity": 1.0, "OrderStatus": 4, **values})


def test_an_update_without_a_name_is_ours_while_ours_is_the_only_one_in_flight(story):
    assert story.is_about(update(Price1=0.5), alone=True)
    assert not story.is_about(update(Price1=0.5), alone=False)
    assert story.is_about(update(Price1=story.sent_price), alone=False)


@pytest.mark.parametrize("values", [{"BuySell": 1}, {"OrderType": 3}, {"OrderQuantity": 5.0}])
def test_an_update_that_describes_somebody_elses_order_is_not_ours(story, values):
    assert not story.is_about(update(ServerOrderID="77", **values), alone=True)


def test_a_fill_counts_where_its_quantity_is_left_out(story):
    story.add([Received(0, update(ClientOrderID="P1-1L", OrderStatus=7, FilledQuantity=dtc.UNSET_F64))])
    assert story.filled


def test_other_accounts_are_no_spellings_of_ours(story):
    scope = ServerScope.of(parse({"instrument": {"symbol": ES.symbol}, "risk": RISK}, "the test's", environ={}), ES)
    story.add([Received(0, update(ClientOrderID="P1-1L", TradeAccount=told)) for told in ("Sim1", "sim 1", "Sim2")])
    found = Evidence(
        limit=story,
        accounts=Answer(tuple(dtc.TradeAccountResponse(TradeAccount=name) for name in ("Sim1", "Sim2")), complete=True),
        fills_since=Answer((dtc.HistoricalOrderFillResponse(TradeAccount="120005"),), complete=True),
    )
    assert reported_accounts(found) == {"sim 1"}
    assert fitting_settings(found, scope)["broker.account_spellings"] == ["sim 1"]
    (finding,) = [one for one in server_findings(found, scope) if one.code == "answers_of_one_account"]
    assert finding.verdict == "differs"
    assert "120005" not in finding.text
