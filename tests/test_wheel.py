"""The wheel: two clones build the same bytes, and it trades on paper by itself, with no checkout around it.

The kernels of another installation are compiled anew: `make wheel` runs the session, `make test` only `check`.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="no git checkout: there is nothing to clone"),
    pytest.mark.timeout(900),
]


def build(directory, umask, **environ):
    """The wheel of a fresh clone."""
    clone, wheels = directory / "clone", directory / "dist"
    subprocess.run(["git", "clone", "--quiet", PROJECT, clone], check=True, umask=umask)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", wheels, clone], check=True, umask=umask, env={**os.environ, **environ})
    (wheel,) = wheels.iterdir()
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("first"), 0o022)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """`mia-daemon` of the wheel, beside the locked requirements; its sources are not the checkout's."""
    place = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python, site = place / "bin" / "python", Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    # An entry of sys.path, whose own .pth files are not read: the editable install of the checkout is one of those.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    found = subprocess.run(
        [python, "-P", "-c", "import mia_daemon; print(mia_daemon.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).is_relative_to(site)
    return place / "bin" / "mia-daemon"


def run(installed, directory, *words):
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([installed, *words], cwd=directory, env=environ, capture_output=True, text=True, check=False)


def test_two_clones_build_the_same_wheel_to_the_byte(wheel, tmp_path):
    second = build(tmp_path, 0o077, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="5")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, second)]
    assert digests[0] == digests[1]
    assert wheel.name == second.name


def test_a_wheel_in_an_empty_directory_is_fit_for_paper_and_names_the_configuration_it_uses(installed, tmp_path):
    ended = run(installed, tmp_path, "check")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr.startswith("no configuration found: the one that ships with mia-daemon is used (")
    assert "FAIL" not in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif("WHEEL" not in os.environ, reason="a minute of compiling: run `make wheel`")
def test_a_wheel_in_an_empty_directory_trades_on_paper(installed, tmp_path):
    ended = run(installed, tmp_path, "--mode", "paper", "--for", "40s", "--speed", "60")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr.startswith("no configuration found: the one that ships with mia-daemon is used (")
    assert "  fill  " in ended.stdout
    assert (tmp_path / "var" / "journal" / "paper.db").is_file()
