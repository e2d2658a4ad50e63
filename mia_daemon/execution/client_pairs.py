"""Keeps stop and target of an entry where the server links no orders: single orders, sent as the entry fills.

The pair is ours: when one order fills, the other is reduced or cancelled here (`surplus_orders`), which takes a message
to the server and back. In that time both may fill, which opens a position on the other side; it is closed again. And
between the entry's fill and the stop's acknowledgement the position is not protected.
"""

from dataclasses import replace

from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.records import Order


class ClientPairs:
    """Sends a stop and a target for what an entry has filled, once."""

    def __init__(self, state: ExecutionState, order_manager: OrderManager, *, active: bool) -> None:
        self._state = state
        self._order_manager = order_manager
        self._active = active
        self._sent: dict[str, int] = {}  # contracts with a pair, by client order id of the entry

    def work(self, held: HeldPosition) -> None:
        """Send what is missing for the entry of the present position."""
        bracket = self._state.brackets.get(held.decision_id) if self._active and held.quantity else None
        if bracket is None or self._state.flatten.reason:
            return
        name = bracket.entry.client_order_id
        entry = self._state.orders.get(name)
        contracts = (entry.fills.booked if entry is not None else 0) - self._sent.get(name, 0)
        if contracts <= 0:
            return
        self._sent = {name: self._sent.get(name, 0) + contracts}
        for order in (bracket.stop, bracket.target):
            self._order_manager.send_protection(self._single(order, contracts))

    def _single(self, order: Order, contracts: int) -> Order:
        """The planned order under a client order id of its own: an entry may fill in parts."""
        made = self._order_manager.factory.make(
            order.role, order.side, contracts, order.type, order.price, order.decision_id
        )
        return replace(made, parent_id=order.parent_id)
