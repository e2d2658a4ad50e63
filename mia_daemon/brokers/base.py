"""The interface of every broker, whether it fills orders itself (paper) or sends them to Sierra Chart."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mia_daemon.records import Bracket, BrokerEvent, BrokerSnapshot, EventArray, JournaledOrder, Order

BrokerEventSink = Callable[[BrokerEvent], None]

WaitingHandler = Callable[[str], None]
"""Called with the reason why a server is awaited."""


class Broker(Protocol):
    """Sends orders and reports what happens to them.

    Orders, replaces and cancels are synchronous and never wait: they return when the request is sent, and the server's
    reports come back through the sink given to `start`. The broker never sends one of them again. A request that can't
    be sent because the link is down is refused in the same way: by an event, not an exception.
    """

    @property
    def orders_sent(self) -> int:
        """Orders sent to the server since the start, a bracket counting three: compared with those approved."""

    @property
    def has_own_clock(self) -> bool:
        """Whether times in its reports are those of a server's clock; False: they are event times."""

    @property
    def replaces(self) -> bool:
        """Whether the server changes working orders; False: they are cancelled and sent anew."""

    def start(self, on_event: BrokerEventSink) -> None:
        """Set the sink of events; called once, before anything is sent. The sink may send orders while it is called."""

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:
        """The state that earlier runs left, before anything is sent: orders not known to be done, and the account."""

    def submit(self, order: Order) -> None:
        """Send one order."""

    def submit_bracket(self, bracket: Bracket) -> None:
        """Send an entry with its stop and target: the server activates these as an OCO pair when the entry fills."""

    def replace(self, client_order_id: str, server_order_id: str, price: float, quantity: int) -> None:
        """Change an order: `price` is its limit or trigger; `quantity` the total, filled contracts included."""

    def cancel(self, client_order_id: str, server_order_id: str) -> None:
        """Request an order's cancellation."""

    def flatten(self, order: Order) -> None:
        """Make the server close its position at the market, whatever it is by then, under the client id of `order`.

        Working orders stay. Side and quantity of `order` are those of the position as we know it.
        """

    def on_market(self, events: EventArray) -> int:
        """Process market events; returns how many were processed, at least one.

        A broker that fills orders itself stops after the first event at which it reported something to the sink, so
        that the caller may act at that very event; the caller passes the rest again.
        """

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        """Query open orders, fills since `since_ns`, position and balance, all at once.

        Raises:
            ConnectionLost, RequestTimeout: there is no complete answer; the query may be repeated.
        """

    async def connect(self, on_waiting: WaitingHandler | None = None) -> None:
        """Get ready for orders.

        Args:
            on_waiting: called with the reason, again and again, while a server is awaited; None: give up instead.

        Raises:
            StartError: that is impossible (account absent, trading disabled), or the server was not there.
        """

    async def close(self) -> None:
        """Disconnect; orders at the server stay as they are."""
