"""Each order with all that the server reported of it, in the order it was recorded: for checks of its states."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

from mia_daemon.journal.view import JournalView, Row


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An update of the order or a fill, as it is on file.

    Attributes:
        number: of the row.
        status: of the update as it is spelled on file; "" for a fill.
        quantity: of an update, the order's total, 0 where the server told none; of a fill, its contracts.
        filled: cumulative, as told with an update; 0 for a fill.
        unsolicited: False for an update that answers a query.
    """

    number: int
    status: str
    quantity: int
    filled: int = 0
    unsolicited: bool = True


@dataclass(frozen=True, slots=True)
class OrderRows:
    """An order as intended, what is on file as its state, and what led to that.

    Attributes:
        quantity: as intended.
        last_quantity: as the server last confirmed it, else as intended.
        status: the last one of the order itself; "" when the server told none.
        booked: contracts, as counted with each fill.
        events: oldest first.
    """

    client_order_id: str
    quantity: int
    last_quantity: int
    status: str
    booked: int
    events: tuple[OrderEvent, ...]


def order_rows(view: JournalView) -> Iterator[OrderRows]:
    """Every order of which an intent is on file, by its client order id."""
    for name, found in groupby(view.rows(_SELECT), key=itemgetter("client_order_id")):
        rows = list(found)
        intent = rows[0]
        yield OrderRows(
            client_order_id=name,
            quantity=intent["intended"],
            last_quantity=intent["last_quantity"],
            status=intent["final"],
            booked=intent["booked"],
            events=tuple(_event(row) for row in rows if row["number"] is not None),
        )


def _event(row: Row) -> OrderEvent:
    return OrderEvent(row["number"], row["status"], row["quantity"], row["filled"], bool(row["unsolicited"]))


_SELECT: Final = """\
SELECT i.client_order_id, i.quantity AS intended, i.last_quantity, i.status AS final, i.booked, e.*
FROM intents i LEFT JOIN (
    SELECT client_order_id AS of, number, status, quantity, filled, unsolicited FROM updates
    UNION ALL SELECT client_order_id, number, '', quantity, 0, 1 FROM fills
) e ON e.of = i.client_order_id
ORDER BY i.client_order_id, e.number"""
