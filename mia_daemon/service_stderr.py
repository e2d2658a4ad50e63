"""Standard error: lines with their priority where it is the journal of the service manager (sd-daemon(3))."""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

STDERR: Final = 2

LEVELS: Final = {1: 6, 2: 4, 3: 3, 4: 2, 5: 1}
"""By the priority of an alert: the level of syslog(3)."""

_ERROR: Final = 3


def is_journal(fd: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the descriptor is the stream to the journal that JOURNAL_STREAM names (systemd.exec(5))."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def prefix(priority: int) -> str:
    """What a line on standard error begins with, so that the journal has its priority; "" elsewhere."""
    return f"<{LEVELS[priority]}>" if is_journal(STDERR) else ""


def report_on_stderr(_code: str, text: str, priority: int = _ERROR) -> None:
    """Say a sentence on standard error: a refusal, or trouble where there is no alert manager."""
    with suppress(OSError, ValueError):  # standard error may be closed
        print(f"{prefix(priority)}mia-daemon: {text}", file=sys.stderr)  # noqa: T201  for people and the journal
