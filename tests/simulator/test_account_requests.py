"""What is answered about orders, fills, positions and balances, and what is rejected."""

import pytest
from simulator_orders import BUY, FILLED, LIMIT, OPEN, REJECTED, SELL, STOP, SYMBOL, order, pair, path, touch

from mia_daemon.dtc import messages as dtc

HOUR_S = 3_600


@pytest.mark.parametrize(
    ("request_", "reject"),
    [
        (dtc.OpenOrdersRequest, dtc.OpenOrdersReject),
        (dtc.HistoricalOrderFillsRequest, dtc.HistoricalOrderFillsReject),
        (dtc.CurrentPositionsRequest, dtc.CurrentPositionsReject),
        (dtc.AccountBalanceRequest, dtc.AccountBalanceReject),
    ],
)
async def test_a_request_about_an_account_that_does_not_exist_is_rejected(serving, request_, reject):
    async with serving() as running:
        client = await running.connect()
        client.send(request_(RequestID=4, TradeAccount="Sim9"))
        assert (await client.of(reject, RequestID=4)).RejectText == "trade account Sim9 is unknown"


async def test_past_fills_need_an_account_and_a_start(serving):
    async with serving() as running:
        client = await running.connect()
        for fields, text in (
            ({"NumberOfDays": 1}, "TradeAccount is required"),
            ({"TradeAccount": "Sim1"}, "NumberOfDays or StartDateTime is required"),
            ({"TradeAccount": "Sim1", "NumberOfDays": -1, "StartDateTime": -5}, "NumberOfDays or StartDateTime"),
        ):
            client.send(dtc.HistoricalOrderFillsRequest(RequestID=5, **fields))
            assert text in (await client.of(dtc.HistoricalOrderFillsReject, RequestID=5)).RejectText


async def test_past_fills_start_by_days_or_by_a_time_in_seconds_or_microseconds(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(order("a"), order("b", SELL))
        await path(client, "b", FILLED)
        now_s = running.server.exchange.now_ns // 10**9

        async def listed(**fields) -> list[int]:
            request = dtc.HistoricalOrderFillsRequest(RequestID=6, TradeAccount="Sim1", **fields)
            fills = await client.batch(request, dtc.HistoricalOrderFillResponse)
            assert [f.MessageNumber for f in fills] == list(range(1, len(fills) + 1))
            return [0 if f.NoOrderFills else int(f.Quantity) for f in fills]

        assert await listed(NumberOfDays=1) == [1, 1]
        for unit in (1, 1_000_000):
            assert await listed(StartDateTime=(now_s - HOUR_S) * unit) == [1, 1]
            assert await listed(StartDateTime=(now_s + HOUR_S) * unit) == [0]
        assert await listed(NumberOfDays=1, StartDateTime=now_s + HOUR_S) == [0]  # the later of the two
        assert await listed(NumberOfDays=1, ServerOrderID="nobody's") == [0]


async def test_an_update_that_nobody_asked_for_is_message_1_of_1(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(order("a"), order("a"))
        await client.of(dtc.AccountBalanceUpdate)
        await client.of(dtc.OrderUpdate, OrderStatus=REJECTED)
        unasked = [m for m in client.seen if isinstance(m, dtc.OrderUpdate)]
        assert {(m.RequestID, m.TotalNumMessages, m.MessageNumber, m.NoOrders) for m in unasked} == {(0, 1, 1, 0)}
        others = [m for m in client.seen if isinstance(m, dtc.PositionUpdate | dtc.AccountBalanceUpdate)]
        assert {(m.RequestID, m.TotalNumberMessages, m.MessageNumber, m.Unsolicited) for m in others} == {(0, 1, 1, 1)}


async def test_cancelling_one_order_of_a_pair_cancels_both_and_of_a_bracket_only_itself(serving):
    async with serving() as running:
        client = await running.connect()
        bid, ask = await touch(client)
        client.send(pair("low", "high", BUY, (bid - 50, ask + 50)))
        low = (await path(client, "low", OPEN))[-1]
        client.send(dtc.CancelOrder(ServerOrderID=low.ServerOrderID, TradeAccount="Sim1"))
        other = await client.of(dtc.OrderUpdate, ClientOrderID="high", OrderStatus=8)
        assert other.InfoText == "the other order of the OCO pair was cancelled"
        exits = pair("target", "stop", SELL, (ask + 50, bid - 50), ParentTriggerClientOrderID="entry")
        client.send(order("entry", BUY, LIMIT, 1, ask + 1, IsParentOrder=1), exits)
        stop = (await path(client, "stop", OPEN))[-1]
        client.send(dtc.CancelOrder(ServerOrderID=stop.ServerOrderID, TradeAccount="Sim1"))
        await client.of(dtc.OrderUpdate, ClientOrderID="stop", OrderStatus=8)
        request = dtc.OpenOrdersRequest(RequestID=9)
        listed = await client.batch(request, dtc.OrderUpdate, "TotalNumMessages")
        assert [each.ClientOrderID for each in listed] == ["target"]


@pytest.mark.parametrize(("account", "mode"), [("Sim1", "on"), ("120005", "off")])
async def test_an_order_for_an_account_of_the_other_kind_is_rejected_with_the_trade_simulation_mode(
    serving, account, mode
):
    async with serving(instrument={"trade_account": account}) as running:
        client = await running.connect()
        client.send(order("a", TradeAccount="120005" if mode == "on" else "Sim1"))
        answer = await client.of(dtc.OrderUpdate, ClientOrderID="a")
        assert (answer.OrderStatus, answer.OrderUpdateReason) == (REJECTED, 8)
        assert f"Trade Simulation Mode is {mode}" in answer.InfoText


async def test_a_stop_and_its_price_are_reported_as_they_were_sent(serving):
    async with serving() as running:
        client = await running.connect()
        bid, _ = await touch(client)
        client.send(order("s", SELL, STOP, 1, bid - 40))
        update = (await path(client, "s", OPEN))[-1]
        assert (update.OrderType, update.Price1, update.Price2) == (STOP, bid - 40, dtc.UNSET_F64)


async def test_by_the_fault_a_closed_position_is_listed_with_a_quantity_of_0(serving):
    request = dtc.CurrentPositionsRequest(RequestID=3, TradeAccount="Sim1")
    async with serving(faults={"list_closed_positions": True}) as running:
        client = await running.connect()
        assert [p.NoPositions for p in await client.batch(request, dtc.PositionUpdate)] == [1]
        client.send(order("in"), order("out", SELL))
        await path(client, "out", FILLED)
        listed = await client.batch(request, dtc.PositionUpdate)
        assert [(p.NoPositions, p.Symbol, p.Quantity) for p in listed] == [(0, SYMBOL, 0)]


async def test_by_the_fault_balances_are_refused_and_updates_of_them_go_on(serving):
    async with serving(faults={"refuse_balances": True}) as running:
        client = await running.connect()
        client.send(dtc.AccountBalanceRequest(RequestID=3, TradeAccount="Sim1"), order("a"))
        assert "not available" in (await client.of(dtc.AccountBalanceReject, RequestID=3)).RejectText
        assert (await client.of(dtc.AccountBalanceUpdate)).Unsolicited == 1
