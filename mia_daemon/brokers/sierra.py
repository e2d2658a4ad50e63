"""Orders through Sierra Chart: DTC trading messages over a `DtcClient`.

Nothing about an order is ever sent twice. Connecting and queries are repeated, at most three times with 2, 4, … seconds
between; the caller has to query what was sent and not answered. A request that can't be sent because the link is down
is reported as refused: it certainly never left.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from mia_daemon.brokers.base import BrokerEventSink
from mia_daemon.brokers.sierra_mapping import ENDED, DtcOrderMapper, contracts
from mia_daemon.brokers.sierra_orders import SierraOrders
from mia_daemon.brokers.sierra_startup import check_account, query_multiplier, wait_until_up
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.market_data import Segment
from mia_daemon.errors import ConnectionLost, PeerError, RequestTimeout, StartError, UsageError
from mia_daemon.link.client import DtcClient, NoticeHandler
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    Bracket,
    BrokerEvent,
    BrokerSnapshot,
    EventArray,
    Fill,
    JournaledOrder,
    LinkReport,
    LinkState,
    Order,
    OrderReport,
    OrderStatus,
)

ATTEMPTS: Final = 3  # of queries, never of orders
BETWEEN_ATTEMPTS: Final = wait_exponential(multiplier=2)  # 2, 4 seconds


class SierraBroker:
    """One account and one symbol at a DTC server.

    Args:
        settings: of the connection.
        instrument: orders, fills and positions of others are ignored; its tick size must be the server's.
        account: the trade account; it must exist there and trading must be enabled.
        rng: for the jitter of reconnection.
        on_notice: called with the server's messages to users.
    """

    def __init__(
        self,
        settings: DtcSettings,
        instrument: Instrument,
        account: str,
        clock: Clock,
        rng: random.Random,
        on_notice: NoticeHandler = lambda _text, _kind: None,
    ) -> None:
        self.link = DtcClient(
            settings,
            clock,
            rng,
            name="orders",
            on_messages=self._on_messages,
            on_state=self._on_link_state,
            on_notice=on_notice,
        )
        self._instrument = instrument
        self._account = account
        self._sink: BrokerEventSink = _no_sink
        self._mapper = DtcOrderMapper(instrument, account)
        self._orders = SierraOrders()
        self._held_back: dict[str, list[Callable[[str], None]]] = {}
        self._fetching = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: asyncio.Task[None] | None = None
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            dtc.OrderUpdate: self._on_order_update,
            dtc.PositionUpdate: self._on_position,
            dtc.AccountBalanceUpdate: self._on_balance,
        }

    @property
    def orders_sent(self) -> int:
        return self.link.orders_sent

    def start(self, on_event: BrokerEventSink) -> None:
        self._sink = on_event

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:  # noqa: ARG002  # the server has the account
        """Take over the server's ids of earlier orders: without them those can't be cancelled."""
        for order in orders:
            self._orders.learn_id(order.order.client_order_id, order.server_order_id)

    def on_market(self, events: EventArray) -> int:
        """Nothing to do: the server has its own market data."""
        return len(events)

    # Requests.

    def submit(self, order: Order) -> None:
        self._send_orders((order,), self._mapper.single(order))

    def submit_bracket(self, bracket: Bracket) -> None:
        """The entry as a parent order, stop and target as the OCO pair that it triggers, in one write."""
        mapper = self._mapper
        orders = (bracket.entry, bracket.stop, bracket.target)
        self._send_orders(orders, mapper.single(bracket.entry, is_parent=1), mapper.pair(bracket))

    def flatten(self, order: Order) -> None:
        self._send_orders((order,), self._mapper.flatten(order))

    def cancel(self, client_order_id: str) -> None:
        def message(server_id: str) -> dtc.Message:
            return self._mapper.cancel(client_order_id, server_id)

        self._send_change(client_order_id, OrderStatus.CANCEL_REJECTED, message)

    def replace(self, client_order_id: str, price: float, quantity: int) -> None:
        def message(server_id: str) -> dtc.Message:
            return self._mapper.replace(client_order_id, server_id, price, quantity)

        self._send_change(client_order_id, OrderStatus.REPLACE_REJECTED, message)

    def _send_orders(self, orders: tuple[Order, ...], *messages: dtc.Message) -> None:
        try:
            self.link.send(*messages)
        except (ConnectionLost, UsageError) as error:
            for order in orders:
                self._sink(self._mapper.refusal(order.client_order_id, OrderStatus.REJECTED, f"not sent: {error}"))

    def _send_change(self, client_order_id: str, refusal: OrderStatus, message: Callable[[str], dtc.Message]) -> None:
        """Send it with the server's id of the order; hold it back while that is not known.

        Without the id the server would ignore the request without an answer.
        """

        def send(server_id: str) -> None:
            try:
                self.link.send(message(server_id))
            except (ConnectionLost, UsageError) as error:
                self._sink(self._mapper.refusal(client_order_id, refusal, f"not sent: {error}"))

        if (server_id := self._orders.server_id(client_order_id)) is not None:
            send(server_id)
        elif self.link.up:
            self._held_back.setdefault(client_order_id, []).append(send)
        else:
            self._sink(self._mapper.refusal(client_order_id, refusal, "not sent: the link is down"))

    # Messages from the server.

    def _on_messages(self, segments: list[Segment], _received_ns: int) -> None:
        for segment in segments:
            handler = self._handlers.get(type(segment))
            if handler is not None:
                handler(segment)

    def _on_link_state(self, up: bool, text: str) -> None:  # noqa: FBT001  # as DtcClient calls it
        self._held_back.clear()
        self._sink(LinkReport(self._mapper.newest_ns, LinkState.UP if up else LinkState.DOWN, text))

    def _on_order_update(self, message: dtc.OrderUpdate) -> None:
        if message.NoOrders or not self._mapper.concerns(message):
            return
        client_id = message.ClientOrderID or self._orders.client_id(message.ServerOrderID)
        if client_id:
            self._orders.learn_id(client_id, message.ServerOrderID)
        self._mapper.observe_time(message)
        if (fill := self._mapper.fill(message, client_id)) is not None:
            self._emit_fill(fill)
        update = self._mapper.update(message, client_id, unsolicited=True)
        if update is not None:
            self._sink(update)
        if client_id and contracts(message.FilledQuantity) > self._orders.filled(client_id):
            self._fetch_fills()
        if update is not None and update.status in ENDED:
            self._held_back.pop(client_id, None)
        for send in self._held_back.pop(client_id, ()) if message.ServerOrderID else ():
            send(message.ServerOrderID)

    def _emit_fill(self, fill: Fill) -> None:
        """Report each execution once."""
        if self._orders.add_execution(fill):
            self._sink(fill)

    def _on_position(self, message: dtc.PositionUpdate) -> None:
        if not message.NoPositions and self._mapper.concerns(message):
            self._sink(self._mapper.position(message, unsolicited=True))

    def _on_balance(self, message: dtc.AccountBalanceUpdate) -> None:
        if not message.NoAccountBalances and message.TradeAccount == self._account:
            self._sink(self._mapper.balance(message))

    # Queries.

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        orders = await self._ask(dtc.OpenOrdersRequest(RequestAllOrders=1, TradeAccount=self._account))
        fills = await self._ask_fills(since_ns)
        for fill in fills:
            self._orders.add_execution(fill)
        positions = await self._ask(dtc.CurrentPositionsRequest(TradeAccount=self._account))
        balances = await self._ask(dtc.AccountBalanceRequest(TradeAccount=self._account))
        balance = next((one for one in balances if one.TradeAccount == self._account), None)
        return BrokerSnapshot(
            ts_ns=self._mapper.newest_ns,
            open_orders=tuple(self._listed(orders)),
            fills=tuple(fills),
            positions=tuple(self._mapper.position(one, unsolicited=False) for one in positions),
            balance=None if balance is None else self._mapper.balance(balance),
        )

    def _listed(self, orders: list[Any]) -> list[OrderReport]:
        found = []
        for message in orders:
            client_id = message.ClientOrderID or self._orders.client_id(message.ServerOrderID)
            if client_id and self._mapper.concerns(message):
                self._orders.learn_id(client_id, message.ServerOrderID)
            update = self._mapper.update(message, client_id, unsolicited=False)
            if update is not None:
                found.append(update)
        return found

    async def _ask_fills(self, since_ns: int) -> list[Fill]:
        """Executions since then. The message has no client order id; it is added if the server's id is known."""
        request = dtc.HistoricalOrderFillsRequest(TradeAccount=self._account, StartDateTime=since_ns // NS_PER_S)
        found = (
            self._mapper.past_fill(message, self._orders.client_id(message.ServerOrderID))
            for message in await self._ask(request)
        )
        return [fill for fill in found if fill is not None]

    def _fetch_fills(self) -> None:
        """More has filled than was reported: query the executions now, one query at a time."""
        if self._fetching:
            return
        self._fetching = True
        task = asyncio.get_running_loop().create_task(self._fetch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self) -> None:
        try:
            fills = await self._ask_fills(self._mapper.newest_ns - 60 * NS_PER_S)
        except PeerError:
            return  # the fill is still missing, and the executor requests a snapshot
        finally:
            self._fetching = False
        for fill in fills:
            if fill.client_order_id and (fill.symbol, fill.account) == (self._instrument.symbol, self._account):
                self._emit_fill(fill)

    async def _ask(self, request: dtc.Message) -> list[Any]:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=BETWEEN_ATTEMPTS,
            retry=retry_if_exception_type(RequestTimeout),
            reraise=True,
        )
        return await retrying(self.link.request, request)

    # Connecting and closing.

    async def connect(self) -> None:
        """Log on, check the account, query the price scale.

        Raises:
            StartError: this is impossible; the text says what to change at the server or in the configuration.
        """
        self._running = asyncio.get_running_loop().create_task(self.link.run(), name="orders link")
        self._running.add_done_callback(self._link_ended)
        try:
            await wait_until_up(self.link, self._running)
            await check_account(self._ask, self._account, self.link.address)
            self._mapper.multiplier = await query_multiplier(self._ask, self._instrument, self.link.address)
        except PeerError as error:
            await self.close()
            raise StartError(f"orders can't be sent: {error}") from error
        except StartError:
            await self.close()
            raise

    def _link_ended(self, task: "asyncio.Task[None]") -> None:
        """The link has ended for good, and not by us."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._sink(LinkReport(self._mapper.newest_ns, LinkState.DOWN, f"{error}; it will not be called again"))

    async def close(self) -> None:
        self.link.close()
        if self._running is not None:
            await asyncio.wait({self._running})
        for task in self._tasks:
            task.cancel()


def _no_sink(_event: BrokerEvent) -> None:
    raise RuntimeError("a broker was used before start() named the sink of its events")
