"""Our orders against the server's answer: what is found, what is left open; and a long storm over the executor."""

import asyncio
import random
from dataclasses import replace

import pytest

from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.config import BrokerSettings
from mia_daemon.errors import ConnectionLost
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.reconciliation import TIME_SLACK_NS, Asked, gone, reconcile
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.journal.writer import RequestKind
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    BrokerSnapshot,
    Fill,
    LinkReport,
    LinkState,
    Order,
    OrderReport,
    OrderRole,
    OrderStatus,
    OrderType,
    PositionReport,
    Priority,
    Side,
)

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"
S = 1_000_000_000


def order(name="E", side=Side.BUY, quantity=1, price=100.0, kind=OrderType.LIMIT, role=OrderRole.ENTRY):
    return Order(name, SYMBOL, ACCOUNT, side, quantity, kind, role, "d", price=price)


def said(name, status="working", server="S1", symbol=SYMBOL, account=ACCOUNT, **more):
    facts = {"side": Side.BUY, "quantity": 1, "unsolicited": False} | more
    return OrderReport(50 * S, name, server, symbol, account, OrderStatus(status), **facts)


def fill(execution="x1", server="S1", quantity=1, price=100.0, side=Side.BUY, ts=20 * S, account=ACCOUNT):
    return Fill(ts, execution, "", server, SYMBOL, account, side, quantity, price)


def book(orders=(), fills=(), position=0, account=ACCOUNT):
    held = (PositionReport(50 * S, SYMBOL, account, position, 100.0, False),) if position else ()
    return BrokerSnapshot(50 * S, tuple(orders), tuple(fills), held, None)


def covers(report):
    return (report.symbol, report.account) == (SYMBOL, ACCOUNT)


def compare(working, answer, position=0, as_of=None, named_since_ns=50 * S, positions=()):
    """`positions` are ours since the query, where they changed."""
    identified = [(working.find(one.client_order_id, one.server_order_id), one) for one in answer.open_orders]
    known = [(entry, one) for entry, one in identified if entry is not None or covers(one)]
    as_of = working.version if as_of is None else as_of
    return reconcile(working, answer, known, Asked(as_of, named_since_ns, positions or (position,)), covers)


def send(orders, one, at_ns=10 * S):
    entry = orders.add(one)
    orders.sent(entry, at_ns, at_ns)
    return entry


def execute(orders, one):
    """Book an execution told with an update."""
    entry = orders.find(one.client_order_id, one.server_order_id)
    orders.book(entry, entry.fills.from_update(one, entry.size))


def named(found):
    """The executions of our orders, by number of the order that the server gives them."""
    return [(name, one) for name, executions in found.executions.items() for one in executions]


@pytest.fixture
def working():
    """One order, sent at 10 s, of which the server has said nothing: unknown."""
    orders = WorkingOrders()
    orders.lose(send(orders, order()))
    return orders


def numbered(working):
    working.apply_update(said("E", unsolicited=True))
    working.lose(working.get("E"))


def agrees(found):
    """Position and orders agree; what is not ours does not count."""
    return not (found.position.drift or found.unresolved)


def test_agreement_is_clean():
    found = compare(WorkingOrders(), book(position=2), position=2)
    assert (agrees(found), found.executions, found.updates, found.position.drift) == (True, {}, (), 0)
    assert (found.position.quantity, found.position.average_price) == (2, 100.0)


def test_a_listed_order_lives(working):
    found = compare(working, book([said("E", price=99.0)]))
    assert [(u.client_order_id, u.status) for u in found.updates] == [("E", OrderStatus.WORKING)]
    assert agrees(found)


def test_an_order_listed_without_our_name_is_found_by_its_number(working):
    numbered(working)
    listed = said("")
    found = compare(working, book([listed]))
    assert (found.updates, found.unresolved, found.external_orders) == ((listed,), (), ())


def test_an_order_that_is_nowhere_is_gone(working):
    found = compare(working, book())
    assert [(u.client_order_id, u.status) for u in found.updates] == [("E", OrderStatus.UNKNOWN_TO_SERVER)]
    assert agrees(found)


def test_missed_fills_are_named_and_explain_the_position(working):
    numbered(working)
    found = compare(working, book(fills=[fill()], position=1))
    assert [(name, one.execution_id) for name, one in named(found)] == [("E", "x1")]
    assert (found.guessed, found.position.drift) == (frozenset(), 0)


@pytest.mark.parametrize("execution", ["x1", "h9", ""])
def test_booked_executions_are_found_and_change_nothing_however_the_list_numbers_them(working, execution):
    numbered(working)
    execute(working, fill())
    found = compare(working, book(fills=[fill(execution)], position=1), position=1)
    assert [name for name, _ in named(found)] == ["E"]
    assert (found.external_fills, found.position.drift) == ((), 0)


