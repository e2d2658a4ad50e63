"""The order state machine: its table is total, evidence wins, and no sequence of messages loses count of a contract."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mia_daemon.execution.order_states import DONE, TRANSITIONS, Cause, OrderState, mermaid
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import Fill, FillSource, Order, OrderReport, OrderRole, OrderStatus, OrderType, Side

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"


def order(name="r-1E", side=Side.BUY, quantity=2, role=OrderRole.ENTRY, parent="", price=100.0):
    return Order(name, SYMBOL, ACCOUNT, side, quantity, OrderType.LIMIT, role, "r-1", price=price, parent_id=parent)


def update(name, status, *, server="S1", ts=1, **facts):
    return OrderReport(ts, name, server, SYMBOL, ACCOUNT, OrderStatus(status), **facts)


def fill(name, quantity, execution, *, side=Side.BUY, server="S1", **facts):
    return Fill(1, execution, name, server, SYMBOL, ACCOUNT, side, quantity, 100.0, **facts)


def book(orders, one):
    """Book what is new of an execution told with an update; the order, None where it is not ours."""
    entry = orders.find(one.client_order_id, one.server_order_id)
    if entry is not None and (part := entry.fills.from_update(one, entry.size)) is not None:
        orders.book(entry, part)
    return entry


def deliver(orders, update):
    """An update as it is handled: first the execution told with it."""
    if update.fill is not None:
        book(orders, update.fill)
    return orders.apply_update(update)


def working(orders, one=None, **facts):
    entry = orders.add(one or order())
    orders.sent(entry, 1, 1)
    orders.apply_update(update(entry.client_order_id, "working", **facts))
    return entry


def test_every_state_and_cause_is_defined():
    assert set(TRANSITIONS) == set(itertools.product(OrderState, Cause))


def test_every_status_of_the_server_is_a_cause():
    assert {status.value for status in OrderStatus} <= {cause.value for cause in Cause}


UNSURE = ("intent", "sent", "unknown")
LIVE = (*UNSURE, "acked", "held", "working", "partial")
ENDED = ("canceled", "rejected", "absent")
MOVES = {
    Cause.SEND: {"intent": "sent"},
    Cause.LOSE: dict.fromkeys(LIVE, "unknown"),
    Cause.PART_FILL: dict.fromkeys(LIVE, "partial") | dict.fromkeys(("unknown", "rejected", "absent"), "unknown"),
    Cause.FULL_FILL: dict.fromkeys((*LIVE, *ENDED), "filled"),
    Cause.LISTED: dict.fromkeys((*UNSURE, *ENDED, "acked", "held"), "working"),
    Cause.LISTED_PARTIAL: dict.fromkeys((*LIVE, *ENDED), "partial"),
    Cause.LISTED_ACKED: dict.fromkeys((*UNSURE, *ENDED, "held", "working"), "acked"),
    Cause.LISTED_HELD: dict.fromkeys((*UNSURE, *ENDED, "acked", "working"), "held"),
    Cause.ACCEPTED: dict.fromkeys((*UNSURE, "held", "absent"), "acked"),
    Cause.HELD: dict.fromkeys((*UNSURE, "acked", "absent"), "held"),
    Cause.WORKING: dict.fromkeys((*UNSURE, "acked", "held", "absent"), "working"),
    Cause.PARTIAL: dict.fromkeys((*LIVE, "absent"), "partial") | {"rejected": "unknown"},
    Cause.FILLED: dict.fromkeys((*LIVE, *ENDED), "filled"),
    Cause.CANCELED: dict.fromkeys((*LIVE, "absent"), "canceled"),
    Cause.REJECTED: dict.fromkeys((*UNSURE, "acked", "held", "absent"), "rejected")
    | dict.fromkeys(("working", "partial"), "unknown"),
    Cause.CANCEL_REJECTED: {},
    Cause.REPLACE_REJECTED: {},
    Cause.REPLACED: dict.fromkeys((*UNSURE, "absent"), "working"),
    Cause.UNKNOWN_TO_SERVER: dict.fromkeys(LIVE, "absent"),
}
"""The table a second time, written as what each cause moves and where to: all else stays as it is."""


@pytest.mark.parametrize("cause", Cause)
def test_a_cause_moves_the_states_it_says_something_of_and_no_other(cause):
    after = {state.value: TRANSITIONS[state, cause].value for state in OrderState}
    assert after == {state.value: state.value for state in OrderState} | MOVES[cause]


def test_filled_is_for_ever():
    assert {TRANSITIONS[OrderState.FILLED, cause] for cause in Cause} == {OrderState.FILLED}


FRESH = {Cause.LISTED, Cause.LISTED_PARTIAL, Cause.LISTED_ACKED, Cause.LISTED_HELD}
SIGNS_OF_LIFE = {Cause.ACCEPTED, Cause.HELD, Cause.WORKING, Cause.REPLACED}


@pytest.mark.parametrize(
    ("states", "moved_by"),
    [
        ((OrderState.CANCELED, OrderState.REJECTED), FRESH | {Cause.PART_FILL, Cause.PARTIAL}),
        ((OrderState.ABSENT,), FRESH | SIGNS_OF_LIFE | {Cause.PART_FILL, Cause.PARTIAL}),
    ],
    ids=["ended by the server's word", "only absent from a list"],
)
def test_a_finished_order_lives_again_by_fills_and_lists_and_an_absent_one_by_any_sign_of_life(states, moved_by):
    movers = {cause for state in states for cause in Cause if TRANSITIONS[state, cause] not in DONE}
    assert movers == moved_by


@pytest.mark.parametrize("state", ["intent", "sent", "acked", "held", "working", "partial", "filled"])
def test_no_late_update_undoes_what_was_reported(state):
    """Being placed, held, working, partly filled: a later one is not undone by an earlier one told late."""
    progress = {"intent": 0, "sent": 1, "acked": 2, "held": 2, "working": 3, "partial": 4, "filled": 5}
    for cause in (*SIGNS_OF_LIFE, Cause.PARTIAL, Cause.FILLED):
        assert progress[TRANSITIONS[OrderState(state), cause]] >= progress[state]


@pytest.mark.parametrize("status", ["cancel_rejected", "replace_rejected"])
@pytest.mark.parametrize("state", OrderState)
def test_a_refused_request_leaves_the_order_as_it_was(state, status):
    assert TRANSITIONS[state, Cause(status)] is state


def test_rejected_replace_of_a_working_order_keeps_it_alive_at_its_price():
    orders = WorkingOrders()
    entry = working(orders, price=100.0, quantity=2)
    orders.replace_sent(entry, 2, 101.0)
    orders.apply_update(update("r-1E", "replace_rejected", ts=3, price=105.0))
    assert (entry.state, entry.price, entry.request.replace_pending) == (OrderState.WORKING, 100.0, False)


def test_replace_brings_a_new_server_id_and_price_and_both_ids_are_known():
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    orders.apply_update(update("r-1E", "replaced", server="S2", ts=3, price=101.0, quantity=2))
    assert (entry.server_order_id, entry.price, entry.request.asked_ns) == ("S2", 101.0, 0)
    assert orders.find("", "S1") is entry
    assert orders.find("", "S2") is entry


def test_an_order_renamed_again_and_again_is_known_by_every_number_it_had():
    """A fill of before the last replace comes under the number of then."""
    orders = WorkingOrders()
    entry = working(orders)
    for number in (2, 3):
        orders.replace_sent(entry, number, 100.0 + number)
        assert orders.apply_update(update("", "replaced", server=f"S{number}", ts=number, quantity=2)) is None
        orders.apply_update(
            update("r-1E", "replaced", server=f"S{number}", ts=number, price=100.0 + number, quantity=2)
        )
    assert (entry.server_order_id, entry.price, entry.state) == ("S3", 103.0, OrderState.WORKING)
    book(orders, fill("", 1, "x1", server="S1"))
    orders.apply_update(update("", "partial", server="S2", ts=4, filled=1))
    assert (entry.fills.booked, entry.state) == (1, OrderState.PARTIAL)
    assert all(orders.find("", number) is entry for number in ("S1", "S2", "S3"))


def test_a_replace_told_without_our_name_is_found_by_the_number_that_it_replaces():
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    told = update("", "replaced", server="S2", ts=2, price=101.0, quantity=2, previous_server_order_id="S1")
    assert orders.apply_update(told) is entry
    assert (entry.server_order_id, entry.price) == ("S2", 101.0)
    assert orders.find("", "S2") is entry


@pytest.mark.parametrize("ts", [0, 1, 9])
def test_a_rename_counts_whatever_its_time_and_the_old_number_does_not_return(ts):
    orders = WorkingOrders()
    entry = working(orders, ts=5)
    orders.apply_update(update("", "replaced", server="S2", ts=ts, previous_server_order_id="S1"))
    assert entry.server_order_id == "S2"
    orders.apply_update(update("", "partial", server="S1", ts=10, filled=1))  # sent before the rename
    orders.apply_update(update("r-1E", "working", server="S1", ts=11))
    assert (entry.server_order_id, entry.fills.reported) == ("S2", 1)


def test_a_rename_told_again_after_the_next_one_changes_nothing():
    orders = WorkingOrders()
    entry = working(orders)
    for server, previous in (("S2", "S1"), ("S3", "S2"), ("S2", "S1")):
        orders.apply_update(update("", "replaced", server=server, ts=9, previous_server_order_id=previous))
    assert entry.server_order_id == "S3"


def test_a_number_that_a_later_rename_gives_back_is_the_orders_again():
    orders = WorkingOrders()
    entry = working(orders)
    for server, previous in (("S2", "S1"), ("S1", "S2")):
        orders.apply_update(update("", "replaced", server=server, ts=9, previous_server_order_id=previous))
    assert entry.server_order_id == "S1"


def test_replaced_after_part_has_filled_it_stays_partial():
    orders = WorkingOrders()
    entry = working(orders)
    book(orders, fill("r-1E", 1, "x1"))
    orders.replace_sent(entry, 2, 101.0)
    orders.apply_update(update("r-1E", "replaced", server="S2", ts=3, price=101.0, quantity=2, filled=1))
    assert (entry.state, entry.open_quantity, entry.request.replace_pending) == (OrderState.PARTIAL, 1, False)


def test_a_cancel_and_a_fill_told_in_the_wrong_order_end_as_they_were():
    """The server filled one, then cancelled the rest; the cancel's confirmation comes first."""
    for messages in itertools.permutations(
        [
            fill("r-1E", 1, "x1"),
            update("r-1E", "partial", ts=2, filled=1),
            update("r-1E", "canceled", ts=3, filled=1),
            update("r-1E", "canceled", ts=3, filled=1),
        ]
    ):
        orders = WorkingOrders()
        entry = working(orders)
        for message in messages:
            (partial(book, orders) if isinstance(message, Fill) else orders.apply_update)(message)
        assert (entry.state, entry.fills.booked, entry.fills.reported, len(orders)) == (OrderState.CANCELED, 1, 1, 0)


