"""`mia-daemon check` and `prepare`: what is looked at, and made, before a start."""

import argparse
from typing import Any

from mia_daemon.cli.options import (
    account,
    add_common,
    allow_shipped_config,
    load_settings,
    say,
    use_kernel_cache,
    var_paths,
)
from mia_daemon.config import Mode
from mia_daemon.printable import printable


def add(commands: Any) -> None:
    _add_check(commands)
    _add_prepare(commands)


def _add_check(commands: Any) -> None:
    parser = commands.add_parser("check", help="is everything fit to start?")
    parser.add_argument("--mode", choices=(Mode.PAPER.value, Mode.LIVE.value), default=Mode.PAPER.value)
    parser.add_argument("--arm", type=account, metavar="ACCOUNT", help="live only: as at the start")
    add_common(parser)
    parser.set_defaults(command=_check)


def _add_prepare(commands: Any) -> None:
    parser = commands.add_parser("prepare", help="compile the feature kernels now, so that the first start needn't")
    add_common(parser)
    parser.set_defaults(command=_prepare)


def _check(options: argparse.Namespace) -> int:
    if options.mode == Mode.PAPER:
        allow_shipped_config(options)
    settings = load_settings(options)
    from mia_daemon.daemon.preflight import preflight

    findings = preflight(settings, Mode(options.mode), var_paths(options), options.arm)
    for finding in findings:
        print(printable(str(finding)))
    return 0 if all(finding.fit for finding in findings) else 1


def _prepare(options: argparse.Namespace) -> int:
    allow_shipped_config(options)
    use_kernel_cache(load_settings(options))
    from mia_daemon.clock import NS_PER_S, WallClock
    from mia_daemon.features import cache

    clock = WallClock()
    cache.prepare(say, lambda: clock.monotonic_ns() / NS_PER_S)
    return 0
