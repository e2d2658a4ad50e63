"""No position without a working stop, and no closing order with nothing left to close."""

import pytest
from actor_parts import LOOSE, NOW, RUN, ActorParts

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
    assert (parts.due_ns, parts.alerts) == (GRACE, [])
    assert parts.work(GRACE - 1) == []
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
    assert parts.due_ns == 2 * GRACE + 1  # the time without one counts anew


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.UNKNOWN])
def test_while_a_stop_may_work_already_no_second_one_is_sent_but_an_alert(parts, state):
    parts.place(OrderRole.STOP, state=state)
    parts.work()
    for after in (GRACE, 2 * GRACE):
        assert parts.work(after) == []
    assert parts.alert_codes == ["position_unprotected"]
    assert "is awaited" in parts.alerts[0].text


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


def test_without_a_touch_the_position_is_closed(parts):
    parts.market.touch = Touch()
    parts.work()
    assert parts.work(GRACE) == []
    assert parts.state.flatten.reason == "unprotected"


def test_where_risk_refuses_the_stop_the_position_is_closed(parts):
    parts.use_up(f"{RUN}-1S", OrderRole.STOP)
    parts.work()
    assert parts.work(GRACE) == []
    assert parts.alert_codes == ["position_unprotected", "exit_denied"]
    assert parts.state.flatten.reason == "unprotected"


# Closing orders with nothing left to close.


def test_flat_the_exits_of_a_bracket_are_cancelled_after_the_servers_time_to_do_so():
    parts = Protecting(0)
    names = [parts.place(role, parent_id="K0E").client_order_id for role in (OrderRole.STOP, OrderRole.TARGET)]
    assert parts.work() == []
    assert parts.due_ns == GRACE
    assert parts.work(GRACE) == [("cancel", name) for name in names]
    assert parts.work(2 * GRACE) == []  # asked for once


def test_flat_a_stop_without_a_bracket_is_cancelled_at_once():
    """Nobody else would cancel it."""
    parts = Protecting(0)
    stop = parts.place(OrderRole.STOP)
    assert parts.work() == [("cancel", stop.client_order_id)]


def test_what_the_server_cancels_in_time_is_not_cancelled_by_us():
    parts = Protecting(0)
    stop = parts.place(OrderRole.STOP, parent_id="K0E")
    parts.work()
    parts.report(stop, OrderStatus.CANCELED)
    assert parts.work(1) == []
    parts.place(OrderRole.TARGET, parent_id="K0E")
    assert parts.work(GRACE) == []
    assert parts.due_ns == 2 * GRACE  # the time counts anew


def test_an_order_that_would_add_to_the_position_instead_of_closing_it_is_cancelled(parts):
    parts.place(OrderRole.STOP)
    wrong = parts.place(OrderRole.TARGET, Side.BUY, parent_id="K0E")
    parts.work()
    assert parts.work(GRACE) == [("cancel", wrong.client_order_id)]


@pytest.mark.parametrize("newest", ["ours", "the bracket's"])
def test_a_stop_beyond_the_position_is_cancelled_and_that_of_the_bracket_stays(parts, newest):
    first = parts.place(OrderRole.STOP, parent_id="" if newest == "the bracket's" else "K0E")
    second = parts.place(OrderRole.STOP, parent_id="" if newest == "ours" else "K0E")
    ours = second if newest == "ours" else first
    assert parts.work() == [("cancel", ours.client_order_id)]


def test_an_exit_at_work_is_no_stop_too_many(parts):
    parts.place(OrderRole.STOP, parent_id="K0E")
    ours = parts.place(OrderRole.STOP)
    parts.place(OrderRole.EXIT)
    assert parts.work() == [("cancel", ours.client_order_id)]


def test_as_many_stops_are_cancelled_as_are_too_many_the_newest_first():
    parts = Protecting(2)
    parts.place(OrderRole.STOP, quantity=2)
    second, third = parts.place(OrderRole.STOP, quantity=2), parts.place(OrderRole.STOP, quantity=1)
    assert parts.work() == [("cancel", third.client_order_id), ("cancel", second.client_order_id)]


def test_a_stop_that_is_only_in_part_too_much_stays():
    """Without it the position would be bare."""
    parts = Protecting(3)
    for _ in range(2):
        parts.place(OrderRole.STOP, quantity=2)
    assert parts.work() == parts.work(2 * GRACE) == []


@pytest.mark.parametrize("doubt", ["entry", "missing fill"])
def test_while_a_fill_may_be_on_its_way_nothing_is_too_much(doubt):
    parts = Protecting(0)
    parts.place(OrderRole.STOP)
    entry = parts.place()
    if doubt == "missing fill":
        parts.report(entry, OrderStatus.FILLED, filled=1)
    assert parts.work() == parts.work(2 * GRACE) == []


def test_as_configured_a_position_is_protected_or_closed_and_waits_are_stretched():
    def policy(**incidents):
        document = {"risk": LOOSE.model_dump(), "decision": {"stop_ticks": 9}, "incidents": incidents}
        return ProtectionPolicy.of(config.parse(document, "test", environ={}), 3.0)

    assert policy() == ProtectionPolicy(stop_ticks=9, grace_ns=3 * NS_PER_S, flatten=False)
    assert policy(on_unprotected="flatten").flatten
