"""When the server is asked, what its answer changes, and what is done about a difference that is seen twice."""

import pytest
from actor_parts import NOW, ActorParts, make_fill, make_snapshot, make_update

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import BrokerSettings
from mia_daemon.errors import RequestTimeout
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.reconciler import FILLS_SLACK_NS, ReconcilePolicy, Reconciler
from mia_daemon.records import OrderRole, OrderStatus, Priority, Side
from mia_daemon.risk.codes import RiskCode

ANSWER, EVERY = 5_000, 10_000


class FakeAccounting:
    """Applies fills to the position; knows those that it has applied."""

    def __init__(self, ledger):
        self.external, self.drifts, self.recorded = [], [], set()
        self._ledger = ledger

    def is_recorded(self, fill):
        return fill.execution_id in self.recorded

    def apply(self, fill):
        self.recorded.add(fill.execution_id)
        self._ledger.apply(fill)

    def apply_external_fill(self, fill, reason):
        self.external.append((fill.execution_id, reason))
        self.apply(fill)

    def apply_drift(self, drift, price):
        self.drifts.append((drift, price))
        side = Side.BUY if drift > 0 else Side.SELL
        self.apply(make_fill("", f"drift {len(self.drifts)}", side=side, quantity=abs(drift)))


class FakeOrderEvents:
    """Moves the orders, and notes what it was given."""

    def __init__(self, orders, accounting):
        self.updates, self.fills = [], []
        self._orders, self._accounting = orders, accounting

    def on_update(self, update):
        self.updates.append((update.client_order_id, update.status))
        self._orders.apply_update(update)

    def on_fill(self, fill):
        self.fills.append(fill.execution_id)
        self._orders.apply_fill(fill)
        self._accounting.apply(fill)


class Reconciling(ActorParts):
    def __init__(self, *, adopt_drift=True):
        super().__init__()
        self.accounting = FakeAccounting(self.ledger)
        self.events = FakeOrderEvents(self.orders, self.accounting)
        self.reconciler = Reconciler(
            self.state,
            self.ports,
            self.events,
            self.accounting,
            self.breakers,
            ReconcilePolicy(ANSWER, EVERY, adopt_drift=adopt_drift),
        )

    def at(self, ns):
        self.after(ns)
        return self.reconciler

    def answer(self, snapshot):
        """Ask, and get this answer."""
        return self.reconciler.apply(self.reconciler.begin(), snapshot)


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
    parts.orders.cancel_sent(entry, NOW)
    parts.at(ANSWER).watch()
    assert entry.state is OrderState.UNKNOWN


