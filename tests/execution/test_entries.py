"""Entries: the decision first, then the order; followed after the touch, and ended in time."""

import pytest
from actor_parts import NOW, REGIMES, RUN, TICK, ActorParts, make_decision

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.entries import Entries, Moment
from mia_daemon.execution.entry_policy import ChasePolicy, EntryPolicy
from mia_daemon.execution.order_states import OrderState
from mia_daemon.market import Touch
from mia_daemon.records import EntryOrigin, OrderRole, OrderStatus, Priority, Side
from mia_daemon.risk.codes import ALLOWED, RiskCode, deny

EVERY, UNFILLED, TIMEOUT = 2_000, 9_000, 15_000
NAMES = [f"{RUN}-1{letter}" for letter in "EST"]


class Entering(ActorParts):
    """Flat at 100.00 / 100.25; `decide` carries out a decision at once."""

    def __init__(self, kind="marketable_limit", *, cross=False, max_moves=3, unfilled_ns=UNFILLED, **limits):
        super().__init__(**limits)
        policy = EntryPolicy(
            kind=kind,
            tick=TICK,
            slippage=4 * TICK,
            protection=12 * TICK,
            stop=16 * TICK,
            target=24 * TICK,
            timeout_ns=TIMEOUT,
            chase=ChasePolicy(
                every_ns=EVERY, max_moves=max_moves, max_distance=4 * TICK, unfilled_ns=unfilled_ns, cross=cross
            ),
        )
        self.entries = Entries(self.state, self.ports, self.order_manager, self.breakers, policy)

    def decide(self, action, target=0, reason="signal", asked=None, number=1):
        """The bracket that was sent, and the verdict."""
        moment = Moment(asked, self.state.risk_snapshot()) if asked is not None else None
        return self.entries.carry_out(make_decision(action, target, reason, number), moment)

    def work(self, after):
        """What is sent then; `due_ns` is counted from the first moment."""
        self.after(after)
        before = len(self.broker.sent)
        due_ns = self.entries.work()
        self.due_ns = due_ns - NOW if due_ns != NEVER_NS else NEVER_NS
        return self.broker.sent[before:]

    @property
    def entry(self):
        (entry,) = self.orders.with_role(OrderRole.ENTRY)
        return entry


@pytest.fixture
def parts():
    return Entering()


def resting(**more):
    """An entry at the near touch, which works."""
    parts = Entering("limit_at_touch", **more)
    parts.decide("buy", 1)
    parts.report(parts.entry, OrderStatus.WORKING)
    return parts


# Decisions.


def test_a_decision_is_on_file_before_the_entry_it_leads_to(parts):
    bracket, verdict = parts.decide("buy", 2)
    assert verdict is ALLOWED
    assert parts.happened == [
        ("journal", "decision", "d1"),
        ("journal", "intent", tuple(NAMES)),
        ("bracket", NAMES[0]),
    ]
    assert parts.journal.rows("decision") == [["d1", ALLOWED]]
    assert bracket.entry.quantity == 2


@pytest.mark.parametrize(
    ("kind", "action", "price", "expected"),
    [
        ("marketable_limit", "buy", 101.25, 100.25),
        ("marketable_limit", "sell", 99.0, 100.0),
        ("limit_at_touch", "buy", 100.0, 100.0),
        ("limit_at_touch", "sell", 100.25, 100.25),
    ],
)
def test_stop_and_target_are_measured_from_where_the_entry_should_fill(kind, action, price, expected):
    side = 1 if action == "buy" else -1
    bracket, _ = Entering(kind).decide(action, side)
    assert (bracket.entry.price, bracket.entry.side) == (price, side)
    assert (bracket.stop.price, bracket.target.price) == (expected - side * 4.0, expected + side * 6.0)


def test_what_asked_for_the_entry_is_kept_for_its_fills(parts):
    parts.decide("buy", 1)
    assert parts.state.origins == {"d1": EntryOrigin("d1", REGIMES)}


def test_an_entry_that_left_counts_toward_the_executions_a_person_has_to_look_at():
    parts = Entering(max_executions=1)
    assert parts.decide("buy", 1)[1].allowed
    assert parts.latched == [RiskCode.REPEATED_EXECUTION]
    assert parts.breakers.pending


