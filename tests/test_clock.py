from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon import clock
from mia_daemon.clock import EventClock, iso_utc


@given(st.integers(0, 4_000_000_000_000_000))
def test_iso_utc_agrees_with_datetime(us):
    assert iso_utc(us * 1000) == datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:") + (
        f"{us // 1_000_000 % 60:02d}.{us % 1_000_000:06d}Z"
    )


def test_event_time_never_runs_backwards():
    events = EventClock(5)
    events.advance(9)
    events.advance(7)
    assert events.now_ns() == 9


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [(0, 0x2001, True), (5, 0, False), (0, 0x40, False), (5, 0x40, False), (-1, 0, None)],
)
def test_whether_the_clock_is_synchronised_is_what_the_kernel_says(monkeypatch, state, status, expected):
    class Kernel:
        def adjtimex(self, reference):
            timex = reference._obj
            assert timex.modes == 0  # nothing is set
            timex.status = status
            return state

    monkeypatch.setattr(clock, "_LIBC", Kernel())
    assert clock.is_synchronized() is expected


def test_this_kernel_answers_or_does_not_say():
    assert clock.is_synchronized() in {True, False, None}
