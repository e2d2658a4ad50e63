"""Once a minute a line in the log: what the process used, and how long the session's operations took."""

from collections.abc import Mapping
from typing import Any, Final

from mia_daemon.ops.logs import Logger
from mia_daemon.ops.metrics import LIVE_TRADING

EVERY_S: Final = 60.0


class PerformanceLog:
    """Adds up the samples of a minute and writes the line `performance`.

    Its facts: `operation` (live_trading), `latency` (mean duration of a decision in seconds, 0 without any),
    `success`, `memory_usage_mb`, `cpu_percent` (of one core, mean over the minute), and `latencies`, the means of the
    session's other operations in seconds.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._due_s = EVERY_S
        self._clear()

    def _clear(self) -> None:
        self._spent_s: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._failures = 0
        self._cpu_percent: list[float] = []

    def add(self, snapshot: Mapping[str, Any], elapsed_s: float) -> None:
        """Count a sample of `Metrics`; writes the line when a minute is over. `elapsed_s` is since the start."""
        for name, figures in snapshot["operations"].items():
            count = figures["count"]
            self._counts[name] = self._counts.get(name, 0) + count
            self._spent_s[name] = self._spent_s.get(name, 0.0) + count * figures["latency_mean_s"]
            self._failures += figures["failures"]
        self._cpu_percent.append(snapshot["process"]["cpu_percent"])
        self._memory_mb = snapshot["process"]["rss_mb"]
        if elapsed_s >= self._due_s:
            self._due_s = elapsed_s + EVERY_S
            self.write(success=True)

    def write(self, *, success: bool) -> None:
        """Write the line now: at the end of a session, `success` False when it failed. Nothing without a sample."""
        if not self._cpu_percent:
            return
        means = {name: self._spent_s[name] / count for name, count in self._counts.items() if count}
        self._log.info(
            "performance",
            operation=LIVE_TRADING,
            latency=round(means.pop(LIVE_TRADING, 0.0), 9),
            success=success and not self._failures,
            memory_usage_mb=round(self._memory_mb, 1),
            cpu_percent=round(sum(self._cpu_percent) / len(self._cpu_percent), 1),
            latencies={name: round(mean, 9) for name, mean in means.items()},
        )
        self._clear()
