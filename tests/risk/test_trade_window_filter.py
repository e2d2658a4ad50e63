from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import WindowSettings
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.trade_window_filter import TradeWindowFilter
from mia_daemon.trading_calendar import MacroEvents, TradingCalendar


def ns(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS_PER_S


# Two days of winter, when Chicago is six hours behind: 17:00 = 23:00 UTC, 08:30 = 14:30, 15:15 = 21:15, 16:00 = 22:00.
# The second closes at noon.
def day(opens, closes, rth_opens, rth_closes, date, half_day):
    return [ns(opens), ns(closes), ns(rth_opens), ns(rth_closes), date, half_day]


FIRST = day("2026-01-12T23:00", "2026-01-13T22:00", "2026-01-13T14:30", "2026-01-13T21:15", 20260113, 0)
SECOND = day("2026-01-13T23:00", "2026-01-14T18:00", "2026-01-14T14:30", "2026-01-14T18:00", 20260114, 1)
CALENDAR = TradingCalendar(np.array([FIRST, SECOND], np.int64))
EVENTS = MacroEvents(
    np.array([ns("2026-01-13T13:30"), ns("2026-01-13T15:00"), ns("2026-01-13T19:00")], np.int64),
    np.array([0.95, 0.7, 0.8]),
    np.array([1, 2, 3], np.int64),
    ("CPI", "JOLTS", "FOMC"),
)


def code(text, events=EVENTS, **settings):
    verdict = TradeWindowFilter(WindowSettings(**settings), CALENDAR, events).check(ns(text))
    return verdict.code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-12T22:59:59", RiskCode.MARKET_CLOSED),
        ("2026-01-12T23:00:00", RiskCode.OK),
        ("2026-01-13T03:00:00", RiskCode.OK),
        ("2026-01-13T21:54:59", RiskCode.OK),
        ("2026-01-13T21:55:00", RiskCode.NEAR_CLOSE),
        ("2026-01-13T21:59:59", RiskCode.NEAR_CLOSE),
        ("2026-01-13T22:00:00", RiskCode.MARKET_CLOSED),
        ("2026-01-14T17:54:59", RiskCode.OK),
        ("2026-01-14T17:55:00", RiskCode.NEAR_CLOSE),  # a half day
        ("2026-01-14T18:00:00", RiskCode.MARKET_CLOSED),
        ("2026-03-01T15:00:00", RiskCode.MARKET_CLOSED),  # beyond what the calendar knows
    ],
)
def test_all_sessions(text, expected):
    assert code(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-13T03:00:00", RiskCode.OUTSIDE_SESSION),
        ("2026-01-13T14:29:59", RiskCode.OUTSIDE_SESSION),
        ("2026-01-13T14:30:00", RiskCode.OK),
        ("2026-01-13T21:09:59", RiskCode.OK),
        ("2026-01-13T21:10:00", RiskCode.NEAR_CLOSE),
        ("2026-01-13T21:15:00", RiskCode.OUTSIDE_SESSION),
        ("2026-01-13T22:30:00", RiskCode.MARKET_CLOSED),
    ],
)
def test_regular_hours(text, expected):
    assert code(text, sessions="regular") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-13T13:14:59", RiskCode.OK),
        ("2026-01-13T13:15:00", RiskCode.MACRO_EVENT),
        ("2026-01-13T13:30:00", RiskCode.MACRO_EVENT),
        ("2026-01-13T13:45:00", RiskCode.MACRO_EVENT),
        ("2026-01-13T13:45:01", RiskCode.OK),
        ("2026-01-13T15:00:00", RiskCode.OK),  # an impact of 0.7 is not above 0.7
        ("2026-01-13T19:00:00", RiskCode.MACRO_EVENT),
    ],
)
def test_announcements_of_high_impact_block_what_is_near_them(text, expected):
    assert code(text) is expected


def test_the_denial_names_the_announcement():
    verdict = TradeWindowFilter(WindowSettings(), CALENDAR, EVENTS).check(ns("2026-01-13T18:50"))
    assert verdict.context == {"type": "FOMC", "at": "2026-01-13T19:00:00.000000Z", "impact": 0.8}


def test_a_closed_market_says_when_it_opens():
    window = TradeWindowFilter(WindowSettings(), CALENDAR)
    assert window.check(ns("2026-01-13T22:30")).context == {"opens": "2026-01-13T23:00:00.000000Z"}
    assert window.check(ns("2026-01-15T00:00")).context == {"opens": "unknown"}


@given(
    st.lists(st.tuples(st.integers(0, 80_000), st.sampled_from([0.5, 0.8, 1.0])), max_size=12),
    st.integers(0, 80_000),
    st.integers(0, 3600),
    st.integers(0, 3600),
)
def test_a_moment_is_blocked_exactly_when_some_announcement_is_near(rows, second, before_s, after_s):
    start = ns("2026-01-12T23:00")
    rows.sort()
    events = MacroEvents(
        np.array([start + s * NS_PER_S for s, _ in rows], np.int64),
        np.array([impact for _, impact in rows], np.float64),
        np.zeros(len(rows), np.int64),
        tuple("X" for _ in rows),
    )
    settings = WindowSettings(macro_before_s=before_s, macro_after_s=after_s, no_entry_before_close_s=0)
    verdict = TradeWindowFilter(settings, CALENDAR, events).check(start + second * NS_PER_S)
    near = any(impact > 0.7 and s - before_s <= second <= s + after_s for s, impact in rows)
    assert verdict.code is (RiskCode.MACRO_EVENT if near else RiskCode.OK)
