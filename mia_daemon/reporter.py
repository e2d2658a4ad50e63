"""Who is told what happens: the log, the people at the terminal, and the rows and snapshots they read later.

Called after an order has left, never before.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.features import catalogue
from mia_daemon.model.bundle import Bundle
from mia_daemon.model.market_memory import MarketMemory
from mia_daemon.ops.console import Console
from mia_daemon.ops.logs import Logger
from mia_daemon.records import Action, Decision, Fill, Order, RegimeProbs, Trade
from mia_daemon.risk.codes import Latch, Verdict
from mia_daemon.trading.books import Books
from mia_daemon.trading.trade_log import TradeLog

SHOWN: Final = 20
"""Features, the most important first, that a trade's snapshot shows; the journal names the decision for the rest."""


class Reporter:
    """The executor's notices and the session's decisions, passed on.

    Args:
        watch: shown the values of each decision and their time (the drift monitor).

    Attributes:
        orders, fills, round_trips, profit: counted since the start of this run; profit after costs.
        regime_probs, last_reason: of the last decision.
    """

    def __init__(
        self,
        log: Logger,
        trade_log: TradeLog,
        memory: MarketMemory,
        bundle: Bundle,
        console: Console | None = None,
        watch: Callable[[NDArray[np.float32], int], None] = lambda _values, _ts_ns: None,
    ) -> None:
        self.orders = 0
        self.fills = 0
        self.round_trips = 0
        self.profit = 0.0
        self.regime_probs: RegimeProbs | None = None
        self.last_reason = ""
        self._log = log
        self._trade_log = trade_log
        self._memory = memory
        self._bundle = bundle
        self._console = console
        self._watch = watch
        self._books: Books | None = None
        self._trade_fills: list[Fill] = []
        self._entry_values: dict[str, NDArray[np.float32]] = {}  # by decision, until its round trip is closed
        self._to_remember: deque[tuple[Trade, list[Fill], NDArray[np.float32] | None]] = deque()
        self._latches: tuple[Latch, ...] = ()

    def follow(self, books: Books) -> None:
        """Take the open round trip's name and the risk figures from these books."""
        self._books = books

    def decision(self, decision: Decision, verdict: Verdict, values: NDArray[np.float32]) -> None:
        """A decision that was carried out, what risk said to it, and the 350 values it was made on."""
        if decision.action in {Action.BUY, Action.SELL} and verdict.allowed:
            self._entry_values = {decision.decision_id: values}  # an entry that never filled gives way to the next
        self.regime_probs = decision.prediction.regime_probs
        self.last_reason = decision.reason
        self._rows(decision)
        self._watch(values, decision.ts_ns)
        if not verdict.allowed:
            self._denied(decision, verdict)
        if decision.action is Action.HOLD:
            return
        self._log.info(
            "decision",
            decision=decision.decision_id,
            action=decision.action,
            target=decision.target,
            reason=decision.reason,
            signal=round(decision.prediction.action, 4),
            probability=round(decision.prediction.probability, 4),
        )
        if self._console is not None:
            self._console.decision(decision)

    def _rows(self, decision: Decision) -> None:
        if self._books is None:
            self._trade_log.decision(decision)
            return
        risk = self._books.risk
        self._trade_log.decision(decision, self._books.ledger.trade_id)
        self._trade_log.penalty(
            decision.ts_ns,
            risk.overtrade_risk_score(decision.ts_ns),
            active=risk.penalty_active(decision.ts_ns),
        )

    def _denied(self, decision: Decision, verdict: Verdict) -> None:
        self._log.warning("denied", decision=decision.decision_id, code=verdict.code, **verdict.context)
        if self._console is not None:
            self._console.say(f"denied {decision.action.value}: {verdict}")

    def order(self, ts_ns: int, order: Order, what: str) -> None:
        """Something became of an order."""
        self.orders += what == "sent"
        self._log.info(
            "order",
            what=what,
            order=order.client_order_id,
            role=order.role,
            side=order.side.name.lower(),
            quantity=order.quantity,
            price=order.price,
        )
        if self._console is not None:
            self._console.order(ts_ns, order, what)

    def fill(self, fill: Fill) -> None:
        """An execution was booked."""
        self.fills += 1
        self._trade_fills.append(fill)
        self._log.info(
            "fill", order=fill.client_order_id, side=fill.side.name.lower(), quantity=fill.quantity, price=fill.price
        )
        if self._console is not None:
            self._console.fill(fill)

    def trade(self, trade: Trade) -> None:
        """A round trip was closed."""
        self.round_trips += 1
        self.profit += trade.profit
        fills, self._trade_fills = self._trade_fills, []
        self._trade_log.trade(trade)
        self._to_remember.append((trade, fills, self._entry_values.get(trade.decision_id)))
        self._log.info("trade", trade=trade.trade_id, profit=round(trade.profit, 2), reason=trade.exit_reason)
        if self._console is not None:
            self._console.trade(trade)

    def remember(self) -> Iterator[str]:
        """Snapshot closed round trips and put them into the market memory, off the hot path, one a step.

        Yields what went wrong with each, "" when nothing did. A kill before that loses nothing: the next start writes
        the snapshots that are missing.
        """
        while self._to_remember:
            trade, fills, values = self._to_remember.popleft()
            features = _named(values)
            details = {
                "fills": [asdict(fill) for fill in fills],
                "bundle": self._bundle.name,
                "bundle_sha256": self._bundle.sha256,
                "features": {name: features[name] for name in self._bundle.selected[:SHOWN] if name in features},
            }
            self._trade_log.snapshot(trade, details)
            yield self._memory.remember(trade, features)

    def latches_changed(self) -> bool:
        """Whether a latch was set or cleared since the last call."""
        before, self._latches = self._latches, self._books.risk.latches if self._books else ()
        return before != self._latches

    def risk_snapshot(self) -> None:
        """The account's risk as it is now, as a file."""
        if self._books is not None:
            facts = self._books.executor.facts()
            self._trade_log.risk_snapshot(facts.ts_ns, self._books.risk.snapshot(facts))


def _named(values: NDArray[np.float32] | None) -> dict[str, float]:
    if values is None:  # entered by an earlier run
        return {}
    return {feature.name: value for feature, value in zip(catalogue.FEATURES, values.tolist(), strict=True)}
