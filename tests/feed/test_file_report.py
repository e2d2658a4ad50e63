"""What is told of a file: counts that add up, and silences only where the exchange was open."""

from datetime import datetime

import numpy as np
import pytest

from mia_daemon.errors import FileFormatError
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.file_report import report_on, trade_kinds

NOW_NS = int(datetime.fromisoformat("2026-12-01T00:00:00+00:00").timestamp()) * 10**9


def trades(*when, price=6000.0):
    records = np.zeros(len(when), sf.SCID_RECORD)
    records["time"] = [sf.to_us(int(datetime.fromisoformat(text + "+00:00").timestamp()) * 10**9) for text in when]
    records["close"], records["low"], records["high"] = price, price - 0.25, price
    records["total_volume"] = records["ask_volume"] = 2
    return records


def save(path, fmt, records, torn=b""):
    path.write_bytes(fmt.header() + records.tobytes() + torn)
    return path


def test_the_real_file(mnq_scid):
    report = report_on(mnq_scid, 300.0, NOW_NS)
    assert (report.symbol, report.kind, report.records, report.torn_bytes) == ("MNQU21-CME", ".scid", 48_737, 0)
    assert (report.first, report.last) == ("2020-11-25T01:21:41.954000Z", "2021-05-31T16:58:07.577000Z")
    assert (report.low, report.high, report.newest_price) == (12100.0, 14053.0, 13645.75)
    assert report.counts["first"] == report.counts["last"] == 2_102
    assert sum(report.counts.values()) == report.records
    assert report.misfits == ()
    assert report.bid_volume + report.ask_volume == report.volume
    assert str(report).splitlines()[1] == "symbol      MNQU21-CME"


def test_parts_of_bundled_trades_are_told_apart():
    records = trades(*["2026-11-23T15:00:00"] * 9)
    opening = records["open"].view("<u4")
    opening[[2, 6]] = sf.FIRST_SUBTRADE_BITS
    opening[[0, 4, 7]] = sf.LAST_SUBTRADE_BITS  # the first of them ends a trade of before the file
    records["open"][8] = 6000.0
    assert trade_kinds(records).tolist() == [
        "last", "single", "first", "inside", "last", "single", "first", "last", "bar",
    ]  # fmt: skip


def test_silence_counts_while_the_exchange_is_open(tmp_path):
    # Friday's close at 22:00 UTC, Sunday's open at 23:00; ten minutes of silence on Monday.
    when = ["2026-11-20T21:58:00", "2026-11-22T23:01:00", "2026-11-23T15:00:00", "2026-11-23T15:10:00"]
    path = save(tmp_path / "ESZ26_FUT_CME.scid", sf.SCID, trades(*when))
    report = report_on(path, 200.0, NOW_NS)
    # The weekend is 2 minutes before the close and 1 after the open; then the night and the ten minutes.
    assert [silence.open_s for silence in report.longest] == [15 * 3600 + 59 * 60, 600.0]
    assert report.longest[1].begins == "2026-11-23T15:00:00.000000Z"
    unknown = save(tmp_path / "XYF27.scid", sf.SCID, trades(*when))
    assert report_on(unknown, 200.0, NOW_NS).silences == 3  # the weekend too: its hours are not known


def test_what_is_odd_is_counted_not_refused(tmp_path):
    records = trades("2026-11-23T15:00:00", "2026-11-23T15:00:02", "2026-11-23T15:00:01")
    records["high"][0] = 5000.0
    records["close"][1] = np.nan
    records["total_volume"][2] = 0
    report = report_on(save(tmp_path / "ESZ26.scid", sf.SCID, records, torn=b"xyz"), 300.0, NOW_NS)
    assert report.odd == {"time goes back": 1, "no price": 1, "ask under bid": 1, "no volume": 1}
    assert report.torn_bytes == 3
    assert "3, and 3 bytes of one more" in str(report)
    records["time"] = [-(2**63), 0, 2**63 - 1]
    report = report_on(save(tmp_path / "ESZ26.scid", sf.SCID, records), 300.0, NOW_NS)
    assert report.first == str(-(2**63))


def test_depth_and_empty_files(tmp_path):
    records = np.zeros(4, sf.DEPTH_RECORD)
    records["time"] = trades(*["2026-11-23T15:00:00"] * 4)["time"]
    records["command"], records["price"], records["flags"] = [1, 2, 5, 9], [0.0, 99.0, 100.0, 100.5], [0, 1, 1, 0]
    report = report_on(save(tmp_path / "ESZ26_FUT_CME.2026-11-23.depth", sf.DEPTH, records), 300.0, NOW_NS)
    assert (report.symbol, report.low, report.high) == ("ESZ26_FUT_CME", 99.0, 100.5)
    assert report.counts == {"clears": 1, "adds": 1, "modifications": 1, "deletions": 0, "batches": 2}
    assert report.odd == {"unknown command": 1}
    empty = report_on(save(tmp_path / "x.scid", sf.SCID, records[:0]), 300.0, NOW_NS)
    assert (empty.records, empty.first, empty.low, empty.silences) == (0, "", None, 0)
    assert str(empty).splitlines()[-1] == "records     0"


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"time,price\n" * 9)
    with pytest.raises(FileFormatError, match=r"is not a \.scid file"):
        report_on(tmp_path / "x", 300.0, NOW_NS)
