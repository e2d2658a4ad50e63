"""One client's conversation, without its connection: bytes in, bytes out, and a reason when it has to end."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.encodings import Codec
from mia_daemon.dtc.enums import (
    EncodingEnum,
    LogonStatusEnum,
    RequestActionEnum,
    TradingStatusEnum,
)
from mia_daemon.dtc.layout import Message
from mia_daemon.errors import UsageError
from mia_daemon.simulator.client_stream import ClientStream
from mia_daemon.simulator.exchange import Exchange, Output
from mia_daemon.simulator.market_messages import Dialect, Subscriptions, depth_snapshot, dialect, session_date
from mia_daemon.simulator.rejects import rejects, without_text
from mia_daemon.simulator.requests import REQUESTS
from mia_daemon.simulator.symbol_messages import SYMBOL_REQUESTS, answer_symbol_request
from mia_daemon.simulator.tape import MarketEvent, QuoteEvent

SERVER_NAME = "mia-daemon simulator"
MAX_STRANGE = 1_000
"""Messages of unknown type or unfit for this moment that a client may send before it is shown out."""

_HEARTBEAT_S = (5, 60)


@dataclass(frozen=True, slots=True)
class Manners:
    """How the server behaves; all but the defaults are for trying out a client.

    Attributes:
        username: empty: no authentication, as Sierra Chart has it by default.
        logon_result: given to every client.
        serves_market_data: False rejects every symbol, as Sierra Chart does for CME's.
        generation: of market data messages.
        encoding: preset, and offered to whoever asks for another; None: what the client asks for or starts with.
    """

    username: str = ""
    password: str = ""
    logon_result: LogonStatusEnum = LogonStatusEnum.LOGON_SUCCESS
    logon_text: str = ""
    reconnect_address: str = ""
    serves_market_data: bool = True
    generation: int = 1
    encoding: EncodingEnum | None = None


class SimulatorSession:
    """The server's side of one connection.

    Attributes:
        out: bytes to be sent, in order; the caller takes them.
        closing: why the connection has to be closed once `out` is sent; empty as long as it may stay.
        ids: what the client is subscribed to.
    """

    def __init__(self, exchange: Exchange, manners: Manners, now_ns: int) -> None:
        self.out: list[bytes] = []
        self.closing = ""
        self.ids = Subscriptions()
        self.dialect: Dialect = dialect(0, manners.generation)
        self.logged_on = False
        self._exchange = exchange
        self._manners = manners
        self._stream = ClientStream(manners.encoding)
        self._out_of_place = 0
        self._heartbeat_ns = 10 * NS_PER_S
        self._heard_ns = now_ns  # monotonic clock, as below
        self._spoken_ns = now_ns

    # ------------------------------------------------------------------------------------------------------------ input

    def read(self, data: bytes, now_ns: int) -> Iterator[Message]:
        """The messages that `data` completes; each is to be answered before the next is taken.

        A broken stream sets `closing`.
        """
        self._heard_ns = now_ns
        for message in self._stream.read(data):
            yield message
            if self.closing:
                return
        if self._stream.broken:
            self.close(self._stream.broken)
        elif self.strange > MAX_STRANGE:
            self.close(f"{self.strange} messages made no sense here")

    @property
    def codec(self) -> Codec:
        """The encoding in use; binary until the client has said anything."""
        return self._stream.codec

    @property
    def strange(self) -> int:
        """Messages skipped so far because they were unknown or out of place."""
        return self._stream.unknown + self._out_of_place

    def answer(self, message: Message) -> Output | None:
        """Answer one message; what it brought about at the exchange is returned for everyone to hear."""
        if self.closing:
            return None
        match message:
            case dtc.EncodingRequest():
                self.out.append(self._stream.agree(message))
            case dtc.LogonRequest():
                self._logon(message)
            case dtc.Logoff():
                self.closing = f"the client logged off: {message.Reason or 'no reason given'}"
            case dtc.Heartbeat():
                pass
            case _ if not self.logged_on:
                self.close(f"a message of type {message.TYPE} came before the logon")
            case _:
                return self._request(message)
        return None

    def _request(self, message: Message) -> Output | None:
        try:
            encode(message)  # what can't be sent back can't be repeated in an answer
        except UsageError as error:
            self._out_of_place += 1
            self.send(*rejects(without_text(message), f"unreadable request: {error}"))
            return None
        match message:
            case dtc.MarketDataRequest():
                self._market_data(message)
            case dtc.MarketDepthRequest():
                self._market_depth(message)
            case _ if type(message) in SYMBOL_REQUESTS:
                self.send(*answer_symbol_request(message, self._exchange.instruments))
            case _ if self._exchange.desk.handles(message):
                return self._trade(message)
            case _ if type(message) in REQUESTS:
                self.send(*rejects(message, REQUESTS[type(message)].note))
            case _:
                self._out_of_place += 1
        return None

    def _trade(self, message: Message) -> Output | None:
        output = self._exchange.handle(message)
        self.send(*output.answers)
        return output

    def _logon(self, m: dtc.LogonRequest) -> None:
        manners = self._manners
        result, text = manners.logon_result, manners.logon_text
        if manners.username and (m.Username, m.Password) != (manners.username, manners.password):
            result, text = LogonStatusEnum.LOGON_ERROR_NO_RECONNECT, "username or password is wrong"
        low, high = _HEARTBEAT_S
        self._heartbeat_ns = min(max(m.HeartbeatIntervalInSeconds, low), high) * NS_PER_S
        self.dialect = dialect(m.Integer_1, manners.generation)
        self.send(
            dtc.LogonResponse(
                Result=result,
                ResultText=text or ("Logon successful" if result == LogonStatusEnum.LOGON_SUCCESS else "Logon refused"),
                ReconnectAddress=manners.reconnect_address,
                ServerName=SERVER_NAME,
                TradingIsSupported=1,
                OCOOrdersSupported=1,
                OrderCancelReplaceSupported=1,
                SymbolExchangeDelimiter="-",
                SecurityDefinitionsSupported=1,
                MarketDepthIsSupported=1,
                BracketOrdersSupported=1,
                MarketDataSupported=1,
            )
        )
        if result == LogonStatusEnum.LOGON_SUCCESS:
            self.logged_on = True
        else:
            self.closing = f"the logon was refused with result {int(result)}"

    # ------------------------------------------------------------------------------------------------------ market data

    def _refusal(self, symbol: str, served: Collection[str]) -> str:
        if not self._manners.serves_market_data:
            return "Market data request not allowed"
        return "" if symbol in served else f"symbol {symbol} is unknown"

    def _market_data(self, m: dtc.MarketDataRequest) -> None:
        ids, instruments = self.ids, self._exchange.instruments
        if m.RequestAction == RequestActionEnum.UNSUBSCRIBE:
            self.ids = Subscriptions(
                None if ids.market == m.SymbolID else ids.market,
                ids.depth,
                None if ids.reference == m.SymbolID else ids.reference,
            )
            return
        if refusal := self._refusal(m.Symbol, instruments):
            self.send(dtc.MarketDataReject(SymbolID=m.SymbolID, RejectText=refusal))
            return
        traded = m.Symbol == self._exchange.instrument.symbol
        if traded:
            self._snapshot(m.SymbolID)
        else:
            self._reference_snapshot(m.SymbolID)
        if m.RequestAction != RequestActionEnum.SNAPSHOT:
            self.ids = ids._replace(market=m.SymbolID) if traded else ids._replace(reference=m.SymbolID)

    def _reference_snapshot(self, symbol_id: int) -> None:
        reference, now_ns = self._exchange.reference, self._exchange.now_ns
        assert reference is not None  # its symbol is served
        tick, quote = reference.instrument.tick_size, reference.quote
        self.send(
            dtc.MarketDataSnapshot(
                SymbolID=symbol_id,
                TradingSessionDate=session_date(self._exchange.hours.open_ns),
                TradingStatus=TradingStatusEnum.TRADING_STATUS_OPEN,
                BidPrice=dtc.UNSET_F64 if quote is None else quote.bid * tick,
                BidQuantity=0.0 if quote is None else float(quote.bid_quantity),
                AskPrice=dtc.UNSET_F64 if quote is None else quote.ask * tick,
                AskQuantity=0.0 if quote is None else float(quote.ask_quantity),
                BidAskDateTime=now_ns / NS_PER_S,
            )
        )
        if quote is not None:
            self.out.append(self.codec.from_binary(self.dialect.quote(symbol_id, quote._replace(ts_ns=now_ns), tick)))

    def _snapshot(self, symbol_id: int) -> None:
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
        day = exchange.statistics
        if day.last is not None and day.open is not None:
            snapshot.SessionOpenPrice = day.open * tick  # type: ignore[misc]  # frozen to checkers only
            snapshot.SessionHighPrice = day.high * tick  # type: ignore[misc]
            snapshot.SessionLowPrice = day.low * tick  # type: ignore[misc]
            snapshot.SessionVolume = float(day.volume)  # type: ignore[misc]
            snapshot.SessionNumTrades = day.trades  # type: ignore[misc]
            snapshot.LastTradePrice = day.last.price * tick  # type: ignore[misc]
            snapshot.LastTradeVolume = float(day.last.quantity)  # type: ignore[misc]
            snapshot.LastTradeDateTime = day.last.ts_ns / NS_PER_S  # type: ignore[misc]
        self.send(snapshot)
        if bid is not None and ask is not None:
            quote = QuoteEvent(now_ns, bid, bid_quantity, ask, ask_quantity)
            self.out.append(self.codec.from_binary(self.dialect.quote(symbol_id, quote, tick)))

    def _market_depth(self, m: dtc.MarketDepthRequest) -> None:
        """The whole book is sent whatever NumLevels says, so that no level is ever updated unseen."""
        if m.RequestAction == RequestActionEnum.UNSUBSCRIBE:
            self.ids = self.ids._replace(depth=None) if self.ids.depth == m.SymbolID else self.ids
            return
        refusal = self._refusal(m.Symbol, (self._exchange.instrument.symbol,))
        if refusal := refusal or ("" if self._exchange.has_depth else "no depth was recorded"):
            self.send(dtc.MarketDepthReject(SymbolID=m.SymbolID, RejectText=refusal))
            return
        exchange = self._exchange
        as_float = self.dialect.float_snapshot
        tick = exchange.instrument.tick_size
        self.send(*depth_snapshot(exchange, m.SymbolID, exchange.now_ns, tick, as_float=as_float))
        if m.RequestAction != RequestActionEnum.SNAPSHOT:
            self.ids = self.ids._replace(depth=m.SymbolID)

    # ----------------------------------------------------------------------------------------------------------- output

    def send(self, *messages: Message) -> None:
        self.out.extend(map(self.codec.encode, messages))

    def close(self, reason: str, *, do_not_reconnect: bool = False) -> None:
        """Say goodbye and why."""
        self.send(dtc.Logoff(Reason=reason, DoNotReconnect=int(do_not_reconnect)))
        self.closing = reason

    def keep_alive(self, now_ns: int, wall_s: int) -> None:
        """Send a heartbeat when one is due; give up on a client that has been silent for two intervals."""
        if now_ns - self._heard_ns > 2 * self._heartbeat_ns + NS_PER_S:
            self.close("nothing was heard for two heartbeat intervals")
        elif self.logged_on and now_ns - self._spoken_ns >= self._heartbeat_ns:
            self.send(dtc.Heartbeat(CurrentDateTime=wall_s))
            self._spoken_ns = now_ns

    def takes_market(self, events: list[MarketEvent]) -> bool:
        return bool(events) and self.logged_on and self.ids != Subscriptions()
