"""The contract in force on a day: without a gap, and with CME's own roll dates."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.contracts import contract_on, contract_symbol, trade_date_at
from mia_daemon.errors import UsageError
from mia_daemon.trading_calendar import contract_dates

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
@settings(deadline=None)
def test_one_contract_follows_the_other(day, before, root):
    """On its roll date the following contract is in force, the day before it is not; none is traded after expiry."""
    found = contract_on(day, PATTERN, root, before)
    assert found.rolls > day
    assert contract_on(found.rolls - timedelta(days=1), PATTERN, root, before) == found
    assert contract_on(found.rolls, PATTERN, root, before).symbol == found.following
    dates = contract_dates(found.symbol, day)
    assert dates.expiry >= day or before == 0
    if before == 4:
        assert dates.roll == found.rolls


def test_any_spelling_can_be_made():
    assert contract_symbol("{root}{month}{year}-CME", "MNQ", 2031, 9) == "MNQU31-CME"
    for pattern, root, month in [(PATTERN, "CL", 12), (PATTERN, "ES", 11), ("{month}{year}{root}", "ES", 12)]:
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
    assert trade_date_at(int(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp() * 1e9)) == day
