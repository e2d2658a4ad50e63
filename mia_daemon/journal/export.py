"""Writes the CSV and JSON files of a daemon again from its journal, byte for byte.

The tables are made with pandas, a part at a time, of the values that the daemon writes row by row. Snapshots of risk
are not in the journal, and not written.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mia_daemon.config import Mode
from mia_daemon.errors import UsageError
from mia_daemon.journal.table_rows import ALPHA_SCORES, DECISION_LOG, PENALTY_LOG, TRADES, TableRows
from mia_daemon.journal.trade_snapshot import OpenTrade, file_name, json_bytes, of_open_trade, of_trade
from mia_daemon.journal.trips import Trip, names, paired, trips
from mia_daemon.journal.view import JournalView
from mia_daemon.new_directory import new_directory
from mia_daemon.private_file import replace_file, restrict_umask
from mia_daemon.records import EXTERNAL, RegimeProbs, Side

_CHUNK: Final = 50_000
"""Rows of a part: about 30 MB."""

_OF_DECISIONS: Final = (("alpha_scores", ALPHA_SCORES), ("decision_log", DECISION_LOG), ("penalty_log", PENALTY_LOG))


def export(view: JournalView, directory: Path) -> dict[str, int]:
    """Write all files below `directory`, which must not exist yet or be empty; it appears complete or not at all.

    Returns:
        How many rows, or files, by the path below the directory.

    Raises:
        UsageError: the directory is not empty.
        StartError, JournalError: it can't be written; nothing of it remains.
    """
    with new_directory(directory) as part:
        return _write(view, part)


def _write(view: JournalView, part: Path) -> dict[str, int]:
    runs = view.runs()
    if not runs:
        raise UsageError(f"journal {view.path} holds no run: there is nothing to export")
    restrict_umask()
    rows = {run["number"]: TableRows(run["config"].get("ops", {}).get("timestamp_format", "iso")) for run in runs}
    trades = f"trades/trades_{'real' if runs[-1]['mode'] == Mode.LIVE else 'simulated'}.csv"
    snapshots = part / "trade_snapshots"
    snapshots.mkdir(parents=True)
    return {
        trades: _table(part / trades, TRADES, _trade_rows(view, rows)),
        "trade_snapshots/trade_*.json": _snapshots(view, snapshots),
        **{f"logs/trading/{name}.csv": count for name, count in _decisions(view, rows, part / "logs" / "trading")},
    }


def _decisions(view: JournalView, rows: dict[int, TableRows], directory: Path) -> Iterator[tuple[str, int]]:
    """Write the tables whose rows are decisions; the name of each and how many rows it has."""
    for index, (name, columns) in enumerate(_OF_DECISIONS):
        values = (form.decision(one)[index] for number, form in rows.items() for one in view.decisions(number))
        yield name, _table(directory / f"{name}.csv", columns, values)


def _trade_rows(view: JournalView, rows: dict[int, TableRows]) -> Iterator[tuple[str, ...]]:
    """Of the trades file: each in the format of the run that recorded it."""
    run_of = {row["trade_id"]: row["run"] for row in view.rows("SELECT trade_id, run FROM trades")}
    for trade in view.trades():
        yield rows[run_of[trade.trade_id]].trade(trade)


def _table(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> int:
    """Write a CSV file; how many rows it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written, left = 0, iter(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(columns=columns).to_csv(file, index=False, lineterminator="\n")
        while chunk := list(islice(left, _CHUNK)):
            pd.DataFrame(chunk, columns=columns).to_csv(file, index=False, header=False, lineterminator="\n")
            written += len(chunk)
    return written


def _snapshots(view: JournalView, directory: Path) -> int:
    """Write the files of the round trips, closed and open; how many they are."""
    written = 0
    for trade in view.trades():
        content = of_trade(trade, view.background(trade))
        replace_file(directory / file_name(trade.trade_id, trade.entry_ns), [json_bytes(content)])
        written += 1
    for trade_id, trip in names(paired(trips(view), view.trades())):
        if trip.open:
            content = _open_content(view, trade_id, trip)
            replace_file(directory / file_name(trade_id, trip.opened_ns), [json_bytes(content)])
            written += 1
    return written


def _open_content(view: JournalView, trade_id: str, trip: Trip) -> dict[str, Any]:
    decided = view.one("SELECT p_range, p_trend, p_defensive FROM decisions WHERE decision_id = ?", (trip.decision_id,))
    trade = OpenTrade(
        trade_id=trade_id,
        symbol=trip.symbol,
        side=Side(trip.side),
        quantity=abs(trip.position),
        entry_ns=trip.opened_ns,
        entry_price=trip.entries.average_price,
        regime_probs=RegimeProbs(*decided.values()) if decided else EXTERNAL.regime_probs,
        decision_id=trip.decision_id,
    )
    last = trip.fills[-1]["number"]
    return of_open_trade(trade, view.open_background(trip.decision_id, trip.symbol, trip.account, last))
