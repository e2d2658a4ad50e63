"""The 350: bulk rate, a single event, a decision; what each family costs; pandas and TA-Lib beside them. About 30 s.

python -m benchmarks.bench_features [FILE.scid] [--peers PYTHON]
"""

import argparse
import inspect
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import talib
from numba import njit
from talib import stream

from mia_daemon.clock import EventClock
from mia_daemon.features import cache
from mia_daemon.features.catalogue import index
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
    market,
    ofi,
    ta,
    vol,
)
from mia_daemon.feed.replay_feed import ReplayFeed
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EventArray, empty_events

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
    return np.concatenate(list(ReplayFeed(path, EventClock()).batches()))


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


HOOKS = ("on_trade", "on_quote", "on_second", "emit")


def families(events: EventArray, decision_every_s: float = 5.0) -> None:
    """What each hook costs, from a state that has seen `events`, and what that makes of a stream like theirs.

    A family alone would take so many trades a second: its on_trade, and its share of on_second and of emit at the rate
    of the events and of the decisions. Depth and quotes come on top of that where there are any.
    """
    made = pipeline(decision_every_s)
    made.push(events, 0)
    table = {family.__name__.rpartition(".")[2]: hook_costs(made, i) for i, family in enumerate(FAMILIES)}
    seconds = float(events["ts_ns"][-1] - events["ts_ns"][0]) / NS
    per_trade = {"on_trade": 1.0, "on_second": seconds / len(events), "emit": made.decisions / len(events)}
    costs = {name: sum(per_trade[hook] * took[hook] for hook in per_trade) for name, took in table.items()}
    whole = sum(costs.values())
    head = f"\n{'ns per call':12}" + "".join(f"{hook:>11}" for hook in HOOKS)
    rate = len(events) / seconds
    print(f"{head}{'trades/s':>14}{'share':>8}   at {rate:.0f} trades/s, {decision_every_s:g} s a decision")
    for name, took in table.items():
        cells = "".join(f"{took[hook]:11.0f}" if took[hook] else " " * 11 for hook in HOOKS)
        print(f"{name:12}{cells}{1e9 / costs[name] if costs[name] else 0:14,.0f}{costs[name] / whole:8.1%}")
    totals = "".join(f"{sum(took[hook] for took in table.values()):11.0f}" for hook in HOOKS)
    print(f"{'all':12}{totals}{1e9 / whole:14,.0f}{1:8.0%}")