def test_while_the_link_is_down_no_answer_is_overdue(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.sync.link_up = False
    assert parts.at(10 * ANSWER).watch() == NOW + ANSWER
    assert (entry.state, parts.sync.query_reason) == (OrderState.SENT, "")


@pytest.mark.parametrize(("closing", "after"), [(False, ANSWER), (True, 0)])
def test_a_fill_reported_and_not_shown_is_asked_for_in_time_or_at_once(parts, closing, after):
    """At once while the position is closed: what it is, is not known before."""
    entry = parts.place(quantity=2)
    parts.report(entry, OrderStatus.FILLED, filled=2)
    if closing:
        parts.state.request_flatten("operator")
    if after:
        parts.at(after - 1).watch()
        assert parts.sync.query_reason == ""
    parts.at(after).watch()
    assert parts.sync.query_reason == "a fill was reported but not shown"


def test_closing_asks_for_nothing_where_no_fill_is_missing(parts):
    parts.place()
    parts.state.request_flatten("operator")
    parts.at(1).watch()
    assert parts.sync.query_reason == ""


def test_a_position_that_is_not_ours_is_asked_about_again_and_again(parts):
    for agreed in (None, 0):
        parts.sync.position = agreed
        assert parts.at(0).watch() == NEVER_NS
    parts.sync.position = 3
    assert parts.at(0).watch() == NOW + ANSWER
    assert parts.at(ANSWER - 1).watch() == NOW + ANSWER
    assert parts.sync.query_reason == ""
    parts.at(ANSWER).watch()
    assert parts.sync.query_reason == "the server's position is not ours"
    parts.sync.query_reason = ""
    assert parts.at(ANSWER + 1).watch() == NOW + 2 * ANSWER
    parts.at(2 * ANSWER).watch()
    assert parts.sync.query_reason == "the server's position is not ours"


def test_a_position_that_came_to_be_ours_is_no_longer_counted_as_different(parts):
    for after, position in enumerate((3, 0, 3)):
        parts.sync.position = position
        due_ns = parts.at(after).watch()
    assert due_ns == NOW + 2 + ANSWER
    assert parts.sync.query_reason == ""


@pytest.mark.parametrize("first", ["order", "position"])
def test_whatever_is_due_first_is_looked_at_first(parts, first):
    if first == "order":
        parts.place(state=OrderState.SENT)
    parts.after(0 if first == "position" else 3)
    parts.sync.position = 3
    parts.reconciler.watch()
    if first == "position":
        parts.after(3)
        parts.place(state=OrderState.SENT)
    assert parts.reconciler.watch() == NOW + ANSWER


# Asking.


def test_a_snapshot_is_due_for_a_reason_or_after_a_while_and_needs_the_link(parts):
    parts.answer(make_snapshot())
    assert not parts.at(EVERY - 1).due
    assert parts.at(EVERY).due
    assert parts.answer(make_snapshot())
    assert not parts.reconciler.due
    parts.sync.request_reconcile("the start")
    assert parts.reconciler.due
    parts.sync.link_up = False
    assert not parts.reconciler.due


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
    assert (parts.sync.query_reason, parts.reconciler.due) == (stays, True)
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


# The answer.


def test_when_orders_and_position_agree_new_risk_is_allowed_again(parts):
    entry = parts.place(OrderRole.STOP, state=OrderState.UNKNOWN)
    parts.hold(1)
    parts.sync.reconciled = False
    listed = parts.update(entry, OrderStatus.WORKING, unsolicited=False)
    assert parts.answer(make_snapshot(1, orders=[listed]))
    assert (entry.state, parts.sync.reconciled, parts.sync.position) == (OrderState.WORKING, True, 1)
    assert (parts.sync.query_reason, parts.alerts, parts.broker.sent) == ("", [], [])


def test_an_order_that_the_complete_answer_lacks_is_dead(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    assert parts.answer(make_snapshot())
    assert entry.state is OrderState.CANCELED
    assert parts.events.updates == [(entry.client_order_id, OrderStatus.UNKNOWN_TO_SERVER)]


def test_a_fill_that_was_missed_is_applied_once_before_its_order_is_updated(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    answer = make_snapshot(1, fills=[parts.fill(entry)])
    assert parts.answer(answer)
    assert (parts.ledger.position, entry.state) == (1, OrderState.FILLED)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("fill_missed", Priority.WARNING)
    assert "was found by side, price and time" not in alert.text
    assert parts.answer(answer)
    assert (parts.events.fills, parts.ledger.position) == (["x1"], 1)


def test_a_fill_without_a_name_is_told_to_be_a_guess(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    assert parts.answer(make_snapshot(1, fills=[make_fill("", "x1", server_order_id="S5")]))
    assert (entry.state, parts.events.fills) == (OrderState.FILLED, ["x1"])
    assert parts.alerts[0].text.endswith("its order was found by side, price and time")


def test_external_orders_are_passed_on_and_not_touched(parts):
    hand = make_update("hand", OrderStatus.WORKING, server_order_id="S9", unsolicited=False)
    assert parts.answer(make_snapshot(orders=[hand]))
    assert parts.events.updates == [("hand", OrderStatus.WORKING)]
    assert (parts.broker.sent, len(parts.orders)) == ([], 0)


def test_an_answer_that_was_overtaken_agrees_to_nothing(parts):
    """An order was sent while it was on its way: neither its absence nor the position says anything."""
    query = parts.reconciler.begin()
    entry = parts.place(state=OrderState.SENT)
    parts.sync.reconciled = False
    assert not parts.reconciler.apply(query, make_snapshot(2))
    assert (entry.state, parts.sync.position, parts.sync.reconciled) == (OrderState.SENT, None, False)
    assert parts.sync.query_reason == "orders or position did not agree yet"


def test_a_position_that_changed_meanwhile_is_not_compared(parts):
    query = parts.reconciler.begin()
    parts.hold(1)
    parts.sync.position = None
    assert not parts.reconciler.apply(query, make_snapshot(0))
    assert (parts.sync.position, parts.accounting.drifts) == (None, [])


def test_while_a_fill_is_missing_both_do_not_agree(parts):
    entry = parts.place()
    assert not parts.answer(
        make_snapshot(orders=[parts.update(entry, OrderStatus.FILLED, filled=1, unsolicited=False)])
    )
    assert parts.sync.query_reason == "orders or position did not agree yet"


# A difference.


def test_a_drift_counts_when_it_is_seen_twice(parts):
    assert not parts.answer(make_snapshot(2, average_price=99.0))
    assert (parts.ledger.position, parts.alerts) == (0, [])
    assert parts.sync.position == 2  # and no order of ours is sent while that is not ours
    parts.answer(make_snapshot(2, average_price=99.0))
    assert (parts.ledger.position, parts.accounting.drifts) == (2, [(2, 99.0)])
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
    assert parts.accounting.drifts == [(2, 0.0)]


def test_a_drift_that_the_servers_executions_explain_is_taken_over_by_them(parts):
    theirs = make_fill("", "hand-1", quantity=2, server_order_id="S9")
    for _ in range(2):
        parts.answer(make_snapshot(2, fills=[theirs]))
    assert parts.accounting.external == [("hand-1", "drift")]
    assert (parts.ledger.position, parts.accounting.drifts) == (2, [])
    assert parts.answer(make_snapshot(2, fills=[theirs]))
    assert parts.ledger.position == 2


def test_executions_that_do_not_explain_a_drift_are_left_out(parts):
    theirs = make_fill("", "hand-1", quantity=1, server_order_id="S9")
    for _ in range(2):
        parts.answer(make_snapshot(2, fills=[theirs]))
    assert (parts.accounting.external, parts.accounting.drifts) == ([], [(2, 0.0)])


def test_a_drift_may_halt_instead_of_being_taken_over():
    parts = Reconciling(adopt_drift=False)
    for _ in range(2):
        assert not parts.answer(make_snapshot(2))
    assert (parts.ledger.position, parts.latched) == (0, [RiskCode.HALTED])
    assert parts.breakers.pending
    assert "trading is halted" in parts.alerts[0].text
    parts.answer(make_snapshot(2))
    assert parts.alert_codes == ["position_drift"]  # told again after two more looks


def ambiguous_answer(parts):
    """One execution, of which two orders could be the owner; the position has it already."""
    orders = [parts.place(state=OrderState.UNKNOWN) for _ in range(2)]
    parts.hold(1)
    return orders, make_snapshot(1, fills=[make_fill("", "x7", server_order_id="S7")])


def test_orders_of_which_one_has_filled_are_given_up_at_the_second_look_when_the_position_agrees(parts):
    orders, answer = ambiguous_answer(parts)
    working = parts.place(OrderRole.STOP)
    listed = parts.update(working, OrderStatus.WORKING, unsolicited=False)
    answer = make_snapshot(1, fills=answer.fills, orders=[listed])
    assert not parts.answer(answer)
    assert [entry.state for entry in orders] == [OrderState.UNKNOWN] * 2
    parts.answer(answer)
    assert [entry.state for entry in orders] == [OrderState.CANCELED] * 2
    assert working.state is OrderState.WORKING
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("order_given_up", Priority.WARNING)] * 2
    assert (parts.accounting.external, parts.accounting.drifts) == ([], [])
    assert parts.answer(answer)


def test_what_the_server_reports_of_another_account_counts_for_nothing(parts):
    other = make_fill("", "x1", account="Sim2", server_order_id="S9")
    hand = make_update("hand", OrderStatus.WORKING, account="Sim2")
    assert parts.answer(make_snapshot(fills=[other], orders=[hand]))
    assert (parts.events.updates, parts.events.fills) == ([], [])


def test_as_configured_waits_for_an_answer_are_stretched_with_time():
    settings = BrokerSettings(ack_timeout_s=2.0, reconcile_every_s=30.0)
    assert ReconcilePolicy.of(settings, 4.0) == ReconcilePolicy(8 * NS_PER_S, 120 * NS_PER_S, adopt_drift=True)