def test_rejected_said_of_an_order_that_works_is_asked_about():
    """Some servers say so of its refused replace: dead or alive, only a list can tell."""
    orders = WorkingOrders()
    entry = working(orders)
    orders.replace_sent(entry, 2, 101.0)
    orders.apply_update(update("r-1E", "rejected", ts=3))
    assert (entry.state, orders.unknown()) == (OrderState.UNKNOWN, [entry])
    orders.apply_update(update("r-1E", "working", ts=4, unsolicited=False))
    assert (entry.state, orders.unknown()) == (OrderState.WORKING, [])


@pytest.mark.parametrize("status", ["accepted", "held", "working", "replaced"])
@pytest.mark.parametrize("unsolicited", [True, False])
@pytest.mark.parametrize("lost", [True, False])
def test_what_has_filled_in_part_is_partial_whatever_is_told_of_it_late(status, unsolicited, lost):
    """Found with a partial fill, then a lost link, then a late acknowledgement: the stop of two counted as none."""
    orders = WorkingOrders()
    stop = working(orders, order("r-1S", Side.SELL, 2, OrderRole.STOP))
    book(orders, fill("r-1S", 1, "x1", side=Side.SELL))
    if lost:
        orders.lose(stop)
    orders.apply_update(update("r-1S", status, ts=2, unsolicited=unsolicited))
    assert (stop.state, orders.protection(Side.SELL)) == (OrderState.PARTIAL, 1)


