import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import DecisionSettings
from mia_daemon.records import AccountState, Action, FeatureWindow, Prediction, RegimeProbs, empty_events
from mia_daemon.risk.codes import RiskCode, Verdict
from mia_daemon.trading.trading_loop import DecisionContext, DecisionReason, TradingLoop, decide, wanted_contracts

SETTINGS = DecisionSettings(max_position=3)
NOW = 1_790_000_000 * NS_PER_S
OPEN = DecisionContext(bid=6000.0, ask=6000.25)


def window(*, warm=True, ts_ns=NOW):
    return FeatureWindow(empty_events(1), seq=7, ts_ns=ts_ns, values=np.zeros(350, np.float32), warm=warm)


def said(action, *, probability=0.9, defensive=0.1):
    return Prediction(RegimeProbs(0.9 - defensive, 0.1, defensive), action, probability, "baseline", 0.0, "ab")


def account(position=0, held_s=60.0):
    opened = NOW - round(held_s * NS_PER_S) if position else 0
    return AccountState(7, NOW, position, 6000.0 if position else 0.0, 0.0, 0.0, opened, 100_000.0, 0.0)


def blind(seconds, **changes):
    """Predictions have not been finite for so long."""
    return dataclasses.replace(OPEN, without_prediction_s=seconds, **changes)


GATE = None  # asked by the executor, not by the decision


def outcome(action, position=0, *, held_s=60.0, warm=True, context=OPEN, probability=0.9, defensive=0.1):
    decision = decide(
        window(warm=warm), said(action, probability=probability, defensive=defensive), account(position, held_s),
        SETTINGS, context, run_id="R",
    )  # fmt: skip
    return decision.action, decision.target, decision.reason


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (0.35, (Action.HOLD, 0, DecisionReason.WEAK_SIGNAL)),
        (0.3501, (Action.BUY, 1, DecisionReason.SIGNAL)),
        (0.6, (Action.BUY, 2, DecisionReason.SIGNAL)),
        (1.0, (Action.BUY, 3, DecisionReason.SIGNAL)),
        (-0.35, (Action.HOLD, 0, DecisionReason.WEAK_SIGNAL)),
        (-0.36, (Action.SELL, -1, DecisionReason.SIGNAL)),
        (-1.0, (Action.SELL, -3, DecisionReason.SIGNAL)),
        (0.0, (Action.HOLD, 0, DecisionReason.WEAK_SIGNAL)),
    ],
)
def test_flat_a_signal_must_leave_the_dead_band(action, expected):
    assert outcome(action) == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (1.0, (Action.HOLD, 2, DecisionReason.KEEP)),
        (0.10, (Action.HOLD, 2, DecisionReason.KEEP)),
        (0.0999, (Action.EXIT, 0, DecisionReason.FADED)),
        (-0.0999, (Action.EXIT, 0, DecisionReason.FADED)),
        (-0.1, (Action.EXIT, 0, DecisionReason.REVERSAL)),
        (-1.0, (Action.EXIT, 0, DecisionReason.REVERSAL)),
    ],
)
def test_in_a_position_a_signal_must_fade_or_turn(action, expected):
    assert outcome(action, 2) == expected
    mirrored = (expected[0], -expected[1], expected[2])
    assert outcome(-action, -2) == mirrored


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"warm": False}, DecisionReason.WARMING_UP),
        ({"probability": 0.4999}, DecisionReason.LOW_PROBABILITY),
        ({"defensive": 0.61}, DecisionReason.DEFENSIVE),
        ({"probability": math.nan}, DecisionReason.NOT_FINITE),
        ({"action": math.nan}, DecisionReason.NOT_FINITE),
        ({"action": math.inf}, DecisionReason.NOT_FINITE),
        ({"context": DecisionContext(pending=True)}, DecisionReason.ORDER_PENDING),
        ({"context": DecisionContext(must_exit="halted")}, "halted"),
        ({"context": DecisionContext(entries=Verdict(RiskCode.NEAR_CLOSE))}, "near_close"),
    ],
)
def test_what_holds_an_entry_back_is_named(changes, reason):
    assert outcome(**{"action": 1.0} | changes) == (Action.HOLD, 0, reason)


def test_the_boundaries_of_probability_and_defence_let_pass():
    assert outcome(1.0, probability=0.5)[0] is Action.BUY
    assert outcome(1.0, defensive=0.6)[0] is Action.BUY


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"held_s": 19.9}, (Action.HOLD, 1, DecisionReason.MIN_HOLD)),
        ({"held_s": 20.0}, (Action.EXIT, 0, DecisionReason.REVERSAL)),
        ({"held_s": 1800.0}, (Action.EXIT, 0, DecisionReason.MAX_HOLD)),
        ({"held_s": 1800.0, "warm": False}, (Action.EXIT, 0, DecisionReason.MAX_HOLD)),
        ({"warm": False}, (Action.HOLD, 1, DecisionReason.WARMING_UP)),
        ({"probability": math.nan}, (Action.HOLD, 1, DecisionReason.NOT_FINITE)),
        ({"probability": math.nan, "context": blind(59.9)}, (Action.HOLD, 1, DecisionReason.NOT_FINITE)),
        ({"probability": math.nan, "context": blind(60.0)}, (Action.EXIT, 0, DecisionReason.NOT_FINITE)),
        ({"probability": math.nan, "warm": False, "context": blind(60.0)}, (Action.EXIT, 0, "not_finite")),
        (
            {"probability": math.nan, "context": blind(60.0, pending=True)},
            (Action.HOLD, 1, DecisionReason.ORDER_PENDING),
        ),
        ({"context": DecisionContext(pending=True)}, (Action.HOLD, 1, DecisionReason.ORDER_PENDING)),
        ({"context": DecisionContext(pending=True, must_exit="operator")}, (Action.EXIT, 0, "operator")),
        ({"held_s": 1.0, "context": DecisionContext(must_exit="daily_loss")}, (Action.EXIT, 0, "daily_loss")),
        # neither risk nor the trade window nor the models' doubts keep anyone in a position
        (
            {"context": DecisionContext(entries=Verdict(RiskCode.MARKET_CLOSED))},
            (Action.EXIT, 0, DecisionReason.REVERSAL),
        ),
        ({"probability": 0.1, "defensive": 0.9}, (Action.EXIT, 0, DecisionReason.REVERSAL)),
    ],
)
def test_when_a_position_is_closed(changes, expected):
    assert outcome(-1.0, 1, **changes) == expected


