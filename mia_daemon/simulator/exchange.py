"""The simulated exchange: markets, matching engines, order entry and memory, behind three calls.

Pure but for its memory: the caller says how far time goes. What its calls return may be sent after the next `commit`.
"""

from dataclasses import asdict
from datetime import date
from typing import NamedTuple

from mia_daemon.config import SimulatorSettings
from mia_daemon.dtc.layout import Message
from mia_daemon.errors import StartError
from mia_daemon.products.instruments import Instrument
from mia_daemon.products.product_table import Products
from mia_daemon.products.trading_calendar import TradingCalendar
from mia_daemon.simulator.account import Account, account_from
from mia_daemon.simulator.account_reports import FillRecord
from mia_daemon.simulator.faults import OrderFaults
from mia_daemon.simulator.market_setup import MarketSetup
from mia_daemon.simulator.order_entry import OrderEntryHandler
from mia_daemon.simulator.order_log import OrderLog
from mia_daemon.simulator.played_market import PlayedRecording, Touch
from mia_daemon.simulator.state import Saved, StateStore
from mia_daemon.simulator.tape import SessionEvent, SymbolEvents


class Traded(NamedTuple):
    """What is traded, and for whom; the first of each is the main one."""

    instruments: tuple[Instrument, ...]
    accounts: tuple[str, ...]
    products: Products | None = None  # in which the reference is looked up; None: those that ship


class Output(NamedTuple):
    """What a call brought about, in the order to be sent."""

    answers: list[Message]  # to whom asked
    news: list[Message]  # to everyone
    market: list[SymbolEvents]  # to subscribers


