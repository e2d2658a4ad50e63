"""No event is later than possible, none is lost, and a server with a time of its own keeps it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NEVER_NS, NS_PER_S
from mia_daemon.feed.event_times import RUN_AHEAD_NS, UNDECIDED_NS, EventTimes
from mia_daemon.records import EventKind, empty_events

NOW = 1_790_000_000 * NS_PER_S
SLACK = 3 * NS_PER_S
HOUR = 3600.0


class Stream:
    """A stream received second by second, by our clock, and what was reported."""

    def __init__(self, *, own_time=False):
        self.reports = []
        self.times = EventTimes(SLACK, lambda *report: self.reports.append(report), own_time=own_time)
        self.sent = 0

    def receive(self, at_s, *ahead_s, wall_s=None, more=False):
        """Events that many seconds ahead of `at_s`, received then; how far ahead of it they are taken to be."""
        events = empty_events(len(ahead_s))
        events["kind"] = EventKind.TRADE
        events["count"] = np.arange(self.sent, self.sent + len(ahead_s))
        self.sent += len(ahead_s)
        events["ts_ns"] = [NOW + round(at_s * NS_PER_S) + round(ahead * NS_PER_S) for ahead in ahead_s]
        recv_ns = NOW + round((at_s if wall_s is None else wall_s) * NS_PER_S)
        events["recv_ns"] = recv_ns
        taken = self.times.check(events, recv_ns, round(at_s * NS_PER_S) + 77, more=more)
        self.taken = taken["count"].tolist()
        return ((taken["ts_ns"] - NOW) / NS_PER_S - at_s).round(6).tolist()


def test_possible_times_are_left_alone_and_nothing_is_reported():
    stream = Stream()
    assert stream.receive(0, -HOUR, -0.1, 0.0, 2.9, 3.0) == [-HOUR, -0.1, 0.0, 2.9, 3.0]
    assert stream.receive(1, -1.79e9) == [-1.79e9]
    assert stream.reports == []


@pytest.mark.parametrize("own_time", [False, True])
@pytest.mark.parametrize("ahead", [3.001, 2 * HOUR, 24 * HOUR, 200 * 365 * 24 * HOUR])
def test_an_event_from_the_future_is_taken_as_far_ahead_as_is_possible_and_freezes_nothing(ahead, own_time):
    stream = Stream(own_time=own_time)
    stream.receive(0, -0.1)
    assert stream.receive(1, ahead) == [3.0]
    assert stream.reports == [(0, round(ahead * NS_PER_S), "such events are given the latest possible time")]
    assert stream.receive(2, -0.1) == [-0.1]
    assert len(stream.reports) == 1


def test_one_that_possible_events_follow_takes_the_time_before_it():
    stream = Stream()
    assert stream.receive(0, HOUR, -3.0, HOUR, HOUR, -2.0, -2.5, HOUR, -1.0, HOUR) == [
        -3.0, -3.0, -3.0, -3.0, -2.0, -2.5, -2.0, -1.0, 3.0
    ]  # fmt: skip
    assert stream.receive(1, -5.0, HOUR, more=True) == [-5.0, -5.0]  # more of the file is to come
    assert stream.receive(1, HOUR, more=True) == [3.0]


def test_a_clock_that_is_set_wrong_stays_clamped_for_as_long_as_it_is():
    """Every event two hours ahead, from one moment on, at a second a second."""
    stream = Stream(own_time=True)
    stream.receive(0, -0.1)
    for second in range(1, 300):
        assert stream.receive(second, 2 * HOUR) == [3.0]
    assert stream.receive(300, -0.1) == [-0.1]


def test_times_that_are_out_of_their_mind_one_after_the_other_stay_clamped():
    stream = Stream(own_time=True)
    stream.receive(0, -0.1)
    for second in range(1, 60):
        assert stream.receive(second, HOUR * second, HOUR * second**2) == [3.0, 3.0]


def test_our_clock_set_back_freezes_nothing():
    stream = Stream()
    stream.receive(0, -0.1)
    assert stream.receive(1, -0.1, wall_s=1 - HOUR) == [-0.1]
    assert stream.receive(60, HOUR, wall_s=60 - HOUR) == [3.0]
    assert [text for _, _, text in stream.reports] == [
        "this machine's clock was set back: events keep their time",
        "such events are given the latest possible time",
    ]


def test_a_server_with_a_time_of_its_own_is_taken_as_it_is_where_that_is_allowed():
    stream = Stream(own_time=True)
    assert stream.receive(0, 90 * HOUR) == []
    assert stream.receive(0.5, 91 * HOUR, 91.5 * HOUR) == []
    assert stream.receive(UNDECIDED_NS / NS_PER_S, 92 * HOUR) == [
        pytest.approx(hours * HOUR + at - 1, abs=1e-3) for hours, at in ((90, 0), (91, 0.5), (91.5, 0.5), (92, 1))
    ]
    assert stream.taken == [0, 1, 2, 3]
    for second in range(2, 200):
        assert stream.receive(second, 100 * HOUR + 20 * second) == [100 * HOUR + 20 * second]
    assert len(stream.reports) == 1
    assert "a time of its own" in stream.reports[0][2]


def test_a_file_that_lies_ahead_is_not_held_while_there_is_more_of_it():
    stream = Stream(own_time=True)
    assert stream.receive(0, HOUR, 2 * HOUR, more=True) == []
    assert stream.receive(0, 3 * HOUR, 4 * HOUR, more=True) == [HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR]


def test_where_it_is_not_allowed_it_is_clamped_from_the_first_event_on():
    stream = Stream()
    assert [stream.receive(second, 90 * HOUR) for second in range(20)] == [[3.0]] * 20


def test_a_first_event_from_the_future_decides_nothing():
    """A snapshot in local time, then updates in UTC."""
    stream = Stream(own_time=True)
    assert stream.receive(0, 9 * HOUR, 9 * HOUR) == []
    assert stream.receive(0.2, -0.1) == [-0.1, -0.1, -0.1]
    assert stream.taken == [0, 1, 2]
    assert stream.receive(1, 9 * HOUR) == [3.0]


def test_a_time_that_does_not_advance_is_no_time_of_its_own():
    stream = Stream(own_time=True)
    for at in range(5):
        assert stream.receive(at, HOUR - at) == []
    assert stream.receive(5, HOUR - 5) == [3.0] * 6
    assert stream.receive(6, HOUR) == [3.0]


def test_events_without_a_time_decide_nothing_and_keep_their_place():
    stream = Stream(own_time=True)
    assert stream.receive(0, 0.0) == [0.0]  # the decoder's, which has seen no time yet: it is the receipt
    assert stream.receive(0, HOUR) == []
    assert stream.receive(0.5, 0.0) == []
    assert len(stream.receive(1.5, HOUR)) == 3
    assert stream.taken == [1, 2, 3]


@pytest.mark.parametrize("speed", [1.2, 2, 20, 60])
def test_a_faster_clock_that_overtakes_ours_keeps_its_time(speed):
    stream = Stream(own_time=True)
    ahead = [(speed - 1) * (tenth / 10 - 10) for tenth in range(600)]
    taken = [stream.receive(tenth / 10, ahead[tenth])[0] for tenth in range(600)]
    assert taken[:100] == pytest.approx(ahead[:100])
    assert max(taken[:120]) <= 3.0
    assert taken[400:] == pytest.approx(ahead[400:])


def test_a_server_that_comes_back_to_our_time_is_on_real_time():
    stream = Stream(own_time=True)
    stream.receive(0, HOUR)
    stream.receive(2, HOUR)
    assert stream.receive(3, -0.1) == [-0.1]  # one from the past says nothing
    assert stream.receive(4, HOUR) == [HOUR]
    for at in (5, 5.5, 6):
        stream.receive(at, -0.1)
    assert "its time went back" in stream.reports[-1][2]
    assert stream.receive(7, HOUR) == [3.0]


def test_the_latest_possible_time_is_ours_and_the_slack():
    stream = Stream(own_time=True)
    assert stream.times.latest_ns(NOW, 0) == NOW + SLACK
    stream.receive(0, HOUR)
    stream.receive(2, HOUR)
    assert stream.times.latest_ns(NOW, 0) == NEVER_NS


def test_what_is_held_leaves_when_the_stream_ends():
    stream = Stream(own_time=True)
    stream.receive(0, HOUR, 2 * HOUR)
    assert stream.times.rest()["count"].tolist() == [0, 1]
    assert len(stream.times.rest()) == 0


seconds = st.one_of(st.floats(-20, 3), st.floats(3.1, 1e6), st.just(0.0))


@given(
    st.lists(st.tuples(st.floats(0, 3), st.lists(seconds, min_size=1, max_size=6), st.booleans()), max_size=40),
    st.booleans(),
)
@settings(max_examples=300)
def test_every_event_leaves_once_in_order_and_real_time_never_runs_ahead(batches, own_time):
    stream, at, taken = Stream(own_time=own_time), 0.0, []
    for passed, ahead, more in batches:
        at += passed
        times = stream.receive(at, *ahead, more=more)
        taken += stream.taken
        if not own_time:
            assert max(times) <= 3.000001
            sane = [a for a in ahead if a <= 3.0]
            assert [t for t, a in zip(times, ahead, strict=True) if a <= 3.0] == pytest.approx(sane, abs=2e-6)
    taken += stream.times.rest()["count"].tolist()
    assert taken == list(range(stream.sent))


@given(st.lists(st.tuples(st.floats(0.01, 2), seconds), min_size=1, max_size=60))
@settings(max_examples=300)
def test_a_stream_that_is_on_time_now_and_then_is_never_taken_for_another_time(received):
    """Outliers between possible events, all of them allowed a time of its own: none gets beyond the slack."""
    stream, at = Stream(own_time=True), 0.0
    stream.receive(at, -0.1)
    for passed, ahead in received:
        at += passed
        assert stream.receive(at, ahead)[0] <= 3.000001
        at += 0.01
        stream.receive(at, -0.1)


def test_the_waits_are_short():
    assert UNDECIDED_NS <= 2 * NS_PER_S
    assert RUN_AHEAD_NS <= 10 * NS_PER_S
