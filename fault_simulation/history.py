"""Checks on the files of a run: the server's record of all order traffic, and the journal.

Shares no code with the daemon: JSON lines and SQL. Used by the simulation and by the test that kills real processes.
"""

import json
import sqlite3
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

_NAMES = {
    "SubmitNewSingleOrder": ("ClientOrderID",),
    "SubmitNewOCOOrder": ("ClientOrderID_1", "ClientOrderID_2"),
    "SubmitFlattenPositionOrder": ("ClientOrderID",),
}
_SINGLE = frozenset({"SubmitNewSingleOrder", "SubmitFlattenPositionOrder"})
_PRICE_OF_MARKET = 0.0

BY_HAND = "by-hand-"
"""Prefix of the ids of external orders, entered by hand at the server."""

Fill = tuple[str, str, int, int, float]
"""Execution, client order, side, quantity, price."""

Line = dict[str, Any]


def server_record(path: Path) -> list[Line]:
    """Whole lines of the simulator's record (`orders.jsonl`); it may be writing the last."""
    content = path.read_bytes()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows that `query` returns from the SQLite file at `path`."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()


# --------------------------------------------------------------------------------------------------------- the server's


def sent(record: list[Line]) -> Iterator[str]:
    """The ClientOrderID of every order that reached the server, as often as it did."""
    for line in record:
        if line["kind"] == "received":
            for name in _NAMES.get(line["type"], ()):
                yield line[name]


def parents(record: list[Line]) -> Iterator[str]:
    """The ClientOrderID of every entry that reached the server with a bracket."""
    return (line["ClientOrderID"] for line in record if line["kind"] == "received" and line.get("IsParentOrder"))


def sent_twice(record: list[Line]) -> list[str]:
    """Orders that reached the server more than once."""
    return [order_id for order_id, times in Counter(sent(record)).items() if times > 1]


def fills_at_server(record: list[Line]) -> Counter[Fill]:
    """Every execution of a client's order."""
    return Counter(
        (line["ExecutionID"], line["ClientOrderID"], line["side"], line["quantity"], line["price"])
        for line in record
        if line["kind"] == "fill"
    )


def position_at_server(record: list[Line]) -> int:
    """The position at the server after the last execution."""
    return int(next((line["position"] for line in reversed(record) if line["kind"] == "fill"), 0))


def contracts_at_server(record: list[Line]) -> Counter[str]:
    """Contracts filled, by client order."""
    contracts: Counter[str] = Counter()
    for line in record:
        if line["kind"] == "fill":
            contracts[line["ClientOrderID"]] += line["quantity"]
    return contracts


def runaway(record: list[Line], journal: Path, most: int, within_s: float) -> Iterator[str]:
    """The first order, if any, with which more than `most` exits and single stops arrived within that time."""
    bracketed = "SELECT client_order_id FROM intents WHERE role IN ('entry', 'target') OR parent_id <> ''"
    others = {name for (name,) in rows(journal, bracketed)}
    arrived: deque[int] = deque(maxlen=most + 1)
    for line in record:
        if line["kind"] != "received" or line["type"] not in _SINGLE or line["ClientOrderID"] in others:
            continue
        if line["ClientOrderID"].startswith(BY_HAND):
            continue
        arrived.append(line["ts_ns"])
        if len(arrived) > most and arrived[-1] - arrived[0] < within_s * 1e9:
            yield line["ClientOrderID"]
            return


# -------------------------------------------------------------------------------------------------------- the journal's


def fills_in_journal(journal: Path) -> Counter[Fill]:
    """Every fill in the journal, with how often it is there."""
    return Counter(rows(journal, "SELECT execution_id, client_order_id, side, quantity, price FROM fills"))


def contracts_in_journal(journal: Path) -> Counter[str]:
    """Contracts booked, by client order."""
    return Counter(dict(rows(journal, "SELECT client_order_id, SUM(quantity) FROM fills GROUP BY client_order_id")))


def position_in_journal(journal: Path) -> int:
    """The position after the last fill in the journal."""
    found = rows(journal, "SELECT position FROM fills ORDER BY number DESC LIMIT 1")
    return int(found[0][0]) if found else 0


