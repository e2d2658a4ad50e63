"""systemd: the notify protocol over real sockets, the watchdog's rule, and the unit file."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.clock import WallClock
from mia_daemon.errors import ExitStatus
from mia_daemon.ops.systemd import Notifier, TaskProgress, Watchdog, stuck_tasks, watchdog_interval_s
from mia_daemon.stage import StageCounters

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "mia-daemon@.service"


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """The service manager's end, and the value of NOTIFY_SOCKET."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@mia-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        end.settimeout(5)
        yield end, address


def test_states_reach_the_manager(manager):
    end, address = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    assert notifier.enabled
    notifier.ready("trading on paper")
    notifier.watchdog()
    notifier.status("two\nlines\rWATCHDOG=trigger")
    notifier.extend_timeout(1.5)
    notifier.stopping()
    got = [end.recv(4096).decode() for _ in range(5)]
    assert got == [
        "READY=1\nSTATUS=trading on paper",
        "WATCHDOG=1",
        "STATUS=two lines WATCHDOG=trigger",
        "EXTEND_TIMEOUT_USEC=1500000",
        "STOPPING=1",
    ]
    notifier.close()
    assert not notifier.enabled
    notifier.watchdog()


def test_without_a_manager_nothing_happens():
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notifier = Notifier(environ)
        assert not notifier.enabled
        notifier.ready()


def test_a_manager_that_went_away_stops_nothing(tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready()
    notifier.watchdog()
    assert notifier.lost == 2
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "15000000"}, 5.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "42"}, 5.0),
        ({"WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_interval_is_what_the_manager_asks_of_this_process(environ, interval):
    assert watchdog_interval_s(environ, pid=42) == interval


tasks = st.dictionaries(
    st.sampled_from(["feed", "features", "executor"]),
    st.builds(TaskProgress, st.integers(0, 3), st.integers(0, 2)),
)


@given(tasks, tasks)
def test_stuck_means_waiting_twice_without_a_step(before, now):
    for name in stuck_tasks(before, now):
        assert before[name].progress == now[name].progress
        assert before[name].waiting > 0
        assert now[name].waiting > 0
    for name in now.keys() & before.keys() - set(stuck_tasks(before, now)):
        moved = before[name].progress != now[name].progress
        assert moved or before[name].waiting == 0 or now[name].waiting == 0


def test_watchdog_is_fed_while_all_tasks_move_and_starves_when_one_is_stuck(manager):
    end, address = manager
    end.settimeout(0.0)
    notifier = Notifier({"NOTIFY_SOCKET": address})
    watchdog = Watchdog(notifier)
    waiting = {"features": 0, "executor": 0}
    stages = []
    for name in ("features", "executor"):
        counters = StageCounters(name, WallClock())
        counters.watch_queue(lambda name=name: waiting[name])
        stages.append(counters)

    def fed():
        stuck = watchdog.look(stages)
        try:
            return stuck, end.recv(64) == b"WATCHDOG=1"
        except BlockingIOError:
            return stuck, False

    assert fed() == ([], True)  # the first look
    assert fed() == ([], True)  # idle
    waiting["executor"] = 5
    assert fed() == ([], True)  # items have just come
    assert fed() == (["executor"], False)
    stages[0].start()  # another task's progress does not help
    assert fed() == (["executor"], False)
    stages[1].start()
    assert fed() == ([], True)
    notifier.close()


# ------------------------------------------------------------------------------------------------ the unit file


def test_unit_leaves_out_what_would_break_the_daemon():
    directives = {line.split("=")[0] for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w+=", line)}
    assert not directives & {"MemoryDenyWriteExecute", "ProcSubset", "PrivateUsers"}
    assert {"WatchdogSec", "Restart", "StateDirectory", "ProtectSystem", "NoNewPrivileges"} <= directives
    text = UNIT.read_text()
    assert "\nType=notify\n" in text  # notify-reload is unknown to systemd 252
    assert "\nRestart=on-failure\n" in text
    assert "%i.toml" in text


def test_unit_restarts_only_what_a_restart_can_mend():
    (prevented,) = re.findall(r"^RestartPreventExitStatus=(.+)$", UNIT.read_text(), re.MULTILINE)
    lasting = {int(status) for status in ExitStatus if status and not status.restart}
    assert set(map(int, prevented.split())) == lasting


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_unit_is_clean(tmp_path):
    """Verified with a program that exists in place of the installed one, which is not here."""
    text = UNIT.read_text().replace("ExecStart=/opt/mia-daemon/.venv/bin/mia-daemon", "ExecStart=/bin/true")
    assert "ExecStart=/bin/true --mode" in text
    (tmp_path / UNIT.name).write_text(text.replace("file:///opt/mia-daemon/README.md", f"file://{UNIT}"))
    unit = tmp_path / UNIT.name.replace("@", "@paper")
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    mine = [line for line in checked.stderr.splitlines() if "mia-daemon" in line]
    assert (checked.returncode, mine) == (0, [])
