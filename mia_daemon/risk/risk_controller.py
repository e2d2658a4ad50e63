"""The last word before an order: limits, price checks, throttle, breakers and kill.

Everything fails closed: a fact that is missing, NaN or out of date allows no new risk. What reduces the position passes
in every state, and cancels are never asked about. The controller is told the time and the facts; it asks nobody.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.config import RiskSettings
from mia_daemon.instruments import Instrument
from mia_daemon.records import Bracket, Order, OrderRole, OrderType, Prediction, Side, Trade
from mia_daemon.risk.codes import ALLOWED, Latch, RiskCode, TradingState, Verdict

MINUTE_NS: Final = 60 * NS_PER_S
DUPLICATE_WINDOW_NS: Final = NS_PER_S
"""The same entry (side, quantity, price) twice within this event time is one intention, told twice."""

PENALTY_ABOVE: Final = 0.8
"""Overtrading score above which the penalty is active."""


@dataclass(frozen=True, slots=True)
class RiskFacts:
    """What is known when an order is about to be sent. Times are event times.

    Attributes:
        position: contracts, signed; only what has filled.
        working_buy: contracts by which working orders may yet move the position up, at worst; a stop and a target that
            cancel each other count once. Orders of unknown fate count too.
        working_sell: the same, down.
        bid, ask: the touch; NaN when there is none.
        touch_ns: when the touch was last told or confirmed.
        realized_today, unrealized: account currency, after costs.
        drawdown: share of peak equity, 0 … 1.
        unknown_orders: orders of unknown fate.
        reconciled: our books agreed with the server's when last compared.
        inference_ms: how long the prediction took; 0 where that is not measured (replay, to stay reproducible).
    """

    ts_ns: int
    position: int
    working_buy: int
    working_sell: int
    bid: float
    ask: float
    touch_ns: int
    realized_today: float
    unrealized: float
    drawdown: float
    unknown_orders: int = 0
    link_up: bool = True
    reconciled: bool = True
    inference_ms: float = 0.0


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
    ) -> None:
        self._limits = limits
        self._instrument = instrument
        self._account = account
        self._max_out_of_range_share = max_out_of_range_share
        self._max_inference_ms = max_inference_ms
        self._latches = {latch.code: latch for latch in latches}
        self._losses = consecutive_losses
        self._rejects = 0
        self._order_times: deque[int] = deque()
        self._used_ids: set[str] = set()
        self._last_entry: tuple[int, Side, int, float] | None = None

    # ---------------------------------------------------------------------------------------------------- what is

    @property
    def state(self) -> TradingState:
        """By the latches set; unknown orders, stale prices and the like deny new risk beside it, while they last."""
        if RiskCode.HALTED in self._latches:
            return TradingState.HALTED
        return TradingState.REDUCING if self._latches else TradingState.ACTIVE

    @property
    def latches(self) -> tuple[Latch, ...]:
        """Those set, oldest first."""
        return tuple(self._latches.values())

    def overtrade_risk_score(self, ts_ns: int) -> float:
        """Share of max_orders_per_minute used in the minute before `ts_ns`: 0 … 1."""
        self._forget_before(ts_ns)
        return min(len(self._order_times) / self._limits.max_orders_per_minute, 1.0)

    def penalty_active(self, ts_ns: int) -> bool:
        """Whether overtrading is to be penalised: the score is above `PENALTY_ABOVE`."""
        return self.overtrade_risk_score(ts_ns) > PENALTY_ABOVE

    def snapshot(self, facts: RiskFacts) -> dict[str, Any]:
        """What risk_snapshots/risk_*.json shows."""
        return {
            "timestamp": iso_utc(facts.ts_ns),
            "drawdown": facts.drawdown,
            "overtrade_risk_score": self.overtrade_risk_score(facts.ts_ns),
            "penalty_active": self.penalty_active(facts.ts_ns),
            "state": self.state.value,
            "latches": [latch.code.value for latch in self._latches.values()],
            "position": facts.position,
            "realized_today": facts.realized_today,
            "unrealized": facts.unrealized,
            "unknown_orders": facts.unknown_orders,
        }

    # --------------------------------------------------------------------------------------------------- verdicts

    def check_entry(self, bracket: Bracket, prediction: Prediction | None, facts: RiskFacts) -> Verdict:
        """May this entry be sent, with its stop and target? Counted as sent when allowed: ask once per order."""
        entry = bracket.entry
        denied = (
            self._check_sense(entry)
            or self._check_protection(bracket)
            or self._check_moment(prediction, facts)
            or self._check_size_and_price(entry, facts)
            or self._check_worst_case(entry, facts)
            or self._check_repetition(entry, facts)
        )
        if denied is not None:
            return denied
        self._last_entry = (facts.ts_ns, entry.side, entry.quantity, entry.price)
        self._used_ids.update(order.client_order_id for order in (entry, bracket.stop, bracket.target))
        self.count_message(facts.ts_ns)
        return ALLOWED

    def check_order(self, order: Order, facts: RiskFacts) -> Verdict:
        """May this order be sent, which is to reduce the position? In every state, as long as it makes sense.

        Refused are nonsense, a reused identifier, an order that reduces nothing, and one that together with the orders
        already working could turn the position into one beyond the limit on the other side. Counted when allowed.
        """
        denied = self._check_sense(order) or self._check_reducing(order, facts) or self._check_worst_case(order, facts)
        if denied is not None:
            return denied
        self._used_ids.add(order.client_order_id)
        self.count_message(facts.ts_ns)
        return ALLOWED

    def check_new_risk(self, prediction: Prediction | None, facts: RiskFacts) -> Verdict:
        """May any new position be opened at this moment, whatever its order? Changes nothing."""
        return self._check_moment(prediction, facts) or ALLOWED

    def _check_moment(self, prediction: Prediction | None, facts: RiskFacts) -> Verdict | None:
        return (
            self._check_latches()
            or self._check_account(facts)
            or self._check_link(facts)
            or self._check_market(facts)
            or self._check_prediction(prediction, facts)
            or self._check_rate(facts.ts_ns)
        )

    def _check_sense(self, order: Order) -> Verdict | None:
        if not (math.isfinite(order.price) and math.isfinite(order.limit_price)):
            return _deny(RiskCode.NOT_FINITE, price=order.price, limit_price=order.limit_price)
        if order.symbol != self._instrument.symbol:
            return _deny(RiskCode.UNKNOWN_SYMBOL, symbol=order.symbol, configured=self._instrument.symbol)
        if order.account != self._account:
            return _deny(RiskCode.UNKNOWN_ACCOUNT, account=order.account, configured=self._account)
        if order.quantity < 1 or not order.client_order_id or not self._is_priced(order):
            return _deny(
                RiskCode.ORDER_INVALID, id=order.client_order_id, quantity=order.quantity, type=order.type.name,
                price=order.price, limit_price=order.limit_price,
            )  # fmt: skip
        if order.client_order_id in self._used_ids:
            return _deny(RiskCode.DUPLICATE_ORDER, id=order.client_order_id)
        return None

    def _is_priced(self, order: Order) -> bool:
        if order.type is OrderType.MARKET:
            return True
        limit_fits = order.type is not OrderType.STOP_LIMIT or self._is_valid_price(order.limit_price)
        return limit_fits and self._is_valid_price(order.price)

    def _is_valid_price(self, price: float) -> bool:
        ticks = price / self._instrument.tick_size
        return price > 0.0 and abs(ticks - round(ticks)) < 1e-6

    def _check_protection(self, bracket: Bracket) -> Verdict | None:
        """Stop and target close exactly what the entry opens, on the right sides of its price."""
        entry, stop, target = bracket.entry, bracket.stop, bracket.target
        close = entry.side.opposite
        if entry.role is not OrderRole.ENTRY or entry.type is OrderType.MARKET:
            code = RiskCode.MARKET_ORDER if entry.role is OrderRole.ENTRY else RiskCode.ORDER_INVALID
            return _deny(code, role=entry.role, type=entry.type.name)
        for order, role, kind in ((stop, OrderRole.STOP, OrderType.STOP), (target, OrderRole.TARGET, OrderType.LIMIT)):
            denied = self._check_sense(order)
            if denied is not None:
                return denied
            beyond = (order.price - entry.price) * entry.side * (1 if role is OrderRole.TARGET else -1)
            fits = order.side is close and order.quantity == entry.quantity
            if order.role is not role or order.type is not kind or not fits or beyond <= 0:
                return _deny(
                    RiskCode.UNPROTECTED, leg=role, role=order.role, type=order.type.name, side=order.side.name,
                    quantity=order.quantity, price=order.price, entry=entry.price,
                )  # fmt: skip
        if len({entry.client_order_id, stop.client_order_id, target.client_order_id}) < 3:
            return _deny(RiskCode.DUPLICATE_ORDER, id=entry.client_order_id)
        return None

    def _check_latches(self) -> Verdict | None:
        for latch in self._latches.values():
            return _deny(latch.code, since=iso_utc(latch.ts_ns), **latch.context)
        return None

    def _check_account(self, facts: RiskFacts) -> Verdict | None:
        money = (facts.realized_today, facts.unrealized, facts.drawdown)
        if not all(map(math.isfinite, money)):
            return _deny(RiskCode.NOT_FINITE, realized_today=money[0], unrealized=money[1], drawdown=money[2])
        if (loss := self._daily_loss(facts)) is not None:
            return Verdict(RiskCode.DAILY_LOSS, loss)
        if (drawdown := self._drawdown(facts)) is not None:
            return Verdict(RiskCode.DRAWDOWN, drawdown)
        return None

    def _check_link(self, facts: RiskFacts) -> Verdict | None:
        if not facts.link_up:
            return _deny(RiskCode.LINK_DOWN)
        if facts.unknown_orders or not facts.reconciled:
            return _deny(RiskCode.UNKNOWN_ORDERS, orders=facts.unknown_orders, reconciled=facts.reconciled)
        return None

    def _check_market(self, facts: RiskFacts) -> Verdict | None:
        bid, ask, limits = facts.bid, facts.ask, self._limits
        if not (math.isfinite(bid) and math.isfinite(ask) and bid > 0.0):
            return _deny(RiskCode.NO_PRICE, bid=bid, ask=ask)
        age_s = (facts.ts_ns - facts.touch_ns) / NS_PER_S
        if abs(age_s) > limits.max_price_age_s:  # a touch from the future is as wrong as an old one
            return _deny(RiskCode.STALE_PRICE, age_s=round(age_s, 3), limit_s=limits.max_price_age_s)
        if bid >= ask:
            return _deny(RiskCode.CROSSED_MARKET, bid=bid, ask=ask)
        spread = (ask - bid) / self._instrument.tick_size
        if spread > limits.max_spread_ticks + 1e-6:
            return _deny(RiskCode.WIDE_SPREAD, ticks=round(spread, 3), limit=limits.max_spread_ticks)
        return None

    def _check_prediction(self, prediction: Prediction | None, facts: RiskFacts) -> Verdict | None:
        if prediction is None:
            return _deny(RiskCode.NO_PREDICTION)
        action, probability, out = prediction.action, prediction.probability, prediction.out_of_range_share
        numbers = (action, probability, out, *prediction.regime_probs, facts.inference_ms)
        if not all(map(math.isfinite, numbers)):
            return _deny(RiskCode.NOT_FINITE, action=action, probability=probability, out_of_range_share=out)
        if not (-1.0 <= action <= 1.0 and 0.0 <= probability <= 1.0):
            return _deny(RiskCode.ACTION_RANGE, action=action, probability=probability)
        if out > self._max_out_of_range_share:
            return _deny(RiskCode.OUT_OF_TRAINING_RANGE, share=round(out, 4), limit=self._max_out_of_range_share)
        if facts.inference_ms > self._max_inference_ms:
            return _deny(RiskCode.SLOW_INFERENCE, ms=round(facts.inference_ms, 3), limit_ms=self._max_inference_ms)
        return None

    def _check_rate(self, ts_ns: int) -> Verdict | None:
        self._forget_before(ts_ns)
        if len(self._order_times) >= self._limits.max_orders_per_minute:
            return _deny(RiskCode.ORDER_RATE, orders=len(self._order_times), limit=self._limits.max_orders_per_minute)
        return None

    def _check_size_and_price(self, entry: Order, facts: RiskFacts) -> Verdict | None:
        limits = self._limits
        if entry.quantity > limits.max_order_contracts:
            return _deny(RiskCode.ORDER_SIZE, contracts=entry.quantity, limit=limits.max_order_contracts)
        touch = facts.ask if entry.side is Side.BUY else facts.bid
        prices = (entry.price, entry.limit_price) if entry.type is OrderType.STOP_LIMIT else (entry.price,)
        away = max(abs(price - touch) for price in prices) / self._instrument.tick_size
        if not away <= limits.max_price_deviation_ticks + 1e-6:
            limit = limits.max_price_deviation_ticks
            return _deny(RiskCode.PRICE_COLLAR, price=entry.price, touch=touch, ticks=round(away, 3), limit=limit)
        return None

    def _check_worst_case(self, order: Order, facts: RiskFacts) -> Verdict | None:
        """Position, all working orders of the order's side and the order itself, if all of them fill."""
        working = facts.working_buy if order.side is Side.BUY else facts.working_sell
        worst = facts.position + order.side * (max(working, 0) + order.quantity)
        if worst * order.side > self._limits.max_position_contracts:
            limit = self._limits.max_position_contracts
            return _deny(RiskCode.POSITION_LIMIT, position=facts.position, working=working, worst=worst, limit=limit)
        return None

    def _check_repetition(self, entry: Order, facts: RiskFacts) -> Verdict | None:
        if self._last_entry is None:
            return None
        ts_ns, *same = self._last_entry
        if same == [entry.side, entry.quantity, entry.price] and abs(facts.ts_ns - ts_ns) < DUPLICATE_WINDOW_NS:
            return _deny(RiskCode.DUPLICATE_ORDER, id=entry.client_order_id, price=entry.price)
        return None

    @staticmethod
    def _check_reducing(order: Order, facts: RiskFacts) -> Verdict | None:
        if order.role is OrderRole.ENTRY:
            return _deny(RiskCode.UNPROTECTED, id=order.client_order_id, role=order.role)
        if order.quantity > -order.side * facts.position:
            return _deny(RiskCode.NOT_REDUCING, side=order.side.name, quantity=order.quantity, position=facts.position)
        return None

    # ------------------------------------------------------------------------------------------- what has happened

    def count_message(self, ts_ns: int) -> None:
        """An order or a replace was sent at `ts_ns`. Replaces are counted by whoever sends them, cancels never."""
        self._order_times.append(ts_ns)

    def watch(self, facts: RiskFacts) -> list[Latch]:
        """Look at the account; returns the latches this sets, which the caller journals and makes known."""
        found = []
        if (loss := self._daily_loss(facts)) is not None:
            found += self._set(RiskCode.DAILY_LOSS, facts.ts_ns, loss)
        if (drawdown := self._drawdown(facts)) is not None:
            found += self._set(RiskCode.DRAWDOWN, facts.ts_ns, drawdown)
        return found

    def on_trade(self, trade: Trade) -> list[Latch]:
        """A round trip closed; returns the latch this sets."""
        self._losses = self._losses + 1 if trade.profit < 0 else 0
        if self._losses < self._limits.max_consecutive_losses:
            return []
        return self._set(RiskCode.CONSECUTIVE_LOSSES, trade.exit_ns, {"losses": self._losses})

    def on_reject(self, ts_ns: int, text: str) -> list[Latch]:
        """The server refused an order; returns the latch this sets."""
        self._rejects += 1
        if self._rejects < self._limits.max_consecutive_rejects:
            return []
        return self._set(RiskCode.CONSECUTIVE_REJECTS, ts_ns, {"rejects": self._rejects, "last": text})

    def on_accept(self) -> None:
        """The server took an order: rejects are no longer consecutive."""
        self._rejects = 0

    def halt(self, ts_ns: int, by: str) -> list[Latch]:
        """Stop on purpose; returns the latch this sets. Working orders are the caller's to cancel."""
        return self._set(RiskCode.HALTED, ts_ns, {"by": by})

    def resume(self) -> tuple[RiskCode, ...]:
        """An operator resumes: all latches and streaks are cleared; returns which, for the journal.

        A limit still exceeded latches again at the next `watch`: a daily loss lasts until the next trading day. For a
        drawdown the ledger's peak is rebased by the caller.
        """
        cleared = tuple(self._latches)
        self._latches.clear()
        self._losses = self._rejects = 0
        return cleared

    def _set(self, code: RiskCode, ts_ns: int, context: dict[str, Any]) -> list[Latch]:
        if code in self._latches:
            return []
        latch = self._latches[code] = Latch(code, ts_ns, context)
        return [latch]

    def _daily_loss(self, facts: RiskFacts) -> dict[str, Any] | None:
        result, limit = facts.realized_today + facts.unrealized, self._limits.max_daily_loss
        return {"result": round(result, 2), "limit": limit} if -result >= limit else None

    def _drawdown(self, facts: RiskFacts) -> dict[str, Any] | None:
        limit = self._limits.max_drawdown_share
        exceeded = facts.drawdown >= limit and facts.drawdown > 0.0
        return {"drawdown": round(facts.drawdown, 5), "limit": limit} if exceeded else None

    def _forget_before(self, ts_ns: int) -> None:
        times = self._order_times
        while times and times[0] <= ts_ns - MINUTE_NS:
            times.popleft()


def _deny(code: RiskCode, **context: Any) -> Verdict:
    return Verdict(code, context)
