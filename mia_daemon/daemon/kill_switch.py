"""The kill: cancel everything that could add to the position, close it if wanted, and stay stopped.

Triggered by command, by SIGUSR2, by a file that appears, or by the watchdog. It needs neither feed nor model nor
journal: the cancels are sent in the same turn of the event loop, before anything is written.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mia_daemon.clock import Clock
from mia_daemon.errors import JournalError
from mia_daemon.ops.logs import Logger
from mia_daemon.risk.codes import RiskCode, lifted_by
from mia_daemon.trading.assembly import TradingAccount

LOOK_S: Final = 0.02
"""Seconds between two checks for the kill file; a check is one system call."""


class KillSwitch:
    """Kills the trading of one run.

    Args:
        path: the kill file.
        flatten: whether the position is closed where the caller of `pull` does not specify it.
        say: called with one sentence on what was done.
    """

    def __init__(
        self,
        path: Path,
        account: TradingAccount,
        clock: Clock,
        log: Logger,
        say: Callable[[str], None],
        *,
        flatten: bool,
    ) -> None:
        self._path = path
        self._account = account
        self._clock = clock
        self._log = log
        self._say = say
        self._flatten = flatten

    @property
    def file_is_there(self) -> bool:
        return os.path.lexists(self._path)  # a dangling link counts too

    @property
    def path(self) -> Path:
        return self._path

    def pull(self, by: str, *, flatten: bool | None = None) -> str:
        """Kill; returns what was done, in a sentence."""
        closing = self._flatten if flatten is None else flatten
        self._account.operator.kill(by, flatten=closing)
        text = (
            f"killed by {by}: entries are cancelled, "
            f"{'the position is being closed' if closing else 'a position keeps its stop'}; "
            f"nothing is traded until `{lifted_by(RiskCode.KILLED)}`"
        )
        try:
            self._account.journal.record_command(self._clock.now_ns(), "kill", by, text)
        except JournalError as error:
            self._log.warning("kill_not_journaled", reason=str(error))
        self._log.warning("killed", by=by, flatten=closing)
        self._say(text)
        return text

    async def watch_file(self) -> None:
        """Kill when the file exists and trading is not killed yet; resuming has to wait until it is removed."""
        while True:
            if self.file_is_there and RiskCode.KILLED not in {latch.code for latch in self._account.risk.latches}:
                self.pull(f"file {self._path}")
            await asyncio.sleep(LOOK_S)
