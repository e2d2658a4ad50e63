"""Orders over real TCP against the simulator's DTC server; and messages that no friendly server sends, one by one."""

import asyncio
from dataclasses import replace

import pytest
from sierra_session import ES, TICK, Desk, Session, ask, bracket, connected, order, scope_of

from mia_daemon.brokers import sierra_startup
from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import ConnectionLost, RequestRefused, RequestTimeout, ServerDenied, StartError
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    BalanceReport,
    BrokerTrouble,
    FillSource,
    LinkReport,
    LinkState,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Priority,
    Side,
)
from mia_daemon.risk.codes import RiskCode
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
        assert [(fill.client_order_id, fill.side, fill.quantity) for fill in desk.fills] == [("E", Side.BUY, 1)]
        assert [report.fill.quantity for report in desk.of(OrderReport) if report.fill] == [
            1
        ]  # with its order's update
        desk.replace("T", ask(server) - 20 * TICK)
        await desk.sees("T", OrderStatus.FILLED)
        await desk.sees("S", OrderStatus.CANCELED)
        await desk.until(lambda: desk.of(PositionReport)[-1].quantity == 0)
        assert OrderStatus.REPLACED in desk.statuses("T")
        assert [f.side * f.quantity for f in desk.fills] == [1, -1]
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
        book = await desk.broker.request_snapshot(desk.fills[0].ts_ns - 10**9)
        assert {(o.client_order_id, o.status, o.unsolicited) for o in book.open_orders} == {
            ("S", OrderStatus.WORKING, False),
            ("T", OrderStatus.WORKING, False),
        }
        told = desk.fills[0]
        assert [(f.execution_id, f.server_order_id, f.price, f.source) for f in book.fills] == [
            (told.execution_id, told.server_order_id, told.price, FillSource.HISTORY)
        ]
        assert [p.quantity for p in book.positions] == [1]
        assert book.balance.account == "Sim1"


async def test_an_order_renamed_by_a_replace_can_still_be_cancelled(serving):
    async with serving(new_order_id_on_replace=True) as server, connected(server) as desk:
        price = ask(server) - 100 * TICK
        desk.broker.submit(order("E", Side.BUY, price))
        await desk.sees("E", OrderStatus.WORKING)
        before = desk.last("E").server_order_id
        desk.replace("E", price - TICK)
        await desk.sees("E", OrderStatus.REPLACED)
        assert (desk.last("E").server_order_id != before, desk.last("E").price) == (True, price - TICK)
        desk.cancel("E")
        await desk.sees("E", OrderStatus.CANCELED)


