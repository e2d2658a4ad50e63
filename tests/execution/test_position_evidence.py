"""The server's position is evidence: no new risk, and nothing beyond what both hold, while it is not ours."""

from dataclasses import replace

import pytest
from actor_parts import ACCOUNT, NOW, PREDICTION, SYMBOL, ActorParts, make_snapshot

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.execution.reconcile_policy import ReconcilePolicy
from mia_daemon.execution.reconciler import MAX_FAILURES, Reconciler
from mia_daemon.records import LinkReport, LinkState, OrderStatus, PositionReport, Priority, Side
from mia_daemon.risk.codes import ALLOWED, RiskCode

GRACE_NS = NS_PER_S


class Watching(ActorParts):
    def __init__(self, **limits):
        super().__init__(**limits)
        policy = ReconcilePolicy(5 * NS_PER_S, 60 * NS_PER_S)
        self.reconciler = Reconciler(self.state, self.ports, self.events, self.accounting, self.breakers, policy)

    def server_holds(self, quantity):
        self.events.on_event(PositionReport(self.market.now_ns, SYMBOL, ACCOUNT, quantity, 100.0))
        return self.reconciler.watch()

    def fills(self, side=Side.BUY, quantity=1):
        """An order of ours fills; a position report may be before that or after."""
        entry = self.place(side=side, quantity=quantity)
        self.events.on_fill(self.fill(entry, quantity, execution_id=f"x{entry.client_order_id}"))

    def new_risk(self):
        """Whether risk allows a new position now."""
        return self.risk.check_new_risk(PREDICTION, self.state.risk_snapshot()).code

    def entry(self, side, quantity):
        """Whether risk allows this entry, where new risk is allowed."""
        price = 100.25 if side is Side.BUY else 100.0
        bracket = self.order_manager.factory.make_bracket(
            side, quantity, price, stop=price - 4 * side, target=price + 6 * side, decision_id="d1"
        )
        return self.risk.check_entry(bracket, ALLOWED, self.state.risk_snapshot()).code

    def at(self, ns):
        self.after(ns)
        self.touch(100.0)
        return self.reconciler.watch()


@pytest.fixture
def parts():
    return Watching()


# New risk.


@pytest.mark.parametrize("told", [1, -1, 4])
def test_after_a_second_of_difference_new_risk_is_refused_until_it_is_gone(parts, told):
    parts.server_holds(told)
    parts.at(GRACE_NS)
    assert parts.new_risk() is RiskCode.OK  # its fill may be on its way
    parts.at(GRACE_NS + 1)
    assert parts.new_risk() is RiskCode.POSITION_DIFFERS
    parts.at(3600 * NS_PER_S)
    assert parts.new_risk() is RiskCode.POSITION_DIFFERS
    parts.server_holds(0)
    assert parts.new_risk() is RiskCode.OK


def test_the_grace_is_by_our_clock_however_still_the_market_stands(parts):
    own = [7]
    parts.state.own_clock = lambda: own[0]
    parts.server_holds(2)
    own[0] += GRACE_NS + 1
    parts.reconciler.watch()
    assert parts.new_risk() is RiskCode.POSITION_DIFFERS


