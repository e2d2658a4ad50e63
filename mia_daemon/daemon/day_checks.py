"""What becomes doubtful while the daemon runs for days: the list of announcements, and the machine's clock."""

from collections.abc import Callable
from datetime import date
from typing import Final

from mia_daemon.products.trading_calendar import MacroEvents, TradingCalendar
from mia_daemon.records import Alert, Priority

UNSYNCHRONIZED: Final = (
    "the machine's clock is not synchronised: event ages and trade windows are judged by it; start chrony or "
    "systemd-timesyncd"
)


def events_ended_text(events: MacroEvents, now_ns: int) -> str:
    """What it means that the announcements end before today; "" where they do not, or none are configured."""
    ended = events.ended(now_ns)
    return (
        f"the last announcement is of {ended}, none blocks entries since: put a newer file in its place"
        if ended
        else ""
    )


class DayChecks:
    """Raises the alerts; to be called at the start and about once a second.

    Args:
        events: announcements.
        calendar: of the exchange: the end of the announcements is reported once each trading day.
        alert: called with each alert.
        is_synchronized: whether the machine's clock is; None where that is not known.
    """

    def __init__(
        self,
        events: MacroEvents,
        calendar: TradingCalendar,
        alert: Callable[[Alert], None],
        is_synchronized: Callable[[], bool | None],
    ) -> None:
        self._events = events
        self._calendar = calendar
        self._alert = alert
        self._is_synchronized = is_synchronized
        self._began = False
        self._day: date | None = None
        self._synchronized = True

    def look(self, now_ns: int) -> None:
        """Look at both, at event time `now_ns`."""
        day = self._calendar.trade_date(now_ns)
        if not self._began or day not in {None, self._day}:
            if text := events_ended_text(self._events, now_ns):
                self._alert(Alert(now_ns, "macro_events_ended", Priority.WARNING, text))
            self._day = day
        self._began = True
        synchronized = self._is_synchronized()
        if synchronized is None or synchronized is self._synchronized:
            return
        self._synchronized = synchronized
        if synchronized:
            self._alert(Alert(now_ns, "clock_synchronized", Priority.INFO, "the machine's clock is synchronised again"))
        else:
            self._alert(Alert(now_ns, "clock_unsynchronized", Priority.WARNING, UNSYNCHRONIZED))
