"""A link over TLS to the simulator: who is trusted, who is not, and what is said when the two ends do not match."""

import asyncio
import hashlib
import inspect
import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import trustme
import uvloop
from pydantic import SecretStr

from mia_daemon import cli
from mia_daemon.config import DtcSettings
from mia_daemon.dtc import messages as dtc
from mia_daemon.dtc.enums import LogonStatusEnum
from mia_daemon.errors import ConfigError, StartError
from mia_daemon.link.tls import client_context, server_context
from mia_daemon.simulator.client_session import Manners

SYMBOL = "ESZ26_FUT_CME"
SECRETS = {"username": SecretStr("trader-joe"), "password": SecretStr("correct-horse")}


class Authority:
    """An authority, a certificate it issued for this machine, and one for another name, as files."""

    def __init__(self, directory):
        authority = trustme.CA()
        self.ca_file = directory / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        self.here = self._issue(authority, directory, "127.0.0.1")
        self.elsewhere = self._issue(authority, directory, "sierra.lan")
        self.expired = self._issue(authority, directory, "127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))

    @staticmethod
    def _issue(authority, directory, name, **more):
        issued = authority.issue_cert(name, **more)
        stem = f"{name} {len(more)}"
        files = directory / f"{stem}.crt", directory / f"{stem}.key"
        issued.cert_chain_pems[0].write_to_path(files[0])
        issued.private_key_pem.write_to_path(files[1])
        return files

    @staticmethod
    def pin(files):
        der = ssl.PEM_cert_to_DER_cert(files[0].read_text())
        return hashlib.sha256(der).hexdigest()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def on_both_loops(scenario):
    """The scenario on the standard loop and on the one the daemon uses."""

    @pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
    def test(request, serving, calling, authority, factory):
        more = [request.getfixturevalue("eventually")] if "eventually" in inspect.signature(scenario).parameters else []

        async def bounded():
            async with asyncio.timeout(30):
                await scenario(serving, calling, authority, *more)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    test.__name__ = scenario.__name__
    return test


@on_both_loops
async def test_a_verified_server_is_talked_to(serving, calling, authority, eventually):
    async with (
        serving(tls=server_context(*authority.here), speed=20) as running,
        calling(running.port, tls="verify", tls_ca_file=authority.ca_file, **SECRETS) as caller,
    ):
        await caller.link.ready(10)
        assert await caller.link.request(dtc.OpenOrdersRequest(RequestAllOrders=1)) == []
        caller.link.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL))
        await eventually(lambda: len(caller.received) >= 20)
        assert caller.link.generation == 1


@on_both_loops
async def test_the_pinned_server_is_talked_to_and_no_other(serving, calling, authority, eventually):
    async with serving(tls=server_context(*authority.elsewhere)) as running:
        pin = authority.pin(authority.elsewhere)
        async with calling(running.port, tls="pinned", tls_fingerprint_sha256=pin, **SECRETS) as caller:
            await caller.link.ready(10)
        await eventually(lambda: running.server.dropped)
        wrong = authority.pin(authority.here)
        async with calling(running.port, tls="pinned", tls_fingerprint_sha256=wrong, **SECRETS) as caller:
            said = await caller.fails()
            assert f"is not the pinned one, nothing was sent: its SHA-256 fingerprint is {pin};" in said
            assert caller.link.server is None
            await eventually(lambda: caller.link.generation > 2)  # it is tried again, and nothing said again
        assert not [reason for reason in running.server.dropped[1:] if "logged off" in reason]


@on_both_loops
async def test_a_certificate_of_unknown_origin_is_refused(serving, calling, authority):
    async with (
        serving(tls=server_context(*authority.here)) as running,
        calling(running.port, tls="verify", **SECRETS) as caller,
    ):
        said = await caller.fails()
        assert said.startswith(f"the certificate of 127.0.0.1:{running.port} is not accepted (")
        assert "set dtc.tls_ca_file" in said


@on_both_loops
async def test_an_expired_certificate_is_to_be_renewed(serving, calling, authority):
    async with (
        serving(tls=server_context(*authority.expired)) as running,
        calling(running.port, tls="verify", tls_ca_file=authority.ca_file, **SECRETS) as caller,
    ):
        said = await caller.fails()
        assert said.endswith(
            "is not accepted (certificate has expired): look at this machine's clock, and have it renewed"
        )


