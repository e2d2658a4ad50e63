"""Each execution moves the position once, with a journal or without one, and its cost is judged."""

import math

import pytest
from actor_parts import NOW, REGIMES, ActorParts, FakeCalendar, make_fill

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import JournalError
from mia_daemon.execution.accounting import KEPT_ORIGINS, Accounting
from mia_daemon.market import Touch
from mia_daemon.records import EXTERNAL, EntryOrigin, FillSource, OrderRole, Side
from mia_daemon.risk.codes import RiskCode


def accounting_of(parts, *opens_ns):
    return Accounting(parts.state, parts.ports, parts.breakers, FakeCalendar(*opens_ns))


@pytest.fixture
def parts():
    return ActorParts()


@pytest.fixture
def accounting(parts):
    return accounting_of(parts)


def close(parts, accounting, price=99.0, execution_id="x9", role=OrderRole.STOP, **more):
    """The position is closed by an order of this role."""
    held = parts.state.held
    closing = parts.place(role, held.close_side, abs(held.quantity), price=price)
    fill = parts.fill(closing, abs(held.quantity), execution_id=execution_id, **more)
    accounting.apply_fill(fill, closing)
    return fill


# Fills of our orders.


def test_a_fill_moves_the_order_the_position_and_the_journal_and_is_notified(parts, accounting):
    entry = parts.place(quantity=2)
    fill = parts.fill(entry, 2)
    assert accounting.apply_fill(fill, entry)
    assert (entry.fills.booked, parts.ledger.position, parts.listener.fills) == (2, 2, [fill])
    assert parts.journal.rows("fill") == [["x1", fill]]
    assert entry.done


def test_a_fill_that_the_journal_knows_is_applied_nowhere(parts, accounting):
    entry = parts.place()
    parts.journal.record_fill(make_fill(entry.client_order_id, "x1"))
    assert not accounting.apply_fill(parts.fill(entry), entry)
    assert (entry.fills.booked, parts.ledger.position, parts.listener.fills) == (0, 0, [])


def test_an_execution_id_that_another_order_has_had_is_no_reason_to_miss_a_fill(parts, accounting):
    """Ids are unique within an order only, or begin again."""
    for held in (1, 2):
        entry = parts.place()
        assert accounting.apply_fill(parts.fill(entry, execution_id="x1"), entry)
        assert parts.ledger.position == held


def test_a_round_trip_is_on_file_together_with_the_fill_that_closed_it_or_not_at_all(parts, accounting):
    parts.hold(1)
    parts.journal.fails = {"trade"}
    close(parts, accounting)
    assert parts.journal.written == []
    assert (parts.ledger.position, len(parts.listener.trades)) == (0, 1)
    parts.journal.fails = set()
    accounting.checkpoint()
    assert [facts[0] for facts in parts.journal.rows("fill")] == ["x9"]
    assert [facts[1] for facts in parts.journal.rows("trade")] == parts.listener.trades


def test_a_round_trip_says_what_asked_for_it_and_why_it_ended(parts, accounting):
    parts.state.origins["d1"] = EntryOrigin("d1", REGIMES)
    entry = parts.place()
    accounting.apply_fill(parts.fill(entry), entry)
    close(parts, accounting)
    (trade,) = parts.listener.trades
    assert (trade.decision_id, trade.regime_probs, trade.exit_reason) == ("d1", REGIMES, "stop")


def test_what_an_order_was_moved_for_is_why_the_round_trip_ended(parts, accounting):
    parts.hold(1)
    target = parts.place(OrderRole.TARGET)
    target.request.exit_reason = "faded"
    accounting.apply_fill(parts.fill(target), target)
    assert [trade.exit_reason for trade in parts.listener.trades] == ["faded"]


def test_a_fill_of_an_order_whose_decision_is_forgotten_opens_an_external_position(parts, accounting):
    entry = parts.place()
    accounting.apply_fill(parts.fill(entry), entry)
    assert parts.ledger.origin is EXTERNAL


def test_the_newest_fill_is_remembered_though_an_older_one_comes_later(parts, accounting):
    entry = parts.place(quantity=2)
    accounting.apply_fill(parts.fill(entry, execution_id="x2", ts_ns=NOW + 5), entry)
    accounting.apply_fill(parts.fill(entry, execution_id="x1", ts_ns=NOW + 3), entry)
    assert parts.state.last_fill_ns == NOW + 5


