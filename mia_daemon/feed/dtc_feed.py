"""A live feed over DTC: subscribes, and keeps subscribed through whatever happens to the connection."""

import asyncio
import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from mia_daemon.clock import Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc.enums import MarketDataFeedStatusEnum
from mia_daemon.dtc.market_data import Segment
from mia_daemon.dtc.messages import (
    MarketDataFeedStatus,
    MarketDataFeedSymbolStatus,
    MarketDataReject,
    MarketDataSnapshot,
    MarketDepthReject,
    Message,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
)
from mia_daemon.errors import ConnectionLost, MarketDataRefused, MiaError
from mia_daemon.feed.base import BatchQueue, EventBatch
from mia_daemon.feed.display_prices import DisplayPrices
from mia_daemon.feed.event_checks import NO_LIMITS, CheckedSymbol, EventChecks, EventLimits
from mia_daemon.feed.outlet import Lag, Outlet
from mia_daemon.feed.silence import SilenceTimer, marker
from mia_daemon.feed.subscriptions import REFERENCE_ID, TRADED_ID, Subscriptions
from mia_daemon.link.client import DtcClient, NoticeHandler, market_data_refused
from mia_daemon.records import Alert, AlertSink, EventArray, EventKind, Priority
from mia_daemon.stage import END

MAX_BACKLOG_EVENTS: Final = 1 << 18
"""Rows (16 MB) that may wait for the daemon before the server is held back by not reading from it."""

_OFF_TICK: Final = (
    "look at the price format and the real-time price multiplier of the symbol in Sierra Chart, and compare its chart; "
    "feed.price_multiplier and reference.price_multiplier correct prices in files only"
)


