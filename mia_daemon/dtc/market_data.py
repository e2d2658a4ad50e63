"""Market data messages as `MARKET_EVENT` rows; all other messages as themselves, in their place between the rows.

A burst of messages is read column by column, type by type, which takes a fraction of the time of one by one. A few
messages are read one by one, which is sooner done than setting up columns, and so is JSON, which has no columns. Both
give the same rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mia_daemon.dtc import market_columns as columns
from mia_daemon.dtc.encodings import BINARY, Codec
from mia_daemon.dtc.layout import HEADER, MESSAGES, Message
from mia_daemon.dtc.market_columns import READINGS, SESSION_VALUES, Reading, SymbolState
from mia_daemon.dtc.market_rows import Row, events_of, read_row
from mia_daemon.dtc.market_times import MessageTimes
from mia_daemon.dtc.messages import MarketDataSnapshot
from mia_daemon.dtc.stream import Frames
from mia_daemon.errors import UnreadableFrame
from mia_daemon.records import MARKET_EVENT, EventArray, EventKind

Segment = EventArray | Message
"""Rows, or a message that is not market data."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A frame that could not be read: nobody knows what it said. The stream goes on after it.

    Attributes:
        kind: what is wrong, the same for all frames with that flaw.
        type: of the message, where it can be told.
        frame: as it came, for `ServerText`, which takes it off.
    """

    text: str
    kind: str
    type: int | None
    frame: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_market_data(self) -> bool:
        """It was about prices, and so about no order or position."""
        return self.type in _READING or self.type in SESSION_VALUES


Arrival = Segment | Skipped
"""What a frame became."""

_FEW = 64
"""Up to so many messages, one by one is faster."""

_SKIPPED, _PASSED_OVER, _MESSAGE, _FIRST_READING = 0, 1, 2, 3

_READING = {reading.message.TYPE: reading for reading in READINGS}
_ACTION = np.zeros(1 << 16, np.uint8)  # by message type: skip, pass over, hand out, or index of the reading
_ACTION[list(MESSAGES)] = _MESSAGE
_ACTION[list(SESSION_VALUES)] = _PASSED_OVER
_ACTION[[reading.message.TYPE for reading in READINGS]] = np.arange(len(READINGS)) + _FIRST_READING
_NEEDED = np.array([reading.dtype.itemsize for reading in READINGS])
_IS_QUOTE = np.array([reading.kind == EventKind.QUOTE for reading in READINGS])
_SNAPSHOT = MarketDataSnapshot.TYPE  # read as a quote and also handed out: it answers a subscription


class MarketDataDecoder:
    """Reads the messages of one connection.

    Args:
        symbols: the `symbol` column for each SymbolID the client chose. Rows of other SymbolIDs are dropped.
        codec: how the messages are encoded.

    Attributes:
        codec: may be changed between two calls.
        unreadable: frames that hold no message that can be read; each is handed out as `Skipped`.
        unknown_types: messages skipped because nobody knows their type, and empty frames.
        unknown_symbols: messages dropped for their SymbolID.
        malformed: messages dropped because they ended too early or made no sense (no price, no side).
    """

    def __init__(self, symbols: Mapping[int, int], codec: Codec = BINARY) -> None:
        self.codec = codec
        self.unreadable = 0
        self.unknown_types = 0
        self.unknown_symbols = 0
        self.malformed = 0
        self._symbols = dict(symbols)
        self._states = {symbol: SymbolState() for symbol in self._symbols.values()}
        self._times = MessageTimes()

    def decode(self, frames: Frames, received_ns: int) -> list[Arrival]:
        """The messages in order: rows gathered into arrays, split only where another message comes between.

        `received_ns` is the wall-clock time of arrival, for `recv_ns`.
        """
        if len(frames) <= _FEW or not self.codec.structures:
            return self._decode_few(frames, received_ns)
        return self._decode_many(frames, received_ns)

    def _decode_few(self, frames: Frames, received_ns: int) -> list[Arrival]:
        segments: list[Arrival] = []
        rows: list[Row] = []
        view = memoryview(frames.data)
        for start, end in pairwise(frames.offsets):
            message = self._read(view[start:end])
            if message is None:
                self.unknown_types += 1
                continue
            if isinstance(message, Message) and message.TYPE in SESSION_VALUES:
                continue
            reading = _READING.get(message.TYPE) if isinstance(message, Message) else None
            if reading is None or reading.message is MarketDataSnapshot:
                if rows:
                    segments.append(events_of(rows))
                    rows = []
                segments.append(message)
            if reading is not None:
                row = self._row(message, reading, end - start, received_ns)
                if row is not None:
                    rows.append(row)
        if rows:
            segments.append(events_of(rows))
        return segments

    def _read(self, frame: memoryview) -> Message | Skipped | None:
        try:
            return self.codec.decode(frame)
        except UnreadableFrame as error:
            self.unreadable += 1
            return Skipped(str(error), error.kind, error.type, bytes(frame))

    def _row(self, message: Any, reading: Reading, size: int, received_ns: int) -> Row | None:
        if size < reading.dtype.itemsize and self.codec.structures:
            self.malformed += 1
            return None
        symbol = self._symbols.get(message.SymbolID)
        if symbol is None:
            self.unknown_symbols += 1
            return None
        row = read_row(message, reading, symbol, self._states[symbol], self._times, received_ns)
        self.malformed += row is None and reading.kind != EventKind.QUOTE
        return row

    def _decode_many(self, frames: Frames, received_ns: int) -> list[Arrival]:
        if (size := frames.alike()) and (events := self._run(frames, size, received_ns)) is not None:
            return [events]
        types = frames.types()
        actions = _ACTION[types]
        self.unknown_types += int(np.count_nonzero(actions == _SKIPPED))
        market = np.flatnonzero(actions >= _FIRST_READING)
        events, origin = self._rows(frames, market, actions[market].astype(np.intp) - _FIRST_READING, received_ns)
        others = np.flatnonzero((actions == _MESSAGE) | (types == _SNAPSHOT))
        return self._interleave(frames, events, np.searchsorted(origin, others), others)

    def _run(self, frames: Frames, size: int, received_ns: int) -> EventArray | None:
        """The rows of messages that differ in their values only; None when they are not that simple."""
        reading = _READING.get(HEADER.unpack_from(frames.data)[1])
        if reading is None or reading.message.TYPE == _SNAPSHOT or size < reading.dtype.itemsize:
            return None
        rows = np.ndarray((len(frames),), reading.dtype, frames.data, strides=(size,))
        ids = rows["SymbolID"]
        symbol = self._symbols.get(int(ids[0]))
        if symbol is None or (ids != ids[0]).any():
            return None
        events, valid = columns.read_columns(rows, reading)
        if not valid.all():
            return None
        events["symbol"] = symbol
        events["recv_ns"] = received_ns
        self._times.fill(events["ts_ns"], reading.resolution_ns, received_ns)
        columns.fill_run_from_before(events, reading, self._states[symbol])
        return events

    def _rows(
        self, frames: Frames, market: NDArray[np.intp], readings: NDArray[np.intp], received_ns: int
    ) -> tuple[EventArray, NDArray[np.intp]]:
        """The rows that make sense, and the number of the message each comes from."""
        starts = frames.starts()[market]
        whole = frames.sizes()[market] >= _NEEDED[readings]
        events = np.zeros(len(market), MARKET_EVENT)
        valid = np.zeros(len(market), np.bool_)
        ids = np.zeros(len(market), np.uint32)
        for index in np.flatnonzero(np.bincount(readings[whole], minlength=len(READINGS))):
            where = np.flatnonzero((readings == index) & whole)
            reading = READINGS[index]
            rows = columns.gather(frames.data, starts[where], reading.dtype)
            ids[where] = rows["SymbolID"]
            part, valid[where] = columns.read_columns(rows, reading)
            if len(where) == len(events):
                events = part
            else:
                columns.put(events, where, part)
        known = self._name_symbols(events, ids)
        self.malformed += int(np.count_nonzero(~whole | (known & ~valid & ~_IS_QUOTE[readings])))
        self.unknown_symbols += int(np.count_nonzero(whole & ~known))
        keep = np.flatnonzero(known & valid)
        if len(keep) < len(events):
            events, readings = columns.take(events, keep), readings[keep]
        events["recv_ns"] = received_ns
        if len(events):
            self._times.fill(events["ts_ns"], columns.RESOLUTIONS_NS[readings], received_ns)
        self._complete(events, readings)
        return events, market[keep]

    def _name_symbols(self, events: EventArray, ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
        known = np.zeros(len(events), np.bool_)
        for symbol_id, symbol in self._symbols.items():
            mine = ids == symbol_id
            events["symbol"][mine] = symbol
            known |= mine
        return known

    def _complete(self, events: EventArray, readings: NDArray[np.intp]) -> None:
        for symbol, state in self._states.items():
            mine = np.flatnonzero(events["symbol"] == symbol)
            if len(mine) == len(events) > 0:
                columns.fill_from_before(events, readings, state)
                return
            if len(mine):
                part = columns.take(events, mine)
                columns.fill_from_before(part, readings[mine], state)
                columns.put(events, mine, part)

    def _interleave(
        self, frames: Frames, events: EventArray, at: NDArray[np.intp], others: NDArray[np.intp]
    ) -> list[Arrival]:
        """The rows, cut at the positions `at`, where the messages numbered `others` come between."""
        segments: list[Arrival] = []
        view, begin = memoryview(frames.data), 0
        for end, number in zip(at.tolist(), others.tolist(), strict=True):
            if end > begin:
                segments.append(events[begin:end])
                begin = end
            message = self._read(view[frames.offsets[number] : frames.offsets[number + 1]])
            assert message is not None  # its type is declared
            segments.append(message)
        if begin < len(events):
            segments.append(events[begin:])
        return segments
