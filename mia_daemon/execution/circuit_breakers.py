"""What stops trading: latches, made effective, known and lasting; and a journal that can't be written.

A latch acts by level: as long as it is set, the control loop carries out what it demands, in the turn in which it was
set first. Cancels leave before anything about the latch is written.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

from mia_daemon.config import IncidentSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution.ports import Ports
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import Priority
from mia_daemon.risk.codes import Latch, RiskCode

_LOSSES: Final = frozenset({RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN})
"""Limits that also close the position: what is lost on it counts against them."""


class _Failure(NamedTuple):
    """The journal could not be written; the latches this has set."""

    error: JournalError
    latches: list[Latch]


class CircuitBreakers:
    """Says what the latches demand, and puts them on file.

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

    def trip(self, latches: Iterable[Latch]) -> None:
        """New latches: the control loop makes them effective in this turn, then `announce` makes them known."""
        self._tripped += latches

    # What latches demand.

    @property
    def pending(self) -> bool:
        """Whether anything was tripped that is not announced yet."""
        return bool(self._tripped or self._failures)

    @property
    def cancels_entries(self) -> bool:
        """Whether entries are to be cancelled now, but for those that were within the count when they left.

        What was sent to a server that is not reconciled is asked about first; a latch just set does not wait for that.
        """
        new = [*self._tripped, *(latch for failure in self._failures for latch in failure.latches)]
        standing = self._risk.latches if self._sync.reconciled else ()
        return any(latch.code is not RiskCode.REPEATED_EXECUTION for latch in (*new, *standing))

    @property
    def flatten_reason(self) -> str:
        """Why the position is to be closed; "" when no latch demands that."""
        return next((latch.code.value for latch in self._risk.latches if latch.code in self._flattening), "")

    def announce(self) -> None:
        """Make known and lasting what was tripped."""
        while self._tripped or self._failures:
            failures, self._failures = self._failures, []
            for failure in failures:
                self._announce_failure(failure)
            tripped, self._tripped = self._tripped, []
            for latch in tripped:
                self._alert(latch.code.value, Priority.CRITICAL, latch.text, latch.context)
                self.write(partial(self._journal.set_latch, latch))

    # Lifting them.

    def lift(self, by: str, code: RiskCode | None) -> tuple[RiskCode, ...]:
        """Lift one latch, or all that need no name; returns which were set.

        Raises:
            JournalError: what can't be lifted on file stays set.
        """
        snapshot = self._state.risk_snapshot()
        with self.required(), self._journal.transaction():
            for each in self._risk.liftable(snapshot, code):
                self._journal.clear_latch(each, self._market.now_ns, by)
        return self._risk.resume(snapshot, code)

    def rearm(self, by: str) -> int:
        """A person has looked: on file as a latch that was set and lifted, whether or not it had tripped yet.

        Raises:
            JournalError: this can't be put on file, and the count goes on.
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
        """What is written inside has to be on file: a failure halts, and is raised again."""
        try:
            yield
        except JournalError as error:
            self.journal_failed(error)
            raise

    def write(self, write: Callable[[], object]) -> bool:
        """Write to the journal what nothing waits for; False when that failed, which halts."""
        try:
            write()
        except JournalError as error:
            self.journal_failed(error)
            return False
        return True

    def journal_failed(self, error: JournalError) -> None:
        """Trading stops, cancels and exits still go out; the halt is kept beside the journal."""
        failure = _Failure(error, self._risk.halt(self._market.now_ns, "journal"))
        if failure.latches:
            self._failures.append(failure)  # cancels leave first
        else:
            self._announce_failure(failure)

    def _announce_failure(self, failure: _Failure) -> None:
        for latch in failure.latches:
            self._journal.keep_latch(latch)
        self._alert("journal", Priority.URGENT, f"{failure.error}; no new positions, exits still go out", {})
