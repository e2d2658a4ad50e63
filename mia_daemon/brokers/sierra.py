"""Orders through Sierra Chart: DTC trading messages over a `DtcClient`.

Nothing about an order is ever sent twice. Connecting and queries are repeated, at most three times with 2, 4, … seconds
between; what was sent and not answered is the caller's to ask about. A request that can't leave because the link is
down is answered here, as refused: it certainly never left.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from mia_daemon.brokers.base import BrokerEventSink
from mia_daemon.brokers.sierra_mapping import ENDED, DtcOrderMapper, contracts
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.market_data import Segment
from mia_daemon.errors import ConnectionLost, LogonRefused, PeerError, RequestTimeout, StartError, UsageError
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
    OrderStatus,
    OrderUpdate,
)

ATTEMPTS: Final = 3  # at connecting and at queries, never at orders
PATIENCE_S: Final = (2.0, 4.0, 8.0)  # 2^attempt, to come up at the start
BETWEEN_ATTEMPTS: Final = wait_exponential(multiplier=2)  # 2, 4 seconds
KEPT_ORDERS: Final = 4096  # whose server numbers are remembered


class SierraBroker:
    """One account and one symbol at a DTC server.

    Args:
        settings: of the connection.
        instrument: whose orders, fills and positions are looked at; its tick size must be the server's.
        account: that is traded; it must exist there and trading must be enabled.
        rng: for the jitter of reconnection.
        on_notice: told what the server says to people.
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
        self._sink: BrokerEventSink = _nobody
        self._words = DtcOrderMapper(instrument, account)
        self._server_ids: dict[str, str] = {}
        self._client_ids: dict[str, str] = {}
        self._shown: Counter[str] = Counter()  # contracts of fills told, by client order id
        self._executions: dict[str, None] = {}  # told, oldest first
        self._held_back: dict[str, list[Callable[[], None]]] = {}
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
        """Learn the server's numbers of earlier orders: without them those can't be cancelled."""
        for order in orders:
            self._learn(order.order.client_order_id, order.server_order_id)

    def on_market(self, events: EventArray) -> int:
        """The server has its own market."""
        return len(events)

    # Requests.

    def submit(self, order: Order) -> None:
        self._send_orders((order,), self._words.single(order))

    def submit_bracket(self, bracket: Bracket) -> None:
        """The entry as a parent order, stop and target as the OCO pair it triggers, in one write."""
        words = self._words
        orders = (bracket.entry, bracket.stop, bracket.target)
        self._send_orders(orders, words.single(bracket.entry, is_parent=1), words.pair(bracket))

    def flatten(self, order: Order) -> None:
        self._send_orders((order,), self._words.flatten(order))

    def cancel(self, client_order_id: str) -> None:
        def message(server_id: str) -> dtc.Message:
            return self._words.cancel(client_order_id, server_id)

        self._send_change(client_order_id, OrderStatus.CANCEL_REJECTED, message)

    def replace(self, client_order_id: str, price: float, quantity: int) -> None:
        def message(server_id: str) -> dtc.Message:
            return self._words.replace(client_order_id, server_id, price, quantity)

        self._send_change(client_order_id, OrderStatus.REPLACE_REJECTED, message)

    def _send_orders(self, orders: tuple[Order, ...], *messages: dtc.Message) -> None:
        try:
            self.link.send(*messages)
        except (ConnectionLost, UsageError) as error:
            for order in orders:
                self._sink(self._words.refusal(order.client_order_id, OrderStatus.REJECTED, f"not sent: {error}"))

    def _send_change(self, client_order_id: str, refusal: OrderStatus, message: Callable[[str], dtc.Message]) -> None:
        """Send it under the order's server number; wait for that number where it is not known yet.

        Without it the server would ignore the request, and say nothing.
        """

        def send() -> None:
            try:
                self.link.send(message(self._server_ids[client_order_id]))
            except (ConnectionLost, UsageError) as error:
                self._sink(self._words.refusal(client_order_id, refusal, f"not sent: {error}"))

        if client_order_id in self._server_ids:
            send()
        elif self.link.up:
            self._held_back.setdefault(client_order_id, []).append(send)
        else:
            self._sink(self._words.refusal(client_order_id, refusal, "not sent: the link is down"))

    # What the server says.

    def _on_messages(self, segments: list[Segment], _received_ns: int) -> None:
        for segment in segments:
            handler = self._handlers.get(type(segment))
            if handler is not None:
                handler(segment)

    def _on_link_state(self, up: bool, text: str) -> None:  # noqa: FBT001  # as DtcClient calls it
        self._held_back.clear()
        self._sink(LinkReport(self._words.newest_ns, LinkState.UP if up else LinkState.DOWN, text))

    def _on_order_update(self, message: dtc.OrderUpdate) -> None:
        if message.NoOrders or not self._words.concerns(message):
            return
        client_id = message.ClientOrderID or self._client_ids.get(message.ServerOrderID, "")
        if client_id:
            self._learn(client_id, message.ServerOrderID)
        self._words.hear(message)
        if (fill := self._words.fill(message, client_id)) is not None:
            self._tell_fill(fill)
        update = self._words.update(message, client_id, unsolicited=True)
        if update is not None:
            self._sink(update)
        if client_id and contracts(message.FilledQuantity) > self._shown[client_id]:
            self._fetch_fills()
        if update is not None and update.status in ENDED:
            self._held_back.pop(client_id, None)
        for send in self._held_back.pop(client_id, ()) if message.ServerOrderID else ():
            send()

    def _learn(self, client_id: str, server_id: str) -> None:
        if not server_id or self._server_ids.get(client_id) == server_id:
            return
        self._server_ids[client_id] = server_id
        self._client_ids[server_id] = client_id
        if len(self._client_ids) > 2 * KEPT_ORDERS:
            for number in tuple(islice(self._client_ids, KEPT_ORDERS)):
                old = self._client_ids.pop(number)
                if self._server_ids.get(old) == number:
                    del self._server_ids[old]
                    self._shown.pop(old, None)

    def _tell_fill(self, fill: Fill) -> None:
        """Each execution once."""
        if self._is_new(fill):
            self._sink(fill)

    def _is_new(self, fill: Fill) -> bool:
        """Whether nobody was told of it yet; from now on somebody was."""
        if fill.execution_id in self._executions:
            return False
        self._executions[fill.execution_id] = None
        self._shown[fill.client_order_id] += fill.quantity
        if len(self._executions) > KEPT_ORDERS:
            del self._executions[next(iter(self._executions))]
        return True

    def _on_position(self, message: dtc.PositionUpdate) -> None:
        if not message.NoPositions and self._words.concerns(message):
            self._sink(self._words.position(message, unsolicited=True))

    def _on_balance(self, message: dtc.AccountBalanceUpdate) -> None:
        if not message.NoAccountBalances and message.TradeAccount == self._account:
            self._sink(self._words.balance(message))

    # Queries.

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        orders = await self._ask(dtc.OpenOrdersRequest(RequestAllOrders=1, TradeAccount=self._account))
        fills = await self._ask_fills(since_ns)
        for fill in fills:
            self._is_new(fill)
        positions = await self._ask(dtc.CurrentPositionsRequest(TradeAccount=self._account))
        balances = await self._ask(dtc.AccountBalanceRequest(TradeAccount=self._account))
        balance = next((one for one in balances if one.TradeAccount == self._account), None)
        return BrokerSnapshot(
            ts_ns=self._words.newest_ns,
            open_orders=tuple(self._listed(orders)),
            fills=tuple(fills),
            positions=tuple(self._words.position(one, unsolicited=False) for one in positions),
            balance=None if balance is None else self._words.balance(balance),
        )

    def _listed(self, orders: list[Any]) -> list[OrderUpdate]:
        found = []
        for message in orders:
            client_id = message.ClientOrderID or self._client_ids.get(message.ServerOrderID, "")
            if client_id and self._words.concerns(message):
                self._learn(client_id, message.ServerOrderID)
            update = self._words.update(message, client_id, unsolicited=False)
            if update is not None:
                found.append(update)
        return found

    async def _ask_fills(self, since_ns: int) -> list[Fill]:
        """Executions since then. Their order is named where its number is known; this message has no place for it."""
        request = dtc.HistoricalOrderFillsRequest(TradeAccount=self._account, StartDateTime=since_ns // NS_PER_S)
        told = (
            self._words.past_fill(message, self._client_ids.get(message.ServerOrderID, ""))
            for message in await self._ask(request)
        )
        return [fill for fill in told if fill is not None]

    def _fetch_fills(self) -> None:
        """More has filled than was shown: ask for the executions now, once at a time."""
        if self._fetching:
            return
        self._fetching = True
        task = asyncio.get_running_loop().create_task(self._fetch())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self) -> None:
        try:
            fills = await self._ask_fills(self._words.newest_ns - 60 * NS_PER_S)
        except PeerError:
            return  # the fill is still missing, and the executor asks for the whole book
        finally:
            self._fetching = False
        for fill in fills:
            if fill.client_order_id and (fill.symbol, fill.account) == (self._instrument.symbol, self._account):
                self._tell_fill(fill)

    async def _ask(self, request: dtc.Message) -> list[Any]:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=BETWEEN_ATTEMPTS,
            retry=retry_if_exception_type(RequestTimeout),
            reraise=True,
        )
        return await retrying(self.link.request, request)

    # Coming and going.

    async def connect(self) -> None:
        """Log on, find the account, learn the price scale.

        Raises:
            StartError: that can't be; the text says what to change at the server or in the configuration.
        """
        self._running = asyncio.get_running_loop().create_task(self.link.run(), name="orders link")
        self._running.add_done_callback(self._link_ended)
        try:
            await self._come_up()
            await self._check_account()
            await self._learn_scale()
        except PeerError as error:
            await self.close()
            raise StartError(f"orders can't be sent: {error}") from error
        except StartError:
            await self.close()
            raise

    async def _come_up(self) -> None:
        """The link calls again and again on its own; it is given three spans of time to come up."""
        for attempt, patience_s in enumerate(PATIENCE_S, 1):
            try:
                await self._ready(patience_s)
                break
            except ConnectionLost:
                if attempt == len(PATIENCE_S):
                    raise
        server = self.link.server
        if server is not None and not server.TradingIsSupported:
            raise StartError(
                f"{self.link.address} does not take orders: enable Allow Trading in its DTC server settings"
            )

    async def _ready(self, patience_s: float) -> None:
        """The link is up, or has ended for good."""
        assert self._running is not None
        ready = asyncio.ensure_future(self.link.ready(patience_s))
        try:
            await asyncio.wait({ready, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                self._running.result()
                raise LogonRefused("the link ended before it was up", reconnect_allowed=False)
            ready.result()
        finally:
            ready.cancel()

    async def _check_account(self) -> None:
        accounts = await self._ask(dtc.TradeAccountsRequest())
        found = next((one for one in accounts if one.TradeAccount == self._account), None)
        if found is None:
            names = ", ".join(one.TradeAccount for one in accounts) or "none"
            raise StartError(
                f"trade account {self._account} does not exist at {self.link.address} (there: {names}); "
                "set instrument.trade_account, or Sierra Chart's Trade Simulation Mode"
            )
        if found.TradingIsDisabled:
            raise StartError(f"trading is disabled for account {self._account} at {self.link.address}")

    async def _learn_scale(self) -> None:
        """Prices in orders are the displayed ones divided by the symbol's DisplayPriceMultiplier."""
        symbol = self._instrument.symbol
        answers = await self._ask(dtc.SecurityDefinitionForSymbolRequest(Symbol=symbol))
        if not answers:
            raise StartError(f"{self.link.address} does not know the symbol {symbol}: spell it as Sierra Chart does")
        definition = answers[-1]
        multiplier = float(definition.DisplayPriceMultiplier)
        self._words.multiplier = multiplier if 0.0 < multiplier < dtc.UNSET_F32 else 1.0
        tick = float(definition.MinPriceIncrement)
        if 0.0 < tick < dtc.UNSET_F32 and abs(tick - self._instrument.tick_size) > 1e-6:
            raise StartError(
                f"{self.link.address} says that {symbol} moves by {tick:g}, here it is {self._instrument.tick_size:g}: "
                "this is not the product it is taken for"
            )

    def _link_ended(self, task: "asyncio.Task[None]") -> None:
        """For good, and not by us: nothing more will come."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._sink(LinkReport(self._words.newest_ns, LinkState.DOWN, f"{error}; it will not be called again"))

    async def close(self) -> None:
        self.link.close()
        if self._running is not None:
            await asyncio.wait({self._running})
        for task in self._tasks:
            task.cancel()


def _nobody(_event: BrokerEvent) -> None:
    raise RuntimeError("a broker was used before start() named who is told of its events")