@pytest.mark.parametrize("fails", ["decision", "intent"])
def test_an_entry_that_cannot_be_put_on_file_does_not_leave(parts, fails):
    parts.journal.fails = {fails}
    bracket, verdict = parts.decide("buy", 1)
    assert (bracket, verdict.code) == (None, RiskCode.HALTED)  # the journal's failure has halted
    assert (parts.broker.sent, len(parts.orders), parts.risk.executions) == ([], 0, 0)


def test_what_risk_refuses_is_on_file_with_its_verdict_and_does_not_leave():
    parts = Entering(max_order_contracts=1)
    bracket, verdict = parts.decide("buy", 2)
    assert (bracket, verdict.code) == (None, RiskCode.ORDER_SIZE)
    assert parts.journal.rows("decision") == [["d1", verdict]]
    assert (parts.broker.sent, parts.journal.rows("intent")) == ([], [])
    assert [(alert.code, alert.priority) for alert in parts.alerts] == [("denied_order_size", Priority.INFO)]


def test_the_verdict_that_was_asked_before_counts(parts):
    """As of a trade window, which risk knows nothing of."""
    asked = deny(RiskCode.OUTSIDE_SESSION)
    assert parts.decide("buy", 1, asked=asked) == (None, asked)
    assert parts.broker.sent == []


def test_without_a_touch_nothing_is_entered(parts):
    parts.market.touch = Touch()
    bracket, verdict = parts.decide("buy", 1)
    assert (bracket, verdict.code, parts.broker.sent) == (None, RiskCode.NO_PRICE, [])


@pytest.mark.parametrize("asked", [None, deny(RiskCode.OUTSIDE_SESSION)])
def test_a_hold_is_on_file_and_does_nothing(parts, asked):
    assert parts.decide("hold", 0, "weak_signal", asked) == (None, ALLOWED)
    assert parts.happened == [("journal", "decision", "d1")]
    assert parts.journal.rows("decision") == [["d1", asked]]


@pytest.mark.parametrize("why", ["flatten", "stopping"])
def test_while_the_position_is_closed_or_the_daemon_ends_nothing_is_entered(parts, why):
    if why == "flatten":
        parts.state.request_flatten("operator")
    else:
        parts.state.flatten.stopping = True
    assert parts.decide("buy", 1) == (None, ALLOWED)
    assert (parts.broker.sent, len(parts.journal.rows("decision"))) == ([], 1)


def test_while_a_fill_is_missing_nothing_is_entered(parts):
    """The position is about to change by what has filled already."""
    parts.report(parts.place(), OrderStatus.FILLED, filled=1)
    bracket, verdict = parts.decide("buy", 2)
    assert (bracket, verdict.code, parts.broker.sent) == (None, RiskCode.UNKNOWN_ORDERS, [])
    asked = deny(RiskCode.OUTSIDE_SESSION)
    assert parts.decide("buy", 2, asked=asked) == (None, asked)


# Toward a target.


@pytest.mark.parametrize(("action", "target"), [("exit", 0), ("sell", -1)])
def test_a_reversal_closes_first_and_leaves_the_entry_to_a_later_decision(parts, action, target):
    parts.hold(1)
    assert parts.decide(action, target, "faded") == (None, ALLOWED)
    assert parts.state.flatten.reason == "faded"
    assert parts.broker.sent == []
    assert parts.happened == [("journal", "decision", "d1")]


def test_a_position_is_closed_although_the_decision_could_not_be_put_on_file(parts):
    parts.hold(1)
    parts.journal.fails = {"all"}
    parts.decide("exit", 0, "faded")
    assert parts.state.flatten.reason == "faded"


def test_entries_on_the_other_side_are_cancelled_first(parts):
    stale = parts.place(price=99.0)
    assert parts.decide("sell", -1) == (None, ALLOWED)
    assert parts.broker.sent == [("cancel", stale.client_order_id)]
    assert parts.happened[0] == ("journal", "decision", "d1")


def test_an_entry_that_is_no_longer_wanted_is_cancelled(parts):
    stale = parts.place(price=99.0)
    parts.decide("exit", 0)
    assert parts.broker.sent == [("cancel", stale.client_order_id)]


