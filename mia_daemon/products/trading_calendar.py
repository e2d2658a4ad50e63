"""When futures trade: sessions and half days by a product's hours, and the macro events that move prices.

A trading day of an equity index future runs from 17:00 the evening before to 16:00, Chicago time, with regular trading
hours (RTH) from 08:30 to 15:15 inside it; the hour from 16:00 to 17:00 and the weekend are closed. Holidays and early
closes are those of pandas_market_calendars' calendar of the product; "CME Globex Equity" is corrected by the exchange's
own notices (`_close_override`). The 15:15-15:30 pause that ended in June 2021 is not modelled: prices simply stand
still in it.

Times are nanoseconds since the Unix epoch, UTC; dates are the exchange's trade dates.
"""

import csv
import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import iso_utc
from mia_daemon.errors import ConfigError, UsageError
from mia_daemon.private_file import replace_file
from mia_daemon.products.exchange_days import easter
from mia_daemon.products.product import Hours
from mia_daemon.products.product_table import shipped
from mia_daemon.user_file import read_text

FIRST_DATE = date(2015, 1, 1)
LAST_DATE = date(2035, 12, 31)

OPEN_NS, CLOSE_NS, RTH_OPEN_NS, RTH_CLOSE_NS, TRADE_DATE, HALF_DAY = range(6)
"""Columns of a schedule: session open and close, RTH open and close (ns), date as yyyymmdd, 1 on a shortened day."""

Schedule = NDArray[np.int64]
"""Trading days, int64 (n, 6), in order of time; see the column names above. RTH is empty (open == close) on a day that
closes before 08:30."""

_EQUITY: Final = "CME Globex Equity"
_LAYOUT = 1  # of a cached schedule: another number makes older files be left alone
_MINUTE_NS = 60_000_000_000
_EUROPE_AFTER_OPEN_NS = 9 * 60 * _MINUTE_NS  # 17:00 + 9 h = 02:00 Chicago, 09:00 Frankfurt


class SessionPhase(StrEnum):
    """Where in the trading day a moment lies; each begins when the one before ends."""

    CLOSED = "closed"
    ASIA = "asia"  # from the open (17:00) to 02:00
    EUROPE = "europe"  # to 08:30
    OPEN = "open"  # first 30 minutes of RTH
    MIDDAY = "midday"
    CLOSE = "close"  # last 30 minutes of RTH
    POST = "post"  # from 15:15 to 16:00


class TradingCalendar:
    """Trading days as arrays, asked by time. Times before the first or after the last known day are closed.

    Args:
        rows: a schedule, int64 (n, 6), n >= 1, as `load_schedule` returns; kept and made read-only.
    """

    def __init__(self, rows: Schedule) -> None:
        _check_schedule(rows)
        rows.flags.writeable = False
        self.rows = rows

    @classmethod
    def load(
        cls,
        first_date: date = FIRST_DATE,
        last_date: date = LAST_DATE,
        cache_dir: Path | None = None,
        hours: Hours | None = None,
    ) -> "TradingCalendar":
        """The calendar of these trade dates; see `load_schedule`."""
        return cls(load_schedule(first_date, last_date, cache_dir, hours))

    def schedule(self, first_date: date, last_date: date) -> Schedule:
        """The trading days from `first_date` to `last_date`, both included: int64 (n, 6), a read-only view."""
        low, high = np.searchsorted(self.rows[:, TRADE_DATE], [_yyyymmdd(first_date), _yyyymmdd(last_date) + 1])
        return self.rows[low:high]

    def row_of(self, ts_ns: int) -> int:
        """The newest trading day whose session has opened by `ts_ns`; it may have closed since. -1 before the first."""
        return int(np.searchsorted(self.rows[:, OPEN_NS], ts_ns, side="right")) - 1

    def is_open(self, ts_ns: int) -> bool:
        """Whether the session is open: open <= ts < close."""
        row = self.row_of(ts_ns)
        return row >= 0 and ts_ns < int(self.rows[row, CLOSE_NS])

    def is_regular(self, ts_ns: int) -> bool:
        """Whether it is within regular trading hours, cut on half days."""
        row = self.row_of(ts_ns)
        return row >= 0 and int(self.rows[row, RTH_OPEN_NS]) <= ts_ns < int(self.rows[row, RTH_CLOSE_NS])

    def close_ns(self, ts_ns: int) -> int | None:
        """When the session open at `ts_ns` closes; None when the exchange is closed."""
        row = self.row_of(ts_ns)
        return int(self.rows[row, CLOSE_NS]) if row >= 0 and ts_ns < int(self.rows[row, CLOSE_NS]) else None

    def regular_close_ns(self, ts_ns: int) -> int | None:
        """When the regular hours that `ts_ns` lies in end; None outside of them."""
        return int(self.rows[self.row_of(ts_ns), RTH_CLOSE_NS]) if self.is_regular(ts_ns) else None

    def next_open_ns(self, ts_ns: int) -> int | None:
        """When the first session after `ts_ns` opens; None beyond the last known day."""
        row = self.row_of(ts_ns) + 1
        return int(self.rows[row, OPEN_NS]) if row < len(self.rows) else None

    def trade_date(self, ts_ns: int) -> date | None:
        """The trade date of `row_of(ts_ns)`; None before the first known day."""
        row = self.row_of(ts_ns)
        return _from_yyyymmdd(int(self.rows[row, TRADE_DATE])) if row >= 0 else None

    def session_phase(self, ts_ns: int) -> SessionPhase:
        """The phase of the trading day at `ts_ns`."""
        if not self.is_open(ts_ns):
            return SessionPhase.CLOSED
        day = self.rows[self.row_of(ts_ns)]
        rth_open, rth_close = int(day[RTH_OPEN_NS]), int(day[RTH_CLOSE_NS])
        if ts_ns < rth_open:
            return SessionPhase.ASIA if ts_ns < int(day[OPEN_NS]) + _EUROPE_AFTER_OPEN_NS else SessionPhase.EUROPE
        if ts_ns >= rth_close:
            return SessionPhase.POST
        if ts_ns < rth_open + 30 * _MINUTE_NS:
            return SessionPhase.OPEN
        return SessionPhase.CLOSE if ts_ns >= rth_close - 30 * _MINUTE_NS else SessionPhase.MIDDAY


