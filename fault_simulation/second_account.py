"""The second venue's orders, executions and money, as values; prices in ticks, sides 1 and -1."""

from dataclasses import dataclass, field
from typing import NamedTuple

from mia_daemon.dtc.enums import OrderStatusEnum as Status
from mia_daemon.dtc.enums import OrderTypeEnum as Type
from mia_daemon.dtc.enums import OrderUpdateReasonEnum as Reason

_DONE = frozenset({Status.ORDER_STATUS_FILLED, Status.ORDER_STATUS_CANCELED, Status.ORDER_STATUS_REJECTED})


@dataclass(slots=True)
class ServedOrder:
    """One order.

    Attributes:
        name: its ClientOrderID.
        number: its ServerOrderID, as text; `previous` is the one before its last change of number.
        limit: of a stop-limit order.
        wanted: the quantity asked for; a child's `quantity` follows what its parent has filled.
        entry: a parent order.
        works: it can fill.
        named: an update has had its name.
        nameless: it is reported without a name.
        fills_from_s: loop time before which it does not fill.
    """

    name: str
    number: str
    side: int
    type: Type
    price: int
    limit: int
    quantity: int
    entry: bool = False
    at_once: bool = False
    parent: "ServedOrder | None" = None
    partner: "ServedOrder | None" = None
    children: "tuple[ServedOrder, ...]" = ()
    status: Status = Status.ORDER_STATUS_ORDER_SENT
    filled: int = 0
    notional: int = 0
    wanted: int = field(init=False)
    activated: int = 0
    previous: str = ""
    works: bool = False
    triggered: bool = False
    named: bool = False
    nameless: bool = False
    executions: int = 0
    fills_from_s: float = 0.0

    def __post_init__(self) -> None:
        self.wanted = self.quantity

    @property
    def done(self) -> bool:
        return self.status in _DONE

    @property
    def open_quantity(self) -> int:
        return self.quantity - self.filled

    @property
    def is_stop(self) -> bool:
        return self.type in {Type.ORDER_TYPE_STOP, Type.ORDER_TYPE_STOP_LIMIT}

    @property
    def waits(self) -> bool:
        """A child that its parent has not brought to work."""
        return self.parent is not None and not self.works


class Execution(NamedTuple):
    """One fill; `place` is its number within its order."""

    number: int
    place: int
    order: ServedOrder
    server_number: str
    quantity: int
    price: int
    at_s: float


class OrderChange(NamedTuple):
    """What an order update is about; `status` where it differs from the order's own."""

    order: ServedOrder
    reason: Reason
    status: Status | None = None
    execution: Execution | None = None
    text: str = ""


class Account:
    """Position and money by average cost; `cost` is per contract and side, `value` of one tick."""

    def __init__(self, value: float, cost: float) -> None:
        self.position = 0
        self.average = 0.0
        self.earned = 0.0
        self._value = value
        self._cost = cost

    def apply(self, side: int, quantity: int, price: int) -> None:
        """Book a fill."""
        before = self.position
        closed = min(quantity, abs(before)) if before * side < 0 else 0
        self.position += side * quantity
        self.earned += closed * (price - self.average) * -side * self._value - quantity * self._cost
        if closed < quantity:
            opened = quantity - closed
            held = abs(before) if not closed else 0
            self.average = (self.average * held + price * opened) / (held + opened)
