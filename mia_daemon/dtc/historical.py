"""Historical prices: one request on a connection of its own, and the records that answer it, in bulk.

The first messages are those of any session. Behind the response header everything is records, compressed as one zlib
stream when that was asked for and the server agrees; the stream begins with the very next byte.
"""

import zlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_S
from mia_daemon.dtc import binary
from mia_daemon.dtc.encodings import BINARY, Codec
from mia_daemon.dtc.enums import AtBidOrAskEnum, HistoricalPriceDataRejectReasonCodeEnum
from mia_daemon.dtc.layout import HEADER
from mia_daemon.dtc.market_data import MarketDataDecoder
from mia_daemon.dtc.messages import (
    UNSET_F64,
    Heartbeat,
    HistoricalPriceDataRecordResponse,
    HistoricalPriceDataReject,
    HistoricalPriceDataRequest,
    HistoricalPriceDataResponseHeader,
    HistoricalPriceDataResponseTrailer,
    HistoricalPriceDataTickRecordResponse,
    Logoff,
    LogonRequest,
    Message,
)
from mia_daemon.dtc.server_text import ServerText
from mia_daemon.dtc.session import DtcSession, Ended, LoggedOn
from mia_daemon.dtc.stream import MAX_JSON_BYTES, Frames
from mia_daemon.errors import ConnectionLost, ProtocolError, RequestRefused

PRICE_RECORD = np.dtype(
    [
        ("time_us", "<i8"),  # of the trade, or at which the bar begins: microseconds since the Unix epoch
        ("open", "<f8"),  # of a single trade 0 or a sub-trade marker, as in a .scid file
        ("high", "<f8"),  # of a single trade the ask
        ("low", "<f8"),  # of a single trade the bid
        ("last", "<f8"),
        ("volume", "<f8"),
        ("num_trades", "<u4"),
        ("bid_volume", "<f8"),
        ("ask_volume", "<f8"),
    ]
)
PriceRecords = NDArray[np.void]
"""A one-dimensional array of PRICE_RECORD."""

_WIRE = HistoricalPriceDataRecordResponse.LAYOUT.dtype()
_RECORD = HistoricalPriceDataRecordResponse.LAYOUT
_FIELDS = (
    ("time_us", "StartDateTime"),
    ("open", "OpenPrice"),
    ("high", "HighPrice"),
    ("low", "LowPrice"),
    ("last", "LastPrice"),
    ("volume", "Volume"),
    ("num_trades", "NumTrades"),
    ("bid_volume", "BidVolume"),
    ("ask_volume", "AskVolume"),
)
_EARLIEST_US, _LATEST_US = 315_532_800_000_000, 4_102_444_800_000_000  # 1980 to 2100: other times are no times
_MAX_PIECE = 1 << 20  # decompressed bytes looked at together: whatever a stream unpacks to, memory stays bounded


def encode_records(request_id: int, rows: PriceRecords, *, final: bool, codec: Codec = BINARY) -> bytes:
    """The rows as messages; `final` marks the last of them as the end of the answer."""
    wire = np.zeros(len(rows), _WIRE)
    wire["Size"], wire["Type"], wire["RequestID"] = _RECORD.size, _RECORD.type, request_id
    for name, field in _FIELDS:
        wire[field] = rows[name]
    if final and len(wire):
        wire["IsFinalRecord"][-1] = 1
    return codec.from_binary(wire.tobytes())


