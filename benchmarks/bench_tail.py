"""A file that Sierra Chart writes: from the record appended to the event on the queue, and a trading day's growth.

Latency: another process appends records one by one and in bursts, each stamped with the moment before the write; the
feed runs on uvloop as in the daemon. Beside it stands what a bare loop around inotify takes that does nothing else: the
machine's share. Growth: 8 simulated hours at 2,000 trades and 2,000 depth changes a second,
written in steps of a simulated second without waiting; every event has to arrive once and in order, and memory has to
stay flat. `python -m benchmarks.bench_tail [HOURS]`; 8 hours take 4 GB of disk.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import uvloop
from asyncinotify import InitFlags, Inotify, Mask

from mia_daemon.clock import NS_PER_S, WallClock
from mia_daemon.feed.base import BatchQueue
from mia_daemon.feed.scid_feed import ScidFeed
from mia_daemon.feed.sierra_files import ADD_ASK, ADD_BID, DEPTH, DEPTH_RECORD, SCID, SCID_RECORD, RecordWriter, to_us
from mia_daemon.records import Alert, EventKind
from mia_daemon.stage import EndOfData

RECORDS = 3_000
PAUSE_S = 0.002
BURST = 10
RATE_PER_S = 2_000
HOURS = 8.0
START_NS = 1_795_446_000 * NS_PER_S  # Monday 2026-11-23, 09:00 in Chicago
SYMBOL = "ESZ26_FUT_CME"


def write_stamped(path: Path, count: int, at_once: int, pause_s: float) -> None:
    """Append records whose counters hold the stopwatch reading before the write, low and high half."""
    writer = RecordWriter(path, SCID)
    for first in range(0, count, at_once):
        time.sleep(pause_s)
        records = np.zeros(at_once, SCID_RECORD)
        records["time"] = to_us(START_NS) + np.arange(first, first + at_once)
        records["close"] = 6000.0
        now_ns = time.monotonic_ns()
        records["num_trades"], records["total_volume"] = now_ns & 0xFFFFFFFF, now_ns >> 32
        writer.append(records)
    writer.close()


def start_writer(path: Path, at_once: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "benchmarks.bench_tail", "--write", str(path), str(at_once)])


def stamps_ns(path: Path, first: int, count: int) -> np.ndarray:
    raw = np.fromfile(path, SCID_RECORD, count, offset=SCID.header_size + first * SCID_RECORD.itemsize)
    stamps: np.ndarray = raw["total_volume"].astype(np.int64) << 32 | raw["num_trades"]
    return stamps


def bare_latency_s(path: Path, at_once: int) -> np.ndarray:
    """From before the write to the return of a blocking wait for inotify, for each record."""
    RecordWriter(path, SCID).close()
    taken: list[np.ndarray] = []
    seen = 0
    with Inotify(InitFlags.CLOEXEC) as inotify:  # it blocks
        inotify.add_watch(path, Mask.MODIFY)
        writer = start_writer(path, at_once)
        while seen < RECORDS:
            inotify.sync_get()
            now_ns = time.monotonic_ns()
            new = (path.stat().st_size - SCID.header_size) // SCID_RECORD.itemsize - seen
            taken.append(np.maximum(now_ns - stamps_ns(path, seen, new), 0) / NS_PER_S)
            seen += new
        writer.wait()
    return np.concatenate(taken)


async def latency_s(path: Path, at_once: int, *, inotify: bool) -> np.ndarray:
    """From before the write to the moment at which a consumer has the batch, for each record."""
    RecordWriter(path, SCID).close()
    clock, queue = WallClock(), BatchQueue(256)
    feed = ScidFeed(path, clock, print, since_ns=0, inotify=inotify, timer_interval_s=3600.0)
    running = asyncio.create_task(feed.run(queue))
    writer = start_writer(path, at_once)
    taken: list[np.ndarray] = []
    seen = 0
    while seen < RECORDS:
        batch = await queue.get()
        assert not isinstance(batch, EndOfData)
        now_ns = clock.monotonic_ns()
        trades = batch.events[batch.events["kind"] == EventKind.TRADE]
        taken.append((now_ns - stamps_ns(path, seen, len(trades))) / NS_PER_S)
        seen += len(trades)
    feed.close()
    await running
    writer.wait()
    return np.concatenate(taken)


def measure_latency(scratch: Path) -> None:
    ways: dict[str, Callable[[Path, int], np.ndarray]] = {
        "feed, inotify": lambda path, at_once: uvloop.run(latency_s(path, at_once, inotify=True)),
        "feed, polling": lambda path, at_once: uvloop.run(latency_s(path, at_once, inotify=False)),
        "bare inotify": bare_latency_s,
    }
    for at_once in (1, BURST):
        for name, measure in ways.items():
            taken = measure(scratch / f"{name}{at_once}.scid", at_once)
            p50, p99, worst = (float(np.quantile(taken, q)) * 1e3 for q in (0.5, 0.99, 1.0))
            print(
                f"{name}, {at_once} record{'s' * (at_once > 1)} a write, {PAUSE_S * 1e3:g} ms between: appended to "
                f"taken p50 {p50:.3f} ms, p99 {p99:.3f} ms, worst {worst:.2f} ms"
            )


async def grow(scratch: Path, hours: float) -> None:
    """Write and read in turn; counts, order and memory are checked."""
    seconds = round(hours * 3600)
    trades, depth = RecordWriter(scratch / f"{SYMBOL}.scid", SCID), None
    alerts: list[Alert] = []
    feed = ScidFeed(trades.path, WallClock(), alerts.append, since_ns=0, depth_directory=scratch)
    process, got, newest_ns, spent_ns = psutil.Process(), {EventKind.TRADE: 0, EventKind.DEPTH: 0}, 0, 0
    rss: list[int] = []
    step_us = 1_000_000 // RATE_PER_S
    for second in range(seconds):
        begin_us = to_us(START_NS) + second * 1_000_000
        records = np.zeros(RATE_PER_S, SCID_RECORD)
        records["time"] = begin_us + np.arange(RATE_PER_S) * step_us
        records["close"], records["total_volume"] = 6000.0, 1
        changes = np.zeros(RATE_PER_S, DEPTH_RECORD)
        changes["time"] = records["time"] + step_us // 2
        changes["command"] = np.arange(RATE_PER_S) % 2 + ADD_BID
        assert ADD_ASK == ADD_BID + 1
        changes["price"], changes["quantity"] = 6000.0, 1
        date = np.datetime64(START_NS // NS_PER_S + second, "s").astype("M8[D]")
        path = scratch / f"{SYMBOL}.{date}.depth"
        if depth is None or depth.path != path:
            depth = RecordWriter(path, DEPTH)
        trades.append(records)
        depth.append(changes)
        started = time.perf_counter_ns()
        while len(events := feed.poll()):
            for kind in got:
                got[kind] += int((events["kind"] == kind).sum())
            if int(events["ts_ns"][0]) < newest_ns or (np.diff(events["ts_ns"]) < 0).any():
                print(f"out of order in second {second}")
            newest_ns = int(events["ts_ns"][-1])
        spent_ns += time.perf_counter_ns() - started
        if second % 600 == 60:
            rss.append(process.memory_info().rss)
    feed.close()
    print(
        f"{hours:g} h at {RATE_PER_S:,}/s each: {got[EventKind.TRADE]:,} trades and {got[EventKind.DEPTH]:,} changes "
        f"of depth of {seconds * RATE_PER_S:,} each, {sum(got.values()) / spent_ns * 1e9:,.0f} events/s read, memory "
        f"{rss[0] / 1e6:.0f} MB after a minute, {rss[-1] / 1e6:.0f} MB at the end, "
        f"{sum(alert.code == 'feed_file_changed' for alert in alerts)} alarms"
    )


def main() -> None:
    if sys.argv[1:2] == ["--write"]:
        at_once = int(sys.argv[3])
        write_stamped(Path(sys.argv[2]), RECORDS, at_once, PAUSE_S)
        return
    with tempfile.TemporaryDirectory() as scratch:
        measure_latency(Path(scratch))
        asyncio.run(grow(Path(scratch), float(sys.argv[1]) if sys.argv[1:] else HOURS))


if __name__ == "__main__":
    main()
