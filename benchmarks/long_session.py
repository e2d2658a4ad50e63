"""A long paper session on the embedded simulator, and all that is done with its record afterwards.

`make long-session` runs 21 simulated hours, through the close and the next open, much faster than the market. Then the
journal is verified, the recording is verified against it, packed and pruned, verified again, and the files are
exported and compared with those that the session wrote. Sizes and durations go to the terminal. Exit status 1: a step
failed.
"""

import argparse
import filecmp
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks import machine
from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.recording import read_recording

PROJECT = Path(__file__).resolve().parent.parent
REBUILT = ("trades/trades_simulated.csv", "logs/trading/alpha_scores.csv", "logs/trading/decision_log.csv")
"""Files that an export has to repeat to the byte."""

WHOLE_SHARE = 0.9
"""Of the hours that were asked for: the start takes some, a machine that does not keep up many."""


class LongSession:
    """The session below `var`, and the commands that follow it.

    Attributes:
        failed: names of the steps that failed.
    """

    def __init__(self, config: Path, var: Path) -> None:
        self.failed: list[str] = []
        self._common = ["--config", str(config), "--var", str(var)]
        self._var = var
        self._known = set(re.findall(r"^    ([a-z-]+)", self._run("--help").stdout, re.MULTILINE))

    def _run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mia_daemon", *map(str, words)]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    def step(self, *words: object) -> None:
        """Run a command, and say how long it took and what it said last; one of another version is left out."""
        name = " ".join(str(word) for word in words if not str(word).startswith("/"))
        if str(words[0]) not in self._known and not str(words[0]).startswith("-"):
            print(f"{name:<40} not a command of this version", flush=True)
            return
        began = time.monotonic()
        done = self._run(*words, *self._common)
        said = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
        print(f"{name:<40} {time.monotonic() - began:7.1f} s  {said[-1] if said else ''}", flush=True)
        if done.returncode:
            print(f"{'':<40} exit status {done.returncode}", flush=True)
            self.failed.append(name)

    def trade(self, hours: float, speed: float) -> None:
        """The session itself."""
        self.step("--mode", "paper", "--quiet", "--speed", f"{speed:g}", "--for", f"{hours * 3600 / speed:.1f}s")

    def compare_export(self) -> None:
        """Export the journal, and compare what it rebuilds."""
        directory = self._var / "export"
        self.step("journal", "export", directory)
        for name in REBUILT:
            if not (directory / name).is_file() or not filecmp.cmp(directory / name, self._var / name, shallow=False):
                print(f"{'export of ' + name:<40} differs from the session's", flush=True)
                self.failed.append(name)

    def recordings(self) -> list[Path]:
        return sorted(self._var.glob("recordings/*"))

    def recorded(self) -> tuple[int, float]:
        """Events, and the simulated hours that they reach over."""
        batches = [read_recording(recording) for recording in self.recordings()]
        hours = sum(int(events["ts_ns"][-1] - events["ts_ns"][0]) for events in batches) / NS_PER_S / 3600
        return sum(map(len, batches)), hours

    def sizes(self) -> Iterator[str]:
        """Bytes on disk by directory, a line each."""
        for place in sorted(path for path in self._var.iterdir() if path.is_dir()):
            files = [path for path in place.rglob("*") if path.is_file()]
            yield f"  {place.name:<20} {sum(path.stat().st_size for path in files):>14,} bytes, {len(files):,} files"


def follow_up(session: LongSession) -> None:
    """What is done with a session's record, in the order in which an operator does it."""
    session.step("journal", "verify")
    for recording in session.recordings():
        session.step("verify-session", recording)
    session.step("prune", "--dry-run")
    session.step("prune")  # packs the recordings
    for recording in session.recordings():
        session.step("verify-session", recording)
    session.compare_export()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=21.0, help="simulated (default: 21)")
    parser.add_argument("--speed", type=float, default=120.0, help="simulated seconds per second (default: 120)")
    parser.add_argument("--config", type=Path, default=PROJECT / "etc" / "mia.toml")
    parser.add_argument("--var", type=Path, help="new or empty; kept (default: a temporary directory)")
    options = parser.parse_args()
    print(machine.line(), f"memory {psutil.virtual_memory().total / 2**30:.0f} GiB", sep=", ")
    with tempfile.TemporaryDirectory() as scratch:
        var = (options.var or Path(scratch, "var")).absolute()
        session = LongSession(options.config.absolute(), var)
        session.trade(options.hours, options.speed)
        if not session.failed:
            events, hours = session.recorded()
            print(f"{events:,} events of {hours:.1f} simulated hours; on disk:", *session.sizes(), sep="\n", flush=True)
            if hours < WHOLE_SHARE * options.hours:
                session.failed.append(f"the machine does not keep up with speed {options.speed:g}: name a lower one")
            follow_up(session)
            print("on disk afterwards:", *session.sizes(), sep="\n")
    print("failed: " + ", ".join(session.failed) if session.failed else "every step passed")
    return 1 if session.failed else 0


if __name__ == "__main__":
    sys.exit(main())
