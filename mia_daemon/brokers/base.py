"""What every broker offers, whether it fills orders itself (paper) or passes them on (Sierra Chart)."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mia_daemon.records import Bracket, BrokerEvent, BrokerSnapshot, EventArray, JournaledOrder, Order

BrokerEventSink = Callable[[BrokerEvent], None]


class Broker(Protocol):
    """Takes orders and tells what becomes of them.

    Orders, replaces and cancels are synchronous and never wait: they return when the request is on its way, and what
    the server says of it comes back through the sink given to `start`. None of them is ever repeated by the broker.
    A request that can't be sent because the link is down is refused in the same way: as an event, not an exception.
    """

    @property
    def orders_sent(self) -> int:
        """Orders that left for the server since the start, a bracket counting three: compared with those approved."""

    def start(self, on_event: BrokerEventSink) -> None:
        """Name the sink of events; called once, before anything is sent. The sink may send orders from within."""

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:
        """What the journal knows of earlier runs, before anything is sent: orders not known to be done, the account."""

    def submit(self, order: Order) -> None:
        """Send one order."""

    def submit_bracket(self, bracket: Bracket) -> None:
        """Send an entry with its stop and target: the server activates those as the entry fills, and as OCO."""

    def replace(self, client_order_id: str, price: float, quantity: int) -> None:
        """Move an order: `price` is its limit, or a stop's trigger; `quantity` the total including what has filled."""

    def cancel(self, client_order_id: str) -> None:
        """Ask for an order's cancellation; held back until the server's own identifier of it is known."""

    def flatten(self, order: Order) -> None:
        """Have the server close the position at the market, whatever it is by then, under the name of `order`.

        Working orders stay. The order says what the position is believed to be.
        """

    def on_market(self, events: EventArray) -> int:
        """Let market events pass; returns how many were taken, at least one.

        A broker that fills orders itself stops after the first event at which it told the sink something, so that the
        caller may act at that very event; the caller hands over the rest again.
        """

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        """Ask for open orders, fills since `since_ns`, position and balance.

        Raises:
            ConnectionLost, RequestTimeout: there is no complete answer; asking again is in order.
        """

    async def connect(self) -> None:
        """Be ready to take orders. Raises StartError when that can't be (account absent, trading disabled)."""

    async def close(self) -> None:
        """Leave; orders at the server stay as they are."""
