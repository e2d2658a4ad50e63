"""What a person asks for: cancels leave before anything is written, and what is lifted is on file."""

from itertools import pairwise

import pytest
from actor_parts import NOW, ActorParts, FakeCalendar, make_fill

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.errors import JournalError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.order_states import OrderState
from mia_daemon.records import OrderRole, OrderStatus
from mia_daemon.risk.codes import RiskCode
from mia_daemon.trading.operator_actions import OperatorActions
from mia_daemon.trading.trade_executor import SHUTDOWN, Actors


class FakeExecutor:
    """A control loop that makes known what was latched, and notes when it was asked to act."""

    def __init__(self, parts):
        self.acts = 0
        self._parts = parts

    def act(self):
        self.acts += 1
        self._parts.happened.append(("act",))
        self._parts.breakers.announce()


class FakeReconciler:
    """Notes whether the server's position may be taken over."""

    adopts = False

    def adopt_next(self):
        self.adopts = True


class Operating(ActorParts):
    """An entry that works and a stop, and who may ask for what becomes of them."""

    def __init__(self, entry_state=OrderState.WORKING, **limits):
        super().__init__(**limits)
        self.executor = FakeExecutor(self)
        self.reconciler = FakeReconciler()
        self.accounting = Accounting(self.state, self.ports, self.breakers, FakeCalendar())
        actors = Actors(
            order_manager=self.order_manager,
            order_events=None,
            accounting=self.accounting,
            breakers=self.breakers,
            entries=None,
            exits=None,
            protection=None,
            client_pairs=None,
            surplus=None,
            silence=None,
            reconciler=self.reconciler,
        )
        self.operator = OperatorActions(self.state, self.ports, actors, self.executor)
        self.entry = self.place(state=entry_state).client_order_id
        self.place(OrderRole.STOP)

    @property
    def flatten(self):
        return self.state.flatten


@pytest.fixture
def parts():
    return Operating()


# Stopping.


@pytest.mark.parametrize(
    ("ask", "latched"),
    [
        (lambda operator: operator.halt("uid 7"), [RiskCode.HALTED]),
        (lambda operator: operator.kill("uid 7", flatten=False), [RiskCode.KILLED]),
        (lambda operator: operator.kill("uid 7", flatten=True), [RiskCode.KILLED]),
        (lambda operator: operator.cancel_all(), []),
        (lambda operator: operator.stop(flatten=False), []),
        (lambda operator: operator.stop(flatten=True), []),
    ],
    ids=["halt", "kill", "kill and flatten", "cancel all", "stop", "stop and flatten"],
)
def test_entries_are_cancelled_before_anything_is_written_and_protection_stays(parts, ask, latched):
    ask(parts.operator)
    assert parts.happened[0] == ("cancel", parts.entry)
    assert parts.broker.sent == [("cancel", parts.entry)]
    assert (parts.latched, parts.executor.acts) == (latched, 1)
    assert [code for code, _ in parts.journal.rows("set_latch")] == latched


@pytest.mark.parametrize("what", ["halt", "kill"])
def test_a_halt_and_a_kill_need_no_journal_and_are_kept_beside_it(parts, what):
    parts.journal.fails = {"all"}
    if what == "halt":
        parts.operator.halt("uid 7")
    else:
        parts.operator.kill("uid 7", flatten=False)
    assert parts.broker.sent == [("cancel", parts.entry)]
    assert {"halt": RiskCode.HALTED, "kill": RiskCode.KILLED}[what] in parts.journal.kept


def test_who_halted_is_on_file(parts):
    parts.operator.halt("uid 7")
    ((_, latch),) = parts.journal.rows("set_latch")
    assert (latch.code, latch.ts_ns, latch.context) == (RiskCode.HALTED, NOW, {"by": "uid 7"})


# A kill is a state.


STOPS = [
    pytest.param(lambda operator: operator.halt("uid 7"), id="halt"),
    pytest.param(lambda operator: operator.kill("uid 7", flatten=False), id="kill"),
    pytest.param(lambda operator: operator.stop(flatten=False), id="stop"),
]


@pytest.mark.parametrize("ask", STOPS)
@pytest.mark.parametrize("state", [OrderState.SENT, OrderState.UNKNOWN])
def test_an_entry_whose_number_is_not_known_yet_is_cancelled_as_soon_as_it_is(ask, state):
    parts = Operating(entry_state=state)
    entry = parts.orders.get(parts.entry)
    ask(parts.operator)
    assert parts.broker.sent == []
    assert entry.request.cancel_wanted
    parts.report(entry, OrderStatus.WORKING, server_order_id="S9")
    parts.order_manager.work()
    assert parts.broker.sent == [("cancel", parts.entry)]


