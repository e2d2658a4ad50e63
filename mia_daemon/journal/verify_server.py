"""Checks that what was booked agrees with what the server reported: filled quantities and positions."""

from collections.abc import Iterator
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.journal.order_rows import OrderEvent, OrderRows, order_rows
from mia_daemon.journal.schema import PER_RUN
from mia_daemon.journal.view import JournalView, ended_well
from mia_daemon.records import OrderStatus

SETTLED_NS: Final = 60 * NS_PER_S
"""A run that went on for so long has received, or asked for, what belongs to what the server told before."""

_FINAL: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})


def booked_as_told(view: JournalView) -> Iterator[str]:
    """The fills of an order that ended are as many contracts as the server told.

    An order whose last update is final (filled, canceled, rejected) has booked the largest filled quantity that an
    update of it told; one reported as filled, without a quantity, all of its contracts. An order of which no quantity
    was ever told is not compared. Fewer than told is a finding only once the last update is settled: before that the
    execution may still be on its way.
    """
    settled = _Settled(view)
    for order in order_rows(view):
        updates = [event for event in order.events if event.status and event.status not in _REFUSALS]
        if not updates or updates[-1].status not in _FINAL:
            continue
        told = _told(order, updates)
        booked = sum(event.quantity for event in order.events if not event.status)
        if told and (booked > told or (booked < told and settled.has(updates[-1].number))):
            yield (
                f"order {order.client_order_id} ended as {updates[-1].status}, the server told {told} filled, "
                f"its fills make {booked}"
            )


def _told(order: OrderRows, updates: list[OrderEvent]) -> int:
    largest = max(event.filled for event in updates)
    if not largest and updates[-1].status == OrderStatus.FILLED:
        return order.last_quantity
    return largest


def position_as_told(view: JournalView) -> Iterator[str]:
    """The last position that the server reported is that of the fills on file.

    Compared is, for each symbol and account in which an order or a fill is on file, the last report, and only if it was
    recorded after the last fill and is settled: its run ended in good order, or that run or a later one went on for a
    minute of event time without a fill. A report shortly before a kill may have overtaken a fill, and one before the
    last fill is out of date. The position of a replay is that of its own fills, since each starts flat.
    """
    settled = _Settled(view)
    replays = view.replays()
    for report in view.rows(_LAST_REPORTS):
        symbol, account, run = report["symbol"], report["account"], report["run"]
        fill = view.one(_LAST_FILL, (symbol, account, run if run in replays else 0))
        if (fill is not None and fill["number"] > report["number"]) or not settled.has(report["number"]):
            continue
        booked = fill["position"] if fill is not None else 0
        if report["quantity"] != booked:
            yield (
                f"report {report['number']} of the server says position {report['quantity']:+d} in {symbol}, account "
                f"{account}, the fills before it make {booked:+d}"
            )


class _Settled:
    """Whether what belongs to a row has arrived since.

    It has when the row's run ended in good order, or when that run or a later one went on for `SETTLED_NS`: a restart
    asks for what was missed. A replay has no later run.
    """

    def __init__(self, view: JournalView) -> None:
        self._view = view
        self._replays = view.replays()
        self._runs = view.runs()

    def has(self, number: int) -> bool:
        own = number // PER_RUN
        for run in self._runs:
            if run["number"] == own and ended_well(run["how"]):
                return True
            later = run["number"] > own and own not in self._replays
            if (run["number"] == own or later) and self._went_on(run["number"], number):
                return True
        return False

    def _went_on(self, run: int, number: int) -> bool:
        span = self._view.one(_EVENT_TIMES, {"first": max(number, run * PER_RUN), "last": (run + 1) * PER_RUN})
        return span is not None and span["first"] is not None and span["last"] - span["first"] >= SETTLED_NS


_LAST_REPORTS: Final = """\
SELECT number, run, symbol, account, quantity, MAX(number) FROM positions p
WHERE EXISTS (SELECT 1 FROM intents i WHERE i.symbol = p.symbol AND i.account = p.account)
    OR EXISTS (SELECT 1 FROM fills f WHERE f.symbol = p.symbol AND f.account = p.account)
GROUP BY symbol, account ORDER BY number"""

_LAST_FILL: Final = """\
SELECT number, position FROM fills WHERE symbol = ? AND account = ? AND run >= ? ORDER BY number DESC LIMIT 1"""

_EVENT_TIMES: Final = """\
SELECT MIN(ts_ns) AS first, MAX(ts_ns) AS last FROM (
    SELECT ts_ns FROM equity WHERE number > :first AND number < :last
    UNION ALL SELECT ts_ns FROM decisions WHERE number > :first AND number < :last)"""
