"""By when a position has to be closed: the trade windows, followed along event time."""

from typing import Final, Protocol

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.state import FlattenState
from mia_daemon.risk.trade_window_filter import FlatRule


class Windows(Protocol):
    """Knows when there must be no position."""

    def flat_rule(self, ts_ns: int) -> FlatRule: ...


class _NoWindows:
    """Positions may be held at any time."""

    def flat_rule(self, ts_ns: int) -> FlatRule:  # noqa: ARG002  # the same at all times
        return FlatRule("", NEVER_NS)


NO_WINDOWS: Final = _NoWindows()


class FlatSchedule:
    """Keeps `FlattenState.window` at what the trade windows ask for.

    Attributes:
        due_ns: event time at which `advance` has to be called next; 0 before the first event.
    """

    def __init__(self, flatten: FlattenState, windows: Windows) -> None:
        self.due_ns = 0
        self._flatten_state = flatten
        self._windows = windows

    def advance(self, now_ns: int) -> str:
        """Go on to `now_ns`; returns why a position has to be closed, "" when none has to.

        A window that a silent market has leapt over asks for it all the same, as late as that is.
        """
        asked = ""
        while now_ns >= self.due_ns:
            rule = self._windows.flat_rule(self.due_ns or now_ns)
            self._flatten_state.window, self.due_ns = rule.reason, rule.until_ns
            asked = asked or rule.reason
        return asked
