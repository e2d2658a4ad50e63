"""The simulator as a child process of the daemon: a core of its own, a real TCP connection, the same end.

The child listens on a free port of the loopback interface and says which in one JSON line. It watches its standard
input and ends when that closes, so it never outlives the daemon, not even one that was killed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mia_daemon.appended_file import open_to_append
from mia_daemon.credentials import without_secrets
from mia_daemon.errors import StartError
from mia_daemon.service_stderr import report_on_stderr

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 3.0


class EmbeddedSimulator:
    """Starts and ends the child.

    Args:
        options: of `mia-daemon simulator`, without port and parent watch.
        error_log: file that takes what the child says on standard error.
    """

    def __init__(self, options: Sequence[str], error_log: Path) -> None:
        self._options = tuple(options)
        self._error_log = error_log
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        """Start the child and return the port it listens on. Raises StartError with what it said when it can't."""
        try:
            errors = open_to_append(self._error_log, report_on_stderr)
        except OSError as error:
            raise StartError(f"{self._error_log} can't be written: {error.strerror}; check the directory") from error
        try:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mia_daemon", "simulator", "--port", "0", "--parent-watch", *self._options,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=without_secrets(os.environ),  # it has no use for them
                start_new_session=True,  # Ctrl-C on the terminal is the daemon's to handle, not the child's
            )  # fmt: skip
        finally:
            os.close(errors)
        assert self._child.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self._child.stdout.readline()
        except TimeoutError:
            line = b""
        try:
            return int(json.loads(line)["port"])
        except (ValueError, KeyError, TypeError):
            await self.stop()
            raise StartError(f"the embedded simulator did not start: {self._last_words()}") from None

    def _last_words(self) -> str:
        lines = self._error_log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("mia-daemon: ") if lines else f"it said nothing; see {self._error_log}"

    async def wait(self) -> int:
        """Until the child ends; its exit status."""
        assert self._child is not None
        return await self._child.wait()

    async def stop(self) -> None:
        """Close the child's standard input, wait for it to save its state, kill it if it doesn't."""
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
