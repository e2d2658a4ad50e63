"""The market beside the traded one: it moves with it, shows prices, and is not traded."""

from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.products.instruments import companion, instrument
from mia_daemon.products.trading_calendar import equity_hours
from mia_daemon.simulator import hours
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import SimulatedMarket
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.reference_market import ReferenceMarket
from mia_daemon.simulator.tape import QuoteEvent, SymbolEvents, TradeEvent

TRADED, OTHER = "ESZ26_FUT_CME", "NQZ26_FUT_CME"
ES, NQ = instrument(TRADED), instrument(OTHER)
S = 1_000_000_000


@pytest.fixture(scope="module")
def tape(calendar):
    """Half an hour of the traded market."""
    market = SimulatedMarket(
        MatchingEngine(), TradingHours(calendar), 7, hours.start_ns(date(2026, 11, 3), equity_hours()), 24_000.0
    )
    return market.advance(market.now_ns + 1800 * S)


def reference(seed="7"):
    return ReferenceMarket(NQ, ES, seed)


def follow(market, events):
    """(symbol, event) of both markets."""
    return [(run.symbol, event) for run in market.follow(SymbolEvents(TRADED, events)) for event in run.events]


def shown(merged):
    return [event for symbol, event in merged if symbol == OTHER]


@pytest.mark.parametrize(
    ("symbol", "other"),
    [("ESZ26_FUT_CME", "NQZ26_FUT_CME"), ("MNQU21-CME", "MESU21-CME"), ("NQH7", "ESH7"), ("MESZ26", "MNQZ26")],
)
def test_the_companion_is_the_other_index_of_the_same_size_and_month(symbol, other):
    assert companion(instrument(symbol)) == other
    assert companion(instrument(other)) == symbol


def test_the_traded_markets_events_stay_as_they_are_and_time_runs_forward(tape):
    merged = follow(reference(), tape)
    assert [event for symbol, event in merged if symbol == TRADED] == tape
    stamps = [event.ts_ns for _, event in merged]
    assert stamps == sorted(stamps)


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 5000), max_size=5))
def test_however_the_events_are_cut_it_shows_the_same(tape, cuts):
    market, part = reference(), tape[:5000]
    bounds = [0, *sorted(cuts), len(part)]
    out = [event for a, b in pairwise(bounds) for event in follow(market, part[a:b])]
    assert out == follow(reference(), part)


def test_quotes_change_are_whole_and_trades_are_at_the_touch(tape):
    quote, trades, spreads = None, 0, set()
    for event in shown(follow(reference(), tape)):
        if isinstance(event, QuoteEvent):
            assert quote is None or (event.bid, event.ask) != (quote.bid, quote.ask)
            assert event.bid_quantity > 0 < event.ask_quantity
            spreads.add(event.ask - event.bid)
            quote = event
        else:
            assert event.price == (quote.ask if event.side > 0 else quote.bid)
            assert event.quantity > 0
            trades += 1
    assert spreads == {1, 2}
    assert 0.4 < trades / sum(isinstance(event, TradeEvent) for event in tape) < 0.8


def mids_each(seconds, quotes, until_ns):
    """The mid as it stood at the end of each interval."""
    stamps = np.array([quote.ts_ns for quote in quotes])
    mids = np.array([(quote.bid + quote.ask) / 2 for quote in quotes])
    grid = np.arange(stamps[0] + seconds * S, until_ns, seconds * S)
    return mids[np.searchsorted(stamps, grid, side="right") - 1]


def test_it_moves_with_the_traded_market_but_not_only(tape):
    merged = follow(reference(), tape)
    traded = mids_each(10, [event for event in tape if isinstance(event, QuoteEvent)], tape[-1].ts_ns)
    other = mids_each(10, [event for event in shown(merged) if isinstance(event, QuoteEvent)], tape[-1].ts_ns)
    n = min(len(traded), len(other))
    assert 0.7 < np.corrcoef(np.diff(traded[-n:]), np.diff(other[-n:]))[0, 1] < 0.999
    assert np.allclose(other[-n:] / traded[-n:], 3.6, rtol=0.01)


def test_it_goes_on_where_an_earlier_run_stood(tape):
    first = reference()
    *_, last = (event for event in shown(follow(first, tape[:20_000])) if isinstance(event, QuoteEvent))
    second = ReferenceMarket(NQ, ES, "7/2", first.state)
    following = next(event for event in shown(follow(second, tape[20_000:])) if isinstance(event, QuoteEvent))
    assert abs(following.bid - last.bid) <= 8


async def test_a_client_sees_it_under_its_own_number_and_can_not_trade_it(serving):
    async with serving(speed=60.0) as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=TRADED), dtc.MarketDataRequest(SymbolID=2, Symbol=OTHER))
        traded = await client.of(dtc.MarketDataSnapshot, SymbolID=1)
        other = await client.of(dtc.MarketDataSnapshot, SymbolID=2)
        assert other.BidPrice / traded.BidPrice == pytest.approx(3.6, rel=0.01)
        quote = await client.of(dtc.MarketDataUpdateBidAsk, SymbolID=2)
        assert 0 < quote.AskPrice - quote.BidPrice <= 0.5
        await client.of(dtc.MarketDataUpdateTrade, SymbolID=2)
        client.send(dtc.SecurityDefinitionForSymbolRequest(RequestID=7, Symbol=OTHER))
        assert (await client.of(dtc.SecurityDefinitionResponse, RequestID=7)).CurrencyValuePerIncrement == 5.0
        client.send(dtc.MarketDepthRequest(SymbolID=2, Symbol=OTHER))
        assert "unknown" in (await client.of(dtc.MarketDepthReject, SymbolID=2)).RejectText
        client.send(
            dtc.SubmitNewSingleOrder(
                Symbol=OTHER, TradeAccount="Sim1", ClientOrderID="a", OrderType=1, BuySell=1, Quantity=1.0
            )
        )
        assert "not traded" in (await client.of(dtc.OrderUpdate, ClientOrderID="a")).InfoText


async def test_a_client_that_unsubscribes_sees_no_more_of_it(serving):
    async with serving(speed=60.0) as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=1, Symbol=TRADED), dtc.MarketDataRequest(SymbolID=2, Symbol=OTHER))
        await client.of(dtc.MarketDataUpdateTrade, SymbolID=2)
        client.send(
            dtc.MarketDataRequest(RequestAction=2, SymbolID=2),
            dtc.SecurityDefinitionForSymbolRequest(RequestID=7, Symbol=OTHER),
        )
        await client.of(dtc.SecurityDefinitionResponse, RequestID=7)
        seen = [(await client.next()) for _ in range(500)]
        ids = {message.SymbolID for message in seen if hasattr(message, "SymbolID")}
        assert ids == {1}


async def test_without_it_the_symbol_is_unknown(serving):
    async with serving(reference=False) as running:
        client = await running.connect()
        client.send(dtc.MarketDataRequest(SymbolID=2, Symbol=OTHER))
        assert "unknown" in (await client.of(dtc.MarketDataReject, SymbolID=2)).RejectText
