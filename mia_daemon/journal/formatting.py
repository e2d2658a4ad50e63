"""Formats the facts of `report`, `order_history`, `explanation` and `verify` as text."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from mia_daemon.journal.report import TRADE_COLUMNS
from mia_daemon.products.ticks import price_text

RUNS_SHOWN: Final = 10
ORDERS_SHOWN: Final = 20
VIOLATIONS_SHOWN: Final = 20

_Facts = Mapping[str, Any]


def summary_lines(facts: _Facts) -> Iterator[str]:
    """Of `report.summary`."""
    yield f"journal {facts['journal']}, version {facts['version']}"
    runs = facts["runs"]
    yield f"runs      {len(runs)}" + (f", the last {RUNS_SHOWN}:" if len(runs) > RUNS_SHOWN else "")
    for run in runs[-RUNS_SHOWN:]:
        yield f"  {_run(run)}"
    yield "on file   " + ", ".join(f"{count:,} {name}" for name, count in facts["counts"].items())
    latches = [latch for latch in facts["latches"] if latch["cleared"] is None]
    yield f"latches   {'none set' if not latches else ''}".rstrip() + f" ({len(facts['latches'])} ever)"
    for latch in latches:
        yield f"  {latch['code']} since {_time(latch['set'])}{_context(latch['context'])}"
    for latch in facts["latches_pending"]:
        set_at = f"{latch['code']} since {_time(latch['set'])}{_context(latch['context'])}"
        yield f"  {set_at}: not in the journal, which could not be written; it will be with the next start"
    yield f"profit    {facts['profit']:+,.2f} after costs, by {facts['counts']['trades']:,} round trips"
    yield "position  " + (", ".join(map(_position, facts["positions"])) or "flat")
    orders = facts["open_orders"]
    yield f"orders    {len(orders) or 'none'} not known to be done"
    for order in orders[:ORDERS_SHOWN]:
        yield (
            f"  {order['order']}  {order['role']} {order['side']} {order['quantity']} @ {price_text(order['price'])}, "
            f"{order['booked']} filled, {order['status'] or 'never heard of'} since {_time(order['intended'])}"
        )
    if len(orders) > ORDERS_SHOWN:
        yield f"  and {len(orders) - ORDERS_SHOWN} more"
    if facts["equity"] is not None:
        yield f"equity    {_equity(facts['equity'])}"


def _run(run: _Facts) -> str:
    ended = f"{_time(run['ended'])}  {run['how']}" if run["ended"] else "not ended: it runs, or was killed"
    hashes = f"config {run['config_sha256'][:12]}, bundle {run['bundle']} {run['bundle_sha256'][:12]}"
    return f"{run['run']}  {run['mode']} {run['version']}, {hashes}  {_time(run['started'])} to {ended}"


def _position(position: _Facts) -> str:
    return f"{position['position']:+d} {position['symbol']} in {position['account']}"


def _equity(equity: _Facts) -> str:
    return (
        f"{equity['equity']:,.2f} (peak {equity['peak']:,.2f}), position {equity['position']:+d}, unrealised "
        f"{equity['unrealized']:+,.2f}, today {equity['realized_today']:+,.2f}, at {_time(equity['time'])}"
    )


def trade_lines(trades: Iterable[_Facts]) -> Iterator[str]:
    """A table of round trips with their sum."""
    times = f"{'entered':<24} {'left':<24}"
    yield f"{'trade':<22} {times} {'side':<4} {'n':>3} {'entry':>10} {'exit':>10} {'profit':>11}  why"
    count, profit = 0, 0.0
    for trade in trades:
        count += 1
        profit += trade["profit"]
        yield (
            f"{trade['trade_id']:<22} {_time(trade['entry_time'])} {_time(trade['exit_time'])} {trade['side']:<4} "
            f"{trade['quantity']:>3} {price_text(trade['entry_price']):>10} {price_text(trade['exit_price']):>10} "
            f"{trade['profit']:>+11.2f}  {trade['exit_reason']}"
        )
    yield f"{count:,} round trips, profit {profit:+,.2f} after costs"


def trade_table(trades: Iterable[_Facts]) -> Iterator[str]:
    """The same as CSV, with all columns."""
    yield ",".join(TRADE_COLUMNS)
    for trade in trades:
        buffer = io.StringIO()
        row = (json.dumps(value) if isinstance(value, Mapping) else value for value in map(trade.get, TRADE_COLUMNS))
        csv.writer(buffer, lineterminator="").writerow(row)
        yield buffer.getvalue()


def order_lines(orders: Iterable[_Facts]) -> Iterator[str]:
    """Each order and, below it, its events."""
    count = 0
    for order in orders:
        count += 1
        yield from _order(order)
    yield f"{count:,} orders"


def _order(order: _Facts, indent: str = "") -> Iterator[str]:
    behind = order["decision_id"] or "no decision of ours"
    price = f" @ {price_text(order['price'])}" if order["price"] else ""
    yield (
        f"{indent}{order['order']}  {order['role']} {order['side']} {order['quantity']} {order['type']}{price} "
        f"{order['time_in_force']}, {order['symbol']} in {order['account']}, by {behind}"
    )
    for event in order["events"]:
        facts = {key: value for key, value in event.items() if key not in {"time", "event"}}
        yield f"{indent}  {_time(event['time'])}  {event['event']:<17}{_context(facts)}".rstrip()


def explanation_lines(facts: _Facts) -> Iterator[str]:
    """Of `explanation.explanation`, in the order in which things happened."""
    trade = facts["trade"]
    yield f"round trip {trade['trade_id']}: {_in_short(trade)}"
    yield ""
    yield "decision"
    yield from _decision(facts["decision"])
    if facts["features"]:
        yield "  features " + ", ".join(f"{name} {value:.4g}" for name, value in facts["features"].items())
    if facts["features_pruned"]:
        yield "  features pruned, as they were older than retention.features_days"
    yield "orders"
    for order in facts["orders"]:
        yield from _order(order, "  ")
    yield "fills"
    for fill in facts["fills"]:
        yield (
            f"  {_time(fill['time'])}  {fill['side']} {fill['quantity']} @ {price_text(fill['price'])} by "
            f"{fill['order'] or 'nobody we know'}, execution {fill['execution']}, position {fill['position']:+d}"
        )
    if facts["exit_decision"] is not None:
        yield "decision to exit"
        yield from _decision(facts["exit_decision"])
    yield "equity"
    for when, equity in facts["equity"].items():
        yield f"  {when:<6} {'not on file' if equity is None else _equity(equity)}"
    for alert in facts["alerts"]:
        yield f"alert     {_time(alert['time'])}  {alert['code']}: {alert['text']}"
    for command in facts["commands"]:
        yield f"command   {_time(command['event_time'])}  {command['command']} by {command['by']}: {command['result']}"
    for run in facts["runs"]:
        yield f"run       {_run(run)}"


def _in_short(trade: _Facts) -> str:
    way = "long" if trade["side"] == "buy" else "short"
    if trade["exit_time"] is None:
        return f"{way} {trade['quantity']} {trade['symbol']} since {_time(trade['entry_time'])}, still open"
    entry, left = price_text(trade["entry_price"]), price_text(trade["exit_price"])
    return (
        f"{way} {trade['quantity']} {trade['symbol']}, {entry} to {left}, "
        f"profit {trade['profit']:+,.2f} ({trade['gross']:+,.2f} less {trade['costs']:,.2f} costs), "
        f"closed by {trade['exit_reason']}"
    )


def _decision(decision: _Facts | None) -> Iterator[str]:
    if decision is None:
        yield "  not on file"
        return
    yield (
        f"  {_time(decision['time'])}  {decision['decision_id']}: {decision['action']} to {decision['target']:+d}, "
        f"reason {decision['reason']},{_context(decision['context'])}"
    )
    regimes = decision["regime_probs"] or {}
    yield (
        f"  policy {decision['policy']}: action {_number(decision['signal'])}, probability "
        f"{_number(decision['probability'])}, regime {decision['regime'] or 'not known'}"
        + "".join(f", {name} {value:.3f}" for name, value in regimes.items())
    )
    yield (
        f"  touch {_number(decision['bid'], 2)}/{_number(decision['ask'], 2)}, observation "
        f"{decision['observation_sha256']}, {_number(decision['out_of_range_share'])} of it out of range"
    )
    yield (
        f"  risk {decision['verdict'] or 'was not asked'}{_context(decision['verdict_context'])}, overtrading score "
        f"{_number(decision['overtrade_risk_score'], 2)}"
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"


def finding_lines(checks: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Of `verify.verify`: each check and its violations."""
    for name, violations in checks.items():
        yield f"{name:<40} {'ok' if not violations else f'{len(violations)} wrong'}"
        for violation in violations[:VIOLATIONS_SHOWN]:
            yield f"  {violation}"
        if len(violations) > VIOLATIONS_SHOWN:
            yield f"  and {len(violations) - VIOLATIONS_SHOWN} more: --json has all"


def _time(iso: str | None) -> str:
    """To the millisecond; padded if it was not known."""
    return "-".ljust(24) if iso is None else f"{iso[:-4]}Z"


def _context(context: Mapping[str, Any]) -> str:
    return "".join(f" {key}={value}" for key, value in context.items())
