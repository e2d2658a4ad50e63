"""What the broker reports is applied once, where it is about us, and whatever it is."""

from dataclasses import replace

import pytest
from actor_parts import ACCOUNT, NOW, RUN, SYMBOL, ActorParts, make_fill, make_order, make_update
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.execution.order_events import OrderEventHandler
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import (
    BalanceReport,
    FillSource,
    LinkReport,
    LinkState,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Priority,
    Side,
)
from mia_daemon.risk.codes import RiskCode

ELSEWHERE = [{"symbol": "NQZ26_FUT_CME"}, {"account": "Sim2"}]


class FakeAccounting:
    """Applies fills to their orders, but for those that are `known` to the journal."""

    def __init__(self, orders):
        self.applied = []
        self.known = set()
        self._orders = orders

    def apply_fill(self, fill, entry):
        if fill.execution_id in self.known:
            return False
        self.applied.append((fill.execution_id, fill.client_order_id, entry.client_order_id))
        self._orders.book(entry, fill)
        return True


class Handling(ActorParts):
    def __init__(self, **limits):
        super().__init__(**limits)
        self.accounting = FakeAccounting(self.orders)
        self.handler = OrderEventHandler(self.state, self.ports, self.order_manager, self.accounting, self.breakers)

    def hear(self, event):
        return self.handler.on_event(event)


@pytest.fixture
def parts():
    return Handling()


# About us, and about what.


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_what_names_no_order_of_ours_in_another_symbol_or_account_is_not_about_us(parts, elsewhere):
    parts.hear(replace(make_update("theirs", server_order_id="S99"), **elsewhere))
    parts.hear(replace(make_fill("theirs", server_order_id="S99"), **elsewhere))
    parts.hear(replace(PositionReport(NOW, SYMBOL, ACCOUNT, 5, 100.0), **elsewhere))
    assert (parts.accounting.applied, parts.sync.position, parts.happened) == ([], None, [])
    assert not parts.breakers.pending


@pytest.mark.parametrize("elsewhere", [*ELSEWHERE, {"account": ""}, {"account": ACCOUNT.upper()}])
@pytest.mark.parametrize("named", [True, False], ids=["by our name", "by its number"])
def test_a_report_that_names_our_order_is_about_it_whatever_else_it_says(parts, elsewhere, named):
    """And new risk stops: both spellings are told."""
    entry = parts.place(quantity=2)
    name = {} if named else {"client_order_id": ""}
    parts.hear(replace(parts.fill(entry, server_order_id=entry.server_order_id), **elsewhere, **name))
    parts.hear(replace(parts.update(entry, OrderStatus.CANCELED), **elsewhere, **name))
    assert (entry.state, entry.fills.booked) == (OrderState.CANCELED, 1)
    assert parts.latched == [RiskCode.CONTRADICTED]
    parts.breakers.announce()
    (alert,) = (alert for alert in parts.alerts if alert.code == "other_spelling")
    told = elsewhere.get("symbol", SYMBOL), elsewhere.get("account", ACCOUNT)
    assert (alert.priority, alert.context["symbol"], alert.context["account"]) == (Priority.URGENT, *told)
    assert f"symbol {told[0]} and account {told[1]}, here they are {SYMBOL} and {ACCOUNT}" in alert.text


@pytest.mark.parametrize("symbol", ["ESZ26-CME", "F.US.ESZ26"])
def test_a_position_under_another_spelling_stops_new_risk(parts, symbol):
    parts.hear(PositionReport(NOW, symbol, ACCOUNT.lower(), 5, 100.0))
    assert (parts.sync.position, parts.latched) == (None, [RiskCode.CONTRADICTED])


def test_the_position_that_the_server_reports_is_kept_beside_ours(parts):
    assert parts.hear(PositionReport(NOW, SYMBOL, ACCOUNT, -3, 100.0))
    assert (parts.sync.position, parts.ledger.position) == (-3, 0)


def test_the_position_is_on_file_where_it_has_changed(parts):
    for quantity in (1, 1, 2, None):
        parts.hear(PositionReport(NOW, SYMBOL, ACCOUNT, quantity, 100.0))
    assert [report.quantity for (report,) in parts.journal.rows("position")] == [1, 2]
    assert parts.sync.position == 2  # what was told before still counts, and is asked about
    assert parts.sync.urgent


def test_nothing_follows_from_a_balance(parts):
    assert not parts.hear(BalanceReport(NOW, ACCOUNT, 1.0))
    assert parts.happened == []


# Updates.


