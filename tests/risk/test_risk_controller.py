import dataclasses
import math

import pytest
from asking_risk import check_entry
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Bracket, Order, OrderRole, OrderType, Prediction, RegimeProbs, Side, Trade
from mia_daemon.risk.codes import RiskCode, TradingState, is_lifted_by_name
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import Delays, RiskSnapshot

ES = instrument("ESZ26_FUT_CME")
LIMITS = RiskSettings(
    max_order_contracts=3,
    max_position_contracts=4,
    max_daily_loss=1000.0,
    max_drawdown_share=0.05,
    max_orders_per_minute=5,
    max_price_age_s=5.0,
    max_price_deviation_ticks=20,
    max_consecutive_losses=3,
    max_consecutive_rejects=2,
    max_spread_ticks=4,
    max_order_notional=None,
    max_messages_per_second=None,
    max_messages_per_day=None,
    cancel_reserve_share=0.0,
    max_executions=None,
    max_price_jump_ticks=None,
    market_pause_s=0.0,
    max_clock_skew_s=None,
    max_decision_age_ms=1000.0,
    max_fill_slippage_ticks=None,
)
NOW = 1_790_000_000 * NS_PER_S
GOOD = Prediction(RegimeProbs(0.5, 0.3, 0.2), 0.6, 0.7, "baseline", 0.1, "ab")
FACTS = RiskSnapshot(
    ts_ns=NOW, position=0, working_buy=0, working_sell=0, bid=6000.0, ask=6000.25, touch_ns=NOW, realized_today=0.0,
    unrealized=0.0, drawdown=0.0,
)  # fmt: skip


def controller(**changes):
    return RiskController(LIMITS.model_copy(update=changes), ES, "Sim1")


def facts(**changes):
    return dataclasses.replace(FACTS, **changes)


def order(side=Side.BUY, quantity=1, *, price=6000.25, role=OrderRole.EXIT, name="r-1X", **changes):
    wanted = Order(name, ES.symbol, "Sim1", side, quantity, OrderType.LIMIT, role, "d1", price)
    return dataclasses.replace(wanted, **changes)


def bracket(side=Side.BUY, quantity=1, *, price=None, name="r-1", **changes):
    """`changes`: entry_…, stop_… and target_… fields to replace."""
    price = (6000.25 if side is Side.BUY else 6000.0) if price is None else price
    legs = {
        "entry": order(side, quantity, price=price, role=OrderRole.ENTRY, name=f"{name}E"),
        "stop": order(side.opposite, quantity, price=price - side * 4, role=OrderRole.STOP, name=f"{name}S"),
        "target": order(side.opposite, quantity, price=price + side * 6, role=OrderRole.TARGET, name=f"{name}T"),
    }
    legs["stop"] = dataclasses.replace(legs["stop"], type=OrderType.STOP)
    for key, value in changes.items():
        leg, name_of_field = key.split("_", 1)
        legs[leg] = dataclasses.replace(legs[leg], **{name_of_field: value})
    return Bracket(**legs)


def entry_code(risk=None, what=None, prediction=GOOD, **changes):
    return check_entry((risk or controller()), what or bracket(), prediction, facts(**changes)).code


def lost(profit, ts_ns=NOW):
    return Trade("t", ES.symbol, Side.BUY, 1, 0, ts_ns, 1.0, 1.0, profit, 0.0, GOOD.regime_probs, "d", "stop")


def test_an_ordinary_entry_passes():
    verdict = check_entry(controller(), bracket(), GOOD, FACTS)
    assert verdict.allowed
    assert verdict.context == {}


# ------------------------------------------------------------------------------------- each control, at its boundary


