"""The simulator over real TCP, spoken to in DTC."""

import asyncio
import json
import random
import struct
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from simulator_orders import (
    BUY,
    CANCELED,
    FILLED,
    LIMIT,
    MARKET,
    OPEN,
    REJECTED,
    SELL,
    STOP,
    STOP_LIMIT,
    SYMBOL,
    order,
    pair,
    path,
    touch,
)

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.enums import LogonStatusEnum
from mia_daemon.errors import StartError
from mia_daemon.simulator import server as server_module
from mia_daemon.simulator.client_session import Manners

ALL_FLAGS = 0x80000 | 0x100000 | 0x80 | 0x800


# Session


async def test_logon_says_what_the_server_can(serving):
    async with serving() as running:
        client = await running.connect(logon=False)
        client.send(dtc.EncodingRequest(Encoding=4))  # Protocol Buffers
        assert (await client.of(dtc.EncodingResponse)).Encoding == 0
        answer = await client.logon()
        assert answer.Result == LogonStatusEnum.LOGON_SUCCESS
        assert answer.OCOOrdersSupported == answer.BracketOrdersSupported == answer.TradingIsSupported == 1


@pytest.mark.parametrize("result", [2, 3, 4])
async def test_a_logon_can_be_refused_in_every_way(serving, result):
    manners = Manners(logon_result=LogonStatusEnum(result), logon_text="no", reconnect_address="127.0.0.1:1")
    async with serving(manners) as running:
        client = await running.connect(logon=False)
        answer = await client.logon()
        assert (answer.Result, answer.ResultText, answer.ReconnectAddress) == (result, "no", "127.0.0.1:1")
        assert not await client.end()


async def test_a_password_is_checked_when_asked(serving):
    async with serving(Manners(username="u", password="p")) as running:
        wrong = await running.connect(logon=False)
        assert (await wrong.logon(Username="u", Password="x")).Result == LogonStatusEnum.LOGON_ERROR_NO_RECONNECT
        right = await running.connect(logon=False)
        assert (await right.logon(Username="u", Password="p")).Result == LogonStatusEnum.LOGON_SUCCESS


async def test_a_message_before_the_logon_ends_the_connection_with_a_reason(serving):
    async with serving() as running:
        client = await running.connect(logon=False)
        client.send(order("a"))
        assert "before the logon" in (await client.end())[-1].Reason


async def test_heartbeats_come_by_the_servers_own_timer_and_silence_ends_the_connection(serving, monkeypatch):
    async with serving() as running:
        client = await running.connect()
        session = next(iter(running.server._connections)).session
        session._heartbeat_ns = 50_000_000
        session._spoken_ns = 0
        beats = [await client.of(dtc.Heartbeat) for _ in range(3)]
        assert beats[-1].CurrentDateTime > 1_700_000_000
        client.send(dtc.Heartbeat())
        session._heard_ns -= 1 << 62
        assert "heartbeat" in (await client.of(dtc.Logoff)).Reason
        assert not await client.end()


async def test_a_logoff_is_obeyed_and_a_shutdown_is_announced(serving):
    async with serving() as running:
        leaving, staying = await running.connect(), await running.connect()
        leaving.send(dtc.Logoff(Reason="bye"))
        assert not await leaving.end()
        running.server.stop()
        assert "shutting down" in (await staying.end())[-1].Reason


async def test_a_port_in_use_is_one_clear_sentence(serving, tmp_path):
    async with serving(state=tmp_path / "a") as running:
        with pytest.raises(StartError, match=f"can't listen on 127.0.0.1:{running.port}.*in use"):
            async with serving(state=tmp_path / "b", port=running.port):
                pass


# Market data


async def test_a_subscription_begins_with_a_snapshot_and_goes_on_in_the_flavour_asked_for(serving):
    async with serving(speed=20) as running:
        modern, plain = await running.connect(integer_1=ALL_FLAGS), await running.connect()
        for client in (modern, plain):
            client.send(
                dtc.MarketDataRequest(SymbolID=5, Symbol=SYMBOL), dtc.MarketDepthRequest(SymbolID=6, Symbol=SYMBOL)
            )
        snapshot = await modern.next()
        assert isinstance(snapshot, dtc.MarketDataSnapshot)
        assert snapshot.SymbolID == 5
        assert snapshot.AskPrice - snapshot.BidPrice in {0.25, 0.5, 0.75, 1.0}
        assert isinstance(await modern.next(), dtc.MarketDataUpdateBidAskFloatWithMicroseconds)
        trade = await modern.of(dtc.MarketDataUpdateTradeWithUnbundledIndicator2, SymbolID=5)
        assert trade.AtBidOrAsk in {1, 2}
        assert trade.Price % 0.25 == 0
        await modern.of(dtc.MarketDepthUpdateLevelFloatWithMilliseconds, SymbolID=6)
        kinds = {type(m) for m in modern.seen}
        assert not kinds & {dtc.MarketDepthSnapshotLevel, dtc.MarketDataUpdateTrade, dtc.MarketDataUpdateBidAsk}
        for kind in (dtc.MarketDepthSnapshotLevel, dtc.MarketDepthUpdateLevel, dtc.MarketDataUpdateTrade):
            await plain.of(kind)


