"""Silence becomes TIMER events, on exchange time, at any speed."""

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.silence import SilenceTimer, marker
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
