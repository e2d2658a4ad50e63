"""How the four tasks are joined: who hears of what, in which order, and how it ends. Their insides are stand-ins."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_MS, NS_PER_S, WallClock
from mia_daemon.errors import ConnectionLost, JournalError, StageDied
from mia_daemon.feed.base import EventBatch
from mia_daemon.ops.metrics import PERFORMANCE_FILES, Metrics
from mia_daemon.products.instruments import instrument
from mia_daemon.records import (
    AccountState,
    Action,
    Decision,
    EventKind,
    FeatureWindow,
    Prediction,
    RegimeProbs,
    empty_events,
)
from mia_daemon.risk.codes import ALLOWED, RiskCode, Verdict
from mia_daemon.risk.snapshot import NO_DELAYS
from mia_daemon.stage import END
from mia_daemon.trading.live_trading import Components, Tally, TradingSession

ES = instrument("ESZ26_FUT_CME")
VALUES = np.zeros(350, np.float32)
PREDICTION = Prediction(RegimeProbs(0.7, 0.2, 0.1), 0.5, 0.6, "baseline", 0.0, "0" * 16)


def events(first_s, count=3, kind=EventKind.TRADE, late_s=0.0):
    made = empty_events(count)
    made["ts_ns"] = (first_s + np.arange(count)) * NS_PER_S
    made["recv_ns"] = made["ts_ns"] + round(late_s * NS_PER_S)
    made["kind"] = kind
    return made


class Told:
    """All four tasks' insides. They note what reaches them; each batch makes one window, due unless told otherwise."""

    def __init__(self, batches, *, due=lambda _seq: True):
        self.batches = list(batches)
        self.due = due
        self.heard = []
        self.delays = []
        self.situations = []
        self.asked = []
        self.windows = 0
        self.position = 0
        self.probability_ns = 7
        self.taken = 0
        self.break_at = {}
        self.wants = True
        self.risk = ALLOWED

    def note(self, what, seq):
        self.heard.append((what, seq))
        error = self.break_at.get((what, seq))
        if error is not None:
            raise error

    # the feed
    async def run(self, queue):
        for batch in self.batches:
            await queue.put(EventBatch(batch, ingress_ns=1))
            self.taken += 1
        await queue.put(END)

    # features
    def push(self, batch, ingress_ns):
        seq, self.windows = self.windows, self.windows + 1
        self.note("features", seq)
        if not self.due(seq):
            return [FeatureWindow(batch)]
        return [FeatureWindow(batch, seq, int(batch["ts_ns"][-1]), VALUES, 0, warm=True, ingress_ns=ingress_ns)]

    # inference
    def predict(self, window, account, _instrument, max_position):
        self.note("predict", window.seq)
        assert max_position == 3
        return replace(PREDICTION, action=float(account.position))

    # the executor
    def on_market(self, batch):
        self.note("market", int(batch["ts_ns"][0]) // NS_PER_S)
        self.position += 1  # as if something had filled

    def account_state(self, seq, ts_ns):
        return AccountState(seq, ts_ns, self.position, 0.0, 0.0, 0.0, 0, 100_000.0, 0.0)

    def wants_entry(self, _prediction, _account):
        return self.wants

    def new_risk(self, _prediction, _delays):
        return self.risk

    def situation(self, entries):
        self.situations.append(entries)
        return entries

    def decide(self, window, prediction, account, _situation):
        action = Action.BUY if account.position == prediction.action else Action.HOLD
        return Decision(f"R-{window.seq}", window.seq, window.ts_ns, action, 1, "signal", prediction, 1.0, 2.0)

    def execute(self, decision, ingress_ns, delays, asked):
        assert ingress_ns == 1
        self.asked.append(asked)
        self.note("execute", decision.seq)
        self.delays.append(delays)
        return ALLOWED

    # the trade window filter
    def check(self, _ts_ns):
        return ALLOWED


class Sink:
    def __init__(self):
        self.decisions = []

    def decision(self, decision, verdict, values):
        assert verdict is ALLOWED
        assert values is VALUES
        self.decisions.append(decision)


@pytest.fixture
def make_session(tmp_path):
    metrics = Metrics(tmp_path, WallClock())

    def make(told, **more):
        rooms = Components(feed=told, pipeline=told, inference=told, window_filter=told, loop=told, executor=told)
        sink = Sink()
        session = TradingSession(
            rooms,
            instrument=ES,
            max_position=3,
            queue_batches=more.pop("queue_batches", 4),
            clock=WallClock(),
            metrics=metrics,
            sink=sink,
            **more,
        )
        session.metrics = metrics
        session.sink = sink
        return session

    yield make
    metrics.close()


async def test_the_policy_knows_the_account_as_of_the_very_event(make_session):
    """Each window's events reach the executor before its prediction is made, however far the feed is ahead."""
    told = Told(events(10 * n) for n in range(20))
    session = make_session(told, queue_batches=16)
    await session.run()
    for seq in range(20):
        order = [told.heard.index(step) for step in (("market", 10 * seq), ("predict", seq), ("execute", seq))]
        assert order == sorted(order)
    # The stand-in account moves with each window: the policy saw its own, and the decision was made on the same.
    assert [decision.prediction.action for decision in session.sink.decisions] == list(range(1, 21))
    assert {decision.action for decision in session.sink.decisions} == {Action.BUY}


async def test_windows_that_are_not_due_only_pass(make_session):
    told = Told((events(10 * n) for n in range(10)), due=lambda seq: seq % 5 == 4)
    session = make_session(told)
    await session.run()
    assert [seq for what, seq in told.heard if what == "predict"] == [4, 9]
    assert [seq for what, seq in told.heard if what == "market"] == [10 * n for n in range(10)]
    assert session.tally.decisions == len(session.sink.decisions) == 2


async def test_what_was_seen_is_counted_and_recorded_first(make_session):
    recorded = []
    told = Told([events(5), events(8, 4, EventKind.QUOTE), events(20, 1)])
    session = make_session(told, on_events=lambda batch: recorded.append(len(batch)))
    await session.run()
    tally = session.tally
    assert recorded == [3, 4, 1]
    assert (tally.events, tally.trades_in, tally.decisions) == (8, 4, 3)
    assert (tally.first_ts_ns, tally.last_ts_ns) == (5 * NS_PER_S, 20 * NS_PER_S)
    assert [(each.name, each.items_in) for each in session.counters] == [
        ("feed", 3), ("features", 3), ("inference", 3), ("executor", 3),
    ]  # fmt: skip
    assert [each.events_in for each in session.counters[:2]] == [8, 8]


async def test_every_operation_is_timed(make_session):
    session = make_session(Told([events(1), events(5)]))
    await session.run()
    timed = session.metrics.sample((), {})["operations"]
    assert {name: figures["count"] for name, figures in timed.items()} == dict.fromkeys(PERFORMANCE_FILES, 2)
    assert timed["trade_probability"]["latency_max_s"] == 7e-9


@pytest.mark.parametrize("measured", [True, False])
async def test_the_time_an_inference_takes_counts_only_where_it_may(make_session, measured):
    told = Told([events(1), events(5)])
    await make_session(told, measured=measured).run()
    assert all(took.inference_ms > 0 for took in told.delays) if measured else told.delays == [NO_DELAYS, NO_DELAYS]


async def test_nothing_is_opened_on_the_past(make_session):
    told = Told([events(1), events(5, late_s=3.0), events(9, late_s=2.0)])
    await make_session(told, max_age_ns=2 * NS_PER_S).run()
    assert [verdict.code for verdict in told.situations] == [ALLOWED.code, RiskCode.STALE_PRICE, ALLOWED.code]
    assert told.situations[1].context == {"age_s": 3.0}


async def test_the_trade_windows_verdict_is_handed_on(make_session):
    told = Told([events(1)])
    closed = Verdict(RiskCode.MARKET_CLOSED, {})
    told.check = lambda _ts_ns: closed
    await make_session(told).run()
    assert told.situations == [closed]


async def test_what_risk_says_goes_before_the_trade_window(make_session):
    told = Told([events(1)])
    told.check = lambda _ts_ns: Verdict(RiskCode.MARKET_CLOSED, {})
    told.risk = Verdict(RiskCode.STALE_PRICE, {})
    await make_session(told).run()
    assert told.situations == told.asked == [told.risk]


async def test_nobody_is_asked_about_an_entry_that_the_signal_does_not_want(make_session):
    told = Told([events(1)])
    told.wants = False
    told.risk = Verdict(RiskCode.HALTED, {})
    await make_session(told).run()
    assert told.situations == [ALLOWED]
    assert told.asked == [None]


async def test_a_slow_task_holds_the_feed_back(make_session):
    """Queues are bounded: a backlog never grows without limit."""
    told = Told(events(10 * n) for n in range(100))
    session = make_session(told, queue_batches=2)

    async def stuck(_window):
        await asyncio.Event().wait()

    session._stages[1]._work = stuck
    running = asyncio.create_task(session.run())
    for _ in range(200):
        await asyncio.sleep(0)
    assert 2 < told.taken <= 7  # two queues of two, and what each task has in hand
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("task", ["features", "predict", "market", "execute"])
async def test_a_task_that_fails_ends_all_and_says_why(make_session, task):
    told = Told(events(n) for n in range(100))
    told.break_at = {(task, 3): JournalError("the disk is full")}
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5):
            await make_session(told).run()
    (error,) = caught.value.exceptions
    assert isinstance(error, StageDied)
    assert "the disk is full" in str(error)
    assert isinstance(error.__cause__, JournalError)
    assert told.taken < 100