def hook_costs(made: FeaturePipeline, place: int) -> dict[str, float]:
    """Ns a call of each hook of a family takes; 0 for those it lacks."""
    state, c, cal = made._state, made._clock, made._calendar  # noqa: SLF001
    t, row = int(c[engine.C_NEWEST]), int(c[engine.C_ROW])
    m, out = state[engine.M0 : engine.BOOK0], np.zeros(350, np.float32)
    own = state[STARTS[place] : (*STARTS[1:], len(state))[place]]
    more = {"on_trade": (t, m), "on_quote": (t, m), "on_second": (t // NS, m), "emit": (t, m, out)}
    took = dict.fromkeys(HOOKS, 0.0)
    for name, arguments in more.items():
        if (hook := getattr(FAMILIES[place], name, None)) is not None:
            calendar = (cal, row) if "cal" in inspect.signature(hook.py_func).parameters else ()
            took[name] = nanoseconds(hook, (own.copy(), *arguments, *calendar))
    return took


# ------------------------------------------------------------------------------------------------ beside other software

TEN = ("ret_1m", "rv_1m", "rv_5m", "cvd_session", "er_15m", "momentum_10", "bollinger_width_20", "bb_pctb_1m",
       "donch20_pos_1m", "stochastic_k")  # fmt: skip


def pandas_ten(events: EventArray) -> pd.DataFrame:
    """Ten of the 350 recomputed from trades with pandas, at the end of every second; nothing is carried over."""
    trades = pd.DataFrame(
        {"price": events["price"], "signed": events["side"] * events["size"], "size": events["size"]},
        pd.to_datetime(events["ts_ns"]),
    )
    mid = pd.Series((events["bid"] + events["ask"]) / 2, trades.index).resample("1s").last().ffill()
    log_mid = mid.apply(np.log)
    square = log_mid.diff() ** 2
    seconds = pd.DataFrame({"ret_1m": log_mid.diff(60)})
    for name, h in (("rv_1m", 60), ("rv_5m", 300)):
        seconds[name] = np.sqrt(h * square.ewm(alpha=1 - np.exp(-1 / h)).mean())
    day = pd.DatetimeIndex(trades.index).shift(-22, "h").date  # 17:00 Chicago, in summer
    flow = trades[["signed", "size"]].groupby(day).cumsum()
    seconds["cvd_session"] = (flow["signed"] / flow["size"]).resample("1s").last().ffill()
    bars = trades["price"].resample("1min").agg(["max", "min", "last"]).dropna()
    high, low, close = bars["max"], bars["min"], bars["last"]
    mean, sd = close.rolling(20).mean(), close.rolling(20).std(ddof=0)
    low_5 = low.rolling(5).min()
    closed = pd.DataFrame(
        {
            "er_15m": close.diff(15).abs() / close.diff().abs().rolling(15).sum(),
            "momentum_10": 100 * close.pct_change(10),
            "bollinger_width_20": 4 * sd / mean,
            "bb_pctb_1m": (close - mean) / (4 * sd) + 0.5,
            "donch20_pos_1m": (close - low.rolling(20).min()) / (high.rolling(20).max() - low.rolling(20).min()),
            "stochastic_k": (100 * (close - low_5) / (high.rolling(5).max() - low_5)).rolling(3).mean(),
        }
    )
    closed.index += pd.Timedelta(minutes=1)
    return seconds.join(closed.reindex(seconds.index, method="ffill"))[list(TEN)]


def beside_pandas(events: EventArray) -> None:
    """Ten features in pandas: over all trades, and anew at one decision from the last hour; ours for comparison."""
    start = time.perf_counter()
    frame = pandas_ten(events)
    bulk_s = time.perf_counter() - start
    made = pipeline(1.0)
    windows = [window for window in made.push(events, 0) if window.due]
    places = [index(name) for name in TEN]
    ours = np.array([window.values for window in windows[-2000:]])[:, places]  # noqa: PD011  no data frame
    theirs = frame.reindex(pd.to_datetime([window.ts_ns for window in windows[-2000:]]).floor("1s"))
    before = frame.shift(1).reindex(theirs.index).to_numpy()  # of whole seconds that have ended
    spread = np.nanquantile(before, 0.95, axis=0) - np.nanquantile(before, 0.05, axis=0)
    apart = np.nanmedian(np.abs(ours - before), axis=0) / spread
    hour = events[events["ts_ns"] > events["ts_ns"][-1] - 3600 * NS]
    start = time.perf_counter()
    pandas_ten(hour)
    one_s = time.perf_counter() - start
    print(f"\npandas, ten features over all     {len(events):>10,} events {len(events) / bulk_s:>12,.0f}/s")
    print(f"pandas, ten at one decision       {1e3 * one_s:10.1f} ms, anew from the last hour's {len(hour):,} trades")
    print(
        f"median distance from ours         {apart.max():10.1%} of the usual range at most ({TEN[int(apart.argmax())]})"
    )


def beside_talib(bars: int = 200) -> None:
    """TA-Lib's streaming functions for what the ta family emits of one timeframe, over the newest `bars` bars."""
    rng = np.random.default_rng(2)
    close = 4200 + 0.25 * rng.integers(-20, 21, bars).cumsum().astype(np.float64)
    high, low, volume = (
        close + rng.integers(0, 9, bars),
        close - rng.integers(0, 9, bars),
        rng.integers(1, 999, bars).astype(np.float64),
    )

    def once() -> None:
        stream.RSI(close), stream.MACD(close), stream.ATR(high, low, close), stream.ADX(high, low, close)
        stream.PLUS_DI(high, low, close), stream.MINUS_DI(high, low, close), stream.BBANDS(close, 20)
        stream.STOCH(high, low, close), stream.CCI(high, low, close, 20), stream.MFI(high, low, close, volume)
        stream.ROC(close), stream.EMA(close, 9), stream.EMA(close, 21), stream.EMA(close, 50)
        stream.MAX(high, 20), stream.MIN(low, 20), stream.AROONOSC(high, low, 25)
        stream.LINEARREG_SLOPE(talib.OBV(close, volume), 14)

    once()
    start = time.perf_counter()
    for _ in range(1000):
        once()
    took_us = (time.perf_counter() - start) * 1e3
    made = ta.make_state(0.25)
    m = market.make_state(0.25)
    m[market.M_LAST], m[market.M_SIZE], m[market.M_SIDE] = 4200.0, 1.0, 1.0
    closing_ns = closing(made, m, 60 * 10_000)
    print(f"TA-Lib streams, 18 of one bar     {took_us:10.1f} µs a bar over {bars} bars")
    print(
        f"the ta family, one closed bar     {closing_ns / 1e3:10.2f} µs a bar (18 values; 1, 5 and 15 minutes as due)"
    )


@njit
def _close_bars(s: Any, m: Any, first: int, last: int) -> None:
    for sec in range(first, last):
        if sec % 60 == 0:
            m[market.M_LAST] += 0.25 if sec % 420 < 240 else -0.25
            ta.on_trade(s, sec * NS, m)
        ta.on_second(s, sec, m)


def closing(state: Any, m: Any, seconds: int) -> float:
    """Ns a minute takes the ta family: its trade, its sixty seconds and its closed bar."""
    _close_bars(state, m, 0, 6000)
    start = time.perf_counter()
    _close_bars(state, m, 6000, 6000 + seconds)
    return (time.perf_counter() - start) / (seconds / 60) * 1e9


def beside_peers(python: Path, events: EventArray) -> None:
    """What an interpreter with other trading software makes of the same trades."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trades.npy"
        np.save(path, events)
        subprocess.run([python, Path(__file__).with_name("peers.py"), path], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE.scid")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="an interpreter with hftbacktest, nautilus_trader")
    options = parser.parse_args()
    cache.prepare(print, time.perf_counter)
    start = time.perf_counter()
    million = trades(1_000_000, 40.0)
    bulk("1M trades, 40/s, 5 s decisions", million)
    bulk("the same, no decisions", million, NEVER_S)
    if options.file is not None:
        bulk(options.file.name, scid(options.file))
    single("one event", million[:20_000], NEVER_S)
    single("one event and its decision", million[:20_000], 1e-9)
    families(million[:200_000])
    beside_pandas(million[:400_000])
    beside_talib()
    if options.peers is not None:
        beside_peers(options.peers, million)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
