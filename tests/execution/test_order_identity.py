"""Which order a report is about: by name, by number, by values; and what contradicts that order stops new risk."""

from dataclasses import replace

import pytest
from actor_parts import ACCOUNT, NOW, RUN, SYMBOL, ActorParts, make_fill, make_update

from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import FillSource, OrderRole, OrderStatus, OrderType, PositionReport, Priority, Side
from mia_daemon.risk.codes import RiskCode

SPELLINGS = [
    {"symbol": "ESZ26-CME"},
    {"symbol": "F.US.EPZ26"},
    {"account": "SIM1"},
    {"account": "Sim2"},
    {"symbol": "NQZ26_FUT_CME"},
]


@pytest.fixture
def parts():
    return ActorParts()


def contradictions(parts):
    """The alerts of what stopped new risk; each is urgent, and entries are latched."""
    parts.breakers.announce()
    urgent = [alert for alert in parts.alerts if alert.priority is Priority.URGENT]
    assert parts.latched == [RiskCode.CONTRADICTED] * bool(urgent)
    return [alert.code for alert in urgent]


def nameless(entry, status=OrderStatus.WORKING, **more):
    """What the server says of an order without its client order id."""
    order = entry.order
    facts = {"side": order.side, "type": order.type, "quantity": entry.quantity, "price": order.price}
    return make_update("", status, **{"server_order_id": "S77", **facts, **more})


# Spellings.


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("named", [{}, {"client_order_id": ""}], ids=["by name", "by number"])
def test_an_update_of_our_order_is_used_whatever_symbol_or_account_it_names(parts, spelling, named):
    entry = parts.place(state=OrderState.ACKED)
    number = entry.server_order_id
    parts.events.on_update(
        replace(parts.update(entry, OrderStatus.WORKING), server_order_id=number, **named, **spelling)
    )
    assert entry.state is OrderState.WORKING
    assert contradictions(parts) == ["other_spelling"]
    alert = next(alert for alert in parts.alerts if alert.code == "other_spelling")
    assert all(text in alert.text for text in (*spelling.values(), SYMBOL, ACCOUNT, "broker.symbol_spellings"))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_execution_of_our_order_is_booked_under_our_symbol_whatever_it_names(parts, spelling):
    entry = parts.place()
    parts.events.on_fill(replace(parts.fill(entry), **spelling))
    assert (entry.state, parts.ledger.position) == (OrderState.FILLED, 1)
    ((_, booked),) = parts.journal.rows("fill")
    assert (booked.symbol, booked.account) == (SYMBOL, ACCOUNT)
    assert contradictions(parts) == ["other_spelling"]


def test_another_spelling_told_again_and_again_is_one_alert_until_resumed(parts):
    entry = parts.place()
    for _ in range(3):
        parts.events.on_update(parts.update(entry, OrderStatus.WORKING, symbol="ESZ26-CME"))
    assert contradictions(parts) == ["other_spelling"]
    parts.breakers.lift("operator", None)
    assert parts.latched == []
    parts.events.on_update(parts.update(entry, OrderStatus.WORKING, symbol="ESZ26-CME"))
    assert contradictions(parts) == ["other_spelling"] * 2


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_order_elsewhere_that_is_not_ours_is_nothing_to_us(parts, spelling):
    parts.events.on_update(make_update("hand", OrderStatus.WORKING, server_order_id="H1", **spelling))
    parts.events.on_fill(make_fill("hand", "x1", server_order_id="H1", **spelling))
    assert (parts.happened, len(parts.orders), parts.ledger.position) == ([], 0, 0)


@pytest.mark.parametrize(
    ("symbol", "account", "ours"),
    [
        ("ESZ26-CME", ACCOUNT, True),
        ("ESZ26-CME", ACCOUNT.upper(), True),
        (SYMBOL, ACCOUNT.upper(), True),
        ("ESZ26-CME", "Sim2", False),
        ("NQZ26_FUT_CME", ACCOUNT, False),
        ("ESH27_FUT_CME", ACCOUNT, False),
    ],
)
def test_a_position_in_our_contract_under_another_spelling_stops_new_risk(parts, symbol, account, ours):
    parts.events.on_event(PositionReport(NOW, symbol, account, 2, 100.0))
    assert contradictions(parts) == (["other_spelling"] if ours else [])
    assert parts.sync.position is None