def test_losses_in_a_row_are_counted_by_risk():
    parts = ActorParts(max_consecutive_losses=2)
    accounting = accounting_of(parts)
    for n in range(2):
        assert parts.latched == []
        parts.hold(1, 100.0)
        close(parts, accounting, 99.0, f"x{n}")
    assert parts.latched == [RiskCode.CONSECUTIVE_LOSSES]
    assert parts.breakers.pending


# With a journal that can't be written.


def test_a_dead_journal_keeps_no_fill_out_of_the_position(parts, accounting):
    entry = parts.place()
    parts.journal.fails = {"all"}
    assert accounting.apply_fill(parts.fill(entry), entry)
    assert (parts.ledger.position, entry.fills.booked) == (1, 1)
    assert parts.latched == [RiskCode.HALTED]


def test_a_journal_that_dies_at_the_commit_has_the_fill_applied_once(parts, accounting):
    entry = parts.place(quantity=2)
    parts.journal.fails = {"commit"}
    accounting.apply_fill(parts.fill(entry), entry)
    assert (parts.ledger.position, parts.journal.written) == (1, [])


def test_what_the_journal_could_not_take_is_written_before_the_next_fill(parts, accounting):
    """A later fill on file would hide it."""
    entry = parts.place(quantity=3)
    parts.journal.fails = {"fill"}
    for name in ("x1", "x2"):
        accounting.apply_fill(parts.fill(entry, execution_id=name), entry)
    parts.journal.fails = set()
    accounting.apply_fill(parts.fill(entry, execution_id="x3"), entry)
    assert [facts[0] for facts in parts.journal.rows("fill")] == ["x1", "x2", "x3"]
    assert parts.ledger.position == 3
    accounting.checkpoint()
    assert len(parts.journal.rows("fill")) == 3


@pytest.mark.parametrize("then", ["fill", "checkpoint"])
def test_a_round_trip_that_could_not_be_put_on_file_is_written_once(parts, accounting, then):
    parts.hold(1)
    parts.journal.fails = {"all"}
    close(parts, accounting)
    parts.journal.fails = set()
    if then == "fill":
        entry = parts.place()
        accounting.apply_fill(parts.fill(entry), entry)
    for _ in range(2):
        accounting.checkpoint()
    assert [facts[1] for facts in parts.journal.rows("trade")] == parts.listener.trades


def test_what_is_not_on_file_yet_is_kept_until_it_is(parts, accounting):
    entry = parts.place()
    parts.journal.fails = {"fill"}
    accounting.apply_fill(parts.fill(entry), entry)
    with pytest.raises(JournalError):
        accounting.record_unrecorded()
    parts.journal.fails = set()
    accounting.record_unrecorded()
    accounting.record_unrecorded()
    assert [facts[0] for facts in parts.journal.rows("fill")] == ["x1"]


def test_fills_that_cannot_be_looked_up_are_none_and_that_halts(parts, accounting):
    fill = make_fill("K1E", server_order_id="S1")
    parts.journal.record_fill(fill)
    assert accounting.recorded_under("S1") == (fill,)
    assert accounting.recorded_under("S2") == ()
    parts.journal.fails = {"executions_of"}
    assert accounting.recorded_under("S1") == ()
    assert parts.latched == [RiskCode.HALTED]


# What a fill cost.


@pytest.mark.parametrize(
    ("role", "side", "order_price", "price", "latched"),
    [
        (OrderRole.ENTRY, Side.BUY, 100.0, 100.5, False),
        (OrderRole.ENTRY, Side.BUY, 100.0, 100.75, True),
        (OrderRole.STOP, Side.SELL, 98.0, 97.5, False),
        (OrderRole.STOP, Side.SELL, 98.0, 97.25, True),
        (OrderRole.EXIT, Side.BUY, 0.0, 100.75, False),  # of a flatten the touch counts: asked at 100.25
        (OrderRole.EXIT, Side.BUY, 0.0, 101.0, True),
    ],
)
def test_a_fill_is_judged_by_the_price_its_order_stood_for(role, side, order_price, price, latched):
    parts = ActorParts(max_fill_slippage_ticks=2)
    entry = parts.place(role, side, price=order_price)
    accounting_of(parts).apply_fill(parts.fill(entry, price=price), entry)
    assert parts.latched == [RiskCode.SLIPPAGE] * latched


@pytest.mark.parametrize(("price", "latched"), [(102.5, False), (102.75, True)])
def test_an_order_that_was_moved_is_judged_by_the_worst_price_it_was_given(price, latched):
    """Which of the two the server had when it filled is not known."""
    parts = ActorParts(max_fill_slippage_ticks=2)
    entry = parts.place(price=100.0)
    parts.orders.replace_sent(entry, NOW, 102.0)
    accounting_of(parts).apply_fill(parts.fill(entry, price=price), entry)
    assert parts.latched == [RiskCode.SLIPPAGE] * latched


