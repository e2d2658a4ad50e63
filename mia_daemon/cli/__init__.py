"""The command line: it knows options, not trading.

Exit status: 0 done, 1 the surroundings or the market side failed, 2 the command or the configuration is wrong. A daemon
that trades has more of them: `errors.ExitStatus`.
"""

import argparse
import difflib
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mia_daemon import __version__
from mia_daemon.cli import (
    backup,
    check,
    control,
    daemon,
    dtc,
    features,
    fetch,
    init,
    journal,
    probe,
    prune,
    replay,
    scid,
    simulator,
    statement,
    verify_session,
)
from mia_daemon.errors import ExitStatus, MiaError, UsageError
from mia_daemon.printable import printable
from mia_daemon.private_file import restrict_umask
from mia_daemon.service_stderr import report_on_stderr

_COMMANDS = (
    init, replay, verify_session, simulator, probe, fetch, scid, dtc, features, check, control, journal, statement,
    prune, backup,
)  # fmt: skip
"""Modules with an `add(commands)`, in the order in which --help lists them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command named on the command line; its exit status."""
    restrict_umask()
    trades = False
    try:
        options = _parser().parse_args(argv)
        trades = options.command is daemon.trade
        return int(options.command(options))
    except MiaError as error:
        usage = isinstance(error, UsageError)
        return _fail(error, error.exit_status if trades or usage else ExitStatus.FAILED)
    except KeyboardInterrupt:
        return 130  # as a shell says of a command that SIGINT ended
    except BrokenPipeError:
        # Whoever read our output went away (| head): nothing is left to say, and nothing went wrong.
        sys.stderr.close()
        return 0


def _fail(error: MiaError, status: int) -> int:
    report_on_stderr("", printable(str(error)))
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as all of the daemon does, instead of behind its whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` lists what there is")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what is unknown here and now: the parser of a command knows better than the whole where to look."""
        words = sys.argv[1:] if args is None else list(args)
        if misspelt := self._misspelt(words):
            self.error(f"there is no option {misspelt}{self._meant(misspelt)}")
        namespace, unknown = super().parse_known_args(words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def _misspelt(self, words: list[str]) -> str:
        """The first unknown option before any other word: else its value would be taken for a command."""
        ahead = iter(words)
        for word in ahead:
            name, equals, _ = word.partition("=")
            if not name.startswith("--") or name == "--":
                return ""
            if not any(known.startswith(name) for known in self._option_string_actions):
                return name
            action = self._option_string_actions.get(name)
            if action is not None and action.nargs is None and not equals:
                next(ahead, None)
        return ""

    def _meant(self, option: str) -> str:
        close = difflib.get_close_matches(option, self._option_string_actions, 1, cutoff=0.75)
        return f": did you mean {close[0]}?" if close else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mia-daemon",
        description="Trades index futures with Sierra Chart; --mode paper is the dry run.",
        epilog="exit status: 0 done, 1 the surroundings failed, 2 wrong use; of a daemon: the table in docs/risk.md",
    )
    parser.add_argument("--version", action="version", version=f"mia-daemon {__version__}")
    daemon.add_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser


# A reader that closes our pipe early (| head) must not leave a traceback, nor end a daemon that still trades: the
# signal stays ignored, as Python sets it, and `main` ends short commands quietly.
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
