"""Every DTC message of protocol version 8, declared once; names as in the protocol's header file.

Both generations are here: that of the 2026-08 header (109, 147, 148, 510) and those it removes (106, 141 - 143) or
is about to (107, 108, 112, 117, 137, 140, 144 - 146).
"""

from dataclasses import field
from typing import Annotated

from mia_daemon.dtc.enums import (
    AtBidOrAskEnum,
    AtBidOrAskEnum8,
    BuySellEnum,
    EncodingEnum,
    FinalUpdateInBatchEnum,
    HistoricalDataIntervalEnum,
    HistoricalPriceDataRejectReasonCodeEnum,
    LogonStatusEnum,
    MarketDataFeedStatusEnum,
    MarketDepthUpdateTypeEnum,
    MessageSetBoundaryEnum,
    OpenCloseTradeEnum,
    OrderStatusEnum,
    OrderTypeEnum,
    OrderUpdateReasonEnum,
    PartialFillHandlingEnum,
    PriceDisplayFormatEnum,
    PutCallEnum,
    RequestActionEnum,
    SearchTypeEnum,
    SecurityTypeEnum,
    TimeInForceEnum,
    TradeConditionEnum,
    TradingStatusEnum,
    UnbundledTradeIndicatorEnum,
)
from mia_daemon.dtc.layout import (
    F32,
    F64,
    I8,
    I32,
    I64,
    MESSAGES,
    U8,
    U16,
    U32,
    U64,
    Char4,
    Char8,
    Char16,
    Char32,
    Char64,
    CType,
    I32orU32,
    Message,
    Micros64,
    Millis64,
    Note48,
    Note60,
    Note64,
    Note96,
    Note128,
    Note256,
    OnlyInVls,
    Seconds32,
    Seconds64,
    Seconds64orMillis64,
    SecondsF64,
    U8orI8,
    message,
)

__all__ = ["MESSAGES", "UNSET_F32", "UNSET_F64", "UNSET_I32", "UNSET_U32", "Message"]

UNSET_F64 = 1.7976931348623157e308
"""DBL_MAX: this field says nothing."""

UNSET_F32 = 3.4028234663852886e38
"""FLT_MAX, likewise."""

UNSET_U32 = 0xFFFFFFFF
UNSET_I32 = 0x7FFFFFFF


# Session


@message(1)
class LogonRequest(Message):
    ProtocolVersion: I32 = 8
    Username: Char32 = field(default="", repr=False)
    Password: Char32 = field(default="", repr=False)
    GeneralTextData: Note64 = ""
    Integer_1: I32 = 0
    Integer_2: I32 = 0
    HeartbeatIntervalInSeconds: I32 = 0
    Unused1: I32 = 0
    TradeAccount: Char32 = ""
    HardwareIdentifier: Char64 = ""
    ClientName: Char32 = ""
    MarketDataTransmissionInterval: I32 = 0


@message(2)
class LogonResponse(Message):
    ProtocolVersion: I32 = 8
    Result: Annotated[int, LogonStatusEnum] = LogonStatusEnum.LOGON_SUCCESS
    ResultText: Note96 = ""
    ReconnectAddress: Char64 = ""
    Integer_1: I32 = 0
    ServerName: Note60 = ""
    MarketDepthUpdatesBestBidAndAsk: U8 = 0
    TradingIsSupported: U8 = 0
    OCOOrdersSupported: U8 = 0
    OrderCancelReplaceSupported: U8 = 1
    SymbolExchangeDelimiter: Char4 = ""
    SecurityDefinitionsSupported: U8 = 0
    HistoricalPriceDataSupported: U8 = 0
    ResubscribeWhenMarketDataFeedAvailable: U8 = 0
    MarketDepthIsSupported: U8 = 1
    OneHistoricalPriceDataRequestPerConnection: U8 = 0
    BracketOrdersSupported: U8 = 0
    Unused_1: U8 = 0
    UsesMultiplePositionsPerSymbolAndTradeAccount: U8 = 0
    MarketDataSupported: U8 = 1


@message(3)
class Heartbeat(Message):
    NumDroppedMessages: U32 = 0
    CurrentDateTime: Seconds64 = 0


@message(5)
class Logoff(Message):
    Reason: Note96 = ""
    DoNotReconnect: U8 = 0


@message(6, in_vls=False)
class EncodingRequest(Message):
    ProtocolVersion: I32 = 8
    Encoding: Annotated[int, EncodingEnum] = 0
    ProtocolType: Char4 = "DTC"


@message(7, in_vls=False)
class EncodingResponse(Message):
    ProtocolVersion: I32 = 8
    Encoding: Annotated[int, EncodingEnum] = 0
    ProtocolType: Char4 = "DTC"


# Market data


@message(100)
class MarketDataFeedStatus(Message):
    Status: Annotated[int, MarketDataFeedStatusEnum] = 0


