"""Keeps stop and target of an entry where the server links no orders: single orders, sent as the entry fills.

The pair is ours: when one order fills, the other is reduced or cancelled here (`surplus_orders`), which takes a message
to the server and back. In that time both may fill, which opens a position on the other side; it is closed again. And
between the entry's fill and the stop's acknowledgement the position is not protected.
"""

from dataclasses import replace

from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.records import Bracket, Order, OrderRole


class ClientPairs:
    """Sends a stop and a target for what each entry has filled, once, and no more than the position lacks."""

    def __init__(self, state: ExecutionState, order_manager: OrderManager, *, active: bool) -> None:
        self._state = state
        self._order_manager = order_manager
        self._active = active
        self._sent: dict[str, int] = {}  # contracts with a pair, by client order id of the entry

    def work(self, held: HeldPosition) -> None:
        """Send what is missing for the entries of the present position, which several decisions may have made."""
        if not self._active or self._state.flatten.reason:
            return
        brackets = self._state.brackets.values()
        filled = {bracket.entry.client_order_id: self._filled(bracket) for bracket in brackets}
        if not held.quantity:
            self._sent = filled  # nothing is left to protect
            return
        bare = min(abs(held.quantity), self._state.confirmed) - self._stops(held)
        for bracket in reversed(brackets):  # the newest: an earlier one may have filled for a position that is closed
            name = bracket.entry.client_order_id
            contracts = min(filled[name] - self._sent.get(name, 0), bare)
            if contracts > 0 and bracket.stop.side is held.close_side:
                self._sent = {key: self._sent.get(key, 0) for key in filled} | {
                    name: self._sent.get(name, 0) + contracts
                }
                bare -= contracts
                for order in (bracket.stop, bracket.target):
                    self._order_manager.send_protection(self._single(order, contracts))

    def _filled(self, bracket: Bracket) -> int:
        entry = self._state.orders.get(bracket.entry.client_order_id)
        return entry.fills.booked if entry is not None else 0

    def _stops(self, held: HeldPosition) -> int:
        """Contracts of the stops that work or may come to work."""
        stops = self._state.orders.with_role(OrderRole.STOP)
        return sum(stop.open_quantity for stop in stops if stop.live and stop.order.side is held.close_side)

    def _single(self, order: Order, contracts: int) -> Order:
        """The planned order under a client order id of its own: an entry may fill in parts."""
        made = self._order_manager.factory.make(
            order.role, order.side, contracts, order.type, order.price, order.decision_id
        )
        return replace(made, parent_id=order.parent_id)