async def test_a_rejected_replace_leaves_the_order_alive(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit(order("E", Side.BUY, ask(server) - 100 * TICK))
        await desk.sees("E", OrderStatus.WORKING)
        desk.replace("E", 1.1)
        await desk.sees("E", OrderStatus.REPLACE_REJECTED)
        assert [o.status for o in (await desk.broker.request_snapshot(0)).open_orders] == [OrderStatus.WORKING]


@pytest.mark.parametrize("number", ["", "777", "that of another order"])
async def test_a_request_that_the_server_answers_with_status_9_is_refused_and_the_order_lives(serving, number):
    async with serving() as server, connected(server) as desk:
        for name in ("E", "other"):
            desk.broker.submit(order(name, Side.BUY, ask(server) - 100 * TICK))
            await desk.sees(name, OrderStatus.WORKING)
        number = desk.last("other").server_order_id if " " in number else number
        desk.broker.cancel("E", number)
        desk.broker.replace("E", number, ask(server) - 101 * TICK, 1)
        about = "other" if number == desk.last("other").server_order_id else "E"
        await desk.sees(about, OrderStatus.CANCEL_REJECTED)
        await desk.sees(about, OrderStatus.REPLACE_REJECTED)
        assert OrderStatus.REJECTED not in desk.statuses("E") + desk.statuses("other")
        listed = (await desk.broker.request_snapshot(0)).open_orders
        assert [(one.client_order_id, one.status) for one in listed] == [
            ("E", OrderStatus.WORKING),
            ("other", OrderStatus.WORKING),
        ]


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
        assert sum(f.quantity for f in desk.fills if f.client_order_id == "X") == 2
        assert (await desk.broker.request_snapshot(0)).positions == ()


async def test_a_lost_link_is_told_and_what_could_not_leave_is_refused(serving):
    async with serving() as server, connected(server) as desk:
        desk.broker.submit_bracket(bracket(ask(server), away=100))
        await desk.sees("S", OrderStatus.HELD)
        for connection in list(server._connections):
            connection.transport.abort()
        await desk.until(lambda: desk.of(LinkReport)[-1].state is LinkState.DOWN)
        sent = desk.broker.orders_sent
        desk.broker.submit(order("late", Side.BUY, 100.0))
        desk.cancel("E")
        desk.replace("E", 100.0)
        assert desk.last("late").status is OrderStatus.REJECTED
        assert "not sent" in desk.last("late").text
        assert desk.statuses("E")[-2:] == [OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED]
        assert desk.broker.orders_sent == sent
        with pytest.raises(ConnectionLost):
            await desk.broker.request_snapshot(0)
        await desk.until(lambda: desk.of(LinkReport)[-1].state is LinkState.UP)
        listed = (await desk.broker.request_snapshot(0)).open_orders
        assert {report.client_order_id for report in listed} == {"E", "S", "T"}
        desk.broker.cancel("E", next(report.server_order_id for report in listed if report.client_order_id == "E"))
        await desk.sees("E", OrderStatus.CANCELED)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"account": "U123"}, r"trade account U123 does not exist .*there: Sim1.*instrument.trade_account"),
        (
            {"account": "SIM1"},
            r"trade account SIM1 does not exist .*it is spelled Sim1 there.*instrument.trade_account",
        ),
        ({"symbol": instrument("MNQZ26_FUT_CME")}, r"MNQZ26_FUT_CME"),  # neither of the two markets there
    ],
)
async def test_what_does_not_fit_is_refused_at_the_start(serving, more, says):
    async with serving() as server:
        with pytest.raises(StartError, match=says):
            await Desk(server.port, scope_of(**more)).broker.connect()


async def test_a_server_that_links_no_orders_is_refused_unless_the_pairs_are_kept_here(serving, monkeypatch):
    logon = dtc.LogonResponse
    monkeypatch.setattr(dtc, "LogonResponse", lambda **fields: logon(**{**fields, "OCOOrdersSupported": 0}))
    async with serving() as server:
        with pytest.raises(StartError, match=r'links no orders .*set broker.brackets = "client"'):
            await Desk(server.port).broker.connect()
        async with connected(server, pairs_by_server=False) as desk:
            assert desk.of(LinkReport)[-1].state is LinkState.UP


@pytest.mark.parametrize(
    "spelled",
    [
        {"symbol": instrument("MESZ26_FUT_CME"), "trade_symbol": ES.symbol},
        {"account": "mine", "accounts": ("Sim1",)},
    ],
)
async def test_what_is_spelled_otherwise_there_is_traded_under_our_names(serving, spelled):
    scope = scope_of(**spelled)
    async with serving() as server, connected(server, scope=scope) as desk:
        desk.broker.submit(replace(order("E", Side.BUY, ask(server) - 100 * TICK), symbol=scope.instrument.symbol))
        await desk.sees("E", OrderStatus.WORKING)
        report = desk.last("E")
        assert (report.symbol, report.account) == (scope.instrument.symbol, scope.account)


async def test_a_server_that_is_not_there_is_tried_three_times(unused_tcp_port, very_impatient):
    desk = Desk(unused_tcp_port)
    with pytest.raises(StartError, match="nothing listens at"):
        await desk.broker.connect()


async def test_a_refused_logon_ends_the_attempt(serving):
    async with serving(Manners(username="somebody", password="secret")) as server:
        with pytest.raises(StartError, match="orders can't be sent"):
            await Desk(server.port).broker.connect()


async def test_a_server_that_is_not_there_yet_is_awaited(unused_tcp_port, serving, very_impatient):
    desk, reasons = Desk(unused_tcp_port), asyncio.Queue()
    connecting = asyncio.create_task(desk.broker.connect(reasons.put_nowait))
    async with asyncio.timeout(20):
        for _ in range(3):  # more than it would be tried without anyone to report to
            assert "nothing listens at" in await reasons.get()
        async with serving(port=unused_tcp_port):
            await connecting
            assert desk.broker.link.up
            await desk.broker.close()


