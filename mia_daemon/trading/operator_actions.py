"""What a person, a signal or the end of the daemon may ask of trading. Cancels leave before anything is written."""

from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.risk.codes import RiskCode
from mia_daemon.trading.trade_executor import SHUTDOWN, Actors, TradeExecutor


class OperatorActions:
    """Sets what is wanted, and has the control loop act on it at once."""

    def __init__(self, state: ExecutionState, ports: Ports, actors: Actors, executor: TradeExecutor) -> None:
        self._state = state
        self._market = state.market
        self._risk = ports.risk
        self._order_manager = actors.order_manager
        self._accounting = actors.accounting
        self._breakers = actors.breakers
        self._executor = executor

    def halt(self, by: str) -> None:
        """No new positions until `resume`, also after a restart. Entries are cancelled; protection stays."""
        self._stop_entries(by, RiskCode.HALTED)
        self._executor.act()

    def kill(self, by: str, *, flatten: bool) -> None:
        """Cancel first of all, then latch, then, if wanted, close the position.

        Cancelled is whatever could add to the position. Stop and target go with their entry, by the server; those of a
        position that is held stay until it is closed, or else the kill would leave it bare.
        """
        self._stop_entries(by, RiskCode.KILLED)
        if flatten:
            self._state.request_flatten("kill")
        self._executor.act()

    def _stop_entries(self, by: str, code: RiskCode) -> None:
        self._order_manager.cancel_entries()
        self._breakers.trip(self._risk.halt(self._market.now_ns, by, code))

    def flatten(self, reason: str) -> None:
        """Close the position and cancel entries; trading goes on afterwards unless halted."""
        self._state.request_flatten(reason)
        self._executor.act()

    def cancel_all(self) -> None:
        """Cancel every entry. Stop and target stay as long as there is a position for them to close."""
        self._order_manager.cancel_entries()
        self._executor.act()

    def stop(self, *, flatten: bool) -> None:
        """The daemon is about to end: enter nothing more; close the position or leave it to its stop at the server."""
        self._state.flatten.stopping = True
        self._state.flatten.shutdown = SHUTDOWN if flatten else ""
        self.cancel_all()

    # Lifting latches.

    def still_exceeded(self, code: RiskCode) -> bool:
        """Whether lifting this latch would override a limit that is still exceeded."""
        return self._risk.still_exceeded(code, self._state.account_snapshot())

    def resume(self, by: str, code: RiskCode | None = None) -> tuple[RiskCode, ...]:
        """Lift the latch `code`, or all that need no name; returns which were set.

        Nothing is entered before orders and position are reconciled again.

        Raises:
            JournalError: what can't be lifted on file stays set.
        """
        try:
            self._record_unrecorded()
            lifted = self._breakers.lift(by, code)
            if RiskCode.DRAWDOWN in lifted:
                self._state.ledger.rebase_peak()
            self._state.sync.request_reconcile("trading was resumed")
        finally:
            self._executor.act()
        return lifted

    def rearm(self, by: str) -> int:
        """A person has looked at what was executed; returns how many entries that were.

        Raises:
            JournalError: this can't be put on file, and the count goes on.
        """
        try:
            self._record_unrecorded()
            return self._breakers.rearm(by)
        finally:
            if self._breakers.pending:
                self._executor.act()

    def _record_unrecorded(self) -> None:
        """Nothing is entered while a fill is not on file: after a kill the position on file would be another."""
        with self._breakers.required():
            self._accounting.record_unrecorded()
