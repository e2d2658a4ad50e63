"""`replay --from --to`: the part of a file in which decisions are made."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mia_daemon.clock import NEVER_NS, iso_utc
from mia_daemon.errors import UsageError


@dataclass(frozen=True, slots=True)
class ReplayWindow:
    """A span of event time, nanoseconds.

    Events before it are processed without decisions: features and regimes are what they are in a replay of the whole
    file, and the position is flat. Events from its end on are not read.

    Attributes:
        from_ns: the first decision is made at this time or later.
        to_ns: of the first event that is left out.
    """

    from_ns: int = 0
    to_ns: int = NEVER_NS

    def check(self, path: Path, first_ns: int, last_ns: int) -> None:
        """Refuse a window without an event of the file. Raises UsageError.

        Args:
            path: of the file.
            first_ns: event time of its first event.
            last_ns: and of its last.
        """
        span = f"the events of {path} run from {iso_utc(first_ns)} to {iso_utc(last_ns)}"
        if self.from_ns >= self.to_ns:
            raise UsageError("--to has to be later than --from")
        if self.from_ns > last_ns:
            raise UsageError(f"--from {iso_utc(self.from_ns)} is after the last event: {span}")
        if self.to_ns <= first_ns:
            raise UsageError(f"--to {iso_utc(self.to_ns)} is not after the first event: {span}")

    def __str__(self) -> str:
        """For people; "" for the whole file."""
        begin = f", deciding from {iso_utc(self.from_ns)}" if self.from_ns else ""
        return begin + (f", up to {iso_utc(self.to_ns)}" if self.to_ns != NEVER_NS else "")


WHOLE_FILE: Final = ReplayWindow()
