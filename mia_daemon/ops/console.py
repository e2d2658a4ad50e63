"""What a person at the terminal sees: a line for whatever changes something, and a status line.

A terminal that is held (Ctrl-S), or a pipe nobody reads, must not hold up trading: a line that would have to wait is
left out and counted, and the count is told with the next line that gets through.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TextIO

from mia_daemon.clock import NS_PER_S
from mia_daemon.ops.unblocked_stream import UnblockedStream
from mia_daemon.printable import printable
from mia_daemon.products.ticks import price_text
from mia_daemon.records import Action, Alert, Decision, Fill, Order, Priority, RegimeProbs, Side, Trade

_PLAIN_STATUS_EVERY_S: Final = 10.0
_CLEAR_LINE: Final = "\r\x1b[2K"
_MAX_LINE: Final = 2048  # a pipe that polls as writable takes 4096 bytes without waiting
_COLOURS: Final = {"red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m", "dim": "\x1b[2m"}
_RESET: Final = "\x1b[0m"
_ALERT_COLOUR: Final = {
    Priority.WARNING: "yellow",
    Priority.ERROR: "red",
    Priority.CRITICAL: "red",
    Priority.URGENT: "red",
}


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What the status line shows; None where it is not known yet."""

    state: str  # "active", "warming up", "halted: killed" ...
    ts_ns: int  # exchange time; 0 before the first event
    symbol: str
    price: float | None
    position: int
    profit: float  # realised and unrealised since the day began, after costs
    regime_probs: RegimeProbs | None
    decisions_per_s: float
    tick_to_order_s: float | None  # median of the last interval that had one


