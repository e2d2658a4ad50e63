import math
from dataclasses import replace

import numpy as np
import pytest
from round_trip import NOW, TRADE, values

from mia_daemon.clock import NS_PER_S
from mia_daemon.features import catalogue
from mia_daemon.model.market_memory import CAPACITY, KEEP_NS, NEIGHBOURS, REMEMBERED, Experience, MarketMemory
from mia_daemon.records import NOTHING_RECALLED

LATER = TRADE.exit_ns + NS_PER_S
DAY = 86_400 * NS_PER_S


def memory():
    return MarketMemory(0.25, 50.0)


def test_who_remembers_nothing_says_so():
    assert memory().recall(values(), NOW) == NOTHING_RECALLED


def test_a_trade_is_recalled_by_its_outcome_in_atrs_of_its_position():
    kept = memory()
    kept.entered("r1-9", values(atr=2.0))
    kept.closed(TRADE)
    assert kept.recall(values(er_15m=0.5), LATER) == (
        1, 1.0, pytest.approx(200.0 / (2 * 50.0 * 2.0)), pytest.approx(math.sqrt(1 / 7)),
    )  # fmt: skip


@pytest.mark.parametrize("atr", [0.0, math.nan])
def test_a_tick_stands_in_for_an_atr_that_is_not_warm(atr):
    kept = memory()
    kept.entered("r1-9", values(atr=atr))
    kept.closed(TRADE)
    assert kept.recall(values(), LATER).outcome == pytest.approx(200.0 / (2 * 50.0 * 0.25))


def test_nothing_later_than_the_moment_is_recalled_and_nothing_older_than_thirty_days():
    kept = memory()
    kept.entered("r1-9", values())
    kept.closed(TRADE)
    assert kept.recall(values(), TRADE.exit_ns - 1).trades == 0
    assert kept.recall(values(), TRADE.exit_ns).trades == 1
    assert kept.recall(values(), TRADE.exit_ns + KEEP_NS - 1).trades == 1
    assert kept.recall(values(), TRADE.exit_ns + KEEP_NS).trades == 0


def test_a_trade_is_recalled_by_its_own_time_also_beside_those_of_a_later_one():
    kept = memory()
    known = [Experience(name, LATER + days * DAY, np.zeros(7, np.float32), 1.0) for name, days in (("a", 1), ("b", 9))]
    kept.begin_with(known)
    assert kept.recall(values(), LATER).trades == 0
    kept.entered("r1-9", values())
    kept.closed(TRADE)
    assert [kept.recall(values(), LATER + days * DAY).trades for days in (0, 1, 9)] == [1, 2, 3]


def test_the_market_is_that_of_the_entry():
    kept = memory()
    kept.entered("r1-9", values(hurst_15m=0.8))
    kept.entered("r1-10", values(hurst_15m=0.2))
    kept.closed(TRADE)
    assert kept.recall(values(hurst_15m=0.8), LATER).distance == pytest.approx(0.0, abs=1e-6)


def test_a_trade_whose_entry_is_not_known_is_not_remembered():
    kept = memory()
    assert kept.closed(TRADE) is None
    assert len(kept) == 0


def test_entries_that_made_no_trade_are_forgotten():
    kept = memory()
    for number in range(1000):
        kept.entered(f"r1-{number}", values())
    assert kept.closed(replace(TRADE, decision_id="r1-0")) is None
    assert kept.closed(replace(TRADE, decision_id="r1-999")) is not None


def test_what_is_not_finite_counts_as_typical():
    kept = memory()
    kept.entered("r1-9", values(er_15m=math.nan, tod_sin=math.inf))
    kept.closed(TRADE)
    assert kept.recall(values(spread_ticks=-math.inf), LATER).distance == 0.0


def experiences(rng, n):
    markets = rng.normal(0, 1, (n, len(REMEMBERED))).astype(np.float32)
    exits_ns = NOW + np.sort(rng.integers(0, 2 * KEEP_NS, n))
    outcomes = rng.normal(0, 2, n)
    return [Experience(f"t{i}", int(exits_ns[i]), markets[i], float(outcomes[i])) for i in range(n)]


@pytest.mark.parametrize(
    "n", [1, NEIGHBOURS - 1, NEIGHBOURS, NEIGHBOURS + 1, 300, CAPACITY, CAPACITY + 77, 2 * CAPACITY + 1]
)
def test_the_neighbours_are_those_a_plain_search_finds(n):
    rng = np.random.default_rng(n)
    known = experiences(rng, n)
    kept = memory()
    kept.begin_with(reversed(known))
    moments = [NOW + KEEP_NS // 2, NOW + KEEP_NS, NOW + 3 * KEEP_NS // 2, known[-1].exit_ns, NOW + 2 * KEEP_NS]
    for now_ns in moments[3:] if n > 2 * CAPACITY else moments:  # the oldest are forgotten, and time runs forward
        market = values(**{name: typical + scale * rng.normal() for name, (typical, scale) in REMEMBERED.items()})
        found = kept.recall(market, now_ns)
        here = [(market[catalogue.index(name)] - typical) / scale for name, (typical, scale) in REMEMBERED.items()]
        known_then = [one for one in known if now_ns - KEEP_NS < one.exit_ns <= now_ns][-CAPACITY:]
        near = sorted(
            (sum((float(a) - float(b)) ** 2 for a, b in zip(one.market, here, strict=True)), one.outcome)
            for one in known_then
        )[:NEIGHBOURS]
        assert found.trades == len(near)
        if near:
            assert found.won_share == pytest.approx(sum(outcome > 0 for _, outcome in near) / len(near))
            assert found.outcome == pytest.approx(sum(outcome for _, outcome in near) / len(near))
            assert found.distance == pytest.approx(math.sqrt(sum(d for d, _ in near) / len(near) / 7), rel=1e-4)
