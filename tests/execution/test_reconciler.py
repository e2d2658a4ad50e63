"""When the server is asked, what its answer changes, and what is done about a difference that is seen twice."""

from dataclasses import replace

import pytest
from actor_parts import NOW, ActorParts, make_fill, make_snapshot, make_update

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import BrokerSettings
from mia_daemon.errors import RequestTimeout
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.reconcile_policy import ReconcilePolicy
from mia_daemon.execution.reconciler import FILLS_SLACK_NS, MAX_FAILURES, Reconciler
from mia_daemon.records import FillSource, OrderRole, OrderStatus, OrderType, Priority
from mia_daemon.risk.codes import RiskCode

ANSWER, EVERY, SECOND = 5_000, 100_000, 1_000
GRACE, BRACKET, PAUSE = SECOND // 10, 3 * SECOND // 4, SECOND // 4


class Reconciling(ActorParts):
    """The reconciler on real events and accounting."""

    def __init__(self, *, adopt_drift=True, has_own_clock=False):
        super().__init__()
        self.broker.has_own_clock = has_own_clock
        policy = ReconcilePolicy(ANSWER, EVERY, SECOND, adopt_drift=adopt_drift)
        self.reconciler = Reconciler(self.state, self.ports, self.events, self.accounting, self.breakers, policy)

    def at(self, ns):
        self.after(ns)
        return self.reconciler

    def answer(self, snapshot):
        """Ask, and get this answer."""
        return self.reconciler.apply(self.reconciler.begin(), snapshot)

    @property
    def booked(self):
        """The executions on file: their ids, sources and prices."""
        return [(name, fill.source, fill.price) for name, fill in self.journal.rows("fill")]

    def closed_elsewhere(self, quantity):
        """The server tells a position, unasked."""
        self.sync.on_position(quantity)
        return self.reconciler.watch()


@pytest.fixture
def parts():
    return Reconciling()


# What is in doubt.


def test_an_order_is_unknown_once_its_answer_is_overdue_and_not_before(parts):
    entry = parts.place(state=OrderState.SENT)
    assert parts.at(ANSWER - 1).watch() == NOW + ANSWER
    assert (entry.state, parts.sync.query_reason, parts.alerts) == (OrderState.SENT, "", [])
    assert parts.at(ANSWER).watch() == NEVER_NS
    assert (entry.state, parts.sync.query_reason) == (OrderState.UNKNOWN, "an order was not answered")
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("order_unknown", Priority.ERROR)
    assert alert.text == "no answer about order K1E in time: its fate is unknown and is asked about"
    assert alert.context == {"order": "K1E", "state": "sent"}  # in which it was last known to be


def test_a_cancel_without_an_answer_leaves_its_order_unknown_too(parts):
    entry = parts.place()
    parts.orders.cancel_sent(entry, NOW, NOW)
    parts.at(ANSWER).watch()
    assert entry.state is OrderState.UNKNOWN


