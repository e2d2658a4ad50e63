"""How a position is closed: by its target where that works, else by an exit, at last by the server's flatten.

And what the server's refusals to close it lead to.
"""

import pytest
from actor_parts import LOOSE, NOW, RUN, ActorParts

from mia_daemon import config
from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.execution.exits import ExitPolicy, Exits
from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_states import OrderState
from mia_daemon.market import Touch
from mia_daemon.records import OrderRole, OrderStatus, OrderType, Priority, Side
from mia_daemon.risk.codes import RiskCode

CHASE, GRACE, ESCALATE = 1_000, 2_000, 10_000


class Closing(ActorParts):
    """A position of one contract at 100.00 / 100.25, the exits that close it, and what they send."""

    def __init__(self, quantity=1):
        super().__init__()
        self.hold(quantity)
        self.side = Side.SELL if quantity > 0 else Side.BUY
        self.exits = Exits(
            self.state,
            self.ports,
            self.order_manager,
            self.breakers,
            ExitPolicy(
                slippage_ticks=4,
                chase_ns=CHASE,
                grace_ns=GRACE,
                escalate_ns=ESCALATE,
                longest_pause_ns=30 * ESCALATE,
            ),
        )

    def work(self, after=0, *, sure=True):
        """What is sent then; `due_ns` is counted from the first moment."""
        self.after(after)
        before = len(self.broker.sent)
        due_ns = self.exits.work(self.state.held, sure=sure)
        self.due_ns = due_ns - NOW if due_ns != NEVER_NS else NEVER_NS
        return self.broker.sent[before:]

    def refuse(self, name):
        """The server rejects this order to close the position."""
        handler = OrderEventHandler(self.state, self.ports, self.order_manager, None, self.breakers)
        handler.on_event(self.update(self.orders.get(name), OrderStatus.REJECTED, text="there is no position"))

    def place_exits(self, quantity=1, **more):
        stop = self.place(OrderRole.STOP, self.side, quantity, 96.0, **more)
        return stop, self.place(OrderRole.TARGET, self.side, quantity, 106.0, **more)


@pytest.fixture
def parts():
    return Closing()


def test_without_a_reason_nothing_is_closed(parts):
    parts.place_exits()
    assert parts.work() == []
    assert (parts.due_ns, parts.orders.with_role(OrderRole.EXIT)) == (NEVER_NS, [])


@pytest.mark.parametrize(("quantity", "price"), [(1, 99.0), (-1, 101.25)])
def test_the_target_is_moved_to_where_it_fills_and_no_other_order_is_sent(quantity, price):
    """The server cancels the stop then: no second order of ours can race the two."""
    parts = Closing(quantity)
    _, target = parts.place_exits()
    parts.state.request_flatten("faded")
    assert parts.work() == [("replace", target.client_order_id, price, 1)]
    assert target.request.exit_reason == "faded"
    assert parts.due_ns == CHASE
    assert parts.work(CHASE) == []  # not again while that is unanswered
    assert parts.due_ns == ESCALATE


def test_an_exit_that_does_not_fill_follows_the_market_further_each_time(parts):
    _, target = parts.place_exits()
    parts.state.request_flatten("faded")
    moves = []
    for n, bid in enumerate((100.0, 99.0, 98.0)):
        parts.touch(bid)
        moves += parts.work(n * CHASE)
        parts.report(target, OrderStatus.REPLACED, price=moves[-1][2])
        assert parts.work(n * CHASE + CHASE - 1) == []
    assert [price for _, _, price, _ in moves] == [99.0, 97.0, 95.0]


def test_no_exit_is_priced_below_the_smallest_price(parts):
    parts.touch(0.5)
    parts.place_exits()
    parts.state.request_flatten("faded")
    assert [price for _, _, price, _ in parts.work()] == [0.25]


def test_entries_are_cancelled_first_and_no_exit_is_sent_while_one_may_fill(parts):
    entry = parts.place(price=99.0)
    parts.state.request_flatten("operator")
    assert parts.work() == [("cancel", entry.client_order_id)]
    parts.report(entry, OrderStatus.CANCELED)
    assert [what for what, *_ in parts.work()] == ["submit"]


