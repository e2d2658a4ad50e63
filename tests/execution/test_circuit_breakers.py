"""CircuitBreakers at work: what each cancels and closes, what it leaves alone, and that no state holds back an exit."""

from itertools import count

import pytest
from actor_parts import NOW, ActorParts, make_update
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import IncidentSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import EXTERNAL, EntryOrigin, Fill, OrderRole, OrderStatus, Priority, RegimeProbs, Side
from mia_daemon.risk.codes import LATCHING, Latch, RiskCode

SECOND = 1000  # ms
NAMES = count()


def dies(*_):
    raise JournalError("the journal is dead")


def of_role(rig, role):
    return [entry for entry in rig.orders if entry.order.role is role]


def enter(rig, target=1):
    verdict = rig.decide("buy" if target > 0 else "sell", target)
    rig.play((10, 100.0), (10, 100.0))
    return verdict


@pytest.fixture
def open_rig(make_rig):
    """Rigs with limits of one's own, whose books agree, at 100.00 / 100.25."""

    async def make(incidents=None, **risk):
        rig = make_rig(settings={"risk": risk, "incidents": incidents or {}})
        rig.play((1, 100.0))
        assert await rig.reconcile()
        return rig

    return make


def set_codes(rig):
    return [latch.code for latch in rig.journal.latches()]


# Repeated executions.


async def test_after_so_many_entries_a_person_has_to_look(open_rig):
    rig = await open_rig(max_executions=2)
    for _ in range(2):
        assert enter(rig).allowed
        assert rig.position == 1  # the last one within the count is not taken back
        rig.decide("exit")
        rig.play((10, 100.0), (10, 100.0), (2 * SECOND, 100.0))
    assert rig.position == 0
    assert set_codes(rig) == [RiskCode.REPEATED_EXECUTION]

    again = await open_rig(max_executions=2)
    assert enter(again).code is RiskCode.REPEATED_EXECUTION
    assert again.operator.resume("uid 7") == ()
    assert enter(again).code is RiskCode.REPEATED_EXECUTION
    assert again.operator.rearm("uid 7") == 2
    assert set_codes(again) == []
    assert again.journal._db.execute("SELECT cleared_by FROM latches").fetchall() == [("uid 7",)]
    await again.reconcile()
    assert enter(again).allowed

    last = await open_rig(max_executions=2)
    assert last.risk.executions == 1
    last.operator.rearm("uid 7")  # a look before the limit
    assert (await open_rig(max_executions=2)).risk.executions == 0


# Fills.


async def test_a_bad_fill_pauses_entries(open_rig):
    rig = await open_rig(max_fill_slippage_ticks=8)
    enter(rig)
    assert set_codes(rig) == []
    rig.play((SECOND, 93.75), (10, 93.75))  # the stop at 96.25 fills 10 ticks further down
    assert rig.position == 0
    (latch,) = rig.journal.latches()
    assert (latch.code, latch.context["ticks"]) == (RiskCode.SLIPPAGE, 10.0)
    rig.play((10 * SECOND, 100.0))
    assert enter(rig).code is RiskCode.SLIPPAGE
    assert rig.operator.resume("uid 7") == (RiskCode.SLIPPAGE,)
    await rig.reconcile()
    assert enter(rig).allowed


# Losses.


async def test_a_loss_that_leaves_the_account_flat_is_latched_too(open_rig):
    """Between two looks at the open position the stop may have filled beyond the limit."""
    rig = await open_rig(max_daily_loss=150.0)
    enter(rig)
    rig.play((1, 90.0), (1, 90.0))
    assert (rig.position, set_codes(rig)) == (0, [RiskCode.DAILY_LOSS])
    assert rig.operator.resume("uid 7") == ()
    again = await open_rig(max_daily_loss=150.0)
    assert enter(again).code is RiskCode.DAILY_LOSS
    assert again.operator.still_exceeded(RiskCode.DAILY_LOSS)
    assert again.operator.resume("uid 7", RiskCode.DAILY_LOSS) == (RiskCode.DAILY_LOSS,)
    await again.reconcile()
    again.play((2 * SECOND, 100.0))
    assert enter(again).allowed