async def test_a_logon_that_is_refused_is_not_awaited(serving, very_impatient):
    reasons = []
    async with serving(Manners(username="somebody", password="secret")) as server:
        with pytest.raises(ServerDenied, match="refused the logon"):
            await Desk(server.port).broker.connect(reasons.append)
    assert reasons == []


# Messages one by one.


@pytest.fixture
def alone():
    """A broker without a link: `answers` by type of query, or an error to raise; `asked` are the queries."""
    desk = Desk(1)
    desk.asked, desk.answers, desk.sent = [], {}, []

    async def request(query, _timeout_s=None):
        desk.asked.append(type(query))
        answer = desk.answers.get(type(query), [])
        if isinstance(answer, Exception):
            raise answer
        return answer

    desk.broker._mapper.multiplier = 1.0  # as the server would have told it
    desk.broker.link.request = request
    desk.broker.link.send = lambda *messages: desk.sent.extend(messages)
    return desk


def said(name="E", status=4, reason=3, **more):
    fields = {"ServerOrderID": "S1", "OrderQuantity": 2.0, "FilledQuantity": 0.0, "Price1": 100.0, "BuySell": 1}
    fields |= {"OrderType": 2, "LatestTransactionDateTime": 1.0, "Symbol": ES.symbol, "TradeAccount": "Sim1"}
    return dtc.OrderUpdate(ClientOrderID=name, OrderStatus=status, OrderUpdateReason=reason, **(fields | more))


def hear(desk, *messages):
    desk.broker._on_messages(list(messages), 0)


async def test_what_is_said_of_other_symbols_and_accounts_is_passed_on_as_it_is_spelled(alone):
    """Whose it is, is told by the order's name: our own may come back under another spelling."""
    hear(alone, said(Symbol="F.US.EPZ26"), said(TradeAccount="SIM1"), said(Symbol="", TradeAccount=""))
    assert [(report.symbol, report.account) for report in alone.of(OrderReport)] == [
        ("F.US.EPZ26", "Sim1"),
        (ES.symbol, "SIM1"),
        (ES.symbol, "Sim1"),
    ]


async def test_an_execution_comes_with_the_update_that_tells_it_named_or_not(alone):
    fill = {"FilledQuantity": 1.0, "LastFillQuantity": 1.0, "LastFillPrice": 99.75}
    hear(alone, said(status=4, reason=5, LastFillExecutionID="x1", **fill), said(status=7, reason=4, **fill))
    assert [(f.execution_id, f.client_order_id, f.quantity, f.price, f.filled) for f in alone.fills] == [
        ("x1", "E", 1, 99.75, 1),
        ("", "E", 1, 99.75, 1),
    ]
    assert alone.statuses("E") == [OrderStatus.PARTIAL, OrderStatus.FILLED]


async def test_an_execution_told_while_a_change_is_under_way_is_passed_on(alone):
    fill = {"FilledQuantity": 1.0, "LastFillQuantity": 1.0, "LastFillPrice": 99.75}
    hear(alone, said(status=5, reason=5, **fill))
    assert [(f.quantity, f.price) for f in alone.fills] == [(1, 99.75)]


async def test_a_position_without_a_number_is_reported_as_not_known(alone):
    for quantity in (float("nan"), dtc.UNSET_F64, 3.0):
        hear(alone, dtc.PositionUpdate(Symbol=ES.symbol, TradeAccount="Sim1", Quantity=quantity))
    assert [report.quantity for report in alone.of(PositionReport)] == [None, None, 3]


