"""A live feed over DTC: subscribes, and keeps subscribed through whatever happens to the connection."""

import asyncio
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from mia_daemon.clock import Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc.enums import MarketDataFeedStatusEnum, RequestActionEnum
from mia_daemon.dtc.market_data import Segment
from mia_daemon.dtc.messages import (
    MarketDataFeedStatus,
    MarketDataFeedSymbolStatus,
    MarketDataReject,
    MarketDataRequest,
    MarketDataSnapshot,
    MarketDepthReject,
    MarketDepthRequest,
    Message,
    SecurityDefinitionForSymbolRequest,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
)
from mia_daemon.errors import ConnectionLost, MarketDataRefused, MiaError
from mia_daemon.feed.base import BatchQueue, EventBatch
from mia_daemon.feed.display_prices import DisplayPrices
from mia_daemon.feed.event_checks import NO_LIMITS, CheckedSymbol, EventChecks, EventLimits
from mia_daemon.feed.outlet import Lag, Outlet
from mia_daemon.feed.silence import SilenceTimer, marker
from mia_daemon.link.client import DtcClient, NoticeHandler, market_data_refused
from mia_daemon.records import Alert, AlertSink, EventArray, EventKind, Priority
from mia_daemon.stage import END

MAX_BACKLOG_EVENTS: Final = 1 << 18
"""Rows (16 MB) that may wait for the daemon before the server is held back by not reading from it."""

_TRADED_ID: Final = 1  # SymbolIDs of our choice
_REFERENCE_ID: Final = 2

_OFF_TICK: Final = (
    "look at the price format and the real-time price multiplier of the symbol in Sierra Chart, and compare its chart; "
    "feed.price_multiplier and reference.price_multiplier correct prices in files only"
)