@message(101)
class MarketDataRequest(Message):
    RequestAction: Annotated[int, RequestActionEnum] = RequestActionEnum.SUBSCRIBE
    SymbolID: U32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    IntervalForSnapshotUpdatesInMilliseconds: U32 = 0


@message(102)
class MarketDepthRequest(Message):
    RequestAction: Annotated[int, RequestActionEnum] = RequestActionEnum.SUBSCRIBE
    SymbolID: U32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    NumLevels: I32 = 0


@message(103)
class MarketDataReject(Message):
    SymbolID: U32 = 0
    RejectText: Note96 = ""


@message(104)
class MarketDataSnapshot(Message):
    SymbolID: U32 = 0
    SessionSettlementPrice: F64 = UNSET_F64
    SessionOpenPrice: F64 = UNSET_F64
    SessionHighPrice: F64 = UNSET_F64
    SessionLowPrice: F64 = UNSET_F64
    SessionVolume: F64 = UNSET_F64
    SessionNumTrades: U32 = UNSET_U32
    OpenInterest: U32 = UNSET_U32
    BidPrice: F64 = UNSET_F64
    AskPrice: F64 = UNSET_F64
    AskQuantity: F64 = UNSET_F64
    BidQuantity: F64 = UNSET_F64
    LastTradePrice: F64 = UNSET_F64
    LastTradeVolume: F64 = UNSET_F64
    LastTradeDateTime: SecondsF64 = 0.0
    BidAskDateTime: SecondsF64 = 0.0
    SessionSettlementDateTime: Seconds32 = 0
    TradingSessionDate: Seconds32 = 0
    TradingStatus: Annotated[int, TradingStatusEnum] = 0
    MarketDepthUpdateDateTime: SecondsF64 = 0.0


@message(106)
class MarketDepthUpdateLevel(Message):
    SymbolID: U32 = 0
    Side: Annotated[int, AtBidOrAskEnum] = 0
    Price: F64 = 0.0
    Quantity: F64 = 0.0
    UpdateType: Annotated[int, MarketDepthUpdateTypeEnum] = 0
    DateTime: SecondsF64 = 0.0
    NumOrders: U32 = 0
    FinalUpdateInBatch: Annotated[int, FinalUpdateInBatchEnum] = 0
    Level: U16 = 0


@message(107)
class MarketDataUpdateTrade(Message):
    SymbolID: U32 = 0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum] = 0
    Price: F64 = 0.0
    Volume: F64 = 0.0
    DateTime: SecondsF64 = 0.0


@message(108)
class MarketDataUpdateBidAsk(Message):
    SymbolID: U32 = 0
    BidPrice: F64 = UNSET_F64
    BidQuantity: F32 = 0.0
    AskPrice: F64 = UNSET_F64
    AskQuantity: F32 = 0.0
    DateTime: Seconds32 = 0


@message(109, pack=1)
class MarketDepthUpdateLevelV2(Message):
    SymbolID: U32 = 0
    DateTime: Millis64 = 0
    Price: F64 = 0.0
    Quantity: F64 = 0.0
    NumOrders: U16 = 0
    Level: U16 = 0
    Side: Annotated[int, AtBidOrAskEnum8] = 0
    UpdateType: Annotated[int, MarketDepthUpdateTypeEnum] = 0
    FinalUpdateInBatch: Annotated[int, FinalUpdateInBatchEnum] = 0


@message(112)
class MarketDataUpdateTradeCompact(Message):
    Price: F32 = 0.0
    Volume: F32 = 0.0
    DateTime: Seconds32 = 0
    SymbolID: U32 = 0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum] = 0


@message(113)
class MarketDataUpdateSessionVolume(Message):
    SymbolID: U32 = 0
    Volume: F64 = 0.0
    TradingSessionDate: Seconds32 = 0
    IsFinalSessionVolume: U8 = 0


@message(114)
class MarketDataUpdateSessionHigh(Message):
    SymbolID: U32 = 0
    Price: F64 = 0.0
    TradingSessionDate: Seconds32 = 0


@message(115)
class MarketDataUpdateSessionLow(Message):
    SymbolID: U32 = 0
    Price: F64 = 0.0
    TradingSessionDate: Seconds32 = 0


@message(116)
class MarketDataFeedSymbolStatus(Message):
    SymbolID: U32 = 0
    Status: Annotated[int, MarketDataFeedStatusEnum] = 0


@message(117)
class MarketDataUpdateBidAskCompact(Message):
    BidPrice: F32 = UNSET_F32
    BidQuantity: F32 = 0.0
    AskPrice: F32 = UNSET_F32
    AskQuantity: F32 = 0.0
    DateTime: Seconds32 = 0
    SymbolID: U32 = 0


@message(119)
class MarketDataUpdateSessionSettlement(Message):
    SymbolID: U32 = 0
    Price: F64 = 0.0
    DateTime: Seconds32 = 0


