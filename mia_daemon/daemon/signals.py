"""What the process does on signals. While it may hold a position no signal ends it by the kernel's default action.

SIGHUP means two things: the terminal is gone, or a service manager asks to read files again. The first stops the
session as SIGTERM does; without a controlling terminal, or under nohup, the files for people are opened again, as on
SIGUSR1. Nothing else is read again: settings, credentials and the calendar of macro events are those of the start, as
a replay of the session needs them.
"""

import os
import signal
from collections.abc import Callable
from typing import Final, Protocol

_OTHERWISE_HANDLED: Final = frozenset(
    {
        # can't be handled
        signal.SIGKILL, signal.SIGSTOP,
        # ignored, or suspend and continue, by default
        signal.SIGCHLD, signal.SIGCONT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH,
        # ignored by Python: writing reports an error instead
        signal.SIGPIPE, signal.SIGXFSZ,
        # faults of the program: there is no state to go on with
        signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS,
        # have a meaning of their own
        signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
    }
)  # fmt: skip
"""All other signals end a process by default: here they stop the session."""

_TERMINAL: Final = "/dev/tty"


class Loop(Protocol):
    """What is used of an event loop."""

    def add_signal_handler(self, number: int, callback: Callable[[str], None], name: str, /) -> None: ...


def hangup_stops() -> bool:
    """Whether a SIGHUP would mean that the terminal is gone. To be asked at the start: later it may be gone."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
        return False
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def ignore_requests(*, hangup: bool) -> None:
    """Until the loop handles them there is nothing to reopen: a request of logrotate must not end the start."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hangup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def block_requests() -> None:
    """The loop is about to end, and with it the handlers: what comes from now on changes no exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP})


def handle(
    loop: Loop,
    *,
    stop: Callable[[str], None],
    kill: Callable[[str], None],
    reopen: Callable[[str], None],
    hangup_stops: bool,
) -> None:
    """Have each signal call one of the functions, with its name.

    Args:
        loop: of the main thread.
        stop: ends the session in order.
        kill: pulls the kill switch.
        reopen: opens the files for people again.
        hangup_stops: as the function of this name said at the start.
    """
    for number in signal.valid_signals() - _OTHERWISE_HANDLED:
        loop.add_signal_handler(number, stop, _name(number))
    loop.add_signal_handler(signal.SIGHUP, stop if hangup_stops else reopen, "SIGHUP")
    loop.add_signal_handler(signal.SIGUSR1, reopen, "SIGUSR1")
    loop.add_signal_handler(signal.SIGUSR2, kill, "SIGUSR2")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
