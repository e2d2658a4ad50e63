"""A denial names the facts it went by, under the same names each time: people read them, and tools count them."""

import math
from dataclasses import replace

import pytest
from asking_risk import check_entry

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    Bracket,
    EventKind,
    Order,
    OrderRole,
    OrderType,
    Prediction,
    RegimeProbs,
    Side,
    Trade,
    empty_events,
)
from mia_daemon.risk.codes import LATCHING, RiskCode, lifted_by
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import Delays, RiskSnapshot

ES = instrument("ESZ26_FUT_CME")
NOW = 1_790_000_000 * NS_PER_S
GOOD = Prediction(RegimeProbs(0.5, 0.3, 0.2), 0.6, 0.7, "baseline", 0.1, "ab")
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
    max_order_notional=1e6,
    max_messages_per_second=None,
    max_messages_per_day=None,
    cancel_reserve_share=0.0,
    max_executions=3,
    max_price_jump_ticks=None,
    market_pause_s=0.0,
    max_clock_skew_s=None,
    max_decision_age_ms=1000.0,
    max_fill_slippage_ticks=4,
)


def controller(**more):
    return RiskController(LIMITS, ES, "Sim1", **more)


def facts(**changes):
    return replace(RiskSnapshot(NOW, 0, 0, 0, 6000.0, 6000.25, NOW, 0.0, 0.0, 0.0), **changes)


def bracket(quantity=1, price=6000.25, name="r-1", stop=4.0):
    entry = Order(f"{name}E", ES.symbol, "Sim1", Side.BUY, quantity, OrderType.LIMIT, OrderRole.ENTRY, "d", price)
    close = replace(entry, side=Side.SELL)
    return Bracket(
        entry,
        replace(close, client_order_id=f"{name}S", type=OrderType.STOP, role=OrderRole.STOP, price=price - stop),
        replace(close, client_order_id=f"{name}T", role=OrderRole.TARGET, price=price + 6.0),
    )


def altered(**entry):
    plain = bracket()
    return replace(plain, entry=replace(plain.entry, **entry))


def close(quantity=1, side=Side.SELL, **changes):
    wanted = Order("r-2X", ES.symbol, "Sim1", side, quantity, OrderType.LIMIT, OrderRole.EXIT, "d", 6000.0)
    return replace(wanted, **changes)


ENTRIES = [
    ("order_notional notional=1800075.0 limit=1000000.0", bracket(3, 12000.5), {"bid": 12000.25, "ask": 12000.5}),
    ("price_collar price=6005.5 touch=6000.25 ticks=21.0 limit=20", bracket(price=6005.5), {}),
    ("price_collar price=5995.0 touch=6000.333 ticks=21.332 limit=20", bracket(price=5995.0), {"ask": 6000.333}),
    ("position_limit position=3 working=1 worst=5 limit=4", bracket(), {"position": 3, "working_buy": 1}),
    ("self_match price=6000.25 own=6000.0", bracket(), {"own_ask": 6000.0}),
    (
        "unprotected leg=stop role=stop type=STOP side=SELL quantity=1 price=6001.25 entry=6000.25",
        bracket(stop=-1.0),
        {},
    ),
    ("duplicate_order id=used-1E", bracket(name="used-1"), {}),
    ("market_order role=entry type=MARKET", altered(type=OrderType.MARKET), {}),
    ("order_invalid role=exit type=LIMIT", altered(role=OrderRole.EXIT), {}),
    ("duplicate_order id=r-1S", altered(client_order_id="r-1S"), {}),
    ("no_price bid=nan ask=6000.25", bracket(), {"bid": math.nan}),
    ("stale_price age_s=5.123 limit_s=5.0", bracket(), {"touch_ns": NOW - 5_123_400_000}),
    ("crossed_market bid=6000.5 ask=6000.25", bracket(), {"bid": 6000.5}),
    ("wide_spread ticks=4.445 limit=4", bracket(), {"bid": 6000.25 - 1.11123}),
    ("unknown_orders orders=2 reconciled=True", bracket(), {"unknown_orders": 2}),
    ("not_finite realized_today=nan unrealized=1.0 drawdown=0.01", bracket(),
     {"realized_today": math.nan, "unrealized": 1.0, "drawdown": 0.01}),
    ("daily_loss result=-1000.12 limit=1000.0", bracket(), {"realized_today": -1000.123}),
    ("drawdown drawdown=0.05123 limit=0.05", bracket(), {"drawdown": 0.051234}),
    ("slow_inference ms=250.123 limit_ms=250.0", bracket(), {"delays": Delays(250.1234)}),
    ("late_decision ms=1000.123 limit_ms=1000.0", bracket(), {"delays": Delays(0.0, 1000.1234)}),
]  # fmt: skip


