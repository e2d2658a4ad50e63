"""Opening the account: what an earlier run left goes on as one position under one pair of orders."""

import pytest

from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.clock import EventClock
from mia_daemon.config import Mode
from mia_daemon.daemon.broker_tasks import reconcile
from mia_daemon.execution.ports import TradeScope
from mia_daemon.records import LinkReport, LinkState, OrderRole
from mia_daemon.trading.assembly import FLAT, AccountSetup, EventTime, beginning, open_account


def opened(rig, broker, calendar, mode):
    setup = AccountSetup(
        settings=rig.settings,
        scope=TradeScope("again", rig.instrument, "Sim1"),
        journal=rig.journal,
        broker=broker,
        calendar=calendar,
        clock=EventClock(),
        listener=rig.notices,
        alert=rig.alerts.append,
    )
    begun = FLAT if mode is Mode.REPLAY else beginning(rig.journal, setup.scope, calendar)
    return open_account(setup, rig.decides, begun, cash=100_000.0, time=EventTime(mode))


@pytest.fixture
def carried_on(make_rig, calendar):
    """The account of a run after one that was left with a position of one contract at 100.25."""

    async def open_again():
        rig = make_rig()
        rig.play((1, 100.0))
        assert await rig.reconcile()
        rig.decide("buy", 1)
        rig.play((10, 100.0), (10, 100.0))
        broker = PaperBroker(rig.instrument, "Sim1", rig.settings.broker, "again")
        account = opened(rig, broker, calendar, Mode.PAPER)
        rig.executor, rig.state = account.executor, account.state
        rig.play((10, 100.0))
        assert await reconcile(account)
        return rig, broker

    return open_again


async def test_a_position_left_at_the_paper_broker_keeps_its_one_pair(carried_on):
    rig, broker = await carried_on()
    assert rig.state.ledger.position == 1
    assert {entry.order.role for entry in rig.state.orders} == {OrderRole.STOP, OrderRole.TARGET}
    rig.play((10, 106.25), (10, 106.25))
    assert (rig.state.ledger.position, len(rig.state.orders)) == (0, 0)
    assert list(broker._exchange.orders) == []


async def test_a_trade_that_a_kill_kept_from_being_recorded_is_recorded_at_the_next_start(make_rig, calendar):
    rig = make_rig()
    rig.play((1, 100.0))
    assert await rig.reconcile()
    for decision in (("buy", 1), ("exit", 0)):
        rig.decide(*decision)
        rig.play((10, 100.0), (10, 100.0))
    (trade,) = rig.notices.trades
    rig.journal._db.execute("DELETE FROM trades")
    for mode, known in ((Mode.REPLAY, []), (Mode.PAPER, [trade])):  # a replay begins flat, whatever is there
        account = opened(rig, PaperBroker(rig.instrument, "Sim1", rig.settings.broker, mode.value), calendar, mode)
        assert list(rig.journal.trades()) == known
        assert account.state.ledger.realized == (trade.profit if known else 0.0)


async def test_the_account_goes_on_from_what_it_was_worth(carried_on):
    _, broker = await carried_on()
    balance = (await broker.request_snapshot(0)).balance
    assert balance.cash == 100_000.0 - 1.0  # commission and fees of one side


def test_an_alert_before_the_first_event_has_the_clocks_time_and_not_that_of_an_earlier_run(make_rig):
    now_ns = 1_795_600_000 * 10**9
    rig = make_rig(clock=EventClock(now_ns))
    rig.market.now_ns = 5  # the last event of an earlier run
    rig.executor.on_broker_event(LinkReport(0, LinkState.DOWN, "reset"))
    assert [(alert.code, alert.ts_ns) for alert in rig.alerts] == [("link_down", now_ns)]
    rig.play((1, 100.0))
    rig.executor.on_broker_event(LinkReport(0, LinkState.DOWN, "reset"))
    assert rig.alerts[-1].ts_ns == rig.ts_ns
