"""Checks that what is on file of an order is a path of the order state table that leads to its recorded state.

The table is replayed over the order's rows. Not everything that moves an order is a row: the loss of the connection and
a restart are not, and neither is an answer that changed nothing. So the replay keeps every state in which the order can
have been.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from mia_daemon.execution.order_states import TRANSITIONS, Cause, OrderState, cause_of
from mia_daemon.journal.order_rows import OrderEvent, OrderRows
from mia_daemon.records import OrderReport, OrderStatus

_ENDS: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})
_NOT_CONFIRMED: Final = _REFUSALS | {OrderStatus.REJECTED}
"""The quantity in such a report is that of the request."""

_NOT_ANSWERED: Final = frozenset({OrderState.INTENT, OrderState.SENT})
_ALIVE: Final = frozenset(OrderState) - _NOT_ANSWERED - {OrderState.CANCELED, OrderState.REJECTED}
_STATES: Final[dict[str, AbstractSet[OrderState]]] = {
    "": frozenset(OrderState) - {OrderState.CANCELED, OrderState.REJECTED},
    # Filled by its fills, whatever the server told last; a contradiction is unknown.
    OrderStatus.FILLED: {OrderState.FILLED},
    OrderStatus.CANCELED: {OrderState.CANCELED, OrderState.FILLED, OrderState.UNKNOWN},
    OrderStatus.UNKNOWN_TO_SERVER: {
        OrderState.CANCELED, OrderState.REJECTED, OrderState.FILLED, OrderState.UNKNOWN
    },
    # After the order has worked, a rejection contradicts itself and what comes later is believed.
    OrderStatus.REJECTED: frozenset(OrderState) - _NOT_ANSWERED,
}  # fmt: skip
"""By the status on file: the states of which one is possible. Others are alive."""


def findings(order: OrderRows) -> Iterator[str]:
    """What the rows of one order on file contradict; nothing if they lead to its status and booked quantity."""
    name, replay = order.client_order_id, _Replay(order.quantity)
    for event in order.events:
        if event.status and event.status not in _CAUSES:
            yield f"update {event.number} of order {name} says {event.status!r}, which the state table does not know"
            return
        replay.apply(event)
    on_file = f"order {name} is on file as {order.status or 'unanswered'}"
    if replay.status != order.status:
        yield f"{on_file}, its rows lead to {replay.status or 'unanswered'}"
    elif not replay.states & _STATES.get(order.status, _ALIVE):
        yield f"{on_file}, the state table leads to {', '.join(sorted(replay.states))}"
    if replay.booked != order.booked:
        yield f"order {name} is on file with {order.booked} booked, its rows lead to {replay.booked}"


_CAUSES: Final = frozenset(Cause) & frozenset(OrderStatus)
"""The statuses that move an order, as they are spelled on file."""


@dataclass(slots=True)
class _Replay:
    """An order as its rows so far left it.

    Attributes:
        quantity: as intended.
        quantities: all that it may have had.
        states: all in which it may be.
        status: as the journal keeps it: a filled order stays filled; a canceled or rejected one becomes live again only
            when a complete answer lists it.
    """

    quantity: int
    quantities: set[int] = field(init=False)
    states: set[OrderState] = field(default_factory=lambda: {OrderState.INTENT, OrderState.SENT})
    status: str = ""
    booked: int = 0

    def __post_init__(self) -> None:
        self.quantities = {self.quantity}

    def apply(self, event: OrderEvent) -> None:
        before = self.states | {TRANSITIONS[state, Cause.LOSE] for state in self.states}
        if not event.status:
            self.booked += event.quantity
            causes = {Cause.FULL_FILL if self.booked >= quantity else Cause.PART_FILL for quantity in self.quantities}
            self.states = {TRANSITIONS[state, cause] for state in before for cause in causes}
            return
        status = OrderStatus(event.status)
        if event.quantity > 0 and status not in _NOT_CONFIRMED:
            self.quantities.add(event.quantity)
        cause = cause_of(OrderReport(0, "", "", "", "", status, unsolicited=event.unsolicited))
        self.states = {TRANSITIONS[state, cause] for state in before}
        if status is OrderStatus.UNKNOWN_TO_SERVER:  # it may work all the same, if an update follows
            self.states |= before
        kept = self.status == OrderStatus.FILLED or (self.status in _ENDS and event.unsolicited)
        if status is OrderStatus.FILLED or (status not in _REFUSALS and not kept):
            self.status = status.value
