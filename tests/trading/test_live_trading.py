"""How the four tasks are joined: who hears of what, in which order, and how it ends. Their insides are stand-ins."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_MS, NS_PER_S, WallClock
from mia_daemon.errors import ConnectionLost, JournalError, StageDied
from mia_daemon.feed.base import EventBatch
from mia_daemon.ops.metrics import LIVE_TRADING, OPERATIONS, Metrics
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
from mia_daemon.risk.codes import ALLOWED
from mia_daemon.risk.snapshot import NO_DELAYS
from mia_daemon.stage import END
from mia_daemon.trading.live_trading import Components, DecisionPath, Tally, TradingSession
from mia_daemon.trading.trade_executor import SignalOutcome, StepTimes

ES = instrument("ESZ26_FUT_CME")
VALUES = np.zeros(350, np.float32)
PREDICTION = Prediction(RegimeProbs(0.7, 0.2, 0.1), 0.5, 0.6, "baseline", 0.0, "0" * 16)


class StoppedClock(WallClock):
    """A monotonic clock on which time passes only when it is told to."""

    def __init__(self):
        self.ns = 1

    def monotonic_ns(self):
        return self.ns

    def pass_ns(self, ns):
        self.ns += ns
        return True


def events(first_s, count=3, kind=EventKind.TRADE, late_s=0.0):
    made = empty_events(count)
    made["ts_ns"] = (first_s + np.arange(count)) * NS_PER_S
    made["recv_ns"] = made["ts_ns"] + round(late_s * NS_PER_S)
    made["kind"] = kind
    return made


class FakeTasks:
    """The insides of all four tasks. They note what reaches them; each batch makes one window, due unless said so."""

    def __init__(self, batches, *, due=lambda _seq: True):
        self.batches = list(batches)
        self.due = due
        self.calls = []
        self.delays = []
        self.windows_made = 0
        self.position = 0
        self.probability_ns = 7
        self.not_finite = ""
        self.put = 0
        self.break_at = {}
        self.times = StepTimes(3, 4, 5, 6)

    def note(self, what, seq):
        self.calls.append((what, seq))
        error = self.break_at.get((what, seq))
        if error is not None:
            raise error

    # the feed
    async def run(self, queue):
        for batch in self.batches:
            await queue.put(EventBatch(batch, ingress_ns=1))
            self.put += 1
            await asyncio.sleep(0)
        await queue.put(END)

    # features
    def windows(self, batch, ingress_ns):
        seq, self.windows_made = self.windows_made, self.windows_made + 1
        self.note("features", seq)
        if not self.due(seq):
            yield FeatureWindow(batch)
        else:
            yield FeatureWindow(batch, seq, int(batch["ts_ns"][-1]), VALUES, 0, warm=True, ingress_ns=ingress_ns)

    # inference
    def predict(self, window, account, _instrument, max_position):
        self.note("predict", window.seq)
        assert max_position == 3
        return replace(PREDICTION, action=float(account.position), not_finite=self.not_finite)

    # the executor
    def on_window(self, window):
        self.note("market", int(window.events["ts_ns"][0]) // NS_PER_S)
        self.position += 1  # as if something had filled
        if not window.due:
            return None
        return AccountState(window.seq, window.ts_ns, self.position, 0.0, 0.0, 0.0, 0, 100_000.0, 0.0)

    def on_signal(self, signal, delays):
        window, prediction = signal.window, signal.prediction
        assert window.ingress_ns == 1
        self.note("execute", window.seq)
        self.delays.append(delays)
        action = Action.BUY if signal.account.position == prediction.action else Action.HOLD
        decision = Decision(f"R-{window.seq}", window.seq, window.ts_ns, action, 1, "signal", prediction, 1.0, 2.0)
        return SignalOutcome(decision, ALLOWED, self.times)


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

    def make(tasks, *, queue_batches=4, measured=True, clock=None, **hooks):
        sink = Sink()
        clock = clock or WallClock()
        components = Components(pipeline=tasks, inference=tasks, executor=tasks, metrics=metrics, sink=sink, **hooks)
        session = TradingSession(
            components,
            tasks,
            DecisionPath(components, ES, 3, clock),
            queue_batches=queue_batches,
            clock=clock,
            measured=measured,
        )
        session.metrics = metrics
        session.sink = sink
        return session

    yield make
    metrics.close()


async def test_the_policy_knows_the_account_as_of_the_very_event(make_session):
    """Each window's events reach the executor before its prediction is made, however far the feed is ahead."""
    tasks = FakeTasks(events(10 * n) for n in range(20))
    session = make_session(tasks, queue_batches=16)
    await session.run()
    for seq in range(20):
        order = [tasks.calls.index(step) for step in (("market", 10 * seq), ("predict", seq), ("execute", seq))]
        assert order == sorted(order)
    # The stand-in account moves with each window: the policy saw its own, and the decision was made on the same.
    assert [decision.prediction.action for decision in session.sink.decisions] == list(range(1, 21))
    assert {decision.action for decision in session.sink.decisions} == {Action.BUY}


