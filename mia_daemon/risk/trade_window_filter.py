"""When positions may be opened and held: sessions, announcements, the end of the contract."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mia_daemon.clock import NEVER_NS, NS_PER_S, iso_utc
from mia_daemon.config import WindowSettings
from mia_daemon.products.contracts import LastTrading
from mia_daemon.products.trading_calendar import (
    CLOSE_NS,
    NO_EVENTS,
    OPEN_NS,
    RTH_CLOSE_NS,
    RTH_OPEN_NS,
    MacroEvents,
    TradingCalendar,
)
from mia_daemon.risk.codes import ALLOWED, RiskCode, Verdict


class FlatReason(StrEnum):
    """Flatten reasons of the flat schedule; round trips and decisions carry them."""

    SESSION_END = "session_end"
    MACRO_EVENT = "macro_event"
    CONTRACT_END = "contract_end"  # it rolls or expires


@dataclass(frozen=True, slots=True)
class FlatRule:
    """Why there must be no position, "" where there may be one, and the event time until which that holds."""

    reason: str
    until_ns: int


@dataclass(frozen=True, slots=True)
class _Span:
    """A time without positions: `start_ns` included, `end_ns` excluded."""

    start_ns: int
    end_ns: int
    reason: FlatReason


def _unlimited(_ts_ns: int) -> LastTrading:
    return LastTrading(NEVER_NS, NEVER_NS)


class TradeWindowFilter:
    """Decides by event time whether a position may be opened, or held.

    Args:
        settings: sessions, margins and the impact from which an announcement counts.
        calendar: the exchange's trading days.
        events: announcements, in order of time; those of lower impact are ignored.
        last_trading: returns when trading in the contract ends; called once, with the time of the first check.
    """

    def __init__(
        self,
        settings: WindowSettings,
        calendar: TradingCalendar,
        events: MacroEvents = NO_EVENTS,
        last_trading: Callable[[int], LastTrading] = _unlimited,
    ) -> None:
        self._settings = settings
        self._calendar = calendar
        grave = np.flatnonzero(events.impact > settings.macro_impact_above)
        self._event_ns = events.start_ns[grave]
        self._event_types = tuple(events.types[i] for i in grave)
        self._event_impact = events.impact[grave]
        self._flat_close_ns = _ns(settings.flat_before_close_s)
        self._flat_macro_ns = _ns(settings.flat_before_macro_s)
        self._flat_roll_ns = _ns(settings.flat_before_roll_s)
        # No position is opened that would have to be closed at once.
        self._before_ns = max(round(settings.macro_before_s * NS_PER_S), self._flat_macro_ns or 0)
        self._after_ns = round(settings.macro_after_s * NS_PER_S)
        self._margin_ns = max(round(settings.no_entry_before_close_s * NS_PER_S), self._flat_close_ns or 0)
        self._ask_last_trading = last_trading
        self._last_trading: LastTrading | None = None

    # New positions.

    def check(self, ts_ns: int) -> Verdict:
        """The verdict on a new position at event time `ts_ns`."""
        return self._check_session(ts_ns) or self._check_contract(ts_ns) or self._check_events(ts_ns) or ALLOWED

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

    def _check_contract(self, ts_ns: int) -> Verdict | None:
        ends = self._contract(ts_ns)
        if ts_ns >= min(ends.entries_ns, ends.positions_ns - (self._flat_roll_ns or 0)):
            return Verdict(RiskCode.CONTRACT_END, {"ends": iso_utc(ends.entries_ns)})
        return None

    def _contract(self, ts_ns: int) -> LastTrading:
        if self._last_trading is None:
            self._last_trading = self._ask_last_trading(ts_ns)
        return self._last_trading

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

    # Open positions.

    def flat_rule(self, ts_ns: int) -> FlatRule:
        """Whether there must be no position at event time `ts_ns`, and why."""
        rules = (self._session_end, self._contract_end, self._next_event)
        spans = [span for rule in rules if (span := rule(ts_ns)) is not None]
        for span in spans:
            if span.start_ns <= ts_ns:
                return FlatRule(span.reason.value, span.end_ns)
        return FlatRule("", min((span.start_ns for span in spans), default=NEVER_NS))

    def _session_end(self, ts_ns: int) -> _Span | None:
        """From before the close until the next open."""
        if self._flat_close_ns is None:
            return None
        regular = self._settings.sessions == "regular"
        rows = self._calendar.rows
        opens, closes = (RTH_OPEN_NS, RTH_CLOSE_NS) if regular else (OPEN_NS, CLOSE_NS)
        following = int(np.searchsorted(rows[:, opens], ts_ns, side="right"))
        end_ns = int(rows[following, opens]) if following < len(rows) else NEVER_NS
        start_ns = int(rows[following - 1, closes]) - self._flat_close_ns if following else ts_ns
        return _Span(start_ns, end_ns, FlatReason.SESSION_END)

    def _contract_end(self, ts_ns: int) -> _Span | None:
        ends_ns = self._contract(ts_ns).positions_ns
        if self._flat_roll_ns is None or ends_ns == NEVER_NS:
            return None
        return _Span(ends_ns - self._flat_roll_ns, NEVER_NS, FlatReason.CONTRACT_END)

    def _next_event(self, ts_ns: int) -> _Span | None:
        """The span around the present or next announcement, including the time after it."""
        first = int(np.searchsorted(self._event_ns, ts_ns - self._after_ns, side="left"))
        if self._flat_macro_ns is None or first == len(self._event_ns):
            return None
        at_ns = int(self._event_ns[first])
        return _Span(at_ns - self._flat_macro_ns, at_ns + self._after_ns + 1, FlatReason.MACRO_EVENT)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * NS_PER_S)