@pytest.mark.parametrize(("held", "coming", "target", "sent"), [(0, 1, 3, 2), (1, 0, 3, 2), (1, 1, 3, 1)])
def test_only_what_is_missing_to_the_target_is_entered(parts, held, coming, target, sent):
    if held:
        parts.hold(held)
    if coming:
        parts.place(price=99.0)
    bracket, _ = parts.decide("buy", target)
    assert bracket.entry.quantity == sent


@pytest.mark.parametrize(("held", "coming", "target"), [(0, 1, 1), (1, 0, 1), (2, 0, 1), (1, 1, 1)])
def test_what_is_held_or_on_its_way_is_enough(parts, held, coming, target):
    """A smaller target waits for flat: a bracket is closed as a whole."""
    if held:
        parts.hold(held)
    if coming:
        parts.place(price=99.0)
    assert parts.decide("buy", target) == (None, ALLOWED)
    assert (parts.broker.sent, parts.state.flatten.reason) == ([], "")


def test_an_entry_that_is_done_counts_by_what_it_has_filled_alone(parts):
    parts.report(parts.place(), OrderStatus.CANCELED)
    assert parts.decide("buy", 1)[0].entry.quantity == 1


# Time.


def test_without_an_entry_there_is_nothing_to_look_at(parts):
    parts.place(OrderRole.STOP)
    assert parts.work(0) == []
    assert parts.due_ns == NEVER_NS


def test_an_entry_that_does_not_fill_is_cancelled_in_time_whatever_it_was(parts):
    parts.decide("buy", 1)
    parts.report(parts.entry, OrderStatus.ACCEPTED)
    assert parts.work(TIMEOUT - 1) == []
    assert parts.due_ns == TIMEOUT
    assert parts.work(TIMEOUT) == [("cancel", NAMES[0])]
    assert parts.due_ns == NEVER_NS
    assert parts.work(2 * TIMEOUT) == []


def test_an_entry_whose_number_is_not_known_in_time_is_cancelled_as_soon_as_it_is(parts):
    parts.decide("buy", 1)
    assert parts.work(TIMEOUT) == []
    parts.report(parts.entry, OrderStatus.ACCEPTED)
    parts.order_manager.work()
    assert parts.broker.sent[-1] == ("cancel", NAMES[0])


def test_an_entry_that_is_being_placed_follows_the_touch():
    """As of a server that says "order sent" of what works."""
    parts = Entering("limit_at_touch")
    parts.decide("buy", 1)
    parts.report(parts.entry, OrderStatus.ACCEPTED)
    parts.touch(100.25)
    assert parts.work(EVERY) == [("replace", NAMES[0], 100.25, 1)]


def test_where_the_server_changes_no_orders_an_entry_is_cancelled_when_the_touch_moves_away():
    parts = resting()
    parts.broker.replaces = False
    parts.touch(100.25)
    assert parts.work(EVERY) == [("cancel", NAMES[0])]


def test_what_a_decision_planned_is_kept_for_the_pair_of_its_entry(parts):
    bracket, _ = parts.decide("buy", 1)
    assert parts.state.brackets == {"d1": bracket}


def differ(parts, theirs):
    """The server reports another position, since the first moment; that counts after 1,000 ns."""
    parts.sync.on_position(theirs)
    parts.state.differs_since_ns, parts.state.differs_grace_ns = NOW, 1_000


def test_while_the_server_reports_another_position_nothing_is_entered(parts):
    differ(parts, 2)
    parts.after(1_001)
    bracket, verdict = parts.decide("buy", 1)
    assert (bracket, verdict.code, parts.broker.sent) == (None, RiskCode.POSITION_DIFFERS, [])


def test_an_entry_is_limited_by_what_the_server_holds_too():
    """Its report may come before the fill that it contains."""
    parts = Entering(max_position_contracts=2)
    parts.sync.on_position(2)
    assert parts.decide("buy", 1)[1].code is RiskCode.POSITION_LIMIT


def test_an_entry_is_cancelled_once_a_position_made_by_hand_leaves_no_room_for_it():
    """The server's report counts once it can no longer be of a fill that is on its way."""
    parts = Entering(max_position_contracts=2)
    entry = parts.place(quantity=2)
    differ(parts, 1)
    assert parts.work(1_000) == []
    assert parts.work(1_001) == [("cancel", entry.client_order_id)]
    assert parts.work(1_002) == []
    assert [(alert.code, alert.context) for alert in parts.alerts] == [
        ("entry_beyond_limit", {"position": 0, "server_position": 1})
    ]


