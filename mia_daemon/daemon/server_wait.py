"""Reports that the server for orders is awaited: the daemon was started before Sierra Chart."""

from collections.abc import Callable

from mia_daemon.clock import Clock
from mia_daemon.ops.logs import Logger
from mia_daemon.ops.systemd import Notifier
from mia_daemon.records import Alert, Priority


class ServerWait:
    """From the start of the connection for orders until it is up.

    Args:
        alert: called with each alert: one when waiting begins and one when it ends.
        begin: called when waiting begins.

    Attributes:
        reason: why the server is awaited; "" while it is not.
    """

    def __init__(
        self, alert: Callable[[Alert], None], log: Logger, notifier: Notifier, clock: Clock, begin: Callable[[], None]
    ) -> None:
        self.reason = ""
        self._alert = alert
        self._log = log
        self._notifier = notifier
        self._clock = clock
        self._begin = begin
        notifier.status("connecting for orders")

    @property
    def text(self) -> str:
        """One sentence for people."""
        return f"waiting for the server for orders: {self.reason}"

    def on_waiting(self, reason: str) -> None:
        """The server is awaited, and why; called again and again while it is."""
        before, self.reason = self.reason, reason
        if not before:
            text = f"the server for orders is awaited: {reason}; nothing is traded before it is up"
            self._alert(Alert(self._clock.now_ns(), "server_awaited", Priority.CRITICAL, text))
            self._begin()
        if reason != before:
            self._log.warning("waiting_for_server", reason=reason)
        # Ready, as far as the service manager is concerned: operators are served, and no start is to time out.
        self._notifier.ready(self.text)

    def found(self) -> None:
        """The connection is up."""
        if self.reason:
            self.reason = ""
            self._alert(Alert(self._clock.now_ns(), "server_found", Priority.WARNING, "the server for orders is up"))
