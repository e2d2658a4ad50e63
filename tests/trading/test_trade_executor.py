"""The executor at work: what it sends, when it closes, what it does when answers fail to come."""

import itertools
import math

import numpy as np
import pytest
from actor_parts import PREDICTION, make_decision
from rig import NoDays, OwnClock

from mia_daemon.config import Mode
from mia_daemon.daemon.broker_tasks import drain
from mia_daemon.errors import JournalError
from mia_daemon.execution.order_states import OrderState
from mia_daemon.market import Touch
from mia_daemon.records import (
    FeatureWindow,
    Fill,
    LinkReport,
    LinkState,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Side,
    Signal,
    empty_events,
)
from mia_daemon.risk.codes import RiskCode
from mia_daemon.trading.assembly import EventTime

SECOND = 1000  # ms


def working(rig, role):
    return [entry for entry in rig.orders if entry.order.role is role]


def enter(rig, target=1):
    verdict = rig.decide("buy" if target > 0 else "sell", target)
    rig.play((10, 100.0), (10, 100.0))
    return verdict


class Mute:
    """A broker between the executor and the paper broker that loses what the test tells it to lose."""

    def __init__(self, inner):
        self.inner, self.lose, self.log = inner, set(), []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def start(self, on_event):
        self.inner.start(lambda event: None if self.loses(event) else on_event(event))

    def loses(self, event):
        return "all" in self.lose or (type(event).__name__, getattr(event, "client_order_id", "")[-1:]) in self.lose

    def submit(self, order):
        self.log.append(("submit", order))
        self.inner.submit(order)

    def submit_bracket(self, bracket):
        self.log.append(("bracket", bracket))
        self.inner.submit_bracket(bracket)

    def replace(self, name, number, price, quantity):
        self.log.append(("replace", name, price, quantity))
        self.inner.replace(name, number, price, quantity)

    def cancel(self, name, number):
        self.log.append(("cancel", name))
        self.inner.cancel(name, number)

    def flatten(self, order):
        self.log.append(("flatten", order))
        self.inner.flatten(order)

    @property
    def sent(self):
        return [what for what, *_ in self.log]


@pytest.fixture
async def muted(make_rig):
    """A rig whose broker can be made to lose messages."""
    from mia_daemon.brokers.paper import PaperBroker
    from mia_daemon.config import BrokerSettings
    from mia_daemon.products.instruments import instrument

    settings = BrokerSettings(paper_entry_latency_ms=0, paper_response_latency_ms=0)
    rig = make_rig(Mute(PaperBroker(instrument("ESZ26_FUT_CME"), "Sim1", settings, "m")))
    rig.play((1, 100.0))
    assert await rig.reconcile()
    return rig


async def test_nothing_is_entered_before_the_books_agreed(make_rig):
    rig = make_rig()
    rig.play((1, 100.0))
    assert rig.decide("buy", 1).code is RiskCode.UNKNOWN_ORDERS
    assert rig.executor.reconcile_due
    assert await rig.reconcile()
    assert rig.decide("buy", 1).allowed


async def test_what_was_missed_is_gone_through_at_once_and_not_event_by_event(make_rig):
    """A feed that catches up reads millions of events, and nothing falls due at any of them."""
    rig = make_rig()
    rig.state.market.max_age_ns = 10**9
    pieces, on_market = [], rig.broker.on_market
    rig.broker.on_market = lambda events: (pieces.append(len(events)), on_market(events))[1]
    for count in (1, 1000):  # that it is behind shows with the first
        events = rig.quotes(*[(1, 100.0)] * count)
        events["recv_ns"] = events["ts_ns"] + 60 * 10**9
        rig.executor.on_market(events)
    assert pieces == [1, 1000]


async def test_an_entry_is_a_marketable_limit_with_its_stop_and_target(rig):
    assert enter(rig).allowed
    assert rig.position == 1
    stop, target = working(rig, OrderRole.STOP)[0], working(rig, OrderRole.TARGET)[0]
    assert (stop.order.price, stop.order.side, stop.state) == (96.25, Side.SELL, OrderState.WORKING)
    assert (target.order.price, target.state) == (106.25, OrderState.WORKING)
    assert rig.notices.fills[0].price == 100.25
    names = [name for name, what in rig.notices.orders if what == "sent"]
    assert names == [f"{rig.run_id}-1{letter}" for letter in "EST"]
    assert rig.alerts == []


