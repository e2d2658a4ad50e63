"""Writes the CSV and JSON files of a daemon again from its journal, byte for byte.

They are written by the same `TradeLog`, one for each run. Snapshots of risk are not in the journal, and not written.
"""

from pathlib import Path

from mia_daemon.config import Mode
from mia_daemon.errors import UsageError
from mia_daemon.journal.trade_files import TradeLog
from mia_daemon.journal.view import JournalView
from mia_daemon.new_directory import new_directory


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
    simulated = runs[-1]["mode"] != Mode.LIVE
    for run in runs:
        log = TradeLog(part, simulated=simulated)
        try:
            for decision in view.decisions(run["number"]):
                log.decision(decision)
                log.flush()
        finally:
            log.close()
    trades = 0
    log = TradeLog(part, simulated=simulated)
    try:
        for trade in view.trades():
            log.trade(trade)
            log.snapshot(trade, view.background(trade))
            trades += 1
    finally:
        log.close()
    (part / "risk_snapshots").rmdir()
    logs = part / "logs" / "trading"
    return {
        f"trades/trades_{'simulated' if simulated else 'real'}.csv": trades,
        "trade_snapshots/trade_*.json": trades,
        **{f"logs/trading/{path.name}": _rows(path) for path in sorted(logs.iterdir())},
    }


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file) - 1