class Console:
    """Writes for people to one stream.

    Args:
        stream: with a file descriptor, usually standard output. On a terminal the status line is redrawn in place;
            elsewhere it becomes a plain line every ten seconds.
        quiet: only alerts of priority 3 and above are shown, and what is to be said always.
        environ: `NO_COLOR` (no-color.org) is honoured.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False, environ: Mapping[str, str] = os.environ) -> None:
        self.lost = 0
        self._fd = stream.fileno()
        self._is_terminal = stream.isatty()
        self._quiet = quiet
        self._colours = self._is_terminal and not environ.get("NO_COLOR")
        self._status = ""  # as drawn now
        self._status_due_s = 0.0
        self._stream = UnblockedStream(self._fd)

    # ------------------------------------------------------------------------------------------- what changed

    def decision(self, decision: Decision) -> None:
        """A decision; one that holds, with nothing to say, is left out."""
        if decision.action is Action.HOLD:
            return
        facts = " ".join(f"{key}={_fact(value)}" for key, value in decision.context.items())
        prediction = decision.prediction
        self._line(
            decision.ts_ns,
            f"decide {decision.action.value:<4} target {decision.target:+d}  {decision.reason}  "
            f"{price_text(decision.bid)}/{price_text(decision.ask)}  action {prediction.action:+.2f} "
            f"p {prediction.probability:.2f} {_regime(prediction.regime_probs)}" + (f"  {facts}" if facts else ""),
        )

    def order(self, ts_ns: int, order: Order, what: str) -> None:
        """Something happened to an order: "sent", "working", "canceled", "rejected: <text>" ..."""
        price = f" @ {price_text(order.price)}" if order.price else ""
        kind = order.type.name.lower()
        self._line(
            ts_ns,
            f"order  {order.role.value:<6} {order.side.name.lower():<4} {order.quantity} {kind}{price}"
            f"  {what}  {order.client_order_id}",
            "red" if what.startswith("reject") else "dim",
        )

    def fill(self, fill: Fill) -> None:
        self._line(
            fill.ts_ns,
            f"fill   {fill.side.name.lower():<4} {fill.quantity} @ {price_text(fill.price)}  {fill.client_order_id}",
        )

    def trade(self, trade: Trade) -> None:
        """A closed round trip."""
        held = "long" if trade.side is Side.BUY else "short"
        self._line(
            trade.exit_ns,
            f"trade  {held} {trade.quantity}  {price_text(trade.entry_price)} → {price_text(trade.exit_price)}  "
            f"{trade.profit:+.2f} after {trade.costs:.2f} costs  {_duration(trade.exit_ns - trade.entry_ns)}  "
            f"{trade.exit_reason}",
            "green" if trade.profit > 0 else "red",
        )

    def alert(self, alert: Alert) -> None:
        """An alert; also shown when quiet, from ERROR on."""
        repeats = alert.context.get("repeats")
        self._line(
            alert.ts_ns,
            f"alert  {alert.priority.name.lower()}: {alert.text}" + (f" ({repeats} more times)" if repeats else ""),
            _ALERT_COLOUR.get(alert.priority, ""),
            always=alert.priority >= Priority.ERROR,
        )

    def say(self, text: str, *, always: bool = False) -> None:
        """A line without a time: the start, the kernels' compilation; also when quiet: the summary."""
        if always or not self._quiet:
            self._write(text)

    # ------------------------------------------------------------------------------------------- the status line

    def status(self, status: StatusLine, elapsed_s: float) -> None:
        """Show the status; to be called once a second. `elapsed_s` is the monotonic clock, any origin."""
        if self._quiet:
            return
        if self._is_terminal:
            text = printable(_fitting(_status_parts(status), self._width()))
            if self._stream.write(_CLEAR_LINE + self._paint(text, "dim")):
                self._status = text
        elif elapsed_s >= self._status_due_s:
            self._status_due_s = elapsed_s + _PLAIN_STATUS_EVERY_S
            self._write("  ".join(_status_parts(status)))

    def _width(self) -> int:
        """Columns that a line may have: one as wide as the terminal would wrap and could not be redrawn."""
        try:
            width = os.get_terminal_size(self._fd).columns
        except OSError:
            width = 0
        return (width or 80) - 1

    def close(self) -> None:
        """Leave the last status line standing, with its newline."""
        if self._status:
            self._stream.write("\n")
            self._status = ""

    # ------------------------------------------------------------------------------------------- writing

    def _line(self, ts_ns: int, text: str, colour: str = "", *, always: bool = False) -> None:
        if always or not self._quiet:
            self._write(f"{_time(ts_ns)}  {text}", colour)

    def _write(self, text: str, colour: str = "") -> None:
        clear, status = (_CLEAR_LINE, self._paint(self._status, "dim")) if self._status else ("", "")
        missed = f"({self.lost} lines left out while nobody read)\n" if self.lost else ""
        line = self._paint(printable(text)[:_MAX_LINE], colour)
        if self._stream.write(f"{clear}{missed}{line}\n{status}"):
            self.lost = 0
        elif self._stream.open:
            self.lost += 1

    def _paint(self, text: str, colour: str) -> str:
        return f"{_COLOURS[colour]}{text}{_RESET}" if colour and self._colours else text


def _status_parts(status: StatusLine) -> list[str]:
    """The parts of the line, the most important first."""
    price = "-" if status.price is None else f"{price_text(status.price)}"
    latency = "-" if status.tick_to_order_s is None else f"{status.tick_to_order_s * 1e6:.0f} µs"
    return [
        status.state,
        _time(status.ts_ns),
        f"{status.symbol} {price}",
        f"position {status.position:+d}",
        f"profit {status.profit:+.2f}",
        "regime -" if status.regime_probs is None else _regime(status.regime_probs),
        f"{status.decisions_per_s:.1f} decisions/s",
        f"tick-to-order {latency}",
    ]


def _fitting(parts: list[str], width: int) -> str:
    """As many whole parts as fit, from the first; a first one that does not is cut at a word."""
    text = parts[0]
    if len(text) > width:
        return f"{text[: width - 4].rpartition(' ')[0]} ..."
    for part in parts[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text += f"  {part}"
    return text


def _regime(probs: RegimeProbs) -> str:
    likely = probs.most_likely()
    return f"{likely.value} {max(probs):.0%}"


def _time(ts_ns: int) -> str:
    """Exchange time of day, UTC as in every file; 0 stands for a time not known yet."""
    return "--:--:--Z" if not ts_ns else f"{datetime.fromtimestamp(ts_ns // NS_PER_S, UTC):%H:%M:%S}Z"


def _duration(ns: int) -> str:
    minutes, seconds = divmod(round(ns / NS_PER_S), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _fact(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
