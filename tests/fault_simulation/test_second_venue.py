"""The second venue as a client sees it: what each habit changes, and nothing else."""

import asyncio
import math
from dataclasses import fields
from random import Random

import pytest

from fault_simulation.habits import (
    CHANGES,
    EXECUTIONS_DIFFER,
    EXPECTED_HALT,
    LONGER_BARE_S,
    MOST,
    SLOW,
    Habits,
    habits_of,
    names_of,
)
from fault_simulation.loop import SimulatedLoop
from fault_simulation.network import Network
from fault_simulation.plan import PORT, plan_of
from fault_simulation.second_venue import SecondVenue
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import BINARY

FAR = 400  # ticks from the touch: never reached
SENT, PENDING_OPEN, PENDING_CHILD, OPEN = 1, 2, 3, 4
FILLED, CANCELED, REJECTED = 7, 8, 9


class Client(asyncio.Protocol):
    """A client that logs on and remembers what it receives."""

    def __init__(self):
        self.received = []
        self._reader = BINARY.reader()

    def connection_made(self, transport):
        self._transport = transport
        self.send(dtc.LogonRequest(HeartbeatIntervalInSeconds=5))

    def data_received(self, data):
        self.received += BINARY.messages(self._reader.feed(data))

    def send(self, *messages):
        self._transport.write(b"".join(map(BINARY.encode, messages)))

    def of(self, kind, **values):
        return [m for m in self.received if type(m) is kind and all(getattr(m, k) == v for k, v in values.items())]

    def updates(self, name):
        return self.of(dtc.OrderUpdate, ClientOrderID=name)