@pytest.mark.parametrize(
    ("flags", "compact", "trade", "quote"),
    [
        (0, False, 107, 108),
        (0, True, 112, 117),
        (0x4, False, 137, 108),
        (0x4, True, 137, 117),
        (0x4 | 0x80000, False, 146, 108),
        (0x100000, True, 112, 144),
    ],
)
async def test_the_logons_flags_choose_the_messages_of_trades_and_quotes(serving, flags, compact, trade, quote):
    async with serving(speed=20, compact_trades_and_quotes=compact) as running:
        client = await running.connect(integer_1=flags)
        client.send(dtc.MarketDataRequest(SymbolID=5, Symbol=SYMBOL))
        for type_ in (trade, quote):
            message = await client.of(dtc.MESSAGES[type_], SymbolID=5)
            price = message.Price if type_ == trade else message.BidPrice
            assert price % 0.25 == 0
        choices = {107, 108, 112, 117, 137, 144, 146}
        assert {m.TYPE for m in client.seen} & choices == {trade, quote}


async def test_a_subscription_is_kept_up_to_date_with_the_sessions_values(serving):
    async with serving(speed=20) as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=5, Symbol=SYMBOL))
        for _ in range(10):
            await client.of(dtc.MarketDataUpdateSessionVolume, SymbolID=5)
        client.send(dtc.MarketDataRequest(RequestAction=3, SymbolID=6, Symbol=SYMBOL))
        snapshot = await client.of(dtc.MarketDataSnapshot, SymbolID=6)
        held = {}
        for m in client.seen:
            if isinstance(m, dtc.MarketDataSnapshot) and m.SymbolID == 5:
                held = {113: m.SessionVolume, 114: m.SessionHighPrice, 115: m.SessionLowPrice, 120: m.SessionOpenPrice}
            elif m.TYPE in held:
                held[m.TYPE] = m.Volume if m.TYPE == 113 else m.Price
        assert held == {
            113: snapshot.SessionVolume, 114: snapshot.SessionHighPrice, 115: snapshot.SessionLowPrice,
            120: snapshot.SessionOpenPrice,
        }  # fmt: skip
        assert (await client.of(dtc.MarketDataUpdateLastTradeSnapshot, SymbolID=6)).LastTradePrice % 0.25 == 0


async def test_the_second_generation_is_spoken_when_set(serving):
    async with serving(speed=20, generation=2) as running:
        client = await running.connect(integer_1=ALL_FLAGS)
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL), dtc.MarketDepthRequest(SymbolID=1, Symbol=SYMBOL))
        for kind in (dtc.MarketDataUpdateBidAskV2, dtc.MarketDepthUpdateLevelV2, dtc.MarketDataUpdateTradeV2):
            await client.of(kind)
        updates = [await client.of(dtc.MarketDepthUpdateLevelV2) for _ in range(300)]
        assert {u.UpdateType for u in updates} >= {2, 3, 4}


@pytest.mark.parametrize("flags", [0, 0x800])
async def test_the_depth_snapshot_is_one_batch_of_at_least_ten_levels_a_side(serving, flags):
    async with serving() as running:
        client = await running.connect(integer_1=flags)
        client.send(
            dtc.MarketDepthRequest(SymbolID=3, Symbol=SYMBOL, NumLevels=10), dtc.TradeAccountsRequest(RequestID=1)
        )
        await client.of(dtc.TradeAccountResponse)
        levels = [
            m for m in client.seen if isinstance(m, dtc.MarketDepthSnapshotLevel | dtc.MarketDepthSnapshotLevelFloat)
        ]
        for side in (1, 2):
            prices = [m.Price for m in levels if m.Side == side]
            assert len(prices) >= 10
            assert prices == sorted(prices, reverse=side == 1)
            assert [m.Level for m in levels if m.Side == side] == list(range(1, len(prices) + 1))
        if flags:
            assert [m.FinalUpdateInBatch for m in levels] == [3, *[2] * (len(levels) - 2), 1]
        else:
            assert [m.IsFirstMessageInBatch for m in levels] == [1, *[0] * (len(levels) - 1)]
            assert [m.IsLastMessageInBatch for m in levels] == [*[0] * (len(levels) - 1), 1]


