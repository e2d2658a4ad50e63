"""`mia-daemon features`: the catalogue as text, JSON and CSV, and the checks on a file."""

import csv
import io
import json

import numpy as np
import pytest

from mia_daemon import cli
from mia_daemon.features.catalogue import FEATURES
from mia_daemon.feed.sierra_files import SCID, RecordWriter, events_to_scid
from mia_daemon.records import EventKind, empty_events

START = 1_795_532_400  # a Tuesday, 09:00 in Chicago


@pytest.fixture
def run(capsys):
    def run(*words):
        status = cli.main(["features", *map(str, words)])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_catalogue_in_three_forms(run):
    status, text, _ = run()
    assert status == 0
    assert len(text.splitlines()) == 351
    assert all(feature.name in line for feature, line in zip(FEATURES, text.splitlines()[1:], strict=True))
    rows = json.loads(run("--json")[1])
    assert [row["name"] for row in rows] == [feature.name for feature in FEATURES]
    assert rows[0]["high"] is None
    assert rows[206] == {
        "index": 206, "name": "rsi_14", "family": "ta", "unit": "0-100", "low": 0.0, "high": 100.0, "inputs": "trades",
        "horizon": "1m", "warmup_s": 9000, "warmup_days": 0, "neutral": 50.0,
        "formula": "RSI(14), closed 1m bars, as TA-Lib", "source": "Wilder 1978",
    }  # fmt: skip
    table = list(csv.DictReader(io.StringIO(run("--csv")[1])))
    assert list(table[0]) == list(rows[0])
    assert [row["formula"] for row in table] == [row["formula"] for row in rows]


def test_one_feature(run):
    _, text, _ = run("vpin_50")
    assert "warmup_days  2\n" in text
    assert "high         1\n" in text
    assert json.loads(run("vpin_50", "--json")[1])["index"] == 178
    assert run("vpin_50", "--csv")[1].count("\n") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rsi14"], "no feature is called 'rsi14': did you mean rsi_14"),
        (["rsi_14", "adx_14"], "one feature at a time"),
        (["verify"], "name a .scid file"),
        (["verify", "nowhere.scid"], "nowhere.scid does not exist"),
        (["--json", "--csv"], "not allowed with argument"),
        (["verify", __file__, "--events", "0"], "above 0"),
    ],
)
def test_wrong_words_are_one_sentence(run, words, says):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def scid(tmp_path_factory):
    """An hour of trades."""
    rng = np.random.default_rng(3)
    n = 1500
    events = empty_events(n)
    events["ts_ns"] = START * 10**9 + np.sort(rng.integers(0, 3_600_000_000, n)) * 1000
    events["kind"], events["count"] = EventKind.TRADE, 1
    events["side"] = rng.choice([-1, 1], n)
    events["bid"] = 6000 + 0.25 * rng.choice([-1, 0, 1], n).cumsum()
    events["ask"] = events["bid"] + 0.25
    events["price"] = np.where(events["side"] > 0, events["ask"], events["bid"])
    events["size"] = rng.integers(1, 9, n)
    path = tmp_path_factory.mktemp("data") / "ESZ26.scid"
    writer = RecordWriter(path, SCID)
    writer.append(events_to_scid(events))
    writer.close()
    return path


def test_verify_prints_a_table_and_passes(run, scid, tmp_path):
    status, text, err = run("verify", scid, "--var", tmp_path)
    assert status == 0
    table, facts = text.split("\n\n")
    assert table.splitlines()[0].split()[:4] == ["family", "features", "future", "cutting"]
    assert len(table.splitlines()) == 14
    assert "350 of 350 pass on 1,500 events" in facts
    assert "no depth+reference+sizes: 78 features" in facts
    assert "too short for the warm-up of" in facts
    assert "putting other pasts before" in err


def test_verify_for_machines_and_by_feature(run, scid, tmp_path):
    found = json.loads(run("verify", scid, "--json", "--events", "1200", "--var", tmp_path)[1])
    assert (found["events"], found["sound"], len(found["features"])) == (1200, 350, 350)
    by_name = {feature["name"]: feature for feature in found["features"]}
    assert by_name["vpin_50"]["warm-up"] == "-"
    assert by_name["vpin_50"]["apart"] is None
    assert by_name["delta_1s"] == {
        "name": "delta_1s",
        "sound": True,
        "apart": by_name["delta_1s"]["apart"],
    } | dict.fromkeys(("future", "cutting", "restart", "warm-up", "range"), "ok")
    text = run("verify", scid, "--all", "--events", "1200", "--var", tmp_path)[1]
    assert "vwap_week_dist" in text
    assert "6000 s + 5 days" in text


def test_verify_of_what_breaks_its_promise_fails(run, scid, tmp_path, monkeypatch):
    from mia_daemon.features import runs
    from mia_daemon.features.feature_pipeline import FeaturePipeline

    class Leaky(FeaturePipeline):
        def push(self, events, ingress_ns):
            windows = super().push(events, ingress_ns)
            for window in windows:
                if window.due:
                    window.values[0] = events["price"][-1]
            return windows

    monkeypatch.setattr(runs, "FeaturePipeline", Leaky)
    status, text, _ = run("verify", scid, "--events", "1000", "--var", tmp_path)
    assert status == 1
    line = next(line for line in text.splitlines() if line.startswith("l1_state"))
    assert "1 FAIL" in line
    assert "349 of 350 pass" in text