def test_where_there_is_neither_a_price_nor_a_touch_nothing_is_judged():
    parts = ActorParts(max_fill_slippage_ticks=2)
    parts.market.touch = Touch()
    entry = parts.place(OrderRole.EXIT, Side.BUY, price=0.0)
    accounting_of(parts).apply_fill(parts.fill(entry, price=500.0), entry)
    assert (parts.latched, parts.ledger.position) == ([], 1)


# A position that no order of ours explains.


def test_an_external_fill_moves_the_position_and_is_on_file_as_external(parts, accounting):
    accounting.apply_external_fill(make_fill("hand", "h1", quantity=2), "drift")
    assert (parts.ledger.position, parts.ledger.origin) == (2, EXTERNAL)
    ((_, fill),) = parts.journal.rows("fill")
    assert (fill.execution_id, fill.client_order_id, fill.source) == ("h1", "", FillSource.EXTERNAL)


def test_external_fills_of_two_orders_under_one_id_are_two(parts, accounting):
    for number in ("S8", "S9"):
        accounting.apply_external_fill(make_fill("", "h1", server_order_id=number), "drift")
    assert (parts.ledger.position, len(parts.journal.rows("fill"))) == (2, 2)


def test_external_fills_without_an_id_are_told_apart_by_order_and_time(parts, accounting):
    for ts_ns in (NOW, NOW, NOW + 1):
        accounting.apply_external_fill(make_fill("", "", server_order_id="S9", ts_ns=ts_ns), "drift")
    assert (parts.ledger.position, len({name for name, _ in parts.journal.rows("fill")})) == (3, 3)


def test_an_external_fill_that_cannot_be_looked_up_moves_the_position_and_halts(parts, accounting):
    parts.journal.fails = {"has_fill"}
    accounting.apply_external_fill(make_fill("", "h1"), "drift")
    assert (parts.ledger.position, parts.latched) == (1, [RiskCode.HALTED])


# When the position was opened, by our clock, and what has nothing left to do.


def test_the_holding_time_counts_from_the_receipt_of_the_first_fill_by_our_clock(parts, accounting):
    """Whatever time the server states: its clock may be an hour off."""
    own = iter(range(100, 200))
    parts.state.own_clock = lambda: next(own)
    entry = parts.place(quantity=2)
    accounting.apply_fill(parts.fill(entry, execution_id="x1", ts_ns=NOW + 3600 * NS_PER_S), entry)
    opened = parts.state.opened_at_ns
    assert 100 <= opened < 200
    accounting.apply_fill(parts.fill(entry, execution_id="x2"), entry)
    assert parts.state.opened_at_ns == opened
    close(parts, accounting)
    assert parts.state.opened_at_ns == 0


def test_a_position_that_turns_is_held_from_then_on(parts, accounting):
    first = parts.place()
    accounting.apply_fill(parts.fill(first), first)
    parts.after(5)
    turning = parts.place(OrderRole.STOP, quantity=3)
    accounting.apply_fill(parts.fill(turning, 3), turning)
    assert (parts.ledger.position, parts.state.opened_at_ns) == (-2, NOW + 5)


def test_when_the_position_closes_what_closes_has_nothing_left_to_do(parts, accounting):
    entry = parts.place()
    accounting.apply_fill(parts.fill(entry), entry)
    stop = parts.place(OrderRole.STOP, parent_id=entry.client_order_id)
    other = parts.place()
    waiting = parts.place(OrderRole.STOP, parent_id=other.client_order_id)
    assert parts.orders.surplus() == []
    close(parts, accounting, role=OrderRole.TARGET)
    assert stop in parts.orders.surplus()
    assert waiting not in parts.orders.surplus()  # its entry may still fill


@pytest.mark.parametrize("reported", [0, 1, None])
def test_a_fill_agrees_with_a_position_reported_before_it_or_after(parts, accounting, reported):
    parts.sync.on_position(reported)
    entry = parts.place()
    accounting.apply_fill(parts.fill(entry), entry)
    assert parts.sync.agrees(1)
    assert parts.sync.held == (None if reported is None else 1)
    assert parts.sync.agrees(2) is (reported is None)


def test_an_external_fill_that_closes_the_position_ends_the_round_trip(parts, accounting):
    parts.hold(1)
    accounting.apply_external_fill(make_fill("", "hand-1", side=Side.SELL), "drift")
    assert [trade.exit_reason for trade in parts.listener.trades] == ["drift"]
    assert len(parts.journal.rows("trade")) == 1


