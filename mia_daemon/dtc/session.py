"""The client's side of a connection as a table of states: agree on the encoding, log on, stay alive, log off.

    CLOSED ──start──► NEGOTIATING ──encoding agreed──► LOGON_SENT ──accepted──► READY ──stop──► LOGGED_OFF
                           │                               │                      │
                           └───── refused, late, broken, silent, ended ───────────┴──────────► FAILED

Where the server's encoding is preset there is nothing to agree on: start leads to LOGON_SENT. Otherwise all is binary
until the server has answered, and what it then names is spoken, be it what we asked for or not.

Bytes go in, events come out, and what has to be sent is fetched with `outgoing`. The session is told the time: `now_ns`
is the monotonic clock, `received_ns` the wall clock.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc.encodings import BINARY, Codec, Reader, codec_of
from mia_daemon.dtc.enums import CURRENT_VERSION, PROTOCOL_TYPE, LogonStatusEnum
from mia_daemon.dtc.layout import Message
from mia_daemon.dtc.market_data import Arrival, MarketDataDecoder, Skipped
from mia_daemon.dtc.messages import (
    AlertMessage,
    EncodingRequest,
    EncodingResponse,
    GeneralLogMessage,
    Heartbeat,
    Logoff,
    LogonRequest,
    LogonResponse,
    UserMessage,
)
from mia_daemon.dtc.server_text import ServerText
from mia_daemon.dtc.stream import Frames
from mia_daemon.errors import ConnectionLost, LogonRefused, PeerError, ProtocolError, SentElsewhere

Notice = UserMessage | GeneralLogMessage | AlertMessage
"""Text for people."""


def notice_text(notice: Notice) -> str:
    """What it says."""
    return notice.UserMessage if isinstance(notice, UserMessage) else notice.MessageText


class SessionState(Enum):
    CLOSED = "closed"
    NEGOTIATING = "negotiating"
    LOGON_SENT = "logon sent"
    READY = "ready"
    LOGGED_OFF = "logged off"
    FAILED = "failed"


class Event(Enum):
    """What can happen to a session."""

    START = "start"
    START_PRESET = "start, encoding preset"
    STOP = "stop"  # we log off
    ENCODING_AGREED = "encoding agreed"
    LOGON_ACCEPTED = "logon accepted"
    REFUSED = "refused"  # encoding or logon, or the server logs us off
    NOTICE = "notice"  # text for people, or a frame skipped: may come before the logon is answered
    MESSAGE = "message"
    LATE = "late"  # no answer to encoding request or logon
    SILENT = "silent"  # nothing received for twice the heartbeat interval
    BROKEN = "broken"  # the stream is not DTC
    ENDED = "ended"  # the connection was closed under us


class Rule(NamedTuple):
    state: SessionState
    action: str = "nothing"  # a method of DtcSession: `_<action>`


_STAY_CLOSED, _STAY_OFF, _STAY_FAILED = (
    Rule(SessionState.CLOSED),
    Rule(SessionState.LOGGED_OFF),
    Rule(SessionState.FAILED),
)
_FAIL = Rule(SessionState.FAILED, "end")
_WAITING = {  # for the answer to the encoding request, and to the logon
    Event.STOP: Rule(SessionState.LOGGED_OFF),
    Event.REFUSED: _FAIL,
    Event.LATE: _FAIL,
    Event.BROKEN: _FAIL,
    Event.ENDED: _FAIL,
}

_OVER = frozenset({SessionState.CLOSED, SessionState.LOGGED_OFF, SessionState.FAILED})

TABLE: dict[SessionState, dict[Event, Rule]] = {
    SessionState.CLOSED: dict.fromkeys(Event, _STAY_CLOSED)
    | {
        Event.START: Rule(SessionState.NEGOTIATING, "ask_encoding"),
        Event.START_PRESET: Rule(SessionState.LOGON_SENT, "log_on"),
    },
    SessionState.NEGOTIATING: {
        **_WAITING,
        Event.START: Rule(SessionState.NEGOTIATING),
        Event.START_PRESET: Rule(SessionState.NEGOTIATING),
        Event.ENCODING_AGREED: Rule(SessionState.LOGON_SENT, "agree"),
        Event.LOGON_ACCEPTED: Rule(SessionState.NEGOTIATING),
        Event.NOTICE: Rule(SessionState.NEGOTIATING, "deliver"),
        Event.MESSAGE: Rule(SessionState.NEGOTIATING, "drop"),
        Event.SILENT: Rule(SessionState.NEGOTIATING),
    },
    SessionState.LOGON_SENT: {
        **_WAITING,
        Event.START: Rule(SessionState.LOGON_SENT),
        Event.START_PRESET: Rule(SessionState.LOGON_SENT),
        Event.ENCODING_AGREED: Rule(SessionState.LOGON_SENT),
        Event.LOGON_ACCEPTED: Rule(SessionState.READY, "announce"),
        Event.NOTICE: Rule(SessionState.LOGON_SENT, "deliver"),
        Event.MESSAGE: Rule(SessionState.LOGON_SENT, "drop"),
        Event.SILENT: Rule(SessionState.LOGON_SENT),
    },
    SessionState.READY: {
        Event.START: Rule(SessionState.READY),
        Event.START_PRESET: Rule(SessionState.READY),
        Event.STOP: Rule(SessionState.LOGGED_OFF, "log_off"),
        Event.ENCODING_AGREED: Rule(SessionState.READY),
        Event.LOGON_ACCEPTED: Rule(SessionState.READY),
        Event.REFUSED: _FAIL,
        Event.NOTICE: Rule(SessionState.READY, "deliver"),
        Event.MESSAGE: Rule(SessionState.READY, "deliver"),
        Event.LATE: Rule(SessionState.READY),
        Event.SILENT: _FAIL,
        Event.BROKEN: _FAIL,
        Event.ENDED: _FAIL,
    },
    SessionState.LOGGED_OFF: dict.fromkeys(Event, _STAY_OFF),
    SessionState.FAILED: dict.fromkeys(Event, _STAY_FAILED),
}
"""What follows from each event in each state."""


@dataclass(frozen=True, slots=True)
class LoggedOn:
    """The server accepted us: requests and orders may be sent."""

    response: LogonResponse


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over; close the connection. `error` says why, and whether to connect again."""

    error: PeerError


