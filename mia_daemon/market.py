"""The state of the market: the touch and the newest event time."""

import math
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.records import EventArray, EventFlag, EventKind, Side


@dataclass(frozen=True, slots=True)
class Touch:
    """Best bid and ask; NaN while there is none. Sizes are 0 when unknown."""

    bid: float = math.nan
    ask: float = math.nan
    bid_size: float = 0.0
    ask_size: float = 0.0
    ts_ns: int = 0

    @property
    def known(self) -> bool:
        return self.bid <= self.ask  # also false for NaN

    def far(self, side: Side) -> float:
        """The price at which an order of `side` trades at once: the ask for a buyer, the bid for a seller."""
        return self.ask if side is Side.BUY else self.bid

    def near(self, side: Side) -> float:
        """The price at which an order of `side` joins its own side: the bid for a buyer, the ask for a seller."""
        return self.bid if side is Side.BUY else self.ask

    def with_far(self, side: Side, price: float, size: float) -> "Touch":
        """The same with another price and size at the far touch."""
        return replace(self, ask=price, ask_size=size) if side is Side.BUY else replace(self, bid=price, bid_size=size)

    def far_size(self, side: Side) -> float:
        """Contracts at the far touch; 0 when unknown."""
        return self.ask_size if side is Side.BUY else self.bid_size


def touch_of(event: np.void) -> Touch | None:
    """The traded instrument's touch in one event; None when it has none, or a crossed one."""
    ts_ns, _, _, _, _, symbol, _, _, bid, ask, _, bid_size, ask_size, _ = event.item()
    return Touch(bid, ask, bid_size, ask_size, ts_ns) if symbol == 0 and bid <= ask else None


class MarketTrade(NamedTuple):
    """A trade in the market; `side` is the aggressor's, 0 when unknown."""

    price: float
    size: float
    side: int


BETTER_SOURCE_NS: Final = 10 * NS_PER_S
"""For so long after a quote or the order book gave the touch, trades do not: as for the features (kernels/touch.py)."""


@dataclass(slots=True)
class LastTouch:
    """The traded instrument's last touch: from quotes or the order book, and from trades where those are silent.

    A trade comes with the touch that it met, which is older than the trade. It confirms a touch of quotes or the book,
    and replaces it only when they have given none for `BETTER_SOURCE_NS`. It makes no difference how the events are cut
    into arrays.

    Attributes:
        touch: the last one.
        trade: that it came with; None when it is of quotes or the book.
    """

    touch: Touch = field(default_factory=Touch)
    trade: MarketTrade | None = None
    _quoted_ns: int | None = None  # when quotes or the book last gave it
    _newest_ns: int = 0

    def on_events(self, events: EventArray) -> bool:
        """Process the next events, which may be none; whether any gave or confirmed the touch."""
        if not len(events):
            return False
        last = events[-1]
        if last["kind"] != EventKind.TRADE and (touch := touch_of(last)) is not None:
            self._on_quote(touch, events)
            return True
        carrying = np.flatnonzero((events["symbol"] == 0) & (events["bid"] <= events["ask"]))
        quotes = carrying[events["kind"][carrying] != EventKind.TRADE]
        trades = carrying[carrying > quotes[-1]] if len(quotes) else carrying
        if len(quotes) and (touch := touch_of(events[quotes[-1]])) is not None:
            self._on_quote(touch, events[: quotes[-1] + 1])
        traded = len(trades) > 0 and self._on_trades(events, trades)
        self._newest_ns = max(self._newest_ns, int(events["ts_ns"].max()))
        return traded or len(quotes) > 0

    def _on_quote(self, touch: Touch, until: EventArray) -> None:
        """A touch of quotes or the book, at the last of the events `until`."""
        self.touch, self.trade = touch, None
        newest_ns = touch.ts_ns if len(until) == 1 else int(until["ts_ns"].max())
        self._quoted_ns = self._newest_ns = max(self._newest_ns, newest_ns)

    def _on_trades(self, events: EventArray, trades: NDArray[np.intp]) -> bool:
        """Trades that carry a touch, after the last quote; whether they confirm it or replace it."""
        newest_ns = max(self._newest_ns, int(events["ts_ns"][: trades[-1] + 1].max()))
        if self._quoted_ns is not None and newest_ns - self._quoted_ns <= BETTER_SOURCE_NS:
            alike = (events["bid"][trades] == self.touch.bid) & (events["ask"][trades] == self.touch.ask)
            if not alike.any():
                return False
            confirmed_ns = int(events["ts_ns"][trades[alike]].max())
            self.touch = replace(self.touch, ts_ns=max(confirmed_ns, self.touch.ts_ns))
            return True
        last = events[trades[-1]]
        if (touch := touch_of(last)) is not None:
            self.touch = touch
            self.trade = MarketTrade(float(last["price"]), float(last["size"]), int(last["side"]))
        return True


@dataclass(slots=True)
class MarketState:
    """Newest event time and last known touch.

    The newest time is a running maximum and takes any time for true: live feeds clamp times from the future before
    (`feed.event_times`), as only they know whether event time is real time. Times in the past change nothing.

    Attributes:
        now_ns: the newest event time; 0 before the first event.
        touch: the last known one of the traded instrument.
        max_age_ns: age on arrival beyond which events are old; None: event time is not real time, no event is old.
        catching_up: the last event processed was old, or the feed says so (CATCHING_UP): what is read happened before,
            and event time runs fast.
    """

    now_ns: int = 0
    touch: Touch = field(default_factory=Touch)
    max_age_ns: int | None = None
    catching_up: bool = False
    _last_touch: LastTouch = field(default_factory=LastTouch)

    def on_events(self, events: EventArray) -> None:
        """Process the next events, at least one; the array is read and not kept."""
        self.now_ns = max(self.now_ns, int(events["ts_ns"].max()))
        if self._last_touch.on_events(events):
            self.touch = self._last_touch.touch
        self._note_age(events[-1])

    def _note_age(self, last: np.void) -> None:
        ts_ns, recv_ns, kind, _side, flags, *_ = last.item()
        if flags & EventFlag.CATCHING_UP:
            self.catching_up = True
        elif kind != EventKind.GAP:  # the feed's own, dated as the event before it: says nothing about those to come
            self.catching_up = self.max_age_ns is not None and recv_ns - ts_ns > self.max_age_ns
