"""The microstructure families against numpy, recomputed from the raw events at every decision."""

import functools
from dataclasses import dataclass

import numpy as np
import pytest
from numba import njit

from mia_daemon.features.catalogue import index
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.kernels import bar, cplx, cross, engine, flow, level, liq, market, ta, vol
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EventFlag, EventKind, empty_events

S = 1_000_000_000
START = 1_700_000_003 * S + 123_456_789
TICK = 0.25
OFFSETS = {
    flow: slice(engine.FLOW0, engine.VOL0),
    vol: slice(engine.VOL0, engine.LIQ0),
    liq: slice(engine.LIQ0, engine.CPLX0),
    cplx: slice(engine.CPLX0, engine.TA0),
    ta: slice(engine.TA0, engine.BAR0),
    bar: slice(engine.BAR0, engine.LEVEL0),
    level: slice(engine.LEVEL0, engine.CROSS0),
    cross: slice(engine.CROSS0, engine.DQ0),
}
FAMILIES = list(OFFSETS)  # those with on_second
SUFFIX = {1: "1s", 5: "5s", 10: "10s", 30: "30s", 60: "1m", 120: "2m", 300: "5m", 600: "10m", 900: "15m", 3600: "60m"}


def stream(n=4000, seed=11):
    """Quotes with sizes and trades of the traded symbol, quotes of the reference; bursts, pauses, unknown sides."""
    rng = np.random.default_rng(seed)
    rows = empty_events(n)
    gaps = rng.exponential(0.3, n) * rng.choice([0.0002, 1.0, 80.0], n, p=[0.35, 0.64, 0.01])
    rows["ts_ns"] = START + (gaps.cumsum() * S).astype(np.int64)
    rows["recv_ns"] = rows["ts_ns"] + rng.integers(100_000, 9_000_000, n)
    rows["symbol"] = rng.random(n) < 0.15
    quote = (rng.random(n) < 0.55) | (rows["symbol"] == 1)
    rows["kind"] = np.where(quote, EventKind.QUOTE, EventKind.TRADE)
    common = rng.normal(size=n).cumsum() * 0.4
    mid = 24_000 + np.rint(common + rng.normal(size=n).cumsum() * 0.3)
    other = 60_000 + np.rint(3 * common)
    tick = np.where(rows["symbol"] == 1, other, mid)
    rows["bid"] = np.where(quote, TICK * (tick - rng.choice([1, 1, 1, 2], n)), np.nan)
    rows["ask"] = np.where(quote, TICK * tick, np.nan)
    rows["bid_size"], rows["ask_size"] = np.where(quote, rng.integers(1, 60, (2, n)), 0)
    rows["bid_size"][quote & (rng.random(n) < 0.03)] = 0  # a size that is not told
    repeat = np.flatnonzero(quote & (rng.random(n) < 0.2))  # the touch again, perhaps refilled
    for i in repeat:
        before = np.flatnonzero(quote[:i] & (rows["symbol"][:i] == rows["symbol"][i]))
        if before.size:
            rows["bid"][i], rows["ask"][i] = rows["bid"][before[-1]], rows["ask"][before[-1]]
    trade = rows["kind"] == EventKind.TRADE
    rows["side"] = np.where(trade, rng.choice([-1, 1, 1, 0], n, p=[0.45, 0.4, 0.1, 0.05]), 0)
    rows["size"] = np.where(trade, rng.integers(1, 40, n), 0)
    rows["count"] = np.where(trade, rng.integers(0, 4, n), 0)
    rows["flags"] = np.where(trade, rng.choice([0, 1, 2], n, p=[0.8, 0.1, 0.1]), 0)
    bid, ask = filled(rows, "bid"), filled(rows, "ask")
    step = rng.choice([0, 0, 0, 1, 2], n) * TICK
    rows["price"] = np.where(trade, np.where(rows["side"] < 0, bid - step, ask + step), np.nan)
    rows["price"][trade & np.isnan(bid)] = 6000.0
    return rows


def filled(rows, name):
    """The traded symbol's newest quote of `name` at each row, NaN before the first."""
    quotes = np.flatnonzero((rows["kind"] == EventKind.QUOTE) & (rows["symbol"] == 0))
    place = np.searchsorted(quotes, np.arange(len(rows)), side="right") - 1
    return np.where(place >= 0, rows[name][quotes[np.maximum(place, 0)]], np.nan)


@dataclass
class Decided:
    end: int  # events up to here have been applied
    ts_ns: int
    values: np.ndarray

    def __getitem__(self, name):
        return float(self.values[index(name)])


def decide(events, interval_s=3.7, symbol="ESZ26_FUT_CME"):
    made = FeaturePipeline(instrument(symbol), interval_s, None, 0.0)
    windows = made.push(events, 0)
    ends = np.cumsum([len(w.events) for w in windows])
    assert made.not_finite == 0
    return [Decided(int(end), w.ts_ns, w.values) for end, w in zip(ends, windows, strict=True) if w.due]


