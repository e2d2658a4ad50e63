"""What each message that a client may send gets: an answer, a reject that says why, or nothing.

`REQUESTS` lists them all, and docs/simulator.md shows the list. The text of a reject is the note of its row.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.layout import Message


class Outcome(StrEnum):
    """What a well-formed message leads to on the trading port."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    SILENT = "no answer"


class Treatment(NamedTuple):
    """How one type of message is treated.

    Attributes:
        note: what the answer is, or the text of the reject.
        answers: messages that may answer it.
    """

    outcome: Outcome
    note: str
    answers: tuple[type[Message], ...]


def _answered(note: str, *answers: type[Message]) -> Treatment:
    return Treatment(Outcome.ANSWERED, note, answers)


def _rejected(text: str, reject: type[Message]) -> Treatment:
    return Treatment(Outcome.REJECTED, text, (reject,))


def _silent(note: str) -> Treatment:
    return Treatment(Outcome.SILENT, note, ())


_UNSUBSCRIBE: Final = "unsubscribing is not answered"
_DEPTH: Final = (dtc.MarketDepthSnapshotLevel, dtc.MarketDepthSnapshotLevelFloat, dtc.MarketDepthReject)
_FILLS: Final = (dtc.HistoricalOrderFillResponse, dtc.HistoricalOrderFillsReject)
_SYMBOLS: Final = (dtc.SecurityDefinitionResponse, dtc.SecurityDefinitionReject)

REQUESTS: Final[dict[type[Message], Treatment]] = {
    dtc.LogonRequest: _answered("the logon's result; a refused one ends the connection", dtc.LogonResponse),
    dtc.Heartbeat: _silent("the server sends its own by its own timer"),
    dtc.Logoff: _silent("the connection is closed"),
    dtc.EncodingRequest: _answered(
        "in the old encoding; what is not spoken is answered with the present one", dtc.EncodingResponse
    ),
    dtc.MarketDataRequest: _answered(_UNSUBSCRIBE, dtc.MarketDataSnapshot, dtc.MarketDataReject),
    dtc.MarketDepthRequest: _answered(_UNSUBSCRIBE, *_DEPTH),
    dtc.MarketOrdersRequest: _rejected("single orders of the market are not served", dtc.MarketOrdersReject),
    dtc.SubmitNewSingleOrder: _answered("updates; status 9, reason 8 where it is rejected", dtc.OrderUpdate),
    dtc.SubmitNewOCOOrder: _answered("updates of both orders; both are rejected where one is", dtc.OrderUpdate),
    dtc.SubmitFlattenPositionOrder: _answered(
        "updates of a market order; rejected where the symbol is flat", dtc.OrderUpdate
    ),
    dtc.FlattenPositionsForTradeAccount: _answered("as 209, for what the account holds", dtc.OrderUpdate),
    dtc.CancelOrder: _answered("updates; reason 9 where it is rejected", dtc.OrderUpdate),
    dtc.CancelReplaceOrder: _answered("updates; reason 10 where it is rejected", dtc.OrderUpdate),
    dtc.OpenOrdersRequest: _answered(
        "a numbered batch; one message with NoOrders where there are none", dtc.OrderUpdate, dtc.OpenOrdersReject
    ),
    dtc.HistoricalOrderFillsRequest: _answered(
        "a numbered batch; one message with NoOrderFills where there are none", *_FILLS
    ),
    dtc.CurrentPositionsRequest: _answered(
        "a numbered batch; one message with NoPositions where there are none",
        dtc.PositionUpdate,
        dtc.CurrentPositionsReject,
    ),
    dtc.AddCorrectingOrderFill: _rejected("fills can't be corrected here", dtc.CorrectingOrderFillResponse),
    dtc.TradeAccountsRequest: _answered("a numbered batch", dtc.TradeAccountResponse),
    dtc.ExchangeListRequest: _answered("the one exchange", dtc.ExchangeListResponse),
    dtc.SymbolsForExchangeRequest: _answered("every symbol, whatever the exchange", *_SYMBOLS),
    dtc.UnderlyingSymbolsForExchangeRequest: _rejected(
        "underlying symbols are not listed: ask for the symbols of an exchange", dtc.SecurityDefinitionReject
    ),
    dtc.SymbolsForUnderlyingRequest: _answered("by the root of the symbol, such as ES", *_SYMBOLS),
    dtc.SecurityDefinitionForSymbolRequest: _answered(
        "rejected where the symbol is not exactly one of those served", *_SYMBOLS
    ),
    dtc.SymbolSearchRequest: _answered("in symbols and descriptions, upper or lower case", *_SYMBOLS),
    dtc.AccountBalanceRequest: _answered("a numbered batch", dtc.AccountBalanceUpdate, dtc.AccountBalanceReject),
    dtc.HistoricalAccountBalancesRequest: _rejected("past balances are not kept", dtc.HistoricalAccountBalancesReject),
    dtc.AccountBalanceAdjustment: _rejected("balances can't be adjusted here", dtc.AccountBalanceAdjustmentReject),
    dtc.UserMessage: _silent("a server's message; ignored from a client"),
    dtc.GeneralLogMessage: _silent("a server's message; ignored from a client"),
    dtc.AlertMessage: _silent("ignored"),
    dtc.JournalEntryAdd: _silent("ignored: the protocol has no answer to it"),
    dtc.JournalEntriesRequest: _rejected("no journal is kept here", dtc.JournalEntriesReject),
    dtc.HistoricalPriceDataRequest: _rejected(
        "historical prices are served on another port", dtc.HistoricalPriceDataReject
    ),
    dtc.HistoricalMarketDepthDataRequest: _rejected(
        "historical market depth is not served", dtc.HistoricalMarketDepthDataReject
    ),
}
"""Every message that a client may send."""


def markdown_table() -> str:
    """The list, a row for each type of message."""
    rows = [
        f"| {request.TYPE} {request.NAME} | {treatment.outcome} | "
        f"{', '.join(str(answer.TYPE) for answer in treatment.answers)} | {treatment.note} |"
        for request, treatment in sorted(REQUESTS.items(), key=lambda row: row[0].TYPE)
    ]
    return "\n".join(["| message | gets | by | note, or text of the reject |", "|---|---|---|---|", *rows])
