"""`mia-daemon verify-session`: repeats a recorded session and compares it with its journal, row by row."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mia_daemon.config import Mode, VarPaths
from mia_daemon.daemon.session_replay import Repetition, repeat
from mia_daemon.errors import UsageError
from mia_daemon.journal.comparison import SessionRows, TableComparison, compare
from mia_daemon.journal.view import JournalView, ended_well

_BUFFERED: Final = frozenset({"decisions", "updates", "positions", "equity"})
"""Tables whose last second a kill loses."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of comparing a session with its repetition.

    Attributes:
        run_id: of the session.
        inputs: repeated.
        rows: equal rows by table.
        parted: where they part; empty where they never do.
        notes: what was not compared, and why.
    """

    run_id: str
    inputs: int
    rows: dict[str, int]
    parted: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)

    def __str__(self) -> str:
        equal = ", ".join(f"{count:,} {table}" for table, count in self.rows.items() if count)
        lines = [f"session {self.run_id}: {self.inputs:,} inputs repeated; equal: {equal or 'nothing'}"]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"parted: {where}" for where in self.parted]
        return "\n".join([*lines, "the repetition differs" if self.parted else "the session repeats as recorded"])


def verify_session(
    recording: Path, var: VarPaths | None = None, on_progress: Callable[[str], None] = lambda _text: None
) -> Verification:
    """Repeat the session in the directory `recording` and compare it with the journal in `var`; changes neither.

    `var`: None for the directory that the recording lies in.

    Raises:
        UsageError: the journal does not have the session.
        FileFormatError, StartError, JournalError: a file can't be used.
    """
    with tempfile.TemporaryDirectory(prefix="mia-verify-session-") as directory:
        paths = VarPaths(Path(directory))
        repetition = repeat(recording, paths, on_progress=on_progress)
        source = var or VarPaths(recording.absolute().parent.parent)
        return _compared(repetition, source.journal(repetition.recorded.mode), paths.journal(Mode.REPLAY))


def _compared(repetition: Repetition, recorded: Path, repeated: Path) -> Verification:
    run_id = repetition.recorded.run_id
    with JournalView(recorded) as journal, JournalView(repeated) as again:
        run = next((run for run in journal.runs() if run["run_id"] == run_id), None)
        if run is None:
            raise UsageError(f"{recorded} has no run {run_id}: name the directory of its journal with --var")
        (number,) = (each["number"] for each in again.runs() if each["run_id"] == repetition.run_id)
        tables = compare(SessionRows(journal, run["number"], run_id), SessionRows(again, number, repetition.run_id))
    parted = [repetition.parted] if repetition.parted else []
    notes = []
    for table in tables:
        if note := _excused(table, well=ended_well(run["how"])):
            notes.append(note)
        elif table.recorded is not None or table.repeated is not None:
            parted.append(str(table))
    return Verification(
        run_id, repetition.inputs, {table.table: table.equal for table in tables}, tuple(parted), tuple(notes)
    )


def _excused(table: TableComparison, *, well: bool) -> str:
    """Why rows that only one of both has are no difference: the session was killed; "" where they are one."""
    if well or table.differs or (table.recorded is None and table.repeated is None):
        return ""
    if table.recorded is not None:
        return f"{table}: the session was killed before that was recorded"
    if table.table in _BUFFERED:
        return f"{table}: the session was killed before that was committed"
    return ""