async def test_windows_that_are_not_due_only_pass(make_session):
    tasks = FakeTasks((events(10 * n) for n in range(10)), due=lambda seq: seq % 5 == 4)
    session = make_session(tasks)
    await session.run()
    assert [seq for what, seq in tasks.calls if what == "predict"] == [4, 9]
    assert [seq for what, seq in tasks.calls if what == "market"] == [10 * n for n in range(10)]
    assert session.tally.decisions == len(session.sink.decisions) == 2


async def test_what_was_seen_is_counted_and_recorded_first(make_session):
    recorded = []
    tasks = FakeTasks([events(5), events(8, 4, EventKind.QUOTE), events(20, 1)])
    session = make_session(tasks, record=lambda batch: recorded.append(len(batch)))
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
    session = make_session(FakeTasks([events(1), events(5)]))
    await session.run()
    timed = session.metrics.sample((), {})["operations"]
    assert {name: figures["count"] for name, figures in timed.items()} == dict.fromkeys(
        [*OPERATIONS.values(), LIVE_TRADING], 2
    )
    assert timed["risk"]["latency_max_s"] == 4e-9
    assert timed["predict_trade_success"]["latency_max_s"] == 7e-9


async def test_a_prediction_that_is_not_finite_is_a_failed_operation(make_session):
    tasks = FakeTasks([events(1), events(5)])
    tasks.not_finite = "the policy's action"
    session = make_session(tasks)
    await session.run()
    timed = session.metrics.sample((), {})["operations"]
    failed = {name for name, figures in timed.items() if figures["failures"] == figures["count"] == 2}
    assert failed == {"predict", "predict_trade_success"}


async def test_what_was_not_asked_takes_no_time(make_session):
    """Neither risk nor the trade windows are asked about a decision that opens nothing."""
    tasks = FakeTasks([events(1)])
    tasks.times = StepTimes(None, None, 5, 6)
    session = make_session(tasks)
    await session.run()
    timed = session.metrics.sample((), {})["operations"]
    assert {name for name, figures in timed.items() if figures["count"]} == {
        "predict", "predict_trade_success", "trading_loop", "execute_trade", "live_trading",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("breaks", "file", "operation"),
    [("predict", "inference", "predict"), ("execute", "trade_executor", "execute_trade")],
)
async def test_an_operation_that_fails_is_a_row_without_success_before_the_end(
    make_session, tmp_path, breaks, file, operation
):
    tasks = FakeTasks([events(1), events(5)])
    tasks.break_at[breaks, 1] = RuntimeError("broken")
    session = make_session(tasks)
    with pytest.raises(ExceptionGroup):
        await session.run()
    timed = session.metrics.sample((), {})["operations"]
    assert {name: figures["failures"] for name, figures in timed.items() if figures["failures"]} == {
        operation: 1, "live_trading": 1,
    }  # fmt: skip
    *_, last = (tmp_path / "logs" / f"{file}_performance.csv").read_text().splitlines()
    assert last.split(",")[1:4:2] == [operation, "False"]


@pytest.mark.parametrize("measured", [True, False])
async def test_the_time_an_inference_takes_counts_only_where_it_may(make_session, measured):
    tasks = FakeTasks([events(1), events(5)])
    await make_session(tasks, measured=measured).run()
    assert all(took.inference_ms > 0 for took in tasks.delays) if measured else tasks.delays == [NO_DELAYS, NO_DELAYS]


async def test_a_batch_is_worked_on_in_the_callback_that_brings_it(make_session):
    """Down to the order, with nothing in between; what nobody waits for comes last."""
    tasks = FakeTasks([])
    order = []
    session = make_session(
        tasks,
        before_events=lambda _events: order.append("before"),
        record=lambda _events: order.append(("record", len(tasks.calls))),
        clock=StoppedClock(),  # a callback that takes long leaves the rest to the tasks
    )
    session._batches.put_nowait(EventBatch(events(5), ingress_ns=1))
    assert tasks.calls == [("features", 0), ("market", 5), ("predict", 0), ("execute", 0)]
    assert order == ["before", ("record", 4)]
    assert [len(session.sink.decisions), session.tally.decisions] == [1, 1]


