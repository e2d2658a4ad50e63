"""A server whose prices are not the displayed ones: messages have the displayed prices divided by the multiplier."""

import asyncio
import random
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sierra_session import Desk, Session, bracket

from mia_daemon.clock import WallClock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.feed.dtc_feed import DtcFeed
from mia_daemon.feed.sierra_writer import SierraWriter
from mia_daemon.products.instruments import instrument
from mia_daemon.records import OrderReport, OrderStatus, Side
from mia_daemon.simulator.native_prices import native_instrument
from mia_daemon.simulator.order_messages import Refused, ticks
from mia_daemon.simulator.run import Extras, open_server

SYMBOL = "ESZ26_FUT_CME"
ES = instrument(SYMBOL)
HUNDREDTH = 0.009999999776482582
"""0.01 as a float32: as a live definition of ES has it."""

BUY, SELL, MARKET, LIMIT = 1, 2, 1, 2
MULTIPLIERS = st.sampled_from([1e-4, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0])


def order(client_id, side=BUY, kind=MARKET, quantity=1.0, price=0.0):
    return dtc.SubmitNewSingleOrder(
        Symbol=SYMBOL, TradeAccount="Sim1", ClientOrderID=client_id, OrderType=kind, BuySell=side, Quantity=quantity,
        Price1=price, TimeInForce=2,
    )  # fmt: skip


def test_a_displayed_price_of_4000_50_is_400050_at_a_multiplier_of_a_hundredth():
    native = native_instrument(ES, 0.01)
    assert 4000.50 / 0.25 * native.tick_size == 400_050
    assert native.multiplier == HUNDREDTH
    assert (native.tick_value, native.display_tick_size) == (12.5, 0.25)


@given(count=st.integers(400, 200_000), multiplier=MULTIPLIERS)
def test_a_client_may_divide_by_the_multiplier_or_by_its_float32(count, multiplier):
    native = native_instrument(ES, multiplier)
    displayed = count * 0.25
    exact = float(Decimal(str(displayed)) / Decimal(str(multiplier)))
    for price in (exact, displayed / multiplier, displayed / native.multiplier):
        assert ticks(price, native, "Price1") == count


@given(count=st.integers(400, 200_000), off=st.floats(0.01, 0.5), multiplier=MULTIPLIERS)
def test_a_price_between_two_ticks_is_refused_at_every_multiplier(count, off, multiplier):
    native = native_instrument(ES, multiplier)
    with pytest.raises(Refused, match="is not a multiple of the tick size"):
        ticks((count + off) * native.tick_size, native, "Price1")


def test_without_a_multiplier_no_more_than_a_doubles_rounding_is_forgiven():
    native = native_instrument(ES, 1.0)
    assert (native.tick_size, native.rounding) == (0.25, 0.0)
    with pytest.raises(Refused):
        ticks(6000.000001, native, "Price1")


async def test_the_definition_has_the_multiplier_and_the_displayed_tick(serving):
    async with serving(display_multiplier=0.01) as running:
        client = await running.connect()
        for symbol, value in ((SYMBOL, 12.5), ("NQZ26_FUT_CME", 5.0)):
            client.send(dtc.SecurityDefinitionForSymbolRequest(RequestID=1, Symbol=symbol))
            definition = await client.of(dtc.SecurityDefinitionResponse)
            assert definition.DisplayPriceMultiplier == HUNDREDTH
            assert (definition.MinPriceIncrement, definition.CurrencyValuePerIncrement) == (0.25, value)
            assert definition.ContractSize == value / 0.25


async def test_market_data_of_all_symbols_is_in_native_prices(serving):
    async with serving(speed=30, display_multiplier=0.01) as running:
        client = await running.connect(integer_1=0x800)
        for symbol_id, symbol, level in ((1, SYMBOL, 600_000.0), (2, "NQZ26_FUT_CME", 2_160_000.0)):
            client.send(dtc.MarketDataRequest(SymbolID=symbol_id, Symbol=symbol))
            snapshot = await client.of(dtc.MarketDataSnapshot, SymbolID=symbol_id)
            assert snapshot.BidPrice == pytest.approx(level, rel=0.02)
            assert (snapshot.AskPrice - snapshot.BidPrice) % 25 == 0
            for kind, names in (
                (dtc.MarketDataUpdateBidAsk, ("BidPrice", "AskPrice")),
                (dtc.MarketDataUpdateTrade, ("Price",)),
            ):
                update = await client.of(kind, SymbolID=symbol_id)
                for name in names:
                    price = getattr(update, name)
                    assert price == pytest.approx(level, rel=0.02)
                    assert price % 25 == 0
        client.send(dtc.MarketDepthRequest(SymbolID=1, Symbol=SYMBOL))
        for kind in (dtc.MarketDepthSnapshotLevelFloat, dtc.MarketDepthUpdateLevel):
            assert (await client.of(kind)).Price == pytest.approx(600_000, rel=0.02)


