"""What the market shows, as MARKET_EVENT rows for whoever writes files."""

from typing import Protocol

import numpy as np

from mia_daemon.records import MARKET_EVENT, EventArray, EventFlag, EventKind, empty_events
from mia_daemon.simulator.order_book import BUY, SELL
from mia_daemon.simulator.tape import DepthEvent, MarketEvent, QuoteEvent, TradeEvent

_MARKERS = (0, int(EventFlag.FIRST_SUBTRADE), int(EventFlag.LAST_SUBTRADE))
_MAX_COUNT = 0xFFFF


class MarketFiles(Protocol):
    """Takes the rows."""

    def append(self, events: EventArray) -> None:
        """Take rows in order of time."""

    def flush(self, now_ns: int | None = None) -> None:
        """Write if that is due by the monotonic clock; None: in any case."""

    def close(self) -> None:
        """Write what waits; nothing comes any more."""


class Shown(Protocol):
    """A market's present: see `exchange.Exchange`."""

    @property
    def now_ns(self) -> int: ...
    def touch(self) -> tuple[int | None, int, int | None, int]: ...
    def depth(self, side: int) -> list[tuple[int, int, int]]: ...


class MarketRecorder:
    """Turns the market's events into rows; a trade bears the touch it met.

    Args:
        shown: the market's present, told as a snapshot at the beginning.
        tick: size of a tick.
        files: takes the rows.
    """

    def __init__(self, shown: Shown, tick: float, files: MarketFiles) -> None:
        self._tick = tick
        self._files = files
        bid, _, ask, _ = shown.touch()
        self._bid = np.nan if bid is None else bid * tick
        self._ask = np.nan if ask is None else ask * tick
        if len(snapshot := self._snapshot(shown)) > 1:
            files.append(snapshot)

    def take(self, market: list[MarketEvent]) -> None:
        """Take what happened, in order of time."""
        rows = np.zeros(len(market), MARKET_EVENT)
        filled = 0
        for event in market:
            if isinstance(event, QuoteEvent):
                self._bid, self._ask = event.bid * self._tick, event.ask * self._tick
            elif isinstance(event, TradeEvent):
                rows[filled] = self._trade(event)
                filled += 1
            elif isinstance(event, DepthEvent):
                rows[filled] = self._level(event)
                filled += 1
        if filled:
            self._files.append(rows[:filled])

    def flush(self, now_ns: int) -> None:
        """Write the files when that is due by the monotonic clock."""
        self._files.flush(now_ns)

    def close(self) -> None:
        self._files.close()

    def _trade(self, e: TradeEvent) -> tuple[float, ...]:
        return (e.ts_ns, e.ts_ns, EventKind.TRADE, e.side, _MARKERS[e.marker], 0, 1, e.price * self._tick,
                self._bid, self._ask, e.quantity, 0.0, 0.0, 0.0)  # fmt: skip

    def _level(self, e: DepthEvent) -> tuple[float, ...]:
        flags = EventFlag.BATCH_END if e.final else 0
        return (e.ts_ns, e.ts_ns, EventKind.DEPTH, e.side, flags, 0, min(e.orders, _MAX_COUNT), e.price * self._tick,
                np.nan, np.nan, e.quantity, 0.0, 0.0, 0.0)  # fmt: skip

    def _snapshot(self, shown: Shown) -> EventArray:
        levels = [(side, *level) for side in (BUY, SELL) for level in shown.depth(side)]
        rows = empty_events(1 + len(levels))
        rows["ts_ns"] = rows["recv_ns"] = shown.now_ns
        rows["kind"] = EventKind.DEPTH
        rows["flags"] = EventFlag.SNAPSHOT
        rows["flags"][0] |= EventFlag.CLEAR
        rows["flags"][-1] |= EventFlag.BATCH_END
        for row, (side, price, quantity, orders) in zip(rows[1:], levels, strict=True):
            row["side"], row["price"], row["size"] = side, price * self._tick, quantity
            row["count"] = min(orders, _MAX_COUNT)
        return rows
