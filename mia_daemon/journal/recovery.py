"""Reading the journal: the latches, round trips, orders and positions that earlier runs left behind."""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.errors import JournalError
from mia_daemon.journal.file import explain
from mia_daemon.journal.rows import (
    DECISION,
    FILL,
    TRADE,
    decision_of,
    fill_of,
    order_of,
    origin_of,
    trade_of,
)
from mia_daemon.records import (
    Decision,
    Fill,
    JournaledFill,
    JournaledOrder,
    OrderStatus,
    Trade,
)
from mia_daemon.risk.codes import Latch, RiskCode


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a restart needs to carry on.

    Attributes:
        orders: those not known to be done, oldest first.
        ended: those that ended last without filling: the news of a fill may have been overtaken by that of a cancel.
        positions: contracts by (symbol, account), only those not flat.
        fills: of the asked symbol and account, since a moment at which it was flat: for `Ledger.restore`.
        trade_ids: identifiers of round trips given before the first of `fills` (the newest thousand).
        realized_before: account currency earned by the round trips closed before `fills` and by those of other symbols,
            after costs.
        realized_today: by round trips that ended since the day's start, after costs.
        peak_equity: the highest known since it was last rebased; 0 when none is.
        consecutive_losses: round trips that lost, counted back from the last one to a latch of theirs that was lifted.
        consecutive_rejects: entries that the server refused, counted in the same way from the last one it spoke of.
        last_fill_ns: exchange time of the newest fill; 0 when there is none. A broker is asked for fills since then.
    """

    orders: tuple[JournaledOrder, ...]
    ended: tuple[JournaledOrder, ...]
    positions: dict[tuple[str, str], int]
    fills: tuple[JournaledFill, ...]
    trade_ids: tuple[str, ...]
    realized_before: float
    realized_today: float
    peak_equity: float
    consecutive_losses: int
    consecutive_rejects: int
    latches: tuple[Latch, ...]
    last_fill_ns: int


@dataclass(frozen=True, slots=True)
class Background:
    """What led to a round trip, as far as it is on file.

    Attributes:
        fills: that made it, as they were booked; one that crossed zero made two.
        bundle, bundle_sha256: of the models that wanted to enter; "" where no decision of ours did.
        catalogue_sha256: of the definitions that `values` follow.
        shown: features for people, each with its place among `values`.
        values: (350,) float32, of the decision to enter; empty where they are not on file.
        simulated: the decision was made at the embedded simulator.
    """

    fills: tuple[Fill, ...] = ()
    bundle: str = ""
    bundle_sha256: str = ""
    catalogue_sha256: str = ""
    shown: dict[str, int] = field(default_factory=dict)
    values: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run on file.

    Attributes:
        number: counted from 1.
        ended: it came to its end in good order.
        files: bytes of each CSV file as the run found it.
    """

    number: int
    ended: bool
    files: dict[str, int]


