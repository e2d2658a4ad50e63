"""`.scid` (trades) and `.depth` (order book) files as Sierra Chart writes them: check, read, convert, write.

Records are viewed where they lie (memory-mapped) and converted to MARKET_EVENT by whole columns. Formats: Sierra
Chart, "Intraday Data File Format" and "Market Depth Data File Format"; verified on a file written by Sierra Chart.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_daemon.clock import NS_PER_US, iso_utc
from mia_daemon.errors import FileFormatError, StartError
from mia_daemon.private_file import open_file
from mia_daemon.products.price_scale import AS_STORED, PriceScale
from mia_daemon.records import MARKET_EVENT, EventArray, EventFlag, EventKind, empty_events

SCID_RECORD = np.dtype(
    [
        ("time", "<i8"),  # microseconds since 1899-12-30 00:00 UTC
        ("open", "<f4"),  # 0, or a sub-trade marker
        ("high", "<f4"),  # ask
        ("low", "<f4"),  # bid
        ("close", "<f4"),  # price
        ("num_trades", "<u4"),
        ("total_volume", "<u4"),
        ("bid_volume", "<u4"),  # sold into the bid: the seller was the aggressor
        ("ask_volume", "<u4"),
    ]
)
DEPTH_RECORD = np.dtype(
    [
        ("time", "<i8"),
        ("command", "u1"),  # DepthCommand
        ("flags", "u1"),  # 1: end of a batch
        ("num_orders", "<u2"),
        ("price", "<f4"),
        ("quantity", "<u4"),
        ("reserved", "<u4"),
    ]
)
Records = NDArray[np.void]
"""A one-dimensional array of SCID_RECORD or DEPTH_RECORD."""

CLEAR_BOOK, ADD_BID, ADD_ASK, MODIFY_BID, MODIFY_ASK, DELETE_BID, DELETE_ASK = range(1, 8)
"""Commands of a depth record."""
END_OF_BATCH = 1

# The markers are defined by their bits; as decimal text they would not survive a round trip through float32.
FIRST_SUBTRADE_BITS = int(np.array(-1.99900095e37, "<f4").view("<u4"))
LAST_SUBTRADE_BITS = int(np.array(-1.99900197e37, "<f4").view("<u4"))

_EPOCH_US = 25_569 * 86_400 * 1_000_000  # from 1899-12-30 to 1970-01-01
_EARLIEST_US = _EPOCH_US + 315_532_800 * 1_000_000  # 1980-01-01: no electronic market kept ticks before
_LATEST_US = _EPOCH_US + 4_102_444_800 * 1_000_000  # 2100-01-01
_DAY_US = 86_400 * 1_000_000
_MAX_COUNT = 0xFFFF

_ONE_TICK = (
    "in Sierra Chart set Global Settings >> Data/Trade Service Settings >> Intraday Data Storage Time Unit to 1 Tick, "
    "delete this file and let Sierra Chart download it again"
)

OLD_TIMES = (
    "doubles, days since 1899, as older versions of Sierra Chart wrote them: open its chart in a present one, which "
    "converts it, or delete it and let Sierra Chart download it again"
)


@dataclass(frozen=True, slots=True)
class Format:
    """What tells one kind of file from another."""

    name: str
    magic: bytes
    header_size: int
    record: np.dtype[Any]

    def header(self) -> bytes:
        """The first bytes of a new file."""
        return struct.pack("<4sIII", self.magic, self.header_size, self.record.itemsize, 1).ljust(
            self.header_size, b"\0"
        )


SCID = Format(".scid", b"SCID", 56, SCID_RECORD)
DEPTH = Format(".depth", b"SCDD", 64, DEPTH_RECORD)


def check_header(header: bytes, fmt: Format, path: Path) -> None:
    """Refuse what is not a whole header of `fmt`. Raises FileFormatError."""
    if not header:
        raise FileFormatError(
            f"{path} is empty: open a chart of the symbol in Sierra Chart so that it fills it, or name another file"
        )
    if header[:4] != fmt.magic[: len(header)]:
        raise FileFormatError(
            f"{path} is not a {fmt.name} file: it begins with {header[:4]!r} instead of {fmt.magic!r}; "
            f"name the {fmt.name} file in Sierra Chart's Data folder"
        )
    if len(header) < fmt.header_size:
        raise FileFormatError(
            f"{path} is cut off inside its header (byte {len(header)} of {fmt.header_size}): copy it again"
        )
    header_size, record_size = struct.unpack_from("<II", header, 4)
    if (header_size, record_size) != (fmt.header_size, fmt.record.itemsize):
        raise FileFormatError(
            f"{path} has a header of {header_size} and records of {record_size} bytes where {fmt.header_size} and "
            f"{fmt.record.itemsize} are known: it comes from another version of Sierra Chart; convert it there"
        )


def check_scid(records: Records, path: Path, first_index: int = 0) -> None:
    """Refuse records that are not single trades at a sane time. Raises FileFormatError naming the first of them.

    A record with a real price in Open is a bar of several trades: replaying bars as if they were trades would give
    features that no live session has, so the file is refused instead.
    """
    opening = records["open"].view("<u4")
    odd = (opening & 0x7FFFFFFF != 0) & (opening != FIRST_SUBTRADE_BITS) & (opening != LAST_SUBTRADE_BITS)
    _refuse_first(odd, records, path, first_index, f"is a bar, not a single trade; {_ONE_TICK}")
    _refuse_damaged(records, path, first_index)


def check_depth(records: Records, path: Path, first_index: int = 0) -> None:
    """Refuse records with an unknown command, price or time. Raises FileFormatError naming the first of them."""
    _refuse_damaged(records, path, first_index)


def damaged(records: Records) -> NDArray[np.bool_]:
    """Which records, of either format, have an unknown command, no finite price, or a time outside 1980-2100."""
    return np.asarray(_unknown_commands(records) | _without_price(records) | _without_time(records), np.bool_)


def _refuse_damaged(records: Records, path: Path, first_index: int) -> None:
    old = times_in_days(records)
    _refuse_first(old, records, path, first_index, f"has times that are {OLD_TIMES}")
    for bad, why in (
        (_unknown_commands(records), "has an unknown command"),
        (_without_price(records), "has no finite price"),
        (_without_time(records), "has a time outside 1980-2100"),
    ):
        _refuse_first(bad, records, path, first_index, f"{why}: the file is damaged")


def times_in_days(records: Records) -> NDArray[np.bool_]:
    """Which records have a time as older versions of Sierra Chart wrote it, see `OLD_TIMES`."""
    days = np.ascontiguousarray(records["time"]).view("<f8")
    return np.asarray((days > _EARLIEST_US / _DAY_US) & (days < _LATEST_US / _DAY_US))


def _unknown_commands(records: Records) -> NDArray[np.bool_]:
    if records.dtype != DEPTH_RECORD:
        return np.zeros(len(records), np.bool_)
    command = records["command"]
    return np.asarray((command < CLEAR_BOOK) | (command > DELETE_ASK))


def _without_price(records: Records) -> NDArray[np.bool_]:
    return np.asarray(~np.isfinite(records["price" if records.dtype == DEPTH_RECORD else "close"]))


def _without_time(records: Records) -> NDArray[np.bool_]:
    time = records["time"]
    return np.asarray((time < _EARLIEST_US) | (time > _LATEST_US))


def _refuse_first(bad: NDArray[np.bool_], records: Records, path: Path, first_index: int, why: str) -> None:
    if not bad.any():
        return
    at = int(bad.argmax())
    time = int(records["time"][at])
    when = f" ({iso_utc(int(to_ns(time)))})" if _EARLIEST_US <= time <= _LATEST_US else ""
    raise FileFormatError(f"{path}: record {first_index + at}{when} {why}")


def read_scid(path: Path) -> Records:
    """All records of a `.scid`, memory-mapped and checked. Raises FileFormatError, also for a partial last record."""
    records = _map(path, SCID)
    check_scid(records, path)
    return records


def read_depth(path: Path) -> Records:
    """All records of a `.depth`, memory-mapped and checked. Raises FileFormatError as read_scid does."""
    records = _map(path, DEPTH)
    check_depth(records, path)
    return records


def newest_records(path: Path, most: int) -> Records:
    """The last whole records of a `.scid` that may be being written, at most so many, checked as by `check_scid`.

    Raises:
        FileFormatError: it is no `.scid`, or one of them is no single trade at a sane time.
    """
    _, records, _ = map_records(path, SCID)
    first = max(len(records) - most, 0)
    check_scid(records[first:], path, first)
    return records[first:]


def map_records(path: Path, *formats: Format) -> tuple[Format, Records, int]:
    """Which of `formats` a file has, its whole records, memory-mapped and not checked, and the bytes of a torn one.

    Raises FileFormatError when it is of none of them.
    """
    try:
        with path.open("rb") as file:
            header = file.read(max(fmt.header_size for fmt in formats))
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FileFormatError(f"{path} can't be read: {error.strerror}; check the name and its permissions") from error
    fmt = next((known for known in formats if known.magic == header[:4]), formats[0])
    check_header(header[: fmt.header_size], fmt, path)
    count, rest = divmod(size - fmt.header_size, fmt.record.itemsize)
    if not count:
        return fmt, np.empty(0, fmt.record), rest
    records = np.memmap(path, fmt.record, mode="r", offset=fmt.header_size, shape=(count,)).view(np.ndarray)
    return fmt, records, rest


def _map(path: Path, fmt: Format) -> Records:
    _, records, rest = map_records(path, fmt)
    count = len(records)
    if rest:
        raise FileFormatError(
            f"{path} is cut off inside its last record ({rest} of {fmt.record.itemsize} bytes after {count} records): "
            "copy it again once Sierra Chart has closed it"
        )
    if not count:
        raise FileFormatError(f"{path} has a header but no records: let Sierra Chart fill it, or name another file")
    return records


# ------------------------------------------------------------------------------------------------ records to events


def to_ns(time_us: Any) -> Any:
    """Sierra Chart's microseconds since 1899-12-30 as nanoseconds since 1970; works on numbers and arrays."""
    return (time_us - _EPOCH_US) * NS_PER_US