class DtcFeed:
    """Trades, quotes and depth of one symbol, and trades and quotes of a reference symbol if one is named.

    After every reconnection it subscribes again and marks what may be missing with a GAP event. A server that refuses
    the traded symbol's prices ends the feed when it has never served them; when it has, it is asked again. Refused
    depth, or a refused reference symbol, is an alert.

    Where the server has definitions, a symbol's prices are requested once its own is known, which says by what they are
    to be multiplied. One that is not answered is reported and requested again; the other symbol does not wait for it.

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
        self._symbols = {TRADED_ID: symbol} | ({REFERENCE_ID: reference_symbol} if reference_symbol else {})
        checked = {
            number: CheckedSymbol(name, tick_sizes.get(number), _OFF_TICK)
            for number, name in ((symbol_id - TRADED_ID, name) for symbol_id, name in self._symbols.items())
        }
        self._subscriptions = Subscriptions(self._symbols, depth_levels)
        self._prices = DisplayPrices()
        self._checks = EventChecks(limits, checked, on_alert)
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
            symbols={symbol_id: symbol_id - TRADED_ID for symbol_id in self._symbols},
        )
        self._outlet: Outlet | None = None
        self._over: asyncio.Future[None] | None = None
        self._available = True
        self._served: set[int] = set()  # SymbolIDs whose events have come at least once
        self._newest_ns = 0  # exchange time of the newest event sent on, of any symbol; 0 before the first
        self._answer_s = settings.request_timeout_s
        self._answered = False  # the newest subscription to the traded symbol
        self._subscription = 0  # number of the newest

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
            self._answered = True
        for symbol_id in self._symbols.keys() - self._served:
            if (events["symbol"] == symbol_id - TRADED_ID).any():
                self._served.add(symbol_id)
        self._prices.apply(events)
        events = self._checks.check(events, received_ns, ingress_ns)
        if not len(events):
            return  # held until it is known whether the server has a time of its own
        self._newest_ns = max(self._newest_ns, int(events["ts_ns"][-1]))
        mine = events["ts_ns"] if len(self._symbols) == 1 else events["ts_ns"][events["symbol"] == 0]
        if len(mine):
            self._silence.heard(int(mine[-1]), ingress_ns)
        self._outlet.offer(EventBatch(events, ingress_ns))

    def _message(self, message: Message, received_ns: int) -> None:
        if isinstance(message, MarketDataReject | MarketDepthReject | MarketDataSnapshot):
            self._answered |= message.SymbolID == TRADED_ID
        if isinstance(message, MarketDataReject | MarketDepthReject):
            self._refused(message)
        elif isinstance(message, SecurityDefinitionResponse):
            self._define(message)
        elif isinstance(message, SecurityDefinitionReject):
            self._definition_refused(message)
        elif isinstance(message, MarketDataFeedStatus):
            self._feed_status(message.Status, received_ns)
        elif isinstance(message, MarketDataFeedSymbolStatus) and message.SymbolID in self._symbols:
            self._symbol_status(message)

    # ------------------------------------------------------------------------------------------- subscriptions

    def _subscribe(self) -> None:
        """Request all we want; what may be missing from before is marked first.

        Definitions are requested also where they are known: they may have changed.
        """
        self._mark_gap()
        self._subscription += 1
        self._answered = False
        server = self._link.server
        ready = self._subscriptions.start(defined=server is not None and bool(server.SecurityDefinitionsSupported))
        if self._request_definitions(self._symbols):
            self._request_prices(*ready)

    def _request_definitions(self, symbol_ids: Iterable[int]) -> bool:
        """Look after `request_timeout_s` whether prices still wait. False when the link is down."""
        if not self._send(*self._subscriptions.definition_requests(symbol_ids)):
            return False
        loop = asyncio.get_running_loop()
        loop.call_later(self._answer_s, self._request_definitions_again, self._subscription)
        return True

    def _request_definitions_again(self, subscription: int) -> None:
        waiting = self._subscriptions.waiting
        if not waiting or not self._is_newest(subscription):
            return
        text = (
            f"no prices of {self._subscriptions.names(waiting)}: for {self._answer_s:g} s the server has not answered "
            "the request for the security definition, without which the multiplier of prices is not known; asking "
            "again. Look at the spelling of the symbol and at the data service of Sierra Chart, or set "
            'feed.source = "scid"'
        )
        self._alert("definition_unanswered", Priority.ERROR, text)
        self._request_definitions(waiting)

    def _request_prices(self, *symbol_ids: int) -> None:
        requests = self._subscriptions.price_requests(symbol_ids)
        if self._send(*requests) and TRADED_ID in symbol_ids:
            loop = asyncio.get_running_loop()
            loop.call_later(self._answer_s, self._expect_answer, self._subscription)

    def _is_newest(self, subscription: int) -> bool:
        return self._link.up and self._subscription == subscription

    def _send(self, *requests: Message) -> bool:
        """False when the link is down: it reports the loss, and the next connection subscribes."""
        try:
            self._link.send(*requests)
        except ConnectionLost as error:
            self._alert("prices_link_down", Priority.ERROR, f"no prices: {error}; trying again")
            return False
        return True

    def _expect_answer(self, subscription: int) -> None:
        if self._answered or not self._is_newest(subscription):
            return
        text = (
            f"the server took the logon but for {self._answer_s:g} s has neither served nor refused the prices of "
            f'{self._symbols[TRADED_ID]}: look at its data service, or set feed.source = "scid"'
        )
        self._alert("market_data_unanswered", Priority.ERROR, text)

    def _define(self, definition: SecurityDefinitionResponse) -> None:
        for symbol_id in self._subscriptions.defined_by(definition):
            rescaled = self._prices.define(symbol_id - TRADED_ID, definition) and symbol_id in self._served
            if rescaled:
                self._mark_gap()
            # At another scale prices are requested again: the order book received so far is at the old one.
            if self._subscriptions.end_wait(symbol_id, known=True) or rescaled:
                self._request_prices(symbol_id)

    def _definition_refused(self, reject: SecurityDefinitionReject) -> None:
        refused = self._subscriptions.refused_by(reject)
        if not refused:
            return
        reason = f" ({reject.RejectText})" if reject.RejectText else ""
        text = (
            f"the server refuses the security definition of {self._subscriptions.names(refused)}{reason}: the "
            "multiplier of prices is not known, and they are taken as they come; compare them with the chart in "
            "Sierra Chart"
        )
        self._alert("definition_refused", Priority.WARNING, text)
        for symbol_id in refused:
            self._subscriptions.end_wait(symbol_id, known=False)
        self._request_prices(*refused)

    def _mark_gap(self) -> None:
        """Nothing before the first event: nothing can be missing."""
        if not self._newest_ns:
            return
        assert self._outlet is not None
        gap = marker(EventKind.GAP, self._newest_ns, self._clock.now_ns())
        self._outlet.offer(EventBatch(gap, self._clock.monotonic_ns()))

    def _refused(self, reject: MarketDataReject | MarketDepthReject) -> None:
        symbol = self._symbols.get(reject.SymbolID)
        if symbol is None:
            return
        error = market_data_refused(reject, symbol)
        if isinstance(reject, MarketDepthReject) or reject.SymbolID != TRADED_ID:
            self._alert("market_data_refused", Priority.WARNING, f"trading goes on without it: {error}")
        elif TRADED_ID not in self._served:
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
            else:
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
