"""Whole rows or none: after a kill, after a torn tail, after other programs had the file."""

import csv
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mia_daemon.row_file import RowFile

COLUMNS = ("timestamp", "text", "number")
HEADER = "timestamp,text,number\n"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


class Notices(list):
    def __call__(self, code, text):
        self.append((code, text))

    @property
    def codes(self):
        return [code for code, _ in self]


@pytest.fixture
def notices():
    return Notices()


@pytest.fixture
def path(tmp_path):
    """A file with three rows."""
    path = tmp_path / "logs" / "some.csv"
    file = RowFile(path, COLUMNS)
    for n in range(3):
        file.append((f"2026-11-2{n}T14:00:00Z", 'say "hi", twice', n * 0.5))
    file.close()
    return path


def asides(path):
    return sorted(path.parent.glob(f"{path.name}.*"))


def test_header_once_rows_in_order(tmp_path):
    path = tmp_path / "logs" / "some.csv"
    for n in range(3):
        file = RowFile(path, COLUMNS)
        file.append(("t", 'say "hi", twice', n))
        file.close()
    assert rows(path) == [list(COLUMNS), *(["t", 'say "hi", twice', str(n)] for n in range(3))]
    assert asides(path) == []


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
    assert asides(path) == []


@given(st.lists(st.tuples(*[st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=900)] * 3)))
def test_what_it_wrote_itself_it_always_continues(tmp_path_factory, written):
    """However long the rows are, and wherever the examined end of the file begins."""
    path, notices = tmp_path_factory.mktemp("own") / "some.csv", Notices()
    for row in written:
        file = RowFile(path, COLUMNS, notices)
        file.append(row)
        file.close()
    assert notices == []
    assert [tuple(row) for row in rows(path)[1:]] == written if path.exists() else not written


def crlf(path):
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def byte_order_mark(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def crlf_in_rows_only(path):
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"\r\n", b"\n", 1))


def all_quoted(path):
    pd.read_csv(path).to_csv(path, index=False, quoting=csv.QUOTE_ALL)


def text_quoted(path):
    header, rest = path.read_text().split("\n", 1)
    rows = [row.split(",", 1) for row in rest.splitlines()]
    path.write_text(header + "\n" + "".join(f'"{time}",{row}\n' for time, row in rows))


def pandas_index(path):
    pd.read_csv(path).to_csv(path)


def other_columns(path):
    table = pd.read_csv(path)
    table[table.columns[::-1]].to_csv(path, index=False)


def one_column_more(path):
    path.write_text(HEADER + "".join(f"{line},\n" for line in path.read_text().splitlines()[1:]))


def semicolons(path):
    pd.read_csv(path).to_csv(path, index=False, sep=";")


def utf_16(path):
    path.write_bytes(path.read_text().encode("utf-16"))


def latin_1(path):
    path.write_bytes(path.read_bytes() + "é,x,1\n".encode("latin-1"))


def zeros(path):
    path.write_bytes(bytes(5000))


def directory(path):
    path.unlink()
    path.mkdir()


def named_pipe(path):
    path.unlink()
    os.mkfifo(path)


ALTERED = (
    crlf, byte_order_mark, crlf_in_rows_only, all_quoted, text_quoted, pandas_index, other_columns, one_column_more,
    semicolons, utf_16, latin_1, zeros, directory, named_pipe,
)  # fmt: skip


def test_a_spreadsheet_or_pandas_sets_the_file_aside_at_the_start(path, notices):
    whole = path.read_bytes()
    for alter in ALTERED:
        path.write_bytes(whole)
        alter(path)
        altered = path.read_bytes() if path.is_file() else None
        file = RowFile(path, COLUMNS, notices)
        assert file.append(("t", "x", 1)), alter.__name__
        file.close()
        assert path.read_text() == HEADER + "t,x,1\n", alter.__name__
        aside = asides(path)[-1]
        assert (aside.read_bytes() if aside.is_file() else None) == altered, alter.__name__
        (code, text), *others = notices
        assert (code, others) == ("file_set_aside", []), alter.__name__
        assert f"set aside as {aside.name}, and a new file begun" in text
        notices.clear()