def test_late_fill_after_cancel_is_booked():
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "canceled", ts=2))
    assert len(orders) == 0
    book(orders, fill("r-1E", 1, "x1"))
    assert (entry.state, entry.fills.booked) == (OrderState.CANCELED, 1)
    book(orders, fill("r-1E", 1, "x2"))
    assert entry.state is OrderState.FILLED


def test_an_execution_is_booked_once():
    orders = WorkingOrders()
    entry = working(orders)
    book(orders, fill("r-1E", 1, "x1"))
    book(orders, fill("r-1E", 1, "x1"))
    assert (entry.state, entry.fills.booked) == (OrderState.PARTIAL, 1)


def test_an_older_update_does_not_undo_a_newer_price():
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "replaced", ts=5, price=101.0))
    orders.apply_update(update("r-1E", "working", ts=4, price=100.0))
    assert entry.price == 101.0


def test_filled_without_its_fill_is_not_done_until_the_fill_comes():
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "filled", ts=2, filled=2))
    assert orders.missing_fills() == [entry]
    assert orders.exposure(Side.BUY) == 2
    book(orders, fill("r-1E", 2, "x1"))
    assert (list(orders), orders.missing_fills(), orders.exposure(Side.BUY)) == ([], [], 0)


def test_orders_are_listed_by_role_and_by_what_they_lack():
    orders = WorkingOrders()
    entry = working(orders)
    stop = working(orders, order("r-1S", Side.SELL, 2, OrderRole.STOP), server="S2")
    book(orders, fill("r-1S", 1, "x1", side=Side.SELL, server="S2"))
    assert orders.with_role(OrderRole.ENTRY) == [entry]
    assert orders.with_role(OrderRole.STOP, OrderRole.ENTRY) == [entry, stop]
    assert orders.with_role(OrderRole.EXIT) == []
    assert orders.missing_fills() == []
    orders.apply_update(update("r-1S", "partial", server="S2", ts=2, filled=2))
    assert orders.missing_fills() == [stop]


