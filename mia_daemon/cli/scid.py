"""`mia-daemon scid info | head | to-parquet | from-parquet`: Sierra Chart's `.scid` and `.depth` files, for people."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import duration_s, load_settings

if TYPE_CHECKING:
    from mia_daemon.feed.sierra_files import Records
    from mia_daemon.products.instruments import Instrument
    from mia_daemon.products.product_table import Products

_PRICES = {"price", "bid", "ask"}
_LEAD = 4096  # records before those shown that are looked at for the first part of a bundled trade


def add(commands: Any) -> None:
    parser = commands.add_parser("scid", help="look into .scid and .depth files, and turn them into Parquet and back")
    words = parser.add_subparsers(title="what to do", metavar="WORD", required=True)
    _add_info(words)
    _add_head(words)
    for word, command in (("to-parquet", _to_parquet), ("from-parquet", _from_parquet)):
        convert = words.add_parser(word, help="every value to the bit (docs/parquet.md); needs mia-daemon[parquet]")
        convert.add_argument("file", type=Path)
        convert.add_argument("--out", type=Path, metavar="FILE", help="default: beside it, of the same name")
        convert.add_argument("--replace", action="store_true", help="overwrite what is there")
        convert.set_defaults(command=command)


def _add_info(words: Any) -> None:
    info = words.add_parser("info", help="symbol, records, times, prices, bundled trades, silences")
    info.add_argument("file", type=Path)
    info.add_argument("--silence", type=duration_s, default=300.0, metavar="TIME", help="worth telling (default: 5m)")
    _add_config(info)
    info.add_argument("--json", action="store_true", help="one JSON object")
    info.set_defaults(command=_info)


def _add_head(words: Any) -> None:
    head = words.add_parser("head", help="the first records, or the last")
    head.add_argument("file", type=Path)
    head.add_argument("-n", type=_count, default=10, metavar="N", help="how many; -N: the last ones (default: 10)")
    _add_config(head)
    head.add_argument("--json", action="store_true", help="one JSON object a line")
    head.set_defaults(command=_head)


def _add_config(parser: Any) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="with a [product] of yours")


def _products(options: argparse.Namespace) -> "Products | None":
    """Those of the configuration that is named; None: those that ship with the daemon."""
    return None if options.config is None else load_settings(options).products


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records") from None


def _info(options: argparse.Namespace) -> int:
    from mia_daemon.clock import WallClock
    from mia_daemon.feed.file_report import report_on

    report = report_on(options.file, options.silence, WallClock().now_ns(), _products(options))
    print(json.dumps(report.as_dict()) if options.json else report)
    return 0


def _head(options: argparse.Namespace) -> int:
    from mia_daemon.feed.file_report import contract_of_file, symbol_of
    from mia_daemon.feed.sierra_files import DEPTH, SCID, map_records

    fmt, records, _ = map_records(options.file, SCID, DEPTH)
    traded = contract_of_file(symbol_of(options.file), _products(options))
    start, stop, _ = slice(min(0, options.n), None if options.n < 0 else options.n).indices(len(records))
    rows = _trades(records, start, stop) if fmt is SCID else _depth(records[start:stop])
    shown = _shown(rows, traded, texts=not options.json)
    if options.json:
        for row in shown:
            print(json.dumps({name: _finite(value) for name, value in row.items()}))
    elif shown:
        _print_table(shown)
    return 0


def _shown(rows: list[dict[str, Any]], traded: "Instrument | None", *, texts: bool) -> list[dict[str, Any]]:
    """Rows with their float32 prices as numbers on the tick, or as people write them."""
    import numpy as np

    from mia_daemon.feed.file_report import shown_prices

    for name in _PRICES & set(rows[0] if rows else ()):
        values = shown_prices(np.array([row[name] for row in rows], "<f4"), traded)[texts]
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def _trades(records: "Records", start: int, stop: int) -> list[dict[str, Any]]:
    from mia_daemon.feed.file_report import time_text, trade_kinds

    lead = min(start, _LEAD)
    kinds = trade_kinds(records[start - lead : stop])[lead:]
    return [
        {
            "time": time_text(record["time"]),
            "price": record["close"],
            "bid": record["low"],
            "ask": record["high"],
            "volume": int(record["total_volume"]),
            "bid_volume": int(record["bid_volume"]),
            "ask_volume": int(record["ask_volume"]),
            "trades": int(record["num_trades"]),
            "part": str(kind),
        }
        for record, kind in zip(records[start:stop], kinds, strict=True)
    ]


def _depth(records: "Records") -> list[dict[str, Any]]:
    from mia_daemon.feed.file_report import time_text

    names = ("", "clear", "add bid", "add ask", "modify bid", "modify ask", "delete bid", "delete ask")
    return [
        {
            "time": time_text(record["time"]),
            "command": names[record["command"]] if 0 < record["command"] < len(names) else str(record["command"]),
            "price": record["price"],
            "quantity": int(record["quantity"]),
            "orders": int(record["num_orders"]),
            "batch_end": bool(record["flags"] & 1),
        }
        for record in records
    ]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(rows: list[dict[str, Any]]) -> None:
    cells = [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(list(rows[0]), *cells, strict=True)]
    for line in [list(rows[0]), *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return str(value)


def _to_parquet(options: argparse.Namespace) -> int:
    from mia_daemon.feed.parquet import to_parquet

    target = options.out or options.file.with_suffix(".parquet")
    print(f"{to_parquet(options.file, target, replace=options.replace):,} records in {target}")
    return 0


def _from_parquet(options: argparse.Namespace) -> int:
    from mia_daemon.feed.parquet import format_of, from_parquet

    target = options.out or options.file.with_suffix(format_of(options.file).name)
    print(f"{from_parquet(options.file, target, replace=options.replace):,} records in {target}")
    return 0
