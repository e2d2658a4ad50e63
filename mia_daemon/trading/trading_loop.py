"""The decision rules: a pure function from prediction and account to a decision with its reason.

The position is the only state. When flat, a signal must exceed `enter_above` to open a position; in a position it must
fall below `exit_below`, or reverse, to close it. Between the two nothing changes, so a signal close to a threshold does
not trade back and forth. The size is fixed on entry: a bracket is entered and closed as a whole. A reversal goes
through flat.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import DecisionSettings
from mia_daemon.execution import market_silence
from mia_daemon.records import AccountState, Action, Decision, FeatureWindow, Prediction
from mia_daemon.risk.codes import ALLOWED, Verdict
from mia_daemon.trading.entry_gate import EntryGate


class DecisionReason(StrEnum):
    """The rule that determined the decision. A denial by risk or a trade window carries its code instead."""

    SIGNAL = "signal"
    WEAK_SIGNAL = "weak_signal"  # flat, and |action| does not exceed enter_above
    KEEP = "keep"  # in a position that the signal does not contradict
    LOW_PROBABILITY = "low_probability"
    DEFENSIVE = "defensive"  # the defensive regime is too likely to enter
    WARMING_UP = "warming_up"  # features are not warm yet
    MIN_HOLD = "min_hold"  # the signal is gone, but the position is too young to close
    MAX_HOLD = market_silence.MAX_HOLD
    REVERSAL = "reversal"  # the signal reversed: go flat first
    FADED = "faded"  # |action| fell below exit_below
    ORDER_PENDING = "order_pending"  # an earlier decision is still being carried out
    NOT_FINITE = "not_finite"  # a prediction that is not finite
    OVERSIZED = "oversized"  # more contracts than the policy may hold


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """What a decision needs beside the account.

    Attributes:
        bid, ask: the touch; NaN when there is none.
        pending: an entry or an exit is under way.
        must_exit: why any position is to be closed now ("halted", "operator", …); "" when it is not.
        entries: the verdict of risk and the trade windows on a new position now. Not read when the signal would open
            none.
        trade_id: of the open round trip; "" when flat.
        overtrade_risk_score: of the last minute, 0 … 1.
        without_prediction_s: how long predictions have not been finite; 0 while they are.
    """

    bid: float = math.nan
    ask: float = math.nan
    pending: bool = False
    must_exit: str = ""
    entries: Verdict = ALLOWED
    trade_id: str = ""
    overtrade_risk_score: float = 0.0
    without_prediction_s: float = 0.0


EMPTY_CONTEXT: Final = DecisionContext()

_Outcome = tuple[Action, int, str]


class TradingLoop:
    """The decision rules of one run.

    Args:
        settings: thresholds and times.
        run_id: prefix that makes decision ids unique across runs.
        gate: the check before risk.
    """

    def __init__(self, settings: DecisionSettings, run_id: str, gate: EntryGate) -> None:
        self.gate = gate
        self._settings = settings
        self._run_id = run_id

    def wants_entry(self, prediction: Prediction, account: AccountState) -> bool:
        """Whether the signal would open a position if allowed; only then is `DecisionContext.entries` read."""
        return not account.position and wanted_contracts(prediction.action, self._settings) != 0

    def decide(
        self,
        window: FeatureWindow,
        prediction: Prediction,
        account: AccountState,
        context: DecisionContext = EMPTY_CONTEXT,
    ) -> Decision:
        """`decide` with this run's settings and id."""
        return decide(window, prediction, account, self._settings, context, run_id=self._run_id)


def decide(
    window: FeatureWindow,
    prediction: Prediction,
    account: AccountState,
    settings: DecisionSettings,
    context: DecisionContext,
    *,
    run_id: str,
) -> Decision:
    """The decision now. The same arguments always give the same decision.

    Args:
        window: the feature window of the prediction; gives the decision its time and number.
        prediction: of the models.
        account: as of the window's last event.
        settings: thresholds and times.
        context: what else is known at this moment.
        run_id: prefix of the decision's identifier.
    """
    held_s = (window.ts_ns - account.opened_ns) / NS_PER_S if account.position else 0.0
    if account.position:
        action, target, reason = _in_position(window, prediction, account, settings, context, held_s)
    else:
        action, target, reason = _flat(window, prediction, settings, context)
    facts: dict[str, Any] = {"position": account.position}
    if account.position:
        facts["held_s"] = round(held_s, 3)
    if prediction.not_finite:
        facts["not_finite"] = prediction.not_finite
    if reason == context.entries.code.value:
        facts |= context.entries.context
    return Decision(
        decision_id=f"{run_id}-{window.seq}",
        seq=window.seq,
        ts_ns=window.ts_ns,
        action=action,
        target=target,
        reason=reason,
        prediction=prediction,
        bid=context.bid,
        ask=context.ask,
        context=facts,
        trade_id=context.trade_id,
        overtrade_risk_score=context.overtrade_risk_score,
    )