def test_orders_of_others_are_not_ours():
    orders = WorkingOrders()
    assert orders.apply_update(update("", "working", server="X9")) is None
    assert book(orders, fill("somebody", 1, "x1", server="X9")) is None
    assert len(orders) == 0


def test_an_identifier_is_never_used_twice():
    orders = WorkingOrders()
    working(orders)
    orders.apply_update(update("r-1E", "canceled", ts=2))
    with pytest.raises(ValueError, match="never used twice"):
        orders.add(order())


def test_unknown_blocks_until_a_list_names_it():
    orders = WorkingOrders()
    entry = orders.add(order())
    orders.sent(entry, 1, 1)
    orders.lose(entry)
    assert orders.unknown() == [entry]
    assert orders.exposure(Side.BUY) == 2
    orders.apply_update(update("r-1E", "working", ts=5, unsolicited=False))
    assert orders.unknown() == []
    assert entry.request.asked_ns == 0


@pytest.mark.parametrize("unsolicited", [True, False])
@pytest.mark.parametrize("status", ["accepted", "held", "working", "partial", "replaced"])
def test_an_order_absent_from_a_list_is_back_with_any_sign_of_life(status, unsolicited):
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "unknown_to_server", ts=2, unsolicited=False))
    assert (entry.state, len(orders)) == (OrderState.ABSENT, 0)
    orders.apply_update(update("r-1E", status, ts=3, unsolicited=unsolicited))
    assert (entry.live, len(orders)) == (True, 1)


@pytest.mark.parametrize("status", ["canceled", "rejected"])
def test_an_order_absent_from_a_list_ends_as_the_server_says_afterwards(status):
    orders = WorkingOrders()
    entry = working(orders)
    orders.apply_update(update("r-1E", "unknown_to_server", ts=2, unsolicited=False))
    orders.apply_update(update("r-1E", status, ts=3))
    assert (entry.state.value, len(orders)) == (status, 0)


