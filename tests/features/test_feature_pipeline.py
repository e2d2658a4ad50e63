"""Decisions fall due where the contract says, with the same bits however the events are cut."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mia_daemon.errors import UsageError
from mia_daemon.features.catalogue import FEATURES, Quality, index
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.kernels import engine
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import MARKET_EVENT, EventFlag, EventKind, empty_events

S = 1_000_000_000
OPEN = 1_700_002_800 * S  # a moment on the 5 s grid, an hour after the session's open below
ES = instrument("ESZ26_FUT_CME")


def calendar():
    day = 86_400 * S
    opens = OPEN - 3_600 * S
    rows = [
        [opens + k * day, opens + k * day + 23 * 3600 * S, opens + k * day + 15 * 3600 * S,
         opens + k * day + 22 * 3600 * S, 20231114 + k, 0]
        for k in range(3)
    ]  # fmt: skip
    return TradingCalendar(np.array(rows, np.int64))


def pipeline(interval_s=5.0, warmup_s=0.0, *, cal=True):
    return FeaturePipeline(ES, interval_s, calendar() if cal else None, warmup_s)


def event(second, kind=EventKind.TRADE, **fields):
    """One row, `second` after OPEN; a trade of 1 at 6000.00 between 5999.75 and 6000.00 unless told otherwise."""
    row = empty_events(1)
    row["ts_ns"] = row["recv_ns"] = OPEN + round(second * S)
    row["kind"] = kind
    if kind == EventKind.TRADE:
        row["price"], row["bid"], row["ask"], row["size"], row["side"] = 6000.0, 5999.75, 6000.0, 1, 1
    for name, value in fields.items():
        row[name] = value
    return row


def stream(n=1500, seed=5, seconds=400.0):
    """A random mixture of everything the feed may deliver, of both symbols, well-formed or not."""
    rng = np.random.default_rng(seed)
    rows = empty_events(n)
    gaps = rng.exponential(1.0, n) * rng.choice([0.0, 1.0, 30.0], n, p=[0.3, 0.67, 0.03])
    rows["ts_ns"] = OPEN + (gaps.cumsum() / gaps.sum() * seconds * S).astype(np.int64)
    rows["ts_ns"][rng.random(n) < 0.01] -= 3 * S
    rows["recv_ns"] = rows["ts_ns"] + rng.integers(0, 5_000_000, n)
    rows["kind"] = rng.choice([1, 2, 3, 4, 5, 6, 9], n, p=[0.4, 0.25, 0.3, 0.005, 0.03, 0.005, 0.01])
    rows["symbol"] = rng.choice([0, 1, 2], n, p=[0.84, 0.15, 0.01])
    rows["side"] = rng.choice([-1, 0, 1], n)
    rows["flags"] = rng.choice([0, 1, 2, 4, 8, 20], n)
    rows["count"] = rng.integers(0, 3, n)
    mid = 24_000 + np.rint(rng.normal(size=n).cumsum() * 0.7)
    rows["bid"] = 0.25 * (mid - rng.choice([1, 1, 2, -1], n, p=[0.9, 0.04, 0.04, 0.02]))
    rows["ask"] = 0.25 * mid
    depth = rows["kind"] == EventKind.DEPTH
    away = np.where(rows["side"] > 0, -1, 0) - rows["side"] * rng.integers(0, 15, n)
    rows["price"] = np.where(depth, 0.25 * (mid + away), np.where(rows["side"] > 0, rows["ask"], rows["bid"]))
    rows["size"] = rng.integers(0, 40, n)
    rows["bid_size"], rows["ask_size"] = rng.integers(0, 60, (2, n))
    untold = rng.random(n) < 0.05
    rows["bid"][untold] = rows["ask"][untold] = np.nan
    return rows


def push(events, cuts=(), **options):
    """All windows when `events` are cut before the indices `cuts`."""
    made = pipeline(**options)
    windows = []
    for part in np.split(events, sorted(cuts)):
        windows += made.push(part, 7)
    return windows


def due(windows):
    return [window for window in windows if window.due]


# ----------------------------------------------------------------------------------------------------------- boundaries


def test_a_decision_falls_due_at_the_first_event_at_or_past_the_boundary():
    events = np.concatenate([event(s) for s in (1.0, 4.999, 5.0, 5.001, 11.5, 14.9, 15.0, 40.0, 41.0, 45.5)])
    windows = push(events)
    assert [(w.ts_ns - OPEN) / S for w in due(windows)] == [5.0, 11.5, 15.0, 40.0, 45.5]
    assert [w.seq for w in windows] == [0, 1, 2, 3, 4]
    assert [len(w.events) for w in windows] == [3, 2, 2, 1, 2]


def test_the_first_event_starts_the_clock_and_decides_nothing():
    assert not due(push(event(0.0)))
    assert not due(push(event(5.0)))
    assert len(due(push(np.concatenate([event(5.0), event(10.0)])))) == 1


def test_values_include_the_event_that_made_them_due():
    events = np.concatenate([event(1.0), event(5.0, price=5999.75, side=-1, size=9)])
    (window,) = push(events)
    assert window.values[index("last_side")] == -1
    assert window.values[index("last_size_log")] == np.float32(np.log(10))


def test_the_tail_leaves_without_values():
    windows = push(np.concatenate([event(1.0), event(5.0), event(6.0), event(7.0)]))
    assert [w.due for w in windows] == [True, False]
    tail = windows[1]
    assert (tail.seq, len(tail.events), tail.values, tail.ts_ns) == (-1, 2, None, OPEN + 7 * S)


@pytest.mark.parametrize("kind", [EventKind.TIMER, EventKind.GAP, EventKind.STATUS, EventKind.QUOTE, EventKind.DEPTH])
def test_an_event_of_any_kind_can_make_a_decision_due(kind):
    assert len(due(push(np.concatenate([event(1.0), event(5.0, kind)])))) == 1


def test_the_reference_symbol_moves_time_but_decides_nothing():
    other = event(6.0, symbol=1)
    assert not due(push(np.concatenate([event(1.0), other])))
    (window,) = due(push(np.concatenate([event(1.0), other, event(2.0)])))  # late: applied at the time of `other`
    assert window.ts_ns == OPEN + 6 * S


def test_windows_hold_exactly_the_events():
    events = stream()
    windows = push(events, cuts=[100, 700, 701])
    assert np.concatenate([w.events for w in windows]).tobytes() == events.tobytes()
    assert {w.ingress_ns for w in windows} == {7}


def test_decision_numbers_are_consecutive_and_values_owned():
    windows = due(push(stream()))
    assert [w.seq for w in windows] == list(range(len(windows)))
    assert len({w.values.ctypes.data for w in windows}) == len(windows)
    assert all(w.values.dtype == np.float32 and w.values.shape == (350,) for w in windows)


# ------------------------------------------------------------------------------------------ determinism, no foresight

EVENTS = stream()
WHOLE = due(push(EVENTS))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, len(EVENTS)), max_size=12))
def test_any_cut_gives_the_same_bits(cuts):
    windows = due(push(EVENTS, cuts))
    assert [(w.seq, w.ts_ns, w.quality, w.warm) for w in windows] == [
        (w.seq, w.ts_ns, w.quality, w.warm) for w in WHOLE
    ]
    assert all(a.values.tobytes() == b.values.tobytes() for a, b in zip(windows, WHOLE, strict=True))


def test_one_event_at_a_time_gives_the_same_bits():
    windows = due(push(EVENTS, range(1, len(EVENTS))))
    assert [w.values.tobytes() for w in windows] == [w.values.tobytes() for w in WHOLE]


def test_the_future_changes_nothing():
    assert len(WHOLE) > 50
    for share in (0.3, 0.8):
        cut = int(share * len(EVENTS))
        changed = np.concatenate([EVENTS[:cut], stream(seed=99)[cut:]])
        past = due(push(EVENTS[:cut]))
        assert 0 < len(past) < len(WHOLE)
        again = due(push(changed))[: len(past)]
        assert [w.values.tobytes() for w in again] == [w.values.tobytes() for w in past]
        assert [w.values.tobytes() for w in WHOLE[: len(past)]] == [w.values.tobytes() for w in past]


def test_how_the_array_lies_in_memory_does_not_matter():
    raw = b"\0" + EVENTS.tobytes()
    read_only = np.frombuffer(raw, MARKET_EVENT, offset=1)  # neither writeable nor aligned
    strided = np.repeat(EVENTS, 2)[::2]
    for events in (read_only, strided):
        windows = due(push(events))
        assert [w.values.tobytes() for w in windows] == [w.values.tobytes() for w in WHOLE]


def test_the_events_are_not_written_to():
    events = EVENTS.copy()
    push(events)
    assert events.tobytes() == EVENTS.tobytes()


# --------------------------------------------------------------------------------------------------------------- damage


def silly(seed):
    rng = np.random.default_rng(seed)
    n = 600
    rows = stream(n, seed)
    for name in ("price", "bid", "ask", "size", "bid_size", "ask_size"):
        hit = rng.random(n) < 0.15
        rows[name][hit] = rng.choice([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, 1e7, 0.25, 5e-324], hit.sum())
    rows["recv_ns"][rng.random(n) < 0.05] = rng.choice([0, -(1 << 62), 1 << 62])
    jumps = np.where(rng.random(n) < 0.02, rng.choice([7_100, 7_300, 90_000, 10_000_000], n), 0)
    rows["ts_ns"] += jumps.cumsum() * S
    rows["ts_ns"][rng.random(n) < 0.01] = rng.choice([0, -5, 1, (1 << 63) - 1])
    return rows


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("seed", range(6))
def test_values_are_always_finite_and_within_their_range(seed):
    made = pipeline(0.5)
    windows = due(made.push(silly(seed), 0))
    assert len(windows) > 100
    values = np.array([window.values for window in windows], np.float64)
    low, high = np.array([(f.low, f.high) for f in FEATURES]).T
    slack = 1e-6 * np.nan_to_num(np.maximum(np.abs(low), np.abs(high)), posinf=0.0)
    fits = np.isfinite(values) & (values >= low - slack) & (values <= high + slack)
    assert [FEATURES[i].name for i in np.flatnonzero(~fits.all(axis=0))] == []
    assert made.not_finite == 0  # the kernels themselves never leave one
    assert made.bad_events > 0


def test_an_event_with_an_impossible_time_or_symbol_is_left_out():
    good = np.concatenate([event(1.0), event(5.0), event(10.0)])
    odd = [event(2.0, symbol=7), event(2.0), event(2.0), event(2.0)]
    odd[1]["ts_ns"], odd[2]["ts_ns"], odd[3]["ts_ns"] = 0, -5, (1 << 63) - 1
    made = pipeline()
    windows = due(made.push(np.concatenate([good[:1], *odd, good[1:]]), 0))
    assert made.bad_events == 4
    plain = due(push(good))
    assert [w.values.tobytes() for w in windows] == [w.values.tobytes() for w in plain]
    assert windows[0].quality & Quality.BAD_EVENT
    assert not plain[0].quality & Quality.BAD_EVENT


@pytest.mark.parametrize("fields", [{"price": np.nan}, {"size": 0}, {"size": np.nan}, {"price": -1e8}, {"size": 1e30}])
def test_a_trade_with_impossible_numbers_only_moves_time(fields):
    bad = event(4.0, **{"bid": np.nan, "ask": np.nan, **fields})
    made = pipeline()
    (window,) = due(made.push(np.concatenate([event(1.0), bad, event(5.0, EventKind.TIMER)]), 0))
    assert made.bad_events == 1
    assert window.values[index("trade_age")] == np.float32(np.log1p(4000))
    assert window.quality & Quality.BAD_EVENT


LOGARITHMIC = ("ret_", "rv_", "bpv_", "semi_", "jump_", "rskew", "rkurt", "parkinson", "gk_", "vol_ratio", "amihud")
LOGARITHMIC += ("hurst", "vr_", "perm_entropy", "acf", "xret", "xbeta", "xresid", "xlead")
OF_THE_LEVEL = ("hasbrouck", "roc10", "momentum_10", "bb_width", "bollinger_width", "mfi14", "round_dist")
SAME_AT_ANY_PRICE = [f.index for f in FEATURES if not f.name.startswith((*LOGARITHMIC, *OF_THE_LEVEL))]


@pytest.mark.parametrize("shift", [-6_000.0, -6_100.0])
def test_prices_of_zero_and_below_are_prices_like_any_other(shift):
    events = stream(4_000, seed=11, seconds=3_000.0)
    lower = events.copy()
    for name in ("price", "bid", "ask"):
        lower[name] += shift
    assert np.nanmin(lower["bid"]) < 0
    made, other = pipeline(), pipeline()
    windows, others = due(made.push(events, 0)), due(other.push(lower, 0))
    assert made.bad_events == other.bad_events
    assert len(windows) > 300
    for window, shifted in zip(windows, others, strict=True):
        assert window.quality == shifted.quality
        here, there = window.values[SAME_AT_ANY_PRICE], shifted.values[SAME_AT_ANY_PRICE]
        apart = ~np.isclose(here, there, rtol=1e-4, atol=1e-4)
        assert [FEATURES[SAME_AT_ANY_PRICE[i]].name for i in np.flatnonzero(apart)] == []


def test_log_returns_are_neutral_while_the_price_is_not_positive_and_start_anew_after_it():
    parts = []
    for number, level in enumerate((40.0, -40.0, 40.0)):
        part = stream(1_500, seed=20 + number, seconds=1_200.0)
        part["ts_ns"] += number * 1_300 * S
        for name in ("price", "bid", "ask"):
            part[name] += level - 6_000.0
        parts.append(part)
    neutral = np.array([f.neutral for f in FEATURES], np.float32)
    bars_and_day = ("parkinson", "gk_", "vol_ratio_15m_day")
    mids = [f.index for f in FEATURES if f.name.startswith(LOGARITHMIC) and not f.name.startswith(bars_and_day)]
    mids = [i for i in mids if not FEATURES[i].name.startswith("amihud")]  # a mean over seconds that had a return
    windows = due(push(np.concatenate(parts)))
    below = [w for w in windows if OPEN + 1_310 * S < w.ts_ns < OPEN + 2_500 * S]
    assert len(below) > 100
    for window in below:
        np.testing.assert_array_equal(window.values[mids], neutral[mids])
    after = [w for w in windows if w.ts_ns > OPEN + 2_610 * S]
    alone = {w.ts_ns: w for w in due(push(parts[2]))}
    assert len(after) > 100
    for window in after:
        np.testing.assert_array_equal(window.values[mids], alone[window.ts_ns].values[mids])


def test_an_older_event_is_applied_at_the_newest_time_and_counted():
    events = np.concatenate([event(1.0), event(3.0), event(2.0, price=5999.75, side=-1), event(5.0, EventKind.TIMER)])
    made = pipeline()
    (window,) = due(made.push(events, 0))
    assert made.late_events == 1
    assert window.quality & Quality.TIME_BACK
    assert window.values[index("trade_age")] == np.float32(np.log1p(2000))
    assert window.values[index("last_side")] == -1


def test_a_foreign_array_is_refused():
    with pytest.raises(TypeError, match="MARKET_EVENT"):
        pipeline().push(np.zeros(3), 0)
    with pytest.raises(TypeError, match="one-dimensional"):
        pipeline().push(empty_events(4).reshape(2, 2), 0)
    assert pipeline().push(empty_events(0), 0) == []


@pytest.mark.parametrize(("interval_s", "warmup_s"), [(0.0, 0.0), (-1.0, 0.0), (5.0, -1.0)])
def test_impossible_settings_are_refused(interval_s, warmup_s):
    with pytest.raises(UsageError, match="decision_interval_s"):
        pipeline(interval_s, warmup_s)


# -------------------------------------------------------------------------------------------------------------- quality


def quality(*events, **options):
    windows = due(push(np.concatenate(events), **options))
    return Quality(windows[-1].quality)


def test_quality_says_what_is_missing():
    bare = event(1.0, bid=np.nan, ask=np.nan)
    everything = Quality.NO_QUOTES | Quality.NO_SIZES | Quality.NO_DEPTH | Quality.NO_REFERENCE
    assert quality(bare, event(5.0, EventKind.TIMER)) == everything
    assert quality(bare, event(5.0, EventKind.TIMER), cal=False) == everything | Quality.NO_CALENDAR
    touch = event(1.0)
    assert not quality(touch, event(5.0, EventKind.TIMER)) & Quality.NO_QUOTES
    sized = event(1.0, bid_size=3, ask_size=4)
    assert not quality(sized, event(5.0, EventKind.TIMER)) & Quality.NO_SIZES
    other = event(2.0, symbol=1)
    assert not quality(touch, other, event(5.0, EventKind.TIMER)) & Quality.NO_REFERENCE
    assert quality(touch, other, event(65.0, EventKind.TIMER)) & Quality.NO_REFERENCE


def level(second, side, price, size, flags=EventFlag.BATCH_END):
    return event(second, EventKind.DEPTH, side=side, price=price, size=size, flags=flags)


def test_quality_of_a_book():
    book = [level(1.0, 1, 5999.75, 7, 0), level(1.0, -1, 6000.0, 9)]
    assert not quality(*book, event(5.0, EventKind.TIMER)) & (Quality.NO_DEPTH | Quality.NO_QUOTES | Quality.NO_SIZES)
    assert quality(*book, event(65.0, EventKind.TIMER)) & Quality.NO_DEPTH
    assert quality(*book[:1], event(5.0, EventKind.TIMER)) & Quality.NO_DEPTH  # the batch has not ended
    one_sided = level(2.0, -1, 6000.0, 0)
    assert not quality(*book, event(5.0, EventKind.TIMER)) & Quality.CROSSED
    assert quality(*book, one_sided, event(5.0, EventKind.TIMER)) & Quality.CROSSED


def test_quality_of_silence_and_gaps():
    trade = event(1.0)
    assert not quality(trade, event(11.0, EventKind.TIMER)) & Quality.STALE
    assert quality(trade, event(11.5, EventKind.TIMER)) & Quality.STALE
    gap = event(4.0, EventKind.GAP)
    assert quality(trade, gap, event(64.0)) & Quality.GAP
    assert not quality(trade, gap, event(64.5)) & Quality.GAP


def test_a_crossed_touch_is_kept_out_and_said():
    crossed = event(2.0, EventKind.QUOTE, bid=6001.0, ask=6000.0)
    windows = due(push(np.concatenate([event(1.0), crossed, event(5.0, EventKind.TIMER)])))
    assert windows[0].quality & Quality.CROSSED
    assert windows[0].values[index("crossed_flag")] == 1
    assert windows[0].values[index("spread_ticks")] == 1
    healed = event(3.0, EventKind.QUOTE, bid=6001.0, ask=6001.5)
    windows = due(push(np.concatenate([event(1.0), crossed, healed, event(5.0, EventKind.TIMER)])))
    assert not windows[0].quality & Quality.CROSSED
    assert windows[0].values[index("spread_ticks")] == 2


def test_warm_after_the_event_time_asked_for():
    events = np.concatenate([event(float(s)) for s in range(0, 121, 5)])
    windows = due(push(events, warmup_s=60.0))
    assert [w.warm for w in windows] == [w.ts_ns - OPEN >= 60 * S for w in windows]
    assert all(bool(w.quality & Quality.COLD) is not w.warm for w in windows)


RUN_ON = ("parkinson", "gk", "er_", "vol_ratio_15m_day")  # closed bars, and the day
RESTARTING = [
    feature.index
    for feature in FEATURES
    if feature.family not in {"ta", "level"} and not feature.name.startswith(RUN_ON)  # as MAX_SILENT_S says
]


@settings(max_examples=30)
@given(
    st.integers(0, 99),
    st.integers(-400, 400).filter(bool),
    st.integers(7_300, 200_000),
    st.sampled_from([EventKind.TRADE, EventKind.QUOTE, EventKind.TIMER]),
)
def test_a_jump_of_the_price_over_a_long_silence_is_seen_by_no_window_after_it(seed, ticks, silence_s, first):
    past, after = stream(300, seed), stream(300, seed + 100)
    after["ts_ns"] += silence_s * S + (past["ts_ns"].max() - after["ts_ns"].min())
    after["kind"][0], after["symbol"][0] = first, 0
    depth = np.flatnonzero((after["kind"] == EventKind.DEPTH) & (after["symbol"] == 0))
    after["flags"][depth[0]] |= EventFlag.CLEAR  # a book is sent anew after an outage
    shifted = past.copy()
    for name in ("price", "bid", "ask"):
        shifted[name] += 0.25 * ticks
    windows = due(push(np.concatenate([past, after])))
    others = due(push(np.concatenate([shifted, after])))
    late = [(w, other) for w, other in zip(windows, others, strict=True) if w.ts_ns > after["ts_ns"].min()]
    assert len(late) > 20
    for window, other in late:
        apart = window.values[RESTARTING] != other.values[RESTARTING]
        assert [FEATURES[RESTARTING[i]].name for i in np.flatnonzero(apart)] == []
        assert window.quality == other.quality


def test_the_first_trade_after_a_long_silence_has_no_price_before_it():
    rows = [event(second) for second in (0.0, 1.0, 2.0, 3.0)]
    for number, second in enumerate((9_000.0, 9_001.0, 9_002.0, 9_003.0)):
        price = 6_020.5 - 0.25 * (number % 2)  # 82 ticks above; from here on between bid and ask
        rows.append(event(second, price=price, bid=6_020.25, ask=6_020.5, side=1 - 2 * (number % 2)))
    *_, window = due(push(np.concatenate([*rows, event(9_004.0, EventKind.TIMER)]), interval_s=1.0))
    steps = np.array([-1.0, 1.0, -1.0])  # ticks; a first step needs two trades since the silence
    weights = np.exp(-np.array([1.0, 0.0]) / 60)
    means = [np.average(side, weights=weights) for side in (steps[1:], steps[:-1])]
    covariance = np.average(steps[1:] * steps[:-1], weights=weights) - means[0] * means[1]
    assert window.values[index("roll_1m")] == pytest.approx(2 * np.sqrt(-covariance), rel=1e-6)
    assert window.values[index("tick_run")] == -1


def test_after_a_long_silence_the_touch_is_unknown_until_it_comes_again():
    untouched = event(9_000.0, price=6_020.0, bid=np.nan, ask=np.nan, side=0)
    window, _ = due(push(np.concatenate([event(0.0), untouched, event(9_005.0)])))
    assert window.quality & Quality.NO_QUOTES
    assert window.values[index("last_side")] == 0
    assert window.values[index("last_vs_mid_ticks")] == 0


def test_time_before_a_gap_does_not_warm_and_a_long_silence_starts_anew():
    gap = np.concatenate([event(0.0), event(40.0), event(70.0, EventKind.GAP), event(75.0), event(95.0)])
    assert [w.warm for w in due(push(gap, warmup_s=60.0))] == [False, False, False, True]
    silence = np.concatenate([event(0.0), event(100.0), event(7_400.0), event(7_430.0), event(7_460.0)])
    assert [w.warm for w in due(push(silence, warmup_s=60.0))] == [True, False, False, True]


# ---------------------------------------------------------------------------------------------------------------- touch


def spread_after(*events):
    return due(push(np.concatenate([*events, event(20.0, EventKind.TIMER)])))[-1].values[index("spread_ticks")]


def test_quotes_outrank_the_book_and_the_book_outranks_trades():
    quote = event(1.0, EventKind.QUOTE, bid=5999.0, ask=6000.0)
    book = [level(2.0, 1, 5999.25, 7, 0), level(2.0, -1, 6000.0, 9)]
    trade = event(3.0)
    assert spread_after(quote, *book, trade) == 4
    assert spread_after(*book, trade) == 3
    assert spread_after(trade) == 1
    later = event(13.0)  # quotes have been silent for more than 10 s
    assert spread_after(quote, *book, later) == 1
    after_gap = [event(2.5, EventKind.GAP), trade]
    assert spread_after(quote, *after_gap) == 1


def test_a_trade_that_carries_the_same_touch_keeps_its_sizes():
    quote = event(1.0, EventKind.QUOTE, bid=5999.75, ask=6000.0, bid_size=3, ask_size=9)
    windows = due(push(np.concatenate([quote, event(15.0)])))
    assert windows[0].values[index("l1_imb")] == -0.5
    moved = due(push(np.concatenate([quote, event(15.0, bid=5999.5)])))
    assert moved[0].quality & Quality.NO_SIZES
    assert moved[0].values[index("l1_imb")] == 0


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"side": 0}, 1),  # at the ask
        ({"side": 0, "price": 5999.75}, -1),
        ({"side": 0, "price": 6000.0, "bid": 5999.5, "ask": 6000.5}, 1),  # above the trade before
        ({"side": 0, "price": 5999.25, "bid": 5999.0, "ask": 6000.5}, -1),
        ({"side": 0, "price": 5999.5, "bid": 5999.0, "ask": 6000.5}, -1),  # as the trade before
        ({"side": -1}, -1),
    ],
)
def test_the_aggressor(fields, side):
    before = event(1.0, price=5999.5, side=-1)
    windows = due(push(np.concatenate([before, event(5.0, **fields)])))
    assert windows[0].values[index("last_side")] == side


def test_every_kernel_state_is_reached_by_the_offsets():
    assert len(engine.make_state(0.25)) == engine.CLOCK0 + len(engine.clock.make_state(0.25))