@pytest.mark.parametrize(
    ("code", "passes", "refused"),
    [
        (RiskCode.ORDER_SIZE, {"what": bracket(quantity=3)}, {"what": bracket(quantity=4)}),
        (RiskCode.PRICE_COLLAR, {"what": bracket(price=6005.25)}, {"what": bracket(price=6005.5)}),
        (RiskCode.PRICE_COLLAR, {"what": bracket(price=5995.25)}, {"what": bracket(price=5995.0)}),
        (
            RiskCode.PRICE_COLLAR,
            {"what": bracket(Side.SELL, price=5995.0)},
            {"what": bracket(Side.SELL, price=5994.75)},
        ),
        (RiskCode.POSITION_LIMIT, {"position": 3}, {"position": 4}),
        (RiskCode.POSITION_LIMIT, {"position": 1, "working_buy": 2}, {"position": 1, "working_buy": 3}),
        (RiskCode.POSITION_LIMIT, {"position": -4, "working_buy": 7}, {"position": -4, "working_buy": 8}),
        (RiskCode.LINK_DOWN, {"link_up": True}, {"link_up": False}),
        (RiskCode.UNKNOWN_ORDERS, {"unknown_orders": 0}, {"unknown_orders": 1}),
        (RiskCode.UNKNOWN_ORDERS, {"reconciled": True}, {"reconciled": False}),
        (RiskCode.NO_PRICE, {}, {"bid": math.nan}),
        (RiskCode.NO_PRICE, {}, {"ask": math.inf}),
        (RiskCode.NO_PRICE, {}, {"bid": 0.0}),
        (RiskCode.NO_PRICE, {}, {"bid": -0.25}),
        (RiskCode.STALE_PRICE, {"touch_ns": NOW - 5 * NS_PER_S}, {"touch_ns": NOW - 5 * NS_PER_S - 1000}),
        (RiskCode.STALE_PRICE, {"touch_ns": NOW + 5 * NS_PER_S}, {"touch_ns": NOW + 6 * NS_PER_S}),
        (RiskCode.CROSSED_MARKET, {}, {"bid": 6000.25}),
        (RiskCode.CROSSED_MARKET, {}, {"bid": 6000.5}),
        (RiskCode.WIDE_SPREAD, {"bid": 5999.25}, {"bid": 5999.0}),
        (RiskCode.NO_PREDICTION, {}, {"prediction": None}),
        (RiskCode.NOT_FINITE, {}, {"prediction": dataclasses.replace(GOOD, action=math.nan)}),
        (RiskCode.NOT_FINITE, {}, {"prediction": dataclasses.replace(GOOD, probability=math.inf)}),
        (RiskCode.NOT_FINITE, {}, {"prediction": dataclasses.replace(GOOD, regime_probs=RegimeProbs(math.nan, 0, 1))}),
        (
            RiskCode.ACTION_RANGE,
            {"prediction": dataclasses.replace(GOOD, action=-1.0)},
            {"prediction": dataclasses.replace(GOOD, action=-1.001)},
        ),
        (
            RiskCode.ACTION_RANGE,
            {"prediction": dataclasses.replace(GOOD, action=1.0)},
            {"prediction": dataclasses.replace(GOOD, action=1.001)},
        ),
        (
            RiskCode.ACTION_RANGE,
            {"prediction": dataclasses.replace(GOOD, probability=0.0)},
            {"prediction": dataclasses.replace(GOOD, probability=-0.001)},
        ),
        (
            RiskCode.ACTION_RANGE,
            {"prediction": dataclasses.replace(GOOD, probability=1.0)},
            {"prediction": dataclasses.replace(GOOD, probability=1.001)},
        ),
        (
            RiskCode.OUT_OF_TRAINING_RANGE,
            {"prediction": dataclasses.replace(GOOD, out_of_range_share=0.5)},
            {"prediction": dataclasses.replace(GOOD, out_of_range_share=0.51)},
        ),
        (RiskCode.SLOW_INFERENCE, {"delays": Delays(250.0)}, {"delays": Delays(250.1)}),
        (RiskCode.NOT_FINITE, {}, {"delays": Delays(math.nan)}),
        (RiskCode.LATE_DECISION, {"delays": Delays(0.0, 1000.0)}, {"delays": Delays(0.0, 1000.1)}),
        (RiskCode.NOT_FINITE, {}, {"delays": Delays(0.0, math.inf)}),
        (RiskCode.DAILY_LOSS, {"realized_today": -999.99}, {"realized_today": -1000.0}),
        (
            RiskCode.DAILY_LOSS,
            {"realized_today": -1500.0, "unrealized": 501.0},
            {"realized_today": -500.0, "unrealized": -500.0},
        ),
        (RiskCode.DRAWDOWN, {"drawdown": 0.0499}, {"drawdown": 0.05}),
        (RiskCode.NOT_FINITE, {}, {"unrealized": math.nan}),
        (RiskCode.NOT_FINITE, {}, {"realized_today": -math.inf}),
        (RiskCode.NOT_FINITE, {}, {"drawdown": math.nan}),
    ],
)
def test_a_control_passes_its_limit_and_refuses_what_is_beyond(code, passes, refused):
    assert entry_code(**passes) is RiskCode.OK
    assert entry_code(**refused) is code


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (RiskCode.NOT_FINITE, {"entry_price": math.nan}),
        (RiskCode.NOT_FINITE, {"stop_price": math.inf}),
        (RiskCode.NOT_FINITE, {"entry_limit_price": math.nan}),
        (RiskCode.UNKNOWN_SYMBOL, {"entry_symbol": "NQZ26_FUT_CME"}),
        (RiskCode.UNKNOWN_SYMBOL, {"target_symbol": "NQZ26_FUT_CME"}),
        (RiskCode.UNKNOWN_ACCOUNT, {"entry_account": "Live7"}),
        (RiskCode.UNKNOWN_ACCOUNT, {"stop_account": "Live7"}),
        (RiskCode.ORDER_INVALID, {"entry_quantity": 0}),
        (RiskCode.ORDER_INVALID, {"entry_quantity": -1}),
        (RiskCode.ORDER_INVALID, {"entry_price": 0.0}),
        (RiskCode.ORDER_INVALID, {"entry_price": -6000.0}),
        (RiskCode.ORDER_INVALID, {"entry_price": 6000.3}),
        (RiskCode.ORDER_INVALID, {"stop_price": 5996.1}),
        (RiskCode.ORDER_INVALID, {"entry_client_order_id": ""}),
        (RiskCode.ORDER_INVALID, {"entry_role": OrderRole.EXIT}),
        (RiskCode.MARKET_ORDER, {"entry_type": OrderType.MARKET}),
        (RiskCode.UNPROTECTED, {"stop_quantity": 2}),
        (RiskCode.UNPROTECTED, {"stop_side": Side.BUY}),
        (RiskCode.UNPROTECTED, {"target_side": Side.BUY}),
        (RiskCode.UNPROTECTED, {"stop_price": 6000.25}),
        (RiskCode.UNPROTECTED, {"stop_price": 6001.0}),
        (RiskCode.UNPROTECTED, {"target_price": 6000.0}),
        (RiskCode.UNPROTECTED, {"stop_type": OrderType.LIMIT}),
        (RiskCode.UNPROTECTED, {"target_role": OrderRole.STOP}),
        (RiskCode.DUPLICATE_ORDER, {"stop_client_order_id": "r-1E"}),
    ],
)
def test_a_bracket_that_makes_no_sense_or_protects_nothing_is_refused(code, changes):
    assert entry_code(what=bracket(**changes)) is code