@on_both_loops
async def test_a_certificate_for_another_name_is_refused_unless_that_name_is_expected(serving, calling, authority):
    async with serving(tls=server_context(*authority.elsewhere)) as running:
        async with calling(running.port, tls="verify", tls_ca_file=authority.ca_file) as caller:
            assert "is not accepted (IP address mismatch" in await caller.fails()
        named = {"tls_ca_file": authority.ca_file, "tls_server_name": "sierra.lan"}
        async with calling(running.port, tls="verify", **named) as caller:
            await caller.link.ready(10)


@on_both_loops
async def test_ends_that_do_not_match_say_so(serving, calling, authority):
    async with serving(tls=server_context(*authority.here)) as running, calling(running.port) as plain:
        assert "before the logon was answered: is dtc.tls as this port has it?" in await plain.fails()

    async def greet(_, writer):
        writer.write(b"220 welcome to something else\r\n" * 20)
        await writer.drain()
        writer.close()

    async def hush(reader, writer):
        await reader.read()
        writer.close()

    for behaviour, says in ((greet, "does not answer in TLS ("), (hush, "did not complete the TLS handshake")):
        server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, calling(port, tls="verify", connect_timeout_s=0.5) as caller:
            assert says in await caller.fails()
        await asyncio.sleep(0.01)


async def test_a_server_that_sends_us_on_is_followed_over_tls_with_the_password(serving, calling, authority, tmp_path):
    context = server_context(*authority.here)
    async with serving(Manners(username="trader-joe", password="correct-horse"), tls=context) as there:
        sends_on = Manners(
            logon_result=LogonStatusEnum.LOGON_RECONNECT_NEW_ADDRESS, reconnect_address=f"127.0.0.1:{there.port}"
        )
        async with (
            serving(sends_on, tmp_path / "first", tls=context) as first,
            calling(first.port, tls="verify", tls_ca_file=authority.ca_file, **SECRETS) as caller,
        ):
            await caller.link.ready(10)
            assert caller.link.address == f"127.0.0.1:{there.port}"
            assert [up for up, _ in caller.states] == [True]


# Files


def test_a_certificate_that_cannot_be_used_is_one_sentence(authority, tmp_path):
    certificate, key = authority.here
    for bad in ((tmp_path / "none.crt", key), (certificate, authority.elsewhere[1]), (key, certificate)):
        with pytest.raises(StartError, match=r"^the certificate .* with the key .* can't be used: .*PEM files"):
            server_context(*bad)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_used_are_refused_at_once(tmp_path, content, calling):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"dtc.tls_ca_file .*ca\.pem can't be used: "):
        client_context(DtcSettings(tls="verify", tls_ca_file=path))


# The command


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tls-cert", "a.pem"], "--tls-cert and --tls-key go together"),
        (["--faults", "delay_m=5"], "unknown key simulator.faults.delay_m; did you mean delay_ms?"),
        (["--faults", "delay_ms"], "delay_ms needs a number: delay_ms="),
        (["--faults", "delay_ms=soon"], "'delay_ms=soon' is no fault: write a name, or name=number"),
        (["--faults", "split,split"], "split is given twice"),
        (["--faults", "lose_share=2"], "simulator.faults.lose_share"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(options, says, capsys, tmp_path):
    try:
        status = cli.main(["simulator", "--port", "0", "--state", str(tmp_path), *options])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert says in capsys.readouterr().err


async def test_the_command_serves_tls_with_faults_and_sierras_policy(authority, calling, eventually, tmp_path):
    certificate, key = map(str, authority.here)
    options = [
        "--tls-cert",
        certificate,
        "--tls-key",
        key,
        "--policy",
        "sierra",
        "--faults",
        "split,delay_ms=5",
    ]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mia_daemon", "simulator", "--port=0", "--parent-watch", f"--state={tmp_path}", *options,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = json.loads(await child.stdout.readline())["port"]
        async with calling(port, tls="verify", tls_ca_file=authority.ca_file) as caller:
            await caller.link.ready(10)
            caller.link.send(dtc.MarketDataRequest(SymbolID=1, Symbol=SYMBOL))
            await eventually(lambda: caller.received)
            assert caller.received[0].RejectText == "Market data request not allowed"
    finally:
        child.stdin.close()
        assert await child.wait() == 0
