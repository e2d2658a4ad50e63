"""The contents of a journal for people and for JSON: a summary, runs and round trips.

Every answer is made of plain values under stable names; times are ISO 8601, UTC. `formatting` makes text of them.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from mia_daemon.errors import UsageError
from mia_daemon.journal.pending_latches import read_pending
from mia_daemon.journal.view import JournalView, Row, run_of, stamp
from mia_daemon.records import JournaledOrder, Trade

COUNTED: Final = (
    "decisions", "intents", "requests", "updates", "fills", "positions", "trades", "equity", "alerts", "commands",
    "firings",
)  # fmt: skip
TRADE_COLUMNS: Final = (
    "trade_id", "run", "symbol", "side", "quantity", "entry_time", "exit_time", "entry_price", "exit_price", "gross",
    "costs", "profit", "regime", "regime_probs", "decision_id", "exit_reason",
)  # fmt: skip
"""The keys of a round trip, and the columns of its table."""


def summary(view: JournalView) -> dict[str, Any]:
    """The whole journal: runs, number of rows in each table, latches, profit, positions, open orders and equity."""
    return {
        "journal": str(view.path),
        "version": view.version,
        "runs": [run_facts(row) for row in view.runs()],
        "counts": {table: view.value(f"SELECT COUNT(*) FROM {table}") for table in COUNTED},  # noqa: S608  our names
        "latches": [_latch(row) for row in view.rows("SELECT * FROM latches ORDER BY number")],
        "latches_pending": [
            {"code": latch.code.value, "set": stamp(latch.ts_ns), "context": latch.context}
            for latch in read_pending(view.path)
        ],
        "profit": view.value("SELECT COALESCE(SUM(gross - costs), 0.0) FROM trades"),
        "positions": [
            {"symbol": symbol, "account": account, "position": position}
            for (symbol, account), position in view.positions().items()
        ],
        "open_orders": [_open_order(order) for order in view.open_orders()],
        "equity": equity_facts(view.one("SELECT * FROM equity ORDER BY number DESC LIMIT 1")),
        "last_event": stamp(view.last_event_ns()),
    }


def run_facts(row: Row) -> dict[str, Any]:
    """A run as plain values, without its configuration."""
    return {
        "run": row["run_id"],
        "mode": row["mode"],
        "started": stamp(row["started_ns"]),
        "ended": stamp(row["ended_ns"]),
        "how": row["how"],
        "version": row["version"],
        "config_sha256": row["config_sha256"],
        "bundle": row["bundle_name"],
        "bundle_sha256": row["bundle_sha256"],
        "catalogue_sha256": row["catalogue_sha256"],
        "point_value": row["point_value"],
        "cost_per_side": row["cost_per_side"],
    }


def _latch(row: Row) -> dict[str, Any]:
    return {
        "code": row["code"],
        "set": stamp(row["ts_ns"]),
        "context": json.loads(row["context"]),
        "cleared": stamp(row["cleared_ns"]),
        "cleared_by": row["cleared_by"],
    }


def _open_order(order: JournaledOrder) -> dict[str, Any]:
    return {
        "order": order.order.client_order_id,
        "role": order.order.role.value,
        "side": order.order.side.name.lower(),
        "quantity": order.quantity,
        "price": order.price,
        "booked": order.booked,
        "status": order.status.value if order.status else None,
        "intended": stamp(order.intended_ns),
    }


def equity_facts(row: Row | None) -> dict[str, Any] | None:
    """A point of the equity curve as plain values; None stays None."""
    if row is None:
        return None
    return {"time": stamp(row["ts_ns"])} | {
        name: row[name] for name in ("equity", "peak", "position", "unrealized", "realized_today")
    }


def check_run(view: JournalView, run: str | None) -> None:
    """Raises UsageError when `run` is named and not in the journal."""
    if run is not None and view.one("SELECT 1 FROM runs WHERE run_id = ?", (run,)) is None:
        raise UsageError(f"journal {view.path} knows no run {run}: `mia-daemon journal show` lists them")


def round_trips(view: JournalView, since_ns: int = 0, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Closed round trips in the order they were recorded.

    Args:
        view: the journal.
        since_ns: those that ended then or later.
        run: those that this run decided to enter.
    """
    for trade in view.trades(since_ns):
        if run is None or run_of(trade.decision_id) == run:
            yield trade_facts(trade)


def trade_facts(trade: Trade) -> dict[str, Any]:
    """A round trip as plain values."""
    return {
        "trade_id": trade.trade_id,
        "run": run_of(trade.decision_id),
        "symbol": trade.symbol,
        "side": trade.side.name.lower(),
        "quantity": trade.quantity,
        "entry_time": stamp(trade.entry_ns),
        "exit_time": stamp(trade.exit_ns),
        "entry_price": trade.entry_price,
        "exit_price": trade.exit_price,
        "gross": trade.gross,
        "costs": trade.costs,
        "profit": trade.profit,
        "regime": trade.regime_probs.most_likely().value if any(trade.regime_probs) else "",
        "regime_probs": trade.regime_probs._asdict(),
        "decision_id": trade.decision_id,
        "exit_reason": trade.exit_reason,
    }