class RecordReader:
    """Takes price records out of a stream of messages, many at a time where they lie as structures.

    Args:
        codec: how the messages are encoded.
        text: cleans what the server writes; None where nobody logged on.

    Attributes:
        complete: the last record has come.
    """

    def __init__(self, codec: Codec = BINARY, text: ServerText | None = None) -> None:
        self.complete = False
        self._codec = codec
        self._text = text or ServerText(LogonRequest())
        self._frames = codec.reader()

    def feed(self, data: bytes) -> PriceRecords:
        """The records that `data` completes; a last record without a time carries no data and is left out.

        Raises:
            ProtocolError: the stream is not DTC, or a record has no sane time.
            RequestRefused, ConnectionLost: the server gave up half-way.
        """
        frames = self._frames.feed(data)
        parts = list(self._parts(frames)) if len(frames) else []
        if self._frames.error is not None:
            raise self._frames.error
        rows = np.concatenate(parts) if parts else np.zeros(0, PRICE_RECORD)
        dated: PriceRecords = rows[rows["time_us"] != 0]
        times = dated["time_us"]
        if np.any((times < _EARLIEST_US) | (times > _LATEST_US)):
            raise ProtocolError("the server sent a record whose time is not within 1980 to 2100")
        return dated

    def _parts(self, frames: Frames) -> list[PriceRecords]:
        if not self._codec.structures:
            return self._one_by_one(frames)
        starts, sizes = frames.starts(), frames.sizes()
        alike = (frames.types() == _RECORD.type) & (sizes == _RECORD.size)
        edges = [0, *(np.flatnonzero(np.diff(alike)) + 1).tolist(), len(alike)]
        parts: list[PriceRecords] = []
        for first, last in pairwise(edges):
            if self.complete:
                break
            if alike[first]:
                wire = np.frombuffer(frames.data, _WIRE, last - first, int(starts[first]))
                parts.append(self._bulk(wire))
                continue
            parts += self._one_by_one(Frames(frames.data, frames.offsets[first : last + 1]))
        return parts

    def _one_by_one(self, frames: Frames) -> list[PriceRecords]:
        parts: list[PriceRecords] = []
        for message in self._codec.messages(frames):
            if self.complete:
                break
            if len(row := self._single(self._text.clean(message))):
                parts.append(row)
        return parts

    def _bulk(self, wire: NDArray[np.void]) -> PriceRecords:
        final = np.flatnonzero(wire["IsFinalRecord"])
        if len(final):
            self.complete = True
            wire = wire[: int(final[0]) + 1]
        rows = np.zeros(len(wire), PRICE_RECORD)
        for name, field in _FIELDS:
            values = wire[field]
            is_float = name not in {"time_us", "num_trades"}
            rows[name] = np.where(np.abs(values) < UNSET_F64, values, 0.0) if is_float else values
        return rows

    def _single(self, message: Message) -> PriceRecords:
        """A message that is no plain record: a shorter or longer one, a bare tick, an end or a refusal."""
        match message:
            case HistoricalPriceDataRecordResponse():
                return self._bulk(np.frombuffer(binary.encode(message), _WIRE))
            case HistoricalPriceDataTickRecordResponse():
                self.complete = bool(message.IsFinalRecord)
                return _tick(message)
            case HistoricalPriceDataResponseTrailer():
                self.complete = True
            case HistoricalPriceDataReject():
                raise refusal(message)
            case Logoff():
                raise ConnectionLost(f"the server logged us off in the middle of its records: {message.Reason}")
        return np.zeros(0, PRICE_RECORD)


def _tick(message: HistoricalPriceDataTickRecordResponse) -> PriceRecords:
    row = np.zeros(1, PRICE_RECORD)
    seconds = message.DateTime
    row["time_us"] = round(seconds * 1e6) if abs(seconds) < _LATEST_US / 1e6 else _LATEST_US + 1  # which is refused
    row["last"], row["volume"], row["num_trades"] = message.Price, message.Volume, 1
    row["bid_volume"] = message.Volume if message.AtBidOrAsk == AtBidOrAskEnum.AT_BID else 0.0
    row["ask_volume"] = message.Volume if message.AtBidOrAsk == AtBidOrAskEnum.AT_ASK else 0.0
    return row


def refusal(reject: HistoricalPriceDataReject) -> RequestRefused:
    """The server's refusal in one sentence."""
    said = reject.RejectText or "no reason given"
    if (
        reject.RejectReasonCode
        == HistoricalPriceDataRejectReasonCodeEnum.HPDR_UNABLE_TO_SERVE_DATA_RETRY_IN_SPECIFIED_SECONDS
    ):
        return RequestRefused(f"the server can't serve it now: {said}; ask again in {reject.RetryTimeInSeconds} s")
    return RequestRefused(f"the server refuses it: {said}")