@pytest.mark.parametrize("first", ["position", "fill"])
def test_a_position_told_before_its_fill_or_after_is_ours(parts, first):
    parts.server_holds(0)
    for what in ("position", "fill") if first == "position" else ("fill", "position"):
        if what == "fill":
            parts.fills()
        else:
            parts.server_holds(1)
        parts.at(GRACE_NS // 2)
    parts.at(10 * GRACE_NS)
    assert parts.state.differs_since_ns == 0
    assert parts.new_risk() is RiskCode.OK


def test_a_server_that_tells_its_position_only_when_asked_does_not_differ_by_our_fills(parts):
    parts.server_holds(0)
    parts.fills()
    parts.fills(Side.SELL)
    parts.fills(Side.SELL)
    parts.at(10 * GRACE_NS)
    assert (parts.sync.held, parts.state.position_differs) == (-1, False)


def test_each_new_difference_has_its_own_grace(parts):
    parts.server_holds(1)
    parts.at(GRACE_NS)
    parts.server_holds(0)
    parts.at(GRACE_NS + 5)
    parts.server_holds(1)
    parts.at(2 * GRACE_NS)
    assert not parts.state.position_differs


def test_before_the_server_has_told_a_position_there_is_nothing_to_differ_from(parts):
    parts.at(10 * GRACE_NS)
    assert (parts.sync.held, parts.state.position_differs) == (None, False)


def test_what_was_told_before_counts_for_nothing_once_the_connection_is_lost(parts):
    parts.server_holds(2)
    parts.events.on_event(LinkReport(NOW, LinkState.DOWN, "reset"))
    parts.reconciler.watch()
    assert (parts.sync.held, parts.state.differs_since_ns) == (None, 0)


def test_a_position_told_without_a_quantity_takes_no_evidence_away(parts):
    parts.server_holds(2)
    differs_since_ns = parts.state.differs_since_ns
    parts.server_holds(None)
    assert (parts.sync.held, parts.state.differs_since_ns) == (2, differs_since_ns)
    assert parts.sync.urgent


@pytest.mark.parametrize("theirs", [1, -1, 4])
async def test_no_entry_while_the_server_reports_another_position(rig, theirs):
    """Of the whole executor, by the market's events."""
    scope = rig.account.scope

    def report(quantity):
        rig.executor.on_broker_event(PositionReport(rig.ts_ns, scope.instrument.symbol, scope.account, quantity, 100.0))

    report(theirs)
    rig.play((500, 100.0), (1000, 100.0))
    assert rig.decide("buy", 1).code is RiskCode.POSITION_DIFFERS
    assert rig.broker.orders_sent == 0
    assert rig.sync.query_reason == "the server's position is not ours"
    report(0)
    rig.play((10, 100.0))
    assert rig.decide("buy", 1).allowed


def test_a_difference_is_measured_from_when_it_was_first_seen(parts):
    parts.server_holds(1)
    parts.at(GRACE_NS)
    parts.server_holds(2)
    assert (parts.state.differs_since_ns, parts.state.position_differs) == (NOW, False)
    parts.at(GRACE_NS + 1)
    assert parts.state.position_differs


# Limits.


@pytest.mark.parametrize(
    ("told", "side", "quantity", "code"),
    [
        (1, Side.BUY, 1, RiskCode.OK),
        (1, Side.BUY, 2, RiskCode.POSITION_LIMIT),
        (-1, Side.SELL, 2, RiskCode.POSITION_LIMIT),
        (1, Side.SELL, 2, RiskCode.OK),  # flat by our count, and the server's is on the other side
    ],
)
def test_limits_count_the_worse_of_both_positions_within_the_grace_too(told, side, quantity, code):
    parts = Watching(max_position_contracts=2)
    parts.server_holds(told)
    assert parts.entry(side, quantity) is code


@pytest.mark.parametrize("status", [OrderStatus.FILLED, OrderStatus.CANCELED])
def test_what_is_reported_as_filled_is_exposure_until_it_is_booked(parts, status):
    entry = parts.place(quantity=2)
    parts.report(entry, status, filled=2)
    snapshot = parts.state.risk_snapshot()
    assert (snapshot.working_buy, snapshot.unknown_orders) == (2, 1)
    assert parts.new_risk() is RiskCode.UNKNOWN_ORDERS


# The comparison.


def test_a_difference_is_asked_about_at_once_after_half_of_the_grace(parts):
    assert parts.server_holds(1) == NOW + GRACE_NS // 2
    parts.sync.asked_ns = NOW  # just compared
    assert parts.at(GRACE_NS // 2 - 1) == NOW + GRACE_NS // 2
    assert not parts.reconciler.due
    assert parts.at(GRACE_NS // 2) == NEVER_NS
    assert (parts.sync.query_reason, parts.reconciler.due) == ("the server's position is not ours", True)


# What both hold.


@pytest.mark.parametrize(
    ("ours", "theirs", "confirmed"),
    [(2, 2, 2), (2, 1, 1), (2, 0, 0), (2, -2, 0), (1, 3, 1), (-2, -2, 2), (-2, -1, 1), (-2, 3, 0)],
)
def test_no_more_is_protected_or_closed_than_both_hold(parts, ours, theirs, confirmed):
    parts.hold(ours)
    parts.sync.on_position(theirs)
    assert parts.state.confirmed == confirmed


@pytest.mark.parametrize("reconciled", [True, False])
def test_where_the_server_tells_no_position_a_comparison_confirms_ours(parts, reconciled):
    parts.hold(-2)
    parts.sync.on_position(None)
    parts.sync.reconciled = reconciled
    assert parts.state.confirmed == (2 if reconciled else 0)


def test_fills_since_the_last_report_count_as_held_by_the_server(parts):
    parts.server_holds(0)
    parts.fills(quantity=2)
    assert parts.state.confirmed == 2
    parts.server_holds(2)
    assert parts.state.confirmed == 2


# Told by none.


def test_a_server_that_does_not_tell_its_position_is_not_reconciled_and_stops_new_risk_for_good(parts):
    parts.sync.reconciled = False
    for number in range(1, MAX_FAILURES + 1):
        assert not parts.reconciler.apply(parts.reconciler.begin(), replace(make_snapshot(), positions=None))
        assert not parts.sync.reconciled
        latched = number == MAX_FAILURES
        assert parts.new_risk() is (RiskCode.CONTRADICTED if latched else RiskCode.UNKNOWN_ORDERS)
    parts.breakers.announce()
    assert [alert.code for alert in parts.alerts if alert.priority is Priority.URGENT] == ["position_not_reported"]
