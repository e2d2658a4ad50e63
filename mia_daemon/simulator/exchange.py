"""The simulated exchange: market, matching engine, order desk and memory, behind three calls.

Pure but for its memory: it is told how far time goes. What its calls return may be told after the next `commit`.
"""

from dataclasses import asdict
from datetime import date
from typing import NamedTuple

from mia_daemon.config import SimulatorSettings
from mia_daemon.dtc.layout import Message
from mia_daemon.errors import StartError
from mia_daemon.products.instruments import Instrument, companion
from mia_daemon.products.instruments import instrument as instrument_of
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.records import Regime
from mia_daemon.simulator import hours
from mia_daemon.simulator.account import Account
from mia_daemon.simulator.account_reports import FillRecord
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.hours import TradingHours
from mia_daemon.simulator.market import SimulatedMarket, intraday_shape, steady
from mia_daemon.simulator.matching import MatchingEngine
from mia_daemon.simulator.order_entry import OrderEntryHandler
from mia_daemon.simulator.played_market import PlayedMarket, PlayedRecording
from mia_daemon.simulator.reference_market import ReferenceMarket
from mia_daemon.simulator.session_statistics import SessionStatistics
from mia_daemon.simulator.state import Saved, StateStore
from mia_daemon.simulator.tape import MarketEvent, SessionEvent

MIN_START_TICKS = 400
"""A market that starts lower could run into zero."""


class Output(NamedTuple):
    """What a call brought about, in the order to be told."""

    answers: list[Message]  # to whom asked
    news: list[Message]  # to everyone
    market: list[MarketEvent]  # to subscribers


