"""Reports decisions, orders, fills and round trips: log, terminal, CSV rows and snapshot files.

These are deferred until the event loop has polled its sockets again. Only the market memory, which the next decision
uses, and the counters are updated at once.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.daemon.memory_keeper import MemoryKeeper
from mia_daemon.deferred import DeferredWork
from mia_daemon.errors import JournalError
from mia_daemon.journal.trade_files import TradeLog
from mia_daemon.journal.trade_snapshot import OpenTrade
from mia_daemon.journal.writer import Journal
from mia_daemon.ops.console import Console
from mia_daemon.ops.logs import Logger
from mia_daemon.records import Action, Decision, Fill, Order, RegimeProbs, Side, Trade
from mia_daemon.risk.codes import Latch, Verdict
from mia_daemon.trading.assembly import TradingAccount

SHOWN: Final = 20
"""Number of features, the most important first, in a trade's snapshot; the journal has them all."""


class Reporter:
    """The executor's listener and the session's decision sink.

    Args:
        watch: called with the values of each decision and their time (the drift monitor).

    Attributes:
        orders, fills, round_trips, profit: counted since the start of this run; profit after costs.
        regime_probs, last_reason: of the last decision.
    """

    def __init__(
        self,
        log: Logger,
        trade_log: TradeLog,
        journal: Journal,
        memory: MemoryKeeper,
        deferred: DeferredWork,
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
        self._journal = journal
        self._memory = memory
        self._deferred = deferred
        self._console = console
        self._watch = watch
        self._account: TradingAccount | None = None
        self._to_remember: deque[Trade] = deque()
        self._open_changed = False  # a fill since the last snapshot of the open round trip
        self._latches: tuple[Latch, ...] = ()
        self._held: deque[Callable[[], None]] = deque()  # lines to show after a decision not shown yet

    def follow(self, account: TradingAccount) -> None:
        """Take the risk figures and the open round trip from this account."""
        self._account = account
        self._open_changed = bool(account.state.ledger.position)

    # Decisions.

    def decision(self, decision: Decision, verdict: Verdict, values: NDArray[np.float32]) -> None:
        """Report a decision that was carried out, its verdict, and the (350,) values it was made on."""
        self.regime_probs = decision.prediction.regime_probs
        self.last_reason = decision.reason
        if decision.action in {Action.BUY, Action.SELL}:
            self._memory.entered(decision.decision_id, values)
        self._deferred.add(partial(self._report_decision, decision, verdict, values))

    def _report_decision(self, decision: Decision, verdict: Verdict, values: NDArray[np.float32]) -> None:
        self._trade_log.decision(decision)
        self._watch(values, decision.ts_ns)
        if not verdict.allowed:
            self._denied(decision, verdict)
        if decision.action is not Action.HOLD:
            self._acted(decision, values)
        self._release()

    def _acted(self, decision: Decision, values: NDArray[np.float32]) -> None:
        try:
            self._journal.record_features(decision.decision_id, values)
        except JournalError as error:  # the executor gets the same error, and halts
            self._log.warning("features_not_journaled", decision=decision.decision_id, reason=str(error))
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

    def _denied(self, decision: Decision, verdict: Verdict) -> None:
        self._log.warning("denied", decision=decision.decision_id, code=verdict.code, **verdict.context)
        if self._console is not None:
            self._console.say(f"denied {decision.action.value}: {verdict}")

    # Orders, fills, round trips.

    def order(self, ts_ns: int, order: Order, what: str) -> None:
        """Report a change of an order."""
        self.orders += what == "sent"
        self._deferred.add(partial(self._report_order, ts_ns, order, what))

    def _report_order(self, ts_ns: int, order: Order, what: str) -> None:
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
            self._show(partial(self._console.order, ts_ns, order, what), held=what == "sent")

    def fill(self, fill: Fill) -> None:
        """Report an applied fill."""
        self.fills += 1
        self._open_changed = True
        self._deferred.add(partial(self._report_fill, fill))

    def _report_fill(self, fill: Fill) -> None:
        self._log.info(
            "fill", order=fill.client_order_id, side=fill.side.name.lower(), quantity=fill.quantity, price=fill.price
        )
        if self._console is not None:
            self._show(partial(self._console.fill, fill))

    def trade(self, trade: Trade) -> None:
        """Report a closed round trip."""
        self.round_trips += 1
        self.profit += trade.profit
        self._memory.closed(trade)
        self._to_remember.append(trade)
        self._deferred.add(partial(self._report_trade, trade))

    def _report_trade(self, trade: Trade) -> None:
        self._trade_log.trade(trade)
        self._log.info("trade", trade=trade.trade_id, profit=round(trade.profit, 2), reason=trade.exit_reason)
        if self._console is not None:
            self._show(partial(self._console.trade, trade))

    def _show(self, line: Callable[[], None], *, held: bool = False) -> None:
        """Show a line, after those held: an order is sent before its decision is shown, but is listed after it."""
        self._held.append(line)
        if not held and len(self._held) == 1:
            self._release()

    def _release(self) -> None:
        while self._held:
            self._held.popleft()()

    # Once a second.

    def flush(self) -> None:
        """Do what was deferred, and write the rows of the decisions that the journal has committed."""
        self._deferred.flush()
        self._release()
        self._trade_log.flush()

    def remember(self) -> Iterator[str]:
        """Write closed round trips as snapshots and to the market memory's file, off the hot path, one per step.

        Yields what went wrong with each, "" when nothing did. The data behind a trade is read from the journal, so a
        snapshot is the same whether it is written now or, after a kill, at the next start.
        """
        yield from self._snapshot_open()
        while self._to_remember:
            trade = self._to_remember.popleft()
            try:
                background = self._journal.background(trade)
            except JournalError as error:
                self._log.warning("snapshot_left_to_the_next_start", trade=trade.trade_id, reason=str(error))
                continue
            yield ""
            self._trade_log.snapshot(trade, background)
            yield ""
            yield self._memory.write(trade)

    def _snapshot_open(self) -> Iterator[str]:
        """Write the open round trip as a snapshot, where a fill has changed it."""
        ledger = self._account.state.ledger if self._account is not None and self._open_changed else None
        self._open_changed = False
        if self._account is None or ledger is None or not ledger.position or ledger.origin is None:
            return
        scope, origin = self._account.scope, ledger.origin
        trade = OpenTrade(
            trade_id=ledger.trade_id,
            symbol=scope.instrument.symbol,
            side=Side.BUY if ledger.position > 0 else Side.SELL,
            quantity=abs(ledger.position),
            entry_ns=ledger.opened_ns,
            entry_price=ledger.entry_price,
            regime_probs=origin.regime_probs,
            decision_id=origin.decision_id,
        )
        try:
            background = self._journal.open_background(origin.decision_id, scope.instrument.symbol, scope.account)
        except JournalError as error:
            self._log.warning("snapshot_left_to_the_close", trade=trade.trade_id, reason=str(error))
            return
        yield ""
        self._trade_log.open_snapshot(trade, background)

    def latches_changed(self) -> bool:
        """Whether a latch was set or cleared since the last call."""
        before, self._latches = self._latches, self._account.risk.latches if self._account else ()
        return before != self._latches

    def risk_snapshot(self) -> None:
        """The account's risk as it is now, as a file."""
        if self._account is not None:
            snapshot = self._account.state.risk_snapshot()
            self._trade_log.risk_snapshot(snapshot.ts_ns, self._account.risk.describe(snapshot))
