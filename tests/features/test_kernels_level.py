import math

import numpy as np
import pytest
from kernel_driver import NS, Drive, Trades, calendar, damage, random_trades, same_however_asked

from mia_daemon.features.kernels import level, market

CAL = calendar(days=8)
TICK = 0.25
MINUTE = 60 * NS
ATR = 5.0


def drive_to(trades: Trades) -> Drive:
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = ATR
    drive.trades(trades)
    return drive


def part(trades: Trades, start: int, end: int) -> Trades:
    keep = (trades.t >= start) & (trades.t < end)
    return Trades(trades.t[keep], trades.price[keep], trades.size[keep], trades.side[keep])


def profile(trades: Trades) -> tuple[np.ndarray, np.ndarray]:
    """Every tick from low to high and its volume."""
    ticks = np.rint(trades.price / TICK).astype(int)
    low, high = ticks.min(), ticks.max()
    volume, _ = np.histogram(ticks, bins=np.arange(low, high + 2), weights=trades.size)
    return np.arange(low, high + 1), volume


def value_area(volume: np.ndarray, poc: int) -> tuple[int, int]:
    """Grown from the POC by the larger neighbour, by slices instead of running sums."""
    low = high = poc
    while volume[low : high + 1].sum() < 0.7 * volume.sum():
        above = volume[high + 1] if high + 1 < len(volume) else -1
        below = volume[low - 1] if low > 0 else -1
        low, high = (low, high + 1) if above >= below else (low - 1, high)
    return low, high


def vwap(trades: Trades) -> tuple[float, float]:
    mean = np.average(trades.price, weights=trades.size)
    return float(mean), float(math.sqrt(np.average((trades.price - mean) ** 2, weights=trades.size)))


def nodes(ticks: np.ndarray, volume: np.ndarray, sign: int) -> np.ndarray:
    """The ticks that are high (1) or low (-1) volume nodes."""
    reach = level.NODE
    inside = range(reach, len(ticks) - reach)
    return ticks[[i for i in inside if sign * volume[i] == (sign * volume[i - reach : i + reach + 1]).max()]]


def nearest(distances: np.ndarray) -> float:
    """The smallest of those above 0, in ticks."""
    return min([d for d in distances.tolist() if d > 0] + [float(level.REACH)])


