"""Is a journal consistent? Each check reads the tables and reports which rows contradict each other.

Nothing here uses the code that wrote it: positions, round trips and money are computed again from the fills.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mia_daemon.config import Mode
from mia_daemon.errors import JournalError
from mia_daemon.features import catalogue
from mia_daemon.journal.order_rows import OrderRows, order_rows
from mia_daemon.journal.schema import NUMBERED
from mia_daemon.journal.trips import Trip, paired, trips
from mia_daemon.journal.verify_server import booked_as_told, position_as_told
from mia_daemon.journal.view import JournalView, ended_well, run_of
from mia_daemon.records import Trade

CENT: Final = 0.005
"""Sums of floats may differ in their last digits; money does not differ by half a cent."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of all checks.

    Attributes:
        checks: violations by the name of the check; an empty list if there are none.
    """

    checks: dict[str, list[str]]

    @property
    def sound(self) -> bool:
        return not any(self.checks.values())


OrderPath = Callable[[OrderRows], Iterator[str]]
"""Checks the rows of one order against the order state table: `execution.order_path.findings`."""


def verify(view: JournalView, order_path: OrderPath) -> Findings:
    """Run all checks. A page or a value that can't be read is a finding too: what comes after it is not checked."""

    def order_paths(view: JournalView) -> Iterator[str]:
        for order in order_rows(view):
            yield from order_path(order)

    checks = {}
    for name, check in (_CHECKS | {"orders follow the state table": order_paths}).items():
        found: list[str] = []
        try:
            found.extend(check(view))
        except JournalError as error:
            found.append(str(error))
        except ValueError as error:  # no member of an enum, no JSON
            found.append(f"a value on file is none that a daemon writes: {error}")
        checks[name] = found
    return Findings(checks)


# The file.


def _integrity(view: JournalView) -> Iterator[str]:
    for row in view.rows("PRAGMA integrity_check"):
        if row["integrity_check"] != "ok":
            yield row["integrity_check"]


def _runs(view: JournalView) -> Iterator[str]:
    sql = "SELECT run_id FROM runs WHERE ended_ns IS NULL AND number < (SELECT MAX(number) FROM runs) ORDER BY number"
    for row in view.rows(sql):
        yield f"run {row['run_id']} never ended, and others came after it"


def _runs_of_rows(view: JournalView) -> Iterator[str]:
    for table in NUMBERED:
        sql = f"SELECT run, COUNT(*) AS times FROM {table} WHERE run NOT IN (SELECT number FROM runs) GROUP BY run"  # noqa: S608
        for row in view.rows(sql):
            yield f"{table} has {row['times']} rows of run {row['run']}, which is not on file"


def _features(view: JournalView) -> Iterator[str]:
    sql = (
        "SELECT f.number, f.vector, d.decision_id FROM features f LEFT JOIN decisions d ON d.number = f.number"
        " ORDER BY f.number"
    )
    for row in view.rows(sql):
        name = row["decision_id"]
        if name is None:
            yield f"the features under number {row['number']} are of no decision on file"
            continue
        if not row["vector"]:  # pruned
            continue
        try:
            whole = len(zlib.decompress(row["vector"])) == 4 * catalogue.COUNT
        except zlib.error:
            whole = False
        if not whole:
            yield f"the features of decision {name} are not whole"


# Orders.


def _unique_orders(view: JournalView) -> Iterator[str]:
    """Counted in the table itself, as in the next check: the unique index may be damaged."""
    for row in view.rows(
        "SELECT client_order_id AS name, COUNT(*) AS times FROM intents NOT INDEXED"
        " GROUP BY client_order_id HAVING COUNT(*) > 1"
    ):
        yield f"client order id {row['name']} is on file {row['times']} times"


def _unique_executions(view: JournalView) -> Iterator[str]:
    for row in view.rows(
        "SELECT client_order_id AS of, execution_id AS name, COUNT(*) AS times FROM fills NOT INDEXED"
        " GROUP BY client_order_id, execution_id HAVING COUNT(*) > 1"
    ):
        of = f"order {row['of']}" if row["of"] else "no order of ours"
        yield f"execution {row['name']} of {of} is on file {row['times']} times"