def to_us(ts_ns: Any) -> Any:
    """The inverse of `to_ns`; what is finer than a microsecond is cut."""
    return ts_ns // NS_PER_US + _EPOCH_US


def scid_to_events(records: Records, symbol: int = 0, scale: PriceScale = AS_STORED) -> EventArray:
    """Trades with the touch they met, one event per record, in file order.

    The aggressor is the side that has volume; a record with both or none says nothing (0). A bid or ask of 0 is how
    Sierra Chart stores "none" and becomes NaN; a crossed touch stays as it is. `recv_ns` equals `ts_ns`.

    Args:
        records: (n,) SCID_RECORD, already checked; only read.
        symbol: MARKET_EVENT's symbol number.
        scale: of the symbol's stored prices.
    """
    events = np.zeros(len(records), MARKET_EVENT)
    ts_ns = to_ns(records["time"])
    events["ts_ns"] = ts_ns
    events["recv_ns"] = ts_ns
    events["kind"] = EventKind.TRADE
    events["side"] = (records["ask_volume"] > 0).astype("i1") - (records["bid_volume"] > 0).astype("i1")
    opening = records["open"].view("<u4")
    events["flags"] = (opening == FIRST_SUBTRADE_BITS) * np.uint16(EventFlag.FIRST_SUBTRADE) + (
        opening == LAST_SUBTRADE_BITS
    ) * np.uint16(EventFlag.LAST_SUBTRADE)
    events["symbol"] = symbol
    events["count"] = np.minimum(records["num_trades"], _MAX_COUNT)
    events["price"] = scale.prices(records["close"])
    for name, column in (("bid", "low"), ("ask", "high")):
        touch = scale.prices(records[column])
        events[name] = np.where(np.isfinite(touch) & (touch != 0.0), touch, np.nan)
    events["size"] = records["total_volume"]
    return events


