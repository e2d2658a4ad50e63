"""The stand-in's server of historical prices: one request a connection, on a port of its own."""

import asyncio
import logging
import os
import ssl
import zlib
from collections.abc import Iterator
from typing import Protocol

from mia_daemon.dtc.binary import encode
from mia_daemon.dtc.enums import (
    HistoricalPriceDataRejectReasonCodeEnum,
    LogonStatusEnum,
)
from mia_daemon.dtc.historical import PriceRecords, encode_records
from mia_daemon.dtc.layout import Message
from mia_daemon.dtc.messages import (
    EncodingRequest,
    HistoricalMarketDepthDataReject,
    HistoricalMarketDepthDataRequest,
    HistoricalPriceDataReject,
    HistoricalPriceDataRequest,
    HistoricalPriceDataResponseHeader,
    Logoff,
    LogonRequest,
    LogonResponse,
)
from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.simulator.client_session import SERVER_NAME, Manners
from mia_daemon.simulator.client_stream import ClientStream
from mia_daemon.simulator.rejects import rejects, unreadable

log = logging.getLogger(__name__)

MAX_CLIENTS = 16
_PATIENCE_S = 60.0  # a client that has not asked by then is shown out
_US_PER_S = 1_000_000
_DAY_S = 86_400
_FOREVER_US = 1 << 62
_REFUSED = HistoricalPriceDataRejectReasonCodeEnum.HPDR_GENERAL_REJECT_ERROR
_NOT_SERVED = HistoricalPriceDataRejectReasonCodeEnum.HPDR_UNABLE_TO_SERVE_DATA_DO_NOT_RETRY


class Archive(Protocol):
    """Where the records come from."""

    def pieces(self, symbol: str, interval_s: int, start_us: int, end_us: int, max_days: int) -> Iterator[PriceRecords]:
        """Records from `start_us` to `end_us` (Unix time, inclusive) in order; an interval of 0 means single trades.

        Of these, no more than `max_days` before the last one; 0: all.

        Raises:
            FileFormatError: the symbol can't be served; the text says why.
        """
        ...