def test_the_stop_is_cancelled_before_an_exit_of_our_own_is_sent(parts):
    stop = parts.place(OrderRole.STOP, price=96.0)
    parts.state.request_flatten("operator")
    assert parts.work() == [("cancel", stop.client_order_id)]
    assert parts.work(1) == []
    parts.report(stop, OrderStatus.CANCELED)
    assert parts.work(2) == [("submit", f"{RUN}-1X")]
    (order,) = parts.broker.orders
    assert (order.side, order.quantity, order.type, order.price) == (Side.SELL, 1, OrderType.LIMIT, 99.0)
    assert (order.role, order.decision_id) == (OrderRole.EXIT, "d1")
    assert parts.orders.get(order.client_order_id).request.exit_reason == "operator"


def test_an_exit_of_our_own_is_moved_after_the_market_too(parts):
    parts.state.request_flatten("operator")
    parts.work()
    assert parts.due_ns == CHASE
    (exit_,) = parts.orders
    parts.report(exit_, OrderStatus.WORKING)
    assert parts.work(CHASE - 1) == []
    assert parts.due_ns == CHASE
    assert parts.work(CHASE) == [("replace", exit_.client_order_id, 98.0, 1)]
    assert len(parts.broker.orders) == 1


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.ACKED])
def test_an_exit_that_is_sent_or_being_placed_closes_the_position_and_no_other_is_sent(parts, state):
    """As of a server that says "order sent" or "pending open" for as long as it likes."""
    parts.place(OrderRole.EXIT, quantity=1, price=99.0, state=state)
    stop = parts.place(OrderRole.STOP, price=96.0)
    parts.state.request_flatten("operator")
    assert [what for what, *_ in parts.work()] == []
    assert [what for what, *_ in parts.work(ESCALATE - 1)] == ["replace"] * (state is OrderState.ACKED)
    assert not stop.request.cancel_wanted


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.HELD])
def test_a_target_about_to_work_is_waited_for_a_moment(parts, state):
    _, target = parts.place_exits(state=state)
    parts.state.request_flatten("operator")
    assert parts.work() == []
    assert parts.due_ns == GRACE
    parts.report(target, OrderStatus.WORKING)
    assert [what for what, *_ in parts.work(GRACE - 1)] == ["replace"]


def test_a_target_that_is_being_placed_is_moved_at_once(parts):
    _, target = parts.place_exits(state=OrderState.ACKED)
    parts.state.request_flatten("operator")
    assert parts.work() == [("replace", target.client_order_id, 99.0, 1)]


def test_a_target_that_does_not_come_to_work_in_time_is_cancelled(parts):
    exits = parts.place_exits(state=OrderState.HELD)
    parts.state.request_flatten("operator")
    parts.work()
    assert parts.work(GRACE) == [("cancel", entry.client_order_id) for entry in exits]


def test_a_target_for_a_part_of_the_position_is_not_enough(parts):
    parts.hold(2)
    stop, target = parts.place_exits()
    parts.state.request_flatten("operator")
    assert parts.work() == [("cancel", stop.client_order_id), ("cancel", target.client_order_id)]
    assert parts.work(CHASE) == []  # what is being cancelled is not moved
    for entry in (stop, target):
        parts.report(entry, OrderStatus.CANCELED)
    assert parts.work(CHASE) == [("submit", f"{RUN}-1X")]
    assert parts.broker.orders[-1].quantity == 2


def test_what_an_exit_closes_already_is_not_closed_again(parts):
    parts.hold(3)
    parts.place(OrderRole.EXIT, quantity=2, price=99.0)
    parts.state.request_flatten("operator")
    assert parts.work() == [("submit", f"{RUN}-1X")]
    assert parts.broker.orders[-1].quantity == 1


def test_a_server_that_changes_no_orders_has_them_cancelled_and_gets_an_exit(parts):
    parts.broker.replaces = False
    stop, target = parts.place_exits()
    parts.state.request_flatten("operator")
    assert parts.work() == [("cancel", stop.client_order_id), ("cancel", target.client_order_id)]
    for entry in (stop, target):
        parts.report(entry, OrderStatus.CANCELED)
    assert parts.work() == [("submit", f"{RUN}-1X")]
    parts.report(parts.orders.get(f"{RUN}-1X"), OrderStatus.WORKING)
    assert parts.work(CHASE) == [("cancel", f"{RUN}-1X")]  # it does not fill: another follows at a new price
    parts.report(parts.orders.get(f"{RUN}-1X"), OrderStatus.CANCELED)
    assert parts.work(CHASE) == [("submit", f"{RUN}-2X")]


