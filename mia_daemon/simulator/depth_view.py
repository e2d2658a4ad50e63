"""The best levels of a book, for clients that ask for so many and no more (NumLevels of MARKET_DEPTH_REQUEST).

A level that comes among the best is reported as a new one, and a level that is pushed out of them as gone, so that a
client which applies what it receives holds exactly the best levels at the end of each batch.
"""

import bisect
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.tape import DepthEvent, MarketEvent

_LevelState = tuple[int, int]  # quantity, number of orders


class Levels(Protocol):
    """A book to be shown."""

    def depth(self, side: int) -> list[tuple[int, int, int]]:
        """(price, quantity, number of orders) of one side, best first."""


class _Side:
    """One side: all of its levels, and those that clients see."""

    def __init__(self, side: int, levels: list[tuple[int, int, int]], most: int) -> None:
        self._side = side
        self._most = most
        self._book: dict[int, _LevelState] = {price: (quantity, orders) for price, quantity, orders in levels}
        self._ranks = [-side * price for price, _, _ in levels]  # ascending from the best
        self._seen = {price: self._book[price] for price, _, _ in levels[:most]}
        self._touched: dict[int, None] = {}  # visible prices with another quantity
        self._moved = False  # other levels are the best

    def apply(self, event: DepthEvent) -> None:
        price, rank = event.price, -self._side * event.price
        known = price in self._book
        if event.quantity:
            self._book[price] = (event.quantity, event.orders)
            if known:
                if price in self._seen:
                    self._touched[price] = None
                return
        elif known:
            del self._book[price]
        else:
            return
        place = bisect.bisect_left(self._ranks, rank)
        if known:
            del self._ranks[place]
        else:
            self._ranks.insert(place, rank)
        self._moved |= place < self._most

    def changes(self, ts_ns: int) -> list[DepthEvent]:
        """What clients have to be sent since the last call, levels that are gone first."""
        if not self._moved and not self._touched:
            return []
        before, book, side = self._seen, self._book, self._side
        gone: list[DepthEvent] = []
        looked_at: Iterable[int] = self._touched
        if self._moved:
            looked_at = [-side * rank for rank in self._ranks[: self._most]]
            self._seen = {price: book[price] for price in looked_at}
            gone = [
                DepthEvent(ts_ns, side, price, 0, 0, is_new=False, final=False)
                for price in before
                if price not in self._seen
            ]
        changed = [
            DepthEvent(ts_ns, side, price, *book[price], is_new=price not in before, final=False)
            for price in looked_at
            if before.get(price) != book[price]
        ]
        if not self._moved:
            before.update((event.price, (event.quantity, event.orders)) for event in changed)
        self._touched, self._moved = {}, False
        return gone + changed


class DepthView:
    """A book's best levels, followed from event to event.

    Args:
        book: as it is now.
        levels: on each side, at least 1.
    """

    def __init__(self, book: Levels, levels: int) -> None:
        self._sides = {side: _Side(side, book.depth(side), levels) for side in (BUY, SELL)}

    def follow(self, events: list[MarketEvent]) -> list[MarketEvent]:
        """The market's events, with changes of the best levels in place of those of all."""
        out: list[MarketEvent] = []
        for event in events:
            if type(event) is not DepthEvent:
                out.append(event)
                continue
            self._sides[event.side].apply(event)
            if event.final:
                changes = [change for side in self._sides.values() for change in side.changes(event.ts_ns)]
                if changes:
                    changes[-1] = changes[-1]._replace(final=True)
                    out += changes
        return out


class DepthViews:
    """Views of one book, by their number of levels: clients that ask for equally many share one."""

    def __init__(self, book: Levels) -> None:
        self._book = book
        self._views: dict[int, DepthView] = {}

    def open(self, levels: int) -> None:
        """From now on `follow` can be asked for so many levels."""
        if levels not in self._views:
            self._views[levels] = DepthView(self._book, levels)

    def follow(self, events: list[MarketEvent], wanted: Collection[int]) -> Mapping[int | None, list[MarketEvent]]:
        """The events as each of the wanted numbers of levels shows them; views that nobody wants are given up.

        To be called with all that happens, in order.
        """
        self._views = {levels: view for levels, view in self._views.items() if levels in wanted}
        return {levels: view.follow(events) for levels, view in self._views.items()}