# ------------------------------------------------------------------------------------------------------------- schedule


def equity_hours() -> Hours:
    """Those of CME's equity index futures."""
    return shipped()["ES"].hours


def load_schedule(
    first_date: date, last_date: date, cache_dir: Path | None = None, hours: Hours | None = None
) -> Schedule:
    """The trading days from `first_date` to `last_date`, both included: int64 (n, 6).

    Building it imports pandas (about 1 s); with `cache_dir` the result is kept there as .npy, named after everything it
    depends on, and a damaged file is built again.

    Args:
        first_date: trade date.
        last_date: trade date.
        cache_dir: None builds it each time.
        hours: of the product; by default those of CME's equity index futures.

    Raises:
        UsageError: no trading day lies between the dates, or the library has no such calendar.
    """
    hours = equity_hours() if hours is None else hours
    if cache_dir is None:
        return _build_schedule(first_date, last_date, hours)
    library = version("pandas_market_calendars")
    of_hours = hashlib.sha256(repr(hours).encode()).hexdigest()[:12]
    path = cache_dir / f"sessions-{of_hours}-{first_date:%Y%m%d}-{last_date:%Y%m%d}-{library}-{_LAYOUT}.npy"
    try:
        rows: Schedule = np.load(path, allow_pickle=False)
        _check_schedule(rows)
    except (OSError, ValueError, EOFError, MemoryError, RecursionError, UsageError):
        rows = _build_schedule(first_date, last_date, hours)
        with suppress(OSError):  # without a cache the next start takes a second longer, no more
            cache_dir.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            np.save(content, rows)
            replace_file(path, [content.getvalue()])
    return rows


_Sessions = list[tuple[date, int, time]]
"""Trade date, when its session opens (ns), and the local time at which it closes."""


def _build_schedule(first_date: date, last_date: date, hours: Hours) -> Schedule:
    sessions = _library_sessions if hours.calendar else _weekday_sessions
    rows = [
        _row(trade_date, open_ns, closes, hours)
        for trade_date, open_ns, closes in sessions(first_date, last_date, hours)
        if trade_date not in hours.closed_days
    ]
    if not rows:
        raise UsageError(f"no trading day lies between {first_date} and {last_date}: name a wider range")
    return np.array(rows, np.int64)


def _row(trade_date: date, open_ns: int, closes: time, hours: Hours) -> tuple[int, ...]:
    close_ns = hours.at_ns(trade_date, closes)
    rth_open_ns = min(max(hours.at_ns(trade_date, hours.regular_open), open_ns), close_ns)
    rth_close_ns = min(max(hours.at_ns(trade_date, hours.regular_close), open_ns), close_ns)
    half_day = int(closes < hours.session_close)
    return open_ns, close_ns, rth_open_ns, rth_close_ns, _yyyymmdd(trade_date), half_day


def _weekday_sessions(first_date: date, last_date: date, hours: Hours) -> _Sessions:
    days = [first_date + timedelta(days=n) for n in range((last_date - first_date).days + 1)]
    before = timedelta(days=hours.opens_day_before)
    return [
        (day, hours.at_ns(day - before, hours.session_open), hours.session_close) for day in days if day.weekday() < 5
    ]


def _library_sessions(first_date: date, last_date: date, hours: Hours) -> _Sessions:
    import pandas_market_calendars

    try:
        calendar = pandas_market_calendars.get_calendar(hours.calendar)
    except RuntimeError:
        raise UsageError(
            f'{hours.calendar!r} is no calendar of pandas_market_calendars: name one of its calendars, or none ("") '
            "for every weekday"
        ) from None
    days = calendar.schedule(first_date, last_date)
    found: _Sessions = []
    for day, opened, closed in zip(days.index, days["market_open"], days["market_close"], strict=True):
        trade_date = day.date()
        closes = _close_override(trade_date, hours.calendar) or closed.tz_convert(hours.zone).time()
        if closes != time(0):  # else it is closed after all
            found.append((trade_date, int(opened.value), closes))
    return found