class Exchange:
    """Symbols and accounts: every account may trade every symbol, on one order book per symbol.

    Args:
        store: its memory; what an earlier run left there is carried on.
        today: only settles the decade of a one-digit year in the symbol.
        recording: a recorded market to be played instead of a seeded one, of a single symbol.
        begin_ns: seeded markets begin at this time, or later where it was later before.

    Attributes:
        markets: what is traded, by symbol.
        main: the first of them.
        accounts: those that are named, and those that the memory has besides, by name.
        reference: a market beside the main one, which only shows prices; None where there is none, or where its symbol
            is traded.
        instruments: those with prices here, by symbol, with the prices of messages.
        desk: order entry.
        lease_ns: exchange time never passes it before a later one is saved: a killed simulator comes back at the
            lease, so its time never runs backwards.

    Raises:
        StartError: the start price or date can't be used, or the state is that of another market.
    """

    def __init__(
        self,
        traded: Traded,
        settings: SimulatorSettings,
        calendar: TradingCalendar,
        store: StateStore,
        today: date,
        recording: PlayedRecording | None = None,
        begin_ns: int | None = None,
    ) -> None:
        self._store = store
        saved = store.load()
        self._run = saved.facts["run"] + 1 if saved else 1
        self._name = "seeded" if recording is None else recording.name
        self._log = OrderLog()
        self.accounts = {name: Account(name, settings.starting_cash) for name in traded.accounts}
        if saved is not None:
            self._restore(saved)
        setup = MarketSetup(traded.instruments[0], settings, calendar, saved, self._run, self._log, traded.products)
        if recording is None:
            opened = [setup.seeded(instrument, today, begin_ns) for instrument in traded.instruments]
        else:
            opened = [setup.played(traded.instruments[0], recording)]
        self.markets = {market.symbol: market for market in opened}
        self.main = opened[0]
        self._align(max(market.now_ns for market in opened))
        self.reference = setup.reference(self.markets) if recording is None else None
        quoted = [market.instrument for market in opened]
        if self.reference is not None:
            quoted.append(self.reference.instrument)
        self.instruments = {each.symbol: setup.native(each) for each in quoted}
        self._faults = OrderFaults(settings.faults, f"{settings.faults.seed}/{self._run}")
        self.desk = OrderEntryHandler(self.markets, self.accounts, self._log, self._faults)
        if saved is not None:
            self.desk.restore(saved.orders, saved.fills)
        self._fills_saved = len(self.desk.fills)
        self._dropped: list[int] = []  # orders forgotten since the last save
        self.lease_ns = self.now_ns
        self._save()

    def _restore(self, saved: Saved) -> None:
        """The accounts and numbers of an earlier run."""
        facts = saved.facts
        if facts["market"] != self._name:
            raise StartError(
                f"the state is that of a {facts['market']} market, not of {self._name}: name another "
                "directory with --state"
            )
        self.accounts |= {name: account_from(account) for name, account in facts["accounts"].items()}
        self._log.next_order_id = facts["next_order_id"]
        self._log.next_execution_id = facts["next_execution_id"]

    @property
    def now_ns(self) -> int:
        """Exchange time, the same in all markets."""
        return self.main.now_ns

    @property
    def next_ns(self) -> int:
        """When a market moves next."""
        return min(market.next_ns for market in self.markets.values())

    @property
    def ended(self) -> bool:
        """There is no more of this market."""
        return self.main.ended

    def add_time(self, ts_ns: int, duration_ns: int) -> int:
        """The moment `duration_ns` of exchange time after `ts_ns`."""
        return self.main.add_time(ts_ns, duration_ns)

    def touch(self, symbol: str) -> Touch:
        """(best bid, its quantity, best ask, its quantity) of any symbol with prices here; None and 0 where unknown."""
        market = self.markets.get(symbol)
        if market is not None:
            return market.touch()
        quote = None if self.reference is None else self.reference.quote
        return (None, 0, None, 0) if quote is None else quote[1:]

    def position(self, account: str = "", symbol: str = "") -> int:
        """Contracts held, signed; by default of the first account in the main symbol."""
        holder = self.accounts[account or next(iter(self.accounts))]
        return holder.position(symbol or self.main.symbol).quantity

    def advance(self, until_ns: int, max_events: int | None = None) -> Output:
        """Let exchange time pass to `until_ns`, or less far when `max_events` are reached first."""
        if until_ns > self.lease_ns:
            self.renew_lease(until_ns)
        return self._output([], self._advance(until_ns, max_events))

    def _advance(self, until_ns: int, max_events: int | None) -> list[SymbolEvents]:
        """Move the markets in turn, each up to the moment at which another one moves."""
        moved: list[SymbolEvents] = []
        while True:
            market, *others = sorted(self.markets.values(), key=lambda market: market.next_ns)
            limit_ns = min((until_ns, *(other.next_ns for other in others)))
            if events := market.advance(limit_ns, max_events):
                moved.append(SymbolEvents(market.symbol, events))
            if max_events is not None:
                max_events -= len(events)
            if market.next_ns <= limit_ns:  # it stopped early: so do the others
                until_ns = max(each.now_ns for each in self.markets.values())
                break
            if self.next_ns > until_ns:
                break
        self._align(until_ns)
        return moved

    def _align(self, now_ns: int) -> None:
        for market in self.markets.values():
            market.wait(now_ns)

    def handle(self, message: Message) -> Output:
        """Act on a client's trading message at this moment of exchange time."""
        answers = self.desk.handle(self._faults.asked(message))
        market = [SymbolEvents(symbol, events) for symbol, each in self.markets.items() if (events := each.collect())]
        return self._output(self._faults.dated(answers), market)

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

    def _output(self, answers: list[Message], moved: list[SymbolEvents]) -> Output:
        news = self._faults.tell(self.desk.publish(), self.now_ns)
        for symbol, events in moved:
            if any(type(event) is SessionEvent for event in events):
                self._new_session(symbol)
        return Output(answers, news, self._shown(moved))

    def _new_session(self, symbol: str) -> None:
        """Forget the symbol's orders that have ended; with the main symbol's session a new day begins."""
        self._dropped += self.desk.forget_ended(symbol)
        if symbol == self.main.symbol:
            for account in self.accounts.values():
                account.realized_today = 0.0

    def _shown(self, moved: list[SymbolEvents]) -> list[SymbolEvents]:
        """What happened, with what follows from it: session values that changed, and the reference market's events."""
        out: list[SymbolEvents] = []
        for symbol, events in moved:
            run = SymbolEvents(symbol, self.markets[symbol].statistics.follow(events))
            if self.reference is not None and symbol == self.main.symbol:
                out += self.reference.follow(run)
            else:
                out.append(run)
        for symbol, market in self.markets.items():
            if (volume := market.statistics.take_volume()) is not None:
                out.append(SymbolEvents(symbol, [volume]))
        return out

    def commit(self) -> None:
        """Save what has happened since the last time; clients may be told of it then.

        Raises:
            JournalError: it can't be saved, and nobody may be told.
        """
        if self.desk.record or self._log.changed or self._dropped:
            self._save()

    def _save(self) -> None:
        log, desk = self._log, self.desk
        gone = set(self._dropped)
        new_fills: list[FillRecord] = desk.fills[self._fills_saved :]
        self._store.save(
            {
                "accounts": {name: asdict(account) for name, account in self.accounts.items()},
                "run": self._run,
                "next_order_id": log.next_order_id,
                "next_execution_id": log.next_execution_id,
                "market": self._name,
                "markets": {
                    symbol: {"last_price": market.engine.last_price, "regime": market.regime}
                    for symbol, market in self.markets.items()
                },
                "reference": None if self.reference is None else self.reference.state,
                "lease_ns": self.lease_ns,
            },
            [order for order in log.changed.values() if order.order_id not in gone],
            gone,
            new_fills,
            desk.record,
        )
        self._fills_saved += len(new_fills)
        self._dropped.clear()
        log.changed.clear()
        desk.record.clear()