LISTS = {
    dtc.OpenOrdersRequest: [said()],
    dtc.HistoricalOrderFillsRequest: [
        dtc.HistoricalOrderFillResponse(ServerOrderID="S1", BuySell=1, Price=100.0, Quantity=1.0, UniqueExecutionID="x")
    ],
    dtc.CurrentPositionsRequest: [dtc.PositionUpdate(Symbol=ES.symbol, TradeAccount="Sim1", Quantity=1.0)],
    dtc.AccountBalanceRequest: [dtc.AccountBalanceUpdate(TradeAccount="Sim1", CashBalance=5.0)],
}
REFUSED = RequestRefused("no")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (dtc.HistoricalOrderFillsRequest, REFUSED),
        (dtc.CurrentPositionsRequest, REFUSED),
        (dtc.AccountBalanceRequest, REFUSED),
        (dtc.AccountBalanceRequest, RequestTimeout("no answer")),
    ],
)
async def test_what_the_server_refuses_to_list_is_not_known_and_the_rest_is(alone, query, error):
    alone.answers = {**LISTS, query: error}
    book = await alone.broker.request_snapshot(0)
    parts = {
        dtc.OpenOrdersRequest: [order.client_order_id for order in book.open_orders],
        dtc.HistoricalOrderFillsRequest: book.fills and [fill.execution_id for fill in book.fills],
        dtc.CurrentPositionsRequest: book.positions and [position.quantity for position in book.positions],
        dtc.AccountBalanceRequest: book.balance and book.balance.cash,
    }
    assert parts[query] is None
    del parts[query]
    assert list(parts.values()) == [
        value for kind, value in zip(LISTS, (["E"], ["x"], [1], 5.0), strict=True) if kind is not query
    ]


@pytest.mark.parametrize("cash", [float("nan"), float("inf"), dtc.UNSET_F64])
async def test_a_balance_that_is_no_amount_is_not_known(alone, cash):
    alone.answers = {dtc.AccountBalanceRequest: [dtc.AccountBalanceUpdate(TradeAccount="Sim1", CashBalance=cash)]}
    assert (await alone.broker.request_snapshot(0)).balance is None
    hear(alone, dtc.AccountBalanceUpdate(TradeAccount="Sim1", CashBalance=cash))
    assert alone.of(BalanceReport) == []


async def test_without_open_orders_there_is_no_answer_at_all(alone):
    """Absence from that list is proof: it is never assumed."""
    alone.answers = {dtc.OpenOrdersRequest: REFUSED}
    with pytest.raises(RequestRefused):
        await alone.broker.request_snapshot(0)


async def test_queries_are_repeated_and_orders_never(alone):
    alone.answers = {dtc.OpenOrdersRequest: RequestTimeout("no answer")}
    with pytest.raises(RequestTimeout):
        await alone.broker.request_snapshot(0)
    assert alone.asked.count(dtc.OpenOrdersRequest) == 3
    assert [trouble.code for trouble in alone.of(BrokerTrouble)] == ["query_unanswered"] * 2

    tries = []

    def send(*messages):
        tries.append(messages)
        raise ConnectionLost("down")

    alone.broker.link.send = send
    alone.broker.submit(order("E", Side.BUY, 100.0))
    assert len(tries) == 1


async def test_a_cancel_and_a_replace_name_the_order_both_ways(alone):
    alone.broker.cancel("E", "S1")
    alone.broker.replace("E", "S1", 100.25, 2)
    cancel, change = alone.sent
    assert (cancel.ClientOrderID, cancel.ServerOrderID, cancel.TradeAccount) == ("E", "S1", "Sim1")
    assert (change.ClientOrderID, change.ServerOrderID, change.Price1, change.Quantity) == ("E", "S1", 100.25, 2.0)


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
        assert server.exchange.position() == 0
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
        assert rig.position == server.exchange.position()
        assert rig.orders.unknown() == []
        rig.operator.stop(flatten=True)
        await session.until(lambda: rig.executor.settled)
        assert server.exchange.position() == 0
        received = [one.client_id for one in server.exchange.desk.orders.values()]
        assert len(received) == len(set(received))
        await session.desk.broker.close()