def test_no_position_under_another_spelling_is_no_contradiction(parts):
    parts.events.on_event(PositionReport(NOW, "ESZ26-CME", ACCOUNT, 0, 0.0))
    assert contradictions(parts) == []


# Without the name.


@pytest.mark.parametrize("name", ["", "k1", "K1e"])
def test_an_order_without_its_name_or_with_a_shortened_one_is_found_by_its_values(parts, name):
    entry = parts.place(state=OrderState.SENT)
    parts.events.on_update(nameless(entry, client_order_id=name))
    assert (entry.state, entry.server_order_id) == (OrderState.WORKING, "S77")
    parts.events.on_update(make_update("", OrderStatus.CANCELED, server_order_id="S77"))  # by the number from now on
    assert entry.state is OrderState.CANCELED
    assert (contradictions(parts), parts.alert_codes) == ([], [])


@pytest.mark.parametrize(
    "other", [{"side": Side.SELL}, {"type": OrderType.STOP}, {"quantity": 2}, {"price": 100.25}], ids=str
)
def test_an_order_with_other_values_is_not_taken_for_ours(parts, other):
    entry = parts.place(state=OrderState.SENT)
    parts.events.on_update(nameless(entry, **other))
    assert (entry.state, entry.server_order_id) == (OrderState.SENT, "")
    assert parts.alert_codes == ["external_order"]


def test_an_order_whose_number_is_known_is_not_another_with_its_values(parts):
    entry = parts.place()
    parts.events.on_update(nameless(entry, OrderStatus.CANCELED))
    assert entry.state is OrderState.WORKING


def test_what_may_be_either_of_two_orders_is_neither_and_stops_new_risk(parts):
    entries = [parts.place(state=OrderState.SENT) for _ in range(2)]
    parts.events.on_update(nameless(entries[0]))
    assert [(entry.state, entry.server_order_id) for entry in entries] == [(OrderState.SENT, "")] * 2
    assert contradictions(parts) == ["order_ambiguous"]
    alert = next(alert for alert in parts.alerts if alert.code == "order_ambiguous")
    assert all(entry.client_order_id in alert.text for entry in entries)


@pytest.mark.parametrize("named_between", [False, True])
def test_when_all_of_ours_come_back_nameless_new_risk_stops(parts, named_between):
    for number in range(3):
        entry = parts.place(price=100.0 - number, state=OrderState.SENT)
        parts.events.on_update(nameless(entry, server_order_id=f"S{70 + number}"))
        assert entry.state is OrderState.WORKING
        if named_between:
            parts.events.on_update(parts.update(entry, OrderStatus.WORKING))
    assert contradictions(parts) == ([] if named_between else ["orders_unnamed"])


@pytest.mark.parametrize("status", [OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED])
def test_a_refusal_without_a_name_is_of_no_order_that_has_the_values(parts, status):
    """What it tells of the order may be what was asked for."""
    entry = parts.place(state=OrderState.SENT)
    parts.events.on_update(nameless(entry, status))
    assert (entry.state, entry.server_order_id) == (OrderState.SENT, "")


@pytest.mark.parametrize(("status", "ours"), [(OrderStatus.WORKING, True), (OrderStatus.CANCELED, False)])
def test_only_what_is_listed_as_open_is_found_by_its_values(parts, status, ours):
    """A list may contain orders that ended long ago."""
    entry = parts.place(state=OrderState.UNKNOWN)
    ((found, _),) = parts.events.identified([nameless(entry, status, unsolicited=False)])
    assert found is (entry if ours else None)


