import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.training.linear_models import (
    Linear,
    auc,
    linear_shap,
    logistic,
    platt,
    purged_split,
    ridge,
    robust_scale,
    sigmoid,
)


def test_the_scale_is_that_of_a_gaussian_and_does_not_heed_outliers():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (20_000, 1)).astype(np.float32)
    x[:50] = 1e6
    found = robust_scale(x)
    assert found.centre[0] == pytest.approx(3.0, abs=0.05)
    assert found.scale[0] == pytest.approx(2.0, abs=0.05)
    assert found.high[0] == 1e6


def test_columns_that_hardly_move_get_a_scale_too():
    rare = np.zeros((1000, 2), np.float32)
    rare[:100, 1] = 4.0
    found = robust_scale(rare)
    assert found.scale.tolist() == [1.0, pytest.approx(1.2)]


def test_scaled_values_are_clipped():
    x = np.array([[0.0], [1.0], [2.0], [3.0], [1000.0]], np.float32)
    assert np.abs(robust_scale(x).apply(x, 5.0)).max() == 5.0


def test_ridge_without_penalty_is_least_squares():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(500, 4)), rng.normal(size=500)
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(500)]), y, rcond=None)[0]
    found = ridge(x, y, 0.0)
    np.testing.assert_allclose([*found.weights, found.bias], expected, atol=1e-10)


def test_ridge_minimises_what_it_says():
    rng = np.random.default_rng(2)
    x, y = rng.normal(1.0, 1.0, (300, 3)), rng.normal(5.0, 1.0, 300)

    def cost(model):
        return np.mean((model(x) - y) ** 2) + 0.3 * model.weights @ model.weights

    best = ridge(x, y, 0.3)
    for _ in range(50):
        other = Linear(best.weights + rng.normal(0, 0.05, 3), best.bias + rng.normal(0, 0.05))
        assert cost(other) > cost(best)


def test_logistic_regression_finds_the_odds_it_was_drawn_from():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40_000, 2))
    won = rng.random(40_000) < sigmoid(x @ np.array([1.0, -0.5]) + 0.3)
    found = logistic(x, won, 0.0)
    np.testing.assert_allclose([*found.weights, found.bias], [1.0, -0.5, 0.3], atol=0.05)


def test_the_gradient_of_logistic_regression_is_zero_where_it_stops():
    rng = np.random.default_rng(4)
    x, won = rng.normal(size=(400, 3)), rng.random(400) < 0.3
    found = logistic(x, won, 0.1)
    residual = sigmoid(found(x)) - won
    np.testing.assert_allclose(x.T @ residual + 0.1 * 400 * found.weights, 0, atol=1e-6)
    assert residual.sum() == pytest.approx(0, abs=1e-6)


def test_calibration_finds_how_overconfident_logits_are():
    rng = np.random.default_rng(6)
    logit = rng.normal(0, 2, 50_000)
    won = rng.random(50_000) < sigmoid(0.5 * logit - 0.4)
    assert platt(logit, won, 1.0) == pytest.approx((0.5, -0.4), abs=0.03)


def test_calibration_by_few_rows_changes_little():
    logit, lost = np.linspace(-1, 1, 100), np.zeros(100, bool)
    slope, intercept = platt(logit, lost, 0.01)
    assert slope == pytest.approx(1.0, abs=0.1)
    assert -0.2 < intercept < 0
    assert platt(logit, lost, 1.0)[1] < -1


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_calibration_of_extreme_logits_stays_finite(size):
    rng = np.random.default_rng(7)
    found = platt(size * rng.normal(size=1000), rng.random(1000) < 0.5, 1.0)
    assert np.isfinite(found).all()


def test_separable_data_do_not_blow_up():
    x = np.linspace(-1, 1, 100)[:, None]
    found = logistic(x, x[:, 0] > 0, 1e-3)
    assert np.isfinite(found.weights).all()
    assert found.weights[0] > 5


def test_shap_values_of_a_linear_model_add_up_to_its_output():
    rng = np.random.default_rng(5)
    x, model = rng.normal(2.0, 3.0, (200, 4)), Linear(np.array([1.0, -2.0, 0.0, 0.5]), 7.0)
    values = model.weights * (x - x.mean(axis=0))
    np.testing.assert_allclose(values.sum(axis=1) + model(x).mean(), model(x))
    np.testing.assert_allclose(linear_shap(model, x), np.abs(values).mean(axis=0))


@given(st.floats(-1e308, 1e308))
def test_the_sigmoid_never_overflows(x):
    assert 0 <= sigmoid(np.array([x]))[0] <= 1


@given(st.integers(200, 100_000), st.integers(0, 10))
def test_parts_of_a_split_are_apart_by_the_gap(rows, gap):
    split = purged_split(rows, gap)
    assert split.fit.start == 0
    assert split.calibrate.start - split.fit.stop == gap
    assert split.evaluate.start - split.calibrate.stop == gap
    assert split.evaluate.stop == rows
    assert split.fit.stop > split.calibrate.stop - split.calibrate.start > 0


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="generate more hours"):
        purged_split(100, 50)


def test_auc_counts_pairs():
    score, won = np.array([0.1, 0.4, 0.4, 0.8, 0.9]), np.array([False, True, False, True, False])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[won] for b in score[~won]]
    assert auc(score, won) == pytest.approx(np.mean(pairs))
    assert auc(score, np.ones(5, bool)) == 0.5
