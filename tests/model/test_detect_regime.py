import itertools
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import BundleError, UsageError
from mia_daemon.model import bundle
from mia_daemon.model.detect_regime import DEFENSIVE, Chain, Emission, RegimeDetector, RegimeParameters
from mia_daemon.records import RegimeProbs

NAMES = {"rv": 0, "ratio": 1, "er": 2}
RV = Emission(feature="rv", transform="log", mean=(-8.0, -6.5), sd=(0.5, 0.7), low=-10.0, high=-5.0)
RATIO = Emission(feature="ratio", mean=(0.0, 0.4), sd=(0.3, 0.3), low=-2.0, high=2.0)
ER = Emission(feature="er", mean=(0.2, 0.5), sd=(0.12, 0.2), low=0.0, high=1.0)
PARAMETERS = RegimeParameters(
    interval_s=5.0,
    volatility=Chain(leave=(0.01, 0.03), temper=0.3, emissions=(RV, RATIO)),
    direction=Chain(leave=(0.02, 0.05), temper=0.25, emissions=(ER,)),
)


def index(name):
    if name not in NAMES:
        raise UsageError(name)
    return NAMES[name]


def detector(parameters=PARAMETERS):
    return RegimeDetector(parameters, index)


def random_values(seed, n):
    rng = np.random.default_rng(seed)
    return np.column_stack([np.exp(rng.normal(-7, 1, n)), rng.normal(0.2, 0.6, n), rng.uniform(0, 1, n)]).astype(
        np.float32
    )


def density(emission, state, value):
    """The Gaussian density itself, from its definition."""
    x = float(value)
    x = math.log(max(x, 1e-9)) if emission.transform == "log" else x
    x = min(max(x, emission.low), emission.high)
    mean, sd = emission.mean[state], emission.sd[state]
    return math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


def likelihood(chain, state, row):
    return math.prod(density(e, state, row[index(e.feature)]) for e in chain.emissions) ** chain.temper


def transition(chain):
    up, down = chain.leave
    return np.array([[1 - up, up], [down, 1 - down]])


def by_paths(chain, rows):
    """P(last state = 1 | all rows), summed over every path of states."""
    up, down = chain.leave
    start = np.array([down, up]) / (up + down)
    matrix = transition(chain)
    total = np.zeros(2)
    for path in itertools.product((0, 1), repeat=len(rows)):
        weight = start[path[0]] * likelihood(chain, path[0], rows[0])
        for before, state, row in zip(path, path[1:], rows[1:], strict=False):
            weight *= matrix[before, state] * likelihood(chain, state, row)
        total[path[-1]] += weight
    return total[1] / total.sum()


def by_matrices(chain, rows, steps):
    up, down = chain.leave
    belief = np.array([down, up]) / (up + down)
    answers = []
    for row, power in zip(rows, steps, strict=True):
        belief = belief @ np.linalg.matrix_power(transition(chain), power)
        belief *= [likelihood(chain, state, row) for state in (0, 1)]
        belief /= belief.sum()
        answers.append(belief[1])
    return np.array(answers)


def joined(high, trend):
    return RegimeProbs((1 - high) * (1 - trend), (1 - high) * trend, high)


def test_the_filter_equals_the_sum_over_all_paths():
    rows = random_values(1, 9)
    found = detector()
    for n, row in enumerate(rows, 1):
        got = found.step(row, n * 5 * NS_PER_S)
        want = joined(by_paths(PARAMETERS.volatility, rows[:n]), by_paths(PARAMETERS.direction, rows[:n]))
        assert got == pytest.approx(want, abs=1e-12)


def test_the_filter_equals_matrix_powers_over_irregular_gaps():
    rows = random_values(2, 400)
    gaps = np.random.default_rng(3).choice([1, 1, 1, 2, 7, 300], 400)
    high = by_matrices(PARAMETERS.volatility, rows, gaps)
    trend = by_matrices(PARAMETERS.direction, rows, gaps)
    found = detector()
    for row, ts_ns, h, t in zip(rows, np.cumsum(gaps) * 5 * NS_PER_S, high, trend, strict=True):
        assert found.step(row, int(ts_ns)) == pytest.approx(joined(h, t), abs=1e-12)


def by_hmmlearn(chain, rows):
    """P(state 1) after each row: the posterior of the last state of every prefix, which is the filtered one."""
    hmm = pytest.importorskip("hmmlearn.hmm", reason="hmmlearn comes with the extra [train]")

    class Tempered(hmm.GaussianHMM):
        def _compute_log_likelihood(self, x):
            return chain.temper * super()._compute_log_likelihood(x)

    up, down = chain.leave
    model = Tempered(2, covariance_type="diag", implementation="log", init_params="")
    model.startprob_ = np.array([down, up]) / (up + down)
    model.transmat_ = transition(chain)
    model.means_ = np.array([e.mean for e in chain.emissions]).T
    model.covars_ = np.array([e.sd for e in chain.emissions]).T ** 2
    seen = np.array(
        [
            np.clip(np.log(np.maximum(x, 1e-9)) if e.transform == "log" else x, e.low, e.high)
            for e, x in zip(chain.emissions, rows.astype(np.float64), strict=True)
        ]
    ).T
    return np.array([model.score_samples(seen[:n])[1][-1, 1] for n in range(1, len(seen) + 1)])


