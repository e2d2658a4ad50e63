"""The 350: bulk rate, a single event, a decision; and what each family costs per hook. About 20 s once compiled.

python -m benchmarks.bench_features [FILE.scid]
"""

import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from mia_daemon.features import cache
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.kernels import (
    bar,
    clock,
    cplx,
    cross,
    depth,
    dq,
    engine,
    flow,
    l1_state,
    level,
    liq,
    ofi,
    ta,
    vol,
)
from mia_daemon.instruments import instrument
from mia_daemon.records import EventArray, empty_events
from mia_daemon.trading_calendar import TradingCalendar

NS = 1_000_000_000
BATCH = 4096
NEVER_S = 1e7
FAMILIES = (l1_state, depth, ofi, flow, vol, liq, cplx, ta, bar, level, cross, dq, clock)
STARTS = (
    engine.L10,
    engine.DEPTH0,
    engine.OFI0,
    engine.FLOW0,
    engine.VOL0,
    engine.LIQ0,
    engine.CPLX0,
    engine.TA0,
    engine.BAR0,
    engine.LEVEL0,
    engine.CROSS0,
    engine.DQ0,
    engine.CLOCK0,
)


def trades(n: int, per_second: float, seed: int = 1) -> EventArray:
    """Trades of a walk on the tick grid that carry the touch, as .scid records do."""
    rng = np.random.default_rng(seed)
    events = empty_events(n)
    events["kind"] = events["count"] = 1
    gaps = rng.exponential(NS / per_second, n).astype(np.int64)
    events["ts_ns"] = events["recv_ns"] = 1_620_000_000 * NS + gaps.cumsum()
    mid = 4200 + 0.25 * rng.choice([-1, 0, 0, 0, 1], n).cumsum()
    events["bid"], events["ask"], events["side"] = mid - 0.25, mid, rng.choice([-1, 1], n)
    events["price"] = np.where(events["side"] > 0, events["ask"], events["bid"])
    events["size"] = rng.integers(1, 20, n)
    return events


def scid(path: Path) -> EventArray:
    """A Sierra Chart file's records as events."""
    record = np.dtype([("t", "<i8"), ("ohlc", "<f4", 4), ("n", "<u4"), ("v", "<u4"), ("bid", "<u4"), ("ask", "<u4")])
    rows = np.fromfile(path, record, offset=56)
    events = empty_events(len(rows))
    events["ts_ns"] = events["recv_ns"] = (rows["t"] - 2_209_161_600_000_000) * 1000
    events["kind"], events["count"], events["size"] = 1, rows["n"], rows["v"]
    events["ask"], events["bid"], events["price"] = rows["ohlc"][:, 1], rows["ohlc"][:, 2], rows["ohlc"][:, 3]
    events["side"] = np.where(rows["ask"] > 0, 1, -1)
    return events


def pipeline(interval_s: float) -> FeaturePipeline:
    calendar = TradingCalendar.load(date(2020, 10, 1), date(2021, 12, 31))
    return FeaturePipeline(instrument("MNQU21-CME"), interval_s, calendar, 300.0)


def bulk(name: str, events: EventArray, interval_s: float = 5.0) -> None:
    best = float("inf")
    for _ in range(2):
        made = pipeline(interval_s)
        start = time.perf_counter()
        for i in range(0, len(events), BATCH):
            made.push(events[i : i + BATCH], 0)
        best = min(best, time.perf_counter() - start)
    print(f"{name:32}{len(events):>10,} events {len(events) / best:>12,.0f}/s {made.decisions:>8,} decisions")


def single(name: str, events: EventArray, interval_s: float) -> None:
    made = pipeline(interval_s)
    made.push(events[:1], 0)
    taken = []
    for i in range(1, len(events)):
        one = events[i : i + 1]
        start = time.perf_counter_ns()
        made.push(one, 0)
        taken.append(time.perf_counter_ns() - start)
    half, worst = np.percentile(taken, [50, 99]) / 1e3
    print(f"{name:32}p50 {half:6.1f} µs   p99 {worst:6.1f} µs")


@njit
def _repeat(hook: Any, n: int, arguments: Any) -> None:
    for _ in range(n):
        hook(*arguments)


def nanoseconds(hook: Any, arguments: tuple[Any, ...], n: int = 2000) -> float:
    _repeat(hook, 1, arguments)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        _repeat(hook, n, arguments)
        best = min(best, time.perf_counter() - start)
    return best / n * 1e9


def families(events: EventArray) -> None:
    """What each hook costs, from a state that has seen `events`; the hooks of one event or decision add up."""
    made = pipeline(5.0)
    made.push(events, 0)
    state, c = made._state, made._clock  # noqa: SLF001
    t, row = int(c[engine.C_NEWEST]), int(c[engine.C_ROW])
    m, out, cal = state[engine.M0 : engine.BOOK0], np.zeros(350, np.float32), made._calendar  # noqa: SLF001
    hooks: dict[str, Callable[[], tuple[Any, ...]]] = {
        "on_trade": lambda: (t, m),
        "on_quote": lambda: (t, m),
        "on_second": lambda: (t // NS, m),
        "emit": lambda: (t, m, out),
    }
    print(f"\n{'ns per call':12}" + "".join(f"{name:>11}" for name in hooks))
    totals = dict.fromkeys(hooks, 0.0)
    for family, start, end in zip(FAMILIES, STARTS, (*STARTS[1:], len(state)), strict=True):
        line = f"{family.__name__.rpartition('.')[2]:12}"
        for name, rest in hooks.items():
            hook = getattr(family, name, None)
            if hook is None:
                line += " " * 11
                continue
            calendar = (
                (cal, row) if "cal" in hook.py_func.__code__.co_varnames[: hook.py_func.__code__.co_argcount] else ()
            )
            taken = nanoseconds(hook, (state[start:end].copy(), *rest(), *calendar))
            totals[name] += taken
            line += f"{taken:11.0f}"
        print(line)
    print(f"{'all':12}" + "".join(f"{taken:11.0f}" for taken in totals.values()))


def main() -> None:
    cache.prepare(print, time.perf_counter)
    start = time.perf_counter()
    million = trades(1_000_000, 40.0)
    bulk("1M trades, 40/s, 5 s decisions", million)
    bulk("the same, no decisions", million, NEVER_S)
    if len(sys.argv) > 1:
        bulk(Path(sys.argv[1]).name, scid(Path(sys.argv[1])))
    single("one event", million[:20_000], NEVER_S)
    single("one event and its decision", million[:20_000], 1e-9)
    families(million[:200_000])
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
