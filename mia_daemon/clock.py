"""The only module that reads a clock.

Code that runs on event time takes `ts_ns` as an argument and reads no clock. Code that measures the daemon itself
(latency, heartbeats, log lines) uses a `Clock` that it was given.
"""

import ctypes
import time
from datetime import date
from functools import lru_cache
from typing import Final, Protocol

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_S

NEVER_NS = 2**63 - 1
"""A time that is never reached: no deadline."""


class Clock(Protocol):
    """A wall clock (may jump) and a monotonic clock (never goes back)."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""

    def monotonic_ns(self) -> int:
        """Monotonic clock, nanoseconds: only differences mean anything."""


class WallClock:
    """The machine's clocks."""

    now_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.perf_counter_ns)


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and room for its rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: nothing is set
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


_LIBC: Final = ctypes.CDLL(None)
_TIME_ERROR: Final = 5
_STA_UNSYNC: Final = 0x40


def is_synchronized() -> bool | None:
    """Whether something (chrony, ntpd, systemd-timesyncd) keeps the wall clock right, as the kernel says.

    None where it does not say: a sandbox may forbid the question.
    """
    timex = _Timex()
    try:
        state = _LIBC.adjtimex(ctypes.byref(timex))
    except AttributeError:  # another C library
        return None
    return None if state < 0 else state != _TIME_ERROR and not timex.status & _STA_UNSYNC


class EventClock:
    """The time of the newest market event, for replay: it moves only when `advance` is called.

    The monotonic clock remains the machine's, since latencies and durations are about this process.
    """

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    monotonic_ns = staticmethod(time.perf_counter_ns)

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ts_ns: int) -> None:
        """Move to `ts_ns`; an earlier time is ignored, since time never runs backwards."""
        self._now_ns = max(self._now_ns, ts_ns)


class StampClock:
    """The time for logs, rows and alerts: that of a clock, or the wall clock's while that one has no time yet."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.monotonic_ns = clock.monotonic_ns

    def now_ns(self) -> int:
        return self._clock.now_ns() or WallClock.now_ns()


def iso_utc(ts_ns: int) -> str:
    """`ts_ns` as UTC ISO 8601 with microseconds: `2026-11-22T14:00:00.000123Z`."""
    seconds, rest = divmod(ts_ns, NS_PER_S)
    days, second = divmod(seconds, _SECONDS_PER_DAY)
    return f"{_date(days)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{rest // NS_PER_US:06d}Z"


def second_utc(ts_ns: int) -> str:
    """`ts_ns` as UTC in whole seconds, without a mark of the zone: `2026-11-22 14:00:00`."""
    return iso_utc(ts_ns)[:19].replace("T", " ")


def file_stamp(ts_ns: int) -> str:
    """A time that sorts and has no character that a file system refuses: `20261122T140000_000123Z`."""
    return iso_utc(ts_ns).replace("-", "").replace(":", "").replace(".", "_")


_SECONDS_PER_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=16)
def _date(days: int) -> str:
    return date.fromordinal(_EPOCH + days).isoformat()
