import numpy as np
import pytest
import talib
from kernel_driver import NS, Drive, Trades, bars_of, calendar, damage, random_trades, same_however_asked

from mia_daemon.features.kernels import market, ta

START = int(calendar()[0, 0])
PERIODS = (60, 300, 900)


def talib_outputs(b: dict[str, np.ndarray], tick: float) -> np.ndarray:
    """The 18 of one timeframe after each bar, NaN before talib's first output: float64 (bars, 18)."""
    high, low, close, volume = (b[name].astype(float) for name in ("high", "low", "close", "volume"))
    n = np.arange(len(close))
    atr = talib.ATR(high, low, close, 14)
    tr = np.r_[high[0] - low[0], talib.TRANGE(high, low, close)[1:]]
    atr = np.where(n < 14, np.maximum(tr.cumsum() / (n + 1), tick), atr)
    divisor = np.maximum(atr, tick)
    macd, _, histogram = talib.MACD(close)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    k, d = talib.STOCH(high, low, close)
    highest, lowest = talib.MAX(high, 20), talib.MIN(low, 20)
    ema = {p: talib.EMA(close, p) for p in (9, 21, 50)}
    obv = talib.LINEARREG_SLOPE(talib.OBV(close, volume), 14) / talib.SMA(volume, 14)
    with np.errstate(all="ignore"):
        columns = [
            talib.RSI(close, 14),
            macd / divisor,
            histogram,
            atr,
            talib.ADX(high, low, close, 14),
            talib.PLUS_DI(high, low, close, 14) - talib.MINUS_DI(high, low, close, 14),
            (close - lower) / (upper - lower),
            (upper - lower) / middle,
            k,
            d,
            talib.CCI(high, low, close, 20),
            talib.MFI(high, low, close, volume, 14),
            talib.ROC(close, 10),
            (ema[9] - ema[21]) / divisor,
            (ema[21] - ema[50]) / divisor,
            (close - lowest) / (highest - lowest),
            talib.AROONOSC(high, low, 25),
            obv,
        ]
    return np.stack(columns, axis=1)


def ours(trades: Trades, tick: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Values at the first trade of each minute and M_ATR there; row i is what was known after i closed minutes."""
    drive = Drive(ta, tick=tick, cal=calendar(str(np.datetime64(int(trades.t[0]) // NS, "s"))[:10], 90))
    minute = trades.t // NS // 60
    first = np.r_[True, minute[1:] != minute[:-1]]
    rows, atr = [], []
    for i in range(len(trades)):
        drive.trade(int(trades.t[i]), trades.price[i], trades.size[i], trades.side[i])
        if first[i]:
            rows.append(drive.own())
            atr.append(drive.m[market.M_ATR])
    return np.array(rows), np.array(atr)


def compare(trades: Trades, tick: float = 0.25, tolerance: float = 1e-9) -> None:
    rows, atr = ours(trades, tick)
    minutes = bars_of(trades, 60)["start"]
    for k, period in enumerate(PERIODS):
        b = bars_of(trades, period)
        expected = talib_outputs(b, tick)
        closed = np.searchsorted(b["start"] + period, minutes, side="right")  # bars closed by each minute's first trade
        got = rows[closed > 0, 18 * k : 18 * (k + 1)]
        want = expected[closed[closed > 0] - 1]
        neutral = np.broadcast_to(ta.NEUTRAL[18 * k : 18 * (k + 1)], want.shape)
        want = np.where(np.isnan(want), neutral, want)
        for j in range(18):
            np.testing.assert_allclose(
                got[:, j], want[:, j], rtol=tolerance, atol=tolerance, err_msg=f"{period} s, output {j}"
            )
        if k == 0:
            np.testing.assert_allclose(atr[1:], want[:, 3], rtol=1e-12)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_indicator_equals_talib_on_random_bars(seed):
    compare(random_trades(START, 70 * 900, 9000, seed, step_ticks=4.0))


def test_silent_minutes_make_no_bar():
    trades = random_trades(START, 70 * 900, 1500, 5, step_ticks=8.0)
    assert len(bars_of(trades, 60)["start"]) < 850  # of 1050 minutes
    compare(trades)


def test_bars_run_on_over_a_long_silence():
    a, b = (random_trades(START + hours * 3600 * NS, 90 * 60, 2000, hours, step_ticks=4.0) for hours in (1, 9))
    compare(Trades(*(np.concatenate(pair) for pair in zip(vars(a).values(), vars(b).values(), strict=True))))


def test_every_indicator_equals_talib_on_real_trades(mnq_scid):
    records = np.fromfile(
        mnq_scid,
        np.dtype([("t", "<i8"), ("ohlc", "<f4", 4), ("n", "<u4"), ("v", "<u4"), ("bid", "<u4"), ("ask", "<u4")]),
        offset=56,
    )
    assert len(records) == 48_737
    records = records[-20_000:]
    t = (records["t"] - 25569 * 86_400_000_000) * 1000
    keep = np.r_[True, np.diff(t) >= 0]
    trades = Trades(
        t[keep],
        records["ohlc"][keep, 3].astype(float),
        records["v"][keep].astype(float),
        np.where(records["ask"][keep] > 0, 1.0, -1.0),
    )
    # talib keeps running sums of squares of five-digit prices, which costs it digits where a window is nearly flat
    compare(trades, tolerance=1e-6)


def test_before_its_15th_bar_atr_is_the_mean_true_range_and_never_below_a_tick():
    drive = Drive(ta)
    drive.trade(START, 15000.0, 1, 1)
    assert drive.m[market.M_ATR] == 0.0
    drive.at(START + 60 * NS)
    assert drive.m[market.M_ATR] == 0.25
    drive.trade(START + 61 * NS, 15010.0, 1, 1)
    drive.at(START + 120 * NS)
    assert drive.m[market.M_ATR] == pytest.approx(5.0)
    assert drive.own()[3] == drive.m[market.M_ATR]


def test_a_flat_market_gives_no_division_by_zero():
    drive = Drive(ta)
    for minute in range(1000):
        drive.trade(START + minute * 60 * NS, 15000.0, 1, 1)
    values = drive.own()
    assert np.isfinite(values).all()
    assert values[3] == 0.0 or values[3] >= 0.25


def test_nothing_depends_on_when_it_is_asked_or_on_what_comes_later():
    same_however_asked(ta, random_trades(START, 4 * 3600, 3000))


def test_damaged_numbers_never_reach_the_values():
    damage(Drive(ta))
