"""Who is told of decisions, orders, fills and trades: the log, the files, the terminal and the market memory."""

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from run_headers import run_bundle, run_header

from mia_daemon.clock import WallClock
from mia_daemon.daemon.reporter import SHOWN, Reporter
from mia_daemon.deferred import DeferredWork
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.ports import TradeScope
from mia_daemon.features import catalogue
from mia_daemon.journal.trade_files import TradeLog
from mia_daemon.journal.writer import Journal
from mia_daemon.model import bundle
from mia_daemon.ops.console import Console
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    Action,
    Decision,
    EntryOrigin,
    Fill,
    Order,
    OrderRole,
    OrderType,
    Prediction,
    RegimeProbs,
    Side,
    Trade,
)
from mia_daemon.risk.codes import ALLOWED, Latch, RiskCode, Verdict

TS = 1_795_532_400_000_000_000  # 2026-11-24T15:00:00Z
VALUES = np.arange(350, dtype=np.float32)
SAID = Prediction(RegimeProbs(0.7, 0.2, 0.1), 0.61, 0.57, "baseline", 0.0, "0" * 16)
BUY = Decision("R-1", 1, TS, Action.BUY, 1, "signal", SAID, 5999.75, 6000.0, {"position": 0})
ORDER = Order("R-1E", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, OrderType.LIMIT, OrderRole.ENTRY, "R-1", 6001.0)
FILL = Fill(TS, "x1", "R-1E", "S1", "ESZ26_FUT_CME", "Sim1", Side.BUY, 1, 6000.0)
ES = instrument("ESZ26_FUT_CME")
TRADE = Trade(
    trade_id="R-1",
    symbol="ESZ26_FUT_CME",
    side=Side.BUY,
    quantity=1,
    entry_ns=TS,
    exit_ns=TS + 10**10,
    entry_price=6000.0,
    exit_price=6001.0,
    gross=50.0,
    costs=2.0,
    regime_probs=SAID.regime_probs,
    decision_id="R-1",
    exit_reason="target",
)


class Log:
    def __init__(self):
        self.lines = []

    def info(self, event, **facts):
        self.lines.append((event, facts))

    warning = info


class Memory:
    """What the market memory is told, in order."""

    def __init__(self):
        self.told = []
        self.trouble = ""

    def entered(self, decision_id, values):
        self.told.append(("entered", decision_id, len(values)))

    def closed(self, trade):
        self.told.append(("closed", trade.trade_id))

    def write(self, trade):
        self.told.append(("write", trade.trade_id))
        return self.trouble


@dataclass
class Risk:
    """Of the account, as far as the reporter looks at it."""

    latches: tuple = ()

    def describe(self, snapshot):
        return {
            "timestamp": str(snapshot.ts_ns),
            "drawdown": 0.0,
            "overtrade_risk_score": 0.25,
            "penalty_active": False,
        }


class FakeAccount:
    def __init__(self):
        self.risk = Risk()
        snapshot = SimpleNamespace(ts_ns=TS)
        self.scope = TradeScope("R", ES, "Sim1")
        self.state = SimpleNamespace(risk_snapshot=lambda: snapshot, ledger=Ledger(ES, 50_000.0))


@dataclass
class Told:
    """A reporter and all whom it tells."""

    reporter: Reporter
    journal: Journal
    log: Log
    memory: Memory
    screen: Path
    var: Path

    def rows(self, name):
        self.reporter.flush()
        with (self.var / name).open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def events(self):
        return [event for event, _ in self.log.lines]


@pytest.fixture(scope="module")
def shipped():
    return bundle.load(bundle.shipped())


@pytest.fixture
def told(tmp_path, shipped):
    log, memory, screen = Log(), Memory(), tmp_path / "screen"
    trade_log = TradeLog(tmp_path, simulated=True)
    journal = Journal(tmp_path / "paper.db", durable=False)
    begin(journal, shipped, shown={name: catalogue.index(name) for name in shipped.selected[:SHOWN]})
    with screen.open("w") as stream:
        reporter = Reporter(log, trade_log, journal, memory, DeferredWork(WallClock()), Console(stream))
        yield Told(reporter, journal, log, memory, screen, tmp_path)
    journal.close()
    trade_log.close()


def begin(journal, bundle, shown=None, catalogue_sha256=None):
    recorded = run_bundle(bundle.name, bundle.sha256, catalogue_sha256 or catalogue.sha256(), shown)
    journal.begin_run(run_header(TS, bundle=recorded))


