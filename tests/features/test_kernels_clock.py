import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from kernel_driver import Drive, damage

from mia_daemon.features.kernels import clock
from mia_daemon.products.exchange_days import third_friday
from mia_daemon.products.trading_calendar import MacroEvents, SessionPhase, TradingCalendar

CHICAGO = ZoneInfo("America/Chicago")

NS = 1_000_000_000
MINUTE = 60 * NS
PHASES = (SessionPhase.ASIA, SessionPhase.EUROPE, SessionPhase.OPEN, SessionPhase.MIDDAY, SessionPhase.CLOSE)


@pytest.fixture(scope="module")
def year() -> TradingCalendar:
    return TradingCalendar.load(date(2024, 1, 1), date(2025, 1, 31))


def at(year: TradingCalendar, t: int) -> np.ndarray:
    drive = Drive(clock, cal=year.rows)
    drive.at(t)
    return drive.own()


def moments(year: TradingCalendar) -> list[int]:
    rng = np.random.default_rng(7)
    first, last = int(year.rows[0, 0]), int(year.rows[-20, 1])
    return [int(t) for t in rng.integers(first, last, 400)]


def test_the_time_of_day_is_chicagos_in_summer_and_winter(year):
    for t in moments(year):
        if year.is_open(t):
            local = datetime.fromtimestamp(t / NS, CHICAGO)
            seconds = local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6
            angle = 2 * math.pi * seconds / 86400
            np.testing.assert_allclose(at(year, t)[:2], [math.sin(angle), math.cos(angle)], atol=1e-8)


def test_minutes_and_phases_agree_with_the_trading_calendar(year):
    seen = set()
    for t in moments(year):
        values, row = at(year, t), year.rows[year.row_of(t)]
        phase = year.session_phase(t)
        seen.add(phase)
        assert values[4:9].tolist() == [float(phase is p) for p in PHASES]
        if phase is SessionPhase.CLOSED:
            assert values[3] == 0.0
            assert values[2] == (row[1] - row[0]) / MINUTE
        else:
            assert values[2] == pytest.approx((t - row[0]) / MINUTE)
            assert values[3] == pytest.approx((row[1] - t) / MINUTE)
    assert seen == set(SessionPhase)


def test_weekday_roll_expiry_and_half_day_follow_the_trade_date(year):
    fridays = [third_friday(y, mo) for y in (2024, 2025) for mo in range(1, 13)]
    rolls = [f - timedelta(days=4) for f in fridays if f.month % 3 == 0]
    for row in year.rows[:-1]:
        day = datetime.strptime(str(row[4]), "%Y%m%d").replace(tzinfo=UTC).date()
        values = at(year, int(row[0]))
        angle = 2 * math.pi * day.weekday() / 5
        np.testing.assert_allclose(values[9:11], [math.sin(angle), math.cos(angle)], atol=1e-12)
        assert values[11] == min((r - day).days for r in rolls if r >= day)
        assert values[12] == min((f - day).days for f in fridays if f >= day)
        assert values[16] == row[5]


def test_events_count_down_up_and_matter_within_an_hour(year):
    base = int(year.rows[5, 2])
    events = MacroEvents(
        np.array([base, base + 90 * MINUTE], np.int64), np.array([0.4, 0.9]), np.zeros(2, np.int64), ("CPI", "FOMC")
    )
    state = clock.make_state(0.25, events)
    drive = Drive(clock, cal=year.rows)
    drive.states = [state]
    got = []
    for minutes in (-2000, -61, -30, 0, 40, 50, 90, 149, 151, 5000):
        drive.at(base + minutes * MINUTE)
        got.append(tuple(round(float(v), 6) for v in drive.own()[13:16]))
    never = clock.NEVER
    assert got == [
        (never, never, 0.0),
        (61.0, never, 0.0),
        (30.0, never, 0.4),
        (90.0, 0.0, 0.4),
        (50.0, 40.0, 0.4),
        (40.0, 50.0, 0.9),
        (never, 0.0, 0.9),
        (never, 59.0, 0.9),
        (never, 61.0, 0.0),
        (never, never, 0.0),
    ]


def test_neutral_before_the_first_trading_day(year):
    np.testing.assert_array_equal(at(year, int(year.rows[0, 0]) - 1), clock.NEUTRAL)


def test_damaged_numbers_never_reach_the_values():
    damage(Drive(clock))
