"""The checks of `features verify` pass on what is sound and find what is not."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from kernel_driver import NS, calendar, random_trades

from mia_daemon.errors import UsageError
from mia_daemon.features import other_pasts, runs, verification
from mia_daemon.features.catalogue import FEATURES, Inputs, index
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.features.other_pasts import book_at
from mia_daemon.features.runs import upside_down
from mia_daemon.features.verification import Check, verify
from mia_daemon.feed.replay_feed import ReplayFeed
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EventFlag, EventKind, empty_events

MNQ = instrument("MNQU21-CME")
CAL = calendar(days=4)
SLOW = {f.index for f in FEATURES if f.warmup_days or f.warmup_s > 4000}


def trades(n=6000, hours=2.0, seed=3):
    """Trades that carry a touch, from the open of the second trading day on."""
    made = random_trades(int(CAL[1, 0]) + NS, round(hours * 3600), n, seed, step_ticks=2.0)
    events = empty_events(n)
    events["ts_ns"] = events["recv_ns"] = made.t
    events["kind"], events["count"] = EventKind.TRADE, 1
    events["price"], events["size"], events["side"] = made.price, made.size, made.side
    events["bid"] = np.where(made.side > 0, made.price - 0.25, made.price)
    events["ask"] = events["bid"] + 0.25
    return events


EVENTS = trades()


def report(events=EVENTS):
    return verify(events, MNQ, TradingCalendar(CAL.copy()))


@pytest.fixture(scope="module")
def sound():
    return report()


def failing(found):
    return {check: [FEATURES[i].name for i in np.flatnonzero(failed)] for check, failed in found.failed.items()}


def test_the_pipeline_keeps_its_promises(sound):
    assert failing(sound) == {check: [] for check in Check}
    assert sound.absent == Inputs.DEPTH | Inputs.SIZES | Inputs.REFERENCE
    assert set(np.flatnonzero(sound.unchecked)) == SLOW
    assert sound.moments > 1000


def test_on_real_trades_too(mnq_scid):
    feed = ReplayFeed(mnq_scid, None)
    events = np.concatenate(list(feed.batches()))[-2500:]
    found = verify(events, MNQ, TradingCalendar.load(date(2021, 5, 1), date(2021, 6, 30)))
    assert failing(found) == {check: [] for check in Check}
    assert (~found.unchecked).sum() > 250


def broken(monkeypatch, spoil):
    """Reports of a pipeline whose windows `spoil(pipeline, events, window)` had its hands on."""

    class Broken(FeaturePipeline):
        def push(self, events, ingress_ns):
            windows = super().push(events, ingress_ns)
            for window in windows:
                if window.due:
                    spoil(self, events, window)
            return windows

    monkeypatch.setattr(runs, "FeaturePipeline", Broken)
    return failing(report())


def test_a_look_ahead_is_found(monkeypatch):
    def spoil(_pipeline, events, window):
        window.values[index("rsi_14")] = 50 + (events["price"][-1] > window.events["price"][-1])

    found = broken(monkeypatch, spoil)
    assert found[Check.FUTURE] == found[Check.CUTTING] == ["rsi_14"]


def test_a_state_beside_the_state_is_found(monkeypatch):
    def spoil(_pipeline, _events, window):
        window.values[index("delta_1s")] = window.seq

    found = broken(monkeypatch, spoil)
    assert found[Check.RESTART] == found[Check.WARMUP] == ["delta_1s"]
    assert found[Check.FUTURE] == found[Check.CUTTING] == []


def test_values_out_of_range_or_not_neutral_are_found(monkeypatch):
    def spoil(_pipeline, _events, window):
        window.values[index("rsi_14")] = 100.5
        window.values[index("lvl_imb_1")] = 0.1
        window.values[index("ret_1s")] = np.nan

    found = broken(monkeypatch, spoil)
    assert found[Check.RANGE] == ["lvl_imb_1", "ret_1s", "rsi_14"]


def test_a_warm_up_that_is_too_short_is_found(monkeypatch):
    short = {"intensity_10m": 60, "rv_15m": 300, "adx_14": 1200}
    declared = tuple(replace(f, warmup_s=short.get(f.name, f.warmup_s)) for f in FEATURES)
    monkeypatch.setattr(other_pasts, "FEATURES", declared)
    found = report()
    assert set(failing(found)[Check.WARMUP]) == set(short)
    assert not found.sound[index("adx_14")]


def test_too_few_events_are_refused():
    with pytest.raises(UsageError, match="take a file with 200 or more"):
        report(EVENTS[:199])
    still = np.repeat(EVENTS[:1], 300)
    with pytest.raises(UsageError, match="no decision falls due"):
        report(still)


def test_upside_down_is_another_past_and_twice_it_is_the_same():
    once = upside_down(EVENTS, [15000.0, 0.0])
    assert (once["price"] + EVENTS["price"] == 30000.0).all()
    assert (once["bid"] < once["ask"]).all()
    assert np.array_equal(np.sort(once["size"]), np.sort(EVENTS["size"]))
    assert not np.array_equal(once["size"], EVENTS["size"])
    assert upside_down(once, [15000.0, 0.0]).tobytes() == EVENTS.tobytes()


def test_a_book_is_rebuilt_from_the_rows_before(monkeypatch):
    rows = empty_events(7)
    rows["kind"] = EventKind.DEPTH
    rows["side"] = [1, 1, -1, 1, -1, 1, 1]
    rows["price"] = [9.0, 9.75, 10.0, 9.5, 10.25, 9.75, 9.25]
    rows["size"] = [5, 3, 4, 2, 6, 0, 8]
    rows["flags"][1] = EventFlag.CLEAR
    assert len(book_at(rows, 0)) == 0
    book = book_at(rows, 6)
    assert sorted(zip(book["side"], book["price"], book["size"], strict=True)) == [
        (-1, 10.0, 4), (-1, 10.25, 6), (1, 9.5, 2),
    ]  # fmt: skip
    assert book["flags"][0] & EventFlag.CLEAR
    assert book["flags"][-1] & EventFlag.BATCH_END
    assert book_at(empty_events(5), 3).size == 0


def test_what_is_absent():
    events = EVENTS.copy()
    events["bid_size"] = events["ask_size"] = 1
    assert verification.absent_inputs(events) == Inputs.DEPTH | Inputs.REFERENCE
    events["symbol"][7] = 1
    events["kind"][9] = EventKind.DEPTH
    assert verification.absent_inputs(events) == Inputs(0)
