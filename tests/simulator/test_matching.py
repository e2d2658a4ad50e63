"""The matching engine against a naive one, and what OCO pairs and brackets promise."""

import time
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.client_order import ClientOrder, NewOrder, ServedStatus, UpdateReason, from_dict, to_dict
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_book import BUY, SELL

LIMIT, MARKET, STOP, STOP_LIMIT = OrderType.LIMIT, OrderType.MARKET, OrderType.STOP, OrderType.STOP_LIMIT
DAY, GTC, IOC, FOK = TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK


def engine_with_book(bid: int = 99, ask: int = 101, quantity: int = 10, levels: int = 3, **options) -> MatchingEngine:
    engine = MatchingEngine(**options)
    engine.last_price = 100
    for distance in range(levels):
        engine.rest(BUY, bid - distance, quantity)
        engine.rest(SELL, ask + distance, quantity)
    return engine


def limit(client_id: str, side: int, price: int, quantity: int = 1, tif: TimeInForce = DAY, **more) -> NewOrder:
    return NewOrder(client_id, side, LIMIT, quantity, price, 0, tif, **more)


def path(engine: MatchingEngine, client_id: str) -> list[tuple[int, int]]:
    return [(int(e.status), int(e.reason)) for e in engine.events if e.client_id == client_id]


def fills(engine: MatchingEngine, client_id: str) -> list[tuple[int, int]]:
    return [(e.last_price, e.last_quantity) for e in engine.events if e.client_id == client_id and e.last_quantity]


# a naive second opinion


@dataclass
class Ref:
    """An order as the naive engine sees it: everything in one list, looked through from start to end."""

    name: str
    side: int
    kind: OrderType
    price1: int
    price2: int
    left: int
    tif: TimeInForce
    state: str = "new"  # resting, armed, done
    turn: int = 0  # when it joined its queue
    fills: list[tuple[int, int]] = field(default_factory=list)

    @property
    def limit(self) -> int | None:
        return {LIMIT: self.price1, STOP_LIMIT: self.price2}.get(self.kind)


class NaiveEngine:
    def __init__(self, last_price: int) -> None:
        self.orders: list[Ref] = []
        self.last = last_price
        self.turn = 0

    def resting(self, side: int) -> list[Ref]:
        found = [o for o in self.orders if o.state == "resting" and o.side == side]
        return sorted(found, key=lambda o: (-o.limit * side, o.turn))

    def rest(self, order: Ref) -> None:
        self.turn += 1
        order.state, order.turn = "resting", self.turn

    def enter(self, order: Ref) -> None:
        if order not in self.orders:
            self.orders.append(order)
        if order.kind in {STOP, STOP_LIMIT} and (self.last - order.price1) * order.side < 0:
            order.state = "armed"
            return
        self.trade(order)
        self.spring()

    def trade(self, order: Ref) -> None:
        def reachable(o: Ref) -> bool:
            return order.limit is None or (o.limit - order.limit) * order.side <= 0

        others = [o for o in self.resting(-order.side) if reachable(o)]
        if order.tif == FOK and sum(o.left for o in others) < order.left:
            order.state = "done"
            return
        prices = self.match(order, others)
        if prices:
            self.last = prices[-1]
            self.arm_springs(min(prices), max(prices))
        if not order.left or order.limit is None or order.tif in {IOC, FOK}:
            order.state = "done"
        else:
            self.rest(order)

    def match(self, order: Ref, others: list[Ref]) -> list[int]:
        prices: list[int] = []
        for other in others:
            part = min(order.left, other.left)
            if not part:
                break
            order.left -= part
            other.left -= part
            other.fills.append((other.limit, part))
            prices.append(other.limit)
            if order.fills and len(prices) > 1 and prices[-2] == other.limit:
                order.fills[-1] = (other.limit, order.fills[-1][1] + part)
            else:
                order.fills.append((other.limit, part))
            if not other.left:
                other.state = "done"
        return prices

    def arm_springs(self, low: int, high: int) -> None:
        for o in self.orders:
            if o.state == "armed" and ((high if o.side == BUY else low) - o.price1) * o.side >= 0:
                o.state = "sprung"

    def spring(self) -> None:
        waves: list[Ref] = []
        while True:
            fresh = [o for o in self.orders if o.state == "sprung" and o not in waves]
            fresh.sort(key=lambda o: (o.price1 * o.side, self.orders.index(o)))
            waves += fresh
            if not waves:
                return
            self.trade(waves.pop(0))