@message(120)
class MarketDataUpdateSessionOpen(Message):
    SymbolID: U32 = 0
    Price: F64 = 0.0
    TradingSessionDate: Seconds32 = 0


@message(121)
class MarketDepthReject(Message):
    SymbolID: U32 = 0
    RejectText: Note96 = ""


@message(122)
class MarketDepthSnapshotLevel(Message):
    SymbolID: U32 = 0
    Side: Annotated[int, AtBidOrAskEnum] = 0
    Price: F64 = 0.0
    Quantity: F64 = 0.0
    Level: U16 = 0
    IsFirstMessageInBatch: U8 = 0
    IsLastMessageInBatch: U8 = 0
    DateTime: SecondsF64 = 0.0
    NumOrders: U32 = 0


@message(124)
class MarketDataUpdateOpenInterest(Message):
    SymbolID: U32 = 0
    OpenInterest: U32 = 0
    TradingSessionDate: Seconds32 = 0


@message(134)
class MarketDataUpdateLastTradeSnapshot(Message):
    SymbolID: U32 = 0
    LastTradePrice: F64 = 0.0
    LastTradeVolume: F64 = 0.0
    LastTradeDateTime: SecondsF64 = 0.0


@message(135)
class MarketDataUpdateSessionNumTrades(Message):
    SymbolID: U32 = 0
    NumTrades: I32 = 0
    TradingSessionDate: Seconds32 = 0


@message(136)
class MarketDataUpdateTradingSessionDate(Message):
    SymbolID: U32 = 0
    Date: Seconds32 = 0


@message(137)
class MarketDataUpdateTradeWithUnbundledIndicator(Message):
    SymbolID: U32 = 0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum8] = 0
    UnbundledTradeIndicator: Annotated[int, UnbundledTradeIndicatorEnum] = 0
    TradeCondition: U8 = 0
    Reserve_1: U8 = 0
    Reserve_2: U32 = 0
    Price: F64 = 0.0
    Volume: U32 = 0
    Reserve_3: U32 = 0
    DateTime: SecondsF64 = 0.0


@message(138)
class TradingSymbolStatus(Message):
    SymbolID: U32 = 0
    Status: Annotated[int, TradingStatusEnum] = 0


@message(140, pack=1)
class MarketDepthUpdateLevelFloatWithMilliseconds(Message):
    SymbolID: U32 = 0
    DateTime: Millis64 = 0
    Price: F32 = 0.0
    Quantity: F32 = 0.0
    Side: Annotated[int, AtBidOrAskEnum8] = 0
    UpdateType: Annotated[int, MarketDepthUpdateTypeEnum] = 0
    NumOrders: U16 = 0
    FinalUpdateInBatch: Annotated[int, FinalUpdateInBatchEnum] = 0
    Level: U16 = 0


@message(141, pack=1)
class MarketDepthUpdateLevelNoTimestamp(Message):
    SymbolID: U32 = 0
    Price: F32 = 0.0
    Quantity: F32 = 0.0
    NumOrders: U16 = 0
    Side: I8 = 0
    UpdateType: I8 = 0
    FinalUpdateInBatch: Annotated[int, FinalUpdateInBatchEnum] = 0
    Level: U16 = 0


@message(142, pack=1)
class MarketDataUpdateTradeNoTimestamp(Message):
    SymbolID: U32 = 0
    Price: F32 = 0.0
    Volume: U32 = 0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum8] = 0
    UnbundledTradeIndicator: Annotated[int, UnbundledTradeIndicatorEnum] = 0
    TradeCondition: Annotated[int, TradeConditionEnum] = 0


@message(143, pack=1, name="MARKET_DATA_UPDATE_BID_ASK_NO_TIMESTAMP")
class MarketDataUpdateBidAskNoTimeStamp(Message):
    SymbolID: U32 = 0
    BidPrice: F32 = UNSET_F32
    BidQuantity: U32 = 0
    AskPrice: F32 = UNSET_F32
    AskQuantity: U32 = 0


@message(144, pack=1)
class MarketDataUpdateBidAskFloatWithMicroseconds(Message):
    SymbolID: U32 = 0
    BidPrice: F32 = UNSET_F32
    BidQuantity: F32 = 0.0
    AskPrice: F32 = UNSET_F32
    AskQuantity: F32 = 0.0
    DateTime: Micros64 = 0


@message(145, pack=1)
class MarketDepthSnapshotLevelFloat(Message):
    SymbolID: U32 = 0
    Price: F32 = 0.0
    Quantity: F32 = 0.0
    NumOrders: U32 = 0
    Level: U16 = 0
    Side: Annotated[int, AtBidOrAskEnum8] = 0
    FinalUpdateInBatch: Annotated[int, FinalUpdateInBatchEnum] = 0