async def test_orders_that_come_back_under_other_names_are_booked_and_stop_new_risk(make_rig, serving):
    """A message that names our order is about our order, whatever else it says."""
    async with serving() as server:
        session = Session(make_rig, server)
        hear_all, broker = session.desk.broker._on_messages, session.desk.broker

        def respell(messages, received_ns):
            for message in messages:
                if isinstance(message, dtc.OrderUpdate | dtc.PositionUpdate) and message.Symbol:
                    message.Symbol, message.TradeAccount = "F.US.ESZ26", "SIM1"
            hear_all(messages, received_ns)

        await session.ready()
        broker.link._on_messages = respell
        rig = session.rig
        assert rig.decide("buy", 1).allowed
        await session.until(lambda: rig.position == 1 and rig.orders.protection(Side.SELL) == 1)
        (alert,) = [alert for alert in rig.alerts if alert.code == "other_spelling"]
        assert alert.priority is Priority.URGENT
        for told in ("F.US.ESZ26", "SIM1", "broker.symbol_spellings", "broker.account_spellings"):
            assert told in alert.text
        assert rig.decide("buy", 2).code is RiskCode.CONTRADICTED
        rig.operator.flatten("operator")
        await session.until(lambda: rig.executor.settled and not len(rig.orders))
        assert server.exchange.position() == rig.position == 0
        await session.desk.broker.close()


async def test_an_order_renamed_without_its_name_is_replaced_and_cancelled_under_the_new_number(make_rig, serving):
    """The simulator refuses a request under a number that it has replaced."""
    async with serving(new_order_id_on_replace=True) as server:
        session = Session(make_rig, server)
        hear_all, send_all, asked = session.desk.broker._on_messages, session.desk.broker.link.send, []

        def without_names(messages, received_ns):
            for message in messages:
                if isinstance(message, dtc.OrderUpdate) and message.PreviousServerOrderID:
                    message.ClientOrderID = ""
            hear_all(messages, received_ns)

        def send(*messages):
            asked.extend(one for one in messages if isinstance(one, dtc.CancelReplaceOrder | dtc.CancelOrder))
            send_all(*messages)

        await session.ready()
        session.desk.broker.link._on_messages, session.desk.broker.link.send = without_names, send
        rig = session.rig
        assert rig.decide("buy", 1).allowed
        await session.until(lambda: rig.orders.protection(Side.SELL) == 1)
        (stop,) = [entry for entry in rig.orders if entry.order.role is OrderRole.STOP]
        numbers = [stop.server_order_id]
        for price in (stop.price + TICK, stop.price + 2 * TICK):
            assert rig.actors.order_manager.replace(stop, price, "")
            await session.until(lambda price=price: stop.price == price and not stop.request.replace_pending)
            numbers.append(stop.server_order_id)
        assert len(set(numbers)) == 3
        rig.actors.order_manager.cancel(stop)
        await session.until(lambda: not stop.live)
        assert [one.ServerOrderID for one in asked if one.ClientOrderID == stop.client_order_id] == numbers
        assert "external_order" not in rig.alert_codes
        rig.operator.flatten("operator")
        await session.until(lambda: rig.executor.settled and not len(rig.orders))
        await session.desk.broker.close()


async def test_an_entry_cancelled_before_it_has_a_number_is_cancelled_once_it_has(make_rig, serving):
    async with serving() as server:
        session = Session(make_rig, server)
        await session.ready()
        session.shift = -12
        session.show()
        assert session.rig.decide("buy", 1).allowed
        session.rig.operator.kill("uid 0", flatten=False)
        await session.until(lambda: not len(session.rig.orders))
        assert not server.exchange.main.engine.alive
        assert server.exchange.position() == session.rig.position == 0
        await session.desk.broker.close()


async def test_an_entry_of_an_earlier_run_is_cancelled_once_it_is_known(make_rig, serving):
    async with serving() as server:
        first = Session(make_rig, server)
        await first.ready()
        first.shift = -12
        first.show()
        first.rig.decide("buy", 1)
        await first.until(lambda: server.exchange.main.engine.book.bids and len(first.desk.of(OrderReport)) >= 3)
        await first.desk.broker.close()

        second = Session(make_rig, server)
        assert len(second.rig.orders.unknown()) == 3
        await second.ready()
        await second.until(lambda: not len(second.rig.orders))
        assert not server.exchange.main.engine.alive
        assert second.rig.position == server.exchange.position() == 0
        await second.desk.broker.close()


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
        assert server.exchange.position() == 0
        assert [trade.exit_reason for trade in rig.notices.trades] == ["operator"]
        await second.desk.broker.close()