def _attributed_orders(view: JournalView) -> Iterator[str]:
    """An entry has a decision. An order that closes may have none, if the position was not opened by us."""
    for row in view.rows(
        "SELECT client_order_id, role, decision_id FROM intents i WHERE NOT EXISTS"
        " (SELECT 1 FROM decisions d WHERE d.decision_id = i.decision_id) AND (decision_id <> '' OR role = 'entry')"
        " ORDER BY number"
    ):
        behind = f"decision {row['decision_id']}, which is not on file" if row["decision_id"] else "no decision"
        yield f"{row['role']} {row['client_order_id']} has {behind}"
    for row in view.rows(
        "SELECT client_order_id, parent_id FROM intents i WHERE parent_id <> '' AND NOT EXISTS"
        " (SELECT 1 FROM intents p WHERE p.client_order_id = i.parent_id) ORDER BY number"
    ):
        yield f"order {row['client_order_id']} protects {row['parent_id']}, which is not on file"
    runs = _run_ids(view)
    for row in view.rows("SELECT client_order_id FROM intents ORDER BY number"):
        if run_of(row["client_order_id"]) not in runs:
            yield f"order {row['client_order_id']} is of no run on file"


def _intended_first(view: JournalView) -> Iterator[str]:
    """A decision was recorded before its orders, and an order before its requests, updates and fills."""
    runs = _run_ids(view)
    for row in view.rows(
        "SELECT client_order_id, decision_id FROM intents JOIN decisions USING (decision_id)"
        " WHERE decisions.number > intents.number ORDER BY intents.number"
    ):
        yield f"order {row['client_order_id']} was written down before its decision {row['decision_id']}"
    for table, what in (("requests", "request"), ("updates", "update"), ("fills", "fill")):
        for row in view.rows(
            f"SELECT t.number, t.client_order_id, i.number AS intended FROM {table} t"  # noqa: S608  our names
            " LEFT JOIN intents i ON i.client_order_id = t.client_order_id"
            " WHERE t.client_order_id <> '' AND (i.number IS NULL OR i.number > t.number) ORDER BY t.number"
        ):
            finding = f"{what} {row['number']} is about order {row['client_order_id']}"
            if row["intended"] is not None:
                yield f"{finding}, whose intent was written down later"
            elif table == "requests" or run_of(row["client_order_id"]) in runs:
                yield f"{finding}, whose intent is not on file"


# Fills.


def _fills_make_sense(view: JournalView) -> Iterator[str]:
    for row in view.rows("SELECT number, execution_id, price FROM fills ORDER BY number"):
        if not (math.isfinite(row["price"]) and row["price"] > 0):
            yield f"fill {row['number']} (execution {row['execution_id']}) is at {row['price']}"
    sql = (
        "SELECT f.number, f.client_order_id FROM fills f JOIN intents i ON i.client_order_id = f.client_order_id"
        " WHERE f.symbol <> i.symbol OR f.account <> i.account OR (f.side <> i.side AND i.type <> 1) ORDER BY f.number"
    )  # the side of a flatten follows from the position at the server
    for row in view.rows(sql):
        yield f"fill {row['number']} is of another symbol, account or side than its order {row['client_order_id']}"


def _fills_within_orders(view: JournalView) -> Iterator[str]:
    totals = {
        row["client_order_id"]: row["filled"]
        for row in view.rows("SELECT client_order_id, SUM(quantity) AS filled FROM fills GROUP BY client_order_id")
    }
    for row in view.rows("SELECT client_order_id, quantity, last_quantity FROM intents ORDER BY number"):
        filled = totals.get(row["client_order_id"], 0)
        asked = max(row["quantity"], row["last_quantity"])
        if filled > asked:
            yield f"order {row['client_order_id']} of {asked} filled {filled}"


def _positions(view: JournalView) -> Iterator[str]:
    """Each fill's position is the sum of all before it; in a replay, of its own."""
    held: dict[tuple[str, str, int], int] = {}
    replays = view.replays()
    for row in view.rows("SELECT * FROM fills ORDER BY number"):
        account = row["symbol"], row["account"], row["run"] if row["run"] in replays else 0
        held[account] = held.get(account, 0) + row["side"] * row["quantity"]
        if row["position"] != held[account]:
            yield (
                f"fill {row['number']} (execution {row['execution_id']}) says position {row['position']:+d}, "
                f"the fills make {held[account]:+d}"
            )
            held[account] = row["position"]  # reported once, not with every later fill