async def test_the_stream_of_levels_rebuilds_the_servers_book(serving):
    async with serving(speed=30) as running:
        client = await running.connect(integer_1=ALL_FLAGS)
        client.send(dtc.MarketDepthRequest(SymbolID=3, Symbol=SYMBOL))
        for _ in range(400):
            await client.of(dtc.MarketDepthUpdateLevelFloatWithMilliseconds)
        client.send(dtc.MarketDepthRequest(RequestAction=3, SymbolID=4, Symbol=SYMBOL))
        await client.of(dtc.MarketDepthSnapshotLevelFloat, SymbolID=4, FinalUpdateInBatch=1)
        book: dict[tuple[int, float], float] = {}
        for m in client.seen:
            if isinstance(m, dtc.MarketDepthSnapshotLevelFloat) and m.SymbolID == 3:
                book[m.Side, m.Price] = m.Quantity
            elif isinstance(m, dtc.MarketDepthUpdateLevelFloatWithMilliseconds):
                book[m.Side, m.Price] = m.Quantity
                if m.UpdateType == 2:
                    del book[m.Side, m.Price]
        assert book == {
            (m.Side, m.Price): m.Quantity
            for m in client.seen
            if isinstance(m, dtc.MarketDepthSnapshotLevelFloat) and m.SymbolID == 4
        }


async def test_unknown_symbols_and_refused_market_data_are_rejected(serving, tmp_path):
    async with serving() as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol="XX"), dtc.MarketDepthRequest(SymbolID=2, Symbol="XX"))
        assert "XX" in (await client.of(dtc.MarketDataReject, SymbolID=1)).RejectText
        assert "XX" in (await client.of(dtc.MarketDepthReject, SymbolID=2)).RejectText
        client.send(dtc.SecurityDefinitionForSymbolRequest(RequestID=3, Symbol="XX"))
        assert "XX" in (await client.of(dtc.SecurityDefinitionReject, RequestID=3)).RejectText
    async with serving(Manners(serves_market_data=False), tmp_path / "other") as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL))
        assert (await client.of(dtc.MarketDataReject)).RejectText == "Market data request not allowed"


async def test_unsubscribing_stops_the_stream(serving, eventually):
    async with serving(speed=50) as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL), dtc.MarketDepthRequest(SymbolID=1, Symbol=SYMBOL))
        await client.of(dtc.MarketDataUpdateTrade)
        client.send(
            dtc.MarketDataRequest(RequestAction=2, SymbolID=1),
            dtc.MarketDepthRequest(RequestAction=2, SymbolID=1),
            dtc.TradeAccountsRequest(RequestID=1),
        )
        await client.of(dtc.TradeAccountResponse)
        begun = running.server.exchange.now_ns
        await eventually(lambda: running.server.exchange.now_ns > begun + 5_000_000_000)
        client.send(dtc.TradeAccountsRequest(RequestID=2))
        assert isinstance(await client.next(), dtc.TradeAccountResponse)