async def test_the_intent_is_on_file_before_the_broker_hears_of_it(rig):
    on_file = []
    inner = rig.broker.submit_bracket

    def submit_bracket(bracket):
        on_file.extend(rig.journal._db.execute("SELECT client_order_id FROM intents").fetchall())
        assert not rig.journal._db.in_transaction
        inner(bracket)

    rig.broker.submit_bracket = submit_bracket
    enter(rig)
    assert len(on_file) == 3


async def test_the_same_target_again_sends_nothing(rig):
    enter(rig)
    rig.decide("buy", 1)
    rig.decide("hold", 1)
    rig.play((10, 100.0))
    assert rig.broker.orders_sent == 3


async def test_a_target_hit_is_a_trade(rig):
    enter(rig)
    rig.play((10, 106.25), (10, 106.25))
    trade = rig.notices.trades[0]
    assert (trade.exit_reason, trade.gross, trade.quantity) == ("target", 300.0, 1)
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert [t.trade_id for t in rig.journal.trades()] == [trade.trade_id]


async def test_an_exit_moves_the_target_and_the_server_cancels_the_stop(rig):
    enter(rig)
    rig.play((10, 101.0))
    rig.decide("exit", 0, "faded")
    assert rig.broker.orders_sent == 3
    rig.play((10, 101.0), (10, 101.0))
    trade = rig.notices.trades[0]
    assert (trade.exit_price, trade.exit_reason) == (101.0, "faded")
    assert len(rig.orders) == 0
    assert rig.executor.settled


async def test_the_other_side_goes_through_flat(rig):
    enter(rig)
    rig.decide("sell", -1)
    rig.play((10, 100.0), (10, 100.0))
    assert rig.position == 0
    rig.play((1000, 100.0))
    enter(rig, -1)
    assert rig.position == -1


async def test_an_entry_that_does_not_fill_is_cancelled_in_time(make_rig):
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 110.0), (20, 110.0), (14 * SECOND, 110.0))
    assert [entry.state for entry in working(rig, OrderRole.ENTRY)] == [OrderState.WORKING]
    rig.play((SECOND, 110.0), (20, 110.0))
    assert (len(rig.orders), rig.position) == (0, 0)


async def test_an_exit_that_does_not_fill_is_moved_after_the_market(muted):
    rig = muted
    enter(rig)
    rig.broker.inner._exchange.replace = lambda *_: None  # the first replace is lost in the market
    moves = []
    rig.broker.inner.replace = lambda name, _number, price, _quantity: (
        moves.append((name[-1], price)),
        rig.executor.on_broker_event(
            OrderReport(rig.ts_ns, name, "P", "ESZ26_FUT_CME", "Sim1", OrderStatus.REPLACED, price=price, quantity=1)
        ),
    )
    rig.decide("exit", 0)
    rig.play((SECOND, 99.0), (SECOND, 98.0))
    assert moves == [("T", 99.0), ("T", 97.0), ("T", 95.0)]


async def test_without_a_target_the_stop_makes_way_for_an_exit(muted):
    rig = muted
    rig.broker.lose = {("OrderReport", "T")}
    enter(rig)
    exchange = rig.broker.inner._exchange
    del exchange._orders[f"{rig.run_id}-1T"]
    exchange._orders[f"{rig.run_id}-1S"].links.sibling = None
    rig.play((6 * SECOND, 100.0))  # the target was never answered for: unknown
    assert "order_unknown" in rig.alert_codes
    assert await rig.reconcile()
    rig.broker.log.clear()
    rig.decide("exit", 0)
    assert rig.broker.log == [("cancel", f"{rig.run_id}-1S")]
    rig.play((10, 100.0), (10, 100.0), (10, 100.0))
    assert rig.broker.sent == ["cancel", "submit"]
    assert rig.position == 0


def says(rig, name, status, number="", **more):
    rig.executor.on_broker_event(OrderReport(rig.ts_ns, name, number, "ESZ26_FUT_CME", "Sim1", status, **more))


