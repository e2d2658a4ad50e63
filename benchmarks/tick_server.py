"""Plays the DTC server for the tick-to-order benchmark: one tick at a random moment, then the wait for an order.

    python -m benchmarks.tick_server dtc  N SEED      speaks DTC: logon, market data, and fills whatever is ordered
    python -m benchmarks.tick_server echo N SEED      sends the same bytes to a peer that returns them

It prints its port as a JSON line, and at the end the latencies in microseconds as another. Both times of a latency are
read in this process: right before the tick is written, and when the answer's first bytes have arrived.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any, cast

import uvloop

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import decode_frames, encode
from mia_daemon.dtc.enums import (
    AtBidOrAskEnum,
    BuySellEnum,
    OrderStatusEnum,
    OrderUpdateReasonEnum,
)
from mia_daemon.dtc.stream import FrameReader

SYMBOL, ACCOUNT = "ESZ26_FUT_CME", "Sim1"
BID, ASK = 6000.00, 6000.25
START_S = 1_795_446_000.0  # Monday 2026-11-23, 09:00 in Chicago
SETTLE_S = 1.0
MIN_GAP_S, MEAN_GAP_S = 0.002, 0.008
ANSWER_TIMEOUT_S = 1.0


class Server:
    """One client, on one or two connections."""

    def __init__(self, pulses: int, seed: int) -> None:
        self.done = asyncio.Event()
        self.latencies_us: list[float] = []
        self.unanswered = 0
        self._pulses = pulses
        self._random = random.Random(seed)
        self._answered = asyncio.Event()
        self._sent_ns = 0
        self._exchange_s = START_S
        self._began_ns = time.perf_counter_ns()  # exchange time passes as real time does
        self._ids = 0
        self._ticks = 0
        self._up = 0.0
        self._orders: dict[str, dtc.OrderUpdate] = {}
        self._feed: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def subscribed(self, transport: asyncio.Transport) -> None:
        """The client wants prices: begin in a moment."""
        if self._task is None:
            self._feed = transport
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        assert self._feed is not None
        await asyncio.sleep(SETTLE_S)
        for _ in range(self._pulses):
            # Random phase: the client must be caught idle, as a market catches it.
            await asyncio.sleep(MIN_GAP_S + self._random.expovariate(1 / MEAN_GAP_S))
            self._exchange_s = START_S + (time.perf_counter_ns() - self._began_ns) / 1e9
            data = b"".join(map(encode, self._tick()))
            self._answered.clear()
            self._sent_ns = time.perf_counter_ns()
            self._feed.write(data)
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await self._answered.wait()
            except TimeoutError:
                self.unanswered += 1
                self._sent_ns = 0  # what comes later is no answer to this tick
        self.done.set()

    def _tick(self) -> tuple[dtc.Message, ...]:
        """A new touch and a trade at it. The touch moves between entries, or risk would take them for repetitions."""
        self._ticks += 1
        self._up = 0.25 * (self._ticks // 2 % 2)
        quote = dtc.MarketDataUpdateBidAskFloatWithMicroseconds(
            SymbolID=1, BidPrice=self._bid, AskPrice=self._ask, BidQuantity=50.0, AskQuantity=50.0,
            DateTime=round(self._exchange_s * 1e6),
        )  # fmt: skip
        trade = dtc.MarketDataUpdateTrade(
            SymbolID=1, AtBidOrAsk=AtBidOrAskEnum.AT_ASK, Price=self._ask, Volume=1.0, DateTime=self._exchange_s
        )
        return quote, trade

    @property
    def _bid(self) -> float:
        return BID + self._up

    @property
    def _ask(self) -> float:
        return ASK + self._up

    def answered(self) -> None:
        """The first bytes of an answer are here."""
        if self._sent_ns:
            self.latencies_us.append((time.perf_counter_ns() - self._sent_ns) / 1000)
            self._sent_ns = 0
            self._answered.set()

    # What an order server says.

    def order(self, message: dtc.Message) -> list[dtc.Message]:
        match message:
            case dtc.SubmitNewSingleOrder():
                return self._entry(message)
            case dtc.SubmitNewOCOOrder():
                return self._children(message)
            case dtc.CancelReplaceOrder():
                return self._exit(message)
            case _:
                return []

    def _entry(self, m: dtc.SubmitNewSingleOrder) -> list[dtc.Message]:
        accepted = self._new(m.ClientOrderID, m.OrderType, m.BuySell, m.Price1, m.Quantity)
        return [accepted, self._filled(accepted, self._ask if m.BuySell == BuySellEnum.BUY else self._bid)]

    def _children(self, m: dtc.SubmitNewOCOOrder) -> list[dtc.Message]:
        return [
            self._new(m.ClientOrderID_1, m.OrderType_1, m.BuySell_1, m.Price1_1, m.Quantity_1),
            self._new(m.ClientOrderID_2, m.OrderType_2, m.BuySell_2, m.Price1_2, m.Quantity_2),
        ]

    def _exit(self, m: dtc.CancelReplaceOrder) -> list[dtc.Message]:
        target = self._orders.pop(m.ClientOrderID)
        filled = self._filled(target, self._bid if target.BuySell == BuySellEnum.SELL else self._ask)
        stops = [self._canceled(order) for order in self._orders.values()]
        self._orders.clear()
        return [filled, *stops]

    def _new(self, client_id: str, kind: int, side: int, price: float, quantity: float) -> dtc.OrderUpdate:
        self._ids += 1
        order = self._update(
            client_id, f"S{self._ids}", kind, side, price, quantity,
            OrderStatusEnum.ORDER_STATUS_OPEN, OrderUpdateReasonEnum.NEW_ORDER_ACCEPTED, 0.0,
        )  # fmt: skip
        self._orders[client_id] = order
        return order

    def _filled(self, o: dtc.OrderUpdate, price: float) -> dtc.Message:
        self._orders.pop(o.ClientOrderID, None)
        self._ids += 1
        return self._update(
            o.ClientOrderID, o.ServerOrderID, o.OrderType, o.BuySell, o.Price1, o.OrderQuantity,
            OrderStatusEnum.ORDER_STATUS_FILLED, OrderUpdateReasonEnum.ORDER_FILLED, o.OrderQuantity,
            AverageFillPrice=price, LastFillPrice=price, LastFillQuantity=o.OrderQuantity,
            LastFillExecutionID=f"X{self._ids}", LastFillDateTime=int(self._exchange_s * 1000),
        )  # fmt: skip

    def _canceled(self, o: dtc.OrderUpdate) -> dtc.Message:
        return self._update(
            o.ClientOrderID, o.ServerOrderID, o.OrderType, o.BuySell, o.Price1, o.OrderQuantity,
            OrderStatusEnum.ORDER_STATUS_CANCELED, OrderUpdateReasonEnum.ORDER_CANCELED, 0.0,
        )  # fmt: skip

    def _update(
        self, client_id: str, server_id: str, kind: int, side: int, price: float, quantity: float,
        status: int, reason: int, filled: float, **fill: Any,
    ) -> dtc.OrderUpdate:  # fmt: skip
        return dtc.OrderUpdate(
            Symbol=SYMBOL, TradeAccount=ACCOUNT, ClientOrderID=client_id, ServerOrderID=server_id, OrderType=kind,
            BuySell=side, Price1=price, OrderQuantity=quantity, FilledQuantity=filled,
            RemainingQuantity=quantity - filled, OrderStatus=status, OrderUpdateReason=reason,
            LatestTransactionDateTime=self._exchange_s, **fill,
        )  # fmt: skip


class Connection(asyncio.Protocol):
    """One connection of the client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        frames = self._reader.feed(data)
        arrived = list(decode_frames(frames))
        if any(isinstance(m, dtc.SubmitNewSingleOrder | dtc.CancelReplaceOrder) for m in arrived):
            self._server.answered()
        answers = [answer for message in arrived for answer in self._answer(message)]
        if answers:
            self._transport.write(b"".join(map(encode, answers)))

    def _answer(self, message: dtc.Message) -> list[dtc.Message]:  # noqa: C901, PLR0911  one table, one row a message
        match message:
            case dtc.Heartbeat():
                return [dtc.Heartbeat()]
            case dtc.EncodingRequest():
                return [dtc.EncodingResponse()]
            case dtc.LogonRequest():
                return [
                    dtc.LogonResponse(
                        ServerName="tick server", TradingIsSupported=1, OCOOrdersSupported=1, BracketOrdersSupported=1
                    )
                ]
            case dtc.MarketDataRequest(SymbolID=symbol_id):
                self._server.subscribed(self._transport)
                return [
                    dtc.MarketDataSnapshot(
                        SymbolID=symbol_id, BidPrice=BID, AskPrice=ASK, BidQuantity=50.0, AskQuantity=50.0,
                        LastTradePrice=ASK, LastTradeVolume=1.0, LastTradeDateTime=START_S, BidAskDateTime=START_S,
                    )
                ]  # fmt: skip
            case dtc.MarketDepthRequest(SymbolID=symbol_id):
                return _depth(symbol_id)
            case dtc.OpenOrdersRequest(RequestID=request):
                return [dtc.OrderUpdate(RequestID=request, TotalNumMessages=1, MessageNumber=1, NoOrders=1)]
            case dtc.HistoricalOrderFillsRequest(RequestID=request):
                return [
                    dtc.HistoricalOrderFillResponse(
                        RequestID=request, TotalNumberMessages=1, MessageNumber=1, NoOrderFills=1
                    )
                ]
            case dtc.CurrentPositionsRequest(RequestID=request):
                return [dtc.PositionUpdate(RequestID=request, TotalNumberMessages=1, MessageNumber=1, NoPositions=1)]
            case dtc.AccountBalanceRequest(RequestID=request):
                return [
                    dtc.AccountBalanceUpdate(
                        RequestID=request, TotalNumberMessages=1, MessageNumber=1, TradeAccount=ACCOUNT,
                        CashBalance=100_000.0, BalanceAvailableForNewPositions=100_000.0, AccountCurrency="USD",
                    )
                ]  # fmt: skip
            case dtc.TradeAccountsRequest(RequestID=request):
                return [
                    dtc.TradeAccountResponse(
                        RequestID=request, TotalNumberMessages=1, MessageNumber=1, TradeAccount=ACCOUNT
                    )
                ]
            case dtc.SecurityDefinitionForSymbolRequest(RequestID=request, Symbol=symbol):
                return [
                    dtc.SecurityDefinitionResponse(
                        RequestID=request, Symbol=symbol, MinPriceIncrement=0.25, CurrencyValuePerIncrement=12.5,
                        IsFinalMessage=1, DisplayPriceMultiplier=1.0,
                    )
                ]  # fmt: skip
            case _:
                return self._server.order(message)


