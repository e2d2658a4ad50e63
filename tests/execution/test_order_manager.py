"""Nothing leaves before its intent is on file; what only takes risk away leaves without one."""

from dataclasses import replace

import pytest
from actor_parts import ACCOUNT, NOW, RUN, SYMBOL, ActorParts, make_fill, make_order, make_update

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.execution.order_manager import CANCEL_DOUBLINGS, OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import JournaledOrder, OrderRole, OrderStatus, OrderType, Priority, Side
from mia_daemon.risk.codes import RiskCode


@pytest.fixture
def parts():
    return ActorParts()


@pytest.fixture
def manager(parts):
    return parts.order_manager


def bracket_of(manager, quantity=1):
    return manager.factory.make_bracket(Side.BUY, quantity, 100.25, stop=96.25, target=106.25, decision_id="d1")


def exit_of(manager, quantity=1, price=99.0, side=Side.SELL):
    return manager.factory.make(OrderRole.EXIT, side, quantity, OrderType.LIMIT, price, "d1")


def stop_of(manager, quantity=1, price=96.25):
    return manager.factory.make(OrderRole.STOP, Side.SELL, quantity, OrderType.STOP, price, "d1")


# Sending.


def test_an_entry_is_on_file_with_its_stop_and_target_before_it_leaves(parts, manager):
    assert manager.send_bracket(bracket_of(manager))
    names = tuple(f"{RUN}-1{letter}" for letter in "EST")
    assert parts.happened == [("journal", "intent", names), ("bracket", names[0])]
    assert [(entry.client_order_id, entry.state) for entry in parts.orders] == [
        (name, OrderState.SENT) for name in names
    ]


def test_where_pairs_are_kept_here_the_entry_leaves_alone(parts):
    manager = OrderManager(parts.state, parts.ports, parts.breakers, client_pairs=True)
    assert manager.send_bracket(bracket_of(manager))
    assert parts.happened == [("journal", "intent", (f"{RUN}-1E",)), ("submit", f"{RUN}-1E")]
    assert ([entry.client_order_id for entry in parts.orders], manager.approved) == ([f"{RUN}-1E"], 1)


def test_a_target_is_sent_as_protection_too(parts, manager):
    parts.hold(1)
    target = manager.factory.make(OrderRole.TARGET, Side.SELL, 1, OrderType.LIMIT, 106.25, "d1")
    assert manager.send_protection(target)
    assert parts.broker.sent == [("submit", f"{RUN}-1T")]


def test_what_is_sent_is_dated_in_event_time_and_awaited_in_our_time(parts, manager):
    own_ns = 7 * NS_PER_S
    parts.state.own_clock = lambda: own_ns
    manager.send_bracket(bracket_of(manager))
    for entry in parts.orders:
        assert (entry.history.sent_ns, entry.history.sent_at_ns, entry.request.asked_ns) == (NOW, own_ns, own_ns)


def test_an_entry_that_cannot_be_put_on_file_does_not_leave_and_halts(parts, manager):
    parts.journal.fails = {"intent"}
    assert not manager.send_bracket(bracket_of(manager))
    assert (parts.broker.sent, len(parts.orders), manager.approved) == ([], 0, 0)
    assert parts.latched == [RiskCode.HALTED]


@pytest.mark.parametrize("what", ["stop", "exit", "flatten"])
def test_what_closes_is_on_file_before_it_leaves(parts, manager, what):
    parts.hold(1)
    send(manager, what)
    *written, last = parts.happened
    assert all(entry[0] == "journal" for entry in written)
    assert written[0] == ("journal", "intent", (last[1],))
    assert last[0] == {"stop": "submit", "exit": "submit", "flatten": "flatten"}[what]


@pytest.mark.parametrize("what", ["stop", "exit", "flatten"])
def test_what_closes_leaves_although_the_journal_is_dead(parts, manager, what):
    parts.hold(1)
    parts.journal.fails = {"all"}
    send(manager, what)
    assert len(parts.broker.sent) == 1
    assert [entry.state for entry in parts.orders] == [OrderState.SENT]
    assert parts.latched == [RiskCode.HALTED]