def test_executions_beyond_the_orders_size_explain_no_position(working):
    numbered(working)
    found = compare(working, book(fills=[fill("x1"), fill("x2")], position=2))
    assert found.position.drift == 1


@pytest.mark.parametrize("early_s", [0, 3])
def test_a_fill_of_an_order_whose_number_was_never_heard_belongs_to_the_one_it_fits(working, early_s):
    """Also when the server's clock is behind ours, and tells whole seconds."""
    found = compare(working, book(fills=[fill(server="S77", ts=(10 - early_s) * S)], position=1))
    assert [(name, one.server_order_id) for name, one in named(found)] == [("E", "S77")]
    assert found.guessed == {"E"}
    assert found.position.drift == 0


@pytest.mark.parametrize(
    "misfit",
    [{"side": Side.SELL}, {"price": 100.25}, {"ts": 4 * S}, {"quantity": 2}],
    ids=["other side", "beyond the limit", "before it was sent", "more than it wanted"],
)
def test_a_fill_that_does_not_fit_is_nobodys(working, misfit):
    found = compare(working, book(fills=[fill(server="S77", **misfit)], position=1))
    assert found.executions == {}
    assert len(found.external_fills) == 1
    assert found.position.drift == 1


def test_a_fill_that_fits_two_orders_leaves_both_open(working):
    working.lose(send(working, order("F"), 11 * S))
    found = compare(working, book(fills=[fill(server="S77")], position=1))
    assert (found.executions, found.updates, set(found.unresolved)) == ({}, (), {"E", "F"})
    assert not agrees(found)


@pytest.mark.parametrize(("price", "name"), [(101.0, "T"), (101.25, "T"), (99.0, "S"), (98.5, "S")])
def test_a_fill_at_the_targets_price_is_not_the_stops(price, name):
    """Killed between the bracket's sending and its answer: neither number is known."""
    working = WorkingOrders()
    for each in (
        order("S", Side.SELL, price=99.0, kind=OrderType.STOP, role=OrderRole.STOP),
        order("T", Side.SELL, price=101.0, role=OrderRole.TARGET),
    ):
        working.lose(send(working, each))
    found = compare(working, book(fills=[fill(server="S77", side=Side.SELL, price=price)]), position=1)
    assert [*found.executions] == [name]
    assert agrees(found)


@pytest.mark.parametrize(
    ("side", "near", "far", "price", "name"),
    [
        (Side.SELL, 99.0, 98.0, 99.0, "near"),
        (Side.SELL, 99.0, 98.0, 98.25, "near"),
        (Side.BUY, 101.0, 102.0, 101.0, "near"),
        (Side.BUY, 101.0, 102.0, 101.75, "near"),
        (Side.BUY, 101.0, 102.0, 102.0, ""),  # either
    ],
)
def test_of_two_stops_the_one_has_filled_whose_price_was_reached(side, near, far, price, name):
    working = WorkingOrders()
    for stop, trigger in (("near", near), ("far", far)):
        working.lose(send(working, order(stop, side, price=trigger, kind=OrderType.STOP, role=OrderRole.STOP)))
    found = compare(working, book(fills=[fill(server="S77", side=side, price=price)]), position=-side)
    assert [*found.executions] == ([name] if name else [])


@pytest.mark.parametrize(("price", "found_by"), [(98.75, "S"), (98.0, "S"), (97.0, "S"), (99.0, ""), (100.0, "")])
def test_an_exit_by_hand_is_not_that_of_a_stop_whose_price_was_not_reached(price, found_by):
    """The stop was moved, so its fill may come under another number; the hand's flatten cancelled it."""
    working = WorkingOrders()
    stop = send(working, order("S", Side.SELL, price=98.0, kind=OrderType.STOP, role=OrderRole.STOP))
    working.apply_update(said("S", server="S2", side=Side.SELL, price=98.0, unsolicited=True))
    working.replace_sent(stop, 11 * S, 98.75)
    working.lose(stop)
    found = compare(working, book(fills=[fill(server="S77", side=Side.SELL, price=price)]), position=1)
    assert [*found.executions] == ([found_by] if found_by else [])
    assert [one.price for one in found.external_fills] == ([] if found_by else [price])


def test_a_fill_may_be_as_old_as_clocks_allow_and_no_older(working):
    at_ns = 10 * S - TIME_SLACK_NS
    for ts_ns, found_by in ((at_ns, ["E"]), (at_ns - 1, [])):
        found = compare(working, book(fills=[fill(server="S77", ts=ts_ns)], position=1))
        assert [*found.executions] == found_by


