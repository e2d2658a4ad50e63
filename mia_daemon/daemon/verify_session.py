"""`mia-daemon verify-session`: repeats a recorded session and compares it with its journal, row by row."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mia_daemon import lock_file
from mia_daemon.clock import NS_PER_DAY, WallClock
from mia_daemon.config import VarPaths
from mia_daemon.daemon.session_recorder import SessionBeginning
from mia_daemon.daemon.session_replay import Repetition, repeat
from mia_daemon.errors import UsageError
from mia_daemon.execution.tape_file import FILE_NAME
from mia_daemon.journal.comparison import SessionRows, TableComparison, compare
from mia_daemon.journal.view import JournalView, Row, ended_well

_BUFFERED: Final = frozenset({"decisions", "updates", "positions", "equity"})
"""Tables whose rows are committed once a second: a kill loses the last ones."""

_OF_A_BATCH: Final = 100
"""Rows of a table that the journal of a killed session may have beyond its recording: those of the batch in process."""

_HOLDS_STAY_NS: Final = NS_PER_DAY
"""No setting prunes decisions to hold earlier, wall clock."""


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
    goes_on = _goes_on(recording)
    beginning = SessionBeginning.read(recording)
    journal = (var or VarPaths(recording.absolute().parent.parent)).journal(beginning.mode)
    with JournalView(journal) as view:
        _run_in(view, beginning.run_id)  # before what takes minutes
    with tempfile.TemporaryDirectory(prefix="mia-verify-session-") as directory:
        repetition = repeat(recording, VarPaths(Path(directory)), on_progress=on_progress)
        return _compared(repetition, journal, goes_on=goes_on)


def _run_in(journal: JournalView, run_id: str) -> Row:
    run = next((run for run in journal.runs() if run["run_id"] == run_id), None)
    if run is None:
        raise UsageError(f"{journal.path} has no run {run_id}: name the directory of its journal with --var")
    return run


def _goes_on(recording: Path) -> bool:
    """Whether the session's daemon still writes its inputs."""
    try:
        return lock_file.is_claimed(recording / FILE_NAME)
    except OSError:  # packed, or not there
        return False


def _compared(repetition: Repetition, recorded: Path, *, goes_on: bool) -> Verification:
    run_id = repetition.recorded.run_id
    with JournalView(recorded) as journal, JournalView(repetition.journal) as again:
        run = _run_in(journal, run_id)
        (repeated,) = again.runs()
        tables = compare(
            SessionRows(journal, run["number"]),
            SessionRows(again, repeated["number"]),
            holds_are_pruned=WallClock().now_ns() - run["started_ns"] > _HOLDS_STAY_NS,
        )
    parted = [repetition.parted] if repetition.parted else []
    notes = [
        f"{table.pruned:,} decisions to hold are no longer in the journal: [retention] has pruned them"
        for table in tables
        if table.pruned
    ]
    if failures := repetition.failures:
        notes.append(f"{len(failures):,} inputs ended in an error, the first: {failures[0]}")
    for table in tables:
        if note := _excused(table, well=ended_well(run["how"]), goes_on=goes_on):
            notes.append(note)
        elif table.recorded is not None or table.repeated is not None:
            parted.append(str(table))
    return Verification(
        run_id, repetition.inputs, {table.table: table.equal for table in tables}, tuple(parted), tuple(notes)
    )


def _excused(table: TableComparison, *, well: bool, goes_on: bool) -> str:
    """Why rows that only one of both has are no difference: the session goes on, or was killed; else ""."""
    if well or table.differs or (table.recorded is None and table.repeated is None):
        return ""
    if table.recorded is not None and not goes_on and table.more >= _OF_A_BATCH:
        return ""
    if table.recorded is not None:
        why = (
            "goes on: its journal was read later than its inputs" if goes_on else "was killed before that was recorded"
        )
    elif table.table in _BUFFERED:
        why = "goes on: that is not committed yet" if goes_on else "was killed before that was committed"
    else:
        return ""
    return f"{table}: the session {why}"