async def test_a_target_that_the_server_does_not_move_makes_way_for_an_exit(muted):
    rig = muted
    enter(rig)
    rig.broker.inner.replace = lambda name, *_: says(rig, name, OrderStatus.REPLACE_REJECTED, text="no")
    rig.broker.log.clear()
    rig.decide("exit", 0)
    rig.play(*((10, 100.0) for _ in range(10)))
    assert rig.broker.sent[0] == "replace"
    assert set(rig.broker.sent[1:-1]) == {"cancel"}  # both, before the exit leaves
    assert rig.broker.sent[-1] == "submit"
    assert (rig.position, len(rig.orders)) == (0, 0)


async def test_an_exit_that_stays_stuck_gives_way_to_the_servers_flatten(muted):
    rig = muted
    enter(rig)
    inner, numbers = rig.broker.inner, itertools.count(1)
    cancel = inner.cancel
    inner.replace = lambda name, *_: says(rig, name, OrderStatus.REPLACE_REJECTED, text="no")
    inner.submit = lambda order: says(rig, order.client_order_id, OrderStatus.WORKING, f"X{next(numbers)}")  # for ever
    inner.cancel = lambda name, number: (
        says(rig, name, OrderStatus.CANCELED, number) if number.startswith("X") else cancel(name, number)
    )
    rig.decide("exit", 0)
    rig.play(*((500, 100.0) for _ in range(30)))
    assert "exit_stuck" in rig.alert_codes
    assert "flatten" in rig.broker.sent
    assert rig.broker.sent.index("cancel") < rig.broker.sent.index("flatten")
    assert (rig.position, len(rig.orders)) == (0, 0)


async def test_an_unanswered_order_is_unknown_blocks_and_is_resolved_by_asking(muted):
    rig = muted
    rig.broker.lose = {"all"}
    enter(rig)
    rig.play((5 * SECOND, 100.0))
    assert {entry.state for entry in rig.orders} == {OrderState.UNKNOWN}
    assert rig.decide("buy", 2).code is RiskCode.UNKNOWN_ORDERS
    assert rig.executor.reconcile_due
    rig.broker.lose = set()
    assert await rig.reconcile()
    assert (rig.position, rig.orders.unknown()) == (1, [])
    assert [fill.price for fill in rig.notices.fills] == [100.25]
    assert rig.broker.sent == ["bracket"]


async def test_an_order_that_never_arrived_is_dead_only_when_the_server_says_so(muted):
    rig = muted
    rig.broker.inner.submit_bracket = lambda _bracket: None
    rig.decide("buy", 1)
    rig.play((6 * SECOND, 100.0))
    assert len(rig.orders.unknown()) == 3
    assert await rig.reconcile()
    assert (len(rig.orders), rig.position) == (0, 0)
    assert rig.broker.sent == ["bracket"]


async def test_a_lost_link_makes_everything_unknown_until_the_books_agree(muted):
    rig = muted
    enter(rig)
    rig.broker.lose = {"all"}
    rig.executor.on_broker_event(LinkReport(rig.ts_ns, LinkState.DOWN, "cable pulled"))
    assert len(rig.orders.unknown()) == 2
    assert not rig.executor.reconcile_due
    rig.play((10, 95.0), (10, 95.0))  # the stop fills at the server
    rig.broker.lose = set()
    rig.executor.on_broker_event(LinkReport(rig.ts_ns, LinkState.UP, "back"))
    assert rig.decide("buy", 2).code is RiskCode.UNKNOWN_ORDERS
    assert await rig.reconcile()
    assert rig.position == 0
    assert rig.notices.trades[0].exit_reason == "stop"
    assert "fill_missed" in rig.alert_codes


async def test_a_position_without_a_working_stop_gets_a_new_one(muted):
    rig = muted
    enter(rig)
    exchange = rig.broker.inner._exchange
    exchange._orders[f"{rig.run_id}-1S"].links.sibling = None
    exchange.cancel(f"{rig.run_id}-1S", rig.ts_ns)
    rig.play((10, 100.0), (500, 100.0))
    assert "position_unprotected" not in rig.alert_codes
    rig.play((500, 100.0), (10, 100.0), (10, 100.0))
    assert "position_unprotected" in rig.alert_codes
    stops = [entry for entry in working(rig, OrderRole.STOP) if entry.at_server]
    assert [(stop.order.price, stop.open_quantity) for stop in stops] == [(96.25, 1)]
    rig.play((10, 106.25), (10, 106.25), (10, 106.25))  # the target fills: the lone stop is cancelled at once
    assert (rig.position, len(rig.orders)) == (0, 0)


