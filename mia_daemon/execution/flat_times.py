"""By when a position has to be closed: the trade windows, followed along event time."""

from typing import Final, Protocol

from mia_daemon.execution.exits import NEVER
from mia_daemon.risk.trade_window_filter import FlatRule


class Windows(Protocol):
    """Who knows when there must be no position."""

    def flat_rule(self, ts_ns: int) -> FlatRule: ...


class _NoWindows:
    """Positions may be held at any time."""

    def flat_rule(self, ts_ns: int) -> FlatRule:  # noqa: ARG002  # the same at all times
        return FlatRule("", NEVER)


NO_WINDOWS: Final = _NoWindows()


class FlatTimes:
    """What the windows ask for at the moment, and when that changes.

    Attributes:
        reason: why any position is to be closed now; "" while it may be held.
        due_ns: event time at which `see` has to be called next; 0 before the first event.
    """

    def __init__(self, windows: Windows) -> None:
        self.reason = ""
        self.due_ns = 0
        self._windows = windows

    def see(self, now_ns: int) -> str:
        """Go on to `now_ns`; returns why a position has to be closed, "" when none has to.

        A window that a silent market has leapt over asks for it all the same, as late as that is.
        """
        asked = ""
        while now_ns >= self.due_ns:
            rule = self._windows.flat_rule(self.due_ns or now_ns)
            self.reason, self.due_ns = rule.reason, rule.until_ns
            asked = asked or rule.reason
        return asked
