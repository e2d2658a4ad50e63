from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import EventClock, iso_utc


@given(st.integers(0, 4_000_000_000_000_000))
def test_iso_utc_agrees_with_datetime(us):
    assert iso_utc(us * 1000) == datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:") + (
        f"{us // 1_000_000 % 60:02d}.{us % 1_000_000:06d}Z"
    )


def test_event_time_never_runs_backwards():
    clock = EventClock(5)
    clock.advance(9)
    clock.advance(7)
    assert clock.now_ns() == 9