def test_a_denial_names_the_facts_it_went_by():
    verdict = check_entry(controller(), bracket(quantity=4), GOOD, FACTS)
    assert str(verdict) == "order_size contracts=4 limit=3"


# -------------------------------------------------------------------------------------------------- throttle, repeats


def test_the_throttle_lets_the_nth_order_of_a_minute_pass_and_no_other():
    risk = controller(max_position_contracts=100)
    for n in range(5):
        assert entry_code(risk, bracket(name=f"r-{n}"), ts_ns=NOW + n * NS_PER_S, touch_ns=NOW) is RiskCode.OK
    later = {"ts_ns": NOW + 5 * NS_PER_S, "touch_ns": NOW + 5 * NS_PER_S}
    assert risk.overtrade_risk_score(later["ts_ns"]) == 1.0
    assert entry_code(risk, bracket(name="r-5"), **later) is RiskCode.ORDER_RATE
    passed = NOW + 60 * NS_PER_S
    assert entry_code(risk, bracket(name="r-6"), ts_ns=passed, touch_ns=passed) is RiskCode.OK


def test_the_penalty_begins_above_four_fifths_of_the_budget():
    risk = controller()
    for n in range(4):
        risk.count_replace(NOW + n)
    assert risk.overtrade_risk_score(NOW + 10) == pytest.approx(0.8)
    assert not risk.penalty_active(NOW + 10)
    risk.count_replace(NOW + 10)
    assert risk.penalty_active(NOW + 10)
    assert not risk.penalty_active(NOW + 61 * NS_PER_S)


