"""Market data of one client: what it subscribes to, what it gets at once, and what is rejected.

A client names each symbol by a SymbolID of its choice. One SymbolID stands for one symbol, and a symbol is subscribed
under one SymbolID: anything else is rejected, as Sierra Chart does it.
"""

from collections.abc import Collection, Mapping

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
        views: of each traded symbol's book, by symbol.
        allowed: False rejects every symbol, as Sierra Chart does for CME's.

    Attributes:
        ids: what the client is subscribed to, by symbol.
    """

    def __init__(
        self, exchange: Exchange, dialect: Dialect, views: Mapping[str, DepthViews], *, allowed: bool = True
    ) -> None:
        self.dialect = dialect
        self.ids: dict[str, Subscriptions] = {}
        self._exchange = exchange
        self._views = views
        self._allowed = allowed

    def answer_market_data(self, m: dtc.MarketDataRequest) -> list[Message]:
        """What a 101 is answered with: a snapshot and the touch, a rejection, or nothing."""
        if m.RequestAction == RequestActionEnum.UNSUBSCRIBE:
            for symbol, ids in list(self.ids.items()):
                if ids.market == m.SymbolID:
                    self._keep(symbol, ids._replace(market=None))
            return []
        ids = self.ids.get(m.Symbol, Subscriptions())
        if refusal := self._refusal(m, ids.market, self._exchange.instruments):
            return [dtc.MarketDataReject(SymbolID=m.SymbolID, RejectText=refusal)]
        if m.RequestAction == RequestActionEnum.SUBSCRIBE:
            self._keep(m.Symbol, ids._replace(market=m.SymbolID))
        return self._snapshot(m.SymbolID, m.Symbol)

    def answer_market_depth(self, m: dtc.MarketDepthRequest) -> list[Message]:
        """What a 102 is answered with: a snapshot of NumLevels (0: all) on each side, a rejection, or nothing."""
        if m.RequestAction == RequestActionEnum.UNSUBSCRIBE:
            for symbol, ids in list(self.ids.items()):
                if ids.depth == m.SymbolID:
                    self._keep(symbol, ids._replace(depth=None, levels=None))
            return []
        ids = self.ids.get(m.Symbol, Subscriptions())
        if refusal := self._refusal(m, ids.depth, self._exchange.markets):
            return [dtc.MarketDepthReject(SymbolID=m.SymbolID, RejectText=refusal)]
        market = self._exchange.markets[m.Symbol]
        if not market.has_depth:
            return [dtc.MarketDepthReject(SymbolID=m.SymbolID, RejectText="no depth was recorded")]
        most = m.NumLevels if m.NumLevels > 0 else None
        if m.RequestAction == RequestActionEnum.SUBSCRIBE:
            if most is not None:
                self._views[m.Symbol].open(most)
            self._keep(m.Symbol, ids._replace(depth=m.SymbolID, levels=most))
        tick, as_float = market.native.tick_size, self.dialect.float_snapshot
        return depth_snapshot(market, m.SymbolID, market.now_ns, tick, as_float=as_float, most=most)

    def _keep(self, symbol: str, ids: Subscriptions) -> None:
        self.ids[symbol] = ids
        if ids == Subscriptions():
            del self.ids[symbol]

    def _refusal(
        self, m: dtc.MarketDataRequest | dtc.MarketDepthRequest, subscribed: int | None, served: Collection[str]
    ) -> str:
        """Why the request is rejected; empty where it is not."""
        if not self._allowed:
            return NOT_ALLOWED
        if m.Symbol not in served:
            return f"symbol {m.Symbol} is unknown"
        if m.RequestAction not in _SERVED_ACTIONS:
            return f"RequestAction {int(m.RequestAction)} is not served: subscribe with 1"
        for symbol, ids in self.ids.items():
            if symbol != m.Symbol and m.SymbolID in {ids.market, ids.depth}:
                return f"SymbolID {m.SymbolID} stands for {symbol}: use another for {m.Symbol}"
        if m.RequestAction == RequestActionEnum.SUBSCRIBE and subscribed not in {None, m.SymbolID}:
            return f"{m.Symbol} is subscribed already, under SymbolID {subscribed}"
        return ""

    def _snapshot(self, symbol_id: int, symbol: str) -> list[Message]:
        exchange = self._exchange
        tick, market = exchange.instruments[symbol].tick_size, exchange.markets.get(symbol)
        bid, bid_quantity, ask, ask_quantity = exchange.touch(symbol)
        now_ns = exchange.now_ns
        snapshot = dtc.MarketDataSnapshot(
            SymbolID=symbol_id,
            TradingSessionDate=session_date((market or exchange.main).hours.open_ns),
            TradingStatus=TradingStatusEnum.TRADING_STATUS_OPEN,
            BidPrice=dtc.UNSET_F64 if bid is None else bid * tick,
            BidQuantity=float(bid_quantity),
            AskPrice=dtc.UNSET_F64 if ask is None else ask * tick,
            AskQuantity=float(ask_quantity),
            BidAskDateTime=now_ns / NS_PER_S,
        )
        if market is not None:
            snapshot.MarketDepthUpdateDateTime = now_ns / NS_PER_S  # type: ignore[misc]  # frozen to checkers only
            add_session(snapshot, market.statistics, now_ns, tick)
        answer: list[Message] = [snapshot]
        if bid is not None and ask is not None:
            quote = QuoteEvent(now_ns, bid, bid_quantity, ask, ask_quantity)
            answer.append(self._quote(symbol_id, quote, tick))
        return answer if market is None else answer + last_trade(symbol_id, market.statistics, tick)

    def _quote(self, symbol_id: int, quote: QuoteEvent, tick: float) -> Message:
        message = decode(self.dialect.quote(symbol_id, quote, tick))
        assert message is not None  # the dialect's messages are declared
        return message
