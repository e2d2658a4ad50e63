"""Once a second: what the process and its tasks did, as rows, as one snapshot, and as a datagram to the observer.

The psutil sample (about 170 µs) is taken on the loop. A thread would hold the interpreter for as long and add two
hand-overs; once a second it is 0.02 % of the loop's time, and what it delays, the latency figures show.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from mia_daemon.appended_file import FileNotice
from mia_daemon.clock import Clock, iso_utc
from mia_daemon.config import VarPaths
from mia_daemon.latency import LatencyBuckets
from mia_daemon.ops.logs import json_line
from mia_daemon.row_file import RowFile
from mia_daemon.service_stderr import report_on_stderr
from mia_daemon.stage import StageCounters

COLUMNS: Final = ("timestamp", "operation", "latency", "success", "memory_usage_mb", "cpu_percent")

LIVE_TRADING: Final = "live_trading"
"""The operation that is a whole decision, from the models to the orders. Its figures go to the log, once a minute."""

OPERATIONS: Final = {
    "trade_executor": "execute_trade",
    "trading_loop": "trading_loop",
    "inference": "predict",
    "trade_probability": "predict_trade_success",
    "risk": "risk",
    "trade_window_filter": "trade_window_filter",
}
"""The operation in each performance file, as the specification names it: one name, one meaning."""

_BYTES_PER_MB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """What the process uses. `cpu_percent` is of one core, since the sample before."""

    rss_mb: float
    cpu_percent: float
    threads: int
    fds: int


@dataclass(frozen=True, slots=True)
class OperationStats:
    """One kind of operation since the last sample."""

    count: int
    failures: int
    latency_mean_s: float
    latency_p50_s: float
    latency_p99_s: float
    latency_max_s: float


class OperationTimer:
    """Durations of one kind of operation; `add` costs about 0.3 µs and may be called on the hot path."""

    def __init__(self) -> None:
        self.total = 0  # since the start
        self._failures = 0
        self._latency = LatencyBuckets()

    def add(self, duration_ns: int, ok: bool = True) -> None:  # noqa: FBT001, FBT002  called per event, as add(ns, ok)
        """One operation ended, well or not."""
        self._latency.add(duration_ns)
        self.total += 1
        if not ok:
            self._failures += 1

    def sample(self) -> OperationStats:
        """The figures since the last sample; they start anew."""
        latency, failures = self._latency, self._failures
        self._latency, self._failures = LatencyBuckets(), 0
        return OperationStats(
            count=latency.count,
            failures=failures,
            latency_mean_s=latency.mean_s,
            latency_p50_s=latency.quantile_s(0.5),
            latency_p99_s=latency.quantile_s(0.99),
            latency_max_s=latency.max_s,
        )


class Metrics:
    """Collects, writes and hands out the daemon's figures.

    Args:
        var: the directory whose logs/ takes the CSV files, made with their headers at once.
        clock: stamps the rows.
        notify: called with notices of files that were set aside or can't be written.
        stamp: formats the time of a row.
    """

    def __init__(
        self,
        var: Path,
        clock: Clock,
        notify: FileNotice = report_on_stderr,
        stamp: Callable[[int], str] = iso_utc,
    ) -> None:
        self._clock = clock
        self._stamp = stamp
        self._files = {name: RowFile(var / "logs" / f"{name}_performance.csv", COLUMNS, notify) for name in OPERATIONS}
        self._operations: dict[str, OperationTimer] = {}
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark the next is measured from
        self._observer = _ObserverSocket(VarPaths(var).observer_socket)
        self.rows_lost = 0
        self.snapshot: dict[str, Any] = {}

    def operation(self, file: str) -> OperationTimer:
        """The timer of the operation in `<file>_performance.csv`, or of `LIVE_TRADING`, which has no such file."""
        if file not in OPERATIONS and file != LIVE_TRADING:
            raise ValueError(f"{file} has no performance file; known: {', '.join(OPERATIONS)}")
        return self._operations.setdefault(file, OperationTimer())

    def sample(self, stages: Iterable[StageCounters], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Take the figures of this interval, write the rows, send the observer the snapshot, which is returned.

        `facts` is what the daemon adds (mode, position, profit ...). An operation that did not run writes no row.
        """
        now_ns = self._clock.now_ns()
        process = self.process()
        operations = {file: timer.sample() for file, timer in self._operations.items()}
        tail = (round(process.rss_mb, 1), round(process.cpu_percent, 1))
        for file, figures in operations.items():
            if figures.count and file in OPERATIONS:
                latency, success = f"{figures.latency_mean_s:.9f}", figures.failures == 0
                self._row(file, (self._stamp(now_ns), OPERATIONS[file], latency, success, *tail))
        self.snapshot = {
            **facts,
            "ts": iso_utc(now_ns),
            "process": asdict(process),
            "stages": {stats.stage: asdict(stats) for stats in (counters.sample() for counters in stages)},
            "operations": {OPERATIONS.get(file, file): asdict(figures) for file, figures in operations.items()},
            "rows_lost": self.rows_lost,
        }
        self._observer.send(self.snapshot)
        return self.snapshot

    def process(self) -> ProcessSample:
        """One psutil sample, about 170 µs."""
        process = self._process
        with process.oneshot():
            return ProcessSample(
                rss_mb=process.memory_info().rss / _BYTES_PER_MB,
                cpu_percent=process.cpu_percent(),
                threads=process.num_threads(),
                fds=process.num_fds(),
            )

    def _row(self, file: str, row: tuple[object, ...]) -> None:
        if not self._files[file].append(row):
            self.rows_lost += 1  # a full disk does not stop trading; the snapshot tells

    @property
    def files(self) -> Iterable[RowFile]:
        """Those it writes."""
        return self._files.values()

    def close(self) -> None:
        self._observer.close()
        for file in self._files.values():
            file.close()


class _ObserverSocket:
    """Sends datagrams to whoever has bound the path, and never waits."""

    def __init__(self, path: Path) -> None:
        self.lost = 0
        self._path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, snapshot: Mapping[str, Any]) -> None:
        if not os.path.exists(self._path):  # noqa: PTH110  a Path costs 5 µs more, every second for nobody
            return
        data = json_line(snapshot)
        try:
            self._socket.sendto(data, self._path)
        except OSError:
            self.lost += 1  # nobody listens, or the observer is behind: neither holds the daemon up

    def close(self) -> None:
        self._socket.close()