EVENTS = stream()
DECIDED = decide(EVENTS)
SOME = DECIDED[3::5]


def near(got, want, what="", rtol=2e-5, atol=2e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=str(what))


class Past:
    """What the raw events say up to one decision."""

    def __init__(self, decided, events=EVENTS):
        self.now = (decided.ts_ns - START) / S
        rows = events[: decided.end]
        self.rows = rows
        self.t = (rows["ts_ns"] - START) / S
        ours = rows["symbol"] == 0
        self.quote = np.flatnonzero(ours & (rows["kind"] == EventKind.QUOTE))
        self.trade = np.flatnonzero(ours & (rows["kind"] == EventKind.TRADE))
        self.bid, self.ask = filled(rows, "bid"), filled(rows, "ask")
        self.qb, self.qa = filled(rows, "bid_size"), filled(rows, "ask_size")
        self.last = rows["price"][self.trade]
        self.mid = 0.5 * (self.bid + self.ask)
        first = self.trade[0]
        self.mid = np.where(np.isnan(self.mid) & (np.arange(len(rows)) >= first), 6000.0, self.mid)
        self.size = rows["size"][self.trade].astype(float)
        self.count = np.maximum(rows["count"][self.trade], 1)
        self.side = self.sides()

    def sides(self):
        sides = []
        for k, i in enumerate(self.trade):
            told, price = self.rows["side"][i], self.rows["price"][i]
            if told:
                sides.append(told)
            elif price >= self.ask[i]:
                sides.append(1)
            elif price <= self.bid[i]:
                sides.append(-1)
            elif k == 0:
                sides.append(0)
            else:
                before = self.last[k - 1]
                sides.append(np.sign(price - before) or sides[-1])
        return np.array(sides, float)

    def weights(self, events, h):
        return np.exp(-(self.now - self.t[events]) / h)

    def sized(self):
        """Pairs of consecutive quotes, the later ones' indices, where both sizes of both are known."""
        old, new = self.quote[:-1], self.quote[1:]
        rows = self.rows
        known = np.ones(len(new), bool)
        for i in (old, new):
            known &= (rows["bid_size"][i] > 0) & (rows["ask_size"][i] > 0)
        return old[known], new[known]

    def seconds(self):
        """Whole seconds that have ended: number, mids at their ends, signed volume, volume, root flow, trades."""
        second = (self.rows["ts_ns"] // S).astype(int)
        first, last = second[0], second[-1] - 1
        n = last - first + 1
        ends = np.searchsorted(second, np.arange(first, last + 1), side="right") - 1
        mids = self.mid[ends]
        signed, volume, root = np.zeros(n), np.zeros(n), np.zeros(n)
        at = second[self.trade] - first
        inside = at < n
        np.add.at(signed, at[inside], (self.side * self.size)[inside])
        np.add.at(volume, at[inside], (np.abs(self.side) * self.size)[inside])
        np.add.at(root, at[inside], (self.side * np.sqrt(self.last * self.size))[inside])
        moved = np.zeros(n)
        moved[1:] = np.nan_to_num(np.diff(mids))
        return mids, signed, volume, root, moved

    def ages(self, n):
        return np.arange(n - 1, -1, -1)


PASTS = [Past(decided) for decided in SOME]
BOTH = list(zip(SOME, PASTS, strict=True))


def imbalance(rows, old, new):
    b, qb, a, qa = (rows[name][new] for name in ("bid", "bid_size", "ask", "ask_size"))
    b0, qb0, a0, qa0 = (rows[name][old] for name in ("bid", "bid_size", "ask", "ask_size"))
    return (b >= b0) * qb - (b <= b0) * qb0 - (a <= a0) * qa + (a >= a0) * qa0


def weighted_mean(x, w):
    return np.sum(w * x) / np.sum(w)


def slope(x, y, w):
    mx, my = weighted_mean(x, w), weighted_mean(y, w)
    variance = weighted_mean((x - mx) ** 2, w)
    return weighted_mean((x - mx) * (y - my), w) / variance if variance > 1e-9 else 0.0


def test_there_is_something_to_compare():
    assert len(SOME) > 40
    assert len({d["sweep_buy_10s"] for d in DECIDED}) > 20
    assert len({d["iceberg_10s"] for d in DECIDED}) > 20
    assert DECIDED[-1]["vpin_200"] > 0


def test_l1_state():
    for d, p in BOTH:
        bid, ask, qb, qa = p.bid[-1], p.ask[-1], p.qb[-1], p.qa[-1]
        sized = qb > 0 and qa > 0
        imb = (qb - qa) / (qb + qa) if sized else 0
        near(d["spread_ticks"], (ask - bid) / TICK)
        near(d["l1_imb"], imb)
        near(d["wmid_dev_ticks"], (((bid * qa + ask * qb) / (qa + qb)) - p.mid[-1]) / TICK if sized else 0)
        near(d["micro_adj_ticks"], 0.5 * (ask - bid) / TICK * imb * abs(imb))
        near(d["bid_sz_log"], np.log1p(qb) if sized else 0)
        near(d["ask_sz_log"], np.log1p(qa) if sized else 0)
        near(d["last_vs_mid_ticks"], (p.last[-1] - p.mid[-1]) / TICK)
        near(d["last_side"], p.side[-1])
        near(d["last_size_log"], np.log1p(p.size[-1]))
        near(d["trade_age"], np.log1p(1e3 * (p.now - p.t[p.trade[-1]])), rtol=1e-4)
        quotes = p.rows[["bid", "ask", "bid_size", "ask_size"]][p.quote]
        changed = np.flatnonzero(quotes[1:] != quotes[:-1])
        since = p.quote[changed[-1] + 1] if changed.size else p.quote[0]
        near(d["quote_age"], np.log1p(1e3 * (p.now - p.t[since])), rtol=1e-4)
        signs = np.sign(np.diff(p.last))
        signs = signs[signs != 0]
        turns = np.flatnonzero(signs != signs[-1])
        run = len(signs) - (turns[-1] + 1 if turns.size else 0)
        near(d["tick_run"], signs[-1] * run)


def test_order_flow_imbalance():
    for d, p in BOTH:
        old, new = p.sized()
        e = imbalance(p.rows, old, new)
        told = p.quote[(p.qb[p.quote] > 0) & (p.qa[p.quote] > 0)]
        size = 0.5 * (p.qb[told] + p.qa[told])
        for h in (1, 5, 30, 120, 600):
            flow = np.sum(e * p.weights(new, h))
            near(d[f"ofi_l1_{SUFFIX[h]}"], flow, h, atol=1e-4)
            # weights relative to the newest quote, so that they can't vanish
            w = np.exp(-(p.t[told[-1]] - p.t[told]) / h)
            name = "ofi_score" if h == 30 else f"ofi_l1_norm_{SUFFIX[h]}"
            near(d[name], flow / weighted_mean(size, w), h, atol=1e-5)


def test_additions_and_cancellations_at_the_touch():  # noqa: C901  a plain loop over the events
    for d, p in BOTH:
        rows = p.rows
        kinds = {name: np.zeros(len(rows)) for name in ("add_bid", "add_ask", "cxl_bid", "cxl_ask")}
        sold = bought = 0.0
        sides = dict(zip(p.trade, p.side, strict=True))
        before = -1
        for i in range(len(rows)):
            if i in sides:
                sold += rows["size"][i] * (sides[i] < 0 and rows["price"][i] <= p.bid[i])
                bought += rows["size"][i] * (sides[i] > 0 and rows["price"][i] >= p.ask[i])
            if rows["kind"][i] != EventKind.QUOTE or rows["symbol"][i]:
                continue
            now_known = p.qb[i] > 0 and p.qa[i] > 0
            if before >= 0 and now_known and p.qb[before] > 0 and p.qa[before] > 0:
                for side, price, q, traded, better in (
                    ("bid", p.bid, p.qb, sold, 1),
                    ("ask", p.ask, p.qa, bought, -1),
                ):
                    move = better * (price[i] - price[before])
                    if move > 0:
                        change = q[i]
                    elif move < 0:
                        change = -max(q[before] - traded, 0)
                    else:
                        change = q[i] - (q[before] - traded)
                    kinds[f"add_{side}"][i] = max(change, 0)
                    kinds[f"cxl_{side}"][i] = max(-change, 0)
            if now_known:
                sold = bought = 0.0
            before = i
        told = p.quote[(p.qb[p.quote] > 0) & (p.qa[p.quote] > 0)]
        quotes = rows[["bid", "ask", "bid_size", "ask_size"]][p.quote]
        changed = p.quote[np.r_[True, quotes[1:] != quotes[:-1]]]
        for h, suffix in ((1, "1s"), (10, "10s"), (60, "60s")):
            w = np.exp(-(p.t[told[-1]] - p.t[told]) / h)
            size = weighted_mean(0.5 * (p.qb[told] + p.qa[told]), w)
            for name, amount in kinds.items():
                rate = np.sum(amount * p.weights(np.arange(len(rows)), h)) / h
                near(d[f"{name}_{suffix}"], rate / size, name)
            near(d[f"quote_rate_{suffix}"], np.sum(p.weights(changed, h)) / h)


def test_trade_flow():
    for d, p in BOTH:
        v, s, n = p.size, p.side, p.count
        buys, sells = s > 0, s < 0
        usual = np.sum(n * p.weights(p.trade, 3600)) / 3600
        usual /= 1 - np.exp(-max(p.now - p.t[p.trade[0]], 1) / 3600)
        for h in (1, 5, 30, 120, 600):
            w, name = p.weights(p.trade, h), SUFFIX[h]
            near(d[f"delta_{name}"], np.sum(w * s * v), h, atol=1e-4)
            near(d[f"large_delta_{name}"], np.sum(w * s * v * (v >= 10)), h, atol=1e-4)
            near(d[f"intensity_{name}"], np.sum(w * n) / h / usual, h)
            w = np.exp(-(p.t[p.trade[-1]] - p.t[p.trade]) / h)
            near(d[f"tfi_{name}"], np.sum(w * s * v) / np.sum(w * v * (s != 0)), h)
            near(d[f"avg_size_{name}"], np.sum(w * v) / np.sum(w * n), h)
            if min(np.sum(w * v * buys), np.sum(w * v * sells)) > 1e-6:
                gap = weighted_mean(p.last[buys], (w * v)[buys]) - weighted_mean(p.last[sells], (w * v)[sells])
                near(d[f"bs_vwap_gap_{name}"], gap / TICK, h, rtol=1e-4, atol=1e-3)
            else:
                assert d[f"bs_vwap_gap_{name}"] == 0
        near(d["cvd_session"], np.sum(s * v) / np.sum(v))


def test_cumulative_volume_delta():
    for d, p in BOTH:
        _, signed, _, _, moved = p.seconds()
        cvd = signed.cumsum()
        age = p.ages(len(cvd))
        for h in (60, 300, 900):
            w = np.exp(-age / h)
            fitted = np.polyfit(-age, cvd, 1, w=np.sqrt(w))[0]
            near(d[f"cvd_slope_{SUFFIX[h]}"], fitted, h, rtol=1e-4, atol=1e-5)
            z = 0.0
            for x, sign in ((signed, 1), (moved, -1)):
                mean = weighted_mean(x, w)
                z += sign * mean / np.sqrt(weighted_mean((x - mean) ** 2, w)) * np.sqrt(np.sum(w))
            near(d[f"cvd_price_div_{SUFFIX[h]}"], z, h, rtol=1e-4, atol=1e-4)


def test_sweeps_and_refills():  # noqa: C901  as above
    for d, p in BOTH:
        rows, t = p.rows, p.t
        sides = dict(zip(p.trade, p.side, strict=True))
        total = {1: 0.0, -1: 0.0}
        chain = []
        for i in p.trade:
            first = rows["flags"][i] & EventFlag.FIRST_SUBTRADE
            if chain and not first and sides[i] == sides[chain[-1]] != 0 and t[i] - t[chain[-1]] <= 0.001:
                step = (rows["price"][i] - rows["price"][chain[-1]]) * sides[i]
                levels = len({rows["price"][j] for j in chain})
                if step >= 0:
                    if step > 0 and levels == 1:
                        total[sides[i]] += np.exp(-(p.now - t[i]) / 10)
                    chain.append(i)
                    continue
            chain = [i]
        near(d["sweep_buy_10s"], total[1])
        near(d["sweep_sell_10s"], total[-1])
        refills = 0.0
        traded = {-1: 0.0, 1: 0.0}
        before = -1
        for i in range(len(rows)):
            if i in sides:
                hit = rows["price"][i] <= p.bid[i] if sides[i] < 0 else rows["price"][i] >= p.ask[i]
                if sides[i]:
                    traded[int(sides[i])] += rows["size"][i] * hit
            elif rows["symbol"][i] == 0:
                if p.qb[i] > 0 and p.qa[i] > 0:
                    for side, price, q in ((-1, p.bid, p.qb), (1, p.ask, p.qa)):
                        held = before >= 0 and price[i] == price[before] and 0 < q[before] <= q[i]
                        refills += (traded[side] > 0 and held) * np.exp(-(p.now - t[i]) / 10)
                        traded[side] = 0.0
                before = i
        near(d["iceberg_10s"], refills)


def test_price_impact():
    for d, p in BOTH:
        mids, signed, volume, root, moved = p.seconds()
        age = p.ages(len(mids))
        for h in (60, 300, 900, 3600):
            w = np.exp(-age / h)
            near(d[f"kyle_lambda_{SUFFIX[h]}"], slope(signed, moved / TICK, w), h, rtol=1e-4, atol=1e-6)
            if h < 3600:
                near(d[f"hasbrouck_lambda_{SUFFIX[h]}"], slope(root, moved / TICK, w), h, rtol=1e-4, atol=1e-6)
            with np.errstate(invalid="ignore", divide="ignore"):
                r = np.abs(np.diff(np.log(mids), prepend=np.nan)) / volume
            known = (volume > 0) & np.isfinite(r)
            w = np.exp(-(age - age[known][-1]) / h)
            near(d[f"amihud_{SUFFIX[h]}"], weighted_mean(1e6 * r[known], w[known]), h, rtol=1e-4)


def test_spreads():
    for d, p in BOTH:
        dp = np.diff(p.last) / TICK
        t = p.t[p.trade]
        for h in (60, 300, 900):
            w = np.exp(-(t[-1] - t[2:]) / h)
            x, y = dp[1:], dp[:-1]
            cov = weighted_mean(x * y, w) - weighted_mean(x, w) * weighted_mean(y, w)
            near(d[f"roll_{SUFFIX[h]}"], 2 * np.sqrt(max(0, -cov)), h, rtol=1e-4)
            known = ~np.isnan(p.bid[p.trade])
            w = np.exp(-(t[known][-1] - t[known]) / h)
            paid = 2 * p.side * (p.last - p.mid[p.trade]) / TICK
            near(d[f"eff_spread_{SUFFIX[h]}"], weighted_mean(paid[known], w), h)
        ours = p.rows["symbol"] == 0
        times, mids = p.t[ours], p.mid[ours]
        known &= (t + 5 <= p.now) & (p.side != 0)
        if not known.any():
            continue
        due = t[known] + 5
        later = mids[np.searchsorted(times, due, side="left") - 1]
        s, price, mid = p.side[known], p.last[known], p.mid[p.trade][known]
        for h in (60, 300):
            w = np.exp(-(due[-1] - due) / h)
            near(d[f"realised_spread5s_{SUFFIX[h]}"], weighted_mean(2 * s * (price - later) / TICK, w), h)
            near(d[f"impact5s_{SUFFIX[h]}"], weighted_mean(2 * s * (later - mid) / TICK, w), h)


@pytest.mark.parametrize("per_day", [50, 200])
def test_vpin(per_day):
    bucket = int(100_000 / per_day)
    for d, p in BOTH:
        contracts = np.repeat(p.side, p.size.astype(int))
        contracts = contracts[contracts != 0]
        full = len(contracts) // bucket
        imbalances = np.abs(contracts[: full * bucket].reshape(full, bucket).sum(axis=1))[-50:]
        near(d[f"vpin_{per_day}"], imbalances.mean() / bucket if full else 0)


def test_the_reference_symbol():
    for d, p in BOTH:
        rows = p.rows
        second = (rows["ts_ns"] // S).astype(int)
        quotes = np.flatnonzero(rows["symbol"] == 1)
        grid = np.arange(second[quotes[0]], second[-1])
        at = quotes[np.searchsorted(second[quotes], grid, side="right") - 1]
        theirs = np.log(0.5 * (rows["bid"] + rows["ask"])[at])
        ours = np.log(p.mid[np.searchsorted(second, grid, side="right") - 1])
        ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(ours)]
        y, x = np.diff(ours), np.diff(theirs)
        age = p.ages(len(x))
        beta = {}
        for h in (900, 3600):
            w = np.exp(-age / h)
            mx, my = weighted_mean(x, w), weighted_mean(y, w)
            beta[h] = weighted_mean((x - mx) * (y - my), w) / weighted_mean((x - mx) ** 2, w)
            near(d[f"xbeta_{SUFFIX[h]}"], beta[h], h, rtol=1e-4)
        for h in (5, 30, 120, 600):
            want = 0.0
            if len(ours) > h:
                want = 1e4 * (ours[-1] - ours[-1 - h] - beta[900] * (theirs[-1] - theirs[-1 - h]))
            near(d[f"xret_{SUFFIX[h]}"], want, h, rtol=1e-4, atol=1e-5)
        w = np.exp(-age / 900)
        residual = y - beta[900] * x
        mean = weighted_mean(residual, w)
        sd = np.sqrt(weighted_mean((residual - mean) ** 2, w))
        near(d["xresid_z_15m"], mean / sd * np.sqrt(np.sum(w)), rtol=1e-4, atol=1e-5)
        for lag in (1, 5):
            a, b, lw = y[lag:], x[:-lag], w[lag:]
            ma, mb = weighted_mean(a, lw), weighted_mean(b, lw)
            cov = weighted_mean((a - ma) * (b - mb), lw)
            sds = np.sqrt(weighted_mean((a - ma) ** 2, lw) * weighted_mean((b - mb) ** 2, lw))
            near(d[f"xlead_{lag}s"], cov / sds if sds > 1e-12 else 0, lag, rtol=1e-4, atol=1e-5)
        old, new = quotes[:-1], quotes[1:]
        sizes = rows["bid_size"], rows["ask_size"]
        known = np.all([q[i] > 0 for q in sizes for i in (old, new)], axis=0)
        flow = np.sum(imbalance(rows, old[known], new[known]) * p.weights(new[known], 30))
        told = quotes[(sizes[0][quotes] > 0) & (sizes[1][quotes] > 0)]
        w = np.exp(-(p.t[told[-1]] - p.t[told]) / 30)
        near(d["xofi_30s"], flow / weighted_mean(0.5 * (sizes[0] + sizes[1])[told], w), atol=1e-5)


def test_data_quality():
    for d, p in BOTH:
        lag = (p.rows["recv_ns"] - p.rows["ts_ns"]) / 1e6
        near(d["feed_lag_ms"], weighted_mean(lag, p.weights(np.arange(len(lag)), 60)))
        assert d["stale_s"] == d["gap_flag"] == d["crossed_flag"] == 0


# ---------------------------------------------------------------------------------------------------------------- depth


def book_stream(n=1500, seed=4):
    """Batches of changes around a wandering mid, now and then a snapshot; and the book after each batch."""
    rng = np.random.default_rng(seed)
    sides = {1: {}, -1: {}}
    parts, books = [], []
    mid, t = 24_000, START
    for _ in range(n):
        t += int(rng.exponential(0.4) * S)
        changes = []
        snapshot = rng.random() < 0.02
        if snapshot:
            sides = {1: {}, -1: {}}
        mid += int(rng.choice([-1, 0, 0, 0, 1]))
        for side in (1, -1):
            gone = [tick for tick in sides[side] if (tick >= mid if side > 0 else tick < mid)]
            changes += [(side, tick, 0) for tick in gone]
            for _ in range(16 if snapshot or len(sides[side]) < 8 else rng.integers(0, 4)):
                away = int(rng.integers(0, 20))
                changes.append((side, mid - 1 - away if side > 0 else mid + away, int(rng.choice([0, 5, 9, 30, 70]))))
            best = mid - 1 if side > 0 else mid
            if rng.random() < 0.8:
                changes.append((side, best, int(rng.integers(1, 50))))
        rows = empty_events(len(changes) + 1)
        rows["ts_ns"] = rows["recv_ns"] = t
        rows["kind"] = EventKind.DEPTH
        for row, (side, tick, size) in zip(rows[1:], changes, strict=True):
            row["side"], row["price"], row["size"] = side, tick * TICK, size
            if size:
                sides[side][tick] = size
            else:
                sides[side].pop(tick, None)
        rows["flags"][0] = EventFlag.CLEAR if snapshot else 0
        if not snapshot:
            rows = rows[1:]
        if len(rows):
            rows["flags"][-1] |= EventFlag.BATCH_END
            parts.append(rows)
            best_first = {side: sorted(sides[side].items(), reverse=side > 0)[:10] for side in (1, -1)}
            books.append((t, best_first[1], best_first[-1]))
    return parts, books


def columns(level_list):
    padded = [*level_list, *[(0, 0)] * (10 - len(level_list))]
    ticks, sizes = np.array(padded, float).T
    return ticks * TICK, sizes


def check_book(d, bid, ask):
    (pb, qb), (pa, qa) = columns(bid), columns(ask)
    if not bid or not ask:
        assert all(d.values[12:40] == 0)
        return
    with np.errstate(invalid="ignore"):
        near(d.values[12:22], np.nan_to_num((qb - qa) / (qb + qa)))
    for k in (3, 5, 10):
        sb, sa = qb[:k].sum(), qa[:k].sum()
        near(d[f"cum_imb_{k}"], (sb - sa) / (sb + sa))
        near(d[f"depth_bid_{k}_log"], np.log1p(sb))
        near(d[f"depth_ask_{k}_log"], np.log1p(sa))
    mid = 0.5 * (pb[0] + pa[0])
    for name, p, q, n in (("bid", pb, qb, len(bid)), ("ask", pa, qa, len(ask))):
        want = np.polyfit(np.abs(p[:n] - mid) / TICK, q[:n].cumsum(), 1)[0] if n >= 3 else 0.0
        near(d[f"slope_{name}"], want, rtol=1e-4)
        near(d[f"wall_dist_{name}"], np.abs(p[np.argmax(q)] - p[0]) / TICK)
    for name, p, q, n in (("buy", pa, qa, len(ask)), ("sell", pb, qb, len(bid))):
        for lots in (10, 50):
            prices = np.repeat(p[:n], q[:n].astype(int))[:lots]
            prices = np.concatenate([prices, np.full(lots - len(prices), p[n - 1])])
            near(d[f"cost_{name}_{lots}"], np.abs(prices.mean() - mid) / TICK)
    near(d["book_convexity"], (qb + qa).sum() / (2 * (qb + qa)[:5].sum()) - 1)


def test_depth_features_of_a_random_book():
    parts, books = book_stream()
    checked = 0
    made = FeaturePipeline(instrument("ESZ26_FUT_CME"), 1e-3, None, 0.0)
    for k, (part, (_, bid, ask)) in enumerate(zip(parts, books, strict=True)):
        due = [w for w in made.push(part, 0) if w.due]
        timer = empty_events(1)
        timer["kind"], timer["ts_ns"] = EventKind.TIMER, part["ts_ns"][-1] + 2_000_000
        due = [w for w in made.push(timer, 0) if w.due]
        if k % 7 == 0:
            check_book(Decided(0, 0, due[-1].values), bid, ask)
            checked += 1
            if bid and ask:
                pb, qb = columns(bid)
                pa, qa = columns(ask)
                near(due[-1].values[index("spread_ticks")], (pa[0] - pb[0]) / TICK)
                near(due[-1].values[index("l1_imb")], (qb[0] - qa[0]) / (qb[0] + qa[0]))
    assert checked > 150
    assert made.not_finite == 0


def level_flow(old, new):
    (b0, qb0), (a0, qa0), (b, qb), (a, qa) = old[0], old[1], new[0], new[1]
    bid = np.where((qb > 0) & (qb0 > 0), (b >= b0) * qb - (b <= b0) * qb0, 0)
    ask = np.where((qa > 0) & (qa0 > 0), (a <= a0) * qa - (a >= a0) * qa0, 0)
    return bid - ask


def test_multi_level_flow_and_resilience():
    parts, books = book_stream(seed=8)
    events = np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts])
    states = [(columns(bid), columns(ask)) for _, bid, ask in books]
    t = np.array([(at - START) / S for at, _, _ in books])
    empty = (np.zeros(10), np.zeros(10))
    flows = np.array([level_flow(a, b) for a, b in zip([(empty, empty), *states], states, strict=False)])
    depth = np.array([(qb[:5].sum(), qa[:5].sum()) for (_, qb), (_, qa) in states])
    decided = decide(events)
    assert len(decided) > 100
    for d in decided[::4]:
        k = int(np.searchsorted(ends, d.end, side="right"))  # whole batches applied
        now = (d.ts_ns - START) / S
        for h in (1, 5, 30, 120, 600):
            w = np.exp(-(now - t[:k]) / h)
            relative = np.exp(-(t[k - 1] - t[:k]) / h)
            five = np.sum(w * flows[:k, :5].mean(axis=1))
            near(d[f"mlofi_5_{SUFFIX[h]}"], five / weighted_mean(depth[:k].sum(axis=1) / 10, relative), h, atol=1e-5)
            near(d[f"iofi_10_{SUFFIX[h]}"], np.sum(w * flows[:k].mean(axis=1)), h, atol=1e-4)
        for side, name in ((0, "bid"), (1, "ask")):
            near(d[f"resil_{name}"], resilience(t[:k], depth[:k, side]), name)
    assert decided[-1]["resil_bid"] > 0


