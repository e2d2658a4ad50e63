"""The requests to a broker as values: the name of the method and its arguments."""

from abc import ABC, abstractmethod
from typing import Any

from mia_daemon.records import Bracket, Order


class BrokerRequests(ABC):
    """The requests of `Broker`, each passed to `_send`."""

    @abstractmethod
    def _send(self, orders: int, method: str, *args: Any) -> None:
        """Deal with a request.

        Args:
            orders: new ones in it.
            method: of `Broker`.
            args: its arguments.
        """

    def submit(self, order: Order) -> None:
        """Send one order."""
        self._send(1, "submit", order)

    def submit_bracket(self, bracket: Bracket) -> None:
        """Send an entry with its stop and target."""
        self._send(3, "submit_bracket", bracket)

    def replace(self, client_order_id: str, server_order_id: str, price: float, quantity: int) -> None:
        """Change an order."""
        self._send(0, "replace", client_order_id, server_order_id, price, quantity)

    def cancel(self, client_order_id: str, server_order_id: str) -> None:
        """Request an order's cancellation."""
        self._send(0, "cancel", client_order_id, server_order_id)

    def flatten(self, order: Order) -> None:
        """Make the server close its position."""
        self._send(1, "flatten", order)
