"""Orders through Sierra Chart: DTC trading messages over a `Link`.

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

from mia_daemon.clock import NS_PER_MS, NS_PER_S, Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import BuySellEnum, OrderStatusEnum, OrderUpdateReasonEnum, PartialFillHandlingEnum
from mia_daemon.dtc.market_data import Segment
from mia_daemon.errors import ConnectionLost, LogonRefused, PeerError, RequestTimeout, StartError, UsageError
from mia_daemon.link.link import Link, NoticeHandler
from mia_daemon.products.instruments import Instrument
from mia_daemon.records import (
    BalanceReport,
    BookOfRecord,
    Bracket,
    BrokerEvent,
    EventArray,
    Fill,
    LinkReport,
    LinkState,
    Order,
    OrderStatus,
    OrderType,
    OrderUpdate,
    PositionReport,
    Side,
)
from mia_daemon.trading.brokers.base import BrokerEventSink
from mia_daemon.trading.journal.reader import OpenOrder

ATTEMPTS: Final = 3  # at connecting and at queries, never at orders
PATIENCE_S: Final = (2.0, 4.0, 8.0)  # 2^attempt, to come up at the start
BETWEEN_ATTEMPTS: Final = wait_exponential(multiplier=2)  # 2, 4 seconds
KEPT_ORDERS: Final = 4096  # whose server numbers are remembered

_REFUSALS: Final = {
    OrderUpdateReasonEnum.ORDER_CANCEL_REJECTED: OrderStatus.CANCEL_REJECTED,
    OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_REJECTED: OrderStatus.REPLACE_REJECTED,
    OrderUpdateReasonEnum.NEW_ORDER_REJECTED: OrderStatus.REJECTED,
}
_STATUSES: Final = {
    OrderStatusEnum.ORDER_STATUS_ORDER_SENT: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_PENDING_OPEN: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_PENDING_CHILD: OrderStatus.ACCEPTED,
    OrderStatusEnum.ORDER_STATUS_OPEN: OrderStatus.WORKING,
    OrderStatusEnum.ORDER_STATUS_PARTIALLY_FILLED: OrderStatus.PARTIAL,
    OrderStatusEnum.ORDER_STATUS_FILLED: OrderStatus.FILLED,
    OrderStatusEnum.ORDER_STATUS_CANCELED: OrderStatus.CANCELED,
    OrderStatusEnum.ORDER_STATUS_REJECTED: OrderStatus.REJECTED,
}
_CHANGING: Final = frozenset(
    {OrderStatusEnum.ORDER_STATUS_PENDING_CANCEL_REPLACE, OrderStatusEnum.ORDER_STATUS_PENDING_CANCEL}
)
_ENDED: Final = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED})


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
        self.link = Link(
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
        self._multiplier = 1.0
        self._newest_ns = 0
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

    def restore(self, orders: Iterable[OpenOrder], position: int, average_price: float, cash: float) -> None:  # noqa: ARG002  # the server has the account
        """Learn the server's numbers of earlier orders: without them those can't be cancelled."""
        for order in orders:
            self._learn(order.order.client_order_id, order.server_order_id)

    def on_market(self, events: EventArray) -> int:
        """The server has its own market."""
        return len(events)

    # Requests.

    def submit(self, order: Order) -> None:
        self._send_orders((order,), self._single(order))

    def submit_bracket(self, bracket: Bracket) -> None:
        """The entry as a parent order, stop and target as the OCO pair it triggers, in one write."""
        entry, stop, target = bracket.entry, bracket.stop, bracket.target
        pair = dtc.SubmitNewOCOOrder(
            Symbol=entry.symbol,
            ClientOrderID_1=stop.client_order_id,
            OrderType_1=stop.type,
            BuySell_1=_buy_sell(stop.side),
            Price1_1=self._outward(stop.price),
            Quantity_1=float(stop.quantity),
            ClientOrderID_2=target.client_order_id,
            OrderType_2=target.type,
            BuySell_2=_buy_sell(target.side),
            Price1_2=self._outward(target.price),
            Quantity_2=float(target.quantity),
            TimeInForce=stop.time_in_force,
            TradeAccount=entry.account,
            IsAutomatedOrder=1,
            ParentTriggerClientOrderID=entry.client_order_id,
            PartialFillHandling=PartialFillHandlingEnum.PARTIAL_FILL_HANDLING_REDUCE_QUANTITY,
        )
        self._send_orders((entry, stop, target), self._single(entry, is_parent=1), pair)

    def flatten(self, order: Order) -> None:
        message = dtc.SubmitFlattenPositionOrder(
            Symbol=order.symbol, TradeAccount=order.account, ClientOrderID=order.client_order_id, IsAutomatedOrder=1
        )
        self._send_orders((order,), message)

    def cancel(self, client_order_id: str) -> None:
        def send(server_id: str) -> dtc.Message:
            return dtc.CancelOrder(ServerOrderID=server_id, ClientOrderID=client_order_id, TradeAccount=self._account)

        self._send_change(client_order_id, OrderStatus.CANCEL_REJECTED, send)

    def replace(self, client_order_id: str, price: float, quantity: int) -> None:
        def send(server_id: str) -> dtc.Message:
            return dtc.CancelReplaceOrder(
                ServerOrderID=server_id,
                ClientOrderID=client_order_id,
                Price1=self._outward(price),
                Price2IsSet=0,
                Quantity=float(quantity),
                TradeAccount=self._account,
            )

        self._send_change(client_order_id, OrderStatus.REPLACE_REJECTED, send)

    def _single(self, order: Order, is_parent: int = 0) -> dtc.Message:
        return dtc.SubmitNewSingleOrder(
            Symbol=order.symbol,
            TradeAccount=order.account,
            ClientOrderID=order.client_order_id,
            OrderType=order.type,
            BuySell=_buy_sell(order.side),
            Price1=self._outward(order.price),
            Price2=self._outward(order.limit_price),
            Quantity=float(order.quantity),
            TimeInForce=order.time_in_force,
            IsAutomatedOrder=1,
            IsParentOrder=is_parent,
        )

    def _send_orders(self, orders: tuple[Order, ...], *messages: dtc.Message) -> None:
        try:
            self.link.send(*messages)
        except (ConnectionLost, UsageError) as error:
            for order in orders:
                self._sink(self._refusal(order.client_order_id, OrderStatus.REJECTED, f"not sent: {error}"))

    def _send_change(self, client_order_id: str, refusal: OrderStatus, message: Callable[[str], dtc.Message]) -> None:
        """Send it under the order's server number; wait for that number where it is not known yet.

        Without it the server would ignore the request, and say nothing.
        """

        def send() -> None:
            try:
                self.link.send(message(self._server_ids[client_order_id]))
            except (ConnectionLost, UsageError) as error:
                self._sink(self._refusal(client_order_id, refusal, f"not sent: {error}"))

        if client_order_id in self._server_ids:
            send()
        elif self.link.up:
            self._held_back.setdefault(client_order_id, []).append(send)
        else:
            self._sink(self._refusal(client_order_id, refusal, "not sent: the link is down"))

    def _refusal(self, client_order_id: str, status: OrderStatus, text: str) -> OrderUpdate:
        return OrderUpdate(
            ts_ns=self._newest_ns,
            client_order_id=client_order_id,
            server_order_id="",
            symbol=self._instrument.symbol,
            account=self._account,
            status=status,
            text=text,
        )

    # What the server says.

    def _on_messages(self, segments: list[Segment], _received_ns: int) -> None:
        for segment in segments:
            handler = self._handlers.get(type(segment))
            if handler is not None:
                handler(segment)

    def _on_link_state(self, up: bool, text: str) -> None:  # noqa: FBT001  # as Link calls it
        self._held_back.clear()
        self._sink(LinkReport(self._newest_ns, LinkState.UP if up else LinkState.DOWN, text))

    def _on_order_update(self, message: dtc.OrderUpdate) -> None:
        if message.NoOrders or not self._concerns(message):
            return
        client_id = message.ClientOrderID or self._client_ids.get(message.ServerOrderID, "")
        if client_id:
            self._learn(client_id, message.ServerOrderID)
        self._newest_ns = max(self._newest_ns, self._time(message))
        if (fill := self._fill(message, client_id)) is not None:
            self._tell_fill(fill)
        update = self._update(message, client_id, unsolicited=True)
        if update is not None:
            self._sink(update)
        if client_id and _quantity(message.FilledQuantity) > self._shown[client_id]:
            self._fetch_fills()
        if update is not None and update.status in _ENDED:
            self._held_back.pop(client_id, None)
        for send in self._held_back.pop(client_id, ()) if message.ServerOrderID else ():
            send()

    def _concerns(self, message: Any) -> bool:
        return bool(message.Symbol == self._instrument.symbol and message.TradeAccount == self._account)

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

    def _time(self, message: dtc.OrderUpdate) -> int:
        stated = round(message.LatestTransactionDateTime * NS_PER_S)
        return stated or message.LastFillDateTime * NS_PER_MS or self._newest_ns

    def _fill(self, message: dtc.OrderUpdate, client_id: str) -> Fill | None:
        """The execution an update tells of, if it tells of one that can be named."""
        quantity, price = _quantity(message.LastFillQuantity), self._inward(message.LastFillPrice)
        side = _side(message.BuySell)
        if not (quantity and price and side and message.LastFillExecutionID):
            return None
        return Fill(
            ts_ns=self._time(message),
            execution_id=message.LastFillExecutionID,
            client_order_id=client_id,
            server_order_id=message.ServerOrderID,
            symbol=message.Symbol,
            account=message.TradeAccount,
            side=side,
            quantity=quantity,
            price=price,
        )

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

    def _update(self, message: dtc.OrderUpdate, client_id: str, *, unsolicited: bool) -> OrderUpdate | None:
        """None where the message says nothing new: a request of ours is on its way to the exchange."""
        filled = _quantity(message.FilledQuantity)
        status = self._status(message, filled, unsolicited=unsolicited)
        if status is None:
            return None
        return OrderUpdate(
            ts_ns=self._time(message),
            client_order_id=client_id,
            server_order_id=message.ServerOrderID,
            symbol=message.Symbol,
            account=message.TradeAccount,
            status=status,
            side=_side(message.BuySell),
            quantity=_quantity(message.OrderQuantity),
            filled=filled,
            average_fill_price=self._inward(message.AverageFillPrice),
            price=self._inward(message.Price1),
            limit_price=self._inward(message.Price2),
            type=_order_type(message.OrderType),
            text=message.InfoText,
            unsolicited=unsolicited,
        )

    @staticmethod
    def _status(message: dtc.OrderUpdate, filled: int, *, unsolicited: bool) -> OrderStatus | None:
        """The reason counts before the status: a refused cancel or replace leaves a live order alive."""
        if unsolicited and message.OrderUpdateReason in _REFUSALS:
            return _REFUSALS[OrderUpdateReasonEnum(message.OrderUpdateReason)]
        if message.OrderStatus in _CHANGING:
            if unsolicited:
                return None
            return OrderStatus.PARTIAL if filled else OrderStatus.WORKING
        try:
            status = _STATUSES.get(OrderStatusEnum(message.OrderStatus))
        except ValueError:
            return None
        if status is OrderStatus.WORKING and filled:
            status = OrderStatus.PARTIAL
        replaced = message.OrderUpdateReason == OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_COMPLETE
        if replaced and status not in _ENDED and unsolicited:
            return OrderStatus.REPLACED
        return status

    def _on_position(self, message: dtc.PositionUpdate) -> None:
        if not message.NoPositions and self._concerns(message):
            self._sink(self._position(message, unsolicited=True))

    def _position(self, message: dtc.PositionUpdate, *, unsolicited: bool) -> PositionReport:
        return PositionReport(
            ts_ns=self._newest_ns,
            symbol=message.Symbol,
            account=message.TradeAccount,
            quantity=round(message.Quantity),
            average_price=self._inward(message.AveragePrice),
            unsolicited=unsolicited,
        )

    def _on_balance(self, message: dtc.AccountBalanceUpdate) -> None:
        if not message.NoAccountBalances and message.TradeAccount == self._account:
            self._sink(self._balance(message))

    def _balance(self, message: dtc.AccountBalanceUpdate) -> BalanceReport:
        return BalanceReport(
            self._newest_ns, message.TradeAccount, message.CashBalance, message.AccountCurrency or "USD"
        )

    # Queries.

    async def book_of_record(self, since_ns: int) -> BookOfRecord:
        orders = await self._ask(dtc.OpenOrdersRequest(RequestAllOrders=1, TradeAccount=self._account))
        fills = await self._ask_fills(since_ns)
        for fill in fills:
            self._is_new(fill)
        positions = await self._ask(dtc.CurrentPositionsRequest(TradeAccount=self._account))
        balances = await self._ask(dtc.AccountBalanceRequest(TradeAccount=self._account))
        balance = next((one for one in balances if one.TradeAccount == self._account), None)
        return BookOfRecord(
            ts_ns=self._newest_ns,
            open_orders=tuple(self._listed(orders)),
            fills=tuple(fills),
            positions=tuple(self._position(one, unsolicited=False) for one in positions),
            balance=None if balance is None else self._balance(balance),
        )

    def _listed(self, orders: list[Any]) -> list[OrderUpdate]:
        found = []
        for message in orders:
            client_id = message.ClientOrderID or self._client_ids.get(message.ServerOrderID, "")
            if client_id and self._concerns(message):
                self._learn(client_id, message.ServerOrderID)
            update = self._update(message, client_id, unsolicited=False)
            if update is not None:
                found.append(update)
        return found

    async def _ask_fills(self, since_ns: int) -> list[Fill]:
        """Executions since then. Their order is named where its number is known; this message has no place for it."""
        request = dtc.HistoricalOrderFillsRequest(TradeAccount=self._account, StartDateTime=since_ns // NS_PER_S)
        return [self._past_fill(message) for message in await self._ask(request)]

    def _past_fill(self, message: Any) -> Fill:
        return Fill(
            ts_ns=message.DateTime * NS_PER_S,
            execution_id=message.UniqueExecutionID
            or f"{message.ServerOrderID}/{message.DateTime}/{message.Price}/{message.Quantity}",
            client_order_id=self._client_ids.get(message.ServerOrderID, ""),
            server_order_id=message.ServerOrderID,
            symbol=message.Symbol,
            account=message.TradeAccount,
            side=_side(message.BuySell) or Side.BUY,
            quantity=_quantity(message.Quantity),
            price=self._inward(message.Price),
        )

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
            fills = await self._ask_fills(self._newest_ns - 60 * NS_PER_S)
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
        self._multiplier = multiplier if 0.0 < multiplier < dtc.UNSET_F32 else 1.0
        tick = float(definition.MinPriceIncrement)
        if 0.0 < tick < dtc.UNSET_F32 and abs(tick - self._instrument.tick_size) > 1e-6:
            raise StartError(
                f"{self.link.address} says that {symbol} moves by {tick:g}, here it is {self._instrument.tick_size:g}: "
                "this is not the product it is taken for"
            )

    def _link_ended(self, task: "asyncio.Task[None]") -> None:
        """For good, and not by us: nothing more will come."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._sink(LinkReport(self._newest_ns, LinkState.DOWN, f"{error}; it will not be called again"))

    async def close(self) -> None:
        self.link.close()
        if self._running is not None:
            await asyncio.wait({self._running})
        for task in self._tasks:
            task.cancel()

    def _outward(self, price: float) -> float:
        return price / self._multiplier

    def _inward(self, price: float) -> float:
        """0 where the server left the price unset."""
        return 0.0 if abs(price) >= dtc.UNSET_F64 else price * self._multiplier


def _nobody(_event: BrokerEvent) -> None:
    raise RuntimeError("a broker was used before start() named who is told of its events")


def _quantity(value: float) -> int:
    """0 where the server left it unset."""
    return 0 if not 0.0 < value < dtc.UNSET_F64 else round(value)


def _buy_sell(side: Side) -> BuySellEnum:
    return BuySellEnum.BUY if side is Side.BUY else BuySellEnum.SELL


def _side(value: int) -> Side | None:
    return {BuySellEnum.BUY: Side.BUY, BuySellEnum.SELL: Side.SELL}.get(BuySellEnum(value)) if value in {1, 2} else None


def _order_type(value: int) -> OrderType | None:
    return OrderType(value) if value in {1, 2, 3, 4} else None
