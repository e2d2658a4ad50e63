"""The queries of a probe: what the server has and holds. They change nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.batch import QUERIES, MessageBatch, may_answer
from mia_daemon.dtc.enums import RequestActionEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.probe.evidence import Answer
from mia_daemon.probe.link import ProbeLink, Received

_SYMBOL_ID = 1


class Queries:
    """Asks one question at a time.

    Args:
        patience_s: how long an answer may take.
    """

    def __init__(self, link: ProbeLink, patience_s: float) -> None:
        self._link = link
        self._patience_s = patience_s
        self._last_id = 0

    async def ask(self, request: Any) -> Answer:
        """Send a query with a RequestID of its own, and wait for its answer. Raises PeerError."""
        self._last_id += 1
        request = replace(request, RequestID=self._last_id)
        mark = self._link.send(request)
        received = await self._link.until(lambda r: answer_to(request, r).complete, mark, self._patience_s)
        return answer_to(request, received)

    async def prices(self, symbol: str) -> dtc.MarketDataSnapshot | dtc.MarketDataReject | None:
        """What a subscription to a symbol's prices brings; it is cancelled at once. None: no answer."""
        mark = self._link.send(dtc.MarketDataRequest(SymbolID=_SYMBOL_ID, Symbol=symbol))
        kinds = (dtc.MarketDataSnapshot, dtc.MarketDataReject)
        received = await self._link.until(
            lambda r: any(isinstance(one.message, kinds) for one in r), mark, self._patience_s
        )
        unsubscribe = RequestActionEnum.UNSUBSCRIBE
        self._link.send(dtc.MarketDataRequest(RequestAction=unsubscribe, SymbolID=_SYMBOL_ID, Symbol=symbol))
        return next((one.message for one in received if isinstance(one.message, kinds)), None)


def answer_to(request: Any, received: Iterable[Received]) -> Answer:
    """The part of what was received that answers a query."""
    query = QUERIES[type(request)]
    batch = MessageBatch(query)
    numbered = False
    for one in received:
        message: Message = one.message
        request_id = getattr(message, "RequestID", 0)
        if message.TYPE not in query.types or (request_id != request.RequestID and not _unnumbered(message)):
            continue
        if batch.take(message):
            numbered |= request_id == request.RequestID
        if batch.complete:
            break
    return Answer(tuple(batch.messages), batch.complete, batch.refusal, numbered)


def _unnumbered(message: Any) -> bool:
    return not message.RequestID and may_answer(message)
