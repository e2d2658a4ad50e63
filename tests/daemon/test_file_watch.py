"""Files for people while the daemon runs: reopened, and reported once by kind."""

from mia_daemon.daemon.file_watch import FileWatch
from mia_daemon.ops.logs import LineFile
from mia_daemon.records import Priority
from mia_daemon.row_file import RowFile


class Reports(list):
    def __call__(self, code, priority, text):
        self.append((code, priority, text))


def watched(tmp_path):
    watch, reports = FileWatch(), Reports()
    files = [RowFile(tmp_path / "a.csv", ("x", "y"), watch.notify), LineFile(tmp_path / "b.log", watch.notify)]
    watch.watch(lambda: files, reports)
    return watch, reports, files


def test_notices_of_one_kind_are_one_report_also_those_from_before_the_watch(tmp_path):
    (tmp_path / "a.csv").write_text("other\n")
    (tmp_path / "b.log").mkdir()
    watch, reports, files = watched(tmp_path)
    ((code, priority, text),) = reports
    assert (code, priority, text.count("set aside")) == ("file_set_aside", Priority.WARNING, 2)
    watch.check()
    assert len(reports) == 1
    for file in files:
        file.close()


def test_rotated_files_are_continued_under_their_names_and_raise_no_alert(tmp_path):
    watch, reports, files = watched(tmp_path)
    for name in ("a.csv", "b.log"):
        (tmp_path / name).rename(tmp_path / f"{name}.1")
    watch.check()
    files[0].append((1, 2))
    files[1].write(b"line\n")
    assert (tmp_path / "a.csv").read_text() == "x,y\n1,2\n"
    assert (tmp_path / "b.log").read_text() == "line\n"
    ((code, priority, text),) = reports
    assert (code, priority, text.count("opened again")) == ("file_reopened", Priority.INFO, 2)
    for file in files:
        file.close()


def test_what_nobody_has_reported_goes_to_standard_error_at_the_end(tmp_path, capsys):
    watch = FileWatch()
    watch.notify("file_not_written", "x.csv can't be written: No space left on device; make room")
    watch.notify("file_reopened", "y.csv was opened again")
    watch.close()
    assert capsys.readouterr().err == "mia-daemon: x.csv can't be written: No space left on device; make room\n"
