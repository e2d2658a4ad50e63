"""Compares what two journals have of one session: row by row, in the order in which the rows were recorded."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final

from mia_daemon.journal.view import JournalView
from mia_daemon.records import Action

COMPARED: Final[dict[str, str]] = {
    "decisions": "decision_id, seq, ts_ns, action, target, reason, signal, probability, p_range, p_trend, p_defensive, "
    "policy, out_of_range_share, observation_sha256, bid, ask, context, verdict, verdict_context, "
    "overtrade_risk_score, trade_id",
    "intents": "client_order_id, ts_ns, decision_id, symbol, account, side, quantity, type, role, price, limit_price, "
    "time_in_force, parent_id",
    "requests": "client_order_id, ts_ns, kind, price, quantity, reason",
    "updates": "client_order_id, server_order_id, ts_ns, symbol, account, status, quantity, filled, "
    "average_fill_price, price, limit_price, text, unsolicited",
    "fills": "client_order_id, execution_id, ts_ns, server_order_id, symbol, account, side, quantity, price, source",
    "positions": "ts_ns, symbol, account, quantity, average_price, unsolicited",
    "trades": "trade_id, symbol, side, quantity, entry_ns, exit_ns, entry_price, exit_price, gross, costs, p_range, "
    "p_trend, p_defensive, decision_id, exit_reason",
    "equity": "ts_ns, equity, peak, position, unrealized, realized_today",
    "latches": "code, ts_ns, context",
}
"""By table: the columns that have to be equal. Numbers, and what later runs may add to a row, are left out."""


@dataclass(frozen=True, slots=True)
class SessionRows:
    """One run in a journal.

    Attributes:
        number: of the run.
    """

    view: JournalView
    number: int

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table, in the order in which they were recorded."""
        sql = f"SELECT {COMPARED[table]} FROM {table} WHERE run = ? ORDER BY number"  # noqa: S608  our names
        return self.view.rows(sql, (self.number,))


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One table of both journals.

    Attributes:
        equal: rows at the front that are equal.
        recorded, repeated: the first row that is not, and its counterpart; None where there is none.
        more: rows after it that only one of both has, where it has no counterpart.
        pruned: decisions to hold of the repetition that the journal no longer has.
    """

    table: str
    equal: int
    recorded: dict[str, Any] | None = None
    repeated: dict[str, Any] | None = None
    more: int = 0
    pruned: int = 0

    @property
    def differs(self) -> bool:
        """Whether a row has a counterpart that differs."""
        return self.recorded is not None and self.repeated is not None

    def __str__(self) -> str:
        """Where they part, in one sentence."""
        recorded, repeated = self.recorded, self.repeated
        if recorded is None or repeated is None:
            row = recorded if recorded is not None else repeated
            which = "journal" if recorded is not None else "repetition"
            more = f" and {self.more:,} after it" if self.more else ""
            return f"{self.table}, row {self.equal + 1}: only the {which} has {_named(self.table, row or {})}{more}"
        columns = [column for column in recorded if recorded[column] != repeated[column]]
        facts = ", ".join(
            f"{column} {recorded[column]!r} recorded, {repeated[column]!r} repeated" for column in columns
        )
        return f"{self.table}, row {self.equal + 1} ({_named(self.table, recorded)}): {facts}"


def _named(table: str, row: dict[str, Any]) -> str:
    column = COMPARED[table].split(",", 1)[0]
    return f"{column} {row.get(column)}"


def compare(recorded: SessionRows, repeated: SessionRows, *, holds_are_pruned: bool = False) -> list[TableComparison]:
    """Compare every table, up to the first row that differs.

    `holds_are_pruned`: a decision to hold that the journal does not have is no difference.
    """
    found = [_compare(table, recorded.rows(table), repeated.rows(table)) for table in COMPARED if table != "decisions"]
    return [_compare_decisions(recorded, repeated, holds_are_pruned=holds_are_pruned), *found]


def _compare_decisions(recorded: SessionRows, repeated: SessionRows, *, holds_are_pruned: bool) -> TableComparison:
    table = "decisions"
    if not holds_are_pruned:
        return _compare(table, recorded.rows(table), repeated.rows(table))
    kept = {row["decision_id"] for row in recorded.rows(table)}
    pruned = 0

    def still_there() -> Iterator[dict[str, Any]]:
        nonlocal pruned
        for row in repeated.rows(table):
            if row["action"] == Action.HOLD and row["decision_id"] not in kept:
                pruned += 1
            else:
                yield row

    found = _compare(table, recorded.rows(table), still_there())
    return replace(found, pruned=pruned)


def _compare(table: str, recorded: Iterator[dict[str, Any]], repeated: Iterator[dict[str, Any]]) -> TableComparison:
    pairs = zip_longest(recorded, repeated)
    equal = 0
    for ours, theirs in pairs:
        if ours != theirs:
            more = 0 if ours is not None and theirs is not None else sum(1 for _ in pairs)
            return TableComparison(table, equal, ours, theirs, more)
        equal += 1
    return TableComparison(table, equal)