def depth_to_events(
    records: Records, symbol: int = 0, scale: PriceScale = AS_STORED, *, in_snapshot: bool = False
) -> EventArray:
    """Book changes, one event per record, in file order; a deletion is size 0, a clear carries EventFlag.CLEAR.

    A clear and the adds behind it, up to the end of the batch, are flagged as a snapshot. A file read piece by piece
    gives the same events as in one piece when `in_snapshot` is `ends_in_snapshot` of the piece before. The other
    arguments are those of `scid_to_events`.
    """
    events = empty_events(len(records))
    command = records["command"]
    ts_ns = to_ns(records["time"])
    events["ts_ns"] = ts_ns
    events["recv_ns"] = ts_ns
    events["kind"] = EventKind.DEPTH
    clear = command == CLEAR_BOOK
    events["side"] = np.where(clear, 0, np.where(command & 1 == 0, 1, -1))  # the even commands are the bid's
    batch_end = records["flags"] & END_OF_BATCH != 0
    snapshot = _snapshot_rows(command, batch_end, in_snapshot=in_snapshot)
    events["flags"] = (
        batch_end * np.uint16(EventFlag.BATCH_END)
        + clear * np.uint16(EventFlag.CLEAR)
        + snapshot * np.uint16(EventFlag.SNAPSHOT)
    )
    events["symbol"] = symbol
    events["count"] = records["num_orders"]
    events["price"] = np.where(clear, np.nan, scale.prices(records["price"]))
    events["size"] = np.where(clear | (command >= DELETE_BID), 0, records["quantity"])
    return events


def ends_in_snapshot(events: EventArray) -> bool:
    """Whether the record after the last of these depth events may still belong to its snapshot."""
    last = int(events["flags"][-1])
    return bool(last & EventFlag.SNAPSHOT) and not last & EventFlag.BATCH_END


