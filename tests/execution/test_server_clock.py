"""A time that is not possible is not believed, whichever way and however far the server's clock is off."""

import pytest
from actor_parts import NOW, ActorParts
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.server_clock import SLACK_NS, ServerClock
from mia_daemon.records import Priority

SENT = NOW - 60 * NS_PER_S
ANY_TIME = st.integers(0, 2**63 - 1) | st.integers(NOW - 2 * SLACK_NS, NOW + 2 * SLACK_NS)
HOUR = 3600 * NS_PER_S


@pytest.fixture
def parts():
    return ActorParts()


@pytest.fixture
def clock(parts):
    return ServerClock(parts.state, parts.ports.alert, foreign=True)


def clock_of(parts, *, foreign):
    return ServerClock(parts.state, parts.ports.alert, foreign=foreign)


# A report just received.


@pytest.mark.parametrize("told_ns", [SENT - SLACK_NS, SENT, NOW - 1, NOW, NOW + SLACK_NS])
def test_a_time_since_the_order_was_sent_is_kept(parts, clock, told_ns):
    assert clock.received(told_ns, SENT) == told_ns
    assert (clock.offset_ns, parts.alerts) == (0, [])


@pytest.mark.parametrize("told_ns", [SENT - SLACK_NS - 1, NOW + SLACK_NS + 1, NOW + HOUR, NOW - HOUR, 1, 2**62])
def test_a_time_before_the_order_or_in_the_future_is_now(clock, told_ns):
    assert clock.received(told_ns, SENT) == NOW
    assert clock.offset_ns == told_ns - NOW


@pytest.mark.parametrize("sent_ns", [0, SENT])
def test_a_report_without_a_time_is_of_now_and_tells_nothing_of_the_clock(parts, clock, sent_ns):
    clock.received(NOW + HOUR, SENT)
    parts.alerts.clear()
    assert clock.received(0, sent_ns) == NOW
    assert (clock.offset_ns, parts.alerts) == (HOUR, [])


def test_of_an_order_whose_sending_is_not_known_any_past_time_is_possible(clock):
    assert [clock.received(told_ns, 0) for told_ns in (1, NOW - 24 * HOUR, NOW)] == [1, NOW - 24 * HOUR, NOW]


@given(ANY_TIME, st.integers(0, NOW))
def test_whatever_time_is_told_a_report_is_of_after_its_order_and_not_of_the_future(told_ns, sent_ns):
    clock = clock_of(ActorParts(), foreign=True)
    assert sent_ns - SLACK_NS <= clock.received(told_ns, sent_ns) <= NOW + SLACK_NS


def test_now_is_the_newest_events_time_and_what_has_passed_since_by_our_clock(parts, clock):
    """A quiet market does not make what happens meanwhile a thing of the future."""
    own = [5 * NS_PER_S]
    parts.state.own_clock = lambda: own[0]
    parts.state.heard_ns = own[0]
    own[0] += 100 * NS_PER_S
    later_ns = NOW + 100 * NS_PER_S
    assert clock.received(later_ns, SENT) == later_ns
    assert clock.received(later_ns + HOUR, SENT) == later_ns


def test_before_the_first_event_there_is_nothing_to_compare_with(parts, clock):
    parts.state.heard_ns = 0
    assert (clock.received(NOW + HOUR, 0), clock.listed(NOW + HOUR)) == (NOW + HOUR, NOW + HOUR)
    assert (clock.received(0, 0), clock.offset_ns, parts.alerts) == (NOW, 0, [])


@given(ANY_TIME, st.integers(0, NOW))
def test_times_of_a_broker_without_a_clock_of_its_own_are_event_times_and_stay(told_ns, sent_ns):
    parts = ActorParts()
    clock = clock_of(parts, foreign=False)
    assert (clock.received(told_ns, sent_ns), clock.listed(told_ns)) == (told_ns, told_ns)
    assert (clock.offset_ns, parts.alerts) == (0, [])


# The alert.


@pytest.mark.parametrize(("ahead_s", "said"), [(3600, "+3600 s"), (-3600, "-3600 s"), (31, "+31 s")])
def test_a_clock_that_is_wrong_is_told_once(parts, clock, ahead_s, said):
    for after in range(3):
        parts.after(after)
        clock.received(NOW + ahead_s * NS_PER_S + after, NOW)
    (alert,) = parts.alerts
    assert (alert.code, alert.priority, alert.context) == ("server_clock", Priority.ERROR, {"ahead_s": ahead_s})
    assert said in alert.text


def test_a_message_that_is_only_late_is_no_alert(parts, clock):
    clock.received(NOW - 30 * NS_PER_S, NOW)
    assert (parts.alerts, clock.offset_ns) == ([], -30 * NS_PER_S)


def test_a_clock_that_is_set_right_is_believed_again(clock):
    clock.received(NOW + HOUR, SENT)
    clock.received(NOW, SENT)
    assert clock.offset_ns == 0
    assert clock.listed(NOW - HOUR) == NOW - HOUR


# Lists of what was.


@pytest.mark.parametrize("ahead_ns", [HOUR, -HOUR, 0])
def test_times_in_a_list_are_moved_by_as_much_as_the_clock_was_last_seen_off(clock, ahead_ns):
    """A fill of before a restart is long past and stays so."""
    clock.received(NOW + ahead_ns, NOW)
    assert clock.listed(NOW - 24 * HOUR + ahead_ns) == NOW - 24 * HOUR
    assert clock.listed(0) == 0


@given(ANY_TIME, ANY_TIME)
def test_nothing_in_a_list_is_of_the_future(told_ns, listed_ns):
    clock = clock_of(ActorParts(), foreign=True)
    clock.received(told_ns, SENT)
    assert clock.listed(listed_ns) <= NOW + SLACK_NS
