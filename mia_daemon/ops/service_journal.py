"""Alerts for the journal of the service manager, each line with its priority (sd-daemon(3))."""

import os
from collections.abc import Mapping

from mia_daemon.ops.unblocked_stream import UnblockedStream
from mia_daemon.printable import printable
from mia_daemon.records import Alert, Priority
from mia_daemon.service_stderr import LEVELS, STDERR, is_journal


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
        text = f"<{LEVELS[alert.priority]}>{alert.code}: {printable(alert.text)}{missed}\n"
        self._lost = 0 if self._stream.write(text) else self._lost + 1