def test_an_identifier_is_used_once_also_by_the_legs_and_by_exits():
    risk = controller()
    assert entry_code(risk) is RiskCode.OK
    later = {"ts_ns": NOW + 2 * NS_PER_S, "touch_ns": NOW + 2 * NS_PER_S}
    assert entry_code(risk, **later) is RiskCode.DUPLICATE_ORDER
    held = facts(position=1)
    assert risk.check_order(order(Side.SELL, name="r-1S"), held).code is RiskCode.DUPLICATE_ORDER
    assert risk.check_order(order(Side.SELL, name="r-2X"), held).allowed
    assert risk.check_order(order(Side.SELL, name="r-2X"), held).code is RiskCode.DUPLICATE_ORDER


def test_the_same_entry_told_twice_within_a_second_is_sent_once():
    risk = controller()
    assert entry_code(risk) is RiskCode.OK
    assert entry_code(risk, bracket(name="r-2"), ts_ns=NOW + NS_PER_S - 1) is RiskCode.DUPLICATE_ORDER
    assert entry_code(risk, bracket(name="r-3"), ts_ns=NOW + NS_PER_S) is RiskCode.OK


def test_a_refused_entry_uses_up_nothing():
    risk = controller()
    assert entry_code(risk, link_up=False) is RiskCode.LINK_DOWN
    assert risk.overtrade_risk_score(NOW) == 0.0
    assert entry_code(risk) is RiskCode.OK


# ------------------------------------------------------------------------------------------------ reducing the position


BAD_WORLD = {
    "link_up": False, "unknown_orders": 3, "reconciled": False, "bid": math.nan, "ask": math.nan, "touch_ns": 0,
    "realized_today": math.nan, "unrealized": math.nan, "drawdown": math.nan, "delays": Delays(math.inf, math.nan),
}  # fmt: skip


@pytest.mark.parametrize("state", list(TradingState))
@pytest.mark.parametrize("side", list(Side))
def test_what_reduces_passes_in_every_state_and_in_a_bad_world(state, side):
    risk = controller()
    if state is TradingState.HALTED:
        risk.halt(NOW, "uid 1000")
    elif state is TradingState.REDUCING:
        risk.watch(facts(realized_today=-5000.0))
    assert risk.state is state
    for n in range(50):  # beyond the throttle too
        exit_order = order(side, 9, name=f"x{n}", type=OrderType.MARKET, price=0.0)
        assert risk.check_order(exit_order, facts(position=-9 * side, **BAD_WORLD)).allowed


@pytest.mark.parametrize(
    ("code", "what", "held"),
    [
        (RiskCode.NOT_FINITE, order(Side.SELL, price=math.nan), {"position": 1}),
        (RiskCode.ORDER_INVALID, order(Side.SELL, 0), {"position": 1}),
        (RiskCode.UNKNOWN_SYMBOL, order(Side.SELL, symbol="X"), {"position": 1}),
        (RiskCode.UNKNOWN_ACCOUNT, order(Side.SELL, account="X"), {"position": 1}),
        (RiskCode.NOT_REDUCING, order(Side.SELL, 2), {"position": 1}),
        (RiskCode.NOT_REDUCING, order(Side.BUY, 1), {"position": 1}),
        (RiskCode.NOT_REDUCING, order(Side.BUY, 1), {"position": 0}),
        (RiskCode.UNPROTECTED, order(Side.SELL, 1, role=OrderRole.ENTRY), {"position": 1}),
        # exits sent over and over must not add up to a position of the other side beyond the limit
        (RiskCode.POSITION_LIMIT, order(Side.SELL, 1), {"position": 1, "working_sell": 5}),
    ],
)
def test_an_exit_that_makes_no_sense_is_refused(code, what, held):
    assert controller().check_order(what, facts(**held)).code is code


def test_an_exit_beside_an_order_of_unknown_fate_passes_while_the_worst_case_is_within_the_limit():
    held = facts(position=1, working_sell=4, unknown_orders=1)
    assert controller().check_order(order(Side.SELL, 1), held).allowed


# -------------------------------------------------------------------------------------------------------------- latches


