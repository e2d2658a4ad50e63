"""Actions of operators, of signals and of the shutdown. Cancels are sent before anything is written."""

from typing import Any

from mia_daemon.execution.inputs import AccountInputs, InputKind
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.risk.codes import RiskCode
from mia_daemon.trading.trade_executor import SHUTDOWN, Actors, TradeExecutor


class OperatorActions:
    """Changes the wanted state, and has the control loop act on it at once."""

    def __init__(self, state: ExecutionState, ports: Ports, actors: Actors, executor: TradeExecutor) -> None:
        self._state = state
        self._market = state.market
        self._risk = ports.risk
        self._order_manager = actors.order_manager
        self._accounting = actors.accounting
        self._breakers = actors.breakers
        self._reconciler = actors.reconciler
        self._executor = executor
        self._inputs = ports.inputs

    def _action(self, name: str, **arguments: Any) -> AccountInputs:
        """The input that an action is."""
        return self._inputs(InputKind.OPERATOR, (name, arguments))

    def halt(self, by: str) -> None:
        """Allow no new positions until `resume`, also after a restart. Entries are cancelled; protection stays."""
        with self._action("halt", by=by):
            self._stop_entries(by, RiskCode.HALTED)
            self._executor.act()

    def kill(self, by: str, *, flatten: bool) -> None:
        """Cancel entries first, then set the latch, then, if wanted, close the position.

        Only entries are cancelled; the server cancels the stop and target of an unfilled entry with it. Stop and target
        of a held position stay until it is closed, or else the kill would leave it unprotected.
        """
        with self._action("kill", by=by, flatten=flatten):
            self._stop_entries(by, RiskCode.KILLED)
            if flatten:
                self._state.request_flatten("kill")
            self._executor.act()

    def _stop_entries(self, by: str, code: RiskCode) -> None:
        self._order_manager.cancel_entries()  # at once, also where the latch is set already
        self._breakers.trip(self._risk.halt(self._market.now_ns, by, code))

    def flatten(self, reason: str) -> None:
        """Close the position and cancel entries; trading continues afterwards unless halted."""
        with self._action("flatten", reason=reason):
            self._state.request_flatten(reason)
            self._executor.act()

    def cancel_all(self) -> None:
        """Cancel every entry. Stop and target stay as long as there is a position for them to close."""
        with self._action("cancel_all"):
            self._order_manager.cancel_entries()
            self._executor.act()

    def stop(self, *, flatten: bool) -> None:
        """Prepare for shutdown: no more entries; close the position or leave it to its stop at the server."""
        with self._action("stop", flatten=flatten):
            self._state.flatten.stopping = True
            self._state.flatten.shutdown = SHUTDOWN if flatten else ""
            self.cancel_all()

    # Lifting latches.

    def still_exceeded(self, code: RiskCode) -> bool:
        """Whether lifting this latch would override a limit that is still exceeded."""
        return self._risk.still_exceeded(code, self._state.account_snapshot())

    def resume(self, by: str, code: RiskCode | None = None) -> tuple[RiskCode, ...]:
        """Lift the latch `code`, or all that need no name; returns which were set.

        A snapshot of the server is requested at once.

        Raises:
            JournalError: the lift could not be journaled; the latches stay set.
        """
        with self._action("resume", by=by, code=code):
            return self._resume(by, code)

    def _resume(self, by: str, code: RiskCode | None) -> tuple[RiskCode, ...]:
        try:
            self._record_unrecorded()
            lifted = self._breakers.lift(by, code)
            if RiskCode.DRAWDOWN in lifted:
                self._state.ledger.rebase_peak()
            if RiskCode.POSITION_DRIFT in lifted:
                self._reconciler.adopt_next()
            self._state.sync.request_reconcile("trading was resumed")
        finally:
            self._executor.act()
        return lifted

    def rearm(self, by: str) -> int:
        """Restart the count of executed entries after an operator has checked them; returns how many there were.

        Raises:
            JournalError: it could not be journaled; the count goes on.
        """
        with self._action("rearm", by=by):
            try:
                self._record_unrecorded()
                return self._breakers.rearm(by)
            finally:
                if self._breakers.pending:
                    self._executor.act()

    def _record_unrecorded(self) -> None:
        """Write fills that are not journaled yet: without them the journal would restore another position."""
        with self._breakers.required():
            self._accounting.record_unrecorded()