def test_while_the_link_is_down_no_answer_is_overdue(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.sync.link_up = False
    assert parts.at(10 * ANSWER).watch() == NOW + ANSWER
    assert (entry.state, parts.sync.query_reason) == (OrderState.SENT, "")


@pytest.mark.parametrize(("closing", "after"), [(False, GRACE), (True, 0)])
def test_a_fill_reported_and_not_shown_is_asked_for_after_a_moment_or_at_once(parts, closing, after):
    """At once while the position is closed: what it is, is not known before."""
    entry = parts.place(quantity=2)
    parts.report(entry, OrderStatus.FILLED, filled=2)
    if closing:
        parts.state.request_flatten("operator")
    else:
        assert parts.at(0).watch() == NOW + GRACE
        parts.at(after - 1).watch()
        assert parts.sync.query_reason == ""
    parts.at(after).watch()
    assert (parts.sync.query_reason, parts.sync.urgent) == ("a fill was reported but not shown", True)


def test_closing_asks_for_nothing_where_no_fill_is_missing(parts):
    parts.place()
    parts.state.request_flatten("operator")
    parts.at(1).watch()
    assert parts.sync.query_reason == ""


@pytest.mark.parametrize("role", [OrderRole.STOP, OrderRole.TARGET])
def test_a_bracket_whose_entry_is_acknowledged_and_which_is_not_is_asked_about(parts, role):
    entry = parts.place(state=OrderState.SENT)
    parts.place(role, parent_id=entry.client_order_id, state=OrderState.SENT)
    parts.at(BRACKET).watch()
    assert parts.sync.query_reason == ""  # the entry is not acknowledged either: both are on their way
    parts.report(entry, OrderStatus.WORKING, server_order_id="S1")
    parts.reconciler.watch()
    assert (parts.sync.query_reason, parts.sync.urgent) == ("a bracket was not acknowledged", True)
    parts.reconciler.begin()
    parts.reconciler.watch()
    assert parts.sync.query_reason == ""  # asked since


def test_a_single_stop_that_is_not_acknowledged_is_asked_about(parts):
    parts.place(OrderRole.STOP, state=OrderState.SENT)
    assert parts.at(BRACKET - 1).watch() == NOW + BRACKET
    assert parts.sync.query_reason == ""
    parts.at(BRACKET).watch()
    assert parts.sync.query_reason == "a bracket was not acknowledged"


@pytest.mark.parametrize("acknowledged_between", [False, True])
def test_entries_in_a_row_that_nobody_acknowledged_stop_new_risk(parts, acknowledged_between):
    for number in range(3):
        parts.place(state=OrderState.SENT)
        parts.at((number + 1) * ANSWER).watch()
        if acknowledged_between:
            parts.events.on_update(parts.update(parts.place(), OrderStatus.WORKING))
    assert parts.latched == ([] if acknowledged_between else [RiskCode.CONTRADICTED])


def test_a_position_that_is_not_ours_is_asked_about_again_until_it_is(parts):
    parts.sync.asked_ns = NOW - 1
    assert parts.closed_elsewhere(3) == NOW + SECOND // 2
    parts.at(SECOND // 2 - 1).watch()
    assert parts.sync.query_reason == ""
    parts.at(SECOND // 2).watch()
    assert (parts.sync.query_reason, parts.sync.urgent) == ("the server's position is not ours", True)
    parts.reconciler.begin()
    parts.reconciler.abandon()
    parts.at(SECOND).watch()
    assert (parts.sync.query_reason, parts.sync.urgent) == ("the server's position is not ours", False)


def test_a_position_that_came_to_be_ours_is_no_longer_counted_as_different(parts):
    for after, position in enumerate((3, 0, 3)):
        parts.after(after)
        due_ns = parts.closed_elsewhere(position)
    assert due_ns == NOW + 2 + SECOND // 2
    assert parts.sync.query_reason == ""


@pytest.mark.parametrize("order_first", [True, False])
def test_whatever_is_due_first_is_looked_at_first(parts, order_first):
    parts.after(0 if order_first else ANSWER)
    parts.place(state=OrderState.SENT)
    parts.after(ANSWER - SECOND // 4)
    due_ns = parts.closed_elsewhere(3)
    assert due_ns == NOW + (ANSWER if order_first else ANSWER + SECOND // 4)


def test_waits_are_by_our_clock_whatever_event_time_does(parts):
    own = [3]
    parts.state.own_clock = lambda: own[0]
    entry = parts.place(state=OrderState.SENT)
    assert parts.at(1000 * ANSWER).watch() == 3 + ANSWER
    assert entry.state is OrderState.SENT
    own[0] += ANSWER
    parts.reconciler.watch()
    assert entry.state is OrderState.UNKNOWN


# Asking.


def test_a_snapshot_is_due_for_a_reason_or_after_a_while_and_needs_the_link(parts):
    parts.answer(make_snapshot())
    assert not parts.at(EVERY - 1).due
    assert parts.at(EVERY).due
    assert parts.answer(make_snapshot())
    assert parts.sync.agreed_ns == NOW + EVERY
    assert not parts.reconciler.due
    parts.sync.request_reconcile("the start")
    assert parts.reconciler.due
    parts.sync.link_up = False
    assert not parts.reconciler.due


def test_while_there_is_disagreement_the_pause_between_two_requests_is_doubled(parts):
    parts.place(state=OrderState.UNKNOWN)
    listed = make_update("", server_order_id="S9", type=OrderType.LIMIT, quantity=1, unsolicited=False)
    now_ns, pauses = 0, []
    answer = make_snapshot(orders=[replace(listed, price=0.0, client_order_id="K")] * 2)
    for _ in range(8):
        parts.sync.on_position(None)
        assert not parts.reconciler.apply(parts.reconciler.begin(), replace(answer, positions=None))
        pause = next(n for n in range(1, 10 * SECOND // PAUSE * PAUSE, PAUSE // 10) if parts.at(now_ns + n).due)
        pauses.append((pause - 1) // PAUSE + bool((pause - 1) % PAUSE))
        now_ns += pause
    assert pauses == [1, 2, 4, 8, 16, 32, 32, 32]


def test_what_is_urgent_is_asked_at_once(parts):
    parts.answer(make_snapshot(2))
    assert not parts.reconciler.due
    parts.sync.request_reconcile("an order was not answered", urgent=True)
    assert parts.reconciler.due
    parts.reconciler.begin()
    assert not parts.sync.urgent


def test_one_request_is_under_way_at_a_time(parts):
    parts.sync.request_reconcile("an order was not answered")
    query = parts.reconciler.begin()
    assert query.why == "an order was not answered"
    parts.sync.request_reconcile("a fill was reported but not shown")
    assert not parts.reconciler.due
    assert parts.reconciler.begin() is None
    parts.reconciler.apply(query, make_snapshot())
    assert parts.reconciler.due  # for what came up meanwhile
    assert parts.reconciler.begin().why == "a fill was reported but not shown"


def test_a_request_that_is_given_up_may_be_made_again(parts):
    parts.reconciler.begin()
    parts.reconciler.abandon()
    assert parts.reconciler.begin() is not None


@pytest.mark.parametrize(("reason", "stays"), [("the start", "the start"), ("", "the last question had no answer")])
def test_without_an_answer_nothing_changes_and_it_stays_due(parts, reason, stays):
    entry = parts.place()
    parts.sync.query_reason = reason
    parts.sync.reconciled = False
    parts.reconciler.fail(parts.reconciler.begin(), RequestTimeout("no answer in 5 s"))
    assert (parts.sync.query_reason, parts.reconciler.due) == (stays, False)
    assert parts.at(PAUSE).due
    assert (entry.state, parts.sync.reconciled) == (OrderState.WORKING, False)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("reconcile_failed", Priority.ERROR)
    assert "no answer in 5 s" in alert.text


def test_fills_are_asked_for_since_the_oldest_order_or_the_newest_fill(parts):
    slack = FILLS_SLACK_NS

    def since():
        query = parts.reconciler.begin()
        parts.reconciler.abandon()
        return query.since_ns

    assert since() == NOW - slack
    parts.place(OrderRole.STOP)
    parts.after(1000)
    parts.place(OrderRole.TARGET)
    assert since() == NOW - slack
    parts.state.last_fill_ns = NOW - 7
    assert since() == NOW - 7 - slack
    parts.state.last_fill_ns = NOW + 500
    assert since() == NOW - slack
    parts.state.last_fill_ns = 1  # nothing is asked for before there was time
    assert since() == 0


def test_what_was_not_explained_is_asked_for_again_from_as_early(parts):
    """Or else a fill that explains it would slip out of the answers."""
    assert not parts.answer(make_snapshot(2))
    parts.after(60 * FILLS_SLACK_NS)
    query = parts.reconciler.begin()
    assert query.since_ns == NOW - FILLS_SLACK_NS
    parts.reconciler.apply(query, make_snapshot(0))
    assert parts.reconciler.begin().since_ns == NOW + 59 * FILLS_SLACK_NS


def test_of_a_server_whose_clock_is_behind_fills_are_asked_for_from_earlier():
    parts = Reconciling(has_own_clock=True)
    behind_ns = 3600 * NS_PER_S
    entry = parts.place()
    parts.events.on_update(parts.update(entry, OrderStatus.WORKING, ts_ns=NOW - behind_ns))
    assert parts.reconciler.begin().since_ns == NOW - behind_ns - FILLS_SLACK_NS


# The answer.


def test_when_orders_and_position_agree_new_risk_is_allowed_again(parts):
    entry = parts.place(OrderRole.STOP, state=OrderState.UNKNOWN)
    parts.hold(1)
    parts.sync.reconciled = False
    listed = parts.update(entry, OrderStatus.WORKING, unsolicited=False)
    assert parts.answer(make_snapshot(1, orders=[listed]))
    assert (entry.state, parts.sync.reconciled, parts.sync.position) == (OrderState.WORKING, True, 1)
    assert (parts.sync.query_reason, parts.alerts, parts.broker.sent) == ("", [], [])


def test_an_order_that_the_complete_answer_lacks_is_absent(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    parts.after(BRACKET)
    assert parts.answer(make_snapshot())
    assert entry.state is OrderState.ABSENT
    assert parts.journal.rows("update") == [[entry.client_order_id, OrderStatus.UNKNOWN_TO_SERVER]]


def test_an_order_just_sent_and_not_acknowledged_may_be_too_new_for_the_answer(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.after(BRACKET - 1)
    parts.answer(make_snapshot())
    assert entry.state is OrderState.SENT


def test_the_bracket_of_an_acknowledged_entry_that_the_answer_lacks_stops_new_risk(parts):
    entry = parts.place()
    stop = parts.place(OrderRole.STOP, parent_id=entry.client_order_id, state=OrderState.SENT)
    parts.after(BRACKET)
    parts.answer(make_snapshot(orders=[parts.update(entry, OrderStatus.WORKING, unsolicited=False)]))
    assert (stop.state, parts.latched) == (OrderState.ABSENT, [RiskCode.CONTRADICTED])
    parts.breakers.announce()
    alert = next(alert for alert in parts.alerts if alert.code == "bracket_ignored")
    assert 'broker.brackets = "client"' in alert.text


def test_a_bracket_that_was_acknowledged_may_be_gone(parts):
    """Its other half filled, or somebody cancelled it."""
    entry = parts.place()
    parts.place(OrderRole.STOP, parent_id=entry.client_order_id)
    parts.after(BRACKET)
    parts.answer(make_snapshot(orders=[parts.update(entry, OrderStatus.WORKING, unsolicited=False)]))
    assert parts.latched == []


def test_a_fill_that_was_missed_is_applied_once_before_its_order_is_updated(parts):
    entry = parts.place()
    answer = make_snapshot(1, fills=[past_fill(entry)])
    assert parts.answer(answer)
    assert (parts.ledger.position, entry.state) == (1, OrderState.FILLED)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("fill_missed", Priority.WARNING)
    assert "was found by side, price and time" not in alert.text
    assert parts.answer(answer)
    assert (parts.booked, parts.ledger.position) == ([("h1", FillSource.HISTORY, 100.0)], 1)


def past_fill(entry, execution_id="h1", **more):
    """An execution of an order in the list of past ones."""
    facts = {"server_order_id": entry.server_order_id, "source": FillSource.HISTORY, "side": entry.order.side}
    return make_fill("", execution_id, **{**facts, **more})


def test_a_fill_without_a_name_is_told_to_be_a_guess(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    parts.after(BRACKET)
    assert parts.answer(make_snapshot(1, fills=[past_fill(entry, server_order_id="S5")]))
    assert (entry.state, len(parts.booked)) == (OrderState.FILLED, 1)
    assert parts.alerts[0].text.endswith("its order was found by side, price and time")


def test_no_more_is_booked_of_an_open_order_than_it_is_listed_as_filled(parts):
    entry = parts.place(quantity=3)
    listed = parts.update(entry, OrderStatus.PARTIAL, filled=1, unsolicited=False)
    parts.answer(make_snapshot(1, orders=[listed], fills=[past_fill(entry), past_fill(entry, "h2")]))
    assert (parts.ledger.position, entry.fills.reported) == (1, 1)


def test_external_orders_are_passed_on_and_not_touched(parts):
    hand = make_update("hand", OrderStatus.WORKING, server_order_id="S9", unsolicited=False)
    assert parts.answer(make_snapshot(orders=[hand]))
    assert parts.alert_codes == ["external_order"]
    assert (parts.broker.sent, len(parts.orders)) == ([], 0)


def test_an_answer_that_was_overtaken_says_nothing_of_an_order_sent_meanwhile(parts):
    query = parts.reconciler.begin()
    entry = parts.place(state=OrderState.SENT)
    parts.reconciler.apply(query, make_snapshot())
    assert entry.state is OrderState.SENT


@pytest.mark.parametrize(("server", "agree"), [(0, True), (1, True), (2, False)])
def test_a_comparison_is_finished_while_we_fill(parts, server, agree):
    """The answer is from before the fill or after it; another position is looked at again, not taken for a drift."""
    entry = parts.place()
    query = parts.reconciler.begin()
    parts.events.on_fill(parts.fill(entry))
    parts.sync.reconciled = False
    assert parts.reconciler.apply(query, make_snapshot(server)) is agree
    assert parts.sync.reconciled is agree
    assert (parts.ledger.position, parts.alerts) == (1, [])
    if not agree:
        assert parts.sync.query_reason == "orders or position did not agree yet"


def test_a_comparison_is_finished_although_we_send_again_and_again(parts):
    parts.sync.reconciled = False
    for number in range(3):
        parts.after(number)
        query = parts.reconciler.begin()
        parts.place(state=OrderState.SENT)
        agree = parts.reconciler.apply(query, make_snapshot())
        assert agree
    assert parts.sync.reconciled


def test_while_a_fill_is_missing_both_do_not_agree(parts):
    entry = parts.place()
    assert not parts.answer(
        make_snapshot(orders=[parts.update(entry, OrderStatus.FILLED, filled=1, unsolicited=False)])
    )
    assert parts.sync.query_reason == "orders or position did not agree yet"


def test_a_fill_that_two_complete_answers_do_not_show_is_booked_at_the_average_price(parts):
    entry = parts.place(quantity=2)
    parts.report(entry, OrderStatus.FILLED, filled=2, average_fill_price=100.125)
    parts.at(GRACE).watch()
    for position in (0, 2):
        assert parts.booked == []
        parts.answer(make_snapshot(2))
        assert parts.ledger.position == position
    assert parts.booked == [("average-1", FillSource.AVERAGE, 100.125)]
    alert = next(alert for alert in parts.alerts if alert.code == "fill_without_execution")
    assert (alert.priority, alert.context["quantity"]) == (Priority.ERROR, 2)


def test_an_execution_that_an_answer_shows_in_the_end_is_booked_at_its_price(parts):
    entry = parts.place()
    parts.report(entry, OrderStatus.FILLED, filled=1, average_fill_price=100.0)
    parts.at(GRACE).watch()
    parts.answer(make_snapshot(1))
    parts.answer(make_snapshot(1, fills=[past_fill(entry, price=100.25)]))
    assert parts.booked == [("h1", FillSource.HISTORY, 100.25)]
    assert "fill_without_execution" not in parts.alert_codes


@pytest.mark.parametrize("execution_id", ["x1", "h1", ""])
def test_executions_of_orders_long_done_that_are_on_file_are_nobodys_again(parts, execution_id):
    """Of an earlier run, asked for again; the list may number them otherwise."""
    parts.journal.record_fill(make_fill("R0-1E", "x1", server_order_id="S5"))
    other = parts.place(state=OrderState.UNKNOWN)
    parts.after(BRACKET)
    listed = make_fill("", execution_id, server_order_id="S5", source=FillSource.HISTORY)
    assert parts.answer(make_snapshot(fills=[listed]))
    assert (parts.ledger.position, other.state) == (0, OrderState.ABSENT)


# A difference.


def test_a_drift_counts_when_it_is_seen_twice(parts):
    assert not parts.answer(make_snapshot(2, average_price=99.0))
    assert (parts.ledger.position, parts.alerts) == (0, [])
    assert parts.sync.position == 2  # and no order of ours is sent while that is not ours
    parts.answer(make_snapshot(2, average_price=99.0))
    assert (parts.ledger.position, parts.ledger.average_price) == (2, 99.0)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority, alert.context) == ("position_drift", Priority.URGENT, {"server": 2, "ours": 0})
    assert parts.answer(make_snapshot(2, average_price=99.0))


@pytest.mark.parametrize("between", [0, 3])
def test_a_drift_that_changed_between_two_looks_is_looked_at_anew(parts, between):
    for position in (2, between, 2):
        parts.answer(make_snapshot(position))
    assert (parts.ledger.position, parts.alerts) == (0, [])


def test_with_a_position_of_ours_the_servers_average_price_says_nothing_of_the_difference(parts):
    parts.hold(1)
    for _ in range(2):
        parts.answer(make_snapshot(3, average_price=99.0))
    assert [price for *_, price in parts.booked] == [100.25]  # at the touch


def test_a_drift_that_the_servers_executions_explain_is_taken_over_by_them(parts):
    theirs = make_fill("", "hand-1", quantity=2, price=99.5, server_order_id="S9")
    for _ in range(2):
        parts.answer(make_snapshot(2, fills=[theirs]))
    assert (parts.ledger.position, parts.booked) == (2, [("hand-1", FillSource.EXTERNAL, 99.5)])
    assert parts.answer(make_snapshot(2, fills=[theirs]))
    assert parts.ledger.position == 2


def test_executions_that_do_not_explain_a_drift_are_left_out(parts):
    theirs = make_fill("", "hand-1", quantity=1, server_order_id="S9")
    for _ in range(2):
        parts.answer(make_snapshot(2, fills=[theirs]))
    ((name, source, _),) = parts.booked
    assert (name.startswith("drift-"), source, parts.ledger.position) == (True, FillSource.EXTERNAL, 2)


def test_live_a_drift_halts_instead_of_being_taken_over():
    parts = Reconciling(adopt_drift=False)
    for _ in range(5):
        assert not parts.answer(make_snapshot(2))
    assert (parts.ledger.position, parts.latched) == (0, [RiskCode.POSITION_DRIFT])
    assert parts.breakers.pending
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("position_drift", Priority.URGENT)]
    assert "trading is halted" in parts.alerts[0].text
    assert "mia-daemon resume position_drift" in parts.alerts[0].text


def test_live_a_drift_is_taken_over_once_when_an_operator_says_so():
    parts = Reconciling(adopt_drift=False)
    for _ in range(2):
        parts.answer(make_snapshot(2))
    parts.breakers.announce()
    parts.breakers.lift("operator", RiskCode.POSITION_DRIFT)
    parts.reconciler.adopt_next()
    parts.answer(make_snapshot(2))
    assert parts.ledger.position == 0  # two answers in a row say so, as ever
    parts.answer(make_snapshot(2))
    assert (parts.ledger.position, parts.latched) == (2, [])
    for _ in range(2):
        parts.answer(make_snapshot(3))
    assert (parts.ledger.position, parts.latched) == (2, [RiskCode.POSITION_DRIFT])


def ambiguous_answer(parts):
    """One execution, of which two orders could be the owner; the position has it already."""
    orders = [parts.place(state=OrderState.UNKNOWN) for _ in range(2)]
    parts.hold(1)
    parts.after(BRACKET)
    return orders, make_snapshot(1, fills=[make_fill("", "x7", server_order_id="S7")])


def test_orders_of_which_one_has_filled_are_given_up_at_the_second_look_when_the_position_agrees(parts):
    orders, answer = ambiguous_answer(parts)
    working = parts.place(OrderRole.STOP)
    listed = parts.update(working, OrderStatus.WORKING, unsolicited=False)
    answer = make_snapshot(1, fills=answer.fills, orders=[listed])
    assert not parts.answer(answer)
    assert [entry.state for entry in orders] == [OrderState.UNKNOWN] * 2
    parts.answer(answer)
    assert [entry.state for entry in orders] == [OrderState.ABSENT] * 2
    assert working.state is OrderState.WORKING
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("order_given_up", Priority.WARNING)] * 2
    assert parts.booked == []
    assert parts.answer(answer)


def test_what_the_server_reports_of_another_account_counts_for_nothing(parts):
    other = make_fill("", "x1", account="Sim2", server_order_id="S9")
    hand = make_update("hand", OrderStatus.WORKING, account="Sim2")
    assert parts.answer(make_snapshot(fills=[other], orders=[hand]))
    assert (parts.booked, parts.alerts) == ([], [])


@pytest.mark.parametrize("refused", ["fills", "positions"])
def test_without_a_list_of_executions_both_may_agree_and_without_a_position_they_do_not(parts, refused):
    entry = parts.place(state=OrderState.UNKNOWN)
    parts.after(BRACKET)
    assert parts.answer(replace(make_snapshot(), **{refused: None})) is (refused == "fills")
    assert entry.state is OrderState.ABSENT
    assert parts.sync.held == (0 if refused == "fills" else None)
    assert parts.alerts == []


@pytest.mark.parametrize("untold", ["no answer", "no position"])
def test_a_server_that_cannot_be_compared_with_stops_new_risk_until_resumed(parts, untold):
    def ask():
        query = parts.reconciler.begin()
        if untold == "no answer":
            parts.reconciler.fail(query, RequestTimeout("no answer in 5 s"))
        else:
            parts.reconciler.apply(query, replace(make_snapshot(), positions=None))

    for _ in range(MAX_FAILURES - 1):
        ask()
    parts.answer(make_snapshot())  # only failures in a row count
    for number in range(1, MAX_FAILURES + 1):
        assert parts.latched == []
        ask()
        assert bool(parts.latched) is (number == MAX_FAILURES)
    parts.breakers.announce()
    urgent = [alert.code for alert in parts.alerts if alert.priority is Priority.URGENT]
    assert urgent == ["not_comparable" if untold == "no answer" else "position_not_reported"]


def test_a_drift_waits_for_fills_that_are_reported_and_not_booked(parts):
    """Or else it is taken over, and the fills are booked beside it."""
    entry = parts.place(quantity=2)
    for position in (0, 0, 2, 2, 2):
        parts.answer(make_snapshot(2))
        parts.report(entry, OrderStatus.FILLED, filled=2)
        parts.reconciler.watch()
        assert parts.ledger.position == position
    assert [source for _, source, _ in parts.booked] == [FillSource.AVERAGE]


def test_as_configured_waits_for_an_answer_are_stretched_with_time():
    settings = BrokerSettings(ack_timeout_s=2.0, reconcile_every_s=30.0)
    assert ReconcilePolicy.of(settings, 4.0) == ReconcilePolicy(
        8 * NS_PER_S, 120 * NS_PER_S, 4 * NS_PER_S, adopt_drift=True
    )
