"""Compares our orders and position with the server's snapshot. Returns findings; changes nothing.

The server's answer is complete, so absence is evidence too: an order of ours that is neither open nor among the fills
is done. There are three limits to that:

- The answer proves nothing about an order that changed after the query was sent.
- Fills are identified by the server's order number. It is not known for an order whose first answer was lost, and may
  have changed with a replace whose answer was lost. Such a fill is given to the one order it can belong to, and to
  none when there are several.
- Position, orders and fills are three answers. Messages in flight between them can look like a difference, so a drift
  counts only when a second snapshot confirms it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import BrokerSnapshot, Fill, OrderReport, OrderStatus, OrderType

TIME_SLACK_NS = 5 * NS_PER_S
"""A fill may appear older than its order by this much: servers state fill times in whole seconds of their own clock."""


@dataclass(frozen=True, slots=True)
class ServerPosition:
    """The server's position, compared with ours.

    Attributes:
        quantity: contracts, signed.
        average_price: 0 where the server reports none, or several.
        drift: the server's position less ours after the fills found; 0 when they explain everything.
    """

    quantity: int
    average_price: float
    drift: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What brings our state into agreement with the server's. Apply the fills before the updates.

    Attributes:
        fills: of our orders, not applied yet, oldest first; each names its order.
        updates: open orders as listed, and UNKNOWN_TO_SERVER for those that are absent.
        guessed: fills (also among `fills`) whose order was inferred from side, price, time and quantity, not by number.
        external_orders: open orders in our account and symbol that are not ours. They are reported, not touched.
        external_fills: executions in our account and symbol that could be attributed to no order of ours.
        ambiguous: client order ids of those that are not open and may or may not have filled.
        unresolved: client order ids about which this answer proves nothing.
        position: the server's.
    """

    fills: tuple[Fill, ...]
    updates: tuple[OrderReport, ...]
    guessed: tuple[Fill, ...]
    external_orders: tuple[OrderReport, ...]
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
        symbol: ours; orders, fills and positions of others are ignored.
        account: ours, likewise.
        as_of: `orders.version` at the moment the query was sent.
    """
    listed = [update for update in snapshot.open_orders if (update.symbol, update.account) == (symbol, account)]
    known = [(orders.find(update.client_order_id, update.server_order_id), update) for update in listed]
    open_names = {entry.client_order_id for entry, _ in known if entry is not None}
    absent = [entry for entry in orders if entry.client_order_id not in open_names and entry.history.version <= as_of]

    reported = [fill for fill in snapshot.fills if (fill.symbol, fill.account) == (symbol, account)]
    named, nameless = _by_order(orders, reported, {update.server_order_id: entry for entry, update in known if entry})
    short = [(entry, update.filled - entry.fills.booked) for entry, update in known if entry is not None]
    guessed, external, ambiguous = _attribute(nameless, absent, short, named)
    # Fills of one second keep the order in which the server listed them.
    rank = {fill.execution_id: (fill.ts_ns, n) for n, fill in enumerate(reported)}
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
    orders: WorkingOrders, reported: Iterable[Fill], listed: dict[str, WorkingOrder]
) -> tuple[list[Fill], list[Fill]]:
    """Fills of our orders not applied yet, with their client order id; and fills whose order is not known."""
    named: list[Fill] = []
    nameless: list[Fill] = []
    for fill in reported:
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
    """Attribute fills with an unknown server order number to the orders they can only belong to.

    Args:
        nameless: fills whose order is not known.
        absent: our orders that are not open at the server, answered or not.
        short: our open orders, each with the contracts that the server lists as filled beyond those applied.
        named: fills attributed already; they reduce what their orders can still have filled.

    Returns:
        The fills with their client order id, those that belong to no order of ours, and the client order ids of orders
        that may or may not have filled.
    """
    capacity = {entry.client_order_id: entry.open_quantity for entry in absent}
    capacity |= {entry.client_order_id: missing for entry, missing in short}
    for fill in named:
        if fill.client_order_id in capacity:
            capacity[fill.client_order_id] -= fill.quantity
    candidates = [
        entry
        for entry in (*absent, *(entry for entry, _ in short))
        if entry.live
        and capacity[entry.client_order_id] > 0
        and (not entry.server_order_id or entry.request.asked_price)
    ]
    by_number: dict[str, list[Fill]] = {}
    for fill in nameless:
        by_number.setdefault(fill.server_order_id, []).append(fill)
    given: list[Fill] = []
    external: list[Fill] = []
    ambiguous: set[str] = set()
    alike: dict[tuple[str, ...], list[list[Fill]]] = {}  # groups of fills, by the orders they may all belong to
    for _, fills in sorted(by_number.items(), key=lambda item: (len(item[0]), item[0])):
        possible = _possible(fills, candidates, capacity)
        if len(possible) == 1:
            candidates.remove(possible[0])
            given += _named(fills, possible[0])
        elif possible:
            alike.setdefault(tuple(entry.client_order_id for entry in possible), []).append(fills)
        else:
            external += fills
    for names, groups in alike.items():
        left = [entry for entry in candidates if entry.client_order_id in names]
        if [capacity[entry.client_order_id] for entry in left] == [_quantity(fills) for fills in groups]:
            # All have filled completely; server order numbers rise in the order of sending: pair them in order.
            given += chain.from_iterable(map(_named, groups, left))
        else:
            external += chain.from_iterable(groups)
            ambiguous.update(entry.client_order_id for entry in left if entry in absent)
    return given, external, ambiguous


def _possible(
    fills: Sequence[Fill], candidates: Iterable[WorkingOrder], capacity: Mapping[str, int]
) -> list[WorkingOrder]:
    """The candidates to which all these fills of one server order number may belong.

    `capacity` is, by client order id, the contracts that an order may still have filled.
    """
    possible = [entry for entry in candidates if all(_fits(entry, fill) for fill in fills)]
    possible = [entry for entry in possible if _quantity(fills) <= capacity[entry.client_order_id]]
    if len(possible) > 1:  # an entry whose stop or target works must have filled
        possible = [entry for entry in possible if entry.fills.released and not entry.fills.booked] or possible
    if len(possible) > 1:  # stop and target of one bracket: a fill short of the stop price is the target's
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
    """Whether a stop's fill is at its trigger or beyond, as it nearly always is; True for other orders."""
    return entry.order.type is not OrderType.STOP or (fill.price - entry.price) * fill.side >= 0


def gone(entry: WorkingOrder, ts_ns: int) -> OrderReport:
    """The update for an order that is absent from a complete answer."""
    return OrderReport(
        ts_ns=ts_ns,
        client_order_id=entry.client_order_id,
        server_order_id=entry.server_order_id,
        symbol=entry.order.symbol,
        account=entry.order.account,
        status=OrderStatus.UNKNOWN_TO_SERVER,
        text="not among the server's open orders",
        unsolicited=False,
    )
