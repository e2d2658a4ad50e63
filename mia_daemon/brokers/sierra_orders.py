"""What the Sierra Chart broker remembers of its orders: their ids at the server, and the executions it has reported."""

from collections import Counter
from itertools import islice
from typing import Final

from mia_daemon.records import Fill

KEPT_ORDERS: Final = 4096  # whose server order ids are remembered


class SierraOrders:
    """Bounded: the oldest ids and executions are forgotten."""

    def __init__(self) -> None:
        self._server_ids: dict[str, str] = {}
        self._client_ids: dict[str, str] = {}
        self._filled: Counter[str] = Counter()  # contracts of reported fills, by client order id
        self._executions: dict[str, None] = {}  # reported, oldest first

    def learn_id(self, client_id: str, server_id: str) -> None:
        """The server's id of an order; a replace may change it. Without it the order can't be cancelled."""
        if not server_id or self._server_ids.get(client_id) == server_id:
            return
        self._server_ids[client_id] = server_id
        self._client_ids[server_id] = client_id
        if len(self._client_ids) > 2 * KEPT_ORDERS:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        for server_id in tuple(islice(self._client_ids, KEPT_ORDERS)):
            client_id = self._client_ids.pop(server_id)
            if self._server_ids.get(client_id) == server_id:
                del self._server_ids[client_id]
                self._filled.pop(client_id, None)

    def server_id(self, client_id: str) -> str | None:
        """None while the server has not reported it."""
        return self._server_ids.get(client_id)

    def client_id(self, server_id: str) -> str:
        """Of the order with this server id; "" when it is not known."""
        return self._client_ids.get(server_id, "")

    def filled(self, client_id: str) -> int:
        """Contracts of the fills reported so far."""
        return self._filled[client_id]

    def add_execution(self, fill: Fill) -> bool:
        """Remember it as reported; False when it was before."""
        if fill.execution_id in self._executions:
            return False
        self._executions[fill.execution_id] = None
        self._filled[fill.client_order_id] += fill.quantity
        if len(self._executions) > KEPT_ORDERS:
            del self._executions[next(iter(self._executions))]
        return True
