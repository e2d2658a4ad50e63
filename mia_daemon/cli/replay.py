"""`mia-daemon replay`: recorded data through the same four tasks."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import (
    add_common,
    allow_shipped_config,
    load_settings,
    say,
    symbol,
    time_ns,
    use_kernel_cache,
    var_paths,
)
from mia_daemon.clock import NEVER_NS
from mia_daemon.errors import UsageError

_FROM = "UTC; decide from then on: what is before only warms up the features"

if TYPE_CHECKING:
    from mia_daemon.daemon.replay import Summary


def add(commands: Any) -> None:
    parser = commands.add_parser("replay", help="run recorded data through the same four tasks")
    parser.add_argument("file", type=Path, help="a .scid file or a recording")
    parser.add_argument("--depth", type=Path, metavar="FILE", help="the .depth file of the same symbol and day")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="the .scid file of the reference symbol")
    parser.add_argument(
        "--symbol", type=symbol, help="contract, when the file's name does not say it (MNQU21-CME.scid does)"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="events per batch; decisions do not depend on it")
    parser.add_argument(
        "--refill",
        action="store_true",
        help="of a recorded session: new fills from the paper broker, and the configuration of today; so does --config",
    )
    parser.add_argument("--from", dest="from_ns", type=time_ns, default=0, metavar="TIME", help=_FROM)
    parser.add_argument(
        "--to", dest="to_ns", type=time_ns, default=NEVER_NS, metavar="TIME", help="events from then on are left out"
    )
    parser.add_argument(
        "--research", action="store_true", help="count the latches that limits would set, and go on trading"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    add_common(parser, var="var/replay")
    parser.set_defaults(command=_replay)


def _replay(options: argparse.Namespace) -> int:
    if not options.file.exists():
        raise UsageError(f"{options.file} does not exist: name a .scid file or a recording")
    from mia_daemon.execution.tape_file import is_tape

    if is_tape(options.file) and not (options.refill or options.config):
        return _repeat(options)
    allow_shipped_config(options)
    settings = load_settings(options, feed__batch_events=options.batch, instrument__symbol=options.symbol)
    use_kernel_cache(settings)
    from mia_daemon.daemon.replay import replay
    from mia_daemon.daemon.replay_window import ReplayWindow

    summary = replay(
        settings,
        options.file,
        var_paths(options, "var/replay"),
        depth=options.depth,
        reference=options.reference,
        symbol=options.symbol,
        window=ReplayWindow(options.from_ns, options.to_ns),
        research=options.research,
        on_progress=say,
    )
    _show(options, summary)
    return 0


def _repeat(options: argparse.Namespace) -> int:
    """A recorded session is repeated with the configuration and the fills that it had.

    Raises:
        UsageError: an option asks for something else.
    """
    if others := [option for option, given in _of_other_decisions(options).items() if given]:
        raise UsageError(
            f"{options.file} is repeated as it was, which {', '.join(others)} would change: add --refill, or leave out "
            f"{'that option' if len(others) == 1 else 'those options'}"
        )
    from mia_daemon.daemon.session_replay import repeat

    done = repeat(options.file, var_paths(options, "var/replay"), on_progress=say)
    say(f"its rows are in {done.journal} (`mia-daemon journal ... --file`)")
    _show(options, done.summary)
    if done.parted:
        say(f"the repetition differs: {done.parted}; --refill makes new fills")
    return 1 if done.parted else 0


def _of_other_decisions(options: argparse.Namespace) -> dict[str, bool]:
    """The options under which a session would decide or fill otherwise than it did, and whether each was given."""
    return {
        "--depth": options.depth is not None,
        "--reference": options.reference is not None,
        "--symbol": options.symbol is not None,
        "--from": options.from_ns > 0,
        "--to": options.to_ns != NEVER_NS,
        "--research": options.research,
    }


def _show(options: argparse.Namespace, summary: "Summary") -> None:
    print(json.dumps(summary.as_dict()) if options.json else summary)
