"""A small server: an entry, its stop and target that cancel each other, and what it says about them.

Its state is a tuple, and each function returns the state after and the messages that it sends. The stop and target are
held back until the entry fills, then work for what the entry has filled; what fills of one reduces the other; when one
has filled, the other and what is left of the entry are cancelled.
"""

from typing import Final, NamedTuple

SIZE: Final = 2
"""Contracts of each of the three orders."""

ENTRY, STOP, TARGET = ORDERS = (0, 1, 2)
NAMES: Final = ("entry", "stop", "target")
SIDES: Final = (1, -1, -1)

NONE, HELD, PENDING, OPEN, FILLED, CANCELED, REJECTED = "-HPOFCR"
_STATUS_NAMES: Final = {
    NONE: "never received",
    HELD: "held",
    PENDING: "pending",
    OPEN: "open",
    FILLED: "filled",
    CANCELED: "canceled",
    REJECTED: "rejected",
}
ALIVE: Final = frozenset({HELD, PENDING, OPEN})


class Habits(NamedTuple):
    """What a server may do in one way or another.

    Attributes:
        timed: its updates tell when the order changed; else their time is not told.
        renumbers: an order has another number after a replace.
        places: an order is pending first, then open; else it is open at once.
        ids: of executions: 0: the same in updates and in the list of past ones; 1: others in the list; 2: none at all.
    """

    timed: bool
    renumbers: bool
    places: bool
    ids: int

    def __str__(self) -> str:
        times = "times told" if self.timed else "no times told"
        numbers = "a new number with each replace" if self.renumbers else "numbers kept"
        path = "pending, then open" if self.places else "open at once"
        return f"{times}, {numbers}, {path}, {_IDS[self.ids]}"


_IDS: Final = ("execution ids the same in both lists", "other execution ids in the list", "no execution ids")

HABITS: Final = (
    Habits(timed=True, renumbers=False, places=True, ids=0),
    Habits(timed=False, renumbers=True, places=False, ids=1),
    Habits(timed=True, renumbers=True, places=False, ids=2),
    Habits(timed=False, renumbers=False, places=True, ids=2),
)
"""Every value of each habit occurs."""


class ServerOrder(NamedTuple):
    """An order as the server has it.

    Attributes:
        moved: it has been replaced: it has the second of its two prices.
        replaces: how often its number has changed.
        changes: how often it has changed; the time in its updates.
        fills: contracts, `moved` and `replaces` of each execution.
    """

    status: str = NONE
    quantity: int = SIZE
    filled: int = 0
    moved: int = 0
    replaces: int = 0
    changes: int = 0
    fills: tuple[tuple[int, int, int], ...] = ()

    @property
    def text(self) -> str:
        return f"{_STATUS_NAMES[self.status]}, {self.filled} of {self.quantity} filled"


class Server(NamedTuple):
    """The entry, the stop and the target, and the habits."""

    orders: tuple[ServerOrder, ...]
    habits: Habits

    @property
    def entry(self) -> ServerOrder:
        return self.orders[ENTRY]

    @property
    def position(self) -> int:
        return sum(side * one.filled for side, one in zip(SIDES, self.orders, strict=True))


class Update(NamedTuple):
    """One message about one order; also one line in a list of open orders.

    Attributes:
        status: the value of an `OrderStatus`.
        number: the server's number of the order.
        time: `ServerOrder.changes`; 0 where no time is told.
        notional: sum of contracts times `moved` of its fills: with `filled` it tells the average price.
        executed: contracts of the execution told with it; 0: none is.
        execution: its place among the executions of the order.
        price: `moved` of that execution.
    """

    kind: str  # "U", for sorting among all kinds of messages
    order: int
    status: str
    quantity: int
    filled: int
    moved: int
    number: int
    time: int
    notional: int
    executed: int
    execution: int
    price: int


class Past(NamedTuple):
    """One line in the list of past executions."""

    order: int
    execution: int
    quantity: int
    moved: int
    number: int


class Answer(NamedTuple):
    """The complete answer to a query."""

    kind: str  # "A"
    listed: tuple[Update, ...]
    fills: tuple[Past, ...]
    position: int


class Request(NamedTuple):
    """What we send: "N" a new order (entry, or stop and target together), "C" cancel, "R" replace, "Q" query."""

    kind: str
    order: int


Message = Update | Answer | Request
Sent = list[Message]
Move = tuple[str, int, Server, tuple[Message, ...]]
"""What happens at the server, to which order, the state after, and what is sent."""

_LISTED: Final = {HELD: "held", PENDING: "accepted", OPEN: "working"}


def number_of(order: int, replaces: int) -> int:
    """The number that the server gives an order."""
    return 10 * (order + 1) + replaces


def _set(server: Server, order: int, changed: ServerOrder) -> Server:
    return server._replace(orders=(*server.orders[:order], changed, *server.orders[order + 1 :]))


def _say(server: Server, order: int, status: str, sent: Sent, *, executed: int = 0) -> Server:
    """Count the change and send an update."""
    now = server.orders[order]._replace(changes=server.orders[order].changes + 1)
    server = _set(server, order, now)
    sent.append(_update(server, order, status, executed))
    return server


