"""Latches that can't be written to the journal when they are set, kept in a file beside it until they can.

The file has its full size from the start, so that a full disk does not lose a latch. It is overwritten in place and
synced before the call returns; a file that can't be read counts as a halt.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mia_daemon.errors import JournalError
from mia_daemon.private_file import open_file
from mia_daemon.risk.codes import Latch, RiskCode

_ROOM: Final = 4096  # bytes: several times the size of all latches


def pending_path(journal: Path) -> Path:
    """The file for the journal at `journal`: `paper.latches.pending.json` beside `paper.db`."""
    return journal.with_suffix(".latches.pending.json")


def read_pending(journal: Path) -> tuple[Latch, ...]:
    """Those not yet in the journal at `journal`, oldest first; a halt if the file can't be read."""
    path = pending_path(journal)
    try:
        found = json.loads(path.read_bytes() or b"[]")
        return tuple(Latch(RiskCode(one["code"]), int(one["ts_ns"]), dict(one["context"])) for one in found)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return (Latch(RiskCode.HALTED, 0, {"by": f"{path} can't be read ({error})"}),)


class PendingLatches:
    """Those of one journal.

    Raises:
        JournalError: the file can't be created or written.
    """

    def __init__(self, journal: Path) -> None:
        self._path = pending_path(journal)
        self._latches = {latch.code: latch for latch in read_pending(journal)}
        try:
            os.close(open_file(self._path, os.O_WRONLY | os.O_CREAT))
            empty = not self._path.stat().st_size
        except OSError as error:
            raise JournalError(f"{self._path} can't be written: {error.strerror}; check its owner") from error
        if empty and not self._write():
            raise JournalError(f"{self._path} can't be written: make room or check its owner")

    def __iter__(self) -> Iterator[Latch]:
        return iter(tuple(self._latches.values()))

    def keep(self, latch: Latch) -> bool:
        """Make it survive this process; False when the disk refuses that too."""
        self._latches.setdefault(latch.code, latch)
        return self._write()

    def forget(self) -> None:
        """They are in the journal now. If the file can't be emptied they are read again at the next start."""
        self._latches.clear()
        self._write()

    def _write(self) -> bool:
        listed = [{"code": latch.code.value, "ts_ns": latch.ts_ns, "context": latch.context} for latch in self]
        data = (json.dumps(listed, default=str) + "\n").encode().ljust(_ROOM)
        try:
            file = open_file(self._path, os.O_WRONLY | os.O_CREAT)
            try:
                written = os.write(file, data)
                os.ftruncate(file, written)
                os.fsync(file)
            finally:
                os.close(file)
        except OSError:
            return False
        return written == len(data)
