"""What a running daemon says of itself, made of a stand-in's figures."""

from types import SimpleNamespace

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.daemon.status import DaemonStatus, service_text, status_text
from mia_daemon.latency import LatencyBuckets
from mia_daemon.market import Touch
from mia_daemon.records import RegimeProbs
from mia_daemon.risk.codes import Latch, RiskCode
from mia_daemon.trading.live_trading import Tally


@pytest.fixture
def fake_daemon():
    """Holds one contract at 5 points' profit; settable where a test wants another."""
    executor = SimpleNamespace(tick_to_order=LatencyBuckets())
    ledger = SimpleNamespace(
        position=1, realized_today=-20.0, unrealized=250.0, equity=100_230.0, drawdown=0.0, cash=100_000.0
    )
    state = SimpleNamespace(
        ledger=ledger,
        orders=FakeOrders(),
        market=SimpleNamespace(touch=Touch(6000.0, 6000.5)),
        sync=SimpleNamespace(reconciled=True),
        price_age_ns=NS_PER_S // 4,
    )
    account = SimpleNamespace(
        scope=SimpleNamespace(run_id="1AB"),
        executor=executor,
        state=state,
        risk=SimpleNamespace(state=SimpleNamespace(value="active")),
    )
    account.risk.latches = ()
    reporter = SimpleNamespace(
        regime_probs=RegimeProbs(0.7, 0.2, 0.1), orders=3, fills=1, round_trips=0, last_reason="warming_up"
    )
    run = SimpleNamespace(
        reporter=reporter,
        mode=SimpleNamespace(value="paper"),
        instrument=SimpleNamespace(symbol="ESZ26_FUT_CME"),
        settings=SimpleNamespace(instrument=SimpleNamespace(trade_account="Sim1")),
    )
    return SimpleNamespace(run=run, account=account)


class FakeOrders(list):
    def unknown(self):
        return []


@pytest.fixture
def status(fake_daemon):
    return DaemonStatus(fake_daemon.run, fake_daemon.account, Tally(events=9, decisions=4), lambda: 12.34)


def test_the_latency_is_of_the_last_interval_that_had_an_entry(status, fake_daemon):
    assert status.facts(1.0)["tick_to_order_p50_s"] is None
    fake_daemon.account.executor.tick_to_order.add(400_000)
    said = status.facts(1.0)["tick_to_order_p50_s"]
    assert said == pytest.approx(400e-6, rel=0.5)
    assert status.facts(1.0)["tick_to_order_p50_s"] == said  # no entry since
    fake_daemon.account.executor.tick_to_order.add(40_000_000)
    assert status.facts(1.0)["tick_to_order_p50_s"] == pytest.approx(40e-3, rel=0.5)


def test_the_line_has_price_profit_and_why_nothing_is_entered(status, fake_daemon):
    line = status.line(status.facts(2.5))
    assert (line.price, line.position, line.profit, line.decisions_per_s) == (6000.25, 1, 230.0, 2.5)
    assert line.state == "warming up"
    fake_daemon.run.reporter.last_reason = "no_signal"
    assert status.line(status.facts(0.0)).state == "active"
    fake_daemon.run.reporter.last_reason = "not_finite"
    assert status.line(status.facts(0.0)).state == "not finite"
    fake_daemon.account.state.sync.reconciled = False
    assert status.line(status.facts(0.0)).state == "not reconciled yet"
    fake_daemon.account.risk.state.value = "halted"
    fake_daemon.account.risk.latches = (Latch(RiskCode.KILLED, 1, {}), Latch(RiskCode.DAILY_LOSS, 2, {}))
    assert status.line(status.facts(0.0)).state == "halted: killed, daily_loss"
    fake_daemon.account.risk.latches = (Latch(RiskCode.HALTED, 1, {}),)
    assert status.line(status.facts(0.0)).state == "halted"


def test_the_service_manager_is_sent_state_position_and_a_price_that_is_old(status, fake_daemon):
    fake_daemon.run.reporter.last_reason = "signal"
    assert service_text(status.facts(0.0)) == "active; paper ESZ26_FUT_CME, position +1"
    fake_daemon.account.state.price_age_ns = 47 * NS_PER_S
    assert service_text(status.facts(0.0)).endswith("position +1, no price for 40 s")
    fake_daemon.account.state.price_age_ns = None
    assert service_text(status.facts(0.0)).endswith("position +1, no price yet")
    fake_daemon.account.risk.state.value = "halted"
    fake_daemon.account.risk.latches = (Latch(RiskCode.KILLED, 1, {}),)
    assert service_text(status.facts(0.0)).startswith("halted: killed; paper")


def test_without_prices_none_are_said(status, fake_daemon):
    fake_daemon.account.state.market.touch = Touch()
    facts = status.facts(0.0)
    assert (facts["bid"], facts["ask"], status.line(facts).price) == (None, None, None)
    assert "no price" in status_text(facts)


def test_the_disk_has_a_line_once_it_was_measured(status):
    status.disk = lambda: {"var_bytes": 10**9, "free_bytes": 4 * 10**10, "days_left": 12.0, "lasts": False}
    facts = status.facts(0.0)
    assert facts["disk"]["days_left"] == 12.0
    assert status_text(facts).splitlines()[3] == "disk: 1.0 GB written, 40.0 GB free, full in about 12 days"


def test_for_people_it_is_three_lines(status):
    assert status_text(status.facts(0.0)).splitlines() == [
        "warming up, paper ESZ26_FUT_CME 6000.00/6000.50 (0.2 s old)",
        "position +1, 0 working orders, 0 of unknown fate, today +230.00",
        "4 decisions, 3 orders, 1 fills, 0 round trips; tick to order -; up 12 s",
    ]
    assert status_text({}) == "starting: no figures yet"
