"""Once a second: what the process and its tasks did, as rows, as one snapshot, and as a datagram to the observer.

The psutil sample (about 170 µs) is taken on the loop. A thread would hold the interpreter for as long and add two
hand-overs; once a second it is 0.02 % of the loop's time, and what it delays, the latency figures show.
"""

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from mia_daemon.appended_file import FileNotice, report_on_stderr
from mia_daemon.clock import Clock, iso_utc
from mia_daemon.config import VarPaths
from mia_daemon.latency import LatencyBuckets
from mia_daemon.ops.logs import json_line
from mia_daemon.records import StageStats
from mia_daemon.row_file import RowFile
from mia_daemon.stage import StageCounters

COLUMNS: Final = ("timestamp", "operation", "latency", "success", "memory_usage_mb", "cpu_percent")

PERFORMANCE_FILES: Final = (
    "trade_executor",
    "trading_loop",
    "inference",
    "trade_probability",
    "risk",
    "trade_window_filter",
)
"""Each has its `<name>_performance.csv` below var/logs."""

STAGE_FILES: Final = {"executor": "trade_executor", "inference": "inference"}
"""Which file a stage's own latency goes to; the other stages appear in the snapshot only."""

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

    def __init__(self, file: str, name: str) -> None:
        self.file = file
        self.name = name
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
        notify: told of files that were set aside or can't be written.
    """

    def __init__(self, var: Path, clock: Clock, notify: FileNotice = report_on_stderr) -> None:
        self._clock = clock
        self._files = {
            name: RowFile(var / "logs" / f"{name}_performance.csv", COLUMNS, notify) for name in PERFORMANCE_FILES
        }
        self._operations: dict[tuple[str, str], OperationTimer] = {}
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only sets the mark the next is measured from
        self._observer = _ObserverSocket(VarPaths(var).observer_socket)
        self.rows_lost = 0
        self.snapshot: dict[str, Any] = {}

    def operation(self, file: str, name: str = "") -> OperationTimer:
        """The timer whose rows go to `<file>_performance.csv` as operation `name` (by default the file's name)."""
        if file not in self._files:
            raise ValueError(f"{file} has no performance file; known: {', '.join(self._files)}")
        key = (file, name or file)
        return self._operations.setdefault(key, OperationTimer(*key))

    def sample(self, stages: Iterable[StageCounters], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Take the figures of this interval, write the rows, tell the observer; the snapshot, ready for JSON.

        `facts` is what the daemon adds (mode, position, profit ...). An operation that did not run writes no row.
        """
        now = iso_utc(self._clock.now_ns())
        process = self.process()
        stage_stats = [counters.sample() for counters in stages]
        operations = {key: timer.sample() for key, timer in self._operations.items()}
        tail = (round(process.rss_mb, 1), round(process.cpu_percent, 1))
        for stats in stage_stats:
            self._stage_row(now, stats, tail)
        for (file, name), figures in operations.items():
            if figures.count:
                self._row(file, (now, name, _seconds(figures.latency_mean_s), figures.failures == 0, *tail))
        self.snapshot = {
            **facts,
            "ts": now,
            "process": asdict(process),
            "stages": {stats.stage: asdict(stats) for stats in stage_stats},
            "operations": {_label(*key): asdict(figures) for key, figures in operations.items()},
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

    def _stage_row(self, now: str, stats: StageStats, tail: tuple[float, float]) -> None:
        file = STAGE_FILES.get(stats.stage)
        if file is not None and stats.operations:
            self._row(file, (now, stats.stage, _seconds(stats.latency_mean_s), stats.failures == 0, *tail))

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


def _label(file: str, name: str) -> str:
    return file if file == name else f"{file}.{name}"


def _seconds(value: float) -> str:
    return f"{value:.9f}"


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
