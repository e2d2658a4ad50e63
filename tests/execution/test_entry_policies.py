"""How entries are priced and followed: at the paper broker and at the simulator, and never beyond their bounds."""

import random

import pytest
from sierra_session import Session

from mia_daemon import config
from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.errors import JournalError
from mia_daemon.execution.order_states import OrderState
from mia_daemon.market import Touch
from mia_daemon.records import Fill, OrderReport, OrderRole, OrderStatus, OrderType, Priority, Side
from mia_daemon.risk.codes import RiskCode

SECOND = 1000  # ms
TICK = 0.25
AT_TOUCH = {"policy": "limit_at_touch", "chase_after_s": 2.0, "max_chases": 3, "max_chase_ticks": 4}


class Loose:
    """A paper broker from which requests can be kept, to be answered by the test."""

    def __init__(self, settings):
        from mia_daemon.products.instruments import instrument

        self.inner = PaperBroker(instrument("ESZ26_FUT_CME"), "Sim1", settings, "loose")
        self.moves, self.cancels, self.keep = [], [], set()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def replace(self, name, number, price, quantity):
        self.moves.append(price)
        if "replace" not in self.keep:
            self.inner.replace(name, number, price, quantity)

    def cancel(self, name, number):
        self.cancels.append(name[-1])
        if "cancel" not in self.keep:
            self.inner.cancel(name, number)


@pytest.fixture
def trading(make_rig):
    """`await trading(policy=…, max_chases=…)`: a rig at 100.00 / 100.25 whose entries are worked so."""

    async def make(risk=None, broker=None, **execution):
        latencies = {"paper_entry_latency_ms": 0, "paper_response_latency_ms": 0, **(broker or {})}
        rig = make_rig(
            Loose(config.BrokerSettings(**latencies)),
            settings={"execution": execution, "broker": latencies, "risk": risk or {}},
        )
        rig.play((1, 100.0))
        assert await rig.reconcile()
        return rig

    return make


def entry_of(rig):
    entries = rig.orders.with_role(OrderRole.ENTRY)
    return entries[0] if entries else None


def last_bracket(rig):
    stop, target = (rig.orders.get(f"{rig.run_id}-{rig.actors.order_manager.factory._number}{role}") for role in "ST")
    return stop.order, target.order


def stops(rig):
    return sum(stop.open_quantity for stop in rig.orders.with_role(OrderRole.STOP) if stop.at_server)


# --------------------------------------------------------------------------------------------------- where it is priced


@pytest.mark.parametrize(
    ("execution", "action", "price", "expected"),
    [
        ({}, "buy", 101.25, 100.25),
        ({}, "sell", 99.0, 100.0),
        ({"policy": "market_with_protection", "protection_ticks": 12}, "buy", 103.25, 100.25),
        ({"policy": "market_with_protection", "protection_ticks": 12}, "sell", 97.0, 100.0),
        (AT_TOUCH, "buy", 100.0, 100.0),
        (AT_TOUCH, "sell", 100.25, 100.25),
    ],
)
async def test_the_policy_prices_the_entry_and_its_bracket_follows_from_where_it_should_fill(
    trading, execution, action, price, expected
):
    rig = await trading(**execution)
    side = 1 if action == "buy" else -1
    assert rig.decide(action, side).allowed
    entry = entry_of(rig).order
    assert (entry.price, entry.type) == (price, OrderType.LIMIT)  # never a bare market order
    stop, target = last_bracket(rig)
    assert (stop.price, target.price) == (expected - side * 4.0, expected + side * 6.0)


async def test_what_a_protected_market_order_leaves_rests_at_the_protection(trading):
    rig = await trading(policy="market_with_protection", protection_ticks=2)
    rig.decide("buy", 1)
    rig.play((5, 101.0))  # it arrived at 100.00 / 100.25
    assert (rig.position, rig.notices.fills[0].price) == (1, 100.25)
    rig.operator.flatten("test")
    rig.play((5, 101.0), (5, 101.0))
    rig.decide("buy", 1)
    rig.broker.inner._exchange.touch = Touch(102.0, 102.25)  # the market has run beyond the protection on the way
    rig.play((5, 102.0), (5, 102.0))
    assert (entry_of(rig).state, entry_of(rig).price) == (OrderState.WORKING, 101.75)
    rig.play((16 * SECOND, 102.0), (5, 102.0))
    assert (entry_of(rig), rig.position) == (None, 0)


