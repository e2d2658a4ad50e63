"""What is said of a replay while it runs."""

import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.daemon.replay_progress import EVERY_S, ReplayProgress
from mia_daemon.execution.ledger import Ledger
from mia_daemon.products.instruments import instrument
from mia_daemon.records import Fill, FillSource, Side
from mia_daemon.trading.live_trading import Tally

ES = instrument("ESZ26_FUT_CME")
NOON = 1_795_305_600 * NS_PER_S


@pytest.fixture
def ledger():
    found = Ledger(ES, 100_000.0)
    bought = Fill(NOON, "1", "c", "s", ES.symbol, "Sim1", Side.BUY, 1, 6000.0, FillSource.UPDATE)
    found.apply(bought)
    found.mark(6001.0, 6001.25)
    return found


def progress(tally, ledger, said, **more):
    return ReplayProgress(tally, ledger, said.append, total_events=2000, **more)


def test_a_line_has_share_event_time_rate_open_position_and_its_unrealised_profit(ledger):
    said = []
    tally = Tally(events=500, first_ts_ns=NOON, last_ts_ns=NOON + 60 * NS_PER_S)
    progress(tally, ledger, said).look(EVERY_S)
    assert said == [" 25%  2026-11-22T00:01:00Z  100 events/s  position +1  unrealised +50.00"]


def test_lines_come_every_few_seconds_with_the_rate_since_the_last(ledger):
    said = []
    tally = Tally(events=500, first_ts_ns=NOON, last_ts_ns=NOON)
    shown = progress(tally, ledger, said)
    for second in range(1, 11):
        shown.look(float(second))
        tally.events += 10 * (second > 5)
    assert [line.split("  ")[2].strip() for line in said] == ["100 events/s", "8 events/s"]


def test_nothing_is_said_before_the_first_event(ledger):
    said = []
    progress(Tally(), ledger, said).look(100.0)
    assert said == []


def test_a_replay_up_to_a_time_is_done_when_that_is_reached(ledger):
    tally = Tally(events=20, first_ts_ns=NOON, last_ts_ns=NOON + 90 * NS_PER_S)
    assert progress(tally, ledger, []).share == 0.01
    assert progress(tally, ledger, [], to_ns=NOON + 100 * NS_PER_S).share == 0.9


def test_a_line_leaves_the_account_as_it_is(ledger):
    """Valued at a moment of real time, the peak equity of a replay would depend on how fast the machine is."""
    before = ledger.peak_equity
    ledger._bid = 6100.0
    progress(Tally(events=500, first_ts_ns=NOON, last_ts_ns=NOON), ledger, []).look(EVERY_S)
    assert ledger.peak_equity == before
