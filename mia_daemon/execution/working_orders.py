"""Our orders and their states, moved by the table of `order_states` on sends, fills and updates of the server."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from mia_daemon.execution.order_states import TRANSITIONS, Cause, OrderState, cause_of
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.records import Fill, Order, OrderReport, OrderRole, OrderStatus, OrderType, Side

_ENDED: Final = frozenset({OrderState.CANCELED, OrderState.REJECTED})
_ALIVE: Final = frozenset({OrderStatus.ACCEPTED, OrderStatus.WORKING, OrderStatus.PARTIAL})
_WORKS: Final = frozenset({OrderState.WORKING, OrderState.PARTIAL})
_REFUSALS: Final = frozenset({OrderStatus.CANCEL_REJECTED, OrderStatus.REPLACE_REJECTED})
_BEFORE_A_FILL: Final = frozenset({OrderState.ACKED, OrderState.HELD, OrderState.WORKING})


class WorkingOrders:
    """Our orders that are not done, and the last of those that are (`keep_done`), for late updates.

    Independent of positions, market prices and clocks. An update or a fill of an unknown order is not ours: the method
    returns None and changes nothing.

    Attributes:
        renumbered: the server has given a new order the number of another one of ours: its numbers began again. Set
            here, cleared by the reader.
    """

    def __init__(self, keep_done: int = 4096) -> None:
        self._live: dict[str, WorkingOrder] = {}
        self._done: dict[str, WorkingOrder] = {}
        self._by_server: dict[str, str] = {}
        self._keep_done = keep_done
        self._version = 0
        self.renumbered = False

    def __iter__(self) -> Iterator[WorkingOrder]:
        """Those not done, oldest first; a copy, so the caller may send orders while iterating."""
        return iter(tuple(self._live.values()))

    def __len__(self) -> int:
        return len(self._live)

    def get(self, client_order_id: str) -> WorkingOrder | None:
        return self._live.get(client_order_id) or self._done.get(client_order_id)

    def find(
        self, client_order_id: str, server_order_id: str, previous_server_order_id: str = ""
    ) -> WorkingOrder | None:
        """By client order id, or else by the server's number, or else by its number before a replace.

        Where the two numbers are of different orders, it is the one not done: the server gives numbers a second time.
        """
        if (named := self.get(client_order_id)) is not None:
            return named
        entry = self.get(self._by_server.get(server_order_id, ""))
        replaced = self.get(self._by_server.get(previous_server_order_id, ""))
        if entry is None or (replaced is not None and entry.done and not replaced.done):
            return replaced
        return entry

    def find_by_values(self, update: OrderReport, half_tick: float) -> list[WorkingOrder]:
        """The orders that an update without a known name may be about: sent, their number not known, with its side,
        type, quantity and price. A name in the update must be a beginning of theirs, in upper or lower case.
        """
        told = update.client_order_id.casefold()
        return [
            entry
            for entry in self._live.values()
            if not entry.server_order_id
            and entry.client_order_id.casefold().startswith(told)
            and update.side is entry.order.side
            and update.type is entry.order.type
            and update.quantity == entry.quantity
            and (not update.price or abs(update.price - entry.price) < half_tick)
        ]

    @property
    def version(self) -> int:
        """Number of the newest change of any order. Kept beside a query, it tells which orders changed after it."""
        return self._version

    # Our own requests.

    def add(self, order: Order) -> WorkingOrder:
        """Add an order about to be sent. Raises ValueError when its client order id was used before."""
        name = order.client_order_id
        if name in self._live or name in self._done:
            raise ValueError(f"order {name} exists already: an identifier is never used twice")
        entry = self._live[name] = WorkingOrder(order, OrderState.INTENT, order.quantity, order.price)
        return entry

    def restore(self, entry: WorkingOrder, earlier_numbers: Iterable[str] = ()) -> None:
        """Add an order of an earlier run; `earlier_numbers` are the server's from before its replaces."""
        for number in filter(None, earlier_numbers):
            self._by_server.setdefault(number, entry.client_order_id)
        if entry.server_order_id:
            self._by_server[entry.server_order_id] = entry.client_order_id
        self._file(entry)

    def sent(self, entry: WorkingOrder, ts_ns: int, at_ns: int) -> None:
        """Mark it as sent at event time `ts_ns`, our time `at_ns`."""
        self._version += 1
        entry.history.version = self._version
        entry.history.sent_ns = ts_ns
        entry.history.sent_at_ns = entry.request.asked_ns = at_ns
        entry.state = TRANSITIONS[entry.state, Cause.SEND]  # moves no order between live and done

    def cancel_sent(self, entry: WorkingOrder, at_ns: int, again_ns: int) -> None:
        """A cancel was sent at our time `at_ns`; no other is sent before `again_ns`."""
        self._ask(entry, at_ns)
        entry.request.cancel_pending = True
        entry.request.cancels += 1
        entry.request.cancel_again_ns = again_ns

    def replace_sent(self, entry: WorkingOrder, at_ns: int, price: float) -> None:
        """A replace was sent at our time `at_ns`."""
        self._ask(entry, at_ns)
        entry.request.asked_price = price
        entry.request.replace_pending = True

    def lose(self, entry: WorkingOrder) -> None:
        """Mark it as unknown unless it is done; no answer to its last request is awaited any more."""
        request = entry.request
        request.asked_ns = 0
        request.cancel_pending = request.replace_pending = False
        self._move(entry, Cause.LOSE)

    def _ask(self, entry: WorkingOrder, at_ns: int) -> None:
        self._happened(entry)
        entry.request.asked_ns = at_ns

    def _happened(self, entry: WorkingOrder) -> None:
        self._version += 1
        entry.history.version = self._version

    # Reports of the server.

    def apply_update(self, update: OrderReport) -> WorkingOrder | None:
        """Apply an update to its order and return the order; None when it is not ours."""
        entry = self.find(update.client_order_id, update.server_order_id, update.previous_server_order_id)
        if entry is None:
            return None
        cause = self._cause(entry, update)
        if update.status not in _REFUSALS:  # these repeat the number that was sent, which may be no order's any more
            self._rename(entry, update)
            self.learn_number(entry, update.server_order_id)
        if update.unsolicited:
            self._happened(entry)
        if not update.unsolicited or update.ts_ns >= entry.history.updated_ns:  # a list is newer, whatever its times
            self._take_facts(entry, update)
        fills = entry.fills
        if update.filled >= fills.reported and abs(update.average_fill_price) > 0.0:  # not NaN
            fills.average = update.average_fill_price
        fills.reported = max(fills.reported, min(update.filled, entry.size))
        if update.status is OrderStatus.FILLED:
            fills.reported = max(fills.reported, entry.quantity if not update.filled else 0)
        self._answered(entry, update)
        self._move(entry, cause)
        return entry

    def _cause(self, entry: WorkingOrder, update: OrderReport) -> Cause:
        """What an update means for the order's state.

        A server may replace an order by cancelling it and entering it anew, under another number: CANCELED in answer
        to a replace is no end, and a sign of life under a new number is one after it. Both are asked about. Once the
        replace is refused, the cancel was one of its own: of the pair's other order, for example.
        """
        request, number = entry.request, update.server_order_id
        if update.status is OrderStatus.CANCELED and request.replace_pending and not request.cancel_wanted:
            request.replace_pending = False
            request.canceled_in_replace = True
            return Cause.LOSE
        if request.canceled_in_replace:
            request.canceled_in_replace = update.status is OrderStatus.CANCEL_REJECTED
            if update.status is OrderStatus.REPLACE_REJECTED and entry.state is OrderState.UNKNOWN:
                return Cause.CANCELED
        if entry.state in _ENDED and update.status in _ALIVE and number and number not in self._by_server:
            entry.state = OrderState.UNKNOWN
        return cause_of(update)

    @staticmethod
    def _rename(entry: WorkingOrder, update: OrderReport) -> None:
        """Take over the number that a replace gave the order, whatever the time of the update: the server knows it by
        no other. A rename of a number that was replaced before is a repeat, and older than what is known.
        """
        number, previous = update.server_order_id, update.previous_server_order_id
        if not number or previous in {"", number} or previous in entry.history.former_numbers:
            return
        entry.history.former_numbers.add(previous)
        entry.history.former_numbers.discard(number)
        entry.server_order_id = number

    def learn_number(self, entry: WorkingOrder, server_order_id: str) -> None:
        """The server's number of an order. One that another order of ours has, or had, means that they began again."""
        if not server_order_id:
            return
        other = self._by_server.get(server_order_id)
        if other not in {None, entry.client_order_id}:
            self.renumbered = True
        self._by_server[server_order_id] = entry.client_order_id

    def book(self, entry: WorkingOrder, fill: Fill) -> None:
        """Count a fill that was applied; `fill` is what `OrderFills` said is to be booked."""
        self._happened(entry)
        self.learn_number(entry, fill.server_order_id)
        entry.fills.add(fill)
        # By the size, not by the quantity last reported: a bracket's grows with its parent's fills, and an update of
        # that may be late or lost. What was only reduced to what has filled is reported as filled or is absent.
        self._move(entry, Cause.FULL_FILL if entry.fills.booked >= entry.size else Cause.PART_FILL)

    @staticmethod
    def _take_facts(entry: WorkingOrder, update: OrderReport) -> None:
        entry.history.updated_ns = max(entry.history.updated_ns, update.ts_ns)
        if update.status in _REFUSALS:
            return
        if update.server_order_id and update.server_order_id not in entry.history.former_numbers:
            entry.server_order_id = update.server_order_id
        if update.status is not OrderStatus.REJECTED:
            # An update that tells fewer contracts as filled than are booked is older than they: it shrinks no order.
            tells = update.filled or update.status is not OrderStatus.REPLACED
            if not (tells and update.filled < entry.fills.booked) or update.quantity > entry.quantity:
                told = update.quantity or entry.quantity
                # No order fills more than was asked for, but for a flatten, whose size is the server's choice.
                entry.quantity = told if entry.order.type is OrderType.MARKET else min(told, entry.order.quantity)
            entry.price = update.price or entry.price

    @staticmethod
    def _answered(entry: WorkingOrder, update: OrderReport) -> None:
        """Clear the pending requests that this update answers."""
        status = update.status
        if not update.unsolicited or status is OrderStatus.UNKNOWN_TO_SERVER:
            entry.request.cancel_pending = entry.request.replace_pending = False
        elif status in {OrderStatus.REPLACED, OrderStatus.REPLACE_REJECTED}:
            entry.request.replace_pending = False
            entry.request.replace_refused = status is OrderStatus.REPLACE_REJECTED
        elif status is OrderStatus.CANCEL_REJECTED:
            entry.request.cancel_pending = False
        if not (entry.request.cancel_pending or entry.request.replace_pending):
            entry.request.asked_ns = 0

    def _move(self, entry: WorkingOrder, cause: Cause) -> None:
        after = TRANSITIONS[entry.state, cause]
        if entry.fills.booked and after in _BEFORE_A_FILL:
            after = OrderState.PARTIAL  # what has filled stays filled, whatever is reported late
        entry.state = after
        if (after in _WORKS or entry.fills.booked) and (parent := self.get(entry.order.parent_id)) is not None:
            parent.fills.released = True
        if not entry.live:
            entry.request.cancel_pending = entry.request.replace_pending = False
            entry.request.asked_ns = 0
        self._file(entry)

    def _file(self, entry: WorkingOrder) -> None:
        """Keep the order among the live or the done ones, by its state; drop the oldest done beyond `keep_done`."""
        name = entry.client_order_id
        if not entry.done:
            self._done.pop(name, None)
            self._live[name] = entry
            return
        self._live.pop(name, None)
        self._done[name] = entry
        while len(self._done) > self._keep_done:
            oldest = next(iter(self._done.values()))
            del self._done[oldest.client_order_id]
            if self._by_server.get(oldest.server_order_id) == oldest.client_order_id:
                del self._by_server[oldest.server_order_id]

    # Totals and queries.

    def exposure(self, side: Side) -> int:
        """Contracts by which working orders may still move the position to `side`, at worst.

        Of the stops and the targets of an entry, which cancel each other, the larger sum counts. An order that waits
        for its parent counts for what the parent has filled.
        """
        groups: dict[str, Counter[OrderRole]] = {}
        for entry in self._live.values():
            if entry.order.side is side:
                group = groups.setdefault(entry.order.parent_id or entry.client_order_id, Counter())
                group[entry.order.role] += self._active_quantity(entry)
        return sum(max(group.values()) for group in groups.values())

    def _active_quantity(self, entry: WorkingOrder) -> int:
        parent = self.get(entry.order.parent_id)
        if parent is None or entry.state not in {OrderState.ACKED, OrderState.HELD}:
            return entry.open_quantity
        return min(entry.open_quantity, max(parent.fills.reported - entry.fills.booked, 0))

    def protection(self, side: Side) -> int:
        """Contracts of stops on `side` that are acknowledged and not ended; one that is held back is no cover."""
        return sum(
            entry.open_quantity
            for entry in self._live.values()
            if entry.order.role is OrderRole.STOP and entry.order.side is side and entry.at_server
        )

    def surplus(self) -> list[WorkingOrder]:
        """Those live whose position is closed: nothing is left for them to do."""
        return [entry for entry in self._live.values() if entry.live and entry.history.surplus]

    def children(self, parent_id: str) -> list[WorkingOrder]:
        """Stop and target of an entry, done or not; none for no parent."""
        if not parent_id:
            return []
        every = (*self._live.values(), *self._done.values())
        return [entry for entry in every if entry.order.parent_id == parent_id]

    def mark_surplus(self) -> None:
        """The position was closed: what closes, and belongs to no entry that may still fill, has nothing left to do."""
        for entry in self._live.values():
            if entry.order.role is not OrderRole.ENTRY:
                parent = self.get(entry.order.parent_id)
                entry.history.surplus = parent is None or not parent.live

    def best_limit(self, side: Side) -> float:
        """The best price at which a limit order of ours may rest on `side`; infinitely far away when there is none."""
        best = -math.inf
        for entry in self._live.values():
            if entry.order.side is side and entry.order.type is OrderType.LIMIT and entry.live:
                best = max(
                    best,
                    entry.price * side,
                    entry.request.asked_price * side if entry.request.asked_price else -math.inf,
                )
        return best * side

    def with_role(self, *roles: OrderRole) -> list[WorkingOrder]:
        """Those not done whose role is one of `roles`, oldest first."""
        if not self._live:
            return []
        return [entry for entry in self._live.values() if entry.order.role in roles]

    def unknown(self) -> list[WorkingOrder]:
        """The unknown orders: they block new risk."""
        return [entry for entry in self._live.values() if entry.state is OrderState.UNKNOWN]

    def unanswered(self, before_ns: int) -> list[WorkingOrder]:
        """Those with a request sent at or before `before_ns`, our time, and not answered yet."""
        return [
            entry for entry in self._live.values() if entry.request.asked_ns and entry.request.asked_ns <= before_ns
        ]

    def missing_fills(self) -> list[WorkingOrder]:
        """Those for which the server reported more contracts as filled than were applied."""
        if not self._live:
            return []
        return [entry for entry in self._live.values() if entry.fills.reported > entry.fills.booked]
