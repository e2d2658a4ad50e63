"""Two growing streams as one in order of time."""

import numpy as np

from mia_daemon.feed.sierra_files import merge
from mia_daemon.records import EventArray, empty_events


class TimeMerge:
    """Trades and depth, read piece by piece, merged by time.

    While a file has more to give than was read of it, what lies after its newest event waits here, so that a day read
    in pieces comes in the same order as in one. Once both files are read to their ends nothing waits: an event that its
    file shows later than the other file showed newer ones comes late, with its own time. Times are checked before
    (`feed.event_times`): one from the future would keep what is behind it from leaving until both files are read.
    """

    def __init__(self) -> None:
        self._trades = self._depth = empty_events(0)
        self._more_trades = self._more_depth = False

    @property
    def wants_trades(self) -> bool:
        """Whether trades should be read: what was read of them has left."""
        return not len(self._trades)

    @property
    def wants_depth(self) -> bool:
        """As `wants_trades`."""
        return not len(self._depth)

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once, or something waits."""
        return self._more_trades or self._more_depth or len(self._trades) > 0 or len(self._depth) > 0

    def put_trades(self, events: EventArray, *, more: bool) -> None:
        """What was read, and whether the file has more; only when wanted."""
        self._trades, self._more_trades = events, more

    def put_depth(self, events: EventArray, *, more: bool) -> None:
        """As `put_trades`."""
        self._depth, self._more_depth = events, more

    def take(self) -> EventArray:
        """All that may leave, owned by the caller; at equal times trades go first."""
        trades = _until(self._trades, self._depth, side="right") if self._more_depth else len(self._trades)
        depth = _until(self._depth, self._trades, side="left") if self._more_trades else len(self._depth)
        leaving, self._trades = self._trades[:trades], self._trades[trades:]
        changes, self._depth = self._depth[:depth], self._depth[depth:]
        return merge(leaving, changes) if len(changes) else leaving


def _until(events: EventArray, others: EventArray, *, side: str) -> int:
    """How many of `events` are not after the newest of `others`, whose file has more."""
    if not len(others) or not len(events):
        return 0
    times = np.maximum.accumulate(events["ts_ns"])
    newest = others["ts_ns"].max()
    return int(np.searchsorted(times, newest, "right" if side == "right" else "left"))
