"""Historical prices from a DTC server into a `.scid` file that is whole or not there at all."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mia_daemon.clock import NS_PER_S, NS_PER_US, Clock, iso_utc
from mia_daemon.config import DtcSettings
from mia_daemon.dtc.encodings import BINARY, BY_NAME
from mia_daemon.dtc.historical import HistoricalClient, PriceRecords
from mia_daemon.dtc.messages import HistoricalPriceDataRequest, LogonRequest
from mia_daemon.errors import ConnectionLost, PeerError, RequestRefused, StartError, UsageError
from mia_daemon.feed.history.records import to_scid
from mia_daemon.feed.sierra_files import SCID, RecordWriter, check_scid, to_ns
from mia_daemon.link.connection import Endpoint, connect
from mia_daemon.link.tls import check_pin, client_context

_TICK_S = 1.0
_CHUNK = 1 << 18


async def download(
    settings: DtcSettings, request: HistoricalPriceDataRequest, clock: Clock, take: Callable[[PriceRecords], None]
) -> bool:
    """Ask for the records and hand them to `take` as they come; False when the server has none.

    Args:
        settings: host, TLS, credentials and patience; the port is `history_port`.
        request: what to ask for.
        clock: measures silence.
        take: called with (n,) PRICE_RECORD, n > 0, in the server's order.

    Raises:
        PeerError: the server can't be reached, refuses, or ended before its last record.
    """
    timeout_ns = round(settings.request_timeout_s * NS_PER_S)
    preset = settings.encoding_is_preset
    codec = BY_NAME[settings.encoding] if preset else BINARY  # where there is a choice, what can be read in bulk
    client = HistoricalClient(request, _logon(settings), timeout_ns, codec=codec, preset=preset)
    reader, writer = await _connect(settings)
    try:
        client.start(clock.monotonic_ns())
        while not client.complete:
            if outgoing := client.outgoing():
                writer.write(outgoing)
            try:
                async with asyncio.timeout(_TICK_S):
                    data = await reader.read(_CHUNK)
            except TimeoutError:
                client.tick(clock.monotonic_ns())
                continue
            if not data:
                raise client.ended()
            if len(rows := client.receive(data, clock.monotonic_ns())):
                take(rows)
    except OSError as error:
        raise ConnectionLost(f"the connection to {_endpoint(settings)} broke: {error.strerror or error}") from error
    except RequestRefused as refused:
        raise RequestRefused(f"no historical data of {request.Symbol}: {refused}{_advice(refused)}") from None
    except PeerError as error:
        raise type(error)(f"{_endpoint(settings)}: {error}") if type(error) is ConnectionLost else error from None
    finally:
        writer.transport.abort()
    return not client.empty


def _advice(refused: RequestRefused) -> str:
    """Sierra Chart's refusals of an exchange's data name no way out; there is one."""
    if "not allowed" not in str(refused):
        return ""
    return (
        "; Sierra Chart serves no CME, EUREX, NASDAQ or CBOE data over DTC, historical data included: "
        "take the .scid from its Data folder instead"
    )


def _logon(settings: DtcSettings) -> LogonRequest:
    return LogonRequest(
        Username=settings.username.get_secret_value(),
        Password=settings.password.get_secret_value(),
        HeartbeatIntervalInSeconds=settings.heartbeat_interval_s,
        ClientName=f"{settings.client_name} history",
    )


def _endpoint(settings: DtcSettings) -> Endpoint:
    return Endpoint(settings.host, settings.history_port)


async def _connect(settings: DtcSettings) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    endpoint, loop = _endpoint(settings), asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=4 * _CHUNK, loop=loop)
    transport, protocol = await connect(
        endpoint,
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
        tls=client_context(settings),
        server_name=settings.tls_server_name,
        timeout_s=settings.connect_timeout_s,
        port_is="dtc.history_port is its port for historical prices",
    )
    if settings.encrypted:
        try:
            check_pin(settings, transport.get_extra_info("ssl_object"), str(endpoint))
        except PeerError:
            transport.abort()
            raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class ScidDownload:
    """A `.scid` in the making: `<file>.part`, which takes the file's name when it is complete.

    Args:
        path: of the file.
        ticks: single trades, not bars.
        resume: keep what an earlier download left, whether complete or not, and go on behind it.
        replace: an existing file may be replaced, once the new one is complete.

    Attributes:
        newest_ns: of the newest record; None while there is none.
        records: how many there are.

    Raises:
        UsageError: the file exists, and neither `resume` nor `replace` was said.
        StartError: it can't be written.
        FileFormatError: what is there is no `.scid`.
    """

    def __init__(self, path: Path, *, ticks: bool, resume: bool = False, replace: bool = False) -> None:
        self.path = path
        self.part = path.with_name(f"{path.name}.part")
        self.newest_ns: int | None = None
        self.records = 0
        self._ticks = ticks
        self._here = False  # something was appended by us: records of one time may come in two pieces
        if path.exists() and not (resume or replace):
            raise UsageError(f"{path} exists: say --resume to fetch what is newer, --replace to fetch it anew")
        copied = resume and path.exists() and not self.part.exists()
        try:
            if not resume:
                self.part.unlink(missing_ok=True)
            elif copied:
                shutil.copyfile(path, self.part)
        except OSError as error:
            raise StartError(f"{self.part} can't be written: {error.strerror}; check the directory") from error
        try:
            self._writer = RecordWriter(self.part, SCID)
            self._find_newest()
        except BaseException:
            if copied:
                self.part.unlink(missing_ok=True)
            raise

    def _find_newest(self) -> None:
        size = SCID.record.itemsize
        self.records = (self.part.stat().st_size - SCID.header_size) // size
        if self.records:
            last = np.fromfile(self.part, SCID.record, 1, offset=SCID.header_size + (self.records - 1) * size)
            if self._ticks:
                check_scid(last, self.part, self.records - 1)
                self.newest_ns = int(to_ns(last["time"][0]))
            else:  # the newest bar may have been fetched before it was over: once more
                self.records -= 1
                os.truncate(self.part, SCID.header_size + self.records * size)
                self.newest_ns = int(to_ns(last["time"][0])) - NS_PER_US

    def take(self, rows: PriceRecords, *, before_ns: int | None = None) -> None:
        """Append the rows that are newer than what is there.

        Args:
            rows: (n,) PRICE_RECORD in order of time.
            before_ns: later ones are left out; None keeps all.

        Raises:
            StartError: the disk does not take them.
        """
        records = to_scid(rows, ticks=self._ticks)
        times = to_ns(records["time"])
        wanted = np.ones(len(records), np.bool_)
        if self.newest_ns is not None:
            wanted &= (times > self.newest_ns) | (self._here & (times == self.newest_ns))
        if before_ns is not None:
            wanted &= times < before_ns
        records = records[wanted]
        if not len(records):
            return
        try:
            self._writer.append(records)
        except OSError as error:
            raise StartError(f"{self.part} can't be written: {error.strerror}; make room, then --resume") from error
        self.records += len(records)
        self.newest_ns = int(times[wanted][-1])
        self._here = True

    def complete(self) -> None:
        """Give the file its name: from now on it is the whole answer."""
        self._close_and_flush()
        try:
            os.replace(self.part, self.path)  # noqa: PTH105  with fsync around it
        except OSError as error:
            raise StartError(f"{self.part} can't take the name {self.path}: {error.strerror}") from error
        _sync(self.path.parent)

    def give_up(self) -> str:
        """Stop before the end; what is left and how to go on, empty when nothing is."""
        if not self.records or (self.path.exists() and not self._here):
            self._writer.close()
            self.part.unlink(missing_ok=True)
            return ""
        self._close_and_flush()
        return f"{self.records:,} records up to {iso_utc(self.newest_ns or 0)} wait in {self.part} for --resume"

    def _close_and_flush(self) -> None:
        self._writer.close()
        _sync(self.part)


def _sync(path: Path) -> None:
    """Everything written there is on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