async def test_the_security_definition_names_tick_and_value(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(dtc.SecurityDefinitionForSymbolRequest(RequestID=3, Symbol=SYMBOL))
        definition = await client.of(dtc.SecurityDefinitionResponse, RequestID=3)
        assert (definition.MinPriceIncrement, definition.CurrencyValuePerIncrement) == (0.25, 12.5)
        assert definition.DisplayPriceMultiplier == 1.0


# Orders


async def test_a_market_order_takes_sierras_path_and_everyone_hears_of_it(serving):
    async with serving() as running:
        client, other = await running.connect(), await running.connect()
        client.send(order("a", BUY, MARKET, 2))
        for each in (client, other):
            updates = await path(each, "a", FILLED)
            assert [(u.OrderStatus, u.OrderUpdateReason) for u in updates] == [(2, 2), (4, 3), (7, 4)]
            fill = updates[-1]
            assert (fill.FilledQuantity, fill.RemainingQuantity, fill.LastFillQuantity) == (2, 0, 2)
            assert fill.AverageFillPrice == fill.LastFillPrice
            assert fill.LastFillExecutionID
            assert fill.LastFillDateTime > 1_700_000_000_000
            position = await each.of(dtc.PositionUpdate)
            assert (position.Quantity, position.AveragePrice, position.Unsolicited) == (2, fill.LastFillPrice, 1)
            balance = await each.of(dtc.AccountBalanceUpdate, Unsolicited=1)
            assert balance.CashBalance == 100_000 - 2.0  # the fees


async def test_a_round_trip_moves_cash_by_exactly_its_profit_less_fees(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(order("in", BUY, MARKET, 3), order("out", SELL, MARKET, 3))
        bought = (await path(client, "in", FILLED))[-1].AverageFillPrice
        sold = (await path(client, "out", FILLED))[-1].AverageFillPrice
        balance = await client.of(dtc.AccountBalanceUpdate)
        assert balance.CashBalance == pytest.approx(100_000 + (sold - bought) * 50 * 3 - 6.0)
        assert balance.OpenPositionsProfitLoss == 0
        answers = await client.batch(dtc.CurrentPositionsRequest(RequestID=9, TradeAccount="Sim1"), dtc.PositionUpdate)
        assert answers[0].NoPositions == 1


async def test_limit_replace_and_cancel(serving):
    async with serving() as running:
        client = await running.connect()
        bid, _ = await touch(client)
        client.send(order("a", BUY, LIMIT, 2, bid - 5))
        working = (await path(client, "a", OPEN))[-1]
        client.send(dtc.CancelReplaceOrder(
            ServerOrderID=working.ServerOrderID, ClientOrderID="a", Price1=bid - 6, Quantity=3, Price2IsSet=0,
            TradeAccount="Sim1",
        ))  # fmt: skip
        replaced = await client.of(dtc.OrderUpdate, OrderUpdateReason=7)
        assert (replaced.Price1, replaced.OrderQuantity, replaced.OrderStatus) == (bid - 6, 3, OPEN)
        client.send(dtc.CancelOrder(ServerOrderID=replaced.ServerOrderID, ClientOrderID="a", TradeAccount="Sim1"))
        assert (await client.of(dtc.OrderUpdate, OrderStatus=CANCELED)).OrderUpdateReason == 6
        client.send(dtc.CancelOrder(ServerOrderID=replaced.ServerOrderID, ClientOrderID="a", TradeAccount="Sim1"))
        late = await client.of(dtc.OrderUpdate, OrderUpdateReason=9)
        assert late.OrderStatus == CANCELED


async def test_a_replace_may_rename_the_order(serving):
    async with serving(new_order_id_on_replace=True) as running:
        client = await running.connect()
        bid, _ = await touch(client)
        client.send(order("a", BUY, LIMIT, 2, bid - 5))
        old = (await path(client, "a", OPEN))[-1].ServerOrderID
        change = dtc.CancelReplaceOrder(ServerOrderID=old, ClientOrderID="a", Quantity=1, Price1IsSet=0, Price2IsSet=0)
        client.send(change)
        replaced = await client.of(dtc.OrderUpdate, OrderUpdateReason=7)
        assert replaced.PreviousServerOrderID == old
        assert replaced.ServerOrderID != old
        assert replaced.Price1 == bid - 5
        client.send(change)
        refused = await client.of(dtc.OrderUpdate, OrderUpdateReason=10)
        assert (refused.ServerOrderID, refused.OrderStatus) == (old, REJECTED)  # no order has this number any more
        client.send(dtc.CancelOrder(ServerOrderID=replaced.ServerOrderID, TradeAccount="Sim1"))
        await client.of(dtc.OrderUpdate, OrderStatus=CANCELED)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (order("x", quantity=0.5), "whole number"),
        (order("x", quantity=float("nan")), "whole number"),
        (order("x", quantity=1e308), "whole number"),
        (order("x", kind=LIMIT, price=6000.1), "multiple of the tick size"),
        (order("x", kind=LIMIT, price=dtc.UNSET_F64), "Price1 is missing"),
        (order("x", kind=STOP_LIMIT, price=6000.0), "Price2 is missing"),
        (order("x", kind=5, price=6000.0), "order type 5"),
        (order("x", kind=6, price=6000.0), "order type 6"),
        (order("x", kind=7, price=6000.0), "order type 7"),
        (order("x", side=0), "BuySell"),
        (order("x", TimeInForce=5), "time in force 5"),
        (order("x", TimeInForce=3), "time in force 3"),
        (order("x", Symbol="NQZ26_FUT_CME"), "not traded here"),
        (order("x", TradeAccount="12345"), "Simulation Mode is on"),
        (order(""), "ClientOrderID is missing"),
    ],
)
async def test_a_bad_order_is_rejected_with_a_reason(serving, message, words):
    async with serving() as running:
        client = await running.connect()
        client.send(message)
        update = await client.next()
        assert (update.OrderStatus, update.OrderUpdateReason) == (REJECTED, 8)
        assert update.ClientOrderID == message.ClientOrderID
        assert words in update.InfoText