def test_a_daily_loss_latches_once_and_outlives_the_recovery_of_the_account():
    risk = controller()
    assert risk.watch(facts(unrealized=-999.99)) == []
    (latch,) = risk.watch(facts(unrealized=-2500.0))  # a gap through the limit
    assert (latch.code, latch.ts_ns, latch.context) == (RiskCode.DAILY_LOSS, NOW, {"result": -2500.0, "limit": 1000.0})
    assert risk.watch(facts(unrealized=-2600.0)) == []
    assert risk.state is TradingState.REDUCING
    assert entry_code(risk, unrealized=500.0) is RiskCode.DAILY_LOSS


def test_latches_come_back_from_the_journal_and_only_a_resume_clears_them():
    first = controller()
    first.watch(facts(drawdown=0.06))
    first.halt(NOW, "uid 1000")
    second = RiskController(LIMITS, ES, "Sim1", latches=first.latches)
    assert second.latches == first.latches
    assert second.state is TradingState.HALTED
    assert entry_code(second) is RiskCode.DRAWDOWN
    assert second.resume(FACTS) == (RiskCode.HALTED,)
    assert second.resume(FACTS, RiskCode.DRAWDOWN) == (RiskCode.DRAWDOWN,)
    assert second.state is TradingState.ACTIVE
    assert entry_code(second) is RiskCode.OK


def test_a_resume_starts_streaks_anew():
    risk = controller()
    for _ in range(3):
        risk.on_trade(lost(-1.0))
    risk.on_reject(NOW, "no margin")
    risk.resume(FACTS)
    assert [risk.on_trade(lost(-1.0)), risk.on_trade(lost(-1.0))] == [[], []]
    assert risk.on_reject(NOW, "no margin") == []


def test_a_price_below_one_is_a_price():
    """Of a yield or a currency, say."""
    cheap = bracket(price=0.5, stop_price=0.25, target_price=0.75)
    assert entry_code(what=cheap, bid=0.25, ask=0.5) is RiskCode.OK


@pytest.mark.parametrize("profit", [0.0, 0.01])
def test_a_trade_that_loses_nothing_ends_the_streak(profit):
    risk = controller()
    for earned in (-1.0, -1.0, profit, -1.0, -1.0):
        assert risk.on_trade(lost(earned)) == []


def test_losses_in_a_row_pause_entries_and_a_win_starts_the_count_anew():
    risk = controller()
    assert [risk.on_trade(lost(-1.0)), risk.on_trade(lost(-1.0)), risk.on_trade(lost(1.0))] == [[], [], []]
    assert [risk.on_trade(lost(-1.0)), risk.on_trade(lost(-1.0))] == [[], []]
    (latch,) = risk.on_trade(lost(-1.0, NOW + 5))
    assert (latch.code, latch.ts_ns) == (RiskCode.CONSECUTIVE_LOSSES, NOW + 5)
    assert entry_code(risk) is RiskCode.CONSECUTIVE_LOSSES
    assert risk.on_trade(lost(1.0)) == []
    assert entry_code(risk) is RiskCode.CONSECUTIVE_LOSSES  # a win does not lift the pause


def test_a_streak_of_losses_goes_on_after_a_restart():
    risk = RiskController(LIMITS, ES, "Sim1", consecutive_losses=2)
    assert len(risk.on_trade(lost(-1.0))) == 1


def test_a_streak_of_rejects_goes_on_after_a_restart():
    risk = RiskController(LIMITS, ES, "Sim1", consecutive_rejects=1)
    assert len(risk.on_reject(NOW, "no margin")) == 1


def test_rejects_in_a_row_pause_entries():
    risk = controller()
    assert risk.on_reject(NOW, "no margin") == []
    risk.on_accept()
    assert risk.on_reject(NOW, "no margin") == []
    (latch,) = risk.on_reject(NOW, "no margin")
    assert latch.code is RiskCode.CONSECUTIVE_REJECTS
    assert "no margin" in latch.text


def test_without_any_drawdown_a_limit_of_nothing_does_not_latch():
    risk = controller(max_drawdown_share=0.0)
    assert risk.watch(FACTS) == []
    assert len(risk.watch(facts(drawdown=1e-9))) == 1


