"""Days that contracts are counted by: business days of US exchanges, and what a contract's rule makes of them."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

_SATURDAY: Final = 5
_JUNETEENTH_SINCE: Final = 2022
_NAMED: Final = ("third_friday", "third_wednesday", "last")


@dataclass(frozen=True, slots=True)
class DayRule:
    """A day of each contract month, as exchanges state it.

    Attributes:
        day: `third_friday`, `third_wednesday`, `last` (of the month), or a day's number.
        months_before: the month that is counted in, before the contract's own.
        business_days_before: 0 is the day itself, or the business day before it where it is none; None leaves it as it
            is, holiday or not.
        days_before: calendar days before all that.
    """

    day: int | str
    months_before: int = 0
    business_days_before: int | None = None
    days_before: int = 0

    def __post_init__(self) -> None:
        if self.day not in _NAMED and not (type(self.day) is int and 1 <= self.day <= 28):  # every month has them
            raise ValueError(f"it is one of {', '.join(_NAMED)}, or a number from 1 to 28")

    def on(self, year: int, month: int) -> date:
        """The day of the contract of this month."""
        months = year * 12 + month - 1 - self.months_before
        found = _day_in(self.day, months // 12, months % 12 + 1)
        if self.business_days_before is not None:
            found = business_day_until(found)
            for _ in range(self.business_days_before):
                found = business_day_until(found - timedelta(days=1))
        return found - timedelta(days=self.days_before)


def _day_in(day: int | str, year: int, month: int) -> date:
    if day == "third_friday":
        return third_friday(year, month)
    if day == "third_wednesday":
        return _weekday(year, month, 2, 3)
    if day == "last":
        return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return date(year, month, int(day))


def third_friday(year: int, month: int) -> date:
    return _weekday(year, month, 4, 3)


def _weekday(year: int, month: int, weekday: int, nth: int) -> date:
    """The nth Monday (0) to Sunday (6) of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


def is_business_day(day: date) -> bool:
    """Whether US exchanges count it: no weekend and none of their holidays, on which Globex may trade all the same."""
    return day.weekday() < _SATURDAY and day not in _holidays(day.year)


def business_day_until(day: date) -> date:
    """`day`, or the last business day before it."""
    while not is_business_day(day):
        day -= timedelta(days=1)
    return day


@lru_cache(maxsize=64)
def _holidays(year: int) -> frozenset[date]:
    """The holidays of the New York Stock Exchange, which CME's notices name (closed or shortened) for its products."""
    fixed = [date(year, 7, 4), date(year, 12, 25)]
    if year >= _JUNETEENTH_SINCE:
        fixed.append(date(year, 6, 19))
    new_year = date(year, 1, 1)  # on a Saturday it is not made up for: the year before ends with a business day
    return frozenset(
        {
            new_year + timedelta(days=new_year.weekday() == _SATURDAY + 1),
            _weekday(year, 1, 0, 3),  # Martin Luther King
            _weekday(year, 2, 0, 3),  # Presidents
            easter(year) - timedelta(days=2),
            _weekday(year, 6, 0, 1) - timedelta(days=7),  # Memorial: the last Monday of May
            _weekday(year, 9, 0, 1),  # Labor
            _weekday(year, 11, 3, 4),  # Thanksgiving
            *map(_observed, fixed),
        }
    )


def _observed(holiday: date) -> date:
    """On Friday for a Saturday, on Monday for a Sunday."""
    return holiday + timedelta(days={_SATURDAY: -1, _SATURDAY + 1: 1}.get(holiday.weekday(), 0))


def easter(year: int) -> date:
    """Easter Sunday, Gregorian (Meeus, Jones and Butcher's algorithm)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    h = (19 * a + b - d - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return date(year, month, day + 1)
