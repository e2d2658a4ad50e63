"""What the feed tells is believed only as far as it makes sense."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.records import EventKind, empty_events
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.market_watch import MarketWatch

NOW = 1_790_000_000 * NS_PER_S
TICK = 0.25
LIMITS = RiskSettings(
    **dict.fromkeys(RiskSettings.model_fields)
    | {"cancel_reserve_share": 0.0, "max_price_jump_ticks": 10, "market_pause_s": 5.0}
)


def watch(**limits):
    return MarketWatch(LIMITS.model_copy(update=limits), TICK)


def events(*rows, symbol=0):
    """(seconds, kind, price or middle of the touch or status)."""
    made = empty_events(len(rows))
    made["symbol"] = symbol
    for event, (seconds, kind, value) in zip(made, rows, strict=True):
        event["ts_ns"] = NOW + round(seconds * NS_PER_S)
        event["kind"] = kind
        if kind == EventKind.STATUS:
            event["count"] = value
        elif kind == EventKind.TRADE:
            event["price"] = value
        elif kind not in {EventKind.GAP, EventKind.TIMER}:
            event["bid"], event["ask"] = value - TICK, value + TICK
    return made


def code(one, seconds):
    denied = one.check(NOW + round(seconds * NS_PER_S))
    return RiskCode.OK if denied is None else denied.code


def test_a_price_may_move_by_the_limit_and_no_further():
    one = watch()
    one.on_market(events((0, EventKind.TRADE, 6000.0), (1, EventKind.TRADE, 6002.5), (2, EventKind.TRADE, 6000.0)))
    assert code(one, 2) is RiskCode.OK
    one.on_market(events((3, EventKind.TRADE, 6002.75)))
    denied = one.check(NOW + 3 * NS_PER_S)
    assert (denied.code, denied.context) == (RiskCode.PRICE_JUMP, {"ticks": 11.0, "ago_s": 0.0})
    assert code(one, 7.999) is RiskCode.PRICE_JUMP
    assert code(one, 8) is RiskCode.OK


def test_a_bad_tick_is_a_jump_there_and_back():
    one = watch()
    one.on_market(events((0, EventKind.QUOTE, 6000.0), (1, EventKind.TRADE, 600.0), (3, EventKind.QUOTE, 6000.0)))
    assert code(one, 7) is RiskCode.PRICE_JUMP
    assert code(one, 8) is RiskCode.OK


def test_the_first_price_is_no_jump_nor_is_one_of_another_symbol():
    one = watch()
    one.on_market(events((0, EventKind.TRADE, 6000.0)))
    one.on_market(events((1, EventKind.TRADE, 21000.0), symbol=1))
    one.on_market(events((2, EventKind.TIMER, math.nan), (3, EventKind.TRADE, 6000.25)))
    assert code(one, 3) is RiskCode.OK


def test_a_waived_limit_lets_any_price_pass():
    one = watch(max_price_jump_ticks=None)
    one.on_market(events((0, EventKind.TRADE, 6000.0), (1, EventKind.TRADE, 1.0)))
    assert code(one, 1) is RiskCode.OK


def test_a_gap_pauses_entries():
    one = watch()
    one.on_market(events((0, EventKind.TRADE, 6000.0), (1, EventKind.GAP, math.nan), (1.5, EventKind.TRADE, 6000.0)))
    assert code(one, 5.999) is RiskCode.FEED_GAP
    assert code(one, 6) is RiskCode.OK
    one.on_market(events((7, EventKind.GAP, math.nan), symbol=1))
    assert code(one, 7) is RiskCode.OK


@pytest.mark.parametrize(("status", "expected"), [
    (0, RiskCode.OK), (1, RiskCode.NOT_TRADING), (2, RiskCode.OK), (3, RiskCode.NOT_TRADING), (4, RiskCode.NOT_TRADING),
])  # fmt: skip
def test_only_an_open_market_is_traded(status, expected):
    """Pre-open, close and halt; 0 says nothing."""
    one = watch()
    assert code(one, 0) is RiskCode.OK  # never told: other controls have to do
    one.on_market(events((0, EventKind.STATUS, status)))
    assert code(one, 1e6) is expected  # for as long as it lasts
    one.on_market(events((1, EventKind.STATUS, 0)))
    assert code(one, 1e6) is expected
    one.on_market(events((2, EventKind.STATUS, 2)))
    assert code(one, 1e6) is RiskCode.OK


def burst(told):
    """The same events among more, of a book without a touch, than are looked at one by one."""
    quiet = events(*((n * 1e-6, EventKind.DEPTH, math.nan) for n in range(20)))
    return np.concatenate([quiet, told])


def test_a_burst_of_events_is_believed_no_further_than_single_ones():
    one = watch()
    one.on_market(
        burst(events((0, EventKind.TRADE, 6000.0), (1, EventKind.TRADE, 6002.5), (2, EventKind.TRADE, 6000.0)))
    )
    assert code(one, 2) is RiskCode.OK
    one.on_market(
        burst(events((3, EventKind.TRADE, 6002.75), (4, EventKind.TRADE, 6002.5), (5, EventKind.TRADE, 6000.0)))
    )
    denied = one.check(NOW + 5 * NS_PER_S)
    assert (denied.code, denied.context) == (RiskCode.PRICE_JUMP, {"ticks": 11.0, "ago_s": 2.0})
    one.on_market(burst(events()))  # without a price: the last one stays
    one.on_market(burst(events((20, EventKind.TRADE, 6003.0))))
    assert one.check(NOW + 20 * NS_PER_S).context == {"ticks": 12.0, "ago_s": 0.0}


def test_in_a_burst_too_a_quote_is_priced_in_the_middle():
    one = watch()
    one.on_market(
        burst(events((0, EventKind.QUOTE, 6000.0), (1, EventKind.TRADE, 6002.5), (2, EventKind.QUOTE, 6000.0)))
    )
    assert code(one, 2) is RiskCode.OK
    one.on_market(burst(events((3, EventKind.QUOTE, 6002.75))))
    assert one.check(NOW + 3 * NS_PER_S).context == {"ticks": 11.0, "ago_s": 0.0}


def test_in_a_burst_the_newest_jump_gap_and_status_count():
    one = watch()
    one.on_market(
        burst(events((0, EventKind.TRADE, 6000.0), (1, EventKind.TRADE, 6010.0), (2, EventKind.TRADE, 6005.0)))
    )
    assert one.check(NOW + 2 * NS_PER_S).context == {"ticks": 20.0, "ago_s": 0.0}
    one.on_market(
        burst(events((3, EventKind.GAP, math.nan), (3.5, EventKind.GAP, math.nan), (4, EventKind.GAP, math.nan)))
    )
    assert one.check(NOW + 6 * NS_PER_S).context == {"ago_s": 2.0}
    told = (5, EventKind.STATUS, 2), (6, EventKind.STATUS, 1), (6, EventKind.STATUS, 3), (7, EventKind.STATUS, 0)
    one.on_market(burst(events(*told)))
    assert one.check(NOW + 60 * NS_PER_S).context == {"status": 3}
    one.on_market(burst(events((8, EventKind.STATUS, 3), (9, EventKind.STATUS, 2))))
    assert code(one, 60) is RiskCode.OK


def test_what_a_burst_tells_of_another_symbol_says_nothing_of_this_one():
    one = watch()
    one.on_market(events((0, EventKind.TRADE, 6000.0)))
    told = (1, EventKind.TRADE, 21000.0), (1, EventKind.GAP, math.nan), (1, EventKind.STATUS, 3)
    one.on_market(burst(events(*told, symbol=1)))
    one.on_market(burst(events((2, EventKind.TRADE, 6000.0))))
    assert code(one, 2) is RiskCode.OK


def test_a_waived_limit_lets_any_price_pass_also_in_a_burst():
    one = watch(max_price_jump_ticks=None)
    one.on_market(burst(events((0, EventKind.TRADE, 6000.0), (1, EventKind.TRADE, 1.0))))
    assert code(one, 1) is RiskCode.OK


prices = st.one_of(st.integers(-14, 14).map(lambda ticks: 6000 + ticks * TICK), st.just(math.nan))
rows = st.lists(
    st.tuples(
        st.sampled_from([EventKind.TRADE, EventKind.QUOTE, EventKind.DEPTH, EventKind.GAP, EventKind.TIMER]), prices
    ),
    min_size=1,
    max_size=40,
)


@given(rows, st.lists(st.integers(1, 7), min_size=40, max_size=40), st.data())
@settings(max_examples=200)
def test_a_jump_is_the_same_however_events_are_cut(told, cuts, data):
    all_of_them = events(*((n * 0.5, kind, price) for n, (kind, price) in enumerate(told)))
    all_of_them["symbol"] = data.draw(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=len(told), max_size=len(told)))
    whole, pieces = watch(), watch()
    whole.on_market(all_of_them)
    done = 0
    for cut in cuts:
        if done < len(told):
            pieces.on_market(all_of_them[done : done + cut])
            done += cut
    for ms in range(0, 30_000, 500):
        at = NOW + ms * NS_PER_MS
        assert whole.check(at) == pieces.check(at)
    # ... and it is the one that a plain loop finds.
    seen = [
        (int(event["ts_ns"]), event["price"] if event["kind"] == EventKind.TRADE else (event["bid"] + event["ask"]) / 2)
        for event in all_of_them
        if event["symbol"] == 0
    ]
    seen = [(ts_ns, price) for ts_ns, price in seen if math.isfinite(price)]
    jumps = [ts_ns for (_, before), (ts_ns, price) in pairwise(seen) if abs(price - before) > 10 * TICK]
    assert (whole._jumped_ns == jumps[-1]) if jumps else whole._jumped_ns < 0


def test_a_price_off_the_tick_stops_entries_while_it_stands():
    one = watch(max_price_jump_ticks=None)
    one.on_market(events((0, EventKind.TRADE, 6000.0), (1, EventKind.TRADE, 60.0825), (2, EventKind.QUOTE, 6000.0)))
    denied = one.check(NOW + 2 * NS_PER_S)
    assert (denied.code, denied.context) == (RiskCode.OFF_TICK, {"price": 60.0825, "tick_size": TICK, "ago_s": 1.0})
    assert code(one, 100) is RiskCode.OFF_TICK  # the last trade, however long ago
    one.on_market(events((100, EventKind.TRADE, 6000.25)))
    assert code(one, 100) is RiskCode.OK
    one.on_market(events((101, EventKind.QUOTE, 6000.1), (101.5, EventKind.TRADE, 6000.0)))
    assert code(one, 300) is RiskCode.OFF_TICK  # the touch
    one.on_market(events((102, EventKind.QUOTE, 6000.0)))
    assert (code(one, 105.999), code(one, 106)) == (RiskCode.OFF_TICK, RiskCode.OK)


def level(seconds, price):
    made = events((seconds, EventKind.DEPTH, math.nan))
    made["price"] = price
    return made


def test_a_level_of_the_book_off_the_tick_stops_entries_for_the_pause():
    one = watch()
    one.on_market(level(1, 6000.1))
    assert (code(one, 5.999), code(one, 6)) == (RiskCode.OFF_TICK, RiskCode.OK)


def test_what_float32_makes_of_a_price_is_on_the_tick_and_another_symbol_has_its_own():
    one = MarketWatch(LIMITS, 0.1)
    told = events((0, EventKind.TRADE, float(np.float32(2345.7))))
    one.on_market(told)
    one.on_market(burst(told))
    assert code(one, 0) is RiskCode.OK
    one.on_market(events((1, EventKind.TRADE, 2345.75), symbol=1))
    one.on_market(burst(events((1, EventKind.TRADE, 2345.75), symbol=1)))
    assert code(one, 1) is RiskCode.OK


odd = st.sampled_from([6000.0, 6000.25, 6000.1, 60.0825, 600825.0, math.nan, float(np.float32(6000.1))])


@given(
    st.lists(
        st.tuples(
            st.sampled_from([EventKind.TRADE, EventKind.QUOTE, EventKind.DEPTH]),
            odd,
            odd,
            odd,
            st.sampled_from([0, 0, 1]),
        ),
        min_size=1,
        max_size=60,
    ),
    st.lists(st.sampled_from([1, 3, 17, 25]), min_size=60, max_size=60),
)
@settings(max_examples=200)
def test_prices_off_the_tick_are_the_same_however_events_are_cut(told, cuts):
    made = empty_events(len(told))
    for n, (kind, price, bid, ask, symbol) in enumerate(told):
        made["ts_ns"][n], made["kind"][n], made["symbol"][n] = NOW + n * NS_PER_S, kind, symbol
        made["price"][n] = math.nan if kind == EventKind.QUOTE else price
        made["bid"][n], made["ask"][n] = bid, ask
    singly, cut_up = watch(max_price_jump_ticks=None), watch(max_price_jump_ticks=None)
    for n in range(len(made)):
        singly.on_market(made[n : n + 1])
    done = 0
    for cut in cuts:
        if done < len(made):
            cut_up.on_market(made[done : done + cut])
            done += cut
    for seconds in range(len(made), len(made) + 8):
        at = NOW + seconds * NS_PER_S
        assert singly.check(at) == cut_up.check(at)
