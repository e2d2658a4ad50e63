"""`mia-daemon features`: the catalogue, and whether the features keep their promises on anybody's own data."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mia_daemon.cli.options import CONFIG_PLACES, add_common, load_settings, say, symbol, use_kernel_cache, var_paths
from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue
from mia_daemon.features.catalogue import FEATURES, Feature, inputs_text

if TYPE_CHECKING:
    from mia_daemon.config import Settings
    from mia_daemon.features.verification import Report
    from mia_daemon.products.instruments import Instrument
    from mia_daemon.products.price_scale import PriceScale

VERIFY = "verify"
_LAST_EVENTS = 500_000


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "features",
        help="the 350 features; `features verify FILE` looks whether they keep their promises on your data",
        usage="mia-daemon features [--json | --csv] [NAME]\n"
        "       mia-daemon features verify FILE [--all] [--json] [--depth FILE] [--reference FILE]\n"
        "                                  [--symbol S] [--events N]",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="one feature in detail; `verify` to verify")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="verify: a .scid file or a recording")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--csv", action="store_true", help="the catalogue as CSV")
    parser.add_argument("--all", action="store_true", help="verify: a row a feature, not a row a family")
    parser.add_argument("--depth", type=Path, metavar="FILE", help="verify: the .depth file of the same symbol and day")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="verify: the .scid file of the reference symbol")
    parser.add_argument("--symbol", type=symbol, help="verify: contract, when the file's name does not say it")
    parser.add_argument(
        "--events", type=int, default=_LAST_EVENTS, metavar="N", help=f"verify: the last N (default {_LAST_EVENTS:,})"
    )
    add_common(parser)
    parser.set_defaults(command=_features)


def _features(options: argparse.Namespace) -> int:
    if options.name == VERIFY:
        return _verify(options)
    if options.file is not None:
        raise UsageError(f"one feature at a time, or `features verify {options.file}`")
    chosen = FEATURES if options.name is None else (FEATURES[catalogue.index(options.name)],)
    if options.json:
        rows = [_row(feature) for feature in chosen]
        print(json.dumps(rows if options.name is None else rows[0], indent=1, allow_nan=False))
    elif options.csv:
        writer = csv.DictWriter(sys.stdout, list(_row(FEATURES[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(feature) for feature in chosen)
    elif options.name is None:
        _table(("#", "name", "family", "unit", "range", "horizon", "inputs", "formula"), map(_short, chosen))
    else:
        _table(("", ""), ((key, _text(value)) for key, value in _row(chosen[0]).items()))
    return 0


def _row(feature: Feature) -> dict[str, Any]:
    """A row of the catalogue for JSON and CSV; an infinite end of the range is null, or empty."""
    return {
        "index": feature.index,
        "name": feature.name,
        "family": feature.family,
        "unit": feature.unit,
        "low": feature.low if math.isfinite(feature.low) else None,
        "high": feature.high if math.isfinite(feature.high) else None,
        "inputs": inputs_text(feature.inputs),
        "horizon": feature.horizon,
        "warmup_s": feature.warmup_s,
        "warmup_days": feature.warmup_days,
        "neutral": feature.neutral,
        "formula": feature.formula,
        "source": feature.source,
    }


def _short(feature: Feature) -> tuple[str, ...]:
    ends = ("any" if math.isinf(end) else f"{end:g}" for end in (feature.low, feature.high))
    formula = feature.formula if len(feature.formula) <= 60 else feature.formula[:59] + "…"
    return (
        str(feature.index),
        feature.name,
        feature.family,
        feature.unit,
        " … ".join(ends),
        feature.horizon,
        inputs_text(feature.inputs),
        formula,
    )


def _text(value: Any) -> str:
    return "any" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    lines = [head, *rows] if any(head) else list(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


# -------------------------------------------------------------------------------------------------------------- verify


def _verify(options: argparse.Namespace) -> int:
    if options.file is None or options.csv:
        raise UsageError("features verify looks at a file: name a .scid file or a recording, with --json or without")
    if not options.file.exists():
        raise UsageError(f"{options.file} does not exist: name a .scid file or a recording")
    if options.events < 1:
        raise UsageError("--events takes a number above 0")
    settings = None
    if options.config is not None or any(place.is_file() for place in CONFIG_PLACES):
        settings = load_settings(options)
        use_kernel_cache(settings)
    report = _report(options, settings)
    if options.json:
        print(json.dumps(_as_dict(report), allow_nan=False))
    else:
        _print_report(report, every=options.all)
    return 0 if report.sound.all() else 1


def _report(options: argparse.Namespace, settings: "Settings | None") -> "Report":
    import numpy as np

    from mia_daemon.clock import NS_PER_S, EventClock
    from mia_daemon.daemon.replay import recorded_symbol
    from mia_daemon.features import cache
    from mia_daemon.features.verification import verify
    from mia_daemon.feed.replay_feed import ReplayFeed
    from mia_daemon.products.instruments import instrument
    from mia_daemon.products.trading_calendar import TradingCalendar

    clock = EventClock()
    products = None if settings is None else settings.products
    traded = instrument(options.symbol or recorded_symbol(options.file, products), products)
    scale, reference_scale = _scales(settings, traded, options.reference)
    feed = ReplayFeed(
        options.file,
        clock,
        depth_path=options.depth,
        reference_path=options.reference,
        scale=scale,
        reference_scale=reference_scale,
    )
    cache.prepare(say, lambda: clock.monotonic_ns() / NS_PER_S)
    kept, skipped = [], len(feed) - options.events
    for events in feed.batches():
        kept.append(events[max(skipped, 0) :])
        skipped -= len(events)
    if len(feed) > options.events:
        say(f"looking at the last {options.events:,} of {len(feed):,} events; --events takes more")
    calendar = TradingCalendar.load(cache_dir=var_paths(options).calendar_cache, hours=traded.product.hours)
    return verify(np.concatenate(kept), traded, calendar, say)


def _scales(
    settings: "Settings | None", traded: "Instrument", reference: Path | None
) -> "tuple[PriceScale, PriceScale]":
    """Of the prices in the files of both symbols, with a configuration or without."""
    from mia_daemon.daemon.price_files import reference_of_file
    from mia_daemon.products.price_scale import AS_STORED, PriceScale
    from mia_daemon.products.product_table import shipped

    scale = PriceScale.of(traded.product) if settings is None else settings.price_scale(traded.symbol)
    if reference is None:
        return scale, AS_STORED
    if settings is None:
        return scale, PriceScale.of(shipped().product_of(reference.stem))
    return scale, settings.reference_price_scale(reference_of_file(settings, reference))


def _as_dict(report: "Report") -> dict[str, Any]:
    return {
        "events": report.events,
        "moments": report.moments,
        "sound": int(report.sound.sum()),
        "absent_inputs": inputs_text(report.absent),
        "features": [
            {
                "name": feature.name,
                "sound": bool(report.sound[feature.index]),
                **{str(check): _verdict(report, check, feature) for check in report.failed},
                "apart": None if report.unchecked[feature.index] else round(float(report.apart[feature.index]), 6),
            }
            for feature in FEATURES
        ],
    }


def _verdict(report: "Report", check: Any, feature: Feature) -> str:
    """`ok`, `FAIL`, or `-` where the file is too short to tell."""
    if report.failed[check][feature.index]:
        return "FAIL"
    return "-" if check == "warm-up" and report.unchecked[feature.index] else "ok"


def _print_report(report: "Report", *, every: bool) -> None:
    checks = list(report.failed)
    head = ("family", "features", *checks, "apart once warm")
    if every:
        head = ("feature", "warm-up", *checks, "apart once warm")
        _table(head, (_feature_line(report, feature) for feature in FEATURES))
    else:
        _table(head, (_family_line(report, family) for family in catalogue.FAMILIES))
    print(
        f"\n{int(report.sound.sum())} of {len(FEATURES)} pass on {report.events:,} events, {report.moments:,} moments. "
        "Not looked at: whether a formula is right; the tests compute each feature a second way."
    )
    if report.absent:
        count = len(catalogue.neutral_without(report.absent))
        print(f"The file has no {inputs_text(report.absent)}: {count} features were looked at for staying neutral.")
    if report.unchecked.any():
        print(f"It is too short for the warm-up of {int(report.unchecked.sum())} features (-): take a longer one.")


def _feature_line(report: "Report", feature: Feature) -> tuple[str, ...]:
    days = f" + {feature.warmup_days} days" if feature.warmup_days else ""
    verdicts = (_verdict(report, check, feature) for check in report.failed)
    unknown = report.unchecked[feature.index]
    apart = "-" if unknown else f"{100 * report.apart[feature.index]:.2f} %"
    return feature.name, f"{feature.warmup_s} s{days}", *verdicts, apart


def _family_line(report: "Report", family: str) -> tuple[str, ...]:
    of = [feature for feature in FEATURES if feature.family == family]
    cells = []
    for check in report.failed:
        verdicts = [_verdict(report, check, feature) for feature in of]
        told = {word: verdicts.count(word) for word in ("FAIL", "-") if word in verdicts}
        cells.append(", ".join(f"{count} {word}" for word, count in told.items()) or "ok")
    known = [report.apart[feature.index] for feature in of if not report.unchecked[feature.index]]
    return family, str(len(of)), *cells, f"{100 * max(known):.2f} %" if known else "-"
