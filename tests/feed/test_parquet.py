"""Files to Parquet and back: to the bit, whatever the values, and never half a file."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.errors import FileFormatError, StartError, UsageError
from mia_daemon.feed import parquet
from mia_daemon.feed.parquet import from_parquet, to_parquet
from mia_daemon.feed.sierra_files import DEPTH, SCID


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory):
    def go(content):
        folder = tmp_path_factory.mktemp("parquet")
        (folder / "a").write_bytes(content)
        rows = to_parquet(folder / "a", folder / "b.parquet")
        assert from_parquet(folder / "b.parquet", folder / "c") == rows
        return folder

    return go


@given(st.data())
@settings(max_examples=60)
def test_any_bits_survive(there_and_back, data):
    """All fields drawn as bits: every NaN, -0.0, sub-normals, markers, times before and after all calendars."""
    fmt = data.draw(st.sampled_from([SCID, DEPTH]))
    size = data.draw(st.integers(0, 9)) * fmt.record.itemsize
    raw = data.draw(st.binary(min_size=size, max_size=size))
    reserved = data.draw(st.binary(min_size=fmt.header_size - 16, max_size=fmt.header_size - 16))
    content = fmt.header()[:16] + reserved + raw
    folder = there_and_back(content)
    assert (folder / "c").read_bytes() == content


def test_the_real_file_survives_and_shrinks(there_and_back, mnq_scid):
    folder = there_and_back(mnq_scid.read_bytes())
    assert (folder / "c").read_bytes() == mnq_scid.read_bytes()
    assert (folder / "b.parquet").stat().st_size * 4 < mnq_scid.stat().st_size


def test_row_groups_and_a_torn_end(there_and_back, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS", 3)
    whole = SCID.header() + bytes(range(250)) * 2  # 12 and a half records
    folder = there_and_back(whole)
    assert (folder / "c").read_bytes() == whole[: 56 + 480]
    assert pq.ParquetFile(folder / "b.parquet").num_row_groups == 4


def test_the_columns_are_those_documented(there_and_back):
    folder = there_and_back(SCID.header() + b"\0" * 40)
    table = pq.read_table(folder / "b.parquet")
    assert [f"{field.name} {field.type}" for field in table.schema] == [
        "time timestamp[us, tz=UTC]",
        "open float",
        "high float",
        "low float",
        "close float",
        "num_trades uint32",
        "total_volume uint32",
        "bid_volume uint32",
        "ask_volume uint32",
    ]
    assert table["time"][0].as_py().isoformat() == "1899-12-30T00:00:00+00:00"
    assert table.schema.field("high").metadata == {b"about": b"ask at the trade"}


def test_a_table_of_other_makers_gets_a_new_header(there_and_back, tmp_path):
    table = pq.read_table(there_and_back(SCID.header() + b"\0" * 80) / "b.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "x.parquet")
    assert from_parquet(tmp_path / "x.parquet", tmp_path / "x.scid") == 2
    assert (tmp_path / "x.scid").read_bytes() == SCID.header() + b"\0" * 80


def test_other_tables_are_refused_and_nothing_is_left(there_and_back, tmp_path):
    target = tmp_path / "out" / "x.scid"
    target.parent.mkdir()
    good = pq.read_table(there_and_back(SCID.header() + b"\0" * 40) / "b.parquet")
    empty = good.set_column(4, "close", pa.nulls(1, pa.float32()))
    bad_header = good.replace_schema_metadata({"sierra.header": "zz"})
    for table, said in [
        (good.drop_columns("low"), "has the columns"),
        (good.set_column(4, "close", good["close"].cast(pa.float64())), "close double"),
        (empty, "column close has 1 empty values"),
        (bad_header, "no hexadecimal"),
    ]:
        pq.write_table(table, tmp_path / "x.parquet")
        with pytest.raises(FileFormatError, match=said):
            from_parquet(tmp_path / "x.parquet", target)
    (tmp_path / "x.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(FileFormatError, match="is no Parquet file"):
        from_parquet(tmp_path / "x.parquet", target)
    with pytest.raises(FileFormatError, match="can't be read"):
        from_parquet(tmp_path / "none.parquet", target)
    assert list(target.parent.iterdir()) == []


def test_nothing_is_overwritten_unasked(there_and_back):
    folder = there_and_back(SCID.header() + b"\0" * 40)
    with pytest.raises(UsageError, match="--replace"):
        to_parquet(folder / "a", folder / "c")
    to_parquet(folder / "a", folder / "c", replace=True)
    assert pq.ParquetFile(folder / "c").metadata.num_rows == 1
    with pytest.raises(StartError, match="can't be written"):
        to_parquet(folder / "a", folder / "no" / "x.parquet")
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b.parquet", "c"]


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a").write_bytes(SCID.header())
    with pytest.raises(StartError, match=r"pip install 'mia-daemon\[parquet\]'"):
        to_parquet(tmp_path / "a", tmp_path / "b")
