"""A client's order at the exchange, and what the exchange says about it."""

from enum import IntEnum
from typing import Any, NamedTuple

from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.order_book import Resting


class ServedStatus(IntEnum):
    """Numbered as DTC's OrderStatusEnum."""

    UNSPECIFIED = 0
    PENDING_OPEN = 2
    PENDING_CHILD = 3
    OPEN = 4
    PENDING_REPLACE = 5
    PENDING_CANCEL = 6
    FILLED = 7
    CANCELED = 8
    REJECTED = 9
    PARTIALLY_FILLED = 10

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({ServedStatus.FILLED, ServedStatus.CANCELED, ServedStatus.REJECTED})


class UpdateReason(IntEnum):
    """Numbered as DTC's OrderUpdateReasonEnum."""

    OPEN_ORDERS_RESPONSE = 1
    ACCEPTED = 2
    GENERAL = 3
    FILLED = 4
    FILLED_PARTIALLY = 5
    CANCELED = 6
    REPLACED = 7
    REJECTED = 8
    CANCEL_REJECTED = 9
    REPLACE_REJECTED = 10


class NewOrder(NamedTuple):
    """An order as the client asks for it; prices in ticks."""

    client_id: str
    side: int  # +1 buy, -1 sell
    type: OrderType
    quantity: int
    price1: int = 0  # limit price, or trigger of a stop
    price2: int = 0  # limit of a stop-limit
    time_in_force: TimeInForce = TimeInForce.DAY
    is_parent: bool = False
    symbol: str = ""
    account: str = ""


class OrderEvent(NamedTuple):
    """One change of one order: what a 301 ORDER_UPDATE tells. It is a value and stays true."""

    ts_ns: int
    reason: UpdateReason
    status: ServedStatus
    server_id: str
    previous_server_id: str
    client_id: str
    side: int
    type: OrderType
    price1: int
    price2: int
    time_in_force: TimeInForce
    quantity: int  # total, including what has filled
    filled: int
    remaining: int
    average_price: float  # of the fills, ticks; 0 without fills
    parent_server_id: str = ""
    sibling_server_id: str = ""
    last_price: int = 0  # of the fill this event is about, ticks
    last_quantity: int = 0
    execution_id: str = ""
    text: str = ""
    symbol: str = ""
    account: str = ""


