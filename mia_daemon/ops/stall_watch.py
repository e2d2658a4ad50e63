"""Finds a call that blocks the event loop, from a thread beside it.

The checks that run on the loop (`systemd.Watchdog`, the timers of trading) are blocked with it. So a thread looks once
a second whether the loop's timer has run since. Where it has not for long, the thread writes the stacks of all threads
to a file; where it has not for longer, it ends the process. It sends nothing: connection and orders belong to the loop,
which may be in the middle of either.

A call that holds the interpreter's lock blocks this thread too. For that there is a timer of `faulthandler`, which
needs no lock: it is set again and again, and ends the process where nobody does.
"""

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final

from mia_daemon.appended_file import NOT_WRITTEN, FileNotice, open_to_append
from mia_daemon.clock import NS_PER_S, Clock, iso_utc
from mia_daemon.errors import ExitStatus
from mia_daemon.records import Priority
from mia_daemon.service_stderr import STDERR, prefix, report_on_stderr

_BEAT_S: Final = 0.25
"""Seconds between two runs of the loop's timer: a healthy loop has run it between any two looks."""

_LOOK_S: Final = 1.0
"""Seconds between two looks of the thread."""


class Stall(Enum):
    """What a look has found that no look before it has."""

    NONE = "none"
    FOUND = "found"
    FOR_GOOD = "for good"


class StallTimer:
    """How long the loop has not run, in time during which the thread beside it did.

    Args:
        found_s: after so long it counts as blocked.
        for_good_s: after so long it does so for good.

    Attributes:
        silent_s: seconds since the loop was last seen to run.
    """

    def __init__(self, found_s: float, for_good_s: float) -> None:
        self.silent_s = 0.0
        self._found_s = found_s
        self._for_good_s = for_good_s
        self._beats = -1
        self._reported = False

    def look(self, beats: int, elapsed_s: float) -> Stall:
        """Compare with the last look.

        Args:
            beats: how often the loop's timer has run.
            elapsed_s: since the last look. Where the thread did not run either (a stopped process, a busy machine), no
                more than two looks' worth counts: that is no call that blocks the loop.
        """
        if beats != self._beats:
            self._beats, self._reported, self.silent_s = beats, False, 0.0
            return Stall.NONE
        self.silent_s += min(elapsed_s, 2 * _LOOK_S)
        if self.silent_s >= self._for_good_s:
            return Stall.FOR_GOOD
        if self.silent_s < self._found_s or self._reported:
            return Stall.NONE
        self._reported = True
        return Stall.FOUND


class StallWatch:
    """Watches the running loop, from `start` to `stop`.

    Args:
        path: of the file that the stacks are appended to.
        found_s: seconds without the loop after which it is reported.
        for_good_s: seconds after which the process ends with `ExitStatus.BLOCKED`, or with 1 where the interpreter was
            blocked too, within half as much again.
        on_over: called on the loop with the report's sentence, once a stall that was reported is over.
        notify: called where the file was set aside or can't be written; then the stacks go to standard error.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        found_s: float,
        for_good_s: float,
        on_over: Callable[[str], None],
        notify: FileNotice = report_on_stderr,
    ) -> None:
        self._path = path
        self._clock = clock
        self._for_good_s = for_good_s
        self._on_over = on_over
        self._timer = StallTimer(found_s, for_good_s)
        self._beats = 0
        self._report = ""  # of a stall; written by the thread, taken by the loop
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)
        self._watched = 0
        try:
            file = open_to_append(path, notify)
        except OSError as error:
            notify(NOT_WRITTEN, f"{path} can't be written: {error.strerror}; check the directory and its owner")
            file = os.dup(STDERR)
        self._file = os.fdopen(file, "ab", buffering=0)

    def start(self) -> None:
        """Watch the loop that runs this."""
        self._watched = threading.get_ident()
        self._beat()
        self._arm()
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._handle is not None:
            self._handle.cancel()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()

    # On the loop.

    def _beat(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(_BEAT_S, self._beat)
        self._beats += 1
        if self._report:
            report, self._report = self._report, ""
            self._on_over(report)

    # On the thread.

    def _watch(self) -> None:
        before_ns = self._clock.monotonic_ns()
        arm_again_s = self._for_good_s / 2
        while not self._stopped.wait(_LOOK_S):
            now_ns = self._clock.monotonic_ns()
            elapsed_s, before_ns = (now_ns - before_ns) / NS_PER_S, now_ns
            found = self._timer.look(self._beats, elapsed_s)
            if found is not Stall.NONE:
                self._write(found)
            arm_again_s -= elapsed_s
            if arm_again_s <= 0.0 and not self._timer.silent_s:
                arm_again_s = self._for_good_s / 2  # seldom: the call holds the interpreter's lock for tens of µs
                self._arm()

    def _arm(self) -> None:
        faulthandler.dump_traceback_later(1.5 * self._for_good_s, exit=True, file=self._file)

    def _write(self, found: Stall) -> None:
        """Report, and end the process where it is for good; `faulthandler` does where the disk blocks this too."""
        report = f"the event loop has been blocked for {self._timer.silent_s:.0f} s in {self._where()}"
        with suppress(OSError):
            self._file.write(f"{iso_utc(self._clock.now_ns())} {report}\n".encode())
            faulthandler.dump_traceback(self._file)
        if found is Stall.FOUND:
            self._report = f"{report}; {self._path} has the stacks"
            _say(self._report)
            return
        _say(
            f"{report}; {self._path} has the stacks. The process ends: orders and position at the server are as they "
            "were, look at them in Sierra Chart"
        )
        os._exit(ExitStatus.BLOCKED)

    def _where(self) -> str:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001  # documented, for debugging a deadlock
        if frame is None:
            return "a thread that has ended"
        code = frame.f_code
        return f"{code.co_name} ({code.co_filename}:{frame.f_lineno})"


def _say(text: str) -> None:
    with suppress(OSError):
        # The file itself: `sys.stderr` has a lock, which the blocked loop may hold.
        os.write(STDERR, f"{prefix(Priority.CRITICAL)}mia-daemon: {text}\n".encode())
