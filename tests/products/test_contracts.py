"""The contract in force on a day: without a gap, and with CME's own roll dates."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.errors import UsageError
from mia_daemon.products.contracts import contract_dates, contract_on, contract_symbol, last_trading
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import CLOSE_NS, TradingCalendar, equity_hours

PATTERN = "{root}{month}{year}_FUT_CME"


@pytest.mark.parametrize(
    ("day", "symbol", "rolls", "following"),
    [
        (date(2026, 11, 23), "ESZ26_FUT_CME", date(2026, 12, 14), "ESH27_FUT_CME"),
        (date(2026, 12, 13), "ESZ26_FUT_CME", date(2026, 12, 14), "ESH27_FUT_CME"),
        (date(2026, 12, 14), "ESH27_FUT_CME", date(2027, 3, 15), "ESM27_FUT_CME"),
        (date(2026, 12, 31), "ESH27_FUT_CME", date(2027, 3, 15), "ESM27_FUT_CME"),
        (date(2027, 1, 1), "ESH27_FUT_CME", date(2027, 3, 15), "ESM27_FUT_CME"),
        (date(2026, 6, 15), "ESU26_FUT_CME", date(2026, 9, 14), "ESZ26_FUT_CME"),
    ],
)
def test_the_contract_in_force(day, symbol, rolls, following):
    found = contract_on(day, PATTERN, "ES", 4)
    assert (found.symbol, found.rolls, found.following) == (symbol, rolls, following)


@given(st.dates(date(2015, 1, 1), date(2095, 1, 1)), st.integers(0, 60), st.sampled_from(["ES", "NQ", "MES", "MNQ"]))
def test_one_contract_follows_the_other(day, before, root):
    """On its roll date the following contract is in force, the day before it is not; none is traded after expiry."""
    found = contract_on(day, PATTERN, root, before)
    assert found.rolls > day
    assert contract_on(found.rolls - timedelta(days=1), PATTERN, root, before) == found
    assert contract_on(found.rolls, PATTERN, root, before).symbol == found.following
    dates = contract_dates(instrument(found.symbol), day)
    assert dates.expiry >= day or before == 0
    if before == 4:
        assert dates.roll == found.rolls


def test_any_spelling_can_be_made():
    assert contract_symbol("{root}{month}{year}-CME", "MNQ", 2031, 9) == "MNQU31-CME"
    for pattern, root, month in [(PATTERN, "AAPL", 12), (PATTERN, "ES", 11), ("{month}{year}{root}", "ES", 12)]:
        with pytest.raises(UsageError):
            contract_symbol(pattern, root, 2026, month)


@pytest.mark.parametrize(
    ("utc", "day"),
    [
        ("2026-12-13T22:59:59", date(2026, 12, 13)),  # Sunday 16:59 in Chicago
        ("2026-12-13T23:00:00", date(2026, 12, 14)),  # the session of Monday opens
        ("2026-06-14T22:00:00", date(2026, 6, 15)),  # summer time
        ("2026-06-15T21:59:59", date(2026, 6, 15)),
    ],
)
def test_a_trade_date_begins_the_evening_before(utc, day):
    assert equity_hours().trade_date_at(int(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp() * 1e9)) == day


@pytest.mark.parametrize(
    ("symbol", "today", "roll", "expiry"),
    [
        ("ESZ26_FUT_CME", date(2026, 11, 22), date(2026, 12, 14), date(2026, 12, 18)),
        ("MNQU21-CME", date(2026, 11, 22), date(2021, 9, 13), date(2021, 9, 17)),
        ("NQH7", date(2026, 11, 22), date(2027, 3, 15), date(2027, 3, 19)),
        ("ESM6", date(2026, 1, 5), date(2026, 6, 15), date(2026, 6, 18)),  # Juneteenth is on the third Friday
        ("ESH0", date(2029, 12, 1), date(2030, 3, 11), date(2030, 3, 15)),
        ("ESZ9", date(2030, 1, 2), date(2029, 12, 17), date(2029, 12, 21)),
    ],
)
def test_index_contracts_roll_on_the_monday_before_they_expire(symbol, today, roll, expiry):
    dates = contract_dates(instrument(symbol), today)
    assert (dates.roll, dates.expiry) == (roll, expiry)


# ---------------------------------------------------------------------------------------------- until when it is traded


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture(scope="module")
def calendar():
    return TradingCalendar.load(date(2026, 10, 1), date(2027, 1, 31))


def test_a_contract_named_by_its_symbol_is_traded_until_it_expires(calendar):
    """At 08:30 in Chicago on the third Friday of December."""
    ends = last_trading(instrument("ESZ26_FUT_CME"), at("2026-11-23T15:00"), calendar, rolls=False)
    assert ends.entries_ns == ends.positions_ns == at("2026-12-18T14:30")


def test_a_root_is_traded_until_the_last_session_before_the_roll_closes(calendar):
    """CME's roll Monday is 14 December; its session opens on Sunday, so Friday's at 16:00 is the last."""
    ends = last_trading(instrument("ESZ26_FUT_CME"), at("2026-11-23T15:00"), calendar, rolls=True)
    assert ends.entries_ns == ends.positions_ns == at("2026-12-11T22:00")


def test_a_roll_with_a_position_ends_only_entries(calendar):
    ends = last_trading(
        instrument("ESZ26_FUT_CME"), at("2026-11-23T15:00"), calendar, rolls=True, roll_with_position=True
    )
    assert (ends.entries_ns, ends.positions_ns) == (at("2026-12-11T22:00"), at("2026-12-18T14:30"))


def test_the_decade_of_a_one_digit_year_follows_from_the_time(calendar):
    ends = last_trading(instrument("MNQU1-CME"), at("2021-06-01T15:00"), calendar, rolls=False)
    assert ends.positions_ns == at("2021-09-17T13:30")


@given(st.dates(date(2026, 10, 5), date(2027, 1, 15)), st.integers(0, 60))
@settings(max_examples=60)
def test_the_contract_in_force_is_traded_until_its_roll(calendar, day, before):
    """The end lies ahead, and the session in which the next contract is in force has not begun."""
    found = contract_on(day, PATTERN, "ES", before)
    noon_ns = int(datetime(day.year, day.month, day.day, 18, tzinfo=UTC).timestamp()) * 10**9
    ends = last_trading(instrument(found.symbol), noon_ns, calendar, rolls=True, roll_days=before)
    session = calendar.schedule(day, day)
    if len(session):
        assert ends.entries_ns >= min(
            int(session[0, CLOSE_NS]), at(f"{contract_dates(instrument(found.symbol), day).expiry}T13:30")
        )
    assert equity_hours().trade_date_at(ends.entries_ns - 1) < found.rolls


def test_nothing_is_held_into_first_notice():
    """A long gold position can be assigned a delivery from 30 November on: the session of the 27th is the last."""
    calendar = TradingCalendar.load(date(2026, 10, 1), date(2027, 1, 31), hours=instrument("GCZ26").product.hours)
    ends = last_trading(instrument("GCZ26"), at("2026-11-10T15:00"), calendar, rolls=False)
    assert ends.entries_ns == ends.positions_ns == at("2026-11-27T19:45")