PRICES = st.integers(90, 110)
QUANTITIES = st.integers(1, 12)
SIDES = st.sampled_from([BUY, SELL])


class AgainstNaive(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.engine = MatchingEngine()
        self.engine.last_price = 100
        self.naive = NaiveEngine(100)
        self.pairs: dict[str, tuple[ClientOrder, Ref]] = {}
        self.background = 0

    @rule(side=SIDES, price=PRICES, quantity=QUANTITIES)
    def rest(self, side: int, price: int, quantity: int) -> None:
        best = self.engine.book.best_ask if side == BUY else self.engine.book.best_bid
        if best is not None and (price - best) * side >= 0:
            return
        self.engine.rest(side, price, quantity)
        order = Ref("background", side, LIMIT, price, 0, quantity, GTC)
        self.naive.orders.append(order)
        self.naive.rest(order)

    @rule(side=SIDES, quantity=QUANTITIES, price=st.none() | PRICES)
    def hit(self, side: int, quantity: int, price: int | None) -> None:
        self.engine.hit(side, quantity, price)
        kind = MARKET if price is None else LIMIT
        self.naive.enter(Ref("background", side, kind, price or 0, 0, quantity, IOC))

    @rule(
        side=SIDES, kind=st.sampled_from(OrderType), price1=PRICES, price2=PRICES, quantity=QUANTITIES,
        tif=st.sampled_from([DAY, DAY, IOC, FOK]),
    )  # fmt: skip
    def submit(self, side: int, kind: OrderType, price1: int, price2: int, quantity: int, tif: TimeInForce) -> None:
        if kind in {STOP, STOP_LIMIT} and tif == FOK:
            return
        name = f"c{len(self.pairs)}"
        ours = self.engine.submit(NewOrder(name, side, kind, quantity, price1, price2, tif))
        theirs = Ref(name, side, kind, price1, price2, quantity, tif)
        self.naive.enter(theirs)
        self.pairs[name] = (ours, theirs)

    def alive(self) -> list[str]:
        return [name for name, (ours, _) in self.pairs.items() if ours.alive]

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ours, theirs = self.pairs[data.draw(st.sampled_from(self.alive()))]
        self.engine.cancel(ours)
        theirs.state = "done"

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), price=st.none() | PRICES, quantity=st.just(0) | QUANTITIES)
    def replace(self, data: st.DataObject, price: int | None, quantity: int) -> None:
        ours, theirs = self.pairs[data.draw(st.sampled_from(self.alive()))]
        if quantity and quantity <= ours.filled:
            return
        stop_limit = ours.type == STOP_LIMIT
        less = ours.quantity - quantity if quantity else 0
        same_price = price is None or price == (theirs.price2 if stop_limit else theirs.price1)
        self.engine.replace(ours, None if stop_limit else price, price if stop_limit else None, quantity)
        theirs.left -= less
        if price is not None:
            theirs.price1, theirs.price2 = (theirs.price1, price) if stop_limit else (price, theirs.price2)
        if theirs.state == "armed":
            self.naive.enter(theirs)
        elif not (same_price and less >= 0):
            theirs.state = "moving"
            self.naive.trade(theirs)
            self.naive.spring()

    @invariant()
    def agrees(self) -> None:
        engine, naive = self.engine, self.naive
        assert engine.last_price == naive.last
        for side in (BUY, SELL):
            expected: dict[int, int] = {}
            for order in naive.resting(side):
                expected[order.limit] = expected.get(order.limit, 0) + order.left
            assert {p: q for p, q, _ in engine.book.depth(side)} == expected
        touch = (engine.book.best_bid, engine.book.best_ask)
        assert touch == (max(engine.book.bids, default=None), min(engine.book.asks, default=None))
        for name, (ours, theirs) in self.pairs.items():
            assert fills(engine, name) == theirs.fills
            assert ours.alive == (theirs.state != "done"), name
            assert ours.armed == (theirs.state == "armed")
            assert ours.resting == (theirs.state == "resting")


