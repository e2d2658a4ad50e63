"""Checks on market data before new risk: price jumps, gaps, and the trading status of the symbol."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.records import EventArray, EventKind
from mia_daemon.risk.codes import RiskCode, Verdict, deny

_TRADE: Final = int(EventKind.TRADE)
_GAP: Final = int(EventKind.GAP)
_STATUS: Final = int(EventKind.STATUS)
_UNKNOWN: Final = 0  # DTC's TRADING_STATUS_UNKNOWN: ignored
_OPEN: Final = 2  # DTC's TRADING_STATUS_OPEN
_LONG_AGO: Final = -(2**62)
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
        return None

    def _see_one_by_one(self, events: EventArray) -> None:
        for ts_ns, _, kind, _, _, symbol, count, price, bid, ask, *_ in events.tolist():
            if symbol:
                continue
            if kind == _GAP:
                self._gap_ns = ts_ns
            elif kind == _STATUS and count != _UNKNOWN:
                self._status = count
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