def resilience(t, depth):
    """Mean speed of recovery, from every mean depth recomputed."""
    usual = [weighted_mean(depth[: i + 1], np.exp(-(t[i] - t[: i + 1]) / 60)) for i in range(len(t))]
    ends, speeds = [], []
    since = wanted = None
    for i in range(1, len(t)):
        if since is not None:
            if depth[i] >= wanted:
                ends.append(t[i])
                speeds.append(min(1 / max(t[i] - since, 1e-9), 100))
                since = None
        elif 0 < depth[i] <= 0.5 * usual[i - 1]:
            since, wanted = t[i], 0.9 * usual[i - 1]
    if not ends:
        return 0.0
    return weighted_mean(np.array(speeds), np.exp(-(ends[-1] - np.array(ends)) / 300))


def test_depth_features_of_a_real_book(shared_dir):
    path = shared_dir / "data" / "depth" / "esh4_20231225_l2x10.npz"
    if not path.exists():
        pytest.skip(f"real data not present: {path}")
    data = np.load(path)
    made = FeaturePipeline(instrument("ESH4_FUT_CME"), 1e-6, None, 0.0)
    checked = 0
    for k in range(2000, len(data["ts"]), 457):
        levels = [(1, p, q) for p, q in zip(data["bp"][k], data["bq"][k], strict=True) if q > 0]
        levels += [(-1, p, q) for p, q in zip(data["ap"][k], data["aq"][k], strict=True) if q > 0]
        rows = empty_events(len(levels))
        rows["kind"], rows["ts_ns"] = EventKind.DEPTH, data["ts"][k]
        for row, (side, price, size) in zip(rows, levels, strict=True):
            row["side"], row["price"], row["size"] = side, price, size
        rows["flags"][0] = EventFlag.CLEAR
        rows["flags"][-1] |= EventFlag.BATCH_END
        made.push(rows, 0)
        timer = empty_events(1)
        timer["kind"], timer["ts_ns"] = EventKind.TIMER, data["ts"][k] + 5_000
        (window,) = made.push(timer, 0)
        bid = [(round(p / TICK), q) for side, p, q in levels if side > 0]
        ask = [(round(p / TICK), q) for side, p, q in levels if side < 0]
        check_book(Decided(0, 0, window.values), bid, ask)
        checked += 1
    assert checked > 50