@message(146, pack=1)
class MarketDataUpdateTradeWithUnbundledIndicator2(Message):
    SymbolID: U32 = 0
    Price: F32 = 0.0
    Volume: U32 = 0
    DateTime: Micros64 = 0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum8] = 0
    UnbundledTradeIndicator: Annotated[int, UnbundledTradeIndicatorEnum] = 0
    TradeCondition: Annotated[int, TradeConditionEnum] = 0


@message(147)
class MarketDataUpdateTradeV2(Message):
    SymbolID: U32 = 0
    Price: F64 = 0.0
    Volume: F64 = 0.0
    DateTime: Micros64 = 0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum8] = 0
    UnbundledTradeIndicator: Annotated[int, UnbundledTradeIndicatorEnum] = 0
    TradeCondition: I8 = 0


@message(148, name="MARKET_DATA_UPDATE_BID_ASK_DOUBLE_WITH_MICROSECONDS")
class MarketDataUpdateBidAskV2(Message):
    SymbolID: U32 = 0
    BidPrice: F64 = UNSET_F64
    BidQuantity: F64 = 0.0
    AskPrice: F64 = UNSET_F64
    AskQuantity: F64 = 0.0
    DateTime: Micros64 = 0


@message(150, pack=1)
class MarketOrdersRequest(Message):
    RequestAction: Annotated[int, RequestActionEnum] = RequestActionEnum.SUBSCRIBE
    SymbolID: U32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    SendQuantitiesGreaterOrEqualTo: I32orU32 = 0


@message(151, pack=1)
class MarketOrdersReject(Message):
    SymbolID: U32 = 0
    RejectText: Note96 = ""


@message(152, pack=1)
class MarketOrdersAdd(Message):
    SymbolID: U32 = 0
    Side: Annotated[int, BuySellEnum] = 0
    Quantity: U32 = 0
    Price: F64 = 0.0
    OrderID: U64 = 0
    DateTime: Micros64 = 0


@message(153, pack=1)
class MarketOrdersModify(Message):
    SymbolID: U32 = 0
    Side: Annotated[int, BuySellEnum] = 0
    Quantity: U32 = 0
    Price: F64 = 0.0
    OrderID: U64 = 0
    PriorPrice: F64 = 0.0
    PriorQuantity: U32 = 0
    PriorOrderID: U64 = 0
    DateTime: Micros64 = 0


@message(154, pack=1)
class MarketOrdersRemove(Message):
    SymbolID: U32 = 0
    Quantity: U32 = 0
    Price: F64 = 0.0
    OrderID: U64 = 0
    DateTime: Micros64 = 0
    Side: Annotated[int, BuySellEnum] = 0


@message(155, pack=1)
class MarketOrdersSnapshotMessageBoundary(Message):
    SymbolID: U32 = 0
    MessageBoundary: Annotated[int, MessageSetBoundaryEnum] = 0


# Orders


@message(201)
class SubmitNewOCOOrder(Message):
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    ClientOrderID_1: Char32 = ""
    OrderType_1: Annotated[int, OrderTypeEnum] = 0
    BuySell_1: Annotated[int, BuySellEnum] = 0
    Price1_1: F64 = 0.0
    Price2_1: F64 = 0.0
    Quantity_1: F64 = 0.0
    ClientOrderID_2: Char32 = ""
    OrderType_2: Annotated[int, OrderTypeEnum] = 0
    BuySell_2: Annotated[int, BuySellEnum] = 0
    Price1_2: F64 = 0.0
    Price2_2: F64 = 0.0
    Quantity_2: F64 = 0.0
    TimeInForce: Annotated[int, TimeInForceEnum] = 0
    GoodTillDateTime: Seconds64 = 0
    TradeAccount: Char32 = ""
    IsAutomatedOrder: U8 = 0
    ParentTriggerClientOrderID: Char32 = ""
    FreeFormText: Note48 = ""
    OpenOrClose: Annotated[int, OpenCloseTradeEnum] = 0
    PartialFillHandling: Annotated[int, PartialFillHandlingEnum] = 0
    UseOffsets: U8 = 0
    OffsetFromParent1: F64 = 0.0
    OffsetFromParent2: F64 = 0.0
    MaintainSamePricesOnParentFill: U8 = 0
    Price1_1AsString: Char16 = ""
    Price2_1AsString: Char16 = ""
    Price1_2AsString: Char16 = ""
    Price2_2AsString: Char16 = ""


@message(203)
class CancelOrder(Message):
    ServerOrderID: Char32 = ""
    ClientOrderID: Char32 = ""
    TradeAccount: Char32 = ""


@message(204)
class CancelReplaceOrder(Message):
    ServerOrderID: Char32 = ""
    ClientOrderID: Char32 = ""
    Price1: F64 = 0.0
    Price2: F64 = 0.0
    Quantity: F64 = 0.0
    Price1IsSet: U8orI8 = 1
    Price2IsSet: U8orI8 = 1
    Unused: I32 = 0
    TimeInForce: Annotated[int, TimeInForceEnum] = 0
    GoodTillDateTime: Seconds64 = 0
    UpdatePrice1OffsetToParent: U8 = 0
    TradeAccount: Char32 = ""
    Price1AsString: Char16 = ""
    Price2AsString: Char16 = ""


