"""Drives feature families event by event in plain Python, by the conventions of kernels/market.py.

A second, simpler writing of what the compiled engine does, so that a family can be tested alone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType

import numpy as np
from numba import njit

from mia_daemon.features.kernels import market as mk

NS = 1_000_000_000
WITH_CALENDAR = {"level": ("on_trade", "emit"), "clock": ("emit",)}


def calendar(first: str = "2021-08-02", days: int = 5) -> np.ndarray:
    """Full trading days in Chicago summer time, weekends left out: int64 (days, 6)."""
    rows = []
    day = datetime.fromisoformat(first).replace(tzinfo=UTC)
    while len(rows) < days:
        if day.weekday() < 5:
            midnight = int(day.timestamp())
            hours = (-2 * 3600, 21 * 3600, 13 * 3600 + 1800, 20 * 3600 + 900)
            rows.append([*((midnight + h) * NS for h in hours), int(day.strftime("%Y%m%d")), 0])
        day += timedelta(days=1)
    return np.array(rows, np.int64)


@njit  # many times faster over silent nights
def _step(on_second, s, start, stop, m):
    for second in range(start, stop):
        on_second(s, second, m)


@dataclass
class Trades:
    """Trades with the touch around them, as parallel arrays."""

    t: np.ndarray  # ns
    price: np.ndarray
    size: np.ndarray
    side: np.ndarray

    def __len__(self) -> int:
        return len(self.t)

    def head(self, n: int) -> "Trades":
        return Trades(self.t[:n], self.price[:n], self.size[:n], self.side[:n])


def random_trades(
    start_ns: int, seconds: int, n: int, seed: int = 1, tick: float = 0.25, step_ticks: float = 1.0
) -> Trades:
    """A random walk on the tick grid; gaps between trades are exponential, so some minutes may stay silent."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1.0, n + 1).cumsum()
    t = start_ns + (gaps[:-1] / gaps[-1] * seconds * NS).astype(np.int64)
    walk = np.rint(rng.normal(0.0, step_ticks, n).cumsum() * 0.7 + rng.integers(-1, 2, n))
    price = 15000.0 + walk * tick
    return Trades(t, price, rng.integers(1, 20, n).astype(float), rng.choice([-1.0, 1.0], n))


