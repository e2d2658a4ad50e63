"""The paper broker: the paper exchange behind feed, entry and response latencies, driven by event time.

Everything happens at market events. We act on an event `feed_latency` after it happened, and a request takes
`entry_latency` from there to the exchange. The exchange's report arrives `response_latency` later; by then the feed has
brought us the events up to its latency before. Nothing depends on how the events are cut into arrays, so a replay is
exact. The assumptions, and when they are optimistic, are in docs/paper.md.
"""

from collections import deque
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mia_daemon.brokers.base import BrokerEventSink, WaitingHandler
from mia_daemon.brokers.paper_exchange import PaperExchange
from mia_daemon.brokers.paper_order import update_before_acceptance
from mia_daemon.clock import NS_PER_MS
from mia_daemon.config import BrokerSettings
from mia_daemon.market import LastTouch, MarketTrade
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    BalanceReport,
    Bracket,
    BrokerEvent,
    BrokerSnapshot,
    EventArray,
    EventKind,
    JournaledOrder,
    Order,
    OrderRole,
    OrderStatus,
)

_WORKING = frozenset({OrderStatus.WORKING, OrderStatus.PARTIAL, OrderStatus.REPLACED})

SCAN = 2048  # events searched in one pass for the next one that concerns an order


class PaperBroker:
    """Fills orders against the market events handed to `on_market`.

    Args:
        run_id: the prefix of the identifiers of orders and executions, which makes them unique for ever.
    """

    def __init__(self, instrument: Instrument, account: str, settings: BrokerSettings, run_id: str) -> None:
        self._exchange = PaperExchange(instrument, account, run_id, settings.paper_starting_cash, self._report_later)
        self._account = account
        self._half_tick = instrument.tick_size / 2
        feed_ms = settings.paper_feed_latency_ms
        self._entry_ns = round((feed_ms + settings.paper_entry_latency_ms) * NS_PER_MS)
        self._response_ns = round(max(settings.paper_response_latency_ms - feed_ms, 0.0) * NS_PER_MS)
        self._sink: BrokerEventSink = _no_sink
        self._now_ns = 0
        self._requests: deque[tuple[int, Callable[[int], None], tuple[Order, ...]]] = deque()
        self._reports: deque[tuple[int, BrokerEvent]] = deque()
        self._orders_sent = 0
        self._last_touch = LastTouch()
        self._trades_take = settings.paper_touch_after_trade == "next"

    @property
    def orders_sent(self) -> int:
        return self._orders_sent

    @property
    def has_own_clock(self) -> bool:
        return False

    @property
    def replaces(self) -> bool:
        return True

    def start(self, on_event: BrokerEventSink) -> None:
        self._sink = on_event

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:
        """Carry on where an earlier run stopped: the exchange exists in this process only.

        Stops, targets and exits continue to work; entries that had not filled are gone, with their stops and targets.
        """
        self._exchange.restore(position, average_price, cash)
        for order in orders:
            if order.order.role is not OrderRole.ENTRY and order.status in _WORKING:
                self._exchange.restore_order(
                    order.order, order.server_order_id, order.quantity, order.booked, order.price
                )

    # Requests: each arrives after the feed latency and the entry latency.

    def submit(self, order: Order) -> None:
        self._orders_sent += 1
        self._send(lambda ts_ns: self._exchange.submit(order, ts_ns), order)

    def submit_bracket(self, bracket: Bracket) -> None:
        self._orders_sent += 3
        orders = (bracket.entry, bracket.stop, bracket.target)
        self._send(lambda ts_ns: self._exchange.submit_bracket(bracket, ts_ns), *orders)

    def replace(self, client_order_id: str, server_order_id: str, price: float, quantity: int) -> None:  # noqa: ARG002
        self._send(lambda ts_ns: self._exchange.replace(client_order_id, price, quantity, ts_ns))

    def cancel(self, client_order_id: str, server_order_id: str) -> None:  # noqa: ARG002  # ours is enough here
        self._send(lambda ts_ns: self._exchange.cancel(client_order_id, ts_ns))

    def flatten(self, order: Order) -> None:
        self._orders_sent += 1
        self._send(lambda ts_ns: self._exchange.flatten(order, ts_ns), order)

    def _send(self, request: Callable[[int], None], *orders: Order) -> None:
        self._requests.append((self._now_ns + self._entry_ns, request, orders))

    # The market.

    def on_market(self, events: EventArray) -> int:
        done = 0
        while (found := self._next(events, done)) < len(events):
            self._skip(events[done:found])
            done = found + 1
            if self._process(events[found:done]):
                return done
        self._skip(events[done:])
        return len(events)

    def _next(self, events: EventArray, start: int) -> int:
        """Index of the first event from `start` at which anything may happen; the number of events when there is none.

        It may be an event at which nothing happens, but never one too late.
        """
        low, high, aggressive = self._watched()
        idle = low == -np.inf and high == np.inf and not (self._requests or self._reports)
        if idle:
            return len(events)
        if aggressive:
            return start
        for first in range(start, len(events), SCAN):
            part = events[first : first + SCAN]
            hits = self._hits(part, low, high)
            found = int(hits.argmax())
            if hits[found]:
                return first + found
        return len(events)

    def _watched(self) -> tuple[float, float, bool]:
        """Prices at or below, and at or above, which something may happen; and whether an order is aggressive."""
        low, high, aggressive = -np.inf, np.inf, False
        for paper in self._exchange.orders:
            if paper.working:
                aggressive |= paper.match.aggressive
                if paper.watches_below:
                    low = max(low, paper.terms.price + self._half_tick)
                else:
                    high = min(high, paper.terms.price - self._half_tick)
        return low, high, aggressive

    def _hits(self, events: EventArray, low: float, high: float) -> NDArray[np.bool_]:
        ts, price = events["ts_ns"], events["price"]
        hits: NDArray[np.bool_] = (price <= low) | (events["bid"] <= low) | (price >= high) | (events["ask"] >= high)
        if self._requests:
            hits |= ts > self._requests[0][0]
        if self._reports:
            hits |= ts >= self._reports[0][0]
        return hits

    def _skip(self, events: EventArray) -> None:
        """Events at which nothing happens: only the last touch and the time are kept."""
        if not len(events):
            return
        self._now_ns = max(self._now_ns, int(events["ts_ns"].max()))
        if self._last_touch.on_events(events):
            self._exchange.update_touch(self._last_touch.touch)
            self._take_from_touch()

    def _process(self, event: EventArray) -> bool:
        """One event: requests that arrived before it, the event itself, reports due by then; true if any was due."""
        ts_ns = int(event["ts_ns"][0])
        while self._requests and self._requests[0][0] < ts_ns:
            arrival_ns, request, _ = self._requests.popleft()
            request(arrival_ns)
        self._now_ns = max(self._now_ns, ts_ns)
        if event["symbol"][0] == 0:
            self._apply(event)
        reported = False
        while self._reports and self._reports[0][0] <= self._now_ns:
            reported = True
            self._sink(self._reports.popleft()[1])
        return reported

    def _apply(self, event: EventArray) -> None:
        """An event of our symbol reaches the exchange. The rest of an order fills only at an event with a touch: a
        silent or closed market fills nothing.
        """
        has_touch = self._last_touch.on_events(event)
        if has_touch:
            self._exchange.update_touch(self._last_touch.touch)
            self._take_from_touch()
        if event["kind"][0] == EventKind.TRADE:
            trade = MarketTrade(float(event["price"][0]), float(event["size"][0]), int(event["side"][0]))
            self._exchange.on_trade(self._now_ns, trade)
        if has_touch:
            self._exchange.on_touch(self._now_ns)

    def _take_from_touch(self) -> None:
        """A touch that came with a trade is the one that the trade met, and no longer there."""
        if self._trades_take and (trade := self._last_touch.trade) is not None:
            self._exchange.take_from_touch(trade, self._now_ns)

    def _report_later(self, ts_ns: int, event: BrokerEvent) -> None:
        self._reports.append((ts_ns + self._response_ns, event))

    # Queries.

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        """The exchange as it is now. Orders still in transit count as accepted: they would arrive before a query."""
        exchange, now = self._exchange, self._now_ns
        listed = [paper.update(now, paper.status, "", unsolicited=False) for paper in exchange.orders]
        listed += [
            update_before_acceptance(order, now, OrderStatus.ACCEPTED, unsolicited=False)
            for _, _, orders in self._requests
            for order in orders
        ]
        return BrokerSnapshot(
            ts_ns=now,
            open_orders=tuple(listed),
            fills=tuple(fill for fill in exchange.fills if fill.ts_ns >= since_ns),
            positions=(exchange.position_report(now, unsolicited=False),),
            balance=BalanceReport(now, self._account, exchange.cash),
        )

    async def connect(self, on_waiting: WaitingHandler | None = None) -> None:
        """Always ready."""

    async def close(self) -> None:
        """Nothing to close."""


def _no_sink(_event: BrokerEvent) -> None:
    raise RuntimeError("a broker was used before start() named the sink of its events")