@message(208)
class SubmitNewSingleOrder(Message):
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    TradeAccount: Char32 = ""
    ClientOrderID: Char32 = ""
    OrderType: Annotated[int, OrderTypeEnum] = 0
    BuySell: Annotated[int, BuySellEnum] = 0
    Price1: F64 = 0.0
    Price2: F64 = 0.0
    Quantity: F64 = 0.0
    TimeInForce: Annotated[int, TimeInForceEnum] = 0
    GoodTillDateTime: Seconds64 = 0
    IsAutomatedOrder: U8 = 0
    IsParentOrder: U8 = 0
    FreeFormText: Note48 = ""
    OpenOrClose: Annotated[int, OpenCloseTradeEnum] = 0
    MaxShowQuantity: F64 = 0.0
    Price1AsString: Char16 = ""
    Price2AsString: Char16 = ""
    IntendedPositionQuantity: F64 = 0.0


@message(209)
class SubmitFlattenPositionOrder(Message):
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    TradeAccount: Char32 = ""
    ClientOrderID: Char32 = ""
    FreeFormText: Note48 = ""
    IsAutomatedOrder: U8 = 0


@message(210)
class FlattenPositionsForTradeAccount(Message):
    """The header file numbers this message but shows no structure; this one is 209's without the symbol."""

    TradeAccount: Char32 = ""
    ClientOrderID: Char32 = ""
    FreeFormText: Note48 = ""
    IsAutomatedOrder: U8 = 0


# Orders, fills and positions as they are


@message(300)
class OpenOrdersRequest(Message):
    RequestID: I32 = 0
    RequestAllOrders: I32 = 1
    ServerOrderID: Char32 = ""
    TradeAccount: Char32 = ""


@message(301)
class OrderUpdate(Message):
    RequestID: I32 = 0
    TotalNumMessages: I32 = 0
    MessageNumber: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    PreviousServerOrderID: Char32 = ""
    ServerOrderID: Char32 = ""
    ClientOrderID: Char32 = ""
    ExchangeOrderID: Char32 = ""
    OrderStatus: Annotated[int, OrderStatusEnum] = 0
    OrderUpdateReason: Annotated[int, OrderUpdateReasonEnum] = 0
    OrderType: Annotated[int, OrderTypeEnum] = 0
    BuySell: Annotated[int, BuySellEnum] = 0
    Price1: F64 = UNSET_F64
    Price2: F64 = UNSET_F64
    TimeInForce: Annotated[int, TimeInForceEnum] = 0
    GoodTillDateTime: Seconds64 = 0
    OrderQuantity: F64 = UNSET_F64
    FilledQuantity: F64 = UNSET_F64
    RemainingQuantity: F64 = UNSET_F64
    AverageFillPrice: F64 = UNSET_F64
    LastFillPrice: F64 = UNSET_F64
    LastFillDateTime: Millis64 = 0
    LastFillQuantity: F64 = UNSET_F64
    LastFillExecutionID: Char64 = ""
    TradeAccount: Char32 = ""
    InfoText: Note96 = ""
    NoOrders: U8 = 0
    ParentServerOrderID: Char32 = ""
    OCOLinkedOrderServerOrderID: Char32 = ""
    OpenOrClose: Annotated[int, OpenCloseTradeEnum] = 0
    PreviousClientOrderID: Char32 = ""
    FreeFormText: Note48 = ""
    OrderReceivedDateTime: Seconds64orMillis64 = 0
    LatestTransactionDateTime: SecondsF64 = 0.0
    Username: Char32 = field(default="", repr=False)


@message(302)
class OpenOrdersReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(303)
class HistoricalOrderFillsRequest(Message):
    RequestID: I32 = 0
    ServerOrderID: Char32 = ""
    NumberOfDays: I32 = 0
    TradeAccount: Char32 = ""
    StartDateTime: Seconds64 = 0


@message(304)
class HistoricalOrderFillResponse(Message):
    RequestID: I32 = 0
    TotalNumberMessages: I32 = 0
    MessageNumber: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    ServerOrderID: Char32 = ""
    BuySell: Annotated[int, BuySellEnum] = 0
    Price: F64 = 0.0
    DateTime: Seconds64 = 0
    Quantity: F64 = 0.0
    UniqueExecutionID: Char64 = ""
    TradeAccount: Char32 = ""
    OpenClose: Annotated[int, OpenCloseTradeEnum] = 0
    NoOrderFills: U8 = 0
    InfoText: Note96 = ""
    HighPriceDuringPosition: F64 = 0.0
    LowPriceDuringPosition: F64 = 0.0
    PositionQuantity: F64 = UNSET_F64
    Username: Char32 = field(default="", repr=False)
    ExchangeOrderID: Char32 = ""
    SenderSubID: Char32 = ""


