"""What the messages of a simulated market say, read back as the daemon reads them."""

from datetime import date

import numpy as np
import pytest

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc.enums import LogonFlag
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.stream import FrameReader
from mia_daemon.features.catalogue import Quality
from mia_daemon.features.feature_pipeline import FeaturePipeline
from mia_daemon.products.instruments import instrument
from mia_daemon.products.trading_calendar import equity_hours
from mia_daemon.records import EventArray, EventKind
from mia_daemon.simulator.hours import TradingHours, start_ns
from mia_daemon.simulator.market import SimulatedMarket
from mia_daemon.simulator.market_messages import Dialect, Subscriptions, dialect, market_stream
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.reference_market import ReferenceMarket
from mia_daemon.simulator.tape import SymbolEvents

ES, NQ = instrument("ESZ26_FUT_CME"), instrument("NQZ26_FUT_CME")
SECONDS = 90
DIALECTS = {
    "microseconds, depth in milliseconds": dialect(
        LogonFlag.UNBUNDLED_INDICATOR_2 | LogonFlag.BID_ASK_WITH_MICROSECONDS | LogonFlag.DEPTH_WITH_MILLISECONDS, 1
    ),
    "quotes in whole seconds": dialect(LogonFlag.DEPTH_WITH_MILLISECONDS, 1),
    "trades and quotes in whole seconds": dialect(0, 1, compact=True),
    "the newer generation": dialect(0, 2),
}


def both_markets(speech: Dialect, calendar) -> EventArray:
    """Both markets and the book, as one connection brings them."""
    market = SimulatedMarket(
        MatchingEngine(), TradingHours(calendar), 5, start_ns(date(2026, 11, 3), equity_hours()), 24_000.0
    )
    reference = ReferenceMarket(NQ, ES, "5")
    reader, decoder = FrameReader(), MarketDataDecoder({1: 0, 2: 1})
    ids = {ES.symbol: Subscriptions(1, 1), NQ.symbol: Subscriptions(2)}
    begin_ns, parts = market.now_ns, []
    for second in range(1, SECONDS + 1):
        followed = SymbolEvents(ES.symbol, market.advance(begin_ns + second * NS_PER_S))
        data = b"".join(
            market_stream(events, speech, ids[symbol], ES.tick_size) for symbol, events in reference.follow(followed)
        )
        segments = decoder.decode(reader.feed(data), market.now_ns)
        parts += [segment for segment in segments if isinstance(segment, np.ndarray)]
    return np.concatenate(parts)


@pytest.mark.parametrize("speech", DIALECTS.values(), ids=DIALECTS)
def test_no_window_says_that_time_went_back_whatever_resolution_the_messages_have(speech, calendar):
    events = both_markets(speech, calendar)
    assert {EventKind.TRADE, EventKind.QUOTE, EventKind.DEPTH} <= set(events["kind"].tolist())
    pipeline = FeaturePipeline(ES, 1.0, calendar, 0.0)
    windows = [window for window in pipeline.push(events, 0) if window.due]
    assert len(windows) > SECONDS - 10
    assert [window.seq for window in windows if window.quality & Quality.TIME_BACK] == []
    assert pipeline.late_events == 0