def test_a_spreadsheet_or_pandas_sets_the_file_aside_while_the_daemon_runs(path, notices):
    whole = path.read_bytes()
    for alter in ALTERED:
        path.write_bytes(whole)
        file = RowFile(path, COLUMNS, notices)
        alter(path)
        file.check()
        file.append(("t", "x", 1))
        file.check()
        file.close()
        assert path.read_text() == HEADER + "t,x,1\n", alter.__name__
        assert notices.codes == ["file_set_aside", "file_reopened"], alter.__name__
        notices.clear()


def test_a_file_that_was_moved_or_deleted_is_begun_anew(path, notices):
    file = RowFile(path, COLUMNS, notices)
    rotated = path.rename(path.with_name("some.csv-20261201"))
    file.append(("t", "between", 1))  # before anyone has looked: into the file that was moved
    file.check()
    file.append(("t", "after", 2))
    assert path.read_text() == HEADER + "t,after,2\n"
    assert rotated.read_text().splitlines()[-1] == "t,between,1"
    path.unlink()
    file.reopen()  # as on SIGUSR1
    file.append(("t", "last", 3))
    file.close()
    assert path.read_text() == HEADER + "t,last,3\n"
    assert notices.codes == ["file_reopened"]


@pytest.mark.parametrize("keep", [0, 10, len(HEADER), len(HEADER) + 5])
def test_a_file_that_is_shortened_is_continued_with_whole_rows(path, notices, keep):
    file = RowFile(path, COLUMNS, notices)
    os.truncate(path, keep)
    file.check()
    file.append(("t", "after", 2))
    file.close()
    assert path.read_text() == HEADER + "t,after,2\n"
    assert notices.codes == ["file_reopened"]
    assert "was shortened" in notices[0][1]


def test_looking_at_an_unchanged_file_changes_nothing(path, notices):
    file = RowFile(path, COLUMNS, notices)
    for n in range(3):
        file.check()
        file.append(("t", "x", n))
    opened = file._fd
    file.check()
    assert (file._fd, notices, file.size) == (opened, [], path.stat().st_size)
    file.close()


def test_a_symbolic_link_is_not_followed(tmp_path, notices):
    (tmp_path / "target").write_text("timestamp,text,number\nt,x,1\ntorn")
    (tmp_path / "some.csv").symlink_to(tmp_path / "target")
    RowFile(tmp_path / "some.csv", COLUMNS, notices).close()
    assert (tmp_path / "target").read_text().endswith("\ntorn")
    assert (tmp_path / "some.csv").read_text() == HEADER
    assert "it is a symbolic link" in notices[0][1]


def test_a_directory_that_cannot_be_made_is_reported_once_and_tried_again(tmp_path, notices):
    (tmp_path / "logs").write_text("a file, not a directory")
    file = RowFile(tmp_path / "logs" / "trading" / "some.csv", COLUMNS, notices)
    assert not file.append(("t", "lost", 1))
    file.check()
    assert notices.codes == ["file_not_written"]
    assert "logs/trading/some.csv can't be written: Not a directory; make room or check its owner" in notices[0][1]
    (tmp_path / "logs").unlink()
    file.check()
    assert file.append(("t", "x", 1))
    file.close()
    assert file.path.read_text() == HEADER + "t,x,1\n"
    assert notices.codes == ["file_not_written", "file_reopened"]


def test_a_full_disk_leaves_whole_rows_and_is_reported_once(path, notices, monkeypatch):
    file, write, before = RowFile(path, COLUMNS, notices), os.write, path.read_text()
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    assert not file.append(("t", "x", 1))
    assert not file.append(("t", "x", 2))
    file.check()
    assert path.read_text() == before
    monkeypatch.setattr(os, "write", write)
    assert file.append(("t", "x", 3))
    file.close()
    assert path.read_text() == before + "t,x,3\n"
    assert notices.codes == ["file_not_written", "file_reopened"]


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