async def test_a_drawdown_is_latched_over_restarts_and_measured_anew_when_lifted(open_rig):
    """A gain first: what was won and lost again is a drawdown, though the account has lost nothing."""
    rig = await open_rig(max_drawdown_share=0.002)
    enter(rig)
    rig.play((10, 106.25), (10, 106.25))  # the target
    won = rig.state.risk_snapshot()
    assert (won.realized_today, won.drawdown) == (pytest.approx(298.0), pytest.approx(0.0, abs=1e-4))
    rig.play((10 * SECOND, 100.0))
    enter(rig)
    rig.play((1, 96.25), (1, 96.25))  # the stop
    assert rig.state.risk_snapshot().realized_today > 0.0
    assert set_codes(rig) == [RiskCode.DRAWDOWN]
    assert enter(rig).code is RiskCode.DRAWDOWN
    assert rig.operator.still_exceeded(RiskCode.DRAWDOWN)
    assert rig.operator.resume("uid 7") == ()
    assert rig.operator.resume("uid 7", RiskCode.DRAWDOWN) == (RiskCode.DRAWDOWN,)
    assert rig.state.risk_snapshot().drawdown == 0.0
    rig.play((2 * SECOND, 100.0))
    await rig.reconcile()
    assert enter(rig).allowed
    rig.play((1, 96.25), (1, 96.25))
    assert set_codes(rig) == [RiskCode.DRAWDOWN]
    again = await open_rig(max_drawdown_share=0.002)
    again.play((2 * SECOND, 100.0))
    assert enter(again).code is RiskCode.DRAWDOWN


# A position that nobody ordered.


@pytest.mark.parametrize("adopted", [False, True], ids=["flatten", "keep"])
async def test_a_position_beyond_the_limit_without_an_order_is_withdrawn(open_rig, adopted):
    """As by assignment, or by hand: the server's books say so twice."""
    rig = await open_rig({"on_position_breach": "keep"} if adopted else None, max_position_contracts=2)
    rig.broker._exchange.position, rig.broker._exchange.average_price = 4, 100.0
    for _ in range(2):
        await rig.reconcile()
    assert set_codes(rig) == [RiskCode.POSITION_BREACH]
    assert "position_breach" in rig.alert_codes
    rig.play(*[(SECOND, 100.0)] * 15)
    if adopted:
        assert rig.position == 4
        assert sum(stop.open_quantity for stop in of_role(rig, OrderRole.STOP) if stop.at_server) == 4
    else:
        assert rig.position == 0
        assert rig.notices.trades[-1].exit_reason == "position_breach"
    assert rig.decide("buy", 5).code is RiskCode.POSITION_BREACH


# No stop.


def lose_the_stop(rig):
    exchange = rig.broker._exchange
    exchange._orders[f"{rig.run_id}-1S"].links.sibling = None
    exchange.cancel(f"{rig.run_id}-1S", rig.ts_ns)


@pytest.mark.parametrize("how", ["protect", "flatten"])
async def test_a_position_without_a_stop_is_an_incident_after_a_second(open_rig, how):
    rig = await open_rig({"on_unprotected": how})
    enter(rig)
    lose_the_stop(rig)
    rig.play((10, 100.0), (900, 100.0))
    assert "position_unprotected" not in rig.alert_codes
    rig.play((150, 100.0))
    assert rig.alert_codes.count("position_unprotected") == 1
    rig.play((10, 100.0), (10, 100.0), (10, 100.0))
    if how == "protect":
        assert rig.orders.protection(Side.SELL) == rig.position == 1
    else:
        assert rig.position == 0
        assert rig.notices.trades[0].exit_reason == "unprotected"


