import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.model.trade_probability import MAX_OFFSET, Calibration, RegimeOffsets, calibrated
from mia_daemon.records import RegimeProbs

EVEN = RegimeProbs(1 / 3, 1 / 3, 1 / 3)


def test_without_calibration_a_probability_stays_as_it_is():
    for raw in (0.001, 0.3, 0.5, 0.99):
        assert calibrated(raw, Calibration(), EVEN) == pytest.approx(raw, abs=1e-12)


def test_slope_and_intercept_work_on_the_logit():
    found = calibrated(0.8, Calibration(slope=0.5, intercept=0.2), EVEN)
    assert found == pytest.approx(1 / (1 + math.exp(-(0.5 * math.log(4) + 0.2))), abs=1e-12)


def test_each_regime_shifts_by_its_share():
    calibration = Calibration(offsets=RegimeOffsets(range=0.2, trend=0.6, defensive=-1.0))
    regime = RegimeProbs(0.5, 0.3, 0.2)
    shift = 0.5 * 0.2 + 0.3 * 0.6 - 0.2 * 1.0
    assert calibrated(0.5, calibration, regime) == pytest.approx(1 / (1 + math.exp(-shift)), abs=1e-12)


@given(
    raw=st.floats(0, 1),
    slope=st.floats(0.001, 1000),
    intercept=st.floats(-1000, 1000),
    offset=st.floats(-MAX_OFFSET, MAX_OFFSET),
)
def test_it_stays_a_probability(raw, slope, intercept, offset):
    calibration = Calibration(slope=slope, intercept=intercept, offsets=RegimeOffsets(trend=offset))
    assert 0 <= calibrated(raw, calibration, RegimeProbs(0, 1, 0)) <= 1


def test_it_rises_with_the_graphs_probability():
    calibration = Calibration(slope=1.7, intercept=-0.4)
    answers = [calibrated(raw / 100, calibration, EVEN) for raw in range(101)]
    assert answers == sorted(answers)
    assert answers[0] < answers[-1]


def test_a_nan_stays_visible():
    assert math.isnan(calibrated(float("nan"), Calibration(), EVEN))


@pytest.mark.parametrize("offset", [MAX_OFFSET * 1.01, -MAX_OFFSET * 1.01, float("nan"), float("inf")])
def test_an_offset_beyond_the_bound_is_refused(offset):
    with pytest.raises(ValueError, match="trend"):
        RegimeOffsets(trend=offset)


@pytest.mark.parametrize("slope", [0.0, -1.0, float("nan")])
def test_a_slope_that_turns_probabilities_round_is_refused(slope):
    with pytest.raises(ValueError, match="slope"):
        Calibration(slope=slope)
