"""Our orders and position against the server's snapshot: findings as values, nothing done.

The server's answer is complete, so absence is evidence too: an order of ours that is neither open nor among the fills
is dead. Three limits to that. The answer says nothing of an order to which something happened after it was asked for.
Fills are told by the server's order number, which is not known for an order whose first answer was lost, and which may
have changed with a replace whose answer was lost: such a fill is given to the one absent order it can belong to, and
to none when there are several. And position, orders and fills are
three answers: what is on its way between them can look like a difference, so a drift counts only when a second look
confirms it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_orders import WorkingOrder, WorkingOrders
from mia_daemon.records import BrokerSnapshot, Fill, OrderStatus, OrderType, OrderUpdate

TIME_SLACK_NS = 5 * NS_PER_S
"""A fill may seem older than its order by so much: servers tell the time of past fills in whole seconds, of their own
clock."""


@dataclass(frozen=True, slots=True)
class ServerPosition:
    """The server's position, held against ours.

    Attributes:
        quantity: contracts, signed.
        average_price: 0 where the server reports none, or several.
        drift: the server's position less ours after the fills found: 0 when all is explained.
    """

    quantity: int
    average_price: float
    drift: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What to do so that our state agrees with the server's. Fills are to be booked before updates are applied.

    Attributes:
        fills: of our orders, not booked yet, oldest first; each names its order.
        updates: open orders as listed, and UNKNOWN_TO_SERVER for those that are gone.
        guessed: fills (also among `fills`) whose order was found by what it could belong to, not by its number.
        external_orders: open orders in our account and symbol that are not ours. They are reported, not touched.
        external_fills: executions in our account and symbol that belong to no order of ours, as far as can be told.
        ambiguous: client order ids of those that are not open and may or may not have filled.
        unresolved: client order ids that this answer says nothing certain about.
        position: the server's.
    """

    fills: tuple[Fill, ...]
    updates: tuple[OrderUpdate, ...]
    guessed: tuple[Fill, ...]
    external_orders: tuple[OrderUpdate, ...]
    external_fills: tuple[Fill, ...]
    ambiguous: tuple[str, ...]
    unresolved: tuple[str, ...]
    position: ServerPosition


def reconcile(
    orders: WorkingOrders, snapshot: BrokerSnapshot, *, position: int, symbol: str, account: str, as_of: int
) -> Reconciliation:
    """Compare our orders and position with the server's answer.

    Args:
        orders: ours; not changed.
        snapshot: the server's answer.
        position: ours, contracts, signed.
        symbol: whose orders, fills and positions count.
        account: the same.
        as_of: `orders.version` at the moment the answer was asked for.
    """
    listed = [update for update in snapshot.open_orders if (update.symbol, update.account) == (symbol, account)]
    known = [(orders.find(update.client_order_id, update.server_order_id), update) for update in listed]
    open_names = {entry.client_order_id for entry, _ in known if entry is not None}
    absent = [entry for entry in orders if entry.client_order_id not in open_names and entry.history.version <= as_of]

    told = [fill for fill in snapshot.fills if (fill.symbol, fill.account) == (symbol, account)]
    named, nameless = _by_order(orders, told, {update.server_order_id: entry for entry, update in known if entry})
    short = [(entry, update.filled - entry.fills.booked) for entry, update in known if entry is not None]
    guessed, external, ambiguous = _attribute(nameless, absent, short, named)
    rank = {fill.execution_id: (fill.ts_ns, n) for n, fill in enumerate(told)}  # many share a second: told in order
    fills = sorted((*named, *guessed), key=lambda fill: rank[fill.execution_id])

    lost = [entry for entry in absent if entry.client_order_id not in ambiguous]
    updates = [
        replace(update, client_order_id=entry.client_order_id)
        for entry, update in known
        if entry is not None and entry.history.version <= as_of
    ]
    updates += [gone(entry, snapshot.ts_ns) for entry in lost]
    held = [one for one in snapshot.positions if (one.symbol, one.account) == (symbol, account)]
    server_position = sum(one.quantity for one in held)
    explained = position + sum(fill.side * fill.quantity for fill in fills)
    return Reconciliation(
        fills=tuple(fills),
        updates=tuple(updates),
        guessed=tuple(guessed),
        external_orders=tuple(update for entry, update in known if entry is None),
        external_fills=tuple(external),
        ambiguous=tuple(sorted(ambiguous)),
        unresolved=tuple(
            entry.client_order_id
            for entry in orders
            if entry.client_order_id in ambiguous
            or (entry.history.version > as_of and entry.state is OrderState.UNKNOWN)
        ),
        position=ServerPosition(
            server_position, held[0].average_price if len(held) == 1 else 0.0, server_position - explained
        ),
    )