TestAgainstNaive = AgainstNaive.TestCase
TestAgainstNaive.settings = settings(max_examples=80, stateful_step_count=30)


# brackets under stress


class Brackets(RuleBasedStateMachine):
    """Brackets of all kinds in a moving market: the position is always exactly what the open exits cover."""

    @initialize()
    def begin(self) -> None:
        self.engine = engine_with_book(quantity=8, levels=8)
        self.brackets: list[tuple[ClientOrder, ClientOrder, ClientOrder]] = []

    @rule(side=SIDES, quantity=QUANTITIES)
    def hit(self, side: int, quantity: int) -> None:
        self.engine.hit(side, quantity)
        self.refill()

    def refill(self) -> None:
        """Quantity on both sides of the last price, as the market keeps it."""
        book = self.engine.book
        for side in (BUY, SELL):
            levels = book.bids if side == BUY else book.asks
            other = book.best_ask if side == BUY else book.best_bid
            start = (self.engine.last_price if other is None else other) - side
            for distance in range(8):
                if start - side * distance not in levels:
                    self.engine.rest(side, start - side * distance, 8)

    @rule(
        side=SIDES, kind=st.sampled_from([MARKET, LIMIT]), away=st.integers(-2, 2), quantity=QUANTITIES,
        profit=st.integers(-1, 5), loss=st.integers(1, 5), between=st.integers(0, 9), offsets=st.booleans(),
    )  # fmt: skip
    def bracket(self, side, kind, away, quantity, profit, loss, between, offsets) -> None:
        engine, n = self.engine, len(self.brackets)
        price = engine.last_price + away
        parent = engine.submit(NewOrder(f"p{n}", side, kind, quantity, price, is_parent=True))
        if between:
            self.hit(side, between)  # the market moves while the parent waits
        assert parent.waits_for_pair
        assert not parent.filled
        pair = engine.submit_oco(
            limit(f"t{n}", -side, price + side * profit, quantity),
            NewOrder(f"s{n}", -side, STOP, quantity, price - side * loss),
            parent,
            (max(profit, 1), loss) if offsets else (None, None),
        )
        self.brackets.append((parent, *pair))
        self.refill()

    def choose(self, data: st.DataObject, index: int) -> ClientOrder | None:
        alive = [bracket[index] for bracket in self.brackets if bracket[index].alive]
        return data.draw(st.sampled_from(alive)) if alive else None

    @rule(data=st.data())
    def cancel_parent(self, data: st.DataObject) -> None:
        if parent := self.choose(data, 0):
            self.engine.cancel(parent)

    @rule(data=st.data(), price=st.integers(-3, 3))
    def move_target(self, data: st.DataObject, price: int) -> None:
        if target := self.choose(data, 1):
            self.engine.replace(target, self.engine.last_price + price)
            self.refill()

    @invariant()
    def exits_cover_the_position(self) -> None:
        for parent, target, stop in self.brackets:
            held = parent.filled - target.filled - stop.filled
            if target.alive and stop.alive and target.status != ServedStatus.PENDING_CHILD:
                assert target.open_quantity == stop.open_quantity == held, (parent.client_id, held)
                assert held > 0
            elif target.alive or stop.alive:
                lone = target if target.alive else stop
                if lone.status != ServedStatus.PENDING_CHILD:  # its sibling was in the way of the bracket's own order
                    assert lone.open_quantity == held
            elif target.filled == target.quantity or stop.filled == stop.quantity:
                assert held == 0
                assert not parent.alive

    @invariant()
    def children_live_with_their_parent(self) -> None:
        for parent, target, stop in self.brackets:
            for child in (target, stop):
                if parent.filled == 0:
                    assert child.alive == parent.alive
                    assert child.filled == 0
                    assert not child.resting
                    assert not child.armed

    @invariant()
    def book_is_sound(self) -> None:
        engine = self.engine
        bid, _, ask, _ = engine.book.touch()
        assert bid is None or ask is None or bid < ask
        for levels in (engine.book.bids, engine.book.asks):
            for level in levels.values():
                assert level.quantity == sum(order.remaining for order in level.orders.values()) > 0
        for order in engine.alive.values():
            if order.resting:
                assert order.remaining == order.open_quantity
            assert order.resting + order.armed + order.waits == 1

    @invariant()
    def events_add_up(self) -> None:
        ids = [e.execution_id for e in self.engine.events if e.execution_id]
        assert len(ids) == len(set(ids))
        told: dict[str, int] = {}
        for event in self.engine.events:
            told[event.client_id] = told.get(event.client_id, 0) + event.last_quantity
            assert event.filled == told[event.client_id]
            assert 0 <= event.filled <= event.quantity


