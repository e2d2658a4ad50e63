"""Reading the journal: the latches, round trips, orders and positions that earlier runs left behind."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mia_daemon.records import (
    Fill,
    Order,
    OrderRole,
    OrderStatus,
    OrderType,
    RegimeProbs,
    Side,
    TimeInForce,
    Trade,
)
from mia_daemon.risk.codes import Latch, RiskCode
from mia_daemon.trading.journal_file import explain
from mia_daemon.trading.ledger import FOREIGN, BookedFill, Origin


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order of ours that is not known to be done, as the journal knows it.

    Attributes:
        status: the last the server said of the order itself; None when it was never heard of.
        quantity, price: as last confirmed by the server, else as intended.
        asked_price: of the last replace asked for, confirmed or not; 0 when none was.
        reported: contracts the server said had filled; more than `booked` while a fill is missing.
        booked: contracts of the fills on file, told by `executions`.
        origin: what asked for it.
    """

    order: Order
    intended_ns: int
    status: OrderStatus | None
    server_order_id: str
    quantity: int
    price: float
    reported: int
    booked: int
    executions: frozenset[str]
    origin: Origin = FOREIGN
    asked_price: float = 0.0


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
        consecutive_losses: round trips that lost, counted back from the last one.
        last_fill_ns: exchange time of the newest fill; 0 when there is none. A broker is asked for fills since then.
    """

    orders: tuple[OpenOrder, ...]
    ended: tuple[OpenOrder, ...]
    positions: dict[tuple[str, str], int]
    fills: tuple[BookedFill, ...]
    trade_ids: tuple[str, ...]
    realized_before: float
    realized_today: float
    peak_equity: float
    consecutive_losses: int
    latches: tuple[Latch, ...]
    last_fill_ns: int


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

    def latches(self) -> tuple[Latch, ...]:
        """Those set, oldest first."""
        rows = self._query("SELECT code, ts_ns, context FROM latches WHERE cleared_ns IS NULL ORDER BY number")
        return tuple(Latch(RiskCode(code), ts_ns, json.loads(context)) for code, ts_ns, context in rows)

    def trades(self, since_ns: int = 0) -> Iterator[Trade]:
        """Round trips that ended at or after `since_ns`, in the order they were recorded."""
        return map(_trade, self._query(_SELECT_TRADES, (since_ns,)))

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
            ended=tuple(self._orders(_SELECT_ENDED_ORDERS)),
            positions=dict(self._positions()),
            fills=tuple(self._fills_since(base, symbol, account)),
            trade_ids=tuple(row[0] for row in ids),
            realized_before=before.fetchone()[0],
            realized_today=today.fetchone()[0],
            peak_equity=peak[0] if peak else 0.0,
            consecutive_losses=self._consecutive_losses(),
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

    def _fills_since(self, base: int, symbol: str, account: str) -> Iterator[BookedFill]:
        rows = self._query(_SELECT_FILLS, (base, symbol, account))
        for row in rows:
            decision_id, role, reason, *probabilities = row[9:]
            yield BookedFill(_fill(row), _origin(decision_id, probabilities), reason or role or "foreign")

    def _open_orders(self) -> Iterator[OpenOrder]:
        return self._orders(_SELECT_OPEN_ORDERS)

    def _orders(self, select: str) -> Iterator[OpenOrder]:
        for row in self._query(select).fetchall():
            executions = self._query("SELECT execution_id FROM fills WHERE client_order_id = ?", (row[0],))
            yield OpenOrder(
                order=_order(row),
                intended_ns=row[12],
                status=OrderStatus(row[13]) if row[13] else None,
                server_order_id=row[14],
                quantity=row[15],
                price=row[16],
                reported=row[17],
                booked=row[18],
                executions=frozenset(name for (name,) in executions),
                origin=_origin(row[7], row[20:]),
                asked_price=row[19] or 0.0,
            )

    def _consecutive_losses(self) -> int:
        losses = 0
        for (profit,) in self._query("SELECT gross - costs FROM trades ORDER BY number DESC"):
            if profit >= 0:
                break
            losses += 1
        return losses

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
_SELECT_ORDERS: Final = """\
SELECT client_order_id, symbol, account, side, quantity, type, role, i.decision_id, price, limit_price, time_in_force,
    parent_id, i.ts_ns, status, server_order_id, last_quantity, last_price, reported, booked,
    (SELECT r.price FROM requests r WHERE r.client_order_id = i.client_order_id AND r.kind = 'replace'
        ORDER BY r.number DESC LIMIT 1),
    d.p_range, d.p_trend, d.p_defensive
FROM intents i
LEFT JOIN decisions d ON d.decision_id = i.decision_id
WHERE booked < MAX(quantity, last_quantity) AND """

_SELECT_OPEN_ORDERS: Final = f"""{_SELECT_ORDERS}
    NOT (booked >= reported
        AND (status IN ('filled', 'canceled', 'unknown_to_server') OR (status = 'rejected' AND NOT worked)))
ORDER BY number"""

_SELECT_ENDED_ORDERS: Final = f"""{_SELECT_ORDERS}
    booked >= reported AND status IN ('canceled', 'unknown_to_server') AND client_order_id IN (
        SELECT client_order_id FROM updates WHERE number > (SELECT MAX(number) FROM updates) - {_LAST_UPDATES})
ORDER BY number"""  # noqa: S608  # a constant

_SELECT_MESSAGES: Final = """\
SELECT (SELECT COUNT(*) FROM intents WHERE ts_ns >= :since) + (SELECT COUNT(*) FROM requests WHERE ts_ns >= :since)"""

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


_SELECT_TRADES: Final = """\
SELECT trade_id, symbol, side, quantity, entry_ns, exit_ns, entry_price, exit_price, gross, costs, decision_id,
    exit_reason, p_range, p_trend, p_defensive
FROM trades WHERE exit_ns >= ? ORDER BY number"""


def _order(row: tuple[Any, ...]) -> Order:
    return Order(
        client_order_id=row[0],
        symbol=row[1],
        account=row[2],
        side=Side(row[3]),
        quantity=row[4],
        type=OrderType(row[5]),
        role=OrderRole(row[6]),
        decision_id=row[7],
        price=row[8],
        limit_price=row[9],
        time_in_force=TimeInForce(row[10]),
        parent_id=row[11],
    )


def _fill(row: tuple[Any, ...]) -> Fill:
    return Fill(
        ts_ns=row[0],
        execution_id=row[1],
        client_order_id=row[2],
        server_order_id=row[3],
        symbol=row[4],
        account=row[5],
        side=Side(row[6]),
        quantity=row[7],
        price=row[8],
    )


def _trade(row: tuple[Any, ...]) -> Trade:
    return Trade(
        trade_id=row[0],
        symbol=row[1],
        side=Side(row[2]),
        quantity=row[3],
        entry_ns=row[4],
        exit_ns=row[5],
        entry_price=row[6],
        exit_price=row[7],
        gross=row[8],
        costs=row[9],
        decision_id=row[10],
        exit_reason=row[11],
        regime_probs=RegimeProbs(*row[12:15]),
    )


def _origin(decision_id: str | None, probabilities: Sequence[float | None]) -> Origin:
    return Origin(decision_id, _regime_probs(probabilities)) if decision_id else FOREIGN


def _regime_probs(values: Sequence[float | None]) -> RegimeProbs:
    """Zeros where the decision itself was lost with the process that made it."""
    return RegimeProbs(*(value or 0.0 for value in values))
