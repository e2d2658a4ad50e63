"""Writes the CSV and JSON files anew that a daemon wrote while it traded, from its journal, byte for byte.

They go through the same `TradeLog`, one for each run as then. What the journal does not hold is left out and named.
"""

import json
import math
import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mia_daemon.clock import NS_PER_MS, NS_PER_S
from mia_daemon.config import WAIVED, Mode
from mia_daemon.errors import StartError, UsageError
from mia_daemon.records import Action, Decision, Fill, OrderRole, OrderType, Prediction, RegimeProbs, Side, Trade
from mia_daemon.risk.throttle import MINUTE_NS, PENALTY_ABOVE
from mia_daemon.trading.journal_trips import Trip, names, paired, trips
from mia_daemon.trading.journal_view import JournalView, Row, run_of
from mia_daemon.trading.trade_log import TradeLog

LEFT_OUT: Final = (
    "trade_snapshots: without `bundle` (its name) and `features`, which the journal does not hold",
    "trade_snapshots of round trips that were open over a restart: their fills are all here, there only the last run's",
    "rows of the last second before a kill are in the files of then, but not in the journal",
)
"""In what the files written here may differ from those of then."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        files: rows, or files, by the path below the directory.
        notes: what could not be written as it was.
    """

    files: dict[str, int]
    notes: tuple[str, ...]