# -------------------------------------------------------------------------------------------------------------- silence


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 60, 299, 901, 1801, 3700, 7200])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__.rpartition(".")[2])
def test_passing_over_silence_is_stepping_through_it(family, n):
    """After real events, on_silence leaves what n calls of on_second would, and so it goes on afterwards."""
    state, m, sec = warmed()
    part = state[OFFSETS[family]]
    stepped, passed = part.copy(), part.copy()
    for values in (stepped, passed):  # the second that had events is over
        family.on_second(values, sec, m)
    m[market.M_SEC_PREV_MID], m[market.M_SEC_REF_PREV_MID] = m[market.M_SEC_MID], m[market.M_SEC_REF_MID]
    m[market.M_SEC_PREV_LAST] = m[market.M_SEC_LAST]
    m[market.M_SEC_BUY] = m[market.M_SEC_SELL] = m[market.M_SEC_TRADES] = 0
    _step(family.on_second, stepped, sec + 1, sec + 1 + n, m)
    family.on_silence(passed, sec + 1, n, m)
    assert n < 900 or not np.array_equal(passed, part)
    np.testing.assert_allclose(passed, stepped, rtol=1e-9, atol=1e-12)


@njit
def _step(on_second, s, start, stop, m):
    for second in range(start, stop):
        on_second(s, second, m)


