"""No position without a stop that is acknowledged and not ended, and no second one before the first is disproved."""

import pytest
from actor_parts import LOOSE, NOW, RUN, ActorParts
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon import config
from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import Protection, ProtectionPolicy
from mia_daemon.market import Touch
from mia_daemon.records import OrderRole, OrderStatus, OrderType, Priority, Side
from mia_daemon.risk.codes import RiskCode

GRACE = 1_000


class Protecting(ActorParts):
    """A position at 100.00 / 100.25 and what protects it; a stop belongs at 96.00."""

    def __init__(self, quantity=1, **policy):
        super().__init__()
        if quantity:
            self.hold(quantity)
        policy = ProtectionPolicy(**{"stop_ticks": 16, "grace_ns": GRACE, **policy})
        self.protection = Protection(self.state, self.ports, self.order_manager, policy)

    def work(self, after=0):
        """What is sent then; `due_ns` is counted from the first moment."""
        self.after(after)
        before = len(self.broker.sent)
        due_ns = self.protection.work(self.state.held)
        self.due_ns = due_ns - NOW if due_ns != NEVER_NS else NEVER_NS
        return self.broker.sent[before:]


@pytest.fixture
def parts():
    return Protecting()


# A position without a stop.


def test_a_position_under_its_working_stop_is_left_alone(parts):
    parts.place(OrderRole.STOP)
    parts.place(OrderRole.TARGET)
    assert parts.work() == parts.work(10 * GRACE) == []
    assert (parts.due_ns, parts.alerts) == (NEVER_NS, [])


