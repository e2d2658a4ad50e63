import hashlib
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.features import catalogue
from mia_daemon.features.obs_template import own_state
from mia_daemon.model import bundle
from mia_daemon.model.detect_regime import DEFENSIVE, RegimeDetector
from mia_daemon.model.graph import Graph
from mia_daemon.model.inference import UNUSABLE, Inference
from mia_daemon.model.market_memory import Experience, MarketMemory, entry_of
from mia_daemon.model.trade_probability import calibrated
from mia_daemon.products.instruments import instrument
from mia_daemon.records import NOTHING_RECALLED, AccountState, FeatureWindow, empty_events
from mia_daemon.training.baseline import npz
from mia_daemon.training.onnx_graphs import sided_logistic, tanh_policy

ES = instrument("ESZ26_FUT_CME")
NO_EVENTS = empty_events(0)


def window(recording, row, **changes):
    values = recording.values[row].copy()
    return replace(FeatureWindow(NO_EVENTS, row, int(recording.ts_ns[row]), values, warm=True), **changes)


def account(ts_ns=0, **changes):
    state = AccountState(
        seq=0,
        ts_ns=ts_ns,
        position=0,
        average_price=0.0,
        unrealized=0.0,
        realized_today=0.0,
        opened_ns=0,
        equity=100_000.0,
        drawdown=0.0,
    )
    return replace(state, **changes)


def long_since(ts_ns):
    return account(
        ts_ns,
        position=1,
        average_price=6000.0,
        unrealized=75.0,
        opened_ns=ts_ns - 90 * NS_PER_S,
        equity=99_000.0,
        drawdown=0.01,
    )


def nothing():
    return MarketMemory(ES.tick_size, ES.point_value)


def predict(inference, what, state=None):
    return inference.predict(what, state or account(what.ts_ns), ES, 2)


def initializer(data, name):
    graph = onnx.load_from_string(data).graph
    return next(onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)


def test_a_prediction_is_what_numpy_makes_of_the_same_numbers(sound, recording):
    loaded = bundle.load(sound)
    inference, detector = Inference(loaded, nothing()), RegimeDetector(loaded.regime, catalogue.index)
    weights, bias = (initializer(loaded.graphs["policy.onnx"], name) for name in ("weights", "bias"))
    lean, conviction, base = (
        initializer(loaded.graphs[bundle.PROBABILITY], name) for name in ("weights", "conviction", "bias")
    )
    centre, scale = np.array(loaded.scaler.centre), np.array(loaded.scaler.scale)
    for row in range(300, 360):
        what = window(recording, row)
        state = long_since(what.ts_ns)
        found = predict(inference, what, state)
        regime = detector.step(what.values, what.ts_ns)
        market = np.clip((what.values[loaded.indices] - centre) / scale, -5, 5)
        own = own_state(state, ES, 2, float(what.values[catalogue.index("atr_14")]), NOTHING_RECALLED)
        action = np.tanh(np.concatenate([market, own]) @ weights[:, 0] + bias[0, 0])
        logit = np.sign(action) * (market @ lean[:, 0]) + conviction[0, 0] * abs(action) + base[0, 0]
        chance = calibrated(float(1 / (1 + np.exp(-logit))), loaded.manifest.probability, regime)
        assert found.regime_probs == pytest.approx(regime, abs=1e-12)
        assert found.action == pytest.approx(action, abs=1e-5)
        assert found.probability == pytest.approx(chance, abs=1e-5)
        assert found.policy == "baseline"
        assert found.out_of_range_share == 0.0


def test_the_hash_is_of_the_150_and_the_policys_own_7(sound, recording):
    loaded = bundle.load(sound)
    what = window(recording, 500)
    state = long_since(what.ts_ns)
    found = predict(Inference(loaded, nothing()), what, state)
    regime = RegimeDetector(loaded.regime, catalogue.index).step(what.values, what.ts_ns)
    market = bundle.observation_template(loaded)(what.values, regime)[0]
    own = own_state(state, ES, 2, float(what.values[catalogue.index("atr_14")]), NOTHING_RECALLED)
    observation = np.concatenate([market, own]).astype(np.float32)
    assert observation.shape == (157,)
    assert found.observation_sha256 == hashlib.sha256(observation.tobytes()).hexdigest()[:16]
    assert predict(Inference(loaded, nothing()), what).observation_sha256 != found.observation_sha256


