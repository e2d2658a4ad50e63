"""The touch is the last one that the traded instrument had, and time never goes back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.market import BETTER_SOURCE_NS, LastTouch, MarketState, MarketTrade, Touch, touch_of
from mia_daemon.records import EventFlag, EventKind, Side, empty_events

NAN = math.nan


def events_of(*rows):
    """Events (ts_ns, bid, ask[, symbol])."""
    events = empty_events(len(rows))
    for event, (ts_ns, bid, ask, *symbol) in zip(events, rows, strict=True):
        event["ts_ns"], event["bid"], event["ask"] = ts_ns, bid, ask
        event["symbol"] = symbol[0] if symbol else 0
        event["bid_size"], event["ask_size"] = 3, 5
    return events


@pytest.mark.parametrize(
    ("side", "far", "near", "size"), [(Side.BUY, 100.25, 100.0, 5.0), (Side.SELL, 100.0, 100.25, 3.0)]
)
def test_a_buyer_takes_the_ask_and_joins_the_bid_and_a_seller_the_other_way_round(side, far, near, size):
    touch = Touch(100.0, 100.25, 3.0, 5.0)
    assert (touch.far(side), touch.near(side), touch.far_size(side)) == (far, near, size)


@pytest.mark.parametrize(
    ("bid", "ask", "known"),
    [(100.0, 100.25, True), (100.0, 100.0, True), (100.5, 100.25, False), (NAN, 100.0, False), (100.0, NAN, False)],
)
def test_a_touch_is_known_with_two_sides_that_do_not_cross(bid, ask, known):
    assert Touch(bid, ask).known is known
    assert (touch_of(events_of((1, bid, ask))[0]) is not None) is known


def test_before_the_first_event_there_is_no_touch():
    market = MarketState()
    assert (market.now_ns, market.touch.known) == (0, False)


def touch_after(events):
    last = LastTouch()
    last.on_events(events)
    return last.touch


def test_the_last_event_that_carries_a_touch_of_our_instrument_counts():
    reference = 1
    events = events_of(
        (1, 99.0, 99.25), (2, 100.0, 100.25), (3, NAN, NAN), (4, 101.0, 100.0), (5, 18_000.0, 18_000.25, reference)
    )
    assert touch_after(events) == Touch(100.0, 100.25, 3.0, 5.0, 2)
    assert touch_after(events[:1]) == Touch(99.0, 99.25, 3.0, 5.0, 1)


@pytest.mark.parametrize("rows", [[], [(1, NAN, NAN)], [(1, 18_000.0, 18_000.25, 1)]])
def test_events_may_carry_no_touch_at_all(rows):
    assert not touch_after(events_of(*rows)).known


def told_by(*rows):
    """Events (kind, ts_ns, bid): the touch is a tick wide, trades sell one contract and know no sizes."""
    events = empty_events(len(rows))
    for event, (kind, ts_ns, bid) in zip(events, rows, strict=True):
        event["kind"], event["ts_ns"], event["bid"], event["ask"] = kind, ts_ns, bid, bid + 0.25
        if kind == EventKind.TRADE:
            event["price"], event["size"], event["side"] = bid, 1, -1
        else:
            event["bid_size"] = event["ask_size"] = 7
    return events


def test_the_book_tells_the_touch_and_a_trade_only_where_the_book_is_silent():
    trade, book = EventKind.TRADE, EventKind.DEPTH
    last = LastTouch()
    last.on_events(told_by((trade, 1, 100.0)))
    assert (last.touch.bid, last.trade) == (100.0, MarketTrade(100.0, 1.0, -1))
    last.on_events(told_by((book, 2, 101.0)))
    assert (last.touch.bid, last.touch.bid_size, last.trade) == (101.0, 7.0, None)
    last.on_events(told_by((trade, 3, 100.0)))
    assert (last.touch.bid, last.touch.ts_ns) == (101.0, 2)
    last.on_events(told_by((trade, 4, 101.0)))
    assert (last.touch.bid, last.touch.bid_size, last.touch.ts_ns) == (101.0, 7.0, 4)
    last.on_events(told_by((trade, 3 + BETTER_SOURCE_NS, 99.0)))
    assert (last.touch.bid, last.touch.bid_size) == (99.0, 0.0)
    last.on_events(told_by((book, 4 + BETTER_SOURCE_NS, 98.0)))
    assert (last.touch.bid, last.trade) == (98.0, None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([EventKind.TRADE, EventKind.TRADE, EventKind.DEPTH, EventKind.QUOTE]),
            st.integers(0, 40).map(lambda s: s * NS_PER_S),
            st.sampled_from([100.0, 100.25, NAN]),
        ),
        max_size=12,
    ),
    st.data(),
)
def test_it_makes_no_difference_how_events_are_cut(rows, data):
    whole, pieces = LastTouch(), LastTouch()
    events = told_by(*rows)
    whole.on_events(events)
    cut = data.draw(st.integers(0, len(events)))
    pieces.on_events(events[:cut])
    for at in range(cut, len(events)):
        pieces.on_events(events[at : at + 1])
    assert (repr(pieces.touch), pieces.trade) == (repr(whole.touch), whole.trade)


def test_a_touch_stays_until_another_one_comes():
    market = MarketState()
    market.on_events(events_of((1, 100.0, 100.25)))
    market.on_events(events_of((2, NAN, NAN)))
    assert (market.now_ns, market.touch.bid, market.touch.ts_ns) == (2, 100.0, 1)
    market.on_events(events_of((3, 101.0, 101.25)))
    assert (market.touch.bid, market.touch.ts_ns) == (101.0, 3)


def test_event_time_never_goes_back():
    market = MarketState()
    market.on_events(events_of((5, 100.0, 100.25), (9, 100.0, 100.25), (7, 100.0, 100.25)))
    assert market.now_ns == 9
    market.on_events(events_of((8, 101.0, 101.25)))
    assert (market.now_ns, market.touch.bid) == (9, 101.0)


def received(*rows):
    """Events (ts_ns, recv_ns[, kind])."""
    events = empty_events(len(rows))
    for event, (ts_ns, recv_ns, *kind) in zip(events, rows, strict=True):
        event["ts_ns"], event["recv_ns"], event["kind"] = ts_ns, recv_ns, kind[0] if kind else EventKind.TRADE
    return events


def test_a_feed_catches_up_while_the_last_of_its_events_is_old_on_arrival():
    market = MarketState(max_age_ns=10)
    assert not market.catching_up
    market.on_events(received((0, 5), (5, 16)))
    assert market.catching_up
    market.on_events(received((5, 17), (7, 17)))
    assert not market.catching_up
    market.on_events(received((30, 17)))  # from the future
    assert not market.catching_up


def test_a_gap_says_nothing_about_the_age_of_what_follows():
    market = MarketState(max_age_ns=10)
    market.on_events(received((5, 100, EventKind.GAP)))
    assert not market.catching_up
    market.on_events(received((6, 100)))
    market.on_events(received((6, 7, EventKind.GAP)))
    assert market.catching_up
    market.on_events(received((7, 10, EventKind.TIMER)))
    assert not market.catching_up


@pytest.mark.parametrize("max_age_ns", [None, 10])
def test_a_feed_catches_up_while_it_says_so(max_age_ns):
    market = MarketState(max_age_ns=max_age_ns)
    events = received((5, 6), (6, 7, EventKind.GAP))
    events["flags"] = EventFlag.CATCHING_UP
    market.on_events(events)
    assert market.catching_up
    market.on_events(received((7, 8)))
    assert not market.catching_up


def test_where_event_time_is_not_real_time_no_event_is_old():
    market = MarketState()
    market.on_events(received((5, 10**18)))
    assert not market.catching_up