class HistorySession:
    """One client's conversation, without its connection.

    Attributes:
        closing: why the connection ends once all is sent; empty as long as it stays.
    """

    def __init__(self, archive: Archive, manners: Manners) -> None:
        self.closing = ""
        self._archive = archive
        self._manners = manners
        self._stream = ClientStream(manners.encoding)
        self._logged_on = False

    def answer(self, data: bytes) -> Iterator[bytes]:
        """What to send for what `data` completes, a piece at a time."""
        for message in self._stream.read(data):
            for piece in self._answer(message):
                yield self._stream.outgoing(piece)
            if self.closing:
                break
        rest = b""
        if self._stream.broken:
            self.closing = self._stream.broken
            rest = self._encode(Logoff(Reason=self.closing))
        if last := self._stream.outgoing(rest, self.closing):
            yield last

    def _encode(self, message: Message) -> bytes:
        return self._stream.codec.encode(message)

    def _answer(self, message: Message) -> Iterator[bytes]:
        match message:
            case EncodingRequest():
                yield self._stream.agree(message)
            case LogonRequest():
                yield self._logon(message)
            case Logoff():
                self.closing = "the client logged off"
            case HistoricalPriceDataRequest() | HistoricalMarketDepthDataRequest() if not self._logged_on:
                self.closing = "a request came before the logon"
                yield self._encode(Logoff(Reason=self.closing))
            case HistoricalPriceDataRequest():
                self.closing = "its request is answered"
                yield from self._records(message)
            case HistoricalMarketDepthDataRequest():
                self.closing = "its request is answered"
                text = "historical depth is not served"
                yield self._encode(HistoricalMarketDepthDataReject(RequestID=message.RequestID, RejectText=text))
            case _ if self._logged_on:
                text = "only historical prices are served on this port"
                yield from map(self._encode, unreadable(message) or rejects(message, text))

    def _logon(self, m: LogonRequest) -> bytes:
        manners = self._manners
        result, text = manners.logon_result, manners.logon_text
        if manners.username and (m.Username, m.Password) != (manners.username, manners.password):
            result, text = LogonStatusEnum.LOGON_ERROR_NO_RECONNECT, "username or password is wrong"
        self._logged_on = result == LogonStatusEnum.LOGON_SUCCESS
        if not self._logged_on:
            self.closing = f"the logon was refused with result {int(result)}"
        return self._encode(
            LogonResponse(
                Result=result,
                ResultText=text or ("Logon successful" if self._logged_on else "Logon refused"),
                ServerName=SERVER_NAME,
                HistoricalPriceDataSupported=1,
                OneHistoricalPriceDataRequestPerConnection=1,
            )
        )

    def _records(self, m: HistoricalPriceDataRequest) -> Iterator[bytes]:
        try:
            pieces = self._pieces(m)
        except FileFormatError as error:
            yield self._reject(m, str(error), _NOT_SERVED)
            return
        if isinstance(pieces, str):
            yield self._reject(m, pieces, _REFUSED)
            return
        piece = next(pieces, None)
        codec = self._stream.codec
        compressed = bool(m.UseZLibCompression) and piece is not None and codec.structures
        yield self._encode(
            HistoricalPriceDataResponseHeader(
                RequestID=m.RequestID,
                RecordInterval=m.RecordInterval,
                UseZLibCompression=int(compressed),
                NoRecordsToReturn=int(piece is None),
                IntToFloatPriceDivisor=1.0,
            )
        )
        deflate = zlib.compressobj(level=1)
        while piece is not None:
            following = next(pieces, None)
            data = encode_records(m.RequestID, piece, final=following is None, codec=codec)
            yield deflate.compress(data) if compressed else data
            piece = following
        if compressed:
            yield deflate.flush()

    def _pieces(self, m: HistoricalPriceDataRequest) -> Iterator[PriceRecords] | str:
        """The records asked for, or why they are refused."""
        if not self._manners.serves_market_data:
            return "Market data request not allowed"
        if not 0 <= m.RecordInterval <= _DAY_S:
            return f"records of {m.RecordInterval} s are not served: ask for ticks (0) or for bars of up to {_DAY_S} s"
        end_us = m.EndDateTime * _US_PER_S if m.EndDateTime else _FOREVER_US
        start_us = m.StartDateTime * _US_PER_S
        if start_us > end_us:
            return "StartDateTime is later than EndDateTime"
        return self._archive.pieces(m.Symbol, m.RecordInterval, start_us, end_us, m.MaxDaysToReturn)

    def _reject(
        self, m: HistoricalPriceDataRequest, text: str, reason: HistoricalPriceDataRejectReasonCodeEnum
    ) -> bytes:
        return self._encode(HistoricalPriceDataReject(RequestID=m.RequestID, RejectText=text, RejectReasonCode=reason))


class HistoryServer:
    """Serves an archive; a client that does not read only holds back itself."""

    def __init__(self, archive: Archive, manners: Manners) -> None:
        self._archive = archive
        self._manners = manners
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen, encrypted with `tls`, and return the port. Raises StartError when that can't be done."""
        try:
            self._server = await asyncio.start_server(self._admit, host, port, ssl=tls)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartError(
                f"the history server can't listen on {host}:{port}: {reason}; choose another port with --history-port"
            ) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more and cut off who is being served."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # the server runs this as one
        self._tasks.add(task)
        try:
            if len(self._tasks) > MAX_CLIENTS:
                writer.write(encode(Logoff(Reason=f"no more than {MAX_CLIENTS} clients are served")))
            else:
                await self._serve(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            log.info("history client gone: %s", error or "it did not ask in time")
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = HistorySession(self._archive, self._manners)
        while not session.closing:
            async with asyncio.timeout(_PATIENCE_S):
                data = await reader.read(1 << 16)
            if not data:
                return
            for piece in session.answer(data):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)  # the market goes on in between
        log.info("history client gone: %s", session.closing)
