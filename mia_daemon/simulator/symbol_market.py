"""One tradable symbol: its order book, what moves it, and what has traded in its session."""

from mia_daemon.products.instruments import Instrument
from mia_daemon.records import Regime
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import SimulatedMarket
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.native_prices import NativeInstrument
from mia_daemon.simulator.played_market import PlayedMarket
from mia_daemon.simulator.session_statistics import SessionStatistics
from mia_daemon.simulator.tape import MarketEvent


class SymbolMarket:
    """A symbol's engine and the market on it.

    Attributes:
        instrument: with displayed prices, as files have them.
        native: with the prices of messages.
        engine: clients' orders, and the book that they share with the background.
        hours: of the session that is open.
        statistics: of that session; whoever takes the events lets it follow them.
    """

    def __init__(
        self,
        instrument: Instrument,
        native: NativeInstrument,
        engine: MatchingEngine,
        hours: TradingHours,
        market: SimulatedMarket | PlayedMarket,
    ) -> None:
        self.instrument = instrument
        self.native = native
        self.engine = engine
        self.hours = hours
        self.statistics = SessionStatistics(simulated=isinstance(market, SimulatedMarket))
        self._market = market

    @property
    def symbol(self) -> str:
        return self.instrument.symbol

    @property
    def now_ns(self) -> int:
        return self.engine.now_ns

    @property
    def next_ns(self) -> int:
        """When it moves next."""
        return self._market.next_ns

    @property
    def ended(self) -> bool:
        """There is no more of it."""
        return self._market.ended

    @property
    def has_depth(self) -> bool:
        """Whether more than the touch is known."""
        return self._market.has_depth

    @property
    def regime(self) -> Regime:
        return self._market.regime

    def touch(self) -> tuple[int | None, int, int | None, int]:
        """(best bid, its quantity, best ask, its quantity) in ticks; None and 0 where unknown."""
        return self._market.touch()

    def depth(self, side: int) -> list[tuple[int, int, int]]:
        """(price, quantity, number of orders) of one side, best first; prices in ticks."""
        return self._market.depth(side)

    def add_time(self, ts_ns: int, duration_ns: int) -> int:
        """The moment `duration_ns` of exchange time after `ts_ns`."""
        return self._market.add(ts_ns, duration_ns)

    def advance(self, until_ns: int, max_events: int | None = None) -> list[MarketEvent]:
        """What happens up to and including `until_ns`, or less far once there are `max_events`."""
        return self._market.advance(until_ns, max_events)

    def wait(self, until_ns: int) -> None:
        """Let time pass in which nothing happens: `until_ns` is before `next_ns`."""
        self.engine.now_ns = max(self.engine.now_ns, until_ns)

    def collect(self) -> list[MarketEvent]:
        """What clients' orders did to it just now."""
        return self._market.collect()
