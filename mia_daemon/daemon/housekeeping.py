"""The daemon's housekeeping: recordings and logs in a child process at low priority, its journal in small steps here.

The journal is pruned by the process that writes it: a second writer at low priority could hold its lock for longer than
an order may wait. Nothing here ends the daemon; what fails is an alert.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from mia_daemon.clock import Clock
from mia_daemon.config import RetentionSettings, VarPaths
from mia_daemon.daemon.run import DaemonRun
from mia_daemon.errors import JournalError
from mia_daemon.journal.pruning import Kept, Place, PrunedRows
from mia_daemon.records import Alert, Priority
from mia_daemon.retention.rounds import disk_text

_STEP_ROWS: Final = 20
_STEP_EVERY_S: Final = 5.0
_WALK_EVERY_S: Final = 3600.0


class Housekeeping:
    """Starts the child, reads what it did, and prunes the journal.

    Args:
        run: whose journal is pruned, and whose alerts and log are used.
        paths: of the directory that is kept in order.
    """

    def __init__(self, run: DaemonRun, paths: VarPaths) -> None:
        self._run = run
        self._paths = paths
        self._settings: RetentionSettings = run.settings.retention
        self._clock: Clock = run.clock
        self._tasks: list[asyncio.Task[None]] = []
        self._child: Process | None = None
        self._low = False  # the alert about the disk was raised
        self.disk: dict[str, Any] | None = None  # facts of the last round, for `status`

    async def start(self) -> None:
        """Start both; the child before trading begins, since a fork takes milliseconds from the event loop."""
        try:
            self._child = await asyncio.create_subprocess_exec(
                *_command(self._paths, self._settings), stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
            )
        except OSError as error:
            self._alert(
                "housekeeping_ended", f"recordings and logs are not pruned: {error.strerror}; restart to try again"
            )
        else:
            self._tasks.append(asyncio.create_task(self._follow(self._child), name="housekeeper"))
        self._tasks.append(asyncio.create_task(self._prune_journal(), name="prune journal"))

    async def stop(self) -> None:
        """End both; what the child is packing stays as it was."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._child is not None and self._child.returncode is None:
            with suppress(ProcessLookupError):
                self._child.kill()
            await self._child.wait()

    # Recordings and logs.

    async def _follow(self, child: Process) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            while line := await child.stdout.readline():
                self._report(json.loads(line))
            *_, reason = (await child.stderr.read()).decode(errors="replace").splitlines() or [""]
        except ValueError as error:
            reason = str(error)
        self._alert(
            "housekeeping_ended", f"recordings and logs are no longer packed and pruned ({reason}): restart to go on"
        )

    def _report(self, done: dict[str, Any]) -> None:
        self.disk = done["disk"]
        self._run.log.info("housekeeping", **done)
        if done["problems"]:
            first, more = done["problems_first"][0], done["problems"] - 1
            self._alert("housekeeping", first + (f"; and {more} more, see the log" if more else ""))
        days = self.disk["days_left"]
        low = days is not None and days < self._settings.warn_disk_days
        if low and not self._low:
            self._alert("disk_days", f"{disk_text(self.disk)}: make room, or lower the limits of [retention]")
        self._low = low

    def _alert(self, code: str, text: str) -> None:
        self._run.alert(Alert(self._clock.now_ns(), code, Priority.WARNING, text))

    # The journal.

    async def _prune_journal(self) -> None:
        while True:
            await asyncio.sleep(_WALK_EVERY_S)
            try:
                done = await walk_slowly(self._run.journal.prune, Kept.at(self._clock.now_ns(), self._settings))
            except JournalError as error:  # trading meets it too, and halts where it has to
                self._alert("journal_not_pruned", f"{error}; it is tried again in an hour")
            else:
                self._run.log.info("journal_pruned", holds=done.holds, features=done.features)


async def walk_slowly(
    step_from: Callable[[Place, Kept, int], Any], kept: Kept, every_s: float = _STEP_EVERY_S
) -> PrunedRows:
    """A walk through the journal, a few rows at a time; raises JournalError."""
    total, place = PrunedRows(), Place()
    while True:
        step = step_from(place, kept, _STEP_ROWS)
        total = PrunedRows(total.holds + len(step.chosen.holds), total.features + len(step.chosen.features))
        if step.then is None:
            return total
        place = step.then
        await asyncio.sleep(every_s)


def _command(paths: VarPaths, settings: RetentionSettings) -> list[str]:
    return [sys.executable, "-m", "mia_daemon.retention", str(paths.root), settings.model_dump_json()]
