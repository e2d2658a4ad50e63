import time

import numpy as np
import pytest

from mia_daemon.errors import UsageError
from mia_daemon.features.obs_template import ObservationTemplate, own_state
from mia_daemon.products.instruments import instrument
from mia_daemon.records import NOTHING_RECALLED, AccountState, Recalled, RegimeProbs

RNG = np.random.default_rng(3)
INDICES = RNG.permutation(350)[:150]
CENTRE = RNG.normal(size=150).astype(np.float32)
SCALE = RNG.uniform(0.1, 3, 150).astype(np.float32)
LOW, HIGH = CENTRE - SCALE, CENTRE + SCALE
REGIME = RegimeProbs(0.2, 0.7, 0.1)
ES = instrument("ESZ26_FUT_CME")


def template(**changed):
    arguments = {"indices": INDICES, "centre": CENTRE, "scale": SCALE, "low": LOW, "high": HIGH, "clip": 2.0}
    return ObservationTemplate(**{**arguments, **changed})


def values():
    return RNG.normal(scale=3, size=350).astype(np.float32)


def test_it_selects_scales_and_clips():
    x = values()
    got, share = template()(x, REGIME)
    assert got.dtype == np.float32
    assert got.shape == (150,)
    expected = [min(max((x[i] - c) / s, -2), 2) for i, c, s in zip(INDICES, CENTRE, SCALE, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    outside = [not low <= x[i] <= high for i, low, high in zip(INDICES, LOW, HIGH, strict=True)]
    assert 0.2 < share < 0.9
    assert share == pytest.approx(np.mean(outside))


def test_weights_are_blended_by_the_regimes_probabilities():
    x = values()
    weights = RNG.uniform(size=(3, 150))
    plain, share = template()(x, REGIME)
    weighted, same_share = template(weights=weights)(x, REGIME)
    np.testing.assert_allclose(weighted, plain * (0.2 * weights[0] + 0.7 * weights[1] + 0.1 * weights[2]), rtol=1e-5)
    assert share == same_share


def test_neither_input_nor_earlier_output_is_touched():
    make = template()
    x = values()
    before = x.copy()
    first, _ = make(x, REGIME)
    kept = first.copy()
    make(values(), REGIME)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(x, before)


def test_a_value_that_is_no_number_stays_one_and_counts_as_out_of_range():
    x = np.full(350, np.nan, np.float32)
    got, share = template()(x, REGIME)
    assert np.isnan(got).all()
    assert share == 1.0


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"centre": CENTRE[:-1]}, "centre must be 150 finite numbers"),
        ({"low": np.full(150, np.nan)}, "low must be 150 finite numbers"),
        ({"scale": np.zeros(150)}, "scale and clip must be above 0"),
        ({"clip": 0.0}, "scale and clip must be above 0"),
        ({"clip": np.inf}, "scale and clip must be above 0"),
        ({"low": HIGH + 1}, "low above its high"),
        ({"indices": [*INDICES[:-1], 350]}, "selected indices must be 0 … 349"),
        ({"weights": np.ones((2, 150))}, "weights must be 450 finite numbers"),
    ],
)
def test_impossible_arrays_are_refused(changed, says):
    with pytest.raises(UsageError, match=says):
        template(**changed)


def test_it_is_fast():
    make, x = template(weights=np.ones((3, 150))), values()
    times = []
    for _ in range(500):
        start = time.perf_counter()
        make(x, REGIME)
        times.append(time.perf_counter() - start)
    assert min(times) < 50e-6  # 10 µs on an idle machine


def account(**changed):
    fields = {
        "seq": 1,
        "ts_ns": 100_000_000_000,
        "position": 0,
        "average_price": 0.0,
        "unrealized": 0.0,
        "realized_today": 0.0,
        "opened_ns": 0,
        "equity": 1.0,
        "drawdown": 0.0,
    }
    return AccountState(**{**fields, **changed})


def test_flat_with_nothing_recalled_is_all_zeros_and_far_from_all():
    state = own_state(account(), ES, 2, 4.0, NOTHING_RECALLED)
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state, [0, 0, 0, 0, 0, 0, 1])


def test_own_state_of_a_position():
    now = account(position=-2, unrealized=-300.0, opened_ns=39_000_000_000, drawdown=0.03)
    state = own_state(now, ES, 4, 3.0, Recalled(16, 0.75, -1.5, 0.8))
    # 300 USD over 3 points of 50 USD of 2 contracts is one ATR
    np.testing.assert_allclose(state, [-0.5, -0.2, np.log(62) / 8, 0.03, 0.5, -0.3, 0.16], rtol=1e-6)


@pytest.mark.parametrize(("outcome", "distance", "shown"), [(9.0, 7.0, (1.0, 1.0)), (-9.0, 0.0, (-1.0, 0.0))])
def test_what_is_recalled_is_bounded(outcome, distance, shown):
    assert tuple(own_state(account(), ES, 2, 4.0, Recalled(1, 0.0, outcome, distance))[4:]) == (-1.0, *shown)


def test_profit_is_bounded_and_a_cold_atr_is_one_tick():
    won = own_state(account(position=1, unrealized=1e6, opened_ns=1), ES, 1, 2.0, NOTHING_RECALLED)
    assert won[1] == 1.0
    assert own_state(account(position=1, unrealized=-1e6, opened_ns=1), ES, 1, 2.0, NOTHING_RECALLED)[1] == -1.0
    assert own_state(account(position=1, unrealized=12.5, opened_ns=1), ES, 1, 0.0, NOTHING_RECALLED)[
        1
    ] == pytest.approx(0.2)