class Bench:
    """One venue with these habits, one client, and virtual time."""

    def __init__(self, directory, *names):
        self.loop = SimulatedLoop(Random(1), 0.0)
        self.network = Network(self.loop, Random(2), 0.0)
        self.states = []
        self.venue = SecondVenue(
            plan_of(1).settings,
            directory / "venue",
            self.loop,
            self.network,
            habits=habits_of(names),
            on_change=self.states.append,
        )
        self.venue.start(Random(3))
        self.client = self.connect()

    def connect(self):
        self.run(0.5)
        _, client = self.loop.run_until_complete(self.loop.create_connection(Client, "127.0.0.1", PORT))
        self.client = client
        self.run(0.7)
        return client

    def run(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def say(self, *messages, wait=0.7):
        """Send, wait, and return what came meanwhile."""
        before = len(self.client.received)
        self.client.send(*messages)
        self.run(wait)
        return self.client.received[before:]

    def single(self, name, side, ticks, kind=2, quantity=1, **more):
        venue = self.venue
        price = 0.0 if kind == 1 else (venue.exchange.bid + ticks) * 0.25 / venue._habits.multiplier
        return dtc.SubmitNewSingleOrder(
            Symbol="ESZ26_FUT_CME",
            TradeAccount="Sim1",
            ClientOrderID=name,
            OrderType=kind,
            BuySell=side,
            Price1=price,
            Quantity=float(quantity),
            **more,
        )

    def pair(self, quantity=1, stop=-FAR, target=FAR, parent="e"):
        bid = self.venue.exchange.bid
        return dtc.SubmitNewOCOOrder(
            Symbol="ESZ26_FUT_CME",
            TradeAccount="Sim1",
            ParentTriggerClientOrderID=parent,
            ClientOrderID_1="stop",
            OrderType_1=3,
            BuySell_1=2,
            Price1_1=(bid + stop) * 0.25,
            Quantity_1=float(quantity),
            ClientOrderID_2="target",
            OrderType_2=2,
            BuySell_2=2,
            Price1_2=(bid + target) * 0.25,
            Quantity_2=float(quantity),
        )

    def bracket(self, quantity=1, wait=0.7, **levels):
        """Buy with a stop and a target."""
        return self.say(
            self.single("e", 1, 10, quantity=quantity, IsParentOrder=1), self.pair(quantity, **levels), wait=wait
        )

    def number(self, name):
        return self.venue.exchange.named(name).number

    def cancel(self, name, **more):
        return self.say(
            dtc.CancelOrder(ServerOrderID=self.number(name), ClientOrderID=name, TradeAccount="Sim1"), **more
        )

    def replace(self, name, ticks):
        price = (self.venue.exchange.bid + ticks) * 0.25
        return self.say(
            dtc.CancelReplaceOrder(
                ServerOrderID=self.number(name), ClientOrderID=name, Price1=price, Price2IsSet=0, TradeAccount="Sim1"
            )
        )

    def close(self):
        self.venue.crash()
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False
            task.get_coro().close()
        self.loop.close()
        self.network.close()


@pytest.fixture
def bench(tmp_path):
    opened = []

    def open_bench(*names):
        opened.append(Bench(tmp_path, *names))
        return opened[-1]

    yield open_bench
    for one in opened:
        one.close()


def statuses(messages):
    return [m.OrderStatus for m in messages if isinstance(m, dtc.OrderUpdate)]


def orders(bench, **more):
    return bench.say(dtc.OpenOrdersRequest(RequestID=1), **more)


def past_fills(bench):
    return bench.say(dtc.HistoricalOrderFillsRequest(RequestID=2))


# The tables.


@pytest.mark.parametrize("name", CHANGES)
def test_a_habit_changes_the_plain_behaviour(name):
    assert habits_of((name,)) != Habits()
    assert CHANGES[name].keys() <= {field.name for field in fields(Habits)}


def test_tables_name_habits_that_exist():
    assert {*EXECUTIONS_DIFFER, *EXPECTED_HALT, *LONGER_BARE_S, *SLOW} <= CHANGES.keys()


def test_habits_of_a_seed_do_not_contradict_each_other():
    counts = set()
    for seed in range(300):
        names = names_of(Random(seed))
        counts.add(len(names))
        habits = habits_of(names)
        for name in names:
            assert all(repr(getattr(habits, field)) == repr(value) for field, value in CHANGES[name].items())
    assert counts == set(range(MOST + 1))


# Orders.


def test_a_plain_bracket(bench):
    b = bench()
    told = b.bracket()
    client = b.client
    assert statuses(client.updates("e")) == [PENDING_OPEN, OPEN, FILLED]
    assert statuses(client.updates("stop")) == statuses(client.updates("target")) == [PENDING_CHILD, OPEN]
    assert [m.LastFillExecutionID for m in told if getattr(m, "LastFillQuantity", 2) == 1.0] == ["X1"]
    assert client.of(dtc.PositionUpdate)[-1].Quantity == b.venue.state().position == 1
    assert [(m.UniqueExecutionID, m.Quantity) for m in past_fills(b)] == [("X1", 1.0)]
    assert {m.ClientOrderID for m in orders(b)} == {"stop", "target"}
    b.replace("target", -3)
    assert statuses(client.updates("target"))[-1] == FILLED
    assert statuses(client.updates("stop"))[-1] == CANCELED
    assert b.venue.state().position == 0
    assert b.venue.earned == pytest.approx(client.of(dtc.AccountBalanceUpdate)[-1].CashBalance - 100_000)


def test_an_entry_cancelled_before_it_fills_takes_its_bracket_along(bench):
    b = bench()
    b.say(b.single("e", 1, -FAR, IsParentOrder=1), b.pair())
    b.cancel("e")
    assert [statuses(b.client.updates(name))[-1] for name in ("e", "stop", "target")] == [CANCELED] * 3
    assert b.venue.state().orders == ()


def test_what_has_arrived_protects_before_it_is_acknowledged(bench):
    b = bench("acknowledged after 1.2 s")
    b.say(b.single("s", 2, -FAR, 3), wait=0.5)
    assert not b.client.updates("s")
    assert [order.stops for order in b.venue.state().orders] == [True]


def test_a_child_protects_once_it_works(bench):
    b = bench("children work after 2 s")
    b.bracket()
    assert b.venue.state().position == 1
    assert not any(order.stops for order in b.venue.state().orders)
    b.run(2.0)
    assert [order.stops for order in b.venue.state().orders] == [True, False]


@pytest.mark.parametrize(
    ("habit", "path"),
    [
        ("path open", [OPEN]),
        ("path pending open", [PENDING_OPEN]),
        ("path sent", [SENT]),
        ("path sent, pending, open", [SENT, PENDING_OPEN, OPEN]),
    ],
)
def test_paths_end_in_the_same_fill(bench, habit, path):
    b = bench(habit)
    b.say(b.single("e", 1, 10, IsParentOrder=1))
    assert statuses(b.client.updates("e")) == [*path, FILLED]


@pytest.mark.parametrize(
    ("habit", "path"),
    [("children pending open", [2]), ("children sent", [1]), ("children sent, then waiting", [1, 3])],
)
def test_paths_of_waiting_children(bench, habit, path):
    b = bench(habit)
    b.say(b.single("e", 1, -FAR, IsParentOrder=1), b.pair())
    assert statuses(b.client.updates("stop")) == path


@pytest.mark.parametrize(
    ("habit", "names"),
    [
        ("names first", ["ABCD-12E", "", "", ""]),
        ("names never", ["", "", "", ""]),
        ("names short", ["ABCD-1"] * 4),
        ("names case", ["abcd-12e"] * 4),
    ],
)
def test_names_in_updates_and_list(bench, habit, names):
    b = bench(habit)
    told = b.say(b.single("ABCD-12E", 1, -FAR)) + orders(b) + b.cancel("ABCD-12E")
    told = [m.ClientOrderID for m in told if isinstance(m, dtc.OrderUpdate)]
    assert [told[0], told[1], told[2], told[-1]] == names


def test_numbers_of_children_come_with_their_work(bench):
    b = bench("child numbers late")
    b.say(b.single("e", 1, -FAR, IsParentOrder=1), b.pair())
    assert [m.ServerOrderID for m in b.client.updates("stop")] == [""]
    b.replace("e", 10)
    assert b.client.updates("stop")[-1].ServerOrderID == b.number("stop")


@pytest.mark.parametrize(
    ("habit", "renamed", "previous", "path"),
    [
        ("replace renamed", True, True, [OPEN]),
        ("replace anonymous", True, False, [OPEN]),
        ("replace anew", True, False, [CANCELED, OPEN]),
        ("replace refused", False, False, [OPEN]),
    ],
)
def test_replaces(bench, habit, renamed, previous, path):
    b = bench(habit)
    b.say(b.single("s", 1, -FAR))
    before = b.number("s")
    told = [m for m in b.replace("s", -FAR - 1) if isinstance(m, dtc.OrderUpdate)]
    assert statuses(told) == path
    assert (told[-1].ServerOrderID != before) is renamed
    assert told[-1].PreviousServerOrderID == (before if previous else "")
    assert (told[-1].OrderUpdateReason == 10) is (habit == "replace refused")


def test_fills_in_parts_bring_their_children_along(bench):
    b = bench("fills in 3 parts")
    b.bracket(quantity=7, wait=3.0)
    assert [m.FilledQuantity for m in b.client.updates("e")][-3:] == [3.0, 6.0, 7.0]
    assert [m.OrderQuantity for m in b.client.updates("stop")] == [7.0, 3.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("habit", "told", "listed"),
    [
        ("executions updates", ["X1", "X2"], ["", ""]),
        ("executions history", ["", ""], ["X1", "X2"]),
        ("executions differ", ["X1", "X2"], ["H1", "H2"]),
        ("executions none", ["", ""], ["", ""]),
        ("executions per_order", ["1", "1"], ["1", "1"]),
        ("executions per_query", ["X1", "X2"], ["Q1-1", "Q1-2"]),
        ("fills only listed", [], ["X1", "X2"]),
        ("fills only in updates", ["X1", "X2"], []),
        ("fills never told", [], []),
    ],
)
def test_executions_in_updates_and_list(bench, habit, told, listed):
    b = bench(habit)
    updates = b.say(b.single("one", 1, 10)) + b.say(b.single("two", 1, 10))
    filled = [m for m in updates if isinstance(m, dtc.OrderUpdate) and m.OrderStatus == FILLED]
    assert [m.FilledQuantity for m in filled] == [1.0, 1.0]
    assert [m.LastFillExecutionID for m in filled if m.LastFillQuantity == 1.0] == told
    assert [m.UniqueExecutionID for m in past_fills(b) if not m.NoOrderFills] == listed


@pytest.mark.parametrize(
    ("habit", "expected"),
    [
        ("position before", ["position", "order"]),
        ("position never", ["order"]),
        ("updates 0.8 s late", ["position", "order"]),
    ],
)
def test_positions_beside_updates(bench, habit, expected):
    b = bench(habit)
    told = b.say(b.single("one", 1, 10), wait=2.5)
    kinds = {dtc.PositionUpdate: "position", dtc.OrderUpdate: "order"}
    about = [m for m in told if isinstance(m, dtc.PositionUpdate) or getattr(m, "OrderStatus", 0) == FILLED]
    assert [kinds[type(m)] for m in about] == expected


def test_positions_come_late(bench):
    b = bench("position late")
    b.say(b.single("one", 1, 10))
    assert statuses(b.client.updates("one"))[-1] == FILLED
    assert not b.client.of(dtc.PositionUpdate)
    b.run(0.7)
    assert [m.Quantity for m in b.client.of(dtc.PositionUpdate)] == [1.0]


def test_a_flat_position_is_unset(bench):
    b = bench("position unset when flat")
    b.say(b.single("one", 1, 0, 1))
    b.say(b.single("two", 2, 0, 1))
    assert [m.Quantity for m in b.client.of(dtc.PositionUpdate)] == [1.0, dtc.UNSET_F64]


@pytest.mark.parametrize(
    ("habit", "status"),
    [
        ("stop rejected", {"stop": REJECTED, "target": OPEN}),
        ("target rejected", {"stop": OPEN, "target": REJECTED}),
        ("both children rejected", {"stop": REJECTED, "target": REJECTED}),
        ("children never work", {"stop": PENDING_CHILD, "target": PENDING_CHILD}),
    ],
)
def test_children_that_do_not_work(bench, habit, status):
    b = bench(habit)
    b.bracket(wait=5.0)
    assert {name: statuses(b.client.updates(name))[-1] for name in ("stop", "target")} == status


def test_a_pair_that_is_not_linked_leaves_the_other_order(bench):
    b = bench("pairs not linked")
    b.bracket()
    b.replace("target", -3)
    assert [order.client_order_id for order in b.venue.state().orders] == ["stop"]


def test_a_pair_that_is_linked_late(bench):
    b = bench("pairs linked after 0.3 s")
    b.bracket()
    b.client.send(
        dtc.CancelReplaceOrder(ServerOrderID=b.number("target"), Price1=1.0, Price2IsSet=0, TradeAccount="Sim1")
    )
    while b.venue.state().position:
        b.run(0.01)
    assert len(b.venue.state().orders) == 1
    b.run(0.4)
    assert b.venue.state().orders == ()


def test_a_bracket_may_be_ignored_without_a_word(bench):
    b = bench("pairs ignored")
    b.bracket()
    assert not b.client.updates("stop")
    assert b.venue.state().orders == ()
    assert b.venue.state().position == 1


@pytest.mark.parametrize(
    ("habit", "flags"),
    [("pairs refused", (1, 1, 1)), ("pairs not supported", (0, 0, 1)), ("brackets not supported", (1, 0, 1))],
)
def test_pairs_refused_and_what_the_logon_says(bench, habit, flags):
    b = bench(habit)
    b.bracket()
    logon = b.client.of(dtc.LogonResponse)[0]
    assert (logon.OCOOrdersSupported, logon.BracketOrdersSupported, logon.OrderCancelReplaceSupported) == flags
    assert statuses(b.client.updates("stop")) == statuses(b.client.updates("target")) == [REJECTED]


@pytest.mark.parametrize(("habit", "answered"), [("cancels refused in part", True), ("cancels silent in part", False)])
def test_cancels_that_have_no_effect(bench, habit, answered):
    b = bench(habit)
    for number in range(20):
        b.say(b.single(f"n{number}", 1, -FAR))
        b.cancel(f"n{number}")
    left = [order.client_order_id for order in b.venue.state().orders]
    assert 1 < len(left) < 19
    assert all((b.client.updates(name)[-1].OrderUpdateReason == 9) is answered for name in left)
    b.venue.behave()
    for name in left:
        b.cancel(name)
    assert b.venue.state().orders == ()


@pytest.mark.parametrize(("habit", "names"), [("nameless", ["", ""]), ("named", ["manual", "chart-7"])])
def test_orders_of_others_are_listed(bench, habit, names):
    b = bench(f"others {habit}")
    b.say(b.single("s", 1, -FAR))
    assert [m.ClientOrderID for m in orders(b)] == ["s", *names]


def test_a_list_of_no_orders(bench):
    b = bench()
    assert [m.NoOrders for m in orders(b)] == [1]


def test_a_list_of_no_orders_may_not_come(bench):
    b = bench("no orders silent")
    assert orders(b) == []


def test_orders_may_be_listed_without_a_status(bench):
    b = bench("orders listed without status")
    b.say(b.single("s", 1, -FAR))
    assert [(m.ClientOrderID, m.OrderStatus) for m in orders(b)] == [("s", 0)]


def test_orders_that_are_done_may_be_listed(bench):
    b = bench("done orders listed")
    b.say(b.single("s", 1, -FAR))
    b.cancel("s")
    assert [(m.ClientOrderID, m.OrderStatus) for m in orders(b)] == [("s", CANCELED)]


@pytest.mark.parametrize(
    ("habit", "named", "done"), [("nameless", False, True), ("refused", True, False), ("silent", False, False)]
)
def test_flattens(bench, habit, named, done):
    b = bench(f"flatten {habit}")
    b.say(b.single("one", 1, 0, 1))
    b.say(dtc.SubmitFlattenPositionOrder(Symbol="ESZ26_FUT_CME", TradeAccount="Sim1", ClientOrderID="x"))
    assert bool(b.client.updates("x")) is named
    assert (b.venue.state().position == 0) is done


# Values.


@pytest.mark.parametrize(
    ("habit", "symbol", "account"),
    [
        ("symbol blank", "", "Sim1"),
        ("symbol other", "ESZ26-CME", "Sim1"),
        ("account blank", "ESZ26_FUT_CME", ""),
        ("symbol other case", "ESZ26_fut_cme", "Sim1"),
        ("account other", "ESZ26_FUT_CME", "Sim1 (simulated)"),
        ("account other case", "ESZ26_FUT_CME", "sIM1"),
    ],
)
def test_spellings(bench, habit, symbol, account):
    b = bench(habit)
    b.say(b.single("one", 1, 10))
    told = [*b.client.of(dtc.OrderUpdate), *b.client.of(dtc.PositionUpdate), *past_fills(b)]
    assert {(m.Symbol, m.TradeAccount) for m in told} == {(symbol, account)}


@pytest.mark.parametrize(
    ("habit", "ahead_s"), [("behind", -21_600.0), ("ahead", 7_200.0), ("day_ahead", 86_400.0), ("zero", None)]
)
def test_times(bench, habit, ahead_s):
    b = bench(f"times {habit}")
    b.say(b.single("one", 1, 10))
    last = b.client.updates("one")[-1].LatestTransactionDateTime
    now_s = b.loop.now_ns() / 1e9
    assert last == 0.0 if ahead_s is None else last == pytest.approx(now_s + ahead_s, abs=1.0)


@pytest.mark.parametrize("habit", ["max", "nan"])
def test_times_that_make_no_sense(bench, habit):
    b = bench(f"times {habit}")
    b.say(b.single("one", 1, 10))
    last = b.client.updates("one")[-1].LatestTransactionDateTime
    assert last in {0.0, dtc.UNSET_F64}  # what is no number is 0 once it is decoded
    assert b.client.updates("one")[-1].LastFillDateTime == 0


@pytest.mark.parametrize("name", [name for name in CHANGES if name.startswith("odd ")])
def test_odd_values_are_in_a_share_of_the_messages(bench, name):
    b = bench(name)
    kind, field, value = CHANGES[name]["odd"]
    for number in range(12):
        b.say(b.single(f"n{number}", 1 + number % 2, 0, 1), wait=0.4)
    for _ in range(10):
        b.say(dtc.HistoricalOrderFillsRequest(RequestID=2), dtc.CurrentPositionsRequest(RequestID=3), wait=0.1)
    told = [repr(getattr(m, field)) for m in b.client.received if type(m).__name__ == kind]
    if math.isnan(value):  # what is no number is unset once it is decoded, and a time is 0
        value = 0.0 if field.endswith("DateTime") else dtc.UNSET_F64
    odd = told.count(repr(value))
    assert odd > 0
    assert odd < len(told) or field == "Price1"  # a market order has none


def test_prices_in_hundredths(bench):
    b = bench("prices in hundredths")
    b.say(b.single("s", 1, -FAR))
    assert b.client.updates("s")[-1].Price1 == pytest.approx((24_000 - FAR) * 25, abs=500)
    told = b.say(dtc.SecurityDefinitionForSymbolRequest(RequestID=1, Symbol="ESZ26_FUT_CME"))
    assert told[0].DisplayPriceMultiplier == pytest.approx(0.01)
    assert told[0].DisplayPriceMultiplier != 0.01  # as it arrives, a 32-bit float


@pytest.mark.parametrize(
    ("habit", "field", "value"),
    [
        ("reasons general", "OrderUpdateReason", 3),
        ("fills without status", "OrderStatus", 0),
        ("updates numbered", "TotalNumMessages", 1),
    ],
)
def test_fields_of_a_fill(bench, habit, field, value):
    b = bench(habit)
    b.say(b.single("one", 1, 10))
    assert getattr(b.client.updates("one")[-1], field) == value


def test_updates_twice(bench):
    b = bench("updates twice")
    b.say(b.single("one", 1, -FAR))
    assert statuses(b.client.updates("one")) == [PENDING_OPEN, PENDING_OPEN, OPEN, OPEN]


@pytest.mark.parametrize(
    ("habit", "query", "refusal"),
    [
        ("fills query refused", dtc.HistoricalOrderFillsRequest(RequestID=2), dtc.HistoricalOrderFillsReject),
        ("balance refused", dtc.AccountBalanceRequest(RequestID=2), dtc.AccountBalanceReject),
    ],
)
def test_queries_refused(bench, habit, query, refusal):
    b = bench(habit)
    assert [type(m) for m in b.say(query)] == [refusal]


@pytest.mark.parametrize(("habit", "rows"), [("none", 0), ("others", 3)])
def test_positions_of_a_flat_account(bench, habit, rows):
    b = bench(f"positions {habit}")
    told = b.say(dtc.CurrentPositionsRequest(RequestID=2))
    assert len([m for m in told if not m.NoPositions]) == rows


def test_slow_answers_come_one_after_the_other(bench):
    b = bench("answers after 0.5 s")
    told = b.say(dtc.OpenOrdersRequest(RequestID=1), dtc.CurrentPositionsRequest(RequestID=2), wait=0.9)
    assert [m.RequestID for m in told] == [1]
    b.run(0.5)
    assert b.client.received[-1].RequestID == 2


# Crashes.


def crash(b):
    b.venue.crash()
    b.run(1.0)
    b.venue.start(Random(4))
    b.connect()


def test_orders_outlive_a_crash(bench):
    b = bench()
    b.bracket()
    crash(b)
    assert {m.ClientOrderID: m.OrderStatus for m in orders(b)} == {"stop": OPEN, "target": OPEN}
    assert [m.UniqueExecutionID for m in past_fills(b)] == ["X1"]


def test_a_crash_before_the_acknowledgement_leaves_a_working_order(bench):
    b = bench("acknowledged after 1.2 s")
    b.say(b.single("s", 1, 10), wait=0.3)
    assert b.venue.state().position == 0
    crash(b)
    assert b.venue.state().position == 1


def test_numbers_may_begin_again(bench):
    b = bench("numbers begin again")
    b.say(b.single("one", 1, 10))
    b.say(b.single("two", 1, -FAR))
    crash(b)
    assert [(m.ClientOrderID, m.ServerOrderID) for m in orders(b)] == [("two", "1")]
    assert [m.NoOrderFills for m in past_fills(b)] == [1]
    assert b.venue.state().position == 1
