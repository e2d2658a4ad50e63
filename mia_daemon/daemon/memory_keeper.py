"""Maintains the market memory of a run: loads it from its file and the journal, adds each trade, and saves it.

The memory itself is used in the hot path and does no file access. The file is written once per closed trade, off the
hot path. A file that can't be used does not stop trading: the memory is then filled from the journal.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import JournalError, StartError
from mia_daemon.features import catalogue
from mia_daemon.journal.background import Background
from mia_daemon.journal.reader import JournalReader
from mia_daemon.model import memory_file
from mia_daemon.model.market_memory import CAPACITY, KEEP_NS, Experience, MarketMemory, entry_of, experience_of
from mia_daemon.model.memory_file import MemoryFile
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import NO_EVENTS, MacroEvents
from mia_daemon.records import Trade

ANNOUNCED_WITHIN_NS: Final = 1800 * NS_PER_S
"""A trade entered within this time of an announcement is stored with the kind of that announcement."""


class MemoryKeeper:
    """Keeps the market memory of one run.

    Args:
        traded: the instrument.
        events: announcements.
        simulated: whether trading is at the embedded simulator.

    Attributes:
        memory: queried by `Inference`.
        notices: what was wrong with the file and what was done about it, for the caller to report.
        from_journal: number of trades in the journal that the file lacked.
    """

    def __init__(self, traded: Instrument, events: MacroEvents = NO_EVENTS, *, simulated: bool = False) -> None:
        self.memory = MarketMemory(traded.tick_size, traded.point_value)
        self.notices: list[str] = []
        self.from_journal = 0
        self._traded = traded
        self._events = events
        self._simulated = simulated
        self._begun_with: list[Experience] = []
        self._file: MemoryFile | None = None
        self._unwritten: dict[str, Experience] = {}  # by trade_id

    def open(self, path: Path, journal: JournalReader, now_ns: int) -> None:
        """Load `path`, and add what the journal has and the file lacks; errors are noted, not raised."""
        known: dict[str, Experience] = {}
        try:
            self._file = MemoryFile(path, now_ns, simulated=self._simulated)
            known = {experience.trade_id: experience for experience in self._file.experiences()}
        except StartError as error:
            self.close()
            self.notices.append(f"{error}; this run remembers what its journal knows, and keeps no file")
        if self._file is not None and self._file.notice:
            self.notices.append(self._file.notice)
        try:
            known.update(self._from_journal(journal, now_ns - KEEP_NS, known))
        except JournalError as error:
            self.notices.append(f"the market memory lacks what the journal knows: {error}")
        self._begun_with = list(known.values())
        self.memory.begin_with(self._begun_with)

    def _from_journal(
        self, journal: JournalReader, since_ns: int, known: dict[str, Experience]
    ) -> dict[str, Experience]:
        found: dict[str, Experience] = {}
        problem = ""
        for trade in list(journal.trades(since_ns))[-CAPACITY:]:
            if trade.trade_id in known:
                continue
            background = journal.background(trade)
            values = _values(background)
            if values is not None and background.simulated == self._simulated:
                entry = entry_of(values)
                experience = experience_of(trade, entry, self._traded.tick_size, self._traded.point_value)
                found[trade.trade_id] = experience
                problem = problem or self._store(trade, experience)  # do not wait twice for a locked file
        if problem:
            self.notices.append(problem)
        self.from_journal = len(found)
        return found

    def restore_entry(self, decision_id: str, background: Background) -> NDArray[np.float32]:
        """Note the decision of an earlier run whose position is held; returns its values, or none."""
        values = _values(background)
        if values is None:
            return np.empty(0, np.float32)
        self.memory.entered(decision_id, values)
        return values

    def entered(self, decision_id: str, values: NDArray[np.float32]) -> None:
        """Note a decision to enter, and the (350,) values it was made on."""
        self.memory.entered(decision_id, values)

    def closed(self, trade: Trade) -> None:
        """Add a closed trade to the memory; the next decision can use it."""
        if (experience := self.memory.closed(trade)) is not None:
            self._unwritten[trade.trade_id] = experience

    def write(self, trade: Trade) -> str:
        """Write a closed trade to the file, off the hot path; returns what went wrong in one sentence, or ""."""
        experience = self._unwritten.pop(trade.trade_id, None)
        return "" if experience is None else self._store(trade, experience)

    def _store(self, trade: Trade, experience: Experience) -> str:
        if self._file is None:
            return ""
        return self._file.add(trade, experience, self._events.type_near(trade.entry_ns, ANNOUNCED_WITHIN_NS))

    def copy_to(self, recording: Path) -> None:
        """Copy the memory that the run began with to its recording. Raises StartError when it can't be written."""
        if self._begun_with:
            memory_file.write(recording / memory_file.FILE_NAME, self._begun_with)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _values(background: Background) -> NDArray[np.float32] | None:
    """The 350 values at the decision to enter; None where the journal lacks them, or has other definitions."""
    if len(background.values) != catalogue.COUNT or background.catalogue_sha256 != catalogue.sha256():
        return None
    return background.values