def _update(server: Server, order: int, status: str, executed: int = 0) -> Update:
    one = server.orders[order]
    return Update(
        "U",
        order,
        "partial" if status == "working" and one.filled else status,
        one.quantity,
        one.filled,
        one.moved,
        number_of(order, one.replaces),
        one.changes if server.habits.timed else 0,
        sum(contracts * moved for contracts, moved, _ in one.fills),
        executed,
        len(one.fills),
        one.fills[-1][1] if executed else 0,
    )


def _place(server: Server, order: int, one: ServerOrder, sent: Sent) -> Server:
    """Place an order: it is pending or open."""
    status, told = (PENDING, "accepted") if server.habits.places else (OPEN, "working")
    return _say(_set(server, order, one._replace(status=status)), order, told, sent)


def _end(server: Server, order: int, status: str, sent: Sent) -> Server:
    server = _set(server, order, server.orders[order]._replace(status=status))
    server = _say(server, order, "canceled" if status == CANCELED else "rejected", sent)
    if order == ENTRY and not server.entry.filled:
        for child in (STOP, TARGET):
            if server.orders[child].status in ALIVE:
                server = _end(server, child, CANCELED, sent)
    return server


def receive(server: Server, request: Request) -> tuple[Server, tuple[Message, ...]]:
    """Carry out what we sent."""
    sent: Sent = []
    order, one = request.order, server.orders[request.order]
    match request.kind:
        case "N" if order == ENTRY:
            server = _place(server, ENTRY, one, sent)
        case "N":
            server = _receive_pair(server, sent)
        case "C" if one.status in ALIVE:
            server = _end(server, order, CANCELED, sent)
        case "R" if one.status in {HELD, OPEN}:
            again = one.replaces + server.habits.renumbers
            server = _say(_set(server, order, one._replace(moved=1, replaces=again)), order, "replaced", sent)
        case "C" | "R":
            refused = "cancel_rejected" if request.kind == "C" else "replace_rejected"
            sent.append(_update(server, order, refused))
        case _:
            sent.append(answer(server))
    return server, tuple(sent)


def _receive_pair(server: Server, sent: Sent) -> Server:
    entry = server.entry
    for child in (STOP, TARGET):
        one = ServerOrder()
        if entry.filled:
            server = _place(server, child, one._replace(quantity=entry.filled), sent)
        elif entry.status in ALIVE:
            server = _say(_set(server, child, one._replace(status=HELD)), child, "held", sent)
        else:
            server = _end(_set(server, child, one), child, REJECTED, sent)
    return server


def moves(server: Server) -> list[Move]:
    """Whatever may happen at the server by itself."""
    found: list[Move] = []
    for order in ORDERS:
        one = server.orders[order]
        if one.status == PENDING:
            sent: Sent = []
            after = _say(_set(server, order, one._replace(status=OPEN)), order, "working", sent)
            found.append(("opens", order, after, tuple(sent)))
            sent = []
            found.append(("rejects", order, _end(server, order, REJECTED, sent), tuple(sent)))
        elif one.status == OPEN:
            left = one.quantity - one.filled
            for contracts in {1, left}:
                sent = []
                found.append((f"fills {contracts}", order, _fill(server, order, contracts, sent), tuple(sent)))
            sent = []
            found.append(("cancels by itself", order, _end(server, order, CANCELED, sent), tuple(sent)))
    return found


def _fill(server: Server, order: int, contracts: int, sent: Sent) -> Server:
    one = server.orders[order]
    filled = one.filled + contracts
    whole = filled == one.quantity
    one = one._replace(
        filled=filled,
        status=FILLED if whole else OPEN,
        fills=(*one.fills, (contracts, one.moved, one.replaces)),
    )
    server = _say(_set(server, order, one), order, "filled" if whole else "partial", sent, executed=contracts)
    if order == ENTRY:
        return _grow(server, contracts, sent)
    sibling = STOP + TARGET - order
    other = server.orders[sibling]
    if other.status in {PENDING, OPEN}:
        if whole or other.quantity - contracts <= other.filled:
            server = _end(server, sibling, CANCELED, sent)
        else:
            reduced = other._replace(quantity=other.quantity - contracts)
            server = _say(_set(server, sibling, reduced), sibling, _LISTED[reduced.status], sent)
    if whole and server.entry.status in ALIVE:
        server = _end(server, ENTRY, CANCELED, sent)
    return server


def _grow(server: Server, contracts: int, sent: Sent) -> Server:
    """Stop and target work for what the entry has filled."""
    for child in (STOP, TARGET):
        one = server.orders[child]
        if one.status == HELD:
            server = _place(server, child, one._replace(quantity=contracts), sent)
        elif one.status in {PENDING, OPEN}:
            grown = one._replace(quantity=one.quantity + contracts)
            server = _say(_set(server, child, grown), child, _LISTED[one.status], sent)
    return server


def answer(server: Server) -> Answer:
    """What the server answers to a query now."""
    every = list(enumerate(server.orders))
    return Answer(
        "A",
        tuple(_update(server, order, _LISTED[one.status]) for order, one in every if one.status in ALIVE),
        tuple(
            Past(order, place, contracts, moved, number_of(order, replaces))
            for order, one in every
            for place, (contracts, moved, replaces) in enumerate(one.fills, start=1)
        ),
        server.position,
    )
