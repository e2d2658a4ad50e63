"""Paper sessions with prices and orders over DTC alone, in each encoding and over TLS, between real processes.

What passed on the wire is looked at on its way: an encoding that was configured and not spoken, or a password in the
clear, would trade as well.
"""

import hashlib
import json
import re
import signal
import socket
import sqlite3
import ssl
import threading
from contextlib import closing, contextmanager, suppress

import pytest
from daemon_process import TRADES_AT_ONCE, status_of, until

pytestmark = pytest.mark.timeout(120)

SPEED = 40.0
KEPT = 1 << 16  # bytes of each direction of a connection that are looked at
ENCODING_REQUEST = b"\x10\x00\x06\x00"


class Tap:
    """Passes bytes between a port of its own and the server's, and keeps the first of them."""

    def __init__(self, server_port):
        self.from_clients: list[bytearray] = []
        self.from_server: list[bytearray] = []
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                return
            self._sockets += [client, server]
            for source, sink, kept in ((client, server, self.from_clients), (server, client, self.from_server)):
                kept.append(bytearray())
                threading.Thread(target=self._pass_on, args=(source, sink, kept[-1]), daemon=True).start()

    @staticmethod
    def _pass_on(source, sink, kept):
        with suppress(OSError):
            while data := source.recv(1 << 16):
                kept += data[: KEPT - len(kept)]
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def tapped(port):
    tap = Tap(port)
    try:
        yield tap
    finally:
        tap.close()


@pytest.fixture
def session(daemons, tmp_path):
    """Runs a daemon against a stand-in until it has made two round trips; what was said on the wire.

    Each ends with status 0, the journal holds together, and what was booked is what the stand-in filled.
    """

    def run(dtc, generation=1, **stand_in):
        settings = daemons.config("simulator.toml", simulator={"speed": SPEED, "generation": generation})
        simulator, port = daemons.simulator(settings, tmp_path / "state", **stand_in)
        var = tmp_path / "var"
        with tapped(port) as tap:
            config = daemons.config(
                feed={"source": "dtc", "max_event_age_s": 0.0},  # the stand-in's time is its own
                dtc={"port": tap.port, "heartbeat_interval_s": 5, **dtc},
                broker={"reconcile_every_s": 2.0},
                **TRADES_AT_ONCE,
            )
            daemon = daemons.start("--mode", "paper", "--config", config, "--var", var).ready()
            until(lambda: status_of(var).get("round_trips", 0) >= 2, "two round trips")
            daemon.signal(signal.SIGINT)
            ended = daemon.wait()
        assert (ended.status, ended.err) == (0, "")
        assert "position +0" in ended.out.splitlines()[-1]
        simulator.signal(signal.SIGTERM)
        assert simulator.wait().status == 0
        verified = daemons.run("journal", "verify", "--var", var, "--config", config)
        assert verified.status == 0, verified
        assert booked(var / "journal" / "paper.db") == filled(tmp_path / "state" / "orders.jsonl")
        return tap

    return run


def booked(journal):
    """The fills in the journal; of decisions and orders there has to be something too."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as db:
        for table in ("decisions", "intents"):
            assert db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0, table
        return sorted(execution.split("/")[-1] for (execution,) in db.execute("SELECT execution_id FROM fills"))


def filled(orders):
    lines = [json.loads(line) for line in orders.read_text().splitlines()]
    executions = sorted(line["ExecutionID"] for line in lines if line["kind"] == "fill")
    assert len(executions) >= 4
    return executions


def spoken(client, server):
    """The encoding of a logon and of what was answered to it, told from the bytes alone."""
    said = bytes(client)
    if said.startswith(ENCODING_REQUEST):
        said = said[16:]
    if said.startswith(b"{"):
        return "json_compact" if b'"F":[' in server else "json"
    assert said[2:4] == b"\x01\x00"
    return "binary" if said[4:8] == b"\x08\x00\x00\x00" else "binary_vls"  # a version, or a BaseSize


@pytest.mark.parametrize("encoding", ["binary", "binary_vls", "json", "json_compact"])
def test_a_session_in_each_encoding(session, encoding):
    tap = session({"encoding": encoding})
    connections = list(zip(tap.from_clients, tap.from_server, strict=True))
    assert all(client.startswith(ENCODING_REQUEST) for client, _ in connections if client)
    heard = {spoken(client, server) for client, server in connections if client}
    also = {"json"} if encoding == "json_compact" else set()  # what is told of orders has no compact form
    assert {encoding} <= heard <= {encoding} | also


def test_a_session_with_a_server_set_to_one_encoding_asks_for_none(session):
    tap = session({"encoding": "json_compact", "encoding_is_preset": True}, encoding="json_compact")
    assert {bytes(said[:1]) for said in tap.from_clients + tap.from_server if said} == {b"{"}
    names = [re.search(rb'"ClientName":"([^"]*)"', said)[1] for said in tap.from_clients if said]
    assert sorted(names) == [b"mia-daemon orders", b"mia-daemon prices"]  # Sierra Chart may drop one of two alike


def test_a_session_with_the_messages_of_the_newer_header(session):
    tap = session({"encoding": "json"}, generation=2)
    types = {int(number) for said in tap.from_server for number in re.findall(rb'{"Type":(\d+)', said)}
    assert {109, 147, 148} <= types
    assert not {106, 107, 108, 112, 117, 140, 144, 145, 146} & types  # what that header has removed, or is about to


@pytest.mark.parametrize(("tls", "encoding"), [("verify", "binary"), ("pinned", "json_compact")])
def test_a_session_over_tls_shows_nothing_on_the_wire(session, certificate, tls, encoding):
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert((certificate / "server.crt").read_text())).hexdigest()
    trust = {"verify": {"tls_ca_file": str(certificate / "ca.pem")}, "pinned": {"tls_fingerprint_sha256": pin}}[tls]
    files = {"tls-cert": certificate / "server.crt", "tls-key": certificate / "server.key"}
    tap = session({"tls": tls, "encoding": encoding, "client_name": "tell-tale", **trust}, **files)
    everything = tap.from_clients + tap.from_server
    assert {bytes(said[:1]) for said in everything if said} == {b"\x16"}  # a TLS handshake
    assert not [said for said in everything if b"tell-tale" in said or b"Sim1" in said]
