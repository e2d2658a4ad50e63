"""Other software over the same trades, in an interpreter of its own that has it: see `bench_features --peers`.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install hftbacktest nautilus_trader

It prints a line for each that is installed and says what it did, since none does what ours does: hftbacktest replays a
market and computes nothing of its own, NautilusTrader's indicators are of closed bars.
"""

import sys
import time
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

NS = 1_000_000_000


def hftbacktest(trades: Any) -> None:
    """The market replay of hftbacktest: trades and touches through its book, the touch read every five seconds."""
    hft, njit = import_module("hftbacktest"), import_module("numba").njit
    events = _for_hftbacktest(hft, trades)

    def begin() -> Any:
        asset = (
            hft.BacktestAsset()
            .data(events)
            .linear_asset(50.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0.0, 0.0)
            .tick_size(0.25)
            .lot_size(1.0)
            .last_trades_capacity(0)
        )
        return hft.HashMapMarketDepthBacktest([asset])

    @njit  # type: ignore[untyped-decorator]
    def replay(backtest: Any) -> tuple[float, int]:
        total, steps = 0.0, 0
        while backtest.elapse(5 * NS) == 0:
            depth = backtest.depth(0)
            total += depth.best_bid + depth.best_ask
            steps += 1
        return total, steps

    replay(begin())
    backtest = begin()
    start = time.perf_counter()
    _, steps = replay(backtest)
    took_s = time.perf_counter() - start
    print(
        f"hftbacktest, replay alone         {len(events):>10,} events {len(events) / took_s:>12,.0f}/s, "
        f"{len(trades) / took_s:,.0f} trades/s, the touch read {steps:,} times"
    )


def _for_hftbacktest(hft: Any, trades: Any) -> Any:
    """Each trade, behind the touch where that has moved."""
    moved = np.empty(len(trades), bool)
    moved[0] = True
    moved[1:] = (np.diff(trades["bid"]) != 0) | (np.diff(trades["ask"]) != 0)
    both = hft.EXCH_EVENT | hft.LOCAL_EVENT
    rows = []
    bid = ask = np.nan
    for trade, move in zip(trades, moved, strict=True):
        ts_ns = trade["ts_ns"]
        if move:
            for side, old, new in ((hft.BUY_EVENT, bid, trade["bid"]), (hft.SELL_EVENT, ask, trade["ask"])):
                if old != new:
                    if not np.isnan(old):
                        rows.append((both | hft.DEPTH_EVENT | side, ts_ns, ts_ns, old, 0.0, 0, 0, 0.0))
                    rows.append((both | hft.DEPTH_EVENT | side, ts_ns, ts_ns, new, 100.0, 0, 0, 0.0))
            bid, ask = trade["bid"], trade["ask"]
        side = hft.BUY_EVENT if trade["side"] > 0 else hft.SELL_EVENT
        rows.append((both | hft.TRADE_EVENT | side, ts_ns, ts_ns, trade["price"], trade["size"], 0, 0, 0.0))
    return np.array(rows, hft.event_dtype)


def nautilus(bars: int = 20_000) -> None:
    """Twelve streaming indicators of NautilusTrader, one closed bar after another, called from Python."""
    nautilus_trader, of = import_module("nautilus_trader"), import_module("nautilus_trader.indicators")
    rng = np.random.default_rng(2)
    close = 4200 + 0.25 * rng.integers(-20, 21, bars).cumsum().astype(float)
    high, low = close + rng.integers(0, 9, bars), close - rng.integers(0, 9, bars)
    of_close = [of.RelativeStrengthIndex(14), of.MovingAverageConvergenceDivergence(12, 26), of.RateOfChange(10)]
    of_close += [of.ExponentialMovingAverage(n) for n in (9, 21, 50)] + [of.EfficiencyRatio(15)]
    of_range = [of.AverageTrueRange(14), of.BollingerBands(20, 2.0), of.Stochastics(5, 3)]
    of_range += [of.CommodityChannelIndex(20)]
    channel, directional = of.DonchianChannel(20), of.DirectionalMovement(14)
    start = time.perf_counter()
    for top, bottom, last in zip(high.tolist(), low.tolist(), close.tolist(), strict=True):
        for indicator in of_close:
            indicator.update_raw(last)
        for indicator in of_range:
            indicator.update_raw(top, bottom, last)
        channel.update_raw(top, bottom)
        directional.update_raw(top, bottom)
    took_us = (time.perf_counter() - start) / bars * 1e6
    count = len(of_close) + len(of_range) + 2
    print(f"NautilusTrader {nautilus_trader.__version__}, {count} indicators {took_us:10.1f} µs a bar")


def main() -> None:
    trades = np.load(sys.argv[1])
    for peer, call in (("hftbacktest", partial(hftbacktest, trades)), ("NautilusTrader", nautilus)):
        try:
            call()
        except ImportError as missing:
            print(f"{peer} is not installed in {sys.executable} ({missing})")


if __name__ == "__main__":
    main()
