"""Makes the markets of one run: fresh ones, or those of an earlier run carried on."""

from collections.abc import Mapping
from datetime import date

from mia_daemon.config import SimulatorSettings
from mia_daemon.errors import StartError
from mia_daemon.products.instruments import Instrument, companion
from mia_daemon.products.instruments import instrument as instrument_of
from mia_daemon.products.product_table import Products
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import Regime
from mia_daemon.simulator import hours
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import SimulatedMarket, intraday_shape, steady
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.native_prices import NativeInstrument, native_instrument
from mia_daemon.simulator.order_log import OrderLog
from mia_daemon.simulator.played_market import PlayedMarket, PlayedRecording
from mia_daemon.simulator.reference_market import ReferenceMarket, price_ratio
from mia_daemon.simulator.state import Saved
from mia_daemon.simulator.symbol_market import SymbolMarket

MIN_START_TICKS = 400
"""A market that starts lower could run into zero."""


class MarketSetup:
    """Makes the markets of a run, all of which begin at the same time.

    Args:
        main: the first symbol: the start price and the plain seed are its.
        saved: what an earlier run left.
        run: number of this run.
        log: shared by the engines.
        products: in which the reference is looked up; None: those that ship.
    """

    def __init__(
        self,
        main: Instrument,
        settings: SimulatorSettings,
        calendar: TradingCalendar,
        saved: Saved | None,
        run: int,
        log: OrderLog,
        products: Products | None = None,
    ) -> None:
        self._main = main
        self._settings = settings
        self._calendar = calendar
        self._saved = saved
        self._log = log
        self._products = products
        self._seed = f"{settings.seed}/{run}"

    def seeded(self, instrument: Instrument, today: date, begin_ns: int | None) -> SymbolMarket:
        """A market of its own seed.

        Args:
            instrument: what is traded.
            today: only settles the decade of a one-digit year in the symbol.
            begin_ns: it begins at this time, or later where it was later before.

        Raises:
            StartError: the start price or date can't be used.
        """
        settings, saved = self._settings, self._saved
        if saved is None:
            start_ns = begin_ns or hours.start_ns(
                hours.first_day(settings.start_date, self._main, today), self._main.product.hours
            )
        else:
            start_ns = max(saved.facts["lease_ns"], begin_ns or 0)
        before = None if saved is None else saved.facts["markets"].get(instrument.symbol)
        if before is None:
            price, regime = self._start_price(instrument), Regime.RANGE
        else:
            price, regime = before["last_price"] + 0.5, Regime(before["regime"])
        engine, trading_hours = self._engine(instrument), TradingHours(self._calendar)
        activity = intraday_shape(trading_hours) if settings.intraday_shape else steady
        seed = self._seed if instrument is self._main else f"{self._seed}/{instrument.symbol}"
        market = SimulatedMarket(
            engine, trading_hours, seed, start_ns, price, settings.events_per_s, activity, regime=regime
        )
        return self._market(instrument, engine, trading_hours, market)

    def played(self, instrument: Instrument, recording: PlayedRecording) -> SymbolMarket:
        """A recorded market. Raises StartError when nothing of it is left to play."""
        start_ns = None if self._saved is None else self._saved.facts["lease_ns"]
        engine, trading_hours = self._engine(instrument), TradingHours(self._calendar)
        market = PlayedMarket(engine, trading_hours, recording, instrument.tick_size, start_ns)
        return self._market(instrument, engine, trading_hours, market)

    def reference(self, markets: Mapping[str, SymbolMarket]) -> ReferenceMarket | None:
        """The market that moves with the main one and only shows prices; None where it is not wanted, or traded."""
        symbol = companion(self._main)
        if not symbol or symbol in markets or not self._settings.reference:
            return None
        state = None if self._saved is None else self._saved.facts.get("reference")
        market = markets[self._main.symbol]
        reference = ReferenceMarket(instrument_of(symbol, self._products), self._main, f"{self._seed}/reference", state)
        bid, _, ask, _ = market.touch()
        reference.begin(market.now_ns, bid, ask)
        return reference

    def native(self, instrument: Instrument) -> NativeInstrument:
        """The instrument with the prices of messages."""
        return native_instrument(instrument, self._settings.display_multiplier)

    def _start_price(self, instrument: Instrument) -> float:
        """In ticks."""
        settings, main = self._settings, self._main
        start_price = settings.start_price or main.product.simulated_price
        price = start_price * price_ratio(main, instrument)
        if price / instrument.tick_size < MIN_START_TICKS:
            lowest = MIN_START_TICKS * instrument.tick_size / price_ratio(main, instrument)
            raise StartError(
                f"simulator.start_price {start_price:g} is too low for {instrument.symbol}: use at least {lowest:g}"
            )
        return price / instrument.tick_size

    def _engine(self, instrument: Instrument) -> MatchingEngine:
        """With the orders of an earlier run that are alive."""
        engine = MatchingEngine(log=self._log, new_id_on_replace=self._settings.new_order_id_on_replace)
        if self._saved is not None and (before := self._saved.facts["markets"].get(instrument.symbol)) is not None:
            orders = [order for order in self._saved.orders if order.alive and order.symbol == instrument.symbol]
            engine.restore(orders, before["last_price"])
            engine.book.changes.clear()
        return engine

    def _market(
        self,
        instrument: Instrument,
        engine: MatchingEngine,
        trading_hours: TradingHours,
        market: SimulatedMarket | PlayedMarket,
    ) -> SymbolMarket:
        return SymbolMarket(instrument, self.native(instrument), engine, trading_hours, market)