@pytest.mark.parametrize(("quantity", "price"), [(2, 96.0), (-2, 104.0)])
def test_a_position_that_stays_without_a_stop_gets_one(quantity, price):
    parts = Protecting(quantity)
    assert parts.work() == []
    assert (parts.due_ns, parts.alerts) == (GRACE // 2, [])
    assert parts.work(GRACE - 1) == []
    assert (parts.due_ns, parts.alerts) == (GRACE, [])
    assert parts.work(GRACE) == [("submit", f"{RUN}-1S")]
    (stop,) = parts.broker.orders
    assert (stop.type, stop.side, stop.quantity, stop.price) == (
        OrderType.STOP, parts.state.held.close_side, 2, price,
    )  # fmt: skip
    assert (stop.parent_id, stop.decision_id) == ("", "d1")
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("position_unprotected", Priority.CRITICAL)
    assert alert.context == {"position": quantity, "missing": 2, "attempts": 0}
    assert parts.due_ns == 2 * GRACE


def test_a_stop_leaves_although_the_journal_is_dead(parts):
    parts.journal.fails = {"all"}
    parts.work()
    assert parts.work(GRACE) == [("submit", f"{RUN}-1S")]
    assert parts.latched == [RiskCode.HALTED]


def test_only_what_is_missing_is_protected_anew():
    parts = Protecting(3)
    parts.place(OrderRole.STOP, quantity=2, price=96.0)
    parts.work()
    parts.work(GRACE)
    assert [stop.quantity for stop in parts.broker.orders] == [1]


def test_a_stop_that_comes_in_time_ends_the_wait(parts):
    parts.work()
    stop = parts.place(OrderRole.STOP)
    assert parts.work(GRACE) == []
    parts.report(stop, OrderStatus.CANCELED)
    assert parts.work(GRACE + 1) == []
    assert parts.due_ns == GRACE + 1 + GRACE // 2  # the time without one counts anew
    assert parts.work(2 * GRACE) == []
    assert parts.work(2 * GRACE + 1) == [("submit", f"{RUN}-1S")]


@pytest.mark.parametrize("state", [OrderState.ACKED, OrderState.WORKING, OrderState.PARTIAL])
def test_a_stop_that_is_acknowledged_and_not_ended_is_cover_for_as_long_as_it_is(parts, state):
    """As of a server that never says more than "order sent" or "pending open"."""
    parts.place(OrderRole.STOP, state=state)
    for after in range(0, 100 * GRACE, GRACE):
        assert parts.work(after) == []
    assert (parts.alerts, parts.due_ns) == ([], NEVER_NS)


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.UNKNOWN, OrderState.HELD])
def test_while_a_stop_may_work_already_no_second_one_is_sent_but_an_alert(parts, state):
    parts.place(OrderRole.STOP, state=state)
    for after in range(0, 20 * GRACE, GRACE // 4):
        assert parts.work(after) == []
    assert parts.alert_codes == ["position_unprotected"]
    assert "is awaited" in parts.alerts[0].text


def test_that_no_stop_works_is_asked_about_at_half_the_time_and_at_once(parts):
    parts.place(OrderRole.STOP, state=OrderState.SENT)
    parts.work()
    parts.work(GRACE // 2 - 1)
    assert not parts.sync.query_reason
    parts.work(GRACE // 2)
    assert (parts.sync.query_reason, parts.sync.urgent) == ("a position has no working stop", True)


def test_it_is_asked_about_once(parts):
    parts.place(OrderRole.STOP, state=OrderState.SENT)
    parts.work()
    parts.sync.asked_ns, parts.sync.query_reason = NOW + GRACE // 2, ""
    for after in range(GRACE // 2, 10 * GRACE, GRACE // 4):
        parts.work(after)
    assert parts.sync.query_reason == ""


@pytest.mark.parametrize("end", [OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.UNKNOWN_TO_SERVER])
@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.HELD])
def test_once_the_first_stop_is_disproved_another_is_sent(parts, state, end):
    stop = parts.place(OrderRole.STOP, state=state)
    parts.work()
    assert parts.work(3 * GRACE) == []
    parts.report(stop, end)
    assert parts.work(3 * GRACE + 1) == [("submit", f"{RUN}-1S")]


def test_a_stop_that_is_still_held_back_when_the_server_is_asked_is_no_cover(parts):
    """Its parent has filled: a server that holds it back now does not release it."""
    stop = parts.place(OrderRole.STOP, state=OrderState.HELD)
    stop.history.listed_ns = NOW - 1  # listed before the position was bare: no evidence
    parts.work()
    assert parts.work(3 * GRACE) == []
    stop.history.listed_ns = NOW
    assert parts.work(3 * GRACE + 1) == [("submit", f"{RUN}-1S")]


@given(
    st.lists(
        st.sampled_from([OrderStatus.ACCEPTED, OrderStatus.HELD, OrderStatus.WORKING, OrderStatus.CANCELED, None]),
        max_size=12,
    ),
    st.sampled_from([GRACE // 4, GRACE, 3 * GRACE]),
)
def test_whatever_a_server_says_of_the_stops_there_is_one_that_may_work_at_most(statuses, step):
    """Statuses come for the newest stop; None: nothing is said."""
    parts = Protecting()
    parts.place(OrderRole.STOP, state=OrderState.SENT)
    for n, status in enumerate([None, *statuses], 1):
        stops = parts.orders.with_role(OrderRole.STOP)
        if status is not None and stops:
            parts.report(stops[-1], status)
        parts.work(n * step)
        assert sum(stop.live for stop in parts.orders.with_role(OrderRole.STOP)) <= 1


# Nothing beyond what the server holds.


@pytest.mark.parametrize(("theirs", "protected"), [(3, 2), (2, 2), (1, 1)])
def test_no_more_is_protected_than_the_server_holds(theirs, protected):
    parts = Protecting(2)
    parts.sync.on_position(theirs)
    parts.work()
    parts.work(GRACE)
    assert [stop.quantity for stop in parts.broker.orders] == [protected]


@pytest.mark.parametrize("theirs", [0, -2])
def test_a_position_that_the_server_does_not_hold_is_compared_and_not_protected(theirs):
    """As after a restart, when a person has closed it meanwhile: a stop in a flat account would open a position."""
    parts = Protecting(2)
    parts.sync.on_position(theirs)
    for after in range(0, 20 * GRACE, GRACE // 4):
        assert parts.work(after) == []
    assert (parts.sync.query_reason, parts.sync.urgent) == ("a position has no working stop", True)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("position_unprotected", Priority.CRITICAL)
    assert "another position" in alert.text
    assert parts.state.flatten.reason == ""
    parts.sync.on_position(2)
    assert parts.work(21 * GRACE) == [("submit", f"{RUN}-1S")]


@pytest.mark.parametrize("reconciled", [False, True])
def test_where_no_position_was_reported_a_comparison_is_enough(reconciled):
    parts = Protecting(2)
    parts.sync.on_position(None)
    parts.sync.reconciled = reconciled
    parts.work()
    assert len(parts.work(GRACE)) == reconciled


def test_a_fill_after_the_report_counts_as_held():
    """Positions are reported before their fills, or after."""
    parts = Protecting(0)
    parts.sync.on_position(0)
    parts.hold(1)
    parts.sync.on_position(0)
    parts.sync.on_fill(1, 1)
    parts.work()
    assert parts.work(GRACE) == [("submit", f"{RUN}-1S")]


# Bare again.


def test_a_position_that_is_bare_again_raises_another_alert(parts):
    for n in range(2):
        stop = parts.place(OrderRole.STOP, state=OrderState.SENT)
        parts.work(10 * n * GRACE)
        parts.work(10 * n * GRACE + GRACE)
        assert parts.alert_codes == ["position_unprotected"] * (n + 1)
        parts.report(stop, OrderStatus.WORKING)
        parts.work(10 * n * GRACE + 2 * GRACE)
        parts.report(stop, OrderStatus.CANCELED)


def test_while_a_fill_is_missing_no_stop_is_sent(parts):
    parts.report(parts.place(OrderRole.TARGET), OrderStatus.FILLED, filled=1)
    parts.work()
    assert parts.work(GRACE) == []
    assert parts.alert_codes == ["position_unprotected"]


def test_a_stop_of_the_other_side_protects_nothing_and_is_not_waited_for(parts):
    parts.place(OrderRole.STOP, Side.BUY, state=OrderState.SENT)
    parts.work()
    assert ("submit", f"{RUN}-1S") in parts.work(GRACE)


def test_a_position_that_is_being_closed_gets_no_stop_that_would_race_its_exit(parts):
    parts.state.request_flatten("operator")
    assert parts.work() == parts.work(10 * GRACE) == []
    assert (parts.alerts, parts.due_ns) == ([], NEVER_NS)


def test_while_refusals_hold_back_every_exit_the_position_gets_a_stop(parts):
    parts.state.request_flatten("operator")
    parts.state.flatten.paused_until_ns = NOW + 4 * GRACE
    parts.work()
    assert parts.work(GRACE) == [("submit", f"{RUN}-1S")]
    parts.report(parts.orders.get(f"{RUN}-1S"), OrderStatus.CANCELED)
    assert parts.work(3 * GRACE) == []  # the next exit is near
    assert parts.state.flatten.reason == "operator"


# Giving up: the position is closed.


def test_after_two_stops_that_were_rejected_the_position_is_closed(parts):
    parts.work()
    for n in (1, 2):
        assert parts.work(n * GRACE) == [("submit", f"{RUN}-{n}S")]
        parts.report(parts.orders.get(f"{RUN}-{n}S"), OrderStatus.REJECTED)
        assert parts.work((n + 1) * GRACE - 1) == []
        assert parts.state.flatten.reason == ""
    assert parts.work(3 * GRACE) == []
    assert parts.state.flatten.reason == "unprotected"
    assert parts.due_ns == 3 * GRACE  # at once
    assert "it is being closed" in parts.alerts[-1].text
    assert parts.alert_codes == ["position_unprotected"] * 3


def test_as_configured_it_is_closed_without_a_new_stop():
    parts = Protecting(flatten=True)
    parts.work()
    assert parts.work(GRACE) == []
    assert parts.state.flatten.reason == "unprotected"


@pytest.mark.parametrize(
    ("quantity", "bid", "closed"), [(1, 96.0, True), (1, 96.25, False), (-1, 103.75, True), (-1, 103.5, False)]
)
def test_where_the_market_has_reached_the_stop_already_the_position_is_closed(quantity, bid, closed):
    parts = Protecting(quantity)
    parts.touch(bid)
    parts.work()
    assert len(parts.work(GRACE)) == (not closed)
    assert parts.state.flatten.reason == ("unprotected" if closed else "")


def test_a_stop_lies_on_the_tick_grid_and_so_the_market_reaches_it():
    parts = Protecting(1)
    parts.hold(2, 100.75)  # at 100.375 on average: the stop belongs at 96.5
    parts.touch(96.5)
    parts.work()
    assert parts.work(GRACE) == []
    assert parts.state.flatten.reason == "unprotected"


def test_without_a_touch_the_stop_is_sent_all_the_same(parts):
    """As after a restart, before the first market event."""
    parts.market.touch = Touch()
    parts.work()
    assert parts.work(GRACE) == [("submit", f"{RUN}-1S")]


def test_where_risk_refuses_the_stop_the_position_is_closed(parts):
    parts.use_up(f"{RUN}-1S", OrderRole.STOP)
    parts.work()
    assert parts.work(GRACE) == []
    assert parts.alert_codes == ["position_unprotected", "exit_denied"]
    assert parts.state.flatten.reason == "unprotected"


def test_as_configured_a_position_is_protected_or_closed_and_waits_are_stretched():
    def policy(broker=None, **incidents):
        document = {
            "risk": LOOSE.model_dump(), "decision": {"stop_ticks": 9}, "incidents": incidents, "broker": broker or {}
        }  # fmt: skip
        return ProtectionPolicy.of(config.parse(document, "test", environ={}), 3.0)

    second = 3 * NS_PER_S
    assert policy() == ProtectionPolicy(stop_ticks=9, grace_ns=second, surplus_ns=second, flatten=False)
    assert policy(on_unprotected="flatten").flatten
    assert policy({"brackets": "client"}).surplus_ns == 0  # nobody else cancels the other order of a pair