def _by_order(
    orders: WorkingOrders, told: Iterable[Fill], listed: dict[str, WorkingOrder]
) -> tuple[list[Fill], list[Fill]]:
    """Fills of our orders that are not booked yet, with their order's name; and fills of orders we can't name."""
    named: list[Fill] = []
    nameless: list[Fill] = []
    for fill in told:
        entry = orders.find(fill.client_order_id, fill.server_order_id) or listed.get(fill.server_order_id)
        if entry is None:
            nameless.append(fill)
        elif fill.execution_id not in entry.fills.executions:
            named.append(replace(fill, client_order_id=entry.client_order_id))
    return named, nameless


def _attribute(
    nameless: Iterable[Fill],
    absent: Sequence[WorkingOrder],
    short: Sequence[tuple[WorkingOrder, int]],
    named: Iterable[Fill],
) -> tuple[list[Fill], list[Fill], set[str]]:
    """Give fills of unknown numbers to the orders they can only belong to.

    Those are absent, also where an answer is still awaited: that it is not open says as much as any silence. Or they
    are open, and `short` of so many contracts that the list tells of. What is `named` already leaves less room.

    Returns:
        the fills with their order's name, those that belong to none of ours, and the names of orders that may or may
        not have filled.
    """
    room = {entry.client_order_id: entry.open_quantity for entry in absent}
    room |= {entry.client_order_id: missing for entry, missing in short}
    for fill in named:
        if fill.client_order_id in room:
            room[fill.client_order_id] -= fill.quantity
    candidates = [
        entry
        for entry in (*absent, *(entry for entry, _ in short))
        if entry.live and room[entry.client_order_id] > 0 and (not entry.server_order_id or entry.request.asked_price)
    ]
    by_number: dict[str, list[Fill]] = {}
    for fill in nameless:
        by_number.setdefault(fill.server_order_id, []).append(fill)
    given: list[Fill] = []
    external: list[Fill] = []
    ambiguous: set[str] = set()
    alike: dict[tuple[str, ...], list[list[Fill]]] = {}  # fills of several numbers that could be the same orders'
    for _, fills in sorted(by_number.items(), key=lambda item: (len(item[0]), item[0])):
        possible = _possible(fills, candidates, room)
        if len(possible) == 1:
            candidates.remove(possible[0])
            given += _named(fills, possible[0])
        elif possible:
            alike.setdefault(tuple(entry.client_order_id for entry in possible), []).append(fills)
        else:
            external += fills
    for names, groups in alike.items():
        left = [entry for entry in candidates if entry.client_order_id in names]
        if [room[entry.client_order_id] for entry in left] == [_quantity(fills) for fills in groups]:
            # All have filled, and entirely; which by which can't be told: numbers rise in the order of sending.
            given += chain.from_iterable(map(_named, groups, left))
        else:
            external += chain.from_iterable(groups)
            ambiguous.update(entry.client_order_id for entry in left if entry in absent)
    return given, external, ambiguous


def _possible(fills: Sequence[Fill], candidates: Iterable[WorkingOrder], room: Mapping[str, int]) -> list[WorkingOrder]:
    """Which of the candidates may have made all these fills of one number, each with `room` for so many contracts."""
    possible = [entry for entry in candidates if all(_fits(entry, fill) for fill in fills)]
    possible = [entry for entry in possible if _quantity(fills) <= room[entry.client_order_id]]
    if len(possible) > 1:  # an entry whose stop or target works must have filled
        possible = [entry for entry in possible if entry.fills.released and not entry.fills.booked] or possible
    if len(possible) > 1:  # the stop and the target of one bracket: a price short of the stop is the target's
        possible = [entry for entry in possible if all(_triggered(entry, fill) for fill in fills)] or possible
    return possible


def _quantity(fills: Iterable[Fill]) -> int:
    return sum(fill.quantity for fill in fills)


def _named(fills: Iterable[Fill], entry: WorkingOrder) -> list[Fill]:
    return [replace(fill, client_order_id=entry.client_order_id) for fill in fills]


def _fits(entry: WorkingOrder, fill: Fill) -> bool:
    order = entry.order
    limits = (entry.price, entry.request.asked_price or entry.price)
    within_limit = order.type is not OrderType.LIMIT or any((fill.price - limit) * order.side <= 0 for limit in limits)
    return fill.side is order.side and within_limit and fill.ts_ns >= entry.history.sent_ns - TIME_SLACK_NS


def _triggered(entry: WorkingOrder, fill: Fill) -> bool:
    """Whether a stop's fill is at its price or beyond, as it nearly always is; True for other orders."""
    return entry.order.type is not OrderType.STOP or (fill.price - entry.price) * fill.side >= 0


def gone(entry: WorkingOrder, ts_ns: int) -> OrderUpdate:
    """What a complete answer without the order says of it."""
    return OrderUpdate(
        ts_ns=ts_ns,
        client_order_id=entry.client_order_id,
        server_order_id=entry.server_order_id,
        symbol=entry.order.symbol,
        account=entry.order.account,
        status=OrderStatus.UNKNOWN_TO_SERVER,
        text="not among the server's open orders",
        unsolicited=False,
    )
