"""An exchange that knows only the touch and the trades: fills orders against recorded or foreign market data.

What it assumes, and when that flatters, stands in docs/paper.md.

Brackets as Sierra Chart holds them: stop and target wait for the entry, count what it has filled, and as one of them
fills or is cancelled the other is reduced or cancelled with it. Once the pair is done, so is what is left of the entry.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count

from mia_daemon.market import Touch
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    Bracket,
    BrokerEvent,
    Fill,
    Order,
    OrderStatus,
    OrderType,
    OrderUpdate,
    PositionReport,
    Side,
    TimeInForce,
)

MAX_QUANTITY = 10_000  # contracts; more is a mistake, not an order
KEPT_FILLS = 4096


@dataclass(slots=True)
class PaperOrder:
    """An order at the exchange. `queue_ahead` counts contracts that trade before it; infinite when unknown."""

    order: Order
    server_order_id: str
    status: OrderStatus
    type: OrderType  # a triggered stop becomes a market or limit order
    quantity: int
    price: float
    limit_price: float
    filled: int = 0
    notional: float = 0.0
    queue_ahead: float = math.inf
    taking: bool = False  # crosses the spread: what is left takes the touch of the next event
    parent: "PaperOrder | None" = None
    sibling: "PaperOrder | None" = None
    children: "tuple[PaperOrder, ...]" = ()

    @property
    def open_quantity(self) -> int:
        return self.quantity - self.filled

    @property
    def working(self) -> bool:
        return self.status in {OrderStatus.WORKING, OrderStatus.PARTIAL}

    @property
    def alive(self) -> bool:
        return self.working or self.status is OrderStatus.ACCEPTED

    @property
    def armed(self) -> bool:
        """A working stop that waits for its trigger."""
        return self.type in {OrderType.STOP, OrderType.STOP_LIMIT}

    @property
    def watches_below(self) -> bool:
        """What concerns it happens at or below its price: a bid's limit, a sell stop's trigger."""
        return (self.order.side is Side.BUY) != self.armed


class PaperExchange:
    """Orders in, events out through `tell`, at the exchange's time. No latency: that is the broker's business.

    Args:
        name: what its identifiers of orders and executions begin with.
    """

    def __init__(
        self,
        instrument: Instrument,
        account: str,
        name: str,
        starting_cash: float,
        tell: Callable[[int, BrokerEvent], None],
    ) -> None:
        self.touch = Touch()
        self.position = 0
        self.average_price = 0.0
        self.cash = starting_cash
        self.fills: deque[Fill] = deque(maxlen=KEPT_FILLS)
        self._instrument = instrument
        self._account = account
        self._half_tick = instrument.tick_size / 2
        self._tell = tell
        self._numbers = count(1)
        self._orders: dict[str, PaperOrder] = {}
        self._used: set[str] = set()
        self._prefix = f"{name}-P"

    @property
    def orders(self) -> Iterable[PaperOrder]:
        """Those alive, oldest first."""
        return self._orders.values()

    def restore(self, position: int, average_price: float, cash: float) -> None:
        """Carry on with an account."""
        self.position, self.average_price, self.cash = position, average_price, cash

    def restore_order(self, order: Order, server_order_id: str, quantity: int, filled: int, price: float) -> None:
        """A working order of an earlier run; stop and target of one parent are each other's OCO sibling."""
        status = OrderStatus.PARTIAL if filled else OrderStatus.WORKING
        paper = PaperOrder(order, server_order_id, status, order.type, quantity, price, order.limit_price, filled)
        for other in self._orders.values():
            if order.parent_id and other.order.parent_id == order.parent_id:
                paper.sibling, other.sibling = other, paper
        self._orders[order.client_order_id] = paper
        self._used.add(order.client_order_id)

    # Requests, as they arrive.

    def submit(self, order: Order, ts_ns: int) -> None:
        if text := self._objection(order):
            self._reject(order, ts_ns, text)
            return
        self._activate(self._accept(order, ts_ns), ts_ns)

    def submit_bracket(self, bracket: Bracket, ts_ns: int) -> None:
        orders = (bracket.entry, bracket.stop, bracket.target)
        text = next(filter(None, map(self._objection, orders)), "") or _bracket_objection(bracket)
        if text:
            for order in orders:
                self._reject(order, ts_ns, text)
            return
        entry, stop, target = (self._accept(order, ts_ns) for order in orders)
        entry.children = (stop, target)
        stop.parent = target.parent = entry
        stop.sibling, target.sibling = target, stop
        self._activate(entry, ts_ns)

    def replace(self, client_order_id: str, price: float, quantity: int, ts_ns: int) -> None:
        paper = self._orders.get(client_order_id)
        if paper is None or not self._valid_price(price) or not paper.filled < quantity <= MAX_QUANTITY:
            text = "no such working order" if paper is None else f"price {price} or quantity {quantity} not valid"
            self._refuse(client_order_id, OrderStatus.REPLACE_REJECTED, ts_ns, text)
            return
        paper.price, paper.quantity = price, quantity
        paper.server_order_id = self._server_id()
        self._say(paper, OrderStatus.REPLACED, ts_ns)
        if paper.working:
            self._arrive(paper, ts_ns)

    def cancel(self, client_order_id: str, ts_ns: int) -> None:
        paper = self._orders.get(client_order_id)
        if paper is None:
            self._refuse(client_order_id, OrderStatus.CANCEL_REJECTED, ts_ns, "no such working order")
            return
        self._cancel(paper, ts_ns, "cancelled by the client")

    def flatten(self, order: Order, ts_ns: int) -> None:
        """Close the position at the market as `order`, whose side and quantity follow from the position."""
        if not self.position:
            self._reject(order, ts_ns, "there is no position to close")
            return
        if text := self._objection(order):
            self._reject(order, ts_ns, text)
            return
        side = Side.SELL if self.position > 0 else Side.BUY
        self._activate(self._accept(replace(order, side=side, quantity=abs(self.position)), ts_ns), ts_ns)

    # The market.

    def on_trade(self, ts_ns: int, price: float, size: float, side: int) -> None:
        """A trade printed; `touch` is already the one that came with it, `on_touch` follows."""
        for paper in self._by_urgency():
            if paper.working and not paper.taking:
                self._against_trade(paper, ts_ns, price, size, side)

    def on_touch(self, ts_ns: int) -> None:
        """Work the orders against `touch`, whether it changed or not."""
        for paper in self._by_urgency():
            if paper.working:
                self._against_touch(paper, ts_ns)

    def _by_urgency(self) -> list[PaperOrder]:
        """Stops before limits: where one event reaches both, the worse is assumed."""
        return sorted(self._orders.values(), key=lambda paper: not paper.armed)

    def _against_trade(self, paper: PaperOrder, ts_ns: int, price: float, size: float, side: int) -> None:
        beyond = (price - paper.price) * (-1 if paper.watches_below else 1)  # > 0: traded through
        if beyond < -self._half_tick:
            return
        if paper.armed:
            self._trigger(paper, ts_ns)
        elif beyond > self._half_tick:
            self._fill(paper, paper.open_quantity, paper.price, ts_ns)
        elif side != paper.order.side and paper.queue_ahead < math.inf:
            paper.queue_ahead -= size
            if paper.queue_ahead < 0:
                quantity = min(paper.open_quantity, math.floor(-paper.queue_ahead))
                paper.queue_ahead = 0.0
                self._fill(paper, quantity, paper.price, ts_ns)

    def _against_touch(self, paper: PaperOrder, ts_ns: int) -> None:
        if not self.touch.known:
            return
        if paper.armed:
            near = self.touch.bid if paper.watches_below else self.touch.ask
            if (near - paper.price) * (-1 if paper.watches_below else 1) >= -self._half_tick:
                self._trigger(paper, ts_ns)
        elif paper.taking:
            self._take(paper, ts_ns)
        elif self._crosses(paper):
            self._fill(paper, paper.open_quantity, paper.price, ts_ns)
        else:
            self._queue(paper)

    def _queue(self, paper: PaperOrder) -> None:
        """At the touch no more can be ahead than rests there."""
        buys = paper.order.side is Side.BUY
        near, size = (self.touch.bid, self.touch.bid_size) if buys else (self.touch.ask, self.touch.ask_size)
        if abs(near - paper.price) < self._half_tick and size > 0:
            paper.queue_ahead = min(paper.queue_ahead, size)

    def _crosses(self, paper: PaperOrder) -> bool:
        if paper.type is OrderType.MARKET:
            return True
        if paper.order.side is Side.BUY:
            return self.touch.ask <= paper.price + self._half_tick
        return self.touch.bid >= paper.price - self._half_tick

    # What becomes of an order.

    def _activate(self, paper: PaperOrder, ts_ns: int) -> None:
        self._say(paper, OrderStatus.WORKING, ts_ns)
        self._arrive(paper, ts_ns)

    def _arrive(self, paper: PaperOrder, ts_ns: int) -> None:
        """Begin to work at its present price."""
        paper.taking = False
        paper.queue_ahead = math.inf
        if paper.armed:
            return
        paper.taking = paper.type is OrderType.MARKET or (self.touch.known and self._crosses(paper))
        force = paper.order.time_in_force
        if paper.taking and not (force is TimeInForce.FOK and self._takeable(paper) < paper.open_quantity):
            self._take(paper, ts_ns)
        elif self.touch.known:
            inside = self.touch.bid + self._half_tick < paper.price < self.touch.ask - self._half_tick
            paper.queue_ahead = 0.0 if inside else math.inf
            self._queue(paper)
        if paper.working and force in {TimeInForce.IOC, TimeInForce.FOK}:
            self._cancel(paper, ts_ns, "not filled at once")

    def _takeable(self, paper: PaperOrder) -> int:
        """Contracts the touch offers now."""
        if not self.touch.known or not self._crosses(paper):
            return 0
        size = self.touch.far_size(paper.order.side)
        return min(paper.open_quantity, max(math.floor(size), 1)) if size > 0 else paper.open_quantity

    def _take(self, paper: PaperOrder, ts_ns: int) -> None:
        """Take what the touch offers; a limit that no longer crosses begins to rest."""
        if not self.touch.known:
            return
        if quantity := self._takeable(paper):
            self._fill(paper, quantity, self.touch.far(paper.order.side), ts_ns)
        elif paper.type is not OrderType.MARKET:
            paper.taking = False
            paper.queue_ahead = math.inf
            self._queue(paper)

    def _trigger(self, paper: PaperOrder, ts_ns: int) -> None:
        trigger, below = paper.price, paper.watches_below
        if paper.type is OrderType.STOP_LIMIT:
            paper.type, paper.price = OrderType.LIMIT, paper.limit_price
            self._arrive(paper, ts_ns)
            return
        paper.type, paper.taking = OrderType.MARKET, True
        near = self.touch.bid if below else self.touch.ask
        price = (min if below else max)(trigger, near) if self.touch.known else trigger
        self._fill(paper, self._takeable(paper) or paper.open_quantity, price, ts_ns)

    def _fill(self, paper: PaperOrder, quantity: int, price: float, ts_ns: int) -> None:
        if quantity <= 0:
            return
        order = paper.order
        paper.filled += quantity
        paper.notional += quantity * price
        name = f"{self._prefix}{next(self._numbers)}"
        fill = Fill(
            ts_ns=ts_ns,
            execution_id=f"{name}x",
            client_order_id=order.client_order_id,
            server_order_id=paper.server_order_id,
            symbol=order.symbol,
            account=order.account,
            side=order.side,
            quantity=quantity,
            price=price,
        )
        self.fills.append(fill)
        self._book(order.side * quantity, price)
        self._tell(ts_ns, fill)
        self._say(paper, OrderStatus.PARTIAL if paper.open_quantity else OrderStatus.FILLED, ts_ns)
        self._tell(ts_ns, self.position_report(ts_ns, unsolicited=True))
        self._after_fill(paper, quantity, ts_ns)

    def _after_fill(self, paper: PaperOrder, quantity: int, ts_ns: int) -> None:
        """Stop and target grow with their entry and shrink with each other."""
        for child in paper.children:
            if child.alive:
                waiting = child.status is OrderStatus.ACCEPTED
                child.quantity = quantity if waiting else child.quantity + quantity
                self._say(child, OrderStatus.WORKING, ts_ns)
                if waiting:
                    self._arrive(child, ts_ns)
        sibling = paper.sibling
        if sibling is None or not sibling.alive:
            return
        if not paper.open_quantity:
            self._cancel(sibling, ts_ns, "the other order of the pair filled")
            if paper.parent is not None and paper.parent.alive:
                self._cancel(paper.parent, ts_ns, "its bracket is complete: no exit would protect a further fill")
        else:
            sibling.quantity = max(sibling.quantity - quantity, sibling.filled)
            self._say(sibling, sibling.status, ts_ns)

    def _cancel(self, paper: PaperOrder, ts_ns: int, text: str) -> None:
        self._say(paper, OrderStatus.CANCELED, ts_ns, text)
        for child in paper.children:
            if child.status is OrderStatus.ACCEPTED:
                self._say(child, OrderStatus.CANCELED, ts_ns, "the entry was cancelled")
        sibling = paper.sibling
        if sibling is not None and sibling.alive:
            self._say(sibling, OrderStatus.CANCELED, ts_ns, "the other order of the pair was cancelled")

    def _book(self, change: int, price: float) -> None:
        """Position, average price and cash after a fill, commission and fees paid."""
        held, after = self.position, self.position + change
        self.cash -= abs(change) * self._instrument.cost_per_side
        if held * change >= 0:
            self.average_price = (held * self.average_price + change * price) / after
        else:
            closed = min(abs(held), abs(change)) * (1 if held > 0 else -1)
            self.cash += closed * (price - self.average_price) * self._instrument.point_value
            if held * after < 0:
                self.average_price = price
        self.position = after
        if not after:
            self.average_price = 0.0

    # What is said.

    def snapshot(
        self, paper: PaperOrder, ts_ns: int, status: OrderStatus, text: str, *, unsolicited: bool
    ) -> OrderUpdate:
        order = paper.order
        return OrderUpdate(
            ts_ns=ts_ns,
            client_order_id=order.client_order_id,
            server_order_id=paper.server_order_id,
            symbol=order.symbol,
            account=order.account,
            status=status,
            side=order.side,
            quantity=paper.quantity,
            filled=paper.filled,
            average_fill_price=paper.notional / paper.filled if paper.filled else 0.0,
            price=paper.price,
            limit_price=paper.limit_price,
            type=order.type,
            text=text,
            unsolicited=unsolicited,
        )

    def position_report(self, ts_ns: int, *, unsolicited: bool) -> PositionReport:
        return PositionReport(
            ts_ns, self._instrument.symbol, self._account, self.position, self.average_price, unsolicited
        )

    def _say(self, paper: PaperOrder, status: OrderStatus, ts_ns: int, text: str = "") -> None:
        """Move the order to `status` and tell of it; REPLACED only tells."""
        if status is OrderStatus.WORKING and paper.filled:
            status = OrderStatus.PARTIAL
        if status is not OrderStatus.REPLACED:
            paper.status = status
        if not paper.alive:
            self._orders.pop(paper.order.client_order_id, None)
        self._tell(ts_ns, self.snapshot(paper, ts_ns, status, text, unsolicited=True))

    def _accept(self, order: Order, ts_ns: int) -> PaperOrder:
        paper = PaperOrder(
            order, self._server_id(), OrderStatus.ACCEPTED, order.type, order.quantity, order.price, order.limit_price
        )
        self._orders[order.client_order_id] = paper
        self._used.add(order.client_order_id)
        self._say(paper, OrderStatus.ACCEPTED, ts_ns)
        return paper

    def _server_id(self) -> str:
        return f"{self._prefix}{next(self._numbers)}"

    def _reject(self, order: Order, ts_ns: int, text: str) -> None:
        self._tell(
            ts_ns,
            OrderUpdate(
                ts_ns=ts_ns,
                client_order_id=order.client_order_id,
                server_order_id="",
                symbol=order.symbol,
                account=order.account,
                status=OrderStatus.REJECTED,
                side=order.side,
                quantity=order.quantity,
                price=order.price,
                limit_price=order.limit_price,
                type=order.type,
                text=text,
            ),
        )

    def _refuse(self, client_order_id: str, status: OrderStatus, ts_ns: int, text: str) -> None:
        self._tell(
            ts_ns, OrderUpdate(ts_ns, client_order_id, "", self._instrument.symbol, self._account, status, text=text)
        )

    def _valid_price(self, price: float) -> bool:
        tick = self._instrument.tick_size
        return math.isfinite(price) and price > 0 and abs(price / tick - round(price / tick)) < 1e-6

    def _objection(self, order: Order) -> str:
        """Why the order makes no sense; "" when it does."""
        needs = {
            OrderType.MARKET: (),
            OrderType.LIMIT: (order.price,),
            OrderType.STOP: (order.price,),
            OrderType.STOP_LIMIT: (order.price, order.limit_price),
        }[order.type]
        if order.symbol != self._instrument.symbol:
            return f"symbol {order.symbol} is not traded here"
        if order.account != self._account:
            return f"account {order.account} does not exist"
        if order.client_order_id in self._used:
            return f"client order id {order.client_order_id} was used before"
        if not 0 < order.quantity <= MAX_QUANTITY:
            return f"quantity {order.quantity} is not between 1 and {MAX_QUANTITY}"
        if not all(map(self._valid_price, needs)):
            return f"price {order.price} {order.limit_price} is not a positive multiple of {self._instrument.tick_size}"
        return ""


def _bracket_objection(bracket: Bracket) -> str:
    entry, children = bracket.entry, (bracket.stop, bracket.target)
    if any(child.side is entry.side or child.quantity != entry.quantity for child in children):
        return "stop and target must close what the entry opens"
    if len({entry.client_order_id, *(child.client_order_id for child in children)}) != 3:
        return "the three orders of a bracket need three client order ids"
    return ""