# ------------------------------------------------------------------------------------------------------ while it rests


async def test_an_entry_at_the_touch_fills_at_its_own_price_when_the_market_comes(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("buy", 1)
    rig.play((500, 100.0), (500, 99.75, 100.0))
    assert [(fill.price, fill.quantity) for fill in rig.notices.fills] == [(100.0, 1)]
    assert (rig.position, stops(rig), rig.broker.moves) == (1, 1, [])


async def test_it_follows_a_touch_that_moves_away_and_then_gives_up(trading):
    rig = await trading(**AT_TOUCH, unfilled_after_s=14.0)
    rig.decide("buy", 1)
    rig.play((500, 100.0), (500, 100.25))
    assert rig.broker.moves == []  # not before its time
    rig.play((SECOND, 100.25), (5, 100.25))
    assert (rig.broker.moves, entry_of(rig).price) == ([100.25], 100.25)
    rig.play((2 * SECOND, 100.5), (5, 100.5), (2 * SECOND, 100.75), (5, 100.75))
    assert rig.broker.moves == [100.25, 100.5, 100.75]
    rig.play((2 * SECOND, 101.0), (5, 101.0), (5, 101.0))  # a fourth time it may not
    assert (rig.broker.cancels, entry_of(rig), rig.position) == (["E"], None, 0)


async def test_it_does_not_follow_too_far(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("sell", -1)
    rig.play((500, 100.0), (2 * SECOND, 98.75), (5, 98.75), (5, 98.75))  # the ask is 5 ticks away
    assert (rig.broker.moves, rig.broker.cancels, entry_of(rig)) == ([], ["E"], None)


async def test_a_touch_that_stays_is_waited_at_until_the_time_is_up(trading):
    rig = await trading(**AT_TOUCH, unfilled_after_s=5.0)
    rig.decide("buy", 1)
    rig.play((5, 100.0), *[(400, 100.0)] * 12)
    assert entry_of(rig).state is OrderState.WORKING
    rig.play((400, 100.0), (5, 100.0))
    assert (entry_of(rig), rig.broker.moves) == (None, [])


async def test_unfilled_it_may_cross_within_its_ticks(trading):
    rig = await trading(**AT_TOUCH, unfilled_after_s=5.0, unfilled="cross")
    rig.decide("buy", 1)
    rig.play((5, 100.0), (5 * SECOND, 100.0), (5, 100.0), (5, 100.0))
    assert rig.broker.moves == [101.0]  # 100.25 and the slippage would be 101.25: the chase ends at 101
    assert (rig.notices.fills[0].price, rig.position, stops(rig)) == (100.25, 1, 1)


async def test_a_market_out_of_reach_is_not_crossed_to(trading):
    rig = await trading(**AT_TOUCH, unfilled_after_s=5.0, unfilled="cross")
    rig.decide("buy", 1)
    rig.play((5, 100.0), (SECOND, 101.0), (4 * SECOND, 101.0), (5, 101.0), (5, 101.0))
    assert (rig.broker.moves, rig.broker.cancels[:1], entry_of(rig)) == ([], ["E"], None)


async def test_what_would_not_be_entered_now_is_not_followed_either(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("buy", 1)
    rig.play((5, 100.0), (2 * SECOND, 100.25, 106.0), (5, 100.25, 106.0))  # a spread of 23 ticks
    assert (rig.broker.moves, rig.broker.cancels, entry_of(rig)) == ([], ["E"], None)
    assert rig.decide("buy", 1).code is RiskCode.WIDE_SPREAD


async def test_an_entry_is_not_moved_when_that_can_not_be_written_down(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("buy", 1)
    rig.play((5, 100.0))

    def dead(*_args, **_kwargs):
        raise JournalError("disk full")

    rig.journal.record_request = dead
    rig.play((2 * SECOND, 100.25), (5, 100.25), (5, 100.25))
    assert (rig.broker.moves, rig.broker.cancels, entry_of(rig)) == ([], ["E"], None)
    assert "journal" in rig.alert_codes


async def test_an_entry_is_not_moved_to_where_it_would_be_worth_more_than_an_order_may(trading):
    rig = await trading(risk={"max_order_notional": 5005.0}, **AT_TOUCH)
    assert rig.decide("buy", 1).allowed  # 5,000 at 100.00
    rig.play((5, 100.0), (2 * SECOND, 100.25))
    assert rig.broker.moves == []
    assert "denied_order_notional" in rig.alert_codes


# -------------------------------------------------------------------------------------------- when messages cross


async def test_part_of_it_fills_and_the_rest_is_given_up_under_exact_protection(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("buy", 3)
    touch = rig.quotes((5, 100.0), (5, 100.0))
    touch["bid_size"], touch["ask_size"] = 2, 9
    rig.executor.on_market(touch)
    trade = rig.quotes((5, 100.0))
    trade["kind"], trade["price"], trade["size"], trade["side"] = 1, 100.0, 3, -1
    rig.executor.on_market(trade)  # two are ahead: one contract is ours
    rig.play((1, 100.0))
    assert (rig.position, stops(rig), entry_of(rig).state) == (1, 1, OrderState.PARTIAL)
    rig.play((7 * SECOND, 100.0), (5, 100.0))
    assert (rig.position, stops(rig), entry_of(rig)) == (1, 1, None)
    assert rig.executor.settled


async def test_a_refused_move_leaves_the_order_which_is_given_up_instead_of_moved_again(trading):
    rig = await trading(**AT_TOUCH, unfilled_after_s=14.0)
    rig.broker.keep = {"replace"}
    rig.decide("buy", 1)
    rig.play((5, 100.0), (2 * SECOND, 100.25))
    entry = entry_of(rig)
    assert (rig.broker.moves, entry.request.replace_pending) == ([100.25], True)
    refusal = OrderReport(
        rig.ts_ns, entry.client_order_id, "", "ESZ26_FUT_CME", "Sim1", OrderStatus.REPLACE_REJECTED, text="busy"
    )
    rig.executor.on_broker_event(refusal)
    assert (entry.state, entry.price, entry.request.replace_pending) == (OrderState.WORKING, 100.0, False)
    refused = [alert for alert in rig.alerts if alert.code == "request_refused"]
    assert [alert.priority for alert in refused] == [Priority.WARNING]
    assert rig.executor.reconcile_due
    assert await rig.reconcile()
    rig.broker.keep = set()
    assert rig.broker.cancels == []
    rig.play((2 * SECOND, 100.25), (5, 100.25), (5, 100.25))
    assert (rig.broker.moves, rig.broker.cancels) == ([100.25], ["E"])
    assert (entry_of(rig), rig.position) == (None, 0)


async def test_a_fill_that_overtakes_the_cancel_is_held_protected(trading):
    """The cancel is on its way when the order fills."""
    rig = await trading(broker={"paper_entry_latency_ms": 20}, **AT_TOUCH)
    rig.decide("buy", 1)
    rig.play((5, 100.0), (30, 100.0), (6 * SECOND, 100.0))
    assert rig.broker.cancels == ["E"]
    rig.play((5, 99.75, 100.0), (30, 99.75, 100.0), (30, 99.75, 100.0))
    assert (rig.position, stops(rig), entry_of(rig)) == (1, 1, None)
    refused = [alert for alert in rig.alerts if alert.code == "request_refused"]
    assert [alert.priority for alert in refused] == [Priority.INFO]  # the cancel came too late, which is no trouble


async def test_a_fill_told_after_the_cancel_was_confirmed_is_protected_anew(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("buy", 1)
    rig.play((5, 100.0), (6 * SECOND, 100.0), (5, 100.0))
    assert entry_of(rig) is None
    name = f"{rig.run_id}-1E"
    exchange = rig.broker.inner._exchange
    exchange.position, exchange.average_price = 1, 100.0  # and so the server has it
    rig.executor.on_broker_event(Fill(rig.ts_ns, "late", name, "", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, 100.0))
    assert rig.position == 1
    rig.play((5, 100.0), (1100, 100.0), (5, 100.0))
    assert (rig.position, stops(rig)) == (1, 1)
    assert rig.broker.moves == []


async def test_an_order_of_unknown_fate_is_not_moved(trading):
    rig = await trading(**AT_TOUCH)
    rig.decide("buy", 1)
    rig.play((5, 100.0))
    rig.orders.lose(entry_of(rig))
    rig.play((2 * SECOND, 100.25), (2 * SECOND, 100.5))
    assert rig.broker.moves == []


@pytest.mark.parametrize("seed", range(12))
async def test_no_entry_goes_beyond_its_bounds_whatever_the_market_does(trading, seed):
    rng = random.Random(seed)
    rig = await trading(**AT_TOUCH, unfilled_after_s=9.0, unfilled=rng.choice(["give_up", "cross"]))
    bid, first, begun, moves_before = 100.0, 0.0, 0, 0
    for _ in range(400):
        bid += TICK * rng.choice((-1, 0, 0, 1))
        events = rig.quotes((rng.choice((5, 200, 700)), bid))
        events["bid_size"], events["ask_size"] = rng.randint(1, 3), rng.randint(1, 3)
        rig.executor.on_market(events)
        entry = entry_of(rig)
        if entry is not None:
            side = entry.order.side
            assert all((price - first) * side <= 4 * TICK + 1e-9 for price in rig.broker.moves[moves_before:])
            assert len(rig.broker.moves) - moves_before <= 4
            assert rig.ts_ns - begun <= 16 * SECOND * 10**6
        elif rig.executor.settled and not rig.position and rng.random() < 0.2:
            target = rng.choice((-3, -1, 2))
            if rig.decide("buy" if target > 0 else "sell", target).allowed:
                first, begun, moves_before = entry_of(rig).order.price, rig.ts_ns, len(rig.broker.moves)
        elif rig.position and rng.random() < 0.02:
            rig.decide("exit", 0)
            moves_before = len(rig.broker.moves)
        position = rig.position
        if position and not rig.state.flatten.reason and not rig.orders.missing_fills():
            assert stops(rig) == abs(position)
    assert rig.notices.fills
    assert not {"position_unprotected", "order_rejected", "position_drift"} & set(rig.alert_codes)


# ----------------------------------------------------------------------------------------------------- at the simulator

QUICK = {"ack_timeout_s": 1.0, "reconcile_every_s": 2.0, "entry_timeout_s": 9.0}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "faults", [{}, {"reorder_share": 0.3, "duplicate_share": 0.3}, {"late_fill_share": 1.0, "late_ms": 300.0}]
)
async def test_an_entry_at_the_touch_ends_well_at_the_server(make_rig, serving, faults):
    """Filled in parts, followed, crossed or late: each contract booked once and protected, and flat in the end."""
    at_touch = {**AT_TOUCH, "chase_after_s": 0.4, "unfilled_after_s": 2.0, "unfilled": "cross"}
    async with serving(speed=5.0, faults=faults) as server:
        it = Session(make_rig, server, speed=5.0, settings={"broker": QUICK, "execution": at_touch})
        await it.ready()
        rig, held_there = it.rig, server.exchange.position
        for target in (2, -3):
            await it.until(lambda: rig.executor.settled and not rig.position)
            it.show()
            assert rig.decide("buy" if target > 0 else "sell", target).allowed
            await it.until(lambda: rig.executor.settled)
            await it.until(lambda: rig.position == held_there())
            held, side = rig.position, Side.SELL if rig.position > 0 else Side.BUY
            assert abs(held) <= abs(target)
            await it.until(lambda side=side: rig.orders.protection(side) == abs(rig.position))
            rig.operator.flatten("test")
            await it.until(lambda: rig.executor.settled and not len(rig.orders) and not held_there())
        assert rig.position == 0
        booked = [fill.execution_id for fill in rig.notices.fills]
        assert booked
        assert sorted(booked) == sorted(fill.execution_id for fill in server.exchange.desk.fills)
        assert "position_drift" not in rig.alert_codes
        await it.desk.broker.close()