class HistoricalClient:
    """One connection's protocol: log on, ask, and take the records until the last.

    Args:
        request: what to ask for; its UseZLibCompression is a wish, for records that lie as structures.
        logon: as it will be sent.
        answer_timeout_ns: how long the server may stay silent before the answer and within it.
        codec: the encoding to ask for; the one that the server then names is spoken.
        preset: the server is set to that encoding, and is not asked for it.

    Attributes:
        complete: all records have come.
        empty: the server has none for this request.
    """

    def __init__(
        self,
        request: HistoricalPriceDataRequest,
        logon: LogonRequest,
        answer_timeout_ns: int,
        *,
        codec: Codec = BINARY,
        preset: bool = False,
    ) -> None:
        self.complete = False
        self.empty = False
        self._request = request
        self._session = DtcSession(logon, MarketDataDecoder({}), answer_timeout_ns, codec=codec, preset=preset)
        self._text = ServerText(logon)
        self._records = RecordReader(codec, self._text)
        self._inflate: Any = None  # a zlib decompressor, once the server has said that it compresses
        self._asked = self._answered = False
        self._timeout_ns = answer_timeout_ns
        self._interval_ns = logon.HeartbeatIntervalInSeconds * NS_PER_S
        self._heard_ns = self._beat_ns = 0
        self._rest = b""
        self._out = bytearray()

    def start(self, now_ns: int) -> None:
        """The connection is open."""
        self._heard_ns = self._beat_ns = now_ns
        self._session.start(now_ns)

    def outgoing(self) -> bytes:
        """The bytes to send now; they are forgotten here."""
        out = self._session.outgoing() + bytes(self._out)
        self._out.clear()
        return out

    def receive(self, data: bytes, now_ns: int) -> PriceRecords:
        """The records that `data` brings, possibly none.

        Raises:
            PeerError: there will be no (more) records; the text says why.
        """
        self._heard_ns = now_ns
        self._beat(now_ns)
        if not self._answered:
            data = self._until_answered(self._rest + data, now_ns)
        if not self._answered or self.complete or not data:
            return np.zeros(0, PRICE_RECORD)
        rows = self._records.feed(data) if self._inflate is None else self._decompressed(data)
        self.complete = self._records.complete
        return rows

    def tick(self, now_ns: int) -> None:
        """Call every second or so. Raises ConnectionLost when the server has been silent for too long."""
        if not self._asked:
            for event in self._session.tick(now_ns):
                if isinstance(event, Ended):
                    raise event.error
            return
        self._beat(now_ns)
        if now_ns - self._heard_ns > self._timeout_ns:
            raise ConnectionLost(
                f"the server took the request and has been silent for {self._timeout_ns / NS_PER_S:g} s: "
                "is this its port for historical data?"
            )

    def _beat(self, now_ns: int) -> None:
        """The session's heartbeats are over once the request is out: these are ours."""
        if self._asked and now_ns - self._beat_ns >= self._interval_ns:
            self._beat_ns = now_ns
            self._out += self._session.codec.encode(Heartbeat())

    def ended(self) -> ConnectionLost:
        """Why the server's closing the connection now is an error."""
        if self._answered:
            return ConnectionLost("the server closed the connection before its last record")
        if self._asked:
            return ConnectionLost(
                "the server closed the connection instead of answering: is this its port for historical data?"
            )
        return ConnectionLost(
            "the server closed the connection before the logon was answered: is dtc.tls as this port has it?"
        )

    def _until_answered(self, data: bytes, now_ns: int) -> bytes:
        """Take whole messages off the front until the response header has come; what follows it."""
        while not self._answered and 0 < (size := self._first_size(data)) <= len(data):
            frame, data = data[:size], data[size:]
            if self._asked:
                message = self._session.codec.decode(frame)
                self._answer(None if message is None else self._text.clean(message))
            else:
                self._log_on(frame, now_ns)
        self._rest = b"" if self._answered else data
        return data

    def _first_size(self, data: bytes) -> int:
        """The bytes of the first message; 0 while that can't be told. What is none is left to whoever reads it."""
        if not self._session.codec.structures:
            return data.find(b"\0") + 1 or (len(data) if len(data) > MAX_JSON_BYTES else 0)
        if data.startswith(b'{"') and not self._asked:
            return len(data)  # JSON: the session knows what to say of it
        return max(HEADER.unpack_from(data)[0], HEADER.size) if len(data) >= HEADER.size else 0

    def _log_on(self, frame: bytes, now_ns: int) -> None:
        for event in self._session.receive(frame, now_ns, now_ns):
            if isinstance(event, Ended):
                raise event.error
            if isinstance(event, LoggedOn):
                self._asked = True
                codec = self._session.codec
                self._records = RecordReader(codec, self._text)
                compressed = self._request.UseZLibCompression if codec.structures else 0
                self._out += codec.encode(replace(self._request, UseZLibCompression=compressed))

    def _answer(self, message: Message | None) -> None:
        match message:
            case HistoricalPriceDataResponseHeader():
                self._answered = True
                self.empty = self.complete = bool(message.NoRecordsToReturn)
                if message.UseZLibCompression:
                    self._inflate = zlib.decompressobj()
            case HistoricalPriceDataReject():
                raise refusal(message)
            case Logoff():
                raise ConnectionLost(f"the server logged us off instead of answering: {message.Reason}")

    def _decompressed(self, data: bytes) -> PriceRecords:
        parts = []
        try:
            piece = b""
            while (data or len(piece) == _MAX_PIECE) and not self._records.complete and not self._inflate.eof:
                piece = self._inflate.decompress(data, _MAX_PIECE)
                parts.append(self._records.feed(piece))
                data = self._inflate.unconsumed_tail
        except zlib.error as error:
            raise ProtocolError(f"what the server sent as compressed records can't be unpacked: {error}") from error
        if self._inflate.eof and not self._records.complete:
            raise ConnectionLost("the server's compressed data ended before its last record")
        return np.concatenate(parts) if parts else np.zeros(0, PRICE_RECORD)
