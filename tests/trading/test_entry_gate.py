"""Nothing is opened on the past, nor on the future, nor where the trade windows refuse."""

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import EventFlag, FeatureWindow, empty_events
from mia_daemon.risk.codes import ALLOWED, RiskCode, deny
from mia_daemon.trading.entry_gate import EntryGate

NOW = 1_790_000_000 * NS_PER_S


class Windows:
    """Answers each question with the same verdict, and keeps the times it was asked about."""

    def __init__(self, verdict=ALLOWED):
        self.verdict = verdict
        self.asked = []

    def check(self, ts_ns):
        self.asked.append(ts_ns)
        return self.verdict


def window(ahead_s):
    """A window whose last event is so far ahead of its arrival."""
    events = empty_events(1)
    events["recv_ns"] = NOW
    return FeatureWindow(events, ts_ns=NOW + round(ahead_s * NS_PER_S))


@pytest.mark.parametrize(
    ("ahead_s", "code"),
    [
        (2.0, RiskCode.OK),
        (2.001, RiskCode.CLOCK_SKEW),
        (-10.0, RiskCode.OK),
        (-10.001, RiskCode.STALE_PRICE),
    ],
)
def test_nothing_is_opened_on_an_event_from_the_future(ahead_s, code):
    gate = EntryGate(Windows(), 10 * NS_PER_S, 2.0 * NS_PER_S)
    assert gate.check(window(ahead_s)).code is code


def test_a_feed_with_a_time_of_its_own_has_no_age():
    windows = Windows()
    assert EntryGate(windows).check(window(-1e6)).allowed
    assert windows.asked == [NOW - 10**15]


@pytest.mark.parametrize("max_age_ns", [None, 10 * NS_PER_S])
def test_nothing_is_opened_on_what_is_read_while_the_feed_catches_up(max_age_ns):
    """Not even where event time is no real time, so that the age of an event says nothing."""
    gate, late = EntryGate(Windows(), max_age_ns), window(0.0)
    assert gate.check(late).allowed
    late.events["flags"] = EventFlag.CATCHING_UP
    assert gate.check(late).code is RiskCode.STALE_PRICE


def test_the_windows_are_asked_about_the_moment_of_the_last_event():
    denial = deny(RiskCode.MARKET_CLOSED)
    assert EntryGate(Windows(denial), 10 * NS_PER_S, 2.0 * NS_PER_S).check(window(0.0)) is denial
