"""`mia-daemon simulator`: the stand-in for Sierra Chart."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import (
    add_common,
    allow_shipped_config,
    load_settings,
    names,
    port,
    positive,
    var_paths,
)
from mia_daemon.errors import UsageError

if TYPE_CHECKING:
    from mia_daemon.config import Settings
    from mia_daemon.simulator.played_market import PlayedRecording
    from mia_daemon.simulator.run import Extras


def add(commands: Any) -> None:
    parser = commands.add_parser("simulator", help="a stand-in for Sierra Chart's DTC server")
    parser.add_argument("--port", type=port, default=11099, help="0 takes a free one (default: 11099)")
    symbols = parser.add_mutually_exclusive_group()
    symbols.add_argument("--symbol", help="default: instrument.symbol")
    symbols.add_argument(
        "--symbols", type=names, metavar="LIST", help="several that can be traded: ESZ26_FUT_CME,NQZ26_FUT_CME"
    )
    parser.add_argument(
        "--accounts", type=names, metavar="LIST", help="trade accounts: Sim1,Sim2 (default: instrument.trade_account)"
    )
    parser.add_argument(
        "--display-multiplier",
        type=positive,
        metavar="X",
        help="DisplayPriceMultiplier: prices in messages are the displayed ones divided by it (default: 1)",
    )
    parser.add_argument("--speed", type=positive, metavar="N", help="exchange seconds per second")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where it remembers (default: <var>/simulator)")
    parser.add_argument("--policy", choices=("open", "sierra"), help="sierra: refuse market data as it does for CME's")
    parser.add_argument(
        "--encoding",
        choices=("auto", "binary", "binary_vls", "json", "json_compact"),
        help="the only one spoken (default: auto, what a client asks for)",
    )
    parser.add_argument(
        "--faults",
        type=_faults,
        metavar="LIST",
        help='named as in [simulator.faults]: "split,delay_ms=50"',
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve TLS with this certificate (PEM) ...")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="... and this key")
    market = parser.add_mutually_exclusive_group()
    market.add_argument("--now", action="store_true", help="exchange time is the present, and goes as fast as yours")
    market.add_argument("--play", type=Path, metavar="FILE", help="a recorded .scid as the market")
    parser.add_argument("--depth", type=Path, metavar="FILE", help="with --play: the .depth of the same symbol and day")
    parser.add_argument("--write-scid", type=Path, metavar="DIR", help="write the market as Sierra Chart's files")
    parser.add_argument("--history-dir", type=Path, metavar="DIR", help="serve historical prices of its .scid files")
    parser.add_argument("--history-port", type=port, metavar="PORT", help="where (default: dtc.history_port)")
    parser.add_argument("--parent-watch", action="store_true", help="end when standard input does")
    add_common(parser)
    parser.set_defaults(command=_simulator)


def _faults(text: str) -> dict[str, Any]:
    from mia_daemon.simulator.faults import parse

    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _first(given: tuple[str, ...] | None) -> str | None:
    return given[0] if given else None


def _simulator(options: argparse.Namespace) -> int:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together: name both files, or neither")
    if options.now and options.speed not in {None, 1.0}:
        raise UsageError("--now goes as fast as the clock: leave --speed out")
    if options.depth is not None and options.play is None:
        raise UsageError("--depth belongs to a recorded market: name its .scid with --play")
    if options.history_port is not None and options.history_dir is None:
        raise UsageError("--history-port needs --history-dir: the directory of the .scid files to serve")
    allow_shipped_config(options)
    settings = load_settings(
        options,
        simulator__speed=1.0 if options.now else options.speed,
        simulator__seed=options.seed,
        simulator__policy=options.policy,
        simulator__encoding=options.encoding,
        simulator__faults=options.faults,
        simulator__symbols=options.symbols,
        simulator__accounts=options.accounts,
        simulator__display_multiplier=options.display_multiplier,
        instrument__symbol=options.symbol or _first(options.symbols) or (options.play.stem if options.play else None),
        instrument__trade_account=_first(options.accounts),
        dtc__history_port=options.history_port,
    )
    from mia_daemon.simulator.run import run_simulator

    run_simulator(
        settings,
        port=options.port,
        state_dir=options.state or var_paths(options).simulator,
        parent_watch=options.parent_watch,
        tls_files=None if options.tls_cert is None else (options.tls_cert, options.tls_key),
        extras=_extras(options, settings),
    )
    return 0


def _extras(options: argparse.Namespace, settings: "Settings") -> "Extras":
    """What the options ask for beside a seeded market: a recording, files to write, historical prices."""
    from mia_daemon.feed.history.archive import ScidArchive
    from mia_daemon.feed.sierra_writer import SierraWriter
    from mia_daemon.simulator.run import Extras

    def files(symbol: str, begin_ns: int) -> SierraWriter:
        return SierraWriter(options.write_scid, symbol, begin_ns, settings.simulator.file_flush_ms)

    history = options.history_dir
    if history not in {None, options.write_scid} and not history.is_dir():
        raise UsageError(f"{history} is no directory: name one with .scid files")
    return Extras(
        recording=None if options.play is None else _recording(options.play, options.depth, settings),
        begin_now=options.now,
        files=None if options.write_scid is None else files,
        history=None if history is None else (settings.dtc.history_port, ScidArchive(history)),
    )


def _recording(file: Path, depth: Path | None, settings: "Settings") -> "PlayedRecording":
    from mia_daemon.clock import WallClock
    from mia_daemon.feed.recording import Recording, is_recording
    from mia_daemon.feed.replay_feed import ReplayFeed
    from mia_daemon.products.price_scale import PriceScale
    from mia_daemon.records import EventKind
    from mia_daemon.simulator.played_market import PlayedRecording

    # Without the tick size: the played market counts prices in ticks, and makes the touch of depth events by itself.
    scale = PriceScale(settings.price_scale(settings.instrument.symbol).multiplier)

    def feed() -> ReplayFeed:
        return ReplayFeed(file, WallClock(), depth_path=depth, scale=scale)

    first = next(feed().batches())
    has_depth = depth is not None or (
        is_recording(file) and any(EventKind.DEPTH in piece["kind"] for piece in Recording(file).pieces())
    )
    return PlayedRecording(file.name, int(first["ts_ns"][0]), feed().batches(), has_depth=has_depth)