def test_what_is_said_of_an_order_that_is_gone(working):
    numbered(working)
    assert gone(working.get("E"), 7) == OrderReport(
        7, "E", "S1", SYMBOL, ACCOUNT, OrderStatus.UNKNOWN_TO_SERVER, text="not among the server's open orders",
        unsolicited=False,
    )  # fmt: skip


@pytest.mark.parametrize(("asked", "price", "found_by"), [(98.0, 98.5, "T"), (0.0, 101.0, ""), (98.0, 97.75, "")])
def test_a_replaced_order_may_have_filled_under_another_number_and_at_the_price_asked_for(asked, price, found_by):
    """Killed between the replace and its answer; the server gives replaced orders new numbers."""
    working = WorkingOrders()
    target = send(working, order("T", Side.SELL, price=101.0, role=OrderRole.TARGET))
    working.apply_update(said("T", server="S2", side=Side.SELL, price=101.0, unsolicited=True))
    if asked:
        working.replace_sent(target, 11 * S, asked)
    working.lose(target)
    found = compare(working, book(fills=[fill(server="S3", side=Side.SELL, price=price)]), position=1)
    assert [*found.executions] == ([found_by] if found_by else [])
    assert agrees(found) is bool(found_by)


@pytest.mark.parametrize("child_works", [True, False])
def test_a_fill_belongs_to_the_entry_whose_stop_works(child_works):
    """Two orders could have made it, and of neither was an answer heard: but a stop works only behind its entry."""
    working = WorkingOrders()
    for name, role in (("E", OrderRole.ENTRY), ("F", OrderRole.ENTRY)):
        send(working, order(name, role=role))
    stop = replace(order("S", Side.SELL, price=98.0, kind=OrderType.STOP, role=OrderRole.STOP), parent_id="F")
    send(working, stop)
    status = "working" if child_works else "accepted"
    working.apply_update(said("S", status, server="S2", side=Side.SELL, price=98.0, unsolicited=True))
    found = compare(working, book([said("S", server="S2", side=Side.SELL, price=98.0)], [fill(server="S9")], 1))
    assert [*found.executions] == (["F"] if child_works else [])
    assert found.ambiguous == (() if child_works else ("E", "F"))


@pytest.mark.parametrize(("quantities", "owners"), [((1, 1), ["T", "U"]), ((1,), [])])
def test_orders_that_can_only_have_filled_both_have_filled_both(quantities, owners):
    """Alike in all that fills tell: one such fill may be either's, two are both's."""
    working = WorkingOrders()
    for name in ("T", "U"):
        send(working, order(name, Side.SELL, price=101.0, role=OrderRole.TARGET))
    told = [
        fill(f"x{n}", server=f"S{n}", quantity=quantity, side=Side.SELL, price=101.0)
        for n, quantity in enumerate(quantities, 9)
    ]
    found = compare(working, book(fills=told[::-1]), position=len(quantities))
    assert sorted((name, one.server_order_id) for name, one in named(found)) == [
        (name, f"S{n}") for n, name in enumerate(owners, 9)
    ]
    assert found.ambiguous == (() if owners else ("T", "U"))


@pytest.mark.parametrize(("filled", "owners"), [(1, ["T"]), (0, [])])
def test_an_open_order_that_lacks_a_fill_has_made_it_under_a_number_it_no_longer_has(filled, owners):
    """Replaced twice, and the answer to the first was lost: the list says that it has filled in part."""
    working = WorkingOrders()
    target = send(working, order("T", Side.SELL, quantity=3, price=101.0, role=OrderRole.TARGET))
    working.apply_update(said("T", server="S1", side=Side.SELL, quantity=3, price=101.0, unsolicited=True))
    for price in (99.0, 98.0):
        working.replace_sent(target, 11 * S, price)
    listed = said("T", server="S3", side=Side.SELL, quantity=3, filled=filled, price=98.0)
    found = compare(working, book([listed], [fill(server="S2", side=Side.SELL, price=99.0)]), position=1)
    assert [*found.executions] == owners
    assert found.ambiguous == ()
    assert target.live


@pytest.mark.parametrize(("own", "stray", "ours"), [(3, 1, ["own"]), (2, 2, ["own"]), (2, 1, ["own", "stray"])])
def test_an_order_has_not_made_more_than_its_own_number_leaves_room_for(own, stray, ours):
    """A replaced order that is gone, an execution under the number it is known by, and one under another."""
    working = WorkingOrders()
    entry = send(working, order("E", quantity=3))
    working.apply_update(said("E", server="S1", quantity=3, unsolicited=True))
    working.replace_sent(entry, 11 * S, 101.0)
    working.lose(entry)
    found = compare(working, book(fills=[fill("own", "S1", own), fill("stray", "S9", stray)], position=own + stray))
    assert [one.execution_id for _, one in named(found)] == ours
    assert [one.execution_id for one in found.external_fills] == [name for name in ("own", "stray") if name not in ours]


