"""Orders are made under names never used before, and a name tells the run and the role."""

from dataclasses import replace

import pytest
from actor_parts import ACCOUNT, RUN, SCOPE, SYMBOL, make_update

from mia_daemon.execution.order_factory import OrderFactory, order_as_reported, run_of
from mia_daemon.records import OrderRole, OrderType, Side, TimeInForce


@pytest.mark.parametrize(("side", "stop", "target"), [(Side.BUY, 96.0, 106.0), (Side.SELL, 104.0, 94.0)])
def test_a_bracket_closes_what_its_entry_opens(side, stop, target):
    bracket = OrderFactory(SCOPE).make_bracket(side, 3, 100.0, stop=stop, target=target, decision_id="d7")
    entry, closing = bracket.entry, (bracket.stop, bracket.target)
    assert (entry.side, entry.type, entry.price, entry.parent_id) == (side, OrderType.LIMIT, 100.0, "")
    assert [(order.side, order.quantity) for order in closing] == [(side.opposite, 3)] * 2
    assert [(order.type, order.price) for order in closing] == [(OrderType.STOP, stop), (OrderType.LIMIT, target)]
    assert {order.parent_id for order in closing} == {entry.client_order_id}
    assert {order.decision_id for order in (entry, *closing)} == {"d7"}


def test_no_name_is_given_twice():
    factory = OrderFactory(SCOPE)
    names = []
    for _ in range(2):
        bracket = factory.make_bracket(Side.BUY, 1, 100.0, stop=96.0, target=106.0, decision_id="d")
        names += [order.client_order_id for order in (bracket.entry, bracket.stop, bracket.target)]
        names.append(factory.make(OrderRole.EXIT, Side.SELL, 1, OrderType.MARKET, 0.0, "d").client_order_id)
    assert names == [f"{RUN}-{name}" for name in ("1E", "1S", "1T", "2X", "3E", "3S", "3T", "4X")]


@pytest.mark.parametrize(
    ("role", "lasts"),
    [
        (OrderRole.ENTRY, TimeInForce.DAY),
        (OrderRole.EXIT, TimeInForce.DAY),
        (OrderRole.STOP, TimeInForce.GTC),
        (OrderRole.TARGET, TimeInForce.GTC),
    ],
)
def test_only_protection_outlives_the_session(role, lasts):
    assert OrderFactory(SCOPE).make(role, Side.SELL, 1, OrderType.LIMIT, 99.0, "d").time_in_force is lasts


def test_an_order_is_of_our_symbol_and_account_at_a_valid_price():
    order = OrderFactory(SCOPE).make(OrderRole.EXIT, Side.SELL, 1, OrderType.LIMIT, 99.1, "d")
    assert (order.symbol, order.account, order.price) == (SYMBOL, ACCOUNT, 99.0)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("1NG786R9-17S", "1NG786R9"),
        ("R1-1E", "R1"),
        ("R1-1Q", ""),
        ("R1-E", ""),
        ("hand", ""),
        ("", ""),
        ("R1-1E2", ""),
    ],
)
def test_a_name_tells_its_run(name, run):
    assert run_of(name) == run


@pytest.mark.parametrize("role", list(OrderRole))
def test_an_order_is_made_again_from_what_the_server_reports_of_it(role):
    made = OrderFactory(SCOPE).make(role, Side.SELL, 2, OrderType.LIMIT, 99.0, "")
    update = make_update(made.client_order_id, side=Side.SELL, quantity=2, type=OrderType.LIMIT, price=99.0)
    assert order_as_reported(update) == made


@pytest.mark.parametrize("lacking", [{"side": None}, {"type": None}, {"client_order_id": "hand"}])
def test_a_report_without_side_type_or_name_of_ours_makes_no_order(lacking):
    complete = make_update(f"{RUN}-1S", type=OrderType.STOP)
    assert order_as_reported(complete) is not None
    assert order_as_reported(replace(complete, **lacking)) is None
