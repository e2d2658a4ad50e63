"""One order of ours as a tuple, and the `WorkingOrder` that it stands for."""

from dataclasses import replace
from typing import Final, NamedTuple

from mia_daemon.execution.executions import Execution, OrderFills
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_order import OrderHistory, PendingRequest, WorkingOrder
from model_check.on_file import NOW, ORDERS

BEFORE_QUERY: Final = 1
SINCE_QUERY: Final = 2
"""Versions of an order that has changed before the query was sent, and since."""


class OurOrder(NamedTuple):
    """What a `WorkingOrder` holds."""

    state: OrderState
    quantity: int
    price: float
    server_order_id: str
    parent_id: str  # "" once it was adopted
    changed: bool  # since the query was sent
    updated_ns: int
    surplus: bool
    request: tuple[bool, bool, bool, bool, bool, bool, float]
    reported: int
    average: float
    executions: tuple[Execution, ...]
    released: bool
    missing: tuple[bool, int]
    seen: tuple[tuple[str, int, float, int], ...]
    told: int
    unconfirmed: tuple[tuple[tuple[int, float], tuple[int, ...]], ...]
    on_file: tuple[str, ...]

    @property
    def booked(self) -> int:
        return sum(execution.quantity for execution in self.executions)


def make_entry(place: int, one: OurOrder) -> WorkingOrder:
    """The order that a tuple stands for."""
    order = ORDERS[place]
    if order.parent_id != one.parent_id:
        order = replace(order, parent_id=one.parent_id)
    waits, cancel_pending, cancel_wanted, replace_pending, replace_refused, canceled, asked_price = one.request
    fills = OrderFills(
        one.booked,
        one.reported,
        one.average,
        list(one.executions),
        one.released,
        int(one.missing[0]),
        one.missing[1],
        set(one.seen),
        one.told,
        {key: list(booked) for key, booked in one.unconfirmed},
        set(one.on_file),
    )
    request = PendingRequest(
        asked_ns=int(waits),
        cancel_pending=cancel_pending,
        replace_pending=replace_pending,
        cancel_wanted=cancel_wanted,
        replace_refused=replace_refused,
        canceled_in_replace=canceled,
        asked_price=asked_price,
    )
    history = OrderHistory(
        version=SINCE_QUERY if one.changed else BEFORE_QUERY,
        sent_ns=NOW,
        sent_at_ns=1,
        updated_ns=one.updated_ns,
        surplus=one.surplus,
    )
    return WorkingOrder(order, one.state, one.quantity, one.price, one.server_order_id, fills, request, history)


def read_entry(entry: WorkingOrder, *, asking: bool) -> OurOrder:
    """The tuple that stands for an order."""
    fills, request, history = entry.fills, entry.request, entry.history
    return OurOrder(
        entry.state,
        entry.quantity,
        entry.price,
        entry.server_order_id,
        entry.order.parent_id,
        asking and history.version > BEFORE_QUERY,
        history.updated_ns,
        history.surplus,
        (
            request.asked_ns > 0,
            request.cancel_pending,
            request.cancel_wanted,
            request.replace_pending,
            request.replace_refused,
            request.canceled_in_replace,
            request.asked_price,
        ),
        fills.reported,
        fills.average,
        tuple(fills.executions),
        fills.released,
        (fills.missing_since_ns > 0, fills.snapshots),
        tuple(sorted(fills._seen)),
        fills._told,
        tuple(sorted((key, tuple(booked)) for key, booked in fills._unconfirmed.items() if booked)),
        tuple(sorted(fills._on_file)),
    )
