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


@pytest.mark.parametrize("content", [b"precious", b"12 apples", b"\xff" * 100])
def test_what_is_no_lock_file_is_left_alone(tmp_path, content):
    path = tmp_path / "var.lock"
    path.write_bytes(content)
    with pytest.raises(OSError, match="it is no lock file"):
        lock_file.hold(path)
    assert path.read_bytes() == content


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"1\n")
    (tmp_path / "var.lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="it is a symbolic link"):
        lock_file.hold(tmp_path / "var.lock")
    assert (tmp_path / "target").read_bytes() == b"1\n"


def test_a_place_where_nothing_can_be_made_is_told_apart(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(FileExistsError):
        lock_file.hold(tmp_path / "run" / "var.lock")


def test_a_claim_is_seen_by_others_and_ends_with_its_process(tmp_path):
    path = tmp_path / "data.bin"
    path.touch()
    assert not lock_file.is_claimed(path)
    with path.open("r+b") as file:
        lock_file.claim(file.fileno())
        assert lock_file.is_claimed(path)  # and asking takes no claim away
        assert lock_file.is_claimed(path)
        with path.open("r+b") as other, pytest.raises(BlockingIOError):
            lock_file.claim(other.fileno())
    assert not lock_file.is_claimed(path)
    claim_and_die = HOLD_AND_DIE.replace(
        "lock_file.hold(pathlib.Path(sys.argv[1]))", "lock_file.claim(os.open(sys.argv[1], os.O_RDWR))"
    )
    assert subprocess.run([sys.executable, "-c", claim_and_die, str(path)], check=False).returncode == -9
    assert not lock_file.is_claimed(path)
