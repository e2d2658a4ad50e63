"""The progress of a replay: a line every few seconds."""

from collections.abc import Callable
from typing import Final

from mia_daemon.clock import NEVER_NS, iso_utc
from mia_daemon.execution.ledger import Ledger
from mia_daemon.trading.live_trading import Tally

EVERY_S: Final = 5.0


class ReplayProgress:
    """Reports the progress of one replay.

    Args:
        tally: counters of the session.
        ledger: position and money, read only: valuing it here, at a moment of real time, would change the peak equity.
        total_events: in the file.
        to_ns: event time at which the replay ends, if the file does not end before.
        say: called with each line.
    """

    def __init__(
        self,
        tally: Tally,
        ledger: Ledger,
        say: Callable[[str], None],
        *,
        total_events: int,
        to_ns: int = NEVER_NS,
    ) -> None:
        self._tally = tally
        self._ledger = ledger
        self._say = say
        self._total_events = total_events
        self._to_ns = to_ns
        self._said_s = 0.0
        self._said_events = 0

    def look(self, elapsed_s: float) -> None:
        """Say a line if the last one was said long enough ago; `elapsed_s` is the time since the start, s."""
        spent_s = elapsed_s - self._said_s
        if spent_s < EVERY_S or not self._tally.events:
            return
        rate = (self._tally.events - self._said_events) / spent_s
        self._said_s, self._said_events = elapsed_s, self._tally.events
        self._say(
            f"{self.share:4.0%}  {iso_utc(self._tally.last_ts_ns)[:19]}Z  {rate:,.0f} events/s  "
            f"position {self._ledger.position:+d}  unrealised {self._ledger.unrealized:+.2f}"
        )

    @property
    def share(self) -> float:
        """Of the replay that is done, 0 to 1: by events, or by event time where that ends it sooner."""
        tally = self._tally
        by_events = tally.events / self._total_events
        if self._to_ns == NEVER_NS or not tally.events:
            return by_events
        return max(by_events, (tally.last_ts_ns - tally.first_ts_ns) / (self._to_ns - tally.first_ts_ns))
