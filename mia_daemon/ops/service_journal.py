"""Standard error, where it is the journal of the service manager: lines with their priority (sd-daemon(3))."""

import os
from collections.abc import Mapping
from typing import Final

from mia_daemon.ops.unblocked_stream import UnblockedStream
from mia_daemon.printable import printable
from mia_daemon.records import Alert, Priority

STDERR: Final = 2
_LEVELS: Final = {
    Priority.INFO: 6,
    Priority.WARNING: 4,
    Priority.ERROR: 3,
    Priority.CRITICAL: 2,
    Priority.URGENT: 1,
}
"""The levels of syslog(3)."""


def is_journal(fd: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the descriptor is the stream to the journal that JOURNAL_STREAM names (systemd.exec(5))."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def prefix(priority: Priority) -> str:
    """What a line on standard error begins with, so that the journal has its priority; "" elsewhere."""
    return f"<{_LEVELS[priority]}>" if is_journal(STDERR) else ""


class ServiceJournal:
    """Takes alerts from WARNING on, where `fd` is the journal; elsewhere nothing, as the terminal shows them."""

    def __init__(self, fd: int = STDERR, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = UnblockedStream(fd) if is_journal(fd, environ) else None
        self._lost = 0

    def alert(self, alert: Alert) -> None:
        """One line; one that the journal does not take at once is counted, and the count is in the next."""
        if self._stream is None or alert.priority < Priority.WARNING:
            return
        missed = f" ({self._lost} lines before it were lost)" if self._lost else ""
        text = f"<{_LEVELS[alert.priority]}>{alert.code}: {printable(alert.text)}{missed}\n"
        self._lost = 0 if self._stream.write(text) else self._lost + 1
