"""The times of market data messages: what is missing or cut off is filled in from the messages before.

Each message type has its resolution: trades have microseconds, depth has milliseconds, some quotes have whole seconds.
A server sends in order of time, so a message whose time is cut off to one before the newest is as new as the newest.
"""

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S

Times = NDArray[np.int64]


class MessageTimes:
    """Event times of one connection's messages of all symbols, in the order of receipt.

    A message takes the newest time before it if that lies in the same second and is ahead by less than the message's
    resolution. One that is older than that keeps its time: it came late. A message without a time takes that of the
    message before it, of whatever symbol, and the first one the time of its receipt.
    """

    __slots__ = ("_last_ns", "_newest_ns")

    def __init__(self) -> None:
        self._newest_ns = 0  # since the second last changed, so that one wrong time spoils a second and no more
        self._last_ns = 0  # of the last message that had a time; 0 before the first

    def of(self, stamp_ns: int, resolution_ns: int, received_ns: int) -> int:
        """The time of one message, stamped `stamp_ns` (0: it has no time)."""
        if stamp_ns == 0:
            return self._last_ns or received_ns
        ahead_ns = self._newest_ns - stamp_ns
        if ahead_ns <= 0 or self._newest_ns // NS_PER_S != stamp_ns // NS_PER_S:
            self._newest_ns = stamp_ns
        elif ahead_ns < resolution_ns:
            stamp_ns = self._newest_ns
        self._last_ns = stamp_ns
        return stamp_ns

    def fill(self, times: Times, resolution_ns: int | Times, received_ns: int) -> None:
        """As `of` for many messages, in place; `resolution_ns` is one for all or one for each."""
        if times.min() > 0 and times[0] >= self._newest_ns and (times[1:] >= times[:-1]).all():  # as nearly always
            self._newest_ns = self._last_ns = int(times[-1])
            return
        stamped = times > 0
        where = np.flatnonzero(stamped)
        if len(where):
            resolution = resolution_ns if isinstance(resolution_ns, int) else resolution_ns[where]
            times[where] = self._as_new_as_before(times[where], resolution)
        last = np.maximum.accumulate(np.where(stamped, np.arange(len(times)), -1))
        times[:] = np.where(last >= 0, times[last], self._last_ns or received_ns)
        if len(where):
            self._last_ns = int(times[-1])

    def _as_new_as_before(self, stamps: Times, resolution_ns: int | Times) -> Times:
        """The times of messages that all have one; each second's newest so far is the maximum since it began."""
        with_before = np.concatenate(([self._newest_ns], stamps))
        seconds = with_before // NS_PER_S
        change = np.concatenate(([0], np.cumsum(seconds[1:] != seconds[:-1]))) * NS_PER_S
        newest = np.maximum.accumulate(change + with_before % NS_PER_S) - change + seconds * NS_PER_S
        self._newest_ns = int(newest[-1])
        newest = newest[1:]
        return np.where(newest - stamps < resolution_ns, newest, stamps)
