import warnings
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from mia_daemon.errors import ConfigError, UsageError
from mia_daemon.products import trading_calendar as tc
from mia_daemon.products.trading_calendar import SessionPhase, TradingCalendar

CHICAGO = ZoneInfo("America/Chicago")

NS = 1_000_000_000


@pytest.fixture(scope="module")
def calendar() -> TradingCalendar:
    return TradingCalendar.load()


def ns(day: str, at: str = "00:00") -> int:
    """Nanoseconds of a Chicago date and time."""
    return int(datetime.fromisoformat(f"{day}T{at}").replace(tzinfo=CHICAGO).timestamp()) * NS


def row(calendar: TradingCalendar, day: str) -> np.ndarray:
    (only,) = calendar.schedule(date.fromisoformat(day), date.fromisoformat(day))
    return only


def test_a_full_day_runs_from_17_to_16_with_regular_hours_inside(calendar):
    got = row(calendar, "2026-11-23").tolist()
    opened, closed = ns("2026-11-22", "17:00"), ns("2026-11-23", "16:00")
    assert got == [opened, closed, ns("2026-11-23", "08:30"), ns("2026-11-23", "15:15"), 20261123, 0]


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("2026-11-26", "12:00"),  # Thanksgiving
        ("2026-11-27", "12:15"),  # the day after
        ("2024-07-03", "12:15"),
        ("2026-07-03", "12:00"),  # Independence Day observed
        ("2025-12-24", "12:15"),
        ("2024-01-15", "12:00"),  # Martin Luther King Day
        ("2024-06-19", "12:00"),  # Juneteenth
        ("2021-04-02", "08:15"),  # Good Friday with an employment report
        ("2023-04-07", "08:15"),
        ("2026-04-03", "08:15"),
        ("2018-12-05", "08:30"),  # days of mourning
        ("2025-01-09", "08:30"),
    ],
)
def test_known_early_closes_cut_regular_hours_too(calendar, day, close):
    got = row(calendar, day)
    assert got[1] == ns(day, close)
    assert got[5] == 1
    assert got[3] == got[1]
    assert got[2] == min(ns(day, "08:30"), got[1])


@pytest.mark.parametrize(
    "day",
    ["2024-12-25", "2025-01-01", "2021-12-24", "2022-12-26", "2024-03-29", "2025-04-18", "2022-04-15", "2026-11-22"],
)
def test_known_holidays_do_not_trade(calendar, day):
    day_ = date.fromisoformat(day)
    assert len(calendar.schedule(day_, day_)) == 0
    assert not calendar.is_open(ns(day, "10:00"))


def test_it_agrees_with_the_library_but_for_the_named_exceptions(calendar):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandas_market_calendars

        library = pandas_market_calendars.get_calendar("CME Globex Equity").schedule("2015-01-01", "2026-12-31")
    theirs = {
        day.date(): (opened.value, closed.value)
        for day, opened, closed in zip(library.index, library["market_open"], library["market_close"], strict=True)
    }
    rows = calendar.schedule(date(2015, 1, 1), date(2026, 12, 31))
    ours = {tc._from_yyyymmdd(int(r[4])): (int(r[0]), int(r[1])) for r in rows}
    different = {day for day in theirs.keys() | ours.keys() if theirs.get(day) != ours.get(day)}
    assert {date(2018, 12, 5), date(2025, 1, 9)} <= different
    rest = different - {date(2018, 12, 5), date(2025, 1, 9)}
    assert all(day == tc.easter(day.year) - timedelta(days=2) and day.day > 7 for day in rest)
    assert date(2024, 3, 29) in rest