async def test_that_no_stop_works_is_told_in_time_also_while_its_answer_is_awaited(open_rig):
    """Nothing is sent then: the stop may work already, and two would be one too many."""
    rig = await open_rig()
    hear = rig.executor.on_broker_event
    rig.broker._sink = lambda event: None if getattr(event, "client_order_id", "").endswith("S") else hear(event)
    enter(rig)
    rig.play((1100, 100.0), (SECOND, 100.0))
    assert rig.alert_codes.count("position_unprotected") == 1
    assert "is awaited" in rig.alerts[-1].text
    assert rig.broker.orders_sent == 3


# Every state.


@pytest.mark.parametrize("code", sorted(LATCHING))
async def test_a_latch_cancels_what_could_add_to_the_position(make_rig, code):
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 110.0), (20, 110.0))  # it works, below the market
    assert [entry.state for entry in of_role(rig, OrderRole.ENTRY)] == [OrderState.WORKING]
    rig.actors.breakers.trip(rig.risk.halt(rig.ts_ns, "test", code))
    rig.executor.act()
    rig.play((20, 110.0), (20, 110.0))
    left = len(of_role(rig, OrderRole.ENTRY))
    assert left == (code is RiskCode.REPEATED_EXECUTION)  # that one was within the count
    assert set_codes(rig) == [code]


