"""The control socket: commands over a real Unix socket, by real clients, well behaved and not."""

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager

import pytest
import uvloop

from mia_daemon.clock import WallClock
from mia_daemon.errors import StartError, UsageError
from mia_daemon.ops.control import MAX_CLIENTS, MAX_REQUEST, ControlServer, ask
from mia_daemon.ops.logs import make_logger


def status(*_):
    return {"text": "fine", "status": {"position": 1, "price": float("nan")}}


async def flatten(*_):
    await asyncio.sleep(0)
    return {"text": "flat"}


def refuse(*_):
    raise UsageError("not in replay: there is nothing to halt")


class Desk:
    """Handlers, the log, and the server at one path."""

    def __init__(self, path, **options):
        self.lines = []
        self.asked = []
        self.release = asyncio.Event()
        handlers = {"status": status, "halt": self.halt, "flatten": flatten, "refuse": refuse, "wait": self.wait}
        log = make_logger(self.lines.append, WallClock(), "debug")
        self.server = ControlServer(path, handlers, log, **options)

    def halt(self, request, peer):
        self.asked.append((request, peer))
        return {"text": "halted"}

    async def wait(self, *_):
        await self.release.wait()
        return {"text": "done"}

    def logged(self, event):
        return [line for line in map(json.loads, self.lines) if line["event"] == event]


@asynccontextmanager
async def serving(path, **options):
    desk = Desk(path, **options)
    await desk.server.start()
    try:
        yield desk
    finally:
        await desk.server.close()


async def said(path, data, *, end=False):
    """What the server answers to raw bytes."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            answer = await reader.read()
        finally:
            writer.close()
    return json.loads(answer)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "control.sock"


@pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run])
def test_commands_are_answered(path, run_loop):
    run_loop(commands_are_answered(path))


async def commands_are_answered(path):
    async with serving(path) as desk:
        assert await asyncio.to_thread(ask, path, "halt", reason="lunch") == {"ok": True, "text": "halted"}
        assert await asyncio.to_thread(ask, path, "flatten") == {"ok": True, "text": "flat"}
        status = await asyncio.to_thread(ask, path, "status")
        assert status == {"ok": True, "text": "fine", "status": {"position": 1, "price": "nan"}}
        ((request, peer),) = desk.asked
        assert request == {"command": "halt", "reason": "lunch"}
        assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
        logged = [(line["command"], line["level"], line["uid"]) for line in desk.logged("control_command")]
        assert logged == [
            ("halt", "info", os.getuid()),
            ("flatten", "info", os.getuid()),
            ("status", "debug", os.getuid()),
        ]


async def test_the_peer_is_who_the_kernel_says(path):
    code = (
        "import sys; from pathlib import Path; from mia_daemon.ops.control import ask; ask(Path(sys.argv[1]), 'halt')"
    )
    async with serving(path) as desk:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path))
        assert await child.wait() == 0
        assert desk.asked[0][1].pid == child.pid


async def test_refusals_are_sentences(path):
    async with serving(path):
        assert await asyncio.to_thread(ask, path, "refuse") == {
            "ok": False,
            "error": "not in replay: there is nothing to halt",
        }
        unknown = await asyncio.to_thread(ask, path, "dance")
        assert unknown == {
            "ok": False,
            "error": "unknown command 'dance'; known: flatten, halt, refuse, status, wait",
        }


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"halt\n", "not a line of JSON"),
        (b"[" * 3000 + b"\n", "not a line of JSON"),
        (b"\xff\xfe\n", "not a line of JSON"),
        (b'["halt"]\n', 'not an object with a "command"'),
        (b'{"command": 7}\n', 'not an object with a "command"'),
        (b'{"command": "halt", "code": ' + b"[" * 200 + b"]" * 200 + b"}\n", "code of the request is no single value"),
        (b'{"command": "halt"}', "no newline"),
        (b"", "no newline"),
        (b'{"command": "' + b"x" * MAX_REQUEST, "longer than 4096 bytes"),
    ],
)
async def test_nonsense_is_refused(path, data, error):
    async with serving(path) as desk:
        answer = await said(path, data, end=len(data) < MAX_REQUEST)
        assert answer["ok"] is False
        assert error in answer["error"]
        assert desk.asked == []
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]


async def test_a_client_that_dawdles_is_sent_away_and_holds_up_nobody(path):
    async with serving(path, timeout_s=0.1):
        dawdling = asyncio.create_task(said(path, b'{"command": '))
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]
        assert (await dawdling)["error"] == "no whole line arrived within 0.1 s"


async def test_clients_are_bounded(path):
    async with serving(path) as desk:
        waiting = [asyncio.create_task(said(path, b'{"command": "wait"}\n')) for _ in range(MAX_CLIENTS)]
        async with asyncio.timeout(10):
            while len(desk.logged("control_command")) < MAX_CLIENTS:  # noqa: ASYNC110  no event tells
                await asyncio.sleep(0.001)
        one_more = await asyncio.to_thread(ask, path, "halt")
        assert one_more == {"ok": False, "error": "16 clients are being served already: ask again"}
        desk.release.set()
        assert [answer["text"] for answer in await asyncio.gather(*waiting)] == ["done"] * MAX_CLIENTS
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]


async def test_client_that_leaves_early_is_logged_only(path):
    async with serving(path) as desk:
        _, writer = await asyncio.open_unix_connection(path)
        writer.transport.abort()
        async with asyncio.timeout(10):
            while not desk.lines:  # noqa: ASYNC110  no event tells
                await asyncio.sleep(0.001)
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]


async def test_socket_is_for_owner_and_group_whatever_the_umask(path):
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            async with serving(path):
                mode = path.stat().st_mode
                assert stat.S_ISSOCK(mode)
                assert stat.S_IMODE(mode) == 0o660
        finally:
            os.umask(before)
        assert not path.exists()


async def test_a_running_daemon_is_not_displaced(path):
    async with serving(path) as first:
        with pytest.raises(StartError, match=r"another daemon answers at .*control.sock: stop it"):
            await Desk(path).server.start()
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]
        assert first.asked
    async with serving(path):
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]


async def test_socket_of_a_killed_daemon_is_replaced(path):
    code = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from mia_daemon.clock import WallClock
        from mia_daemon.ops.control import ControlServer
        from mia_daemon.ops.logs import make_logger
        async def main():
            await ControlServer(Path(sys.argv[1]), {}, make_logger(print, WallClock())).start()
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
        """
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path))
    assert await child.wait() == -signal.SIGKILL
    assert path.is_socket()
    with pytest.raises(StartError, match=r"no daemon answers at .*: start one"):
        ask(path, "status")
    async with serving(path):
        assert (await asyncio.to_thread(ask, path, "halt"))["ok"]


