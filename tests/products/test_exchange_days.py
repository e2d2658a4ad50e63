"""Business days of US exchanges, and the days that contracts are counted by."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.products.exchange_days import DayRule, business_day_until, easter, is_business_day, third_friday


@pytest.mark.parametrize(
    ("year", "day"), [(2021, (4, 4)), (2024, (3, 31)), (2025, (4, 20)), (2026, (4, 5)), (2038, (4, 25))]
)
def test_easter(year, day):
    assert easter(year) == date(year, *day)


def test_the_holidays_of_a_year_are_those_of_the_new_york_stock_exchange():
    """As its calendar for 2026 lists them; and observed where they fall on a weekend."""
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(365)]
    closed = [f"{day:%m-%d}" for day in days if day.weekday() < 5 and not is_business_day(day)]
    assert closed == [
        "01-01", "01-19", "02-16", "04-03", "05-25", "06-19", "07-03", "09-07", "11-26", "12-25",
    ]  # fmt: skip
    assert is_business_day(date(2021, 12, 31))  # New Year of 2022 is a Saturday, and not made up for
    assert not is_business_day(date(2023, 1, 2))
    assert not is_business_day(date(2027, 6, 18))
    assert is_business_day(date(2021, 6, 18))  # before Juneteenth was a holiday


@pytest.mark.parametrize(
    ("rule", "month", "day"),
    [
        (DayRule("third_friday"), (2026, 12), date(2026, 12, 18)),
        (DayRule("third_friday", business_days_before=0), (2026, 6), date(2026, 6, 18)),  # Juneteenth
        (DayRule("third_friday", days_before=4), (2026, 6), date(2026, 6, 15)),
        (DayRule("third_wednesday"), (2026, 12), date(2026, 12, 16)),
        (DayRule("last"), (2028, 2), date(2028, 2, 29)),
        (DayRule("last", business_days_before=2), (2024, 12), date(2024, 12, 27)),
        (DayRule(25, months_before=1, business_days_before=3), (2027, 1), date(2026, 12, 21)),
        (DayRule(1, months_before=13), (2026, 1), date(2024, 12, 1)),
    ],
)
def test_a_rule_names_the_day_of_a_contract_month(rule, month, day):
    assert rule.on(*month) == day


@given(st.integers(2000, 2090), st.integers(1, 12), st.integers(0, 20))
def test_business_days_are_counted_one_by_one(year, month, before):
    first, further = (DayRule("last", business_days_before=n).on(year, month) for n in (before, before + 1))
    assert is_business_day(first)
    assert further == business_day_until(first - timedelta(days=1)) < first


@given(st.integers(1990, 2090), st.integers(1, 12))
def test_a_third_friday_is_one(year, month):
    friday = third_friday(year, month)
    assert (friday.weekday(), 15 <= friday.day <= 21) == (4, True)


@pytest.mark.parametrize("day", ["second_friday", 0, 29, "", True])
def test_a_day_that_not_every_month_has_is_refused(day):
    with pytest.raises(ValueError, match="it is one of third_friday, third_wednesday, last, or a number from 1 to 28"):
        DayRule(day)
