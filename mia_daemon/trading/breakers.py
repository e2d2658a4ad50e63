"""What stops trading: latches, made known, lasting and effective, and a journal that can't be written."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from mia_daemon.errors import JournalError
from mia_daemon.records import Priority
from mia_daemon.risk.codes import Latch, RiskCode
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.trading.journal import Journal
from mia_daemon.trading.order_desk import Warn
from mia_daemon.trading.touch import Market

_STOP_OUT: Final = frozenset({RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN})
"""Limits that also close the position: what is lost on it counts against them."""


class Breakers:
    """Carries out what the risk controller latches.

    Args:
        close: begin to close the position, for this reason.
        cancel_entries: ask for the cancellation of every entry.
    """

    def __init__(
        self,
        risk: RiskController,
        journal: Journal,
        market: Market,
        warn: Warn,
        *,
        close: Callable[[str], None],
        cancel_entries: Callable[[], None],
    ) -> None:
        self._risk = risk
        self._journal = journal
        self._market = market
        self._warn = warn
        self._close = close
        self._cancel_entries = cancel_entries

    def trip(self, latches: Iterable[Latch]) -> None:
        """Make new latches known and lasting; those that limit losses also close the position."""
        for latch in latches:
            self._warn(latch.code.value, Priority.CRITICAL, latch.text, latch.context)
            if latch.code in _STOP_OUT:
                self._close(latch.code.value)
            self.write(partial(self._journal.set_latch, latch))

    def clear(self, by: str) -> tuple[RiskCode, ...]:
        """Clear every latch, on file too; returns which were set."""
        cleared = self._risk.resume()

        def write() -> None:
            with self._journal.booking():
                for code in cleared:
                    self._journal.clear_latch(code, self._market.now_ns, by)

        self.write(write)
        return cleared

    def write(self, write: Callable[[], object]) -> None:
        """Write to the journal what nothing waits for; a failure halts."""
        try:
            write()
        except JournalError as error:
            self.journal_failed(error)

    def journal_failed(self, error: JournalError) -> None:
        """Trading stops, cancels and exits still go out."""
        latches = self._risk.halt(self._market.now_ns, "journal")
        self._warn("journal", Priority.URGENT, f"{error}; no new positions, exits still go out", {})
        if latches:
            self._cancel_entries()