def send(manager, what):
    if what == "stop":
        assert manager.send_protection(stop_of(manager))
    elif what == "exit":
        assert manager.send_exit(exit_of(manager), "operator")
    else:
        manager.flatten(exit_of(manager), "operator")


def test_an_exit_and_why_it_closes_are_on_file_together_or_not_at_all(parts, manager):
    parts.hold(2)
    parts.journal.fails = {"request"}
    manager.send_exit(exit_of(manager), "operator")
    assert parts.journal.written == []
    parts.journal.fails = set()
    manager.send_exit(exit_of(manager), "kill")
    assert parts.journal.written == [
        ("intent", (f"{RUN}-2X",), NOW),
        ("request", f"{RUN}-2X", "flatten", NOW, None, None, "kill"),
    ]
    assert [entry.request.exit_reason for entry in parts.orders] == ["operator", "kill"]


@pytest.mark.parametrize("what", ["stop", "exit"])
def test_an_order_that_would_open_a_position_instead_of_closing_one_is_not_sent(parts, manager, what):
    parts.hold(1)
    sent = (
        manager.send_protection(stop_of(manager, 2))
        if what == "stop"
        else manager.send_exit(exit_of(manager, 2), "operator")
    )
    assert not sent
    assert (parts.broker.sent, parts.journal.written, len(parts.orders)) == ([], [], 0)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("exit_denied", Priority.CRITICAL)
    assert "not_reducing" in alert.text


def test_the_servers_flatten_is_the_last_resort_and_not_asked_about(parts, manager):
    """What the position is, is not known then."""
    manager.flatten(exit_of(manager, 9), "operator")
    assert parts.broker.sent == [("flatten", f"{RUN}-1X")]


# What was approved.


def test_orders_that_left_are_counted_against_those_approved_since_the_start(parts):
    parts.broker.orders_sent = 7  # of an earlier account of the same connection
    manager = OrderManager(parts.state, parts.ports, parts.breakers)
    parts.hold(1)
    manager.send_bracket(bracket_of(manager))
    manager.send_protection(stop_of(manager))
    assert (manager.approved, manager.unapproved) == (4, 0)
    parts.broker.orders_sent += 1
    assert manager.unapproved == 1


# Cancels.


def test_a_cancel_is_asked_for_once_while_it_may_be_answered(parts, manager):
    entry = parts.place()
    for _ in range(3):
        manager.cancel(entry)
    assert manager.work() == NOW + NS_PER_S
    assert parts.broker.sent == [("cancel", entry.client_order_id)]
    assert len(parts.journal.rows("request")) == 1


def unanswered(_parts, _entry):
    pass


def refused(parts, entry):
    parts.report(entry, OrderStatus.CANCEL_REJECTED)


def listed(parts, entry):
    """No answer came; the server lists the order as open."""
    parts.orders.lose(entry)
    parts.report(entry, OrderStatus.WORKING, unsolicited=False)


@pytest.mark.parametrize("without_effect", [unanswered, refused, listed])
def test_a_cancel_without_effect_is_sent_again_by_itself_after_one_two_four_seconds(parts, manager, without_effect):
    entry = parts.place()
    manager.cancel(entry)
    sent_ns, pauses = 0, []
    for _ in range(CANCEL_DOUBLINGS + 2):
        without_effect(parts, entry)
        due_ns = manager.work() - NOW
        pauses.append((due_ns - sent_ns) / NS_PER_S)
        before = len(parts.broker.sent)
        parts.after(due_ns - 1)
        assert manager.work() == NOW + due_ns
        assert len(parts.broker.sent) == before
        parts.after(due_ns)
        assert manager.work() > NOW + due_ns
        assert len(parts.broker.sent) == before + 1
        sent_ns = due_ns
    assert pauses == [1, 2, 4, 8, 16, 32, 32]
    assert {what for what, _ in parts.broker.sent} == {"cancel"}


