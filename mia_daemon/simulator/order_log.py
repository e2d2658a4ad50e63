"""What the matching engines of an exchange share: numbers of orders and executions, and what happened to orders."""

from mia_daemon.simulator.client_order import ClientOrder, OrderEvent


class OrderLog:
    """Numbers are unique over all symbols; events are in the order in which they happened, whatever their symbol.

    Attributes:
        next_order_id: of orders of clients and of the background.
        next_execution_id: of fills of clients' orders.
        events: what happened to clients' orders; the caller clears it.
        changed: clients' orders touched since the caller last cleared it, by `order_id`.
    """

    def __init__(self) -> None:
        self.next_order_id = 1
        self.next_execution_id = 1
        self.events: list[OrderEvent] = []
        self.changed: dict[int, ClientOrder] = {}

    def take_order_id(self) -> int:
        """A number no order has had."""
        taken = self.next_order_id
        self.next_order_id += 1
        return taken

    def take_execution_id(self) -> str:
        """A number no execution has had."""
        taken = self.next_execution_id
        self.next_execution_id += 1
        return str(taken)
