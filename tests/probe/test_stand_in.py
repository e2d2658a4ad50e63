"""A probe of the stand-in, with a password and with another account beside."""

import json

import pytest

from mia_daemon.cli import main
from mia_daemon.dtc.encodings import BINARY
from mia_daemon.dtc.transcript import from_line
from mia_daemon.errors import LogonRefused, UsageError
from mia_daemon.simulator.client_session import Manners


def lines_of(probed):
    return (probed.directory / "transcript.jsonl").read_text().splitlines()


async def test_what_is_documented_of_sierra_chart_holds(serving, probing):
    async with serving() as running:
        probed = await probing(running.port)
        desk = running.exchange.desk
        assert not [order for order in desk.orders.values() if order.alive]
        assert not desk.fills
    assert probed.complete
    by_the_clock_of_the_simulator = {"times_given"}
    assert {code for code, verdict in probed.verdicts.items() if verdict != "holds"} <= by_the_clock_of_the_simulator


async def test_refused_prices_lead_to_the_files(serving, probing):
    async with serving(manners=Manners(serves_market_data=False)) as running:
        stopped = await probing(running.port)
        assert "name the price with --price" in stopped.stopped
        (stopped.directory / "transcript.jsonl").unlink()
        (stopped.directory / "report.json").unlink()
        probed = await probing(running.port, price=6000.0)
    assert probed.verdicts["serves_prices"] == "differs"
    assert "scid" in probed.texts["serves_prices"]


async def test_the_transcript_holds_no_secret_and_can_be_encoded(serving, probing):
    async with serving(manners=Manners(username="ann", password="s3cret-word")) as running:
        probed = await probing(running.port, secrets=("ann", "s3cret-word"))
    lines = lines_of(probed)
    written = "\n".join(path.read_text() for path in probed.directory.iterdir())
    assert "s3cret-word" not in written
    assert json.loads(lines[0])["Username"] == "[redacted]"
    messages = [from_line(line.encode()) for line in lines]
    assert all(BINARY.decode(memoryview(BINARY.encode(message))) == message for message in messages)
    assert {json.loads(line)["From"] for line in lines} == {"client", "server"}


async def test_a_refused_logon_is_an_error(serving, probing):
    async with serving(manners=Manners(username="ann", password="right")) as running:
        with pytest.raises(LogonRefused, match="username or password is wrong"):
            await probing(running.port, secrets=("ann", "left"))


async def test_the_longest_client_name_fits(serving, probing):
    async with serving() as running:
        assert (await probing(running.port, client_name="x" * 20)).complete


async def test_nothing_is_sent_where_real_accounts_are_listed_too(serving, probing):
    async with serving(accounts=["120005"]) as running:
        probed = await probing(running.port)
        assert not running.exchange.desk.orders
    assert "lists 1 accounts that are not simulated" in probed.stopped


async def test_real_accounts_are_refused_before_anything_is_sent(probing):
    with pytest.raises(UsageError, match="12345 is not one of them"):
        await probing(1, account="12345")


@pytest.mark.parametrize("encoding", ["binary_vls", "json", "json_compact"])
async def test_every_encoding_is_spoken(serving, probing, encoding):
    async with serving() as running:
        probed = await probing(running.port, encoding=encoding)
    assert probed.complete


def test_a_running_daemon_is_not_disturbed(tmp_path, capsys):
    from mia_daemon import lock_file

    held = lock_file.hold(tmp_path / "run" / "var.lock")
    assert main(["probe", "--account", "Sim1", "--var", str(tmp_path), "--port", "1"]) == 1
    assert "stop it, then probe again" in capsys.readouterr().err
    assert held
    assert not (tmp_path / "probes").exists()
