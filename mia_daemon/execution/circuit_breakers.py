"""Stops trading: what each latch demands, how latches are announced and journaled, and what a journal error does.

A latch acts by level: the control loop carries out what it demands for as long as it is set, beginning in the turn in
which it was set. Cancels are sent before anything about the latch is written.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from mia_daemon.config import IncidentSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import Priority
from mia_daemon.risk.codes import Latch, RiskCode

_LOSSES: Final = frozenset({RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN})
"""Limits that also close the position: its unrealised loss counts against them."""


class _Failure(NamedTuple):
    """A journal error, and the latches it has set."""

    error: JournalError
    latches: list[Latch]


class CircuitBreakers:
    """Returns what the latches demand, and records them in the journal.

    Args:
        incidents: what is done about a position beyond its limit.
    """

    def __init__(self, state: ExecutionState, ports: Ports, incidents: IncidentSettings) -> None:
        self._state = state
        self._market = state.market
        self._sync = state.sync
        self._risk = ports.risk
        self._journal = ports.journal
        self._alert = ports.alert
        breach = {RiskCode.POSITION_BREACH} if incidents.on_position_breach == "flatten" else set()
        self._flattening = _LOSSES | breach
        self._tripped: list[Latch] = []
        self._failures: list[_Failure] = []
        self._contradictions: set[str] = set()  # found since the latch was lifted
        self._said: list[tuple[str, str, dict[str, Any]]] = []  # their alerts, not raised yet

    def trip(self, latches: Iterable[Latch]) -> None:
        """Queue new latches: the control loop carries them out in this turn, then calls `announce`."""
        self._tripped += latches

    def contradict(self, code: str, text: str, context: dict[str, Any]) -> None:
        """The server contradicts what is known: stop new risk until an operator resumes. One alert for each code."""
        if code in self._contradictions:
            return
        self._contradictions.add(code)
        self.trip(self._risk.halt(self._market.now_ns, code, RiskCode.CONTRADICTED))
        self._said.append((code, f"{text}; no new positions until `mia-daemon resume`", context))

    # What latches demand.

    @property
    def pending(self) -> bool:
        """Whether a latch or a journal error has not been announced yet."""
        return bool(self._tripped or self._failures or self._said)

    @property
    def cancels_entries(self) -> bool:
        """Whether entries are to be cancelled now.

        The latch of repeated executions cancels none: the entries sent before it were within the count. Latches set
        earlier wait until orders are reconciled with the server; a latch just set does not wait.
        """
        new = [*self._tripped, *(latch for failure in self._failures for latch in failure.latches)]
        standing = self._risk.latches if self._sync.reconciled else ()
        return any(latch.code is not RiskCode.REPEATED_EXECUTION for latch in (*new, *standing))

    @property
    def flatten_reason(self) -> str:
        """Why the position is to be closed; "" when no latch demands that.

        A latch just set closes whatever is held. One that stands closes what a decision of ours opened, also after a
        restart; what somebody else opened meanwhile is kept under its stop.
        """
        origin = self._state.ledger.origin
        ours = origin is not None and bool(origin.decision_id)
        latches = self._risk.latches if ours else self._tripped
        return next((latch.code.value for latch in latches if latch.code in self._flattening), "")

    def announce(self) -> None:
        """Alert and journal the latches and journal errors that are pending."""
        while self.pending:
            while self._said:
                code, text, context = self._said.pop(0)
                self._alert(code, Priority.URGENT, text, context)
            while self._failures:
                self._announce_failure(self._failures[0])
                del self._failures[0]
            if self._tripped:
                latch = self._tripped[0]
                self._alert(latch.code.value, Priority.CRITICAL, latch.text, latch.context)
                self.write(partial(self._journal.set_latch, latch))
                del self._tripped[0]

    # Lifting them.

    def lift(self, by: str, code: RiskCode | None) -> tuple[RiskCode, ...]:
        """Lift one latch, or all that need no name; returns which were set.

        Raises:
            JournalError: the lift could not be journaled; the latches stay set.
        """
        snapshot = self._state.risk_snapshot()
        with self.required(), self._journal.transaction():
            for each in self._risk.liftable(snapshot, code):
                self._journal.clear_latch(each, self._market.now_ns, by)
        lifted = self._risk.resume(snapshot, code)
        if RiskCode.CONTRADICTED in lifted:
            self._contradictions.clear()
        return lifted

    def rearm(self, by: str) -> int:
        """Restart the count of executed entries after an operator has checked them; returns how many there were.

        Journaled as a latch that was set and lifted, whether or not it had tripped yet.

        Raises:
            JournalError: it could not be journaled; the count goes on.
        """
        now_ns = self._market.now_ns
        with self.required(), self._journal.transaction():
            ending = self._risk.executions_latch(now_ns)
            self._journal.set_latch(ending)
            self._journal.clear_latch(ending.code, now_ns, by)
        return int(self._risk.rearm(now_ns).context["executions"])

    # The journal.

    @contextmanager
    def required(self) -> Iterator[None]:
        """Context in which every write must succeed: a JournalError halts trading and is raised again."""
        try:
            yield
        except JournalError as error:
            self.journal_failed(error)
            raise

    def write(self, write: Callable[[], object]) -> bool:
        """Call `write`; False when it raised JournalError, which halts trading and is not raised again."""
        try:
            write()
        except JournalError as error:
            self.journal_failed(error)
            return False
        return True

    def journal_failed(self, error: JournalError) -> None:
        """Halt trading. Cancels and exits are still sent; the halt is kept in a file beside the journal."""
        failure = _Failure(error, self._risk.halt(self._market.now_ns, "journal"))
        if failure.latches or self._failures:
            self._failures.append(failure)  # announced after the cancels were sent
        else:
            self._announce_failure(failure)

    def _announce_failure(self, failure: _Failure) -> None:
        for latch in failure.latches:
            self._journal.keep_latch(latch)
        self._alert("journal", Priority.URGENT, f"{failure.error}; no new positions, exits still go out", {})