async def test_an_unprotected_position_beyond_its_stop_is_closed(muted):
    rig = muted
    enter(rig)
    exchange = rig.broker.inner._exchange
    exchange._orders[f"{rig.run_id}-1S"].links.sibling = None
    exchange.cancel(f"{rig.run_id}-1S", rig.ts_ns)
    rig.play((10, 95.0), (1100, 95.0), (10, 95.0), (10, 95.0))
    assert rig.position == 0
    assert rig.notices.trades[0].exit_reason == "unprotected"


async def test_a_stop_left_over_after_flat_is_cancelled(muted):
    rig = muted
    enter(rig)
    exchange = rig.broker.inner._exchange
    stop, target = exchange._orders[f"{rig.run_id}-1S"], exchange._orders[f"{rig.run_id}-1T"]
    stop.links.sibling = target.links.sibling = None
    rig.play((10, 106.25), (10, 106.25))
    assert (rig.position, len(rig.orders)) == (0, 1)
    rig.play((SECOND, 106.25), (10, 106.25), (10, 106.25))
    assert len(rig.orders) == 0


async def test_halt_stops_entries_keeps_protection_and_survives_a_restart(make_rig):
    rig = make_rig()
    rig.play((1, 100.0))
    await rig.reconcile()
    enter(rig)
    rig.operator.halt("uid 1000")
    assert rig.decide("buy", 2).code is RiskCode.HALTED
    assert rig.position == 1
    assert [entry.state for entry in working(rig, OrderRole.STOP)] == [OrderState.WORKING]
    again = make_rig()
    again.play((1, 100.0))
    assert again.decide("buy", 2).code is RiskCode.HALTED
    again.operator.resume("uid 1000")
    assert again.journal.latches() == ()


async def test_kill_cancels_entries_first_and_flattens_when_asked(muted):
    rig = muted
    enter(rig)
    rig.play((1000, 100.0))
    rig.decide("buy", 2)
    rig.broker.inner._exchange.touch = Touch(105.0, 105.25)  # it arrives below the market
    rig.play((10, 105.0), (10, 105.0))
    rig.broker.log.clear()
    rig.operator.kill("operator", flatten=True)
    assert rig.broker.log[0] == ("cancel", f"{rig.run_id}-2E")
    rig.play((10, 105.0), (10, 105.0), (10, 105.0), (1010, 105.0), (10, 105.0))
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert RiskCode.KILLED in {latch.code for latch in rig.journal.latches()}


async def test_stop_flattens_and_drains(rig):
    enter(rig)
    rig.operator.stop(flatten=True)
    assert not await drain(rig.executor, 0.01)
    rig.play((10, 100.0), (10, 100.0))
    assert await drain(rig.executor, 0.01)
    assert rig.notices.trades[0].exit_reason == "shutdown"


async def test_what_fills_while_stopping_is_closed_too(make_rig):
    """The entry was on its way and its cancel came too late."""
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 15}})
    rig.play((1, 100.0))
    await rig.reconcile()
    assert rig.decide("buy", 1).allowed
    rig.operator.stop(flatten=True)
    assert not await drain(rig.executor, 0.01)
    rig.play(*[(20, 100.0)] * 200)
    assert await drain(rig.executor, 0.01)
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert [trade.exit_reason for trade in rig.notices.trades] == ["shutdown"]


async def test_stop_may_keep_the_protected_position(rig):
    enter(rig)
    rig.operator.stop(flatten=False)
    assert await drain(rig.executor, 0.01)
    assert (rig.position, len(rig.orders)) == (1, 2)


async def test_a_kept_position_is_carried_on_after_a_restart(make_rig):
    rig = make_rig()
    rig.play((1, 100.0))
    await rig.reconcile()
    enter(rig)
    again = make_rig()
    assert again.position == 1
    assert len(again.orders.unknown()) == 2
    again.play((10, 100.0))
    assert await again.reconcile()
    assert {entry.state for entry in again.orders} == {OrderState.WORKING}
    again.play((10, 106.25), (10, 106.25))
    trade = again.notices.trades[0]
    assert (trade.exit_reason, trade.regime_probs.range) == ("target", 0.7)