@message(305)
class CurrentPositionsRequest(Message):
    RequestID: I32 = 0
    TradeAccount: Char32 = ""


@message(306)
class PositionUpdate(Message):
    RequestID: I32 = 0
    TotalNumberMessages: I32 = 0
    MessageNumber: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    Quantity: F64 = 0.0
    AveragePrice: F64 = 0.0
    PositionIdentifier: Char32 = ""
    TradeAccount: Char32 = ""
    NoPositions: U8 = 0
    Unsolicited: U8 = 0
    MarginRequirement: F64 = 0.0
    EntryDateTime: Seconds32 = 0
    OpenProfitLoss: F64 = 0.0
    HighPriceDuringPosition: F64 = 0.0
    LowPriceDuringPosition: F64 = 0.0
    QuantityLimit: F64 = 0.0
    MaxPotentialPostionQuantity: F64 = 0.0


@message(307)
class CurrentPositionsReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(308)
class HistoricalOrderFillsReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(309)
class AddCorrectingOrderFill(Message):
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    TradeAccount: Char32 = ""
    ClientOrderID: Char32 = ""
    BuySell: Annotated[int, BuySellEnum] = 0
    FillPrice: F64 = 0.0
    FillQuantity: F64 = 0.0
    FreeFormText: Note48 = ""


@message(310)
class CorrectingOrderFillResponse(Message):
    ClientOrderID: Char32 = ""
    ResultText: Note256 = ""
    IsError: U8 = 0


# Trade accounts


@message(400)
class TradeAccountsRequest(Message):
    RequestID: I32 = 0


@message(401)
class TradeAccountResponse(Message):
    TotalNumberMessages: I32 = 0
    MessageNumber: I32 = 0
    TradeAccount: Char32 = ""
    RequestID: I32 = 0
    TradingIsDisabled: I32 = 0


# Symbols


@message(500)
class ExchangeListRequest(Message):
    RequestID: I32 = 0


@message(501)
class ExchangeListResponse(Message):
    RequestID: I32 = 0
    Exchange: Char16 = ""
    IsFinalMessage: U8 = 0
    Description: Note48 = ""


@message(502)
class SymbolsForExchangeRequest(Message):
    RequestID: I32 = 0
    Exchange: Char16 = ""
    SecurityType: Annotated[int, SecurityTypeEnum] = 0
    RequestAction: Annotated[int, RequestActionEnum] = RequestActionEnum.SUBSCRIBE
    Symbol: Char64 = ""


@message(503)
class UnderlyingSymbolsForExchangeRequest(Message):
    RequestID: I32 = 0
    Exchange: Char16 = ""
    SecurityType: Annotated[int, SecurityTypeEnum] = 0


@message(504)
class SymbolsForUnderlyingRequest(Message):
    RequestID: I32 = 0
    UnderlyingSymbol: Char32 = ""
    Exchange: Char16 = ""
    SecurityType: Annotated[int, SecurityTypeEnum] = 0


@message(506)
class SecurityDefinitionForSymbolRequest(Message):
    RequestID: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""


@message(507)
class SecurityDefinitionResponse(Message):
    RequestID: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    SecurityType: Annotated[int, SecurityTypeEnum] = 0
    Description: Note64 = ""
    MinPriceIncrement: F32 = 0.0
    PriceDisplayFormat: Annotated[int, PriceDisplayFormatEnum] = PriceDisplayFormatEnum.PRICE_DISPLAY_FORMAT_UNSET
    CurrencyValuePerIncrement: F32 = 0.0
    IsFinalMessage: U8 = 0
    FloatToIntPriceMultiplier: F32 = 1.0
    IntToFloatPriceDivisor: F32 = 1.0
    UnderlyingSymbol: Char32 = ""
    UpdatesBidAskOnly: U8 = 0
    StrikePrice: F32 = 0.0
    PutOrCall: Annotated[int, PutCallEnum] = 0
    ShortInterest: U32 = 0
    SecurityExpirationDate: Seconds32 = 0
    BuyRolloverInterest: F32 = 0.0
    SellRolloverInterest: F32 = 0.0
    EarningsPerShare: F32 = 0.0
    SharesOutstanding: U32 = 0
    IntToFloatQuantityDivisor: F32 = 0.0
    HasMarketDepthData: U8 = 1
    DisplayPriceMultiplier: F32 = 1.0
    ExchangeSymbol: Char64 = ""
    InitialMarginRequirement: F32 = 0.0
    MaintenanceMarginRequirement: F32 = 0.0
    Currency: Char8 = ""
    ContractSize: F32 = 0.0
    OpenInterest: U32 = 0
    RolloverDate: Seconds32 = 0
    IsDelayed: U8 = 0
    SecurityIdentifier: I64 = 0
    ProductIdentifier: Char64 = ""


