"""`mia-daemon backup DIR`: what a daemon needs to go on, copied while it runs."""

import argparse
from pathlib import Path
from typing import Any

from mia_daemon.cli.options import add_common, var_paths
from mia_daemon.printable import printable


def add(commands: Any) -> None:
    about = "copy what a daemon needs to go on, also while it runs; docs/upgrading.md says how to restore it"
    parser = commands.add_parser("backup", help=about, description=about)
    parser.add_argument("directory", type=Path, metavar="DIR", help="new or empty; with --check: a backup")
    parser.add_argument("--check", action="store_true", help="compare a backup with its manifest instead")
    add_common(parser)
    parser.set_defaults(command=_backup)


def _backup(options: argparse.Namespace) -> int:
    from mia_daemon.clock import WallClock
    from mia_daemon.daemon.backup import back_up, check_backup

    directory = options.directory
    if options.check:
        copied, what = check_backup(directory), "as it was made"
    else:
        copied, what = back_up(var_paths(options), directory, WallClock().now_ns()), "copied and checked"
    size = sum(one.size for one in copied)
    print(printable(f"backup {directory}: {len(copied)} files, {size / 1e6:,.1f} MB, {what}"))
    return 0
