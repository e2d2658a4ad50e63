"""A recorded market instead of a seeded one: what clients are shown is the record, their orders are matched against it.

What is assumed, and when that flatters:

- The record does not react. An order of a client rests in the book behind what the record shows there, and what it
  takes is missing until the record next tells of that level (flatters large orders).
- A marketable order fills against the levels that the record shows, at their prices. Without a depth record the touch
  is all there is, and deep enough for anything (flatters large orders).
- A resting order fills whole, at its own price, once the record trades through it or quotes the other side at it. At
  its price it fills when all that was before it has traded; what leaves a level without a trade leaves from behind it
  while there is something behind it (pessimistic). Without a depth record nobody knows who is before it: then only the
  former fills it.
- A stop triggers on a trade of the record at its price, and fills as a marketable order does (flatters in fast markets
  without a depth record: the touch it meets is that of the trade before).
"""

from collections.abc import Iterator
from typing import NamedTuple

from mia_daemon.errors import StartError
from mia_daemon.records import EventArray, EventFlag, EventKind, Regime
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_book import BUY, SELL, Level, Resting
from mia_daemon.simulator.tape import DepthEvent, MarketEvent, QuoteEvent, SessionEvent, TradeEvent

SKEW_NS = 10_000_000
"""By how much the record's trades and depth may disagree in time: what a trade takes is told before it or after it."""

ENDLESS = 1_000_000
"""Contracts at a touch of unknown size: more than any order."""

LONGEST_PAUSE_NS = 300 * 1_000_000_000
"""Exchange time steps over a longer silence of the record: a halt, a weekend, a day that was not recorded."""

_FIRST, _LAST = int(EventFlag.FIRST_SUBTRADE), int(EventFlag.LAST_SUBTRADE)  # as numbers: ten times as fast
_CLEAR, _BATCH_END = int(EventFlag.CLEAR), int(EventFlag.BATCH_END)

Touch = tuple[int | None, int, int | None, int]


class PlayedRecording(NamedTuple):
    """What is played.

    Attributes:
        name: of the file, to know it again after a restart.
        begin_ns: of its first event.
        batches: MARKET_EVENT arrays in order of time; not empty.
        has_depth: they tell of the book, not of trades alone.
    """

    name: str
    begin_ns: int
    batches: Iterator[EventArray]
    has_depth: bool


class _Row(NamedTuple):
    """A MARKET_EVENT as Python values: prices in ticks, None where unknown."""

    ts_ns: int
    kind: int
    side: int
    flags: int
    orders: int
    price: int | None
    bid: int | None
    ask: int | None
    size: int