@message(508)
class SymbolSearchRequest(Message):
    RequestID: I32 = 0
    SearchText: Note64 = ""
    Exchange: Char16 = ""
    SecurityType: Annotated[int, SecurityTypeEnum] = 0
    SearchType: Annotated[int, SearchTypeEnum] = 0


@message(509)
class SecurityDefinitionReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(510, in_vls=False)
class SecurityDefinitionResponseV2(Message):
    RequestID: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    SecurityType: Annotated[int, SecurityTypeEnum] = 0
    PriceDisplayFormat: Annotated[int, PriceDisplayFormatEnum] = PriceDisplayFormatEnum.PRICE_DISPLAY_FORMAT_UNSET
    Description: Note64 = ""
    MinPriceIncrement: F64 = 0.0
    CurrencyValuePerIncrement: F64 = 0.0
    FloatToIntPriceMultiplier: F64 = 1.0
    IntToFloatPriceDivisor: F64 = 1.0
    UnderlyingSymbol: Char32 = ""
    IsFinalMessage: U8 = 0
    UpdatesBidAskOnly: U8 = 0
    PutOrCall: Annotated[int, PutCallEnum] = 0
    HasMarketDepthData: U8 = 1
    SharesOutstanding: U32 = 0
    StrikePrice: F64 = 0.0
    ShortInterest: U32 = 0
    SecurityExpirationDate: Seconds32 = 0
    BuyRolloverInterest: F64 = 0.0
    SellRolloverInterest: F64 = 0.0
    EarningsPerShare: F64 = 0.0
    IntToFloatQuantityDivisor: F64 = 0.0
    DisplayPriceMultiplier: F64 = 1.0
    ExchangeSymbol: Char64 = ""
    InitialMarginRequirement: F64 = 0.0
    MaintenanceMarginRequirement: F64 = 0.0
    Currency: Char8 = ""
    ContractSize: F64 = 0.0
    OpenInterest: U32 = 0
    RolloverDate: Seconds32 = 0
    SecurityIdentifier: I64 = 0
    ProductIdentifier: Char64 = ""
    IsDelayed: U8 = 0


# Account balances


@message(600)
class AccountBalanceUpdate(Message):
    RequestID: I32 = 0
    CashBalance: F64 = 0.0
    BalanceAvailableForNewPositions: F64 = 0.0
    AccountCurrency: Char8 = ""
    TradeAccount: Char32 = ""
    SecuritiesValue: F64 = 0.0
    MarginRequirement: F64 = 0.0
    TotalNumberMessages: I32 = 0
    MessageNumber: I32 = 0
    NoAccountBalances: U8 = 0
    Unsolicited: U8 = 0
    OpenPositionsProfitLoss: F64 = 0.0
    DailyProfitLoss: F64 = 0.0
    InfoText: Note96 = ""
    TransactionIdentifier: U64 = 0
    DailyNetLossLimit: F64 = 0.0
    TrailingAccountValueToLimitPositions: F64 = 0.0
    DailyNetLossLimitReached: U8 = 0
    IsUnderRequiredMargin: U8 = 0
    ClosePositionsAtEndOfDay: U8 = 0
    TradingIsDisabled: U8 = 0
    Description: Note96 = ""
    IsUnderRequiredAccountValue: U8 = 0
    TransactionDateTime: Micros64 = 0
    MarginRequirementFull: F64 = 0.0
    MarginRequirementFullPositionsOnly: F64 = 0.0
    PeakMarginRequirement: F64 = 0.0
    IntroducingBroker: Char32 = ""
    OpenPositionsProfitLossBasedOnSettlementPrice: F64 = 0.0
    LastOrderActivityDateTime: Micros64 = 0
    EndOfDayAccountValue: Annotated[float, CType("double", "d"), OnlyInVls(after="PeakMarginRequirement")] = 0.0


@message(601)
class AccountBalanceRequest(Message):
    RequestID: I32 = 0
    TradeAccount: Char32 = ""


@message(602)
class AccountBalanceReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(603)
class HistoricalAccountBalancesRequest(Message):
    RequestID: I32 = 0
    TradeAccount: Char32 = ""
    StartDateTime: Seconds64 = 0


@message(604)
class HistoricalAccountBalancesReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(606)
class HistoricalAccountBalanceResponse(Message):
    RequestID: I32 = 0
    DateTime: SecondsF64 = 0.0
    CashBalance: F64 = 0.0
    AccountCurrency: Char8 = ""
    TradeAccount: Char32 = ""
    IsFinalResponse: U8 = 0
    NoAccountBalances: U8 = 0
    InfoText: Note96 = ""
    TransactionId: Char64 = ""


