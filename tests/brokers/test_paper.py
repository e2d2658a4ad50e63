"""The paper broker: late by its latencies, never better than the touch, and blind to how events are cut into arrays."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.config import BrokerSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    Bracket,
    EventKind,
    Fill,
    JournaledOrder,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
    TimeInForce,
    empty_events,
)

ES = instrument("ESZ26_FUT_CME")
MS = 1_000_000
LATE = BrokerSettings(paper_entry_latency_ms=5, paper_response_latency_ms=3)
AT_ONCE = BrokerSettings(paper_entry_latency_ms=0, paper_response_latency_ms=0)


def quotes(*rows):
    """Rows of (ms, bid, ask[, bid size, ask size])."""
    events = empty_events(len(rows))
    events["kind"] = EventKind.QUOTE
    for event, (ms, bid, ask, *sizes) in zip(events, rows, strict=True):
        event["ts_ns"] = ms * MS
        event["bid"], event["ask"] = bid, ask
        if sizes:
            event["bid_size"], event["ask_size"] = sizes
    return events


def trade(ms, price, size=1, side=0, bid=math.nan, ask=math.nan):
    events = empty_events(1)
    events["kind"], events["ts_ns"], events["price"], events["size"] = EventKind.TRADE, ms * MS, price, size
    events["side"], events["bid"], events["ask"] = side, bid, ask
    return events


def order(name="E", side=Side.BUY, kind=OrderType.LIMIT, price=100.0, quantity=1, role=OrderRole.ENTRY, **more):
    return Order(name, ES.symbol, "Sim1", side, quantity, kind, role, "d", price=price, **more)


def bracket(side=Side.BUY, price=100.5, stop=98.0, target=103.0, quantity=1, name=""):
    return Bracket(
        order(f"{name}E", side, OrderType.LIMIT, price, quantity),
        order(f"{name}S", side.opposite, OrderType.STOP, stop, quantity, OrderRole.STOP, parent_id=f"{name}E"),
        order(f"{name}T", side.opposite, OrderType.LIMIT, target, quantity, OrderRole.TARGET, parent_id=f"{name}E"),
    )


class Desk:
    """A broker and all it told, with the event time at which it told it."""

    def __init__(self, settings_=AT_ONCE):
        self.broker = PaperBroker(ES, "Sim1", settings_, "r2")
        self.told = []
        self.broker.start(self.told.append)

    def play(self, *parts):
        for events in parts:
            done = 0
            while done < len(events):
                done += self.broker.on_market(events[done:])

    @property
    def fills(self):
        return [(e.client_order_id, e.quantity, e.price, e.ts_ns // MS) for e in self.told if isinstance(e, Fill)]

    def last(self, name):
        return [e for e in self.told if isinstance(e, OrderReport) and e.client_order_id == name][-1]


def test_a_marketable_order_fills_at_the_touch_known_one_latency_later():
    desk = Desk(LATE)
    desk.play(quotes((0, 99.75, 100.0)))
    desk.broker.submit(order(price=101.0))
    desk.play(quotes((4, 99.75, 100.25), (6, 100.25, 100.5)))
    assert desk.fills == []  # filled at 5 ms, at 100.25; told 3 ms later
    desk.play(quotes((7, 100.0, 100.25), (8, 100.0, 100.25)))
    assert desk.fills == [("E", 1, 100.25, 5)]


def test_the_feeds_latency_makes_orders_later_and_what_is_told_of_them_no_later():
    """We see an event 4 ms after it happened; the order it made is at the exchange 5 ms after that."""
    desk = Desk(BrokerSettings(paper_feed_latency_ms=4, paper_entry_latency_ms=5, paper_response_latency_ms=3))
    desk.play(quotes((0, 99.75, 100.0)))
    desk.broker.submit(order(price=101.0))
    desk.play(quotes((8, 99.75, 100.25)))
    assert desk.fills == []
    desk.play(quotes((10, 100.25, 100.5)))
    assert desk.fills == [("E", 1, 100.25, 9)]  # the answer is here before we see what else happened at 9 ms


def test_an_event_ends_the_batch_when_something_was_told():
    desk = Desk(LATE)
    desk.play(quotes((0, 99.75, 100.0)))
    desk.broker.submit(order(price=101.0))
    assert desk.broker.on_market(quotes((6, 99.75, 100.0), (8, 99.75, 100.0), (9, 99.75, 100.0))) == 2
    assert desk.fills


def test_buys_pay_the_ask_and_sells_get_the_bid():
    desk = Desk()
    desk.play(quotes((0, 99.75, 100.0)))
    desk.broker.submit(order("B", kind=OrderType.MARKET))
    desk.broker.submit(order("S", Side.SELL, OrderType.MARKET))
    desk.play(quotes((1, 90.0, 110.0)))
    assert [fill[:3] for fill in desk.fills] == [("B", 1, 100.0), ("S", 1, 99.75)]


# -------------------------------------------------------------------------------- the touch that a trade came with


def trades_only(*rows, sizes=None):
    """Trades (ms, bid, ask, side) of one contract, at the touch that they came with, as a .scid has them."""
    parts = [trade(ms, ask if side > 0 else bid, 1, side, bid, ask) for ms, bid, ask, side in rows]
    events = np.concatenate(parts)
    if sizes:
        events["bid_size"] = events["ask_size"] = sizes
    return events


TOLD = BrokerSettings(paper_entry_latency_ms=0, paper_response_latency_ms=0, paper_touch_after_trade="told")


@pytest.mark.parametrize(
    ("side", "aggressor", "settings_", "filled"),
    [
        (Side.BUY, 1, AT_ONCE, (100.75, 20)),  # the trade took from the ask: the next one says what came after
        (Side.BUY, -1, AT_ONCE, (100.25, 10)),  # the ask was not touched
        (Side.SELL, -1, AT_ONCE, (100.5, 20)),
        (Side.SELL, 1, AT_ONCE, (100.0, 10)),
        (Side.BUY, 1, TOLD, (100.25, 10)),
        (Side.SELL, -1, TOLD, (100.0, 10)),
    ],
)
def test_who_takes_the_side_that_a_trade_took_gets_the_next_touch(side, aggressor, settings_, filled):
    desk = Desk(settings_)
    desk.play(trades_only((10, 100.0, 100.25, aggressor)))
    desk.broker.submit(order(side=side, kind=OrderType.MARKET))
    desk.play(trades_only((20, 100.5, 100.75, 1)))
    assert desk.fills == [("E", 1, *filled)]


def test_a_limit_that_the_next_touch_has_left_behind_rests():
    desk = Desk()
    desk.play(trades_only((10, 100.0, 100.25, 1)))
    desk.broker.submit(order(price=100.25))
    desk.play(trades_only((20, 100.25, 100.5, 1)))
    assert desk.fills == []
    assert desk.last("E").status is OrderStatus.WORKING


@pytest.mark.parametrize(("sizes", "price", "quantity"), [(1, 100.5, 3), (3, 100.25, 2)])
def test_where_sizes_are_known_what_the_trade_took_is_gone(sizes, price, quantity):
    """A level of which nothing is left is one tick through; of another, the rest is there."""
    desk = Desk()
    desk.play(trades_only((10, 100.0, 100.25, 1), sizes=sizes))
    desk.broker.submit(order(kind=OrderType.MARKET, quantity=3))
    desk.play(quotes((20, 100.0, 101.0)))
    assert desk.fills[0] == ("E", quantity, price, 10)


def test_a_stop_that_a_trade_triggers_fills_at_the_next_touch_and_never_better_than_its_price():
    for following, price in ((99.0, 99.0), (99.75, 99.5)):
        desk = Desk()
        desk.play(trades_only((10, 100.0, 100.25, 1)))
        stop = order("S", Side.SELL, OrderType.STOP, 99.5, role=OrderRole.STOP)
        desk.broker.submit(stop)
        desk.play(trades_only((20, 99.5, 99.75, -1)))
        assert desk.fills == []
        desk.play(trades_only((30, following, following + 0.25, 1)))
        assert desk.fills == [("S", 1, price, 30)]


@pytest.mark.parametrize(("limit", "filled"), [(100.5, [("E", 1, 100.5, 10)]), (100.25, [])])
def test_an_order_that_can_not_wait_takes_one_tick_through(limit, filled):
    desk = Desk()
    desk.play(trades_only((10, 100.0, 100.25, 1)))
    desk.broker.submit(order(price=limit, time_in_force=TimeInForce.IOC))
    desk.play(trades_only((20, 100.0, 100.25, 1)))
    assert desk.fills == filled


def test_a_known_size_caps_what_one_event_gives():
    desk = Desk()
    desk.play(quotes((0, 99.75, 100.0, 9, 2)))
    desk.broker.submit(order(price=101.0, quantity=5))
    desk.play(quotes((1, 99.75, 100.25, 9, 1), (2, 99.75, 100.25, 9, 0)))
    assert [fill[:3] for fill in desk.fills] == [("E", 2, 100.0), ("E", 1, 100.25), ("E", 2, 100.25)]
    assert desk.last("E").status is OrderStatus.FILLED


def test_what_is_left_waits_for_a_touch_that_is_told_anew():
    desk = Desk()
    desk.play(quotes((0, 99.75, 100.0, 9, 2)))
    desk.broker.submit(order(price=101.0, quantity=5))
    silence = empty_events(3)
    silence["kind"], silence["ts_ns"] = [EventKind.TIMER, EventKind.DEPTH, EventKind.STATUS], [MS, 2 * MS, 3 * MS]
    desk.play(silence)
    assert [fill[:3] for fill in desk.fills] == [("E", 2, 100.0)]
    desk.play(quotes((4, 99.75, 100.0, 9, 2)))
    assert [fill[:3] for fill in desk.fills] == [("E", 2, 100.0), ("E", 2, 100.0)]


def test_a_resting_bid_of_unknown_queue_fills_only_when_traded_through():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit(order(price=100.0))
    desk.play(quotes((1, 100.0, 100.25)), trade(2, 100.0, 500, -1))
    assert desk.fills == []
    desk.play(trade(3, 99.75, 1, -1))
    assert desk.fills == [("E", 1, 100.0, 3)]


def test_a_resting_bid_waits_for_the_queue_ahead():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25, 10, 10)))
    desk.broker.submit(order(price=100.0, quantity=3))
    desk.play(quotes((1, 100.0, 100.25, 30, 10)), trade(2, 100.0, 10, -1))
    assert desk.fills == []
    desk.play(trade(3, 100.0, 99, 1))  # a buyer's trade does not eat the bid
    assert desk.fills == []
    desk.play(trade(4, 100.0, 2, -1), trade(5, 100.0, 2, -1))
    assert [fill[:3] for fill in desk.fills] == [("E", 2, 100.0), ("E", 1, 100.0)]


def test_cancels_ahead_shorten_the_queue():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25, 10, 10)))
    desk.broker.submit(order(price=100.0))
    desk.play(quotes((1, 100.0, 100.25, 10, 10), (2, 100.0, 100.25, 1, 10)), trade(3, 100.0, 2, -1))
    assert desk.fills == [("E", 1, 100.0, 3)]


def test_bracket_children_wait_work_and_cancel_each_other():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket())
    desk.play(quotes((1, 100.0, 100.25)))
    assert (desk.last("S").status, desk.last("T").status) == (OrderStatus.WORKING, OrderStatus.WORKING)
    desk.play(quotes((2, 103.0, 103.25)))
    assert [fill[:3] for fill in desk.fills] == [("E", 1, 100.25), ("T", 1, 103.0)]
    assert desk.last("S").status is OrderStatus.CANCELED
    desk.play(quotes((3, 90.0, 90.25)))
    assert len(desk.fills) == 2


def test_a_stop_fills_at_the_touch_when_the_market_jumps_over_it():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket())
    desk.play(quotes((1, 100.0, 100.25), (2, 95.0, 95.25)))
    assert desk.fills[-1] == ("S", 1, 95.0, 2)
    assert desk.last("T").status is OrderStatus.CANCELED


def test_a_stop_triggered_by_a_trade_never_fills_better_than_its_price():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket())
    desk.play(quotes((1, 100.0, 100.25)), trade(2, 98.0, 1, -1, 98.5, 98.75))
    assert desk.fills[-1][:3] == ("S", 1, 98.0)


def test_protection_covers_exactly_what_has_filled():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25, 5, 1)))
    desk.broker.submit_bracket(bracket(quantity=3))
    desk.play(quotes((1, 100.0, 100.25, 5, 1)))
    covered, held = [], 0
    desk.play(quotes((2, 100.0, 100.25, 5, 1)))
    for event in desk.told:
        if isinstance(event, Fill):
            held += event.quantity
        elif isinstance(event, OrderReport) and event.client_order_id == "S" and event.status is OrderStatus.WORKING:
            covered.append((held, event.quantity))
    assert covered == [(1, 1), (2, 2), (3, 3)]


def test_a_partial_target_reduces_the_stop():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket(quantity=3))
    desk.play(quotes((1, 100.0, 100.25), (2, 100.0, 100.25, 1, 1)))
    desk.broker.replace("T", "", 100.0, 3)
    desk.play(quotes((3, 99.5, 99.75, 1, 1)))
    assert desk.fills[-1][:3] == ("T", 1, 100.0)
    assert desk.last("S").quantity == 2


def test_a_bracket_that_is_done_ends_what_is_left_of_its_entry():
    """A further fill of it would have neither stop nor target."""
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25, 5, 1)))
    desk.broker.submit_bracket(bracket(price=100.25, quantity=3))
    desk.play(quotes((1, 100.25, 100.5)), quotes((2, 103.0, 103.25)))
    assert [fill[:3] for fill in desk.fills] == [("E", 1, 100.25), ("T", 1, 103.0)]
    assert {desk.last(name).status for name in "ES"} == {OrderStatus.CANCELED}
    desk.play(quotes((3, 100.0, 100.25)))
    assert len(desk.fills) == 2


def test_cancelled_entry_takes_its_waiting_children_along():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket(price=99.0))
    desk.play(quotes((1, 100.0, 100.25)))
    assert desk.last("S").status is OrderStatus.HELD
    desk.broker.cancel("E", "")
    desk.play(quotes((2, 100.0, 100.25)))
    assert {desk.last(name).status for name in "EST"} == {OrderStatus.CANCELED}


def test_a_target_replaced_to_the_market_closes_the_position():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket())
    desk.play(quotes((1, 100.0, 100.25)))
    before = desk.last("T").server_order_id
    desk.broker.replace("T", "", 99.0, 1)
    desk.play(quotes((2, 100.0, 100.25)))
    assert desk.fills[-1][:3] == ("T", 1, 100.0)
    assert desk.last("T").server_order_id != before
    assert [e.quantity for e in desk.told if isinstance(e, PositionReport)][-1] == 0


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"price": 100.1}, "multiple"),
        ({"price": math.nan}, "multiple"),
        ({"price": -1.0}, "multiple"),
        ({"quantity": 0}, "quantity"),
        ({"quantity": 10_001}, "quantity"),
    ],
)
def test_nonsense_is_rejected_with_a_reason(bad, says):
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit(order(**bad))
    desk.play(quotes((1, 100.0, 100.25)))
    assert desk.last("E").status is OrderStatus.REJECTED
    assert says in desk.last("E").text


def test_a_used_identifier_and_an_inconsistent_bracket_are_rejected():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit(order(price=90.0))
    desk.broker.submit(order(price=90.0))
    good = bracket(name="b")
    desk.broker.submit_bracket(Bracket(good.entry, good.stop, order("bT", Side.BUY, role=OrderRole.TARGET)))
    desk.play(quotes((1, 100.0, 100.25)))
    assert "used before" in desk.last("E").text
    assert {desk.last(f"b{name}").status for name in "EST"} == {OrderStatus.REJECTED}


def test_requests_about_unknown_orders_are_refused():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.cancel("nobody", "")
    desk.broker.replace("nobody", "", 100.0, 1)
    desk.play(quotes((1, 100.0, 100.25)))
    assert [e.status for e in desk.told] == [OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED]


@pytest.mark.parametrize(("force", "filled"), [(TimeInForce.IOC, 2), (TimeInForce.FOK, 0)])
def test_immediate_orders_do_not_rest(force, filled):
    desk = Desk()
    desk.play(quotes((0, 99.75, 100.0, 5, 2)))
    desk.broker.submit(order(price=100.0, quantity=3, time_in_force=force))
    desk.play(quotes((1, 99.75, 100.0, 5, 2)))
    assert sum(fill[1] for fill in desk.fills) == filled
    assert desk.last("E").status is OrderStatus.CANCELED


def test_flatten_closes_whatever_is_held_by_then():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit_bracket(bracket(quantity=2))
    desk.play(quotes((1, 100.0, 100.25)))
    desk.broker.flatten(order("X", Side.SELL, OrderType.MARKET, 0.0, 1, OrderRole.EXIT))
    desk.play(quotes((2, 99.75, 100.0)))
    assert desk.fills[-1][:3] == ("X", 2, 100.0)


def test_the_other_symbol_is_not_ours_to_fill_from():
    desk = Desk()
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit(order(kind=OrderType.MARKET))
    foreign = quotes((1, 50.0, 50.25), (2, 50.0, 50.25))
    foreign["symbol"] = 1
    desk.play(foreign)
    assert desk.fills[0][2] == 100.25


async def test_the_book_of_record_knows_what_is_on_its_way_and_what_was_not_told_yet():
    desk = Desk(LATE)
    desk.play(quotes((0, 100.0, 100.25)))
    desk.broker.submit(order(price=101.0))
    book = await desk.broker.request_snapshot(0)
    assert [(o.client_order_id, o.status, o.unsolicited) for o in book.open_orders] == [
        ("E", OrderStatus.ACCEPTED, False)
    ]
    desk.play(quotes((6, 100.0, 100.25)))
    book = await desk.broker.request_snapshot(0)
    assert (book.open_orders, [f.quantity for f in book.fills], book.positions[0].quantity) == ((), [1], 1)
    assert desk.fills == []
    assert (await desk.broker.request_snapshot(6 * MS)).fills == ()


async def test_restored_orders_go_on_working_as_a_pair():
    desk = Desk()
    pair = bracket()
    entries = [
        JournaledOrder(one, 0, OrderStatus.WORKING, f"old{one.client_order_id}", 1, one.price, 0, 0, frozenset())
        for one in (pair.stop, pair.target)
    ]
    desk.broker.restore(entries, 1, 100.25, 5000.0)
    desk.play(quotes((1, 97.0, 97.25)))
    assert desk.fills == [("S", 1, 97.0, 1)]
    assert desk.last("T").status is OrderStatus.CANCELED
    book = await desk.broker.request_snapshot(0)
    assert book.balance.cash == 5000.0 - 3.25 * 50 - ES.cost_per_side
    assert book.fills[0].execution_id.startswith("r2-")


@st.composite
def market(draw):
    """A random walk of quotes and trades of a few ticks, some without sizes, some of the other symbol."""
    n = draw(st.integers(5, 60))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    events = empty_events(n)
    events["ts_ns"] = np.cumsum(rng.integers(0, 4, n)) * MS
    bid = 100 + 0.25 * np.cumsum(rng.integers(-2, 3, n))
    events["bid"], events["ask"] = bid, bid + 0.25 * rng.integers(1, 3, n)
    events["kind"] = np.where(rng.random(n) < 0.5, EventKind.TRADE, EventKind.QUOTE)
    is_trade = events["kind"] == EventKind.TRADE
    events["price"] = np.where(is_trade, np.where(rng.random(n) < 0.5, events["bid"], events["ask"]), np.nan)
    events["side"] = np.where(is_trade, rng.integers(-1, 2, n), 0)
    events["size"] = rng.integers(1, 5, n)
    sized = draw(st.booleans())
    events["bid_size"] = rng.integers(1, 6, n) * sized
    events["ask_size"] = rng.integers(1, 6, n) * sized
    events["symbol"] = rng.random(n) < 0.1
    return events


def simple_strategy(desk, events, cuts):
    """Orders at fixed events and from within the sink, whatever the cuts: what is told must be the same."""
    reacted = []

    def react(event):
        desk.told.append((desk.broker._now_ns, event))
        if isinstance(event, Fill) and event.client_order_id.endswith("E") and len(reacted) < 3:
            reacted.append(event)
            desk.broker.replace(event.client_order_id[:-1] + "T", "", event.price - 1.0 * event.side, event.quantity)

    desk.broker.start(react)
    sends = {len(events) // 5: Side.BUY, len(events) // 2: Side.SELL}
    edges = sorted({0, len(events), *(cut % len(events) for cut in cuts), *(at + 1 for at in sends)})
    for first, last in itertools.pairwise(edges):
        desk.play(events[first:last])
        if last - 1 in sends:
            side = sends[last - 1]
            price = 100.0 + 0.5 * side
            desk.broker.submit_bracket(bracket(side, price, price - 1.5 * side, price + 1.5 * side, 3, name=side.name))
    return desk.told


@settings(max_examples=150)
@given(events=market(), cuts=st.lists(st.integers(0, 10**6), max_size=8), latency=st.sampled_from([0, 1, 3]))
def test_what_is_told_does_not_depend_on_how_events_are_cut(events, cuts, latency):
    latencies = BrokerSettings(paper_entry_latency_ms=latency, paper_response_latency_ms=latency)
    whole = simple_strategy(Desk(latencies), events, [])
    one_by_one = simple_strategy(Desk(latencies), events, range(len(events)))
    cut = simple_strategy(Desk(latencies), events, cuts)
    assert whole == cut == one_by_one


@settings(max_examples=150)
@given(events=market(), latency=st.sampled_from([0, 2]))
def test_no_fill_beats_the_touch_and_the_books_balance(events, latency):
    desk = Desk(BrokerSettings(paper_entry_latency_ms=latency, paper_response_latency_ms=0))
    told = [event for _, event in simple_strategy(desk, events, [])]
    fills = [event for event in told if isinstance(event, Fill)]
    assert len({fill.execution_id for fill in fills}) == len(fills)
    assert sum(fill.side * fill.quantity for fill in fills) == desk.broker._exchange.position
    ours = events[events["symbol"] == 0]
    for fill in fills:
        # what the touch was when it filled: any touch up to then at that very time, or the last one before
        before = ours[ours["ts_ns"] <= fill.ts_ns]
        if fill.side is Side.BUY:
            assert fill.price >= before["bid"].min()
        else:
            assert fill.price <= before["ask"].max()
    filled = {}
    for event in told:
        if isinstance(event, Fill):
            filled[event.client_order_id] = filled.get(event.client_order_id, 0) + event.quantity
        elif isinstance(event, OrderReport) and event.status is not OrderStatus.REPLACE_REJECTED:
            assert event.filled == filled.get(event.client_order_id, 0)
            assert event.filled <= event.quantity or event.status is OrderStatus.CANCELED


def test_without_orders_the_market_passes_almost_unseen():
    desk = Desk()
    events = quotes(*((ms, 100.0, 100.25) for ms in range(1000)))
    scanned = []
    desk.broker._hits = lambda *args: scanned.append(args)
    assert desk.broker.on_market(events) == 1000
    assert not scanned
    assert desk.broker._exchange.touch.bid == 100.0


class Brackets(RuleBasedStateMachine):
    """One bracket in a market that gives a little at a time: stop and target are what is held, no more and no less."""

    def __init__(self):
        super().__init__()
        self.desk = Desk()
        self.ms, self.bid = 0, 400
        self.show()
        self.desk.broker.submit_bracket(bracket(price=100.0, stop=97.0, target=103.0, quantity=5))
        self.show()

    def show(self, bid_size=0, ask_size=0):
        self.ms += 1
        bid = self.bid * 0.25
        self.desk.play(quotes((self.ms, bid, bid + 0.25, bid_size, ask_size)))

    @rule(move=st.integers(-4, 4), bid_size=st.integers(0, 3), ask_size=st.integers(0, 3))
    def quotes_come(self, move, bid_size, ask_size):
        self.bid = min(max(self.bid + move, 384), 416)
        self.show(bid_size, ask_size)

    @rule(size=st.integers(1, 4), side=st.sampled_from([-1, 1]))
    def trades_come(self, size, side):
        self.ms += 1
        bid = self.bid * 0.25
        self.desk.play(trade(self.ms, bid if side < 0 else bid + 0.25, size, side, bid, bid + 0.25))

    @rule()
    def cancels_the_entry(self):
        self.desk.broker.cancel("E", "")
        self.show()

    @rule(name=st.sampled_from("ET"), away=st.integers(-3, 3))
    def replaces(self, name, away):
        self.desk.broker.replace(name, "", (self.bid + away) * 0.25, 5 if name == "E" else self.desk.last("T").quantity)
        self.show()

    @invariant()
    def covered_exactly(self):
        exchange = self.desk.broker._exchange
        working = {paper.order.client_order_id: paper for paper in exchange.orders}
        held = exchange.position
        assert held >= 0
        for name in "ST":
            leg = working.get(name)
            if leg is not None and leg.working:
                assert leg.open_quantity == held
            else:
                assert held == 0

    @invariant()
    def never_more_than_ordered(self):
        bought = sum(fill.quantity for fill in self.desk.told if isinstance(fill, Fill) and fill.side is Side.BUY)
        assert bought <= 5


TestBrackets = Brackets.TestCase
TestBrackets.settings = settings(max_examples=100, stateful_step_count=25)
