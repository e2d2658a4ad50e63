"""What is about another symbol or another account is not about us."""

import pytest
from actor_parts import ACCOUNT, NOW, SCOPE, SYMBOL, make_fill, make_update

from mia_daemon.records import PositionReport


def position(symbol, account):
    return PositionReport(NOW, symbol, account, 1, 100.0)


@pytest.mark.parametrize(
    "report",
    [
        lambda symbol, account: make_update(symbol=symbol, account=account),
        lambda symbol, account: make_fill(symbol=symbol, account=account),
        position,
    ],
    ids=["update", "fill", "position"],
)
def test_a_report_is_covered_when_both_symbol_and_account_are_ours(report):
    assert SCOPE.covers(report(SYMBOL, ACCOUNT))
    assert not SCOPE.covers(report("NQZ26_FUT_CME", ACCOUNT))
    assert not SCOPE.covers(report(SYMBOL, "Sim2"))
    assert not SCOPE.covers(report(SYMBOL, ""))