def test_clock_changes_move_utc_and_not_chicago(calendar):
    before, after = row(calendar, "2026-03-06"), row(calendar, "2026-03-09")
    assert datetime.fromtimestamp(before[0] / NS, UTC).hour == 23
    assert datetime.fromtimestamp(after[0] / NS, UTC).hour == 22
    for day in calendar.schedule(date(2015, 1, 1), date(2030, 12, 31)):
        assert datetime.fromtimestamp(day[0] / NS, CHICAGO).time() == time(17)
        utc_date = datetime.fromtimestamp(day[1] / NS, UTC)
        assert int(f"{utc_date:%Y%m%d}") == day[4]  # what kernels/level.py relies on


def test_open_and_closed_at_the_edges(calendar):
    opened, closed = ns("2026-11-22", "17:00"), ns("2026-11-23", "16:00")
    assert [calendar.is_open(t) for t in (opened - 1, opened, closed - 1, closed)] == [False, True, True, False]
    rth_open, rth_close = ns("2026-11-23", "08:30"), ns("2026-11-23", "15:15")
    regular = [calendar.is_regular(t) for t in (rth_open - 1, rth_open, rth_close - 1, rth_close)]
    assert regular == [False, True, True, False]
    assert calendar.close_ns(opened) == closed
    assert calendar.close_ns(closed) is None
    assert calendar.regular_close_ns(rth_open) == rth_close
    assert calendar.regular_close_ns(rth_close) is None
    assert calendar.next_open_ns(closed) == ns("2026-11-23", "17:00")
    assert calendar.trade_date(opened) == date(2026, 11, 23)
    assert calendar.trade_date(closed) == date(2026, 11, 23)


@pytest.mark.parametrize(
    ("day", "at", "phase"),
    [
        ("2026-11-22", "16:59", SessionPhase.CLOSED),
        ("2026-11-22", "17:00", SessionPhase.ASIA),
        ("2026-11-23", "01:59", SessionPhase.ASIA),
        ("2026-11-23", "02:00", SessionPhase.EUROPE),
        ("2026-11-23", "08:30", SessionPhase.OPEN),
        ("2026-11-23", "09:00", SessionPhase.MIDDAY),
        ("2026-11-23", "14:44", SessionPhase.MIDDAY),
        ("2026-11-23", "14:45", SessionPhase.CLOSE),
        ("2026-11-23", "15:15", SessionPhase.POST),
        ("2026-11-23", "16:00", SessionPhase.CLOSED),
        ("2026-11-27", "11:44", SessionPhase.MIDDAY),
        ("2026-11-27", "11:45", SessionPhase.CLOSE),  # half day
        ("2026-04-03", "08:14", SessionPhase.EUROPE),  # Good Friday closes before regular hours
        ("2026-11-21", "12:00", SessionPhase.CLOSED),  # Saturday
    ],
)
def test_session_phases(calendar, day, at, phase):
    assert calendar.session_phase(ns(day, at)) is phase


def test_beyond_the_known_days_everything_is_closed(calendar):
    for t in (0, ns("2014-12-30", "10:00"), ns("2036-02-05", "10:00")):
        assert not calendar.is_open(t)
        assert not calendar.is_regular(t)
    assert calendar.row_of(0) == -1
    assert calendar.trade_date(0) is None
    assert calendar.next_open_ns(ns("2036-02-05")) is None
    assert calendar.next_open_ns(0) == int(calendar.rows[0, 0])


