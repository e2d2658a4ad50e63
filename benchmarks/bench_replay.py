"""Replay: events per second through the whole path, on a simulated day and on Sierra Chart's own file.

Each run is a process of its own, as a user starts it. The simulated file is a random walk of one million trades at 25 a
second with bursts; the real one, where it lies beside the project, is a thin contract over half a year: nearly every
one of its trades makes a decision fall due, and every silent second of it passes through the features.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from mia_daemon.feed.sierra_files import SCID, RecordWriter, events_to_scid
from mia_daemon.records import EventKind, empty_events

TRADES = 1_000_000
REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "scid" / "MNQU21-CME.scid"
START_NS = 1_795_446_000 * 10**9  # Monday 2026-11-23, 09:00 in Chicago
ROUNDS = 2


def write_random_walk(path: Path, trades: int = TRADES, seed: int = 3) -> None:
    """A `.scid` file of `trades` single trades."""
    rng = np.random.default_rng(seed)
    busy = np.repeat(rng.choice([1 / 400, 1 / 20], trades // 1000 + 1, p=[0.1, 0.9]), 1000)[:trades]
    events = empty_events(trades)
    events["ts_ns"] = START_NS + np.cumsum(rng.exponential(busy) * 1e9).astype(np.int64) // 1000 * 1000
    events["recv_ns"] = events["ts_ns"]
    events["kind"] = EventKind.TRADE
    events["count"] = 1
    bid = 24_000 + np.cumsum(rng.choice([-1, 0, 1], trades, p=[0.02, 0.96, 0.02]))
    side = rng.choice([-1, 1], trades)
    events["bid"], events["ask"] = bid * 0.25, (bid + 1) * 0.25
    events["price"] = np.where(side > 0, events["ask"], events["bid"])
    events["side"] = side
    events["size"] = np.ceil(rng.exponential(2.0, trades))
    writer = RecordWriter(path, SCID)
    writer.append(events_to_scid(events))
    writer.close()


def replay(path: Path, var: Path) -> dict[str, float]:
    """One run of the command; its JSON."""
    command = [sys.executable, "-m", "mia_daemon", "replay", str(path), "--var", str(var), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        simulated = Path(scratch, "ESZ26_FUT_CME.scid")
        write_random_walk(simulated)
        for path in (simulated, REAL):
            if not path.exists():
                print(f"{path.name}: not here")
                continue
            runs = [replay(path, Path(scratch, f"var{n}")) for n in range(ROUNDS)]
            best = max(runs, key=lambda run: run["events_per_s"])
            others = ", ".join(f"{run['events_per_s']:,.0f}" for run in runs if run is not best)
            hashes = {run["decisions_sha256"] for run in runs}
            print(
                f"{path.name}: {best['events']:,} events, {best['decisions']:,} decisions, {best['orders']} orders: "
                f"{best['events_per_s']:,.0f} events/s, {best['seconds'] / best['decisions'] * 1e6:.0f} µs a decision "
                f"(best of {ROUNDS}, others {others}); "
                f"{len(hashes)} decision hash{'es' if len(hashes) > 1 else ''}"
            )


if __name__ == "__main__":
    main()
