"""The matching engine: client orders and background flow on one order book.

What a client's order means is decided here: stops wait for a trade at their trigger, the two orders of an OCO pair
shrink and end together, a parent waits for its pair, and that pair works only for what the parent has filled.
Everything that happens is emitted as values; the caller takes them from `events` and `trades`.

A fill's consequences come in two steps. Whatever must not trade any more (an OCO sibling) is reduced at once, in the
middle of the sweep. Whatever is set in motion (a triggered stop, an activated child) waits until the sweep is over.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from mia_daemon.records import OrderType, TimeInForce
from mia_daemon.simulator.client_order import ClientOrder, NewOrder, OrderEvent, ServedStatus, UpdateReason
from mia_daemon.simulator.order_book import BUY, OrderBook, Resting
from mia_daemon.simulator.order_log import OrderLog


class MatchedTrade(NamedTuple):
    """A print on the tape. `marker`: 1 first, 2 last of several prints of one aggressive order, 0 otherwise."""

    price: int
    quantity: int
    side: int  # of the aggressor
    marker: int


class MatchingEngine:
    """Price-time priority with stops, OCO pairs and brackets, for one symbol.

    Args:
        now_ns: exchange time of the next operation; the caller moves it on.
        log: takes what happens to client orders; other engines may share it.
        new_id_on_replace: a replaced order gets a new server id, as Sierra Chart does with some order routings.

    Attributes:
        alive: orders that are not done, by `order_id`.
        trades: prints since the caller last cleared the list.
        events, changed: those of the log.
    """

    def __init__(self, now_ns: int = 0, log: OrderLog | None = None, *, new_id_on_replace: bool = False) -> None:
        self.book = OrderBook()
        self.now_ns = now_ns
        self.last_price: int | None = None
        self.alive: dict[int, ClientOrder] = {}
        self.trades: list[MatchedTrade] = []
        self._log = log or OrderLog()
        self.events = self._log.events
        self.changed = self._log.changed
        self.take_id = self._log.take_order_id
        self._new_id_on_replace = new_id_on_replace
        self._armed: dict[int, ClientOrder] = {}
        self._triggered: deque[ClientOrder] = deque()
        self._activations: deque[ClientOrder] = deque()  # parents that have filled
        self._complete: deque[ClientOrder] = deque()  # parents one of whose children has filled

    # ------------------------------------------------------------------------------------------------ background flow

    def rest(self, side: int, price: int, quantity: int) -> None:
        """A background limit order that does not cross the touch."""
        self.book.add(Resting(self.take_id(), side, price, quantity))

    def hit(self, side: int, quantity: int, limit: int | None = None) -> None:
        """A background order that takes what is there, up to `limit`; the rest of it vanishes."""
        self._sweep(side, quantity, limit)
        self._settle()

    def quoted(self, side: int, price: int) -> None:
        """A market that is told elsewhere quotes `price` on `side`: client orders that it meets fill whole, at theirs.

        Nothing of it is printed; the level itself is not made here.
        """
        self._meet(side, price)
        self._settle()

    def traded(self, side: int, price: int, quantity: int) -> None:
        """A trade of a market that is told elsewhere: client orders take part in it, and stops see it.

        Orders with a better price fill whole, those at its price when all that rests before them has traded. Nothing of
        it is printed.

        Args:
            side: of the aggressor; 0 when not known, then only orders that it went through fill.
            price: of the trade, ticks.
            quantity: contracts.
        """
        for aggressor in (side,) if side else (BUY, -BUY):
            self._meet(aggressor, price - aggressor)
        resting = self.book.asks if side == BUY else self.book.bids
        if side and price in resting and any(type(order) is ClientOrder for order in resting[price].orders.values()):
            self.book.take_level(-side, price, quantity, self._on_resting_fill)
        self.last_price = price
        if self._armed:
            self._trigger(price, price)
        self._settle()

    def _meet(self, side: int, limit: int) -> None:
        """Fill what an aggressor of `side` meets up to `limit` of client orders: best price first, then by age."""
        met = [order for order in self.alive.values() if order.resting and order.side != side]
        for order in sorted(met, key=lambda o: (o.price * side, o.order_id)):
            if order.resting and (order.price - limit) * side <= 0:  # the one before may have cancelled it
                order.resting = False
                self.book.remove(order)
                self._fill(order, order.remaining, order.price)

    # -------------------------------------------------------------------------------------------------- client orders

    def submit(self, request: NewOrder) -> ClientOrder:
        """Accept an order and let it trade; what becomes of it is in `events`.

        A parent is only accepted: `submit_oco` sends it to the market, together with its pair.
        """
        order = self._accept(request)
        if not request.is_parent:
            self._enter(order)
            self._settle()
        return order

    def submit_oco(
        self,
        first: NewOrder,
        second: NewOrder,
        parent: ClientOrder | None = None,
        offsets: tuple[int | None, int | None] = (None, None),
        *,
        immediate_cancel: bool = False,
    ) -> tuple[ClientOrder, ClientOrder]:
        """Accept a pair of which only one may fill.

        Args:
            first: one of the pair.
            second: the other; it may differ in side, type and quantity.
            parent: it enters the market now, and both wait for its fills; None sends them there themselves.
            offsets: distance of each order from the parent's fill price, ticks; None where its own price stands.
            immediate_cancel: a partial fill cancels the sibling instead of reducing it.
        """
        pair = (self._new(first), self._new(second))
        pair[0].sibling, pair[1].sibling = pair[1], pair[0]
        for order, offset in zip(pair, offsets, strict=True):
            order.immediate_cancel = immediate_cancel
            order.parent = parent
            order.offset = offset
            self._price_from_parent(order)
        for order in pair:
            self._emit(order, UpdateReason.ACCEPTED)
            if parent is not None:
                order.status = ServedStatus.PENDING_CHILD
                self._emit(order, UpdateReason.GENERAL)
        if parent is None:
            self._enter_pair(pair)
        else:
            parent.children = pair
            self._enter(parent)
        self._settle()
        return pair

    def cancel(self, order: ClientOrder) -> None:
        """Cancel a client's order; one that is done already is answered with a cancel reject."""
        if not order.alive:
            self.events.append(order.event(self.now_ns, UpdateReason.CANCEL_REJECTED, text="the order is not open"))
            return
        self.events.append(order.event(self.now_ns, UpdateReason.GENERAL, status=ServedStatus.PENDING_CANCEL))
        self._cancel(order, "")
        self._settle()

    def fill_before_cancel(self, order: ClientOrder) -> OrderEvent | None:
        """The order filled, all of it at its own price, while its cancel was on its way.

        Returns:
            The cancel's confirmation, which is wrong; None for an order that waits for something: nothing was done.
        """
        limit = order.limit
        if not order.resting or limit is None:
            return None
        confirmed = order.event(self.now_ns, UpdateReason.CANCELED, status=ServedStatus.CANCELED)._replace(remaining=0)
        self._withdraw(order)
        self._fill(order, order.open_quantity, limit)
        self._settle()
        return confirmed

    def replace(
        self,
        order: ClientOrder,
        price1: int | None = None,
        price2: int | None = None,
        quantity: int = 0,
        time_in_force: TimeInForce | None = None,
    ) -> None:
        """Change a live order. `quantity` is the total including fills; None and 0 leave things as they are.

        A stop-limit of which only `price1` is given keeps the distance from its trigger to its limit. Only a smaller
        quantity at the same price keeps the order's place in the queue.
        """
        refusal = self._why_not_replace(order, quantity)
        if refusal:
            self.events.append(order.event(self.now_ns, UpdateReason.REPLACE_REJECTED, text=refusal))
            return
        self.events.append(order.event(self.now_ns, UpdateReason.GENERAL, status=ServedStatus.PENDING_REPLACE))
        if order.type == OrderType.STOP_LIMIT and price1 is not None and price2 is None:
            price2 = order.price2 + price1 - order.price1
        reduced_by = order.quantity - quantity if quantity else 0
        new_limit = price2 if order.type == OrderType.STOP_LIMIT else price1
        keeps_place = order.resting and reduced_by >= 0 and new_limit in {None, order.price}
        order.price1 = order.price1 if price1 is None else price1
        order.price2 = order.price2 if price2 is None else price2
        order.offset = order.offset if price1 is None else None
        order.quantity = quantity or order.quantity
        order.time_in_force = time_in_force or order.time_in_force
        if order.status == ServedStatus.PENDING_CHILD:
            order.wanted = order.quantity
        if self._new_id_on_replace:
            order.previous_server_id, order.server_id = order.server_id, str(self.take_id())
        self._emit(order, UpdateReason.REPLACED)
        if keeps_place:
            if reduced_by:
                self.book.reduce(order, reduced_by)
        elif not order.waits:
            self._withdraw(order)
            self._work(order)
        self._settle()

    @staticmethod
    def _why_not_replace(order: ClientOrder, quantity: int) -> str:
        if not order.alive:
            return "the order is not open"
        if quantity and quantity <= order.filled:
            return f"the quantity {quantity} does not exceed what has filled, {order.filled}: cancel the order instead"
        return ""

    def expire_day_orders(self) -> None:
        """The session ends: DAY orders end; a child whose parent works on waits with it."""
        for order in list(self.alive.values()):
            waits = order.status == ServedStatus.PENDING_CHILD and order.parent is not None and order.parent.alive
            if order.alive and order.time_in_force == TimeInForce.DAY and not waits:
                self._cancel(order, "day order expired at the end of the session")
        self._settle()

    def restore(self, orders: Iterable[ClientOrder], last_price: int | None) -> None:
        """Put live orders of an earlier run back, in the given sequence, before any background order rests."""
        self.last_price = last_price
        for order in orders:
            self.alive[order.order_id] = order
            if order.armed:
                self._armed[order.order_id] = order
            elif order.resting:
                self._queue(order)

    # ------------------------------------------------------------------------------------------------ life of an order

    def _new(self, request: NewOrder) -> ClientOrder:
        order = ClientOrder(self.take_id(), request)
        self.alive[order.order_id] = order
        return order

    def _accept(self, request: NewOrder) -> ClientOrder:
        order = self._new(request)
        self._emit(order, UpdateReason.ACCEPTED)
        return order

    def _enter(self, order: ClientOrder) -> None:
        order.status = ServedStatus.OPEN
        self._emit(order, UpdateReason.GENERAL)
        self._work(order)

    def _enter_pair(self, pair: Iterable[ClientOrder]) -> None:
        """Open both before either trades, so that the first one's fill finds its sibling."""
        opened = [order for order in pair if order.alive]
        for order in opened:
            order.status = ServedStatus.OPEN
            self._emit(order, UpdateReason.GENERAL)
        for order in opened:
            if order.alive:
                self._work(order)

    def _work(self, order: ClientOrder) -> None:
        """Arm a stop, or trade what can be traded and let the rest lie in the book."""
        if order.is_stop and not order.triggered and not self._is_triggered(order, self.last_price):
            order.armed = True
            self._armed[order.order_id] = order
            return
        self._execute(order)

    def _execute(self, order: ClientOrder) -> None:
        order.triggered = order.is_stop
        limit = order.limit
        self._clear_path(order, limit)
        if order.time_in_force == TimeInForce.FOK:
            wanted = order.open_quantity
            if self.book.available(order.side, wanted, limit) < wanted:
                self._cancel(order, "fill or kill: not enough quantity at the price")
                return
        self._sweep(order.side, order.open_quantity, limit, order)
        if not order.alive:
            return
        if limit is None:
            self._cancel(order, "no more quantity on the other side")
        elif order.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            self._cancel(order, "immediate or cancel: the rest is cancelled")
        else:
            self._queue(order)

    def _queue(self, order: ClientOrder) -> None:
        limit = order.limit
        assert limit is not None  # only orders with a limit rest
        order.price = limit
        order.remaining = order.open_quantity
        order.resting = True
        self.book.add(order)

    def _sweep(self, side: int, quantity: int, limit: int | None, aggressor: ClientOrder | None = None) -> None:
        prints = self.book.take(side, quantity, limit, self._on_resting_fill)
        if not prints:
            return
        last = len(prints) - 1
        for i, (price, traded) in enumerate(prints):
            marker = 0 if not last else 1 if i == 0 else 2 if i == last else 0
            self.trades.append(MatchedTrade(price, traded, side, marker))
            if aggressor is not None:
                self._fill(aggressor, traded, price)
        self.last_price = prints[-1].price
        if self._armed:
            self._trigger(prints[0].price, prints[-1].price)

    def _clear_path(self, order: ClientOrder, limit: int | None) -> None:
        """An order never trades with its own bracket or OCO sibling: what of it lies in the way is cancelled."""
        for other in (order.sibling, order.parent, *order.children):
            if other is None or not other.resting or other.side == order.side:
                continue
            if limit is None or (other.price - limit) * order.side <= 0:
                self._kill(other, "it would have traded with an order of its own bracket")

    def _cancel(self, order: ClientOrder, text: str) -> None:
        """End an order, and the other one of its pair where they have no parent; of a bracket the other one stays."""
        self._kill(order, text)
        sibling = order.sibling
        if order.parent is None and sibling is not None and sibling.alive:
            self._kill(sibling, "the other order of the OCO pair was cancelled")

    def _kill(self, order: ClientOrder, text: str) -> None:
        self._withdraw(order)
        order.status = ServedStatus.CANCELED
        self._emit(order, UpdateReason.CANCELED, text=text)
        self._done(order)
        if not order.filled:
            for child in order.children:
                if child.alive:
                    self._kill(child, "the parent order ended without a fill")

    def _withdraw(self, order: ClientOrder) -> None:
        if order.resting:
            order.resting = False
            self.book.remove(order)
        if order.armed:
            order.armed = False
            del self._armed[order.order_id]

    def _done(self, order: ClientOrder) -> None:
        order.resting = False
        del self.alive[order.order_id]

    def _emit(self, order: ClientOrder, reason: UpdateReason, *, text: str = "") -> None:
        self.events.append(order.event(self.now_ns, reason, text=text))
        self.changed[order.order_id] = order

    # -------------------------------------------------------------------------------------------- fills and their echo

    def _on_resting_fill(self, resting: Resting, quantity: int, price: int) -> None:
        assert isinstance(resting, ClientOrder)
        self._fill(resting, quantity, price)

    def _fill(self, order: ClientOrder, quantity: int, price: int) -> None:
        order.filled += quantity
        order.notional += price * quantity
        complete = order.filled == order.quantity
        order.status = ServedStatus.FILLED if complete else ServedStatus.PARTIALLY_FILLED
        self.events.append(
            order.event(
                self.now_ns,
                UpdateReason.FILLED if complete else UpdateReason.FILLED_PARTIALLY,
                last_price=price,
                last_quantity=quantity,
                execution_id=self._log.take_execution_id(),
            )
        )
        self.changed[order.order_id] = order
        if complete:
            self._done(order)
            if order.parent is not None:
                self._complete.append(order.parent)
        if order.sibling is not None and order.sibling.alive:
            self._shrink_sibling(order, order.sibling, quantity)
        if order.children:
            self._activations.append(order)

    def _shrink_sibling(self, order: ClientOrder, sibling: ClientOrder, quantity: int) -> None:
        if not order.alive or order.immediate_cancel or quantity >= sibling.open_quantity:
            self._kill(sibling, "the other order of the OCO pair filled")
            return
        sibling.quantity -= quantity
        if sibling.resting:
            self.book.reduce(sibling, quantity)
        self._emit(sibling, UpdateReason.GENERAL, text="reduced by a partial fill of the other order of the OCO pair")

    def _trigger(self, first_price: int, last_price: int) -> None:
        low, high = min(first_price, last_price), max(first_price, last_price)
        due = [order for order in self._armed.values() if self._is_triggered(order, high if order.side == BUY else low)]
        for order in sorted(due, key=lambda o: (o.price1 * o.side, o.order_id)):
            del self._armed[order.order_id]
            order.armed = False
            self._triggered.append(order)

    @staticmethod
    def _is_triggered(order: ClientOrder, price: int | None) -> bool:
        return price is not None and (price - order.price1) * order.side >= 0

    def _settle(self) -> None:
        """Carry out what the last sweep set in motion, until nothing moves any more: what ends comes first."""
        while self._activations or self._triggered or self._complete:
            if self._complete:
                parent = self._complete.popleft()
                if parent.alive:
                    self._kill(parent, "its bracket is complete: no exit would protect a further fill")
            elif self._activations:
                self._activate(self._activations.popleft())
            else:
                order = self._triggered.popleft()
                if order.alive:
                    self._execute(order)

    def _activate(self, parent: ClientOrder) -> None:
        """Let the children work, or grow, for what the parent has filled since."""
        fresh: list[ClientOrder] = []
        for child in parent.children:
            more = min(parent.filled, child.wanted) - child.activated
            if not child.alive or more <= 0:
                continue
            child.activated += more
            if child.status == ServedStatus.PENDING_CHILD:
                self._price_from_parent(child)
                child.quantity = more
                fresh.append(child)
            else:
                self._grow(child, more)
        self._enter_pair(fresh)

    def _grow(self, child: ClientOrder, more: int) -> None:
        child.quantity += more
        self._emit(child, UpdateReason.GENERAL, text="grown with a further fill of the parent order")
        if child.resting:
            self._withdraw(child)
            self._queue(child)

    def _price_from_parent(self, child: ClientOrder) -> None:
        """A child with an offset follows its parent: the target on the winning side, the stop on the losing one."""
        parent = child.parent
        if child.offset is None or parent is None:
            return
        expected = parent.price1 or self.last_price or 0
        base = round(parent.notional / parent.filled) if parent.filled else expected
        distance = child.offset * parent.side
        child.price1 = base - distance if child.is_stop else base + distance
