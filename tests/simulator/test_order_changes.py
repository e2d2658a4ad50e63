"""Cancels and replaces that can't be carried out: what the client is answered, and that its order works on."""

import pytest
from simulator_orders import BUY, CANCELED, FILLED, LIMIT, OPEN, REJECTED, STOP_LIMIT, order, path, touch

from mia_daemon.dtc import messages as dtc

CANCEL_REJECTED, REPLACE_REJECTED, REPLACED = 9, 10, 7


async def working(client, client_id: str = "a", **more) -> dtc.OrderUpdate:
    """An order that rests below the market, as its last update has it."""
    bid, _ = await touch(client)
    client.send(order(client_id, **{"side": BUY, "kind": LIMIT, "quantity": 2.0, "price": bid - 5, **more}))
    return (await path(client, client_id, OPEN))[-1]


async def open_orders(client) -> list[tuple[str, int]]:
    listed = await client.batch(dtc.OpenOrdersRequest(RequestID=77), dtc.OrderUpdate, "TotalNumMessages")
    return [(each.ClientOrderID, each.OrderStatus) for each in listed]


INCOMPLETE = [
    {"ServerOrderID": ""},
    {"TradeAccount": "Sim2"},
    {"TradeAccount": ""},
    {"ServerOrderID": "777"},
    {"ServerOrderID": "777", "ClientOrderID": ""},
]


@pytest.mark.parametrize("wrong", INCOMPLETE)
async def test_a_cancel_that_names_no_order_is_rejected_with_status_9_and_its_numbers_unset(serving, wrong):
    async with serving() as running:
        client = await running.connect()
        live = await working(client)
        fields = {"ServerOrderID": live.ServerOrderID, "ClientOrderID": "a", "TradeAccount": "Sim1", **wrong}
        client.send(dtc.CancelOrder(**fields))
        answer = await client.next()
        assert (answer.OrderStatus, answer.OrderUpdateReason) == (REJECTED, CANCEL_REJECTED)
        assert (answer.TotalNumMessages, answer.MessageNumber) == (0, 0)
        assert {name: getattr(answer, name) for name in fields} == fields
        assert answer.OrderQuantity == answer.FilledQuantity == answer.Price1 == dtc.UNSET_F64
        assert f"no order with ServerOrderID {fields['ServerOrderID'] or '(none)'}" in answer.InfoText
        assert await open_orders(client) == [("a", OPEN)]


@pytest.mark.parametrize("wrong", [{"ServerOrderID": ""}, {"ServerOrderID": "777"}, {"TradeAccount": "Sim2"}])
async def test_a_replace_that_names_no_order_is_rejected_with_status_9(serving, wrong):
    async with serving() as running:
        client = await running.connect()
        live = await working(client)
        fields = {"ServerOrderID": live.ServerOrderID, "ClientOrderID": "a", "TradeAccount": "Sim1", **wrong}
        client.send(dtc.CancelReplaceOrder(Quantity=1.0, Price1IsSet=0, Price2IsSet=0, **fields))
        answer = await client.next()
        assert (answer.OrderStatus, answer.OrderUpdateReason) == (REJECTED, REPLACE_REJECTED)
        assert await open_orders(client) == [("a", OPEN)]


async def test_a_request_whose_client_order_id_is_anothers_is_rejected_in_the_status_of_the_order_it_numbers(serving):
    async with serving() as running:
        client = await running.connect()
        live, other = await working(client), await working(client, "b")
        names = {"ServerOrderID": live.ServerOrderID, "ClientOrderID": other.ClientOrderID, "TradeAccount": "Sim1"}
        for request, reason in (
            (dtc.CancelOrder(**names), CANCEL_REJECTED),
            (dtc.CancelReplaceOrder(Quantity=1.0, Price1IsSet=0, Price2IsSet=0, **names), REPLACE_REJECTED),
        ):
            client.send(request)
            answer = await client.next()
            assert (answer.ServerOrderID, answer.ClientOrderID) == (live.ServerOrderID, "a")
            assert (answer.OrderStatus, answer.OrderUpdateReason, answer.OrderQuantity) == (OPEN, reason, 2.0)
            assert "has ClientOrderID a, not b" in answer.InfoText
        assert await open_orders(client) == [("a", OPEN), ("b", OPEN)]