class Pairs(RuleBasedStateMachine):
    """Pairs without a parent in a moving market: they fill once, and neither order outlives the other."""

    @initialize()
    def begin(self) -> None:
        self.engine = engine_with_book(quantity=8, levels=8)
        self.pairs: list[tuple[ClientOrder, ClientOrder]] = []

    @rule(side=SIDES, quantity=QUANTITIES)
    def hit(self, side: int, quantity: int) -> None:
        self.engine.hit(side, quantity)
        for passive in (BUY, SELL):
            other = self.engine.book.best_ask if passive == BUY else self.engine.book.best_bid
            start = (self.engine.last_price if other is None else other) - passive
            for distance in range(8):
                self.engine.rest(passive, start - passive * distance, 2)

    @rule(
        side=SIDES, below=st.integers(-2, 5), above=st.integers(-2, 5), quantity=QUANTITIES, immediate=st.booleans(),
        tif=st.sampled_from([DAY, GTC, IOC]),
    )  # fmt: skip
    def submit(self, side, below, above, quantity, immediate, tif) -> None:
        last, n = self.engine.last_price, len(self.pairs)
        pair = self.engine.submit_oco(
            limit(f"l{n}", side, last - side * below, quantity, tif),
            NewOrder(f"s{n}", side, STOP, quantity, last + side * above, 0, tif),
            immediate_cancel=immediate,
        )
        self.pairs.append(pair)

    @rule(data=st.data())
    def cancel_one(self, data: st.DataObject) -> None:
        alive = [order for pair in self.pairs for order in pair if order.alive]
        if alive:
            self.engine.cancel(data.draw(st.sampled_from(alive)))

    @rule()
    def end_session(self) -> None:
        self.engine.expire_day_orders()

    @invariant()
    def they_end_together(self) -> None:
        for first, second in self.pairs:
            assert first.alive == second.alive or first.immediate_cancel
            assert first.filled + second.filled <= max(first.wanted, second.wanted)


TestPairs = Pairs.TestCase
TestPairs.settings = settings(max_examples=80, stateful_step_count=25)


TestBrackets = Brackets.TestCase
TestBrackets.settings = settings(max_examples=80, stateful_step_count=25)


# by example


def test_a_market_order_goes_from_pending_to_open_to_filled():
    engine = engine_with_book()
    engine.submit(NewOrder("a", BUY, MARKET, 3))
    assert path(engine, "a") == [(2, 2), (4, 3), (7, 4)]
    assert fills(engine, "a") == [(101, 3)]