def _snapshot_rows(command: NDArray[Any], batch_end: NDArray[np.bool_], *, in_snapshot: bool) -> NDArray[np.bool_]:
    """Which rows are a clear, or an add with nothing but adds between it and a clear."""
    clear = command == CLEAR_BOOK
    add = (command == ADD_BID) | (command == ADD_ASK)
    row = np.arange(len(command))
    last_clear = np.maximum.accumulate(np.where(clear, row, -1 if in_snapshot else -2))
    broken = np.maximum.accumulate(np.where(batch_end | ~(clear | add), row, -2))
    broken_before = np.concatenate(([-2], broken[:-1]))
    rows: NDArray[np.bool_] = clear | (add & (last_clear > broken_before))
    return rows


def merge(trades: EventArray, depth: EventArray) -> EventArray:
    """Both in order of time, each in its own order; at equal times the trade goes first, as it moved the book."""
    events = np.empty(len(trades) + len(depth), MARKET_EVENT)
    of_depth = np.zeros(len(events), np.bool_)
    of_depth[depth_positions(trades["ts_ns"], depth["ts_ns"])] = True
    events[of_depth] = depth
    events[~of_depth] = trades
    return events


def depth_positions(trade_times: NDArray[Any], depth_times: NDArray[Any]) -> NDArray[np.intp]:
    """Where each depth row stands once both are merged. A row earlier than one before it counts as of that time."""
    trades = np.maximum.accumulate(trade_times)
    depth = np.maximum.accumulate(depth_times)
    return np.searchsorted(trades, depth, side="right") + np.arange(len(depth))


# ------------------------------------------------------------------------------------------------ events to records


def events_to_scid(events: EventArray) -> Records:
    """The trades among `events` as SCID_RECORD; other kinds are left out."""
    trades = events[events["kind"] == EventKind.TRADE]
    records = np.zeros(len(trades), SCID_RECORD)
    records["time"] = to_us(trades["ts_ns"])
    opening = records["open"].view("<u4")
    opening[trades["flags"] & EventFlag.FIRST_SUBTRADE != 0] = FIRST_SUBTRADE_BITS
    opening[trades["flags"] & EventFlag.LAST_SUBTRADE != 0] = LAST_SUBTRADE_BITS
    records["high"] = np.nan_to_num(trades["ask"], nan=0.0)
    records["low"] = np.nan_to_num(trades["bid"], nan=0.0)
    records["close"] = trades["price"]
    records["num_trades"] = trades["count"]
    records["total_volume"] = trades["size"]
    records["bid_volume"] = np.where(trades["side"] < 0, trades["size"], 0)
    records["ask_volume"] = np.where(trades["side"] > 0, trades["size"], 0)
    return records


def events_to_depth(events: EventArray) -> Records:
    """The depth changes among `events` as DEPTH_RECORD. An add outside a snapshot is written as a modification."""
    depth = events[events["kind"] == EventKind.DEPTH]
    records = np.zeros(len(depth), DEPTH_RECORD)
    clear = depth["flags"] & EventFlag.CLEAR != 0
    snapshot = depth["flags"] & EventFlag.SNAPSHOT != 0
    of_bid = np.where(snapshot, ADD_BID, np.where(depth["size"] > 0, MODIFY_BID, DELETE_BID))
    records["time"] = to_us(depth["ts_ns"])
    records["command"] = np.where(clear, CLEAR_BOOK, of_bid + (depth["side"] < 0))
    records["flags"] = np.where(depth["flags"] & EventFlag.BATCH_END != 0, END_OF_BATCH, 0)
    records["num_orders"] = depth["count"]
    records["price"] = np.where(clear, 0.0, depth["price"])
    records["quantity"] = depth["size"]
    return records


class RecordWriter:
    """Makes a `.scid` or `.depth` file, or appends to one, whole records at a time, as Sierra Chart does.

    Raises:
        FileFormatError: the file exists and is of another format.
        StartError: the file can't be written.
    """

    def __init__(self, path: Path, fmt: Format) -> None:
        self.path = path
        self._format = fmt
        try:
            self._fd = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise StartError(f"{path} can't be written: {error.strerror}; check the directory and its owner") from error
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        size = os.fstat(self._fd).st_size
        if not size:
            os.write(self._fd, self._format.header())
            return
        check_header(os.pread(self._fd, self._format.header_size, 0), self._format, self.path)
        rest = (size - self._format.header_size) % self._format.record.itemsize
        os.ftruncate(self._fd, size - rest)

    def append(self, records: Records) -> None:
        """Write records of the format's dtype."""
        if records.dtype != self._format.record:
            raise ValueError(f"{self.path.name} holds {self._format.record}, not {records.dtype}")
        data = records.tobytes()
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
