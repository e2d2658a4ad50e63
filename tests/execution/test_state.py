"""What is known and what is wanted: first reasons stay, and what risk goes by is complete."""

import math

import pytest
from actor_parts import NOW, TICK, ActorParts

from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.state import BrokerSync, FlattenState
from mia_daemon.records import OrderRole, OrderStatus, Side
from mia_daemon.risk.snapshot import Delays


@pytest.fixture
def parts():
    return ActorParts()


def test_the_first_reason_to_ask_the_server_stays_until_it_is_asked():
    sync = BrokerSync()
    sync.request_reconcile("later")
    assert sync.query_reason == "the start"
    sync.query_reason = ""
    sync.request_reconcile("a fill was reported but not shown")
    sync.request_reconcile("an execution is not ours")
    assert sync.query_reason == "a fill was reported but not shown"


def test_a_run_begins_unreconciled_and_without_a_position_reported():
    sync = BrokerSync()
    assert (sync.link_up, sync.reconciled, sync.position) == (True, False, None)


@pytest.mark.parametrize(
    ("shutdown", "window", "standing"),
    [
        ("", "", ""),
        ("", "session_end", "session_end"),
        ("shutdown", "session_end", "shutdown"),
        ("shutdown", "", "shutdown"),
    ],
)
def test_the_end_of_the_daemon_comes_before_a_window_as_a_standing_reason(shutdown, window, standing):
    assert FlattenState(shutdown=shutdown, window=window).standing == standing


def test_one_flatten_keeps_its_first_reason_and_its_time(parts):
    flatten = parts.state.flatten
    parts.state.request_flatten("daily_loss")
    parts.after(5)
    parts.state.request_flatten("kill")
    assert (flatten.reason, flatten.since_ns, flatten.requests) == ("daily_loss", NOW, 1)
    flatten.reason = ""  # flat
    parts.state.request_flatten("kill")
    assert (flatten.reason, flatten.since_ns, flatten.requests) == ("kill", NOW + 5, 2)


def test_it_is_settled_when_nothing_is_closed_and_no_entry_can_fill(parts):
    parts.place(OrderRole.STOP)
    parts.place(OrderRole.TARGET)
    assert parts.state.settled
    entry = parts.place()
    assert not parts.state.settled
    parts.report(entry, OrderStatus.CANCELED)
    assert parts.state.settled
    parts.state.request_flatten("operator")
    assert not parts.state.settled


def test_an_entry_whose_fill_was_reported_but_not_shown_is_not_settled(parts):
    parts.report(parts.place(), OrderStatus.FILLED, filled=1)
    assert not parts.state.settled


@pytest.mark.parametrize(("quantity", "close_side"), [(2, Side.SELL), (-2, Side.BUY)])
def test_a_position_is_held_with_the_decision_that_opened_it(parts, quantity, close_side):
    parts.hold(quantity, 101.5, "d7")
    held = parts.state.held
    assert (held.quantity, held.average_price, held.decision_id) == (quantity, 101.5, "d7")
    assert held.close_side is close_side


def test_flat_nothing_is_held(parts):
    held = parts.state.held
    assert (held.quantity, held.average_price, held.decision_id) == (0, 0.0, "")


# What risk goes by.


def test_the_account_alone_says_nothing_of_orders(parts):
    parts.place()
    parts.place(state=OrderState.UNKNOWN)
    parts.hold(2, 99.0)
    parts.ledger.mark(100.0, 100.0 + TICK)
    snapshot = parts.state.account_snapshot()
    assert (snapshot.ts_ns, snapshot.position, snapshot.bid, snapshot.ask) == (NOW, 2, 100.0, 100.25)
    assert (snapshot.unrealized, snapshot.realized_today) == (100.0, parts.ledger.realized_today)
    assert (snapshot.working_buy, snapshot.working_sell, snapshot.unknown_orders) == (0, 0, 0)
    assert (snapshot.own_bid, snapshot.own_ask) == (-math.inf, math.inf)


def test_the_snapshot_for_an_order_counts_all_that_may_fill_and_all_that_is_unknown(parts):
    parts.place(quantity=2, price=99.0)
    parts.place(quantity=1, price=98.0, state=OrderState.UNKNOWN)
    parts.report(parts.place(quantity=1, price=97.0), OrderStatus.FILLED, filled=1)  # its fill is missing
    parts.place(OrderRole.TARGET, quantity=3, price=106.0)
    snapshot = parts.state.risk_snapshot(Delays(1.0, 2.0))
    assert (snapshot.working_buy, snapshot.working_sell) == (4, 3)
    assert (snapshot.own_bid, snapshot.own_ask) == (99.0, 106.0)
    assert snapshot.unknown_orders == 2
    assert snapshot.delays == Delays(1.0, 2.0)


def test_without_orders_the_snapshot_is_the_accounts(parts):
    assert parts.state.risk_snapshot() == parts.state.account_snapshot()


@pytest.mark.parametrize(("link_up", "reconciled"), [(True, False), (False, True)])
def test_the_snapshot_tells_how_we_stand_with_the_server(parts, link_up, reconciled):
    parts.sync.link_up, parts.sync.reconciled = link_up, reconciled
    snapshot = parts.state.risk_snapshot()
    assert (snapshot.link_up, snapshot.reconciled) == (link_up, reconciled)
