"""The server's position is evidence: while it is not ours nothing is entered, and limits count the worse of the two."""

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import PositionReport
from mia_daemon.risk.codes import RiskCode

SECOND = 1000  # ms


@pytest.fixture
def reports(rig):
    """`reports(n)`: the server says that it holds n contracts."""

    def report(quantity):
        scope = rig.account.scope
        rig.executor.on_broker_event(PositionReport(rig.ts_ns, scope.instrument.symbol, scope.account, quantity, 100.0))

    return report


@pytest.mark.parametrize("theirs", [1, -1, 4])
async def test_no_entry_while_the_server_reports_another_position(rig, reports, theirs):
    """For longer than its reports may be early or late."""
    reports(theirs)
    rig.play((SECOND // 2, 100.0), (SECOND, 100.0))
    assert rig.decide("buy", 1).code is RiskCode.POSITION_DIFFERS
    assert rig.broker.orders_sent == 0
    assert rig.sync.query_reason == "the server's position is not ours"
    reports(0)
    rig.play((10, 100.0))
    assert rig.decide("buy", 1).allowed


async def test_a_position_reported_before_its_fill_is_no_difference_at_once(rig, reports):
    reports(1)
    rig.play((10, 100.0))
    assert not rig.state.position_differs
    assert not rig.sync.query_reason
    rig.play((SECOND // 2, 100.0))
    assert (rig.sync.query_reason, rig.sync.urgent) == ("the server's position is not ours", True)


async def test_the_limit_counts_the_position_that_the_server_reports(rig, reports):
    reports(5)
    rig.play((10, 100.0))
    assert rig.decide("buy", 1).code is RiskCode.POSITION_LIMIT


async def test_a_difference_is_measured_from_when_it_was_first_seen(rig, reports):
    reports(1)
    rig.play((10, 100.0))
    since_ns = rig.state.differs_since_ns
    reports(2)
    rig.play((10, 100.0))
    assert rig.state.differs_since_ns == since_ns
    rig.play((SECOND, 100.0))
    assert rig.ts_ns - since_ns > NS_PER_S
    assert rig.state.position_differs
