"""Compares our orders and position with the server's snapshot. Returns findings; changes nothing.

Where the server's answer is complete, absence is evidence too: an order of ours that is neither open nor among the
fills is done. There are limits to that:

- The answer proves nothing about an order that changed after the query was sent, nor about one that may be among the
  open orders without its name.
- Fills are identified by the server's order number. It is not known for an order whose first answer was lost, and may
  have changed with a replace whose answer was lost. Such a fill is given to the one order it can belong to, and to
  none when there are several.
- Position, orders and fills are three answers, and we go on meanwhile: a position is ours if it is one that we have had
  since the query, with or without the fills found. A drift counts only when a second snapshot confirms it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from mia_daemon.clock import NS_PER_S
from mia_daemon.execution.order_states import OrderState
from mia_daemon.execution.working_order import WorkingOrder
from mia_daemon.execution.working_orders import WorkingOrders
from mia_daemon.records import BrokerSnapshot, Fill, OrderReport, OrderStatus, OrderType, PositionReport

Report = OrderReport | Fill | PositionReport

TIME_SLACK_NS = 5 * NS_PER_S
"""A fill may appear older than its order by this much: servers state fill times in whole seconds of their own clock."""


@dataclass(frozen=True, slots=True)
class ServerPosition:
    """The server's position, compared with ours.

    Attributes:
        quantity: contracts, signed; None where the server does not tell it.
        average_price: 0 where the server reports none, or several.
        drift: the server's position less ours; 0 when the fills found, or those since the query, explain it.
    """

    quantity: int | None
    average_price: float
    drift: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What brings our state into agreement with the server's. Apply the executions before the updates.

    Attributes:
        executions: by client order id, the executions that the server lists of an order of ours; booked or not.
        updates: open orders as listed, and UNKNOWN_TO_SERVER for those that are absent.
        guessed: client order ids of those whose executions were found by side, price, time and quantity, not by number.
        external_orders: open orders that are not ours. They are reported, not touched.
        external_fills: executions in our account and symbol that could be attributed to no order of ours.
        ambiguous: client order ids of those that are not open and may or may not have filled.
        unresolved: client order ids about which this answer proves nothing.
        position: the server's.
    """

    executions: Mapping[str, Sequence[Fill]]
    updates: tuple[OrderReport, ...]
    guessed: frozenset[str]
    external_orders: tuple[OrderReport, ...]
    external_fills: tuple[Fill, ...]
    ambiguous: tuple[str, ...]
    unresolved: tuple[str, ...]
    position: ServerPosition


@dataclass(frozen=True, slots=True)
class Asked:
    """What was known when the server was asked, and what has happened since.

    Attributes:
        version: `WorkingOrders.version` when the query was sent.
        named_since_ns: our time: an order sent later and not acknowledged may be too new to be listed.
        positions: our position then, and after each fill since.
    """

    version: int
    named_since_ns: int
    positions: Sequence[int]


Listed = Sequence[tuple[WorkingOrder | None, OrderReport]]
"""The orders that the server lists as open, each with ours that it is; None where it is none of ours."""


