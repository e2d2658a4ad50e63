"""Opening the books: what an earlier run left goes on as one position under one pair of orders."""

import pytest

from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.clock import EventClock
from mia_daemon.config import Mode
from mia_daemon.records import OrderRole
from mia_daemon.trading.assembly import open_account


def opened(rig, broker, calendar, mode):
    return open_account(
        rig.journal, broker, "again", settings=rig.settings, mode=mode, instrument=rig.instrument, calendar=calendar,
        cash=100_000.0, alert=rig.alerts.append, notices=rig.notices, clock=EventClock(),
    )  # fmt: skip


@pytest.fixture
def carried_on(make_rig, calendar):
    """The books of a run after one that was left with a position of one contract at 100.25."""

    async def open_again():
        rig = make_rig()
        rig.play((1, 100.0))
        assert await rig.executor.reconcile()
        rig.decide("buy", 1)
        rig.play((10, 100.0), (10, 100.0))
        broker = PaperBroker(rig.instrument, "Sim1", rig.settings.broker, "again")
        books = opened(rig, broker, calendar, Mode.PAPER)
        rig.executor = books.executor
        rig.play((10, 100.0))
        assert await books.executor.reconcile()
        return rig, broker

    return open_again


async def test_a_position_left_at_the_paper_broker_keeps_its_one_pair(carried_on):
    rig, broker = await carried_on()
    assert rig.executor.position == 1
    assert {entry.order.role for entry in rig.executor.working} == {OrderRole.STOP, OrderRole.TARGET}
    rig.play((10, 106.25), (10, 106.25))
    assert (rig.executor.position, len(rig.executor.working)) == (0, 0)
    assert list(broker._exchange.orders) == []


async def test_a_trade_that_a_kill_kept_from_being_recorded_is_recorded_at_the_next_start(make_rig, calendar):
    rig = make_rig()
    rig.play((1, 100.0))
    assert await rig.executor.reconcile()
    for decision in (("buy", 1), ("exit", 0)):
        rig.decide(*decision)
        rig.play((10, 100.0), (10, 100.0))
    (trade,) = rig.notices.trades
    rig.journal._db.execute("DELETE FROM trades")
    for mode, known in ((Mode.REPLAY, []), (Mode.PAPER, [trade])):  # a replay begins flat, whatever is there
        books = opened(rig, PaperBroker(rig.instrument, "Sim1", rig.settings.broker, mode.value), calendar, mode)
        assert list(rig.journal.trades()) == known
        assert books.ledger.realized == (trade.profit if known else 0.0)


async def test_the_account_goes_on_from_what_it_was_worth(carried_on):
    _, broker = await carried_on()
    balance = (await broker.request_snapshot(0)).balance
    assert balance.cash == 100_000.0 - 1.0  # commission and fees of one side
