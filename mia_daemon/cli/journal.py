"""`mia-daemon journal show | trades | statistics | orders | explain | verify | export`: what is recorded, read-only."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import add_common, say, time_ns, var_paths
from mia_daemon.config import Mode
from mia_daemon.printable import printable

if TYPE_CHECKING:
    from mia_daemon.journal.view import JournalView


def add(commands: Any) -> None:
    parser = commands.add_parser("journal", help="what was decided, ordered, filled and earned, and whether it adds up")
    words = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)

    show = _word(words, "show", _show, "runs, latches, how much of everything, and how it stands")
    show.add_argument("--json", action="store_true")

    trades = _word(words, "trades", _trades, "round trips, with their profit")
    _add_filters(trades, "ended")
    form = trades.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true")
    form.add_argument("--csv", action="store_true", help="all columns")

    statistics = _word(words, "statistics", _statistics, "what the round trips earned, by day or otherwise")
    _add_filters(statistics, "ended")
    by = ("day", "regime", "exit_reason", "side", "run")
    statistics.add_argument("--by", choices=by, default="day", help="what a row is (default: day, the UTC date)")
    statistics.add_argument("--csv", action="store_true")

    orders = _word(words, "orders", _orders, "orders, with all that became of each")
    _add_filters(orders, "were intended")
    orders.add_argument("--json", action="store_true")

    explain = _word(words, "explain", _explain, "one round trip: why, by which orders, with what result")
    explain.add_argument("name", metavar="NAME", help="of the round trip, or of one of its orders")
    explain.add_argument("--json", action="store_true", help="with the whole configuration of its runs")

    verify = _word(words, "verify", _verify, "does it hold together? exit status 1 when it does not")
    verify.add_argument("--json", action="store_true")

    export = _word(words, "export", _export, "write the CSV and JSON files anew")
    export.add_argument("directory", type=Path, metavar="DIR", help="new or empty")


def _word(words: Any, name: str, command: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = words.add_parser(name, help=about)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--mode",
        choices=[mode.value for mode in Mode],
        default=argparse.SUPPRESS,
        help="whose journal below --var (default: paper; a replay's --var is var/replay)",
    )
    which.add_argument("--file", type=Path, help="this journal, wherever it is")
    add_common(parser)
    parser.set_defaults(command=command)
    return parser


def _add_filters(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--since", type=time_ns, default=0, metavar="TIME", help=f"that {what} then or later, UTC")
    parser.add_argument("--run", metavar="RUN", help="of this run only; `show` lists them")


def journal_path(options: argparse.Namespace) -> Path:
    """Of the journal the options name."""
    if options.file is not None:
        return Path(options.file)
    mode = Mode(options.mode or Mode.PAPER)
    return var_paths(options, "var/replay" if mode is Mode.REPLAY else "var").journal(mode)


def _view(options: argparse.Namespace) -> "JournalView":
    from mia_daemon.journal.view import JournalView

    view = JournalView(journal_path(options))
    if view.warning:
        say(f"mia-daemon: {view.warning}")
    return view


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))  # of an older journal too, whose texts nothing has cleaned


def _print_json(facts: object) -> None:
    print(json.dumps(facts, indent=1))


def _show(options: argparse.Namespace) -> int:
    from mia_daemon.journal import formatting, report

    with _view(options) as view:
        facts = report.summary(view)
    if options.json:
        _print_json(facts)
    else:
        _print(formatting.summary_lines(facts))
    return 0


def _trades(options: argparse.Namespace) -> int:
    from mia_daemon.journal import formatting, report

    with _view(options) as view:
        report.check_run(view, options.run)
        trades = report.round_trips(view, options.since, options.run)
        if options.json:
            _print_json(list(trades))
        else:
            _print(formatting.trade_table(trades) if options.csv else formatting.trade_lines(trades))
    return 0


def _statistics(options: argparse.Namespace) -> int:
    from mia_daemon.journal import report
    from mia_daemon.journal.statistics import statistics
    from mia_daemon.journal.view import JournalView

    with JournalView(journal_path(options)) as view:
        report.check_run(view, options.run)
        table = statistics(report.round_trips(view, options.since, options.run), options.by)
    _print((table.to_csv(lineterminator="\n") if options.csv else table.round(2).to_string(na_rep="-")).splitlines())
    return 0


def _orders(options: argparse.Namespace) -> int:
    from mia_daemon.journal import formatting, order_history, report

    with _view(options) as view:
        report.check_run(view, options.run)
        orders = order_history.orders(view, options.since, options.run)
        if options.json:
            _print_json(list(orders))
        else:
            _print(formatting.order_lines(orders))
    return 0


def _explain(options: argparse.Namespace) -> int:
    from mia_daemon.journal import formatting
    from mia_daemon.journal.explanation import explanation

    with _view(options) as view:
        facts = explanation(view, options.name)
    if options.json:
        _print_json(facts)
    else:
        _print(formatting.explanation_lines(facts))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mia_daemon.execution import order_path
    from mia_daemon.journal import formatting
    from mia_daemon.journal.verify import verify

    with _view(options) as view:
        findings = verify(view, order_path.findings)
    if options.json:
        _print_json({"sound": findings.sound, "checks": findings.checks})
    else:
        _print(formatting.finding_lines(findings.checks))
    return 0 if findings.sound else 1


def _export(options: argparse.Namespace) -> int:
    from mia_daemon.journal.export import export

    with _view(options) as view:
        files = export(view, options.directory)
    _print(f"{count:>8,}  {options.directory / name}" for name, count in files.items())
    return 0
