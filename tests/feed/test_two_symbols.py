"""The traded symbol and the reference symbol side by side: each has the tick size and multiplier of its own product."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mia_daemon.clock import NS_PER_S
from mia_daemon.feed import sierra_files as sf
from mia_daemon.feed.replay_feed import ReplayFeed
from mia_daemon.feed.scid_feed import ScidFeed
from mia_daemon.products.price_scale import PriceScale
from mia_daemon.products.product_table import shipped
from mia_daemon.products.ticks import nearest_tick
from mia_daemon.records import EventKind

NOON_NS = 1_763_985_600 * NS_PER_S
ROOTS = ["ZN", "6J", "CL", "GC", "ES"]
MULTIPLIERS = [1.0, 0.01, 100.0]


class StoppedClock:
    def now_ns(self):
        return NOON_NS + 3600 * NS_PER_S

    def monotonic_ns(self):
        return 1


def price_at(root, ticks):
    product = shipped()[root]
    return nearest_tick(product.simulated_price + ticks * product.tick_size, product.tick_size)


def write(path, root, multiplier, offsets_us, ticks):
    """Trades, with the touch of each, as a data service stores them whose prices are to be multiplied."""
    records = np.zeros(len(ticks), sf.SCID_RECORD)
    records["time"] = sf.to_us(NOON_NS) + np.asarray(offsets_us)
    for name, away in (("close", 0), ("low", -1), ("high", 1)):
        records[name] = [price_at(root, tick + away) / multiplier for tick in ticks]
    records["total_volume"] = records["ask_volume"] = records["num_trades"] = 1
    path.write_bytes(sf.SCID.header() + records.tobytes())
    return path


def scale_of(root, multiplier):
    return PriceScale.of(shipped()[root], multiplier)


def replayed(path, scale, reference=None, reference_scale=None, batch_events=3):
    beside = {} if reference is None else {"reference_path": reference, "reference_scale": reference_scale}
    feed = ReplayFeed(path, StoppedClock(), scale=scale, batch_events=batch_events, **beside)
    return np.concatenate(list(feed.batches()))


def followed(path, scale, reference=None, reference_scale=None, batch_events=3):
    beside = {} if reference is None else {"reference_path": reference, "reference_scale": reference_scale}
    alerts = []
    feed = ScidFeed(path, StoppedClock(), alerts.append, since_ns=0, scale=scale, batch_events=batch_events, **beside)
    parts = []
    while not parts or len(parts[-1]):
        parts.append(feed.poll())
    feed.close()
    assert alerts == []
    events = np.concatenate(parts)
    return events[events["kind"] != EventKind.TIMER]


@pytest.mark.parametrize("read", [replayed, followed])
def test_both_symbols_have_the_prices_that_were_traded_to_the_bit(tmp_path, read):
    """ZN moves by 1/64 and is stored as it is; 6J moves by 0.0000005 and is stored in hundredths."""
    notes = write(tmp_path / "ZNH26_FUT_CME.scid", "ZN", 1.0, [0, 10, 20], [0, 1, 2])
    yen = write(tmp_path / "6JH26_FUT_CME.scid", "6J", 0.01, [0, 10, 20], [0, 1, 2])
    pair = read(notes, scale_of("ZN", 1.0), yen, scale_of("6J", 0.01))
    for symbol, root in ((0, "ZN"), (1, "6J")):
        mine = pair[pair["symbol"] == symbol]
        assert mine["price"].tolist() == [price_at(root, tick) for tick in (0, 1, 2)]
        assert mine["bid"].tolist() == [price_at(root, tick) for tick in (-1, 0, 1)]
        assert mine["ask"].tolist() == [price_at(root, tick) for tick in (1, 2, 3)]
    assert shipped()["6J"].simulated_price != float(np.float32(shipped()["6J"].simulated_price))  # float32 misses it


@pytest.mark.parametrize("read", [replayed, followed])
@given(st.data())
@settings(deadline=None, max_examples=40)
def test_the_events_of_a_pair_are_those_of_each_file_read_alone(tmp_path_factory, read, data):
    directory = tmp_path_factory.mktemp("pair")
    files = []
    for name in ("x.scid", "y.scid"):
        root, multiplier = data.draw(st.sampled_from(ROOTS)), data.draw(st.sampled_from(MULTIPLIERS))
        ticks = data.draw(st.lists(st.integers(-500, 500), min_size=1, max_size=12))
        offsets = sorted(data.draw(st.lists(st.integers(1, 50), min_size=len(ticks), max_size=len(ticks))))
        if name == "x.scid":  # it lasts longer: a replay leaves out what lies outside its time
            offsets, ticks = [0, *offsets, 51], [0, *ticks, 0]
        path = write(directory / name, root, multiplier, offsets, ticks)
        files.append((path, scale_of(root, multiplier), [price_at(root, tick) for tick in ticks]))
    (traded, scale, prices), (reference, reference_scale, reference_prices) = files
    pair = read(traded, scale, reference, reference_scale, data.draw(st.integers(1, 9)))
    beside = read(reference, reference_scale)
    beside["symbol"] = 1
    assert pair[pair["symbol"] == 0].tobytes() == read(traded, scale).tobytes()
    assert pair[pair["symbol"] == 1].tobytes() == beside.tobytes()
    assert (pair[pair["symbol"] == 0]["price"].tolist(), beside["price"].tolist()) == (prices, reference_prices)
    assert pair["price"].tobytes() == replayed(traded, scale, reference, reference_scale)["price"].tobytes()
