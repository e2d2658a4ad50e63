"""A trading session: the four tasks of one mode, joined by queues.

    feed ──EventBatch──► features ──FeatureWindow──► inference ──Signal──► executor
                                                         ▲                     │
                                                         └──── AccountState ◄──┘

Paper, live and replay run this same code. Only the account state flows back: before the models predict, earlier
decisions are carried out, the executor processes the window's events, and the account state is taken as of the last of
them. So a replay's decisions do not depend on how the tasks are scheduled.
"""

import asyncio
import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_MS, Clock
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.feed.base import EventBatch, Feed
from mia_daemon.model.inference import Inference
from mia_daemon.ops.metrics import LIVE_TRADING, Metrics
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Decision, EventArray, EventKind, FeatureWindow, Signal
from mia_daemon.risk.codes import Verdict
from mia_daemon.risk.snapshot import NO_DELAYS, Delays
from mia_daemon.stage import CallbackBudget, LoopWatch, Stage, StageCounters, StageQueue
from mia_daemon.trading.trade_executor import StepTimes, TradeExecutor


class DecisionSink(Protocol):
    """Notified of decisions, after they were carried out."""

    def decision(self, decision: Decision, verdict: Verdict, values: NDArray[np.float32]) -> None: ...


_TRADE = int(EventKind.TRADE)


