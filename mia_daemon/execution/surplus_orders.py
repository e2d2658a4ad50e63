"""Cancels closing orders that have nothing left to close, and reduces those that would close too much.

The server should do that itself for the orders of a pair; where it has not after `surplus_ns`, it is done here. A
server that leaves both orders of several pairs in a row working does not link them.
"""

from collections.abc import Iterator
from typing import Final

from mia_daemon.clock import NEVER_NS
from mia_daemon.execution.circuit_breakers import CircuitBreakers
from mia_daemon.execution.order_manager import OrderManager
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.protection import ProtectionPolicy
from mia_daemon.execution.state import ExecutionState, HeldPosition
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import OrderRole

MAX_UNLINKED: Final = 2
"""Pairs in a row that the server did not link, at which new risk stops."""


class SurplusOrders:
    """Looks after closing orders whose position is smaller than they are."""

    def __init__(
        self, state: ExecutionState, order_manager: OrderManager, breakers: CircuitBreakers, policy: ProtectionPolicy
    ) -> None:
        self._state = state
        self._orders = state.orders
        self._order_manager = order_manager
        self._breakers = breakers
        self._grace_ns = policy.surplus_ns
        self._since_ns = 0
        self._unlinked = 0
        self._cancelled = False  # here, since there was no surplus

    def work(self, held: HeldPosition) -> int:
        """Do what is missing now; our time of the next call, NEVER_NS when nothing is pending."""
        own_ns = self._state.own_ns
        excess = [] if self._orders.missing_fills() else [*self._surplus(held), *self._excess(held)]
        if not excess:
            if self._since_ns and not self._cancelled:
                self._unlinked = 0
            self._since_ns, self._cancelled = 0, False
            return NEVER_NS
        self._since_ns = self._since_ns or own_ns
        due_ns = self._since_ns + self._grace_ns
        late = own_ns >= due_ns
        for entry, contracts in excess:
            whole = contracts >= entry.open_quantity
            if whole and (late or not entry.order.parent_id):
                self._cancel(entry)
            elif late and not whole:
                self._reduce(entry, contracts)
        return NEVER_NS if late else due_ns

    def _surplus(self, held: HeldPosition) -> list[tuple[WorkingOrder, int]]:
        """Closing orders with nothing left to close, and their contracts."""
        closing = [entry for entry in self._orders if entry.order.role is not OrderRole.ENTRY and entry.live]
        if any(entry.live for entry in self._orders.with_role(OrderRole.ENTRY)):
            wrong = [entry for entry in closing if entry.history.surplus]
        else:
            wrong = [entry for entry in closing if entry.history.surplus or entry.order.side is not held.close_side]
            wrong = wrong if held.quantity else closing
        return [(entry, entry.open_quantity) for entry in wrong]

    def _excess(self, held: HeldPosition) -> Iterator[tuple[WorkingOrder, int]]:
        """Stops that together would close more than the position, or targets, and the contracts that are too many.

        Such an order would open a position on the other side. Those go first that nobody else looks after or whose
        pair is closed, the newest of them before older ones.
        """
        for role in (OrderRole.STOP, OrderRole.TARGET) if held.quantity else ():
            orders = [
                entry
                for entry in reversed(self._orders.with_role(role))
                if entry.order.side is held.close_side
                and entry.at_server
                and entry.open_quantity
                and not self._is_looked_after(entry)
            ]
            if any(entry.request.replace_pending for entry in orders):
                continue  # one is being reduced, or moved
            excess = sum(entry.open_quantity for entry in orders) - abs(held.quantity)
            orders.sort(key=lambda entry: (bool(entry.order.parent_id), not self._sibling_filled(entry)))
            larger = None
            for entry in orders:
                if entry.open_quantity > excess:
                    larger = larger or entry
                else:
                    excess -= entry.open_quantity
                    yield entry, entry.open_quantity
            if larger is not None and excess > 0:
                yield larger, excess

    def _is_looked_after(self, entry: WorkingOrder) -> bool:
        """It is being cancelled, or its entry may still fill."""
        parent = self._orders.get(entry.order.parent_id)
        gone = entry.request.cancel_wanted or entry.history.surplus
        return gone or (parent is not None and parent.live)

    def _cancel(self, entry: WorkingOrder) -> None:
        if entry.request.cancel_wanted:
            return
        self._order_manager.cancel(entry)
        if self._grace_ns and self._sibling_filled(entry):
            self._cancelled = True
            self._unlinked += 1
            if self._unlinked >= MAX_UNLINKED:
                self._breakers.contradict(
                    "pairs_not_linked",
                    f"the server left {entry.order.role} {entry.client_order_id} working after the other order of its "
                    'pair had filled, as it did before: it does not link them; set broker.brackets = "client"',
                    {"order": entry.client_order_id},
                )

    def _sibling_filled(self, entry: WorkingOrder) -> bool:
        return any(
            other.state is OrderState.FILLED
            for other in self._orders.children(entry.order.parent_id)
            if other is not entry
        )

    def _reduce(self, entry: WorkingOrder, contracts: int) -> None:
        """Where an order can't be reduced it is cancelled: a stop is then sent anew."""
        if not self._order_manager.resize(entry, entry.fills.booked + entry.open_quantity - contracts):
            self._order_manager.cancel(entry)
