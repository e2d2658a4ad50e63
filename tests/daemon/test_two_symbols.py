"""The traded symbol and the reference symbol each get the tick and the multiplier of their own product, everywhere."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest

from mia_daemon.cli import main
from mia_daemon.config import Settings, VarPaths
from mia_daemon.daemon import assembly, replay
from mia_daemon.errors import FileFormatError
from mia_daemon.feed import replay_feed
from mia_daemon.feed import sierra_files as sf
from mia_daemon.products.instruments import instrument
from mia_daemon.products.ticks import nearest_tick
from tests.rig import RISK

START_US = sf.to_us(1_795_446_000 * 10**9)  # Monday, 2026-11-23, 15:00 UTC
HUNDREDTHS = {"product": {"6J": {"price_multiplier": 0.01}}}
ZN, YEN = "ZNH27_FUT_CME", "6JZ26_FUT_CME"
LEVELS = {ZN: 110.5, YEN: 0.0065}


class Enough(Exception):
    """Ends what is under test; it is no error."""


def prices_of(symbol, count=40):
    tick = instrument(symbol).tick_size
    return [nearest_tick(LEVELS[symbol] + n * tick, tick) for n in range(count)]


def write(path, prices):
    records = np.zeros(len(prices), sf.SCID_RECORD)
    records["time"] = START_US + np.arange(len(prices)) * 1000
    records["close"] = prices
    records["total_volume"] = records["ask_volume"] = records["num_trades"] = 1
    path.write_bytes(sf.SCID.header() + records.tobytes())
    return path


def settings_of(**tables):
    return Settings.model_validate({"risk": RISK, **tables})


@pytest.fixture
def files(tmp_path):
    """ZN as it is traded, and 6J as a data service stores it that stores hundredths."""
    hundredths = [price * 100 for price in prices_of(YEN)]
    return write(tmp_path / f"{ZN}.scid", prices_of(ZN)), write(tmp_path / f"{YEN}.scid", hundredths)


def check(events):
    for number, symbol in enumerate((ZN, YEN)):
        assert events["price"][events["symbol"] == number].tolist() == prices_of(symbol)


@pytest.fixture
def read(monkeypatch):
    """Catches the events of the feed that something makes, and ends it there."""
    caught = []

    class Catching(replay_feed.ReplayFeed):
        def __init__(self, path, clock, **options):
            super().__init__(path, clock, **options | {"timers_up_to_s": 0.0})
            caught.append(np.concatenate(list(self.batches())))
            raise Enough

    monkeypatch.setattr(replay, "ReplayFeed", Catching)
    monkeypatch.setattr(replay_feed, "ReplayFeed", Catching)

    def run(work):
        with pytest.raises(Enough):
            work()
        return caught.pop()

    return run


def test_in_a_replay(files, read, tmp_path):
    paths = VarPaths(tmp_path / "var")
    check(read(lambda: replay.replay(settings_of(**HUNDREDTHS), files[0], paths, reference=files[1])))
    own = settings_of(reference={"price_multiplier": 0.01})
    check(read(lambda: replay.replay(own, files[0], paths, reference=files[1])))
    unnamed = files[1].rename(tmp_path / "yen.scid")
    named = settings_of(reference={"symbol": YEN, "price_multiplier": 0.01}, feed={"source": "dtc"})
    check(read(lambda: replay.replay(named, files[0], paths, reference=unnamed)))


def test_a_replay_refuses_a_reference_file_at_another_scale(files, tmp_path):
    with pytest.raises(FileFormatError, match=r"set reference\.price_multiplier to 0\.01 times"):
        replay.replay(settings_of(), files[0], VarPaths(tmp_path / "var"), reference=files[1])


def test_a_replay_says_that_the_product_of_a_reference_is_not_known(files, read, tmp_path):
    unknown, said = files[1].rename(tmp_path / "XYZ26_FUT_CME.scid"), []
    paths = VarPaths(tmp_path / "var")
    events = read(lambda: replay.replay(settings_of(), files[0], paths, reference=unknown, on_progress=said.append))
    stored = [float(np.float32(price * 100)) for price in prices_of(YEN)]
    assert events["price"][events["symbol"] == 1].tolist() == stored
    assert [text for text in said if "XYZ26_FUT_CME is a contract of no product known" in text]


@pytest.mark.parametrize("configured", [True, False])
def test_in_features_verify(files, read, tmp_path, monkeypatch, configured):
    monkeypatch.chdir(tmp_path)
    words = ["features", "verify", str(files[0]), "--reference", str(files[1])]
    if configured:
        risk = "\n".join(f"{name} = {json.dumps(value)}" for name, value in RISK.items())
        (tmp_path / "mia.toml").write_text(f"[risk]\n{risk}\n[product.6J]\nprice_multiplier = 0.01\n")
        words += ["--config", "mia.toml"]
    else:  # the products that ship store prices as they are traded
        write(files[1], prices_of(YEN))
    check(read(lambda: main(words)))


class Clock:
    """Stands a second after the files' first trade."""

    def now_ns(self):
        return int(sf.to_ns(START_US)) + 10**9

    def monotonic_ns(self):
        return 1


def made_feed(settings):
    run = SimpleNamespace(instrument=instrument(ZN), clock=Clock(), alert=pytest.fail)
    nothing_read = SimpleNamespace(heard_ns=0, reference_heard_ns=0)
    return assembly.feed(run, settings, nothing_read, random.Random(1), lambda *_: None)


def test_in_the_live_feed_from_files(files):
    feed = made_feed(
        settings_of(
            instrument={"symbol": ZN},
            feed={"source": "scid", "scid_path": str(files[0])},
            reference={"symbol": YEN, "scid_path": str(files[1])},
            **HUNDREDTHS,
        )
    )
    events = feed.poll()
    feed.close()
    check(events)


def test_over_dtc_with_the_reference_of_the_configuration_or_of_the_simulator(monkeypatch):
    made = []
    monkeypatch.setattr(assembly, "DtcFeed", lambda *_args, **options: made.append(options))
    for tables in (
        {"feed": {"source": "dtc"}, "reference": {"symbol": YEN}},
        {"feed": {"source": "dtc"}, "reference": {"symbol": "XYZ26_FUT_CME"}},
        {"feed": {"source": "dtc"}},
        {"feed": {"source": "simulator"}, "product": {"ZN": {"companion": "CL"}}},
    ):
        made_feed(settings_of(instrument={"symbol": ZN}, **tables))
    assert [options["tick_sizes"] for options in made] == [
        {0: 1 / 64, 1: 5e-7},
        {0: 1 / 64, 1: None},
        {0: 1 / 64, 1: None},
        {0: 1 / 64, 1: 0.01},
    ]
    assert made[3]["reference_symbol"] == "CLH27_FUT_CME"