def test_the_first_pause_is_a_second_of_real_time(parts, manager):
    parts.state.second_ns = 4 * NS_PER_S  # event time runs four times as fast
    manager.cancel(parts.place())
    assert manager.work() == NOW + 4 * NS_PER_S


def test_cancels_are_repeated_by_our_clock_however_fast_the_market_runs(parts, manager):
    own = [5]
    parts.state.own_clock = lambda: own[0]
    entry = parts.place()
    manager.cancel(entry)
    parts.report(entry, OrderStatus.CANCEL_REJECTED)
    parts.after(3600 * NS_PER_S)
    assert manager.work() == 5 + NS_PER_S
    own[0] = 5 + NS_PER_S
    manager.work()
    assert len(parts.broker.sent) == 2


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.UNKNOWN])
@pytest.mark.parametrize("unsolicited", [True, False])
def test_an_order_without_the_servers_number_is_cancelled_as_soon_as_the_number_is_known(
    parts, manager, state, unsolicited
):
    """A kill right after the entry was sent: the cancel is not forgotten."""
    entry = parts.place(state=state)
    manager.cancel(entry)
    parts.after(60 * NS_PER_S)
    assert manager.work() == NEVER_NS
    assert parts.broker.sent == []
    parts.report(entry, OrderStatus.WORKING, server_order_id="S1", unsolicited=unsolicited)
    manager.work()
    assert parts.broker.sent == [("cancel", entry.client_order_id)]


@pytest.mark.parametrize("end", [OrderStatus.CANCELED, OrderStatus.FILLED, OrderStatus.REJECTED])
def test_a_cancel_that_waits_ends_with_its_order(parts, manager, end):
    entry = parts.place(state=OrderState.SENT)
    manager.cancel(entry)
    parts.report(entry, end, server_order_id="S1")
    parts.after(60 * NS_PER_S)
    assert manager.work() == NEVER_NS
    assert parts.broker.sent == []


def test_an_order_believed_absent_that_comes_back_is_cancelled_after_all(parts, manager):
    entry = parts.place()
    manager.cancel(entry)
    parts.report(entry, OrderStatus.UNKNOWN_TO_SERVER, unsolicited=False)
    parts.report(entry, OrderStatus.WORKING)
    parts.after(NS_PER_S)
    manager.work()
    assert parts.broker.sent == [("cancel", entry.client_order_id)] * 2


def test_an_order_that_is_done_is_not_cancelled(parts, manager):
    entry = parts.place()
    parts.report(entry, OrderStatus.CANCELED)
    manager.cancel(entry)
    assert parts.happened == []


def test_all_cancels_leave_before_the_first_is_written_down(parts, manager):
    names = [parts.place().client_order_id for _ in range(3)]
    manager.cancel_all(parts.orders)
    assert parts.happened == [("cancel", name) for name in names] + [("journal", "request", name) for name in names]


def test_cancels_leave_although_the_journal_is_dead(parts, manager):
    entry = parts.place()
    parts.journal.fails = {"all"}
    manager.cancel(entry)
    assert parts.broker.sent == [("cancel", entry.client_order_id)]
    assert parts.latched == [RiskCode.HALTED]


def test_entries_are_cancelled_and_protection_stays(parts, manager):
    entry = parts.place()
    parts.place(OrderRole.STOP)
    parts.place(OrderRole.TARGET)
    parts.place(OrderRole.EXIT)
    manager.cancel_entries()
    assert parts.broker.sent == [("cancel", entry.client_order_id)]


def test_a_cancel_of_the_entries_does_not_reach_one_that_is_sent_later(parts, manager):
    first = parts.place()
    manager.cancel_entries()
    parts.place()
    parts.after(60 * NS_PER_S)
    manager.work()
    assert {name for _, name in parts.broker.sent} == {first.client_order_id}


def test_a_cancel_uses_up_messages_of_the_day(parts, manager):
    manager.cancel(parts.place())
    assert parts.risk.describe(parts.state.risk_snapshot())["messages_today"] == 1


# Moves.


