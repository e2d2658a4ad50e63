"""Files of ours: for no others, whatever the umask, and never through a symbolic link."""

import os
import sqlite3
import stat
from contextlib import closing

import pytest

from mia_daemon import private_file

CREATE = os.O_RDWR | os.O_CREAT


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(autouse=True)
def careless_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_file_is_not_for_others(tmp_path):
    os.close(private_file.open_file(tmp_path / "x", CREATE))
    assert mode(tmp_path / "x") == 0o640


@pytest.mark.parametrize(("before", "after"), [(0o666, 0o640), (0o644, 0o640), (0o600, 0o600), (0o660, 0o640)])
def test_an_existing_file_is_restricted(tmp_path, before, after):
    (tmp_path / "x").write_bytes(b"kept")
    (tmp_path / "x").chmod(before)
    os.close(private_file.open_file(tmp_path / "x", CREATE))
    assert mode(tmp_path / "x") == after
    assert (tmp_path / "x").read_bytes() == b"kept"


@pytest.mark.parametrize("target", ["there", "not there"])
@pytest.mark.parametrize("flags", [CREATE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC])
def test_a_symbolic_link_is_refused(tmp_path, target, flags):
    (tmp_path / "there").write_bytes(b"kept")
    (tmp_path / "x").symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="it is a symbolic link"):
        private_file.open_file(tmp_path / "x", flags)
    assert (tmp_path / "there").read_bytes() == b"kept"
    assert not (tmp_path / "not there").exists()


def test_a_directory_on_the_way_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "disk")
    os.close(private_file.open_file(tmp_path / "var" / "x", CREATE))
    assert (tmp_path / "disk" / "x").is_file()


@pytest.mark.parametrize("flags", [CREATE, os.O_RDONLY])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tmp_path, flags):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(OSError, match="it is no plain file"):
        private_file.open_file(tmp_path / "x", flags)


def test_a_database_and_its_log_are_not_for_others(tmp_path):
    path = tmp_path / "x.db"
    private_file.prepare_database(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (n)")
        assert [mode(tmp_path / f"x.db{suffix}") for suffix in ("", "-wal", "-shm")] == [0o640] * 3


def test_an_existing_database_is_restricted_and_its_locks_hold(tmp_path):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("CREATE TABLE t (n)")
        assert mode(path) == 0o644  # as SQLite makes it
        db.execute("BEGIN EXCLUSIVE")
        private_file.prepare_database(path)
        assert mode(path) == 0o640
        # Another process is refused still: closing a descriptor of the file would have dropped the lock.
        pid = os.fork()
        if not pid:
            with closing(sqlite3.connect(path, timeout=0)) as other:
                try:
                    other.execute("SELECT * FROM t")
                except sqlite3.OperationalError:
                    os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_database_behind_a_symbolic_link_is_refused(tmp_path, suffix):
    (tmp_path / f"x.db{suffix}").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="it is a symbolic link"):
        private_file.prepare_database(tmp_path / "x.db")
    assert not (tmp_path / "target").exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    private_file.replace_file(path, [b"one", memoryview(b"two")])
    assert path.read_bytes() == b"onetwo"
    assert mode(path) == 0o640

    def full():
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        private_file.replace_file(path, full())
    assert path.read_bytes() == b"onetwo"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_is_replaced_becomes_a_file_and_its_target_stays(tmp_path):
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "x").symlink_to(tmp_path / "target")
    private_file.replace_file(tmp_path / "x", [b"new"])
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_open_directories_are_named(tmp_path):
    root = tmp_path / "var"
    assert private_file.open_directories(root) == []
    for name, wide in (("", 0o755), ("logs", 0o755), ("run", 0o770), ("journal", 0o700)):
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(wide)
    assert private_file.open_directories(root) == [root / "logs", root / "run"]
    root.chmod(0o775)
    assert private_file.open_directories(root)[0] == root


@pytest.mark.parametrize(("before", "after"), [(0o000, 0o027), (0o022, 0o027), (0o077, 0o077), (0o007, 0o027)])
def test_a_umask_is_tightened_never_loosened(before, after):
    os.umask(before)
    private_file.restrict_umask()
    assert os.umask(0) == after
