"""`mia-daemon probe`: which of the daemon's assumptions hold at a server, found out with orders of a Sim account."""

import argparse
import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import (
    account,
    add_common,
    config_path,
    load_settings,
    port,
    positive,
    say,
    symbol,
    var_paths,
)
from mia_daemon.errors import ConfigError

if TYPE_CHECKING:
    from mia_daemon.probe.run import ProbeResult


def add(commands: Any) -> None:
    about = (
        "Asks a DTC server what it has, sends single orders, an OCO pair and a bracket of one contract far from the "
        "market in a simulated account that is flat, cancels them, and says which of the daemon's assumptions hold."
    )
    parser = commands.add_parser("probe", help="how does your Sierra Chart behave?", description=about)
    parser.add_argument(
        "--account", type=account, required=True, metavar="SIM", help="a simulated account, flat and without orders"
    )
    parser.add_argument("--symbol", type=symbol, help="default: instrument.symbol")
    parser.add_argument("--port", type=port, metavar="PORT", help="default: dtc.port")
    parser.add_argument(
        "--price", type=positive, metavar="PRICE",
        help="of the market, to stay away from (default: the newest in the .scid, else what the server says)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="of its files (default: <var>/probes/<time>)")
    add_common(parser)
    parser.set_defaults(command=_probe)


def _probe(options: argparse.Namespace) -> int:
    settings = load_settings(options, instrument__symbol=options.symbol, dtc__port=options.port)
    from mia_daemon.clock import WallClock, iso_utc
    from mia_daemon.probe.run import no_daemon_beside, probe

    paths, clock = var_paths(options), WallClock()
    stamp = iso_utc(clock.now_ns()).replace(":", "").replace("-", "")[:15]
    directory = options.out or paths.root / "probes" / f"{stamp}Z"
    with no_daemon_beside(paths):
        work = probe(settings, options.account, directory, clock, _say_if_read, options.price)
        result = asyncio.run(_until_terminated(work))
    _print(result)
    _check_settings(options, result)
    return 0 if result.complete else 1


async def _until_terminated(work: "Coroutine[Any, Any, ProbeResult]") -> "ProbeResult":
    """However it is asked to end, and where its terminal is closed: orders are cancelled first."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:  # before it was connected
        raise KeyboardInterrupt from None


def _say_if_read(text: str) -> None:
    """Orders are followed and cancelled whether anybody reads this or not."""
    with suppress(OSError):
        say(text)


def _print(result: "ProbeResult") -> None:
    for finding in result.findings:
        print(finding)
    if result.stopped:
        say(f"the probe stopped: {result.stopped}")
    if result.left:
        say(f"may be left at the server, look there and cancel it by hand: {', '.join(result.left)}")
    say(f"transcript and report are in {result.directory}")


def _check_settings(options: argparse.Namespace, result: "ProbeResult") -> None:
    """Say where the settings are, and whether the configuration takes them."""
    if not result.settings:
        return
    from mia_daemon.config import load

    try:
        load(config_path(options), result.settings)
    except ConfigError as error:
        say(f"the settings that fit need a change of your configuration: {error}")
    say(f"settings that fit: {result.directory / 'settings.toml'}")
