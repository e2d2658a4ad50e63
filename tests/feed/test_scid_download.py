"""The file that `fetch` writes: whole under its name, or not there."""

import numpy as np
import pytest

from mia_daemon.dtc.historical import PRICE_RECORD
from mia_daemon.errors import FileFormatError, UsageError
from mia_daemon.feed.history.download import ScidDownload
from mia_daemon.feed.sierra_files import SCID, SCID_RECORD, read_scid, to_ns

START_US = 1_700_000_000_000_000


def rows(*seconds, price=6000.25):
    made = np.zeros(len(seconds), PRICE_RECORD)
    made["time_us"] = START_US + np.array(seconds, np.int64) * 1_000_000
    made["last"], made["high"], made["low"], made["volume"], made["num_trades"] = price, price + 0.25, price, 1, 1
    return made


def bar(second, last):
    made = rows(second, price=last)
    made["open"] = last - 1
    return made


def seconds(path):
    times = to_ns(np.fromfile(path, SCID_RECORD, offset=SCID.header_size)["time"])
    return ((times // 1000 - START_US) // 10**6).tolist()


def fetched(path, *parts, ticks=True, **options):
    file = ScidDownload(path, ticks=ticks, **options)
    for part in parts:
        file.take(part)
    file.complete()
    return file


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.scid"
    file = ScidDownload(path, ticks=True)
    file.take(rows(1, 2))
    file.take(rows(2, 3))  # of the same time as the one before: a piece may end between them
    assert not path.exists()
    file.complete()
    assert seconds(path) == [1, 2, 2, 3]
    assert len(read_scid(path)) == file.records == 4
    assert list(tmp_path.iterdir()) == [path]


def test_what_comes_at_the_end_or_later_is_left_out(tmp_path):
    file = ScidDownload(tmp_path / "a.scid", ticks=True)
    file.take(rows(1, 2, 3), before_ns=(START_US + 2_000_000) * 1000)
    file.complete()
    assert seconds(file.path) == [1]


def test_an_existing_file_is_not_touched_unasked(tmp_path):
    path = fetched(tmp_path / "a.scid", rows(1)).path
    with pytest.raises(UsageError, match=r"--resume .*--replace"):
        ScidDownload(path, ticks=True)
    assert seconds(path) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_replaces_only_when_it_is_complete(tmp_path):
    path = fetched(tmp_path / "a.scid", rows(1)).path
    file = ScidDownload(path, ticks=True, replace=True)
    file.take(rows(5, 6))
    assert seconds(path) == [1]
    file.complete()
    assert seconds(path) == [5, 6]


def test_resuming_adds_what_is_newer(tmp_path):
    path = fetched(tmp_path / "a.scid", rows(1, 2)).path
    file = ScidDownload(path, ticks=True, resume=True)
    assert file.newest_ns == (START_US + 2_000_000) * 1000
    file.take(rows(1, 2, 3))
    file.take(rows(4))
    file.complete()
    assert seconds(path) == [1, 2, 3, 4]


def test_a_download_that_broke_goes_on_where_it_was(tmp_path):
    path = tmp_path / "a.scid"
    file = ScidDownload(path, ticks=True)
    file.take(rows(1, 2))
    assert "2 records up to 2023-11-14T22:13:22.000000Z wait in" in file.give_up()
    assert not path.exists()
    with (tmp_path / "a.scid.part").open("ab") as part:
        part.write(b"torn")
    assert seconds(fetched(path, rows(2, 3), resume=True).path) == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [path]


def test_beginning_anew_forgets_what_broke(tmp_path):
    file = ScidDownload(tmp_path / "a.scid", ticks=True)
    file.take(rows(1))
    file.give_up()
    assert seconds(fetched(file.path, rows(7)).path) == [7]


def test_giving_up_without_records_leaves_nothing(tmp_path):
    assert ScidDownload(tmp_path / "a.scid", ticks=True).give_up() == ""
    assert not list(tmp_path.iterdir())
    path = fetched(tmp_path / "a.scid", rows(1)).path
    assert ScidDownload(path, ticks=True, resume=True).give_up() == ""
    assert list(tmp_path.iterdir()) == [path]


def test_the_newest_bar_is_fetched_once_more(tmp_path):
    path = fetched(tmp_path / "a.scid", bar(60, 10.0), bar(120, 11.0), ticks=False).path
    fetched(path, bar(60, 10.5), bar(120, 12.0), bar(180, 13.0), ticks=False, resume=True)
    found = np.fromfile(path, SCID_RECORD, offset=56)
    assert found["close"].tolist() == [10.0, 12.0, 13.0]


def test_ticks_are_not_added_to_bars(tmp_path):
    path = fetched(tmp_path / "a.scid", bar(60, 10.0), ticks=False).path
    with pytest.raises(FileFormatError, match="is a bar, not a single trade"):
        ScidDownload(path, ticks=True, resume=True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_foreign_file_is_not_continued(tmp_path):
    (tmp_path / "a.scid").write_bytes(b"RIFF" + bytes(SCID.header_size))
    with pytest.raises(FileFormatError, match=r"not a \.scid file"):
        ScidDownload(tmp_path / "a.scid", ticks=True, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.scid"]