@dataclass(slots=True)
class Tally:
    """Counters of a session, and the digest of its decisions."""

    events: int = 0
    trades_in: int = 0
    decisions: int = 0
    first_ts_ns: int = 0
    last_ts_ns: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def count_events(self, events: EventArray) -> None:
        self.events += len(events)
        self.trades_in += int(np.count_nonzero((events["kind"] == _TRADE) & (events["symbol"] == 0)))
        if not self.first_ts_ns:
            self.first_ts_ns = int(events["ts_ns"][0])
        self.last_ts_ns = int(events["ts_ns"][-1])

    def count_decision(self, decision: Decision) -> None:
        """Add every field of the decision to the digest, except the run's id."""
        self.decisions += 1
        said = decision.prediction
        self.digest.update(
            struct.pack(
                "<qqi6d",
                decision.seq,
                decision.ts_ns,
                decision.target,
                *said.regime_probs,
                said.action,
                said.probability,
                said.out_of_range_share,
            )
        )
        self.digest.update(f"{decision.action}|{decision.reason}|{said.observation_sha256}".encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """The parts of the four tasks, for one run.

    Attributes:
        sink: notified of each decision.
        decide_from_ns: features and regimes follow the market before this event time, but nothing is decided.
        before_events: called with each batch before it is processed (a replay's clock).
        record: called with each batch after everything that follows from it was done (the recorder).
    """

    pipeline: FeaturePipeline
    inference: Inference
    executor: TradeExecutor
    metrics: Metrics
    sink: DecisionSink
    decide_from_ns: int = 0
    before_events: Callable[[EventArray], None] = lambda _events: None
    record: Callable[[EventArray], None] = lambda _events: None


class DecisionPath:
    """The way of one window: the account takes its events, the models predict, the executor decides and sends.

    Args:
        components: the parts of the tasks.
        instrument: what is traded.
        max_position: contracts for a policy action of ±1.

    Attributes:
        tally: of the session.
        inference_ns: how long the last prediction took.
    """

    def __init__(self, components: Components, instrument: Instrument, max_position: int, clock: Clock) -> None:
        self.tally = Tally()
        self.inference_ns = 0
        self._began_ns = 0  # monotonic clock, of the decision in hand
        self._inference = components.inference
        self._executor = components.executor
        self._sink = components.sink
        self._instrument = instrument
        self._max_position = max_position
        self._times = OperationTimes(components.metrics)
        self._now = clock.monotonic_ns

    def infer(self, window: FeatureWindow) -> Signal | None:
        """The account as of the window, and the prediction on it; None where no decision is due."""
        account = self._executor.on_window(window)
        if account is None:
            self.tally.count_events(window.events)
            return None
        started = self._began_ns = self._now()
        try:
            prediction = self._inference.predict(window, account, self._instrument, self._max_position)
        except Exception:
            self._times.prediction_failed(self._now() - started)
            raise
        self.inference_ns = self._now() - started
        return Signal(window, account, prediction)

    def execute(self, signal: Signal, delays: Delays) -> None:
        """From prediction to orders; notifications and counters come after the orders were sent."""
        window, started = signal.window, self._now()
        try:
            decision, verdict, times = self._executor.on_signal(signal, delays)
        except Exception:
            self._times.execution_failed(self._now() - started, self._now() - self._began_ns)
            raise
        self._times.add(times, self._now() - self._began_ns)
        usable = not signal.prediction.not_finite
        self._times.inference.add(self.inference_ns, usable)
        self._times.probability.add(self._inference.probability_ns, usable)
        self.tally.count_events(window.events)
        self.tally.count_decision(decision)
        assert window.values is not None
        self._sink.decision(decision, verdict, window.values)


class TradingSession:
    """The four tasks. `run` returns when the feed has ended and everything it brought was processed.

    A batch is processed in the callback that delivers it: features, inference and executor are called one after
    another, down to the order's bytes, within the callback's budget. The tasks continue with the rest.

    Args:
        components: the parts of the tasks.
        feed: brings the market events.
        path: of the windows.
        queue_batches: length of each queue; a full one blocks the feed.
        measured: whether measured delays reach risk, and whether callbacks are bounded; False in replay, which must be
            reproducible and where nothing else waits.
    """

    def __init__(
        self,
        components: Components,
        feed: Feed,
        path: DecisionPath,
        *,
        queue_batches: int,
        clock: Clock,
        measured: bool = True,
    ) -> None:
        self.path = path
        self.tally = path.tally
        self._components = components
        self._feed = feed
        self._clock = clock
        self._measured = measured
        self._loop_watch = LoopWatch(clock)
        self._budget = budget = CallbackBudget(clock) if measured else CallbackBudget(clock, None, None)
        self._feed_counters = StageCounters("feed", clock)
        signals: StageQueue[Signal] = StageQueue(queue_batches)
        windows: StageQueue[FeatureWindow] = StageQueue(queue_batches)
        self._batches: StageQueue[EventBatch] = StageQueue(queue_batches)
        executor = Stage[Signal, None]("executor", self._execute, signals, clock)
        inference = Stage("inference", self._infer, windows, clock, following=executor)
        features = Stage("features", self._features, self._batches, clock, following=inference, budget=budget)
        self._stages = (features, inference, executor)

    @property
    def counters(self) -> tuple[StageCounters, ...]:
        """Of the four tasks, in the order of the data."""
        return (self._feed_counters, *(stage.counters for stage in self._stages))

    async def run(self) -> None:
        """Trade until the feed ends. Raises an ExceptionGroup with the error of the task that failed."""
        if self._measured:
            self._loop_watch.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._feed.run(self._batches), name="feed")
                for stage in self._stages:
                    tasks.create_task(stage.run(), name=stage.name)
        finally:
            self._loop_watch.stop()

    # The tasks' work, in the order of the data.

    def _features(self, batch: EventBatch) -> Iterator[FeatureWindow]:
        """Yield the batch's windows one by one, from no more events at a time than the callback's budget allows."""
        components, events = self._components, batch.events
        components.before_events(events)
        self._feed_counters.start()
        for counters in self.counters[:2]:
            counters.events_in += len(events)
        start = 0
        try:
            while start < len(events):
                end = start + self._budget.allowance(len(events) - start)
                for window in components.pipeline.windows(events[start:end], batch.ingress_ns):
                    self._budget.spend(len(window.events))
                    yield window
                start = end
        finally:  # also when a later stage has failed: what was decided on these events has to be explained
            components.record(events)

    def _infer(self, window: FeatureWindow) -> Iterator[Signal]:
        signal = self.path.infer(window)
        if signal is None:
            return
        if window.ts_ns < self._components.decide_from_ns:
            self.tally.count_events(window.events)
            return
        yield signal

    def _execute(self, signal: Signal) -> Iterable[None]:
        self.path.execute(signal, self._delays(signal.window))
        return ()

    def _delays(self, window: FeatureWindow) -> Delays:
        """The delays of the decision: its bytes may have been unread for as long as the event loop was last late."""
        if not self._measured:
            return NO_DELAYS
        waited_ns = self._clock.monotonic_ns() - window.ingress_ns if window.ingress_ns else 0
        return Delays(self.path.inference_ns / NS_PER_MS, (waited_ns + self._loop_watch.held_up_ns) / NS_PER_MS)


class OperationTimes:
    """Durations of the operations that the specification names."""

    def __init__(self, metrics: Metrics) -> None:
        self.inference = metrics.operation("inference")
        self.probability = metrics.operation("trade_probability")
        self._window = metrics.operation("trade_window_filter")
        self._risk = metrics.operation("risk")
        self._loop = metrics.operation("trading_loop")
        self._executor = metrics.operation("trade_executor")
        self._whole = metrics.operation(LIVE_TRADING)

    def prediction_failed(self, spent_ns: int) -> None:
        """The models raised an error, which ends the session."""
        self.inference.add(spent_ns, False)
        self._whole.add(spent_ns, False)

    def execution_failed(self, spent_ns: int, whole_ns: int) -> None:
        """The executor raised an error, which ends the session."""
        self._executor.add(spent_ns, False)
        self._whole.add(whole_ns, False)

    def add(self, times: StepTimes, whole_ns: int) -> None:
        """Add the durations of one decision, and how long all of it took."""
        self._whole.add(whole_ns)
        if times.window_ns is not None:
            self._window.add(times.window_ns)
        if times.risk_ns is not None:
            self._risk.add(times.risk_ns)
        self._loop.add(times.loop_ns)
        self._executor.add(times.executor_ns)
