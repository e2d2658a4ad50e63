"""`mia-daemon simulator`: the stand-in for Sierra Chart."""

import argparse
from pathlib import Path
from typing import Any

from mia_daemon.cli.options import add_common, load_settings, port, positive, var_paths
from mia_daemon.errors import UsageError


def add(commands: Any) -> None:
    parser = commands.add_parser("simulator", help="a stand-in for Sierra Chart's DTC server")
    parser.add_argument("--port", type=port, default=11099, help="0 takes a free one (default: 11099)")
    parser.add_argument("--symbol", help="default: instrument.symbol")
    parser.add_argument("--speed", type=positive, metavar="N", help="exchange seconds per second")
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--state", type=Path, metavar="DIR", help="where it remembers (default: <var>/simulator)")
    parser.add_argument("--policy", choices=("open", "sierra"), help="sierra: refuse market data as it does for CME's")
    parser.add_argument(
        "--faults",
        type=_faults,
        metavar="LIST",
        help='named as in [simulator.faults]: "split,delay_ms=50"',
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve TLS with this certificate (PEM) ...")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="... and this key")
    parser.add_argument("--parent-watch", action="store_true", help="end when standard input does")
    add_common(parser)
    parser.set_defaults(command=_simulator)


def _faults(text: str) -> dict[str, Any]:
    from mia_daemon.simulator.faults import parse

    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _simulator(options: argparse.Namespace) -> int:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("--tls-cert and --tls-key go together: name both files, or neither")
    settings = load_settings(
        options,
        simulator__speed=options.speed,
        simulator__seed=options.seed,
        simulator__policy=options.policy,
        simulator__faults=options.faults,
        instrument__symbol=options.symbol,
    )
    from mia_daemon.simulator.run import run_simulator

    run_simulator(
        settings,
        port=options.port,
        state_dir=options.state or var_paths(options).simulator,
        parent_watch=options.parent_watch,
        tls_files=None if options.tls_cert is None else (options.tls_cert, options.tls_key),
    )
    return 0
