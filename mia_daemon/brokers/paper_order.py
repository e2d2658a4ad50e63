"""An order at the paper exchange: its present terms, what has filled, and the orders it is linked to."""

import math
from dataclasses import dataclass, field

from mia_daemon.records import Order, OrderReport, OrderStatus, OrderType, Side


@dataclass(slots=True)
class PaperTerms:
    """As last accepted. A triggered stop becomes a market or limit order."""

    type: OrderType
    quantity: int
    price: float
    limit_price: float


@dataclass(slots=True)
class MatchState:
    """How an order stands in the market.

    Attributes:
        queue_ahead: contracts that trade before it; infinite when unknown.
        aggressive: it crosses the spread: what is left takes the touch of the next event.
        trigger: of a triggered stop that waits for the next touch: it fills at no better price. None: any other order.
    """

    queue_ahead: float = math.inf
    aggressive: bool = False
    trigger: float | None = None


@dataclass(slots=True)
class Links:
    """The other orders of a bracket: the entry of a stop or target, its OCO sibling, an entry's stop and target."""

    parent: "PaperOrder | None" = None
    sibling: "PaperOrder | None" = None
    children: "tuple[PaperOrder, ...]" = ()


@dataclass(slots=True)
class PaperOrder:
    """An order at the exchange, from its acceptance on; `notional` is the sum of price by contracts of its fills."""

    order: Order
    server_order_id: str
    status: OrderStatus
    terms: PaperTerms
    filled: int = 0
    notional: float = 0.0
    match: MatchState = field(default_factory=MatchState)
    links: Links = field(default_factory=Links)

    @property
    def open_quantity(self) -> int:
        return self.terms.quantity - self.filled

    @property
    def working(self) -> bool:
        return self.status in {OrderStatus.WORKING, OrderStatus.PARTIAL}

    @property
    def alive(self) -> bool:
        return self.working or self.status in {OrderStatus.ACCEPTED, OrderStatus.HELD}

    @property
    def armed(self) -> bool:
        """A stop that waits for its trigger."""
        return self.terms.type in {OrderType.STOP, OrderType.STOP_LIMIT}

    @property
    def watches_below(self) -> bool:
        """It fills or triggers at or below its price: a buyer's limit, a seller's stop."""
        return (self.order.side is Side.BUY) != self.armed

    def update(self, ts_ns: int, status: OrderStatus, text: str, *, unsolicited: bool) -> OrderReport:
        """The order as the exchange reports it."""
        order, terms = self.order, self.terms
        return OrderReport(
            ts_ns=ts_ns,
            client_order_id=order.client_order_id,
            server_order_id=self.server_order_id,
            symbol=order.symbol,
            account=order.account,
            status=status,
            side=order.side,
            quantity=terms.quantity,
            filled=self.filled,
            average_fill_price=self.notional / self.filled if self.filled else 0.0,
            price=terms.price,
            limit_price=terms.limit_price,
            type=order.type,
            text=text,
            unsolicited=unsolicited,
        )


def update_before_acceptance(
    order: Order, ts_ns: int, status: OrderStatus, text: str = "", *, unsolicited: bool
) -> OrderReport:
    """Of an order that the exchange has not accepted: it has no server order id and no fills."""
    return OrderReport(
        ts_ns=ts_ns,
        client_order_id=order.client_order_id,
        server_order_id="",
        symbol=order.symbol,
        account=order.account,
        status=status,
        side=order.side,
        quantity=order.quantity,
        price=order.price,
        limit_price=order.limit_price,
        type=order.type,
        text=text,
        unsolicited=unsolicited,
    )


def link_bracket(entry: PaperOrder, stop: PaperOrder, target: PaperOrder) -> None:
    """Make stop and target the children of the entry, and each the other's OCO sibling."""
    entry.links.children = (stop, target)
    stop.links.parent = target.links.parent = entry
    link_siblings(stop, target)


def link_siblings(one: PaperOrder, other: PaperOrder) -> None:
    """Make each the other's OCO sibling."""
    one.links.sibling, other.links.sibling = other, one
