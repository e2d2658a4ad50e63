"""A recording makes the same decisions on a processor without extensions, and with other Pythons.

Every case compiles all kernels anew: `make portable` runs this, `make test` does not. $PYTHONS names the interpreters.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from daemon_process import PROJECT, TRADES_OFTEN, daemons_in

PYTHONS = os.environ.get("PYTHONS", "").split()

pytestmark = [
    pytest.mark.skipif("PYTHONS" not in os.environ, reason="minutes of compiling: run `make portable`"),
    pytest.mark.timeout(3600),
]


@dataclass
class Session:
    """What a paper session recorded, with its order book; the decisions that a replay here makes of it."""

    directory: Path
    recording: Path
    config: Path
    decisions_sha256: str = ""

    def digest(self, mia_daemon: list[str], name: str, **environ: str) -> str:
        """Of the decisions, with a program, in an environment; the replay writes below `name`."""
        words = ["replay", self.recording, "--config", self.config, "--var", self.directory / name, "--json"]
        ended = subprocess.run(
            [*mia_daemon, *map(str, words)],
            env={**os.environ, **environ},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(ended.stdout)
        assert found["decisions"] > 50
        assert found["fills"] > 0
        return found["decisions_sha256"]


@pytest.fixture(scope="module")
def session(fork_server, tmp_path_factory):
    directory = tmp_path_factory.mktemp("portable")
    with daemons_in(directory, fork_server) as daemons:
        config = daemons.config(**{**TRADES_OFTEN, "simulator": {"speed": 30.0}})
        ended = daemons.run("--mode", "paper", "--config", config, "--var", directory / "paper", "--for", "20s")
    assert ended.status == 0, ended.err
    (recording,) = (directory / "paper" / "recordings").iterdir()
    made = Session(directory, recording, config)
    made.decisions_sha256 = made.digest([sys.executable, "-m", "mia_daemon"], "here")
    return made


def test_a_processor_without_extensions(session):
    generic = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(session.directory / "numba"),
    }
    digest = session.digest([sys.executable, "-m", "mia_daemon"], "generic", **generic)
    assert list((session.directory / "numba").rglob("*.nbi"))  # compiled for it, not found
    assert digest == session.decisions_sha256


@pytest.mark.parametrize("python", PYTHONS)
def test_another_python(session, python):
    environment = session.directory / f"venv-{PYTHONS.index(python)}"
    subprocess.run(["make", "setup", f"PYTHON={python}", f"VENV={environment}"], cwd=PROJECT, check=True)
    digest = session.digest([str(environment / "bin" / "mia-daemon")], f"var-{environment.name}")
    assert digest == session.decisions_sha256