@given(
    st.sets(st.sampled_from(sorted(LATCHING))),
    st.sampled_from([1, -1]),
    st.sampled_from(["exit", "stop", "cancel"]),
    st.booleans(),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_every_state_cancels_and_exits_leave(make_rig, codes, target, what, journal_dies):
    """Whatever is latched, with the messages of the second used up, and with a dead journal."""
    rig = make_rig(name=f"{next(NAMES)}.db", settings={"risk": {"max_messages_per_second": 4}})
    rig.play((1, 100.0))
    rig.sync.reconciled = True
    assert enter(rig, target).allowed
    for code in codes:
        rig.risk.halt(rig.ts_ns, "test", code)
    for _ in range(10):
        rig.risk.count_cancel(rig.ts_ns)
    if journal_dies:
        rig.journal._run = dies
    assert not rig.decide("buy" if target > 0 else "sell", 2 * target).allowed
    if what == "cancel":
        (stop,) = of_role(rig, OrderRole.STOP)
        rig.actors.order_manager.cancel(stop)
        rig.play((10, 100.0))
        assert not stop.live
    else:
        rig.operator.flatten("operator") if what == "exit" else rig.operator.stop(flatten=True)
        rig.play((10, 100.0), (10, 100.0), (10, 100.0))
        assert (rig.position, len(rig.orders)) == (0, 0)


# Built alone: what a latch demands, from when to when.


@pytest.fixture
def parts():
    return ActorParts()


def trip(parts, code=RiskCode.SLIPPAGE):
    parts.breakers.trip(parts.risk.halt(NOW, "test", code))


def test_a_latch_is_pending_until_it_is_announced(parts):
    assert not parts.breakers.pending
    trip(parts)
    assert parts.breakers.pending
    parts.breakers.announce()
    assert not parts.breakers.pending
    assert [code for code, _ in parts.journal.rows("set_latch")] == [RiskCode.SLIPPAGE]
    (alert,) = parts.alerts
    assert (alert.code, alert.priority, alert.context) == ("slippage", Priority.CRITICAL, {"by": "test"})
    parts.breakers.announce()
    assert (len(parts.alerts), len(parts.journal.rows("set_latch"))) == (1, 1)


def test_a_contradiction_is_told_once_after_its_cancels_and_again_after_a_resume(parts):
    for _ in range(3):
        parts.breakers.contradict("exit_refused", "the server refuses", {"position": 1})
    assert (parts.happened, parts.breakers.pending, parts.breakers.cancels_entries) == ([], True, True)
    parts.breakers.announce()
    parts.breakers.contradict("exit_refused", "the server refuses", {"position": 1})
    parts.breakers.announce()
    assert parts.alert_codes == ["exit_refused", "contradicted"]
    alert = parts.alerts[0]
    assert (alert.priority, alert.context) == (Priority.URGENT, {"position": 1})
    assert alert.text == "the server refuses; no new positions until `mia-daemon resume`"
    assert parts.breakers.lift("uid 7", None) == (RiskCode.CONTRADICTED,)
    parts.breakers.contradict("exit_refused", "the server refuses", {"position": 1})
    parts.breakers.announce()
    assert parts.alert_codes == ["exit_refused", "contradicted"] * 2
    assert parts.latched == [RiskCode.CONTRADICTED]


def test_each_contradiction_is_told_and_the_latch_is_set_once(parts):
    for code in ("exit_refused", "other_spelling"):
        parts.breakers.contradict(code, "the server says otherwise", {})
    parts.breakers.announce()
    assert parts.alert_codes == ["exit_refused", "other_spelling", "contradicted"]
    assert [code for code, _ in parts.journal.rows("set_latch")] == [RiskCode.CONTRADICTED]


def test_a_contradiction_cancels_also_before_the_first_reconciliation(parts):
    parts.sync.reconciled = False
    parts.breakers.contradict("other_daemon", "another daemon trades here", {})
    assert parts.breakers.cancels_entries


def test_setting_a_latch_writes_nothing_by_itself(parts):
    """Its cancels leave first."""
    trip(parts)
    parts.breakers.journal_failed(JournalError("disk full"))
    assert parts.happened == []


@pytest.mark.parametrize("code", sorted(LATCHING))
def test_a_latch_cancels_entries_for_as_long_as_it_is_set(parts, code):
    assert not parts.breakers.cancels_entries
    trip(parts, code)
    cancels = code is not RiskCode.REPEATED_EXECUTION  # which counts those that have left as within the limit
    assert parts.breakers.cancels_entries is cancels
    parts.breakers.announce()
    assert parts.breakers.cancels_entries is cancels
    parts.risk.resume(parts.state.risk_snapshot(), code)
    assert not parts.breakers.cancels_entries


def test_a_latch_that_stands_waits_for_reconciliation_and_one_just_set_does_not(parts):
    """What an earlier run has sent is asked about first."""
    parts.sync.reconciled = False
    trip(parts)
    assert parts.breakers.cancels_entries
    parts.breakers.announce()
    assert not parts.breakers.cancels_entries
    parts.sync.reconciled = True
    assert parts.breakers.cancels_entries


def test_a_journal_that_cannot_be_written_cancels_entries_before_anybody_is_told(parts):
    parts.sync.reconciled = False
    parts.breakers.journal_failed(JournalError("disk full"))
    assert (parts.breakers.pending, parts.breakers.cancels_entries, parts.happened) == (True, True, [])


@pytest.mark.parametrize(
    ("code", "on_breach", "reason"),
    [
        (RiskCode.DAILY_LOSS, "keep", "daily_loss"),
        (RiskCode.DRAWDOWN, "keep", "drawdown"),
        (RiskCode.POSITION_BREACH, "flatten", "position_breach"),
        (RiskCode.POSITION_BREACH, "keep", ""),
        (RiskCode.SLIPPAGE, "flatten", ""),
        (RiskCode.KILLED, "flatten", ""),
        (RiskCode.HALTED, "flatten", ""),
    ],
)
def test_only_what_the_position_adds_to_closes_it(code, on_breach, reason):
    parts = ActorParts(IncidentSettings(on_position_breach=on_breach))
    assert parts.breakers.flatten_reason == ""
    trip(parts, code)
    assert parts.breakers.flatten_reason == reason  # whoever made the position
    parts.breakers.announce()
    assert parts.breakers.flatten_reason == ""  # what somebody else opens afterwards is kept under its stop
    hold(parts, EntryOrigin("R-1", RegimeProbs(0.7, 0.2, 0.1)))
    assert parts.breakers.flatten_reason == reason


def test_a_standing_latch_leaves_a_position_that_is_not_ours(parts):
    trip(parts, RiskCode.DAILY_LOSS)
    parts.breakers.announce()
    hold(parts, EXTERNAL)
    assert parts.breakers.flatten_reason == ""


def hold(parts, origin):
    """One contract, opened by what `origin` says."""
    parts.state.ledger.apply(Fill(1, "x1", "", "", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, 100.0), origin)


async def test_a_loss_latch_closes_our_position_also_after_a_restart_by_moving_its_target(make_rig):
    """The first look at it comes before the first event: its time to close counts from there."""
    rig = make_rig()
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 100.0), (10, 100.0))
    rig.journal.set_latch(Latch(RiskCode.DAILY_LOSS, rig.ts_ns, {}))
    again = make_rig()
    again.ts_ns = rig.ts_ns
    await again.reconcile()
    again.play((10, 100.0), (10, 100.0), (10, 100.0))
    assert (again.position, len(again.orders)) == (0, 0)
    assert "exit_stuck" not in again.alert_codes
    (trade,) = again.notices.trades
    assert trade.exit_reason == "daily_loss"
    kinds = [kind for (kind,) in again.journal._db.execute("SELECT kind FROM requests ORDER BY number")]
    assert kinds == ["replace"]  # neither its stop nor its target was cancelled


