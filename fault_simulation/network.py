"""A network in memory: TCP connections between two processes, with faults drawn from a seed.

Bytes of one direction arrive in order and once, in other pieces than they were sent, after a delay. A connection may be
reset (both ends are notified, and bytes in flight may be lost) or cut (neither end is notified, and nothing arrives any
more). When a process dies the kernel keeps its connections: what it wrote still arrives, then the end.
"""

import asyncio
import contextvars
import os
import socket
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from fault_simulation.loop import OWNER, Process, SimulatedLoop

_SO_ATTACH_FILTER = 26  # with which the simulator cuts a faulty line
_USUAL_S = (0.000_2, 0.004)
_SPIKE_SHARE, _SPIKE_S = 0.01, 0.3


class Network:
    """One host, any number of ports.

    Args:
        rng: of latencies, splits and losses.
        split: share of the writes that arrive in pieces.

    Attributes:
        refuses: no connection is accepted: it is refused, or, where `swallows`, not answered at all.
        slow_s: added to every latency.
    """

    def __init__(self, loop: SimulatedLoop, rng: Random, split: float) -> None:
        self.refuses = False
        self.swallows = False
        self.slow_s = 0.0
        self._lines: list[End] = []
        self._loop = loop
        self._rng = rng
        self._split = split
        self._listeners: dict[int, tuple[Callable[[], asyncio.Protocol], contextvars.Context]] = {}
        self._null = os.open(os.devnull, os.O_RDONLY)
        loop.network = self

    def close(self) -> None:
        os.close(self._null)

    # What the loop offers.

    async def connect(self, factory: Callable[[], Any], port: int) -> "tuple[End, Any]":
        """As `loop.create_connection`."""
        await asyncio.sleep(2 * self.latency())
        if self.swallows:
            await self._loop.create_future()
        listener = self._listeners.get(port)
        if listener is None or self.refuses:
            raise ConnectionRefusedError(111, "Connection refused")
        serve, there = listener
        rng = Random(self._rng.random())  # each connection has draws of its own
        near = End(self, OWNER.get(), contextvars.copy_context(), rng)
        far = End(self, there.get(OWNER), there, rng)
        near.peer, far.peer = far, near
        self._lines = [*self.lines(), near]
        far.protocol, near.protocol = there.run(serve), factory()
        self._loop.call_soon(far.begin, context=there)
        near.begin()
        return near, near.protocol

    def listen(self, factory: Callable[[], Any], port: int) -> "Listener":
        """As `loop.create_server`."""
        self._listeners[port] = factory, contextvars.copy_context()
        return Listener(self, port)

    def stop_listening(self, port: int) -> None:
        self._listeners.pop(port, None)

    # What goes wrong.

    def latency(self) -> float:
        spike = _SPIKE_S * self._rng.random() if self._rng.random() < _SPIKE_SHARE else 0.0
        return self._rng.uniform(*_USUAL_S) + spike + self.slow_s * self._rng.random()

    def pieces(self, data: bytes) -> list[bytes]:
        if len(data) < 2 or self._rng.random() >= self._split:
            return [data]
        at = self._rng.randrange(1, len(data))
        return [data[:at], data[at:]]

    def lines(self) -> "list[End]":
        """The client's end of every connection of which an end is open."""
        return [near for near in self._lines if not (near.is_closing() and near.peer.is_closing())]

    def leave(self, process: Process) -> None:
        """Close or reset the connections of a dead process, as the kernel does."""
        for near in self.lines():
            for end in (near, near.peer):
                if end.owner is process:
                    end.orphan()


class Listener:
    """What `loop.create_server` returns, as far as it is used."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def close(self) -> None:
        self._network.stop_listening(self._port)


class End(asyncio.Transport):
    """One end of a connection: the transport of the process there, and the socket below it."""

    peer: "End"
    protocol: Any

    def __init__(self, network: Network, owner: Process | None, context: contextvars.Context, rng: Random) -> None:
        super().__init__()
        self.owner = owner
        self.cut = False
        self._deaf = False
        self._linger = True
        self._network = network
        self._loop = network._loop
        self._context = context
        self._rng = rng
        self._closing = False
        self._notified = False
        self._paused: list[bytes] | None = None
        self._last_s = 0.0  # when what was sent last arrives
        self._under_way: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._lost_from: float | None = None  # what arrives from then on is lost

    def begin(self) -> None:
        self.protocol.connection_made(self)

    # The transport.

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        if self.owner is not None:
            self.owner.place()
        for piece in self._network.pieces(bytes(data)):
            self._later(self.peer._arrive, piece)
        if self.owner is not None:
            self.owner.place()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._later(self.peer._ended)
            self._loop.call_soon(self._tell, None, context=self._context)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._later(self.peer._ended if self._linger else self.peer._was_reset)
            self._loop.call_soon(self._tell, None, context=self._context)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._paused = self._paused or []

    def resume_reading(self) -> None:
        waiting, self._paused = self._paused or [], None
        for data in waiting:
            self.protocol.data_received(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    # The socket.

    def setsockopt(self, level: int, name: int, value: Any) -> None:
        if level == socket.SOL_SOCKET and name == socket.SO_LINGER:
            self._linger = False
        elif level == socket.SOL_SOCKET and name == _SO_ATTACH_FILTER:
            self._deaf = True

    def fileno(self) -> int:
        """A file descriptor that reports no unacknowledged bytes."""
        return self._network._null

    # The wire.

    def _later(self, act: Callable[..., None], *args: Any) -> None:
        if self.cut:
            return
        now_s = self._loop.time()
        leaves_s = max(now_s, self.owner.frozen_until) if self.owner is not None else now_s
        self._last_s = max(self._last_s, leaves_s + self._network.latency())
        self._under_way.append((act, args))
        self._loop.call_at(self._last_s, self._pass_on, context=self.peer._context)

    def _pass_on(self) -> None:
        """Deliver in the order of sending, also where times are equal."""
        act, args = self._under_way.popleft()
        act(*args)

    def _arrive(self, data: bytes) -> None:
        if self.cut or self._deaf or (self._lost_from is not None and self._loop.time() >= self._lost_from):
            return
        if self._closing:
            self._later(self.peer._was_reset)  # the process is dead
        elif self._paused is not None:
            self._paused.append(data)
        else:
            self.protocol.data_received(data)

    def _ended(self) -> None:
        if not (self._closing or self.cut or self._deaf):
            self.protocol.eof_received()
            self.close()

    def _was_reset(self) -> None:
        if not (self._closing or self.cut or self._deaf):
            self._closing = True
            self._tell(ConnectionResetError(104, "Connection reset by peer"))

    def _tell(self, error: Exception | None) -> None:
        if not self._notified:
            self._notified = True
            self.protocol.connection_lost(error)

    # What goes wrong.

    def break_off(self) -> None:
        """Reset the connection at both ends; bytes in flight may be lost."""
        for end in (self, self.peer):
            if self._rng.random() < 0.5:
                end._lost_from = self._loop.time()
            at_s = self._loop.time() + self._network.latency()
            self._loop.call_at(at_s, end._was_reset, context=end._context)

    def cut_off(self) -> None:
        """Cut the connection: nothing arrives any more at either end, and neither is notified."""
        self.cut = self.peer.cut = True

    def orphan(self) -> None:
        """Its process is gone: the kernel closes the connection, or resets it where something was left unread."""
        if self._closing:
            return
        self._closing = self._notified = True
        self._later(self.peer._ended if self._rng.random() < 0.5 else self.peer._was_reset)