@pytest.mark.parametrize(("side", "tighter"), [(Side.SELL, 97.0), (Side.BUY, 95.0)])
def test_a_stop_moves_only_toward_safety(parts, manager, side, tighter):
    stop = parts.place(OrderRole.STOP, side, price=96.0)
    assert not manager.replace(stop, 96.0 + side * 0.25, "test")
    assert parts.broker.sent == []
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("stop_loosened", Priority.CRITICAL)
    assert manager.replace(stop, tighter, "test")
    assert not manager.replace(stop, 96.0, "test")  # nor back while that is on its way
    parts.report(stop, OrderStatus.REPLACED, price=tighter)
    assert not manager.replace(stop, 96.0, "test")
    assert [price for _, _, price, _ in parts.broker.sent] == [tighter]


def test_a_move_is_on_file_before_it_leaves_and_at_a_valid_price(parts, manager):
    target = parts.place(OrderRole.TARGET, quantity=2, price=106.0)
    assert manager.replace(target, 99.1, "faded")
    name = target.client_order_id
    assert parts.happened == [("journal", "request", name), ("replace", name, 99.0, 2)]
    assert parts.journal.rows("request") == [[name, "replace", NOW, 99.0, 2, "faded"]]
    assert (target.request.asked_price, target.request.exit_reason) == (99.0, "faded")
    assert target.request.replace_pending


def test_a_stop_that_stays_where_it_is_was_not_loosened(parts, manager):
    stop = parts.place(OrderRole.STOP, price=96.0)
    assert manager.replace(stop, 96.0, "test")
    assert parts.alerts == []


def test_a_move_counts_as_an_order(parts, manager):
    manager.replace(parts.place(), 100.25, "test")
    assert parts.risk.describe(parts.state.risk_snapshot())["messages_today"] == 1
    assert parts.risk.overtrade_risk_score(NOW) == 1 / 1000


@pytest.mark.parametrize(("role", "leaves"), [(OrderRole.ENTRY, False), (OrderRole.TARGET, True)])
def test_with_a_dead_journal_an_exit_is_moved_and_an_entry_is_not(parts, manager, role, leaves):
    entry = parts.place(role)
    parts.journal.fails = {"all"}
    assert manager.replace(entry, 100.25, "test") is leaves
    assert len(parts.broker.sent) == leaves
    assert entry.request.replace_pending is leaves
    assert parts.latched == [RiskCode.HALTED]


def without_replaces(parts, _entry):
    parts.broker.replaces = False


def without_number(_parts, entry):
    entry.server_order_id = ""


def refused_before(parts, entry):
    parts.report(entry, OrderStatus.REPLACE_REJECTED)


@pytest.mark.parametrize("why", [without_replaces, without_number, refused_before])
def test_what_the_server_cannot_replace_is_not_asked_of_it(parts, manager, why):
    target = parts.place(OrderRole.TARGET, price=106.0)
    assert manager.can_replace(target)
    why(parts, target)
    assert not manager.can_replace(target)
    assert not manager.replace(target, 105.0, "faded")
    assert (parts.happened, target.request.replace_pending) == ([], False)


def test_an_order_is_reduced_where_it_is_and_keeps_why_it_closes(parts, manager):
    target = parts.place(OrderRole.TARGET, quantity=3, price=106.0)
    manager.replace(target, 105.0, "faded")
    parts.report(target, OrderStatus.REPLACED, price=105.0)
    assert manager.resize(target, 2)
    assert parts.broker.sent[-1] == ("replace", target.client_order_id, 105.0, 2)
    assert parts.journal.rows("request")[-1] == [target.client_order_id, "replace", NOW, 105.0, 2, "faded"]


def test_an_entry_is_not_moved_to_where_risk_refuses_it(parts, manager):
    entry = parts.place()
    assert not manager.replace(entry, 120.0, "chase")
    assert parts.happened == [("alert", "denied_price_collar")]
    assert parts.alerts[0].priority is Priority.INFO


# Orders that are there already.


