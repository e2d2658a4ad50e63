"""When new positions are allowed: exchange sessions, the minutes before the close, announcements. Exits always are."""

import numpy as np

from mia_daemon.clock import NS_PER_S, iso_utc
from mia_daemon.config import WindowSettings
from mia_daemon.risk.codes import ALLOWED, RiskCode, Verdict
from mia_daemon.trading_calendar import NO_EVENTS, MacroEvents, TradingCalendar


class TradeWindowFilter:
    """Says of a moment whether a position may be opened.

    Args:
        settings: sessions, margins and the impact from which an announcement counts.
        calendar: the exchange's trading days.
        events: announcements, in order of time; those of lower impact are left out here.
    """

    def __init__(self, settings: WindowSettings, calendar: TradingCalendar, events: MacroEvents = NO_EVENTS) -> None:
        self._settings = settings
        self._calendar = calendar
        grave = np.flatnonzero(events.impact > settings.macro_impact_above)
        self._event_ns = events.start_ns[grave]
        self._event_types = tuple(events.types[i] for i in grave)
        self._event_impact = events.impact[grave]
        self._before_ns = round(settings.macro_before_s * NS_PER_S)
        self._after_ns = round(settings.macro_after_s * NS_PER_S)
        self._margin_ns = round(settings.no_entry_before_close_s * NS_PER_S)

    def check(self, ts_ns: int) -> Verdict:
        """The verdict on a new position at event time `ts_ns`."""
        return self._check_session(ts_ns) or self._check_events(ts_ns) or ALLOWED

    def _check_session(self, ts_ns: int) -> Verdict | None:
        calendar, regular = self._calendar, self._settings.sessions == "regular"
        close_ns = calendar.close_ns(ts_ns)
        if close_ns is None:
            opens = calendar.next_open_ns(ts_ns)
            return Verdict(RiskCode.MARKET_CLOSED, {"opens": iso_utc(opens) if opens is not None else "unknown"})
        if regular:
            close_ns = calendar.regular_close_ns(ts_ns)
            if close_ns is None:
                return Verdict(RiskCode.OUTSIDE_SESSION, {"sessions": "regular"})
        if close_ns - ts_ns <= self._margin_ns:
            return Verdict(RiskCode.NEAR_CLOSE, {"closes": iso_utc(close_ns)})
        return None

    def _check_events(self, ts_ns: int) -> Verdict | None:
        """Blocked from `macro_before_s` before an announcement until `macro_after_s` after it, both included."""
        first = int(np.searchsorted(self._event_ns, ts_ns - self._after_ns, side="left"))
        if first == len(self._event_ns) or int(self._event_ns[first]) > ts_ns + self._before_ns:
            return None
        return Verdict(
            RiskCode.MACRO_EVENT,
            {
                "type": self._event_types[first],
                "at": iso_utc(int(self._event_ns[first])),
                "impact": float(self._event_impact[first]),
            },
        )