def test_a_sweep_fills_level_by_level_and_marks_first_and_last_print():
    engine = engine_with_book()
    order = engine.submit(NewOrder("a", BUY, MARKET, 25))
    assert fills(engine, "a") == [(101, 10), (102, 10), (103, 5)]
    assert [t.marker for t in engine.trades] == [1, 0, 2]
    assert order.event(0, UpdateReason.GENERAL).average_price == pytest.approx((101 * 10 + 102 * 10 + 103 * 5) / 25)


def test_a_market_order_that_finds_no_more_quantity_is_cancelled():
    engine = engine_with_book(levels=1)
    order = engine.submit(NewOrder("a", SELL, MARKET, 15))
    assert (order.filled, order.status) == (10, ServedStatus.CANCELED)


def test_time_priority_within_a_price():
    engine = engine_with_book(bid=98)
    engine.submit(limit("first", BUY, 99, 2))
    engine.submit(limit("second", BUY, 99, 2))
    engine.hit(SELL, 3)
    assert fills(engine, "first") == [(99, 2)]
    assert fills(engine, "second") == [(99, 1)]


@pytest.mark.parametrize(
    ("change", "ahead"),
    [({"quantity": 1}, True), ({"quantity": 5}, False), ({"price1": 99}, True), ({"price1": 98}, False)],
)
def test_only_a_smaller_quantity_keeps_the_place_in_the_queue(change, ahead):
    engine = engine_with_book(bid=97)
    first = engine.submit(limit("first", BUY, 99, 2))
    engine.submit(limit("second", BUY, 99, 2))
    engine.replace(first, **change)
    engine.hit(SELL, 1)
    assert bool(fills(engine, "first")) == ahead


def test_a_replaced_order_may_get_a_new_server_id():
    engine = engine_with_book(new_id_on_replace=True)
    order = engine.submit(limit("a", BUY, 98, 2))
    old = order.server_id
    engine.replace(order, 97)
    last = engine.events[-1]
    assert (last.reason, last.status, last.previous_server_id) == (UpdateReason.REPLACED, ServedStatus.OPEN, old)
    assert last.server_id not in {old, ""}
    assert last.client_id == "a"


def test_a_late_cancel_or_replace_is_refused_and_the_order_stays_filled():
    engine = engine_with_book()
    order = engine.submit(NewOrder("a", BUY, MARKET, 1))
    engine.cancel(order)
    engine.replace(order, quantity=5)
    assert path(engine, "a")[-2:] == [(7, 9), (7, 10)]


def test_a_replace_below_what_has_filled_is_refused_and_the_order_lives():
    engine = engine_with_book(bid=98)
    order = engine.submit(limit("a", BUY, 99, 5))
    engine.hit(SELL, 3)
    engine.replace(order, quantity=3)
    assert engine.events[-1].reason == UpdateReason.REPLACE_REJECTED
    assert engine.events[-1].status == ServedStatus.PARTIALLY_FILLED
    assert order.resting


def test_a_stop_limit_whose_trigger_moves_keeps_the_distance_to_its_limit():
    engine = engine_with_book()
    order = engine.submit(NewOrder("a", BUY, STOP_LIMIT, 2, 110, 112))
    engine.replace(order, 105)
    assert (order.price1, order.price2) == (105, 107)
    engine.replace(order, None, 106)
    assert (order.price1, order.price2) == (105, 106)
    engine.replace(order, 108, 109)
    assert (order.price1, order.price2) == (108, 109)
    engine.replace(order, quantity=1)
    assert (order.price1, order.price2, order.quantity) == (108, 109, 1)


def test_the_quantity_of_a_replace_counts_what_has_filled():
    engine = engine_with_book(bid=98)
    order = engine.submit(limit("a", BUY, 99, 5))
    engine.hit(SELL, 3)
    engine.replace(order, quantity=4)
    assert (order.quantity, order.filled, order.open_quantity) == (4, 3, 1)


def test_fill_or_kill_takes_all_or_nothing():
    engine = engine_with_book(levels=2)
    assert engine.submit(limit("no", BUY, 102, 21, FOK)).status == ServedStatus.CANCELED
    assert not fills(engine, "no")
    assert engine.submit(limit("yes", BUY, 102, 20, FOK)).status == ServedStatus.FILLED


