"""Market data of one client: what it subscribes to, what it gets at once, and what is rejected.

A client names each symbol by a SymbolID of its choice. One SymbolID stands for one symbol, and a symbol is subscribed
under one SymbolID: anything else is rejected, as Sierra Chart does it.
"""

from collections.abc import Collection

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import decode
from mia_daemon.dtc.enums import RequestActionEnum, TradingStatusEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.depth_view import DepthViews
from mia_daemon.simulator.exchange import Exchange
from mia_daemon.simulator.market_messages import Dialect, Subscriptions, depth_snapshot
from mia_daemon.simulator.session_messages import add_session, last_trade
from mia_daemon.simulator.session_statistics import session_date
from mia_daemon.simulator.tape import QuoteEvent

NOT_ALLOWED = "Market data request not allowed"
"""Sierra Chart's text for the exchanges whose data it does not serve."""

_SERVED_ACTIONS = (RequestActionEnum.SUBSCRIBE, RequestActionEnum.UNSUBSCRIBE, RequestActionEnum.SNAPSHOT)


class MarketSubscriptions:
    """Answers MARKET_DATA_REQUEST and MARKET_DEPTH_REQUEST.

    Args:
        dialect: the messages that the client gets.
        views: of the exchange's book.
        allowed: False rejects every symbol, as Sierra Chart does for CME's.

    Attributes:
        ids: what the client is subscribed to.
    """

    def __init__(self, exchange: Exchange, dialect: Dialect, views: DepthViews, *, allowed: bool = True) -> None:
        self.dialect = dialect
        self.ids = Subscriptions()
        self._exchange = exchange
        self._views = views
        self._allowed = allowed
        self._market: dict[str, int] = {}  # SymbolID by symbol
        self._depth: dict[str, int] = {}
        self._levels: int | None = None

    def answer_market_data(self, m: dtc.MarketDataRequest) -> list[Message]:
        """What a 101 is answered with: a snapshot and the touch, a rejection, or nothing."""
        if m.RequestAction == RequestActionEnum.UNSUBSCRIBE:
            _drop(self._market, m.SymbolID)
            self._renew_ids()
            return []
        if refusal := self._refusal(m, self._market, self._exchange.instruments):
            return [dtc.MarketDataReject(SymbolID=m.SymbolID, RejectText=refusal)]
        if m.RequestAction == RequestActionEnum.SUBSCRIBE:
            self._market[m.Symbol] = m.SymbolID
            self._renew_ids()
        traded = m.Symbol == self._exchange.instrument.symbol
        return self._snapshot(m.SymbolID) if traded else self._reference_snapshot(m.SymbolID)

    def answer_market_depth(self, m: dtc.MarketDepthRequest) -> list[Message]:
        """What a 102 is answered with: a snapshot of NumLevels (0: all) on each side, a rejection, or nothing."""
        if m.RequestAction == RequestActionEnum.UNSUBSCRIBE:
            _drop(self._depth, m.SymbolID)
            self._renew_ids()
            return []
        exchange = self._exchange
        refusal = self._refusal(m, self._depth, (exchange.instrument.symbol,))
        if refusal := refusal or ("" if exchange.has_depth else "no depth was recorded"):
            return [dtc.MarketDepthReject(SymbolID=m.SymbolID, RejectText=refusal)]
        most = m.NumLevels if m.NumLevels > 0 else None
        if m.RequestAction == RequestActionEnum.SUBSCRIBE:
            self._depth[m.Symbol] = m.SymbolID
            self._levels = most
            if most is not None:
                self._views.open(most)
            self._renew_ids()
        tick, as_float = exchange.instrument.tick_size, self.dialect.float_snapshot
        return depth_snapshot(exchange, m.SymbolID, exchange.now_ns, tick, as_float=as_float, most=most)

    def _refusal(
        self, m: dtc.MarketDataRequest | dtc.MarketDepthRequest, subscribed: dict[str, int], served: Collection[str]
    ) -> str:
        """Why the request is rejected; empty where it is not."""
        if not self._allowed:
            return NOT_ALLOWED
        if m.Symbol not in served:
            return f"symbol {m.Symbol} is unknown"
        if m.RequestAction not in _SERVED_ACTIONS:
            return f"RequestAction {int(m.RequestAction)} is not served: subscribe with 1"
        named = {id_: symbol for ids in (self._market, self._depth) for symbol, id_ in ids.items()}
        if named.get(m.SymbolID, m.Symbol) != m.Symbol:
            return f"SymbolID {m.SymbolID} stands for {named[m.SymbolID]}: use another for {m.Symbol}"
        known = subscribed.get(m.Symbol, m.SymbolID)
        if m.RequestAction == RequestActionEnum.SUBSCRIBE and known != m.SymbolID:
            return f"{m.Symbol} is subscribed already, under SymbolID {known}"
        return ""

    def _renew_ids(self) -> None:
        traded = self._exchange.instrument.symbol
        others = [id_ for symbol, id_ in self._market.items() if symbol != traded]
        depth = self._depth.get(traded)
        self.ids = Subscriptions(
            self._market.get(traded),
            depth,
            others[0] if others else None,
            None if depth is None else self._levels,
        )

    def _reference_snapshot(self, symbol_id: int) -> list[Message]:
        reference, now_ns = self._exchange.reference, self._exchange.now_ns
        assert reference is not None  # its symbol is served
        tick, quote = reference.instrument.tick_size, reference.quote
        snapshot = dtc.MarketDataSnapshot(
            SymbolID=symbol_id,
            TradingSessionDate=session_date(self._exchange.hours.open_ns),
            TradingStatus=TradingStatusEnum.TRADING_STATUS_OPEN,
            BidPrice=dtc.UNSET_F64 if quote is None else quote.bid * tick,
            BidQuantity=0.0 if quote is None else float(quote.bid_quantity),
            AskPrice=dtc.UNSET_F64 if quote is None else quote.ask * tick,
            AskQuantity=0.0 if quote is None else float(quote.ask_quantity),
            BidAskDateTime=now_ns / NS_PER_S,
        )
        return [snapshot] if quote is None else [snapshot, self._quote(symbol_id, quote._replace(ts_ns=now_ns), tick)]

    def _quote(self, symbol_id: int, quote: QuoteEvent, tick: float) -> Message:
        message = decode(self.dialect.quote(symbol_id, quote, tick))
        assert message is not None  # the dialect's messages are declared
        return message

    def _snapshot(self, symbol_id: int) -> list[Message]:
        exchange = self._exchange
        tick, now_ns = exchange.instrument.tick_size, exchange.now_ns
        bid, bid_quantity, ask, ask_quantity = exchange.touch()
        snapshot = dtc.MarketDataSnapshot(
            SymbolID=symbol_id,
            TradingSessionDate=session_date(exchange.hours.open_ns),
            TradingStatus=TradingStatusEnum.TRADING_STATUS_OPEN,
            BidPrice=dtc.UNSET_F64 if bid is None else bid * tick,
            BidQuantity=float(bid_quantity),
            AskPrice=dtc.UNSET_F64 if ask is None else ask * tick,
            AskQuantity=float(ask_quantity),
            BidAskDateTime=now_ns / NS_PER_S,
            MarketDepthUpdateDateTime=now_ns / NS_PER_S,
        )
        add_session(snapshot, exchange.statistics, now_ns, tick)
        answer: list[Message] = [snapshot]
        if bid is not None and ask is not None:
            quote = QuoteEvent(now_ns, bid, bid_quantity, ask, ask_quantity)
            answer.append(self._quote(symbol_id, quote, tick))
        return answer + last_trade(symbol_id, exchange.statistics, tick)


def _drop(subscribed: dict[str, int], symbol_id: int) -> None:
    for symbol in [symbol for symbol, known in subscribed.items() if known == symbol_id]:
        del subscribed[symbol]