def test_a_cached_schedule_is_the_same_and_a_damaged_one_is_built_anew(tmp_path):
    first, last = date(2026, 1, 1), date(2026, 3, 1)
    built = tc.load_schedule(first, last, tmp_path)
    (file,) = tmp_path.iterdir()
    np.testing.assert_array_equal(np.load(file), built)
    np.save(file, built + 1)  # proof that the file is what is read
    np.testing.assert_array_equal(tc.load_schedule(first, last, tmp_path), built + 1)
    for damage in (b"", b"garbage", file.read_bytes()[:-100]):
        file.write_bytes(damage)
        np.testing.assert_array_equal(tc.load_schedule(first, last, tmp_path), built)
    assert list(tmp_path.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    rows = tc.load_schedule(date(2026, 1, 1), date(2026, 3, 1), tmp_path / "file" / "cache")
    assert len(rows) > 30


def test_what_is_no_schedule_is_refused():
    good = TradingCalendar.load(date(2026, 1, 1), date(2026, 3, 1)).rows.copy()
    for bad in (good[:0], good[::-1], good.astype(np.float64), good[:, :5]):
        with pytest.raises(UsageError):
            TradingCalendar(bad.copy())
    with pytest.raises(UsageError, match="no trading day"):
        tc.load_schedule(date(2026, 11, 21), date(2026, 11, 22))


HEADER = "start_time,type,impact,cluster_id\n"


def test_macro_events_are_read_in_order_of_time(tmp_path):
    file = tmp_path / "macro_events.csv"
    file.write_text(
        HEADER
        + "2026-12-09T19:00:00Z,FOMC,1.0,3\n"
        + "2026-11-24T07:30:00.000001-06:00,CPI,0.8,-1\n"
        + "2026-12-04T13:30:00,NFP,0,2\n"
    )
    events = tc.load_macro_events(file)
    assert len(events) == 3
    assert events.types == ("CPI", "NFP", "FOMC")
    assert events.start_ns[0] == ns("2026-11-24", "07:30") + 1000
    assert events.start_ns[1] == int(datetime(2026, 12, 4, 13, 30, tzinfo=UTC).timestamp()) * NS
    assert events.impact.tolist() == [0.8, 0.0, 1.0]
    assert events.cluster_id.tolist() == [-1, 2, 3]


def test_a_file_without_rows_has_no_events(tmp_path):
    file = tmp_path / "macro_events.csv"
    file.write_text(HEADER)
    assert len(tc.load_macro_events(file)) == 0


@pytest.mark.parametrize(
    "row",
    [
        "yesterday,FOMC,0.9,1",
        "2026-12-09T19:00:00Z,FOMC,high,1",
        "2026-12-09T19:00:00Z,FOMC,1.1,1",
        "2026-12-09T19:00:00Z,FOMC,nan,1",
        "2026-12-09T19:00:00Z,FOMC,0.5,one",
        "2026-12-09T19:00:00Z,,0.5,1",
        "2026-12-09T19:00:00Z,FOMC,0.5",
        "9999-12-31T23:59:59Z,FOMC,0.5,1",
        "9999-12-31T23:59:59-23:59,FOMC,0.5,1",
        "0001-01-01T00:00:00+23:59,FOMC,0.5,1",
        "2026-12-09T19:00:00Z,FOMC,1e999,1",
        "2026-12-09T19:00:00Z,FOMC,0.5,99999999999999999999",
        "2026-12-09T19:00:00Z,FOMC,0.5," + "9" * 5000,
        "2026-12-09T19:00:00Z,FO\x1bMC,0.5,1",
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row):
    file = tmp_path / "macro_events.csv"
    file.write_text(HEADER + "2026-12-04T13:30:00Z,NFP,0.9,2\n" + row + "\n")
    with pytest.raises(ConfigError, match="line 3"):
        tc.load_macro_events(file)


def test_files_that_are_no_event_tables_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        tc.load_macro_events(tmp_path / "absent.csv")
    file = tmp_path / "macro_events.csv"
    file.write_text("date,time,event\n2026-12-09,14:00,FOMC\n")
    with pytest.raises(ConfigError, match="no column start_time, type, impact, cluster_id"):
        tc.load_macro_events(file)
    file.write_bytes(HEADER.encode() + b"\xff\xfe,FOMC,1,1\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        tc.load_macro_events(file)
    file.write_bytes(HEADER.encode() + b"x" * (1 << 23))
    with pytest.raises(ConfigError, match="has more than 4 MiB"):
        tc.load_macro_events(file)
    file.write_bytes(HEADER.encode() + b'"' + b"x" * 200_000)
    with pytest.raises(ConfigError, match="is not a CSV file"):
        tc.load_macro_events(file)