async def test_a_client_order_id_is_accepted_only_once(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(order("a"), order("a"), pair("b", "b", SELL, (6100, 5900)), pair("c", "a", SELL, (6100, 5900)))
        await path(client, "a", FILLED)
        rejected = await client.of(dtc.OrderUpdate, ClientOrderID="a", OrderStatus=REJECTED)
        assert "used already" in rejected.InfoText
        await client.of(dtc.OrderUpdate, ClientOrderID="b", OrderStatus=REJECTED)
        await client.of(dtc.OrderUpdate, ClientOrderID="c", OrderStatus=REJECTED)
        assert running.server.exchange.position() == 1


async def test_a_partial_fill_is_told_and_the_rest_works_on(serving):
    async with serving() as running:
        client = await running.connect()
        _, ask = await touch(client)
        client.send(order("big", BUY, LIMIT, 2_000, ask))
        partial = await client.of(dtc.OrderUpdate, ClientOrderID="big", OrderUpdateReason=5)
        assert partial.OrderStatus == 10
        assert 0 < partial.FilledQuantity < 2_000
        assert partial.RemainingQuantity == 2_000 - partial.FilledQuantity
        client.send(order("sell", SELL, MARKET, partial.RemainingQuantity))
        assert (await path(client, "big", FILLED))[-1].FilledQuantity == 2_000


async def test_an_oco_pair_fills_once(serving):
    async with serving() as running:
        client = await running.connect()
        _, ask = await touch(client)
        client.send(pair("limit", "stop", BUY, (ask, ask + 50)))
        filled = (await path(client, "limit", FILLED))[-1]
        canceled = await client.of(dtc.OrderUpdate, ClientOrderID="stop", OrderStatus=CANCELED)
        assert filled.OCOLinkedOrderServerOrderID == canceled.ServerOrderID


@pytest.mark.parametrize("use_offsets", [0, 1])
async def test_a_bracket_is_held_armed_and_closed_by_replacing_its_target(serving, use_offsets):
    async with serving() as running:
        client = await running.connect()
        bid, ask = await touch(client)
        prices = (0.0, 0.0) if use_offsets else (ask + 10, ask - 10)
        bracket = pair(
            "target", "stop", SELL, prices, 2, ParentTriggerClientOrderID="entry", UseOffsets=use_offsets,
            OffsetFromParent1=10.0, OffsetFromParent2=10.0,
        )  # fmt: skip
        client.send(order("entry", BUY, LIMIT, 2, ask + 1, IsParentOrder=1), bracket)
        entry = (await path(client, "entry", FILLED))[-1]
        target = (await path(client, "target", OPEN))[-1]
        stop = (await path(client, "stop", OPEN))[-1]
        assert 3 in {u.OrderStatus for u in client.seen if isinstance(u, dtc.OrderUpdate) and u.ClientOrderID == "stop"}
        assert target.ParentServerOrderID == stop.ParentServerOrderID == entry.ServerOrderID
        if use_offsets:
            fill = round(entry.AverageFillPrice * 4) / 4
            assert (target.Price1, stop.Price1) == (fill + 10, fill - 10)
        client.send(dtc.CancelReplaceOrder(
            ServerOrderID=target.ServerOrderID, ClientOrderID="target", Price1=bid - 5, Price2IsSet=0,
            TradeAccount="Sim1",
        ))  # fmt: skip
        assert (await path(client, "target", FILLED))[-1].FilledQuantity == 2
        await client.of(dtc.OrderUpdate, ClientOrderID="stop", OrderStatus=CANCELED)
        assert running.server.exchange.position() == 0


async def test_a_bracket_needs_a_parent_that_waits_for_it(serving):
    async with serving() as running:
        client = await running.connect()
        client.send(pair("t", "s", SELL, (6100, 5900), ParentTriggerClientOrderID="nobody"))
        assert "not known" in (await client.next()).InfoText
        client.send(order("plain"), pair("t2", "s2", SELL, (6100, 5900), ParentTriggerClientOrderID="plain"))
        rejected = await client.of(dtc.OrderUpdate, ClientOrderID="t2")
        assert "not submitted as a parent" in rejected.InfoText
        brackets = [pair(f"t{n}", f"s{n}", SELL, (6100, 5900), ParentTriggerClientOrderID="p") for n in (3, 4)]
        client.send(order("p", IsParentOrder=1), *brackets)
        assert "has a bracket already" in (await client.of(dtc.OrderUpdate, ClientOrderID="t4")).InfoText
        client.send(order("q", IsParentOrder=1))
        parent = await client.of(dtc.OrderUpdate, ClientOrderID="q")
        client.send(
            dtc.CancelOrder(ServerOrderID=parent.ServerOrderID, TradeAccount="Sim1"),
            pair("t5", "s5", SELL, (6100, 5900), ParentTriggerClientOrderID="q"),
        )
        assert "has ended" in (await client.of(dtc.OrderUpdate, ClientOrderID="t5")).InfoText


async def test_a_parent_is_acknowledged_and_held_until_its_bracket_has_come_also_after_a_refused_one(serving):
    async with serving() as running:
        client = await running.connect()
        _, ask = await touch(client)
        client.send(order("entry", BUY, LIMIT, 1, ask + 1, IsParentOrder=1))
        held = await client.of(dtc.OrderUpdate)
        assert (held.ClientOrderID, held.OrderStatus, held.OrderUpdateReason) == ("entry", 2, 2)
        client.send(pair("t", "s", SELL, (ask + 10.1, ask - 10), ParentTriggerClientOrderID="entry"))
        assert "tick size" in (await client.of(dtc.OrderUpdate, ClientOrderID="s", OrderStatus=REJECTED)).InfoText
        request = dtc.OpenOrdersRequest(RequestID=1)
        [listed] = await client.batch(request, dtc.OrderUpdate, "TotalNumMessages")
        assert (listed.ClientOrderID, listed.OrderStatus, listed.FilledQuantity) == ("entry", 2, 0)
        client.send(pair("t2", "s2", SELL, (ask + 10, ask - 10), ParentTriggerClientOrderID="entry"))
        assert (await path(client, "entry", FILLED))[-1].FilledQuantity == 1
        await path(client, "s2", OPEN)


async def test_a_stop_fires_when_the_market_trades_there(serving):
    async with serving(speed=200) as running:
        client = await running.connect()
        bid, _ = await touch(client)
        client.send(order("stop", SELL, STOP, 1, bid - 0.5), order("stop2", BUY, STOP, 1, bid + 0.75))
        first = await client.of(dtc.OrderUpdate, OrderStatus=FILLED)
        assert (first.LastFillPrice - bid) * (1 if first.BuySell == BUY else -1) >= 0.25


async def test_flatten_closes_the_position_and_leaves_working_orders(serving):
    async with serving() as running:
        client = await running.connect()
        bid, _ = await touch(client)
        flatten = dtc.SubmitFlattenPositionOrder(Symbol=SYMBOL, TradeAccount="Sim1", ClientOrderID="f0")
        client.send(flatten)
        assert "no position" in (await client.of(dtc.OrderUpdate)).InfoText
        client.send(order("a", SELL, MARKET, 4), order("rest", BUY, LIMIT, 1, bid - 20))
        await path(client, "rest", OPEN)
        flatten.ClientOrderID = "f1"
        client.send(flatten)
        update = (await path(client, "f1", FILLED))[-1]
        assert (update.BuySell, update.FilledQuantity) == (BUY, 4)
        assert [o.client_id for o in running.server.exchange.main.engine.alive.values()] == ["rest"]


async def test_orders_meet_the_market_and_the_market_shows_them(serving):
    async with serving() as running:
        client = await running.connect(integer_1=ALL_FLAGS)
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL), order("a", BUY, MARKET, 400))
        await path(client, "a", FILLED)
        fills = [m for m in client.seen if isinstance(m, dtc.OrderUpdate) and m.OrderUpdateReason in {4, 5}]
        printed = [await client.of(dtc.MarketDataUpdateTradeWithUnbundledIndicator2) for _ in fills]
        shown = [
            (m.Price, m.Volume) for m in client.seen if isinstance(m, dtc.MarketDataUpdateTradeWithUnbundledIndicator2)
        ]
        assert set(shown) >= {(f.LastFillPrice, f.LastFillQuantity) for f in fills}
        assert printed


