"""Times in the server's reports: possible ones are kept, the others replaced by now, and the clock is named once."""

import pytest
from actor_parts import NOW, ActorParts
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.server_clock import SLACK_NS, ServerClock

HOUR = 3600 * NS_PER_S
SENT = NOW - 60 * NS_PER_S


def clock_of(parts, *, foreign=True):
    return ServerClock(parts.state, parts.ports.alert, foreign=foreign)


@pytest.mark.parametrize("told", [SENT, NOW, SENT - SLACK_NS, NOW + SLACK_NS])
def test_a_time_that_is_possible_is_kept(told):
    parts = ActorParts()
    assert clock_of(parts).received(told, SENT) == told
    assert parts.alerts == []


@pytest.mark.parametrize("off", [HOUR, -HOUR])
def test_a_clock_that_is_off_is_named_once_and_its_times_are_not_used(off):
    parts = ActorParts()
    clock = clock_of(parts)
    for _ in range(3):
        assert clock.received(NOW + off, SENT) == NOW
    assert parts.alert_codes == ["server_clock"]
    assert parts.alerts[0].context == {"ahead_s": off / NS_PER_S}
    assert clock.listed(NOW + off - 10 * NS_PER_S) == NOW - 10 * NS_PER_S  # lists are of the same clock


@given(st.integers(0, 2**63 - 1), st.integers(NOW - HOUR, NOW))
def test_no_time_lies_in_the_future_or_before_its_order(told, sent):
    clock = clock_of(ActorParts())
    assert sent - SLACK_NS <= clock.received(told, sent) <= NOW + SLACK_NS
    assert clock.listed(told) <= NOW + SLACK_NS


def test_without_a_time_a_report_is_of_now():
    assert clock_of(ActorParts()).received(0, SENT) == NOW


def test_event_times_stay_as_they_are():
    parts = ActorParts()
    clock = clock_of(parts, foreign=False)
    assert (clock.received(NOW + HOUR, SENT), clock.listed(NOW + HOUR)) == (NOW + HOUR, NOW + HOUR)
    assert parts.alerts == []


def test_a_clock_that_was_set_is_right_again():
    clock = clock_of(ActorParts())
    clock.received(NOW + HOUR, SENT)
    clock.received(NOW, SENT)
    assert (clock.offset_ns, clock.listed(SENT)) == (0, SENT)
