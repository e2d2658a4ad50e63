"""What is latched is lifted by a person, one latch by its name; an override ends with the day."""

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Prediction, RegimeProbs, Side
from mia_daemon.risk.codes import HALTING, LATCHING, RiskCode, TradingState, is_lifted_by_name, lifted_by
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import RiskSnapshot

ES = instrument("ESZ26_FUT_CME")
NOW = 1_790_000_000 * NS_PER_S
GOOD = Prediction(RegimeProbs(0.5, 0.3, 0.2), 0.6, 0.7, "baseline", 0.1, "ab")
LIMITS = RiskSettings(
    **dict.fromkeys(RiskSettings.model_fields)
    | {
        "cancel_reserve_share": 0.0, "market_pause_s": 0.0, "max_daily_loss": 1000.0, "max_drawdown_share": 0.05,
        "max_executions": 3, "max_position_contracts": 2, "max_fill_slippage_ticks": 4,
    }
)  # fmt: skip


def controller(**more):
    return RiskController(LIMITS, ES, "Sim1", **more)


def facts(result=0.0, **changes):
    known = RiskSnapshot(NOW, 0, 0, 0, 6000.0, 6000.25, NOW, result, 0.0, 0.0)
    for name, value in changes.items():
        setattr(known, name, value)
    return known


def codes(latches):
    return [latch.code for latch in latches]


def now_code(risk, **changes):
    return risk.check_new_risk(GOOD, facts(**changes)).code


def test_a_daily_loss_is_lifted_within_its_day_only_by_name():
    risk = controller()
    assert codes(risk.watch(facts(-1000.0))) == [RiskCode.DAILY_LOSS]
    assert risk.resume(facts(-1000.0)) == ()
    assert now_code(risk, result=-1000.0) is RiskCode.DAILY_LOSS
    assert risk.still_exceeded(RiskCode.DAILY_LOSS, facts(-1000.0))
    assert risk.resume(facts(-1000.0), RiskCode.DAILY_LOSS) == (RiskCode.DAILY_LOSS,)
    assert now_code(risk, result=-1000.0) is RiskCode.OK


def test_a_drawdown_is_exceeded_from_its_limit_on_and_other_latches_have_none():
    risk = controller()
    for drawdown, exceeded in ((0.0499, False), (0.05, True)):
        assert risk.still_exceeded(RiskCode.DRAWDOWN, facts(drawdown=drawdown)) is exceeded
        assert not risk.still_exceeded(RiskCode.HALTED, facts(drawdown=drawdown))
        assert not risk.still_exceeded(RiskCode.DAILY_LOSS, facts(drawdown=drawdown))


def test_an_overridden_loss_may_grow_by_as_much_again_and_the_next_day_begins_as_always():
    risk = controller()
    risk.watch(facts(-1200.0))
    risk.resume(facts(-1200.0), RiskCode.DAILY_LOSS)
    assert risk.watch(facts(-2199.99)) == []
    assert codes(risk.watch(facts(-2200.0))) == [RiskCode.DAILY_LOSS]
    risk.resume(facts(-2200.0), RiskCode.DAILY_LOSS)
    risk.start_day()
    assert risk.watch(facts(-999.99)) == []
    assert codes(risk.watch(facts(-1000.0))) == [RiskCode.DAILY_LOSS]


def test_on_another_day_a_daily_loss_needs_no_name_but_a_person_all_the_same():
    risk = controller()
    risk.watch(facts(-1500.0))
    risk.start_day()
    assert now_code(risk) is RiskCode.DAILY_LOSS
    assert risk.resume(facts()) == (RiskCode.DAILY_LOSS,)
    assert now_code(risk) is RiskCode.OK


def test_a_restart_forgets_the_override_and_never_the_latch():
    risk = controller()
    risk.watch(facts(-1000.0))
    assert now_code(controller(latches=risk.latches)) is RiskCode.DAILY_LOSS
    risk.resume(facts(-1000.0), RiskCode.DAILY_LOSS)
    assert now_code(controller(latches=risk.latches), result=-1000.0) is RiskCode.DAILY_LOSS


@pytest.mark.parametrize("code", sorted(LATCHING))
def test_a_bare_resume_lifts_what_needs_no_name_and_a_name_lifts_only_its_own(code):
    risk = controller(latches=controller().halt(NOW, "x", RiskCode.HALTED) + controller().halt(NOW, "x", code))
    bare, named = controller(latches=risk.latches), controller(latches=risk.latches)
    lifted = set(bare.resume(facts(-1e6, drawdown=0.5)))
    assert lifted == {RiskCode.HALTED} | ({code} if not is_lifted_by_name(code) else set())
    assert named.resume(facts(), code) == (code,)
    assert codes(named.latches) == ([RiskCode.HALTED] if code is not RiskCode.HALTED else [])
    assert named.resume(facts(), code) == ()


@pytest.mark.parametrize("code", sorted(LATCHING))
def test_each_latch_denies_new_risk_and_says_who_lifts_it(code):
    (latch,) = controller().halt(NOW, "uid 0", code)
    risk = controller(latches=[latch])
    assert risk.state is (TradingState.HALTED if code in HALTING else TradingState.REDUCING)
    denied = risk.check_new_risk(GOOD, facts())
    assert (denied.code, denied.context["by"]) == (code, "uid 0")
    assert latch.text.endswith(f"no new positions until `{lifted_by(code)}`")


def test_only_rearming_begins_the_count_of_entries_anew():
    risk = controller(executions=1)
    assert risk.on_entry_sent(NOW) == []
    (latch,) = risk.on_entry_sent(NOW)
    assert (latch.code, latch.context) == (RiskCode.REPEATED_EXECUTION, {"executions": 3, "limit": 3})
    assert now_code(risk) is RiskCode.REPEATED_EXECUTION
    assert risk.resume(facts()) == ()
    assert risk.rearm(NOW) is latch
    assert (now_code(risk), risk.executions, risk.latches) == (RiskCode.OK, 0, ())


def test_a_look_before_the_limit_counts_too():
    risk = controller(executions=2)
    ended = risk.rearm(NOW + 1)
    assert (ended.ts_ns, ended.context["executions"]) == (NOW + 1, 2)
    assert [len(risk.on_entry_sent(NOW)) for _ in range(3)] == [0, 0, 1]


def test_the_count_denies_even_when_its_latch_was_lost():
    """A crash between the last entry and the latch."""
    assert now_code(controller(executions=3)) is RiskCode.REPEATED_EXECUTION


def test_a_position_beyond_the_limit_is_latched_whoever_made_it():
    risk = controller()
    assert risk.watch(facts(position=-2)) == []
    (latch,) = risk.watch(facts(position=-3))
    assert (latch.code, latch.context) == (RiskCode.POSITION_BREACH, {"position": -3, "limit": 2})


@pytest.mark.parametrize("side", list(Side))
def test_a_fill_may_be_worse_by_the_limit_and_better_by_anything(side):
    risk = controller()
    assert risk.on_fill(NOW, side, 6000.0 + side * 1.0, 6000.0) == []
    assert risk.on_fill(NOW, side, 6000.0 - side * 500.0, 6000.0) == []
    (latch,) = risk.on_fill(NOW, side, 6000.0 + side * 1.25, 6000.0)
    assert (latch.code, latch.context["ticks"]) == (RiskCode.SLIPPAGE, 5.0)
