"""What a journal says, put together for people and for JSON: runs, round trips, orders, and what explains a trip.

Every answer is made of plain values under stable names; times are ISO 8601, UTC. `text` lays them out.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from mia_daemon.errors import UsageError
from mia_daemon.journal.pending_latches import read_pending
from mia_daemon.journal.schema import PER_RUN, VERSION
from mia_daemon.journal.trips import Trip, names, paired, trips
from mia_daemon.journal.view import JournalView, Row, run_of, stamp
from mia_daemon.records import JournaledOrder, OrderType, RegimeProbs, Side, TimeInForce, Trade

COUNTED: Final = ("decisions", "intents", "requests", "updates", "fills", "trades", "equity", "alerts", "commands")
TRADE_COLUMNS: Final = (
    "trade_id", "run", "symbol", "side", "quantity", "entry_time", "exit_time", "entry_price", "exit_price", "gross",
    "costs", "profit", "regime", "regime_probs", "decision_id", "exit_reason",
)  # fmt: skip
"""The keys of a round trip, and the columns of its table."""


def summary(view: JournalView) -> dict[str, Any]:
    """The whole journal at a glance: its runs, how much of everything, latches, and how it stands."""
    return {
        "journal": str(view.path),
        "version": VERSION,
        "runs": [_run(row) for row in view.runs()],
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
        "equity": _equity(view.one("SELECT * FROM equity ORDER BY number DESC LIMIT 1")),
        "last_event": stamp(view.last_event_ns()),
    }


def _run(row: Row) -> dict[str, Any]:
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


def _equity(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"time": stamp(row["ts_ns"])} | {
        name: row[name] for name in ("equity", "peak", "position", "unrealized", "realized_today")
    }


def check_run(view: JournalView, run: str | None) -> None:
    """Raises UsageError when `run` is named and not in the journal."""
    if run is not None and view.one("SELECT 1 FROM runs WHERE run_id = ?", (run,)) is None:
        raise UsageError(f"journal {view.path} knows no run {run}: `mia-daemon journal show` lists them")


# Round trips.


def round_trips(view: JournalView, since_ns: int = 0, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Closed round trips in the order they were booked.

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


# Orders.


def orders(view: JournalView, since_ns: int = 0, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Orders in the order they were written down, each with all that became of it in time.

    Args:
        view: the journal.
        since_ns: those intended then or later.
        run: those made by this run.
    """
    if run is None:
        return _histories(view, "i.ts_ns >= ?", (since_ns,))
    of_run = "i.ts_ns >= ? AND i.client_order_id >= ? AND i.client_order_id < ?"
    return _histories(view, of_run, (since_ns, *_prefixed(run)))


def _prefixed(run: str) -> tuple[str, str]:
    """From where to where the identifiers lie that a run gave: all that begin with its name and a hyphen."""
    return f"{run}-", f"{run}."


