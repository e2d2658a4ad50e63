"""The reject of a request: which message it is, and what of the request it repeats."""

from dataclasses import replace
from typing import Any, Final

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.enums import HistoricalPriceDataRejectReasonCodeEnum as RejectReason
from mia_daemon.dtc.enums import OrderStatusEnum, OrderUpdateReasonEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.errors import UsageError

_NUMBERS: Final = ("RequestID", "SymbolID")
_REPEATED: Final = (*_NUMBERS, "Symbol", "TradeAccount", "ServerOrderID", "ClientOrderID")
_TEXTS: Final = ("RejectText", "ResultText", "InfoText")

_REJECTED: Final = OrderStatusEnum.ORDER_STATUS_REJECTED
_NEW_ORDER: Final = dtc.OrderUpdate(
    TotalNumMessages=1,
    MessageNumber=1,
    OrderStatus=_REJECTED,
    OrderUpdateReason=OrderUpdateReasonEnum.NEW_ORDER_REJECTED,
)
_NO_SYMBOLS: Final = dtc.SecurityDefinitionReject()
_NOT_HERE: Final = RejectReason.HPDR_UNABLE_TO_SERVE_DATA_DO_NOT_RETRY

_REJECTS: Final[dict[type[Message], Message]] = {
    dtc.MarketDataRequest: dtc.MarketDataReject(),
    dtc.MarketDepthRequest: dtc.MarketDepthReject(),
    dtc.MarketOrdersRequest: dtc.MarketOrdersReject(),
    dtc.SubmitNewSingleOrder: _NEW_ORDER,
    dtc.SubmitNewOCOOrder: _NEW_ORDER,
    dtc.SubmitFlattenPositionOrder: _NEW_ORDER,
    dtc.FlattenPositionsForTradeAccount: _NEW_ORDER,
    dtc.CancelOrder: dtc.OrderUpdate(
        OrderStatus=_REJECTED, OrderUpdateReason=OrderUpdateReasonEnum.ORDER_CANCEL_REJECTED
    ),
    dtc.CancelReplaceOrder: dtc.OrderUpdate(
        OrderStatus=_REJECTED, OrderUpdateReason=OrderUpdateReasonEnum.ORDER_CANCEL_REPLACE_REJECTED
    ),
    dtc.OpenOrdersRequest: dtc.OpenOrdersReject(),
    dtc.HistoricalOrderFillsRequest: dtc.HistoricalOrderFillsReject(),
    dtc.CurrentPositionsRequest: dtc.CurrentPositionsReject(),
    dtc.AddCorrectingOrderFill: dtc.CorrectingOrderFillResponse(IsError=1),
    dtc.TradeAccountsRequest: dtc.TradeAccountResponse(TotalNumberMessages=1, MessageNumber=1),  # there is none
    dtc.ExchangeListRequest: _NO_SYMBOLS,
    dtc.SymbolsForExchangeRequest: _NO_SYMBOLS,
    dtc.UnderlyingSymbolsForExchangeRequest: _NO_SYMBOLS,
    dtc.SymbolsForUnderlyingRequest: _NO_SYMBOLS,
    dtc.SecurityDefinitionForSymbolRequest: _NO_SYMBOLS,
    dtc.SymbolSearchRequest: _NO_SYMBOLS,
    dtc.AccountBalanceRequest: dtc.AccountBalanceReject(),
    dtc.HistoricalAccountBalancesRequest: dtc.HistoricalAccountBalancesReject(),
    dtc.AccountBalanceAdjustment: dtc.AccountBalanceAdjustmentReject(),
    dtc.JournalEntriesRequest: dtc.JournalEntriesReject(),
    dtc.HistoricalPriceDataRequest: dtc.HistoricalPriceDataReject(RejectReasonCode=_NOT_HERE),
    dtc.HistoricalMarketDepthDataRequest: dtc.HistoricalMarketDepthDataReject(RejectReasonCode=_NOT_HERE),
}


def rejects(request: Any, text: str) -> list[Message]:
    """The reject of a request, with its identifiers; one for each order of a pair, none where nothing is expected."""
    blank = _REJECTS.get(type(request))
    if blank is None:
        return []
    facts = {name: getattr(request, name) for name in _REPEATED if hasattr(blank, name) and hasattr(request, name)}
    facts |= {name: text for name in _TEXTS if hasattr(blank, name)}
    if isinstance(request, dtc.SubmitNewOCOOrder):
        names = (request.ClientOrderID_1, request.ClientOrderID_2)
        return [replace(blank, **facts, ClientOrderID=name) for name in names]  # type: ignore[type-var]  # a dataclass
    return [replace(blank, **facts)]  # type: ignore[type-var]  # every message is a dataclass


def unreadable(request: Any) -> list[Message]:
    """The reject of a request whose text does not fit its field, and so can't be repeated; none where all fits."""
    try:
        encode(request)
    except UsageError as error:
        numbers = {name: getattr(request, name) for name in _NUMBERS if hasattr(request, name)}
        return rejects(type(request)(**numbers), f"unreadable request: {error}")
    return []
