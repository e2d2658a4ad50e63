"""Where an entry is priced, and how far it may go: as configured, and never beyond."""

from dataclasses import replace

import pytest
from actor_parts import LOOSE, TICK
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon import config
from mia_daemon.clock import NS_PER_S
from mia_daemon.errors import ConfigError
from mia_daemon.execution.entry_policy import ChasePolicy, EntryPolicy
from mia_daemon.market import Touch
from mia_daemon.records import Side


def parsed(**tables):
    return config.parse({"risk": LOOSE.model_dump(), **tables}, "test", environ={})


def policy_of(kind, **execution):
    return EntryPolicy.of(parsed(execution={"policy": kind, **execution}, decision={"max_slippage_ticks": 4}), TICK)


@pytest.mark.parametrize(
    ("kind", "side", "expected", "price"),
    [
        ("marketable_limit", Side.BUY, 100.25, 101.25),
        ("marketable_limit", Side.SELL, 100.0, 99.0),
        ("market_with_protection", Side.BUY, 100.25, 103.25),
        ("market_with_protection", Side.SELL, 100.0, 97.0),
        ("limit_at_touch", Side.BUY, 100.0, 100.0),
        ("limit_at_touch", Side.SELL, 100.25, 100.25),
    ],
)
def test_an_entry_takes_the_far_touch_with_a_limit_or_joins_the_near_one(kind, side, expected, price):
    policy, touch = policy_of(kind, protection_ticks=12), Touch(100.0, 100.25)
    assert policy.expected(side, touch) == expected
    assert policy.price(side, expected) == price
    assert policy.follows is (kind == "limit_at_touch")


def test_ticks_and_seconds_of_the_configuration_become_points_and_event_time():
    settings = parsed(
        execution={
            "policy": "limit_at_touch", "protection_ticks": 10, "chase_after_s": 1.5, "max_chases": 7,
            "max_chase_ticks": 3, "unfilled_after_s": 4.0, "unfilled": "cross",
        },
        decision={"max_slippage_ticks": 2, "stop_ticks": 16, "target_ticks": 24},
        broker={"entry_timeout_s": 12.0},
    )  # fmt: skip
    assert EntryPolicy.of(settings, TICK) == EntryPolicy(
        kind="limit_at_touch",
        tick=TICK,
        slippage=0.5,
        protection=2.5,
        stop=4.0,
        target=6.0,
        timeout_ns=12 * NS_PER_S,
        chase=ChasePolicy(every_ns=1_500_000_000, max_moves=7, max_distance=0.75, unfilled_ns=4 * NS_PER_S, cross=True),
    )
    assert not policy_of("limit_at_touch", unfilled="give_up").chase.cross


@given(
    side=st.sampled_from(Side),
    first=st.integers(390, 410),
    bid=st.integers(380, 420),
    spread=st.integers(1, 4),
    slippage=st.integers(0, 5),
    chase=st.integers(1, 8),
)
def test_a_crossing_takes_the_other_side_within_its_bounds_or_is_none(side, first, bid, spread, slippage, chase):
    policy = EntryPolicy(
        kind="limit_at_touch", tick=TICK, slippage=slippage * TICK, protection=0.0, stop=1.0, target=1.0, timeout_ns=1,
        chase=ChasePolicy(every_ns=1, max_moves=1, max_distance=chase * TICK, unfilled_ns=1, cross=True),
    )  # fmt: skip
    touch = Touch(bid * TICK, (bid + spread) * TICK)
    price = policy.crossing(first * TICK, side, touch)
    reachable = (touch.far(side) - first * TICK) * side <= chase * TICK
    assert (price is not None) == reachable
    if price is not None:
        assert (price - touch.far(side)) * side >= 0
        assert (price - touch.far(side)) * side <= slippage * TICK
        assert (price - first * TICK) * side <= chase * TICK


def test_a_crossing_goes_as_far_as_slippage_or_chase_allow():
    policy, touch = policy_of("limit_at_touch", max_chase_ticks=4), Touch(100.0, 100.25)
    assert policy.crossing(100.0, Side.BUY, touch) == 101.0  # the chase ends here, the slippage would be 101.25
    assert policy.crossing(101.0, Side.BUY, touch) == 101.25
    far = replace(policy, chase=replace(policy.chase, max_distance=0.0))
    assert far.crossing(100.0, Side.BUY, touch) is None


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"decision": {"max_slippage_ticks": 24}}, "decision.max_slippage_ticks (24) reaches decision.target_ticks"),
        ({"execution": {"policy": "market_with_protection", "protection_ticks": 30}}, "execution.protection_ticks"),
        ({"execution": {"policy": "limit_at_touch", "max_chase_ticks": 24}}, "execution.max_chase_ticks"),
        ({"execution": {"policy": "limit_at_touch", "unfilled_after_s": 15.0}}, "broker.entry_timeout_s"),
        ({"execution": {"policy": "market"}}, "execution.policy"),
    ],
)
def test_a_policy_that_can_not_work_is_refused(tables, says):
    with pytest.raises(ConfigError) as caught:
        parsed(**tables)
    assert says in str(caught.value)
