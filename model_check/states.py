"""The values that the model is made of: the whole state, what may happen, and what may still happen."""

from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, TypeVar

from model_check.checks import NOT_LIVE, Evidence
from model_check.on_file import PRICES
from model_check.ours import Ours
from model_check.venue import ORDERS

T = TypeVar("T")


class Left(NamedTuple):
    """What may still happen.

    Attributes:
        faults: messages lost or repeated, restarts, lost connections, orders that the server refuses or cancels.
        requests: cancels and replaces by us.
        queries: by us.
    """

    faults: int = 2
    requests: int = 2
    queries: int = 2


class Known(NamedTuple):
    """Our side, and what the server has told of its orders."""

    ours: Ours
    evidence: Evidence


class State(NamedTuple):
    """All by number: see `Model.known`, `Model.servers` and `Model.messages`."""

    known: int
    server: int
    messages: tuple[int, ...]
    left: Left


class Event(NamedTuple):
    """Something that happens on our side; `about` is an order, or the number of a message."""

    what: str
    about: int = 0


class Step(NamedTuple):
    """What happened, the state after, and what is wrong about that; "" if nothing is."""

    what: str
    about: int
    state: State
    wrong: str


class Numbered(Generic[T]):
    """Values by number, each once."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._values: list[T] = []

    def __call__(self, value: T) -> int:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._values)
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> T:
        return self._values[number]

    def __len__(self) -> int:
        return len(self._values)


COSTS: Final = {
    "restart": "faults",
    "disconnect": "faults",
    "cancel": "requests",
    "cancel again": "requests",
    "replace": "requests",
    "ask": "queries",
}


def possible(ours: Ours) -> Iterator[Event]:
    """What we may do."""
    yield Event("restart")
    yield Event("disconnect")
    if not ours.asking:
        yield Event("ask")
    again = False
    for place in ORDERS:
        one = ours.orders[place]
        if one is None or one.state in NOT_LIVE:
            continue
        waits, cancel_pending, cancel_wanted, replace_pending, replace_refused, _, asked_price = one.request
        if waits:
            yield Event("have no answer about", place)
        again |= cancel_wanted and not cancel_pending and bool(one.server_order_id)
        if not cancel_wanted:
            yield Event("cancel", place)
        moved = PRICES[place][1] in {one.price, asked_price}
        if one.server_order_id and not (replace_pending or replace_refused or moved or cancel_wanted):
            yield Event("replace", place)
    if again:
        yield Event("cancel again")
