"""What the market looks like, measured."""

import statistics
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import StartError
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import equity_hours
from mia_daemon.records import OrderType, Regime
from mia_daemon.simulator import hours
from mia_daemon.simulator.client_order import NewOrder
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import LEVELS, SimulatedMarket, intraday_shape
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.regimes import CHARACTERS, FairValue
from mia_daemon.simulator.tape import DepthEvent, MarketEvent, QuoteEvent, SessionEvent, TradeEvent

START_NS = hours.start_ns(date(2026, 11, 3), equity_hours())


@pytest.fixture
def make_market(calendar) -> Callable[..., SimulatedMarket]:
    def make(seed: int = 7, ts_ns: int = START_NS, price: float = 24_000.0, **options) -> SimulatedMarket:
        return SimulatedMarket(MatchingEngine(), TradingHours(calendar), seed, ts_ns, price, **options)

    return make


def run(market: SimulatedMarket, seconds: float, step_s: float = 1.0) -> list[MarketEvent]:
    out: list[MarketEvent] = []
    start = market.now_ns
    steps = round(seconds / step_s)
    for i in range(1, steps + 1):
        out += market.advance(start + round(i * step_s * NS_PER_S))
    return out


SECONDS = 2_000


class Sample:
    """Half an hour of the market, looked at once a second."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.events: list[MarketEvent] = []
        self.mids: list[float] = []
        self.spreads: list[int] = []
        self.levels: list[int] = []
        self.fair: list[float] = []
        for _ in range(SECONDS):
            self.events += run(market, 1)
            book = market._engine.book
            self.mids.append((book.best_bid + book.best_ask) / 2)
            self.spreads.append(book.best_ask - book.best_bid)
            self.levels.append(min(len(book.bids), len(book.asks)))
            self.fair.append(market.fair.value)


@pytest.fixture(scope="module")
def sample(calendar) -> Sample:
    return Sample(SimulatedMarket(MatchingEngine(), TradingHours(calendar), 7, START_NS, 24_000.0))


def trades(events: list[MarketEvent]) -> list[TradeEvent]:
    return [e for e in events if isinstance(e, TradeEvent)]


def test_events_come_in_order_of_time_and_at_the_stated_rate(sample):
    stamps = [e.ts_ns for e in sample.events]
    assert stamps == sorted(stamps)
    assert 32 < len(stamps) / SECONDS < 48


def test_the_spread_is_mostly_one_tick(sample):
    shares = Counter(sample.spreads)
    assert shares[1] / SECONDS > 0.8
    assert min(shares) == 1


def test_at_least_ten_levels_on_each_side_always(sample):
    assert min(sample.levels) >= 10


def test_levels_near_the_touch_hold_tens_to_hundreds(sample):
    sizes = [e.quantity for e in sample.events if isinstance(e, DepthEvent) and e.quantity]
    assert 20 < statistics.median(sizes) < 300
    assert max(sizes) < 1500


def test_trade_sizes_are_heavy_tailed(sample):
    sizes = sorted(e.quantity for e in trades(sample.events))
    assert statistics.median(sizes) <= 3
    assert sizes[-1] > 60
    assert sum(sizes[-len(sizes) // 20 :]) > 0.3 * sum(sizes)


def test_bursts_reach_two_thousand_events_a_second_and_cluster(sample):
    windows = Counter(e.ts_ns // 50_000_000 for e in sample.events)
    assert 1_000 < max(windows.values()) * 20 < 5_000
    counts = Counter(e.ts_ns // NS_PER_S for e in sample.events)
    dispersion = statistics.variance(counts.values()) / statistics.mean(counts.values())
    assert dispersion > 3  # a Poisson process has 1


def test_prices_move_like_an_index_future(sample):
    moves = [b - a for a, b in pairwise(sample.mids[::60])]
    assert 2 < statistics.pstdev(moves) < 25  # ticks a minute


def test_order_flow_leads_price_modestly(sample):
    """The sign of ten seconds' aggression says something about the next ten seconds' move, and not too much."""
    start = sample.events[0].ts_ns
    windows = SECONDS // 10 - 2
    flow = [0] * (windows + 3)
    for trade in trades(sample.events):
        flow[(trade.ts_ns - start) // (10 * NS_PER_S)] += trade.side * trade.quantity
    moves = [sample.mids[i * 10 + 20] - sample.mids[i * 10 + 10] for i in range(windows)]
    assert 0.05 < statistics.correlation(flow[:windows], moves) < 0.5


def test_prices_follow_the_fair_value(sample):
    assert statistics.mean(abs(m - f) for m, f in zip(sample.mids, sample.fair, strict=True)) < 6


def test_quotes_and_depth_rebuild_the_book_exactly(make_market):
    market = make_market()
    book = {side: {p: q for p, q, _ in market._engine.book.depth(side)} for side in (BUY, SELL)}
    for event in run(market, 300):
        if isinstance(event, DepthEvent):
            assert (event.price in book[event.side]) != (event.is_new and event.quantity > 0)
            book[event.side][event.price] = event.quantity
            if not event.quantity:
                del book[event.side][event.price]
        elif isinstance(event, QuoteEvent):
            bid, ask = max(book[BUY]), min(book[SELL])
            assert event[1:] == (bid, book[BUY][bid], ask, book[SELL][ask])
    for side in (BUY, SELL):
        assert book[side] == {p: q for p, q, _ in market._engine.book.depth(side)}


def test_the_same_seed_gives_the_same_events_however_time_is_cut(make_market):
    whole = run(make_market(), 120, 120)
    assert run(make_market(), 120, 0.37)[: len(whole) - 500] == whole[: len(whole) - 500]
    assert run(make_market(), 120, 1) == whole
    limited, market = [], make_market()
    while market.now_ns < START_NS + 120 * NS_PER_S:
        limited += market.advance(START_NS + 120 * NS_PER_S, max_events=100)
    assert limited == whole
    assert run(make_market(8), 120, 120) != whole


def test_the_same_client_orders_give_the_same_events(make_market):
    def with_orders() -> list[MarketEvent]:
        market = make_market()
        events = run(market, 10)
        market._engine.submit(NewOrder("a", BUY, OrderType.MARKET, 500))
        events += market.collect()
        return events + run(market, 10)

    assert with_orders() == with_orders()


def test_a_client_that_takes_the_whole_side_leaves_a_book_behind(make_market):
    market = make_market()
    order = market._engine.submit(NewOrder("a", BUY, OrderType.MARKET, 9_999))
    events = market.collect()
    assert order.filled > 1_000
    book = market._engine.book
    assert min(len(book.bids), len(book.asks)) >= LEVELS
    assert isinstance(events[-1], QuoteEvent)
    assert run(market, 5)


def volatility(regime: Regime, make_market) -> tuple[float, float, float]:
    """(ticks per 10 s, mean spread, mean touch quantity) of ten minutes in one regime."""
    market = make_market(3)
    mids, spreads, sizes = [], [], []
    for i in range(600):
        market.fair._until_ns = 1 << 62
        if i == 0:
            market.fair._enter(regime, market.now_ns)
            market.fair._until_ns = 1 << 62
        run(market, 1)
        bid, bid_quantity, ask, ask_quantity = market._engine.book.touch()
        mids.append((bid + ask) / 2)
        spreads.append(ask - bid)
        sizes.append((bid_quantity + ask_quantity) / 2)
    moves = [b - a for a, b in zip(mids, mids[10:], strict=False)]
    return statistics.pstdev(moves), statistics.mean(spreads), statistics.mean(sizes)


def test_regimes_differ_as_their_names_say(make_market):
    calm, trending, defensive = (volatility(regime, make_market) for regime in Regime)
    assert defensive[0] > 1.8 * max(calm[0], trending[0])
    assert defensive[1] > 1.3 * max(calm[1], trending[1])
    assert defensive[2] < 0.6 * min(calm[2], trending[2])


def test_a_trend_goes_somewhere_and_a_range_comes_back(make_market):
    def travelled(regime: Regime) -> float:
        distances = []
        for seed in range(12):
            fair = make_market(seed, events_per_s=2.0).fair
            fair._enter(regime, START_NS)
            fair._until_ns = 1 << 62
            begin = fair.value
            for i in range(600):
                fair.advance(START_NS + i, 1.0)
            distances.append(abs(fair.value - begin))
        return statistics.mean(distances)

    assert travelled(Regime.TREND) > 3 * travelled(Regime.RANGE)


def test_the_path_of_regimes_is_recorded_and_lasts_minutes(make_market):
    fair: FairValue = make_market(events_per_s=2.0).fair
    for i in range(100_000):
        fair.advance(START_NS + i * NS_PER_S, 1.0)
    history = list(fair.history)
    assert all(a[0] <= b[0] and a[1] != b[1] for a, b in pairwise(history))
    for regime, character in CHARACTERS.items():
        stays = [(b[0] - a[0]) / NS_PER_S for a, b in pairwise(history) if a[1] == regime]
        assert statistics.mean(stays) == pytest.approx(character.dwell_s, rel=0.35)


def chicago(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns / NS_PER_S, UTC).astimezone(ZoneInfo("America/Chicago")).strftime("%a %d %H:%M")


def test_time_steps_over_the_daily_halt_and_the_weekend(make_market, calendar):
    friday = hours.start_ns(date(2026, 11, 6), equity_hours())
    market = make_market(ts_ns=friday, events_per_s=0.1)
    day_order = market._engine.submit(NewOrder("a", BUY, OrderType.LIMIT, 1, 23_000))
    clock = TradingHours(calendar)
    events, now = [], friday
    for _ in range(60):
        now = clock.add(now, 3600 * NS_PER_S)
        events += market.advance(now)
    opened = [chicago(e.ts_ns) for e in events if isinstance(e, SessionEvent)]
    assert opened == ["Sun 08 17:00", "Mon 09 17:00", "Tue 10 17:00"]
    assert all(calendar.is_open(e.ts_ns) for e in events)
    assert not day_order.alive


def test_a_session_of_an_hour_a_step_is_the_same_as_second_by_second(make_market, calendar):
    late = hours.start_ns(date(2026, 11, 6), equity_hours()) + (6 * 3600 + 3500) * NS_PER_S  # 15:58:20

    def events(step_s: float) -> list[MarketEvent]:
        market, clock = make_market(ts_ns=late, events_per_s=5.0), TradingHours(calendar)
        out, now = [], late
        for _ in range(round(300 / step_s)):
            now = clock.add(now, round(step_s * NS_PER_S))
            out += market.advance(now)
        return out

    assert events(300) == events(1) == events(50)


def test_a_fresh_simulation_starts_at_nine_on_a_trading_day_whatever_the_date(calendar):
    for today in (date(2026, 11, 22), date(2026, 1, 1)):
        day = hours.start_date(instrument("ESZ26_FUT_CME"), today)
        assert chicago(hours.start_ns(day, equity_hours())) == "Tue 03 09:00"
    assert calendar.is_regular(hours.start_ns(day, equity_hours()))


@pytest.mark.parametrize(
    ("symbol", "wanted"),
    [
        ("ESZ26_FUT_CME", date(2027, 11, 3)),  # expired
        ("ESZ26_FUT_CME", date(2026, 12, 18)),
        ("ESZ26_FUT_CME", date(1990, 11, 1)),  # before the calendar
        ("ESZ10_FUT_CME", None),
        ("ESZ40_FUT_CME", None),  # beyond it
    ],
)
def test_a_simulation_does_not_begin_where_nothing_trades(symbol, wanted):
    with pytest.raises(StartError, match=rf"^a simulation of {symbol} can't begin on .*simulator.start_date"):
        hours.first_day(wanted, instrument(symbol), date(2026, 11, 28))


def test_a_simulation_begins_where_it_is_told_to():
    assert hours.first_day(date(2026, 11, 20), instrument("ESZ26_FUT_CME"), date(2026, 11, 28)) == date(2026, 11, 20)


def test_the_day_has_a_shape_when_asked(calendar):
    clock = TradingHours(calendar)
    clock.enter(START_NS)
    activity = intraday_shape(clock)
    open_, noon, close, night = (activity(START_NS + int(h * 3600) * NS_PER_S) for h in (-0.4, 2.9, 6.2, -8))
    assert min(open_, close) > 1.5
    assert 0.7 > noon > night