def test_an_order_under_a_new_number_is_found_by_the_one_it_replaced(parts):
    entry = parts.place()
    told = nameless(entry, OrderStatus.REPLACED, price=99.0, previous_server_order_id=entry.server_order_id)
    parts.events.on_update(told)
    assert (entry.server_order_id, entry.price) == ("S77", 99.0)


def test_a_listed_order_under_a_new_number_is_found_by_the_one_it_replaced(parts):
    entry = parts.place()
    listed = nameless(entry, price=99.0, previous_server_order_id=entry.server_order_id, unsolicited=False)
    assert parts.events.identified([listed]) == [(entry, listed)]
    parts.events.on_update(listed)
    assert (entry.server_order_id, entry.price) == ("S77", 99.0)


def test_an_execution_under_a_new_number_is_found_by_the_one_it_replaced(parts):
    entry = parts.place()
    parts.events.on_fill(make_fill(server_order_id="S77", previous_server_order_id=entry.server_order_id))
    assert (parts.ledger.position, parts.alert_codes) == (1, [])
    parts.events.on_update(make_update("", OrderStatus.FILLED, server_order_id="S77", filled=1))
    assert entry.state is OrderState.FILLED


def test_a_number_given_a_second_time_is_of_the_order_that_was_replaced(parts):
    """The number is that of an order of ours which has ended, and the update names the one that works."""
    ended, entry = parts.place(), parts.place()
    parts.events.on_update(parts.update(ended, OrderStatus.CANCELED))
    told = nameless(
        entry,
        OrderStatus.REPLACED,
        price=99.0,
        server_order_id=ended.server_order_id,
        previous_server_order_id=entry.server_order_id,
    )
    parts.events.on_update(told)
    assert (entry.server_order_id, entry.price, ended.state) == (ended.server_order_id, 99.0, OrderState.CANCELED)
    assert parts.alert_codes == ["server_renumbered"]


def test_a_replace_and_a_cancel_after_a_rename_name_the_new_number(parts):
    entry, sent = parts.place(OrderRole.TARGET, price=106.0), []
    parts.hold(1)
    parts.broker.replace = lambda _name, number, _price, _quantity: sent.append(number)
    parts.broker.cancel = lambda _name, number: sent.append(number)
    for number, price in (("S77", 105.0), ("S78", 104.0)):
        before = entry.server_order_id
        assert parts.order_manager.replace(entry, price, "faded")
        renamed = nameless(
            entry, OrderStatus.REPLACED, price=price, server_order_id=number, previous_server_order_id=before
        )
        parts.events.on_update(renamed)
    parts.order_manager.cancel(entry)
    assert sent == ["S1", "S77", "S78"]


def test_of_an_answer_what_is_ours_and_what_is_in_our_account_is_passed_on(parts):
    entry = parts.place(state=OrderState.UNKNOWN)
    ours = parts.update(entry, OrderStatus.WORKING, symbol="ESZ26-CME", unsolicited=False)
    hand = make_update("hand", OrderStatus.WORKING, server_order_id="H1", unsolicited=False)
    elsewhere = replace(hand, account="Sim2")
    assert parts.events.identified([ours, hand, elsewhere]) == [(entry, ours), (None, hand)]


# Numbers that begin again.


def test_when_the_servers_numbers_begin_again_nothing_is_entered_before_a_comparison(parts):
    old, new = parts.place(), parts.place(state=OrderState.SENT)
    parts.events.on_update(parts.update(new, OrderStatus.WORKING, server_order_id=old.server_order_id))
    assert (parts.sync.reconciled, parts.sync.query_reason) == (False, "the server's order numbers began again")
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("server_renumbered", Priority.ERROR)]
    assert parts.orders.find("", old.server_order_id) is new
    parts.events.on_update(parts.update(new, OrderStatus.WORKING))
    assert len(parts.alerts) == 1


# Two daemons.


