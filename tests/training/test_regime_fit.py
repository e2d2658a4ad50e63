import numpy as np
import pytest

from mia_daemon.model.detect_regime import RegimeDetector
from mia_daemon.training.regime_fit import DIRECTION, DWELL_S, VOLATILITY, fit_regimes

NAMES = [*VOLATILITY, *DIRECTION]
INTERVAL = 5.0


def market(seed, rows=20_000):
    """Values that switch between calm and storm, range and trend, every few hundred rows; and which it was."""
    rng = np.random.default_rng(seed)
    high, trend = (np.repeat(rng.random(rows // 250) < share, 250) for share in (0.25, 0.4))
    rv = np.exp(rng.normal(-8, 0.3, rows) + 1.5 * high)
    ratio = rng.normal(0, 0.3, rows) + 0.2 * high
    er = rng.normal(0.2, 0.08, rows) + 0.3 * trend
    adx = rng.normal(20, 4, rows) + 12 * trend
    return np.column_stack([rv, ratio, er, adx]).astype(np.float32), high, trend


def test_it_finds_the_states_the_values_were_drawn_from():
    values, high, trend = market(1)
    found = fit_regimes(values, NAMES, INTERVAL)
    rv, ratio = found.volatility.emissions
    assert rv.mean == pytest.approx((-8, -6.5), abs=0.1)
    assert rv.sd == pytest.approx((0.3, 0.3), abs=0.05)
    assert ratio.mean == pytest.approx((0, 0.2), abs=0.1)
    assert [e.feature for e in found.direction.emissions] == list(DIRECTION)
    for chain, share in ((found.volatility, high.mean()), (found.direction, trend.mean())):
        to_one, to_zero = chain.leave
        assert to_zero == INTERVAL / DWELL_S
        assert to_one / (to_one + to_zero) == pytest.approx(share, abs=0.05)


def test_what_it_fitted_recognises_new_data():
    found = fit_regimes(market(1)[0], NAMES, INTERVAL)
    values, high, trend = market(2)
    detector = RegimeDetector(found, NAMES.index)
    probs = np.array([detector.step(row, n * 5_000_000_000) for n, row in enumerate(values)])
    assert ((probs[:, 2] > 0.5) == high).mean() > 0.95
    calm = ~high
    assert ((probs[calm, 1] > probs[calm, 0]) == trend[calm]).mean() > 0.9


def test_more_of_the_first_feature_never_means_less_of_state_one():
    found = fit_regimes(market(1)[0], NAMES, INTERVAL)
    answers = []
    for rv in np.geomspace(1e-9, 1.0, 40):
        values = np.array([rv, 0.0, 0.2, 20.0], np.float32)
        answers.append(RegimeDetector(found, NAMES.index).step(values, 0).defensive)
    assert answers == sorted(answers)


def test_features_that_never_move_give_chains_that_say_nothing():
    found = fit_regimes(np.ones((5000, 4), np.float32), NAMES, INTERVAL)
    probs = RegimeDetector(found, NAMES.index).step(np.full(4, 7, np.float32), 0)
    assert sum(probs) == pytest.approx(1, abs=1e-12)


def test_the_same_values_give_the_same_parameters():
    values = market(3)[0]
    assert fit_regimes(values, NAMES, INTERVAL) == fit_regimes(values, NAMES, INTERVAL)
