"""The second venue's exchange: orders, a touch that walks at random, fills, and the account. The truth of the venue.

It shares no code with `mia_daemon.simulator`. Prices are in ticks, sides 1 and -1. What happened is passed to `report`
as it happens; what happens later is given to `later`, which belongs to the server's process: a crash forgets it.
"""

import math
from collections.abc import Callable, Iterable
from random import Random

from fault_simulation.habits import Habits
from fault_simulation.second_account import Account, Execution, OrderChange, ServedOrder
from mia_daemon.dtc.enums import OrderStatusEnum as Status
from mia_daemon.dtc.enums import OrderTypeEnum as Type
from mia_daemon.dtc.enums import OrderUpdateReasonEnum as Reason

UP_OR_DOWN = 0.12
"""Chance of each in one step of the market."""


class Exchange:
    """One symbol and one account.

    Args:
        now_s: loop time.
        later: calls a function after some seconds, unless the server dies before.
        report: called with each change of an order, in order.
        filled: called with each execution, before it is reported.

    Attributes:
        orders: every order, by ServerOrderID, oldest first.
        fills: every execution that the server remembers.
    """

    def __init__(
        self,
        habits: Habits,
        account: Account,
        *,
        now_s: Callable[[], float],
        later: Callable[[float, Callable[[], None]], None],
        report: Callable[[OrderChange], None],
        filled: Callable[[Execution], None],
        price: int,
        rng: Random,
    ) -> None:
        self.habits = habits
        self.account = account
        self.orders: dict[str, ServedOrder] = {}
        self.fills: list[Execution] = []
        self._open: list[ServedOrder] = []
        self.bid, self.ask = price, price + 1
        self.rng = rng
        self._now_s = now_s
        self._later = later
        self._report = report
        self._filled = filled
        self._next_order = self._next_execution = 1

    @property
    def alive(self) -> list[ServedOrder]:
        """Orders that are not done, oldest first."""
        self._open = [order for order in self._open if not order.done]
        return self._open

    def named(self, name: str) -> ServedOrder | None:
        """The order with this ClientOrderID."""
        return next((order for order in self.orders.values() if order.name == name), None)

    def take_number(self) -> str:
        """A ServerOrderID that no order has had, as far as the server remembers."""
        number = str(self._next_order)
        self._next_order += 1
        return number

    # The server.

    def recover(self) -> None:
        """After a crash: what was about to happen to an order happens now."""
        if self.habits.forgets:
            self._forget()
        for order in self.alive:
            if order.parent is None:
                order.works = True
            elif order.parent.filled:
                self._activate_later(order)
            elif order.parent.done:
                self.end(order, Reason.ORDER_CANCELED)
            if order.partner is not None and self.habits.linked and order.partner.done:
                self.end(order, Reason.ORDER_CANCELED)

    def _forget(self) -> None:
        self.fills.clear()
        self._next_order = self._next_execution = 1
        for order in self.alive:
            order.number = self.take_number()
        self.orders = {order.number: order for order in self.alive}

    def step(self) -> None:
        """The market moves on, and what it meets fills."""
        draw = self.rng.random()
        move = 1 if draw < UP_OR_DOWN else -1 if draw < 2 * UP_OR_DOWN else 0
        self.bid += move
        self.ask += move
        self.match()

    # Requests.

    def submit(self, order: ServedOrder) -> None:
        """Take an order; its path leads to the market."""
        self._add(order)
        self._walk(order, self.habits.path, 0)

    def submit_pair(self, first: ServedOrder, second: ServedOrder, parent: ServedOrder | None) -> None:
        """Take two orders of which one is to fill; with a parent they wait for its fills."""
        first.partner, second.partner = second, first
        for order in (first, second):
            self._add(order)
            order.parent = parent
        if parent is not None:
            parent.children = (first, second)
        for order in (first, second):
            self._walk(order, self.habits.path if parent is None else self.habits.child_path, 0)
        if parent is not None and parent.filled:
            for order in (first, second):
                self._activate_later(order)

    def _add(self, order: ServedOrder) -> None:
        self.orders[order.number] = order
        self._open.append(order)

    def _walk(self, order: ServedOrder, path: tuple[Status, ...], place: int) -> None:
        """Report the next status after the time of an acknowledgement; after the last one the order works."""

        def on() -> None:
            if order.done or order.works:
                return
            order.status = path[place]
            self._report(OrderChange(order, Reason.NEW_ORDER_ACCEPTED if not place else Reason.GENERAL_ORDER_UPDATE))
            if place + 1 < len(path):
                self._walk(order, path, place + 1)
            elif order.parent is None:
                order.works = True
                self.match()

        self._later(self.habits.ack_s, on)

    def refuse(self, order: ServedOrder, text: str) -> None:
        """An order that is not taken."""
        order.status = Status.ORDER_STATUS_REJECTED
        self._later(self.habits.ack_s, lambda: self._report(OrderChange(order, Reason.NEW_ORDER_REJECTED, text=text)))

    def cancel(self, order: ServedOrder) -> None:
        """Cancel, or refuse to, or do nothing, as the habits have it."""
        draw = self.rng.random()
        if draw < self.habits.cancel_silent:
            return
        refused = draw < self.habits.cancel_silent + self.habits.cancel_refused

        def act() -> None:
            if refused or order.done:
                self._report(OrderChange(order, Reason.ORDER_CANCEL_REJECTED, text="the order can't be cancelled"))
            else:
                self.end(order, Reason.ORDER_CANCELED)

        if not (refused or order.done):
            self._report(OrderChange(order, Reason.GENERAL_ORDER_UPDATE, Status.ORDER_STATUS_PENDING_CANCEL))
        self._later(self.habits.ack_s, act)

    def replace(self, order: ServedOrder, price: int | None, limit: int | None, quantity: int) -> None:
        """Change an order; None and 0 leave things as they are."""
        refused = self.habits.replace == "refused"

        def act() -> None:
            if refused or order.done or (quantity and quantity <= order.filled):
                self._report(
                    OrderChange(order, Reason.ORDER_CANCEL_REPLACE_REJECTED, text="the order can't be changed")
                )
                return
            self._renumber(order)
            order.price = order.price if price is None else price
            order.limit = order.limit if limit is None else limit
            order.wanted = quantity or order.wanted
            if not order.waits:
                order.quantity = quantity or order.quantity
            anew = self.habits.replace == "anew"
            self._report(
                OrderChange(order, Reason.NEW_ORDER_ACCEPTED if anew else Reason.ORDER_CANCEL_REPLACE_COMPLETE)
            )
            self.match()

        self._later(self.habits.ack_s, act)

    def _renumber(self, order: ServedOrder) -> None:
        how = self.habits.replace
        if how == "same":
            return
        if how == "anew":
            self._report(OrderChange(order, Reason.ORDER_CANCELED, Status.ORDER_STATUS_CANCELED))
        order.previous, order.number = order.number, self.take_number()
        self.orders[order.number] = self.orders.pop(order.previous)

    def end(self, order: ServedOrder, reason: Reason, text: str = "") -> None:
        """Cancel an order, and the children of an entry that did not fill."""
        if order.done:
            return
        rejected = reason is Reason.NEW_ORDER_REJECTED
        order.status = Status.ORDER_STATUS_REJECTED if rejected else Status.ORDER_STATUS_CANCELED
        order.works = False
        self._report(OrderChange(order, reason, text=text))
        if not order.filled:
            for child in order.children:
                self.end(child, Reason.ORDER_CANCELED)

    # Fills and what follows from them.

    def match(self) -> None:
        """Fill what the touch meets."""
        for order in self.alive:
            if order.works and not order.done and self._now_s() >= order.fills_from_s:
                price = self._meets(order)
                if price is not None:
                    self._fill(order, min(order.open_quantity, -(-order.quantity // self.habits.parts)), price)
                elif order.at_once:
                    self.end(order, Reason.ORDER_CANCELED)

    def _meets(self, order: ServedOrder) -> int | None:
        touch, side = (self.ask if order.side > 0 else self.bid), order.side
        if order.is_stop:
            order.triggered = order.triggered or (touch - order.price) * side >= 0
            if not order.triggered:
                return None
        if order.type in {Type.ORDER_TYPE_MARKET, Type.ORDER_TYPE_STOP}:
            return touch
        limit = order.price if order.type == Type.ORDER_TYPE_LIMIT else order.limit
        return touch if (touch - limit) * side <= 0 else None

    def _fill(self, order: ServedOrder, quantity: int, price: int) -> None:
        order.filled += quantity
        order.notional += quantity * price
        order.executions += 1
        order.fills_from_s = self._now_s() + self.habits.part_s
        whole = order.filled == order.quantity
        order.status = Status.ORDER_STATUS_FILLED if whole else Status.ORDER_STATUS_PARTIALLY_FILLED
        self.account.apply(order.side, quantity, price)
        number = self._next_execution
        self._next_execution += 1
        execution = Execution(number, order.executions, order, order.number, quantity, price, self._now_s())
        self.fills.append(execution)
        self._filled(execution)
        reason = Reason.ORDER_FILLED if whole else Reason.ORDER_FILLED_PARTIALLY
        self._report(OrderChange(order, reason, execution=execution))
        for child in order.children:
            self._activate_later(child)
        if order.partner is not None and self.habits.linked:
            partner = order.partner
            self._after(self.habits.link_s, lambda: self._reduce(partner, quantity, gone=whole))
        if whole and order.parent is not None:
            self.end(order.parent, Reason.ORDER_CANCELED)  # what it still filled would have lost a child

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        """At once where there is nothing to wait for: a pair never fills twice in one step."""
        if seconds:
            self._later(seconds, act)
        else:
            act()

    def _reduce(self, order: ServedOrder, quantity: int, *, gone: bool) -> None:
        """The other one of a pair has filled."""
        if order.done:
            return
        if gone or quantity >= order.open_quantity:
            self.end(order, Reason.ORDER_CANCELED)
        else:
            order.quantity -= quantity
            self._report(OrderChange(order, Reason.GENERAL_ORDER_UPDATE))

    def _activate_later(self, child: ServedOrder) -> None:
        if not math.isinf(self.habits.child_s):
            self._after(self.habits.child_s, lambda: self._activate(child))

    def _activate(self, child: ServedOrder) -> None:
        """Let a child work for what its parent has filled."""
        parent = child.parent
        if child.done or parent is None:
            return
        if ("stop" if child.is_stop else "target") in self.habits.child_rejected:
            self.end(child, Reason.NEW_ORDER_REJECTED, "rejected by the exchange")
            return
        allowed = min(parent.filled, child.wanted)
        if allowed <= child.activated:
            return
        child.quantity = allowed if not child.works else child.quantity + allowed - child.activated
        child.activated = allowed
        if not child.works:
            child.works = True
            child.status = Status.ORDER_STATUS_OPEN
        self._report(OrderChange(child, Reason.GENERAL_ORDER_UPDATE))

    # External trading.

    def withdraw(self, orders: Iterable[ServedOrder]) -> None:
        """Cancel orders at the server itself, whatever its habits are."""
        for order in orders:
            self.end(order, Reason.ORDER_CANCELED)