@pytest.mark.parametrize(("own", "stray", "ours"), [(1, 1, ["own"]), (0, 2, []), (0, 1, ["stray"])])
def test_an_open_order_has_not_made_more_than_the_list_says(own, stray, ours):
    """It has filled for one contract: what was executed under its number counts first."""
    working = WorkingOrders()
    entry = send(working, order("E", quantity=3))
    working.replace_sent(entry, 11 * S, 101.0)
    told = [fill("own", "S1", own)] * bool(own) + [fill("stray", "S9", stray)]
    found = compare(working, book([said("E", "partial", "S1", quantity=3, filled=1)], told, position=own + stray))
    assert [one.execution_id for _, one in named(found)] == ours


def test_fills_of_one_second_stay_in_the_servers_order(working):
    exit_order = send(working, order("X", Side.SELL, quantity=2, price=101.0), 11 * S)
    working.apply_update(said("X", server="S2", side=Side.SELL, unsolicited=True))
    working.lose(exit_order)
    first, second = fill("x3", "S2", side=Side.SELL, price=101.25), fill("x2", "S2", side=Side.SELL, price=101.0)
    found = compare(working, book(fills=[first, fill("x1", "S1"), second]))
    assert [one.execution_id for one in found.executions["X"]] == ["x3", "x2"]
    assert ([one.execution_id for one in found.executions["E"]], found.guessed) == (["x1"], {"E"})


def test_what_happened_after_the_question_is_not_judged_by_its_answer(working):
    as_of = working.version
    send(working, order("F"), 12 * S)
    working.apply_update(said("E", "canceled", unsolicited=True))
    found = compare(working, book([said("E")]), as_of=as_of)
    assert found.updates == ()
    assert found.unresolved == ()


def test_orders_and_fills_of_others_are_reported(working):
    foreign = said("hand", server="H1")
    found = compare(working, book([said("E"), foreign], [fill("h", "H1", side=Side.SELL)], position=-1))
    assert found.external_orders == (foreign,)
    assert [f.execution_id for f in found.external_fills] == ["h"]
    assert found.position.drift == -1


# What an answer does not prove.


def test_an_order_too_new_to_be_listed_is_not_proven_absent(working):
    """It was sent less than a moment before the query, and the server has said nothing of it yet."""
    for named_since_ns, gone_names in ((10 * S, ["E"]), (10 * S - 1, [])):
        found = compare(working, book(), named_since_ns=named_since_ns)
        assert [one.client_order_id for one in found.updates] == gone_names
        assert found.unresolved == (() if gone_names else ("E",))


def test_an_acknowledged_order_is_listed_however_new_it_is(working):
    numbered(working)
    found = compare(working, book(), named_since_ns=0)
    assert [one.status for one in found.updates] == [OrderStatus.UNKNOWN_TO_SERVER]


ALIKE = {"side": Side.BUY, "quantity": 1, "type": OrderType.LIMIT, "price": 100.0}


@pytest.mark.parametrize(
    ("facts", "maybe"),
    [
        ({}, True),
        ({"price": 0.0}, True),  # no price told
        ({"price": 99.0}, False),
        ({"side": Side.SELL}, False),
        ({"quantity": 2}, False),
        ({"type": OrderType.STOP}, False),
    ],
)
@pytest.mark.parametrize("name", ["", "e"])
def test_an_order_that_may_be_listed_without_its_name_is_not_proven_absent(working, facts, maybe, name):
    found = compare(working, book([said(name, server="S9", **ALIKE | facts)]))
    assert [one.client_order_id for one in found.updates] == ([] if maybe else ["E"])
    assert found.unresolved == (("E",) if maybe else ())
    assert len(found.external_orders) == 1


def test_an_order_listed_under_a_name_that_is_not_ours_is_not_ours(working):
    found = compare(working, book([said("hand", server="S9", **ALIKE)]))
    assert ([one.client_order_id for one in found.updates], found.unresolved) == (["E"], ())


@pytest.mark.parametrize(
    ("position", "resolved"), [(0, True), (1, False), (-1, True)], ids=["as ours", "it may have filled", "it can't"]
)
def test_without_a_list_of_executions_an_absent_order_may_have_filled_where_the_position_says_so(
    working, position, resolved
):
    numbered(working)
    answer = replace(book(position=position), fills=None)
    found = compare(working, answer)
    assert [one.client_order_id for one in found.updates] == (["E"] if resolved else [])
    assert (found.ambiguous, found.position.drift) == (() if resolved else ("E",), position)


