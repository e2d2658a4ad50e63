"""What a journal does not keep for ever: decisions that wanted no change ("hold"), and the features of the others.

No order, fill or trade refers to a decision to hold, so nothing is left without its reason. Features are emptied
instead of deleted, which `journal explain` reports as pruned. Everything else stays.

The rows are walked run by run in the order of their primary key, a few at a time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mia_daemon.clock import NS_PER_DAY
from mia_daemon.config import Mode, RetentionSettings
from mia_daemon.journal.rows import JournalQuery
from mia_daemon.records import Action


class Kept(NamedTuple):
    """Wall clock times, nanoseconds: rows older than these are removed. 0: none are."""

    holds_since_ns: int
    features_since_ns: int

    @classmethod
    def at(cls, now_ns: int, settings: RetentionSettings) -> "Kept":
        def since(days: int | None) -> int:
            return 0 if days is None else now_ns - days * NS_PER_DAY

        return cls(since(settings.holding_decisions_days), since(settings.features_days))


class PrunedRows(NamedTuple):
    """How many were removed, or would be."""

    holds: int = 0
    features: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What decides on the age of a run's rows.

    Event time is wall clock time only in a run on a real market. Rows of a replay or of the simulator are as old as
    their run; `age_by_event` is False for those.

    Attributes:
        ended_ns: wall clock, at or after its last row; None while it goes on.
    """

    ended_ns: int | None
    age_by_event: bool


class DecisionRow(NamedTuple):
    decision_id: str
    number: int
    ts_ns: int
    action: str
    has_features: int


class Chosen(NamedTuple):
    """Rows to remove: decision ids; numbers of the features to delete with them; numbers of those to empty."""

    holds: list[str]
    features_of_holds: list[int]
    features: list[int]


NOTHING: Final = Chosen([], [], [])


def choose(run: Run, rows: Iterable[DecisionRow], kept: Kept) -> Chosen:
    """Which of a run's rows are to be removed."""
    chosen = Chosen([], [], [])
    for row in rows:
        written_ns = _written_ns(run, row)
        if written_ns is None:
            continue
        if row.action == Action.HOLD and written_ns < kept.holds_since_ns:
            chosen.holds.append(row.decision_id)
            if row.has_features:
                chosen.features_of_holds.append(row.number)
        elif row.has_features and written_ns < kept.features_since_ns:
            chosen.features.append(row.number)
    return chosen


def _written_ns(run: Run, row: DecisionRow) -> int | None:
    if run.age_by_event:
        return row.ts_ns if run.ended_ns is None else min(row.ts_ns, run.ended_ns)
    return run.ended_ns


class Place(NamedTuple):
    """Where a walk through the journal stands: the run's number and the last decision looked at."""

    run: int = 0
    decision_id: str = ""


class Step(NamedTuple):
    """The next rows of a walk; `then` is None at the end."""

    chosen: Chosen
    then: Place | None


def look(query: JournalQuery, place: Place, kept: Kept, most: int) -> Step:
    """Look at `most` rows at most from `place` on. Raises JournalError."""
    found = query(_SELECT_RUN, (place.run,)).fetchone()
    if found is None:
        return Step(NOTHING, None)
    number, run_id, mode, source, ended_ns = found
    after = place.decision_id if number == place.run else ""
    values = (after or f"{run_id}-", f"{run_id}.", most)  # '.' comes after '-'
    rows = [DecisionRow(*row) for row in query(_SELECT_ROWS, values)]
    real = mode != Mode.REPLAY and source != "simulator"
    chosen = choose(Run(ended_ns, age_by_event=real), rows, kept)
    then = Place(number, rows[-1].decision_id) if len(rows) == most else Place(number + 1)
    return Step(chosen, then)


def remove(run_sql: Callable[[str, tuple[Any, ...]], Any], chosen: Chosen) -> None:
    """Delete and empty the chosen rows, in the open transaction."""
    for sql, keys in (
        (_DELETE_HOLD, chosen.holds),
        (_DELETE_FEATURES, chosen.features_of_holds),
        (_EMPTY_FEATURES, chosen.features),
    ):
        for key in keys:
            run_sql(sql, (key,))


def walk(step_from: Callable[[Place], Step]) -> PrunedRows:
    """A whole walk, by a function that takes one step from a place; what it found or removed."""
    total, place = PrunedRows(), Place()
    while True:
        step = step_from(place)
        total = PrunedRows(total.holds + len(step.chosen.holds), total.features + len(step.chosen.features))
        if step.then is None:
            return total
        place = step.then


_SELECT_RUN: Final = """\
SELECT number, run_id, mode, json_extract(config, '$.feed.source'), MAX(started_ns, ended_ns)
FROM runs WHERE number >= ? ORDER BY number LIMIT 1"""
# The end of a replay is in event time: then the start counts, unless that time is later.

_SELECT_ROWS: Final = """\
SELECT decision_id, d.number, ts_ns, action, COALESCE(LENGTH(f.vector), 0)
FROM decisions d LEFT JOIN features f ON f.number = d.number
WHERE decision_id > ? AND decision_id < ? ORDER BY decision_id LIMIT ?"""

_DELETE_HOLD: Final = "DELETE FROM decisions WHERE decision_id = ? AND action = 'hold'"
_DELETE_FEATURES: Final = "DELETE FROM features WHERE number = ?"
_EMPTY_FEATURES: Final = "UPDATE features SET vector = x'' WHERE number = ?"
