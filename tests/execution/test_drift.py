"""A position at the server that is not ours: what is booked for the difference, at which price, and what is told."""

import math

import pytest

from mia_daemon.errors import ConnectionLost
from mia_daemon.execution.reconciler import FILLS_SLACK_NS
from mia_daemon.records import BrokerSnapshot, Fill, FillSource, PositionReport, Priority, Side
from mia_daemon.risk.codes import RiskCode

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


@pytest.fixture
def server(monkeypatch):
    """`server(rig, position, average, fills)`: its books from now on, without open orders."""

    def answer(rig, position, average=math.nan, fills=()):
        async def request_snapshot(since_ns):
            rig.asked_since_ns = since_ns
            held = (PositionReport(rig.ts_ns, SYMBOL, ACCOUNT, position, average, False),) if position else ()
            return BrokerSnapshot(rig.ts_ns, (), tuple(fills), held, None)

        monkeypatch.setattr(rig.broker, "request_snapshot", request_snapshot)

    return answer


def execution(rig, name, side, quantity, price):
    return Fill(rig.ts_ns, name, "", "H1", SYMBOL, ACCOUNT, side, quantity, price)


async def seen_twice(rig):
    for _ in range(2):
        await rig.reconcile()


def booked(rig):
    return [one.fill for one in rig.journal.recover(SYMBOL, ACCOUNT, 0).account.fills]


def own(rig, side, quantity, price):
    """A position of ours, however it came about."""
    rig.actors.accounting.apply_external_fill(execution(rig, "own", side, quantity, price), "drift")


@pytest.mark.parametrize("position", [2, -2])
async def test_a_position_out_of_nothing_is_booked_at_the_servers_average_price(rig, server, position):
    server(rig, position, 99.6)
    await seen_twice(rig)
    (fill,) = booked(rig)
    side = Side.BUY if position > 0 else Side.SELL
    assert fill == Fill(
        ts_ns=rig.ts_ns,
        execution_id=f"drift-{rig.run_id}-{rig.ts_ns}",
        client_order_id="",
        server_order_id="",
        symbol=SYMBOL,
        account=ACCOUNT,
        side=side,
        quantity=2,
        price=99.5,  # on the grid
        source=FillSource.EXTERNAL,
    )
    assert rig.position == position


@pytest.mark.parametrize(("position", "price"), [(1, 100.25), (-1, 100.0)])
@pytest.mark.parametrize("average", [math.nan, 0.0, -1.0])
async def test_without_an_average_price_it_is_booked_where_it_could_be_had_now(rig, server, position, price, average):
    server(rig, position, average)
    await seen_twice(rig)
    assert [fill.price for fill in booked(rig)] == [price]


@pytest.mark.parametrize(
    ("ours", "theirs", "price"), [(2, 3, 100.25), (2, 1, 100.0), (-2, -3, 100.0), (-1, 0, 100.25), (1, -2, 100.0)]
)
async def test_beside_a_position_of_ours_the_difference_is_booked_at_the_touch(rig, server, ours, theirs, price):
    """The server's average is of our own contracts too."""
    own(rig, Side.BUY if ours > 0 else Side.SELL, abs(ours), 90.0)
    server(rig, theirs, 95.0)
    await seen_twice(rig)
    last = booked(rig)[-1]
    assert (last.side * last.quantity, last.price) == (theirs - ours, price)
    assert rig.position == theirs


async def test_what_was_closed_while_there_is_no_price_is_booked_without_a_result(make_rig, server):
    rig = make_rig()
    own(rig, Side.BUY, 1, 90.0)
    server(rig, 0)
    await seen_twice(rig)
    (trade,) = rig.notices.trades
    assert (trade.gross, trade.exit_price, trade.exit_reason) == (0.0, 90.0, "drift")


async def test_executions_that_do_not_explain_the_difference_are_not_booked(rig, server):
    server(rig, 3, 99.0, [execution(rig, "h1", Side.BUY, 2, 98.0)])
    await seen_twice(rig)
    assert [(fill.quantity, fill.price) for fill in booked(rig)] == [(3, 99.0)]


async def test_executions_that_cancel_out_are_not_booked(rig, server):
    fills = [execution(rig, "h1", Side.BUY, 1, 98.0), execution(rig, "h2", Side.SELL, 1, 99.0)]
    server(rig, 0, fills=fills)
    await seen_twice(rig)
    assert booked(rig) == []


async def test_a_trip_that_executions_of_others_closed_says_so(rig, server):
    own(rig, Side.BUY, 1, 100.0)
    server(rig, 0, fills=[execution(rig, "h1", Side.SELL, 1, 101.0)])
    await seen_twice(rig)
    (trade,) = rig.notices.trades
    assert (trade.exit_price, trade.exit_reason) == (101.0, "drift")


