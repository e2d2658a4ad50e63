"""`.scid` files in a directory, as a server of historical prices asks for them."""

import bisect
from collections.abc import Iterator
from pathlib import Path

from mia_daemon.clock import NS_PER_US
from mia_daemon.dtc.historical import PriceRecords
from mia_daemon.errors import FileFormatError
from mia_daemon.feed.history.records import bars, from_scid
from mia_daemon.feed.sierra_files import Records, read_scid, to_us
from mia_daemon.products.instruments import check_symbol

_DAY_US = 86_400 * 1_000_000
_PIECE = 65_536  # trades looked at together


class ScidArchive:
    """One `<symbol>.scid` for each symbol."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def pieces(
        self, symbol: str, interval_s: int, start_us: int, end_us: int, max_days: int = 0
    ) -> Iterator[PriceRecords]:
        """The records of `start_us` to `end_us` (Unix time, both included), in order, a piece at a time.

        Args:
            symbol: names the file.
            interval_s: of the bars; 0: single trades.
            start_us: the first moment.
            end_us: the last.
            max_days: no more than these before the last record up to `end_us`; 0: no limit.

        Raises:
            FileFormatError: the symbol is not here or its file can't be served; before the first piece.
        """
        try:
            path: Path | None = self._directory / f"{check_symbol(symbol)}.scid"
        except ValueError:
            path = None
        if path is None or not path.is_file():
            raise FileFormatError(f"there is no {symbol}.scid here")
        records = read_scid(path)
        end = _place(records, end_us + 1)
        if max_days and end:
            last_us = int(from_scid(records[end - 1 : end])["time_us"][0])
            start_us = max(start_us, last_us - max_days * _DAY_US)
        first = _place(records, start_us)
        return _cut(records[first : max(first, end)], interval_s)


def _place(records: Records, time_us: int) -> int:
    """The first record at `time_us` or later, looking at a few of them."""
    wanted = to_us(time_us * NS_PER_US)
    return bisect.bisect_left(range(len(records)), wanted, key=lambda i: int(records["time"][i]))


def _cut(records: Records, interval_s: int) -> Iterator[PriceRecords]:
    """A piece at a time, and no bar in two pieces."""
    first, bar_us = 0, interval_s * 1_000_000
    while first < len(records):
        last = min(first + _PIECE, len(records))
        if interval_s and last < len(records):
            newest_us = int(from_scid(records[last - 1 : last])["time_us"][0])
            last = _place(records, (newest_us // bar_us + 1) * bar_us)
        rows = from_scid(records[first:last])
        yield bars(rows, interval_s) if interval_s else rows
        first = last
