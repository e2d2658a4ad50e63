"""Queries and the batches that answer them.

A batch is numbered (it ends at MessageNumber == TotalNumberMessages, which 301 spells differently), or its last
message is flagged. An empty batch is one message with a flag. A refusal is a message of its own.
"""

from dataclasses import dataclass, field
from typing import Any

from mia_daemon.dtc.enums import OrderUpdateReasonEnum
from mia_daemon.dtc.messages import (
    AccountBalanceReject,
    AccountBalanceRequest,
    AccountBalanceUpdate,
    CurrentPositionsReject,
    CurrentPositionsRequest,
    HistoricalOrderFillResponse,
    HistoricalOrderFillsReject,
    HistoricalOrderFillsRequest,
    Message,
    OpenOrdersReject,
    OpenOrdersRequest,
    OrderUpdate,
    PositionUpdate,
    SecurityDefinitionForSymbolRequest,
    SecurityDefinitionReject,
    SecurityDefinitionResponse,
    SecurityDefinitionResponseV2,
    TradeAccountResponse,
    TradeAccountsRequest,
)


@dataclass(frozen=True, slots=True)
class Query:
    """How a request is answered: which messages, and the names of the fields that tell where the batch ends."""

    answers: tuple[type[Message], ...]
    reject: tuple[type[Message], ...] = ()
    total: str = "TotalNumberMessages"
    empty: str = ""  # the flag of an empty batch ...
    names: str = ""  # ... or the field that is empty then, where there is no such flag
    final: str = ""  # the flag on the last message, where messages are not numbered

    @property
    def types(self) -> frozenset[int]:
        """Of the messages that answer or refuse it."""
        return frozenset(message.TYPE for message in (*self.answers, *self.reject))


QUERIES: dict[type[Message], Query] = {
    OpenOrdersRequest: Query((OrderUpdate,), (OpenOrdersReject,), total="TotalNumMessages", empty="NoOrders"),
    HistoricalOrderFillsRequest: Query(
        (HistoricalOrderFillResponse,), (HistoricalOrderFillsReject,), empty="NoOrderFills"
    ),
    CurrentPositionsRequest: Query((PositionUpdate,), (CurrentPositionsReject,), empty="NoPositions"),
    TradeAccountsRequest: Query((TradeAccountResponse,), names="TradeAccount"),
    AccountBalanceRequest: Query((AccountBalanceUpdate,), (AccountBalanceReject,), empty="NoAccountBalances"),
    SecurityDefinitionForSymbolRequest: Query(
        (SecurityDefinitionResponse, SecurityDefinitionResponseV2),
        (SecurityDefinitionReject,),
        names="Symbol",
        final="IsFinalMessage",
    ),
}


def is_news(message: Any) -> bool:
    """It says of itself that nobody asked for it, whatever RequestID it carries."""
    if isinstance(message, OrderUpdate):
        return message.OrderUpdateReason > OrderUpdateReasonEnum.OPEN_ORDERS_REQUEST_RESPONSE
    return bool(getattr(message, "Unsolicited", 0))


def may_answer(message: Any) -> bool:
    """Whether a message without a RequestID can be part of an answer.

    Updates of orders, positions and balances come unasked too, so one has to show that it is a part: by its number, an
    order by its reason as well. Taken without that, it would pass for a whole answer.
    """
    if is_news(message):
        return False
    query = _ANSWERS.get(type(message))
    if query is None or query.final or (query.empty and getattr(message, query.empty)):
        return True
    if isinstance(message, OrderUpdate) and not message.OrderUpdateReason:
        return False
    return bool(getattr(message, query.total) > 0 and message.MessageNumber > 0)


_ANSWERS = {answer: query for query in QUERIES.values() for answer in query.answers}


@dataclass(slots=True)
class MessageBatch:
    """The answer to one query as it comes in.

    Attributes:
        messages: of the answer so far; stays empty when the server has nothing.
        complete: nothing more will come.
        refusal: the server's reason for not answering; "" when it did not refuse.
    """

    query: Query
    messages: list[Message] = field(default_factory=list)
    complete: bool = False
    refusal: str = ""

    def take(self, message: Any) -> bool:
        """Add a message that carries this query's RequestID. False when it is no part of an answer."""
        if isinstance(message, self.query.reject):
            self.refusal = getattr(message, "RejectText", "") or "no reason given"
            self.complete = True
            return True
        if not isinstance(message, self.query.answers):
            return False
        if not self.complete:
            self._add(message)
        return True

    def _add(self, message: Any) -> None:
        query = self.query
        if (query.empty and getattr(message, query.empty)) or (query.names and not getattr(message, query.names)):
            self.complete = True
            return
        self.messages.append(message)
        if query.final:
            self.complete = bool(getattr(message, query.final))
        else:
            self.complete = message.MessageNumber >= getattr(message, query.total)