# Queries


async def test_answers_come_in_numbered_batches(serving):
    async with serving() as running:
        client = await running.connect()
        bid, _ = await touch(client)
        none = await client.batch(dtc.OpenOrdersRequest(RequestID=1), dtc.OrderUpdate, "TotalNumMessages")
        assert [(m.NoOrders, m.MessageNumber, m.TotalNumMessages) for m in none] == [(1, 1, 1)]
        none = await client.batch(
            dtc.HistoricalOrderFillsRequest(RequestID=2, TradeAccount="Sim1", NumberOfDays=90),
            dtc.HistoricalOrderFillResponse,
        )
        assert none[0].NoOrderFills == 1
        client.send(*(order(f"o{i}", BUY, LIMIT, 1, bid - 5 - i) for i in range(3)), order("m1"), order("m2"))
        filled = [(await path(client, name, FILLED))[-1] for name in ("m1", "m2")]
        orders = await client.batch(dtc.OpenOrdersRequest(RequestID=3), dtc.OrderUpdate, "TotalNumMessages")
        assert [(m.ClientOrderID, m.MessageNumber, m.TotalNumMessages) for m in orders] == [
            ("o0", 1, 3), ("o1", 2, 3), ("o2", 3, 3),
        ]  # fmt: skip
        one = dtc.OpenOrdersRequest(RequestID=4, RequestAllOrders=0, ServerOrderID=orders[1].ServerOrderID)
        assert [m.ClientOrderID for m in await client.batch(one, dtc.OrderUpdate, "TotalNumMessages")] == ["o1"]
        request = dtc.HistoricalOrderFillsRequest(RequestID=5, TradeAccount="Sim1", NumberOfDays=90)
        fills = await client.batch(request, dtc.HistoricalOrderFillResponse)
        assert [(f.UniqueExecutionID, f.Price, f.ServerOrderID) for f in fills] == [
            (f.LastFillExecutionID, f.LastFillPrice, f.ServerOrderID) for f in filled
        ]
        assert [(f.MessageNumber, f.TotalNumberMessages, f.NoOrderFills) for f in fills] == [(1, 2, 0), (2, 2, 0)]
        request.StartDateTime = fills[-1].DateTime + 3600
        assert (await client.batch(request, dtc.HistoricalOrderFillResponse))[0].NoOrderFills == 1
        positions = await client.batch(dtc.CurrentPositionsRequest(RequestID=7), dtc.PositionUpdate)
        assert [(p.Quantity, p.Unsolicited) for p in positions] == [(2, 0)]
        balances = await client.batch(
            dtc.AccountBalanceRequest(RequestID=8, TradeAccount="Sim1"), dtc.AccountBalanceUpdate
        )
        assert [(b.CashBalance, b.AccountCurrency, b.Unsolicited) for b in balances] == [(99_998.0, "USD", 0)]
        accounts = await client.batch(dtc.TradeAccountsRequest(RequestID=10), dtc.TradeAccountResponse)
        assert [(a.TradeAccount, a.TradingIsDisabled) for a in accounts] == [("Sim1", 0)]