async def test_orders_fills_and_positions_are_in_native_prices_and_money_is_not(serving):
    async with serving(display_multiplier=0.01) as running:
        client = await running.connect()
        client.send(order("a", BUY, MARKET, 2))
        filled = await client.of(dtc.OrderUpdate, OrderStatus=7)
        assert filled.LastFillPrice == filled.AverageFillPrice == pytest.approx(600_000, rel=0.02)
        assert filled.LastFillPrice % 25 == 0
        position = await client.of(dtc.PositionUpdate)
        assert position.AveragePrice == filled.AverageFillPrice
        [fill] = await client.batch(
            dtc.HistoricalOrderFillsRequest(RequestID=1, TradeAccount="Sim1", NumberOfDays=90),
            dtc.HistoricalOrderFillResponse,
        )
        assert fill.Price == filled.LastFillPrice
        limit = filled.LastFillPrice - 2_500
        client.send(order("b", BUY, LIMIT, 1, limit))
        working = await client.of(dtc.OrderUpdate, ClientOrderID="b", OrderStatus=4)
        assert working.Price1 == limit
        client.send(
            dtc.CancelReplaceOrder(
                ServerOrderID=working.ServerOrderID, Price1=limit - 25, Price2IsSet=0, TradeAccount="Sim1"
            )
        )
        assert (await client.of(dtc.OrderUpdate, OrderUpdateReason=7)).Price1 == limit - 25
        client.send(order("c", SELL, MARKET, 2))
        sold = await client.of(dtc.OrderUpdate, ClientOrderID="c", OrderStatus=7)
        balance = await client.of(dtc.AccountBalanceUpdate, OpenPositionsProfitLoss=0.0)
        profit = (sold.LastFillPrice - filled.LastFillPrice) * 0.01 * ES.point_value * 2
        assert balance.CashBalance == pytest.approx(100_000 + profit - 4 * ES.cost_per_side)


async def test_the_offsets_of_a_bracket_are_in_native_prices(serving):
    async with serving(display_multiplier=0.01) as running:
        client = await running.connect()
        entry = order("e", BUY, MARKET, 1)
        entry.IsParentOrder = 1
        client.send(entry, dtc.SubmitNewOCOOrder(
            Symbol=SYMBOL, TradeAccount="Sim1", TimeInForce=2, ParentTriggerClientOrderID="e", UseOffsets=1,
            ClientOrderID_1="t", OrderType_1=LIMIT, BuySell_1=SELL, OffsetFromParent1=1_000.0, Quantity_1=1,
            ClientOrderID_2="s", OrderType_2=3, BuySell_2=SELL, OffsetFromParent2=500.0, Quantity_2=1,
        ))  # fmt: skip
        filled = await client.of(dtc.OrderUpdate, ClientOrderID="e", OrderStatus=7)
        target = await client.of(dtc.OrderUpdate, ClientOrderID="t", OrderStatus=4)
        stop = await client.of(dtc.OrderUpdate, ClientOrderID="s", OrderStatus=4)
        assert (target.Price1, stop.Price1) == (filled.LastFillPrice + 1_000, filled.LastFillPrice - 500)


def test_files_have_displayed_prices(tmp_path, calendar, make_settings):
    rows = []

    class Noted(SierraWriter):
        def append(self, events):
            rows.append(events.copy())

    server = open_server(
        make_settings(display_multiplier=0.01),
        tmp_path / "state",
        calendar=calendar,
        extras=Extras(files=lambda symbol, now: Noted(tmp_path, symbol, now, 0.0)),
    )
    server._tell(server.exchange.advance(server.exchange.now_ns + 10_000_000_000))
    server.exchange.close()
    assert {round(float(price), -2) for part in rows for price in part["price"][1:]} == {6000.0}


