"""Orders with all that became of them, as plain values."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from mia_daemon.journal.view import JournalView, Row, stamp
from mia_daemon.records import OrderType, Side, TimeInForce


def orders(view: JournalView, since_ns: int = 0, run: str | None = None) -> Iterator[dict[str, Any]]:
    """Orders in the order their intents were recorded, each with its events in the order they were recorded.

    Args:
        view: the journal.
        since_ns: those intended then or later.
        run: those made by this run.
    """
    if run is None:
        return order_histories(view, "i.ts_ns >= ?", (since_ns,))
    of_run = "i.ts_ns >= ? AND i.client_order_id >= ? AND i.client_order_id < ?"
    return order_histories(view, of_run, (since_ns, *ids_of_run(run)))


def ids_of_run(run: str) -> tuple[str, str]:
    """The range of the identifiers that a run gave, upper end excluded: those that start with its name and a hyphen."""
    return f"{run}-", f"{run}."


def order_histories(view: JournalView, which: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """The orders that satisfy the condition `which` on `intents i`, with their events."""
    requests, fills, updates = (
        _RowsByOrder(
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
        yield _order(intent) | {"events": _events(intent, requests.of(number), fills.of(number), updates.of(number))}


class _RowsByOrder:
    """Rows sorted by order, read order by order, so that only one order's rows are in memory."""

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


def _events(intent: Row, requests: list[Row], fills: list[Row], updates: list[Row]) -> list[dict[str, Any]]:
    """Requests, fills and the server's reports in the order in which they were recorded."""
    found = [(intent["number"], {"time": stamp(intent["ts_ns"]), "event": "intent"})]
    found += [(row["number"], _request(row)) for row in requests]
    found += [(row["number"], _execution(row)) for row in fills]
    found += [(row["number"], _update(row)) for row in updates]
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
