"""Fills into the books: what asked for them is kept for the last orders, and what they cost is judged."""

import math

import pytest

from mia_daemon.errors import JournalError
from mia_daemon.execution.accounting import KEPT_ORIGINS
from mia_daemon.records import EXTERNAL, Fill, Order, OrderRole, OrderType, Side
from mia_daemon.risk.codes import RiskCode

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


def flatten_filled(rig, price):
    """The server's flatten, an order without a price, is filled."""
    order = Order("K1", SYMBOL, ACCOUNT, Side.BUY, 1, OrderType.MARKET, OrderRole.EXIT, "")
    entry = rig.orders.add(order)
    rig.orders.sent(entry, rig.ts_ns)
    rig.executor.on_broker_event(Fill(rig.ts_ns, "x1", "K1", "S1", SYMBOL, ACCOUNT, Side.BUY, 1, price))


@pytest.mark.parametrize(("price", "latched"), [(100.75, False), (101.0, True)])
def test_an_order_without_a_price_is_judged_by_the_touch(make_rig, price, latched):
    rig = make_rig(settings={"risk": {"max_fill_slippage_ticks": 2}})
    rig.play((1, 100.0))  # asked at 100.25
    flatten_filled(rig, price)
    assert [latch.code for latch in rig.risk.latches] == [RiskCode.SLIPPAGE] * latched


def test_where_there_is_neither_a_price_nor_a_touch_nothing_is_judged(make_rig):
    rig = make_rig(settings={"risk": {"max_fill_slippage_ticks": 2}})
    flatten_filled(rig, 500.0)
    assert (rig.risk.latches, rig.position) == ((), 1)


def test_what_asked_for_the_last_orders_is_kept(make_rig):
    rig = make_rig()
    for n in range(KEPT_ORIGINS + 2):
        rig.state.origins[f"d{n}"] = EXTERNAL
    rig.actors.accounting.forget_origins()
    assert list(rig.state.origins) == [f"d{n}" for n in range(2, KEPT_ORIGINS + 2)]


async def test_an_execution_that_cannot_be_looked_up_counts_as_news_and_halts(rig, monkeypatch):
    """It would be missed otherwise; booked twice it can't be, since the journal refuses that."""
    fill = Fill(rig.ts_ns, "x1", "", "S1", SYMBOL, ACCOUNT, Side.BUY, 1, 100.0)

    def fail(_execution_id):
        raise JournalError("the disk fails")

    assert not rig.actors.accounting.is_recorded(fill)
    rig.journal.record_fill(fill)
    assert rig.actors.accounting.is_recorded(fill)
    monkeypatch.setattr(rig.journal, "has_fill", fail)
    assert not rig.actors.accounting.is_recorded(fill)
    rig.executor.act()
    assert [latch.code for latch in rig.risk.latches] == [RiskCode.HALTED]


def test_without_a_touch_the_account_is_worth_what_it_was(make_rig):
    rig = make_rig()
    rig.actors.accounting.apply_external_fill(Fill(1, "x1", "", "", SYMBOL, ACCOUNT, Side.BUY, 1, 100.0), "drift")
    rig.executor.on_market(rig.quotes((1, math.nan, math.nan)))
    state = rig.actors.accounting.account_state(1, rig.ts_ns)
    assert (state.unrealized, state.position, state.average_price) == (0.0, 1, 100.0)