_MOURNING = {date(2018, 12, 5), date(2025, 1, 9)}  # national days of mourning: equity products closed at 08:30


def _close_override(trade_date: date, calendar: str) -> time | None:
    """Where the exchange's notices differ from the library: when the day closed; midnight: it did not open at all.

    On Good Friday, equity products trade (until 08:15) only when the employment report is published on it, which is
    the first Friday of a month; the library opens the other ones too, since 2022.
    """
    if calendar != _EQUITY:
        return None
    if trade_date in _MOURNING:
        return time(8, 30)
    if trade_date == easter(trade_date.year) - timedelta(days=2) and trade_date.day > 7:
        return time(0)
    return None


def _check_schedule(rows: Schedule) -> None:
    if rows.dtype != np.int64 or rows.ndim != 2 or rows.shape[1] != 6 or len(rows) == 0:
        raise UsageError(f"a schedule is an int64 array (n, 6) with n >= 1, not {rows.dtype} {rows.shape}")
    opens, closes = rows[:, OPEN_NS], rows[:, CLOSE_NS]
    if not (np.all(opens < closes) and np.all(closes[:-1] <= opens[1:])):
        raise UsageError("the schedule's sessions overlap or end before they begin: build it with load_schedule")


def _yyyymmdd(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


def _from_yyyymmdd(number: int) -> date:
    return date(number // 10_000, number // 100 % 100, number % 100)


# --------------------------------------------------------------------------------------------------------- macro events


@dataclass(frozen=True, slots=True)
class MacroEvents:
    """Scheduled announcements in order of time; parallel arrays of length k, which may be 0."""

    start_ns: NDArray[np.int64]
    impact: NDArray[np.float64]  # 0 … 1
    cluster_id: NDArray[np.int64]
    types: tuple[str, ...]  # "FOMC", "CPI", "NFP" …

    def __len__(self) -> int:
        return len(self.types)

    def ended(self, now_ns: int) -> str:
        """The UTC day of the last announcement, where that lies before today and none is left; "" otherwise."""
        last_ns = int(self.start_ns[-1]) if len(self) else now_ns
        last, today = iso_utc(last_ns)[:10], iso_utc(now_ns)[:10]
        return last if last < today else ""

    def type_near(self, ts_ns: int, within_ns: int) -> str:
        """The type of the announcement nearest in time; "" where none is that near."""
        if not self.types:
            return ""
        apart_ns = np.abs(self.start_ns - ts_ns)
        nearest = int(np.argmin(apart_ns))
        return self.types[nearest] if apart_ns[nearest] <= within_ns else ""


NO_EVENTS = MacroEvents(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.int64), ())

_COLUMNS = ("start_time", "type", "impact", "cluster_id")
FIRST_EVENT, LAST_EVENT = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_MAX_CLUSTER = 2**31


def load_macro_events(path: Path) -> MacroEvents:
    """Read macro_events.csv: start_time (ISO 8601; UTC unless it carries an offset), type, impact (0-1), cluster_id.

    Rows may be in any order and further columns are left alone.

    Raises:
        ConfigError: the file can't be read or a row is bad; the text names the line.
    """
    text = read_text(path, "macro events", "set windows.macro_events_csv, or leave it out")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise ConfigError(
                f"macro events {path}, line 1: no column {', '.join(missing)}; the header is {','.join(_COLUMNS)}"
            )
        rows = sorted(_event(path, reader.line_num, row) for row in reader)
    except csv.Error as error:
        raise ConfigError(f"macro events {path} is not a CSV file: {error}; write {','.join(_COLUMNS)}") from error
    if not rows:
        return NO_EVENTS
    starts, types, impacts, clusters = zip(*rows, strict=True)
    return MacroEvents(
        np.array(starts, np.int64), np.array(impacts, np.float64), np.array(clusters, np.int64), tuple(types)
    )


def _event(path: Path, line: int, row: dict[str, str | None]) -> tuple[int, str, float, int]:
    start, kind, impact, cluster = (row[name] for name in _COLUMNS)
    try:
        if not (start and kind and impact and cluster):
            raise ValueError("a value is missing")
        moment = datetime.fromisoformat(start)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        weight = float(impact)
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"impact {impact} is not between 0 and 1")
        if not FIRST_EVENT <= moment <= LAST_EVENT:
            raise ValueError(f"the year of {start} is not one in which this is traded")
        if not kind.isprintable():
            raise ValueError("the type has a character that is not printable")
        microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        return microseconds * 1_000, kind, weight, _cluster(cluster)
    except ValueError as error:
        raise ConfigError(f"macro events {path}, line {line}: {error}; correct or remove the row") from error


def _cluster(text: str) -> int:
    cluster = int(text)
    if abs(cluster) > _MAX_CLUSTER:
        raise ValueError(f"cluster_id is beyond {_MAX_CLUSTER:,}")
    return cluster
