"""`mia-daemon --mode …`: trade."""

import argparse
import sys
import traceback

from mia_daemon.cli.options import (
    account,
    add_common,
    allow_shipped_config,
    config_path,
    duration_s,
    load_settings,
    positive,
    use_kernel_cache,
    var_paths,
)
from mia_daemon.config import Mode
from mia_daemon.errors import ExitStatus, MiaError, UsageError
from mia_daemon.records import Priority
from mia_daemon.service_stderr import prefix


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=(Mode.PAPER.value, Mode.LIVE.value), help="trade: on paper, or with money")
    add_common(parser, absent=None)
    parser.add_argument("--for", dest="duration_s", type=duration_s, metavar="TIME", help="stop after, e.g. 120s, 2h")
    parser.add_argument("--speed", type=positive, metavar="N", help="exchange seconds per second of the simulator")
    parser.add_argument("--seed", type=int, metavar="N", help="of the simulator's market")
    parser.add_argument("--arm", type=account, metavar="ACCOUNT", help="live only: the trade account, once more")
    parser.add_argument("--quiet", action="store_true", help="nothing on the terminal but trouble and the summary")
    parser.set_defaults(command=trade)


def trade(options: argparse.Namespace) -> int:
    """Trade; a start that fails leaves a line in the log and an alert."""
    if options.mode is None:
        raise UsageError("say what to do: --mode paper, --mode live, or a command (--help lists them)")
    try:
        return _trade(options)
    except Exception as error:
        from mia_daemon.ops.failed_start import report_failed_start

        report_failed_start(var_paths(options), error)
        if isinstance(error, MiaError):
            raise
        for line in traceback.format_exc().splitlines():
            print(f"{prefix(Priority.CRITICAL)}{line}", file=sys.stderr)
        return ExitStatus.SOFTWARE


def _trade(options: argparse.Namespace) -> int:
    if options.mode == Mode.PAPER:
        allow_shipped_config(options)
    settings = load_settings(options, simulator__speed=options.speed, simulator__seed=options.seed)
    use_kernel_cache(settings)
    from mia_daemon.daemon.process import run

    return run(
        settings,
        config_path(options),
        Mode(options.mode),
        var_paths(options),
        duration_s=options.duration_s,
        armed_account=options.arm,
        quiet=options.quiet,
    )
