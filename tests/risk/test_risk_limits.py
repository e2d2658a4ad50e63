"""What an order may be worth, may meet and may be moved to."""

import math
from dataclasses import replace

from asking_risk import check_entry
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Bracket, Order, OrderRole, OrderType, Prediction, RegimeProbs, Side
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import RiskSnapshot

ES, MNQ = instrument("ESZ26_FUT_CME"), instrument("MNQZ26_FUT_CME")
NOW = 1_790_000_000 * NS_PER_S
GOOD = Prediction(RegimeProbs(0.5, 0.3, 0.2), 0.6, 0.7, "baseline", 0.1, "ab")
WAIVED = RiskSettings(**dict.fromkeys(RiskSettings.model_fields) | {"cancel_reserve_share": 0.0, "market_pause_s": 0.0})


def controller(traded=ES, **limits):
    return RiskController(WAIVED.model_copy(update=limits), traded, "Sim1")


def facts(**changes):
    known = RiskSnapshot(NOW, 0, 0, 0, 6000.0, 6000.25, NOW, 0.0, 0.0, 0.0)
    for name, value in changes.items():
        setattr(known, name, value)
    return known


def bracket(side=Side.BUY, quantity=1, price=6000.25, traded=ES, name="r"):
    entry = Order(f"{name}E", traded.symbol, "Sim1", side, quantity, OrderType.LIMIT, OrderRole.ENTRY, "d", price=price)
    close = {"side": side.opposite}
    stop = replace(entry, client_order_id=f"{name}S", type=OrderType.STOP, role=OrderRole.STOP, **close)
    target = replace(entry, client_order_id=f"{name}T", role=OrderRole.TARGET, **close)
    return Bracket(entry, replace(stop, price=price - side * 4), replace(target, price=price + side * 6))


def code(risk, what, **changes):
    return check_entry(risk, what, GOOD, facts(**changes)).code


def test_an_order_is_worth_no_more_than_the_limit():
    """Contracts, price and what a point is worth: 50 USD for the ES, 2 for the MNQ."""
    limit = {"max_order_notional": 2 * 6000.25 * 50}
    assert code(controller(**limit), bracket(quantity=2)) is RiskCode.OK
    assert code(controller(**limit), bracket(quantity=3)) is RiskCode.ORDER_NOTIONAL
    assert code(controller(**limit), bracket(quantity=2, price=6000.5)) is RiskCode.ORDER_NOTIONAL
    assert code(controller(MNQ, **limit), bracket(quantity=50, traded=MNQ)) is RiskCode.OK
    assert code(controller(MNQ, **limit), bracket(quantity=51, traded=MNQ)) is RiskCode.ORDER_NOTIONAL
    denied = check_entry(controller(max_order_notional=1.0), bracket(), GOOD, facts())
    assert str(denied) == "order_notional notional=300012.5 limit=1.0"


@given(st.integers(1, 400), st.integers(20_000, 28_000), st.floats(1e3, 1e8))
def test_whatever_it_is_no_order_above_the_limit_passes(quantity, ticks, limit):
    price = ticks * 0.25
    passed = code(controller(max_order_notional=limit), bracket(quantity=quantity, price=price)) is RiskCode.OK
    assert passed == (quantity * price * 50.0 <= limit)


def test_an_entry_never_meets_an_order_of_our_own():
    for price, own, expected in (
        (6000.25, math.inf, RiskCode.OK),
        (6000.25, 6000.5, RiskCode.OK),
        (6000.25, 6000.25, RiskCode.SELF_MATCH),
        (6000.25, 6000.0, RiskCode.SELF_MATCH),
        (6000.25, math.nan, RiskCode.SELF_MATCH),
    ):
        assert code(controller(), bracket(price=price), own_ask=own) is expected
    for own, expected in ((-math.inf, RiskCode.OK), (5999.75, RiskCode.OK), (6000.0, RiskCode.SELF_MATCH)):
        assert code(controller(), bracket(Side.SELL, price=6000.0), own_bid=own) is expected
    assert code(controller(), bracket(), own_bid=6001.0) is RiskCode.OK  # on its own side it meets nothing


def stop_limit(trigger, limit):
    """Buy once `trigger` trades, up to `limit`."""
    plain = bracket(price=trigger)
    return replace(plain, entry=replace(plain.entry, type=OrderType.STOP_LIMIT, limit_price=limit))


def test_a_stop_limit_counts_by_the_worst_price_it_may_fill_at():
    collar = {"max_price_deviation_ticks": 8}
    for trigger, limit, expected in (
        (6001.0, 6002.25, RiskCode.OK),
        (6001.0, 6002.5, RiskCode.PRICE_COLLAR),
        (6002.5, 6002.25, RiskCode.PRICE_COLLAR),
        (6001.0, 6001.1, RiskCode.ORDER_INVALID),  # between two ticks
        (6001.0, 0.0, RiskCode.ORDER_INVALID),
        (6001.0, math.nan, RiskCode.NOT_FINITE),
    ):
        assert code(controller(**collar), stop_limit(trigger, limit)) is expected
    worth = {"max_order_notional": 6001.0 * 50}
    assert code(controller(**worth), stop_limit(6000.5, 6001.0)) is RiskCode.OK
    assert code(controller(**worth), stop_limit(6000.5, 6001.25)) is RiskCode.ORDER_NOTIONAL
    assert code(controller(), stop_limit(6000.5, 6001.0), own_ask=6001.25) is RiskCode.OK
    assert code(controller(), stop_limit(6000.5, 6001.0), own_ask=6001.0) is RiskCode.SELF_MATCH


def test_an_entry_is_moved_only_to_where_it_could_be_sent():
    risk = controller(max_price_deviation_ticks=8, max_order_notional=6010 * 50.0)
    entry = bracket().entry
    assert risk.check_moved(entry, 6002.25, facts()).allowed
    assert risk.check_moved(entry, 6002.5, facts()).code is RiskCode.PRICE_COLLAR
    assert risk.check_moved(entry, 6000.5, facts(own_ask=6000.5)).code is RiskCode.SELF_MATCH
    far = facts(bid=6020.0, ask=6020.25)
    assert risk.check_moved(entry, 6020.25, far).code is RiskCode.ORDER_NOTIONAL
    assert check_entry(risk, bracket(), GOOD, facts()).allowed  # looking used nothing up


def test_waived_limits_are_the_only_thing_that_lets_nonsense_pass():
    """Even with all limits waived: no price, no finite number, no protection, no order."""
    risk = controller()
    assert code(risk, bracket(quantity=10**6, price=12_000.0), realized_today=-1e12, drawdown=0.99) is RiskCode.OK
    assert code(risk, bracket(name="s"), bid=math.nan) is RiskCode.NO_PRICE
    assert code(risk, bracket(name="s"), realized_today=math.nan) is RiskCode.NOT_FINITE
    assert code(risk, bracket(name="s", price=6000.3)) is RiskCode.ORDER_INVALID
