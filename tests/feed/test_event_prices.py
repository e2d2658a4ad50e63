"""Prices come to lie on the tick where rounding moved them, and nowhere else."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.feed.event_prices import EventPrices
from mia_daemon.products.instruments import instrument
from mia_daemon.records import empty_events

TICKS = [0.25, 0.1, 0.01, 0.05, 0.005, 1 / 32, 1 / 64, 1 / 128, 1.0, 5.0]
NAMES = ("price", "bid", "ask")
SIZES = st.sampled_from([1, 2, 4, 5, 40])  # both ways of checking


def product(tick):
    return replace(instrument("ESZ26_FUT_CME"), tick_size=tick)


def events_of(prices, symbol=0):
    events = empty_events(len(prices))
    events["symbol"] = symbol
    for n, price in enumerate(prices):
        events["size"][n] = n
        events[NAMES[n % 3]][n] = price
    return events


def checked(prices, tick, symbol=0):
    reports = []
    events = events_of(prices, symbol)
    EventPrices({0: tick}, lambda _symbol, price: reports.append(price)).check(events)
    told = [float(events[NAMES[n % 3]][n]) for n in range(len(prices))]
    expected = events_of(told, symbol)
    assert events.tobytes() == expected.tobytes()  # nothing else has changed
    return told, reports


def bits(prices):
    return np.array(prices, np.float64).tobytes()


@given(st.sampled_from(TICKS), SIZES, st.data())
@settings(max_examples=200)
def test_a_price_on_the_tick_stays_what_it_is_to_the_bit(tick, size, data):
    ticks = data.draw(st.lists(st.integers(-2_000_000, 2_000_000), min_size=size, max_size=size))
    prices = [product(tick).round_to_tick(n * tick) for n in ticks]
    told, reports = checked(prices, tick)
    assert bits(told) == bits(prices)
    assert reports == []


@given(SIZES, st.data())
def test_no_price_of_a_binary_tick_is_ever_changed_by_float32(size, data):
    """ES, NQ: what is replayed from a recording of before, and what is fed now, is the same to the bit."""
    ticks = data.draw(st.lists(st.integers(0, 120_000), min_size=size, max_size=size))
    prices = [float(np.float32(n * 0.25)) for n in ticks]
    assert bits(checked(prices, 0.25)[0]) == bits(prices) == bits([n * 0.25 for n in ticks])


@given(st.sampled_from(TICKS), SIZES, st.data())
@settings(max_examples=300)
def test_what_came_as_float32_is_what_round_to_tick_gives(tick, size, data):
    # Where a float32 can't tell one tick from the next there is nothing to find again.
    highest = min(500_000, int(2**22 / 2))
    ticks = data.draw(st.lists(st.integers(-highest, highest), min_size=size, max_size=size))
    sent = [product(tick).round_to_tick(n * tick) for n in ticks]
    told, reports = checked([float(np.float32(price)) for price in sent], tick)
    assert told == sent
    assert reports == []
    multiplied = [float(np.float32(tick)) * n for n in ticks]  # hundredths, times the float32 that is 0.01
    assert checked(multiplied, tick)[0] == sent


@given(st.sampled_from(TICKS), SIZES, st.floats(0.005, 0.5), st.integers(1, 10_000))
def test_a_price_that_rounding_does_not_explain_is_left_alone_and_reported(tick, size, share, ticks):
    prices = [ticks * tick] * (size - 1) + [(ticks + share) * tick]
    told, reports = checked(prices, tick)
    assert bits(told[-1:]) == bits(prices[-1:])
    assert reports == prices[-1:]


@pytest.mark.parametrize("size", [1, 5])
def test_unknown_prices_and_those_of_a_symbol_without_a_tick_are_left_alone(size):
    assert math.isnan(checked([math.nan] * size, 0.25)[0][0])
    assert checked([0.0] * size, 0.25) == ([0.0] * size, [])
    assert checked([6000.1] * size, 0.25, symbol=1) == ([6000.1] * size, [])


@given(st.tuples(st.sampled_from([None, *TICKS]), st.sampled_from([None, *TICKS])), SIZES, st.data())
@settings(deadline=None)
def test_of_a_mixed_batch_each_symbol_has_its_own_tick(ticks, size, data):
    """Each price, and each report, is what it would be with the events of its symbol alone."""
    symbols = np.array(data.draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    prices = data.draw(st.lists(st.sampled_from([0.3, 117.015625, 72.12, 6000.1, 0.0]), min_size=size, max_size=size))
    sizes, reports = {n: tick for n, tick in enumerate(ticks) if tick}, []
    events = events_of([float(np.float32(price)) for price in prices])
    events["symbol"] = symbols
    received = events.copy()
    EventPrices(sizes, lambda *report: reports.append(report)).check(events)
    for symbol in (0, 1):
        alone, off = received[symbols == symbol], set()
        if symbol in sizes and len(alone):
            EventPrices({symbol: sizes[symbol]}, lambda n, _price, off=off: off.add(n)).check(alone)
        assert events[symbols == symbol].tobytes() == alone.tobytes()
        assert off == {symbol} & {reported for reported, _ in reports}


def test_a_negative_price_next_to_zero_is_zero():
    for size in (1, 8):
        assert bits(checked([-1e-9] * size, 0.25)[0]) == bits([0.0] * size)