def test_a_fill_that_is_in_the_servers_position_and_not_booked_counts_once():
    parts = Entering(max_position_contracts=2)
    parts.report(parts.place(quantity=2), OrderStatus.PARTIAL, filled=1)
    differ(parts, 1)
    assert parts.work(1_001) == []


@pytest.mark.parametrize(("held", "cancelled"), [(1, True), (-1, False)])
def test_an_entry_works_as_long_as_it_leads_to_no_more_than_the_limit(held, cancelled):
    parts = Entering(max_position_contracts=2)
    parts.hold(held)
    entry = parts.place(quantity=2)
    assert parts.work(1) == ([("cancel", entry.client_order_id)] if cancelled else [])


def test_only_the_newest_entries_are_cancelled_that_there_is_no_room_for():
    parts = Entering(max_position_contracts=3)
    parts.place(quantity=1)
    newest = parts.place(quantity=1)
    parts.hold(2)
    assert parts.work(1) == [("cancel", newest.client_order_id)]
    assert parts.work(2) == []


def test_an_entry_that_is_done_but_for_a_missing_fill_is_not_cancelled(parts):
    parts.decide("buy", 1)
    parts.report(parts.entry, OrderStatus.FILLED, filled=1)
    assert parts.work(TIMEOUT) == []
    assert parts.due_ns == NEVER_NS


def test_an_entry_of_an_earlier_run_is_cancelled_in_time_and_not_followed():
    parts = Entering("limit_at_touch")
    entry = parts.place()
    parts.touch(101.0)
    assert parts.work(UNFILLED) == []
    assert parts.due_ns == TIMEOUT
    assert parts.work(TIMEOUT) == [("cancel", entry.client_order_id)]


# Following the touch.


def test_a_marketable_entry_rests_where_it_is(parts):
    parts.decide("buy", 1)
    parts.report(parts.entry, OrderStatus.WORKING)
    parts.touch(102.0)
    assert parts.work(UNFILLED) == []


@pytest.mark.parametrize(("action", "bids", "prices"), [
    ("buy", (100.25, 100.5, 100.75), [100.25, 100.5, 100.75]),
    ("sell", (99.75, 99.5, 99.25), [100.0, 99.75, 99.5]),
])  # fmt: skip
def test_an_entry_follows_a_touch_that_moves_away_so_many_times_and_then_gives_up(action, bids, prices):
    parts = Entering("limit_at_touch", unfilled_ns=TIMEOUT)
    parts.decide(action, 1 if action == "buy" else -1)
    parts.report(parts.entry, OrderStatus.WORKING)
    assert parts.work(EVERY - 1) == []
    assert parts.due_ns == EVERY
    for n, (bid, price) in enumerate(zip(bids, prices, strict=True), 1):
        parts.touch(bid)
        assert parts.work(n * EVERY) == [("replace", NAMES[0], price, 1)]
        assert parts.due_ns == (n + 1) * EVERY
        parts.report(parts.entry, OrderStatus.REPLACED, price=price)
    assert parts.journal.rows("request")[-1][-1] == "chase"
    parts.touch(bids[-1] + (0.25 if action == "buy" else -0.25))
    assert parts.work(4 * EVERY) == [("cancel", NAMES[0])]


@pytest.mark.parametrize("bid", [100.0, 99.0])
def test_an_entry_at_the_touch_or_better_stays(bid):
    parts = resting()
    parts.touch(bid)
    assert parts.work(EVERY) == []
    assert parts.due_ns == 2 * EVERY


def test_without_a_touch_an_entry_stays_until_its_time_is_up():
    parts = resting()
    parts.market.touch = Touch()
    assert parts.work(EVERY) == []
    assert parts.work(UNFILLED) == [("cancel", NAMES[0])]


@pytest.mark.parametrize(("bid", "moved"), [(101.0, True), (101.25, False)])
def test_an_entry_does_not_follow_further_than_it_may(bid, moved):
    parts = resting()
    parts.touch(bid)
    assert parts.work(EVERY) == [("replace", NAMES[0], bid, 1) if moved else ("cancel", NAMES[0])]