def test_a_snapshot_has_the_keys_of_the_schema():
    risk = controller()
    risk.count_replace(NOW)
    risk.halt(NOW, "uid 0")
    snapshot = risk.describe(facts(drawdown=0.01))
    assert list(snapshot)[:4] == ["timestamp", "drawdown", "overtrade_risk_score", "penalty_active"]
    assert snapshot["overtrade_risk_score"] == pytest.approx(0.2)
    assert snapshot["penalty_active"] is False
    assert (snapshot["state"], snapshot["latches"]) == ("halted", ["halted"])


# ---------------------------------------------------------------------------------------------------------- properties

numbers = st.one_of(st.floats(5990, 6010), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0]))
shares = st.one_of(st.floats(-0.2, 1.2), st.sampled_from([math.nan, math.inf]))
any_facts = st.builds(
    RiskSnapshot,
    ts_ns=st.just(NOW),
    position=st.integers(-6, 6),
    working_buy=st.integers(0, 6),
    working_sell=st.integers(0, 6),
    bid=numbers,
    ask=numbers,
    touch_ns=st.integers(NOW - 7 * NS_PER_S, NOW + 7 * NS_PER_S),
    realized_today=st.one_of(st.floats(-1500, 1500), st.just(math.nan)),
    unrealized=st.one_of(st.floats(-1500, 1500), st.just(math.nan)),
    drawdown=shares,
    unknown_orders=st.integers(0, 1),
    link_up=st.booleans(),
    reconciled=st.booleans(),
    delays=st.builds(Delays, st.floats(0, 400), st.floats(0, 1500)),
)
predictions = st.one_of(
    st.none(),
    st.builds(
        Prediction,
        regime_probs=st.just(GOOD.regime_probs),
        action=st.one_of(st.floats(-1.2, 1.2), st.just(math.nan)),
        probability=shares,
        policy=st.just("p"),
        out_of_range_share=shares,
        observation_sha256=st.just(""),
    ),
)


@given(any_facts, predictions, st.sampled_from(Side), st.integers(-1, 6), st.integers(-30, 30))
@settings(max_examples=300)
def test_whatever_is_told_no_allowed_entry_exceeds_a_limit(known, prediction, side, quantity, ticks):
    price = (known.ask if side is Side.BUY else known.bid) + ticks * 0.25
    verdict = check_entry(controller(), bracket(side, quantity, price=price), prediction, known)
    if not verdict.allowed:
        return
    working = known.working_buy if side is Side.BUY else known.working_sell
    assert 1 <= quantity <= LIMITS.max_order_contracts
    assert side * (known.position + side * (working + quantity)) <= LIMITS.max_position_contracts
    assert abs(ticks) <= LIMITS.max_price_deviation_ticks
    assert 0 < known.bid < known.ask <= known.bid + LIMITS.max_spread_ticks * 0.25 + 1e-6
    assert abs(known.touch_ns - NOW) <= LIMITS.max_price_age_s * NS_PER_S
    assert known.realized_today + known.unrealized > -LIMITS.max_daily_loss
    assert known.drawdown < LIMITS.max_drawdown_share
    assert known.link_up
    assert known.reconciled
    assert not known.unknown_orders
    assert -1 <= prediction.action <= 1
    assert 0 <= prediction.probability <= 1
    assert prediction.out_of_range_share <= 0.5
    assert known.delays.inference_ms <= 250
    assert known.delays.decision_ms <= 1000


@given(any_facts, st.sampled_from(Side), st.integers(1, 6))
@settings(max_examples=200)
def test_whatever_is_told_what_reduces_passes_and_nothing_else(known, side, quantity):
    verdict = controller().check_order(order(side, quantity, type=OrderType.MARKET, price=0.0), known)
    reduces = known.position * side < 0 and quantity <= abs(known.position)
    working = known.working_buy if side is Side.BUY else known.working_sell
    worst = side * (known.position + side * (working + quantity))
    assert verdict.allowed == (reduces and worst <= LIMITS.max_position_contracts)


