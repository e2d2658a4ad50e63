"""Brings the position toward a decision's target, as far as that means opening; closing is the keeper's."""

from typing import Final, NamedTuple

from mia_daemon.config import DecisionSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution.accounting import Accounting
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.entries import EntryPolicy, EntryWorker
from mia_daemon.execution.exits import PositionKeeper
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.order_manager import OrderManager, TellFacts, Warn
from mia_daemon.execution.working_orders import WorkingOrder
from mia_daemon.market import MarketState
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Action, Bracket, Decision, EntryOrigin, OrderRole, Priority, Side
from mia_daemon.risk.codes import ALLOWED, Verdict
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import Delays

Outcome = tuple[Bracket | None, Verdict]
"""The bracket that was sent, and the verdict on the entry that was asked for; ALLOWED when none was."""


class EntryPlan(NamedTuple):
    """What a decision asks for now. It is written down with the decision before any of it happens.

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


class PositionOpener:
    """Sends entries as brackets, when risk allows them.

    A target on the other side closes first and leaves the entry to a later decision; a smaller target on the same side
    waits for flat too, since a bracket is closed as a whole. While a position is being closed nothing is entered.
    """

    def __init__(
        self,
        desk: OrderManager,
        keeper: PositionKeeper,
        entries: EntryWorker,
        bookkeeper: Accounting,
        ledger: Ledger,
        risk: RiskController,
        breakers: CircuitBreakers,
        market: MarketState,
        instrument: Instrument,
        *,
        settings: DecisionSettings,
        policy: EntryPolicy,
        facts: TellFacts,
        warn: Warn,
    ) -> None:
        self._desk = desk
        self._working = desk.working
        self._keeper = keeper
        self._entries = entries
        self._policy = policy
        self._accounting = bookkeeper
        self._ledger = ledger
        self._risk = risk
        self._breakers = breakers
        self._market = market
        self._facts = facts
        self._warn = warn
        tick = instrument.tick_size
        self._stop_distance = settings.stop_ticks * tick
        self._target_distance = settings.target_ticks * tick

    def plan(self, decision: Decision, delays: Delays) -> EntryPlan:
        """What brings the position toward the decision's target now, as far as risk allows it."""
        if decision.action is Action.HOLD or self._keeper.goal:
            return NOTHING
        if self._working.missing_fills():  # the position is about to change by what has filled already
            return EntryPlan(self._risk.check_new_risk(decision.prediction, self._facts(delays)))
        position, target = self._ledger.position, decision.target
        if position and target * position <= 0:
            return EntryPlan(close=decision.reason)
        entries = [entry for entry in self._working.with_role(OrderRole.ENTRY) if entry.live]
        stale = tuple(entry for entry in entries if entry.order.side * target <= 0)
        coming = sum(entry.order.side * entry.open_quantity for entry in entries)
        missing = target - position - coming
        if stale or missing * target <= 0:
            return EntryPlan(stale=stale)
        return self._entry(decision, Side.BUY if target > 0 else Side.SELL, abs(missing), delays)

    def _entry(self, decision: Decision, side: Side, quantity: int, delays: Delays) -> EntryPlan:
        facts = self._facts(delays)
        if not self._market.touch.known:
            return EntryPlan(self._risk.check_new_risk(decision.prediction, facts))
        bracket = self._bracket(side, quantity, decision.decision_id)
        verdict = self._risk.check_entry(bracket, decision.prediction, facts)
        if not verdict.allowed:
            self._warn(f"denied_{verdict.code.value}", Priority.INFO, f"an entry was refused: {verdict}", {})
            return EntryPlan(verdict)
        return EntryPlan(verdict, bracket)

    def carry_out(self, plan: EntryPlan, decision: Decision, delays: Delays, *, on_file: bool) -> Outcome:
        """Do what `plan` made of the decision; nothing is entered when that is not `on_file`."""
        now_ns, verdict = self._market.now_ns, plan.verdict or ALLOWED
        if plan.close:
            self._keeper.want_flat(plan.close, now_ns)
        self._desk.cancel_all(plan.stale, now_ns)
        if plan.verdict is not None and not on_file:
            return None, self._risk.check_new_risk(decision.prediction, self._facts(delays))
        if plan.bracket is None:
            return None, verdict
        return self._enter(plan.bracket, verdict, decision, delays)

    def _enter(self, bracket: Bracket, verdict: Verdict, decision: Decision, delays: Delays) -> Outcome:
        self._accounting.origins[decision.decision_id] = EntryOrigin(
            decision.decision_id, decision.prediction.regime_probs
        )
        try:
            self._desk.send_bracket(bracket, self._market.now_ns)
            self._entries.follow(bracket.entry, decision.prediction, self._market.now_ns)
        except JournalError as error:
            self._breakers.journal_failed(error)
            return None, self._risk.check_new_risk(decision.prediction, self._facts(delays))
        self._breakers.trip(self._risk.on_entry_sent(self._market.now_ns))
        return bracket, verdict

    def _bracket(self, side: Side, quantity: int, decision_id: str) -> Bracket:
        """An entry as the policy prices it, its stop and target measured from where it is expected to fill."""
        touch = self._market.touch
        expected = self._policy.expected(side, touch)
        return self._desk.make_bracket(
            side,
            quantity,
            price=self._policy.price(side, touch),
            stop=expected - side * self._stop_distance,
            target=expected + side * self._target_distance,
            decision_id=decision_id,
        )