@pytest.mark.parametrize(
    ("adopt", "says"),
    [(True, "ours was +1: the server's was taken over"), (False, "ours is +1: trading is halted; compare, then close")],
)
async def test_a_difference_is_told_with_both_positions(make_rig, server, adopt, says):
    rig = make_rig(adopt_drift=adopt)
    rig.play((1, 100.0))
    own(rig, Side.BUY, 1, 100.0)
    server(rig, -2)
    await rig.reconcile()
    assert "position_drift" not in rig.alert_codes
    await rig.reconcile()
    (alert,) = [alert for alert in rig.alerts if alert.priority is Priority.URGENT]
    assert (alert.code, alert.context) == ("position_drift", {"server": -2, "ours": 1})
    assert alert.text.startswith(f"the server's position is -2, {says}")
    halts = [latch.context for latch in rig.risk.latches]
    assert halts == ([] if adopt else [{"by": "position_drift"}])


async def test_a_difference_that_changes_between_two_looks_is_looked_at_again(rig, server):
    for position in (1, 2, 1):
        server(rig, position)
        await rig.reconcile()
    assert (rig.position, booked(rig)) == (0, [])
    await rig.reconcile()
    assert rig.position == 1


async def test_live_takes_over_a_position_only_when_told(make_rig, server):
    """It may be of somebody's own trading, or of a fill that is still on its way: a person says what it is."""
    rig = make_rig(adopt_drift=False)
    rig.play((1, 100.0))
    server(rig, 0)
    await rig.reconcile()
    server(rig, 2, 99.5)
    for _ in range(5):
        await rig.reconcile()
    assert (rig.position, booked(rig)) == (0, [])
    assert [latch.code for latch in rig.risk.latches] == [RiskCode.POSITION_DRIFT]
    assert [alert.code for alert in rig.alerts if alert.priority is Priority.URGENT] == ["position_drift"]
    assert rig.decide("buy", 1).code is RiskCode.POSITION_DRIFT
    assert rig.operator.resume("uid 7") == ()  # only by its name
    await seen_twice(rig)
    assert rig.position == 0

    assert rig.operator.resume("uid 7", RiskCode.POSITION_DRIFT) == (RiskCode.POSITION_DRIFT,)
    await rig.reconcile()
    assert rig.position == 0  # seen once
    await rig.reconcile()
    assert (rig.position, [fill.price for fill in booked(rig)]) == (2, [99.5])
    server(rig, 3, 99.5)  # what is told once is not told for ever
    await seen_twice(rig)
    assert rig.position == 2
    assert [latch.code for latch in rig.risk.latches] == [RiskCode.POSITION_DRIFT]


async def test_live_goes_on_once_the_difference_is_closed_at_the_server(make_rig, server):
    rig = make_rig(adopt_drift=False)
    rig.play((1, 100.0))
    server(rig, 2, 99.5)
    await seen_twice(rig)
    server(rig, 0)
    assert await rig.reconcile()
    assert rig.decide("buy", 1).code is RiskCode.POSITION_DRIFT
    rig.operator.resume("uid 7", RiskCode.POSITION_DRIFT)
    assert await rig.reconcile()
    assert (rig.position, booked(rig)) == (0, [])
    assert rig.decide("buy", 1).allowed


async def test_a_server_that_does_not_answer_is_told_and_asked_again(rig, monkeypatch):
    async def fail(_since_ns):
        raise ConnectionLost("the line is dead")

    monkeypatch.setattr(rig.broker, "request_snapshot", fail)
    rig.sync.query_reason = "an order was not answered"
    assert not await rig.reconcile()
    assert not rig.executor.reconcile_due  # not as fast as it can refuse
    rig.play((250, 100.0))
    assert rig.executor.reconcile_due
    (alert,) = rig.alerts
    assert (alert.code, alert.priority) == ("reconcile_failed", Priority.ERROR)
    assert alert.text == "no complete snapshot from the server (the line is dead): it is requested again"
    assert alert.context == {"why": "an order was not answered"}
    assert rig.sync.query_reason == "an order was not answered"
    rig.sync.query_reason = ""
    await rig.reconcile()
    assert rig.sync.query_reason == "the last question had no answer"


async def test_fills_are_asked_for_from_a_little_before_the_oldest_that_can_be_missing(rig, server):
    server(rig, 0)
    await rig.reconcile()
    assert rig.asked_since_ns == rig.ts_ns - FILLS_SLACK_NS
    rig.state.last_fill_ns = rig.ts_ns - 60 * 10**9
    await rig.reconcile()
    assert rig.asked_since_ns == rig.ts_ns - 60 * 10**9 - FILLS_SLACK_NS
    rig.state.last_fill_ns = 1
    await rig.reconcile()
    assert rig.asked_since_ns == 0