def test_what_became_of_trades_in_such_markets_is_part_of_what_the_policy_sees(sound, recording):
    loaded = bundle.load(sound)
    memory = nothing()
    one, other = Inference(loaded, memory), Inference(loaded, nothing())
    what = window(recording, 500)
    exit_ns = what.ts_ns + 1
    memory.begin_with([Experience("t1", exit_ns, entry_of(what.values).market, 2.0)])
    assert predict(one, what).observation_sha256 == predict(other, what).observation_sha256
    later = replace(window(recording, 501), ts_ns=exit_ns)
    predict(one, later), predict(other, later)
    np.testing.assert_array_equal(one._observation[:154], other._observation[:154])
    np.testing.assert_allclose(one._observation[154:156], [1.0, 0.4])
    assert one._observation[156] < other._observation[156] == 1.0


def test_the_regime_goes_on_where_another_run_left_it(sound, recording):
    loaded = bundle.load(sound)
    whole, first, second = (Inference(loaded, nothing()) for _ in range(3))
    expected = [predict(whole, window(recording, row)) for row in range(100, 150)]
    found = [predict(first, window(recording, row)) for row in range(100, 120)]
    assert second.resume(first.regime)
    found += [predict(second, window(recording, row)) for row in range(120, 150)]
    assert found == expected


def test_a_regime_of_another_bundle_is_not_taken_over(sound, recording):
    loaded = bundle.load(sound)
    one, other = Inference(loaded, nothing()), Inference(loaded, nothing())
    predict(one, window(recording, 100))
    assert not other.resume(one.regime._replace(bundle_sha256="another"))
    assert not other.resume(None)
    assert predict(other, window(recording, 300)) == predict(Inference(loaded, nothing()), window(recording, 300))


def test_the_same_windows_give_the_same_predictions(sound, recording):
    loaded = bundle.load(sound)
    one, two = Inference(loaded, nothing()), Inference(loaded, nothing())
    for row in range(100, 150):
        assert predict(one, window(recording, row)) == predict(two, window(recording, row))


def test_values_it_has_handed_out_do_not_change_afterwards(sound, recording):
    inference = Inference(bundle.load(sound), nothing())
    what = window(recording, 10)
    before = what.values.copy()
    first = predict(inference, what)
    copy = replace(first)
    predict(inference, window(recording, 11))
    assert first == copy
    np.testing.assert_array_equal(what.values, before)


def test_values_beyond_the_training_range_are_counted(sound, recording):
    loaded = bundle.load(sound)
    values = recording.values[10].copy()
    values[loaded.indices[:30]] = 1e6
    assert predict(
        Inference(loaded, nothing()), window(recording, 10, values=values)
    ).out_of_range_share == pytest.approx(0.2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["selected", "unselected", "regime", "atr"])
def test_a_feature_that_is_no_number_makes_the_prediction_unusable(sound, recording, bad, place):
    loaded = bundle.load(sound)
    unselected = next(i for i in range(350) if i not in loaded.indices)
    index = {
        "selected": loaded.indices[7],
        "unselected": unselected,
        "regime": catalogue.index("rv_5m"),
        "atr": catalogue.index("atr_14"),
    }[place]
    values = recording.values[10].copy()
    values[index] = bad
    inference = Inference(loaded, nothing())
    found = predict(inference, window(recording, 10, values=values), long_since(int(recording.ts_ns[10])))
    assert np.isnan([found.action, found.probability]).all()
    assert (found.regime_probs, found.not_finite) == (DEFENSIVE, "a feature")
    assert (found.policy, found.out_of_range_share) == (UNUSABLE, 1.0)
    assert inference.refused == 1


@pytest.mark.parametrize("change", [{"unrealized": np.nan}, {"drawdown": np.inf}])
def test_an_account_that_is_no_number_makes_the_prediction_unusable(sound, recording, change):
    found = predict(Inference(bundle.load(sound), nothing()), window(recording, 10), account(position=1, **change))
    assert (found.policy, found.not_finite) == (UNUSABLE, "the account state")


def test_regime_probabilities_that_are_not_finite_make_one_prediction_unusable_and_no_other(sound, recording):
    loaded = bundle.load(sound)
    hurt = Inference(loaded, nothing())
    predict(hurt, window(recording, 40))
    chain, terms = hurt._detector._direction, hurt._detector._direction._terms
    chain._terms = [(log, low, high, np.nan, 0.0, 0.0) for log, low, high, *_ in terms]
    found = predict(hurt, window(recording, 41))
    assert (found.policy, found.regime_probs) == (UNUSABLE, DEFENSIVE)
    assert found.not_finite == "the regime probabilities"
    chain._terms = terms
    found = predict(hurt, window(recording, 42))
    assert found.not_finite == ""
    assert np.isfinite(found.regime_probs).all()
    assert sum(found.regime_probs) == pytest.approx(1.0)


