"""When a position has to be closed, by the trade windows, in event time."""

from typing import Final, Protocol

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.state import FlattenState
from mia_daemon.risk.trade_window_filter import FlatRule


class Windows(Protocol):
    """Source of the rule that no position may be held."""

    def flat_rule(self, ts_ns: int) -> FlatRule: ...


class _NoWindows:
    """Positions may be held at any time."""

    def flat_rule(self, ts_ns: int) -> FlatRule:  # noqa: ARG002  # protocol; independent of time
        return FlatRule("", NEVER_NS)


NO_WINDOWS: Final = _NoWindows()


class FlatSchedule:
    """Keeps `FlattenState.window` up to date with the trade windows.

    Attributes:
        due_ns: event time at which `advance` has to be called next; 0 before the first event.
    """

    def __init__(self, flatten: FlattenState, windows: Windows) -> None:
        self.due_ns = 0
        self._flatten_state = flatten
        self._windows = windows

    def advance(self, now_ns: int) -> str:
        """Advance to `now_ns`; returns why a position has to be closed, "" when it may be held.

        A window that began and ended between two events still closes the position, at the later event.
        """
        asked = ""
        while now_ns >= self.due_ns:
            rule = self._windows.flat_rule(self.due_ns or now_ns)
            self._flatten_state.window, self.due_ns = rule.reason, rule.until_ns
            asked = asked or rule.reason
        return asked
