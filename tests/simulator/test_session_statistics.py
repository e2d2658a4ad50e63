"""The values of a session: what they are after any trades, and when clients are sent them."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import decode_frames
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.simulator.market_messages import Subscriptions, dialect, market_stream
from mia_daemon.simulator.session_messages import add_session, last_trade
from mia_daemon.simulator.session_statistics import SessionStatistics, session_date
from mia_daemon.simulator.tape import QuoteEvent, SessionEvent, SessionValue, TradeEvent, ValueKind

TICK = 0.25
S = 10**9


def ns(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


MORNING = ns("2026-11-03T15:00:00")
DATE = ns("2026-11-03T00:00:00") // S


def trade(price, quantity=1, ts_ns=MORNING):
    return TradeEvent(ts_ns, price, quantity, 1, 0)


def step(day, events):
    """What a step of the exchange shows: the changes, and the volume at its end."""
    shown, volume = day.follow(events), day.take_volume()
    return shown if volume is None else [*shown, volume]


def sent(events, symbol_id=7):
    """What a subscriber is sent for these events."""
    stream = market_stream(events, dialect(0, 1), Subscriptions(market=symbol_id), TICK)
    return list(decode_frames(FrameReader().feed(stream)))


TRADES = st.lists(st.builds(trade, st.integers(1, 20), st.integers(1, 9)), max_size=8)


@given(st.lists(st.one_of(TRADES, st.just([SessionEvent(MORNING)])), max_size=12))
def test_a_client_that_applies_every_change_has_the_sessions_values(batches):
    day = SessionStatistics()
    held, session = {}, []
    for batch in batches:
        events = step(day, batch)
        assert [e for e in events if not isinstance(e, SessionValue)] == batch
        for event in events:
            if isinstance(event, SessionEvent):
                session = []
            elif isinstance(event, TradeEvent):
                session.append(event)
            elif isinstance(event, SessionValue):
                assert (
                    event.kind in {ValueKind.VOLUME, ValueKind.OPEN_INTEREST}
                    or held.get(event.kind) != event.value
                    or (
                        len(session) <= 1  # a new session may open where the one before did
                    )
                )
                held[event.kind] = event.value
        if session:
            prices = [e.price for e in session]
            assert (held[ValueKind.OPEN], held[ValueKind.HIGH], held[ValueKind.LOW]) == (
                prices[0], max(prices), min(prices),
            )  # fmt: skip
        assert held.get(ValueKind.VOLUME, 0) == sum(e.quantity for e in session) == day.volume
        assert day.trades == len(session)


def test_the_volume_is_reported_once_for_all_trades_of_a_step():
    day = SessionStatistics()
    events = step(day, [trade(10), trade(11, 3), trade(10)])
    assert [e.value for e in events if isinstance(e, SessionValue) and e.kind == ValueKind.VOLUME] == [5]
    quote = QuoteEvent(MORNING, 9, 1, 10, 1)
    assert step(day, [quote]) == [quote]
    assert step(day, []) == []


def test_the_first_trade_opens_the_session_and_later_ones_move_high_and_low():
    day = SessionStatistics()
    first = sent(step(day, [trade(24_000)]))
    assert [type(m) for m in first] == [
        dtc.MarketDataUpdateTrade, dtc.MarketDataUpdateSessionOpen, dtc.MarketDataUpdateSessionHigh,
        dtc.MarketDataUpdateSessionLow, dtc.MarketDataUpdateSessionVolume,
    ]  # fmt: skip
    assert {m.SymbolID for m in first} == {7}
    assert [m.Price for m in first[:4]] == [6000.0] * 4
    assert first[4] == dtc.MarketDataUpdateSessionVolume(SymbolID=7, Volume=1.0, TradingSessionDate=DATE)
    higher = sent(step(day, [trade(24_001, 2)]))
    assert higher[1:] == [
        dtc.MarketDataUpdateSessionHigh(SymbolID=7, Price=6000.25, TradingSessionDate=DATE),
        dtc.MarketDataUpdateSessionVolume(SymbolID=7, Volume=3.0, TradingSessionDate=DATE),
    ]
    lower = sent(step(day, [trade(23_999)]))
    assert lower[1] == dtc.MarketDataUpdateSessionLow(SymbolID=7, Price=5999.75, TradingSessionDate=DATE)
    assert len(sent(step(day, [trade(24_000)]))) == 2  # the trade and the volume


def test_a_new_session_settles_the_one_before_at_its_last_trade():
    day = SessionStatistics()
    step(day, [trade(24_000), trade(24_010)])
    opens = ns("2026-11-03T23:00:00")
    begins = sent(step(day, [SessionEvent(opens)]))
    next_date = DATE + 86_400
    assert begins[:3] == [
        dtc.MarketDataUpdateTradingSessionDate(SymbolID=7, Date=next_date),
        dtc.TradingSymbolStatus(SymbolID=7, Status=2),
        dtc.MarketDataUpdateSessionSettlement(SymbolID=7, Price=6002.5, DateTime=MORNING // S),
    ]
    assert begins[3] == dtc.MarketDataUpdateOpenInterest(
        SymbolID=7, OpenInterest=day.open_interest(opens), TradingSessionDate=next_date
    )
    assert begins[4] == dtc.MarketDataUpdateSessionVolume(SymbolID=7, Volume=0.0, TradingSessionDate=next_date)
    assert len(begins) == 5


def test_the_snapshot_has_what_is_known_and_leaves_the_rest_unset():
    fresh = dtc.MarketDataSnapshot()
    add_session(fresh, SessionStatistics(simulated=False), MORNING, TICK)
    assert fresh == dtc.MarketDataSnapshot()
    day = SessionStatistics()
    step(day, [trade(23_000), SessionEvent(MORNING), trade(24_000, 2), trade(24_004)])
    snapshot = dtc.MarketDataSnapshot()
    add_session(snapshot, day, MORNING, TICK)
    assert snapshot == dtc.MarketDataSnapshot(
        SessionSettlementPrice=5750.0, SessionSettlementDateTime=MORNING // S, SessionOpenPrice=6000.0,
        SessionHighPrice=6001.0, SessionLowPrice=6000.0, SessionVolume=3.0, SessionNumTrades=2,
        OpenInterest=day.open_interest(MORNING), LastTradePrice=6001.0, LastTradeVolume=1.0,
        LastTradeDateTime=MORNING / S,
    )  # fmt: skip


def test_the_last_trade_is_told_as_a_snapshot_also_before_the_first_of_a_session():
    day = SessionStatistics()
    assert last_trade(7, day, TICK) == []
    step(day, [trade(24_000, 3), SessionEvent(MORNING)])
    assert last_trade(7, day, TICK) == [
        dtc.MarketDataUpdateLastTradeSnapshot(
            SymbolID=7, LastTradePrice=6000.0, LastTradeVolume=3.0, LastTradeDateTime=MORNING / S
        )
    ]


def test_open_interest_stays_for_a_session_and_is_unknown_in_a_recorded_market():
    day = SessionStatistics()
    assert day.open_interest(MORNING) == day.open_interest(MORNING + 5 * 3600 * S)
    assert day.open_interest(MORNING) != day.open_interest(MORNING + 24 * 3600 * S)
    assert SessionStatistics(simulated=False).open_interest(MORNING) is None


def test_a_session_is_of_the_day_it_closes_on_from_its_opening_to_its_close():
    summer, winter = ns("2026-07-01T00:00:00") // S, ns("2026-12-01T00:00:00") // S
    assert session_date(ns("2026-06-30T22:00:00")) == session_date(ns("2026-07-01T20:59:59")) == summer
    assert session_date(ns("2026-11-30T23:00:00")) == session_date(ns("2026-12-01T21:59:59")) == winter