class RiskOverTime(RuleBasedStateMachine):
    """Orders, trades, losses, restarts and resumes in any order; the limits over time hold throughout."""

    def __init__(self):
        super().__init__()
        self.risk = controller()
        self.now, self.n, self.result = NOW, 0, 0.0
        self.sent, self.set, self.overridden = [], set(), False

    def facts(self, **changes):
        return facts(ts_ns=self.now, touch_ns=self.now, realized_today=self.result, **changes)

    def latch(self, latches):
        for latch in latches:
            assert latch.code not in self.set
            self.set.add(latch.code)

    @rule(seconds=st.integers(0, 30))
    def time_passes(self, seconds):
        self.now += seconds * NS_PER_S

    @rule(ticks=st.integers(-4, 4), side=st.sampled_from(Side))
    def enter(self, ticks, side):
        self.n += 1
        price = (6000.25 if side is Side.BUY else 6000.0) + ticks * 0.25
        verdict = check_entry(self.risk, bracket(side, price=price, name=f"r-{self.n}"), GOOD, self.facts())
        if verdict.allowed:
            assert not self.set
            self.sent.append(self.now)
        elif self.set:
            assert verdict.code in self.set

    @rule(side=st.sampled_from(Side))
    def leave(self, side):
        self.n += 1
        leaving = order(side, name=f"r-{self.n}", type=OrderType.MARKET, price=0.0)
        assert self.risk.check_order(leaving, self.facts(position=-side)).allowed

    @rule(profit=st.sampled_from([-400.0, -100.0, 100.0, 600.0]))
    def trade(self, profit):
        self.result += profit
        self.latch(self.risk.on_trade(lost(profit, self.now)))
        self.latch(self.risk.watch(self.facts()))
        if self.result <= -LIMITS.max_daily_loss:
            assert not self.risk.check_new_risk(GOOD, self.facts()).allowed or self.overridden

    @rule()
    def reject(self):
        self.latch(self.risk.on_reject(self.now, "no"))

    @rule()
    def halt(self):
        self.latch(self.risk.halt(self.now, "uid 1"))

    @rule()
    def restart(self):
        self.risk = RiskController(LIMITS, ES, "Sim1", latches=self.risk.latches)
        self.overridden = False  # an override ends with the run
        self.latch(self.risk.watch(self.facts()))

    @precondition(lambda self: self.set)
    @rule()
    def resume(self):
        lifted = set(self.risk.resume(self.facts()))
        assert lifted == {code for code in self.set if not is_lifted_by_name(code)} | (
            {RiskCode.DAILY_LOSS} & self.set if self.result > -LIMITS.max_daily_loss else set()
        )
        self.set -= lifted
        self.latch(self.risk.watch(self.facts()))

    @precondition(lambda self: self.set)
    @rule(data=st.data())
    def resume_by_name(self, data):
        code = data.draw(st.sampled_from(sorted(self.set)))
        assert self.risk.resume(self.facts(), code) == (code,)
        self.set.remove(code)
        self.overridden |= code is RiskCode.DAILY_LOSS and self.result <= -LIMITS.max_daily_loss
        assert self.risk.watch(self.facts()) == []  # as much again may be lost

    @invariant()
    def limits_hold(self):
        assert {latch.code for latch in self.risk.latches} == self.set
        assert (self.risk.state is TradingState.ACTIVE) == (not self.set)
        assert (self.risk.state is TradingState.HALTED) == (RiskCode.HALTED in self.set)


class RateOverTime(RuleBasedStateMachine):
    """No minute ever holds more allowed entries than the limit, however bursts fall."""

    def __init__(self):
        super().__init__()
        self.risk = controller()
        self.now, self.n, self.sent = NOW, 0, []

    @rule(milliseconds=st.integers(0, 20_000), burst=st.integers(1, 8))
    def burst(self, milliseconds, burst):
        self.now += milliseconds * 1_000_000
        for _ in range(burst):
            self.n += 1
            what = bracket(price=6000.25 + self.n % 16 * 0.25, name=f"r-{self.n}")
            if entry_code(self.risk, what, ts_ns=self.now, touch_ns=self.now) is RiskCode.OK:
                self.sent.append(self.now)
        assert self.sent

    @invariant()
    def no_minute_is_too_full(self):
        for sent in self.sent:
            assert sum(sent <= other < sent + 60 * NS_PER_S for other in self.sent) <= LIMITS.max_orders_per_minute


TestRiskOverTime = RiskOverTime.TestCase
TestRiskOverTime.settings = settings(max_examples=40, stateful_step_count=30)
TestRateOverTime = RateOverTime.TestCase
TestRateOverTime.settings = settings(max_examples=15, stateful_step_count=20)
