"""The simulator as a process: `mia-daemon simulator`."""

import asyncio
import json
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from mia_daemon.clock import NS_PER_S, Clock, WallClock
from mia_daemon.config import Settings
from mia_daemon.dtc.encodings import BY_NAME
from mia_daemon.errors import StartError
from mia_daemon.link.tls import server_context
from mia_daemon.products.instruments import Instrument, instrument
from mia_daemon.products.trading_calendar import LAST_DATE, TradingCalendar
from mia_daemon.simulator import hours
from mia_daemon.simulator.client_session import Manners
from mia_daemon.simulator.exchange import Exchange, Traded
from mia_daemon.simulator.history_server import Archive, HistoryServer
from mia_daemon.simulator.market_recorder import MarketFiles
from mia_daemon.simulator.played_market import PlayedRecording
from mia_daemon.simulator.server import SimulatorServer
from mia_daemon.simulator.state import StateStore

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Extras:
    """What a simulator is and does beside a seeded market behind a DTC port.

    Attributes:
        recording: a recorded market to be played instead of a seeded one.
        begin_now: a seeded market's time is the present, whatever `start_date` says.
        files: opens what takes all that a market does, given its symbol and its present (ns).
        history: port (0 for any free one) of historical prices, and where they come from.
    """

    recording: PlayedRecording | None = None
    begin_now: bool = False
    files: Callable[[str, int], MarketFiles] | None = None
    history: tuple[int, Archive] | None = None


PLAIN = Extras()


def open_server(
    settings: Settings,
    state_dir: Path,
    clock: Clock | None = None,
    calendar: TradingCalendar | None = None,
    manners: Manners | None = None,
    extras: Extras = PLAIN,
) -> SimulatorServer:
    """A server over the state in `state_dir`, ready to `run`.

    Args:
        settings: `instrument` and `simulator` are used; the first of several symbols is the main one.
        state_dir: made when missing; what an earlier run left there is carried on.
        clock: that paces it.
        calendar: of the exchange; by default all of it, cached beside the state directory.
        manners: how it behaves; by default as well as it can, in the settings' message generation.
        extras: another market than the seeded one, and files to write; `history` is not this server's.

    Raises:
        StartError: the state, the calendar or the settings can't be used.
    """
    clock = clock or WallClock()
    traded = _traded(settings)
    if extras.recording is not None and len(traded.instruments) > 1:
        raise StartError("a recording is played for one symbol: leave simulator.symbols (--symbols) out")
    store = StateStore(state_dir, *(each.symbol for each in traded.instruments))
    try:
        today = _day(clock.now_ns())
        calendar = calendar or _calendar(
            settings, traded.instruments[0], today, state_dir, extras, store.lease_ns
        )  # takes seconds when not cached
        exchange = Exchange(
            traded,
            settings.simulator,
            calendar,
            store,
            today,
            recording=extras.recording,
            begin_ns=clock.now_ns() if extras.begin_now else None,
        )
    except BaseException:
        store.close()
        raise
    try:
        opens = extras.files
        files = None if opens is None else {symbol: opens(symbol, exchange.now_ns) for symbol in exchange.markets}
    except BaseException:
        exchange.close()
        raise
    simulator = settings.simulator
    return SimulatorServer(exchange, clock, simulator.speed, manners or _manners(settings), simulator.faults, files)


def _traded(settings: Settings) -> Traded:
    """Symbols and accounts, those of `instrument` first."""
    symbols = dict.fromkeys((settings.instrument.symbol, *settings.simulator.symbols))
    accounts = dict.fromkeys((settings.instrument.trade_account, *settings.simulator.accounts))
    products = settings.products
    return Traded(tuple(instrument(symbol, products) for symbol in symbols), tuple(accounts), products)


def _manners(settings: Settings) -> Manners:
    simulator = settings.simulator
    return Manners(
        generation=simulator.generation,
        compact=simulator.compact_trades_and_quotes,
        serves_market_data=simulator.policy != "sierra",
        encoding=None if simulator.encoding == "auto" else BY_NAME[simulator.encoding].encoding,
    )


def _calendar(
    settings: Settings, main: Instrument, today: date, state_dir: Path, extras: Extras, lease_ns: int | None
) -> TradingCalendar:
    """From a week before anything that can happen; a state of an earlier run carries on, whatever `start_date` says."""
    if extras.recording is not None:
        first = _day(extras.recording.begin_ns)
    elif lease_ns is not None:
        first = _day(lease_ns)
    elif extras.begin_now:
        first = today
    else:
        first = hours.first_day(settings.simulator.start_date, main, today)
    return TradingCalendar.load(first - timedelta(weeks=1), LAST_DATE, state_dir, main.product.hours)


def _day(ts_ns: int) -> date:
    return datetime.fromtimestamp(ts_ns / NS_PER_S, UTC).date()


def run_simulator(
    settings: Settings,
    *,
    port: int,
    state_dir: Path,
    parent_watch: bool = False,
    tls_files: tuple[Path, Path] | None = None,
    extras: Extras = PLAIN,
) -> None:
    """Run a simulator in this process until SIGTERM or SIGINT, or, watching its parent, until standard input closes.

    Says one JSON line on standard output once it listens: `{"event": "listening", "host": …, "port": …}`, with
    `history_port` where it serves historical prices.

    Args:
        settings: `instrument` and `simulator` are used.
        port: 0 for any free one.
        state_dir: where it remembers.
        parent_watch: end with standard input.
        tls_files: certificate and key of encrypted connections; None for plain ones.
        extras: what it does beside serving a seeded market.

    Raises:
        StartError: the port is in use, or the state, the settings or the certificate can't be used.
    """
    tls = None if tls_files is None else server_context(*tls_files)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_main(settings, port, state_dir, parent_watch=parent_watch, tls=tls, extras=extras))


async def _main(
    settings: Settings,
    port: int,
    state_dir: Path,
    *,
    parent_watch: bool,
    tls: ssl.SSLContext | None,
    extras: Extras,
) -> None:
    server = open_server(settings, state_dir, extras=extras)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if parent_watch:
        try:
            loop.add_reader(sys.stdin.fileno(), _watch_parent, loop, server)
        except (OSError, ValueError) as error:
            server.exchange.close()
            raise StartError(
                "--parent-watch needs a pipe as standard input: its end means that the parent died"
            ) from error
    async with AsyncExitStack() as stack:
        also = {}
        if extras.history is not None:
            history = HistoryServer(extras.history[1], _manners(settings))
            stack.push_async_callback(history.close)
            also["history_port"] = await history.start(HOST, extras.history[0], tls)
        await server.run(HOST, port, lambda found: _say_listening(found, also), tls)


def _say_listening(port: int, also: Mapping[str, int]) -> None:
    line = {"event": "listening", "host": HOST, "port": port, **also}
    print(json.dumps(line), flush=True)  # noqa: T201  # for the parent


def _watch_parent(loop: asyncio.AbstractEventLoop, server: SimulatorServer) -> None:
    """Standard input can be read: only its end means anything."""
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        server.stop()
