"""Compares the executions of a journal with those of a broker's statement, a day at a time, and names what differs."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Final
from zoneinfo import ZoneInfo

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import UsageError
from mia_daemon.journal.rows import FILL, fill_of
from mia_daemon.journal.view import JournalView
from mia_daemon.products.instruments import OFF_TICK, Instrument, instrument
from mia_daemon.records import Fill
from mia_daemon.statement import notes
from mia_daemon.statement.activity_log import Statement
from mia_daemon.statement.day_figures import DayFigures, day_figures
from mia_daemon.statement.matching import Pair, Stated, match
from mia_daemon.statement.scope import StatementScope, scoped

CENT: Final = 0.005


@dataclass(frozen=True, slots=True)
class Difference:
    """An execution on one side only, or not the same on both.

    Attributes:
        what: "journal only", "statement only", or what differs: "price", "quantity, side".
        external: it belongs to no order of ours.
    """

    day: date
    what: str
    external: bool
    pair: Pair


@dataclass(frozen=True, slots=True)
class Day:
    """One trade date of one contract: both sides' figures.

    Attributes:
        stated_position: after the last execution, as the statement itself says; None where it does not.
    """

    day: date
    symbol: str
    journal: DayFigures
    statement: DayFigures
    stated_position: int | None

    @property
    def equal(self) -> bool:
        """Whether money and positions agree; how executions were split does not count."""
        ours, theirs = self.journal, self.statement
        return (
            (ours.bought, ours.sold, ours.position) == (theirs.bought, theirs.sold, theirs.position)
            and math.isclose(ours.gross, theirs.gross, abs_tol=CENT)
            and self.stated_position in {None, ours.position}
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result.

    Attributes:
        account: ours.
        days: those on which either side has executions.
        differences: oldest first.
        external: executions that both sides have and that belong to no order of ours: listed, not a difference.
        notes: what a reader should know, a sentence each.
    """

    account: str
    days: list[Day]
    differences: list[Difference]
    external: list[Pair]
    notes: list[str]

    @property
    def equal(self) -> bool:
        return not self.differences and all(day.equal for day in self.days)


def compare(
    view: JournalView, statement: Statement, scope: StatementScope, time_zone: str, day: date | None = None
) -> Comparison:
    """Compare a trade date, or all calendar days that the statement reaches over.

    Args:
        view: the journal.
        statement: of the account.
        scope: what is ours.
        time_zone: of the statement; of the calendar days when no `day` is given.
        day: a trade date of the product.

    Raises:
        UsageError: the statement is empty and no day is named, or its prices are on no known scale.
    """
    theirs = scoped(statement, scope, view)
    ours = _journaled(view, scope.server.account)
    compared = _calendar_days(statement, ZoneInfo(time_zone)) if day is None else day
    result = Comparison(scope.server.account, [], [], [], list(notes.on_statement(statement, theirs.left_out, scope)))
    for symbol in sorted({*theirs.fills, *ours}):
        _compare_contract(
            _Contract(instrument(symbol, scope.products), ours.get(symbol, []), theirs.fills.get(symbol, [])),
            compared,
            result,
        )
    result.differences.sort(key=lambda difference: difference.pair.ts_ns)
    return result


@dataclass(frozen=True, slots=True)
class _Contract:
    traded: Instrument
    journal: list[Fill]
    stated: list[Stated]

    def trade_date(self, pair: Pair) -> date:
        return self._trade_date_at(pair.ts_ns)

    def _trade_date_at(self, ts_ns: int) -> date:
        return self.traded.product.hours.trade_date_at(ts_ns)

    def covers(self, what: date | tuple[int, int], pair: Pair) -> bool:
        """Whether either side's time is of the trade date, or in the period."""
        if isinstance(what, date):
            return any(self._trade_date_at(ts_ns) == what for ts_ns in pair.times_ns)
        return any(what[0] <= ts_ns < what[1] for ts_ns in pair.times_ns)


