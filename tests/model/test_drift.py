"""The drift monitor names what is not distributed as in training, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import BundleError
from mia_daemon.features.catalogue import FEATURES, index
from mia_daemon.model import drift
from mia_daemon.model.drift import BINS, DriftMonitor, Histograms, bins_of, ks, psi
from mia_daemon.records import Priority
from mia_daemon.training.baseline import npz

NAMES = ("delta_1s", "tfi_5s", "gap_flag", "rv_30s", "tod_sin", "poc_dist", "rv_15m")
INDICES = np.array([index(name) for name in NAMES], np.intp)
START = 1_795_532_400 * NS_PER_S
HOUR = 720  # decisions


def training(rows=20_000, seed=1):
    """Normal, but for the flag, which is 0, and tfi_5s, which is 0 half of the time."""
    values = np.random.default_rng(seed).normal(size=(rows, len(FEATURES))).astype(np.float32)
    values[:, index("gap_flag")] = 0.0
    values[::2, index("tfi_5s")] = 0.0
    return values


REFERENCE = Histograms.of(training()[:, INDICES])


def monitor(window=16 * HOUR, **options):
    alerts = []
    options = {"psi_above": 0.25, "ks_above": 0.2, "tell": alerts.append, **options}
    return DriftMonitor(REFERENCE, NAMES, INDICES, window, **options), alerts


def show(watch, values, start=0):
    for i, row in enumerate(values, start):
        watch.see(row, START + 5 * i * NS_PER_S)


# ------------------------------------------------------------------------------------------------------------- counting


def test_a_normal_feature_has_ten_equal_bins():
    assert REFERENCE.shares.sum(axis=1) == pytest.approx(1)
    assert REFERENCE.shares[0] == pytest.approx(0.1, abs=1e-3)


def test_a_value_that_many_rows_share_has_a_bin_to_itself():
    place = NAMES.index("gap_flag")
    (bin_,) = np.flatnonzero(REFERENCE.shares[place])
    values = np.zeros((5, len(NAMES)), np.float32)
    values[:, place] = [-1e-6, 0.0, -0.0, 1e-6, 1.0]
    below, *same, above, far = bins_of(values, REFERENCE.edges)[:, place]
    assert set(same) == {bin_}
    assert below < bin_ < above <= far
    half = REFERENCE.shares[NAMES.index("tfi_5s")]
    assert half.max() == pytest.approx(0.5, abs=0.01)


shares = hnp.arrays(np.float64, (3, BINS), elements=st.floats(0.001, 1)).map(lambda a: a / a.sum(axis=1, keepdims=True))


@given(shares, shares)
def test_distances_are_none_between_equals_and_symmetric(p, q):
    assert psi(p, p) == pytest.approx(0, abs=1e-12)
    assert ks(p, p) == pytest.approx(0, abs=1e-12)
    assert psi(p, q) == pytest.approx(psi(q, p))
    assert ks(p, q) == pytest.approx(ks(q, p))
    assert (psi(p, q) >= 0).all()
    assert (ks(p, q) <= 1 + 1e-12).all()


def test_distances_by_hand():
    p, q = np.full((1, BINS), 0.1), np.array([[0.55, *[0.05] * 9]])
    assert psi(p, q)[0] == pytest.approx(0.45 * np.log(5.5) + 9 * 0.05 * np.log(2))
    assert ks(p, q)[0] == pytest.approx(0.45)


def test_the_window_rolls():
    """What is counted is the newest decisions, however they arrived."""
    watch, _ = monitor(window=500)
    values = training(3001, seed=3)
    show(watch, values)
    found = watch._counts
    looked_at = drift.EVERY * (3001 // drift.EVERY)
    newest = bins_of(values[looked_at - 500 : looked_at][:, INDICES], REFERENCE.edges)
    for column in range(len(NAMES)):
        assert found[column].tolist() == np.bincount(newest[:, column], minlength=BINS).tolist()
    assert found.sum(axis=1).tolist() == [500] * len(NAMES)


# -------------------------------------------------------------------------------------------------------------- alerts


def test_the_same_market_says_nothing():
    watch, alerts = monitor()
    show(watch, training(6 * HOUR, seed=2))
    assert alerts == []
    index_, distance = watch.distances()
    assert np.nanmax(index_) < 0.05
    assert np.nanmax(distance) < 0.05


def test_what_drifts_is_named_once_a_day_and_nothing_else():
    watch, alerts = monitor(window=2 * HOUR)
    values = training(30 * HOUR, seed=2)
    values[:, index("rv_30s")] += 1.0
    values[:, index("tod_sin")] += 5.0  # the calendar's
    values[:, index("poc_dist")] += 5.0  # anchored to the day
    show(watch, values)
    assert [alert.context["features"] for alert in alerts] == [["rv_30s"]] * 2
    first, second = alerts
    assert (first.code, first.priority) == ("drift", Priority.WARNING)
    assert first.text.startswith("1 of 4 model inputs are not distributed as in training: rv_30s (PSI ")
    assert (first.ts_ns - START) / NS_PER_S == pytest.approx(drift.LEAST_S, abs=60)
    assert second.ts_ns - first.ts_ns >= drift.TELL_AGAIN_S * NS_PER_S


def test_a_thin_market_is_not_looked_at_with_every_decision():
    watch, _ = monitor()
    for i, row in enumerate(training(23, seed=2)):
        watch.see(row, START + 3600 * i * NS_PER_S)
    assert watch._seen == drift.EVERY


def test_a_constant_that_moves_has_drifted():
    watch, alerts = monitor()
    values = training(3 * HOUR, seed=2)
    values[:, index("gap_flag")] = -1.0
    show(watch, values)
    assert alerts[0].context["features"] == ["gap_flag"]


def test_two_that_drift_at_different_times_are_told_an_hour_apart():
    watch, alerts = monitor(window=HOUR)
    values = training(8 * HOUR, seed=2)
    values[:, index("rv_30s")] += 2.0
    values[HOUR * 5 // 2 :, index("delta_1s")] += 2.0
    show(watch, values)
    assert [sorted(alert.context["features"]) for alert in alerts] == [["rv_30s"], ["delta_1s", "rv_30s"]]
    assert alerts[1].ts_ns - alerts[0].ts_ns >= drift.AGAIN_S * NS_PER_S


def test_both_distances_have_to_be_beyond():
    for options in ({"psi_above": 1e9}, {"ks_above": 1.0}):
        watch, alerts = monitor(**options)
        values = training(3 * HOUR, seed=2)
        values[:, index("rv_30s")] += 3.0
        show(watch, values)
        assert alerts == []


def test_a_feature_waits_for_a_dozen_of_its_warm_ups():
    assert drift.needed_s(index("delta_1s")) == drift.LEAST_S
    assert drift.needed_s(index("rv_15m")) == 12 * FEATURES[index("rv_15m")].warmup_s
    assert drift.needed_s(index("tod_sin")) == drift.needed_s(index("poc_dist")) == np.inf


def test_a_silence_counts_for_nothing():
    watch, alerts = monitor()
    values = training(HOUR, seed=2)
    values[:, index("rv_30s")] += 3.0
    for i, row in enumerate(values):  # an hour's decisions, with a weekend in the middle
        watch.see(row, START + 5 * i * NS_PER_S + (i > HOUR // 2) * 172_800 * NS_PER_S)
    assert alerts == []


# -------------------------------------------------------------------------------------------------------------- bundle


def test_histograms_survive_the_bundle():
    data = npz(edges=REFERENCE.edges, shares=REFERENCE.shares)
    again = Histograms.from_bytes(data, len(NAMES))
    assert np.array_equal(again.edges, REFERENCE.edges)
    assert np.array_equal(again.shares, REFERENCE.shares)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\3\4 no archive",
        npz(edges=REFERENCE.edges),
        npz(edges=REFERENCE.edges[:3], shares=REFERENCE.shares),
        npz(edges=REFERENCE.edges[:, ::-1], shares=REFERENCE.shares),
        npz(edges=REFERENCE.edges, shares=2 * REFERENCE.shares),
        npz(edges=REFERENCE.edges, shares=REFERENCE.shares * np.nan),
        npz(edges=np.array(["a"]), shares=REFERENCE.shares),
    ],
)
def test_histograms_that_make_no_sense_are_refused(data):
    with pytest.raises(BundleError, match=r"reference histograms.*make the bundle again"):
        Histograms.from_bytes(data, len(NAMES))
