"""`mia-daemon scid`: what it prints, what it writes, and its exit statuses."""

import json

import numpy as np
import pytest

from mia_daemon.cli import main
from mia_daemon.feed import sierra_files as sf


@pytest.fixture
def scid(tmp_path):
    records = np.zeros(3, sf.SCID_RECORD)
    records["time"] = sf.to_us(1_795_446_000 * 10**9) + np.arange(3)
    records["close"], records["low"], records["high"] = [6000.0, 6000.25, np.nan], 6000.0, 6000.25
    records["open"].view("<u4")[:] = [sf.FIRST_SUBTRADE_BITS, 0, sf.LAST_SUBTRADE_BITS]
    records["total_volume"] = records["bid_volume"] = 3
    path = tmp_path / "ESZ26_FUT_CME.scid"
    path.write_bytes(sf.SCID.header() + records.tobytes())
    return path


@pytest.fixture
def depth(tmp_path):
    records = np.zeros(2, sf.DEPTH_RECORD)
    records["time"] = sf.to_us(1_795_446_000 * 10**9)
    records["command"], records["price"], records["quantity"], records["flags"] = [1, 2], [0, 6000.0], [0, 7], [0, 1]
    path = tmp_path / "ESZ26_FUT_CME.2026-11-23.depth"
    path.write_bytes(sf.DEPTH.header() + records.tobytes())
    return path


def test_info(scid, capsys):
    assert main(["scid", "info", str(scid)]) == 0
    assert "prices      6000.00 to 6000.25, newest 6000.25" in capsys.readouterr().out
    assert main(["scid", "info", str(scid), "--json", "--silence", "1m"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["symbol"], told["records"], told["silence_s"]) == ("ESZ26_FUT_CME", 3, 60)
    assert told["counts"] == {"single": 0, "first": 1, "inside": 1, "last": 1, "bars": 0}
    assert told["odd"] == {"no price": 1}


def test_head_is_a_table_or_lines(scid, depth, capsys):
    assert main(["scid", "head", str(scid), "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["price", "6000.00", "6000.25"]
    assert main(["scid", "head", str(scid), "-n", "-2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["price"], row["part"]) for row in rows] == [(6000.25, "inside"), (None, "last")]
    assert main(["scid", "head", str(depth)]) == 0
    assert "add bid" in capsys.readouterr().out.splitlines()[2]


@pytest.mark.parametrize("kind", ["scid", "depth"])
def test_parquet_and_back_beside_the_file(kind, request, capsys):
    path = request.getfixturevalue(kind)
    content = path.read_bytes()
    assert main(["scid", "to-parquet", str(path)]) == 0
    table = path.with_suffix(".parquet")
    assert f"records in {table}" in capsys.readouterr().out
    assert main(["scid", "from-parquet", str(table)]) == 2
    assert f"{path} exists" in capsys.readouterr().err
    path.unlink()
    assert main(["scid", "from-parquet", str(table)]) == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["info", "none.scid"], 1, "none.scid can't be read"),
        (["head", "none.scid", "-n", "x"], 2, "'x' is no number of records"),
        ([], 2, "WORD"),
    ],
)
def test_mistakes_are_one_sentence(words, status, said, capsys):
    assert main(["scid", *words]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


def test_prices_are_shown_on_the_products_tick(tmp_path, capsys):
    """72.12 of a CL file, half 32nds of a ZN file; numbers in JSON; what no tick is known of, as short as it can be."""
    for symbol, prices, texts, numbers in [
        ("CLF27_FUT_CME", [72.12, -37.63], ["72.12", "-37.63"], [72.12, -37.63]),
        ("ZNZ26_FUT_CME", [110.515625, 110.5], ["110'165", "110'160"], [110.515625, 110.5]),
        ("6JZ26_FUT_CME", [0.0067345, 0.006735], ["0.0067345", "0.0067350"], [0.0067345, 0.006735]),
        ("XYZ26", [72.12, 0.1], ["72.12", "0.1"], [72.12, 0.1]),
        ("CLF27_FUT_CME", [72.1234, 72.12], ["72.12339783", "72.12"], [float(np.float32(72.1234)), 72.12]),
    ]:
        records = np.zeros(2, sf.SCID_RECORD)
        records["time"] = sf.to_us(1_795_446_000 * 10**9)
        records["close"] = records["low"] = records["high"] = prices
        path = tmp_path / f"{symbol}.scid"
        path.write_bytes(sf.SCID.header() + records.tobytes())
        assert main(["scid", "head", str(path)]) == 0
        assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]] == texts
        assert main(["scid", "head", str(path), "--json"]) == 0
        assert [json.loads(line)["ask"] for line in capsys.readouterr().out.splitlines()] == numbers
        assert main(["scid", "info", str(path)]) == 0
        assert f"newest {texts[1]}" in capsys.readouterr().out
