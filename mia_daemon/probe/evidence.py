"""What a probe found out: the messages that belong to each question, before any judgement."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderStatusEnum, OrderUpdateReasonEnum
from mia_daemon.probe.link import Received
from mia_daemon.products.ticks import nearest_decimal
from mia_daemon.records import Order

WORKING = frozenset({OrderStatusEnum.ORDER_STATUS_OPEN, OrderStatusEnum.ORDER_STATUS_PARTIALLY_FILLED})
ENDED = frozenset(
    {
        OrderStatusEnum.ORDER_STATUS_FILLED,
        OrderStatusEnum.ORDER_STATUS_CANCELED,
        OrderStatusEnum.ORDER_STATUS_REJECTED,
    }
)
FILLS = frozenset({OrderStatusEnum.ORDER_STATUS_FILLED, OrderStatusEnum.ORDER_STATUS_PARTIALLY_FILLED})
REFUSED_CHANGE = frozenset(
    {OrderUpdateReasonEnum.ORDER_CANCEL_REJECTED, OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_REJECTED}
)
"""Reasons of updates whose status may be that of the request, and not of the order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to a query.

    Attributes:
        messages: of the answer, without the mark of an empty one.
        complete: the end of the answer came in time.
        refusal: the text of a reject; "" where it was not refused.
        numbered: it carried the RequestID of the query.
    """

    messages: tuple[Any, ...] = ()
    complete: bool = False
    refusal: str = ""
    numbered: bool = False

    @property
    def given(self) -> bool:
        """The server answered, and did not refuse."""
        return self.complete and not self.refusal


@dataclass(slots=True)
class OrderStory:
    """What the server reported of one order of the probe.

    Attributes:
        order: as it was sent.
        sent_price: as it was sent: on the server's scale.
        updates: what was received about it, in order.
        server_ids: every ServerOrderID it had, newest last.
    """

    order: Order
    sent_price: float
    updates: list[Received] = field(default_factory=list)
    server_ids: list[str] = field(default_factory=list)

    def is_about(self, update: dtc.OrderUpdate, *, alone: bool) -> bool:
        """Whether an update is about this order: by its names, else by what it says of an order.

        With `alone`, no other order of the probe is in flight, so that an update without a name is about this one,
        whatever price it says, unless it describes another order: somebody's, of another account perhaps.
        """
        name = self.order.client_order_id
        if update.ClientOrderID:
            return update.ClientOrderID.casefold() == name.casefold()
        if known := {update.ServerOrderID, update.PreviousServerOrderID} & set(self.server_ids) - {""}:
            return bool(known)
        near = abs(update.Price1 - self.sent_price) < 1e-6 * max(abs(self.sent_price), 1.0)
        return (alone or near) and self._looks_alike(update)

    def _looks_alike(self, update: dtc.OrderUpdate) -> bool:
        """What it says of type, side and quantity is the order's."""
        order = self.order
        side = 1 if order.side > 0 else 2
        return (
            update.OrderType in {int(order.type), 0}
            and update.BuySell in {side, 0}
            and update.OrderQuantity in {float(order.quantity), 0.0, dtc.UNSET_F64}
        )

    def add(self, received: Iterable[Received], *, alone: bool = False) -> None:
        """Take the updates about this order from what was received."""
        for one in received:
            message = one.message
            if isinstance(message, dtc.OrderUpdate) and not message.NoOrders and self.is_about(message, alone=alone):
                self.updates.append(one)
                if (new := message.ServerOrderID) and new not in self.server_ids:
                    self.server_ids.append(new)

    @property
    def server_id(self) -> str:
        """The newest ServerOrderID; "" while none is known."""
        return self.server_ids[-1] if self.server_ids else ""

    @property
    def messages(self) -> list[dtc.OrderUpdate]:
        return [one.message for one in self.updates]

    @property
    def reports(self) -> list[dtc.OrderUpdate]:
        """The updates that say how the order is; those that refuse a change may leave most of it out."""
        return [message for message in self.messages if message.OrderUpdateReason not in REFUSED_CHANGE]

    @property
    def statuses(self) -> list[int]:
        """The reported order statuses, repeats in a row left out."""
        found: list[int] = []
        for message in self.reports:
            if found[-1:] != [message.OrderStatus]:
                found.append(message.OrderStatus)
        return found

    @property
    def is_known(self) -> bool:
        """The server has reported it, and not as rejected."""
        return bool(self.updates) and OrderStatusEnum.ORDER_STATUS_REJECTED not in self.statuses

    @property
    def may_live(self) -> bool:
        """It was sent, and nothing says that it has ended."""
        return not ENDED & set(self.statuses)

    @property
    def filled(self) -> bool:
        return any(m.OrderStatus in FILLS or 0.0 < m.FilledQuantity < dtc.UNSET_F64 for m in self.messages)


@dataclass(slots=True)
class Change:
    """A request about an order, and what came of it.

    Attributes:
        asked: it was sent.
        answers: updates about that order afterwards, and updates that name the request.
    """

    asked: bool = False
    answers: list[dtc.OrderUpdate] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        return any(answer.OrderUpdateReason in REFUSED_CHANGE for answer in self.answers)

    @property
    def ended(self) -> bool:
        """The order ended by it."""
        return any(
            answer.OrderStatus == OrderStatusEnum.ORDER_STATUS_CANCELED
            and answer.OrderUpdateReason not in REFUSED_CHANGE
            for answer in self.answers
        )


@dataclass(slots=True)
class Evidence:
    """All of it; what was not reached keeps its default."""

    logon: dtc.LogonResponse = field(default_factory=dtc.LogonResponse)
    accounts: Answer = Answer()
    definition: Answer = Answer()
    prices: dtc.MarketDataSnapshot | dtc.MarketDataReject | None = None
    orders: Answer = Answer()
    positions: Answer = Answer()
    fills_since: Answer = Answer()
    fills_by_days: Answer = Answer()
    balance: Answer = Answer()
    limit: OrderStory | None = None
    limit_listed: Answer = Answer()
    replace: Change = field(default_factory=Change)
    cancel_unknown: Change = field(default_factory=Change)
    cancel_misnamed: Change = field(default_factory=Change)
    cancel_unnumbered: Change = field(default_factory=Change)
    cancel: Change = field(default_factory=Change)
    cancel_again: Change = field(default_factory=Change)
    more_limits: list[OrderStory] = field(default_factory=list)
    pair: tuple[OrderStory, ...] = ()
    pair_cancel: Change = field(default_factory=Change)
    bracket: tuple[OrderStory, ...] = ()
    bracket_cancel: Change = field(default_factory=Change)
    left: list[str] = field(default_factory=list)

    @property
    def multiplier(self) -> float:
        """The symbol's DisplayPriceMultiplier; 1 where the server names none."""
        named = self.definition.messages[-1].DisplayPriceMultiplier if self.definition.messages else 0.0
        return nearest_decimal(named) if 0.0 < named < dtc.UNSET_F32 else 1.0

    @property
    def stories(self) -> list[OrderStory]:
        """All orders that were sent."""
        return [*([] if self.limit is None else [self.limit]), *self.more_limits, *self.pair, *self.bracket]
