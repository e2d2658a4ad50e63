"""The state of the market: the touch and the newest event time."""

import math
from dataclasses import dataclass, field

import numpy as np

from mia_daemon.records import EventArray, EventKind, Side


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

    def far_size(self, side: Side) -> float:
        """Contracts at the far touch; 0 when unknown."""
        return self.ask_size if side is Side.BUY else self.bid_size


def touch_of(event: np.void) -> Touch | None:
    """The traded instrument's touch in one event; None when it has none, or a crossed one."""
    ts_ns, _, _, _, _, symbol, _, _, bid, ask, _, bid_size, ask_size, _ = event.item()
    return Touch(bid, ask, bid_size, ask_size, ts_ns) if symbol == 0 and bid <= ask else None


def last_touch(events: EventArray) -> Touch | None:
    """The traded instrument's last touch in `events`; None when there is none."""
    if not len(events):
        return None
    if (touch := touch_of(events[-1])) is not None:
        return touch
    carrying = np.flatnonzero((events["symbol"] == 0) & (events["bid"] <= events["ask"]))
    return touch_of(events[carrying[-1]]) if len(carrying) else None


@dataclass(slots=True)
class MarketState:
    """Newest event time and last known touch.

    The newest time is a running maximum and takes any time for true: live feeds clamp times from the future before
    (`feed.event_times`), as only they know whether event time is real time. Times in the past change nothing.

    Attributes:
        now_ns: the newest event time; 0 before the first event.
        touch: the last known one of the traded instrument.
        max_age_ns: age on arrival beyond which events are old; None: event time is not real time, no event is old.
        catching_up: the last event processed was old: a feed reads what happened before, and its time runs fast.
    """

    now_ns: int = 0
    touch: Touch = field(default_factory=Touch)
    max_age_ns: int | None = None
    catching_up: bool = False

    def on_events(self, events: EventArray) -> None:
        """Process the next events, at least one; the array is read and not kept."""
        self.now_ns = max(self.now_ns, int(events["ts_ns"].max()))
        self.touch = last_touch(events) or self.touch
        if self.max_age_ns is not None:
            self._note_age(events[-1], self.max_age_ns)

    def _note_age(self, last: np.void, max_age_ns: int) -> None:
        ts_ns, recv_ns, kind, *_ = last.item()
        if kind != EventKind.GAP:  # the feed's own, dated as the event before it: says nothing about those to come
            self.catching_up = recv_ns - ts_ns > max_age_ns