class DtcFeed:
    """Trades, quotes and depth of one symbol, and trades and quotes of a reference symbol if one is named.

    After every reconnection it subscribes anew and marks what may be missing with a GAP event. A server that refuses
    the traded symbol's prices ends the feed when it has never served them; when it has, it is asked again. Refused
    depth, or a refused reference symbol, is an alert.

    Args:
        symbol: as the server spells it.
        rng: for the jitter of reconnection.
        reference_symbol: "" for none.
        depth_levels: of the book, per side; 0 asks for no depth.
        timer_interval_s: silence, on the monotonic clock, after which a TIMER event is made.
        speed: exchange seconds per second (1 but for the simulator).
        tick_sizes: points, by the `symbol` column: 0 the traded one's, 1 the reference's. Prices of a symbol without
            one, as of a product that is not known, are not checked.
        limits: of the events' times.
        on_notice: told what the server says to people.
    """

    def __init__(
        self,
        settings: DtcSettings,
        clock: Clock,
        rng: random.Random,
        on_alert: AlertSink,
        *,
        symbol: str,
        reference_symbol: str = "",
        depth_levels: int = 10,
        timer_interval_s: float = 1.0,
        speed: float = 1.0,
        tick_sizes: Mapping[int, float | None] = MappingProxyType({}),
        limits: EventLimits = NO_LIMITS,
        max_backlog_events: int = MAX_BACKLOG_EVENTS,
        on_notice: NoticeHandler = lambda _text, _kind: None,
    ) -> None:
        self._clock = clock
        self._on_alert = on_alert
        self._symbols = {_TRADED_ID: symbol} | ({_REFERENCE_ID: reference_symbol} if reference_symbol else {})
        checked = {
            number: CheckedSymbol(name, tick_sizes.get(number), _OFF_TICK)
            for number, name in ((symbol_id - _TRADED_ID, name) for symbol_id, name in self._symbols.items())
        }
        self._prices = DisplayPrices()
        self._checks = EventChecks(limits, checked, on_alert)
        self._depth_levels = depth_levels
        self._max_backlog = max_backlog_events
        self._ask_again_s = settings.reconnect_max_delay_s
        self._silence = SilenceTimer(timer_interval_s, speed)
        self._link = DtcClient(
            settings,
            clock,
            rng,
            name="prices",
            on_messages=self._arrived,
            on_state=self._state_changed,
            on_notice=on_notice,
            symbols={symbol_id: symbol_id - _TRADED_ID for symbol_id in self._symbols},
        )
        self._outlet: Outlet | None = None
        self._over: asyncio.Future[None] | None = None
        self._available = True
        self._served = False  # the traded symbol's events have come at least once
        self._answer_s = settings.request_timeout_s
        self._answered = False  # the newest subscription to the traded symbol
        self._subscription = 0  # number of the newest
        self._undefined: set[int] = set()  # SymbolIDs whose definition is awaited before their prices are asked for

    @property
    def up(self) -> bool:
        """Whether the connection is logged on."""
        return self._link.up

    @property
    def lag(self) -> Lag:
        """How far the daemon is behind."""
        return Lag(0, 0, 0) if self._outlet is None else self._outlet.lag

    async def run(self, queue: BatchQueue) -> None:
        """Feed `queue` until `close`, then end it with `END`.

        Raises:
            MarketDataRefused: the server will not serve the symbol.
            LogonRefused: the server asked not to be called again.
        """
        self._outlet = Outlet(queue, self._max_backlog, self._hold_back, self._link.resume_reading)
        self._over = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.TaskGroup() as tasks:
                link = tasks.create_task(self._link.run(), name="prices link")
                helpers = [tasks.create_task(self._outlet.run()), tasks.create_task(self._mark_silence(self._outlet))]
                await self._over
                self._link.close()
                await link
                if len(held := self._checks.rest()):
                    self._outlet.offer(EventBatch(held, self._clock.monotonic_ns()))
                await self._outlet.drained()
                for helper in helpers:
                    helper.cancel()
        except BaseExceptionGroup as group:
            raise _first_reason(group) from group
        await queue.put(END)

    def close(self) -> None:
        """Log off; what has arrived still leaves, then `END`, and `run` returns."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    # ------------------------------------------------------------------------------------------- called by the link

    def _state_changed(self, up: bool, text: str) -> None:  # noqa: FBT001  as the link calls it
        if self._over is not None and self._over.done():
            return  # the link goes down because we end
        if not up:
            self._alert("prices_link_down", Priority.ERROR, f"no prices: {text}; trying again")
            return
        self._alert("prices_link_up", Priority.INFO, text)
        self._available = True
        self._subscribe()

    def _arrived(self, segments: list[Segment], received_ns: int) -> None:
        ingress_ns = self._link.arrived_ns
        for segment in segments:
            if isinstance(segment, np.ndarray):
                self._events(segment, received_ns, ingress_ns)
            else:
                self._message(segment, received_ns)

    def _events(self, events: EventArray, received_ns: int, ingress_ns: int) -> None:
        assert self._outlet is not None
        if len(self._symbols) == 1 or not events["symbol"].all():
            self._served = self._answered = True
        self._prices.apply(events)
        events = self._checks.check(events, received_ns, ingress_ns)
        if not len(events):
            return  # held until it is known whether the server has a time of its own
        mine = events["ts_ns"] if len(self._symbols) == 1 else events["ts_ns"][events["symbol"] == 0]
        if len(mine):
            self._silence.heard(int(mine[-1]), ingress_ns)
        self._outlet.offer(EventBatch(events, ingress_ns))

    def _message(self, message: Message, received_ns: int) -> None:
        if isinstance(message, MarketDataReject | MarketDepthReject | MarketDataSnapshot):
            self._answered |= message.SymbolID == _TRADED_ID
        if isinstance(message, MarketDataReject | MarketDepthReject):
            self._refused(message)
        elif isinstance(message, SecurityDefinitionResponse):
            self._define(message)
        elif isinstance(message, SecurityDefinitionReject):
            self._definition_answered(message.RequestID)
        elif isinstance(message, MarketDataFeedStatus):
            self._feed_status(message.Status, received_ns)
        elif isinstance(message, MarketDataFeedSymbolStatus) and message.SymbolID in self._symbols:
            self._symbol_status(message)

    # ------------------------------------------------------------------------------------------- subscriptions

    def _subscribe(self) -> None:
        """Ask for all we want; what may be missing from before is marked first.

        Prices are asked for once the definitions are there, which say by what they are to be multiplied: at once where
        the server says that it has none, and after `request_timeout_s` where it does not answer.
        """
        if self._silence.last_ts_ns:
            self._mark_gap()
        self._subscription += 1
        self._answered = False
        defines = self._link.server is not None and self._link.server.SecurityDefinitionsSupported
        self._undefined = set(self._symbols) if defines else set()
        definitions = [
            SecurityDefinitionForSymbolRequest(RequestID=symbol_id, Symbol=symbol)
            for symbol_id, symbol in self._symbols.items()
        ]
        if not self._send(*definitions):
            return
        if self._undefined:
            loop = asyncio.get_running_loop()
            loop.call_later(self._answer_s, self._prices_without_definition, self._subscription)
        else:
            self._request_prices()

    def _prices_without_definition(self, subscription: int) -> None:
        if self._undefined and self._link.up and self._subscription == subscription:
            self._undefined.clear()
            self._request_prices()

    def _request_prices(self) -> None:
        requests: list[Message] = [
            MarketDataRequest(RequestAction=RequestActionEnum.SUBSCRIBE, SymbolID=symbol_id, Symbol=symbol)
            for symbol_id, symbol in self._symbols.items()
        ]
        if self._depth_levels:
            requests.append(
                MarketDepthRequest(
                    RequestAction=RequestActionEnum.SUBSCRIBE,
                    SymbolID=_TRADED_ID,
                    Symbol=self._symbols[_TRADED_ID],
                    NumLevels=self._depth_levels,
                )
            )
        if self._send(*requests):
            loop = asyncio.get_running_loop()
            loop.call_later(self._answer_s, self._expect_answer, self._link.generation)

    def _send(self, *requests: Message) -> bool:
        """False when the link is down: it reports the loss, and the next connection subscribes."""
        try:
            self._link.send(*requests)
        except ConnectionLost as error:
            self._alert("prices_link_down", Priority.ERROR, f"no prices: {error}; trying again")
            return False
        return True

    def _expect_answer(self, generation: int) -> None:
        if self._answered or not self._link.up or self._link.generation != generation:
            return
        text = (
            f"the server took the logon but for {self._answer_s:g} s has neither served nor refused the prices of "
            f'{self._symbols[_TRADED_ID]}: look at its data service, or set feed.source = "scid"'
        )
        self._alert("market_data_unanswered", Priority.ERROR, text)

    def _define(self, definition: SecurityDefinitionResponse) -> None:
        """Take the definition of one of our symbols; a server may answer without the RequestID."""
        for symbol_id, name in self._symbols.items():
            if definition.RequestID == symbol_id or (not definition.RequestID and definition.Symbol == name):
                self._prices.define(symbol_id - _TRADED_ID, definition)
                self._definition_answered(symbol_id)

    def _definition_answered(self, symbol_id: int) -> None:
        if symbol_id in self._undefined:
            self._undefined.remove(symbol_id)
            if not self._undefined:
                self._request_prices()

    def _mark_gap(self) -> None:
        assert self._outlet is not None
        gap = marker(EventKind.GAP, self._silence.last_ts_ns, self._clock.now_ns())
        self._outlet.offer(EventBatch(gap, self._clock.monotonic_ns()))

    def _refused(self, reject: MarketDataReject | MarketDepthReject) -> None:
        symbol = self._symbols.get(reject.SymbolID)
        if symbol is None:
            return
        error = market_data_refused(reject, symbol)
        if isinstance(reject, MarketDepthReject) or reject.SymbolID != _TRADED_ID:
            self._alert("market_data_refused", Priority.WARNING, f"trading goes on without it: {error}")
        elif not self._served:
            self._fail(error)
        else:
            text = f"{symbol} is refused though it was served before ({reject.RejectText}); asking again"
            self._alert("market_data_refused", Priority.CRITICAL, text)
            generation = self._link.generation
            asyncio.get_running_loop().call_later(self._ask_again_s, self._ask_again, generation)

    def _ask_again(self, generation: int) -> None:
        if self._link.up and self._link.generation == generation:
            self._subscribe()

    def _fail(self, error: MarketDataRefused) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    def _feed_status(self, status: int, received_ns: int) -> None:
        """The server's own source of market data went away or came back."""
        if status == MarketDataFeedStatusEnum.MARKET_DATA_FEED_UNAVAILABLE:
            self._available = False
            text = "Sierra Chart has lost its market data: look at its connection to the data service"
            self._on_alert(Alert(received_ns, "market_data_unavailable", Priority.ERROR, text))
        elif status == MarketDataFeedStatusEnum.MARKET_DATA_FEED_AVAILABLE and not self._available:
            self._available = True
            if self._link.server is not None and self._link.server.ResubscribeWhenMarketDataFeedAvailable:
                self._subscribe()
            elif self._silence.last_ts_ns:
                self._mark_gap()

    def _symbol_status(self, message: MarketDataFeedSymbolStatus) -> None:
        if message.Status == MarketDataFeedStatusEnum.MARKET_DATA_FEED_UNAVAILABLE:
            symbol = self._symbols[message.SymbolID]
            text = f"the server has no market data for {symbol}: check the spelling and the data service"
            self._alert("market_data_unavailable", Priority.ERROR, text)

    # ------------------------------------------------------------------------------------------- silence and lag

    async def _mark_silence(self, outlet: Outlet) -> None:
        while True:
            await asyncio.sleep(self._silence.wait_s(self._clock.monotonic_ns()) + 0.001)  # a timer may fire 1 ms early
            monotonic_ns = self._clock.monotonic_ns()
            timer = self._silence.due(monotonic_ns, self._clock.now_ns())
            if timer is not None and not outlet.lag.backlog_events:
                outlet.offer(EventBatch(timer, monotonic_ns))

    def _hold_back(self) -> None:
        self._link.pause_reading()
        text = f"{self.lag.backlog_events} events wait for the daemon: it is too slow for this market or this machine"
        self._alert("feed_lags", Priority.WARNING, text)

    def _alert(self, code: str, priority: Priority, text: str) -> None:
        self._on_alert(Alert(self._clock.now_ns(), code, priority, text))


def _first_reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error raised on purpose, where there is one: a task group wraps even a single error."""
    known: BaseException = group.subgroup(MiaError) or group
    while isinstance(known, BaseExceptionGroup):
        known = known.exceptions[0]
    return known
