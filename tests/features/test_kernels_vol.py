import numpy as np
import pytest
from kernel_driver import NS, Drive, bars_of, calendar, damage, random_trades, same_however_asked

from mia_daemon.features.kernels import vol

START = int(calendar()[0, 0])
LAGS = (1, 5, 15, 30, 60, 300, 900, 3600)
HORIZONS = {"30s": 30, "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "60m": 3600}
NAMES = [
    *(f"ret_{h}" for h in LAGS),
    *(f"rv_{h}" for h in HORIZONS),
    *(f"{kind}_{h}" for kind in ("bpv", "up", "dn", "jump") for h in ("1m", "5m", "15m", "60m")),
    *(f"{kind}_{h}" for kind in ("skew", "kurt") for h in ("5m", "15m", "60m")),
    *(f"{kind}_{h}" for kind in ("parkinson", "gk") for h in (60, 300, 900)),
    "ratio_1m_15m",
    "ratio_5m_60m",
    "ratio_15m_day",
]


def second_mids(trades, until_second: int) -> np.ndarray:
    """Mid at the end of each whole second from the first trade's, by searching."""
    seconds = np.arange(trades.t[0] // NS, until_second)
    mids = trades.price - trades.side * 0.125
    return mids[np.searchsorted(trades.t, (seconds + 1) * NS, side="left") - 1]


def weighted(x: np.ndarray, h: float) -> float:
    """Mean with weights exp(-age / h), age in seconds back from the newest."""
    w = np.exp(-np.arange(len(x))[::-1] / h)
    return float((w * x).sum() / w.sum())


def expected(trades) -> dict[str, float]:
    second = int(trades.t[-1] // NS)
    logs = np.log(second_mids(trades, second))
    r = np.diff(logs)
    mid_now = trades.price[-1] - trades.side[-1] * 0.125
    values = {f"ret_{h}": np.log(mid_now) - logs[-1 - h] if len(logs) > h else 0.0 for h in LAGS}
    m2 = {name: weighted(r**2, h) for name, h in HORIZONS.items()}
    for name, h in HORIZONS.items():
        values[f"rv_{name}"] = np.sqrt(h * m2[name])
    for name in ("1m", "5m", "15m", "60m"):
        h = HORIZONS[name]
        values[f"bpv_{name}"] = np.pi / 2 * h * weighted(np.abs(r[1:] * r[:-1]), h)
        values[f"up_{name}"] = h * weighted(np.where(r > 0, r**2, 0), h)
        values[f"dn_{name}"] = h * weighted(np.where(r < 0, r**2, 0), h)
        values[f"jump_{name}"] = max(0.0, 1 - values[f"bpv_{name}"] / (h * m2[name]))
        values[f"skew_{name}"] = weighted(r**3, h) / m2[name] ** 1.5
        values[f"kurt_{name}"] = weighted(r**4, h) / m2[name] ** 2
    for period in (60, 300, 900):
        b = bars_of(trades, period)
        closed = b["start"] + period <= second
        if closed.any():
            span = np.log(b["high"] / b["low"])[closed]
            move = np.log(b["close"] / b["open"])[closed]
            values[f"parkinson_{period}"] = np.sqrt(weighted(span**2 / (4 * np.log(2)), 1.0))
            values[f"gk_{period}"] = weighted(0.5 * span**2 - (2 * np.log(2) - 1) * move**2, 1.0)
    values["ratio_1m_15m"] = 0.5 * np.log(m2["1m"] / m2["15m"])
    values["ratio_5m_60m"] = 0.5 * np.log(m2["5m"] / m2["60m"])
    values["ratio_15m_day"] = 0.5 * np.log(m2["15m"] / np.mean(r**2))
    return values


@pytest.mark.parametrize("n", [400, 3000, 14000])
def test_every_value_equals_its_recomputation_from_all_trades(n):
    trades = random_trades(START, 4 * 3600, 14000).head(n)
    drive = Drive(vol)
    drive.trades(trades)
    want = expected(trades)
    np.testing.assert_allclose(drive.own(), [want.get(name, 0.0) for name in NAMES], rtol=1e-9, atol=1e-13)


def test_neutral_until_enough_seconds_are_known():
    drive = Drive(vol)
    drive.trades(random_trades(START, 20, 50))
    values = drive.own()
    assert values[:3].any()
    np.testing.assert_array_equal(values[8:], vol.NEUTRAL[8:])


def test_a_market_at_rest_has_no_volatility():
    drive = Drive(vol)
    for minute in range(90):
        drive.trade(START + minute * 60 * NS, 15000.0, 1, 1)
    np.testing.assert_array_equal(drive.own(), vol.NEUTRAL)


def test_a_long_silence_starts_the_windows_anew():
    drive = Drive(vol)
    drive.trades(random_trades(START, 2 * 3600, 3000))
    drive.trade(START + 6 * 3600 * NS, 15100.0, 1, 1)
    values = drive.own()
    np.testing.assert_array_equal(np.r_[values[:36], values[42:]], np.r_[vol.NEUTRAL[:36], vol.NEUTRAL[42:]])
    assert (values[36:42] > 0).all()  # bars run on


def test_the_day_restarts_its_own_mean_only():
    drive = Drive(vol)
    trades = random_trades(START + 22 * 3600 * NS, 4 * 3600, 9000)
    drive.trades(trades)  # the second day opens two hours in
    second = int(trades.t[-1] // NS)
    logs = np.log(second_mids(trades, second))
    first = trades.t[np.searchsorted(trades.t, drive.cal[1, 0])] // NS - trades.t[0] // NS
    r = np.diff(logs)
    day = np.mean(r[first - 1 :] ** 2)
    assert drive.own()[44] == pytest.approx(0.5 * np.log(weighted(r**2, 900) / day))


def test_nothing_depends_on_when_it_is_asked_or_on_what_comes_later():
    same_however_asked(vol, random_trades(START, 3 * 3600, 3000))


def test_damaged_numbers_never_reach_the_values():
    damage(Drive(vol))
