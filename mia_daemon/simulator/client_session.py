"""One client's conversation, without its connection: bytes in, bytes out, and a reason when it has to end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.encodings import Codec
from mia_daemon.dtc.enums import (
    EncodingEnum,
    LogonStatusEnum,
)
from mia_daemon.dtc.layout import Message
from mia_daemon.simulator.client_stream import ClientStream
from mia_daemon.simulator.depth_view import DepthViews
from mia_daemon.simulator.exchange import Exchange, Output
from mia_daemon.simulator.market_messages import Dialect, dialect
from mia_daemon.simulator.market_subscriptions import MarketSubscriptions
from mia_daemon.simulator.rejects import rejects, unreadable
from mia_daemon.simulator.requests import REQUESTS
from mia_daemon.simulator.symbol_messages import SYMBOL_REQUESTS, answer_symbol_request

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
        compact: in the first generation, trades and quotes are 112 and 117 for who asks for no others.
        encoding: preset, and offered to whoever asks for another; None: what the client asks for or starts with.
    """

    username: str = ""
    password: str = ""
    logon_result: LogonStatusEnum = LogonStatusEnum.LOGON_SUCCESS
    logon_text: str = ""
    reconnect_address: str = ""
    serves_market_data: bool = True
    generation: int = 1
    compact: bool = False
    encoding: EncodingEnum | None = None


class SimulatorSession:
    """The server's side of one connection.

    Attributes:
        out: encoded messages to be sent, in order; `outgoing` takes them.
        closing: why the connection has to be closed once `out` is sent; empty as long as it may stay.
        market: what the client is subscribed to.
    """

    def __init__(self, exchange: Exchange, views: Mapping[str, DepthViews], manners: Manners, now_ns: int) -> None:
        self.out: list[bytes] = []
        self.closing = ""
        self.logged_on = False
        self._exchange = exchange
        self._manners = manners
        self.market = MarketSubscriptions(exchange, self._dialect(0), views, allowed=manners.serves_market_data)
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
        if refusals := unreadable(message):
            self._out_of_place += 1
            self.send(*refusals)
            return None
        match message:
            case dtc.MarketDataRequest():
                self.send(*self.market.answer_market_data(message))
            case dtc.MarketDepthRequest():
                self.send(*self.market.answer_market_depth(message))
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

    def _dialect(self, integer_1: int) -> Dialect:
        return dialect(integer_1, self._manners.generation, compact=self._manners.compact)

    def _logon(self, m: dtc.LogonRequest) -> None:
        manners = self._manners
        result, text = manners.logon_result, manners.logon_text
        if manners.username and (m.Username, m.Password) != (manners.username, manners.password):
            result, text = LogonStatusEnum.LOGON_ERROR_NO_RECONNECT, "username or password is wrong"
        low, high = _HEARTBEAT_S
        self._heartbeat_ns = min(max(m.HeartbeatIntervalInSeconds, low), high) * NS_PER_S
        self.market.dialect = self._dialect(m.Integer_1)
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

    # ----------------------------------------------------------------------------------------------------------- output

    def send(self, *messages: Message) -> None:
        self.out.extend(map(self.codec.encode, messages))

    def outgoing(self) -> bytes:
        """What goes to the socket now; it is forgotten here."""
        data = self._stream.outgoing(b"".join(self.out), self.closing)
        self.out.clear()
        return data

    def close(self, reason: str, *, do_not_reconnect: bool = False) -> None:
        """Say goodbye and why."""
        self.send(dtc.Logoff(Reason=reason, DoNotReconnect=int(do_not_reconnect)))
        self.closing = reason

    def keep_alive(self, now_ns: int, wall_s: int) -> None:
        """Send a heartbeat when one is due; give up on a client that has been silent for two intervals."""
        if now_ns - self._heard_ns > 2 * self._heartbeat_ns + NS_PER_S:
            self.close("nothing was heard for two heartbeat intervals")
        elif self.logged_on and now_ns - self._spoken_ns >= self._heartbeat_ns:
            self.out.append(self._stream.heartbeat(dtc.Heartbeat(CurrentDateTime=wall_s)))
            self._spoken_ns = now_ns