async def test_what_is_no_socket_is_left_alone(path):
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(StartError, match="in the way of the control socket"):
        await Desk(path).server.start()
    assert path.read_text() == "precious"
    path.unlink()
    async with serving(path):  # the failed start left no lock behind
        pass


async def test_unusable_places_are_refused_with_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="can't be made: File exists"):
        await Desk(tmp_path / "file" / "control.sock").server.start()
    long = tmp_path / ("x" * 100) / "control.sock"
    with pytest.raises(StartError, match=r"longer path than 107 bytes: set ops.control_socket"):
        await Desk(long).server.start()
    with pytest.raises(StartError, match=r"longer path than 107 bytes"):
        ask(long, "status")


async def test_closing_ends_open_conversations(path):
    async with asyncio.timeout(10):
        async with serving(path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"command": "wait"}\n')
            await asyncio.sleep(0.01)
        assert await reader.read() == b""
        writer.close()
    assert not path.exists()


def test_ask_without_a_daemon(path):
    with pytest.raises(StartError, match=r"no daemon answers at .*control.sock: start one, or name its directory"):
        ask(path, "status")


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("silent", "did not answer within 0.1 s"),
        ("hangs up", "ended before it had answered"),
        ("garbage", "ended before"),
    ],
)
def test_ask_of_a_sick_daemon(tmp_path, behaviour, says):
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        code = textwrap.dedent(
            f"""
            import socket, sys
            behaviour = {behaviour!r}
            with socket.socket(fileno={listening.fileno()}) as listening:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    if behaviour == "garbage": connection.sendall(b"what?\\n")
                    if behaviour == "silent": connection.recv(1)
            """
        )
        with subprocess.Popen([sys.executable, "-c", code], pass_fds=[listening.fileno()]) as child:
            timeout_s = 0.1 if behaviour == "silent" else 30.0
            with pytest.raises(StartError, match=says):
                ask(path, "status", timeout_s=timeout_s)
            assert child.wait(timeout=30) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_ask_without_permission(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        path.chmod(0)
        with pytest.raises(StartError, match="may not be opened by this user"):
            ask(path, "status")