def test_a_stop_waits_for_a_trade_at_its_trigger():
    engine = engine_with_book()
    stop = engine.submit(NewOrder("stop", SELL, STOP, 2, 98))
    engine.hit(SELL, 5)  # trades at 99
    assert stop.armed
    engine.hit(SELL, 6)  # 5 at 99, 1 at 98
    assert fills(engine, "stop") == [(98, 2)]


def test_stops_set_each_other_off_nearest_trigger_first():
    engine = engine_with_book(quantity=2, levels=5)
    engine.submit(NewOrder("far", SELL, STOP, 2, 97))
    engine.submit(NewOrder("near", SELL, STOP, 2, 98))
    engine.hit(SELL, 3)  # 2 at 99, 1 at 98 → near sells 1 at 98, 1 at 97 → far sells 1 at 97, 1 at 96
    assert fills(engine, "near") == [(98, 1), (97, 1)]
    assert fills(engine, "far") == [(97, 1), (96, 1)]


def test_a_triggered_stop_limit_rests_and_is_not_armed_again():
    engine = engine_with_book(levels=2)
    order = engine.submit(NewOrder("sl", BUY, STOP_LIMIT, 30, 101, 102))
    engine.hit(BUY, 1)
    assert order.filled == 19
    assert order.resting
    engine.last_price = 90
    engine.replace(order, price2=100)
    assert order.resting
    assert order.price == 100


@pytest.mark.parametrize("immediate", [False, True])
def test_a_partial_fill_of_an_oco_order_reduces_or_cancels_the_other(immediate):
    engine = engine_with_book()
    low, high = engine.submit_oco(
        limit("low", BUY, 100, 5), NewOrder("up", BUY, STOP, 5, 105), immediate_cancel=immediate
    )
    engine.hit(SELL, 2)
    assert low.open_quantity == 3
    assert high.alive != immediate
    assert immediate or high.open_quantity == 3
    engine.hit(SELL, 3)
    assert (low.status, high.status) == (ServedStatus.FILLED, ServedStatus.CANCELED)


@pytest.mark.parametrize("which", [0, 1])
def test_cancelling_one_order_of_a_pair_without_a_parent_cancels_the_other(which):
    engine = engine_with_book()
    pair = engine.submit_oco(limit("low", BUY, 98, 5), NewOrder("up", BUY, STOP, 5, 105))
    engine.cancel(pair[which])
    assert [order.status for order in pair] == [ServedStatus.CANCELED] * 2
    assert engine.events[-1].client_id == pair[1 - which].client_id
    assert engine.events[-1].text == "the other order of the OCO pair was cancelled"


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("filled", [False, True])
def test_cancelling_one_order_of_a_bracket_leaves_the_other(which, filled):
    engine = engine_with_book()
    parent, *pair = bracket(engine)
    if filled:
        engine.hit(SELL, 4)
    engine.cancel(pair[which])
    assert pair[which].status == ServedStatus.CANCELED
    assert pair[1 - which].alive
    assert parent.alive


def test_a_partly_filled_order_of_a_pair_takes_the_rest_of_the_other_along_when_it_is_cancelled():
    engine = engine_with_book()
    low, up = engine.submit_oco(limit("low", BUY, 100, 5), NewOrder("up", BUY, STOP, 5, 105))
    engine.hit(SELL, 2)
    engine.cancel(low)
    assert (low.filled, low.status, up.filled, up.status) == (2, ServedStatus.CANCELED, 0, ServedStatus.CANCELED)


def test_two_resting_oco_orders_in_one_sweep_fill_only_once():
    engine = engine_with_book(bid=97)
    upper, lower = engine.submit_oco(limit("upper", BUY, 99, 5), limit("lower", BUY, 98, 5))
    engine.hit(SELL, 20)
    assert (upper.filled, lower.filled) == (5, 0)
    assert lower.status == ServedStatus.CANCELED


