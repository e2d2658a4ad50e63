"""What the journal has on file of the three orders, changed and read by the journal's own statements."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from mia_daemon.execution.order_factory import OrderFactory
from mia_daemon.execution.ports import TradeScope
from mia_daemon.journal.recovery import RecoveredOrders, recover
from mia_daemon.journal.rows import Values
from mia_daemon.journal.schema import TABLES
from mia_daemon.journal.statements import (
    ADD_TO_FILLED,
    INSERT_FILL,
    INSERT_REQUEST,
    INSERT_UPDATE,
    UPDATE_INTENT,
    fill_values,
    insert_intents,
    intent_changes,
    intent_values,
    update_values,
)
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Fill, Order, OrderReport, OrderStatus, Side
from model_check.venue import SIZE

NOW: Final = 1_700_000_000_000_000_000
"""Event time; it stands still."""

SCOPE: Final = TradeScope("RUN1", instrument("ESZ26_FUT_CME"), "Sim1")
_BRACKET: Final = OrderFactory(SCOPE).make_bracket(Side.BUY, SIZE, 100.0, stop=98.0, target=102.0, decision_id="d1")
ORDERS: Final[tuple[Order, ...]] = (_BRACKET.entry, _BRACKET.stop, _BRACKET.target)
PRICES: Final = ((100.0, 100.25), (98.0, 98.25), (102.0, 101.75))
"""Of each order as sent, and after its replace."""

PLACES: Final = {order.client_order_id: place for place, order in enumerate(ORDERS)}


class Row(NamedTuple):
    """One order in the journal: the columns of its intent that change, its last replace, and its fills."""

    status: str
    server_order_id: str
    last_quantity: int
    last_price: float
    worked: int
    reported: int
    booked: int
    asked_price: float = 0.0
    fills: tuple[Fill, ...] = ()


AS_SENT: Final = tuple(Row("", "", order.quantity, order.price, 0, 0, 0) for order in ORDERS)

_CHANGING: Final = "status, server_order_id, last_quantity, last_price, worked, reported, booked"


class _Scratch:
    """A journal in memory that holds one set of rows at a time."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._database.executescript(TABLES)

    def query(self, sql: str, values: Values = (), /) -> sqlite3.Cursor:
        return self._database.execute(sql, values)

    def load(self, places: Sequence[int], rows: Sequence[Row]) -> None:
        for table in ("intents", "requests", "updates", "fills"):
            self.query(f"DELETE FROM {table}")
        for place, row in zip(places, rows, strict=True):
            order = ORDERS[place]
            self.query(insert_intents(1), intent_values(place + 1, NOW, order))
            self.query(
                f"UPDATE intents SET ({_CHANGING}) = (?, ?, ?, ?, ?, ?, ?) WHERE client_order_id = ?",
                (*row[:7], order.client_order_id),
            )
            for number, fill in enumerate(row.fills, start=10 * place):
                self.query(INSERT_FILL, fill_values(number, fill, 0))
            if row.asked_price:
                self.query(
                    INSERT_REQUEST, (order.client_order_id, 1, NOW, "replace", row.asked_price, order.quantity, "")
                )
            if row.status:
                last = OrderReport(NOW, order.client_order_id, row.server_order_id, "", "", OrderStatus(row.status))
                self.query(INSERT_UPDATE, update_values(place + 1, last))

    def row(self, place: int, before: Row) -> Row:
        name = ORDERS[place].client_order_id
        found = self.query(f"SELECT {_CHANGING} FROM intents WHERE client_order_id = ?", (name,)).fetchone()
        return Row(*found)._replace(asked_price=before.asked_price, fills=before.fills)


@cache
def _scratch() -> _Scratch:
    return _Scratch()


def updated(place: int, row: Row, update: OrderReport) -> Row:
    """The row after an update was recorded."""
    return _updated(place, row, tuple(intent_changes(update).items()))


@cache
def _updated(place: int, row: Row, changes: tuple[tuple[str, Any], ...]) -> Row:
    scratch = _scratch()
    scratch.load((place,), (row,))
    scratch.query(UPDATE_INTENT, dict(changes))
    return scratch.row(place, row)


@cache
def booked(place: int, row: Row, fill: Fill) -> Row | None:
    """The row after a fill was recorded; None when the journal has that execution of the order already."""
    scratch = _scratch()
    scratch.load((place,), (row,))
    if not scratch.query(INSERT_FILL, fill_values(99, fill, 0)).rowcount:
        return None
    scratch.query(ADD_TO_FILLED, (fill.quantity, fill.client_order_id))
    return scratch.row(place, row)._replace(fills=(*row.fills, fill))


@cache
def recovered(rows: tuple[Row, ...]) -> RecoveredOrders:
    """What a restart reads."""
    scratch = _scratch()
    scratch.load(range(len(rows)), rows)
    return recover(scratch.query, SCOPE.instrument.symbol, SCOPE.account, 0).orders
