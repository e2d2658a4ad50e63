"""Orders over real TCP against the simulator's DTC server; and messages that no friendly server sends, one by one."""

import pytest
from sierra_session import ES, TICK, Desk, Session, ask, bracket, connected, order

from mia_daemon.brokers import sierra_orders, sierra_startup
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import ConnectionLost, RequestTimeout, StartError
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    BalanceReport,
    Fill,
    JournaledOrder,
    LinkReport,
    LinkState,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
)
from mia_daemon.simulator.client_session import Manners

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def very_impatient(monkeypatch):
    monkeypatch.setattr(sierra_startup, "PATIENCE_S", (0.05, 0.05, 0.05))


async def test_a_bracket_fills_protects_and_is_closed_by_moving_its_target(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit_bracket(bracket(ask(server)))
        assert desk.broker.orders_sent == 3
        await desk.sees("E", OrderStatus.FILLED)
        await desk.sees("S", OrderStatus.WORKING)
        await desk.sees("T", OrderStatus.WORKING)
        await desk.until(lambda: desk.of(PositionReport))
        assert [(fill.client_order_id, fill.side, fill.quantity) for fill in desk.of(Fill)] == [("E", Side.BUY, 1)]
        assert desk.told.index(desk.of(Fill)[0]) < desk.told.index(desk.last("E"))
        desk.broker.replace("T", ask(server) - 20 * TICK, 1)
        await desk.sees("T", OrderStatus.FILLED)
        await desk.sees("S", OrderStatus.CANCELED)
        await desk.until(lambda: desk.of(PositionReport)[-1].quantity == 0)
        assert OrderStatus.REPLACED in desk.statuses("T")
        assert [f.side * f.quantity for f in desk.of(Fill)] == [1, -1]
        assert desk.of(BalanceReport)


async def test_orders_are_counted_where_they_leave_whoever_sends_them(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.link.send(dtc.SubmitNewSingleOrder(ClientOrderID="stray", TradeAccount="Sim1"), dtc.Heartbeat())
        assert desk.broker.orders_sent == 1
        desk.broker.link.send(dtc.SubmitNewOCOOrder(), dtc.SubmitFlattenPositionOrder(), dtc.CancelOrder())
        assert desk.broker.orders_sent == 4


async def test_the_book_of_record_is_one_answer(serving):
    async with serving() as server, connected(server) as desk:
        empty = await desk.broker.request_snapshot(0)
        assert (empty.open_orders, empty.fills, [p.quantity for p in empty.positions]) == ((), (), [])
        desk.broker.submit_bracket(bracket(ask(server)))
        await desk.sees("S", OrderStatus.WORKING)
        book = await desk.broker.request_snapshot(desk.of(Fill)[0].ts_ns - 10**9)
        assert {(o.client_order_id, o.status, o.unsolicited) for o in book.open_orders} == {
            ("S", OrderStatus.WORKING, False),
            ("T", OrderStatus.WORKING, False),
        }
        told = desk.of(Fill)[0]
        assert [(f.execution_id, f.client_order_id, f.price) for f in book.fills] == [
            (told.execution_id, "E", told.price)
        ]
        assert [p.quantity for p in book.positions] == [1]
        assert book.balance.account == "Sim1"


async def test_a_cancel_waits_for_the_servers_number(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit_bracket(bracket(ask(server), away=100))
        desk.broker.cancel("E")
        await desk.sees("E", OrderStatus.CANCELED)
        await desk.sees("S", OrderStatus.CANCELED)
        assert (await desk.broker.request_snapshot(0)).open_orders == ()


async def test_an_order_renamed_by_a_replace_can_still_be_cancelled(serving):
    async with serving(new_order_id_on_replace=True) as server, connected(server) as desk:
        price = ask(server) - 100 * TICK
        desk.broker.submit(order("E", Side.BUY, price))
        await desk.sees("E", OrderStatus.WORKING)
        before = desk.last("E").server_order_id
        desk.broker.replace("E", price - TICK, 1)
        await desk.sees("E", OrderStatus.REPLACED)
        assert (desk.last("E").server_order_id != before, desk.last("E").price) == (True, price - TICK)
        desk.broker.cancel("E")
        await desk.sees("E", OrderStatus.CANCELED)


async def test_a_rejected_replace_leaves_the_order_alive(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit(order("E", Side.BUY, ask(server) - 100 * TICK))
        await desk.sees("E", OrderStatus.WORKING)
        desk.broker.replace("E", 1.1, 1)
        await desk.sees("E", OrderStatus.REPLACE_REJECTED)
        assert [o.status for o in (await desk.broker.request_snapshot(0)).open_orders] == [OrderStatus.WORKING]


async def test_nonsense_is_rejected_by_the_server_with_its_reason(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit(order("E", Side.BUY, 1.1))
        await desk.sees("E", OrderStatus.REJECTED)
        assert "tick size" in desk.last("E").text


async def test_flatten_closes_the_position_under_its_own_name(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit_bracket(bracket(ask(server), quantity=2))
        await desk.sees("E", OrderStatus.FILLED)
        desk.broker.flatten(order("X", Side.SELL, 0.0, OrderType.MARKET, OrderRole.EXIT, 2))
        await desk.sees("X", OrderStatus.FILLED)
        assert sum(f.quantity for f in desk.of(Fill) if f.client_order_id == "X") == 2
        assert (await desk.broker.request_snapshot(0)).positions == ()


async def test_a_lost_link_is_told_and_what_could_not_leave_is_refused(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit_bracket(bracket(ask(server), away=100))
        await desk.sees("S", OrderStatus.ACCEPTED)
        for connection in list(server._connections):
            connection.transport.abort()
        await desk.until(lambda: desk.of(LinkReport)[-1].state is LinkState.DOWN)
        sent = desk.broker.orders_sent
        desk.broker.submit(order("late", Side.BUY, 100.0))
        desk.broker.cancel("E")
        desk.broker.cancel("unheard")
        assert desk.last("late").status is OrderStatus.REJECTED
        assert "not sent" in desk.last("late").text
        assert desk.last("E").status is OrderStatus.CANCEL_REJECTED
        assert desk.last("unheard").status is OrderStatus.CANCEL_REJECTED
        assert desk.broker.orders_sent == sent
        with pytest.raises(ConnectionLost):
            await desk.broker.request_snapshot(0)
        await desk.until(lambda: desk.of(LinkReport)[-1].state is LinkState.UP)
        assert len((await desk.broker.request_snapshot(0)).open_orders) == 3
        desk.broker.cancel("E")
        await desk.sees("E", OrderStatus.CANCELED)


async def test_orders_of_an_earlier_run_can_be_cancelled_once_known(serving):
    async with serving() as server:
        async with connected(server) as first:
            first.broker.submit(order("old", Side.BUY, ask(server) - 100 * TICK))
            await first.sees("old", OrderStatus.WORKING)
            number = first.last("old").server_order_id
        async with connected(server) as second:
            old = order("old", Side.BUY, 1.0)
            second.broker.restore([JournaledOrder(old, 0, None, number, 1, 1.0, 0, 0, frozenset())], 0, 0.0, 0.0)
            second.broker.cancel("old")
            await second.sees("old", OrderStatus.CANCELED)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"account": "U123"}, r"trade account U123 does not exist .*there: Sim1"),
        ({"symbol": instrument("MNQZ26_FUT_CME")}, r"MNQZ26_FUT_CME"),  # neither of the two markets there
    ],
)
async def test_what_does_not_fit_is_refused_at_the_start(serving, more, says):
    async with serving() as server:
        with pytest.raises(StartError, match=says):
            await Desk(server.port, **more).broker.connect()


async def test_a_server_that_is_not_there_is_tried_three_times(unused_tcp_port, very_impatient):
    desk = Desk(unused_tcp_port)
    with pytest.raises(StartError, match="nothing listens at"):
        await desk.broker.connect()


async def test_a_refused_logon_ends_the_attempt(serving):
    async with serving(Manners(username="somebody", password="secret")) as server:
        with pytest.raises(StartError, match="orders can't be sent"):
            await Desk(server.port).broker.connect()


# Messages one by one.


@pytest.fixture
async def alone():
    desk = Desk(1)
    desk.asked = []

    async def answer(request):
        desk.asked.append(request)
        return desk.answers.pop(0)

    desk.answers = []
    desk.broker._ask = answer
    return desk


def said(name="E", status=4, reason=3, **more):
    fields = {"ServerOrderID": "S1", "OrderQuantity": 2.0, "FilledQuantity": 0.0, "Price1": 100.0, "BuySell": 1}
    fields |= {"OrderType": 2, "LatestTransactionDateTime": 1.0, "Symbol": ES.symbol, "TradeAccount": "Sim1"}
    return dtc.OrderUpdate(ClientOrderID=name, OrderStatus=status, OrderUpdateReason=reason, **(fields | more))


def hear(desk, *messages):
    desk.broker._on_messages(list(messages), 0)


@pytest.mark.parametrize(
    ("status", "reason", "more", "means"),
    [
        (1, 3, {}, OrderStatus.ACCEPTED),
        (2, 2, {}, OrderStatus.ACCEPTED),
        (3, 3, {}, OrderStatus.ACCEPTED),
        (4, 2, {}, OrderStatus.WORKING),
        (4, 3, {"FilledQuantity": 1.0}, OrderStatus.PARTIAL),
        (4, 7, {}, OrderStatus.REPLACED),
        (10, 5, {"FilledQuantity": 1.0}, OrderStatus.PARTIAL),
        (7, 4, {"FilledQuantity": 2.0}, OrderStatus.FILLED),
        (8, 6, {}, OrderStatus.CANCELED),
        (9, 8, {}, OrderStatus.REJECTED),
        (9, 9, {}, OrderStatus.CANCEL_REJECTED),
        (4, 9, {}, OrderStatus.CANCEL_REJECTED),
        (9, 10, {}, OrderStatus.REPLACE_REJECTED),
        (0, 10, {}, OrderStatus.REPLACE_REJECTED),
    ],
)
async def test_status_and_reason_together_say_what_became_of_an_order(alone, status, reason, more, means):
    alone.answers = [[]]
    hear(alone, said(status=status, reason=reason, **more))
    assert alone.statuses("E") == [means]


@pytest.mark.parametrize("status", [5, 6, 0, 99])
async def test_a_change_under_way_says_nothing_new(alone, status):
    hear(alone, said(status=status))
    assert alone.told == []


async def test_orders_of_other_symbols_and_accounts_are_not_heard(alone):
    hear(alone, said(Symbol="NQZ26_FUT_CME"), said(TradeAccount="Sim2"), dtc.PositionUpdate(Symbol="CL"))
    assert alone.told == []


async def test_an_execution_told_twice_is_told_on_once(alone):
    fill = {"FilledQuantity": 1.0, "LastFillQuantity": 1.0, "LastFillPrice": 99.75, "LastFillExecutionID": "x1"}
    hear(alone, said(status=10, reason=5, **fill), said(status=10, reason=5, **fill))
    assert [(f.execution_id, f.quantity, f.price) for f in alone.of(Fill)] == [("x1", 1, 99.75)]
    assert len(alone.statuses("E")) == 2


async def test_an_execution_without_a_name_is_asked_for(alone):
    named = dtc.HistoricalOrderFillResponse(
        Symbol=ES.symbol, TradeAccount="Sim1", ServerOrderID="S1", BuySell=1, Price=99.75, Quantity=2.0,
        UniqueExecutionID="x7", DateTime=1,
    )  # fmt: skip
    alone.answers = [[named]]
    hear(alone, said(status=7, reason=4, FilledQuantity=2.0, LastFillQuantity=2.0, LastFillPrice=99.75))
    assert alone.of(Fill) == []
    await alone.until(lambda: alone.of(Fill))
    assert [(f.execution_id, f.client_order_id) for f in alone.of(Fill)] == [("x7", "E")]
    hear(alone, said(status=7, reason=4, FilledQuantity=2.0))
    assert len(alone.asked) == 1


@pytest.mark.parametrize("missing", [{"BuySell": 0}, {"BuySell": 7}, {"Quantity": 0.0}, {"Price": dtc.UNSET_F64}])
async def test_a_past_execution_that_is_not_whole_is_never_guessed(alone, missing):
    whole = {"Symbol": ES.symbol, "TradeAccount": "Sim1", "ServerOrderID": "S1", "UniqueExecutionID": "x7"}
    whole |= {"BuySell": 2, "Price": 99.75, "Quantity": 2.0}
    alone.answers = [[dtc.HistoricalOrderFillResponse(**{**whole, **missing})]]
    assert await alone.broker._ask_fills(0) == []


async def test_prices_are_scaled_both_ways(alone):
    broker = alone.broker
    broker._mapper.multiplier = 100.0
    sent = []
    broker.link.send = lambda *messages: sent.extend(messages)
    broker.submit(order("E", Side.BUY, 10_000.0))
    assert sent[0].Price1 == 100.0
    hear(alone, said(Price1=100.0, LastFillQuantity=1.0, LastFillPrice=100.25, LastFillExecutionID="x"))
    assert (alone.last("E").price, alone.of(Fill)[0].price) == (10_000.0, 10_025.0)


async def test_what_the_server_left_unset_is_nothing(alone):
    hear(alone, said(Price1=dtc.UNSET_F64, OrderQuantity=dtc.UNSET_F64, FilledQuantity=dtc.UNSET_F64))
    assert (alone.last("E").price, alone.last("E").quantity, alone.last("E").filled) == (0.0, 0, 0)


async def test_queries_are_repeated_and_orders_never(alone):
    broker, tries = alone.broker, []
    del broker._ask

    async def request(message):
        tries.append(message)
        raise RequestTimeout("no answer")

    broker.link.request = request
    with pytest.raises(RequestTimeout):
        await broker.request_snapshot(0)
    assert len(tries) == 3

    def send(*messages):
        tries.append(messages)
        raise ConnectionLost("down")

    broker.link.send = send
    broker.submit(order("E", Side.BUY, 100.0))
    assert len(tries) == 4


async def test_server_numbers_are_forgotten_in_the_end(alone, monkeypatch):
    monkeypatch.setattr(sierra_orders, "KEPT_ORDERS", 4)
    for number in range(20):
        hear(alone, said(f"E{number}", ServerOrderID=f"S{number}"))
    assert len(alone.broker._orders._client_ids) <= 8
    assert alone.broker._orders.server_id("E19") == "S19"


# The executor on top of it.


async def test_a_round_trip_of_the_executor_at_the_simulator(make_rig, serving):
    async with serving() as server:
        session = Session(make_rig, server)
        await session.ready()
        rig = session.rig
        assert rig.decide("buy", 1).allowed
        await session.until(lambda: rig.orders.protection(Side.SELL) == 1)
        rig.decide("exit", 0, "faded")
        await session.until(lambda: rig.notices.trades and rig.executor.settled and not len(rig.orders))
        assert [trade.exit_reason for trade in rig.notices.trades] == ["faded"]
        assert server.exchange.account.position == 0
        assert [alert.code for alert in rig.alerts] == []
        await session.desk.broker.close()


async def test_a_link_lost_in_mid_trade_leaves_nothing_unknown(make_rig, serving):
    async with serving() as server:
        session = Session(make_rig, server)
        await session.ready()
        rig = session.rig
        rig.decide("buy", 2)
        for connection in list(server._connections):
            connection.transport.abort()
        await session.until(lambda: "link_down" in rig.alert_codes)
        await session.until(lambda: rig.sync.reconciled)
        assert rig.position == server.exchange.account.position
        assert rig.orders.unknown() == []
        rig.operator.stop(flatten=True)
        await session.until(lambda: rig.executor.settled)
        assert server.exchange.account.position == 0
        received = [one.client_id for one in server.exchange.desk.orders.values()]
        assert len(received) == len(set(received))
        await session.desk.broker.close()


async def test_a_restart_carries_on_with_position_and_protection(make_rig, serving):
    async with serving() as server:
        first = Session(make_rig, server)
        await first.ready()
        first.rig.decide("buy", 1)
        await first.until(lambda: first.rig.orders.protection(Side.SELL) == 1)
        await first.desk.broker.close()

        second = Session(make_rig, server)
        rig = second.rig
        assert rig.position == 1
        assert len(rig.orders.unknown()) == 2
        await second.ready()
        assert rig.orders.protection(Side.SELL) == 1
        rig.operator.flatten("operator")
        await second.until(lambda: rig.executor.settled and not len(rig.orders))
        assert server.exchange.account.position == 0
        assert [trade.exit_reason for trade in rig.notices.trades] == ["operator"]
        await second.desk.broker.close()
