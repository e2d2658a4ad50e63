"""What a probe does before it connects."""

import numpy as np
import pytest
from rig import RISK

from mia_daemon.cli import main
from mia_daemon.clock import NS_PER_S
from mia_daemon.config import parse
from mia_daemon.errors import StartError
from mia_daemon.feed.sierra_files import SCID, SCID_RECORD, RecordWriter, to_us
from mia_daemon.probe.run import _file_price

NOW_NS = 1_790_000_000 * NS_PER_S


def priced(tmp_path, age_s):
    record = np.zeros(1, SCID_RECORD)
    record["time"] = to_us(NOW_NS - age_s * NS_PER_S)
    record["close"] = record["high"] = record["low"] = 600025.0
    record["num_trades"] = record["total_volume"] = record["ask_volume"] = 1
    path = tmp_path / "ESZ26_FUT_CME.scid"
    writer = RecordWriter(path, SCID)
    writer.append(record)
    writer.close()
    feed = {"source": "scid", "scid_path": str(path), "price_multiplier": 0.01}
    return parse({"feed": feed, "broker": {"kind": "dtc"}, "risk": RISK}, "the test's settings", environ={})


def test_the_newest_price_of_the_file_counts(tmp_path):
    assert _file_price(priced(tmp_path, 3600), NOW_NS) == pytest.approx(6000.25)


def test_an_old_price_of_the_file_is_refused(tmp_path):
    with pytest.raises(StartError, match="is 50 h old, and orders must stay away from the market's"):
        _file_price(priced(tmp_path, 50 * 3600), NOW_NS)


@pytest.mark.parametrize("option", [("--account", "Sim1\n"), ("--symbol", "../ES")])
def test_names_are_checked_where_they_enter(tmp_path, option):
    assert main(["probe", "--account", "Sim1", "--var", str(tmp_path), "--port", "1", *option]) == 2
    assert not list(tmp_path.iterdir())