async def test_a_cancel_needs_the_account_and_the_number_but_not_the_client_order_id(serving):
    async with serving() as running:
        client = await running.connect()
        live = await working(client)
        client.send(dtc.CancelOrder(ServerOrderID=live.ServerOrderID, TradeAccount="Sim1"))
        assert (await path(client, "a", CANCELED))[-1].OrderUpdateReason == 6


@pytest.mark.parametrize("wrong", INCOMPLETE[:3])
async def test_by_the_fault_an_incomplete_cancel_has_neither_effect_nor_answer(serving, wrong):
    async with serving(faults={"ignore_incomplete_cancels": True}) as running:
        client = await running.connect()
        live = await working(client)
        fields = {"ServerOrderID": live.ServerOrderID, "ClientOrderID": "a", "TradeAccount": "Sim1", **wrong}
        client.send(dtc.CancelOrder(**fields), dtc.CancelOrder(ServerOrderID="777", TradeAccount="Sim1"))
        assert (await client.next()).ServerOrderID == "777"
        assert await open_orders(client) == [("a", OPEN)]


async def test_a_replace_that_can_not_be_done_is_rejected_in_the_status_of_its_order(serving):
    async with serving() as running:
        client = await running.connect()
        live = await working(client)
        for change, text in (({"Price1": 6000.1}, "tick size"), ({"Price1": 6000.0, "Quantity": 0.5}, "whole number")):
            client.send(dtc.CancelReplaceOrder(
                ServerOrderID=live.ServerOrderID, ClientOrderID="a", TradeAccount="Sim1", Price2IsSet=0, **change
            ))  # fmt: skip
            answer = await client.next()
            assert (answer.OrderStatus, answer.OrderUpdateReason) == (OPEN, REPLACE_REJECTED)
            assert text in answer.InfoText


async def test_a_replace_of_the_price_alone_leaves_the_quantity_and_of_a_trigger_the_distance_to_its_limit(serving):
    async with serving() as running:
        client = await running.connect()
        _, ask = await touch(client)
        await working(client, "s", kind=STOP_LIMIT, price=ask + 50, Price2=ask + 52)
        stop = client.seen[-1]
        names = {"ServerOrderID": stop.ServerOrderID, "ClientOrderID": "s", "TradeAccount": "Sim1"}
        client.send(dtc.CancelReplaceOrder(Price1=ask + 40, Price2IsSet=0, **names))
        moved = await client.of(dtc.OrderUpdate, OrderUpdateReason=REPLACED)
        assert (moved.Price1, moved.Price2, moved.OrderQuantity) == (ask + 40, ask + 42, 2)
        client.send(dtc.CancelReplaceOrder(Price1IsSet=0, Price2=ask + 41, Quantity=1, **names))
        moved = await client.of(dtc.OrderUpdate, OrderUpdateReason=REPLACED)
        assert (moved.Price1, moved.Price2, moved.OrderQuantity) == (ask + 40, ask + 41, 1)


async def test_the_quantity_of_a_replace_is_the_total_with_what_has_filled(serving):
    async with serving() as running:
        client = await running.connect()
        _, ask = await touch(client)
        client.send(order("a", BUY, LIMIT, 2_000, ask))
        part = await client.of(dtc.OrderUpdate, ClientOrderID="a", OrderUpdateReason=5)
        names = {"ServerOrderID": part.ServerOrderID, "ClientOrderID": "a", "TradeAccount": "Sim1"}
        change = {"Price1IsSet": 0, "Price2IsSet": 0, **names}
        client.send(
            dtc.CancelReplaceOrder(Quantity=part.FilledQuantity, **change),
            dtc.CancelReplaceOrder(Quantity=part.FilledQuantity + 1, **change),
        )
        refused = await client.of(dtc.OrderUpdate, OrderUpdateReason=REPLACE_REJECTED)
        assert "does not exceed what has filled" in refused.InfoText
        moved = await client.of(dtc.OrderUpdate, OrderUpdateReason=REPLACED)
        assert moved.OrderQuantity == moved.FilledQuantity + moved.RemainingQuantity == refused.FilledQuantity + 1


async def test_a_cancel_of_an_order_that_has_ended_is_rejected_in_its_status(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(order("a"))
        done = (await path(client, "a", FILLED))[-1]
        client.send(dtc.CancelOrder(ServerOrderID=done.ServerOrderID, ClientOrderID="a", TradeAccount="Sim1"))
        late = await client.of(dtc.OrderUpdate, OrderUpdateReason=CANCEL_REJECTED)
        assert (late.OrderStatus, late.FilledQuantity) == (FILLED, 1)
