"""What round trips earned, by day or another of their properties: a table made with pandas."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pandas as pd

from mia_daemon.journal.report import TRADE_COLUMNS

GROUPS: Final = ("day", "regime", "exit_reason", "side", "run")
"""What the rows of the table can stand for; a day is the UTC date of the exit."""

TOTAL: Final = "total"
"""The last row."""


def statistics(trades: Iterable[Mapping[str, Any]], by: str) -> pd.DataFrame:
    """A row for each group of round trips, in the order of the groups' names, and one for all of them.

    Columns: `trades`; `won`, the share with a profit; `profit` and `costs`; `mean`, `best` and `worst` profit of a
    round trip; `drawdown`, the largest fall of the group's added profit from its highest value; `held_s`, mean
    duration. Money is account currency, profit after costs.

    Args:
        trades: as `report.round_trips` yields them.
        by: one of `GROUPS`.
    """
    table = pd.DataFrame([dict(trade) for trade in trades], columns=list(TRADE_COLUMNS))
    times = {name: pd.to_datetime(table[name], utc=True) for name in ("entry_time", "exit_time")}
    table["day"] = times["exit_time"].dt.strftime("%Y-%m-%d")
    table["held_s"] = (times["exit_time"] - times["entry_time"]).dt.total_seconds()
    rows = {str(name): _row(group) for name, group in table.groupby(by, sort=True)} if len(table) else {}
    return pd.DataFrame({**rows, TOTAL: _row(table)}).T.rename_axis(by).astype({"trades": int})


def _row(trades: pd.DataFrame) -> dict[str, float]:
    profit = trades["profit"].astype(float)
    added = profit.cumsum()
    highest = added.cummax().clip(lower=0.0)  # a group begins at 0
    return {
        "trades": float(len(trades)),
        "won": float((profit > 0).mean()),
        "profit": float(profit.sum()),
        "costs": float(trades["costs"].astype(float).sum()),
        "mean": float(profit.mean()),
        "best": float(profit.max()),
        "worst": float(profit.min()),
        "drawdown": float((highest - added).max()),
        "held_s": float(trades["held_s"].astype(float).mean()),
    }