@pytest.mark.parametrize("waiting", ["accepted", "held"])
def test_of_a_pair_the_larger_counts_and_a_waiting_child_counts_what_its_parent_filled(waiting):
    orders = WorkingOrders()
    working(orders)
    for name, role in (("r-1S", OrderRole.STOP), ("r-1T", OrderRole.TARGET)):
        child = orders.add(order(name, Side.SELL, 2, role, "r-1E"))
        orders.sent(child, 1, 1)
        orders.apply_update(update(name, waiting, server=name))
    assert (orders.exposure(Side.BUY), orders.exposure(Side.SELL)) == (2, 0)
    book(orders, fill("r-1E", 1, "x1"))
    assert (orders.exposure(Side.BUY), orders.exposure(Side.SELL)) == (1, 1)
    orders.apply_update(update("r-1S", "working", server="r-1S", ts=2, quantity=1))
    assert orders.protection(Side.SELL) == 1


@pytest.mark.parametrize(
    ("status", "cover"),
    [("accepted", 2), ("held", 0), ("working", 2), ("partial", 2), ("canceled", 0), ("rejected", 0)],
)
def test_a_stop_that_is_acknowledged_and_not_ended_is_cover_but_not_while_it_is_held_back(status, cover):
    orders = WorkingOrders()
    stop = orders.add(order("r-1S", Side.SELL, 2, OrderRole.STOP))
    orders.sent(stop, 1, 1)
    assert (stop.at_server, orders.protection(Side.SELL)) == (False, 0)  # sent only
    orders.apply_update(update("r-1S", status))
    assert (orders.protection(Side.SELL), orders.protection(Side.BUY)) == (cover, 0)
    orders.lose(stop)
    assert orders.protection(Side.SELL) == 0


def test_unanswered_requests_come_due():
    orders = WorkingOrders()
    entry = working(orders)
    assert orders.unanswered(10**9) == []
    orders.cancel_sent(entry, 7, 17)
    assert orders.unanswered(6) == []
    assert orders.unanswered(7) == [entry]
    orders.apply_update(update("r-1E", "cancel_rejected", ts=8))
    assert orders.unanswered(10**9) == []


def test_a_request_is_pending_until_it_is_answered():
    orders = WorkingOrders()
    entry = working(orders)
    orders.cancel_sent(entry, 7, 17)
    orders.replace_sent(entry, 8, 101.0)
    assert (
        entry.request.cancel_pending,
        entry.request.replace_pending,
        entry.request.asked_ns,
        entry.request.asked_price,
    ) == (True, True, 8, 101.0)
    orders.apply_update(update("r-1E", "replace_rejected", ts=9))
    assert (entry.request.cancel_pending, entry.request.replace_pending, entry.request.asked_ns) == (True, False, 8)
    assert entry.request.replace_refused
    orders.apply_update(update("r-1E", "cancel_rejected", ts=10))
    assert (entry.request.cancel_pending, entry.request.asked_ns) == (False, 0)
    assert (entry.request.cancels, entry.request.cancel_again_ns) == (1, 17)
    orders.replace_sent(entry, 11, 101.0)
    orders.cancel_sent(entry, 12, 22)
    orders.apply_update(update("r-1E", "replaced", ts=12))
    assert (entry.request.replace_pending, entry.request.replace_refused) == (False, False)
    orders.apply_update(update("r-1E", "working", ts=13, unsolicited=False))  # a list is newer than the request
    assert (entry.request.cancel_pending, entry.request.asked_ns, entry.request.cancels) == (False, 0, 2)


def test_what_has_happened_to_an_order_dates_the_answers_to_questions():
    """Each of our requests and each of the server's messages counts, an answer to a query does not."""
    orders = WorkingOrders()
    entry = orders.add(order())
    marks = [orders.version]
    orders.sent(entry, 1, 1)
    marks.append(orders.version)
    orders.apply_update(update("r-1E", "working", ts=2))
    marks.append(orders.version)
    orders.replace_sent(entry, 3, 101.0)
    marks.append(orders.version)
    book(orders, fill("r-1E", 1, "x1"))
    marks.append(orders.version)
    assert (marks, entry.history.version) == ([0, 1, 2, 3, 4], 4)
    orders.apply_update(update("r-1E", "working", ts=4, unsolicited=False))
    book(orders, fill("r-1E", 1, "x1"))  # told again
    assert orders.version == entry.history.version == 4