@functools.cache
def _warmed():
    opens = START - 3600 * S
    day = [opens, opens + 82_800 * S, opens + 55_800 * S, opens + 80_100 * S, 20231114, 0]
    calendar = TradingCalendar(np.array([day], np.int64))
    made = FeaturePipeline(instrument("ESZ26_FUT_CME"), 1e6, calendar, 0.0)
    made.push(EVENTS, 0)
    return made


def warmed():
    """The engine's state after EVENTS, its `m` as at the end of a second with trades, and that second."""
    made = _warmed()
    state = made._state.copy()
    m = state[engine.M0 : engine.BOOK0]
    m[market.M_SEC_MID], m[market.M_SEC_LAST], m[market.M_SEC_REF_MID] = m[market.M_MID], 6000.0, m[market.M_REF_MID]
    m[market.M_SEC_BUY], m[market.M_SEC_SELL] = 30.0, 4.0
    second = int(made._clock[engine.C_SECOND])
    m[market.M_NOW] = second + 1 - m[market.M_ORIGIN]
    return state, m, second


# ------------------------------------------------------------------------------------------------------------ by hand


def rows_of(*rows):
    """Events from (seconds, kind, fields)."""
    events = empty_events(len(rows))
    for event, (second, kind, fields) in zip(events, rows, strict=True):
        event["ts_ns"] = event["recv_ns"] = START + round(second * S)
        event["kind"] = kind
        for name, value in fields.items():
            event[name] = value
    return events


