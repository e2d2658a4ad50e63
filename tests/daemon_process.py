"""Daemons to start, watch and kill: real processes, plain ones and quick ones.

A plain one is `python -m mia_daemon`, which spends two seconds on imports and on loading kernels. A quick one is forked
from a process that has done both, and runs `mia_daemon.cli.main` from there on: a test that kills fifty wants these.

Only the process that is forked from imports mia_daemon: who checks a daemon shares no code with it.
"""

import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0  # for anything on a busy machine; only what is broken takes as long
COMPILING_S = 900.0

LIMITS = {
    "max_order_contracts": 50,
    "max_position_contracts": 50,
    "max_daily_loss": 1e9,
    "max_drawdown_share": 1.0,
    "max_orders_per_minute": 1_000_000,
    "max_price_age_s": 60.0,
    "max_price_deviation_ticks": 1000,
    "max_consecutive_losses": 1_000_000,
    "max_consecutive_rejects": 1_000_000,
    "max_spread_ticks": 1000,
    "max_order_notional": "waived",
    "max_messages_per_second": "waived",
    "max_messages_per_day": "waived",
    "cancel_reserve_share": 0.0,
    "max_executions": "waived",
    "max_price_jump_ticks": "waived",
    "market_pause_s": 0.0,
    "max_clock_skew_s": "waived",
    "max_decision_age_ms": "waived",
    "max_fill_slippage_ticks": "waived",
}
"""Risk that stands in nobody's way."""


TRADES_OFTEN = {
    "features": {"warmup_s": 60.0},
    "model": {"max_out_of_range_share": 1.0},
    "decision": {
        "enter_above": 0.01,
        "exit_below": 0.005,
        "min_probability": 0.0,
        "defensive_blocks_above": 1.0,
        "max_hold_s": 120.0,
    },
}
"""Settings for a replay that trades, whatever the model's training data looked like."""

TRADES_AT_ONCE = {
    "features": {"warmup_s": 0.0, "decision_interval_s": 2.0},
    "model": {"max_out_of_range_share": 1.0, "max_inference_ms": 1e6},
    "decision": {
        "enter_above": 0.001,
        "exit_below": 0.0005,
        "min_probability": 0.0,
        "defensive_blocks_above": 1.0,
        "min_hold_s": 0.0,
        "max_hold_s": 10.0,
    },
    "windows": {"no_entry_before_close_s": 0.0},
}
"""Settings for a session of seconds that trades."""


def until(found: Callable[[], Any], what: str, patience_s: float = PATIENCE_S, pause_s: float = 0.01) -> Any:
    """Ask again and again until the answer is true, and return it; AssertionError when it never is."""
    deadline = time.monotonic() + patience_s
    while not (answer := found()):
        assert time.monotonic() < deadline, f"{what}: not within {patience_s:g} s"
        time.sleep(pause_s)
    return answer


def status_of(var: Path) -> dict[str, Any]:
    """What the daemon that writes to `var` says of itself; empty while none answers or it has no figures yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE_S)
        try:
            connection.connect(str(var / "run" / "control.sock"))
            connection.sendall(b'{"command": "status"}\n')
            with connection.makefile("rb") as answer:
                return json.loads(answer.readline() or b"{}").get("status", {})
        except (FileNotFoundError, ConnectionError):
            return {}


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status (negative: the signal) and what it said."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line it said on standard error; AssertionError when there are more, or none."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Daemon:
    """A process of ours. What it says goes to the files `out` and `err`."""

    def __init__(self, pid: int, reap: Callable[[], int], out: Path, err: Path, notified: socket.socket) -> None:
        self.pid = pid
        self.out = out
        self.err = err
        self._reap = reap
        self._pidfd = os.pidfd_open(pid)
        self._notified = notified
        self._status: int | None = None

    @property
    def alive(self) -> bool:
        return self._status is None and not select.select([self._pidfd], [], [], 0)[0]

    def ready(self, patience_s: float = PATIENCE_S) -> "Daemon":
        """Wait until it tells the service manager that it is ready."""
        deadline = time.monotonic() + patience_s
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"not ready within {patience_s:g} s: {self.err.read_text()}"
            readable = select.select([self._notified, self._pidfd], [], [], left)[0]
            if self._notified in readable:
                if b"READY=1" in self._notified.recv(4096).split(b"\n"):
                    return self
            elif readable:
                raise AssertionError(f"ended before it was ready: {self.wait()}")

    def signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone. AssertionError when it had ended by itself."""
        assert self.alive, f"it was to be killed and had ended: {self.wait()}"
        self.signal(signal.SIGKILL)
        assert self.wait().status == -signal.SIGKILL

    def wait(self, patience_s: float = PATIENCE_S) -> Ended:
        """Wait until it has ended; it is killed, and AssertionError raised, when it does not."""
        if self._status is None:
            if not select.select([self._pidfd], [], [], patience_s)[0]:
                said = self.err.read_text()
                self.dispose()
                raise AssertionError(f"it did not end within {patience_s:g} s: {said}")
            self._finish()
        assert self._status is not None
        return Ended(self._status, self.out.read_text(), self.err.read_text())

    def dispose(self) -> None:
        """Kill it if it still runs."""
        if self._status is None:
            self.signal(signal.SIGKILL)
            self._finish()

    def _finish(self) -> None:
        self._status = self._reap()
        os.close(self._pidfd)
        self._notified.close()