def test_a_decision_goes_to_the_files_the_log_and_the_terminal(told):
    told.reporter.decision(BUY, ALLOWED, VALUES)
    assert told.events == ["decision"]
    assert told.log.lines[0][1] == {
        "decision": "R-1", "action": "buy", "target": 1, "reason": "signal", "signal": 0.61, "probability": 0.57,
    }  # fmt: skip
    (row,) = told.rows("logs/trading/decision_log.csv")
    assert (row["decision"], row["signal_score"], row["trade_id"]) == ("buy", "0.61", "R-1")
    (row,) = told.rows("logs/trading/alpha_scores.csv")
    assert row["alpha_score"] == "0.57"
    assert "buy" in told.screen.read_text()
    assert (told.reporter.regime_probs, told.reporter.last_reason) == (SAID.regime_probs, "signal")


def test_a_decision_to_do_nothing_is_a_row_and_no_noise(told):
    told.reporter.decision(replace(BUY, action=Action.HOLD, target=0, reason="weak_signal"), ALLOWED, VALUES)
    assert (told.events, told.screen.read_text()) == ([], "")
    assert len(told.rows("logs/trading/decision_log.csv")) == 1
    assert told.reporter.last_reason == "weak_signal"


def test_a_denial_is_told_with_its_code_and_facts(told):
    denied = Verdict(RiskCode.STALE_PRICE, {"age_s": 9.0})
    told.reporter.decision(BUY, denied, VALUES)
    assert told.events == ["denied", "decision"]
    assert told.log.lines[0][1] == {"decision": "R-1", "code": RiskCode.STALE_PRICE, "age_s": 9.0}
    assert "denied buy" in told.screen.read_text()


def test_what_a_decision_led_to_is_shown_after_it_though_it_left_before(told):
    told.reporter.order(TS, ORDER, "sent")
    told.reporter.order(TS, ORDER, "working")
    told.reporter.fill(FILL)
    told.reporter.decision(BUY, ALLOWED, VALUES)
    told.reporter.trade(TRADE)
    assert [line.split()[1] for line in told.screen.read_text().splitlines()] == [
        "decide", "order", "order", "fill", "trade",
    ]  # fmt: skip
    assert told.events == ["order", "order", "fill", "decision", "trade"]  # the log keeps the order of things


def test_an_order_whose_decision_is_never_told_is_shown_all_the_same(told):
    told.reporter.order(TS, ORDER, "sent")
    assert told.screen.read_text() == ""
    told.reporter.flush()
    assert "sent" in told.screen.read_text()


def test_the_rows_name_the_open_trade_and_the_penalty(told):
    for score in (0.1, 0.2, 0.9):
        told.reporter.decision(replace(BUY, trade_id="R-1", overtrade_risk_score=score), ALLOWED, VALUES)
    assert {row["trade_id"] for row in told.rows("logs/trading/decision_log.csv")} == {"R-1"}
    assert [row["penalty_active"] for row in told.rows("logs/trading/penalty_log.csv")] == ["false", "false", "true"]


def test_orders_fills_and_trades_are_counted_and_told(told):
    told.reporter.order(TS, ORDER, "sent")
    told.reporter.order(TS, ORDER, "working")
    told.reporter.fill(FILL)
    told.reporter.trade(TRADE)
    told.reporter.trade(replace(TRADE, trade_id="R-2", gross=-150.0))
    reporter = told.reporter
    assert (reporter.orders, reporter.fills, reporter.round_trips, reporter.profit) == (1, 1, 2, 48.0 - 152.0)
    assert told.events == ["order", "order", "fill", "trade", "trade"]
    assert [row["trade_id"] for row in told.rows("trades/trades_simulated.csv")] == ["R-1", "R-2"]
    assert len(told.screen.read_text().splitlines()) == 5


def carried_out(told, decision, values):
    """As the executor and whoever it tells do it."""
    told.journal.record_decision(decision)
    told.reporter.decision(decision, ALLOWED, values)


def closed(told, trade):
    for name, side in (("E", Side.BUY), ("S", Side.SELL)):
        fill = replace(FILL, execution_id=f"{trade.trade_id}{name}", side=side)
        told.journal.record_fill(fill)
        told.reporter.fill(fill)
    told.journal.record_trade(trade)
    told.reporter.trade(trade)


def test_a_trades_snapshot_shows_what_led_to_it(told, shipped):
    """Written when there is time for it, with the values of the decision that opened it, not of a later one."""
    reporter = told.reporter
    carried_out(told, BUY, VALUES)
    carried_out(told, replace(BUY, decision_id="R-2", action=Action.HOLD), VALUES + 1)
    carried_out(told, replace(BUY, decision_id="R-3"), VALUES + 2)
    closed(told, TRADE)
    path = told.var / "trade_snapshots" / "trade_20261124_R-1.json"
    assert not path.exists()
    assert set(reporter.remember()) == {""}
    snapshot = json.loads(path.read_text())
    assert snapshot["bundle"] == shipped.name
    assert [one["execution_id"] for one in snapshot["fills"]] == ["R-1E", "R-1S"]
    assert len(snapshot["features"]) == SHOWN
    assert snapshot["features"] == {name: float(catalogue.index(name)) for name in shipped.selected[:SHOWN]}
    assert list(reporter.remember()) == []
    assert told.memory.told == [
        ("entered", "R-1", 350), ("entered", "R-3", 350), ("closed", "R-1"), ("write", "R-1"),
    ]  # fmt: skip


