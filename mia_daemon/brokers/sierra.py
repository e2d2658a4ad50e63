"""Orders through Sierra Chart: DTC trading messages over a `DtcClient`.

Nothing about an order is ever sent twice. Connecting and queries are repeated, at most three times with 2, 4, … seconds
between; the caller has to query what was sent and not answered. A request that can't be sent because the link is down
is reported as refused: it certainly never left.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential

from mia_daemon.brokers.base import BrokerEventSink, WaitingHandler
from mia_daemon.brokers.server_scope import ServerScope
from mia_daemon.brokers.sierra_mapping import DtcOrderMapper
from mia_daemon.brokers.sierra_startup import (
    check_account,
    check_flags,
    check_positions,
    keep_trying,
    patience_s,
    query_multiplier,
    wait_until_up,
)
from mia_daemon.clock import NS_PER_S, Clock
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.market_data import Segment
from mia_daemon.errors import (
    CertificateRefused,
    ConnectionLost,
    LogonRefused,
    PeerError,
    RequestRefused,
    RequestTimeout,
    ServerDenied,
    StartError,
    UsageError,
)
from mia_daemon.link.client import DtcClient, NoticeHandler
from mia_daemon.records import (
    BalanceReport,
    Bracket,
    BrokerEvent,
    BrokerSnapshot,
    BrokerTrouble,
    EventArray,
    JournaledOrder,
    LinkReport,
    LinkState,
    Order,
    OrderStatus,
)

ATTEMPTS: Final = 3  # of queries, never of orders
BETWEEN_ATTEMPTS: Final = wait_exponential(multiplier=2)  # 2, 4 seconds


class SierraBroker:
    """One account and one symbol at a DTC server.

    Args:
        settings: of the connection.
        scope: the account and symbol, as we name them and as the server does.
        pairs_by_server: stop and target are linked by the server: it must say that it does.
        rng: for the jitter of reconnection.
        on_notice: called with the server's messages to users.
    """

    def __init__(
        self,
        settings: DtcSettings,
        scope: ServerScope,
        clock: Clock,
        rng: random.Random,
        on_notice: NoticeHandler = lambda _text, _kind: None,
        *,
        pairs_by_server: bool = True,
    ) -> None:
        self.link = DtcClient(
            settings,
            clock,
            rng,
            name="orders",
            on_messages=self._on_messages,
            on_state=self._on_link_state,
            on_notice=on_notice,
            on_skipped=self._on_skipped,
        )
        self._scope = scope
        self._pairs_by_server = pairs_by_server
        self._sink: BrokerEventSink = _no_sink
        self._mapper = DtcOrderMapper(scope)
        self._mapper.multiplier = 0.0  # until it is known every price counts as unset
        self._running: asyncio.Task[None] | None = None
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            dtc.OrderUpdate: self._on_order_update,
            dtc.PositionUpdate: self._on_position,
            dtc.AccountBalanceUpdate: self._on_balance,
        }

    @property
    def orders_sent(self) -> int:
        return self.link.orders_sent

    @property
    def has_own_clock(self) -> bool:
        return True

    @property
    def replaces(self) -> bool:
        return self.link.server is None or bool(self.link.server.OrderCancelReplaceSupported)

    def start(self, on_event: BrokerEventSink) -> None:
        self._sink = on_event

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:
        """Nothing to do: the server has the orders and the account."""

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

    def cancel(self, client_order_id: str, server_order_id: str) -> None:
        message = self._mapper.cancel(client_order_id, server_order_id)
        self._send(message, client_order_id, OrderStatus.CANCEL_REJECTED)

    def replace(self, client_order_id: str, server_order_id: str, price: float, quantity: int) -> None:
        message = self._mapper.replace(client_order_id, server_order_id, price, quantity)
        self._send(message, client_order_id, OrderStatus.REPLACE_REJECTED)

    def _send_orders(self, orders: tuple[Order, ...], *messages: dtc.Message) -> None:
        try:
            self.link.send(*messages)
        except (ConnectionLost, UsageError) as error:
            for order in orders:
                self._sink(self._mapper.refusal(order.client_order_id, OrderStatus.REJECTED, f"not sent: {error}"))

    def _send(self, message: dtc.Message, client_order_id: str, refusal: OrderStatus) -> None:
        try:
            self.link.send(message)
        except (ConnectionLost, UsageError) as error:
            self._sink(self._mapper.refusal(client_order_id, refusal, f"not sent: {error}"))

    # Messages from the server.

    def _on_messages(self, segments: list[Segment], _received_ns: int) -> None:
        for segment in segments:
            handler = self._handlers.get(type(segment))
            if handler is not None:
                handler(segment)

    def _on_link_state(self, up: bool, text: str) -> None:  # noqa: FBT001  # as DtcClient calls it
        self._sink(LinkReport(0, LinkState.UP if up else LinkState.DOWN, text))

    def _on_skipped(self, text: str) -> None:
        self._sink(BrokerTrouble("message_unread", f"{text}; it may have been about an order", in_doubt=True))

    def _on_order_update(self, message: dtc.OrderUpdate) -> None:
        event = self._mapper.update(message, unsolicited=True) or self._mapper.fill(message)
        if event is not None:
            self._sink(event)

    def _on_position(self, message: dtc.PositionUpdate) -> None:
        if not message.NoPositions:
            self._sink(self._mapper.position(message, unsolicited=True))

    def _on_balance(self, message: dtc.AccountBalanceUpdate) -> None:
        if (balance := self._mapper.balance(message)) is not None:
            self._sink(balance)

    # Queries.

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        mapper, account = self._mapper, self._scope.account
        since = dtc.HistoricalOrderFillsRequest(TradeAccount=account, StartDateTime=max(since_ns // NS_PER_S, 1))
        try:
            async with asyncio.TaskGroup() as asked:
                open_orders = asked.create_task(
                    self._ask(dtc.OpenOrdersRequest(RequestAllOrders=1, TradeAccount=account))
                )
                past_fills = asked.create_task(self._list(since))
                rows = asked.create_task(self._list(dtc.CurrentPositionsRequest(TradeAccount=account)))
                balance = asked.create_task(self._balance())
        except BaseExceptionGroup as failures:  # the first query that failed has ended the others
            raise failures.exceptions[0] from None
        orders, executions, positions = open_orders.result(), past_fills.result(), rows.result()
        listed = (mapper.update(message, unsolicited=False) for message in orders)
        fills = None if executions is None else map(mapper.past_fill, executions)
        held = None if positions is None else [one for one in positions if not one.NoPositions]
        return BrokerSnapshot(
            ts_ns=0,
            open_orders=tuple(update for update in listed if update is not None),
            fills=None if fills is None else tuple(fill for fill in fills if fill is not None),
            positions=None if held is None else tuple(mapper.position(one, unsolicited=False) for one in held),
            balance=balance.result(),
        )

    async def _list(self, query: dtc.Message) -> list[Any] | None:
        """None where the server refuses to list it."""
        try:
            return await self._ask(query)
        except RequestRefused:
            return None

    async def _balance(self) -> BalanceReport | None:
        """None where the server does not report it: no trading depends on it."""
        try:
            answers = await self.link.request(dtc.AccountBalanceRequest(TradeAccount=self._scope.account))
        except (RequestRefused, RequestTimeout):
            return None
        return next((one for message in answers if (one := self._balance_in(message)) is not None), None)

    def _balance_in(self, message: Any) -> BalanceReport | None:
        return self._mapper.balance(message)

    async def _ask(self, request: dtc.Message) -> list[Any]:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=BETWEEN_ATTEMPTS,
            retry=retry_if_exception_type(RequestTimeout),
            before_sleep=self._on_silence,
            reraise=True,
        )
        return await retrying(self.link.request, request)

    def _on_silence(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        self._sink(BrokerTrouble("query_unanswered", f"{error}; it is asked again"))

    # Connecting and closing.

    async def connect(self, on_waiting: WaitingHandler | None = None) -> None:
        """Log on, compare account, symbol and price scale with the server's, and what it can do.

        Args:
            on_waiting: called with the reason, again and again, while the server is awaited; None: give up after three
                attempts.

        Raises:
            StartError: this is impossible; the text says what to change at the server or in the configuration.
        """
        self._running = asyncio.get_running_loop().create_task(self.link.run(), name="orders link")
        self._running.add_done_callback(self._link_ended)
        try:
            async for attempt in keep_trying(self.link, on_waiting):
                with attempt:
                    await self._compare(self._running, patience_s(attempt.retry_state.attempt_number))
        except PeerError as error:
            denied = isinstance(self.link.failure, LogonRefused | CertificateRefused)
            await self.close()
            raise (ServerDenied if denied else StartError)(f"orders can't be sent: {error}") from error
        except StartError:
            await self.close()
            raise

    async def _compare(self, running: "asyncio.Task[None]", timeout_s: float) -> None:
        """Once the link is up, within `timeout_s`: whether server and configuration fit together."""
        scope, address = self._scope, self.link.address
        await wait_until_up(self.link, running, timeout_s)
        check_flags(self.link, pairs_by_server=self._pairs_by_server)
        await check_account(self._ask, scope, address)
        self._mapper.multiplier = await query_multiplier(self._ask, scope, address)
        await check_positions(self._list, scope, address)

    def _link_ended(self, task: "asyncio.Task[None]") -> None:
        """The link has ended for good, and not by us."""
        if not task.cancelled() and (error := task.exception()) is not None:
            text = f"{error}; it will not be called again"
            self._sink(LinkReport(0, LinkState.DOWN, text, final=True))

    async def close(self) -> None:
        self.link.close()
        if self._running is not None:
            await asyncio.wait({self._running})


def _no_sink(_event: BrokerEvent) -> None:
    raise RuntimeError("a broker was used before start() named the sink of its events")