def _histories(view: JournalView, which: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The orders that `which` holds of, a condition on `intents i`, with their events."""
    asked, filled, said = (
        _InStep(
            view.rows(
                f"SELECT i.number AS intent, t.* FROM intents i"  # noqa: S608  our names
                f" JOIN {table} t ON t.client_order_id = i.client_order_id"
                f" WHERE {which} ORDER BY i.number, t.number",
                values,
            )
        )
        for table in ("requests", "fills", "updates")
    )
    for intent in view.rows(f"SELECT * FROM intents i WHERE {which} ORDER BY number", values):  # noqa: S608  our text
        number = intent["number"]
        yield _order(intent) | {"events": _events(intent, asked.of(number), filled.of(number), said.of(number))}


class _InStep:
    """Rows that belong to orders, handed out order by order, so that no more than one order's are held."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._groups = groupby(rows, key=itemgetter("intent"))
        self._next = next(self._groups, None)

    def of(self, number: int) -> list[Row]:
        if self._next is None or self._next[0] != number:
            return []
        found = list(self._next[1])
        self._next = next(self._groups, None)
        return found


def _order(intent: Row) -> dict[str, Any]:
    return {
        "order": intent["client_order_id"],
        "role": intent["role"],
        "side": Side(intent["side"]).name.lower(),
        "type": OrderType(intent["type"]).name.lower(),
        "quantity": intent["quantity"],
        "price": intent["price"],
        "time_in_force": TimeInForce(intent["time_in_force"]).name.lower(),
        "symbol": intent["symbol"],
        "account": intent["account"],
        "decision_id": intent["decision_id"] or None,
        "parent": intent["parent_id"] or None,
        "status": intent["status"] or None,
        "booked": intent["booked"],
        "server_order_id": intent["server_order_id"] or None,
    }


def _events(intent: Row, asked: list[Row], filled: list[Row], said: list[Row]) -> list[dict[str, Any]]:
    """What was asked, said and filled, in the order in which it was written down."""
    found = [(intent["number"], {"time": stamp(intent["ts_ns"]), "event": "intent"})]
    found += [(row["number"], _request(row)) for row in asked]
    found += [(row["number"], _execution(row)) for row in filled]
    found += [(row["number"], _update(row)) for row in said]
    return [event for _, event in sorted(found, key=itemgetter(0))]


def _request(row: Row) -> dict[str, Any]:
    facts = {"time": stamp(row["ts_ns"]), "event": f"ask {row['kind']}"}
    if row["price"] is not None:
        facts["price"] = row["price"]
    return facts | ({"reason": row["reason"]} if row["reason"] else {})


def _execution(row: Row) -> dict[str, Any]:
    return {
        "time": stamp(row["ts_ns"]),
        "event": "fill",
        "execution": row["execution_id"],
        "quantity": row["quantity"],
        "price": row["price"],
    }


def _update(row: Row) -> dict[str, Any]:
    facts = {"time": stamp(row["ts_ns"]), "event": row["status"], "server_order_id": row["server_order_id"]}
    facts |= {name: row[name] for name in ("filled", "price", "text") if row[name]}
    return facts | ({} if row["unsolicited"] else {"asked_for": True})


# One round trip, explained.


def explanation(view: JournalView, trade_id: str) -> dict[str, Any]:
    """Everything on file that explains a round trip, also one still open.

    Raises:
        UsageError: no round trip bears this name.
    """
    trades = {trade.trade_id: trade for trade in view.trades()}
    trip = dict(names(paired(trips(view), trades.values()))).get(trade_id)
    trade = trades.get(trade_id)
    if trip is None and trade is None:
        raise UsageError(f"journal {view.path} knows no round trip {trade_id}: `mia-daemon journal trades` lists them")
    decision_id = trade.decision_id if trade else (trip.decision_id if trip else "")
    decision = view.one("SELECT * FROM decisions WHERE decision_id = ?", (decision_id,))
    fills = trip.fills if trip else []
    sent = _orders_of(view, decision_id, fills)
    runs = {run_of(name) for name in (decision_id, *(order["order"] for order in sent)) if name}
    window = _window(view, decision, fills, trade)
    return {
        "trade": trade_facts(trade) if trade else _open_facts(trade_id, trip),
        "decision": _decision(decision),
        "features": _features(view, trade) if trade else {},
        "exit_decision": _exit_decision(view, *window) if trade else None,
        "orders": sent,
        "fills": [_fill(fill) for fill in fills],
        "equity": _equity_around(view, *window),
        "alerts": list(_alerts(view, *window)),
        "commands": list(_commands(view, *window)),
        "runs": [_run(row) | {"config": row["config"]} for row in view.runs() if row["run_id"] in runs],
    }


def _window(view: JournalView, decision: Row | None, fills: list[Row], trade: Trade | None) -> tuple[int, int]:
    """The trip's part of the sequence: from the decision that opened it to the fill that closed it, or to the end."""
    booked = view.one("SELECT number, fill FROM trades WHERE trade_id = ?", (trade.trade_id,)) if trade else None
    opened = [row["number"] for row in (decision, *fills[:1]) if row is not None]
    began = min(opened, default=booked["fill"] if booked else 0)
    return began, booked["number"] if booked else 2**63 - 1


def _features(view: JournalView, trade: Trade) -> dict[str, float]:
    background = view.background(trade)
    return {name: float(background.values[at]) for name, at in background.shown.items() if at < len(background.values)}


def _open_facts(trade_id: str, trip: Trip | None) -> dict[str, Any]:
    assert trip is not None
    return {
        "trade_id": trade_id,
        "run": run_of(trip.decision_id),
        "symbol": trip.symbol,
        "side": Side(trip.side).name.lower(),
        "quantity": abs(trip.position),
        "entry_time": stamp(trip.opened_ns),
        "exit_time": None,
        "entry_price": trip.entry_price,
        "decision_id": trip.decision_id,
    }


def _orders_of(view: JournalView, decision_id: str, fills: Iterable[Row]) -> list[dict[str, Any]]:
    """The decision's own orders, and whatever else filled on the way."""
    which = "(i.decision_id = ? AND i.decision_id <> '') OR i.client_order_id IN (SELECT value FROM json_each(?))"
    filled = json.dumps([fill["client_order_id"] for fill in fills])
    return list(_histories(view, which, (decision_id, filled)))


def _decision(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    probs = tuple(row[name] for name in ("p_range", "p_trend", "p_defensive"))
    known = RegimeProbs(*probs) if None not in probs else None
    return {
        "decision_id": row["decision_id"],
        "time": stamp(row["ts_ns"]),
        "action": row["action"],
        "target": row["target"],
        "reason": row["reason"],
        "signal": row["signal"],
        "probability": row["probability"],
        "regime": known.most_likely().value if known else None,
        "regime_probs": known._asdict() if known else None,
        "policy": row["policy"],
        "out_of_range_share": row["out_of_range_share"],
        "observation_sha256": row["observation_sha256"],
        "bid": row["bid"],
        "ask": row["ask"],
        "context": json.loads(row["context"]),
        "verdict": row["verdict"],
        "verdict_context": json.loads(row["verdict_context"] or "{}"),
        "overtrade_risk_score": row["overtrade_risk_score"],
    }


def _exit_decision(view: JournalView, began: int, ended: int) -> dict[str, Any] | None:
    """The last decision to exit while the position was held; None when something else closed it."""
    found = None
    for run in view.rows("SELECT run_id FROM runs WHERE number BETWEEN ? AND ?", (began // PER_RUN, ended // PER_RUN)):
        found = (
            view.one(
                "SELECT * FROM decisions WHERE decision_id >= ? AND decision_id < ? AND action = 'exit'"
                " AND number BETWEEN ? AND ? ORDER BY number DESC LIMIT 1",
                (*_prefixed(run["run_id"]), began, ended),
            )
            or found
        )
    return _decision(found)


def _fill(row: Row) -> dict[str, Any]:
    return {
        "execution": row["execution_id"],
        "time": stamp(row["ts_ns"]),
        "order": row["client_order_id"] or None,
        "role": row["role"],
        "side": Side(row["side"]).name.lower(),
        "quantity": row["quantity"],
        "price": row["price"],
        "position": row["position"],
    }


def _equity_around(view: JournalView, began: int, ended: int) -> dict[str, Any]:
    """A replay is an account of its own: what came before it or after it is not the same money."""
    run = began // PER_RUN
    first, last = (run * PER_RUN, (run + 1) * PER_RUN) if run in view.replays() else (0, 2**63 - 1)
    around = "SELECT * FROM equity WHERE number BETWEEN ? AND ? ORDER BY number"
    before = view.one(f"{around} DESC LIMIT 1", (first, began))
    after = view.one(f"{around} LIMIT 1", (ended, last))
    return {"before": _equity(before), "after": _equity(after)}


def _alerts(view: JournalView, began: int, ended: int) -> Iterator[dict[str, Any]]:
    for row in view.rows("SELECT * FROM alerts WHERE number BETWEEN ? AND ? ORDER BY number", (began, ended)):
        yield {
            "time": stamp(row["ts_ns"]),
            "code": row["code"],
            "priority": row["priority"],
            "text": row["text"],
            "context": json.loads(row["context"]),
        }


def _commands(view: JournalView, began: int, ended: int) -> Iterator[dict[str, Any]]:
    for row in view.rows("SELECT * FROM commands WHERE number BETWEEN ? AND ? ORDER BY number", (began, ended)):
        yield {
            "time": stamp(row["ts_ns"]),
            "event_time": stamp(row["event_ns"]),
            "command": row["command"],
            "by": row["by"],
            "result": row["result"],
        }