@pytest.mark.parametrize("held", [None, (PositionReport(0, SYMBOL, ACCOUNT, None, 0.0),)], ids=["refused", "no number"])
def test_a_position_that_is_not_told_is_no_difference(working, held):
    found = compare(working, replace(book([said("E")]), positions=held), position=3)
    assert (found.position.quantity, found.position.drift) == (None, 0)


@pytest.mark.parametrize(("server", "drift"), [(0, 0), (1, 0), (2, 0), (3, 2), (-1, -2)])
def test_a_position_is_ours_if_it_is_one_that_we_have_had_since_the_query(server, drift):
    """Fills were booked meanwhile: the answer may be from before or after each."""
    found = compare(WorkingOrders(), book(position=server), positions=(0, 2, 1))
    assert found.position.drift == drift


def test_a_position_may_contain_the_executions_that_the_same_answer_lists(working):
    numbered(working)
    for server, drift in ((1, 0), (2, 1), (0, -1)):
        assert compare(working, book(fills=[fill()], position=server)).position.drift == drift


def test_several_positions_add_up_and_have_no_average_price(working):
    held = tuple(PositionReport(50 * S, SYMBOL, ACCOUNT, quantity, 100.0, False) for quantity in (3, -1))
    found = compare(working, replace(book([said("E")]), positions=held), position=2)
    assert (found.position.quantity, found.position.average_price, found.position.drift) == (2, 0.0, 0)


def test_an_execution_without_a_time_may_be_of_any_order(working):
    found = compare(working, book(fills=[fill(server="S77", ts=0)], position=1))
    assert found.guessed == {"E"}


def test_other_symbols_and_accounts_do_not_count(working):
    elsewhere = (said("q", symbol="NQZ26_FUT_CME"), said("z", account="Sim2"))
    found = compare(working, book([said("E"), *elsewhere], [fill("y", "S9", account="Sim2")], 3, account="Sim2"))
    assert (found.external_orders, found.external_fills, found.position.drift) == ((), (), 0)


# What is done about it.


def answering(monkeypatch, rig, fills, position):
    """The server's books from now on: no open orders."""

    async def request_snapshot(_since_ns):
        return book(fills=fills, position=position)

    monkeypatch.setattr(rig.broker, "request_snapshot", request_snapshot)


async def test_executions_that_explain_the_drift_are_booked_as_they_are(rig, monkeypatch):
    executions = [fill("h1", "H1", 2, 99.0, ts=rig.ts_ns), fill("h2", "H1", 1, 99.25, ts=rig.ts_ns)]
    answering(monkeypatch, rig, executions, 3)
    for _ in range(3):
        await rig.reconcile()
    assert rig.position == 3
    booked = [one.fill for one in rig.journal.recover(SYMBOL, ACCOUNT, 0).account.fills]
    on_file = [(one.execution_id, one.quantity, one.price) for one in booked]
    assert on_file == [("h1", 2, 99.0), ("h2", 1, 99.25)]
    assert rig.alert_codes.count("position_drift") == 1


async def test_an_execution_booked_by_an_earlier_run_is_given_to_no_other_order(make_rig, monkeypatch):
    """It is among the fills asked for again, but its order, long done, is not known to this run any more."""
    rig = make_rig()
    rig.journal.record_intent([order("K1"), order("K2")], rig.ts_ns)
    rig.journal.record_fill(replace(fill("x1", "S1", ts=rig.ts_ns), client_order_id="K1"))
    rig = make_rig()
    rig.play((1, 100.0))
    answering(monkeypatch, rig, [fill("x1", "S1", ts=rig.ts_ns), fill("x2", "S2", ts=rig.ts_ns)], 2)
    assert await rig.reconcile()
    booked = [one.fill for one in rig.journal.recover(SYMBOL, ACCOUNT, 0).account.fills]
    assert [(one.execution_id, one.client_order_id) for one in booked] == [("x1", "K1"), ("x2", "K2")]
    assert "execution_known" not in rig.alert_codes