@pytest.mark.parametrize(("says", "what", "known"), ENTRIES, ids=lambda one: one if isinstance(one, str) else "")
def test_a_denied_entry_says_why(says, what, known):
    risk = controller()
    risk._rules.use_id("used-1E")
    assert str(check_entry(risk, what, GOOD, facts(**known))) == says


PREDICTIONS = [
    ("not_finite action=nan probability=0.7 out_of_range_share=0.1", {"action": math.nan}),
    ("action_range action=1.001 probability=0.7", {"action": 1.001}),
    ("out_of_training_range share=0.5123 limit=0.5", {"out_of_range_share": 0.51234}),
]


@pytest.mark.parametrize(("says", "changes"), PREDICTIONS)
def test_a_prediction_that_is_not_followed_is_named(says, changes):
    assert str(controller().check_new_risk(replace(GOOD, **changes), facts())) == says


EXITS = [
    ("not_reducing side=SELL quantity=2 position=1", close(2), {"position": 1}),
    ("not_reducing side=BUY quantity=1 position=1", close(side=Side.BUY), {"position": 1}),
    ("unprotected id=r-2X role=entry", close(role=OrderRole.ENTRY), {"position": 1}),
    ("position_limit position=1 working=5 worst=-5 limit=4", close(), {"position": 1, "working_sell": 5}),
    ("not_finite price=nan limit_price=0.0", close(price=math.nan), {"position": 1}),
    ("unknown_symbol symbol=X configured=ESZ26_FUT_CME", close(symbol="X"), {"position": 1}),
    ("unknown_account account=X configured=Sim1", close(account="X"), {"position": 1}),
    ("order_invalid id=r-2X quantity=1 type=LIMIT price=6000.1 limit_price=0.0", close(price=6000.1), {"position": 1}),
]


@pytest.mark.parametrize(("says", "what", "known"), EXITS, ids=lambda one: one if isinstance(one, str) else "")
def test_a_denied_exit_says_why(says, what, known):
    assert str(controller().check_order(what, facts(**known))) == says


def test_the_same_entry_again_is_denied_by_name_and_price_and_another_is_not():
    """Another price, size or side is another intention."""
    risk = controller()
    assert check_entry(risk, bracket(), GOOD, facts()).allowed
    again = check_entry(risk, bracket(name="r-2"), GOOD, facts())
    assert str(again) == "duplicate_order id=r-2E price=6000.25"
    assert check_entry(risk, bracket(2, name="r-3"), GOOD, facts()).allowed
    assert check_entry(risk, bracket(2, 6000.0, name="r-4"), GOOD, facts()).allowed
    sold = bracket(2, 6000.0, name="r-5")
    entry = replace(sold.entry, side=Side.SELL)
    stop = replace(sold.stop, side=Side.BUY, price=6004.0)
    target = replace(sold.target, side=Side.BUY, price=5994.0)
    assert check_entry(risk, Bracket(entry, stop, target), GOOD, facts()).allowed


@pytest.mark.parametrize("side", Side)
def test_a_latch_names_the_moment_and_the_facts_that_set_it(side):
    risk = controller()
    (slipped,) = risk.on_fill(NOW + 1, side, 6000.0 + side * 1.1234, 6000.0)
    assert (slipped.code, slipped.ts_ns) == (RiskCode.SLIPPAGE, NOW + 1)
    assert slipped.context == {"price": 6000.0 + side * 1.1234, "expected": 6000.0, "ticks": 4.494}
    lost = Trade("t", ES.symbol, side, 1, 0, NOW + 2, 1.0, 1.0, -1.0, 0.0, GOOD.regime_probs, "d", "stop")
    found = [latch for _ in range(3) for latch in risk.on_trade(lost)]
    assert [(latch.ts_ns, latch.context) for latch in found] == [(NOW + 2, {"losses": 3})]
    found = [latch for _ in range(2) for latch in risk.on_reject(NOW + 3, "no margin")]
    assert [(latch.ts_ns, latch.context) for latch in found] == [(NOW + 3, {"rejects": 2, "last": "no margin"})]
    found = [latch for _ in range(3) for latch in risk.on_entry_sent(NOW + 4)]
    assert [(latch.ts_ns, latch.context) for latch in found] == [(NOW + 4, {"executions": 3, "limit": 3})]