@pytest.mark.parametrize("parameters", [PARAMETERS, bundle.load(bundle.shipped()).regime], ids=["made up", "shipped"])
def test_the_filter_agrees_with_hmmlearns_posterior(parameters):
    chains = (parameters.volatility, parameters.direction)
    names = [e.feature for chain in chains for e in chain.emissions]
    rng = np.random.default_rng(9)
    columns = {
        e.feature: np.exp(x) if e.transform == "log" else x
        for chain in chains
        for e in chain.emissions
        for x in [rng.normal(rng.choice(e.mean, 300), np.mean(e.sd))]
    }
    rows = np.array([columns[name] for name in names], np.float32).T
    found = RegimeDetector(parameters, names.index)
    got = np.array([found.step(row, n * round(parameters.interval_s * NS_PER_S)) for n, row in enumerate(rows)])
    first = len(parameters.volatility.emissions)
    high, trend = by_hmmlearn(chains[0], rows.T[:first]), by_hmmlearn(chains[1], rows.T[first:])
    want = np.array([joined(h, t) for h, t in zip(high, trend, strict=True)])
    assert np.abs(got - want).max() < 1e-6
    assert np.ptp(want, axis=0).min() > 0.3


def test_the_answer_never_depends_on_what_comes_later():
    rows, other = random_values(4, 50), random_values(5, 50)
    one, two = detector(), detector()
    for n in range(25):
        assert one.step(rows[n], n * 5 * NS_PER_S) == two.step(rows[n], n * 5 * NS_PER_S)
    assert one.step(rows[25], 125 * NS_PER_S) != two.step(other[25], 125 * NS_PER_S)


def test_after_a_long_silence_only_the_long_run_shares_remain_before_the_observation_counts():
    rows = random_values(6, 30)
    tired, fresh = detector(), detector()
    for n, row in enumerate(rows):
        tired.step(row, n * 5 * NS_PER_S)
    assert tired.step(rows[0], 10**6 * NS_PER_S) == pytest.approx(fresh.step(rows[0], 0), abs=1e-9)


def test_time_that_stands_still_or_goes_back_moves_no_transition():
    found = detector()
    first = found.step(random_values(7, 1)[0], 100 * NS_PER_S)
    neutral = RegimeDetector(
        PARAMETERS.model_copy(
            update={
                "volatility": Chain(leave=(0.01, 0.03), temper=1.0, emissions=(flat("rv"),)),
                "direction": Chain(leave=(0.02, 0.05), temper=1.0, emissions=(flat("er"),)),
            }
        ),
        index,
    )
    neutral._volatility.probability, neutral._direction.probability = 0.9, 0.8
    neutral._last_ns = 100 * NS_PER_S
    for ts_ns in (100 * NS_PER_S, 50 * NS_PER_S):
        assert neutral.step(np.full(3, 0.1, np.float32), ts_ns) == pytest.approx(joined(0.9, 0.8), abs=1e-15)
    assert sum(first) == pytest.approx(1, abs=1e-12)


def flat(name):
    """An observation that says nothing."""
    return Emission(feature=name, mean=(0.0, 0.0), sd=(1.0, 1.0), low=-1.0, high=1.0)


finite32 = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine drawing takes long
@given(st.lists(st.tuples(finite32, finite32, finite32, st.integers(0, 10**15)), min_size=1, max_size=30))
def test_whatever_is_observed_the_probabilities_are_numbers_that_sum_to_one(steps):
    found, ts_ns = detector(), 0
    for *values, gap in steps:
        ts_ns += gap
        probs = found.step(np.array(values, np.float32), ts_ns)
        assert sum(probs) == pytest.approx(1, abs=1e-12)
        assert all(0 <= p <= 1 for p in probs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_value_that_is_no_number_is_answered_defensively_and_not_learnt_from(bad, place):
    rows = random_values(8, 20)
    hurt, whole = detector(), detector()
    for n, row in enumerate(rows):
        if n == 10:
            broken = row.copy()
            broken[place] = bad
            assert hurt.step(broken, n * 5 * NS_PER_S) == DEFENSIVE
        else:
            assert hurt.step(row, n * 5 * NS_PER_S) == pytest.approx(whole.step(row, n * 5 * NS_PER_S), abs=1e-12)


def test_evidence_moves_it_the_right_way():
    calm_range, calm_trend, wild = [3e-4, 0.0, 0.1], [3e-4, 0.0, 0.6], [3e-3, 0.8, 0.2]
    found, answers = detector(), []
    for block, row in enumerate((calm_range, calm_trend, wild)):
        for n in range(60):
            probs = found.step(np.array(row, np.float32), (block * 60 + n) * 5 * NS_PER_S)
        answers.append(probs.most_likely())
    assert answers == ["range", "trend", "defensive"]


def test_a_feature_unknown_to_the_catalogue_is_refused():
    parameters = PARAMETERS.model_copy(
        update={"direction": Chain(leave=(0.1, 0.1), temper=1.0, emissions=(flat("er_99m"),))}
    )
    with pytest.raises(BundleError, match=r"regime\.json.*er_99m"):
        detector(parameters)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (Chain, {"leave": [0.6, 0.5]}),
        (Chain, {"leave": [0.0, 0.1]}),
        (Chain, {"temper": 0.0}),
        (Chain, {"emissions": []}),
        (Emission, {"sd": [1.0, 0.0]}),
        (Emission, {"low": 2.0, "high": 2.0}),
        (Emission, {"mean": [0.0, float("nan")]}),
        (Emission, {"transform": "sqrt"}),
    ],
)
def test_parameters_that_make_no_sense_are_refused(part, change):
    whole = {Chain: PARAMETERS.direction, Emission: ER}[part].model_dump()
    part.model_validate(whole)
    with pytest.raises(ValueError, match="validation error"):
        part.model_validate({**whole, **change})
