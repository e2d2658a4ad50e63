"""Money is neither made nor lost in the books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.products.instruments import instrument
from mia_daemon.simulator.account import Account

ES = instrument("ESZ26_FUT_CME")
FILLS = st.lists(st.tuples(st.sampled_from([1, -1]), st.integers(1, 9), st.integers(23_900, 24_100)), max_size=40)


@given(FILLS, st.integers(23_900, 24_100))
def test_cash_and_open_profit_are_what_was_paid_and_what_is_held(fills, mark):
    account = Account("Sim1", 100_000.0)
    for n, (side, quantity, price) in enumerate(fills, 1):
        account.fill(n, side, quantity, price, ES)
    position = sum(side * quantity for side, quantity, _ in fills)
    paid = sum(side * quantity * price for side, quantity, price in fills)
    fees = sum(quantity for _, quantity, _ in fills) * ES.cost_per_side
    held = account.position(ES.symbol)
    assert held.quantity == position
    assert account.fees == pytest.approx(fees)
    worth = 100_000.0 + (position * mark - paid) * ES.tick_value - fees
    assert account.cash + held.unrealized(mark, ES) == pytest.approx(worth)
    assert (held.average == 0.0) == (held.opened_ns == 0) == (position == 0)


def test_a_reversal_closes_at_the_average_and_opens_at_the_price():
    account = Account("Sim1", 0.0)
    for n, (side, quantity, price) in enumerate([(1, 1, 100), (1, 1, 110), (-1, 3, 120)], 1):
        account.fill(n, side, quantity, price, ES)
    held = account.position(ES.symbol)
    assert (held.quantity, held.average, held.opened_ns) == (-1, 120, 3)
    assert account.realized_today == 2 * 15 * ES.tick_value
