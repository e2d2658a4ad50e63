"""systemd's notify protocol (sd_notify(3)): ready, status, watchdog, stopping.

The watchdog is fed only while every task gets on with its work: a daemon whose loop turns but whose executor hangs is
to be restarted, not believed.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mia_daemon.clock import NS_PER_S, NS_PER_US
from mia_daemon.stage import StageCounters


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """How far a task had come at one moment."""

    progress: int  # items taken up so far
    waiting: int  # items in its inbox


def stuck_tasks(before: Mapping[str, TaskProgress], now: Mapping[str, TaskProgress]) -> list[str]:
    """The tasks that had items waiting at both looks and took up none between them.

    A task with an empty inbox is idle, not stuck: a silent market must not restart the daemon.
    """
    return [
        name
        for name, task in now.items()
        if name in before and task.waiting > 0 and before[name].waiting > 0 and task.progress == before[name].progress
    ]


class Notifier:
    """Sends states to the service manager; does nothing when there is none.

    A manager that does not take the datagram never stops the daemon: the loss is counted in `lost`.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.lost = 0
        self._status = ""  # as last sent
        address = environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        # sd_notify(3): a leading @ stands for the NUL of an abstract socket; other kinds of address are not for us.
        if address.startswith(("/", "@")):
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @property
    def enabled(self) -> bool:
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """Start-up is over; the unit counts as started."""
        self._send("READY=1", status)

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent only when it differs from the last."""
        if text != self._status:
            self._send("", text)

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str = "") -> None:
        """Shutting down has begun."""
        self._send("STOPPING=1", status)

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping takes this much longer (kernels compile on the first start)."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}")

    def _send(self, state: str, status: str = "") -> None:
        if self._socket is None:
            return
        lines = [state] if state else []
        if status:
            self._status = status
            lines.append(f"STATUS={' '.join(status.split())}")  # a newline would begin another assignment
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            self.lost += 1

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


_FEEDS_PER_PERIOD: Final = 3  # sd_watchdog_enabled(3) advises half the period or less


def watchdog_interval_s(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """How often to feed the watchdog, or None when the manager does not ask this process for it."""
    asked_pid = environ.get("WATCHDOG_PID", "")
    period = environ.get("WATCHDOG_USEC", "")
    if asked_pid and asked_pid != str(os.getpid() if pid is None else pid):
        return None
    if not period.isascii() or not period.isdigit() or int(period) == 0:
        return None
    return int(period) * NS_PER_US / NS_PER_S / _FEEDS_PER_PERIOD


class Watchdog:
    """Feeds the watchdog as long as no task is stuck."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._before: dict[str, TaskProgress] = {}

    def look(self, stages: Iterable[StageCounters]) -> list[str]:
        """Compare with the last look and feed if all is well; the names of the tasks that are stuck, if any."""
        now = {stage.name: TaskProgress(stage.progress, stage.queue_depth) for stage in stages}
        stuck = stuck_tasks(self._before, now)
        self._before = now
        if not stuck:
            self._notifier.watchdog()
        return stuck