def test_an_order_never_trades_with_its_own_sibling():
    engine = engine_with_book(bid=90, ask=110)
    buy, sell = engine.submit_oco(limit("buy", BUY, 99, 5), limit("sell", SELL, 101, 5))
    engine.replace(buy, 101)
    assert not buy.filled
    assert sell.status == ServedStatus.CANCELED


def bracket(engine: MatchingEngine, quantity: int = 10) -> tuple[ClientOrder, ClientOrder, ClientOrder]:
    parent = engine.submit(limit("parent", BUY, 100, quantity, is_parent=True))
    pair = engine.submit_oco(limit("target", SELL, 105, quantity), NewOrder("stop", SELL, STOP, quantity, 95), parent)
    return parent, *pair


def test_children_wait_then_live_for_exactly_what_the_parent_filled():
    engine = engine_with_book()
    _, target, stop = bracket(engine)
    assert path(engine, "stop") == [(2, 2), (3, 3)]
    engine.hit(SELL, 4)
    assert (target.open_quantity, stop.open_quantity) == (4, 4)
    assert target.resting
    assert stop.armed
    engine.hit(SELL, 3)
    assert (target.open_quantity, stop.open_quantity) == (7, 7)


def test_a_parent_whose_bracket_is_complete_fills_no_more_in_the_same_sweep():
    engine = engine_with_book(bid=98, quantity=20)
    parent = engine.submit(limit("parent", BUY, 99, 6, is_parent=True))
    target, _ = engine.submit_oco(limit("target", SELL, 100, 6), NewOrder("stop", SELL, STOP, 6, 90), parent)
    engine.hit(SELL, 5)  # one contract of the parent still works
    other = engine.submit(NewOrder("other", BUY, MARKET, 6, is_parent=True))
    exits = (limit("sells into the parent", SELL, 99, 6), NewOrder("stop2", SELL, STOP, 6, 80))
    engine.submit_oco(*exits, other)
    assert (target.filled, parent.filled, parent.status) == (5, 5, ServedStatus.CANCELED)


def test_children_die_with_an_unfilled_parent_and_outlive_a_partly_filled_one():
    engine = engine_with_book()
    parent, target, stop = bracket(engine)
    engine.cancel(parent)
    assert (target.status, stop.status) == (ServedStatus.CANCELED, ServedStatus.CANCELED)
    engine = engine_with_book()
    parent, target, stop = bracket(engine)
    engine.hit(SELL, 4)
    engine.cancel(parent)
    assert (target.open_quantity, stop.open_quantity) == (4, 4)


def test_a_finished_bracket_cancels_what_is_left_of_its_parent():
    engine = engine_with_book()
    parent, target, stop = bracket(engine)
    engine.hit(SELL, 4)
    engine.replace(target, 99)  # a marketable exit: what the daemon does to get out
    assert (target.filled, target.status) == (4, ServedStatus.FILLED)
    assert (stop.status, parent.status) == (ServedStatus.CANCELED, ServedStatus.CANCELED)


@pytest.mark.parametrize("kind", [MARKET, LIMIT])
def test_a_parent_waits_for_its_pair_and_the_set_is_processed_together(kind):
    engine = engine_with_book()
    parent = engine.submit(NewOrder("parent", BUY, kind, 3, 102, is_parent=True))
    engine.hit(SELL, 1)
    assert path(engine, "parent") == [(2, 2)]
    assert (parent.alive, parent.filled, parent.resting) == (True, 0, False)
    target, stop = engine.submit_oco(limit("target", SELL, 105, 3), NewOrder("stop", SELL, STOP, 3, 95), parent)
    assert path(engine, "parent")[1:] == [(4, 3), (7, 4)]
    assert path(engine, "target") == path(engine, "stop") == [(2, 2), (3, 3), (4, 3)]
    assert target.resting
    assert stop.armed