@pytest.mark.parametrize("ask", STOPS)
@pytest.mark.parametrize("answer", ["refused", "listed as working", "none"])
def test_a_cancel_without_effect_is_sent_again_after_twice_the_time_each_time_until_the_entry_ends(ask, answer):
    parts = Operating()
    entry = parts.orders.get(parts.entry)
    ask(parts.operator)
    assert parts.broker.sent == [("cancel", parts.entry)]
    times = []
    for tenth in range(400):
        parts.after(tenth * NS_PER_S // 10)
        before = len(parts.broker.sent)
        if answer == "none":
            parts.orders.lose(entry)  # as when no answer comes in time
        else:
            refused = answer == "refused"
            parts.report(entry, OrderStatus.CANCEL_REJECTED if refused else OrderStatus.WORKING, unsolicited=refused)
        due_ns = parts.order_manager.work()
        times += [tenth / 10] * (len(parts.broker.sent) - before)
        assert due_ns > parts.state.own_ns
    assert times == [1, 3, 7, 15, 31]
    parts.report(entry, OrderStatus.CANCELED)
    parts.after(1000 * NS_PER_S)
    assert parts.order_manager.work() == NEVER_NS
    assert len(parts.broker.sent) == 1 + len(times)


def test_the_pause_between_two_cancels_ends_at_half_a_minute():
    parts = Operating()
    parts.operator.kill("uid 7", flatten=False)
    entry, times = parts.orders.get(parts.entry), [0]
    for second in range(1, 200):
        parts.after(second * NS_PER_S)
        parts.report(entry, OrderStatus.CANCEL_REJECTED)
        before = len(parts.broker.sent)
        parts.order_manager.work()
        times += [second] * (len(parts.broker.sent) - before)
    assert [after - before for before, after in pairwise(times)] == [1, 2, 4, 8, 16, 32, 32, 32, 32, 32]


def test_an_order_that_has_ended_is_not_cancelled_when_it_is_reported_again(parts):
    entry = parts.orders.get(parts.entry)
    parts.report(entry, OrderStatus.CANCELED)
    parts.operator.kill("uid 7", flatten=False)
    parts.report(entry, OrderStatus.WORKING)
    parts.order_manager.work()
    assert parts.broker.sent == []


def test_what_was_absent_and_lives_is_cancelled_where_that_was_wanted():
    parts = Operating(entry_state=OrderState.SENT)
    entry = parts.orders.get(parts.entry)
    parts.operator.kill("uid 7", flatten=False)
    parts.report(entry, OrderStatus.UNKNOWN_TO_SERVER, server_order_id="")
    assert not entry.live
    parts.report(entry, OrderStatus.WORKING)
    parts.order_manager.work()
    assert parts.broker.sent == [("cancel", parts.entry)]


@pytest.mark.parametrize(("flatten", "reason"), [(True, "kill"), (False, "")])
def test_a_kill_closes_the_position_only_when_asked(parts, flatten, reason):
    parts.operator.kill("uid 7", flatten=flatten)
    assert parts.flatten.reason == reason


def test_a_flatten_latches_nothing(parts):
    parts.operator.flatten("operator")
    assert (parts.flatten.reason, parts.latched, parts.executor.acts) == ("operator", [], 1)


def test_a_second_flatten_keeps_the_first_reason(parts):
    parts.operator.flatten("operator")
    parts.operator.kill("uid 7", flatten=True)
    assert parts.flatten.reason == "operator"


@pytest.mark.parametrize(("flatten", "standing"), [(True, SHUTDOWN), (False, "")])
def test_before_the_end_nothing_is_entered_and_the_position_is_closed_or_kept(parts, flatten, standing):
    parts.operator.stop(flatten=flatten)
    assert (parts.flatten.stopping, parts.flatten.standing, parts.latched) == (True, standing, [])


# Resuming.


def halted(parts, *codes):
    for code in codes:
        parts.breakers.trip(parts.risk.halt(NOW, "test", code))
    parts.breakers.announce()
    parts.happened.clear()


def test_a_resume_lifts_what_needs_no_name_and_has_the_server_asked(parts):
    halted(parts, RiskCode.HALTED, RiskCode.SLIPPAGE, RiskCode.KILLED)
    assert parts.operator.resume("uid 7") == (RiskCode.HALTED, RiskCode.SLIPPAGE)
    assert parts.latched == [RiskCode.KILLED]
    assert [(code, by) for code, _, by in parts.journal.rows("clear_latch")] == [
        (RiskCode.HALTED, "uid 7"),
        (RiskCode.SLIPPAGE, "uid 7"),
    ]
    assert parts.sync.query_reason == "trading was resumed"
    assert parts.executor.acts == 1


def test_a_latch_that_needs_its_name_is_lifted_by_it_alone(parts):
    halted(parts, RiskCode.HALTED, RiskCode.KILLED)
    assert parts.operator.resume("uid 7", RiskCode.KILLED) == (RiskCode.KILLED,)
    assert parts.latched == [RiskCode.HALTED]


@pytest.mark.parametrize("code", [RiskCode.POSITION_DRIFT, RiskCode.KILLED])
def test_lifting_a_drift_by_its_name_lets_the_servers_position_be_taken_over(parts, code):
    halted(parts, RiskCode.POSITION_DRIFT, RiskCode.KILLED)
    assert parts.operator.resume("uid 7") == ()
    assert not parts.reconciler.adopts
    assert parts.operator.resume("uid 7", code) == (code,)
    assert parts.reconciler.adopts is (code is RiskCode.POSITION_DRIFT)


def test_what_cannot_be_lifted_on_file_stays_set_and_is_acted_upon(parts):
    halted(parts, RiskCode.SLIPPAGE)
    parts.journal.fails = {"clear_latch"}
    with pytest.raises(JournalError):
        parts.operator.resume("uid 7")
    assert parts.latched == [RiskCode.SLIPPAGE, RiskCode.HALTED]
    assert (parts.sync.query_reason, parts.executor.acts) == ("", 1)
    assert "journal" in parts.alert_codes


def lose_from_the_journal(parts):
    """A fill is applied that could not be put on file."""
    parts.journal.fails = {"fill"}
    parts.accounting.apply_external_fill(make_fill("", "lost"), "drift")
    parts.breakers.announce()
    parts.happened.clear()


def test_nothing_is_lifted_before_every_fill_is_on_file(parts):
    """After a kill -9 the position on file would be another."""
    lose_from_the_journal(parts)
    with pytest.raises(JournalError):
        parts.operator.resume("uid 7")
    assert parts.latched == [RiskCode.HALTED]
    parts.journal.fails = set()
    parts.happened.clear()
    assert parts.operator.resume("uid 7") == (RiskCode.HALTED,)
    assert parts.happened[:2] == [("journal", "fill", "lost"), ("journal", "clear_latch", RiskCode.HALTED)]


@pytest.mark.parametrize(("code", "rebased"), [(RiskCode.DRAWDOWN, True), (RiskCode.HALTED, False)])
def test_after_a_drawdown_it_is_measured_from_what_is_left(code, rebased):
    parts = Operating(max_drawdown_share=0.001)
    parts.hold(5, 110.0)
    parts.accounting.mark()
    assert parts.state.account_snapshot().drawdown > 0.02
    assert parts.operator.still_exceeded(RiskCode.DRAWDOWN)
    halted(parts, code)
    parts.operator.resume("uid 7", code)
    assert (parts.state.account_snapshot().drawdown == 0.0) is rebased
    assert parts.operator.still_exceeded(RiskCode.DRAWDOWN) is not rebased


def test_a_limit_that_is_not_exceeded_is_said_to_be_so(parts):
    assert not parts.operator.still_exceeded(RiskCode.DAILY_LOSS)


# Looking at the executions.


def test_a_look_at_the_executions_starts_the_count_anew(parts):
    parts.risk.on_entry_sent(NOW)
    assert parts.operator.rearm("uid 7") == 1
    assert parts.risk.executions == 0
    assert parts.journal.rows("clear_latch") == [[RiskCode.REPEATED_EXECUTION, NOW, "uid 7"]]
    assert parts.executor.acts == 0  # nothing follows from it


def test_a_look_that_cannot_be_put_on_file_does_not_count_and_halts(parts):
    parts.risk.on_entry_sent(NOW)
    parts.journal.fails = {"set_latch"}
    with pytest.raises(JournalError):
        parts.operator.rearm("uid 7")
    assert (parts.risk.executions, parts.latched, parts.executor.acts) == (1, [RiskCode.HALTED], 1)


def test_a_look_puts_lost_fills_on_file_first(parts):
    lose_from_the_journal(parts)
    with pytest.raises(JournalError):
        parts.operator.rearm("uid 7")
    parts.journal.fails = set()
    parts.happened.clear()
    parts.operator.rearm("uid 7")
    assert [what for _, what, *_ in parts.happened] == ["fill", "set_latch", "clear_latch"]
