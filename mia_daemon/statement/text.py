"""A comparison for people, as tables, and for programs, as plain values."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from mia_daemon.clock import iso_utc
from mia_daemon.products.ticks import price_text
from mia_daemon.records import Fill
from mia_daemon.statement.comparison import Comparison, Day
from mia_daemon.statement.day_figures import FIGURES
from mia_daemon.statement.matching import Pair

_MONEY: Final = frozenset({"gross", "costs", "net"})


def facts(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON has it; times are ISO 8601, UTC."""
    return {
        "equal": comparison.equal,
        "account": comparison.account,
        "days": [_day_facts(day) for day in comparison.days],
        "differences": [
            {"day": one.day.isoformat(), "what": one.what, "external": one.external} | _pair_facts(one.pair)
            for one in comparison.differences
        ],
        "external": [_pair_facts(pair) for pair in comparison.external],
        "notes": comparison.notes,
    }


def _day_facts(day: Day) -> dict[str, Any]:
    return {
        "day": day.day.isoformat(),
        "symbol": day.symbol,
        "equal": day.equal,
        "journal": asdict(day.journal),
        "statement": asdict(day.statement) | {"stated_position": day.stated_position},
    }


def _pair_facts(pair: Pair) -> dict[str, Any]:
    return {
        "journal": None if pair.journal is None else _fill_facts(pair.journal),
        "statement": None if pair.stated is None else _fill_facts(pair.stated.fill) | {"line": pair.stated.row.line},
    }


def _fill_facts(fill: Fill) -> dict[str, Any]:
    return {
        "time": iso_utc(fill.ts_ns),
        "symbol": fill.symbol,
        "side": fill.side.name.lower(),
        "quantity": fill.quantity,
        "price": fill.price,
        "order": fill.client_order_id or fill.server_order_id,
        "execution": fill.execution_id,
    }


def lines(comparison: Comparison) -> Iterator[str]:
    """The comparison as tables, with the result last."""
    if comparison.days:
        yield from _table([row for day in comparison.days for row in _figure_rows(day)])
    if comparison.differences:
        yield ""
        yield from _table(
            [
                {"differs": one.what + (" (external)" if one.external else "")} | _pair_cells(one.pair)
                for one in comparison.differences
            ]
        )
    if comparison.external:
        yield ""
        yield "on both sides, of no order of ours:"
        yield from _table([_pair_cells(pair) for pair in comparison.external])
    yield from (f"note: {note}" for note in comparison.notes)
    yield _result(comparison)


def _figure_rows(day: Day) -> Iterator[dict[str, str]]:
    ours, theirs = asdict(day.journal), asdict(day.statement)
    for name in FIGURES:
        yield _figure_row(day, name, ours[name], theirs[name])
    if day.stated_position is not None:
        yield _figure_row(day, "position stated", day.journal.position, day.stated_position)


def _figure_row(day: Day, name: str, ours: float, theirs: float) -> dict[str, str]:
    form = "{:,.2f}" if name in _MONEY else "{:d}"
    apart = theirs - ours
    differs = abs(apart) > 0.005 if name in _MONEY else bool(apart)
    return {
        "day": day.day.isoformat(),
        "symbol": day.symbol,
        "figure": name,
        "journal": form.format(ours),
        "statement": form.format(theirs),
        "difference": form.replace(":", ":+").format(apart) if differs else "",
    }


def _pair_cells(pair: Pair) -> dict[str, str]:
    return {
        "journal": "-" if pair.journal is None else _fill_text(pair.journal),
        "statement": "-" if pair.stated is None else f"{_fill_text(pair.stated.fill)}, line {pair.stated.row.line}",
    }


def _fill_text(fill: Fill) -> str:
    order = fill.client_order_id or fill.server_order_id
    named = ", ".join(
        filter(None, (order and f"order {order}", fill.execution_id and f"execution {fill.execution_id}"))
    )
    return (
        f"{iso_utc(fill.ts_ns)} {fill.side.name.lower()} {fill.quantity} {fill.symbol} @ {price_text(fill.price)}"
        + (f" ({named})" if named else "")
    )


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    for line in pd.DataFrame(rows).to_string(index=False).splitlines():
        yield line.rstrip()


def _result(comparison: Comparison) -> str:
    days = len(comparison.days)
    if not days:
        return "equal: neither the journal nor the statement has an execution on these days"
    if comparison.equal:
        fills = sum(day.journal.fills for day in comparison.days)
        return f"equal: {fills:,} executions of {days} {'day' if days == 1 else 'days'} agree, and what they come to"
    unequal = sum(not day.equal for day in comparison.days)
    return (
        f"differs: {len(comparison.differences):,} executions; of {days} {'day' if days == 1 else 'days'}, {unequal} "
        "with other contracts, profit or position"
    )