def _last_state(view: JournalView) -> Iterator[str]:
    """The last position that a run wrote before it ended on purpose is that of its fills."""
    last = next(reversed(view.runs()), None)
    equity = view.one("SELECT * FROM equity ORDER BY number DESC LIMIT 1")
    if last is None or equity is None or last["mode"] == Mode.REPLAY:
        return
    traded = last["config"].get("instrument")
    if not ended_well(last["how"]) or traded is None:
        return
    # What filled while the daemon was stopping was recorded after its last equity row.
    sums = "SELECT COALESCE(SUM(side * quantity), 0) FROM fills WHERE symbol = ? AND account = ? AND number < ?"
    found = view.value(sums, (traded["symbol"], traded["trade_account"], equity["number"]))
    if equity["position"] != found:
        yield f"run {last['run_id']} ended with position {equity['position']:+d}, its fills make {found:+d}"


# Round trips.


def _recorded_trips(view: JournalView) -> Iterator[str]:
    """Each round trip in the fills has its trade, and each trade its round trip, with the same size and prices."""
    for trip, trade in paired(trips(view), view.trades()):
        if trip is None:
            assert trade is not None
            yield f"trade {trade.trade_id} is no round trip that the fills make"
        elif trade is not None:
            yield from _differences(trip, trade)
        elif not trip.open:
            first, last = trip.fills[0]["execution_id"], trip.fills[-1]["execution_id"]
            yield f"the round trip from execution {first} to {last} has no trade"


def _differences(trip: Trip, trade: Trade) -> Iterator[str]:
    # A fill that opens a position long after its order ended belongs to no decision.
    if trade.decision_id not in {trip.decision_id, ""}:
        opened_by = f"that of decision {trip.decision_id}" if trip.decision_id else "none of ours"
        yield f"trade {trade.trade_id} names decision {trade.decision_id}, the order that opened it is {opened_by}"
    for name, recorded, found in (
        ("quantity", trade.quantity, trip.largest),
        ("entry price", trade.entry_price, trip.entries.average_price),
        ("exit price", trade.exit_price, trip.exits.average_price),
    ):
        if not math.isclose(recorded, found, rel_tol=1e-12, abs_tol=1e-9):
            yield f"trade {trade.trade_id} says {name} {recorded:g}, its fills make {found:g}"


def _money(view: JournalView) -> Iterator[str]:
    """Gross, costs and profit of each trade follow from its fills, at the rates of the run that recorded it."""
    rates = {row["number"]: (row["point_value"], row["cost_per_side"]) for row in view.rows("SELECT * FROM runs")}
    recorded_in = {row["trade_id"]: row["run"] for row in view.rows("SELECT trade_id, run FROM trades")}
    for trip, trade in paired(trips(view), view.trades()):
        if trip is None or trade is None or recorded_in[trade.trade_id] not in rates:
            continue
        point_value, cost_per_side = rates[recorded_in[trade.trade_id]]
        gross = float(trip.cash) * point_value
        costs = trip.traded * cost_per_side
        for name, recorded, found in (
            ("gross", trade.gross, gross),
            ("costs", trade.costs, costs),
            ("profit", trade.profit, gross - costs),
        ):
            if not abs(recorded - found) < CENT:
                yield f"trade {trade.trade_id} says {name} {recorded:.2f}, its fills make {found:.2f}"


def _run_ids(view: JournalView) -> set[str]:
    return {row["run_id"] for row in view.rows("SELECT run_id FROM runs")}


_Check = Callable[[JournalView], Iterator[Any]]

_CHECKS: Final[dict[str, _Check]] = {
    "the file is whole": _integrity,
    "every run but the last has ended": _runs,
    "every row is of a run": _runs_of_rows,
    "no client order id was used twice": _unique_orders,
    "no execution was booked twice": _unique_executions,
    "every order has its decision": _attributed_orders,
    "intents come first": _intended_first,
    "features are whole": _features,
    "fills make sense": _fills_make_sense,
    "no order filled beyond its quantity": _fills_within_orders,
    "orders that ended are booked as the server told": booked_as_told,
    "positions follow from the fills": _positions,
    "the position is as the server told": position_as_told,
    "the last state follows from the fills": _last_state,
    "round trips follow from the fills": _recorded_trips,
    "money follows from the fills": _money,
}