# Bad input


def nonsense(seed: int) -> bytes:
    """Messages of every kind with random contents, now and then a stream that is no DTC at all."""
    rng = random.Random(seed)
    out = [encode(dtc.LogonRequest())] if rng.random() < 0.8 else []
    for _ in range(rng.randrange(1, 30)):
        kind = rng.choice([*dtc.MESSAGES, 9999, 101, 102, 201, 203, 204, 208, 209, 300, 303])
        body = rng.randbytes(rng.randrange(400)) if rng.random() < 0.7 else bytes(rng.randrange(400))
        out.append(struct.pack("<HH", len(body) + 4, kind) + body)
    if rng.random() < 0.3:
        out.append(rng.randbytes(50))
    return b"".join(out)


async def test_nonsense_never_gets_past_the_door(serving):
    problems = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with serving(speed=20) as running:
        witness = await running.connect()
        for seed in range(150):
            client = await running.connect(logon=False)
            client.writer.write(nonsense(seed))
            client.writer.write_eof()
            await client.end()
            await client.close()
        witness.send(order("still-here"))
        await path(witness, "still-here", FILLED)
        assert not problems
        assert running.server._failure is None


async def test_a_stream_that_is_not_dtc_is_closed_with_a_reason(serving):
    async with serving() as running:
        for garbage in (b"\x00" * 64, b'{"Type":1}\0', b"GET / HTTP/1.1\r\n\r\n" * 4000):
            client = await running.connect(logon=False)
            client.writer.write(garbage)
            client.writer.write_eof()
            assert all(isinstance(m, dtc.Logoff) for m in await client.end())
        assert await running.connect()