def journaled(name, status=None, **more):
    facts = {"quantity": 1, "price": 100.0, "reported": 0, "booked": 0, "fills": (), **more}
    return JournaledOrder(make_order(name), NOW - 5, status, f"server {name}", **facts)


def test_orders_of_an_earlier_run_are_unknown_and_those_that_ended_are_found_for_late_fills(parts, manager):
    manager.restore([journaled("R0-1E", OrderStatus.WORKING)], [journaled("R0-2E", OrderStatus.CANCELED)])
    assert [(entry.client_order_id, entry.state) for entry in parts.orders] == [("R0-1E", OrderState.UNKNOWN)]
    assert parts.orders.find("", "server R0-2E").state is OrderState.CANCELED
    history = parts.orders.get("R0-1E").history
    assert (history.sent_ns, history.sent_at_ns) == (NOW - 5, 0)  # our clock began anew
    assert parts.broker.sent == []


def test_the_executions_on_file_of_an_order_of_an_earlier_run_are_not_booked_again(parts, manager):
    on_file = make_fill("R0-1E", "x1", quantity=1, server_order_id="server R0-1E")
    manager.restore([journaled("R0-1E", OrderStatus.PARTIAL, quantity=3, reported=2, booked=1, fills=(on_file,))])
    (entry,) = parts.orders
    assert (entry.fills.booked, entry.fills.missing, entry.open_quantity) == (1, 1, 2)
    assert entry.fills.from_update(on_file, entry.size) is None


def working_stop(name):
    return make_update(name, side=Side.SELL, type=OrderType.STOP, price=96.0, server_order_id="S9", quantity=2)


def test_an_order_at_the_server_under_the_name_of_our_run_is_taken_over(parts, manager):
    assert manager.adopt(working_stop(f"{RUN}-7S"), NOW + 3)
    assert parts.journal.rows("intent") == [[(f"{RUN}-7S",), NOW + 3]]
    (entry,) = parts.orders
    assert (entry.state, entry.quantity, entry.history.sent_ns) == (OrderState.UNKNOWN, 2, NOW + 3)
    assert (entry.order.symbol, entry.order.account, entry.order.role) == (SYMBOL, ACCOUNT, OrderRole.STOP)
    assert parts.orders.find("", "S9") is entry
    assert (parts.broker.sent, manager.approved) == ([], 0)


def test_an_order_that_is_on_file_is_taken_over_without_another_intent(parts, manager):
    parts.journal.record_intent((make_order(f"{RUN}-7S"),), 1)
    assert not manager.adopt(working_stop(f"{RUN}-7S"), NOW)  # perhaps from before its end
    assert manager.adopt(replace(working_stop(f"{RUN}-7S"), unsolicited=False), NOW)
    assert len(parts.journal.rows("intent")) == 1


def test_an_order_is_taken_over_although_the_journal_cannot_be_written(parts, manager):
    parts.journal.fails = {"intent"}
    assert manager.adopt(working_stop(f"{RUN}-7S"), NOW)
    assert len(parts.orders) == 1
    assert parts.latched == [RiskCode.HALTED]


@pytest.mark.parametrize(
    ("name", "other"), [("R9-7S", True), (f"{RUN}-99S", False), ("hand", False), ("", False), ("R9-7Q", False)]
)
def test_an_order_with_our_pattern_and_of_no_run_of_ours_is_of_another_daemon(manager, name, other):
    assert manager.is_of_other_daemon(name) is other


@pytest.mark.parametrize("name", ["R9-7S", "hand", ""])
def test_an_order_of_no_run_of_ours_is_not_taken_over(parts, manager, name):
    assert not manager.adopt(working_stop(name), NOW)
    assert (len(parts.orders), parts.happened) == (0, [])


def test_whose_an_order_is_cannot_be_told_without_the_journal_so_it_stays_and_trading_halts(parts, manager):
    parts.journal.fails = {"has_run"}
    assert not manager.adopt(working_stop(f"{RUN}-7S"), NOW)
    assert (len(parts.orders), parts.latched) == (0, [RiskCode.HALTED])