def test_an_update_moves_its_order_and_is_on_file(parts):
    entry = parts.place(state=OrderState.SENT)
    assert parts.hear(parts.update(entry, OrderStatus.WORKING))
    assert entry.state is OrderState.WORKING
    assert parts.journal.rows("update") == [[entry.client_order_id, OrderStatus.WORKING]]


def test_an_update_moves_its_order_although_the_journal_is_dead(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.journal.fails = {"all"}
    parts.hear(parts.update(entry, OrderStatus.WORKING))
    assert (entry.state, parts.latched) == (OrderState.WORKING, [RiskCode.HALTED])


def test_an_answer_to_a_query_is_on_file_only_where_it_changes_something(parts):
    entry = parts.place()
    parts.handler.on_update(parts.update(entry, OrderStatus.WORKING, unsolicited=False))
    assert parts.journal.rows("update") == []
    parts.orders.lose(entry)
    parts.handler.on_update(parts.update(entry, OrderStatus.WORKING, unsolicited=False))
    assert parts.journal.rows("update") == [[entry.client_order_id, OrderStatus.WORKING]]


def test_an_update_under_the_servers_number_alone_is_about_our_order(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.hear(parts.update(entry, OrderStatus.WORKING, server_order_id="S1"))
    parts.hear(make_update("", OrderStatus.CANCELED, server_order_id="S1"))
    assert (entry.state, parts.alerts) == (OrderState.CANCELED, [])


def test_an_update_that_contradicts_what_the_order_was_is_asked_about(parts):
    """As of a server that says "rejected" of an order whose replace it rejected."""
    stop = parts.place(OrderRole.STOP)
    parts.hear(parts.update(stop, OrderStatus.REJECTED))
    assert stop.state is OrderState.UNKNOWN
    assert parts.sync.query_reason == "an order's update contradicts what it was"


def test_an_order_that_was_unknown_before_is_not_asked_about_again(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    parts.hear(parts.update(entry, OrderStatus.CANCEL_REJECTED))
    assert parts.sync.query_reason == "a change of an order was refused"
    parts.sync.query_reason = ""
    parts.hear(make_update(entry.client_order_id, OrderStatus.CANCELED))
    assert parts.sync.query_reason == ""


@pytest.mark.parametrize(
    ("status", "notices"),
    [
        (OrderStatus.ACCEPTED, []),
        (OrderStatus.PARTIAL, []),
        (OrderStatus.FILLED, []),
        (OrderStatus.WORKING, ["working: why"]),
        (OrderStatus.CANCELED, ["canceled: why"]),
        (OrderStatus.REJECTED, ["rejected: why"]),
    ],
)
def test_what_fills_do_not_show_is_notified(parts, status, notices):
    entry = parts.place(state=OrderState.SENT)
    parts.hear(parts.update(entry, status, text="why"))
    assert parts.listener.orders == [(entry.client_order_id, what) for what in notices]


def test_the_same_state_again_is_not_notified_again_but_each_refusal_is(parts):
    entry = parts.place()
    for status in (OrderStatus.WORKING, OrderStatus.CANCEL_REJECTED, OrderStatus.CANCEL_REJECTED):
        parts.hear(parts.update(entry, status))
    assert parts.listener.orders == [(entry.client_order_id, "cancel_rejected")] * 2


# Rejects and refusals.


def test_rejected_entries_in_a_row_are_latched():
    parts = Handling(max_consecutive_rejects=2)
    for expected in ([], [RiskCode.CONSECUTIVE_REJECTS]):
        parts.hear(parts.update(parts.place(state=OrderState.SENT), OrderStatus.REJECTED, text="no margin"))
        assert parts.latched == expected
    assert parts.breakers.pending
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("order_rejected", Priority.ERROR)] * 2
    assert parts.alerts[0].text.endswith("no margin")


@pytest.mark.parametrize(
    "status", [OrderStatus.ACCEPTED, OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED]
)
def test_an_entry_that_the_server_takes_ends_the_row(status):
    parts = Handling(max_consecutive_rejects=2)
    for answer in (OrderStatus.REJECTED, status, OrderStatus.REJECTED):
        parts.hear(parts.update(parts.place(state=OrderState.SENT), answer))
    assert parts.latched == []


def test_protection_that_is_rejected_is_critical_and_not_counted_as_an_entry():
    parts = Handling(max_consecutive_rejects=1)
    parts.hear(parts.update(parts.place(OrderRole.STOP, state=OrderState.SENT), OrderStatus.REJECTED))
    (alert,) = parts.alerts
    assert (alert.priority, parts.latched) == (Priority.CRITICAL, [])
    assert alert.text.endswith("no reason given")


def test_protection_that_works_does_not_end_a_row_of_rejected_entries():
    parts = Handling(max_consecutive_rejects=2)
    parts.hear(parts.update(parts.place(state=OrderState.SENT), OrderStatus.REJECTED))
    parts.hear(parts.update(parts.place(OrderRole.STOP, state=OrderState.SENT), OrderStatus.WORKING))
    parts.hear(parts.update(parts.place(state=OrderState.SENT), OrderStatus.REJECTED))
    assert parts.latched == [RiskCode.CONSECUTIVE_REJECTS]


@pytest.mark.parametrize("status", [OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED])
def test_a_refused_change_of_a_live_order_is_asked_about(parts, status):
    entry = parts.place()
    parts.hear(parts.update(entry, status, text="too late"))
    (alert,) = parts.alerts
    assert (alert.code, alert.priority, alert.context["status"]) == ("request_refused", Priority.WARNING, status.value)
    assert alert.text.endswith("too late")
    assert parts.sync.query_reason == "a change of an order was refused"
    assert entry.state is OrderState.WORKING


def test_a_refusal_that_crossed_with_the_end_of_the_order_is_no_trouble(parts):
    entry = parts.place()
    parts.report(entry, OrderStatus.CANCELED)
    parts.hear(parts.update(entry, OrderStatus.CANCEL_REJECTED))
    assert [alert.priority for alert in parts.alerts] == [Priority.INFO]
    assert parts.sync.query_reason == ""


# Orders and executions that are not ours.


def test_an_external_order_raises_an_alert_and_is_not_touched(parts):
    parts.hear(make_update("hand", OrderStatus.WORKING, server_order_id="S9"))
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("external_order", Priority.WARNING)
    assert alert.context == {"server_order_id": "S9"}
    assert alert.text.startswith(f"order S9 in account {ACCOUNT} is not ours")
    assert (len(parts.orders), parts.broker.sent, parts.sync.query_reason) == (0, [], "")
    assert parts.latched == []


@pytest.mark.parametrize("told", [make_update("OTHER1-3E"), make_fill("OTHER1-3E")], ids=["order", "execution"])
def test_an_order_of_another_daemon_stops_new_risk(parts, told):
    """Our form of a name, of a run that our journal does not know."""
    parts.hear(told)
    parts.breakers.announce()
    assert parts.sync.other_daemon == "OTHER1-3E"
    assert parts.latched == [RiskCode.CONTRADICTED]
    assert (parts.alert_codes, parts.alerts[0].priority) == (["other_daemon", "contradicted"], Priority.URGENT)
    assert (len(parts.orders), parts.broker.sent) == (0, [])


@pytest.mark.parametrize("status", [OrderStatus.CANCELED, OrderStatus.FILLED, OrderStatus.REJECTED])
def test_an_external_order_that_is_over_raises_no_alert(parts, status):
    parts.hear(make_update("hand", status))
    assert parts.alerts == []


def test_an_external_execution_raises_an_alert_and_the_position_is_asked_about(parts):
    parts.hear(make_fill("", "hand-1", server_order_id="S9"))
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("external_execution", Priority.WARNING)
    assert alert.text.startswith(f"execution S9 in account {ACCOUNT} is not ours")
    assert (parts.accounting.applied, parts.ledger.position) == ([], 0)
    assert parts.sync.query_reason == "an execution is not ours"


# Orders of ours that are not in the journal.


def stop_update(name, status=OrderStatus.WORKING):
    return make_update(name, status, side=Side.SELL, type=OrderType.STOP, price=96.0)


def test_an_order_of_our_run_that_works_unknown_to_us_is_taken_over(parts):
    parts.hear(stop_update(f"{RUN}-17S"))
    assert parts.orders.get(f"{RUN}-17S").state is OrderState.WORKING
    assert parts.journal.rows("intent") == [[(f"{RUN}-17S",), NOW]]
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("order_adopted", Priority.ERROR)


def test_an_order_of_our_run_that_is_on_file_is_taken_over_without_another_intent(parts):
    parts.journal.record_intent((make_order(f"{RUN}-17S", OrderRole.STOP),), NOW)
    parts.hear(stop_update(f"{RUN}-17S"))  # perhaps from before its end
    assert parts.orders.get(f"{RUN}-17S") is None
    parts.hear(replace(stop_update(f"{RUN}-17S"), unsolicited=False))  # in a list
    assert parts.orders.get(f"{RUN}-17S").state is OrderState.WORKING
    assert len(parts.journal.rows("intent")) == 1


def test_an_order_of_our_run_that_is_over_is_not_taken_over(parts):
    parts.hear(stop_update(f"{RUN}-17S", OrderStatus.CANCELED))
    assert (len(parts.orders), parts.journal.rows("intent")) == (0, [])


def test_a_run_whose_name_cannot_be_looked_up_has_its_order_left_alone(parts):
    """Whether it is ours is in the journal, which can't be read: it counts as external, and trading halts."""
    parts.journal.fails = {"has_run"}
    parts.hear(stop_update(f"{RUN}-17S"))
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("external_order", Priority.WARNING)]
    assert (len(parts.orders), parts.latched, parts.sync.other_daemon) == (0, [RiskCode.HALTED], "")


# Fills.


def test_an_execution_told_twice_is_applied_once(parts):
    entry = parts.place(quantity=2)
    for _ in range(2):
        parts.hear(parts.fill(entry))
    assert parts.accounting.applied == [("x1", entry.client_order_id, entry.client_order_id)]
    assert parts.alerts == []


def test_an_execution_comes_with_the_update_of_its_order_and_is_booked_before_the_order_moves(parts):
    entry = parts.place()
    fill = parts.fill(entry, filled=1)
    parts.hear(parts.update(entry, OrderStatus.FILLED, filled=1, fill=fill))
    assert (entry.state, entry.fills.booked, entry.done) == (OrderState.FILLED, 1, True)
    assert parts.happened == [("journal", "update", entry.client_order_id)]
    assert parts.orders.missing_fills() == []


def test_an_update_that_tells_a_fill_without_its_execution_leaves_it_missing(parts):
    entry = parts.place()
    parts.hear(parts.update(entry, OrderStatus.FILLED, filled=1))
    assert (entry.fills.booked, parts.orders.missing_fills()) == (0, [entry])


@given(
    st.permutations([1, 2, 3]),
    st.lists(st.integers(0, 2), max_size=4),
    st.booleans(),
)
def test_in_whatever_order_and_however_often_executions_are_told_each_contract_is_booked_once(order, again, known):
    """Cumulative quantities and ids are told, or neither ids are."""
    parts = Handling()
    entry = parts.place(quantity=3)
    for n in [*order, *(order[i] for i in again)]:
        parts.hear(parts.fill(entry, execution_id=f"x{n}" if known else "", filled=n))
    assert (entry.fills.booked, entry.state) == (3, OrderState.FILLED)


def test_no_order_fills_beyond_its_size(parts):
    entry = parts.place(quantity=2)
    for n in range(4):
        parts.hear(parts.fill(entry, execution_id=f"x{n}"))
    assert entry.fills.booked == 2


def test_a_fill_ends_the_row_of_refused_exits(parts):
    parts.hold(2)
    parts.hear(parts.update(parts.place(OrderRole.EXIT, state=OrderState.SENT), OrderStatus.REJECTED))
    assert (parts.state.flatten.refusals, parts.state.flatten.refused_at_ns) == (1, NOW)
    parts.hear(parts.fill(parts.place(OrderRole.EXIT)))
    assert parts.state.flatten.refusals == 0


@pytest.mark.parametrize("role", [OrderRole.ENTRY, OrderRole.STOP, OrderRole.TARGET])
def test_only_refused_exits_are_counted_as_such(parts, role):
    parts.hear(parts.update(parts.place(role, state=OrderState.SENT), OrderStatus.REJECTED))
    assert parts.state.flatten.refusals == 0


@pytest.mark.parametrize("price", [1.0, 10_000.0])
def test_an_execution_at_a_senseless_price_is_not_booked_at_it_and_stays_missing(parts, price):
    entry = parts.place()
    parts.hear(parts.fill(entry, price=price, filled=1))
    assert (parts.accounting.applied, parts.orders.missing_fills()) == ([], [entry])
    assert parts.latched == [RiskCode.CONTRADICTED]
    parts.breakers.announce()
    assert "price_senseless" in parts.alert_codes


def test_a_price_off_the_tick_stops_new_risk_and_is_booked_all_the_same(parts):
    entry = parts.place()
    parts.hear(parts.fill(entry, price=100.1))
    assert entry.fills.booked == 1
    parts.breakers.announce()
    assert "price_off_tick" in parts.alert_codes
    assert parts.latched == [RiskCode.CONTRADICTED]


# Booked from lists.


def test_what_is_booked_from_the_list_of_executions_is_told_and_limited(parts):
    entry = parts.place(quantity=3)
    listed = [parts.fill(entry, execution_id=f"h{n}", source=FillSource.HISTORY) for n in range(3)]
    assert parts.handler.booking.on_history(entry, listed, 2) == 2
    assert entry.fills.booked == 2
    assert parts.alert_codes == ["fill_missed"] * 2
    assert parts.handler.booking.on_history(entry, listed, 2) == 0


@pytest.mark.parametrize(("average", "price"), [(100.75, 100.75), (0.0, 100.0), (1.0, 100.0), (100.0, 100.0)])
def test_a_fill_without_an_execution_is_booked_at_the_average_price_where_that_makes_sense(parts, average, price):
    entry = parts.place()
    parts.hear(parts.update(entry, OrderStatus.FILLED, filled=1, average_fill_price=average))
    booked = []
    apply = parts.accounting.apply_fill
    parts.accounting.apply_fill = lambda fill, one: booked.append(fill) or apply(fill, one)
    parts.handler.booking.book_at_average(entry)
    ((fill),) = booked
    assert (fill.quantity, fill.price, fill.source) == (1, price, FillSource.AVERAGE)
    assert (parts.alert_codes, parts.alerts[0].priority) == (["fill_without_execution"], Priority.ERROR)
    assert entry.done


def test_a_fill_under_the_servers_number_alone_is_applied_under_our_name(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.hear(parts.update(entry, OrderStatus.WORKING, server_order_id="S1"))
    parts.hear(make_fill("", "x1", server_order_id="S1"))
    assert parts.accounting.applied == [("x1", entry.client_order_id, entry.client_order_id)]


def test_an_execution_that_is_on_file_for_another_order_is_not_applied_again(parts):
    """Of a server that counts its executions anew; what it holds is asked for."""
    entry = parts.place()
    parts.accounting.known.add("x1")
    parts.hear(parts.fill(entry))
    assert entry.fills.booked == 0
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("execution_known", Priority.ERROR)
    assert alert.context == {"order": entry.client_order_id}
    assert parts.sync.query_reason == "an execution was reported again"


# The connection.


@pytest.mark.parametrize(("position", "priority"), [(0, Priority.ERROR), (1, Priority.CRITICAL)])
def test_with_the_connection_all_certainty_is_lost(parts, position, priority):
    stop = parts.place(OrderRole.STOP)
    if position:
        parts.hold(position)
    assert parts.hear(LinkReport(NOW, LinkState.DOWN, "cable pulled"))
    assert stop.state is OrderState.UNKNOWN
    assert (parts.sync.link_up, parts.sync.reconciled, parts.sync.query_reason) == (False, False, "")
    (alert,) = parts.alerts
    assert (alert.code, alert.priority, alert.context) == ("link_down", priority, {"orders": 1, "position": position})


def test_when_the_connection_is_back_the_server_is_asked_first(parts):
    parts.hear(LinkReport(NOW, LinkState.DOWN, ""))
    parts.hear(LinkReport(NOW, LinkState.UP, ""))
    assert (parts.sync.link_up, parts.sync.reconciled) == (True, False)
    assert parts.sync.query_reason == "the order connection is back"
    assert parts.alert_codes == ["link_down"]


def test_a_connection_that_is_down_for_good_is_urgent(parts):
    parts.hear(LinkReport(NOW, LinkState.DOWN, "refused", final=True))
    (alert,) = parts.alerts
    assert (alert.code, alert.priority) == ("link_down", Priority.URGENT)
    assert "restart the daemon" in alert.text


def test_with_the_connection_the_servers_position_is_not_known_any_more(parts):
    parts.hold(1)
    parts.hear(LinkReport(NOW, LinkState.DOWN, ""))
    assert (parts.sync.held, parts.state.confirmed) == (None, 0)


# Numbers and times that the server has begun again.


def test_a_number_that_another_order_has_had_means_that_they_began_again(parts):
    first, second = parts.place(), parts.place(state=OrderState.SENT)
    parts.hear(parts.update(second, OrderStatus.WORKING, server_order_id=first.server_order_id))
    assert (parts.alert_codes, parts.sync.reconciled) == (["server_renumbered"], False)
    assert parts.sync.query_reason == "the server's order numbers began again"
    assert second.state is OrderState.WORKING


def test_an_order_that_was_absent_and_is_reported_alive_is_asked_about(parts):
    entry = parts.place(state=OrderState.SENT)
    parts.report(entry, OrderStatus.UNKNOWN_TO_SERVER, server_order_id="")
    assert entry.state is OrderState.ABSENT
    parts.hear(parts.update(entry, OrderStatus.WORKING))
    assert entry.state is OrderState.WORKING
    assert parts.sync.query_reason == "an order that had ended is reported to live"
