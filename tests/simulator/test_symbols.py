"""Several tradable symbols at one server: a market, orders and positions for each, one balance for an account."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.errors import StartError
from mia_daemon.products.instruments import instrument
from mia_daemon.records import EventKind
from mia_daemon.simulator.played_market import PlayedRecording
from mia_daemon.simulator.run import Extras, open_server
from mia_daemon.simulator.tape import SessionValue, ValueKind

ES, NQ, MES = "ESZ26_FUT_CME", "NQZ26_FUT_CME", "MESZ26_FUT_CME"
BUY, SELL, MARKET, LIMIT = 1, 2, 1, 2
OPEN, FILLED, CANCELED, REJECTED = 4, 7, 8, 9
S = 1_000_000_000


@pytest.fixture
def exchange(make_exchange):
    return make_exchange(ES, NQ)


def order(symbol, client_id, side=BUY, kind=MARKET, quantity=1.0, price=0.0, **more):
    return dtc.SubmitNewSingleOrder(
        Symbol=symbol, TradeAccount="Sim1", ClientOrderID=client_id, OrderType=kind, BuySell=side, Quantity=quantity,
        Price1=price, TimeInForce=2, **more,
    )  # fmt: skip


def news(exchange, message, kind=dtc.OrderUpdate):
    """What every client is sent about a request."""
    return [m for m in exchange.handle(message).news if isinstance(m, kind)]


def answers(exchange, request):
    return exchange.handle(request).answers


def events_by_symbol(runs):
    """But for the volume, which is reported once in each step, however long it is."""
    out = defaultdict(list)
    for run in runs:
        out[run.symbol] += [event for event in run.events if not is_volume(event)]
    return out


def is_volume(event):
    return isinstance(event, SessionValue) and event.kind == ValueKind.VOLUME


def test_each_symbol_has_a_market_of_its_own_at_its_own_level(exchange):
    mids = {}
    for symbol in (ES, NQ):
        bid, _, ask, _ = exchange.touch(symbol)
        mids[symbol] = (bid + ask) / 2 * 0.25
    assert mids[ES] == pytest.approx(6000, rel=0.01)
    assert mids[NQ] == pytest.approx(3.6 * 6000, rel=0.01)
    moved = events_by_symbol(exchange.advance(exchange.now_ns + 20 * S).market)
    assert len(moved[ES]) > 100 < len(moved[NQ])


def test_the_first_symbols_market_is_the_one_that_it_would_have_alone(exchange, make_exchange, tmp_path):
    together = events_by_symbol(exchange.advance(exchange.now_ns + 20 * S).market)[ES]
    exchange.close()
    for file in tmp_path.iterdir():
        file.unlink()
    alone = make_exchange(ES)
    assert events_by_symbol(alone.advance(alone.now_ns + 20 * S).market)[ES] == together


def test_what_happens_in_several_markets_is_in_order_of_time(exchange):
    until = exchange.now_ns + 20 * S
    moved = exchange.advance(until).market
    stamps = [event.ts_ns for run in moved for event in run.events if not is_volume(event)]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= until
    assert {market.now_ns for market in exchange.markets.values()} == {until}


@settings(max_examples=15)
@given(cuts=st.lists(st.tuples(st.integers(1, 5 * S), st.one_of(st.none(), st.integers(1, 40))), max_size=6))
def test_however_time_is_cut_the_markets_do_the_same(cuts, tmp_path_factory, calendar, make_settings):
    def moved(steps):
        state = tmp_path_factory.mktemp("state")
        exchange = open_server(make_settings(symbols=[ES, NQ]), state, calendar=calendar).exchange
        end, out = exchange.now_ns + 20 * S, []
        for duration, most in [*steps, (20 * S, None)]:
            out += exchange.advance(min(exchange.now_ns + duration, end), most).market
            assert len({market.now_ns for market in exchange.markets.values()}) == 1
        exchange.close()
        return events_by_symbol(out)

    assert moved(cuts) == moved([])


def test_no_more_events_come_at_once_than_are_wanted(exchange):
    moved = exchange.advance(exchange.now_ns + 60 * S, 50).market
    stamps = [event.ts_ns for run in moved for event in run.events]
    assert 50 <= len(stamps) < 50 + 40  # what one action shows is not cut, and session values come on top
    assert exchange.now_ns == max(stamps)


def test_orders_and_positions_are_of_their_symbol_and_the_balance_is_one(exchange):
    es, nq = instrument(ES), instrument(NQ)
    filled = news(exchange, order(ES, "a", BUY, MARKET, 2))[-1]
    exchange.handle(order(NQ, "b", SELL, MARKET, 3))
    assert filled.Symbol == ES
    held = answers(exchange, dtc.CurrentPositionsRequest(RequestID=1))
    assert [(m.Symbol, m.Quantity, m.MessageNumber, m.TotalNumberMessages) for m in held] == [
        (ES, 2, 1, 2),
        (NQ, -3, 2, 2),
    ]
    [balance] = answers(exchange, dtc.AccountBalanceRequest(RequestID=2))
    assert balance.CashBalance == 100_000 - 2 * es.cost_per_side - 3 * nq.cost_per_side
    assert balance.OpenPositionsProfitLoss == sum(m.OpenProfitLoss for m in held)
    fills = answers(exchange, dtc.HistoricalOrderFillsRequest(RequestID=3, TradeAccount="Sim1", NumberOfDays=90))
    assert {m.Symbol for m in fills} == {ES, NQ}
    assert len({m.UniqueExecutionID for m in fills}) == len(fills)


@pytest.mark.parametrize("name", ["flatten", "é" * 15 + "x"])
def test_a_flatten_of_the_account_closes_every_symbol_with_an_order_each(exchange, name):
    exchange.handle(order(ES, "a", BUY, MARKET, 2))
    exchange.handle(order(NQ, "b", SELL, MARKET, 3))
    told = news(exchange, dtc.FlattenPositionsForTradeAccount(TradeAccount="Sim1", ClientOrderID=name))
    filled = {m.ClientOrderID: (m.Symbol, m.BuySell, m.FilledQuantity) for m in told if m.OrderStatus == FILLED}
    first, second = filled
    assert first == name
    assert second.endswith(".2")
    assert len(second.encode()) <= 31  # fits the field
    assert filled == {first: (ES, SELL, 2), second: (NQ, BUY, 3)}
    assert answers(exchange, dtc.CurrentPositionsRequest(RequestID=1))[0].NoPositions == 1


def test_a_fill_tells_the_position_of_its_symbol_only(exchange):
    exchange.handle(order(ES, "a"))
    positions = news(exchange, order(NQ, "b", BUY, MARKET, 2), dtc.PositionUpdate)
    assert [(m.Symbol, m.Quantity) for m in positions] == [(NQ, 2)]


def test_an_order_is_found_by_its_server_order_id_in_whichever_market_it_rests(exchange):
    placed = {}
    for symbol in (ES, NQ):
        bid, _, _, _ = exchange.touch(symbol)
        placed[symbol] = news(exchange, order(symbol, symbol, BUY, LIMIT, 1, (bid - 8) * 0.25))[-1].ServerOrderID
    assert placed[ES] != placed[NQ]
    listed = answers(exchange, dtc.OpenOrdersRequest(RequestID=1))
    assert {m.ServerOrderID: m.Symbol for m in listed} == {placed[ES]: ES, placed[NQ]: NQ}
    bid, _, _, _ = exchange.touch(NQ)
    change = dtc.CancelReplaceOrder(
        ServerOrderID=placed[NQ], TradeAccount="Sim1", Price1=(bid - 9) * 0.25, Price2IsSet=0
    )
    changed = news(exchange, change)[-1]
    assert (changed.Symbol, changed.Price1) == (NQ, (bid - 9) * 0.25)
    gone = news(exchange, dtc.CancelOrder(ServerOrderID=placed[NQ], TradeAccount="Sim1"))[-1]
    assert (gone.Symbol, gone.OrderStatus) == (NQ, CANCELED)


def test_a_bracket_is_of_its_parents_symbol(exchange):
    bid, _, _, _ = exchange.touch(ES)
    exchange.handle(order(ES, "entry", BUY, LIMIT, 1, (bid - 8) * 0.25, IsParentOrder=1))
    refused = news(exchange, dtc.SubmitNewOCOOrder(
        Symbol=NQ, TradeAccount="Sim1", TimeInForce=2, ParentTriggerClientOrderID="entry",
        ClientOrderID_1="t", OrderType_1=LIMIT, BuySell_1=SELL, Price1_1=21_700.0, Quantity_1=1,
        ClientOrderID_2="s", OrderType_2=3, BuySell_2=SELL, Price1_2=21_500.0, Quantity_2=1,
    ))  # fmt: skip
    assert [m.InfoText for m in refused] == ["parent order entry is not known"] * 2


def test_a_flatten_closes_the_position_of_its_symbol_only(exchange):
    exchange.handle(order(ES, "a", BUY, MARKET, 2))
    exchange.handle(order(NQ, "b", BUY, MARKET, 3))
    exchange.handle(dtc.SubmitFlattenPositionOrder(Symbol=NQ, TradeAccount="Sim1", ClientOrderID="f"))
    assert (exchange.position(symbol=ES), exchange.position(symbol=NQ)) == (2, 0)


def test_the_reference_market_is_there_only_for_a_symbol_that_is_not_traded(exchange, make_exchange):
    assert exchange.reference is None
    exchange.close()
    assert make_exchange(ES, NQ, MES).reference is None


def test_the_first_symbol_keeps_its_reference_market(make_exchange):
    exchange = make_exchange(ES, MES)
    assert exchange.reference.symbol == NQ
    assert NQ not in exchange.markets
    assert set(events_by_symbol(exchange.advance(exchange.now_ns + 10 * S).market)) == {ES, MES, NQ}


def test_markets_come_back_after_a_restart_and_a_new_symbol_is_added(make_exchange):
    exchange = make_exchange(ES, NQ)
    exchange.handle(order(NQ, "a", BUY, MARKET, 2))
    bid, _, _, _ = exchange.touch(NQ)
    exchange.handle(order(NQ, "w", BUY, LIMIT, 1, (bid - 8) * 0.25))
    exchange.advance(exchange.now_ns + 60 * S)
    last = {symbol: market.engine.last_price for symbol, market in exchange.markets.items()}
    exchange.close()
    again = make_exchange(NQ, MES, ES)
    assert {symbol: again.markets[symbol].engine.last_price for symbol in (ES, NQ)} == last
    assert again.position(symbol=NQ) == 2
    assert [order_.client_id for order_ in again.markets[NQ].engine.alive.values()] == ["w"]
    assert {market.now_ns for market in again.markets.values()} == {exchange.now_ns}


def test_a_state_with_more_symbols_than_are_named_is_refused(make_exchange):
    make_exchange(ES, NQ).close()
    with pytest.raises(StartError, match=f"holds the state of {ES}, {NQ} .*, not of {ES} "):
        make_exchange(ES)


def test_a_start_price_that_is_too_low_for_one_symbol_is_refused(make_exchange):
    with pytest.raises(StartError, match=f"start_price 300 is too low for {ES}: use at least 360"):
        make_exchange(NQ, ES, start_price=300.0)


def test_a_recording_is_played_for_one_symbol(tmp_path, calendar, make_settings):
    recording = PlayedRecording("r", 0, iter([]), has_depth=False)
    with pytest.raises(StartError, match=r"a recording is played for one symbol: leave simulator\.symbols"):
        open_server(make_settings(symbols=[ES, NQ]), tmp_path, calendar=calendar, extras=Extras(recording=recording))


async def test_a_client_trades_and_watches_both_symbols(serving):
    async with serving(speed=20, symbols=[ES, NQ]) as running:
        client = await running.connect()
        for symbol_id, symbol in ((1, ES), (2, NQ)):
            client.send(
                dtc.MarketDataRequest(SymbolID=symbol_id, Symbol=symbol),
                dtc.MarketDepthRequest(SymbolID=symbol_id, Symbol=symbol, NumLevels=3),
                dtc.SecurityDefinitionForSymbolRequest(RequestID=symbol_id, Symbol=symbol),
            )
            definition = await client.of(dtc.SecurityDefinitionResponse, RequestID=symbol_id)
            assert definition.CurrencyValuePerIncrement == instrument(symbol).tick_value
        levels = {1: 6_000.0, 2: 21_600.0}
        for symbol_id, price in levels.items():
            for kind in (dtc.MarketDataUpdateTrade, dtc.MarketDepthUpdateLevel):
                assert (await client.of(kind, SymbolID=symbol_id)).Price == pytest.approx(price, rel=0.02)
        for symbol in (ES, NQ):
            client.send(order(symbol, symbol))
            assert (await client.of(dtc.OrderUpdate, ClientOrderID=symbol, OrderStatus=FILLED)).Symbol == symbol


def test_the_markets_of_all_symbols_are_written_to_files(tmp_path, calendar, make_settings):
    class Taken:
        def __init__(self, symbol):
            self.symbol, self.kinds = symbol, set()

        def append(self, events):
            self.kinds |= set(events["kind"].tolist())
            self.prices = events["price"]

        def flush(self, now_ns=None):
            pass

        def close(self):
            pass

    files = {}
    server = open_server(
        make_settings(symbols=[ES, NQ], speed=20.0),
        tmp_path,
        calendar=calendar,
        extras=Extras(files=lambda symbol, _now: files.setdefault(symbol, Taken(symbol))),
    )
    server._tell(server.exchange.advance(server.exchange.now_ns + 60 * S))
    server.exchange.close()
    assert [(symbol, taken.kinds) for symbol, taken in files.items()] == [
        (symbol, {int(EventKind.TRADE), int(EventKind.DEPTH)}) for symbol in (ES, NQ)
    ]
    assert files[ES].prices.max() < 7_000 < files[NQ].prices.min()
