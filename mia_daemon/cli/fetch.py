"""`mia-daemon fetch`: historical prices from a DTC server into a `.scid` file."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import add_common, load_settings, port, say, symbol, time_ns
from mia_daemon.errors import MiaError, UsageError

if TYPE_CHECKING:
    from mia_daemon.config import DtcSettings
    from mia_daemon.dtc.historical import PriceRecords
    from mia_daemon.dtc.messages import HistoricalPriceDataRequest
    from mia_daemon.feed.history.download import ScidDownload

_INTERVALS = {"tick": 0, "1s": 1, "2s": 2, "4s": 4, "5s": 5, "10s": 10, "30s": 30, "1m": 60, "5m": 300, "10m": 600,
              "15m": 900, "30m": 1800, "1h": 3600, "2h": 7200, "1d": 86_400, "1w": 604_800}  # fmt: skip
_NS_PER_S = 1_000_000_000
_TELL_EVERY_S = (0.5, 5.0)  # on a terminal, and in a log


def add(commands: Any) -> None:
    parser = commands.add_parser("fetch", help="historical prices from a DTC server into a .scid file")
    parser.add_argument("symbol", type=symbol, metavar="SYMBOL", help="as the server spells it")
    parser.add_argument("--from", dest="from_ns", type=time_ns, required=True, metavar="TIME", help="UTC, inclusive")
    parser.add_argument("--to", dest="to_ns", type=time_ns, metavar="TIME", help="UTC, exclusive (default: newest)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.scid")
    parser.add_argument("--interval", choices=_INTERVALS, default="tick", help="of a record (default: tick)")
    parser.add_argument("--history-port", type=port, metavar="PORT", help="default: dtc.history_port")
    parser.add_argument("--plain", action="store_true", help="ask for uncompressed records")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="keep what is there and fetch what is newer")
    again.add_argument("--replace", action="store_true", help="fetch an existing file anew")
    add_common(parser)
    parser.set_defaults(command=_fetch)


def _fetch(options: argparse.Namespace) -> int:
    settings = load_settings(options, dtc__history_port=options.history_port).dtc
    if options.to_ns is not None and options.to_ns <= options.from_ns:
        raise UsageError("--to has to be later than --from")
    from mia_daemon.feed.history.download import ScidDownload

    file = ScidDownload(options.out, ticks=options.interval == "tick", resume=options.resume, replace=options.replace)
    try:
        asyncio.run(_download(settings, options, file))
        if not file.records:
            raise MiaError(f"the server has no records of {options.symbol} in that time: nothing was written")
    except (MiaError, KeyboardInterrupt) as error:
        if left := file.give_up():
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            raise MiaError(f"{why}; {left}") from error
        raise
    file.complete()
    from mia_daemon.clock import iso_utc

    say(f"{options.out}: {file.records:,} records up to {iso_utc(file.newest_ns or 0)}")
    return 0


async def _download(settings: "DtcSettings", options: argparse.Namespace, file: "ScidDownload") -> None:
    from mia_daemon.clock import WallClock
    from mia_daemon.feed.history.download import download

    clock = WallClock()
    progress = _Progress(clock.monotonic_ns(), options.symbol, file)

    def take(rows: "PriceRecords") -> None:
        file.take(rows, before_ns=options.to_ns)
        progress.tell(clock.monotonic_ns())

    try:
        await download(settings, _request(options, file), clock, take)
    finally:
        progress.end()


def _request(options: argparse.Namespace, file: "ScidDownload") -> "HistoricalPriceDataRequest":
    from mia_daemon.dtc.messages import HistoricalPriceDataRequest

    start_ns = max(options.from_ns, file.newest_ns or 0)
    return HistoricalPriceDataRequest(
        RequestID=1,
        Symbol=options.symbol,
        RecordInterval=_INTERVALS[options.interval],
        StartDateTime=start_ns // _NS_PER_S,
        EndDateTime=0 if options.to_ns is None else -(-options.to_ns // _NS_PER_S),
        UseZLibCompression=0 if options.plain else 1,
    )


class _Progress:
    """How far it is, now and then, on standard error."""

    def __init__(self, now_ns: int, symbol: str, file: "ScidDownload") -> None:
        self._terminal = sys.stderr.isatty()
        self._every_ns = int(_TELL_EVERY_S[not self._terminal] * _NS_PER_S)
        self._due_ns = now_ns + self._every_ns
        self._symbol = symbol
        self._file = file
        self._told = False

    def tell(self, now_ns: int) -> None:
        if now_ns < self._due_ns:
            return
        from mia_daemon.clock import iso_utc

        self._due_ns = now_ns + self._every_ns
        self._told = True
        text = f"{self._symbol}: {self._file.records:,} records up to {iso_utc(self._file.newest_ns or 0)}"
        print(f"\r{text}" if self._terminal else text, end="" if self._terminal else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._told and self._terminal:
            print(file=sys.stderr)
