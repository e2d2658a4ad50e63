"""One order of ours and what is known of it: its state, its fills, what was requested of the server, and when."""

from dataclasses import dataclass, field
from typing import Self

from mia_daemon.execution.executions import OrderFills
from mia_daemon.execution.order_states import DONE, OPEN_AT_SERVER, OrderState
from mia_daemon.records import JournaledOrder, Order, OrderType, Side


@dataclass(slots=True)
class PendingRequest:
    """The last request sent to the server about an order.

    Attributes:
        asked_ns: our time at which the unanswered request was sent; 0 when none is unanswered.
        cancel_pending, replace_pending: which requests are unanswered.
        cancel_wanted: it is to be cancelled, whatever it takes.
        cancels: cancels sent so far.
        cancel_again_ns: our time before which no other cancel is sent.
        replace_refused: the server has refused to change it.
        canceled_in_replace: it was reported as cancelled while a replace was unanswered, perhaps to be entered anew.
        asked_price: of the last replace requested, confirmed or not; 0 when none was. A server may give an order
            another number with each replace.
        exit_reason: goes into the round trip that the order closes; "" where the order role is the reason.
    """

    asked_ns: int = 0
    cancel_pending: bool = False
    replace_pending: bool = False
    cancel_wanted: bool = False
    cancels: int = 0
    cancel_again_ns: int = 0
    replace_refused: bool = False
    canceled_in_replace: bool = False
    asked_price: float = 0.0
    exit_reason: str = ""


@dataclass(slots=True)
class OrderHistory:
    """When an order changed.

    Attributes:
        version: number of its last change, by us or by the server. The answer to a query sent before that change may
            be older than what is known already.
        sent_ns: event time at which it was sent; 0 before.
        sent_at_ns: our time at which it was sent; 0 before, and for an order of an earlier run.
        updated_ns: exchange time of the newest update.
        listed_ns: our time at which the query was sent whose answer listed it last; 0 when none has.
        surplus: the position that it was to close is closed: nothing is left for it to do.
        former_numbers: the server's, from before its replaces.
    """

    version: int = 0
    sent_ns: int = 0
    sent_at_ns: int = 0
    updated_ns: int = 0
    listed_ns: int = 0
    surplus: bool = False
    former_numbers: set[str] = field(default_factory=set)


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
            fills=OrderFills.restored(journaled.fills, journaled.reported),
            request=PendingRequest(asked_price=journaled.asked_price),
            history=OrderHistory(sent_ns=journaled.intended_ns, updated_ns=journaled.updated_ns),
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
    def size(self) -> int:
        """Contracts that it can fill at most."""
        return max(self.quantity, self.order.quantity)

    def may_fill(self, side: Side | None) -> bool:
        """Whether an execution on this side may be its; of a flatten the server chooses the side."""
        return side in {None, self.order.side} or self.order.type is OrderType.MARKET

    @property
    def acknowledged(self) -> bool:
        """The server has reported it."""
        return bool(self.server_order_id) or self.history.updated_ns > 0

    @property
    def at_server(self) -> bool:
        """Acknowledged and not ended: known to work, or about to."""
        return self.state in OPEN_AT_SERVER
