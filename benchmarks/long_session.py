"""A long paper session on the embedded simulator, and all that is done with its record afterwards.

`make long-session` runs 21 simulated hours, through the close and the next open, much faster than the market. Then the
session is repeated from its recording and compared with its journal, the journal is verified, its export is compared
with the files that the session wrote, and the recording is packed and repeated again. Sizes and durations go to the
terminal. Exit status 1: a step failed.
"""

import argparse
import filecmp
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import psutil

from benchmarks import machine
from mia_daemon.clock import NS_PER_S
from mia_daemon.feed.recording import RAW, Recording

PROJECT = Path(__file__).resolve().parent.parent

WHOLE_SHARE = 0.9
"""Of the hours that were asked for: the start takes some, a machine that does not keep up many."""


class LongSession:
    """The session below `var`, and the commands that follow it.

    Attributes:
        failed: names of the steps that failed.
    """

    def __init__(self, config: Path, var: Path) -> None:
        self.failed: list[str] = []
        self._common = ("--config", str(config), "--var", str(var))
        self._var = var

    def _step(self, *words: object, describe: Callable[[str], str] = str) -> str:
        """Run a command, and print how long it took and what `describe` makes of the last line of its output.

        Returns:
            That line; nothing where the command failed.
        """
        name = " ".join(str(word) for word in words if not str(word).startswith("/"))
        command = [sys.executable, "-m", "mia_daemon", *map(str, words)]
        began = time.monotonic()
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        output = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
        last = output[-1] if output else ""
        self._print(name, f"{time.monotonic() - began:7.1f} s  {last if done.returncode else describe(last)}")
        if done.returncode:
            self._fail(name, f"exit status {done.returncode}")
            return ""
        return last

    def _print(self, name: str, text: str) -> None:
        print(f"{name:<40} {text}", flush=True)

    def _fail(self, name: str, why: str) -> None:
        self._print(name, why)
        self.failed.append(name)

    def trade(self, hours: float, speed: float) -> None:
        """The session itself; fails where it reaches over much less than `hours`."""
        words = ("--mode", "paper", "--quiet", "--speed", f"{speed:g}", "--for", f"{hours * 3600 / speed:.1f}s")
        self._step(*words, *self._common)
        if self.failed:
            return
        first_ns, last_ns = Recording(self.recording).span_ns()
        traded = (last_ns - first_ns) / NS_PER_S / 3600
        self._print("recorded", f"{self._events:,} events of {traded:.2f} simulated hours")
        if traded < WHOLE_SHARE * hours:
            self._fail("recorded", f"the machine does not keep up with speed {speed:g}: name a lower one")

    @cached_property
    def recording(self) -> Path:
        """Its directory."""
        (directory,) = self._var.glob("recordings/*")
        return directory

    @cached_property
    def _events(self) -> int:
        return len(Recording(self.recording))

    def verify_journal(self) -> None:
        """Whether the journal holds together."""
        self._step("journal", "verify", *self._common)

    def verify_session(self) -> None:
        """Repeat the session from its recording; every decision and order has to be equal."""
        name = "verify-session"
        last = self._step(name, "--json", self.recording, describe=_equal_rows)
        if not last:
            return
        found = json.loads(last)
        if found["parted"] or found["notes"] or not found["rows"]["decisions"]:
            self._fail(name, "not everything was repeated and compared")

    def compare_export(self) -> None:
        """Export the journal, and compare each file byte for byte with the session's."""
        directory = self._var / "export"
        self._step("journal", "export", directory, *self._common)
        exported = sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
        different = [name for name in exported if not _same(directory / name, self._var / name)]
        if different or not exported:
            self._fail("export", f"differs from the session's files: {', '.join(map(str, different)) or 'all'}")
        else:
            self._print("export", f"{len(exported)} files, equal to the session's byte for byte")

    def prune(self) -> None:
        """Pack the recording; no raw file of it may remain, and no event may be missing."""
        self._step("prune", "--dry-run", *self._common)
        self._step("prune", *self._common)
        left = [path.name for path in self.recording.iterdir() if path.suffix == RAW]
        if left or len(Recording(self.recording)) != self._events:
            self._fail("packed", f"not all is packed: {', '.join(left) or 'events are missing'}")
            return
        packed = sum(path.stat().st_size for path in self.recording.glob("events-*"))
        self._print("packed", f"{packed / self._events:.1f} bytes per event")

    def sizes(self) -> Iterator[str]:
        """Bytes on disk by directory, a line each."""
        for place in sorted(path for path in self._var.iterdir() if path.is_dir()):
            files = [path for path in place.rglob("*") if path.is_file()]
            yield f"  {place.name:<20} {sum(path.stat().st_size for path in files):>14,} bytes, {len(files):,} files"


def _equal_rows(result: str) -> str:
    """Of the JSON that `verify-session` prints."""
    return "equal: " + ", ".join(f"{count:,} {table}" for table, count in json.loads(result)["rows"].items())


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def follow_up(session: LongSession) -> None:
    """What is done with a session's record, in the order in which an operator does it."""
    session.verify_session()
    session.verify_journal()
    session.compare_export()
    session.prune()
    session.verify_session()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hours", type=float, default=21.0, help="simulated (default: 21)")
    parser.add_argument("--speed", type=float, default=120.0, help="simulated seconds per second (default: 120)")
    parser.add_argument("--config", type=Path, default=PROJECT / "etc" / "mia.toml")
    parser.add_argument("--var", type=Path, help="new or empty; kept (default: a temporary directory)")
    options = parser.parse_args()
    if options.var and options.var.exists() and any(options.var.iterdir()):
        parser.error(f"{options.var} is not empty: name a new directory")
    print(machine.line(), f"memory {psutil.virtual_memory().total / 2**30:.0f} GiB", sep=", ")
    with tempfile.TemporaryDirectory() as scratch:
        var = (options.var or Path(scratch, "var")).absolute()
        session = LongSession(options.config.absolute(), var)
        session.trade(options.hours, options.speed)
        if not session.failed:
            print("on disk:", *session.sizes(), sep="\n", flush=True)
            follow_up(session)
            print("on disk afterwards:", *session.sizes(), sep="\n")
    print("failed: " + ", ".join(session.failed) if session.failed else "every step passed")
    return 1 if session.failed else 0


if __name__ == "__main__":
    sys.exit(main())
