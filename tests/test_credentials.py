"""A server that repeats username and password in all that it says: no file and no terminal of the daemon has them."""

import json
import signal
import socket
import threading
from contextlib import suppress

import pytest
from daemon_process import TRADES_AT_ONCE, Daemons, status_of, until

from mia_daemon.dtc.encodings import BINARY, BY_NAME
from mia_daemon.dtc.layout import Text
from mia_daemon.dtc.messages import (
    AlertMessage,
    EncodingResponse,
    GeneralLogMessage,
    Logoff,
    LogonResponse,
    OrderUpdate,
    UserMessage,
)

pytestmark = pytest.mark.timeout(120)

USER, PASSWORD = "trader-joe", "correct-horse-7"
ECHO = f"{USER} logged on with {PASSWORD}\x1b[2J\nalert  urgent: a line of its own"
EXTERNAL = OrderUpdate(
    Symbol="ESZ26_FUT_CME", TradeAccount="Sim1", ServerOrderID=PASSWORD, ClientOrderID=PASSWORD, OrderStatus=4,
    OrderUpdateReason=2, OrderType=2, BuySell=1, OrderQuantity=1.0, Price1=1.0,
)  # fmt: skip


class Echo:
    """Passes on what clients and a server say; the server's texts repeat the credentials, and it says more of them."""

    def __init__(self, server_port, codec):
        self._server_port = server_port
        self._codec = codec
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [client, server]
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._echo, args=(server, client), daemon=True).start()

    @staticmethod
    def _pass_on(source, sink):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _echo(self, source, sink):
        codec, reader = BINARY, BINARY.reader()
        with suppress(OSError):
            while data := source.recv(1 << 16):
                frames = reader.feed(data)
                view = memoryview(frames.data)
                for start, end in zip(frames.offsets, frames.offsets[1:], strict=False):
                    message = codec.decode(view[start:end])
                    sink.sendall(bytes(view[start:end]) if message is None else codec.encode(repeat(message)))
                    if isinstance(message, EncodingResponse):
                        codec, reader = self._codec, self._codec.reader()
                    if isinstance(message, LogonResponse):
                        said = [UserMessage(), GeneralLogMessage(), AlertMessage(), EXTERNAL]
                        sink.sendall(b"".join(codec.encode(repeat(one)) for one in said))
            sink.sendall(codec.encode(repeat(Logoff())))

    def close(self):
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def repeat(message):
    """The message with the credentials in every text for people."""
    for field in message.LAYOUT.fields:
        if isinstance(field.wire, Text) and field.wire.cut:
            setattr(message, field.name, ECHO)
    return message


@pytest.fixture
def echo(request):
    started = []
    yield lambda port, codec: started.append(Echo(port, codec)) or started[-1]
    for each in started:
        each.close()


@pytest.mark.parametrize("encoding", ["binary", "json"])
def test_a_server_that_repeats_the_credentials_leaves_no_trace_of_them(
    daemons: Daemons, tmp_path, echo, monkeypatch, encoding
):
    settings = daemons.config("simulator.toml", simulator={"speed": 40.0})
    _, port = daemons.simulator(settings, tmp_path / "state")
    server, var = echo(port, BY_NAME[encoding]), tmp_path / "var"
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "MIA_DTC_USERNAME").write_text(USER)
    (secrets / "MIA_DTC_PASSWORD").write_text(PASSWORD)
    config = daemons.config(
        feed={"source": "dtc", "max_event_age_s": 0.0},
        dtc={"port": server.port, "heartbeat_interval_s": 5, "encoding": encoding},
        ops={"log_level": "debug"},
        **TRADES_AT_ONCE,
    )
    daemon = daemons.start("--mode", "paper", "--config", config, "--var", var, credentials=secrets).ready()
    until(lambda: status_of(var).get("round_trips", 0) >= 1, "a round trip")
    said = [
        daemons.run(*words, "--var", var, "--config", config, credentials=secrets)
        for words in (("status",), ("status", "--json"), ("check",))
    ]
    said.append(daemons.run("journal", "show", "--json", "--var", var))
    said.append(daemons.run("journal", "orders", "--var", var))
    server.close()  # the link is lost, with all that this leads to
    until(lambda: b'"link_down"' in (var / "logs" / "live_trading.log").read_bytes(), "the link is down")
    daemon.signal(signal.SIGINT)
    said.append(daemon.wait())

    log = (var / "logs" / "live_trading.log").read_text()
    heard = [json.loads(line) for line in log.splitlines()]
    kinds = {line["kind"] for line in heard if line["event"] == "server_says"}
    assert {"UserMessage", "GeneralLogMessage", "AlertMessage"} <= kinds  # it did say them
    assert any("*** logged on with ***" in line.get("text", "") for line in heard)
    files = [path for path in var.rglob("*") if path.is_file()]
    assert {"paper.db", "live_trading.log", "alerts.jsonl"} <= {path.name for path in files}
    found = {path.name: path.read_bytes() for path in files}
    found |= {f"said {number}": (ended.out + ended.err).encode() for number, ended in enumerate(said)}
    for name, data in found.items():
        for secret in (USER, PASSWORD):
            assert secret.encode() not in data, (name, secret)
    assert "\x1b" not in log + "".join(ended.out + ended.err for ended in said)
    assert not [line for ended in said for line in ended.out.splitlines() if line.startswith("alert  urgent: a line")]
