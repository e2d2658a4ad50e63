"""A trading account for tests: executor, journal, ledger and risk, all real, around a broker of the test's choice."""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import date

import numpy as np
import pytest
from actor_parts import FakeListener
from run_headers import run_header
from tenacity import wait_none

from mia_daemon import config
from mia_daemon.brokers import sierra
from mia_daemon.brokers.paper import PaperBroker
from mia_daemon.clock import EventClock, WallClock
from mia_daemon.config import BrokerSettings
from mia_daemon.daemon.broker_tasks import reconcile
from mia_daemon.errors import JournalError
from mia_daemon.execution.ledger import Ledger
from mia_daemon.execution.ports import TradeScope
from mia_daemon.journal.writer import Journal
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import Action, Decision, EventKind, FeatureWindow, Prediction, RegimeProbs, Signal, empty_events
from mia_daemon.risk.codes import ALLOWED
from mia_daemon.risk.risk_controller import RiskController
from mia_daemon.risk.snapshot import NO_DELAYS
from mia_daemon.simulator.run import open_server
from mia_daemon.trading.assembly import AccountSetup, assemble, restore

MS = 1_000_000
START = 1_700_000_000_000_000_000  # a Tuesday, 22:13 UTC: 16:13 in Chicago, the exchange's pause between two days
RISK = {
    "max_order_contracts": 5,
    "max_position_contracts": 5,
    "max_daily_loss": 1e9,
    "max_drawdown_share": 1.0,
    "max_orders_per_minute": 1000,
    "max_price_age_s": 30.0,
    "max_price_deviation_ticks": 40,
    "max_consecutive_losses": 10_000,
    "max_consecutive_rejects": 10_000,
    "max_spread_ticks": 20,
    "max_order_notional": 1e9,
    "max_messages_per_second": 1000,
    "max_messages_per_day": 100_000,
    "cancel_reserve_share": 0.25,
    "max_executions": 10_000,
    "max_price_jump_ticks": 10_000,
    "market_pause_s": 0.0,
    "max_clock_skew_s": 5.0,
    "max_decision_age_ms": 1e6,
    "max_fill_slippage_ticks": 10_000,
}
REGIMES = RegimeProbs(0.7, 0.2, 0.1)
PREDICTION = Prediction(REGIMES, 0.9, 0.8, "baseline", 0.0, "0" * 16)


class NoDays:
    """A calendar in which the day never ends, and no price is expected."""

    def next_open_ns(self, _ts_ns):
        return None

    def is_open(self, _ts_ns):
        return False


class OpenGate:
    """Lets every entry pass: windows and the age of events have tests of their own."""

    def check(self, _window):
        return ALLOWED


class PreparedDecisions:
    """A trading loop whose decision was made before."""

    gate = OpenGate()
    decision = None

    def wants_entry(self, _prediction, account):
        return not account.position and self.decision.action in {Action.BUY, Action.SELL}

    def decide(self, *_):
        return self.decision


class OwnClock:
    """The machine's clock, which stands still until the test says otherwise."""

    def __init__(self):
        self.ns = 0

    def now_ns(self):
        return START + self.ns

    def monotonic_ns(self):
        return self.ns


