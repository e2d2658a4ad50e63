from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.config import WindowSettings
from mia_daemon.products.contracts import LastTrading
from mia_daemon.products.trading_calendar import NO_EVENTS, MacroEvents, TradingCalendar
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.trade_window_filter import TradeWindowFilter


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


def test_a_session_says_which_it_is_and_when_it_closes():
    regular = TradeWindowFilter(WindowSettings(sessions="regular"), CALENDAR)
    outside = regular.check(ns("2026-01-13T12:00"))
    assert (outside.code, outside.context) == (RiskCode.OUTSIDE_SESSION, {"sessions": "regular"})
    near = regular.check(ns("2026-01-13T21:12"))
    assert (near.code, near.context) == (RiskCode.NEAR_CLOSE, {"closes": "2026-01-13T21:15:00.000000Z"})


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
    settings = WindowSettings(
        macro_before_s=before_s, macro_after_s=after_s, no_entry_before_close_s=0,
        flat_before_close_s="waived", flat_before_macro_s="waived",
    )  # fmt: skip
    verdict = TradeWindowFilter(settings, CALENDAR, events).check(start + second * NS_PER_S)
    near = any(impact > 0.7 and s - before_s <= second <= s + after_s for s, impact in rows)
    assert verdict.code is (RiskCode.MACRO_EVENT if near else RiskCode.OK)


# --------------------------------------------------------------------------------------------- by when to be flat


def rule(text, events=EVENTS, last_trading=None, **settings):
    more = {} if last_trading is None else {"last_trading": lambda _ts_ns: last_trading}
    return TradeWindowFilter(WindowSettings(**settings), CALENDAR, events, **more).flat_rule(ns(text))


@pytest.mark.parametrize(
    ("text", "settings", "reason", "until"),
    [
        ("2026-01-13T03:00:00", {}, "", "2026-01-13T13:29:00"),  # until before the first announcement
        ("2026-01-13T21:58:59", {}, "", "2026-01-13T21:59:00"),
        ("2026-01-13T21:59:00", {}, "session_end", "2026-01-13T23:00:00"),
        ("2026-01-13T22:30:00", {}, "session_end", "2026-01-13T23:00:00"),  # closed
        ("2026-01-13T23:00:00", {}, "", "2026-01-14T17:59:00"),  # a half day
        ("2026-01-14T17:59:30", {}, "session_end", None),
        ("2026-01-13T21:14:00", {"sessions": "regular"}, "session_end", "2026-01-14T14:30:00"),
        ("2026-01-13T21:30:00", {"sessions": "regular"}, "session_end", "2026-01-14T14:30:00"),
        ("2026-01-13T14:30:00", {"sessions": "regular", "flat_before_macro_s": "waived"}, "", "2026-01-13T21:14:00"),
        ("2026-01-13T21:59:30", {"flat_before_close_s": "waived", "flat_before_macro_s": "waived"}, "", None),
        ("2026-01-13T21:49:00", {"flat_before_close_s": 600}, "", "2026-01-13T21:50:00"),
        ("2026-01-13T13:29:00", {}, "macro_event", "2026-01-13T13:45:00"),
        ("2026-01-13T13:44:59", {}, "macro_event", "2026-01-13T13:45:00"),
        ("2026-01-13T13:30:00", {"flat_before_macro_s": "waived"}, "", "2026-01-13T21:59:00"),
    ],
)
def test_when_a_position_has_to_be_closed(text, settings, reason, until):
    found = rule(text, **settings)
    assert found.reason == reason
    slack = 1 if reason == "macro_event" else 0
    assert found.until_ns == (NEVER_NS if until is None else ns(until) + slack)


def test_what_would_have_to_be_closed_at_once_is_not_opened():
    assert code("2026-01-13T21:40:00", flat_before_close_s=1800, no_entry_before_close_s=0) is RiskCode.NEAR_CLOSE
    assert code("2026-01-13T18:30:00", flat_before_macro_s=1800, macro_before_s=0) is RiskCode.MACRO_EVENT


def test_nothing_is_opened_in_a_contract_that_ends():
    ends = LastTrading(ns("2026-01-13T20:00"), ns("2026-01-13T20:00"))
    window = TradeWindowFilter(WindowSettings(), CALENDAR, last_trading=lambda _ts_ns: ends)
    assert window.check(ns("2026-01-13T19:54:59")).allowed
    late = window.check(ns("2026-01-13T19:55:00"))
    assert (late.code, late.context) == (RiskCode.CONTRACT_END, {"ends": "2026-01-13T20:00:00.000000Z"})
    assert window.check(ns("2026-01-13T23:30:00")).code is RiskCode.CONTRACT_END


def test_a_contract_that_ends_is_left_in_time_and_for_good():
    ends = LastTrading(ns("2026-01-13T19:00"), ns("2026-01-13T20:00"))
    assert rule("2026-01-13T19:54:59", NO_EVENTS, ends).until_ns == ns("2026-01-13T19:55:00")
    after = rule("2026-01-13T19:55:00", NO_EVENTS, ends)
    assert (after.reason, after.until_ns) == ("contract_end", NEVER_NS)
    assert rule("2026-01-13T19:55:00", NO_EVENTS, ends, flat_before_roll_s="waived").reason == ""


@pytest.mark.parametrize("ask", [TradeWindowFilter.check, TradeWindowFilter.flat_rule])
def test_the_contract_is_asked_about_once_as_of_the_first_moment(ask):
    asked = []

    def last_trading(ts_ns):
        asked.append(ts_ns)
        return LastTrading(NEVER_NS, NEVER_NS)

    window = TradeWindowFilter(WindowSettings(), CALENDAR, last_trading=last_trading)
    for text in ("2026-01-13T03:00", "2026-01-13T04:00"):
        ask(window, ns(text))
    assert asked == [ns("2026-01-13T03:00")]


def test_before_the_first_day_of_the_calendar_there_is_no_position():
    before = rule("2026-01-01T00:00", NO_EVENTS)
    assert (before.reason, before.until_ns) == ("session_end", ns("2026-01-12T23:00"))


@given(st.integers(-3600, 100_000), st.sampled_from(["regular", "all"]), st.sampled_from([60.0, 4000.0, "waived"]))
def test_the_rule_holds_until_it_says_and_always_moves_on(second, sessions, margin):
    """Asked at any moment in between it says the same; nothing is opened while it asks for flat."""
    settings = WindowSettings(sessions=sessions, flat_before_close_s=margin, flat_before_macro_s=margin)
    window = TradeWindowFilter(settings, CALENDAR, EVENTS)
    ts_ns = ns("2026-01-12T23:00") + second * NS_PER_S
    found = window.flat_rule(ts_ns)
    assert found.until_ns > ts_ns
    for share in (0.3, 0.999):
        between = ts_ns + int((min(found.until_ns, ts_ns + 10**15) - 1 - ts_ns) * share)
        assert bool(window.flat_rule(between).reason) == bool(found.reason)
    if found.reason:
        assert not window.check(ts_ns).allowed