def test_while_a_move_is_unanswered_it_is_not_moved_again():
    parts = resting()
    parts.touch(100.25)
    assert len(parts.work(EVERY)) == 1
    parts.touch(100.5)
    assert parts.work(2 * EVERY) == parts.work(UNFILLED) == []
    assert parts.due_ns == TIMEOUT


@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.UNKNOWN])
def test_an_order_of_which_it_is_not_known_that_it_works_is_not_moved(state):
    parts = Entering("limit_at_touch")
    parts.decide("buy", 1)
    if state is OrderState.UNKNOWN:
        parts.orders.lose(parts.entry)
    parts.touch(100.25)
    assert parts.work(EVERY) == parts.work(UNFILLED) == []


def test_an_entry_that_is_being_cancelled_is_not_moved():
    parts = resting()
    parts.order_manager.cancel_entries()
    parts.touch(100.25)
    assert parts.work(EVERY) == parts.work(UNFILLED) == []
    assert parts.due_ns == NEVER_NS


def test_what_would_not_be_entered_now_is_not_followed_but_cancelled():
    parts = resting()
    parts.risk.halt(NOW, "test")
    parts.touch(100.25)
    assert parts.work(EVERY) == [("cancel", NAMES[0])]


def test_a_move_that_cannot_be_put_on_file_is_a_cancel():
    parts = resting()
    parts.journal.fails = {"request"}
    parts.touch(100.25)
    assert parts.work(EVERY) == [("cancel", NAMES[0])]
    assert parts.latched == [RiskCode.HALTED]


# When it has rested too long.


def test_unfilled_it_is_given_up():
    parts = resting()
    assert parts.work(UNFILLED - 1) == []
    assert parts.due_ns == UNFILLED
    assert parts.work(UNFILLED) == [("cancel", NAMES[0])]


def test_unfilled_it_crosses_once_within_its_ticks():
    parts = resting(cross=True)
    assert parts.work(UNFILLED) == [("replace", NAMES[0], 101.0, 1)]  # the slippage would reach 101.25
    assert parts.journal.rows("request")[-1][-1] == "cross"
    parts.report(parts.entry, OrderStatus.REPLACED, price=101.0)
    assert parts.work(UNFILLED + EVERY) == []
    assert parts.due_ns == TIMEOUT
    assert parts.work(TIMEOUT) == [("cancel", NAMES[0])]


def test_a_touch_out_of_reach_is_not_crossed_to():
    parts = resting(cross=True)
    parts.touch(101.0)  # asked at 101.25: five ticks from where it began
    assert parts.work(UNFILLED) == [("cancel", NAMES[0])]


def test_without_a_touch_it_does_not_cross():
    parts = resting(cross=True)
    parts.market.touch = Touch()
    assert parts.work(UNFILLED) == [("cancel", NAMES[0])]


def test_an_entry_that_may_follow_no_further_crosses_where_that_is_wanted():
    parts = resting(cross=True, max_moves=0)
    parts.touch(100.25)
    assert parts.work(EVERY) == [("replace", NAMES[0], 101.0, 1)]


def test_an_entry_that_is_followed_no_more_is_forgotten():
    """A later entry is followed for itself."""
    parts = resting()
    parts.report(parts.entry, OrderStatus.CANCELED)
    assert parts.work(1) == []
    parts.decide("buy", 2, number=2)
    parts.report(parts.entry, OrderStatus.WORKING)
    parts.touch(100.25)
    assert parts.work(EVERY) == []
    assert parts.work(1 + EVERY) == [("replace", f"{RUN}-2E", 100.25, 2)]


def test_of_several_entries_the_first_that_is_due_is_looked_at_next(parts):
    parts.place(price=99.0)
    parts.after(5)
    parts.place(price=98.0)
    assert parts.work(10) == []
    assert parts.due_ns == TIMEOUT


def test_each_side_enters_toward_its_own_target(parts):
    bracket, _ = parts.decide("sell", -2)
    assert (bracket.entry.side, bracket.entry.quantity) == (Side.SELL, 2)
    assert {bracket.stop.side, bracket.target.side} == {Side.BUY}
