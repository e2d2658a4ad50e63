"""The best bid and ask, and how the last of them is found in an array of events."""

import math
from dataclasses import dataclass

import numpy as np

from mia_daemon.records import EventArray, Side


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

    def take(self, side: Side) -> float:
        """The price at which an order of `side` finds someone at once."""
        return self.ask if side is Side.BUY else self.bid

    def take_size(self, side: Side) -> float:
        return self.ask_size if side is Side.BUY else self.bid_size


def touch_of(event: np.void) -> Touch | None:
    """The touch that one event tells of the traded instrument; None when it tells none, or a crossed one."""
    ts_ns, _, _, _, _, symbol, _, _, bid, ask, _, bid_size, ask_size, _ = event.item()
    return Touch(bid, ask, bid_size, ask_size, ts_ns) if symbol == 0 and bid <= ask else None


def last_touch(events: EventArray) -> Touch | None:
    """The last touch that `events` tell of the traded instrument."""
    if not len(events):
        return None
    if (touch := touch_of(events[-1])) is not None:
        return touch
    telling = np.flatnonzero((events["symbol"] == 0) & (events["bid"] <= events["ask"]))
    return touch_of(events[telling[-1]]) if len(telling) else None


class MarketState:
    """How far the market has been seen.

    Attributes:
        now_ns: the newest event time; 0 before the first event.
        touch: the last one told of the traded instrument.
    """

    __slots__ = ("now_ns", "touch")

    def __init__(self) -> None:
        self.now_ns = 0
        self.touch = Touch()

    def see(self, events: EventArray) -> None:
        """Take in the next events; at least one."""
        self.now_ns = max(self.now_ns, int(events["ts_ns"].max()))
        self.touch = last_touch(events) or self.touch