def reconcile(
    orders: WorkingOrders, snapshot: BrokerSnapshot, known: Listed, asked: Asked, covers: Callable[[Report], bool]
) -> Reconciliation:
    """Compare our orders and position with the server's answer.

    Args:
        orders: ours; not changed.
        snapshot: the server's answer.
        known: its open orders, identified.
        asked: what was known when it was asked for.
        covers: whether a report is about our account and symbol; executions and positions of others are ignored.
    """
    as_of = asked.version
    open_names = {entry.client_order_id for entry, _ in known if entry is not None}
    nobodys = [update for entry, update in known if entry is None]
    missing = [entry for entry in orders if entry.client_order_id not in open_names and entry.history.version <= as_of]
    maybe = {
        entry.client_order_id
        for entry in missing
        if any(_may_be(entry, update) for update in nobodys)
        or not (entry.acknowledged or entry.history.sent_at_ns <= asked.named_since_ns)
    }
    absent = [entry for entry in missing if entry.client_order_id not in maybe]

    reported = [fill for fill in snapshot.fills or () if covers(fill)]
    numbers = {update.server_order_id: entry for entry, update in known if entry is not None}
    executions, nameless = _by_order(orders, reported, numbers)
    short = [(entry, update.filled - entry.fills.booked) for entry, update in known if entry is not None]
    new = {name: _quantity(fills) - _booked(orders, name) for name, fills in executions.items()}
    guessed, external, ambiguous = _attribute(nameless, missing, short, new)
    ambiguous -= maybe
    for name, fills in guessed.items():
        executions.setdefault(name, []).extend(fills)
        new[name] = new.get(name, -_booked(orders, name)) + _quantity(fills)
    found = sum(
        fills[0].side * min(max(new[name], 0), _open(orders, name)) for name, fills in executions.items() if fills
    )
    position = _compare_position(snapshot, asked.positions, found, covers)
    if position.drift and _signed(external) != position.drift:  # no execution explains it: an absent order may
        ambiguous |= {entry.client_order_id for entry in absent if explains(entry, position.drift)}
    updates = [update for entry, update in known if entry is not None and entry.history.version <= as_of]
    updates += [gone(entry, snapshot.ts_ns) for entry in absent if entry.client_order_id not in ambiguous]
    return Reconciliation(
        executions=executions,
        updates=tuple(updates),
        guessed=frozenset(guessed),
        external_orders=tuple(nobodys),
        external_fills=tuple(external),
        ambiguous=tuple(sorted(ambiguous)),
        unresolved=tuple(
            entry.client_order_id
            for entry in orders
            if entry.client_order_id in ambiguous | maybe
            or (entry.history.version > as_of and entry.state is OrderState.UNKNOWN)
        ),
        position=position,
    )


def explains(entry: WorkingOrder, drift: int) -> bool:
    """Whether an order that is not open any more would explain a drift by having filled."""
    return entry.order.side * drift > 0 and abs(drift) <= entry.size - entry.fills.booked


def _signed(fills: Iterable[Fill]) -> int:
    return sum(fill.side * fill.quantity for fill in fills)


def _compare_position(
    snapshot: BrokerSnapshot, positions: Sequence[int], found: int, covers: Callable[[Report], bool]
) -> ServerPosition:
    """The answer may be from before or after each of our fills since the query, and those that it lists."""
    held = None if snapshot.positions is None else [one for one in snapshot.positions if covers(one)]
    if held is None or any(one.quantity is None for one in held):
        return ServerPosition(None, 0.0, 0)
    quantity = sum(one.quantity or 0 for one in held)
    possible = {*positions[:-1], *(ours + found for ours in positions)}
    drift = 0 if quantity in possible else quantity - (positions[-1] + found)
    return ServerPosition(quantity, held[0].average_price if len(held) == 1 else 0.0, drift)


def _may_be(entry: WorkingOrder, update: OrderReport) -> bool:
    """Whether an open order that was not identified may be this one of ours: then it is not proven absent."""
    if update.client_order_id and not entry.client_order_id.casefold().startswith(update.client_order_id.casefold()):
        return False
    order, prices = entry.order, (entry.price, entry.request.asked_price)
    same = update.side is order.side and update.type is order.type and update.quantity == entry.quantity
    return same and (not update.price or update.price in prices)


def _booked(orders: WorkingOrders, name: str) -> int:
    entry = orders.get(name)
    return entry.fills.booked if entry is not None else 0


def _open(orders: WorkingOrders, name: str) -> int:
    entry = orders.get(name)
    return entry.size - entry.fills.booked if entry is not None else 0


def _by_order(
    orders: WorkingOrders, reported: Iterable[Fill], listed: dict[str, WorkingOrder]
) -> tuple[dict[str, list[Fill]], list[Fill]]:
    """The executions of each of our orders; and those whose order is not known."""
    ours: dict[str, list[Fill]] = {}
    nameless: list[Fill] = []
    for fill in reported:
        entry = orders.find(fill.client_order_id, fill.server_order_id) or listed.get(fill.server_order_id)
        if entry is None or not entry.may_fill(fill.side) or _is_after_its_end(entry, fill):
            nameless.append(fill)
        else:
            ours.setdefault(entry.client_order_id, []).append(fill)
    return ours, nameless


