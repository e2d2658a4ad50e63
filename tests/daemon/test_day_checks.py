"""What becomes doubtful while the daemon runs for days."""

from datetime import UTC, datetime

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.daemon.day_checks import DayChecks
from mia_daemon.products.trading_calendar import NO_EVENTS, MacroEvents, TradingCalendar

DAY = 86_400 * NS_PER_S
TUESDAY = int(datetime(2026, 11, 24, 15, tzinfo=UTC).timestamp()) * NS_PER_S
SATURDAY = TUESDAY + 4 * DAY


def announced(ts_ns):
    return MacroEvents(np.array([ts_ns]), np.array([0.9]), np.array([1]), ("FOMC",))


@pytest.fixture(scope="module")
def calendar(tmp_path_factory):
    return TradingCalendar.load(cache_dir=tmp_path_factory.mktemp("cache"))


class Looks:
    def __init__(self, calendar, events=NO_EVENTS):
        self.raised = []
        self.synchronized = True
        self.checks = DayChecks(events, calendar, self.raised.append, lambda: self.synchronized)

    def at(self, ts_ns):
        """The codes of the alerts of a look."""
        before = len(self.raised)
        self.checks.look(ts_ns)
        return [alert.code for alert in self.raised[before:]]


def test_announcements_that_have_ended_are_an_alert_at_the_start_and_once_each_trading_day(calendar):
    looks = Looks(calendar, announced(TUESDAY - 2 * DAY))
    assert looks.at(TUESDAY) == ["macro_events_ended"]
    assert "2026-11-22" in looks.raised[0].text
    assert looks.at(TUESDAY + NS_PER_S) == []
    assert looks.at(TUESDAY + DAY) == ["macro_events_ended"]
    assert looks.at(TUESDAY + DAY + NS_PER_S) == []


def test_they_are_looked_at_too_where_the_start_is_on_a_day_without_trading(calendar):
    looks = Looks(calendar, announced(TUESDAY))
    assert looks.at(SATURDAY) == ["macro_events_ended"]
    assert looks.at(SATURDAY + NS_PER_S) == []


def test_announcements_that_end_while_it_runs_are_noticed_the_day_after(calendar):
    looks = Looks(calendar, announced(TUESDAY))
    assert looks.at(TUESDAY - DAY) + looks.at(TUESDAY + NS_PER_S) == []
    assert looks.at(TUESDAY + DAY) == ["macro_events_ended"]


def test_without_announcements_there_is_nothing_to_report(calendar):
    assert Looks(calendar).at(TUESDAY) == []


def test_a_clock_that_loses_its_source_is_an_alert_and_one_when_it_has_one_again(calendar):
    looks = Looks(calendar)
    looks.synchronized = False
    assert looks.at(TUESDAY) == ["clock_unsynchronized"]
    looks.synchronized = None
    assert looks.at(TUESDAY + NS_PER_S) == []
    looks.synchronized = False
    assert looks.at(TUESDAY + 2 * NS_PER_S) == []
    looks.synchronized = True
    assert looks.at(TUESDAY + 3 * NS_PER_S) == ["clock_synchronized"]
