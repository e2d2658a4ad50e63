"""The control socket: one line of JSON asks, one line answers.

    {"command": "halt"}      →      {"ok": true, "text": "halted: no new positions until resume"}

A Unix stream socket of mode 0660: who may open it may give orders; the kernel says who that is (SO_PEERCRED), and the
log keeps it. A request is bounded in size and time, and a slow client can't hold up another.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mia_daemon.errors import MiaError, StartError, UsageError
from mia_daemon.ops.logs import Logger, json_line
from mia_daemon.private_file import open_file

MAX_REQUEST: Final = 4096
"""Bytes of a request line; a command and a few words fit many times."""
MAX_ANSWER: Final = 1 << 20
MAX_CLIENTS: Final = 16
_MAX_PATH: Final = 107  # sun_path of unix(7), less its NUL
_MODE: Final = 0o660


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asked, as the kernel says."""

    pid: int
    uid: int
    gid: int


Answer = Mapping[str, Any]
Handler = Callable[[Mapping[str, Any], Peer], Answer | Awaitable[Answer]]
"""Takes the request and who made it, gives what the answer holds besides "ok". A MiaError becomes a refusal."""


class ControlServer:
    """Answers commands at `path`.

    Args:
        handlers: what each command does.
        timeout_s: for a client to send its request, and again for it to take the answer.

    Raises (start):
        StartError: another daemon answers there, the path is too long, or the directory is not writable.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler], log: Logger, timeout_s: float = 5.0) -> None:
        self.path = path
        self._handlers = handlers
        self._log = log
        self._timeout_s = timeout_s
        self._server: asyncio.Server | None = None
        self._lock_fd = -1
        self._inode = 0
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket that a dead daemon left behind is replaced."""
        listening = self._bind()
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_REQUEST)

    def _bind(self) -> socket.socket:
        check_path(self.path)
        path = os.fspath(self.path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._remove_stale()
            os.fchmod(listening.fileno(), _MODE)  # before bind: the socket is never wider open than this
            listening.bind(path)
            self.path.chmod(_MODE)  # gives back what the umask took
            self._inode = self.path.stat().st_ino
        except OSError as error:
            listening.close()
            self._unlock()
            raise StartError(f"control socket {path} can't be made: {error.strerror}; check the directory") from error
        except StartError:
            listening.close()
            self._unlock()
            raise
        return listening

    def _lock(self) -> None:
        # The lock goes with the process, however it ends, and two daemons that start at once can't both have it.
        self._lock_fd = open_file(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"another daemon answers at {self.path}: stop it with `mia-daemon stop`, or use another --var"
            ) from error

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _remove_stale(self) -> None:
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise StartError(f"{self.path} is in the way of the control socket and is none: move it away")
        self.path.unlink()

    async def close(self) -> None:
        """Stop listening, end open connections, remove the socket unless another daemon has replaced it."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None
        if self.path.exists() and self.path.stat().st_ino == self._inode:
            self.path.unlink()
        self._unlock()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS:
                writer.write(json_line(_refusal(f"{MAX_CLIENTS} clients are being served already: ask again")))
            else:
                await self._converse(reader, writer)
        except (OSError, TimeoutError) as error:
            self._log.info("control_client_lost", reason=str(error) or type(error).__name__)
        except asyncio.CancelledError:
            if self._server is not None and self._server.is_serving():
                raise  # cancelled by someone other than `close`
        finally:
            self._clients.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer(writer)
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await reader.readline()
        except ValueError:
            answer = _refusal(f"the request is longer than {MAX_REQUEST} bytes")
        except TimeoutError:
            answer = _refusal(f"no whole line arrived within {self._timeout_s:g} s")
        else:
            answer = await self._answer(line, peer)
        writer.write(json_line(answer))
        async with asyncio.timeout(self._timeout_s):
            await writer.drain()

    async def _answer(self, line: bytes, peer: Peer) -> Answer:
        try:
            request = _parse(line)
        except UsageError as error:
            self._log.warning("control_request_refused", reason=str(error), uid=peer.uid, pid=peer.pid)
            return _refusal(str(error))
        command = request["command"]
        handler = self._handlers.get(command)
        if handler is None:
            return _refusal(f"unknown command {command!r}; known: {', '.join(sorted(self._handlers))}")
        level = self._log.debug if command == "status" else self._log.info
        level("control_command", command=command, uid=peer.uid, gid=peer.gid, pid=peer.pid)
        try:
            result = handler(request, peer)
            answer = await result if isinstance(result, Awaitable) else result
        except MiaError as error:
            return _refusal(str(error))
        return {"ok": True, **answer}


def _peer(writer: asyncio.StreamWriter) -> Peer:
    connection = writer.get_extra_info("socket")
    return Peer(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def _parse(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise UsageError("the request has no newline at its end")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("the request is not a line of JSON") from error
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        raise UsageError('the request is not an object with a "command"')
    if nested := next((name for name, value in request.items() if isinstance(value, dict | list)), None):
        raise UsageError(f"{nested[:40]} of the request is no single value")
    return request


def check_path(path: Path) -> None:
    """Raises StartError for a path that is too long for a socket."""
    if len(os.fsencode(path)) > _MAX_PATH:
        raise StartError(f"control socket {path} has a longer path than {_MAX_PATH} bytes: set ops.control_socket")


def _refusal(text: str) -> Answer:
    return {"ok": False, "error": text}


def ask(path: Path, command: str, *, timeout_s: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Send one command to the daemon at `path`, wait for its answer; `{"ok": false, "error": ...}` is returned too.

    Raises:
        StartError: no daemon answers there, this user may not ask, or the answer is none.
    """
    request = json_line({"command": command, **arguments})
    check_path(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(os.fspath(path))
            # A daemon that serves too many answers and closes before it was asked: its answer is there all the same.
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(request)
            line = _read_line(connection)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise StartError(f"no daemon answers at {path}: start one, or name its directory with --var") from error
    except PermissionError as error:
        raise StartError(f"{path} may not be opened by this user: join the group that owns it") from error
    except TimeoutError as error:
        raise StartError(
            f"the daemon at {path} did not answer within {timeout_s:g} s: look at its log before asking again"
        ) from error
    except OSError as error:
        raise StartError(f"the daemon at {path} can't be asked: {error.strerror}") from error
    try:
        answer: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise StartError(f"the daemon at {path} ended before it had answered: look at its log") from error
    return answer


def _read_line(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n") and len(received) < MAX_ANSWER:
        chunk = connection.recv(65_536)
        if not chunk:
            break
        received += chunk
    return bytes(received)