@pytest.mark.parametrize("what", ["order", "execution"])
def test_an_order_of_another_daemon_in_our_account_stops_new_risk(parts, what):
    if what == "order":
        parts.events.on_update(make_update("R9-7E", OrderStatus.WORKING, server_order_id="H1"))
    else:
        parts.events.on_fill(make_fill("R9-7E", "x1", server_order_id="H1"))
    assert contradictions(parts) == ["other_daemon"]
    assert (parts.sync.other_daemon, len(parts.orders), parts.ledger.position) == ("R9-7E", 0, 0)


@pytest.mark.parametrize("elsewhere", [{"symbol": "NQZ26_FUT_CME"}, {"account": "Sim2"}])
def test_another_daemon_may_trade_another_symbol_or_account(parts, elsewhere):
    parts.events.on_update(make_update("R9-7E", OrderStatus.WORKING, server_order_id="H1", **elsewhere))
    assert (contradictions(parts), parts.sync.other_daemon) == ([], "")


def test_an_order_of_a_run_of_ours_is_taken_over_and_not_of_another_daemon(parts):
    told = make_update(f"{RUN}-7S", side=Side.SELL, type=OrderType.STOP, price=96.0, server_order_id="S9")
    parts.events.on_update(told)
    assert (contradictions(parts), len(parts.orders)) == ([], 1)


# Prices.


@pytest.mark.parametrize(
    ("price", "right"),
    [(100.0, True), (100.25, True), (0.0, True), (100.1, False), (100.00000001, True), (10_000.0, False), (1.0, False)],
)
def test_a_price_of_an_order_off_the_tick_or_off_its_scale_stops_new_risk(parts, price, right):
    entry = parts.place(state=OrderState.ACKED)
    parts.events.on_update(parts.update(entry, OrderStatus.WORKING, price=price))
    assert entry.state is OrderState.WORKING
    assert contradictions(parts) == ([] if right else ["price_off_tick"])


@pytest.mark.parametrize(
    ("price", "found"),
    [(100.0, []), (100.1, ["price_off_tick"]), (1.0, ["price_senseless"]), (6.0e7, ["price_senseless"])],
)
def test_an_execution_at_a_price_that_is_not_the_markets_stays_missing(parts, price, found):
    entry = parts.place()
    executed = parts.fill(entry, price=price, filled=1)
    told = parts.update(entry, OrderStatus.FILLED, filled=1, fill=executed, server_order_id=entry.server_order_id)
    parts.events.on_update(told)
    assert contradictions(parts) == found
    booked = found != ["price_senseless"]
    assert (parts.ledger.position, entry.fills.missing) == (int(booked), int(not booked))
    assert parts.state.risk_snapshot().unknown_orders == int(not booked)


def test_a_missing_fill_at_a_senseless_price_is_booked_by_the_list_once_that_tells_a_right_one(parts):
    entry = parts.place()
    parts.events.on_fill(parts.fill(entry, price=1.0, filled=1))
    senseless = parts.fill(entry, execution_id="h1", price=1.0, source=FillSource.HISTORY)
    assert parts.events.booking.on_history(entry, [senseless], 1, guessed=False) == 0
    assert parts.events.booking.on_history(entry, [replace(senseless, price=100.25)], 1, guessed=False) == 1
    assert (parts.ledger.position, parts.ledger.average_price) == (1, 100.25)


def test_without_a_market_price_any_price_of_an_execution_is_believed(parts):
    parts.touch(float("nan"), float("nan"))
    entry = parts.place()
    parts.events.on_fill(parts.fill(entry, price=1.0))
    assert parts.ledger.position == 1


@pytest.mark.parametrize("role", [OrderRole.STOP, OrderRole.TARGET])
def test_a_contradiction_leaves_protection_as_it_is(parts, role):
    parts.hold(1)
    closing = parts.place(role, price=96.0 if role is OrderRole.STOP else 106.0)
    parts.events.on_update(parts.update(closing, OrderStatus.WORKING, symbol="ESZ26-CME"))
    assert contradictions(parts) == ["other_spelling"]
    assert (closing.live, parts.broker.sent) == (True, [])