async def test_a_cancel_that_the_server_refuses_is_asked_for_again_after_one_two_and_four_seconds(make_rig):
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 110.0), (20, 110.0))
    asked = []
    rig.broker.cancel = lambda *_: asked.append(rig.ts_ns)
    rig.operator.halt("the test")
    (entry,) = of_role(rig, OrderRole.ENTRY)
    for _ in range(100):  # ten seconds
        rig.executor.on_broker_event(
            make_update(entry.client_order_id, OrderStatus.CANCEL_REJECTED, server_order_id=entry.server_order_id)
        )
        rig.play((100, 110.0))
    assert [round((ns - asked[0]) / NS_PER_S, 1) for ns in asked] == [0, 1, 3, 7]


# A contradiction.


async def test_a_contradiction_stops_entries_until_resumed(make_rig):
    """The server contradicts what is known: no new risk, what could add to the position is cancelled."""
    rig = make_rig(settings={"broker": {"paper_entry_latency_ms": 15, "paper_response_latency_ms": 0}})
    rig.play((1, 100.0))
    await rig.reconcile()
    rig.decide("buy", 1)
    rig.play((10, 110.0), (20, 110.0))
    assert [entry.state for entry in of_role(rig, OrderRole.ENTRY)] == [OrderState.WORKING]
    rig.actors.breakers.contradict("other_spelling", "the server says otherwise", {"symbol": "ESZ26"})
    rig.executor.act()
    rig.play((20, 110.0), (20, 110.0))
    assert of_role(rig, OrderRole.ENTRY) == []
    assert set_codes(rig) == [RiskCode.CONTRADICTED]
    assert enter(rig).code is RiskCode.CONTRADICTED

    again = make_rig(settings={"broker": {"paper_entry_latency_ms": 0}})
    again.play((1, 100.0))
    await again.reconcile()
    assert enter(again).code is RiskCode.CONTRADICTED  # restarts included
    assert again.operator.resume("uid 7") == (RiskCode.CONTRADICTED,)
    await again.reconcile()
    assert enter(again).allowed


def test_of_several_latches_the_first_that_closes_the_position_says_why(parts):
    for code in (RiskCode.SLIPPAGE, RiskCode.DRAWDOWN, RiskCode.DAILY_LOSS):
        trip(parts, code)
    assert parts.breakers.flatten_reason == "drawdown"


# Built alone: a journal that can't be written.


def test_a_dead_journal_halts_once_and_the_halt_is_kept_beside_it(parts):
    parts.journal.fails = {"all"}
    assert not parts.breakers.write(parts.journal.commit)
    assert parts.latched == [RiskCode.HALTED]
    parts.breakers.announce()
    assert parts.happened[:2] == [("kept beside the journal", RiskCode.HALTED), ("alert", "journal")]
    assert parts.alerts[0].priority is Priority.URGENT
    assert not parts.breakers.pending