def test_the_best_limit_is_the_one_that_meets_first_also_where_it_is_asked_to_be():
    orders = WorkingOrders()
    assert (orders.best_limit(Side.BUY), orders.best_limit(Side.SELL)) == (-math.inf, math.inf)
    for name, side, price in (
        ("b1", Side.BUY, 99.0), ("b2", Side.BUY, 98.0), ("s1", Side.SELL, 101.0), ("s2", Side.SELL, 102.0)
    ):  # fmt: skip
        working(orders, order(name, side, price=price), server=name)
    stop = replace(order("stop", Side.BUY, price=105.0), type=OrderType.STOP)
    working(orders, stop, server="stop")
    assert (orders.best_limit(Side.BUY), orders.best_limit(Side.SELL)) == (99.0, 101.0)
    orders.replace_sent(orders.get("b2"), 2, 99.5)
    orders.replace_sent(orders.get("s2"), 2, 100.5)
    assert (orders.best_limit(Side.BUY), orders.best_limit(Side.SELL)) == (99.5, 100.5)
    orders.replace_sent(orders.get("b1"), 3, 97.0)  # until that is confirmed it is where it was
    orders.apply_update(update("b2", "canceled", server="b2", ts=3))  # perhaps to be entered anew at 99.5
    assert orders.best_limit(Side.BUY) == 99.5
    orders.apply_update(update("b2", "unknown_to_server", server="b2", ts=3, unsolicited=False))
    assert orders.best_limit(Side.BUY) == 99.0
    orders.apply_update(update("b1", "filled", server="b1", ts=4, filled=2))  # only its fill is awaited
    assert orders.best_limit(Side.BUY) == -math.inf


@pytest.mark.parametrize(("state", "live"), [(OrderState.UNKNOWN, 1), (OrderState.CANCELED, 0)])
def test_a_restored_order_is_found_by_both_its_names(state, live):
    orders = WorkingOrders()
    entry = WorkingOrder(order(), state, 2, 100.0, "S1")
    orders.restore(entry)
    orders.restore(WorkingOrder(order("r-2E"), state, 2, 100.0))  # whose number was never heard
    assert (orders.get("r-1E"), orders.find("", "S1"), orders.find("", "")) == (entry, entry, None)
    assert len(orders) == 2 * live


def test_done_orders_are_forgotten_in_the_end():
    orders = WorkingOrders(keep_done=2)
    for number in range(4):
        entry = working(orders, order(f"r-{number}E"), server=f"S{number}")
        orders.apply_update(update(entry.client_order_id, "canceled", server=f"S{number}", ts=2))
    assert orders.get("r-0E") is None
    assert orders.find("", "S1") is None
    assert orders.find("", "S3") is not None


def test_the_diagram_shows_every_state():
    text = mermaid()
    assert text.startswith("stateDiagram-v2\n    [*] --> intent")
    assert all(f" {state}" in text for state in OrderState)


class Server:
    """What really happens to one order, as a server knows it; shares nothing with the code under test."""

    def __init__(self, quantity):
        self.quantity, self.filled, self.alive, self.executions = quantity, 0, True, []
        self.price, self.number = 100.0, 1  # a replace gives it another number

    @property
    def name(self):
        return f"S{self.number}"

    def says(self):
        if self.filled == self.quantity:
            return "filled"
        if not self.alive:
            return "canceled"
        return "partial" if self.filled else "working"