async def test_a_bug_is_named_as_one(make_session):
    told = Told(events(n) for n in range(10))
    told.break_at = {("predict", 3): ZeroDivisionError("x / 0")}
    session = make_session(told)
    with pytest.raises(ExceptionGroup) as caught:
        await session.run()
    assert "the inference task failed (ZeroDivisionError: x / 0)" in str(caught.value.exceptions[0])
    assert [each.failures for each in session.counters] == [0, 0, 1, 0]


async def test_a_feed_that_fails_ends_all(make_session):
    told = Told([])

    async def run(_queue):
        raise ConnectionLost("gone")

    told.run = run
    with pytest.raises(ExceptionGroup) as caught:
        await make_session(told).run()
    assert str(caught.value.exceptions[0]) == "gone"


# The digest: what makes two replays the same.


DECISION = Decision("R1-7", 7, 5 * NS_PER_MS, Action.BUY, 1, "signal", PREDICTION, 99.75, 100.0, {"position": 0})


def digest(*decisions):
    tally = Tally()
    for decision in decisions:
        tally.count_decision(decision)
    return tally.digest.hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 8},
        {"ts_ns": 6 * NS_PER_MS},
        {"action": Action.SELL},
        {"target": -1},
        {"reason": "keep"},
        {"prediction": replace(PREDICTION, action=np.nextafter(0.5, 1))},
        {"prediction": replace(PREDICTION, probability=0.61)},
        {"prediction": replace(PREDICTION, regime_probs=RegimeProbs(0.7, 0.1, 0.2))},
        {"prediction": replace(PREDICTION, out_of_range_share=0.01)},
        {"prediction": replace(PREDICTION, observation_sha256="1" * 16)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_sees_all_that_a_decision_says(change):
    assert digest(replace(DECISION, **change)) != digest(DECISION)


def test_the_digest_does_not_see_the_runs_name_but_the_order():
    assert digest(replace(DECISION, decision_id="R2-7")) == digest(DECISION)
    other = replace(DECISION, seq=8)
    assert digest(DECISION, other) != digest(other, DECISION)