@message(607)
class AccountBalanceAdjustment(Message):
    RequestID: I32 = 0
    TradeAccount: Char32 = ""
    CreditAmount: F64 = 0.0
    DebitAmount: F64 = 0.0
    Currency: Char8 = ""
    Reason: Note96 = ""
    RecalculateDailyLossLimit: U8 = 0


@message(608)
class AccountBalanceAdjustmentReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""
    TradeAccount: Char32 = ""


@message(609)
class AccountBalanceAdjustmentComplete(Message):
    RequestID: I32 = 0
    TransactionID: I64 = 0
    TradeAccount: Char32 = ""
    NewBalance: F64 = 0.0


# Messages for people


@message(700)
class UserMessage(Message):
    UserMessage: Note256 = ""
    IsPopupMessage: U8 = 1


@message(701)
class GeneralLogMessage(Message):
    MessageText: Note128 = ""


@message(702)
class AlertMessage(Message):
    MessageText: Note128 = ""
    TradeAccount: Char32 = ""


@message(703)
class JournalEntryAdd(Message):
    JournalEntry: Note256 = ""
    DateTime: Seconds64 = 0


@message(704)
class JournalEntriesRequest(Message):
    RequestID: I32 = 0
    StartDateTime: Seconds64 = 0


@message(705)
class JournalEntriesReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""


@message(706)
class JournalEntryResponse(Message):
    JournalEntry: Note256 = ""
    DateTime: Seconds64 = 0
    IsFinalResponse: U8 = 0


# History


@message(800)
class HistoricalPriceDataRequest(Message):
    RequestID: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    RecordInterval: Annotated[int, HistoricalDataIntervalEnum] = 0
    StartDateTime: Seconds64 = 0
    EndDateTime: Seconds64 = 0
    MaxDaysToReturn: U32 = 0
    UseZLibCompression: U8 = 0
    RequestDividendAdjustedStockData: U8 = 0
    Integer_1: U16 = 0
    UseZLibNGCompression: U8 = 0


@message(801)
class HistoricalPriceDataResponseHeader(Message):
    RequestID: I32 = 0
    RecordInterval: Annotated[int, HistoricalDataIntervalEnum] = 0
    UseZLibCompression: U8 = 0
    NoRecordsToReturn: U8 = 0
    IntToFloatPriceDivisor: F32 = 0.0
    UseZLibNGCompression: U8 = 0


@message(802)
class HistoricalPriceDataReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""
    RejectReasonCode: Annotated[int, HistoricalPriceDataRejectReasonCodeEnum] = 0
    RetryTimeInSeconds: U16 = 0


@message(803)
class HistoricalPriceDataRecordResponse(Message):
    RequestID: I32 = 0
    StartDateTime: Micros64 = 0
    OpenPrice: F64 = 0.0
    HighPrice: F64 = 0.0
    LowPrice: F64 = 0.0
    LastPrice: F64 = 0.0
    Volume: F64 = 0.0
    NumTrades: U32 = 0  # for bars of a day and longer this place holds the open interest
    BidVolume: F64 = 0.0
    AskVolume: F64 = 0.0
    IsFinalRecord: U8 = 0


@message(804)
class HistoricalPriceDataTickRecordResponse(Message):
    RequestID: I32 = 0
    DateTime: SecondsF64 = 0.0
    AtBidOrAsk: Annotated[int, AtBidOrAskEnum] = 0
    Price: F64 = 0.0
    Volume: F64 = 0.0
    IsFinalRecord: U8 = 0


@message(807)
class HistoricalPriceDataResponseTrailer(Message):
    RequestID: I32 = 0
    FinalRecordLastDateTime: Micros64 = 0


@message(900)
class HistoricalMarketDepthDataRequest(Message):
    RequestID: I32 = 0
    Symbol: Char64 = ""
    Exchange: Char16 = ""
    StartDateTime: Micros64 = 0
    EndDateTime: Micros64 = 0
    UseZLibCompression: U8 = 0
    Integer_1: U8 = 0
    UseZLibNGCompression: U8 = 0


@message(901)
class HistoricalMarketDepthDataResponseHeader(Message):
    RequestID: I32 = 0
    UseZLibCompression: U8 = 0
    NoRecordsToReturn: U8 = 0
    UseZLibNGCompression: U8 = 0


@message(902)
class HistoricalMarketDepthDataReject(Message):
    RequestID: I32 = 0
    RejectText: Note96 = ""
    RejectReasonCode: Annotated[int, HistoricalPriceDataRejectReasonCodeEnum] = 0


@message(903)
class HistoricalMarketDepthDataRecordResponse(Message):
    RequestID: I32 = 0
    StartDateTime: Micros64 = 0
    Command: U8 = 0
    Flags: U8 = 0
    NumOrders: U16 = 0
    Price: F32 = 0.0
    Quantity: U32 = 0
    IsFinalRecord: U8 = 0