def test_more_than_the_policy_may_hold_is_closed():
    assert outcome(1.0, 4) == (Action.EXIT, 0, DecisionReason.OVERSIZED)


def test_a_decision_says_all_it_went_by():
    context = dataclasses.replace(OPEN, entries=Verdict(RiskCode.STALE_PRICE, {"age_s": 7.0}))
    decision = TradingLoop(SETTINGS, "R1", GATE).decide(window(), said(0.9), account(), context)
    assert (decision.decision_id, decision.seq, decision.ts_ns) == ("R1-7", 7, NOW)
    assert (decision.bid, decision.ask, decision.prediction) == (6000.0, 6000.25, said(0.9))
    assert decision.context == {"position": 0, "age_s": 7.0}
    held = TradingLoop(SETTINGS, "R1", GATE).decide(window(), said(0.9), account(2, 30.0), context)
    assert held.context == {"position": 2, "held_s": 30.0}


actions = st.one_of(st.floats(-1, 1), st.sampled_from([math.nan, math.inf, -math.inf]))
some_settings = st.builds(
    lambda size, enter, exit_share, minimum: DecisionSettings(
        max_position=size, enter_above=enter, exit_below=enter * exit_share, min_hold_s=minimum
    ),
    st.integers(1, 9),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0.0, 20.0]),
)
contexts = st.builds(
    DecisionContext,
    bid=st.just(6000.0),
    ask=st.just(6000.25),
    pending=st.booleans(),
    must_exit=st.sampled_from(["", "", "", "halted"]),
    entries=st.sampled_from([OPEN.entries, Verdict(RiskCode.DAILY_LOSS)]),
)
steps = st.lists(st.tuples(actions, st.floats(0, 1), st.booleans(), contexts), min_size=1, max_size=60)


@given(some_settings, steps)
@settings(max_examples=100)
def test_along_any_path_of_signals_the_rules_hold(rules, path):
    """Each decision is carried out at once; what is checked holds between each two of them."""
    position, opened_s = 0, 0
    for n, (action, probability, warm, context) in enumerate(path):
        ts_ns = NOW + n * 5 * NS_PER_S
        now = AccountState(n, ts_ns, position, 6000.0, 0.0, 0.0, NOW + opened_s * NS_PER_S, 1e5, 0.0)
        said_now = Prediction(RegimeProbs(0.5, 0.3, 0.2), action, probability, "p", 0.0, "")
        decision = decide(window(warm=warm, ts_ns=ts_ns), said_now, now, rules, context, run_id="R")
        again = decide(window(warm=warm, ts_ns=ts_ns), said_now, now, rules, context, run_id="R")
        assert decision == again or math.isnan(action)
        assert abs(decision.target) <= rules.max_position
        assert decision.reason
        if decision.action is Action.HOLD:
            assert decision.target == position
        elif decision.action is Action.EXIT:
            assert position
            assert decision.target == 0
            faded = not action * (1 if position > 0 else -1) >= rules.exit_below
            assert faded or context.must_exit or decision.reason in {DecisionReason.MAX_HOLD, DecisionReason.OVERSIZED}
        else:
            assert position == 0  # never from one side straight to the other, never more
            assert decision.target * action > 0
            assert abs(action) > rules.enter_above
            assert warm
            assert not context.pending
            assert context.entries.allowed
            assert probability >= rules.min_probability
        if context.must_exit:
            assert decision.target == 0
        if decision.target and not position:
            opened_s = n * 5
        position = decision.target


@given(st.lists(st.floats(0.11, 0.349), min_size=1, max_size=30), st.booleans())
def test_between_the_thresholds_nothing_ever_changes(path, long):
    for position in (0, 1):
        side = 1 if long else -1
        for action in path:
            decided, target, _ = outcome(side * action, side * position)
            assert (decided, target) == (Action.HOLD, side * position)


@given(some_settings, actions, st.integers(-2, 2), st.booleans(), contexts)
def test_the_verdict_on_entries_matters_only_when_one_is_wanted(rules, action, position, warm, context):
    held, loop = account(position), TradingLoop(rules, "R", GATE)
    prediction = said(action)
    assume(not loop.wants_entry(prediction, held))
    decided = [
        loop.decide(window(warm=warm), prediction, held, dataclasses.replace(context, entries=verdict))
        for verdict in (OPEN.entries, Verdict(RiskCode.DAILY_LOSS))
    ]
    assert decided[0] == decided[1]


@given(st.floats(-1, 1), st.integers(1, 50), st.floats(0, 1))
def test_contracts_are_whole_bounded_and_never_against_the_signal(action, size, enter):
    rules = DecisionSettings(max_position=size, enter_above=enter, exit_below=0.0)
    contracts = wanted_contracts(action, rules)
    assert abs(contracts) <= size
    assert contracts * action >= 0
    assert bool(contracts) == (abs(action) > enter)
    assert abs(abs(contracts) - abs(action) * size) <= (0.5 if abs(action) * size >= 0.5 else 1.0) or not contracts