SessionEvent = Arrival | LoggedOn | Ended


class DtcSession:
    """One connection's protocol, from connect to close. Texts of the server are safe to show: see `ServerText`.

    Args:
        logon: as it will be sent; its HeartbeatIntervalInSeconds rules the heartbeats of both sides.
        decoder: turns messages into rows; its counters are the session's.
        answer_timeout_ns: how long the server may take to answer.
        codec: the encoding to ask for, or that of a server where it is preset.
        preset: do not ask.

    Attributes:
        codec: the encoding in use, from LOGON_SENT on.
    """

    codec: Codec

    def __init__(
        self,
        logon: LogonRequest,
        decoder: MarketDataDecoder,
        answer_timeout_ns: int,
        *,
        codec: Codec = BINARY,
        preset: bool = False,
    ) -> None:
        self.state = SessionState.CLOSED
        self.dropped_messages = 0
        self._logon = logon
        self._text = ServerText(logon)
        self._decoder = decoder
        self._wanted = codec
        self._preset = preset
        self._speak(codec if preset else BINARY)
        self._interval_ns = logon.HeartbeatIntervalInSeconds * NS_PER_S
        self._answer_timeout_ns = answer_timeout_ns
        self._asked_ns = self._heard_ns = self._beat_ns = self._now_ns = 0
        self._out = bytearray()

    def start(self, now_ns: int) -> None:
        """The connection is open: ask for an encoding, or log on."""
        self._now_ns = self._heard_ns = now_ns
        self._apply(Event.START_PRESET if self._preset else Event.START)

    def receive(self, data: bytes, now_ns: int, received_ns: int) -> list[SessionEvent]:
        """What `data` brings, in order; `Ended` comes last if it comes. Raises nothing."""
        self._now_ns = now_ns
        if self.state in _OVER:
            return []
        frames = self._reader.feed(data)
        if len(frames):
            self._heard_ns = now_ns
        events: list[SessionEvent] = []
        if self.state is SessionState.NEGOTIATING and (at := _first(frames, EncodingResponse.TYPE)) is not None:
            events += self._handle(frames.first(at + 1), received_ns)
            self._speak(self.codec)  # what was read beyond the answer is read again: it is encoded as agreed
            frames = self._reader.feed(frames.after(at + 1))
        events += self._handle(frames, received_ns)
        if self._reader.error is not None:
            events += self._apply(Event.BROKEN, self._reader.error)
        return events

    def _handle(self, frames: Frames, received_ns: int) -> list[SessionEvent]:
        events: list[SessionEvent] = []
        for segment in self._decoder.decode(frames, received_ns):
            if isinstance(segment, np.ndarray):  # prices, which come more often than all else
                events += self._apply(Event.MESSAGE, segment)
            elif isinstance(segment, Skipped):
                events += self._apply(Event.NOTICE, self._text.clean_skipped(segment))
            else:
                events += self._apply(*self._classify(self._text.clean(segment)))
        return events

    def _speak(self, codec: Codec) -> None:
        self.codec = self._decoder.codec = codec
        self._reader: Reader = codec.reader()

    def tick(self, now_ns: int, unacknowledged: int = 0) -> list[SessionEvent]:
        """Call every second or so: sends the heartbeat when it is due, notices silence and answers that stay away.

        Args:
            now_ns: monotonic clock.
            unacknowledged: bytes sent that the other machine has not taken; they tell a dead line from a mute server.
        """
        self._now_ns = now_ns
        if self.state is SessionState.READY and now_ns - self._beat_ns >= self._interval_ns:
            self._beat_ns = now_ns
            self._out += self.codec.encode(Heartbeat())
        if now_ns - self._heard_ns >= 2 * self._interval_ns:
            lost = _silent((now_ns - self._heard_ns) / NS_PER_S, unacknowledged)
            return self._apply(Event.SILENT, lost) or self._late(now_ns)
        return self._late(now_ns)

    def stop(self) -> None:
        """Log off. `outgoing` has the last bytes; the connection may be closed after them."""
        self._apply(Event.STOP)

    def ended(self) -> list[SessionEvent]:
        """The other side closed the connection, or the network did."""
        what = (
            "ended"
            if self.state is SessionState.READY
            else "was closed by the server before the logon was answered: is dtc.tls as this port has it?"
        )
        return self._apply(Event.ENDED, ConnectionLost(f"the connection {what}"))

    def outgoing(self) -> bytes:
        """The bytes to send now; they are forgotten here."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def _classify(self, segment: Message) -> tuple[Event, Arrival | PeerError]:
        match segment:
            case EncodingResponse() if codec_of(segment.Encoding) is not None:
                return Event.ENCODING_AGREED, segment
            case EncodingResponse():
                return Event.REFUSED, _encoding_refused(segment.Encoding)
            case LogonResponse(Result=LogonStatusEnum.LOGON_SUCCESS):
                return Event.LOGON_ACCEPTED, segment
            case LogonResponse():
                return Event.REFUSED, _logon_refused(segment, segment.ResultText)
            case Logoff():
                return Event.REFUSED, _logged_off(segment, segment.Reason)
        return Event.NOTICE if isinstance(segment, Notice) else Event.MESSAGE, segment

    def _apply(self, event: Event, fact: Arrival | PeerError | None = None) -> list[SessionEvent]:
        self.state, action = TABLE[self.state][event]
        result: list[SessionEvent] = getattr(self, f"_{action}")(fact)
        return result

    def _late(self, now_ns: int) -> list[SessionEvent]:
        if now_ns - self._asked_ns < self._answer_timeout_ns:
            return []
        asked = "logon" if self.state is SessionState.LOGON_SENT else f"request for {self._wanted.name} encoding"
        return self._apply(
            Event.LATE,
            ConnectionLost(
                f"the server took the connection but has not answered the {asked} for "
                f"{self._answer_timeout_ns / NS_PER_S:g} s: is this the port of a DTC server?"
            ),
        )

    # The actions of the table.

    def _nothing(self, _: object) -> list[SessionEvent]:
        return []

    def _drop(self, _: object) -> list[SessionEvent]:
        self.dropped_messages += 1
        return []

    def _deliver(self, segment: Arrival) -> list[SessionEvent]:
        quiet = isinstance(segment, Heartbeat) and not segment.NumDroppedMessages
        return [] if quiet else [segment]

    def _ask_encoding(self, _: object) -> list[SessionEvent]:
        wanted = self._wanted.encoding
        return self._ask(EncodingRequest(ProtocolVersion=CURRENT_VERSION, Encoding=wanted, ProtocolType=PROTOCOL_TYPE))

    def _agree(self, response: EncodingResponse) -> list[SessionEvent]:
        agreed = codec_of(response.Encoding)
        assert agreed is not None  # else it would have been a refusal
        self.codec = agreed
        return self._log_on(None)

    def _log_on(self, _: object) -> list[SessionEvent]:
        return self._ask(self._logon)

    def _ask(self, message: Message) -> list[SessionEvent]:
        self._asked_ns = self._now_ns
        self._out += self.codec.encode(message)
        return []

    def _announce(self, response: LogonResponse) -> list[SessionEvent]:
        self._beat_ns = self._now_ns
        return [LoggedOn(response)]

    def _log_off(self, _: object) -> list[SessionEvent]:
        self._out += self.codec.encode(Logoff(Reason="the client stops"))
        return []

    def _end(self, error: PeerError) -> list[SessionEvent]:
        return [Ended(error)]


def _encoding_refused(encoding: int) -> ProtocolError:
    return ProtocolError(
        f"the server insists on encoding {encoding}, which is not spoken here: "
        "set its DTC server to binary encoding (or to automatic)"
    )


def _first(frames: Frames, type_: int) -> int | None:
    """The number of the first message of this type in binary frames."""
    where = (frames.types() == type_).nonzero()[0]
    return int(where[0]) if len(where) else None


def _silent(seconds: float, unacknowledged: int) -> ConnectionLost:
    why = (
        f"and does not receive what is sent ({unacknowledged} bytes): its machine or the network is gone"
        if unacknowledged
        else "though its machine receives what is sent: Sierra Chart hangs, or is stopped"
    )
    return ConnectionLost(f"the server has been silent for {seconds:.0f} s, {why}; the connection is taken for lost")


def _logon_refused(response: LogonResponse, text: str) -> PeerError:
    said = f": {text}" if text else ""
    match response.Result:
        case LogonStatusEnum.LOGON_ERROR:
            return LogonRefused(
                f"the server refused the logon{said}; it is tried again, "
                "check MIA_DTC_USERNAME and MIA_DTC_PASSWORD meanwhile",
                reconnect_allowed=True,
            )
        case LogonStatusEnum.LOGON_ERROR_NO_RECONNECT:
            return LogonRefused(
                f"the server refused the logon for good{said}; it is not called again: correct that, then start anew",
                reconnect_allowed=False,
            )
        case LogonStatusEnum.LOGON_RECONNECT_NEW_ADDRESS:
            address = response.ReconnectAddress
            return SentElsewhere(f"the server asks to be called at {address!r} instead{said}", address)
    return LogonRefused(
        f"the server answered the logon with result {int(response.Result)}, which DTC does not know{said}",
        reconnect_allowed=True,
    )


def _logged_off(message: Logoff, text: str) -> PeerError:
    said = f": {text}" if text else ""
    if message.DoNotReconnect:
        return LogonRefused(f"the server logged us off and asks not to be called again{said}", reconnect_allowed=False)
    return ConnectionLost(f"the server logged us off{said}")
