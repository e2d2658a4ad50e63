"""The broker of an account whose session may be recorded: what is sent, and in which call it reported, is noted."""

from collections.abc import Iterable
from typing import Any

from mia_daemon.brokers.base import Broker, BrokerEventSink, WaitingHandler
from mia_daemon.execution.broker_requests import BrokerRequests
from mia_daemon.execution.inputs import AccountInputs, InputKind
from mia_daemon.records import BrokerSnapshot, EventArray, JournaledOrder


class TapedBroker(BrokerRequests):
    """Passes everything on to `broker`, and numbers the calls.

    A broker may report within a call (an order that can't be sent, a paper fill); the tape states in which.
    """

    def __init__(self, broker: Broker, inputs: AccountInputs) -> None:
        self._broker = broker
        self._inputs = inputs
        self._calls = 0
        self._sent = 0  # orders passed on
        self._beside = 0  # orders that the broker counts beyond these
        self._reads = 0  # of `orders_sent`

    @property
    def orders_sent(self) -> int:
        sent = self._broker.orders_sent
        self._reads += 1
        if sent - self._sent != self._beside:
            self._beside = sent - self._sent
            self._inputs.note(InputKind.ORDERS_BESIDE, (self._reads, self._beside))
        return sent

    @property
    def has_own_clock(self) -> bool:
        return self._broker.has_own_clock

    @property
    def replaces(self) -> bool:
        return self._inputs.replaces

    def start(self, on_event: BrokerEventSink) -> None:
        def sink(event: Any) -> None:
            self._inputs.replaces = self._broker.replaces
            on_event(event)

        self._inputs.replaces = self._broker.replaces
        self._broker.start(sink)

    def restore(self, orders: Iterable[JournaledOrder], position: int, average_price: float, cash: float) -> None:
        self._broker.restore(orders, position, average_price, cash)

    # Requests.

    def _send(self, orders: int, method: str, *args: Any) -> None:
        self._sent += orders
        self._inputs.note(InputKind.SENT, (method, args))
        before = self._begin_call()
        try:
            getattr(self._broker, method)(*args)
        finally:
            self._inputs.broker_call = before

    def _begin_call(self) -> int:
        """Number a call; returns the number of the call that it is made in."""
        self._calls += 1
        before, self._inputs.broker_call = self._inputs.broker_call, self._calls
        return before

    # Market events.

    def on_market(self, events: EventArray) -> int:
        before = self._begin_call()
        number = self._calls
        try:
            taken = self._broker.on_market(events)
        finally:
            self._inputs.broker_call = before
        if taken < len(events):
            self._inputs.note(InputKind.TAKEN, (number, taken))
        return taken

    # The connection.

    async def request_snapshot(self, since_ns: int) -> BrokerSnapshot:
        return await self._broker.request_snapshot(since_ns)

    async def connect(self, on_waiting: WaitingHandler | None = None) -> None:
        await self._broker.connect(on_waiting)

    async def close(self) -> None:
        await self._broker.close()
