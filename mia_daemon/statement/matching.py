"""Which execution in the journal is which in the statement: by identifiers first, then by order and values."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import Fill
from mia_daemon.statement.activity_log import StatementFill

ANY_ZONE_NS: Final = 26 * 3600 * NS_PER_S
"""Further apart than time zones can be: another execution, whatever else agrees. Servers use numbers again."""

MAX_APART_NS: Final = 600 * NS_PER_S
"""Executions without an identifier in common are the same one only if they are no further apart in time."""


@dataclass(frozen=True, slots=True)
class Stated:
    """An execution of the statement, as the journal would have it.

    Attributes:
        number: rises with the statement's time, also between rows of the same time.
        row: as written.
        fill: with our spelling of symbol and account, the price of the market, and as `client_order_id` the order's
            name in the journal; "" where none of its identifiers is one of an order of ours.
    """

    number: int
    row: StatementFill
    fill: Fill


@dataclass(frozen=True, slots=True)
class Pair:
    """An execution on both sides, or on one: the other is None then."""

    journal: Fill | None
    stated: Stated | None

    @property
    def times_ns(self) -> tuple[int, ...]:
        """The journal's and the statement's."""
        fills = (self.journal, self.stated.fill if self.stated else None)
        return tuple(fill.ts_ns for fill in fills if fill is not None)

    @property
    def ts_ns(self) -> int:
        """The journal's time where it has one, so that both sides count for the same day."""
        return self.times_ns[0]


def match(journal: Iterable[Fill], stated: Iterable[Stated], tolerance: float) -> list[Pair]:
    """Pair the executions of one symbol and account; each is in exactly one pair, the oldest pair first.

    Args:
        journal: in the order of time.
        stated: in the order of time.
        tolerance: prices no further apart are equal, points.
    """
    sides = _Sides(list(journal), list(stated))

    def values(fill: Fill) -> Hashable:
        return fill.side, fill.quantity, round(fill.price / tolerance / 4)

    def order(fill: Fill) -> Hashable:
        return fill.client_order_id or fill.server_order_id or None

    def identifier(fill: Fill) -> Hashable:
        # The journal puts the order before an identifier, or a number behind it, that is not unique by itself.
        return fill.execution_id.rpartition("/")[2].partition("~")[0] or None

    # An identifier alone may be unique within an order only, so what agrees in more comes first.
    sides.pair(_both(identifier, order, values))
    sides.pair(_both(identifier, order))
    sides.pair(_both(identifier, values))
    sides.pair(_both(order, values))
    sides.pair(identifier, only_unique=True)
    sides.pair(values, within_ns=MAX_APART_NS)
    sides.pair(_both(order, lambda fill: fill.side))
    sides.pair(order)
    return sides.pairs()


_Key = Callable[[Fill], Hashable]


def _both(*keys: _Key) -> _Key:
    """What agrees in all of these; None, which pairs with nothing, where one of them is None."""

    def key(fill: Fill) -> Hashable:
        values = tuple(one(fill) for one in keys)
        return None if None in values else values

    return key


class _Sides:
    """What is not paired yet, and the pairs found."""

    def __init__(self, journal: list[Fill], stated: list[Stated]) -> None:
        self._journal = journal
        self._stated = stated
        self._pairs: list[Pair] = []

    def pair(self, key: _Key, *, only_unique: bool = False, within_ns: int = ANY_ZONE_NS) -> None:
        """Pair what has the same key, in the order of time.

        Args:
            key: of an execution; None pairs with nothing.
            only_unique: only where one execution of each side has the key.
            within_ns: only where they are no further apart.
        """
        waiting: dict[Hashable, list[Fill]] = defaultdict(list)
        for fill in self._journal:
            waiting[key(fill)].append(fill)
        rivals: dict[Hashable, int] = defaultdict(int)
        for one in self._stated:
            rivals[key(one.fill)] += 1
        left: list[Stated] = []
        for one in self._stated:
            name = key(one.fill)
            candidates = waiting.get(name, []) if name is not None else []
            near = [fill for fill in candidates if abs(fill.ts_ns - one.fill.ts_ns) <= within_ns]
            if not near or (only_unique and (len(near) > 1 or rivals[name] > 1)):
                left.append(one)
                continue
            found = near[0]
            candidates.remove(found)
            self._pairs.append(Pair(found, one))
        self._stated = left
        self._journal = [fill for fills in waiting.values() for fill in fills]
        self._journal.sort(key=lambda fill: fill.ts_ns)

    def pairs(self) -> list[Pair]:
        """The pairs found, and what is on one side only."""
        alone = [Pair(fill, None) for fill in self._journal] + [Pair(None, one) for one in self._stated]
        return sorted(self._pairs + alone, key=lambda pair: pair.ts_ns)