def export(view: JournalView, directory: Path) -> Exported:
    """Write all files below `directory`, which must not exist yet or be empty; it appears whole or not at all.

    Raises:
        UsageError: the directory holds something already.
        StartError, JournalError: it can't be written; nothing is left of it.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} holds something already: name a directory that is new or empty")
    part = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    try:
        exported = _write(view, part)
        part.replace(directory)
    except OSError as error:
        raise StartError(f"{directory} can't be written: {error.strerror}; make room or check its owner") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return exported


def _write(view: JournalView, part: Path) -> Exported:
    runs = view.runs()
    if not runs:
        raise UsageError(f"journal {view.path} holds no run: there is nothing to export")
    simulated = runs[-1]["mode"] != Mode.LIVE
    found = list(paired(trips(view), view.trades()))
    open_trips = _TripNames(dict(names(found)))
    notes: list[str] = []
    decisions = 0
    for run in runs:
        log = TradeLog(part, simulated=simulated)
        try:
            decisions += _write_decisions(view, run, open_trips, log, notes)
        finally:
            log.close()
    bundles = {run["run_id"]: run["bundle_sha256"] for run in runs}
    by_trade = {trade.trade_id: trip for trip, trade in found if trip is not None and trade is not None}
    trades = 0
    log = TradeLog(part, simulated=simulated)
    try:
        for trade in view.trades():
            log.trade(trade)
            log.snapshot(trade, _details(trade, by_trade.get(trade.trade_id), bundles))
            trades += 1
    finally:
        log.close()
    (part / "risk_snapshots").rmdir()  # of the moment they were taken: not in the journal
    files = {
        f"trades/trades_{'simulated' if simulated else 'real'}.csv": trades,
        "trade_snapshots/trade_*.json": trades,
        "logs/trading/alpha_scores.csv": decisions,
        "logs/trading/decision_log.csv": decisions,
        "logs/trading/penalty_log.csv": _rows(part / "logs" / "trading" / "penalty_log.csv"),
    }
    return Exported(files, (*notes, *LEFT_OUT))


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file) - 1


# Decisions.


def _write_decisions(view: JournalView, run: Row, open_trips: "_TripNames", log: TradeLog, notes: list[str]) -> int:
    """Those of one run, in order; how many."""
    run_id = run["run_id"]
    within = "FROM decisions WHERE decision_id >= ? AND decision_id < ?", (f"{run_id}-", f"{run_id}.")
    limit = run["config"].get("risk", {}).get("max_orders_per_minute")
    if limit == WAIVED:
        limit = math.inf
    if limit is None:
        notes.append(f"penalty_log.csv of run {run_id}: its configuration is not on file")
    messages = sorted(_messages(view, run, *within))
    count = 0
    for row in view.rows(f"SELECT * {within[0]} ORDER BY seq", within[1]):
        decision = _decision(row)
        mine = run_id if run["mode"] == Mode.REPLAY else ""
        log.decision(decision, open_trips.name(decision, mine))
        if limit is not None:
            recent = bisect_right(messages, decision.ts_ns) - bisect_right(messages, decision.ts_ns - MINUTE_NS)
            score = min(recent / limit, 1.0)
            log.penalty(decision.ts_ns, score, active=score > PENALTY_ABOVE)
        count += 1
    return count


def _messages(view: JournalView, run: Row, within: str, values: tuple[str, str]) -> Iterator[int]:
    """When this run sent what counts against its rate: entries (with their bracket), stops, exits and replaces.

    A replace of an earlier run's order is this run's when it falls between its decisions; replays, which all tell of
    the same time, have no orders but their own.
    """
    sent = "SELECT ts_ns FROM intents WHERE client_order_id >= ? AND client_order_id < ? AND parent_id = ''"
    not_flatten = f" AND NOT (role = '{OrderRole.EXIT}' AND type = {OrderType.MARKET:d})"
    yield from (row["ts_ns"] for row in view.rows(sent + not_flatten, values))
    span = view.one(f"SELECT MIN(ts_ns) AS first, MAX(ts_ns) AS last {within}", values)
    assert span is not None
    dated = run["mode"] != Mode.REPLAY and span["first"] is not None
    for row in view.rows("SELECT client_order_id, ts_ns FROM requests WHERE kind = 'replace' ORDER BY number"):
        own = run_of(row["client_order_id"]) == run["run_id"]
        if own or (dated and span["first"] <= row["ts_ns"] <= span["last"]):
            yield row["ts_ns"]


def _decision(row: Row) -> Decision:
    def number(name: str) -> float:
        return math.nan if row[name] is None else float(row[name])

    said = Prediction(
        RegimeProbs(number("p_range"), number("p_trend"), number("p_defensive")),
        number("signal"),
        number("probability"),
        row["policy"],
        number("out_of_range_share"),
        row["observation_sha256"],
    )
    return Decision(
        row["decision_id"],
        row["seq"],
        row["ts_ns"],
        Action(row["action"]),
        row["target"],
        row["reason"],
        said,
        number("bid"),
        number("ask"),
        json.loads(row["context"]),
    )


class _TripNames:
    """Tells which round trip a decision found open: by its side, and by how long it had been held."""

    def __init__(self, named: dict[str, Trip]) -> None:
        self._trips = sorted(((trip.opened_ns, name, trip) for name, trip in named.items()), key=lambda one: one[0])
        self._opened = [opened_ns for opened_ns, _, _ in self._trips]

    def name(self, decision: Decision, run_id: str) -> str:
        """Of the round trip; "" when it found none.

        Args:
            decision: its context tells the position and how long it was held, in seconds to three digits.
            run_id: of a replay, whose trips alone are looked at; "" elsewhere.
        """
        position, held_s = decision.context.get("position", 0), decision.context.get("held_s")
        if not position or held_s is None:
            return ""
        about_ns = decision.ts_ns - round(held_s * NS_PER_S)
        first = bisect_left(self._opened, about_ns - NS_PER_MS)
        last = bisect_right(self._opened, about_ns + NS_PER_MS)
        for opened_ns, name, trip in reversed(self._trips[first:last]):
            of_run = not run_id or run_of(trip.fills[0]["client_order_id"]) == run_id
            fits = trip.side * position > 0 and round((decision.ts_ns - opened_ns) / NS_PER_S, 3) == held_s
            if of_run and fits:
                return name
        return ""


# Round trips.


def _details(trade: Trade, trip: Trip | None, bundles: dict[str, str]) -> dict[str, Any]:
    """The keys of a snapshot beside the trade itself, as far as the journal knows them."""
    fills = [asdict(_fill(fill)) for fill in (trip.fills if trip else ()) if fill["role"] is not None]
    bundle = bundles.get(run_of(trade.decision_id))
    return {"fills": fills} | ({} if bundle is None else {"bundle_sha256": bundle})


def _fill(row: Row) -> Fill:
    return Fill(
        row["ts_ns"],
        row["execution_id"],
        row["client_order_id"],
        row["server_order_id"],
        row["symbol"],
        row["account"],
        Side(row["side"]),
        row["quantity"],
        row["price"],
    )
