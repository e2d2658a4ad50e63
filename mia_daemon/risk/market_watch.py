"""Checks on market data before new risk: price jumps, prices off the tick, gaps, the trading status of the symbol."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.ticks import TOLERANCE_TICKS, beyond_tolerance, is_off_tick, nearest_ticks
from mia_daemon.records import EventArray, EventKind
from mia_daemon.risk.codes import RiskCode, Verdict, deny

_TRADE: Final = int(EventKind.TRADE)
_GAP: Final = int(EventKind.GAP)
_STATUS: Final = int(EventKind.STATUS)
_UNKNOWN: Final = 0  # DTC's TRADING_STATUS_UNKNOWN: ignored
_OPEN: Final = 2  # DTC's TRADING_STATUS_OPEN
_TRADED, _BID, _ASK, _LEVEL = range(4)  # the prices an event may hold: of its trade, the touch, a level of the book
_LONG_AGO: Final = -(2**62)
_KNOWN: Final = 1024  # prices
_FEW: Final = 16  # events: up to this number a loop is faster than numpy


class MarketWatch:
    """Processes every event and remembers what forbids new risk. The batching of events does not matter."""

    def __init__(self, limits: RiskSettings, tick_size: float) -> None:
        self._jump = math.inf if limits.max_price_jump_ticks is None else limits.max_price_jump_ticks * tick_size + 1e-9
        self._pause_ns = round(limits.market_pause_s * NS_PER_S)
        self._tick_size = tick_size
        self._price = math.nan
        self._jumped_ns = _LONG_AGO
        self._jumped_by = 0.0
        self._off_ns = _LONG_AGO  # newest event with a price off the tick
        self._off_price = math.nan
        self._off = [False] * 4  # whether the newest price of each sort is off the tick
        self._on_tick: set[float] = set()  # prices known to be on it: to look one up takes a third of the time
        self._gap_ns = _LONG_AGO
        self._status = _UNKNOWN

    def on_market(self, events: EventArray) -> None:
        """Process the next events, at least one; the array is read and not kept."""
        if len(events) <= _FEW:
            self._see_one_by_one(events)
            return
        kinds = events["kind"]
        if kinds.max() >= _GAP:
            self._see_marks(events, kinds)
        self._see_ticks(events, kinds)
        if self._jump < math.inf:
            self._see_prices(events, kinds)

    def check(self, ts_ns: int) -> Verdict | None:
        """The denial of a new position at event time `ts_ns`; None when it is allowed."""
        if self._status not in {_UNKNOWN, _OPEN}:
            return deny(RiskCode.NOT_TRADING, status=self._status)
        since_ns = ts_ns - self._pause_ns
        if self._gap_ns > since_ns:
            return deny(RiskCode.FEED_GAP, ago_s=round((ts_ns - self._gap_ns) / NS_PER_S, 3))
        if self._jumped_ns > since_ns:
            ago_s = round((ts_ns - self._jumped_ns) / NS_PER_S, 3)
            return deny(RiskCode.PRICE_JUMP, ticks=round(self._jumped_by / self._tick_size, 3), ago_s=ago_s)
        if self._off_ns > since_ns or any(self._off[:_LEVEL]):
            ago_s = round((ts_ns - self._off_ns) / NS_PER_S, 3)
            return deny(RiskCode.OFF_TICK, price=self._off_price, tick_size=self._tick_size, ago_s=ago_s)
        return None

    def _see_one_by_one(self, events: EventArray) -> None:
        for ts_ns, _, kind, _, _, symbol, count, price, bid, ask, *_ in events.tolist():
            if symbol:
                continue
            if kind == _GAP:
                self._gap_ns = ts_ns
            elif kind == _STATUS and count != _UNKNOWN:
                self._status = count
            is_off = self._is_off
            traded_off = is_off(_TRADED if kind == _TRADE else _LEVEL, price)
            bid_off, ask_off = is_off(_BID, bid), is_off(_ASK, ask)
            if traded_off or bid_off or ask_off:
                self._off_ns, self._off_price = ts_ns, price if traded_off else bid if bid_off else ask
            new = price if kind == _TRADE else (bid + ask) * 0.5
            if math.isfinite(new):
                step = abs(new - self._price)
                if step > self._jump:  # not the NaN before the first price
                    self._jumped_ns, self._jumped_by = ts_ns, step
                self._price = new

    def _see_marks(self, events: EventArray, kinds: NDArray[np.uint8]) -> None:
        own = events["symbol"] == 0
        gaps = np.flatnonzero((kinds == _GAP) & own)
        if len(gaps):
            self._gap_ns = int(events["ts_ns"][gaps[-1]])
        known = np.flatnonzero((kinds == _STATUS) & own & (events["count"] != _UNKNOWN))
        if len(known):
            self._status = int(events["count"][known[-1]])

    def _is_off(self, sort: int, price: float) -> bool:
        if price in self._on_tick:
            self._off[sort] = False
            return False
        if not math.isfinite(price):
            return False
        self._off[sort] = off = is_off_tick(price, self._tick_size)
        if not off:
            if len(self._on_tick) >= _KNOWN:
                self._on_tick.clear()
            self._on_tick.add(price)
        return off

    def _see_ticks(self, events: EventArray, kinds: NDArray[np.uint8]) -> None:
        """Find prices off the tick, as `_is_off` does one by one."""
        prices = np.empty((4, len(events)))
        prices[_TRADED], prices[_BID], prices[_ASK] = events["price"], events["bid"], events["ask"]
        moved = np.abs(prices[:_LEVEL] - nearest_ticks(prices[:_LEVEL], self._tick_size))
        if not any(self._off[:_LEVEL]) and not np.count_nonzero(moved > TOLERANCE_TICKS * self._tick_size):
            return  # as nearly always
        trades, own = kinds == _TRADE, events["symbol"] == 0
        prices[_LEVEL] = np.where(trades, math.nan, prices[_TRADED])
        prices[_TRADED][~trades] = math.nan
        off = own & beyond_tolerance(prices, nearest_ticks(prices, self._tick_size), self._tick_size)
        for sort in range(4):
            known = np.flatnonzero(own & np.isfinite(prices[sort]))
            if len(known):
                self._off[sort] = bool(off[sort, known[-1]])
        rows = np.flatnonzero(off.any(axis=0))
        if len(rows):
            self._off_ns = int(events["ts_ns"][rows[-1]])
            column = off[:, rows[-1]]
            sort = next(sort for sort in (_TRADED, _LEVEL, _BID, _ASK) if column[sort])
            self._off_price = float(prices[sort, rows[-1]])

    def _see_prices(self, events: EventArray, kinds: NDArray[np.uint8]) -> None:
        """Compare each price with the one before it: a trade's price, the middle of the touch otherwise."""
        prices = (events["bid"] + events["ask"]) * 0.5
        np.copyto(prices, events["price"], where=kinds == _TRADE)
        known = np.flatnonzero(np.isfinite(prices) & (events["symbol"] == 0))
        if not len(known):
            return
        new = prices[known]
        before = np.empty_like(new)
        before[0], before[1:] = self._price, new[:-1]
        steps = np.abs(new - before)
        self._price = float(new[-1])
        jumps = np.flatnonzero(steps > self._jump)  # false for the NaN before the first price
        if len(jumps):
            self._jumped_ns = int(events["ts_ns"][known[jumps[-1]]])
            self._jumped_by = float(steps[jumps[-1]])