class Exchange:
    """One symbol, one account.

    Args:
        store: its memory; what an earlier run left there is carried on.
        account: name of the trade account.
        today: only settles the decade of a one-digit year in the symbol.
        recording: a recorded market to be played instead of a seeded one.
        begin_ns: a seeded market begins at this time, or later where it was later before.

    Attributes:
        reference: a second market, which only shows prices; None where there is none.
        instruments: those with prices here, by symbol.
        lease_ns: exchange time never passes it before a later one is saved: a killed simulator comes back at the
            lease, so its time never runs backwards.

    Raises:
        StartError: the start price or date can't be used, or the state is that of another market.
    """

    def __init__(
        self,
        instrument: Instrument,
        settings: SimulatorSettings,
        calendar: TradingCalendar,
        store: StateStore,
        account: str,
        today: date,
        recording: PlayedRecording | None = None,
        begin_ns: int | None = None,
    ) -> None:
        self.instrument = instrument
        self.hours = TradingHours(calendar)
        self.statistics = SessionStatistics(simulated=recording is None)
        self._store = store
        self._settings = settings
        saved = store.load()
        self.engine = MatchingEngine(new_id_on_replace=settings.new_order_id_on_replace)
        self.account = Account(account, settings.starting_cash)
        self._run = saved.facts["run"] + 1 if saved else 1
        self._faults = OrderFaults(settings.faults, f"{settings.faults.seed}/{self._run}")
        self.desk = OrderEntryHandler(self.engine, self.account, instrument, self._faults)
        self._fills_saved = 0
        self._dropped: list[int] = []  # orders forgotten since the last save
        self._name = "seeded" if recording is None else recording.name
        if saved is not None:
            self._restore(saved)
        self.market = self._seeded(saved, today, begin_ns) if recording is None else self._played(saved, recording)
        self.reference = self._reference(saved) if recording is None and settings.reference else None
        quoted = (instrument,) if self.reference is None else (instrument, self.reference.instrument)
        self.instruments = {each.symbol: each for each in quoted}
        self.lease_ns = self.engine.now_ns
        self._save()

    def _restore(self, saved: Saved) -> None:
        facts = saved.facts
        if facts.get("market", "seeded") != self._name:
            raise StartError(
                f"the state is that of a {facts.get('market', 'seeded')} market, not of {self._name}: name another "
                "directory with --state"
            )
        for name, value in facts["account"].items():
            setattr(self.account, name, value)
        self.engine.next_order_id = facts["next_order_id"]
        self.engine.next_execution_id = facts["next_execution_id"]
        self.engine.restore([order for order in saved.orders if order.alive], facts["last_price"])
        self.engine.book.changes.clear()
        self.desk.restore(saved.orders, saved.fills)
        self._fills_saved = len(saved.fills)

    def _seeded(self, saved: Saved | None, today: date, begin_ns: int | None) -> SimulatedMarket:
        settings = self._settings
        if saved is None:
            start = begin_ns or hours.start_ns(hours.first_day(settings.start_date, self.instrument.symbol, today))
            value, regime = settings.start_price / self.instrument.tick_size, Regime.RANGE
        else:
            facts = saved.facts
            start = max(facts["lease_ns"], begin_ns or 0)
            value, regime = facts["last_price"] + 0.5, Regime(facts["regime"])
        if value < MIN_START_TICKS:
            raise StartError(
                f"simulator.start_price {settings.start_price:g} is too low for {self.instrument.symbol}: "
                f"use at least {MIN_START_TICKS * self.instrument.tick_size:g}"
            )
        activity = intraday_shape(self.hours) if settings.intraday_shape else steady
        seed = f"{settings.seed}/{self._run}"
        return SimulatedMarket(
            self.engine, self.hours, seed, start, value, settings.events_per_s, activity, regime=regime
        )

    def _played(self, saved: Saved | None, recording: PlayedRecording) -> PlayedMarket:
        start_ns = None if saved is None else saved.facts["lease_ns"]
        return PlayedMarket(self.engine, self.hours, recording, self.instrument.tick_size, start_ns)

    def _reference(self, saved: Saved | None) -> ReferenceMarket:
        state = None if saved is None else saved.facts.get("reference")
        seed = f"{self._settings.seed}/{self._run}/reference"
        other = instrument_of(companion(self.instrument.symbol))
        reference = ReferenceMarket(other, self.instrument.tick_size, seed, state)
        bid, _, ask, _ = self.market.touch()
        reference.begin(self.now_ns, bid, ask)
        return reference

    @property
    def now_ns(self) -> int:
        return self.engine.now_ns

    @property
    def next_ns(self) -> int:
        """When the market moves next."""
        return self.market.next_ns

    @property
    def ended(self) -> bool:
        """There is no more of this market."""
        return self.market.ended

    @property
    def has_depth(self) -> bool:
        """Whether more than the touch is known."""
        return self.market.has_depth

    def touch(self) -> tuple[int | None, int, int | None, int]:
        """(best bid, its quantity, best ask, its quantity) in ticks; None and 0 where unknown."""
        return self.market.touch()

    def depth(self, side: int) -> list[tuple[int, int, int]]:
        """(price, quantity, number of orders) of one side, best first."""
        return self.market.depth(side)

    def add_time(self, ts_ns: int, duration_ns: int) -> int:
        """The moment `duration_ns` of exchange time after `ts_ns`."""
        return self.market.add(ts_ns, duration_ns)

    def advance(self, until_ns: int, max_events: int | None = None) -> Output:
        """Let exchange time pass to `until_ns`, or less far when `max_events` are reached first."""
        if until_ns > self.lease_ns:
            self.renew_lease(until_ns)
        return self._output([], self.market.advance(until_ns, max_events))

    def handle(self, message: Message) -> Output:
        """Act on a client's trading message at this moment of exchange time."""
        answers = self.desk.handle(self._faults.asked(message))
        return self._output(self._faults.dated(answers), self.market.collect())

    def renew_lease(self, lease_ns: int) -> None:
        """Save that exchange time may go on to `lease_ns`."""
        self.lease_ns = lease_ns
        self._save()

    def close(self) -> None:
        """Save the exact time and let go of the memory, also when that fails."""
        self.lease_ns = self.now_ns
        try:
            self._save()
        finally:
            self._store.close()

    def _output(self, answers: list[Message], market: list[MarketEvent]) -> Output:
        news = self._faults.tell(self.desk.publish(), self.now_ns)
        dropped: list[int] = []
        for event in market:
            if type(event) is SessionEvent:
                known = {order.order_id for order in self.desk.orders.values()}
                self.desk.new_day()
                dropped += known - {order.order_id for order in self.desk.orders.values()}
        self._dropped += dropped
        market = self.statistics.follow(market)
        return Output(answers, news, market if self.reference is None else self.reference.follow(market))

    def commit(self) -> None:
        """Save what has happened since the last time; clients may be told of it then.

        Raises:
            JournalError: it can't be saved, and nobody may be told.
        """
        if self.desk.record or self.engine.changed or self._dropped:
            self._save()

    def _save(self) -> None:
        engine, desk = self.engine, self.desk
        gone = set(self._dropped)
        new_fills: list[FillRecord] = desk.fills[self._fills_saved :]
        self._store.save(
            {
                "account": asdict(self.account),
                "run": self._run,
                "next_order_id": engine.next_order_id,
                "next_execution_id": engine.next_execution_id,
                "last_price": engine.last_price,
                "market": self._name,
                "regime": self.market.regime,
                "reference": None if self.reference is None else self.reference.state,
                "lease_ns": self.lease_ns,
            },
            [order for order in engine.changed.values() if order.order_id not in gone],
            gone,
            new_fills,
            desk.record,
        )
        self._fills_saved += len(new_fills)
        self._dropped.clear()
        engine.changed.clear()
        desk.record.clear()