@pytest.mark.parametrize(
    ("held", "drift", "price", "at"),
    [
        (0, 2, 99.1, 99.0),
        (0, 2, 0.0, 100.25),
        (0, -2, 0.0, 100.0),
        (0, -2, math.nan, 100.0),
    ],
)
def test_a_drift_is_taken_over_at_the_servers_price_or_else_at_the_touch(parts, accounting, held, drift, price, at):
    accounting.apply_drift(drift, price)
    assert (parts.ledger.position, parts.ledger.average_price) == (held + drift, at)
    (fill,) = (fill for _, fill in parts.journal.rows("fill"))
    assert (fill.quantity, fill.client_order_id) == (2, "")


def test_without_a_touch_a_drift_is_taken_over_at_our_average_price(parts, accounting):
    parts.hold(2, 98.0)
    parts.market.touch = Touch()
    accounting.apply_drift(-1, 0.0)
    assert (parts.ledger.position, parts.ledger.realized) == (1, -3.0)  # only what three contracts cost


# The day and the value.


def test_the_day_begins_at_the_exchanges_opening(parts):
    accounting = accounting_of(parts, NOW + 100, NOW + 200)
    accounting.roll_day(NOW)
    parts.hold(1, 100.0)
    close(parts, accounting, 104.0, role=OrderRole.TARGET)
    won = parts.ledger.realized_today
    assert won > 0
    accounting.roll_day(NOW + 99)
    assert parts.ledger.realized_today == won
    accounting.roll_day(NOW + 100)
    assert parts.ledger.realized_today == 0.0


def test_what_risk_counts_by_the_day_starts_with_it(parts):
    accounting = accounting_of(parts, NOW + 100, NOW + 200)
    accounting.roll_day(NOW)
    parts.risk.count_cancel(NOW)
    accounting.roll_day(NOW + 100)
    assert parts.risk.describe(parts.state.risk_snapshot())["messages_today"] == 0


def test_a_fill_of_the_new_day_begins_it(parts):
    accounting = accounting_of(parts, NOW + 100, NOW + 200)
    accounting.roll_day(NOW)
    parts.hold(1, 100.0)
    close(parts, accounting, 104.0, role=OrderRole.TARGET, ts_ns=NOW + 100)
    assert parts.ledger.realized_today == pytest.approx(199.0)  # the entry's costs were of the day before


def test_a_day_without_an_end_goes_on(parts, accounting):
    accounting.roll_day(NOW)
    parts.hold(1, 100.0)
    close(parts, accounting, 104.0, role=OrderRole.TARGET)
    accounting.roll_day(NOW + 10**18)
    assert parts.ledger.realized_today > 0


def test_the_account_is_marked_at_the_touch(parts, accounting):
    parts.hold(2, 99.0)
    state = accounting.account_state(7, NOW + 3)
    assert (state.seq, state.ts_ns, state.position, state.average_price) == (7, NOW + 3, 2, 99.0)
    assert (state.unrealized, state.opened_ns, state.realized_today) == (100.0, NOW, -2.0)
    assert (state.equity, state.drawdown) == (100_098.0, 0.0)


def test_without_a_touch_the_account_is_worth_what_it_was(parts, accounting):
    parts.hold(1)
    parts.market.touch = Touch()
    state = accounting.account_state(1, NOW)
    assert (state.unrealized, state.position, state.average_price) == (0.0, 1, 100.0)


def test_a_point_of_the_equity_curve_is_put_on_file(parts, accounting):
    parts.hold(1)
    accounting.mark()
    accounting.record_equity()
    assert parts.journal.rows("equity") == [[NOW, 99_999.0, 100_000.0, 1, 0.0, -1.0]]


@pytest.mark.parametrize("fails", ["equity", "commit"])
def test_a_checkpoint_that_fails_halts(parts, accounting, fails):
    parts.journal.fails = {fails}
    accounting.record_equity()
    accounting.checkpoint()
    assert parts.latched == [RiskCode.HALTED]


# What asked for the orders.


def test_what_asked_for_the_last_orders_is_kept(parts, accounting):
    for n in range(KEPT_ORIGINS + 2):
        parts.state.origins[f"d{n}"] = EXTERNAL
        parts.state.brackets[f"d{n}"] = None
    accounting.forget_origins()
    assert list(parts.state.origins) == [f"d{n}" for n in range(2, KEPT_ORIGINS + 2)]
    assert list(parts.state.brackets) == list(parts.state.origins)