def test_after_an_unusable_window_it_goes_on_as_if_that_had_not_been(sound, recording):
    loaded = bundle.load(sound)
    hurt, whole = Inference(loaded, nothing()), Inference(loaded, nothing())
    for row in range(40, 60):
        if row == 50:
            assert predict(hurt, window(recording, row, values=np.full(350, np.nan, np.float32))).policy == UNUSABLE
        else:
            found, expected = (predict(each, window(recording, row)) for each in (hurt, whole))
            assert found.regime_probs == pytest.approx(expected.regime_probs, abs=1e-12)
            assert found.action == pytest.approx(expected.action, abs=1e-6)


class Broken:
    """A graph whose answer is no finite number."""

    def __init__(self, answer, width):
        self.answer = answer
        self.vector = np.zeros(width, np.float32)

    def run(self):
        return self.answer


@pytest.mark.parametrize("answer", [np.nan, np.inf, -np.inf])
def test_a_graphs_answer_that_is_not_finite_makes_the_prediction_unusable(sound, recording, answer):
    loaded, what = bundle.load(sound), window(recording, 10)
    regime = RegimeDetector(loaded.regime, catalogue.index).step(what.values, what.ts_ns)
    without_probability, without_action = Inference(loaded, nothing()), Inference(loaded, nothing())
    without_probability._probability = Broken(answer, 158)
    without_action._policies[0] = replace(without_action._policies[0], graph=Broken(answer, 157))
    for inference, named in ((without_probability, "the trade probability"), (without_action, "the policy's action")):
        found = predict(inference, what)
        assert (found.policy, found.not_finite, found.regime_probs) == (UNUSABLE, named, regime)
        assert np.isnan([found.action, found.probability]).all()


def test_a_window_without_values_is_the_callers_mistake(sound):
    with pytest.raises(ValueError, match="no decision is due"):
        predict(Inference(bundle.load(sound), nothing()), FeatureWindow(NO_EVENTS))


POLICIES = (
    ("sac", "policy.onnx", 0.8, {"range": 0.2, "trend": 0.7, "defensive": 0.0}),
    ("ppo", "policy_ppo.onnx", -0.5, {"range": 0.5, "trend": 0.3, "defensive": 0.0}),
    ("ddpg", "policy_ddpg.onnx", 0.1, {"range": 0.3, "trend": 0.0, "defensive": 0.25}),
)


@pytest.fixture
def blended(made, tmp_path):
    """Three policies that always say the same, each its own."""
    parts, manifest = made
    graphs = {file: tanh_policy(np.zeros(157), float(np.arctanh(says))) for _, file, says, _ in POLICIES}
    with np.load(__import__("io").BytesIO(parts[bundle.SELFTEST])) as archive:
        test = dict(archive)
    test["action"] = np.tile(np.array([says for _, _, says, _ in POLICIES], np.float32), (len(test["ts_ns"]), 1))
    policies = [{"name": name, "file": file, "weights": weights} for name, file, _, weights in POLICIES]
    return bundle.write(
        tmp_path / "blend", {**parts, **graphs, bundle.SELFTEST: npz(**test)}, {**manifest, "policies": policies}
    )


def test_policies_blend_by_regime_and_what_they_leave_of_one_is_flat(blended, recording):
    inference = Inference(blended, nothing())
    seen = []
    for row in range(200):
        found = predict(inference, window(recording, row))
        regime = found.regime_probs._asdict()
        expected = sum(says * sum(regime[name] * weights[name] for name in weights) for _, _, says, weights in POLICIES)
        assert found.action == pytest.approx(expected, abs=1e-6)
        assert found.policy == "sac+ppo+ddpg"
        seen.append(found.action)
    assert np.ptp(seen) > 0.05  # the regimes did differ


def test_graphs_agree_with_numpy_on_a_thousand_observations():
    rng = np.random.default_rng(5)
    weights, lean = rng.normal(0, 0.1, 157), rng.normal(0, 0.1, 150)
    policy = Graph(tanh_policy(weights, 0.1), "policy.onnx", "observation", 157, "action")
    chance = Graph(sided_logistic(lean, 0.7, -0.2), "probability.onnx", "observation", 158, "probability")
    for observation in rng.normal(0, 2, (1000, 157)).astype(np.float32):
        action = policy(observation)
        assert action == pytest.approx(np.tanh(observation @ weights + 0.1), abs=1e-5)
        logit = np.sign(action) * (observation[:150] @ lean) + 0.7 * abs(action) - 0.2
        found = chance(np.append(observation, np.float32(action)))
        assert found == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_a_side_of_zero_counts_for_neither():
    chance = Graph(sided_logistic(np.ones(150), 1.0, 0.0), "probability.onnx", "observation", 158, "probability")
    assert chance(np.append(np.ones(157, np.float32), np.float32(0))) == pytest.approx(0.5)


def test_manifest_text_is_json_people_can_read(sound):
    text = (sound / bundle.MANIFEST).read_text()
    assert json.loads(text)["policies"][0]["name"] == "baseline"
    assert text.count("\n") > 20
