"""Enters positions as brackets, and follows each entry until it has filled or is cancelled.

A decision whose target is on the other side only closes the position; a later decision enters. A smaller target on the
same side does not reduce the position, since a bracket is closed as a whole. No entry is sent while a position is
being closed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.entry_policy import EntryPolicy
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import Action, Bracket, Decision, EntryOrigin, Order, OrderRole, Prediction, Priority, Side
from mia_daemon.risk.codes import ALLOWED, Verdict
from mia_daemon.risk.snapshot import NO_DELAYS, RiskSnapshot

CHASE = "chase"
CROSS = "cross"


class EntryPlan(NamedTuple):
    """What a decision asks for now.

    Attributes:
        verdict: on the entry that it asks for; None when it asks for none.
        bracket: to be sent; None when nothing is.
        stale: entries on the other side, to be cancelled.
        close: why the position is to be closed; "" when it is not.
    """

    verdict: Verdict | None = None
    bracket: Bracket | None = None
    stale: tuple[WorkingOrder, ...] = ()
    close: str = ""


NOTHING: Final = EntryPlan()


class Moment(NamedTuple):
    """The verdict on a new position when the decision was made, and the risk snapshot it is based on."""

    verdict: Verdict
    snapshot: RiskSnapshot


@dataclass(slots=True)
class _Followed:
    """A resting entry: its prediction, when it is checked next, how often it was moved, whether it has crossed."""

    prediction: Prediction
    look_ns: int
    moves: int = 0
    crossed: bool = False


class Entries:
    """Carries out decisions, and cancels entries that do not fill in time.

    An entry is moved only while a new one like it would be allowed; otherwise it is cancelled.
    """

    def __init__(
        self,
        state: ExecutionState,
        ports: Ports,
        order_manager: OrderManager,
        breakers: CircuitBreakers,
        policy: EntryPolicy,
    ) -> None:
        self._state = state
        self._orders = state.orders
        self._market = state.market
        self._journal = ports.journal
        self._risk = ports.risk
        self._alert = ports.alert
        self._order_manager = order_manager
        self._breakers = breakers
        self._policy = policy
        self._followed: dict[str, _Followed] = {}

    # Decisions.

    def carry_out(self, decision: Decision, moment: Moment | None) -> tuple[Bracket | None, Verdict]:
        """Bring the position toward the decision's target, as far as risk allows it.

        Args:
            decision: what is wanted.
            moment: verdict of risk and the trade windows on a new position now; None when the decision opens none.

        Returns:
            The bracket that was sent, and the verdict on the entry that was asked for; ALLOWED when none was.
        """
        plan = NOTHING if self._state.flatten.stopping else self._plan(decision, moment)
        last = plan.verdict or (moment.verdict if moment is not None else None)
        on_file = self._breakers.write(partial(self._journal.record_decision, decision, last))
        if plan.close:
            self._state.request_flatten(plan.close)
        if plan.stale:
            self._order_manager.cancel_all(plan.stale)
        if plan.verdict is None:
            return None, ALLOWED
        if on_file and plan.bracket is None:
            return None, plan.verdict
        if on_file and plan.bracket is not None and self._enter(plan.bracket, decision):
            return plan.bracket, plan.verdict
        delays = moment.snapshot.delays if moment is not None else NO_DELAYS
        return None, self._risk.check_new_risk(decision.prediction, self._state.risk_snapshot(delays))

    def _plan(self, decision: Decision, moment: Moment | None) -> EntryPlan:
        """What brings the position toward the decision's target now."""
        if decision.action is Action.HOLD or self._state.flatten.reason:
            return NOTHING
        if self._orders.missing_fills():  # the position is about to change by what has filled already
            return EntryPlan((moment or self._moment(decision)).verdict)
        position, target = self._state.ledger.position, decision.target
        if position and target * position <= 0:
            return EntryPlan(close=decision.reason)
        stale, coming = [], 0
        for entry in self._orders.with_role(OrderRole.ENTRY):  # all live: one that is not has a fill missing
            coming += entry.order.side * entry.open_quantity
            if entry.order.side * target <= 0:
                stale.append(entry)
        missing = target - position - coming
        if stale or missing * target <= 0:
            return EntryPlan(stale=tuple(stale))
        side = Side.BUY if target > 0 else Side.SELL
        return self._plan_entry(decision, side, abs(missing), moment or self._moment(decision))

    def _moment(self, decision: Decision) -> Moment:
        """Risk's verdict on a new position, where the caller brought none."""
        snapshot = self._state.risk_snapshot()
        return Moment(self._risk.check_new_risk(decision.prediction, snapshot), snapshot)

    def _plan_entry(self, decision: Decision, side: Side, quantity: int, moment: Moment) -> EntryPlan:
        if not self._market.touch.known:
            return EntryPlan(moment.verdict)
        bracket = self._bracket(side, quantity, decision.decision_id)
        verdict = self._risk.check_entry(bracket, *moment)
        if not verdict.allowed:
            self._alert(f"denied_{verdict.code.value}", Priority.INFO, f"an entry was refused: {verdict}", {})
            return EntryPlan(verdict)
        return EntryPlan(verdict, bracket)

    def _bracket(self, side: Side, quantity: int, decision_id: str) -> Bracket:
        """An entry as the policy prices it, its stop and target measured from where it is expected to fill."""
        policy = self._policy
        expected = policy.expected(side, self._market.touch)
        return self._order_manager.factory.make_bracket(
            side,
            quantity,
            policy.price(side, expected),
            stop=expected - side * policy.stop,
            target=expected + side * policy.target,
            decision_id=decision_id,
        )

    def _enter(self, bracket: Bracket, decision: Decision) -> bool:
        """Send it; False when it could not be journaled, and then nothing was sent."""
        now_ns = self._market.now_ns
        self._state.origins[decision.decision_id] = EntryOrigin(decision.decision_id, decision.prediction.regime_probs)
        self._state.brackets[decision.decision_id] = bracket
        if not self._order_manager.send_bracket(bracket):
            return False
        self._follow(bracket.entry, decision.prediction)
        self._breakers.trip(self._risk.on_entry_sent(now_ns))
        return True

    # Entries that work.

    def _follow(self, entry: Order, prediction: Prediction) -> None:
        if self._policy.follows:
            look_ns = self._market.now_ns + self._policy.chase.every_ns
            self._followed[entry.client_order_id] = _Followed(prediction, look_ns)

    def work(self) -> int:
        """Do what is due; returns the event time of the next call, NEVER_NS when no entry works."""
        entries = self._orders.with_role(OrderRole.ENTRY)
        if not entries:
            self._followed.clear()
            return NEVER_NS
        self._cancel_beyond_limit(entries)
        return min(map(self._work, entries))

    def _cancel_beyond_limit(self, entries: Sequence[WorkingOrder]) -> None:
        """Cancel the newest entries that a position has no room for: it may have been made by hand since they left."""
        for side in Side:
            mine = [entry for entry in entries if entry.order.side is side]
            beyond = self._risk.beyond_limit(self._state.worst_case(side)) if mine else 0.0
            for entry in reversed(mine):
                if beyond <= 0:
                    break
                beyond -= entry.open_quantity
                if not entry.request.cancel_wanted:
                    self._cancel_for_position(entry)

    def _cancel_for_position(self, entry: WorkingOrder) -> None:
        self._order_manager.cancel(entry)
        text = f"entry {entry.client_order_id} is cancelled: with the position that is held now it exceeds the limit"
        context = {"position": self._state.ledger.position, "server_position": self._state.sync.held}
        self._alert("entry_beyond_limit", Priority.WARNING, text, context)

    def _work(self, entry: WorkingOrder) -> int:
        now_ns, chase = self._market.now_ns, self._policy.chase
        if not entry.live or entry.request.cancel_wanted:
            return NEVER_NS
        due_ns = entry.history.sent_ns + self._policy.timeout_ns
        if now_ns >= due_ns:
            self._order_manager.cancel(entry)
            return NEVER_NS
        followed = self._followed.get(entry.client_order_id)
        if followed is None or followed.crossed:
            return due_ns
        unfilled_ns = entry.history.sent_ns + chase.unfilled_ns
        if entry.at_server and entry.server_order_id and not entry.request.replace_pending:
            if now_ns >= unfilled_ns:
                self._give_up(entry, followed)
            elif now_ns >= followed.look_ns:
                followed.look_ns = now_ns + chase.every_ns
                self._chase(entry, followed)
        return min((ns for ns in (followed.look_ns, unfilled_ns) if ns > now_ns), default=due_ns)

    def _chase(self, entry: WorkingOrder, followed: _Followed) -> None:
        """Move the entry to the near touch, within `max_moves` and `max_distance`; give up beyond them."""
        side, half_tick, touch, chase = entry.order.side, self._policy.tick / 2, self._market.touch, self._policy.chase
        near = touch.near(side)
        if not touch.known or (near - entry.price) * side < half_tick:
            return  # still at the touch, or better
        within = (near - entry.order.price) * side <= chase.max_distance + half_tick
        if not (within and followed.moves < chase.max_moves):
            self._give_up(entry, followed)
        else:
            followed.moves += 1
            self._move(entry, near, followed, CHASE)

    def _give_up(self, entry: WorkingOrder, followed: _Followed) -> None:
        """Move an unfilled entry across the spread, where configured and within the limit, or else cancel it."""
        touch = self._market.touch
        crossing = self._policy.crossing(entry.order.price, entry.order.side, touch) if touch.known else None
        if self._policy.chase.cross and crossing is not None:
            followed.crossed = True
            self._move(entry, crossing, followed, CROSS)
        else:
            self._order_manager.cancel(entry)

    def _move(self, entry: WorkingOrder, price: float, followed: _Followed, reason: str) -> None:
        allowed = self._risk.check_new_risk(followed.prediction, self._state.risk_snapshot()).allowed
        if not (allowed and self._order_manager.replace(entry, price, reason)):
            self._order_manager.cancel(entry)