async def test_a_fill_found_after_a_kill_makes_the_trade_its_decision_wanted(make_rig, monkeypatch):
    """The same under the same name at every restart: what is derived from the fills again is no second round trip."""
    rig = make_rig()
    rig.decide("hold")
    made = f"{rig.run_id}-1"
    rig.journal.record_intent([replace(order("K1"), decision_id=made)], rig.ts_ns)
    exit_order = replace(order("K2", Side.SELL, price=101.0, role=OrderRole.TARGET), decision_id=made)
    rig.journal.record_intent([exit_order], rig.ts_ns)
    rig = make_rig()
    rig.play((1, 100.0))
    leave = fill("x2", "S2", side=Side.SELL, price=101.0, ts=rig.ts_ns)
    answering(monkeypatch, rig, [fill("x1", ts=rig.ts_ns), leave], 0)
    assert await rig.reconcile()
    (trade,) = rig.notices.trades
    assert (trade.trade_id, trade.regime_probs.range) == (made, 0.7)
    rig = make_rig()
    again = Ledger(rig.instrument, 0.0).restore(rig.recovered.account.fills, day_start_ns=0, peak_equity=0.0)
    assert [one.trade_id for one in again] == [one.trade_id for one in rig.journal.trades()] == [made]


@pytest.mark.parametrize(("number", "says"), [("S1", ""), ("S77", ": its order was found by side, price and time")])
async def test_a_fill_found_by_asking_is_told(make_rig, monkeypatch, number, says):
    rig = make_rig()
    rig.journal.record_intent([order("K1", quantity=2)], rig.ts_ns)
    if number == "S1":
        rig.journal.record_update(said("K1", server="S1", quantity=2, unsolicited=True))
    rig = make_rig()
    rig.play((1, 100.0))
    answering(monkeypatch, rig, [fill("x1", number, 2, 99.75, ts=rig.ts_ns)], 2)
    assert await rig.reconcile()
    (alert,) = [alert for alert in rig.alerts if alert.code == "fill_missed"]
    assert alert.text == f"execution x1 of order K1 was found by asking{says}"
    assert (alert.priority, alert.context) == (Priority.WARNING, {"order": "K1", "quantity": 2, "price": 99.75})


async def test_orders_that_may_have_filled_do_not_block_for_ever(make_rig, monkeypatch):
    """Two entries of killed runs and one execution that fits both: the position is right, trading goes on."""
    rig = make_rig()
    rig.journal.record_intent([order("K1"), order("K2")], rig.ts_ns)
    rig = make_rig()
    rig.play((1, 100.0))
    answering(monkeypatch, rig, [fill("x", "S77", ts=rig.ts_ns)], 1)
    assert [await rig.reconcile() for _ in range(3)] == [False, False, True]
    assert rig.position == 1
    given_up = [alert for alert in rig.alerts if alert.code == "order_given_up"]
    assert [(alert.priority, alert.text, alert.context) for alert in given_up] == [
        (
            Priority.WARNING,
            f"order {name} is not open at the server; whether it filled is not known, but the position agrees",
            {"order": name},
        )
        for name in ("K1", "K2")
    ]
    (booked,) = rig.journal.recover(SYMBOL, ACCOUNT, 0).account.fills
    assert booked.fill.execution_id == "x"
    assert rig.journal.recover(SYMBOL, ACCOUNT, 0).orders.open == ()


async def test_orders_that_may_have_filled_are_given_up_also_where_the_position_never_differed(make_rig, monkeypatch):
    """The execution that fits both was somebody's who has closed it since."""
    rig = make_rig()
    rig.journal.record_intent([order("K1"), order("K2")], rig.ts_ns)
    rig = make_rig()
    rig.play((1, 100.0))
    closed = fill("y", "S78", ts=rig.ts_ns, side=Side.SELL)
    answering(monkeypatch, rig, [fill("x", "S77", ts=rig.ts_ns), closed], 0)
    assert [await rig.reconcile() for _ in range(2)] == [False, True]
    assert rig.position == 0
    assert rig.alert_codes.count("order_given_up") == 2
    assert "position_drift" not in rig.alert_codes


async def test_what_turns_out_to_be_one_orders_own_tells_which_made_the_other(make_rig, monkeypatch):
    """The second look shows an execution under its number, beside one that might have been its own after a move."""
    rig = make_rig()
    rig.journal.record_intent([order("K1"), order("K2")], rig.ts_ns)
    rig.journal.record_update(said("K1", server="S1", unsolicited=True))
    rig.journal.record_request("K1", RequestKind.REPLACE, rig.ts_ns, 100.0, 1)
    rig = make_rig()
    rig.play((1, 100.0))
    stray = fill("x", "S77", ts=rig.ts_ns)
    answering(monkeypatch, rig, [stray], 1)
    assert not await rig.reconcile()
    answering(monkeypatch, rig, [stray, fill("y", "S1", ts=rig.ts_ns)], 2)
    assert await rig.reconcile()
    assert rig.position == 2
    made = [(fill.execution_id, fill.client_order_id) for fill in rig.notices.fills]
    assert sorted(made) == [("x", "K2"), ("y", "K1")]
    assert "order_given_up" not in rig.alert_codes


