"""What stops trading: latches, made known, lasting and effective, and a journal that can't be written."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from mia_daemon.config import IncidentSettings
from mia_daemon.errors import JournalError
from mia_daemon.execution.order_manager import Warn
from mia_daemon.journal.writer import Journal
from mia_daemon.market import MarketState
from mia_daemon.records import Priority
from mia_daemon.risk.codes import Latch, RiskCode
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import RiskSnapshot

_LOSSES: Final = frozenset({RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN})
"""Limits that also close the position: what is lost on it counts against them."""


class CircuitBreakers:
    """Carries out what the risk controller latches.

    Args:
        incidents: what is done about a position beyond its limit.
        facts: what risk goes by, now.
        close: begin to close the position, for this reason.
        cancel_entries: ask for the cancellation of every entry.
        settle: tell the journal what it could not be told before; raises JournalError.
    """

    def __init__(
        self,
        risk: RiskController,
        journal: Journal,
        market: MarketState,
        warn: Warn,
        incidents: IncidentSettings,
        *,
        facts: Callable[[], RiskSnapshot],
        close: Callable[[str], None],
        cancel_entries: Callable[[], None],
        settle: Callable[[], None],
    ) -> None:
        self._risk = risk
        self._journal = journal
        self._market = market
        self._warn = warn
        breach = {RiskCode.POSITION_BREACH} if incidents.on_position_breach == "flatten" else set()
        self._closing = _LOSSES | breach
        self._facts = facts
        self._close = close
        self._cancel_entries = cancel_entries
        self._settle = settle

    def trip(self, latches: Iterable[Latch]) -> None:
        """Make new latches effective, known and lasting, in this order.

        Entries still working are cancelled, but for those that were within the count when they left.
        """
        for latch in latches:
            if latch.code is not RiskCode.REPEATED_EXECUTION:
                self._cancel_entries()
            if latch.code in self._closing:
                self._close(latch.code.value)
            self._warn(latch.code.value, Priority.CRITICAL, latch.text, latch.context)
            self.write(partial(self._journal.set_latch, latch))

    def lift(self, by: str, code: RiskCode | None) -> tuple[RiskCode, ...]:
        """Lift one latch, or all that need no name; returns which were set.

        Raises:
            JournalError: what can't be lifted on file stays set.
        """
        facts = self._facts()
        with self._on_file():
            for each in self._risk.liftable(facts, code):
                self._journal.clear_latch(each, self._market.now_ns, by)
        return self._risk.resume(facts, code)

    def rearm(self, by: str) -> int:
        """A person has looked: on file as a latch that was set and lifted, whether or not it had tripped yet.

        Raises:
            JournalError: this can't be put on file, and the count goes on.
        """
        now_ns = self._market.now_ns
        with self._on_file():
            ending = self._risk.executions_latch(now_ns)
            self._journal.set_latch(ending)
            self._journal.clear_latch(ending.code, now_ns, by)
        return int(self._risk.rearm(now_ns).context["executions"])

    @contextmanager
    def _on_file(self) -> Iterator[None]:
        """What is written inside is on file behind it, and all that was before. A failure halts, and is raised again.

        Nothing is entered while a fill is not on file: after a kill the position on file would be another.
        """
        try:
            self._settle()
            with self._journal.booking():
                yield
        except JournalError as error:
            self.journal_failed(error)
            raise

    def write(self, write: Callable[[], object]) -> bool:
        """Write to the journal what nothing waits for; a failure halts, and is told by False."""
        try:
            write()
        except JournalError as error:
            self.journal_failed(error)
            return False
        return True

    def journal_failed(self, error: JournalError) -> None:
        """Trading stops, cancels and exits still go out; the halt is kept beside the journal."""
        latches = self._risk.halt(self._market.now_ns, "journal")
        if latches:
            self._cancel_entries()
        for latch in latches:
            self._journal.keep_latch(latch)
        self._warn("journal", Priority.URGENT, f"{error}; no new positions, exits still go out", {})
