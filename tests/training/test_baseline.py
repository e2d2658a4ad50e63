import json

import numpy as np
import pytest

from mia_daemon.features import catalogue
from mia_daemon.model import bundle
from mia_daemon.products.instruments import instrument
from mia_daemon.training import baseline, baseline_fit
from mia_daemon.training.labels import forward_change
from mia_daemon.training.linear_models import purged_split
from mia_daemon.training.synthetic import TELLING, synthetic_recording

ES = instrument("ESZ26_FUT_CME")
ROWS = 9000


@pytest.fixture(scope="module")
def recording():
    return synthetic_recording(5, ROWS)


@pytest.fixture(scope="module")
def fitted(recording):
    return baseline_fit.fit(recording, ES, 5.0)


def test_it_finds_what_moves_the_price_and_ranks_it_first(fitted):
    assert {name for name, _ in fitted.importance[:3]} == set(TELLING)
    values = [value for _, value in fitted.importance]
    assert values == sorted(values, reverse=True)
    assert values[2] > 3 * values[3]
    assert {name for name, _ in fitted.importance} == {feature.name for feature in catalogue.FEATURES}


def test_out_of_sample_it_says_what_can_be_checked(fitted, recording):
    metrics = fitted.metrics
    assert metrics["market"] == "simulated"
    assert metrics["forecast_correlation"] > 0.4
    assert metrics["sign_right_share"] > 0.65
    assert metrics["net_ticks_per_round_trip"] > metrics["net_ticks_per_round_trip_at_1.5_costs"] > 0
    assert metrics["round_trips_per_10_min"] == pytest.approx(
        metrics["round_trips"] / metrics["evaluated_decisions"] * 120, abs=0.01
    )
    json.dumps(metrics, allow_nan=False)


def test_on_noise_it_claims_nothing():
    noise = baseline_fit.fit(synthetic_recording(6, ROWS, strength=0.0), ES, 5.0).metrics
    assert abs(noise["forecast_correlation"]) < 0.15
    assert noise["net_ticks_per_round_trip"] < 0.5
    assert noise["probability_auc"] == pytest.approx(0.5, abs=0.12)


def test_the_policy_enters_as_often_as_meant_and_leans_to_neither_side(fitted, recording):
    rows = purged_split(ROWS, 240).fit
    columns = recording.values[:, [catalogue.index(name) for name in fitted.selected]]
    action = np.tanh(fitted.policy(fitted.scale.apply(columns[rows], baseline_fit.CLIP)))
    assert (np.abs(action) >= 0.35).mean() == pytest.approx(baseline_fit.ENTRY_SHARE, abs=0.02)
    assert abs(np.median(action)) < 0.1


def test_what_comes_after_the_fitted_part_does_not_change_the_fit(fitted, recording):
    split = purged_split(ROWS, 240)
    values = recording.values.copy()
    values[split.evaluate] = -values[split.evaluate]
    changed = type(recording)(**{
        **{name: getattr(recording, name) for name in type(recording).__dataclass_fields__}, "values": values,
    })  # fmt: skip
    other = baseline_fit.fit(changed, ES, 5.0)
    assert other.importance == fitted.importance
    np.testing.assert_array_equal(other.policy.weights, fitted.policy.weights)
    assert other.calibration == fitted.calibration
    assert other.regime == fitted.regime
    assert other.metrics != fitted.metrics


def test_labels_of_the_fitted_part_end_before_the_next_part_begins(recording):
    split = purged_split(ROWS, 240)
    change = forward_change(recording, 12, 5.0)
    assert np.isfinite(change[split.fit]).all()
    assert split.fit.stop + 60 <= split.calibrate.start  # the longest label, five minutes of 5 s decisions


def test_it_never_calls_itself_fit_for_live(fitted, recording, tmp_path):
    made = bundle.write(tmp_path / "made", *baseline.assemble(fitted, recording, 5.0, 5))
    assert made.research_only
    assert made.manifest.kind == "baseline"
    assert "seed 5" in made.manifest.created_by


def test_archives_depend_on_content_alone():
    assert baseline.npz(a=np.arange(3)) == baseline.npz(a=np.arange(3))
    assert baseline.npz(a=np.arange(3)) != baseline.npz(a=np.arange(4))


def test_the_script_says_what_it_made(fitted, recording, tmp_path, monkeypatch, capsys):
    def make(out, seed, episodes):
        assert (seed, episodes) == (3, 5)
        return bundle.write(out, *baseline.assemble(fitted, recording, 5.0, seed))

    monkeypatch.setattr(baseline, "make", make)
    assert baseline.main(["--out", str(tmp_path / "made"), "--seed", "3", "--episodes", "5"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sha256"] == bundle.load(tmp_path / "made").sha256
    assert said["market"] == "simulated"


def test_too_few_episodes_are_said_in_one_sentence(monkeypatch, tmp_path, capsys):
    def make(*_):
        purged_split(100, 60)

    monkeypatch.setattr(baseline, "make", make)
    assert baseline.main(["--out", str(tmp_path / "made")]) == 1
    assert "too few" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