def test_a_parent_whose_pair_never_comes_waits_until_it_is_cancelled_or_its_session_ends():
    engine = engine_with_book()
    cancelled = engine.submit(limit("cancelled", BUY, 102, 1, is_parent=True))
    engine.cancel(cancelled)
    assert path(engine, "cancelled") == [(2, 2), (6, 3), (8, 6)]
    day = engine.submit(limit("day", BUY, 102, 1, is_parent=True))
    gtc = engine.submit(limit("gtc", BUY, 102, 1, GTC, is_parent=True))
    engine.traded(SELL, 90, 100)
    engine.expire_day_orders()
    assert (day.status, gtc.status) == (ServedStatus.CANCELED, ServedStatus.PENDING_OPEN)
    assert day.filled == gtc.filled == 0


def test_a_waiting_parent_can_be_changed_and_goes_on_waiting():
    engine = engine_with_book()
    parent = engine.submit(limit("parent", BUY, 98, 3, is_parent=True))
    engine.replace(parent, 103, quantity=2)
    assert path(engine, "parent")[-1] == (2, 7)
    assert parent.waits_for_pair
    engine.submit_oco(limit("target", SELL, 105, 2), NewOrder("stop", SELL, STOP, 2, 95), parent)
    assert fills(engine, "parent") == [(101, 2)]


def test_a_parent_that_sweeps_several_prices_is_covered_whole_even_when_its_target_fills_at_once():
    engine = engine_with_book(quantity=3)
    parent = engine.submit(NewOrder("parent", BUY, MARKET, 4, is_parent=True))
    target, stop = engine.submit_oco(limit("target", SELL, 99, 4), NewOrder("stop", SELL, STOP, 4, 90), parent)
    assert fills(engine, "parent") == [(101, 3), (102, 1)]
    assert (target.filled, target.open_quantity, stop.open_quantity) == (3, 1, 1)


def test_offsets_are_counted_from_the_fill():
    engine = engine_with_book()
    parent = engine.submit(NewOrder("parent", SELL, MARKET, 3, is_parent=True))
    pair = (NewOrder("target", BUY, LIMIT, 3), NewOrder("stop", BUY, STOP, 3))
    target, stop = engine.submit_oco(*pair, parent, (6, 4))
    assert (target.price1, stop.price1) == (93, 103)


def test_day_orders_end_with_the_session_and_others_stay():
    engine = engine_with_book()
    day, gtc = engine.submit(limit("day", BUY, 90)), engine.submit(limit("gtc", BUY, 90, 1, GTC))
    parent, target, _ = bracket(engine)
    engine.expire_day_orders()
    assert not day.alive
    assert gtc.alive
    assert not parent.alive
    assert not target.alive


def test_live_orders_come_back_as_they_were():
    engine = engine_with_book()
    _, target, stop = bracket(engine)
    engine.hit(SELL, 4)
    orders = {o.order_id: from_dict(to_dict(o)) for o in (target, stop)}
    again = MatchingEngine()
    orders[stop.order_id].sibling, orders[target.order_id].sibling = orders[target.order_id], orders[stop.order_id]
    again.restore(orders.values(), 100)
    assert again.book.touch() == (None, 0, 105, 4)
    again.rest(BUY, 94, 50)
    again.hit(SELL, 1)
    assert [(e.client_id, e.status) for e in again.events] == [
        ("stop", ServedStatus.FILLED),
        ("target", ServedStatus.CANCELED),
    ]


def test_the_engine_is_fast_enough_for_the_market():
    engine = engine_with_book(quantity=1_000_000, levels=1)
    operations = 20_000
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for i in range(operations // 4):
            engine.rest(BUY, 98, 5)
            engine.rest(SELL, 102, 5)
            engine.hit(BUY if i % 2 else SELL, 1)
            order = next(reversed(engine.book.bids[98].orders.values()))
            engine.book.remove(order)
            engine.book.changes.clear()
            engine.trades.clear()
        best = min(best, time.perf_counter() - started)
    assert operations / best > 50_000
