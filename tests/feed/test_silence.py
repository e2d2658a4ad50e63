"""Silence becomes TIMER events, on exchange time, at any speed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.silence import SilenceTimer, marker, timers_between
from mia_daemon.records import EventKind

T0 = 1_700_000_000 * NS_PER_S


def seconds(s):
    return round(s * NS_PER_S)


def test_nothing_before_the_first_event():
    timer = SilenceTimer(1.0)
    assert timer.due(seconds(100), T0) is None
    assert timer.wait_s(seconds(100)) == 1.0


def test_fires_after_each_interval_of_silence():
    timer = SilenceTimer(1.0)
    timer.heard(T0, seconds(10))
    assert timer.due(seconds(10.999), 0) is None
    first = timer.due(seconds(11), 77)
    assert (first["kind"][0], first["ts_ns"][0], first["recv_ns"][0]) == (EventKind.TIMER, T0 + seconds(0.75), 77)
    assert timer.due(seconds(11.9), 0) is None
    assert timer.due(seconds(12), 0)["ts_ns"][0] == T0 + seconds(1.75)
    timer.heard(T0 + seconds(2), seconds(12.1))
    assert timer.due(seconds(12.5), 0) is None
    assert timer.wait_s(seconds(12.5)) == 0.6


def test_speed_is_exchange_seconds_per_second():
    timer = SilenceTimer(0.1, speed=60)
    timer.heard(T0, 0)
    assert timer.due(seconds(0.1), 0)["ts_ns"][0] == T0 + seconds(0.075 * 60)


def test_time_never_goes_back():
    timer = SilenceTimer(1.0)
    timer.heard(T0, 0)
    timer.heard(T0 - seconds(5), seconds(0.1))
    assert timer.last_ts_ns == T0
    stamps = [int(timer.due(seconds(0.1 + n), 0)["ts_ns"][0]) for n in range(1, 5)]
    assert stamps == sorted(stamps)
    assert stamps[0] > T0


def test_marker_is_a_row_without_prices():
    row = marker(EventKind.GAP, 5, 6)
    assert len(row) == 1
    assert row["kind"][0] == EventKind.GAP
    assert row["price"][0] != row["price"][0]
    assert (row["symbol"][0], row["size"][0]) == (0, 0)


@given(
    st.lists(st.integers(0, 40).map(lambda tenths: tenths * NS_PER_S // 10), min_size=1, max_size=8),
    st.sampled_from([0.0, 1.0, 2.5, 100.0]),
)
def test_timers_of_a_file_are_those_that_a_live_feed_would_have_made(gaps, longest_s):
    """Every event is received at its own time, and the timer is looked at every tenth of a second."""
    start = 1_795_446_000 * NS_PER_S
    times = start + np.cumsum([0, *gaps])
    timer, made = SilenceTimer(1.0), []
    received = iter(times.tolist())
    following = next(received)
    for now in range(int(times[0]), int(times[-1]) + 1, NS_PER_S // 10):
        while following is not None and following <= now:
            timer.heard(following, now)
            following = next(received, None)
        if following is not None and (row := timer.due(now, now)) is not None:
            made.append((now, int(row["ts_ns"][0]), max(t for t in times.tolist() if t < now)))
    kept = [(at, ts) for at, ts, heard in made if at - heard < longest_s * NS_PER_S]
    fired, carried = timers_between(times, 1.0, longest_s)
    assert list(zip(fired.tolist(), carried.tolist(), strict=True)) == kept
