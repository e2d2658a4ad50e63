"""What earlier runs left in the journal, read at a restart: orders, the account, and the state of the risk checks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mia_daemon.journal.rows import FILL, FILL_COLUMNS, JournalQuery, fill_of, order_of, origin_of
from mia_daemon.records import Fill, JournaledFill, JournaledOrder, OrderStatus
from mia_daemon.risk.codes import Latch, RiskCode


@dataclass(frozen=True, slots=True)
class RecoveredOrders:
    """Orders of earlier runs.

    Attributes:
        open: those not known to be done, oldest first.
        ended: those that ended last without filling: the message about a fill may arrive after that about a cancel.
    """

    open: tuple[JournaledOrder, ...]
    ended: tuple[JournaledOrder, ...]


@dataclass(frozen=True, slots=True)
class RecoveredAccount:
    """Positions and money.

    Attributes:
        positions: contracts by (symbol, account), only those not flat.
        fills: of the requested symbol and account, since a moment at which it was flat: for `Ledger.restore`.
        trade_ids: identifiers of round trips given before the first of `fills` (the newest thousand).
        realized_before: account currency earned by the round trips closed before `fills` and by those of other symbols,
            after costs.
        realized_today: by round trips that ended since the day's start, after costs.
        peak_equity: the highest known since it was last rebased; 0 when none is.
        last_fill_ns: exchange time of the newest fill; 0 when there is none. A broker is asked for fills since then.
    """

    positions: dict[tuple[str, str], int]
    fills: tuple[JournaledFill, ...]
    trade_ids: tuple[str, ...]
    realized_before: float
    realized_today: float
    peak_equity: float
    last_fill_ns: int


@dataclass(frozen=True, slots=True)
class RecoveredRisk:
    """The state of the risk checks.

    Attributes:
        latches: those set, oldest first.
        consecutive_losses: losing round trips, counted back from the last one to a cleared latch on losses.
        consecutive_rejects: entries that the server rejected, counted back in the same way from its last answer.
    """

    latches: tuple[Latch, ...]
    consecutive_losses: int
    consecutive_rejects: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a restart needs to carry on."""

    orders: RecoveredOrders
    account: RecoveredAccount
    risk: RecoveredRisk


def recover(query: JournalQuery, symbol: str, account: str, day_start_ns: int) -> Recovered:
    """See `JournalReader.recover`."""
    return Recovered(
        orders=RecoveredOrders(tuple(open_orders(query)), tuple(_orders(query, _ENDED))),
        account=_account(query, symbol, account, day_start_ns),
        risk=RecoveredRisk(set_latches(query), _consecutive_losses(query), _consecutive_rejects(query)),
    )


# Orders.


def open_orders(query: JournalQuery) -> Iterator[JournaledOrder]:
    """Those not known to be done, oldest first."""
    return _orders(query, _OPEN)


def _orders(query: JournalQuery, which: str) -> Iterator[JournaledOrder]:
    fills: dict[str, list[Fill]] = {}
    for fill in map(fill_of, query(f"{_SELECT_FILLS_OF}{which}) ORDER BY number")):
        fills.setdefault(fill.client_order_id, []).append(fill)
    updated = dict(query(_SELECT_LAST_UPDATES).fetchall())
    for row in query(f"{_SELECT_ORDERS}{which} ORDER BY i.number"):
        yield JournaledOrder(
            order=order_of(row),
            intended_ns=row[12],
            status=OrderStatus(row[13]) if row[13] else None,
            server_order_id=row[14],
            quantity=row[15],
            price=row[16],
            reported=row[17],
            booked=row[18],
            fills=tuple(fills.get(row[0], ())),
            origin=origin_of(row[7], row[20:]),
            asked_price=row[19] or 0.0,
            updated_ns=updated.get(row[0], 0),
        )


# The account.


def positions(query: JournalQuery) -> dict[tuple[str, str], int]:
    """Contracts by (symbol, account), only those not flat."""
    rows = query("SELECT symbol, account, position, MAX(number) FROM fills GROUP BY symbol, account")
    return {(symbol, account): position for symbol, account, position, _ in rows if position}


def _account(query: JournalQuery, symbol: str, account: str, day_start_ns: int) -> RecoveredAccount:
    base = _flat_before(query, symbol, account, day_start_ns)
    earlier = "FROM trades WHERE fill <= ? OR symbol <> ?"  # other contracts earned for the same account
    ids = query(f"SELECT trade_id {earlier} ORDER BY number DESC LIMIT 1000", (base, symbol))
    before = query(f"SELECT COALESCE(SUM(gross - costs), 0) {earlier}", (base, symbol))
    today = query("SELECT COALESCE(SUM(gross - costs), 0) FROM trades WHERE exit_ns >= ?", (day_start_ns,))
    peak = query("SELECT peak FROM equity ORDER BY number DESC LIMIT 1").fetchone()
    last_fill = query("SELECT MAX(ts_ns) FROM fills").fetchone()[0]
    return RecoveredAccount(
        positions=positions(query),
        fills=tuple(_fills_since(query, base, symbol, account)),
        trade_ids=tuple(row[0] for row in ids),
        realized_before=before.fetchone()[0],
        realized_today=today.fetchone()[0],
        peak_equity=peak[0] if peak else 0.0,
        last_fill_ns=last_fill or 0,
    )