def _is_after_its_end(entry: WorkingOrder, fill: Fill) -> bool:
    """Whether an execution is later than the end of its order: the server has given the number to another one."""
    ended_ns = entry.history.updated_ns if entry.done else 0
    if any((one.quantity, one.price) == (fill.quantity, fill.price) for one in entry.fills.executions):
        return False  # it is booked there already
    return bool(ended_ns) and fill.ts_ns > ended_ns + TIME_SLACK_NS


def _attribute(
    nameless: Iterable[Fill],
    missing: Sequence[WorkingOrder],
    short: Sequence[tuple[WorkingOrder, int]],
    new: Mapping[str, int],
) -> tuple[dict[str, list[Fill]], list[Fill], set[str]]:
    """Attribute fills with an unknown server order number to the orders they can only belong to.

    Args:
        nameless: fills whose order is not known.
        missing: our orders that are not listed as open, acknowledged or not.
        short: our open orders, each with the contracts that the server lists as filled beyond those applied.
        new: by client order id, contracts attributed already; they reduce what their orders can still have filled.

    Returns:
        The fills by client order id, those that belong to no order of ours, and the client order ids of orders
        that may or may not have filled.
    """
    capacity = {entry.client_order_id: entry.open_quantity for entry in missing}
    capacity |= {entry.client_order_id: lacks for entry, lacks in short}
    for name, quantity in new.items():
        if name in capacity:
            capacity[name] -= max(quantity, 0)
    # A bracket's quantity grows with its parent's fills, and an update of that may be lost.
    grown = capacity | {one.client_order_id: capacity[one.client_order_id] + one.size - one.quantity for one in missing}
    candidates = [
        entry
        for entry in (*missing, *(entry for entry, _ in short))
        if entry.live
        and capacity[entry.client_order_id] > 0
        and (not entry.server_order_id or entry.request.asked_price)
    ]
    by_number: dict[str, list[Fill]] = {}
    for fill in nameless:
        by_number.setdefault(fill.server_order_id, []).append(fill)
    given: dict[str, list[Fill]] = {}
    external: list[Fill] = []
    ambiguous: set[str] = set()
    alike: dict[tuple[str, ...], list[list[Fill]]] = {}  # groups of fills, by the orders they may all belong to
    for _, fills in sorted(by_number.items(), key=lambda item: (len(item[0]), item[0])):
        possible = _possible(fills, candidates, capacity) or _possible(fills, candidates, grown)
        if len(possible) == 1:
            candidates.remove(possible[0])
            given[possible[0].client_order_id] = fills
        elif possible:
            alike.setdefault(tuple(entry.client_order_id for entry in possible), []).append(fills)
        else:
            external += fills
    for names, groups in alike.items():
        left = [entry for entry in candidates if entry.client_order_id in names]
        if [capacity[entry.client_order_id] for entry in left] == [_quantity(fills) for fills in groups]:
            # All have filled completely; server order numbers rise in the order of sending: pair them in order.
            given |= {entry.client_order_id: fills for entry, fills in zip(left, groups, strict=True)}
        else:
            external += chain.from_iterable(groups)
            ambiguous.update(entry.client_order_id for entry in left if entry in missing)
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
    # A fill short of a stop's price is the target's of the bracket, or that of an order by hand: not the stop's.
    return [entry for entry in possible if all(_triggered(entry, fill) for fill in fills)]


def _quantity(fills: Iterable[Fill]) -> int:
    return sum(fill.quantity for fill in fills)


def _fits(entry: WorkingOrder, fill: Fill) -> bool:
    order = entry.order
    limits = (entry.price, entry.request.asked_price or entry.price)
    within_limit = order.type is not OrderType.LIMIT or any((fill.price - limit) * order.side <= 0 for limit in limits)
    in_time = not fill.ts_ns or fill.ts_ns >= entry.history.sent_ns - TIME_SLACK_NS
    return fill.side is order.side and within_limit and in_time


def _triggered(entry: WorkingOrder, fill: Fill) -> bool:
    """Whether a stop's fill is at its trigger or beyond, as it nearly always is; True for other orders."""
    triggers = (entry.price, entry.request.asked_price or entry.price)
    return entry.order.type is not OrderType.STOP or any((fill.price - price) * fill.side >= 0 for price in triggers)


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