async def test_unknown_messages_are_skipped_until_there_are_too_many(serving):
    async with serving() as running:
        client = await running.connect()
        client.writer.write(struct.pack("<HH4x", 8, 4242) * 10)
        client.send(dtc.TradeAccountsRequest(RequestID=1))
        await client.of(dtc.TradeAccountResponse)
        client.writer.write(struct.pack("<HH4x", 8, 4242) * 1_000)
        assert "no sense" in (await client.end())[-1].Reason


async def test_a_client_that_does_not_read_is_cut_off(serving, eventually, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_BUFFER", 100_000)
    async with serving(speed=2_000) as running:
        slow = await running.connect(integer_1=ALL_FLAGS, receive_buffer=4096)
        slow.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL), dtc.MarketDepthRequest(SymbolID=1, Symbol=SYMBOL))
        await eventually(lambda: running.server.dropped)
        assert "does not read" in running.server.dropped[0]


async def test_only_so_many_clients(serving, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 2)
    async with serving() as running:
        await running.connect()
        await running.connect()
        third = await running.connect(logon=False)
        assert "2 clients" in (await third.end())[-1].Reason


# Pace


async def test_exchange_time_runs_at_the_stated_speed(serving, eventually):
    async with serving(speed=50) as running:
        clock, exchange = running.server._clock, running.server.exchange
        await running.connect()
        wall, simulated = clock.monotonic_ns(), exchange.now_ns
        await eventually(lambda: clock.monotonic_ns() > wall + 400_000_000)
        ratio = (exchange.now_ns - simulated) / (clock.monotonic_ns() - wall)
        assert 40 < ratio < 60


async def test_too_fast_a_pace_slips_and_is_said_once(serving, eventually, caplog):
    def said() -> int:
        return sum("falls behind" in record.message for record in caplog.records)

    async with serving(speed=1_000_000) as running:
        client = await running.connect(integer_1=ALL_FLAGS)
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL))
        quote = dtc.MarketDataUpdateBidAskFloatWithMicroseconds
        stamps = [(await client.of(quote)).DateTime for _ in range(1_000)]
        await eventually(said)
        stamps += [(await client.of(quote)).DateTime for _ in range(5_000)]
        assert all(a <= b for a, b in pairwise(stamps))
        assert said() == 1


async def test_a_new_session_is_announced_and_day_orders_end(serving):
    async with serving(speed=20_000, events_per_s=0.05, start_date="2026-11-06") as running:
        client = await running.connect(integer_1=ALL_FLAGS)
        bid, _ = await touch(client)
        client.send(
            dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL),
            order("day", BUY, LIMIT, 1, bid - 100),
            order("gtc", BUY, LIMIT, 1, bid - 100, TimeInForce=2),
        )
        assert "end of the session" in (await client.of(dtc.OrderUpdate, OrderStatus=CANCELED)).InfoText
        session = await client.of(dtc.MarketDataUpdateTradingSessionDate)
        assert datetime.fromtimestamp(session.Date, UTC).strftime("%a %Y-%m-%d") == "Mon 2026-11-09"
        assert (await client.of(dtc.TradingSymbolStatus)).Status == 2
        assert [o.client_id for o in running.server.exchange.main.engine.alive.values()] == ["gtc"]


# The record


async def test_the_record_tells_the_whole_story_in_order(serving, tmp_path: Path):
    async with serving() as running:
        client = await running.connect()
        bid, _ = await touch(client)
        client.send(order("a", BUY, MARKET, 2), order("b", BUY, LIMIT, 1, bid - 5), order("a"))
        server_id = (await path(client, "b", OPEN))[-1].ServerOrderID
        client.send(dtc.CancelOrder(ServerOrderID=server_id, ClientOrderID="b", TradeAccount="Sim1"))
        await path(client, "b", CANCELED)
    lines = [json.loads(line) for line in (tmp_path / "orders.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [(line["kind"], line.get("ClientOrderID")) for line in lines] == [
        ("received", "a"), ("fill", "a"), ("received", "b"), ("received", "a"), ("reject", "a"), ("received", "b"),
        ("cancel", "b"),
    ]  # fmt: skip