class ClientOrder(Resting):
    """An order of a client, alive or done. It is in the book only while `resting`.

    Attributes:
        quantity: total, including what has filled; a bracket's child counts what its parent has filled.
        wanted: what a bracket's child was asked for; it never grows beyond it.
        activated: how much of `wanted` the parent's fills have brought to life so far.
        offset: of a bracket's child: distance from the parent's price, ticks; None when its own price stands.
        armed: a stop waiting for its trigger; `triggered` once it has had it.
        resting: it lies in the book.
    """

    __slots__ = (
        "account",
        "activated",
        "armed",
        "children",
        "client_id",
        "filled",
        "immediate_cancel",
        "is_parent",
        "notional",
        "offset",
        "parent",
        "previous_server_id",
        "price1",
        "price2",
        "quantity",
        "resting",
        "server_id",
        "sibling",
        "status",
        "symbol",
        "time_in_force",
        "triggered",
        "type",
        "wanted",
    )

    def __init__(self, order_id: int, request: NewOrder) -> None:
        super().__init__(order_id, request.side, 0, 0)
        self.symbol = request.symbol
        self.account = request.account
        self.client_id = request.client_id
        self.server_id = str(order_id)
        self.previous_server_id = ""
        self.type = request.type
        self.time_in_force = request.time_in_force
        self.price1 = request.price1
        self.price2 = request.price2
        self.quantity = request.quantity
        self.wanted = request.quantity
        self.activated = 0
        self.offset: int | None = None
        self.filled = 0
        self.notional = 0  # sum of price times quantity of the fills, ticks
        self.status = ServedStatus.PENDING_OPEN
        self.is_parent = request.is_parent
        self.immediate_cancel = False
        self.armed = False
        self.triggered = False
        self.resting = False
        self.parent: ClientOrder | None = None
        self.sibling: ClientOrder | None = None
        self.children: tuple[ClientOrder, ...] = ()

    @property
    def alive(self) -> bool:
        return not self.status.final

    @property
    def waits(self) -> bool:
        """It is not in the market yet: a child waits for its parent's fills, a parent for its pair."""
        return self.status == ServedStatus.PENDING_CHILD or self.waits_for_pair

    @property
    def waits_for_pair(self) -> bool:
        return self.is_parent and self.status == ServedStatus.PENDING_OPEN

    @property
    def open_quantity(self) -> int:
        return self.quantity - self.filled

    @property
    def limit(self) -> int | None:
        """The worst price it may trade at, in ticks; None for any."""
        if self.type == OrderType.LIMIT:
            return self.price1
        return self.price2 if self.type == OrderType.STOP_LIMIT else None

    @property
    def is_stop(self) -> bool:
        return self.type in {OrderType.STOP, OrderType.STOP_LIMIT}

    def event(
        self,
        ts_ns: int,
        reason: UpdateReason,
        *,
        status: ServedStatus | None = None,
        text: str = "",
        last_price: int = 0,
        last_quantity: int = 0,
        execution_id: str = "",
    ) -> OrderEvent:
        """This order as it stands, as a value."""
        return OrderEvent(
            ts_ns=ts_ns,
            reason=reason,
            status=self.status if status is None else status,
            server_id=self.server_id,
            previous_server_id=self.previous_server_id,
            client_id=self.client_id,
            side=self.side,
            type=self.type,
            price1=self.price1,
            price2=self.price2,
            time_in_force=self.time_in_force,
            quantity=self.quantity,
            filled=self.filled,
            remaining=self.open_quantity if self.alive else 0,
            average_price=self.notional / self.filled if self.filled else 0.0,
            parent_server_id=self.parent.server_id if self.parent else "",
            sibling_server_id=self.sibling.server_id if self.sibling else "",
            last_price=last_price,
            last_quantity=last_quantity,
            execution_id=execution_id,
            text=text,
            symbol=self.symbol,
            account=self.account,
        )


def to_dict(order: ClientOrder) -> dict[str, Any]:
    """The order as JSON can hold it; other orders are named by their `order_id`."""
    return {
        "order_id": order.order_id,
        "symbol": order.symbol,
        "account": order.account,
        "server_id": order.server_id,
        "previous_server_id": order.previous_server_id,
        "client_id": order.client_id,
        "side": order.side,
        "type": int(order.type),
        "time_in_force": int(order.time_in_force),
        "price1": order.price1,
        "price2": order.price2,
        "quantity": order.quantity,
        "wanted": order.wanted,
        "activated": order.activated,
        "offset": order.offset,
        "filled": order.filled,
        "notional": order.notional,
        "status": int(order.status),
        "is_parent": order.is_parent,
        "immediate_cancel": order.immediate_cancel,
        "armed": order.armed,
        "triggered": order.triggered,
        "resting": order.resting,
        "parent": order.parent.order_id if order.parent else 0,
        "sibling": order.sibling.order_id if order.sibling else 0,
    }


_CARRIED = (
    "server_id",
    "previous_server_id",
    "wanted",
    "activated",
    "offset",
    "filled",
    "notional",
    "immediate_cancel",
    "armed",
    "triggered",
    "resting",
)


def from_dict(data: dict[str, Any]) -> ClientOrder:
    """The inverse of `to_dict`, not yet linked to other orders; it is in no book."""
    request = NewOrder(
        client_id=data["client_id"],
        side=data["side"],
        type=OrderType(data["type"]),
        quantity=data["quantity"],
        price1=data["price1"],
        price2=data["price2"],
        time_in_force=TimeInForce(data["time_in_force"]),
        is_parent=data["is_parent"],
        symbol=data["symbol"],
        account=data["account"],
    )
    order = ClientOrder(data["order_id"], request)
    for name in _CARRIED:
        setattr(order, name, data[name])
    order.status = ServedStatus(data["status"])
    return order
