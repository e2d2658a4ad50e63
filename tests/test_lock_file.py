"""One process at a time holds what a lock file stands for, and a full disk is no reason to think that another does."""

import os
import subprocess
import sys

import pytest

from mia_daemon import lock_file
from mia_daemon.lock_file import InUse

HOLD_AND_DIE = """
import os, pathlib, signal, sys
from mia_daemon import lock_file
lock_file.hold(pathlib.Path(sys.argv[1]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_second_holder_is_refused_by_the_name_of_the_first(tmp_path):
    path = tmp_path / "run" / "var.lock"
    first = lock_file.hold(path)
    with pytest.raises(InUse, match=f"^in use by process {os.getpid()}$"):
        lock_file.hold(path)
    os.close(first)
    os.close(lock_file.hold(path))


def test_the_lock_goes_with_its_process(tmp_path):
    path = tmp_path / "var.lock"
    died = subprocess.run([sys.executable, "-c", HOLD_AND_DIE, str(path)], check=False)
    assert died.returncode == -9
    assert path.read_text() not in {"", f"{os.getpid()}\n"}
    os.close(lock_file.hold(path))
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_full_disk_does_not_keep_the_lock_from_being_held(tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    path = tmp_path / "var.lock"
    monkeypatch.setattr(os, "pwrite", full)
    lock = lock_file.hold(path)
    with pytest.raises(InUse, match="in use by process unknown"):
        lock_file.hold(path)
    os.close(lock)


def test_a_place_where_nothing_can_be_made_is_told_apart(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError):
        lock_file.hold(tmp_path / "run" / "var.lock")