def after(*rows):
    """The values at a TIMER one microsecond after the last of these events."""
    made = FeaturePipeline(instrument("ESZ26_FUT_CME"), 1e-6, None, 0.0)
    timer = (rows[-1][0] + 1e-6, EventKind.TIMER, {})
    return Decided(0, 0, [w for w in made.push(rows_of(*rows, timer), 0) if w.due][-1].values)


def buy(second, price, flags=0, **touch):
    return second, EventKind.TRADE, {"price": price, "size": 1, "side": 1, "flags": flags, **touch}


@pytest.mark.parametrize(
    ("trades", "sweeps"),
    [
        ([buy(1, 100.0), buy(1, 100.25)], 1),
        ([buy(1, 100.0), buy(1.0009, 100.25), buy(1.0018, 100.5)], 1),
        ([buy(1, 100.0), buy(1.002, 100.25)], 0),  # too late to be one order
        ([buy(1, 100.0), buy(1, 100.0)], 0),  # one level
        ([buy(1, 100.25), buy(1, 100.0)], 0),
        ([buy(1, 100.25), buy(1, 100.0), buy(1, 100.25)], 1),  # a new order begins at the lower price
        ([buy(1, 100.25), buy(1, 100.0), buy(1, 100.0)], 0),
        ([buy(1, 100.0), buy(1, 100.25), buy(1, 100.0), buy(1, 100.25)], 2),
        ([buy(1, 100.0), buy(1, 100.25, EventFlag.FIRST_SUBTRADE)], 0),
        ([buy(1, 100.0, EventFlag.FIRST_SUBTRADE), buy(1, 100.25), buy(1, 100.5, EventFlag.LAST_SUBTRADE)], 1),
    ],
)
def test_what_a_sweep_is(trades, sweeps):
    got = after(*trades)
    near(got["sweep_buy_10s"], sweeps, rtol=1e-3)  # decays while the order runs
    assert got["sweep_sell_10s"] == 0


def test_a_spread_is_realised_at_the_mid_before_the_event_that_is_too_late():
    first = buy(1.0, 100.25, bid=100.0, ask=100.25)
    moving = buy(6.5, 101.25, bid=101.0, ask=101.25)  # its own touch comes after the 5 s are over
    got = after(first, moving)
    near(got["impact5s_1m"], 0.0)
    near(got["realised_spread5s_1m"], 1.0)
    in_time = (5.5, EventKind.QUOTE, {"bid": 100.5, "ask": 100.75})
    near(after(first, in_time, moving)["impact5s_1m"], 4.0)


def test_what_the_book_cannot_fill_costs_its_last_level():
    levels = [(1, 100.0, 4), (1, 99.0, 2), (-1, 100.25, 3), (-1, 101.25, 4)]
    rows = [(1.0, EventKind.DEPTH, {"side": s, "price": p, "size": q}) for s, p, q in levels]
    rows[-1][2]["flags"] = EventFlag.BATCH_END
    got = after(*rows)
    near(got["cost_buy_10"], (3 * 0.5 + 7 * 4.5) / 10)
    near(got["cost_sell_50"], (4 * 0.5 + 46 * 4.5) / 50)
    assert got["slope_bid"] == 0  # two levels make no slope