async def test_while_the_server_is_asked_nobody_asks_again(rig, monkeypatch):
    asked, answered = asyncio.Event(), asyncio.Event()

    async def request_snapshot(_since_ns):
        asked.set()
        await answered.wait()
        return book()

    monkeypatch.setattr(rig.broker, "request_snapshot", request_snapshot)
    first = asyncio.create_task(rig.reconcile())
    await asked.wait()
    asked.clear()
    assert not await rig.reconcile()
    assert not asked.is_set()
    answered.set()
    assert await first is True


# The storm.


class Storm:
    """A server behind a bad line: requests late or lost, messages late, twice, out of order or lost, links that break.

    Behind it stands the paper exchange, whose own record is the truth. What is checked is checked here, on what the
    server saw, without a look into the executor.
    """

    has_own_clock = False
    replaces = True

    def __init__(self, seed):
        self.rng = random.Random(seed)
        quick = BrokerSettings(paper_entry_latency_ms=0, paper_response_latency_ms=0)
        self.server = PaperBroker(instrument(SYMBOL), ACCOUNT, quick, "srv")
        self.server.start(self.heard_at_server)
        self.exchange = self.server._exchange
        self.wild = True
        self.up = True
        self.now = 0
        self.orders_sent = 0
        self.line = []  # (due, number, event) to the executor
        self.requests = []  # (due, what) to the server
        self.questions = []
        self.number = 0
        self.arrived = {}  # every submission that reached the server, by name
        self.executions = []
        self.sink = None
        self.journal = None
        self.unprotected_since = 0
        self.faults = 0

    # The broker's side.

    def start(self, on_event):
        self.sink = on_event

    def restore(self, *_):
        return

    def submit(self, order):
        self.orders_sent += 1
        self.sends([order], lambda: self.server.submit(order))

    def submit_bracket(self, bracket):
        self.orders_sent += 3
        self.sends([bracket.entry, bracket.stop, bracket.target], lambda: self.server.submit_bracket(bracket))

    def flatten(self, order):
        self.orders_sent += 1
        self.sends([order], lambda: self.server.flatten(order))

    def replace(self, name, number, price, quantity):
        self.sends([], lambda: self.server.replace(name, number, price, quantity))

    def cancel(self, name, number):
        self.sends([], lambda: self.server.cancel(name, number))

    def sends(self, orders, act):
        for each in orders:
            on_file = self.journal.execute(
                "SELECT 1 FROM intents WHERE client_order_id = ?", (each.client_order_id,)
            ).fetchone()
            assert on_file, f"{each.client_order_id} left before its intent was on file"
        if not self.up or (self.wild and self.rng.random() < 0.02):
            self.faults += 1
            return  # lost on the way
        self.requests.append((self.later(20), orders, act))

    def later(self, ms):
        """Requests keep their order, as on one connection."""
        due = self.now + self.rng.randrange(ms) * 1_000_000
        return max(due, self.requests[-1][0] if self.requests else 0)

    async def request_snapshot(self, since_ns):
        if not self.up:
            raise ConnectionLost("down")
        waiting = asyncio.get_running_loop().create_future()
        self.questions.append((self.later(40), since_ns, waiting))
        return await waiting

    # The line and the server.

    def heard_at_server(self, event):
        if isinstance(event, Fill):
            self.executions.append(event)
        if not self.up or (self.wild and self.rng.random() < 0.04):
            self.faults += 1
            return
        copies = 2 if self.wild and self.rng.random() < 0.05 else 1
        for _ in range(copies):
            self.number += 1
            delay = self.rng.randrange(400 if self.wild and self.rng.random() < 0.1 else 5)
            self.line.append((self.now + delay * 1_000_000, self.number, event))

    def on_market(self, events):
        """One event at a time."""
        one = events[:1]
        self.now = max(self.now, int(one["ts_ns"][0]))
        if self.wild and self.rng.random() < (0.004 if self.up else 0.02):
            self.switch()
        while self.requests and self.requests[0][0] <= self.now:
            _, orders, act = self.requests.pop(0)
            for each in orders:
                assert each.client_order_id not in self.arrived, f"{each.client_order_id} was sent twice"
                self.arrived[each.client_order_id] = (self.now, each)
            act()
        self.server.on_market(one)
        due = sorted((item for item in self.line if item[0] <= self.now), key=lambda item: item[:2])
        self.line = [item for item in self.line if item[0] > self.now]
        for _, _, event in due:
            self.sink(event)
        return 1

    def switch(self):
        """The link goes, with all that is on it; or it comes back."""
        self.up = not self.up
        self.faults += 1
        if not self.up:
            self.line.clear()
            self.requests = [item for item in self.requests if self.rng.random() < 0.5]
            for _, _, waiting in self.questions:
                waiting.set_exception(ConnectionLost("down"))
            self.questions.clear()
        self.sink(LinkReport(self.now, LinkState.UP if self.up else LinkState.DOWN, "storm"))

    async def answer(self):
        for item in [item for item in self.questions if item[0] <= self.now and not self.requests]:
            self.questions.remove(item)
            answer = await self.server.request_snapshot(item[1])
            if not item[2].done():
                item[2].set_result(answer)

    def check_protection(self, *, closing):
        """Whenever the server holds a position, its stops cover it, but for moments; unless it is being closed."""
        held = self.exchange.position
        stops = sum(
            paper.open_quantity
            for paper in self.exchange.orders
            if paper.working and paper.order.role is OrderRole.STOP and paper.order.side * held < 0
        )
        if not held or stops >= abs(held) or closing or not self.up:
            self.unprotected_since = 0
            return
        self.unprotected_since = self.unprotected_since or self.now
        assert self.now - self.unprotected_since < 12 * S, "a position stood without a stop for 12 s"

    @property
    def quiet(self):
        return self.up and not self.line and not self.requests and not self.questions


