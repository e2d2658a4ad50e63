"""Notes of a comparison: what a reader of its result should know, a sentence each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.statement.activity_log import Balance, Statement
from mia_daemon.statement.matching import Pair, Stated
from mia_daemon.statement.scope import StatementScope

ZONE_STEP_NS: Final = 15 * 60 * NS_PER_S
"""Time zones differ by quarters of an hour; clocks do not."""


def on_statement(statement: Statement, left_out: Mapping[str, int], scope: StatementScope) -> Iterator[str]:
    """What of the statement is not compared, and how the account's balance changed."""
    for name, count in left_out.items():
        yield f"{count:,} executions of {name} are not compared"
    balances = [one for one in statement.balances if scope.server.account_of(one.account) == scope.server.account]
    if len(balances) > 1:
        yield _balance_note(balances)


def _balance_note(balances: list[Balance]) -> str:
    first, last = balances[0].amount, balances[-1].amount
    return (
        f"the statement's account balance went from {first:,.2f} to {last:,.2f}, {last - first:+,.2f}: compare it with "
        "the profit after costs where nothing else happened in the account"
    )


def on_times(pairs: Iterable[Pair]) -> Iterator[str]:
    """When executions with the same identifier are hours apart, the statement's time zone is another."""
    apart = [
        pair.stated.fill.ts_ns - pair.journal.ts_ns
        for pair in pairs
        if pair.journal and pair.stated and pair.stated.fill.execution_id
    ]
    if apart and min(map(abs, apart)) >= ZONE_STEP_NS:
        hours = apart[0] / NS_PER_S / 3600
        yield f"the statement's times are {hours:+.2f} h from the journal's: name its time zone with --time-zone"


def on_positions(stated: Sequence[Stated]) -> Iterator[str]:
    """The first row whose stated position does not follow from the one before and its quantity."""
    for before, after in pairwise(stated):
        first, then, fill = before.row.position, after.row.position, after.fill
        if first is not None and then is not None and then - first != fill.side * fill.quantity:
            yield (
                f"line {after.row.line} states position {then:+d} after {first:+d}, and its quantity is "
                f"{fill.side * fill.quantity:+d}: a row may be missing before it"
            )
            return
