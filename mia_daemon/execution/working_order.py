"""One order of ours and what is known of it: its state, its fills, what was requested of the server, and when."""

from dataclasses import dataclass, field
from typing import Self

from mia_daemon.execution.order_states import DONE, OPEN_AT_SERVER, OrderState
from mia_daemon.records import JournaledOrder, Order


@dataclass(slots=True)
class OrderFills:
    """The filled quantity of an order.

    Attributes:
        booked: contracts of the fills applied.
        reported: cumulative filled quantity that the server has reported; more than `booked` while a fill is missing.
        executions: identifiers of the fills applied.
        released: its stop or target works or has filled, so this entry has filled, whatever was reported.
    """

    booked: int = 0
    reported: int = 0
    executions: set[str] = field(default_factory=set)
    released: bool = False


@dataclass(slots=True)
class PendingRequest:
    """The last request sent to the server about an order.

    Attributes:
        asked_ns: event time at which the unanswered request was sent; 0 when none is unanswered.
        cancel_pending, replace_pending: which requests are unanswered.
        cancel_refused: its cancel was refused, and no snapshot has listed it as open since: another cancel would be
            refused again.
        asked_price: of the last replace requested, confirmed or not; 0 when none was. A server may give an order
            another number with each replace.
        exit_reason: goes into the round trip that the order closes; "" where the order role is the reason.
    """

    asked_ns: int = 0
    cancel_pending: bool = False
    replace_pending: bool = False
    cancel_refused: bool = False
    asked_price: float = 0.0
    exit_reason: str = ""


@dataclass(slots=True)
class OrderHistory:
    """When an order changed.

    Attributes:
        version: number of its last change, by us or by the server. The answer to a query sent before that change may
            be older than what is known already.
        sent_ns: event time at which it was sent; 0 before.
        updated_ns: exchange time of the newest update.
    """

    version: int = 0
    sent_ns: int = 0
    updated_ns: int = 0


@dataclass(slots=True)
class WorkingOrder:
    """One of our orders and what is known of it. Changed by `WorkingOrders` only.

    Attributes:
        quantity: total as the server last reported it, including what has filled.
        price: limit or trigger as the server last reported it.
    """

    order: Order
    state: OrderState
    quantity: int
    price: float
    server_order_id: str = ""
    fills: OrderFills = field(default_factory=OrderFills)
    request: PendingRequest = field(default_factory=PendingRequest)
    history: OrderHistory = field(default_factory=OrderHistory)

    @classmethod
    def restored(cls, journaled: JournaledOrder, state: OrderState) -> Self:
        """An order of an earlier run, from its journaled form."""
        return cls(
            order=journaled.order,
            state=state,
            quantity=journaled.quantity,
            price=journaled.price,
            server_order_id=journaled.server_order_id,
            fills=OrderFills(journaled.booked, journaled.reported, set(journaled.executions)),
            request=PendingRequest(asked_price=journaled.asked_price),
            history=OrderHistory(sent_ns=journaled.intended_ns),
        )

    @property
    def client_order_id(self) -> str:
        return self.order.client_order_id

    @property
    def done(self) -> bool:
        """It is in a final state, and every fill that the server reported is applied."""
        return self.state in DONE and self.fills.reported <= self.fills.booked

    @property
    def live(self) -> bool:
        return self.state not in DONE

    @property
    def open_quantity(self) -> int:
        """Contracts that may still change the position."""
        expected = self.quantity if self.live else self.fills.reported
        return max(expected - self.fills.booked, 0)

    @property
    def at_server(self) -> bool:
        """Known to be working now."""
        return self.state in OPEN_AT_SERVER