def test_all_limits_exceeded_at_once_are_latched_at_once():
    """What is returned is what gets journaled: one left out would be gone after a restart."""
    latches = controller().watch(facts(realized_today=-1000.0, drawdown=0.06, position=-5))
    assert [(latch.code, latch.ts_ns, latch.context) for latch in latches] == [
        (RiskCode.DAILY_LOSS, NOW, {"result": -1000.0, "limit": 1000.0}),
        (RiskCode.DRAWDOWN, NOW, {"drawdown": 0.06, "limit": 0.05}),
        (RiskCode.POSITION_BREACH, NOW, {"position": -5, "limit": 4}),
    ]


def test_what_stands_against_new_risk_is_told_since_when():
    risk = controller()
    risk.halt(NOW, "uid 7")
    assert str(risk.check_new_risk(GOOD, facts())) == "halted since=2026-09-21T14:13:20.000000Z by=uid 7"
    lost = controller(executions=4)  # its latch was
    assert str(lost.check_new_risk(GOOD, facts())) == "repeated_execution executions=4 limit=3"


def test_what_the_market_tells_is_seen():
    risk = RiskController(LIMITS.model_copy(update={"max_price_jump_ticks": 4, "market_pause_s": 5.0}), ES, "Sim1")
    told = empty_events(2)
    told["kind"], told["ts_ns"], told["price"] = EventKind.TRADE, NOW - 1_234_567_890, (6000.0, 6001.3086)
    risk.on_market(told)
    assert str(risk.check_new_risk(GOOD, facts())) == "price_jump ticks=5.234 ago_s=1.235"
    gap = empty_events(1)
    gap["kind"], gap["ts_ns"] = EventKind.GAP, NOW - 234_567_890
    risk.on_market(gap)
    assert str(risk.check_new_risk(GOOD, facts())) == "feed_gap ago_s=0.235"


def test_an_entry_counts_as_the_three_messages_it_is():
    risk = controller()
    assert (risk.executions, risk.describe(facts())["messages_today"]) == (0, 0)
    assert check_entry(risk, bracket(), GOOD, facts()).allowed
    assert risk.describe(facts())["messages_today"] == 3
    assert risk.check_order(close(), facts(position=1)).allowed
    assert risk.describe(facts())["messages_today"] == 4


def test_a_count_of_entries_that_is_looked_at_early_is_told_as_the_latch_it_would_have_become():
    ended = controller(executions=2).executions_latch(NOW)
    assert (ended.code, ended.ts_ns, ended.context) == (
        RiskCode.REPEATED_EXECUTION,
        NOW,
        {"executions": 2, "limit": 3},
    )


def test_which_command_lifts_which_latch():
    by_name = {
        RiskCode.DAILY_LOSS, RiskCode.DRAWDOWN, RiskCode.KILLED, RiskCode.ORDER_COUNT, RiskCode.POSITION_DRIFT
    }  # fmt: skip
    for code in LATCHING - {RiskCode.REPEATED_EXECUTION}:
        assert lifted_by(code) == (f"mia-daemon resume {code.value}" if code in by_name else "mia-daemon resume")
    assert lifted_by(RiskCode.REPEATED_EXECUTION) == "mia-daemon rearm"


def test_a_snapshot_tells_the_account_and_what_was_sent():
    risk = controller(executions=2, messages_today=7)
    risk.count_cancel(NOW)
    known = facts(position=-1, realized_today=5.0, unrealized=-2.5, drawdown=0.01, unknown_orders=1)
    assert risk.describe(known) == {
        "timestamp": "2026-09-21T14:13:20.000000Z",
        "drawdown": 0.01,
        "overtrade_risk_score": 0.0,
        "penalty_active": False,
        "state": "active",
        "latches": [],
        "position": -1,
        "realized_today": 5.0,
        "unrealized": -2.5,
        "unknown_orders": 1,
        "messages_today": 8,
        "executions": 2,
    }