def _flat_before(query: JournalQuery, symbol: str, account: str, day_start_ns: int) -> int:
    """The last fill before today that left the position flat and whose round trip is certainly in the journal."""
    row = query(
        "SELECT MAX(number) FROM fills WHERE symbol = ? AND account = ? AND position = 0 AND ts_ns < ?"
        " AND number <= (SELECT COALESCE(MAX(fill), 0) FROM trades)",
        (symbol, account, day_start_ns),
    ).fetchone()
    return int(row[0] or 0)


def _fills_since(query: JournalQuery, base: int, symbol: str, account: str) -> Iterator[JournaledFill]:
    for row in query(_SELECT_FILLS, (base, symbol, account)):
        decision_id, role, reason, *probabilities = row[len(FILL_COLUMNS) :]
        yield JournaledFill(fill_of(row), origin_of(decision_id, probabilities), reason or role or "foreign")


# Risk.


def set_latches(query: JournalQuery) -> tuple[Latch, ...]:
    """Those set, oldest first."""
    rows = query("SELECT code, ts_ns, context FROM latches WHERE cleared_ns IS NULL ORDER BY number")
    return tuple(Latch(RiskCode(code), ts_ns, json.loads(context)) for code, ts_ns, context in rows)


def _consecutive_losses(query: JournalQuery) -> int:
    losses = 0
    sql = "SELECT gross - costs FROM trades WHERE number > ? ORDER BY number DESC"
    for (profit,) in query(sql, (_last_cleared(query, RiskCode.CONSECUTIVE_LOSSES),)):
        if profit >= 0:
            break
        losses += 1
    return losses


def _consecutive_rejects(query: JournalQuery) -> int:
    rejects = 0
    for (status,) in query(_SELECT_ANSWERS_TO_ENTRIES, (_last_cleared(query, RiskCode.CONSECUTIVE_REJECTS),)):
        if status != OrderStatus.REJECTED:
            break
        rejects += 1
    return rejects


def _last_cleared(query: JournalQuery, code: RiskCode) -> int:
    """The number under which the last latch of this code was set that an operator has cleared; 0 for none."""
    sql = "SELECT MAX(number) FROM latches WHERE code = ? AND cleared_ns IS NOT NULL"
    return int(query(sql, (code.value,)).fetchone()[0] or 0)


_LAST_UPDATES: Final = 100

# Done: all contracts filled, or ended with every reported fill recorded. A rejection after the order has worked
# contradicts itself, so such an order is still open. So is one that filled as far as the server last said, but not as
# far as was requested: a bracket's quantity grows with its parent's fills.
_OPEN: Final = """\
NOT (booked >= reported
    AND (status IN ('filled', 'canceled', 'unknown_to_server') OR (status = 'rejected' AND NOT worked)))"""

_ENDED: Final = f"""\
booked >= reported AND status IN ('canceled', 'unknown_to_server') AND client_order_id IN (
    SELECT client_order_id FROM updates ORDER BY number DESC LIMIT {_LAST_UPDATES})"""  # noqa: S608  our own text

_SELECT_LAST_UPDATES: Final = f"""\
SELECT client_order_id, MAX(ts_ns) FROM (
    SELECT client_order_id, ts_ns FROM updates ORDER BY number DESC LIMIT {_LAST_UPDATES})
GROUP BY client_order_id"""  # noqa: S608  our own text

_SELECT_ORDERS: Final = """\
SELECT client_order_id, symbol, account, side, quantity, type, role, i.decision_id, price, limit_price, time_in_force,
    parent_id, i.ts_ns, status, server_order_id, last_quantity, last_price, reported, booked,
    (SELECT r.price FROM requests r WHERE r.client_order_id = i.client_order_id AND r.kind = 'replace'
        ORDER BY r.number DESC LIMIT 1),
    d.p_range, d.p_trend, d.p_defensive
FROM intents i
LEFT JOIN decisions d ON d.decision_id = i.decision_id
WHERE booked < MAX(quantity, last_quantity) AND """

_SELECT_FILLS_OF: Final = f"""\
SELECT {FILL} FROM fills WHERE client_order_id IN (
    SELECT client_order_id FROM intents WHERE booked > 0 AND booked < MAX(quantity, last_quantity) AND """  # noqa: S608

_SELECT_ANSWERS_TO_ENTRIES: Final = """\
SELECT u.status FROM updates u JOIN intents i USING (client_order_id)
WHERE u.number > ? AND i.role = 'entry'
    AND u.status IN ('rejected', 'accepted', 'held', 'working', 'partial', 'replaced')
ORDER BY u.number DESC"""

_SELECT_FILLS: Final = f"""\
SELECT {", ".join(f"f.{column}" for column in FILL_COLUMNS)},
    i.decision_id, i.role,
    (SELECT r.reason FROM requests r WHERE r.client_order_id = f.client_order_id AND r.reason <> ''
        ORDER BY r.number DESC LIMIT 1),
    d.p_range, d.p_trend, d.p_defensive
FROM fills f
LEFT JOIN intents i ON i.client_order_id = f.client_order_id
LEFT JOIN decisions d ON d.decision_id = i.decision_id
WHERE f.number > ? AND f.symbol = ? AND f.account = ?
ORDER BY f.number"""  # noqa: S608  our names
