"""A daemon whose event loop is blocked: found and ended from outside the loop, in a process started by hand."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import PROJECT, until

pytestmark = pytest.mark.timeout(180)

DRIVER = """
import asyncio, ctypes, sys, time
from mia_daemon import cli
from mia_daemon.daemon.process import Daemon

ready = Daemon._ready

def then_block(self, *words):
    ready(self, *words)
    asyncio.get_running_loop().call_later(0.1, {call})

Daemon._ready = then_block
sys.exit(cli.main(sys.argv[1:]))
"""
WAITS = "time.sleep, 3600"
COMPUTES = "lambda: all(number >= 0 for number in iter(int, 1))"
HOLDS_THE_INTERPRETER = "ctypes.PyDLL(None).sleep, 3600"


@pytest.fixture
def blocked(tmp_path, daemons):
    """Starts a daemon that makes this call on its loop; its process, and the directory it writes to."""
    started = []

    def start(call, **ops):
        config = daemons.config(ops=ops, features={"warmup_s": 0.0})
        driver = tmp_path / "driver.py"
        driver.write_text(DRIVER.format(call=call))
        words = ["--mode", "paper", "--config", str(config), "--var", str(tmp_path / "var"), "--quiet"]
        environ = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        process = subprocess.Popen(
            [sys.executable, str(driver), *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ | {"PYTHONPATH": str(PROJECT)},
        )
        started.append(process)
        return process, tmp_path / "var"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stacks(var: Path) -> str:
    return (var / "logs" / "loop_stalls.txt").read_text()


@pytest.mark.parametrize(("call", "named"), [(WAITS, "in run ("), (COMPUTES, "driver.py:")])
def test_a_call_that_blocks_the_loop_is_named_and_ends_the_process(blocked, call, named):
    process, var = blocked(call, loop_stall_s=1.0, loop_abort_s=3.0)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3
    *_, found, ended = [line for line in err.splitlines() if line.startswith("mia-daemon: ")]
    assert "the event loop has been blocked for" in found
    assert named in found  # the Python function that called what waits
    assert "The process ends: orders and position at the server are as they were" in ended
    assert "driver.py" in stacks(var)


def test_a_call_that_blocks_the_interpreter_too_ends_the_process(blocked):
    process, var = blocked(HOLDS_THE_INTERPRETER, loop_stall_s=1.0, loop_abort_s=3.0)
    process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Timeout" in stacks(var)
    assert "driver.py" in stacks(var)


def test_a_stall_that_ends_is_an_alert_and_trading_goes_on(blocked):
    process, var = blocked("time.sleep, 4", loop_stall_s=1.0, loop_abort_s=600.0)
    log = var / "logs" / "live_trading.log"
    until(lambda: log.exists() and b'"loop_blocked"' in log.read_bytes(), "the alert", patience_s=120)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "driver.py" in stacks(var)