async def test_a_callback_works_on_so_many_events_and_leaves_the_rest_to_the_tasks(make_session):
    """A kill or an order update waits for one callback at most."""
    batches = [events(10_000 * n, 1000) for n in range(3)]
    tasks = FakeTasks(batches, due=lambda _seq: False)
    session = make_session(tasks, clock=StoppedClock())
    worked, others = [], []
    begin = session._budget.begin
    session._budget.begin = lambda: (worked.append(session.tally.events), begin())
    running = asyncio.create_task(session.run())
    while not running.done():
        others.append(session.tally.events)
        await asyncio.sleep(0)
    await running
    steps = [after - before for before, after in pairwise([*worked, session.tally.events])]
    assert max(steps) == 256
    assert len(set(others)) > 6  # others had their turn in between
    assert session.tally.events == 3000
    assert [call for call in tasks.calls if call[0] == "market"] == sorted(
        call for call in tasks.calls if call[0] == "market"
    )


async def test_a_callback_that_has_taken_its_time_leaves_the_rest_to_the_tasks(make_session):
    clock = StoppedClock()
    tasks = FakeTasks([], due=lambda _seq: clock.pass_ns(NS_PER_MS))
    session = make_session(tasks, clock=clock)
    session._stages[0]._wake.set()  # something waits before it
    for n in range(3):
        session._batches.put_nowait(EventBatch(events(10 * n), ingress_ns=1))
    assert session.tally.events == 0
    worked = []
    while session._stages[0]._depth():
        session._stages[0]._drain()
        worked.append(session.tally.decisions)
    assert worked == [2, 3]  # two milliseconds each


async def test_the_batch_that_a_task_failed_on_is_recorded(make_session):
    """What was decided on its events has to be explained."""
    recorded = []
    tasks = FakeTasks(events(10 * n) for n in range(5))
    tasks.break_at = {("execute", 3): JournalError("the disk is full")}
    with pytest.raises(ExceptionGroup):
        await make_session(tasks, record=lambda batch: recorded.append(int(batch["ts_ns"][0]) // NS_PER_S)).run()
    assert recorded[:4] == [0, 10, 20, 30]
    assert [call for call in tasks.calls if call[0] == "market"] == [("market", 10 * n) for n in range(4)]


async def test_a_replay_works_on_whole_batches(make_session):
    tasks = FakeTasks([], due=lambda _seq: False)
    session = make_session(tasks, measured=False)
    session._batches.put_nowait(EventBatch(events(5, 5000), ingress_ns=1))
    assert session.tally.events == 5000
    assert tasks.calls == [("features", 0), ("market", 5)]


async def test_a_slow_task_holds_the_feed_back(make_session):
    """Queues are bounded: a backlog never grows without limit."""
    tasks = FakeTasks(events(10 * n) for n in range(100))
    session = make_session(tasks, queue_batches=2)
    session._stages[0]._drain = lambda: None  # no callback has any time
    running = asyncio.create_task(session.run())
    for _ in range(200):
        await asyncio.sleep(0)
    assert tasks.put == 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("task", ["features", "predict", "market", "execute"])
async def test_a_task_that_fails_ends_all_and_says_why(make_session, task):
    tasks = FakeTasks(events(n) for n in range(100))
    tasks.break_at = {(task, 3): JournalError("the disk is full")}
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5):
            await make_session(tasks).run()
    (error,) = caught.value.exceptions
    assert isinstance(error, StageDied)
    assert "the disk is full" in str(error)
    assert isinstance(error.__cause__, JournalError)
    assert tasks.put < 100


async def test_a_bug_is_named_as_one(make_session):
    tasks = FakeTasks(events(n) for n in range(10))
    tasks.break_at = {("predict", 3): ZeroDivisionError("x / 0")}
    session = make_session(tasks)
    with pytest.raises(ExceptionGroup) as caught:
        await session.run()
    assert "the inference task failed (ZeroDivisionError: x / 0)" in str(caught.value.exceptions[0])
    assert [each.failures for each in session.counters] == [0, 0, 1, 0]


async def test_a_feed_that_fails_ends_all(make_session):
    tasks = FakeTasks([])

    async def run(_queue):
        raise ConnectionLost("gone")

    tasks.run = run
    with pytest.raises(ExceptionGroup) as caught:
        await make_session(tasks).run()
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
