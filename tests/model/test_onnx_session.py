"""onnxruntime: no telemetry, whoever imports it first."""

import json
import shutil
import subprocess
import sys

import pytest

LOOK = """
import json, os, time
import numpy  # starts threads of its own

def open_files():
    places = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return [os.readlink(place) for place in places if os.path.exists(place)]

threads, files = len(os.listdir("/proc/self/task")), open_files()
{imports}
end = time.monotonic() + 2  # a thread of ours that has ended is listed a moment longer
while (added := len(os.listdir("/proc/self/task")) - threads) and time.monotonic() < end:
    time.sleep(0.01)
left = [os.path.join(place, name) for place, _, names in os.walk(os.environ["HOME"]) for name in names]
opened = [name for name in open_files() if name not in files and ("socket" in name or os.environ["HOME"] in name)]
print(json.dumps([added, left, opened]), flush=True)
os._exit(0)  # nothing is sent at the end either
"""
WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")
IMPORTS = {
    "the daemon": "from mia_daemon.model import bundle; bundle.load(bundle.shipped())",
    "training": "import mia_daemon.training.baseline, onnxruntime; onnxruntime.get_available_providers()",
}


def started(home, imports, *command, **environ):
    """What importing onnxruntime added: threads, files below the home directory, open sockets and files there."""
    # No variable of this process: continuous integration, which onnxruntime recognizes, would hide what it does.
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", **environ}
    code = LOOK.replace("{imports}", imports)
    ran = subprocess.run(
        [*command, sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    threads, left, opened = json.loads(ran.stdout)
    return threads, left, opened


@pytest.mark.parametrize("imports", IMPORTS.values(), ids=IMPORTS)
@pytest.mark.parametrize("environ", [{}, {"ORT_DISABLE_TELEMETRY": "0"}], ids=["unset", "set to 0"])
def test_nothing_is_reported_to_the_maker_of_onnxruntime(tmp_path, imports, environ):
    assert started(tmp_path, imports, **environ) == (0, [], [])


def test_the_look_would_find_the_telemetry_of_onnxruntime(tmp_path):
    if not shutil.which("unshare") or subprocess.run([*WITHOUT_NETWORK, "true"], check=False).returncode:
        pytest.skip("no network namespace can be made here, and nothing may be sent")
    threads, left, opened = started(tmp_path, "import onnxruntime", *WITHOUT_NETWORK)
    assert threads > 0
    assert any(name.endswith("deviceid") for name in left)
    assert any(name.endswith("onnxruntime.db") for name in opened)
