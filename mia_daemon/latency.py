"""Histogram of durations, by power of two."""

import math

import numpy as np

from mia_daemon.clock import NS_PER_S


class LatencyBuckets:
    """Durations counted by power of two: 0.1 µs per record, at most a factor of √2 off when read."""

    _N = 48  # 2^47 ns is a day and a half

    def __init__(self) -> None:
        self._counts = [0] * self._N
        self._sum_ns = 0
        self._max_ns = 0
        self._n = 0

    def add(self, duration_ns: int) -> None:
        self._counts[min(duration_ns.bit_length(), self._N - 1) if duration_ns > 0 else 0] += 1
        self._sum_ns += duration_ns
        self._n += 1
        self._max_ns = max(self._max_ns, duration_ns)

    @property
    def count(self) -> int:
        return self._n

    @property
    def mean_s(self) -> float:
        return self._sum_ns / self._n / NS_PER_S if self._n else 0.0

    @property
    def max_s(self) -> float:
        return self._max_ns / NS_PER_S

    def quantile_s(self, q: float) -> float:
        """The q-quantile, as the geometric middle of its bucket, never above the maximum seen."""
        if not self._n:
            return 0.0
        rank = int(np.searchsorted(np.cumsum(self._counts), q * self._n))
        return min(2.0**rank / math.sqrt(2.0), float(self._max_ns)) / NS_PER_S
