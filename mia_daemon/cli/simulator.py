"""`mia-daemon simulator`: the stand-in for Sierra Chart."""

import argparse
from pathlib import Path
from typing import Any

from mia_daemon.cli.options import add_common, load_settings, port, positive, var_paths


def add(commands: Any) -> None:
    parser = commands.add_parser("simulator", help="a stand-in for Sierra Chart's DTC server")
    parser.add_argument("--port", type=port, default=11099, help="0 takes a free one (default: 11099)")
    parser.add_argument("--symbol", help="default: instrument.symbol")
    parser.add_argument("--speed", type=positive, metavar="N", help="exchange seconds per second")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where it remembers (default: <var>/simulator)")
    parser.add_argument("--parent-watch", action="store_true", help="end when standard input does")
    add_common(parser)
    parser.set_defaults(command=_simulator)


def _simulator(options: argparse.Namespace) -> int:
    settings = load_settings(
        options,
        simulator__speed=options.speed,
        simulator__seed=options.seed,
        instrument__symbol=options.symbol,
    )
    from mia_daemon.simulator.run import run_simulator

    run_simulator(
        settings,
        port=options.port,
        state_dir=options.state or var_paths(options).simulator,
        parent_watch=options.parent_watch,
    )
    return 0
