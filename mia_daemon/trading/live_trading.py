"""A trading session: the four tasks of one mode, joined by queues.

    feed ──EventBatch──► features ──FeatureWindow──► inference ──Signal──► executor
                                                    ▲                     │
                                                    └──── AccountState ◄──┘

Paper, live and replay run this same code. The one thing that flows back is the account: before it speaks, inference
waits until what was decided before is carried out, shows the executor the window's events, and takes the account as of
that very event. That makes a replay's decisions independent of how the tasks happen to be scheduled.
"""

import asyncio
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_MS, Clock
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.feed.base import EventBatch, Feed
from mia_daemon.model.inference import Inference
from mia_daemon.ops.metrics import Metrics
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Decision, EventArray, EventKind, FeatureWindow, Signal
from mia_daemon.risk.codes import Verdict
from mia_daemon.risk.snapshot import NO_DELAYS, Delays
from mia_daemon.stage import EndOfData, LoopWatch, Stage, StageCounters
from mia_daemon.trading.trade_executor import StepTimes, TradeExecutor


class DecisionSink(Protocol):
    """Who is told of decisions, after they were carried out."""

    def decision(self, decision: Decision, verdict: Verdict, values: NDArray[np.float32]) -> None: ...


_TRADE = int(EventKind.TRADE)


@dataclass(slots=True)
class Tally:
    """What a session has seen and done."""

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
        """Fold everything the decision says into the digest, but for the run's name."""
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
    """What the tasks are made of, each for one run.

    Attributes:
        sink: notified of each decision.
        on_events: called with each batch before anything else sees it (the recorder).
    """

    feed: Feed
    pipeline: FeaturePipeline
    inference: Inference
    executor: TradeExecutor
    metrics: Metrics
    sink: DecisionSink
    on_events: Callable[[EventArray], None] = lambda _events: None


class TradingSession:
    """The four tasks. `run` returns when the feed has ended and everything was worked off.

    Args:
        components: the tasks' insides.
        instrument: what is traded.
        max_position: contracts that the policy's ±1 means.
        queue_batches: length of each queue; a full one holds the task before it back.
        measured: whether the time an inference took may decide anything; not in replay, which must repeat itself.
    """

    def __init__(
        self,
        components: Components,
        *,
        instrument: Instrument,
        max_position: int,
        queue_batches: int,
        clock: Clock,
        measured: bool = True,
    ) -> None:
        self.tally = Tally()
        self._components = components
        self._executor = components.executor
        self._instrument = instrument
        self._max_position = max_position
        self._clock = clock
        self._measured = measured
        self._inference_ns = 0
        self._loop_watch = LoopWatch(clock)
        self._times = OperationTimes(components.metrics)

        self._batches: asyncio.Queue[EventBatch | EndOfData] = asyncio.Queue(queue_batches)
        windows: asyncio.Queue[FeatureWindow | EndOfData] = asyncio.Queue(queue_batches)
        self._signals: asyncio.Queue[Signal | EndOfData] = asyncio.Queue(queue_batches)
        self._feed_counters = StageCounters("feed", clock)
        self._stages = (
            Stage("features", self._features, self._batches, windows, clock),
            Stage("inference", self._infer, windows, self._signals, clock),
            Stage[Signal, None]("executor", self._execute, self._signals, None, clock),
        )

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
                tasks.create_task(self._components.feed.run(self._batches), name="feed")
                for stage in self._stages:
                    tasks.create_task(stage.run(), name=stage.name)
        finally:
            self._loop_watch.stop()

    # The tasks' work, in the order of the data.

    async def _features(self, batch: EventBatch) -> Sequence[FeatureWindow]:
        self._components.on_events(batch.events)
        self._feed_counters.start()
        for counters in self.counters[:2]:
            counters.events_in += len(batch.events)
        return self._components.pipeline.push(batch.events, batch.ingress_ns)

    async def _infer(self, window: FeatureWindow) -> Sequence[Signal]:
        inference, now = self._components.inference, self._clock.monotonic_ns
        await self._signals.join()
        account = self._executor.on_window(window)
        if account is None:
            self.tally.count_events(window.events)
            return ()
        started = now()
        prediction = inference.predict(window, account, self._instrument, self._max_position)
        self._inference_ns = now() - started
        self._times.inference.add(self._inference_ns)
        self._times.probability.add(inference.probability_ns)
        return (Signal(window, account, prediction),)

    async def _execute(self, signal: Signal) -> Sequence[None]:
        """From prediction to orders; what nobody waits for comes after the orders have left."""
        window = signal.window
        decision, verdict, times = self._executor.on_signal(signal, self._delays(window))
        self._times.add(times)
        self.tally.count_events(window.events)
        self.tally.count_decision(decision)
        assert window.values is not None
        self._components.sink.decision(decision, verdict, window.values)
        return ()

    def _delays(self, window: FeatureWindow) -> Delays:
        """How old the decision is: its bytes may have lain unread for as long as the loop was last held up."""
        if not self._measured:
            return NO_DELAYS
        waited_ns = self._clock.monotonic_ns() - window.ingress_ns if window.ingress_ns else 0
        return Delays(self._inference_ns / NS_PER_MS, (waited_ns + self._loop_watch.held_up_ns) / NS_PER_MS)


class OperationTimes:
    """How long the operations that the specification names took."""

    def __init__(self, metrics: Metrics) -> None:
        self.inference = metrics.operation("inference")
        self.probability = metrics.operation("trade_probability")
        self._window = metrics.operation("trade_window_filter")
        self._risk = metrics.operation("risk")
        self._loop = metrics.operation("trading_loop")
        self._executor = metrics.operation("trade_executor")

    def add(self, times: StepTimes) -> None:
        """Of one decision."""
        if times.window_ns is not None:
            self._window.add(times.window_ns)
        if times.risk_ns is not None:
            self._risk.add(times.risk_ns)
        self._loop.add(times.loop_ns)
        self._executor.add(times.executor_ns)