class Rig:
    """One run of the executor on a journal. Our time is event time, unless the test passes another `time`."""

    def __init__(self, path, broker=None, *, settings=None, calendar=None, adopt_drift=True, clock=None, **more):
        document = {"risk": {**RISK, **(settings or {}).pop("risk", {})}, **(settings or {})}
        document.setdefault("broker", {"paper_entry_latency_ms": 0, "paper_response_latency_ms": 0})
        self.settings = config.parse(document, "test", environ={})
        self.instrument = instrument(self.settings.instrument.symbol)
        self.journal = Journal(path, durable=False)
        try:
            self._open(broker, calendar, clock or EventClock(), more)
            self.actors.reconciler._drift._adopts = adopt_drift
        except BaseException:
            with suppress(JournalError):
                self.journal.close()
            raise

    def _open(self, broker, calendar, clock, more):
        rates = self.instrument.point_value, self.instrument.cost_per_side
        run_id = self.journal.begin_run(run_header(START, rates=rates))
        self.run_id = run_id
        recovered = self.journal.recover(self.instrument.symbol, "Sim1", 0)
        self.recovered = recovered
        self.ledger = Ledger(self.instrument, 100_000.0 + recovered.account.realized_before)
        self.ledger.restore(
            recovered.account.fills,
            day_start_ns=0,
            peak_equity=recovered.account.peak_equity,
            trade_ids=recovered.account.trade_ids,
        )
        self.risk = RiskController(
            self.settings.risk,
            self.instrument,
            "Sim1",
            latches=recovered.risk.latches,
            executions=self.journal.executions_since_rearm(),
        )
        self.broker = broker or PaperBroker(self.instrument, "Sim1", self.settings.broker, run_id)
        self.alerts = []
        self.notices = FakeListener()
        self.seq = 0
        self.ts_ns = START
        setup = AccountSetup(
            settings=self.settings,
            scope=TradeScope(run_id, self.instrument, "Sim1"),
            journal=self.journal,
            broker=self.broker,
            calendar=calendar or NoDays(),
            clock=clock,
            listener=self.notices,
            alert=self.alerts.append,
        )
        self.decides = PreparedDecisions()
        self.account = assemble(setup, self.ledger, self.risk, self.decides, **more)
        self.executor, self.operator, self.actors = self.account.executor, self.account.operator, self.account.actors
        self.state = self.account.state
        self.orders, self.sync, self.market = self.state.orders, self.state.sync, self.state.market
        restore(self.account, recovered)

    @property
    def position(self):
        return self.ledger.position

    async def reconcile(self):
        return await reconcile(self.account)

    @property
    def alert_codes(self):
        return [alert.code for alert in self.alerts]

    def quotes(self, *rows):
        """Events (ms after the last event, bid[, ask])."""
        events = empty_events(len(rows))
        events["kind"] = EventKind.QUOTE
        for event, (ms, bid, *ask) in zip(events, rows, strict=True):
            self.ts_ns += round(ms * MS)
            event["ts_ns"] = self.ts_ns
            event["bid"], event["ask"] = bid, ask[0] if ask else bid + 0.25
        return events

    def play(self, *rows):
        self.executor.on_market(self.quotes(*rows))

    def wait(self, clock, *ms):
        """Our clock goes on by these, and the executor looks at it after each; no market event comes."""
        for step in ms:
            clock.ns += round(step * MS)
            self.executor.on_timer()

    def decide(self, action, target=0, reason="signal", delays=NO_DELAYS):
        self.seq += 1
        decision = Decision(
            f"{self.run_id}-{self.seq}",
            self.seq,
            self.ts_ns,
            Action(action),
            target,
            reason,
            PREDICTION,
            np.nan,
            np.nan,
        )
        account = self.actors.accounting.account_state(self.seq, self.ts_ns)
        self.decides.decision = decision
        window = FeatureWindow(empty_events(1), self.seq, self.ts_ns, np.zeros(1, np.float32), warm=True)
        return self.executor.on_signal(Signal(window, account, PREDICTION), delays).verdict

    def close(self):
        self.journal.close()


@pytest.fixture
def make_rig(tmp_path):
    """Make rigs on one journal, one after another; each new one closes the last, as a restart would."""
    made = []

    def make(*args, name="paper.db", **more):
        if made:
            made[-1].close()
        made.append(Rig(tmp_path / name, *args, **more))
        return made[-1]

    yield make
    if made:
        made[-1].close()


@pytest.fixture
async def rig(make_rig):
    """A rig with a paper broker that answers at once, whose books agree, at 100.00 / 100.25."""
    one = make_rig()
    one.play((1, 100.0))
    assert await one.reconcile()
    return one


@pytest.fixture
def late_broker_settings():
    return BrokerSettings(paper_entry_latency_ms=5, paper_response_latency_ms=5)


@pytest.fixture(scope="session")
def calendar():
    return TradingCalendar.load(date(2026, 10, 1), date(2027, 1, 31))


@pytest.fixture
def impatient(monkeypatch):
    """Queries are repeated at once."""
    monkeypatch.setattr(sierra, "BETWEEN_ATTEMPTS", wait_none())


@pytest.fixture
def serving(tmp_path, calendar):
    """`async with serving(manners, speed=…, faults={…}) as server:` a simulator, with its `port` and `path`.

    `port=` names the port to listen at; by default a free one is taken.
    """

    @asynccontextmanager
    async def serve(manners=None, port=0, **simulator):
        document = {"risk": RISK, "simulator": {"speed": 2.0, **simulator}}
        server = open_server(config.parse(document, "test", environ={}), tmp_path, WallClock(), calendar, manners)
        listening = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(server.run("127.0.0.1", port, listening.set_result))
        server.port, server.path = await listening, tmp_path
        try:
            yield server
        finally:
            server.stop()
            await task

    return serve
