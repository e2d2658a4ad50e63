"""Everything the journal has that explains one round trip, as plain values."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mia_daemon.errors import UsageError
from mia_daemon.journal.order_history import ids_of_run, order_histories
from mia_daemon.journal.report import equity_facts, run_facts, trade_facts
from mia_daemon.journal.schema import PER_RUN
from mia_daemon.journal.trips import Trip, names, paired, trips
from mia_daemon.journal.view import JournalView, Row, run_of, stamp
from mia_daemon.records import RegimeProbs, Side, Trade


def explanation(view: JournalView, name: str) -> dict[str, Any]:
    """Decision, orders, fills and what happened around them, also of a round trip still open.

    Args:
        view: the journal.
        name: the round trip's, or the client order id of an order that filled in it or was sent with its entry.

    Raises:
        UsageError: no round trip has this name, nor such an order.
    """
    trades = {trade.trade_id: trade for trade in view.trades()}
    found = dict(names(paired(trips(view), trades.values())))
    trade_id = name if name in trades or name in found else _trip_of(view, name, found)
    trip, trade = found.get(trade_id), trades.get(trade_id)
    if trip is None and trade is None:
        raise UsageError(
            f"journal {view.path} knows no round trip {name}, nor one with an order of this name: "
            "`mia-daemon journal trades` lists round trips, `mia-daemon journal orders` orders"
        )
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
        "features_pruned": _features_pruned(view, decision),
        "exit_decision": _exit_decision(view, *window) if trade else None,
        "orders": sent,
        "fills": [_fill(fill) for fill in fills],
        "equity": _equity_around(view, *window),
        "alerts": list(_alerts(view, *window)),
        "commands": list(_commands(view, *window)),
        "runs": [run_facts(row) | {"config": row["config"]} for row in view.runs() if row["run_id"] in runs],
    }


def _trip_of(view: JournalView, client_order_id: str, found: Mapping[str, Trip]) -> str:
    """The name of the first round trip with this order; "" where there is none."""
    sent = view.one("SELECT decision_id FROM intents WHERE client_order_id = ?", (client_order_id,))
    decision_id = sent["decision_id"] if sent else ""
    for name, trip in found.items():
        if any(fill["client_order_id"] == client_order_id for fill in trip.fills):
            return name
        if decision_id and trip.decision_id == decision_id:
            return name
    return ""


def _window(view: JournalView, decision: Row | None, fills: list[Row], trade: Trade | None) -> tuple[int, int]:
    """The range of row numbers from the decision that opened the trip to the trade that closed it, or to the end."""
    recorded = view.one("SELECT number, fill FROM trades WHERE trade_id = ?", (trade.trade_id,)) if trade else None
    opened = [row["number"] for row in (decision, *fills[:1]) if row is not None]
    began = min(opened, default=recorded["fill"] if recorded else 0)
    return began, recorded["number"] if recorded else 2**63 - 1


def _features(view: JournalView, trade: Trade) -> dict[str, float]:
    background = view.background(trade)
    return {name: float(background.values[at]) for name, at in background.shown.items() if at < len(background.values)}


def _features_pruned(view: JournalView, decision: Row | None) -> bool:
    sql = "SELECT LENGTH(vector) = 0 FROM features WHERE number = ?"
    return decision is not None and bool(view.value(sql, (decision["number"],)))


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
        "entry_price": trip.entries.average_price,
        "decision_id": trip.decision_id,
    }


def _orders_of(view: JournalView, decision_id: str, fills: Iterable[Row]) -> list[dict[str, Any]]:
    """The decision's own orders, and all others that filled during the trip."""
    which = "(i.decision_id = ? AND i.decision_id <> '') OR i.client_order_id IN (SELECT value FROM json_each(?))"
    filled = json.dumps([fill["client_order_id"] for fill in fills])
    return list(order_histories(view, which, (decision_id, filled)))


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
                (*ids_of_run(run["run_id"]), began, ended),
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
    """The last equity before the trip and the first after it. Each replay has an account of its own."""
    run = began // PER_RUN
    first, last = (run * PER_RUN, (run + 1) * PER_RUN) if run in view.replays() else (0, 2**63 - 1)
    around = "SELECT * FROM equity WHERE number BETWEEN ? AND ? ORDER BY number"
    before = view.one(f"{around} DESC LIMIT 1", (first, began))
    after = view.one(f"{around} LIMIT 1", (ended, last))
    return {"before": equity_facts(before), "after": equity_facts(after)}


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
