"""`mia-daemon reconcile-statement`: the journal against an export of Sierra Chart's Trade Activity Log."""

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from mia_daemon.cli.options import add_common, load_settings, positive, var_paths
from mia_daemon.config import Mode
from mia_daemon.printable import printable
from mia_daemon.products.product import known_time_zone


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "reconcile-statement",
        help="fills and profit against Sierra Chart's Trade Activity Log; exit status 1 when they differ",
    )
    parser.add_argument("statement", type=Path, metavar="FILE", help="the exported log (docs/statement.md)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--mode", choices=(Mode.PAPER.value, Mode.LIVE.value), default=argparse.SUPPRESS, help="default: live"
    )
    which.add_argument("--journal", type=Path, metavar="FILE", help="this journal, wherever it is")
    parser.add_argument(
        "--day", type=_day, metavar="DATE", help="this trade date only (default: the days the log reaches over)"
    )
    parser.add_argument(
        "--time-zone",
        type=_time_zone,
        metavar="NAME",
        help="of the log's times (default: broker.statement_time_zone)",
    )
    parser.add_argument(
        "--price-multiplier",
        type=positive,
        metavar="X",
        help="of the log's prices, where Sierra Chart writes 600025 for 6000.25 (default: found by itself)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_common(parser)
    parser.set_defaults(command=_reconcile)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date: write 2026-12-01") from None


def _time_zone(text: str) -> str:
    try:
        return known_time_zone(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reconcile(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    from mia_daemon.brokers.server_scope import ServerScope
    from mia_daemon.journal.view import JournalView
    from mia_daemon.products.instruments import instrument
    from mia_daemon.statement import text
    from mia_daemon.statement.activity_log import read_statement
    from mia_daemon.statement.comparison import compare
    from mia_daemon.statement.scope import StatementScope

    zone = options.time_zone or settings.broker.statement_time_zone
    statement = read_statement(options.statement, zone)
    products = settings.products
    server = ServerScope.of(settings, instrument(settings.instrument.symbol, products))
    path = options.journal or var_paths(options).journal(Mode(options.mode or Mode.LIVE))
    with JournalView(path) as view:
        comparison = compare(
            view, statement, StatementScope(server, products, options.price_multiplier), zone, options.day
        )
    if options.json:
        where = {"statement": str(options.statement), "journal": str(path), "time_zone": zone}
        print(json.dumps(where | text.facts(comparison), indent=1))
    else:
        for line in text.lines(comparison):
            print(printable(line))
    return 0 if comparison.equal else 1