class Drive:
    """Feeds events to families; `values()` emits at the last event's time, as a dict of index to value by slices."""

    def __init__(self, *families: ModuleType, tick: float = 0.25, cal: np.ndarray | None = None) -> None:
        self.families = families
        self.names = [family.__name__.rpartition(".")[2] for family in families]
        self.cal = calendar() if cal is None else cal
        self.states = [family.make_state(tick) for family in families]
        self.m = mk.make_state(tick)
        self.row = -1
        self.t = 0
        self.second = -1
        self.second_trades = 0

    def _call(self, hook: str, *args: object) -> None:
        for family, name, state in zip(self.families, self.names, self.states, strict=True):
            function = getattr(family, hook, None)
            if function is not None:
                more = (self.cal, self.row) if hook in WITH_CALENDAR.get(name, ()) else ()
                function(state, *args, *more)

    def _seconds_until(self, second: int) -> None:
        m = self.m
        if self.second == second:
            return
        m[mk.M_SEC_MID], m[mk.M_SEC_LAST] = m[mk.M_MID], m[mk.M_LAST]
        self._call("on_second", self.second, m)
        m[mk.M_SEC_PREV_MID] = m[mk.M_SEC_MID]
        silent = range(self.second + 1, second)
        if len(silent) > mk.MAX_SILENT_S:
            self._call("on_gap", m)
            mk.forget_prices(m)
        else:
            for family, state in zip(self.families, self.states, strict=True):
                if silent and hasattr(family, "on_second"):
                    _step(family.on_second, state, silent.start, silent.stop, m)
        self.second = second

    def at(self, t: int) -> None:
        """Let time pass up to `t`."""
        m = self.m
        if self.second < 0:
            self.second = t // NS
            m[mk.M_ORIGIN] = t // NS // 86400 * 86400
        self._seconds_until(t // NS)
        self.t = t
        row = int(np.searchsorted(self.cal[:, 0], t, side="right")) - 1
        if row != self.row:
            self.row = row
            self._call("on_day", m, self.cal, row)
        m[mk.M_NOW] = (t - int(m[mk.M_ORIGIN]) * NS) / NS

    def quote(self, t: int, bid: float, ask: float) -> None:
        self.at(t)
        m = self.m
        m[mk.M_BID], m[mk.M_ASK], m[mk.M_MID], m[mk.M_HAS_QUOTE] = bid, ask, (bid + ask) / 2, 1.0
        self._call("on_quote", t, m)

    def trade(self, t: int, price: float, size: float, side: float) -> None:
        """A trade; the mid follows it, half a tick towards the passive side."""
        self.at(t)
        m = self.m
        m[mk.M_MID] = price - side * 0.5 * m[mk.M_TICK]
        m[mk.M_LAST], m[mk.M_SIZE], m[mk.M_SIDE] = price, size, side
        self._call("on_trade", t, m)

    def trades(self, trades: Trades) -> None:
        for row in zip(trades.t.tolist(), trades.price, trades.size, trades.side, strict=True):
            self.trade(*row)

    def values(self) -> np.ndarray:
        """All 350, NaN where no family of ours writes: float64 (350,)."""
        out = np.full(350, np.nan)
        self._call("emit", self.t, self.m, out)
        return out

    def own(self) -> np.ndarray:
        """What the only family writes: float64 (COUNT,)."""
        (family,) = self.families
        return self.values()[family.FIRST : family.FIRST + family.COUNT]


def bars_of(trades: Trades, period: int) -> dict[str, np.ndarray]:
    """Bars by slicing: start (s), open, high, low, close, volume, and the index of each bar's last trade."""
    slot = trades.t // NS // period
    first = np.flatnonzero(np.r_[True, slot[1:] != slot[:-1]])
    last = np.r_[first[1:], len(slot)] - 1
    return {
        "start": slot[first] * period,
        "open": trades.price[first],
        "high": np.maximum.reduceat(trades.price, first),
        "low": np.minimum.reduceat(trades.price, first),
        "close": trades.price[last],
        "volume": np.add.reduceat(trades.size, first),
        "last": last,
    }


def damage(drive: Drive, seed: int = 3) -> None:
    """Impossible and extreme numbers of all sorts, and long silences, between ordinary trades."""
    rng = np.random.default_rng(seed)
    t = int(drive.cal[0, 0]) + NS
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300, 1e9, 1e-300, 1e-9, 0.25, 1e8, 15000.0])
    for _ in range(1500):
        t += int(rng.choice([0, 1, NS, 70 * NS, 4000 * NS, 8000 * NS], p=[0.3, 0.3, 0.25, 0.1, 0.025, 0.025]))
        price = rng.choice(odd) if rng.random() < 0.3 else 15000.0 + 0.25 * rng.integers(-40, 40)
        size = rng.choice(odd) if rng.random() < 0.2 else float(rng.integers(0, 9))
        drive.trade(t, float(price), float(size), float(rng.choice([-1.0, 0.0, 1.0])))
        if rng.random() < 0.1:
            drive.quote(t, float(rng.choice(odd)), float(rng.choice(odd)))
        if rng.random() < 0.2:
            assert np.isfinite(drive.values()[_written(drive)]).all()
    assert np.isfinite(drive.values()[_written(drive)]).all()


def _written(drive: Drive) -> np.ndarray:
    return np.concatenate([np.arange(f.FIRST, f.FIRST + f.COUNT) for f in drive.families])


def same_however_asked(family: ModuleType, trades: Trades, every: int = 7) -> None:
    """Emitting in between changes nothing, and a prefix knows what it knows: no value depends on what comes later."""
    often, once = Drive(family), Drive(family)
    seen = []
    for i, row in enumerate(zip(trades.t.tolist(), trades.price, trades.size, trades.side, strict=True)):
        often.trade(*row)
        if i % every == 0:
            seen.append((i, often.own().copy()))
    once.trades(trades)
    np.testing.assert_array_equal(often.own(), once.own())
    i, value = seen[len(seen) // 2]
    prefix = Drive(family)
    prefix.trades(trades.head(i + 1))
    np.testing.assert_array_equal(prefix.own(), value)