class OrderMachine(RuleBasedStateMachine):
    """A server's truth, told late, twice, in any order or not at all; a list of open orders settles it."""

    def __init__(self):
        super().__init__()
        self.orders = WorkingOrders()
        self.entry = self.orders.add(order(quantity=5))
        self.orders.sent(self.entry, 1, 1)
        self.server = Server(5)
        self.ts = 1
        self.messages = []

    def tell(self, status, name="r-1E", executed=None):
        self.ts += 1
        facts = {"filled": self.server.filled, "quantity": 5, "price": self.server.price, "server": self.server.name}
        self.messages.append(update(name, status, ts=self.ts, fill=executed, **facts))

    @precondition(lambda self: self.server.alive and self.server.filled < 5)
    @rule(quantity=st.integers(1, 5), name=st.sampled_from(["r-1E", ""]), counts=st.booleans())
    def executes(self, quantity, name, counts):
        """What is told of it may leave out our own identifier, and how much has filled by then."""
        quantity = min(quantity, 5 - self.server.filled)
        self.server.filled += quantity
        execution = f"x{len(self.server.executions)}"
        self.server.executions.append((execution, quantity))
        filled = self.server.filled if counts else 0
        self.tell(self.server.says(), name, fill(name, quantity, execution, server=self.server.name, filled=filled))

    @precondition(lambda self: self.server.alive and not self.server.filled)
    @rule(status=st.sampled_from(["accepted", "held"]))
    def is_being_placed(self, status):
        self.tell(status)

    @precondition(lambda self: self.server.alive and self.server.filled < 5)
    @rule()
    def cancels(self):
        self.server.alive = False
        self.tell("canceled")

    @rule(status=st.sampled_from(["cancel_rejected", "replace_rejected"]))
    def refuses_a_request(self, status):
        self.tell(status)

    @precondition(lambda self: self.entry.live)
    @rule(price=st.sampled_from([99.0, 101.0, 102.5]), renumbers=st.booleans())
    def is_asked_for_another_price(self, price, renumbers):
        """A replace that comes after the end of the order is refused."""
        self.ts += 1
        self.orders.replace_sent(self.entry, self.ts, price)
        if not self.server.alive or self.server.filled == 5:
            self.tell("replace_rejected")
            return
        self.server.price, self.server.number = price, self.server.number + renumbers
        self.tell("replaced")

    @rule(quantity=st.integers(1, 9), name=st.sampled_from(["", "another-1E"]))
    def somebody_else_trades(self, quantity, name):
        """On the same account; it is none of ours, whatever number it has."""
        before = (self.entry.state, self.entry.fills.booked, self.entry.fills.reported, len(self.orders))
        self.ts += 1
        assert book(self.orders, fill(name, quantity, f"theirs{self.ts}", server="X1")) is None
        assert self.orders.apply_update(update(name, "working", server="X1", ts=self.ts, quantity=quantity)) is None
        assert (self.entry.state, self.entry.fills.booked, self.entry.fills.reported, len(self.orders)) == before

    @rule()
    def link_breaks(self):
        self.orders.lose(self.entry)

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), keep=st.booleans(), lose=st.booleans())
    def delivers(self, data, keep, lose):
        index = data.draw(st.integers(0, len(self.messages) - 1))
        message = self.messages[index] if keep else self.messages.pop(index)
        if lose and not keep:
            return
        deliver(self.orders, message)

    @rule()
    def answers_a_query(self):
        """Fills first, then the list: after that nothing is unknown and everything is as the server has it."""
        listed = [
            fill("r-1E", quantity, execution, server=self.server.name, source=FillSource.HISTORY)
            for execution, quantity in self.server.executions
        ]
        for part in self.entry.fills.from_history(listed, self.entry.size):
            self.orders.book(self.entry, part)
        self.ts += 1
        status = self.server.says()
        if status in {"working", "partial"}:
            facts = {"filled": self.server.filled, "quantity": 5, "price": self.server.price, "unsolicited": False}
            self.orders.apply_update(update("r-1E", status, ts=self.ts, server=self.server.name, **facts))
            assert (self.entry.price, self.entry.server_order_id) == (self.server.price, self.server.name)
            assert self.orders.find("", self.server.name) is self.entry
        else:
            self.orders.apply_update(update("r-1E", "unknown_to_server", ts=self.ts, unsolicited=False))
        assert self.entry.state.value in ({"canceled", "absent"} if status == "canceled" else {status})
        assert self.entry.fills.booked == self.server.filled
        assert not self.orders.unknown()
        assert not self.orders.unanswered(self.ts)

    @invariant()
    def never_more_booked_than_executed(self):
        assert self.entry.fills.booked <= self.server.filled <= 5

    @invariant()
    def never_dead_while_it_may_fill_unless_the_server_said_so(self):
        if self.server.alive and self.server.filled < 5:
            assert self.entry.live
        worst = self.orders.exposure(Side.BUY) + self.entry.fills.booked
        if self.entry.live:
            assert worst == 5


TestOrderMachine = OrderMachine.TestCase
TestOrderMachine.settings = settings(max_examples=150, stateful_step_count=30)
