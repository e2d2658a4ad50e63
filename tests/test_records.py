"""The layout of market events is a contract: recordings are read back by it."""

import numpy as np

from mia_daemon.records import MARKET_EVENT, Regime, RegimeProbs, Side, empty_events


def test_an_event_is_one_cache_line_without_holes():
    assert MARKET_EVENT.itemsize == 64
    assert sum(MARKET_EVENT[name].itemsize for name in MARKET_EVENT.names) == 64
    assert MARKET_EVENT["ts_ns"].str == "<i8"


def test_fields_that_do_not_apply_hold_nan_or_zero():
    events = empty_events(3)
    assert np.isnan(events["price"]).all()
    assert np.isnan(events["bid"]).all()
    assert np.isnan(events["ask"]).all()
    assert not events["size"].any()


def test_small_values():
    assert RegimeProbs(0.2, 0.5, 0.3).most_likely() is Regime.TREND
    assert Side.BUY.opposite is Side.SELL