class Daemons:
    """Starts processes that write below `directory`."""

    def __init__(self, directory: Path, fork_server: "ForkServer") -> None:
        self.directory = directory
        self._fork_server = fork_server
        self._numbers = count(1)
        self._started: list[Daemon] = []

    def start(
        self, *argv: object, quick: bool = True, credentials: Path | None = None, terminal: str | None = None
    ) -> Daemon:
        """`mia-daemon ARGV`, in `directory`; `credentials` is that of the service manager, `terminal` its own."""
        number = next(self._numbers)
        out, err = (self.directory / f"{number}.{name}" for name in ("out", "err"))
        notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notified.bind("")  # the kernel gives it a free abstract address
        environ = {"NOTIFY_SOCKET": "@" + notified.getsockname()[1:].decode()}
        if credentials is not None:
            environ["CREDENTIALS_DIRECTORY"] = str(credentials)
        words = [str(word) for word in argv]
        if terminal is not None:
            environ["TERMINAL_OF_SESSION"] = terminal
        start = self._fork_server.fork if quick else _start_plainly
        pid, reap = start(words, self.directory, out, err, environ)
        self._started.append(Daemon(pid, reap, out, err, notified))
        return self._started[-1]

    def run(self, *argv: object, patience_s: float = PATIENCE_S, **how: Any) -> Ended:
        """Start it and wait until it has ended; `how` is that of `start`."""
        return self.start(*argv, **how).wait(patience_s)

    def simulator(self, config: Path, state: Path, **options: object) -> tuple[Daemon, int]:
        """A simulator of its own and the port it listens on."""
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        process = self.start("simulator", "--config", config, "--port", 0, "--state", state, *words)
        line = until(lambda: "\n" in (said := process.out.read_text()) and said, "the simulator listens")
        return process, json.loads(line)["port"]

    def config(self, name: str = "mia.toml", **tables: Mapping[str, object]) -> Path:
        """A configuration file of these tables, with risk limits that stand in nobody's way unless given."""
        tables = {**tables, "risk": {**LIMITS, **tables.get("risk", {})}}
        path = self.directory / name
        path.write_text(
            "\n".join(
                f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
                for table, values in tables.items()
            )
        )
        return path

    def dispose(self) -> None:
        for process in self._started:
            process.dispose()


_UMASK = 0  # as of a careless shell: what a daemon makes is restricted by the daemon itself

Start = tuple[int, Callable[[], int]]


def _start_plainly(argv: list[str], cwd: Path, out: Path, err: Path, environ: dict[str, str]) -> Start:
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "mia_daemon", *argv],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=os.environ | {"PYTHONPATH": str(PROJECT)} | environ,
            umask=_UMASK,
        )
    return process.pid, process.wait


class ForkServer:
    """The process that has everything imported and the kernels loaded, and forks on demand."""

    def __init__(self) -> None:
        self.prepared = False
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", __file__],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            text=True,
        )

    def prepare(self) -> bool:
        """Wait until the kernels are compiled and loaded; False when that failed, which it has said."""
        assert self._process.stdout is not None
        self.prepared = bool(select.select([self._process.stdout], [], [], COMPILING_S)[0]) and bool(
            self._process.stdout.readline()
        )
        return self.prepared

    def fork(self, argv: list[str], cwd: Path, out: Path, err: Path, environ: dict[str, str]) -> Start:
        for path in (out, err):
            path.touch()
        pid = self._ask({"argv": argv, "cwd": str(cwd), "out": str(out), "err": str(err), "environ": environ})
        return pid, lambda: self._ask({"reap": pid})

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE_S)[0], "the process to fork from says nothing"
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()


@contextmanager
def daemons_in(directory: Path, fork_server: ForkServer) -> Iterator[Daemons]:
    """Processes that are killed at the end, should they still run."""
    daemons = Daemons(directory, fork_server)
    try:
        yield daemons
    finally:
        daemons.dispose()


def _serve() -> list[str]:
    """Fork whenever asked; returns in the child, with its arguments. The server itself ends with its input."""
    children = set()
    _say(os.getpid())
    for line in sys.stdin:
        request = json.loads(line)
        if "reap" in request:
            pid = request["reap"]
            children.discard(pid)
            _say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        elif pid := os.fork():
            children.add(pid)
            _say(pid)
        else:
            _become(request)
            return request["argv"]
    for pid in children:  # the tests were killed: nothing of theirs stays behind
        os.kill(pid, signal.SIGKILL)
    sys.exit()


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(request: dict[str, Any]) -> None:
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        fd = os.open(name, flags, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    os.setsid()  # without a terminal, wherever the tests run
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    if terminal := request["environ"].pop("TERMINAL_OF_SESSION", None):
        os.open(terminal, os.O_RDWR)  # the first that the leader of a session opens becomes its controlling terminal
    os.chdir(request["cwd"])
    os.umask(_UMASK)
    os.environ.update(request["environ"])


def _build_calendar_once() -> None:
    """A daemon in a new directory imports pandas and builds the same calendar, a second of work: forks inherit it."""
    from mia_daemon.products import trading_calendar

    trading_calendar._build_schedule = functools.cache(trading_calendar._build_schedule)
    trading_calendar.TradingCalendar.load()


def _main() -> None:
    from mia_daemon import cli
    from mia_daemon.features import cache

    for name in ("feed.dtc_feed", "model.bundle", "ops.control", "simulator.run", "trading.assembly", "brokers.sierra"):
        importlib.import_module(f"mia_daemon.{name}")
    _build_calendar_once()
    cache.use_cache()
    cache.prepare(lambda _text: None, time.monotonic)
    argv = _serve()
    sys.argv = ["mia-daemon", *argv]
    try:
        status = cli.main(argv)
    except SystemExit as done:  # --help
        status = int(done.code or 0)
    sys.stdout.flush()
    os._exit(status)  # half a second sooner than by tearing down what the compiler left; a plain one does that


if __name__ == "__main__":
    _main()