def intended(journal: Path) -> set[str]:
    """The ClientOrderID of every intent in the journal."""
    return {name for (name,) in rows(journal, "SELECT client_order_id FROM intents")}


# -------------------------------------------------------------------------------------------------------- what is wrong


def unknown_orders(record: list[Line], journal: Path) -> Iterator[tuple[str, Any]]:
    """Orders at the server that the journal lacks or has with other values."""
    intents = {
        row[0]: row[1:] for row in rows(journal, "SELECT client_order_id, side, quantity, type, price FROM intents")
    }
    for line in record:
        if line["kind"] != "received" or line["type"] not in _NAMES:
            continue
        for name in _NAMES[line["type"]]:
            order_id, sent = line[name], _order_in(line, name.removeprefix("ClientOrderID"))
            if intents.get(order_id) != sent and (sent is not None or order_id not in intents):
                yield order_id, sent


def _order_in(line: Line, end: str) -> tuple[int, float, int, float] | None:
    """(side, quantity, type, price) in a message; None for one without these fields."""
    if line["type"] == "SubmitFlattenPositionOrder":
        return None
    side = {1: 1, 2: -1}[line["BuySell" + end]]
    return side, line["Quantity" + end], line["OrderType" + end], line.get("Price1" + end, _PRICE_OF_MARKET)


def unattributed(journal: Path) -> list[str]:
    """Intents in the journal without a decision in the journal."""
    query = """
        SELECT client_order_id FROM intents LEFT JOIN decisions USING (decision_id) WHERE decisions.seq IS NULL
            AND intents.decision_id <> ''"""
    return [name for (name,) in rows(journal, query)] + [
        name
        for (name,) in rows(
            journal, "SELECT client_order_id FROM intents WHERE decision_id = '' AND role NOT IN ('exit', 'stop')"
        )
    ]


def entered_while_halted(journal: Path) -> list[str]:
    """Entries in the journal, made while a latch in the journal was set."""
    query = """
        SELECT client_order_id FROM intents JOIN latches
            ON latches.ts_ns > 0 AND intents.ts_ns > latches.ts_ns
                AND (cleared_ns IS NULL OR intents.ts_ns < cleared_ns)
        WHERE role = 'entry'"""
    return [name for (name,) in rows(journal, query)]


def made_up_or_lost(
    record: list[Line], journal: Path, excused: Collection[str] = ()
) -> tuple[Counter[Fill], Counter[Fill]]:
    """Executions that only the journal has, and those that only the server has.

    Those of `excused` orders, which could not be journaled, need only be in the journal, under any order.
    """

    def plain(fills: Counter[Fill]) -> Counter[Fill]:
        plainly: Counter[Fill] = Counter()
        for fill, times in fills.items():
            plainly[fill if fill[0] not in free else (fill[0], "", *fill[2:])] += times
        return plainly

    theirs = fills_at_server(record)
    free = {fill[0] for fill in theirs if fill[1] in excused}
    ours, theirs = plain(fills_in_journal(journal)), plain(theirs)
    return ours - theirs, theirs - ours


def adopted(made_up: Counter[Fill], lost: Counter[Fill]) -> bool:
    """Whether the difference is due to external orders only.

    Their position was taken over as one fill without an order; or it was closed again before it was noticed.
    """
    external = all(fill[1].startswith(BY_HAND) or not fill[1] for fill in lost)
    taken = all(fill[0].startswith("drift-") for fill in made_up)
    return external and taken and _net(made_up) == _net(lost)


def _net(fills: Counter[Fill]) -> int:
    return sum(fill[2] * fill[3] * times for fill, times in fills.items())


def earned(journal: Path) -> float:
    """Profit of all round trips in the journal, after costs, account currency."""
    return float(rows(journal, "SELECT COALESCE(SUM(gross - costs), 0) FROM trades")[0][0])


TABLES = (
    "decisions", "intents", "requests", "updates", "fills", "positions", "trades", "equity", "alerts", "commands",
    "latches", "firings",
)  # fmt: skip
"""The tables of the journal that are compared: all but the runs."""