def _compare_contract(contract: _Contract, compared: date | tuple[int, int], result: Comparison) -> None:
    tolerance = contract.traded.tick_size * OFF_TICK
    every = match(contract.journal, contract.stated, tolerance)
    result.notes.extend(notes.on_times(every))
    result.notes.extend(notes.on_positions(contract.stated))
    for day, group in groupby(every, contract.trade_date):
        pairs = [pair for pair in group if contract.covers(compared, pair)]
        if not pairs:
            continue
        before = [pair.journal for pair in every if pair.journal and contract.trade_date(pair) < day]
        result.days.append(_day(contract.traded, day, before, pairs))
        unequal = [(what, pair) for pair in pairs if (what := _what_differs(pair, tolerance))]
        split = _only_split_differently(unequal, tolerance)
        if split:
            result.notes.append(f"{len(split)} orders of {day} have executions of other sizes that add up to the same")
        for what, pair in unequal:
            if _order(pair) not in split:
                result.differences.append(Difference(day, what, _is_external(pair), pair))
        result.external.extend(pair for pair in pairs if _is_external(pair) and not _what_differs(pair, tolerance))


def _day(traded: Instrument, day: date, before: list[Fill], pairs: list[Pair]) -> Day:
    # A pair counts at the journal's time on both sides, so that both are added up in the same order.
    stated = [replace(pair.stated.fill, ts_ns=pair.ts_ns) for pair in pairs if pair.stated]
    last = max((pair.stated for pair in pairs if pair.stated), key=lambda one: one.number, default=None)
    return Day(
        day,
        traded.symbol,
        day_figures(traded, before, (pair.journal for pair in pairs if pair.journal)),
        day_figures(traded, before, stated),
        last.row.position if last else None,
    )


def _what_differs(pair: Pair, tolerance: float) -> str:
    """Nothing where both sides have the same execution."""
    if pair.stated is None:
        return "journal only"
    if pair.journal is None:
        return "statement only"
    ours, theirs = pair.journal, pair.stated.fill
    return ", ".join(
        name
        for name, differs in (
            ("side", ours.side != theirs.side),
            ("quantity", ours.quantity != theirs.quantity),
            ("price", abs(ours.price - theirs.price) > tolerance),
        )
        if differs
    )


def _order(pair: Pair) -> str:
    """The name of its order in the journal; "" where there is none."""
    fill = pair.journal or (pair.stated.fill if pair.stated else None)
    return fill.client_order_id if fill else ""


def _is_external(pair: Pair) -> bool:
    return not _order(pair)


def _only_split_differently(unequal: Iterable[tuple[str, Pair]], tolerance: float) -> frozenset[str]:
    """Orders whose executions add up to the same contracts and value for each side: only their sizes differ."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for _, pair in unequal:
        for sign, fill in ((1, pair.journal), (-1, pair.stated.fill if pair.stated else None)):
            if fill is not None:
                total = sums[_order(pair)]
                total[0] += sign * fill.side * fill.quantity
                total[1] += sign * fill.quantity
                total[2] += sign * fill.side * fill.quantity * fill.price
    return frozenset(
        order
        for order, (signed, contracts, value) in sums.items()
        if order and not signed and not contracts and abs(value) <= tolerance
    )


def _journaled(view: JournalView, account: str) -> dict[str, list[Fill]]:
    """The executions of an account by contract, in the order of time, without those of replays."""
    replays = view.replays()
    found: dict[str, list[Fill]] = defaultdict(list)
    sql = f"SELECT {FILL}, run FROM fills WHERE account = ? ORDER BY ts_ns, number"  # noqa: S608  our names
    for row in view.rows(sql, (account,)):
        fill = fill_of(tuple(row.values()))
        if row["run"] not in replays and math.isfinite(fill.price):  # `journal verify` reports the others
            found[fill.symbol].append(fill)
    return found


def _calendar_days(statement: Statement, zone: ZoneInfo) -> tuple[int, int]:
    """From the midnight before its first row to the one after its last, ns."""
    if statement.times_ns is None:
        raise UsageError(f"statement {statement.path} has no rows: name the day that was without any, --day 2026-12-01")
    first, last = (datetime.fromtimestamp(ns / NS_PER_S, zone).date() for ns in statement.times_ns)
    return _midnight_ns(first, zone), _midnight_ns(last + timedelta(days=1), zone)


def _midnight_ns(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * NS_PER_S
