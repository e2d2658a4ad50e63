"""The last check before an order: limits, price checks, throttle, latches and kill.

Everything fails closed: a fact that is missing, NaN or out of date allows no new risk. Orders that reduce the position
pass in every state, and cancels are not checked. Time and snapshot are arguments; the controller reads no clock.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Bracket, EventArray, Order, Prediction, Side, Trade
from mia_daemon.risk.codes import (
    ALLOWED,
    HALTING,
    Latch,
    RiskCode,
    TradingState,
    Verdict,
    deny,
    is_lifted_by_name,
)
from mia_daemon.risk.market_watch import MarketWatch
from mia_daemon.risk.order_rules import OrderRules
from mia_daemon.risk.snapshot import RiskSnapshot
from mia_daemon.risk.throttle import BRACKET_MESSAGES, PENALTY_ABOVE, Throttle

MAX_UNACKNOWLEDGED: Final = 3
"""Entries in a row that the server has not acknowledged, at which entries stop."""


class RiskController:
    """Judges orders against the limits, and remembers what limits need: recent orders, streaks, latches.

    Args:
        limits: all of them.
        instrument: the one symbol that may be traded.
        account: the one account that may be used.
        max_out_of_range_share: of a prediction's inputs.
        max_inference_ms: of a prediction.
        latches: those an earlier run left set.
        consecutive_losses: of an earlier run.
        consecutive_rejects: of an earlier run: entries that the server refused.
        executions: entries that earlier runs have sent since the last `rearm`.
        messages_today: messages that earlier runs have sent on this trading day.
    """

    def __init__(
        self,
        limits: RiskSettings,
        instrument: Instrument,
        account: str,
        *,
        max_out_of_range_share: float = 0.5,
        max_inference_ms: float = 250.0,
        latches: Iterable[Latch] = (),
        consecutive_losses: int = 0,
        consecutive_rejects: int = 0,
        executions: int = 0,
        messages_today: int = 0,
    ) -> None:
        self._rules = OrderRules(limits, instrument, account)
        self._throttle = Throttle(limits, messages_today)
        self._watch = MarketWatch(limits, instrument.tick_size)
        self._tick_size = instrument.tick_size
        self._below_zero = instrument.product.quotes_below_zero
        self._max_position = limits.max_position_contracts or math.inf
        self._max_daily_loss = limits.max_daily_loss or math.inf
        self._max_drawdown = math.inf if limits.max_drawdown_share is None else limits.max_drawdown_share
        self._max_executions = limits.max_executions or math.inf
        self._max_price_age_s = limits.max_price_age_s or math.inf
        self._max_spread = (limits.max_spread_ticks or math.inf) + 1e-6  # ticks
        self._max_slippage = (limits.max_fill_slippage_ticks or math.inf) + 1e-6  # ticks
        self._max_losses = limits.max_consecutive_losses or math.inf
        self._max_rejects = limits.max_consecutive_rejects or math.inf
        self._max_decision_ms = limits.max_decision_age_ms or math.inf
        self._max_out_of_range_share = max_out_of_range_share
        self._max_inference_ms = max_inference_ms
        self._latches = {latch.code: latch for latch in latches}
        self._losses = consecutive_losses
        self._rejects = consecutive_rejects
        self._unacknowledged = 0
        self._executions = executions
        self._loss_allowed = 0.0  # by an operator's override, beyond the limit, for the rest of the day

    # ------------------------------------------------------------------------------------------------------ state

    @property
    def state(self) -> TradingState:
        """By the latches set. Unknown orders, stale prices and the like also deny new risk, while they last."""
        if not self._latches:
            return TradingState.ACTIVE
        return TradingState.REDUCING if HALTING.isdisjoint(self._latches) else TradingState.HALTED

    @property
    def latches(self) -> tuple[Latch, ...]:
        """The latches set, oldest first."""
        return tuple(self._latches.values())

    @property
    def executions(self) -> int:
        """Entries sent since the last `rearm`."""
        return self._executions

    def overtrade_risk_score(self, ts_ns: int) -> float:
        """Share of max_orders_per_minute used in the minute before `ts_ns`: 0 … 1."""
        return self._throttle.score(ts_ns)

    def penalty_active(self, ts_ns: int) -> bool:
        """Whether overtrading is to be penalised: the score is above `PENALTY_ABOVE`."""
        return self.overtrade_risk_score(ts_ns) > PENALTY_ABOVE

    def describe(self, snapshot: RiskSnapshot) -> dict[str, Any]:
        """What risk_snapshots/risk_*.json shows."""
        return {
            "timestamp": iso_utc(snapshot.ts_ns),
            "drawdown": snapshot.drawdown,
            "overtrade_risk_score": self.overtrade_risk_score(snapshot.ts_ns),
            "penalty_active": self.penalty_active(snapshot.ts_ns),
            "state": self.state.value,
            "latches": [latch.code.value for latch in self._latches.values()],
            "position": snapshot.position,
            "realized_today": snapshot.realized_today,
            "unrealized": snapshot.unrealized,
            "unknown_orders": snapshot.unknown_orders,
            "messages_today": self._throttle.sent_today,
            "executions": self._executions,
        }

    # --------------------------------------------------------------------------------------------------- verdicts

    def check_entry(self, bracket: Bracket, moment: Verdict, snapshot: RiskSnapshot) -> Verdict:
        """Whether this entry may be sent, with its stop and target. Counted as sent when allowed: call once per entry.

        `moment` is the verdict of `check_new_risk` on the same snapshot.
        """
        denied = (
            self._rules.check_bracket(bracket)
            or (None if moment.allowed else moment)
            or self._rules.check_entry(bracket, snapshot)
        )
        if denied is not None:
            return denied
        self._rules.use(bracket, snapshot.ts_ns)
        self._throttle.order(snapshot.ts_ns, BRACKET_MESSAGES)
        return ALLOWED

    def check_order(self, order: Order, snapshot: RiskSnapshot) -> Verdict:
        """Whether this order, which is to reduce the position, may be sent. Allowed in every state.

        Refused are malformed orders, reused client order ids, orders that reduce nothing, and orders that together with
        those working could turn the position beyond the limit on the other side. Counted when allowed.
        """
        denied = self._rules.check_reducing(order, snapshot)
        if denied is not None:
            return denied
        self._rules.use_id(order.client_order_id)
        self._throttle.order(snapshot.ts_ns)
        return ALLOWED

    def check_moved(self, entry: Order, price: float, snapshot: RiskSnapshot) -> Verdict:
        """Whether this working entry may be moved to `price` (points). `check_new_risk` is checked separately."""
        return self._rules.check_moved(replace(entry, price=price), snapshot) or ALLOWED

    def check_new_risk(self, prediction: Prediction | None, snapshot: RiskSnapshot) -> Verdict:
        """Whether any new position may be opened now, whatever its order. Changes nothing."""
        return (
            self._check_latches()
            or self._check_account(snapshot)
            or self._check_server(snapshot)
            or self._check_touch(snapshot)
            or self._watch.check(snapshot.ts_ns)
            or self._check_prediction(prediction, snapshot)
            or self._throttle.check(snapshot.ts_ns)
            or ALLOWED
        )

    def _check_latches(self) -> Verdict | None:
        for latch in self._latches.values():
            return deny(latch.code, since=iso_utc(latch.ts_ns), **latch.context)
        if self._executions >= self._max_executions:
            return deny(RiskCode.REPEATED_EXECUTION, executions=self._executions, limit=self._max_executions)
        return None

    def _check_account(self, snapshot: RiskSnapshot) -> Verdict | None:
        if not math.isfinite(snapshot.realized_today + snapshot.unrealized + snapshot.drawdown):
            return deny(
                RiskCode.NOT_FINITE, realized_today=snapshot.realized_today, unrealized=snapshot.unrealized,
                drawdown=snapshot.drawdown,
            )  # fmt: skip
        if (loss := self._daily_loss(snapshot)) is not None:
            return Verdict(RiskCode.DAILY_LOSS, loss)
        if (drawdown := self._drawdown(snapshot)) is not None:
            return Verdict(RiskCode.DRAWDOWN, drawdown)
        return None

    @staticmethod
    def _check_server(snapshot: RiskSnapshot) -> Verdict | None:
        if not snapshot.link_up:
            return deny(RiskCode.LINK_DOWN)
        if snapshot.unknown_orders or not snapshot.reconciled:
            return deny(RiskCode.UNKNOWN_ORDERS, orders=snapshot.unknown_orders, reconciled=snapshot.reconciled)
        if snapshot.position_differs:
            return deny(RiskCode.POSITION_DIFFERS, ours=snapshot.position, server=snapshot.server_position)
        return None

    def _check_touch(self, snapshot: RiskSnapshot) -> Verdict | None:
        bid, ask = snapshot.bid, snapshot.ask
        if not (math.isfinite(bid) and math.isfinite(ask) and (bid > 0.0 or self._below_zero)):
            return deny(RiskCode.NO_PRICE, bid=bid, ask=ask)
        age_s = (snapshot.ts_ns - snapshot.touch_ns) / NS_PER_S
        if abs(age_s) > self._max_price_age_s:  # a touch from the future is as wrong as an old one
            return deny(RiskCode.STALE_PRICE, age_s=round(age_s, 3), limit_s=self._max_price_age_s)
        if bid >= ask:
            return deny(RiskCode.CROSSED_MARKET, bid=bid, ask=ask)
        spread = (ask - bid) / self._tick_size
        if spread > self._max_spread:
            return deny(RiskCode.WIDE_SPREAD, ticks=round(spread, 3), limit=round(self._max_spread))
        return None

    def _check_prediction(self, prediction: Prediction | None, snapshot: RiskSnapshot) -> Verdict | None:
        if prediction is None:
            return deny(RiskCode.NO_PREDICTION)
        action, probability, out = prediction.action, prediction.probability, prediction.out_of_range_share
        if not math.isfinite(action + probability + out + sum(prediction.regime_probs) + sum(snapshot.delays)):
            return deny(RiskCode.NOT_FINITE, action=action, probability=probability, out_of_range_share=out)
        if not (-1.0 <= action <= 1.0 and 0.0 <= probability <= 1.0):
            return deny(RiskCode.ACTION_RANGE, action=action, probability=probability)
        if out > self._max_out_of_range_share:
            return deny(RiskCode.OUT_OF_TRAINING_RANGE, share=round(out, 4), limit=self._max_out_of_range_share)
        return self._check_delays(*snapshot.delays)

    def _check_delays(self, inference_ms: float, decision_ms: float) -> Verdict | None:
        if inference_ms > self._max_inference_ms:
            return deny(RiskCode.SLOW_INFERENCE, ms=round(inference_ms, 3), limit_ms=self._max_inference_ms)
        if decision_ms > self._max_decision_ms:
            return deny(RiskCode.LATE_DECISION, ms=round(decision_ms, 3), limit_ms=self._max_decision_ms)
        return None

    # ----------------------------------------------------------------------------------------------------- events

    def on_market(self, events: EventArray) -> None:
        """Process market events, at least one; the array is read and not kept."""
        self._watch.on_market(events)

    def start_day(self) -> None:
        """Begin a trading day: daily counts restart at 0, and overrides end. Latches stay."""
        self._throttle.start_day()
        self._loss_allowed = 0.0

    def count_replace(self, ts_ns: int) -> None:
        """Count a replace. Exits are not refused because of the count."""
        self._throttle.order(ts_ns)

    def count_cancel(self, ts_ns: int) -> None:
        """Count a cancel as a message. Cancels themselves are never refused."""
        self._throttle.message(ts_ns)

    def beyond_limit(self, contracts: int) -> float:
        """By how many contracts a position of so many is beyond max_position_contracts (P7); not above 0: by none."""
        return contracts - self._max_position

    def watch(self, snapshot: RiskSnapshot) -> list[Latch]:
        """Check the account; returns the latches this sets, which the caller journals and alerts."""
        found = []
        if (loss := self._daily_loss(snapshot)) is not None:
            found += self._set(RiskCode.DAILY_LOSS, snapshot.ts_ns, loss)
        if (drawdown := self._drawdown(snapshot)) is not None:
            found += self._set(RiskCode.DRAWDOWN, snapshot.ts_ns, drawdown)
        if abs(snapshot.position) > self._max_position:
            breach = {"position": snapshot.position, "limit": self._max_position}
            found += self._set(RiskCode.POSITION_BREACH, snapshot.ts_ns, breach)
        return found

    def on_entry_sent(self, ts_ns: int) -> list[Latch]:
        """Count an entry that was sent; returns the latch this sets, which applies to later entries."""
        self._executions += 1
        if self._executions < self._max_executions:
            return []
        context = {"executions": self._executions, "limit": self._max_executions}
        return self._set(RiskCode.REPEATED_EXECUTION, ts_ns, context)

    def on_fill(self, ts_ns: int, side: Side, price: float, expected: float) -> list[Latch]:
        """Check a fill at `price` against the `expected` price (points); returns the latch this sets."""
        worse = (price - expected) * side / self._tick_size
        if worse <= self._max_slippage:
            return []
        context = {"price": price, "expected": expected, "ticks": round(worse, 3)}
        return self._set(RiskCode.SLIPPAGE, ts_ns, context)

    def on_trade(self, trade: Trade) -> list[Latch]:
        """Count a closed round trip; returns the latch this sets."""
        self._losses = self._losses + 1 if trade.profit < 0 else 0
        if self._losses < self._max_losses:
            return []
        return self._set(RiskCode.CONSECUTIVE_LOSSES, trade.exit_ns, {"losses": self._losses})

    def on_reject(self, ts_ns: int, text: str) -> list[Latch]:
        """Count an order that the server rejected; returns the latch this sets."""
        self._rejects += 1
        if self._rejects < self._max_rejects:
            return []
        return self._set(RiskCode.CONSECUTIVE_REJECTS, ts_ns, {"rejects": self._rejects, "last": text})

    def on_accept(self) -> None:
        """Reset the counts of consecutive rejects and silences: the server accepted an order."""
        self._rejects = self._unacknowledged = 0

    def on_unacknowledged(self) -> bool:
        """Count an entry that the server has not acknowledged in time; whether these are too many in a row."""
        self._unacknowledged += 1
        return self._unacknowledged >= MAX_UNACKNOWLEDGED

    # --------------------------------------------------------------------------------------------- operator actions

    def halt(self, ts_ns: int, by: str, code: RiskCode = RiskCode.HALTED) -> list[Latch]:
        """Stop trading with a latch of `HALTING`; returns the latch this sets. The caller handles working orders."""
        return self._set(code, ts_ns, {"by": by})

    def still_exceeded(self, code: RiskCode, snapshot: RiskSnapshot) -> bool:
        """Whether lifting this latch would override a limit that is still exceeded."""
        if code is RiskCode.DAILY_LOSS:
            return self._daily_loss(snapshot) is not None
        return code is RiskCode.DRAWDOWN and self._drawdown(snapshot) is not None

    def liftable(self, snapshot: RiskSnapshot, code: RiskCode | None = None) -> tuple[RiskCode, ...]:
        """The latches that an operator's `resume` lifts: the one named, or all that need no name."""
        if code is not None:
            return (code,) if code in self._latches else ()
        return tuple(each for each in self._latches if self._needs_no_name(each, snapshot))

    def resume(self, snapshot: RiskSnapshot, code: RiskCode | None = None) -> tuple[RiskCode, ...]:
        """Lift what is `liftable`; returns which were set. The caller has journaled it already.

        A daily loss needs its name until the next trading day. Lifted by name, the same amount may be lost again until
        the day or the run ends. After a drawdown the caller rebases the ledger's peak. `rearm` is a separate command.
        """
        lifted = self.liftable(snapshot, code)
        for each in lifted:
            del self._latches[each]
        if RiskCode.DAILY_LOSS in lifted and self.still_exceeded(RiskCode.DAILY_LOSS, snapshot):
            self._loss_allowed = -snapshot.result
        if code in {None, RiskCode.CONSECUTIVE_LOSSES}:
            self._losses = 0
        if code in {None, RiskCode.CONSECUTIVE_REJECTS}:
            self._rejects = 0
        if RiskCode.CONTRADICTED in lifted:
            self._unacknowledged = 0
        return lifted

    def executions_latch(self, ts_ns: int) -> Latch:
        """The latch of repeated executions, whether set or not, which `rearm` ends."""
        context = {"executions": self._executions, "limit": self._max_executions}
        return self._latches.get(RiskCode.REPEATED_EXECUTION, Latch(RiskCode.REPEATED_EXECUTION, ts_ns, context))

    def rearm(self, ts_ns: int) -> Latch:
        """Restart the count of executed entries at 0; returns the latch that ended, as journaled."""
        ended = self.executions_latch(ts_ns)
        self._executions = 0
        self._latches.pop(RiskCode.REPEATED_EXECUTION, None)
        return ended

    def _needs_no_name(self, code: RiskCode, snapshot: RiskSnapshot) -> bool:
        if code is RiskCode.DAILY_LOSS:
            return self._daily_loss(snapshot) is None
        return not is_lifted_by_name(code)

    def _set(self, code: RiskCode, ts_ns: int, context: dict[str, Any]) -> list[Latch]:
        if code in self._latches:
            return []
        latch = self._latches[code] = Latch(code, ts_ns, context)
        return [latch]

    def _daily_loss(self, snapshot: RiskSnapshot) -> dict[str, Any] | None:
        result, limit = snapshot.result, self._max_daily_loss + self._loss_allowed
        return {"result": round(result, 2), "limit": limit} if -result >= limit else None

    def _drawdown(self, snapshot: RiskSnapshot) -> dict[str, Any] | None:
        limit = self._max_drawdown
        exceeded = snapshot.drawdown >= limit and snapshot.drawdown > 0.0
        return {"drawdown": round(snapshot.drawdown, 5), "limit": limit} if exceeded else None
