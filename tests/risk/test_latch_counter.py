"""`replay --research`: each latch that would be set is counted, and new risk stays allowed."""

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import RiskSettings
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Prediction, RegimeProbs, Side, Trade
from mia_daemon.risk.codes import HALTING, RiskCode
from mia_daemon.risk.latch_counter import LatchCounter
from mia_daemon.risk.snapshot import RiskSnapshot

ES = instrument("ESZ26_FUT_CME")
NOW = 1_790_000_000 * NS_PER_S
GOOD = Prediction(RegimeProbs(0.5, 0.3, 0.2), 0.6, 0.7, "baseline", 0.1, "ab")
LIMITS = RiskSettings(
    **dict.fromkeys(RiskSettings.model_fields)
    | {
        "cancel_reserve_share": 0.0, "market_pause_s": 0.0, "max_daily_loss": 1000.0, "max_drawdown_share": 0.05,
        "max_executions": 3, "max_position_contracts": 2, "max_fill_slippage_ticks": 4, "max_consecutive_losses": 2,
        "max_consecutive_rejects": 2,
    }
)  # fmt: skip


@pytest.fixture
def risk():
    return LatchCounter(LIMITS, ES, "Sim1")


def facts(result=0.0, position=0, drawdown=0.0):
    return RiskSnapshot(NOW, position, 0, 0, 6000.0, 6000.25, NOW, result, 0.0, drawdown)


def counts(risk):
    return {latch.code: latch.count for latch in risk.counted}


def is_unstopped(risk, **changes):
    return risk.check_new_risk(GOOD, facts(**changes)).allowed and risk.latches == ()


def test_a_daily_loss_counts_once_a_day_and_new_risk_stays_allowed(risk):
    for result in (-999.0, -1000.0, -900.0, -1500.0):
        assert risk.watch(facts(result)) == []
    assert counts(risk) == {RiskCode.DAILY_LOSS: 1}
    assert is_unstopped(risk, result=-1500.0)
    risk.start_day()
    risk.watch(facts(-1000.0))
    assert counts(risk) == {RiskCode.DAILY_LOSS: 2}


def test_a_drawdown_counts_once_until_there_is_a_new_peak(risk):
    for drawdown in (0.05, 0.04, 0.06, 0.0, 0.05):
        risk.watch(facts(drawdown=drawdown))
    assert counts(risk) == {RiskCode.DRAWDOWN: 2}
    assert is_unstopped(risk, drawdown=0.06)


def test_a_position_beyond_its_limit_counts_until_it_is_back_within(risk):
    for position in (3, 4, -2, -3):
        risk.watch(facts(position=position))
    assert counts(risk) == {RiskCode.POSITION_BREACH: 2}


def test_rows_and_numbers_of_events_restart_when_they_have_counted(risk):
    losing = Trade(
        "t", ES.symbol, Side.BUY, 1, NOW, NOW, 6000.0, 5999.0, -50.0, 2.0, RegimeProbs(0.5, 0.3, 0.2), "d", "stop"
    )
    for _ in range(5):
        assert risk.on_trade(losing) == risk.on_reject(NOW, "no") == []
    for _ in range(7):
        assert risk.on_entry_sent(NOW) == []
    for _ in range(2):
        assert risk.on_fill(NOW, Side.BUY, 6002.0, 6000.0) == []
    assert counts(risk) == {
        RiskCode.CONSECUTIVE_LOSSES: 2,
        RiskCode.CONSECUTIVE_REJECTS: 2,
        RiskCode.REPEATED_EXECUTION: 2,
        RiskCode.SLIPPAGE: 2,
    }
    assert is_unstopped(risk)


def test_a_counted_latch_has_the_time_of_the_first(risk):
    risk.on_fill(NOW + 5, Side.BUY, 6002.0, 6000.0)
    risk.on_fill(NOW + 9, Side.BUY, 6002.0, 6000.0)
    (counted,) = risk.counted
    assert counted.first_ns == NOW + 5


@pytest.mark.parametrize("code", sorted(HALTING))
def test_what_halts_a_replay_halts_it_in_research_too(risk, code):
    (latch,) = risk.halt(NOW, "journal", code)
    assert risk.latches == (latch,)
    assert risk.check_new_risk(GOOD, facts()).code is code
    assert risk.counted == ()