def test_a_journal_that_fails_again_is_told_at_once_and_halts_no_second_time(parts):
    parts.journal.fails = {"all"}
    parts.breakers.write(parts.journal.commit)
    parts.breakers.announce()
    parts.breakers.write(parts.journal.commit)
    assert parts.journal.kept == [RiskCode.HALTED]
    assert parts.alert_codes == ["journal", "journal"]
    assert not parts.breakers.pending


def test_a_latch_that_cannot_be_put_on_file_is_kept_beside_the_journal_and_halts(parts):
    parts.journal.fails = {"set_latch"}
    trip(parts)
    parts.breakers.announce()
    assert parts.journal.kept == [RiskCode.SLIPPAGE, RiskCode.HALTED]
    assert parts.latched == [RiskCode.SLIPPAGE, RiskCode.HALTED]
    assert not parts.breakers.pending


def test_what_is_written_says_whether_it_was(parts):
    assert parts.breakers.write(parts.journal.commit)
    assert parts.latched == []


def test_what_has_to_be_on_file_halts_and_fails(parts):
    parts.journal.fails = {"commit"}
    with pytest.raises(JournalError, match="disk full"), parts.breakers.required():
        parts.journal.commit()
    assert parts.latched == [RiskCode.HALTED]


# Built alone: lifting.


def test_lifting_is_on_file_with_who_did_it(parts):
    for code in (RiskCode.SLIPPAGE, RiskCode.HALTED):
        trip(parts, code)
    parts.after(5)
    assert parts.breakers.lift("uid 7", RiskCode.SLIPPAGE) == (RiskCode.SLIPPAGE,)
    assert parts.latched == [RiskCode.HALTED]
    assert parts.journal.rows("clear_latch") == [[RiskCode.SLIPPAGE, NOW + 5, "uid 7"]]


def test_without_a_name_those_that_need_one_stay(parts):
    for code in (RiskCode.SLIPPAGE, RiskCode.KILLED, RiskCode.HALTED):
        trip(parts, code)
    assert parts.breakers.lift("uid 7", None) == (RiskCode.SLIPPAGE, RiskCode.HALTED)
    assert parts.latched == [RiskCode.KILLED]


def test_what_cannot_be_lifted_on_file_stays_set(parts):
    """All of it: two latches are lifted in one transaction."""
    for code in (RiskCode.SLIPPAGE, RiskCode.CONSECUTIVE_LOSSES):
        trip(parts, code)
    parts.journal.fails = {"commit"}
    with pytest.raises(JournalError):
        parts.breakers.lift("uid 7", None)
    assert parts.latched == [RiskCode.SLIPPAGE, RiskCode.CONSECUTIVE_LOSSES, RiskCode.HALTED]
    assert parts.journal.rows("clear_latch") == []


def test_a_look_at_the_executions_is_on_file_as_a_latch_set_and_lifted(parts):
    for _ in range(3):
        parts.risk.on_entry_sent(NOW)
    assert parts.breakers.rearm("uid 7") == 3
    assert parts.risk.executions == 0
    assert [latch for _, latch in parts.journal.rows("set_latch")] == [
        Latch(RiskCode.REPEATED_EXECUTION, NOW, {"executions": 3, "limit": 10_000})
    ]
    assert parts.journal.rows("clear_latch") == [[RiskCode.REPEATED_EXECUTION, NOW, "uid 7"]]


@pytest.mark.parametrize("fails", ["set_latch", "clear_latch", "commit"])
def test_a_look_that_cannot_be_put_on_file_does_not_count(parts, fails):
    parts.risk.on_entry_sent(NOW)
    parts.journal.fails = {fails}
    with pytest.raises(JournalError):
        parts.breakers.rearm("uid 7")
    assert parts.risk.executions == 1
    assert parts.journal.written == []
    assert parts.latched == [RiskCode.HALTED]
