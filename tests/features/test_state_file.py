"""A pipeline that is saved and restored goes on as if nothing had happened; what does not fit is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mia_daemon.errors import StartError, StateRefused
from mia_daemon.features import catalogue, state_file
from mia_daemon.features.catalogue import Quality, index
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.state_file import RegimeState
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import MacroEvents, TradingCalendar
from mia_daemon.records import EventKind, empty_events

S = 1_000_000_000
OPEN = 1_700_002_800 * S
ES = instrument("ESZ26_FUT_CME")
HOURS = 3600 * S


def calendar(days=3, first=20231114):
    rows = [[*(OPEN + (k * 24 + hour) * HOURS for hour in (0, 23, 15, 22)), first + k, 0] for k in range(days)]
    return TradingCalendar(np.array(rows, np.int64))


def pipeline(interval_s=5.0, **options):
    options = {"instrument": ES, "calendar": calendar(), "warmup_s": 60.0, **options}
    return FeaturePipeline(decision_interval_s=interval_s, **options)


def market(n=2500, seed=5, seconds=30_000.0):
    """Trades, quotes, depth and silences, of both symbols, over more than one trading day."""
    rng = np.random.default_rng(seed)
    rows = empty_events(n)
    gaps = rng.exponential(1.0, n) * rng.choice([0.0, 1.0, 40.0], n, p=[0.3, 0.68, 0.02])
    rows["ts_ns"] = OPEN + 20 * HOURS + (gaps.cumsum() / gaps.sum() * seconds * S).astype(np.int64)
    rows["recv_ns"] = rows["ts_ns"] + rng.integers(0, 5_000_000, n)
    rows["kind"] = rng.choice([1, 2, 3, 4, 5], n, p=[0.4, 0.25, 0.3, 0.01, 0.04])
    rows["symbol"] = rng.choice([0, 1], n, p=[0.85, 0.15])
    rows["side"] = rng.choice([-1, 1], n)
    rows["flags"] = rng.choice([0, 4, 20], n)
    mid = 24_000 + np.rint(rng.normal(size=n).cumsum() * 0.7)
    rows["bid"], rows["ask"] = 0.25 * (mid - 1), 0.25 * mid
    rows["price"] = 0.25 * (mid - (rows["side"] > 0) * rng.integers(0, 9, n))
    rows["size"] = rng.integers(0, 40, n)
    rows["bid_size"], rows["ask_size"] = rng.integers(1, 60, (2, n))
    return rows


EVENTS = market()


def said(windows):
    return [(w.ts_ns, w.quality, w.warm, w.values.tobytes()) for w in windows if w.due]


WHOLE = said(pipeline().push(EVENTS, 0))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "features.bin"


def restarted(path, cuts, max_gap_s=None):
    """What is said when the pipeline is saved and restored at each of the cuts."""
    made, out = pipeline(), []
    for part in np.split(EVENTS, sorted(cuts)):
        out += said(made.push(part, 0))
        state_file.write(path, replace(made.state(), max_gap_s=max_gap_s))
        made = pipeline()
        made.restore(path)
    return out


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=st.lists(st.integers(0, len(EVENTS)), max_size=4))
def test_restored_and_the_gap_is_uninterrupted_to_the_bit(path, cuts):
    assert restarted(path, cuts) == WHOLE


def test_the_test_market_has_all_that_a_state_must_keep():
    assert len(WHOLE) > 500
    values = np.array([np.frombuffer(w[3], np.float32) for w in WHOLE])
    assert (np.ptp(values, axis=0) > 0).sum() > 300
    days = {calendar().row_of(ts) for ts, *_ in WHOLE}
    assert days == {0, 1}


@pytest.mark.parametrize("regime", [None, RegimeState("b" * 64, 1 / 3, 0.0, None), RegimeState("b", 1.0, 2 / 3, 17)])
def test_the_regime_is_kept_to_the_bit(path, regime):
    state_file.write(path, replace(pipeline().state(), regime=regime))
    assert state_file.read(path).regime == regime


@pytest.mark.parametrize(
    "regime", [("b", 1.5, 0.5, 1), ("b", math.nan, 0.5, 1), ("b", 0.5), ("b", "x", 0.5, 1), ("b", 0.5, 0.5, "x")]
)
def test_a_regime_that_can_not_be_is_refused(path, regime):
    state_file.write(path, replace(pipeline().state(), regime=regime))
    with pytest.raises(StateRefused, match="damaged"):
        state_file.read(path)


def saved(path, upto=1200):
    made = pipeline()
    made.push(EVENTS[:upto], 0)
    made.save(path)
    return made


def test_counters_begin_anew_and_settings_are_the_new_ones(path):
    before = saved(path)
    after = pipeline(10.0, warmup_s=0.0)
    after.restore(path)
    assert before.decisions > 0 == after.decisions
    windows = [w for w in after.push(EVENTS[1200:], 0) if w.due]
    assert windows[0].seq == 0
    assert all(w.warm for w in windows)
    expected = {ts: values for ts, _, _, values in WHOLE}
    for window in windows:  # every second boundary is the first of both intervals at or after its event
        if window.ts_ns in expected:
            assert window.values.tobytes() == expected[window.ts_ns]
    assert sum(w.ts_ns in expected for w in windows) > 100


def test_macro_events_are_those_of_now(path):
    saved(path)
    at = int(EVENTS["ts_ns"][1500])
    macro = MacroEvents(np.array([at], np.int64), np.array([0.9]), np.array([0]), ("cpi",))
    after = pipeline(events=macro)
    after.restore(path)
    window = next(w for w in after.push(EVENTS[1200:], 0) if w.due)
    assert window.values[index("min_to_event")] == np.float32((at - window.ts_ns) / 6e10)
    same = [index(n) for n in ("dow_sin", "days_to_roll", "days_to_opex", "tod_sin", "poc_dist", "rsi_14")]
    expected = {ts: np.frombuffer(values, np.float32) for ts, _, _, values in WHOLE}
    assert np.array_equal(window.values[same], expected[window.ts_ns][same])


# ------------------------------------------------------------------------------------------------ what has been missed


def resumed(gap_s, max_gap_s=60.0):
    """The first windows of a pipeline restored before a gap of which nothing was delivered."""
    made = pipeline(warmup_s=300.0)
    made.push(EVENTS[:800], 0)
    state = made.state()
    after = pipeline(warmup_s=300.0)
    after.resume(replace(state, max_gap_s=max_gap_s))
    rest = EVENTS[800:1000].copy()
    rest["ts_ns"] += state.newest_ns + round(gap_s * S) - rest["ts_ns"][0]
    return [w for w in after.push(rest, 0) if w.due]


def test_a_short_gap_is_marked_for_a_minute_and_warms_nothing():
    windows = resumed(gap_s=30.0)
    began = windows[0].ts_ns
    assert windows[0].warm
    assert windows[0].values[index("gap_flag")] == 1
    for window in windows:
        if window.ts_ns - began < 50 * S:
            assert window.quality & Quality.GAP
    assert windows[0].values[index("atr_14")] > 1


@pytest.mark.parametrize("gap_s", [61.0, 3000.0, -1.0])
def test_after_a_longer_gap_or_a_step_back_features_begin_anew(gap_s):
    windows = resumed(gap_s)
    assert not windows[0].warm
    assert windows[0].values[index("atr_14")] == 0


def test_a_closed_exchange_is_no_gap():
    """From half a minute before the close to half a minute after the next open."""
    close, opened = OPEN + 23 * HOURS, OPEN + 24 * HOURS
    made = pipeline()
    early = EVENTS[EVENTS["ts_ns"] < close - 30 * S]
    made.push(early, 0)
    made.push(np.concatenate([early[-1:]]), 0)
    state = replace(made.state(), newest_ns=close - 30 * S)
    gap_s = (close - int(early["ts_ns"][-1])) / S + 30
    after = pipeline()
    after.resume(replace(state, max_gap_s=gap_s + 1))
    late = EVENTS[EVENTS["ts_ns"] < close][-300:].copy()
    late["ts_ns"] += opened + 30 * S - late["ts_ns"][0]
    assert next(w for w in after.push(late, 0) if w.due).values[index("atr_14")] > 0
    after = pipeline()
    after.resume(replace(state, max_gap_s=gap_s - 1))
    assert next(w for w in after.push(late, 0) if w.due).values[index("atr_14")] == 0


def test_timers_are_not_what_the_feed_brought():
    timer = empty_events(1)
    timer["kind"], timer["ts_ns"] = EventKind.TIMER, EVENTS["ts_ns"][1199] + 7 * S
    made = pipeline()
    traded = EVENTS[:1200][EVENTS["symbol"][:1200] == 0]
    heard = int(traded["ts_ns"][traded["kind"] != EventKind.TIMER][-1])
    made.push(np.concatenate([EVENTS[:1200], timer]), 0)
    state = made.state()
    reference = int(EVENTS[:1200]["ts_ns"][EVENTS["symbol"][:1200] == 1][-1])
    assert state.newest_ns == timer["ts_ns"][0]
    assert state.heard_ns == (heard + 500) // 1000 * 1000
    assert state.reference_heard_ns == (reference + 500) // 1000 * 1000


# --------------------------------------------------------------------------------------------------------------- damage


def refused(path, made=None):
    made = made or pipeline()
    before = made.state()
    with pytest.raises(StateRefused) as caught:
        made.restore(path)
    assert np.array_equal(before.families, made.state().families, equal_nan=True)
    text = str(caught.value)
    assert "warm up from nothing" in text
    return text


def test_a_file_that_is_not_there_or_not_what_was_written_is_refused(path, tmp_path):
    assert "can't be read" in refused(tmp_path / "nothing")
    saved(path)
    data = path.read_bytes()
    damaged = tmp_path / "damaged"
    for bad in (b"", data[:100], data[:5000], data[:-8], data + b"\0", b"X" + data[1:], data[:-9] + b"\1" + data[-8:]):
        damaged.write_bytes(bad)
        assert "damaged" in refused(damaged)
    header = json.loads(data[8:4096]) | {"format": 2}
    damaged.write_bytes((data[:8] + json.dumps(header).encode()).ljust(4096) + data[4096:])
    assert "another layout" in refused(damaged)


def test_a_state_of_another_program_instrument_or_calendar_is_refused(path, monkeypatch):
    saved(path)
    assert "instrument" in refused(path, pipeline(instrument=instrument("NQZ26_FUT_CME")))
    assert "calendar" in refused(path, pipeline(calendar=calendar(first=20231115)))
    assert "calendar" in refused(path, pipeline(calendar=None))
    monkeypatch.setattr(catalogue, "FEATURES", catalogue.FEATURES[:-1])
    assert "catalogue" in refused(path)


def test_a_state_is_replaced_whole_or_not_at_all(path, tmp_path):
    saved(path)
    before = path.read_bytes()
    state = pipeline().state()
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"can't be written .*state_every_s"):
        state_file.write(tmp_path / "file" / "features.bin", state)
    assert path.read_bytes() == before
    state_file.write(path, state)
    assert sorted(p.name for p in path.parent.iterdir()) == ["features.bin"]
    assert len(path.read_bytes()) == len(before)


def test_saving_before_the_first_event_is_beginning(path):
    pipeline().save(path)
    made = pipeline()
    made.restore(path)
    assert said(made.push(EVENTS, 0)) == WHOLE
