"""A probe names the habits of a DTC server that was not written with the daemon."""

import asyncio
import errno
import signal
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTED = {  # of Sierra Chart, and this server does otherwise
    "fills_by_days_listed",
    "unknown_cancel_refused",
    "unnumbered_cancel",
    "misnamed_cancel",
    "pair_linked",
}


def differing(probed):
    return {code for code, verdict in probed.verdicts.items() if verdict != "holds"}


async def test_a_server_without_special_habits_fits(independent_server, probing):
    async with independent_server() as (server, port):
        probed = await probing(port)
    assert differing(probed) <= DOCUMENTED
    assert probed.complete
    assert probed.settings["broker.brackets"] == "server"
    assert probed.settings["feed.source"] == "dtc"
    assert server.position == 0
    assert not [order for order in server.orders.values() if order.status not in {7, 8, 9}]


@pytest.mark.parametrize(
    ("habits", "named", "says"),
    [
        ({"display_multiplier": 0.01}, {"price_scale"}, "divided by 0.01"),
        ({"update_symbol": "ESZ6.CME"}, {"symbol_spelling"}, "ESZ6.CME: broker.symbol_spellings needs it"),
        ({"update_account": "120005"}, {"account_spelling"}, "120005: broker.account_spellings needs it"),
        ({"update_account": ""}, {"account_spelling"}, "blank"),
        ({"new_id_on_replace": True}, {"replace_keeps_number"}, "PreviousServerOrderID names the old one"),
        ({"name_after_ack": False}, {"names_returned", "working_listed"}, "carry no ClientOrderID"),
        ({"ts": "zero"}, {"times_given"}, "carry no time"),
        ({"ts": "local"}, {"times_given"}, "6.0 h behind"),
        ({"hist_refused": True}, {"fills_since_listed"}, "refused (not supported)"),
        ({"replace_refused": "no"}, {"replace_confirmed"}, "was rejected"),
        ({"replace_as_cancel_new": True}, {"replace_confirmed", "replace_keeps_number"}, "a cancel and a new order"),
        ({"oco_supported_flag": 0}, {"links_orders"}, "OCOOrdersSupported 0"),
        ({"oco_refused": True}, {"bracket_accepted", "pair_accepted"}, "stop, target of a bracket not accepted"),
        ({"child_ids_late": True}, {"numbers_given"}, "no ServerOrderID"),
        ({"child_wait_status": 2}, {"children_held"}, "not reported as pending child"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
async def test_each_habit_is_named(independent_server, probing, habits, named, says):
    async with independent_server(**habits) as (server, port):
        probed = await probing(port, price=6000.0)
    assert named <= differing(probed) <= named | DOCUMENTED | {"children_held"}
    assert any(says in probed.texts[code] for code in named)
    assert probed.complete
    assert server.position == 0
    assert not [order for order in server.orders.values() if order.status not in {7, 8, 9}]


async def test_settings_that_fit_have_the_spellings_and_keep_pairs_here(independent_server, probing):
    async with independent_server(update_symbol="ESZ6.CME", update_account="120005", oco_refused=True) as (_, port):
        probed = await probing(port)
    assert probed.settings["broker.symbol_spellings"] == ["ESZ6.CME"]
    assert probed.settings["broker.account_spellings"] == ["120005"]
    assert probed.settings["broker.brackets"] == "client"


async def test_orders_that_a_server_does_not_cancel_are_named(independent_server, probing):
    async with independent_server(cancel_silent_share=1.0) as (server, port):
        probed = await probing(port)
        working = {order.cid for order in server.orders.values() if order.status not in {7, 8, 9}}
    assert not probed.complete
    assert set(probed.left) == working
    assert probed.verdicts["cancel_confirmed"] == "differs"


@pytest.mark.parametrize(
    ("habits", "says"),
    [
        ({"heartbeats_only": True}, "does not list the account Sim1"),
        ({"foreign_open": 2}, "Sim1 has 2 working orders"),
        ({"account": "Sim2"}, "does not list the account Sim1 (Sim2)"),
        ({"display_multiplier": 0.01}, "DisplayPriceMultiplier is not 1: name the price with --price"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
async def test_nothing_is_sent_where_it_might_harm(independent_server, probing, habits, says):
    async with independent_server(**habits) as (server, port):
        probed = await probing(port)
    assert says in probed.stopped
    assert not server.submitted
    assert not probed.settings


async def test_a_position_stops_the_probe(independent_server, probing):
    async with independent_server() as (server, port):
        server.position = 2
        probed = await probing(port)
    assert "Sim1 is not flat (2 ESZ26_FUT_CME)" in probed.stopped
    assert not server.submitted


@pytest.mark.parametrize("habits", [{}, {"update_symbol": "ESZ6.CME"}, {"no_last_fill_fields": True}])
async def test_an_order_that_fills_all_the_same_is_closed(independent_server, probing, habits):
    """The market rises to the orders meanwhile; the position may be listed under another spelling."""
    async with independent_server(**habits) as (server, port):
        task = asyncio.create_task(probing(port))
        await _until(lambda: server.submitted)
        server.bid, server.ask = 6200.0, 6200.25
        probed = await task
        assert server.position == 0
    assert probed.verdicts["nothing_filled"] == "differs"
    assert any(fill["role"] == "flatten" for fill in server.fills)
    assert not probed.left


@pytest.mark.parametrize("habits", [{}, {"display_multiplier": 0.01}])
async def test_a_price_that_the_server_contradicts_is_refused(independent_server, probing, habits):
    async with independent_server(**habits) as (server, port):
        probed = await probing(port, price=5000.0)
        assert not server.submitted
    assert "which one is it: 5000 by --price or the .scid file" in probed.stopped


async def test_a_position_that_is_not_closed_is_named(independent_server, probing):
    async with independent_server(flatten="refused") as (server, port):
        task = asyncio.create_task(probing(port))
        await _until(lambda: server.submitted)
        server.bid, server.ask = 6200.0, 6200.25
        probed = await task
        assert server.position
    assert any(text.startswith("a position of ") for text in probed.left)


async def test_a_full_disk_keeps_no_order_at_the_server(independent_server, probing, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    async with independent_server() as (server, port):
        task = asyncio.create_task(probing(port))
        await _until(lambda: server.submitted)
        monkeypatch.setattr("mia_daemon.probe.transcript.TranscriptFile.add", full)
        probed = await task
        assert not [order for order in server.orders.values() if order.status not in {7, 8, 9}]
    assert "the transcript can't be written: No space left on device" in probed.stopped
    assert not probed.left


async def test_output_that_nobody_reads_keeps_no_order_at_the_server(independent_server, tmp_path):
    """As in `mia-daemon probe … 2>&1 | head -3`."""
    async with independent_server() as (server, port):
        process = await _started(tmp_path, port)
        for _ in range(3):
            await process.stderr.readline()
        process._transport.get_pipe_transport(2).close()
        await process.wait()
        assert len(server.submitted) > 3
        assert not [order for order in server.orders.values() if order.status not in {7, 8, 9}]


async def _until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0.01)


async def test_a_lost_connection_names_what_may_be_left(independent_server, probing):
    async with independent_server() as (server, port):
        task = asyncio.create_task(probing(port))
        await _until(lambda: server.submitted)
        for connection in list(server.conns):
            connection.writer.close()
        probed = await task
        (name,) = server.submitted
    assert "the connection ended" in probed.stopped
    assert probed.left == [name]


async def _started(tmp_path, port):
    """A probe as a process of its own."""
    config = tmp_path / "mia.toml"
    text = (PROJECT / "etc" / "mia.toml").read_text()
    assert "request_timeout_s = 10.0" in text
    config.write_text(text.replace("request_timeout_s = 10.0", "request_timeout_s = 1.0"))
    words = ("probe", "--account", "Sim1", "--port", port, "--config", config, "--var", tmp_path / "var")
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mia_daemon", *map(str, words), stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_probe_cancels_its_orders(independent_server, tmp_path, number):
    async with independent_server() as (server, port):
        process = await _started(tmp_path, port)
        await _until(lambda: any(order.status == 4 for order in server.orders.values()))
        process.send_signal(number)
        _, said = await process.communicate()
        assert not [order for order in server.orders.values() if order.status not in {7, 8, 9}]
    assert process.returncode == 1
    assert "the probe stopped: it was interrupted" in said.decode()
    assert "may be left" not in said.decode()
