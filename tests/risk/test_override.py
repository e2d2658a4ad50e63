from mia_daemon.clock import NS_PER_S
from mia_daemon.risk.codes import RiskCode
from mia_daemon.risk.override import VALID_S, TwoSteps

NOW = 5 * NS_PER_S
LOSS = RiskCode.DAILY_LOSS


def test_an_override_takes_the_answer_to_the_first_step():
    steps = TwoSteps()
    assert not steps.confirm(LOSS, None, NOW)
    assert not steps.confirm(LOSS, "", NOW)
    token = steps.ask(LOSS, "uid 7", NOW)
    assert not steps.confirm(LOSS, token + "0", NOW)
    assert not steps.confirm(RiskCode.DRAWDOWN, token, NOW)
    assert steps.confirm(LOSS, token, NOW + VALID_S * NS_PER_S)
    assert not steps.confirm(LOSS, token, NOW)  # good once


def test_the_answer_does_not_hold_for_ever_and_a_new_question_ends_it():
    steps = TwoSteps()
    token = steps.ask(LOSS, "uid 7", NOW)
    assert not steps.confirm(LOSS, token, NOW + VALID_S * NS_PER_S + 1)
    other = steps.ask(LOSS, "uid 7", NOW + 1)
    assert other != token
    assert not steps.confirm(LOSS, token, NOW + 2)
    assert steps.confirm(LOSS, other, NOW + 2)