def test_a_snapshot_is_written_at_the_entrys_fill_and_completed_at_the_close(told):
    account, path = FakeAccount(), told.var / "trade_snapshots" / "trade_20261124_R-1.json"
    told.reporter.follow(account)
    carried_out(told, BUY, VALUES)
    told.journal.record_fill(FILL)
    account.state.ledger.apply(FILL, EntryOrigin("R-1", SAID.regime_probs))
    told.reporter.fill(FILL)
    assert set(told.reporter.remember()) == {""}
    opened = json.loads(path.read_text())
    assert {name: opened[name] for name in ("status", "trade_id", "entry_price", "profit", "side", "quantity")} == {
        "status": "open", "trade_id": "R-1", "entry_price": 6000.0, "profit": 0.0, "side": "buy", "quantity": 1,
    }  # fmt: skip
    assert (opened["timestamp"], len(opened["features"])) == ("2026-11-24T15:00:00.000000Z", SHOWN)
    assert [fill["execution_id"] for fill in opened["fills"]] == ["x1"]
    assert list(told.reporter.remember()) == []  # nothing new
    out = replace(FILL, execution_id="x2", side=Side.SELL, price=6001.0)
    told.journal.record_fill(out)
    (trade,) = account.state.ledger.apply(out, exit_reason="target")
    told.journal.record_trade(trade)
    told.reporter.fill(out)
    told.reporter.trade(trade)
    assert set(told.reporter.remember()) == {""}
    closed_one = json.loads(path.read_text())
    assert [path.name] == [one.name for one in path.parent.iterdir()]
    assert (closed_one["status"], closed_one["exit_reason"], closed_one["profit"]) == ("closed", "target", trade.profit)
    assert [fill["execution_id"] for fill in closed_one["fills"]] == ["x1", "x2"]
    same = ("trade_id", "entry_price", "features", "regime_probs", "decision_id", "entry_time")
    assert {name: opened[name] for name in same} == {name: closed_one[name] for name in same}


def test_a_position_of_an_earlier_run_has_its_snapshot_after_the_start(told):
    account = FakeAccount()
    told.journal.record_fill(FILL)
    account.state.ledger.apply(FILL, EntryOrigin("R-1", SAID.regime_probs))
    told.reporter.follow(account)
    assert list(told.reporter.remember()) == [""]
    assert (told.var / "trade_snapshots" / "trade_20261124_R-1.json").exists()


def test_only_a_decision_to_enter_is_an_entry_to_remember(told):
    for action in Action:
        told.reporter.decision(replace(BUY, decision_id=action.value, action=action), ALLOWED, VALUES)
    assert {name for _, name, _ in told.memory.told} == {"buy", "sell"}


def test_only_decisions_that_do_something_keep_their_values(told):
    carried_out(told, BUY, VALUES)
    carried_out(told, replace(BUY, decision_id="R-2", action=Action.HOLD), VALUES)
    carried_out(told, replace(BUY, decision_id="R-3", action=Action.EXIT), VALUES)
    assert told.journal._db.execute("SELECT COUNT(*) FROM features").fetchone() == (2,)


def test_a_trade_that_an_earlier_run_opened_shows_the_same(told, shipped):
    carried_out(told, BUY, VALUES)
    begin(told.journal, shipped)
    closed(told, TRADE)
    told.memory.trouble = "the memory is full"
    assert list(filter(None, told.reporter.remember())) == ["the memory is full"]
    assert told.memory.told[-1] == ("write", "R-1")
    snapshot = json.loads((told.var / "trade_snapshots" / "trade_20261124_R-1.json").read_text())
    assert len(snapshot["features"]) == SHOWN


def test_a_journal_that_fails_leaves_the_snapshot_to_the_next_start(told):
    told.journal._db.execute("DROP TABLE features")
    carried_out(told, BUY, VALUES)
    closed(told, TRADE)
    assert list(told.reporter.remember()) == []
    assert {"decision", "features_not_journaled", "snapshot_left_to_the_next_start"} <= set(told.events)
    assert list((told.var / "trade_snapshots").iterdir()) == []


def test_risk_is_snapshot_as_it_is_and_changed_latches_are_noticed(told):
    account = FakeAccount()
    told.reporter.risk_snapshot()  # nothing to tell of yet
    told.reporter.follow(account)
    assert not told.reporter.latches_changed()
    account.risk.latches = (Latch(RiskCode.HALTED, TS, {}),)
    assert told.reporter.latches_changed()
    assert not told.reporter.latches_changed()
    told.reporter.risk_snapshot()
    (path,) = (told.var / "risk_snapshots").iterdir()
    assert json.loads(path.read_text())["overtrade_risk_score"] == 0.25