def test_a_target_whose_change_was_refused_is_cancelled_for_an_exit(parts):
    stop, target = parts.place_exits()
    parts.state.request_flatten("operator")
    parts.work()
    parts.report(target, OrderStatus.REPLACE_REJECTED)
    assert parts.work(1) == [("cancel", stop.client_order_id), ("cancel", target.client_order_id)]


# Nothing beyond what the server holds.


@pytest.mark.parametrize(("theirs", "closed"), [(3, 2), (2, 2), (1, 1)])
def test_no_more_is_closed_than_the_server_holds(parts, theirs, closed):
    parts.hold(2)
    parts.sync.on_position(theirs)
    parts.state.request_flatten("operator")
    parts.work()
    assert [order.quantity for order in parts.broker.orders] == [closed]


@pytest.mark.parametrize("theirs", [0, -1])
def test_a_position_that_the_server_does_not_hold_is_not_closed(parts, theirs):
    """As when a person has closed it: an exit would open one on the other side."""
    parts.sync.on_position(theirs)
    parts.state.request_flatten("operator")
    for after in range(0, 10 * ESCALATE, ESCALATE // 4):
        parts.work(after)
    assert parts.broker.sent == []
    assert parts.sync.query_reason == "a position could not be closed"


def test_until_the_server_has_told_its_position_or_agreed_nothing_is_closed(parts):
    parts.sync.on_position(None)
    parts.sync.reconciled = False
    parts.state.request_flatten("operator")
    assert parts.work() == []
    parts.sync.reconciled = True
    assert parts.work(CHASE) == [("submit", f"{RUN}-1X")]


def test_what_stands_on_the_other_side_is_neither_moved_nor_waited_for(parts):
    """It would not close the position."""
    parts.place(OrderRole.TARGET, Side.BUY, price=98.0)
    parts.state.request_flatten("operator")
    assert parts.work() == [("submit", f"{RUN}-1X")]


def test_while_it_is_not_sure_that_the_servers_position_is_ours_no_exit_of_ours_is_sent(parts):
    parts.state.request_flatten("operator")
    assert parts.work(sure=False) == []
    assert parts.due_ns == ESCALATE
    assert parts.work(sure=True) == [("submit", f"{RUN}-1X")]


def test_while_it_is_not_sure_the_stop_stays_and_what_the_server_holds_is_moved(parts):
    stop = parts.place(OrderRole.STOP, price=96.0)
    parts.state.request_flatten("operator")
    assert parts.work(sure=False) == []
    target = parts.place(OrderRole.TARGET, price=106.0)
    assert parts.work(sure=False) == [("replace", target.client_order_id, 99.0, 1)]
    assert not stop.request.cancel_pending


def test_while_it_is_not_sure_the_server_is_asked_to_flatten_in_the_end(parts):
    parts.state.request_flatten("operator")
    assert parts.work(ESCALATE - 1, sure=False) == []
    assert parts.work(ESCALATE, sure=False) == [("flatten", f"{RUN}-1X")]


@pytest.mark.parametrize("doubt", ["unknown", "missing fill"])
def test_evidence_comes_first_where_the_position_may_be_closed_already(parts, doubt):
    if doubt == "unknown":
        parts.place(OrderRole.TARGET, state=OrderState.UNKNOWN)
    else:
        parts.report(parts.place(OrderRole.TARGET), OrderStatus.FILLED, filled=1)
    parts.state.request_flatten("operator")
    assert parts.work() == []
    assert parts.work(2 * ESCALATE) == []


def test_flat_the_flatten_is_over_once_no_entry_can_fill_any_more(parts):
    parts.hold(0)
    entry = parts.place()
    parts.state.request_flatten("operator")
    assert parts.work() == [("cancel", entry.client_order_id)]
    assert parts.state.flatten.reason == "operator"
    parts.report(entry, OrderStatus.FILLED, filled=1)  # reported and not shown: the position is about to change
    parts.work()
    assert parts.state.flatten.reason == "operator"
    parts.report(entry, OrderStatus.UNKNOWN_TO_SERVER)
    parts.work()
    assert (parts.state.flatten.reason, parts.due_ns) == ("", NEVER_NS)


def test_exits_leave_although_the_journal_is_dead(parts):
    parts.journal.fails = {"all"}
    parts.state.request_flatten("operator")
    assert parts.work() == [("submit", f"{RUN}-1X")]
    assert parts.latched == [RiskCode.HALTED]


# The last resort.


def test_without_a_touch_the_server_is_asked_to_flatten(parts):
    parts.market.touch = Touch()
    parts.state.request_flatten("operator")
    assert parts.work() == [("flatten", f"{RUN}-1X")]
    (order,) = parts.broker.orders
    assert (order.type, order.side, order.quantity, order.price) == (OrderType.MARKET, Side.SELL, 1, 0.0)
    assert parts.orders.get(order.client_order_id).request.exit_reason == "operator"


def test_without_a_touch_a_target_is_not_moved(parts):
    parts.market.touch = Touch()
    parts.place_exits()
    parts.state.request_flatten("operator")
    assert parts.work() == []


def test_an_exit_that_risk_refuses_is_left_to_the_server(parts):
    parts.use_up(f"{RUN}-1X", OrderRole.EXIT)
    parts.state.request_flatten("operator")
    assert parts.work() == [("flatten", f"{RUN}-2X")]
    assert parts.alert_codes == ["exit_denied"]


def test_one_exit_is_sent_at_a_time(parts):
    parts.state.request_flatten("operator")
    parts.work()
    (exit_,) = parts.orders
    parts.report(exit_, OrderStatus.REJECTED)
    assert parts.work(CHASE - 1) == []
    assert parts.due_ns == CHASE
    assert parts.work(CHASE) == [("submit", f"{RUN}-2X")]


def test_an_exit_that_stays_stuck_gives_way_to_the_servers_flatten(parts):
    stop, target = parts.place_exits()
    parts.state.request_flatten("faded")
    parts.work()
    assert parts.work(ESCALATE) == [("cancel", stop.client_order_id), ("cancel", target.client_order_id)]
    assert parts.alerts == []
    assert parts.work(ESCALATE + 1) == []  # not before every other order is gone
    for entry in (stop, target):
        parts.report(entry, OrderStatus.CANCELED)
    assert parts.work(ESCALATE + 2) == [("flatten", f"{RUN}-1X")]
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("exit_stuck", Priority.CRITICAL)
    assert alert.context == {"position": 1, "reason": "faded"}


def flattened(parts):
    """The server was asked to flatten, at the last moment."""
    parts.state.request_flatten("faded")
    assert parts.work(ESCALATE) == [("flatten", f"{RUN}-1X")]
    (entry,) = parts.orders
    return entry


def test_the_servers_flatten_has_its_time(parts):
    asked = flattened(parts)
    assert parts.due_ns == 2 * ESCALATE
    parts.report(asked, OrderStatus.CANCELED)
    assert parts.work(2 * ESCALATE - 1) == []
    assert parts.work(2 * ESCALATE) == [("flatten", f"{RUN}-2X")]


def test_a_flatten_without_effect_is_asked_for_again_after_twice_the_time_each_time(parts):
    """543 in 76 seconds would not close more."""
    parts.report(flattened(parts), OrderStatus.CANCELED)
    asked = [1]
    for tenth in range(11, 1000):
        for what, name in parts.work(tenth * ESCALATE // 10):
            assert what == "flatten"
            parts.report(parts.orders.get(name), OrderStatus.CANCELED)
            asked.append(tenth / 10)
    assert asked == [1, 2, 4, 8, 16, 32, 62, 92]  # at most 30 times the first
    assert parts.alert_codes == ["exit_stuck"] * len(asked)


def test_the_next_flatten_starts_afresh(parts):
    """What the first one has moved and waited for does not hold back the second."""
    parts.state.request_flatten("faded")
    parts.work()
    parts.hold(0)
    parts.report(next(iter(parts.orders)), OrderStatus.CANCELED)
    parts.work(1)
    assert parts.state.flatten.reason == ""
    parts.hold(-1)
    parts.state.request_flatten("kill")
    assert parts.work(2) == [("submit", f"{RUN}-2X")]
    assert parts.broker.orders[-1].side is Side.BUY


# Refusals.


def test_after_a_refused_exit_the_next_waits_longer_each_time_and_the_server_is_asked(parts):
    parts.state.request_flatten("operator")
    assert parts.work() == [("submit", f"{RUN}-1X")]
    parts.refuse(f"{RUN}-1X")
    assert parts.sync.query_reason == "the server refused to close the position"
    assert parts.work(CHASE - 1) == []
    assert parts.due_ns == CHASE
    assert parts.work(CHASE) == [("submit", f"{RUN}-2X")]
    parts.refuse(f"{RUN}-2X")
    parts.sync.agreed_ns = NOW + CHASE + 1
    assert parts.work(3 * CHASE - 1) == []
    assert parts.due_ns == 3 * CHASE
    assert parts.work(3 * CHASE) == [("submit", f"{RUN}-3X")]
    assert parts.latched == []


def test_after_two_refusals_nothing_is_sent_before_the_server_was_asked_and_agrees(parts):
    parts.state.request_flatten("operator")
    for n in (1, 2):
        parts.work((n - 1) * CHASE)
        parts.refuse(f"{RUN}-{n}X")
    assert [parts.work(after) for after in range(2 * CHASE, 4 * ESCALATE, CHASE)] == [[]] * 38
    assert parts.due_ns != NEVER_NS
    parts.sync.agreed_ns = NOW + CHASE  # of a query asked before the refusal
    assert parts.work(4 * ESCALATE) == []
    parts.sync.agreed_ns = NOW + CHASE + 1
    assert len(parts.work(4 * ESCALATE)) == 1


def test_a_server_that_refuses_every_exit_gets_few_of_them_and_the_operator_one_alert(parts):
    """Recorded: 543 flattens in 76 seconds, each refused with "there is no position to flatten"."""
    parts.place_exits(state=OrderState.SENT)
    for entry in parts.orders:
        parts.report(entry, OrderStatus.REJECTED)
    parts.state.request_flatten("faded")
    times = []
    for quarter in range(4 * 100):
        after = quarter * CHASE // 4
        for _, name in parts.work(after):
            times.append(after / CHASE)
            parts.refuse(name)
        parts.sync.agreed_ns = parts.state.own_ns + 1
        parts.breakers.announce()
    assert times == [0, 1, 3, 7, 15, 31, 63]
    assert parts.latched == [RiskCode.CONTRADICTED]
    (alert,) = (alert for alert in parts.alerts if alert.code == "exit_refused")
    assert (alert.priority, alert.context) == (Priority.URGENT, {"position": 1, "refusals": 3})
    assert "mia-daemon resume" in alert.text


def test_while_exits_are_refused_the_position_may_be_protected(parts):
    """Until then nothing is sent that a stop could race."""
    parts.state.request_flatten("operator")
    parts.work()
    parts.refuse(f"{RUN}-1X")
    parts.work(1)
    assert parts.state.flatten.paused_until_ns == NOW + CHASE
    parts.work(CHASE)
    parts.refuse(f"{RUN}-2X")
    parts.work(CHASE + 1)
    assert parts.state.flatten.paused_until_ns == NOW + 3 * CHASE


def test_a_flat_account_ends_the_row_of_refusals(parts):
    parts.state.request_flatten("operator")
    parts.work()
    parts.refuse(f"{RUN}-1X")
    parts.work(1)
    parts.hold(0)
    parts.work(2)
    flatten = parts.state.flatten
    assert (flatten.reason, flatten.refusals, flatten.paused_until_ns) == ("", 0, 0)
    parts.hold(1)
    parts.state.request_flatten("operator")
    assert parts.work(3) == [("submit", f"{RUN}-2X")]


def test_what_waits_for_an_answer_is_stretched_with_time():
    settings = config.parse({"risk": LOOSE.model_dump(), "decision": {"max_slippage_ticks": 3}}, "test", environ={})
    assert ExitPolicy.of(settings, 1.0) == ExitPolicy(slippage_ticks=3)
    stretched = ExitPolicy.of(settings, 4.0)
    assert (stretched.chase_ns, stretched.grace_ns, stretched.escalate_ns, stretched.longest_pause_ns) == (
        4 * NS_PER_S,
        4 * NS_PER_S,
        40 * NS_PER_S,
        1200 * NS_PER_S,
    )