# The daemon's own feed, broker and executor


async def test_the_daemons_feed_reads_prices_of_all_symbols_in_displayed_prices(serving):
    async with serving(speed=30, display_multiplier=0.01) as running:
        alerts = []
        feed = DtcFeed(
            DtcSettings(port=running.port),
            WallClock(),
            random.Random(1),
            alerts.append,
            symbol=SYMBOL,
            reference_symbol="NQZ26_FUT_CME",
            tick_sizes={0: ES.tick_size},
        )
        queue = asyncio.Queue()
        task = asyncio.create_task(feed.run(queue))
        parts, count = [], 0
        async with asyncio.timeout(20):
            while count < 2_000:
                parts.append((await queue.get()).events)
                count += len(parts[-1])
        feed.close()
        await task
        events = np.concatenate(parts)
        assert set(events["symbol"].tolist()) == {0, 1}
        for symbol, level in ((0, 6_000.0), (1, 21_600.0)):
            mine = events[events["symbol"] == symbol]
            for name in ("price", "bid", "ask"):
                prices = mine[name][np.isfinite(mine[name])]
                assert len(prices)
                assert (prices % 0.25 == 0.0).all()
                assert prices == pytest.approx(level, rel=0.02)
        assert [alert.code for alert in alerts] == ["prices_link_up"]


async def test_the_daemons_broker_reads_orders_fills_and_positions_in_displayed_prices(serving):
    async with serving(display_multiplier=0.01) as running:
        desk = Desk(running.port)
        await desk.broker.connect()
        _, _, ask, _ = running.server.exchange.main.touch()
        asked = bracket(ask * 0.25)
        desk.broker.submit_bracket(asked)
        await desk.sees("E", OrderStatus.FILLED)
        await desk.sees("S", OrderStatus.WORKING)
        assert [desk.last(name).price for name in ("S", "T")] == [asked.stop.price, asked.target.price]
        [true] = running.server.exchange.desk.fills
        [booked] = {fill.execution_id: fill for fill in desk.fills}.values()
        assert (booked.price, booked.quantity, booked.side) == (true.price * 0.25, 1, Side.BUY)
        moved = asked.target.price + 2.0
        desk.replace("T", moved)
        await desk.until(lambda: desk.last("T").price == moved)
        targets = {o.client_id: o.price1 * 0.25 for o in running.server.exchange.main.engine.alive.values()}
        assert targets == {"S": asked.stop.price, "T": moved}
        assert all(event.price < 10_000 for event in desk.of(OrderReport))
        await desk.broker.close()


async def test_a_session_of_the_executor_books_the_servers_fills_in_displayed_prices(make_rig, serving):
    async with serving(speed=2.0, display_multiplier=0.01) as running:
        session = Session(make_rig, running)
        session.server = running.server  # which has the market to be shown
        await session.ready()
        rig = session.rig
        assert rig.decide("buy", 1).allowed
        await session.until(lambda: rig.orders.protection(Side.SELL) == 1)
        rig.decide("exit", 0, "faded")
        await session.until(lambda: rig.notices.trades and rig.executor.settled and not len(rig.orders))
        exchange = running.server.exchange
        there = {fill.execution_id: (fill.price * 0.25, fill.quantity) for fill in exchange.desk.fills}
        assert {fill.execution_id: (fill.price, fill.quantity) for fill in rig.notices.fills} == there
        [trade] = rig.notices.trades
        assert exchange.accounts["Sim1"].cash == pytest.approx(100_000 + trade.profit)
        assert [alert.code for alert in rig.alerts] == []
        await session.desk.broker.close()


def test_an_order_below_zero_is_taken_where_the_product_trades_there():
    oil, index = (native_instrument(instrument(symbol), 0.01) for symbol in ("CLF27_FUT_CME", "ESZ26_FUT_CME"))
    assert ticks(-37.63 / 0.01, oil, "Price1") == -3763
    for price, native in [(0.0, oil), (-6000.25 / 0.01, index), (float("nan"), oil)]:
        with pytest.raises(Refused, match="Price1 is missing or no price"):
            ticks(price, native, "Price1")
