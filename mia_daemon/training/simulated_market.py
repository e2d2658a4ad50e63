"""The simulator's market, seen as the daemon sees it: over DTC's bytes, through the feature pipeline, decision by
decision. No socket and no clock: an hour of exchange time takes a few seconds.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Final, NamedTuple

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.config import SimulatorSettings
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.enums import LogonFlag
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.features.constants import DEFAULTS, FittedConstants
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import EventArray, FeatureWindow
from mia_daemon.simulator import hours
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import SimulatedMarket
from mia_daemon.simulator.market_messages import Subscriptions, depth_snapshot, dialect, market_stream
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.training.labels import LabelledRecording

YEAR: Final = date(2026, 1, 1)
"""Settles the decade of a year written with one digit, the same on every day the script is run."""

_CHUNK_NS: Final = 60 * NS_PER_S
_SPEECH: Final = dialect(
    LogonFlag.UNBUNDLED_INDICATOR_2
    | LogonFlag.BID_ASK_WITH_MICROSECONDS
    | LogonFlag.DEPTH_WITH_MILLISECONDS
    | LogonFlag.DEPTH_SNAPSHOT_FLOAT,
    1,
)


class Episode(NamedTuple):
    """A simulated market from a fresh start at 09:00 Chicago."""

    seed: int
    hours: float


def record(
    episodes: Iterable[Episode],
    traded: Instrument,
    interval_s: float,
    warmup_s: float,
    calendar: TradingCalendar,
    settings: SimulatorSettings | None = None,
    constants: FittedConstants = DEFAULTS,
) -> LabelledRecording:
    """The decisions of all episodes, one after the other; those before the warm-up's end are left out."""
    rows: list[_SimulatedRow] = []
    for episode in episodes:
        pipeline = FeaturePipeline(traded, interval_s, calendar, warmup_s, constants=constants)
        rows += _decisions(pipeline, episode_events(episode, traded, calendar, settings))
    columns = np.array([row.touch for row in rows], np.float64).reshape(len(rows), 6).T
    return LabelledRecording(
        np.array([row.window.values for row in rows], np.float32),
        np.array([row.window.ts_ns for row in rows], np.int64),
        *columns,
    )


class _SimulatedRow(NamedTuple):
    window: FeatureWindow
    touch: Sequence[float]  # bid, ask, bid_low, bid_high, ask_low, ask_high


def _decisions(pipeline: FeaturePipeline, batches: Iterable[EventArray]) -> Iterator[_SimulatedRow]:
    parts: list[EventArray] = []
    for events in batches:
        for window in pipeline.push(events, 0):
            parts.append(window.events)
            if window.due:
                if window.warm:
                    yield _SimulatedRow(window, _touch(parts))
                parts = []


def episode_events(
    episode: Episode, traded: Instrument, calendar: TradingCalendar, settings: SimulatorSettings | None = None
) -> Iterator[EventArray]:
    """Batches of a minute, decoded from the bytes that the simulator's server would send.

    A shorter episode of the same seed is the beginning of a longer one.
    """
    settings = settings or SimulatorSettings()
    tick = traded.tick_size
    engine = MatchingEngine()
    start_ns = hours.start_ns(hours.start_date(traded, YEAR), traded.product.hours)
    price = (settings.start_price or traded.product.simulated_price) / tick
    market = SimulatedMarket(engine, TradingHours(calendar), episode.seed, start_ns, price, settings.events_per_s)
    reader, decoder = FrameReader(), MarketDataDecoder({1: 0})
    data = b"".join(map(encode, depth_snapshot(engine.book, 1, start_ns, tick, as_float=True)))
    end_ns = start_ns + round(episode.hours * 3600) * NS_PER_S
    while True:
        for segment in decoder.decode(reader.feed(data), market.now_ns):
            if isinstance(segment, np.ndarray):
                yield segment
        if market.now_ns >= end_ns:
            return
        data = market_stream(market.advance(market.now_ns + _CHUNK_NS), _SPEECH, Subscriptions(1, 1), tick)


def _touch(parts: Sequence[EventArray]) -> tuple[float, ...]:
    bid, ask = (np.concatenate([part[side] for part in parts]) for side in ("bid", "ask"))
    known = np.flatnonzero(np.isfinite(bid) & np.isfinite(ask))
    if not known.size:
        return (np.nan,) * 6
    bid, ask = bid[known], ask[known]
    return bid[-1], ask[-1], bid.min(), bid.max(), ask.min(), ask.max()