def wanted_contracts(action: float, settings: DecisionSettings) -> int:
    """Signed contracts for an action that exceeds `enter_above`: its share of max_position, rounded, at least one."""
    if not math.isfinite(action) or abs(action) <= settings.enter_above:
        return 0
    contracts = max(1, min(round(abs(action) * settings.max_position), settings.max_position))
    return contracts if action > 0 else -contracts


def _flat(
    window: FeatureWindow, prediction: Prediction, settings: DecisionSettings, context: DecisionContext
) -> _Outcome:
    target = wanted_contracts(prediction.action, settings)
    reason = _held_back(window, prediction, settings, context, target)
    if reason:
        return Action.HOLD, 0, reason
    return (Action.BUY if target > 0 else Action.SELL), target, DecisionReason.SIGNAL.value


def _held_back(
    window: FeatureWindow, prediction: Prediction, settings: DecisionSettings, context: DecisionContext, target: int
) -> str:
    """Why no entry is wanted, as the first reason that applies; "" when none does."""
    reasons = (
        (bool(context.must_exit), context.must_exit),
        (context.pending, DecisionReason.ORDER_PENDING),
        (not window.warm, DecisionReason.WARMING_UP),
        (not _finite(prediction), DecisionReason.NOT_FINITE),
        (not target, DecisionReason.WEAK_SIGNAL),
        (not context.entries.allowed, context.entries.code),
        (prediction.regime_probs.defensive > settings.defensive_blocks_above, DecisionReason.DEFENSIVE),
        (prediction.probability < settings.min_probability, DecisionReason.LOW_PROBABILITY),
    )
    for applies, reason in reasons:
        if applies:
            return str(reason)
    return ""


def _in_position(
    window: FeatureWindow,
    prediction: Prediction,
    account: AccountState,
    settings: DecisionSettings,
    context: DecisionContext,
    held_s: float,
) -> _Outcome:
    position = account.position
    if context.must_exit:
        return Action.EXIT, 0, context.must_exit
    if abs(position) > settings.max_position:
        return Action.EXIT, 0, DecisionReason.OVERSIZED.value
    if held_s >= settings.max_hold_s:
        return Action.EXIT, 0, DecisionReason.MAX_HOLD.value
    # Without a usable signal the position is kept for a while, protected by its stop at the server.
    unusable = not _finite(prediction)
    if unusable and context.without_prediction_s >= settings.flat_without_prediction_s and not context.pending:
        return Action.EXIT, 0, DecisionReason.NOT_FINITE.value
    blind = (
        (context.pending, DecisionReason.ORDER_PENDING),
        (not window.warm, DecisionReason.WARMING_UP),
        (unusable, DecisionReason.NOT_FINITE),
    )
    keep = next((reason for applies, reason in blind if applies), None)
    fading = _fading(prediction.action, position, settings) if keep is None else None
    if keep is None and fading is not None and held_s < settings.min_hold_s:
        keep = DecisionReason.MIN_HOLD
    if fading is None or keep is not None:
        return Action.HOLD, position, (keep or DecisionReason.KEEP).value
    return Action.EXIT, 0, fading.value


def _fading(action: float, position: int, settings: DecisionSettings) -> DecisionReason | None:
    """Why the signal no longer supports the position; None while it does."""
    along = action if position > 0 else -action
    if along >= settings.exit_below:
        return None
    return DecisionReason.REVERSAL if along <= -settings.exit_below else DecisionReason.FADED


def _finite(prediction: Prediction) -> bool:
    return all(map(math.isfinite, (prediction.action, prediction.probability, *prediction.regime_probs)))
