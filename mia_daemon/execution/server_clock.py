"""The clock of the order server beside event time: a time that is not possible is not believed."""

from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.ports import RaiseAlert
from mia_daemon.execution.state import ExecutionState
from mia_daemon.records import Priority

SLACK_NS: Final = 5 * NS_PER_S
"""Servers state times in whole seconds of their own clock, and event time lags while the market is quiet."""

_ALERT_NS: Final = 30 * NS_PER_S
"""A message that is only late is not worth an alert."""


class ServerClock:
    """Translates the times in a server's reports to event time.

    An order's report can't be from before the order was sent, nor from the future. Another time tells how far the
    server's clock is off, and the report counts as of now.

    Args:
        foreign: the broker's times are those of a server's clock; False: they are event times and stay as they are.

    Attributes:
        offset_ns: by how much the server's clock was last seen ahead of event time; 0 while it is right.
    """

    def __init__(self, state: ExecutionState, alert: RaiseAlert, *, foreign: bool) -> None:
        self.offset_ns = 0
        self._state = state
        self._alert = alert
        self._foreign = foreign
        self._alerted = False

    def received(self, told_ns: int, sent_ns: int) -> int:
        """Event time of a report just received.

        Args:
            told_ns: the time in it; 0 where it has none.
            sent_ns: when its order was sent, event time; 0 where that is not known.
        """
        now_ns = self._state.time_ns
        if not self._foreign:
            return told_ns
        if not self._state.heard_ns:
            return self._before_events(told_ns) or now_ns
        if not told_ns:
            return now_ns
        if sent_ns - SLACK_NS <= told_ns <= now_ns + SLACK_NS:
            if abs(told_ns - now_ns) <= SLACK_NS:  # an older one may be late, of a clock that is behind
                self.offset_ns = 0
            return told_ns
        self.offset_ns = told_ns - now_ns
        if abs(self.offset_ns) > _ALERT_NS and not self._alerted:
            self._alerted = True
            self._alert(
                "server_clock",
                Priority.ERROR,
                f"the order server's clock is {self.offset_ns / NS_PER_S:+.0f} s off: its times are not used; "
                "set both clocks, and the server's time zone to UTC",
                {"ahead_s": round(self.offset_ns / NS_PER_S, 3)},
            )
        return now_ns

    def listed(self, told_ns: int) -> int:
        """Event time of something in a list of what is or was; 0 where no time is told. It may be long past."""
        now_ns = self._state.time_ns
        if not (self._foreign and told_ns):
            return told_ns
        if not self._state.heard_ns:
            return self._before_events(told_ns)
        return min(told_ns - self.offset_ns, now_ns + SLACK_NS)

    def _before_events(self, told_ns: int) -> int:
        """Before the first event only the wall clock can say that a time is not possible; 0 for such a time."""
        wall_ns = self._state.wall_ns
        return told_ns if not wall_ns or told_ns <= wall_ns + SLACK_NS else 0