class PlayedMarket:
    """A recording on the engine's book; the calls are those of `market.Market`.

    Args:
        engine: whose book it is; client orders of an earlier run rest there already.
        recording: what is played.
        tick: size of a tick.
        start_ns: what is older has been played before and only tells how the book stands; None: all is new.

    Attributes:
        ended: all of it has been played.

    Raises:
        StartError: there is nothing in the recording after `start_ns`.
    """

    def __init__(
        self, engine: MatchingEngine, hours: TradingHours, recording: PlayedRecording, tick: float, start_ns: int | None
    ) -> None:
        self.ended = False
        self.has_depth = recording.has_depth
        self._engine = engine
        self._book = engine.book
        self._hours = hours
        self._rows = _rows(recording.batches, 1.0 / tick)
        self._levels: dict[int, dict[int, tuple[int, int]]] = {BUY: {}, SELL: {}}  # price → (quantity, orders)
        self._changed: dict[tuple[int, int], None] = {}  # (side, price) not yet in the engine's book, oldest first
        self._skew: dict[tuple[int, int], tuple[int, int]] = {}  # level → (time, contracts gone less those traded)
        self._told: dict[tuple[int, int], tuple[int, int]] = {}  # as clients know it
        self._quote: Touch = (None, 0, None, 0)
        first = self._find(start_ns)
        if first is None:
            raise StartError(
                f"nothing in {recording.name} is left to play: name another --state directory to begin anew"
            )
        self._next = first
        engine.now_ns = first.ts_ns if start_ns is None else max(start_ns, 0)
        self._settle_book()
        self._tell([])

    def _find(self, start_ns: int | None) -> "_Row | None":
        """The first row to be played; what lies before it is in the book already."""
        for row in self._rows:
            if start_ns is None or row.ts_ns >= start_ns:
                return row
            self._note(row)
            if row.kind == EventKind.TRADE and row.price is not None:
                self._engine.last_price = row.price
        return None

    @property
    def now_ns(self) -> int:
        return self._engine.now_ns

    @property
    def regime(self) -> Regime:
        """Nobody knows a recorded market's."""
        return Regime.RANGE

    @property
    def next_ns(self) -> int:
        """When the next of the record falls due."""
        return self._next.ts_ns

    def add(self, ts_ns: int, duration_ns: int) -> int:
        """The moment `duration_ns` after `ts_ns`; a long silence of the record counts as no time."""
        return self._next.ts_ns if self._next.ts_ns - ts_ns > LONGEST_PAUSE_NS else ts_ns + duration_ns

    def advance(self, until_ns: int, max_events: int | None = None) -> list[MarketEvent]:
        """Play up to and including `until_ns`; what happened, in order of time.

        It stops early, at the time of its last event, once it has `max_events`.
        """
        out: list[MarketEvent] = []
        engine = self._engine
        while not self.ended and self._next.ts_ns <= until_ns:
            if max_events is not None and len(out) >= max_events:
                return out
            row = self._next
            before, engine.now_ns = engine.now_ns, max(engine.now_ns, row.ts_ns)
            self._enter_session(before, out)
            self._play(row, out)
            following = next(self._rows, None)
            self.ended = following is None
            self._next = following or row
        engine.now_ns = max(engine.now_ns, until_ns)
        return out

    def collect(self) -> list[MarketEvent]:
        """What client orders did to the market just now."""
        out: list[MarketEvent] = []
        self._tell(out)
        return out

    def touch(self) -> Touch:
        """(best bid, its quantity, best ask, its quantity); None and 0 where unknown."""
        bid, bid_quantity, ask, ask_quantity = self._book.touch()
        return (bid, bid_quantity, ask, ask_quantity) if self.has_depth else (bid, 0, ask, 0)

    def depth(self, side: int) -> list[tuple[int, int, int]]:
        """(price, quantity, number of orders) of one side, best first; empty without a depth record."""
        if not self.has_depth:
            return []
        return [(price, *self._shown(side, price)) for price, _, _ in self._book.depth(side)]

    # -------------------------------------------------------------------------------------------------------- playing

    def _enter_session(self, before_ns: int, out: list[MarketEvent]) -> None:
        now = self._engine.now_ns
        if self._hours.enter(now) == now and before_ns < self._hours.open_ns:
            self._engine.expire_day_orders()
            out.append(SessionEvent(now))

    def _play(self, row: _Row, out: list[MarketEvent]) -> None:
        self._note(row)
        if row.kind == EventKind.DEPTH:
            if row.flags & _BATCH_END:
                self._settle_book()
                self._tell(out)
        elif row.kind == EventKind.TRADE and row.price is not None:
            self._settle_book()  # the touch that the trade met
            self._tell(out)
            self._trade(row, row.price, out)
        elif row.kind == EventKind.QUOTE:
            self._settle_book()
            self._tell(out)

    def _note(self, row: _Row) -> None:
        """What the record says of the book; the engine's follows with `_settle_book`."""
        if row.kind == EventKind.DEPTH:
            if row.flags & _CLEAR:
                for side, levels in self._levels.items():
                    self._changed.update(dict.fromkeys((side, price) for price in levels))
                    levels.clear()
            elif row.price is not None:
                self._set(row.side, row.price, row.size, row.orders)
        elif not self.has_depth:
            self._note_touch(BUY, row.bid)
            self._note_touch(SELL, row.ask)

    def _note_touch(self, side: int, price: int | None) -> None:
        if price is None:
            return
        for other in [p for p in self._levels[side] if p != price]:
            self._set(side, other, 0, 0)
        self._set(side, price, ENDLESS, 0)

    def _set(self, side: int, price: int, quantity: int, orders: int) -> None:
        self._gone(side, price, max(self._levels[side].get(price, (0, 0))[0] - quantity, 0))
        if quantity:
            self._levels[side][price] = (quantity, orders)
        else:
            self._levels[side].pop(price, None)
        self._changed[side, price] = None

    def _gone(self, side: int, price: int, quantity: int) -> int:
        """Count contracts gone from a level, or traded there (negative); how many were gone without a trade before."""
        now = self._engine.now_ns
        since_ns, before = self._skew.get((side, price), (0, 0))
        before = before if now - since_ns <= SKEW_NS else 0
        self._skew[side, price] = (now, before + quantity)
        return max(before, 0)

    def _trade(self, row: _Row, price: int, out: list[MarketEvent]) -> None:
        """Show the trade; client orders take part in it unseen, what they do then is seen."""
        engine = self._engine
        marker = 1 if row.flags & _FIRST else 2 if row.flags & _LAST else 0
        if row.size:
            out.append(TradeEvent(engine.now_ns, price, row.size, row.side, marker))
        if self.has_depth:
            told = self._gone(-row.side, price, -row.size)
            engine.traded(row.side, price, max(row.size - told, 0))
        else:
            engine.traded(0, price, row.size)
        self._changed[-row.side, price] = None  # how much rests there is the record's to say, not the trade's
        self._settle_book()
        self._tell(out)

    # ------------------------------------------------------------------------------------------------------- the book

    def _settle_book(self) -> None:
        """Bring the engine's background orders to what the record says; client orders that are met fill."""
        for side, price in self._changed:
            if side:
                self._settle_level(side, price)
        self._changed.clear()

    def _settle_level(self, side: int, price: int) -> None:
        target, _ = self._levels[side].get(price, (0, 0))
        if target:
            self._engine.quoted(side, price)
        background = [order for order in self._at(side, price).orders.values() if type(order) is Resting]
        missing = target - sum(order.remaining for order in background)
        if missing > 0:
            self._engine.rest(side, price, missing)
        for order in reversed(background):
            if missing >= 0:
                break
            if order.remaining + missing > 0:
                self._book.reduce(order, -missing)
                break
            missing += order.remaining
            self._book.remove(order)

    def _at(self, side: int, price: int) -> Level:
        return (self._book.bids if side == BUY else self._book.asks).get(price) or Level()

    def _shown(self, side: int, price: int) -> tuple[int, int]:
        """(quantity, orders) of a level with the client orders there."""
        level = self._at(side, price)
        clients = sum(type(order) is not Resting for order in level.orders.values())
        recorded = self._levels[side].get(price, (0, 0))[1]
        return level.quantity, clients + (recorded if len(level.orders) > clients else 0)

    def _tell(self, out: list[MarketEvent]) -> None:
        engine, book = self._engine, self._book
        now = engine.now_ns
        out.extend(TradeEvent(now, *trade) for trade in engine.trades)
        engine.trades.clear()
        changed = list(dict.fromkeys(change[:2] for change in book.changes))
        book.changes.clear()
        if self.has_depth:
            self._tell_depth(now, changed, out)
        quote = self.touch()
        if quote != self._quote:
            self._quote = quote
            bid, bid_quantity, ask, ask_quantity = quote
            if bid is not None and ask is not None:
                out.append(QuoteEvent(now, bid, bid_quantity, ask, ask_quantity))

    def _tell_depth(self, now_ns: int, changed: list[tuple[int, int]], out: list[MarketEvent]) -> None:
        events = []
        for level in changed:
            before, shown = self._told.get(level, (0, 0)), self._shown(*level)
            if shown == before:
                continue
            events.append(DepthEvent(now_ns, *level, *shown, is_new=not before[0], final=False))
            self._told[level] = shown
            if not shown[0]:
                del self._told[level]
        if events:
            out.extend(events[:-1])
            out.append(events[-1]._replace(final=True))


def _rows(batches: Iterator[EventArray], ticks_per_point: float) -> Iterator[_Row]:
    """Rows that say something, one by one."""
    for events in batches:
        prices = [
            [round(price * ticks_per_point) if price == price else None for price in events[name].tolist()]  # noqa: PLR0124  # not NaN
            for name in ("price", "bid", "ask")
        ]
        columns = [events[name].tolist() for name in ("ts_ns", "kind", "side", "flags", "count")]
        sizes = events["size"].astype("i8").tolist()
        yield from map(_Row._make, zip(*columns, *prices, sizes, strict=True))
