"""A connection that goes wrong on purpose: what is written leaves in pieces, late, in heaps, cut off, or not at all."""

import asyncio
import ctypes
import itertools
import random
import socket
import struct
from collections import deque
from typing import Final

from mia_daemon.config import FaultSettings

_SO_ATTACH_FILTER: Final = 26
_PIECES: Final = 4  # a write is split into up to so many
_CUT: Final = 3  # bytes that a message in the middle of which the connection is reset is short of; less than any has


class FaultyLine:
    """Stands between a session and its transport, and has the methods of the latter that are used.

    Args:
        rng: decides where a write is split.
    """

    def __init__(self, transport: asyncio.Transport, faults: FaultSettings, rng: random.Random) -> None:
        self._transport = transport
        self._faults = faults
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytearray]] = deque()  # loop time to leave at, and what
        self._timer: asyncio.Handle | None = None
        self._began_s: float | None = None  # loop time of the logon
        self._dead = False
        self._closing = False

    def logged_on(self) -> None:
        """From now on times count. To be called after what answered the logon was written."""
        if self._began_s is not None:
            return
        self._began_s = self._loop.time()
        if self._faults.half_open_after_s is not None:
            self._loop.call_later(self._faults.half_open_after_s, self._break)

    def write(self, data: bytes) -> None:
        """Send it, or whatever the faults make of that."""
        faults = self._faults
        if not data or self._dead or faults.mute or self._past(faults.mute_after_s):
            return
        if self._past(faults.reset_after_s):
            self._reset(data)
            return
        now_s, delay_s, held_s = self._loop.time(), faults.delay_ms / 1_000, faults.coalesce_ms / 1_000
        if held_s and self._queue and now_s < self._queue[-1][0] - delay_s:
            self._queue[-1][1].extend(data)
            return
        due_s = self._after_stall(now_s + delay_s + held_s)
        self._queue += [(due_s, bytearray(piece)) for piece in self._pieces(data)]
        self._pump()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size() + sum(len(piece) for _, piece in self._queue)

    def close(self) -> None:
        """Close the connection once all has left."""
        self._closing = True
        if not self._queue:
            self._transport.close()

    def abort(self) -> None:
        self._queue.clear()
        self._transport.abort()

    def _past(self, after_s: float | None) -> bool:
        return after_s is not None and self._began_s is not None and self._loop.time() >= self._began_s + after_s

    def _after_stall(self, time_s: float) -> float:
        every_s, stall_s = self._faults.stall_every_s, self._faults.stall_s
        if not stall_s or self._began_s is None:
            return time_s
        count, into_s = divmod(time_s - self._began_s, every_s)
        return time_s if count < 1 or into_s >= stall_s else time_s + stall_s - into_s

    def _pieces(self, data: bytes) -> list[bytes]:
        if not self._faults.split:
            return [data]
        cuts = sorted({0, len(data), *(self._rng.randrange(len(data)) for _ in range(_PIECES - 1))})
        return [data[start:end] for start, end in itertools.pairwise(cuts)]

    def _pump(self) -> None:
        """Let one piece leave if it is time, and see to the next."""
        if self._timer is not None:
            return
        if self._queue and self._queue[0][0] <= self._loop.time():
            self._transport.write(bytes(self._queue.popleft()[1]))
        if not self._queue:
            if self._closing:
                self._transport.close()
            return
        self._timer = self._loop.call_at(self._queue[0][0], self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        if not self._transport.is_closing():
            self._pump()

    def _reset(self, data: bytes) -> None:
        """Send all but the end of a message, then reset the connection."""
        waiting = b"".join(bytes(piece) for _, piece in self._queue)
        self._queue.clear()
        self._transport.write(waiting + data[:-_CUT])
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _break(self) -> None:
        """As if the cable were cut: the kernel no longer takes, nor acknowledges, what the client sends."""
        if self._transport.is_closing():
            return
        self._dead = True
        self._queue.clear()
        self._transport.pause_reading()
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
        program = struct.pack("HL", 1, ctypes.addressof(drop_all))
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
