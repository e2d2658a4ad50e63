"""What is answered about exchanges and symbols. There is one exchange, so requests are answered whichever they name."""

from collections.abc import Mapping
from typing import Any

from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import PriceDisplayFormatEnum, SecurityTypeEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.native_prices import NativeInstrument

EXCHANGE = "CME"

_LISTS = (dtc.SymbolsForExchangeRequest, dtc.SymbolsForUnderlyingRequest, dtc.SymbolSearchRequest)
SYMBOL_REQUESTS = frozenset({dtc.ExchangeListRequest, dtc.SecurityDefinitionForSymbolRequest, *_LISTS})


def answer_symbol_request(m: Any, instruments: Mapping[str, NativeInstrument]) -> list[Message]:
    """The answer to one of `SYMBOL_REQUESTS`, by symbol, the last message marked as such; a reject where none fits."""
    if isinstance(m, dtc.ExchangeListRequest):
        return [dtc.ExchangeListResponse(
            RequestID=m.RequestID, Exchange=EXCHANGE, IsFinalMessage=1, Description="simulated"
        )]  # fmt: skip
    found = [instrument for instrument in instruments.values() if _fits(m, instrument)]
    if not found:
        return [dtc.SecurityDefinitionReject(RequestID=m.RequestID, RejectText=_nothing_fits(m))]
    return [_definition(m, instrument, is_final=instrument is found[-1]) for instrument in found]


def _fits(m: Any, instrument: NativeInstrument) -> bool:
    if isinstance(m, dtc.SecurityDefinitionForSymbolRequest):
        return bool(m.Symbol == instrument.symbol)
    if m.SecurityType not in {SecurityTypeEnum.SECURITY_TYPE_UNSET, SecurityTypeEnum.SECURITY_TYPE_FUTURES}:
        return False
    match m:
        case dtc.SymbolsForUnderlyingRequest():
            return m.UnderlyingSymbol == instrument.root
        case dtc.SymbolSearchRequest():
            sought = m.SearchText.casefold()
            return bool(sought) and (sought in instrument.symbol.casefold() or sought in _description(instrument))
    return True


def _nothing_fits(m: Any) -> str:
    match m:
        case dtc.SymbolsForUnderlyingRequest():
            return f"there are no futures with the underlying symbol {m.UnderlyingSymbol or '(none)'}"
        case dtc.SymbolSearchRequest():
            return f"no symbol was found for {m.SearchText or '(nothing)'}"
        case dtc.SymbolsForExchangeRequest():
            return "there are only futures here"
    return f"symbol {m.Symbol or '(none)'} is unknown"


def _description(instrument: NativeInstrument) -> str:
    return f"{instrument.root} futures (simulated)".casefold()


def _definition(m: Any, instrument: NativeInstrument, *, is_final: bool) -> Message:
    return dtc.SecurityDefinitionResponse(
        RequestID=m.RequestID,
        Symbol=instrument.symbol,
        Exchange=m.Exchange,
        SecurityType=SecurityTypeEnum.SECURITY_TYPE_FUTURES,
        Description=f"{instrument.root} futures (simulated)",
        MinPriceIncrement=instrument.display_tick_size,
        PriceDisplayFormat=PriceDisplayFormatEnum.PRICE_DISPLAY_FORMAT_DECIMAL_2,
        CurrencyValuePerIncrement=instrument.tick_value,
        IsFinalMessage=int(is_final),
        UnderlyingSymbol=instrument.root,
        DisplayPriceMultiplier=instrument.multiplier,
        ExchangeSymbol=instrument.symbol,
        Currency="USD",
        ContractSize=instrument.point_value,
        ProductIdentifier=instrument.root,
    )