async def test_what_limits_losses_closes_the_position(make_rig):
    rig = make_rig(settings={"risk": {"max_daily_loss": 100.0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    enter(rig)
    rig.play((SECOND, 98.0), (SECOND, 98.0), (10, 98.0))
    assert rig.notices.trades[0].exit_reason == "daily_loss"
    assert "daily_loss" in rig.alert_codes


async def test_drift_seen_twice_takes_over_the_servers_position(rig):
    rig.broker._exchange.position, rig.broker._exchange.average_price = 2, 99.0
    assert not await rig.reconcile()
    assert rig.position == 0
    assert not await rig.reconcile()
    assert rig.position == 2
    assert "position_drift" in rig.alert_codes
    rig.play((1100, 100.0), (10, 100.0), (10, 100.0))
    assert sum(entry.open_quantity for entry in working(rig, OrderRole.STOP)) == 2


async def test_drift_may_halt_instead(make_rig):
    rig = make_rig(adopt_drift=False)
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.broker._exchange.position = 2
    await rig.reconcile()
    await rig.reconcile()
    assert rig.position == 0
    assert rig.decide("buy", 1).code is RiskCode.POSITION_DRIFT


async def test_a_position_report_that_stays_different_is_asked_about(rig):
    rig.executor.on_broker_event(PositionReport(rig.ts_ns, "ESZ26_FUT_CME", "Sim1", 3, 100.0))
    rig.play((10, 100.0))
    assert not rig.executor.reconcile_due
    rig.play((6 * SECOND, 100.0))
    assert rig.executor.reconcile_due


async def test_orders_of_others_are_told_and_not_touched(muted):
    rig = muted
    foreign = OrderReport(rig.ts_ns, "hand", "S9", "ESZ26_FUT_CME", "Sim1", OrderStatus.WORKING, Side.BUY, 1)
    rig.executor.on_broker_event(foreign)
    assert rig.alert_codes == ["external_order"]
    assert (len(rig.orders), rig.broker.log) == (0, [])


async def test_an_execution_of_others_is_asked_about_and_then_taken_into_the_books(muted):
    rig = muted
    theirs = Fill(rig.ts_ns, "hand-1", "", "S9", "ESZ26_FUT_CME", "Sim1", Side.BUY, 2, 100.25)
    rig.executor.on_broker_event(theirs)
    assert (rig.alert_codes, rig.position, rig.executor.reconcile_due) == (["external_execution"], 0, True)
    exchange = rig.broker.inner._exchange
    exchange.position, exchange.average_price = 2, 100.25
    exchange.fills.append(theirs)
    assert not await rig.reconcile()
    assert not await rig.reconcile()
    assert rig.position == 2
    rig.executor.on_broker_event(theirs)  # told again
    assert await rig.reconcile()
    assert rig.position == 2
    assert rig.journal._db.execute("SELECT execution_id FROM fills").fetchall() == [("hand-1",)]


async def test_an_order_refused_while_it_works_is_asked_about_at_once(muted):
    """As some servers do of its replace."""
    rig = muted
    enter(rig)
    target = working(rig, OrderRole.TARGET)[0]
    rig.executor.on_broker_event(
        OrderReport(rig.ts_ns, target.client_order_id, "", "ESZ26_FUT_CME", "Sim1", OrderStatus.REJECTED, text="no")
    )
    assert (target.state, rig.executor.reconcile_due) == (OrderState.UNKNOWN, True)
    assert await rig.reconcile()
    assert (target.state, rig.orders.unknown()) == (OrderState.WORKING, [])


@pytest.mark.parametrize(("target", "tighter"), [(1, 97.0), (-1, 103.0)])
async def test_a_stop_moves_toward_safety_only(rig, target, tighter):
    enter(rig, target)
    order_manager, stop = rig.actors.order_manager, working(rig, OrderRole.STOP)[0]
    first, side = stop.price, stop.order.side
    assert not order_manager.replace(stop, first + side * 0.25, "test")
    assert "stop_loosened" in rig.alert_codes
    assert order_manager.replace(stop, tighter, "test")
    assert not order_manager.replace(stop, first, "test")  # nor back, while that is on its way
    rig.play((10, 100.0), (10, 100.0))
    assert (stop.price, stop.state) == (tighter, OrderState.WORKING)
    assert not order_manager.replace(stop, first, "test")


async def test_more_orders_on_the_wire_than_approved_is_a_kill(rig):
    enter(rig)
    rig.broker._orders_sent += 1
    rig.play((SECOND, 100.0), (SECOND, 100.0))
    assert "order_count" in rig.alert_codes
    assert rig.decide("buy", 2).code is RiskCode.ORDER_COUNT


async def test_a_dead_journal_stops_entries_and_lets_exits_out(rig):
    enter(rig)

    def dead(*_args, **_kwargs):
        raise JournalError("disk full")

    for name in ("record_intent", "record_request", "record_fill", "record_update", "record_decision", "set_latch"):
        setattr(rig.journal, name, dead)
    assert rig.decide("buy", 2).code is RiskCode.HALTED
    rig.operator.flatten("operator")
    rig.play((10, 100.0), (10, 100.0))
    assert rig.position == 0
    assert "journal" in rig.alert_codes


async def test_a_journal_that_dies_at_the_commit_books_a_fill_once(rig):
    def commit():
        raise JournalError("disk full")

    rig.decide("buy", 1)
    rig.journal.commit = commit
    rig.play((10, 100.0), (10, 100.0))
    del rig.journal.commit
    assert rig.position == 1
    assert "journal" in rig.alert_codes


async def test_a_rejected_entry_is_told_and_counted(make_rig):
    rig = make_rig(settings={"risk": {"max_consecutive_rejects": 1}})
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.broker._exchange._account = "other"
    rig.decide("buy", 1)
    rig.play((10, 100.0), (10, 100.0))
    assert "order_rejected" in rig.alert_codes
    assert len(rig.orders) == 0
    assert rig.decide("buy", 1).code is RiskCode.CONSECUTIVE_REJECTS


async def test_no_price_no_entry(make_rig):
    rig = make_rig()
    await rig.reconcile()
    rig.play((1, math.nan))
    assert rig.decide("buy", 1).code is RiskCode.NO_PRICE


async def test_an_account_state_is_marked_at_the_touch(rig):
    enter(rig)
    rig.play((10, 101.0))
    state = rig.actors.accounting.account_state(5, rig.ts_ns)
    assert (state.position, state.average_price, state.unrealized) == (1, 100.25, 37.5)
    assert state.opened_ns > 0


async def test_the_day_starts_anew_at_the_exchanges_opening(make_rig):
    class Days(NoDays):
        def __init__(self):
            self.ends = None

        def next_open_ns(self, ts_ns):
            return self.ends if self.ends and self.ends > ts_ns else None

    days = Days()
    rig = make_rig(calendar=days)
    days.ends = rig.ts_ns + 60_000 * 1_000_000
    rig.play((1, 100.0))
    await rig.reconcile()
    enter(rig)
    rig.play((10, 106.25), (10, 106.25))
    assert rig.actors.accounting.account_state(1, rig.ts_ns).realized_today == 298.0
    rig.play((60 * SECOND, 106.0))
    assert rig.actors.accounting.account_state(2, rig.ts_ns).realized_today == 0.0


@pytest.fixture
async def timed(make_rig):
    """`await timed(speed)`: a rig in a market that is `speed` times as fast as the machine's clock, and that clock."""

    async def make(speed=1.0):
        clock = OwnClock()
        rig = make_rig(time=EventTime(Mode.PAPER, speed), clock=clock)
        rig.play((1, 100.0))
        assert await rig.reconcile()
        return rig, clock

    return make


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_an_answer_is_awaited_by_our_own_clock_whatever_the_market_does(timed, speed):
    rig, clock = await timed(speed)
    rig.broker.submit_bracket = lambda _bracket: None
    rig.decide("buy", 1)
    rig.play((6 * SECOND * speed, 100.0), (60 * SECOND * speed, 100.0))  # a feed that catches up
    assert rig.orders.unknown() == []
    rig.wait(clock, 4900)
    assert rig.orders.unknown() == []
    rig.wait(clock, 200)
    assert {entry.state for entry in rig.orders} == {OrderState.UNKNOWN}


async def test_a_position_is_protected_while_the_market_is_silent(timed):
    rig, clock = await timed()
    enter(rig)
    exchange = rig.broker._exchange
    exchange._orders[f"{rig.run_id}-1S"].links.sibling = None
    exchange.cancel(f"{rig.run_id}-1S", rig.ts_ns)
    rig.play((10, 100.0))
    sent = rig.broker.orders_sent
    rig.wait(clock, *[100] * 9)
    assert rig.broker.orders_sent == sent
    rig.wait(clock, *[100] * 2)
    assert rig.broker.orders_sent == sent + 1
    fired = rig.journal._db.execute("SELECT what FROM firings").fetchall()
    assert fired  # what the clock has set off is on file
    rig.play((10, 100.0), (10, 100.0))
    assert rig.orders.protection(Side.SELL) == 1


async def test_how_long_an_entry_works_is_event_time_and_our_own_once_events_stop(timed):
    rig, clock = await timed()
    rig.decide("buy", 1)
    rig.broker._exchange.touch = Touch(110.0, 110.25)  # it arrives below the market
    rig.play((10, 110.0))
    cancelled = []
    rig.broker.cancel = lambda name, _number: cancelled.append(name)
    rig.wait(clock, *[1000] * 14)
    assert cancelled == []
    rig.wait(clock, 1000)
    assert cancelled == [f"{rig.run_id}-1E"]


async def test_brackets_use_the_types_the_server_holds(muted):
    enter(muted)
    bracket = muted.broker.log[0][1]
    kinds = [order.type for order in (bracket.entry, bracket.stop, bracket.target)]
    assert kinds == [OrderType.LIMIT, OrderType.STOP, OrderType.LIMIT]
    assert {bracket.stop.parent_id, bracket.target.parent_id} == {bracket.entry.client_order_id}


async def test_a_fill_that_was_told_of_but_not_shown_is_waited_for(muted):
    rig = muted
    rig.broker.lose = {("Fill", "E")}
    enter(rig)
    assert rig.position == 0
    assert rig.orders.missing_fills() != []
    assert rig.decide("buy", 1).code is RiskCode.UNKNOWN_ORDERS
    assert rig.broker.sent == ["bracket"]
    rig.operator.flatten("operator")
    rig.play((10, 100.0))
    assert rig.executor.reconcile_due
    assert await rig.reconcile()
    assert rig.position == 1
    rig.play((10, 100.0), (10, 100.0))
    assert (rig.position, len(rig.orders)) == (0, 0)
    assert rig.broker.sent == ["bracket", "replace"]


async def test_flatten_at_the_server_goes_by_the_servers_position(rig):
    enter(rig)
    rig.broker._exchange.position = -2
    rig.actors.exits._flatten(rig.state.held)
    rig.play((10, 100.0), (10, 100.0))
    assert rig.broker._exchange.position == 0


async def test_a_window_gives_the_account_after_its_last_event_where_a_decision_is_due(rig):
    enter(rig)
    assert rig.executor.on_window(FeatureWindow(rig.quotes((10, 101.0)))) is None
    window = FeatureWindow(rig.quotes((10, 101.0), (10, 102.0)), 7, rig.ts_ns, np.zeros(1, np.float32))
    account = rig.executor.on_window(window)
    assert (account.seq, account.ts_ns, account.position, account.unrealized) == (7, rig.ts_ns, 1, 87.5)


@pytest.mark.parametrize(("target", "orders"), [(1, 1), (0, 0)])
async def test_tick_to_order_is_measured_where_an_order_left(rig, target, orders):
    account = rig.actors.accounting.account_state(2, rig.ts_ns)
    rig.decides.decision = make_decision("buy" if target else "hold", target, number=2)
    window = FeatureWindow(empty_events(1), 2, rig.ts_ns, np.zeros(1, np.float32), warm=True, ingress_ns=1)
    rig.executor.on_signal(Signal(window, account, PREDICTION))
    assert rig.executor.tick_to_order.count == orders


async def test_a_request_that_nobody_waits_for_any_more_may_be_made_again(rig):
    query = rig.executor.begin_reconcile()
    assert rig.executor.begin_reconcile() is None
    rig.executor.reconcile_failed(query)
    assert rig.executor.begin_reconcile() is not None
    assert rig.alerts == []
