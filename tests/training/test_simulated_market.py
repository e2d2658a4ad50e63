import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.training.labels import LabelledRecording
from mia_daemon.training.simulated_market import Episode, episode_events, record

ES = instrument("ESZ26_FUT_CME")
COLUMNS = list(LabelledRecording.__dataclass_fields__)


@pytest.fixture(scope="module")
def calendar():
    return TradingCalendar.load()


@pytest.fixture(scope="module")
def recorded(calendar):
    return record([Episode(1, 0.1), Episode(2, 0.1)], ES, 5.0, 120.0, calendar)


def test_each_episode_gives_its_warm_decisions(recorded):
    backwards = np.flatnonzero(np.diff(recorded.ts_ns) < 0)
    assert len(backwards) == 1
    assert 46 <= backwards[0] + 1 <= 62  # 6 minutes less 2, and up to a minute's chunk
    steps = np.delete(np.diff(recorded.ts_ns), backwards)
    assert np.median(steps) == pytest.approx(5 * NS_PER_S, rel=0.05)


def test_the_touch_and_its_extremes_are_those_of_a_market(recorded):
    assert ((recorded.ask - recorded.bid) >= 0.25).all()
    assert (recorded.bid_low <= recorded.bid).all()
    assert (recorded.bid <= recorded.bid_high).all()
    assert (recorded.ask_low <= recorded.ask).all()
    assert (recorded.ask <= recorded.ask_high).all()
    assert recorded.bid_high.max() > recorded.bid_low.min() + 1
    np.testing.assert_array_equal(recorded.bid % 0.25, 0)


def test_features_are_finite_and_alive(recorded):
    assert recorded.values.dtype == np.float32
    assert np.isfinite(recorded.values).all()
    assert (recorded.values.std(axis=0) > 0).sum() > 150


def test_a_shorter_episode_is_the_beginning_of_a_longer_one(calendar):
    short, long = (np.concatenate(list(episode_events(Episode(1, hours), ES, calendar))) for hours in (0.05, 0.1))
    assert len(short) < len(long)
    assert short.tobytes() == long[: len(short)].tobytes()


def test_the_same_seed_gives_the_same_bits(recorded, calendar):
    again = record([Episode(1, 0.1), Episode(2, 0.1)], ES, 5.0, 120.0, calendar)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(recorded, name))


def test_another_seed_gives_another_market(recorded, calendar):
    other = record([Episode(3, 0.1)], ES, 5.0, 120.0, calendar)
    assert not np.array_equal(other.bid[:40], recorded.bid[:40])