class JournalReader:
    """Asks questions of an open journal; changes nothing.

    Raises:
        JournalError: in every method: the file is damaged or can't be read.
    """

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path = path
        self._db = db

    def has_fill(self, execution_id: str) -> bool:
        """Whether this execution is on file, of whichever order and run."""
        return self._query("SELECT 1 FROM fills WHERE execution_id = ?", (execution_id,)).fetchone() is not None

    def has_run(self, run_id: str) -> bool:
        """Whether a run of this name is on file."""
        return self._query("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)).fetchone() is not None

    def has_intent(self, client_order_id: str) -> bool:
        """Whether this order is on file, of whichever run."""
        return self._query("SELECT 1 FROM intents WHERE client_order_id = ?", (client_order_id,)).fetchone() is not None

    def latches(self) -> tuple[Latch, ...]:
        """Those set, oldest first."""
        rows = self._query("SELECT code, ts_ns, context FROM latches WHERE cleared_ns IS NULL ORDER BY number")
        return tuple(Latch(RiskCode(code), ts_ns, json.loads(context)) for code, ts_ns, context in rows)

    def trades(self, since_ns: int = 0) -> Iterator[Trade]:
        """Round trips that ended at or after `since_ns`, in the order they were recorded."""
        sql = f"SELECT {TRADE} FROM trades WHERE exit_ns >= ? ORDER BY number"  # noqa: S608  our names
        return map(trade_of, self._query(sql, (since_ns,)))

    def decisions(self, run: int, *, newest_first: bool = False) -> Iterator[Decision]:
        """Those of the run of this number, in the order they were made."""
        order = "DESC" if newest_first else "ASC"
        of_run = "decision_id >= run_id || '-' AND decision_id < run_id || '.'"  # all it named: '.' comes after '-'
        sql = f"SELECT {DECISION} FROM runs JOIN decisions ON {of_run} WHERE runs.number = ? ORDER BY decisions.number "  # noqa: S608
        return map(decision_of, self._query(sql + order, (run,)))

    def last_run(self) -> LastRun | None:
        """The newest; None in a new journal."""
        row = self._query("SELECT number, how, files FROM runs ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            return None
        number, how, files = row
        return LastRun(number, how is not None and not how.startswith("failed"), json.loads(files))

    def background(self, trade: Trade) -> Background:
        """What led to a closed round trip."""
        fills = tuple(self._fills_of(trade))
        row = self._query(_SELECT_BACKGROUND, (trade.decision_id,)).fetchone()
        if row is None:
            return Background(fills)
        name, bundle_sha256, catalogue_sha256, shown, source, vector = row
        try:
            values = np.frombuffer(zlib.decompress(vector), "<f4") if vector else np.empty(0, np.float32)
        except (zlib.error, ValueError) as error:
            raise JournalError(f"{self.path} is damaged: features of {trade.decision_id} ({error})") from error
        shown = json.loads(shown)
        return Background(fills, name, bundle_sha256, catalogue_sha256, shown, values, source == "simulator")

    def _fills_of(self, trade: Trade) -> list[Fill]:
        """From the one that closed the trip back to the one that found the account flat, or on the other side."""
        found: list[Fill] = []
        closing = self._query(_SELECT_CLOSING_FILL, (trade.trade_id,)).fetchone()
        for *fill, position in self._query(_SELECT_FILLS_UP_TO, closing) if closing else ():
            found.append(fill_of(tuple(fill)))
            before = position - found[-1].side * found[-1].quantity
            if before * trade.side <= 0:
                break
        return found[::-1]

    def last_event_ns(self) -> int:
        """The newest event time on file; 0 in a new journal. Tells which trading day an earlier run was in."""
        newest = "SELECT MAX(ts_ns) FROM (SELECT ts_ns FROM fills UNION ALL SELECT ts_ns FROM equity)"
        return int(self._query(newest).fetchone()[0] or 0)

    def executions_since_rearm(self) -> int:
        """Entries sent since a person last looked at them: all, less those that each look has ended."""
        row = self._query(_SELECT_EXECUTIONS).fetchone()
        return max(int(row[0]) - int(row[1]), 0)

    def messages_since(self, ts_ns: int) -> int:
        """Orders, replaces and cancels sent since then."""
        return int(self._query(_SELECT_MESSAGES, {"since": ts_ns}).fetchone()[0])

    def recover(self, symbol: str, account: str, day_start_ns: int) -> Recovered:
        """What earlier runs left behind, for a restart.

        Args:
            symbol: of the ledger to restore.
            account: of the ledger to restore.
            day_start_ns: when the current trading day began.
        """
        base = self._flat_before(symbol, account, day_start_ns)
        earlier = "FROM trades WHERE fill <= ? OR symbol <> ?"  # other contracts earned for the same account
        ids = self._query(f"SELECT trade_id {earlier} ORDER BY number DESC LIMIT 1000", (base, symbol))
        before = self._query(f"SELECT COALESCE(SUM(gross - costs), 0) {earlier}", (base, symbol))
        today = self._query("SELECT COALESCE(SUM(gross - costs), 0) FROM trades WHERE exit_ns >= ?", (day_start_ns,))
        peak = self._query("SELECT peak FROM equity ORDER BY number DESC LIMIT 1").fetchone()
        last_fill = self._query("SELECT MAX(ts_ns) FROM fills").fetchone()[0]
        return Recovered(
            orders=tuple(self._open_orders()),
            ended=tuple(self._orders(_ENDED)),
            positions=dict(self._positions()),
            fills=tuple(self._fills_since(base, symbol, account)),
            trade_ids=tuple(row[0] for row in ids),
            realized_before=before.fetchone()[0],
            realized_today=today.fetchone()[0],
            peak_equity=peak[0] if peak else 0.0,
            consecutive_losses=self._consecutive_losses(),
            consecutive_rejects=self._consecutive_rejects(),
            latches=self.latches(),
            last_fill_ns=last_fill or 0,
        )

    def _flat_before(self, symbol: str, account: str, day_start_ns: int) -> int:
        """The last fill that left the position flat and whose round trip is surely on file, of days before today."""
        row = self._query(
            "SELECT MAX(number) FROM fills WHERE symbol = ? AND account = ? AND position = 0 AND ts_ns < ?"
            " AND number <= (SELECT COALESCE(MAX(fill), 0) FROM trades)",
            (symbol, account, day_start_ns),
        ).fetchone()
        return int(row[0] or 0)

    def _fills_since(self, base: int, symbol: str, account: str) -> Iterator[JournaledFill]:
        rows = self._query(_SELECT_FILLS, (base, symbol, account))
        for row in rows:
            decision_id, role, reason, *probabilities = row[9:]
            yield JournaledFill(fill_of(row), origin_of(decision_id, probabilities), reason or role or "foreign")

    def _open_orders(self) -> Iterator[JournaledOrder]:
        return self._orders(_OPEN)

    def _orders(self, which: str) -> Iterator[JournaledOrder]:
        executions: dict[str, list[str]] = {}
        for name, execution_id in self._query(_SELECT_EXECUTIONS_OF + which + ")"):
            executions.setdefault(name, []).append(execution_id)
        for row in self._query(f"{_SELECT_ORDERS}{which} ORDER BY i.number"):
            yield JournaledOrder(
                order=order_of(row),
                intended_ns=row[12],
                status=OrderStatus(row[13]) if row[13] else None,
                server_order_id=row[14],
                quantity=row[15],
                price=row[16],
                reported=row[17],
                booked=row[18],
                executions=frozenset(executions.get(row[0], ())),
                origin=origin_of(row[7], row[20:]),
                asked_price=row[19] or 0.0,
            )

    def _consecutive_losses(self) -> int:
        losses = 0
        sql = "SELECT gross - costs FROM trades WHERE number > ? ORDER BY number DESC"
        for (profit,) in self._query(sql, (self._lifted(RiskCode.CONSECUTIVE_LOSSES),)):
            if profit >= 0:
                break
            losses += 1
        return losses

    def _consecutive_rejects(self) -> int:
        rejects = 0
        lifted = self._lifted(RiskCode.CONSECUTIVE_REJECTS)
        for (status,) in self._query(_SELECT_ANSWERS_TO_ENTRIES, (lifted,)):
            if status != OrderStatus.REJECTED:
                break
            rejects += 1
        return rejects

    def _lifted(self, code: RiskCode) -> int:
        """Where in the journal the last latch of this code was set that an operator has lifted; 0 for nowhere."""
        sql = "SELECT MAX(number) FROM latches WHERE code = ? AND cleared_ns IS NOT NULL"
        return int(self._query(sql, (code.value,)).fetchone()[0] or 0)

    def _positions(self) -> Iterator[tuple[tuple[str, str], int]]:
        rows = self._query("SELECT symbol, account, position, MAX(number) FROM fills GROUP BY symbol, account")
        for symbol, account, position, _ in rows:
            if position:
                yield (symbol, account), position

    def _query(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise explain(self.path, error) from error


_LAST_UPDATES: Final = 100

# Done: all contracts booked, or ended with every reported fill booked. A rejection after the order has worked
# contradicts itself, so such an order is still open. So is one that filled as far as the server last said, but not as
# far as was asked for: a bracket's quantity grows with its parent's fills.
_OPEN: Final = """\
NOT (booked >= reported
    AND (status IN ('filled', 'canceled', 'unknown_to_server') OR (status = 'rejected' AND NOT worked)))"""

_ENDED: Final = f"""\
booked >= reported AND status IN ('canceled', 'unknown_to_server') AND client_order_id IN (
    SELECT client_order_id FROM updates ORDER BY number DESC LIMIT {_LAST_UPDATES})"""  # noqa: S608  our own text

_SELECT_ORDERS: Final = """\
SELECT client_order_id, symbol, account, side, quantity, type, role, i.decision_id, price, limit_price, time_in_force,
    parent_id, i.ts_ns, status, server_order_id, last_quantity, last_price, reported, booked,
    (SELECT r.price FROM requests r WHERE r.client_order_id = i.client_order_id AND r.kind = 'replace'
        ORDER BY r.number DESC LIMIT 1),
    d.p_range, d.p_trend, d.p_defensive
FROM intents i
LEFT JOIN decisions d ON d.decision_id = i.decision_id
WHERE booked < MAX(quantity, last_quantity) AND """

_SELECT_EXECUTIONS_OF: Final = """\
SELECT client_order_id, execution_id FROM fills WHERE client_order_id IN (
    SELECT client_order_id FROM intents WHERE booked > 0 AND booked < MAX(quantity, last_quantity) AND """

_SELECT_MESSAGES: Final = """\
SELECT (SELECT COUNT(*) FROM intents WHERE ts_ns >= :since) + (SELECT COUNT(*) FROM requests WHERE ts_ns >= :since)"""

_SELECT_ANSWERS_TO_ENTRIES: Final = """\
SELECT u.status FROM updates u JOIN intents i USING (client_order_id)
WHERE u.number > ? AND i.role = 'entry' AND u.status IN ('rejected', 'accepted', 'working', 'partial', 'replaced')
ORDER BY u.number DESC"""

_SELECT_EXECUTIONS: Final = """\
SELECT (SELECT COUNT(*) FROM intents WHERE role = 'entry'),
    (SELECT COALESCE(SUM(json_extract(context, '$.executions')), 0) FROM latches
        WHERE code = 'repeated_execution' AND cleared_ns IS NOT NULL)"""

_SELECT_FILLS: Final = """\
SELECT f.ts_ns, f.execution_id, f.client_order_id, f.server_order_id, f.symbol, f.account, f.side, f.quantity, f.price,
    i.decision_id, i.role,
    (SELECT r.reason FROM requests r WHERE r.client_order_id = f.client_order_id AND r.reason <> ''
        ORDER BY r.number DESC LIMIT 1),
    d.p_range, d.p_trend, d.p_defensive
FROM fills f
LEFT JOIN intents i ON i.client_order_id = f.client_order_id
LEFT JOIN decisions d ON d.decision_id = i.decision_id
WHERE f.number > ? AND f.symbol = ? AND f.account = ?
ORDER BY f.number"""

_SELECT_CLOSING_FILL: Final = """\
SELECT f.number, f.symbol, f.account FROM trades t JOIN fills f ON f.number = t.fill WHERE t.trade_id = ?"""

_SELECT_FILLS_UP_TO: Final = f"""\
SELECT {FILL}, position FROM fills WHERE number <= ? AND symbol = ? AND account = ? ORDER BY number DESC"""  # noqa: S608

_SELECT_BACKGROUND: Final = """\
SELECT r.bundle_name, r.bundle_sha256, r.catalogue_sha256, r.shown, json_extract(r.config, '$.feed.source'), f.vector
FROM decisions d JOIN runs r ON r.number = d.run LEFT JOIN features f ON f.number = d.number
WHERE d.decision_id = ?"""