def walk(rng, n):
    """Rows for `Rig.play`: a lively market."""
    price = 100.0
    for _ in range(n):
        price += 0.25 * rng.choice((-2, -1, -1, 0, 0, 1, 1, 2))
        yield rng.choice((5, 20, 100, 500)), max(price, 50.0), max(price, 50.0) + 0.25 * rng.choice((1, 1, 2))


async def weather(rig, storm, rows, tasks, decide):
    executor = rig.executor
    for number, row in enumerate(rows):
        rig.play(row)
        await storm.answer()
        if executor.reconcile_due and not tasks:
            task = asyncio.create_task(rig.reconcile())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        for _ in range(3):
            await asyncio.sleep(0)
        if decide and number % 7 == 0:
            decide(number)
        storm.check_protection(closing=bool(rig.state.flatten.reason))
        assert abs(storm.exchange.position) <= 5, "beyond the limit"


@pytest.mark.parametrize("seed", range(24))
async def test_no_order_is_sent_twice_and_no_fill_lost_or_booked_twice(make_rig, seed):
    rng = random.Random(1000 + seed)
    storm = Storm(seed)
    rig = make_rig(
        storm,
        settings={
            "decision": {"stop_ticks": 16, "target_ticks": 16, "max_slippage_ticks": 2, "max_position": 3},
            "broker": {"ack_timeout_s": 1.0, "reconcile_every_s": 5.0, "entry_timeout_s": 3.0},
        },
    )
    storm.journal = rig.journal._db
    tasks = set()
    patience = 1 if seed % 2 else 40

    def decide(_number):
        position = rig.position
        if position:
            rig.decide(*rng.choice((*[("hold", position)] * patience, ("exit", 0), ("buy", 3), ("sell", -2))))
        else:
            rig.decide(*rng.choice((("buy", 1), ("sell", -3), ("buy", 2))))

    await weather(rig, storm, walk(rng, 700), tasks, decide)
    rig.operator.halt("the test")
    halted_ns = storm.now
    await weather(rig, storm, walk(rng, 150), tasks, decide)
    storm.wild = False
    if not storm.up:
        storm.switch()
    await weather(rig, storm, walk(rng, 400), tasks, None)
    rig.operator.flatten("the test")
    await weather(rig, storm, walk(rng, 400), tasks, None)
    async with asyncio.timeout(20):
        while tasks or not storm.quiet:
            await weather(rig, storm, walk(rng, 1), tasks, None)

    assert storm.faults > 0
    entries_late = [
        name for name, (at, each) in storm.arrived.items() if each.role is OrderRole.ENTRY and at > halted_ns + S
    ]
    assert entries_late == []
    position = sum(one.side * one.quantity for one in storm.executions)
    assert rig.position == storm.exchange.position == position == 0
    assert list(storm.exchange.orders) == []
    assert len(rig.orders) == 0
    on_file = rig.journal._db.execute("SELECT execution_id, quantity FROM fills ORDER BY execution_id").fetchall()
    adopted = [name for name, _ in on_file if name.startswith("drift")]
    assert adopted == []
    assert on_file == sorted((one.execution_id, one.quantity) for one in storm.executions)
    assert storm.executions
    points = sum(-one.side * one.quantity * one.price for one in storm.executions)
    costs = sum(one.quantity for one in storm.executions) * rig.instrument.cost_per_side
    assert sum(trade.profit for trade in rig.notices.trades) == pytest.approx(points * 50 - costs)
    assert sum(trade.profit for trade in rig.journal.trades()) == pytest.approx(points * 50 - costs)
