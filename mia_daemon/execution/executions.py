"""Which contracts of an order are booked when an execution is reported, each contract once.

A server reports an execution twice: with an update of its order, and in the list of past executions. The two lists may
number the same execution differently, or not at all, and ids may be unique within an order only. So an execution is
recognised within its own source (order, id, quantity, price; the cumulative filled quantity where it is told), and an
order has filled the larger of what the two sources say: never more than the filled quantity that the server reports,
and never more than the order's size. In doubt nothing is booked: the list of past executions is asked for what is
missing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from mia_daemon.records import Fill, FillSource


class Execution(NamedTuple):
    """A booked execution."""

    execution_id: str
    quantity: int
    price: float
    source: FillSource


@dataclass(slots=True)
class OrderFills:
    """The filled quantity of an order.

    Attributes:
        booked: contracts of the fills applied.
        reported: cumulative filled quantity that the server has reported; more than `booked` while a fill is missing.
        average: average price of the contracts reported, points; 0 where the server tells none.
        executions: the fills applied, oldest first.
        released: its stop or target works or has filled, so this entry has filled, whatever was reported.
        missing_since_ns: our time since when a fill is missing; 0 while none is.
        snapshots: complete answers of the server since then.
    """

    booked: int = 0
    reported: int = 0
    average: float = 0.0
    executions: list[Execution] = field(default_factory=list)
    released: bool = False
    missing_since_ns: int = 0
    snapshots: int = 0
    _seen: set[tuple[str, int, float, int]] = field(default_factory=set)  # executions told with updates
    _told: int = 0  # contracts of these
    _unconfirmed: dict[tuple[int, float], list[int]] = field(default_factory=dict)  # booked of what an update may tell
    _on_file: set[str] = field(default_factory=set)  # ids of executions booked by an earlier run

    @classmethod
    def restored(cls, fills: Iterable[Fill], reported: int) -> Self:
        """From the fills in the journal and the filled quantity last reported."""
        restored = cls(reported=reported)
        for fill in fills:
            restored.add(fill)
            restored._on_file.add(fill.execution_id)
            if fill.source is FillSource.UPDATE:
                restored._told += fill.quantity
            if fill.source is FillSource.HISTORY or fill.execution_id.startswith(_nameless(fill)):
                restored._await_update(fill, fill.quantity)
        return restored

    @property
    def missing(self) -> int:
        """Contracts reported as filled and not booked."""
        return max(self.reported - self.booked, 0)

    def add(self, fill: Fill) -> None:
        """Count a fill that was applied."""
        self.booked += fill.quantity
        self.reported = max(self.reported, self.booked)
        if not self.missing:
            self.missing_since_ns = self.snapshots = 0
        self.executions.append(Execution(fill.execution_id, fill.quantity, fill.price, fill.source))

    def _await_update(self, fill: Fill, booked: int) -> None:
        """An update may yet tell an execution of which `booked` contracts are booked."""
        self._unconfirmed.setdefault((fill.quantity, fill.price), []).append(booked)

    def from_update(self, fill: Fill, size: int) -> Fill | None:
        """The part of an execution told with an update that is to be booked now, with an id that is unique within the
        order; None when its contracts are booked already.

        Args:
            fill: the execution.
            size: contracts of the order.
        """
        self.reported = max(self.reported, min(fill.filled, size))
        key = (fill.execution_id, fill.quantity, fill.price, fill.filled)
        if key in self._seen or self._may_be_on_file(fill):
            return None
        self._seen.add(key)
        self._told += fill.quantity
        unconfirmed = self._unconfirmed.get((fill.quantity, fill.price))
        new = fill.quantity - (unconfirmed.pop() if unconfirmed else 0)
        limit = min(max(fill.filled, self._told), self.reported if fill.filled else size, size)
        return self._part(fill, min(limit - self.booked, new))

    def _may_be_on_file(self, fill: Fill) -> bool:
        """Whether an earlier run may have booked it; then the list of past executions tells whether it is another."""
        nothing_told = not (fill.execution_id or fill.filled)
        return fill.execution_id in self._on_file or (nothing_told and bool(self._on_file))

    def from_history(self, listed: Iterable[Fill], limit: int) -> Iterator[Fill]:
        """What is to be booked of the order's executions in a list of past ones. Apply each before taking the next.

        Args:
            listed: all of the order's executions since it was sent, oldest first.
            limit: contracts that the order can have filled.
        """
        every = _distinct(listed)
        missing = min(sum(fill.quantity for fill in every), limit) - self.booked
        named = {(fill.execution_id, fill.quantity, fill.price) for fill in every if fill.execution_id}
        ours = [(one.execution_id, one.quantity, one.price) for one in self.executions]
        known = Counter(one[1:] for one in ours if one not in named)  # under another id, or none
        for fill in every:
            if (fill.execution_id, fill.quantity, fill.price) in ours:
                continue
            if known[fill.quantity, fill.price] > 0:
                known[fill.quantity, fill.price] -= 1
            elif (part := self._part(fill, missing)) is not None:
                missing -= part.quantity
                before = self.booked
                yield part
                if self.booked > before:
                    self._await_update(fill, part.quantity)

    def at_average(self, fill: Fill) -> Fill:
        """A fill of all that is missing, for `fill.price` where the average price reported gives none.

        The price is the one at which the average of all contracts is the average that the server reports.
        """
        paid = sum(one.quantity * one.price for one in self.executions)
        price = (self.average * self.reported - paid) / self.missing if self.average else fill.price
        if self.average and abs(price - self.average) > 0.1 * abs(self.average):
            price = self.average  # the average does not fit the executions that are known
        part = self._part(replace(fill, price=price, quantity=self.missing), self.missing)
        assert part is not None
        return part

    def _part(self, fill: Fill, at_most: int) -> Fill | None:
        if at_most <= 0:
            return None
        taken = {one.execution_id for one in self.executions}
        name = first = fill.execution_id or f"{_nameless(fill)}{len(self.executions) + 1}"
        number = 1
        while name in taken:
            number += 1
            name = f"{first}~{number}"
        return replace(fill, execution_id=name, quantity=min(fill.quantity, at_most))


def _nameless(fill: Fill) -> str:
    """How the id begins that is given to an execution without one."""
    return f"{fill.source}-"


def _distinct(listed: Iterable[Fill]) -> list[Fill]:
    """Without executions listed twice under one id; those without an id are as many as are listed."""
    seen: set[tuple[str, int, float]] = set()
    every = []
    for fill in listed:
        key = (fill.execution_id, fill.quantity, fill.price)
        if not fill.execution_id or key not in seen:
            every.append(fill)
        seen.add(key)
    return every
