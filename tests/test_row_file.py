"""Whole rows or none: after a kill, after a torn tail, with a foreign header."""

import csv
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.errors import StartError
from mia_daemon.row_file import RowFile

COLUMNS = ("timestamp", "text", "number")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_header_once_rows_in_order(tmp_path):
    path = tmp_path / "logs" / "some.csv"
    for n in range(3):
        file = RowFile(path, COLUMNS)
        file.append(("t", 'say "hi", twice\n', n))
        file.close()
    assert rows(path) == [list(COLUMNS), *(["t", 'say "hi", twice\n', str(n)] for n in range(3))]


@given(cut=st.integers(0, 200))
def test_a_torn_tail_is_cut_on_opening(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("torn") / "some.csv"
    file = RowFile(path, COLUMNS)
    for n in range(5):
        file.append(("t", "x" * n, n))
    file.close()
    whole = path.read_bytes()
    os.truncate(path, min(cut, len(whole)))
    RowFile(path, COLUMNS).close()
    left = path.read_bytes()
    assert whole.startswith(left)
    assert left.endswith(b"\n")
    assert rows(path)[0] == list(COLUMNS)
    assert len(left) >= whole[:cut].rfind(b"\n") + 1


def test_a_foreign_header_is_left_alone(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(StartError, match="another header"):
        RowFile(path, COLUMNS)
    assert path.read_text() == "a,b\n1,2\n"


def test_a_symbolic_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_text("timestamp,text,number\nt,x,1\ntorn")
    (tmp_path / "some.csv").symlink_to(tmp_path / "target")
    with pytest.raises(StartError, match=r"some\.csv can't be written: it is a symbolic link; put a plain file"):
        RowFile(tmp_path / "some.csv", COLUMNS)
    assert (tmp_path / "target").read_text().endswith("\ntorn")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "logs").write_text("a file, not a directory")
    with pytest.raises(StartError, match="logs"):
        RowFile(tmp_path / "logs" / "some.csv", COLUMNS)


def test_a_row_of_another_width_is_refused(tmp_path):
    with pytest.raises(ValueError, match="3 columns, the row has 2"):
        RowFile(tmp_path / "some.csv", COLUMNS).append((1, 2))


def test_rows_are_whole_after_kill_9(tmp_path):
    path = tmp_path / "some.csv"
    code = (
        "import sys; from pathlib import Path; from mia_daemon.row_file import RowFile\n"
        f"file = RowFile(Path(sys.argv[1]), {COLUMNS!r})\n"
        "n = 0\n"
        "while True:\n"
        "    file.append(('t', 'x' * 500, n)); n += 1\n"
        "    if n == 2000: print('going', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert path.read_bytes().endswith(b"\n")
    assert [row[2] for row in rows(path)[1:]] == [str(n) for n in range(len(rows(path)) - 1)]
    assert len(rows(path)) > 2000
