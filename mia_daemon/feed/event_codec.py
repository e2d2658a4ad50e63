"""Market events as few bytes: rows become columns, columns become small numbers, and zstd packs those.

Every bit comes back, the payload of a NaN too. What makes it small:

- times are differences, in microseconds where all of them are whole ones;
- rows are sorted by symbol, kind, flags and side, so that like follows like; the order follows from those columns;
- prices and sizes are numbers of a sorted table of the values that occur: neighbours in the table are a tick apart, so
  the ask is stored as its distance from the bid, and a price as its distance from the touch of its side;
- numbers are as wide as the largest needs, their bytes apart: the high ones are mostly zeros.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from mia_daemon.errors import FileFormatError
from mia_daemon.records import MARKET_EVENT, EventArray

LEVEL: Final = 9
"""Of zstd: 19 saves 6 % and takes seven times as long."""

_MOST_BYTES_A_ROW: Final = 256  # of columns before zstd packs them: no intact block has more
_MOST_BYTES: Final = 4096  # beside the rows

_KEYS: Final = ("side", "flags", "kind", "symbol")  # the least important first, as numpy sorts
_TIMES: Final = ("ts_ns", "recv_ns")
_PRICES: Final = ("price", "bid", "ask")
_SIZES: Final = ("size", "bid_size", "ask_size", "reserved")

Ints = NDArray[np.int64]


def encode(events: EventArray) -> bytes:
    """One block of at least one event; its length is not in it."""
    columns = [events[name].tobytes() for name in _KEYS]
    columns += [_encode_times(events[name]) for name in _TIMES]
    events = events[_order(events)]
    columns.append(_bytes_apart(events["count"]))
    table, price, bid, ask = _numbered(events, _PRICES, "<i8")
    columns += [_encode_ints(np.array([len(table)])), _encode_ints(_differences(table))]
    columns += [_encode_ints(_differences(bid)), _encode_ints(_differences(ask - bid))]
    columns.append(_encode_ints(price - np.where(events["side"] > 0, bid, ask)))
    table, *sizes = _numbered(events, _SIZES, "<i4")
    columns += [_encode_ints(np.array([len(table)])), _encode_ints(_differences(table))]
    columns += [_encode_ints(_differences(size)) for size in sizes]
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b"".join(columns))


def decode(block: bytes, count: int) -> EventArray:
    """The `count` events of a block. Raises FileFormatError when it is damaged; the caller knows in which file."""
    try:
        if not 0 < zstandard.frame_content_size(block) <= _MOST_BYTES + _MOST_BYTES_A_ROW * count:
            raise FileFormatError("a block has another size than its events need")
        columns = _Columns(zstandard.ZstdDecompressor().decompress(block), count)
    except zstandard.ZstdError as error:
        raise FileFormatError(str(error)) from error
    events = np.zeros(count, MARKET_EVENT)
    for name in _KEYS:
        events[name] = columns.as_stored(MARKET_EVENT[name])
    for name in _TIMES:
        events[name] = columns.times()
    order = _order(events)
    inside = events[order]
    inside["count"] = columns.bytes_apart(MARKET_EVENT["count"], count)
    table = columns.table().astype("<i8").view("<f8")
    bid = np.cumsum(columns.ints(count))
    ask = bid + np.cumsum(columns.ints(count))
    price = columns.ints(count) + np.where(inside["side"] > 0, bid, ask)
    _look_up(inside, _PRICES, table, (price, bid, ask))
    table = columns.table().astype("<i4").view("<f4")
    _look_up(inside, _SIZES, table, [np.cumsum(columns.ints(count)) for _ in _SIZES])
    columns.check_end()
    events[order] = inside
    return events


def _order(events: EventArray) -> NDArray[np.intp]:
    return np.lexsort([events[name] for name in _KEYS])


# Encoding.


def _encode_times(times: Ints) -> bytes:
    unit = 1 if (times % 1000).any() else 1000
    first, *_ = times = times // unit
    differences = _differences(times)
    differences[0] = 0  # apart, or it would make all of them wide
    return np.array([unit, first], "<i8").tobytes() + _encode_ints(differences)


def _numbered(events: EventArray, names: tuple[str, ...], bits: str) -> list[Ints]:
    """The values that occur, by their bits, ascending; then each column as places in that table."""
    values = np.concatenate([np.ascontiguousarray(events[name]).view(bits) for name in names])
    table, places = np.unique(values, return_inverse=True)
    return [table.astype(np.int64), *places.astype(np.int64).reshape(len(names), len(events))]


def _differences(values: Ints) -> Ints:
    """Each value less the one before, the first less 0; they wrap as 64 bits do."""
    return np.diff(values, prepend=np.int64(0))


def _encode_ints(values: Ints) -> bytes:
    """A byte with the width, then the numbers, small negative ones as small as positive ones."""
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    width = next(width for width in (1, 2, 4, 8) if int(zigzag.max()) < 1 << 8 * width)
    return bytes([width]) + _bytes_apart(zigzag.astype(f"<u{width}"))


def _bytes_apart(values: NDArray[np.generic]) -> bytes:
    """All lowest bytes, then all second ones, and so on."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize).T.tobytes()


# Decoding.


class _Columns:
    """Reads what `encode` wrote, front to back. Raises FileFormatError where the bytes end too early."""

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self._at = 0
        self._count = count

    def _read(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) < size:
            raise FileFormatError("a block ends too early")
        self._at += size
        return part

    def as_stored(self, dtype: np.dtype[np.void]) -> NDArray[np.generic]:
        return np.frombuffer(self._read(self._count * dtype.itemsize), dtype)

    def bytes_apart(self, dtype: np.dtype[np.void], count: int) -> NDArray[np.generic]:
        planes = np.frombuffer(self._read(count * dtype.itemsize), np.uint8).reshape(dtype.itemsize, count)
        return np.ascontiguousarray(planes.T).view(dtype).reshape(count)

    def ints(self, count: int) -> Ints:
        (width,) = self._read(1)
        if width not in {1, 2, 4, 8}:
            raise FileFormatError("a block has a column of no known width")
        zigzag = self.bytes_apart(np.dtype(f"<u{width}"), count).astype(np.uint64)
        return (zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)

    def times(self) -> Ints:
        unit, first = np.frombuffer(self._read(16), "<i8")
        times: Ints = (np.cumsum(self.ints(self._count)) + first) * unit
        return times

    def table(self) -> Ints:
        (size,) = self.ints(1)
        if not 0 < size <= len(_SIZES) * self._count:
            raise FileFormatError("a block has a table of no possible size")
        return np.cumsum(self.ints(int(size)))

    def check_end(self) -> None:
        if self._at != len(self._data):
            raise FileFormatError("a block has bytes after its end")


def _look_up(events: EventArray, names: Sequence[str], table: NDArray[np.generic], places: Sequence[Ints]) -> None:
    for name, place in zip(names, places, strict=True):
        if place.min() < 0 or place.max() >= len(table):
            raise FileFormatError("a block refers to a value that is not in its table")
        events[name] = table[place]