def expected(trades: Trades) -> dict[str, float]:
    """All of the family at the last trade, from all trades."""
    now = int(trades.t[-1])
    mid = trades.price[-1] - trades.side[-1] * TICK / 2
    row = int(np.searchsorted(CAL[:, 0], now, side="right")) - 1
    days = [part(trades, day[0], day[1]) for day in CAL[: row + 1]]
    day, before = days[row], days[row - 1]
    opened, rth_open, rth_close = int(CAL[row, 0]), int(CAL[row, 2]), int(CAL[row, 3])
    dist = lambda price: (mid - price) / ATR  # noqa: E731

    def levels(trades: Trades) -> tuple[float, float, float]:
        ticks, volume = profile(trades)
        assert (volume == volume.max()).sum() == 1, "a tie: choose another seed"
        low, high = value_area(volume, int(volume.argmax()))
        return ticks[volume.argmax()] * TICK, ticks[high] * TICK, ticks[low] * TICK

    mean, sd = vwap(day)
    v: dict[str, float] = {"vwap_dist_sd": (mid - mean) / max(sd, TICK), "vwap_sd_width": sd / ATR}
    second = now // NS
    if second - day.t[0] // NS > 900:
        newest = vwap(part(day, opened, second * NS))[0]
        v["vwap_slope"] = (newest - vwap(part(day, opened, (second - 900) * NS))[0]) / ATR
    rth = part(day, rth_open, rth_close)
    v["vwap_rth"] = dist(vwap(rth)[0]) if len(rth) else 0.0
    v["vwap_week"] = dist(vwap(part(trades, CAL[row // 5 * 5, 0], now + 1))[0])
    v["vwap_prev"] = dist(vwap(before)[0])
    poc, vah, val = levels(day)
    v |= {"poc": dist(poc), "vah": dist(vah), "val": dist(val), "in_va": float(val <= mid <= vah)}
    v["va_width"] = (vah - val) / ATR
    if second - day.t[0] // NS > 1800:
        newest, older = (levels(part(day, opened, (second - s) * NS))[0] for s in (0, 1800))
        v["poc_migration"] = (newest - older) / ATR
    ticks, volume = profile(day)
    for name, sign in (("hvn", 1), ("lvn", -1)):
        found = nodes(ticks, volume, sign)
        v[f"{name}_up"], v[f"{name}_dn"] = nearest(found - mid / TICK), nearest(mid / TICK - found)
    high, low = day.price.max(), day.price.min()
    v["skew"] = (poc - (high + low) / 2) / (high - low)
    v["at_price"] = volume[round(day.price[-1] / TICK) - ticks[0]] / volume.max()
    v |= dict(zip(("ppoc", "pvah", "pval"), map(dist, levels(before)), strict=True))
    v |= {"high": dist(high), "low": dist(low)}
    p_high, p_low = before.price.max(), before.price.min()
    settle = part(before, 0, int(CAL[row - 1, 3]) - 15 * MINUTE).price[-1]
    v |= {"p_high": dist(p_high), "p_low": dist(p_low), "settle": dist(settle)}
    night = part(day, opened, rth_open)
    v |= {"on_high": dist(night.price.max()), "on_low": dist(night.price.min())}
    v["gap"] = (rth.price[0] - settle) / ATR if len(rth) else 0.0
    for minutes in (5, 15, 30, 60):
        opening = part(rth, rth_open, rth_open + minutes * MINUTE).price
        v[f"or{minutes}_hi"] = dist(opening.max()) if len(opening) else 0.0
        v[f"or{minutes}_lo"] = dist(opening.min()) if len(opening) else 0.0
    ranges = [np.ptp(d.price) for d in days[:-1]]
    width = np.ptp(opening) if len(opening) else 0.0
    v["ib_width"] = width / np.mean(ranges)
    beyond = max(mid - opening.max(), 0) + min(mid - opening.min(), 0) if len(opening) else 0.0
    v["ib_ext"] = beyond / width if len(opening) and now >= rth_open + 60 * MINUTE else 0.0
    pivot = (p_high + p_low + settle) / 3
    v |= {"pivot": dist(pivot), "r1": dist(2 * pivot - p_low), "s1": dist(2 * pivot - p_high)}
    v["round"] = dist(25 * math.floor(mid / 25 + 0.5))
    return v


NAMES = (
    *("vwap_dist_sd", "vwap_sd_width", "vwap_slope", "vwap_rth", "vwap_week", "vwap_prev"),
    *("poc", "vah", "val", "in_va", "va_width", "poc_migration", "hvn_up", "hvn_dn", "lvn_up", "lvn_dn"),
    *(
        "skew",
        "at_price",
        "ppoc",
        "pvah",
        "pval",
        "high",
        "low",
        "p_high",
        "p_low",
        "settle",
        "on_high",
        "on_low",
        "gap",
    ),
    *("or5_hi", "or5_lo", "or15_hi", "or15_lo", "or30_hi", "or30_lo", "or60_hi", "or60_lo", "ib_width", "ib_ext"),
    *("pivot", "r1", "s1", "round"),
)


@pytest.fixture(scope="module")
def week() -> Trades:
    """Seven trading days, a weekend among them, each walking on from the day before."""
    days, last = [], 15000.0
    for i, row in enumerate(CAL[:7]):
        day = random_trades(int(row[0]) + NS, 82_000, 2500, seed=40 + i, step_ticks=2.0)
        day.price += last - 15000.0
        last = day.price[-1]
        days.append(day)
    return Trades(*(np.concatenate(columns) for columns in zip(*(vars(d).values() for d in days), strict=True)))


MOMENTS = [(1, 0.2), (1, 9.0), (1, 15.55), (1, 15.7), (2, 15.9), (2, 18.0), (3, 22.7), (4, 20.0), (6, 16.4), (6, 21.0)]


@pytest.fixture(scope="module")
def seen(week) -> dict[tuple[int, float], tuple[Trades, np.ndarray]]:
    """One drive through the week: what had traded by each moment and what the family said."""
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = ATR
    found, done = {}, 0
    for day, hours in MOMENTS:
        until = int(np.searchsorted(week.t, CAL[day, 0] + int(hours * 3600) * NS))
        drive.trades(Trades(*(column[done:until] for column in vars(week).values())))
        found[day, hours] = week.head(until), drive.own()
        done = until
    return found


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_level_equals_its_recomputation_from_all_trades(seen, moment):
    trades, got = seen[moment]
    want = expected(trades)
    np.testing.assert_allclose(got, [want.get(name, 0.0) for name in NAMES], rtol=1e-8, atol=1e-8)


def test_a_prior_day_that_was_missed_leaves_its_levels_neutral(week):
    with_hole = Trades(
        *(
            np.concatenate([getattr(part(week, 0, CAL[0, 1]), f), getattr(part(week, CAL[2, 0], CAL[2, 1]), f)])
            for f in ("t", "price", "size", "side")
        )
    )
    values = dict(zip(NAMES, drive_to(with_hole).own(), strict=True))
    names = ("vwap_prev", "ppoc", "pvah", "pval", "p_high", "p_low", "settle", "gap", "pivot", "r1", "s1")
    assert [values[name] for name in names] == [0.0] * len(names)
    assert values["ib_width"] != 0.0  # the average range remembers any day


def test_a_half_day_settles_at_its_early_close():
    cal = CAL.copy()
    close = int(cal[0, 2]) + 210 * MINUTE  # 12:00
    cal[0, [1, 3, 5]] = close, close, 1
    drive = Drive(level, cal=cal)
    drive.m[market.M_ATR] = ATR
    for minutes, price in ((-20, 15000.0), (-10, 15010.0), (-1, 15020.0)):
        drive.trade(close + minutes * MINUTE, price, 1, 0)
    drive.trade(int(cal[1, 0]) + NS, 15020.0, 1, 0)
    assert drive.own()[NAMES.index("settle")] == 0.0  # at 15020, the last before 12:00
    assert drive.own()[NAMES.index("p_low")] == (15020.0 - 15000.0) / ATR


def test_neutral_without_a_calendar_row_or_atr():
    before = Drive(level, cal=CAL)
    before.m[market.M_ATR] = ATR
    before.trade(int(CAL[0, 0]) - NS, 15010.0, 5, 1)
    np.testing.assert_array_equal(before.own(), level.NEUTRAL)
    cold = Drive(level, cal=CAL)
    cold.trade(int(CAL[0, 0]) + NS, 15010.0, 5, 1)
    np.testing.assert_array_equal(cold.own(), level.NEUTRAL)


@pytest.mark.parametrize("direction", [1, -1])
def test_the_profile_follows_a_price_that_leaves_it(direction):
    """From one end of the window to beyond the other: what still fits is kept to the contract."""
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = ATR
    t = int(CAL[0, 0]) + NS
    prices = 15000.0 + direction * np.arange(0, 3600, 0.5)
    sizes = np.random.default_rng(2).integers(1, 50, len(prices)).astype(float)
    sizes[300] = 99.0
    for i, (price, size) in enumerate(zip(prices, sizes, strict=True)):
        drive.trade(t + i * NS, price, size, 0)
    values = dict(zip(NAMES, drive.own(), strict=True))
    trades = Trades(np.full(len(prices), t), prices, sizes, np.zeros(len(prices)))
    ticks, volume = profile(trades)
    poc = int(volume.argmax())
    low, high = value_area(volume, poc)
    got = [values["poc"], values["vah"], values["val"]]
    np.testing.assert_allclose(got, [(prices[-1] - ticks[i] * TICK) / ATR for i in (poc, high, low)])
    drive.trade(t + 5 * 3600 * NS, 15000.0 - direction * 3000.0, 1000.0, 0)  # more than the window can hold
    state = drive.states[0]
    assert dict(zip(NAMES, drive.own(), strict=True))["poc"] == 0.0
    held = state[level._HIST : level._HIST + level._BINS]
    assert held.sum() == state[level._TOTAL] < sizes.sum() + 1000.0
    drive.trade(int(CAL[1, 0]) + NS, 15000.0, 1.0, 0)
    assert state[level._HIST : level._HIST + level._BINS].sum() == 1.0


@pytest.mark.parametrize("jump", [-50_000, -20_000, 20_000, 50_000])
def test_a_profile_that_the_price_leaves_by_more_than_its_window_begins_again(jump):
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = ATR
    drive.trade(int(CAL[0, 0]) + NS, 0.0, 5, 0)
    drive.trade(drive.t + NS, jump * TICK, 3, 0)
    drive.trade(drive.t + NS, jump * TICK, 2, 0)
    values = dict(zip(NAMES, drive.own(), strict=True))
    assert (values["poc"], values["vah"], values["val"], values["at_price"]) == (0, 0, 0, 1)
    assert drive.states[0][level._TOTAL] == 5


def test_the_first_price_to_reach_the_largest_volume_is_the_point_of_control():
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = ATR
    for i, price in enumerate((15000.0, 15001.0)):
        drive.trade(int(CAL[0, 0]) + i * NS, price, 5, 0)
    assert drive.own()[NAMES.index("poc")] == 1.0 / ATR


def profile_with_nodes(high: float, low: float) -> Drive:
    """Volume that grows by a contract a tick over 20 points, but for a peak at `high` and a hole at `low`."""
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = ATR
    for i, price in enumerate(np.arange(14_990.0, 15_010.25, TICK).tolist()):
        drive.trade(int(CAL[0, 0]) + i * NS, price, {high: 500.0, low: 1.0}.get(price, 100.0 + i), 0)
    return drive


@pytest.mark.parametrize("spread", [1, 2, 3])
def test_a_node_at_the_ask_or_at_the_bid_is_half_a_spread_away(spread):
    bid, ask = 15_000.0, 15_000.0 + spread * TICK  # of an odd spread the mid lies between two ticks
    for high, low in ((ask, bid), (bid, ask)):
        drive = profile_with_nodes(high, low)
        drive.quote(drive.t + NS, bid, ask)
        values = dict(zip(NAMES, drive.own(), strict=True))
        assert values["hvn_up" if high == ask else "hvn_dn"] == spread / 2
        assert values["lvn_up" if low == ask else "lvn_dn"] == spread / 2
        assert values["hvn_dn" if high == ask else "hvn_up"] == level.REACH
        assert values["lvn_dn" if low == ask else "lvn_up"] == level.REACH


def test_a_node_at_the_mid_is_neither_above_nor_below():
    drive = profile_with_nodes(15_000.0, 15_003.0)
    drive.quote(drive.t + NS, 15_000.0 - TICK, 15_000.0 + TICK)
    values = dict(zip(NAMES, drive.own(), strict=True))
    assert (values["hvn_up"], values["hvn_dn"], values["lvn_up"]) == (level.REACH, level.REACH, 12)


def test_nothing_depends_on_when_it_is_asked_or_on_what_comes_later():
    same_however_asked(level, random_trades(int(CAL[0, 0]), 20 * 3600, 3000, step_ticks=2.0))


def test_damaged_numbers_never_reach_the_values():
    drive = Drive(level, cal=CAL)
    drive.m[market.M_ATR] = 1e-300
    damage(drive)
