"""Orders stay away from the market, whatever the server makes of their prices."""

from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.probe.orders import ProbeOrders
from mia_daemon.products.instruments import instrument
from mia_daemon.records import OrderType, Side

prices = st.integers(4_000, 120_000).map(lambda ticks: ticks * 0.25)
multipliers = st.sampled_from([0.0001, 0.01, 0.25, 1.0, 10.0, 100.0])


def would_trade(order, market, told):
    """A buy limit or sell stop at or above the market's price trades, a sell limit or buy stop at or below it."""
    trades_above = (order.type is OrderType.LIMIT) == (order.side is Side.BUY)
    return told >= market if trades_above else told <= market


@given(price=prices, multiplier=multipliers, scales=st.booleans())
def test_no_order_trades_whether_the_server_scales_or_not(price, multiplier, scales):
    orders = ProbeOrders(instrument("ESZ26_FUT_CME"), "Sim1", "P1-", price, multiplier)
    pair = orders.pair()
    for order in (orders.limit(), pair.stop, pair.target, orders.bracket().entry):
        told = order.price if scales else order.price / multiplier
        assert not would_trade(order, price, told)
        assert order.quantity == 1


@given(price=prices, multiplier=multipliers)
def test_a_moved_order_is_a_tick_further_away(price, multiplier):
    orders = ProbeOrders(instrument("ESZ26_FUT_CME"), "Sim1", "P1-", price, multiplier)
    order = orders.limit()
    assert abs(orders.moved(order) - price) == abs(order.price - price) + 0.25


def test_names_are_unique():
    orders = ProbeOrders(instrument("ESZ26_FUT_CME"), "Sim1", "P1-", 6000.0, 1.0)
    names = [orders.limit().client_order_id for _ in range(3)]
    bracket = orders.bracket()
    names += [order.client_order_id for order in (bracket.entry, bracket.stop, bracket.target)]
    assert len(set(names)) == 6
    assert all(name.startswith("P1-") for name in names)
