"""The orders of a probe at work: sent, followed, changed, and all of them out of the server again at the end."""

from collections.abc import Callable
from typing import Any, Final

from mia_daemon.brokers.sierra_mapping import DtcOrderMapper
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import OrderStatusEnum
from mia_daemon.errors import StartError
from mia_daemon.probe.evidence import WORKING, Answer, Change, OrderStory
from mia_daemon.probe.link import ProbeLink, Received
from mia_daemon.probe.orders import ProbeOrders
from mia_daemon.probe.queries import Queries
from mia_daemon.records import Order

_CLEAR_ROUNDS: Final = 3


class ProbeTrading:
    """Sends orders of one account and keeps what is reported of them.

    Args:
        orders: makes the request that closes a position.
        patience_s: how long an answer may take, seconds.

    Attributes:
        mapper: makes the messages, as it does for the daemon.
        stories: of every order that was sent.
    """

    def __init__(
        self, link: ProbeLink, queries: Queries, mapper: DtcOrderMapper, orders: ProbeOrders, patience_s: float
    ) -> None:
        self.mapper = mapper
        self.orders = orders
        self.stories: list[OrderStory] = []
        self._link = link
        self._queries = queries
        self._patience_s = patience_s

    async def submit(self, orders: tuple[Order, ...], *requests: dtc.Message) -> tuple[OrderStory, ...]:
        """Send new orders, and wait until each works, is held, has ended, or patience does.

        Raises:
            StartError: the transcript can't be written; nothing was sent.
            PeerError: the connection ended.
        """
        if self._link.unwritten:
            raise StartError(f"{self._link.unwritten}; no more orders are sent")
        stories = tuple(OrderStory(order, order.price / self.mapper.multiplier) for order in orders)
        self.stories += stories
        mark = self._link.send(*requests)

        def settled(received: list[Received]) -> bool:
            self._sort(received, alone=stories[0] if len(stories) == 1 else None)
            return all(_has_settled(story) for story in stories)

        settled(await self._link.until(settled, mark, self._patience_s))
        return stories

    async def change(self, story: OrderStory, request: Any, done: Callable[[list[dtc.OrderUpdate]], Any]) -> Change:
        """Send a request about an order, and wait until `done` holds of the updates about it, or patience ends."""
        before = len(story.updates)
        mark = self._link.send(request)

        def answers(received: list[Received]) -> list[dtc.OrderUpdate]:
            self._sort(received)
            named = request.ClientOrderID if request.ClientOrderID != story.order.client_order_id else None
            updates = [one.message for one in received if isinstance(one.message, dtc.OrderUpdate)]
            return [*story.messages[before:], *(update for update in updates if update.ClientOrderID == named)]

        received = await self._link.until(lambda r: bool(done(answers(r))), mark, self._patience_s)
        return Change(asked=True, answers=answers(received))

    async def list_open(self) -> Answer:
        """The open orders of the account."""
        return await self._queries.ask(dtc.OpenOrdersRequest(RequestAllOrders=1, TradeAccount=self.orders.account))

    def _sort(self, received: list[Received], *, alone: OrderStory | None = None) -> None:
        """Give each order the updates about it that it does not have yet."""
        for story in self.stories:
            known = {id(one.message) for one in story.updates}
            story.add((one for one in received if id(one.message) not in known), alone=story is alone)

    # The end.

    async def clear(self, left: list[str]) -> None:
        """Cancel what may be left of the orders, and close the position that fills of theirs made.

        Args:
            left: filled with what may be left at the server: also when the connection ends meanwhile.
        """
        left[:] = [story.order.client_order_id for story in self.stories if story.may_live]
        await self._await_reports()
        for _ in range(_CLEAR_ROUNDS):
            listed = await self.list_open()
            working = [m for m in listed.messages if any(story.is_about(m, alone=False) for story in self.stories)]
            if listed.given:
                left[:] = [m.ClientOrderID or m.ServerOrderID for m in working]
                if not left:
                    break
            await self._cancel([m.ServerOrderID for m in working] or [s.server_id for s in self.stories if s.may_live])
        await self._close_position(left)

    async def _await_reports(self) -> None:
        """Give a slow server time to report, or to list, the orders that it has not reported at all yet."""
        if all(story.updates for story in self.stories):
            return

        def all_reported(received: list[Received]) -> bool:
            self._sort(received)
            return all(story.updates for story in self.stories)

        await self._link.until(all_reported, len(self._link.received), self._patience_s)

    async def _cancel(self, server_ids: list[str]) -> None:
        for server_id in filter(None, server_ids):
            story = next((s for s in self.stories if server_id in s.server_ids), None)
            name = "" if story is None else story.order.client_order_id
            mark = self._link.send(self.mapper.cancel(name, server_id))
            await self._link.until(bool, mark, self._patience_s)

    async def _close_position(self, left: list[str]) -> None:
        """Close what fills of our orders made; the account was flat before, so all that is listed is theirs."""
        held = await self._positions()
        if held and any(story.filled for story in self.stories):
            mark = self._link.send(self.mapper.flatten(self.orders.flatten()))
            await self._link.until(_has_position, mark, self._patience_s)
            held = await self._positions()
        if held is None:
            left.append(f"perhaps a position: the server does not say what {self.orders.account} holds")
        else:
            left += [f"a position of {message.Quantity:g} {message.Symbol}" for message in held]

    async def _positions(self) -> list[dtc.PositionUpdate] | None:
        """Those of the account, however the server spells it and the symbol; None where it does not say."""
        answer = await self._queries.ask(dtc.CurrentPositionsRequest(TradeAccount=self.orders.account))
        return [message for message in answer.messages if message.Quantity] if answer.given else None


def _has_position(received: list[Received]) -> bool:
    return any(isinstance(one.message, dtc.PositionUpdate) for one in received)


def _has_settled(story: OrderStory) -> bool:
    """It works, waits for its parent, or has ended."""
    last = story.statuses[-1:] or [OrderStatusEnum.ORDER_STATUS_UNSPECIFIED]
    return last[0] in WORKING or last[0] == OrderStatusEnum.ORDER_STATUS_PENDING_CHILD or not story.may_live