def _depth(symbol_id: int) -> list[dtc.Message]:
    levels = [(side, level) for side in (AtBidOrAskEnum.AT_BID, AtBidOrAskEnum.AT_ASK) for level in range(10)]
    return [
        dtc.MarketDepthSnapshotLevel(
            SymbolID=symbol_id, Side=side, Quantity=50.0 + level, Level=level + 1, NumOrders=5,
            Price=BID - 0.25 * level if side == AtBidOrAskEnum.AT_BID else ASK + 0.25 * level,
            IsFirstMessageInBatch=n == 0, IsLastMessageInBatch=n == len(levels) - 1, DateTime=START_S,
        )
        for n, (side, level) in enumerate(levels)
    ]  # fmt: skip


class EchoConnection(asyncio.Protocol):
    """The same pulses to a peer that only returns them."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self._server.subscribed(transport)

    def data_received(self, _data: bytes) -> None:
        self._server.answered()


async def main(kind: str, pulses: int, seed: int) -> None:
    """Serve one client until all pulses are through."""
    server = Server(pulses, seed)
    connection = Connection if kind == "dtc" else EchoConnection
    listening = await asyncio.get_running_loop().create_server(lambda: connection(server), "127.0.0.1", 0)
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    await server.done.wait()
    print(json.dumps({"latencies_us": server.latencies_us, "unanswered": server.unanswered}), flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
